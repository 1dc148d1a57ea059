"""Where in a document something stands, and one line that says what is wrong with it there."""

from pathlib import Path
from typing import NamedTuple, NoReturn

from fncells.errors import InputError

__all__ = ["Place", "kind", "quoted", "read_text"]


class Place(NamedTuple):
    """Where in a file something stands, to be named in a refusal.

    Parameters
    ----------
    path
        The file; None while it is being made.
    text
        The place in it; empty for the file as a whole.
    """

    path: Path | None
    text: str = ""

    def at(self, text: str) -> "Place":
        """Give a place inside this one."""
        return Place(self.path, f"{self.text}, {text}" if self.text else text)

    def refuse(self, expected: str, found: str, advice: str | None = None) -> NoReturn:
        """Raise the InputError that names this place."""
        raise InputError(self.path, expected=expected, found=found, place=self.text or None, advice=advice)


def kind(value: object) -> str:
    """Say in a few words what a JSON value is."""
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"the number {value!r}"[:60]
    return names.get(type(value), "nothing")


def quoted(text: str) -> str:
    """Quote a text from a file for a refusal, cut where it would hide the rest."""
    return repr(text if len(text) <= 100 else f"{text[:99]}…")


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte-order mark.

    Raises
    ------
    InputError
        If there is no such file, it is empty, or it is no UTF-8 text.
    """
    place = Place(path)
    if not path.is_file():
        place.refuse("a file", "a folder" if path.is_dir() else "nothing of that name")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, expected="UTF-8 text", found=f"other bytes at byte {error.start}") from None
    if not text.strip():
        place.refuse("annotations", "an empty file")
    return text
