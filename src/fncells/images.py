"""Pictures as microscopes and cameras write them: pixels, pixel size and tags in, PNG with all tags out.

Pixels stay as they were recorded: nothing is rotated, scaled or colour-managed. The tags are read by this module's own reader
of EXIF and TIFF directories, which keeps every entry as the bytes that it is made of; that is how the thumbnail directory, the
maker's notes and private tags reach the PNG unharmed. The names of tags are those of Exiv2, as in the published metadata
(Clissa et al., Fluorescent Neuronal Cells v2).
"""

import hashlib
import io
import math
import struct
import threading
import warnings
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fncells import files
from fncells.errors import InputError

__all__ = ["Picture", "PixelSize", "display_rgb", "picture_shape", "read_picture", "tags_text", "write_png"]

Pixels = NDArray[np.uint8 | np.uint16]

MOST_PIXELS = 2**30  # a scan of 32,768 x 32,768; beyond it a header is taken for a trap rather than a picture
MOST_TAG_BYTES = (
    2**20
)  # one entry; the largest seen in real files is 0.3 MB (ImageJ's copy of the microscope's own text)
MOST_TEXT_BYTES = 2**24  # what a compressed text in a PNG may unpack to

_A_PICTURE = "a TIFF, JPEG or PNG picture"
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\x00\x00"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"


@dataclass(frozen=True)
class PixelSize:
    """How much of the specimen one pixel shows.

    Parameters
    ----------
    um
        Side of a pixel in micrometres, above 0.
    source
        Who says so: ``OME``, ``ImageJ unit``, ``MetaMorph``, ``Aperio``, ``metadata`` or ``user``.

    Raises
    ------
    InputError
        If the size is not a positive, finite number.
    """

    um: float
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.um) and self.um > 0):
            raise InputError("pixel size", expected="a positive number of micrometres", found=str(self.um))


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture with what its file tells of it.

    Parameters
    ----------
    name
        The file's name, relative to the folder that was read, with forward slashes.
    pixels
        uint8 or uint16, read-only; shape (height, width) for grey, (height, width, 3) for red, green, blue. Never rotated.
    pixel_size
        None unless the file really tells it; the dpi of cameras and scanners is a print setting and is not used.
    tags
        Names after Exiv2 (``Exif.Photo.ExposureTime``) or the vendor (``MetaMorph.XCalibration``) to values as text.
    exif
        The EXIF block as it is stored in a PNG's ``eXIf`` chunk (beginning ``II`` or ``MM``); None where there is none.
    notes
        What was odd about the file, in words.
    """

    name: str
    pixels: Pixels
    pixel_size: PixelSize | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    exif: bytes | None = None
    notes: tuple[str, ...] = ()


class _Content(NamedTuple):
    """What a file holds, before the tags are made sense of."""

    pixels: Pixels
    exif: bytes | None
    tags: dict[str, str]
    notes: list[str]


class _DamagedError(Exception):
    """What is wrong with a file's content, in words that follow "found"."""


# ---------------------------------------------------------------------------------------------------------------- reading


def read_picture(path: Path, name: str | None = None) -> Picture:
    """Read a picture: TIFF (8 or 16 bit, grey or RGB), JPEG or PNG, told apart by content and not by suffix.

    One-bit pictures become 0 and 255, palettes are expanded, transparency is dropped, and of several pictures in one file the
    first is taken; each of these is said in the notes.

    Parameters
    ----------
    path
        The file.
    name
        What to call the picture; the file's name if not given.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        If the file is missing, empty, no such picture, cut short or damaged, of 32-bit or floating-point values, or larger than
        2³⁰ pixels.
    """
    with _opened(path) as (file, kind), _refusing(path):
        content = _READERS[kind](file)
    tags = dict(content.tags)
    if content.exif is not None:
        told, oddities = _exif_tags(content.exif)
        tags = told | tags
        content.notes.extend(oddities)
    pixel_size, oddities = _pixel_size(tags)
    content.notes.extend(oddities)
    if tags.get("Exif.Image.Orientation", "1") not in ("0", "1"):
        content.notes.append(f"the Orientation tag says {tags['Exif.Image.Orientation']}; the pixels were not rotated")
    pixels = np.ascontiguousarray(content.pixels)
    pixels.flags.writeable = False
    return Picture(name or path.name, pixels, pixel_size, tags, content.exif, tuple(dict.fromkeys(content.notes)))


