"""Any picture, told apart by its first bytes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fncells.errors import InputError, MissingExtraError
from fncells.images.calibration import pixel_size
from fncells.images.directories import exif_tags
from fncells.images.jpeg import jpeg_shape, read_jpeg
from fncells.images.microscopes import microscope_of, microscope_shape, read_microscope
from fncells.images.picture import Content, DamagedError, Picture, silenced
from fncells.images.planes import taken_of
from fncells.images.png import PNG, png_shape, read_png
from fncells.images.tiff import read_tiff, tiff_shape
from fncells.plane import Plane

__all__ = ["picture_shape", "read_picture"]

_A_PICTURE = "a TIFF, JPEG or PNG picture"
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    PNG: "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
}
_SHAPES = {"JPEG": jpeg_shape, "PNG": png_shape, "TIFF": tiff_shape}
_FIRST = Plane()


def read_picture(path: Path, name: str | None = None, plane: Plane = _FIRST) -> Picture:
    """Read a picture: TIFF (up to 16 bit, grey or RGB), JPEG or PNG, told apart by content and not by suffix.

    With the extra ``microscopes`` also ND2, CZI, LIF and what else bioio's plugins read, told by suffix and content. One-bit
    pictures become 0 and 255, palettes are expanded, transparency is dropped, and of several pictures in one file the first is
    taken unless another is chosen; each of these is said in the notes.

    Parameters
    ----------
    path
        The file.
    name
        What to call the picture; the file's name if not given.
    plane
        Which picture to take of a file that holds several.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        If the file is missing, empty, no such picture, cut short or damaged, of 32-bit or floating-point values, larger than
        2³⁰ pixels or than this machine's memory, or does not hold what `plane` chooses.
    MissingExtraError
        If it is a microscope's own format and the extra ``microscopes`` is not installed.
    """
    with _opened(path) as (file, kind), _refusing(path, kind):
        content = _content(path, file, kind, plane)
    tags, notes = dict(content.tags), list(content.notes)
    if content.exif is not None:
        told, oddities = exif_tags(content.exif)
        tags = told | tags
        notes += oddities
    size, oddities = pixel_size(tags)
    notes += oddities
    if tags.get("Exif.Image.Orientation", "1") not in ("0", "1"):
        notes.append(f"the Orientation tag says {tags['Exif.Image.Orientation']}; the pixels were not rotated")
    pixels = np.ascontiguousarray(content.pixels)
    pixels.flags.writeable = False
    unique = tuple(dict.fromkeys(notes))
    return Picture(name or path.name, pixels, size, tags, content.exif, unique, content.blocks)


def _content(path: Path, file: BinaryIO, kind: str, plane: Plane) -> Content:
    if kind == "TIFF":
        return read_tiff(file, plane)
    if kind in ("JPEG", "PNG"):
        taken_of(plane, {})  # these hold one picture
        if plane.scene not in (None, 1):
            message = f"a file of 1 scene, and no scene {plane.scene}"
            raise DamagedError(message)
        return read_jpeg(file) if kind == "JPEG" else read_png(file)
    return read_microscope(path, kind, plane)


def picture_shape(path: Path) -> tuple[int, int]:
    """Read a picture's height and width in pixels from the head of its file alone.

    Raises
    ------
    InputError
        If the file is missing, empty, no picture that can be read, or claims no pixels or more than 2³⁰.
    MissingExtraError
        If it is a microscope's own format and the extra ``microscopes`` is not installed.
    """
    with _opened(path) as (file, kind), _refusing(path, kind):
        return _SHAPES[kind](file) if kind in _SHAPES else microscope_shape(path, kind)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file and tell its kind by its first bytes, or by its suffix where it is a microscope's own."""
    try:
        file = path.open("rb")
    except OSError as error:
        found = "nothing of that name" if isinstance(error, FileNotFoundError) else f"none ({error.strerror})"
        raise InputError(path, expected=_A_PICTURE, found=found) from error
    with file:
        head = file.read(16)
        file.seek(0)
        kind = next((kind for start, kind in _SIGNATURES.items() if head.startswith(start)), None)
        kind = kind or microscope_of(path, head)
        if kind is None:
            found = "a file of another kind" if head else "an empty file"
            raise InputError(path, expected=_A_PICTURE, found=found)
        yield file, kind


@contextmanager
def _refusing(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises on a broken file into one line for the user, and let no warning of a library escape."""
    expected = _A_PICTURE if kind in _SHAPES else f"a picture in {kind}"
    with warnings.catch_warnings(), silenced("tifffile", "PIL"):
        warnings.simplefilter("ignore")
        try:
            yield
        except MissingExtraError:
            raise
        except DamagedError as error:
            raise InputError(path, expected=expected, found=str(error), advice=error.advice) from error
        except Exception as error:  # anything from IndexError to MemoryError, when a file lies about itself
            found = f"a damaged file ({' '.join(str(error).split()) or type(error).__name__})"
            raise InputError(path, expected=expected, found=found) from error
