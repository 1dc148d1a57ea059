import gzip
import json
import os
import random
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import CODECS, convert, geojson, recognise
from formats.endings import LONGEST, endings
from formats.label_maps import drawn_map, label_maps
from formats.mutation import mutants

UUID = "d0852662-6941-4506-bc90-cbda1c2fa7b0"
SQUARE = [[2, 2], [6, 2], [6, 6], [2, 6], [2, 2]]


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings or [SQUARE])}


def moved(by, ring=None):
    return [[x + by, y + by] for x, y in ring or SQUARE]


def feature(geometry=None, properties=None, **more):
    return {
        "type": "Feature",
        "geometry": polygon() if geometry is None else geometry,
        "properties": {"objectType": "detection"} if properties is None else properties,
        **more,
    }


def typed(object_type, by=0, **properties):
    return feature(polygon(moved(by)), {"objectType": object_type, **properties})


def collection(*features, **more):
    return {"type": "FeatureCollection", **more, "features": list(features)}


def save(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


def only(path, images=None):
    [image] = geojson.CODEC.read(path, images)
    return image


def read(tmp_path, document, name="a.geojson"):
    return only(save(tmp_path / name, document))


def cells_of(tmp_path, *features):
    return read(tmp_path, collection(*features)).cells


def pixels(image, shape=(40, 50)):
    return [
        sorted(map(tuple, np.argwhere(image.with_shape(shape).labels == n))) for n in image.with_shape(shape).numbers
    ]


def square(x, y, side, **more):
    return Cell((np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], dtype=float),), **more)


def rich():
    """Overlap, hole, parts that touch in a corner, an island, a dot, a cell without pixels, and all that can be said."""
    island = square(20, 18, 10).rings + square(22, 20, 6).rings + square(24, 22, 2).rings
    cells = (
        square(20, 2, 6, number=7, marker="c-FOS", score=0.5, attributes={"note": "grün 😀", "deep": {"a": [1, None]}}),
        Cell((np.array([[30.5, 3.0]]),), source_shape="point", marker="dot"),
        square(23, 4, 6, source_shape="rect", marker="Orx: weak"),
        Cell(square(2, 2, 9).rings + square(5, 5, 3).rings),
        Cell(square(2, 20, 3).rings + square(6, 24, 3).rings),
        square(100, 100, 5),
        Cell(island, score=1.0),
        Cell((np.array([[3.0, 36]]),), source_shape="point"),
    )
    return AnnotatedImage("sub/a.tif", (40, 50), cells, {"slide": 3, "ä": [True]})


def written(folder, image, codec=geojson.CODEC):
    codec.write(folder, [image])
    [path] = folder.rglob("*.geojson*")
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


# ----------------------------------------------------------------------------------------------------------- round trips


def test_everything_but_vertices_survives_and_what_has_no_pixel_is_left_out(tmp_path):
    geojson.CODEC.write(tmp_path, [rich()])
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
    geojson.CODEC.write(tmp_path / "one", [rich()])
    geojson.CODEC.write(tmp_path / "two", geojson.CODEC.read(tmp_path / "one"))
    one, two = (tmp_path / name / "sub" / "a.geojson" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_empty_pictures_and_sub_folders_survive(tmp_path):
    images = [AnnotatedImage("a.png", (3, 4), ()), AnnotatedImage.from_labels("sub/b.c.png", drawn_map(1))]
    geojson.CODEC.write(tmp_path, images)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "a.geojson",
        "sub/b.c.geojson",
    ]
    found = list(geojson.CODEC.read(tmp_path))
    assert [(image.name, image.shape, len(image.cells)) for image in found] == [
        ("a.png", (3, 4), 0),
        ("sub/b.c.png", images[1].shape, len(images[1].cells)),
    ]


