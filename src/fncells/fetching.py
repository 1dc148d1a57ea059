"""The published archive, or one that `fncells pack` made, brought to this machine.

Downloads go on after a break, are held against their checksums where those are known (else these are recorded), and are
unpacked beside the place that they are meant for; nothing is there half. What has been fetched is listed in two files that
anyone can read: ``fncells-run.json`` (the files and their checksums) and ``checksums.sha256`` (everything unpacked from them).
"""

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from fncells import files
from fncells.documents.unpacking import unpack
from fncells.downloads import UnreachableError, download, small_text
from fncells.errors import FncellsError, InputError, OutputError

__all__ = ["PUBLISHED_ADDRESS", "FetchSummary", "Fetched", "fetch", "read_checksums"]

PUBLISHED_ADDRESS = "https://amsacta.unibo.it/id/eprint/7347/"
"""Where the published collections lie (doi 10.6092/unibo/amsacta/7347)."""

_COLLECTIONS = ("green", "red", "yellow")
_OTHER_ZIPS = {"raw": "raw_data.zip", "annotations": "annotations.zip", "statistics": "data_stats.zip"}
# Not croissant.json, which describes the zips and not what they are unpacked to.
_COMPANIONS = ("metadata_v2.xlsx", "metadata_v2.csv", "datasheet.md", "README.md")


class _Listed(NamedTuple):
    """A file that a source offers.

    Parameters
    ----------
    place
        Its address below the source's; None is looked up on the source's page.
    sha256
        None where it is not known.
    """

    place: str | None
    sha256: str | None


# Checksums as others have recorded them; none is known of the other files, nor are the addresses of some.
_PUBLISHED: Mapping[str, _Listed] = {
    "green.zip": _Listed("28/green.zip", "7760c3c55d236c17f2225a0a63e8e61a86c93d0645c7188bbe9652f22f520517"),
    "yellow.zip": _Listed("27/yellow.zip", "08048f5c71d4afa726cc54fd887a06cc6894aff62f6704ff5a8c15aa2f9946ca"),
    "red.zip": _Listed("29/red.zip", "0a9a2ac9dbdd7222cadf44a7846f61f9d0adb08cf09b801efb917a76e8704533"),
    "raw_data.zip": _Listed(None, None),
    "annotations.zip": _Listed(None, None),
    "data_stats.zip": _Listed(None, None),
    "metadata_v2.xlsx": _Listed(None, None),
    "datasheet.md": _Listed("19/datasheet.md", None),
    "README.md": _Listed("31/README.md", None),
}

_OWN_NAMES = frozenset({files.RECORD_NAME, files.CHECKSUMS_NAME, *_COMPANIONS})
_WORKSHOP = ".fncells-downloads"  # hidden, so that nobody takes what lies in it for pictures
_LICENCE = re.compile(r"\bCC[ -](BY(?:-[A-Z]{2})*)[ -](\d\.\d)\b")


@dataclass(frozen=True)
class Fetched:
    """What became of one file.

    Attributes
    ----------
    file
        Its name at the source.
    status
        ``fetched`` now, ``present`` from an earlier run, or ``failed``.
    sha256
        Checksum; None where it failed.
    checksum
        Whether that was ``known`` beforehand, or is ``recorded`` now for the first time.
    place
        The file or folder that it is now, below the target folder.
    reason
        Why it failed.
    """

    file: str
    status: Literal["fetched", "present", "failed"]
    sha256: str | None = None
    checksum: Literal["known", "recorded"] | None = None
    place: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class FetchSummary:
    """What a run did.

    Attributes
    ----------
    to
        The target folder.
    fetched
        One entry a file.
    licences
        What the fetched texts say about the licence, by file.
    """

    to: Path
    fetched: tuple[Fetched, ...]
    licences: Mapping[str, tuple[str, ...]]

    @property
    def failures(self) -> dict[str, str]:
        """Reason of each file that failed, by its name."""
        return {one.file: one.reason for one in self.fetched if one.status == "failed"}

    def as_dict(self) -> dict[str, object]:
        """Give the summary as values that JSON holds."""
        return {
            "to": self.to.as_posix(),
            "files": [asdict(one) for one in self.fetched],
            "licences": {name: list(found) for name, found in self.licences.items()},
        }


