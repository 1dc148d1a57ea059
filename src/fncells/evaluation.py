"""How well predicted cells agree with true ones: segmentation, detection and counting.

The rule ``one-to-one``: a true and a predicted cell can be a pair at an IoU of at least the threshold (segmentation), or with
their centres no farther apart than the distance (detection). Of all ways to pair them off, each cell at most once, those with
the most pairs are best, and among them the one with the greatest total IoU or the least total distance.

- IoU is that of the cells' own pixels, so overlapping cells are each taken whole.
- Dots have no area. They are matched in detection alone: segmentation neither pairs nor counts them, and leaves out a picture
  with nothing but dots on one side, which says nothing of outlines.
- An empty picture is a picture like any other: all that the other side has there is missed or extra. A picture that is empty on
  both sides adds nothing to the pooled scores and an error of 0 to the counting.
- Scores are pooled: true positives, false positives and false negatives are summed over the pictures first. A score with
  nothing to divide by is None.

The rule ``published`` repeats the evaluation that came with the archive (Clissa et al., FNC v2), faults and all, see
:class:`EvaluateSettings`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError

__all__ = [
    "Counting",
    "EvaluateSettings",
    "Evaluation",
    "Matching",
    "PictureScore",
    "Tally",
    "agree",
    "evaluate",
    "match_centres",
    "match_iou",
    "match_labels",
    "overlaps",
    "score_table",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Interval = tuple[float, float] | None

RULES = ("one-to-one", "published")
_RATIOS = ("precision", "recall", "f1")
_ERRORS = ("mae", "medae", "mpe", "bias")

# Centres are means, rounded in their last digits; a distance that is exactly at the limit must not fall to one side by that.
_ROUNDING = 1e-9
_PUBLISHED_EPSILON = 0.01
# Largest picture, in pixels, for which a value is set aside for every pixel; beyond, only the cells' pixels are sorted.
_LARGEST_CANVAS = 2**28


@dataclass(frozen=True)
class EvaluateSettings:
    """How predictions are compared with the truth.

    Attributes
    ----------
    iou
        Least IoU of a pair in segmentation, above 0 and up to 1.
    distance
        Largest distance of a pair's centres in detection, in pixels.
    rule
        ``one-to-one`` as described in :mod:`fncells.evaluation`, or ``published``: the procedure behind Table 2 of Clissa et
        al., FNC v2, with its faults. It works on the label pictures (later cells drawn over earlier ones, no dots). A true
        cell whose best partner has an IoU *above* the threshold is a TP, else a FN; a predicted cell whose best partner has
        not is a FP; so one cell may serve as partner for several. Of a picture without any background it forgets the lowest
        label in segmentation. Detection does the same with the nearest centre, up to the distance. Precision and recall
        have 0.01 added to their denominators. Counting compares TP(detection) + FN(detection), called predicted, with
        TP(segmentation) + FN(detection), called true; so its error is TP(detection) − TP(segmentation), whatever was
        predicted. The published code labels masks itself, by 8-connected components; here cells are taken as they are
        read, which for masks is the same.
    bootstrap
        Resamples of the pictures behind the intervals; 0 gives none. A single picture gives none either.
    seed
        Seed of the resampling.
    confidence
        Share of the resamples that the intervals hold, between 0 and 1.
    workers
        Processes that match pictures; the result does not depend on it.
    """

    iou: float = 0.5
    distance: float = 40.0
    rule: Literal["one-to-one", "published"] = "one-to-one"
    bootstrap: int = 1000
    seed: int = 0
    confidence: float = 0.95
    workers: int = 1

    def __post_init__(self) -> None:
        _check_threshold(self.iou)
        _check_distance(self.distance)
        if self.rule not in RULES:
            raise InputError("rule", expected=" or ".join(RULES), found=repr(self.rule))
        if not 0 < self.confidence < 1:
            raise InputError("confidence", expected="a number between 0 and 1", found=str(self.confidence))
        for name, least in (("bootstrap", 0), ("seed", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(name, expected=f"{least} or more", found=str(getattr(self, name)))


@dataclass(frozen=True)
class Tally:
    """True positives, false positives and false negatives, and the scores they make.

    Attributes
    ----------
    tp, fp, fn
        Pairs, predicted cells without a partner, true cells without one.
    epsilon
        Added to the denominators of precision and recall; 0 but for the published rule.
    """

    tp: int
    fp: int
    fn: int
    epsilon: float = 0.0

    @property
    def precision(self) -> float | None:
        """Share of the predicted cells that are true; None without predicted cells."""
        return _ratio(self.tp, self.tp + self.fp + self.epsilon)

    @property
    def recall(self) -> float | None:
        """Share of the true cells that were found; None without true cells."""
        return _ratio(self.tp, self.tp + self.fn + self.epsilon)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without any cells.

        With an epsilon it is made from the two, as published: a perfect one falls short of 1, and without a single pair it
        is None.
        """
        if self.epsilon:
            precision, recall = self.precision or 0.0, self.recall or 0.0
            return _ratio(2 * precision * recall, precision + recall)
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def as_dict(self) -> dict[str, int]:
        """Give the three counts by name."""
        return {"tp": self.tp, "fp": self.fp, "fn": self.fn}


