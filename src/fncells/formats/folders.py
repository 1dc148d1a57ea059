"""Folders with one file a picture: which file is whose, and no file outside the folder."""

import re
from pathlib import Path, PurePosixPath

from fncells.documents import quoted
from fncells.errors import InputError

__all__ = ["OutputFolder"]

_LONGEST_NAME = 223  # bytes of one part of a path: the 255 of common file systems, less what a temporary name adds


class OutputFolder:
    """Gives each picture's file its place in an output folder.

    File names inside annotation files come from anywhere; here, the only place where they become paths, those that lead
    out of the folder are refused.

    Parameters
    ----------
    folder
        The folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: dict[str, str] = {}
        if folder.exists() and not folder.is_dir():
            raise InputError(folder, expected="a folder, or nothing yet", found="a file")

    def place(self, name: str, suffix: str) -> Path:
        """Give the file that stands for a picture.

        Parameters
        ----------
        name
            The picture's name; its sub-folders are kept, its suffix is replaced.
        suffix
            The suffix of the file, with its dot.

        Raises
        ------
        InputError
            If the name is empty, absolute, leads out of the folder or cannot be a file name, or if an earlier picture
            has the same name but for the suffix.
        """
        fault = _fault(name, suffix)
        if fault:
            raise InputError(
                None,
                expected="a picture's file name within the output folder",
                found=fault,
                place=f"picture {quoted(name)}",
                advice="correct the name in the annotations",
            )
        stem = str(PurePosixPath(name.replace("\\", "/")).with_suffix(""))
        if stem in self._taken:
            raise InputError(
                None,
                expected="one picture of each name, as files are named without the suffix",
                found=f"{quoted(self._taken[stem])} and {quoted(name)}",
                advice="rename one of the two",
            )
        self._taken[stem] = name
        return self.folder / f"{stem}{suffix}"


def _fault(name: str, suffix: str) -> str | None:
    """Say what forbids a name. Backslashes part folders on Windows, so they count as such everywhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.name:
        return "an empty name"
    if not name.isprintable():
        return "a name with control characters"
    if path.is_absolute() or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if "://" in name:
        return "an address"
    if ".." in path.parts:
        return "a path that leads upward"
    if any(len(f"{part}{suffix}".encode()) > _LONGEST_NAME for part in path.parts) or len(name) > 4 * _LONGEST_NAME:
        return "a name too long for a file"
    return None
