"""PNG pictures: chunks walked by hand, so that nothing in them is lost; pixels from OpenCV; written with all tags."""

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells import files
from fncells.errors import InputError
from fncells.images.directories import usable_exif
from fncells.images.picture import Content, DamagedError, Picture, Pixels, checked_shape, decoded_text
from fncells.images.vendors import FAMILIES

__all__ = ["PNG", "eight_or_sixteen", "png_shape", "read_png", "write_png"]

MOST_TEXT_BYTES = 2**26  # what the compressed texts and profiles of a PNG may unpack to together

PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\x00\x00"

_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_XMP_KEYWORD = "XML:com.adobe.xmp"


class _Header(NamedTuple):
    width: int
    height: int
    bits: int
    colour: int
    interlaced: int

    @property
    def raw_size(self) -> int:
        """Bytes of the unpacked rows, each with its filter byte."""
        bits = self.bits * _PNG_SAMPLES[self.colour]
        passes = _PNG_PASSES if self.interlaced else ((0, 0, 1, 1),)
        sizes = ((-((x - self.width) // dx), -((y - self.height) // dy)) for x, y, dx, dy in passes)
        return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def _png_header(file: BinaryIO) -> _Header:
    file.seek(len(PNG))
    head = file.read(25)
    if len(head) < 25 or head[4:8] != b"IHDR":
        message = "a PNG cut short in its head"
        raise DamagedError(message)
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head[8:21])
    checked_shape(height, width)
    if bits not in _PNG_DEPTHS.get(colour, ()) or interlaced > 1:
        message = f"a PNG of unknown kind (colour type {colour}, {bits} bits, interlace {interlaced})"
        raise DamagedError(message)
    return _Header(width, height, bits, colour, interlaced)


def png_shape(file: BinaryIO) -> tuple[int, int]:
    """Give height and width from the head of the file."""
    header = _png_header(file)
    return header.height, header.width


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give kind and content of each chunk, with their checksums verified."""
    place = len(PNG)
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        check = data[place + 8 + size : place + 12 + size]
        if len(check) < 4:
            break
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(check, "big"):
            message = f"a damaged PNG (the checksum of its {decoded_text(kind)} at byte {place} is wrong)"
            raise DamagedError(message)
        yield kind, content
        if kind == b"IEND":
            return
        place += 12 + size
    message = "a PNG cut short"
    raise DamagedError(message)


# Chunks that belong to the pixels as the file stores them, which are stored anew, or to an animation.
_OF_THE_PIXELS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"bKGD", b"hIST", b"sBIT", b"acTL", b"fcTL", b"fdAT"}
)
_RAW_PROFILE = "Raw profile type "


def read_png(file: BinaryIO) -> Content:
    """Read a PNG with every chunk that tells something."""
    header = _png_header(file)
    file.seek(0)
    data = file.read()
    notes: list[str] = []
    told = _Told()
    packed = []
    for kind, content in _png_chunks(data):
        if kind == b"IDAT":
            packed.append(content)
        elif kind == b"acTL":
            notes.append("the file is animated; its first picture was taken")
        elif kind == b"tRNS" or (kind == b"IHDR" and header.colour in (4, 6)):
            notes.append("the alpha channel was dropped")
        elif kind not in _OF_THE_PIXELS:
            told.add(kind, content, notes)
    _check_rows(packed, header.raw_size)
    if header.colour == 3:
        notes.append("the colours were converted from a palette to RGB")
    return Content(_decoded_png(data, header), usable_exif(told.exif, notes), told.tags, notes, told.blocks)


class _Told:
    """What the chunks of a PNG tell beside the pixels."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.blocks: dict[str, bytes] = {}
        self.exif = b""
        self._room = MOST_TEXT_BYTES

    def add(self, kind: bytes, content: bytes, notes: list[str]) -> None:
        if kind == b"eXIf":
            self.exif = content.removeprefix(_EXIF)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            self._add_text(kind, content, notes)
        elif kind == b"iCCP":
            packed = content.partition(b"\x00")[2][1:]
            self.blocks["icc"] = self._unpacked(packed, notes)
        else:
            self.blocks[decoded_text(kind)] = content

    def _add_text(self, kind: bytes, content: bytes, notes: list[str]) -> None:
        keyword, _, rest = content.partition(b"\x00")
        name = keyword.decode("latin-1")
        if kind == b"tEXt":
            text = rest.decode("latin-1")
        elif kind == b"zTXt":
            text = self._unpacked(rest[1:], notes).decode("latin-1")
        else:
            behind = rest[2:].partition(b"\x00")[2].partition(b"\x00")[2]  # the language and the translated keyword
            text = decoded_text(self._unpacked(behind, notes) if rest[:1] == b"\x01" else behind)
        profile = _raw_profile(text) if name.startswith(_RAW_PROFILE) else None
        if profile is not None:
            self._add_profile(name.removeprefix(_RAW_PROFILE), profile)
        else:
            tag = _tag_of_keyword(name)
            self.tags[tag] = f"{self.tags[tag]}\n{text}" if tag in self.tags else text

    def _add_profile(self, name: str, profile: bytes) -> None:
        """Take what ImageMagick, and we, put into texts for want of a chunk."""
        if name == "exif":
            self.exif = self.exif or profile.removeprefix(_EXIF)
        elif name == "xmp":
            self.tags.setdefault("Xmp.packet", decoded_text(profile))
        else:
            self.blocks[name] = profile

    def _unpacked(self, data: bytes, notes: list[str]) -> bytes:
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(data, self._room + 1)
        except zlib.error:
            notes.append("a compressed text or profile is damaged and was left out")
            return b""
        if len(text) > self._room:
            notes.append(f"compressed texts or profiles unpack to more than {MOST_TEXT_BYTES} bytes and were cut")
            text = text[: self._room]
        self._room -= len(text)
        return text


def _raw_profile(text: str) -> bytes | None:
    """Decode a profile in ImageMagick's form: its name, its length and hexadecimal digits, on lines of their own."""
    match = re.fullmatch(r"\s*\S+\s+(\d{1,9})\s+([0-9a-fA-F\s]*)", text)
    if match is None:
        return None
    digits = "".join(match[2].split())
    return bytes.fromhex(digits) if len(digits) == 2 * int(match[1]) else None


def _check_rows(packed: list[bytes], size: int) -> None:
    """Refuse a PNG whose rows are not all there, which decoders fill up with black or complain of on standard error."""
    unpacker, rest, total = zlib.decompressobj(), b"".join(packed), 0
    while rest and total < size and not unpacker.eof:
        total += len(unpacker.decompress(rest, 2**22))
        rest = unpacker.unconsumed_tail
    total += len(unpacker.flush()) if total < size else 0
    if total < size:
        message = f"a PNG that holds {total} of the {size} bytes of its rows"
        raise DamagedError(message)


def _decoded_png(data: bytes, header: _Header) -> Pixels:
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape[:2] != (header.height, header.width):
        message = "a damaged PNG"
        raise DamagedError(message)
    pixels = eight_or_sixteen(decoded)
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if header.colour in (0, 4) else pixels[..., 2::-1]  # OpenCV has blue first


def eight_or_sixteen(array: NDArray[np.generic]) -> Pixels:
    """Give values in the machine's byte order."""
    return array.astype(np.uint16 if array.dtype.itemsize == 2 else np.uint8, copy=False)


def _tag_of_keyword(keyword: str) -> str:
    if keyword == _XMP_KEYWORD:
        return "Xmp.packet"
    return keyword if keyword.startswith(FAMILIES) else f"Png.{keyword}"


def _keyword_of_tag(tag: str) -> str:
    return _XMP_KEYWORD if tag == "Xmp.packet" else tag.removeprefix("Png.")


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture as PNG without loss: 8 or 16 bit, grey or RGB, its EXIF block byte for byte.

    Tags from elsewhere than the EXIF block (comments, XMP, a vendor's own) are written as texts, so that reading the PNG gives
    the same tags and the same pixel size again. The same picture always gives the same bytes.

    Parameters
    ----------
    path
        The file to make or replace, put into place whole.
    picture
        Its name and notes are not written.

    Raises
    ------
    InputError
        If the pixels are not uint8 or uint16 of shape (height, width) or (height, width, 3).
    """
    pixels = picture.pixels
    grey_or_rgb = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype not in (np.uint8, np.uint16) or not grey_or_rgb or not pixels.size:
        found = f"{pixels.dtype} of shape {pixels.shape}"
        raise InputError(path, expected="uint8 or uint16 pixels, grey or RGB", found=found)
    done, encoded = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[..., ::-1])
    if not done:  # pragma: no cover - OpenCV refuses nothing of what was let through
        raise InputError(path, expected="pixels that OpenCV can write as PNG", found=f"shape {pixels.shape}")
    data = encoded.tobytes()
    behind_header = len(PNG) + 25
    extra = b"" if picture.exif is None else _chunk(b"eXIf", picture.exif)
    extra += b"".join(_block_chunk(name, block, grey=pixels.ndim == 2) for name, block in picture.blocks.items())
    for tag, value in picture.tags.items():
        keyword = _keyword_of_tag(tag).encode("latin-1", "replace")
        if not tag.startswith("Exif.") and 1 <= len(keyword) < 80:
            extra += _chunk(b"iTXt", keyword + bytes(5) + value.encode("utf-8", "replace"))
    files.write_bytes(path, data[:behind_header] + extra + data[behind_header:])


def _block_chunk(name: str, block: bytes, *, grey: bool) -> bytes:
    """Give a block as the chunk that PNG has for it, or else as a text in the form that ImageMagick gave the world."""
    space = block[16:20]
    if name == "icc" and space == (b"GRAY" if grey else b"RGB "):
        return _chunk(b"iCCP", b"icc\x00\x00" + zlib.compress(block, 9))
    if re.fullmatch("[a-zA-Z]{4}", name):
        return _chunk(name.encode("ascii"), block)
    digits = block.hex()
    lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
    text = f"\n{name}\n{len(block):8}\n{lines}\n".encode("latin-1", "replace")
    keyword = f"{_RAW_PROFILE}{name}".encode("latin-1", "replace")[:79]
    return _chunk(b"zTXt", keyword + b"\x00\x00" + zlib.compress(text, 9))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
