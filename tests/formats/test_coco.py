import contextlib
import io
import json
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import coco, convert, recognise
from formats import archive_files
from formats.endings import LONGEST, endings
from formats.label_maps import drawn_map, label_maps
from formats.mutation import mutants

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def square(x, y, side, **more):
    return Cell((np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], dtype=float),), **more)


def rich():
    ring = square(2, 2, 9).rings + square(5, 5, 3).rings
    cells = (
        square(20, 2, 6, number=7, marker="CTb", score=0.5, attributes={"note": "grün", "deep": {"a": [1, None]}}),
        Cell((np.array([[30.5, 3.0]]),), source_shape="point", marker="dot"),
        square(23, 4, 6, source_shape="rect"),
        Cell(ring),
        Cell(square(2, 20, 3).rings + square(6, 24, 3).rings, marker="c-FOS"),
        square(100, 100, 5),
    )
    return AnnotatedImage("sub/a.tif", (30, 40), cells, {"slide": 3})


def save(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document, ensure_ascii=False))
    return path


def read(path, images=None):
    return list(coco.CODEC.read(path, images))


def loaded(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


# ---------------------------------------------------------------------------------------------------------- round trips


def test_everything_but_vertices_survives_and_what_has_no_pixel_is_left_out(tmp_path):
    coco.CODEC.write(tmp_path / "a.json", [rich(), AnnotatedImage("b.png", (5, 6), ())])
    again, empty = read(tmp_path / "a.json")
    assert (again.name, again.shape, again.attributes) == ("sub/a.tif", (30, 40), {"slide": 3})
    assert (empty.name, empty.shape, empty.cells) == ("b.png", (5, 6), ())
    before = rich().cells[:-1]
    assert len(again.cells) == len(before)
    assert again.numbers.tolist() == rich().numbers.tolist()[:-1]
    for mine, theirs, mine_pixels, theirs_pixels in zip(before, again.cells, rich().pixels, again.pixels, strict=False):
        assert (mine.marker, mine.score, mine.source_shape) == (theirs.marker, theirs.score, theirs.source_shape)
        assert dict(mine.attributes) == dict(theirs.attributes)
        np.testing.assert_array_equal(mine_pixels, theirs_pixels)
    assert again.cells[1].rings[0].tolist() == [[30.5, 3.0]]


def test_what_is_written_has_what_coco_asks_for(tmp_path):
    coco.CODEC.write(tmp_path / "a.json", [rich(), rich_named("b.png")])
    document = json.loads((tmp_path / "a.json").read_text())
    assert [image["id"] for image in document["images"]] == [1, 2]
    assert [image["count"] for image in document["images"]] == [5, 5]
    ids = [annotation["id"] for annotation in document["annotations"]]
    assert len(set(ids)) == len(ids) == 8
    assert document["categories"] == [
        {"id": 1, "name": "CTb", "supercategory": "cytoplasm"},
        {"id": 2, "name": "cell"},
        {"id": 3, "name": "c-FOS", "supercategory": "nucleus"},
    ]
    first, second, ring, parts = document["annotations"][:4]
    assert first["segmentation"] == [[20, 2, 27, 2, 27, 9, 20, 9]]
    assert (first["area"], first["bbox"], first["iscrowd"]) == (49, [20, 2, 7, 7], 0)
    assert first["dot"] == [23.5, 5.5]
    assert second["bbox"] == [23, 4, 7, 7]
    assert sorted(ring["segmentation"]) == ["counts", "size"]
    assert [len(polygon) for polygon in parts["segmentation"]] == [8, 8]


def rich_named(name):
    return AnnotatedImage(name, rich().shape, rich().cells)


def test_bytes_are_the_same_and_no_pictures_are_a_valid_file(tmp_path):
    for name in ("a.json", "b.json"):
        coco.CODEC.write(tmp_path / name, [rich()])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    coco.CODEC.write(tmp_path / "none.json", [])
    assert read(tmp_path / "none.json") == []
    assert loaded(tmp_path / "none.json").imgs == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json", "none.json"]


def round_trip(folder, labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    coco.CODEC.write(folder / "a.json", [image])
    [again] = read(folder / "a.json")
    np.testing.assert_array_equal(again.labels, labels)
    reader = loaded(folder / "a.json")
    for number, annotation in zip(image.numbers, reader.dataset["annotations"], strict=True):
        np.testing.assert_array_equal(reader.annToMask(annotation), labels == number)
        assert annotation["area"] == coco_mask.area(reader.annToRLE(annotation))
        assert annotation["bbox"] == coco_mask.toBbox(reader.annToRLE(annotation)).tolist()


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive_here_and_in_pycocotools(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp(), labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_here_and_in_pycocotools_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp(), labels)


@pytest.mark.parametrize("way", ["segm", "bbox"])
def test_truth_against_itself_scores_1_in_cocoeval(tmp_path, way):
    images = [AnnotatedImage.from_labels(f"{seed}.png", drawn_map(seed, 40)) for seed in range(40)]
    coco.CODEC.write(tmp_path / "a.json", [*images, rich()])
    truth = loaded(tmp_path / "a.json")
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes([{**annotation, "score": 1.0} for annotation in truth.dataset["annotations"]])
        scores = COCOeval(truth, found, way)
        scores.params.maxDets = [1, 10, 1000]
        scores.evaluate()
        scores.accumulate()
    precision = scores.eval["precision"][..., -1]  # with up to 1,000 found in a picture
    assert len(truth.anns) > 200
    np.testing.assert_allclose(
        precision[:, :, :, 0], 1.0, rtol=1e-12
    )  # of all sizes, of every category, at every threshold


# ------------------------------------------------------------------------------------------------- files of other tools


def foreign(*annotations, **image):
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 15, **image}],
        "annotations": [{"image_id": 1, **annotation} for annotation in annotations],
        "categories": [{"id": 4, "name": "Orx"}],
    }


