"""Outlines along the edges of pixels, as COCO, GeoJSON, ImageJ and YOLO have them.

Here the pixel in column x and row y covers the square from (x, y) to (x + 1, y + 1), so that an outline encloses just the
area of its pixels. Everywhere else in fncells whole numbers are the *centres* of pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import Region
from fncells.outlines.sheets import Sheet, sheets

__all__ = ["edge_polygons", "filled", "joined"]

Ring = NDArray[np.float64]
Polygon = tuple[NDArray[np.int64], ...]

# What is filled at once, in polygons, pixels of their boxes and crossings of columns, and what is too much: a few hostile
# outlines could take all memory and time, and real ones cross each column a few times.
_TOGETHER, _PIXELS_TOGETHER, _CROSSINGS_TOGETHER = 1000, 2**24, 2**20
_MOST_PIXELS, _MOST_CROSSINGS = 2**26, 2**22  # of one cell
_MOST_PIXELS_IN_ALL, _MOST_CROSSINGS_IN_ALL = 2**29, 2**25

# Corners of a region's outline at a place where four pixels meet, by the pixels that belong to the region: 1 upper left,
# 2 upper right, 4 lower left, 8 lower right. Straight edges and the inside have none; two pixels that meet in that place
# alone have one each.
_CORNERS = np.array([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0])
_LOWER_RIGHT = 8
_RISING = 6  # upper right and lower left


def edge_polygons(regions: Sequence[Region]) -> list[list[Polygon]]:
    """Outline the pixels of cells along their edges.

    Every ring is simple: it visits no point twice. Rings may touch in single points, as OGC's simple features allow. Pixels
    that touch in a corner alone belong to different polygons.

    Parameters
    ----------
    regions
        The pixels of each cell.

    Returns
    -------
    list of list of tuple of numpy.ndarray
        For each cell one polygon for each 4-connected part, in raster order of their first pixels: its outer ring, then
        its holes; each of shape (n, 2), int64, columns x, y in pixel-edge coordinates, not closed. Outer rings run
        clockwise on the screen, holes the other way.

    Examples
    --------
    >>> [[[outer]]] = edge_polygons([Region(np.ones((1, 2), dtype=bool), left=5, top=7)])
    >>> outer.tolist()
    [[5, 7], [7, 7], [7, 8], [5, 8]]
    """
    polygons: list[list[Polygon]] = []
    for sheet in sheets(regions):
        for rings, place in zip(_boundaries(sheet), sheet.cells, strict=True):
            polygons.append(_nested(rings, regions[place]))
    return polygons


def filled(
    polygons: Sequence[Sequence[Ring]], shape: tuple[int, int] | None = None, *, steps: int | None = None
) -> list[Region | None]:
    """Fill polygons: of each the pixels whose centres lie inside its rings, by the even-odd rule.

    A centre on a left or upper edge is inside, one on a right or lower edge is not, as in Java2D.

    Parameters
    ----------
    polygons
        The rings of each, of shape (n, 2), columns x, y in pixel-edge coordinates.
    shape
        Height and width of the picture, where pixels end; None where they are unknown.
    steps
        None for exact edges; 5 for the edges as pycocotools draws them, on a grid of that many steps a pixel. Outlines
        along pixel edges are the same either way.

    Returns
    -------
    list of Region or None
        None where no pixel is inside.

    Raises
    ------
    OverflowError
        If an outline crosses more columns, or encloses a larger box, than a cell could, or the outlines up to it are more
        work together than a picture of cells could be. Its argument is the place of the polygon.
    """
    work = _Work(max(_MOST_PIXELS_IN_ALL, 4 * shape[0] * shape[1] if shape else 0))
    found: list[Region | None] = []
    while len(found) < len(polygons):
        found += _filled(
            [list(polygon) for polygon in polygons[len(found) : len(found) + _TOGETHER]], shape, steps, work
        )
    return found


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


def _boundaries(sheet: Sheet) -> list[list[NDArray[np.int64]]]:
    """Follow the edges between inside and outside: the rings of each cell.

    The corners in a column lie in pairs, each pair the ends of a vertical edge; those in a row likewise. So following the
    outline is going from a corner to its partner in the row, to that one's partner in the column, and so on.
    """
    code = sheet.pixels[:-1, :-1] | sheet.pixels[1:, :-1] << 1
    code |= sheet.pixels[:-1, 1:] << 2
    code |= sheet.pixels[1:, 1:] << 3
    x, y = np.nonzero(_CORNERS[code])
    codes = code[x, y]
    # Of two corners in one place the first in the column is the end of the edge from above. The one that ends the edge
    # from the left comes first in the row: the same where the pixels lie upper left and lower right, the other where they
    # rise to the right.
    second = np.zeros(len(x), dtype=np.bool_)
    times = _CORNERS[codes]
    if 2 in times:
        place = np.repeat(np.arange(len(x)), times)
        second = np.concatenate(([False], place[1:] == place[:-1]))
        x, y, codes = x[place], y[place], codes[place]
    cells = np.searchsorted(sheet.starts, x, side="right") - 1
    rows = np.argsort(((cells * code.shape[1] + y) * len(code) + x) * 2 + (second ^ (codes == _RISING)))
    in_rows = np.empty(len(rows), dtype=np.int64)
    in_rows[rows] = np.arange(len(rows))
    inside_below = codes[rows[::2]] & _LOWER_RIGHT > 0
    loops, lengths = _loops(in_rows[rows ^ 1].tolist(), inside_below.tolist())

    order = rows[loops]
    corners = np.column_stack((x - sheet.starts[cells] + sheet.lefts[cells], y + sheet.tops[cells]))[order]
    ends = np.cumsum(lengths)
    tied = np.bincount(cells[second], minlength=len(sheet.cells)) > 0
    rings: list[list[NDArray[np.int64]]] = [[] for _ in sheet.cells]
    for ring, owner in zip(np.split(corners, ends[:-1]), cells[order[ends - 1]].tolist(), strict=True):
        rings[owner] += _untied(ring) if tied[owner] else [ring]
    return rings


def _loops(partner: list[int], inside_below: list[bool]) -> tuple[list[int], list[int]]:
    """Go around every loop with the inside on the right hand, from its upper left corner.

    Corners are numbered row by row: the way is to the other of the pair in the row, to the partner in the column, and so
    on. Gives the corners in their order, and how many each loop has.
    """
    seen = bytearray(len(partner))
    order: list[int] = []
    lengths = []
    for start, below in zip(range(0, len(partner), 2), inside_below, strict=True):
        if seen[start]:
            continue
        before = len(order)
        at = start if below else start + 1
        while not seen[at]:
            seen[at] = seen[at ^ 1] = 1
            order += (at, at ^ 1)
            at = partner[at ^ 1]
        lengths.append(len(order) - before)
    return order, lengths


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


def _nested(rings: list[NDArray[np.int64]], region: Region) -> list[Polygon]:
    """Give each outer ring its holes, by the part that the pixel at its first edge belongs to."""
    if len(rings) == 1:
        return [(rings[0],)]
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
    return [(ring, *holes.get(part, [])) for part, ring in outer.items()]


def _doubled_area(ring: NDArray[np.int64]) -> int:
    """Twice the area, above 0 where the ring runs clockwise on the screen."""
    x, y = ring[:, 0], ring[:, 1]
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


# ---------------------------------------------------------------------------------------------------- from rings to pixels


@dataclass
class _Work:
    """What has been filled so far, and the most that may be: pixels of boxes; crossings of columns; polygons."""

    most_pixels: int
    pixels: int = 0
    crossings: int = 0
    polygons: int = 0

    def add(self, pixels: int, crossings: int, polygons: int) -> None:
        self.pixels, self.crossings = self.pixels + pixels, self.crossings + crossings
        one = pixels > _MOST_PIXELS or crossings > _MOST_CROSSINGS
        if one or self.pixels > self.most_pixels or self.crossings > _MOST_CROSSINGS_IN_ALL:
            raise OverflowError(self.polygons)
        self.polygons += polygons


def _filled(
    polygons: list[list[Ring]], shape: tuple[int, int] | None, steps: int | None, work: _Work
) -> list[Region | None]:
    found: list[Region | None] = [None] * len(polygons)
    rings = [(place, ring) for place, polygon in enumerate(polygons) for ring in polygon if len(ring) > 1]
    if not rings:
        work.add(0, 0, len(polygons))
        return found
    lengths = np.array([len(ring) for _, ring in rings])
    start = np.concatenate([ring for _, ring in rings]).astype(np.float64, copy=False)
    last = np.cumsum(lengths) - 1
    following = np.arange(1, len(start) + 1)
    following[last] = last - lengths + 1
    boxes = _boxes(start, np.repeat([place for place, _ in rings], lengths), shape)

    pixels = int(boxes.offsets[-1])
    spans = np.minimum(np.abs(start[following, 0] - start[:, 0]) + 1, boxes.widths[boxes.owners])
    crossings = int(spans.sum())
    if len(polygons) > 1 and (pixels > _PIXELS_TOGETHER or crossings > _CROSSINGS_TOGETHER):
        half = len(polygons) // 2
        return _filled(polygons[:half], shape, steps, work) + _filled(polygons[half:], shape, steps, work)
    work.add(pixels, crossings, len(polygons))

    crossing = _crossings if steps is None else _stepped_crossings
    edges, columns, rows = crossing(start, start[following], boxes, steps or 1)
    owners = boxes.owners[edges]
    rows = np.clip(rows - boxes.tops[owners], 0, boxes.heights[owners])
    toggles = np.zeros(pixels, dtype=np.uint8)
    flat = boxes.offsets[owners] + rows * boxes.widths[owners] + columns - boxes.lefts[owners]
    np.bitwise_xor.at(toggles, flat, 1)
    # Going down a column, every crossing leads inside or out again.
    for place, left, top, height, width, offset in boxes.each():
        mask = np.bitwise_xor.accumulate(toggles[offset : offset + height * width].reshape(height, width), axis=0)
        if mask.any():
            found[place] = Region(mask.view(np.bool_), left, top)
    return found


class _Boxes(NamedTuple):
    """Boxes around polygons, cut off at the picture's sides: which one each point is in, and what they are."""

    owners: NDArray[np.intp]
    places: NDArray[np.intp]
    lefts: NDArray[np.int64]
    tops: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def each(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        """Give place, left, top, height, width and offset of those that have pixels."""
        columns = (self.places, self.lefts, self.tops, self.heights, self.widths, self.offsets[:-1])
        return (row for row in zip(*(column.tolist() for column in columns), strict=True) if row[3] * row[4])


def _boxes(points: Ring, places: NDArray[np.intp], shape: tuple[int, int] | None) -> _Boxes:
    begins = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
    low = np.floor(np.minimum.reduceat(points, begins)).astype(np.int64)
    high = np.ceil(np.maximum.reduceat(points, begins)).astype(np.int64)
    # One pixel to spare, for the steps of pycocotools.
    low, high = np.maximum(low - 1, 0), high + 1
    if shape is not None:
        high = np.minimum(high, (shape[1], shape[0]))
    widths, heights = np.maximum(high - low, 0).T
    areas = (heights + 1) * widths  # with a row below, for crossings beyond the last pixel
    owners = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(points))))
    offsets = np.concatenate(([0], np.cumsum(areas)))
    return _Boxes(owners, places[begins], low[:, 0], low[:, 1], heights, widths, offsets)