def picture_shape(path: Path) -> tuple[int, int]:
    """Read a picture's height and width in pixels from the head of its file alone.

    Raises
    ------
    InputError
        If the file is missing, empty, no TIFF, JPEG or PNG, or claims no pixels or more than 2³⁰.
    """
    with _opened(path) as (file, kind), _refusing(path):
        return _SHAPES[kind](file)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file and tell its kind by its first bytes."""
    try:
        file = path.open("rb")
    except OSError as error:
        found = "nothing of that name" if isinstance(error, FileNotFoundError) else f"none ({error.strerror})"
        raise InputError(path, expected=_A_PICTURE, found=found) from error
    with file:
        head = file.read(16)
        file.seek(0)
        kind = next((kind for start, kind in _SIGNATURES.items() if head.startswith(start)), None)
        if kind is None:
            found = "a file of another kind" if head else "an empty file"
            raise InputError(path, expected=_A_PICTURE, found=found)
        yield file, kind


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a broken file into one line for the user, and let no warning of a library escape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except _DamagedError as error:
            raise InputError(path, expected=_A_PICTURE, found=str(error)) from error
        except Exception as error:  # anything from IndexError to MemoryError, when a file lies about itself
            found = f"a damaged file ({error or type(error).__name__})"
            raise InputError(path, expected=_A_PICTURE, found=found) from error


def _checked_shape(height: int, width: int) -> tuple[int, int]:
    if height < 1 or width < 1:
        message = f"a picture of {width} x {height} pixels"
        raise _DamagedError(message)
    if height * width > MOST_PIXELS:
        message = f"a picture of {width} x {height} pixels, more than the {MOST_PIXELS:,} that are read at once"
        raise _DamagedError(message)
    return height, width


# ------------------------------------------------------------------------------------------------------------------- JPEG

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
            raise _DamagedError(message)
        if marker[0] in _BARE:
            continue
        length = file.read(2)
        size = int.from_bytes(length, "big") - 2
        content = file.read(max(size, 0))
        if size < 0 or len(content) < size:
            message = "a JPEG cut short in its head"
            raise _DamagedError(message)
        yield marker[0], content
        if marker[0] == 0xDA:
            return


def _frame_shape(content: bytes) -> tuple[int, int]:
    if len(content) < 6:
        message = "a JPEG with a broken head"
        raise _DamagedError(message)
    height, width = struct.unpack(">HH", content[1:5])
    return _checked_shape(height, width)


def _jpeg_shape(file: BinaryIO) -> tuple[int, int]:
    for marker, content in _jpeg_segments(file):
        if marker in _FRAMES:
            return _frame_shape(content)
    message = "a JPEG without a picture"
    raise _DamagedError(message)


def _read_jpeg(file: BinaryIO) -> _Content:
    _jpeg_shape(file)
    exif, xmp, comments = b"", b"", []
    for marker, content in _jpeg_segments(file):
        if marker == 0xE1 and content.startswith(_EXIF):
            exif += content[len(_EXIF) :]  # a block above 64 kB is spread over several segments
        elif marker == 0xE1 and content.startswith(_XMP):
            xmp += content[len(_XMP) :]
        elif marker == 0xFE:
            comments.append(_text(content))
    if b"\xff\xd9" not in file.read():
        # The decoder would fill what is missing with grey.
        message = "a JPEG cut short (it has no end)"
        raise _DamagedError(message)
    notes: list[str] = []
    pixels = _from_pillow(file, "JPEG", notes)
    tags = {"Jpeg.Comment": "\n".join(comments)} if comments else {}
    if xmp:
        tags["Xmp.packet"] = _text(xmp)
    return _Content(pixels, _usable_exif(exif, notes), tags, notes)


_pillow_lock = threading.Lock()


def _from_pillow(file: BinaryIO, kind: str, notes: list[str]) -> Pixels:
    """Decode with Pillow; sizes have been checked, so its own limit, a global one, is lifted and put back."""
    file.seek(0)
    with _pillow_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image: Image.Image = Image.open(file, formats=(kind,))
            image.load()
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    mode = image.mode
    if mode in ("LA", "RGBA"):
        notes.append("the alpha channel was dropped")
        image = image.convert("L" if mode == "LA" else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("P", "PA", "CMYK", "YCbCr", "RGBX"):
        notes.append(f"the colours were converted from {'a palette' if mode[0] == 'P' else mode} to RGB")
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype.newbyteorder("=") == np.uint16:
        return pixels.astype(np.uint16)
    if pixels.dtype != np.uint8 or mode in ("LAB", "HSV"):
        message = f"a picture of {mode} values, where grey or RGB of 8 or 16 bit can be read"
        raise _DamagedError(message)
    return pixels.astype(np.uint8)


# -------------------------------------------------------------------------------------------------------------------- PNG

_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_XMP_KEYWORD = "XML:com.adobe.xmp"
_OWN_FAMILIES = ("ImageJ.", "Jpeg.", "MetaMorph.")


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
    file.seek(len(_PNG))
    head = file.read(25)
    if len(head) < 25 or head[4:8] != b"IHDR":
        message = "a PNG cut short in its head"
        raise _DamagedError(message)
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head[8:21])
    _checked_shape(height, width)
    if bits not in _PNG_DEPTHS.get(colour, ()) or interlaced > 1:
        message = f"a PNG of unknown kind (colour type {colour}, {bits} bits, interlace {interlaced})"
        raise _DamagedError(message)
    return _Header(width, height, bits, colour, interlaced)


def _png_shape(file: BinaryIO) -> tuple[int, int]:
    header = _png_header(file)
    return header.height, header.width


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give kind and content of each chunk, with their checksums verified."""
    place = len(_PNG)
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        check = data[place + 8 + size : place + 12 + size]
        if len(check) < 4:
            break
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(check, "big"):
            message = f"a damaged PNG (the checksum of its {_text(kind)} at byte {place} is wrong)"
            raise _DamagedError(message)
        yield kind, content
        if kind == b"IEND":
            return
        place += 12 + size
    message = "a PNG cut short"
    raise _DamagedError(message)


