"""What belongs to an archive as a whole: ground truths of all pictures of a partition, index, descriptions and checksums."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fncells
from fncells import files
from fncells.about import About
from fncells.archive import Archive, Sample, path_of
from fncells.building.converting import Outcome
from fncells.building.keys import Key, Place
from fncells.building.lab import Lab
from fncells.cells import AnnotatedImage
from fncells.croissant import CROISSANT_NAME, Distributed, write_croissant
from fncells.datasheet import DATASHEET_NAME, write_datasheet
from fncells.formats import codec_named
from fncells.formats.pictures import FILE_SIZE
from fncells.index import INDEX_COLUMNS, INDEX_NAME, LABELLED, PARTITIONS, index_frame, write_index
from fncells.ledger import Ledger
from fncells.names import parse_name
from fncells.truths import PARTITION_TRUTHS, PICTURE_TRUTHS, Truth, truth_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PartitionTruths",
    "remove_strays",
    "stale_truths",
    "write_checksums",
    "write_descriptions",
    "write_lab_index",
    "write_truths",
]


def stale_truths(
    archive: Path, lab: Lab, shown: Mapping[Key, Place], outcome: Outcome, ledger: Ledger
) -> "list[PartitionTruths]":
    """Tell which partitions' truths are not there as they should be; those of partitions without pictures are removed."""
    stale = []
    for collection in sorted({key.collection for key in shown}):
        for partition in LABELLED:
            keys = [key for key in shown if key.collection == collection and shown[key].partition == partition]
            digest = _partition_digest(archive, keys, shown, outcome)
            pictures = tuple(_pictured(lab, key, shown[key], outcome.facts.get(key)) for key in keys)
            truths = PartitionTruths(archive, collection, partition, digest, pictures)
            if not keys:
                _remove(truths)
            elif ledger.get(truths.task, digest) != _digests(truths):
                stale.append(truths)
    return stale


class _Pictured(NamedTuple):
    """A picture of the archive: its number, and its cells as they were drawn; None where only the archive itself has them."""

    number: int
    cells: AnnotatedImage | None


@dataclass(frozen=True, eq=False)
class PartitionTruths:
    """The ground truths that hold all pictures of a partition; it crosses to the worker process.

    Parameters
    ----------
    archive, collection, partition
        Whose.
    digest
        Digest of all that they depend on.
    pictures
        What they hold.
    """

    archive: Path
    collection: str
    partition: str
    digest: str
    pictures: tuple[_Pictured, ...]

    @property
    def task(self) -> str:
        """What the ledger knows them as."""
        return f"truths of {self.collection}/{self.partition}"

    def path(self, truth: Truth) -> Path:
        """Where one of them lies."""
        return self.archive / truth_path(truth, self.collection, self.partition)


def _pictured(lab: Lab, key: Key, place: Place, facts: Mapping[str, Any] | None) -> _Pictured:
    cells = None if facts is None else lab.cells[key].with_shape((facts["height"], facts["width"]))
    return _Pictured(place.number, cells)


def write_truths(whole: PartitionTruths) -> dict[str, str]:
    """Write the ground truths of a partition, in one pass over its pictures, and tell the SHA-256 of the files by name."""
    truths = PARTITION_TRUTHS.values()
    with ExitStack() as stack:
        # Folders get their names after all files have got theirs.
        targets = [
            whole.path(truth)
            if codec_named(truth.format).one_file
            else stack.enter_context(files.whole_folder(whole.path(truth)))
            for truth in truths
        ]
        stack.enter_context(files.together())
        adds = [
            stack.enter_context(codec_named(truth.format, truth.dialect).writing(target))
            for truth, target in zip(truths, targets, strict=True)
        ]
        for picture in whole.pictures:
            image = _archived(whole, *picture)
            for add in adds:
                add(image)
    return _digests(whole)


