"""From a lab's raw folder to an archive: pictures converted and numbered, partitions drawn, ground truths made.

A raw folder holds ``raw/<collection>/`` with the pictures as the microscope wrote them, ``annotations/`` with what the
annotators exported, and ``metadata.xlsx``. What comes out has the layout of the published collections (see
`fncells.archive`; Clissa et al., FNC v2, Data Records). The result depends on the input and the seed alone: it is the same
bytes whatever the number of workers, and however often the work was killed and begun again.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from filelock import FileLock, Timeout

from fncells import files
from fncells.archive import path_of
from fncells.building.converting import convert_all
from fncells.building.keys import Key, Place
from fncells.building.lab import UNKNOWN_SPECIES, Inputs, Lab, find_inputs, gather
from fncells.building.overall import (
    CHECKSUMS_NAME,
    remove_strays,
    write_checksums,
    write_descriptions,
    write_lab_index,
    write_partitions,
)
from fncells.errors import InputError, OutputError
from fncells.images import (
    Plane,
)
from fncells.index import (
    INDEX_NAME,
    LABELLED,
    PARTITIONS,
    index_records,
    read_index,
)
from fncells.ledger import LEDGER_NAME, Ledger
from fncells.names import NamePattern, group_keys

__all__ = ["CHECKSUMS_NAME", "BuildSettings", "BuildSummary", "Share", "build", "split"]

LOCK_NAME = f"{LEDGER_NAME}.lock"
GROUPS = ("slice", "animal")
_LEAST_GAIN = 1e-6  # pictures squared; so that rounding moves no group to and fro for ever


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

    @property
    def recorded(self) -> dict[str, object]:
        """What the result depends on, as JSON can hold it; what is not chosen is left out."""
        chosen: dict[str, object] = {"test_share": self.test_share, "seed": self.seed, "group": self.group}
        chosen |= {"balance": self.balance} if self.balance is not None else {}
        chosen |= {"name_pattern": self.name_pattern} if self.name_pattern is not None else {}
        return chosen | ({"plane": self.plane.as_dict()} if self.plane.as_dict() else {})


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
        or an annotation file cannot be read or changes in the meantime, or another build is at work in the archive.
    OutputError
        If the archive cannot be written, or its disk is full. What was done stays, and the same call goes on from there.
    """
    settings = settings or BuildSettings()
    inputs = find_inputs(raw, archive, settings.metadata, settings.annotations, settings.workers)
    digest = inputs.digest(settings.recorded)
    if archive.is_dir():
        with _opened(archive) as ledger:
            if done := _unchanged(archive, ledger, digest):
                return done
    lab = gather(inputs, settings.name_pattern, settings.plane)
    inputs.check_unchanged()
    with _opened(archive) as ledger:
        summary = _build(lab, inputs, archive, settings, ledger)
        files.settle()
        _remember(archive, ledger, digest, summary)
        return summary


def _build(lab: Lab, inputs: Inputs, archive: Path, settings: BuildSettings, ledger: Ledger) -> BuildSummary:
    old_rows = _old_rows(archive)
    reserved = _reserved(old_rows, ledger)
    places, warnings = _plan(lab, reserved, settings)
    ledger.put("plan", "places", [[*key, *place] for key, place in (reserved | places).items()])
    outcome = convert_all(lab, inputs.digests, places, archive, ledger, settings.workers, settings.scheduler)

    # A picture that cannot be made anew, as its raw file is broken or gone, stays as it was.
    kept = {key: row for key, row in old_rows.items() if key not in outcome.facts and _is_there(archive, key, row)}
    warnings += [
        f"{key}: in the archive but no longer among the raw pictures; kept" for key in kept if key not in places
    ]
    shown = {key: place for key, place in places.items() if key in outcome.facts}
    shown |= {key: reserved[key] for key in kept}
    shown = dict(sorted(shown.items(), key=lambda item: (item[0].collection, item[1].number)))

    write_partitions(archive, lab, shown, outcome, ledger)
    write_lab_index(archive, lab, shown, outcome, kept)
    remove_strays(archive, reserved | places, shown)
    raw_inputs = {f"raw/{key}": digest for key, digest in outcome.digests.items()}
    files.write_record(archive, "build", settings.recorded, {**lab.inputs, **raw_inputs})
    if shown:
        write_descriptions(archive, lab.about)
    write_checksums(archive, outcome.facts)

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


