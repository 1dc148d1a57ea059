import json
import math
from collections import Counter
from time import process_time
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import supervision
from hypothesis import given, settings
from hypothesis import strategies as st

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import convert, recognise, voc
from fncells.formats.texts import plain_text, value_in
from formats import archive_files
from formats.label_maps import drawn_map, label_maps
from formats.xml_mutation import xml_mutants

SQUARE = np.array([[3.0, 4.0], [9.0, 4.0], [9.0, 8.0], [3.0, 8.0]])


# ----------------------------------------------------------------------------------------------------- another reader


def tree(path):
    return ElementTree.parse(path).getroot()  # noqa: S314


def ring_of(polygon):
    return [(float(point.find("x").text), float(point.find("y").text)) for point in polygon.findall("pt")]


def rings_of(item):
    return [ring_of(polygon) for polygon in item.findall("polygon")]


def box_of(item):
    return [int(item.find(f"bndbox/{key}").text) for key in ("xmin", "ymin", "xmax", "ymax")]


def attributes_of(item):
    pairs = item.findall("attributes/attribute")
    return {pair.find("name").text or "": json.loads(pair.find("value").text) for pair in pairs}


def drawn(rings, shape):
    """Pixels inside rings through pixel centres, or on them; by a rule of its own, of even and odd crossings."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    inside, border = np.zeros(shape, bool), np.zeros(shape, bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, ring[1:] + ring[:1], strict=True):
            steps = math.gcd(int(x1 - x0), int(y1 - y0))
            for step in range(steps + 1):
                share = step / max(steps, 1)
                border[int(y0 + (y1 - y0) * share), int(x0 + (x1 - x0) * share)] = True
            if y0 != y1:
                crossed = (y >= min(y0, y1)) & (y < max(y0, y1))
                inside ^= crossed & (x < x0 + (x1 - x0) * (y - y0) / (y1 - y0))
    return inside | border


def labels_by_another_reader(path):
    root = tree(path)
    shape = int(root.find("size/height").text), int(root.find("size/width").text)
    cells = {}
    for item in root.findall("object"):
        cells.setdefault(attributes_of(item).get("cell", len(cells) + 1), []).extend(rings_of(item))
    labels = np.zeros(shape, np.int32)
    for number, rings in cells.items():
        labels[drawn(rings, shape)] = number
    return labels


# ---------------------------------------------------------------------------------------------------------- round trips


def only(path, images=None):
    [image] = voc.CODEC.read(path, images)
    return image


def written(folder, *images):
    voc.CODEC.write(folder, images)
    return folder


def round_trip(folder, labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    voc.CODEC.write(folder / "one", [image])
    again = only(folder / "one")
    np.testing.assert_array_equal(again.labels, labels)
    np.testing.assert_array_equal(again.numbers, image.numbers)
    voc.CODEC.write(folder / "two", [again])
    assert (folder / "one" / "a.xml").read_bytes() == (folder / "two" / "a.xml").read_bytes()
    np.testing.assert_array_equal(labels_by_another_reader(folder / "one" / "a.xml"), labels)
    boxes = [box_of(item) for item in tree(folder / "one" / "a.xml").findall("object")]
    assert boxes == AnnotatedImage("", labels.shape, rings_apart(image)).boxes.tolist()


def rings_apart(image):
    return tuple(Cell((ring,)) for cell in image.cells for ring in cell.rings)


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "voc", labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "voc", labels)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))
MORE_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), MORE_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(MORE_TEXT, inner, max_size=3)),
    max_leaves=5,
)
SPECIAL = st.sampled_from(["pose", "truncated", "difficult", "depth", "database", "url", "split", "path", "folder"])
VALUES = st.one_of(JSON, st.sampled_from(["Unspecified", "Left", " x ", "a\nb", "1", 1, 0, True, 3, 16]))
ATTRIBUTES = st.dictionaries(st.one_of(TEXT, SPECIAL), VALUES, max_size=4)
NUMBERS = st.one_of(st.integers(-1000, 10**6).map(float), st.floats(-1000, 10**6))
RINGS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=6).map(np.array)
POLYGONS = st.builds(
    Cell,
    st.lists(RINGS, min_size=1, max_size=3).map(tuple),
    marker=st.one_of(st.none(), TEXT.filter(lambda text: bool(text) and text.isprintable())),
    score=st.one_of(st.none(), st.floats(0, 1)),
    attributes=ATTRIBUTES,
)
SHAPES = st.builds(
    Cell,
    RINGS.map(lambda ring: (ring,)),
    attributes=ATTRIBUTES,
    source_shape=st.sampled_from(["polygon", "rect", "circle", "ellipse", "polyline"]),
)
DOTS = st.builds(Cell, st.tuples(NUMBERS, NUMBERS).map(lambda x: (np.array([x]),)), source_shape=st.just("point"))
CELLS = st.lists(st.one_of(POLYGONS, SHAPES, DOTS), max_size=4)


@given(CELLS, ATTRIBUTES, st.sampled_from([None, (30, 20)]))
@settings(max_examples=300)
def test_vertices_order_dots_and_attributes_survive(tmp_path_factory, cells, attributes, shape):
    image = AnnotatedImage("sub/a b.png", shape, tuple(cells), attributes)
    again = only(written(tmp_path_factory.getbasetemp() / "exact", image))
    assert (again.name, again.shape) == (image.name, image.shape)
    assert json.dumps(dict(again.attributes), sort_keys=True) == json.dumps(attributes, sort_keys=True)
    np.testing.assert_array_equal(again.numbers, image.numbers)
    for one, other in zip(image.cells, again.cells, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.rings, other.rings, strict=True))
        assert (one.marker, one.score) == (other.marker, other.score)
        assert one.source_shape == other.source_shape
        kept = [json.dumps(dict(cell.attributes), sort_keys=True) for cell in (one, other)]
        assert kept[0] == kept[1]


def test_real_label_pictures_survive(data, tmp_path):
    from fncells.formats import read_annotations

    folders = [
        (data / "fnc" / "yellow" / "masks", "masks", None),
        (data / "fnc" / "red" / "masks", "masks", None),
        (data / "cfos" / "lab-wue1" / "labels" / "est_GT", "masks", 2),
        (data / "dsb2018" / "labels", "labels", 15),
    ]
    cells = 0
    for folder, kind, most in folders:
        for index, image in enumerate(read_annotations(folder, kind)):
            if most is not None and index == most:
                break
            again = only(written(tmp_path / str(cells) / str(index), image))
            np.testing.assert_array_equal(again.labels, image.labels, err_msg=image.name)
            cells += len(image.cells)
    assert cells > 500


@pytest.mark.slow
def test_all_real_label_pictures_survive(data, tmp_path):
    from fncells.formats import read_annotations

    folders = [folder for lab in sorted((data / "cfos").iterdir()) for folder in sorted((lab / "labels").iterdir())]
    for folder in [*folders, data / "dsb2018" / "labels"]:
        for image in read_annotations(folder, "labels" if folder.parent.name == "dsb2018" else "masks"):
            again = only(written(tmp_path, image) / f"{image.stem}.xml")
            np.testing.assert_array_equal(again.labels, image.labels, err_msg=image.name)


# ------------------------------------------------------------------------------------------------------ what is written


def test_a_file_is_as_voc_has_it(tmp_path):
    cells = (
        Cell((SQUARE,), marker="c-FOS", score=0.5, attributes={"note": 'ü "&<'}),
        Cell((SQUARE + 20, SQUARE / 2 + 21.5), number=9, attributes={"pose": "Left", "difficult": 1}),
        Cell((SQUARE + (30, 0),), source_shape="rect"),
        Cell((np.array([[1.25, 2.0]]),), marker="CTb", source_shape="point"),
    )
    path = tmp_path / "sub" / "a.xml"
    written(tmp_path, AnnotatedImage("sub/a.png", (40, 50), cells, {"database": "FNC", "lab": "x"}))
    assert path.read_text(encoding="utf-8") == EXPECTED


EXPECTED = """<?xml version="1.0" encoding="UTF-8"?>
<annotation>
  <folder>sub</folder>
  <filename>a.png</filename>
  <source>
    <database>FNC</database>
  </source>
  <size>
    <width>50</width>
    <height>40</height>
    <depth>3</depth>
  </size>
  <segmented>1</segmented>
  <count>4</count>
  <attributes>
    <attribute><name>lab</name><value>"x"</value></attribute>
  </attributes>
  <object>
    <name>c-FOS</name>
    <pose>Unspecified</pose>
    <truncated>0</truncated>
    <difficult>0</difficult>
    <bndbox><xmin>3</xmin><ymin>4</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>
    <polygon><pt><x>3</x><y>4</y></pt><pt><x>9</x><y>4</y></pt><pt><x>9</x><y>8</y></pt><pt><x>3</x><y>8</y></pt></polygon>
    <dot><x>6</x><y>6</y></dot>
    <score>0.5</score>
    <attributes>
      <attribute><name>note</name><value>"ü \\"&amp;&lt;"</value></attribute>
    </attributes>
  </object>
  <object>
    <name>cell</name>
    <pose>Left</pose>
    <truncated>0</truncated>
    <difficult>1</difficult>
    <bndbox><xmin>23</xmin><ymin>24</ymin><xmax>29</xmax><ymax>28</ymax></bndbox>
    <polygon><pt><x>23</x><y>24</y></pt><pt><x>29</x><y>24</y></pt><pt><x>29</x><y>28</y></pt><pt><x>23</x><y>28</y></pt></polygon>
    <dot><x>26.09090909090909</x><y>26.060606060606062</y></dot>
    <attributes>
      <attribute><name>cell</name><value>9</value></attribute>
      <attribute><name>ring</name><value>"outer"</value></attribute>
    </attributes>
  </object>
  <object>
    <name>cell</name>
    <pose>Left</pose>
    <truncated>0</truncated>
    <difficult>1</difficult>
    <bndbox><xmin>23</xmin><ymin>24</ymin><xmax>26</xmax><ymax>26</ymax></bndbox>
    <polygon><pt><x>23</x><y>23.5</y></pt><pt><x>26</x><y>23.5</y></pt><pt><x>26</x><y>25.5</y></pt><pt><x>23</x><y>25.5</y></pt></polygon>
    <attributes>
      <attribute><name>cell</name><value>9</value></attribute>
      <attribute><name>ring</name><value>"outer"</value></attribute>
    </attributes>
  </object>
  <object>
    <name>cell</name>
    <pose>Unspecified</pose>
    <truncated>0</truncated>
    <difficult>0</difficult>
    <bndbox><xmin>33</xmin><ymin>4</ymin><xmax>39</xmax><ymax>8</ymax></bndbox>
    <dot><x>36</x><y>6</y></dot>
  </object>
  <object>
    <name>CTb</name>
    <pose>Unspecified</pose>
    <truncated>0</truncated>
    <difficult>0</difficult>
    <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>1</xmax><ymax>2</ymax></bndbox>
    <source_shape>point</source_shape>
    <dot><x>1.25</x><y>2</y></dot>
  </object>
