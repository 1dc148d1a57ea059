"""Predictions held against the truth, picture by picture: one or several of them, and people beside them.

Each picture's annotations are read once, where the work on it is done, and compared in all ways that are asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation.annotations import Annotation, as_annotations, keyed
from fncells.evaluation.contests import TRUTH, Contest, Plan, Side, hold
from fncells.evaluation.resampling import Interval, interval
from fncells.evaluation.scores import LESS_IS_BETTER, SCORES, Evaluation, resampled
from fncells.evaluation.settings import RULES, EvaluateSettings, Rule

__all__ = ["Comparison", "Difference", "People", "averaged", "compare", "evaluate"]

# What predictions are compared by: one score of each kind that people publish.
_COMPARED = (
    ("segmentation", ("f1", "average_precision", "panoptic_quality", "dice")),
    ("detection", ("f1",)),
    ("counting", ("mae", "rmse")),
)


@dataclass(frozen=True)
class Difference:
    """How much a score of one prediction exceeds that of another, on the same pictures.

    Attributes
    ----------
    first, second
        Names of the predictions.
    task, score
        Which score.
    difference
        The second's minus the first's; None where either has none.
    interval
        Of the difference, from resamples in which both see the same pictures.
    better
        The name of the better one, where the interval leaves 0 out; else None: the pictures do not tell them apart.
    """

    first: str
    second: str
    task: str
    score: str
    difference: float | None
    interval: Interval
    better: str | None

    def as_dict(self) -> dict[str, object]:
        """Give all figures by name, ready for JSON."""
        return {**asdict(self), "interval": list(self.interval) if self.interval else None}


class People(NamedTuple):
    """How well several people agree with the same truth, and with each other: as good as a prediction can be hoped to be.

    Attributes
    ----------
    against_truth
        By annotator, how that one agrees with the truth.
    among_each_other
        By pair of annotators, how the second agrees with the first.
    """

    against_truth: Mapping[str, Evaluation]
    among_each_other: Mapping[tuple[str, str], Evaluation]

    def as_dict(self) -> dict[str, object]:
        """Give the means with their intervals, and each annotator's scores, ready for JSON."""
        return {
            "against_truth": averaged(list(self.against_truth.values())),
            "among_each_other": averaged(list(self.among_each_other.values())),
            "each": {name: _brief(one) for name, one in self.against_truth.items()},
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several predictions against one truth.

    Attributes
    ----------
    evaluations
        By the prediction's name.
    by_rule
        The same by each rule that was asked for.
    differences
        Between each two predictions, paired.
    people
        What annotators make of the same pictures; empty where none were given.
    """

    evaluations: Mapping[str, Evaluation]
    by_rule: Mapping[str, Mapping[str, Evaluation]] = field(default_factory=dict)
    differences: Sequence[Difference] = ()
    people: People = field(default_factory=lambda: People({}, {}))

    def as_dict(self) -> dict[str, Any]:
        """Give all figures by name, ready for JSON: a single prediction's by themselves, several under their names."""
        told: dict[str, Any]
        if len(self.evaluations) == 1:
            told = next(iter(self.evaluations.values())).as_dict()
        else:
            first = next(iter(self.evaluations.values()))
            told = {
                "rule": first.settings.rule,
                "pictures": len(first.per_picture),
                "predictions": {name: one.as_dict() for name, one in self.evaluations.items()},
                "differences": [one.as_dict() for one in self.differences],
            }
        return told | ({"annotators": self.people.as_dict()} if self.people.against_truth else {})


def evaluate(
    truth: Iterable[AnnotatedImage | Annotation],
    prediction: Iterable[AnnotatedImage | Annotation],
    settings: EvaluateSettings | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    pixel_sizes: Mapping[str, float] | None = None,
) -> Evaluation:
    """Compare predicted cells with true ones, picture by picture and pooled.

    Parameters
    ----------
    truth, prediction
        Pictures are paired by their names, without suffix and without the ending that a tool appends. Where one of a pair
        does not know the picture's size, the other one's is taken; where neither does, that of the smallest picture which
        holds all their vertices.
    settings
        None takes the defaults.
    groups
        What pictures are resampled with, by their names without suffix; goes before ``settings.group``.
    pixel_sizes
        Micrometres a pixel, by the pictures' names without suffix.

    Returns
    -------
    Evaluation
        True pictures without a usable prediction are named in ``missing`` and scored as empty; predictions without a true
        picture are named in ``unscored``.

    Raises
    ------
    InputError
        If there is no true picture, two of a side have the same name, or no picture can be compared.
    """
    compared = compare(truth, {"prediction": prediction}, settings, groups=groups, pixel_sizes=pixel_sizes)
    return compared.evaluations["prediction"]


def compare(
    truth: Iterable[AnnotatedImage | Annotation],
    predictions: Mapping[str, Iterable[AnnotatedImage | Annotation]],
    settings: EvaluateSettings | None = None,
    *,
    annotators: Mapping[str, Iterable[AnnotatedImage | Annotation]] | None = None,
    groups: Mapping[str, str] | None = None,
    pixel_sizes: Mapping[str, float] | None = None,
    both_rules: bool = False,
) -> Comparison:
    """Compare several predictions with the truth and with each other, and with what people reach.

    Parameters
    ----------
    truth, settings, groups, pixel_sizes
        As :func:`evaluate` takes them.
    predictions
        By the names they are to be told by.
    annotators
        What each of several people has annotated in the same pictures, by name.
    both_rules
        Whether to score by the published rule too.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        As :func:`evaluate` does.
    """
    settings = settings or EvaluateSettings()
    true = keyed(as_annotations(truth), "true")
    if not true:
        raise InputError("truth", expected="at least one annotated picture", found="none")
    others = {
        Side("prediction", name): keyed(as_annotations(one), "predicted", settings.ending)
        for name, one in predictions.items()
    }
    people = {Side("person", name): keyed(as_annotations(one), "annotated") for name, one in (annotators or {}).items()}
    rules: tuple[Rule, ...] = RULES if both_rules else (settings.rule,)
    scored = {rule: [Contest(TRUTH, side, rule, absent_is_empty=True) for side in others] for rule in rules}
    against = [Contest(TRUTH, side) for side in people]
    between = [Contest(*pair) for pair in combinations(people, 2)]
    contests = [*(one for of_rule in scored.values() for one in of_rule), *against, *between]
    plan = Plan(settings, contests, groups or {}, pixel_sizes or {})
    found = hold(plan, {TRUTH: true, **others, **people}, {key: one.name for key, one in true.items()}).evaluations
    evaluations = {one.second.name: found[one] for one in scored[settings.rule]}
    return Comparison(
        evaluations,
        {rule: {one.second.name: found[one] for one in of_rule} for rule, of_rule in scored.items()},
        [one for pair in combinations(evaluations.items(), 2) for one in _differences(*pair)],
        People(
            {one.second.name: found[one] for one in against if one in found},
            {(one.first.name, one.second.name): found[one] for one in between if one in found},
        ),
    )


def averaged(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Give the means of all scores over several evaluations of the same pictures, with intervals, by task and name.

    The same resamples go through all of them, so that the intervals are those of the means. A score that one of them lacks has
    no mean.
    """
    together = {score.picture: score for one in evaluations for score in one.per_picture}
    among = [together[picture] for picture in sorted(together)]
    drawn = [resampled(one, among) for one in evaluations]
    told: dict[str, Any] = {"n": len(evaluations)}
    for task, names in SCORES.items():
        told[task] = {"interval": {}}
        for name in names:
            values = [one.scores[task][name] for one in evaluations]
            mean = None if None in values or not values else float(np.mean(values))  # type: ignore[arg-type]
            limits: Interval = None
            if mean is not None:
                means = np.mean([one[task][name] for one in drawn], axis=0)
                limits = interval(mean, means, evaluations[0].settings.confidence)
            told[task][name] = mean
            told[task]["interval"][name] = list(limits) if limits else None
    return told


def _brief(evaluation: Evaluation) -> dict[str, Any]:
    told = evaluation.as_dict()
    return {task: {name: told[task][name] for name in (*names, "interval")} for task, names in SCORES.items()}


def _differences(first: tuple[str, Evaluation], second: tuple[str, Evaluation]) -> Iterator[Difference]:
    (one, mine), (other, theirs) = first, second
    drawn = resampled(mine), resampled(theirs)
    for task, names in _COMPARED:
        for name in names:
            before, after = mine.scores[task][name], theirs.scores[task][name]
            difference = None if before is None or after is None else after - before
            limits = interval(difference, drawn[1][task][name] - drawn[0][task][name], mine.settings.confidence)
            better = None
            if limits and (limits[0] > 0 or limits[1] < 0):
                better = other if (limits[0] > 0) != (name in LESS_IS_BETTER) else one
            yield Difference(one, other, task, name, difference, limits, better)
