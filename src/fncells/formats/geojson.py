"""GeoJSON as QuPath has it: a folder with one FeatureCollection a picture, one detection a cell, plain or gzipped.

::

    {"type": "FeatureCollection", "fncells": {"picture": "sub/a.tif", "width": 1600, "height": 1200}, "features": [
    {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[4, 2], …]]}, "properties": {"objectType":
     "detection", "classification": {"name": "c-FOS", "color": […]}, "measurements": {"Detection probability": 0.9}}},
    …
    ]}

Outlines run along the edges of pixels, the pixel in column x and row y from (x, y) to (x + 1, y + 1), and a pixel belongs to a
cell if its middle lies inside: so QuPath and OGC's simple features have it. A cell of several 4-connected parts is a
MultiPolygon, a dot a Point in the middle of its pixel. QuPath, and whoever else reads GeoJSON, passes over the key
``fncells`` of the collection (the picture's name, size and attributes) and of a feature's properties (the cell's number, source
shape and attributes). A score is the measurement that QuPath's StarDist extension gives, ``Detection probability``. A class
has a colour that follows from its name, as QuPath refuses classes without one.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell, Region, outline
from fncells.documents import Place, json_text, kind, parse_json
from fncells.documents.json_items import JsonItems
from fncells.errors import InputError
from fncells.files import PICTURE_SUFFIXES, RECORD_NAME, whole
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.folders import OutputFolder
from fncells.formats.notes import attributes_in, cell_of, check_name, notes_of, numbers_in, plain, shape_in
from fncells.formats.pictures import RESERVED, Once, PictureFolder, own_attributes
from fncells.outlines import edge_polygons, filled, joined

__all__ = ["CODEC", "REGIONS"]

REGIONS = f"{RESERVED}geojson_regions"
"""Attribute of a picture: the features of its file that are no cells, such as the outline of a tissue, as they stood there."""

_KEY = "fncells"
_SCORE = "Detection probability"
_CELL_TYPES = frozenset({"detection", "cell"})
_NEVER_CELLS = frozenset({"root", "tmaCore", "tma_core"})
_OLD_TYPES = {  # QuPath 0.2 had the type in the feature's id
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathAnnotationObject": "annotation",
    "PathTileObject": "tile",
    "TMACoreObject": "tmaCore",
    "PathRootObject": "root",
}
_NOT_NUMBERS = ("NaN", "Infinity", "-Infinity")
_BARE_NOT_NUMBER = re.compile(r'"(?:[^"\\]++|\\.)*+"|-?\b(?:NaN|Infinity)\b', re.DOTALL)
_FEATURE = re.compile(rb'"type"\s*:\s*"Feature(Collection)?"')
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PEEKED = 2**16  # bytes
_DEEPEST = 64  # geometry collections and children within each other
_LARGEST_BOX = 2**26  # px; around the parts of one cell
_BOXES, _BOX_EACH = 2**28, 10_000  # px; around all cells, and beyond it for each: what a trap may make us work through
_MOST_AT_ONCE, _MOST_PIXELS_AT_ONCE = 1000, 2**24  # cells whose pixels are held while reading or writing
_UNPACKED_ALWAYS, _UNPACKED_TIMES = (
    2**24,
    100,
)  # bytes; indented text may be packed to an eightieth, a trap to a thousandth
_MOST_NOWHERE = 1000  # features without a geometry; QuPath's root is one
_GZIP = b"\x1f\x8b"

Json = dict[str, Any]
Ring = NDArray[np.float64]


def find(path: Path, images: Path | None = None, *, noted: bool = True) -> Iterator[Unread]:
    """Find the GeoJSON files of a folder, or the one file; each is a picture.

    Taken are a FeatureCollection, a list of features and a single feature; features may have others as children. Where a
    file holds detections or cells, annotations (such as a tissue's outline) and whatever else is no cell are passed over;
    where it holds none, annotations are the cells. Lines enclose nothing and are passed over, too. What was passed over is
    kept with the picture as its attribute :data:`REGIONS`, and written back by this format.

    Parameters
    ----------
    path
        The folder, with its sub-folders, or a file: ``.geojson``, or ``.json`` with GeoJSON in it, each also with ``.gz``.
    images
        The folder of the pictures; gives their names and shapes where the files do not hold them.
    noted
        Whether to use what fncells notes beside what QuPath knows.

    Yields
    ------
    Unread
        Ordered by name. A cell that holds no pixel's middle is a dot.

    Raises
    ------
    InputError
        If there is no such file; on reading, if one is not as QuPath writes it, or two are of one picture.
    """
    found = _files(path)
    if not found:
        raise InputError(path, expected="GeoJSON files (.geojson, .json, .gz)", found="none")
    pictures, once = PictureFolder(images), Once(Place(path))
    for name, file in found:
        yield Unread(name, partial(_read, file, name, pictures, once, noted=noted))


def writing(path: Path, *, compressed: bool = False) -> AbstractContextManager[Add]:
    """Write one file a picture, named by the picture's stem, sub-folders kept; feature by feature, one a line.

    Parameters
    ----------
    path
        The folder.
    compressed
        Whether to write ``.geojson.gz``; its bytes depend on the cells alone.

    Raises
    ------
    InputError
        On adding, if the picture's shape is unknown, its name cannot be a file name within the folder, or an attribute is
        nothing that JSON can hold.
    """
    return _writing(path, compressed=compressed)


def writing_compressed(path: Path) -> AbstractContextManager[Add]:
    """Write ``.geojson.gz``; see :func:`writing`."""
    return _writing(path, compressed=True)


@contextmanager
def _writing(path: Path, *, compressed: bool) -> Iterator[Add]:
    folder = OutputFolder(path)
    suffix = ".geojson.gz" if compressed else ".geojson"

    def add(image: AnnotatedImage) -> None:
        head = _head(image)
        regions = [_encoded(region) for region in _kept_regions(image)]
        # What cannot be written must show before the file has its place.
        _ = image.numbers
        for cell in image.cells:
            _encoded(_described(cell, None))
        with whole(folder.place(image.name, suffix)) as temporary, _created(temporary, compressed=compressed) as file:
            file.write(head)
            separator = b"\n"
            for line in chain(_lines(image), regions):
                file.write(separator + line)
                separator = b",\n"
            file.write(b"\n]}\n")

    yield add


def recognises(path: Path) -> bool:
    """Tell by the suffix, or by the beginning of a ``.json`` file, whether there is GeoJSON."""
    return bool(_files(path, first=True, strictly=True))


# ----------------------------------------------------------------------------------------------------------------- files


def _files(path: Path, *, first: bool = False, strictly: bool = False) -> list[tuple[str, Path]]:
    """List GeoJSON files with their names, ordered; one suffices where asked. A file given alone need not look like one."""
    if not path.is_dir():
        return [(path.name, path)] if path.exists() and (_looks_right(path) or not strictly) else []
    found = []
    for file in sorted(path.rglob("*.*")):
        name = file.relative_to(path)
        if not any(part.startswith(".") for part in name.parts) and _looks_right(file):
            found.append((name.as_posix(), file))
            if first:
                break
    return found


def _looks_right(file: Path) -> bool:
    suffix = PurePosixPath(file.name.lower().removesuffix(".gz")).suffix
    if suffix not in (".geojson", ".json") or file.name == RECORD_NAME or not file.is_file():
        return False
    if suffix == ".geojson":
        return True
    try:
        with _opened(file) as stream:
            return _FEATURE.search(stream.read(_PEEKED)) is not None
    except InputError:
        return False


def _picture_name(name: str) -> tuple[str, ...]:
    """Give the names that a file's picture may have, best first: QuPath's users export ``a.tif`` as ``a.tif.geojson``."""
    bare = name[:-3] if name.lower().endswith(".gz") else name
    stem = str(PurePosixPath(bare).with_suffix(""))
    return (stem,) if PurePosixPath(stem).suffix.lower() in PICTURE_SUFFIXES else (bare,)


class _Unpacked:
    """Bytes out of a gzip file, no more of them than the file could hold if it were no trap.

    Parameters
    ----------
    file
        The file, open.
    place
        For refusals.
    size
        Its size in bytes.
    """

    def __init__(self, file: IO[bytes], place: Place, size: int) -> None:
        self._file, self._place = gzip.GzipFile(fileobj=file), place
        self._left = max(_UNPACKED_ALWAYS, _UNPACKED_TIMES * size)

    def read(self, size: int, /) -> bytes:
        """Unpack at most so many bytes."""
        try:
            data = self._file.read(size)
        except (EOFError, OSError, zlib.error) as error:
            self._place.refuse("a whole gzip file", f"one that is damaged or cut short ({error})")
        self._left -= len(data)
        if self._left < 0:
            self._place.refuse(
                "a gzip file of GeoJSON", f"one that unpacks to {_UNPACKED_TIMES} times its size, or more"
            )
        return data


@contextmanager
def _opened(path: Path) -> "Iterator[IO[bytes] | _Unpacked]":
    place = Place(path)
    if not path.is_file():
        place.refuse("a file", "nothing of that name")
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        yield _Unpacked(file, place, path.stat().st_size) if packed else file


@contextmanager
def _created(path: Path, *, compressed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not compressed:
            yield file
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
            yield cast("IO[bytes]", packed)


# --------------------------------------------------------------------------------------------------------------- reading


def _read(path: Path, name: str, pictures: PictureFolder, once: Once, *, noted: bool) -> AnnotatedImage:
    place = Place(path)
    features = _Features(noted=noted)
    with _opened(path) as file:
        items = JsonItems(file, "features", place)
        for index, text in enumerate(items):
            where = place.at(f"feature {index}")
            features.add(_parsed(text, where), where)
    document = _document(items, place)
    if document.get("type") == "Feature":
        features.add(document, place)
    head = document.get(_KEY) if noted and document.get("type") == "FeatureCollection" else None
    if head is None:
        (told,) = _picture_name(name)
        image = pictures.complete(AnnotatedImage(told, None, ()), rename=True)
    else:
        image = pictures.complete(_picture(head, place.at(_KEY)))
        features.certain = True  # ours are all detections
    once.check(image.name)
    cells, regions = features.cells_and_regions()
    attributes = {**image.attributes, REGIONS: regions} if regions else image.attributes
    return replace(image, cells=cells, attributes=attributes)


def _document(items: JsonItems, place: Place) -> Json:
    """Give the document without its features."""
    if not items.rest.strip():
        place.refuse("GeoJSON", "an empty file")
    document = _parsed(items.rest, place)
    value = {"type": "FeatureCollection", "features": document} if isinstance(document, list) else document
    if not isinstance(value, dict) or value.get("type") not in ("Feature", "FeatureCollection"):
        found = kind(value) if not isinstance(value, dict) else f"an object whose type is {kind(value.get('type'))}"
        place.refuse("a FeatureCollection, a list of features, or a Feature", found)
    if value["type"] == "FeatureCollection":
        features = value.get("features")
        if not isinstance(features, list):
            place.at("features").refuse("a list", kind(features) if "features" in value else "nothing")
        if len(features) != items.count or any(type(item) is not int for item in features):
            place.at("features").refuse("objects only", "something else among them")
    elif items.count:
        place.refuse("a Feature", "one with a list of features")
    return value


def _parsed(text: str, place: Place) -> Any:
    """Parse strictly, but for measurements that are no numbers: QuPath wrote them bare once, and writes them as text now."""
    if "NaN" in text or "Infinity" in text:
        text = _BARE_NOT_NUMBER.sub(lambda found: found[0] if found[0].startswith('"') else f'"{found[0]}"', text)
    return parse_json(text, place)


def _picture(head: Any, place: Place) -> AnnotatedImage:
    if not isinstance(head, dict):
        place.refuse("the picture's name and size as an object", kind(head))
    name = head.get("picture")
    if not isinstance(name, str):
        place.at("picture").refuse("text", kind(name))
    check_name(name, place.at("picture"))
    shape = shape_in([head.get("height"), head.get("width")], place.at("height and width"))
    return AnnotatedImage(name, shape, (), attributes_in(head.get("attributes", {}), place))


class _Found(NamedTuple):
    """A feature that is a cell, or dots: what it says of it, and its shapes."""

    notes: Json
    polygons: list[list[Ring]]
    points: list[Ring]
    place: Place

    def cells(self, regions: list[Region]) -> list[Cell]:
        """Make the cell, of the pixels in its polygons; or a dot for each point."""
        dots = [point[np.newaxis] for point in self.points]
        if self.polygons and not regions:
            # A cell that holds no pixel's middle is counted all the same.
            dots = [np.concatenate([ring for polygon in self.polygons for ring in polygon]).mean(axis=0, keepdims=True)]
        if regions:
            return [cell_of(outline(_joined(regions, self.place)), self.notes, self.place)]
        cells = [cell_of((dot - 0.5,), {**self.notes, "source_shape": "point"}, self.place) for dot in dots]
        return cells[:1] + [replace(cell, number=None) for cell in cells[1:]]


@dataclass
class _Features:
    """Features as they come: those that are cells for certain, and others, which are cells if there are none such.

    Parameters
    ----------
    noted
        Whether to use fncells's own notes.
    certain
        Whether there is a cell for certain.
    """

    noted: bool
    certain: bool = False
    _cells: list[Cell] = field(default_factory=list)
    _numbers: set[int] = field(default_factory=set)
    _regions: list[Json] = field(default_factory=list)
    _others: list[tuple[str, Place]] = field(default_factory=list)  # as text, which takes a tenth of the memory
    _nowhere: int = 0
    _found: list[_Found] = field(default_factory=list)
    _found_pixels: int = 0
    _pixels_left: int = _BOXES

    def add(self, feature: Any, place: Place) -> None:
        """Add a feature and its children."""
        open_features = [(feature, place, 0)]
        while open_features:
            one, where, depth = open_features.pop()
            one, children = _apart(one, where)
            if children and depth >= _DEEPEST:
                where.refuse(f"features nested at most {_DEEPEST} deep", "deeper ones")
            self._nowhere += one.get("geometry") is None
            if self._nowhere > _MOST_NOWHERE:
                where.refuse("a geometry", f"none, as in {_MOST_NOWHERE} features before")
            within = [(child, where.at(f"child {index}"), depth + 1) for index, child in enumerate(children)]
            open_features += reversed(within)
            if _type(one) in _CELL_TYPES:
                self.certain = True
                self._take(one, where)
            else:
                self._others.append((json_text(one), where))

    def cells_and_regions(self) -> tuple[tuple[Cell, ...], tuple[Json, ...]]:
        """Give the cells, and the features that are none."""
        for text, place in self._others:
            feature = parse_json(text, place)
            if self.certain or _type(feature) in _NEVER_CELLS:
                self._regions.append(feature)
            else:
                self._take(feature, place)
        self._others = []
        self._draw()
        return tuple(self._cells), tuple(self._regions)

    def _take(self, feature: Json, place: Place) -> None:
        """Keep a feature until there are enough to draw, or pass over one that encloses nothing."""
        polygons, points = _shapes(feature.get("geometry"), place.at("geometry"))
        if not polygons and not points:
            self._regions.append(feature)
            return
        pixels = sum(map(_box, polygons))
        self._pixels_left += _BOX_EACH - pixels
        if pixels > _LARGEST_BOX or self._pixels_left < 0:
            place.refuse("the outline of a cell", "one too large to be one")
        self._found.append(_Found(_notes(feature, place, noted=self.noted), polygons, points, place))
        self._found_pixels += pixels
        if len(self._found) >= _MOST_AT_ONCE or self._found_pixels > _MOST_PIXELS_AT_ONCE:
            self._draw()

    def _draw(self) -> None:
        """Make cells of what has been found."""
        for found, regions in zip(self._found, _filled(self._found), strict=True):
            for cell in found.cells(regions):
                if cell.number in self._numbers:
                    found.place.refuse("each number once", f"number {cell.number} twice")
                if cell.number is not None:
                    self._numbers.add(cell.number)
                self._cells.append(cell)
        self._found, self._found_pixels = [], 0


def _apart(feature: Any, place: Place) -> tuple[Json, list[Any]]:
    """Part a feature from its children, which QuPath puts among its properties."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        found = f"an object whose type is {kind(feature.get('type'))}" if isinstance(feature, dict) else kind(feature)
        place.refuse("a Feature", found)
    properties = feature.get("properties")
    if properties is not None and not isinstance(properties, dict):
        place.at("properties").refuse("an object", kind(properties))
    key = next((key for key in ("childObjects", "children") if isinstance((properties or {}).get(key), list)), None)
    if properties is None or key is None:
        return feature, []
    rest = {name: value for name, value in properties.items() if name != key}
    return {**feature, "properties": rest}, properties[key]


def _type(feature: Json) -> str:
    """Tell what an object is to QuPath; an annotation where nothing is said, as QuPath itself has it."""
    properties = feature.get("properties") or {}
    told = (properties.get(key) for key in ("objectType", "object_type", "type"))
    said = next((value for value in told if isinstance(value, str)), feature.get("id"))
    known = _OLD_TYPES.get(said, said) if isinstance(said, str) else None
    return known if known in _CELL_TYPES | _NEVER_CELLS | {"tile"} else "annotation"


def _filled(found: list[_Found]) -> list[list[Region]]:
    """Give each feature the pixels of its polygons, those without any left out."""
    polygons = [(one.place, polygon) for one in found for polygon in one.polygons]
    try:
        filled_ones = iter(filled([polygon for _, polygon in polygons]))
    except OverflowError as error:
        polygons[int(error.args[0])][0].refuse("the outline of a cell", "one too large or too tangled to be one")
    return [[region for _ in one.polygons if (region := next(filled_ones)) is not None] for one in found]


def _joined(regions: list[Region], place: Place) -> Region:
    starts = np.array([(region.top, region.left) for region in regions])
    stops = starts + np.array([region.mask.shape for region in regions])
    if np.prod(stops.max(axis=0) - starts.min(axis=0)) > _LARGEST_BOX:
        place.refuse("the parts of a cell", "parts too far from each other to be one")
    return joined(regions)


def _box(polygon: list[Ring]) -> int:
    """Pixels of the box around a polygon, as far as it can be in a picture."""
    points = polygon[0] if len(polygon) == 1 else np.concatenate(polygon)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return int(max(right + 2 - max(left, 0), 0) * max(bottom + 2 - max(top, 0), 0))


def _shapes(geometry: Any, place: Place) -> tuple[list[list[Ring]], list[Ring]]:
    """Give the polygons of a geometry, each its rings, and its points."""
    polygons: list[list[Ring]] = []
    points: list[Ring] = []
    open_geometries = [] if geometry is None else [(geometry, 0)]
    while open_geometries:
        one, depth = open_geometries.pop()
        name = one.get("type") if isinstance(one, dict) else None
        if name == "GeometryCollection":
            if not isinstance(one.get("geometries"), list) or depth >= _DEEPEST:
                place.refuse(f"geometries as a list, at most {_DEEPEST} deep", kind(one.get("geometries")))
            open_geometries += [(inner, depth + 1) for inner in reversed(one["geometries"])]
            continue
        if not isinstance(name, str) or name not in _READERS:
            place.refuse(f"a geometry out of {', '.join(_READERS)}", kind(one) if name is None else kind(name))
        found_polygons, found_points = _READERS[name](one.get("coordinates"), place.at(name))
        polygons += found_polygons
        points += found_points
    return polygons, points


Shapes = tuple[list[list[Ring]], list[Ring]]


def _polygon(coordinates: Any, place: Place) -> Shapes:
    rings = _listed(coordinates, place)
    return ([[_ring(ring, place) for ring in rings]] if rings else []), []


def _multi_polygon(coordinates: Any, place: Place) -> Shapes:
    return [polygon for one in _listed(coordinates, place) for polygon in _polygon(one, place)[0]], []


def _point(coordinates: Any, place: Place) -> Shapes:
    return [], list(_positions([] if coordinates == [] else [coordinates], place))


def _multi_point(coordinates: Any, place: Place) -> Shapes:
    return [], list(_positions(coordinates, place))


def _line(coordinates: Any, place: Place) -> Shapes:
    return [], []


_READERS = {
    "Polygon": _polygon,
    "MultiPolygon": _multi_polygon,
    "Point": _point,
    "MultiPoint": _multi_point,
    "LineString": _line,
    "MultiLineString": _line,
}


def _listed(value: Any, place: Place) -> list[Any]:
    if not isinstance(value, list):
        place.refuse("coordinates as a list", kind(value))
    return value


def _ring(coordinates: Any, place: Place) -> Ring:
    ring = _positions(coordinates, place)
    if len(ring) > 1 and bool((ring[0] == ring[-1]).all()):
        ring = ring[:-1]
    if len(ring) < 3:
        place.refuse("rings of at least 3 points", f"one of {len(ring)}")
    return ring


def _positions(values: Any, place: Place) -> Ring:
    """Read positions, x and y and perhaps more, as an array of x, y."""
    if not isinstance(values, list) or not set(map(type, values)) <= {list}:
        place.refuse("positions as lists", "something else")
    lengths = set(map(len, values))
    if not lengths <= {2, 3, 4}:
        place.refuse("positions of 2 to 4 numbers", f"one of {next(iter(lengths - {2, 3, 4}))}")
    if len(lengths) > 1:
        values = [value[:2] for value in values]
    numbers = numbers_in(list(chain.from_iterable(values)), "coordinates", place)
    return numbers.reshape(len(values), -1)[:, :2] if values else np.empty((0, 2))


# ------------------------------------------------------------------------------------------- what a feature says of a cell


def _notes(feature: Json, place: Place, *, noted: bool) -> Json:
    """Read what a feature says besides its geometry, as :func:`fncells.formats.notes.cell_of` takes it."""
    properties = dict(feature.get("properties") or {})
    own = properties.pop(_KEY, {})
    if not noted:
        own = {}
    if not isinstance(own, dict):
        place.at(_KEY).refuse("fncells's notes as an object", kind(own))
    attributes: Json = {}
    if isinstance(feature.get("id"), str) and feature["id"] not in _OLD_TYPES:
        attributes["id"] = feature["id"]
    kind_of_object = _type(feature)
    for key in ("objectType", "object_type"):
        properties.pop(key, None)
    if kind_of_object != "detection":
        attributes["objectType"] = kind_of_object
    marker, colour = _class_in(properties.pop("classification", None), place.at("classification"))
    if colour is not None and colour != _colour(marker):
        attributes["classColor"] = colour
    score, measurements = _measurements_in(properties.pop("measurements", None), place.at("measurements"))
    if measurements:
        attributes["measurements"] = measurements
    plane = feature["geometry"].get("plane")
    if plane is not None:
        attributes["plane"] = plane
    attributes.update(attributes_in(properties, place, "properties"))
    attributes.update(attributes_in(own.get("attributes", {}), place))
    notes = {key: own[key] for key in ("number", "source_shape") if key in own}
    if feature["geometry"].get("isEllipse") is True:
        notes.setdefault("source_shape", "ellipse")
    return {**notes, "marker": marker, "score": score, "attributes": attributes}


def _class_in(value: Any, place: Place) -> tuple[str | None, list[int] | None]:
    """Read a classification: null, a name, or an object with ``name`` or ``names``, and perhaps a colour."""
    if not isinstance(value, dict):
        if value is not None and not isinstance(value, str):
            place.refuse("a name, or an object with one", kind(value))
        return value or None, None
    name, names, colour = value.get("name"), value.get("names"), value.get("color")
    if name is None and isinstance(names, list) and all(isinstance(one, str) for one in names):
        name = ": ".join(names)  # as QuPath shows a class derived from another
    if name is not None and not isinstance(name, str):
        place.at("name").refuse("text", kind(name))
    return name or None, colour if _is_colour(colour) else None


def _measurements_in(value: Any, place: Place) -> tuple[float | None, Json]:
    """Read measurements, an object or a list of names and values (before QuPath 0.4); give the score apart."""
    if isinstance(value, list):
        if not all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in value):
            place.refuse("measurements with their names", "others")
        value = {one["name"]: one.get("value") for one in value}
    if value is not None and not isinstance(value, dict):
        place.refuse("an object with one number a measurement", kind(value))
    measurements = dict(value or {})
    score = measurements.get(_SCORE)
    if isinstance(score, (int, float)) and not isinstance(score, bool) and 0 <= score <= 1:
        del measurements[_SCORE]
        return float(score), measurements
    return None, measurements


