"""What an archive says of its pictures, held against the pictures: index, names, metadata, partitions, checksums."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fncells import files
from fncells.archive import INDEX_NAME, LABELLED, PARTITIONS, Archive, Sample, path_of
from fncells.audit.finding import Finding, Severity
from fncells.images import PixelSize
from fncells.index import index_records
from fncells.names import NamePattern, Specimen, parse_name
from fncells.published import COLLECTIONS

__all__ = [
    "Known",
    "checksum_findings",
    "in_index",
    "index_findings",
    "is_plausible",
    "metadata_findings",
    "partition_findings",
    "pixel_size_findings",
    "stray_findings",
]

_BUILD = "run `fncells build` again"
_MEND = "run `fncells build` again, or mend the row"
_COARSEST_UM = 20.0  # a pixel as large as a cell shows none
_FINEST_UM = 0.01
_PRINTERS_DPI = (72, 96, 150, 200, 240, 300, 350, 600, 1200)
_UM_AN_INCH = 25_400
# What names a picture's camera and hour; other tags are written differently by different programs.
_TOLD_APART_BY = ("Exif.Image.Make", "Exif.Image.Model", "Exif.Image.DateTime", "Exif.Photo.DateTimeOriginal")


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a picture once it has been looked at.

    Attributes
    ----------
    sample
        The picture's place in the archive.
    file
        Its path relative to the archive.
    shape
        Height and width; None where it cannot be read.
    own_size
        Pixel size by the picture's own tags.
    n_cells
        Cells by the ground truth; None where there is none.
    """

    sample: Sample
    file: str
    shape: tuple[int, int] | None
    own_size: PixelSize | None
    n_cells: int | None

    @property
    def size(self) -> PixelSize | None:
        """Pixel size by the picture itself, else by the index."""
        return self.own_size or self.sample.pixel_size


def in_index(archive: Archive) -> set[tuple[str, str]]:
    """Give collection, in small letters, and number of all pictures that the index has a row of."""
    rows = archive.index[["dataset", "image_name"]].dropna().itertuples(index=False, name=None)
    return {(str(dataset).lower(), Path(str(name)).stem) for dataset, name in rows}


def index_findings(archive: Archive, known: Sequence[Known]) -> Iterator[Finding]:
    """Hold the rows of the index against the pictures."""
    there: dict[tuple[str, str], Known] = {}
    for one in known:
        # Of a number that two partitions have, told elsewhere, the row can only mean one.
        there.setdefault(_key(one), one)
    rows: set[tuple[str, str]] = set()
    collections = {name.lower() for name in archive.collections}
    for row in index_records(archive.index):
        if row["dataset"] is None or row["image_name"] is None:
            continue
        key = row["dataset"].lower(), Path(row["image_name"]).stem
        place = f"row of {row['dataset']} {row['image_name']}"
        if key in rows:
            yield _row("index-row-twice", place, "two rows describe this picture: which is true is unknown")
        elif key not in there and key[0] in collections:
            yield _row("row-without-picture", place, "there is no such picture: counts by the index are wrong")
        elif key in there:
            yield from _row_findings(row, there[key], place, archive.name_pattern)
        rows.add(key)
    for key, one in there.items():
        if key not in rows:
            why = f"{INDEX_NAME} does not tell what it shows: animal, slice and pixel size are unknown"
            advice = "run `fncells build` again, or add the row"
            yield Finding("serious", "picture-without-row", one.file, None, why, advice, (one.file,))


def _row_findings(row: Mapping[str, Any], one: Known, place: str, pattern: NamePattern | None) -> Iterator[Finding]:
    partition, count = row["partition"], row["n_cells"]
    if partition is not None and partition != one.sample.partition:
        why = f"the index says {partition}, the picture lies in {one.sample.partition}: a split by the index leaks"
        yield _row("index-partition", place, why)
    if count is not None and one.n_cells is not None and count != one.n_cells:
        why = f"the index says {count} cells, the ground truth has {one.n_cells}"
        yield _row("index-count", place, why, "minor")
    shape = row["height"], row["width"]
    if one.shape is not None and None not in shape and shape != one.shape:
        why = (
            f"the index says {shape[1]} x {shape[0]} pixels, the picture has {one.shape[1]} x {one.shape[0]}: it was scaled or "
            "replaced, and its pixel size is wrong with it"
        )
        yield _row("index-size", place, why)
    if row["original_name"] is not None:
        said = _contradictions(row, parse_name(row["original_name"], pattern))
        if said:
            why = f"the original name {row['original_name']} tells otherwise: {'; '.join(said)}"
            yield _row("index-name", place, why, "minor")