</annotation>
"""


def test_overlaps_and_islands_survive(tmp_path):
    hole, island = SQUARE / 2 + (3, 3), SQUARE / 6 + (5, 5)
    cells = (Cell((SQUARE * 2, SQUARE, SQUARE / 3 + 4)), Cell((SQUARE * 2 + 1,)), Cell((hole, island), number=1))
    image = AnnotatedImage("a.png", (40, 40), cells)
    again = only(written(tmp_path, image))
    np.testing.assert_array_equal(again.labels, image.labels)
    assert [indices.tolist() for indices in again.pixels] == [indices.tolist() for indices in image.pixels]


def test_empty_pictures_are_pictures(tmp_path):
    written(tmp_path, AnnotatedImage("a.png", (3, 4), ()), AnnotatedImage("b.png", None, ()))
    assert [(image.name, image.shape, image.cells) for image in voc.CODEC.read(tmp_path)] == [
        ("a.png", (3, 4), ()),
        ("b.png", None, ()),
    ]


def test_boxes_end_at_the_picture_where_cells_go_beyond(tmp_path):
    tip = np.array([[-5.0, 10.0], [5.0, 0.0], [5.0, 20.0]])
    outside = tip + (200, 0)
    written(tmp_path, AnnotatedImage("a.png", (15, 10), (Cell((tip,)), Cell((outside,)))))
    first, second = tree(tmp_path / "a.xml").findall("object")
    assert box_of(first) == [0, 0, 5, 14]
    assert box_of(second) == [195, 0, 205, 20]
    assert rings_of(first) == [[tuple(point) for point in tip.tolist()]]


def test_points_beside_the_picture_and_unknown_sizes_are_no_hindrance(tmp_path):
    dot = Cell((np.array([[-3.0, 4e5]]),), source_shape="point")
    written(tmp_path, AnnotatedImage("a.png", (15, 10), (dot,)), AnnotatedImage("b.png", None, (dot, Cell((SQUARE,)))))
    assert [cell.source_shape for image in voc.CODEC.read(tmp_path) for cell in image.cells] == [
        "point",
        "point",
        "polygon",
    ]


def test_thin_cells_are_polygons_of_three_points_at_least(tmp_path):
    labels = np.zeros((5, 6), np.int32)
    labels[1, 1], labels[3, 1:5] = 1, 2
    path = written(tmp_path, AnnotatedImage.from_labels("a.png", labels)) / "a.xml"
    assert [len(ring) for item in tree(path).findall("object") for ring in rings_of(item)] == [3, 3]
    np.testing.assert_array_equal(only(path).labels, labels)


def test_a_marker_that_is_called_cell_stays_a_marker(tmp_path):
    cells = [Cell((SQUARE,), marker=marker) for marker in ("cell", None, "", "c-FOS")]
    again = only(written(tmp_path, AnnotatedImage("a.png", None, tuple(cells))))
    assert [cell.marker for cell in again.cells] == ["cell", None, None, "c-FOS"]


def test_the_same_content_makes_the_same_bytes(tmp_path):
    image = AnnotatedImage.from_labels("a.png", drawn_map(4))
    for name in ("one", "two"):
        written(tmp_path / name, image)
    assert (tmp_path / "one" / "a.xml").read_bytes() == (tmp_path / "two" / "a.xml").read_bytes()


def test_a_cell_that_cannot_be_held_leaves_no_trace_and_others_go_on(tmp_path):
    bad = [
        AnnotatedImage("b.png", None, (Cell((SQUARE,), attributes={"a": math.nan}),)),
        AnnotatedImage("c.png", None, (Cell((SQUARE,), attributes={"a\0": 1}),)),
        AnnotatedImage("d.png", None, (Cell((SQUARE,), marker="a\x01"),)),
        AnnotatedImage("e.png", None, (), {"a": object()}),
        AnnotatedImage("e.png", None, (), {"a": "\ud800"}),
        AnnotatedImage("../f.png", None, ()),
        AnnotatedImage("a.tif", None, ()),
    ]
    with voc.CODEC.writing(tmp_path) as add:
        add(AnnotatedImage("a.png", None, ()))
        for image in bad:
            with pytest.raises(InputError) as refusal:
                add(image)
            assert "\n" not in str(refusal.value)
        add(AnnotatedImage("d.png", None, ()))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.xml", "d.xml"]


def test_more_points_than_are_read_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(voc, "MOST_ELEMENTS", 30)
    cells = (Cell((SQUARE,)),)
    voc.CODEC.write(tmp_path, [AnnotatedImage("a.png", None, cells)])
    with pytest.raises(InputError, match=r"picture 'b\.png': expected cells that take at most 30 elements"):
        voc.CODEC.write(tmp_path, [AnnotatedImage("b.png", None, cells * 2)])


# ------------------------------------------------------------------------------------------------------- other readers


def voc_dict(node):
    """Parse as torchvision's VOCDetection does: a dict of each element's children, lists where there are several."""
    children = list(node)
    if not children:
        return {node.tag: node.text}
    found = {}
    for child in map(voc_dict, children):
        for key, value in child.items():
            found.setdefault(key, []).append(value)
    if node.tag == "annotation":
        found["object"] = [found.get("object", [])]
    return {node.tag: {key: value[0] if len(value) == 1 else value for key, value in found.items()}}


def test_loaders_that_know_names_and_boxes_read_them(tmp_path):
    labels = drawn_map(5)
    image = AnnotatedImage.from_labels("a.png", labels)
    cells = tuple(Cell(cell.rings[:1], marker="c-FOS") for cell in image.cells)
    written(tmp_path, AnnotatedImage("a.png", labels.shape, cells))
    annotation = voc_dict(tree(tmp_path / "a.xml"))["annotation"]
    assert annotation["filename"] == "a.png"
    assert [annotation["size"][key] for key in ("width", "height", "depth")] == ["27", "24", "3"]
    assert len(annotation["object"]) == len(cells) > 3
    for item, box in zip(annotation["object"], AnnotatedImage("", labels.shape, cells).boxes.tolist(), strict=True):
        assert item["name"] == "c-FOS"
        assert [int(item["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")] == box
        assert {"pose", "truncated", "difficult"} <= item.keys()


def supervised(folder):
    """What supervision's loader makes of a folder with the picture and its XML; it takes all numbers as counted from 1."""
    dataset = supervision.DetectionDataset.from_pascal_voc(str(folder), str(folder))
    [(_, _, detections)] = list(dataset)
    return dataset.classes, detections


