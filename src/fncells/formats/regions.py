"""Cells as VIA draws them: regions with a shape and attributes, and back, exactly.

VIA (the VGG Image Annotator) knows neither holes nor cells of several parts: the regions of a cell are tied together by
two attributes, see ``ties``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell
from fncells.documents import Place, kind, quoted
from fncells.errors import InputError
from fncells.formats.notes import FARTHEST, LARGEST_SIDE, MOST_PIXELS, attributes_in, numbers_in, plain
from fncells.formats.pictures import FILE_SIZE, RESERVED, own_attributes
from fncells.formats.ties import Piece, joined_cells, pieces_of

__all__ = ["LINES", "SHAPE", "Entry", "Region", "bare_entry_of", "entry_of", "file_size_fits", "image_of"]

Region = dict[str, Any]
Ring = NDArray[np.float64]

SHAPE = f"{RESERVED}via_shape"
"""Attribute of a cell: its ``shape_attributes`` as they stood in the file, where the rings alone would not give them back."""

LINES = f"{RESERVED}via_lines"
"""Attribute of a picture: regions that enclose nothing (open lines), as pairs of place in the list and region."""

_ROUNDNESS = 0.05  # px; how far the polygon that stands for a circle may lie inside it
_FEWEST_CORNERS, _MOST_CORNERS = 16, 1024


@dataclass(frozen=True)
class Entry:
    """One picture of a VIA file.

    Parameters
    ----------
    name
        The picture's file name as it stands in the file.
    size
        Its file size in bytes as it stands there: a number, or text; -1 where unknown.
    file_attributes
        Attributes of the picture.
    regions
        Each with ``shape_attributes`` and ``region_attributes``.
    """

    name: str
    size: int | str
    file_attributes: Mapping[str, object]
    regions: Sequence[Any]


def file_size_fits(text: str) -> bool:
    """Whether a text is a file size: a whole number of bytes, or -1."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) <= 18


# ------------------------------------------------------------------------------------------------- from regions to cells


def image_of(entry: Entry, place: Place, *, tied: bool = True) -> AnnotatedImage:
    """Make a picture's cells of its regions.

    Polygons keep their vertices. A rectangle gives its four corners, pixel centres like all vertices; circles and
    ellipses give polygons that lie at most 0.05 px inside them; lines are closed where that encloses an area, else kept
    aside and written back by the VIA writers; points are dots. ``marker`` and ``score`` among the attributes are also
    the cell's own.

    Parameters
    ----------
    entry
        The picture as the file has it.
    place
        The picture's place, for refusals.
    tied
        Whether to join the regions that are parts or holes of one cell; other readers of VIA files do not.

    Raises
    ------
    InputError
        If the name is no file name, or a region is not as VIA writes them.
    """
    if not PurePosixPath(entry.name.replace("\\", "/")).name:
        place.refuse("a picture's file name", quoted(entry.name))
    shape, file_attributes = _shape_in(attributes_in(entry.file_attributes, place, "file_attributes"))
    lines: list[tuple[int, object]] = []
    found: list[tuple[Cell, Place]] = []
    for index, region in enumerate(entry.regions):
        where = place.at(f"region {index}")
        cell = _cell_of(region, where)
        if cell is None:
            lines.append((index, region))
            continue
        found.append((cell, where))
    cells = joined_cells(found, tied=tied)
    attributes: dict[str, object] = {**file_attributes, FILE_SIZE: entry.size}
    if lines:
        attributes[LINES] = tuple(lines)
    return AnnotatedImage(entry.name, shape, cells, attributes)


def _shape_in(attributes: Mapping[str, object]) -> tuple[tuple[int, int] | None, dict[str, object]]:
    """Take out the shape that our writer left among a picture's attributes; give it and the rest."""
    height, width = attributes.get("image_height"), attributes.get("image_width")
    if not (type(height) is int and type(width) is int):
        return None, dict(attributes)
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE and height * width <= MOST_PIXELS):
        return None, dict(attributes)
    rest = {key: value for key, value in attributes.items() if key not in ("image_height", "image_width")}
    return (height, width), rest