@dataclass(frozen=True, eq=False)
class Matching:
    """Which true cell is which predicted one.

    Attributes
    ----------
    pairs
        Shape (k, 2): positions of the true and of the predicted cell, ascending.
    values
        Shape (k,): IoU, or distance in pixels, of each pair.
    n_true, n_predicted
        Cells that could have been paired on either side.
    """

    pairs: Integers
    values: Floats
    n_true: int
    n_predicted: int

    @property
    def tally(self) -> Tally:
        """Pairs and cells without a partner, counted."""
        return Tally(len(self.pairs), self.n_predicted - len(self.pairs), self.n_true - len(self.pairs))


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
    """

    picture: str
    n_true: int
    n_predicted: int
    segmentation: Tally
    detection: Tally

    def as_dict(self) -> dict[str, object]:
        """Give all figures by name, ready for JSON."""
        return {
            "picture": self.picture,
            "n_true": self.n_true,
            "n_predicted": self.n_predicted,
            "segmentation": self.segmentation.as_dict(),
            "detection": self.detection.as_dict(),
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
    """

    mae: float
    medae: float
    mpe: float
    bias: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The agreement of predictions with the truth.

    Attributes
    ----------
    settings
        How it was measured.
    per_picture
        One score a true picture, ordered by name.
    segmentation, detection
        Pooled over the pictures.
    counting
        Over the pictures.
    intervals
        For ``segmentation``, ``detection`` and ``counting``, by the score's name: lowest and highest plausible value
        (percentiles of the bootstrap by picture), or None where there is none.
    missing
        True pictures without a prediction; they are scored as if nothing had been found.
    unscored
        Predictions without a true picture; they are left out.
    """

    settings: EvaluateSettings
    per_picture: tuple[PictureScore, ...]
    segmentation: Tally
    detection: Tally
    counting: Counting
    intervals: Mapping[str, Mapping[str, Interval]]
    missing: tuple[str, ...]
    unscored: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give all figures by name, ready for JSON; scores without a value are None."""
        counting = {name: getattr(self.counting, name) for name in _ERRORS}
        return {
            "rule": self.settings.rule,
            "pictures": len(self.per_picture),
            "segmentation": {"iou_threshold": self.settings.iou, **self._scores("segmentation")},
            "detection": {"distance_px": self.settings.distance, **self._scores("detection")},
            "counting": {**counting, "interval": self._intervals("counting")},
            "bootstrap": {
                "resamples": self.settings.bootstrap,
                "seed": self.settings.seed,
                "confidence": self.settings.confidence,
                "by": "picture",
            },
            "unpaired": {"truth": list(self.missing), "prediction": list(self.unscored)},
            "per_picture": [score.as_dict() for score in self.per_picture],
        }

    def _scores(self, task: Literal["segmentation", "detection"]) -> dict[str, object]:
        tally: Tally = getattr(self, task)
        ratios = {name: getattr(tally, name) for name in _RATIOS}
        return {**tally.as_dict(), **ratios, "interval": self._intervals(task)}

    def _intervals(self, task: str) -> dict[str, list[float] | None]:
        return {name: list(limits) if limits else None for name, limits in self.intervals[task].items()}


