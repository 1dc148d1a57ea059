"""What makers of microscopes write into tags of their own, as far as tifffile understands it or its form is known."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Any

import tifffile

from fncells.images.picture import decoded_text

__all__ = ["FAMILIES", "channel_names", "safe_xml", "vendor_tags"]

# First words of the names of tags that are no EXIF; they stay as they are when they are written into a PNG.
FAMILIES = (
    "FEI.",
    "ImageJ.",
    "Jpeg.",
    "MetaMorph.",
    "Micro-Manager.",
    "Microscope.",
    "Nikon.",
    "Olympus.",
    "Page.",
    "Zeiss.",
)
_NIKON_CALIBRATION, _NIKON_XML = 65326, (65332, 65333)
_LONGEST = 2**20  # characters of one value


def vendor_tags(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, str]:
    """Give the makers' own tags of a picture as text; what cannot be understood is left to the EXIF block."""
    tags: dict[str, str] = {}
    for read in (_metamorph, _imagej, _zeiss_lsm, _zeiss_sem, _olympus, _fei, _micro_manager, _nikon):
        try:
            tags.update((name, value[:_LONGEST]) for name, value in read(tiff, page))
        except Exception:  # noqa: S112 - whatever a broken private tag does to its reader, the picture is still a picture
            continue
    return tags


def _metamorph(_: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    tag = page.tags.get(33628)
    if tag is None or not isinstance(tag.value, dict):
        return
    for key, value in tag.value.items():
        if key == "PlaneProperty":
            yield from ((f"MetaMorph.{each['name']}", str(each["value"])) for each in value)
        elif isinstance(value, (str, int, float)) and not key.startswith("_"):
            yield f"MetaMorph.{key}", str(value)


def _imagej(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    if 50839 not in page.tags:
        return
    for key, value in (tiff.imagej_metadata or {}).items():
        if key in ("Info", "Labels"):
            yield f"ImageJ.{key}", value if isinstance(value, str) else "\n".join(map(str, value))


def _zeiss_lsm(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    if 34412 in page.tags:
        yield from _scalars("Zeiss", tiff.lsm_metadata or {})


def _zeiss_sem(_: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    tag = page.tags.get(34118)
    if tag is None:
        return
    for key, value in tag.value.items():
        if key and isinstance(value, tuple):
            yield f"Zeiss.{key}", " ".join(map(str, value[1:]))


def _olympus(_: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    """FluoView's dimensions (name, size, origin, resolution, unit), and what SIS and cellSens write."""
    fluoview, sis = page.tags.get(34361), page.tags.get(33560)
    if fluoview is not None:
        for name, _size, _origin, resolution, unit in fluoview.value["Dimensions"]:
            if name.strip().lower() in ("x", "y"):
                yield f"Olympus.{name.strip().upper()}Resolution", f"{resolution!r} {unit}"
    if sis is not None:
        yield from _scalars("Olympus", sis.value)


def _fei(_: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    for code in (34680, 34682):
        tag = page.tags.get(code)
        if tag is not None:
            for section, values in tag.value.items():
                yield from _scalars(f"FEI.{section}", values)


def _micro_manager(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    tag = page.tags.get(51123)
    if tag is not None:
        yield from _scalars("Micro-Manager", tag.value)
    if tiff.is_micromanager:
        summary = (tiff.micromanager_metadata or {}).get("Summary", {})
        yield from _scalars("Micro-Manager.Summary", summary)


def _nikon(_: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[tuple[str, str]]:
    """NIS-Elements: µm a pixel in a tag, and a document in XML whose root is missing."""
    documents = [page.tags[code].value for code in _NIKON_XML if code in page.tags]
    if not documents:
        return
    calibration = page.tags.get(_NIKON_CALIBRATION)
    if calibration is not None:
        yield "Nikon.Calibration", repr(_float(calibration.value))
    for document in documents:
        text = decoded_text(document) if isinstance(document, bytes) else str(document)
        root = safe_xml(f"<NIKON>{text[text.find('<') :].rstrip(chr(0)).strip()}</NIKON>") if "<" in text else None
        for element in () if root is None else root.iter():
            value = element.get("value")
            if value is not None and len(element) == 0:
                yield f"Nikon.{element.tag}", value


def _float(value: Any) -> float:
    """Read a number, or the two of a fraction."""
    above, below = value if isinstance(value, tuple) and len(value) == 2 else (value, 1)
    return float(above) / float(below) if float(below) else math.nan


def _scalars(family: str, values: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield f"{family}.{key}", value if isinstance(value, str) else repr(value)


def safe_xml(text: str) -> ET.Element | None:
    """Parse XML from a stranger; None where it is broken, or declares what could unfold."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        return ET.fromstring(text)  # noqa: S314 - entities were refused above
    except (ET.ParseError, ValueError):
        return None


def channel_names(tiff: tifffile.TiffFile, page: tifffile.TiffPage, number: int) -> tuple[str, ...]:
    """Give the names of a picture's channels, where the microscope wrote one for each."""
    try:
        if tiff.is_ome:
            root = safe_xml(tiff.ome_metadata or "")
            pixels = (
                None if root is None else next(each for each in root.iter() if each.tag.rpartition("}")[2] == "Pixels")
            )
            channels = [] if pixels is None else [each for each in pixels if each.tag.rpartition("}")[2] == "Channel"]
            names = [each.get("Name", "") for each in channels]
        elif 34412 in page.tags:
            names = list((tiff.lsm_metadata or {})["ChannelColors"]["ColorNames"])
        else:
            names = list((tiff.micromanager_metadata or {})["Summary"]["ChNames"]) if tiff.is_micromanager else []
    except Exception:  # names are a help; without them channels have numbers
        return ()
    known = tuple(" ".join(str(name).split()) for name in names)
    return known if len(known) == number > 1 and all(known) else ()