def _read_png(file: BinaryIO) -> _Content:
    header = _png_header(file)
    file.seek(0)
    data = file.read()
    notes: list[str] = []
    texts: dict[str, str] = {}
    packed, exif = [], b""
    for kind, content in _png_chunks(data):
        if kind == b"IDAT":
            packed.append(content)
        elif kind == b"eXIf":
            exif = content.removeprefix(_EXIF)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _png_text(kind, content)
            texts[keyword] = f"{texts[keyword]}\n{text}" if keyword in texts else text
        elif kind == b"acTL":
            notes.append("the file is animated; its first picture was taken")
        elif kind == b"tRNS" or (kind == b"IHDR" and header.colour in (4, 6)):
            notes.append("the alpha channel was dropped")
    _check_rows(packed, header.raw_size)
    if header.colour == 3:
        notes.append("the colours were converted from a palette to RGB")
    tags = {_tag_of_keyword(keyword): text for keyword, text in texts.items()}
    return _Content(_decoded_png(data, header), _usable_exif(exif, notes), tags, notes)


def _check_rows(packed: list[bytes], size: int) -> None:
    """Refuse a PNG whose rows are not all there, which decoders fill up with black or complain of on standard error."""
    unpacker, rest, total = zlib.decompressobj(), b"".join(packed), 0
    while rest and total < size and not unpacker.eof:
        total += len(unpacker.decompress(rest, 2**22))
        rest = unpacker.unconsumed_tail
    total += len(unpacker.flush()) if total < size else 0
    if total < size:
        message = f"a PNG that holds {total} of the {size} bytes of its rows"
        raise _DamagedError(message)


