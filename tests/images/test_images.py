"""Pictures in, PNG with all tags out."""

import io
import shutil
import struct
import subprocess
import zipfile
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from fncells import images
from fncells.errors import InputError
from fncells.images import Picture, PixelSize, display_rgb, picture_shape, read_picture, tags_text, write_png

RANDOM = np.random.default_rng(7)
GREY8 = RANDOM.integers(0, 256, (48, 64), dtype=np.uint8)
GREY16 = RANDOM.integers(0, 65536, (48, 64), dtype=np.uint16)
RGB8 = RANDOM.integers(0, 256, (48, 64, 3), dtype=np.uint8)
RGB16 = RANDOM.integers(0, 65536, (48, 64, 3), dtype=np.uint16)
SIXTEEN_RGB = {"photometric": "rgb"}


def tiff(path, array, **options):
    tifffile.imwrite(path, array, **options)
    return path


def saved(path, image, **options):
    image.save(path, **options)
    return path


def some_exif():
    exif = Image.Exif()
    exif[271], exif[272], exif[306] = "NIKON", "E4500", "0000:00:00 00:00:00"
    photo = exif.get_ifd(0x8769)
    photo[0x829A], photo[0x9286], photo[0x927C] = (
        IFDRational(1, 30),
        b"ASCII\x00\x00\x00a comment  ",
        bytes(range(256)) * 5,
    )
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, bits, colour, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        read_picture(path)
    told = str(caught.value)
    assert "\n" not in told
    assert str(path) in told
    for word in words:
        assert word in told
    return told


# --------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("array", [GREY8, GREY16, RGB8, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}, {"bigtiff": True}, {"byteorder": ">"}],
    ids=["plain", "deflate", "tiles", "bigtiff", "bigendian"],
)
def test_tiff_pixels_are_those_stored(tmp_path, array, options):
    photometric = "rgb" if array.ndim == 3 else "minisblack"
    path = tiff(tmp_path / "a.tif", array, photometric=photometric, **options)
    picture = read_picture(path)
    assert picture.pixels.dtype == array.dtype
    np.testing.assert_array_equal(picture.pixels, array)
    assert picture_shape(path) == array.shape[:2]
    assert picture.notes == ()
    assert picture.name == "a.tif"
    assert not picture.pixels.flags.writeable


def test_planar_tiff_becomes_interleaved(tmp_path):
    planes = np.moveaxis(RGB16, 2, 0).copy()
    path = tiff(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_picture(path).pixels, RGB16)
    assert picture_shape(path) == (48, 64)


@pytest.mark.parametrize("array", [GREY8, GREY16, RGB8, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
def test_compressed_tiff_is_read_with_and_without_imagecodecs(tmp_path, monkeypatch, array):
    path = tmp_path / "a.tif"
    done, encoded = cv2.imencode(".tif", array if array.ndim == 2 else array[..., ::-1])  # LZW with a predictor
    assert done
    path.write_bytes(encoded.tobytes())
    np.testing.assert_array_equal(read_picture(path).pixels, array)

    def lacking(_):
        message = "<COMPRESSION.LZW: 5> requires the 'imagecodecs' package"
        raise ValueError(message)

    monkeypatch.setattr(tifffile.TiffPage, "asarray", lacking)
    np.testing.assert_array_equal(read_picture(path).pixels, array)


@pytest.mark.parametrize("mode", ["1", "LA", "RGBA", "P"])
def test_pillow_stands_in_for_imagecodecs_in_every_mode(tmp_path, monkeypatch, mode):
    image = Image.fromarray(GREY8 > 99) if mode == "1" else Image.fromarray(RGB8).convert(mode)
    path = saved(tmp_path / "a.tif", image, compression="group4" if mode == "1" else "tiff_lzw")
    expected = np.asarray(image.convert("RGB" if mode in ("P", "RGBA") else "L"))

    def lacking(_):
        message = "<COMPRESSION.LZW: 5> requires the 'imagecodecs' package"
        raise ValueError(message)

    for decoder in (tifffile.TiffPage.asarray, lacking):
        monkeypatch.setattr(tifffile.TiffPage, "asarray", decoder)
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.pixels, expected)
        assert len(picture.notes) == (mode != "1")


def test_without_any_decoder_the_reason_is_said(tmp_path, monkeypatch):
    def lacking(_):
        message = "<COMPRESSION.JPEG2000: 34712> requires the 'imagecodecs' package"
        raise ValueError(message)

    monkeypatch.setattr(tifffile.TiffPage, "asarray", lacking)
    for number, array in enumerate((GREY8, RGB16)):
        path = tiff(tmp_path / f"{number}.tif", array, photometric="rgb" if array.ndim == 3 else "minisblack")
        data = bytearray(path.read_bytes())
        place = data.index(struct.pack("<HHI", 259, 3, 1)) + 8
        data[place : place + 2] = struct.pack(
            "<H", 34712
        )  # JPEG 2000, which neither Pillow's libtiff nor OpenCV's knows
        path.write_bytes(bytes(data))
        refused(path, "imagecodecs")
    refused(tiff(tmp_path / "w.tif", GREY16, photometric="miniswhite"), "imagecodecs")


def test_white_is_zero_is_turned_round(tmp_path):
    picture = read_picture(tiff(tmp_path / "a.tif", GREY16, photometric="miniswhite"))
    np.testing.assert_array_equal(picture.pixels, 65535 - GREY16)
    assert "turned round" in picture.notes[0]


def test_palette_tiff_and_png_become_rgb(tmp_path):
    colours = RANDOM.integers(0, 256, (256, 3), dtype=np.uint8)
    tif = tiff(tmp_path / "a.tif", GREY8, photometric="palette", colormap=colours.T.astype(np.uint16) * 257)
    image = Image.frombytes("P", (64, 48), GREY8.tobytes())
    image.putpalette(colours.tobytes())
    png_path = saved(tmp_path / "b.png", image, transparency=3)
    for path in (tif, png_path):
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.pixels, colours[GREY8])
        assert any("palette" in note for note in picture.notes)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_bit_pictures_become_0_and_255(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(GREY8 > 99))
    np.testing.assert_array_equal(read_picture(path).pixels, np.where(GREY8 > 99, 255, 0))


