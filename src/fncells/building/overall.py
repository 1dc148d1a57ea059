"""What belongs to an archive as a whole: ground truths of all pictures of a partition, index, descriptions and checksums."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from fncells.truths import PARTITION_TRUTHS, PICTURE_TRUTHS, truth_path

__all__ = [
    "CHECKSUMS_NAME",
    "remove_strays",
    "write_checksums",
    "write_descriptions",
    "write_lab_index",
    "write_partitions",
]

CHECKSUMS_NAME = "checksums.sha256"


def write_partitions(archive: Path, lab: Lab, shown: Mapping[Key, Place], outcome: Outcome, ledger: Ledger) -> None:
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


def _partition_digest(archive: Path, keys: Iterable[Key], shown: Mapping[Key, Place], outcome: Outcome) -> str:
    """Digest of all that a partition's files depend on: of pictures that are only kept, of their label pictures."""
    parts = [fncells.__version__]
    for key in keys:
        labels = archive / path_of("labels", key.collection, shown[key].partition, str(shown[key].number))
        parts.append(outcome.jobs.get(key) or f"{key} {files.try_sha256(labels)}")
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


def _archived(archive: Path, lab: Lab, key: Key, place: Place, facts: Mapping[str, Any] | None) -> AnnotatedImage:
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


def write_lab_index(
    archive: Path,
    lab: Lab,
    shown: Mapping[Key, Place],
    outcome: Outcome,
    kept: Mapping[Key, Mapping[str, Any]],
) -> None:
    """Write one row a picture: of those that are only kept, the row that they had."""
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
    write_index(archive / INDEX_NAME, index_frame(rows, tuple(columns)))


_FROM_NAME = ("species", "animal", "sample", "column", "row", "area", "side", "region", "zoom")


_FROM_PICTURE = ("width", "height", "camera", "taken", "pixel_size_um", "pixel_size_source", "n_cells")


def remove_strays(archive: Path, places: Mapping[Key, Place], shown: Mapping[Key, Place]) -> None:
    """Remove what a picture left where it no longer belongs: it was labelled since, or has failed after a kill."""
    for key, place in places.items():
        for partition in PARTITIONS:
            if key in shown and shown[key].partition == partition:
                continue
            for kind in ("images", "metadata", "sidecar", *PICTURE_TRUTHS):
                (archive / path_of(kind, key.collection, partition, str(place.number))).unlink(missing_ok=True)


def write_descriptions(archive: Path, about: About) -> None:
    """Write what the archive is for machines and for people, as far as it is known."""
    opened = Archive.open(archive)
    write_croissant(archive / CROISSANT_NAME, opened, about, [Distributed.of(archive / INDEX_NAME)])
    write_datasheet(archive / DATASHEET_NAME, opened, about)


def write_checksums(archive: Path, facts: Mapping[Key, Mapping[str, Any]]) -> None:
    """List the SHA-256 of every file in the form that ``sha256sum --check`` takes."""
    known = {path: digest for made in facts.values() for path, digest in made["files"].items()}
    lines = []
    for path in archive.rglob("*"):
        name = path.relative_to(archive)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.is_file() and not hidden and name != Path(CHECKSUMS_NAME):
            lines.append((name.as_posix(), known.get(name.as_posix()) or files.sha256(path)))
    files.write_text(archive / CHECKSUMS_NAME, "".join(f"{digest}  {name}\n" for name, digest in sorted(lines)))
