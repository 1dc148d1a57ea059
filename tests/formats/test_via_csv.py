import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import via_csv
from formats.label_maps import label_maps
from formats.mutation import mutants

HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
RECT = {"name": "rect", "x": 3, "y": 4.0, "width": 5, "height": 6}
POLYGON = {"name": "polygon", "all_points_x": [1, 9.5, 9], "all_points_y": [2, 2, 8]}
LINE = {"name": "polyline", "all_points_x": [1, 2], "all_points_y": [2, 2]}


def row(name="a.jpg", size=12, attributes="{}", count=1, number=0, shape=RECT, own=None):
    out = io.StringIO()
    texts = [json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in (shape, own or {})]
    csv.writer(out, lineterminator="").writerow([name, size, attributes, count, number, *texts])
    return out.getvalue()


def save(path, *rows, header=HEADER, encoding="utf-8"):
    path.write_text("\n".join([header, *rows]), encoding=encoding)
    return path


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_the_tools_own_files_come_back_byte_by_byte(tmp_path):
    text = (
        f"{HEADER}\n"
        'a.jpg,12,"{""caption"":""+-08\'ä*""}",2,0,"{""name"":""rect"",""x"":3,""y"":4.0,""width"":5,""height"":6}",'
        '"{""name"":""a \\""red\\"" one, not blue""}"\n'
        'a.jpg,12,"{""caption"":""+-08\'ä*""}",2,1,"{""name"":""polyline"",""all_points_x"":[1],""all_points_y"":[2]}","{}"\n'
        '"b,""c"".jpg",-1,"{}",0,0,"{}","{}"\n'
    )
    source = tmp_path / "a.csv"
    source.write_text(text, encoding="utf-8", newline="")
    via_csv.CODEC.write(tmp_path / "b.csv", via_csv.CODEC.read(source))
    assert (tmp_path / "b.csv").read_text(encoding="utf-8") == text


def test_rows_are_put_together_by_file_name_whatever_they_count(tmp_path):
    rows = [row(count=9, own={"n": 1}), row("b.jpg", shape={}, count=4), row(number=7, shape=POLYGON, own={"n": 2}), ""]
    first, second = via_csv.CODEC.read(save(tmp_path / "a.csv", *rows))
    assert [(cell.source_shape, cell.attributes["n"]) for cell in first.cells] == [("rect", 1), ("polygon", 2)]
    assert (second.name, second.cells) == ("b.jpg", ())


def test_via_1_headers_byte_order_marks_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"#{HEADER}\r\n{row()}\r\n", encoding="utf-8-sig", newline="")
    [image] = via_csv.CODEC.read(path)
    assert (image.name, len(image.cells)) == ("a.jpg", 1)


def test_columns_may_stand_in_another_order_and_size_and_attributes_be_empty(tmp_path):
    columns = HEADER.split(",")
    values = next(csv.reader([row(size="", attributes="")]))
    turned = io.StringIO()
    csv.writer(turned).writerows([columns[::-1], values[::-1]])
    (tmp_path / "a.csv").write_text(turned.getvalue())
    [image] = via_csv.CODEC.read(tmp_path / "a.csv")
    assert image.attributes == {"fncells.file_size": -1}
    assert image.cells[0].source_shape == "rect"


def test_a_polygon_of_many_points_is_read(tmp_path):
    many = {"name": "polygon", "all_points_x": list(range(50_000)), "all_points_y": [1] * 50_000}
    [image] = via_csv.CODEC.read(save(tmp_path / "a.csv", row(shape=many)))
    assert len(image.cells[0].rings[0]) == 50_000


def test_a_picture_without_regions_is_one_empty_row(tmp_path):
    via_csv.CODEC.write(tmp_path / "a.csv", [AnnotatedImage("a.png", (3, 4), ())])
    assert (tmp_path / "a.csv").read_text() == (
        f'{HEADER}\na.png,-1,"{{""image_width"":4,""image_height"":3}}",0,0,"{{}}","{{}}"\n'
    )
    [image] = via_csv.CODEC.read(tmp_path / "a.csv")
    assert image.shape == (3, 4)


