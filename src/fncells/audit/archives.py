"""A whole archive: files against each other, against the index and against checksums, and partitions against each other."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fncells import files
from fncells.archive import INDEX_NAME, LABELLED, Archive, Sample, path_of
from fncells.audit.finding import Finding, in_order
from fncells.audit.likeness import Portrait, duplicate_findings
from fncells.audit.outlines import cell_findings, hole_findings, part_findings, truth_findings
from fncells.audit.rasters import mask_findings
from fncells.audit.records import (
    Known,
    checksum_findings,
    in_index,
    index_findings,
    is_plausible,
    metadata_findings,
    partition_findings,
    pixel_size_findings,
    stray_findings,
)
from fncells.audit.sizes import Measured, size_findings
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import CODECS, read_annotations
from fncells.images import Picture, PixelSize, read_picture
from fncells.workers import in_parallel

__all__ = ["audit_archive"]

_RASTERS = ("masks", "labels")  # the ground truths that are judged picture by picture

Told = tuple[str, AnnotatedImage]
"""An annotation file, and what it says of one picture."""


@dataclass(frozen=True, eq=False)
class _Job:
    """One picture to look at, with all that annotation files say of it; it crosses to the worker process."""

    root: Path
    sample: Sample
    told: tuple[Told, ...]

    @property
    def file(self) -> str:
        return self.name(self.sample.picture_path)

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


@dataclass(eq=False)
class _Seen:
    """What was found in one picture, and what is kept of it to compare it with the others."""

    findings: list[Finding] = field(default_factory=list)
    picture: Picture | None = None
    portrait: Portrait | None = None
    measured: Measured | None = None
    shape: tuple[int, int] | None = None
    own_size: PixelSize | None = None
    n_cells: int | None = None


def audit_archive(path: Path, workers: int = 1) -> list[Finding]:
    """Find what is wrong in an archive.

    Looked for are pictures and masks without each other, files that cannot be read, sizes that differ, masks that are not
    binary, ground truths that contradict each other, outlines that leave the picture, cross themselves, overlap or were drawn
    twice, specks, holes, cells of odd size, outlines rougher than usual, neighbours merged into one, pictures that are there
    twice, slices and animals in both partitions, and files that differ from the index, from their metadata or from their
    checksums.

    Parameters
    ----------
    path
        The archive's folder, or that of one of its collections.
    workers
        Processes to work with; the result does not depend on it.

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
    samples, findings, has_index = _samples(archive)
    told, more = _annotations(archive, samples)
    findings += more
    jobs = [_Job(archive.root, sample, tuple(told[sample.picture_path])) for sample in samples]
    seen: list[_Seen] = list(files.progress(in_parallel(_look, jobs, workers), len(jobs), "checking pictures"))
    for one in seen:
        findings += one.findings
    findings += stray_findings(archive)
    measured: dict[str, list[Measured]] = defaultdict(list)
    for job, one in zip(jobs, seen, strict=True):
        if one.measured is not None:
            measured[job.sample.collection].append(one.measured)
    for collection, sizes in measured.items():
        findings += size_findings(collection, sizes)
    findings += duplicate_findings([one.portrait for one in seen if one.portrait is not None])
    known = [
        Known(job.sample, job.file, one.shape, one.own_size, one.n_cells) for job, one in zip(jobs, seen, strict=True)
    ]
    findings += partition_findings(known)
    if has_index:
        findings += index_findings(archive, known)
        # Without a row all is unknown of a picture, its pixel size too.
        indexed = in_index(archive)
        known = [one for one in known if (one.sample.collection.lower(), one.sample.picture_path.stem) in indexed]
    findings += pixel_size_findings(known)
    findings += checksum_findings(archive.root)
    return in_order(findings)


def _samples(archive: Archive) -> tuple[Sequence[Sample], list[Finding], bool]:
    """List all pictures, and whether there is an index; where it cannot be read, what the folders tell must do."""
    try:
        return archive.samples(), [], (archive.root / INDEX_NAME).exists()
    except InputError as error:
        bare = Archive(archive.root, archive.collections)
        # The index is cached on first use; an empty one stands in.
        bare.__dict__["_known"] = {}
        return bare.samples(), [_unreadable(INDEX_NAME, error)], False


def _unreadable(file: str, error: InputError) -> Finding:
    why = f"expected {error.expected}, found {error.found}"
    advice = error.advice or "get the file again, or save it anew"
    return Finding("serious", "unreadable", file, error.place, why, advice)


# Annotation files


