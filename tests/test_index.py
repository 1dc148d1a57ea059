"""The index of an archive, and labs' own metadata, as workbooks, CSV and Parquet."""

import datetime
import random
import sys
import zipfile

import openpyxl
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fncells import index as room
from fncells.errors import InputError, MissingExtraError
from fncells.index import INDEX_COLUMNS, INDEX_NAME, PARTITIONS, index_frame, read_index, write_index


def put_sheet(path, rows, title="metadata"):
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


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


def test_names_that_begin_like_errors_of_excel_are_names(tmp_path):
    names = ["#1.tif", "#REF!.tif", "# 3", "=A1"]
    write_index(tmp_path / "index.xlsx", index_frame([{"original_name": name} for name in names]))
    assert read_index(tmp_path / "index.xlsx")["original_name"].tolist() == names


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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, min_size=1, max_size=5))
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_index_written_as_csv_or_parquet_is_read_back(tmp_path, suffix, rows):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    frame = index_frame(rows, (*INDEX_COLUMNS, "our remark"))
    path = tmp_path / f"index{suffix}"
    write_index(path, frame)
    first = path.read_bytes()
    renamed = frame.rename(columns={"our remark": "our_remark"})
    pd.testing.assert_frame_equal(read_index(path), renamed, check_column_type=False)
    write_index(path, frame)
    assert path.read_bytes() == first


def test_cells_offer_what_they_may_hold(tmp_path):
    path = tmp_path / INDEX_NAME
    write_index(path, index_frame([{"image_name": "1.png", "partition": "test", "double_marked": True}]))
    sheet = openpyxl.load_workbook(path)["metadata"]
    offered = {str(rule.sqref): rule.formula1.strip('"').split(",") for rule in sheet.data_validations.dataValidation}
    letters = {cell.value: cell.column_letter for cell in sheet[1]}
    partition, marked = letters["partition"], letters["double_marked"]
    assert offered == {
        f"{partition}2:{partition}1002": list(PARTITIONS),
        f"{marked}2:{marked}1002": ["TRUE", "FALSE"],
    }
    # What is offered is what is read.
    for column, choices in ((partition, PARTITIONS), (marked, ("TRUE", "FALSE"))):
        for choice in choices:
            sheet[f"{column}2"] = choice
            sheet.parent.save(tmp_path / "typed.xlsx")
            assert len(read_index(tmp_path / "typed.xlsx", required=("image_name",))) == 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime.datetime(2021, 5, 3, 12, 30), "2021-05-03T12:30:00"),
        (datetime.date(2021, 5, 3), "2021-05-03"),
        ("3 May, in the morning", "3 May, in the morning"),
        (None, None),
    ],
)
def test_when_a_picture_was_taken_may_be_a_date_of_excel_or_a_text(tmp_path, value, said):
    frame = read_index(put_sheet(tmp_path / "lab.xlsx", [("original_name", "Taken"), ("a.tif", value)]))
    assert frame["taken"].astype(object).where(frame["taken"].notna(), None).tolist() == [said]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_wrong_cell_is_named_in_every_format(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    table = pd.DataFrame({"original_name": ["a.tif", "b.tif"], "Partition": ["test", "training"]})
    path = tmp_path / f"lab{suffix}"
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path)
    row = 3 if suffix == ".csv" else 2
    with pytest.raises(InputError, match=rf"row {row}, column partition: expected one of .*, found 'training'"):
        read_index(path)


def test_parquet_of_other_programs_is_read(tmp_path):
    pytest.importorskip("pyarrow")
    when = pd.Timestamp("2021-05-03 12:30")
    table = pd.DataFrame(
        {"Original Name": ["a.tif", "b.tif"], "sample": [1, None], "when": [when, None], "zoom": [200.0, 20.0]}
    )
    table.to_parquet(tmp_path / "lab.parquet")
    frame = read_index(tmp_path / "lab.parquet")
    known = frame.astype(object).where(frame.notna(), None)
    assert known["sample"].tolist() == [1, None]
    assert known["when"].tolist() == ["2021-05-03 12:30:00", None]
    assert known["zoom"].tolist() == ["200", "20"]


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r'Parquet file a\.parquet .*pip install "fncells\[tables\]"'):
        write_index(tmp_path / "a.parquet", index_frame([]))
    with pytest.raises(MissingExtraError):
        read_index(tmp_path / "a.parquet")


def test_what_is_no_table_is_refused_in_every_format(tmp_path):
    with pytest.raises(InputError, match=r"ends in \.xlsx or \.csv or \.parquet, found '\.ods'"):
        write_index(tmp_path / "a.ods", index_frame([]))
    (tmp_path / "a.csv").write_bytes("original_name\nMäx".encode("cp1252"))
    with pytest.raises(InputError, match="in Excel: save as CSV UTF-8"):
        read_index(tmp_path / "a.csv")
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing of it")
    with pytest.raises(InputError, match="expected a Parquet file, found something else"):
        read_index(tmp_path / "a.parquet")


def test_a_cell_in_the_last_corner_of_a_sheet_costs_nothing(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(("original_name", "remark"))
    book.active.append(("a.tif", "here"))
    book.active["XFD1048576"] = "lost"
    book.save(tmp_path / "lab.xlsx")
    frame = read_index(tmp_path / "lab.xlsx")
    assert len(frame) == 2
    assert frame["remark"].tolist()[0] == "here"


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path = put_sheet(tmp_path / "lab.xlsx", [("original_name",), ("a.tif",)])
    monkeypatch.setattr(room, "_MOST_UNPACKED", 100)
    with pytest.raises(InputError, match="a workbook that unpacks to at most 0 MiB"):
        read_index(path)


def test_broken_workbooks_end_in_one_line(tmp_path):
    path = put_sheet(tmp_path / "lab.xlsx", [("original_name", "partition"), *[("a.tif", "test")] * 3])
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rng = random.Random(1)
    lines = []
    for _ in range(60):
        changed = dict(members)
        name = rng.choice(sorted(changed))
        content = bytearray(changed[name])
        for _ in range(rng.randint(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        changed[name] = bytes(content)
        if rng.random() < 0.2:
            del changed[rng.choice(sorted(changed))]
        with zipfile.ZipFile(tmp_path / "broken.xlsx", "w") as archive:
            for member, data in changed.items():
                archive.writestr(member, data)
        try:
            read_index(tmp_path / "broken.xlsx")
        except InputError as error:
            lines.append(str(error))
    assert 10 < len(lines) < 60
    assert not any("\n" in line for line in lines)
