"""Tests of the command line: what it prints, where, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fncells import files
from fncells.cli import COMMANDS, run

HEAVY = {"torch", "lightning", "monai", "onnxruntime", "pandas", "matplotlib", "scipy", "cv2"}


@pytest.fixture(autouse=True)
def quiet_afterwards() -> object:
    yield
    files.show_progress(False)


def write_labels(folder: Path, names: dict[str, list[int]]) -> Path:
    """Write label pictures of 64 x 48 px with a square at each place."""
    for name, places in names.items():
        labels = np.zeros((48, 64), dtype=np.uint16)
        for number, x in enumerate(places, 1):
            labels[10:20, x : x + 8] = number
        folder.mkdir(exist_ok=True, parents=True)
        cv2.imwrite(str(folder / name), labels)
    return folder


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_import_load_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from fncells.cli import run; code = run(sys.argv[1:]);"
        f"sys.stderr.write(','.join(sorted(set(sys.modules) & {HEAVY!r}))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
    assert done.stderr == ""


def test_a_build_with_nothing_to_do_loads_nothing_heavy(tmp_path: Path) -> None:
    lab, archive = tmp_path / "lab", tmp_path / "archive"
    assert run(["synth", str(lab), "--pictures", "1", "--seed", "1", "--size", "64x48", "--quiet"]) == 0
    assert run(["build", str(lab), str(archive), "--quiet"]) == 0
    program = (
        "import sys; from fncells.cli import run; code = run(sys.argv[1:]);"
        f"sys.stderr.write(','.join(sorted(set(sys.modules) & {HEAVY!r}))); sys.exit(code)"
    )
    words = [sys.executable, "-c", program, "build", str(lab), str(archive)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "0 converted, 3 unchanged" in done.stdout
    assert done.stderr == ""


STOPS = {
    # what happens in the command, what is to be said, and the exit code
    "in a destructor, from where it cannot be heard": ("Deep(); time.sleep(20)", "stopped", 130),
    "while a thread ends in an error": ("stop(); time.sleep(20)", "stopped", 130),
    "when all is done": ("atexit.register(stop)", "", 0),
    "twice, the second when all is said": ("atexit.register(stop); stop(); time.sleep(20)", "stopped", 130),
}


@pytest.mark.parametrize("order", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", STOPS)
def test_a_stop_is_heard_whenever_it_comes_and_is_one_line(moment: str, order: str) -> None:
    happens, said, code = STOPS[moment]
    program = f"""
import atexit, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests in the background has it ignored
from fncells import cli

def stop():
    os.kill(os.getpid(), signal.{order})

class Deep:
    def __del__(self):
        stop()
        time.sleep(0.1)

def run(words):
    try:
        {happens}
        return 0
    except KeyboardInterrupt:
        thread = threading.Thread(target=dict().__getitem__, args=("gone",))
        thread.start()
        thread.join()
        print("stopped", file=sys.stderr)
        return 130

