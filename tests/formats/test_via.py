import json
import math
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import via
from formats.label_maps import label_maps
from formats.mutation import mutants

SHAPES = [
    {"name": "polygon", "all_points_x": [1, 9, 9, 1], "all_points_y": [2, 2, 8, 8]},
    {"name": "polygon", "all_points_x": [1.5, 9, 9.25, 1.0], "all_points_y": [2, 2, 8, 8]},
    {"name": "polygon", "all_points_x": [1, 9, 9, 1], "all_points_y": [2, 2, 8, 2]},
    {"name": "polyline", "all_points_x": [-1, 9, 9], "all_points_y": [2, 2, 8]},
    {"name": "polyline", "all_points_x": [1, 5, 9], "all_points_y": [1, 5, 9]},
    {"name": "rect", "x": 3, "y": 4, "width": 5, "height": 6},
    {"name": "rect", "x": 3.0, "y": 4.5, "width": 5, "height": 6},
    {"name": "circle", "cx": 10, "cy": 11, "r": 4.0},
    {"name": "ellipse", "cx": 10, "cy": 11, "rx": 4, "ry": 7},
    {"name": "ellipse", "cx": 10, "cy": 11, "rx": 4, "ry": 7, "theta": 0.5},
    {"name": "point", "cx": 3, "cy": 4},
    {"name": "point", "cx": 3.0, "cy": 4.5, "unknown": [1]},
]
ATTRIBUTES = [
    {},
    {"marker": "c-FOS", "score": 0.5, "z": 1},
    {"marker": "", "score": "high", "cell": 3},
    {"cell": "dead", "ring": "hole"},
    {"cell": 3, "ring": "wedding"},
    {"note": 'a "white" Schwan, grün\n', "nested": {"a": [1, 2.0, None, True]}},
]


def region(shape, attributes=None):
    return {"shape_attributes": shape, "region_attributes": attributes or {}}


def entry(regions, name="a.jpg", size=12, **more):
    return {"filename": name, "size": size, "regions": regions, "file_attributes": {}, **more}


def save(path, document):
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def written(path, images):
    via.CODEC.write(path, images)
    return json.loads(path.read_text(encoding="utf-8"))


def exact(value):
    """JSON text, where 1 and 1.0 and the order of keys differ."""
    return json.dumps(value, ensure_ascii=False)


@pytest.fixture
def document():
    regions = [region(shape, ATTRIBUTES[index % len(ATTRIBUTES)]) for index, shape in enumerate(SHAPES + SHAPES[::-1])]
    return {
        "sub/a.jpg12": entry(regions, "sub/a.jpg"),
        "empty.png-1": entry([], "empty.png", -1, file_attributes={"caption": "ä", "n": 1}),
        "http://lab/ü.tif63930": entry(regions[:1], "http://lab/ü.tif", "63930"),
    }


# ---------------------------------------------------------------------------------------------------------- VIA to VIA


def test_via_to_via_keeps_everything(tmp_path, document):
    images = list(via.CODEC.read(save(tmp_path / "a.json", document)))
    assert exact(written(tmp_path / "b.json", images)) == exact(document)
    assert [image.shape for image in images] == [None] * 3


def test_cells_cross_to_another_process_unharmed(tmp_path, document):
    images = list(via.CODEC.read(save(tmp_path / "a.json", document)))
    crossed = pickle.loads(pickle.dumps(images))
    assert exact(written(tmp_path / "b.json", crossed)) == exact(document)


def test_what_is_written_depends_on_the_content_alone(tmp_path, document):
    source = save(tmp_path / "a.json", document)
    for name in ("b.json", "c.json"):
        via.CODEC.write(tmp_path / name, via.CODEC.read(source))
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "c.json").read_bytes()


