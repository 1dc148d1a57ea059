"""TIFF pictures, plain and as microscopes write them: several axes, several scenes, tags of the makers."""

import importlib.util
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from fncells.images import vendors
from fncells.images.directories import check_chain, exif_tags, packed_exif
from fncells.images.picture import Content, DamagedError, Pixels, checked_shape
from fncells.images.pillow import from_pillow
from fncells.images.planes import said_of, taken_of
from fncells.images.png import eight_or_sixteen
from fncells.images.strips import check_lzw
from fncells.plane import Plane

__all__ = ["read_tiff", "tiff_shape"]

_GREY_OR_RGB = {0, 1, 2, 3, 6}  # photometric: white is zero, black is zero, RGB, palette, YCbCr (JPEG within TIFF)
_UNLABELLED = {"generic", "uniform"}  # series whose axes tifffile has guessed from equal shapes
_DEFLATE = {8, 32946}
_LOOK_FOR_THUMBNAIL = 4  # pages
_EXTRA = 'install the compressions of microscopes with: pip install "fncells[microscopes]"'


@dataclass(frozen=True, eq=False)
class _Scene:
    """The pictures of a TIFF that belong together, along named or unnamed axes.

    Parameters
    ----------
    page
        The first one; its directory tells of them all.
    sizes
        Length of every axis beside height, width and colour, in the order in which the pictures lie.
    pages
        The pictures in that order, or the first alone where the others follow it without directories of their own.
    inner
        Number of channels that lie within each picture in place of colours; 1 where there are none.
    """

    page: tifffile.TiffPage
    sizes: dict[str, int]
    pages: Sequence[tifffile.TiffPage | tifffile.TiffFrame | None]
    inner: int = 1

    @property
    def axes(self) -> dict[str, int]:
        """Every axis that can be chosen from."""
        return self.sizes | ({"C": self.inner} if self.inner > 1 else {})


def tiff_shape(file: BinaryIO) -> tuple[int, int]:
    """Give height and width of the picture that is read where none is chosen."""
    with _opened(file) as tiff:
        page = _scenes(tiff)[0].page
        return checked_shape(page.imagelength, page.imagewidth)


def read_tiff(file: BinaryIO, plane: Plane) -> Content:
    """Read one picture of a TIFF."""
    notes: list[str] = []
    with _opened(file) as tiff:
        scenes = _scenes(tiff)
        number = 1 if plane.scene is None else plane.scene
        if number > len(scenes):
            message = f"a file of {len(scenes)} scene{'s' * (len(scenes) > 1)}, and no scene {number}"
            raise DamagedError(message)
        if len(scenes) > 1:
            taken = "the first" if number == 1 else f"number {number}"
            notes.append(f"the file holds {len(scenes)} scenes; {taken} was taken")
        scene = _with_channels(scenes[number - 1], plane)
        names = vendors.channel_names(tiff, scene.page, scene.axes.get("C", 1))
        chosen = taken_of(plane, scene.axes, names)
        notes += said_of(chosen, scene.axes, names)
        indices = list(_flat(scene.sizes, chosen))
        page = _page(scene, indices[0]).aspage() if plane.page is not None else scene.page
        _check(page, scene)
        pixels = _pixels(tiff, scene, indices, chosen.get("C") if scene.inner > 1 else None, notes)
        exif = packed_exif(file, tiff.byteorder, page.offset, bool(tiff.is_bigtiff), notes, _thumbnail(tiff))
        tags = vendors.vendor_tags(tiff, page)
        if len(scene.pages) > indices[0] and (own := _page(scene, indices[0])).offset != page.offset:
            tags |= _own_tags(file, tiff, own.offset, exif)
        return Content(pixels, exif, tags, notes, {})


def _opened(file: BinaryIO) -> tifffile.TiffFile:
    """Open a TIFF without the other files of its set, and as a plain one where it only pretends to be an LSM."""
    check_chain(file)
    try:
        return tifffile.TiffFile(file, _multifile=False)
    except IndexError:
        file.seek(0)
        return tifffile.TiffFile(file, _multifile=False, is_lsm=False)