def cells_of(tmp_path, *annotations):
    [image] = read(save(tmp_path / "a.json", foreign(*annotations)))
    return image


TRIANGLE = [2.2, 1.7, 12.9, 3.1, 5.4, 11.6]


def test_fractional_polygons_give_the_pixels_of_pycocotools(tmp_path):
    image = cells_of(tmp_path, {"id": 3, "category_id": 4, "segmentation": [TRIANGLE]})
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([TRIANGLE], 15, 20)))
    np.testing.assert_array_equal(image.mask, expected > 0)
    assert image.cells[0].marker == "Orx"


def test_polygons_of_one_cell_are_taken_together_even_where_they_overlap(tmp_path):
    other = [4, 4, 15, 4, 15, 14, 4, 14]
    image = cells_of(tmp_path, {"id": 3, "segmentation": [TRIANGLE, other]})
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([TRIANGLE, other], 15, 20)))
    assert len(image.cells) == 1
    np.testing.assert_array_equal(image.mask, expected > 0)


def test_a_polygon_without_the_outer_list_runs_as_numbers_and_boxes_are_read(tmp_path):
    mask = np.zeros((15, 20), dtype=np.uint8)
    mask[3:6, 4:8] = 1
    runs = [0, *np.diff(np.flatnonzero(np.diff(np.concatenate(([0], mask.T.ravel(), [0]))))).tolist()]
    runs[0] = int(np.flatnonzero(mask.T.ravel())[0])
    runs.append(15 * 20 - sum(runs))
    image = cells_of(
        tmp_path,
        {"segmentation": [4, 3, 8, 3, 8, 6, 4, 6]},
        {"segmentation": {"size": [15, 20], "counts": runs}},
        {"bbox": [4, 3, 4, 3]},
        {"segmentation": [], "bbox": [4.0, 3.0, 4.0, 3.0]},
    )
    for pixels in image.pixels:
        np.testing.assert_array_equal(pixels, np.flatnonzero(mask))
    assert [cell.source_shape for cell in image.cells] == ["polygon", "polygon", "rect", "rect"]