def test_via_1_is_read_in_the_order_it_counts(tmp_path):
    shapes = [SHAPES[0]] + [{**SHAPES[5], "x": x} for x in range(11)]
    shapes[0] = {"name": "polygon", "all_points_x": [1, 9, 9, 1], "all_points_y": [2, 2, 8, 2]}
    shapes[0]["all_points_x"].append(1)
    shapes[0]["all_points_y"].append(2)
    regions = {str(index): region(shape) for index, shape in enumerate(shapes)}
    sorted_as_text = dict(sorted(regions.items()))
    assert list(sorted_as_text) != list(regions)
    old = entry(sorted_as_text, fileref="", base64_img_data="")
    images = list(via.CODEC.read(save(tmp_path / "a.json", {"any key": old})))
    assert exact(written(tmp_path / "b.json", images)) == exact({"a.jpg12": entry(list(regions.values()))})


def test_regions_under_other_keys_keep_the_order_of_the_file(tmp_path):
    regions = {"b": region(SHAPES[0]), "a": region(SHAPES[5])}
    [image] = via.CODEC.read(save(tmp_path / "a.json", {"k": entry(regions)}))
    assert [cell.source_shape for cell in image.cells] == ["polygon", "rect"]


def test_projects_byte_order_marks_and_absent_attributes_are_read(tmp_path):
    bare = {"filename": "a.jpg", "regions": [{"shape_attributes": SHAPES[0]}]}
    project = {"_via_settings": {}, "_via_img_metadata": {"k": bare}, "_via_attributes": {}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(project), encoding="utf-8-sig")
    images = list(via.CODEC.read(path))
    assert written(tmp_path / "b.json", images) == {"a.jpg-1": entry([region(SHAPES[0])], size=-1)}


def test_no_pictures_are_a_valid_file(tmp_path):
    assert list(via.CODEC.read(save(tmp_path / "a.json", {}))) == []
    assert written(tmp_path / "b.json", []) == {}


def test_a_changed_cell_is_written_as_it_is_now(tmp_path):
    [image] = via.CODEC.read(save(tmp_path / "a.json", {"k": entry([region(SHAPES[5]), region(SHAPES[11])])}))
    moved = [
        Cell(tuple(ring + 1 for ring in cell.rings), attributes=cell.attributes, source_shape=cell.source_shape)
        for cell in image.cells
    ]
    regions = written(tmp_path / "b.json", [AnnotatedImage("a.jpg", None, tuple(moved))])["a.jpg-1"]["regions"]
    assert [found["shape_attributes"] for found in regions] == [
        {"name": "polygon", "all_points_x": [4, 9, 9, 4], "all_points_y": [5, 5, 11, 11]},
        {"name": "point", "cx": 4, "cy": 5.5},
    ]


def test_a_note_that_is_no_shape_is_passed_over(tmp_path):
    ring = np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 5.0]])
    cells = [
        Cell((ring,), attributes={"fncells.via_shape": note}) for note in ({"name": "polygon"}, "x", {"name": "rect"})
    ]
    regions = written(tmp_path / "a.json", [AnnotatedImage("a", None, tuple(cells))])["a-1"]["regions"]
    assert regions == [region({"name": "polygon", "all_points_x": [1, 4, 4], "all_points_y": [1, 1, 5]})] * 3


# ----------------------------------------------------------------------------------------------------------- the shapes


def cells_of(tmp_path, *shapes):
    [image] = via.CODEC.read(save(tmp_path / "a.json", {"k": entry([region(shape) for shape in shapes])}))
    return image.cells


def test_polygons_keep_their_vertices(tmp_path):
    [cell] = cells_of(tmp_path, SHAPES[1])
    assert cell.rings[0].tolist() == [[1.5, 2], [9, 2], [9.25, 8], [1, 8]]
    assert cell.source_shape == "polygon"


def test_rectangles_become_their_four_corners(tmp_path):
    [cell] = cells_of(tmp_path, SHAPES[5])
    assert cell.rings[0].tolist() == [[3, 4], [8, 4], [8, 10], [3, 10]]
    assert cell.source_shape == "rect"