def _decoded_png(data: bytes, header: _Header) -> Pixels:
    decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape[:2] != (header.height, header.width):
        message = "a damaged PNG"
        raise _DamagedError(message)
    pixels = _eight_or_sixteen(decoded)
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if header.colour in (0, 4) else pixels[..., 2::-1]  # OpenCV has blue first


def _eight_or_sixteen(array: NDArray[np.generic]) -> Pixels:
    return array.astype(np.uint16 if array.dtype.itemsize == 2 else np.uint8, copy=False)


def _png_text(kind: bytes, content: bytes) -> tuple[str, str]:
    keyword, _, rest = content.partition(b"\x00")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return name, rest.decode("latin-1")
    if kind == b"zTXt":
        return name, _unpacked(rest[1:]).decode("latin-1")
    packed, rest = rest[:1], rest[2:]
    text = rest.partition(b"\x00")[2].partition(b"\x00")[2]
    return name, _text(_unpacked(text) if packed == b"\x01" else text)


def _unpacked(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MOST_TEXT_BYTES)


def _tag_of_keyword(keyword: str) -> str:
    if keyword == _XMP_KEYWORD:
        return "Xmp.packet"
    return keyword if keyword.startswith(_OWN_FAMILIES) else f"Png.{keyword}"


def _keyword_of_tag(tag: str) -> str:
    return _XMP_KEYWORD if tag == "Xmp.packet" else tag.removeprefix("Png.")


# ------------------------------------------------------------------------------------------------------------------- TIFF

_READABLE = {1, 8, 16}
_GREY_OR_RGB = {0, 1, 2, 3, 6}  # photometric: white is zero, black is zero, RGB, palette, YCbCr (JPEG within TIFF)