def test_what_holds_no_pixels_middle_is_a_dot_where_it_lies(tmp_path):
    image = cells_of(
        tmp_path,
        {"segmentation": [[3.6, 3.6, 3.9, 3.6, 3.9, 3.9, 3.6, 3.9]]},
        {"segmentation": {"size": [15, 20], "counts": [300]}, "bbox": [3, 4, 1, 1]},
    )
    assert all(cell.is_dot for cell in image.cells)
    np.testing.assert_allclose(image.centres, [[3.25, 3.25], [3, 4]])


def test_what_else_an_annotation_says_is_kept_as_attributes(tmp_path):
    document = foreign(
        {"id": 9, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0, "attributes": {"occluded": True}, "track": 5}
    )
    [image] = read(save(tmp_path / "a.json", document))
    assert dict(image.cells[0].attributes) == {"occluded": True, "track": 5}
    document["annotations"][0]["attributes"] = ["odd"]
    [image] = read(save(tmp_path / "a.json", document))
    assert dict(image.cells[0].attributes) == {"attributes": ["odd"], "track": 5}


def test_cells_keep_the_order_of_the_file_whatever_their_ids(tmp_path):
    image = cells_of(tmp_path, *({"id": number, "bbox": [number, 1, 1, 1]} for number in (5, 2, 9)))
    assert image.boxes[:, 0].tolist() == [5, 2, 9]


def test_results_are_read_without_pictures(tmp_path):
    runs = {"size": [15, 20], "counts": [100, 7, 193]}
    results = [
        {"image_id": 42, "category_id": 18, "segmentation": runs, "score": 0.75},
        {"image_id": "x", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 42, "category_id": 18, "segmentation": runs, "score": 0.25},
    ]
    path = save(tmp_path / "a.json", results)
    assert recognise(path) == "coco"
    one, other = read(path)
    assert (one.name, one.shape, [cell.score for cell in one.cells]) == ("42.png", (15, 20), [0.75, 0.25])
    assert (other.name, other.shape, other.with_shape((9, 9)).boxes.tolist()) == ("x.png", None, [[1, 2, 3, 5]])
    assert one.cells[0].marker is None


def test_pictures_give_the_size_that_a_file_lacks(tmp_path):
    document = foreign({"segmentation": [[-5, -5, 30, -5, 30, 30, -5, 30]]})
    del document["images"][0]["height"]
    path = save(tmp_path / "a.json", document)
    assert read(path)[0].shape is None
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((8, 9), dtype=np.uint8))
    [image] = read(path, tmp_path / "images")
    assert (image.shape, image.areas.tolist()) == ((8, 9), [72])
    with pytest.raises(InputError, match="20 x 15 pixels"):
        read(save(path, foreign()), tmp_path / "images")


def test_real_results_are_read(data):
    folder = data / "formats" / "coco_results_rle"
    [segments] = [read(path) for path in folder.glob("*segm100*")]
    [boxes] = [read(path) for path in folder.glob("*bbox100*")]
    assert (len(segments), sum(len(image.cells) for image in segments)) == (99, 734)
    assert (len(boxes), sum(len(image.cells) for image in boxes)) == (99, 734)
    raw = json.loads(next(folder.glob("*segm100*")).read_text())
    by_picture = {image.stem: list(image.pixels) for image in segments}
    for result in raw:
        expected = np.flatnonzero(coco_mask.decode(result["segmentation"]))
        np.testing.assert_array_equal(by_picture[str(result["image_id"])].pop(0), expected)


# --------------------------------------------------------------------------------------------------- the archive's files


