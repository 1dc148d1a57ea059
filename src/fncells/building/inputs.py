"""What a build is made of, found and told by its digests: all that is read where nothing has changed."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import fncells
from fncells import files
from fncells.about import ABOUT_NAME
from fncells.building.keys import Key
from fncells.errors import InputError
from fncells.index import INDEX_SUFFIXES

__all__ = ["Inputs", "find_inputs"]


@dataclass(frozen=True)
class Inputs:
    """All that goes into a build, and what it was when it was found.

    Parameters
    ----------
    raw
        The lab's folder.
    pictures
        The raw pictures.
    digests
        SHA-256 of each, or why it cannot be read.
    metadata
        The lab's table; None where there is none.
    annotations
        Annotation files and folders.
    told
        SHA-256 of the files of both, and of what the lab says about itself; None of one that cannot be read.
    """

    raw: Path
    pictures: Mapping[Key, Path]
    digests: Mapping[Key, str | OSError]
    metadata: Path | None
    annotations: tuple[Path, ...]
    told: Mapping[Path, str | None]

    def digest(self, chosen: Mapping[str, object]) -> str | None:
        """Digest of everything, and of what the settings choose; None where something cannot be read."""
        pictures = [(*key, digest) for key, digest in self.digests.items() if isinstance(digest, str)]
        if len(pictures) < len(self.digests) or None in self.told.values():
            return None
        told = [(str(path), digest) for path, digest in self.told.items()]
        return hashlib.sha256(json.dumps([fncells.__version__, chosen, pictures, told]).encode()).hexdigest()

    def check_unchanged(self) -> None:
        """Refuse what was changed while it was read: nobody could say which of its states the archive would be of."""
        now = _told(self.raw, self.metadata, self.annotations)
        for path in sorted(now.keys() | self.told.keys()):
            if now.get(path) != self.told.get(path):
                found = "a file that changed" if path in now and path in self.told else "a file that came or went"
                raise InputError(path, expected="the same content throughout", found=found, advice="build again")


def find_inputs(raw: Path, archive: Path, metadata: Path | None, annotations: tuple[Path, ...], workers: int) -> Inputs:
    """Find the pictures and what the lab tells of them, in its folder or where it says.

    Parameters
    ----------
    raw
        The lab's folder.
    archive
        The archive to make, which must not lie among the pictures.
    metadata, annotations
        The lab's own choice; None and none take what the folder holds.
    workers
        Number of files that are read at a time.

    Returns
    -------
    Inputs

    Raises
    ------
    InputError
        If there are no pictures, or their names collide or cannot be kept.
    """
    pictures = _find_pictures(raw / "raw", archive)
    metadata = metadata or _metadata_of(raw)
    annotations = annotations or _annotation_files(raw / "annotations")
    with ThreadPoolExecutor(workers) as threads:
        digests = dict(zip(pictures, threads.map(files.try_sha256, pictures.values()), strict=True))
    return Inputs(raw, pictures, digests, metadata, annotations, _told(raw, metadata, annotations))


def _told(raw: Path, metadata: Path | None, annotations: Iterable[Path]) -> dict[Path, str | None]:
    places = filter(None, (metadata, raw / ABOUT_NAME, *annotations))
    digests = {path: files.try_sha256(path) for place in places for path in _files_at(place)}
    return {path: digest if isinstance(digest, str) else None for path, digest in digests.items()}


def _files_at(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.is_file())
    return [place] if place.exists() else []


def _find_pictures(root: Path, archive: Path) -> dict[Key, Path]:
    if not root.is_dir():
        raise InputError(
            root.parent,
            expected="a folder with raw/<collection>/ in it",
            found="no folder raw" if root.parent.is_dir() else "no such folder",
            advice="`fncells synth` makes an example",
        )
    if archive.resolve().is_relative_to(root.resolve()):
        raise InputError(archive, expected="an archive outside the raw pictures", found=f"a folder in {root}")
    collections = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    alike: dict[str, Path] = {}
    for collection in collections:
        if (other := alike.setdefault(collection.name.casefold(), collection)) != collection:
            expected = "collections whose names differ in more than upper and lower case"
            raise InputError(collection, expected=expected, found=f"also {other}", advice="rename one")
    found = {
        Key(collection.name, source.name): source.path
        for collection in collections
        for source in files.find_pictures([collection])
    }
    for key, path in found.items():
        _check_name(str(key), path)
    if not found:
        suffixes = " ".join(sorted(files.PICTURE_SUFFIXES | files.MICROSCOPE_SUFFIXES))
        raise InputError(root, expected=f"folders of pictures ({suffixes}), one a collection", found="no picture")
    return found


def _check_name(name: str, path: Path) -> None:
    """Refuse a name that the index, the checksums or another file system would not give back as it is."""
    if not name.isprintable():
        raise InputError(path, expected="a name of printable characters", found="others", advice="rename it")
    if any(part != part.strip() for part in name.split("/")):
        raise InputError(path, expected="a name without blanks at its ends", found=repr(name), advice="rename it")


def _metadata_of(raw: Path) -> Path | None:
    paths = [raw / f"metadata{suffix}" for suffix in INDEX_SUFFIXES]
    return next((path for path in paths if path.exists()), None)


def _annotation_files(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    wanted = (path for path in folder.iterdir() if path.suffix.lower() in {".csv", ".json"})
    return tuple(sorted(path for path in wanted if not path.name.startswith(".")))
