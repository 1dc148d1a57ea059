"""What may befall a build: it is killed, the disk is full, inputs change under its hands, names are odd, others build too.

In each case nothing is half-written and nothing lost, each problem is one line, and the same command again gives the bytes of a
build without trouble.
"""

import errno
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from fncells import cli, ingest
from fncells.archive import Archive
from fncells.building import converting
from fncells.building import lab as reading_lab
from fncells.errors import OutputError
from fncells.formats import read_annotations
from fncells.ingest import BuildSettings, build
from fncells.ledger import Ledger
from fncells.truths import PARTITION_TRUTHS, truth_path
from labs import OVERLAPPING, SQUARE, content, names_of, placed, put_lab, put_metadata, put_outlines, put_picture

NAMES = names_of("green")[:6]
UNLABELLED = "Mar9bS1C1R1_DMr_200x_g.TIF"


def copied(source, target):
    shutil.copytree(source, target)
    return target


def put_changes(lab):
    """What a lab may hand in later: pictures more, outlines drawn anew, a picture annotated at last, and one made anew."""
    green = lab / "raw" / "green"
    put_picture(green / "AA.TIF", 50)
    put_picture(green / "Mar7bS1C1R1_LHl_200x_g.TIF", 51)
    put_picture(green / NAMES[3], 52)
    outlines = {name: [OVERLAPPING, SQUARE] for name in [*NAMES, UNLABELLED, "Mar7bS1C1R1_LHl_200x_g.TIF"]}
    put_outlines(lab / "annotations" / "green.csv", outlines)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A lab before and after changes, and the archive of either without trouble: all not to be changed."""
    root = tmp_path_factory.mktemp("course")
    put_lab(root / "lab", {"green": NAMES}, {"green": [UNLABELLED]})
    build(root / "lab", root / "archive")
    put_changes(copied(root / "lab", root / "later lab"))
    build(root / "later lab", copied(root / "archive", root / "later"))
    before, after = content(root / "archive"), content(root / "later")
    assert before != after
    assert any("unlabelled" in name for name in before.keys() - after.keys())
    return types.SimpleNamespace(
        fresh=(root / "lab", None, {}, before), update=(root / "later lab", root / "archive", before, after)
    )


def run(capsys, *words):
    """Run a command line; give its exit code, and what it said on standard error but for its progress."""
    code = cli.run([*map(str, words), "--quiet"])
    return code, capsys.readouterr().err.splitlines()


def check_valid(archive, before, after):
    """Hold every file against what it was and what it is to be, and read the archive as its users do."""
    for name, data in content(archive).items():
        if ".fncells-tmp-" not in name:
            assert data in (before.get(name), after.get(name)), name
    missing = {name for name in before.keys() & after.keys() if not (archive / name).exists()}
    # The one folder of a truth changes its place with a new one in two steps, and a kill may fall between them.
    assert {Path(name).parent.name for name in missing} <= {"yolo"}
    if not any(archive.glob("*/*/images/*.png")):
        assert not before
        return
    opened = Archive.open(archive)
    names = {(one.collection, one.name) for one in opened.samples()}
    assert {(Path(name).parts[0], Path(name).name) for name in before if "/images/" in name} <= names
    for one in opened.samples():
        one.read_picture()
        if one.partition != "unlabelled":
            one.read_cells()
    if (archive / "metadata_v2.xlsx").exists():
        assert {(row.dataset, row.image_name) for row in opened.index.itertuples()} <= names
    for kind in ("coco", "via", "via-csv"):
        for partition in ("trainval", "test"):
            path = archive / truth_path(PARTITION_TRUTHS[kind], "green", partition)
            if path.exists():
                assert {("green", one.name) for one in read_annotations(path)} <= names


# ---------------------------------------------------------------------------------------------------------------- killed


COMMAND = """
import sys
from fncells import cli, formats, images, ingest
from fncells.building import making
from fncells.commands import labs
import joblib.externals.loky, openpyxl, pandas
print("ready", flush=True)
cli.main()
"""


@contextmanager
def building(raw, archive, workers):
    """A build at work in a process of its own, from the moment on that all is imported."""
    words = ["build", str(raw), str(archive), "--workers", str(workers), "--quiet"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", COMMAND, *words], **pipes, start_new_session=True) as process:
        process.stdout.readline()
        yield process
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def kill(process, whom):
    """Kill the process, or its whole group, or one of its workers; tell whether there was anything to kill."""
    with suppress(ProcessLookupError):
        if whom == "group":
            os.killpg(process.pid, signal.SIGKILL)
        elif whom == "master":
            process.kill()
        else:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            ours = children.read_text().split() if children.exists() else []
            workers = [pid for pid in ours if "LokyProcess" in Path(f"/proc/{pid}/cmdline").read_text()]
            if not workers:
                return False
            os.kill(int(workers[0]), signal.SIGKILL)
        return True
    return False


@pytest.fixture(scope="module")
def lasts(course, tmp_path_factory):
    """How many seconds a build takes, by the number of workers."""
    seconds = {}
    for workers in (1, 2):
        with building(course.fresh[0], tmp_path_factory.mktemp("lasts") / "archive", workers) as process:
            start = time.perf_counter()
            assert process.wait() == 0
            seconds[workers] = time.perf_counter() - start
    return seconds


KILLS = [
    (stage, *kill)
    for stage in ("fresh", "update")
    for kill in (("master", 1), ("master", 2), ("worker", 2), ("group", 2))
]


@pytest.mark.parametrize(
    ("rounds", "stage", "whom", "workers"),
    [
        (1, "update", "master", 1),
        (1, "update", "master", 2),
        (1, "fresh", "worker", 2),
        (1, "fresh", "group", 2),
        *(pytest.param(9, *kill, marks=pytest.mark.slow) for kill in KILLS),
    ],
)
def test_killed_at_any_moment_it_ends_with_the_same_bytes(course, lasts, tmp_path, rounds, stage, whom, workers):
    """Moments spread over the whole build; slow: 72 of them."""
    raw, start, before, after = getattr(course, stage)
    rng = random.Random(f"{stage} {whom} {workers}")
    for number in range(rounds):
        archive = tmp_path / f"{number}"
        if start is not None:
            shutil.copytree(start, archive)
        with building(raw, archive, workers) as process:
            time.sleep(lasts[workers] * (number + rng.random()) / rounds)
            killed = kill(process, whom)
            if whom == "worker":
                told = [line for line in process.communicate(timeout=60)[1].splitlines() if "note: " not in line]
                line = (
                    "fncells: a worker process died, perhaps for want of memory; the same command with fewer workers "
                )
                died = killed and process.returncode == 2 and told == [f"{line}goes on from here"]
                assert died or (process.returncode == 0 and not told)
            process.wait()
        check_valid(archive, before, after)
        time.sleep(0.5)  # by then the workers have ended, too
        build(raw, archive, BuildSettings(workers=workers if number % 2 else 1))
        assert content(archive) == after


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_says_so_in_one_line_and_goes_on_later(course, tmp_path, order):
    """By the keyboard, which asks the workers too, or by a batch system."""
    raw, _, before, after = course.fresh
    with building(raw, tmp_path / "archive", 2) as process:
        while not any((tmp_path / "archive").glob("*/*/images/*.png")) and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, order) if order == signal.SIGINT else process.send_signal(order)
        _, told = process.communicate(timeout=60)
    done = process.returncode == 0 and not told
    assert done or (process.returncode, told) == (130, "fncells: stopped; the same command again goes on from here\n")
    check_valid(tmp_path / "archive", before, after)
    build(raw, tmp_path / "archive")
    assert content(tmp_path / "archive") == after


# ------------------------------------------------------------------------------------ no room, and other ends at any file


def end_at(monkeypatch, step, end):
    """Let the disk be full when the file of this step is to get its name, or kill the build then."""
    monkeypatch.undo()
    left, renamed = iter(range(step)), Path.replace

    def rename(path, target):
        if next(left, None) is None:
            raise (
                OSError(errno.ENOSPC, "No space left on device", str(path)) if end == "full" else KeyboardInterrupt(end)
            )
        return renamed(path, target)

    monkeypatch.setattr(Path, "replace", rename)


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("stage", ["fresh", "update"])
@pytest.mark.parametrize("end", ["full", "killed"])
def test_ended_at_any_file_it_ends_with_the_same_bytes(course, tmp_path, monkeypatch, stage, end, every):
    raw, start, before, after = getattr(course, stage)
    advice = "found No space left on device; make room, and the same command goes on from here"
    for step in range(0, 1000, every):
        archive = tmp_path / f"{step}"
        if start is not None:
            shutil.copytree(start, archive)
        end_at(monkeypatch, step, end)
        try:
            build(raw, archive)
            break
        except (KeyboardInterrupt, OutputError) as caught:
            told = str(caught)
        assert told == "killed" if end == "killed" else told.startswith(f"{archive}") and told.endswith(advice)
        assert not list(archive.rglob(".fncells-tmp-*"))
        check_valid(archive, before, after)
        end_at(monkeypatch, 1000, end)
        build(raw, archive)
        assert content(archive) == after
        shutil.rmtree(archive)
    assert step > 40
    assert content(archive) == after


def test_a_ledger_without_room_is_one_line_and_the_work_goes_on_later(course, tmp_path, monkeypatch, capsys):
    raw, _, _, after = course.fresh
    opened, ended = Ledger._opened, 0
    for pages in (1, 2, 4, 6, 8):

        def small(ledger, pages=pages):
            database = opened(ledger)
            database.execute(f"PRAGMA max_page_count = {pages}")
            return database

        monkeypatch.setattr(Ledger, "_opened", small)
        code, told = run(capsys, "build", raw, tmp_path / "archive")
        monkeypatch.undo()
        advice = "database or disk is full; make room, and the same command goes on from here"
        assert code == 0 or (len(told) == 1 and told[0].endswith(advice))
        ended += code == 2
        check_valid(tmp_path / "archive", {}, after)
    assert ended > 1
    assert not (tmp_path / "archive" / ".fncells-ledger.sqlite.damaged").exists()
    build(raw, tmp_path / "archive")
    assert content(tmp_path / "archive") == after


def test_on_a_full_disk_it_says_so_in_one_line_and_goes_on_when_there_is_room(course, disk, capsys):
    """A real disk that grows bit by bit, and with it the archive, and then its update."""
    folder, mounted = disk
    ended = 0
    for stage, sizes in (("fresh", range(100, 600, 40)), ("update", range(600, 900, 20))):
        raw, _, before, after = getattr(course, stage)
        for size in sizes:
            assert mounted(f"size={size}k")
            code, told = run(capsys, "build", raw, folder / "archive")
            if code == 2:
                ended += 1
                assert len(told) == 1, told
                assert told[0].startswith(f"fncells: {folder / 'archive'}"), told
                assert "full" in told[0] or "No space left on device" in told[0]
                assert told[0].endswith("make room, and the same command goes on from here")
            if (folder / "archive").exists():
                check_valid(folder / "archive", before, after)
        assert mounted("size=4m")
        build(raw, folder / "archive")
        assert content(folder / "archive") == after
    assert ended > 8


def test_a_disk_that_is_write_protected_is_one_line(course, disk, capsys):
    folder, mounted = disk
    raw, start, before, after = course.update
    assert mounted("size=4m")
    shutil.copytree(start, folder / "archive")
    assert mounted("ro")
    for place in ("archive", "new"):
        code, told = run(capsys, "build", raw, folder / place)
        assert code == 2
        line = f"fncells: {folder / place}: expected a folder that can be written, with room, found Read-only file system; "
        assert told == [f"{line}give another folder, or make it writable, and the same command goes on from here"]
    assert content(folder / "archive") == before
    assert mounted("rw")
    build(raw, folder / "archive")
    assert content(folder / "archive") == after


def test_a_folder_of_somebody_else_is_one_line(course, capsys):
    raw, start, before, _ = course.update
    if os.geteuid() == 0:
        barred, ours = 65534, 0
    else:
        barred = ours = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        lab, archive = copied(raw, folder / "lab"), copied(start, folder / "archive")
        for path in (archive, *archive.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        os.seteuid(barred)
        try:
            code, told = run(capsys, "build", lab, archive)
        finally:
            os.seteuid(ours)
            for path in (archive, *archive.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
        assert code == 2
        assert len(told) == 1
        assert "archive: expected a folder that can be written, with room, found Permission denied; give" in told[0]
        assert content(archive) == before


# ------------------------------------------------------------------------------------------------------------ two at once


def test_a_second_build_ends_at_once_and_a_lock_left_behind_does_not_matter(course, tmp_path):
    raw, start, _, after = course.update
    archive = copied(start, tmp_path / "archive")
    with ingest._opened(archive), building(raw, archive, 2) as process:
        _, told = process.communicate(timeout=20)
        assert process.returncode == 2
    line = f"fncells: {archive}: expected one build at a time, found another at work; wait until it has ended, or give"
    assert told == f"{line} another folder\n"
    assert (archive / ingest.LOCK_NAME).exists()
    build(raw, archive)
    assert content(archive) == after


def test_two_builds_that_begin_together_do_no_harm(course, tmp_path):
    raw, _, _, after = course.fresh
    with building(raw, tmp_path / "archive", 1) as one, building(raw, tmp_path / "archive", 2) as other:
        codes = {one.wait(60), other.wait(60)}
    assert 0 in codes
    assert codes <= {0, 2}
    assert content(tmp_path / "archive") == after


# ------------------------------------------------------------------------------------- inputs that change under its hands


def vanish(path):
    path.unlink()


def cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def be_replaced(path):
    put_picture(path, 99)


@pytest.mark.parametrize("when", ["before it is read", "after it is read"])
@pytest.mark.parametrize("befall", [vanish, cut_short, empty, be_replaced])
def test_a_picture_that_something_befalls_fails_alone_and_is_mended_later(
    course, tmp_path, monkeypatch, capsys, befall, when
):
    raw = copied(course.fresh[0], tmp_path / "lab")
    victim = raw / "raw" / "green" / NAMES[2]
    kept, read = victim.read_bytes(), converting.read_picture

    def reading(path, name, plane):
        if path != victim:
            return read(path, name, plane)
        picture = read(path, name, plane) if when == "after it is read" else befall(victim)
        befall(victim) if picture else None
        return picture or read(path, name, plane)

    monkeypatch.setattr(converting, "read_picture", reading)
    code, told = run(capsys, "build", raw, tmp_path / "archive")
    monkeypatch.undo()
    assert code == 1
    assert [line for line in told if line.startswith("failed: ")] == told
    assert len(told) == 1
    assert told[0].startswith(f"failed: green/{NAMES[2]}: ")
    assert len(placed(tmp_path / "archive")) == 6
    victim.write_bytes(kept)
    assert run(capsys, "build", raw, tmp_path / "archive") == (0, [])
    assert content(tmp_path / "archive") == course.fresh[3]


def test_a_picture_still_being_copied_is_taken_when_it_is_there(course, tmp_path, capsys):
    """The microscope's computer copies a picture while the build is at work, and between two builds."""
    raw = copied(course.fresh[0], tmp_path / "lab")
    coming = raw / "raw" / "green" / NAMES[2]
    data, done = coming.read_bytes(), threading.Event()
    coming.write_bytes(b"")

    def copy():
        with coming.open("wb") as file:
            for start in range(0, len(data), 100):
                file.write(data[start : start + 100])
                file.flush()
                time.sleep(0.002)
        done.set()

    thread = threading.Thread(target=copy)
    thread.start()
    while not done.is_set():
        code, told = run(capsys, "build", raw, tmp_path / "archive")
        assert code in (0, 1)
        assert all(line.startswith(f"failed: green/{NAMES[2]}: ") for line in told)
    thread.join()
    assert run(capsys, "build", raw, tmp_path / "archive") == (0, [])
    assert content(tmp_path / "archive") == course.fresh[3]


