"""Scores of one picture, and of many: pooled, with their intervals.

Counts are summed over the pictures before anything is divided. A score with nothing to divide by is None. An empty picture is a
picture like any other: whatever the other side has there is missed or extra; one that is empty on both sides adds nothing to
the pooled scores and an error of 0 to the counting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.evaluation.mistakes import Mistakes
from fncells.evaluation.published_rule import EPSILON, published_counts
from fncells.evaluation.resampling import Interval, interval, resamples
from fncells.evaluation.settings import THRESHOLDS, EvaluateSettings
from fncells.evaluation.tally import Tally

__all__ = ["LESS_IS_BETTER", "SCORES", "Counting", "Evaluation", "PictureScore", "ratios", "resampled", "value"]

Floats = NDArray[np.float64]

SCORES: Mapping[str, tuple[str, ...]] = {
    "segmentation": (
        "precision",
        "recall",
        "f1",
        "jaccard",
        "average_precision",
        "panoptic_quality",
        "segmentation_quality",
        "dice",
    ),
    "detection": ("precision", "recall", "f1"),
    "counting": ("mae", "medae", "mpe", "bias", "rmse", "pearson", "concordance"),
}
"""All scores that have intervals, by task."""

LESS_IS_BETTER = frozenset({"mae", "medae", "rmse"})


@dataclass(frozen=True)
class PictureScore:
    """What came of one picture.

    Attributes
    ----------
    picture
        Name of the true picture.
    n_true, n_predicted
        All cells, dots included.
    segmentation, detection
        Cells matched by IoU and by centres.
    curve
        Cells matched by IoU at each of :data:`fncells.evaluation.settings.THRESHOLDS`.
    total_iou
        Sum of the IoU of all pairs in segmentation; None where pairs are not one-to-one.
    shared_px, true_px, predicted_px
        Pixels that belong to cells of both sides, of the true side, of the predicted side; no cell counts twice.
    mistakes
        Errors by their kind.
    distance_px
        The largest distance of a pair's centres that was allowed here.
    group
        What the picture is resampled with.
    largest
        Share of the picture that the largest true and the largest predicted cell cover.
    shifts
        Shape (k, 2): predicted minus true centre, x and y in pixels, of every pair in detection.
    """

    picture: str
    n_true: int
    n_predicted: int
    segmentation: Tally
    detection: Tally
    curve: tuple[Tally, ...] = ()
    total_iou: float | None = None
    shared_px: int = 0
    true_px: int = 0
    predicted_px: int = 0
    mistakes: Mistakes = field(default_factory=Mistakes)
    distance_px: float = 0.0
    group: str = ""
    largest: tuple[float, float] = (0.0, 0.0)
    shifts: Floats = field(default_factory=lambda: np.empty((0, 2)), compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Give all figures by name, ready for JSON."""
        scores = value(pooled(_table([self]), np.ones((1, 1)), self.segmentation.epsilon))
        segmentation = {name: scores["segmentation"][name] for name in SCORES["segmentation"]}
        detection = {name: scores["detection"][name] for name in SCORES["detection"]}
        return {
            "picture": self.picture,
            "group": self.group,
            "n_true": self.n_true,
            "n_predicted": self.n_predicted,
            "segmentation": {**self.segmentation.as_dict(), **segmentation},
            "detection": {**self.detection.as_dict(), **detection, "distance_px": self.distance_px},
            "errors": self.mistakes.as_dict(),
        }


