"""Numbers that the paper prints (Clissa et al., Fluorescent Neuronal Cells v2, Table 1 and figure 4c).

They are what real cells of each collection measure, and so what synthetic ones are drawn from and what annotations are
held against. The pixel size is not printed; it is worked out from the same table, see `PIXEL_SIZE_UM`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "CATEGORIES",
    "COLLECTIONS",
    "LEVELS",
    "PIXEL_SIZE_UM",
    "TABLE_1",
    "Category",
    "Distribution",
    "PublishedCollection",
    "category_of",
]

COLLECTIONS = ("green", "red", "yellow")

LEVELS = (0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 1.0)
"""Levels of the printed percentiles, from the minimum to the maximum."""

PIXEL_SIZE_UM = 0.314
"""Side of a pixel of the 1600x1200 pictures in µm.

Signal percent and area are two measures of the same cells: for yellow, 2621 cells of 132.55 µm² on 283 pictures, 0.65 % of
the pixels on average, make a pixel of 0.314 µm; green, on its own, gives 0.314 too.
"""


@dataclass(frozen=True)
class Distribution:
    """One printed column of Table 1.

    Attributes
    ----------
    mean, std
        As printed.
    quantiles
        Values at `LEVELS`.
    """

    mean: float
    std: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class PublishedCollection:
    """What the paper prints of one collection.

    Attributes
    ----------
    pictures, empty, cells
        Number of labelled pictures, of those without any cell, and of cells.
    signal_percent
        Share of cell pixels, over the pictures, in percent.
    cell_count
        Cells of the picture that a *cell* is on: every picture enters once a cell, and an empty one once.
    area_um2, feret_um, equivalent_diameter_um
        Over all cells.
    marker, structure
        The stain, and what it marks.
    """

    pictures: int
    empty: int
    cells: int
    signal_percent: Distribution
    cell_count: Distribution
    area_um2: Distribution
    feret_um: Distribution
    equivalent_diameter_um: Distribution
    marker: str
    structure: str


TABLE_1: Mapping[str, PublishedCollection] = {
    "green": PublishedCollection(
        pictures=283,
        empty=6,
        cells=4600,
        signal_percent=Distribution(0.64, 0.57, (0, 0.10, 0.25, 0.45, 0.92, 1.38, 3.36)),
        cell_count=Distribution(28.65, 17.49, (0, 9, 15, 25, 39.75, 56, 69)),
        area_um2=Distribution(74.78, 23.39, (12.41, 48.74, 58.58, 71.67, 87.33, 104.66, 227.04)),
        feret_um=Distribution(12.20, 1.92, (5.48, 9.85, 10.88, 12.07, 13.35, 14.70, 21.21)),
        equivalent_diameter_um=Distribution(9.64, 1.48, (3.97, 7.88, 8.64, 9.55, 10.54, 11.54, 17)),
        marker="cFOS",
        structure="nucleus",
    ),
    "red": PublishedCollection(
        pictures=184,
        empty=3,
        cells=4483,
        signal_percent=Distribution(2.61, 1.74, (0, 0.37, 1.34, 2.34, 3.53, 4.89, 8.40)),
        cell_count=Distribution(34.96, 17.90, (0, 14, 21, 31, 50, 58, 90)),
        area_um2=Distribution(246.52, 130.24, (24.81, 106.72, 144.04, 218.80, 320.75, 422.64, 842.66)),
        feret_um=Distribution(25.68, 8.86, (7.08, 15.67, 18.64, 24.38, 30.99, 37.64, 74.39)),
        equivalent_diameter_um=Distribution(17.13, 4.50, (5.62, 11.66, 13.54, 16.69, 20.21, 23.20, 32.76)),
        marker="Orx",
        structure="cytoplasm",
    ),
    "yellow": PublishedCollection(
        pictures=283,
        empty=38,
        cells=2621,
        signal_percent=Distribution(0.65, 0.80, (0, 0, 0.13, 0.40, 0.82, 1.49, 5.54)),
        cell_count=Distribution(25.76, 19.88, (0, 4, 9, 19, 44, 57, 72)),
        area_um2=Distribution(132.55, 66.02, (17.62, 66.16, 88.02, 117.75, 161.17, 218.27, 548.20)),
        feret_um=Distribution(17.24, 4.86, (6.09, 11.93, 13.90, 16.51, 19.76, 23.59, 41.66)),
        equivalent_diameter_um=Distribution(12.63, 3.04, (4.74, 9.18, 10.59, 12.24, 14.33, 16.67, 26.42)),
        marker="CTb",
        structure="cytoplasm",
    ),
}


class Category(NamedTuple):
    """A category of the published annotation files.

    Parameters
    ----------
    number
        Its id in the published COCO files.
    marker
        The stain, spelled as there.
    structure
        What the stain marks; the published files have it as ``citoplasm``.
    """

    number: int
    marker: str
    structure: str


CATEGORIES = (
    Category(1, "c-FOS", "nucleus"),
    Category(2, "CTb", "cytoplasm"),
    Category(3, "Orx", "cytoplasm"),
)


def category_of(marker: str | None) -> Category | None:
    """Give the published category of a marker, however its letters and hyphens are set; None for another marker.

    Examples
    --------
    >>> category_of("cFOS").number
    1
    """
    plain = (marker or "").replace("-", "").lower()
    return next((one for one in CATEGORIES if one.marker.replace("-", "").lower() == plain), None)