def on_grid(geometry, shape):
    """Which pixels' centres lie inside: asked of shapely alone."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return shapely.contains_xy(geometry, x, y)


def round_trip(folder, labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    document = written(folder, image)
    again = only(folder)
    np.testing.assert_array_equal(again.labels, labels)
    assert again.numbers.tolist() == image.numbers.tolist()
    for number, one in zip(image.numbers, document["features"], strict=True):
        geometry = shapely.from_geojson(json.dumps(one["geometry"]))
        assert geometry.is_valid, shapely.is_valid_reason(geometry)
        assert geometry.area == (labels == number).sum()
        np.testing.assert_array_equal(on_grid(geometry, labels.shape), labels == number)
        for part in getattr(geometry, "geoms", [geometry]):
            assert part.exterior.is_ccw
            assert not any(hole.is_ccw for hole in part.interiors)


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive_and_shapely_finds_the_same(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "geojson", labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "geojson", labels)


def test_shapely_reads_the_file_as_a_whole(tmp_path):
    geojson.CODEC.write(tmp_path, [rich()])
    found = shapely.from_geojson((tmp_path / "sub" / "a.geojson").read_bytes())
    areas = [len(indices) for index, indices in enumerate(rich().pixels) if index != 5]
    assert [geometry.area for geometry in found.geoms] == areas
    points = [geometry for geometry in found.geoms if geometry.geom_type == "Point"]
    assert [(point.x, point.y) for point in points] == [(31, 3.5), (3.5, 36.5)]


# ------------------------------------------------------------------------------------------------- what QuPath is to see


def test_a_cell_is_a_detection_as_qupath_reads_it(tmp_path):
    attributes = {
        "id": UUID,
        "name": "No 5",
        "measurements": {"Area µm²": 3.5, "Solidity": "NaN"},
        "metadata": {"k": "v"},
        "color": [1, 2, 3],
        "classColor": [200, 0, 0],
        "isLocked": True,
        "plane": {"c": -1, "z": 2, "t": 0},
        "mine": 1,
    }
    cell = square(2, 3, 4, number=9, marker="c-FOS", score=0.25, attributes=attributes, source_shape="circle")
    [found] = written(tmp_path, AnnotatedImage("a.png", (20, 20), (cell,)))["features"]
    outline = [[2, 3], [7, 3], [7, 8], [2, 8], [2, 3]]
    assert found == {
        "type": "Feature",
        "id": UUID,
        "geometry": {"type": "Polygon", "coordinates": [outline], "plane": {"c": -1, "z": 2, "t": 0}},
        "properties": {
            "objectType": "detection",
            "name": "No 5",
            "color": [1, 2, 3],
            "isLocked": True,
            "measurements": {"Detection probability": 0.25, "Area µm²": 3.5, "Solidity": "NaN"},
            "metadata": {"k": "v"},
            "classification": {"name": "c-FOS", "color": [200, 0, 0]},
            "fncells": {"number": 9, "source_shape": "circle", "attributes": {"mine": 1}},
        },
    }
    [again] = only(tmp_path).cells
    assert again.attributes == attributes
    assert (again.number, again.marker, again.score, again.source_shape) == (9, "c-FOS", 0.25, "circle")


@pytest.mark.parametrize(
    "attributes",
    [
        {"name": 5},
        {"id": "7"},
        {"id": 7},
        {"measurements": {"a": None}},
        {"measurements": {"a": True}},
        {"measurements": {"Detection probability": 0.75}},
        {"measurements": [1]},
        {"metadata": {"k": 1}},
        {"color": "red"},
        {"color": [1, 2, 300]},
        {"color": [1.0, 2, 3]},
        {"isLocked": False},
        {"plane": {"z": 1}},
        {"plane": "x"},
        {"classColor": "x"},
        {"objectType": "cell"},
        {"childObjects": [1]},
        {"classification": "x"},
    ],
)
def test_what_qupath_would_not_take_is_kept_out_of_its_sight(tmp_path, attributes):
    cell = square(2, 3, 4, marker="CTb", attributes=attributes)
    [found] = written(tmp_path, AnnotatedImage("a.png", (20, 20), (cell,)))["features"]
    assert set(found) == {"type", "geometry", "properties"}
    assert set(found["geometry"]) == {"type", "coordinates"}
    assert set(found["properties"]) == {"objectType", "classification", "fncells"}
    assert found["properties"]["fncells"] == {"attributes": attributes}
    [again] = only(tmp_path).cells
    assert (dict(again.attributes), again.score) == (attributes, None)


def test_a_class_has_a_colour_without_which_qupath_refuses_it_and_always_the_same(tmp_path):
    cells = tuple(square(9 * index, 1, 4, marker=marker) for index, marker in enumerate(("CTb", "Orx", "CTb", None)))
    found = written(tmp_path, AnnotatedImage("a.png", (20, 50), cells))["features"]
    classes = [one["properties"].get("classification") for one in found]
    assert [one and one["name"] for one in classes] == ["CTb", "Orx", "CTb", None]
    assert classes[0] == classes[2]
    assert classes[0]["color"] != classes[1]["color"]
    assert all(len(one["color"]) == 3 and min(one["color"]) >= 64 and max(one["color"]) < 256 for one in classes[:3])
    assert [dict(cell.attributes) for cell in only(tmp_path).cells] == [{}] * 4


def test_the_picture_is_told_before_the_features_and_one_feature_is_a_line(tmp_path):
    geojson.CODEC.write(tmp_path, [rich()])
    first, *lines, last = (tmp_path / "sub" / "a.geojson").read_text(encoding="utf-8").splitlines()
    head = json.loads(first + "]}")
    assert list(head) == ["type", "fncells", "features"]
    assert head["fncells"] == {"picture": "sub/a.tif", "height": 40, "width": 50, "attributes": dict(rich().attributes)}
    assert last == "]}"
    assert [json.loads(line.removesuffix(","))["type"] for line in lines] == ["Feature"] * 7


def test_numbers_are_noted_only_where_the_place_does_not_give_them(tmp_path):
    def noted(*cells):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        image = AnnotatedImage("a.png", (30, 90), cells)
        found = written(folder, image)["features"]
        before = [number for number, region in zip(image.numbers.tolist(), image.regions, strict=True) if region]
        assert only(folder).numbers.tolist() == before
        return [one["properties"].get("fncells", {}).get("number") for one in found]

    plain = [square(10 * index, 1, 4) for index in range(4)]
    numbered = [square(10 * index, 1, 4, number=number) for index, number in enumerate((1, 2, 4, 3))]
    assert noted(*plain) == [None] * 4
    assert noted(*numbered[:2], plain[2]) == [None] * 3
    assert noted(*numbered) == [1, 2, 4, 3]
    # One without pixels puts the places of those after it off.
    assert noted(*plain[:2], square(200, 200, 4), plain[3]) == [None, None, 4]


def test_a_foreign_reader_finds_cells_markers_scores_and_no_more(tmp_path):
    geojson.CODEC.write(tmp_path, [rich()])
    [image] = geojson.CODEC.read_foreign(tmp_path)
    assert (image.name, image.shape, image.stem) == ("sub/a.geojson", None, "sub/a")
    assert [(cell.marker, cell.score, cell.number, dict(cell.attributes)) for cell in image.cells] == [
        (cell.marker, cell.score, None, {}) for index, cell in enumerate(rich().cells) if index != 5
    ]
    assert {cell.source_shape for cell in image.cells} == {"polygon", "point"}


def test_a_conversion_tells_what_is_lost(tmp_path):
    report = convert(save_labels(tmp_path / "labels", rich()), tmp_path / "out", "geojson")
    row = report.as_dict()["total"]
    lost = {key for key, value in row.items() if key.endswith("_lost") and value}
    assert lost == set()
    assert row["area_change_percent"] == 0


def save_labels(folder, image):
    CODECS["labels"].write(folder, [image])
    return folder


# ------------------------------------------------------------------------------------------------------------ compressed


def test_compressed_files_hold_the_same_and_their_bytes_do_not_depend_on_time_or_name(tmp_path, monkeypatch):
    plain, packed = (
        written(tmp_path / codec.writing.__name__, rich(), codec) for codec in (geojson.CODEC, geojson.CODEC.compressed)
    )
    assert plain == packed
    one = tmp_path / "writing_compressed" / "sub" / "a.geojson.gz"
    monkeypatch.setattr(time, "time", lambda: 1e9)
    with geojson.writing(tmp_path / "later", compressed=True) as add:
        add(rich())
    assert one.read_bytes() == (tmp_path / "later" / "sub" / "a.geojson.gz").read_bytes()
    assert b"geojson" not in one.read_bytes()[:40]
    assert one.read_bytes()[4:8] == b"\0" * 4
    one.rename(tmp_path / "b.json.gz")
    assert recognise(tmp_path / "b.json.gz") == "geojson"
    assert only(tmp_path / "b.json.gz").name == "sub/a.tif"


def test_a_gzip_file_is_told_by_its_beginning_whatever_its_name(tmp_path):
    (tmp_path / "a.geojson").write_bytes(gzip.compress(json.dumps(collection(feature())).encode()))
    assert len(only(tmp_path).cells) == 1


@pytest.mark.parametrize("cut", [1, 5, 20, 60, -9, -1])
def test_gzip_files_that_are_cut_short_are_refused(tmp_path, cut):
    whole = gzip.compress(json.dumps(collection(*[feature()] * 5)).encode())
    (tmp_path / "a.geojson.gz").write_bytes(whole)
    assert len(only(tmp_path).cells) == 5
    (tmp_path / "a.geojson.gz").write_bytes(whole[:cut])
    with pytest.raises(InputError, match=r"a\.geojson\.gz: expected (a whole gzip file|GeoJSON)"):
        only(tmp_path)


def test_damaged_gzip_files_are_refused(tmp_path):
    whole = bytearray(gzip.compress(json.dumps(collection(*[feature()] * 50)).encode()))
    for place in (2, 3, len(whole) // 2, len(whole) - 6):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "a.geojson.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"expected a whole gzip file|JSON|feature"):
            only(tmp_path)


def bomb(filling):
    """300 MB in a gzip file of less than one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = filling * (2**20 // len(filling))
    start = packer.compress(b'{"type":"FeatureCollection","features":[')
    return start + b"".join(packer.compress(piece) for _ in range(300)) + packer.flush()


@pytest.mark.parametrize("filling", [b" ", b'{"type":"Feature","geometry":null},', b"[", b'"', b"{"])
def test_bombs_are_refused_before_they_take_time(tmp_path, filling):
    (tmp_path / "a.geojson.gz").write_bytes(bomb(filling))
    assert (tmp_path / "a.geojson.gz").stat().st_size < 2**20
    begun = time.process_time()
    with pytest.raises(InputError, match=r"a\.geojson\.gz"):
        only(tmp_path)
    assert time.process_time() - begun < LONGEST


def test_bombs_are_refused_before_they_take_memory(tmp_path):
    (tmp_path / "a.geojson.gz").write_bytes(bomb(b" "))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.geojson\.gz"):
        only(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1e8
    tracemalloc.stop()


# -------------------------------------------------------------------------------------------------- what QuPath exports


@pytest.mark.parametrize("name", ["a.geojson", "a.json", "a.tif.geojson", "A.GeoJSON"])
@pytest.mark.parametrize(
    "form", [lambda f: collection(f), lambda f: [f], lambda f: f], ids=["collection", "list", "one"]
)
@pytest.mark.parametrize("indent", [None, 2])
def test_collections_lists_and_single_features_are_read(tmp_path, form, indent, name):
    document = json.dumps(form(feature()), indent=indent)
    image = read(tmp_path, document, name)
    assert pixels(image) == [[(y, x) for y in range(2, 6) for x in range(2, 6)]]
    assert recognise(tmp_path) == recognise(tmp_path / name) == "geojson"
    assert image.shape is None


def test_byte_order_marks_and_members_after_the_features_are_no_matter(tmp_path):
    text = json.dumps({"features": [feature()], "name": "x", "crs": {"features": [1]}, "type": "FeatureCollection"})
    (tmp_path / "a.geojson").write_text(text, encoding="utf-8-sig")
    assert len(only(tmp_path).cells) == 1


def test_geometries_of_all_kinds(tmp_path):
    line = {"type": "LineString", "coordinates": [[0, 0], [9, 9], [9, 0], [0, 0]]}
    lines = {"type": "MultiLineString", "coordinates": [[[0, 0], [9, 9]]]}
    nested = {
        "type": "GeometryCollection",
        "geometries": [{"type": "GeometryCollection", "geometries": [line, polygon()]}],
    }
    hole = [[3, 3], [3, 5], [5, 5], [5, 3], [3, 3]]
    geometries = {
        "holed": polygon(SQUARE, hole),
        "parts": {"type": "MultiPolygon", "coordinates": [[SQUARE, hole], [moved(10)], [moved(1)]]},
        "nested": nested,
        "point": {"type": "Point", "coordinates": [7.5, 8.5]},
        "points": {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4, 0]]},
        "heights": polygon([[x, y, 1] if x == 2 else [x, y] for x, y in SQUARE]),
        "open": polygon(SQUARE[:-1]),
        "empty": polygon([]) | {"coordinates": []},
        "no point": {"type": "Point", "coordinates": []},
    }
    image = read(
        tmp_path,
        collection(*[feature(one, name=key) for key, one in geometries.items()], feature(line), feature(lines)),
    )
    areas = {"holed": 12, "parts": 2 * 16 - 9 + 16, "nested": 16, "heights": 16, "open": 16}
    outlined = [cell for cell in image.cells if not cell.is_dot]
    shown = AnnotatedImage("a", (30, 30), tuple(outlined))
    assert shown.areas.tolist() == list(areas.values())
    assert [cell.rings[0].tolist() for cell in image.cells if cell.is_dot] == [[[7, 8]], [[0.5, 1.5]], [[2.5, 3.5]]]
    passed = image.attributes[geojson.REGIONS]
    assert [one["geometry"]["type"] for one in passed] == ["Polygon", "Point", "LineString", "MultiLineString"]


