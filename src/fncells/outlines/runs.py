"""Pixels as run lengths, and run lengths as text, as COCO has them.

Runs count pixels down the columns, from the upper left: first those outside, then those inside, and so on in turns; over
the whole picture they add up to its pixels. The text is COCO's compressed form: numbers of 5 bits a character, from the
third run on as differences to the run before the last.
"""

import numpy as np
from numpy.typing import NDArray

from fncells.cells import Region

__all__ = ["compressed_runs", "region_of_runs", "runs_in", "runs_of_region"]

Runs = NDArray[np.int64]

_OFFSET = 48  # the character that stands for 0
_BITS, _SIGN, _MORE = 5, 0x10, 0x20
_MOST_PIXELS = 2**28
_LONGEST = 10  # characters of one number; 50 bits are more than any picture needs


def runs_of_region(region: Region | None, shape: tuple[int, int]) -> Runs:
    """Give the runs of a cell's pixels in a picture of the given height and width.

    Examples
    --------
    >>> runs_of_region(Region(np.ones((2, 1), dtype=bool), left=1, top=0), (3, 2)).tolist()
    [3, 2, 1]
    """
    height, width = shape
    if region is None:
        return np.array([height * width], dtype=np.int64)
    x, y = np.nonzero(region.mask.T)
    indices = (x + region.left) * height + (y + region.top)
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    bounds = np.empty(2 * len(breaks) + 4, dtype=np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1:2] = indices[np.concatenate(([0], breaks))]
    bounds[2:-1:2] = indices[np.concatenate((breaks - 1, [len(indices) - 1]))] + 1
    runs = np.diff(bounds)
    return runs if runs[-1] else runs[:-1]


def region_of_runs(runs: Runs, shape: tuple[int, int]) -> Region | None:
    """Give the pixels that runs say are inside; None where there are none.

    Parameters
    ----------
    runs
        Not negative, adding up to the picture's pixels.
    shape
        Height and width of the picture.

    Raises
    ------
    OverflowError
        If the columns from the first to the last pixel are more than any cell, or mask, should take.
    """
    height = shape[0]
    stops = np.cumsum(runs)[1::2]
    lengths = runs[1::2]
    starts, stops = (bounds[lengths > 0] for bounds in (stops - lengths, stops))
    if not len(starts):
        return None
    left, right = int(starts[0]) // height, (int(stops[-1]) - 1) // height + 1
    if (right - left) * height > _MOST_PIXELS:
        raise OverflowError
    toggles = np.zeros((right - left) * height + 1, dtype=np.uint8)
    for bounds in (starts, stops):
        np.bitwise_xor.at(toggles, bounds - left * height, 1)
    columns = np.bitwise_xor.accumulate(toggles[:-1]).view(np.bool_).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return Region(np.ascontiguousarray(columns[:, top:bottom].T), left, top)


def compressed_runs(runs: Runs) -> str:
    """Write runs as COCO's compressed text."""
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    digits = np.empty((len(numbers), _LONGEST), dtype=np.uint8)
    used = np.zeros(digits.shape, dtype=np.bool_)
    open_numbers = np.ones(len(numbers), dtype=np.bool_)
    for place in range(_LONGEST):
        used[:, place] = open_numbers
        digits[:, place] = numbers & 0x1F
        numbers >>= _BITS
        # Done where what is left is the sign alone: 0 after a digit without the sign's bit, -1 after one with it.
        open_numbers &= numbers != -((digits[:, place] & _SIGN) // _SIGN).astype(np.int64)
        digits[:, place] += (_OFFSET + _MORE * open_numbers).astype(np.uint8)
        if not open_numbers.any():
            break
    return digits[used].tobytes().decode("ascii")


def runs_in(text: str | bytes) -> Runs | None:
    """Read COCO's compressed text; None where it is none, or says that a run is negative or beyond any picture."""
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        return None
    digits = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - _OFFSET
    if not len(digits) or digits.min() < 0 or digits.max() > 0x3F or digits[-1] & _MORE:
        return None
    last = np.flatnonzero((digits & _MORE) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _LONGEST:
        return None
    place = np.arange(len(digits)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((digits & 0x1F) << (_BITS * place), first)
    numbers -= ((digits[last] & _SIGN) > 0).astype(np.int64) << (_BITS * lengths)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return None if numbers.min() < 0 or numbers.max() > np.iinfo(np.int32).max else numbers
