"""Pictures in, counted cells out."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import openpyxl
import pandas as pd
import pytest
import tifffile
from onnx import TensorProto, helper

from fncells import counting, files
from fncells.counting import CountSettings, count, predict
from fncells.errors import FncellsError, InputError
from fncells.formats import CODECS, read_annotations
from fncells.images import Plane
from fncells.separation import SeparationSettings

SIZE = 64


class Brightness:
    """A detector that takes bright pixels for cells."""

    sha256 = "b" * 64
    diameter_px = 8.0
    separation = SeparationSettings(min_area=4, max_hole=0, neck=0)

    def __init__(self):
        self.asked = []

    def heat_map(self, pixels, diameter_px=None):
        self.asked.append((pixels.shape, diameter_px))
        grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
        return (grey / np.iinfo(pixels.dtype).max).astype(np.float32)


def squares(*corners, size=8, colour=False, value=200):
    pixels = np.full((SIZE, SIZE), 20, dtype=np.uint8)
    for x, y in corners:
        pixels[y : y + size, x : x + size] = value
    return np.dstack([pixels, pixels // 2, pixels // 4]) if colour else pixels


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def save_pictures(place):
    """Three pictures with 2, 3 and 0 cells, and a broken one."""
    save(place / "Mar22bS1C2R1_VLPAGl_200x_y.png", squares((5, 5), (30, 30)))
    save(place / "MAR22bS1C2R2_VLPAGr_200x_y.png", squares((5, 5), (30, 30), (50, 10)))
    save(place / "sub" / "RT353S2C1R5_r1.tif", squares())
    (place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return place


@pytest.fixture
def folder(tmp_path):
    return save_pictures(tmp_path / "in")


def run(inputs, out, settings=None, **more):
    inputs = [inputs] if isinstance(inputs, Path) else inputs
    return count(inputs, out, settings, detector=Brightness(), **more)


def table(path):
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "ledger" not in path.name
    }


# --- rows


def test_every_input_has_its_row_and_a_broken_picture_stops_nothing(folder, tmp_path):
    summary = run([folder, tmp_path / "gone.tif"], tmp_path / "out")
    counts = table(tmp_path / "out" / "counts.csv").set_index("picture")
    assert counts.index.tolist() == [
        "MAR22bS1C2R2_VLPAGr_200x_y.png",
        "Mar22bS1C2R1_VLPAGl_200x_y.png",
        "broken.png",
        "gone.tif",
        "sub/RT353S2C1R5_r1.tif",
    ]
    assert counts["status"].tolist() == ["counted", "counted", "failed", "failed", "counted"]
    assert counts["n_cells"].tolist() == ["3", "2", "", "", "0"]
    assert "PNG" in counts.loc["broken.png", "reason"]
    assert "nothing of that name" in counts.loc["gone.tif", "reason"]
    assert str(tmp_path) not in (tmp_path / "out" / "counts.csv").read_text()
    assert set(summary.failures) == {"broken.png", "gone.tif"}
    assert summary.n_cells == 5
    assert json.loads(json.dumps(summary.as_dict()))["failed"] == 2


def test_columns_begin_as_promised_and_hold_what_the_name_tells(folder, tmp_path):
    run(folder, tmp_path / "out")
    counts = table(tmp_path / "out" / "counts.csv")
    assert list(counts)[:4] == ["picture", "status", "n_cells", "reason"]
    mouse = counts.set_index("picture").loc["Mar22bS1C2R1_VLPAGl_200x_y.png"]
    assert mouse[["species", "animal", "sample", "column", "row", "area", "side", "collection"]].tolist() == [
        "mouse", "Mar22b", "1", "2", "1", "VLPAG", "l", "yellow",
    ]  # fmt: skip
    assert mouse["model_sha256"] == Brightness.sha256
    assert float(mouse["signal_percent"]) == pytest.approx(100 * 128 / SIZE**2, abs=1e-3)
    cells = table(tmp_path / "out" / "cells.csv")
    assert list(cells)[:5] == ["picture", "cell", "x_px", "y_px", "area_px2"]
    first = cells[cells["picture"] == mouse.name].iloc[0]
    assert [float(first[name]) for name in ("cell", "x_px", "y_px", "area_px2")] == [1, 8.5, 8.5, 64]
    assert float(first["score"]) == pytest.approx(200 / 255, abs=1e-4)


def test_pictures_of_other_makes_are_named_and_not_passed_over(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", None)
    (folder / "film.BMP").write_bytes(b"")
    (folder / "stack.CZI").write_bytes(b"anything")
    (folder / "notes.txt").write_text("not a picture")
    summary = run(folder, tmp_path / "out")
    assert "export it as TIFF" in summary.failures["film.BMP"]
    assert summary.failures["stack.CZI"].endswith('pip install "fncells[zeiss]"')
    assert [one.picture for one in summary.pictures].count("stack.CZI") == 1
    assert "notes.txt" not in {one.picture for one in summary.pictures}


def test_nothing_to_count_is_refused_in_one_line(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for inputs in ([], [tmp_path / "empty"], [tmp_path / "gone"]):
        with pytest.raises(InputError, match="expected pictures"):
            run(inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"pixel_size": 0.0}, {"pixel_size": 0.3}),
        ({"pixel_size": float("nan")}, {"pixel_size": 1}),
        ({"diameter": -4.0}, {"diameter": 4.0}),
        ({"workers": 0}, {"workers": 1}),
        ({"model": Path("a"), "predictions": Path("b")}, {"model": Path("a")}),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, right):
    with pytest.raises(InputError):
        CountSettings(**wrong)
    assert CountSettings(**right)


def test_an_output_that_cannot_be_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="the folder of the pictures"):
        run(folder, folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="found a file"):
        run(folder, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


def test_results_inside_the_input_folder_are_not_counted_again(folder):
    first = run(folder, folder / "results")
    again = run(folder, folder / "results")
    assert again == first


def test_any_fault_in_one_picture_stays_with_it(folder, tmp_path):
    class Moody(Brightness):
        def heat_map(self, pixels, diameter_px=None):
            if pixels.max() < 100:
                message = "no\nlight"
                raise ValueError(message)
            return super().heat_map(pixels, diameter_px)

    summary = count([folder], tmp_path / "out", detector=Moody())
    assert summary.failures["sub/RT353S2C1R5_r1.tif"] == "ValueError: no light"
    assert summary.n_cells == 5


def test_reasons_name_no_place_on_this_machine(folder, tmp_path):
    source = files.Source(folder / "a.png", "a.png")
    reasons = {
        counting._reason(PermissionError(13, "Permission denied", str(source.path)), source),
        counting._reason(FncellsError("short"), source),
        counting._reason(InputError(tmp_path / "b.png", expected="x", found="y", advice="z", place="here"), source),
        counting._reason(InputError(source.path, expected="x", found="y"), source),
    }
    assert reasons == {"Permission denied", "short", "b.png, here: expected x, found y; z", "expected x, found y"}


# --- micrometres and remarks


def test_no_micrometres_without_a_known_pixel_size(folder, tmp_path):
    run(folder, tmp_path / "out")
    assert not [name for name in table(tmp_path / "out" / "cells.csv") if name.endswith(("_um", "_um2"))]
    assert set(table(tmp_path / "out" / "counts.csv")["density_per_mm2"]) == {""}
    run(folder, tmp_path / "with", CountSettings(pixel_size=0.5))
    counts = table(tmp_path / "with" / "counts.csv").set_index("picture").loc["Mar22bS1C2R1_VLPAGl_200x_y.png"]
    assert (counts["pixel_size_um"], counts["pixel_size_source"]) == ("0.5", "user")
    assert float(counts["density_per_mm2"]) == pytest.approx(2 / (SIZE * 0.5e-3) ** 2)
    assert float(table(tmp_path / "with" / "cells.csv")["area_um2"][0]) == 16


def ome(path, pixels, um):
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = {"PhysicalSizeX": um, "PhysicalSizeY": um, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "YX", **sizes})


def test_known_and_unknown_pixel_sizes_stand_side_by_side(tmp_path):
    save(tmp_path / "in" / "a.png", squares((5, 5), colour=True))
    ome(tmp_path / "in" / "b.ome.tif", squares((5, 5)), 0.25)
    run(tmp_path / "in", tmp_path / "out")
    cells = table(tmp_path / "out" / "cells.csv")
    assert cells["area_um2"].tolist() == ["", "4.0"]
    assert {"intensity_mean", "intensity_mean_red"} <= set(cells)
    assert list(cells)[-1] == "score"
    assert table(tmp_path / "out" / "counts.csv")["pixel_size_um"].tolist() == ["", "0.25"]


def test_the_users_pixel_size_goes_before_the_files_and_says_so(tmp_path):
    ome(tmp_path / "in" / "b.ome.tif", squares((5, 5)), 0.25)
    run(tmp_path / "in", tmp_path / "out", CountSettings(pixel_size=2.0))
    row = table(tmp_path / "out" / "counts.csv").iloc[0]
    assert row["pixel_size_um"] == "2.0"
    assert "says 0.25 µm a pixel" in row["notes"]
    run(tmp_path / "in", tmp_path / "same", CountSettings(pixel_size=0.25))
    assert "µm a pixel" not in table(tmp_path / "same" / "counts.csv").iloc[0]["notes"]


@pytest.mark.parametrize(
    ("um", "name", "implausible"),
    [
        (1.4, "Mar22bS1C2R1_VLPAGl_200x_y", False),  # 8 px squares: 9.03 px equivalent diameter
        (0.2, "Mar22bS1C2R1_VLPAGl_200x_y", True),
        (10.0, "Mar22bS1C2R1_VLPAGl_200x_y", True),
        (1.0, "unnamed", False),
        (10.0, "unnamed", True),
    ],
)
@pytest.mark.parametrize("cells", [1, 6])
def test_diameters_no_neuron_has_are_remarked_upon(tmp_path, um, name, implausible, cells):
    corners = [(2 + 10 * number, 5) for number in range(cells)]
    save(tmp_path / "in" / f"{name}.png", squares(*corners))
    summary = run(tmp_path / "in", tmp_path / "out", CountSettings(pixel_size=um, overlays=False))
    assert ("diameter implausible" in summary.pictures[0].notes) == implausible


def test_saturated_dark_and_oddly_sized_pictures_are_remarked_upon(tmp_path):
    small = [(4 * column, 4 * row) for column in range(3) for row in range(3)]
    save(tmp_path / "in" / "dark.png", squares() // 10)
    save(tmp_path / "in" / "dark16.png", np.full((SIZE, SIZE), 30, np.uint16))
    save(tmp_path / "in" / "fine.png", squares((5, 5)))
    save(tmp_path / "in" / "full.png", squares((5, 5), value=255))
    save(tmp_path / "in" / "full12.png", np.where(squares((5, 5)) > 100, 4095, 500).astype(np.uint16))
    save(tmp_path / "in" / "small.png", squares(*small, size=2))
    notes = {one.picture: one.notes for one in run(tmp_path / "in", tmp_path / "out").pictures}
    assert "very dark" in notes["dark.png"]
    assert "very dark" in notes["dark16.png"]
    assert notes["fine.png"] == ""
    assert "1.6 % of the pixels are saturated" in notes["full.png"]
    assert "1.6 % of the pixels are saturated" in notes["full12.png"]
    assert "--diameter" in notes["small.png"]


def test_the_diameter_reaches_the_detector_and_its_result(folder, tmp_path):
    detector = Brightness()
    count([folder], tmp_path / "out", CountSettings(diameter=4.0), detector=detector)
    assert {diameter for _, diameter in detector.asked} == {4.0}
    asked = len(detector.asked)
    count([folder], tmp_path / "out", CountSettings(diameter=4.0), detector=detector)
    assert len(detector.asked) == asked
    count([folder], tmp_path / "out", CountSettings(diameter=5.0), detector=detector)
    assert len(detector.asked) == 2 * asked


# --- the other files


def test_workbook_sums_up_by_animal_area_and_side(folder, tmp_path):
    save(folder / "nameless.png", squares((5, 5)))
    run(folder, tmp_path / "out", CountSettings(pixel_size=1.0))
    book = openpyxl.load_workbook(tmp_path / "out" / "counts.xlsx")
    assert book.sheetnames == ["counts", "by_animal", "by_area", "by_side"]
    animals = list(book["by_animal"].iter_rows(values_only=True))
    assert animals[0][:6] == ("animal", "species", "collection", "pictures", "total_cells", "mean_cells")
    assert animals[1][:7] == ("MAR22b", "mouse", "yellow", 2, 5, 2.5, pytest.approx(0.7071))
    assert animals[2][:6] == ("RT353", "rat", "red", 1, 0, 0)
    assert animals[3][:6] == ("(unknown)", "(unknown)", "(unknown)", 1, 1, 1)
    sides = [row[:4] for row in book["by_side"].iter_rows(values_only=True, min_row=2)]
    assert sides == [
        ("l", "yellow", 1, 2),
        ("r", "yellow", 1, 3),
        ("(unknown)", "red", 1, 0),
        ("(unknown)", "(unknown)", 1, 1),
    ]
    assert len(list(book["counts"].iter_rows())) == 6


def test_labels_outlines_and_overlays_show_the_cells_that_were_counted(folder, tmp_path):
    run(folder, tmp_path / "out")
    out = tmp_path / "out"
    labels = {image.name: image for image in read_annotations(out / "labels", "labels")}
    assert sorted(labels) == [
        "MAR22bS1C2R2_VLPAGr_200x_y.png",
        "Mar22bS1C2R1_VLPAGl_200x_y.png",
        "sub/RT353S2C1R5_r1.png",
    ]
    via = {image.name: image for image in read_annotations(out / "cells.via.json", "via", folder)}
    for name, image in via.items():
        label = labels[name.replace(".tif", ".png")]
        assert (image.with_shape((SIZE, SIZE)).labels > 0).tolist() == (label.labels > 0).tolist()
    overlays = sorted(path.relative_to(out / "overlays").as_posix() for path in (out / "overlays").rglob("*.png"))
    assert overlays == sorted(labels)
    assert cv2.imread(str(out / "overlays" / overlays[0])).shape == (256, 256, 3)


def test_outlines_are_kept_under_the_keys_that_via_gives_the_pictures(folder, tmp_path):
    run(folder, tmp_path / "out")
    pictures = json.loads((tmp_path / "out" / "cells.via.json").read_text())
    assert len(pictures) == 3
    for key, picture in pictures.items():
        size = (folder / picture["filename"]).stat().st_size
        assert picture["size"] == size
        assert key == f"{picture['filename']}{size}"


def test_overlays_are_left_out_if_not_wanted(folder, tmp_path):
    run(folder, tmp_path / "out", CountSettings(overlays=False))
    assert not (tmp_path / "out" / "overlays").exists()


def test_the_record_tells_what_the_result_depends_on(folder, tmp_path):
    run(folder, tmp_path / "out", CountSettings(pixel_size=0.5))
    record = files.read_record(tmp_path / "out")
    assert record["model_sha256"] == Brightness.sha256
    assert record["settings"]["pixel_size"] == 0.5
    assert record["settings"]["separation"]["min_area"] == 4
    assert record["inputs"]["sub/RT353S2C1R5_r1.tif"] == files.sha256(folder / "sub" / "RT353S2C1R5_r1.tif")
    assert "workers" not in json.dumps(record)
    assert str(tmp_path) not in json.dumps(record)


def test_no_cells_at_all_still_make_whole_tables(tmp_path):
    save(tmp_path / "in" / "a.png", squares())
    (tmp_path / "in" / "broken.png").write_bytes(b"x")
    assert run(tmp_path / "in", tmp_path / "out").n_cells == 0
    cells = table(tmp_path / "out" / "cells.csv")
    assert len(cells) == 0
    assert {"picture", "cell", "x_px", "feret_max_px", "score"} <= set(cells)
    broken = run(tmp_path / "in" / "broken.png", tmp_path / "all-broken")
    assert list(broken.failures) == ["broken.png"]
    assert list(table(tmp_path / "all-broken" / "cells.csv"))[:3] == ["picture", "cell", "x_px"]


# --- again


def test_the_same_call_again_gives_the_same_bytes_and_looks_at_nothing(folder, tmp_path):
    detector = Brightness()
    count([folder], tmp_path / "out", detector=detector)
    before, looked = tree(tmp_path / "out"), len(detector.asked)
    count([folder], tmp_path / "out", detector=detector)
    assert tree(tmp_path / "out") == before
    assert len(detector.asked) == looked


def test_lost_and_altered_pictures_are_made_again_from_what_is_known(folder, tmp_path):
    detector = Brightness()
    count([folder], tmp_path / "out", detector=detector)
    before, looked = tree(tmp_path / "out"), len(detector.asked)
    (tmp_path / "out" / "labels" / "sub" / "RT353S2C1R5_r1.png").unlink()
    next((tmp_path / "out" / "overlays").glob("*.png")).write_bytes(b"scribble")
    count([folder], tmp_path / "out", detector=detector)
    assert tree(tmp_path / "out") == before
    assert len(detector.asked) == looked


def test_what_a_changed_picture_or_model_gives_is_found_anew(folder, tmp_path):
    run(folder, tmp_path / "out")
    save(folder / "sub" / "RT353S2C1R5_r1.tif", squares((40, 40)))
    assert run(folder, tmp_path / "out").n_cells == 6
    other = Brightness()
    other.sha256, other.separation = "c" * 64, replace(Brightness.separation, threshold=0.9)
    assert count([folder], tmp_path / "out", detector=other).n_cells == 0


def test_files_of_pictures_no_longer_given_go_and_foreign_files_stay(folder, tmp_path):
    out = tmp_path / "out"
    run(folder, out)
    foreign = save(out / "labels" / "mine.png", squares())
    corrected = save(out / "labels" / "Mar22bS1C2R1_VLPAGl_200x_y.png", squares((1, 1)))
    run(folder / "MAR22bS1C2R2_VLPAGr_200x_y.png", out)
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert left == [
        "labels/MAR22bS1C2R2_VLPAGr_200x_y.png",
        "labels/Mar22bS1C2R1_VLPAGl_200x_y.png",
        "labels/mine.png",
        "overlays/MAR22bS1C2R2_VLPAGr_200x_y.png",
    ]
    assert foreign.exists()
    assert corrected.exists()
    assert not (out / "labels" / "sub").exists()


def test_turning_overlays_off_and_on_again(folder, tmp_path):
    run(folder, tmp_path / "out")
    before = tree(tmp_path / "out")
    run(folder, tmp_path / "out", CountSettings(overlays=False))
    assert not (tmp_path / "out" / "overlays").exists()
    run(folder, tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_more_cells_than_sixteen_bits_hold_are_written_as_tiff(tmp_path):
    labels = np.zeros((SIZE, SIZE), dtype=np.uint32)
    labels[1:4, 1:4] = 70_000
    import tifffile

    (tmp_path / "labels").mkdir()
    tifffile.imwrite(tmp_path / "labels" / "a.tif", labels)
    save(tmp_path / "in" / "a.png", squares())
    settings = CountSettings(predictions=tmp_path / "labels")
    count([tmp_path / "in"], tmp_path / "out", settings)
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["a.tif"]
    tifffile.imwrite(tmp_path / "labels" / "a.tif", (labels > 0).astype(np.uint8) * 3)
    count([tmp_path / "in"], tmp_path / "out", settings)
    assert [path.name for path in (tmp_path / "out" / "labels").iterdir()] == ["a.png"]


# --- predict


@pytest.mark.parametrize("to", sorted(CODECS))
def test_predict_writes_every_format_and_gives_the_same_bytes_again(folder, tmp_path, to):
    out = tmp_path / "out" / ("cells.json" if CODECS[to].one_file else "cells")
    summary = predict([folder], out, to, detector=Brightness())
    assert summary.n_cells == 5
    assert list(summary.failures) == ["broken.png"]
    images = list(read_annotations(out, to, folder))
    assert sum(len(image.cells) for image in images) == 5
    before = tree(tmp_path / "out")
    predict([folder], out, to, detector=Brightness())
    assert tree(tmp_path / "out") == before
    assert (files.read_record(out) is None) == CODECS[to].one_file


def test_predict_refuses_what_it_cannot_write(folder, tmp_path):
    with pytest.raises(InputError, match="format"):
        predict([folder], tmp_path / "out", "crayons", detector=Brightness())
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="add a file name"):
        predict([folder], tmp_path / "there", "via", detector=Brightness())


# --- workers and interruptions


def write_model(path):
    """Save a network whose answer is the red channel."""
    picture = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
    heat = helper.make_tensor_value_info("heat", TensorProto.FLOAT, [1, 1, "h", "w"])
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 0.0, 0.0])
    node = helper.make_node("Conv", ["image", "kernel"], ["heat"])
    graph = helper.make_graph([node], "red", [picture], [heat], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


@pytest.fixture
def many(tmp_path):
    rng = np.random.default_rng(3)
    for number in range(12):
        corners = rng.integers(0, SIZE - 8, (rng.integers(0, 5), 2)).tolist()
        save(tmp_path / "many" / f"picture{number:02}.png", squares(*corners, colour=bool(number % 2)))
    write_model(tmp_path / "model.onnx")
    return tmp_path / "many"


def test_a_real_model_and_any_number_of_workers_give_the_same_bytes(many, tmp_path):
    model = tmp_path / "model.onnx"
    one = count([many], tmp_path / "one", CountSettings(model=model))
    two = count([many], tmp_path / "two", CountSettings(model=model, workers=2))
    assert one.n_cells == two.n_cells > 0
    assert one.model_sha256 == files.sha256(model)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


KILLED = """
import sys
from pathlib import Path
from fncells.counting import CountSettings, count
folder, out, model = (Path(word) for word in sys.argv[1:])
count([folder], out, CountSettings(model=model))
"""


def test_a_run_killed_at_any_moment_ends_with_the_same_bytes(many, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(many), str(out), str(tmp_path / "model.onnx")]
    count([many], whole, CountSettings(model=tmp_path / "model.onnx"))
    moments = random.Random(5)
    for _ in range(3):
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 30
        while not (out / ".fncells-ledger.sqlite").exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, env=os.environ)
    assert tree(out) == tree(whole)


@pytest.mark.parametrize("step", range(1, 14, 2))
def test_a_run_that_stops_at_any_written_file_ends_with_the_same_bytes(folder, tmp_path, monkeypatch, step):
    run(folder, tmp_path / "whole")
    written = []

    class Killed(BaseException):
        pass

    real = files.os.fsync

    def fsync(number):
        written.append(number)
        if len(written) == step:
            raise Killed
        real(number)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        try:
            run(folder, tmp_path / "out")
        except Killed:
            assert not (tmp_path / "out" / files.RECORD_NAME).exists()
    run(folder, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_leftovers_of_a_killed_run_for_other_pictures_are_removed(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"

    class Killed(BaseException):
        pass

    def stop(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(counting, "write_tables", stop)
        with pytest.raises(Killed):
            run(folder, out)
    run(folder / "sub", out)
    assert sorted(path.name for path in out.rglob("*.png")) == ["RT353S2C1R5_r1.png"] * 2


def test_a_picture_that_was_moved_away_after_it_was_counted_stays_counted(tmp_path):
    path = save(tmp_path / "in" / "a.png", squares((5, 5), (30, 30)))

    class Mover(Brightness):
        def heat_map(self, pixels, diameter_px=None):
            path.rename(tmp_path / "elsewhere.png")
            return super().heat_map(pixels, diameter_px)

    summary = count([tmp_path / "in"], tmp_path / "out", detector=Mover())
    assert summary.n_cells == 2
    via = json.loads((tmp_path / "out" / "cells.via.json").read_text(encoding="utf-8"))
    assert [entry["size"] for entry in via.values()] == [-1]
    assert (tmp_path / "out" / "fncells-run.json").exists()


# --- names and planes of other labs


def test_a_labs_own_names_and_a_chosen_channel(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    for animal in range(2):
        stack = np.stack([squares(), squares((5, 5), (30, 30))]).astype(np.uint8)
        options = {"ome": True, "photometric": "minisblack", "metadata": {"axes": "CYX"}}
        tifffile.imwrite(place / f"ko{animal}-CA1.tif", stack, **options)
    rule = r"(?P<animal>ko\d+)-(?P<area>\w+)"
    settings = CountSettings(name_pattern=rule, plane=Plane(channel="2"))
    assert run(place, tmp_path / "out", settings).n_cells == 4
    counts = table(tmp_path / "out" / "counts.csv")
    assert counts["animal"].tolist() == ["ko0", "ko1"]
    assert counts["area"].tolist() == ["CA1", "CA1"]
    assert "channel 2 was taken" in counts["notes"][0]
    record = json.loads((tmp_path / "out" / "fncells-run.json").read_text())["settings"]
    assert (record["name_pattern"], record["plane"]) == (rule, {"channel": "2"})
    # Another channel is another result, in the same folder too.
    assert run(place, tmp_path / "out", CountSettings(plane=Plane(channel="1"))).n_cells == 0
    with pytest.raises(InputError, match="name pattern"):
        CountSettings(name_pattern="no group")