def _archived(whole: PartitionTruths, number: int, cells: AnnotatedImage | None) -> AnnotatedImage:
    """Give a picture's cells under its name in the archive, with the outlines as they were drawn."""
    picture = whole.archive / path_of("images", whole.collection, whole.partition, str(number))
    if cells is None:
        # Of a picture that is only kept; the file that keeps outlines as they were drawn goes first, if there.
        sample = Sample(whole.archive, whole.collection, whole.partition, picture.name)
        cells = sample.read_cells("voc" if "voc" in sample.formats else None)
    # VIA finds a picture again by its name and the size of its file.
    return replace(cells, name=picture.name, attributes={**cells.attributes, FILE_SIZE: picture.stat().st_size})


def _digests(whole: PartitionTruths) -> dict[str, str]:
    """SHA-256 of the files, by their paths in the archive."""
    found = []
    for path in (whole.path(truth) for truth in PARTITION_TRUTHS.values()):
        found += sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    return {file.relative_to(whole.archive).as_posix(): files.sha256(file) for file in found if file.is_file()}


def _remove(whole: PartitionTruths) -> None:
    for path in (whole.path(truth) for truth in PARTITION_TRUTHS.values()):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _partition_digest(archive: Path, keys: Iterable[Key], shown: Mapping[Key, Place], outcome: Outcome) -> str:
    """Digest of all that a partition's files depend on: of pictures that are only kept, of their label pictures."""
    parts = [fncells.__version__]
    for key in keys:
        labels = archive / path_of("labels", key.collection, shown[key].partition, str(shown[key].number))
        parts.append(outcome.jobs.get(key) or f"{key} {files.try_sha256(labels)}")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_lab_index(
    archive: Path,
    lab: Lab,
    shown: Mapping[Key, Place],
    outcome: Outcome,
    kept: Mapping[Key, Mapping[str, Any]],
) -> "pd.DataFrame":
    """Write one row a picture, and give them: of those that are only kept, the row that they had."""
    fields = Counter((lab.slice_of(key), key.collection) for key in shown)
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
                "double_marked": filters[lab.slice_of(key)] > 1,
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
    index = index_frame(rows, tuple(columns))
    write_index(archive / INDEX_NAME, index)
    return index


_FROM_NAME = ("species", "animal", "sample", "column", "row", "area", "side", "region", "zoom")


_FROM_PICTURE = ("width", "height", "camera", "taken", "pixel_size_um", "pixel_size_source", "n_cells")


def remove_strays(archive: Path, places: Mapping[Key, Place], shown: Mapping[Key, Place]) -> None:
    """Remove what a picture left where it no longer belongs: it was labelled since, or has failed after a kill."""
    ours = {(key.collection, str(place.number)) for key, place in places.items()}
    belong = {(key.collection, place.partition, str(place.number)) for key, place in shown.items()}
    for collection in {key.collection for key in places}:
        for partition in PARTITIONS:
            for kind in ("images", "metadata", "sidecar", *PICTURE_TRUTHS):
                nameless = archive / path_of(kind, collection, partition, "")
                for path in nameless.parent.glob(f"*{nameless.name}"):
                    stem = path.name.removesuffix(nameless.name)
                    if (collection, stem) in ours and (collection, partition, stem) not in belong:
                        path.unlink()


def write_descriptions(archive: Path, about: About, index: "pd.DataFrame") -> None:
    """Write what the archive is for machines and for people, as far as it is known; its index has just been written."""
    opened = Archive.open(archive, index)
    write_croissant(archive / CROISSANT_NAME, opened, about, [Distributed.of(archive / INDEX_NAME)])
    write_datasheet(archive / DATASHEET_NAME, opened, about)


def write_checksums(archive: Path, facts: Mapping[Key, Mapping[str, Any]]) -> None:
    """List the SHA-256 of every file in the form that ``sha256sum --check`` takes."""
    known = {path: digest for made in facts.values() for path, digest in made["files"].items()}
    lines = []
    for folder, _, names in os.walk(archive):
        below = Path(folder).relative_to(archive).as_posix()
        for name in names if below == "." else [f"{below}/{name}" for name in names]:
            hidden = any(part.startswith(".") for part in name.split("/"))
            if not hidden and name != files.CHECKSUMS_NAME and (name in known or (archive / name).is_file()):
                lines.append((name, known.get(name) or files.sha256(archive / name)))
    files.write_text(archive / files.CHECKSUMS_NAME, "".join(f"{digest}  {name}\n" for name, digest in sorted(lines)))
