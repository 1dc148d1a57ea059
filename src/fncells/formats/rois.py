"""ImageJ's ROIs and the pixels in them."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import numpy as np
import roifile
from numpy.typing import NDArray
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from fncells.cells import Region, outline
from fncells.documents import Place
from fncells.formats.notes import FARTHEST
from fncells.outlines import filled

__all__ = ["ImagejRoi", "Outliner", "area_roi", "decoded", "kind_of", "point_roi", "points_in"]

_BEGINNING = b"Iout"
_VERSION = 228  # of the files, as ImageJ 1.53t and later write them
_LARGEST_INTEGER = 2**15 - 1
_SMALL_POINT = 1
_OUTLINES = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
_LINES = (ROI_TYPE.LINE, ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE, ROI_TYPE.ANGLE, ROI_TYPE.NOROI)
_DECORATIONS = (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE)
_PATH_NUMBERS = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}  # numbers after each kind of segment, as in Java's PathIterator
_MOVE, _LINE, _END = 0, 1, 4
_CURVE_STEPS = 16
_NUDGE = 1e-8  # px; by so much ImageJ moves edges to the right, for centres just on them

# What the outlines of one picture may ask for, in units of about a pixel filled: seconds.
_MOST_WORK = 2**29
_CROSSING, _POINT, _PATH_NUMBER = 32, 8, 64
_MOST_CROSSINGS = 2**22  # of rows by the edges of one outline, for the memory that it takes

Ring = NDArray[np.float64]

# The library logs what is odd in a file; what is wrong is refused here.
logging.getLogger(roifile.__name__).addHandler(logging.NullHandler())


class Box(NamedTuple):
    """Pixels of a rectangle: the first column and row, and the first ones beyond."""

    left: int
    top: int
    right: int
    bottom: int


# --------------------------------------------------------------------------------------------------------------- reading


def decoded(data: bytes, place: Place) -> ImagejRoi:
    """Read the bytes of a ``.roi`` file.

    Raises
    ------
    InputError
        If they are no whole ROI.
    """
    if not data.startswith(_BEGINNING):
        place.refuse("an ImageJ ROI", "other data" if data else "nothing")
    if len(data) > 6 and data[6] > ROI_TYPE.POINT:
        place.refuse(f"a ROI of a type from 0 to {int(ROI_TYPE.POINT)}", f"type {data[6]}")
    try:
        return ImagejRoi.frombytes(data)
    # The library fails on hostile bytes with nearly every exception there is, and all of them mean the same here.
    except Exception as error:
        place.refuse("a whole ImageJ ROI", f"one that cannot be read ({str(error)[:100]})")


def kind_of(roi: ImagejRoi) -> str:
    """Say what a ROI is: ``text`` or ``image``, else the name of its type."""
    return (roi.subtype if roi.subtype in _DECORATIONS else roi.roitype).name.lower()


def points_in(roi: ImagejRoi, place: Place) -> Ring | None:
    """Give the points of a point ROI, shape (n, 2), pixel centres at whole numbers; None for one of another type."""
    if roi.roitype != ROI_TYPE.POINT or roi.subtype in _DECORATIONS:
        return None
    points = _coordinates(roi)
    _check(points, place)
    return points


@dataclass
class Outliner:
    """Outlines the ROIs of one picture, and watches how much work they ask for.

    Parameters
    ----------
    shape
        Height and width of the picture, where pixels end; None where they are unknown.
    """

    shape: tuple[int, int] | None
    _work: int = 0

    def outline(self, roi: ImagejRoi, place: Place) -> tuple[tuple[Ring, ...], str]:
        """Give rings through the centres of border pixels, and what was drawn; no rings where no pixel is enclosed.

        Raises
        ------
        InputError
            If coordinates are no numbers, far beyond any picture, or too many to be those of cells.
        """
        if roi.subtype in _DECORATIONS or roi.roitype in _LINES:
            return (), ""
        if roi.composite:
            self._spend(_PATH_NUMBER * roi.shape_roi_size, place)
            return self._filled(list(_paths(roi, place)), place), "polygon"
        if roi.roitype in _OUTLINES:
            return self._filled(
                [_coordinates(roi)], place
            ), "ellipse" if roi.subtype == ROI_SUBTYPE.ELLIPSE else "polygon"
        return self._boxed(roi, _box(roi, place), place)

    def _boxed(self, roi: ImagejRoi, box: Box, place: Place) -> tuple[tuple[Ring, ...], str]:
        width, height = box.right - box.left, box.bottom - box.top
        ends = (2**31, 2**31) if self.shape is None else self.shape
        if min(width, height, box.right, box.bottom) <= 0 or box.left >= ends[1] or box.top >= ends[0]:
            return (), ""
        if roi.roitype == ROI_TYPE.OVAL:
            return self._oval(box, width, height, place), "circle" if width == height else "ellipse"
        if roi.rounded_rect_arc_size > 0:
            arc = roi.rounded_rect_arc_size
            return self._oval(box, min(arc, width), min(arc, height), place), "polygon"
        right, bottom = box.right - 1, box.bottom - 1
        corners = [(box.left, box.top), (right, box.top), (right, bottom), (box.left, bottom)]
        return (np.array(corners, dtype=np.float64),), "rect"

    def _oval(self, box: Box, across: int, down: int, place: Place) -> tuple[Ring, ...]:
        """Outline a rectangle whose corners are quarters of an ellipse, so wide and so high."""
        height, width = self.shape or (box.bottom, box.right)
        left, top, right, bottom = max(box.left, 0), max(box.top, 0), min(box.right, width), min(box.bottom, height)
        self._spend((right - left) * (bottom - top), place)
        x = _beyond_middle(np.arange(left, right), box.left, box.right, across)
        y = _beyond_middle(np.arange(top, bottom), box.top, box.bottom, down)
        # In this order, so that a centre just on the ellipse falls on the side where ImageJ has it.
        mask = x * x / (across * across / 4) + (y * y / (down * down / 4))[:, np.newaxis] <= 1
        return outline(Region(mask, left, top)) if mask.any() else ()

    def _filled(self, rings: Sequence[Ring], place: Place) -> tuple[Ring, ...]:
        rings = [ring for ring in rings if len(ring)]
        if not rings:
            place.refuse("the points of an outline", "none")
        points = np.concatenate(rings)
        _check(points, place)
        width, height = np.ceil(points.max(axis=0)).astype(int).clip(1).tolist()
        if self.shape is not None:
            height, width = self.shape
        low, high = np.maximum(points.min(axis=0), 0), np.minimum(points.max(axis=0), (width, height))
        box = np.prod(np.maximum(high - low + 1, 0))
        crossings = sum(np.abs(np.diff(ring[:, 1], append=ring[0, 1])).sum() for ring in rings)
        if crossings > _MOST_CROSSINGS:
            self._refuse(place)
        self._spend(int(box + _CROSSING * crossings + _POINT * len(points)), place)
        # Seen in a mirror and lying on its side, so that a centre just on an edge falls on the side where ImageJ has it:
        # on a left or upper edge it is outside, on a right or lower one inside, and on a slanted one its column decides.
        mirrored = [np.column_stack((height - ring[:, 1], width - ring[:, 0] - _NUDGE)) for ring in rings]
        try:
            [region] = filled([mirrored], (width, height))
        except OverflowError:
            self._refuse(place)
        if region is None:
            return ()
        rows, columns = region.mask.shape
        mask = np.ascontiguousarray(region.mask[::-1, ::-1].T)
        return outline(Region(mask, width - region.top - rows, height - region.left - columns))

    def _spend(self, work: int, place: Place) -> None:
        self._work += work
        if self._work > _MOST_WORK:
            self._refuse(place)

    def _refuse(self, place: Place) -> NoReturn:
        place.refuse("the outline of a cell", "one too large or too tangled, by itself or with those before it")


def _beyond_middle(at: NDArray[Any], first: int, end: int, arc: int) -> NDArray[np.float64]:
    """Distances of pixel centres from the middle part of a side, between its two rounded corners."""
    return np.asarray(np.maximum(np.abs(2 * at + 1 - first - end) - (end - first - arc), 0) / 2)


def _coordinates(roi: ImagejRoi) -> Ring:
    with np.errstate(invalid="ignore"):  # numpy warns of some kinds of NaN; all are refused soon
        return np.asarray(roi.coordinates(), dtype=np.float64)


def _check(points: Ring, place: Place) -> None:
    if not (np.isfinite(points).all() and np.abs(points).max(initial=0) <= FARTHEST):
        place.refuse(f"coordinates from {-FARTHEST:.0f} to {FARTHEST:.0f} px", "others")


def _box(roi: ImagejRoi, place: Place) -> Box:
    """Pixels of a rectangle, or of the one around an oval; all that it touches where it has fractions of pixels."""
    if not roi.subpixelrect:
        return Box(roi.left, roi.top, roi.right, roi.bottom)
    corners = np.array([(roi.xd, roi.yd), (roi.xd + roi.widthd, roi.yd + roi.heightd)])
    _check(corners, place)
    return Box(*np.floor(corners[0]).astype(int).tolist(), *np.ceil(corners[1]).astype(int).tolist())


def _paths(roi: ImagejRoi, place: Place) -> Iterator[Ring]:
    """Rings of a composite, curves as polygons."""
    numbers = roi.multi_coordinates.tolist() if roi.multi_coordinates is not None else []
    points: list[tuple[float, float]] = []
    at = 0
    while at < len(numbers):
        step, end = numbers[at], at + 1 + _PATH_NUMBERS.get(numbers[at], 0)
        if step not in _PATH_NUMBERS or end > len(numbers) or (step != _MOVE and not points):
            place.refuse("a composite's path of moves, lines, curves and ends", f"{step!r} at number {at}")
        found = list(zip(numbers[at + 1 : end : 2], numbers[at + 2 : end : 2], strict=True))
        if step == _MOVE:
            yield np.array(points, dtype=np.float64).reshape(-1, 2)
            points = found
        elif step == _LINE:
            points += found
        elif step != _END:
            points += _curve([points[-1], *found])
        at = end
    yield np.array(points, dtype=np.float64).reshape(-1, 2)


def _curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points along a Bézier curve, without its first."""
    share = np.arange(1, _CURVE_STEPS + 1)[:, np.newaxis] / _CURVE_STEPS
    levels = [np.array([point]) for point in points]
    while len(levels) > 1:
        levels = [one + (other - one) * share for one, other in pairwise(levels)]
    return [(x, y) for x, y in levels[0].tolist()]


