"""ImageJ: a folder with one RoiSet a picture, a zip archive of ``.roi`` files as the ROI Manager saves and opens it.

Each cell is one ROI along the edges of its pixels, named ``0001``, ``0002`` and so on after its number: a traced outline, a
rectangle where one was drawn, and a composite where there are holes or parts, or where coordinates are beyond the 32,767 that
whole numbers reach in every version of ImageJ. A dot is a point. Marker, score and attributes are the ROI's properties,
which ImageJ shows. The picture's name and size, for which ImageJ has no place, stand in the comment of the archive.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell
from fncells.documents import Place, json_text, kind, parse_json, quoted
from fncells.documents.properties import parse_properties, properties_text
from fncells.documents.zips import Zip, open_zip
from fncells.errors import InputError
from fncells.files import write_zip
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.folders import OutputFolder
from fncells.formats.notes import attributes_in, cell_of, check_name, point_in, shape_in
from fncells.formats.pictures import RESERVED, Once, PictureFolder, own_attributes
from fncells.formats.rois import ImagejRoi, Outliner, area_roi, decoded, kind_of, point_roi, points_in
from fncells.formats.texts import plain_text, value_in
from fncells.outlines import edge_polygons

__all__ = ["CODEC", "PASSED"]

PASSED = f"{RESERVED}imagej_rois"
"""Attribute of a picture: ROIs that enclose no pixel, each as its place among the cells, name, kind and bytes."""

_SUFFIXES = (".zip", ".roi")
_ENDINGS = ("_rois", "_RoiSet", "-RoiSet")  # what tools append to a picture's name: Cellpose the first
_PEEKED = 2**16  # bytes
_LARGEST = 2**24  # bytes of one ROI
_MARK = b"fncells "  # before what stands in the comment
_LONGEST_COMMENT = 2**16 - 1  # bytes

_AUTOMATIC_NAME = re.compile(r"\d{3,}-\d{3,}(-\d{3,})?(-\d+)?", re.ASCII)
_OWN_KEYS = ("", "marker", "score", "fncells")
_POSITION = ("channel", "slice", "frame")


# --------------------------------------------------------------------------------------------------------------- reading


def find(path: Path, images: Path | None = None, *, foreign: bool = False) -> Iterator[Unread]:
    """Find the RoiSets and ``.roi`` files of a folder, or the one file.

    Pixels are those that ImageJ takes: a polygon's are those whose centres lie inside (fractions of pixels count, and
    the upper left corner of the first pixel is 0, 0), where a centre on a right or lower edge is inside and on a left or
    upper one is not; a composite's the same, by the even-odd rule; a rectangle of x, y, width and height has just those
    pixels, and one with fractions all that it touches; an oval, in that rectangle, those whose centres lie in the
    ellipse or on it. Points are dots, and their whole numbers are pixel centres, as ImageJ has it for points. Lines and
    angles enclose nothing, nor do texts and pictures: they are no cells, and are kept aside.

    Parameters
    ----------
    path
        The folder, with its sub-folders, or a file.
    images
        The folder of the pictures; gives names and shapes, which ImageJ's own files do not hold.
    foreign
        Whether to read as ImageJ does, to whom our notes say nothing.

    Yields
    ------
    Unread
        Ordered by name. A ROI whose name is a number gives it to the cell.

    Raises
    ------
    InputError
        If there is no such file; on reading, if one is no whole zip archive of ROIs, or two are of one picture.
    """
    pictures, once = PictureFolder(images), Once(Place(path))
    found = _files(path)
    if not found:
        raise InputError(path, expected=f"ImageJ's ROIs ({', '.join(_SUFFIXES)})", found="none")

    def read(name: str, file: Path) -> AnnotatedImage:
        return _image(file, name, pictures, once, foreign)

    for name, file in found.items():
        yield Unread(name, partial(read, name, file))


def recognises(path: Path) -> bool:
    """Tell by the beginnings of its files whether a folder, or a file, holds ImageJ's ROIs."""
    return any(_begins_so(file) for file in _files(path).values())


def _begins_so(file: Path) -> bool:
    with file.open("rb") as stream:
        beginning = stream.read(_PEEKED)
    if beginning.startswith(b"PK\5\6"):  # an archive without members
        return _MARK in beginning
    return beginning.startswith(b"Iout") or (beginning.startswith(b"PK\3\4") and b".roi" in beginning)


