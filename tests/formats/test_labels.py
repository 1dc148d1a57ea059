import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import labels as label_pictures
from formats.label_maps import drawn_map, label_maps


def only(path, images=None):
    [image] = label_pictures.CODEC.read(path, images)
    return image


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.int32, np.int64, np.float32, np.float64, ">u2"])
def test_labels_of_every_type_keep_their_numbers(tmp_path, kind):
    labels = drawn_map(5)
    tifffile.imwrite(tmp_path / "a.tif", labels.astype(kind))
    image = only(tmp_path)
    assert image.name == "a.tif"
    np.testing.assert_array_equal(image.labels, labels)


def test_png_labels_and_equal_channels_are_read(tmp_path):
    labels = drawn_map(6)
    cv2.imwrite(str(tmp_path / "a.png"), labels.astype(np.uint16))
    cv2.imwrite(str(tmp_path / "b.png"), np.dstack([labels.astype(np.uint8)] * 3))
    for image in label_pictures.CODEC.read(tmp_path):
        np.testing.assert_array_equal(image.labels, labels, err_msg=image.name)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([[0, -1]], dtype=np.int16), "values from -1 to 0"),
        (np.array([[0, 2**31]], dtype=np.uint32), "2147483648"),
        (np.array([[0, 1.5]], dtype=np.float32), "fractions"),
        (np.array([[0, np.nan]], dtype=np.float32), "nan"),
        (np.array([[0, np.inf]], dtype=np.float64), "inf"),
        (np.arange(300, dtype=np.uint8).reshape(10, 10, 3), "a coloured picture; .*--from masks"),
        (np.zeros((3, 8, 9, 9), dtype=np.uint16), "several planes"),
    ],
)
def test_what_is_no_label_picture_is_refused(tmp_path, array, found):
    colour = "rgb" if array.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=colour)
    with pytest.raises(InputError, match="a.tif: expected .*" + found):
        only(tmp_path)


def test_small_numbers_make_a_16_bit_png(tmp_path):
    labels = drawn_map(7)
    labels[0, 0] = 65535
    label_pictures.CODEC.write(tmp_path, [AnnotatedImage.from_labels("sub/a.tif", labels)])
    written = cv2.imread(str(tmp_path / "sub" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    np.testing.assert_array_equal(written, labels)


def test_numbers_above_65535_make_a_32_bit_tiff(tmp_path):
    labels = drawn_map(7)
    labels[0, 0] = 65536
    label_pictures.CODEC.write(tmp_path / "one", [AnnotatedImage.from_labels("a.png", labels)])
    label_pictures.CODEC.write(tmp_path / "two", [AnnotatedImage.from_labels("a.png", labels)])
    written = tifffile.imread(tmp_path / "one" / "a.tif")
    assert written.dtype == np.uint32
    np.testing.assert_array_equal(written, labels)
    assert (tmp_path / "one" / "a.tif").read_bytes() == (tmp_path / "two" / "a.tif").read_bytes()


@pytest.mark.slow
def test_more_than_65535_cells_survive(tmp_path):
    labels = np.arange(1, 70_001, dtype=np.int32).reshape(250, 280)
    label_pictures.CODEC.write(tmp_path, [AnnotatedImage.from_labels("a.png", labels)])
    image = only(tmp_path)
    assert (image.name, len(image.cells)) == ("a.tif", 70_000)
    np.testing.assert_array_equal(image.labels, labels)


@pytest.mark.parametrize(
    "name",
    ["../a.png", "sub/../../a.png", "/etc/a.png", "C:/a.png", "c:a.png", "..\\a.png", "", ".", "a\0.png", "a\n.png"]
    + ["https://lab.example/a.png", "x" * 5000 + ".png", "d/" * 600 + "a.png", "ä" * 150 + ".png"],
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    out = tmp_path / "out"
    label_pictures.CODEC.write(out, [AnnotatedImage.from_labels("./sub/..a.png", drawn_map(1))])
    before = sorted(tmp_path.rglob("*"))
    assert out / "sub" / "..a.png" in before
    with pytest.raises(InputError, match=r"expected a picture's file name within the output folder") as refusal:
        label_pictures.CODEC.write(out, [AnnotatedImage.from_labels(name, drawn_map(1))])
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_pictures_with_one_stem_are_refused_by_name(tmp_path):
    images = [AnnotatedImage.from_labels(name, drawn_map(1)) for name in ("sub/a.png", "sub/a.tif")]
    with pytest.raises(InputError, match=r"'sub/a\.png' and 'sub/a\.tif'"):
        label_pictures.CODEC.write(tmp_path, images)
    label_pictures.CODEC.write(tmp_path / "again", [images[0], AnnotatedImage.from_labels("a.tif", drawn_map(1))])
    assert (tmp_path / "again" / "a.png").is_file()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="expected a folder"):
        label_pictures.CODEC.write(tmp_path / "out", [])


def round_trip(folder, labels):
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    label_pictures.CODEC.write(folder, [AnnotatedImage.from_labels("a.png", labels)])
    np.testing.assert_array_equal(only(folder).labels, labels)


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "labels", labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "labels", labels)


# -------------------------------------------------------------------------------------------- as other tools write them


def save_labels(path, labels, kind=np.uint16):
    path.parent.mkdir(parents=True, exist_ok=True)
    written = labels.astype(kind)
    (tifffile.imwrite if path.suffix == ".tif" else lambda name, array: cv2.imwrite(str(name), array))(path, written)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a_cp_masks.png", np.uint16),  # Cellpose
        ("a_cp_masks.tif", np.uint32),
        ("a_label.tif", np.int32),  # StarDist and CellProfiler, as their users name them
        ("a_labels.tif", np.float32),
        ("a_Object Identities.tif", np.uint32),  # ilastik
        ("a-labelled.png", np.uint16),  # QuPath
        ("a.tif", np.uint16),
    ],
)
def test_labels_of_other_tools_find_their_picture(tmp_path, name, kind):
    labels = drawn_map(3)
    save_labels(tmp_path / "labels" / "sub" / name, labels, kind)
    save_labels(tmp_path / "images" / "sub" / "a.png", labels * 0)
    image = only(tmp_path / "labels", tmp_path / "images")
    assert image.name == "sub/a.png"
    np.testing.assert_array_equal(image.labels, labels)


