"""Which of a cell's outlines are holes and which are parts of their own."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["ring_roles"]


def ring_roles(rings: Sequence[NDArray[np.float64]]) -> tuple[str, ...]:
    """Tell holes from parts by the even-odd rule: a ring inside an odd number of others is a hole.

    Parameters
    ----------
    rings
        Outlines of one cell, each (n, 2) with columns x, y in pixels.

    Returns
    -------
    tuple of str
        ``outer`` or ``hole`` for each ring.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0]])
    >>> ring_roles([square, square / 3 + 3, square + 20])
    ('outer', 'hole', 'outer')
    """
    if len(rings) < 2:
        return ("outer",) * len(rings)
    low = np.array([ring.min(axis=0) for ring in rings])
    high = np.array([ring.max(axis=0) for ring in rings])
    areas = np.array([cv2.contourArea(ring.astype(np.float32)) for ring in rings])
    order = np.arange(len(rings))
    depths = [0] * len(rings)
    for inner in range(len(rings)):
        enclosing = (low <= low[inner]).all(axis=1) & (high >= high[inner]).all(axis=1)
        # What lies inside is smaller; of two equal rings the later counts as inside, never each inside the other.
        enclosing &= (areas > areas[inner]) | ((areas == areas[inner]) & (order < inner))
        depths[inner] = sum(_inside(rings[inner], rings[outer]) for outer in np.flatnonzero(enclosing).tolist())
    return tuple("hole" if depth % 2 else "outer" for depth in depths)


def _inside(ring: NDArray[np.float64], outer: NDArray[np.float64]) -> bool:
    """Rings of one cell may touch: the first vertex off the other's outline decides."""
    contour = outer.astype(np.float32)
    for x, y in ring:
        side = cv2.pointPolygonTest(contour, (float(x), float(y)), measureDist=False)
        if side != 0:
            return bool(side > 0)
    return True