@pytest.mark.parametrize("radius", [0, 0.5, 3, 40, 900])
def test_circles_become_polygons_within_a_twentieth_of_a_pixel(tmp_path, radius):
    [cell] = cells_of(tmp_path, {"name": "circle", "cx": 5, "cy": -6, "r": radius})
    ring = cell.rings[0]
    np.testing.assert_allclose(np.hypot(*(ring - (5, -6)).T), radius)
    middles = (ring + np.roll(ring, 1, axis=0)) / 2
    assert np.hypot(*(middles - (5, -6)).T).min() >= radius - 0.051
    assert 16 <= len(ring) <= 1024


def test_ellipses_turn_clockwise_on_the_screen(tmp_path):
    theta = 0.5
    straight, turned = cells_of(
        tmp_path, SHAPES[8], {"name": "ellipse", "cx": 10, "cy": 11, "rx": 4, "ry": 7, "theta": theta}
    )
    assert straight.rings[0][0].tolist() == [14, 11]
    assert straight.rings[0][:, 1].max() == pytest.approx(18)
    # The end of the x axis moves to positive y, which is down.
    np.testing.assert_allclose(turned.rings[0][0], (10 + 4 * math.cos(theta), 11 + 4 * math.sin(theta)))
    offsets = (turned.rings[0] - (10, 11)) @ np.array(
        [[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]]
    )
    np.testing.assert_allclose(((offsets / (4, 7)) ** 2).sum(axis=1), 1)


def test_points_become_dots(tmp_path):
    [cell] = cells_of(tmp_path, SHAPES[10])
    assert cell.is_dot
    assert cell.rings[0].tolist() == [[3, 4]]


def test_lines_become_cells_where_they_enclose_area(tmp_path):
    closed, *others = cells_of(tmp_path, SHAPES[3], SHAPES[4], {**SHAPES[4], "all_points_x": [5], "all_points_y": [5]})
    assert closed.source_shape == "polyline"
    assert others == []


def test_a_figure_of_eight_encloses_area_though_its_halves_cancel(tmp_path):
    [cell] = cells_of(tmp_path, {"name": "polyline", "all_points_x": [0, 4, 4, 0], "all_points_y": [0, 4, 0, 4]})
    assert len(cell.rings[0]) == 4


def test_marker_and_score_are_the_cells_own(tmp_path):
    regions = [
        region(SHAPES[0], attributes) for attributes in ({"marker": "Orx", "score": 1}, {"marker": 5, "score": 7})
    ]
    [image] = via.CODEC.read(save(tmp_path / "a.json", {"k": entry(regions)}))
    assert [(cell.marker, cell.score) for cell in image.cells] == [("Orx", 1.0), (None, None)]
    cell = Cell(image.cells[0].rings, marker="CTb", score=0.25, attributes={"n": np.int64(3), "of": np.array([1.5])})
    [found] = written(tmp_path / "b.json", [AnnotatedImage("a", None, (cell,))])["a-1"]["regions"]
    assert found["region_attributes"] == {"n": 3, "of": [1.5], "marker": "CTb", "score": 0.25}


# ------------------------------------------------------------------------------------------------------ holes and parts


def ring_with_island():
    labels = np.zeros((12, 14), dtype=np.int32)
    cv2.circle(labels, (5, 5), 5, 2, 1)
    labels[5, 5] = 2
    labels[10, 12] = 2
    labels[1, 12] = 4
    return labels


def test_every_further_ring_is_a_region_tied_by_cell_and_ring(tmp_path):
    image = AnnotatedImage.from_labels("a.png", ring_with_island())
    regions = written(tmp_path / "a.json", [image])["a.png-1"]["regions"]
    ties = [(found["region_attributes"]["cell"], found["region_attributes"]["ring"]) for found in regions]
    assert sorted(ties) == [(2, "hole"), (2, "outer"), (2, "outer"), (2, "outer"), (4, "outer")]
    [again] = via.CODEC.read(tmp_path / "a.json")
    assert [cell.number for cell in again.cells] == [2, 4]
    assert [dict(cell.attributes) for cell in again.cells] == [{}, {}]
    np.testing.assert_array_equal(again.labels, image.labels)


