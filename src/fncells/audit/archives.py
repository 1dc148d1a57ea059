"""A whole archive: files against each other, against the index and against checksums, and partitions against each other."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fncells import files
from fncells.archive import INDEX_NAME, LABELLED, Archive, Sample, path_of
from fncells.audit.finding import Finding, Severity, in_order
from fncells.audit.likeness import Portrait, duplicate_findings
from fncells.audit.outlines import Measured, cell_findings, hole_findings, size_findings, truth_findings
from fncells.audit.rasters import mask_findings
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import CODECS, read_annotations
from fncells.images import Picture, read_picture
from fncells.ingest import CHECKSUMS_NAME
from fncells.names import parse_name, slice_key

__all__ = ["audit_archive"]

_RASTERS = ("masks", "labels")  # the ground truths that are judged picture by picture


@dataclass(eq=False)
class _Audit:
    """What has been found, and what is kept of each picture to compare it with the others."""

    root: Path
    findings: list[Finding] = field(default_factory=list)
    portraits: list[Portrait] = field(default_factory=list)
    measured: dict[str, list[Measured]] = field(default_factory=lambda: defaultdict(list))
    shapes: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def add(self, severity: Severity, kind: str, path: Path | str, place: str | None, why: str, advice: str) -> None:
        file = path if isinstance(path, str) else self.name(path)
        self.findings.append(Finding(severity, kind, file, place, why, advice))

    def add_unreadable(self, path: Path, error: InputError) -> None:
        why = f"expected {error.expected}, found {error.found}"
        self.add("serious", "unreadable", path, error.place, why, error.advice or "get the file again, or save it anew")


def audit_archive(path: Path) -> list[Finding]:
    """Find what is wrong in an archive.

    Looked for are pictures and masks without each other, files that cannot be read, sizes that differ, masks that are not
    binary or that differ from label pictures and annotations, outlines that leave the picture, cross themselves or were
    drawn twice, specks, holes, cells of odd size, pictures that are there twice, slices and animals in both partitions,
    and files that differ from the index or from their checksums.

    Parameters
    ----------
    path
        The archive's folder, or that of one of its collections.

    Returns
    -------
    list of Finding
        The most serious first; files are relative to the archive's folder.

    Raises
    ------
    InputError
        If there is no archive.
    """
    archive = Archive.open(path)
    audit = _Audit(archive.root)
    samples = _samples(archive, audit)
    for sample in files.progress(samples, len(samples), "checking pictures"):
        _check_sample(sample, audit)
    for mask in archive.unpaired_masks():
        audit.add(
            "serious",
            "mask-without-picture",
            mask,
            None,
            "there is no picture of that name: whatever pairs by order takes the wrong pictures from here on",
            "put the picture beside it, or remove the mask",
        )
    _check_annotations(archive, samples, audit)
    for collection, measured in audit.measured.items():
        audit.findings += size_findings(collection, measured)
    audit.findings += duplicate_findings(audit.portraits)
    _check_partitions(samples, audit)
    _check_checksums(audit)
    return in_order(audit.findings)


def _samples(archive: Archive, audit: _Audit) -> list[Sample]:
    """List all pictures; where the index cannot be read, what the folders tell must do."""
    try:
        samples = archive.samples()
    except InputError as error:
        audit.add_unreadable(archive.root / INDEX_NAME, error)
        bare = Archive(archive.root, archive.collections)
        # The index is cached on first use; an empty one stands in.
        bare.__dict__["_known"] = {}
        return bare.samples()
    if (archive.root / INDEX_NAME).exists():
        _check_index(archive, samples, audit)
    return samples


# Picture by picture


def _check_sample(sample: Sample, audit: _Audit) -> None:
    picture: Picture | None = None
    try:
        picture = sample.read_picture()
    except InputError as error:
        audit.add_unreadable(sample.picture_path, error)
    else:
        audit.shapes[sample.picture_path] = (picture.pixels.shape[0], picture.pixels.shape[1])
        audit.portraits.append(_portrait(sample, picture, audit))
    if sample.partition in LABELLED:
        if sample.mask_path is None:
            audit.add(
                "serious",
                "picture-without-mask",
                sample.picture_path,
                None,
                "a labelled picture has no mask: it is left out, or taken for one without cells",
                "make the mask, or move the picture to unlabelled",
            )
        else:
            _check_truth(sample, sample.mask_path, picture, audit)
    notes = audit.root / path_of("metadata", sample.collection, sample.partition, sample.picture_path.stem)
    if notes.parent.is_dir() and not notes.exists():
        audit.add(
            "minor",
            "metadata-missing",
            sample.picture_path,
            None,
            "the metadata folder has no text for this picture: how it was taken is lost to who reads only that",
            "run `fncells build` again",
        )


def _portrait(sample: Sample, picture: Picture, audit: _Audit) -> Portrait:
    digest = hashlib.sha256(repr(picture.pixels.shape).encode() + np.ascontiguousarray(picture.pixels).tobytes())
    return Portrait(
        file=audit.name(sample.picture_path),
        collection=sample.collection,
        partition=sample.partition,
        digest=digest.hexdigest(),
        features=Portrait.features_of(picture.pixels),
    )


def _check_truth(sample: Sample, mask_path: Path, picture: Picture | None, audit: _Audit) -> None:
    try:
        pixels = read_picture(mask_path).pixels
        cells = sample.read_cells()
    except InputError as error:
        audit.add_unreadable(Path(str(error.path)) if error.path else mask_path, error)
        return
    file = audit.name(mask_path)
    audit.findings += mask_findings(file, pixels)
    foreground = pixels.max(axis=2) > 0 if pixels.ndim == 3 else pixels > 0
    for path, shape in ((mask_path, foreground.shape), (sample.labels_path, cells.shape or ())):
        if picture is not None and path is not None and shape != picture.pixels.shape[:2]:
            audit.add(
                "serious",
                "size-mismatch",
                path,
                None,
                f"{_said(shape)} pixels, where its picture has {_said(picture.pixels.shape)}: cells lie beside the cells",
                "find the picture it was made from, or make it anew",
            )
    if sample.labels_path is not None and cells.shape == foreground.shape and (cells.mask != foreground).any():
        audit.add(
            "serious",
            "labels-disagreement",
            sample.labels_path,
            None,
            f"{np.count_nonzero(cells.mask != foreground)} pixels are a cell in the label picture or in the mask alone",
            "make both anew with `fncells build`",
        )
    audit.findings += hole_findings(file, cells)
    size = None if picture is None or picture.pixel_size is None else picture.pixel_size.um
    audit.measured[sample.collection].append(Measured.of(file, cells, size))


# Annotation files


def _check_annotations(archive: Archive, samples: Iterable[Sample], audit: _Audit) -> None:
    by_place: dict[tuple[str, str], dict[str, Sample]] = defaultdict(dict)
    for sample in samples:
        by_place[sample.collection, sample.partition][sample.picture_path.stem] = sample
    for collection in archive.collections:
        for partition in LABELLED:
            folder = archive.root / collection / partition / "ground_truths"
            for path, format_name in _annotation_files(folder):
                _check_annotation_file(path, format_name, by_place[collection, partition], audit)


def _annotation_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give the annotations of a partition in all formats that are known here; others are passed over."""
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    for child in children:
        if child.name in _RASTERS or not child.is_dir():
            continue
        for path in (child, *sorted(child.iterdir())):
            known = next(
                (name for name, codec in CODECS.items() if path.is_dir() != codec.one_file and codec.recognises(path)),
                None,
            )
            if known is not None:
                yield path, known
                if path == child:
                    break


