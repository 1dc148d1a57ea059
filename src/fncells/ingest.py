"""From a lab's raw folder to an archive: pictures converted and numbered, partitions drawn, ground truths made.

A raw folder holds ``raw/<collection>/`` with the pictures as the microscope wrote them, ``annotations/`` with what the
annotators exported, and ``metadata.xlsx``. What comes out has the layout of the published collections (see
`fncells.archive`; Clissa et al., FNC v2, Data Records). The result depends on the input and the seed alone: it is the same
bytes whatever the number of workers, and however often the work was killed and begun again.
"""

import hashlib
import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

import fncells
from fncells import files
from fncells.about import ABOUT_NAME, About, read_about
from fncells.archive import Archive, Sample, path_of
from fncells.cells import AnnotatedImage
from fncells.croissant import CROISSANT_NAME, Distributed, write_croissant
from fncells.datasheet import DATASHEET_NAME, write_datasheet
from fncells.errors import FncellsError, InputError, MissingExtraError, OutputError
from fncells.formats import codec_named, find_annotations, recognise
from fncells.formats.pictures import FILE_SIZE
from fncells.images import (
    Picture,
    PixelSize,
    Plane,
    camera,
    date_taken,
    read_picture,
    tags_json,
    tags_text,
    write_png,
)
from fncells.index import (
    INDEX_COLUMNS,
    INDEX_NAME,
    INDEX_SUFFIXES,
    LABELLED,
    PARTITIONS,
    index_frame,
    index_records,
    read_index,
    specimen_told,
    write_index,
)
from fncells.ledger import LEDGER_NAME, Ledger
from fncells.names import NamePattern, group_keys, parse_name, slice_key
from fncells.truths import PARTITION_TRUTHS, PICTURE_TRUTHS, truth_path
from fncells.workers import in_parallel

__all__ = ["CHECKSUMS_NAME", "BuildSettings", "BuildSummary", "Share", "build", "split"]

CHECKSUMS_NAME = "checksums.sha256"
LOCK_NAME = f"{LEDGER_NAME}.lock"
GROUPS = ("slice", "animal")
_UNKNOWN_SPECIES = "unknown"
_LEAST_GAIN = 1e-6  # pictures squared; so that rounding moves no group to and fro for ever
_LARGEST_LABEL = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class BuildSettings:
    """How an archive is made.

    Parameters
    ----------
    test_share
        Share of the labelled pictures of each collection that goes to ``test``, from 0 to 1.
    seed
        Seed of the split.
    group
        What the split never tears apart: ``slice`` (the pictures of one field of view) or ``animal``.
    balance
        What the split keeps the share in, beside the collection as a whole: ``species``, as metadata and names tell it; None
        nothing more.
    workers
        Processes that convert pictures; the result does not depend on it.
    scheduler
        Address of a Dask scheduler whose workers convert the pictures instead; they must see the folders under the same
        paths.
    metadata
        The lab's metadata (.xlsx, .csv or .parquet); None takes ``metadata.xlsx`` of the raw folder, or .csv, or .parquet,
        if there.
    annotations
        Annotation files or folders; none takes the CSV and JSON files in ``annotations/`` of the raw folder.
    name_pattern
        The rule of the file names where it is not that of the collections: a regular expression whose named groups are
        species, animal, sample, column, row, area, side, zoom, collection, region (see docs/pictures.md).
    plane
        Which picture to take of files that hold several.
    """

    test_share: float = 0.25
    seed: int = 10
    group: Literal["slice", "animal"] = "slice"
    balance: Literal["species"] | None = None
    workers: int = 1
    scheduler: str | None = None
    metadata: Path | None = None
    annotations: tuple[Path, ...] = ()
    name_pattern: str | None = None
    plane: Plane = field(default_factory=Plane)

    def __post_init__(self) -> None:
        if not 0 <= self.test_share <= 1:
            raise InputError("test share", expected="a number from 0 to 1", found=str(self.test_share))
        if self.group not in GROUPS:
            raise InputError("group", expected=" or ".join(GROUPS), found=repr(self.group))
        if self.balance not in (None, "species"):
            raise InputError("balance", expected="species, or nothing", found=repr(self.balance))
        if self.workers < 1:
            raise InputError("workers", expected="1 or more", found=str(self.workers))
        if self.name_pattern is not None:
            NamePattern(self.name_pattern)


@dataclass(frozen=True)
class Share:
    """How much of a collection, or of one species in it, is in ``test``.

    Parameters
    ----------
    collection, species
        Whose share; ``species`` is None for the collection as a whole.
    wished
        What was asked for, from 0 to 1.
    test, labelled
        Number of pictures in ``test``, and in ``test`` and ``trainval`` together.
    """

    collection: str
    species: str | None
    wished: float
    test: int
    labelled: int

    @property
    def reached(self) -> float | None:
        """The share there is; None of no pictures."""
        return self.test / self.labelled if self.labelled else None


