"""Plane geometry of outlines: where a ring crosses itself."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["crossings"]

_MOST_PAIRS = 2**20


def crossings(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find where edges of a closed ring cross each other.

    Only true crossings count: each of the two edges has the other's ends on both sides. Edges that meet in a vertex, touch,
    or run over each other do not, as outlines of one-pixel-wide parts do so by nature.

    Parameters
    ----------
    ring
        Shape (n, 2), columns x, y in pixels; the last point is joined to the first.

    Returns
    -------
    numpy.ndarray
        The crossing points, shape (k, 2), ordered by the first and then the second edge.
    """
    start = np.asarray(ring, dtype=np.float64)
    # A closing point that repeats the first, or any point twice, makes edges without length, which cross nothing.
    along = np.roll(start, -1, axis=0) - start
    # In blocks, so that the outline of a whole tissue does not take memory by the square.
    step = max(1, _MOST_PAIRS // max(len(start), 1))
    found = [
        _crossings_of(np.arange(first, min(first + step, len(start))), start, along)
        for first in range(0, len(start), step)
    ]
    return np.concatenate(found) if found else np.empty((0, 2))


def _crossings_of(
    edges: NDArray[np.int64], start: NDArray[np.float64], along: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Crossings of a block of edges with those after them."""
    first = edges[0] + 1
    mine, rest = along[edges, None], along[None, first:]
    away = start[None, first:] - start[edges, None]
    begins, ends = _cross(mine, away), _cross(mine, away + rest)
    crossing = (begins * ends < 0) & (_cross(rest, -away) * _cross(rest, mine - away) < 0)
    one, other = np.nonzero(crossing & (np.arange(first, len(start)) > edges[:, None]))
    share = begins[one, other] / (begins[one, other] - ends[one, other])
    return np.asarray(start[first:][other] + share[:, None] * along[first:][other])


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
