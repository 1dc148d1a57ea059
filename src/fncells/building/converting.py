"""Pictures converted one by one, each with all the files that are its own; what has been done already is not done again."""

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

import fncells
from fncells import files
from fncells.archive import path_of
from fncells.building.keys import Key, Place
from fncells.building.lab import Lab
from fncells.cells import AnnotatedImage
from fncells.errors import FncellsError, InputError, MissingExtraError
from fncells.formats import codec_named
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
from fncells.index import LABELLED
from fncells.ledger import Ledger
from fncells.truths import PICTURE_TRUTHS
from fncells.workers import in_parallel, prepare

__all__ = ["Outcome", "convert_all", "get_ready"]

_LARGEST_LABEL = np.iinfo(np.uint16).max


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
class Outcome:
    """What has become of the pictures.

    Parameters
    ----------
    facts
        What the index needs of each picture that is in the archive as it should be, and its files with their SHA-256.
    digests, jobs
        SHA-256 of each raw picture that can be read, and the digest of all that its files depend on.
    failed
        Reasons.
    converted
        Number of pictures converted now.
    """

    facts: dict[Key, dict[str, Any]] = field(default_factory=dict)
    digests: dict[Key, str] = field(default_factory=dict)
    jobs: dict[Key, str] = field(default_factory=dict)
    failed: dict[Key, str] = field(default_factory=dict)
    converted: int = 0


def convert_all(
    lab: Lab,
    digests: Mapping[Key, str | OSError],
    places: Mapping[Key, Place],
    archive: Path,
    ledger: Ledger,
    workers: int,
    scheduler: str | None,
) -> Outcome:
    """Convert all pictures whose files are not in the archive as they should be.

    Parameters
    ----------
    lab
        The pictures, and what the lab tells of them.
    digests
        SHA-256 of each picture, or why it cannot be read.
    places
        Where each goes.
    archive
        The archive's folder.
    ledger
        What was done already; it is kept up as the work goes on.
    workers, scheduler
        Who does the work: processes, or the workers of a Dask scheduler.

    Returns
    -------
    Outcome

    Raises
    ------
    OutputError
        If the archive is full or cannot be written.
    """
    outcome = Outcome(failed=dict(lab.broken))
    for key, digest in digests.items():
        if isinstance(digest, OSError):
            outcome.failed[key] = f"cannot be read: {digest.strerror or digest}"
        elif key not in lab.broken:
            outcome.digests[key] = digest
    with ThreadPoolExecutor(workers) as threads:
        jobs = [_job(lab, key, places[key], archive, digest) for key, digest in outcome.digests.items()]
        outcome.jobs = {job.key: job.digest for job in jobs}
        known = [ledger.get("picture", outcome.jobs[job.key]) for job in jobs]
        intact = threads.map(partial(_is_intact, archive), known)
        todo = []
        for job, facts, good in zip(jobs, known, intact, strict=True):
            if facts is not None and good:
                outcome.facts[job.key] = facts
            else:
                todo.append(job)
    with closing(_in_parallel(todo, workers, scheduler)) as done:
        for job, facts in zip(todo, files.progress(done, len(todo), "pictures"), strict=True):
            if "failed" in facts:
                outcome.failed[job.key] = facts["failed"]
            else:
                ledger.put("picture", outcome.jobs[job.key], facts)
                outcome.facts[job.key] = facts
                outcome.converted += 1
    if scheduler is not None:
        files.remove_leftovers(archive)  # of workers that died; their pictures have been done by others
    outcome.facts = {key: outcome.facts[key] for key in places if key in outcome.facts}
    return outcome


def get_ready(workers: int, scheduler: str | None) -> None:
    """Start the processes that will convert, while this one still reads what the lab tells."""
    if scheduler is None:
        prepare(_convert, workers)


def _in_parallel(jobs: list[_Job], workers: int, scheduler: str | None) -> Generator[dict[str, Any], None, None]:
    """Choose where the work is done: in processes of this machine, or by the workers of a Dask scheduler."""
    if scheduler is None:
        yield from in_parallel(_convert, jobs, workers)
        return
    try:
        from dask.distributed import Client
    except ImportError:
        raise MissingExtraError("cluster", "work on a cluster") from None
    from joblib import Parallel, delayed, parallel_config

    try:
        client = Client(scheduler, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("scheduler", expected="the address of a Dask scheduler", found=found) from None
    with client, parallel_config(backend="dask"):
        yield from Parallel(return_as="generator")(delayed(_convert)(job) for job in jobs)


def _job(lab: Lab, key: Key, place: Place, archive: Path, digest: str) -> _Job:
    cells = lab.cells[key] if place.partition in LABELLED else None
    return _Job(key, lab.pictures[key], digest, place, archive, cells, lab.value(key, "pixel_size_um"), lab.plane)


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


def _is_intact(archive: Path, facts: Mapping[str, Any] | None) -> bool:
    """Whether the files of a picture are there as they were made."""
    return facts is not None and all(
        files.try_sha256(archive / path) == digest for path, digest in facts["files"].items()
    )


def _cells_digest(image: AnnotatedImage) -> str:
    digest = hashlib.sha256(repr((image.shape, dict(image.attributes))).encode())
    for cell in image.cells:
        told = (cell.number, cell.marker, cell.score, cell.source_shape, dict(cell.attributes))
        digest.update(repr((told, [len(ring) for ring in cell.rings])).encode())
        for ring in cell.rings:
            digest.update(ring.tobytes())
    return digest.hexdigest()
