"""From a lab's raw folder to an archive: pictures converted and numbered, partitions drawn, ground truths made.

A raw folder holds ``raw/<collection>/`` with the pictures as the microscope wrote them, ``annotations/`` with what the
annotators exported, and ``metadata.xlsx``. What comes out has the layout of the published collections (see
`fncells.archive`; Clissa et al., FNC v2, Data Records). The result depends on the input and the seed alone: it is the same
bytes whatever the number of workers, and however often the work was killed and begun again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from fncells import files
from fncells.building.inputs import find_inputs
from fncells.building.settings import BuildSettings, BuildSummary, Share
from fncells.errors import InputError, OutputError
from fncells.ledger import LEDGER_NAME, Ledger

__all__ = ["BuildSettings", "BuildSummary", "Share", "build"]

LOCK_NAME = f"{LEDGER_NAME}.lock"


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
    # Slow to import: a build that has nothing to do has ended before.
    from fncells.building.converting import get_ready
    from fncells.building.lab import gather
    from fncells.building.making import make

    get_ready(min(settings.workers, len(inputs.pictures)), settings.scheduler)
    lab = gather(inputs, settings.name_pattern, settings.plane)
    inputs.check_unchanged()
    with _opened(archive) as ledger:
        summary = make(lab, inputs, archive, settings, ledger)
        files.settle()
        _remember(archive, ledger, digest, summary)
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


def _unchanged(archive: Path, ledger: Ledger, digest: str | None) -> BuildSummary | None:
    """Tell what the last build told, if it was of the same inputs and every file is there as it made it."""
    known = ledger.get("whole", digest) if digest else None
    if known is None or files.try_sha256(archive / files.CHECKSUMS_NAME) != known["checksums"]:
        return None
    lines = (archive / files.CHECKSUMS_NAME).read_text(encoding="utf-8").splitlines()
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
        value = {"checksums": files.sha256(archive / files.CHECKSUMS_NAME), "summary": asdict(summary)}
        ledger.put("whole", digest, value)