def test_fax_compressed_tiff(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(GREY8 > 99), compression="group4")
    np.testing.assert_array_equal(read_picture(path).pixels, np.where(GREY8 > 99, 255, 0))


@pytest.mark.parametrize("array", [GREY8, GREY16, RGB8, RGB16], ids=["grey8", "grey16", "rgb8", "rgb16"])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_alpha_is_dropped_and_said(tmp_path, array, kind):
    opaque = np.full((48, 64, 1), np.iinfo(array.dtype).max, array.dtype)
    layers = np.concatenate([np.atleast_3d(array), opaque], axis=2)
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        photometric = "rgb" if array.ndim == 3 else "minisblack"
        tiff(path, layers, photometric=photometric, extrasamples=["unassalpha"], planarconfig="contig")
    else:
        bits, colour = array.dtype.itemsize * 8, 6 if array.ndim == 3 else 4
        rows = b"".join(b"\x00" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in layers)
        path.write_bytes(png(64, 48, bits, colour, rows))
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels, array)
    assert picture.notes == ("the alpha channel was dropped",)


def test_premultiplied_alpha_is_divided_out_as_pillow_does(tmp_path):
    layers = RANDOM.integers(0, 256, (48, 64, 4), dtype=np.uint8)
    layers[0, :, 3] = 0
    path = tiff(tmp_path / "a.tif", layers, photometric="rgb", extrasamples=["assocalpha"])
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_picture(path).pixels, np.asarray(image)[..., :3])


@pytest.mark.parametrize(
    ("bits", "row", "expected"), [(2, b"\x1b", [0, 85, 170, 255]), (4, b"\x0f\x38", [0, 255, 51, 136])]
)
def test_grey_png_of_few_bits_is_spread_over_the_range(tmp_path, bits, row, expected):
    path = tmp_path / "a.png"
    path.write_bytes(png(4, 1, bits, 0, b"\x00" + row))
    assert read_picture(path).pixels.tolist() == [expected]


def test_interlaced_png(tmp_path):
    # Pillow does not write them: the seven passes of a 5 x 5 picture by hand.
    grey = RANDOM.integers(0, 256, (5, 5), dtype=np.uint8)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(b"\x00" + row.tobytes() for x, y, dx, dy in passes for row in grey[y::dy, x::dx])
    data = png(5, 5, 8, 0, rows)
    header = struct.pack(">IIBBBBB", 5, 5, 8, 0, 0, 0, 1)
    (tmp_path / "a.png").write_bytes(data[:8] + chunk(b"IHDR", header) + data[33:])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").pixels, grey)


def test_jpeg_is_decoded_as_pillow_does(tmp_path):
    smooth = cv2.GaussianBlur(RGB8, (0, 0), 5)
    for name, image in (("rgb", Image.fromarray(smooth)), ("grey", Image.fromarray(smooth[..., 0]))):
        path = saved(tmp_path / f"{name}.jpg", image, quality=95)
        with Image.open(path) as again:
            np.testing.assert_array_equal(read_picture(path).pixels, np.asarray(again))
        assert picture_shape(path) == (48, 64)


def test_print_colours_become_rgb_and_this_is_said(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB8).convert("CMYK"))
    picture = read_picture(path)
    assert picture.pixels.shape == (48, 64, 3)
    assert "CMYK" in picture.notes[0]