def test_a_foreign_reader_finds_every_ring_as_a_region(tmp_path):
    via.CODEC.write(tmp_path / "a.json", [AnnotatedImage.from_labels("a.png", ring_with_island())])
    [image] = via.CODEC.read_foreign(tmp_path / "a.json", None)
    assert len(image.cells) == 5


def test_numbers_are_noted_only_where_the_place_does_not_give_them(tmp_path):
    plain = AnnotatedImage.from_labels("a", np.array([[1, 0, 2, 0, 3]]))
    gaps = AnnotatedImage.from_labels("b", np.array([[1, 0, 2, 0, 4]]))
    mixed = AnnotatedImage(
        "c", (1, 5), tuple(Cell(cell.rings, number) for cell, number in zip(gaps.cells, (None, 1, None), strict=True))
    )
    found = written(tmp_path / "a.json", [plain, gaps, mixed])
    noted = {name: ["cell" in each["region_attributes"] for each in found[f"{name}-1"]["regions"]] for name in "abc"}
    assert noted == {"a": [False] * 3, "b": [True] * 3, "c": [False, True, False]}
    for before, after in zip((plain, gaps, mixed), via.CODEC.read(tmp_path / "a.json"), strict=True):
        assert after.numbers.tolist() == before.numbers.tolist()


def test_cell_numbers_edited_in_via_are_text_and_still_join(tmp_path):
    tied = [region(SHAPES[0], {"cell": "7", "ring": role, "n": role}) for role in ("outer", "hole")]
    [image] = via.CODEC.read(save(tmp_path / "a.json", {"k": entry([tied[0], region(SHAPES[5]), tied[1]])}))
    joined, other = image.cells
    assert (joined.number, len(joined.rings), joined.source_shape) == (7, 2, "polygon")
    assert joined.attributes == {"n": "outer"}
    assert (other.number, other.source_shape) == (None, "rect")


def test_one_tied_shape_stays_what_it_is(tmp_path):
    tied = [region(shape, {"cell": number, "ring": "outer"}) for number, shape in ((5, SHAPES[5]), (9, SHAPES[10]))]
    [image] = via.CODEC.read(save(tmp_path / "a.json", {"a.jpg12": entry(tied)}))
    assert [(cell.number, cell.source_shape) for cell in image.cells] == [(5, "rect"), (9, "point")]
    assert exact(written(tmp_path / "b.json", [image])) == exact({"a.jpg12": entry(tied)})


def test_a_point_cannot_be_the_ring_of_a_cell(tmp_path):
    tied = [region(shape, {"cell": 5, "ring": "outer"}) for shape in (SHAPES[0], SHAPES[10])]
    with pytest.raises(InputError, match=r"region 1: expected rings of cell 5, found a point"):
        list(via.CODEC.read(save(tmp_path / "a.json", {"k": entry(tied)})))


def test_a_cell_without_an_outline_is_no_region(tmp_path):
    assert written(tmp_path / "a.json", [AnnotatedImage("a", None, (Cell(()),))])["a-1"]["regions"] == []


# --------------------------------------------------------------------------------------------------- the picture's size


def test_a_known_size_is_noted_and_taken_out_again(tmp_path):
    image = AnnotatedImage("a.png", (4, 9), (), {"caption": "x"})
    found = written(tmp_path / "a.json", [image])["a.png-1"]["file_attributes"]
    assert found == {"caption": "x", "image_width": 9, "image_height": 4}
    [again] = via.CODEC.read(tmp_path / "a.json")
    assert again.shape == (4, 9)
    assert again.attributes == {"caption": "x", "fncells.file_size": -1}


