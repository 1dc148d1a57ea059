"""Files written whole or not at all, and pictures found by name.

Everything that fncells writes goes through this room: first into a temporary sibling, then renamed into place, so that a
killed run leaves no half-written file. What is written depends on the content alone: no dates, no machine, no order of work.
"""

import csv
import hashlib
import io
import json
import os
import shutil
import sys
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import fncells
from fncells.errors import OF_WRITING, InputError, OutputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CHECKSUMS_NAME",
    "MICROSCOPE_SUFFIXES",
    "PICTURE_SUFFIXES",
    "RECORD_NAME",
    "Source",
    "find_pictures",
    "progress",
    "read_record",
    "remove_leftovers",
    "settle",
    "sha256",
    "show_progress",
    "together",
    "try_sha256",
    "whole",
    "whole_folder",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_record",
    "write_text",
    "write_workbook",
    "write_zip",
]

PICTURE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".tif", ".tiff"})
MICROSCOPE_SUFFIXES = frozenset(
    {".czi", ".dv", ".ims", ".lif", ".lsm", ".nd2", ".oib", ".oif", ".sldy", ".stk", ".vsi", ".zvi"}
)
RECORD_NAME = "fncells-run.json"
CHECKSUMS_NAME = "checksums.sha256"  # of an archive, and of what is published of it

_COMPRESSED = frozenset({".docx", ".gz", ".jpeg", ".jpg", ".pdf", ".png", ".xlsx", ".zip"})
_TEMPORARY = ".fncells-tmp-"
_ROWS_TO_COME = 1000  # of a sheet, for which its lists of choices hold as well
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can hold
_shown = {"progress": False}
_waiting: ContextVar[dict[Path, Path] | None] = ContextVar("files written together, and their names", default=None)

Item = TypeVar("Item")


