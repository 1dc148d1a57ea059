"""COCO's run-length encodings as JSON has them: an object with the picture's size and the runs, as text or as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.cells import Region
from fncells.documents import Place, kind
from fncells.outlines import encoded_regions, region_of_runs, runs_in

__all__ = ["encodings_of", "region_in"]


def encodings_of(regions: Sequence[Region], shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Encode the pixels of cells in a picture of the given height and width, compressed."""
    return [{"size": list(shape), "counts": counts} for counts in encoded_regions(regions, shape)]


def region_in(value: Mapping[str, Any], shape: tuple[int, int], place: Place) -> Region | None:
    """Give the pixels that an encoding says; None where it says none.

    Parameters
    ----------
    value
        ``size``, height and width, and ``counts``: compressed text (or bytes), or the runs as a list.
    shape
        Height and width that the picture has.
    place
        For refusals.

    Raises
    ------
    InputError
        If the size is another, or the runs are none, negative, or do not add up to the picture's pixels.
    """
    if not _same(value.get("size"), shape):
        place.at("size").refuse(f"{list(shape)}, height and width of the picture", _said(value.get("size")))
    counts = value.get("counts")
    runs = (
        _listed(counts) if isinstance(counts, list) else runs_in(counts) if isinstance(counts, (str, bytes)) else None
    )
    if runs is None:
        place.at("counts").refuse("run lengths, as COCO's compressed text or as whole numbers", _said(counts))
    total = sum(runs.tolist())
    if total != shape[0] * shape[1]:
        expected = f"runs that add up to the picture's {shape[0] * shape[1]} pixels"
        place.at("counts").refuse(expected, f"runs of {total} in all")
    try:
        return region_of_runs(runs, shape)
    except OverflowError:
        place.at("counts").refuse("the pixels of a cell", "a region too large to be one")


def _same(size: object, shape: tuple[int, int]) -> bool:
    return isinstance(size, (list, tuple)) and all(type(side) is int for side in size) and tuple(size) == shape


def _listed(counts: list[Any]) -> NDArray[np.int64] | None:
    if not counts or not all(type(run) is int and 0 <= run < 2**31 for run in counts):
        return None
    return np.array(counts, dtype=np.int64)


def _said(value: object) -> str:
    if isinstance(value, list) and len(value) <= 4:
        return repr(value)[:60]
    return f"{len(value)} bytes that are none" if isinstance(value, bytes) else kind(value)