def _unchanged(archive: Path, ledger: Ledger, digest: str | None) -> BuildSummary | None:
    """Tell what the last build told, if it was of the same inputs and every file is there as it made it."""
    known = ledger.get("whole", digest) if digest else None
    if known is None or files.try_sha256(archive / CHECKSUMS_NAME) != known["checksums"]:
        return None
    lines = (archive / CHECKSUMS_NAME).read_text(encoding="utf-8").splitlines()
    for sha256, name in (line.split("  ", 1) for line in lines):
        if files.try_sha256(archive / name) != sha256:
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


def _remember(archive: Path, ledger: Ledger, digest: str | None, summary: BuildSummary) -> None:
    # What failed may have failed for want of an extra, of memory or of a network drive: it is tried again.
    if digest is not None and not summary.failed:
        value = {"checksums": files.sha256(archive / CHECKSUMS_NAME), "summary": asdict(summary)}
        ledger.put("whole", digest, value)


# Numbers and partitions


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


def _old_rows(archive: Path) -> dict[Key, dict[str, Any]]:
    path = archive / INDEX_NAME
    if not path.exists():
        return {}
    rows = {}
    for row in index_records(read_index(path, required=("image_name", "original_name", "dataset", "partition"))):
        if row["image_name"] and row["dataset"] and row["partition"]:
            rows[Key(row["dataset"], row["original_name"] or row["image_name"])] = row
    return rows


def _is_there(archive: Path, key: Key, row: Mapping[str, Any]) -> bool:
    stem = PurePosixPath(row["image_name"]).stem
    return stem.isdecimal() and (archive / path_of("images", key.collection, row["partition"], stem)).exists()


def _reserved(old_rows: Mapping[Key, Mapping[str, Any]], ledger: Ledger) -> dict[Key, Place]:
    """Numbers and partitions given by earlier runs, also by those that were killed before they wrote the index."""
    planned = ledger.get("plan", "places") or []
    reserved = {Key(*entry[:2]): Place(*entry[2:]) for entry in planned}
    for key, row in old_rows.items():
        number = PurePosixPath(row["image_name"]).stem
        if number.isdecimal():
            reserved[key] = Place(int(number), row["partition"])
    return reserved


def _plan(lab: Lab, reserved: Mapping[Key, Place], settings: BuildSettings) -> tuple[dict[Key, Place], list[str]]:
    warnings: list[str] = []
    decided: dict[Key, str] = {}
    for key in lab.pictures:
        wish = lab.value(key, "partition")
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
    species = {key: lab.species_of(key) for key in groups} if settings.balance else None
    if species and (unknown := [key for key in species if species[key] == UNKNOWN_SPECIES]):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        warnings.append(f"{min(unknown)}{more}: of no known species; split as one species of their own")
    partitions = decided | split(groups, fixed, settings.test_share, settings.seed, species)
    warnings += _torn(groups, partitions)
    numbers = _numbers(lab.pictures, reserved)
    return {key: Place(numbers[key], partitions[key]) for key in lab.pictures}, warnings


def _groups(keys: Iterable[Key], lab: Lab, group: str) -> dict[Key, str]:
    slices = {key: lab.slice_of(key) for key in sorted(keys)}
    return group_keys(slices, {key: lab.animal_of(key) for key in slices}) if group == "animal" else slices


def _shares(shown: Mapping[Key, Place], lab: Lab, settings: BuildSettings) -> Iterator[Share]:
    """Tell how the share of ``test`` was kept in each collection, and in each species of it where that was asked for."""
    for collection in sorted({key.collection for key in shown}):
        parts: dict[str | None, list[bool]] = {None: []}
        for key, place in shown.items():
            if key.collection == collection and place.partition in LABELLED:
                for part in (None, lab.species_of(key)) if settings.balance else (None,):
                    parts.setdefault(part, []).append(place.partition == "test")
        for species in sorted(parts, key=lambda name: name or ""):
            yield Share(collection, species, settings.test_share, sum(parts[species]), len(parts[species]))


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
