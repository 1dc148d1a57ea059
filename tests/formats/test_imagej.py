import json
import pickle
import random
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from time import process_time

import cv2
import numpy as np
import pytest
import read_roi
import roifile
from hypothesis import given, settings
from hypothesis import strategies as st
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.files import write_zip
from fncells.formats import convert, imagej, read_annotations, recognise, rois, via
from formats.label_maps import label_maps

SQUARE = np.array([[3.0, 4.0], [9.0, 4.0], [9.0, 8.0], [3.0, 8.0]])


# ----------------------------------------------------------------------------------------------------- another reader


def pixels_of(rings, shape):
    """Pixels whose centres lie inside rings, those on a right or lower edge too: an odd number of edges left of them.

    This is what the description of ImageJ's PolygonFiller says.
    """
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if y0 != y1:
                crossed = (y > min(y0, y1)) & (y <= max(y0, y1))
                inside ^= crossed & (x > x0 + (x1 - x0) * (y - y0) / (y1 - y0) + 1e-9)
    return inside


def rectangle(left, top, width, height, shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x >= left) & (x < left + width) & (y >= top) & (y < top + height)


def oval(left, top, width, height, shape):
    """Pixels whose centres lie in the ellipse or on it, as ImageJ's OvalRoi has it."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    across, down = x + 0.5 - (left + width / 2), y + 0.5 - (top + height / 2)
    return across**2 / (width / 2) ** 2 + down**2 / (height / 2) ** 2 <= 1


def turned_ellipse(roi, shape):
    """Pixels of an ellipse given by the ends of its long axis and the ratio of its axes."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    x0, y0, x1, y1 = (roi[key] for key in ("ex1", "ey1", "ex2", "ey2"))
    length = np.hypot(x1 - x0, y1 - y0)
    along = ((x - (x0 + x1) / 2) * (x1 - x0) + (y - (y0 + y1) / 2) * (y1 - y0)) / length
    across = ((x - (x0 + x1) / 2) * (y1 - y0) - (y - (y0 + y1) / 2) * (x1 - x0)) / length
    return (along / (length / 2)) ** 2 + (across / (length / 2 * roi["aspect_ratio"])) ** 2 <= 1


def pixels_told(roi, shape):
    """Pixels of a ROI as read_roi gives it."""
    if roi["type"] == "composite":
        return pixels_of(roi["paths"], shape)
    if roi["type"] in ("rectangle", "oval"):
        fill = rectangle if roi["type"] == "rectangle" else oval
        return fill(*(roi[key] for key in ("left", "top", "width", "height")), shape)
    if "aspect_ratio" in roi:
        return turned_ellipse(roi, shape)
    return pixels_of([list(zip(roi["x"], roi["y"], strict=True))], shape)


def labels_by_another_reader(path, shape):
    labels = np.zeros(shape, np.int32)
    for name, roi in read_roi.read_roi_zip(str(path)).items():
        labels[pixels_told(roi, shape)] = int(name)
    return labels


# ---------------------------------------------------------------------------------------------------------- round trips


def only(path, images=None):
    [image] = imagej.CODEC.read(path, images)
    return image


def written(folder, *images):
    imagej.CODEC.write(folder, images)
    return folder


def rois_in(path):
    return roifile.roiread(str(path))


def round_trip(folder, labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    again = only(written(folder / "one", image))
    np.testing.assert_array_equal(again.labels, labels)
    np.testing.assert_array_equal(again.numbers, image.numbers)
    for one, other in zip(image.cells, again.cells, strict=True):
        assert [ring.tolist() for ring in one.rings] == [ring.tolist() for ring in other.rings]
    written(folder / "two", again)
    assert (folder / "one" / "a.zip").read_bytes() == (folder / "two" / "a.zip").read_bytes()
    np.testing.assert_array_equal(labels_by_another_reader(folder / "one" / "a.zip", labels.shape), labels)


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "imagej", labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "imagej", labels)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
SPECIAL = st.sampled_from(["marker", "score", "fncells", "", " x", "group", "position", "name", "number", "a: b"])
POSITION = {"channel": 1, "slice": 0, "frame": 3}
VALUES = st.one_of(JSON, st.sampled_from([" x ", "a\nb", "1", 1, 0, 255, 256, True, POSITION, {"channel": 1}]))
ATTRIBUTES = st.dictionaries(st.one_of(TEXT, SPECIAL), VALUES, max_size=4)
INSIDE = st.floats(0, 19)
AREAS = st.builds(
    Cell,
    st.lists(st.tuples(INSIDE, INSIDE), min_size=3, max_size=6).map(lambda points: (np.array(points),)),
    marker=st.one_of(st.none(), TEXT.filter(bool)),
    score=st.one_of(st.none(), st.floats(0, 1)),
    attributes=ATTRIBUTES,
    source_shape=st.sampled_from(["polygon", "rect", "circle", "ellipse", "polyline"]),
)
ANYWHERE = st.one_of(st.integers(-1000, 10**6).map(float), st.floats(-1000, 10**6))
DOTS = st.builds(
    Cell,
    st.tuples(ANYWHERE, ANYWHERE).map(lambda point: (np.array([point]),)),
    attributes=ATTRIBUTES,
    source_shape=st.just("point"),
)


def exact(value):
    return json.dumps(value, sort_keys=True)