def test_supervision_reads_boxes_and_names(tmp_path):
    labels = drawn_map(6)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*labels.shape, 3), np.uint8))
    boxes = AnnotatedImage.from_labels("a.png", labels).boxes
    corners = [np.array([(a, b), (c, b), (c, d), (a, d)], float) for a, b, c, d in boxes.tolist()]
    cells = tuple(Cell((ring,), marker=marker, source_shape="rect") for ring in corners for marker in ("CTb", "Orx"))
    written(tmp_path, AnnotatedImage("a.png", labels.shape, cells))
    classes, detections = supervised(tmp_path)
    assert [classes[index] for index in detections.class_id] == ["CTb", "Orx"] * len(boxes)
    # Its far edge is the end of the last pixel, its near edge the start of the first; numbers are one less throughout.
    edges = np.repeat(boxes, 2, axis=0) + (-1, -1, 0, 0)
    np.testing.assert_array_equal(detections.xyxy, edges)


def test_supervision_draws_our_vertices_to_the_same_pixels(tmp_path):
    """It knows polygons as Roboflow spells them, counted from 1, and no others: ours are spelled so here for it to read."""
    for seed in range(20):
        labels = drawn_map(seed)
        cells = tuple(cell for cell in AnnotatedImage.from_labels("a.png", labels).cells if len(cell.rings) == 1)
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*labels.shape, 3), np.uint8))
        image = AnnotatedImage("a.png", labels.shape, cells)
        root = tree(written(tmp_path, image) / "a.xml")
        for polygon in root.iter("polygon"):
            points = ring_of(polygon)
            polygon[:] = []
            for index, point in enumerate(points, 1):
                for axis, number in zip("xy", point, strict=True):
                    ElementTree.SubElement(polygon, f"{axis}{index}").text = str(number + 1)
        ElementTree.ElementTree(root).write(tmp_path / "a.xml")
        if cells:
            masks = supervised(tmp_path)[1].mask
            assert [np.flatnonzero(mask).tolist() for mask in masks] == [pixels.tolist() for pixels in image.pixels]


