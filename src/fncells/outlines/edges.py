"""Outlines along the edges of pixels, as COCO, GeoJSON, ImageJ and YOLO have them.

Here the pixel in column x and row y covers the square from (x, y) to (x + 1, y + 1), so that an outline encloses just the
area of its pixels. Everywhere else in fncells whole numbers are the *centres* of pixels.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import Region

__all__ = ["edge_polygons", "filled", "joined"]

Ring = NDArray[np.float64]
Polygon = tuple[NDArray[np.int64], ...]

_MOST_CROSSINGS = 2**26  # what a hostile outline may make us work through; a real one crosses some columns a few times

# Corners of a region's outline at a place where four pixels meet, by the pixels that belong to the region: 1 upper left,
# 2 upper right, 4 lower left, 8 lower right. Straight edges and the inside have none; two pixels that meet in that place
# alone have one each.
_CORNERS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0])
_LOWER_RIGHT = 8
_RISING = 6  # upper right and lower left


def edge_polygons(region: Region) -> list[Polygon]:
    """Outline pixels along their edges.

    Every ring is simple: it visits no point twice. Rings may touch in single points, as OGC's simple features allow. Pixels
    that touch in a corner alone belong to different polygons.

    Parameters
    ----------
    region
        The pixels.

    Returns
    -------
    list of tuple of numpy.ndarray
        One polygon for each 4-connected part, in raster order of their first pixels: its outer ring, then its holes; each
        of shape (n, 2), int64, columns x, y in pixel-edge coordinates, not closed. Outer rings run clockwise on the
        screen, holes the other way.

    Examples
    --------
    >>> [[outer]] = edge_polygons(Region(np.ones((1, 2), dtype=bool), left=5, top=7))
    >>> outer.tolist()
    [[5, 7], [7, 7], [7, 8], [5, 8]]
    """
    rings, diagonal = _boundary(region)
    if diagonal:
        rings = [simple for ring in rings for simple in _untied(ring)]
    return [tuple(polygon) for polygon in _nested(rings, region)]


def filled(rings: Iterable[Ring], shape: tuple[int, int] | None = None, *, steps: int | None = None) -> Region | None:
    """Fill one polygon: the pixels whose centres lie inside its rings, by the even-odd rule.

    A centre on a left or upper edge is inside, one on a right or lower edge is not, as in ImageJ and Java2D.

    Parameters
    ----------
    rings
        Each of shape (n, 2), columns x, y in pixel-edge coordinates.
    shape
        Height and width of the picture, where pixels end; None where they are unknown.
    steps
        None for exact edges; 5 for the edges as pycocotools draws them, on a grid of that many steps a pixel. Outlines
        along pixel edges are the same either way.

    Returns
    -------
    Region or None
        None where no pixel is inside.

    Raises
    ------
    OverflowError
        If the outline crosses more columns, or encloses a larger box, than a cell could.
    """
    starts = [np.asarray(ring, dtype=np.float64) for ring in rings if len(ring) > 1]
    if not starts:
        return None
    points = np.concatenate(starts)
    low, high = np.floor(points.min(axis=0)).astype(int), np.ceil(points.max(axis=0)).astype(int)
    left, top = np.maximum(low - 1, 0).tolist()
    right, bottom = (high + 1).tolist() if shape is None else np.minimum(high + 1, (shape[1], shape[0])).tolist()
    height, width = bottom - top, right - left
    if height <= 0 or width <= 0:
        return None
    if height * width > _MOST_CROSSINGS:
        raise OverflowError
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in starts])
    crossing = _crossings if steps is None else _stepped_crossings
    columns, rows = crossing(points, ends, left, right, steps or 1)
    toggles = np.zeros((height + 1, width), dtype=np.uint8)
    np.bitwise_xor.at(toggles, (np.clip(rows - top, 0, height), columns - left), 1)
    return _trimmed(Region(np.bitwise_xor.accumulate(toggles[:-1], axis=0).view(np.bool_), left, top))


def joined(regions: Sequence[Region]) -> Region:
    """Give the pixels of several regions, which may overlap, as one."""
    if len(regions) == 1:
        return regions[0]
    left, top = min(region.left for region in regions), min(region.top for region in regions)
    right = max(region.left + region.mask.shape[1] for region in regions)
    bottom = max(region.top + region.mask.shape[0] for region in regions)
    mask = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for region in regions:
        x, y = region.left - left, region.top - top
        mask[y : y + region.mask.shape[0], x : x + region.mask.shape[1]] |= region.mask
    return Region(mask, left, top)


# ---------------------------------------------------------------------------------------------------- from pixels to rings


def _boundary(region: Region) -> tuple[list[NDArray[np.int64]], bool]:
    """Follow the edges between inside and outside; also whether any two pixels touch in a corner alone.

    The corners of a row lie in pairs, each pair the ends of a horizontal edge; those of a column likewise. So following
    the outline is going from a corner to its partner in the row, to that one's partner in the column, and so on.
    """
    padded = np.pad(region.mask, 1).view(np.uint8)
    code = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    y, x = np.nonzero(_CORNERS[code])
    codes = code[y, x]
    times = _CORNERS[codes]
    diagonal = bool((times == 2).any())
    # Of two corners in one place the first is the end of the edge from the left. The one that ends the edge from above
    # comes first in the column: the same where the pixels lie upper left and lower right, the other where they rise.
    second = np.zeros(len(x), dtype=np.bool_)
    if diagonal:
        place = np.repeat(np.arange(len(x)), times)
        second = np.concatenate(([False], place[1:] == place[:-1]))
        x, y, codes = x[place], y[place], codes[place]
    down = np.lexsort((second ^ (codes == _RISING), y, x))
    partner = np.empty(len(x), dtype=np.int64)
    partner[down] = down[np.arange(len(x)) ^ 1]
    corners = np.column_stack((x + region.left, y + region.top))
    inside_below = (codes[::2] & _LOWER_RIGHT > 0).tolist()
    return [corners[ring] for ring in _loops(partner.tolist(), inside_below)], diagonal


def _loops(partner: list[int], inside_below: list[bool]) -> list[list[int]]:
    """Go around every loop with the inside on the right hand, from its upper left corner.

    The way is along the row to the other of the pair, along the column to the partner, and so on.
    """
    seen = bytearray(len(partner))
    loops = []
    for start, below in zip(range(0, len(partner), 2), inside_below, strict=True):
        if seen[start]:
            continue
        loop: list[int] = []
        at = start if below else start + 1
        while not seen[at]:
            seen[at] = seen[at ^ 1] = 1
            loop += (at, at ^ 1)
            at = partner[at ^ 1]
        loops.append(loop)
    return loops


def _untied(ring: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Part a ring that touches itself in points into rings that do not."""
    open_points: list[tuple[int, int]] = []
    position: dict[tuple[int, int], int] = {}
    rings = []
    for x, y in ring.tolist():
        point = (x, y)
        if point in position:
            start = position[point]
            rings.append(np.array(open_points[start:], dtype=np.int64))
            for gone in open_points[start:]:
                del position[gone]
            del open_points[start:]
        position[point] = len(open_points)
        open_points.append(point)
    rings.append(np.array(open_points, dtype=np.int64))
    return rings