def _files(path: Path) -> dict[str, Path]:
    """RoiSets and ROIs by their relative names."""
    if path.is_file():
        return {path.name: path} if path.suffix.lower() in _SUFFIXES else {}
    found = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.suffix.lower() in _SUFFIXES and not hidden and file.is_file():
            found[name.as_posix()] = file
    return found


def _image(file: Path, file_name: str, pictures: PictureFolder, once: Once, foreign: bool) -> AnnotatedImage:
    place = Place(file)
    if file.suffix.lower() == ".roi":
        if file.stat().st_size > _LARGEST:
            place.refuse(f"a ROI of at most {_LARGEST >> 20} MiB", f"{file.stat().st_size >> 20} MiB")
        return _with_cells(_nameless(file_name, pictures), [("", file.read_bytes())], place, once, foreign)
    with open_zip(file) as archive:
        told = None if foreign else _told(archive.comment, place.at("comment"))
        image = _nameless(file_name, pictures) if told is None else pictures.complete(told)
        return _with_cells(image, _rois(archive, place), place, once, foreign)


def _nameless(file_name: str, pictures: PictureFolder) -> AnnotatedImage:
    """Give the picture that a file belongs to, named after the file where it is not found."""
    path = PurePosixPath(file_name)
    for ending in _ENDINGS:
        if path.stem.endswith(ending) and path.stem != ending:
            path = path.with_stem(path.stem.removesuffix(ending))
    return pictures.complete(AnnotatedImage(str(path), None, ()), rename=True)


def _told(comment: bytes, place: Place) -> AnnotatedImage | None:
    """Give the picture that the archive's comment tells of; None where it is not one of ours."""
    if not comment.startswith(_MARK):
        return None
    try:
        value = parse_json(comment.removeprefix(_MARK).decode("utf-8"), place)
    except UnicodeDecodeError:
        place.refuse("UTF-8 text", "other bytes")
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        place.refuse("an object with the picture's name", kind(value))
    check_name(value["name"], place)
    shape = shape_in(value["size"], place.at("size")) if "size" in value else None
    return AnnotatedImage(value["name"], shape, (), attributes_in(value.get("attributes", {}), place))


