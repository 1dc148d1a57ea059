"""The makers' own formats (ND2, CZI, LIF and others), read through bioio and its plugins.

Nothing of this is imported before such a file is met: the extra ``microscopes`` weighs some 300 MB.
"""

import contextlib
import importlib
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fncells.errors import MissingExtraError
from fncells.images.picture import Content, DamagedError, Pixels, checked_shape, silenced
from fncells.images.planes import said_of, taken_of
from fncells.images.png import eight_or_sixteen
from fncells.plane import Plane

__all__ = ["microscope_of", "microscope_shape", "read_microscope"]


class _Format(NamedTuple):
    """Who writes a format, the plugin of bioio that reads it, and the extra of fncells that holds that plugin."""

    maker: str
    plugin: str
    extra: str | None = None


_JAVA = "bioio_bioformats"
_FORMATS = {
    "ND2": _Format("Nikon", "bioio_nd2", "microscopes"),
    "CZI": _Format("Zeiss", "bioio_czi", "zeiss"),
    "LIF": _Format("Leica", "bioio_lif", "microscopes"),
    "DV": _Format("DeltaVision", "bioio_dv"),
    "SLDY": _Format("3i", "bioio_sldy"),
    "IMS": _Format("Imaris", _JAVA),
    "OIB": _Format("Olympus", _JAVA),
    "OIF": _Format("Olympus", _JAVA),
    "VSI": _Format("Olympus", _JAVA),
    "ZVI": _Format("Zeiss", _JAVA),
}
_SIGNATURES = {b"\xda\xce\xbe\x0a": "ND2", b"ZISRAWFILE": "CZI", b"\x70\x00\x00\x00": "LIF"}


def microscope_of(path: Path, head: bytes) -> str | None:
    """Tell which of the makers' formats a file is in, by its first bytes or its suffix; None where it is none."""
    told = next((kind for start, kind in _SIGNATURES.items() if head.startswith(start)), None)
    suffix = path.suffix[1:].upper()
    return told or (suffix if head and suffix in _FORMATS else None)


def microscope_shape(path: Path, kind: str) -> tuple[int, int]:
    """Give height and width of the picture that is read where none is chosen."""
    with _opened(path, kind) as image:
        return checked_shape(image.dims.Y, image.dims.X)


def read_microscope(path: Path, kind: str, plane: Plane) -> Content:
    """Read one picture of a file in a maker's own format."""
    notes: list[str] = []
    with _opened(path, kind) as image:
        _choose_scene(image, plane, notes)
        sizes = {axis: int(getattr(image.dims, axis, 1)) for axis in "TCZ"}
        names = _channel_names(image, sizes["C"])
        taken = taken_of(plane, sizes, names)
        notes += said_of(taken, sizes, names)
        samples = int(getattr(image.dims, "S", 1))
        dtype = np.dtype(image.dtype)
        checked_shape(int(image.dims.Y), int(image.dims.X), samples * dtype.itemsize)
        if dtype not in (np.uint8, np.uint16) or samples not in (1, 3, 4):
            message = f"pictures of {samples} x {dtype} values, where 8 or 16 bit, grey or RGB, can be read"
            raise DamagedError(message)
        pixels = _pixels(image, taken, samples, notes)
        tags = _tags(image, kind, notes)
        return Content(pixels, None, tags, notes, {})


@contextlib.contextmanager
def _opened(path: Path, kind: str) -> Iterator[Any]:
    form = _FORMATS[kind]
    try:
        library, plugin = importlib.import_module("bioio"), importlib.import_module(form.plugin)
    except ImportError as error:
        if form.extra is not None:
            raise MissingExtraError(form.extra, f"a {kind} file ({form.maker})") from error
        package = form.plugin.replace("_", "-")
        message = f"a {kind} file ({form.maker}), which needs a further plugin of bioio"
        raise DamagedError(message, f"install it with: pip install bioio {package}") from error
    with silenced("bioio", "bioio_base", form.plugin):
        yield library.BioImage(path, reader=plugin.Reader)


def _choose_scene(image: Any, plane: Plane, notes: list[str]) -> None:
    scenes = len(image.scenes)
    number = plane.scene or 1
    if number > scenes:
        message = f"a file of {scenes} scene{'s' * (scenes > 1)}, and no scene {number}"
        raise DamagedError(message)
    if scenes > 1:
        notes.append(f"the file holds {scenes} scenes; {'the first' if number == 1 else f'number {number}'} was taken")
    image.set_scene(number - 1)


def _channel_names(image: Any, number: int) -> tuple[str, ...]:
    """Give the channels' names, but not those that bioio makes up."""
    names = tuple(" ".join(str(name).split()) for name in image.channel_names or ())
    named = len(names) == number > 1 and all(names) and not any(name.startswith("Channel:") for name in names)
    return names if named else ()


def _pixels(image: Any, taken: dict[str, int | slice], samples: int, notes: list[str]) -> Pixels:
    planes = taken["Z"]
    numbers = range(planes, planes + 1) if isinstance(planes, int) else range(planes.start, planes.stop)
    order = "YX" if samples == 1 else "YXS"
    brightest: NDArray[np.generic] | None = None
    for number in numbers:
        read = image.get_image_data(order, T=taken["T"], C=taken["C"], Z=number)
        brightest = read if brightest is None else np.maximum(brightest, read)
    pixels = eight_or_sixteen(np.asarray(brightest))
    if not pixels.any():
        notes.append("every value is 0: the plugin gives zeros for pictures that a cut or broken file has lost")
    if samples == 4:
        notes.append("the alpha channel was dropped")
        return pixels[..., :3]
    return pixels


def _tags(image: Any, kind: str, notes: list[str]) -> dict[str, str]:
    """Give what bioio understands under names of its own, and the maker's whole document as it stands in the file."""
    tags = {"Microscope.format": kind, "Microscope.maker": _FORMATS[kind].maker}
    tags |= _pixel_size_tags(image, notes)
    # Each of these may fail on a file of a version that the plugin does not know; the picture is good all the same.
    with contextlib.suppress(Exception):
        told = image.standard_metadata
        values = {each.name: getattr(told, each.name) for each in fields(told)} if is_dataclass(told) else {}
        tags |= {f"Microscope.{name}": str(value) for name, value in values.items() if value not in (None, "")}
        if values.get("imaging_datetime") is not None:
            tags["Microscope.acquired"] = str(values["imaging_datetime"])
    with contextlib.suppress(Exception):
        tags["Microscope.ome"] = image.ome_metadata.to_xml()
    try:
        document = image.metadata
        text = ET.tostring(document, encoding="unicode") if isinstance(document, ET.Element) else str(document)
        tags["Microscope.metadata"] = text
    except Exception as error:
        notes.append(f"the maker's metadata cannot be read ({type(error).__name__}) and were left out")
    return tags


def _pixel_size_tags(image: Any, notes: list[str]) -> dict[str, str]:
    try:
        sizes = image.physical_pixel_sizes
    except Exception as error:
        notes.append(f"the pixel size cannot be read ({type(error).__name__})")
        return {}
    told = {"X": sizes.X, "Y": sizes.Y}
    return {
        f"Microscope.PixelSize{axis}": f"{float(value)!r} µm"
        for axis, value in told.items()
        if value is not None and not math.isnan(value)
    }