_Crossings = tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]


def _crossings(start: Ring, end: Ring, boxes: _Boxes, _: int) -> _Crossings:
    """Where edges cross the middles of columns: edges, columns, and the first rows whose centres lie below."""
    swap = (start[:, 0] > end[:, 0])[:, np.newaxis]
    low, high = np.where(swap, end, start), np.where(swap, start, end)
    edges, columns = _spread(np.ceil(low[:, 0] - 0.5), np.ceil(high[:, 0] - 0.5), boxes)
    low, along = low[edges], (high - low)[edges]
    y = low[:, 1] + (columns + 0.5 - low[:, 0]) * (along[:, 1] / along[:, 0])
    return edges, columns, np.ceil(y - 0.5).astype(np.int64)


def _stepped_crossings(start: Ring, end: Ring, boxes: _Boxes, steps: int) -> _Crossings:
    """Find the same as pycocotools does, which puts vertices and edges on a grid of so many steps a pixel.

    There, an edge is a run of grid points, one for each step along its longer side. It crosses a column between the two
    points that lie on both sides of its middle, at the upper one of the two.
    """
    start, end = (np.trunc(steps * points + 0.5) for points in (start, end))
    along = np.abs(end - start)
    flat = along[:, 0] >= along[:, 1]
    swap = np.where(flat, start[:, 0] > end[:, 0], start[:, 1] > end[:, 1])[:, np.newaxis]
    low, high = np.where(swap, end, start), np.where(swap, start, end)
    middle = steps // 2
    ends = np.sort(np.stack((low[:, 0], high[:, 0])), axis=0)
    edges, columns = _spread(np.ceil((ends[0] - middle) / steps), np.ceil((ends[1] - middle) / steps), boxes)
    low, high, flat = low[edges], high[edges], flat[edges]
    dx, dy = (high - low).T
    before = columns * steps + middle  # the last grid column on the left side of the middle
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(flat, dy / dx, dx / dy)
    y = np.where(flat, _upper_of_flat(low, slope, before), _upper_of_steep(low, slope, before))
    return edges, columns, np.ceil((y + 0.5) / steps - 0.5).astype(np.int64)


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
    first: NDArray[np.float64], stop: NDArray[np.float64], boxes: _Boxes
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Give every column from `first` to before `stop` of every edge, as far as they lie in its polygon's box."""
    left = boxes.lefts[boxes.owners]
    right = left + boxes.widths[boxes.owners]
    begins = first.clip(left, right).astype(np.int64)
    counts = stop.clip(left, right).astype(np.int64) - begins
    total = int(counts.sum())
    edges = np.repeat(np.arange(len(begins)), counts)
    offsets = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    return edges, begins[edges] + offsets