def test_an_outline_that_holds_no_pixels_middle_is_a_dot(tmp_path):
    tiny = polygon([[3.6, 4.6], [3.9, 4.6], [3.9, 4.9], [3.6, 4.9], [3.6, 4.6]])
    [cell] = cells_of(tmp_path, feature(tiny))
    assert cell.is_dot
    np.testing.assert_allclose(cell.rings[0], [[3.25, 4.25]])


def test_fractional_outlines_are_filled_as_shapely_has_it(tmp_path):
    rng = np.random.default_rng(3)
    outlines = []
    for _ in range(60):
        angles = np.linspace(0, 2 * np.pi, rng.integers(3, 20), endpoint=False)
        radius = rng.uniform(2, 12, len(angles))
        ring = rng.uniform(8, 22, 2) + radius[:, None] * np.column_stack((np.cos(angles), np.sin(angles)))
        outlines.append(np.round(ring, 2))
    found = cells_of(tmp_path, *[feature(polygon([*ring.tolist(), ring[0].tolist()])) for ring in outlines])
    image = AnnotatedImage("a", (40, 40), found)
    for cell, region, ring in zip(image.cells, image.regions, outlines, strict=True):
        expected = on_grid(shapely.Polygon(ring), (40, 40))
        drawn = np.zeros((40, 40), dtype=bool)
        if not cell.is_dot:
            drawn[region.top :, region.left :][: region.mask.shape[0], : region.mask.shape[1]] = region.mask
        np.testing.assert_array_equal(drawn, expected)