def _cell_of(region: object, place: Place) -> Cell | None:
    """One region as a cell; None for a line that encloses nothing."""
    if not isinstance(region, dict):
        place.refuse("a region with its shape and attributes", kind(region))
    shape = region.get("shape_attributes")
    if not isinstance(shape, dict):
        place.refuse("shape_attributes with the shape's name and numbers", kind(shape))
    attributes = attributes_in(region.get("region_attributes", {}), place, "region_attributes")
    name = shape.get("name")
    if not isinstance(name, str) or name not in _RINGS:
        place.refuse(f"a shape out of {', '.join(_RINGS)}", kind(name) if name is not None else "no name")
    ring = _RINGS[name](shape, place)
    if name == "polyline" and not _encloses(ring):
        return None
    cell = Cell((ring,), None, _marker(attributes), _score(attributes), attributes, name)
    if not _is_plain(shape):
        cell = replace(cell, attributes={**attributes, SHAPE: shape})
    return cell


def _marker(attributes: Mapping[str, object]) -> str | None:
    marker = attributes.get("marker")
    return marker if isinstance(marker, str) and marker else None


def _score(attributes: Mapping[str, object]) -> float | None:
    score = attributes.get("score")
    if isinstance(score, (int, float)) and not isinstance(score, bool) and 0 <= score <= 1:
        return float(score)
    return None


# ------------------------------------------------------------------------------------------------------------- the shapes


def _polygon(shape: Region, place: Place) -> Ring:
    ring = _points(shape, place)
    if len(ring) < 3:
        place.refuse("a polygon of at least 3 points", f"{len(ring)}", "delete the region in VIA")
    return ring


def _points(shape: Region, place: Place) -> Ring:
    x, y = (numbers_in(shape.get(key), key, place) for key in ("all_points_x", "all_points_y"))
    if len(x) != len(y):
        place.refuse("as many x as y", f"{len(x)} x and {len(y)} y")
    if not len(x):
        place.refuse("points", "none")
    return np.column_stack((x, y))


def _rect(shape: Region, place: Place) -> Ring:
    x, y = _number(shape, "x", place), _number(shape, "y", place)
    right, bottom = x + _length(shape, "width", place), y + _length(shape, "height", place)
    return np.array([(x, y), (right, y), (right, bottom), (x, bottom)])


def _circle(shape: Region, place: Place) -> Ring:
    radius = _length(shape, "r", place)
    return _oval(_number(shape, "cx", place), _number(shape, "cy", place), radius, radius, 0.0)


def _ellipse(shape: Region, place: Place) -> Ring:
    theta = _number(shape, "theta", place) if "theta" in shape else 0.0
    radii = _length(shape, "rx", place), _length(shape, "ry", place)
    return _oval(_number(shape, "cx", place), _number(shape, "cy", place), *radii, theta)


def _point(shape: Region, place: Place) -> Ring:
    return np.array([(_number(shape, "cx", place), _number(shape, "cy", place))])


_RINGS: dict[str, Callable[[Region, Place], Ring]] = {
    "polygon": _polygon,
    "polyline": _points,
    "rect": _rect,
    "circle": _circle,
    "ellipse": _ellipse,
    "point": _point,
}


def _oval(cx: float, cy: float, rx: float, ry: float, theta: float) -> Ring:
    """Polygon of an ellipse turned by theta radians, clockwise on the screen as in VIA (y points down)."""
    largest = max(rx, ry)
    step = 2 * math.acos(1 - _ROUNDNESS / largest) if largest > _ROUNDNESS else math.pi
    # A multiple of four, so that the shape is as wide and high as it should be.
    corners = min(max(4 * math.ceil(math.pi / 2 / step), _FEWEST_CORNERS), _MOST_CORNERS)
    angles = np.arange(corners) * (2 * math.pi / corners)
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    x = cx + along * math.cos(theta) - across * math.sin(theta)
    y = cy + along * math.sin(theta) + across * math.cos(theta)
    return np.column_stack((x, y))


def _encloses(ring: Ring) -> bool:
    """Whether the points, joined to a closed line, do not all lie on one straight line."""
    offsets = ring - ring[0]
    farthest = offsets[np.abs(offsets).sum(axis=1).argmax()]
    return bool((offsets[:, 0] * farthest[1] != offsets[:, 1] * farthest[0]).any())