def _nested(rings: list[NDArray[np.int64]], region: Region) -> list[list[NDArray[np.int64]]]:
    """Give each outer ring its holes, by the part that the pixel at its first edge belongs to."""
    if len(rings) == 1:
        return [rings]
    parts = cv2.connectedComponents(region.mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1]
    outer: dict[int, NDArray[np.int64]] = {}
    holes: dict[int, list[NDArray[np.int64]]] = {}
    for ring in rings:
        # The uppermost edge: below it are the pixels of an outer ring, above it those around a hole.
        x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]] - (region.left, region.top)
        is_outer = _doubled_area(ring) > 0
        part = int(parts[y if is_outer else y - 1, x])
        if is_outer:
            outer[part] = ring
        else:
            holes.setdefault(part, []).append(ring)
    return [[ring, *holes.get(part, [])] for part, ring in outer.items()]


def _doubled_area(ring: NDArray[np.int64]) -> int:
    """Twice the area, above 0 where the ring runs clockwise on the screen."""
    x, y = ring[:, 0], ring[:, 1]
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


# ---------------------------------------------------------------------------------------------------- from rings to pixels


def _crossings(
    start: Ring, end: Ring, left: int, right: int, steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where edges cross the middles of columns: the columns, and the first rows whose centres lie below."""
    swap = start[:, 0] > end[:, 0]
    low, high = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
    edges, columns = _spread(np.ceil(low[:, 0] - 0.5), np.ceil(high[:, 0] - 0.5), left, right)
    low, along = low[edges], (high - low)[edges]
    y = low[:, 1] + (columns + 0.5 - low[:, 0]) * (along[:, 1] / along[:, 0])
    return columns, np.ceil(y - 0.5).astype(np.int64)


def _stepped_crossings(
    start: Ring, end: Ring, left: int, right: int, steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the same as pycocotools does, which puts vertices and edges on a grid of so many steps a pixel.

    There, an edge is a run of grid points, one for each step along its longer side. It crosses a column between the two
    points that lie on both sides of its middle, at the upper one of the two.
    """
    start, end = (np.trunc(steps * points + 0.5) for points in (start, end))
    along = np.abs(end - start)
    flat = along[:, 0] >= along[:, 1]
    swap = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])[:, None]
    low, high = np.where(swap, end, start), np.where(swap, start, end)
    middle = steps // 2
    ends = np.sort(np.stack((low[:, 0], high[:, 0])), axis=0)
    edges, columns = _spread(np.ceil((ends[0] - middle) / steps), np.ceil((ends[1] - middle) / steps), left, right)
    low, high, flat = low[edges], high[edges], flat[edges]
    dx, dy = (high - low).T
    before = columns * steps + middle  # the last grid column on the left side of the middle
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(flat, dy / dx, dx / dy)
    y = np.where(flat, _upper_of_flat(low, slope, before), _upper_of_steep(low, slope, before))
    return columns, np.ceil((y + 0.5) / steps - 0.5).astype(np.int64)