def _check_annotation_file(path: Path, format_name: str, samples: dict[str, Sample], audit: _Audit) -> None:
    file = audit.name(path)
    seen = set()
    try:
        for image in read_annotations(path, format_name):
            stem = Path(image.name).stem
            seen.add(stem)
            if stem not in samples:
                audit.add(
                    "serious",
                    "annotations-without-picture",
                    file,
                    image.name,
                    "no picture of that name is in this partition: it was renamed, moved, or is missing",
                    "run `fncells build` again",
                )
            else:
                _check_annotated(file, image, samples[stem], audit)
    except InputError as error:
        audit.add_unreadable(path, error)
        return
    forgotten = sorted(set(samples) - seen)
    if forgotten:
        audit.add(
            "serious",
            "picture-without-annotations",
            file,
            f"{samples[forgotten[0]].name}{f' and {len(forgotten) - 1} more' if len(forgotten) > 1 else ''}",
            "labelled pictures are not in it: who reads this format alone misses them",
            "run `fncells build` again",
        )


def _check_annotated(file: str, image: AnnotatedImage, sample: Sample, audit: _Audit) -> None:
    shape = audit.shapes.get(sample.picture_path)
    if shape is not None and image.shape not in (None, shape):
        audit.add(
            "serious",
            "size-mismatch",
            file,
            image.name,
            f"the annotations are for {_said(image.shape or ())} pixels, the picture has {_said(shape)}: they do not match",
            "run `fncells build` again",
        )
        return
    placed = image if shape is None else image.with_shape(shape)
    audit.findings += cell_findings(file, placed)
    if placed.shape is None or sample.mask_path is None:
        return
    try:
        truth = sample.read_cells()
    except InputError:
        return  # told where the mask was read
    if truth.shape == placed.shape:
        audit.findings += truth_findings(file, placed, truth, apart=sample.labels_path is not None)


