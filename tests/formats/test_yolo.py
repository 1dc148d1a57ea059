import json
import random
import shutil
import time
import tracemalloc

import cv2
import numpy as np
import pytest
import supervision
import yaml
from hypothesis import given, settings

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import convert, recognise, yolo
from formats.endings import LONGEST, ending
from formats.label_maps import drawn_map, label_maps
from formats.mutation import mutants


def square(x, y, side, **more):
    return Cell((np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], dtype=float),), **more)


def rich():
    """Overlap, hole, parts that touch in a corner, an island, dots, a cell without pixels, and all that can be said."""
    island = square(20, 18, 10).rings + square(22, 20, 6).rings + square(24, 22, 2).rings
    cells = (
        square(
            20,
            2,
            6,
            number=7,
            marker="c-FOS",
            score=0.5,
            attributes={"note": "grün's 😀\u2028", "deep": {"a": [1, None]}},
        ),
        Cell((np.array([[30.5, 3.0]]),), source_shape="point", marker="dot"),
        square(23, 4, 6, source_shape="rect", marker="Orx: 'weak'"),
        Cell(square(2, 2, 9).rings + square(5, 5, 3).rings),
        Cell(square(2, 20, 3).rings + square(6, 24, 3).rings),
        square(100, 100, 5),
        Cell(island, score=1.0, marker="cell"),
        Cell((np.array([[3.0, 36]]),), source_shape="point"),
    )
    return AnnotatedImage("sub/a.tif", (40, 50), cells, {"slide": 3, "ä": [True]})


def only(path, images=None):
    [image] = yolo.CODEC.read(path, images)
    return image


def lines_of(path):
    return [line.split() for line in path.read_text().splitlines()]


def noted(folder):
    """What data.yaml notes, read by PyYAML itself."""
    return [json.loads(text) for text in yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))["fncells"]]


def picture(path, shape=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros(shape, dtype=np.uint8))