@pytest.mark.parametrize("stage", ["fresh", "update"])
@pytest.mark.parametrize(
    ("place", "befall"),
    [
        ("annotations/green.csv", vanish),
        ("annotations/green.csv", cut_short),
        ("annotations/green.csv", lambda path: path.write_text(f"{path.read_text()}\n")),
        ("metadata.xlsx", vanish),
        ("metadata.xlsx", cut_short),
    ],
)
def test_what_was_told_and_changes_in_mid_build_is_one_line(
    course, tmp_path, monkeypatch, capsys, stage, place, befall
):
    source, start, before, after = getattr(course, stage)
    raw, archive = copied(source, tmp_path / "lab"), tmp_path / "archive"
    if start is not None:
        shutil.copytree(start, archive)
    victim = raw / place
    kept = victim.read_bytes()
    gather = reading_lab.gather

    def gathering(*arguments):
        befall(victim)
        return gather(*arguments)

    monkeypatch.setattr(reading_lab, "gather", gathering)
    code, told = run(capsys, "build", raw, archive)
    monkeypatch.undo()
    assert code == 2
    assert len(told) == 1
    assert told[0].startswith(f"fncells: {victim}")
    assert content(archive) == before if before else not archive.exists()
    victim.write_bytes(kept)
    build(raw, archive)
    assert content(archive) == after