def evaluate(
    truth: Iterable[AnnotatedImage],
    prediction: Iterable[AnnotatedImage],
    settings: EvaluateSettings | None = None,
) -> Evaluation:
    """Compare predicted cells with true ones, picture by picture and pooled.

    Parameters
    ----------
    truth, prediction
        Pictures are paired by their names without the suffix. Where one of a pair does not know the picture's size, the
        other one's is taken; where neither does, that of the smallest picture which holds all their vertices.
    settings
        None takes the defaults.

    Returns
    -------
    Evaluation
        True pictures without a prediction are named in ``missing`` and scored as empty; predictions without a true picture are
        named in ``unscored``.

    Raises
    ------
    InputError
        If there is no true picture, two of a side have the same name, or the pictures of a pair differ in size.
    """
    settings = settings or EvaluateSettings()
    true, predicted = _by_stem(truth, "true"), _by_stem(prediction, "predicted")
    if not true:
        raise InputError("truth", expected="at least one annotated picture", found="none")
    pairs = [
        _one_size(image, predicted.get(stem, AnnotatedImage(image.name, image.shape, ())))
        for stem, image in sorted(true.items(), key=lambda item: item[1].name)
    ]
    scores = tuple(files.progress(_score_all(pairs, settings), len(pairs), "evaluate"))
    table = _table(scores, settings.rule)
    segmentation, detection, counting = _summary(table, _epsilon(settings.rule))
    return Evaluation(
        settings,
        scores,
        segmentation,
        detection,
        counting,
        _intervals(table, settings),
        missing=tuple(sorted(image.name for stem, image in true.items() if stem not in predicted)),
        unscored=tuple(sorted(image.name for stem, image in predicted.items() if stem not in true)),
    )