@dataclass(frozen=True)
class BuildSummary:
    """What a build did.

    Parameters
    ----------
    converted, unchanged
        Number of pictures converted now, and of those that were already there as they should be.
    failed
        Name and reason of every picture that could not be converted.
    warnings
        What did not fit together, or was odd, one line each.
    pictures
        Number of pictures by collection and partition.
    shares
        Wished and reached share of ``test``: of each collection, and of each species in it where it was balanced by them. It is
        as near to the wish as groups, and partitions that were given, allow.
    """

    converted: int
    unchanged: int
    failed: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    pictures: Mapping[str, Mapping[str, int]]
    shares: tuple[Share, ...]

    @property
    def exit_code(self) -> int:
        """0 if every picture is in the archive, else 1."""
        return 1 if self.failed else 0

    @property
    def test_shares(self) -> dict[str, float | None]:
        """Reached share of ``test`` by collection."""
        return {share.collection: share.reached for share in self.shares if share.species is None}

    def as_dict(self) -> dict[str, object]:
        """Give the summary as JSON can hold it."""
        return {
            "converted": self.converted,
            "unchanged": self.unchanged,
            "failed": [{"picture": name, "reason": reason} for name, reason in self.failed],
            "warnings": list(self.warnings),
            "pictures": {collection: dict(counts) for collection, counts in self.pictures.items()},
            "test_share": self.test_shares,
            "shares": [{**asdict(share), "reached": share.reached} for share in self.shares],
        }


class Key(NamedTuple):
    """Identity of a picture: its collection, and its original name relative to the collection's raw folder."""

    collection: str
    name: str

    def __str__(self) -> str:
        return f"{self.collection}/{self.name}"


class Place(NamedTuple):
    """Where a picture lies in the archive."""

    number: int
    partition: str


@dataclass(frozen=True, eq=False)
class _Lab:
    """All that the lab has handed in, paired."""

    pictures: Mapping[Key, Path]
    rows: Mapping[Key, Mapping[str, Any]]
    cells: Mapping[Key, AnnotatedImage]
    broken: Mapping[Key, str]
    inputs: Mapping[str, str]
    extra_columns: tuple[str, ...]
    about: About
    warnings: tuple[str, ...]
    pattern: NamePattern | None = None
    plane: Plane = field(default_factory=Plane)


@dataclass(frozen=True, eq=False)
class _Job:
    """One picture to convert; it crosses to the worker process."""

    key: Key
    source: Path
    raw_digest: str
    place: Place
    archive: Path
    cells: AnnotatedImage | None
    pixel_size_um: float | None
    plane: Plane = field(default_factory=Plane)

    @property
    def digest(self) -> str:
        """Digest of everything that the files of this picture depend on."""
        parts = [fncells.__version__, str(self.key), self.raw_digest, *map(str, self.place), str(self.pixel_size_um)]
        parts.append(_cells_digest(self.cells) if self.cells is not None else "unlabelled")
        parts += map(str, sorted(self.plane.as_dict().items()))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass
class _Outcome:
    """What has become of the pictures."""

    facts: dict[Key, dict[str, Any]] = field(default_factory=dict)
    digests: dict[Key, str] = field(default_factory=dict)
    jobs: dict[Key, str] = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)
    converted: int = 0


def build(raw: Path, archive: Path, settings: BuildSettings | None = None) -> BuildSummary:
    """Make an archive from a lab's raw folder, or bring it up to date.

    Numbers and partitions once given never change; new pictures take the next number, and a group that has a picture in
    one partition gets its new ones there. A picture whose raw file is gone stays. The same call after a kill gives the
    same bytes as an undisturbed one (the ledger database aside).

    Parameters
    ----------
    raw
        Folder with ``raw/<collection>/``, ``annotations/`` and ``metadata.xlsx``.
    archive
        Folder to make or continue.
    settings
        How; None takes the defaults.

    Returns
    -------
    BuildSummary
        With a reason for every picture that failed; those that did not are done.

    Raises
    ------
    InputError
        If there are no pictures, two pictures' names collide, the metadata, what the lab says about itself (``about.toml``)
        or an annotation file cannot be read, or the archive cannot be written, or another build is at work in it.
    """
    settings = settings or BuildSettings()
    pictures = _find_pictures(raw, archive)
    inputs = _digest_inputs(raw, pictures, settings)
    if archive.is_dir():
        with _opened(archive) as ledger:
            if done := _unchanged(archive, ledger, inputs):
                return done
    lab = _gather(raw, pictures, inputs, settings)
    _check_unchanged(raw, inputs)
    with _opened(archive) as ledger:
        summary = _build(lab, inputs, archive, settings, ledger)
        _remember(archive, ledger, inputs, summary)
        return summary


@contextmanager
def _opened(archive: Path) -> Iterator[Ledger]:
    """Make the archive's folder ready for this build alone."""
    lock = FileLock(archive / LOCK_NAME)
    try:
        archive.mkdir(parents=True, exist_ok=True)
        with lock.acquire(blocking=False), Ledger(archive / LEDGER_NAME) as ledger:
            files.remove_leftovers(archive)
            yield ledger
    except Timeout:
        advice = "wait until it has ended, or give another folder"
        raise InputError(archive, expected="one build at a time", found="another at work", advice=advice) from None
    except OSError as error:
        raise OutputError(archive, error) from error


# What has been done already


@dataclass(frozen=True)
class _Inputs:
    """All that goes into a build, and what it was when it was found.

    Parameters
    ----------
    pictures
        SHA-256 of each raw picture, or why it cannot be read.
    metadata
        The lab's table; None where there is none.
    annotations
        Annotation files and folders.
    told
        SHA-256 of the files of both, and of what the lab says about itself; None of one that cannot be read.
    settings
        What the settings choose.
    """

    pictures: Mapping[Key, str | OSError]
    metadata: Path | None
    annotations: tuple[Path, ...]
    told: Mapping[Path, str | None]
    settings: tuple[object, ...]

    @property
    def whole(self) -> str | None:
        """Digest of everything; None where something cannot be read."""
        pictures = [(*key, digest) for key, digest in self.pictures.items() if isinstance(digest, str)]
        if len(pictures) < len(self.pictures) or None in self.told.values():
            return None
        told = [(str(path), digest) for path, digest in self.told.items()]
        return hashlib.sha256(json.dumps([fncells.__version__, self.settings, pictures, told]).encode()).hexdigest()