def test_the_archives_files_are_read_with_every_cell_where_it_lies(tmp_path):
    masks = {str(number): archive_files.mask_with_a_ring(number) for number in range(4)}
    path = save(tmp_path / "a.json", archive_files.coco(masks))
    assert recognise(path) == "coco"
    with pytest.raises(KeyError):
        loaded(path)
    for image in read(path):
        contours = archive_files.contours_of(masks[image.stem])
        assert image.shape == masks[image.stem].shape
        assert [cell.marker for cell in image.cells] == ["CTb"] * len(contours)
        for cell, contour, centre in zip(image.cells, contours, image.centres, strict=True):
            np.testing.assert_array_equal(cell.rings[0], contour[: archive_files.MOST_POINTS])
            assert cv2.pointPolygonTest(np.array(contour), centre.tolist(), measureDist=False) >= 0


def test_the_published_dialect_has_the_archives_keys_and_every_dot_on_its_own_cell(tmp_path):
    masks = {str(number): archive_files.mask_with_a_ring(number) for number in range(4)}
    images = [
        AnnotatedImage(
            f"{stem}.png",
            mask.shape,
            tuple(Cell(cell.rings, cell.number, "CTb") for cell in AnnotatedImage.from_mask("x", mask > 0).cells),
            {"split": "trainval", "path": f"yellow/{stem}.png", "segmentation_type": "manual"},
        )
        for stem, mask in masks.items()
    ]
    coco.CODEC.published.write(tmp_path / "a.json", images)
    document = json.loads((tmp_path / "a.json").read_text())
    real = json.loads(archive_files.coco(masks))
    assert sorted(document) == sorted(real)
    assert list(document["images"][0]) == list(real["images"][0])
    assert list(document["annotations"][0]) == list(real["annotations"][0])
    for annotation, (stem, mask) in zip(document["annotations"], masks.items(), strict=True):
        assert (annotation["image_id"], annotation["segmentation_type"], annotation["category_id"]) == (
            stem,
            "manual",
            2,
        )
        lists = [annotation[key] for key in ("segmentation", "bbox", "area", "dots")]
        assert {len(values) for values in lists} == {annotation["count"]}
        assert annotation["count"] == cv2.connectedComponents(mask, connectivity=8)[0] - 1
        for polygon, box, area, dot in zip(*lists, strict=True):
            drawn = cv2.fillPoly(np.zeros_like(mask), [np.array(polygon)], 1)
            y, x = np.nonzero(drawn)
            assert area == len(x)
            assert box == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert dot == [x.mean(), y.mean()]
    again = read(tmp_path / "a.json")
    assert [len(image.cells) for image in again] == [len(image.cells) for image in images]


def test_the_published_dialect_leaves_out_what_is_unknown_and_parts_cells(tmp_path):
    coco.CODEC.published.write(tmp_path / "a.json", [AnnotatedImage("a.png", (30, 40), rich().cells[3:5])])
    [annotation] = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert "segmentation_type" not in annotation
    assert annotation["category_id"] == 1
    assert annotation["count"] == 3
    report = convert(tmp_path / "a.json", tmp_path / "b.json", "coco")
    assert report.total["n_cells"] == 3


# ------------------------------------------------------------------------------------------------------------ broken ones


def with_annotation(**more):
    return foreign({"id": 1, "category_id": 4, "segmentation": [TRIANGLE], **more})


