"""YOLO segmentation labels, as Ultralytics has them: a folder with one text file a picture, and ``data.yaml``.

A line is an outline: the number of its class, and x and y of its corners as fractions of the picture's width and height. We
write outlines along the edges of pixels, to within 1e-7 of the picture's size and so that all that compute in single or double
precision, whether they round or cut off, come upon the corners of pixels. YOLO knows neither holes nor parts: each ring is a
line of its own. What ties lines to cells, and all else that YOLO has no place for, stands under the key ``fncells`` of
``data.yaml``, which other readers pass over: for each picture, as JSON, its name, size and attributes, and for each cell
what there is to note of it, ``rings`` where it has several lines, ``dot`` where it is one and has none.

Where the pictures are put beside the labels, ``data.yaml`` is ready for training; the labels may also be moved to a folder
``labels`` beside one of pictures named ``images``.

Other readers see no pixels but polygons. Those that make pixels of them (supervision, and Ultralytics for training) have
OpenCV's ``fillPoly`` draw the corners as whole numbers, border included: each line becomes wider and higher by one pixel
to the right and below, and none is less than that. :data:`CODEC`'s ``find_foreign`` gives just these pixels.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell, Region, outline
from fncells.documents import Place, json_text, kind, parse_json, quoted
from fncells.documents.strict_yaml import read_yaml
from fncells.errors import InputError
from fncells.files import write_text
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.folders import OutputFolder
from fncells.formats.notes import attributes_in, cell_of, check_name, noted_numbers, notes_of, point_in, shape_in
from fncells.formats.pictures import Once, PictureFolder, own_attributes
from fncells.outlines import edge_polygons, filled

__all__ = ["CODEC"]

_SETTINGS = ("data.yaml", "data.yml", "dataset.yaml")
_CLASSES = "classes.txt"
_LISTINGS = frozenset(
    {"classes", "labels", "names", "notes", "readme", "requirements", "test", "train", "val", "valid"}
)
_NO_MARKER = "cell"  # the class of cells whose marker is unknown
_KEY = "fncells"
_LONGEST_LINE = 2**22  # bytes; a hundred thousand corners
_MOST_CLASSES = 10**6
_OUTSIDE = 1.0  # of the picture's size; how far beyond it a coordinate may lie
_UNITS, _MOST_UNITS_MORE = (
    10**8,
    8,
)  # what fractions are written in; 8 of them are more than single precision rounds off
_WITHIN, _WITHIN_PX = (
    1e-6,
    0.1,
)  # of the picture's size, and pixels: how far a corner may lie off half pixels to be put there
_LARGEST_BOX, _BOXES, _BOX_EACH = 2**26, 2**28, 10_000  # px; around one cell, around all, and beyond it for each
_MOST_AT_ONCE, _MOST_PIXELS_AT_ONCE = 1000, 2**24
_PEEKED = 2**16  # bytes
_LABEL = re.compile(rb"\s*\d+(\.0*)?(\s+[-+.\deE]+){4,}\s*$")
_UNSAFE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_HEAD = "# Corners along the edges of pixels, as fractions of the picture's width and height.\ntrain: .\nval: .\n"

Ring = NDArray[np.float64]
Json = dict[str, Any]


def find(path: Path, images: Path | None = None, *, noted: bool = True) -> Iterator[Unread]:
    """Find the label files of a data set.

    Parameters
    ----------
    path
        The data set's folder, with ``labels`` and ``images`` in it or in its parts; a folder of label files; one such
        file; or ``data.yaml``. Classes have the names that ``data.yaml`` says (or ``classes.txt``), and are markers.
        Lines of four numbers are boxes; one number more, of a box or an outline, is the detector's confidence.
    images
        The folder of the pictures. It is needed for their sizes, unless the labels are ours, or the pictures lie in
        ``images`` or beside the labels.
    noted
        Whether to join lines and take the rest of what we note in ``data.yaml``; names and sizes are taken either way. If
        not, cells are what other readers make of the lines.

    Yields
    ------
    Unread
        Ordered by name. An outline that holds no pixel's middle is a dot.

    Raises
    ------
    InputError
        If there are no labels, or ``data.yaml`` is broken; on reading, if a file's lines are no labels, do not fit what we
        noted, or the picture's size is not to be found.
    """
    labels = _labels(path)
    settings = _settings(path)
    if not labels and settings.entries is None:
        raise InputError(path, expected="label files (.txt) of YOLO", found="none")
    reader = _Reader(settings, images, Once(Place(path)), noted=noted)
    for label in labels:
        if not label.is_listing or settings.entry(label) is not None:
            yield Unread(label.name, partial(reader.read, label))


@contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Write one text file a picture, named by the picture's stem, sub-folders kept; ``data.yaml`` when all are done.

    Raises
    ------
    InputError
        On adding, if the picture's shape is unknown, its name cannot be a file name within the folder, or an attribute is
        nothing that JSON can hold.
    """
    folder = OutputFolder(path)
    classes: dict[str, int] = {}
    pictures: list[str] = []

    def add(image: AnnotatedImage) -> None:
        known = dict(classes)
        lines, picture = _lines_of(image, known)
        entry = _scalar(json_text(picture))
        for name in known:
            _scalar(json_text(name))
        write_text(folder.place(image.name, ".txt"), "".join(f"{line}\n" for line in lines))
        pictures.append(entry)
        classes.update(known)

    yield add
    names = [f"  {number}: {_scalar(json_text(name))}\n" for name, number in (classes or {_NO_MARKER: 0}).items()]
    entries = ["- '" + entry.replace("'", "''") + "'\n" for entry in pictures]
    noted = f"{_KEY}:\n{''.join(entries)}" if entries else f"{_KEY}: []\n"
    write_text(path / _SETTINGS[0], f"{_HEAD}nc: {len(names)}\nnames:\n{''.join(names)}{noted}")


