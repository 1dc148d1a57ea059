"""Where pixel sizes come from, for every sample file and every maker that is understood."""

import json
import struct
import zipfile

import numpy as np
import pytest
import tifffile

from fncells.images import PixelSize, read_picture, write_png
from fncells.images.calibration import pixel_size

GREY = np.random.default_rng(5).integers(0, 65536, (16, 20), dtype=np.uint16)

# Every sample file: µm a pixel and who says so, or nothing. The E4500's 300 dpi would be 84.7 µm.
EXPECTED = {
    "fnc/raw/*.JPG": None,
    "fnc/*/images/*.png": None,
    "raw/exif_samples/*": None,
    "bbbc039/images/*.tif": (0.645, "MetaMorph"),
    "parv/*.tif": None,
    "cfos/*/images/*": None,
    "dsb2018/images/*.png": None,
    "formats/via_kudzu/*/*.jpg": None,
}


@pytest.mark.parametrize(("pattern", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_the_pixel_size_of_every_sample_file(data, pattern, expected):
    paths = sorted(data.glob(pattern))
    assert paths
    # The heads of the hundreds in one set are alike; the first, the last and every twentieth stand for them.
    for path in {*paths[::20], *paths[-1:], *(paths if len(paths) < 50 else ())}:
        assert read_picture(path).pixel_size == (expected and PixelSize(*expected)), path.name


def test_the_pixel_size_of_the_qupath_samples(data, tmp_path):
    with zipfile.ZipFile(data / "formats/qupath/qupath_example_project.zip") as archive:
        for member in (name for name in archive.namelist() if name.endswith(".tif")):
            (tmp_path / "a.tif").write_bytes(archive.read(member))
            size = read_picture(tmp_path / "a.tif").pixel_size
            assert size.um == pytest.approx(0.415133, rel=1e-5)
            assert size.source == "ImageJ unit"


def kept(tmp_path, path):
    """Read, write as PNG and read again: the size stays and so does its source."""
    picture = read_picture(path)
    write_png(tmp_path / "again.png", picture)
    again = read_picture(tmp_path / "again.png")
    assert again.pixel_size == picture.pixel_size
    assert again.tags == picture.tags
    return picture.pixel_size


def nikon_xml(**values):
    inside = "".join(f'<{name} runtype="x" value="{value}"/>' for name, value in values.items())
    return f'<variant version="1.0"><no_name runtype="CLxListVariant">{inside}</no_name></variant>\0'.encode()


@pytest.mark.parametrize(
    ("tags", "um"),
    [
        ([(65326, 12, 1, 0.325, True), (65332, 7, None, nikon_xml(dObjectiveMag=20), True)], 0.325),
        ([(65332, 7, None, nikon_xml(dCalibration=0.65), True)], 0.65),
        ([(65333, 7, None, b"junk" + nikon_xml(dCalibration=0.65), True)], 0.65),
        ([(65332, 7, None, nikon_xml(dCalibration=0.65, bCalibrated="false"), True)], None),
        ([(65326, 12, 1, 1.0, True), (65332, 7, None, nikon_xml(a=1), True)], None),
        ([(65326, 12, 1, 0.325, True)], None),
        ([(65332, 7, None, b"<broken", True)], None),
    ],
)
def test_nikons_calibration(tmp_path, tags, um):
    filled = [
        (code, kind, len(value) if count is None else count, value, once) for code, kind, count, value, once in tags
    ]
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, extratags=filled)
    assert kept(tmp_path, tmp_path / "a.tif") == (None if um is None else PixelSize(um, "Nikon"))


def lsm_info(um):
    """The fixed head of a Zeiss LSM's own tag, with the sizes of a voxel in metres."""
    head = struct.pack("<Ii8i", 0x400494C, 512, 20, 16, 1, 1, 1, 2, 20, 16)
    head += struct.pack("<ddd", um * 1e-6, um * 1e-6, 1e-6) + bytes(3 * 8) + struct.pack("<HH", 0, 0)
    return head.ljust(512, b"\0")


@pytest.mark.parametrize("um", [0.26, 0])
def test_zeiss_confocals_calibration(tmp_path, um):
    block = lsm_info(um)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY, metadata=None, extratags=[(34412, 1, len(block), block, True)])
        writer.write(
            GREY[::2, ::2].astype(np.uint8), metadata=None, subfiletype=1
        )  # LSM has a thumbnail for each picture
    size = kept(tmp_path, tmp_path / "a.tif")
    assert (size is None) if um == 0 else (size.um, size.source) == (pytest.approx(um), "Zeiss")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"Zeiss.ap_image_pixel_size": "5.2 nm"}, (0.0052, "Zeiss")),
        ({"Zeiss.ap_pixel_size": "1.5 µm"}, (1.5, "Zeiss")),
        ({"Zeiss.ap_pixel_size": "1.5"}, None),
        ({"Olympus.XResolution": "0.5 um", "Olympus.YResolution": "0.5 um"}, (0.5, "Olympus")),
        ({"Olympus.pixelsizex": "3.25e-07", "Olympus.pixelsizey": "3.25e-07"}, (0.325, "Olympus")),
        ({"Olympus.pixelsizex": "0.0", "Olympus.pixelsizey": "0.0"}, None),
        ({"Micro-Manager.PixelSizeUm": "0.65"}, (0.65, "Micro-Manager")),
        ({"Micro-Manager.PixelSizeUm": "0.0", "Micro-Manager.Summary.PixelSize_um": "0.5"}, (0.5, "Micro-Manager")),
        ({"Micro-Manager.PixelSizeUm": "0"}, None),
        ({"FEI.Scan.PixelWidth": "1e-08", "FEI.Scan.PixelHeight": "1e-08"}, (0.01, "FEI")),
        (
            {"Microscope.maker": "Zeiss", "Microscope.PixelSizeX": "0.5 µm", "Microscope.PixelSizeY": "0.5 µm"},
            (0.5, "Zeiss"),
        ),
        ({"Microscope.maker": "Nikon", "Microscope.format": "ND2", "Microscope.PixelSizeX": "1.0 µm"}, None),
        ({"Microscope.maker": "Leica"}, None),
        (
            {"Exif.Image.XResolution": "300/1", "Exif.Image.YResolution": "300/1", "Exif.Image.ResolutionUnit": "2"},
            None,
        ),
        ({"Exif.Image.XResolution": "118/1", "Exif.Image.ResolutionUnit": "3", "Exif.Image.Make": "NIKON"}, None),
    ],
)
def test_what_makers_say_and_how_they_say_nothing(tags, expected):
    size, notes = pixel_size(tags)
    assert notes == []
    assert size is None if expected is None else (size.um, size.source) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize("um", ["1e-30", "1e9", "-1", "nan", "inf"])