@given(st.lists(st.one_of(AREAS, DOTS), max_size=4), ATTRIBUTES)
@settings(max_examples=300)
def test_pixels_dots_and_attributes_survive(tmp_path_factory, found, attributes):
    image = AnnotatedImage("sub/a b.png", (20, 20), tuple(found), attributes)
    again = only(written(tmp_path_factory.getbasetemp() / "exact", image))
    assert (again.name, again.shape) == (image.name, image.shape)
    assert exact(dict(again.attributes)) == exact(attributes)
    assert list(map(list, again.pixels)) == list(map(list, image.pixels))
    for one, other in zip(image.cells, again.cells, strict=True):
        assert (one.marker, one.score, one.source_shape) == (other.marker, other.score, other.source_shape)
        assert exact(dict(one.attributes)) == exact(dict(other.attributes))
        assert not one.is_dot or one.rings[0].tolist() == other.rings[0].tolist()


def test_real_label_pictures_survive(data, tmp_path):
    folders = [
        (data / "fnc" / "yellow" / "masks", "masks", None),
        (data / "fnc" / "red" / "masks", "masks", None),
        (data / "cfos" / "lab-wue1" / "labels" / "est_GT", "masks", 2),
        (data / "dsb2018" / "labels", "labels", 15),
    ]
    count = 0
    for folder, kind, most in folders:
        for image in list(read_annotations(folder, kind))[:most]:
            again = only(written(tmp_path / str(count), image))
            np.testing.assert_array_equal(again.labels, image.labels, err_msg=image.name)
            count += len(image.cells)
    assert count > 500


@pytest.mark.slow
def test_all_real_label_pictures_survive(data, tmp_path):
    folders = [folder for lab in sorted((data / "cfos").iterdir()) for folder in sorted((lab / "labels").iterdir())]
    for folder in [*folders, data / "dsb2018" / "labels"]:
        for image in read_annotations(folder, "labels" if folder.parent.name == "dsb2018" else "masks"):
            again = only(written(tmp_path, image) / f"{image.stem}.zip")
            np.testing.assert_array_equal(again.labels, image.labels, err_msg=image.name)


# ------------------------------------------------------------------------------------------------ ImageJ's own files

CANVAS = (200, 260)
LINES = {"line1": "line", "line2": "line", "freeline": "freeline", "polyline": "polyline"}


@pytest.fixture
def samples(data):
    return data / "formats" / "imagej_roi" / "read_roi" / "test" / "data"


def drawn(path):
    return only(path).with_shape(CANVAS)


def test_every_roi_of_imagej_has_the_expected_pixels_and_points(samples):
    """All 21 expected contents: 17 areas, of these 6 composites and 3 turned ellipses; 2 of points; 2 of lines."""
    kinds = {"area": 0, "points": 0, "line": 0}
    for path in sorted(samples.glob("*.json")):
        [(_, told)] = json.loads(path.read_text()).items()
        image = drawn(path.with_suffix(".roi"))
        if told["type"] == "point":
            kinds["points"] += 1
            points = np.column_stack((told["x"], told["y"])).astype(np.float32)
            assert [cell.rings[0][0].tolist() for cell in image.cells] == points.tolist()
            assert all(cell.is_dot for cell in image.cells)
            assert len(image.cells) == told["n"]
        elif told["type"] in ("polyline", "freeline"):
            kinds["line"] += 1
            [(_, _, kind, data)] = image.attributes[imagej.PASSED]
            points = ImagejRoi.frombytes(data).coordinates().tolist()
            assert (kind, points) == (told["type"], [list(point) for point in zip(told["x"], told["y"], strict=True)])
        else:
            kinds["area"] += 1
            expected = pixels_told(told, CANVAS)
            np.testing.assert_array_equal(image.mask, expected, err_msg=path.name)
            assert expected.sum() > 5
            assert len(image.cells) == 1
    assert kinds == {"area": 17, "points": 2, "line": 2}


def test_every_roi_file_is_read(samples):
    """23 files: 17 cells, 15 dots, 4 lines."""
    found = {path.stem: only(path) for path in sorted(samples.glob("*.roi"))}
    passed = {stem: image.attributes[imagej.PASSED][0][2] for stem, image in found.items() if not image.cells}
    assert passed == LINES
    every = [cell for image in found.values() for cell in image.cells]
    assert (len(found), len(every), sum(cell.is_dot for cell in every)) == (23, 32, 15)
    assert recognise(samples / "oval.roi") == "imagej"


def test_what_imagej_wrote_comes_back_as_roi_set(samples, tmp_path):
    members = [(f"{path.stem}.roi", path.read_bytes()) for path in sorted(samples.glob("*.roi"))]
    write_zip(tmp_path / "in" / "RoiSet.zip", members)
    assert recognise(tmp_path / "in") == "imagej"
    image = only(tmp_path / "in").with_shape(CANVAS)
    assert (image.name, len(image.cells)) == ("RoiSet.zip", 32)
    assert [(at, name, kind) for at, name, kind, _ in image.attributes[imagej.PASSED]] == [
        (10, "freeline", "freeline"),
        (10, "line", "line"),
        (10, "0001-0158-0117", "line"),
        (31, "polyline", "polyline"),
    ]
    again = only(written(tmp_path / "out", image))
    assert again.attributes == image.attributes
    np.testing.assert_array_equal(again.labels, image.labels)
    names = [roi.name for roi in rois_in(tmp_path / "out" / "RoiSet.zip")]
    assert names[:3] == ["0001", "0002", "0003"]
    crossed = pickle.loads(pickle.dumps(image))
    written(tmp_path / "crossed", crossed)
    assert (tmp_path / "crossed" / "RoiSet.zip").read_bytes() == (tmp_path / "out" / "RoiSet.zip").read_bytes()


