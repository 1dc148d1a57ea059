"""What a choice of plane takes of a file, and how it is told."""

from collections.abc import Mapping, Sequence

from fncells.images.picture import DamagedError
from fncells.plane import MAXIMUM, Plane, number_in

__all__ = ["AXES", "said_of", "taken_of"]

# Axis letters, as OME and tifffile write them, and what they are called.
AXES = {"C": ("channel", "channels"), "Z": ("z plane", "z planes"), "T": ("time point", "time points")}
_FIELDS = {"C": "channel", "Z": "z", "T": "time"}


def taken_of(plane: Plane, sizes: Mapping[str, int], names: Sequence[str] = ()) -> dict[str, int | slice]:
    """Give the index to take along each axis; a slice along z where its maximum is wanted.

    Parameters
    ----------
    plane
        What was chosen.
    sizes
        Length by axis letter, of the axes beside height and width. What `plane` chooses and is not among them has length 1.
    names
        Names of the channels.

    Raises
    ------
    DamagedError
        If there is no such channel, z plane, time point or page.
    """
    taken: dict[str, int | slice] = {}
    for axis, field in _FIELDS.items():
        size, wanted = sizes.get(axis, 1), getattr(plane, field)
        if axis == "Z" and wanted == MAXIMUM:
            taken[axis] = slice(0, size)
        else:
            taken[axis] = _index(AXES[axis], wanted, size, names if axis == "C" else ())
    others = [axis for axis in sizes if axis not in _FIELDS]
    number = 1
    for axis in others:
        number *= sizes[axis]
    index = _index(("picture", "pictures"), plane.page, number, ())
    for axis in reversed(others):
        index, taken[axis] = divmod(index, sizes[axis])
    return {axis: index for axis, index in taken.items() if axis in sizes}


def _index(called: tuple[str, str], wanted: object, size: int, names: Sequence[str]) -> int:
    named = [name.strip().lower() for name in names]
    if wanted is None:
        return 0
    if isinstance(wanted, str) and wanted.strip().lower() in named:
        return named.index(wanted.strip().lower())
    number = number_in(wanted)
    if number is None or number > size:
        has = f"{size} {called[size > 1]}" + (f" ({', '.join(names)})" if names else "")
        message = f"a file of {has}, and no {called[0]} {wanted}"
        raise DamagedError(message)
    return number - 1


def said_of(taken: Mapping[str, int | slice], sizes: Mapping[str, int], names: Sequence[str] = ()) -> list[str]:
    """Say what a file holds and what was taken of it; nothing where it holds one picture."""
    several = {axis: size for axis, size in sizes.items() if size > 1}
    if not several:
        return []
    named = [axis for axis in several if axis in AXES]
    pages = 1
    for axis in several.keys() - set(named):
        pages *= several[axis]
    held, taking = [], []
    for axis in named:
        listed = f" ({', '.join(names)})" if axis == "C" and len(names) == several[axis] else ""
        held.append(f"{several[axis]} {AXES[axis][1]}{listed}")
        index = taken[axis]
        taking.append(f"{AXES[axis][0]} {index + 1}" if isinstance(index, int) else "the brightest over all z planes")
    if pages > 1:
        number = 0
        for axis in several:
            if axis not in AXES:
                index = taken[axis]
                number = number * several[axis] + (index if isinstance(index, int) else 0)
        held.append(f"{pages} pictures")
        taking.append("the first" if number == 0 else f"number {number + 1}")
    first = len(taking) > 1 and all(taken[axis] == 0 for axis in several)
    return [f"the file holds {', '.join(held)}; {'the first of each' if first else ', '.join(taking)} was taken"]
