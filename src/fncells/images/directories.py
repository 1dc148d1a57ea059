"""Directories of tags, as TIFF files and EXIF blocks have them: read entry by entry, named, and packed into a block again."""

import hashlib
import io
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from PIL import ExifTags

from fncells.images.picture import DamagedError, decoded_text

__all__ = ["check_chain", "exif_tags", "packed_exif", "usable_exif"]

MOST_TAG_BYTES = (
    2**24
)  # one entry; ImageJ's copy of a microscope's own text and OME-XML of large stacks reach megabytes
MOST_BLOCK_BYTES = 2**26  # all entries together: many that point to one long value would multiply it
MOST_ENTRIES = 4096  # of one directory
DEEPEST = 8  # directories below directories
MOST_DIRECTORIES = 2**17  # one behind the other; a film of an hour at thirty pictures a second

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 5: "I", 6: "b", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q"}
_CODES |= {7: "B", 18: "Q"}
_POINTERS = {0x014A: "SubImage", 0x8769: "Photo", 0x8825: "GPSInfo", 0xA005: "Iop"}
_JPEG_START, _JPEG_SIZE = 0x0201, 0x0202
_MAKER_NOTE = 0x927C
_LONGEST_LIST = 1024  # bytes; binary values beyond are summed up, so that the text of the tags stays readable


@dataclass(frozen=True)
class _Entry:
    """One entry of a directory: its value as stored, and the directories or the thumbnail that it points to."""

    tag: int
    kind: int
    raw: bytes
    children: tuple[tuple["_Entry", ...], ...] = ()
    thumbnail: bytes = b""


class _Directories:
    """Reads the directories of a TIFF file or an EXIF block; what is broken is noted and left out."""

    def __init__(self, file: BinaryIO, order: str, big: bool, notes: list[str]) -> None:
        self.file, self.order, self.big, self.notes = file, order, big, notes
        self.size = file.seek(0, io.SEEK_END)
        self.seen: set[int] = set()
        self.depth, self.room = 0, MOST_BLOCK_BYTES

    def read(self, offset: int) -> tuple[tuple[_Entry, ...], int]:
        """Give the entries of the directory at an offset, and the offset of the next one (0: none)."""
        head, numbers, inline, link = ("Q", "HHQ", 8, "Q") if self.big else ("H", "HHI", 4, "I")
        try:
            if offset in self.seen:
                self.notes.append("a directory of the EXIF data leads back to itself")
                return (), 0
            self.seen.add(offset)
            self.file.seek(offset)
            (count,) = self._take(head)
            rows = [(self._take(numbers), self._exactly(inline)) for _ in range(min(count, MOST_ENTRIES))]
            following = self._take(link)[0] if count <= MOST_ENTRIES else 0
        except (EOFError, OSError, OverflowError):
            self.notes.append("a directory of the EXIF data is cut short")
            return (), 0
        if count > MOST_ENTRIES:
            self.notes.append(f"a directory claims {count} tags; those after {MOST_ENTRIES} were left out")
        entries = [self._entry(described, value) for described, value in rows]
        return tuple(entry for entry in entries if entry is not None), following

    def _take(self, form: str) -> tuple[int, ...]:
        form = self.order + form
        return struct.unpack(form, self._exactly(struct.calcsize(form)))

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _entry(self, numbers: tuple[int, ...], inline: bytes) -> _Entry | None:
        tag, kind, count = numbers
        size = _SIZES.get(kind, 0) * count
        self.room -= size
        if kind not in _SIZES or size > MOST_TAG_BYTES or self.room < 0:
            self.room += size
            what = f"holds {size} bytes" if kind in _SIZES else f"is of unknown type {kind}"
            self.notes.append(f"tag 0x{tag:04x} {what} and was left out")
            return None
        raw = inline[:size]
        if size > len(inline):
            offset = int.from_bytes(inline, "little" if self.order == "<" else "big")
            if offset + size > self.size:
                self.notes.append(f"tag 0x{tag:04x} points behind the end of the data and was left out")
                return None
            self.file.seek(offset)
            raw = self.file.read(size)
        if tag in _POINTERS and kind in (4, 13, 16, 18):
            offsets = struct.unpack(f"{self.order}{count}{_CODES[kind]}", raw)
            children = self._below(offsets)
            return _Entry(tag, kind, raw, children) if children else None
        return _Entry(tag, kind, raw)

    def thumbnail(self, entries: tuple[_Entry, ...]) -> tuple[_Entry, ...]:
        """Attach the JPEG that a directory points to."""
        numbers = {entry.tag: int.from_bytes(entry.raw, "little" if self.order == "<" else "big") for entry in entries}
        start, size = numbers.get(_JPEG_START), numbers.get(_JPEG_SIZE)
        if start is None or size is None or not 0 < size <= MOST_TAG_BYTES or start + size > self.size:
            return entries
        self.file.seek(start)
        data = self.file.read(size)
        return tuple(replace(entry, thumbnail=data) if entry.tag == _JPEG_START else entry for entry in entries)

    def _below(self, offsets: tuple[int, ...]) -> tuple[tuple["_Entry", ...], ...]:
        if self.depth == DEEPEST:
            self.notes.append(f"directories of tags lie more than {DEEPEST} deep; those below were left out")
            return ()
        self.depth += 1
        children = tuple(self.read(offset)[0] for offset in offsets)
        self.depth -= 1
        return children