def test_shapes_say_what_was_drawn(samples):
    shapes = {path.stem: only(path).cells[0].source_shape for path in samples.glob("*.roi") if path.stem not in LINES}
    assert {stem for stem, shape in shapes.items() if shape == "ellipse"} == {
        "oval",
        "oval-top",
        "ellipse",
        "ellipse-left",
        "ellipse-top",
    }
    assert [stem for stem, shape in shapes.items() if shape == "rect"] == ["rectangle"]
    assert [stem for stem, shape in shapes.items() if shape == "circle"] == ["oval-left"]


def test_names_that_tell_something_are_kept_and_automatic_ones_are_not(samples, tmp_path):
    assert only(samples / "polygon.roi").cells[0].attributes == {"name": "polygon"}
    assert only(samples / "point.roi").cells[0].attributes == {"position": {"channel": 1, "slice": 1, "frame": 1}}
    roi = ImagejRoi.frombytes((samples / "oval-left.roi").read_bytes())
    for name, attributes in {"0001-0158-0117": {}, "0158-0117-1": {}, "0012": {}, "A-1": {"name": "A-1"}}.items():
        roi.name = name
        (tmp_path / "a.roi").write_bytes(roi.tobytes())
        assert dict(only(tmp_path / "a.roi").cells[0].attributes) == attributes


# --------------------------------------------------------------------------------------------------- ImageJ's shapes


def made(tmp_path, **fields):
    (tmp_path / "a.roi").write_bytes(ImagejRoi(version=228, **fields).tobytes())
    return only(tmp_path / "a.roi")


def box(left, top, width, height):
    return {"left": left, "top": top, "right": left + width, "bottom": top + height}


SUBPIXEL = ROI_OPTIONS.SUB_PIXEL_RESOLUTION


def test_a_rectangle_is_just_its_pixels(tmp_path):
    image = made(tmp_path, roitype=ROI_TYPE.RECT, **box(3, 4, 7, 5))
    assert image.cells[0].rings[0].tolist() == SQUARE.tolist()
    np.testing.assert_array_equal(image.with_shape((20, 30)).mask, rectangle(3, 4, 7, 5, (20, 30)))


def test_a_rectangle_with_fractions_has_all_that_it_touches(tmp_path):
    fields = {"roitype": ROI_TYPE.RECT, "options": SUBPIXEL, "xd": 3.5, "yd": 4, "widthd": 6.25, "heightd": 4.75}
    image = made(tmp_path, **fields, **box(0, 0, 1, 1))
    assert image.cells[0].rings[0].tolist() == SQUARE.tolist()


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 5), (10, 10), (31, 30), (8, 1)])
def test_an_oval_has_the_pixels_whose_centres_it_holds(tmp_path, size):
    for left, top in ((3, 4), (-2, 4), (3, -1), (25, 16)):
        image = made(tmp_path, roitype=ROI_TYPE.OVAL, **box(left, top, *size)).with_shape((20, 30))
        np.testing.assert_array_equal(image.mask, oval(left, top, *size, (20, 30)))


def test_a_rectangle_with_round_corners_lacks_them(tmp_path):
    image = made(tmp_path, roitype=ROI_TYPE.RECT, rounded_rect_arc_size=10, **box(2, 3, 20, 12)).with_shape((20, 30))
    corner = oval(2, 3, 10, 10, (20, 30))
    expected = rectangle(2, 3, 20, 12, (20, 30))
    for flipped in (expected, expected[:, :]):
        flipped[3:8, 2:7] &= corner[3:8, 2:7]
    expected[3:8, 17:22] = expected[3:8, 6:1:-1]
    expected[10:15, 2:22] = expected[7:2:-1, 2:22]
    np.testing.assert_array_equal(image.mask, expected)


def test_fractions_of_pixels_count_at_pixel_centres(tmp_path):
    ring = np.array([[3.25, 4.75], [17.5, 2.5], [12.125, 15.875]], np.float32)
    fields = {"integer_coordinates": np.zeros((3, 2), np.int32), "subpixel_coordinates": ring, "n_coordinates": 3}
    image = made(tmp_path, roitype=ROI_TYPE.POLYGON, options=SUBPIXEL, **fields, **box(3, 2, 15, 14))
    np.testing.assert_array_equal(image.with_shape((20, 30)).mask, pixels_of([ring.tolist()], (20, 30)))


def test_curves_of_composites_are_followed(tmp_path):
    """A circle of four Bézier curves, as Java makes it; and a parabola."""
    c = 0.5522847498 * 10
    quarters = [(20, 10 - c, 10 + c, 0, 10, 0), (10 - c, 0, 0, 10 - c, 0, 10), (0, 10 + c, 10 - c, 20, 10, 20)]
    quarters = [(20.0, 10.0)[:0] + quarter for quarter in quarters] + [(10 + c, 20, 20, 10 + c, 20, 10)]
    path = [0, 20, 10] + [number for quarter in quarters for number in (3, *quarter)] + [4]
    path = np.array(path, np.float32)
    image = made(tmp_path, roitype=ROI_TYPE.RECT, shape_roi_size=len(path), multi_coordinates=path, **box(0, 0, 20, 20))
    np.testing.assert_array_equal(image.with_shape((20, 30)).mask, oval(0, 0, 20, 20, (20, 30)))
    path = np.array([0, 0, 0, 2, 10, 20, 20, 0, 4], np.float32)
    image = made(tmp_path, roitype=ROI_TYPE.RECT, shape_roi_size=len(path), multi_coordinates=path, **box(0, 0, 20, 10))
    x = np.arange(20) + 0.5
    below = 2 * 20 * (x / 20) * (1 - x / 20)
    expected = (np.arange(20)[:, np.newaxis] + 0.5) < below
    assert np.count_nonzero(image.with_shape((20, 20)).mask ^ expected) <= 2


