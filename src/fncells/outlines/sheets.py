"""Many cells on one sheet, so that numpy works on all of them at once."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import Region

__all__ = ["Sheet", "sheets"]

_LARGEST = 2**22  # pixels; one larger cell has a sheet of its own


class Sheet(NamedTuple):
    """Cells laid out one below the other, each turned so that its columns are rows of the sheet.

    Parameters
    ----------
    pixels
        uint8, 1 inside; every cell has an empty row above and below and an empty column on both sides.
    cells
        Places of the cells in the sequence that they come from.
    starts
        The first row of each cell, its empty one included; shape (n + 1,) with the end.
    lefts, tops
        What to add to the cell's column, which begins with 0 at `starts` + 1, and to its row, which begins with 0 in the
        second column of the sheet; shape (n,).
    """

    pixels: NDArray[np.uint8]
    cells: range
    starts: NDArray[np.int64]
    lefts: NDArray[np.int64]
    tops: NDArray[np.int64]


def sheets(regions: Sequence[Region]) -> Iterator[Sheet]:
    """Lay out regions in their order, on as many sheets as it takes."""
    begin, width, height = 0, 0, 0
    for place, region in enumerate(regions):
        rows, columns = region.mask.shape
        if place > begin and (width + columns + 2) * max(height, rows + 2) > _LARGEST:
            yield _sheet(regions, range(begin, place))
            begin, width, height = place, 0, 0
        width, height = width + columns + 2, max(height, rows + 2)
    if regions:
        yield _sheet(regions, range(begin, len(regions)))


def _sheet(regions: Sequence[Region], cells: range) -> Sheet:
    chosen = [regions[place] for place in cells]
    sizes = [region.mask.shape[1] + 2 for region in chosen]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    height = max(region.mask.shape[0] for region in chosen) + 2
    pixels = np.zeros((int(starts[-1]), height), dtype=np.uint8)
    for start, (mask, _, _) in zip(starts.tolist(), chosen, strict=False):
        pixels[start + 1 : start + 1 + mask.shape[1], 1 : 1 + mask.shape[0]] = cv2.transpose(mask.view(np.uint8))
    lefts = np.array([region.left for region in chosen], dtype=np.int64)
    tops = np.array([region.top for region in chosen], dtype=np.int64)
    return Sheet(pixels, cells, starts, lefts, tops)