def _is_colour(value: object) -> bool:
    fits = isinstance(value, (list, tuple)) and len(value) in (3, 4)
    return fits and all(type(channel) is int and 0 <= channel <= 255 for channel in cast("list[object]", value))


def _is_name(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values())


def _is_measurements(value: object) -> bool:
    return isinstance(value, Mapping) and _SCORE not in value and all(map(_is_measurement, value.values()))


def _is_measurement(value: object) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)) or value in _NOT_NUMBERS


_QUPATHS_OWN = {
    "name": _is_name,
    "color": _is_colour,
    "isLocked": lambda value: value is True,
    "measurements": _is_measurements,
    "metadata": _is_texts,
}
"""Properties that QuPath knows, where they are what it takes."""


def _colour(marker: str | None) -> list[int]:
    """Give a class its colour: QuPath takes no class without one. Bright, and the same for the same name."""
    code = zlib.crc32((marker or "").encode("utf-8", errors="surrogatepass"))
    return [64 + (code >> shift) % 192 for shift in (0, 8, 16)]


# --------------------------------------------------------------------------------------------------------------- writing


def _head(image: AnnotatedImage) -> bytes:
    _ = replace(image, cells=()).regions  # refuses an unknown shape
    picture: Json = {"picture": image.name}
    if image.shape is not None:
        picture["height"], picture["width"] = map(int, image.shape)
    attributes = own_attributes(image.attributes)
    if attributes:
        picture["attributes"] = attributes
    return b'{"type":"FeatureCollection","%s":%s,"features":[' % (_KEY.encode(), _encoded(picture))