def test_the_first_of_several_pictures_is_taken_and_said(tmp_path):
    stack = np.stack([GREY16, GREY16 // 2, GREY16 // 3])
    for options, held in (
        ({"photometric": "minisblack"}, "3 pictures; the first"),
        ({"photometric": "minisblack", "metadata": None}, "3 pictures; the first"),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, "3 z planes; z plane 1"),
        ({"imagej": True, "metadata": {"axes": "CYX"}}, "3 channels; channel 1"),
    ):
        picture = read_picture(tiff(tmp_path / "a.tif", stack, **options))
        np.testing.assert_array_equal(picture.pixels, GREY16)
        assert picture.notes == (f"the file holds {held} was taken",)
    animated = tmp_path / "b.png"
    saved(animated, Image.fromarray(GREY8), save_all=True, append_images=[Image.fromarray(255 - GREY8)])
    picture = read_picture(animated)
    np.testing.assert_array_equal(picture.pixels, GREY8)
    assert "animated" in picture.notes[0]


def test_a_reduced_picture_before_the_full_one_is_passed_over(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(GREY8[::4, ::4], subfiletype=1, metadata=None)
        writer.write(GREY8, metadata=None)
    np.testing.assert_array_equal(read_picture(path).pixels, GREY8)
    assert picture_shape(path) == (48, 64)


def test_fill_bytes_before_a_marker_are_passed_over(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.fromarray(GREY8))
    plain, data = read_picture(path).pixels, path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xff" + data[2:])
    np.testing.assert_array_equal(read_picture(path).pixels, plain)


def test_content_decides_and_not_the_suffix(tmp_path):
    path = tmp_path / "a.tif"
    saved(tmp_path / "b.png", Image.fromarray(RGB8)).rename(path)
    np.testing.assert_array_equal(read_picture(path, "sub/b.png").pixels, RGB8)
    assert read_picture(path, "sub/b.png").name == "sub/b.png"


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (GREY16.astype(np.float32), "floating-point"),
        (GREY16.astype(np.uint32), "32-bit"),
        (GREY16.astype(np.int16), "signed"),
        (np.stack([GREY8] * 5, axis=-1), "channels"),
        (np.stack([GREY8] * 4, axis=-1), "channels"),
        (np.stack([GREY8] * 2, axis=-1), "channels"),
    ],
    ids=["float", "uint32", "int16", "five", "four", "two"],
)
def test_values_that_are_no_picture_are_refused(tmp_path, array, word):
    options = {"planarconfig": "contig"} if array.ndim == 3 else {}
    told = refused(tiff(tmp_path / "a.tif", array, photometric="minisblack", **options), word)
    assert "a TIFF, JPEG or PNG picture" in told


