"""VIA's CSV (VGG Image Annotator): one row a region, and one empty row for a picture without any."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fncells.cells import AnnotatedImage
from fncells.files import whole
from fncells.formats.codec import Codec
from fncells.formats.documents import Place, json_text, kind, parse_json, quoted, read_text
from fncells.formats.pictures import PictureFolder
from fncells.formats.regions import Entry, Once, entry_of, file_size_fits, image_of

__all__ = ["CODEC", "read", "recognises", "write"]

_COLUMNS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


def read(path: Path, images: Path | None = None, *, tied: bool = True) -> Iterator[AnnotatedImage]:
    """Read a CSV of VIA 1 or VIA 2.

    Rows are put together by file name, wherever they stand; ``region_count`` and ``region_id``, which need not be true,
    are not used.

    Parameters
    ----------
    path
        The CSV file.
    images
        The folder of the pictures; gives their shapes, which VIA does not hold.
    tied
        Whether to join the regions that are parts or holes of one cell.

    Yields
    ------
    AnnotatedImage
        In the order of first appearance, with VIA's file size and shapes kept for the way back.

    Raises
    ------
    InputError
        If the file is not as VIA writes it, rows of one picture contradict each other, or regions are no shapes.
    """
    place, pictures = Place(path), PictureFolder(images)
    rows: dict[str, _Rows] = {}
    for line, row in _rows(path):
        where = place.at(f"line {line}")
        name, size, attributes = row["filename"], row["file_size"], row["file_attributes"]
        known = rows.setdefault(name, _Rows(line, size, attributes))
        if (known.size, known.attributes) != (size, attributes):
            where.refuse(f"the same file size and attributes of {quoted(name)} as on line {known.line}", "others")
        known.regions.append((line, row["region_shape_attributes"], row["region_attributes"]))
    for name, group in rows.items():
        entry = _entry(name, group, place)
        yield pictures.complete(image_of(entry, place.at(f"picture {quoted(name)}"), tied=tied))


def write(path: Path, images: Iterable[AnnotatedImage]) -> None:
    """Write the CSV of VIA 2.

    Parameters
    ----------
    path
        The file.
    images
        Pictures and cells; they are written as they come.

    Raises
    ------
    InputError
        If two pictures have one name, or an attribute is nothing that JSON can hold.
    """
    once = Once(Place(None))
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(",".join(_COLUMNS) + "\n")
        for image in images:
            entry = entry_of(image)
            once.check(entry.name)
            file.writelines(",".join(row) + "\n" for row in _rows_of(entry))


def recognises(path: Path) -> bool:
    """Tell by the first line whether a file is VIA's CSV."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        header = file.readline(10_000)
    return b"filename" in header and b"region_shape_attributes" in header


@dataclass
class _Rows:
    """What the rows of one picture say: where its first stands, its size and attributes, and its regions as text."""

    line: int
    size: str
    attributes: str
    regions: list[tuple[int, str, str]] = field(default_factory=list)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by column, each with the number of the line it ends on."""
    place = Place(path)
    # A cell outlined by ten thousand points is longer than the 131,072 characters that the csv module takes by itself.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [name.strip().removeprefix("#") for name in next(reader)]
        if sorted(header) != sorted(_COLUMNS):
            place.at("line 1").refuse(f"the columns {', '.join(_COLUMNS)}", ", ".join(header) or "none")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                place.at(f"line {reader.line_num}").refuse(f"{len(header)} values", f"{len(row)}")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        place.at(f"line {reader.line_num}").refuse("CSV", str(error))


def _entry(name: str, group: _Rows, place: Place) -> Entry:
    where = place.at(f"line {group.line}")
    size = group.size.strip() or "-1"
    if not file_size_fits(size):
        where.refuse("a whole number of bytes, or -1, as file_size", quoted(group.size))
    regions = []
    for line, shape_text, attributes_text in group.regions:
        here = place.at(f"line {line}")
        shape, attributes = (_json(text, here) for text in (shape_text, attributes_text))
        if shape or attributes:
            regions.append({"shape_attributes": shape, "region_attributes": attributes})
    return Entry(name, int(size), _json(group.attributes, where), regions)


def _json(text: str, place: Place) -> dict[str, Any]:
    value = parse_json(text, place) if text.strip() else {}
    if not isinstance(value, dict):
        place.refuse("a JSON object", kind(value))
    return value


def _rows_of(entry: Entry) -> Iterator[list[str]]:
    picture = [_text(entry.name), str(entry.size), _quoted(json_text(entry.file_attributes)), str(len(entry.regions))]
    if not entry.regions:
        yield [*picture, "0", '"{}"', '"{}"']
    for index, region in enumerate(entry.regions):
        shape, attributes = (region.get(key, {}) for key in ("shape_attributes", "region_attributes"))
        yield [*picture, str(index), _quoted(json_text(shape)), _quoted(json_text(attributes))]


def _text(text: str) -> str:
    return _quoted(text) if any(character in text for character in ',"\r\n') or text != text.strip() else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


CODEC = Codec(
    name="via-csv",
    read=read,
    read_foreign=partial(read, tied=False),
    write=write,
    recognises=recognises,
    one_file=True,
    loses=("holes and parts become regions of their own",),
)