def _digest_inputs(raw: Path, pictures: Mapping[Key, Path], settings: BuildSettings) -> _Inputs:
    metadata = settings.metadata or _metadata_of(raw)
    annotations = settings.annotations or _annotation_files(raw / "annotations")
    with ThreadPoolExecutor(settings.workers) as threads:
        digests = dict(zip(pictures, threads.map(_try_sha256, pictures.values()), strict=True))
    drawn = (settings.test_share, settings.seed, settings.group, settings.balance)
    chosen = (*drawn, settings.name_pattern, settings.plane.as_dict())
    told = _told(filter(None, (metadata, raw / ABOUT_NAME, *annotations)))
    return _Inputs(digests, metadata, annotations, told, chosen)


def _told(places: Iterable[Path]) -> dict[Path, str | None]:
    digests = {path: _try_sha256(path) for place in places for path in _files_at(place)}
    return {path: digest if isinstance(digest, str) else None for path, digest in digests.items()}


def _check_unchanged(raw: Path, inputs: _Inputs) -> None:
    """Refuse what was changed while it was read: nobody could say which of its states the archive would be of."""
    now = _told(filter(None, (inputs.metadata, raw / ABOUT_NAME, *inputs.annotations)))
    for path in sorted(now.keys() | inputs.told.keys()):
        if now.get(path) != inputs.told.get(path):
            found = "a file that changed" if path in now and path in inputs.told else "a file that came or went"
            raise InputError(path, expected="the same content throughout", found=found, advice="build again")


def _files_at(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.is_file())
    return [place] if place.exists() else []


def _unchanged(archive: Path, ledger: Ledger, inputs: _Inputs) -> BuildSummary | None:
    """Tell what the last build told, if it was of the same inputs and every file is there as it made it."""
    known = ledger.get("whole", inputs.whole) if inputs.whole else None
    if known is None or _try_sha256(archive / CHECKSUMS_NAME) != known["checksums"]:
        return None
    lines = (archive / CHECKSUMS_NAME).read_text(encoding="utf-8").splitlines()
    for digest, name in (line.split("  ", 1) for line in lines):
        if _try_sha256(archive / name) != digest:
            return None
    summary = known["summary"]
    return BuildSummary(
        converted=0,
        unchanged=summary["converted"] + summary["unchanged"],
        failed=tuple((name, reason) for name, reason in summary["failed"]),
        warnings=tuple(summary["warnings"]),
        pictures=summary["pictures"],
        shares=tuple(Share(**share) for share in summary["shares"]),
    )


def _remember(archive: Path, ledger: Ledger, inputs: _Inputs, summary: BuildSummary) -> None:
    # What failed may have failed for want of an extra, of memory or of a network drive: it is tried again.
    if inputs.whole is not None and not summary.failed:
        value = {"checksums": files.sha256(archive / CHECKSUMS_NAME), "summary": asdict(summary)}
        ledger.put("whole", inputs.whole, value)


def split(
    groups: Mapping[Key, str],
    fixed: Mapping[Key, str],
    test_share: float = 0.25,
    seed: int = 10,
    species: Mapping[Key, str] | None = None,
) -> dict[Key, str]:
    """Draw the partitions of labelled pictures, group by group.

    Groups come in an order that depends on the seed and on their own names alone, so that new pictures do not reshuffle
    the old ones. A group goes to ``test``, or comes back from there, where that brings the shares nearer to the wished one, by
    the sum of squared distances over all collections, until none does. Where no group spans collections, each collection
    (each species in it) is then off by half of its largest group at most.

    Parameters
    ----------
    groups
        Group of every labelled picture; a group may span collections.
    fixed
        Partitions that are already decided; groups with such a picture follow it.
    test_share
        Wished share of ``test`` in each collection.
    seed
        Another seed draws other groups.
    species
        Of every picture, where the share is to be kept in each species of a collection; None keeps it in each collection.

    Returns
    -------
    dict
        ``trainval`` or ``test`` for every picture of `groups`.
    """
    members: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(groups):
        members[groups[key]].append(key)
    partitions: dict[Key, str] = {}
    drawn: dict[str, bool] = {}  # whether a group that is not decided is in test
    for group, keys in members.items():
        decided = [fixed[key] for key in keys if key in fixed]
        if decided:
            partitions.update((key, fixed.get(key, decided[0])) for key in keys)
        else:
            drawn[group] = False
    part = {key: (key.collection, species[key] if species else "") for key in groups}
    sizes = {group: Counter(part[key] for key in members[group]) for group in drawn}
    beyond: dict[tuple[str, str], float] = {one: -test_share * total for one, total in Counter(part.values()).items()}
    for key, partition in partitions.items():
        beyond[part[key]] += partition == "test"
    order = sorted(drawn, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())

    def moved(group: str) -> bool:
        sign = -1 if drawn[group] else 1
        change = sum(n * (n + 2 * sign * beyond[one]) for one, n in sizes[group].items())
        if change > -_LEAST_GAIN:
            return False
        drawn[group] = not drawn[group]
        for one, n in sizes[group].items():
            beyond[one] += sign * n
        return True

    while any([moved(group) for group in order]):
        pass
    for group, in_test in drawn.items():
        partitions.update(dict.fromkeys(members[group], "test" if in_test else "trainval"))
    return partitions


