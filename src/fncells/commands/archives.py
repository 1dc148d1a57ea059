"""What to do with an archive: check, describe, publish and get it."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fncells.commands.common import AS_USUAL, Common, is_archive, name_failures, warn

__all__ = ["check", "fetch", "pack", "stats"]


def check(
    target: Path,
    /,
    *,
    images: Path | None = None,
    out: Path | None = None,
    workers: int = 1,
    common: Common = AS_USUAL,
) -> int:
    """Find what is wrong in an archive or in annotations.

    Each finding says how serious it is, where it is, why it matters and what to do. The exit code is 1 where something serious
    was found.

    Example: fncells check archive --out audit

    Parameters
    ----------
    target
        An archive, or an annotation file or folder.
    images
        Folder of the annotated pictures, for annotation files that do not hold their sizes.
    out
        Folder for the findings as findings.csv, findings.json and a page that shows them.
    workers
        Processes to work with.
    """
    from fncells.audit import audit_annotations, audit_archive

    archive = is_archive(target)
    findings = audit_archive(target, workers) if archive else audit_annotations(target, images)
    lines = [f"{one.severity}: {one.file}{_place(one.place)}: {one.why}; {one.advice}" for one in findings]
    serious = sum(one.severity == "serious" for one in findings)
    summary = {"serious": serious, "findings": [dataclasses.asdict(one) for one in findings]}
    lines.append(f"{len(findings)} {'finding' if len(findings) == 1 else 'findings'}, {serious} of them serious")
    if out is not None:
        from fncells.archive import Archive
        from fncells.report import write_audit

        root = Archive.open(target).root if archive else target if target.is_dir() else target.parent
        lines.append(f"open {write_audit(out, findings, target.name, root, images)}")
    common.result(summary, "\n".join(lines))
    return 1 if serious else 0


def stats(
    archive: Path,
    /,
    *,
    counts: Literal["per-picture", "published"] = "per-picture",
    out: Path | None = None,
    workers: int = 1,
    common: Common = AS_USUAL,
) -> int:
    """Describe an archive's cells: the paper's Table 1 and figures.

    Collections of the paper's names are also held against what it prints.

    Example: fncells stats archive --out statistics

    Parameters
    ----------
    archive
        The archive.
    counts
        Cell counts per picture, or weighted by objects as the paper's Table 1 prints them.
    out
        Folder for Table 1 (table1.csv, .md, .json; beside_paper.csv for the paper's collections), how hard each picture is
        (challenges.csv), figures and a page.
    workers
        Processes to work with.
    """
    from fncells.archive import Archive
    from fncells.measure import paper_markdown, table1_markdown
    from fncells.statistics import describe

    description = describe(Archive.open(archive), counts, workers, challenges=out is not None)
    if out is not None:
        from fncells.report import stats_report

        stats_report(out, description)
    name_failures(description.failed)
    beside = paper_markdown(description.table)
    common.result(description.table, table1_markdown(description.table) + (f"\n{beside}" if beside else ""))
    return 1 if description.failed else 0


def pack(
    archive: Path,
    out: Path,
    /,
    *,
    raw: Path | None = None,
    annotations: Annotated[list[Path] | None, Parameter(negative="", consume_multiple=True)] = None,
    protocol: Path | None = None,
    about: Path | None = None,
    workers: int = 1,
    common: Common = AS_USUAL,
) -> int:
    """Make what is published of an archive: a zip a collection, index, data sheet, statistics.

    Every file is held against the archive's checksums first. With the files come README.md, croissant.json and checksums, so
    that `fncells fetch --source OUT` takes them back. The same archive gives the same bytes; what has not changed is not made
    again.

    Example: fncells pack archive published --raw lab --annotations lab/annotations --about about.toml

    Parameters
    ----------
    archive
        The archive.
    out
        Folder for the files.
    raw
        Folder of the raw pictures, or the lab folder with raw/ in it, to publish them too.
    annotations
        Annotation files or folders, to publish them too.
    protocol
        The rules that were annotated by; it goes into annotations.zip.
    about
        What pictures cannot tell: title, licence, people, answers for the data sheet (TOML). Without it, about.toml in the
        archive's folder, if there.
    workers
        Files and pictures worked on at the same time.
    """
    from fncells.packing import PackSettings
    from fncells.packing import pack as pack_archive

    settings = PackSettings(raw, tuple(annotations or ()), protocol, about, workers)
    summary = pack_archive(archive, out, settings)
    warn(summary.notes)
    lines = [f"{one.file}: {one.status}, {one.size} bytes" for one in summary.packed]
    common.result(summary.as_dict(), "\n".join([*lines, f"in {out}"]))
    return 0


def fetch(
    what: Annotated[list[str] | None, Parameter(negative="")] = None,
    /,
    *,
    to: Path,
    source: str | None = None,
    common: Common = AS_USUAL,
) -> int:
    """Get the published archive, or one that pack made, by collection.

    The index, the data sheet and the other small files come along. Checksums are verified where they are known and recorded
    where they are not; what is there already is not fetched again. The same command again goes on where a download broke off.

    Example: fncells fetch green yellow --to archive

    Parameters
    ----------
    what
        Out of green, red, yellow, raw, annotations and statistics; without any, all collections.
    to
        Folder for the archive.
    source
        Folder or address (http, https, file) of an archive that `fncells pack` made, instead of the published one.
    """
    from fncells.fetching import fetch as fetch_archive

    summary = fetch_archive(what or [], to, source)
    name_failures(summary.failures)
    lines = [
        f"{one.file}: {one.status}, SHA-256 {one.checksum}: {one.sha256}" for one in summary.fetched if not one.reason
    ]
    lines += [f"licence, as {name} says: {', '.join(found)}" for name, found in summary.licences.items()]
    common.result(summary.as_dict(), "\n".join([*lines, f"in {to}"]))
    if not summary.failures:
        return 0
    return 1 if len(summary.failures) < len(summary.fetched) else 2


def _place(place: str | None) -> str:
    return f", {place}" if place else ""