def _tiff_page(tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    """Choose the first full picture: some cameras and scanners put a reduced one before it."""
    return next(_full_pages(tiff), tiff.pages[0].aspage())


def _full_pages(tiff: tifffile.TiffFile) -> Iterator[tifffile.TiffPage]:
    return (page for page in (page.aspage() for page in tiff.pages) if not page.is_reduced)


def _tiff_shape(file: BinaryIO) -> tuple[int, int]:
    with tifffile.TiffFile(file) as tiff:
        page = _tiff_page(tiff)
        return _checked_shape(page.imagelength, page.imagewidth)


def _read_tiff(file: BinaryIO) -> _Content:
    notes: list[str] = []
    with tifffile.TiffFile(file) as tiff:
        page = _tiff_page(tiff)
        _checked_shape(page.imagelength, page.imagewidth)
        _check_values(page)
        _check_strips(page, tiff.filehandle.size)
        if (number := _planes(tiff, page)) > 1:
            notes.append(f"the file holds {number} pictures; the first was taken")
        try:
            pixels = _grey_or_rgb(page, notes)
        except Exception as error:  # a compression that tifffile does not know without its companion
            pixels = _decoded_elsewhere(file, page, notes, error)
        exif = _packed_exif(file, tiff.byteorder, page.offset, bool(tiff.is_bigtiff), notes)
        return _Content(pixels, exif, _vendor_tags(tiff, page), notes)


def _check_values(page: tifffile.TiffPage) -> None:
    bits = page.bitspersample
    number = page.dtype is not None and page.dtype.kind in "ub"
    if not number or bits not in _READABLE:
        kind = {"f": "floating-point", "i": "signed", "c": "complex"}.get(page.dtype.kind if page.dtype else "", "")
        message = (
            f"a TIFF of {bits}-bit {kind} values, where 8 or 16 bit without sign can be read; convert it first "
            "(in Fiji: Image > Type > 16-bit)"
        )
        raise _DamagedError(" ".join(message.split()))
    extra = page.samplesperpixel - (3 if page.samplesperpixel >= 3 else 1)
    channels = extra > 1 or (extra == 1 and not {1, 2} & set(map(int, page.extrasamples)))  # neither sort of alpha
    if int(page.photometric) not in _GREY_OR_RGB or channels or page.imagedepth > 1:
        colours = tifffile.PHOTOMETRIC(page.photometric).name
        message = f"a TIFF of {page.samplesperpixel} channels ({colours}), where grey or RGB can be read"
        raise _DamagedError(message)


def _check_strips(page: tifffile.TiffPage, size: int) -> None:
    """Refuse a file whose pixels are not all there, which decoders may fill up with zeros."""
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    inside = all(offset > 0 and count > 0 and offset + count <= size for offset, count in places)
    plain = page.compression == tifffile.COMPRESSION.NONE
    needed = page.imagewidth * page.imagelength * page.samplesperpixel * page.bitspersample // 8 if plain else 0
    if not inside or len(places) < math.prod(page.chunked) or sum(count for _, count in places) < needed:
        message = "a TIFF cut short (not all of its pixels are there)"
        raise _DamagedError(message)


def _planes(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    full = sum(1 for _ in _full_pages(tiff))
    try:
        # ImageJ and MetaMorph keep a whole stack behind one directory; the series know.
        return max(full, sum(math.prod(series.shape) for series in tiff.series) // math.prod(page.shape))
    except Exception:  # series are made from free text, which may say anything
        return full


def _grey_or_rgb(page: tifffile.TiffPage, notes: list[str]) -> Pixels:
    array: NDArray[np.generic] = page.asarray()
    if page.axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    pixels = _eight_or_sixteen(array)
    if page.colormap is not None:
        notes.append("the colours were converted from a palette to RGB")
        return np.ascontiguousarray((np.moveaxis(page.colormap, 0, -1)[pixels] >> 8).astype(np.uint8))
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        notes.append("the grey values were turned round, as the file counts from white to black")
        pixels = ~pixels
    return _without_alpha(pixels, page, notes)


def _without_alpha(pixels: Pixels, page: tifffile.TiffPage, notes: list[str]) -> Pixels:
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    notes.append("the alpha channel was dropped")
    colours, alpha = pixels[..., :-1], pixels[..., -1:]
    if page.extrasamples and page.extrasamples[0] == tifffile.EXTRASAMPLE.ASSOCALPHA:
        # The colours were multiplied by their opacity when they were stored; Pillow divides in the same way.
        full = np.iinfo(pixels.dtype).max
        divided = colours.astype(np.uint32) * full // np.maximum(alpha, 1)
        colours = np.where(alpha > 0, np.minimum(divided, full), 0).astype(pixels.dtype)
    return colours[..., 0] if colours.shape[2] == 1 else colours


def _decoded_elsewhere(file: BinaryIO, page: tifffile.TiffPage, notes: list[str], error: Exception) -> Pixels:
    """Decode what tifffile could not: with Pillow, or for 16-bit RGB, which Pillow cuts to 8 bit, with OpenCV."""
    if page.bitspersample <= 8 or page.samplesperpixel == 1:
        if page.bitspersample == 16 and page.photometric != tifffile.PHOTOMETRIC.MINISBLACK:
            raise error
        try:
            return _from_pillow(file, "TIFF", notes)
        except OSError:
            raise error from None
    file.seek(0)
    decoded = cv2.imdecode(np.frombuffer(file.read(), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape != (page.imagelength, page.imagewidth, page.samplesperpixel):
        raise error
    ordered = decoded[..., [2, 1, 0, 3][: decoded.shape[2]]]
    return _without_alpha(_eight_or_sixteen(ordered), page, notes)


def _vendor_tags(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, str]:
    """Give what vendors store in binary tags of their own, as far as tifffile understands it."""
    tags: dict[str, str] = {}
    metamorph = page.tags.get(33628)
    if metamorph is not None and isinstance(metamorph.value, dict):
        for key, value in metamorph.value.items():
            if key == "PlaneProperty":
                tags.update({f"MetaMorph.{each['name']}": str(each["value"]) for each in value})
            elif isinstance(value, (str, int, float)) and not key.startswith("_"):
                tags[f"MetaMorph.{key}"] = str(value)
    if 50839 in page.tags:
        for key, value in (tiff.imagej_metadata or {}).items():
            if key in ("Info", "Labels"):
                tags[f"ImageJ.{key}"] = value if isinstance(value, str) else "\n".join(map(str, value))
    return tags


# ------------------------------------------------------------------------------------------------------------------- EXIF

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 5: "I", 6: "b", 8: "h", 9: "i", 10: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q"}
_CODES |= {7: "B", 18: "Q"}
_POINTERS = {0x014A: "SubImage", 0x8769: "Photo", 0x8825: "GPSInfo", 0xA005: "Iop"}
_LONGEST_LIST = 1024  # bytes; binary values beyond are summed up, so that the text of the tags stays readable


@dataclass(frozen=True)
class _Entry:
    """One entry of a directory: its value as stored, or the directories that it points to."""

    tag: int
    kind: int
    raw: bytes
    children: tuple[tuple["_Entry", ...], ...] = ()


class _Directories:
    """Reads the directories of a TIFF file or an EXIF block; what is broken is noted and left out."""

    def __init__(self, file: BinaryIO, order: str, big: bool, notes: list[str]) -> None:
        self.file, self.order, self.big, self.notes = file, order, big, notes
        self.size = file.seek(0, io.SEEK_END)
        self.seen: set[int] = set()

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
            rows = [(self._take(numbers), self._exactly(inline)) for _ in range(min(count, 4096))]
            following = self._take(link)[0] if count <= 4096 else 0
        except (EOFError, OSError, OverflowError):
            self.notes.append("a directory of the EXIF data is cut short")
            return (), 0
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
        if kind not in _SIZES or size > MOST_TAG_BYTES:
            what = f"holds {size} bytes" if size else f"is of unknown type {kind}"
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
            return _Entry(tag, kind, raw, tuple(self.read(offset)[0] for offset in offsets))
        return _Entry(tag, kind, raw)


def _usable_exif(block: bytes, notes: list[str]) -> bytes | None:
    """Keep an EXIF block if it has the head of one; a PNG may not hold anything else."""
    if not block:
        return None
    if block[:4] not in (b"II*\x00", b"MM\x00*"):
        notes.append("the EXIF data has no valid head and was left out")
        return None
    return block


def _exif_tags(block: bytes) -> tuple[dict[str, str], list[str]]:
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
        return _text(entry.raw.rstrip(b"\x00"))
    if entry.tag == 0x9286 and entry.raw.startswith(b"ASCII\x00\x00\x00"):
        return _text(entry.raw[8:].rstrip(b"\x00 "))
    if len(entry.raw) > _LONGEST_LIST and entry.kind in (1, 6, 7):
        return f"{len(entry.raw)} bytes, sha256 {hashlib.sha256(entry.raw).hexdigest()}"
    code = _CODES[entry.kind]
    values = struct.unpack(f"{order}{len(entry.raw) // struct.calcsize(order + code)}{code}", entry.raw)
    if entry.kind in (5, 10):
        return " ".join(f"{above}/{below}" for above, below in zip(values[::2], values[1::2], strict=True))
    return " ".join(f"{value:.9g}" if isinstance(value, float) else str(value) for value in values)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _packed_exif(file: BinaryIO, order: str, offset: int, big: bool, notes: list[str]) -> bytes | None:
    """Copy a TIFF's directory, with those below it, into an EXIF block of its own, every value byte for byte."""
    entries, _ = _Directories(file, order, big, notes).read(offset)
    head = b"II*\x00" if order == "<" else b"MM\x00*"
    return head + struct.pack(f"{order}I", 8) + _packed(entries, 8, order) if entries else None


def _packed(entries: tuple[_Entry, ...], start: int, order: str) -> bytes:
    table, values = struct.pack(f"{order}H", len(entries)), b""
    base = start + 2 + 12 * len(entries) + 4
    for entry in entries:
        kind, raw = _narrowed(entry, order)
        if entry.children:
            places = []
            for child in entry.children:
                places.append(base + len(values))
                values += _packed(child, places[-1], order)
            kind, raw = 4, struct.pack(f"{order}{len(places)}I", *places)
        count = len(raw) // _SIZES[kind]
        if len(raw) > 4:
            place = struct.pack(f"{order}I", base + len(values))
            values += raw + b"\x00" * (len(raw) % 2)
        else:
            place = raw.ljust(4, b"\x00")
        table += struct.pack(f"{order}HHI", entry.tag, kind, count) + place
    return table + bytes(4) + values


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


# ------------------------------------------------------------------------------------------------------------- pixel size

_MICROMETRES = {"pm": 1e-6, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "å": 1e-4}
_MICROMETRES |= dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"), 1.0)
# ImageJ takes the dpi of a camera or scanner for "inch" and "cm", so these two tell nothing of the specimen.
_IMAGEJ_UNITS = {unit: factor for unit, factor in _MICROMETRES.items() if unit not in ("cm", "m")}


def _pixel_size(tags: Mapping[str, str]) -> tuple[PixelSize | None, list[str]]:
    """Find the pixel size in the tags, if one of the programs that calibrate has left it there."""
    description = tags.get("Exif.Image.ImageDescription", "")
    for source, sizes in (
        ("OME", _ome_sizes(description)),
        ("ImageJ unit", _imagej_sizes(description, tags)),
        ("MetaMorph", _metamorph_sizes(description, tags)),
        ("Aperio", _aperio_sizes(description)),
    ):
        usable = [size for size in sizes if math.isfinite(size) and size > 0]
        if len(usable) < len(sizes):
            return None, [f"{source} gives a pixel size that cannot be: it was not used"]
        if sizes and max(sizes) > 1.01 * min(sizes):
            return None, [f"{source} gives pixels of {sizes[0]:g} x {sizes[1]:g} µm, which are not square: not used"]
        if sizes:
            return PixelSize(sizes[0], source), []
    return None, []


def _ome_sizes(description: str) -> list[float]:
    """PhysicalSizeX and -Y of the first picture in OME-XML, whose unit is µm where none is said."""
    if "<OME" not in description[:2000] or "<!DOCTYPE" in description or "<!ENTITY" in description:
        return []
    try:
        root = ET.fromstring(description)  # noqa: S314 - entities were refused above
    except ET.ParseError:
        return []
    pixels = next((element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return []
    sizes = []
    for axis in "XY":
        value = _number(pixels.get(f"PhysicalSize{axis}", ""))
        factor = _MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").strip().lower())
        if value is not None and factor is not None:
            sizes.append(value * factor)
    return sizes if pixels.get("PhysicalSizeX") else []


def _imagej_sizes(description: str, tags: Mapping[str, str]) -> list[float]:
    if not description.startswith(("ImageJ=", "SCIFIO=")):
        return []
    values = dict(line.partition("=")[::2] for line in description.splitlines())
    unit = values.get("yunit", ""), values.get("unit", "").replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    factor = _IMAGEJ_UNITS.get(unit[1].strip().lower())
    if factor is None or unit[0]:
        return []
    resolutions = [_number(tags.get(f"Exif.Image.{axis}Resolution", "")) for axis in "XY"]
    return [factor / value if value else math.nan for value in resolutions if value is not None]


def _metamorph_sizes(description: str, tags: Mapping[str, str]) -> list[float]:
    """MetaMorph's calibration, in its binary tag or, in later versions, in XML; switched off or 1, it tells nothing."""
    told = {
        "state": tags.get("MetaMorph.SpatialCalibration", ""),
        "x": tags.get("MetaMorph.XCalibration", ""),
        "y": tags.get("MetaMorph.YCalibration", ""),
        "units": tags.get("MetaMorph.CalibrationUnits", ""),
    }
    if description.lstrip().startswith("<MetaData") and "<!" not in description:
        try:
            root = ET.fromstring(description)  # noqa: S314 - entities were refused above
        except ET.ParseError:
            return []
        told = {str(p.get("id")).removeprefix("spatial-calibration-"): p.get("value", "") for p in root.iter("prop")}
    factor = _MICROMETRES.get(told.get("units", "").strip().lower())
    if told.get("state") not in ("1", "on") or factor is None:
        return []
    values = [value for axis in "xy" if (value := _number(told.get(axis, ""))) is not None]
    return [value * factor for value in values] if values and values[0] != 1 else []


def _aperio_sizes(description: str) -> list[float]:
    if not description.startswith("Aperio"):
        return []
    fields = (part.partition("=") for part in description.split("|"))
    value = next((_number(value) for key, _, value in fields if key.strip() == "MPP"), None)
    return [] if value is None else [value]


def _number(text: str) -> float | None:
    try:
        return float(Fraction(text.strip())) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        return None


# ---------------------------------------------------------------------------------------------------------------- writing


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
    behind_header = len(_PNG) + 25
    extra = b"" if picture.exif is None else _chunk(b"eXIf", picture.exif)
    for tag, value in picture.tags.items():
        keyword = _keyword_of_tag(tag).encode("latin-1", "replace")
        if not tag.startswith("Exif.") and 1 <= len(keyword) < 80:
            extra += _chunk(b"iTXt", keyword + bytes(5) + value.encode("utf-8", "replace"))
    files.write_bytes(path, data[:behind_header] + extra + data[behind_header:])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def tags_text(picture: Picture) -> str:
    r"""Give a picture's tags as the published metadata files hold them: a header line, then ``KEY<tab>VALUE`` lines.

    Tabs, line ends and backslashes within values are written ``\t``, ``\n``, ``\r`` and ``\\``, other characters without a
    shape ``\x00`` or ``\u2028``, so that each tag is one line.

    Examples
    --------
    >>> picture = Picture("a.png", np.zeros((1, 1), np.uint8), tags={"Exif.Image.Make": "NIKON"})
    >>> tags_text(picture)
    'KEY\tVALUE\nExif.Image.Make\tNIKON\n'
    """
    rows = [("KEY", "VALUE"), *picture.tags.items()]
    return "".join(f"{_escaped(key)}\t{_escaped(value)}\n" for key, value in rows)


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(each) or (each if each.isprintable() else _code(each)) for each in text)


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def display_rgb(pixels: Pixels) -> NDArray[np.uint8]:
    """Make pixels visible: RGB of 8 bit for overlays and reports, never for measuring.

    RGB of 8 bit stays as it is. Pictures of 16 bit, and grey ones whose brightest thousandth is below half of the range, are
    stretched linearly from their darkest to their brightest thousandth, all channels alike, so that the hue stays.

    Parameters
    ----------
    pixels
        uint8 or uint16, shape (height, width) or (height, width, 3).

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3).
    """
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return pixels.astype(np.uint8, copy=False)
    levels = np.iinfo(pixels.dtype).max + 1
    ranks = np.cumsum(np.bincount(pixels.ravel(), minlength=levels)) / max(pixels.size, 1)
    low, high = (int(np.searchsorted(ranks, share)) for share in (0.001, 0.999))
    if pixels.dtype == np.uint8 and high >= levels // 2:
        low, high = 0, 255
    elif high <= low:
        low, high = 0, levels - 1
    steps = (np.arange(levels) - low) * (255 / (high - low))
    shown = np.clip(np.rint(steps), 0, 255).astype(np.uint8)[pixels]
    return shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)


_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    _PNG: "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
}
_READERS = {"JPEG": _read_jpeg, "PNG": _read_png, "TIFF": _read_tiff}
_SHAPES = {"JPEG": _jpeg_shape, "PNG": _png_shape, "TIFF": _tiff_shape}
