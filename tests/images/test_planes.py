"""Which picture is taken of a TIFF that holds several, and every way in which its pixels may be stored."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from fncells.errors import InputError
from fncells.images import Plane, picture_shape, read_picture, write_png

RANDOM = np.random.default_rng(11)
STACK = RANDOM.integers(0, 65536, (2, 3, 4, 24, 32), dtype=np.uint16)  # time, z, channel


def ome(path, array, axes, **metadata):
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata={"axes": axes, **metadata})
    return path


@pytest.fixture(params=["ome", "imagej", "bigtiff"])
def hyperstack(request, tmp_path):
    path = tmp_path / "a.tif"
    if request.param == "imagej":
        tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "TZCYX", "unit": "um"}, resolution=(2, 2))
    else:
        ome(path.with_suffix(".ome.tif"), STACK, "TZCYX", PhysicalSizeX=0.5, PhysicalSizeXUnit="µm").rename(path)
    return path


@pytest.mark.parametrize(
    ("plane", "expected", "said"),
    [
        (Plane(), STACK[0, 0, 0], "the first of each"),
        (Plane(channel="3"), STACK[0, 0, 2], "time point 1, z plane 1, channel 3"),
        (Plane(time=2, z="2", channel="4"), STACK[1, 1, 3], "time point 2, z plane 2, channel 4"),
        (
            Plane(z="max", time=2),
            STACK[1, :, 0].max(axis=0),
            "time point 2, the brightest over all z planes, channel 1",
        ),
    ],
)
def test_a_picture_is_chosen_by_channel_z_and_time(hyperstack, plane, expected, said):
    picture = read_picture(hyperstack, plane=plane)
    np.testing.assert_array_equal(picture.pixels, expected)
    assert picture.pixel_size.um == pytest.approx(0.5)
    held = "2 time points, 3 z planes, 4 channels"
    assert picture.notes[0] == f"the file holds {held}; {said} was taken"
    assert picture_shape(hyperstack) == (24, 32)


@pytest.mark.parametrize(
    ("plane", "words"),
    [
        (Plane(channel="5"), "4 channels, and no channel 5"),
        (Plane(channel="DAPI"), "4 channels, and no channel DAPI"),
        (Plane(z="4"), "3 z planes, and no z plane 4"),
        (Plane(time=3), "2 time points, and no time point 3"),
        (Plane(scene=2), "1 scene, and no scene 2"),
        (Plane(page=2), "1 picture, and no picture 2"),
    ],
)
def test_what_the_file_does_not_hold_is_refused_by_name(hyperstack, plane, words):
    with pytest.raises(InputError, match=words):
        read_picture(hyperstack, plane=plane)


def test_channels_are_chosen_by_their_names(tmp_path):
    path = ome(tmp_path / "a.ome.tif", STACK[0, 0], "CYX", Channel={"Name": ["DAPI", "GFP", "Cy 3", "Cy5"]})
    picture = read_picture(path, plane=Plane(channel=" gfp "))
    np.testing.assert_array_equal(picture.pixels, STACK[0, 0, 1])
    assert picture.notes == ("the file holds 4 channels (DAPI, GFP, Cy 3, Cy5); channel 2 was taken",)
    with pytest.raises(InputError, match=r"4 channels \(DAPI, GFP, Cy 3, Cy5\), and no channel RFP"):
        read_picture(path, plane=Plane(channel="RFP"))


def test_scenes_are_counted_and_chosen(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for scene in range(3):
            writer.write(STACK[0, scene, :2], photometric="minisblack", metadata={"axes": "CYX"})
    picture = read_picture(path, plane=Plane(scene=2, channel="2"))
    np.testing.assert_array_equal(picture.pixels, STACK[0, 1, 1])
    assert picture.notes[0] == "the file holds 3 scenes; number 2 was taken"
    assert read_picture(path).notes[0] == "the file holds 3 scenes; the first was taken"


def test_pages_are_chosen_even_of_other_sizes_and_tell_their_own_tags(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK[0, 0, 0], metadata=None, description="one")
        writer.write(STACK[0, 0, 1, :20, :10], metadata=None, description="two", compression="zlib")
    picture = read_picture(path, plane=Plane(page=2))
    np.testing.assert_array_equal(picture.pixels, STACK[0, 0, 1, :20, :10])
    assert picture.notes == ("the file holds 2 pictures; number 2 was taken",)
    assert picture.tags["Exif.Image.ImageDescription"] == "two"
    assert picture.tags["Exif.Image.ImageWidth"] == "10"


def test_a_chosen_picture_of_a_stack_keeps_the_stacks_tags_and_its_own(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(STACK[0, 0], photometric="minisblack", metadata={"axes": "CYX"}, software="a microscope")
    picture = read_picture(path, plane=Plane(channel="2"))
    assert "<OME" in picture.tags["Exif.Image.ImageDescription"]
    assert any(name.startswith("Page.Image.") for name in picture.tags)
    write_png(tmp_path / "a.png", picture)
    assert read_picture(tmp_path / "a.png").tags == picture.tags


def test_samples_that_are_no_colours_are_channels_where_one_is_chosen(tmp_path):
    path = tmp_path / "a.tif"
    for array, options in (
        (np.moveaxis(STACK[0, 0], 0, -1), {"planarconfig": "contig"}),
        (STACK[0, 0], {"planarconfig": "separate"}),
    ):
        tifffile.imwrite(path, np.ascontiguousarray(array), photometric="minisblack", metadata=None, **options)
        with pytest.raises(InputError, match=r"4 channels.*; choose one with --channel"):
            read_picture(path)
        picture = read_picture(path, plane=Plane(channel="3"))
        np.testing.assert_array_equal(picture.pixels, STACK[0, 0, 2])
        assert "4 channels; channel 3" in picture.notes[0]


def test_a_single_picture_needs_no_choice_and_refuses_a_wrong_one(tmp_path):
    for suffix in ("jpg", "png", "tif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(STACK[0, 0, 0].astype(np.uint8)).save(path)
        picture = read_picture(path, plane=Plane(channel="1", z="max", time=1, scene=1, page=1))
        assert picture.pixels.shape == (24, 32)
        assert picture.notes == ()
        for plane in (Plane(channel="2"), Plane(scene=2), Plane(page=2)):
            with pytest.raises(InputError, match="and no"):
                read_picture(path, plane=plane)


@pytest.mark.parametrize(
    "wrong", [{"channel": "0"}, {"channel": " "}, {"z": "0"}, {"z": "mean"}, {"page": 0}, {"time": -1}]
)
def test_a_choice_that_means_nothing_is_refused(wrong):
    with pytest.raises(InputError, match="expected a number from 1"):
        Plane(**wrong)


def test_of_a_set_of_files_only_the_one_that_is_named_is_opened(tmp_path):
    def place(channel, name, number):
        uuid = f'<UUID FileName="{name}">urn:uuid:{number}</UUID>'
        return f'<TiffData IFD="{channel % 2}" FirstC="{channel}" PlaneCount="1">{uuid}</TiffData>'

    path = tmp_path / "a.ome.tif"
    places = place(0, path.name, 1) + place(1, path.name, 1) + place(2, "../b.tif", 2) + place(3, "../b.tif", 2)
    sizes = 'SizeX="32" SizeY="24" SizeZ="1" SizeC="4" SizeT="1" PhysicalSizeX="0.5"'
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    image = f'<Image><Pixels DimensionOrder="XYZCT" Type="uint16" {sizes}>{places}</Pixels></Image>'
    text = f'<?xml version="1.0"?><OME xmlns="{schema}" UUID="urn:uuid:1">{image}</OME>'
    tifffile.imwrite(path, STACK[0, 0, :2], photometric="minisblack", description=text.encode(), metadata=None)
    picture = read_picture(path, plane=Plane(page=2))
    np.testing.assert_array_equal(picture.pixels, STACK[0, 0, 1])
    assert picture.notes == ("the file holds 2 pictures; number 2 was taken",)
    assert read_picture(path).pixel_size.um == 0.5


def test_a_picture_that_was_never_taken_is_said_to_be_missing(tmp_path):
    path = ome(tmp_path / "a.ome.tif", STACK[0, 0, :2], "CYX")
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    stopped = text.replace('SizeC="2"', 'SizeC="3"')
    tifffile.imwrite(path, STACK[0, 0, :2], photometric="minisblack", description=stopped.encode(), metadata=None)
    np.testing.assert_array_equal(read_picture(path, plane=Plane(channel="2")).pixels, STACK[0, 0, 1])
    with pytest.raises(InputError, match="never taken"):
        read_picture(path, plane=Plane(channel="3"))


def test_imagejs_stack_behind_one_directory_is_read_and_a_short_one_refused(tmp_path):
    # Beyond 4 GB, and on request, ImageJ writes one directory and the pictures behind it.
    path = tmp_path / "a.tif"
    stack = STACK[0, :, 0]
    description = f"ImageJ=1.53t\nimages={len(stack)}\nslices={len(stack)}\nunit=um\n"
    tifffile.imwrite(path, stack[0], photometric="minisblack", description=description, metadata=None, byteorder=">")
    whole = path.read_bytes() + stack[1:].astype(">u2").tobytes()
    path.write_bytes(whole)
    for z in (1, 3):
        picture = read_picture(path, plane=Plane(z=str(z)))
        np.testing.assert_array_equal(picture.pixels, stack[z - 1])
        assert "3 z planes" in picture.notes[0]
    np.testing.assert_array_equal(read_picture(path, plane=Plane(z="max")).pixels, stack.max(axis=0))
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError):
        read_picture(path, plane=Plane(z="3"))


# ------------------------------------------------------------------------------------- ways to store pixels


@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lossless_compressions_give_the_pixels_back(tmp_path, compression, tile, dtype):
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tif"
    for array, photometric in ((STACK[0, 0, 0], "minisblack"), (np.moveaxis(STACK[0, 0, :3], 0, -1), "rgb")):
        array = np.ascontiguousarray(array.astype(dtype))
        predictor = compression in ("lzw", "zlib", "zstd")
        options = {"compression": compression, "predictor": predictor, "tile": tile, "photometric": photometric}
        tifffile.imwrite(path, array, metadata=None, **options)
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.pixels, array)
        assert picture.notes == ()


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg_within_tiff_is_decoded_as_pillow_does(tmp_path, photometric):
    pytest.importorskip("imagecodecs")
    rows, columns = np.mgrid[:64, :64]
    smooth = np.stack([rows * 3, columns * 3, rows + columns], axis=-1).astype(np.uint8)
    path = tmp_path / "a.tif"
    if photometric == "rgb":
        tifffile.imwrite(path, smooth, photometric=photometric, compression="jpeg", metadata=None)
    else:
        Image.fromarray(smooth).convert("YCbCr").save(path, compression="jpeg")
    picture = read_picture(path)
    with Image.open(path) as image:
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - picture.pixels.astype(int)).max() <= 2
    assert np.abs(picture.pixels.astype(int) - smooth.astype(int)).mean() < 4


def packed_bits(values, bits):
    """Rows of values of a few bits, packed as TIFF has them."""
    rows = []
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text = text.ljust(-(-len(text) // 8) * 8, "0")
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(rows)


@pytest.mark.parametrize(("bits", "factor"), [(2, 85), (4, 17), (12, 1), (10, 1)])
@pytest.mark.parametrize("photometric", [0, 1])
def test_few_bits_are_spread_over_8_and_12_bits_kept_in_16(tmp_path, bits, factor, photometric):
    pytest.importorskip("imagecodecs")
    values = RANDOM.integers(0, 2**bits, (6, 11))
    data = packed_bits(values.tolist(), bits)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((6, 11), np.uint8), photometric=photometric, metadata=None, rowsperstrip=6)
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        raw[tags["BitsPerSample"].offset + 8] = bits
        place, size = len(raw), tags["StripByteCounts"]
        raw[tags["StripOffsets"].offset + 8 : tags["StripOffsets"].offset + 12] = place.to_bytes(4, "little")
        raw[size.offset + 8 : size.offset + 12] = len(data).to_bytes(4, "little")
    path.write_bytes(bytes(raw) + data)
    picture = read_picture(path)
    expected = values if photometric else 2**bits - 1 - values
    np.testing.assert_array_equal(picture.pixels, expected * factor)
    assert picture.pixels.dtype == (np.uint16 if bits > 8 else np.uint8)
    assert any(f"{bits} bit" in note for note in picture.notes) == (bits > 8)


def test_12_bits_in_words_of_16_stay_as_they_are(tmp_path):
    twelve = STACK[0, 0, 0] >> 4
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, twelve, extratags=[(281, 3, 1, 4095, True)], metadata=None)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels, twelve)
    assert (
        picture.tags["Exif.Image.0x0119" if "Exif.Image.0x0119" in picture.tags else "Exif.Image.MaxSampleValue"]
        == "4095"
    )


def test_without_the_companion_a_bomb_in_deflate_is_refused(tmp_path, monkeypatch):
    import importlib.util
    import zlib

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((24, 32), np.uint8), compression="zlib", metadata=None, rowsperstrip=24)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        offset, count = tags["StripOffsets"].offset + 8, tags["StripByteCounts"].offset + 8
    raw, bomb = bytearray(path.read_bytes()), zlib.compress(bytes(2**26), 9)
    raw[offset : offset + 4], raw[count : count + 4] = len(raw).to_bytes(4, "little"), len(bomb).to_bytes(4, "little")
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "imagecodecs" else found(name, *more)
    )
    np.testing.assert_array_equal(read_picture(path).pixels, 0)
    path.write_bytes(bytes(raw) + bomb)
    with pytest.raises(InputError, match="unpack to more than its pixels"):
        read_picture(path)