def test_an_annotation_file_that_comes_in_mid_build_is_one_line(course, tmp_path, monkeypatch, capsys):
    raw, gather = copied(course.fresh[0], tmp_path / "lab"), reading_lab.gather
    table = raw / "about.toml"

    def gathering(*arguments):
        lab = gather(*arguments)
        table.write_text('name = "ours"\n')
        return lab

    monkeypatch.setattr(reading_lab, "gather", gathering)
    told = f"fncells: {table}: expected the same content throughout, found a file that came or went; build again"
    assert run(capsys, "build", raw, tmp_path / "archive") == (2, [told])


def test_what_failed_is_tried_again_though_no_input_has_changed(course, tmp_path, monkeypatch):
    """A network drive may be away for a while, memory scarce, an extra not installed yet."""
    raw, _, _, after = course.fresh
    with monkeypatch.context() as away:

        def reading(path, *_):
            raise OSError(errno.EIO, "Input/output error", str(path))

        away.setattr(converting, "read_picture", reading)
        summary = build(raw, tmp_path / "archive")
        assert {reason for _, reason in summary.failed} == {"cannot be read: Input/output error"}
    assert build(raw, tmp_path / "archive").converted == 7
    assert content(tmp_path / "archive") == after


# ----------------------------------------------------------------------------------------------------------- odd names


