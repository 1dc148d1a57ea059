"""Cells measured: one row a cell, one summary a picture, and Table 1 of a collection.

Every cell is measured on its own pixels, whatever overlaps it. Lengths and areas are in pixels, and in micrometres besides
where the pixel size is known. The definitions are those of scikit-image's ``regionprops``, with which the published
measurements were made (Clissa et al., Fluorescent Neuronal Cells v2), computed here for all cells of a picture at once.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.images import PixelSize

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MEASURE_TITLES",
    "PictureSummary",
    "Table1",
    "measure_cells",
    "summarise",
    "table1",
    "table1_frame",
    "table1_markdown",
]

Counts = Literal["per-picture", "published"]
Table1 = dict[str, dict[str, dict[str, float | int | None] | str]]

PERCENTILES = (10, 25, 50, 75, 90)


class _Regions(NamedTuple):
    """The pixels of all cells that have any, one after the other.

    Parameters
    ----------
    owner
        Which cell of the picture each region is, shape (m,).
    start
        Where each region's pixels begin, shape (m + 1,).
    x, y
        All pixels, each region's in raster order.
    """

    owner: NDArray[np.int64]
    start: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]

    @property
    def areas(self) -> NDArray[np.int64]:
        return np.diff(self.start)

    def total(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Sum of one value a pixel over each region."""
        return np.add.reduceat(values.astype(np.float64), self.start[:-1]) if len(self.owner) else np.empty(0)


class _Spans(NamedTuple):
    """First and last pixel of rows: region, row, left and right end, each of shape (r,)."""

    region: NDArray[np.int64]
    y: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


def measure_cells(
    image: AnnotatedImage,
    pixel_size: PixelSize | None = None,
    pixels: NDArray[np.generic] | None = None,
) -> dict[str, NDArray[np.generic]]:
    """Measure every cell of a picture.

    Parameters
    ----------
    image
        The cells; the picture's shape must be known.
    pixel_size
        Adds a column in micrometres beside each in pixels.
    pixels
        The picture, shape (height, width) or (height, width, channels); adds the cells' intensities.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns of length n in the order of the cells:

        - ``cell``: number of the cell; ``x_px``, ``y_px``: its centre, pixel centres at whole numbers, y downward
        - ``area_px2``: number of pixels
        - ``perimeter_px``: length of the line through the border pixels' centres (Benkrid and Crookes; 4-neighbourhood)
        - ``feret_max_px``, ``feret_min_px``: largest and smallest distance of two parallel lines that hold the cell's convex
          hull between them, taken at the edge of the hull drawn in pixels; ``feret_angle_deg``: direction of the largest,
          counter-clockwise from the x axis as seen, 0 to 180
        - ``equivalent_diameter_px``: diameter of the circle of equal area
        - ``major_axis_px``, ``minor_axis_px``, ``orientation_deg``, ``eccentricity``: of the ellipse with the same second
          moments as the pixels' centres; angle as above
        - ``solidity``: area over the area of the convex hull; ``circularity``: 4π area / perimeter², above 1 for tiny shapes
        - ``touches_border``; ``n_holes``: backgrounds enclosed (4-connected)
        - ``…_um``, ``…_um2``, ``pixel_size_um``, ``pixel_size_source`` where the pixel size is known
        - ``intensity_mean``, ``_min``, ``_max``, ``_integrated`` with ``pixels``; followed by ``_red``, ``_green``, ``_blue``
          (or the channel's number) where there are several channels

        Dots, and cells wholly outside the picture, have a centre and NaN for everything that needs an extent.

    Raises
    ------
    InputError
        If the picture's shape is unknown, or that of ``pixels`` is another.

    Examples
    --------
    >>> labels = np.zeros((9, 9), dtype=np.uint8)
    >>> labels[2:6, 3:5] = 1
    >>> table = measure_cells(AnnotatedImage.from_labels("a.png", labels), PixelSize(0.5, "user"))
    >>> table["area_px2"].tolist(), table["area_um2"].tolist(), table["y_px"].tolist()
    ([8.0], [2.0], [3.5])
    """
    regions = _regions(image)
    measured = {"area_px2": regions.areas.astype(np.float64)}
    convex_areas, ferets = _ferets(regions)
    holes, measured["perimeter_px"] = _outlines(regions)
    measured |= ferets
    measured["equivalent_diameter_px"] = _equivalent_diameters(regions.areas)
    measured |= _ellipses(regions)
    measured["solidity"] = regions.areas / convex_areas
    round_length = np.where(measured["perimeter_px"] > 0, measured["perimeter_px"], np.nan)
    measured["circularity"] = 4 * math.pi * regions.areas / round_length**2
    columns: dict[str, NDArray[np.generic]] = {"cell": image.numbers}
    columns["x_px"], columns["y_px"] = image.centres[:, 0], image.centres[:, 1]
    columns |= {name: _of_all_cells(values, regions, len(image.cells)) for name, values in measured.items()}
    columns["touches_border"] = _touches_border(image)
    columns["n_holes"] = np.zeros(len(image.cells), dtype=np.int64)
    columns["n_holes"][regions.owner] = holes
    if pixel_size is not None:
        columns |= _in_micrometres(columns, pixel_size)
    if pixels is not None:
        columns |= _intensities(image, regions, pixels)
    return columns