def test_foreign_readers_find_every_ring(tmp_path):
    labels = np.zeros((9, 9), dtype=np.int32)
    labels[1:8, 1:8] = 5
    labels[3:6, 3:6] = 0
    via_csv.CODEC.write(tmp_path / "a.csv", [AnnotatedImage.from_labels("a.png", labels)])
    ties = [json.loads(found["region_attributes"]) for found in rows_of(tmp_path / "a.csv")]
    assert ties == [{"cell": 5, "ring": "outer"}, {"cell": 5, "ring": "hole"}]
    [foreign] = via_csv.CODEC.read_foreign(tmp_path / "a.csv", None)
    assert len(foreign.cells) == 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row() + ",8"], "line 2: expected 7 values, found 8"),
        ([row(), "a.jpg"], "line 3: expected 7 values, found 1"),
        ([row(), row(size=13)], "line 3: expected the same file size and attributes of 'a.jpg' as on line 2"),
        ([row(), row(attributes='{"n": 1}')], "line 3: expected the same file size and attributes"),
        ([row(size="large")], "line 2: expected a whole number of bytes"),
        ([row(attributes="[]")], "line 2: expected a JSON object, found a list"),
        ([row(attributes="{'n': 1}")], "line 2, line 1, column 2: expected JSON"),
        ([row(shape=[1])], "line 2: expected a JSON object"),
        ([row(shape={}, own={"n": 1})], "region 0: expected a shape out of"),
        ([row(shape={**POLYGON, "all_points_x": [1, 2]})], "picture 'a.jpg', region 0: expected as many x as y"),
        ([row(name="")], "expected a picture's file name"),
        (['a.jpg,12,"{}",1,0,"{""name"":"rect"}","{}"'], "line 2: expected CSV"),
    ],
)
def test_rows_that_via_does_not_write_are_refused_in_one_line(tmp_path, rows, said):
    assert len(list(via_csv.CODEC.read(save(tmp_path / "a.csv", row())))) == 1
    with pytest.raises(InputError, match=said) as refusal:
        list(via_csv.CODEC.read(save(tmp_path / "a.csv", *rows)))
    assert str(refusal.value).startswith(str(tmp_path / "a.csv"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["", " \n", "filename;file_size\n", HEADER.replace(",", ";"), "\n" + HEADER, f"{HEADER},more"]
)
def test_files_without_the_header_are_refused(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=r"empty file|the columns filename, file_size"):
        list(via_csv.CODEC.read(tmp_path / "a.csv"))


def test_one_picture_twice_is_not_written(tmp_path):
    with pytest.raises(InputError, match="'a' twice"):
        via_csv.CODEC.write(tmp_path / "a.csv", [AnnotatedImage("a", None, ())] * 2)
    assert list(tmp_path.iterdir()) == []


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path):
    table = [
        HEADER.split(","),
        *(next(csv.reader([text])) for text in (row(), row(shape=POLYGON), row("b", shape=LINE))),
    ]
    endings = {"value": 0, "refusal": 0}
    for number, text in enumerate(
        mutants([json.loads(cell) if cell[:1] == "{" else cell for cell in table[1]], 500, 5)
    ):
        path = tmp_path / "a.csv"
        if number % 2:
            whole = bytearray(save(path, row(), row(shape=POLYGON)).read_bytes())
            whole[(number * 7919) % len(whole)] = text[0]
            path.write_bytes(bytes(whole))
        else:
            try:
                cells = json.loads(text)
            except ValueError:
                cells = [text.decode("latin-1")]
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(table[0])
                cells = cells if isinstance(cells, list) else [cells]
                writer.writerow([json.dumps(cell) if isinstance(cell, (dict, list)) else cell for cell in cells])
        try:
            images = list(via_csv.CODEC.read(path))
            via_csv.CODEC.write(tmp_path / "b.csv", images)
            assert len(list(via_csv.CODEC.read(tmp_path / "b.csv"))) == len(images)
            endings["value"] += 1
        except InputError:
            endings["refusal"] += 1
    assert min(endings.values()) > 50, endings


def round_trip(folder, labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    via_csv.CODEC.write(folder / "a.csv", [image, AnnotatedImage("b.png", (1, 1), (Cell((np.zeros((1, 2)),)),))])
    again, _ = via_csv.CODEC.read(folder / "a.csv")
    np.testing.assert_array_equal(again.labels, labels)


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp(), labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp(), labels)