def test_colours_of_print_in_tiff_are_refused(tmp_path):
    refused(saved(tmp_path / "a.tif", Image.fromarray(RGB8).convert("CMYK")), "SEPARATED")


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a and more", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*\x00\x00"]
)
def test_what_is_no_picture_is_refused(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    refused(path)
    with pytest.raises(InputError):
        picture_shape(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    refused(tmp_path / "none.png", "nothing of that name")
    refused(tmp_path)


def kinds(folder):
    smooth = Image.fromarray(cv2.GaussianBlur(RGB8, (0, 0), 3))
    return [
        saved(folder / "a.jpg", smooth, exif=some_exif()),
        saved(folder / "a.png", smooth, exif=some_exif()),
        tiff(folder / "plain.tif", RGB16, photometric="rgb"),
        tiff(folder / "deflate.tif", RGB16, photometric="rgb", compression="zlib"),
    ]


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    for whole in kinds(tmp_path):
        data = whole.read_bytes()
        read_picture(whole)
        cut = tmp_path / f"cut{whole.suffix}"
        for size in [*range(1, len(data), max(1, len(data) // 40)), len(data) - 13, len(data) - 1]:
            cut.write_bytes(data[:size])
            refused(cut)


def test_a_damaged_png_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(RGB8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    refused(path, "checksum", "IDAT")


def test_missing_rows_are_refused_quietly(tmp_path, capfd):
    path = tmp_path / "a.png"
    rows = b"\x00" + bytes(64 * 3)
    path.write_bytes(png(64, 48, 8, 2, rows * 20))
    refused(path, "rows")
    path.write_bytes(png(64, 48, 8, 2, rows * 48))
    assert read_picture(path).pixels.shape == (48, 64, 3)
    header = struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0)
    for bits, colour in ((8, 5), (4, 2)):
        path.write_bytes(png(64, 48, bits, colour, rows * 48))
        refused(path, "unknown kind")
    broken = [chunk(b"IHDR", header), chunk(b"IDAT", b"no zlib at all"), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(broken))
    refused(path, "damaged")
    assert capfd.readouterr() == ("", "")


def test_short_strips_are_refused(tmp_path):
    path = tiff(tmp_path / "a.tif", GREY8, compression="zlib", rowsperstrip=48)
    read_picture(path)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        [offset], [count] = file.pages[0].dataoffsets, file.pages[0].databytecounts
    short = zlib.compress(GREY8[:20].tobytes())
    path.write_bytes(data[:offset] + short.ljust(count, b"\x00") + data[offset + count :])
    refused(path)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (2**15 + 1, 2**15), (2**31 - 1, 2**31 - 1)])
def test_impossible_sizes_are_refused_from_the_head_alone(tmp_path, width, height):
    path = tmp_path / "a.png"
    path.write_bytes(png(width, height, 8, 0, b""))
    refused(path, f"{width} x {height}")
    with pytest.raises(InputError, match=f"{width} x {height}"):
        picture_shape(path)


def test_impossible_sizes_are_refused_in_tiff_and_jpeg(tmp_path):
    path = tiff(tmp_path / "a.tif", GREY8)
    data = path.read_bytes()
    for tag in (256, 257):
        at = data.index(
            struct.pack("<HHI", tag, 4, 1) if struct.pack("<HHI", tag, 4, 1) in data else struct.pack("<HHI", tag, 3, 1)
        )
        data = data[: at + 2] + struct.pack("<HII", 4, 1, 50_000) + data[at + 12 :]
    path.write_bytes(data)
    refused(path, "50000 x 50000")
    jpeg = saved(tmp_path / "a.jpg", Image.fromarray(GREY8))
    data = jpeg.read_bytes()
    at = data.index(b"\xff\xc0") + 5
    for size in (65535, 0):
        jpeg.write_bytes(data[:at] + struct.pack(">HH", size, size) + data[at + 4 :])
        refused(jpeg, f"{size} x {size}")


def test_large_scans_are_allowed_and_pillow_keeps_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = saved(tmp_path / "a.jpg", Image.fromarray(GREY8))
    assert read_picture(path).pixels.shape == (48, 64)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_jpeg_heads_that_lie_are_refused(tmp_path):
    path = tmp_path / "a.jpg"
    for head in (
        b"\xff\xd8\xff\xe0\x00\x01",
        b"\xff\xd8\xff\xc0\x00\x04\x08\x00",
        b"\xff\xd8\xff\x01\xff\xda\x00\x02\xff\xd9",
    ):
        path.write_bytes(head)
        refused(path)


@settings(max_examples=150)
@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_whatever_is_broken_ends_in_one_line(tmp_path_factory, kind, flips):
    folder = tmp_path_factory.getbasetemp() / "kinds"
    if not folder.exists():
        folder.mkdir()
        kinds(folder)
    whole = sorted(folder.glob("*.*"))[kind]
    data = bytearray(whole.read_bytes())
    for place, change in flips:
        data[int(place * len(data))] ^= change
    broken = folder.parent / f"broken{whole.suffix}"
    broken.write_bytes(bytes(data))
    try:
        pixels = read_picture(broken).pixels
    except InputError as error:
        told = str(error)
    else:
        told = f"{pixels.ndim} dimensions"
    assert "\n" not in told


# --------------------------------------------------------------------------------------------------------- tags


def test_exif_of_jpeg_and_png_is_handed_on_unchanged(tmp_path):
    block = some_exif().tobytes()[6:]
    for suffix in ("jpg", "png"):
        picture = read_picture(saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB8), exif=some_exif()))
        assert picture.exif == block
        assert picture.tags["Exif.Image.Make"] == "NIKON"
        assert picture.tags["Exif.Image.DateTime"] == "0000:00:00 00:00:00"
        assert picture.tags["Exif.Photo.ExposureTime"] == "1/30"
        assert picture.tags["Exif.Photo.UserComment"] == "a comment"
        assert picture.tags["Exif.GPSInfo.GPSLatitudeRef"] == "N"
        assert picture.tags["Exif.Photo.MakerNote"].startswith("1280 bytes, sha256 ")
        assert picture.notes == ()


def test_exif_in_several_segments_is_joined(tmp_path):
    exif = some_exif()
    exif[37724] = bytes(100_000)
    block = exif.tobytes()[6:]
    path = saved(tmp_path / "a.jpg", Image.fromarray(RGB8))
    parts = [block[:60_000], block[60_000:]]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\x00\x00" + part for part in parts)
    data = path.read_bytes()
    path.write_bytes(data[:2] + segments + data[2:])
    assert read_picture(path).exif == block


def test_orientation_is_noted_and_the_pixels_stay(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    for suffix in ("png", "tif"):
        picture = read_picture(saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB8), exif=exif))
        np.testing.assert_array_equal(picture.pixels, RGB8)
        assert "not rotated" in picture.notes[0]


TIFF_TAGS = [
    (271, 2, None, "NIKON", True),
    (37380, 10, 1, (-1, 3), True),
    (65000, 1, 5, bytes(range(5)), True),
    (65001, 11, 2, (0.5, -2.25), True),
    (65002, 12, 1, 1e-3, True),
    (65003, 8, 3, (-1, 2, -3), True),
    (65004, 7, 1500, bytes(1500), True),
]


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=["little", "big", "bigtiff"])
def test_every_tag_of_a_tiff_reaches_the_png(tmp_path, options):
    path = tiff(
        tmp_path / "a.tif",
        GREY16,
        extratags=TIFF_TAGS,
        description="from the µ-scope".encode(),
        metadata=None,
        **options,
    )
    picture = read_picture(path)
    write_png(tmp_path / "a.png", picture)
    with tifffile.TiffFile(path) as file:
        expected = {tag.code: tag.value for tag in file.pages[0].tags}
    with Image.open(tmp_path / "a.png") as image:
        told = dict(image.getexif())
    assert set(told) == set(expected)
    assert told[271] == "NIKON"
    assert told[65000] == bytes(range(5))
    assert told[65001] == (0.5, -2.25)
    assert told[65003] == (-1, 2, -3)
    assert told[256] == 64
    assert picture.tags["Exif.Image.Make"] == "NIKON"
    assert picture.tags["Exif.Image.ExposureBiasValue"] == "-1/3"
    assert picture.tags["Exif.Image.0xfde9"] == "0.5 -2.25"
    assert picture.tags["Exif.Image.0xfdec"].startswith("1500 bytes, sha256")
    assert picture.tags["Exif.Image.ImageDescription"] == "from the µ-scope"
    assert read_picture(tmp_path / "a.png").tags == picture.tags


