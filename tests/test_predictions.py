"""Cells that another tool has found take the model's place."""

import numpy as np
import pytest

from fncells import files
from fncells.counting import CountSettings, count
from fncells.errors import InputError
from fncells.predictions import Predictions
from test_counting import SIZE, run, save, save_pictures, squares, table, tree


@pytest.fixture
def folder(tmp_path):
    return save_pictures(tmp_path / "in")


# --- predictions of other tools


def test_label_pictures_of_another_tool_replace_the_model(folder, tmp_path):
    labels = np.zeros((SIZE, SIZE), dtype=np.uint16)
    labels[2:6, 2:6], labels[2:6, 6:9] = 5, 9
    save(tmp_path / "cp" / "Mar22bS1C2R1_VLPAGl_200x_y_cp_masks.png", labels)
    save(tmp_path / "cp" / "sub" / "RT353S2C1R5_r1.tif", labels * 0)
    summary = count([folder], tmp_path / "out", CountSettings(predictions=tmp_path / "cp"))
    assert summary.model_sha256 is None
    assert {one.picture: one.n_cells for one in summary.pictures if one.status == "counted"} == {
        "Mar22bS1C2R1_VLPAGl_200x_y.png": 2,
        "sub/RT353S2C1R5_r1.tif": 0,
    }
    assert "found none" in summary.failures["MAR22bS1C2R2_VLPAGr_200x_y.png"]
    cells = table(tmp_path / "out" / "cells.csv")
    assert cells["cell"].tolist() == ["5", "9"]
    assert set(cells["score"]) == {""}
    assert "predictions" in files.read_record(tmp_path / "out")["settings"]


def test_masks_among_the_pictures_are_not_counted_as_pictures(tmp_path):
    save(tmp_path / "in" / "a.png", squares((5, 5)))
    save(tmp_path / "in" / "a_masks.png", np.where(squares((5, 5), (20, 20)) > 100, 255, 0).astype(np.uint8))
    summary = count([tmp_path / "in"], tmp_path / "out", CountSettings(predictions=tmp_path / "in"))
    assert [(one.picture, one.n_cells) for one in summary.pictures] == [("a.png", 2)]


def test_a_folder_of_masks_below_the_pictures_is_not_counted(tmp_path):
    save(tmp_path / "in" / "a.png", squares((5, 5)))
    for name in ("a", "other"):
        save(tmp_path / "in" / "masks" / f"{name}.png", np.where(squares((5, 5)) > 100, 255, 0).astype(np.uint8))
    summary = count([tmp_path / "in"], tmp_path / "out", CountSettings(predictions=tmp_path / "in" / "masks"))
    assert [(one.picture, one.n_cells) for one in summary.pictures] == [("a.png", 1)]


def test_annotations_in_one_file_replace_the_model(folder, tmp_path):
    run(folder, tmp_path / "first")
    via = tmp_path / "first" / "cells.via.json"
    summary = count([folder], tmp_path / "out", CountSettings(predictions=via))
    assert {one.picture: one.n_cells for one in summary.pictures if one.status == "counted"} == {
        "Mar22bS1C2R1_VLPAGl_200x_y.png": 2,
        "MAR22bS1C2R2_VLPAGr_200x_y.png": 3,
        "sub/RT353S2C1R5_r1.tif": 0,
    }
    before = tree(tmp_path / "out")
    count([folder], tmp_path / "out", CountSettings(predictions=via))
    assert tree(tmp_path / "out") == before


def test_predictions_of_another_size_fail_and_missing_ones_are_refused(tmp_path):
    save(tmp_path / "in" / "a.png", squares())
    save(tmp_path / "small" / "a.png", np.zeros((9, 7), np.uint8))
    summary = count([tmp_path / "in"], tmp_path / "out", CountSettings(predictions=tmp_path / "small"))
    assert summary.failures == {"a.png": "a.png: expected 64 x 64 pixels, as the picture has, found 7 x 9"}
    with pytest.raises(InputError, match="predictions"):
        count([tmp_path / "in"], tmp_path / "out", CountSettings(predictions=tmp_path / "gone"))


def test_changed_predictions_are_counted_anew(folder, tmp_path):
    settings, cells = CountSettings(predictions=tmp_path / "cp"), np.zeros((SIZE, SIZE), np.uint8)
    cells[2:6, 2:6] = 1
    save(tmp_path / "cp" / "Mar22bS1C2R1_VLPAGl_200x_y.png", cells * 0)
    assert count([folder], tmp_path / "out", settings).n_cells == 0
    save(tmp_path / "cp" / "Mar22bS1C2R1_VLPAGl_200x_y.png", cells)
    assert count([folder], tmp_path / "out", settings).n_cells == 1


# --- which file belongs to which picture


def two_squares(*values):
    pixels = np.zeros((SIZE, SIZE), np.uint8)
    for number, value in enumerate(values):
        pixels[2:6, 2 + 10 * number : 6 + 10 * number] = value
    return pixels


@pytest.mark.parametrize("ending", ["", "_cp_masks", "_masks", "_mask", "_labels", "_label", "_predictions"])
def test_a_prediction_is_named_like_its_picture_with_a_known_ending(tmp_path, ending):
    source = files.Source(save(tmp_path / "in" / "a.jpg", squares()), "a.jpg")
    save(tmp_path / "found" / f"a{ending}.png", two_squares(1, 2))
    save(tmp_path / "found" / f"b{ending}.png", two_squares(1))
    image = Predictions(tmp_path / "found", [source]).of(source).read(source, (SIZE, SIZE))
    assert (image.name, image.shape, image.numbers.tolist()) == ("a.jpg", (SIZE, SIZE), [1, 2])


@pytest.mark.parametrize(("other", "cells"), [((1, 1), 2), ((1, 2), 1)])
def test_a_folder_as_a_whole_tells_whether_its_pictures_are_masks(tmp_path, other, cells):
    sources = [files.Source(save(tmp_path / "in" / f"{name}.png", squares()), f"{name}.png") for name in "ab"]
    save(tmp_path / "found" / "a.png", two_squares(1, 1))
    save(tmp_path / "found" / "b.png", two_squares(*other))
    prediction = Predictions(tmp_path / "found", sources).of(sources[0])
    assert len(prediction.read(sources[0], (SIZE, SIZE)).cells) == cells


def test_a_picture_without_a_prediction_is_refused_and_no_picture_is_its_own(tmp_path):
    sources = [files.Source(save(tmp_path / "in" / f"{name}.png", squares()), f"{name}.png") for name in "ab"]
    mask = files.Source(save(tmp_path / "in" / "a_mask.png", two_squares(255)), "a_mask.png")
    predictions = Predictions(tmp_path / "in", [*sources, mask])
    assert predictions.of(sources[0]).place == mask.path
    assert [predictions.holds(source) for source in [*sources, mask]] == [False, False, True]
    with pytest.raises(InputError, match=r"expected a prediction named b, found none"):
        predictions.of(sources[1])


# --- real pictures


def test_published_masks_give_the_published_counts(data, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for collection in ("yellow", "red"):
        for file in (data / "fnc" / collection / "masks").iterdir():
            (masks / file.name).symlink_to(file)
    inputs = [data / "fnc" / collection / "images" for collection in ("yellow", "red")]
    summary = count(inputs, tmp_path / "out", CountSettings(predictions=masks))
    assert sorted(one.n_cells for one in summary.pictures) == [5, 6, 13, 57]