def _rois(archive: Zip, place: Place) -> Iterator[tuple[str, bytes]]:
    """ROIs among the members, each with its name; whatever else lies in the archive is passed over."""
    names = [name for name in archive.names if name.lower().endswith(".roi")]
    # What the Finder of a Mac adds are no ROIs, whatever their names.
    names = [name for name in names if not (name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._"))]
    if archive.names and not names:
        place.refuse("a zip archive of .roi files", f"one without, but with {quoted(archive.names[0])}")
    for name, data in archive.read(names):
        yield PurePosixPath(name.replace("\\", "/")).stem, data


def _with_cells(
    image: AnnotatedImage, members: Iterable[tuple[str, bytes]], place: Place, once: Once, foreign: bool
) -> AnnotatedImage:
    """Put what the ROIs say on their picture."""
    once.check(image.name)
    outliner = Outliner(image.shape)
    cells: list[Cell] = []
    passed: list[tuple[int, str, str, bytes]] = []
    for index, (stem, data) in enumerate(members):
        where = place.at(f"ROI {quoted(stem)}" if stem else f"ROI {index}")
        roi = decoded(data, where)
        found = _cells(roi, roi.name or stem, outliner, where, foreign)
        if not found:
            passed.append((len(cells), roi.name or stem, kind_of(roi), data))
        cells += found
    attributes = {**image.attributes, PASSED: tuple(passed)} if passed else image.attributes
    return replace(image, cells=_numbered(cells), attributes=attributes)


def _cells(roi: ImagejRoi, name: str, outliner: Outliner, place: Place, foreign: bool) -> list[Cell]:
    """Give the cell that a ROI is, or the dots; nothing where it encloses no pixel."""
    notes = _notes_in(roi, name, place, foreign)
    points = points_in(roi, place)
    if points is not None:
        return list(_dots(roi, points, notes, place))
    rings, drawn = outliner.outline(roi, place)
    return [cell_of(rings, {"source_shape": drawn, **notes}, place)] if rings else []


def _dots(roi: ImagejRoi, points: NDArray[np.float64], notes: dict[str, Any], place: Place) -> Iterator[Cell]:
    if len(points) != 1:
        notes.pop("number", None)
    elif "dot" in notes:
        points = point_in(notes["dot"], place.at("property fncells"))
    counters = [0] * len(points) if roi.counters is None else roi.counters.tolist()
    for point, counter in zip(points, counters, strict=True):
        attributes = {**notes["attributes"], "counter": counter} if counter else notes["attributes"]
        yield cell_of((point[np.newaxis],), {**notes, "attributes": attributes, "source_shape": "point"}, place)


def _notes_in(roi: ImagejRoi, name: str, place: Place, foreign: bool) -> dict[str, Any]:
    """Give what a ROI says of its cell besides the pixels."""
    notes, properties = _properties_in(roi, place, foreign)
    if re.fullmatch(r"\d{1,10}", name, re.ASCII):
        if 1 <= int(name) < 2**31 and not foreign:
            notes["number"] = int(name)
    elif name and not _AUTOMATIC_NAME.fullmatch(name):
        properties.setdefault("name", name)
    return {**notes, "attributes": {**_fields_in(roi), **properties}}


def _properties_in(roi: ImagejRoi, place: Place, foreign: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what is noted for us among a ROI's properties, and the rest."""
    properties: dict[str, Any] = {}
    for key, text, as_it_stands in parse_properties(roi.props):
        value = value_in(text)
        unescaped = value_in(as_it_stands) if value is text else None
        # ImageJ, which reads escapes, writes none: quotes within JSON then stand as JSON has them.
        properties[key] = value if unescaped is None or unescaped is as_it_stands else unescaped
    note = properties.pop("fncells", {})
    if foreign:
        return {}, properties
    where = place.at("property fncells")
    if not isinstance(note, dict):
        where.refuse("an object", kind(note))
    if note.get("source_shape") == "point":
        where.refuse("a shape with an area", "a point")
    notes = {key: note[key] for key in ("source_shape", "dot") if key in note}
    if isinstance(properties.get("marker"), str):
        notes["marker"] = properties.pop("marker")
    if type(properties.get("score")) in (int, float):
        notes["score"] = properties.pop("score")
    return notes, {**properties, **attributes_in(note.get("attributes", {}), where)}


def _fields_in(roi: ImagejRoi) -> dict[str, Any]:
    """Give the attributes for which a ROI has fields."""
    fields: dict[str, Any] = {}
    if roi.group > 0:
        fields["group"] = roi.group
    numbers = (roi.c_position, roi.z_position, roi.t_position)
    if any(number > 0 for number in numbers):
        fields["position"] = dict(zip(_POSITION, numbers, strict=True))
    elif roi.position > 0:
        fields["position"] = roi.position
    return fields


def _numbered(cells: list[Cell]) -> tuple[Cell, ...]:
    """Keep the numbers that the ROIs' names give, unless two are the same, or they follow from the cells' places."""
    numbers = [cell.number for cell in cells if cell.number is not None]
    if len(set(numbers)) < len(numbers) or numbers == list(range(1, len(cells) + 1)):
        return tuple(replace(cell, number=None) for cell in cells)
    return tuple(cells)


# --------------------------------------------------------------------------------------------------------------- writing


@contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Write one RoiSet a picture, named by the picture's stem, sub-folders kept.

    Raises
    ------
    InputError
        On adding, if the picture's shape is unknown and it has more than dots, its name cannot be a file name within the
        folder, or its attributes are too many for the archive's comment, or nothing that JSON can hold.
    """
    folder = OutputFolder(path)

    def add(image: AnnotatedImage) -> None:
        members, comment = list(_members(image)), _comment(image)
        write_zip(folder.place(image.name, ".zip"), members, comment)

    yield add


def _comment(image: AnnotatedImage) -> bytes:
    told: dict[str, object] = {"name": image.name}
    if image.shape is not None:
        told["size"] = [int(side) for side in image.shape]
    attributes = own_attributes(image.attributes)
    if attributes:
        told["attributes"] = attributes
    comment = _MARK + json_text(told).encode("utf-8", "surrogatepass")
    if len(comment) > _LONGEST_COMMENT:
        raise InputError(
            None,
            expected=f"a name and attributes of at most {_LONGEST_COMMENT} bytes",
            found=f"{len(comment)}",
            place=f"picture {quoted(image.name)}",
        )
    return comment


def _members(image: AnnotatedImage) -> Iterator[tuple[str, bytes]]:
    """Give one ROI a cell, named by its number, and between them those that were kept aside on reading."""
    numbers = image.numbers.tolist()
    names = _Names(f"{number:04d}" for number in numbers)
    passed = _passed(image)
    for index, (number, roi) in enumerate(zip(numbers, _rois_of(image), strict=True)):
        yield from ((names.free(name), data) for at, name, data in passed if at == index)
        if roi is not None:
            roi.name = f"{number:04d}"
            yield f"{roi.name}.roi", roi.tobytes()
    yield from ((names.free(name), data) for at, name, data in passed if at >= len(numbers))


def _rois_of(image: AnnotatedImage) -> Iterator[ImagejRoi | None]:
    """Give each cell as a ROI, None for one without pixels in the picture."""
    drawn = not all(cell.is_dot for cell in image.cells)
    regions = image.regions if drawn else (None,) * len(image.cells)
    polygons = iter(edge_polygons([region for region in regions if region is not None]))
    for cell, region in zip(image.cells, regions, strict=True):
        if cell.is_dot:
            yield _annotated(cell, point_roi(cell.rings[0][0]), "point")
        elif region is not None:
            rings = [ring for polygon in next(polygons) for ring in polygon]
            yield _annotated(cell, *area_roi(region, rings, is_rectangle=cell.source_shape == "rect"))
        else:
            yield None


def _annotated(cell: Cell, roi: ImagejRoi, drawn: str) -> ImagejRoi:
    """Put what there is to say of a cell into its ROI; what properties cannot show stands in one of them for us."""
    attributes = own_attributes(cell.attributes)
    _set_fields(roi, attributes)
    hidden = {key: value for key, value in attributes.items() if key in _OWN_KEYS or key.strip() != key}
    shown: dict[str, object] = {key: value for key, value in attributes.items() if key not in hidden}
    if cell.score is not None:
        shown = {"score": float(cell.score), **shown}
    if cell.marker:
        shown = {"marker": cell.marker, **shown}
    note: dict[str, object] = {}
    if cell.source_shape != drawn:
        note["source_shape"] = cell.source_shape
    if cell.is_dot and not np.array_equal(cell.rings[0].astype(np.float32), cell.rings[0]):
        note["dot"] = cell.rings[0][0].tolist()
    if hidden:
        note["attributes"] = hidden
    if note:
        shown["fncells"] = note
    roi.props = properties_text({key: plain_text(value) for key, value in shown.items()})
    return roi


def _set_fields(roi: ImagejRoi, attributes: dict[str, object]) -> None:
    """Put the attributes for which a ROI has fields there, and take them out."""
    group, position = attributes.get("group"), attributes.get("position")
    if type(group) is int and 1 <= group <= 255:
        roi.group = group
        del attributes["group"]
    numbers: list[Any] = [position]
    if isinstance(position, Mapping) and tuple(position) == _POSITION:
        numbers = list(position.values())
    if all(type(number) is int and 0 <= number < 2**31 for number in numbers) and any(numbers):
        if len(numbers) == 1:
            roi.position = numbers[0]
        else:
            roi.c_position, roi.z_position, roi.t_position = numbers
        del attributes["position"]


def _passed(image: AnnotatedImage) -> list[tuple[int, str, bytes]]:
    passed = image.attributes.get(PASSED, ())
    return [(at, name, data) for at, name, _, data in passed] if isinstance(passed, tuple) else []


class _Names:
    """Gives members of an archive names that no other has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def free(self, name: str) -> str:
        stem = re.sub(r"[^\w .+-]", "_", name)[:100] or "roi"
        while stem in self._taken:
            stem += "_"
        self._taken.add(stem)
        return f"{stem}.roi"


CODEC = Codec(
    name="imagej",
    find=find,
    find_foreign=partial(find, foreign=True),
    writing=writing,
    recognises=recognises,
    one_file=False,
    loses=("outlines finer than a pixel", "shapes other than rectangles; of label numbers the names of ROIs tell"),
)