def test_directories_below_a_tiff_are_copied(tmp_path):
    short = {256: 2, 257: 1, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    entries = [(tag, 3, 1, struct.pack("<HH", value, 0)) for tag, value in short.items()]
    behind = 10 + 12 * (len(entries) + 3) + 4
    photo = struct.pack("<HHHII", 1, 0x829A, 5, 1, behind + 18) + bytes(4) + struct.pack("<II", 10, 300)
    places = {273: behind + len(photo), 279: 2, 0x8769: behind}
    entries += [(tag, 4, 1, struct.pack("<I", place)) for tag, place in places.items()]
    path = tmp_path / "a.tif"
    path.write_bytes(block(*sorted(entries), after=photo + b"\x07\x09"))
    picture = read_picture(path)
    assert picture.pixels.tolist() == [[7, 9]]
    assert picture.tags["Exif.Photo.ExposureTime"] == "10/300"
    write_png(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif().get_ifd(0x8769) == {0x829A: 10 / 300}


def test_pictures_below_a_tiff_keep_their_tags(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(GREY8, subifds=1, metadata=None)
        writer.write(GREY8[::2, ::2], subfiletype=1, metadata=None)
    picture = read_picture(path)
    assert picture.tags["Exif.SubImage1.ImageWidth"] == "32"
    write_png(tmp_path / "a.png", picture)
    again = read_picture(tmp_path / "a.png")
    assert again.exif == picture.exif
    assert again.tags == picture.tags


def block(*entries, order="<", after=b"", link=0):
    table = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\x00" if order == "<" else b"MM\x00*"
    return head + struct.pack(f"{order}IH", 8, len(entries)) + table + struct.pack(f"{order}I", link) + after


MAKE = (271, 2, 4, b"ABC\x00")


@pytest.mark.parametrize(
    ("exif", "note"),
    [
        (block(MAKE, (272, 2, 90, struct.pack("<I", 9000))), "behind the end"),
        (block(MAKE, (272, 99, 1, bytes(4))), "unknown type"),
        (block(MAKE, (272, 2, 2**30, bytes(4))), "left out"),
        (block(MAKE, link=8), "back to itself"),
        (block(MAKE, link=5000), "cut short"),
        (block(MAKE)[:-4], "cut short"),
        (block(MAKE, (0x8769, 4, 1, struct.pack("<I", 8))), "back to itself"),
    ],
    ids=["behind", "type", "huge", "loop", "link", "cut", "pointer"],
)
def test_broken_exif_is_noted_and_kept(tmp_path, exif, note):
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 1, 8, 0, b"\x00\x05", chunk(b"eXIf", exif)))
    picture = read_picture(path)
    assert picture.exif == exif
    assert any(note in told for told in picture.notes)
    assert picture.tags.get("Exif.Image.Make", "ABC") == "ABC"
    write_png(tmp_path / "b.png", picture)
    assert exif in (tmp_path / "b.png").read_bytes()


def test_exif_without_a_head_is_left_out(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 1, 8, 0, b"\x00\x05", chunk(b"eXIf", b"rubbish")))
    picture = read_picture(path)
    assert picture.exif is None
    assert "no valid head" in picture.notes[0]


def test_texts_of_png_and_jpeg_are_tags(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a neuron")
    texts.add_text("Title", "twice")
    texts.add_text("Comment", "packed " * 50, zip=True)
    texts.add_itxt("Author", "Zoë", zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x/>")
    picture = read_picture(saved(tmp_path / "a.png", Image.fromarray(GREY8), pnginfo=texts))
    assert picture.tags == {
        "Png.Title": "a neuron\ntwice",
        "Png.Comment": "packed " * 50,
        "Png.Author": "Zoë",
        "Xmp.packet": "<x/>",
    }
    jpeg = read_picture(
        saved(tmp_path / "a.jpg", Image.fromarray(GREY8), comment="caf\xe9".encode("latin-1"), xmp=b"<y/>")
    )
    assert jpeg.tags == {
        "Jpeg.JFIFVersion": "1.01",
        "Jpeg.JFIFDensity": "1 x 1 (no unit)",
        "Jpeg.Comment": "café",
        "Xmp.packet": "<y/>",
    }


NAMES = st.sampled_from(["Png.Title", "Jpeg.Comment", "Xmp.packet", "MetaMorph.Camera Bit Depth", "ImageJ.Info"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60)
@given(
    npst.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))
        ),
    ),
    st.dictionaries(NAMES, TEXTS),
    st.sampled_from([None, block(MAKE), block((271, 2, 4, b"ABC\x00"), order=">")]),
)
def test_a_written_picture_reads_back_the_same(tmp_path_factory, pixels, tags, exif):
    path = tmp_path_factory.getbasetemp() / "again.png"
    named = {"Exif.Image.Make": "ABC"} if exif else {}
    write_png(path, Picture("x", pixels, tags=named | tags, exif=exif))
    first = path.read_bytes()
    again = read_picture(path)
    np.testing.assert_array_equal(again.pixels, pixels)
    assert again.pixels.dtype == pixels.dtype
    assert (again.tags, again.exif) == (named | tags, exif)
    write_png(path, again)
    assert path.read_bytes() == first