def check_chain(file: BinaryIO) -> None:
    """Refuse a TIFF whose directories lead back to one of them, around which tifffile would run for ever.

    Anything else that is wrong with them is left to the reading; the file stands at its beginning again.
    """
    file.seek(0)
    head = file.read(16)
    order, big = ("<" if head[:2] == b"II" else ">"), head[2:4] in (b"+\x00", b"\x00+")
    number, size, link, start = ("Q", 20, "Q", 8) if big else ("H", 12, "I", 4)
    seen: set[int] = set()
    place = head[start:]
    try:
        (offset,) = struct.unpack_from(order + link, place)
        while offset and offset not in seen and len(seen) < MOST_DIRECTORIES:
            seen.add(offset)
            file.seek(offset)
            (count,) = struct.unpack(order + number, file.read(struct.calcsize(order + number)))
            file.seek(count * size, io.SEEK_CUR)
            (offset,) = struct.unpack(order + link, file.read(struct.calcsize(order + link)))
    except (struct.error, OSError, OverflowError, ValueError):
        return
    finally:
        file.seek(0)
    if offset:
        message = (
            "a TIFF whose directories lead back to themselves"
            if offset in seen
            else f"a TIFF of more than {MOST_DIRECTORIES} directories"
        )
        raise DamagedError(message)


def usable_exif(block: bytes, notes: list[str]) -> bytes | None:
    """Keep an EXIF block if it has the head of one; a PNG may not hold anything else."""
    if not block:
        return None
    if block[:4] not in (b"II*\x00", b"MM\x00*"):
        notes.append("the EXIF data has no valid head and was left out")
        return None
    return block


def exif_tags(block: bytes) -> tuple[dict[str, str], list[str]]:
    """Give the tags of an EXIF block as text by their Exiv2 names, and what is odd about them."""
    notes: list[str] = []
    order = "<" if block.startswith(b"II") else ">"
    reader = _Directories(io.BytesIO(block), order, False, notes)
    tags: dict[str, str] = {}
    offset = struct.unpack(f"{order}I", block[4:8].ljust(4, b"\x00"))[0]
    for group in ("Image", "Thumbnail"):
        if offset == 0:
            break
        entries, offset = reader.read(offset)
        tags.update(_named(entries, group, order))
    return tags, notes


def _named(entries: Iterable[_Entry], group: str, order: str) -> Iterator[tuple[str, str]]:
    for entry in entries:
        yield f"Exif.{group}.{_tag_name(entry.tag, group)}", _value_text(entry, order)
        for number, child in enumerate(entry.children, 1):
            below = _POINTERS[entry.tag]
            yield from _named(child, f"{below}{number}" if below == "SubImage" else below, order)


# Where Exiv2, whose names the published metadata use, and Pillow, whose table is at hand, differ.
_EXIV2_NAMES = {
    0x0201: "JPEGInterchangeFormat",
    0x0202: "JPEGInterchangeFormatLength",
    0x014A: "SubIFDs",
    0x83BB: "IPTCNAA",
    0x8769: "ExifTag",
    0x8825: "GPSTag",
    0x8827: "ISOSpeedRatings",
    0x9290: "SubSecTime",
    0x9291: "SubSecTimeOriginal",
    0x9292: "SubSecTimeDigitized",
    0xA000: "FlashpixVersion",
    0xA002: "PixelXDimension",
    0xA003: "PixelYDimension",
    0xA005: "InteroperabilityTag",
}
_IOP_NAMES = {
    0x0001: "InteroperabilityIndex",
    0x0002: "InteroperabilityVersion",
    0x1000: "RelatedImageFileFormat",
    0x1001: "RelatedImageWidth",
    0x1002: "RelatedImageLength",
}


