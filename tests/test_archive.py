"""Archives as published and as built, and their indexes."""

import numpy as np
import openpyxl
import pandas as pd
import pytest

from fncells.archive import (
    INDEX_COLUMNS,
    INDEX_NAME,
    Archive,
    index_frame,
    path_of,
    read_index,
    write_index,
)
from fncells.errors import InputError
from fncells.images import Picture, PixelSize, write_png

HEADER = ("image_name", "original_name", "dataset", "partition", "double_marked")


def put_png(path, pixels):
    write_png(path, Picture(path.name, pixels))


def put_labelled(root, collection, partition, stem, *, size=(48, 64), cells=2):
    """A picture with `cells` squares in its mask."""
    height, width = size
    rng = np.random.default_rng(int(stem))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    for cell in range(cells):
        mask[5:11, 3 + 10 * cell : 9 + 10 * cell] = 255
    put_png(root / path_of("images", collection, partition, stem), pixels)
    put_png(root / path_of("masks", collection, partition, stem), mask)


def put_sheet(path, rows, title="metadata"):
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


@pytest.fixture
def published(tmp_path):
    """The published layout with its defects: an orphan mask, two sizes, an empty mask, no label pictures."""
    root = tmp_path / "fnc"
    put_labelled(root, "green", "trainval", "2")
    put_labelled(root, "green", "trainval", "10", cells=0)
    put_labelled(root, "green", "test", "1", cells=3)
    put_png(root / path_of("masks", "green", "trainval", "128"), np.zeros((48, 64), np.uint8))
    put_labelled(root, "red", "trainval", "1", size=(56, 72))
    put_png(root / path_of("images", "red", "unlabelled", "7"), np.zeros((56, 72, 3), np.uint8))
    (root / "red" / "unlabelled" / "images" / ".hidden.png").write_bytes(b"")
    (root / "somewhere else").mkdir()
    rows = [
        HEADER,
        ("2.png", "Mar1S1C1R1_LHl_200x_g.TIF", "green", "trainval", True),
        ("10.png", "Mar2S1C1R1_LHl_200x_g.TIF", "green", "trainval", False),
        ("1.png", "Mar3S1C1R1_LHl_200x_g.TIF", "green", "trainval", False),
        ("1", "RT1S1C1R1_r1.JPG", "red", "trainval", False),
    ]
    put_sheet(root / INDEX_NAME, rows)
    return root


def test_open_published(published):
    archive = Archive.open(published)
    assert archive.collections == ("green", "red")
    samples = archive.samples()
    assert [(sample.collection, sample.partition, sample.name) for sample in samples] == [
        ("green", "trainval", "2.png"),
        ("green", "trainval", "10.png"),
        ("green", "test", "1.png"),
        ("red", "trainval", "1.png"),
        ("red", "unlabelled", "7.png"),
    ]
    # The folders decide on the partition, the index on the original name, with or without the suffix.
    assert [sample.original_name for sample in samples] == [
        "Mar1S1C1R1_LHl_200x_g.TIF",
        "Mar2S1C1R1_LHl_200x_g.TIF",
        "Mar3S1C1R1_LHl_200x_g.TIF",
        "RT1S1C1R1_r1.JPG",
        None,
    ]
    assert [sample.read_picture().pixels.shape for sample in samples] == [(48, 64, 3)] * 3 + [(56, 72, 3)] * 2
    assert [len(sample.read_cells().cells) for sample in samples[:4]] == [2, 0, 3, 2]
    assert samples[0].read_cells().name == "2.png"
    assert samples[0].read_cells().areas.tolist() == [36, 36]
    assert [path.name for path in archive.unpaired_masks()] == ["128.png"]


def test_samples_can_be_chosen(published):
    archive = Archive.open(published)
    assert [sample.name for sample in archive.samples("green", "trainval")] == ["2.png", "10.png"]
    assert [sample.collection for sample in archive.samples(partition="unlabelled")] == ["red"]
    assert archive.samples("green", "unlabelled") == ()
    with pytest.raises(InputError, match="expected a collection out of green, red, found 'blue'"):
        archive.samples("blue")
    with pytest.raises(InputError, match="expected a partition out of trainval, test, unlabelled, found 'train'"):
        archive.samples(partition="train")


def test_one_collection_alone_opens(published):
    archive = Archive.open(published / "red")
    assert archive.collections == ("red",)
    assert [sample.original_name for sample in archive.samples()] == ["RT1S1C1R1_r1.JPG", None]


def test_without_an_index_the_folders_tell(published):
    (published / INDEX_NAME).unlink()
    archive = Archive.open(published)
    assert archive.index[["image_name", "dataset", "partition"]].values.tolist() == [
        ["2.png", "green", "trainval"],
        ["10.png", "green", "trainval"],
        ["1.png", "green", "test"],
        ["1.png", "red", "trainval"],
        ["7.png", "red", "unlabelled"],
    ]
    assert tuple(archive.index.columns) == INDEX_COLUMNS
    assert archive.samples()[0].original_name is None


def test_label_pictures_go_before_masks(published):
    labels = np.zeros((48, 64), np.uint16)
    labels[2:5, 2:5], labels[2:5, 5:9] = 7, 300
    put_png(published / path_of("labels", "green", "trainval", "2"), labels)
    sample = Archive.open(published).samples("green", "trainval")[0]
    assert [cell.number for cell in sample.read_cells().cells] == [7, 300]
    assert np.array_equal(sample.read_cells().labels, labels)


@pytest.mark.parametrize("true", [1, 255])
def test_masks_of_other_levels_and_channels(published, true):
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[2:5, 2:5] = true
    put_png(published / path_of("masks", "green", "trainval", "2"), mask)
    cells = Archive.open(published).samples("green", "trainval")[0].read_cells()
    assert cells.areas.tolist() == [9]


def test_unlabelled_has_no_cells(published):
    [sample] = Archive.open(published).samples(partition="unlabelled")
    with pytest.raises(InputError, match=r"7\.png: expected a picture with ground truth.*red/unlabelled"):
        sample.read_cells()


def test_pixel_size_of_the_index(published):
    frame = read_index(published / INDEX_NAME)
    frame.loc[0, "pixel_size_um"] = 0.5
    frame.loc[1, "pixel_size_um"], frame.loc[1, "pixel_size_source"] = 0.25, "OME"
    frame = pd.concat([frame, index_frame([{"original_name": "no picture of the archive"}])])
    write_index(published / INDEX_NAME, frame)
    samples = Archive.open(published).samples("green")
    assert [sample.pixel_size for sample in samples] == [PixelSize(0.5, "index"), PixelSize(0.25, "OME"), None]
    assert samples[0].read_picture().pixel_size == PixelSize(0.5, "index")
    assert samples[2].read_picture().pixel_size is None


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected collections.*found none; make an archive with `fncells build`"):
        Archive.open(tmp_path)
    with pytest.raises(InputError, match="found nothing of that name"):
        Archive.open(tmp_path / "nowhere")
    file = tmp_path / "green.zip"
    file.write_bytes(b"PK")
    with pytest.raises(InputError, match="found a file"):
        Archive.open(str(file))
