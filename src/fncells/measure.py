"""Cells measured: one row a cell, one summary a picture, and Table 1 of a collection.

Every cell is measured on its own pixels, whatever overlaps it. Lengths and areas are in pixels, and in micrometres besides
where the pixel size is known. The definitions are those of scikit-image's ``regionprops``, with which the published
measurements were made (Clissa et al., Fluorescent Neuronal Cells v2); ``docs/measures.md`` gives each with its source.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.images import PixelSize
from fncells.published import TABLE_1
from fncells.spans import Spans, ellipses, ferets, parts_and_holes, perimeters, spans_of_cells, spans_of_labels

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MEASURE_TITLES",
    "PictureSummary",
    "Table1",
    "measure_cells",
    "measure_labels",
    "paper_frame",
    "paper_markdown",
    "paper_rows",
    "summarise",
    "table1",
    "table1_frame",
    "table1_markdown",
]

Counts = Literal["per-picture", "published"]
Columns = dict[str, NDArray[Any]]
Table1 = dict[str, dict[str, dict[str, float | int | None] | str]]

PERCENTILES = (10, 25, 50, 75, 90)

_GAP_PX = 2  # light spreads a little beyond a cell, and hands draw a little inside it
_LEAST_MARGIN_PX = 5
_COLOURS = ("_red", "_green", "_blue")
_MOST_CHANNELS = 4  # that OpenCV averages at once


def measure_cells(
    image: AnnotatedImage,
    pixel_size: PixelSize | None = None,
    pixels: NDArray[np.generic] | None = None,
) -> Columns:
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
        - ``box_left_px``, ``box_top_px``: first column and row; ``box_width_px``, ``box_height_px``: number of both
        - ``touches_border``; ``n_holes``: backgrounds enclosed (4-connected); ``n_parts``: 8-connected parts
        - ``…_um``, ``…_um2``, ``pixel_size_um``, ``pixel_size_source`` where the pixel size is known
        - ``intensity_mean``, ``_min``, ``_max``, ``_integrated`` with ``pixels``; ``intensity_background``: mean of what
          surrounds the cell; ``intensity_mean_corrected``, ``intensity_integrated_corrected``: without that background; all
          followed by ``_red``, ``_green``, ``_blue`` (or the channel's number) where there are several channels

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
    spans = spans_of_cells(image)
    shape = image.shape or (0, 0)
    geometry, light = _geometry(spans, shape), _intensities(spans, shape, pixels, image.name)
    if len(spans) < len(image.cells):
        geometry, light = (_of_all(columns, spans.number, len(image.cells)) for columns in (geometry, light))
        without = np.setdiff1d(np.arange(len(image.cells)), spans.number)
        geometry["x_px"][without], geometry["y_px"][without] = image.centres[without].T
        geometry["touches_border"][without] = _touching(image.boxes[without], shape)
    geometry["cell"] = image.numbers
    return geometry | _in_micrometres(geometry, pixel_size) | light


def measure_labels(
    labels: NDArray[Any],
    pixel_size: PixelSize | None = None,
    pixels: NDArray[np.generic] | None = None,
) -> Columns:
    """Measure every cell of a label picture, or of a mask; the quickest way from pixels to numbers.

    Parameters
    ----------
    labels
        Shape (height, width). Whole numbers are labels, with 0 for the background; each value is one cell. Booleans are a mask:
        each 8-connected component is one cell, numbered in raster order of their first pixels.
    pixel_size, pixels
        As in :func:`measure_cells`.

    Returns
    -------
    dict of str to numpy.ndarray
        As :func:`measure_cells` gives for ``AnnotatedImage.from_labels`` or ``from_mask``.

    Raises
    ------
    InputError
        If the array is no such picture, or the shape of ``pixels`` is another.

    Examples
    --------
    >>> table = measure_labels(np.eye(4, dtype=bool))
    >>> table["cell"].tolist(), table["area_px2"].tolist(), table["orientation_deg"].tolist()
    ([1], [4.0], [135.0])
    """
    spans = spans_of_labels(labels)
    geometry = _geometry(spans, labels.shape)
    light = _intensities(spans, labels.shape, pixels, "label picture")
    return geometry | _in_micrometres(geometry, pixel_size) | light


def _geometry(spans: Spans, shape: tuple[int, ...]) -> Columns:
    areas = spans.areas.astype(np.float64)
    perimeter, feret = perimeters(spans), ferets(spans)
    major, minor, orientation = ellipses(spans)
    parts, holes = parts_and_holes(spans)
    left, top, right, bottom = spans.boxes.T.astype(np.float64)
    return {
        "cell": spans.number,
        "x_px": spans.centres[:, 0],
        "y_px": spans.centres[:, 1],
        "area_px2": areas,
        "perimeter_px": perimeter,
        "feret_max_px": feret.largest,
        "feret_min_px": feret.smallest,
        "feret_angle_deg": feret.angle,
        "equivalent_diameter_px": _equivalent_diameters(areas),
        "major_axis_px": major,
        "minor_axis_px": minor,
        "orientation_deg": orientation,
        "eccentricity": np.sqrt(1 - (minor / np.where(major > 0, major, 1)) ** 2) * (major > 0),
        "solidity": areas / feret.convex_area,
        "circularity": 4 * math.pi * areas / np.where(perimeter > 0, perimeter, np.nan) ** 2,
        "box_left_px": left,
        "box_top_px": top,
        "box_width_px": right - left + 1,
        "box_height_px": bottom - top + 1,
        "touches_border": _touching(spans.boxes, shape),
        "n_holes": holes,
        "n_parts": parts,
    }


def _of_all(columns: Columns, owner: NDArray[np.int64], number: int) -> Columns:
    """Spread the measures of the cells that have pixels over all cells."""
    spread: Columns = {}
    for name, values in columns.items():
        spread[name] = np.full(number, math.nan if values.dtype == np.float64 else 0).astype(values.dtype)
        spread[name][owner] = values
    return spread


def _touching(boxes: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    height, width = shape
    x_min, y_min, x_max, y_max = boxes.T
    touches: NDArray[np.bool_] = (x_min <= 0) | (y_min <= 0) | (x_max >= width - 1) | (y_max >= height - 1)
    return touches


def _equivalent_diameters(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    diameters: NDArray[np.float64] = np.sqrt(4 * areas / math.pi)
    return diameters


def _in_micrometres(columns: Columns, pixel_size: PixelSize | None) -> Columns:
    twins: Columns = {}
    if pixel_size is None:
        return twins
    for name, values in columns.items():
        for ending, power in (("_px", 1), ("_px2", 2)):
            if name.endswith(ending):
                twins[name.replace("_px", "_um")] = values.astype(np.float64) * pixel_size.um**power
    number = len(columns["cell"])
    twins["pixel_size_um"] = np.full(number, pixel_size.um)
    twins["pixel_size_source"] = np.full(number, pixel_size.source, dtype=object)
    return twins


def _intensities(spans: Spans, shape: tuple[int, ...], pixels: NDArray[np.generic] | None, name: str) -> Columns:
    if pixels is None:
        return {}
    if pixels.shape[:2] != shape or pixels.ndim not in (2, 3):
        raise InputError(name, expected=f"a picture of shape {shape}", found=f"one of shape {pixels.shape}")
    height, width = shape
    number = 1 if pixels.ndim == 2 else pixels.shape[2]
    channels = pixels.reshape(height * width, number)
    names = ("",) if pixels.ndim == 2 else _COLOURS if number == 3 else tuple(f"_{one}" for one in range(1, number + 1))
    own = spans.pixels(width)
    begin = np.cumsum(spans.areas) - spans.areas
    backgrounds = _backgrounds(spans, own, pixels.reshape(height, width, number))
    columns: Columns = {}
    for channel, ending in enumerate(names):
        values = channels[own, channel].astype(np.float64)
        lowest = highest = total = values[:0]
        if len(spans):
            lowest, highest, total = (fold.reduceat(values, begin) for fold in (np.minimum, np.maximum, np.add))
        mean, background = total / spans.areas, backgrounds[:, channel]
        for what, each in {
            "mean": mean,
            "min": lowest,
            "max": highest,
            "integrated": total,
            "background": background,
            "mean_corrected": mean - background,
            "integrated_corrected": total - background * spans.areas,
        }.items():
            columns[f"intensity_{what}{ending}"] = each
    return columns


def _backgrounds(spans: Spans, own: NDArray[np.int64], pixels: NDArray[np.generic]) -> NDArray[np.float64]:
    """Mean of the background around each cell, shape (m, channels); NaN where all of it is cells.

    It is taken in the cell's box with a margin of half of its longer side, without all pixels of cells and those near to them.
    """
    height, width, channels = pixels.shape
    found = np.full((len(spans), channels), np.nan)
    if not len(spans):
        return found
    covered = np.zeros(height * width, dtype=np.uint8)
    covered[own] = 1
    spread = np.ones((2 * _GAP_PX + 1, 2 * _GAP_PX + 1), dtype=np.uint8)
    outside = 1 - cv2.dilate(covered.reshape(height, width), spread, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    known: NDArray[Any] = pixels if pixels.dtype in (np.uint8, np.uint16) else pixels.astype(np.float64)
    left, top, right, bottom = spans.boxes.T
    margin = np.maximum(np.maximum(right - left, bottom - top) // 2 + 1, _LEAST_MARGIN_PX)
    rows, columns = np.maximum(top - margin, 0), np.maximum(left - margin, 0)
    for cell, place in enumerate(zip(rows, bottom + margin + 1, columns, right + margin + 1, strict=True)):
        window = slice(place[0], place[1]), slice(place[2], place[3])
        if cv2.countNonZero(outside[window]):
            for first in range(0, channels, _MOST_CHANNELS):
                part = known[(*window, slice(first, first + _MOST_CHANNELS))]
                found[cell, first : first + part.shape[2]] = cv2.mean(part, mask=outside[window])[: part.shape[2]]
    return found


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
    shape
        Height and width of the picture in pixels; None where unknown.
    """

    collection: str
    picture: str
    n_cells: int
    signal_percent: float
    areas: NDArray[np.float64]
    ferets: NDArray[np.float64]
    equivalent_diameters: NDArray[np.float64]
    pixel_size: PixelSize | None = None
    shape: tuple[int, int] | None = None

    @property
    def density_per_mm2(self) -> float | None:
        """Cells on a square millimetre of the picture; None without a pixel size."""
        if self.pixel_size is None or not self.shape or not math.prod(self.shape):
            return None
        return self.n_cells / (math.prod(self.shape) * self.pixel_size.um**2) * 1e6