def test_a_size_that_no_pixel_has_is_said_and_not_used(um):
    size, notes = pixel_size({"Microscope.maker": "Zeiss", "Microscope.PixelSizeX": f"{um} µm"})
    assert size is None
    assert notes == ["Zeiss gives a pixel size that cannot be: it was not used"]


def scn(view=500_000, pixels=1000):
    sizes = f'<pixels sizeX="{pixels}" sizeY="{pixels}"/><view sizeX="{view}" sizeY="{view}"/>'
    schema = "http://www.leica-microsystems.com/scn/2010/10/01"
    return f'<?xml version="1.0"?><scn xmlns="{schema}"><collection><image>{sizes}</image></collection></scn>'


@pytest.mark.parametrize(
    ("description", "um"),
    [
        (scn(), 0.5),
        (scn(pixels=0), None),
        (scn().replace("view", "other"), None),
        (scn()[:-9], None),
        (scn(view="x"), None),
    ],
)
def test_leicas_view(tmp_path, description, um):
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, description=description)
    size = kept(tmp_path, tmp_path / "a.tif")
    assert (size is None) if um is None else (size.um, size.source) == (pytest.approx(um), "Leica")


def test_micro_managers_own_tag(tmp_path):
    text = json.dumps({"PixelSizeUm": 0.65, "Camera": "Andor"}).encode()
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, extratags=[(51123, 2, len(text), text, True)])
    assert kept(tmp_path, tmp_path / "a.tif") == PixelSize(0.65, "Micro-Manager")
    assert read_picture(tmp_path / "a.tif").tags["Micro-Manager.Camera"] == "Andor"


@pytest.mark.parametrize("code", [33560, 33628, 34118, 34361, 34412, 34680, 34682, 50839, 51123, 65326, 65332])
def test_private_tags_of_rubbish_leave_the_picture_readable(tmp_path, code):
    rubbish = np.random.default_rng(code).integers(0, 256, 200, dtype=np.uint8).tobytes()
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, extratags=[(code, 7, len(rubbish), rubbish, True)])
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, GREY)
    assert picture.pixel_size is None
    assert rubbish in picture.exif