def _build(lab: _Lab, inputs: _Inputs, archive: Path, settings: BuildSettings, ledger: Ledger) -> BuildSummary:
    old_rows = _old_rows(archive)
    reserved = _reserved(old_rows, ledger)
    places, warnings = _plan(lab, reserved, settings)
    ledger.put("plan", "places", [[*key, *place] for key, place in (reserved | places).items()])
    outcome = _convert_all(lab, inputs, places, archive, settings, ledger)

    # A picture that cannot be made anew, as its raw file is broken or gone, stays as it was.
    kept = {key: row for key, row in old_rows.items() if key not in outcome.facts and _is_there(archive, key, row)}
    warnings += [
        f"{key}: in the archive but no longer among the raw pictures; kept" for key in kept if key not in places
    ]
    shown = {key: place for key, place in places.items() if key in outcome.facts}
    shown |= {key: reserved[key] for key in kept}
    shown = dict(sorted(shown.items(), key=lambda item: (item[0].collection, item[1].number)))

    _write_partitions(archive, lab, shown, outcome, ledger)
    _write_index(archive, lab, shown, outcome, kept)
    _remove_strays(archive, reserved | places, shown)
    recorded: dict[str, object] = {"test_share": settings.test_share, "seed": settings.seed, "group": settings.group}
    recorded |= {"balance": settings.balance} if settings.balance is not None else {}
    recorded |= {"name_pattern": settings.name_pattern} if settings.name_pattern is not None else {}
    recorded |= {"plane": settings.plane.as_dict()} if settings.plane.as_dict() else {}
    raw_inputs = {f"raw/{key}": digest for key, digest in outcome.digests.items()}
    files.write_record(archive, "build", recorded, {**lab.inputs, **raw_inputs})
    if shown:
        _write_descriptions(archive, lab.about)
    _write_checksums(archive, outcome.facts)

    notes = [f"{key}: {note}" for key in outcome.facts for note in outcome.facts[key]["notes"]]
    counts = {key.collection: dict.fromkeys(PARTITIONS, 0) for key in shown}
    for key, place in shown.items():
        counts[key.collection][place.partition] += 1
    return BuildSummary(
        converted=outcome.converted,
        unchanged=len(outcome.facts) - outcome.converted,
        failed=tuple((str(key), reason) for key, reason in sorted(outcome.failed.items())),
        warnings=(*lab.warnings, *warnings, *notes),
        pictures=counts,
        shares=tuple(_shares(shown, lab, settings)),
    )


# What the lab hands in


def _find_pictures(raw: Path, archive: Path) -> dict[Key, Path]:
    root = raw / "raw"
    if not root.is_dir():
        raise InputError(
            raw,
            expected="a folder with raw/<collection>/ in it",
            found="no folder raw" if raw.is_dir() else "no such folder",
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


def _gather(raw: Path, pictures: Mapping[Key, Path], inputs: _Inputs, settings: BuildSettings) -> _Lab:
    finder = _Finder(pictures)
    names: dict[str, Path] = {}
    warnings = _outside(raw / "raw")
    rows: dict[Key, Mapping[str, Any]] = {}
    extra: tuple[str, ...] = ()
    if inputs.metadata is not None:
        table = read_index(inputs.metadata)
        extra = tuple(name for name in table.columns if name not in INDEX_COLUMNS)
        rows = _pair_rows(inputs.metadata, index_records(table), finder, warnings)
        warnings += [f"{key}: no row in {inputs.metadata.name}" for key in pictures if key not in rows]
        names[inputs.metadata.name] = inputs.metadata
    cells: dict[Key, AnnotatedImage] = {}
    broken: dict[Key, str] = {}
    found_in: dict[Key, Path] = {}
    for path in inputs.annotations:
        for key, image in _pair_annotations(path, raw / "raw", finder, warnings):
            if key in found_in:
                raise InputError(
                    path,
                    place=f"picture {key.name!r}",
                    expected="one annotation of each picture",
                    found=f"another of {key} in {found_in[key]}",
                    advice="name the files to take with --annotations",
                )
            found_in[key] = path
            if isinstance(image, InputError):
                broken[key] = str(image)
            else:
                cells[key] = image
        names[f"annotations/{path.name}"] = path
    cells = {key: _marked(image, _value(rows, key, "marker")) for key, image in cells.items()}
    about = read_about(raw / ABOUT_NAME) if raw / ABOUT_NAME in inputs.told else About()
    names[ABOUT_NAME] = raw / ABOUT_NAME
    digests = {name: digest for name, path in names.items() if (digest := inputs.told.get(path))}
    pattern = None if settings.name_pattern is None else NamePattern(settings.name_pattern)
    if pattern is not None:
        warnings += [
            f"{key}: its name does not fit the name pattern" for key in pictures if pattern.match(key.name) is None
        ]
    return _Lab(pictures, rows, cells, broken, digests, extra, about, tuple(warnings), pattern, settings.plane)


def _marked(image: AnnotatedImage, marker: str | None) -> AnnotatedImage:
    """Give the cells the marker that the metadata tell, where the annotator has told none."""
    if marker is None:
        return image
    cells = (cell if cell.marker is not None else replace(cell, marker=marker) for cell in image.cells)
    return replace(image, cells=tuple(cells))


def _outside(root: Path) -> list[str]:
    """Pictures that lie in no collection's folder."""
    pictures = files.PICTURE_SUFFIXES | files.MICROSCOPE_SUFFIXES
    names = sorted(path.name for path in root.iterdir() if path.suffix.lower() in pictures and not path.is_dir())
    return [f"{root.name}/{name}: in no collection's folder; left out" for name in names if not name.startswith(".")]


def _metadata_of(raw: Path) -> Path | None:
    paths = [raw / f"metadata{suffix}" for suffix in INDEX_SUFFIXES]
    return next((path for path in paths if path.exists()), None)


def _annotation_files(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    wanted = (path for path in folder.iterdir() if path.suffix.lower() in {".csv", ".json"})
    return tuple(sorted(path for path in wanted if not path.name.startswith(".")))


def _pair_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], finder: "_Finder", warnings: list[str]
) -> dict[Key, Mapping[str, Any]]:
    paired: dict[Key, Mapping[str, Any]] = {}
    for row in rows:
        name, collection = row["original_name"], row["dataset"]
        said = "/".join(filter(None, (collection, name)))
        fitting = finder.find(name, collection) if name else []
        if len(fitting) != 1:
            what = "no picture" if not fitting else f"{len(fitting)} pictures fit"
            warnings.append(f"{path.name}: {what} for the row {said or 'without original_name'}")
        elif fitting[0] in paired:
            raise InputError(path, expected="one row a picture", found=f"two rows for {fitting[0]}")
        else:
            paired[fitting[0]] = row
    return paired