def _tag_name(tag: int, group: str) -> str:
    tables: Mapping[str, tuple[Mapping[int, str], ...]] = {"GPSInfo": (ExifTags.GPSTAGS,), "Iop": (_IOP_NAMES,)}
    for table in tables.get(group, (_EXIV2_NAMES, ExifTags.TAGS)):
        if tag in table:
            return table[tag]
    return f"0x{tag:04x}"


def _value_text(entry: _Entry, order: str) -> str:
    if entry.kind == 2 or entry.tag == 0x02BC:
        return decoded_text(entry.raw.rstrip(b"\x00"))
    if entry.tag == 0x9286 and entry.raw.startswith(b"ASCII\x00\x00\x00"):
        return decoded_text(entry.raw[8:].rstrip(b"\x00 "))
    if len(entry.raw) > _LONGEST_LIST:
        return f"{len(entry.raw)} bytes, sha256 {hashlib.sha256(entry.raw).hexdigest()}"
    code = _CODES[entry.kind]
    values = struct.unpack(f"{order}{len(entry.raw) // struct.calcsize(order + code)}{code}", entry.raw)
    if entry.kind in (5, 10):
        return " ".join(f"{above}/{below}" for above, below in zip(values[::2], values[1::2], strict=True))
    return " ".join(f"{value:.9g}" if isinstance(value, float) else str(value) for value in values)


def packed_exif(
    file: BinaryIO, order: str, offset: int, big: bool, notes: list[str], thumbnail: int | None = None
) -> bytes | None:
    """Copy a TIFF's directory, with those below it, into an EXIF block of its own, every value byte for byte.

    Parameters
    ----------
    file
        The TIFF.
    order
        Its byte order, ``<`` or ``>``.
    offset, thumbnail
        Where the directory of the picture lies, and that of a reduced picture, which becomes the second of the block.
    big
        Whether it is a BigTIFF.
    notes
        What is odd is added to them.
    """
    reader = _Directories(file, order, big, notes)
    entries, _ = reader.read(offset)
    if not entries:
        return None
    if any(each.tag == _MAKER_NOTE for each in _all_of(entries)):
        notes.append("the maker's note was copied byte for byte; what it says of places in the file no longer holds")
    below = reader.thumbnail(reader.read(thumbnail)[0]) if thumbnail else ()
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8)
    first = _packed(entries, 8, order, more=bool(below))
    return head + first + (_packed(below, 8 + len(first), order) if below else b"")


def _all_of(entries: tuple[_Entry, ...]) -> Iterator[_Entry]:
    for entry in entries:
        yield entry
        for child in entry.children:
            yield from _all_of(child)


def _packed(entries: tuple[_Entry, ...], start: int, order: str, *, more: bool = False) -> bytes:
    """Give the bytes of a directory that begins at `start`, its values behind it, and then the next one if there is more."""
    table, values = bytearray(struct.pack(f"{order}H", len(entries))), bytearray()
    base = start + 2 + 12 * len(entries) + 4
    for entry in entries:
        kind, raw = _narrowed(entry, order)
        if entry.children:
            places = []
            for child in entry.children:
                places.append(base + len(values))
                values += _packed(child, places[-1], order)
            kind, raw = 4, struct.pack(f"{order}{len(places)}I", *places)
        elif entry.thumbnail:
            kind, raw = 4, struct.pack(f"{order}I", base + len(values))
            values += entry.thumbnail + b"\x00" * (len(entry.thumbnail) % 2)
        count = len(raw) // _SIZES[kind]
        if len(raw) > 4:
            place = struct.pack(f"{order}I", base + len(values))
            values += raw + b"\x00" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\x00")
        table += struct.pack(f"{order}HHI", entry.tag, kind, count) + place
    return bytes(table + struct.pack(f"{order}I", base + len(values) if more else 0) + values)


def _narrowed(entry: _Entry, order: str) -> tuple[int, bytes]:
    """Give BigTIFF's 64-bit numbers as 32-bit ones, which is all that EXIF knows; larger ones become 2³² − 1."""
    if entry.kind not in (16, 17, 18):
        return entry.kind, entry.raw
    values = struct.unpack(f"{order}{len(entry.raw) // 8}{_CODES[entry.kind]}", entry.raw)
    signed = entry.kind == 17
    low, high = (-(2**31), 2**31 - 1) if signed else (0, 2**32 - 1)
    return (9 if signed else 4), struct.pack(
        f"{order}{len(values)}{'i' if signed else 'I'}", *(min(max(value, low), high) for value in values)
    )