@pytest.mark.parametrize("subtype", [ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE])
def test_texts_and_pictures_are_no_cells(tmp_path, subtype):
    more = {"image_data": b"x" * 10, "image_size": 10} if subtype == ROI_SUBTYPE.IMAGE else {"text": "here"}
    image = made(tmp_path, roitype=ROI_TYPE.RECT, subtype=subtype, **more, **box(3, 4, 7, 5))
    assert image.cells == ()
    assert image.attributes[imagej.PASSED][0][2] == subtype.name.lower()


def test_areas_without_pixels_are_kept_aside(tmp_path):
    for fields in (
        {"roitype": ROI_TYPE.RECT, **box(3, 4, 0, 5)},
        {"roitype": ROI_TYPE.OVAL, **box(-9, 4, 8, 5)},
        {
            "roitype": ROI_TYPE.POLYGON,
            "integer_coordinates": np.array([[0, 0], [5, 5]], np.int32),
            "n_coordinates": 2,
            **box(3, 4, 6, 6),
        },
    ):
        image = made(tmp_path, **fields)
        assert (image.cells, len(image.attributes[imagej.PASSED])) == ((), 1)


def test_points_are_dots_with_their_counters(tmp_path):
    points = np.array([[3, 4], [5.5, 6.25]], np.float32)
    fields = {"n_coordinates": 2, "integer_coordinates": np.zeros((2, 2), np.int32), "subpixel_coordinates": points}
    counters = np.array([0, 3], np.uint8)
    image = made(tmp_path, roitype=ROI_TYPE.POINT, options=SUBPIXEL, counters=counters, **fields, **box(3, 4, 3, 3))
    assert [cell.rings[0].tolist() for cell in image.cells] == [[[3, 4]], [[5.5, 6.25]]]
    assert [dict(cell.attributes) for cell in image.cells] == [{}, {"counter": 3}]
    assert [cell.number for cell in image.cells] == [None, None]


# ------------------------------------------------------------------------------------------------------ what is written


def test_each_cell_is_the_roi_that_imagej_would_make_of_it(tmp_path):
    ring, donut = SQUARE + 20, (SQUARE * 3, SQUARE + 15)
    cells = (
        Cell((SQUARE + (30, 0),)),
        Cell((ring,), source_shape="rect", number=70_000),
        Cell(donut, number=12),
        Cell((SQUARE + (0, 40), SQUARE + (20, 40))),
        Cell((np.array([[1.5, 2.25]]),), source_shape="point"),
        Cell((SQUARE + 500,)),
    )
    image = AnnotatedImage("sub/a.png", (60, 60), cells)
    path = written(tmp_path, image) / "sub" / "a.zip"
    found = rois_in(path)
    assert [roi.name for roi in found] == ["0001", "70000", "0012", "0002", "0003"]
    assert [roi.roitype.name for roi in found] == ["TRACED", "RECT", "RECT", "RECT", "POINT"]
    assert [roi.composite for roi in found] == [False, False, True, True, False]
    assert found[0].coordinates().tolist() == [[33, 4], [40, 4], [40, 9], [33, 9]]
    assert found[4].coordinates().tolist() == [[1.5, 2.25]]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{roi.name}.roi" for roi in found]
        assert archive.comment == b'fncells {"name":"sub/a.png","size":[60,60]}'
    again = only(tmp_path)
    assert again.numbers.tolist() == [1, 70_000, 12, 2, 3]


def test_what_is_known_of_a_cell_is_shown_among_its_properties(tmp_path):
    attributes = {"note": "grün", "n": 5, "text": "5", "a b": [1], "marker": "twice", "group": 3}
    cell = Cell((SQUARE,), marker="c-FOS", score=0.5, attributes=attributes, source_shape="circle")
    path = written(tmp_path, AnnotatedImage("a.png", (20, 20), (cell,))) / "a.zip"
    [roi] = rois_in(path)
    assert roi.group == 3
    assert roi.props.split("\n") == [
        "marker: c-FOS",
        "score: 0.5",
        r"note: gr\u00fcn",
        "n: 5",
        'text: "5"',
        r"a\ b: [1]",
        'fncells: {"source_shape":"circle","attributes":{"marker":"twice"}}',
        "",
    ]
    assert {"marker": "c-FOS", "score": 0.5, "n": 5}.items() <= roi.properties.items()


def test_properties_are_read_as_imagej_writes_them_again(tmp_path):
    """It reads escapes, and writes none."""
    attributes = {"note": "grün", "quoted": {"a": 'b "c"'}, "two words": "more words"}
    path = written(tmp_path, AnnotatedImage("a.png", (20, 20), (Cell((SQUARE,), attributes=attributes),))) / "a.zip"
    [roi] = rois_in(path)
    roi.props = 'note: grün\nquoted: {"a":"b \\"c\\""}\ntwo words: more words\n'
    write_zip(path, [("0001.roi", roi.tobytes())])
    assert dict(only(path).cells[0].attributes) == attributes