@dataclass(frozen=True)
class Counting:
    """Errors of the cell counts, over the pictures.

    Attributes
    ----------
    mae, medae
        Mean and median of |predicted − true|, in cells a picture.
    mpe
        Mean of (predicted − true) / max(true, 1) with its sign, a fraction (Clissa et al., FNC v2).
    bias
        Mean of predicted − true with its sign, in cells a picture.
    rmse
        Root of the mean of (predicted − true)², in cells a picture.
    pearson
        Pearson's correlation of the counts; blind to counts that are all too high by the same factor.
    concordance
        Lin's concordance correlation coefficient (Biometrics 45, 1989), which is not.
    limits
        Limits of agreement (Bland and Altman, Lancet 1986): bias ± 1.96 standard deviations (n − 1) of predicted − true.
    """

    mae: float
    medae: float
    mpe: float
    bias: float
    rmse: float
    pearson: float | None
    concordance: float | None
    limits: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The agreement of predictions with the truth.

    Attributes
    ----------
    settings
        How it was measured.
    per_picture
        One score a true picture, ordered by name.
    missing
        True pictures without a prediction; they are scored as if nothing had been found.
    unscored
        Predictions without a true picture; they are left out.
    failed
        Why a picture could not be used, by its name: a prediction that cannot be read or has another size counts as missing, a
        truth that cannot be read is left out.
    notes
        What looks odd about the two sides, in words.
    segmentation, detection
        Pooled over the pictures.
    counting
        Over the pictures.
    scores
        All of :data:`SCORES` by task and name; None where there is nothing to divide by.
    intervals
        The same names: lowest and highest plausible value (percentiles of the bootstrap), or None where there is none.
    """

    settings: EvaluateSettings
    per_picture: tuple[PictureScore, ...]
    missing: tuple[str, ...] = ()
    unscored: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    segmentation: Tally = field(init=False)
    detection: Tally = field(init=False)
    counting: Counting = field(init=False)
    scores: Mapping[str, Mapping[str, float | None]] = field(init=False)
    intervals: Mapping[str, Mapping[str, Interval]] = field(init=False)

    def __post_init__(self) -> None:
        table, epsilon = _table(self.per_picture), _epsilon(self.settings.rule)
        scores = value(pooled(table, np.ones((1, len(table))), epsilon))
        drawn = resampled(self)
        known = {
            "segmentation": _summed(table, "segmentation", epsilon),
            "detection": _summed(table, "detection", epsilon),
            "counting": Counting(**scores["counting"], limits=_limits(table)),  # type: ignore[arg-type]
            "scores": scores,
            "intervals": {
                task: {
                    name: interval(scores[task][name], drawn[task][name], self.settings.confidence) for name in names
                }
                for task, names in SCORES.items()
            },
        }
        for name, one in known.items():
            object.__setattr__(self, name, one)

    @property
    def drawn_by(self) -> str:
        """What is drawn as a whole in the resampling: picture, animal, or group where a table gave the groups."""
        grouped = any(score.group != score.picture for score in self.per_picture)
        return "group" if grouped and self.settings.group == "picture" else self.settings.group

    @property
    def curve(self) -> tuple[tuple[float, Tally], ...]:
        """IoU thresholds and what is pooled at each."""
        table, epsilon = _table(self.per_picture), _epsilon(self.settings.rule)
        return tuple((at, _summed(table, f"{at:.2f}", epsilon)) for at in THRESHOLDS)

    @property
    def mistakes(self) -> Mistakes:
        """Errors by their kind, summed over the pictures."""
        names = [one.name for one in fields(Mistakes)]
        return Mistakes(*(sum(getattr(score.mistakes, name) for score in self.per_picture) for name in names))

    def as_dict(self) -> dict[str, Any]:
        """Give all figures by name, ready for JSON; scores without a value are None."""
        limits = self.counting.limits
        return {
            "rule": self.settings.rule,
            "pictures": len(self.per_picture),
            "segmentation": {
                "iou_threshold": self.settings.iou,
                **self.segmentation.as_dict(),
                **self._told("segmentation"),
                "curve": [_point(at, tally) for at, tally in self.curve],
                "errors": self.mistakes.as_dict(),
            },
            "detection": {**self._distance(), **self.detection.as_dict(), **self._told("detection")},
            "counting": {**self._told("counting"), "limits_of_agreement": list(limits) if limits else None},
            "bootstrap": {
                "resamples": self.settings.bootstrap,
                "seed": self.settings.seed,
                "confidence": self.settings.confidence,
                "by": self.drawn_by,
                "groups": len({score.group for score in self.per_picture}),
            },
            "unpaired": {"truth": list(self.missing), "prediction": list(self.unscored)},
            "failed": dict(self.failed),
            "notes": list(self.notes),
            "per_picture": [score.as_dict() for score in self.per_picture],
        }

    def _told(self, task: str) -> dict[str, object]:
        limits = {name: list(one) if one else None for name, one in self.intervals[task].items()}
        return {**self.scores[task], "interval": limits}

    def _distance(self) -> dict[str, float | None]:
        if self.settings.distance_um is None:
            return {"distance_px": self.settings.distance}
        used = {score.distance_px for score in self.per_picture}
        return {"distance_px": used.pop() if len(used) == 1 else None, "distance_um": self.settings.distance_um}


def resampled(evaluation: Evaluation, among: Sequence[PictureScore] | None = None) -> dict[str, dict[str, Floats]]:
    """Give all scores of every resample, by task and name, each of shape (resamples,); NaN where there is no value.

    Evaluations of the same pictures with the same settings see the same resamples, so their differences are paired.

    Parameters
    ----------
    evaluation
        What to resample.
    among
        The pictures to draw from, where they are more than the evaluation's own.
    """
    drawn_from = {score.picture: score.group for score in among or evaluation.per_picture}
    place = {picture: column for column, picture in enumerate(drawn_from)}
    columns = [place[score.picture] for score in evaluation.per_picture]
    weights = resamples(list(drawn_from.values()), evaluation.settings)[:, columns]
    return pooled(_table(evaluation.per_picture), weights, _epsilon(evaluation.settings.rule))


def value(scores: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, float | None]]:
    """Give the scores of the first row, None for NaN."""
    return {
        task: {name: None if np.isnan(one[0]) else float(one[0]) for name, one in names.items()}
        for task, names in scores.items()
    }


def _epsilon(rule: str) -> float:
    return EPSILON if rule == "published" else 0.0


def _point(threshold: float, tally: Tally) -> dict[str, float | None]:
    return {
        "iou_threshold": threshold,
        **tally.as_dict(),
        "precision": tally.precision,
        "recall": tally.recall,
        "f1": tally.f1,
        "jaccard": tally.jaccard,
    }


# --- a table with one row a picture, and all scores as sums over weighted rows

_CURVE = tuple(f"{threshold:.2f}" for threshold in THRESHOLDS)
_COLUMNS = (
    *(f"{task}_{count}" for task in ("segmentation", "detection", *_CURVE) for count in ("tp", "fp", "fn")),
    *("total_iou", "shared_px", "true_px", "predicted_px", "true", "predicted"),
)
_AT = {name: place for place, name in enumerate(_COLUMNS)}


def _table(scores: Sequence[PictureScore]) -> Floats:
    return np.array([_row(score) for score in scores], dtype=np.float64).reshape(len(scores), len(_COLUMNS))


def _row(score: PictureScore) -> list[float]:
    tallies = (score.segmentation, score.detection, *(score.curve or (Tally(0, 0, 0),) * len(THRESHOLDS)))
    counts = (score.n_true, score.n_predicted)
    if score.segmentation.epsilon:
        counts = published_counts(score.segmentation, score.detection)
    iou = np.nan if score.total_iou is None else score.total_iou
    cells = [one for tally in tallies for one in tally.as_dict().values()]
    return [*cells, iou, score.shared_px, score.true_px, score.predicted_px, *counts]


def _summed(table: Floats, task: str, epsilon: float) -> Tally:
    tp, fp, fn = (int(table[:, _AT[f"{task}_{count}"]].sum()) for count in ("tp", "fp", "fn"))
    return Tally(tp, fp, fn, epsilon)


def pooled(table: Floats, weights: Floats, epsilon: float) -> dict[str, dict[str, Floats]]:
    """Compute all scores over pictures that count as often as the weights say.

    Parameters
    ----------
    table
        Shape (pictures, columns).
    weights
        Shape (k, pictures).
    epsilon
        Added to the denominators of precision and recall.

    Returns
    -------
    dict
        By task and name, shape (k,).
    """
    sums = weights @ table
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "segmentation": _segmentation(sums, epsilon),
            "detection": ratios(*_counts(sums, "detection"), epsilon),
            "counting": _counting(table[:, _AT["true"]], table[:, _AT["predicted"]], weights),
        }


def _counts(sums: Floats, task: str) -> tuple[Floats, Floats, Floats]:
    tp, fp, fn = (sums[:, _AT[f"{task}_{count}"]] for count in ("tp", "fp", "fn"))
    return tp, fp, fn


def ratios(tp: Floats, fp: Floats, fn: Floats, epsilon: float = 0.0) -> dict[str, Floats]:
    """Precision, recall and F1 as :class:`Tally` has them, of many counts at once; NaN for None."""
    precision, recall = tp / (tp + fp + epsilon), tp / (tp + fn + epsilon)
    f1 = 2 * precision * recall / (precision + recall) if epsilon else 2 * tp / (2 * tp + fp + fn)
    return {"precision": precision, "recall": recall, "f1": f1}


def _segmentation(sums: Floats, epsilon: float) -> dict[str, Floats]:
    tp, fp, fn = _counts(sums, "segmentation")
    at_each = [_counts(sums, threshold) for threshold in _CURVE]
    jaccards = [found / (found + extra + missed) for found, extra, missed in at_each]
    iou = sums[:, _AT["total_iou"]]
    pixels = sums[:, _AT["true_px"]] + sums[:, _AT["predicted_px"]]
    return {
        **ratios(tp, fp, fn, epsilon),
        "jaccard": tp / (tp + fp + fn),
        "average_precision": np.mean(jaccards, axis=0),
        "panoptic_quality": 2 * iou / (2 * tp + fp + fn),
        "segmentation_quality": iou / tp,
        "dice": 2 * sums[:, _AT["shared_px"]] / pixels,
    }


def _counting(true: Floats, predicted: Floats, weights: Floats) -> dict[str, Floats]:
    error = predicted - true
    n = weights.sum(axis=1)

    def mean(values: Floats) -> Floats:
        return np.asarray(weights @ values / n)

    # Sums of whole numbers are exact, so counts that do not vary have a variance of exactly 0.
    sums = [weights @ one for one in (true, predicted, true * true, predicted * predicted, true * predicted)]
    var_true, var_predicted = n * sums[2] - sums[0] ** 2, n * sums[3] - sums[1] ** 2
    covariance = n * sums[4] - sums[0] * sums[1]
    return {
        "mae": mean(np.abs(error)),
        "medae": _medians(np.abs(error), weights),
        "mpe": mean(error / np.maximum(true, 1)),
        "bias": mean(error),
        "rmse": np.sqrt(mean(error**2)),
        "pearson": np.clip(covariance / (np.sqrt(var_true) * np.sqrt(var_predicted)), -1, 1),
        "concordance": 2 * covariance / (var_true + var_predicted + (sums[0] - sums[1]) ** 2),
    }


def _medians(values: Floats, weights: Floats) -> Floats:
    """Medians of values that count as often as each row of weights says; the mean of the middle two of an even number."""
    order = np.argsort(values)
    ranked, reached = values[order], np.cumsum(weights[:, order], axis=1)
    half = weights.sum(axis=1, keepdims=True) / 2
    lower, upper = (reached >= half).argmax(axis=1), (reached > half).argmax(axis=1)
    return np.asarray((ranked[lower] + ranked[upper]) / 2)


def _limits(table: Floats) -> tuple[float, float] | None:
    error = table[:, _AT["predicted"]] - table[:, _AT["true"]]
    if len(error) < 2:
        return None
    bias, spread = float(error.mean()), 1.96 * float(error.std(ddof=1))
    return bias - spread, bias + spread
