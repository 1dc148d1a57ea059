"""Where a pixel size may come from: OME, ImageJ's unit, and what makers of microscopes calibrate; never a print setting."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from fncells.images.picture import PixelSize
from fncells.images.vendors import safe_xml

__all__ = ["pixel_size"]

_MICROMETRES = {"pm": 1e-6, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "å": 1e-4}
_MICROMETRES |= dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1.0)
# ImageJ takes the dpi of a camera or scanner for "inch" and "cm", so these two tell nothing of the specimen.
_IMAGEJ_UNITS = {unit: factor for unit, factor in _MICROMETRES.items() if unit not in ("cm", "m")}


Tags = Mapping[str, str]

_SMALLEST, _LARGEST = 1e-6, 1e5  # µm: beyond electron microscopes and cameras, where only broken files are


def pixel_size(tags: Tags) -> tuple[PixelSize | None, list[str]]:
    """Find the pixel size in the tags, if one of the programs that calibrate has left it there.

    The first source that tells a size is taken; what cannot be, and pixels that are not square, are said and not used.
    """
    makers = (tags["Microscope.maker"], _microscope) if "Microscope.maker" in tags else ()
    for source, read in (makers, *_SOURCES) if makers else _SOURCES:
        sizes = read(tags)
        usable = [size for size in sizes if math.isfinite(size) and _SMALLEST <= size <= _LARGEST]
        if len(usable) < len(sizes):
            return None, [f"{source} gives a pixel size that cannot be: it was not used"]
        if sizes and max(sizes) > 1.01 * min(sizes):
            return None, [f"{source} gives pixels of {sizes[0]:g} x {sizes[1]:g} µm, which are not square: not used"]
        if sizes:
            return PixelSize(sizes[0], source), []
    return None, []


def _described(tags: Tags) -> str:
    return tags.get("Exif.Image.ImageDescription", "")


def _ome(tags: Tags) -> list[float]:
    """PhysicalSizeX and -Y of the first picture in OME-XML, whose unit is µm where none is said."""
    description = _described(tags)
    root = safe_xml(description) if "<OME" in description[:2000] or "<ome:OME" in description[:2000] else None
    elements = [] if root is None else root.iter()
    pixels = next((element for element in elements if element.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return []
    sizes = []
    for axis in "XY":
        value = _number(pixels.get(f"PhysicalSize{axis}", ""))
        factor = _MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").strip().lower())
        if value is not None and factor is not None:
            sizes.append(value * factor)
    return sizes if pixels.get("PhysicalSizeX") else []


def _imagej(tags: Tags) -> list[float]:
    description = _described(tags)
    if not description.startswith(("ImageJ=", "SCIFIO=")):
        return []
    values = dict(line.partition("=")[::2] for line in description.splitlines())
    unit = values.get("yunit", ""), values.get("unit", "").replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    factor = _IMAGEJ_UNITS.get(unit[1].strip().lower())
    if factor is None or unit[0]:
        return []
    resolutions = [_number(tags.get(f"Exif.Image.{axis}Resolution", "")) for axis in "XY"]
    return [factor / value if value else math.nan for value in resolutions if value is not None]


def _metamorph(tags: Tags) -> list[float]:
    """MetaMorph's calibration, in its binary tag or, in later versions, in XML; switched off or 1, it tells nothing."""
    told = {
        "state": tags.get("MetaMorph.SpatialCalibration", ""),
        "x": tags.get("MetaMorph.XCalibration", ""),
        "y": tags.get("MetaMorph.YCalibration", ""),
        "units": tags.get("MetaMorph.CalibrationUnits", ""),
    }
    description = _described(tags)
    if description.lstrip().startswith("<MetaData"):
        root = safe_xml(description)
        if root is None:
            return []
        told = {str(p.get("id")).removeprefix("spatial-calibration-"): p.get("value", "") for p in root.iter("prop")}
    factor = _MICROMETRES.get(told.get("units", "").strip().lower())
    if told.get("state") not in ("1", "on") or factor is None:
        return []
    values = [value for axis in "xy" if (value := _number(told.get(axis, ""))) is not None]
    return [value * factor for value in values] if values and values[0] != 1 else []


