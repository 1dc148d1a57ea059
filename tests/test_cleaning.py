"""Tests of cleaning masks: the rule against scikit-image, the folder, its table and its figure."""

import json
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter
from skimage.morphology import closing, disk, opening, remove_small_holes, remove_small_objects

from fncells import files
from fncells.cleaning import CleanSettings, clean, clean_mask, drawn_by_hand, mask_levels, read_names
from fncells.cleaning_report import clean_report
from fncells.cli import run
from fncells.errors import InputError
from fncells.formats.rasters import read_raster
from fncells.ledger import LEDGER_NAME


def rendered(levels: np.ndarray, *, smooth: bool) -> np.ndarray:
    """The description word by word in scikit-image, in its order: smooth, threshold, holes, objects."""
    smoothed = closing(opening(levels, disk(3)), disk(3)) if smooth else levels
    mask = smoothed > 150
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mask without or with one object is taken for a label picture's mistake
        mask = remove_small_holes(mask, max_size=24)
        return remove_small_objects(mask, max_size=39)


def random_levels(seed: int) -> np.ndarray:
    """Noise, blobs, smooth grey levels and masks full of holes, of any size from one pixel."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 160, 2))
    kind = seed % 4
    if kind == 0:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == 1:
        return (gaussian_filter(rng.random(shape), 2.5) > 0.5).astype(np.uint8) * np.uint8(255)
    if kind == 2:
        return np.clip(gaussian_filter(rng.normal(0, 1, shape), 2) * 500 + 128, 0, 255).astype(np.uint8)
    return (rng.random(shape) < 0.93).astype(np.uint8) * np.uint8(255)


def put(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def speckled(seed: int = 0, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """Ragged cells with holes, and specks between them."""
    rng = np.random.default_rng(seed)
    cells = gaussian_filter(rng.random(shape), 6) > 0.502
    return (cells ^ (rng.random(shape) < 0.03)).astype(np.uint8) * np.uint8(255)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(LEDGER_NAME)
    }


def test_the_rule_is_that_of_scikit_image_bit_for_bit_on_200_masks() -> None:
    different, full = [], 0
    for seed in range(200):
        levels = random_levels(seed)
        for smooth in (True, False):
            expected = rendered(levels, smooth=smooth)
            full += bool(expected.any()) and not expected.all()
            if not np.array_equal(clean_mask(levels, smooth=smooth), expected):
                different.append((seed, smooth))
    assert different == []
    assert full > 100  # the masks are no trivial ones


@pytest.mark.parametrize("folder", ["yellow/masks", "red/masks", "yellow_masks_v0_uint16"])
def test_the_rule_is_that_of_scikit_image_on_real_masks(data: Path, folder: str) -> None:
    paths = sorted((data / "fnc" / folder).glob("*.png"))
    assert paths
    for path in paths:
        levels = mask_levels(read_raster(path), path)
        assert levels.dtype == np.bool_
        white = levels.astype(np.uint8) * np.uint8(255)
        for smooth in (True, False):
            np.testing.assert_array_equal(clean_mask(levels, smooth=smooth), rendered(white, smooth=smooth))


def test_sizes_are_strict_and_specks_that_touch_at_a_corner_are_two() -> None:
    mask = np.zeros((60, 90), np.bool_)
    mask[5:10, 5:13] = True  # 40 px
    mask[5:10, 20:28] = True
    mask[5, 20] = False  # 39 px
    mask[20:50, 5:45] = True
    mask[25:30, 10:15] = False  # a hole of 25 px
    mask[25:30, 25:30] = False
    mask[25, 25] = True  # and one of 24
    mask[40:45, 60:65] = True
    mask[45:50, 65:70] = True  # 25 + 25 px
    cleaned = clean_mask(mask, smooth=False)
    assert cleaned[5:10, 5:13].all()
    assert not cleaned[5:10, 20:28].any()
    assert not cleaned[25:30, 10:15].any()
    assert cleaned[25:30, 25:30].all()
    assert not cleaned[40:50, 60:70].any()


def test_levels_above_150_of_255_are_cells_whatever_the_depth() -> None:
    here = Path("m.png")
    grey = np.tile(np.array([0, 150, 151, 255], np.uint8).repeat(10), (10, 1))
    expected = np.tile(np.array([0, 0, 1, 1], bool).repeat(10), (10, 1))
    np.testing.assert_array_equal(clean_mask(mask_levels(grey, here), smooth=False), expected)
    for other in (grey.astype(np.uint16) * 257, grey / 255, np.stack([grey, grey * 0, grey], axis=2)):
        np.testing.assert_array_equal(clean_mask(mask_levels(other, here), smooth=False), expected)
    # Two values are a mask as they stand.
    for high, kind in ((1, np.uint8), (128, np.uint8), (65535, np.uint16), (1.0, np.float32)):
        two = np.where(grey > 150, high, 0).astype(kind)
        np.testing.assert_array_equal(clean_mask(mask_levels(two, here), smooth=False), expected)


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.array([[0, 3, 57]], np.uint16), "uint16 values up to 57"),
        (np.array([[0, 70000, 5]], np.int32), "int32 values up to 70000"),
        (np.array([[0.0, 1.5, 0.5]]), "float64 values up to 1.5"),
        (np.array([[-1, 3, 2]], np.int16), "values from -1 to 3"),
        (np.array([[0, np.nan]]), "nan"),
    ],
    ids=["labels", "large", "no fractions", "negative", "not a number"],
)
def test_what_is_no_mask_is_refused(pixels: np.ndarray, found: str) -> None:
    with pytest.raises(InputError, match=found):
        mask_levels(pixels, Path("m.tif"))


def test_31_of_the_published_names_were_drawn_by_hand(data: Path) -> None:
    index = pd.read_csv(data / "fnc" / "v1_yellow_index.csv")
    names = [name.split(".")[0] for name in index["original_name"] if drawn_by_hand(name)]
    assert sum(name.endswith("_y") for name in names) == 8
    assert sum(name.endswith("_o") for name in names) == 20  # the list at hand lacks three of the 23
    assert len(names) == 28


def test_names_of_hand_drawn_masks_match_in_any_case_and_with_two_suffixes(tmp_path: Path) -> None:
    assert drawn_by_hand("deep/MAR38S1C3R1_DML_20_O.png.tiff")
    assert drawn_by_hand("mar36bS1C6R2_DMr_200x_y.PNG")
    assert not drawn_by_hand("Mar36bS1C6R2_DMr_200x_g.png")
    assert not drawn_by_hand("Mar19bS1C4R2_LHr_200x.png")
    assert not drawn_by_hand("a_o.png", ["b"])
    listed = tmp_path / "names.txt"
    listed.write_text("# ours\n\n a.TIF \nsub/b\n")
    assert read_names(listed) == ["a.TIF", "sub/b"]
    assert drawn_by_hand("x/A.png", read_names(listed))
    with pytest.raises(InputError, match=r"gone\.txt.*nothing of that name"):
        read_names(tmp_path / "gone.txt")
    listed.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="text file"):
        read_names(listed)


def test_a_folder_is_cleaned_mask_by_mask_and_a_broken_one_stops_nothing(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", speckled(1))
    put(tmp_path / "in" / "sub" / "b_o.tif", speckled(2))
    put(tmp_path / "in" / "empty.png", np.zeros((30, 40), np.uint8))
    put(tmp_path / "in" / "faint.png", np.arange(1200, dtype=np.uint8).reshape(30, 40) % 90)
    whole = put(tmp_path / "in" / "cut.png", speckled(3)).read_bytes()
    (tmp_path / "in" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "words.png").write_text("no picture")
    put(tmp_path / "in" / "labels.png", (np.arange(1200).reshape(30, 40) % 50).astype(np.uint16))
    summary = clean(tmp_path / "in", tmp_path / "out")
    assert list(summary.failures) == ["cut.png", "labels.png", "words.png"]
    assert "--to masks" in summary.failures["labels.png"]
    table = pd.read_csv(tmp_path / "out" / "changes.csv", keep_default_na=False)
    assert list(table["picture"]) == [
        "a.png",
        "cut.png",
        "empty.png",
        "faint.png",
        "labels.png",
        "sub/b_o.tif",
        "words.png",
    ]
    rows = table.set_index("picture")
    assert rows.loc["faint.png", "reason"] == "nothing is brighter than 150 of 255"
    assert rows.loc["empty.png", "iou"] == ""
    assert (rows.loc["a.png", "smoothed"], rows.loc["sub/b_o.tif", "smoothed"]) == ("True", "False")
    for name, seed, smooth in (("a.png", 1, True), ("sub/b_o.png", 2, False)):
        before, after = speckled(seed) > 150, read_raster(tmp_path / "out" / "masks" / name) > 0
        np.testing.assert_array_equal(after, rendered(speckled(seed), smooth=smooth))
        row = rows.loc[name.replace("_o.png", "_o.tif")]
        assert int(row["added_px"]) == (after & ~before).sum()
        assert int(row["removed_px"]) == (before & ~after).sum() > 0
        assert float(row["iou"]) == pytest.approx((before & after).sum() / (before | after).sum())
        assert int(row["objects_after"]) == cv2.connectedComponents(after.astype(np.uint8))[0] - 1
    made = sorted(path.name for path in (tmp_path / "out" / "masks").rglob("*.png"))
    assert made == ["a.png", "b_o.png", "empty.png", "faint.png"]


def test_the_same_again_does_nothing_and_a_changed_mask_alone_is_cleaned_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        put(tmp_path / "in" / f"{number}.png", speckled(number))
    clean(tmp_path / "in", tmp_path / "out")
    before = bytes_of(tmp_path / "out")
    cleaned = []
    monkeypatch.setattr("fncells.cleaning.clean_mask", lambda *a, **k: cleaned.append(1) or clean_mask(*a, **k))
    clean(tmp_path / "in", tmp_path / "out")
    assert cleaned == []
    assert bytes_of(tmp_path / "out") == before
    (tmp_path / "out" / "masks" / "1.png").write_bytes(b"spoilt")
    clean(tmp_path / "in", tmp_path / "out")
    assert len(cleaned) == 1
    assert bytes_of(tmp_path / "out") == before
    put(tmp_path / "in" / "2.png", speckled(9))
    (tmp_path / "in" / "3.png").unlink()
    own = put(tmp_path / "out" / "masks" / "own.png", speckled(5))
    clean(tmp_path / "in", tmp_path / "out")
    assert len(cleaned) == 2
    assert not (tmp_path / "out" / "masks" / "3.png").exists()
    assert own.exists()  # what fncells did not make is not touched
    own.unlink()
    clean(tmp_path / "in", tmp_path / "fresh", CleanSettings(workers=2))
    assert bytes_of(tmp_path / "fresh") == bytes_of(tmp_path / "out")


def test_a_killed_run_leaves_nothing_half_written_and_goes_on(tmp_path: Path) -> None:
    for number in range(16):
        put(tmp_path / "in" / f"{number}.png", speckled(number, (400, 600)))
    program = "import sys; from fncells.cli import run; sys.exit(run(['clean', *sys.argv[1:]]))"
    words = [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"]
    with subprocess.Popen(words) as cleaner:
        while len(list((tmp_path / "out" / "masks").glob("[0-9]*.png"))) < 3:
            assert cleaner.poll() is None
            time.sleep(0.002)
        cleaner.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out" / files.RECORD_NAME).exists()
    for path in (tmp_path / "out" / "masks").glob("[0-9]*.png"):
        read_raster(path)
    assert run(["clean", str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"]) == 0
    assert run(["clean", str(tmp_path / "in"), str(tmp_path / "fresh"), "--quiet"]) == 0
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_the_figure_shows_before_and_after_and_the_page_every_mask(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png", speckled(1, (400, 600)))
    put(tmp_path / "in" / "b.png", np.full((50, 60), 255, np.uint8))
    put(tmp_path / "pictures" / "a.jpg", np.random.default_rng(0).integers(0, 90, (400, 600, 3), dtype=np.uint8))
    summary = clean(tmp_path / "in", tmp_path / "out")
    page = clean_report(summary, tmp_path / "pictures").read_text(encoding="utf-8")
    assert "a.png" in page
    assert "b.png" in page
    figure = cv2.imread(str(tmp_path / "out" / "figure3.png"))[..., ::-1]
    colours = {tuple(int(part) for part in colour) for colour in figure.reshape(-1, 3)}
    assert {(118, 118, 118), (86, 180, 233), (240, 110, 20)} <= colours  # kept, added, removed: apart in lightness too
    assert (tmp_path / "out" / "figure3.svg").read_bytes().startswith(b"<?xml")
    first = bytes_of(tmp_path / "out")
    clean_report(clean(tmp_path / "in", tmp_path / "out"), tmp_path / "pictures")
    assert bytes_of(tmp_path / "out") == first
    # Without the pictures, and where nothing changed, there is a page all the same.
    (tmp_path / "in" / "a.png").unlink()
    clean_report(clean(tmp_path / "in", tmp_path / "plain"))
    assert not (tmp_path / "plain" / "figure3.png").exists()


def test_clean_tells_its_totals_and_its_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "in" / "a.png", speckled(1))
    (tmp_path / "in" / "b.png").write_text("no picture")
    listed = tmp_path / "by_hand.txt"
    listed.write_text("a\n")
    words = ["clean", str(tmp_path / "in"), str(tmp_path / "out"), "--json", "--by-hand", str(listed)]
    assert run([*words, "--quiet"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["pictures"], told["cleaned"], told["failed"]) == (2, 1, 1)
    assert captured.err.startswith("failed: b.png: ")
    assert told["per_picture"][0]["smoothed"] is False
    record = files.read_record(tmp_path / "out")
    assert record is not None
    assert record["settings"]["by_hand"] == ["a"]
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere", "out"], "nothing of that name"),
        (["none", "out"], "expected masks"),
        (["in", "in"], "the folder of the masks"),
        (["in", "file.txt"], "found a file"),
        (["in", "out", "--radius", "-1"], "radius"),
        (["in", "out", "--workers", "0"], "workers"),
    ],
)
def test_what_cannot_be_cleaned_is_one_line(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "in" / "a.png", speckled(1))
    (tmp_path / "none").mkdir()
    (tmp_path / "file.txt").touch()
    assert run(["clean", *words]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert says in told
    assert not (tmp_path / "out").exists()


def test_masks_inside_the_output_folder_are_not_taken_for_inputs(tmp_path: Path) -> None:
    put(tmp_path / "a.png", speckled(1))
    for _ in range(2):
        assert [row["picture"] for row in clean(tmp_path, tmp_path / "cleaned").rows] == ["a.png"]
    shutil.rmtree(tmp_path / "cleaned")