def fetch(what: Sequence[str], to: Path, source: str | None = None) -> FetchSummary:
    """Bring collections and what belongs to them into a folder that :meth:`fncells.archive.Archive.open` opens.

    Only what is not there yet is fetched. A file that fails does not stop the others, unless the source cannot be reached.

    Parameters
    ----------
    what
        Collections, and ``raw``, ``annotations`` or ``statistics``; none takes all collections. The index, the data sheet and
        the other small files come along.
    to
        The target folder.
    source
        Folder, or its address (http, https or file), with what :func:`fncells.packing.pack` makes; None is the published
        archive.

    Returns
    -------
    FetchSummary

    Raises
    ------
    InputError
        If the source cannot be reached or does not offer what is asked for, or the target is no folder.
    """
    if to.exists() and not to.is_dir():
        raise InputError(to, expected="a folder, or nothing yet", found="a file")
    offered = _Source.published() if source is None else _Source.of(source)
    wanted = _wanted(what, offered)
    with _alone(to):
        fetched = _fetch_all(wanted, offered, _Target(to, offered.name))
    said = {one.file: _licences(to / one.file) for one in fetched if one.place == one.file}
    return FetchSummary(to, tuple(fetched), {name: found for name, found in said.items() if found})


def _wanted(what: Sequence[str], offered: "_Source") -> list[str]:
    zips = [name for name in offered.files if name.endswith(".zip") and name not in _OTHER_ZIPS.values()]
    if offered.is_published:
        zips = [f"{collection}.zip" for collection in _COLLECTIONS]
    names = [_OTHER_ZIPS.get(word, f"{word}.zip") for word in what] or sorted(zips)
    for word, name in zip(what, names, strict=False):
        if name not in offered.files:
            others = [word for word, zip_name in _OTHER_ZIPS.items() if zip_name in offered.files]
            known = [*sorted(PurePosixPath(one).stem for one in zips), *others]
            raise InputError(offered.name, expected=f"something out of {', '.join(known)}", found=repr(word))
    # The small files first: the index and the data sheet are of use while the rest is on its way.
    return [*(name for name in _COMPANIONS if name in offered.files), *dict.fromkeys(names)]


def _fetch_all(wanted: Sequence[str], offered: "_Source", target: "_Target") -> list[Fetched]:
    fetched: list[Fetched] = []
    unreachable = None
    for name in wanted:
        if unreachable is not None and not target.holds(name, offered.files[name].sha256):
            fetched.append(Fetched(name, "failed", reason=f"not tried: {unreachable}"))
            continue
        try:
            fetched.append(_fetch_one(name, offered, target))
        except UnreachableError as error:
            if not any(one.status != "failed" for one in fetched):
                raise
            unreachable = error
            fetched.append(Fetched(name, "failed", reason=str(error)))
        except FncellsError as error:
            fetched.append(Fetched(name, "failed", reason=str(error)))
    return fetched


def _fetch_one(name: str, offered: "_Source", target: "_Target") -> Fetched:
    known = offered.files[name].sha256
    checksum: Literal["known", "recorded"] = "known" if known else "recorded"
    if target.holds(name, known):
        return Fetched(name, "present", target.recorded[name], checksum, target.places[name])
    target.check_room_for(name)
    downloaded = download(offered.address_of(name), name, target.workshop, known or target.recorded.get(name))
    sha256 = files.sha256(downloaded)
    try:
        place = (
            target.take_zip(name, downloaded, sha256)
            if name.endswith(".zip")
            else target.take(name, downloaded, sha256)
        )
    except InputError:
        downloaded.unlink(missing_ok=True)  # it will not unpack another time either
        raise
    except OSError as error:
        raise OutputError(target.folder, error) from error
    return Fetched(name, "fetched", sha256, checksum, place)


# What is there already