FAULTS = {
    "two points": (
        with_annotation(segmentation=[[1, 1, 5, 5]]),
        "annotations 0, segmentation: expected x and y of at least 3 points in polygon 0, found 4",
    ),
    "odd numbers": (with_annotation(segmentation=[[1, 1, 5, 5, 3]]), "at least 3 points"),
    "text in a polygon": (with_annotation(segmentation=[[1, 1, 5, "5", 3, 3]]), "polygon 0, found the text '5' at 3"),
    "truth in a polygon": (with_annotation(segmentation=[[1, 1, 5, True, 3, 3]]), "found true or false at 3"),
    "far away": (with_annotation(segmentation=[[1, 1, 1e300, 5, 3, 3]]), "numbers up to 1000000 px"),
    "polygon of lists": (with_annotation(segmentation=[[[1, 1], [2, 2]]]), "polygon 0, found a list at 0"),
    "segmentation is text": (with_annotation(segmentation="x"), "expected polygons or run lengths"),
    "runs do not add up": (
        with_annotation(segmentation={"size": [15, 20], "counts": [5]}),
        "segmentation, counts: expected runs that add up",
    ),
    "runs of another size": (
        with_annotation(segmentation={"size": [20, 15], "counts": [300]}),
        r"segmentation, size: expected \[15, 20\]",
    ),
    "empty and no box": (with_annotation(segmentation=[]), "expected a segmentation or a bbox, found neither"),
    "box of three": (with_annotation(segmentation=[], bbox=[1, 2, 3]), "bbox: expected x, y, width and height"),
    "negative box": (with_annotation(segmentation=[], bbox=[1, 2, -3, 1]), "at least 0"),
    "box is text": (with_annotation(segmentation=[], bbox="x"), "bbox as a list of numbers"),
    "unknown category": (with_annotation(category_id=9), "category_id: expected the id of a category"),
    "category is text": (with_annotation(category_id="9"), "category_id: expected a whole number"),
    "unknown picture": (with_annotation(image_id=7), "expected an image with a file_name, found none"),
    "reserved attribute": (with_annotation(attributes={"fncells.x": 1}), "do not begin with"),
    "score is text": (with_annotation(score="high"), "score: expected a number"),
    "dots are text": (foreign(dots="x"), "images 0, dots: expected a list of objects"),
    "dot of one": (foreign(dots=[{"dot": [1]}]), "images 0, dots 0, dot: expected x and y"),
    "height is text": (foreign(height="15"), "height and width"),
    "no width": (foreign(width=None), "height and width"),
    "giant picture": (foreign(width=10**6, height=10**6), "at most 1073741824 pixels"),
    "no name": (foreign(file_name=None), "images 0: expected an image with a file_name, found none"),
    "name is a number": (foreign(file_name=5), "found the number 5"),
    "name is empty": (foreign(file_name=""), "a picture's file name"),
    "attributes of a picture are text": (foreign(attributes="x"), "attributes as an object"),
    "published polygon is text": (
        with_annotation(bbox=[[1, 1, 1, 1]], dots=[], segmentation=["x"]),
        "polygon 0: expected a list of points",
    ),
    "published point of three": (
        with_annotation(bbox=[[1, 1, 1, 1]], dots=[], segmentation=[[[1, 2, 3]]]),
        "expected x and y",
    ),
    "published polygons are text": (
        with_annotation(bbox=[[1, 1, 1, 1]], dots=[], segmentation="x"),
        "a list of polygons",
    ),
}
WHOLE = {
    "images are text": ({**foreign(), "images": "x"}, "images: expected a list"),
    "no annotations": ({"images": []}, "annotations: expected a list, found nothing"),
    "image is text": ({**foreign(), "images": ["x"]}, "images 0: expected an object"),
    "annotation is text": ({**foreign(), "annotations": ["x"]}, "annotations 0: expected an object"),
    "category is a list": ({**foreign(), "categories": [[]]}, "categories 0: expected an object"),
    "category without id": ({**foreign(), "categories": [{"name": "x"}]}, "categories 0, id"),
    "category without name": ({**foreign(), "categories": [{"id": 1}]}, "categories 0, name"),
    "image id is a list": ({**foreign(), "images": [{"id": [1]}]}, "images 0, id"),
    "image id is truth": ({**foreign(), "images": [{"id": True}]}, "images 0, id"),
    "image twice": ({**foreign(), "images": [{"id": 1}, {"id": 1}]}, "each id once, found 1 twice"),
    "annotation without image": ({**foreign(), "annotations": [{"id": 1}]}, "annotations 0, image_id"),
    "a number": (5, "expected COCO's annotations"),
    "NaN": ('{"images": [], "annotations": [NaN]}', "finite numbers"),
    "deep": ('{"images": ' + "[" * 100_000, "nested too deep"),
}


