"""Masks and label pictures as files: pixels of any type in, PNG and TIFF out, and the telling of one from the other."""

import logging
import math
from dataclasses import replace
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats.pictures import PictureFolder
from fncells.images.directories import check_chain
from fncells.images.strips import check_lzw

__all__ = [
    "ENDINGS",
    "Raster",
    "as_labels",
    "as_mask",
    "find_rasters",
    "looks_like_mask",
    "raster_candidates",
    "read_raster",
    "write_raster",
]

# tifffile logs what is odd about a file; what matters of it is said in one line here.
logging.getLogger(tifffile.__name__).addHandler(logging.NullHandler())

_MOST_PIXELS = 2**30  # as for pictures: beyond it a header is taken for a trap
_HIGHEST_RATIO, _ANY_BELOW = 2**17, 2**24  # bytes; an empty picture packed best (zstd) is a thirty-thousandth
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PILLOW_READERS = {b"\x89P": PngImageFile, b"\xff\xd8": JpegImageFile}
_MASK_VALUES = (1, 255, 65535)
_HALF_SCALE = {np.dtype(np.uint8): 128, np.dtype(np.uint16): 32768}
_LARGEST_LABEL = np.iinfo(np.int32).max


ENDINGS = (
    *("_cp_masks",),  # Cellpose
    *("_label_image", "_labels", "_label", "_instances", "_masks", "_mask", "_Objects", "_objects"),  # as people say
    *("-labelled", "-labels"),  # QuPath's export of labelled pictures
    *(
        "_Object Identities",
        "_Object-Identities",
        "_Object_Identities",
        "_Object Predictions",
        "_Simple Segmentation",
    ),  # ilastik
    *("_predictions", "_prediction", "_segmentation", "_seg"),
)
"""What tools and people append to a picture's name for that of its masks or labels."""


class Raster(NamedTuple):
    """A mask or label picture, and the picture that it belongs to.

    Parameters
    ----------
    path
        The file.
    name
        The picture's name as far as the file's own name tells it.
    pictures
        Where the picture may lie.
    """

    path: Path
    name: str
    pictures: PictureFolder

    def complete(self, image: AnnotatedImage) -> AnnotatedImage:
        """Add to the cells what their picture itself tells, its name included."""
        bare = (_without(self.name, ending) for ending in ENDINGS)
        names = (self.name, *(name for name in bare if name))
        name = next((name for name in names if self.pictures.find(name)), self.name)
        return self.pictures.complete(replace(image, name=name), rename=True)


def find_rasters(path: Path, images: Path | None) -> list[Raster]:
    """List the mask or label pictures in a folder (or the one picture), ordered by name.

    A file that is named after a picture with one of :data:`ENDINGS` belongs to that picture: where the picture lies in
    the folder of pictures, or beside the file (as Cellpose puts its masks), or where all files of the folder end so.
    Pictures with such a file beside them are no masks or labels.

    Parameters
    ----------
    path
        The folder, or one picture.
    images
        The folder of the pictures that the masks or labels belong to.

    Raises
    ------
    InputError
        If there is none, or two differ in the suffix alone.
    """
    sources = files.find_pictures([path])
    if not sources:
        found = "a folder without any"
        raise InputError(path, expected=f"pictures ({', '.join(sorted(files.PICTURE_SUFFIXES))})", found=found)
    pictures = PictureFolder(images)
    return sorted((Raster(source.path, name, pictures) for source, name in _named(sources)), key=itemgetter(1))


def _named(sources: list[files.Source]) -> list[tuple[files.Source, str]]:
    """Tell which files are masks or labels, each with its picture's name."""
    names = {_stem(source.name): source.name for source in sources}
    beside = [
        (source, names[_stem(bare)])
        for source in sources
        for ending in ENDINGS
        if (bare := _without(source.name, ending)) and _stem(bare) in names
    ]
    if beside:
        return beside
    for ending in ENDINGS:
        bare_names = [_without(source.name, ending) for source in sources]
        if all(bare_names):
            return [(source, bare) for source, bare in zip(sources, bare_names, strict=True) if bare]
    return [(source, source.name) for source in sources]


