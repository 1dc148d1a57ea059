"""Run lengths: a folder with one JSON file a picture, one COCO run-length encoding a cell.

::

    {"name": "sub/a.tif", "size": [1200, 1600], "cells": [{"size": [1200, 1600], "counts": "…", "number": 5}, …]}

Each cell is an object that pycocotools decodes as it stands. A dot has ``dot``, its x and y, instead of ``counts``. Read are
also what the published archive holds, a ``.pickle`` of one encoding of the whole mask, the same as JSON, and a list of
encodings, one a cell.
"""

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell, Region, outline
from fncells.documents import Place, json_text, kind, read_json, read_pickle
from fncells.errors import InputError
from fncells.files import RECORD_NAME, write_bytes, write_text
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.encodings import encodings_of, region_in
from fncells.formats.folders import OutputFolder
from fncells.formats.notes import attributes_in, cell_of, check_name, noted_numbers, notes_of, plain, point_in, shape_in
from fncells.formats.pictures import PictureFolder, own_attributes

__all__ = ["CODEC"]

_SUFFIXES = (".json", ".pickle", ".pkl")
_PEEKED = 2**12  # bytes
Encoding = Mapping[str, Any]


def find(path: Path, images: Path | None = None) -> Iterator[Unread]:
    """Find the run-length files of a folder, or the one file.

    Parameters
    ----------
    path
        The folder, with its sub-folders, or a file. Of a ``.json`` and a ``.pickle`` of one name the former is taken: it
        tells cells apart.
    images
        The folder of the pictures; gives the cells their pictures' names where the files do not tell them.

    Yields
    ------
    Unread
        Ordered by name.

    Raises
    ------
    InputError
        If there is no such file; on reading, if one is not as described above.
    """
    pictures = PictureFolder(images)
    found = _files(path)
    if not found:
        raise InputError(path, expected=f"run-length files ({', '.join(_SUFFIXES)})", found="none")
    for name, file in found.items():
        yield Unread(name, partial(_read, file, name, pictures))


@contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Write one JSON file a picture, named by the picture's stem, sub-folders kept.

    Raises
    ------
    InputError
        On adding, if the picture's shape is unknown, its name cannot be a file name within the folder, or an attribute is
        nothing that JSON can hold.
    """
    folder = OutputFolder(path)

    def add(image: AnnotatedImage) -> None:
        cells = ",\n".join(f"  {json_text(cell)}" for cell in _encodings(image))
        attributes = own_attributes(image.attributes)
        noted = f'"attributes":{json_text(attributes)},' if attributes else ""
        head = f'{{"name":{json_text(image.name)},"size":{json_text(image.mask.shape)},{noted}"cells":['
        write_text(folder.place(image.name, ".json"), f"{head}\n{cells}\n]}}\n" if cells else f"{head}]}}\n")

    yield add


@contextmanager
def writing_published(path: Path) -> Iterator[Add]:
    """Write as the published archive does: a pickle of one encoding of the whole mask, ``{"size": …, "counts": …}``."""
    folder = OutputFolder(path)

    def add(image: AnnotatedImage) -> None:
        [encoding] = encodings_of([Region(image.mask, 0, 0)], image.mask.shape)
        value = {"size": encoding["size"], "counts": encoding["counts"].encode("ascii")}
        write_bytes(folder.place(image.name, ".pickle"), pickle.dumps(value, protocol=4))

    yield add


def recognises(path: Path) -> bool:
    """Tell a folder of run-length files by the beginning of the first."""
    if path.is_file() and path.suffix.lower() == ".json":
        return False  # any JSON file could be one; the formats that are one file go first
    first = next(iter(_files(path).values()), None)
    if first is None or first.suffix.lower() != ".json":
        return first is not None
    with first.open("rb") as file:
        beginning = file.read(_PEEKED)
    return b'"size"' in beginning and (b'"cells"' in beginning or b'"counts"' in beginning)


def _files(path: Path) -> dict[str, Path]:
    """Files by their names without suffix, of two of one name the ``.json``."""
    if path.is_file():
        return {path.stem: path} if path.suffix.lower() in _SUFFIXES else {}
    found: dict[str, Path] = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.suffix.lower() not in _SUFFIXES or hidden or file.name == RECORD_NAME or not file.is_file():
            continue
        stem = name.with_suffix("").as_posix()
        if stem not in found or file.suffix.lower() == ".json":
            found[stem] = file
    return found


# --------------------------------------------------------------------------------------------------------------- reading


def _read(file: Path, stem: str, pictures: PictureFolder) -> AnnotatedImage:
    place = Place(file)
    value = read_json(file) if file.suffix.lower() == ".json" else read_pickle(file)
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return pictures.complete(_picture(value, place))
    # The archive's pictures, to which such files belong, are PNG; where pictures are given their own name is taken.
    return pictures.complete(_nameless(value, f"{stem}.png", place), rename=True)


def _picture(value: Encoding, place: Place) -> AnnotatedImage:
    check_name(value["name"], place.at("name"))
    shape = shape_in(value.get("size"), place.at("size"))
    cells = value.get("cells")
    if not isinstance(cells, list):
        place.at("cells").refuse("a list with one object a cell", kind(cells))
    attributes = attributes_in(value.get("attributes", {}), place)
    return AnnotatedImage(value["name"], shape, _cells(cells, shape, place), attributes)


def _nameless(value: Any, name: str, place: Place) -> AnnotatedImage:
    if isinstance(value, dict) and "counts" in value:
        shape = shape_in(value.get("size"), place.at("size"))
        return AnnotatedImage.from_mask(name, _drawn(region_in(value, shape, place), shape))
    if not isinstance(value, list):
        place.refuse("a run-length encoding, a list of them, or a picture's name, size and cells", kind(value))
    if not value:
        place.refuse("run-length encodings", "an empty list, which does not tell the picture's size")
    first = value[0].get("size") if isinstance(value[0], dict) else None
    shape = shape_in(first, place.at("cell 0, size"))
    return AnnotatedImage(name, shape, _cells(value, shape, place))


def _cells(values: list[Any], shape: tuple[int, int], place: Place) -> tuple[Cell, ...]:
    return tuple(_cell(value, shape, place.at(f"cell {index}")) for index, value in enumerate(values))


def _cell(value: Any, shape: tuple[int, int], place: Place) -> Cell:
    if not isinstance(value, dict):
        place.refuse("an object with size and counts", kind(value))
    if "dot" in value:
        return cell_of((point_in(value["dot"], place.at("dot")),), {**value, "source_shape": "point"}, place)
    region = region_in(value, shape, place)
    if region is None:
        place.refuse("a cell of at least one pixel", "none")
    return cell_of(outline(region), value, place)


def _drawn(region: Region | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    if region is None:
        return np.zeros(shape, dtype=np.bool_)
    height, width = region.mask.shape
    below, beside = shape[0] - region.top - height, shape[1] - region.left - width
    return np.pad(region.mask, ((region.top, below), (region.left, beside)))


# --------------------------------------------------------------------------------------------------------------- writing


def _encodings(image: AnnotatedImage) -> Iterator[dict[str, Any]]:
    regions = [region for region in image.regions if region is not None]
    encodings = iter(encodings_of(regions, image.mask.shape))
    for cell, region, number in zip(image.cells, image.regions, noted_numbers(image), strict=True):
        if cell.is_dot:
            yield {"dot": plain(cell.rings[0][0]), **notes_of(cell, number)}
        elif region is not None:
            yield {**next(encodings), **notes_of(cell, number)}


CODEC = Codec(
    name="rle",
    find=find,
    find_foreign=find,
    writing=writing,
    recognises=recognises,
    one_file=False,
    loses=("outlines finer than a pixel",),
    published=Codec(
        name="rle",
        find=find,
        find_foreign=find,
        writing=writing_published,
        recognises=recognises,
        one_file=False,
        loses=(
            "touching and overlapping cells become one",
            "label numbers, dots, attributes, outlines finer than a pixel",
        ),
    ),
)