def test_cells_of_qupath_lose_their_nuclei_and_keep_the_rest(tmp_path):
    properties = {"objectType": "cell", "classification": None, "measurements": {"Nucleus: Area": 3}}
    [cell] = cells_of(tmp_path, feature(None, properties, id=UUID, nucleusGeometry={"type": "Nonsense"}))
    assert cell.attributes == {"id": UUID, "objectType": "cell", "measurements": {"Nucleus: Area": 3}}
    assert (cell.marker, cell.source_shape) == (None, "polygon")


@pytest.mark.parametrize(
    ("value", "marker"),
    [
        (None, None),
        ({}, None),
        ("Positive", "Positive"),
        ("", None),
        ({"name": "Positive", "color": [250, 62, 62]}, "Positive"),
        ({"name": "Positive", "colorRGB": -377282}, "Positive"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3, 128]}, "Tumor: Positive"),
        ({"name": None, "names": []}, None),
    ],
)
def test_classifications_of_all_versions_are_markers(tmp_path, value, marker):
    [cell] = cells_of(tmp_path, feature(None, {"objectType": "detection", "classification": value}))
    assert cell.marker == marker


def test_measurements_of_all_versions_and_what_is_no_number(tmp_path):
    listed = [{"name": "Detection probability", "value": 0.5}, {"name": "Area", "value": 3}]
    document = collection(feature(None, {"objectType": "detection", "measurements": listed}))
    [cell] = read(tmp_path, document).cells
    assert (cell.score, dict(cell.attributes)) == (0.5, {"measurements": {"Area": 3}})
    bare = '{"objectType": "detection", "name": "NaN, -Infinity", "measurements": {"a": NaN, "b": -Infinity, "c": Infinity}}'
    text = json.dumps(collection(feature(None, "HERE"))).replace('"HERE"', bare)
    [cell] = read(tmp_path, text).cells
    expected = {"name": "NaN, -Infinity", "measurements": {"a": "NaN", "b": "-Infinity", "c": "Infinity"}}
    assert cell.attributes == expected
    [cell] = read(tmp_path, text[len('{"type": "FeatureCollection", "features": [') : -2]).cells
    assert cell.attributes == expected
    [cell] = cells_of(
        tmp_path, feature(None, {"objectType": "detection", "measurements": {"Detection probability": 7}})
    )
    assert (cell.score, dict(cell.attributes)) == (None, {"measurements": {"Detection probability": 7}})


