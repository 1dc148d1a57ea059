"""Zip archives from anywhere, unpacked to files: nothing outside the folder, no links, and not more than there can be."""

import hashlib
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fncells.documents.place import Place, quoted
from fncells.documents.zips import GuardedFile

__all__ = ["unpack"]

_MOST_MEMBERS = 2**18
_MOST_IN_ALL = 2**40  # bytes, unpacked
# Pictures hardly shrink and texts shrink to a tenth, so that an archive as a whole is far below this.
_HIGHEST_RATIO, _ANY_RATIO_BELOW = 100, 2**28
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LONGEST_NAME = 255  # bytes of one part of a path
_CHUNK = 2**20
_LITTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})


def unpack(path: Path, folder: Path) -> dict[str, str]:
    """Unpack a zip archive into a new folder.

    All members are looked at before the first is unpacked. What file managers leave in archives (``__MACOSX``, ``.DS_Store``)
    is passed over. The folder may be left half filled where unpacking fails: unpack beside the place that is meant, and move.

    Parameters
    ----------
    path
        The archive.
    folder
        The folder to make; it must not exist.

    Returns
    -------
    dict
        SHA-256 of every file by its path below the folder, with forward slashes, in the archive's order.

    Raises
    ------
    InputError
        If the file is no whole zip archive; if a member leads out of the folder, is a link or no plain file, is encrypted or
        packed in another way than zip archives usually are, is damaged, or is there twice; or if all together would unpack to
        more than a hundred times the archive's size, or than there is room for.
    """
    place = Place(path)
    if not path.is_file():
        place.refuse("a zip archive", "a folder" if path.is_dir() else "nothing of that name")
    folder.mkdir(parents=True)
    with GuardedFile(path.open("rb", buffering=0)) as file, _opened(file, place) as archive:
        members = _checked(archive, place, path.stat().st_size, shutil.disk_usage(folder).free)
        return {name: _unpack_member(archive, member, folder / name, place) for name, member in members.items()}


def _opened(file: GuardedFile, place: Place) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except Exception as error:  # damaged directories raise nearly everything
        place.refuse("a whole zip archive", f"one that cannot be opened ({str(error)[:100]})")


def _checked(archive: zipfile.ZipFile, place: Place, packed: int, room: int) -> dict[str, zipfile.ZipInfo]:
    """Give the files of an archive by their safe names, after all have been found to be what may be unpacked."""
    entries = archive.infolist()
    if len(entries) > _MOST_MEMBERS:
        place.refuse(f"at most {_MOST_MEMBERS} members", str(len(entries)))
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        here = place.at(f"member {quoted(entry.filename)}")
        name = _safe_name(entry, here)
        if entry.is_dir() or _LITTER.intersection(PurePosixPath(name).parts):
            continue
        if name in members:
            here.refuse("each member once", "another of that name")
        members[name] = entry
    total = sum(entry.file_size for entry in members.values())
    most = min(_MOST_IN_ALL, max(_ANY_RATIO_BELOW, _HIGHEST_RATIO * packed))
    if total > most:
        place.refuse(f"members that unpack to at most {most >> 20} MiB", f"{total >> 20} MiB out of {packed >> 10} KiB")
    if total > room:
        place.refuse(
            f"{total >> 20} MiB of room to unpack it", f"{room >> 20} MiB", "make room, or choose another folder"
        )
    return members


def _safe_name(entry: zipfile.ZipInfo, place: Place) -> str:
    name = entry.filename.replace("\\", "/")
    path = PurePosixPath(name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    expected = "a file or folder within the archive's own"
    if path.is_absolute() or re.match(r"[A-Za-z]:", name):
        place.refuse(expected, "an absolute path")
    if ".." in path.parts:
        place.refuse(expected, "a path that leads upward")
    if not path.parts or not name.isprintable():
        place.refuse(expected, "a name that cannot be")
    if any(len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for part in path.parts):
        place.refuse(expected, "a name too long for a file")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        place.refuse(expected, "a link" if kind == stat.S_IFLNK else "a device")
    if entry.flag_bits & 1:
        place.refuse("a member that can be read", "an encrypted one")
    if entry.compress_type not in _METHODS:
        place.refuse("a member that is stored or deflated", f"one packed by method {entry.compress_type}")
    return path.as_posix()


def _unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, place: Place) -> str:
    """Write one member and give its SHA-256; never over another, also where a file system holds two names for one."""
    digest, written = hashlib.sha256(), 0
    here = place.at(f"member {quoted(member.filename)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except (FileExistsError, NotADirectoryError):
        here.refuse("a file beside the others", "one in the place of another")
    with file:
        for chunk in _chunks(archive, member, here):
            digest.update(chunk)
            written += file.write(chunk)
    if written != member.file_size:
        here.refuse(f"{member.file_size} bytes, as the archive says", f"{written}")
    return digest.hexdigest()


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: Place) -> Iterator[bytes]:
    try:
        stream = archive.open(member)
    except Exception as error:
        place.refuse("a whole member", f"one that cannot be unpacked ({str(error)[:100]})")
    with stream:
        while True:
            try:
                chunk = stream.read(_CHUNK)
            except Exception as error:
                place.refuse("a whole member", f"one that cannot be unpacked ({str(error)[:100]})")
            if not chunk:
                return
            yield chunk