def _without(name: str, ending: str) -> str | None:
    """Give a name without an ending before its suffix; None where it does not end so."""
    path = PurePosixPath(name)
    stem = path.stem.removesuffix(ending)
    return str(path.with_name(f"{stem}{path.suffix}")) if stem and stem != path.stem else None


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def raster_candidates(path: Path) -> list[files.Source]:
    """List what could be masks or label pictures by name: a folder's pictures, the one picture, or nothing."""
    if path.is_dir() or path.suffix.lower() in files.PICTURE_SUFFIXES:
        return [source for source, _ in _named(files.find_pictures([path]))]
    return []


def read_raster(path: Path) -> NDArray[Any]:
    """Read the pixels of a mask or label picture as they are stored: no scaling, no change of type.

    Palette pictures give their indices if the palette has colours, and its grey levels if it has none. Transparency is
    dropped.

    Parameters
    ----------
    path
        A PNG, JPEG or TIFF file, told by its content.

    Returns
    -------
    numpy.ndarray
        Shape (height, width), or (height, width, 3) where the colour channels differ; bool, integer or float.

    Raises
    ------
    InputError
        If the file is no such picture, is damaged or cut short, holds several planes or more than 2³⁰ pixels.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
        if beginning not in _TIFF_BEGINNINGS and beginning[:2] not in _PILLOW_READERS:
            raise InputError(path, expected="a PNG, JPEG or TIFF picture", found="a file of another kind")
        array = _read_tiff(path) if beginning in _TIFF_BEGINNINGS else _read_other(path, beginning)
    except InputError:
        raise
    # Decoders fail on hostile bytes with nearly every exception there is, and all of them mean the same here.
    except Exception as error:
        found = f"one that cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise InputError(path, expected="a whole PNG, JPEG or TIFF picture", found=found) from None
    array = _one_plane(array, path)
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def as_mask(array: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    """Tell cells from background.

    Colours count by their brightest channel. A picture of at most two values, 0 and another, is a mask as it stands. One
    of more values is a grey picture: cells are what reaches half of the scale (128 of 255, 32768 of 65535, 0.5 for
    fractions up to 1). Where nothing does, or the type has no scale, the values are classes, and all but 0 are cells.

    Parameters
    ----------
    array
        As :func:`read_raster` gives it.
    path
        Its file, for refusals.

    Returns
    -------
    numpy.ndarray
        bool, shape (height, width).

    Raises
    ------
    InputError
        If values are negative or not numbers, or there are two values and neither is 0.
    """
    grey = array.max(axis=2) if array.ndim == 3 else array
    if grey.dtype == np.bool_ or not grey.size:
        return grey.astype(bool)
    low, high = grey.min(), grey.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise InputError(path, expected="a mask of values from 0 upward", found=f"values from {low} to {high}")
    if bool(((grey == low) | (grey == high)).all()):
        if low != 0 and high != low:
            found = f"only the values {low} and {high}"
            raise InputError(path, expected="a mask with a background of 0", found=found)
        return np.asarray(grey != 0)
    half: float = _HALF_SCALE.get(grey.dtype, 0)
    if np.issubdtype(grey.dtype, np.floating) and high <= 1:
        half = 0.5
    return np.asarray(grey >= half) if 0 < half <= high else np.asarray(grey != 0)


def as_labels(array: NDArray[Any], path: Path) -> NDArray[np.int32]:
    """Give the label values of a picture.

    Parameters
    ----------
    array
        As :func:`read_raster` gives it; floats are taken where they are whole numbers.
    path
        Its file, for refusals.

    Returns
    -------
    numpy.ndarray
        int32, shape (height, width), 0 for background.

    Raises
    ------
    InputError
        If the picture is coloured, or a value is negative, no whole number, or above 2³¹ − 1.
    """
    if array.ndim == 3:
        advice = "read it with --from masks if its colours are cells"
        raise InputError(path, expected="a label picture of one channel", found="a coloured picture", advice=advice)
    if array.dtype != np.bool_ and array.size:
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= _LARGEST_LABEL):
            expected = f"labels from 0 to {_LARGEST_LABEL}"
            raise InputError(path, expected=expected, found=f"values from {low} to {high}")
        if np.issubdtype(array.dtype, np.floating) and bool((array != np.floor(array)).any()):
            raise InputError(path, expected="labels that are whole numbers", found="fractions")
    return array.astype(np.int32)


def looks_like_mask(path: Path) -> bool:
    """Tell whether a picture can be a mask rather than a label picture.

    It can if it is a JPEG (which keeps no labels), is coloured, or holds no value but 0 and one out of 1, 255 and 65535.

    Raises
    ------
    InputError
        If the picture cannot be read.
    """
    array = read_raster(path)
    if path.suffix.lower() in (".jpg", ".jpeg") or array.ndim == 3 or array.dtype == np.bool_ or not array.size:
        return True
    high = array.max()
    return bool(high == 0 or high in _MASK_VALUES) and bool(((array == 0) | (array == high)).all())


def write_raster(path: Path, array: NDArray[Any]) -> None:
    """Write a picture of one unsigned channel whole, as PNG or TIFF by the suffix; the bytes depend on the pixels alone."""
    if path.suffix == ".png":
        written, data = cv2.imencode(".png", array)
        if not written:
            raise InputError(path, expected="a picture with pixels", found=f"one of shape {array.shape}")
        files.write_bytes(path, data.tobytes())
        return
    with files.whole(path) as temporary:
        tifffile.imwrite(temporary, array, compression="zlib", metadata=None, software=False, photometric="minisblack")


def _read_tiff(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        check_chain(file)
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        _check_size(series.size // series.keyframe.samplesperpixel, path)
        _check_whole(series, path)
        array, axes = np.asarray(series.asarray()), series.axes
        if len(axes) == array.ndim:
            single = tuple(index for index, axis in enumerate(axes) if axis not in "YXS" and array.shape[index] == 1)
            array, axes = np.squeeze(array, single), "".join(axes[i] for i in range(len(axes)) if i not in single)
        if len(axes) == array.ndim == 3 and axes[0] in "SC" and 2 <= array.shape[0] <= 4:
            array = np.moveaxis(array, 0, 2)
        return np.asarray(array)


def _check_whole(series: tifffile.TiffPageSeries, path: Path) -> None:
    """Refuse strips and tiles that are not there: the decoder would take them for background."""
    expected, size = math.prod(series.keyframe.chunked), path.stat().st_size
    for page in series.pages:
        segments = [] if page is None else list(zip(page.dataoffsets, page.databytecounts, strict=False))
        there = sum(offset > 0 and 0 < count <= size - offset for offset, count in segments)
        if there != expected:
            raise InputError(path, expected=f"a whole TIFF of {expected} strips or tiles", found=f"{there} of them")
        if page is not None:
            check_lzw(page)
        packed = sum(count for _, count in segments)
        if series.keyframe.nbytes > max(_ANY_BELOW, _HIGHEST_RATIO * packed):
            found = f"{packed} bytes for a picture of {series.keyframe.nbytes}"
            raise InputError(path, expected="as much data as a picture of its size takes", found=found)


def _read_other(path: Path, beginning: bytes) -> NDArray[Any]:
    # Opened by its own class, as Image.open refuses what is larger than 179 million pixels, and slide scans are.
    with _PILLOW_READERS[beginning[:2]](path) as image:
        _check_size(image.width * image.height, path)
        image.load()
        if image.format == "PNG" and _png_depth(path) == 16 and image.mode != "I;16":
            # Pillow keeps 8 bits of each colour; it has checked that the file is whole, which OpenCV does not.
            return np.array(cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED))
        if image.mode == "CMYK":
            return np.asarray(image.convert("RGB"))
        array = np.asarray(image)
        if image.mode == "P":
            palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            if (palette == palette[:, :1]).all() and array.max() < len(palette):
                return np.asarray(palette[array, 0])
        return array


def _png_depth(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(25)[24]


def _check_size(pixels: int, path: Path) -> None:
    if pixels > _MOST_PIXELS:
        raise InputError(path, expected=f"at most {_MOST_PIXELS} pixels", found=f"{pixels}")


def _one_plane(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Drop transparency, and colour channels that all say the same; refuse stacks."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        found = f"{'several planes' if array.size else 'nothing'} (an array of shape {array.shape})"
        raise InputError(path, expected="one plane", found=found, advice="split a stack first")
    if array.ndim == 3:
        array = array[:, :, : {1: 1, 2: 1, 3: 3, 4: 3}[array.shape[2]]]
        if bool((array == array[:, :, :1]).all()):
            array = array[:, :, 0]
    if not (
        array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)
    ):
        raise InputError(path, expected="whole or real numbers", found=f"values of type {array.dtype}")
    return array
