import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools import mask as coco_mask

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import convert, recognise, rle
from formats import archive_files
from formats.endings import endings
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
        Cell(square(2, 20, 3).rings + square(6, 24, 3).rings),
        square(100, 100, 5),
    )
    return AnnotatedImage("sub/a.tif", (30, 40), cells, {"slide": 3})


def save(folder, value, name="a.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def only(path, images=None):
    [image] = rle.CODEC.read(path, images)
    return image


# ----------------------------------------------------------------------------------------------------------- round trips


def test_everything_but_vertices_survives_and_what_has_no_pixel_is_left_out(tmp_path):
    rle.CODEC.write(tmp_path / "out", [rich()])
    again = only(tmp_path / "out")
    assert (again.name, again.shape, again.attributes) == ("sub/a.tif", (30, 40), {"slide": 3})
    before = rich().cells[:-1]
    assert len(again.cells) == len(before)
    assert again.numbers.tolist() == rich().numbers.tolist()[:-1]
    for mine, theirs, mine_pixels, theirs_pixels in zip(before, again.cells, rich().pixels, again.pixels, strict=False):
        assert (mine.marker, mine.score, mine.source_shape) == (theirs.marker, theirs.score, theirs.source_shape)
        assert dict(mine.attributes) == dict(theirs.attributes)
        np.testing.assert_array_equal(mine_pixels, theirs_pixels)
    assert again.cells[1].rings[0].tolist() == [[30.5, 3.0]]


def test_each_cell_is_what_pycocotools_decodes(tmp_path):
    image = AnnotatedImage.from_labels("a.png", drawn_map(4))
    rle.CODEC.write(tmp_path, [image])
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["size"] == list(image.labels.shape)
    for number, cell in zip(image.numbers, written["cells"], strict=True):
        np.testing.assert_array_equal(coco_mask.decode(cell).astype(bool), image.labels == number)


def test_empty_pictures_and_sub_folders_survive_and_bytes_are_the_same(tmp_path):
    images = [AnnotatedImage("a.png", (3, 4), ()), AnnotatedImage.from_labels("sub/b.png", drawn_map(1))]
    for out in ("one", "two"):
        rle.CODEC.write(tmp_path / out, images)
    assert [(image.name, image.shape) for image in rle.CODEC.read(tmp_path / "one")] == [
        ("a.png", (3, 4)),
        ("sub/b.png", images[1].shape),
    ]
    for name in ("a.json", "sub/b.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def round_trip(folder, labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    rle.CODEC.write(folder, [image])
    again = only(folder)
    np.testing.assert_array_equal(again.labels, labels)
    assert again.numbers.tolist() == image.numbers.tolist()


@given(label_maps())
@settings(max_examples=300)
def test_label_pixels_survive(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "rle", labels)


@pytest.mark.slow
@given(label_maps())
@settings(max_examples=2000)
def test_label_pixels_survive_at_length(tmp_path_factory, labels):
    round_trip(tmp_path_factory.getbasetemp() / "rle", labels)


# --------------------------------------------------------------------------------------------------- the archive's files


def test_the_archives_pickles_are_read_as_masks(tmp_path):
    masks = {str(number): archive_files.mask_with_a_ring(number) for number in range(3)}
    for stem, mask in masks.items():
        (tmp_path / f"{stem}.pickle").write_bytes(archive_files.rle_pickle(mask))
    assert recognise(tmp_path) == "rle"
    for image in rle.CODEC.read(tmp_path):
        np.testing.assert_array_equal(image.mask, masks[image.stem] > 0)
        assert len(image.cells) == len(AnnotatedImage.from_mask("x", masks[image.stem] > 0).cells)
    assert [image.name for image in rle.CODEC.read(tmp_path)] == ["0.png", "1.png", "2.png"]


def test_the_published_dialect_writes_what_pickle_and_pycocotools_read(tmp_path):
    masks = {"1": archive_files.mask_with_a_ring(1), "empty": np.zeros((5, 7), dtype=np.uint8)}
    images = [AnnotatedImage.from_mask(f"{stem}.png", mask > 0) for stem, mask in masks.items()]
    rle.CODEC.published.write(tmp_path, images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.pickle", "empty.pickle"]
    for stem, mask in masks.items():
        data = (tmp_path / f"{stem}.pickle").read_bytes()
        assert pickle.loads(data) == pickle.loads(archive_files.rle_pickle(mask))
        np.testing.assert_array_equal(coco_mask.decode(pickle.loads(data)) > 0, mask > 0)
    assert [len(image.cells) for image in rle.CODEC.read(tmp_path)] == [len(image.cells) for image in images]


def test_of_twins_the_json_is_read_as_it_tells_touching_cells_apart(tmp_path):
    labels = np.zeros((6, 8), dtype=np.uint16)
    labels[1:4, 1:4], labels[1:4, 4:7] = 1, 2
    image = AnnotatedImage.from_labels("a.png", labels)
    rle.CODEC.published.write(tmp_path, [image])
    assert len(only(tmp_path).cells) == 1
    rle.CODEC.write(tmp_path, [image])
    assert len(only(tmp_path).cells) == 2


def test_other_forms_of_encodings_are_read(tmp_path):
    labels = drawn_map(9)
    image = AnnotatedImage.from_labels("a.png", labels)
    encodings = [coco_mask.encode(np.asfortranarray((labels == n).astype(np.uint8))) for n in image.numbers]
    texts = [{"size": one["size"], "counts": one["counts"].decode()} for one in encodings]
    listed = only(save(tmp_path / "list", texts))
    for mine, theirs in zip(image.pixels, listed.pixels, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    plain = {"size": [2, 3], "counts": [1, 2, 3]}
    assert only(save(tmp_path / "one", plain)).mask.T.ravel().tolist() == [False, True, True, False, False, False]
    assert only(tmp_path / "one" / "a.json").name == "a.png"


def test_pictures_give_their_names(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((2, 3), dtype=np.uint8))
    folder = save(tmp_path / "rle", {"size": [2, 3], "counts": [1, 2, 3]})
    assert only(folder, tmp_path / "a.tif").name == "a.tif"
    save(folder, {"size": [3, 2], "counts": [1, 2, 3]})
    with pytest.raises(InputError, match="3 x 2 pixels"):
        only(folder, tmp_path / "a.tif")


# ------------------------------------------------------------------------------------------------------------ broken ones

GOOD = {"name": "a.png", "size": [2, 3], "cells": [{"size": [2, 3], "counts": "123"}, {"dot": [1, 1.5]}]}


def changed(**more):
    return {**GOOD, **more}


def with_cell(**more):
    return changed(cells=[{**GOOD["cells"][0], **more}])


FAULTS = {
    "runs too short": (
        with_cell(counts="12"),
        "cell 0, counts: expected runs that add up to the picture's 6 pixels, found .* 3",
    ),
    "runs too long": (with_cell(counts=[1, 2, 30]), "add up to the picture's 6 pixels, found runs of 33"),
    "negative run": (with_cell(counts=[7, -2, 1]), "counts: expected run lengths"),
    "overflowing runs": (with_cell(counts=[2**63, 2**63, 6]), "counts: expected run lengths"),
    "runs that overflow to fit": (with_cell(counts=[2**31 - 1] * 2 + [8]), "add up"),
    "fractions": (with_cell(counts=[1.0, 2, 3]), "counts: expected run lengths"),
    "no text of runs": (with_cell(counts="ä"), "counts: expected run lengths"),
    "negative text": (with_cell(counts="N"), "counts: expected run lengths"),
    "no counts": (with_cell(counts=None), "counts: expected run lengths, .* found null"),
    "nothing inside": (with_cell(counts="6"), "cell 0: expected a cell of at least one pixel"),
    "another size": (with_cell(size=[3, 2]), r"cell 0, size: expected \[2, 3\]"),
    "size of truth": (with_cell(size=[True, 3]), "cell 0, size"),
    "cell is a list": (changed(cells=[[1]]), "cell 0: expected an object"),
    "cells is text": (changed(cells="x"), "cells: expected a list"),
    "no size": (changed(size=None), "size: expected height and width"),
    "size 0": (changed(size=[0, 3]), "size: expected height and width"),
    "giant size": (changed(size=[10**6, 10**6]), "at most 1073741824 pixels"),
    "empty name": (changed(name=""), "a picture's file name"),
    "dot of one": (changed(cells=[{"dot": [1]}]), "cell 0, dot: expected x and y"),
    "dot of text": (changed(cells=[{"dot": "1,1"}]), "cell 0, dot: expected the point as a list"),
    "far dot": (changed(cells=[{"dot": [1e300, 1]}]), "cell 0, dot: expected numbers up to"),
    "number 0": (with_cell(number=0), "cell 0, number"),
    "marker is no text": (with_cell(marker=3), "cell 0, marker: expected text"),
    "score is text": (with_cell(score="0.5"), "cell 0, score: expected a number"),
    "unknown shape": (with_cell(source_shape="star"), "cell 0, source_shape"),
    "attributes are a list": (with_cell(attributes=[1]), "cell 0: expected attributes as an object"),
    "reserved attribute": (with_cell(attributes={"fncells.via_shape": 1}), "do not begin with"),
    "something else": ({"shapes": []}, "expected a run-length encoding"),
    "no list of cells": ([], "an empty list"),
    "list of numbers": ([1], "cell 0, size: expected height and width"),
    "NaN": ('{"size": [2, 3], "counts": [NaN]}', "expected finite numbers"),
    "deep": ("[" * 100_000, "nested too deep"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_in_one_line(tmp_path, fault):
    value, said = FAULTS[fault]
    assert len(only(save(tmp_path / "good", GOOD)).cells) == 2
    with pytest.raises(InputError, match=said) as refusal:
        only(save(tmp_path / "bad", value))
    assert str(refusal.value).startswith(str(tmp_path / "bad" / "a.json"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"size": [2, 3]}, "expected a run-length encoding"),
        ({"size": [2, 3], "counts": b"12"}, "add up"),
        ({"size": [2, 3], "counts": b"\xff"}, "1 bytes that are none"),
        ({"size": (2, "3"), "counts": b"123"}, "size"),
        ([b"x"], "size"),
        (b"x", "expected a run-length encoding"),
    ],
)
def test_pickles_of_other_values_are_refused(tmp_path, value, said):
    (tmp_path / "good.pickle").write_bytes(pickle.dumps({"size": (2, 3), "counts": b"123"}))
    assert only(tmp_path / "good.pickle").shape == (2, 3)
    (tmp_path / "a.pickle").write_bytes(pickle.dumps(value))
    with pytest.raises(InputError, match=rf"a\.pickle.*{said}"):
        only(tmp_path / "a.pickle")


def test_a_pickle_that_would_run_is_named_and_the_others_are_converted(tmp_path):
    folder = tmp_path / "rle"
    folder.mkdir()
    (folder / "good.pickle").write_bytes(archive_files.rle_pickle(archive_files.mask_with_a_ring()))
    (folder / "bad.pickle").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "made").encode() + b"'\ntR.")
    report = convert(folder, tmp_path / "out", "masks")
    assert [losses.picture for losses in report.pictures] == ["good.png"]
    assert "nothing of it has been run" in report.failed[0][1]
    assert not (tmp_path / "made").exists()


def test_a_region_over_a_giant_picture_is_refused_before_it_takes_memory(tmp_path):
    side = 2**15
    giant = {"name": "a", "size": [side, side], "cells": [{"size": [side, side], "counts": [0, side * side]}]}
    with pytest.raises(InputError, match="too large to be one"):
        only(save(tmp_path, giant))


def test_what_cannot_be_written_is_refused(tmp_path):
    for image, said in (
        (AnnotatedImage("a", None, ()), "height and width"),
        (AnnotatedImage("../a", (2, 2), ()), "leads upward"),
        (AnnotatedImage("a", (9, 9), (square(1, 1, 3, attributes={"a": float("nan")}),)), "JSON"),
    ):
        with pytest.raises(InputError, match=said):
            rle.CODEC.write(tmp_path / "out", [image])
    assert list(tmp_path.rglob("*.json")) == []


def test_folders_without_such_files_and_missing_ones_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"run-length files"):
            list(rle.CODEC.read(path))
    assert not rle.CODEC.recognises(save(tmp_path / "a", {"shapes": []}))
    assert not rle.CODEC.recognises(tmp_path / "a" / "a.json")


def outcome(folder, count, seed):
    rle.CODEC.write(folder / "valid", [rich()])
    document = json.loads((folder / "valid" / "sub" / "a.json").read_text())
    (folder / "source").mkdir()
    return endings(rle.CODEC, folder / "source" / "a.json", folder / "target", mutants(document, count, seed))


def test_every_mutant_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 500, 3)
    assert min(counts.values()) > 50, counts


@pytest.mark.slow
def test_every_mutant_of_many_ends_in_a_value_or_one_line(tmp_path):
    counts = outcome(tmp_path, 5000, 4)
    assert min(counts.values()) > 500, counts