def _regions(image: AnnotatedImage) -> _Regions:
    owner = np.flatnonzero(image.areas)
    flat = np.concatenate([image.pixels[index] for index in owner]) if len(owner) else np.empty(0, dtype=np.int64)
    y, x = np.divmod(flat, image.shape[1] if image.shape else 1)
    return _Regions(owner, np.concatenate([[0], np.cumsum(image.areas[owner])]), x, y)


def _of_all_cells(values: NDArray[np.float64], regions: _Regions, number: int) -> NDArray[np.float64]:
    column = np.full(number, np.nan)
    column[regions.owner] = values
    return column


def _touches_border(image: AnnotatedImage) -> NDArray[np.bool_]:
    height, width = image.shape or (0, 0)
    x_min, y_min, x_max, y_max = image.boxes.T
    touches: NDArray[np.bool_] = (x_min <= 0) | (y_min <= 0) | (x_max >= width - 1) | (y_max >= height - 1)
    return touches


def _equivalent_diameters(areas: NDArray[np.int64]) -> NDArray[np.float64]:
    diameters: NDArray[np.float64] = np.sqrt(4 * areas / math.pi)
    return diameters


def _in_micrometres(
    columns: Mapping[str, NDArray[np.generic]], pixel_size: PixelSize
) -> dict[str, NDArray[np.generic]]:
    twins: dict[str, NDArray[np.generic]] = {}
    for name, values in columns.items():
        for ending, power in (("_px", 1), ("_px2", 2)):
            if name.endswith(ending):
                twins[name.replace("_px", "_um")] = values.astype(np.float64) * pixel_size.um**power
    number = len(columns["cell"])
    twins["pixel_size_um"] = np.full(number, pixel_size.um)
    twins["pixel_size_source"] = np.full(number, pixel_size.source, dtype=object)
    return twins


def _intensities(
    image: AnnotatedImage, regions: _Regions, pixels: NDArray[np.generic]
) -> dict[str, NDArray[np.generic]]:
    if pixels.shape[:2] != image.shape or pixels.ndim not in (2, 3):
        raise InputError(image.name, expected=f"a picture of shape {image.shape}", found=f"one of shape {pixels.shape}")
    channels = {"": pixels}
    if pixels.ndim == 3:
        colours = ("_red", "_green", "_blue")
        number = pixels.shape[2]
        names = colours if number == 3 else tuple(f"_{channel}" for channel in range(1, number + 1))
        channels = {name: pixels[..., channel] for channel, name in enumerate(names)}
    columns: dict[str, NDArray[np.generic]] = {}
    for name, channel in channels.items():
        values = channel[regions.y, regions.x].astype(np.float64)
        found = {"mean": np.empty(0), "min": np.empty(0), "max": np.empty(0), "integrated": regions.total(values)}
        if len(regions.owner):
            found["mean"] = found["integrated"] / regions.areas
            found["min"] = np.minimum.reduceat(values, regions.start[:-1])
            found["max"] = np.maximum.reduceat(values, regions.start[:-1])
        for what, each in found.items():
            columns[f"intensity_{what}{name}"] = _of_all_cells(each, regions, len(image.cells))
    return columns


# ------------------------------------------------------------------------------------------------------------------ shape


