"""Pascal VOC: a folder of XML, one file a picture.

::

    <annotation>
      <folder>sub</folder> <filename>a.png</filename> <source><database>…</database></source>
      <size><width>1600</width> <height>1200</height> <depth>3</depth></size> <segmented>1</segmented> <count>1</count>
      <object>
        <name>c-FOS</name> <pose>Unspecified</pose> <truncated>0</truncated> <difficult>0</difficult>
        <bndbox><xmin>3</xmin> <ymin>4</ymin> <xmax>9</xmax> <ymax>8</ymax></bndbox>
        <polygon><pt><x>3</x><y>4</y></pt> …</polygon>
        <dot><x>6</x><y>6</y></dot>
        <attributes><attribute><name>note</name><value>"bright"</value></attribute></attributes>
      </object>
    </annotation>

``name`` is the cell's marker, or ``cell``. Whole numbers are the centres of pixels, the first one 0, and boxes end with the
last pixel that is inside. VOC knows neither holes nor parts: every further ring of a cell is an object of its own, tied by
two attributes, see ``ties``. ``dot`` is the middle of the cell's pixels; where there is nothing else, as an annotated point,
``source_shape`` says so and the box is that one pixel. Values of attributes are JSON.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell
from fncells.documents import Place, json_text, quoted
from fncells.documents.strict_xml import MOST_ELEMENTS, Element, fits_xml, read_xml, xml_text
from fncells.errors import InputError
from fncells.files import write_text
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.folders import OutputFolder
from fncells.formats.notes import FARTHEST, attributes_in, cell_of, check_name, plain, shape_in
from fncells.formats.pictures import Once, PictureFolder, own_attributes
from fncells.formats.texts import value_in
from fncells.formats.ties import Piece, joined_cells, outer_parts, pieces_of
from fncells.published import category_of

__all__ = ["CODEC"]

_PEEKED = 2**12  # bytes
_NO_MARKER = "cell"  # the name of cells whose marker is unknown
_NO_POSE = "Unspecified"
_PLACEHOLDER = "_get_segmentation_type(filename)"  # what the published archive has for the type
_USUAL_DEPTH = 3  # VOC's pictures are in colour, as the archive's are
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER = 64
_NUMBERED = re.compile(r"([xy])(\d{1,7})", re.ASCII)

# What the elements say that are read by name; what other leaves say is kept among the attributes.
_OF_PICTURE = ("filename", "segmented", "count")
_TEXTS = ("split", "path", "version", "segmentation_type", "folder", "marked_structure")
_OF_OBJECT = ("name", "marker", "pose", "truncated", "difficult", "score", "source_shape", "deleted", "attributes")
_TOLD = ("split", "path", "version", "segmentation_type")

Box = tuple[int, int, int, int]


# --------------------------------------------------------------------------------------------------------------- reading


def find(path: Path, images: Path | None = None, *, foreign: bool = False) -> Iterator[Unread]:
    """Find the XML files of a folder, or the one file.

    An object's polygons, of LabelMe's kind (``pt`` with ``x`` and ``y``) or Roboflow's (``x1``, ``y1``, …), are the cell's
    outline; an object that has a box alone is a rectangle. No VOC file says whether its first pixel is 0 or 1, so numbers
    are taken as they stand, as pixel centres counted from 0: what was counted from 1 lies one pixel off. In the published
    archive's files, told by a marker in place of the name, boxes end one pixel later; their dots, which need not lie on
    their own cells, tell nothing that the polygons do not.

    Parameters
    ----------
    path
        The folder, with its sub-folders, or a file.
    images
        The folder of the pictures; gives their shapes where the files do not hold them.
    foreign
        Whether to read as others do, who know names, boxes, polygons and attributes, and neither dots nor ties.

    Yields
    ------
    Unread
        Ordered by name. A picture is named as its file says, in the sub-folder in which that lies.

    Raises
    ------
    InputError
        If there is no such file; on reading, if one is no Pascal VOC, or two are of one picture.
    """
    pictures, once = PictureFolder(images), Once(Place(path))
    found = _files(path)
    if not found:
        raise InputError(path, expected="Pascal VOC's .xml files", found="none")

    def read(name: str, file: Path) -> AnnotatedImage:
        image = _image(read_xml(file), name, foreign)
        once.check(image.name)
        return pictures.complete(image)

    for name, file in found.items():
        yield Unread(name, partial(read, name, file))


def recognises(path: Path) -> bool:
    """Tell by the beginnings of its XML files whether a folder, or a file, is Pascal VOC."""
    return any(_begins_so(file) for file in _files(path).values())


def _begins_so(file: Path) -> bool:
    with file.open("rb") as stream:
        return re.search(rb"<annotation[\s>]", stream.read(_PEEKED)) is not None


def _files(path: Path) -> dict[str, Path]:
    """XML files by their relative names."""
    if path.is_file():
        return {path.name: path} if path.suffix.lower() == ".xml" else {}
    found = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.suffix.lower() == ".xml" and not hidden and file.is_file():
            found[name.as_posix()] = file
    return found


def _image(root: Element, file_name: str, foreign: bool) -> AnnotatedImage:
    if root.name != "annotation":
        root.refuse("Pascal VOC's annotation", f"an element {quoted(root.name)}")
    folder = PurePosixPath(file_name).parent.as_posix()
    found = ((_cell(element, foreign), _place(element)) for element in root.all("object"))
    cells = joined_cells(((cell, place) for cell, place in found if cell is not None), tied=not foreign)
    attributes = _picture_attributes(root, "" if folder == "." else folder)
    return AnnotatedImage(_picture_name(root, folder, file_name), _shape(root), cells, attributes)


def _picture_name(root: Element, folder: str, file_name: str) -> str:
    """Give the picture's name: as it stands where it holds folders, else in the folder where the file lies."""
    element = root.one("filename")
    name = element.value() if element is not None else ""
    if not name:
        return file_name
    check_name(name, root.place)
    return name if "/" in name or "\\" in name else str(PurePosixPath(folder, name))


