"""What can go wrong, said in one line.

::

    FncellsError            everything a user can cause or mend
    ├── InputError          a file, folder or argument that cannot be used
    └── MissingExtraError   an optional part of fncells that is not installed
"""

from pathlib import Path

__all__ = ["FncellsError", "InputError", "MissingExtraError"]


class FncellsError(Exception):
    """Base of all errors that fncells raises on purpose; its text is one line for the user."""


class InputError(FncellsError):
    """A file, folder or argument that cannot be used.

    Parameters
    ----------
    path
        The file or folder at fault, or the name of the argument; None where there is neither.
    expected, found
        What should have been there, and what was.
    place
        Where in the file: a line, a key, a picture, a region.
    advice
        What the user can do about it.
    """

    def __init__(
        self,
        path: Path | str | None,
        *,
        expected: str,
        found: str,
        place: str | None = None,
        advice: str | None = None,
    ) -> None:
        self.path = path
        self.place = place
        self.expected = expected
        self.found = found
        self.advice = advice
        where = ", ".join(str(part) for part in (path, place) if part is not None)
        text = f"{where}: " if where else ""
        text += f"expected {expected}, found {found}"
        if advice:
            text += f"; {advice}"
        super().__init__(_one_line(text))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the parts, so that the error crosses from a worker process unharmed."""
        return (_rebuild, (self.path, self.expected, self.found, self.place, self.advice))


class MissingExtraError(FncellsError):
    """An optional part of fncells is needed and not installed.

    Parameters
    ----------
    extra
        Name of the extra in the package's metadata.
    purpose
        What it was needed for.
    """

    def __init__(self, extra: str, purpose: str) -> None:
        self.extra = extra
        self.purpose = purpose
        super().__init__(
            f'{purpose} needs an optional part of fncells; install it with: pip install "fncells[{extra}]"'
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the parts, so that the error crosses from a worker process unharmed."""
        return (MissingExtraError, (self.extra, self.purpose))


def _rebuild(path: Path | str | None, expected: str, found: str, place: str | None, advice: str | None) -> InputError:
    return InputError(path, expected=expected, found=found, place=place, advice=advice)


def _one_line(text: str) -> str:
    """Flatten control characters, so that a hostile file name cannot forge a second line; cut what is absurdly long."""
    flat = "".join(character if character.isprintable() else "�" for character in text)
    return flat if len(flat) <= 1000 else f"{flat[:997]}..."