def _ellipses(regions: _Regions) -> dict[str, NDArray[np.float64]]:
    """Axes of the ellipse that has the same second moments as the pixels' centres."""
    areas = np.maximum(regions.areas, 1)
    which = np.repeat(np.arange(len(areas)), regions.areas)
    x = regions.x - (regions.total(regions.x) / areas)[which]
    y = regions.y - (regions.total(regions.y) / areas)[which]
    xx, yy = regions.total(x * x) / areas, regions.total(y * y) / areas
    xy = regions.total(x * y) / areas
    spread = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    large, small = (xx + yy) / 2 + spread, np.maximum((xx + yy) / 2 - spread, 0)
    # y points down in the picture and angles are counted as seen, so the sign of the mixed moment is turned.
    angle = np.degrees(np.arctan2(-2 * xy, xx - yy) / 2) % 180
    return {
        "major_axis_px": 4 * np.sqrt(large),
        "minor_axis_px": 4 * np.sqrt(small),
        "orientation_deg": angle,
        "eccentricity": np.sqrt(1 - small / np.where(large > 0, large, 1)) * (large > 0),
    }


_BORDER_WEIGHTS = np.zeros(256)
_BORDER_WEIGHTS[[5, 7, 15, 17, 25, 27]] = 1
_BORDER_WEIGHTS[[21, 33]] = math.sqrt(2)
_BORDER_WEIGHTS[[13, 23]] = (1 + math.sqrt(2)) / 2
_NEIGHBOURS = np.array([[10, 2, 10], [2, 1, 2], [10, 2, 10]], dtype=np.float32)
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)


def _outlines(regions: _Regions) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the number of holes, and the perimeter: each border pixel adds what follows from those around it.

    The lengths are those of Benkrid and Crookes, "Design and FPGA implementation of a perimeter estimator" (2000).
    """
    holes, perimeters = np.zeros(len(regions.owner), dtype=np.int64), np.zeros(len(regions.owner))
    for index, (start, end) in enumerate(pairwise(regions.start)):
        x, y = regions.x[start:end], regions.y[start:end]
        left, top = x.min(), y[0]
        shape = np.zeros((y[-1] - top + 3, x.max() - left + 3), dtype=np.uint8)
        shape[y - top + 1, x - left + 1] = 1
        border = shape - cv2.erode(shape, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        kinds = cv2.filter2D(border, -1, _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT)
        perimeters[index] = np.bincount(kinds.ravel(), minlength=256) @ _BORDER_WEIGHTS
        # One background is the one around the cell; label 0 is the cell itself.
        holes[index] = cv2.connectedComponents(1 - shape, connectivity=4)[0] - 2
    return holes, perimeters


def _ferets(regions: _Regions) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Area of each region's convex hull drawn in pixels, and its Feret diameters.

    As in scikit-image the hull goes through the middles of the pixels' edges, the pixels whose centres it holds make the hull
    drawn in pixels, and the diameters are those of the line midway between its pixels and the others.
    """
    hull = _convex(_spans(regions), len(regions.owner))
    convex_areas = np.bincount(hull.region, hull.right - hull.left + 1, len(regions.owner)).astype(np.int64)
    found = np.array([_calipers(corners / 2) for corners in _hulls(hull, len(regions.owner))]).reshape(-1, 3)
    names = ("feret_max_px", "feret_min_px", "feret_angle_deg")
    return convex_areas, dict(zip(names, found.T, strict=True))


def _spans(regions: _Regions) -> _Spans:
    which = np.repeat(np.arange(len(regions.owner)), regions.areas)
    new = np.ones(len(which) + 1, dtype=bool)
    new[1:-1] = (np.diff(which) != 0) | (np.diff(regions.y) != 0)
    first = np.flatnonzero(new[:-1])
    last = np.flatnonzero(new[1:])
    return _Spans(which[first], regions.y[first], regions.x[first], regions.x[last])


def _hulls(spans: _Spans, number: int) -> list[NDArray[np.int64]]:
    """Corners of each region's convex hull, in half pixels so that they are whole numbers, shape (k, 2) each."""
    left, right, y = 2 * spans.left, 2 * spans.right, 2 * spans.y
    x_around = np.stack([left - 1, left, left, right + 1, right, right], axis=1)
    y_around = np.stack([y, y - 1, y + 1, y, y - 1, y + 1], axis=1)
    points = np.stack([x_around, y_around], axis=2).astype(np.int32)
    ends = np.searchsorted(spans.region, np.arange(number + 1))
    return [cv2.convexHull(points[start:end].reshape(-1, 1, 2))[:, 0].astype(np.int64) for start, end in pairwise(ends)]


