"""Tests of writing whole files, finding pictures and keeping a ledger."""

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from fncells import files
from fncells.errors import InputError, MissingExtraError, OutputError
from fncells.ledger import Ledger


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(ZeroDivisionError), files.whole(path) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_killed_writer_leaves_the_old_file_and_a_leftover_that_can_be_cleared(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = (
        "import sys, time; from pathlib import Path; from fncells.files import whole\n"
        "with whole(Path(sys.argv[1])) as t:\n    t.write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    files.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_files_written_together_get_their_names_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), files.together():
        files.write_text(tmp_path / "a.txt", "new")
        files.write_text(tmp_path / "b.txt", "new")
        1 / 0  # noqa: B018
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    with files.together():
        for number in range(40):
            files.write_text(tmp_path / f"{number}.txt", "old")
            files.write_text(tmp_path / f"{number}.txt", f"{number}")
        assert not (tmp_path / "0.txt").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.txt": "old",
        **{f"{number}.txt": f"{number}" for number in range(40)},
    }
    files.write_text(tmp_path / "a.txt", "alone again")
    assert (tmp_path / "a.txt").read_text() == "alone again"


def test_files_written_together_name_the_folder_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match=r"found No space left on device; make room"), files.together():
        files.write_text(tmp_path / "a.txt", "new")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "old.txt", "old")
    with pytest.raises(ZeroDivisionError), files.whole_folder(tmp_path / "a") as temporary:
        files.write_text(temporary / "new.txt", "half")
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "old.txt"]
    for text in ("new", "newer"):
        with files.whole_folder(tmp_path / "a") as temporary:
            files.write_text(temporary / f"{text}.txt", text)
            assert (tmp_path / "a").is_dir()
        assert [path.name for path in tmp_path.rglob("*")] == ["a", f"{text}.txt"]