def _pair_annotations(
    path: Path, raw: Path, finder: "_Finder", warnings: list[str]
) -> Iterator[tuple[Key, AnnotatedImage | InputError]]:
    """Read an annotation file; one that is named after a collection speaks of that collection alone.

    Annotations that cannot be read fail their picture and no other: it must not pass for one without annotations.
    """
    words = re.split(r"[^a-z0-9]+", path.stem.lower())
    named = [collection for collection in finder.collections if collection.lower() in words]
    collection = named[0] if len(named) == 1 else None
    format_name = recognise(path)
    # VIA's outlines need no picture, and a broken picture must not stop the reading of the others' outlines.
    images = None if format_name in {"via", "via-csv"} else raw / (collection or "")
    for unread in find_annotations(path, format_name, images):
        image: AnnotatedImage | InputError
        try:
            image = unread.read()
            name = image.name
        except InputError as error:
            image, name = error, unread.name
        fitting = finder.find(name, collection)
        if len(fitting) == 1:
            yield fitting[0], image
        elif isinstance(image, InputError):
            warnings.append(f"{path.name}: {image}")
        else:
            what = "no picture" if not fitting else f"{len(fitting)} pictures fit"
            warnings.append(f"{path.name}: {what} for the annotations of {name!r}")


class _Finder:
    """Finds the raw picture that a row or an annotation names, never by a part of a name.

    First by the path below the collection's folder, then by that without suffix, then by the file name, and then by that
    without suffix; upper and lower case are the same.
    """

    def __init__(self, pictures: Iterable[Key]) -> None:
        self._keys: dict[tuple[int, str], list[Key]] = defaultdict(list)
        for key in pictures:
            for level in enumerate(_spellings(key.name)):
                self._keys[level].append(key)
        self.collections = sorted({key.collection for key in pictures})

    def find(self, name: str, collection: str | None) -> list[Key]:
        """Give the pictures that fit best, of one collection or of any."""
        for level in enumerate(_spellings(name)):
            fitting = [
                key
                for key in self._keys.get(level, ())
                if collection is None or key.collection.lower() == collection.lower()
            ]
            if fitting:
                return fitting
        return []


def _spellings(name: str) -> tuple[str, str, str, str]:
    path = name.replace("\\", "/").strip().lower()
    file = path.rpartition("/")[2]
    return path, _without_suffix(path), file, _without_suffix(file)