TWINS = [
    ("a.tif", "a.png"),
    ("a.tif", "A.TIF"),
    ("a.tif", "a.TIF"),
    ("é.tif", "e\N{COMBINING ACUTE ACCENT}.tif"),
    ("a.tif", "a .tif"),
    ("a.tif", "a.tif "),
    ("sub/a.tif", "Sub/a.tif"),
]


@pytest.mark.parametrize("twins", TWINS)
def test_names_that_another_file_system_takes_for_one_are_refused_by_name(tmp_path, capsys, twins):
    for number, name in enumerate(twins):
        path = tmp_path / "raw" / "green" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path, format="PNG")
    code, told = run(capsys, "build", tmp_path, tmp_path / "archive")
    assert code == 2
    assert len(told) == 1
    assert (
        "expected one picture of each name (suffix, case, accents and blanks at the ends aside), found also" in told[0]
    )
    assert told[0].endswith("; rename one, or give the folders one at a time")
    assert all(str(tmp_path / "raw" / "green" / name) in told[0] for name in twins)
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("green/new\nline.tif", "expected a name of printable characters"),
        ("green/tab\t.tif", "expected a name of printable characters"),
        ("green/\udcff.tif", "expected a name of printable characters"),
        ("gre\nen/a.tif", "expected a name of printable characters"),
        ("green/ a.tif", "expected a name without blanks at its ends"),
        ("green/a.tif ", "expected a name without blanks at its ends"),
        ("green /a.tif", "expected a name without blanks at its ends"),
    ],
)
def test_names_that_a_table_does_not_give_back_are_refused(tmp_path, capsys, name, expected):
    path = tmp_path / "raw" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    code, told = run(capsys, "build", tmp_path, tmp_path / "archive")
    assert code == 2
    assert len(told) == 1
    assert expected in told[0]
    assert told[0].endswith("; rename it")