def _scenes(tiff: tifffile.TiffFile) -> list[_Scene]:
    """Sort the pictures into scenes; reduced ones, which some cameras and scanners put before or behind, are none."""
    try:
        series = [each for each in tiff.series if each.kind not in _UNLABELLED]
        scenes = [_labelled(each) for each in series if not each.keyframe.is_reduced]
    except Exception:  # series are made from free text, which may say anything
        scenes = []
    if scenes:
        return scenes
    pages = [page for page in (page.aspage() for page in tiff.pages) if not page.is_reduced]
    pages = pages or [tiff.pages[0].aspage()]
    return [_Scene(pages[0], {"I": len(pages)}, pages)]


def _labelled(series: tifffile.TiffPageSeries) -> _Scene:
    """Part a series' axes into those of its pictures and those along which the pictures lie."""
    page = series.keyframe
    outer = list(zip(series.get_axes(squeeze=False), series.get_shape(squeeze=False), strict=True))
    size, inner = 1, {}
    while outer and size < page.size:
        axis, length = outer.pop()
        size *= length
        inner[axis] = length
    if size != page.size:
        message = "axes that do not fit the pictures"
        raise DamagedError(message)
    sizes: dict[str, int] = {}
    for axis, length in outer:
        if length > 1:
            sizes[axis if axis not in sizes and axis not in inner else f"{axis}{len(sizes)}"] = length
    return _Scene(page, sizes, series.pages, inner.get("C", 1))


def _with_channels(scene: _Scene, plane: Plane) -> _Scene:
    """Take the samples of each pixel for channels where one is chosen and they are no colours."""
    page = scene.page
    samples = page.samplesperpixel - sum(kind in (1, 2) for kind in map(int, page.extrasamples))
    if plane.channel is None or int(page.photometric) not in (0, 1) or samples < 2 or "C" in scene.axes:
        return scene
    return replace(scene, inner=samples)


def _flat(sizes: dict[str, int], chosen: dict[str, int | slice]) -> Iterator[int]:
    """Give the positions of the chosen pictures among all."""
    ranges = []
    for axis in sizes:
        index = chosen[axis]
        ranges.append(range(index, index + 1) if isinstance(index, int) else range(index.start, index.stop))
    for indices in np.ndindex(*map(len, ranges)):
        position = 0
        for length, numbers, index in zip(sizes.values(), ranges, indices, strict=True):
            position = position * length + numbers[index]
        yield position


def _page(scene: _Scene, index: int) -> tifffile.TiffPage | tifffile.TiffFrame:
    page = scene.pages[index]
    if page is None:
        message = "a file without this picture, which lies in another file of its set or was never taken"
        raise DamagedError(message)
    return page


def _keyframe(page: tifffile.TiffPage | tifffile.TiffFrame) -> tifffile.TiffPage:
    """Give the page whose directory speaks for a page that has only places in the file."""
    keyframe = page.keyframe
    if keyframe is None:
        message = "a TIFF of unknown kind"
        raise DamagedError(message)
    return keyframe


def _check(page: tifffile.TiffPage, scene: _Scene) -> None:
    """Refuse what cannot be read as grey or RGB before anything is decoded."""
    bits, kind = page.bitspersample, "" if page.dtype is None else page.dtype.kind
    checked_shape(page.imagelength, page.imagewidth, page.samplesperpixel * (2 if bits > 8 else 1))
    if kind not in ("u", "b") or not 1 <= bits <= 16:
        told = {"f": "floating-point", "i": "signed", "c": "complex"}.get(kind, "")
        message = (
            f"a TIFF of {bits}-bit {told} values, where 8 or 16 bit without sign can be read; convert it first "
            "(in Fiji: Image > Type > 16-bit)"
        )
        raise DamagedError(" ".join(message.split()))
    samples = 1 if scene.inner > 1 else page.samplesperpixel
    extra = samples - (3 if samples >= 3 else 1)
    channels = extra > 1 or (extra == 1 and not {1, 2} & set(map(int, page.extrasamples)))  # neither sort of alpha
    greys = int(page.photometric) in (0, 1)
    if int(page.photometric) not in _GREY_OR_RGB or channels or page.imagedepth > 1:
        colours = tifffile.PHOTOMETRIC(page.photometric).name
        message = f"a TIFF of {page.samplesperpixel} channels ({colours}), where grey or RGB can be read"
        raise DamagedError(message, "choose one with --channel" if channels and greys else None)
    _check_strips(page)


