"""COCO: one JSON file, as pycocotools and all that follow it read.

Pixels are those that pycocotools draws: outlines run along the edges of pixels, the pixel in column x and row y from (x, y)
to (x + 1, y + 1). A cell without holes is a polygon (several for several parts), one with holes is run lengths. Beside the
standard keys there are some that other readers pass over: ``dot``, the middle of the cell's pixels, with its annotation;
``count``, the number of cells, with its picture; ``dots``, points without an area, with their picture, as they would be no
valid annotations; and ``number``, ``marker``, ``score``, ``source_shape`` and ``attributes`` where there are any.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell, Region, outline
from fncells.documents import Place, json_text, kind, read_json
from fncells.files import whole
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.encodings import encodings_of, region_in
from fncells.formats.notes import (
    attributes_in,
    cell_of,
    check_name,
    noted_numbers,
    notes_of,
    numbers_in,
    plain,
    point_in,
    shape_in,
)
from fncells.formats.pictures import Once, PictureFolder, own_attributes
from fncells.formats.ties import outer_parts
from fncells.outlines import edge_polygons, filled, joined
from fncells.published import CATEGORIES, category_of

__all__ = ["CODEC"]

_PEEKED = 2**20  # bytes
_STEPS = 5  # pycocotools draws on a grid of so many steps a pixel
_STANDARD = frozenset({"id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd", "dot"})
_NOTES = frozenset({"number", "marker", "score", "source_shape", "attributes"})
_NO_MARKER = "cell"  # the category of cells whose marker is unknown
_INFO = {"description": "Cells outlined along the edges of pixels; dots are the middles of their pixels."}
_ARCHIVE_INFO = {"description": "Outlines through the centres of pixels, as in Fluorescent Neuronal Cells v2."}

Markers = Mapping[int, str | None]
Polygons = list[tuple[NDArray[np.int64], ...]]


def find(path: Path, images: Path | None = None) -> Iterator[Unread]:
    """Find the pictures of a COCO file, of COCO results, or of the published archive's kind of COCO file.

    Parameters
    ----------
    path
        The JSON file. Results are a list of annotations; their pictures are named after their ids.
    images
        The folder of the pictures; gives their shapes where the file does not hold them, as results may not.

    Yields
    ------
    Unread
        In the order of the file. An annotation without a segmentation is its box. One that holds no pixel's middle is a
        dot. The published archive's polygons run through pixel centres, and keep to them.

    Raises
    ------
    InputError
        If the file is no COCO file; on reading, if a picture or one of its annotations is not as COCO has it.
    """
    place, pictures, once = Place(path), PictureFolder(images), Once(Place(path))
    document = read_json(path)
    markers = _markers(document, place)

    def read(picture: _Picture) -> AnnotatedImage:
        image = pictures.complete(picture.image(once))
        return replace(image, cells=_cells(picture, image.shape, markers))

    for identity, picture in _pictures(document, place).items():
        yield Unread(str(identity if picture.name is None else picture.name), partial(read, picture))


@contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Write a COCO file, annotation by annotation as pictures come.

    Raises
    ------
    InputError
        On adding, if the picture's shape is unknown, two pictures have one name, or an attribute is nothing that JSON can
        hold.
    """
    with _document(path, _INFO) as document:
        categories: dict[str, int] = {}
        yield partial(_add, document, categories)
        document.end({"categories": [_category(name, number) for name, number in categories.items()]})


@contextmanager
def writing_published(path: Path) -> Iterator[Add]:
    """Write as the published archive does: one annotation a picture, which holds parallel lists.

    What the archive leaves wrong is right here: polygons have all their points, boxes and areas are those of the cells, and
    each dot is the middle of its own cell. ``segmentation_type``, ``split`` and ``path`` are written where the picture's
    attributes tell them.
    """
    with _document(path, _ARCHIVE_INFO) as document:
        yield partial(_add_published, document)
        document.end({"licenses": []})


