"""What is published of an archive: a zip a collection, the index, the data sheet, statistics, and all that they were made from.

The files are those of the published archive, with ``croissant.json`` and checksums beside them, so that
:func:`fncells.fetching.fetch` takes them back. The same archive gives the same bytes.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import fncells
from fncells import files
from fncells.about import ABOUT_NAME, About, read_about
from fncells.archive import INDEX_NAME, LABELLED, Archive, write_index
from fncells.croissant import CROISSANT_NAME, Distributed, write_croissant
from fncells.datasheet import DATASHEET_NAME, write_datasheet
from fncells.errors import InputError
from fncells.fetching import read_checksums
from fncells.ledger import LEDGER_NAME, Ledger
from fncells.measure import Table1
from fncells.report import stats_report
from fncells.statistics import describe

__all__ = ["PackSettings", "PackSummary", "Packed", "pack"]

RAW_ZIP, ANNOTATIONS_ZIP, STATISTICS_ZIP = "raw_data.zip", "annotations.zip", "data_stats.zip"
README_NAME = "README.md"
INDEX_CSV = "metadata_v2.csv"

_WORKSHOP = ".fncells-packing"
_LITTER = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX"})


@dataclass(frozen=True)
class PackSettings:
    """What is published along with an archive.

    Attributes
    ----------
    raw
        Folder of the raw pictures, or the lab folder with ``raw/`` in it.
    annotations
        Annotation files, or folders of them, as the annotators left them.
    protocol
        The rules that were annotated by; it goes into annotations.zip.
    about
        What the lab says of the dataset (title, licence, people, answers for the data sheet); without it, about.toml in the
        archive's folder, if there.
    workers
        Files looked at and pictures measured at the same time. The results do not depend on it.
    """

    raw: Path | None = None
    annotations: tuple[Path, ...] = ()
    protocol: Path | None = None
    about: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if self.workers < 1:
            argument = "workers"
            raise InputError(argument, expected="1 or more", found=str(self.workers))


class Packed(NamedTuple):
    """A file of the packed archive.

    Attributes
    ----------
    file
        Its name.
    status
        ``written`` now, or ``unchanged``.
    size, sha256
        In bytes, and its checksum.
    """

    file: str
    status: Literal["written", "unchanged"]
    size: int
    sha256: str


@dataclass(frozen=True)
class PackSummary:
    """What a run did.

    Attributes
    ----------
    out
        The folder that was written.
    packed
        One entry a file.
    notes
        What whoever publishes it should know.
    """

    out: Path
    packed: tuple[Packed, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Give the summary as values that JSON holds."""
        return {
            "out": self.out.as_posix(),
            "files": [one._asdict() for one in self.packed],
            "notes": list(self.notes),
        }


def pack(archive: Path, out: Path, settings: PackSettings | None = None) -> PackSummary:
    """Make what is published of an archive.

    Parameters
    ----------
    archive
        The archive; where it has ``checksums.sha256``, every file is held against it first.
    out
        Folder for the files; it must lie outside the archive. What has not changed since is not made again.
    settings
        What goes along; None packs the archive alone.

    Returns
    -------
    PackSummary

    Raises
    ------
    InputError
        If the archive or what goes along cannot be read, or is not what its checksums say.
    """
    settings = settings or PackSettings()
    opened = Archive.open(archive)
    _check_places(opened, out)
    about = _about(opened, settings)
    plan = _planned(opened, settings)
    digests = _digests(plan, settings.workers)
    _check_against_list(opened, plan, digests)
    if out.exists() and not out.is_dir():
        raise InputError(out, expected="a folder, or nothing yet", found="a file")
    out.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(out)
    # Written last: a folder without it is one whose run has not come to its end.
    (out / files.CHECKSUMS_NAME).unlink(missing_ok=True)
    contents = {
        name: _digest([name, *members, *map(digests.__getitem__, members.values())]) for name, members in plan.items()
    }
    with Ledger(out / LEDGER_NAME) as ledger:
        press = _Press(opened, about, out, ledger)
        for name, members in plan.items():
            press.put_zip(name, members, contents[name])
        table = press.put_statistics([contents[f"{name}.zip"] for name in opened.collections], settings.workers)
        press.put_texts(table)
        press.finish(contents)
    return PackSummary(out, tuple(press.packed), tuple(_notes(opened, about, settings)))


# What is packed, and from where


def _check_places(archive: Archive, out: Path) -> None:
    if out.resolve().is_relative_to(archive.root.resolve()):
        raise InputError(out, expected="a folder outside the archive", found=f"one in {archive.root}")
    taken = {name.removesuffix(".zip") for name in (RAW_ZIP, ANNOTATIONS_ZIP, STATISTICS_ZIP)}
    for name in archive.collections:
        if name in taken:
            expected = f"a collection of another name than {', '.join(sorted(taken))}"
            raise InputError(archive.root / name, expected=expected, found=name, advice="rename it")