def test_collections_that_another_file_system_takes_for_one_are_refused(tmp_path, capsys):
    for name in ("Green", "green"):
        put_picture(tmp_path / "raw" / name / "a.tif")
    code, told = run(capsys, "build", tmp_path, tmp_path / "archive")
    assert code == 2
    assert len(told) == 1
    assert "green: expected collections whose names differ in more than upper and lower case, found also" in told[0]


ODD = ["=1+1.tif", "@b.tif", "+a.tif", "-1.tif", "#1.tif", "\"q'.tif", "_x0041_.tif", "1e5.tif", "2021-03-19.tif"]
ODD += ["=cmd|' !A0.tif", "a,b;c.tif", "http:..x.tif", "x" * 251 + ".tif", "µ" * 125 + ".tif", "TRUE.tif", "😀.tif"]


def test_odd_names_are_texts_everywhere_and_stay_the_same(tmp_path, capsys):
    """No formula, no number, no date: a second build finds each again by what the index says."""
    outlines = {name: [SQUARE] for name in ODD}
    for seed, name in enumerate(ODD):
        put_picture(tmp_path / "raw" / "green" / name, seed)
    put_outlines(tmp_path / "annotations" / "green.csv", outlines)
    assert run(capsys, "build", tmp_path, tmp_path / "archive") == (0, [])
    before = placed(tmp_path / "archive")
    assert {name for _, name in before} == set(ODD)
    assert {partition for _, partition in before.values()} == {"trainval", "test"}
    (tmp_path / "archive" / ".fncells-ledger.sqlite").unlink()
    put_picture(tmp_path / "raw" / "green" / "AA.tif", 100)
    assert run(capsys, "build", tmp_path, tmp_path / "archive") == (0, [])
    assert placed(tmp_path / "archive") == {**before, ("green", "AA.tif"): (f"{len(ODD) + 1}.png", "unlabelled")}


