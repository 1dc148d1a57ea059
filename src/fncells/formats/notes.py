"""What a cell is besides its pixels, as keys of a JSON object: for the formats that leave room for such keys."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.cells import SHAPES, AnnotatedImage, Cell
from fncells.documents import Place, kind, quoted
from fncells.formats.pictures import RESERVED, own_attributes

__all__ = [
    "FARTHEST",
    "LARGEST_SIDE",
    "MOST_PIXELS",
    "attributes_in",
    "cell_of",
    "check_name",
    "noted_numbers",
    "notes_of",
    "numbers_in",
    "plain",
    "point_in",
    "shape_in",
]

_LARGEST_NUMBER = 2**31 - 1
FARTHEST = 1e6  # px; no picture is as large, and beyond it areas stop being exact in double precision
_MOST_NUMBERS = 2**21  # a million points: more than the outline of a whole slide's tissue takes
LARGEST_SIDE, MOST_PIXELS = 10**6, 2**30  # of a picture; beyond them a number is taken for a trap


def noted_numbers(image: AnnotatedImage) -> list[int | None]:
    """Give the cells' numbers as they have to be noted: None for all where a reader would number them so by itself.

    Cells without pixels, which formats of pixels leave out, put the others' places off.
    """
    whole = all(cell.is_dot or region is not None for cell, region in zip(image.cells, image.regions, strict=True))
    by_place = whole and bool(np.array_equal(image.numbers, np.arange(1, len(image.cells) + 1)))
    return [None if by_place else int(number) for number in image.numbers]


def notes_of(cell: Cell, number: int | None) -> dict[str, Any]:
    """Give what there is to note of a cell: ``number``, ``marker``, ``score``, ``source_shape`` and ``attributes``."""
    notes: dict[str, Any] = {}
    if number is not None:
        notes["number"] = number
    if cell.marker is not None:
        notes["marker"] = cell.marker
    if cell.score is not None:
        notes["score"] = float(cell.score)
    if cell.source_shape not in ("polygon", "point"):
        notes["source_shape"] = cell.source_shape
    attributes = own_attributes(cell.attributes)
    if attributes:
        notes["attributes"] = attributes
    return notes


def cell_of(rings: tuple[NDArray[np.float64], ...], notes: Mapping[str, Any], place: Place) -> Cell:
    """Make a cell of its rings and its notes: the inverse of :func:`notes_of`.

    Raises
    ------
    InputError
        If a note is not what its key asks for.
    """
    number, marker, score = (notes.get(key) for key in ("number", "marker", "score"))
    if number is not None and not (type(number) is int and 1 <= number <= _LARGEST_NUMBER):
        place.at("number").refuse(f"a whole number from 1 to {_LARGEST_NUMBER}", kind(number))
    if marker is not None and not isinstance(marker, str):
        place.at("marker").refuse("text", kind(marker))
    if score is not None and (isinstance(score, bool) or not isinstance(score, (int, float))):
        place.at("score").refuse("a number", kind(score))
    shape, attributes = notes.get("source_shape", "polygon"), attributes_in(notes.get("attributes", {}), place)
    if not isinstance(shape, str) or shape not in SHAPES:
        place.at("source_shape").refuse(f"one of {', '.join(sorted(SHAPES))}", kind(shape))
    return Cell(rings, number, marker or None, None if score is None else float(score), attributes, shape)


def attributes_in(value: Any, place: Place, what: str = "attributes") -> Mapping[str, Any]:
    """Read attributes of a cell or a picture; nothing among them can pose as one of fncells's own notes.

    Raises
    ------
    InputError
        If they are no object, or one's name begins as fncells's own notes do.
    """
    if not isinstance(value, dict):
        place.refuse(f"{what} as an object", kind(value))
    reserved = next((key for key in value if key.startswith(RESERVED)), None)
    if reserved is not None:
        place.refuse(f"attributes whose names do not begin with {RESERVED!r}", quoted(reserved))
    return value


def numbers_in(values: Any, what: str, place: Place) -> NDArray[np.float64]:
    """Read coordinates in pixels from a list; written so that a million of them take no time.

    Raises
    ------
    InputError
        If it is no list, or one of its values is no number within any picture.
    """
    if not isinstance(values, list):
        place.refuse(f"{what} as a list of numbers", kind(values))
    if len(values) > _MOST_NUMBERS:
        place.refuse(f"at most {_MOST_NUMBERS} numbers in {what}", f"{len(values)}")
    if not _all_fit(values):
        index = next(index for index, value in enumerate(values) if not _all_fit([value]))
        place.refuse(f"numbers up to {FARTHEST:.0f} px in {what}", f"{kind(values[index])} at {index}")
    return np.array(values, dtype=np.float64)


def _all_fit(values: list[Any]) -> bool:
    if not set(map(type, values)) <= {int, float}:
        return False
    return not values or bool(min(values) >= -FARTHEST and max(values) <= FARTHEST)


def plain(numbers: NDArray[np.float64]) -> list[Any]:
    """Give numbers as lists for JSON, whole ones as whole."""
    listed: list[Any]
    if bool((numbers % 1 == 0).all()):
        listed = numbers.astype(np.int64).tolist()
    elif numbers.ndim > 1:
        listed = [plain(row) for row in numbers]
    else:
        listed = [int(number) if number.is_integer() else number for number in numbers.tolist()]
    return listed


def point_in(value: Any, place: Place) -> NDArray[np.float64]:
    """Read a point, x and y in pixels, as a ring of one.

    Raises
    ------
    InputError
        If it is not a list of two numbers within any picture.
    """
    point = numbers_in(value, "the point", place)
    if len(point) != 2:
        place.refuse("x and y of a point", f"{len(point)} numbers")
    return point[np.newaxis]


def check_name(name: str, place: Place) -> None:
    """Refuse a picture's name that names no file."""
    if not PurePosixPath(name.replace("\\", "/")).name:
        place.refuse("a picture's file name", quoted(name))


def shape_in(value: Any, place: Place) -> tuple[int, int]:
    """Read a picture's height and width, in this order, from a list of two.

    Raises
    ------
    InputError
        If they are not two whole numbers of a picture's size.
    """
    sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else ()
    if not sides or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
        place.refuse(f"height and width, whole numbers from 1 to {LARGEST_SIDE}", kind(value))
    height, width = sides
    if height * width > MOST_PIXELS:
        place.refuse(f"a picture of at most {MOST_PIXELS} pixels", f"one of {width} x {height}")
    return height, width