def _about(archive: Archive, settings: PackSettings) -> About:
    if settings.about is not None:
        return read_about(settings.about)
    path = archive.root / ABOUT_NAME
    return read_about(path) if path.exists() else About()


def _planned(archive: Archive, settings: PackSettings) -> dict[str, dict[str, Path]]:
    """Give the zips to make: for each, the files in it by their names there, sorted."""
    plan = {f"{name}.zip": dict(_files_in(archive.root / name, name)) for name in archive.collections}
    if settings.raw is not None:
        folder = settings.raw / "raw" if (settings.raw / "raw").is_dir() else settings.raw
        if not folder.is_dir():
            raise InputError(folder, expected="a folder of raw pictures", found="nothing of that name")
        plan[RAW_ZIP] = dict(_files_in(folder, "raw"))
    given = [*settings.annotations, *([settings.protocol] if settings.protocol is not None else [])]
    if given:
        plan[ANNOTATIONS_ZIP] = _annotations(given)
    for name, members in plan.items():
        if not members:
            raise InputError(name, expected="files to pack", found="none")
    return {name: dict(sorted(members.items())) for name, members in plan.items()}


def _files_in(folder: Path, top: str) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") or part in _LITTER for part in name.parts)
        if not hidden and path.is_file():
            yield f"{top}/{name.as_posix()}", path


def _annotations(given: Sequence[Path]) -> dict[str, Path]:
    members: dict[str, Path] = {}
    for path in given:
        if not path.exists():
            raise InputError(path, expected="annotations, or the rules for them", found="nothing of that name")
        found = _files_in(path, "annotations") if path.is_dir() else [(f"annotations/{path.name}", path)]
        for name, one in found:
            if name in members and members[name].resolve() != one.resolve():
                raise InputError(
                    one, expected="one file of each name", found=f"also {members[name]}", advice="rename one"
                )
            members[name] = one
    return members


def _digests(plan: Mapping[str, Mapping[str, Path]], workers: int) -> dict[Path, str]:
    paths = [path for members in plan.values() for path in members.values()]
    with ThreadPoolExecutor(workers) as threads:
        read = files.progress(threads.map(files.sha256, paths), len(paths), "reading")
        return dict(zip(paths, read, strict=True))


def _check_against_list(archive: Archive, plan: Mapping[str, Mapping[str, Path]], digests: Mapping[Path, str]) -> None:
    """Refuse to publish files that are not what they were when the archive was made."""
    listed = read_checksums(archive.root / files.CHECKSUMS_NAME)
    packed = {name: digests[path] for one in archive.collections for name, path in plan[f"{one}.zip"].items()}
    own = {name for name in listed if name.partition("/")[0] in archive.collections}
    wrong = [name for name in sorted(own) if packed.get(name) != listed[name]]
    wrong += [name for name in sorted(packed) if listed and name not in own]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            archive.root,
            expected=f"the files that {files.CHECKSUMS_NAME} lists",
            found=f"{wrong[0]}{more} missing, changed or not listed",
            advice="`fncells check` tells what is wrong, `fncells build` mends it",
        )


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([fncells.__version__, *parts]).encode()).hexdigest()


# How it is packed