def _shape(root: Element) -> tuple[int, int] | None:
    """Give height and width where the file tells them: not all that write VOC know them."""
    size, labelme = root.one("size"), root.one("imagesize")
    sides = _sides(size, "height", "width") or _sides(labelme, "nrows", "ncols")
    return shape_in(list(sides), _place(size or root)) if sides and 0 not in sides else None


def _sides(size: Element | None, *names: str) -> tuple[int, ...]:
    sides = []
    for name in names:
        element = size.one(name) if size is not None else None
        if element is None or not element.value().strip():
            return ()
        number = _number(element)
        if not number.is_integer():
            element.refuse(f"a whole number as {name}", quoted(element.value()))
        sides.append(int(number))
    return tuple(sides)


def _picture_attributes(root: Element, folder: str) -> dict[str, Any]:
    attributes = _leaves(root, _OF_PICTURE)
    if attributes.get("folder") == folder:
        del attributes["folder"]
    if attributes.get("segmentation_type") == _PLACEHOLDER:
        del attributes["segmentation_type"]
    source, size = root.one("source"), root.one("size")
    if source is not None:
        attributes |= {key: text for key in ("database", "url") if (text := _leaf(source, key))}
    depth = value_in(_leaf(size, "depth")) if size is not None else ""
    if depth not in ("", 0, _USUAL_DEPTH):
        attributes["depth"] = depth
    return {**attributes, **_pairs(root)}


def _cell(element: Element, foreign: bool) -> Cell | None:
    """Give one object as a cell; None for one that LabelMe has deleted, or that the reader does not see."""
    if _leaf(element, "deleted") == "1":
        return None
    name, marker, shape = (_leaf(element, key) for key in ("name", "marker", "source_shape"))
    rings, drawn = _outline(element, shape == "point" and not foreign, published=bool(marker) and not name)
    if foreign and drawn in ("", "point"):
        return None
    if not rings:
        found = ", ".join(child.name for child in element.children[:9]) or "nothing"
        element.refuse("a polygon, a bndbox or a dot in an object", found)
    named = name if name != _NO_MARKER else ""
    notes = {"marker": named or None, "source_shape": drawn, "attributes": _object_attributes(element, foreign)}
    if not foreign:
        notes |= _notes(element, marker or named, shape, drawn)
    return cell_of(rings, notes, _place(element))


def _notes(element: Element, marker: str, shape: str, drawn: str) -> dict[str, Any]:
    """Give what only our own files, and the published archive's, say."""
    score = element.one("score")
    if drawn == "polygon" and shape == "point":
        element.refuse("a dot alone where source_shape is a point", "a polygon")
    return {
        "marker": marker or None,
        "source_shape": shape if shape and drawn == "polygon" else drawn,
        "score": None if score is None else _number(score),
    }


def _outline(element: Element, is_dot: bool, *, published: bool) -> tuple[tuple[NDArray[np.float64], ...], str]:
    """Give the rings of an object, and what they are."""
    polygons, box, dot = element.all("polygon"), element.one("bndbox"), element.one("dot")
    if polygons:
        return tuple(_ring(polygon) for polygon in polygons), "polygon"
    if box is not None and not is_dot:
        return (_corners(box, published),), "rect"
    if dot is not None:
        return (np.array([_point(dot)]),), "point"
    return (), ""


