"""Made-up label pictures and what a network would make of them, the same at every run."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SHAPE = (1200, 1600)


def labels(cells: int, seed: int = 0) -> NDArray[np.int32]:
    """Ellipses of 8 to 16 px radius on a jittered grid, some of them touching; 1, 2, 3… in no order."""
    rng = np.random.default_rng(seed)
    columns = int(np.ceil((cells * SHAPE[1] / SHAPE[0]) ** 0.5))
    rows = int(np.ceil(cells / columns))
    picture = np.zeros(SHAPE, np.int32)
    for number, place in enumerate(rng.permutation(rows * columns)[:cells], start=1):
        row, column = divmod(int(place), columns)
        x = (column + rng.uniform(0.2, 0.8)) * SHAPE[1] / columns
        y = (row + rng.uniform(0.2, 0.8)) * SHAPE[0] / rows
        axes = (int(rng.integers(8, 17)), int(rng.integers(8, 17)))
        cv2.ellipse(picture, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, number, -1)
    return picture


def found(truth: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give a prediction of that truth: shifted a little, every tenth cell missed."""
    moved = np.roll(truth, (2, -3), axis=(0, 1))
    moved[moved % 10 == 0] = 0
    return moved


def heat_map(truth: NDArray[np.int32]) -> NDArray[np.float32]:
    """Give a heat map that is sure inside cells and unsure along their outlines."""
    return np.asarray(cv2.GaussianBlur((truth > 0).astype(np.float32), (0, 0), 1.5), np.float32).clip(0, 1)


def picture(truth: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Give a dim yellow picture with such cells, as CTb pictures are."""
    rng = np.random.default_rng(1)
    value = heat_map(truth)[..., np.newaxis] * (95, 75, 7) + (6, 2, 0) + rng.normal(0, 2, (*SHAPE, 3))
    return np.asarray(value.clip(0, 255), np.uint8)


def imported(name: str) -> Any | None:
    """Give a module by name, or None where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        return None