class _Target:
    """The folder that files are fetched to, and what is known to be in it.

    Parameters
    ----------
    folder
        The folder; it exists.
    source
        What the files come from, for the record.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self._source = folder, source
        self.workshop = folder / _WORKSHOP
        record = files.read_record(folder) or {}
        settings = record.get("settings")
        known = settings if record.get("command") == "fetch" and isinstance(settings, dict) else {}
        inputs = record.get("inputs")
        self.places: dict[str, str] = dict(known.get("places", {})) if isinstance(known.get("places"), dict) else {}
        self.recorded: dict[str, str] = dict(inputs) if self.places and isinstance(inputs, dict) else {}
        self._listed = read_checksums(folder / files.CHECKSUMS_NAME) if self.places else {}
        for path in self.workshop.glob("unpacked-*"):
            shutil.rmtree(path)

    def holds(self, name: str, sha256: str | None) -> bool:
        """Whether a file has been fetched, in that version, and all of it is still there."""
        place = self.places.get(name)
        if place is None or sha256 not in (None, self.recorded.get(name)):
            return False
        listed = self._files_of(place)
        return bool(listed) and all((self.folder / one).is_file() for one in listed)

    def check_room_for(self, name: str) -> None:
        """Refuse to put a file where something lies that was not fetched, or was changed since."""
        if not name.endswith(".zip"):
            self._check_untouched(name)

    def take(self, name: str, downloaded: Path, sha256: str) -> str:
        """Put a downloaded file into its place."""
        self._note(name, name, sha256, {name: sha256})
        downloaded.replace(self.folder / name)
        return name

    def take_zip(self, name: str, downloaded: Path, sha256: str) -> str:
        """Unpack a downloaded archive and put its folder into its place."""
        unpacked = self.workshop / f"unpacked-{name}"
        try:
            found = unpack(downloaded, unpacked)
            tops = {PurePosixPath(one).parts[0] for one in found}
            single = len(tops) == 1 and (unpacked / min(tops)).is_dir()
            place = min(tops) if single else PurePosixPath(name).stem
            if not found or place.startswith(".") or place in _OWN_NAMES:
                told = place if found else "no file"
                raise InputError(downloaded, expected="an archive with a folder of files", found=told)
            self._check_untouched(place, name)
            if hasattr(os, "sync"):
                os.sync()  # a power cut must not leave empty files behind finished names
            listed = {one if single else f"{place}/{one}": digest for one, digest in found.items()}
            self._note(name, place, sha256, listed)
            self._swap(unpacked / place if single else unpacked, self.folder / place)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        downloaded.unlink()
        return place

    def _swap(self, new: Path, place: Path) -> None:
        old = self.workshop / f"unpacked-old-{place.name}"
        if place.exists():
            place.replace(old)
        new.replace(place)
        shutil.rmtree(old, ignore_errors=True)

    def _files_of(self, place: str) -> dict[str, str]:
        return {one: digest for one, digest in self._listed.items() if one == place or one.startswith(f"{place}/")}

    def _check_untouched(self, place: str, name: str | None = None) -> None:
        """Refuse where what lies in a place is not what was fetched to it."""
        there = self.folder / place
        if not there.exists():
            return
        advice = "put it aside, or fetch into another folder"
        if self.places.get(name or place) != place:
            raise InputError(
                there, expected="nothing of that name yet", found="one that was not fetched", advice=advice
            )
        listed = self._files_of(place)
        present = [there] if there.is_file() else [path for path in there.rglob("*") if path.is_file()]
        for path in sorted(present):
            if listed.get(path.relative_to(self.folder).as_posix()) != files.sha256(path):
                raise InputError(
                    path, expected="what was fetched", found="a file that was changed since", advice=advice
                )

    def _note(self, name: str, place: str, sha256: str, listed: Mapping[str, str]) -> None:
        """Record a file before it is in its place: what is recorded and not there is fetched again, and nothing is orphaned."""
        for one in self._files_of(place):
            del self._listed[one]
        self._listed |= listed
        self.places[name], self.recorded[name] = place, sha256
        settings = {"source": self._source, "places": dict(sorted(self.places.items()))}
        files.write_record(self.folder, "fetch", settings, self.recorded)
        self._listed[files.RECORD_NAME] = files.sha256(self.folder / files.RECORD_NAME)
        lines = "".join(f"{digest}  {one}\n" for one, digest in sorted(self._listed.items()))
        files.write_text(self.folder / files.CHECKSUMS_NAME, lines)


def read_checksums(path: Path) -> dict[str, str]:
    """Read what ``sha256sum`` writes.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        SHA-256 by file name, below the file's folder; empty where there is no such file.

    Raises
    ------
    InputError
        If a line is something else.
    """
    if not path.is_file():
        return {}
    try:
        return _parsed_checksums(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise InputError(path, expected="checksums and names, a line each", found="no text") from None


def _parsed_checksums(text: str, path: str) -> dict[str, str]:
    listed = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        name = PurePosixPath(match[2]) if match else None
        if match is None or name is None or name.is_absolute() or ".." in name.parts:
            expected = "a SHA-256, two spaces and a relative file name, as sha256sum writes them"
            raise InputError(path, place=f"line {number}", expected=expected, found=repr(line[:100]))
        listed[match[2]] = match[1].lower()
    return listed


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one run work in a folder at a time; a killed one lets go."""
    workshop, made = folder / _WORKSHOP, not folder.exists()
    workshop.mkdir(parents=True, exist_ok=True)
    lock = workshop / "lock.sqlite"
    database = sqlite3.connect(lock, timeout=0, isolation_level=None)
    try:
        try:
            database.execute("BEGIN EXCLUSIVE")
            mine = lock.exists()  # and not what a run that just ended has left
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise InputError(folder, expected="a folder to fetch into", found=str(error)) from error
            mine = False
        if not mine:
            raise InputError(folder, expected="a folder to fetch into", found="another `fncells fetch` at work in it")
        try:
            files.remove_leftovers(folder)
            yield
        finally:
            parts = [path for path in workshop.iterdir() if not path.name.startswith(lock.name)]
            if not parts:  # those of downloads stay for the next run
                shutil.rmtree(workshop, ignore_errors=True)
                if made and not any(folder.iterdir()):
                    folder.rmdir()
    finally:
        database.close()