def _kept_regions(image: AnnotatedImage) -> tuple[Json, ...]:
    kept = image.attributes.get(REGIONS, ())
    return tuple(one for one in kept if isinstance(one, dict)) if isinstance(kept, (tuple, list)) else ()


def _lines(image: AnnotatedImage) -> Iterator[bytes]:
    """Make the features, holding the pixels of some cells at a time."""
    numbers = image.numbers.tolist()
    by_place = numbers == list(range(1, len(numbers) + 1))
    written = 0
    for start in range(0, len(image.cells), _MOST_AT_ONCE):
        some = replace(image, cells=image.cells[start : start + _MOST_AT_ONCE])
        outlines = iter(edge_polygons([region for region in some.regions if region is not None]))
        for cell, region, number in zip(some.cells, some.regions, numbers[start:], strict=False):
            if region is not None:
                geometry = _geometry(next(outlines))
            elif cell.is_dot and cell.rings:
                geometry = {"type": "Point", "coordinates": plain(cell.rings[0][0] + 0.5)}
            else:
                continue
            written += 1
            # A number that the cell's place gives is not noted; once one has been left out, the place gives it no more.
            noted = None if by_place and number == written else number
            yield _encoded(_feature(cell, geometry, noted))


def _geometry(polygons: Sequence[Sequence[NDArray[np.int64]]]) -> Json:
    coordinates = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _feature(cell: Cell, geometry: Json, number: int | None) -> Json:
    described = _described(cell, number)
    plane = described["properties"].pop("plane", None)
    return {
        "type": "Feature",
        **({"id": described["id"]} if "id" in described else {}),
        "geometry": geometry if plane is None else {**geometry, "plane": plane},
        "properties": described["properties"],
    }