def recognises(path: Path) -> bool:
    """Tell by ``data.yaml`` with names, or by the first label file that is not empty."""
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        return _names_classes(path)
    if path.is_file():
        return path.suffix.lower() == ".txt" and _is_label_file(path)
    if any(_names_classes(path / name) for name in _SETTINGS):
        return True
    return next((True for label in _labels(path) if _is_label_file(label.file)), False)


# ----------------------------------------------------------------------------------------------------------------- files


class _Labels(NamedTuple):
    """A label file.

    Parameters
    ----------
    file
        The file.
    name
        Its name within the data set, without the folder ``labels``.
    pictures
        The folder where its picture may lie: by the rule of Ultralytics ``images`` beside ``labels``, if there is one.
    within
        Its name within the counterpart of that folder.
    """

    file: Path
    name: str
    pictures: Path
    within: str

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return _stem(self.name)

    @property
    def is_listing(self) -> bool:
        """Whether the file holds names, by its own; unless there are labels in it."""
        return self.file.name.lower().split(".")[0] in _LISTINGS and not _is_label_file(self.file)


def _labels(path: Path) -> list[_Labels]:
    """List label files by name. Where there are folders named ``labels``, others hold none."""
    folder = path if path.is_dir() else path.parent
    if path.is_file() and path.suffix.lower() == ".txt":
        files = [path]
    elif path.exists():
        files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() == ".txt" and file.is_file()]
    else:
        files = []
    visible = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    in_labels = [file for file in visible if "labels" in file.relative_to(folder).parts[:-1]]
    return sorted((_labels_of(file, folder) for file in in_labels or visible), key=lambda label: label.name)


def _labels_of(file: Path, folder: Path) -> _Labels:
    parts = file.relative_to(folder).parts
    begun = _last("labels", parts[:-1])
    name = PurePosixPath(*(part for place, part in enumerate(parts) if place != begun)).as_posix()
    whole = file.absolute().parts
    place = _last("labels", whole[:-1])
    pictures = None if place is None else Path(*whole[:place], "images")
    if place is None or pictures is None or not pictures.is_dir():
        return _Labels(file, name, folder, name)
    return _Labels(file, name, pictures, PurePosixPath(*whole[place + 1 :]).as_posix())


def _last(part: str, parts: Sequence[str]) -> int | None:
    return next((place for place in reversed(range(len(parts))) if parts[place] == part), None)


def _is_label_file(file: Path) -> bool:
    """Whether the first line of a file that is not empty is a label."""
    with file.open("rb") as opened:
        beginning = opened.read(_PEEKED).removeprefix(b"\xef\xbb\xbf").lstrip()
    line = beginning.splitlines()[0] if beginning else b""
    # Of a line that is longer the end may be cut off within a number.
    return _LABEL.match(line) is not None