@pytest.mark.parametrize(
    "size", [{"image_width": 9}, {"image_width": "9", "image_height": 4}, {"image_width": 0, "image_height": 4}]
)
def test_what_is_no_size_stays_an_attribute(tmp_path, size):
    document = {"a.jpg12": entry([], file_attributes=size)}
    [image] = via.CODEC.read(save(tmp_path / "a.json", document))
    assert image.shape is None
    assert exact(written(tmp_path / "b.json", [image])) == exact(document)


@pytest.mark.parametrize("name", ["sub/a.png", "./sub/a.png", "C:\\lab\\a.png", "sub/a.jpg", "elsewhere/a.tif"])
def test_the_pictures_give_their_size(tmp_path, name):
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "pictures" / "sub" / "a.png"), np.zeros((7, 5), dtype=np.uint8))
    source = save(tmp_path / "a.json", {"k": entry([region(SHAPES[0])], name, -1), "l": entry([], "other.png", -1)})
    image, other = via.CODEC.read(source, tmp_path / "pictures")
    assert (image.name, image.shape) == (name, (7, 5))
    assert image.attributes["fncells.file_size"] == (tmp_path / "pictures" / "sub" / "a.png").stat().st_size
    assert other.shape is None
    with pytest.raises(InputError, match=r"other\.png.*--images"):
        _ = other.labels


def test_a_size_that_the_picture_contradicts_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((7, 5), dtype=np.uint8))
    via.CODEC.write(tmp_path / "a.json", [AnnotatedImage("a.png", (5, 7), ())])
    with pytest.raises(InputError, match=r"7 x 5 pixels, as the annotations of 'a\.png' say, found 5 x 7"):
        list(via.CODEC.read(tmp_path / "a.json", tmp_path))


def test_two_pictures_that_fit_are_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / "pictures" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "pictures" / folder / "a.png"), np.zeros((7, 5), dtype=np.uint8))
    source = save(tmp_path / "a.json", {"k": entry([], "one/a.png")})
    assert next(via.CODEC.read(source, tmp_path / "pictures")).shape == (7, 5)
    save(source, {"k": entry([], "a.png")})
    with pytest.raises(InputError, match=r"one/a\.png and two/a\.png"):
        list(via.CODEC.read(source, tmp_path / "pictures"))


# ------------------------------------------------------------------------------------------------------------- refusals


def polygon(**changes):
    return region({**SHAPES[0], **changes})


