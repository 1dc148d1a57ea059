"""Scores laid out as Table 2 of Clissa et al., FNC v2: for the terminal, for a manuscript, for a spreadsheet."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fncells.evaluation.agreement import Agreement
from fncells.evaluation.comparing import Comparison, Difference, averaged
from fncells.evaluation.resampling import Interval
from fncells.evaluation.scores import Evaluation

__all__ = [
    "CONSENSUS_TITLES",
    "TITLES",
    "Row",
    "agreement_rows",
    "agreement_table",
    "comparison_rows",
    "comparison_table",
    "csv_rows",
    "difference_table",
    "latex_table",
    "markdown_table",
    "score_table",
]

COLUMNS = (
    *(("segmentation", score) for score in ("f1", "precision", "recall")),
    *(("detection", score) for score in ("f1", "precision", "recall")),
    *(("counting", score) for score in ("mae", "medae", "mpe")),
)
_HEADS = ("F1 seg", "P", "R", "F1 det", "P", "R", "MAE", "MedAE", "MPE")

TITLES: Mapping[tuple[str, str], str] = {
    ("segmentation", "f1"): "F1 of segmentation",
    ("segmentation", "average_precision"): "average precision, IoU 0.50 to 0.95",
    ("segmentation", "panoptic_quality"): "panoptic quality",
    ("segmentation", "dice"): "Dice of all cell pixels",
    ("detection", "f1"): "F1 of detection",
    ("counting", "mae"): "MAE of the counts",
    ("counting", "rmse"): "RMSE of the counts",
}
"""Scores by what people call them."""


CONSENSUS_TITLES: Mapping[str, str] = {
    "majority": "majority",
    "staple": "STAPLE",
    "given": "given consensus",
    "others": "majority of the others",
}
"""Kinds of consensus by what people call them."""


class Row(NamedTuple):
    """A line of Table 2: a name, the rule it was scored by, and scores with their intervals by task and name."""

    name: str
    rule: str
    pictures: int
    scores: Mapping[str, Mapping[str, float | None]]
    intervals: Mapping[str, Mapping[str, Interval]]

    @property
    def label(self) -> str:
        """The name, and the rule where it is not the usual one."""
        return f"{self.name} (published rule)" if self.rule == "published" else self.name


def comparison_rows(comparison: Comparison) -> list[Row]:
    """Give the lines of Table 2: every prediction by every rule, then people.

    Parameters
    ----------
    comparison
        What :func:`fncells.evaluation.compare` gives.
    """
    rows = [_row(name, one) for of_rule in comparison.by_rule.values() for name, one in of_rule.items()]
    people = comparison.people
    against, among = list(people.against_truth.values()), list(people.among_each_other.values())
    if against:
        rows.append(_mean_row(f"people against this truth, mean of {len(against)}", against))
    if among:
        rows.append(_mean_row(f"people against each other, mean of {_pairs(len(among))}", among))
    return rows


def agreement_rows(agreement: Agreement) -> list[Row]:
    """Give the lines of an agreement: pairs and their mean, then everyone against each kind of consensus.

    Parameters
    ----------
    agreement
        What :func:`fncells.evaluation.agree` gives.
    """
    rows = [_row(f"{first} – {second}", one) for (first, second), one in agreement.pairs.items()]
    rows.append(_mean_row(f"mean of {_pairs(len(agreement.pairs))}", list(agreement.pairs.values())))
    for kind, of_kind in agreement.consensus.items():
        title = CONSENSUS_TITLES[kind]
        rows += [_row(f"{title} – {name}", one) for name, one in of_kind.items()]
        rows.append(_mean_row(f"{title} – mean of {len(of_kind)}", list(of_kind.values())))
    return rows


def score_table(evaluations: Evaluation | Mapping[str, Evaluation]) -> str:
    """Lay scores out as Table 2 of Clissa et al., FNC v2, in Markdown.

    Parameters
    ----------
    evaluations
        One evaluation, or several by the name their row is to have.

    Returns
    -------
    str
        A heading and a row each: F1, precision and recall of segmentation and of detection, then MAE, MedAE and MPE; a dash
        where a score has no value.
    """
    named = {"all pictures": evaluations} if isinstance(evaluations, Evaluation) else evaluations
    return markdown_table([_row(name, one) for name, one in named.items()])


def markdown_table(rows: Iterable[Row]) -> str:
    """Lay lines out in Markdown."""
    lines = [f"| | {' | '.join(_HEADS)} |", "| --- |" + " --- |" * len(_HEADS)]
    lines += [f"| {_plain(row.label)} | {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def latex_table(rows: Iterable[Row]) -> str:
    """Lay lines out in LaTeX, as a ``tabular`` that needs the package booktabs."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{l" + "r" * len(_HEADS) + "}",
        "\\toprule",
        " & \\multicolumn{3}{c}{segmentation} & \\multicolumn{3}{c}{detection} & \\multicolumn{3}{c}{counting} \\\\",
        "\\cmidrule(lr){2-4} \\cmidrule(lr){5-7} \\cmidrule(lr){8-10}",
        " & $F_1$ & P & R & $F_1$ & P & R & MAE & MedAE & MPE \\\\",
        "\\midrule",
    ]
    lines += [f"{_escaped(row.label)} & {' & '.join(map(_escaped, _cells(row)))} \\\\" for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def csv_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Give lines for a spreadsheet: every score unrounded, with the ends of its interval; None where there is no value."""
    told = []
    for row in rows:
        line: dict[str, Any] = {"name": row.name, "rule": row.rule, "pictures": row.pictures}
        for task, names in row.scores.items():
            for name, score in names.items():
                low, high = row.intervals[task][name] or (None, None)
                line |= {f"{task}_{name}": score, f"{task}_{name}_low": low, f"{task}_{name}_high": high}
        told.append(line)
    return told


def difference_table(differences: Sequence[Difference]) -> str:
    """Lay out in Markdown how predictions differ, each difference with its interval and what it says."""
    lines = ["| | score | difference | interval | better |", "| --- | --- | --- | --- | --- |"]
    for one in differences:
        difference = "–" if one.difference is None else f"{one.difference:+.3f}"
        limits = f"{one.interval[0]:+.3f} to {one.interval[1]:+.3f}" if one.interval else "–"
        told = _plain(one.better) if one.better else "not told apart"
        who = f"{_plain(one.second)} − {_plain(one.first)}"
        lines.append(f"| {who} | {TITLES[one.task, one.score]} | {difference} | {limits} | {told} |")
    return "\n".join(lines) + "\n"


def comparison_table(comparison: Comparison) -> str:
    """Lay out in Markdown what predictions reach, and how they differ."""
    rows = [row for row in comparison_rows(comparison) if row.name not in comparison.evaluations]
    chosen = [
        _row(name if len(comparison.evaluations) > 1 else "all pictures", one)
        for name, one in comparison.evaluations.items()
    ]
    table = markdown_table([*chosen, *rows])
    return f"{table}\n{difference_table(comparison.differences)}" if comparison.differences else table


def agreement_table(agreement: Agreement) -> str:
    """Lay out in Markdown how people agree."""
    return markdown_table(agreement_rows(agreement))


def _row(name: str, evaluation: Evaluation) -> Row:
    return Row(name, evaluation.settings.rule, len(evaluation.per_picture), evaluation.scores, evaluation.intervals)


def _mean_row(name: str, evaluations: Sequence[Evaluation]) -> Row:
    means = averaged(evaluations)
    tasks = [task for task in means if task != "n"]
    scores = {task: {name: one for name, one in means[task].items() if name != "interval"} for task in tasks}
    pictures = max(len(one.per_picture) for one in evaluations)
    return Row(name, evaluations[0].settings.rule, pictures, scores, {task: means[task]["interval"] for task in tasks})


def _pairs(number: int) -> str:
    return "1 pair" if number == 1 else f"{number} pairs"


def _cells(row: Row) -> list[str]:
    return [_figure(row.scores[task][score], score) for task, score in COLUMNS]


def _figure(score: float | None, name: str) -> str:
    if score is None:
        return "–"
    return f"{100 * score:.0f} %" if name == "mpe" else f"{score:.2f}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    """Make text safe for LaTeX."""
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--", "−": "$-$"}
    special |= {one: f"\\{one}" for one in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)