def _number(shape: Region, key: str, place: Place) -> float:
    value = shape.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        place.refuse(f"a number as {key}", kind(value))
    if not -FARTHEST <= value <= FARTHEST:
        place.refuse(f"{key} from {-FARTHEST:.0f} to {FARTHEST:.0f} px", kind(value))
    return float(value)


def _length(shape: Region, key: str, place: Place) -> float:
    value = _number(shape, key, place)
    if value < 0:
        place.refuse(f"{key} of at least 0", kind(shape[key]))
    return value


# ------------------------------------------------------------------------------------------------- from cells to regions


def entry_of(image: AnnotatedImage) -> Entry:
    """Make a picture's regions of its cells: the inverse of :func:`image_of`.

    A shape read from a VIA file is given back as it stood there, unless the cell has been changed since. Where the
    picture's shape is known it is noted as ``image_width`` and ``image_height`` among the picture's attributes, since
    VIA has no place for it.
    """
    attributes = own_attributes(image.attributes)
    if image.shape is not None:
        attributes["image_width"], attributes["image_height"] = int(image.shape[1]), int(image.shape[0])
    regions: list[Any] = [_region_of(piece) for piece in pieces_of(image)]
    lines = image.attributes.get(LINES, ())
    for index, region in lines if isinstance(lines, (tuple, list)) else ():
        regions.insert(index, region)
    return Entry(image.name, _size(image), attributes, regions)


def bare_entry_of(image: AnnotatedImage) -> Entry:
    """Make a picture's regions of its cells as the published archive has them: polygons without any attributes."""
    polygons = [_plain_shape(ring, "polygon") for cell in image.cells if not cell.is_dot for ring in cell.rings]
    regions = [{"shape_attributes": polygon, "region_attributes": {}} for polygon in polygons]
    return Entry(image.name, _size(image), {}, regions)


def _size(image: AnnotatedImage) -> int | str:
    size = image.attributes.get(FILE_SIZE, -1)
    return size if isinstance(size, (int, str)) else -1


def _region_of(piece: Piece) -> Region:
    cell = piece.cell
    attributes = own_attributes(cell.attributes)
    if cell.marker is not None:
        attributes["marker"] = cell.marker
    if cell.score is not None and attributes.get("score") != cell.score:
        attributes["score"] = float(cell.score)
    shape = _kept_shape(cell) or _plain_shape(piece.ring, cell.source_shape)
    return {"shape_attributes": shape, "region_attributes": {**attributes, **piece.tie}}


def _kept_shape(cell: Cell) -> Region | None:
    """Give the shape as it was read, if it still says where the cell is."""
    kept = cell.attributes.get(SHAPE)
    if not isinstance(kept, Mapping) or len(cell.rings) != 1 or kept.get("name") != cell.source_shape:
        return None
    shape = dict(kept)
    try:
        ring = _RINGS[cell.source_shape](shape, Place(None))
    except InputError:
        return None
    return shape if np.array_equal(ring, cell.rings[0]) else None


def _plain_shape(ring: Ring, source_shape: str) -> Region:
    if source_shape == "point":
        x, y = plain(ring[0])
        return {"name": "point", "cx": x, "cy": y}
    # VIA draws no polygon of fewer than three points: a cell one pixel wide repeats its last.
    points = np.concatenate((ring, np.repeat(ring[-1:], max(0, 3 - len(ring)), axis=0)))
    name = "polyline" if source_shape == "polyline" else "polygon"
    return {"name": name, "all_points_x": plain(points[:, 0]), "all_points_y": plain(points[:, 1])}


def _is_plain(shape: Region) -> bool:
    """Whether the ring alone gives the shape back, digit by digit."""
    if shape["name"] == "point":
        return list(shape) == ["name", "cx", "cy"] and all(map(_written_plainly, (shape["cx"], shape["cy"])))
    if shape["name"] not in ("polygon", "polyline") or list(shape) != ["name", "all_points_x", "all_points_y"]:
        return False
    return all(map(_written_plainly, shape["all_points_x"])) and all(map(_written_plainly, shape["all_points_y"]))


def _written_plainly(value: float) -> bool:
    return type(value) is int or not value.is_integer()