def test_ellipses_are_told(tmp_path):
    [cell] = cells_of(tmp_path, feature(polygon() | {"isEllipse": True}))
    assert cell.source_shape == "ellipse"


# ----------------------------------------------------------------------------------------------- what is a cell, what not


@pytest.mark.parametrize("certain", ["detection", "cell", "PathCellObject"])
def test_where_there_are_detections_annotations_are_no_cells_and_stay_with_the_picture(tmp_path, certain):
    tissue = typed("annotation", 1, name="tissue")
    sure = typed(certain, 2) if certain != "PathCellObject" else feature(None, {}, id="PathCellObject")
    others = [tissue, typed("tile"), typed("tmaCore"), typed("root"), feature(None, {})]
    image = read(tmp_path, collection(*others[:2], sure, *others[2:]))
    assert len(image.cells) == 1
    assert list(image.attributes[geojson.REGIONS]) == others
    # ... and are written back, and passed over again.
    out = tmp_path / "out"
    assert written(out, image.with_shape((30, 30)))["features"][1:] == others
    assert len(only(out).cells) == 1
    assert list(only(out).attributes[geojson.REGIONS]) == others


@pytest.mark.parametrize(
    "properties", [{"objectType": "annotation"}, {"object_type": "annotation"}, {}, None, {"type": "x"}]
)
def test_where_there_are_none_annotations_are_the_cells(tmp_path, properties):
    image = read(tmp_path, collection(feature() | {"properties": properties}, typed("root"), typed("tmaCore")))
    assert len(image.cells) == 1
    assert [one["properties"]["objectType"] for one in image.attributes[geojson.REGIONS]] == ["root", "tmaCore"]


def test_a_picture_without_cells_does_not_make_cells_of_its_regions(tmp_path):
    image = read(
        tmp_path, collection(typed("annotation", name="tissue"), feature({"type": "LineString", "coordinates": []}))
    )
    assert image.cells == ()
    assert len(image.attributes[geojson.REGIONS]) == 2
    assert written(tmp_path / "out", image.with_shape((9, 9)))["features"][1]["properties"]["name"] == "tissue"
    assert only(tmp_path / "out").cells == ()


def test_children_are_features_too(tmp_path):
    child = typed("detection", 3, childObjects=[typed("detection", 6)])
    tissue = typed("annotation", 1, name="tissue", children=[typed("detection"), child])
    image = read(tmp_path, collection(tissue, typed("detection", 9)))
    assert [cell.rings[0].min() for cell in image.cells] == [2, 5, 8, 11]
    assert image.attributes[geojson.REGIONS] == (typed("annotation", 1, name="tissue"),)


# ------------------------------------------------------------------------------------------------ pictures and their names


@pytest.mark.parametrize("name", ["a.geojson", "a.json.gz", "a.png.geojson", "sub/a.geojson"])
def test_pictures_give_their_names_and_sizes(tmp_path, name):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((7, 5), dtype=np.uint8))
    save(tmp_path / "in" / name, collection(feature()))
    image = only(tmp_path / "in", tmp_path / "pictures")
    assert (image.name, image.shape) == ("a.png", (7, 5))


def test_without_the_pictures_files_are_named_by_themselves(tmp_path):
    for name in ("slide.01.geojson", "b.tif.geojson.gz", "c.json"):
        save(tmp_path / name, collection(feature()))
    assert [(image.name, image.stem) for image in geojson.CODEC.read(tmp_path)] == [
        ("b.tif", "b"),
        ("c.json", "c"),
        ("slide.01.geojson", "slide.01"),
    ]


def test_a_size_that_the_picture_contradicts_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((7, 5), dtype=np.uint8))
    geojson.CODEC.write(tmp_path / "out", [AnnotatedImage("a.png", (5, 7), ())])
    with pytest.raises(InputError, match=r"7 x 5 pixels, as the annotations of 'a\.png' say, found 5 x 7"):
        only(tmp_path / "out", tmp_path)


def test_a_picture_named_twice_is_refused_and_the_first_is_read(tmp_path):
    geojson.CODEC.write(tmp_path, [AnnotatedImage("a.png", (5, 7), ())])
    (tmp_path / "b.geojson").write_bytes((tmp_path / "a.geojson").read_bytes())
    first, second = geojson.CODEC.find(tmp_path, None)
    assert first.read().name == "a.png"
    with pytest.raises(InputError, match=r"each picture once, found 'a\.png' twice"):
        second.read()


def test_other_files_are_no_geojson(tmp_path):
    save(tmp_path / "a.json", {"shapes": []})
    save(tmp_path / ".b.geojson", collection())
    save(tmp_path / "fncells-run.json", collection())
    save(tmp_path / "c.txt", json.dumps(collection()))
    (tmp_path / "d.json.gz").write_bytes(b"\x1f\x8bno")
    assert not geojson.CODEC.recognises(tmp_path)
    assert not geojson.CODEC.recognises(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"expected GeoJSON files \(\.geojson, \.json, \.gz\), found none"):
        only(tmp_path)
    with pytest.raises(InputError, match=r"found none"):
        only(tmp_path / "missing")
    assert only(save(tmp_path / "e.geojson", collection())).cells == ()
    assert geojson.CODEC.recognises(tmp_path)