def test_numbers_are_those_that_the_names_say(tmp_path):
    path = written(tmp_path, AnnotatedImage.from_labels("a.png", np.array([[7, 0, 2], [0, 0, 0], [9, 0, 0]]))) / "a.zip"
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist() if name != "0007.roi"]
    write_zip(path, members)  # as if a cell had been deleted in ImageJ, which also forgets the comment
    assert only(path).numbers.tolist() == [2, 9]
    twice = [(name.replace("0009", "9"), data) for name, data in members] + [("09.roi", members[1][1])]
    write_zip(
        path, [(name, data.replace("0009".encode("utf-16-be"), "0002".encode("utf-16-be"))) for name, data in twice]
    )
    assert only(path).numbers.tolist() == [1, 2, 3]


def test_coordinates_beyond_what_whole_numbers_reach_are_composites(tmp_path):
    for left, kind in ((32_757, "traced"), (32_758, "composite"), (40_000, "composite"), (900_000, "composite")):
        triangle = np.array([[left, 2.0], [left + 9, 2], [left + 4, 7]])
        dot = Cell((np.array([[left + 0.5, 3.0]]),), source_shape="point")
        image = AnnotatedImage("a.png", (10, left + 20), (Cell((triangle,)), dot))
        path = written(tmp_path, image) / "a.zip"
        told = read_roi.read_roi_zip(str(path))
        assert told["0001"]["type"] == kind
        rings = told["0001"].get("paths") or [list(zip(told["0001"]["x"], told["0001"]["y"], strict=True))]
        near = [[(x - left, y) for x, y in ring] for ring in rings]
        np.testing.assert_array_equal(pixels_of(near, (10, 20)), image.mask[:, left:])
        again = only(path)
        np.testing.assert_array_equal(again.mask, image.mask)
        assert again.cells[1].rings[0].tolist() == [[left + 0.5, 3]]


def test_overlaps_empty_pictures_and_corners_survive(tmp_path):
    corners = np.zeros((6, 6), np.int32)
    corners[1:3, 1:3] = corners[3:5, 3:5] = 4
    images = [
        AnnotatedImage("a.png", (40, 40), (Cell((SQUARE * 2,)), Cell((SQUARE * 2 + 5,)))),
        AnnotatedImage("b.png", (3, 4), ()),
        AnnotatedImage("c.png", None, ()),
        AnnotatedImage.from_labels("d.png", corners),
    ]
    again = list(imagej.CODEC.read(written(tmp_path, *images)))
    assert [(image.name, image.shape, len(image.cells)) for image in again] == [
        ("a.png", (40, 40), 2),
        ("b.png", (3, 4), 0),
        ("c.png", None, 0),
        ("d.png", (6, 6), 1),
    ]
    assert list(map(list, again[0].pixels)) == list(map(list, images[0].pixels))
    assert recognise(tmp_path / "b.zip") == "imagej"


def test_dots_need_no_size_and_areas_do(tmp_path):
    dot = Cell((np.array([[1.5, 2.0]]),), source_shape="point")
    assert only(written(tmp_path, AnnotatedImage("a.png", None, (dot,)))).cells[0].same_as(dot)
    with pytest.raises(InputError, match=r"b\.png: expected the picture's height and width.*--images"):
        written(tmp_path, AnnotatedImage("b.png", None, (dot, Cell((SQUARE,)))))


def test_a_cell_that_cannot_be_held_leaves_no_trace_and_others_go_on(tmp_path):
    bad = [
        AnnotatedImage("b.png", (9, 9), (Cell((SQUARE,), attributes={"a": object()}),)),
        AnnotatedImage("c.png", (9, 9), (), {"a": float("nan")}),
        AnnotatedImage("d.png", (9, 9), (), {"a": "x" * 2**16}),
        AnnotatedImage("../e.png", (9, 9), ()),
        AnnotatedImage("a.tif", (9, 9), ()),
    ]
    with imagej.CODEC.writing(tmp_path) as add:
        add(AnnotatedImage("a.png", (9, 9), ()))
        for image in bad:
            with pytest.raises(InputError) as refusal:
                add(image)
            assert "\n" not in str(refusal.value)
        add(AnnotatedImage("d.png", (9, 9), (), {"a": "x" * 2**15}))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip", "d.zip"]


def test_pictures_give_names_and_sizes_that_imagej_does_not_hold(tmp_path, samples):
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "pictures" / name), np.zeros(CANVAS, np.uint8))
    data = (samples / "polygon.roi").read_bytes()
    write_zip(tmp_path / "rois" / "a_rois.zip", [("x/0001.roi", data)])
    write_zip(tmp_path / "rois" / "b.zip", [("0001.roi", data)])
    found = list(imagej.CODEC.read(tmp_path / "rois", tmp_path / "pictures"))
    [(_, told)] = json.loads((samples / "polygon.json").read_text()).items()
    area = np.count_nonzero(pixels_told(told, CANVAS))
    assert [(image.name, image.shape, int(image.areas[0])) for image in found] == [
        ("a.png", CANVAS, area),
        ("b.png", CANVAS, area),
    ]
    [unread, _] = imagej.find(tmp_path / "rois")
    with pytest.raises(InputError, match=r"expected the picture's height and width.*--images"):
        unread.read().labels  # noqa: B018


def test_what_is_not_rois_is_passed_over(tmp_path, samples):
    data = (samples / "polygon.roi").read_bytes()
    inner = (tmp_path / "inner.zip", [("1.roi", data)])
    write_zip(*inner)
    members = [
        ("__MACOSX/sub/._cell.roi", b"junk"),
        ("sub/", b""),
        ("sub/cell.roi", data),
        ("sub/._cell.roi", b"junk"),
        ("Results.csv", b"1,2"),
        ("inner.zip", inner[0].read_bytes()),
    ]
    write_zip(tmp_path / "a" / "a.zip", members)
    [cell] = only(tmp_path / "a").cells
    assert cell.attributes == {"name": "polygon"}
    assert recognise(tmp_path / "a") == "imagej"