class Source(NamedTuple):
    """A picture to work on.

    Parameters
    ----------
    path
        Where the file is.
    name
        The path relative to the input it was found under, with forward slashes, suffix included.
    """

    path: Path
    name: str


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write, and put it into place only when the block ends without an error.

    Parameters
    ----------
    path
        The file to make or replace; missing folders above it are made.

    Yields
    ------
    pathlib.Path
        A file name in the same folder with the same suffix, not yet existing.

    Raises
    ------
    OutputError
        If the folder is full or cannot be written.
    """
    temporary, waiting = _sibling(path), _waiting.get()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if waiting is not None:
            waiting[temporary] = path
            return
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if _is_of_writing(error, temporary):
            raise OutputError(path.parent, error) from error
        raise
    finally:
        if waiting is None or temporary not in waiting:
            _discard(temporary)


@contextmanager
def together() -> Iterator[None]:
    """Let the files that are written in the block get their names when it ends, in their order, and none if it fails.

    A kill leaves each of them old or new. They are not waited for one by one, which takes longer than making small ones:
    `settle` waits for all that has been written, and until then a power cut can damage them.

    Raises
    ------
    OutputError
        If a folder is full or cannot be written.
    """
    waiting: dict[Path, Path] = {}
    token = _waiting.set(waiting)
    try:
        yield
        for temporary, path in waiting.items():
            temporary.replace(path)
    except OSError as error:
        for temporary, path in waiting.items():
            if _is_of_writing(error, temporary):
                raise OutputError(path.parent, error) from error
        raise
    finally:
        _waiting.reset(token)
        for temporary in waiting:
            _discard(temporary)


def settle() -> None:
    """Wait until all that this machine has written is on its disks, where the system can tell."""
    if hasattr(os, "sync"):
        os.sync()


def _discard(temporary: Path) -> None:
    with suppress(OSError):  # of a folder that cannot be written, which has been told
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary sibling folder to fill, and put it into the place of the old one when the block ends without an error.

    Parameters
    ----------
    path
        The folder to make or replace, with all that is in it.

    Yields
    ------
    pathlib.Path
        An empty folder beside it.

    Raises
    ------
    OutputError
        If the folder above is full or cannot be written.
    """
    temporary, old = _sibling(path), _sibling(path.with_name(f"{path.name}.old"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    except OSError as error:
        if _is_of_writing(error, temporary):
            raise OutputError(path.parent, error) from error
        raise
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def _sibling(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")


def _is_of_writing(error: OSError, temporary: Path) -> bool:
    """Tell it from what is said of a file that was read while this one was written."""
    ours = (temporary, *temporary.parents)
    return error.errno in OF_WRITING or (isinstance(error.filename, str | Path) and Path(error.filename) in ours)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files and folders that a killed run has left anywhere under a folder."""
    for path in list(folder.rglob(f"{_TEMPORARY}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole."""
    with whole(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8 with the line ends as given."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, keys in their own order; NaN and infinity, which JSON does not know, raise ValueError."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV (RFC 4180 quoting, newline line ends, empty for unknown)."""
    write_text(path, table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL))


def write_workbook(
    path: Path, sheets: "Mapping[str, pd.DataFrame]", choices: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write tables as the sheets of an Excel workbook whose bytes depend on the tables alone.

    Texts stay texts: nothing that begins with ``=`` becomes a formula, and no address becomes a link.

    Parameters
    ----------
    path
        The workbook.
    sheets
        Tables by the names of their sheets.
    choices
        What the cells of a column may hold, by its name: they offer it as a list, also in rows that are added later.
    """
    import pandas as pd

    # In memory, so that no other folder than the workbook's must have room, and one that is full is told as everywhere.
    options = {"strings_to_formulas": False, "strings_to_urls": False, "in_memory": True}
    book = io.BytesIO()
    with pd.ExcelWriter(book, engine="xlsxwriter", engine_kwargs={"options": options}) as writer:
        writer.book.set_properties({"created": datetime(*_FIXED_DATE, tzinfo=UTC)})
        for name, table in sheets.items():
            table.to_excel(writer, sheet_name=name, index=False, freeze_panes=(1, 0))
            writer.sheets[name].autofit()
            for position, column in enumerate(table.columns):
                if allowed := (choices or {}).get(str(column)):
                    rule = {
                        "validate": "list",
                        "source": list(allowed),
                        "error_title": str(column),
                        "error_message": f"One of: {', '.join(allowed)}; or nothing.",
                    }
                    writer.sheets[name].data_validation(1, position, len(table) + _ROWS_TO_COME, position, rule)
    write_bytes(path, book.getvalue())


def write_zip(path: Path, members: Iterable[tuple[str, bytes | Path]], comment: bytes = b"") -> None:
    """Write a zip archive of named members with fixed dates.

    Parameters
    ----------
    path
        The file.
    members
        Names and contents. Files are read piece by piece, whatever their size; what is compressed already (PNG, JPEG, zip…) is
        stored as it is.
    comment
        The archive's comment, which programs that unpack it pass over; at most 65,535 bytes.
    """
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.comment = comment
        for name, content in members:
            entry = zipfile.ZipInfo(name, date_time=_FIXED_DATE)
            entry.create_system = 3  # Unix, on Windows as well
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            if isinstance(content, bytes):
                archive.writestr(entry, content)
                continue
            if content.suffix.lower() in _COMPRESSED:
                entry.compress_type = zipfile.ZIP_STORED
            entry.file_size = content.stat().st_size  # tells whether the entry must hold more than 2 GiB
            with content.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 2**20)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal text."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def try_sha256(path: Path) -> str | OSError:
    """SHA-256 of a file's content, or why it cannot be read."""
    try:
        return sha256(path)
    except OSError as error:
        return error


def find_pictures(inputs: Sequence[Path]) -> list[Source]:
    """Find pictures by their suffix in files and, with their sub-folders, in folders.

    Parameters
    ----------
    inputs
        Files and folders. A file is taken whatever its suffix; hidden files in folders are passed over. A link that leads
        nowhere is a picture too: one that cannot be read.

    Returns
    -------
    list of Source
        Ordered by name.

    Raises
    ------
    InputError
        If an input does not exist, or two pictures would share the name of their results: ``a.png`` and ``a.tif``, but also
        ``a.tif`` and ``A.tif``, or two spellings of one ``é``, which many file systems and tables do not tell apart.
    """
    sources = sorted((source for path in inputs for source in _sources(path)), key=lambda source: source.name)
    seen: dict[str, Source] = {}
    for source in sources:
        stem = _folded(str(PurePosixPath(source.name).with_suffix("")))
        if stem in seen and os.path.realpath(seen[stem].path) != os.path.realpath(source.path):
            raise InputError(
                source.path,
                expected="one picture of each name (suffix, case, accents and blanks at the ends aside)",
                found=f"also {seen[stem].path}",
                advice="rename one, or give the folders one at a time",
            )
        seen.setdefault(stem, source)
    return list(seen.values())


def _folded(name: str) -> str:
    """Give the name as those file systems and tables see it that know the fewest differences."""
    return "/".join(part.strip() for part in unicodedata.normalize("NFC", name).casefold().split("/"))


def _sources(path: Path) -> Iterator[Source]:
    if path.is_dir():
        for found in path.rglob("*"):
            relative = found.relative_to(path)
            hidden = any(part.startswith(".") for part in relative.parts)
            known = found.suffix.strip().lower() in PICTURE_SUFFIXES | MICROSCOPE_SUFFIXES
            if known and not hidden and (found.is_file() or _leads_nowhere(found)):
                yield Source(found, relative.as_posix())
    elif path.exists():
        yield Source(path, path.name)
    else:
        raise InputError(path, expected="a picture or a folder of pictures", found="nothing of that name")


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def write_record(
    folder: Path,
    command: str,
    settings: Mapping[str, object],
    inputs: Mapping[str, str],
    model: str | None = None,
) -> None:
    """Write what made a folder's content, so that it can be told and repeated, as ``fncells-run.json``.

    Parameters
    ----------
    folder
        The output folder.
    command
        Name of the command.
    settings
        What the results depend on, and nothing else: no dates, workers or absolute paths.
    inputs
        SHA-256 of each input by its relative name.
    model
        SHA-256 of the model, where one was used.
    """
    record: dict[str, object] = {"fncells": fncells.__version__, "command": command, "settings": dict(settings)}
    if model is not None:
        record["model_sha256"] = model
    record["inputs"] = dict(sorted(inputs.items()))
    write_json(folder / RECORD_NAME, record)


def read_record(folder: Path) -> dict[str, object] | None:
    """Read a folder's ``fncells-run.json``; None where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def show_progress(shown: bool) -> None:
    """Switch the progress display on standard error on or off; it is off at first."""
    _shown["progress"] = shown


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass items on, saying on standard error how far they have come: a bar on a terminal, plain lines otherwise."""
    if not _shown["progress"]:
        yield from items
        return
    step = max(1, total // 10)
    terminal = sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        yield item
        if terminal:
            bar = "█" * (20 * done // max(total, 1))
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{what} {bar:<20} {done}/{total}{end}")
            sys.stderr.flush()
        elif done % step == 0 or done == total:
            sys.stderr.write(f"{what}: {done} of {total}\n")
