"""What lies around the cells: the slice's anatomy, its texture, fibres and artefacts; and the camera that sees it all."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Anatomy", "Gray", "Strokes", "clouds", "holes", "soften", "tissue_edge", "wander"]

Gray = NDArray[np.float32]

_SUBPIXEL = 4  # bits, for OpenCV's drawing of lines


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What two pictures of one field of view share, whatever the filter; places are shares of the picture's width.

    Attributes
    ----------
    ventricle
        Middle x, y, half-axes and turn of the dark hollow at the edge of the picture; None where there is none.
    nests
        Middle x, y and spread of places where cells gather, shape (n, 3).
    grain
        Seed of the tissue's texture and of the light's unevenness.
    """

    ventricle: tuple[float, float, float, float, float] | None
    nests: NDArray[np.float64]
    grain: int

    @classmethod
    def draw(cls, rng: np.random.Generator, aspect: float) -> "Anatomy":
        """Draw an anatomy for a picture of the given height over width."""
        present, side = rng.random() < 0.3, rng.integers(4)
        along, depth = rng.uniform(0.1, 0.9), rng.uniform(-0.02, 0.10)
        half = rng.uniform(0.15, 0.45), rng.uniform(0.12, 0.22)
        out = depth - half[1]
        middle = [
            (along, out * aspect),
            (along, aspect * (1 - out)),
            (out, along * aspect),
            (1 - out, along * aspect),
        ][side]
        turn = rng.normal(0, 0.15) + (np.pi / 2 if side > 1 else 0.0)
        number = rng.integers(1, 4)
        nests = np.stack(
            [rng.uniform(0.15, 0.85, number), rng.uniform(0.15, 0.85, number) * aspect, rng.uniform(0.06, 0.2, number)],
            1,
        )
        return cls((*middle, *half, turn) if present else None, nests, int(rng.integers(2**32)))


def clouds(shape: tuple[int, int], rng: np.random.Generator, sizes: tuple[float, ...], aspect: float = 1.0) -> Gray:
    """Even mixture of smooth noise of several grain sizes, mean near 0 and standard deviation near 1.

    Parameters
    ----------
    shape
        Height and width.
    rng
        Source of chance.
    sizes
        Distance of the grains in pixels, one a layer.
    aspect
        How many times as wide as high the grains are.
    """
    height, width = shape
    canvas = np.zeros((1, 1), dtype=np.float32)
    # From coarse to fine, so that the many pixels are touched once and not once a layer.
    for size in sorted(sizes, reverse=True):
        grid = max(2, round(width / (size * aspect)) + 2), max(2, round(height / size) + 2)
        layer = rng.standard_normal(grid[::-1], dtype=np.float32)
        canvas = cv2.resize(canvas, grid, interpolation=cv2.INTER_CUBIC).reshape(layer.shape) + layer
    # Enlarging by cubic interpolation leaves some two thirds of a layer's deviation.
    enlarged = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged * np.float32(1.35 / np.sqrt(len(sizes))), dtype=np.float32)


def holes(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Gray:
    """Shade of cell bodies that took no stain: 0 nearly everywhere, 1 in the dark spots, some `size` px high."""
    field = clouds(shape, rng, (size,), aspect=1.5)
    field += 0.35 * clouds(shape, rng, (size / 2.5,))
    return np.asarray(np.square(np.clip((field - 0.85) / 1.1, 0, 1)), dtype=np.float32)


def tissue_edge(shape: tuple[int, int], anatomy: Anatomy, blur: float) -> tuple[Gray, Gray] | None:
    """Where the tissue is, 1 to 0 in the ventricle, and how near its edge, 1 to 0; None without a ventricle."""
    if anatomy.ventricle is None:
        return None
    height, width = shape
    step = max(1, width // 200)
    y, x = np.mgrid[0 : height + step : step, 0 : width + step : step].astype(np.float32) / width
    x_middle, y_middle, half_along, half_across, turn = anatomy.ventricle
    cos, sin = np.cos(turn), np.sin(turn)
    u = ((x - x_middle) * cos + (y - y_middle) * sin) / half_along
    v = ((y - y_middle) * cos - (x - x_middle) * sin) / half_across
    wave = clouds(y.shape, np.random.default_rng(anatomy.grain), (12.0, 30.0)) * 0.03
    outside = (np.hypot(u, v) - 1 + wave) * min(half_along, half_across) * width
    large = cv2.resize(
        outside.astype(np.float32), (x.shape[1] * step, x.shape[0] * step), interpolation=cv2.INTER_LINEAR
    )
    distance = large[:height, :width]
    inside = 1 / (1 + np.exp(np.clip(-distance / np.float32(blur), -30, 30)))
    near = np.exp(-np.square(np.maximum(distance, 0) / np.float32(6 * blur)))
    return inside.astype(np.float32), (near * inside).astype(np.float32)


def soften(canvas: Gray, sigma: float) -> Gray:
    """Gaussian blur; a wide one is done on a smaller picture, where it costs less and looks the same."""
    if sigma < 0.3:
        return canvas
    shrink = int(sigma // 3)
    if shrink < 2:
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma), dtype=np.float32)
    height, width = canvas.shape
    small = cv2.resize(canvas, (-(-width // shrink), -(-height // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


class Strokes:
    """A canvas for thin lines: fibres and processes, drawn sharply and blurred together.

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
        fixed = np.rint(points * 2**_SUBPIXEL).astype(np.int32)
        levels = np.rint(np.clip(strength, 0, 1) * 255).astype(int).tolist()
        widths = np.maximum(np.rint(width), 1).astype(int).tolist()
        if len(set(levels)) == len(set(widths)) == 1:
            cv2.polylines(self._canvas, [fixed], False, levels[0], widths[0], cv2.LINE_AA, _SUBPIXEL)
            return
        for start, end, level, thick in zip(fixed[:-1], fixed[1:], levels, widths, strict=True):
            cv2.line(self._canvas, start.tolist(), end.tolist(), level, thick, cv2.LINE_AA, _SUBPIXEL)

    def dots(self, points: NDArray[np.float64], strength: NDArray[np.float64], radius: NDArray[np.float64]) -> None:
        """Draw filled discs at points (n, 2)."""
        fixed = np.rint(points * 2**_SUBPIXEL).astype(int).tolist()
        radii = np.maximum(np.rint(radius * 2**_SUBPIXEL), 8).astype(int).tolist()
        levels = np.rint(np.clip(strength, 0, 1) * 255).astype(int).tolist()
        for point, size, level in zip(fixed, radii, levels, strict=True):
            cv2.circle(self._canvas, point, size, level, -1, cv2.LINE_AA, _SUBPIXEL)

    def blurred(self, sigma: float) -> Gray:
        """Give the lines as grey levels, out of focus by `sigma` pixels."""
        return soften(self._canvas.astype(np.float32) * np.float32(self._top / 255), sigma)


def wander(
    start: NDArray[np.float64], heading: float, length: float, pieces: int, waviness: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw a line that wanders about, as fibres do: (pieces + 1, 2) points in pixels."""
    turns = rng.normal(0, waviness, pieces) + rng.normal(0, waviness / 4)
    headings = heading + np.cumsum(turns)
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / pieces)
    return np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