def test_other_archives_and_folders_are_not_taken(tmp_path):
    write_zip(tmp_path / "a" / "a.zip", [("a.csv", b"1")])
    assert not imagej.CODEC.recognises(tmp_path / "a")
    with pytest.raises(InputError, match=r"expected a zip archive of \.roi files, found .* with 'a\.csv'"):
        only(tmp_path / "a")
    with pytest.raises(InputError, match="expected ImageJ's ROIs"):
        only(tmp_path / "none")


def test_a_picture_that_is_there_twice_is_refused_and_the_others_are_read(tmp_path):
    image = AnnotatedImage("a.png", (9, 9), ())
    written(tmp_path, image, replace(image, name="c.png"))
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes())
    first, second, third = imagej.find(tmp_path)
    assert first.read().name == "a.png"
    with pytest.raises(InputError, match=r"each picture once, found 'a\.png' twice"):
        second.read()
    assert third.read().name == "c.png"


def test_losses_are_those_that_imagej_cannot_show(tmp_path):
    regions = [
        {"shape_attributes": {"name": "circle", "cx": 20, "cy": 20, "r": 8.5}, "region_attributes": {"marker": "CTb"}},
        {"shape_attributes": {"name": "point", "cx": 3, "cy": 4}, "region_attributes": {"a": 1}},
        {"shape_attributes": {"name": "rect", "x": 30, "y": 30, "width": 5, "height": 6}, "region_attributes": {}},
    ]
    entry = {"filename": "a.png", "size": -1, "regions": regions, "file_attributes": {}}
    entry["file_attributes"] = {"image_width": 50, "image_height": 50}
    (tmp_path / "a.json").write_text(json.dumps({"a": entry}))
    total = convert(tmp_path / "a.json", tmp_path / "out", "imagej").total
    assert total["area_px2"] == total["area_px2_read"] > 200
    assert (total["shapes_lost"], total["fractions_lost"], total["attributes_lost"], total["dots_lost"]) == (1, 1, 0, 0)
    [before], [after] = via.CODEC.read(tmp_path / "a.json"), imagej.CODEC.read(tmp_path / "out")
    assert [cell.source_shape for cell in after.cells] == [cell.source_shape for cell in before.cells]


# ---------------------------------------------------------------------------------------------------------- hostile


def roi_bytes(**fields):
    return ImagejRoi(version=228, **fields).tobytes()


TRIANGLE = {
    "roitype": ROI_TYPE.TRACED,
    "n_coordinates": 3,
    "integer_coordinates": np.array([[0, 0], [9, 0], [9, 9]], np.int32),
    **box(3, 4, 9, 9),
}
PATH = np.array([0, 3, 4, 1, 12, 4, 1, 12, 13, 4], np.float32)


def composite(path):
    path = np.asarray(path, np.float32)
    return roi_bytes(roitype=ROI_TYPE.RECT, shape_roi_size=len(path), multi_coordinates=path, **box(3, 4, 9, 9))


def subpixel(points, roitype=ROI_TYPE.POLYGON):
    points = np.asarray(points, np.float32)
    zeros = np.zeros(points.shape, np.int32)
    fields = {"n_coordinates": len(points), "integer_coordinates": zeros, "subpixel_coordinates": points}
    return roi_bytes(roitype=roitype, options=SUBPIXEL, **fields, **box(0, 0, 9, 9))


def with_properties(text):
    return roi_bytes(**TRIANGLE, props=text)


def at(data, place, text):
    return data[:place] + text + data[place + len(text) :]


VALID = roi_bytes(**TRIANGLE, name="x")
NAN, INF = float("nan"), float("inf")
SUBPIXEL_NAN = at(subpixel([[1, 2], [3, 5], [9, 9]]), 64 + 12, b"\x7f\x80\x00\x01")
ZIGZAG = np.column_stack((np.tile([0, 8000], 30_000), np.linspace(0, 8000, 60_000)))