# Index, partitions, checksums


def _check_index(archive: Archive, samples: Iterable[Sample], audit: _Audit) -> None:
    import pandas as pd

    there = {(sample.collection.lower(), sample.picture_path.stem): sample for sample in samples}
    rows: dict[tuple[str, str], object] = {}
    columns = ["dataset", "image_name", "partition", "n_cells"]
    for dataset, image, partition, count in archive.index[columns].itertuples(index=False, name=None):
        if pd.isna(dataset) or pd.isna(image):
            continue
        key = str(dataset).lower(), Path(str(image)).stem
        place = f"row of {dataset} {image}"
        if key in rows:
            _index_finding(audit, "index-row-twice", place, "two rows describe this picture: which is true is unknown")
        elif key not in there and key[0] in {name.lower() for name in archive.collections}:
            _index_finding(
                audit, "row-without-picture", place, "there is no such picture: counts by the index are wrong"
            )
        elif key in there and not pd.isna(partition) and partition != there[key].partition:
            why = f"the index says {partition}, the picture lies in {there[key].partition}: a split by the index leaks"
            _index_finding(audit, "index-partition", place, why)
        elif key in there and not pd.isna(count):
            _check_count(there[key], int(count), place, audit)
        rows[key] = image
    for key, sample in there.items():
        if key not in rows:
            audit.add(
                "serious",
                "picture-without-row",
                sample.picture_path,
                None,
                f"{INDEX_NAME} does not tell what it shows: animal, slice and pixel size are unknown",
                "run `fncells build` again, or add the row",
            )


def _check_count(sample: Sample, count: int, place: str, audit: _Audit) -> None:
    try:
        found = len(sample.read_cells().cells) if sample.mask_path is not None else None
    except InputError:
        return  # told where the mask is read
    if found is not None and found != count:
        why = f"the index says {count} cells, the ground truth has {found}"
        audit.add("minor", "index-count", INDEX_NAME, place, why, "run `fncells build` again")


def _index_finding(audit: _Audit, kind: str, place: str, why: str) -> None:
    audit.add("serious", kind, INDEX_NAME, place, why, "run `fncells build` again, or mend the row")


def _check_partitions(samples: Iterable[Sample], audit: _Audit) -> None:
    slices: dict[str, dict[str, Sample]] = defaultdict(dict)
    animals: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.partition in LABELLED and sample.original_name is not None:
            slices[slice_key(sample.original_name)].setdefault(sample.partition, sample)
            animal = parse_name(sample.original_name).animal_key
            if animal is not None:
                animals[animal].add(sample.partition)
    for parts in slices.values():
        if len(parts) > 1:
            train, test = (parts[partition] for partition in LABELLED)
            audit.add(
                "serious",
                "slice-across-partitions",
                test.picture_path,
                None,
                f"it shows the slice of {audit.name(train.picture_path)} ({test.original_name}, {train.original_name}): "
                "the test knows what was trained on",
                "put both into one partition; `fncells build` does",
            )
    shared = sorted(animal for animal, parts in animals.items() if len(parts) > 1)
    if shared:
        audit.add(
            "note",
            "animal-across-partitions",
            INDEX_NAME,
            ", ".join(shared[:5]) + (f" and {len(shared) - 5} more" if len(shared) > 5 else ""),
            f"pictures of {len(shared)} animals are in trainval and in test, as in the paper: the test says little of new "
            "animals",
            "`fncells build --group animal` keeps animals together",
        )


def _check_checksums(audit: _Audit) -> None:
    path = audit.root / CHECKSUMS_NAME
    if not path.is_file():
        return
    listed: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            why = "not a line of a checksum and a name, as sha256sum writes them"
            audit.add("minor", "checksum-line", path, f"line {number}", why, "run `fncells build` again")
        else:
            listed[name] = digest.lower()
    for name, digest in listed.items():
        target = audit.root / name
        if not target.resolve().is_relative_to(audit.root.resolve()) or not target.is_file():
            why = "it is listed with a checksum and is not there"
            audit.add("serious", "checksum-without-file", name, None, why, "get the file again, or run `fncells build`")
        elif files.sha256(target) != digest:
            why = "its content is not the one that was listed: it was changed or damaged since"
            audit.add("serious", "checksum-mismatch", name, None, why, "get the file again, or run `fncells build`")
    for found in sorted(audit.root.rglob("*")):
        name = audit.name(found)
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if found.is_file() and not hidden and name not in listed and name != CHECKSUMS_NAME:
            why = "no checksum is listed for it, so damage would go unseen"
            audit.add("note", "file-without-checksum", name, None, why, "run `fncells build` again, or remove the file")


def _said(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