def recognises(path: Path) -> bool:
    """Tell by the first megabyte whether a file is COCO's JSON."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        beginning = file.read(_PEEKED)
    return b'"image_id"' in beginning or (b'"images"' in beginning and b'"annotations"' in beginning)


# --------------------------------------------------------------------------------------------------------------- reading


@dataclass
class _Picture:
    """What a file says of one picture: its entry as it stands there, and its annotations."""

    place: Place
    name: object
    entry: Mapping[str, Any] = field(default_factory=dict)
    annotations: list[tuple[Place, Mapping[str, Any]]] = field(default_factory=list)

    def image(self, once: Once) -> AnnotatedImage:
        """Give the picture without its cells."""
        if not isinstance(self.name, str):
            self.place.refuse("an image with a file_name", "none" if self.name is None else kind(self.name))
        check_name(self.name, self.place.at("file_name"))
        once.check(self.name)
        return AnnotatedImage(self.name, self._shape(), (), attributes_in(self.entry.get("attributes", {}), self.place))

    def _shape(self) -> tuple[int, int] | None:
        """Height and width by the picture's entry, or by the first run lengths: results have no entries."""
        sizes: list[Any] = [[self.entry["height"], self.entry.get("width")]] if "height" in self.entry else []
        found = (annotation.get("segmentation") for _, annotation in self.annotations)
        sizes += [segmentation.get("size") for segmentation in found if isinstance(segmentation, dict)][:1]
        return shape_in(sizes[0], self.place.at("height and width")) if sizes else None


class _Outline(NamedTuple):
    """How an annotation says where its cell is: polygons, of which a box may be one, or pixels."""

    rings: list[NDArray[np.float64]]
    region: Region | None
    is_box: bool
    place: Place


def _pictures(document: Any, place: Place) -> dict[int | str, _Picture]:
    """Pictures by their ids, each with its annotations."""
    results = isinstance(document, list)
    pictures: dict[int | str, _Picture] = {}
    for where, entry in () if results else _entries(document, "images", place):
        identity = _identity(entry, "id", where)
        if identity in pictures:
            where.at("id").refuse("each id once", f"{identity!r} twice")
        pictures[identity] = _Picture(where, entry.get("file_name"), entry)
    for where, annotation in _entries({"annotations": document} if results else document, "annotations", place):
        identity = _identity(annotation, "image_id", where)
        if identity not in pictures:
            # Results name no pictures. In other files nobody can tell whose cells these are, which shows on reading.
            pictures[identity] = _Picture(where, f"{identity}.png" if results else None)
        pictures[identity].annotations.append((where, annotation))
    return pictures


def _entries(document: Any, key: str, place: Place) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    if not isinstance(document, dict):
        place.refuse("COCO's annotations, an object with images and annotations", kind(document))
    values = document.get(key)
    if not isinstance(values, list):
        place.at(key).refuse("a list", kind(values) if key in document else "nothing")
    for index, entry in enumerate(values):
        where = place.at(f"{key} {index}")
        if not isinstance(entry, dict):
            where.refuse("an object", kind(entry))
        yield where, entry


def _identity(entry: Mapping[str, Any], key: str, place: Place) -> int | str:
    identity = entry.get(key)
    if not isinstance(identity, (int, str)) or isinstance(identity, bool):
        place.at(key).refuse("a whole number or text", kind(identity))
    return identity


def _markers(document: Any, place: Place) -> Markers | None:
    """Markers by category; None where the file has no categories."""
    if not isinstance(document, dict) or "categories" not in document:
        return None
    markers: dict[int, str | None] = {}
    for where, entry in _entries(document, "categories", place):
        name = entry.get("name")
        if not isinstance(name, str):
            where.at("name").refuse("text", kind(name))
        markers[_number(entry, "id", where)] = None if name in ("", _NO_MARKER) else name
    return markers


def _number(entry: Mapping[str, Any], key: str, place: Place) -> int:
    value = entry.get(key)
    if type(value) is not int:
        place.at(key).refuse("a whole number", kind(value))
    return value