def summarise(image: AnnotatedImage, collection: str, pixel_size: PixelSize | None = None) -> PictureSummary:
    """Measure what Table 1 needs of one picture; far quicker than :func:`measure_cells`.

    Raises
    ------
    InputError
        If the picture's shape is unknown.
    """
    spans = spans_of_cells(image)
    signal = 100 * np.count_nonzero(image.mask) / max(image.mask.size, 1)
    areas = spans.areas.astype(np.float64)
    return PictureSummary(
        collection=collection,
        picture=image.name,
        n_cells=len(image.cells),
        signal_percent=signal,
        areas=areas,
        ferets=ferets(spans).largest,
        equivalent_diameters=_equivalent_diameters(areas),
        pixel_size=pixel_size,
        shape=image.shape,
    )


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


def paper_frame(table: Table1) -> "pd.DataFrame":
    """Hold Table 1 against the printed one (Clissa et al., FNC v2), row by row.

    Parameters
    ----------
    table
        What `table1` gives. Collections that the paper does not have, measures without a pixel size, and counts that are not
        weighted as the printed ones, are left out.

    Returns
    -------
    pandas.DataFrame
        Columns ``collection``, ``measure``, ``statistic``, ``found``, ``printed`` and ``difference_percent``, which is NA
        where the printed value is 0 or there is none to compare.
    """
    import pandas as pd

    rows: list[dict[str, object]] = []
    for collection, measures in table.items():
        for measure in MEASURE_TITLES:
            described, paper = measures.get(measure), getattr(TABLE_1.get(collection), measure, None)
            weighted = measure != "cell_count" or measures["counts"] == "published"
            if paper is None or not isinstance(described, dict) or not weighted:
                continue
            quantiles = zip(("min", "10%", "25%", "50%", "75%", "90%", "max"), paper.quantiles, strict=True)
            for statistic, printed in (("mean", paper.mean), ("std", paper.std), *quantiles):
                found = described[statistic]
                difference = 100 * (found / printed - 1) if printed and found is not None else None
                rows.append(
                    {
                        "collection": collection,
                        "measure": measure,
                        "statistic": statistic,
                        "found": found,
                        "printed": printed,
                        "difference_percent": difference,
                    }
                )
    return pd.DataFrame(rows, columns=["collection", "measure", "statistic", "found", "printed", "difference_percent"])