def _aperio(tags: Tags) -> list[float]:
    description = _described(tags)
    if not description.startswith("Aperio"):
        return []
    fields = (part.partition("=") for part in description.split("|"))
    value = next((_number(value) for key, _, value in fields if key.strip() == "MPP"), None)
    return [] if value is None else [value]


def _in_um(tags: Tags, names: tuple[str, ...], um: float) -> list[float]:
    """Give the sizes under some names, in a unit of so many µm; 0 and less are how several makers say "not known"."""
    values = [_number(tags.get(name, "")) for name in names]
    known = [value * um for value in values if value is not None]
    return known if known and known[0] > 0 else []


def _with_unit(text: str) -> float | None:
    """Read a size like ``5.2 nm`` in µm; None where that is not what it is."""
    value, _, unit = text.strip().partition(" ")
    number, factor = _number(value), _MICROMETRES.get(unit.strip().lower())
    return None if number is None or factor is None else number * factor


def _microscope(tags: Tags) -> list[float]:
    """Read a maker's own format; 1 is what ND2 says of an objective that was never calibrated."""
    sizes = [_with_unit(tags.get(f"Microscope.PixelSize{axis}", "")) for axis in "XY"]
    known = [size for size in sizes if size]
    return [] if set(known) == {1.0} and tags.get("Microscope.format") == "ND2" else known


def _nikon(tags: Tags) -> list[float]:
    """NIS-Elements; 1 is what it writes for an objective that was never calibrated."""
    sizes = _in_um(tags, ("Nikon.Calibration",), 1) or _in_um(tags, ("Nikon.dCalibration",), 1)
    return sizes if sizes != [1.0] and tags.get("Nikon.bCalibrated", "true").lower() in ("true", "1") else []


def _zeiss(tags: Tags) -> list[float]:
    """LSM gives metres; the electron microscopes a number with its unit."""
    sizes = _in_um(tags, ("Zeiss.VoxelSizeX", "Zeiss.VoxelSizeY"), 1e6)
    said = (_with_unit(tags.get(f"Zeiss.{name}", "")) for name in ("ap_image_pixel_size", "ap_pixel_size"))
    return sizes or [size for size in said if size is not None][:1]


def _leica(tags: Tags) -> list[float]:
    """Leica's SCN: the view of the first picture in nm, and its pixels."""
    description = _described(tags)
    root = safe_xml(description) if "leica-microsystems" in description[:2000] else None
    if root is None:
        return []
    image = next((each for each in root.iter() if each.tag.rpartition("}")[2] == "image"), root)
    told = {each.tag.rpartition("}")[2]: each for each in reversed(list(image))}
    if "view" not in told or "pixels" not in told:
        return []
    sizes = []
    for axis in "XY":
        length, number = (_number(told[name].get(f"size{axis}", "")) for name in ("view", "pixels"))
        if length is None or not number:
            return []
        sizes.append(length / number * 1e-3)
    return sizes


def _olympus(tags: Tags) -> list[float]:
    """FluoView gives a number with its unit; SIS and cellSens metres."""
    said = [_with_unit(tags.get(f"Olympus.{axis}Resolution", "")) for axis in "XY"]
    sizes = _in_um(tags, ("Olympus.pixelsizex", "Olympus.pixelsizey"), 1e6)
    return [size for size in said if size is not None] or sizes


def _micro_manager(tags: Tags) -> list[float]:
    names = ("PixelSizeUm", "PixelSize_um", "Summary.PixelSizeUm", "Summary.PixelSize_um")
    return next((sizes for name in names if (sizes := _in_um(tags, (f"Micro-Manager.{name}",), 1))), [])


def _fei(tags: Tags) -> list[float]:
    return _in_um(tags, ("FEI.Scan.PixelWidth", "FEI.Scan.PixelHeight"), 1e6)


_SOURCES: tuple[tuple[str, Callable[[Tags], list[float]]], ...] = (
    ("OME", _ome),
    ("ImageJ unit", _imagej),
    ("MetaMorph", _metamorph),
    ("Aperio", _aperio),
    ("Nikon", _nikon),
    ("Zeiss", _zeiss),
    ("Leica", _leica),
    ("Olympus", _olympus),
    ("Micro-Manager", _micro_manager),
    ("FEI", _fei),
)


def _number(text: str) -> float | None:
    try:
        return float(Fraction(text.strip())) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        return None