HOSTILE = {
    "a list": ([], "found a list"),
    "a number": (5, "found the number 5"),
    "no entry": ({"k": None}, "picture 'k': expected .* found null"),
    "no name": ({"k": {"regions": []}}, "picture 'k', filename: expected text, found null"),
    "an empty name": ({"k": entry([], "")}, "expected a picture's file name, found ''"),
    "a folder as name": ({"k": entry([], "/")}, "expected a picture's file name, found '/'"),
    "a size in words": ({"k": entry([], size="large")}, "size: expected a whole number of bytes"),
    "a true size": ({"k": entry([], size=True)}, "size: expected a whole number of bytes.*found true or false"),
    "file attributes as text": (
        {"k": entry([], file_attributes="x")},
        "file_attributes: expected an object, found the text 'x'",
    ),
    "regions as number": ({"k": entry(3)}, "regions: expected a list"),
    "a region as text": ({"k": entry(["x"])}, "picture 'a.jpg', region 0: expected a region"),
    "a region without shape": ({"k": entry([{}])}, "region 0: expected shape_attributes"),
    "attributes as list": (
        {"k": entry([{"shape_attributes": SHAPES[0], "region_attributes": []}])},
        "region_attributes",
    ),
    "an unknown shape": ({"k": entry([region({"name": "star"})])}, "found the text 'star'"),
    "a nameless shape": ({"k": entry([region({"x": 1})])}, "a shape out of polygon, polyline, .* found no name"),
    "a list as shape's name": ({"k": entry([region({"name": []})])}, "a shape out of .* found a list"),
    "two points": ({"k": entry([polygon(all_points_x=[1, 2], all_points_y=[1, 2])])}, "at least 3 points, found 2"),
    "no points": ({"k": entry([polygon(all_points_x=[], all_points_y=[])])}, "expected points, found none"),
    "more x than y": ({"k": entry([polygon(all_points_x=[1, 2, 3])])}, "as many x as y, found 3 x and 4 y"),
    "no x": ({"k": entry([region({"name": "polygon"})])}, "all_points_x as a list"),
    "text as x": ({"k": entry([polygon(all_points_x=[1, "2", 3, 4])])}, "all_points_x, found the text '2' at 1"),
    "true as x": ({"k": entry([polygon(all_points_x=[1, 2, True, 4])])}, "found true or false at 2"),
    "far away": ({"k": entry([polygon(all_points_x=[1, 2, 3, 1e7])])}, "found the number 10000000.0 at 3"),
    "a number of 400 digits": ({"k": entry([polygon(all_points_x=[1, 2, 3, 10**400])])}, "found the number 1000"),
    "a rectangle far away": ({"k": entry([region({**SHAPES[5], "x": -2e6})])}, "x from -1000000 to 1000000 px"),
    "a negative width": (
        {"k": entry([region({**SHAPES[5], "width": -5})])},
        "width of at least 0, found the number -5",
    ),
    "a negative radius": ({"k": entry([region({"name": "circle", "cx": 1, "cy": 1, "r": -1})])}, "r of at least 0"),
    "no radius": ({"k": entry([region({"name": "ellipse", "cx": 1, "cy": 1, "rx": 1})])}, "a number as ry, found null"),
    "fncells's own note": ({"k": entry([region(SHAPES[0], {"fncells.via_shape": {}})])}, "fncells.via_shape"),
    "fncells's own note on the picture": (
        {"k": entry([], file_attributes={"fncells.via_lines": 1})},
        "fncells.via_lines",
    ),
    "a picture twice": ({"k": entry([]), "l": entry([], size=13)}, "each picture once, found 'a.jpg' twice"),
    "a project without pictures": ({"_via_settings": {}}, "_via_img_metadata"),
    "a project of text": ({"_via_img_metadata": "x"}, "_via_img_metadata: expected an object"),
    "VIA 3": ({"project": {}, "config": {}, "metadata": {}, "file": {}, "view": {}}, "found a VIA 3 project"),
    "a name of 5,000 characters": ({"x" * 5000: entry(3, "x" * 5000)}, "regions: expected a list"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_files_that_via_does_not_write_are_refused_in_one_line(tmp_path, fault):
    document, said = HOSTILE[fault]
    with pytest.raises(InputError, match=said) as refusal:
        list(via.CODEC.read(save(tmp_path / "a.json", document)))
    assert str(refusal.value).startswith(str(tmp_path / "a.json"))
    assert "\n" not in str(refusal.value)


VALID = '{"k": {"filename": "a.jpg", "size": 1, "regions": [], "file_attributes": {"n": 1}}}'


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("", ""), "empty file"),
        (('"n": 1', '"n": NaN'), "expected finite numbers, found NaN"),
        (('"n": 1', '"n": -Infinity'), "expected finite numbers, found -Infinity"),
        (('"n": 1', '"n": 1e999'), "expected finite numbers, found 1e999"),
        (('"n": 1', f'"n": {"9" * 5000}'), "a number too long"),
        (('"n": 1', f'"n": {"[" * 100_000}'), "nested too deep"),
        (('"n": 1', '"n": "\\ud800"'), "half of a surrogate pair"),
        (('"n": 1', '"n": 1, "n": 2'), "expected each key once, found the key 'n' twice"),
        (("}}}", "}}"), "line 1, column .*: expected JSON"),
    ],
)
def test_what_is_not_plain_json_is_refused(tmp_path, change, said):
    path = tmp_path / "a.json"
    path.write_text(VALID)
    assert len(list(via.CODEC.read(path))) == 1
    path.write_text(VALID.replace(*change) if change[0] else "")
    with pytest.raises(InputError, match=said):
        list(via.CODEC.read(path))