# --------------------------------------------------------------------------------------------------------------- writing


def point_roi(point: Ring) -> ImagejRoi:
    """Make a ROI of a point, shape (2,)."""
    x, y = np.floor(point).astype(int).tolist()
    roi = _roi(ROI_TYPE.POINT, Box(x, y, x + 1, y + 1))
    roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    roi.stroke_width = _SMALL_POINT
    roi.n_coordinates = 1
    roi.integer_coordinates = np.zeros((1, 2), dtype=np.int32)
    roi.subpixel_coordinates = point[np.newaxis].astype(np.float32)
    return roi


def area_roi(region: Region, rings: Sequence[NDArray[np.int64]], *, is_rectangle: bool) -> tuple[ImagejRoi, str]:
    """Make a ROI of a cell's pixels.

    Parameters
    ----------
    region
        The pixels.
    rings
        Their outlines along the edges of pixels.
    is_rectangle
        Whether to make a rectangle of them if they are one.

    Returns
    -------
    ImagejRoi, str
        The ROI, and the shape that a reader takes it for.
    """
    height, width = region.mask.shape
    box = Box(region.left, region.top, region.left + width, region.top + height)
    within = max(box) <= _LARGEST_INTEGER
    if is_rectangle and within and region.mask.all():
        return _roi(ROI_TYPE.RECT, box), "rect"
    if within and len(rings) == 1 and len(rings[0]) <= _LARGEST_INTEGER:
        roi = _roi(ROI_TYPE.TRACED, box)
        roi.n_coordinates = len(rings[0])
        roi.integer_coordinates = (rings[0] - (box.left, box.top)).astype(np.int32)
        return roi, "polygon"
    roi = _roi(ROI_TYPE.RECT, box)
    roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
    roi.shape_roi_size = len(roi.multi_coordinates)
    return roi, "polygon"


def _roi(roitype: ROI_TYPE, box: Box) -> ImagejRoi:
    roi = ImagejRoi(roitype=roitype, version=_VERSION)
    roi.left, roi.top, roi.right, roi.bottom = box
    return roi


def _path(ring: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give a ring as a path: the move to its first point, lines to the others, the end."""
    steps = np.full((len(ring), 3), _LINE, dtype=np.float32)
    steps[0, 0] = _MOVE
    steps[:, 1:] = ring
    return np.append(steps.ravel(), np.float32(_END))
