"""Zip archives from anywhere, read in memory: nothing is unpacked to a file, and not more than fits."""

import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fncells.documents.place import Place, quoted

__all__ = ["GuardedFile", "Zip", "open_zip"]

_MOST_MEMBERS = 2**18
_LARGEST_DIRECTORY = 2**24  # bytes
_LARGEST_MEMBER, _LARGEST_IN_ALL = 2**24, 2**28  # bytes, unpacked
_HIGHEST_RATIO, _ANY_RATIO_BELOW = 200, 2**20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Zip:
    """An open archive.

    Parameters
    ----------
    archive
        The archive.
    place
        Its file, for refusals.

    Attributes
    ----------
    comment
        The archive's comment.
    names
        Names of its members, without folders, in its order. They are texts like others, and no paths to write to.
    """

    def __init__(self, archive: zipfile.ZipFile, place: Place) -> None:
        self._archive, self._place = archive, place
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            if member.filename in self._members:
                place.refuse("each member once", f"{quoted(member.filename)} twice")
            self._members[member.filename] = member
        self.comment = archive.comment
        self.names = [name for name in self._members if not name.endswith("/")]

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Unpack members, one at a time, after all of them have been found to be of a size that can be.

        Raises
        ------
        InputError
            If a member is encrypted, packed in another way than zip archives usually are, damaged, or unpacks to too much.
        """
        chosen = [self._members[name] for name in names]
        for member in chosen:
            self._check(member)
        total = sum(member.file_size for member in chosen)
        if total > _LARGEST_IN_ALL:
            self._place.refuse(f"members that unpack to at most {_LARGEST_IN_ALL >> 20} MiB", f"{total >> 20} MiB")
        for member in chosen:
            yield member.filename, self._unpacked(member)

    def _check(self, member: zipfile.ZipInfo) -> None:
        place, size = self._place.at(f"member {quoted(member.filename)}"), member.file_size
        if member.flag_bits & 1:
            place.refuse("a member that can be read", "an encrypted one")
        if member.compress_type not in _METHODS:
            place.refuse("a member that is stored or deflated", f"one packed by method {member.compress_type}")
        if size > _LARGEST_MEMBER:
            place.refuse(f"a member that unpacks to at most {_LARGEST_MEMBER >> 20} MiB", f"{size >> 20} MiB")
        if size > max(_ANY_RATIO_BELOW, _HIGHEST_RATIO * member.compress_size):
            expected = f"a member that unpacks to at most {_HIGHEST_RATIO} times its size"
            place.refuse(expected, f"{size} bytes out of {member.compress_size}")

    def _unpacked(self, member: zipfile.ZipInfo) -> bytes:
        try:
            with self._archive.open(member) as stream:
                # As many bytes as it says it has, so that one that says too little cannot unpack to more.
                return stream.read(max(member.file_size, 1))
        except Exception as error:
            place = self._place.at(f"member {quoted(member.filename)}")
            place.refuse("a whole member", f"one that cannot be unpacked ({str(error)[:100]})")


class GuardedFile(io.BufferedReader):
    """A file of which nothing larger than an archive's directory may be is read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as usual."""
        if size is None or size < 0:
            here = self.tell()
            size = self.seek(0, io.SEEK_END) - here
            self.seek(here)
        if size > _LARGEST_DIRECTORY:
            raise zipfile.BadZipFile("a directory of members too large to be one")
        return super().read(size)


@contextmanager
def open_zip(path: Path) -> Iterator[Zip]:
    """Open a zip archive.

    Raises
    ------
    InputError
        If the file is no whole zip archive, holds two members of one name, or more than 262,144.
    """
    place = Place(path)
    if not path.is_file():
        place.refuse("a file", "a folder" if path.is_dir() else "nothing of that name")
    with GuardedFile(io.FileIO(path)) as file:
        archive = _opened(file, place)
        with archive:
            if len(archive.infolist()) > _MOST_MEMBERS:
                place.refuse(f"at most {_MOST_MEMBERS} members", f"{len(archive.infolist())}")
            yield Zip(archive, place)


def _opened(file: Any, place: Place) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except Exception as error:
        place.refuse("a whole zip archive", f"one that cannot be opened ({str(error)[:100]})")
