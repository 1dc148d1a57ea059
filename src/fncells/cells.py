"""The one value that passes through fncells: cells outlined on a picture.

Coordinates are x to the right and y downward, in pixels, with pixel *centres* at whole numbers: the top-left pixel's
centre is (0, 0). Outlines run through the centres of the border pixels, and filling includes the border, as OpenCV does
and as the published masks were made (Clissa et al., Fluorescent Neuronal Cells v2).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.errors import InputError

__all__ = ["AnnotatedImage", "Cell", "Region", "draw", "outline", "trace"]

SHAPES = frozenset({"polygon", "rect", "circle", "ellipse", "polyline", "point"})

Array = TypeVar("Array", bound=NDArray[np.generic])

_LARGEST_NUMBER = np.iinfo(np.int32).max
_FARTHEST = 1e7  # px; OpenCV fills in fixed point and overflows some way beyond


class Region(NamedTuple):
    """Pixels of one cell, within a box around them.

    Parameters
    ----------
    mask
        bool, shape (height, width) of the box.
    left, top
        Column and row of the box's first pixel in the picture.
    """

    mask: NDArray[np.bool_]
    left: int
    top: int


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One annotated or detected cell.

    Parameters
    ----------
    rings
        Outlines, each of shape (n, 2) with columns x, y in pixels. All rings together are filled by the even-odd rule, so
        a ring inside another is a hole, and separate rings are parts of one cell. The arrays are made read-only.
    number
        The cell's value in a label picture, at least 1; None takes the lowest free number of its picture.
    marker
        The stain that shows the cell, where known.
    score
        The detector's confidence, 0 to 1; None for annotations.
    attributes
        Whatever else the source says of the cell.
    source_shape
        What the annotator drew: polygon, rect, circle, ellipse, polyline or point. A *point* is a dot: it is counted, has
        no area and is never drawn.
    """

    rings: tuple[NDArray[np.float64], ...]
    number: int | None = None
    marker: str | None = None
    score: float | None = None
    attributes: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    source_shape: str = "polygon"

    def __post_init__(self) -> None:
        if self.source_shape not in SHAPES:
            raise InputError(
                "cell", expected=f"a shape out of {', '.join(sorted(SHAPES))}", found=repr(self.source_shape)
            )
        if self.number is not None and not 1 <= self.number <= _LARGEST_NUMBER:
            raise InputError("cell", expected=f"a number from 1 to {_LARGEST_NUMBER}", found=str(self.number))
        object.__setattr__(self, "rings", tuple(_as_ring(ring) for ring in self.rings))

    @property
    def is_dot(self) -> bool:
        """Whether this is a dot: a place that is counted and has no area."""
        return self.source_shape == "point"

    def same_as(self, other: "Cell") -> bool:
        """Whether both cells agree in every vertex and every other field."""
        return (
            len(self.rings) == len(other.rings)
            and all(np.array_equal(mine, theirs) for mine, theirs in zip(self.rings, other.rings, strict=True))
            and (self.number, self.marker, self.score) == (other.number, other.marker, other.score)
            and self.source_shape == other.source_shape
            and dict(self.attributes) == dict(other.attributes)
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the fields: a read-only view of a mapping cannot cross to a worker process as it is."""
        return (Cell, (self.rings, self.number, self.marker, self.score, dict(self.attributes), self.source_shape))


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """A picture's cells, without its pixels.

    Parameters
    ----------
    name
        The picture's file name relative to its folder, with forward slashes.
    shape
        Height and width in pixels; None while unknown (some annotation files do not hold it).
    cells
        In the order of the source.
    attributes
        Whatever else the source says of the picture.
    """

    name: str
    shape: tuple[int, int] | None
    cells: tuple[Cell, ...]
    attributes: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def from_labels(cls, name: str, labels: NDArray[np.integer]) -> "AnnotatedImage":
        """Trace a label picture (0 is background), keeping its values as the cells' numbers."""
        return cls._traced(name, labels)

    @classmethod
    def from_mask(cls, name: str, mask: NDArray[np.bool_]) -> "AnnotatedImage":
        """Trace a binary mask, one cell an 8-connected component, numbered in raster order of their first pixels."""
        return cls._traced(name, np.asarray(mask, dtype=bool))

    @classmethod
    def _traced(cls, name: str, array: NDArray[Any]) -> "AnnotatedImage":
        cells = trace(array)
        height, width = array.shape
        return cls(name, (height, width), cells)

    @property
    def stem(self) -> str:
        """The name without its suffix; sub-folders stay."""
        return str(PurePosixPath(self.name).with_suffix(""))

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Label value of each cell, shape (n,); cells without a number get the lowest free ones, in order."""
        return np.array(_numbers(self.cells), dtype=np.int64)

    @cached_property
    def regions(self) -> tuple[Region | None, ...]:
        """Each cell's own pixels in a box around them; None where it has none.

        Overlaps count for both cells; dots have none. Parts outside the picture are cut off.
        """
        height, width = self._known_shape
        return tuple(_filled(cell, height, width) for cell in self.cells)

    @cached_property
    def pixels(self) -> tuple[NDArray[np.int64], ...]:
        """Each cell's own pixels as ascending flat indices (y times width plus x); see :attr:`regions`."""
        width = self._known_shape[1]
        return tuple(_indices(region, width) for region in self.regions)

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """Label picture of shape (height, width), 0 for background; where cells overlap the later one is drawn over."""
        height, width = self._known_shape
        labels = np.zeros(height * width, dtype=np.int32)
        for number, indices in zip(self.numbers, self.pixels, strict=True):
            labels[indices] = number
        return _read_only(labels.reshape(height, width))

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Which pixels belong to any cell, shape (height, width)."""
        return _read_only(self.labels > 0)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Number of each cell's own pixels, shape (n,); 0 for dots."""
        return np.array(
            [0 if region is None else cv2.countNonZero(_bytes(region)) for region in self.regions], np.int64
        )

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Mean x, y of each cell's own pixels, shape (n, 2); of its vertices where it has no pixels, so a dot's own point."""
        centres = np.empty((len(self.cells), 2))
        for row, (cell, region) in enumerate(zip(self.cells, self._regions_if_needed, strict=True)):
            if region is not None:
                sums = cv2.moments(_bytes(region), binaryImage=True)
                n = sums["m00"]
                centres[row] = (sums["m10"] + n * region.left) / n, (sums["m01"] + n * region.top) / n
            else:
                centres[row] = np.concatenate(cell.rings).mean(axis=0) if cell.rings else np.nan
        return centres

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """x_min, y_min, x_max, y_max, inclusive, of each cell's own pixels, or of its vertices without any; shape (n, 4)."""
        boxes = np.zeros((len(self.cells), 4), dtype=np.int64)
        for row, (cell, region) in enumerate(zip(self.cells, self._regions_if_needed, strict=True)):
            if region is not None:
                x, y, width, height = cv2.boundingRect(_bytes(region))
                left, top = x + region.left, y + region.top
                boxes[row] = left, top, left + width - 1, top + height - 1
            elif cell.rings:
                corners = _rounded(np.concatenate(cell.rings))
                boxes[row] = *corners.min(axis=0), *corners.max(axis=0)
        return boxes

    @property
    def _regions_if_needed(self) -> tuple[Region | None, ...]:
        """Regions; where all cells are dots none, also on a picture of unknown shape."""
        return (None,) * len(self.cells) if all(cell.is_dot for cell in self.cells) else self.regions

    def with_shape(self, shape: tuple[int, int]) -> "AnnotatedImage":
        """Give the same cells on a picture of the given height and width."""
        return replace(self, shape=shape)

    def same_as(self, other: "AnnotatedImage") -> bool:
        """Whether name, shape, attributes and every cell agree."""
        return (
            (self.name, self.shape, len(self.cells)) == (other.name, other.shape, len(other.cells))
            and dict(self.attributes) == dict(other.attributes)
            and all(mine.same_as(theirs) for mine, theirs in zip(self.cells, other.cells, strict=True))
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from few large parts, which cross to a worker process faster than thousands of small arrays."""
        rings = [ring for cell in self.cells for ring in cell.rings]
        points = np.concatenate(rings) if rings else np.empty((0, 2))
        told = [(cell.number, cell.marker, cell.score, dict(cell.attributes), cell.source_shape) for cell in self.cells]
        lengths = [[len(ring) for ring in cell.rings] for cell in self.cells]
        return _unpacked, (self.name, self.shape, dict(self.attributes), told, lengths, points)

    @property
    def _known_shape(self) -> tuple[int, int]:
        if self.shape is None:
            raise InputError(
                self.name,
                expected="the picture's height and width",
                found="annotations that do not hold them",
                advice="give the folder of the pictures with --images",
            )
        return self.shape


def trace(array: NDArray[Any]) -> tuple[Cell, ...]:
    """Outline the cells of a mask or label picture; the exact inverse of :func:`draw`.

    Parameters
    ----------
    array
        Shape (height, width). Booleans are a mask: each 8-connected component becomes a cell, numbered in raster order of
        the components' first pixels. Whole numbers are labels: each value above 0 becomes one cell, however many parts it
        has, with the value as its number, in ascending order.

    Returns
    -------
    tuple of Cell
        Polygons with whole-numbered vertices at the centres of border pixels.

    Raises
    ------
    InputError
        If the array is not a picture of booleans or of whole numbers from 0 to 2³¹ − 1.

    Examples
    --------
    >>> labels = np.zeros((4, 5), dtype=np.uint16)
    >>> labels[1:3, 1:4] = 7
    >>> [cell] = trace(labels)
    >>> cell.number, cell.rings[0].tolist()
    (7, [[1.0, 1.0], [1.0, 2.0], [3.0, 2.0], [3.0, 1.0]])
    >>> bool((draw([cell], labels.shape) == labels).all())
    True
    """
    if array.ndim != 2:
        raise InputError(
            "label picture", expected="an array of height x width", found=f"an array of shape {array.shape}"
        )
    if not array.size:
        return ()
    if array.dtype == np.bool_:
        return _components(array)
    if np.issubdtype(array.dtype, np.integer):
        compact, values = _compact(array)
    else:
        raise InputError("label picture", expected="booleans or whole numbers", found=f"values of type {array.dtype}")
    from scipy import ndimage  # slow to import, and only those need it who read label pictures

    cells = []
    for index, box in enumerate(ndimage.find_objects(compact)):
        region = Region(compact[box] == index + 1, box[1].start, box[0].start)
        cells.append(Cell(outline(region), number=values[index]))
    return tuple(cells)


def outline(region: Region) -> tuple[NDArray[np.float64], ...]:
    """Outline the pixels of one cell: its rings, as :func:`trace` gives them, one for each 8-connected part and hole."""
    contours, _ = cv2.findContours(
        region.mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(region.left, region.top)
    )
    return tuple(contour[:, 0, :].astype(np.float64) for contour in contours)


def draw(cells: Iterable[Cell], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Draw cells into a label picture; the exact inverse of :func:`trace`.

    Vertices are rounded to the nearest pixel centre (halves upward), filled by the even-odd rule with the border included
    (the rule of OpenCV's ``fillPoly``). Where cells overlap the later one is drawn over; dots are not drawn.

    Parameters
    ----------
    cells
        Their numbers are the values drawn; cells without one take the lowest free numbers.
    shape
        Height and width of the result in pixels.

    Returns
    -------
    numpy.ndarray
        int32, shape (height, width), read-only, 0 for background.
    """
    return AnnotatedImage("", shape, tuple(cells)).labels


def _unpacked(
    name: str,
    shape: tuple[int, int] | None,
    attributes: Mapping[str, object],
    told: Iterable[tuple[Any, ...]],
    lengths: Iterable[Iterable[int]],
    points: NDArray[np.float64],
) -> AnnotatedImage:
    """Put an image together again; `points` holds all rings one behind the other, of the given lengths a cell."""
    cells, end = [], 0
    for fields, of_cell in zip(told, lengths, strict=True):
        rings = []
        for length in of_cell:
            rings.append(points[end : end + length])
            end += length
        cells.append(Cell(tuple(rings), *fields))
    return AnnotatedImage(name, shape, tuple(cells), attributes)


def _as_ring(points: NDArray[np.float64]) -> NDArray[np.float64]:
    ring = np.array(points, dtype=np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or not len(ring):
        raise InputError("cell", expected="rings of x, y points", found=f"an array of shape {ring.shape}")
    if not np.abs(ring).max() <= _FARTHEST:  # nor is NaN
        raise InputError("cell", expected=f"finite coordinates up to {_FARTHEST:.0e} px", found="others")
    return _read_only(ring)


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _numbers(cells: tuple[Cell, ...]) -> list[int]:
    taken = [cell.number for cell in cells if cell.number is not None]
    if len(set(taken)) < len(taken):
        twice = next(number for number in taken if taken.count(number) > 1)
        raise InputError("cells", expected="each number once", found=f"number {twice} more than once")
    used, free = set(taken), 1
    numbers = []
    for cell in cells:
        if cell.number is not None:
            numbers.append(cell.number)
            continue
        while free in used:
            free += 1
        numbers.append(free)
        free += 1
    return numbers


def _rounded(ring: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(ring + 0.5).astype(np.int64)


def _filled(cell: Cell, height: int, width: int) -> Region | None:
    """Fill within the cell's own box, so that the work is as large as the cell and not as the picture."""
    if cell.is_dot or not cell.rings:
        return None
    rings = [_rounded(ring) for ring in cell.rings]
    corners = np.concatenate(rings)
    left, top = np.maximum(corners.min(axis=0), 0).tolist()
    right, bottom = np.minimum(corners.max(axis=0), (width - 1, height - 1)).tolist()
    if right < left or bottom < top:
        return None
    canvas = np.zeros((bottom - top + 1, right - left + 1), dtype=np.uint8)
    cv2.fillPoly(canvas, [(ring - (left, top)).astype(np.int32) for ring in rings], color=1)
    return Region(_read_only(canvas.view(np.bool_)), left, top) if canvas.any() else None


def _bytes(region: Region) -> NDArray[np.uint8]:
    return region.mask.view(np.uint8)


def _indices(region: Region | None, width: int) -> NDArray[np.int64]:
    if region is None:
        return np.empty(0, dtype=np.int64)
    y, x = np.nonzero(region.mask)
    return _read_only((y + region.top) * width + (x + region.left))


def _components(mask: NDArray[np.bool_]) -> tuple[Cell, ...]:
    """Outline all 8-connected components in one pass, numbered in raster order, which OpenCV's own order is not."""
    contours, nesting = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return ()
    rings = [contour[:, 0, :] for contour in contours]
    parents = nesting[0][:, 3].tolist()
    # The contour of a component begins at its first pixel.
    first = [
        (int(rings[place][0, 1]), int(rings[place][0, 0]), place) for place, parent in enumerate(parents) if parent < 0
    ]
    members = {place: [rings[place]] for _, _, place in sorted(first)}
    for place, parent in enumerate(parents):
        if parent >= 0:
            members[parent].append(rings[place])
    return tuple(
        Cell(tuple(ring.astype(np.float64) for ring in group), number=number)
        for number, group in enumerate(members.values(), 1)
    )


def _compact(labels: NDArray[np.generic]) -> tuple[NDArray[np.int32], list[int]]:
    """Labels renumbered without gaps in ascending order, and the values they had."""
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest > _LARGEST_NUMBER:
        found = f"values from {lowest} to {highest}"
        raise InputError("label picture", expected=f"values from 0 to {_LARGEST_NUMBER}", found=found)
    if highest <= labels.size:
        present = np.zeros(highest + 1, dtype=bool)
        present[labels.ravel()] = True
        present[0] = False
        ranks = np.cumsum(present, dtype=np.int32)
        ranks[~present] = 0
        return ranks[labels], np.flatnonzero(present).tolist()
    values, compact = np.unique(labels, return_inverse=True)
    shift = 0 if values[0] == 0 else 1
    return compact.reshape(labels.shape).astype(np.int32) + np.int32(shift), values[1 - shift :].tolist()