def test_odd_files_do_no_harm(tmp_path, capsys):
    green = tmp_path / "raw" / "green"
    put_picture(green / "a.tif")
    put_picture(green / "sub" / "a.tif", 1)
    Image.new("RGB", (1, 1)).save(green / "one.png")
    for name in (".DS_Store", "Thumbs.db", "._a.tif", "notes.txt", ".hidden/b.tif", "../.DS_Store"):
        (green / name).parent.mkdir(exist_ok=True)
        (green / name).write_bytes(b"\0")
    (green / "folder.tif").mkdir()
    os.mkfifo(green / "pipe.tif")
    (green / "around").symlink_to(".")
    (green / "link.tif").symlink_to("sub/a.tif")
    (green / "nowhere.tif").symlink_to("gone.tif")
    (green / "loop.tif").symlink_to("loop.tif")
    (green / "empty.tif").write_bytes(b"")
    with (green / "sparse.tif").open("wb") as file:
        file.truncate(2**28)
    put_picture(tmp_path / "raw" / "astray.tif")
    for _ in range(2):
        code, told = run(capsys, "build", tmp_path, tmp_path / "archive")
        assert code == 1
        assert told == [
            "note: raw/astray.tif: in no collection's folder; left out",
            f"failed: green/empty.tif: {green}/empty.tif: expected a TIFF, JPEG or PNG picture, found an empty file",
            "failed: green/loop.tif: cannot be read: Too many levels of symbolic links",
            "failed: green/nowhere.tif: cannot be read: No such file or directory",
            f"failed: green/sparse.tif: {green}/sparse.tif: "
            "expected a TIFF, JPEG or PNG picture, found a file of another kind",
        ]
        assert [name for _, name in placed(tmp_path / "archive")] == ["a.tif", "link.tif", "one.png", "sub/a.tif"]


def test_a_row_cannot_forge_a_line(tmp_path, capsys):
    put_lab(tmp_path, {"green": ["a.tif"]}, metadata=False)
    put_metadata(tmp_path / "metadata.xlsx", [("a.tif", "green"), ("b\nfailed: all.tif", "green")])
    code, told = run(capsys, "build", tmp_path, tmp_path / "archive")
    assert (code, told) == (
        0,
        ["note: metadata.xlsx: no picture for the row green/b\N{REPLACEMENT CHARACTER}failed: all.tif"],
    )


# ------------------------------------------------------------------------------------------------------- always the same


def test_neither_workers_nor_the_order_of_files_nor_their_dates_matter(course, tmp_path, monkeypatch):
    raw, _, _, after = course.fresh
    for path in copied(raw, tmp_path / "lab").rglob("*"):
        os.utime(path, (1, 2))
    listdir, scandir, rng = os.listdir, os.scandir, random.Random(4)

    class Shuffled(io.IOBase):
        """A folder's entries in another order."""

        def __init__(self, path="."):
            with scandir(path) as entries:
                self._entries = iter(rng.sample(found := list(entries), len(found)))

        def __iter__(self):
            return self

        def __next__(self):
            return next(self._entries)

    monkeypatch.setattr(os, "scandir", Shuffled)
    monkeypatch.setattr(os, "listdir", lambda *path: rng.sample(found := listdir(*path), len(found)))
    for workers in (1, 2, 3):
        build(tmp_path / "lab", tmp_path / f"{workers}", BuildSettings(workers=workers))
    monkeypatch.undo()
    for workers in (1, 2, 3):
        assert content(tmp_path / f"{workers}") == after


@pytest.mark.parametrize(
    "surroundings",
    [
        {"PYTHONHASHSEED": "1", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONUTF8": "0"},
        {"PYTHONHASHSEED": "2", "TZ": "America/New_York", "LC_ALL": "tr_TR.UTF-8", "SOURCE_DATE_EPOCH": "1"},
    ],
)
def test_neither_place_nor_language_nor_permissions_matter(course, tmp_path, surroundings):
    raw, _, _, after = course.fresh
    words = [sys.executable, "-c", COMMAND, "build", raw, "archive", "--quiet"]
    subprocess.run(
        words, check=True, env=os.environ | surroundings, cwd=tmp_path, umask=0o077, stdout=subprocess.DEVNULL
    )
    assert content(tmp_path / "archive") == after