def test_other_readers_see_the_same_pixels(tmp_path):
    write_png(tmp_path / "a.png", Picture("a", RGB8, exif=some_exif().tobytes()[6:]))
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), RGB8)
        assert image.getexif()[271] == "NIKON"
    write_png(tmp_path / "b.png", Picture("b", RGB16))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)[..., ::-1], RGB16)


@pytest.mark.parametrize(
    "pixels", [GREY8 / 255, np.zeros((3, 4, 2), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)]
)
def test_what_is_no_picture_is_not_written(tmp_path, pixels):
    with pytest.raises(InputError, match="uint8 or uint16"):
        write_png(tmp_path / "a.png", Picture("a", pixels))
    assert list(tmp_path.iterdir()) == []


def test_tags_with_unwritable_names_are_passed_over(tmp_path):
    write_png(
        tmp_path / "a.png", Picture("a", GREY8, tags={"Png.": "nameless", "Png." + "x" * 80: "long", "Png.ok": "kept"})
    )
    assert read_picture(tmp_path / "a.png").tags == {"Png.ok": "kept"}


@given(st.dictionaries(TEXTS, TEXTS))
def test_the_text_of_tags_is_one_line_each_and_can_be_undone(tags):
    text = tags_text(Picture("a", GREY8, tags=tags))
    header, *lines = text.splitlines()
    assert header == "KEY\tVALUE"
    assert len(lines) == len(tags)

    def undone(shown):
        return shown.encode("latin-1", "backslashreplace").decode("unicode_escape")

    assert {undone(key): undone(value) for key, value in (line.split("\t") for line in lines)} == tags


# --------------------------------------------------------------------------------------------------------- pixel size


def sized(tmp_path, **options):
    path = tiff(tmp_path / "a.tif", GREY16, **options)
    picture = read_picture(path)
    write_png(tmp_path / "a.png", picture)
    assert read_picture(tmp_path / "a.png").pixel_size == picture.pixel_size
    return picture


@pytest.mark.parametrize(
    ("unit", "um"),
    [("um", 0.325), ("micron", 0.325), ("\\u00B5m", 0.325), ("µm", 0.325), ("NM", 325e-6), ("mm", 325)],
)
def test_imagej_units_give_the_pixel_size(tmp_path, unit, um):
    picture = sized(
        tmp_path, description=f"ImageJ=1.53t\nunit={unit}\n".encode(), resolution=(1 / 0.325, 1 / 0.325), metadata=None
    )
    assert picture.pixel_size.um == pytest.approx(um, rel=1e-6)
    assert picture.pixel_size.source == "ImageJ unit"
    assert picture.tags["Exif.Image.ImageDescription"].startswith("ImageJ=1.53t")


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.53t\nunit=inch\n",
        "ImageJ=1.53t\nunit=cm\n",
        "ImageJ=1.53t\nunit=pixel\n",
        "ImageJ=1.53t\n",
        "ImageJ=1.53t\nunit=um\nyunit=mm\n",
        "unit=um\n",
        "",
        "Aperio without a size",
        '<MetaData><prop id="spatial-calibration-state"',
        "<OME broken",
        "<OME></OME>",
        '<!DOCTYPE OME [<!ENTITY a "b">]><OME><Pixels PhysicalSizeX="0.5"/></OME>',
        '<OME><Pixels PhysicalSizeX="0.5" PhysicalSizeXUnit="reference frame"/></OME>',
        '<OME><Pixels PhysicalSizeX="half"/></OME>',
    ],
)
@pytest.mark.parametrize("unit", [1, 2, 3])
def test_dpi_and_what_is_no_calibration_give_no_pixel_size(tmp_path, description, unit):
    path = tiff(
        tmp_path / "a.tif", GREY8, description=description, metadata=None, resolution=(300, 300), resolutionunit=unit
    )
    assert read_picture(path).pixel_size is None


def ome(attributes):
    return f'<?xml version="1.0"?><OME xmlns="http://x"><Image><Pixels {attributes}/></Image></OME>'