# ------------------------------------------------------------------------------------------------- VOC as others write


def read_text(tmp_path, text, name="a.xml", **options):
    (tmp_path / name).write_text(text, encoding="utf-8")
    [unread] = voc.find(tmp_path / name, **options)
    return unread.read()


BOX = "<bndbox><xmin>48</xmin><ymin>240.5</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>"


def test_boxes_alone_are_rectangles(tmp_path):
    item = f"<object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>{BOX}</object>"
    part = "<object><name>person</name><part><name>head</name>" + BOX + "</part>" + BOX + "</object>"
    head = (
        "<folder>VOC2012</folder><filename>2007_000027.jpg</filename><source><database>The VOC2007 Database</database>"
        "<annotation>PASCAL VOC2007</annotation><image>flickr</image></source>"
        "<size><width>486</width><height>500</height><depth>3</depth></size><segmented>0</segmented>"
    )
    image = read_text(tmp_path, f"<annotation>{head}{item}{part}</annotation>")
    assert (image.name, image.shape) == ("2007_000027.jpg", (500, 486))
    assert image.attributes == {"folder": "VOC2012", "database": "The VOC2007 Database"}
    dog, person = image.cells
    assert (dog.marker, dog.source_shape, dict(dog.attributes)) == ("dog", "rect", {"pose": "Left", "truncated": 1})
    assert dog.rings[0].tolist() == [[48, 240.5], [195, 240.5], [195, 371], [48, 371]]
    assert (person.marker, dict(person.attributes)) == ("person", {})


def test_boxes_with_corners_the_wrong_way_round_are_the_same_boxes(tmp_path):
    turned = "<bndbox><xmin>9</xmin><ymin>8</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    image = read_text(tmp_path, f"<annotation><object><name>x</name>{turned}</object></annotation>")
    assert image.cells[0].rings[0].tolist() == SQUARE.tolist()
    assert (image.name, image.shape) == ("a.xml", None)