def _names_classes(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return re.search(rb"^(names|nc)\s*:", opened.read(_PEEKED), re.MULTILINE) is not None


def _stem(name: str) -> str:
    """Give the name that a picture's label file has, without its suffix."""
    return str(PurePosixPath(name.replace("\\", "/")).with_suffix(""))


# -------------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class _Settings:
    """What ``data.yaml`` says.

    Parameters
    ----------
    path
        The file; None where there is none.
    names
        Names of the classes; None where nothing is said.
    entries
        What we noted, by the stems of the label files, each with its place; None where the file is not ours.
    """

    path: Path | None = None
    names: Mapping[int, str] | None = None
    entries: Mapping[str, tuple[Json, Place]] | None = None

    def entry(self, label: _Labels) -> tuple[Json, Place] | None:
        """Give what we noted of a label file."""
        return (self.entries or {}).get(label.stem)

    def marker(self, number: int, place: Place) -> str | None:
        """Give the marker that a class stands for."""
        if self.names is None:
            return None
        if number not in self.names:
            found = f"class {number}"
            place.refuse(f"one of the {len(self.names)} classes that {self.path and self.path.name} names", found)
        name = self.names[number]
        return None if name in ("", _NO_MARKER) else name


def _settings(path: Path) -> _Settings:
    """Read ``data.yaml``, or ``classes.txt``, of the folder, or of those above ``labels``."""
    if path.is_file() and path.suffix.lower() != ".txt":
        return _read_settings(path)
    folder = path if path.is_dir() else path.parent
    parts = folder.absolute().parts
    place = _last("labels", parts)
    above = [] if place is None else [Path(*parts[:stop]) for stop in (place, place - 1) if stop > 0]
    if (folder / "labels").is_dir():  # as in a part of Roboflow's data sets
        above.append(folder.absolute().parent)
    for candidate in (file / name for file in (folder, *above) for name in _SETTINGS):
        if candidate.is_file():
            return _read_settings(candidate)
    for candidate in (file / _CLASSES for file in (folder, *above)):
        if candidate.is_file() and not _is_label_file(candidate):
            lines = candidate.read_bytes().decode("utf-8-sig", errors="replace").splitlines()
            return _Settings(candidate, dict(enumerate(line.strip() for line in lines)) or None)
    return _Settings()


def _read_settings(path: Path) -> _Settings:
    place = Place(path)
    value = read_yaml(path)
    if not isinstance(value, dict):
        place.refuse("a mapping with the names of the classes", kind(value))
    if "kpt_shape" in value:
        place.at("kpt_shape").refuse("outlines or boxes", "labels of poses")
    return _Settings(path, _names_in(value.get("names", ""), place.at("names")), _entries(value.get(_KEY), place))


def _names_in(value: Any, place: Place) -> Mapping[int, str] | None:
    """Read names of classes, a list or a mapping of numbers."""
    if value == "":
        return None
    names = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        place.refuse("names as a list, or a mapping of the classes' numbers", kind(value))
    numbers = {key if isinstance(key, int) else _class_number(key): name for key, name in names.items()}
    if None in numbers or len(numbers) < len(names):
        place.refuse("each class's number once, from 0", "other keys")
    return {number: name for number, name in numbers.items() if number is not None}


def _class_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 6 else None


def _entries(value: Any, place: Place) -> Mapping[str, tuple[Json, Place]] | None:
    """Read our own notes, one JSON text a picture."""
    if value is None:
        return None
    place = place.at(_KEY)
    if not isinstance(value, list):
        place.refuse("a list with one text a picture", kind(value))
    entries: dict[str, tuple[Json, Place]] = {}
    for index, text in enumerate(value):
        where = place.at(f"picture {index}")
        entry = parse_json(text, where) if isinstance(text, str) else text
        if not isinstance(text, str) or not isinstance(entry, dict):
            where.refuse("an object as JSON in a text", kind(entry))
        name = entry.get("picture")
        if not isinstance(name, str):
            where.at("picture").refuse("the picture's name", kind(name))
        check_name(name, where.at("picture"))
        if _stem(name) in entries:
            where.refuse(
                "one picture of each name, as label files are named without the suffix", f"{quoted(name)} again"
            )
        entries[_stem(name)] = entry, where
    return entries


# --------------------------------------------------------------------------------------------------------------- reading


class _Line(NamedTuple):
    """One line: its ring in pixels, along their edges, and what else it says."""

    ring: Ring
    notes: Json
    place: Place


class _Drawing(NamedTuple):
    """One cell to be: its rings, what is known of it besides, and its place; a dot where there are no rings."""

    rings: list[Ring]
    notes: Json
    place: Place


@dataclass(frozen=True)
class _Reader:
    """Reads label files of one data set.

    Parameters
    ----------
    settings
        What ``data.yaml`` says.
    images
        The folder of the pictures, where the user gives it.
    once
        The names that have been read.
    noted
        Whether to take what we noted.
    """

    settings: _Settings
    images: Path | None
    once: Once
    noted: bool
    folders: dict[Path, PictureFolder] = field(default_factory=dict)

    def read(self, label: _Labels) -> AnnotatedImage:
        """Read one file."""
        place = Place(label.file)
        entry, where = self.settings.entry(label) or (None, place)
        image = self._picture(label, entry, where)
        self.once.check(image.name)
        first = next(lines := _numbers(label.file, place), None)
        found = [] if first is None else chain([first], lines)
        if image.shape is None:
            if first is None:
                return image
            advice = "give the folder of the pictures with --images"
            raise InputError(label.file, expected="the picture's width and height", found="labels alone", advice=advice)
        outlines = [_line(numbers, image.shape, self.settings, at) for numbers, at in found]
        if not self.noted:
            return replace(image, cells=tuple(_as_others_draw(one) for one in outlines))
        drawings = _untied(outlines) if entry is None else _tied(outlines, entry.get("cells"), where, place)
        return replace(image, cells=_drawn(drawings, image.shape))

    def _picture(self, label: _Labels, entry: Json | None, place: Place) -> AnnotatedImage:
        """Give the picture without its cells."""
        if entry is None:
            image = AnnotatedImage(label.name, None, ())
        else:
            shape = shape_in([entry.get("height"), entry.get("width")], place.at("height and width"))
            attributes = attributes_in(entry.get("attributes", {}), place) if self.noted else {}
            image = AnnotatedImage(entry["picture"], shape, (), attributes)
        if self.images is not None:
            return self._folder(self.images).complete(image, rename=entry is None)
        if entry is not None:
            return image
        found = self._folder(label.pictures).complete(replace(image, name=label.within), rename=True)
        if found.shape is None:
            return image
        above = PurePosixPath(label.name).parts[: -len(PurePosixPath(label.within).parts)]
        return replace(found, name=PurePosixPath(*above, found.name).as_posix())

    def _folder(self, folder: Path) -> PictureFolder:
        if folder not in self.folders:
            self.folders[folder] = PictureFolder(folder)
        return self.folders[folder]


def _numbers(file: Path, place: Place) -> Iterator[tuple[list[float], Place]]:
    """Read the numbers of each line that is not empty."""
    with file.open("rb") as opened:
        for number in count(1):
            line = opened.readline(_LONGEST_LINE + 1)
            if not line:
                return
            where = place.at(f"line {number}")
            if len(line) > _LONGEST_LINE:
                where.refuse(f"a line of at most {_LONGEST_LINE} bytes", "a longer one")
            words = line.removeprefix(b"\xef\xbb\xbf").split() if number == 1 else line.split()
            if words:
                yield _parsed(words, where), where


def _parsed(words: list[bytes], place: Place) -> list[float]:
    try:
        numbers = list(map(float, words))
    except ValueError:
        numbers = [math.nan]
    if not math.isfinite(sum(numbers)) or any(b"_" in word for word in words):
        wrong = next((word for word in words if not _is_number(word)), b"numbers too large")
        place.refuse("numbers, the class and its coordinates", quoted(wrong.decode("utf-8", errors="replace")))
    return numbers


def _is_number(word: bytes) -> bool:
    try:
        return b"_" not in word and math.isfinite(float(word))
    except ValueError:
        return False


def _line(numbers: list[float], shape: tuple[int, int], settings: _Settings, place: Place) -> _Line:
    """Make sense of a line by how many numbers there are."""
    number, values = numbers[0], numbers[1:]
    if not number.is_integer() or not 0 <= number < _MOST_CLASSES:
        place.refuse("the number of a class, from 0", f"{number:g}")
    notes: Json = {"marker": settings.marker(int(number), place)}
    if settings.names is None:
        notes["attributes"] = {"class": int(number)}
    if len(values) < 4:
        place.refuse(
            "a class and 4 numbers of a box, or those of at least 3 corners", f"a class and {len(values)} numbers"
        )
    if len(values) % 2:
        _note_last(values.pop(), notes, place)
    low, high = -_OUTSIDE, 1 + _OUTSIDE
    if min(values) < low or max(values) > high:
        wrong = next(value for value in values if not low <= value <= high)
        place.refuse("fractions of the picture's width and height, from 0 to 1", f"{wrong:g}")
    if len(values) == 4:
        x, y, width, height = values
        if width < 0 or height < 0:
            place.refuse("a width and height of at least 0", f"{width:g} and {height:g}")
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        values = [left, top, right, top, right, bottom, left, bottom]
        notes["source_shape"] = "rect"
    return _Line(_in_pixels(np.array(values).reshape(-1, 2), shape), notes, place)


def _note_last(value: float, notes: Json, place: Place) -> None:
    """Note the number behind the coordinates: a confidence, or, where it can be none, the number of a track."""
    if 0 <= value <= 1:
        notes["score"] = value
    elif value.is_integer() and value > 0:
        notes["attributes"] = {**notes.get("attributes", {}), "track": int(value)}
    else:
        place.refuse("a confidence from 0 to 1 behind the coordinates", f"{value:g}")


def _in_pixels(fractions: Ring, shape: tuple[int, int]) -> Ring:
    """Take fractions for pixels; what has been rounded when it was written is put back on half pixels."""
    sides = np.array([shape[1], shape[0]], dtype=np.float64)
    points = fractions * sides
    halves = np.round(2 * points) / 2
    near = np.abs(points - halves) <= np.minimum(_WITHIN * sides, _WITHIN_PX)
    return np.where(near, halves, points)


def _as_others_draw(line: _Line) -> Cell:
    return cell_of((np.trunc(line.ring),), line.notes, line.place)


def _untied(lines: list[_Line]) -> list[_Drawing]:
    return [_Drawing([line.ring], line.notes, line.place) for line in lines]


def _tied(lines: list[_Line], cells: Any, place: Place, file: Place) -> list[_Drawing]:
    """Put lines together as we noted."""
    if cells is None:
        return _untied(lines)
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        place.at("cells").refuse("a list of objects", kind(cells))
    drawings: list[_Drawing] = []
    left = iter(lines)
    taken = 0
    for index, notes in enumerate(cells):
        where = place.at(f"cell {index}")
        if "dot" in notes:
            point = point_in(notes["dot"], where.at("dot"))
            drawings.append(_Drawing([], {**notes, "dot": point}, where))
            continue
        roles = notes.get("rings", ["outer"])
        if not isinstance(roles, list) or not roles or not all(role in ("outer", "hole") for role in roles):
            where.at("rings").refuse("a list of 'outer' and 'hole'", kind(roles))
        mine = list(islice(left, len(roles)))
        taken += len(roles)
        if len(mine) == len(roles):
            drawings.append(_Drawing([line.ring for line in mine], {**mine[0].notes, **notes}, where))
    if taken != len(lines):
        advice = f"where labels have been changed on purpose, take the picture's line under {_KEY} out of {place.path}"
        file.refuse(f"{taken} lines, as {place.path and place.path.name} notes", f"{len(lines)}", advice)
    return drawings


def _drawn(drawings: list[_Drawing], shape: tuple[int, int]) -> tuple[Cell, ...]:
    """Make cells of their rings, some at a time."""
    cells: list[Cell] = []
    numbers: set[int] = set()
    for some in _batches(drawings, shape):
        for drawing, region in zip(some, _filled(some, shape), strict=True):
            cell = _cell(drawing, region)
            if cell.number in numbers:
                drawing.place.refuse("each number once", f"number {cell.number} twice")
            if cell.number is not None:
                numbers.add(cell.number)
            cells.append(cell)
    return tuple(cells)


def _cell(drawing: _Drawing, region: Region | None) -> Cell:
    if region is not None:
        return cell_of(outline(region), drawing.notes, drawing.place)
    dot = np.concatenate(drawing.rings).mean(axis=0, keepdims=True) - 0.5 if drawing.rings else drawing.notes["dot"]
    return cell_of((dot,), {**drawing.notes, "source_shape": "point"}, drawing.place)


def _batches(drawings: list[_Drawing], shape: tuple[int, int]) -> Iterator[list[_Drawing]]:
    """Part cells into lots that are worked on at once."""
    some: list[_Drawing] = []
    pixels, left = 0, _BOXES
    for drawing in drawings:
        box = _box(drawing.rings, shape)
        left += _BOX_EACH - box
        if box > _LARGEST_BOX or left < 0:
            drawing.place.refuse("the outline of a cell", "one too large to be one")
        if some and (len(some) >= _MOST_AT_ONCE or pixels + box > _MOST_PIXELS_AT_ONCE):
            yield some
            some, pixels = [], 0
        some.append(drawing)
        pixels += box
    if some:
        yield some


def _box(rings: list[Ring], shape: tuple[int, int]) -> int:
    """Pixels of the box around a cell, as far as it is in the picture."""
    if not rings:
        return 0
    points = np.concatenate(rings)
    sizes = np.minimum(points.max(axis=0) + 2, (shape[1], shape[0])) - np.maximum(points.min(axis=0), 0)
    return int(np.prod(np.maximum(sizes, 0)))


def _filled(drawings: list[_Drawing], shape: tuple[int, int]) -> list[Region | None]:
    try:
        return filled([drawing.rings for drawing in drawings], shape)
    except OverflowError as error:
        drawings[int(error.args[0])].place.refuse("the outline of a cell", "one too large or too tangled to be one")


# --------------------------------------------------------------------------------------------------------------- writing


def _lines_of(image: AnnotatedImage, classes: dict[str, int]) -> tuple[list[str], Json]:
    """Make a picture's lines, and what has to be noted; classes that are new are entered."""
    numbers = noted_numbers(image)
    height, width = image.shape or (0, 0)
    outlines = edge_polygons([region for region in image.regions if region is not None])
    corners = [ring for polygons in outlines for polygon in polygons for ring in polygon]
    across, down = (_fractions([ring[:, axis] for ring in corners], side) for axis, side in ((0, width), (1, height)))
    left = iter(outlines)
    lines: list[str] = []
    cells: list[Json] = []
    for cell, region, number in zip(image.cells, image.regions, numbers, strict=True):
        notes = notes_of(cell, number)
        if region is not None:
            name = cell.marker or _NO_MARKER
            if cell.marker != _NO_MARKER:
                notes.pop("marker", None)
            rings = [
                (ring, role) for polygon in next(left) for ring, role in zip(polygon, _roles(polygon), strict=True)
            ]
            start = f"{classes.setdefault(name, len(classes))} "
            lines += [start + " ".join(f"{across[x]} {down[y]}" for x, y in ring.tolist()) for ring, _ in rings]
            cells.append(notes | ({"rings": [role for _, role in rings]} if len(rings) > 1 else {}))
        elif cell.is_dot and cell.rings:
            cells.append({"dot": cell.rings[0][0].tolist(), **notes})
    picture: Json = {"picture": image.name, "width": int(width), "height": int(height)}
    attributes = own_attributes(image.attributes)
    told = {"attributes": attributes, "cells": cells if any(cells) else None}
    return lines, picture | {key: value for key, value in told.items() if value}


def _roles(polygon: Sequence[NDArray[np.int64]]) -> list[str]:
    return ["outer"] + ["hole"] * (len(polygon) - 1)


def _fractions(numbers: list[NDArray[np.int64]], side: int) -> dict[int, str]:
    """Give the text of whole numbers of pixels as fractions of a side: the shortest that no reader takes for less.

    A reader that computes in single precision and cuts off comes upon the same number of pixels as one that is exact.
    """
    pixels = np.unique(np.concatenate(numbers)) if numbers else np.empty(0, dtype=np.int64)
    units = -(-pixels * _UNITS // max(side, 1))
    for _ in range(_MOST_UNITS_MORE):
        fractions = units / _UNITS
        single = fractions.astype(np.float32) * np.float32(side)
        units[(np.trunc(single) < pixels) | (np.trunc(fractions * side) < pixels)] += 1
    texts = (f"{unit / _UNITS:.8f}".rstrip("0").rstrip(".") for unit in units.tolist())
    return dict(zip(pixels.tolist(), texts, strict=True))


def _scalar(text: str) -> str:
    """Write JSON such that YAML takes it as it stands; InputError where no file can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError("attributes", expected="Unicode text", found="half of a surrogate pair") from None
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


CODEC = Codec(
    name="yolo",
    find=find,
    find_foreign=partial(find, noted=False),
    writing=writing,
    recognises=recognises,
    one_file=False,
    loses=(
        "holes and parts become outlines of their own",
        "drawn as pixels, outlines get wider and higher by one",
        "dots, label numbers, scores, attributes, and the sizes of pictures",
    ),
)
