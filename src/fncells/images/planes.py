"""Which picture to take of a file that holds several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fncells.errors import InputError
from fncells.images.picture import DamagedError

__all__ = ["AXES", "MAXIMUM", "Plane", "said_of", "taken_of"]

MAXIMUM = "max"
# Axis letters, as OME and tifffile write them, and what they are called.
AXES = {"C": ("channel", "channels"), "Z": ("z plane", "z planes"), "T": ("time point", "time points")}
_FIELDS = {"C": "channel", "Z": "z", "T": "time"}


@dataclass(frozen=True)
class Plane:
    """Which picture to take of a file that holds several; the first where nothing is said.

    Parameters
    ----------
    channel
        Number of the channel, from 1, or its name as the microscope wrote it (DAPI).
    z
        Number of the z plane, from 1, or max for the brightest value of each pixel over all of them.
    time
        Number of the time point, from 1.
    scene
        Number of the scene (position, series), from 1.
    page
        Number of the picture, from 1, in a TIFF of several pages that does not say what they are.

    Raises
    ------
    InputError
        If a number is below 1, or z is neither a number nor max.
    """

    channel: str | None = None
    z: str | None = None
    time: int | None = None
    scene: int | None = None
    page: int | None = None

    def __post_init__(self) -> None:
        for name in ("channel", "z", "time", "scene", "page"):
            value = getattr(self, name)
            number = _number(value)
            if number is not None and number < 1:
                raise InputError(name, expected="a number from 1", found=str(value))
        if self.z is not None and _number(self.z) is None and self.z != MAXIMUM:
            raise InputError("z", expected=f"a number from 1, or {MAXIMUM}", found=repr(self.z))
        if self.channel is not None and not self.channel.strip():
            raise InputError("channel", expected="a number from 1, or a name", found="nothing")

    def as_dict(self) -> dict[str, object]:
        """Give what was chosen, for the record of a run; empty where nothing was."""
        return {name: value for name, value in vars(self).items() if value is not None}


def _number(value: object) -> int | None:
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None


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
    number = _number(wanted)
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
