"""Binary masks: a folder of pictures, cells white (255) on black (0), as in the published archive."""

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
    as_mask,
    find_rasters,
    looks_like_mask,
    raster_candidates,
    read_raster,
    write_raster,
)

__all__ = ["CODEC"]


def find(path: Path, images: Path | None = None) -> Iterator[Unread]:
    """Find masks; every 8-connected component is a cell, numbered in raster order of the components' first pixels.

    Parameters
    ----------
    path
        A folder of PNG, TIFF or JPEG pictures, with its sub-folders, or one picture. Taken are 0/255, 0/1, 0/65535,
        truth values, colours and grey levels; see :func:`fncells.formats.rasters.as_mask` for the rule.
    images
        The folder of the pictures that the masks belong to; gives the cells their pictures' names.

    Yields
    ------
    Unread
        Ordered by name, the name being the mask's file name, or its picture's where that is found.

    Raises
    ------
    InputError
        If there is no picture; on reading, if one cannot be read as a mask.
    """
    for raster in find_rasters(path, images):
        yield Unread(raster.name, partial(_read, raster))


def _read(raster: Raster) -> AnnotatedImage:
    mask = as_mask(read_raster(raster.path), raster.path)
    return raster.complete(AnnotatedImage.from_mask(raster.name, mask))


@contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Write one 8-bit PNG of 0 and 255 a picture, named by the picture's stem, sub-folders kept.

    Raises
    ------
    InputError
        On adding, if the picture's shape is unknown, or its name cannot be a file name within the folder.
    """
    folder = OutputFolder(path)

    def add(image: AnnotatedImage) -> None:
        mask = image.mask.astype(np.uint8) * np.uint8(255)
        write_raster(folder.place(image.name, ".png"), mask)

    yield add


def recognises(path: Path) -> bool:
    """Tell whether every picture of a folder can be a mask.

    The folder as a whole decides: a label picture that holds one cell with the value 1 looks like a mask, and is taken
    for labels if any other picture of its folder holds another value.
    """
    sources = raster_candidates(path)
    return bool(sources) and all(looks_like_mask(source.path) for source in sources)


CODEC = Codec(
    name="masks",
    find=find,
    find_foreign=find,
    writing=writing,
    recognises=recognises,
    one_file=False,
    loses=(
        "touching and overlapping cells become one",
        "a cell of several parts becomes several",
        "label numbers, dots, outlines finer than a pixel, and attributes",
    ),
)