def _described(cell: Cell, number: int | None) -> Json:
    """Give a feature's properties, and its id where the cell has one that QuPath takes."""
    notes = notes_of(cell, number)
    attributes = notes.pop("attributes", {})
    described: Json = {}
    properties: Json = {"objectType": "detection"}
    if isinstance(attributes.get("id"), str) and _UUID.fullmatch(attributes["id"]):
        described["id"] = attributes.pop("id")
    for key, fits in _QUPATHS_OWN.items():
        if fits(attributes.get(key)):
            properties[key] = attributes.pop(key)
    marker, score = notes.pop("marker", None), notes.pop("score", None)
    if marker:
        colour = attributes.pop("classColor") if _is_colour(attributes.get("classColor")) else _colour(marker)
        properties["classification"] = {"name": marker, "color": colour}
    if score is not None:
        properties["measurements"] = {_SCORE: score, **properties.get("measurements", {})}
    if _is_plane(attributes.get("plane")):
        properties["plane"] = attributes.pop("plane")
    own = {**notes, **({"attributes": attributes} if attributes else {})}
    if own:
        properties[_KEY] = own
    return {**described, "properties": properties}


def _is_plane(value: object) -> bool:
    return isinstance(value, Mapping) and set(value) == {"c", "z", "t"} and all(type(n) is int for n in value.values())


def _encoded(value: Json) -> bytes:
    """Give a value as a line of JSON; InputError where it is nothing that JSON, or a text file, can hold."""
    try:
        return json_text(value).encode()
    except UnicodeEncodeError:
        raise InputError("attributes", expected="Unicode text", found="half of a surrogate pair") from None


_PLAIN = Codec(
    name="geojson",
    find=find,
    find_foreign=partial(find, noted=False),
    writing=writing,
    recognises=recognises,
    one_file=False,
    loses=("label numbers", "outlines finer than a pixel, their shapes, and attributes that QuPath does not know"),
)

CODEC = replace(_PLAIN, compressed=replace(_PLAIN, writing=writing_compressed))
