"""Which picture to take of a file that holds several."""

from dataclasses import dataclass

from fncells.errors import InputError

__all__ = ["MAXIMUM", "Plane", "number_in"]

MAXIMUM = "max"


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
            number = number_in(value)
            if number is not None and number < 1:
                raise InputError(name, expected="a number from 1", found=str(value))
        if self.z is not None and number_in(self.z) is None and self.z != MAXIMUM:
            raise InputError("z", expected=f"a number from 1, or {MAXIMUM}", found=repr(self.z))
        if self.channel is not None and not self.channel.strip():
            raise InputError("channel", expected="a number from 1, or a name", found="nothing")

    def as_dict(self) -> dict[str, object]:
        """Give what was chosen, for the record of a run; empty where nothing was."""
        return {name: value for name, value in vars(self).items() if value is not None}


def number_in(value: object) -> int | None:
    """Give the number that was chosen; None where a name was, or nothing."""
    if isinstance(value, int):
        return value
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None