def _without_suffix(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return path.removesuffix(suffix) if suffix in files.PICTURE_SUFFIXES | files.MICROSCOPE_SUFFIXES else path


# Numbers and partitions


def _old_rows(archive: Path) -> dict[Key, dict[str, Any]]:
    path = archive / INDEX_NAME
    if not path.exists():
        return {}
    rows = {}
    for row in index_records(read_index(path, required=("image_name", "original_name", "dataset", "partition"))):
        if row["image_name"] and row["dataset"] and row["partition"]:
            rows[Key(row["dataset"], row["original_name"] or row["image_name"])] = row
    return rows


def _reserved(old_rows: Mapping[Key, Mapping[str, Any]], ledger: Ledger) -> dict[Key, Place]:
    """Numbers and partitions given by earlier runs, also by those that were killed before they wrote the index."""
    planned = ledger.get("plan", "places") or []
    reserved = {Key(*entry[:2]): Place(*entry[2:]) for entry in planned}
    for key, row in old_rows.items():
        number = PurePosixPath(row["image_name"]).stem
        if number.isdecimal():
            reserved[key] = Place(int(number), row["partition"])
    return reserved


def _plan(lab: _Lab, reserved: Mapping[Key, Place], settings: BuildSettings) -> tuple[dict[Key, Place], list[str]]:
    warnings: list[str] = []
    decided: dict[Key, str] = {}
    for key in lab.pictures:
        wish = _value(lab.rows, key, "partition")
        given = reserved[key].partition if key in reserved else None
        if key not in lab.cells and key not in lab.broken:
            decided[key] = "unlabelled"
            if wish in LABELLED or given in LABELLED:
                warnings.append(f"{key}: meant for {wish or given}, but without annotations; unlabelled")
        elif given in LABELLED:
            decided[key] = given
            if wish not in (None, given):
                warnings.append(f"{key}: {wish} in the metadata, but already in {given}; kept there")
        elif wish is not None:
            decided[key] = wish
            if wish == "unlabelled":
                warnings.append(f"{key}: annotated, but unlabelled in the metadata; its annotations are not used")
    # Pictures whose raw file is gone still hold their group together.
    gone = {key: place.partition for key, place in reserved.items() if key not in lab.pictures}
    fixed = {key: part for key, part in (decided | gone).items() if part in LABELLED}
    labelled = {key for key in lab.pictures if decided.get(key) != "unlabelled"}
    groups = _groups(labelled | set(fixed), lab, settings.group)
    species = {key: _species(key, lab) for key in groups} if settings.balance else None
    if species and (unknown := [key for key in species if species[key] == _UNKNOWN_SPECIES]):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        warnings.append(f"{min(unknown)}{more}: of no known species; split as one species of their own")
    partitions = decided | split(groups, fixed, settings.test_share, settings.seed, species)
    warnings += _torn(groups, partitions)
    numbers = _numbers(lab.pictures, reserved)
    return {key: Place(numbers[key], partitions[key]) for key in lab.pictures}, warnings


def _groups(keys: Iterable[Key], lab: _Lab, group: str) -> dict[Key, str]:
    slices = {key: _slice(key, lab) for key in sorted(keys)}
    return group_keys(slices, {key: _animal(key, lab) for key in slices}) if group == "animal" else slices


def _slice(key: Key, lab: _Lab) -> str:
    return slice_key(key.name, lab.pattern, specimen_told(lab.rows.get(key, {})))


def _species(key: Key, lab: _Lab) -> str:
    told = _value(lab.rows, key, "species") or parse_name(key.name, lab.pattern).species
    return str(told).lower() if told else _UNKNOWN_SPECIES


def _shares(shown: Mapping[Key, Place], lab: _Lab, settings: BuildSettings) -> Iterator[Share]:
    """Tell how the share of ``test`` was kept in each collection, and in each species of it where that was asked for."""
    for collection in sorted({key.collection for key in shown}):
        parts: dict[str | None, list[bool]] = {None: []}
        for key, place in shown.items():
            if key.collection == collection and place.partition in LABELLED:
                for part in (None, _species(key, lab)) if settings.balance else (None,):
                    parts.setdefault(part, []).append(place.partition == "test")
        for species in sorted(parts, key=lambda name: name or ""):
            yield Share(collection, species, settings.test_share, sum(parts[species]), len(parts[species]))


def _animal(key: Key, lab: _Lab) -> str | None:
    return specimen_told(lab.rows.get(key, {})).animal_key or parse_name(key.name, lab.pattern).animal_key


def _torn(groups: Mapping[Key, str], partitions: Mapping[Key, str]) -> list[str]:
    parts: dict[str, set[str]] = defaultdict(set)
    for key, group in groups.items():
        parts[group].add(partitions[key])
    return [f"{group}: in trainval and in test, as given" for group in sorted(parts) if len(parts[group]) > 1]


def _numbers(pictures: Iterable[Key], reserved: Mapping[Key, Place]) -> dict[Key, int]:
    last = Counter({key.collection: 0 for key in pictures})
    for key, place in reserved.items():
        last[key.collection] = max(last[key.collection], place.number)
    numbers = {}
    for key in sorted(pictures):
        if key in reserved:
            numbers[key] = reserved[key].number
        else:
            last[key.collection] += 1
            numbers[key] = last[key.collection]
    return numbers


# Converting


def _convert_all(
    lab: _Lab,
    inputs: _Inputs,
    places: Mapping[Key, Place],
    archive: Path,
    settings: BuildSettings,
    ledger: Ledger,
) -> _Outcome:
    outcome = _Outcome(failed=dict(lab.broken))
    for key, digest in inputs.pictures.items():
        if isinstance(digest, OSError):
            outcome.failed[key] = f"cannot be read: {digest.strerror or digest}"
        elif key not in lab.broken:
            outcome.digests[key] = digest
    with ThreadPoolExecutor(settings.workers) as threads:
        jobs = [_job(lab, key, places[key], archive, digest) for key, digest in outcome.digests.items()]
        outcome.jobs = {job.key: job.digest for job in jobs}
        known = [ledger.get("picture", job.digest) for job in jobs]
        intact = threads.map(partial(_is_intact, archive), known)
        todo = []
        for job, facts, good in zip(jobs, known, intact, strict=True):
            if facts is not None and good:
                outcome.facts[job.key] = facts
            else:
                todo.append(job)
    for job, facts in zip(todo, files.progress(_in_parallel(todo, settings), len(todo), "pictures"), strict=True):
        if "failed" in facts:
            outcome.failed[job.key] = facts["failed"]
        else:
            ledger.put("picture", job.digest, facts)
            outcome.facts[job.key] = facts
            outcome.converted += 1
    if settings.scheduler is not None:
        files.remove_leftovers(archive)  # of workers that died; their pictures have been done by others
    outcome.facts = {key: outcome.facts[key] for key in places if key in outcome.facts}
    return outcome


def _in_parallel(jobs: list[_Job], settings: BuildSettings) -> Iterator[dict[str, Any]]:
    """Choose where the work is done: in processes of this machine, or by the workers of a Dask scheduler."""
    if settings.scheduler is None:
        yield from in_parallel(_convert, jobs, settings.workers)
        return
    try:
        from dask.distributed import Client
    except ImportError:
        raise MissingExtraError("cluster", "work on a cluster") from None
    from joblib import Parallel, delayed, parallel_config

    try:
        client = Client(settings.scheduler, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("scheduler", expected="the address of a Dask scheduler", found=found) from None
    with client, parallel_config(backend="dask"):
        yield from Parallel(return_as="generator")(delayed(_convert)(job) for job in jobs)


def _job(lab: _Lab, key: Key, place: Place, archive: Path, digest: str) -> _Job:
    cells = lab.cells[key] if place.partition in LABELLED else None
    return _Job(
        key, lab.pictures[key], digest, place, archive, cells, _value(lab.rows, key, "pixel_size_um"), lab.plane
    )


def _convert(job: _Job) -> dict[str, Any]:
    """Make the files of one picture and tell what the index needs; everything is read before anything is written."""
    try:
        picture = read_picture(job.source, job.key.name, job.plane)
        if files.sha256(job.source) != job.raw_digest:
            raise InputError(
                job.source, expected="the same content throughout", found="a file that changed", advice="build again"
            )
        cells = _placed(job.cells, picture) if job.cells is not None else None
    except FncellsError as error:
        return {"failed": str(error)}
    except OSError as error:
        return {"failed": f"cannot be read: {error.strerror or error}"}
    written = _write_picture(job, picture, cells)
    size = picture.pixel_size
    if size is None and job.pixel_size_um is not None:
        size = PixelSize(job.pixel_size_um, "metadata")
    return {
        "files": {str(path): files.sha256(job.archive / path) for path in written},
        "width": picture.pixels.shape[1],
        "height": picture.pixels.shape[0],
        "pixel_size_um": None if size is None else size.um,
        "pixel_size_source": None if size is None else size.source,
        "camera": camera(picture.tags),
        "taken": date_taken(picture.tags),
        "n_cells": None if cells is None else len(cells.cells),
        "notes": [*picture.notes, *_notes(job, picture, cells)],
    }


def _placed(cells: AnnotatedImage, picture: Picture) -> AnnotatedImage:
    """Lay the annotated cells onto the picture they were drawn on."""
    height, width = picture.pixels.shape[:2]
    if cells.shape not in (None, (height, width)):
        found = f"annotations of {cells.shape[1]} x {cells.shape[0]}" if cells.shape else ""
        raise InputError(picture.name, expected=f"annotations of a picture of {width} x {height} pixels", found=found)
    placed = cells.with_shape((height, width))
    largest = int(placed.numbers.max(initial=0))
    if largest > _LARGEST_LABEL:
        raise InputError(picture.name, expected=f"cell numbers up to {_LARGEST_LABEL}", found=str(largest))
    return placed


def _write_picture(job: _Job, picture: Picture, cells: AnnotatedImage | None) -> list[PurePosixPath]:
    kinds = ("metadata", "sidecar", *(PICTURE_TRUTHS if cells is not None else ()), "images")
    stem = str(job.place.number)
    paths = {kind: path_of(kind, job.key.collection, job.place.partition, stem) for kind in kinds}
    with files.together():
        files.write_text(job.archive / paths["metadata"], tags_text(picture))
        files.write_text(job.archive / paths["sidecar"], tags_json(picture))
        if cells is not None:
            named = replace(cells, name=paths["images"].name)
            for kind, truth in PICTURE_TRUTHS.items():
                codec_named(truth.format, truth.dialect).write((job.archive / paths[kind]).parent, [named])
        # Last, as it is what readers go by: none finds a picture whose truth is still to come.
        write_png(job.archive / paths["images"], picture)
    return list(paths.values())


def _notes(job: _Job, picture: Picture, cells: AnnotatedImage | None) -> Iterator[str]:
    said, own = job.pixel_size_um, picture.pixel_size
    if said is not None and own is not None and not 0.99 < said / own.um < 1.01:
        yield f"{own.um:g} µm a pixel by the picture's tags ({own.source}), {said:g} by the metadata; the tags are taken"
    if cells is not None:
        visible = len(np.unique(cells.labels[cells.labels > 0]))
        hidden = sum(not cell.is_dot for cell in cells.cells) - visible
        if hidden:
            yield f"{hidden} of {len(cells.cells)} outlines lie outside the picture or wholly under others"


def _try_sha256(path: Path) -> str | OSError:
    try:
        return files.sha256(path)
    except OSError as error:
        return error


def _is_intact(archive: Path, facts: Mapping[str, Any] | None) -> bool:
    """Whether the files of a picture are there as they were made."""
    return facts is not None and all(_try_sha256(archive / path) == digest for path, digest in facts["files"].items())


def _cells_digest(image: AnnotatedImage) -> str:
    digest = hashlib.sha256(repr((image.shape, dict(image.attributes))).encode())
    for cell in image.cells:
        told = (cell.number, cell.marker, cell.score, cell.source_shape, dict(cell.attributes))
        digest.update(repr((told, [len(ring) for ring in cell.rings])).encode())
        for ring in cell.rings:
            digest.update(ring.tobytes())
    return digest.hexdigest()


# What belongs to the archive as a whole


def _write_partitions(archive: Path, lab: _Lab, shown: Mapping[Key, Place], outcome: _Outcome, ledger: Ledger) -> None:
    """Write the ground truths that hold all pictures of a partition, those of them that are not there as they should be."""
    for collection in sorted({key.collection for key in shown}):
        for partition in LABELLED:
            keys = [key for key in shown if key.collection == collection and shown[key].partition == partition]
            digest = _partition_digest(archive, keys, shown, outcome)
            for truth in PARTITION_TRUTHS.values():
                path = archive / truth_path(truth, collection, partition)
                task = f"partition {path.relative_to(archive).as_posix()}"
                if keys and ledger.get(task, digest) == _digests_below(archive, path):
                    continue
                if not keys:
                    _remove(path)
                    continue
                images = (_archived(archive, lab, key, shown[key], outcome.facts.get(key)) for key in keys)
                codec = codec_named(truth.format, truth.dialect)
                if codec.one_file:
                    codec.write(path, images)
                else:
                    with files.whole_folder(path) as temporary, files.together():
                        codec.write(temporary, images)
                ledger.put(task, digest, _digests_below(archive, path))


def _partition_digest(archive: Path, keys: Iterable[Key], shown: Mapping[Key, Place], outcome: _Outcome) -> str:
    """Digest of all that a partition's files depend on: of pictures that are only kept, of their label pictures."""
    parts = [fncells.__version__]
    for key in keys:
        labels = archive / path_of("labels", key.collection, shown[key].partition, str(shown[key].number))
        parts.append(outcome.jobs.get(key) or f"{key} {_try_sha256(labels)}")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _digests_below(archive: Path, path: Path) -> dict[str, str]:
    """SHA-256 of a file, or of all in a folder, by their paths in the archive."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    return {file.relative_to(archive).as_posix(): files.sha256(file) for file in found if file.is_file()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _archived(archive: Path, lab: _Lab, key: Key, place: Place, facts: Mapping[str, Any] | None) -> AnnotatedImage:
    """Give a picture's cells under its name in the archive, with the outlines as they were drawn."""
    stem = str(place.number)
    picture = archive / path_of("images", key.collection, place.partition, stem)
    if facts is not None:
        cells = lab.cells[key].with_shape((facts["height"], facts["width"]))
    else:
        cells = _kept_cells(archive, key, place, picture)
    # VIA finds a picture again by its name and the size of its file.
    return replace(cells, name=picture.name, attributes={**cells.attributes, FILE_SIZE: picture.stat().st_size})


def _kept_cells(archive: Path, key: Key, place: Place, picture: Path) -> AnnotatedImage:
    """Read a kept picture's cells from the archive itself: from the file that keeps outlines as they were drawn, if there."""
    sample = Sample(archive, key.collection, place.partition, picture.name)
    return sample.read_cells("voc" if "voc" in sample.formats else None)


def _write_index(
    archive: Path,
    lab: _Lab,
    shown: Mapping[Key, Place],
    outcome: _Outcome,
    kept: Mapping[Key, Mapping[str, Any]],
) -> None:
    fields = Counter((_slice(key, lab), key.collection) for key in shown)
    filters = Counter(field_of_view for field_of_view, _ in fields)
    rows = []
    for key, place in shown.items():
        if key in kept:
            rows.append(kept[key])
            continue
        specimen = parse_name(key.name, lab.pattern)
        told = {name: value for name, value in lab.rows.get(key, {}).items() if value is not None}
        rows.append(
            {
                "double_marked": filters[_slice(key, lab)] > 1,
                **{name: getattr(specimen, name) for name in _FROM_NAME},
                **told,
                **{name: outcome.facts[key][name] for name in _FROM_PICTURE},
                "image_name": f"{place.number}.png",
                "original_name": key.name,
                "dataset": key.collection,
                "partition": place.partition,
                "sha256": outcome.digests[key],
            }
        )
    old = [name for row in kept.values() for name in row]
    columns = dict.fromkeys((*INDEX_COLUMNS, *lab.extra_columns, *old))
    write_index(archive / INDEX_NAME, index_frame(rows, tuple(columns)))


_FROM_NAME = ("species", "animal", "sample", "column", "row", "area", "side", "region", "zoom")
_FROM_PICTURE = ("width", "height", "camera", "taken", "pixel_size_um", "pixel_size_source", "n_cells")


def _is_there(archive: Path, key: Key, row: Mapping[str, Any]) -> bool:
    stem = PurePosixPath(row["image_name"]).stem
    return stem.isdecimal() and (archive / path_of("images", key.collection, row["partition"], stem)).exists()


def _remove_strays(archive: Path, places: Mapping[Key, Place], shown: Mapping[Key, Place]) -> None:
    """Remove what a picture left where it no longer belongs: it was labelled since, or has failed after a kill."""
    for key, place in places.items():
        for partition in PARTITIONS:
            if key in shown and shown[key].partition == partition:
                continue
            for kind in ("images", "metadata", "sidecar", *PICTURE_TRUTHS):
                (archive / path_of(kind, key.collection, partition, str(place.number))).unlink(missing_ok=True)


def _write_descriptions(archive: Path, about: About) -> None:
    """Write what the archive is for machines and for people, as far as it is known."""
    opened = Archive.open(archive)
    write_croissant(archive / CROISSANT_NAME, opened, about, [Distributed.of(archive / INDEX_NAME)])
    write_datasheet(archive / DATASHEET_NAME, opened, about)


def _write_checksums(archive: Path, facts: Mapping[Key, Mapping[str, Any]]) -> None:
    """List the SHA-256 of every file in the form that ``sha256sum --check`` takes."""
    known = {path: digest for made in facts.values() for path, digest in made["files"].items()}
    lines = []
    for path in archive.rglob("*"):
        name = path.relative_to(archive)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name != Path(CHECKSUMS_NAME):
            lines.append((name.as_posix(), known.get(name.as_posix()) or files.sha256(path)))
    files.write_text(archive / CHECKSUMS_NAME, "".join(f"{digest}  {name}\n" for name, digest in sorted(lines)))


def _value(rows: Mapping[Key, Mapping[str, Any]], key: Key, column: str) -> Any:
    return rows.get(key, {}).get(column)
