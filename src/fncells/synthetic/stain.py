"""The light of one cell body: filled or granular, sharp or soft, with or without a dark nucleus."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.synthetic.looks import Stain
from fncells.synthetic.shapes import Form
from fncells.synthetic.tissue import Gray

__all__ = ["Grains", "body_light", "place_patch"]

_TILE = 320


@dataclass(frozen=True, eq=False)
class Grains:
    """Sheets of texture, without a seam, that pieces are cut from.

    Attributes
    ----------
    points
        Granules: mean 1, next to nothing between them.
    cloud
        Smooth unevenness, mean 0 and standard deviation 1.
    """

    points: Gray
    cloud: Gray

    @classmethod
    def draw(cls, scale: float, rng: np.random.Generator) -> "Grains":
        """Draw the sheets of one picture; `scale` is the size of its cells against those of the published pictures."""
        sparse = np.where(rng.random((_TILE, _TILE)) < 0.15, rng.lognormal(0, 0.7, (_TILE, _TILE)), 0)
        points = _without_seam(sparse.astype(np.float32), 0.75 * max(scale, 0.4) + 0.1)
        cloud = _without_seam(rng.standard_normal((_TILE, _TILE), dtype=np.float32), 4.0 * scale + 0.5)
        return cls(points / points.mean(), (cloud - cloud.mean()) / cloud.std())

    def cut(self, sheet: Gray, shape: tuple[int, ...], rng: np.random.Generator) -> Gray:
        """Cut a piece of a sheet from a place drawn by chance."""
        y, x = rng.integers(_TILE), rng.integers(_TILE)
        rows, columns = (np.arange(shape[0]) + y) % _TILE, (np.arange(shape[1]) + x) % _TILE
        return np.asarray(sheet[rows[:, None], columns])


def body_light(
    form: Form, stain: Stain, grains: Grains, softness: float, kind: float, rng: np.random.Generator
) -> Gray:
    """Paint the body of one cell, about 1 in its midst.

    Parameters
    ----------
    form
        The cell.
    stain
        What the stain makes of it.
    grains
        Texture of the picture.
    softness
        Blur of the outline, px.
    kind
        0 for a cell made of granules, 1 for one filled to the brim, and all between.
    rng
        Source of chance.

    Returns
    -------
    Gray
        Square with the cell's middle in its centre.
    """
    radius = max(float(np.sqrt(form.area / np.pi)), 1.0)
    reach = int(form.feret * 0.75 + 5 * softness) + 2
    levels = form.levels(reach)
    line = np.arange(-reach, reach + 1, dtype=np.float32) / np.float32(radius)
    light = 1 / (1 + np.exp(np.clip((levels - np.float32(0.93)) * np.float32(radius / softness), -20, 20)))
    # A soma is thickest in its middle, and the stain gathers at one side of the nucleus.
    light *= np.float32(1.2) - np.float32(0.45 * rng.uniform(0.5, 1.2)) * np.square(np.minimum(levels, 1.1))
    lean, angle = rng.uniform(0, 0.35), rng.uniform(0, 2 * np.pi)
    light *= np.maximum(1 + np.float32(lean) * (line[None] * np.cos(angle) + line[:, None] * np.sin(angle)), 0.2)
    light *= np.maximum(1 + np.float32(stain.coarse) * grains.cut(grains.cloud, levels.shape, rng), 0.25)
    granular = np.float32(stain.grain * (1 - kind))
    if granular > 0:
        points = grains.cut(grains.points, levels.shape, rng)
        share = min(float(granular), 1.0)
        # Granules lie beyond the soft outline too, where processes begin.
        light *= (1 - np.float32(0.6 * share)) + np.float32(0.6) * granular * points
    if rng.random() < stain.nucleus * (1 - 0.6 * kind):
        hollow = np.square(levels / np.float32(rng.uniform(0.32, 0.5)))
        light *= 1 - np.float32(rng.uniform(0.3, 0.75)) * np.exp(-hollow)
    return np.asarray(light, dtype=np.float32)


def place_patch(
    shape: tuple[int, int], middle: NDArray[np.int64], reach: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where a square patch around a place lies in the picture, and which part of it does; None where it lies outside."""
    x, y = (int(value) for value in middle)
    top, left = max(y - reach, 0), max(x - reach, 0)
    bottom, right = min(y + reach + 1, shape[0]), min(x + reach + 1, shape[1])
    if bottom <= top or right <= left:
        return None
    picture = slice(top, bottom), slice(left, right)
    return picture, (slice(top - y + reach, bottom - y + reach), slice(left - x + reach, right - x + reach))


def _without_seam(sheet: Gray, sigma: float) -> Gray:
    return np.asarray(cv2.GaussianBlur(np.pad(sheet, 32, mode="wrap"), (0, 0), sigma)[32:-32, 32:-32], dtype=np.float32)