def save(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


LINE = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5"


@pytest.fixture
def one(tmp_path):
    """Read lines as labels of a picture of 20 x 30 pixels."""

    def read(*lines, settings=None, noted=True):
        folder = tmp_path / "one"
        shutil.rmtree(folder, ignore_errors=True)
        save(folder / "a.txt", "\n".join(lines))
        picture(folder / "a.png")
        if settings is not None:
            save(folder / "data.yaml", settings)
        [found] = yolo.find(folder, None, noted=noted)
        return found.read().cells

    return read


# ----------------------------------------------------------------------------------------------------------- round trips


def test_everything_but_vertices_survives_and_what_has_no_pixel_is_left_out(tmp_path):
    yolo.CODEC.write(tmp_path, [rich()])
    again = only(tmp_path)
    assert (again.name, again.shape, dict(again.attributes)) == ("sub/a.tif", (40, 50), dict(rich().attributes))
    kept = [index for index in range(len(rich().cells)) if index != 5]
    assert again.numbers.tolist() == rich().numbers[kept].tolist()
    for mine, theirs in zip((rich().cells[index] for index in kept), again.cells, strict=True):
        assert (mine.marker, mine.score, mine.source_shape) == (theirs.marker, theirs.score, theirs.source_shape)
        assert dict(mine.attributes) == dict(theirs.attributes)
    for mine, theirs in zip((rich().pixels[index] for index in kept), again.pixels, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [again.cells[index].rings[0].tolist() for index in (1, 6)] == [[[30.5, 3.0]], [[3.0, 36.0]]]


def test_what_is_read_is_written_as_it_was(tmp_path):
    images = [rich(), AnnotatedImage.from_labels("b.png", drawn_map(2)), AnnotatedImage("c.png", (3, 4), ())]
    yolo.CODEC.write(tmp_path / "one", images)
    yolo.CODEC.write(tmp_path / "two", images)
    yolo.CODEC.write(
        tmp_path / "three", sorted(yolo.CODEC.read(tmp_path / "one"), key=lambda image: image.name != "sub/a.tif")
    )
    for name in ("sub/a.txt", "b.txt", "c.txt", "data.yaml"):
        one, two, three = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two", "three"))
        assert one == two == three


def test_empty_pictures_and_sub_folders_survive(tmp_path):
    images = [AnnotatedImage("a.png", (3, 4), ()), AnnotatedImage.from_labels("sub/b.c.png", drawn_map(1))]
    yolo.CODEC.write(tmp_path, images)
    names = ["a.txt", "data.yaml", "sub/b.c.txt"]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == names
    assert (tmp_path / "a.txt").read_bytes() == b""
    assert [(image.name, image.shape, len(image.cells)) for image in yolo.CODEC.read(tmp_path)] == [
        ("a.png", (3, 4), 0),
        ("sub/b.c.png", images[1].shape, len(images[1].cells)),
    ]


def test_no_pictures_are_a_valid_data_set(tmp_path):
    yolo.CODEC.write(tmp_path, [])
    assert list(yolo.CODEC.read(tmp_path)) == []
    assert recognise(tmp_path) == "yolo"


def round_trip(folder, labels):
    shutil.rmtree(folder, ignore_errors=True)
    image = AnnotatedImage.from_labels("a.png", labels)
    yolo.CODEC.write(folder, [image])
    again = only(folder)
    np.testing.assert_array_equal(again.labels, labels)
    assert again.numbers.tolist() == image.numbers.tolist()
    check_fractions(folder / "a.txt", labels.shape)


def check_fractions(path, shape):
    """Each is a whole number of pixels to 1e-6 of the picture, in any precision, rounded or cut off."""
    sides = np.array([shape[1], shape[0]])
    for line in lines_of(path):
        fractions = np.array(line[1:], dtype=float).reshape(-1, 2)
        corners = np.round(fractions * sides)
        assert np.abs(fractions - corners / sides).max() < 1e-6
        assert fractions.min() >= 0
        assert fractions.max() <= 1
        np.testing.assert_array_equal((fractions * sides).astype(int), corners)
        single = fractions.astype(np.float32) * sides.astype(np.float32)
        np.testing.assert_array_equal(single.astype(np.int32), corners)


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "yolo", labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "yolo", labels)


@pytest.mark.parametrize("side", [1, 2, 7, 29, 333, 1200, 1600, 2272, 4095, 65_537, 1_000_000])
def test_every_corner_of_every_picture_is_found_in_any_precision(tmp_path, side):
    """Cells of one pixel all over the width, so that every whole number below the side is a corner."""
    step = max(1, side // 3000)
    places = range(0, side, 2 * step)
    cells = tuple(Cell((np.array([[x, 0.0]]),)) for x in places)
    yolo.CODEC.write(tmp_path, [AnnotatedImage("a.png", (1, side), cells)])
    check_fractions(tmp_path / "a.txt", (1, side))
    assert [int(cell.rings[0][0, 0]) for cell in only(tmp_path).cells] == list(places)


def test_every_further_ring_is_a_line_and_data_yaml_ties_them(tmp_path):
    yolo.CODEC.write(tmp_path, [rich()])
    assert len(lines_of(tmp_path / "sub" / "a.txt")) == 1 + 1 + 2 + 2 + 3
    [entry] = noted(tmp_path)
    assert (entry["picture"], entry["width"], entry["height"]) == ("sub/a.tif", 50, 40)
    assert [cell.get("rings", "dot" if "dot" in cell else None) for cell in entry["cells"]] == [
        None,
        "dot",
        None,
        ["outer", "hole"],
        ["outer", "outer"],
        ["outer", "hole", "outer"],
        "dot",
    ]


def test_plain_cells_need_no_notes(tmp_path):
    yolo.CODEC.write(tmp_path, [AnnotatedImage("a.png", (9, 20), (square(1, 1, 2), square(5, 5, 2), square(9, 1, 2)))])
    assert noted(tmp_path) == [{"picture": "a.png", "width": 20, "height": 9}]
    gap = AnnotatedImage("a.png", (9, 20), (square(1, 1, 2), square(90, 5, 2), square(9, 1, 2)))
    yolo.CODEC.write(tmp_path, [gap])
    assert [cell["number"] for cell in noted(tmp_path)[0]["cells"]] == [1, 3]
    assert only(tmp_path).numbers.tolist() == [1, 3]


def test_classes_are_markers_in_the_order_they_come(tmp_path):
    cells = tuple(
        square(9 * index, 1, 4, marker=marker) for index, marker in enumerate(("CTb", None, "no", "CTb", "ü: {'\"}"))
    )
    images = [
        AnnotatedImage("a.png", (9, 50), cells),
        AnnotatedImage("b.png", (9, 50), (square(1, 1, 2, marker="1e3"),)),
    ]
    yolo.CODEC.write(tmp_path, images)
    document = yaml.safe_load((tmp_path / "data.yaml").read_text(encoding="utf-8"))
    assert document["names"] == dict(enumerate(("CTb", "cell", "no", "ü: {'\"}", "1e3")))
    assert (document["nc"], document["train"], document["val"]) == (5, ".", ".")
    assert [line[0] for line in lines_of(tmp_path / "a.txt") + lines_of(tmp_path / "b.txt")] == list("012034")
    first, second = yolo.CODEC.read(tmp_path)
    assert [cell.marker for cell in first.cells + second.cells] == ["CTb", None, "no", "CTb", "ü: {'\"}", "1e3"]


def test_a_picture_that_fails_adds_no_class(tmp_path):
    with yolo.writing(tmp_path) as add:
        add(AnnotatedImage("a.png", (9, 9), (square(1, 1, 2, marker="CTb"),)))
        with pytest.raises(InputError):
            add(AnnotatedImage("a.tif", (9, 9), (square(1, 1, 2, marker="Orx"),)))
        add(AnnotatedImage("b.png", (9, 9), (square(1, 1, 2, marker="c-FOS"),)))
    assert yaml.safe_load((tmp_path / "data.yaml").read_text())["names"] == {0: "CTb", 1: "c-FOS"}
    assert [entry["picture"] for entry in noted(tmp_path)] == ["a.png", "b.png"]


def test_data_yaml_is_put_in_place_last_and_not_at_all_if_the_writing_ends_in_an_error(tmp_path):
    with pytest.raises(RuntimeError), yolo.writing(tmp_path) as add:
        add(AnnotatedImage("a.png", (9, 9), (square(1, 1, 2),)))
        assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


# -------------------------------------------------------------------------------------------------------- other readers


def supervisions(folder, image):
    """Masks and classes that supervision finds, by its own data set reader."""
    cv2.imwrite(str(folder / f"{image.stem}.png"), np.zeros(image.shape, dtype=np.uint8))
    found = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(folder),
        annotations_directory_path=str(folder),
        data_yaml_path=str(folder / "data.yaml"),
        force_masks=True,
    )
    [(_, _, detections)] = list(found)
    return detections, found.classes


def ultralytics_labels(path):
    """Read label lines by the letter of Ultralytics' rule: boxes, or, with any line of more than six words, outlines."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").strip().splitlines() if line]
    assert any(len(line) > 6 for line in lines) or not lines
    segments = [np.array(line[1:], dtype=np.float32).reshape(-1, 2) for line in lines]
    boxes = np.array([[*segment.min(axis=0), *segment.max(axis=0)] for segment in segments])
    assert all(boxes.max() <= 1 and boxes.min() >= 0 for _ in segments)
    return [int(line[0]) for line in lines], segments


def ultralytics_mask(segment, shape):
    """Draw an outline as Ultralytics draws it for training, where the picture keeps its size."""
    corners = segment * np.array([shape[1], shape[0]], dtype=np.float32)
    mask = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(mask, np.asarray([corners.reshape(-1)], dtype=np.int32).reshape(1, -1, 2), color=1)
    return mask.astype(bool)


def grown(mask):
    """The pixels of a mask, each with those to its right, below, and below on the right."""
    more = np.pad(mask, ((0, 1), (0, 1)))
    more[:, 1:] |= more[:, :-1].copy()
    more[1:] |= more[:-1].copy()
    return more[:-1, :-1]


def test_supervision_and_ultralytics_draw_what_we_say_they_draw(tmp_path):
    """No pixel less, and more only to the right and below: just what the foreign reader gives."""
    for seed in range(40):
        labels = drawn_map(seed)
        image = AnnotatedImage.from_labels("a.png", labels)
        folder = tmp_path / str(seed)
        yolo.CODEC.write(folder, [image])
        detections, classes = supervisions(folder, image)
        [foreign] = yolo.CODEC.read_foreign(folder)
        numbers, segments = ultralytics_labels(folder / "a.txt")
        assert classes == ["cell"]
        assert numbers == detections.class_id.tolist() == [0] * len(foreign.cells)
        for mask, segment, indices in zip(detections.mask, segments, foreign.pixels, strict=True):
            np.testing.assert_array_equal(np.flatnonzero(mask), indices)
            np.testing.assert_array_equal(ultralytics_mask(segment, labels.shape), mask)
        rings = iter(detections.mask)
        for cell, entry in zip(image.cells, noted(folder)[0].get("cells", [{}] * len(image.cells)), strict=True):
            outer = [next(rings) for _ in entry.get("rings", ["outer"])]
            drawn = np.any(outer, axis=0)
            own = labels == cell.number
            assert not (own & ~drawn).any()
            # Holes are lines of their own here: what is drawn is within the cell, holes filled, and its new edge.
            filled = np.any([ring_filled(own)], axis=0)
            assert not (drawn & ~grown(filled)).any()


def ring_filled(mask):
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, dtype=np.uint8), contours, -1, 1, cv2.FILLED).astype(bool)


def test_a_square_gets_wider_and_higher_by_one_pixel(tmp_path):
    image = AnnotatedImage("a.png", (20, 20), (square(3, 4, 5),))
    assert image.areas.tolist() == [36]
    yolo.CODEC.write(tmp_path, [image])
    [foreign] = yolo.CODEC.read_foreign(tmp_path)
    assert foreign.areas.tolist() == [49]
    assert foreign.boxes.tolist() == [[3, 4, 9, 10]]
    assert supervisions(tmp_path, image)[0].mask.sum() == 49


def test_supervision_finds_classes_boxes_and_every_line(tmp_path):
    image = AnnotatedImage("a.png", (40, 50), rich().cells)
    yolo.CODEC.write(tmp_path, [image])
    detections, classes = supervisions(tmp_path, image)
    assert classes == ["c-FOS", "Orx: 'weak'", "cell"]
    assert detections.class_id.tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 2]
    np.testing.assert_allclose(detections.xyxy[0], [20, 2, 27, 9], atol=1e-4)


def test_a_conversion_tells_what_is_lost(tmp_path):
    yolo.CODEC.write(tmp_path / "in", [rich()])
    row = convert(tmp_path / "in", tmp_path / "out", "yolo").as_dict()["total"]
    lost = {key.removesuffix("_lost"): row[key] for key in row if key.endswith("_lost") and row[key]}
    # The dot between pixels is the one fraction; of the attributes, two classes are left.
    assert lost == {"dots": 2, "holes": 2, "parts": 1, "shapes": 1, "fractions": 1, "attributes": 8 - 2}
    assert (row["n_cells"], row["n_cells_read"]) == (5, 9)
    assert row["area_change_percent"] > 0


# ---------------------------------------------------------------------------------------------------- what others write


def test_boxes_outlines_and_confidences_are_told_by_how_many_numbers_there_are(one):
    cells = one(
        "0 0.5 0.5 0.2 0.4",
        "1 0.5 0.5 0.2 0.4 0.75",
        "2.0 0.1 0.1 0.5 0.1 0.5 0.5",
        "2 0.1 0.1 0.5 0.1 0.5 0.5 0.25",
        "",
        "0\t0.5 0.5  0.2 0.4 7",
        "0 0.5 0.5 0.2 0.4 1",
        settings="names: [a, b, c]",
    )
    assert [(cell.marker, cell.score, cell.source_shape, dict(cell.attributes)) for cell in cells] == [
        ("a", None, "rect", {}),
        ("b", 0.75, "rect", {}),
        ("c", None, "polygon", {}),
        ("c", 0.25, "polygon", {}),
        ("a", None, "rect", {"track": 7}),
        ("a", 1.0, "rect", {}),
    ]
    image = AnnotatedImage("a", (20, 30), cells)
    assert image.boxes[0].tolist() == [12, 6, 17, 13]
    assert image.areas[:2].tolist() == [6 * 8] * 2


@pytest.mark.parametrize("digits", [5, 6, 8, 16])
def test_what_others_have_rounded_is_put_back_on_half_pixels(tmp_path, digits):
    """A polygon through pixels' middles: whether these are inside must not hang on the sixth digit."""
    ring = np.array([(3.5, 4.5), (9.5, 4.5), (9.5, 11.5), (3.5, 11.5)])
    for side in (37, 333, 1000, 1600):
        text = " ".join(f"{value / side:.{digits}f}" for value in ring.ravel())
        folder = tmp_path / str(side)
        save(folder / "a.txt", f"0 {text}")
        picture(folder / "a.png", (side, side))
        [cell] = only(folder).cells
        if digits > 5:
            assert cell.rings[0].min(axis=0).tolist() == [3, 4]
            assert cell.rings[0].max(axis=0).tolist() == [8, 10]


def test_outlines_a_little_outside_are_cut_off_when_drawn(one):
    [cell] = one("0 -0.1 -0.1 0.2 -0.1 0.2 0.2 -0.1 0.2")
    assert AnnotatedImage("a", (20, 30), (cell,)).areas.tolist() == [6 * 4]


def test_an_outline_that_holds_no_pixels_middle_is_a_dot(one):
    [cell] = one("0 0.12 0.16 0.13 0.16 0.13 0.17 0.12 0.17")
    assert cell.is_dot
    np.testing.assert_allclose(cell.rings[0], [[0.125 * 30 - 0.5, 0.165 * 20 - 0.5]])


@pytest.mark.parametrize(
    ("settings", "marker"),
    [
        ("names: [no, CTb]", "CTb"),
        ("names:\n  0: a\n  1: CTb\n", "CTb"),
        ("names: {'1': CTb}", "CTb"),
        ("names: [a, cell]", None),
        ("names: [a, '']", None),
        ("path: ../x\ntrain: images/train\nnames:\n- a\n- CTb\nroboflow: {version: 3}", "CTb"),
    ],
)
def test_names_are_markers_whichever_way_they_are_written(one, settings, marker):
    [cell] = one("1" + LINE[1:], settings=settings)
    assert (cell.marker, dict(cell.attributes)) == (marker, {})


def test_without_names_a_class_is_an_attribute_and_classes_txt_names_them(one, tmp_path):
    for text in (None, "nc: 2", "names:"):
        [cell] = one("1" + LINE[1:], settings=text)
        assert (cell.marker, dict(cell.attributes)) == (None, {"class": 1})
    save(tmp_path / "in" / "classes.txt", "a\nCTb\n")
    save(tmp_path / "in" / "a.txt", "1" + LINE[1:])
    picture(tmp_path / "in" / "a.png")
    [cell] = only(tmp_path / "in").cells
    assert cell.marker == "CTb"


LAYOUTS = {
    "flat": ("a.txt", "a.png", "", "a.png"),
    "Ultralytics": ("labels/train/a.txt", "images/train/a.png", "", "train/a.png"),
    "Ultralytics, its labels": ("labels/train/a.txt", "images/train/a.png", "labels", "train/a.png"),
    "Ultralytics, a part's labels": ("labels/train/a.txt", "images/train/a.png", "labels/train", "train/a.png"),
    "Ultralytics without parts": ("labels/a.txt", "images/a.png", "", "a.png"),
    "Roboflow": ("train/labels/a.txt", "train/images/a.png", "", "train/a.png"),
    "Roboflow, a part": ("train/labels/a.txt", "train/images/a.png", "train", "a.png"),
    "one file": ("labels/a.txt", "images/a.png", "labels/a.txt", "a.png"),
    "the settings": ("labels/a.txt", "images/a.png", "data.yaml", "a.png"),
    "a folder above named labels": ("labels/mine/a.txt", "labels/mine/a.png", "labels/mine", "a.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_data_sets(tmp_path, layout):
    label, image, given_path, name = LAYOUTS[layout]
    root = tmp_path / "set"
    save(root / label, LINE)
    picture(root / image)
    save(root / "data.yaml", "names: [CTb]")
    for listing in ("train.txt", "README.roboflow.txt", "classes.txt"):
        save(root / listing, f"./{image}\n")
    path = root / given_path
    assert recognise(path) == "yolo"
    found = only(path)
    assert (found.name, found.shape, [cell.marker for cell in found.cells]) == (name, (20, 30), ["CTb"])


def test_pictures_given_by_the_user_come_first(tmp_path):
    save(tmp_path / "in" / "labels" / "train" / "a.txt", LINE)
    picture(tmp_path / "in" / "images" / "train" / "a.png")
    picture(tmp_path / "pictures" / "a.jpg", (40, 60))
    image = only(tmp_path / "in", tmp_path / "pictures")
    assert (image.name, image.shape) == ("a.jpg", (40, 60))


def test_listings_are_no_labels_unless_they_hold_labels(tmp_path):
    for name in ("train.txt", "classes.txt", "a.txt"):
        save(tmp_path / name, LINE)
        picture(tmp_path / name.replace("txt", "png"))
    assert [image.name for image in yolo.CODEC.read(tmp_path)] == ["a.png", "classes.png", "train.png"]
    save(tmp_path / "train.txt", "./images/a.png\n")
    save(tmp_path / "classes.txt", "")
    assert [image.name for image in yolo.CODEC.read(tmp_path)] == ["a.png"]


def test_our_own_empty_labels_are_no_listings(tmp_path):
    yolo.CODEC.write(tmp_path, [AnnotatedImage("train.png", (4, 5), ())])
    assert [(image.name, image.shape) for image in yolo.CODEC.read(tmp_path)] == [("train.png", (4, 5))]


def test_without_a_size_the_pictures_are_asked_for_unless_there_are_no_cells(tmp_path):
    save(tmp_path / "a.txt", LINE)
    save(tmp_path / "b.txt", "\n")
    first, second = yolo.CODEC.find(tmp_path, None)
    with pytest.raises(InputError, match=r"a\.txt: expected the picture's width and height, .*--images"):
        first.read()
    assert second.read().shape is None


def test_our_labels_may_be_moved_to_where_ultralytics_wants_them(tmp_path):
    yolo.CODEC.write(tmp_path / "out", [rich()])
    shutil.move(tmp_path / "out" / "sub", tmp_path / "out" / "labels" / "sub")
    image = only(tmp_path / "out")
    assert (image.name, len(image.cells)) == ("sub/a.tif", 7)
    assert only(tmp_path / "out" / "labels").same_as(image)


def test_a_size_that_the_picture_contradicts_is_refused(tmp_path):
    picture(tmp_path / "pictures" / "a.png", (7, 5))
    yolo.CODEC.write(tmp_path / "out", [AnnotatedImage("a.png", (5, 7), ())])
    with pytest.raises(InputError, match=r"7 x 5 pixels, as the annotations of 'a\.png' say, found 5 x 7"):
        only(tmp_path / "out", tmp_path / "pictures")


def test_labels_of_one_picture_twice_are_refused_and_the_first_is_read(tmp_path):
    for part in ("train", "val"):
        save(tmp_path / "labels" / part / "a.txt", LINE)
    picture(tmp_path / "pictures" / "a.png")
    first, second = yolo.CODEC.find(tmp_path, tmp_path / "pictures")
    assert first.read().name == "a.png"
    with pytest.raises(InputError, match=r"each picture once, found 'a\.png' twice"):
        second.read()


def test_a_broken_picture_does_not_take_the_others_with_it(tmp_path):
    yolo.CODEC.write(tmp_path / "in", [AnnotatedImage.from_labels(f"{name}.png", drawn_map(1)) for name in "abc"])
    save(tmp_path / "in" / "b.txt", "0 x")
    report = convert(tmp_path / "in", tmp_path / "out", "labels")
    assert [losses.picture for losses in report.pictures] == ["a.png", "c.png"]
    assert "b.txt" in report.failed[0][1]


def test_other_folders_and_files_are_no_labels(tmp_path):
    save(tmp_path / "a" / "1.txt", "KEY\tVALUE\nExif.Image.Make\tNikon\n")
    save(tmp_path / "a" / "2.txt", "1 2 3\n")
    save(tmp_path / "b" / "c.yaml", "names: [a]")
    save(tmp_path / "b" / "data.yaml", "version: 3")
    for path in (tmp_path / "a", tmp_path / "a" / "1.txt", tmp_path / "b", tmp_path / "b" / "data.yaml"):
        assert not yolo.CODEC.recognises(path)
    for path in (tmp_path / "b", tmp_path / "none", tmp_path / "b" / "c.yaml"):
        with pytest.raises(InputError, match=r"expected label files \(\.txt\) of YOLO, found none"):
            list(yolo.CODEC.read(path))
    assert yolo.CODEC.recognises(tmp_path / "b" / "c.yaml")


# ------------------------------------------------------------------------------------------------------------- refusals

LINES = {
    "words": ("zero 1 2 3 4", "numbers, the class and its coordinates, found 'zero'"),
    "commas": ("0 0.1,0.1,0.5,0.5", "found '0.1,0.1,0.5,0.5'"),
    "NaN": ("0 0.1 0.1 nan 0.1 0.5 0.5", "found 'nan'"),
    "infinity": ("0 0.1 0.1 -inf 0.1 0.5 0.5", "found '-inf'"),
    "beyond floats": ("0 0.1 0.1 1e999 0.1 0.5 0.5", "found '1e999'"),
    "beyond floats in all": ("0 1e308 1e308 1e308 0.1 0.5 0.5", "numbers too large|fractions of the picture's"),
    "underscores": ("0 0.1 0.1 0.1 0_1 0.5 0.5", "found '0_1'"),
    "bytes": ("0 0.1 0.1 0.1 0.1 0.5 \x00", "found "),
    "no coordinates": ("0", "a class and 4 numbers of a box, .*, found a class and 0 numbers"),
    "three": ("0 0.1 0.1 0.1", "found a class and 3 numbers"),
    "a fraction as class": ("0.5 0.1 0.1 0.1 0.1", "the number of a class, from 0, found 0.5"),
    "a negative class": ("-1 0.1 0.1 0.1 0.1", "the number of a class, from 0, found -1"),
    "a giant class": ("1e300 0.1 0.1 0.1 0.1", "the number of a class"),
    "pixels": ("0 10 10 50 10 50 50", "fractions of the picture's width and height, from 0 to 1, found 10"),
    "far outside": ("0 0.1 0.1 -1e6 0.1 0.5 0.5", "found -1e+06"),
    "a negative width": ("0 0.5 0.5 -0.1 0.1", "a width and height of at least 0, found -0.1 and 0.1"),
    "no confidence": ("0 0.5 0.5 0.1 0.1 -0.5", "a confidence from 0 to 1 behind the coordinates, found -0.5"),
    "an unnamed class": ("3 0.5 0.5 0.1 0.1", "one of the 2 classes that data.yaml names, found class 3"),
    "a line without end": ("0" + " 0.5" * 10**7, "a line of at most 4194304 bytes"),
}


@pytest.mark.parametrize("fault", LINES)
def test_lines_that_are_no_labels_are_refused_in_one_line(one, tmp_path, fault):
    line, said = LINES[fault]
    assert len(one(LINE, LINE, settings="names: [a, b]")) == 2
    start = time.process_time()
    with pytest.raises(InputError, match=r"line 2: expected .*" + said.replace("+", r"\+")) as refusal:
        one(LINE, line, settings="names: [a, b]")
    assert time.process_time() - start < LONGEST
    assert str(refusal.value).startswith(str(tmp_path / "one" / "a.txt"))
    assert "\n" not in str(refusal.value)


SETTINGS = {
    "a list": ("[a, b]", "expected a mapping with the names of the classes, found a list"),
    "text": ("a", "found the text 'a'"),
    "names as text": ("names: a", "names: expected names as a list, or a mapping"),
    "names of lists": ("names: [[a]]", "names: expected names as a list"),
    "names by words": ("names: {a: b}", "names: expected each class's number once, from 0, found other keys"),
    "a number twice": ("names: {0: a, 00: b}", "names: expected each class's number once"),
    "a long number": (f"names: {{{'9' * 900}: a}}", "names: expected each class's number once"),
    "poses": ("names: [a]\nkpt_shape: [17, 3]", "kpt_shape: expected outlines or boxes, found labels of poses"),
    "anchors": ("names: &a [a]\nb: *a", "without anchors and aliases"),
    "no YAML": ("names: [a", "expected YAML"),
    "deep": ("names: " + "[" * 10**5, "nested too deep"),
    "notes as text": ("fncells: x", "fncells: expected a list with one text a picture"),
    "notes as lists": ("fncells: [[a]]", "fncells, picture 0: expected an object as JSON in a text"),
    "notes that are no JSON": ("fncells: ['{']", "fncells, picture 0, line 1, column 2: expected JSON"),
    "notes that are no object": ("fncells: ['[1]']", "picture 0: expected an object as JSON in a text, found a list"),
    "no name": ("fncells: ['{}']", "picture 0, picture: expected the picture's name, found null"),
    "an empty name": ("""fncells: ['{"picture":""}']""", "expected a picture's file name"),
    "a picture twice": (
        """fncells: ['{"picture":"a.png"}', '{"picture":"a.tif"}']""",
        "picture 1: expected one picture of each",
    ),
}


@pytest.mark.parametrize("fault", SETTINGS)
def test_data_yaml_that_is_none_is_refused_in_one_line(one, tmp_path, fault):
    settings, said = SETTINGS[fault]
    assert len(one(LINE, settings="names: [a]\nfncells: []\n")) == 1
    with pytest.raises(InputError, match=said) as refusal:
        one(LINE, settings=settings)
    assert str(refusal.value).startswith(str(tmp_path / "one" / "data.yaml"))
    assert "\n" not in str(refusal.value)


def entry(**more):
    return {"picture": "a.png", "width": 30, "height": 20, **more}


ENTRIES = {
    "a width in words": (entry(width="30"), "picture 0, height and width: expected height and width"),
    "no height": (entry(height=None), "picture 0, height and width"),
    "a giant": (entry(width=10**6, height=10**6), "a picture of at most"),
    "attributes as list": (entry(attributes=[1]), "picture 0: expected attributes as an object"),
    "a reserved attribute": (entry(attributes={"fncells.x": 1}), "do not begin with 'fncells.'"),
    "cells as text": (entry(cells="x"), "cells: expected a list of objects"),
    "a cell as number": (entry(cells=[1]), "cells: expected a list of objects"),
    "rings as text": (entry(cells=[{"rings": "outer"}, {}]), "cell 0, rings: expected a list of 'outer' and 'hole'"),
    "no rings": (entry(cells=[{"rings": []}, {}, {}]), "cell 0, rings: expected a list"),
    "rings of something else": (entry(cells=[{"rings": [["outer"]]}, {}]), "cell 0, rings: expected a list"),
    "more lines": (
        entry(cells=[{"rings": ["outer"] * 3}]),
        r"a\.txt: expected 3 lines, as data\.yaml notes, found 2; .*on purpose",
    ),
    "fewer lines": (entry(cells=[{}]), "expected 1 lines"),
    "a dot of one": (entry(cells=[{}, {}, {"dot": [1]}]), "cell 2, dot: expected x and y"),
    "a dot as text": (entry(cells=[{}, {}, {"dot": "1"}]), "cell 2, dot: expected the point as a list"),
    "number 0": (entry(cells=[{"number": 0}, {}]), "cell 0, number: expected a whole number"),
    "a number twice": (
        entry(cells=[{"number": 3}, {"number": 3}]),
        "cell 1: expected each number once, found number 3 twice",
    ),
    "a marker as number": (entry(cells=[{"marker": 3}, {}]), "cell 0, marker: expected text"),
    "an unknown shape": (entry(cells=[{"source_shape": "star"}, {}]), "cell 0, source_shape: expected one of"),
}


@pytest.mark.parametrize("fault", ENTRIES)
def test_notes_that_do_not_fit_are_refused_in_one_line(one, fault):
    def settings(value):
        return f"names: [a]\nfncells:\n- '{json.dumps(value)}'\n"

    assert len(one(LINE, LINE, settings=settings(entry()))) == 2
    assert len(one(LINE, LINE, settings=settings(entry(cells=[{"rings": ["outer", "hole"]}])))) == 1
    value, said = ENTRIES[fault]
    with pytest.raises(InputError, match=said) as refusal:
        one(LINE, LINE, settings=settings(value))
    assert "\n" not in str(refusal.value)


def test_giants_and_tangles_are_refused_soon(tmp_path):
    def read(*lines):
        text = json.dumps({"picture": "a.png", "width": 30_000, "height": 30_000})
        save(tmp_path / "data.yaml", f"names: [a]\nfncells: ['{text}']")
        save(tmp_path / "a.txt", "\n".join(lines))
        return only(tmp_path)

    assert len(read("0 0 0 0.2 0 0.2 0.2").cells) == 1
    start = time.process_time()
    for lines, said in (
        (["0 0 0 1 0 1 1"], "line 1: expected the outline of a cell, found one too large"),
        (["0 0 0 0.2 0 0.2 0.2"] * 30, "line .*: expected the outline of a cell, found one too large"),
        (
            [LINE.replace("0.", "0.00"), "0 " + "0 0 0.2 0.001 " * 20_000],
            "line 2: expected the outline of a cell, found one too large or too tangled",
        ),
    ):
        with pytest.raises(InputError, match=said):
            read(*lines)
    assert time.process_time() - start < 3 * LONGEST


def test_ten_million_points_are_refused_before_they_take_memory(tmp_path):
    picture(tmp_path / "a.png")
    save(tmp_path / "a.txt", "0 " + "0.1 0.2 " * 200_000)
    assert len(only(tmp_path).cells) == 1
    save(tmp_path / "a.txt", "0 " + "0.1 0.2 " * 10**7)
    tracemalloc.start()
    with pytest.raises(InputError, match="line 1: expected a line of at most 4194304 bytes"):
        only(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 5e7
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (AnnotatedImage("b.png", None, ()), "height and width.*--images"),
        (AnnotatedImage("../b.png", (9, 9), ()), "leads upward"),
        (AnnotatedImage("/b.png", (9, 9), ()), "an absolute path"),
        (AnnotatedImage("b\0.png", (9, 9), ()), "control characters"),
        (AnnotatedImage("b" * 5000, (9, 9), ()), "too long"),
        (AnnotatedImage("a.tif", (9, 9), ()), "'a.png' and 'a.tif'"),
        (AnnotatedImage("b.png", (9, 9), (), {"a": float("nan")}), "values that JSON can hold"),
        (AnnotatedImage("b.png", (9, 9), (), {"a": "\ud800"}), "half of a surrogate pair"),
        (AnnotatedImage("b.png", (9, 9), (square(1, 1, 3), square(4, 4, 3, attributes={"a": {1}}))), "JSON can hold"),
        (AnnotatedImage("b.png", (9, 9), (square(1, 1, 3, marker="\udc00"),)), "half of a surrogate pair"),
        (AnnotatedImage("b.png", (9, 9), (square(1, 1, 3, number=2), square(4, 4, 3, number=2))), "each number once"),
    ],
)
def test_what_cannot_be_written_leaves_no_trace_and_others_go_on(tmp_path, image, said):
    with yolo.writing(tmp_path) as add:
        add(AnnotatedImage("a.png", (9, 9), ()))
        with pytest.raises(InputError, match=said):
            add(image)
        if image.name == "b.png":
            add(AnnotatedImage("b.png", (9, 9), ()))
        add(AnnotatedImage("c.png", (9, 9), ()))
    names = ["a", *(["b"] if image.name == "b.png" else []), "c"]
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == [*(f"{name}.txt" for name in names), "data.yaml"]
    assert [entry["picture"] for entry in noted(tmp_path)] == [f"{name}.png" for name in names]


# --------------------------------------------------------------------------------------------------------------- mutants


def broken_bytes(text, rng):
    data = bytearray(text)
    for _ in range(rng.randint(1, 3)):
        way, place = rng.random(), rng.randrange(len(data))
        if way < 0.5:
            data[place] = rng.choice(b"0123456789.-+e \n\t\r_x'\"{}[]:,#&*!|>%@`\\\0\xff")
        elif way < 0.75:
            del data[place : place + rng.randint(1, 9)]
        else:
            data[place:place] = data[rng.randrange(len(data)) :][: rng.randint(1, 40)]
        data = data or bytearray(b" ")
    return bytes(data)


def outcome(folder, count, seed):
    """Break the labels, the settings, and what we note in them, in turns."""
    rng = random.Random(seed)
    yolo.CODEC.write(folder / "in", [rich()])
    shutil.move(folder / "in" / "sub" / "a.txt", folder / "in" / "a.txt")
    document = {**noted(folder / "in")[0], "picture": "a.tif"}
    head, _ = (folder / "in" / "data.yaml").read_text(encoding="utf-8").split("fncells:")

    def settings(text):
        return head.encode() + b"fncells:\n- '" + text.replace(b"'", b"''") + b"'\n"

    labels, valid = (folder / "in" / "a.txt").read_bytes(), settings(json.dumps(document).encode())
    counts = {"value": 0, "refusal": 0}
    for index, text in enumerate(mutants(document, count, seed)):
        turn = index % 3
        (folder / "in" / "a.txt").write_bytes(broken_bytes(labels, rng) if turn == 1 else labels)
        (folder / "in" / "data.yaml").write_bytes((settings(text), valid, broken_bytes(valid, rng))[turn])
        counts[ending(yolo.CODEC, folder / "in", folder / "out")] += 1
    return counts


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 500, 3)
    assert min(counts.values()) > 50, counts


@pytest.mark.slow
def test_every_mutant_of_many_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 5000, 4)
    assert min(counts.values()) > 500, counts
