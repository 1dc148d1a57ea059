"""The real pictures of the Fluorescent Neuronal Cells archive, as the folder of real data holds them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.images import read_picture


class Real(NamedTuple):
    """A picture, uint8 (h, w, 3), with the labels of its 8-connected cells, int32 (h, w); None where it has no mask."""

    collection: str
    stem: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int32] | None


def pictures(data: Path) -> Iterator[Real]:
    """Give all of them, by collection and name."""
    for path in sorted((data / "fnc").glob("*/images/*.png")):
        mask = path.parents[1] / "masks" / path.name
        labels = None
        if mask.exists():
            truth = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
            labels = cv2.connectedComponents((truth > 0).astype(np.uint8), connectivity=8)[1]
        yield Real(path.parents[1].name, path.stem, read_picture(path).pixels, labels)
