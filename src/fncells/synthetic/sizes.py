"""How many cells a picture has and how large they are: drawn from the percentiles of Table 1 (Clissa et al., FNC v2)."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, special

from fncells.published import LEVELS, TABLE_1, Distribution

__all__ = ["cell_count", "draw_sizes", "level_of", "stature_of"]

# Correlation of the logarithms of Feret and equivalent diameter, from the two printed spreads and an elongation that
# spreads by some 8 % (green), 20 % (red) and 15 % (yellow) about its mean.
_KINSHIP = {"green": 0.87, "red": 0.80, "yellow": 0.84}
# Share of the variance of the logarithm of size that lies between pictures.
_ALIKE = {"green": 0.20, "red": 0.08, "yellow": 0.05}
# Size of the cells on the fullest pictures, in standard deviations between pictures.
_FULLEST = {"green": 1.5, "red": -0.2, "yellow": 0.9}
# Cells on pictures of given ranks among those with cells. Fitted by least squares to the printed percentiles of the count,
# where every picture enters once a cell, to its mean, and to those of the signal.
_RANKS = np.array([0, 0.06, 0.15, 0.3, 0.45, 0.6, 0.75, 0.87, 0.95, 0.985, 0.997])
_COUNTS = {
    "green": (1, 2.27, 3.59, 8.45, 10.0, 16.2, 23.9, 30.4, 47.0, 60.4, 69),
    "red": (1, 1.55, 8.9, 14.1, 19.8, 25.8, 32.4, 46.8, 54.6, 67, 90),
    "yellow": (1, 1.4, 1.9, 2.9, 5.9, 8.0, 12.2, 20.2, 43.2, 60, 72),
}
_EXTREME = 3.4  # where the smallest and largest of some 3,000 cells lie, in standard deviations
_ROUNDEST = 1.06  # Feret over equivalent diameter of a nearly round cell of pixels


class Size(NamedTuple):
    """Size of one cell: area in µm² and greatest extension in µm."""

    area_um2: float
    feret_um: float


def draw_sizes(collection: str, number: int, rng: np.random.Generator, stature: float) -> list[Size]:
    """Draw the sizes of the cells of one picture.

    The draw is stratified: each cell takes another quantile, so that many small pictures together follow the printed
    percentiles without needing luck.

    Parameters
    ----------
    collection
        ``green``, ``red`` or ``yellow``.
    number
        How many.
    rng
        Source of chance.
    stature
        Rank of the picture by the size of its cells, from 0 to 1: the cells of one animal and one slice are alike.

    Returns
    -------
    list of Size
        In random order.
    """
    if not number:
        return []
    table = TABLE_1[collection]
    own = special.ndtri(_stratified(number, rng))
    alike = _ALIKE[collection]
    normal = np.sqrt(alike) * special.ndtri(np.clip(stature, 1e-4, 1 - 1e-4)) + np.sqrt(1 - alike) * own
    kinship = _KINSHIP[collection]
    other = kinship * normal + np.sqrt(1 - kinship**2) * special.ndtri(_stratified(number, rng))
    area = _values(table.area_um2, normal)
    feret = np.maximum(_values(table.feret_um, other), _ROUNDEST * np.sqrt(4 * area / np.pi))
    return [Size(float(a), float(f)) for a, f in zip(area, feret, strict=True)]


def cell_count(collection: str, level: float) -> int:
    """Tell how many cells a picture has, by its rank among the pictures.

    Table 1 prints the counts weighted by cells, and the signal, picture by picture, in percent; `_COUNTS` follows both.

    Parameters
    ----------
    collection
        ``green``, ``red`` or ``yellow``.
    level
        Share of the pictures that have fewer cells, from 0 to 1.

    Returns
    -------
    int
        Number of cells on a picture of the published field of view.
    """
    curve, empty = _count_curve(collection)
    return 0 if level < empty else round(float(curve(min(level, curve.x[-1]))))


def level_of(rank: float, e4500: bool) -> float:
    """Rank by number of cells of a red picture, from an even rank among the pictures of its camera.

    The old camera sees twice as large a field, so its pictures have the more cells: of the pictures of rank l it took the
    share l², which makes a third of all. Both cameras together have even ranks again.
    """
    # The inverses of l³ and of (3 l - l³) / 2, the shares of pictures below l.
    return float(np.cbrt(rank)) if e4500 else 2 * float(np.sin(np.arcsin(min(rank, 1.0)) / 3))


def stature_of(collection: str, rank: float, level: float) -> float:
    """Rank of a picture by the size of its cells, from an even rank: in the fullest pictures they are less unlike each other.

    The greatest printed signal tells how large the cells of those pictures are, see `_FULLEST`.
    """
    full = float(np.clip((level - 0.93) / 0.04, 0, 1))
    own = float(special.ndtri(np.clip(rank, 1e-4, 1 - 1e-4)))
    return float(special.ndtr(own * (1 - 0.8 * full) + _FULLEST[collection] * full))


def _stratified(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    within = rng.uniform(1e-3, 1 - 1e-3, number)
    return (rng.permutation(number) + within) / number


def _values(distribution: Distribution, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at the given standard normal deviates: monotone between the printed percentiles, never beyond the extremes."""
    at = np.array([-_EXTREME, *special.ndtri(LEVELS[1:-1]), _EXTREME])
    curve = interpolate.PchipInterpolator(at, np.log(distribution.quantiles))
    return np.asarray(np.exp(curve(np.clip(normal, -_EXTREME, _EXTREME))), dtype=np.float64)


@cache
def _count_curve(collection: str) -> tuple[interpolate.PchipInterpolator, float]:
    """Cells a picture by rank, for those that have any, and the share that has none."""
    table = TABLE_1[collection]
    empty = table.empty / table.pictures
    return interpolate.PchipInterpolator(empty + (1 - empty) * _RANKS, _COUNTS[collection]), empty