def _contradictions(row: Mapping[str, Any], named: Specimen) -> list[str]:
    """Tell what the name of a picture says otherwise than its row."""
    told: list[tuple[str, object, object]] = [("animal", Specimen(animal=row["animal"]).animal_key, named.animal_key)]
    told += [(name, row[name], getattr(named, name)) for name in ("species", "sample", "column", "row", "area", "side")]
    collection = str(row["dataset"]).lower()
    if collection in COLLECTIONS:
        told.append(("collection", collection, named.collection))
    return [
        f"{name} {theirs}, not {ours}"
        for name, ours, theirs in told
        if ours is not None and theirs is not None and str(ours).casefold() != str(theirs).casefold()
    ]


def _row(kind: str, place: str, why: str, severity: Severity = "serious") -> Finding:
    return Finding(severity, kind, INDEX_NAME, place, why, _MEND)


def pixel_size_findings(known: Sequence[Known]) -> Iterator[Finding]:
    """Find pixel sizes that contradict each other, cannot be, or are missing where others of the collection have one."""
    missing: dict[str, list[Known]] = defaultdict(list)
    calibrated = set()
    for one in known:
        own, told = one.own_size, one.sample.pixel_size
        if own is not None and told is not None and not 0.99 < own.um / told.um < 1.01:
            place = f"row of {one.sample.collection} {one.sample.name}"
            why = f"the index says {told.um:g} µm a pixel, the picture's own tags say {own.um:g} ({own.source}): sizes differ"
            yield _row("pixel-size-disagreement", place, why)
        if one.size is None:
            missing[one.sample.collection].append(one)
            continue
        calibrated.add(one.sample.collection)
        if not is_plausible(one.size):
            why = f"{one.size.um:g} µm a pixel ({one.size.source}) shows no cells"
            dpi = next((dpi for dpi in _PRINTERS_DPI if abs(one.size.um * dpi / _UM_AN_INCH - 1) < 0.005), None)
            if dpi is not None:
                why += f": that is {dpi} dpi, a setting for printers that tells nothing of the specimen"
            advice = "find the calibration of the microscope and write it into the lab's metadata, or leave it unknown"
            yield Finding("serious", "pixel-size-implausible", one.file, None, why, advice)
    for collection in sorted(calibrated & missing.keys()):
        first, more = missing[collection][0], len(missing[collection]) - 1
        why = f"it has no pixel size{f', as {more} more have none,' if more else ''} where others of {collection} have one: "
        why += "the whole collection is measured in pixels"
        advice = "add it to the lab's metadata and build again"
        yield Finding("note", "pixel-size-missing", first.file, None, why, advice)


def is_plausible(size: PixelSize) -> bool:
    """Whether cells can be seen with pixels of that size."""
    return _FINEST_UM <= size.um <= _COARSEST_UM


def metadata_findings(root: Path, sample: Sample, file: str, tags: Mapping[str, str] | None) -> Iterator[Finding]:
    """Hold a picture's metadata text against its tags.

    Parameters
    ----------
    root
        The archive's folder.
    sample, file
        The picture, and its path relative to the archive.
    tags
        What the picture itself tells; None where it cannot be read.
    """
    path = root / path_of("metadata", sample.collection, sample.partition, sample.picture_path.stem)
    if not path.parent.is_dir():
        return
    if not path.exists():
        why = "the metadata folder has no text for this picture: how it was taken is lost to who reads only that"
        yield Finding("minor", "metadata-missing", file, None, why, _BUILD)
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    told = dict(line.split("\t", 1) for line in lines if "\t" in line)
    wrong = [
        f"{name} is {told[name]!r}, where the picture says {tags[name]!r}"
        for name in _TOLD_APART_BY
        if tags and name in told and name in tags and told[name].strip() != tags[name].strip()
    ]
    if not told:
        wrong = ["it is no text of lines with a key, a tab and a value"]
    if wrong:
        where = path.relative_to(root).as_posix()
        why = f"{'; '.join(wrong)}: it may be that of another picture"
        yield Finding("minor", "metadata-mismatch", where, None, why, _BUILD)