def test_an_ending_that_all_share_is_no_part_of_the_picture_s_name(tmp_path):
    for stem in ("a", "b"):
        save_labels(tmp_path / f"{stem}_cp_masks.png", drawn_map(3))
    assert [image.name for image in label_pictures.CODEC.read(tmp_path)] == ["a.png", "b.png"]
    save_labels(tmp_path / "c.png", drawn_map(3))
    assert len(list(label_pictures.CODEC.read(tmp_path))) == 3


def test_pictures_beside_their_labels_are_no_labels(tmp_path):
    for name in ("a", "b", "sub/a"):
        save_labels(tmp_path / f"{name}.tif", drawn_map(1) % 200 + 7, np.uint8)
        save_labels(tmp_path / f"{name}_cp_masks.png", drawn_map(3))
    save_labels(tmp_path / "alone.tif", drawn_map(1) % 200 + 7, np.uint8)
    assert label_pictures.CODEC.recognises(tmp_path)
    images = list(label_pictures.CODEC.read(tmp_path))
    assert [image.name for image in images] == ["a.tif", "b.tif", "sub/a.tif"]
    np.testing.assert_array_equal(images[0].labels, drawn_map(3))


def test_a_picture_whose_own_name_ends_like_labels_keeps_it(tmp_path):
    save_labels(tmp_path / "labels" / "brain_mask.png", drawn_map(3))
    save_labels(tmp_path / "labels" / "other.png", drawn_map(3))
    save_labels(tmp_path / "images" / "brain_mask.tif", drawn_map(3) * 0)
    names = [image.name for image in label_pictures.CODEC.read(tmp_path / "labels", tmp_path / "images")]
    assert names == ["brain_mask.tif", "other.png"]


def test_a_tiff_whose_strips_are_not_all_there_is_no_empty_label_picture(tmp_path):
    labels = drawn_map(3).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, labels, rowsperstrip=4)
    np.testing.assert_array_equal(only(path).labels, labels)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        counts, offsets = (tiff.pages[0].tags[name] for name in ("StripByteCounts", "StripOffsets"))
        places = counts.valueoffset, offsets.valueoffset
        size = 4 if counts.dtype == 4 else 2
    for place, length in ((places[0], size), (places[1], 4)):
        path.write_bytes(whole[:place] + bytes(length) + whole[place + length :])
        with pytest.raises(InputError, match=r"a\.tif: expected a whole TIFF of 6 strips or tiles, found 5 of them"):
            only(path)
    path.write_bytes(whole[: len(whole) - 20] if places[0] < 200 else whole[:60])
    with pytest.raises(InputError, match="whole"):
        only(path)


def test_an_empty_picture_packed_best_is_read_and_one_of_three_bytes_is_not(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3000, 4000), dtype=np.uint16), compression="zstd", rowsperstrip=3000)
    assert only(path).cells == ()
    with tifffile.TiffFile(path) as tiff:
        count = tiff.pages[0].tags["StripByteCounts"]
    data = path.read_bytes()
    size = {3: 2, 4: 4}[int(count.dtype)]
    path.write_bytes(data[: count.valueoffset] + (3).to_bytes(size, "little") + data[count.valueoffset + size :])
    with pytest.raises(InputError, match="found 3 bytes for a picture of 24000000"):
        only(path)
