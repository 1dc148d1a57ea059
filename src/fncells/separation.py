"""Heat maps and binary masks to single cells: threshold, holes, specks, and the splitting of cells that touch.

Touching cells are told apart by the neck between them, and by the valley where the heat map has one: every cell is a
hill of distance to the background, less high where the network is less sure, and two hills are two cells where the
pass between them is low against the lower hill. The rule is relative, so it holds for small and large cells alike.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.errors import InputError

__all__ = ["SeparationSettings", "separate"]

_LEAST_SHARE_OF_AREA = 0.1


@dataclass(frozen=True)
class SeparationSettings:
    """How a heat map is parted into cells.

    Attributes
    ----------
    threshold
        Pixels above it, strictly, belong to cells; 0 to 1.
    max_hole
        Holes of up to this many pixels (inclusive) are filled; larger ones stay, and so do those open to the
        picture's border.
    min_area
        Objects of fewer pixels (exclusive) are removed; no cell is split into parts smaller than this.
    neck
        Touching cells are split where the way between them is narrower than this share of the smaller one's radius;
        0 never splits, 1 at the slightest waist.
    min_radius
        Parts whose largest inscribed circle has a smaller radius, in pixels, are no cells of their own.
    min_share
        Nor are those whose radius is less than this share of the neighbour's they hang on: they are its processes.
    dividing_line
        Leave a line of background, one pixel wide, between cells that were split; else every pixel stays in a cell.
    """

    threshold: float = 0.5
    max_hole: int = 50
    min_area: int = 30
    neck: float = 0.85
    min_radius: float = 2.5
    min_share: float = 0.4
    dividing_line: bool = False

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, most in (
            ("threshold", 1.0),
            ("max_hole", math.inf),
            ("min_area", math.inf),
            ("neck", 1.0),
            ("min_radius", math.inf),
            ("min_share", 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                limits = "0 or more" if math.isinf(most) else f"0 to {most:g}"
                raise InputError(name.replace("_", " "), expected=f"a number, {limits}", found=repr(value))
        if not isinstance(self.dividing_line, bool):
            argument = "dividing line"
            raise InputError(argument, expected="true or false", found=repr(self.dividing_line))

    def for_diameter(self, diameter_px: float) -> "SeparationSettings":
        """Give the settings for cells of a typical diameter: what is far smaller is a speck and no cell.

        The smallest cells that people have annotated cover between 10 % (red) and 17 % (green) of their collection's mean area
        (Clissa et al., FNC v2, Table 1), so objects under 10 % of the typical area are left out.

        Parameters
        ----------
        diameter_px
            Typical diameter of the cells in pixels.
        """
        typical_area = math.pi / 4 * diameter_px**2
        return replace(self, min_area=max(self.min_area, round(_LEAST_SHARE_OF_AREA * typical_area)))


def separate(heat: NDArray[Any], settings: SeparationSettings | None = None) -> NDArray[np.int32]:
    """Part a heat map or a mask into cells.

    Parameters
    ----------
    heat
        Shape (h, w): probabilities from 0 to 1, or a boolean mask.
    settings
        None takes the defaults.

    Returns
    -------
    NDArray[np.int32]
        Shape (h, w): 0 for background, the cells 1, 2, 3… in raster order of their first pixel.

    Raises
    ------
    InputError
        Where the array has another shape, or values that are no probabilities.
    """
    settings = settings or SeparationSettings()
    certainty = _certainty(heat)
    if certainty.size == 0:
        return np.zeros(certainty.shape, np.int32)
    above = certainty > settings.threshold
    objects = _objects(_fill_holes(above, settings.max_hole), settings.min_area)
    if not objects.any():
        return objects
    if settings.neck > 0:
        hills = _split(_heights(objects > 0, above, certainty), settings)
        objects = np.where(objects > 0, hills, np.int32(0))
    if settings.dividing_line:
        objects = _draw_lines(objects)
    return _in_raster_order(objects)


def _certainty(heat: NDArray[Any]) -> NDArray[np.float32]:
    known = heat.dtype == np.bool_ or np.issubdtype(heat.dtype, np.floating)
    argument = "heat map"
    if heat.ndim != 2 or not known:
        shape = "x".join(map(str, heat.shape))
        raise InputError(argument, expected="a picture of probabilities or a mask", found=f"{shape} of {heat.dtype}")
    certainty = heat.astype(np.float32, copy=False)
    if certainty.size and not (certainty.min() >= 0 and certainty.max() <= 1):  # also where it is not a number
        raise InputError(
            argument, expected="values from 0 to 1", found=f"{certainty.min():.4g} to {certainty.max():.4g}"
        )
    return certainty


# --- objects before splitting


def _fill_holes(cells: NDArray[np.bool_], max_hole: int) -> NDArray[np.bool_]:
    """Fill small holes; background is 4-connected where cells are 8-connected."""
    if max_hole == 0:
        return cells
    holes, stats = _components(~cells, connectivity=4)
    filled = (stats[:, cv2.CC_STAT_AREA] <= max_hole) & ~_at_border(stats, cells.shape)
    filled[0] = True  # what already is cell
    return np.asarray(filled[holes])


def _components(part: NDArray[np.bool_], connectivity: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(part.view(np.uint8), connectivity=connectivity)
    return np.asarray(numbers, np.int32), np.asarray(stats, np.int32)


def _at_border(stats: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    return np.asarray((left == 0) | (top == 0) | (right == shape[1]) | (bottom == shape[0]))


def _objects(cells: NDArray[np.bool_], min_area: int) -> NDArray[np.int32]:
    objects, stats = _components(cells, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= min_area
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(numbers[objects])


# --- necks

# A hole as convex as this is the inside of a ring-shaped cell, no gap between cells around it: those are star-shaped.
_ROUND_HOLE = 0.8
_ALWAYS_ROUND = 3  # pixels: so few cannot be less convex
# Pixels; takes the steps out of an outline without moving hills as small as a cell.
_SMOOTHING = 1.0
_LOW_GROUND = 1e-3
_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def _heights(
    objects: NDArray[np.bool_], above: NDArray[np.bool_], certainty: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Distance to the background in pixels, less where the network is less sure; 0 in the background.

    Gaps between cells count as background even where they are small enough to be filled; round holes are ground to
    stand on even where they stay open.
    """
    solid = objects & above
    round_holes = _round_holes(solid)
    ground = (solid | round_holes).view(np.uint8)
    height = np.asarray(cv2.distanceTransform(ground, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    if certainty[objects].min() < 1:
        sure = np.where(round_holes, np.float32(1), certainty)
        height = height * np.asarray(cv2.GaussianBlur(sure, (0, 0), _SMOOTHING), np.float32)
    # Filled gaps are low ground, not sea: their pixels too go to the cell uphill.
    return np.maximum(height, np.where(objects, np.float32(_LOW_GROUND), np.float32(0)))


def _round_holes(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    holes, stats = _components(~solid, connectivity=4)
    inside = ~_at_border(stats, solid.shape)
    inside[0] = False
    are_round = inside & (stats[:, cv2.CC_STAT_AREA] <= _ALWAYS_ROUND)
    for number in np.flatnonzero(inside & ~are_round):
        left, top, width, height, area = (int(value) for value in stats[number])
        hole = holes[top : top + height, left : left + width] == number
        are_round[number] = area >= _ROUND_HOLE * _hull_area(hole)
    return np.asarray(are_round[holes])


def _hull_area(shape: NDArray[np.bool_]) -> float:
    """Area of the convex hull of a shape's pixels, each a unit square."""
    rows = np.flatnonzero(shape.any(axis=1))
    first = shape.argmax(axis=1)[rows]
    last = shape.shape[1] - shape[:, ::-1].argmax(axis=1)[rows]
    corners = np.concatenate([np.stack([side, rows + down], axis=1) for side in (first, last) for down in (0, 1)])
    return float(cv2.contourArea(cv2.convexHull(corners.astype(np.float32))))


def _split(height: NDArray[np.float32], settings: SeparationSettings) -> NDArray[np.int32]:
    """Part a landscape into numbered cells."""
    smooth = np.asarray(cv2.GaussianBlur(height, (0, 0), _SMOOTHING), np.float32)
    land = _Land(_hills(np.where(height > 0, smooth, np.float32(-1))), height, settings)
    land.join_across_high_passes()
    land.join_small()
    return land.labels()


def _hills(height: NDArray[np.float32]) -> NDArray[np.int32]:
    """Give every pixel that is not below 0 the number of the summit that the steepest way up leads to."""
    padded = np.pad(height, 1, constant_values=-1).ravel()
    width = height.shape[1] + 2
    here = np.flatnonzero(padded >= 0)
    goal, steepest = here.copy(), np.zeros(len(here), np.float32)
    own = padded[here]
    for down, right in _NEIGHBOURS:
        there = here + (down * width + right)
        slope = (padded[there] - own) / np.float32(math.hypot(down, right))
        better = slope > steepest
        steepest[better] = slope[better]
        goal[better] = there[better]
    place = np.zeros(padded.size, np.int32)
    place[here] = np.arange(len(here), dtype=np.int32)
    hills = np.zeros(padded.size, np.int32)
    hills[here] = np.unique(_ends(place[goal]), return_inverse=True)[1] + 1
    return hills.reshape(height.shape[0] + 2, width)[1:-1, 1:-1]


def _ends(goal: NDArray[np.int32]) -> NDArray[np.int32]:
    """Follow every way to its end, twice as far at each step."""
    further = goal[goal]
    while not np.array_equal(further, goal):
        goal, further = further, further[further]
    return goal


class _Land:
    """Hills, their summits and the passes between them; joins hills that are one cell."""

    def __init__(self, hills: NDArray[np.int32], height: NDArray[np.float32], settings: SeparationSettings) -> None:
        self._hills, self._settings = hills, settings
        count = int(hills.max()) + 1
        inside = hills > 0
        summits = np.zeros(count, np.float32)
        np.maximum.at(summits, hills[inside], height[inside])
        self._summit: list[float] = summits.tolist()
        self._area: list[int] = np.bincount(hills.ravel(), minlength=count).tolist()
        self._owner = list(range(count))
        self._passes = _passes(hills, height)

    def join_across_high_passes(self) -> None:
        """Join two hills unless the pass between them is low against the lower; the highest passes first."""
        for level, one, other in self._passes:
            a, b = self._find(one), self._find(other)
            if a != b and level >= self._settings.neck * min(self._summit[a], self._summit[b]):
                self._join(a, b)

    def join_small(self) -> None:
        """Join what is too small for a cell to the neighbour it hangs on by the highest pass, the smallest first."""
        joined = True
        while joined:
            joined = False
            best: dict[int, tuple[float, int]] = {}
            for level, one, other in self._passes:  # the highest first
                a, b = self._find(one), self._find(other)
                if a != b:
                    best.setdefault(a, (level, b))
                    best.setdefault(b, (level, a))
            for a in sorted(best, key=lambda hill: (self._summit[hill], hill)):
                b = best[a][1]
                if self._find(a) == a and self._find(b) == b and a != b and self._too_small(a, b):
                    self._join(a, b)
                    joined = True

    def labels(self) -> NDArray[np.int32]:
        """Say for every pixel which cell it belongs to."""
        return np.array([self._find(hill) for hill in range(len(self._owner))], np.int32)[self._hills]

    def _too_small(self, a: int, b: int) -> bool:
        least = max(self._settings.min_radius, self._settings.min_share * self._summit[b])
        return self._area[a] < self._settings.min_area or self._summit[a] < least

    def _find(self, hill: int) -> int:
        while self._owner[hill] != hill:
            self._owner[hill] = self._owner[self._owner[hill]]
            hill = self._owner[hill]
        return hill

    def _join(self, a: int, b: int) -> None:
        a, b = min(a, b), max(a, b)
        self._owner[b] = a
        self._summit[a] = max(self._summit[a], self._summit[b])
        self._area[a] += self._area[b]


def _passes(hills: NDArray[np.int32], height: NDArray[np.float32]) -> list[tuple[float, int, int]]:
    """Highest way between every two hills that touch: (height, hill, hill), the highest first."""
    pairs, levels = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here, there = _shifted(hills, down, right)
        touching = (here != there) & (here > 0) & (there > 0)
        low, high = np.minimum(here[touching], there[touching]), np.maximum(here[touching], there[touching])
        pairs.append(low.astype(np.int64) << 32 | high)
        height_here, height_there = _shifted(height, down, right)
        levels.append(np.minimum(height_here[touching], height_there[touching]))
    pair, level = np.concatenate(pairs), np.concatenate(levels)
    order = np.lexsort((-level, pair))
    pair, level = pair[order], level[order]
    first = np.ones(len(pair), bool)
    first[1:] = pair[1:] != pair[:-1]
    pair, level = pair[first], level[first]
    order = np.lexsort((pair, -level))
    low, high = pair >> 32, pair & 0xFFFFFFFF
    return [(float(level[i]), int(low[i]), int(high[i])) for i in order]


def _shifted(values: NDArray[Any], down: int, right: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pair every pixel with its neighbour so far below and to the right (or left), where it has one."""
    height, width = values.shape
    if right >= 0:
        return values[: height - down, : width - right], values[down:, right:]
    return values[: height - down, -right:], values[down:, : width + right]


def _draw_lines(objects: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give to the background every pixel that touches a cell of a higher number."""
    lined = objects.copy()
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here, there = _shifted(objects, down, right)
        lined_here, lined_there = _shifted(lined, down, right)
        lined_here[(here > 0) & (here < there)] = 0
        lined_there[(there > 0) & (there < here)] = 0
    return lined


def _in_raster_order(objects: NDArray[np.int32]) -> NDArray[np.int32]:
    values, first = np.unique(objects, return_index=True)
    inside = values > 0
    values, first = values[inside], first[inside]
    numbers = np.zeros(int(objects.max(initial=0)) + 1, np.int32)
    numbers[values[np.argsort(first)]] = np.arange(1, len(values) + 1)
    return numbers[objects]
