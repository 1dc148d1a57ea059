"""Cells and pictures made up for tests."""

import numpy as np

from fncells.cells import AnnotatedImage, Cell

SHAPE = (64, 64)


def box(left: float, top: float, right: float, bottom: float) -> Cell:
    return Cell((np.array([[left, top], [right, top], [right, bottom], [left, bottom]]),), source_shape="rect")


def dot(x: float, y: float) -> Cell:
    return Cell((np.array([[x, y]]),), source_shape="point")


def picture(*cells: Cell, name: str = "a.png", shape: tuple[int, int] | None = SHAPE) -> AnnotatedImage:
    return AnnotatedImage(name, shape, cells)


def labelled(labels: np.ndarray, name: str = "a.png") -> AnnotatedImage:
    return AnnotatedImage.from_labels(name, np.asarray(labels))


def row_of(*runs: int) -> np.ndarray:
    """Label picture of one row: runs of labels 1, 2, 3… of the given lengths side by side; a negative length is background."""
    values = [(0 if run < 0 else 1 + sum(r > 0 for r in runs[:place])) for place, run in enumerate(runs)]
    return np.repeat(values, np.abs(runs))[np.newaxis, :].astype(np.uint8)


def random_cells(rng: np.random.Generator, most: int, dots: bool = False) -> tuple[Cell, ...]:
    """A few boxes, so near each other that many overlap, and dots between them if wanted."""
    cells = []
    for _ in range(rng.integers(0, most + 1)):
        x, y, width, height = (int(value) for value in (*rng.integers(0, 5, 2), *rng.integers(1, 7, 2)))
        cells.append(dot(x, y) if dots and rng.random() < 0.3 else box(x, y, x + width, y + height))
    return tuple(cells)


def random_labels(rng: np.random.Generator, size: int = 64, most: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Two label pictures: discs, and the same ones moved, with some missing, some new."""
    sides = (np.zeros((size, size), dtype=np.uint16), np.zeros((size, size), dtype=np.uint16))
    y, x = np.mgrid[:size, :size]
    for number in range(1, int(rng.integers(0, most + 1)) + 1):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(1, 9)
        for side in sides:
            if rng.random() < 0.9:
                moved = centre + rng.normal(0, 1.5, 2)
                side[(y - moved[0]) ** 2 + (x - moved[1]) ** 2 <= (radius * rng.uniform(0.8, 1.2)) ** 2] = number
    return tuple(np.unique(side, return_inverse=True)[1].reshape(side.shape) for side in sides)  # type: ignore[return-value]


def many_pictures(seed: int, pictures: int) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    rng = np.random.default_rng(seed)
    pairs = [random_labels(rng) for _ in range(pictures)]
    return (
        [labelled(truth, f"{place:03}.png") for place, (truth, _) in enumerate(pairs)],
        [labelled(prediction, f"{place:03}.png") for place, (_, prediction) in enumerate(pairs)],
    )
