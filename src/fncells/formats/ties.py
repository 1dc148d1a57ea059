"""Cells as tied rings: for the formats that know neither holes nor cells of several parts, and have attributes.

There, every ring is an annotation of its own, and two attributes tie the rings of a cell together: ``cell``, the cell's
number, and ``ring``, ``outer`` or ``hole``. The same pair keeps a number that would not follow from the cell's place in the
list. Annotations without this pair are cells of their own, whatever their attributes are.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell
from fncells.documents import Place
from fncells.formats.pictures import own_attributes
from fncells.outlines import ring_roles

__all__ = ["Piece", "joined_cells", "outer_parts", "pieces_of"]

_LARGEST_NUMBER = 2**31 - 1
_ROLES = ("outer", "hole")


class Piece(NamedTuple):
    """One ring of a cell, to be written as an annotation of its own.

    Parameters
    ----------
    cell
        The cell.
    ring
        The ring, shape (n, 2).
    first
        Whether it is the cell's first.
    tie
        The attributes that tie it to the cell's other rings, or keep its number; empty where neither is needed.
    """

    cell: Cell
    ring: NDArray[np.float64]
    first: bool
    tie: Mapping[str, object]


def pieces_of(image: AnnotatedImage) -> Iterator[Piece]:
    """Take a picture's cells apart, in their order: the inverse of :func:`joined_cells`."""
    # Numbers that a reader would give by place anyway need no note.
    by_place = bool(np.array_equal(image.numbers, np.arange(1, len(image.cells) + 1)))
    for cell, number in zip(image.cells, image.numbers.tolist(), strict=True):
        noted = len(cell.rings) > 1 or not (by_place or cell.number is None)
        roles = ring_roles(cell.rings) if noted else ("outer",) * len(cell.rings)
        for index, (ring, role) in enumerate(zip(cell.rings, roles, strict=True)):
            yield Piece(cell, ring, index == 0, {"cell": number, "ring": role} if noted else {})


def joined_cells(found: Iterable[tuple[Cell, Place]], *, tied: bool = True) -> tuple[Cell, ...]:
    """Put a picture's cells together, each in the place of its first ring.

    Parameters
    ----------
    found
        Annotations as they stand in the file, each with its place for refusals.
    tied
        Whether to join those that are tied; other readers of such files do not.

    Raises
    ------
    InputError
        If a point is tied to something else.
    """
    groups: dict[tuple[str, int], list[Cell]] = {}
    for index, (cell, place) in enumerate(found):
        number = _tie(cell.attributes) if tied else None
        group = groups.setdefault(("place", index) if number is None else ("cell", number), [])
        group.append(cell)
        if len(group) > 1 and any(part.is_dot for part in group):
            place.refuse(f"rings of cell {number}", "a point among them")
    return tuple(_joined(group, number if way == "cell" else None) for (way, number), group in groups.items())


def _tie(attributes: Mapping[str, object]) -> int | None:
    """Tell the number of the cell that a ring belongs to; VIA's attribute editor turns it into text."""
    number, role = attributes.get("cell"), attributes.get("ring")
    if not isinstance(role, str) or role not in _ROLES:
        return None
    if isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) <= 10:
        number = int(number)
    return number if type(number) is int and 1 <= number <= _LARGEST_NUMBER else None


def _joined(group: list[Cell], number: int | None) -> Cell:
    first = group[0]
    if number is None:
        return first
    attributes = {key: value for key, value in first.attributes.items() if key not in ("cell", "ring")}
    if len(group) == 1:
        return replace(first, number=number, attributes=attributes)
    rings = tuple(ring for part in group for ring in part.rings)
    # Notes on how the first ring stood in the file do not hold for the cell.
    return replace(first, rings=rings, number=number, attributes=own_attributes(attributes), source_shape="polygon")


def outer_parts(image: AnnotatedImage) -> AnnotatedImage:
    """Give every part of every cell as a cell of its own, holes filled: all that the published archive's files can say.

    Dots stay; cells without pixels in the picture do not.
    """
    cells: list[Cell] = []
    for cell, region in zip(image.cells, image.regions, strict=True):
        if cell.is_dot:
            cells.append(replace(cell, number=None))
        elif region is not None:
            roles = ring_roles(cell.rings)
            outer = (ring for ring, role in zip(cell.rings, roles, strict=True) if role == "outer")
            cells.extend(replace(cell, rings=(ring,), number=None) for ring in outer)
    return replace(image, cells=tuple(cells))