@pytest.mark.parametrize(
    ("attributes", "um"),
    [
        ('PhysicalSizeX="0.5" PhysicalSizeY="0.5"', 0.5),
        ('PhysicalSizeX="500" PhysicalSizeXUnit="nm"', 0.5),
        ('PhysicalSizeX="0.0005" PhysicalSizeXUnit="mm" PhysicalSizeY="0.5" PhysicalSizeYUnit="µm"', 0.5),
    ],
)
def test_ome_gives_the_pixel_size(tmp_path, attributes, um):
    picture = sized(tmp_path, description=ome(attributes).encode(), metadata=None)
    assert picture.pixel_size.um == pytest.approx(um)
    assert picture.pixel_size.source == "OME"


def test_tifffiles_own_ome_gives_the_pixel_size(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, np.stack([GREY16, GREY16]), metadata={"axes": "CYX", "PhysicalSizeX": 0.65, "PhysicalSizeXUnit": "µm"}
    )
    picture = read_picture(path)
    assert picture.pixel_size == PixelSize(0.65, "OME")
    assert "2 channels" in picture.notes[0]


@pytest.mark.parametrize(
    "attributes", ['PhysicalSizeX="0"', 'PhysicalSizeX="0.5" PhysicalSizeY="0.6"', 'PhysicalSizeX="inf"']
)
def test_pixels_that_cannot_be_or_are_not_square_are_noted(tmp_path, attributes):
    picture = sized(tmp_path, description=ome(attributes), metadata=None)
    assert picture.pixel_size is None
    assert "not used" in picture.notes[0]


def metamorph(state="on", x="0.645", units="um"):
    props = {"state": state, "x": x, "y": x, "units": units}
    inside = "".join(f'<prop id="spatial-calibration-{key}" value="{value}"/>' for key, value in props.items())
    return f"<MetaData><PlaneInfo>{inside}</PlaneInfo></MetaData>"


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (metamorph(), PixelSize(0.645, "MetaMorph")),
        (metamorph(x="645", units="nm"), PixelSize(0.645, "MetaMorph")),
        (metamorph(state="off"), None),
        (metamorph(x="1"), None),
        (metamorph(units="pixel"), None),
        (metamorph(x=""), None),
        ("Aperio Image Library v11\n2x2|AppMag = 20|MPP = 0.499", PixelSize(0.499, "Aperio")),
    ],
)
def test_vendors_calibrations(tmp_path, description, expected):
    found = sized(tmp_path, description=description, metadata=None).pixel_size
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found.um == pytest.approx(expected.um)
        assert found.source == expected.source


def test_imagejs_own_texts_are_tags(tmp_path):
    path = tiff(
        tmp_path / "a.tif", GREY16, imagej=True, metadata={"Info": "Objective = 20x", "Labels": ["one"], "unit": "um"}
    )
    picture = read_picture(path)
    assert picture.tags["ImageJ.Info"] == "Objective = 20x"
    assert picture.tags["ImageJ.Labels"] == "one"


@pytest.mark.parametrize("um", [0, -1, float("nan"), float("inf")])
def test_a_pixel_size_is_positive(um):
    with pytest.raises(InputError, match="positive"):
        PixelSize(um, "user")
    assert PixelSize(0.5, "user").um == 0.5


# --------------------------------------------------------------------------------------------------------- for the eye


