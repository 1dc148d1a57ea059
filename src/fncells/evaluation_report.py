"""What an evaluation or an agreement found, to look at and to publish: a page, Table 2, figures and pictures of the errors.

Written into one folder::

    report.html                         the page; it needs nothing outside itself but the overlays
    table2.md, table2.tex, table2.csv   the scores, for a text, a manuscript and a spreadsheet
    pictures.csv                        every picture, or how many cells everyone sees in it
    evaluation.json, agreement.json     all figures, as ``--json`` prints them
    *.svg, *.png                        the figures
    overlays/                           found, missed and wrong cells of the worst pictures
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import fncells
from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation.agreement import Agreement
from fncells.evaluation.annotations import Annotation, as_annotations, keyed, picture_key
from fncells.evaluation.comparing import Comparison, Difference, averaged
from fncells.evaluation.matching import match_centres, match_iou, one_size
from fncells.evaluation.published_rule import DIFFERENCES
from fncells.evaluation.scores import Evaluation, PictureScore
from fncells.evaluation.tables import (
    CONSENSUS_TITLES,
    TITLES,
    Row,
    agreement_rows,
    comparison_rows,
    csv_rows,
    difference_table,
    latex_table,
    markdown_table,
)
from fncells.figures import COLOURS, FAINT, INK, LINE, Drawing, drawn, figure_of
from fncells.images import read_picture
from fncells.overlay import FOUND, MISSED, WRONG, comparison
from fncells.pages import MOST_THUMBNAILS, THUMBNAIL_WIDTH, Shown, css, environment, jpeg_address

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Overlay",
    "agreement_report",
    "annotators_figure",
    "bland_altman_figure",
    "curve_figure",
    "difference_figure",
    "draw_worst",
    "evaluation_report",
    "pairs_figure",
]

_STYLES = ("-", "--", "-.", ":")
_MARKERS = "osD^vP"

_LEGEND = [("found", css(FOUND)), ("none there", css(WRONG)), ("missed", css(MISSED))]


class Overlay(NamedTuple):
    """The found, missed and wrong cells of a picture.

    Attributes
    ----------
    score
        What came of the picture.
    pixels
        What :func:`fncells.overlay.comparison` draws.
    thumbnail
        The same, drawn small, so that its lines stay as thick as they are.
    """

    score: PictureScore
    pixels: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]


def evaluation_report(out: Path, compared: Comparison, overlays: Mapping[str, Sequence[Overlay]] | None = None) -> Path:
    """Write what came of predictions into a folder.

    Parameters
    ----------
    out
        The folder.
    compared
        What :func:`fncells.evaluation.compare` gives; with both rules their figures stand side by side.
    overlays
        By prediction, what :func:`draw_worst` gives.

    Returns
    -------
    pathlib.Path
        The page.
    """
    rows = comparison_rows(compared)
    figures = _evaluation_figures(compared)
    _write_tables(out, rows, [*(one for group in figures.values() for one in group)])
    files.write_json(out / "evaluation.json", compared.as_dict())
    files.write_csv(out / "pictures.csv", _frame(_picture_rows(compared)))
    if compared.differences:
        files.write_text(out / "differences.md", difference_table(compared.differences))
        files.write_csv(out / "differences.csv", _frame(one.as_dict() for one in compared.differences))
    galleries = {name: _gallery(out, name, some, len(overlays or {}) > 1) for name, some in (overlays or {}).items()}
    first = next(iter(compared.evaluations.values()))
    text = (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            title="Evaluation",
            version=fncells.__version__,
            evaluations=compared.evaluations,
            first=first,
            rows=rows,
            published=_side_by_side(compared),
            differences=compared.differences,
            titles=TITLES,
            people=len(compared.people.against_truth),
            figures=figures,
            worst={name: sorted(one.per_picture, key=_badness) for name, one in compared.evaluations.items()},
            galleries=galleries,
            anchors={name: {one.name: one.anchor for one in shown} for name, shown in galleries.items()},
            legend=_LEGEND,
            settings=first.settings,
        )
    )
    files.write_text(out / "report.html", text)
    return out / "report.html"


def agreement_report(out: Path, agreement: Agreement) -> Path:
    """Write how well people agree into a folder.

    Parameters
    ----------
    out
        The folder.
    agreement
        What :func:`fncells.evaluation.agree` gives.

    Returns
    -------
    pathlib.Path
        The page.
    """
    rows = agreement_rows(agreement)
    figures = [pairs_figure(agreement), annotators_figure(agreement)]
    _write_tables(out, rows, figures)
    files.write_json(out / "agreement.json", agreement.as_dict())
    counts = [{"picture": picture, **cells} for picture, cells in agreement.counts.items()]
    files.write_csv(out / "pictures.csv", _frame(counts))
    text = (
        environment()
        .get_template("agreement.html.j2")
        .render(
            title="Agreement",
            version=fncells.__version__,
            agreement=agreement,
            told=agreement.as_dict(),
            rows=rows,
            kinds=[
                {"title": CONSENSUS_TITLES[kind], "each": each, "mean": averaged(list(each.values()))}
                for kind, each in agreement.consensus.items()
            ],
            counts=counts,
            columns=list(dict.fromkeys(name for row in counts for name in row if name != "picture")),
            figures=figures,
            settings=agreement.settings,
        )
    )
    files.write_text(out / "report.html", text)
    return out / "report.html"


def draw_worst(
    compared: Comparison,
    truth: Iterable[AnnotatedImage | Annotation],
    predictions: Mapping[str, Iterable[AnnotatedImage | Annotation]],
    pictures: Mapping[str, Path],
) -> dict[str, list[Overlay]]:
    """Draw the found, missed and wrong cells of the pictures with the most errors.

    Parameters
    ----------
    compared
        What came of them.
    truth, predictions
        The annotations that were compared.
    pictures
        The pictures by name; only the name without suffix counts. Where one is not among them its cells are drawn upon black.

    Returns
    -------
    dict
        By prediction, the worst first, sixty in all; pictures without any cell, and those that cannot be drawn, are left out.
    """
    true = keyed(as_annotations(truth), "true")
    by_key = {picture_key(name): path for name, path in pictures.items()}
    most = max(1, MOST_THUMBNAILS // len(compared.evaluations))
    return {
        name: _worst(
            one, true, keyed(as_annotations(predictions[name]), "predicted", one.settings.ending), by_key, most
        )
        for name, one in compared.evaluations.items()
    }


def _worst(
    evaluation: Evaluation,
    true: Mapping[str, Annotation],
    predicted: Mapping[str, Annotation],
    by_key: Mapping[str, Path],
    most: int,
) -> list[Overlay]:
    settings = evaluation.settings
    overlays: list[Overlay] = []
    for score in sorted(evaluation.per_picture, key=_badness):
        key = picture_key(score.picture)
        if len(overlays) == most or not score.n_true + score.n_predicted:
            continue
        try:
            overlays.append(_drawn_errors(score, true[key], predicted.get(key), by_key.get(key), settings.iou))
        except InputError:
            continue  # named among the failures, or a picture of another size than its cells
    return overlays


# -------------------------------------------------------------------------------------------------------------- figures


def curve_figure(evaluations: Mapping[str, Evaluation], people: Sequence[Evaluation] = ()) -> Drawing:
    """Draw F1 and the Jaccard index (average precision at a threshold) against the IoU threshold.

    Parameters
    ----------
    evaluations
        By name; one line each.
    people
        What people reach; their mean is drawn beside, where there are any.
    """
    with figure_of(7.2, 3.3) as figure:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, score, title in zip(
            panels, ("f1", "jaccard"), ("F1", "average precision TP / (TP + FP + FN)"), strict=True
        ):
            for place, (name, evaluation) in enumerate(evaluations.items()):
                thresholds, values = _curve(evaluation, score)
                style = {"linestyle": _STYLES[place % 4], "marker": _MARKERS[place % 6], "color": COLOURS[place % 6]}
                axes.plot(thresholds, values, markersize=3.5, linewidth=1.4, label=name, **style)
            if people:
                curves = [_curve(one, score) for one in people]
                mean = np.mean([values for _, values in curves], axis=0)
                axes.plot(
                    curves[0][0],
                    mean,
                    color=INK,
                    linewidth=1,
                    linestyle=(0, (1, 1)),
                    label=f"people, mean of {len(people)}",
                )
            axes.set(xlabel="least IoU of a pair", ylabel=title, ylim=(0, 1.02))
            axes.grid(color=LINE, linewidth=0.5)
        if len(evaluations) > 1 or people:
            panels[1].legend(frameon=False, fontsize=8)
        return drawn(figure, "curve", "F1 and average precision as the outline has to fit more exactly.")


def bland_altman_figure(evaluation: Evaluation, name: str = "bland_altman", of: str = "") -> Drawing:
    """Draw predicted against true numbers of cells, and their difference against their mean (Bland and Altman, 1986).

    Parameters
    ----------
    evaluation
        A dot for each of its pictures.
    name
        The file's name.
    of
        What the caption calls it.
    """
    counts = np.array([(score.n_true, score.n_predicted) for score in evaluation.per_picture], dtype=np.float64)
    true, predicted = counts.T
    with figure_of(7.2, 3.3) as figure:
        left, right = figure.subplots(1, 2)
        most = max(float(counts.max()), 1.0) * 1.05
        left.plot([0, most], [0, most], color=LINE, linewidth=1, zorder=0)
        _dots(left, true, predicted)
        left.set(xlim=(0, most), ylim=(0, most), xlabel="true cells", ylabel="predicted cells")
        left.set_aspect("equal", adjustable="box")
        difference = predicted - true
        _dots(right, (true + predicted) / 2, difference)
        right.axhline(0, color=LINE, linewidth=1, zorder=0)
        lines = [(float(difference.mean()), "-", "bias")]
        lines += [
            (limit, "--", word)
            for limit, word in zip(_limits(difference), ("lower limit", "upper limit"), strict=False)
        ]
        for height, style, word in lines:
            right.axhline(height, color=COLOURS[1], linewidth=0.9, linestyle=style)
            at = (1, height)
            told = f"{word} {height:+.1f}"
            right.annotate(told, at, (-2, 2), right.get_yaxis_transform(), "offset points", ha="right", fontsize=7.5)
        right.set(xlabel="mean of true and predicted", ylabel="predicted − true")
        span = 1.2 * max(1.0, *(abs(height) for height, _, _ in lines), float(np.abs(difference).max()))
        right.set_ylim(-span, span)
        caption = (
            f"Numbers of cells{f', {of}' if of else ''}: predicted against true, a dot a picture; and their difference, with "
            "its mean and the limits of agreement (mean ± 1.96 standard deviations)."
        )
        return drawn(figure, name, caption)


def difference_figure(differences: Sequence[Difference]) -> Drawing:
    """Draw by how much predictions differ, with intervals; those that leave 0 out are filled.

    Parameters
    ----------
    differences
        What :func:`fncells.evaluation.compare` gives.
    """
    tasks = [[one for one in differences if (one.task == "counting") == counts] for counts in (False, True)]
    panels = [[one for one in task if one.difference is not None] for task in tasks]
    heights = [max(1, len(panel)) for panel in panels]
    with figure_of(7.2, 1.3 + 0.27 * sum(heights)) as figure:
        for axes, panel, unit in zip(
            figure.subplots(2, 1, height_ratios=heights), panels, ("score", "cells a picture"), strict=True
        ):
            axes.axvline(0, color=FAINT, linewidth=0.9)
            for row, one in enumerate(panel):
                face = COLOURS[0] if one.better else "white"
                if one.interval:
                    axes.plot(one.interval, (row, row), color=COLOURS[0], linewidth=1.6)
                axes.plot(one.difference, row, "o", color=COLOURS[0], markerfacecolor=face, markersize=6)
            several = len({(one.first, one.second) for one in panel}) > 1
            names = [
                f"{one.second} − {one.first}: {TITLES[one.task, one.score]}" if several else TITLES[one.task, one.score]
                for one in panel
            ]
            axes.set_yticks(range(len(panel)), names)
            axes.set_ylim(len(panel) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel(f"difference ({unit})")
        caption = (
            "Second minus first prediction on the same pictures, with intervals. Filled: 0 is outside the interval. For errors "
            "of the counts, less is better."
        )
        return drawn(figure, "differences", caption)


def pairs_figure(agreement: Agreement) -> Drawing:
    """Draw how well each two people agree, as F1 by outlines and by centres.

    Parameters
    ----------
    agreement
        What :func:`fncells.evaluation.agree` gives.
    """
    names = agreement.annotators
    side = 1.6 + 0.5 * len(names)
    with figure_of(2 * side + 0.6, side) as figure:
        for axes, task in zip(figure.subplots(1, 2), ("segmentation", "detection"), strict=True):
            table = np.full((len(names), len(names)), np.nan)
            for (first, second), one in agreement.pairs.items():
                score = one.scores[task]["f1"]
                at = names.index(first), names.index(second)
                table[at] = table[at[::-1]] = np.nan if score is None else score
            axes.imshow(table, vmin=0, vmax=1, cmap="cividis")
            for row, column in np.argwhere(np.isfinite(table)):
                ink = INK if table[row, column] > 0.6 else "white"
                axes.text(column, row, f"{table[row, column]:.2f}", ha="center", va="center", fontsize=8, color=ink)
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_title(f"F1 of {task}", fontsize=9)
        return drawn(figure, "pairs", "F1 of each two annotators, by outlines and by centres.")


def annotators_figure(agreement: Agreement) -> Drawing:
    """Draw how many cells everyone sees in each picture.

    Parameters
    ----------
    agreement
        What :func:`fncells.evaluation.agree` gives.
    """
    names = agreement.annotators
    pictures = sorted(
        agreement.counts.values(),
        key=lambda cells: float(np.mean([cells[name] for name in names if name in cells] or [0])),
    )
    with figure_of(7.2, 3.1) as figure:
        axes = figure.add_subplot()
        for place, name in enumerate(names):
            shown = [(row, cells[name]) for row, cells in enumerate(pictures, 1) if name in cells]
            x, y = np.array(shown, dtype=np.float64).reshape(-1, 2).T
            marker, colour = _MARKERS[place % 6], COLOURS[place % 6]
            axes.plot(x, y, marker, color=colour, markersize=4.5, markeredgewidth=0, alpha=0.85, label=name)
        if any("staple" in cells for cells in pictures):
            x, y = np.array([(row, cells["staple"]) for row, cells in enumerate(pictures, 1) if "staple" in cells]).T
            axes.plot(x, y, linestyle="none", marker="_", color=INK, markersize=11, markeredgewidth=1.4, label="STAPLE")
        axes.set(xlabel="pictures, by mean number of cells", ylabel="cells", ylim=(0, None))
        axes.set_xlim(0.5, len(pictures) + 0.5)
        axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=1 + len(names) // 6)
        return drawn(figure, "counts", "Numbers of cells that each annotator sees, a column a picture.")


def _curve(evaluation: Evaluation, score: str) -> tuple[list[float], list[float]]:
    values = [getattr(tally, score) for _, tally in evaluation.curve]
    return [at for at, _ in evaluation.curve], [np.nan if one is None else one for one in values]


def _dots(axes: "Axes", x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    axes.scatter(x, y, s=16, color=COLOURS[0], alpha=0.6, linewidths=0)


def _limits(difference: NDArray[np.float64]) -> tuple[float, ...]:
    if len(difference) < 2:
        return ()
    bias, spread = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    return bias - spread, bias + spread


def _evaluation_figures(compared: Comparison) -> dict[str, list[Drawing]]:
    several = len(compared.evaluations) > 1
    counts = [
        bland_altman_figure(one, f"bland_altman_{place}" if several else "bland_altman", name if several else "")
        for place, (name, one) in enumerate(compared.evaluations.items(), 1)
    ]
    return {
        "curves": [curve_figure(compared.evaluations, list(compared.people.against_truth.values()))],
        "counts": counts,
        "differences": [difference_figure(compared.differences)] if compared.differences else [],
    }


# --------------------------------------------------------------------------------------------- tables, and what pages show


def _write_tables(out: Path, rows: Sequence[Row], figures: Iterable[Drawing]) -> None:
    files.write_text(out / "table2.md", markdown_table(rows))
    files.write_text(out / "table2.tex", latex_table(rows))
    files.write_csv(out / "table2.csv", _frame(csv_rows(rows)))
    for figure in figures:
        figure.write(out)


def _frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame(list(rows))


def _picture_rows(compared: Comparison) -> Iterable[dict[str, Any]]:
    several = len(compared.evaluations) > 1
    for name, evaluation in compared.evaluations.items():
        for score in evaluation.per_picture:
            told = score.as_dict()
            line: dict[str, Any] = {"prediction": name} if several else {}
            line |= {key: told[key] for key in ("picture", "group", "n_true", "n_predicted")}
            for part in ("segmentation", "detection", "errors"):
                line |= {f"{part}_{key}" if part != "errors" else key: value for key, value in told[part].items()}
            yield line


def _side_by_side(compared: Comparison) -> list[dict[str, Any]]:
    """Give what the two rules make of the same predictions, and why they differ."""
    if len(compared.by_rule) < 2:
        return []
    ours, theirs = (compared.by_rule[rule] for rule in ("one-to-one", "published"))
    chosen = {
        "segmentation": ("f1", "precision", "recall"),
        "detection": ("f1", "precision", "recall"),
        "counting": ("mae", "medae", "mpe"),
    }
    return [
        {
            "task": task,
            "why": DIFFERENCES[task],
            "rows": [
                (name, score, ours[name].scores[task][score], theirs[name].scores[task][score])
                for name in ours
                for score in scores
            ],
        }
        for task, scores in chosen.items()
    ]


def _badness(score: PictureScore) -> tuple[int, str]:
    """Sort the pictures with the most errors to the front."""
    errors = sum(tally.fp + tally.fn for tally in (score.segmentation, score.detection))
    return -errors, score.picture


def _drawn_errors(
    score: PictureScore, true: Annotation, predicted: Annotation | None, picture: Path | None, iou: float
) -> Overlay:
    truth = true.read()
    found = predicted.read() if predicted else AnnotatedImage(truth.name, truth.shape, ())
    pixels = None if picture is None else read_picture(picture).pixels
    if pixels is not None and truth.shape is None and found.shape is None:
        truth = truth.with_shape((pixels.shape[0], pixels.shape[1]))
    truth, found = one_size(truth, found)
    if pixels is None:
        pixels = np.zeros(truth.shape or (1, 1), dtype=np.uint8)
    elif pixels.shape[:2] != truth.shape:
        raise InputError(picture, expected="the size that its cells have", found="another")
    outlined = score.segmentation.tp + score.segmentation.fp + score.segmentation.fn
    matching = match_iou(truth, found, iou) if outlined else match_centres(truth, found, score.distance_px)
    pairs = [(int(one), int(other)) for one, other in matching.pairs]
    large, small = (comparison(pixels, truth, found, pairs, side=side) for side in (1600, THUMBNAIL_WIDTH))
    return Overlay(score, large, small)


def _gallery(out: Path, name: str, overlays: Sequence[Overlay], several: bool) -> list[Shown]:
    folder = f"overlays/{_safe(name)}" if several else "overlays"
    shown = []
    for place, (score, pixels, thumbnail) in enumerate(overlays, 1):
        # Names in annotation files come from anywhere and must not lead out of the folder.
        file = f"{folder}/{place:02}_{_safe(PurePosixPath(score.picture).stem)}.png"
        _, data = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))
        files.write_bytes(out / file, data.tobytes())
        tally = score.segmentation if any(score.segmentation.as_dict().values()) else score.detection
        caption = f"{tally.tp} found, {tally.fn} missed, {tally.fp} none there"
        shown.append(Shown(score.picture, f"{_safe(name)}-{place}", caption, jpeg_address(thumbnail), file))
    return shown


def _safe(name: str) -> str:
    return "".join(one if one.isalnum() or one in "-_" else "_" for one in name)[:100]