def _cells(picture: _Picture, shape: tuple[int, int] | None, markers: Markers | None) -> tuple[Cell, ...]:
    if any(_is_published(annotation) for _, annotation in picture.annotations):
        return tuple(cell for place, entry in picture.annotations for cell in _published_cells(entry, markers, place))
    outlines = [_outline_in(annotation, shape, place) for place, annotation in picture.annotations]
    found = [
        (_order(annotation, index), _cell(annotation, outlined, region, markers, place))
        for index, ((place, annotation), outlined, region) in enumerate(
            zip(picture.annotations, outlines, _regions(outlines, shape), strict=True)
        )
    ]
    dots = picture.entry.get("dots", [])
    if not isinstance(dots, list) or not all(isinstance(dot, dict) for dot in dots):
        picture.place.at("dots").refuse("a list of objects", kind(dots))
    if not dots:
        return tuple(cell for _, cell in found)
    # Annotations and dots are counted in one sequence of ids.
    found += [(_order(dot, index), _dot(dot, picture.place.at(f"dots {index}"))) for index, dot in enumerate(dots)]
    return tuple(cell for _, cell in sorted(found, key=itemgetter(0)))


def _order(entry: Mapping[str, Any], place: int) -> int:
    identity = entry.get("id")
    return identity if type(identity) is int else place


def _dot(dot: Mapping[str, Any], place: Place) -> Cell:
    point = point_in(dot.get("dot"), place.at("dot")) - 0.5
    return cell_of((point,), {**dot, "source_shape": "point"}, place)


def _cell(
    annotation: Mapping[str, Any], outlined: _Outline, region: Region | None, markers: Markers | None, place: Place
) -> Cell:
    extra = {key: value for key, value in annotation.items() if key not in _STANDARD | _NOTES}
    notes = {key: annotation[key] for key in _NOTES if key in annotation}
    attributes = notes.get("attributes", {})
    notes["attributes"] = {**(attributes if isinstance(attributes, dict) else {"attributes": attributes}), **extra}
    notes.setdefault("marker", _marker(annotation, markers, place))
    if region is not None:
        if outlined.is_box:
            notes.setdefault("source_shape", "rect")
        return cell_of(outline(region), notes, place)
    corners = np.concatenate(outlined.rings or [_box(annotation, place)])
    return cell_of((corners.mean(axis=0, keepdims=True) - 0.5,), {**notes, "source_shape": "point"}, place)


def _outline_in(annotation: Mapping[str, Any], shape: tuple[int, int] | None, place: Place) -> _Outline:
    value = annotation.get("segmentation")
    if value in (None, []):
        return _Outline([_box(annotation, place)], None, True, place)
    place = place.at("segmentation")
    if isinstance(value, list):
        return _Outline(_rings(value, place), None, False, place)
    if not isinstance(value, dict):
        place.refuse("polygons or run lengths", kind(value))
    if shape is None:
        place.refuse("the picture's height and width", "none", "give the folder of the pictures with --images")
    return _Outline([], region_in(value, shape, place), False, place)


def _regions(outlines: list[_Outline], shape: tuple[int, int] | None) -> list[Region | None]:
    """Fill all polygons, and take those of a cell together, as pycocotools does."""
    rings = [(outlined, ring) for outlined in outlines for ring in outlined.rings]
    try:
        pixels = iter(filled([[ring] for _, ring in rings], shape, steps=_STEPS))
    except OverflowError as error:
        rings[int(error.args[0])][0].place.refuse("the outline of a cell", "one too large or too tangled to be one")
    found: list[Region | None] = []
    for outlined in outlines:
        parts = [region for region in islice(pixels, len(outlined.rings)) if region is not None]
        found.append(joined(parts) if parts else outlined.region)
    return found


def _marker(annotation: Mapping[str, Any], markers: Markers | None, place: Place) -> str | None:
    if markers is None or "category_id" not in annotation:
        return None
    number = _number(annotation, "category_id", place)
    if number not in markers:
        place.at("category_id").refuse("the id of a category", str(number))
    return markers[number]