def test_a_broken_picture_does_not_take_the_others_with_it(tmp_path):
    geojson.CODEC.write(tmp_path / "in", [AnnotatedImage.from_labels(f"{name}.png", drawn_map(1)) for name in "abc"])
    save(tmp_path / "in" / "b.geojson", "{")
    report = convert(tmp_path / "in", tmp_path / "out", "labels")
    assert [losses.picture for losses in report.pictures] == ["a.png", "c.png"]
    assert "b.geojson" in report.failed[0][1]


# ------------------------------------------------------------------------------------------------------------- refusals


def with_properties(**properties):
    return collection(feature(None, {"objectType": "detection", **properties}))


def with_head(**head):
    return collection(feature(), fncells={"picture": "a.png", "width": 20, "height": 20, **head})


def with_ring(*points):
    return collection(feature(polygon(list(points))))


def nested(depth):
    geometry = polygon()
    for _ in range(depth):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    return geometry


def with_children(depth):
    child = feature()
    for _ in range(depth):
        child = feature(None, {"objectType": "annotation", "childObjects": [child]})
    return child


HOSTILE = {
    "a number": (5, "expected a FeatureCollection, a list of features, or a Feature, found the number 5"),
    "text": ('"x"', "found the text 'x'"),
    "an object": ({"a": 1}, "an object whose type is null"),
    "a geometry": (polygon(), "an object whose type is the text 'Polygon'"),
    "another type": ({"type": ["Feature"]}, "an object whose type is a list"),
    "no features": ({"type": "FeatureCollection"}, "features: expected a list, found nothing"),
    "features as object": (
        {"type": "FeatureCollection", "features": feature()},
        "features: expected a list, found an object",
    ),
    "a null feature": (collection(None), "features: expected objects only"),
    "a feature as list": (collection([feature()]), "features: expected objects only"),
    "a feature as number": (collection(0), "features: expected objects only"),
    "a list of numbers": ([0], "features: expected objects only"),
    "no Feature": (
        collection({"type": "feature"}),
        "feature 0: expected a Feature, found an object whose type is the text",
    ),
    "a Feature with features": ({**feature(), "features": [feature()]}, "expected a Feature, found one with a list"),
    "features twice": ('{"type": "FeatureCollection", "features": [], "features": []}', "the key 'features' twice"),
    "properties as list": (collection(feature(None, [])), "feature 0, properties: expected an object, found a list"),
    "a child as text": (
        with_properties(childObjects=["x"]),
        "feature 0, child 0: expected a Feature, found the text 'x'",
    ),
    "children without end": (with_children(100), "nested at most 64 deep"),
    "geometry as text": (
        collection(feature("x")),
        "feature 0, geometry: expected a geometry out of Polygon, .* the text 'x'",
    ),
    "an unknown geometry": (collection(feature({"type": "Circle"})), "found the text 'Circle'"),
    "a geometry's type as list": (collection(feature({"type": []})), "expected a geometry out of"),
    "no geometries": (collection(feature({"type": "GeometryCollection"})), "geometries as a list"),
    "geometries without end": (collection(feature(nested(100))), "at most 64 deep"),
    "no coordinates": (collection(feature({"type": "Polygon"})), "Polygon: expected coordinates as a list, found null"),
    "a ring as number": (collection(feature(polygon(5))), "Polygon: expected positions as lists"),
    "no point as point": (
        collection(feature({"type": "Point", "coordinates": 5})),
        "Point: expected positions as lists",
    ),
    "a point of text": (collection(feature({"type": "Point", "coordinates": ["1", "2"]})), "the text '1' at 0"),
    "points of one": (
        collection(feature({"type": "MultiPoint", "coordinates": [[1]]})),
        "positions of 2 to 4 numbers, .* 1",
    ),
    "two points": (with_ring([1, 1], [5, 5]), "rings of at least 3 points, found one of 2"),
    "two points and the first": (with_ring([1, 1], [5, 5], [1, 1]), "rings of at least 3 points, found one of 2"),
    "an empty ring": (with_ring(), "rings of at least 3 points, found one of 0"),
    "one number": (with_ring([1], [2], [3]), "positions of 2 to 4 numbers, found one of 1"),
    "nine numbers": (with_ring([1] * 9, [2] * 9, [3] * 9), "positions of 2 to 4 numbers, found one of 9"),
    "text as x": (with_ring(["1", 1], [2, 2], [3, 3]), "coordinates, found the text '1' at 0"),
    "null as x": (with_ring([1, 1], [None, 2], [3, 3]), "coordinates, found null at 2"),
    "true as x": (with_ring([1, 1], [True, 2], [3, 3]), "coordinates, found true or false at 2"),
    "NaN as x": (json.dumps(with_ring([1, 1], [2, float("nan")], [3, 3])), "coordinates, found the text 'NaN' at 3"),
    "infinity as x": (
        json.dumps(with_ring([1, 1], [2, float("-inf")], [3, 3])),
        "coordinates, found the text '-Infinity'",
    ),
    "a number without bound": (json.dumps(with_ring([1, 1], [2, 2], [3, 3])).replace("2", "1e999"), "finite numbers"),
    "far away": (with_ring([1, 1], [2, 1e7], [3, 3]), "numbers up to 1000000 px in coordinates"),
    "400 digits": (with_ring([1, 1], [2, 10**400], [3, 3]), "numbers up to 1000000 px in coordinates"),
    "a giant": (with_ring([0, 0], [9e5, 0], [9e5, 9e5]), "the outline of a cell, found one too large to be one"),
    "a tangle": (with_ring(*[[0, 0], [8000, 1]] * 20_000), "the outline of a cell, found one too large or too tangled"),
    "parts far apart": (
        collection(feature({"type": "MultiPolygon", "coordinates": [[SQUARE], [moved(9e5)]]})),
        "parts too far from each other",
    ),
    "giants in numbers": (
        collection(*[feature(polygon(moved(0, [[0, 0], [7000, 0], [7000, 7000]])))] * 20),
        "too large",
    ),
    "a class as number": (with_properties(classification=5), "classification: expected a name, .*, found the number 5"),
    "a class's name as list": (with_properties(classification={"name": []}), "classification, name: expected text"),
    "measurements as text": (with_properties(measurements="x"), "measurements: expected an object"),
    "measurements without names": (with_properties(measurements=[{"value": 1}]), "measurements with their names"),
    "our notes as list": (with_properties(fncells=[1]), "fncells: expected fncells's notes as an object"),
    "number 0": (with_properties(fncells={"number": 0}), "feature 0, number: expected a whole number from 1"),
    "number as text": (with_properties(fncells={"number": "5"}), "feature 0, number: expected a whole number from 1"),
    "number twice": (
        collection(*[feature(None, {"objectType": "cell", "fncells": {"number": 5}})] * 2),
        "feature 1: expected each number once, found number 5 twice",
    ),
    "an unknown shape": (with_properties(fncells={"source_shape": "star"}), "source_shape: expected one of"),
    "attributes as list": (with_properties(fncells={"attributes": [1]}), "feature 0: expected attributes as an object"),
    "fncells's own note": (with_properties(fncells={"attributes": {"fncells.x": 1}}), "do not begin with 'fncells.'"),
    "fncells's own note as property": (with_properties(**{"fncells.x": 1}), "do not begin with 'fncells.'"),
    "head as list": (collection(fncells=[1]), "fncells: expected the picture's name and size as an object"),
    "no name": (with_head(picture=None), "fncells, picture: expected text, found null"),
    "an empty name": (with_head(picture=""), "fncells, picture: expected a picture's file name"),
    "a width in words": (with_head(width="20"), "fncells, height and width: expected height and width"),
    "a true width": (with_head(width=True), "fncells, height and width"),
    "a negative width": (with_head(width=-1), "fncells, height and width"),
    "a giant picture": (with_head(width=10**6, height=10**6), "a picture of at most"),
    "the picture's attributes as text": (with_head(attributes="x"), "fncells: expected attributes as an object"),
    "the picture's reserved attribute": (with_head(attributes={geojson.REGIONS: []}), "do not begin with 'fncells.'"),
    "half a file": (json.dumps(collection(feature()))[:-20], "item 0: expected JSON, found the end of the file"),
    "no end": (json.dumps(collection(feature()))[:-1], "line 1, column .*: expected JSON"),
    "no comma": (json.dumps(collection(feature(), feature())).replace("}}, {", "}} {"), "expected JSON"),
    "a feature that is no JSON": ('[{"type": Feature}]', "feature 0, line 1, column 10: expected JSON"),
    "a key twice": ('[{"type": "Feature", "type": "Feature"}]', "feature 0: expected each key once"),
    "half a pair": (collection(feature(None, {"name": "\\ud800"})), "half of a surrogate pair"),
    "empty": ("", "an empty file"),
    "spaces": ("  \n", "an empty file"),
    "deep": ("[" * 100_000, "nested too deep"),
    "deep in a feature": (
        '[{"a":' + "[" * 100_000 + "]" * 100_000 + "}]",
        "feature 0: expected JSON, found values nested too deep",
    ),
    "more digits than Python reads": (f'[{{"a": {"9" * 5000}}}]', "a number too long"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_what_is_no_geojson_is_refused_in_one_line(tmp_path, fault):
    document, said = HOSTILE[fault]
    text = document if isinstance(document, str) else json.dumps(document).replace("\\\\ud800", "\\ud800")
    path = save(tmp_path / "a.geojson", text)
    start = time.process_time()
    with pytest.raises(InputError, match=said) as refusal:
        only(path)
    assert time.process_time() - start < LONGEST
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


VALID = {
    "children": (with_children(30), 1),
    "geometries": (collection(feature(nested(30))), 1),
    "a ring": (with_ring([1, 1], [5, 5], [1, 5]), 1),
    "a large outline": (with_ring([0, 0], [7000, 0], [7000, 7000]), 1),
    "beyond the picture": (with_head(width=3, height=3), 1),
    "left of the picture": (with_ring([-9, -9], [-5, -9], [-5, -5]), 1),
    "a back and forth": (with_ring(*[[0, 0], [800, 1]] * 2000, [0, 9]), 1),
    "parts": (collection(feature({"type": "MultiPolygon", "coordinates": [[SQUARE], [moved(900)]]})), 1),
    "measurements": (with_properties(measurements={"a": 1}), 1),
    "numbers": (with_properties(fncells={"number": 5}), 1),
    "shape": (with_properties(fncells={"source_shape": "rect"}), 1),
    "head": (with_head(), 1),
    "a list": ([feature(), feature()], 2),
    "a giant that is passed over": (collection(feature(), typed("annotation", 9e5)), 1),
}


@pytest.mark.parametrize("twin", VALID)
def test_their_valid_twins_are_read(tmp_path, twin):
    document, count = VALID[twin]
    image = read(tmp_path, document)
    assert len(image.cells) == count
    _ = image.with_shape((9, 9)).labels


def test_ten_million_points_are_refused_before_they_take_memory(tmp_path):
    for count in (100_000, 10**7):
        ring = "[" + "[1,2],[3,4]," * (count // 2) + "[9,1]]"
        (tmp_path / f"{count}.geojson").write_text(
            f'[{{"type":"Feature","geometry":{{"type":"Polygon","coordinates":[{ring}]}}}}]'
        )
    assert len(only(tmp_path / "100000.geojson").cells) == 1
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(InputError, match=r"item 0: expected values of at most .* characters, found a longer one"):
        only(tmp_path / "10000000.geojson")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e8
    assert time.process_time() - start < LONGEST


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
        (AnnotatedImage("b.png", (9, 9), (), {geojson.REGIONS: ({"a": float("inf")},)}), "values that JSON can hold"),
        (AnnotatedImage("b.png", (9, 9), (square(1, 1, 3, number=2), square(4, 4, 3, number=2))), "each number once"),
    ],
)
def test_what_cannot_be_written_leaves_no_trace_and_others_go_on(tmp_path, image, said):
    with geojson.writing(tmp_path) as add:
        add(AnnotatedImage("a.png", (9, 9), ()))
        with pytest.raises(InputError, match=said):
            add(image)
        if image.name == "b.png":
            add(AnnotatedImage("b.png", (9, 9), ()))
        add(AnnotatedImage("c.png", (9, 9), ()))
    names = [path.name for path in sorted(tmp_path.rglob("*"))]
    assert names == ["a.geojson", *(["b.geojson"] if image.name == "b.png" else []), "c.geojson"]


def test_notes_that_are_no_features_are_passed_over(tmp_path):
    for note in ("x", {"a": 1}, [1, "x"], (feature(), 3)):
        found = written(tmp_path / str(type(note)), AnnotatedImage("a.png", (9, 9), (), {geojson.REGIONS: note}))
        assert found["features"] == ([feature()] if isinstance(note, tuple) else [])
    cell = Cell((), source_shape="point")
    assert written(tmp_path / "dot", AnnotatedImage("a.png", (9, 9), (cell, Cell(()))))["features"] == []


# --------------------------------------------------------------------------------------------------------------- mutants


def source_document(folder):
    document = written(folder, rich())
    document["features"][0]["properties"] |= {"measurements": {"Detection probability": 0.5, "a": 1}, "name": "x"}
    document["features"] += [typed("annotation", childObjects=[typed("cell")]), feature(nested(2), id=UUID)]
    document["features"][-1]["properties"]["classification"] = {"names": ["a", "b"], "color": [1, 2, 3]}
    return document


def outcome(folder, count, seed):
    texts = mutants(source_document(folder / "valid"), count, seed)
    (folder / "in").mkdir()
    return endings(geojson.CODEC, folder / "in" / "a.geojson", folder / "out", texts)


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 500, 3)
    assert min(counts.values()) > 50, counts