def agree(
    annotators: Mapping[str, Iterable[AnnotatedImage]], settings: EvaluateSettings | None = None
) -> dict[tuple[str, str], Evaluation]:
    """Compare every annotator with every other.

    Parameters
    ----------
    annotators
        The annotated pictures of each, by the annotator's name.
    settings
        None takes the defaults.

    Returns
    -------
    dict
        For each pair of names, in the order given, how the second agrees with the first. F1 is the same either way round.

    Raises
    ------
    InputError
        If there are fewer than two annotators, or as :func:`evaluate` does.
    """
    if len(annotators) < 2:
        raise InputError("annotators", expected="at least two", found=str(len(annotators)))
    pictures = {name: tuple(images) for name, images in annotators.items()}
    return {
        (first, second): evaluate(pictures[first], pictures[second], settings)
        for first, second in combinations(pictures, 2)
    }


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
    rows = {"all pictures": evaluations} if isinstance(evaluations, Evaluation) else evaluations
    lines = [
        "| | F1 seg | P | R | F1 det | P | R | MAE | MedAE | MPE |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, evaluation in rows.items():
        tallies = (evaluation.segmentation, evaluation.detection)
        scores = [score for tally in tallies for score in (tally.f1, tally.precision, tally.recall)]
        cells = [_two_digits(score) for score in (*scores, evaluation.counting.mae, evaluation.counting.medae)]
        label = f"{name} (published rule)" if evaluation.settings.rule == "published" else name
        lines.append(f"| {label} | {' | '.join(cells)} | {100 * evaluation.counting.mpe:.0f} % |")
    return "\n".join(lines) + "\n"


def overlaps(truth: AnnotatedImage, prediction: AnnotatedImage) -> sparse.csr_array:
    """Count the pixels that each true cell shares with each predicted one.

    Parameters
    ----------
    truth, prediction
        Cells of one picture. Where the cells of a side overlap each counts with all of its own pixels.

    Returns
    -------
    scipy.sparse.csr_array
        int64, shape (true cells, predicted cells); only pairs that share a pixel are stored.

    Raises
    ------
    InputError
        If the two differ in size.
    """
    truth, prediction = _one_size(truth, prediction)
    shared = _shared(truth, prediction)
    shape = (len(truth.cells), len(prediction.cells))
    return sparse.csr_array((shared.pixels, (shared.rows, shared.columns)), shape=shape)


def match_iou(truth: AnnotatedImage, prediction: AnnotatedImage, threshold: float = 0.5) -> Matching:
    """Pair true and predicted cells whose IoU is at least the threshold.

    Of the one-to-one pairings with the most pairs, the one with the greatest total IoU is taken. Cells without pixels, dots
    above all, take no part; neither does a picture with nothing but dots on one side.

    Parameters
    ----------
    truth, prediction
        Cells of one picture.
    threshold
        Above 0 and up to 1.

    Returns
    -------
    Matching
        Its values are IoUs.

    Raises
    ------
    InputError
        If the two differ in size, or the threshold is out of range.

    Examples
    --------
    >>> labels = np.zeros((8, 8), dtype=np.uint8)
    >>> labels[1:4, 1:4], labels[5:8, 5:8] = 1, 2
    >>> truth = AnnotatedImage.from_labels("a.png", labels)
    >>> match_iou(truth, AnnotatedImage.from_labels("a.png", labels * (labels == 2))).tally
    Tally(tp=1, fp=0, fn=1, epsilon=0.0)
    """
    _check_threshold(threshold)
    truth, prediction = _one_size(truth, prediction)
    if _dots_alone(truth) or _dots_alone(prediction):
        return Matching(np.empty((0, 2), dtype=np.int64), np.empty(0), 0, 0)
    candidates = _ious(_shared(truth, prediction), truth.areas, prediction.areas)
    return _best_iou(candidates, threshold, int((truth.areas > 0).sum()), int((prediction.areas > 0).sum()))


def match_labels(truth: NDArray[np.integer], prediction: NDArray[np.integer], threshold: float = 0.5) -> Matching:
    """Do as :func:`match_iou`, straight from label pictures.

    Parameters
    ----------
    truth, prediction
        Whole numbers, shape (height, width), 0 for background; each other value is a cell.
    threshold
        Above 0 and up to 1.

    Returns
    -------
    Matching
        Its positions count the cells of a side by ascending label.

    Raises
    ------
    InputError
        If the arrays are no label pictures of one size, or the threshold is out of range.
    """
    _check_threshold(threshold)
    shared, true, predicted = _shared_labels(truth, prediction)
    return _best_iou(_ious(shared, true, predicted), threshold, len(true), len(predicted))


def match_centres(truth: AnnotatedImage, prediction: AnnotatedImage, distance: float = 40.0) -> Matching:
    """Pair true and predicted cells whose centres are no farther apart than the distance; dots take part.

    Of the one-to-one pairings with the most pairs, the one with the least total distance is taken. A centre is the mean of the
    cell's own pixels, or the dot itself.

    Parameters
    ----------
    truth, prediction
        Cells of one picture.
    distance
        In pixels, 0 or more. A billionth of a pixel is granted for the rounding of means.

    Returns
    -------
    Matching
        Its values are distances in pixels.

    Raises
    ------
    InputError
        If the two differ in size, or the distance is out of range.
    """
    _check_distance(distance)
    truth, prediction = _one_size(truth, prediction)
    n, m = len(truth.cells), len(prediction.cells)
    # A cell without outline or point has no centre and nobody can find it.
    true, predicted = (np.flatnonzero(np.isfinite(side.centres).all(axis=1)) for side in (truth, prediction))
    if not len(true) or not len(predicted):
        return Matching(np.empty((0, 2), dtype=np.int64), np.empty(0), n, m)
    trees = cKDTree(truth.centres[true]), cKDTree(prediction.centres[predicted])
    near = trees[0].sparse_distance_matrix(trees[1], distance + _ROUNDING, output_type="ndarray")
    rows, columns, apart = true[near["i"]], predicted[near["j"]], near["v"]
    cost = np.minimum(apart / distance, 1.0) if distance else np.zeros(len(apart))
    return _matching(_Candidates(rows, columns, apart), cost, n, m)


class _Candidates(NamedTuple):
    """Pairs that come into question, ordered by neither side, each once."""

    rows: Integers
    columns: Integers
    values: Floats


class _Shared(NamedTuple):
    """Pairs of a true and a predicted cell that overlap, by position, each once, and how many pixels they share."""

    rows: Integers
    columns: Integers
    pixels: Integers


class _Pixels(NamedTuple):
    """All pixels of all cells of a picture: the cell each belongs to, and where it lies."""

    owner: Integers
    place: Integers


def _check_threshold(threshold: float) -> None:
    # At 0 every pair would do, cells at opposite ends of the picture included.
    if not 0 < threshold <= 1:
        raise InputError("IoU threshold", expected="a number above 0 and up to 1", found=str(threshold))


def _check_distance(distance: float) -> None:
    if not 0 <= distance < math.inf:
        raise InputError("distance", expected="0 or more pixels", found=str(distance))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _two_digits(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}"


def _dots_alone(image: AnnotatedImage) -> bool:
    return bool(image.cells) and all(cell.is_dot for cell in image.cells)


# --- pairing of pictures


def _by_stem(images: Iterable[AnnotatedImage], side: str) -> dict[str, AnnotatedImage]:
    found: dict[str, AnnotatedImage] = {}
    for image in images:
        if image.stem in found:
            raise InputError(
                image.name,
                expected=f"one {side} picture of each name, as they are paired by it",
                found=f"also {found[image.stem].name}",
            )
        found[image.stem] = image
    return found


def _one_size(truth: AnnotatedImage, prediction: AnnotatedImage) -> tuple[AnnotatedImage, AnnotatedImage]:
    """Give both the size that either knows; neither: that of the smallest picture around all their vertices."""
    if truth.shape and prediction.shape and truth.shape != prediction.shape:
        raise InputError(
            truth.name,
            expected=f"the size of its prediction {prediction.name}, {_size(prediction.shape)}",
            found=_size(truth.shape),
        )
    shape = truth.shape or prediction.shape or _canvas(truth, prediction)
    return _sized(truth, shape), _sized(prediction, shape)


def _sized(image: AnnotatedImage, shape: tuple[int, int]) -> AnnotatedImage:
    return image if image.shape == shape else image.with_shape(shape)


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


def _canvas(*images: AnnotatedImage) -> tuple[int, int]:
    corners = [ring.max(axis=0) for image in images for cell in image.cells for ring in cell.rings]
    right, bottom = np.max(corners, axis=0, initial=0.0) if corners else (0.0, 0.0)
    return math.floor(bottom + 0.5) + 1, math.floor(right + 0.5) + 1


# --- overlaps


def _shared(truth: AnnotatedImage, prediction: AnnotatedImage) -> _Shared:
    """Find the overlaps of cells on one canvas; the work and memory go with the pixels, not with the pairs of cells."""
    true, predicted = _spread(truth), _spread(prediction)
    n, m = len(truth.cells), len(prediction.cells)
    size = math.prod(truth.shape or (0,))
    if size > _LARGEST_CANVAS:
        true, predicted, size = _compacted(true, predicted)
    found = _looked_up(true, predicted, size)
    if found is not None:
        return _counted(*found, (n, m), size)
    found = _looked_up(predicted, true, size)
    if found is not None:
        columns, rows, pixels = _counted(*found, (m, n), size)
        return _Shared(rows, columns, pixels)
    true, predicted, size = _compacted(true, predicted)
    return _stored(_incidence(true, n, size) @ _incidence(predicted, m, size).T)


def _spread(image: AnnotatedImage) -> _Pixels:
    if not image.cells:
        return _Pixels(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    return _Pixels(np.repeat(np.arange(len(image.cells)), image.areas), np.concatenate(image.pixels))


def _compacted(true: _Pixels, predicted: _Pixels) -> tuple[_Pixels, _Pixels, int]:
    """Renumber the places by rank, so that what follows is as large as the cells and not as the picture."""
    places, rank = np.unique(np.concatenate([true.place, predicted.place]), return_inverse=True)
    cut = len(true.place)
    return _Pixels(true.owner, rank[:cut]), _Pixels(predicted.owner, rank[cut:]), len(places)


def _looked_up(mine: _Pixels, theirs: _Pixels, size: int) -> tuple[Integers, Integers] | None:
    """Owners on both sides of every shared pixel; None if two of *their* cells overlap."""
    owner = np.zeros(size, dtype=np.int32)
    owner[theirs.place] = theirs.owner + 1
    if not np.array_equal(owner[theirs.place], theirs.owner + 1):
        return None
    other = owner[mine.place]
    shared = np.flatnonzero(other)
    return mine.owner[shared], other[shared].astype(np.int64) - 1


def _counted(rows: Integers, columns: Integers, shape: tuple[int, int], size: int) -> _Shared:
    """Count equal pairs, in a full table while that is no larger than the picture, else in a sparse one."""
    n, m = shape
    keys = rows * m + columns
    if n * m > size:
        # Pixels come line by line within a cell, so equal pairs stand together in runs; adding up those is much less work.
        starts = np.concatenate([np.zeros(min(1, len(keys)), dtype=np.int64), np.flatnonzero(np.diff(keys)) + 1])
        lengths = np.diff(np.append(starts, len(keys)))
        return _stored(sparse.csr_array((lengths, (rows[starts], columns[starts])), shape=shape))
    counts = np.bincount(keys, minlength=n * m)
    found = np.flatnonzero(counts)
    return _Shared(*np.divmod(found, m), counts[found])


def _stored(table: sparse.csr_array) -> _Shared:
    pairs = table.tocoo()
    return _Shared(pairs.row.astype(np.int64), pairs.col.astype(np.int64), pairs.data)


def _incidence(pixels: _Pixels, cells: int, size: int) -> sparse.csr_array:
    ones = np.ones(len(pixels.place), dtype=np.int64)
    return sparse.csr_array((ones, (pixels.owner, pixels.place)), shape=(cells, size))


def _shared_labels(truth: NDArray[np.integer], prediction: NDArray[np.integer]) -> tuple[_Shared, Integers, Integers]:
    """Find the overlaps of labels, and the pixels of each; positions go by ascending label."""
    for array in (truth, prediction):
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            found = f"an array of shape {array.shape} and type {array.dtype}"
            raise InputError("label picture", expected="whole numbers, height x width", found=found)
    if truth.shape != prediction.shape:
        expected, found = _size((truth.shape[0], truth.shape[1])), _size((prediction.shape[0], prediction.shape[1]))
        raise InputError("label pictures", expected=f"two of one size, {expected}", found=found)
    mine, theirs = _small(truth.ravel()), _small(prediction.ravel())
    cells = np.flatnonzero((mine != 0) | (theirs != 0))
    rows, columns = mine[cells].astype(np.int64), theirs[cells].astype(np.int64)
    true_areas, predicted_areas = np.bincount(rows, minlength=1), np.bincount(columns, minlength=1)
    true_areas[0] = predicted_areas[0] = 0
    shared = _counted(rows, columns, (len(true_areas), len(predicted_areas)), mine.size)
    both = np.flatnonzero((shared.rows > 0) & (shared.columns > 0))
    true, predicted = true_areas > 0, predicted_areas > 0
    rows, columns = (np.cumsum(true) - 1)[shared.rows[both]], (np.cumsum(predicted) - 1)[shared.columns[both]]
    return _Shared(rows, columns, shared.pixels[both]), true_areas[true], predicted_areas[predicted]


def _small(labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Give labels that can be counted by value: negative or very large ones are replaced by their rank, 0 stays 0."""
    if not labels.size or (labels.min() >= 0 and int(labels.max()) <= 2**16 + labels.size):
        return labels
    values, ranks = np.unique(np.concatenate([labels, np.zeros(1, dtype=labels.dtype)]), return_inverse=True)
    zero = int(np.searchsorted(values, 0))
    return np.where(ranks < zero, ranks + 1, np.where(ranks == zero, 0, ranks))[:-1]


def _ious(shared: _Shared, true_areas: Integers, predicted_areas: Integers) -> _Candidates:
    union = true_areas[shared.rows] + predicted_areas[shared.columns] - shared.pixels
    return _Candidates(shared.rows, shared.columns, shared.pixels / union)


# --- the best one-to-one matching


def _best_iou(candidates: _Candidates, threshold: float, n: int, m: int) -> Matching:
    # The division is correctly rounded, so 7 of 10 pixels are exactly the 0.7 that a user writes.
    enough = candidates.values >= threshold
    chosen = _Candidates(candidates.rows[enough], candidates.columns[enough], candidates.values[enough])
    return _matching(chosen, 1.0 - chosen.values, n, m)


def _matching(candidates: _Candidates, cost: Floats, n: int, m: int) -> Matching:
    taken = _assigned(candidates.rows, candidates.columns, cost)
    order = taken[np.argsort(candidates.rows[taken])]
    pairs = np.stack([candidates.rows[order], candidates.columns[order]], axis=1)
    return Matching(pairs, candidates.values[order], n, m)


def _assigned(rows: Integers, columns: Integers, cost: Floats) -> Integers:
    """Choose candidates, each row and column at most once: as many as can be, and of these the cheapest in sum.

    Every row has a place of its own to go to if it finds no partner, so that a complete assignment always exists. That place
    costs more than all partners together could (each costs 0 to 1), so it is taken only where there is no other way.
    """
    if not len(rows):
        return np.empty(0, dtype=np.int64)
    alone = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    rivals = np.flatnonzero(~alone)
    if not len(rivals):
        return np.flatnonzero(alone)
    _, row = np.unique(rows[rivals], return_inverse=True)
    _, column = np.unique(columns[rivals], return_inverse=True)
    n, m = int(row.max()) + 1, int(column.max()) + 1
    # One is added to every cost, since a sparse matrix does not tell a cost of zero from no candidate.
    costs = np.concatenate([cost[rivals] + 1.0, np.full(n, min(n, m) + 3.0)])
    graph = sparse.csr_array(
        (costs, (np.concatenate([row, np.arange(n)]), np.concatenate([column, m + np.arange(n)]))), shape=(n, m + n)
    )
    found_row, found_column = min_weight_full_bipartite_matching(graph)
    partner = np.full(n, -1)
    partner[found_row] = found_column
    return np.sort(np.concatenate([np.flatnonzero(alone), rivals[partner[row] == column]]))


# --- the published procedure (Clissa et al., FNC v2), faults and all


def _published_iou(truth: AnnotatedImage, prediction: AnnotatedImage, threshold: float) -> Tally:
    shared, true_areas, predicted_areas = _shared_labels(truth.labels, prediction.labels)
    rows, columns, values = _ious(shared, true_areas, predicted_areas)
    # The lowest value of a picture is taken for the background, even where there is none.
    first_row, first_column = int(bool(truth.labels.all())), int(bool(prediction.labels.all()))
    kept = (rows >= first_row) & (columns >= first_column)
    best_of_true, best_of_predicted = np.zeros(len(true_areas)), np.zeros(len(predicted_areas))
    np.maximum.at(best_of_true, rows[kept], values[kept])
    np.maximum.at(best_of_predicted, columns[kept], values[kept])
    found = best_of_true[first_row:] > threshold
    extra = best_of_predicted[first_column:] <= threshold
    return Tally(int(found.sum()), int(extra.sum()), int((~found).sum()), _PUBLISHED_EPSILON)


def _published_centres(truth: AnnotatedImage, prediction: AnnotatedImage, distance: float) -> Tally:
    true, predicted = _label_centres(truth.labels), _label_centres(prediction.labels)
    found = _nearest(true, predicted) <= distance
    extra = _nearest(predicted, true) > distance
    return Tally(int(found.sum()), int(extra.sum()), int((~found).sum()), _PUBLISHED_EPSILON)


def _label_centres(labels: NDArray[np.int32]) -> Floats:
    y, x = np.nonzero(labels)
    _, ranks, areas = np.unique(labels[y, x], return_inverse=True, return_counts=True)
    return np.stack([np.bincount(ranks, weights=x), np.bincount(ranks, weights=y)], axis=1) / areas[:, np.newaxis]


def _nearest(points: Floats, others: Floats) -> Floats:
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    distances, _ = cKDTree(others).query(points)
    return np.asarray(distances, dtype=np.float64)


# --- scores


def _score_all(
    pairs: Sequence[tuple[AnnotatedImage, AnnotatedImage]], settings: EvaluateSettings
) -> Iterable[PictureScore]:
    if settings.workers == 1:
        return (_score(truth, prediction, settings) for truth, prediction in pairs)
    import joblib  # slow to import, and one process does not need it

    parallel = joblib.Parallel(n_jobs=settings.workers, return_as="generator")
    scores: Iterable[PictureScore] = parallel(joblib.delayed(_score)(*pair, settings) for pair in pairs)
    return scores


def _score(truth: AnnotatedImage, prediction: AnnotatedImage, settings: EvaluateSettings) -> PictureScore:
    # Fresh copies forget their pixels when the picture is done; with many pictures the memory would fill up.
    truth, prediction = replace(truth), replace(prediction)
    if settings.rule == "published":
        segmentation = _published_iou(truth, prediction, settings.iou)
        detection = _published_centres(truth, prediction, settings.distance)
    else:
        segmentation = match_iou(truth, prediction, settings.iou).tally
        detection = match_centres(truth, prediction, settings.distance).tally
    return PictureScore(truth.name, len(truth.cells), len(prediction.cells), segmentation, detection)


def _epsilon(rule: str) -> float:
    return _PUBLISHED_EPSILON if rule == "published" else 0.0


def _table(scores: Iterable[PictureScore], rule: str) -> Integers:
    """One row a picture: tp, fp, fn of segmentation, of detection, then the counts of true and predicted cells."""
    rows = []
    for score in scores:
        segmentation, detection = score.segmentation, score.detection
        counts = (score.n_true, score.n_predicted)
        if rule == "published":
            counts = (segmentation.tp + detection.fn, detection.tp + detection.fn)
        rows.append((*segmentation.as_dict().values(), *detection.as_dict().values(), *counts))
    return np.array(rows, dtype=np.int64)


def _summary(table: Integers, epsilon: float) -> tuple[Tally, Tally, Counting]:
    tp, fp, fn, near_tp, near_fp, near_fn = (int(total) for total in table[:, :6].sum(axis=0))
    true, predicted = table[:, 6], table[:, 7]
    errors = predicted - true
    counting = Counting(
        mae=float(np.abs(errors).mean()),
        medae=float(np.median(np.abs(errors))),
        mpe=float((errors / np.maximum(true, 1)).mean()),
        bias=float(errors.mean()),
    )
    return Tally(tp, fp, fn, epsilon), Tally(near_tp, near_fp, near_fn, epsilon), counting


def _intervals(table: Integers, settings: EvaluateSettings) -> dict[str, dict[str, Interval]]:
    """Percentiles of the scores over resamples of the pictures; resamples without a value are passed over."""
    rng = np.random.default_rng(settings.seed)
    pictures = len(table)
    resamples = settings.bootstrap if pictures > 1 else 0
    summaries = [
        _summary(table[rng.integers(0, pictures, pictures)], _epsilon(settings.rule)) for _ in range(resamples)
    ]
    observed = _summary(table, _epsilon(settings.rule))
    tasks = (("segmentation", _RATIOS), ("detection", _RATIOS), ("counting", _ERRORS))
    return {
        task: {
            name: _interval(getattr(observed[place], name), [getattr(s[place], name) for s in summaries], settings)
            for name in names
        }
        for place, (task, names) in enumerate(tasks)
    }


def _interval(observed: float | None, values: Sequence[float | None], settings: EvaluateSettings) -> Interval:
    known = [value for value in values if value is not None]
    if observed is None or not known:
        return None
    tail = 50 * (1 - settings.confidence)
    low, high = np.percentile(known, (tail, 100 - tail))
    return float(low), float(high)