HOSTILE = {
    "nothing": (b"", "expected an ImageJ ROI, found nothing"),
    "something else": (b"Oout" + VALID[4:], "an ImageJ ROI, found other data"),
    "the mark alone": (b"Iout", "a whole ImageJ ROI"),
    "half a header": (VALID[:50], "a whole ImageJ ROI"),
    "half the coordinates": (VALID[:70], "a whole ImageJ ROI"),
    "an unknown type": (at(VALID, 6, b"\x63"), "a type from 0 to 10, found type 99"),
    "65,535 points that are not there": (at(VALID, 16, b"\xff\xff"), "a whole ImageJ ROI"),
    "2,000 million points": (at(at(VALID, 16, b"\0\0"), 18, struct.pack(">i", 2**31 - 1)), "a whole ImageJ ROI"),
    "minus one points": (at(at(VALID, 16, b"\0\0"), 18, struct.pack(">i", -1)), "a whole ImageJ ROI"),
    "no points": (at(at(VALID, 16, b"\0\0"), 18, struct.pack(">i", 0)), "the points of an outline, found none"),
    "NaN": (subpixel([[1, 2], [NAN, 5], [9, 9]]), "coordinates from -1000000 to 1000000 px"),
    "a NaN that signals": (SUBPIXEL_NAN, "coordinates from -1000000 to 1000000 px"),
    "infinity": (subpixel([[1, 2], [INF, 5], [9, 9]]), "coordinates from -1000000"),
    "far away": (subpixel([[1, 2], [3e7, 5], [9, 9]]), "coordinates from -1000000"),
    "a point nowhere": (subpixel([[NAN, 2]], ROI_TYPE.POINT), "coordinates from -1000000"),
    "an outline around everything": (subpixel([[0, 0], [900_000, 0], [900_000, 900_000]]), "too large or too tangled"),
    "an outline around a slide": (subpixel([[0, 0], [9000, 0], [9000, 9000]]), "too large or too tangled"),
    "a zigzag": (subpixel(ZIGZAG[:, ::-1]), "too large or too tangled"),
    "an oval around everything": (roi_bytes(roitype=ROI_TYPE.OVAL, **box(0, 0, 60_000, 60_000)), "too large"),
    "a path of other steps": (composite([7, 3, 4]), "moves, lines, curves and ends, found 7.0 at number 0"),
    "a path of NaN": (composite([NAN, 3, 4]), "found nan at number 0"),
    "a path to NaN": (composite([0, NAN, 4, 1, 5, 6, 1, 7, 9, 4]), "coordinates from -1000000"),
    "a path that begins nowhere": (composite([1, 3, 4]), "found 1.0 at number 0"),
    "a path cut short": (composite(PATH[:5]), "found 1.0 at number 3"),
    "a path larger than the file": (at(composite(PATH), 36, struct.pack(">i", 2**31 - 1)), "a whole ImageJ ROI"),
    "a rectangle of NaN": (
        roi_bytes(roitype=ROI_TYPE.RECT, options=SUBPIXEL, xd=NAN, widthd=5, heightd=5, **box(0, 0, 5, 5)),
        "coordinates from -1000000",
    ),
    "a note that is none": (with_properties("fncells: 5"), "property fncells: expected an object, found the number 5"),
    "a note of a point": (with_properties('fncells: {"source_shape":"point"}'), "expected a shape with an area"),
    "a note of an unknown shape": (with_properties('fncells: {"source_shape":[]}'), "source_shape: expected one of"),
    "a note of fncells's own": (
        with_properties("fncells.x: 5"),
        "names do not begin with 'fncells",
    ),
    "a note in a note": (with_properties('fncells: {"attributes":{"fncells.x":1}}'), "names do not begin with"),
}


@pytest.mark.parametrize("way", ["roi", "zip"])
@pytest.mark.parametrize("fault", HOSTILE)
def test_what_is_no_roi_is_refused_in_one_line(tmp_path, fault, way):
    data, said = HOSTILE[fault]
    path = tmp_path / f"a.{way}"
    for content, cells in ((VALID, 1), (composite(PATH), 1), (data, None)):
        if way == "roi":
            path.write_bytes(content)
        else:
            write_zip(path, [("a.roi", content)])
        if cells:
            assert len(only(path).cells) == cells
    start = process_time()
    with pytest.raises(InputError, match=said) as refusal:
        only(path)
    assert process_time() - start < 5
    assert str(refusal.value).startswith(str(path))
    assert "ROI" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_tangled_outlines_are_too_much_together(tmp_path):
    tangle = subpixel(ZIGZAG[:480, ::-1])
    write_zip(tmp_path / "a.zip", [("1.roi", tangle)])
    assert len(only(tmp_path / "a.zip").cells) == 1
    write_zip(tmp_path / "a.zip", [(f"{index}.roi", tangle) for index in range(1, 200)])
    start = process_time()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="too large or too tangled"):
            only(tmp_path / "a.zip")
        assert tracemalloc.get_traced_memory()[1] < 2**30
    finally:
        tracemalloc.stop()
    assert process_time() - start < 8


def test_many_large_outlines_are_too_much_together(tmp_path):
    ring = [[0, 0], [3000, 0], [3000, 3000], [0, 2999]]
    large = subpixel(ring)
    write_zip(tmp_path / "a.zip", [(f"{index}.roi", large) for index in range(1, 4)])
    assert len(only(tmp_path / "a.zip").cells) == 3
    write_zip(tmp_path / "a.zip", [(f"{index}.roi", large) for index in range(1, 200)])
    start = process_time()
    with pytest.raises(InputError, match="too large or too tangled, by itself or with those before it"):
        only(tmp_path / "a.zip")
    assert process_time() - start < 5


def test_archives_larger_than_life_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej, "_LARGEST", 100)
    (tmp_path / "a.roi").write_bytes(VALID)
    with pytest.raises(InputError, match="a ROI of at most"):
        only(tmp_path / "a.roi")


COMMENTS = {
    "no JSON": (b"fncells {", "comment, line 1, column .*: expected JSON"),
    "other bytes": (b"fncells \xff", "comment: expected UTF-8 text"),
    "a list": (b"fncells []", "an object with the picture's name, found a list"),
    "no name": (b'fncells {"size":[5,5]}', "an object with the picture's name"),
    "a folder as name": (b'fncells {"name":"/"}', "a picture's file name"),
    "a size in words": (b'fncells {"name":"a","size":"x"}', "comment, size: expected height and width"),
    "a giant": (b'fncells {"name":"a","size":[1000000,1000000]}', "a picture of at most"),
    "attributes as a list": (b'fncells {"name":"a","attributes":[]}', "attributes as an object"),
    "fncells's own note": (b'fncells {"name":"a","attributes":{"fncells.x":1}}', "names do not begin with"),
    "deep nesting": (b"fncells " + b"[" * 60_000, "nested too deep"),
}


