"""Tables of all cells and pictures."""

import json

import numpy as np
import pandas as pd
import pytest

from fncells.cells import AnnotatedImage, Cell
from fncells.cli import run
from fncells.errors import InputError
from fncells.formats import write_annotations
from fncells.images import Picture, write_png
from fncells.ingest import BuildSettings, build
from fncells.measure import measure_labels
from fncells.measurements import measure_source
from fncells.synthetic import synthesise

SHAPE = (48, 64)


def labels(*places):
    picture = np.zeros(SHAPE, np.uint16)
    for number, x in enumerate(places, 1):
        picture[10:20, x : x + 8] = number
    return picture


@pytest.fixture
def masks(tmp_path):
    """Label pictures of three pictures, one of them grey and one without cells, and the pictures."""
    light = np.random.default_rng(0)
    for name, places, channels in (("a", (5, 30), 3), ("b", (), 3), ("sub/c", (20,), 1)):
        write_png(tmp_path / "labels" / f"{name}.png", Picture("", labels(*places)))
        pixels = light.integers(0, 255, (*SHAPE, channels), dtype=np.uint8)
        write_png(tmp_path / "pictures" / f"{name}.png", Picture("", pixels if channels == 3 else pixels[..., 0]))
    return tmp_path


def test_every_cell_and_every_picture_has_a_row(masks):
    summary = measure_source(masks / "labels", masks / "out", masks / "pictures", 0.5)
    cells, pictures = (pd.read_csv(masks / "out" / f"{name}.csv") for name in ("cells", "pictures"))
    assert (summary.n_cells, summary.failures) == (3, {})
    assert cells["picture"].tolist() == ["a.png", "a.png", "sub/c.png"]
    assert cells["area_um2"].tolist() == [20, 20, 20]
    assert set(cells["pixel_size_source"]) == {"user"}
    expected = measure_labels(labels(5, 30))
    for name in expected.keys() & set(cells):
        np.testing.assert_allclose(cells[name][:2], expected[name], err_msg=name)
    assert cells["intensity_mean"].isna().tolist() == [True, True, False]
    assert cells["intensity_mean_red"].isna().tolist() == [False, False, True]
    assert pictures["picture"].tolist() == ["a.png", "b.png", "sub/c.png"]
    assert pictures["n_cells"].tolist() == [2, 0, 1]
    assert pictures["signal_percent"].tolist() == pytest.approx([100 * 160 / 3072, 0, 100 * 80 / 3072])
    assert pictures["density_per_mm2"].tolist() == pytest.approx([2 / (3072 * 0.25e-6), 0, 1 / (3072 * 0.25e-6)])


def test_without_pictures_and_pixel_size_nothing_is_made_up(masks):
    measure_source(masks / "labels", masks / "out")
    cells, pictures = (pd.read_csv(masks / "out" / f"{name}.csv") for name in ("cells", "pictures"))
    assert not [name for name in cells if "_um" in name or "intensity" in name or "pixel_size" in name]
    assert pictures["density_per_mm2"].isna().all()


def test_outlines_take_their_shape_from_the_pictures(masks):
    outline = Cell((np.array([[5.0, 10], [12, 10], [12, 19], [5, 19]]),))
    images = [AnnotatedImage("a.png", None, (outline,)), AnnotatedImage("none.png", None, (outline,))]
    write_annotations(masks / "a.json", images, "via")
    summary = measure_source(masks / "a.json", masks / "out", masks / "pictures")
    assert [row.status for row in summary.pictures] == ["measured", "failed"]
    assert "height and width" in summary.failures["none.png"]
    assert pd.read_csv(masks / "out" / "cells.csv")["area_px2"].tolist() == [80]
    pictures = pd.read_csv(masks / "out" / "pictures.csv").set_index("picture")
    assert "height and width" in pictures.loc["none.png", "reason"]


def test_annotations_of_another_size_fail_alone(masks):
    write_png(masks / "pictures" / "a.png", Picture("", np.zeros((9, 9), np.uint8)))
    summary = measure_source(masks / "labels", masks / "out", masks / "pictures")
    assert list(summary.failures) == ["a.png"]
    assert "(48, 64)" in summary.failures["a.png"]


def test_without_any_cell_the_table_has_its_columns(masks):
    measure_source(masks / "labels" / "b.png", masks / "out")
    assert {"picture", "cell", "area_px2"} <= set(pd.read_csv(masks / "out" / "cells.csv"))


def test_an_archive_is_measured_whatever_the_workers(tmp_path):
    synthesise(tmp_path / "lab", pictures=4, seed=3, collections=("green",), size=(200, 150))
    build(tmp_path / "lab", tmp_path / "archive", BuildSettings())
    alone = measure_source(tmp_path / "archive", tmp_path / "one")
    measure_source(tmp_path / "archive", tmp_path / "two", workers=2)
    for name in ("cells.csv", "pictures.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert {row.pixel_size_source for row in alone.pictures} == {"ImageJ unit"}
    assert alone.pictures[0].picture.startswith("green/trainval/images/")
    assert sum(row.n_cells for row in alone.pictures) == alone.n_cells > 0


def test_the_command_tells_what_failed(masks, capsys):
    write_png(masks / "pictures" / "a.png", Picture("", np.zeros((9, 9), np.uint8)))
    words = ["measure", str(masks / "labels"), "--images", str(masks / "pictures"), "--out", str(masks / "out")]
    assert run([*words, "--json", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["n_cells"] == 1
    assert "failed: a.png: " in captured.err
    assert run(["measure", str(masks / "nowhere"), "--out", str(masks / "out")]) == 2
    with pytest.raises(InputError, match="nothing of that name"):
        measure_source(masks / "nowhere", masks / "out")
