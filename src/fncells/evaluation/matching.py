"""Which true cell is which predicted one: one-to-one, by IoU or by centres, with as many pairs as can be.

Of all ways to pair cells off, each at most once and only such as are allowed (IoU at least the threshold; centres no farther
apart than the distance), those with the most pairs are best, and among them the one with the greatest total IoU or the least
total distance. Work and memory go with the pixels of the cells and the pairs that touch, never with all pairs of cells.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation.settings import check_distance, check_threshold
from fncells.evaluation.tally import Tally

__all__ = ["Matching", "Overlap", "dots_alone", "match_centres", "match_iou", "match_labels", "one_size", "overlaps"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Centres are means, rounded in their last digits; a distance that is exactly at the limit must not fall to one side by that.
_ROUNDING = 1e-9
# Largest picture, in pixels, for which a value is set aside for every pixel; beyond, only the cells' pixels are sorted.
_LARGEST_CANVAS = 2**28


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


@dataclass(frozen=True, eq=False)
class Overlap:
    """Which true and predicted cells share pixels, and how many; everything that IoU matching needs.

    Attributes
    ----------
    rows, columns
        Shape (k,): positions of a true and a predicted cell that share pixels; each pair once.
    pixels
        Shape (k,): how many pixels they share, 1 or more.
    true_areas, predicted_areas
        Pixels of every cell; 0 for those that take no part.
    """

    rows: Integers
    columns: Integers
    pixels: Integers
    true_areas: Integers
    predicted_areas: Integers

    @classmethod
    def between(cls, truth: AnnotatedImage, prediction: AnnotatedImage) -> "Overlap":
        """Compare the cells of one picture; nothing takes part where a side has dots alone, which say nothing of outlines.

        Raises
        ------
        InputError
            If the two differ in size.
        """
        truth, prediction = one_size(truth, prediction)
        if dots_alone(truth) or dots_alone(prediction):
            nothing = np.empty(0, dtype=np.int64)
            areas = (np.zeros(len(side.cells), dtype=np.int64) for side in (truth, prediction))
            return cls(nothing, nothing, nothing, *areas)
        return cls(*_shared(truth, prediction), truth.areas, prediction.areas)

    @classmethod
    def of_labels(cls, truth: NDArray[np.integer], prediction: NDArray[np.integer]) -> "Overlap":
        """Compare label pictures, shape (height, width); positions count the cells of a side by ascending label.

        Raises
        ------
        InputError
            If the arrays are no label pictures of one size.
        """
        shared, true, predicted = _shared_labels(truth, prediction)
        return cls(*shared, true, predicted)

    @cached_property
    def ious(self) -> Floats:
        """Intersection over union of each pair, shape (k,)."""
        union = self.true_areas[self.rows] + self.predicted_areas[self.columns] - self.pixels
        return np.asarray(self.pixels / union)

    def match(self, threshold: float) -> Matching:
        """Pair the cells off as :func:`match_iou` says, at a threshold above 0 and up to 1."""
        # The division is correctly rounded, so 7 of 10 pixels are exactly the 0.7 that a user writes.
        enough = self.ious >= threshold
        chosen = _Candidates(self.rows[enough], self.columns[enough], self.ious[enough])
        n, m = int((self.true_areas > 0).sum()), int((self.predicted_areas > 0).sum())
        return _matching(chosen, 1.0 - chosen.values, n, m)


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
    truth, prediction = one_size(truth, prediction)
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
    check_threshold(threshold)
    return Overlap.between(truth, prediction).match(threshold)


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
    check_threshold(threshold)
    return Overlap.of_labels(truth, prediction).match(threshold)


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
    check_distance(distance)
    truth, prediction = one_size(truth, prediction)
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


def dots_alone(image: AnnotatedImage) -> bool:
    """Tell whether a picture is annotated with dots and nothing else, which says nothing of outlines."""
    return bool(image.cells) and all(cell.is_dot for cell in image.cells)


# --- one size for both


def one_size(truth: AnnotatedImage, prediction: AnnotatedImage) -> tuple[AnnotatedImage, AnnotatedImage]:
    """Give both the size that either knows; neither: that of the smallest picture around all their vertices.

    Raises
    ------
    InputError
        If they know different sizes.
    """
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


# --- the best one-to-one matching


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
