"""All that a file tells reaches the PNG, the text and the JSON sidecar; told by programs that are not ours."""

import base64
import json
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from fncells.images import Picture, camera, date_taken, read_picture, tags_json, tags_text, write_png
from fncells.images import png as png_room

RANDOM = np.random.default_rng(3)
RGB = RANDOM.integers(0, 256, (24, 32, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# Places in the original file, which are elsewhere in the PNG; what they point to is compared.
PLACES = {"IFD1:ThumbnailOffset", "PreviewIFD:PreviewImageStart"}
# What only a JPEG's own reader would know; we keep it as tags and blocks of our own, which is checked as well.
OF_JPEG = ("JFIF:", "Adobe:")
OF_THE_FILE = ("System:", "File:", "ExifTool:", "Composite:", "PNG", "SourceFile")


def told_by_exiftool(path):
    """Every tag that exiftool knows or does not know, binary ones whole."""
    command = ["exiftool", "-a", "-u", "-b", "-G1", "-s", "-n", "-j", "-All:all", str(path)]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
    return {name: value for name, value in told.items() if not name.startswith(OF_THE_FILE)}


def sample_files(data):
    return [
        data / "fnc/raw/RT353S2C1R5_r1.JPG",
        *sorted((data / "raw/exif_samples").iterdir()),
        *sorted((data / "bbbc039/images").iterdir()),
    ]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_the_list_of_lost_tags_is_empty(data, tmp_path):
    paths = sample_files(data)
    assert len(paths) >= 10
    for path in paths:
        picture = read_picture(path)
        write_png(tmp_path / "a.png", picture)
        original, written = told_by_exiftool(path), told_by_exiftool(tmp_path / "a.png")
        lost = {name for name, value in original.items() if written.get(name) != value}
        known = {name for name in lost if name.startswith(OF_JPEG)}
        assert lost - known - PLACES == set(), path.name
        if any(name.startswith("JFIF:") for name in known):
            density = f"{original['JFIF:XResolution']} x {original['JFIF:YResolution']} dpi"
            assert read_picture(tmp_path / "a.png").tags["Jpeg.JFIFDensity"] == density
        if any(name.startswith("Adobe:") for name in known):
            assert read_picture(tmp_path / "a.png").blocks["APP14.1"].startswith(b"Adobe")
        if path.suffix == ".jpg":
            assert "IFD1:ThumbnailImage" in written


def test_the_sidecar_holds_every_byte_and_the_text_a_line_for_each(data, tmp_path):
    for path in sample_files(data):
        picture = read_picture(path)
        told = json.loads(tags_json(picture))
        assert told["tags"] == dict(picture.tags)
        assert base64.b64decode(told["exif"]) == picture.exif
        assert {name: base64.b64decode(block) for name, block in told["blocks"].items()} == picture.blocks
        assert (told["height"], told["width"]) == picture.pixels.shape[:2]
        assert told["bits"] == 8 * picture.pixels.dtype.itemsize
        lines = tags_text(picture).splitlines()
        assert len(lines) == 1 + len(picture.tags) + len(picture.blocks)
        # What was written into the PNG is the same once more.
        write_png(tmp_path / "a.png", picture)
        again = read_picture(tmp_path / "a.png")
        assert json.loads(tags_json(again)) == told | {"notes": list(again.notes)}


@pytest.mark.parametrize(
    ("name", "who", "when"),
    [
        ("fnc/raw/RT353S2C1R5_r1.JPG", "NIKON E4500", None),
        ("raw/exif_samples/nikon-e950.jpg", "NIKON E950", "2001-04-06T11:51:40"),
        ("raw/exif_samples/Nikon_COOLPIX_P1.jpg", "NIKON COOLPIX P1", "2008-03-07T09:55:46"),
        ("raw/exif_samples/Nikon_D70.jpg", "NIKON D70", "2008-03-15T09:52:01"),
        ("raw/exif_samples/DudleyLeavittUtah.tiff", None, "2009-09-26T01:11:52"),
        ("raw/exif_samples/Tless0.tiff", None, None),
    ],
)
def test_camera_and_date_are_told_and_zeros_are_no_date(data, name, who, when):
    tags = read_picture(data / name).tags
    assert (camera(tags), date_taken(tags)) == (who, when)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2021:05:03 10:20:30", "2021-05-03T10:20:30"),
        ("2021-05-03", "2021-05-03"),
        ("20200102 03:04:05.678", "2020-01-02T03:04:05"),
        ("0000:00:00 00:00:00", None),
        ("2021:13:01 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("", None),
    ],
)
def test_dates_as_cameras_write_them(text, when):
    assert date_taken({"Exif.Image.DateTime": text}) == when


def test_the_date_of_the_exposure_goes_before_that_of_the_last_change():
    tags = {"Exif.Image.DateTime": "2022:01:01 00:00:00", "Exif.Photo.DateTimeOriginal": "2021:05:03 10:20:30"}
    assert date_taken(tags) == "2021-05-03T10:20:30"
    assert date_taken(tags | {"Exif.Photo.DateTimeOriginal": "0000:00:00 00:00:00"}) == "2022-01-01T00:00:00"


def test_a_colour_profile_becomes_the_pngs_own(tmp_path):
    for suffix in ("jpg", "png"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(RGB).save(path, icc_profile=PROFILE)
        picture = read_picture(path)
        assert picture.blocks["icc"] == PROFILE
        write_png(tmp_path / "b.png", picture)
        with Image.open(tmp_path / "b.png") as image:
            assert image.info["icc_profile"] == PROFILE
            np.testing.assert_array_equal(np.asarray(image), picture.pixels)


def test_a_profile_of_other_colours_than_the_pixels_is_kept_but_not_in_force(tmp_path):
    write_png(tmp_path / "a.png", Picture("a", GREY, blocks={"icc": PROFILE}))
    assert read_picture(tmp_path / "a.png").blocks == {"icc": PROFILE}
    with Image.open(tmp_path / "a.png") as image:
        assert "icc_profile" not in image.info


def test_every_segment_of_a_jpeg_is_kept(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path)
    data = path.read_bytes()
    contents = {
        0xEC: b"Ducky and more",
        0xE2: b"MPF\0rest",
        0xE1: b"something else",
        0xED: b"Photoshop 3.0\x008BIM\x04\x04",
    }
    segments = b"".join(
        bytes((0xFF, marker)) + struct.pack(">H", len(each) + 2) + each for marker, each in contents.items()
    )
    path.write_bytes(data[:2] + segments + data[2:])
    picture = read_picture(path)
    blocks = {
        "APP12.1": contents[0xEC],
        "APP2.1": contents[0xE2],
        "APP1.1": contents[0xE1],
        "8bim": b"8BIM\x04\x04",
    }
    assert picture.blocks == blocks
    write_png(tmp_path / "a.png", picture)
    assert read_picture(tmp_path / "a.png").blocks == blocks
    assert "Block.APP12.1\t14 bytes, sha256 " in tags_text(picture)


def test_chunks_of_a_png_are_kept_but_not_those_of_its_pixels(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).convert("P").save(path, dpi=(300, 300), transparency=0)
    data = path.read_bytes()
    extra = png_room._chunk(b"gAMA", struct.pack(">I", 45455)) + png_room._chunk(b"prIv", b"a lab's own")
    path.write_bytes(data[:33] + extra + data[33:])
    picture = read_picture(path)
    assert picture.blocks["gAMA"] == struct.pack(">I", 45455)
    assert picture.blocks["prIv"] == b"a lab's own"
    assert "pHYs" in picture.blocks
    assert not {"PLTE", "tRNS", "IDAT"} & set(picture.blocks)
    assert picture.pixel_size is None
    write_png(tmp_path / "b.png", picture)
    assert read_picture(tmp_path / "b.png").blocks == picture.blocks
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["gamma"] == pytest.approx(0.45455)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_profiles_in_imagemagicks_texts_are_understood(tmp_path):
    def profile(name, block):
        digits = block.hex()
        lines = "\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
        return f"\n{name}\n{len(block):8}\n{lines}\n"

    exif = b"II*\x00" + struct.pack("<IH", 8, 1) + struct.pack("<HHI4s", 271, 2, 4, b"ABC\0") + bytes(4)
    texts = PngImagePlugin.PngInfo()
    for name, block in (("exif", b"Exif\0\0" + exif), ("xmp", b"<x/>"), ("iptc", bytes(range(100)))):
        texts.add_text(f"Raw profile type {name}", profile(name, block), zip=True)
    texts.add_text("Raw profile type broken", "no digits at all")
    Image.fromarray(RGB).save(tmp_path / "a.png", pnginfo=texts)
    picture = read_picture(tmp_path / "a.png")
    assert picture.exif == exif
    assert picture.tags["Exif.Image.Make"] == "ABC"
    assert picture.tags["Xmp.packet"] == "<x/>"
    assert picture.blocks == {"iptc": bytes(range(100))}
    assert picture.tags["Png.Raw profile type broken"] == "no digits at all"


def test_texts_that_unpack_without_end_are_cut_and_damaged_ones_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(png_room, "MOST_TEXT_BYTES", 1000)
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    data = path.read_bytes()
    extra = b"".join(
        png_room._chunk(b"zTXt", keyword + b"\0\0" + packed)
        for keyword, packed in (
            (b"Big", zlib.compress(b"x" * 900)),
            (b"Bigger", zlib.compress(b"y" * 900)),
            (b"Bad", b"no zlib"),
        )
    )
    path.write_bytes(data[:33] + extra + data[33:])
    picture = read_picture(path)
    assert picture.tags["Png.Big"] == "x" * 900
    assert picture.tags["Png.Bigger"] == "y" * 100
    assert picture.tags["Png.Bad"] == ""
    assert len(picture.notes) == 2


def test_the_directory_of_a_thumbnail_in_a_tiff_is_the_second_of_the_png(tmp_path):
    jpeg = tmp_path / "thumbnail.jpg"
    Image.fromarray(RGB[::4, ::4]).save(jpeg)
    thumbnail = jpeg.read_bytes()
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB, photometric="rgb", metadata=None)
        tags = [(513, 4, 1, 0, True), (514, 4, 1, len(thumbnail), True)]
        writer.write(RGB[::4, ::4], photometric="rgb", subfiletype=1, metadata=None, software="small", extratags=tags)
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        place = file.pages[1].tags[513].offset + 8
    raw[place : place + 4] = len(raw).to_bytes(4, "little")
    path.write_bytes(bytes(raw) + thumbnail)
    picture = read_picture(path)
    assert picture.tags["Exif.Thumbnail.Software"] == "small"
    write_png(tmp_path / "a.png", picture)
    again = read_picture(tmp_path / "a.png")
    assert again.tags == picture.tags
    start, size = (int(again.tags[f"Exif.Thumbnail.JPEGInterchangeFormat{end}"]) for end in ("", "Length"))
    assert again.exif[start : start + size] == thumbnail
    if shutil.which("exiftool"):
        told = told_by_exiftool(tmp_path / "a.png")
        assert told["IFD1:Software"] == "small"
        assert base64.b64decode(told["IFD1:ThumbnailImage"].removeprefix("base64:")) == thumbnail


def test_directories_within_directories_end_somewhere(tmp_path):
    # A hundred directories, each with a pointer to the next.
    size = 2 + 2 * 12 + 4
    block = b"II*\x00" + struct.pack("<I", 8)
    for depth in range(100):
        block += struct.pack("<H", 2) + struct.pack("<HHII", 0x8769, 4, 1, 8 + (depth + 1) * size)
        block += struct.pack("<HHI4s", 271, 2, 4, b"ABC\0") + bytes(4)
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_room._chunk(b"eXIf", block) + data[33:])
    picture = read_picture(path)
    assert picture.exif == block
    assert picture.tags["Exif.Image.Make"] == "ABC"
    assert any("deep" in note for note in picture.notes)


def test_many_tags_that_share_one_long_value_do_not_multiply_it(tmp_path):
    value, entries = 2**23, 400
    path = tmp_path / "a.tif"
    long = [(65000, 7, value, bytes(value), False)]
    tifffile.imwrite(path, GREY, metadata=None, extratags=long)
    with tifffile.TiffFile(path) as file:
        entry = file.pages[0].tags[65000]
        start = path.read_bytes()[entry.offset : entry.offset + 12]
        first = file.pages[0].offset
    raw = path.read_bytes()
    count = int.from_bytes(raw[first : first + 2], "little")
    old = raw[first + 2 : first + 2 + 12 * count]
    more = b"".join(struct.pack("<H", 65001 + number) + start[2:] for number in range(entries))
    raw = raw[:4] + struct.pack("<I", len(raw)) + raw[8:] + struct.pack("<H", count + entries) + old + more + bytes(4)
    path.write_bytes(raw)
    picture = read_picture(path)
    assert len(picture.exif) < 2**26 + 2**16
    assert any("left out" in note for note in picture.notes)
    np.testing.assert_array_equal(picture.pixels, GREY)