def _ring(polygon: Element) -> NDArray[np.float64]:
    points = [_point(point) for point in polygon.all("pt")] or _numbered_points(polygon)
    if len(points) < 3:
        polygon.refuse("a polygon of at least 3 points, as pt with x and y or as x1, y1, …", str(len(points) or "none"))
    return np.array(points)


def _numbered_points(polygon: Element) -> list[tuple[float, float]]:
    """Points as Roboflow writes them: x1, y1, x2, y2 and so on."""
    numbers: dict[str, dict[int, float]] = {"x": {}, "y": {}}
    for child in polygon.children:
        axis = _NUMBERED.fullmatch(child.name)
        if axis:
            numbers[axis[1]][int(axis[2])] = _number(child)
    if numbers["x"].keys() != numbers["y"].keys():
        odd = min(numbers["x"].keys() ^ numbers["y"].keys())
        polygon.refuse("an x and a y of each point", f"one of the two of point {odd}")
    return [(numbers["x"][index], numbers["y"][index]) for index in sorted(numbers["x"])]


def _point(element: Element) -> tuple[float, float]:
    return _needed(element, "x"), _needed(element, "y")


def _corners(box: Element, exclusive: bool) -> NDArray[np.float64]:
    left, right = sorted((_needed(box, "xmin"), _needed(box, "xmax")))
    top, bottom = sorted((_needed(box, "ymin"), _needed(box, "ymax")))
    if exclusive:
        right, bottom = max(left, right - 1), max(top, bottom - 1)
    return _rectangle(left, top, right, bottom)