def _box(annotation: Mapping[str, Any], place: Place) -> NDArray[np.float64]:
    """Corners of the box, along the edges of pixels."""
    box = annotation.get("bbox")
    if box is None:
        place.refuse("a segmentation or a bbox", "neither")
    numbers = numbers_in(box, "bbox", place).tolist()
    if len(numbers) != 4:
        place.at("bbox").refuse("x, y, width and height", f"{len(numbers)} numbers")
    x, y, width, height = numbers
    if width < 0 or height < 0:
        place.at("bbox").refuse("a width and height of at least 0", f"{width:g} and {height:g}")
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def _rings(values: list[Any], place: Place) -> list[NDArray[np.float64]]:
    # Some tools leave out the outer list where there is one polygon.
    polygons = values if isinstance(values[0], list) else [values]
    rings = []
    for index, polygon in enumerate(polygons):
        numbers = numbers_in(polygon, f"polygon {index}", place)
        if len(numbers) % 2 or len(numbers) < 6:
            place.refuse(f"x and y of at least 3 points in polygon {index}", f"{len(numbers)} numbers")
        rings.append(numbers.reshape(-1, 2))
    return rings


# ---------------------------------------------------------------------------------------- the published archive's kind


def _is_published(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is a whole picture: its boxes are a list of boxes."""
    boxes = annotation.get("bbox")
    return isinstance(boxes, list) and (
        isinstance(annotation.get("dots"), list) or any(isinstance(box, list) for box in boxes)
    )


def _published_cells(annotation: Mapping[str, Any], markers: Markers | None, place: Place) -> Iterator[Cell]:
    """Cells of a picture's one annotation; its dots, which need not lie on their own cells, tell nothing more."""
    if markers is None:
        markers = {category.number: category.marker for category in CATEGORIES}
    marker = _marker(annotation, markers, place)
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list):
        place.at("segmentation").refuse("a list of polygons", kind(polygons))
    for index, polygon in enumerate(polygons):
        where = place.at(f"segmentation, polygon {index}")
        if not isinstance(polygon, list) or not polygon:
            where.refuse("a list of points", kind(polygon))
        yield Cell((np.concatenate([point_in(point, where) for point in polygon]),), marker=marker)


# --------------------------------------------------------------------------------------------------------------- writing


class _Document:
    """A COCO file in the making: annotations go to the file, pictures to a file of their own until the end.

    So neither is ever in memory as a whole.

    Parameters
    ----------
    file, pictures
        Open text files.
    """

    def __init__(self, file: IO[str], pictures: IO[str]) -> None:
        self.once = Once(Place(None))
        self.n_pictures = 0
        self.n_cells = 0
        self._file, self._pictures = file, pictures
        self._started = False

    def add(self, picture: Mapping[str, Any], annotations: list[str], count: int) -> None:
        """Add a picture of so many cells, and its annotations, which are JSON already."""
        text = json_text(picture)
        self.once.check(picture["file_name"])
        for annotation in annotations:
            self._file.write(f"{',' if self._started else ''}\n{annotation}")
            self._started = True
        self._pictures.write(f"{',' if self.n_pictures else ''}\n{text}")
        self.n_pictures += 1
        self.n_cells += count

    def end(self, rest: Mapping[str, Any]) -> None:
        """Write the pictures and what else there is."""
        self._file.write('\n],\n"images":[')
        self._pictures.seek(0)
        shutil.copyfileobj(self._pictures, self._file)
        self._file.write("\n]")
        for key, value in rest.items():
            self._file.write(f",\n{json_text(key)}:{json_text(value)}")
        self._file.write("}\n")


@contextmanager
def _document(path: Path, info: Mapping[str, Any]) -> Iterator[_Document]:
    with (
        whole(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=path.parent) as pictures,
    ):
        file.write(f'{{"info":{json_text(info)},\n"annotations":[')
        yield _Document(file, pictures)


def _category(name: str, number: int) -> dict[str, Any]:
    known = category_of(name)
    return {"id": number, "name": name} | ({"supercategory": known.structure} if known else {})


