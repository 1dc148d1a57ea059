"""What lies around the cells: the slice's anatomy and the texture of its tissue."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Anatomy", "Gray", "clouds", "hollows", "soften", "tissue_edge", "track_points"]

Gray = NDArray[np.float32]

_SUBPIXEL = 4  # bits, for OpenCV's drawing


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
    track
        Points x, y along which fibres and cells crowd, as along the midline of the hindbrain, shape (n, 2); empty where there
        is no such track.
    """

    ventricle: tuple[float, float, float, float, float] | None
    nests: NDArray[np.float64]
    grain: int
    track: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))

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

    def with_track(self, rng: np.random.Generator, aspect: float) -> "Anatomy":
        """Give the same anatomy with a track down the middle that may fork around a hollow below it."""
        x = rng.uniform(0.35, 0.65)
        fork = aspect * rng.uniform(0.45, 0.95)
        down = np.linspace(-0.05, 1, 24)
        stem = np.stack([x + 0.02 * np.sin(3 * down + rng.uniform(0, 6.28)), fork * down], axis=1)
        legs = []
        lean = rng.uniform(0.5, 1.1)
        for side in (-1, 1):
            out = np.linspace(0.02, 1, 14) * aspect * 0.6
            legs.append(np.stack([stem[-1, 0] + side * out * lean, fork + out], axis=1))
        hollow = (float(stem[-1, 0]), float(fork + 0.42), 0.42 * lean, 0.36, 0.0) if rng.random() < 0.6 else None
        return replace(self, ventricle=hollow or self.ventricle, track=np.concatenate([stem, *legs]))


def clouds(shape: tuple[int, int], rng: np.random.Generator, layers: Mapping[float, float]) -> Gray:
    """Mixture of smooth noise of several grain sizes, mean near 0.

    Parameters
    ----------
    shape
        Height and width.
    rng
        Source of chance.
    layers
        Standard deviation of each layer by the distance of its grains in pixels.
    """
    height, width = shape
    canvas = np.zeros((1, 1), dtype=np.float32)
    # From coarse to fine, so that the many pixels are touched once and not once a layer. Enlarging by cubic interpolation
    # leaves some two thirds of a layer's deviation.
    for size in sorted(layers, reverse=True):
        grid = max(2, round(width / size) + 2), max(2, round(height / size) + 2)
        layer = rng.standard_normal(grid[::-1], dtype=np.float32) * np.float32(1.35 * layers[size])
        canvas = cv2.resize(canvas, grid, interpolation=cv2.INTER_CUBIC).reshape(layer.shape) + layer
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def hollows(shape: tuple[int, int], rng: np.random.Generator, number: int, radius: float) -> Gray:
    """Shade of cell bodies that took no stain: 0 nearly everywhere, up to 1 in the dark spots.

    Parameters
    ----------
    shape
        Height and width.
    rng
        Source of chance.
    number
        How many.
    radius
        Of a typical one, in pixels.
    """
    height, width = shape
    canvas = np.zeros(shape, dtype=np.uint8)
    middles = rng.uniform((0, 0), (width, height), (number, 2))
    radii = radius * np.exp(rng.normal(0, 0.45, number))
    across = radii * rng.uniform(0.4, 1.0, number)
    turns = rng.uniform(0, 180, number)
    depths = 255 * rng.beta(1.2, 2.0, number)
    one = 2**_SUBPIXEL
    for index in np.argsort(depths):
        middle = tuple(np.rint(middles[index] * one).astype(int).tolist())
        axes = tuple(np.rint(np.maximum((radii[index], across[index]), 0.5) * one).astype(int).tolist())
        cv2.ellipse(canvas, middle, axes, turns[index], 0, 360, int(depths[index]), -1, cv2.LINE_AA, _SUBPIXEL)
    return soften(canvas.astype(np.float32) / np.float32(255), 0.35 * radius)


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
    wave = clouds(y.shape, np.random.default_rng(anatomy.grain), {12: 0.02, 30: 0.02})
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


def track_points(
    anatomy: Anatomy, number: int, spread: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places near the track of an anatomy, and the directions in which it runs there.

    Parameters
    ----------
    anatomy
        One with a track.
    number
        How many.
    spread
        Standard deviation of the distance from the track, as a share of the width.
    rng
        Source of chance.

    Returns
    -------
    tuple of numpy.ndarray
        Places (number, 2) as shares of the width, and directions (number,) in radians.
    """
    # Most lie on the stem and near the fork; the far ends of the legs are thin.
    chosen = np.minimum(
        rng.integers(0, len(anatomy.track) - 1, number), rng.integers(0, len(anatomy.track) + 6, number)
    )
    ahead = anatomy.track[chosen + 1] - anatomy.track[chosen]
    jumps = np.hypot(*ahead.T) > 0.2  # from the end of one leg to the start of the next
    ahead[jumps] = anatomy.track[chosen[jumps]] - anatomy.track[chosen[jumps] - 1]
    places = anatomy.track[chosen] + ahead * rng.random((number, 1)) + rng.normal(0, spread, (number, 2))
    return places, np.arctan2(ahead[:, 1], ahead[:, 0])
