"""Label pictures: a folder of pictures where each cell has its own number, as Cellpose, StarDist and CellProfiler write."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from fncells.cells import AnnotatedImage
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.folders import OutputFolder
from fncells.formats.rasters import (
    Raster,
    as_labels,
    find_rasters,
    looks_like_mask,
    raster_candidates,
    read_raster,
    write_raster,
)

__all__ = ["CODEC"]

_LARGEST_IN_PNG = np.iinfo(np.uint16).max


def find(path: Path, images: Path | None = None) -> Iterator[Unread]:
    """Find label pictures; each value above 0 is a cell, the value its number.

    Parameters
    ----------
    path
        A folder of PNG or TIFF pictures, with its sub-folders, or one picture; of integers, or floats that are whole.
    images
        The folder of the pictures that the labels belong to; gives the cells their pictures' names.

    Yields
    ------
    Unread
        Ordered by name, the name being the label picture's file name, or its picture's where that is found.

    Raises
    ------
    InputError
        If there is no picture; on reading, if one cannot be read as labels.
    """
    for raster in find_rasters(path, images):
        yield Unread(raster.name, partial(_read, raster))


def _read(raster: Raster) -> AnnotatedImage:
    labels = as_labels(read_raster(raster.path), raster.path)
    return raster.complete(AnnotatedImage.from_labels(raster.name, labels))


@contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Write one label picture a picture, named by the picture's stem, sub-folders kept.

    A 16-bit PNG; a 32-bit TIFF where a number is above 65,535, as it must be with more cells than that. Where cells
    overlap the later one is drawn over.

    Raises
    ------
    InputError
        On adding, if the picture's shape is unknown, or its name cannot be a file name within the folder.
    """
    folder = OutputFolder(path)

    def add(image: AnnotatedImage) -> None:
        large = bool(image.labels.max(initial=0) > _LARGEST_IN_PNG)
        place = folder.place(image.name, ".tif" if large else ".png")
        write_raster(place, image.labels.astype(np.uint32 if large else np.uint16))

    yield add


def recognises(path: Path) -> bool:
    """Tell whether the pictures of a folder are labels: any that cannot be a mask decides it."""
    return any(not looks_like_mask(source.path) for source in raster_candidates(path))


CODEC = Codec(
    name="labels",
    find=find,
    find_foreign=find,
    writing=writing,
    recognises=recognises,
    one_file=False,
    loses=("where cells overlap, the earlier one's pixels", "dots, outlines finer than a pixel, and attributes"),
)
