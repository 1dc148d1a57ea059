"""Finding, reading and pairing the annotations of many pictures."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from evaluation.made import box, dot, labelled, picture, random_labels, row_of
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation import EvaluateSettings, evaluate, read_groups, read_side
from fncells.evaluation.annotations import as_annotations, keyed, picture_key
from fncells.evaluation.sources import distinct_names, evaluation_sources
from fncells.formats import write_annotations

PLAIN = EvaluateSettings(bootstrap=0)
LABELS = np.kron(
    np.array([[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 0, 4]], dtype=np.uint16), np.ones((12, 12), dtype=np.uint16)
)


def save(folder: Path, names: list[str], labels: np.ndarray = LABELS) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), labels)
    return folder


def scored(truth: Path, prediction: Path, settings: EvaluateSettings = PLAIN, images: Path | None = None):
    sources = evaluation_sources(truth, [prediction], [], settings, images=images)
    return evaluate(sources.truth, next(iter(sources.predictions.values())), settings)


# --- names


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "_cp_masks",
        "_masks",
        "_labels",
        "_label_image",
        "_Object Identities",
        "_Object-Identities",
        "_Objects",
        "_predictions",
    ],
)
def test_what_tools_append_to_names_is_understood(ending, tmp_path):
    truth = save(tmp_path / "truth", ["a.png", "sub/b.png"])
    prediction = save(tmp_path / "found", [f"a{ending}.tif", f"sub/b{ending}.tif"])
    found = scored(truth, prediction)
    assert (found.missing, found.unscored) == ((), ())
    assert found.segmentation.as_dict() == {"tp": 8, "fp": 0, "fn": 0}
    assert [score.picture for score in found.per_picture] == ["a.png", "sub/b.png"]


def test_another_ending_can_be_given(tmp_path):
    truth = save(tmp_path / "truth", ["a.png", "b_masks.png"])
    prediction = save(tmp_path / "found", ["a_Nuclei.tif", "b_Nuclei.tif", "a_Cytoplasm.tif"])
    found = scored(truth, prediction, replace(PLAIN, ending="_Nuclei"))
    assert (found.missing, found.unscored, found.segmentation.tp) == ((), (), 8)
    with pytest.raises(InputError, match="expected pictures whose names end in _cells, found none"):
        scored(truth, prediction, replace(PLAIN, ending="_cells"))


def test_the_picture_beside_its_cellpose_masks_is_passed_over(tmp_path):
    folder = save(tmp_path / "found", ["a_cp_masks.png"])
    noise = np.random.default_rng(0).integers(0, 255, (*LABELS.shape, 3), dtype=np.uint8)
    save(folder, ["a.tif", "b.tif"], noise)
    truth = save(tmp_path / "truth", ["a.png", "b.png"])
    found = scored(truth, folder, images=folder)
    assert found.missing == ("b.tif",)  # whose picture is no prediction
    assert found.segmentation.as_dict() == {"tp": 4, "fp": 0, "fn": 4}


def test_of_a_picture_and_its_masks_the_masks_count():
    side = as_annotations([picture(name=name) for name in ("a.tif", "a_cp_masks.png", "b.png")])
    assert {key: one.name for key, one in keyed(side, "predicted").items()} == {"a": "a_cp_masks.png", "b": "b.png"}


def test_two_predictions_of_one_picture_are_refused_with_advice(tmp_path):
    truth = save(tmp_path / "truth", ["a.png"])
    prediction = save(tmp_path / "found", ["a_masks.png", "a_labels.png"])
    with pytest.raises(InputError, match=r"expected one predicted picture of each name.*a_labels\.png.*--ending"):
        scored(truth, prediction)


def test_endings_alone_are_no_names():
    assert picture_key("_masks.png") == "_masks"
    assert picture_key("sub/_masks.png") == "sub/_masks"
    assert picture_key("a_masks.png") == "a"
    assert keyed(as_annotations([picture(name="mask.png")]), "true").keys() == {"mask"}


def test_one_file_against_another_is_a_pair_whatever_their_names(tmp_path):
    truth = save(tmp_path, ["mine.png"]) / "mine.png"
    prediction = save(tmp_path, ["theirs.png"]) / "theirs.png"
    found = scored(truth, prediction)
    assert (found.missing, found.segmentation.tp) == ((), 4)


def test_methods_are_named_as_shortly_as_tells_them_apart(tmp_path):
    a, b = tmp_path / "one" / "x" / "labels", tmp_path / "two" / "x" / "labels"
    assert list(distinct_names([a, tmp_path / "masks"])) == ["labels", "masks"]
    assert list(distinct_names([a, b])) == ["one", "two"]
    assert list(distinct_names([a, a.parent / "sub" / "labels"])) == ["labels", "sub/labels"]
    with pytest.raises(InputError, match="expected each file or folder once"):
        distinct_names([a, b, a])


# --- formats on both sides


@pytest.mark.parametrize("kinds", [("labels", "masks"), ("masks", "via"), ("via", "labels"), ("via-csv", "via")])
def test_any_format_is_compared_with_any_other(kinds, tmp_path):
    rng = np.random.default_rng(41)
    apart = [AnnotatedImage.from_mask(f"{place}.png", random_labels(rng)[0] > 0) for place in range(3)]
    paths = []
    for side, kind in enumerate(kinds):
        path = tmp_path / f"{side}{'.csv' if kind == 'via-csv' else '.json' if kind == 'via' else ''}"
        write_annotations(path, apart, kind)
        paths.append(path)
    found = scored(*paths)
    assert found.segmentation.f1 == 1
    assert found.segmentation.tp == sum(len(one.cells) for one in apart)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.float32])
def test_label_pictures_of_every_type_that_tools_write_are_read(dtype, tmp_path):
    truth = save(tmp_path / "truth", ["a.png"])
    (tmp_path / "found").mkdir()
    tifffile.imwrite(tmp_path / "found" / "a.tif", LABELS.astype(dtype)[np.newaxis, ..., np.newaxis])
    assert scored(truth, tmp_path / "found").segmentation.f1 == 1


def test_a_picture_of_one_cell_is_read_as_its_folder_is(tmp_path):
    one_cell = (LABELS == 1).astype(np.uint16)
    truth = save(save(tmp_path / "truth", ["a.png"]), ["b.png"], one_cell)
    for workers in (1, 2):
        assert {one.kind for one in read_side(truth, workers=workers)} == {"labels"}
    names = [f"{place:02}.png" for place in range(12)]
    masks = save(tmp_path / "masks", names, one_cell)
    for workers in (1, 2):
        assert {one.kind for one in read_side(masks, workers=workers)} == {"masks"}
        save(masks, ["11.png"])
        assert {one.kind for one in read_side(masks, workers=workers)} == {"labels"}
        save(masks, ["11.png"], one_cell)


def test_names_are_those_of_the_pictures_where_they_are_at_hand(tmp_path):
    truth = save(tmp_path / "truth", ["a_masks.png"])
    images = save(tmp_path / "images", ["a.tif"])
    assert [one.name for one in read_side(truth, images)] == ["a.tif"]


# --- what cannot be used


def test_a_broken_prediction_is_named_and_scored_as_empty_and_the_others_go_on(tmp_path):
    truth = save(tmp_path / "truth", ["a.png", "b.png"])
    prediction = save(tmp_path / "found", ["a.png"])
    (prediction / "b.png").write_bytes(b"no picture")
    for workers in (1, 2):
        found = scored(truth, prediction, replace(PLAIN, workers=workers))
        assert list(found.failed) == ["b.png"]
        assert "expected a PNG, JPEG or TIFF picture" in found.failed["b.png"]
        assert found.segmentation.as_dict() == {"tp": 4, "fp": 0, "fn": 4}


def test_a_broken_truth_is_named_and_left_out(tmp_path):
    truth = save(tmp_path / "truth", ["a.png", "b.png"])
    prediction = save(tmp_path / "found", ["a.png", "b.png"])
    (truth / "b.png").write_bytes(b"no picture")
    found = scored(truth, prediction)
    assert list(found.failed) == ["b.png"]
    assert [score.picture for score in found.per_picture] == ["a.png"]
    (truth / "a.png").write_bytes(b"no picture either")
    with pytest.raises(InputError, match=r"a\.png: expected a PNG"):
        scored(truth, prediction)


def test_a_prediction_of_another_size_is_named_with_both_sizes(tmp_path):
    truth = save(tmp_path / "truth", ["a.png", "b.png"])
    prediction = save(save(tmp_path / "found", ["a.png"]), ["b.png"], LABELS[:-1])
    found = scored(truth, prediction)
    assert found.failed == {
        "b.png": "b.png: expected the size of its prediction b.png, 48 x 35 pixels, found 48 x 36 pixels"
    }
    assert found.segmentation.as_dict() == {"tp": 4, "fp": 0, "fn": 4}


def test_fractions_are_no_labels(tmp_path):
    truth = save(tmp_path / "truth", ["a.png"])
    (tmp_path / "found").mkdir()
    tifffile.imwrite(tmp_path / "found" / "a.tif", LABELS / np.float32(3))
    with pytest.raises(InputError, match=r"a\.tif: expected labels that are whole numbers, found fractions"):
        scored(truth, tmp_path / "found")


def test_a_background_with_a_value_of_its_own_is_remarked_upon():
    background = np.where(LABELS == 0, 9, LABELS)
    notes = evaluate([labelled(LABELS)], [labelled(background)], PLAIN).notes
    assert len(notes) == 1
    assert notes[0].startswith("1 picture with a predicted cell over half of the picture, such as a.png (67 %)")
    assert evaluate([labelled(LABELS)], [labelled(LABELS)], PLAIN).notes == ()


@pytest.mark.parametrize(("shift", "told"), [((3, 0), True), ((0.5, 0.5), True), ((0, -2), True), ((0, 0), False)])
def test_predictions_that_all_lie_aside_are_remarked_upon(shift, told):
    rng = np.random.default_rng(42)
    places = [(x, y) for x in range(5, 60, 12) for y in range(5, 60, 12)]
    noise = rng.normal(0, 0.3, (len(places), 2))
    truth = picture(*[dot(x, y) for x, y in places])
    prediction = picture(
        *[dot(x + dx + shift[0], y + dy + shift[1]) for (x, y), (dx, dy) in zip(places, noise, strict=True)]
    )
    notes = evaluate([truth], [prediction], replace(PLAIN, distance=6)).notes
    assert [("another origin" in note) for note in notes] == [True] * told


def test_names_that_never_meet_are_remarked_upon():
    found = evaluate([picture(name="a.png")], [picture(box(1, 1, 5, 5), name="b.png")], PLAIN)
    assert found.notes == ("no prediction is named like a true picture, such as a.png",)
    assert (found.missing, found.unscored) == (("a.png",), ("b.png",))


def test_cells_read_from_files_leave_memory_when_their_picture_is_done(tmp_path):
    [one] = read_side(save(tmp_path, ["a.png"]))
    assert one.image is None
    first = one.read()
    assert first is not one.read()
    kept = as_annotations([labelled(row_of(3, -2))])[0]
    kept.read().labels  # noqa: B018 - caches the pixels
    assert "labels" not in vars(kept.image)


# --- groups


def test_groups_are_read_from_a_table(tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("picture,group,more\na.png,x,1\nsub/b_masks.tif,y,2\n", encoding="utf-8")
    assert read_groups(table) == {"a": "x", "sub/b": "y"}
    table.write_text("name,group\na,b\n", encoding="utf-8")
    with pytest.raises(InputError, match="expected the columns picture and group, found none called picture"):
        read_groups(table)
    table.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="found an empty file"):
        read_groups(table)
    with pytest.raises(InputError, match=r"nothing\.csv: expected a CSV file"):
        read_groups(tmp_path / "nothing.csv")
