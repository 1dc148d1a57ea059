import zlib

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from PIL import Image

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import masks
from formats.label_maps import drawn_map, label_maps


@pytest.fixture
def mask():
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:6, 3:9] = True
    mask[6, 9] = True  # touches the first by a corner: 8-connected, so one cell
    mask[12:18, 15:25] = True
    mask[14:16, 18:20] = False
    return mask


def only(path, images=None):
    [image] = masks.CODEC.read(path, images)
    return image


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        colours = {"photometric": "rgb", "planarconfig": "separate"} if array.ndim == 3 else {}
        tifffile.imwrite(path, array, **colours)
    else:
        assert cv2.imwrite(str(path), array)
    return path


STORED = {
    "0 and 255": (".png", lambda mask: mask.astype(np.uint8) * 255),
    "0 and 1": (".png", lambda mask: mask.astype(np.uint8)),
    "0 and 65535": (".png", lambda mask: mask.astype(np.uint16) * 65535),
    "0 and 7": (".png", lambda mask: mask.astype(np.uint8) * 7),
    "one colour": (".png", lambda mask: np.dstack([mask * 0, mask * 0, mask * 255]).astype(np.uint8)),
    "one dark colour of 16 bits": (".png", lambda mask: np.dstack([mask * 0, mask * 1, mask * 0]).astype(np.uint16)),
    "opaque RGBA": (".png", lambda mask: np.dstack([mask * 0, mask * 0, mask * 255, mask * 0 + 255]).astype(np.uint8)),
    "truth values in TIFF": (".tif", lambda mask: mask),
    "floats in TIFF": (".tif", lambda mask: mask.astype(np.float32)),
    "32-bit TIFF": (".tif", lambda mask: mask.astype(np.int32) * 255),
    "planes first in TIFF": (".tif", lambda mask: np.stack([mask * 255, mask * 0, mask * 0]).astype(np.uint8)),
    "JPEG": (".jpg", lambda mask: mask.astype(np.uint8) * 255),
}


@pytest.mark.parametrize("stored", STORED)
def test_masks_are_read_however_they_are_stored(tmp_path, mask, stored):
    suffix, encode = STORED[stored]
    save(tmp_path / f"a{suffix}", encode(mask))
    image = only(tmp_path)
    assert image.name == f"a{suffix}"
    assert len(image.cells) == 2
    np.testing.assert_array_equal(image.mask, mask)


def test_one_bit_and_palette_pictures_are_read(tmp_path, mask):
    Image.fromarray(mask).save(tmp_path / "bit.png")
    indexed = Image.new("P", mask.shape[::-1])
    indexed.putdata(mask.astype(int).ravel().tolist())
    indexed.putpalette([0, 0, 0, 128, 0, 0])
    indexed.save(tmp_path / "colours.png")
    indexed.putdata((~mask).astype(int).ravel().tolist())
    indexed.putpalette([255, 255, 255, 0, 0, 0])  # as optimisers write a 0/255 picture
    indexed.save(tmp_path / "greys.png")
    for image in masks.CODEC.read(tmp_path):
        np.testing.assert_array_equal(image.mask, mask, err_msg=image.name)


def test_jpegs_of_four_inks_are_read(tmp_path, mask):
    Image.fromarray(mask.astype(np.uint8) * 255).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    np.testing.assert_array_equal(only(tmp_path).mask, mask)


def test_grey_levels_are_cut_at_half_the_scale(tmp_path):
    save(tmp_path / "a8.png", np.array([[0, 127, 128, 255]], dtype=np.uint8))
    save(tmp_path / "b16.png", np.array([[0, 32767, 32768, 65535]], dtype=np.uint16))
    save(tmp_path / "c32.tif", np.array([[0, 0.4, 0.5, 1]], dtype=np.float32))
    for image in masks.CODEC.read(tmp_path):
        assert image.mask.tolist() == [[False, False, True, True]], image.name