def _add(document: _Document, categories: dict[str, int], image: AnnotatedImage) -> None:
    shape = image.mask.shape
    geometries = iter(_geometries([region for region in image.regions if region is not None], shape))
    known = dict(categories)
    annotations: list[str] = []
    dots: list[dict[str, Any]] = []
    identity = document.n_cells
    for cell, region, number in zip(image.cells, image.regions, noted_numbers(image), strict=True):
        if region is None and not cell.is_dot:
            continue
        identity += 1
        notes = notes_of(cell, number)
        if region is None:
            dots.append({"id": identity, "dot": plain(cell.rings[0][0] + 0.5), **notes})
            continue
        category = known.setdefault(notes.pop("marker", _NO_MARKER), len(known) + 1)
        annotation = {"id": identity, "image_id": document.n_pictures + 1, "category_id": category}
        annotations.append(json_text({**annotation, **next(geometries), **notes}))
    n_cells = len(annotations) + len(dots)
    attributes = own_attributes(image.attributes)
    picture = {"id": document.n_pictures + 1, "file_name": image.name, "width": shape[1], "height": shape[0]}
    picture |= (
        {"count": n_cells} | ({"attributes": attributes} if attributes else {}) | ({"dots": dots} if dots else {})
    )
    document.add(picture, annotations, n_cells)
    categories |= known


def _geometries(regions: list[Region], shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Give what COCO says of each cell's pixels: a polygon for each part, or run lengths where there are holes."""
    outlines = edge_polygons(regions)
    holed = [place for place, polygons in enumerate(outlines) if any(len(polygon) > 1 for polygon in polygons)]
    encodings = dict(zip(holed, encodings_of([regions[place] for place in holed], shape), strict=True))
    return [
        {
            "segmentation": encodings.get(place) or [outer.ravel().tolist() for (outer,) in polygons],
            **_measures(regions[place]),
        }
        for place, polygons in enumerate(outlines)
    ]


def _measures(region: Region) -> dict[str, Any]:
    pixels = region.mask.view(np.uint8)
    x, y, width, height = cv2.boundingRect(pixels)
    sums = cv2.moments(pixels, binaryImage=True)
    area = sums["m00"]
    return {
        "area": int(area),
        "bbox": [region.left + x, region.top + y, width, height],
        "iscrowd": 0,
        "dot": [sums["m10"] / area + region.left + 0.5, sums["m01"] / area + region.top + 0.5],
    }


def _add_published(document: _Document, image: AnnotatedImage) -> None:
    parts = outer_parts(replace(image, cells=tuple(cell for cell in image.cells if not cell.is_dot)))
    boxes = parts.boxes
    markers = [cell.marker for cell in image.cells if cell.marker is not None]
    category = category_of(markers[0]) if markers else None
    stem = PurePosixPath(image.name).stem
    told = own_attributes(image.attributes)
    annotation = {
        "image_id": stem,
        "segmentation": [plain(cell.rings[0]) for cell in parts.cells],
        "segmentation_type": told.get("segmentation_type"),
        "bbox": np.column_stack((boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1)).tolist(),
        "area": parts.areas.tolist(),
        "dots": parts.centres.tolist(),
        "count": len(parts.cells),
        "category_id": category.number if category else None,
        "iscrowd": 0,
    }
    height, width = parts.mask.shape
    picture = {"id": stem, "file_name": image.name, "width": width, "height": height}
    picture |= {key: told.get(key) for key in ("split", "path")}
    document.add(_known(picture), [json_text(_known(annotation))], 1)


def _known(value: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is unknown."""
    return {key: entry for key, entry in value.items() if entry is not None}


def _codec(
    writing: Callable[[Path], AbstractContextManager[Add]], loses: tuple[str, ...], published: Codec | None
) -> Codec:
    return Codec("coco", find, find, writing, recognises, one_file=True, loses=loses, published=published)


CODEC = _codec(
    writing,
    ("dots", "outlines finer than a pixel, and attributes"),
    _codec(writing_published, ("holes", "parts become cells of their own", "dots, numbers and attributes"), None),
)