def _annotations(archive: Archive, samples: Sequence[Sample]) -> tuple[dict[Path, list[Told]], list[Finding]]:
    """Read all annotation files: what they say by picture, and what is wrong with the files themselves."""
    by_place: dict[tuple[str, str], dict[str, Sample]] = defaultdict(dict)
    for sample in samples:
        by_place[sample.collection, sample.partition][sample.picture_path.stem] = sample
    told: dict[Path, list[Told]] = defaultdict(list)
    findings: list[Finding] = []
    for collection in archive.collections:
        for partition in LABELLED:
            pictures = by_place[collection, partition]
            for path, format_name in _annotation_files(archive.root / collection / partition / "ground_truths"):
                file = path.relative_to(archive.root).as_posix()
                found, wrong = _read(path, file, format_name, pictures)
                findings += wrong
                for sample, image in found:
                    told[sample.picture_path].append((file, image))
    return told, findings


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


def _read(
    path: Path, file: str, format_name: str, samples: dict[str, Sample]
) -> tuple[list[tuple[Sample, AnnotatedImage]], list[Finding]]:
    found: list[tuple[Sample, AnnotatedImage]] = []
    findings: list[Finding] = []
    seen = set()
    try:
        for image in read_annotations(path, format_name):
            stem = Path(image.name).stem
            seen.add(stem)
            if stem in samples:
                found.append((samples[stem], image))
                continue
            why = "no picture of that name is in this partition: it was renamed, moved, or is missing"
            advice = "run `fncells build` again"
            findings.append(Finding("serious", "annotations-without-picture", file, image.name, why, advice))
    except InputError as error:
        return found, [*findings, _unreadable(file, error)]
    forgotten = sorted(set(samples) - seen)
    if forgotten:
        place = f"{samples[forgotten[0]].name}{f' and {len(forgotten) - 1} more' if len(forgotten) > 1 else ''}"
        why = "labelled pictures are not in it: who reads this format alone misses them"
        advice = "run `fncells build` again"
        findings.append(Finding("serious", "picture-without-annotations", file, place, why, advice))
    return found, findings


# Picture by picture


def _look(job: _Job) -> _Seen:
    """Look at one picture and all that belongs to it."""
    sample = job.sample
    seen = _Seen()
    try:
        seen.picture = read_picture(sample.picture_path, sample.name)
    except InputError as error:
        seen.findings.append(_unreadable(job.file, error))
    else:
        seen.shape = (seen.picture.pixels.shape[0], seen.picture.pixels.shape[1])
        seen.own_size = seen.picture.pixel_size
        seen.portrait = _portrait(job, seen.picture)
    cells = None
    if sample.partition in LABELLED:
        if sample.mask_path is None:
            why = "a labelled picture has no mask: it is left out, or taken for one without cells"
            advice = "make the mask, or move the picture to unlabelled"
            seen.findings.append(Finding("serious", "picture-without-mask", job.file, None, why, advice))
        else:
            cells = _check_truth(job, sample.mask_path, seen)
        seen.findings += _annotation_findings(job, seen.shape, cells)
    if seen.picture is not None:
        seen.findings += _blank(job, seen.picture, cells)
    tags = None if seen.picture is None else seen.picture.tags
    seen.findings += metadata_findings(job.root, sample, job.file, tags)
    seen.picture = None  # has been looked at, and is not to travel
    seen.findings = [one if one.pictures else replace(one, pictures=(job.file,)) for one in seen.findings]
    return seen


def _portrait(job: _Job, picture: Picture) -> Portrait:
    digest = hashlib.sha256(repr(picture.pixels.shape).encode() + np.ascontiguousarray(picture.pixels).tobytes())
    features = Portrait.features_of(picture.pixels)
    return Portrait(job.file, job.sample.collection, job.sample.partition, digest.hexdigest(), features)


def _blank(job: _Job, picture: Picture, cells: AnnotatedImage | None) -> Iterator[Finding]:
    pixels = picture.pixels
    if not pixels.size or (pixels != pixels.reshape(-1, *pixels.shape[2:])[0]).any():
        return
    if cells is not None and cells.cells:
        why = f"all its pixels have the same value, and {len(cells.cells)} cells are annotated on it: their picture was lost"
        yield Finding("serious", "blank-picture", job.file, None, why, "find the picture that was annotated")
    else:
        why = "all its pixels have the same value: the shutter was closed, or the picture was lost"
        yield Finding("minor", "blank-picture", job.file, None, why, "get the picture again, or leave it out")