def test_classes_far_below_half_the_scale_are_cells(tmp_path):
    save(tmp_path / "a.png", np.array([[0, 1, 2, 3]], dtype=np.uint8))
    save(tmp_path / "b.tif", np.array([[0, 1, 2, 300]], dtype=np.int32))
    for image in masks.CODEC.read(tmp_path):
        assert image.mask.tolist() == [[False, True, True, True]], image.name


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([[1, 2, 1]], dtype=np.uint8), "only the values 1 and 2"),
        (np.array([[-1, 0, 1]], dtype=np.int16), "values from -1 to 1"),
        (np.array([[0, np.nan]], dtype=np.float32), "values from nan"),
        (np.zeros((5, 4, 6, 7), dtype=np.uint8), "several planes"),
        (np.zeros((2, 2), dtype=np.complex64), "values of type complex64"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, array, found):
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    with pytest.raises(InputError, match="a.tif: expected .*" + found):
        only(tmp_path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_one_pixel_wide_are_read(tmp_path, shape, suffix):
    save(tmp_path / f"a{suffix}", np.full(shape, 255, dtype=np.uint8))
    assert only(tmp_path).shape == shape


def test_colours_of_pictures_one_pixel_wide_and_single_planes_are_read(tmp_path):
    save(tmp_path / "a.png", np.array([[[0, 0, 0], [0, 3, 0]]], dtype=np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", np.array([[[[0, 1]]]], dtype=np.uint8), metadata={"axes": "ZCYX"})
    for image in masks.CODEC.read(tmp_path):
        assert image.mask.tolist() == [[False, True]], image.name


def test_empty_full_and_one_valued_masks_are_read(tmp_path):
    save(tmp_path / "empty.png", np.zeros((4, 5), dtype=np.uint8))
    save(tmp_path / "full.png", np.full((4, 5), 255, dtype=np.uint8))
    assert [len(image.cells) for image in masks.CODEC.read(tmp_path)] == [0, 1]


def test_broken_pictures_are_refused_by_name(tmp_path, mask):
    whole = save(tmp_path / "whole" / "a.png", mask.astype(np.uint8)).read_bytes()
    assert len(only(tmp_path / "whole").cells) == 2
    for name, content in {
        "cut.png": whole[:-30],
        "text.png": b"no picture",
        "nothing.tif": b"",
        "bad.tif": b"II*\0abc",
    }.items():
        broken = tmp_path / name / name
        broken.parent.mkdir()
        broken.write_bytes(content)
        with pytest.raises(InputError, match=name):
            only(broken.parent)


def test_a_header_that_claims_a_giant_picture_is_refused(tmp_path):
    data = bytearray(save(tmp_path / "a.png", np.zeros((8, 8), dtype=np.uint8)).read_bytes())
    data[16:24] = (10**5).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(bytes(data))
    with pytest.raises(InputError, match="10000000000"):
        only(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected pictures"):
        only(tmp_path)


def test_written_masks_are_mirrored_by_stem_with_sub_folders(tmp_path, mask):
    images = [AnnotatedImage.from_mask(name, mask) for name in ("a.tif", "sub/b.png", "sub/c.x.jpg")]
    masks.CODEC.write(tmp_path, iter(images))
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "a.png",
        "sub/b.png",
        "sub/c.x.png",
    ]
    written = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, mask * 255)


def test_dots_are_not_drawn(tmp_path):
    dot = Cell((np.array([[2.0, 2.0]]),), source_shape="point")
    masks.CODEC.write(tmp_path, [AnnotatedImage("a.png", (5, 5), (dot,))])
    assert only(tmp_path).cells == ()


def test_a_picture_of_unknown_size_is_refused_with_advice(tmp_path):
    with pytest.raises(InputError, match="--images"):
        masks.CODEC.write(tmp_path, [AnnotatedImage("a.png", None, ())])


def test_pictures_give_their_names_to_their_masks(tmp_path, mask):
    save(tmp_path / "masks" / "sub" / "a.png", mask.astype(np.uint8))
    save(tmp_path / "masks" / "other.png", mask.astype(np.uint8))
    picture = save(tmp_path / "pictures" / "sub" / "a.tif", np.zeros((20, 30), dtype=np.uint8))
    other, named = masks.CODEC.read(tmp_path / "masks", tmp_path / "pictures")
    assert (other.name, named.name) == ("other.png", "sub/a.tif")
    assert named.attributes == {"fncells.file_size": picture.stat().st_size}
    save(picture, np.zeros((10, 30), dtype=np.uint8))
    with pytest.raises(InputError, match=r"30 x 20 pixels.*found 30 x 10 pixels"):
        list(masks.CODEC.read(tmp_path / "masks", tmp_path / "pictures"))


def test_the_same_cells_give_the_same_bytes(tmp_path):
    image = AnnotatedImage.from_labels("a.png", drawn_map(1))
    for folder in ("one", "two"):
        masks.CODEC.write(tmp_path / folder, [image])
    assert (tmp_path / "one" / "a.png").read_bytes() == (tmp_path / "two" / "a.png").read_bytes()


def round_trip(folder, labels):
    masks.CODEC.write(folder, [AnnotatedImage.from_mask("a.png", labels > 0)])
    image = only(folder)
    np.testing.assert_array_equal(image.mask, labels > 0)
    np.testing.assert_array_equal(image.labels > 0, cv2.imread(str(folder / "a.png"), cv2.IMREAD_UNCHANGED) == 255)


@given(label_maps())
@settings(max_examples=300)
def test_binary_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "masks", labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_binary_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "masks", labels)