class PaperRow(NamedTuple):
    """One measure of one collection beside the paper: what was found and what is printed, by the names of the statistics."""

    collection: str
    measure: str
    pairs: dict[str, tuple[str, str]]


def paper_rows(frame: "pd.DataFrame") -> list[PaperRow]:
    """Lay out what `paper_frame` gives, two digits behind the point: a row for each measure of each collection."""
    rows: dict[tuple[str, str], PaperRow] = {}
    columns = (frame[name].tolist() for name in ("collection", "measure", "statistic", "found", "printed"))
    for collection, measure, statistic, found, printed in zip(*columns, strict=True):
        row = rows.setdefault((collection, measure), PaperRow(collection, measure, {}))
        row.pairs[statistic] = (_shown(found), f"{printed:g}")
    return list(rows.values())


def paper_markdown(table: Table1) -> str:
    """Give `paper_rows` as a table; empty without any."""
    rows = paper_rows(paper_frame(table))
    if not rows:
        return ""
    statistics = list(rows[0].pairs)
    lines = [f"| found / printed | {' | '.join(statistics)} |", f"| {' | '.join(['---'] * (len(statistics) + 1))} |"]
    for row in rows:
        cells = " | ".join(" / ".join(pair) for pair in row.pairs.values())
        lines.append(f"| {MEASURE_TITLES[row.measure]}, {row.collection} | {cells} |")
    return "\n".join(["The same beside Table 1 of the paper:", "", *lines]) + "\n"


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.2f}"