def test_roboflows_polygons_are_read_in_the_order_of_their_numbers(tmp_path):
    numbered = [(index, x, y) for index, (x, y) in enumerate(SQUARE.tolist() * 3, 1)]
    texts = [f"<x{index}>{x}</x{index}><y{index}>{y}</y{index}>" for index, x, y in numbered]
    item = f"<object><name>cell</name><occluded>0</occluded>{BOX}<polygon>{''.join(texts[::-1])}</polygon></object>"
    [cell] = read_text(tmp_path, f"<annotation>{item}</annotation>").cells
    assert cell.rings[0].tolist() == SQUARE.tolist() * 3
    assert (cell.marker, cell.source_shape, dict(cell.attributes)) == (None, "polygon", {"occluded": 0})


def test_labelme_is_read_without_what_was_deleted(tmp_path):
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in SQUARE.tolist())
    item = (
        "<object><name>axon</name><deleted>{}</deleted><verified>0</verified><occluded>no</occluded>"
        "<attributes>{}</attributes><parts><hasparts></hasparts></parts><date>15-Apr-2014 17:00:18</date><id>0</id>"
        f"<polygon><username>anonymous</username>{points}</polygon></object>"
    )
    text = (
        "<annotation><filename>x.jpg</filename><folder>users</folder><source><sourceImage>x</sourceImage></source>"
        "<imagesize><nrows>30</nrows><ncols>40</ncols></imagesize>"
        f"{item.format(0, 'bright')}{item.format(1, '')}</annotation>"
    )
    image = read_text(tmp_path, text)
    assert (image.name, image.shape, dict(image.attributes)) == ("x.jpg", (30, 40), {"folder": "users"})
    [cell] = image.cells
    assert (cell.marker, cell.rings[0].tolist()) == ("axon", SQUARE.tolist())
    assert cell.attributes["attributes"] == "bright"
    assert cell.attributes["occluded"] == "no"


def test_several_polygons_of_an_object_are_one_cell(tmp_path):
    polygons = "".join(
        "<polygon>" + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in (SQUARE + shift).tolist()) + "</polygon>"
        for shift in (0, 20)
    )
    [cell] = read_text(tmp_path, f"<annotation><object><name>x</name>{polygons}</object></annotation>").cells
    assert [ring.tolist() for ring in cell.rings] == [SQUARE.tolist(), (SQUARE + 20).tolist()]


def test_sizes_that_nobody_knew_are_unknown(tmp_path):
    for size in ("<width>0</width><height>0</height>", "<width></width><height/>", "<width>5</width>", ""):
        assert read_text(tmp_path, f"<annotation><size>{size}</size></annotation>").shape is None
    text = "<annotation><size><width>5.0</width><height>4</height><depth>1</depth></size></annotation>"
    image = read_text(tmp_path, text)
    assert (image.shape, image.attributes) == ((4, 5), {"depth": 1})


def test_pictures_give_the_sizes_that_files_do_not_hold(tmp_path):
    (tmp_path / "pictures" / "sub").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "pictures" / "sub" / "a.png"), np.zeros((30, 20), np.uint8))
    written(tmp_path / "xml", AnnotatedImage("sub/a.png", None, (Cell((SQUARE,)),)))
    image = only(tmp_path / "xml", tmp_path / "pictures")
    assert (image.shape, image.areas.tolist()) == ((30, 20), [35])


def test_names_that_hold_folders_are_taken_as_they_stand(tmp_path):
    (tmp_path / "sub").mkdir()
    for told, name in {"a.jpg": "sub/a.jpg", "x/a.jpg": "x/a.jpg", "": "sub/a.xml", "../a.jpg": "../a.jpg"}.items():
        (tmp_path / "sub" / "a.xml").write_text(f"<annotation><filename>{told}</filename></annotation>")
        assert only(tmp_path).name == name


def test_a_picture_that_is_there_twice_is_refused_and_the_others_are_read(tmp_path):
    for name in ("a", "b", "c"):
        told = "c.png" if name == "c" else "a.png"
        (tmp_path / f"{name}.xml").write_text(f"<annotation><filename>{told}</filename></annotation>")
    first, second, third = voc.find(tmp_path)
    assert first.read().name == "a.png"
    with pytest.raises(InputError, match=r"expected each picture once, found 'a\.png' twice"):
        second.read()
    assert third.read().name == "c.png"


def test_folders_are_recognised_by_what_is_in_their_files(tmp_path):
    written(tmp_path / "a", AnnotatedImage("a.png", None, ()))
    assert recognise(tmp_path / "a") == recognise(tmp_path / "a" / "a.xml") == "voc"
    other = tmp_path / "b"
    other.mkdir()
    (other / "a.xml").write_text("<annotations><version>1.1</version></annotations>")
    assert not voc.CODEC.recognises(other)
    with pytest.raises(InputError, match=r"line 1, column 1: expected Pascal VOC's annotation, found .*'annotations'"):
        only(other)
    with pytest.raises(InputError, match=r"expected Pascal VOC's \.xml files, found none"):
        next(voc.find(tmp_path / "c"))


# ------------------------------------------------------------------------------------------------ the published archive