def _check_strips(page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Refuse a file whose pixels are not all there, which decoders may fill up with zeros."""
    size, keyframe = page.parent.filehandle.size, _keyframe(page)
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    inside = all(offset > 0 and count > 0 and offset + count <= size for offset, count in places)
    plain = keyframe.compression == tifffile.COMPRESSION.NONE
    pixels = keyframe.imagewidth * keyframe.imagelength * keyframe.samplesperpixel
    needed = pixels * keyframe.bitspersample // 8 if plain else 0
    if not inside or len(places) < math.prod(keyframe.chunked) or sum(count for _, count in places) < needed:
        message = "a TIFF cut short (not all of its pixels are there)"
        raise DamagedError(message)
    check_lzw(page)
    if int(keyframe.compression) in _DEFLATE and importlib.util.find_spec("imagecodecs") is None:
        _check_deflated(page, math.prod(keyframe.chunks) * 2 * 2)


def _check_deflated(page: tifffile.TiffPage | tifffile.TiffFrame, most: int) -> None:
    """Refuse a strip that would unpack without end; without its companion, tifffile sets no limit."""
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        page.parent.filehandle.seek(offset)
        unpacker, rest, total = zlib.decompressobj(), page.parent.filehandle.read(count), 0
        while rest and total <= most and not unpacker.eof:
            total += len(unpacker.decompress(rest, 2**22))
            rest = unpacker.unconsumed_tail
        if total > most:
            message = "a TIFF whose strips unpack to more than its pixels"
            raise DamagedError(message)


def _pixels(
    tiff: tifffile.TiffFile, scene: _Scene, indices: Sequence[int], channel: int | slice | None, notes: list[str]
) -> Pixels:
    """Give the chosen picture, or the brightest values over all chosen ones."""
    brightest: Pixels | None = None
    for index in indices:
        pixels = _decoded(tiff, scene, index, channel, notes)
        brightest = pixels if brightest is None else np.maximum(brightest, pixels)
    if brightest is None:
        message = "a file without pictures"
        raise DamagedError(message)
    return brightest


def _decoded(
    tiff: tifffile.TiffFile, scene: _Scene, index: int, channel: int | slice | None, notes: list[str]
) -> Pixels:
    if len(scene.pages) <= index:
        return _grey_or_rgb(scene.page, _follower(tiff, scene.page, index), channel, notes)
    page = _page(scene, index)
    if page.offset != scene.page.offset:
        _check_strips(page)
    try:
        array = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):  # it knows the compression, and the data are broken
            raise
        if channel is not None:
            raise _lacking(_keyframe(page), error) from error
        return _decoded_elsewhere(tiff, page, notes, error)
    return _grey_or_rgb(_keyframe(page), array, channel, notes)


def _follower(tiff: tifffile.TiffFile, page: tifffile.TiffPage, index: int) -> NDArray[np.generic]:
    """Read a picture that has no directory: ImageJ and MetaMorph lay them one behind the other after the first."""
    dtype = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
    size = page.size * dtype.itemsize
    tiff.filehandle.seek(page.dataoffsets[0] + index * size)
    data = tiff.filehandle.read(size)
    if page.compression != tifffile.COMPRESSION.NONE or not page.is_contiguous or len(data) < size:
        message = "a TIFF cut short (not all of its pictures are there)"
        raise DamagedError(message)
    return np.frombuffer(data, dtype).reshape(page.shape)


def _grey_or_rgb(
    page: tifffile.TiffPage, array: NDArray[np.generic], channel: int | slice | None, notes: list[str]
) -> Pixels:
    if page.axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    if isinstance(channel, int):
        return _spread(eight_or_sixteen(array[..., channel]), page, notes)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    pixels = eight_or_sixteen(array)
    if page.colormap is not None:
        notes.append("the colours were converted from a palette to RGB")
        return np.ascontiguousarray((np.moveaxis(page.colormap, 0, -1)[pixels] >> 8).astype(np.uint8))
    return _without_alpha(_spread(pixels, page, notes), page, notes)


def _spread(pixels: Pixels, page: tifffile.TiffPage, notes: list[str]) -> Pixels:
    """Turn round what counts from white to black, and spread values of less than 8 bit over the range of 8."""
    bits = page.bitspersample
    largest = np.iinfo(pixels.dtype).max if bits == 1 else 2**bits - 1
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        notes.append("the grey values were turned round, as the file counts from white to black")
        pixels = (largest - pixels).astype(pixels.dtype)
    if bits in (2, 4):
        return (pixels * np.uint8(255 // largest)).astype(np.uint8)
    if bits not in (1, 8, 16):
        notes.append(f"the values have {bits} bit and were kept as they are")
    return pixels


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


def _decoded_elsewhere(
    tiff: tifffile.TiffFile, page: tifffile.TiffPage | tifffile.TiffFrame, notes: list[str], error: Exception
) -> Pixels:
    """Decode what tifffile could not: with Pillow, or for 16-bit RGB, which Pillow cuts to 8 bit, with OpenCV."""
    keyframe, file = _keyframe(page), cast("BinaryIO", tiff.filehandle)
    one = keyframe.samplesperpixel == 1
    if one and keyframe.bitspersample > 8 and keyframe.photometric != tifffile.PHOTOMETRIC.MINISBLACK:
        raise _lacking(keyframe, error) from error
    if keyframe.bitspersample <= 8 or one:
        try:
            return from_pillow(file, "TIFF", notes, page.index)
        except OSError:
            raise _lacking(keyframe, error) from error
    file.seek(0)
    decoded = cv2.imdecode(np.frombuffer(file.read(), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    shape = (keyframe.imagelength, keyframe.imagewidth, keyframe.samplesperpixel)
    if page.index != 0 or decoded is None or decoded.shape != shape:
        raise _lacking(keyframe, error) from error
    ordered = decoded[..., [2, 1, 0, 3][: decoded.shape[2]]]
    return _without_alpha(eight_or_sixteen(ordered), keyframe, notes)


def _lacking(page: tifffile.TiffPage, error: Exception) -> Exception:
    """Say which part of fncells would help, where one would."""
    if "imagecodecs" not in str(error):
        return error
    try:
        name = tifffile.COMPRESSION(page.compression).name
    except ValueError:
        name = f"number {page.compression}"
    return DamagedError(f"a TIFF whose compression {name} needs the package imagecodecs", _EXTRA)


def _thumbnail(tiff: tifffile.TiffFile) -> int | None:
    """Tell where the directory of a reduced picture lies, among the first few."""
    pages = (tiff.pages[number].aspage() for number in range(min(len(tiff.pages), _LOOK_FOR_THUMBNAIL)))
    return next((page.offset for page in pages if page.is_reduced), None)


def _own_tags(file: BinaryIO, tiff: tifffile.TiffFile, offset: int, exif: bytes | None) -> dict[str, str]:
    """Give what the directory of the chosen picture says differently from the first one."""
    block = packed_exif(file, tiff.byteorder, offset, bool(tiff.is_bigtiff), [])
    own = exif_tags(block)[0] if block else {}
    first = exif_tags(exif)[0] if exif else {}
    told = {name.removeprefix("Exif."): value for name, value in own.items() if first.get(name) != value}
    return {f"Page.{name}": value for name, value in told.items()}
