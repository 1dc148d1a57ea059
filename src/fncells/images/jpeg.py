"""JPEG pictures: segments walked by hand, so that nothing that a camera wrote into them is lost; pixels from Pillow."""

import io
import struct
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from fncells.images.directories import usable_exif
from fncells.images.picture import Content, DamagedError, checked_shape, decoded_text
from fncells.images.pillow import from_pillow

__all__ = ["jpeg_shape", "read_jpeg"]

_EXIF = b"Exif\x00\x00"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_ICC = b"ICC_PROFILE\x00"
_JFIF = b"JFIF\x00"
_PHOTOSHOP = b"Photoshop 3.0\x00"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without content


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Give marker and content of each segment up to and including the start of the scan; the file stands behind it."""
    file.seek(2)
    while True:
        lead, marker = file.read(1), file.read(1)
        while marker == b"\xff":
            marker = file.read(1)
        if lead != b"\xff" or not marker:
            message = "a JPEG that ends or breaks off in its head"
            raise DamagedError(message)
        if marker[0] in _BARE:
            continue
        length = file.read(2)
        size = int.from_bytes(length, "big") - 2
        content = file.read(max(size, 0))
        if size < 0 or len(content) < size:
            message = "a JPEG cut short in its head"
            raise DamagedError(message)
        yield marker[0], content
        if marker[0] == 0xDA:
            return


def _frame_shape(content: bytes) -> tuple[int, int]:
    if len(content) < 6:
        message = "a JPEG with a broken head"
        raise DamagedError(message)
    height, width = struct.unpack(">HH", content[1:5])
    return checked_shape(height, width, 3)


def jpeg_shape(file: BinaryIO) -> tuple[int, int]:
    """Give height and width from the head of the file."""
    for marker, content in _jpeg_segments(file):
        if marker in _FRAMES:
            return _frame_shape(content)
    message = "a JPEG without a picture"
    raise DamagedError(message)


def read_jpeg(file: BinaryIO) -> Content:
    """Read a JPEG with every segment that tells something."""
    jpeg_shape(file)
    segments = list(_jpeg_segments(file))
    scan = file.read()
    if b"\xff\xd9" not in scan:
        # The decoder would fill what is missing with grey.
        message = "a JPEG cut short (it has no end)"
        raise DamagedError(message)
    notes: list[str] = []
    pixels = from_pillow(io.BytesIO(_bare(segments, scan)), "JPEG", notes)
    exif, tags, blocks = _told(segments)
    return Content(pixels, usable_exif(exif, notes), tags, notes, blocks)


def _bare(segments: list[tuple[int, bytes]], scan: bytes) -> bytes:
    """Leave out what tells nothing of the pixels: Pillow refuses whole pictures for a broken note in them."""
    needed = [(marker, content) for marker, content in segments if _decides(marker, content)]
    written = (bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content for marker, content in needed)
    return b"\xff\xd8" + b"".join(written) + scan


def _decides(marker: int, content: bytes) -> bool:
    """Whether a segment decides on the pixels: all but comments and notes, of which Adobe's names the colours."""
    return marker != 0xFE and (not 0xE0 <= marker <= 0xEF or content.startswith((_JFIF, b"Adobe")))


def _told(segments: list[tuple[int, bytes]]) -> tuple[bytes, dict[str, str], dict[str, bytes]]:
    """Sort the segments: the EXIF block, what is text, and what is neither and stays as it is."""
    exif, xmp, comments, icc = b"", b"", [], {}
    tags: dict[str, str] = {}
    blocks: dict[str, bytes] = {}
    seen: Counter[int] = Counter()
    for marker, content in segments:
        if marker == 0xE1 and content.startswith(_EXIF):
            exif += content[len(_EXIF) :]  # a block above 64 kB is spread over several segments
        elif marker == 0xE1 and content.startswith(_XMP):
            xmp += content[len(_XMP) :]
        elif marker == 0xE2 and content.startswith(_ICC) and len(content) > len(_ICC) + 2:
            icc[content[len(_ICC)]] = content[len(_ICC) + 2 :]
        elif marker == 0xED and content.startswith(_PHOTOSHOP):
            blocks["8bim"] = blocks.get("8bim", b"") + content[len(_PHOTOSHOP) :]
        elif marker == 0xE0 and content.startswith(_JFIF) and len(content) >= 12:
            tags |= _jfif(content)
        elif marker == 0xFE:
            comments.append(decoded_text(content))
        elif 0xE0 <= marker <= 0xEF:
            seen[marker] += 1
            blocks[f"APP{marker - 0xE0}.{seen[marker]}"] = content
    if icc:
        blocks["icc"] = b"".join(icc[number] for number in sorted(icc))
    if comments:
        tags["Jpeg.Comment"] = "\n".join(comments)
    if xmp:
        tags["Xmp.packet"] = decoded_text(xmp)
    return exif, tags, blocks


def _jfif(content: bytes) -> dict[str, str]:
    """Give the head of a JFIF file; its density is a print setting."""
    major, minor, unit, x, y = struct.unpack(">BBBHH", content[5:12])
    return {
        "Jpeg.JFIFVersion": f"{major}.{minor:02}",
        "Jpeg.JFIFDensity": f"{x} x {y} {('(no unit)', 'dpi', 'dots per cm')[unit] if unit < 3 else '(unknown unit)'}",
    }
