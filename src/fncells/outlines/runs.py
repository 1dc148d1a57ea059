"""Pixels as run lengths, and run lengths as text, as COCO has them.

Runs count pixels down the columns, from the upper left: first those outside, then those inside, and so on in turns; over
the whole picture they add up to its pixels. The text is COCO's compressed form: numbers of 5 bits a character, from the
third run on as differences to the run before the last.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fncells.cells import Region
from fncells.outlines.sheets import Sheet, sheets

__all__ = ["compressed_runs", "encoded_regions", "region_of_runs", "runs_in", "runs_of_regions"]

Runs = NDArray[np.int64]

_OFFSET = 48  # the character that stands for 0
_BITS, _SIGN, _MORE = 5, 0x10, 0x20
_MOST_PIXELS = 2**28
_LONGEST = 10  # characters of one number; 50 bits are more than any picture needs


def runs_of_regions(regions: Sequence[Region], shape: tuple[int, int]) -> list[Runs]:
    """Give the runs of each cell's pixels in a picture of the given height and width.

    Examples
    --------
    >>> [runs] = runs_of_regions([Region(np.ones((2, 1), dtype=bool), left=1, top=0)], (3, 2))
    >>> runs.tolist()
    [3, 2, 1]
    """
    found: list[Runs] = []
    for sheet in sheets(regions):
        runs, lengths = _runs(sheet, shape)
        found += np.split(runs, np.cumsum(lengths)[:-1])
    return found


def encoded_regions(regions: Sequence[Region], shape: tuple[int, int]) -> list[str]:
    """Give COCO's compressed text of each cell's pixels in a picture of the given height and width."""
    found: list[str] = []
    for sheet in sheets(regions):
        found += _compressed(*_runs(sheet, shape))
    return found


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
    starts = stops - runs[1::2]
    starts, stops = (bounds[stops > starts] for bounds in (starts, stops))
    if not len(starts):
        return None
    starts, stops = _in_columns(starts, stops, height)
    columns, rows = np.divmod(starts, height)
    lengths = stops - starts
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows.min()), int((rows + lengths).max())
    if (right - left) * (bottom - top) > _MOST_PIXELS:
        raise OverflowError
    mask = np.zeros((bottom - top, right - left), dtype=np.bool_)
    first = (rows - top) * (right - left) + columns - left
    down = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    mask.reshape(-1)[np.repeat(first, lengths) + down * (right - left)] = True
    return Region(mask, left, top)


def _in_columns(starts: Runs, stops: Runs, height: int) -> tuple[Runs, Runs]:
    """Part runs where they go on in the next column."""
    times = (stops - 1) // height - starts // height + 1
    if times.max() == 1:
        return starts, stops
    if int(times.sum()) > _MOST_PIXELS:
        raise OverflowError
    part = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
    starts, stops = np.repeat(starts, times), np.repeat(stops, times)
    begins = (starts // height + part) * height
    return np.maximum(starts, begins), np.minimum(stops, begins + height)


def compressed_runs(runs: Runs) -> str:
    """Write runs as COCO's compressed text."""
    return _compressed(runs, np.array([len(runs)]))[0]


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


def _runs(sheet: Sheet, shape: tuple[int, int]) -> tuple[Runs, NDArray[np.int64]]:
    """Give the runs of all cells one after the other, and how many each has."""
    height, width = shape
    flat = sheet.pixels.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    column, row = np.divmod(changes[::2], sheet.pixels.shape[1])
    cells = np.searchsorted(sheet.starts, column, side="right") - 1
    starts = (column - sheet.starts[cells] - 1 + sheet.lefts[cells]) * height + row - 1 + sheet.tops[cells]
    stops = starts + changes[1::2] - changes[::2]
    # Where a column is full from the lowest row on, its run goes on in the next.
    begins, ends = np.ones((2, len(starts)), dtype=np.bool_)
    begins[1:] = (cells[1:] != cells[:-1]) | (stops[:-1] != starts[1:])
    ends[:-1] = begins[1:]
    starts, stops, cells = starts[begins], stops[ends], cells[begins]

    inside = np.bincount(cells, minlength=len(sheet.cells))
    lengths = 2 * inside + 1
    ends = np.cumsum(lengths)
    bounds = np.full(int(ends[-1]), height * width, dtype=np.int64)
    first = np.arange(len(starts)) * 2 + cells
    bounds[first], bounds[first + 1] = starts, stops
    runs = np.diff(bounds, prepend=0)
    runs[ends[:-1]] = bounds[ends[:-1]]
    rest = runs[ends - 1] > 0
    kept = np.ones(len(runs), dtype=np.bool_)
    kept[ends - 1] = rest
    return runs[kept], lengths - ~rest


def _compressed(runs: Runs, lengths: NDArray[np.int64]) -> list[str]:
    """Texts of so many runs each."""
    place = np.arange(len(runs)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    numbers = runs.copy()
    numbers[2:] -= np.where(place[2:] > 2, runs[:-2], 0)
    digits = np.empty((len(numbers), _LONGEST), dtype=np.uint8)
    used = np.zeros(digits.shape, dtype=np.bool_)
    unfinished = np.ones(len(numbers), dtype=np.bool_)
    for column in range(_LONGEST):
        used[:, column] = unfinished
        digits[:, column] = numbers & 0x1F
        numbers >>= _BITS
        # Done where what is left is the sign alone: 0 after a digit without the sign's bit, -1 after one with it.
        unfinished &= numbers != -((digits[:, column] & _SIGN) // _SIGN).astype(np.int64)
        digits[:, column] += (_OFFSET + _MORE * unfinished).astype(np.uint8)
        if not unfinished.any():
            break
    text = digits[used].tobytes().decode("ascii")
    ends = np.cumsum(np.add.reduceat(used.sum(axis=1), np.cumsum(lengths) - lengths)).tolist()
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