def stray_findings(archive: Archive) -> Iterator[Finding]:
    """Find files that belong to no picture, pictures that nobody finds, and numbers that two partitions have."""
    for mask in archive.unpaired_masks():
        why = "there is no picture of that name: whatever pairs by order takes the wrong pictures from here on"
        advice = "put the picture beside it, or remove the mask"
        yield Finding("serious", "mask-without-picture", _relative(mask, archive), None, why, advice)
    for collection in archive.collections:
        for partition in PARTITIONS:
            folder = archive.root / collection / partition
            stems = {path.stem for path in (folder / "images").glob("*.png")}
            for path in _visible(folder / "images"):
                if path.suffix != ".png" and path.suffix.lower() in files.PICTURE_SUFFIXES:
                    why = "pictures of an archive are named .png: whoever follows the layout passes it over"
                    advice = f"remove it, or {_BUILD} with it among the raw pictures"
                    yield Finding("minor", "picture-passed-over", _relative(path, archive), None, why, advice)
            for kind, below in (("labels", "ground_truths/labels"), ("metadata", "metadata")):
                for path in _visible(folder / below):
                    if path.suffix in (".png", ".txt") and path.stem not in stems:
                        why = "there is no picture of that name: it was moved or removed, and this was left behind"
                        file = _relative(path, archive)
                        yield Finding("minor", f"{kind}-without-picture", file, None, why, "remove it")


def partition_findings(known: Sequence[Known]) -> Iterator[Finding]:
    """Find numbers, slices and animals that are in more than one partition."""
    by_number: dict[tuple[str, str], list[Known]] = defaultdict(list)
    for one in known:
        by_number[_key(one)].append(one)
    for group in by_number.values():
        for one in group[1:]:
            why = f"{group[0].file} has the same number: the index and all that refers to it cannot tell them apart"
            pictures = (one.file, group[0].file)
            yield Finding("serious", "number-twice", one.file, None, why, "give it a number of its own", pictures)
    sure = [group[0] for group in by_number.values() if len(group) == 1 and group[0].sample.partition in LABELLED]
    yield from _slices(sure)
    yield from _animals(sure)


def _slices(known: Iterable[Known]) -> Iterator[Finding]:
    slices: dict[str, dict[str, Known]] = defaultdict(dict)
    for one in known:
        if one.sample.slice is not None:
            slices[one.sample.slice].setdefault(one.sample.partition, one)
    for parts in slices.values():
        if len(parts) > 1:
            train, test = (parts[partition] for partition in LABELLED)
            why = (
                f"it shows the slice of {train.file} ({test.sample.original_name}, {train.sample.original_name}): the test "
                "knows what was trained on"
            )
            advice = "put both into one partition; `fncells build` does"
            pictures = (test.file, train.file)
            yield Finding("serious", "slice-across-partitions", test.file, None, why, advice, pictures)


def _animals(known: Iterable[Known]) -> Iterator[Finding]:
    animals: dict[str, set[str]] = defaultdict(set)
    for one in known:
        if one.sample.animal is not None:
            animals[one.sample.animal].add(one.sample.partition)
    shared = sorted(animal for animal, parts in animals.items() if len(parts) > 1)
    if shared:
        place = ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else "")
        why = f"pictures of {len(shared)} {'animal' if len(shared) == 1 else 'animals'} are in trainval and in test, as in the "
        why += "paper: the test says little of new animals"
        advice = "`fncells build --group animal` keeps animals together"
        yield Finding("note", "animal-across-partitions", INDEX_NAME, place, why, advice)


def checksum_findings(root: Path) -> Iterator[Finding]:
    """Hold the files of an archive against the list of their checksums, where there is one."""
    path = root / files.CHECKSUMS_NAME
    if not path.is_file():
        return
    listed: dict[str, str] = {}
    again = "get the file again, or run `fncells build`"
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            why = "not a line of a checksum and a name, as sha256sum writes them"
            yield Finding("minor", "checksum-line", files.CHECKSUMS_NAME, f"line {number}", why, _BUILD)
        else:
            listed[name] = digest.lower()
    for name, digest in listed.items():
        target = root / name
        if not target.resolve().is_relative_to(root.resolve()) or not target.is_file():
            why = "it is listed with a checksum and is not there"
            yield Finding("serious", "checksum-without-file", name, None, why, again)
        elif files.sha256(target) != digest:
            why = "its content is not the one that was listed: it was changed or damaged since"
            yield Finding("serious", "checksum-mismatch", name, None, why, again)
    for found in sorted(root.rglob("*")):
        name = found.relative_to(root).as_posix()
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if found.is_file() and not hidden and name not in listed and name != files.CHECKSUMS_NAME:
            why = "no checksum is listed for it, so damage would go unseen"
            yield Finding("note", "file-without-checksum", name, None, why, f"{_BUILD}, or remove the file")


def _key(one: Known) -> tuple[str, str]:
    return one.sample.collection.lower(), one.sample.picture_path.stem


def _relative(path: Path, archive: Archive) -> str:
    return path.relative_to(archive.root).as_posix()


def _visible(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))