def test_other_encodings_folders_and_missing_files_are_refused(tmp_path):
    (tmp_path / "a.json").write_bytes(VALID.replace("a.jpg", "ä.jpg").encode("latin-1"))
    for path, said in (
        (tmp_path / "a.json", "UTF-8"),
        (tmp_path, "found a folder"),
        (tmp_path / "b", "nothing of that name"),
    ):
        with pytest.raises(InputError, match=said):
            list(via.CODEC.read(path))


@pytest.mark.parametrize("value", [math.nan, object(), {1, 2}])
def test_attributes_that_json_cannot_hold_are_refused_and_nothing_is_left(tmp_path, value):
    with pytest.raises(InputError, match="values that JSON can hold"):
        via.CODEC.write(tmp_path / "a.json", [AnnotatedImage("a", None, (), {"value": value})])
    assert list(tmp_path.iterdir()) == []


def test_one_picture_twice_is_not_written(tmp_path):
    with pytest.raises(InputError, match="'a' twice"):
        via.CODEC.write(tmp_path / "a.json", [AnnotatedImage("a", None, ())] * 2)
    sizes = [AnnotatedImage(name, None, (), {"fncells.file_size": size}) for name, size in (("a1", 2), ("a", 12))]
    with pytest.raises(InputError, match="'a12' twice"):
        via.CODEC.write(tmp_path / "a.json", sizes)
    assert list(tmp_path.iterdir()) == []


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path, document):
    endings = {"value": 0, "refusal": 0}
    for text in mutants(document, count=1000, seed=3):
        (tmp_path / "a.json").write_bytes(text)
        try:
            images = list(via.CODEC.read(tmp_path / "a.json"))
            via.CODEC.write(tmp_path / "b.json", images)
            assert len(list(via.CODEC.read(tmp_path / "b.json"))) == len(images)
            endings["value"] += 1
        except InputError:
            endings["refusal"] += 1
    assert min(endings.values()) > 100, endings


# ---------------------------------------------------------------------------------------------------------- round trips


def round_trip(folder, labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    via.CODEC.write(folder / "a.json", [image])
    [again] = via.CODEC.read(folder / "a.json")
    np.testing.assert_array_equal(again.labels, labels)
    via.CODEC.write(folder / "b.json", [again])
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp(), labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp(), labels)


NUMBERS = st.one_of(st.integers(-1000, 10**6), st.floats(-1000, 10**6))
LENGTHS = st.one_of(st.integers(0, 1000), st.floats(0, 1000))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


def points(name):
    return st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=6).map(
        lambda pairs: {"name": name, "all_points_x": [x for x, _ in pairs], "all_points_y": [y for _, y in pairs]}
    )


def shape(name, **numbers):
    return st.fixed_dictionaries({"name": st.just(name), **numbers})


ANY_SHAPE = st.one_of(
    points("polygon"),
    points("polyline"),
    shape("rect", x=NUMBERS, y=NUMBERS, width=LENGTHS, height=LENGTHS),
    shape("circle", cx=NUMBERS, cy=NUMBERS, r=LENGTHS),
    shape("ellipse", cx=NUMBERS, cy=NUMBERS, rx=LENGTHS, ry=LENGTHS, theta=LENGTHS),
    shape("point", cx=NUMBERS, cy=NUMBERS),
)
ANY_REGIONS = st.lists(st.builds(region, ANY_SHAPE, st.dictionaries(st.text(), JSON, max_size=3)), max_size=4)


@given(ANY_REGIONS)
@settings(max_examples=300)
def test_vertices_order_and_attributes_survive(tmp_path_factory, regions):
    folder = tmp_path_factory.getbasetemp()
    document = {"a.jpg12": entry(regions)}
    images = list(via.CODEC.read(save(folder / "c.json", document)))
    assert exact(written(folder / "d.json", images)) == exact(document)
