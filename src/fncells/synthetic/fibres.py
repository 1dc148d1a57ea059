"""Fibres: lines that wander, drawn sharply on a canvas and blurred together."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.synthetic.tissue import Gray, soften

__all__ = ["Strokes", "strands"]

_SUBPIXEL = 4  # bits, for OpenCV's drawing of lines
_LEVELS = 24  # brightnesses that strands are drawn in, so that many go in one call


class Strokes:
    """A canvas for thin lines, drawn sharply and blurred together; where lines cross, the later one shows.

    Parameters
    ----------
    shape
        Height and width.
    top
        Grey level of a line of strength 1.
    """

    def __init__(self, shape: tuple[int, int], top: float) -> None:
        self._canvas = np.zeros(shape, dtype=np.uint8)
        self._top = top

    def line(self, points: NDArray[np.float64], strength: NDArray[np.float64], width: NDArray[np.float64]) -> None:
        """Draw a line through points (n, 2); strength (0 to 1) and width in pixels belong to its n − 1 pieces."""
        fixed = _fixed(points)
        levels = np.rint(np.clip(strength, 0, 1) * 255).astype(int).tolist()
        widths = _widths(width).tolist()
        for start, end, level, thick in zip(fixed[:-1], fixed[1:], levels, widths, strict=True):
            cv2.line(self._canvas, start.tolist(), end.tolist(), level, thick, cv2.LINE_AA, _SUBPIXEL)

    def strands(self, points: NDArray[np.float64], strength: NDArray[np.float64], width: NDArray[np.float64]) -> None:
        """Draw many lines, faint ones first: points (lines, n, 2), one strength (0 to 1) and one width in pixels for each."""
        fixed, widths = _fixed(points), _widths(width)
        levels = np.maximum(np.rint(np.clip(strength, 0, 1) * _LEVELS), 1).astype(int)
        for level in np.unique(levels):
            for thick in np.unique(widths[levels == level]):
                chosen = list(fixed[(levels == level) & (widths == thick)])
                colour = int(level * 255 / _LEVELS)
                cv2.polylines(self._canvas, chosen, False, colour, int(thick), cv2.LINE_AA, _SUBPIXEL)

    def dots(self, points: NDArray[np.float64], strength: NDArray[np.float64], radius: NDArray[np.float64]) -> None:
        """Draw filled discs at points (n, 2)."""
        fixed = _fixed(points).tolist()
        radii = np.maximum(np.rint(radius * 2**_SUBPIXEL), 8).astype(int).tolist()
        levels = np.rint(np.clip(strength, 0, 1) * 255).astype(int).tolist()
        for point, size, level in zip(fixed, radii, levels, strict=True):
            cv2.circle(self._canvas, point, size, level, -1, cv2.LINE_AA, _SUBPIXEL)

    def blurred(self, sigma: float) -> Gray:
        """Give the lines as grey levels, out of focus by `sigma` pixels."""
        return soften(self._canvas.astype(np.float32) * np.float32(self._top / 255), sigma)


def strands(
    starts: NDArray[np.float64],
    headings: NDArray[np.float64],
    lengths: NDArray[np.float64],
    pieces: int,
    wave: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw lines that wander about, as fibres do.

    Parameters
    ----------
    starts, headings, lengths
        For each line its first point (n, 2), its direction in radians and its length in pixels.
    pieces
        Straight pieces of each line.
    wave
        Standard deviation of the turn from piece to piece, radians.
    rng
        Source of chance.

    Returns
    -------
    numpy.ndarray
        Points x, y, shape (n, pieces + 1, 2).
    """
    number = len(starts)
    turns = rng.normal(0, wave, (number, pieces)) + rng.normal(0, wave / 8, (number, 1))
    directions = headings[:, None] + np.cumsum(turns, axis=1)
    steps = np.stack([np.cos(directions), np.sin(directions)], axis=-1) * (lengths / pieces)[:, None, None]
    return np.concatenate([starts[:, None], starts[:, None] + np.cumsum(steps, axis=1)], axis=1)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    # Lines far outside the picture cost as much as lines in it, and overflow OpenCV's fixed point.
    return np.asarray(np.rint(np.clip(points, -1e5, 1e5) * 2**_SUBPIXEL), dtype=np.int32)


def _widths(width: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.maximum(np.rint(width), 1).astype(np.int64)