def _convex(spans: _Spans, number: int) -> _Spans:
    """Rows of the pixels whose centres lie in the regions' convex hulls or on their edges, in exact whole numbers."""
    hulls = _hulls(spans, number)
    if not hulls:
        return spans
    sizes = np.array([len(corners) for corners in hulls])
    region = np.repeat(np.arange(number), sizes)
    begin = np.concatenate(hulls)
    end = np.concatenate([np.roll(corners, -1, axis=0) for corners in hulls])
    turned = begin[:, 1] > end[:, 1]
    begin[turned], end[turned] = end[turned], begin[turned]
    # Rows of pixels are the even ones; an edge counts in all rows from its upper to its lower end.
    first_row, last_row = -(-begin[:, 1] // 2), end[:, 1] // 2
    rows = np.where(end[:, 1] > begin[:, 1], np.maximum(last_row - first_row + 1, 0), 0)
    edge = np.repeat(np.arange(len(region)), rows)
    y = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first_row[edge]
    (x0, y0), (dx, dy) = begin[edge].T, (end - begin)[edge].T
    above, below = x0 * dy + (2 * y - y0) * dx, 2 * dy
    top = np.minimum.reduceat(first_row, np.cumsum(sizes) - sizes)
    bottom = np.maximum.reduceat(last_row, np.cumsum(sizes) - sizes)
    heights = bottom - top + 1
    base = np.cumsum(heights) - heights
    place = (base - top)[region[edge]] + y
    left = np.full(heights.sum(), np.iinfo(np.int64).max)
    right = np.full(heights.sum(), np.iinfo(np.int64).min)
    np.minimum.at(left, place, -(-above // below))
    np.maximum.at(right, place, above // below)
    of_row = np.repeat(np.arange(number), heights)
    convex = _Spans(of_row, np.arange(len(left)) - (base - top)[of_row], left, right)
    kept = left <= right  # thin slanting hulls pass between the pixels of some rows
    return _Spans(*(values[kept] for values in convex))


def _calipers(corners: NDArray[np.float64]) -> tuple[float, float, float]:
    """Largest and smallest width of a convex polygon, and the direction of the largest in degrees."""
    between = corners[None, :, :] - corners[:, None, :]
    squared = (between**2).sum(axis=2)
    ahead = np.roll(corners, -1, axis=0) - corners
    across = np.abs(between[..., 0] * ahead[:, None, 1] - between[..., 1] * ahead[:, None, 0])
    widths = across.max(axis=1) / np.hypot(ahead[:, 0], ahead[:, 1])
    largest = squared.max()
    # Of several equally long ones the smallest angle is given; y points down and angles are counted as seen.
    x, y = between[squared == largest].T
    angle = (np.degrees(np.arctan2(-y, x)) % 180).min()
    return math.sqrt(largest), float(widths.min()), float(angle)


# ---------------------------------------------------------------------------------------------------------------- Table 1


@dataclass(frozen=True, eq=False)
class PictureSummary:
    """What Table 1 needs to know of one labelled picture.

    Parameters
    ----------
    collection
        Name of the collection.
    picture
        Name of the picture.
    n_cells
        Number of cells, dots included.
    signal_percent
        Share of the picture's pixels that belong to cells, 0 to 100.
    areas, ferets, equivalent_diameters
        Of the cells that have an extent, in pixels; shape (m,) each.
    pixel_size
        None where it is unknown.
    """

    collection: str
    picture: str
    n_cells: int
    signal_percent: float
    areas: NDArray[np.float64]
    ferets: NDArray[np.float64]
    equivalent_diameters: NDArray[np.float64]
    pixel_size: PixelSize | None = None


def summarise(image: AnnotatedImage, collection: str, pixel_size: PixelSize | None = None) -> PictureSummary:
    """Measure what Table 1 needs of one picture; far quicker than :func:`measure_cells`.

    Raises
    ------
    InputError
        If the picture's shape is unknown.
    """
    regions = _regions(image)
    _, ferets = _ferets(regions)
    signal = 100 * np.count_nonzero(image.mask) / max(image.mask.size, 1)
    areas = regions.areas.astype(np.float64)
    diameters = _equivalent_diameters(regions.areas)
    number = len(image.cells)
    return PictureSummary(collection, image.name, number, signal, areas, ferets["feret_max_px"], diameters, pixel_size)


def table1(summaries: Iterable[PictureSummary], counts: Counts = "per-picture") -> Table1:
    """Sum up collections as Table 1 of the paper does.

    Parameters
    ----------
    summaries
        One for each labelled picture, empty ones included.
    counts
        What the column of cell counts is over. ``per-picture``: each picture once. ``published``: as the paper's numbers really
        are, each picture once for every cell on it and empty pictures once, so that full pictures weigh more (green's printed
        mean of 28.65 cells stands for 16.3 cells a picture).

    Returns
    -------
    dict
        For each collection, by name: ``counts`` as given, and ``signal_percent``, ``cell_count``, ``area_um2``, ``feret_um``,
        ``equivalent_diameter_um``, each with ``count``, ``mean``, ``std`` (n − 1), ``min``, ``10%``, ``25%``, ``50%``, ``75%``,
        ``90%``, ``max``; None where there is nothing to compute from. Where the pixel size of any picture with cells is unknown
        the last three are in pixels and named ``area_px2``, ``feret_px``, ``equivalent_diameter_px``.

    Raises
    ------
    InputError
        If ``counts`` is neither of the two.
    """
    if counts not in ("per-picture", "published"):
        raise InputError("counts", expected="per-picture or published", found=repr(counts))
    by_collection: dict[str, list[PictureSummary]] = {}
    for summary in summaries:
        by_collection.setdefault(summary.collection, []).append(summary)
    return {name: _collection(by_collection[name], counts) for name in sorted(by_collection)}


def _collection(pictures: Sequence[PictureSummary], counts: Counts) -> dict[str, dict[str, float | int | None] | str]:
    number = np.array([picture.n_cells for picture in pictures])
    weights = np.maximum(number, 1) if counts == "published" else np.ones_like(number)
    sizes = [picture.pixel_size for picture in pictures]
    known = any(sizes) and all(size for size, picture in zip(sizes, pictures, strict=True) if len(picture.areas))
    scales = [size.um if known and size else 1.0 for size in sizes]
    unit = "um" if known else "px"

    def scaled(what: str, power: int) -> NDArray[np.float64]:
        each = [getattr(picture, what) * scale**power for picture, scale in zip(pictures, scales, strict=True)]
        return np.concatenate(each)

    return {
        "counts": counts,
        "signal_percent": _described(np.array([picture.signal_percent for picture in pictures])),
        "cell_count": _described(np.repeat(number, weights)),
        f"area_{unit}2": _described(scaled("areas", 2)),
        f"feret_{unit}": _described(scaled("ferets", 1)),
        f"equivalent_diameter_{unit}": _described(scaled("equivalent_diameters", 1)),
    }


def _described(values: NDArray[np.generic]) -> dict[str, float | int | None]:
    names = ["mean", "std", "min", *(f"{share}%" for share in PERCENTILES), "max"]
    described: dict[str, float | int | None] = dict.fromkeys(["count", *names])
    described["count"] = len(values)
    if len(values):
        numbers = np.sort(
            values.astype(np.float64)
        )  # sorted, so that the order of the pictures cannot change the last digit
        described |= {"mean": float(numbers.mean()), "min": float(numbers[0]), "max": float(numbers[-1])}
        described |= {f"{share}%": float(np.percentile(numbers, share)) for share in PERCENTILES}
    if len(values) > 1:
        described["std"] = float(numbers.std(ddof=1))
    return described


def table1_frame(table: Table1) -> "pd.DataFrame":
    """Give Table 1 with one row for each measure of each collection, for a CSV file or a workbook."""
    import pandas as pd

    rows = [
        {"collection": collection, "measure": measure, "counts": measures["counts"], **described}
        for collection, measures in table.items()
        for measure, described in measures.items()
        if isinstance(described, dict)
    ]
    return pd.DataFrame(rows, columns=["collection", "measure", "counts", *_described(np.empty(0))])


MEASURE_TITLES = {
    "signal_percent": "signal %",
    "cell_count": "cell count",
    "area_um2": "area (µm²)",
    "area_px2": "area (px²)",
    "feret_um": "Feret diameter (µm)",
    "feret_px": "Feret diameter (px)",
    "equivalent_diameter_um": "equivalent diameter (µm)",
    "equivalent_diameter_px": "equivalent diameter (px)",
}
"""What tables and figures call the measures of Table 1, in the order of the paper."""


def table1_markdown(table: Table1) -> str:
    """Give Table 1 laid out as in the paper: a column for each measure of each collection, two digits behind the point."""
    columns = [
        (f"{title}, {collection}", described)
        for measure, title in MEASURE_TITLES.items()
        for collection, measures in table.items()
        if isinstance(described := measures.get(measure), dict)
    ]
    heads = ["", *(head for head, _ in columns)]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---', *['---:'] * len(columns)])} |"]
    for name in _described(np.empty(0)):
        lines.append(f"| {' | '.join([name, *(_shown(described[name]) for _, described in columns)])} |")
    if any(measures["counts"] == "published" for measures in table.values()):
        lines += ["", "Cell counts as published: each picture counts once for every cell on it, empty pictures once."]
    return "\n".join(lines) + "\n"


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.2f}"