def _licences(path: Path) -> tuple[str, ...]:
    if path.suffix != ".md" or not path.is_file():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    return tuple(sorted({f"CC {kind} {version}" for kind, version in _LICENCE.findall(text)}))


# Where files come from


@dataclass(frozen=True)
class _Source:
    """Where files come from: an address that ends with a slash, and the files that it offers."""

    name: str
    address: str
    files: Mapping[str, _Listed]
    is_published: bool = False

    @classmethod
    def published(cls) -> "_Source":
        return cls(PUBLISHED_ADDRESS, PUBLISHED_ADDRESS, _PUBLISHED, is_published=True)

    @classmethod
    def of(cls, source: str) -> "_Source":
        """Read the list of a packed archive."""
        if urlsplit(source).scheme in ("http", "https", "file"):
            name, address = source, source if source.endswith("/") else f"{source}/"
        else:  # what is recorded tells nothing of this machine
            name, address = Path(source).resolve().name, f"{Path(source).resolve().as_uri()}/"
        place = f"{address}{files.CHECKSUMS_NAME}"
        try:
            text = small_text(place)
        except UnreachableError:
            raise
        except InputError as error:
            expected = f"what `fncells pack` made, with {files.CHECKSUMS_NAME} in it"
            raise InputError(source, expected=expected, found=f"none there ({error.found})") from error
        listed = {}
        for one, digest in _parsed_checksums(text, place).items():
            if "/" not in one and "\\" not in one and one.isprintable() and not one.startswith("."):
                listed[one] = _Listed(quote(one), digest)
        return cls(name, address, listed)

    def address_of(self, file: str) -> str:
        """Give a file's address; one that is not known is looked for among the links of the source's page."""
        place = self.files[file].place
        if place is not None:
            return urljoin(self.address, place)
        links = _Links(self.address)
        links.feed(small_text(self.address))
        found = next((link for link in links.found if unquote(urlsplit(link).path).rsplit("/", 1)[-1] == file), None)
        if found is None:
            raise InputError(
                self.address, expected=f"a link to {file} on the page", found="none", advice="see the page itself"
            )
        return found


class _Links(HTMLParser):
    """The links of a page to addresses on the same host."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link."""
        target = dict(attrs).get("href")
        if tag == "a" and target:
            link = urljoin(self._address, target)
            if urlsplit(link)[:2] == urlsplit(self._address)[:2]:
                self.found.append(link)