def _upper_of_flat(low: Ring, slope: NDArray[np.float64], before: NDArray[np.int64]) -> NDArray[np.float64]:
    along = before - low[:, 0]
    return np.minimum(*(np.trunc(low[:, 1] + slope * step + 0.5) for step in (along, along + 1)))


def _upper_of_steep(low: Ring, slope: NDArray[np.float64], before: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of an edge steeper than a diagonal: the last step down before it changes the side of the middle."""
    rising = slope > 0

    def changed(step: NDArray[np.float64]) -> NDArray[np.bool_]:
        x = np.trunc(low[:, 0] + slope * step + 0.5)
        return np.where(rising, x > before, x <= before)

    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.ceil((before + 0.5 - low[:, 0]) / slope)
    step = np.where(np.isfinite(step), step, 0)
    # The division rounds; the rule itself has the last word.
    for _ in range(2):
        step = np.where(changed(step - 1), step - 1, np.where(changed(step), step, step + 1))
    return low[:, 1] + step - 1


def _spread(
    first: NDArray[np.float64], stop: NDArray[np.float64], left: int, right: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Give every column from `first` to before `stop` of every edge, as far as they lie in the picture."""
    begins = first.clip(left, right).astype(np.int64)
    counts = stop.clip(left, right).astype(np.int64) - begins
    total = int(counts.sum())
    if total > _MOST_CROSSINGS:
        raise OverflowError
    edges = np.repeat(np.arange(len(begins)), counts)
    offsets = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return edges, begins[edges] + offsets


def _trimmed(region: Region) -> Region | None:
    rows, columns = (np.flatnonzero(region.mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return Region(region.mask[top:bottom, left:right], region.left + int(left), region.top + int(top))
