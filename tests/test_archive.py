"""Archives as published and as built, and their indexes."""

import datetime

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    assert archive.samples("green", "unlabelled") == []
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


def test_read_index_is_tolerant(tmp_path):
    rows = [
        ("Our brain slices",),
        (),
        ("taken on", " Original Name", "DATASET ", "animal", "pixel-size_um", "Sample", None, "Double Marked", "zoom"),
        (datetime.datetime(2021, 5, 3), " a.tif ", "green", 19.0, "0,5", "u", "stray", "yes", 200),
        (None, None, "", None, None, None, None, None, None),
        (datetime.datetime(2021, 5, 3, 12, 30), "b.tif", "red", "Mar2", 0.25, 3.0, None, 0, None),
        (datetime.time(12, 30), "c.tif", "red", "Mar2", "?", "#N/A", None, "-"),
    ]
    frame = read_index(put_sheet(tmp_path / "lab.xlsx", rows, title="Sheet1"))
    assert tuple(frame.columns) == (*INDEX_COLUMNS, "taken_on")
    known = frame.astype(object).where(frame.notna(), None)
    assert known["taken_on"].tolist() == ["2021-05-03", "2021-05-03 12:30:00", "12:30:00"]
    assert known["original_name"].tolist() == ["a.tif", "b.tif", "c.tif"]
    assert known["animal"].tolist() == ["19", "Mar2", "Mar2"]
    assert known["pixel_size_um"].tolist() == [0.5, 0.25, None]
    assert known["sample"].tolist() == [None, 3, None]
    assert known["double_marked"].tolist() == [True, False, None]
    assert known["zoom"].tolist() == ["200", None, None]
    assert known["row"].tolist() == [None] * 3


def test_read_index_takes_the_named_sheet_or_csv(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(("nothing here",))
    book.create_sheet("Metadata").append(("original_name", "partition"))
    book["Metadata"].append(("a.tif", "Unlabeled"))
    book.save(tmp_path / "two.xlsx")
    (tmp_path / "lab.csv").write_text(
        '\ufefforiginal_name;partition;note\na.tif;unlabelled;"2\nlines"\n', encoding="utf-8"
    )
    for name in ("two.xlsx", "lab.csv"):
        frame = read_index(tmp_path / name)
        assert frame[["original_name", "partition"]].values.tolist() == [["a.tif", "unlabelled"]]
    assert frame["note"].tolist() == ["2\nlines"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("partition", "training", "expected one of trainval, test, unlabelled, or nothing, found 'training'"),
        ("sample", "S3", "expected a whole number, or u for unknown, found 'S3'"),
        ("sample", 1.5, r"expected a whole number, or u for unknown, found 1\.5"),
        ("sample", True, "expected a whole number, or u for unknown, found True"),
        ("sample", "1e999", "expected a whole number, or u for unknown, found '1e999'"),
        ("pixel_size_um", 0, "expected a size in µm above 0, found 0"),
        ("pixel_size_um", "half", "expected a size in µm above 0, found 'half'"),
        ("double_marked", "perhaps", "expected yes or no, found 'perhaps'"),
        ("area", "#REF!", "expected text, found '#REF!'"),
        (
            "animal",
            datetime.datetime(2024, 3, 19),
            r"expected text, found the date 2024-03-19; format the cell as text",
        ),
    ],
)
def test_a_wrong_cell_is_named_by_sheet_row_and_column(tmp_path, column, value, message):
    rows = [("original_name", column), ("a.tif", None), ("b.tif", value)]
    with pytest.raises(InputError, match=rf"lab\.xlsx, sheet metadata, row 3, column {column}: {message}"):
        read_index(put_sheet(tmp_path / "lab.xlsx", rows))
    assert len(read_index(put_sheet(tmp_path / "good.xlsx", rows[:2]))) == 1


def test_a_wrong_cell_of_a_csv_is_named_by_line(tmp_path):
    (tmp_path / "lab.csv").write_text("original_name,sample\na.tif,1\n\nb.tif,x\n")
    with pytest.raises(InputError, match=r"lab\.csv, row 4, column sample: .*found 'x'"):
        read_index(tmp_path / "lab.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "found no row at all"),
        ([("name", "dataset")], r"sheet metadata: expected a header row with the columns original_name, found no "),
        ([("original_name", "area", "Area ")], "row 1: expected every column once, found column area twice"),
    ],
)
def test_a_sheet_without_a_usable_header_is_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        read_index(put_sheet(tmp_path / "lab.xlsx", rows))


def test_files_that_are_no_tables_are_refused(tmp_path):
    (tmp_path / "lab.xlsx").write_bytes(b"not a workbook")
    with pytest.raises(InputError, match=r"expected an Excel workbook \(\.xlsx\), found something else"):
        read_index(tmp_path / "lab.xlsx")
    with pytest.raises(InputError, match="found nothing of that name"):
        read_index(tmp_path / "none.xlsx")
    (tmp_path / "lab.csv").write_bytes(b"original_name\n\xff\xfe")
    with pytest.raises(InputError, match="expected a CSV file in UTF-8"):
        read_index(tmp_path / "lab.csv")
    book = openpyxl.Workbook()
    book.create_sheet("other")
    book.save(tmp_path / "two.xlsx")
    with pytest.raises(InputError, match="expected a sheet named 'metadata', found sheets named Sheet, other"):
        read_index(tmp_path / "two.xlsx")


NAMES = st.from_regex(r"[A-Za-z=@éµ][A-Za-z0-9_ .=-]{0,10}[a-z]", fullmatch=True)
TEXTS = st.none() | NAMES
ROWS = st.fixed_dictionaries(
    {
        "image_name": st.integers(1, 999).map(lambda number: f"{number}.png"),
        "original_name": NAMES,
        "partition": st.sampled_from([None, "trainval", "test", "unlabelled"]),
        "double_marked": st.none() | st.booleans(),
        "animal": TEXTS,
        "sample": st.none() | st.integers(0, 2**31),
        "pixel_size_um": st.none() | st.floats(1e-3, 1e3),
        "our remark": TEXTS,
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, max_size=5))
def test_an_index_written_is_read_back(tmp_path, rows):
    frame = index_frame(rows, (*INDEX_COLUMNS, "our remark"))
    path = tmp_path / INDEX_NAME
    write_index(path, frame)
    first = path.read_bytes()
    back = read_index(path)
    renamed = frame.rename(columns={"our remark": "our_remark"})
    pd.testing.assert_frame_equal(back, renamed, check_column_type=False)
    write_index(path, frame)
    assert path.read_bytes() == first


def test_write_index_orders_columns(tmp_path):
    write_index(tmp_path / "i.xlsx", pd.DataFrame({"remark": ["x"], "area": ["LH"], "original_name": ["a"]}))
    header = next(openpyxl.load_workbook(tmp_path / "i.xlsx")["metadata"].iter_rows(values_only=True))
    assert header == (*INDEX_COLUMNS, "remark")