@pytest.mark.slow
def test_every_mutant_of_many_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 5000, 4)
    assert min(counts.values()) > 500, counts


def test_mutants_of_compressed_files_end_in_a_value_or_one_line(tmp_path):
    rng = random.Random(8)
    whole = gzip.compress(json.dumps(source_document(tmp_path / "valid")).encode(), mtime=0)

    def broken():
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(rng.randint(0, 2)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            yield bytes(data)

    (tmp_path / "in").mkdir()
    counts = endings(geojson.CODEC, tmp_path / "in" / "a.geojson.gz", tmp_path / "out", broken())
    assert min(counts.values()) > 50, counts


# ---------------------------------------------------------------------------------------------------------------- memory


def many_cells(count):
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.round(np.column_stack((12 * np.cos(angles), 10 * np.sin(angles))))
    places = [(20 + 30 * (index % 400), 20 + 30 * (index // 400)) for index in range(count)]
    cells = tuple(Cell((ring + place,), marker="c-FOS", score=0.5) for place in places)
    return AnnotatedImage("a.png", (30 * (count // 400) + 60, 12_100), cells)


def grown(action):
    """How many megabytes the process had to grow for an action."""
    import resource  # not on Windows

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    action()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def grown_by_writing(folder, compressed):
    image = many_cells(100_000)

    def write():
        with geojson.writing(folder, compressed=compressed) as add:
            add(image)

    return grown(write)


def grown_by_reading(folder):
    return grown(lambda: only(folder))


def in_a_new_process(call):
    """Give what a function of this module returns there, where nothing has grown yet."""
    code = f"from pathlib import Path\nfrom formats import test_geojson\nprint(test_geojson.{call})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_a_hundred_thousand_cells_are_written_and_read_in_bounded_memory(tmp_path, compressed):
    written_with = in_a_new_process(f"grown_by_writing(Path({str(tmp_path)!r}), {compressed})")
    [path] = tmp_path.iterdir()
    assert path.stat().st_size > (1e7 if compressed else 9e7)
    # A tenth of what the features would take as Python has them; measured are 14 MB.
    assert written_with < 50
    # The cells themselves take 70 MB.
    assert in_a_new_process(f"grown_by_reading(Path({str(tmp_path)!r}))") < 200
