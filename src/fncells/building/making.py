"""The whole way of a build that has something to do."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from fncells import files
from fncells.archive import path_of
from fncells.building.converting import convert_all
from fncells.building.inputs import Inputs
from fncells.building.keys import Key, Place
from fncells.building.lab import Lab
from fncells.building.overall import (
    remove_strays,
    stale_truths,
    write_checksums,
    write_descriptions,
    write_lab_index,
    write_truths,
)
from fncells.building.settings import BuildSettings, BuildSummary
from fncells.building.splitting import plan, shares
from fncells.index import INDEX_NAME, PARTITIONS, index_records, read_index
from fncells.ledger import Ledger
from fncells.workers import in_parallel

__all__ = ["make"]


def make(lab: Lab, inputs: Inputs, archive: Path, settings: BuildSettings, ledger: Ledger) -> BuildSummary:
    """Make all files of an archive that are not there as they should be.

    Parameters
    ----------
    lab
        What the lab has handed in.
    inputs
        The digests of it.
    archive
        The archive's folder, which no other build is at work in.
    settings
        How to build.
    ledger
        What was done already; it is kept up as the work goes on.

    Returns
    -------
    BuildSummary

    Raises
    ------
    OutputError
        If the archive is full or cannot be written.
    """
    old_rows = _old_rows(archive)
    reserved = _reserved(old_rows, ledger)
    places, warnings = plan(lab, reserved, settings)
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

    stale = stale_truths(archive, lab, shown, outcome, ledger)
    with closing(in_parallel(write_truths, stale, settings.workers)) as at_work:
        index = write_lab_index(archive, lab, shown, outcome, kept)  # in the meantime
        for truths, digests in zip(stale, at_work, strict=True):
            ledger.put(truths.task, truths.digest, digests)
    remove_strays(archive, reserved | places, shown)
    raw_inputs = {f"raw/{key}": digest for key, digest in outcome.digests.items()}
    files.write_record(archive, "build", settings.recorded, {**lab.inputs, **raw_inputs})
    if shown:
        write_descriptions(archive, lab.about, index)
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
        shares=tuple(shares(shown, lab, settings)),
    )


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
