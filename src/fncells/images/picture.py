"""The value that a picture is, and what is refused whatever the format."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fncells.errors import InputError

__all__ = [
    "MOST_PIXELS",
    "Content",
    "DamagedError",
    "Picture",
    "PixelSize",
    "Pixels",
    "checked_shape",
    "decoded_text",
    "silenced",
]

Pixels = NDArray[np.uint8 | np.uint16]

MOST_PIXELS = 2**30  # a scan of 32,768 x 32,768; beyond it a header is taken for a trap rather than a picture
_COPIES = 3  # of the pixels that are in memory while a picture is decoded, turned and handed on


@dataclass(frozen=True)
class PixelSize:
    """How much of the specimen one pixel shows.

    Parameters
    ----------
    um
        Side of a pixel in micrometres, above 0.
    source
        Who says so: ``OME``, ``ImageJ unit``, a maker (``Nikon``, ``Zeiss``, ``Leica``, ``MetaMorph``, ``Aperio``, ``Olympus``,
        ``Micro-Manager``, ``FEI``), ``metadata`` or ``user``.

    Raises
    ------
    InputError
        If the size is not a positive, finite number.
    """

    um: float
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.um) and self.um > 0):
            raise InputError("pixel size", expected="a positive number of micrometres", found=str(self.um))


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture with what its file tells of it.

    Parameters
    ----------
    name
        The file's name, relative to the folder that was read, with forward slashes.
    pixels
        uint8 or uint16, read-only; shape (height, width) for grey, (height, width, 3) for red, green, blue. Never rotated.
    pixel_size
        None unless the file really tells it; the dpi of cameras and scanners is a print setting and is not used.
    tags
        Names after Exiv2 (``Exif.Photo.ExposureTime``) or the vendor (``MetaMorph.XCalibration``) to values as text.
    exif
        The EXIF block as it is stored in a PNG's ``eXIf`` chunk (beginning ``II`` or ``MM``); None where there is none.
    notes
        What was odd about the file, in words.
    blocks
        What else the file holds beside its pixels, byte for byte: ``icc`` (colour profile), ``8bim`` (Photoshop's, with IPTC),
        ``APP12.1`` and its like (other segments of a JPEG), ``gAMA`` and its like (chunks of a PNG).
    """

    name: str
    pixels: Pixels
    pixel_size: PixelSize | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    exif: bytes | None = None
    notes: tuple[str, ...] = ()
    blocks: Mapping[str, bytes] = field(default_factory=dict)


class Content(NamedTuple):
    """What a file holds, before the tags are made sense of."""

    pixels: Pixels
    exif: bytes | None
    tags: dict[str, str]
    notes: list[str]
    blocks: dict[str, bytes]


class DamagedError(Exception):
    """What is wrong with a file's content, in words that follow "found", and what can be done about it."""

    def __init__(self, found: str, advice: str | None = None) -> None:
        super().__init__(found)
        self.advice = advice


def checked_shape(height: int, width: int, pixel_bytes: int = 1) -> tuple[int, int]:
    """Refuse a size that no picture has, or that this machine's memory cannot hold, before anything is decoded."""
    if height < 1 or width < 1:
        message = f"a picture of {width} x {height} pixels"
        raise DamagedError(message)
    if height * width > MOST_PIXELS:
        message = f"a picture of {width} x {height} pixels, more than the {MOST_PIXELS:,} that are read at once"
        raise DamagedError(message)
    needed = height * width * pixel_bytes * _COPIES
    if needed > (memory := _memory()):
        message = f"a picture of {width} x {height} pixels, which takes {needed / 1e9:.1f} GB of memory"
        raise DamagedError(message, f"cut it into parts: this machine has {memory / 1e9:.1f} GB")
    return height, width


def _memory() -> float:
    """Bytes of memory of this machine; without limit where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


@contextmanager
def silenced(*names: str) -> Iterator[None]:
    """Keep libraries from telling on standard error of everything that a file lacks or has wrong; we say what matters."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def decoded_text(raw: bytes) -> str:
    """Read a text as UTF-8, or else as Latin-1, which never fails."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
