"""How many cells a picture has and how large they are: drawn from the percentiles of Table 1 (Clissa et al., FNC v2)."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from fncells.published import LEVELS, TABLE_1, Distribution

__all__ = ["cell_count", "draw_sizes"]

# Correlation of the logarithms of Feret and equivalent diameter, from the two printed spreads and an elongation that
# spreads by some 8 % (green), 20 % (red) and 15 % (yellow) about its mean.
_KINSHIP = {"green": 0.87, "red": 0.80, "yellow": 0.84}
_EXTREME = 3.4  # where the smallest and largest of some 3,000 cells lie, in standard deviations
_ROUNDEST = 1.06  # Feret over equivalent diameter of a nearly round cell of pixels


class Size(NamedTuple):
    """Size of one cell: area in µm² and greatest extension in µm."""

    area_um2: float
    feret_um: float


def draw_sizes(collection: str, number: int, rng: np.random.Generator) -> list[Size]:
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

    Returns
    -------
    list of Size
        In random order.
    """
    if not number:
        return []
    table = TABLE_1[collection]
    normal = special.ndtri(_stratified(number, rng))
    kinship = _KINSHIP[collection]
    other = kinship * normal + np.sqrt(1 - kinship**2) * special.ndtri(_stratified(number, rng))
    area = _values(table.area_um2, normal)
    feret = np.maximum(_values(table.feret_um, other), _ROUNDEST * np.sqrt(4 * area / np.pi))
    return [Size(float(a), float(f)) for a, f in zip(area, feret, strict=True)]


def cell_count(collection: str, level: float) -> int:
    """Tell how many cells a picture has, by its rank among the pictures.

    Table 1 prints the counts weighted by cells; here the weight is taken out again, and the lowest tenth, where pictures
    of one and of eight cells cannot be told apart in print, is bent so that the mean number of cells a picture comes out.

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
    levels, counts = _count_curve(collection)
    return int(counts[min(int(np.searchsorted(levels, level, side="right")), len(counts) - 1)])


def _stratified(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    within = rng.uniform(1e-3, 1 - 1e-3, number)
    return (rng.permutation(number) + within) / number


def _values(distribution: Distribution, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values at the given standard normal deviates: monotone between the printed percentiles, never beyond the extremes."""
    at = np.array([-_EXTREME, *special.ndtri(LEVELS[1:-1]), _EXTREME])
    curve = interpolate.PchipInterpolator(at, np.log(distribution.quantiles))
    return np.asarray(np.exp(curve(np.clip(normal, -_EXTREME, _EXTREME))), dtype=np.float64)


@cache
def _count_curve(collection: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cumulative share of the pictures with up to n cells, for every n that occurs."""
    table = TABLE_1[collection]
    printed = np.array(table.cell_count.quantiles)
    ranks = (np.arange(20_000) + 0.5) / 20_000
    wished = table.cells / (table.pictures - table.empty)

    def counts(bend: float) -> NDArray[np.int64]:
        low = 1 + (printed[1] - 1) * np.minimum(ranks / LEVELS[1], 1) ** bend
        high = np.interp(ranks, LEVELS[1:], printed[1:])
        return np.asarray(np.rint(np.where(ranks < LEVELS[1], low, high)).astype(np.int64))

    def excess(bend: float) -> float:
        # The mean over pictures of a number whose mean over cells is known is the harmonic one.
        return float(1 / np.mean(1 / counts(bend)) - wished)

    bend = float(np.clip(optimize.brentq(excess, 0.02, 20.0), 0.02, 20.0)) if excess(0.02) * excess(20.0) < 0 else 1.0
    values, weights = np.unique(counts(bend), return_counts=True)
    shares = weights / values / np.sum(weights / values) * (1 - table.empty / table.pictures)
    return (
        np.concatenate([[table.empty / table.pictures], table.empty / table.pictures + np.cumsum(shares)]),
        np.concatenate([[0], values]),
    )