@pytest.mark.parametrize("fault", FAULTS | WHOLE)
def test_faults_are_refused_in_one_line(tmp_path, fault):
    document, said = (FAULTS | WHOLE)[fault]
    assert len(read(save(tmp_path / "good.json", with_annotation()))[0].cells) == 1
    with pytest.raises(InputError, match=said) as refusal:
        read(save(tmp_path / "a.json", document))
    assert str(refusal.value).startswith(str(tmp_path / "a.json"))
    assert "\n" not in str(refusal.value)


def test_a_broken_picture_is_named_and_the_others_are_converted(tmp_path):
    document = foreign({"bbox": [1, 1, 2, 2]})
    document["images"] += [{"id": 2, "file_name": "b.png", "width": 9, "height": 9}, {"id": 3, "file_name": "a.png"}]
    document["annotations"] += [{"image_id": 2, "segmentation": "x"}, {"image_id": 77, "bbox": [1, 1, 2, 2]}]
    report = convert(save(tmp_path / "a.json", document), tmp_path / "b.json", "coco")
    assert [losses.picture for losses in report.pictures] == ["a.png"]
    assert [name for name, _ in report.failed] == ["b.png", "a.png", "77"]
    assert "'a.png' twice" in dict(report.failed)["a.png"]


@pytest.mark.parametrize("points", [10**5, pytest.param(10**7, marks=pytest.mark.slow)])
def test_absurd_outlines_end_in_one_line_and_soon(tmp_path, points):
    tangled = [0, 0, 19, 14] * (points // 2)
    document = foreign({"segmentation": [tangled], "bbox": [1, 1, 2, 2]}, width=20_000, height=20_000)
    document["annotations"][0]["segmentation"][0][2::4] = [19_999] * (points // 2)
    path = save(tmp_path / "a.json", document)
    start = time.process_time()
    with pytest.raises(InputError, match=r"too large or too tangled|at most 2097152 numbers"):
        read(path)
    assert time.process_time() - start < LONGEST


def test_what_cannot_be_written_leaves_no_trace_and_others_go_on(tmp_path):
    bad = AnnotatedImage("bad", (9, 9), (square(1, 1, 3, attributes={"a": float("nan")}, marker="new"),))
    good = AnnotatedImage("good", (9, 9), (square(1, 1, 3),))
    with coco.CODEC.writing(tmp_path / "a.json") as add:
        for image, said in ((bad, "JSON"), (AnnotatedImage("x", None, ()), "height and width")):
            with pytest.raises(InputError, match=said):
                add(image)
        add(good)
        with pytest.raises(InputError, match="'good' twice"):
            add(good)
    coco.CODEC.write(tmp_path / "b.json", [good])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def outcome(folder, count, seed):
    coco.CODEC.write(folder / "valid.json", [rich(), rich_named("b.png")])
    document = json.loads((folder / "valid.json").read_text())
    document["annotations"].append({"image_id": 2, "category_id": 1, "segmentation": [TRIANGLE], "bbox": [1, 2, 3, 4]})
    return endings(coco.CODEC, folder / "a.json", folder / "b.json", mutants(document, count, seed))


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 500, 3)
    assert min(counts.values()) > 50, counts


@pytest.mark.slow
def test_every_mutant_of_many_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 5000, 4)
    assert min(counts.values()) > 500, counts


# --------------------------------------------------------------------------------------------------------------- memory


def peak(path, pictures):
    """Bytes that writing so many pictures of 1,000 cells takes at most, beside the pictures themselves."""
    cells = AnnotatedImage.from_labels(
        "a", np.kron(np.arange(1, 1001).reshape(25, 40), np.ones((6, 5), dtype=int))
    ).cells
    images = (AnnotatedImage(f"{number}.png", (150, 200), cells) for number in range(pictures))
    tracemalloc.start()
    coco.CODEC.write(path, images)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return taken


@pytest.mark.slow
def test_100_000_cells_are_written_in_the_memory_of_1_000(tmp_path):
    few, many = (peak(tmp_path / "a.json", pictures) for pictures in (2, 100))
    assert len(read(tmp_path / "a.json")) == 100
    assert many < 1.2 * few, (few, many)
