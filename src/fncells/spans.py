"""Cells as spans, the rows of neighbouring pixels that they are made of, and the geometry of all cells of a picture at once.

A picture of 300 cells has some 7,000 spans, where it has 2,000,000 pixels: everything here is worked out on the spans, with a
fixed number of array operations however many cells there are. Definitions and sources are in ``docs/measures.md``.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage
from fncells.errors import InputError

__all__ = ["Feret", "Spans", "ellipses", "ferets", "parts_and_holes", "perimeters", "spans_of_cells", "spans_of_labels"]

Integers = NDArray[np.int64]
Numbers = NDArray[np.float64]

_LARGEST_LABEL = np.iinfo(np.int32).max
_MOST_ARE_DONE = 8  # turns


@dataclass(frozen=True, eq=False)
class Spans:
    """The pixels of all cells that have any, row by row.

    Attributes
    ----------
    number
        Value of each cell in the label picture, or its place among the cells, shape (m,).
    start
        Where each cell's spans begin, shape (m + 1,).
    y, left, right
        Row, first and last pixel of each span, shape (r,); by cell, row and column. Spans of one row do not touch.
    """

    number: Integers
    start: Integers
    y: Integers
    left: Integers
    right: Integers

    def __len__(self) -> int:
        return len(self.number)

    @cached_property
    def cell(self) -> Integers:
        """Which cell each span belongs to, as a position in `number`, shape (r,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    @cached_property
    def length(self) -> Integers:
        """Pixels of each span, shape (r,)."""
        return self.right - self.left + 1

    @cached_property
    def areas(self) -> Integers:
        """Pixels of each cell, shape (m,)."""
        return self.total(self.length)

    @cached_property
    def boxes(self) -> Integers:
        """x_min, y_min, x_max, y_max, inclusive, shape (m, 4)."""
        if not len(self):
            return np.empty((0, 4), dtype=np.int64)
        first = self.start[:-1]
        x_min, x_max = np.minimum.reduceat(self.left, first), np.maximum.reduceat(self.right, first)
        return np.stack([x_min, self.y[first], x_max, self.y[self.start[1:] - 1]], axis=1)

    @cached_property
    def centres(self) -> Numbers:
        """Mean x, y of each cell's pixels, shape (m, 2)."""
        corner = self.boxes[:, :2]
        # From the box's corner the sums are small whole numbers, and exact.
        twice_x = self.total(self.length * (self.left + self.right - 2 * corner[self.cell, 0]))
        y = self.total(self.length * (self.y - corner[self.cell, 1]))
        return np.asarray(corner + np.stack([twice_x / (2 * self.areas), y / self.areas], axis=1), dtype=np.float64)

    def total(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum one value a span over each cell, shape (m,)."""
        return np.add.reduceat(values, self.start[:-1]) if len(self) else values[:0]

    def pixels(self, width: int) -> Integers:
        """All pixels as flat indices of a picture of that width, each cell's ascending; shape (sum of areas,)."""
        return _expanded(self.y * width + self.left, self.length)

    @cached_property
    def placed(self) -> "_Placed":
        """The spans on a strip where every cell has a box of its own."""
        x_min, y_min, x_max, y_max = self.boxes.T
        stride = x_max - x_min + 3
        size = stride * (y_max - y_min + 3)
        base = np.cumsum(size) - size
        shift = (base + (1 - y_min) * stride - x_min + 1)[self.cell] + self.y * stride[self.cell]
        return _Placed(base, stride[self.cell], shift + self.left, shift + self.right)


class _Placed(NamedTuple):
    """Where spans lie on a strip of boxes one after the other, each with a rim of one pixel, and so apart from all others.

    The strip is never made: its positions only order the spans, and tell which lie below which.

    Attributes
    ----------
    base
        Where each cell's box begins, shape (m,).
    stride
        Width of the box around each span, shape (r,): what lies below is so much further on.
    begin, end
        First and last position of each span, ascending, shape (r,).
    """

    base: Integers
    stride: Integers
    begin: Integers
    end: Integers

    def meeting(self, distance: Integers, reach: int) -> tuple[Integers, Integers]:
        """Give the range of spans that each span meets when it is moved by a distance and made longer at both ends."""
        first = np.searchsorted(self.end, self.begin + distance - reach)
        return first, np.searchsorted(self.begin, self.end + distance + reach, side="right")


def spans_of_labels(labels: NDArray[Any]) -> Spans:
    """Take the spans of a label picture, or of the components of a mask.

    Parameters
    ----------
    labels
        Shape (height, width). Whole numbers are labels, 0 is background: each value is one cell, however many parts it has.
        Booleans are a mask: each 8-connected component is one cell, numbered in raster order of their first pixels.

    Returns
    -------
    Spans
        In ascending order of the labels.

    Raises
    ------
    InputError
        If the array is not a picture of booleans or of whole numbers from 0 to 2³¹ − 1.
    """
    if labels.ndim != 2:
        found = f"an array of shape {labels.shape}"
        raise InputError("label picture", expected="an array of height x width", found=found)
    if not (labels.dtype == np.bool_ or np.issubdtype(labels.dtype, np.integer)):
        raise InputError("label picture", expected="booleans or whole numbers", found=f"values of type {labels.dtype}")
    height, width = labels.shape
    flat = np.ascontiguousarray(labels).ravel()
    new = np.ones(flat.size, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=new[1:])
    new.reshape(height, width)[:, :1] = True
    begin = np.flatnonzero(new)
    value = flat[begin]
    end = np.append(begin, flat.size)[1:] - 1
    if len(value) and (value.min() < 0 or value.max() > _LARGEST_LABEL):
        found = f"values from {value.min()} to {value.max()}"
        raise InputError("label picture", expected=f"values from 0 to {_LARGEST_LABEL}", found=found)
    kept = value > 0
    value, begin, end = value[kept], begin[kept], end[kept]
    y = begin // max(width, 1)
    left, right = begin - y * width, end - y * width
    return _sorted(_components(y, left, right) if labels.dtype == np.bool_ else value, y, left, right)


def spans_of_cells(image: AnnotatedImage) -> Spans:
    """Take the spans of each cell's own pixels, whatever overlaps them.

    Parameters
    ----------
    image
        The cells; the picture's shape must be known.

    Returns
    -------
    Spans
        Without cells that have no pixel; ``number`` is the place among the image's cells.

    Raises
    ------
    InputError
        If the picture's shape is unknown.
    """
    owner = np.flatnonzero(image.areas)
    width = image.shape[1] if image.shape else 1
    flat = np.concatenate([image.pixels[index] for index in owner]) if len(owner) else np.empty(0, dtype=np.int64)
    new = np.ones(len(flat), dtype=bool)
    new[1:] = np.diff(flat) != 1
    ends = np.cumsum(image.areas[owner])
    new[ends[:-1]] = True
    new |= flat % width == 0
    begin = np.flatnonzero(new)
    last = np.append(begin, len(flat))[1:] - 1
    y = flat[begin] // width
    start = np.searchsorted(begin, np.concatenate([[0], ends]))
    return Spans(owner, start, y, flat[begin] - y * width, flat[last] - y * width)


def _sorted(value: NDArray[Any], y: Integers, left: Integers, right: Integers) -> Spans:
    """Bring spans in raster order into the order of their cells."""
    order = np.argsort(value, kind="stable")
    value = value[order]
    first = np.flatnonzero(np.append(True, value[1:] != value[:-1])) if len(value) else np.empty(0, dtype=np.int64)
    return Spans(value[first].astype(np.int64), np.append(first, len(value)), y[order], left[order], right[order])


def _components(y: Integers, left: Integers, right: Integers) -> Integers:
    """Give the number of the 8-connected component of each span of a mask; components in raster order, from 1."""
    whole = Spans(np.ones(min(len(y), 1), dtype=np.int64), np.unique([0, len(y)]), y, left, right)
    if not len(y):
        return y
    component = _connected(*whole.placed.meeting(whole.placed.stride, 1))
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1)
    return rank[inverse]


def _connected(first: Integers, last: Integers) -> Integers:
    """Tell which connected component each span belongs to, given the range of spans that it meets in the row below."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number = last - first
    one, other = np.repeat(np.arange(len(first)), number), _expanded(first, number)
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(len(first), len(first)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _expanded(begin: Integers, number: Integers) -> Integers:
    """Count up from each beginning, so many steps."""
    total = int(number.sum())
    return np.asarray(np.arange(total) + np.repeat(begin - (np.cumsum(number) - number), number))


# ------------------------------------------------------------------------------------------------------------------ measures


def parts_and_holes(spans: Spans) -> tuple[Integers, Integers]:
    """Count the 8-connected parts of each cell, and the 4-connected backgrounds that it encloses; shape (m,) each.

    Spans that meet make a graph with a node a span: as many of its cycles as are independent are holes (Euler's formula).
    """
    first, last = spans.placed.meeting(spans.placed.stride, 1)
    number, links = np.diff(spans.start), spans.total(last - first)
    parts = number - links  # where each row is one span there are no cycles
    beside = np.flatnonzero((spans.y[1:] == spans.y[:-1]) & (spans.cell[1:] == spans.cell[:-1]))
    if len(beside):
        several = np.zeros(len(spans), dtype=bool)
        several[spans.cell[beside]] = True
        chosen = several[spans.cell]
        # The spans left out belong to other cells, so that ranges only move up.
        skipped = np.concatenate([[0], np.cumsum(~chosen)])
        component = _connected(first[chosen] - skipped[first[chosen]], last[chosen] - skipped[last[chosen]])
        _, leader = np.unique(component, return_index=True)
        parts[several] = np.bincount(spans.cell[chosen][leader], minlength=len(spans))[several]
    return parts, links - number + parts


_BORDER_LENGTHS = np.zeros(64)
_BORDER_LENGTHS[[5, 7, 15, 17, 25, 27]] = 1
_BORDER_LENGTHS[[21, 33]] = np.sqrt(2)
_BORDER_LENGTHS[[13, 23]] = (1 + np.sqrt(2)) / 2


def perimeters(spans: Spans) -> Numbers:
    """Length of the line through the centres of each cell's border pixels, shape (m,).

    Border pixels are those with a 4-neighbour outside the cell; each adds what follows from how many of its 8 neighbours are
    border pixels (Benkrid and Crookes, "Design and FPGA implementation of a perimeter estimator", 2000), as in scikit-image.
    """
    begin, end = _border(spans.placed)
    place = _expanded(begin, end - begin + 1)
    cell = np.repeat(np.searchsorted(spans.placed.base, begin, side="right") - 1, end - begin + 1)
    stride = (spans.boxes[:, 2] - spans.boxes[:, 0] + 3)[cell]
    # 1 for the pixel itself, 2 for each neighbour beside, above and below, 10 for each at a corner.
    code = np.ones(len(place), dtype=np.int64)
    beside = place[1:] - place[:-1] == 1
    code[1:] += 2 * beside
    code[:-1] += 2 * beside
    below = np.searchsorted(place, place + stride - 1)
    for candidate in (below, below + 1, below + 2):
        there = np.flatnonzero(candidate < len(place))
        shift = place[candidate[there]] - place[there] - stride[there]
        meets = np.abs(shift) <= 1
        worth = np.where(shift[meets] == 0, 2, 10)
        code[there[meets]] += worth
        np.add.at(code, candidate[there[meets]], worth)  # one pixel may lie below several
    return np.bincount(cell, _BORDER_LENGTHS[code], minlength=len(spans)).astype(np.float64, copy=False)


def _border(placed: _Placed) -> tuple[Integers, Integers]:
    """Spans of the border pixels on the strip: what is left of each span without the pixels that have neighbours all around."""
    above, above_end = placed.meeting(-placed.stride, 0)
    below, below_end = placed.meeting(placed.stride, 0)
    above_count, below_count = above_end - above, below_end - below
    number = above_count * below_count
    span = np.repeat(np.arange(len(number)), number)
    which = _expanded(np.zeros_like(number), number)
    over, under = above[span] + which // below_count[span], below[span] + which % below_count[span]
    stride = placed.stride[span]
    first = np.maximum(placed.begin[span] + 1, np.maximum(placed.begin[over] + stride, placed.begin[under] - stride))
    last = np.minimum(placed.end[span] - 1, np.minimum(placed.end[over] + stride, placed.end[under] - stride))
    inner = first <= last
    begin = np.sort(np.concatenate([placed.begin, last[inner] + 1]), kind="stable")
    return begin, np.sort(np.concatenate([placed.end, first[inner] - 1]), kind="stable")


def ellipses(spans: Spans) -> tuple[Numbers, Numbers, Numbers]:
    """Axes of the ellipse with the same second moments as the pixels' centres, and its direction.

    Returns
    -------
    tuple of numpy.ndarray
        Major and minor axis in pixels, and the angle of the major one in degrees, counter-clockwise from the x axis as seen,
        0 to 180; shape (m,) each.
    """
    mean_x, mean_y = spans.centres.T
    x = (spans.left + spans.right) / 2 - mean_x[spans.cell]
    y = spans.y - mean_y[spans.cell]
    n = spans.length.astype(np.float64)
    # n pixels in a row have the second moment of their middle, and (n² − 1) / 12 about it.
    xx = spans.total(n * (x * x + (n * n - 1) / 12)) / spans.areas
    yy, xy = spans.total(n * y * y) / spans.areas, spans.total(n * x * y) / spans.areas
    middle, spread = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    # y points down in the picture and angles are counted as seen, so the sign of the mixed moment is turned.
    angle = np.degrees(np.arctan2(-2 * xy, xx - yy) / 2) % 180
    return 4 * np.sqrt(middle + spread), 4 * np.sqrt(np.maximum(middle - spread, 0)), angle


class Feret(NamedTuple):
    """Extents of the cells' convex hulls, shape (m,) each.

    Attributes
    ----------
    largest, smallest
        Largest and smallest width, in pixels.
    angle
        Direction of the largest in degrees, counter-clockwise from the x axis as seen, 0 to 180; of several equally long ones
        the smallest angle.
    convex_area
        Pixels of the convex hull.
    convex_perimeter
        Length of the hull's outline, in pixels.
    """

    largest: Numbers
    smallest: Numbers
    angle: Numbers
    convex_area: Integers
    convex_perimeter: Numbers


def ferets(spans: Spans) -> Feret:
    """Measure the convex hulls of cells.

    As in scikit-image the hull goes through the middles of the pixels' edges, the pixels whose centres it holds make the hull
    drawn in pixels, and the diameters are those of the line midway between its pixels and the others.
    """
    hull = _convex(_rows(spans))
    area = np.bincount(hull.cell, hull.right - hull.left + 1, minlength=len(spans)).astype(np.int64)
    return _calipers(_polygons(hull, len(spans)), area)


class _Rows(NamedTuple):
    """First and last pixel of rows, by cell and row; each of shape (r,)."""

    cell: Integers
    y: Integers
    left: Integers
    right: Integers


class _Chains(NamedTuple):
    """Sides of hulls in half pixels, where all corners are whole numbers: chain, row and place of points, shape (p,) each.

    Chain c is the left side of cell c, with x as the place; chain m + c is its right side, with −x.
    """

    chain: Integers
    y: Integers
    place: Integers

    def where(self, chosen: NDArray[Any]) -> "_Chains":
        """Take some of the points."""
        return _Chains(self.chain[chosen], self.y[chosen], self.place[chosen])


class _Polygons(NamedTuple):
    """Corners of convex polygons in half pixels, counter-clockwise as seen, shape (k,) each; polygon i begins at start[i]."""

    cell: Integers
    start: Integers
    x: Integers
    y: Integers


def _rows(spans: Spans) -> _Rows:
    new = np.ones(len(spans.y) + 1, dtype=bool)
    new[1:-1] = (spans.y[1:] != spans.y[:-1]) | (spans.cell[1:] != spans.cell[:-1])
    first, last = np.flatnonzero(new[:-1]), np.flatnonzero(new[1:])
    return _Rows(spans.cell[first], spans.y[first], spans.left[first], spans.right[last])


def _sides(rows: _Rows, number: int) -> _Chains:
    """Corners of both sides of the hulls through the middles of the pixels' edges."""
    chain = np.concatenate([rows.cell, rows.cell + number])
    y = np.concatenate([rows.y, rows.y])
    edge = np.concatenate([rows.left, -rows.right])
    follows = np.zeros(len(y) + 1, dtype=bool)
    follows[1:-1] = (chain[1:] == chain[:-1]) & (y[1:] == y[:-1] + 1)
    # Above each row its upper edge, or that of the row before if it is further out; below it one only where no row follows.
    above = edge.copy()
    np.minimum(edge[1:], edge[:-1], out=above[1:], where=follows[1:-1])
    last = ~follows[1:]
    at = 2 * np.arange(len(y)) + np.cumsum(last) - last
    points = np.empty((3, 2 * len(y) + int(last.sum())), dtype=np.int64)
    points[:, at] = chain, 2 * y - 1, 2 * above
    points[:, at + 1] = chain, 2 * y, 2 * edge - 1
    points[:, at[last] + 2] = chain[last], 2 * y[last] + 1, 2 * edge[last]
    return _hulls(_Chains(*points), 2 * number)


def _hulls(points: _Chains, number: int) -> _Chains:
    """Leave of each chain what lies on its convex hull, seen from the side of small places.

    A point on or beyond the line between two others is no corner of the hull. All such are dropped at once, and again among
    those that stay, until nothing changes.
    """
    done: list[_Chains] = []
    for turn in count(1):
        chain, y, place = points
        beyond = (place[1:-1] - place[:-2]) * (y[2:] - y[:-2]) >= (place[2:] - place[:-2]) * (y[1:-1] - y[:-2])
        drop = np.zeros(len(y), dtype=bool)
        np.logical_and(beyond, chain[2:] == chain[:-2], out=drop[1:-1])
        if not drop.any():
            break
        kept = ~drop
        if turn % _MOST_ARE_DONE == 0:
            # The few chains that go on must not take all others along.
            busy = np.zeros(number, dtype=bool)
            busy[chain[drop]] = True
            done.append(points.where(~busy[chain]))
            kept &= busy[chain]
        points = points.where(kept)
    if not done:
        return points
    together = _Chains(*map(np.concatenate, zip(*done, points, strict=True)))
    return together.where(np.argsort(together.chain, kind="stable"))


def _convex(rows: _Rows) -> _Rows:
    """Rows of the pixels whose centres lie in the cells' convex hulls or on their edges, in exact whole numbers."""
    number = int(rows.cell[-1]) + 1 if len(rows.cell) else 0
    chain, y, place = _sides(rows, number)
    edge = np.flatnonzero(chain[1:] == chain[:-1])
    # Pixels' rows are the even ones; sides begin and end in odd ones.
    rows_below = y[edge + 1] // 2 - y[edge] // 2
    row = _expanded(y[edge] // 2 + 1, rows_below)
    edge = np.repeat(edge, rows_below)
    height, rise = y[edge + 1] - y[edge], place[edge + 1] - place[edge]
    within = -(-(place[edge] * height + (2 * row - y[edge]) * rise) // (2 * height))
    half = len(within) // 2  # both sides of each cell have the same rows
    convex = _Rows(chain[edge[:half]], row[:half], within[:half], -within[half:])
    kept = convex.left <= convex.right  # thin slanting hulls pass between the pixels of some rows
    return _Rows(*(values[kept] for values in convex))


def _polygons(hull: _Rows, number: int) -> _Polygons:
    """Outline convex rows through the middles of the pixels' edges: down the left side, up the right one."""
    chain, y, place = _sides(hull, number)
    middle = int(np.searchsorted(chain, number))
    cell = np.concatenate([chain[:middle], chain[middle:][::-1] - number])
    order = np.argsort(cell, kind="stable")
    cell, x = cell[order], np.concatenate([place[:middle], -place[middle:][::-1]])[order]
    y = np.concatenate([y[:middle], y[middle:][::-1]])[order]
    following = _following(cell, number)
    # Where the topmost or lowest row is one pixel wide both sides meet in one corner.
    kept = (x != x[following]) | (y != y[following])
    cell = cell[kept]
    return _Polygons(cell, np.searchsorted(cell, np.arange(number + 1)), x[kept], y[kept])


def _following(cell: Integers, number: int) -> Integers:
    """Position of the next corner of the same polygon, around it."""
    start = np.searchsorted(cell, np.arange(number + 1))
    following = np.arange(1, len(cell) + 1)
    following[start[1:] - 1] = start[:-1]
    return following


def _calipers(polygons: _Polygons, convex_area: Integers) -> Feret:
    """Turn all polygons between two parallel lines at once: against each edge lies the corner that is farthest from it."""
    cell, start, x, y = polygons
    number = len(start) - 1
    if not number:
        return Feret(np.empty(0), np.empty(0), np.empty(0), convex_area, np.empty(0))
    following = _following(cell, number)
    along_x, along_y = x[following] - x, y[following] - y
    turn = np.arctan2(-along_y, along_x)  # grows along each polygon
    against = np.searchsorted(8.0 * cell + turn, 8.0 * cell + np.where(turn > 0, turn - np.pi, turn + np.pi))
    # Edges that are parallel or nearly so may be taken the one for the other: the corners next to it are looked at as well.
    first, size = start[cell], np.diff(start)[cell]
    far = first + (against - first + np.array([[-1], [0], [1]])) % size
    far_x, far_y = x[far], y[far]
    edge = np.hypot(along_x, along_y)
    across = np.abs(along_x * (far_y - y) - along_y * (far_x - x)).max(axis=0)
    dx = np.concatenate([far_x - x, far_x - x[following]])
    dy = np.concatenate([far_y - y, far_y - y[following]])
    apart = dx * dx + dy * dy
    squared = np.maximum.reduceat(apart.max(axis=0), start[:-1])
    return Feret(
        largest=np.sqrt(squared) / 2,
        smallest=np.minimum.reduceat(across / edge, start[:-1]) / 2,
        angle=_directions(cell, squared, apart, dx, dy),
        convex_area=convex_area,
        convex_perimeter=np.add.reduceat(edge, start[:-1]) / 2,
    )


def _directions(cell: Integers, squared: Integers, apart: Integers, dx: Integers, dy: Integers) -> Numbers:
    """Smallest angle among the pairs of corners that are as far apart as any of their polygon."""
    pair, corner = np.nonzero(apart == squared[cell])
    angle = np.full(len(squared), np.inf)
    # y points down in the picture; angles are counted as seen.
    np.minimum.at(angle, cell[corner], np.degrees(np.arctan2(-dy[pair, corner], dx[pair, corner])) % 180)
    return angle