def _check_truth(job: _Job, mask_path: Path, seen: _Seen) -> AnnotatedImage | None:
    """Judge mask and label picture; give the cells."""
    sample = job.sample
    try:
        pixels = read_picture(mask_path).pixels
        cells = sample.read_cells()
    except InputError as error:
        seen.findings.append(_unreadable(job.name(Path(str(error.path)) if error.path else mask_path), error))
        return None
    file = job.name(mask_path)
    seen.n_cells = len(cells.cells)
    seen.findings += mask_findings(file, pixels)
    foreground = pixels.max(axis=2) > 0 if pixels.ndim == 3 else pixels > 0
    seen.findings += _size_mismatches(
        job, seen.shape, ((mask_path, foreground.shape), (sample.labels_path, cells.shape))
    )
    if sample.labels_path is not None:
        seen.findings += part_findings(job.name(sample.labels_path), cells)
        seen.findings += _disagreement("labels", "the label picture", job.name(sample.labels_path), cells, foreground)
    seen.findings += _pickle_findings(job, foreground)
    seen.findings += hole_findings(file, cells)
    size = seen.own_size or sample.pixel_size
    um = size.um if size is not None and is_plausible(size) else None
    seen.measured = Measured.of(file, cells, um, (job.file,))
    return cells


def _size_mismatches(
    job: _Job, shape: tuple[int, int] | None, made: Sequence[tuple[Path | None, tuple[int, ...] | None]]
) -> Iterator[Finding]:
    for path, own in made:
        if shape is not None and path is not None and own != shape:
            why = f"{_said(own or ())} pixels, where its picture has {_said(shape)}: cells lie beside the cells"
            advice = "find the picture it was made from, or make it anew"
            yield Finding("serious", "size-mismatch", job.name(path), None, why, advice)


def _pickle_findings(job: _Job, foreground: NDArray[np.bool_]) -> Iterator[Finding]:
    """Hold the pickled run lengths against the mask, where JSON lies beside them and is what others read."""
    sample = job.sample
    pickled, plain = (
        job.root / path_of(kind, sample.collection, sample.partition, sample.picture_path.stem)
        for kind in ("rle-pickle", "rle")
    )
    if not (pickled.exists() and plain.exists()):
        return
    file = job.name(pickled)
    try:
        [image] = read_annotations(pickled, "rle")
    except InputError as error:
        yield _unreadable(file, error)
    else:
        yield from _disagreement("run-lengths", "the pickled run lengths", file, image, foreground)


def _disagreement(
    kind: str, what: str, file: str, cells: AnnotatedImage, foreground: NDArray[np.bool_]
) -> Iterator[Finding]:
    if cells.shape != foreground.shape:
        return
    y, x = np.nonzero(cells.mask != foreground)
    if len(x):
        why = f"{len(x)} pixels are a cell in {what} or in the mask alone"
        points = ((float(x[0]), float(y[0])),)
        advice = "make both anew with `fncells build`"
        yield Finding("serious", f"{kind}-disagreement", file, None, why, advice, points=points)


def _annotation_findings(job: _Job, shape: tuple[int, int] | None, cells: AnnotatedImage | None) -> Iterator[Finding]:
    """Hold what annotation files say of a picture against its size, its mask and each other."""
    agreeing: list[Told] = []
    for file, image in job.told:
        if shape is not None and image.shape not in (None, shape):
            sizes = f"the annotations are for {_said(image.shape or ())} pixels, the picture has {_said(shape)}"
            why = f"{sizes}: they do not match"
            yield Finding("serious", "size-mismatch", file, image.name, why, "run `fncells build` again")
            continue
        placed = image if shape is None else image.with_shape(shape)
        yield from cell_findings(file, placed)
        if cells is not None and placed.shape is not None and cells.shape == placed.shape:
            apart = job.sample.labels_path is not None
            wrong = list(truth_findings(file, placed, cells, apart=apart))
            yield from wrong
            if any(one.kind != "merged-cells" for one in wrong):
                continue
        agreeing.append((file, placed))
    if not agreeing:
        return
    first, image = agreeing[0]
    number = sum(not cell.is_dot for cell in image.cells)
    for file, other in agreeing[1:]:
        others = sum(not cell.is_dot for cell in other.cells)
        if others != number:
            why = f"{others} cells, where {first} has {number}: counts depend on which of them is read"
            advice = "make all formats anew from one of them with `fncells build` or `fncells convert`"
            # The one with fewer cells is the likelier to have lost some.
            at = file if others < number else first
            if at == first:
                why = f"{number} cells, where {file} has {others}: counts depend on which of them is read"
            yield Finding("minor", "formats-disagree", at, other.name, why, advice)


def _said(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