@pytest.mark.parametrize("fault", COMMENTS)
def test_comments_that_only_seem_ours_are_refused(tmp_path, fault):
    comment, said = COMMENTS[fault]
    for valid, name in ((b'fncells {"name":"a b"}', "a b"), (b"fncells", "a.zip"), (b"", "a.zip")):
        write_zip(tmp_path / "a.zip", [("1.roi", VALID)], valid)
        assert only(tmp_path / "a.zip").name == name
    write_zip(tmp_path / "a.zip", [("1.roi", VALID)], comment)
    with pytest.raises(InputError, match=said) as refusal:
        only(tmp_path / "a.zip")
    assert str(refusal.value).startswith(str(tmp_path / "a.zip"))


@pytest.mark.parametrize("name", ["../../x.png", "/etc/x.png", "C:\\x.png", "x" * 5000 + ".png", "a\0b.png"])
def test_names_that_lead_out_of_the_folder_are_texts_until_they_are_written(tmp_path, name):
    write_zip(
        tmp_path / "a.zip", [("../../1.roi", VALID)], b"fncells " + json.dumps({"name": name, "size": [9, 9]}).encode()
    )
    image = only(tmp_path / "a.zip")
    assert image.name == name
    with pytest.raises(InputError, match="expected a picture's file name within the output folder"):
        imagej.CODEC.write(tmp_path / "out", [image])
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_names_of_rois_lead_nowhere_either(tmp_path):
    line = roi_bytes(roitype=ROI_TYPE.LINE, x2=5.0, **box(0, 0, 5, 5))
    members = [(f"../{'x' * 300}.roi", line), ("/etc/passwd.roi", line), ("0001.roi", VALID), ("\\x\\0002.roi", line)]
    write_zip(tmp_path / "a.zip", members, b'fncells {"name":"a","size":[30,30]}')
    path = written(tmp_path / "out", only(tmp_path / "a.zip")) / "a.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"{'x' * 100}.roi", "passwd.roi", "0001.roi", "0002.roi"]
    assert only(path).attributes[imagej.PASSED][0][2] == "line"


MUTATED = AnnotatedImage(
    "a.png",
    (60, 60),
    (
        Cell((SQUARE,), marker="c-FOS", score=0.5, attributes={"note": "grün", "group": 2}),
        Cell((SQUARE * 3, SQUARE + 15), number=12),
        Cell((SQUARE + 40,), source_shape="rect"),
        Cell((np.array([[1.1, 2.25]]),), source_shape="point"),
    ),
    {"n": [1]},
)


def mutants(path, samples, count, seed):
    """Yield archives: bytes of a ROI changed, mostly of its header, or of the archive itself, or the end cut off."""
    rng = random.Random(seed)
    with zipfile.ZipFile(path) as archive:
        valid = [(name, archive.read(name)) for name in archive.namelist()]
        comment = archive.comment
    valid += [(f"{index}.roi", data) for index, data in enumerate(samples, 100)]
    target = path.with_name("b.zip")
    for index in range(count):
        members, told = list(valid), comment
        if index % 5 < 3:
            for _ in range(rng.randint(1, 3)):
                which = rng.randrange(len(members))
                name, data = members[which]
                place = rng.randrange(min(len(data), 64 if rng.random() < 0.5 else len(data)))
                members[which] = name, at(data, place, bytes([rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])]))
        elif index % 5 == 3:
            name, data = members[rng.randrange(len(members))]
            members.append((name if rng.random() < 0.3 else "new.roi", data[: rng.randrange(len(data))]))
            place = rng.randrange(8, len(told))
            told = at(told, place, rng.choice([b'"', b"{", b"]", b"9", b"\xff"]))
        if len({name for name, _ in members}) == len(members):
            write_zip(target, members, told)
        data = bytearray(target.read_bytes())
        if index % 5 == 4:
            for _ in range(rng.randint(1, 3)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            data = data[: rng.choice([len(data), len(data), rng.randrange(len(data))])]
        yield bytes(data)


def mutate(tmp_path, count, seed):
    path = written(tmp_path / "valid", MUTATED) / "a.zip"
    samples = [VALID, composite(PATH), subpixel([[1, 2], [5, 5], [9, 9]]), subpixel([[1, 2], [3, 4]], ROI_TYPE.POINT)]
    samples += [roi_bytes(roitype=ROI_TYPE.OVAL, **box(3, 4, 9, 9)), roi_bytes(roitype=ROI_TYPE.LINE, x2=5.0)]
    values, said, slowest = 0, [], 0.0
    for data in mutants(path, samples, count, seed):
        (tmp_path / "a.zip").write_bytes(data)
        start = process_time()
        try:
            image = only(tmp_path / "a.zip")
            imagej.CODEC.write(tmp_path / "out", [image])
            values += 1
        except InputError as error:
            said.append(str(error))
        slowest = max(slowest, process_time() - start)
    assert slowest < 5
    assert values + len(said) == count
    assert min(values, len(said)) > count // 10, values
    assert not any("\n" in line for line in said)


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path):
    mutate(tmp_path, 500, seed=1)


@pytest.mark.slow
def test_5000_mutants_end_in_a_value_or_one_line(tmp_path):
    mutate(tmp_path, 5000, seed=2)


def test_the_library_that_reads_rois_says_nothing_by_itself(tmp_path, capfd):
    data = bytearray(VALID)
    second = struct.unpack(">i", data[60:64])[0]
    data[second + 20 : second + 24] = struct.pack(">i", 10**6)  # the length of the name
    (tmp_path / "a.roi").write_bytes(data)
    assert len(only(tmp_path / "a.roi").cells) == 1
    assert capfd.readouterr() == ("", "")
    assert rois.__all__ == sorted(rois.__all__)
    assert Path(roifile.__file__).name == "__init__.py"
