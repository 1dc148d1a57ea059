"""What can go wrong, said in one line.

::

    FncellsError            everything a user can cause or mend
    ├── InputError          a file, folder or argument that cannot be used
    ├── OutputError         a folder that cannot be written: full, write-protected, gone
    └── MissingExtraError   an optional part of fncells that is not installed
"""

import errno
import sqlite3
from pathlib import Path

__all__ = ["OF_WRITING", "FncellsError", "InputError", "MissingExtraError", "OutputError", "one_line"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
OF_WRITING = _FULL | {errno.EROFS}  # what the system says of writing alone, never of reading
_BARRED = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


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
        super().__init__(one_line(text))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the parts, so that the error crosses from a worker process unharmed."""
        return (_rebuild, (self.path, self.expected, self.found, self.place, self.advice))


class OutputError(FncellsError):
    """A folder that cannot be written. It concerns the whole run, whichever input was being worked on.

    Parameters
    ----------
    folder
        Where the file was to be.
    error
        What the system, or the ledger's database, has said.
    """

    def __init__(self, folder: Path | str, error: OSError | sqlite3.Error) -> None:
        self.folder = folder
        self.error = error
        number = getattr(error, "errno", None)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds about the circumstances
        found = getattr(error, "strerror", None) or str(error) or type(error).__name__
        text = f"{folder}: expected a folder that can be written, with room, found {found}"
        if number in _FULL or code == sqlite3.SQLITE_FULL:
            text += "; make room, and the same command goes on from here"
        elif number in _BARRED or code == sqlite3.SQLITE_READONLY:
            text += "; give another folder, or make it writable, and the same command goes on from here"
        super().__init__(one_line(text))

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the parts, so that the error crosses from a worker process unharmed."""
        return (OutputError, (self.folder, self.error))


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


def one_line(text: str) -> str:
    """Flatten control characters, so that a hostile file name cannot forge a second line; cut what is absurdly long."""
    flat = "".join(character if character.isprintable() else "�" for character in text)
    return flat if len(flat) <= 1000 else f"{flat[:997]}..."