def test_folders_that_a_killed_run_has_left_are_cleared(tmp_path: Path) -> None:
    with files.whole_folder(tmp_path / "a") as temporary:
        files.write_text(temporary / "b.txt", "b")
    (tmp_path / "a").rename(temporary)
    files.remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "; make room, and the same command goes on from here"),
        (errno.EDQUOT, "; make room, and the same command goes on from here"),
        (errno.EROFS, "; give another folder, or make it writable, and the same command goes on from here"),
        (errno.EACCES, "; give another folder, or make it writable, and the same command goes on from here"),
        (errno.EIO, ""),
    ],
)
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def opened(path: Path, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", opened)
    found = (
        f"{tmp_path / 'deep'}: expected a folder that can be written, with room, found {os.strerror(number)}{advice}"
    )
    with pytest.raises(OutputError) as caught:
        files.write_text(tmp_path / "deep" / "a.txt", "a")
    assert str(caught.value) == found


def test_what_cannot_be_read_while_something_is_written_is_not_laid_to_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_zip(tmp_path / "a.zip", [("b.txt", tmp_path / "gone.txt")])
    assert not list(tmp_path.iterdir())


def test_tables_and_archives_have_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    table = pd.DataFrame({"n": [1.5, None], "text": ["=1+1", "http://x.org"]})
    written = []
    for _ in range(2):
        files.write_workbook(tmp_path / "a.xlsx", {"sheet": table})
        files.write_zip(tmp_path / "a.zip", [("b/a.txt", b"hello")])
        files.write_csv(tmp_path / "a.csv", table)
        written.append([(tmp_path / name).read_bytes() for name in ("a.xlsx", "a.zip", "a.csv")])
        time.sleep(2.1)  # a zip archive's clock ticks every two seconds
    assert written[0] == written[1]
    back = pd.read_excel(tmp_path / "a.xlsx", sheet_name="sheet")
    pd.testing.assert_frame_equal(back, table)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("b/a.txt") == b"hello"
    assert (tmp_path / "a.csv").read_text() == "n,text\n1.5,=1+1\n,http://x.org\n"


def test_json_keeps_order_and_letters_and_refuses_nan(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"z": "µ", "a": [1]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "z": "µ",\n "a": [\n  1\n ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()


def test_pictures_are_found_by_suffix_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.TIF", "a.png", "sub/c.jpeg", "notes.txt", ".hidden/d.png", ".e.png"):
        files.write_text(tmp_path / "in" / name, "")
    single = tmp_path / "odd.dat"
    single.touch()
    found = files.find_pictures([tmp_path / "in", single])
    assert [source.name for source in found] == ["a.png", "b.TIF", "odd.dat", "sub/c.jpeg"]
    assert found[3].path == tmp_path / "in" / "sub" / "c.jpeg"


def test_pictures_whose_results_would_collide_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert len(files.find_pictures([tmp_path, tmp_path / "a.png"])) == 1
    (tmp_path / "a.tif").touch()
    with pytest.raises(InputError, match=r"a\.tif: expected one picture of each name.*a\.png"):
        files.find_pictures([tmp_path])


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        files.find_pictures([tmp_path / "gone"])


def test_a_record_tells_what_was_done_and_is_read_back(tmp_path: Path) -> None:
    assert files.read_record(tmp_path) is None
    files.write_record(tmp_path, "count", {"threshold": 0.5}, {"b.png": "2", "a.png": "1"}, model="3")
    record = files.read_record(tmp_path)
    assert record is not None
    assert list(record) == ["fncells", "command", "settings", "model_sha256", "inputs"]
    assert json.dumps(record["inputs"]) == '{"a.png": "1", "b.png": "2"}'
    (tmp_path / files.RECORD_NAME).write_text("[]")
    assert files.read_record(tmp_path) is None


def test_progress_is_silent_until_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(files.progress([1, 2], 2, "counting")) == [1, 2]
    assert capsys.readouterr().err == ""
    files.show_progress(True)
    try:
        assert list(files.progress(range(20), 20, "counting")) == list(range(20))
    finally:
        files.show_progress(False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "counting: 2 of 20"
    assert lines[-1] == "counting: 20 of 20"


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    files.show_progress(True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    try:
        list(files.progress(range(4), 4, "counting"))
    finally:
        files.show_progress(False)
    assert capsys.readouterr().err.endswith(f"\rcounting {'█' * 20} 4/4\n")


def test_a_ledger_remembers_by_task_and_digest_across_openings(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.put("count", "abc", {"n": 3})
        ledger.put("count", "abc", {"n": 4})
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger.get("count", "abc") == {"n": 4}
        assert ledger.get("build", "abc") is None


def test_a_damaged_ledger_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b"this is no database at all" * 100)
    with Ledger(path) as ledger:
        ledger.put("count", "abc", 1)
        assert ledger.get("count", "abc") == 1
    assert (tmp_path / "ledger.damaged").exists()


def test_a_ledger_that_cannot_be_opened_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.put("count", "abc", 1)
    path.rename(tmp_path / "kept")
    path.mkdir()
    with pytest.raises(OutputError, match="expected a folder that can be written, with room, found unable to open"):
        Ledger(path)
    path.rmdir()
    (tmp_path / "kept").rename(path)
    with Ledger(path) as ledger:
        assert ledger.get("count", "abc") == 1


def test_errors_are_one_line_that_no_file_name_can_forge() -> None:
    error = InputError("a\n\x1b[31mb.png", place="line 3", expected="x", found="y" * 5000, advice="do z")
    assert "\n" not in str(error)
    assert "\x1b" not in str(error)
    assert len(str(error)) == 1000
    assert str(InputError(None, expected="x", found="y")) == "expected x, found y"
    assert 'pip install "fncells[train]"' in str(MissingExtraError("train", "training"))


@pytest.mark.parametrize(
    "error",
    [
        InputError("a", expected="x", found="y"),
        MissingExtraError("train", "training"),
        OutputError(Path("a"), OSError(28, "No space left on device", "a/b")),
        OutputError(Path("a"), sqlite3.OperationalError("database or disk is full")),
    ],
)
def test_errors_cross_from_a_worker_process(error: Exception) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