cli.run = run
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15)
    assert (done.stdout, done.stderr.strip(), done.returncode) == ("", said, code)


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = f"import sys, fncells; assert not set(sys.modules) & {HEAVY!r}"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"fncells {command}" in shown
    words = " ".join(shown.split())
    assert COMMANDS[command] in words
    assert f"Example: fncells {command}" in words


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_readme(command: str) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert f"fncells {command}" in readme or f"make {command}" in readme


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["count"],
        ["count", "pictures"],
        ["count", "pictures", "--out", "x", "--workers", "many"],
        ["synth", "lab", "--pictures", "1", "--seed", "1", "--size", "large"],
        ["build", "nowhere", "archive"],
        ["convert", "nowhere", "target", "--to", "via"],
        ["count", "nowhere", "--out", "x"],
        ["evaluate", "nowhere", "nothing"],
        ["evaluate", "nowhere"],
        ["agree", "nowhere", "nothing"],
        ["agree", "nowhere"],
        ["stats", "nowhere"],
        ["measure", "nowhere", "--out", "x"],
        ["check", "nowhere"],
        ["train", "nowhere", "--collection", "green", "--out", "run"],
        ["export", "nowhere", "model.onnx"],
    ],
    ids=lambda words: " ".join(words),
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fncells: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_convert_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_labels(tmp_path / "labels", {"a.png": [5, 20, 40], "b.png": []})
    assert run(["convert", str(source), str(tmp_path / "a.json"), "--to", "via", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["from"], told["to"], len(told["per_picture"])) == ("labels", "via", 2)
    assert run(["convert", str(tmp_path / "a.json"), str(tmp_path / "back"), "--to", "labels", "--from", "via"]) == 0
    assert "via to labels" in capsys.readouterr().out
    for name in ("a.png", "b.png"):
        before, after = (cv2.imread(str(folder / name), -1) for folder in (source, tmp_path / "back"))
        np.testing.assert_array_equal(before, after)


def test_evaluate_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = write_labels(tmp_path / "truth", {"a.png": [5, 20, 40], "b.png": [30, 50]})
    found = write_labels(tmp_path / "found", {"a.png": [5, 20], "c.png": [3, 4]})
    images = write_labels(tmp_path / "images", {"a.png": [5], "b.png": [30]})
    out = tmp_path / "page"
    words = ["evaluate", str(truth), str(found), "--json", "--out", str(out), "--images", str(images)]
    assert run([*words, "--distance", "5"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["rule"], told["pictures"], told["detection"]["distance_px"]) == ("one-to-one", 2, 5.0)
    assert [told["segmentation"][key] for key in ("tp", "fp", "fn")] == [2, 0, 3]
    assert "b.png: no prediction" in captured.err
    assert "c.png: no truth" in captured.err
    assert (out / "report.html").exists()
    assert run(["evaluate", str(truth), str(truth), "--rule", "published"]) == 0
    assert "published" in capsys.readouterr().out


def test_several_predictions_are_compared_beside_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = write_labels(tmp_path / "truth", {"a.png": [5, 20, 40], "b.png": [30, 50], "c.png": []})
    good = write_labels(
        tmp_path / "good", {"a_cp_masks.tif": [5, 20, 41], "b_cp_masks.tif": [30, 50], "c_cp_masks.tif": []}
    )
    poor = write_labels(tmp_path / "poor", {"a.png": [5], "b.png": [], "c.png": [9]})
    people = [str(write_labels(tmp_path / name, {"a.png": [5, 20], "b.png": [30, 50]})) for name in ("ann", "ben")]
    words = ["evaluate", str(truth), str(good), str(poor), "--distance", "3", "--workers", "2", "--quiet"]
    out = tmp_path / "scores"
    assert run([*words, "--annotators", *people, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["detection"]["tp"] for one in told["predictions"].values()] == [5, 1]
    assert {one["second"] for one in told["differences"]} == {"poor"}
    assert told["annotators"]["against_truth"]["n"] == 2
    record = json.loads((out / "fncells-run.json").read_text(encoding="utf-8"))
    assert (record["command"], "workers" in record["settings"]) == ("evaluate", False)
    assert {name.split("/")[0] for name in record["inputs"]} == {"truth", "prediction", "annotator"}
    assert str(tmp_path) not in json.dumps(record)
    (tmp_path / "ann" / "a.png").write_bytes(b"no picture")
    assert run([*words, "--annotators", *people]) == 1
    assert "failed: ann: a.png: " in (captured := capsys.readouterr()).err
    assert "ben: c.png: not annotated; left out" in captured.err
    assert run(words[:-1]) == 0
    shown = capsys.readouterr().out
    assert "| good | 1.00 |" in shown
    assert "poor − good" in shown


def test_agree_compares_people_and_names_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    people = {
        "ann": {"a.png": [5, 20], "b.png": [30, 50]},
        "ben": {"a.png": [5, 20], "b.png": [30]},
        "cy": {"a.png": [5, 20]},
    }
    folders = [str(write_labels(tmp_path / name, pictures)) for name, pictures in people.items()]
    assert run(["agree", *folders[:2], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["annotators"], told["pictures"]) == (["ann", "ben"], 2)
    assert told["pairs"][0]["annotators"] == ["ann", "ben"]
    assert [told["pairs"][0]["segmentation"][key] for key in ("tp", "fp", "fn")] == [3, 0, 1]
    assert set(told["consensus"]) == {"majority", "staple"}
    out = tmp_path / "page"
    assert run(["agree", *folders, "--consensus", folders[0], "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "cy: b.png: not annotated; left out" in captured.err
    assert "| given consensus – ann | 1.00 |" in captured.out
    assert {file.name for file in out.iterdir()} >= {"report.html", "agreement.json", "fncells-run.json"}
    (tmp_path / "cy" / "b.png").write_bytes(b"no picture")
    assert run(["agree", *folders, "--quiet"]) == 1
    assert "failed: cy: b.png: " in capsys.readouterr().err


def test_animals_come_from_the_index_where_the_truth_lies_in_an_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, archive = tmp_path / "lab", tmp_path / "archive"
    words = ["--pictures", "6", "--seed", "3", "--collections", "yellow", "--size", "160x120", "--quiet"]
    assert run(["synth", str(lab), *words]) == 0
    assert run(["build", str(lab), str(archive), "--quiet"]) == 0
    truth = archive / "yellow" / "trainval" / "ground_truths" / "labels"
    assert run(["evaluate", str(truth), str(truth), "--group", "animal", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bootstrap"]["by"] == "animal"
    groups = [one["group"] for one in told["per_picture"]]
    assert all(group.startswith(("mar", "rt")) for group in groups)
    assert told["bootstrap"]["groups"] == len(set(groups))


def test_a_distance_in_micrometres_needs_a_pixel_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tifffile

    truth = write_labels(tmp_path / "truth", {"a.png": [5]})
    found = write_labels(tmp_path / "found", {"a.png": [9]})
    words = ["evaluate", str(truth), str(found), "--json", "--quiet", "--distance-um"]
    assert run([*words, "2"]) == 2
    assert "expected a known pixel size" in capsys.readouterr().err
    assert run([*words, "2", "--pixel-size", "0.5"]) == 0
    told = json.loads(capsys.readouterr().out)["detection"]
    assert (told["tp"], told["distance_px"], told["distance_um"]) == (1, 4.0, 2.0)
    (tmp_path / "images").mkdir()
    calibrated = {"resolution": (2.0, 2.0), "metadata": {"unit": "um"}, "imagej": True}
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.zeros((48, 64), np.uint8), **calibrated)
    assert run([*words, "1.9", "--images", str(tmp_path / "images")]) == 0
    told = json.loads(capsys.readouterr().out)["detection"]
    assert (told["tp"], told["distance_px"], told["distance_um"]) == (0, 3.8, 1.9)


def test_an_interrupted_run_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fncells.formats.convert", interrupted)
    assert run(["convert", "a", "b", "--to", "via"]) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "b")

    monkeypatch.setattr("fncells.formats.convert", full)
    assert run(["convert", "a", "b", "--to", "via"]) == 2
    told = "fncells: b: expected a folder that can be written, with room, found No space left on device; make room, and"
    assert capsys.readouterr().err == f"{told} the same command goes on from here\n"


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_labels(tmp_path / "labels", {"a.png": [5]})
    assert run(["convert", str(source), str(tmp_path / "a.json"), "--to", "via", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    raw = write_labels(tmp_path / "raw", {"a.png": [5]})
    words = ["evaluate", str(raw), str(source)]
    assert run([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run(words) == 0
    assert "evaluate: 1 of 1" in capsys.readouterr().err


def test_from_a_lab_folder_to_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command once, each on what the one before it made."""
    lab, archive, trained = (str(tmp_path / name) for name in ("lab", "archive", "run"))
    common = ["--json", "--quiet"]

    def told(*words: str, code: int = 0) -> dict[str, object]:
        assert run([*words, *common]) == code
        return json.loads(capsys.readouterr().out)

    made = told("synth", lab, "--pictures", "6", "--seed", "2", "--collections", "yellow", "--size", "240x180")
    assert made["pictures"] == 6
    (tmp_path / "lab" / "raw" / "yellow" / "Mar99S1C1R1_LHl_200x_y.TIF").write_bytes(b"no picture")
    built = told("build", lab, archive, code=1)
    assert [one["picture"] for one in built["failed"]] == ["yellow/Mar99S1C1R1_LHl_200x_y.TIF"]
    found = told("check", archive, "--out", str(tmp_path / "check"))
    assert found["serious"] == 0
    written = {path.name for path in (tmp_path / "check").iterdir()}
    assert written == {"findings.csv", "findings.json", "report.html"}
    measured = told("measure", archive, "--out", str(tmp_path / "measures"))
    assert measured["n_cells"] == sum(row["n_cells"] for row in measured["pictures"]) > 0
    table = told("stats", archive, "--counts", "published", "--out", str(tmp_path / "stats"))
    assert table["yellow"]["counts"] == "published"
    few = [
        "--recipe",
        "best",
        "--epochs",
        "1",
        "--batch",
        "2",
        "--crop",
        "64",
        "--seed",
        "1",
        "--learning-rate",
        "0.001",
    ]
    assert told("train", archive, "--collection", "yellow", "--out", trained, *few)["best_epoch"] == 1
    model = str(tmp_path / "model.onnx")
    assert len(told("export", trained, model)["sha256"]) == 64
    test = tmp_path / "archive" / "yellow" / "test"
    predicted = str(tmp_path / "predicted")
    told("predict", str(test / "images"), "--out", predicted, "--model", model)
    scores = told("evaluate", str(test / "ground_truths" / "labels"), predicted)
    assert scores["pictures"] == len(list((test / "images").iterdir()))
    raw = str(tmp_path / "lab" / "raw")
    counted = told("count", raw, "--out", str(tmp_path / "counts"), "--diameter", "20", code=1)
    assert (counted["counted"], counted["failed"]) == (6, 1)
    assert (tmp_path / "counts" / "report.html").exists()
    assert told("check", str(test / "ground_truths" / "masks"))["serious"] == 0


def test_a_rule_for_names_and_a_channel_are_options_of_build_and_count(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("build", "count"):
        assert run([command, "--help"]) == 0
        shown = capsys.readouterr().out
        for option in ("--name-pattern", "--channel", "--z", "--time", "--scene", "--page"):
            assert option in shown
    assert run(["build", "lab", "archive", "--name-pattern", "("]) == 2
    assert "name pattern: expected a regular expression" in capsys.readouterr().err
    assert run(["count", "lab", "--out", "counts", "--z", "mean"]) == 2
    assert "expected a number from 1, or max" in capsys.readouterr().err