def archive_mask(seed):
    """Discs, rings, and discs in rings: what puts the published dots on other cells."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((80, 100), np.uint8)
    for x, y in ((18, 20), (60, 22), (25, 58), (75, 55)):
        if rng.random() < 0.5:
            cv2.circle(mask, (x, y), 15, 1, 2)
        cv2.circle(mask, (x + int(rng.integers(-3, 4)), y), int(rng.integers(3, 8)), 1, -1)
    return mask.astype(bool)


def by_centre(cells):
    return sorted(cells, key=lambda cell: cell[0])


@pytest.mark.parametrize("seed", range(12))
def test_the_archives_files_are_read_with_every_cell_and_dot_right(tmp_path, seed):
    mask = archive_mask(seed)
    image = read_text(tmp_path, archive_files.voc(mask, "128.png", "CTb", "citoplasm"))
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    expected = []
    for contour in contours:
        pixels = np.flatnonzero(cv2.drawContours(np.zeros(mask.shape, np.uint8), [contour], 0, 1, -1))
        y, x = np.divmod(pixels, mask.shape[1])
        expected.append(((x.mean(), y.mean()), pixels.tolist()))
    found = [(tuple(centre), pixels.tolist()) for centre, pixels in zip(image.centres, image.pixels, strict=True)]
    assert by_centre(found) == by_centre(expected)
    assert {cell.marker for cell in image.cells} == {"CTb"}
    assert {cell.source_shape for cell in image.cells} == {"polygon"}
    assert image.attributes == {
        "split": "trainval",
        "path": "green/trainval/images/128.png",
        "version": "2",
        "database": "Fluorescent Neuronal Cells",
        "url": "https://lab",
    }


def test_the_published_dots_would_have_been_wrong(tmp_path):
    wrong = 0
    for seed in range(12):
        image = read_text(tmp_path, archive_files.voc(archive_mask(seed), "a.png", "CTb", "citoplasm"))
        dots = [
            [float(item.find(f"dot/{axis}").text) for axis in "xy"]
            for item in ElementTree.fromstring(  # noqa: S314
                archive_files.voc(archive_mask(seed), "a.png", "CTb", "citoplasm")
            ).findall("object")
        ]
        wrong += int((np.abs(image.centres - dots).max(axis=1) > 8).sum())
    assert wrong > 10


def test_the_published_dialect_has_the_archives_elements_with_true_values(tmp_path):
    mask = archive_mask(3)
    before = read_text(tmp_path, archive_files.voc(mask, "128.png", "c-FOS", "nucleus"))
    voc.CODEC.published.write(tmp_path / "out", [before])
    root = tree(tmp_path / "out" / "128.xml")
    archives = ElementTree.fromstring(archive_files.voc(mask, "128.png", "c-FOS", "nucleus"))  # noqa: S314
    head = [child.tag for child in archives if child.tag not in ("object", "segmentation_type")]
    assert [child.tag for child in root if child.tag != "object"] == head
    for tag in ("split", "filename", "path", "source/database", "source/url", "version", "size/depth"):
        assert root.find(tag).text == archives.find(tag).text
    assert int(root.find("count").text) == len(root.findall("object")) == len(before.cells)
    for item, other in zip(root.findall("object"), archives.findall("object"), strict=True):
        assert [child.tag for child in item] == [child.tag for child in other]
        assert box_of(item) == box_of(other)
        assert rings_of(item) == rings_of(other)
        pixels = drawn(rings_of(item), mask.shape)
        y, x = np.nonzero(pixels)
        assert box_of(item) == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert [float(item.find(f"dot/{axis}").text) for axis in "xy"] == pytest.approx([x.mean(), y.mean()])
    [again] = voc.CODEC.published.read(tmp_path / "out")
    assert all(one.same_as(other) for one, other in zip(before.cells, again.cells, strict=True))
    assert again.attributes == before.attributes


def test_the_published_dialect_says_nothing_that_is_not_known(tmp_path):
    hole = SQUARE / 2 + 3
    cells = (
        Cell((SQUARE,)),
        Cell((SQUARE + 10, hole + 10), marker="Orx"),
        Cell((SQUARE + 20, SQUARE + (30, 0)), marker="cFOS"),
        Cell((np.array([[2.0, 3.0]]),), marker="GFP", source_shape="point"),
    )
    image = AnnotatedImage("sub/a.png", (50, 60), cells, {"segmentation_type": "semi-automatic", "split": "test"})
    voc.CODEC.published.write(tmp_path, [image])
    root = tree(tmp_path / "sub" / "a.xml")
    assert [child.tag for child in root if child.tag != "object"] == [
        "split",
        "filename",
        "size",
        "segmentation_type",
        "count",
    ]
    assert root.find("segmentation_type").text == "semi-automatic"
    told = [{child.tag: child.text for child in item if not len(child)} for item in root.findall("object")]
    assert told == [
        {},
        {"marker": "Orx", "marked_structure": "cytoplasm"},
        {"marker": "cFOS", "marked_structure": "nucleus"},
        {"marker": "cFOS", "marked_structure": "nucleus"},
        {"marker": "GFP"},
    ]
    assert root.find("count").text == "5"
    assert only(tmp_path).cells[4].is_dot


def test_boxes_of_the_archive_end_one_pixel_later_and_dots_are_nothing_to_others(tmp_path):
    objects = [f"<marker>CTb</marker>{BOX}", "<marker>CTb</marker><dot><x>1</x><y>2</y></dot>"]
    text = f"<annotation>{''.join(f'<object>{inner}</object>' for inner in objects)}</annotation>"
    rectangle, dot = read_text(tmp_path, text).cells
    assert rectangle.rings[0].tolist() == [[48, 240.5], [194, 240.5], [194, 370], [48, 370]]
    assert dot.is_dot
    assert [cell.source_shape for cell in read_text(tmp_path, text, foreign=True).cells] == ["rect"]


def test_the_published_dialect_needs_the_picture_for_its_dots(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: expected the picture's height and width.*--images"):
        voc.CODEC.published.write(tmp_path, [AnnotatedImage("a.png", None, (Cell((SQUARE,)),))])
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- what others cannot see


def test_losses_are_those_of_a_reader_that_does_not_know_ties(tmp_path):
    ring = SQUARE * 2
    cells = (
        Cell((ring, SQUARE + (4, 6)), marker="CTb", score=0.5, attributes={"a": 1}),
        Cell((SQUARE + 20, SQUARE + 27.5)),
        Cell((np.array([[2.0, 3.0]]),), source_shape="point"),
    )
    image = AnnotatedImage("a.png", (50, 60), cells)
    voc.CODEC.write(tmp_path / "in", [image])
    report = convert(tmp_path / "in", tmp_path / "out", "voc")
    total = report.total
    assert (total["n_cells"], total["n_cells_read"]) == (2, 5)
    assert (total["holes_lost"], total["parts_lost"], total["dots_lost"]) == (1, 1, 1)
    [found] = voc.CODEC.read_foreign(tmp_path / "out")
    assert Counter(cell.source_shape for cell in found.cells) == {"polygon": 4, "rect": 1}
    assert all(cell.score is None for cell in found.cells)


# ---------------------------------------------------------------------------------------------------------- hostile


def item(inner):
    return f"<annotation><object><name>x</name>{inner}</object></annotation>"


def polygon(points):
    return item(f"<polygon>{''.join(f'<pt><x>{x}</x><y>{y}</y></pt>' for x, y in points)}</polygon>")


VALID = polygon([(1, 2), (9, 2), (9, 8)])
HOSTILE = {
    "two points": (polygon([(1, 2), (9, 2)]), "expected a polygon of at least 3 points, .* found 2"),
    "no points": (polygon([]), "at least 3 points, .* found none"),
    "NaN": (polygon([(1, 2), ("NaN", 2), (9, 8)]), "line 1, column .*: expected a number as x, found 'NaN'"),
    "infinity": (polygon([(1, 2), (9, "inf"), (9, 8)]), "expected a number as y, found 'inf'"),
    "beyond floats": (polygon([(1, 2), (9, "1e999"), (9, 8)]), "expected y from -1000000 to 1000000, found '1e999'"),
    "far away": (polygon([(1, 2), (9, 2e7), (9, 8)]), "from -1000000 to 1000000"),
    "400 digits": (polygon([(1, 2), (9, "9" * 400), (9, 8)]), "expected a number as y"),
    "underscores": (polygon([(1, 2), (9, "1_0"), (9, 8)]), "expected a number as y"),
    "digits of another script": (polygon([(1, 2), (9, "٣"), (9, 8)]), "expected a number as y"),
    "no number": (polygon([(1, 2), (9, ""), (9, 8)]), "expected a number as y, found nothing"),
    "elements as number": (polygon([(1, 2), (9, "<z/>"), (9, 8)]), "expected a text in y, found an element 'z'"),
    "a point without y": (VALID.replace("<y>8</y>", ""), "expected y in pt, found none"),
    "a point with two": (VALID.replace("<y>8</y>", "<y>8</y><y>9</y>"), "expected one y in pt"),
    "odd numbered points": (item("<polygon><x1>1</x1><y1>1</y1><x2>5</x2></polygon>"), "one of the two of point 2"),
    "a box without xmax": (item("<bndbox><xmin>1</xmin><ymin>1</ymin></bndbox>"), "expected xmax in bndbox"),
    "nothing drawn": (item("<pose>Left</pose>"), "a polygon, a bndbox or a dot in an object, found name, pose"),
    "an empty object": ("<annotation><object/></annotation>", "in an object, found nothing"),
    "two names": (VALID.replace("<name>", "<name>y</name><name>"), "expected one name in object"),
    "a polygon as point": (VALID.replace("</name>", "</name><source_shape>point</source_shape>"), "a dot alone"),
    "an unknown shape": (
        VALID.replace("</name>", "</name><source_shape>star</source_shape>"),
        "source_shape: .*'star'",
    ),
    "a score in words": (VALID.replace("</name>", "</name><score>high</score>"), "expected a number as score"),
    "an attribute without value": (
        VALID.replace("</name>", "</name><attributes><attribute><name>a</name></attribute></attributes>"),
        "expected a name and a value, found no value",
    ),
    "an attribute of elements": (
        VALID.replace(
            "</name>", "</name><attributes><attribute><name>a</name><value><b/></value></attribute></attributes>"
        ),
        "expected texts as name and value, found elements",
    ),
    "an attribute twice": (
        VALID.replace(
            "</name>",
            f"</name><attributes>{'<attribute><name>a</name><value>1</value></attribute>' * 2}</attributes>",
        ),
        "each attribute once, found 'a' twice",
    ),
    "a point tied to an outline": (
        "<annotation>"
        + "".join(
            f"<object>{inner}<attributes><attribute><name>cell</name><value>3</value></attribute>"
            '<attribute><name>ring</name><value>"outer"</value></attribute></attributes></object>'
            for inner in (BOX, "<dot><x>1</x><y>2</y></dot>")
        )
        + "</annotation>",
        "expected rings of cell 3, found a point among them",
    ),
    "fncells's own note": (
        VALID.replace(
            "</name>",
            "</name><attributes><attribute><name>fncells.x</name><value>1</value></attribute></attributes>",
        ),
        "names do not begin with 'fncells",
    ),
    "a size in words": ("<annotation><size><width>wide</width><height>5</height></size></annotation>", "as width"),
    "half a pixel": (
        "<annotation><size><width>5.5</width><height>5</height></size></annotation>",
        "expected a whole number as width, found '5.5'",
    ),
    "a giant": (
        "<annotation><size><width>1000000</width><height>1000000</height></size></annotation>",
        "a picture of at most",
    ),
    "a negative size": ("<annotation><size><width>-5</width><height>5</height></size></annotation>", "from 1 to"),
    "a folder as name": ("<annotation><filename>/</filename></annotation>", "a picture's file name, found '/'"),
    "a document type": ('<!DOCTYPE a [<!ENTITY x "y">]>' + VALID, "without a document type"),
    "deep nesting": ("<annotation>" + "<a>" * 10**6, "nested at most 32 deep"),
    "half a file": (VALID[:-20], "well-formed XML"),
    "another document": ("<html/>", "expected Pascal VOC's annotation, found an element 'html'"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_what_is_no_voc_is_refused_in_one_line(tmp_path, fault):
    text, said = HOSTILE[fault]
    assert len(read_text(tmp_path, VALID).cells) == 1
    start = process_time()
    with pytest.raises(InputError, match=said) as refusal:
        read_text(tmp_path, text)
    assert process_time() - start < 5
    assert str(refusal.value).startswith(str(tmp_path / "a.xml"))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 600


def test_a_hundred_thousand_points_are_one_cell_and_ten_million_too_many(tmp_path):
    [cell] = read_text(tmp_path, polygon([(1, 2), (3, 5)] * 50_000)).cells
    assert len(cell.rings[0]) == 100_000
    points = "<pt><x>1</x><y>2</y></pt>" * 400_000
    start = process_time()
    with pytest.raises(InputError, match="at most 1000000 elements"):
        read_text(tmp_path, item(f"<polygon>{points}</polygon>"))
    assert process_time() - start < 20  # some 2 s; measuring coverage takes three times as long
    with pytest.raises(InputError, match="expected XML of at most 128 MiB"):
        read_text(tmp_path, item(f"<polygon>{points * 15}</polygon>"))


@pytest.mark.parametrize("name", ["../../x.png", "/etc/x.png", "C:\\x.png", "x" * 5000 + ".png", "a/../../x.png"])
def test_names_that_lead_out_of_the_folder_are_texts_until_they_are_written(tmp_path, name):
    image = read_text(tmp_path, f"<annotation><filename>{name}</filename></annotation>")
    assert image.name == name
    with pytest.raises(InputError, match="expected a picture's file name within the output folder"):
        voc.CODEC.write(tmp_path / "out", [image])
    assert not (tmp_path / "out").exists()


MUTATED = AnnotatedImage(
    "a.png",
    (40, 50),
    (
        Cell((SQUARE,), marker="c-FOS", score=0.5, attributes={"note": "ü"}),
        Cell((SQUARE + 20, SQUARE / 2 + 21), number=9, attributes={"pose": "Left"}),
        Cell((SQUARE + (30, 0),), source_shape="rect"),
        Cell((np.array([[1.25, 2.0]]),), source_shape="point"),
    ),
    {"database": "FNC", "n": [1]},
)


def mutate(tmp_path, count, seed):
    voc.CODEC.write(tmp_path / "valid", [MUTATED])
    valid = (tmp_path / "valid" / "a.xml").read_text(encoding="utf-8")
    published = archive_files.voc(archive_mask(1), "a.png", "CTb", "citoplasm")
    values, said, slowest = 0, [], 0.0
    for text, share in ((valid, 3 * count // 4), (published, count // 4)):
        for data in xml_mutants(text, share, seed):
            (tmp_path / "a.xml").write_bytes(data)
            start = process_time()
            try:
                image = only(tmp_path / "a.xml")
                voc.CODEC.write(tmp_path / "out", [image])
                values += 1
            except InputError as error:
                said.append(str(error))
            slowest = max(slowest, process_time() - start)
    assert slowest < 5
    assert values + len(said) == count
    assert min(values, len(said)) > count // 10
    assert not any("\n" in line for line in said)


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path):
    mutate(tmp_path, 500, seed=1)


@pytest.mark.slow
def test_5000_mutants_end_in_a_value_or_one_line(tmp_path):
    mutate(tmp_path, 5000, seed=2)


# ------------------------------------------------------------------------------------------------------ values as text


@pytest.mark.parametrize(
    "value", ["", " x", "left", "5", "null", "[1", '"', 'a "b"', 5, 0.1, None, True, [1, {"a": "ü"}]]
)
def test_values_come_back_from_their_texts(value):
    text = plain_text(value)
    assert (value_in(text), type(value_in(text))) == (value, type(value))
    assert text == value or not isinstance(value, str) or value in ("", " x", "5", "null", '"')


@pytest.mark.parametrize("text", ["\x1b", "\ufffe", " padded ", "two\nlines", "plain"])
def test_texts_that_xml_cannot_hold_are_kept_as_attributes(tmp_path, text):
    image = AnnotatedImage("a.png", (5, 6), (), {"database": text, "path": text})
    assert dict(only(written(tmp_path, image)).attributes) == {"database": text, "path": text}