@dataclass
class _Press:
    """Writes the files of a packed archive, and remembers which are as they should be."""

    archive: Archive
    about: About
    out: Path
    ledger: Ledger
    packed: list[Packed] = field(default_factory=list)

    def put_zip(self, name: str, members: Mapping[str, Path], content: str) -> None:
        """Write a zip, unless it is there with the same content."""
        if not self._is_there(name, content):
            files.write_zip(self.out / name, files.progress(members.items(), len(members), name))
            self._keep(name, content)

    def put_statistics(self, contents: Sequence[str], workers: int) -> Table1 | None:
        """Write Table 1 and its figures, and give the table; None where nothing is labelled."""
        samples = self.archive.samples()
        if not any(sample.mask_path is not None for sample in samples):
            return None
        about_each = [f"{one.original_name} {one.pixel_size}" for one in samples]
        content = _digest([STATISTICS_ZIP, *contents, *about_each])
        if self._is_there(STATISTICS_ZIP, content):
            kept: Table1 | None = self.ledger.get("table", content)
            return kept
        workshop = self.out / _WORKSHOP
        shutil.rmtree(workshop, ignore_errors=True)
        try:
            description = describe(self.archive, workers=workers)
            stats_report(workshop, description)
            files.write_zip(self.out / STATISTICS_ZIP, sorted(_files_in(workshop, "data_stats")))
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
        self.ledger.put("table", content, description.table)
        self._keep(STATISTICS_ZIP, content)
        return description.table

    def put_texts(self, table: Table1 | None) -> None:
        """Write what is small: index, data sheet, read-me, and the description for machines that names all others."""
        index = self.archive.root / INDEX_NAME
        if index.exists():
            self._put_text(INDEX_NAME, lambda path: files.write_bytes(path, index.read_bytes()))
        else:
            self._put_text(INDEX_NAME, lambda path: write_index(path, self.archive.index))
        self._put_text(INDEX_CSV, lambda path: files.write_csv(path, self.archive.index))
        self._put_text(DATASHEET_NAME, lambda path: write_datasheet(path, self.archive, self.about, table))
        readme = _readme(self.archive, self.about, self.packed)
        self._put_text(README_NAME, lambda path: files.write_text(path, readme))
        distribution = [Distributed(one.file, one.sha256, one.size) for one in self.packed]
        self._put_text(CROISSANT_NAME, lambda path: write_croissant(path, self.archive, self.about, distribution))

    def finish(self, inputs: Mapping[str, str]) -> None:
        """Remove what an earlier run made and this one did not, and write the record and the checksums."""
        made = [one.file for one in self.packed]
        for name in set(self.ledger.get("made", "") or ()) - set(made):
            (self.out / name).unlink(missing_ok=True)
        self.ledger.put("made", "", made)
        settings = {"collections": list(self.archive.collections)}
        self._put_text(files.RECORD_NAME, lambda path: files.write_record(path.parent, "pack", settings, inputs))
        lines = [f"{one.sha256}  {one.file}\n" for one in sorted(self.packed)]
        files.write_text(self.out / files.CHECKSUMS_NAME, "".join(lines))

    def _put_text(self, name: str, write: Callable[[Path], object]) -> None:
        path = self.out / name
        before = files.sha256(path) if path.is_file() else None
        write(path)
        self._add(name, "unchanged" if files.sha256(path) == before else "written")

    def _is_there(self, name: str, content: str) -> bool:
        path = self.out / name
        if not path.is_file() or self.ledger.get("packed", content) != files.sha256(path):
            return False
        self._add(name, "unchanged")
        return True

    def _keep(self, name: str, content: str) -> None:
        self._add(name, "written")
        self.ledger.put("packed", content, self.packed[-1].sha256)

    def _add(self, name: str, status: Literal["written", "unchanged"]) -> None:
        path = self.out / name
        self.packed.append(Packed(name, status, path.stat().st_size, files.sha256(path)))


_WHAT = {
    RAW_ZIP: "the raw pictures as the microscope wrote them",
    ANNOTATIONS_ZIP: "the annotations as the annotators left them, and the rules for them where there are any",
    STATISTICS_ZIP: "Table 1 and its figures",
    INDEX_NAME: "a row for every picture",
    INDEX_CSV: "the same as CSV",
    DATASHEET_NAME: "what to know before using it",
}


def _readme(archive: Archive, about: About, packed: Sequence[Packed]) -> str:
    title = about.name or f"Fluorescence microscopy cells: {', '.join(archive.collections)}"
    lines = [f"# {title}", ""]
    if about.description:
        lines += [about.description, ""]
    lines += ["| file | what it holds |", "| --- | --- |"]
    for one in packed:
        collection = one.file.removesuffix(".zip")
        lines.append(
            f"| `{one.file}` | {_WHAT.get(one.file) or f'the {collection} collection, in a folder of that name'} |"
        )
    lines += [
        f"| `{CROISSANT_NAME}` | the same for machines (Croissant) |",
        f"| `{files.CHECKSUMS_NAME}` | checksums, for `sha256sum --check` |",
        "",
        "`fncells fetch --source ADDRESS --to FOLDER` gets and unpacks it, with ADDRESS that of the folder of these files.",
    ]
    if about.licence:
        lines += ["", f"Licence: {about.licence}"]
    return "\n".join(lines) + "\n"


def _notes(archive: Archive, about: About, settings: PackSettings) -> Iterator[str]:
    if about.licence is None:
        yield f"no licence is given, so nobody may use it; name one in {ABOUT_NAME}"
    orphans = len(archive.unpaired_masks())
    if orphans:
        yield f"masks without a picture are packed as they are: {orphans}"
    bare = sum(one.partition in LABELLED and one.mask_path is None for one in archive.samples())
    if bare:
        yield f"pictures in trainval or test without a mask: {bare}"
    if settings.annotations and settings.protocol is None:
        yield "no protocol is given that tells by which rules was annotated (--protocol)"
