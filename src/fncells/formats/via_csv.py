"""VIA's CSV (VGG Image Annotator): one row a region, and one empty row for a picture without any."""

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fncells.cells import AnnotatedImage
from fncells.documents import Place, json_text, kind, parse_json, quoted, read_text
from fncells.files import whole
from fncells.formats.codec import Add, Codec, Unread
from fncells.formats.pictures import Once, PictureFolder
from fncells.formats.regions import Entry, entry_of, file_size_fits, image_of

__all__ = ["CODEC"]

_COLUMNS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


def find(path: Path, images: Path | None = None, *, tied: bool = True) -> Iterator[Unread]:
    """Find the pictures in a CSV of VIA 1 or VIA 2.

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
    Unread
        In the order of first appearance; what is read has VIA's file size and shapes kept for the way back.

    Raises
    ------
    InputError
        If the file is not as VIA writes it; on reading, if rows of a picture contradict each other, or regions are no
        shapes.
    """
    place, pictures = Place(path), PictureFolder(images)
    rows: dict[str, _Rows] = {}
    for line, row in _rows(path):
        known = rows.setdefault(row["filename"], _Rows(line, row["file_size"], row["file_attributes"]))
        known.add(line, row)

    def read(name: str, group: _Rows) -> AnnotatedImage:
        entry = _entry(name, group, place)
        return pictures.complete(image_of(entry, place.at(f"picture {quoted(name)}"), tied=tied))

    for name, group in rows.items():
        yield Unread(name, partial(read, name, group))


@contextmanager
def writing(path: Path) -> Iterator[Add]:
    """Write the CSV of VIA 2.

    Raises
    ------
    InputError
        On adding, if two pictures have one name, or an attribute is nothing that JSON can hold.
    """
    once = Once(Place(None))
    with whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(",".join(_COLUMNS) + "\n")

        def add(image: AnnotatedImage) -> None:
            entry = entry_of(image)
            lines = [",".join(row) + "\n" for row in _rows_of(entry)]
            once.check(entry.name)
            file.writelines(lines)

        yield add


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
    contradiction: int | None = None

    def add(self, line: int, row: Mapping[str, str]) -> None:
        """Add a row, and note the first that says something else of the picture."""
        if (self.size, self.attributes) != (row["file_size"], row["file_attributes"]):
            self.contradiction = self.contradiction or line
        self.regions.append((line, row["region_shape_attributes"], row["region_attributes"]))


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
    if group.contradiction is not None:
        expected = f"the same file size and attributes of {quoted(name)} as on line {group.line}"
        place.at(f"line {group.contradiction}").refuse(expected, "others")
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
    find=find,
    find_foreign=partial(find, tied=False),
    writing=writing,
    recognises=recognises,
    one_file=True,
    loses=("holes and parts become regions of their own",),
)