def test_rgb_of_8_bit_is_shown_as_it_is():
    np.testing.assert_array_equal(display_rgb(RGB8 // 4), RGB8 // 4)


@pytest.mark.parametrize(
    "array", [GREY16 // 30 + 100, GREY8 // 5 + 3, RGB16 // 30 + 100], ids=["grey16", "grey8", "rgb16"]
)
def test_dim_pictures_are_stretched_to_the_full_range(array):
    shown = display_rgb(array)
    assert shown.dtype == np.uint8
    assert shown.shape == (48, 64, 3)
    assert (shown.min(), shown.max()) == (0, 255)
    flat, seen = array.ravel(), (shown if array.ndim == 3 else shown[..., 0]).ravel()
    assert (np.diff(seen[np.argsort(flat, kind="stable")].astype(int)) >= 0).all()


def test_bright_grey_pictures_and_even_ones_are_not_stretched():
    np.testing.assert_array_equal(display_rgb(GREY8), np.dstack([GREY8] * 3))
    assert display_rgb(np.full((4, 4), 7, np.uint8)).tolist() == np.full((4, 4, 3), 7).tolist()
    assert display_rgb(np.full((4, 4), 65535, np.uint16)).tolist() == np.full((4, 4, 3), 255).tolist()


# --------------------------------------------------------------------------------------------------------- real files


def all_directories(source):
    with Image.open(source) as image:
        exif = image.getexif()
        below = {number: dict(exif.get_ifd(number)) for number in (0x8769, 0x8825, 0xA005, 1)}
        return dict(exif), below, image.info.get("exif")


def test_the_cameras_jpeg_keeps_every_tag_in_png(data, tmp_path):
    path = data / "fnc/raw/RT353S2C1R5_r1.JPG"
    picture = read_picture(path)
    write_png(tmp_path / "a.png", picture)
    original, written = all_directories(path), all_directories(tmp_path / "a.png")
    assert written == original
    assert len(original[0]) > 10
    assert len(original[1][0x8769]) == 35
    assert 0x927C in original[1][0x8769]
    assert picture.exif == original[2][6:]
    assert picture.tags["Exif.Image.DateTime"] == "0000:00:00 00:00:00"
    assert picture.tags["Exif.Photo.ExposureTime"] == "10/300"
    assert picture.tags["Exif.Thumbnail.JPEGInterchangeFormatLength"] == "2768"
    assert picture.pixel_size is None
    thumbnail = picture.exif[4084 : 4084 + 2768]
    assert Image.open(io.BytesIO(thumbnail)).size[0] > 0


def test_the_published_png_is_the_cameras_jpeg_but_for_the_decoder(data):
    # The authors' decoder rounded colour differently: a twentieth of the values differ, by 7 of 255 at most.
    jpeg = read_picture(data / "fnc/raw/RT353S2C1R5_r1.JPG").pixels.astype(int)
    published = read_picture(data / "fnc/red/images/RT353S2C1R5_r1.png").pixels.astype(int)
    difference = np.abs(jpeg - published)
    assert difference.max() <= 7
    assert (difference > 0).mean() < 0.06


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_reads_the_same_tags(data, tmp_path):
    for path in [data / "fnc/raw/RT353S2C1R5_r1.JPG", *sorted((data / "raw/exif_samples").iterdir())]:
        write_png(tmp_path / "a.png", read_picture(path))
        options = ["exiftool", "-EXIF:all", "-MakerNotes:all", "-a", "-u", "-G1"]
        told = [
            subprocess.run([*options, str(each)], capture_output=True, text=True, check=True).stdout
            for each in (path, tmp_path / "a.png")
        ]
        lines = [{line for line in text.splitlines() if "Offset" not in line and "Start" not in line} for text in told]
        assert lines[0] <= lines[1]


def test_all_sample_files_keep_pixels_and_tags(data, tmp_path):
    paths = sorted((data / "raw/exif_samples").iterdir())
    assert len(paths) >= 5
    for path in paths:
        picture = read_picture(path)
        write_png(tmp_path / "a.png", picture)
        again = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(again.pixels, picture.pixels)
        assert again.exif == picture.exif
        assert again.tags == picture.tags
        assert picture.pixel_size is None
        original, written = all_directories(path), all_directories(tmp_path / "a.png")
        assert original[0].keys() - {34665} <= written[0].keys()
        if path.suffix == ".jpg":
            assert written == original


def test_metamorph_pictures_keep_16_bit_and_tell_their_pixel_size(data, tmp_path):
    for path in sorted((data / "bbbc039/images").glob("*.tif")):
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.pixels, tifffile.imread(path))
        assert picture.pixels.dtype == np.uint16
        # 20 x, a camera of 6.45 µm binned by two: 0.645 µm.
        assert picture.pixel_size == PixelSize(0.645, "MetaMorph")
        assert picture.tags["MetaMorph._MagSetting_"].startswith("20x")
        write_png(tmp_path / "a.png", picture)
        again = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(again.pixels, picture.pixels)
        assert again.pixel_size == picture.pixel_size
        assert again.tags == picture.tags


def test_no_other_real_picture_claims_a_pixel_size(data):
    paths = [
        *(data / "fnc").rglob("images/*.png"),
        *(data / "parv").glob("*.tif"),
        *(data / "formats/via_kudzu").rglob("*.jpg"),
        *sorted((data / "dsb2018/images").iterdir())[:20],
        *sorted((data / "cfos").rglob("images/*"))[:5],
    ]
    for path in paths:
        picture = read_picture(path)
        assert picture.pixel_size is None, path
        assert picture_shape(path) == picture.pixels.shape[:2]


def test_imagejs_own_pictures_tell_their_pixel_size(data, tmp_path):
    with zipfile.ZipFile(data / "formats/qupath/qupath_example_project.zip") as archive:
        members = [name for name in archive.namelist() if name.endswith(".tif")]
        assert members
        for member in members:
            (tmp_path / "a.tif").write_bytes(archive.read(member))
            picture = read_picture(tmp_path / "a.tif")
            assert picture.pixel_size.um == pytest.approx(1e6 / 2408867)
            assert picture.pixel_size.source == "ImageJ unit"
            assert picture.notes == ("the file holds 3 channels; channel 1 was taken",)
            assert "BitsPerPixel" in picture.tags["ImageJ.Info"]


def test_the_limits_are_what_the_documentation_says():
    assert images.MOST_PIXELS == 2**30


def test_rows_of_an_unknown_filter_are_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 8, 0, b"\x00\x05\x06"))
    assert read_picture(path).pixels.tolist() == [[5, 6]]
    path.write_bytes(png(2, 1, 8, 0, b"\x09\x05\x06"))
    refused(path, "damaged")