def _rectangle(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def _object_attributes(element: Element, foreign: bool) -> Mapping[str, Any]:
    attributes = {} if foreign else _leaves(element, _OF_OBJECT)
    pose = _leaf(element, "pose")
    if pose not in ("", _NO_POSE):
        attributes["pose"] = pose
    for name in ("truncated", "difficult"):
        if _leaf(element, name) not in ("", "0"):
            attributes[name] = value_in(_leaf(element, name))
    texts = element.one("attributes")
    if texts is not None and not texts.children and texts.value():
        attributes["attributes"] = texts.value()  # LabelMe's are one text
    return {**attributes, **_pairs(element)}


def _leaves(element: Element, known: Iterable[str]) -> dict[str, Any]:
    """Give what elements say that hold a text and have no meaning here, the first of each name."""
    attributes: dict[str, Any] = {}
    for child in element.children:
        if not child.children and child.name not in known and child.value():
            attributes.setdefault(child.name, child.value() if child.name in _TEXTS else value_in(child.value()))
    return dict(attributes_in(attributes, _place(element)))


def _pairs(element: Element) -> Mapping[str, Any]:
    """Attributes as pairs of name and value."""
    attributes: dict[str, Any] = {}
    for group in element.all("attributes"):
        for pair in group.all("attribute"):
            name, value = pair.one("name"), pair.one("value")
            if name is None or value is None:
                pair.refuse("a name and a value", f"no {'name' if name is None else 'value'}")
            if name.children or value.children:
                pair.refuse("texts as name and value", "elements")
            if name.text in attributes:
                pair.refuse("each attribute once", f"{quoted(name.text)} twice")
            attributes[name.text] = value_in(value.text)
    return attributes_in(attributes, _place(element))


def _leaf(element: Element, name: str) -> str:
    """Give the text of an element in another, empty where there is none."""
    child = element.one(name)
    return "" if child is None or child.children else child.value()


def _needed(element: Element, name: str) -> float:
    child = element.one(name)
    if child is None:
        element.refuse(f"{name} in {element.name}", "none")
    return _number(child)


def _number(element: Element) -> float:
    text = element.value().strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        element.refuse(f"a number as {element.name}", quoted(text) if text else "nothing")
    number = float(text)
    if not -FARTHEST <= number <= FARTHEST:
        element.refuse(f"{element.name} from {-FARTHEST:.0f} to {FARTHEST:.0f}", quoted(text))
    return number


def _place(element: Element) -> Place:
    return element.place.at(f"line {element.line}, column {element.column}")


# --------------------------------------------------------------------------------------------------------------- writing


def writing(path: Path) -> AbstractContextManager[Add]:
    """Write one XML file a picture, named by the picture's stem, sub-folders kept.

    Raises
    ------
    InputError
        On adding, if the picture's name cannot be a file name within the folder, or a text is nothing that XML, or a value
        nothing that JSON, can hold.
    """
    return _writing(path, _document)


def writing_published(path: Path) -> AbstractContextManager[Add]:
    """Write as the published archive does: its elements, in its order, with true values.

    Every part of a cell is an object of its own, as the archive knows no others, and each has its own dot.
    ``segmentation_type``, ``split``, ``path``, ``version`` and the source are written where the picture's attributes tell
    them, and ``marked_structure`` where the marker is one of the archive's.
    """
    return _writing(path, _published_document)


@contextmanager
def _writing(path: Path, document: Callable[[AnnotatedImage], list[str]]) -> Iterator[Add]:
    folder = OutputFolder(path)

    def add(image: AnnotatedImage) -> None:
        text = "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', *document(image), ""])
        n_elements = text.count("</")
        if n_elements > MOST_ELEMENTS:
            raise InputError(
                None,
                expected=f"cells that take at most {MOST_ELEMENTS} elements",
                found=f"outlines that take {n_elements}",
                place=f"picture {quoted(image.name)}",
                advice="write them in another format",
            )
        write_text(folder.place(image.name, ".xml"), text)

    yield add


def _document(image: AnnotatedImage) -> list[str]:
    attributes = own_attributes(image.attributes)
    path = PurePosixPath(image.name.replace("\\", "/"))
    folder = path.parent.as_posix() if path.parent.name else _taken(attributes, "folder")
    objects = list(_objects(image))
    lines = [
        *_text_lines("folder", folder),
        *_text_lines("filename", path.name),
        *_text_lines("path", _taken(attributes, "path")),
        *_source(attributes),
        *_size(image, attributes),
        *_text_lines("segmented", str(int(any(line.startswith("<polygon>") for line in chain(*objects))))),
        *_text_lines("count", str(len(image.cells))),
        *_attributes(attributes),
    ]
    return _element("annotation", [*lines, *chain.from_iterable(_element("object", lines) for lines in objects)])


def _objects(image: AnnotatedImage) -> Iterator[list[str]]:
    centres = iter(image.centres.tolist() if image.shape is not None else ())
    for piece in pieces_of(image):
        # The first ring of a cell has the dot of the whole.
        yield _object(piece, image.shape, next(centres, None) if piece.first else None)


def _object(piece: Piece, shape: tuple[int, int] | None, centre: tuple[float, float] | None) -> list[str]:
    cell, box = piece.cell, _box(piece.ring, shape)
    if cell.is_dot:
        centre = (float(piece.ring[0, 0]), float(piece.ring[0, 1]))
    attributes = own_attributes(cell.attributes)
    pose = _taken(attributes, "pose", without=_NO_POSE)
    flags = {name: _flag(attributes, name) for name in ("truncated", "difficult")}
    marker = cell.marker or None
    lines = [
        *_text_lines("name", marker or _NO_MARKER),
        *_text_lines("marker", marker if marker == _NO_MARKER else None),
        *_text_lines("pose", pose or _NO_POSE),
        *(line for name, flag in flags.items() for line in _text_lines(name, flag)),
        _box_line(box, last=0),
    ]
    if not cell.is_dot and not (cell.source_shape == "rect" and np.array_equal(piece.ring, _rectangle(*box))):
        lines.append(_polygon(piece.ring))
        lines += _text_lines("source_shape", cell.source_shape if cell.source_shape != "polygon" else None)
    elif cell.is_dot:
        lines += _text_lines("source_shape", cell.source_shape)
    if centre is not None:
        lines.append(_dot(centre))
    if cell.score is not None:
        lines += _text_lines("score", _digits(float(cell.score)))
    return [*lines, *_attributes({**attributes, **piece.tie})]


def _published_document(image: AnnotatedImage) -> list[str]:
    attributes = own_attributes(image.attributes)
    parts = outer_parts(image)
    told = {name: _taken(attributes, name) for name in _TOLD}
    objects = [_published_object(*part) for part in zip(parts.cells, parts.boxes, parts.centres.tolist(), strict=True)]
    lines = [
        *_text_lines("split", told["split"]),
        *_text_lines("filename", PurePosixPath(image.name.replace("\\", "/")).name),
        *_text_lines("path", told["path"]),
        *_source(attributes),
        *_text_lines("version", told["version"]),
        *_size(image, attributes),
        *_text_lines("segmentation_type", told["segmentation_type"]),
        *_text_lines("count", str(len(parts.cells))),
    ]
    return _element("annotation", [*lines, *chain.from_iterable(_element("object", lines) for lines in objects)])


def _published_object(cell: Cell, box: NDArray[np.int64], centre: tuple[float, float]) -> list[str]:
    category = category_of(cell.marker)
    structure = category.structure if category else cell.attributes.get("marked_structure")
    lines = [
        *_text_lines("marker", cell.marker or None),
        *_text_lines("marked_structure", structure if isinstance(structure, str) else None),
    ]
    if not cell.is_dot:
        left, top, right, bottom = box.tolist()
        lines += [_polygon(cell.rings[0]), _box_line((left, top, right, bottom), last=1)]
    return [*lines, _dot(centre)]


def _element(name: str, lines: Iterable[str]) -> list[str]:
    return [f"<{name}>", *(f"  {line}" for line in lines), f"</{name}>"]


def _text_lines(name: str, text: str | None) -> list[str]:
    """Give an element with a text; nothing where there is none."""
    return [] if not text else [f"<{name}>{xml_text(text, name)}</{name}>"]


def _source(attributes: dict[str, object]) -> list[str]:
    lines = [line for name in ("database", "url") for line in _text_lines(name, _taken(attributes, name))]
    return _element("source", lines) if lines else []


def _size(image: AnnotatedImage, attributes: dict[str, object]) -> list[str]:
    if image.shape is None:
        return []
    depth = attributes.get("depth")
    if type(depth) is int and depth not in (_USUAL_DEPTH, 0):
        del attributes["depth"]
    else:
        depth = _USUAL_DEPTH
    height, width = image.shape
    return _element("size", [f"<width>{width}</width>", f"<height>{height}</height>", f"<depth>{depth}</depth>"])


def _taken(attributes: dict[str, object], name: str, without: str = "") -> str | None:
    """Take an attribute out to be an element of its own, if reading that element would give it back."""
    text = attributes.get(name)
    if not isinstance(text, str) or text in ("", without) or not fits_xml(text):
        return None
    del attributes[name]
    return text


def _flag(attributes: dict[str, object], name: str) -> str:
    if type(attributes.get(name)) is int and attributes[name] == 1:
        del attributes[name]
        return "1"
    return "0"


def _attributes(attributes: Mapping[str, object]) -> list[str]:
    pairs = [
        f"<attribute><name>{xml_text(name, 'an attribute name')}</name><value>{_json(value)}</value></attribute>"
        for name, value in attributes.items()
    ]
    return _element("attributes", pairs) if pairs else []


def _json(value: object) -> str:
    """JSON for XML: what XML cannot hold stands in texts alone, where JSON can spell it otherwise."""
    text = re.sub("[\x7f-\x9f\ufffe\uffff]", lambda found: f"\\u{ord(found.group()):04x}", json_text(value))
    return xml_text(text, "values of attributes")


def _box(ring: NDArray[np.float64], shape: tuple[int, int] | None) -> Box:
    """Give the first and last pixels of a ring, in the picture where it reaches into it."""
    corners = np.floor(ring + 0.5).astype(np.int64)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    if shape is not None and (min(left, top) < 0 or right >= shape[1] or bottom >= shape[0]):
        left, top, right, bottom = AnnotatedImage("", shape, (Cell((ring,)),)).boxes[0].tolist()
    return left, top, right, bottom


def _box_line(box: Box, last: int) -> str:
    left, top, right, bottom = box
    ends = f"<xmax>{right + last}</xmax><ymax>{bottom + last}</ymax>"
    return f"<bndbox><xmin>{left}</xmin><ymin>{top}</ymin>{ends}</bndbox>"


def _polygon(ring: NDArray[np.float64]) -> str:
    # No reader draws a polygon of fewer than three points: a cell one pixel wide repeats its last.
    points = np.concatenate((ring, np.repeat(ring[-1:], max(0, 3 - len(ring)), axis=0)))
    return f"<polygon>{''.join([f'<pt><x>{x}</x><y>{y}</y></pt>' for x, y in plain(points)])}</polygon>"


def _dot(point: tuple[float, float]) -> str:
    return f"<dot><x>{_digits(point[0])}</x><y>{_digits(point[1])}</y></dot>"


def _digits(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


_PUBLISHED = Codec(
    name="voc",
    find=find,
    find_foreign=partial(find, foreign=True),
    writing=writing_published,
    recognises=recognises,
    one_file=False,
    loses=("holes", "parts become objects of their own", "dots of their own, numbers, scores and attributes"),
)

CODEC = replace(
    _PUBLISHED,
    writing=writing,
    loses=(
        "holes and parts become objects of their own",
        "points become boxes of one pixel, and scores are not seen",
        "outlines, by readers that know boxes alone",
    ),
    published=_PUBLISHED,
)
