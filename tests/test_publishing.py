"""Tests of what is published: the description for machines, the data sheet, the packed files, and the way back."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fncells import files
from fncells.about import QUESTIONS, About, read_about
from fncells.archive import INDEX_NAME, Archive
from fncells.audit import audit_archive
from fncells.cli import run
from fncells.croissant import Distributed, croissant, write_croissant
from fncells.datasheet import datasheet
from fncells.errors import InputError
from fncells.fetching import fetch
from fncells.images import Picture, read_picture, write_png
from fncells.ingest import BuildSettings, build
from fncells.ledger import LEDGER_NAME
from fncells.packing import PackSettings, pack
from fncells.statistics import describe
from fncells.synthetic import synthesise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its dependencies' old habits
    import mlcroissant

ABOUT = """
name = "Cells of the raphe"
description = "Serotonergic cells."
version = "1.2.0"
licence = "CC-BY-SA-4.0"
creators = ["A. Person", "B. Person"]
publisher = "A university"
url = "https://example.org/cells"
doi = "10.1234/cells"
date_published = 2024-05-06
citation = "@misc{cells}"
keywords = ["fluorescence", "cells"]

[answers]
purpose = "To count."
ethics = "Approved by a committee."
"""
KNOWN = About(
    name="Cells of the raphe",
    description="Serotonergic cells.",
    version="1.2.0",
    licence="CC-BY-SA-4.0",
    creators=("A. Person", "B. Person"),
    publisher="A university",
    url="https://example.org/cells",
    doi="10.1234/cells",
    date_published="2024-05-06",
    citation="@misc{cells}",
    keywords=("fluorescence", "cells"),
    answers={"purpose": "To count.", "ethics": "Approved by a committee."},
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publishing") / "lab"
    synthesise(folder, pictures=5, seed=3, collections=("green", "yellow"), size=(320, 240))
    return folder


@pytest.fixture(scope="module")
def built(lab: Path) -> Path:
    build(lab, lab.parent / "archive", BuildSettings())
    return lab.parent / "archive"


@pytest.fixture
def archive(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    shutil.copytree(built, tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no figures: they take seconds each time, and are not at stake in most tests."""
    monkeypatch.setattr("fncells.packing.stats_report", lambda out, _: files.write_text(out / "table1.csv", "table"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(LEDGER_NAME)
    }


# --------------------------------------------------------------------------------------------------------------- about


def test_what_a_lab_says_is_read(tmp_path: Path) -> None:
    (tmp_path / "about.toml").write_text(ABOUT)
    about = read_about(tmp_path / "about.toml")
    assert about == KNOWN
    assert about.licence_address == "https://spdx.org/licenses/CC-BY-SA-4.0"
    assert About(licence="https://example.org/l").licence_address == "https://example.org/l"
    assert About().licence_address is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 3", "name: expected a text"),
        ("name = ''", "name: expected a text"),
        ("title = 'x'", "title: expected keys out of answers, citation"),
        ("creators = 'x'", "creators: expected a list of texts"),
        ("keywords = [1]", "keywords: expected a list of texts"),
        ("date_published = 'May'", "date_published: expected a date"),
        ("answers = 'x'", "answers: expected a table"),
        ("[answers]\nfood = 'x'", "answers.food: expected keys out of purpose"),
        ("[answers]\npurpose = 3", "answers.purpose: expected a text"),
        ("name =", "expected a TOML file, found something else"),
    ],
)
def test_what_a_lab_says_wrongly_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "about.toml").write_text(text)
    with pytest.raises(InputError, match=re.escape(says)):
        read_about(tmp_path / "about.toml")
    with pytest.raises(InputError, match="nothing of that name"):
        read_about(tmp_path / "gone.toml")


# ----------------------------------------------------------------------------------------------------------- croissant


def validated(path: Path) -> tuple[Any, list[str]]:
    """Read a description with the reference reader; it raises on errors, and its warnings are given."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = mlcroissant.Dataset(str(path))
    return dataset, sorted(dataset.metadata.ctx.issues.warnings)


def records(dataset: Any, name: str) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(dataset.records(name))
    return [{key.rpartition("/")[2]: value for key, value in record.items()} for record in found]


def test_the_reference_reader_accepts_the_description_and_reads_the_pictures(archive: Path) -> None:
    opened = Archive.open(archive)
    write_croissant(archive / "croissant.json", opened, KNOWN)
    dataset, complaints = validated(archive / "croissant.json")
    assert complaints == []
    assert dataset.metadata.name == "Cells of the raphe"
    assert dataset.metadata.license == ["https://spdx.org/licenses/CC-BY-SA-4.0"]
    for collection in opened.collections:
        samples = {sample.name: sample for sample in opened.samples(collection)}
        found = {record["name"].decode(): record for record in records(dataset, collection)}
        assert found.keys() == samples.keys()
        for name, sample in samples.items():
            assert found[name]["partition"].decode() == sample.partition
            np.testing.assert_array_equal(np.asarray(found[name]["image"]), sample.read_picture().pixels)
        masks = {record["name"].decode(): record for record in records(dataset, f"{collection}-true-masks")}
        assert masks.keys() == {name for name, sample in samples.items() if sample.mask_path}
        for name, record in masks.items():
            path = samples[name].mask_path
            assert path is not None
            np.testing.assert_array_equal(np.asarray(record["mask"])[..., 0], read_picture(path).pixels)


def test_what_is_not_known_is_left_out_of_the_description(archive: Path) -> None:
    write_croissant(archive / "croissant.json", Archive.open(archive))
    told = json.loads((archive / "croissant.json").read_text())
    assert (
        not {"license", "version", "creator", "publisher", "datePublished", "citeAs", "url", "keywords"} & told.keys()
    )
    assert told["description"].startswith("10 fluorescence-microscopy pictures, 8 of them")
    _, complaints = validated(archive / "croissant.json")
    assert all("is recommended, but does not exist" in complaint for complaint in complaints)


def test_the_description_names_every_ground_truth_and_no_folder_that_is_not_there(archive: Path) -> None:
    truths = archive / "green" / "trainval" / "ground_truths"
    files.write_text(truths / "dots" / "1.txt", "x")
    (truths / "empty").mkdir()
    sets = {one["@id"]: one for one in croissant(Archive.open(archive))["distribution"]}
    assert sets["green-dots"]["includes"] == ["green/*/ground_truths/dots/*.txt"]
    assert sets["green-rle"]["includes"] == [f"green/*/ground_truths/rle/*.{suffix}" for suffix in ("json", "pickle")]
    assert "green-empty" not in sets
    assert sets["green-VIA"]["encodingFormat"] == ["application/json"]
    assert "yellow-dots" not in sets


def test_names_of_collections_are_no_patterns(tmp_path: Path) -> None:
    for number, name in enumerate(("a[1]", "a1", "b.c")):
        pixels = np.full((8, 9, 3), number, np.uint8)
        write_png(tmp_path / name / "unlabelled" / "images" / "1.png", Picture("1.png", pixels))
    write_croissant(tmp_path / "croissant.json", Archive.open(tmp_path))
    dataset, _ = validated(tmp_path / "croissant.json")
    for number, name in enumerate(("a[1]", "a1", "b.c")):
        (record,) = records(dataset, name)
        assert (np.asarray(record["image"]) == number).all()
        assert record["partition"] == b"unlabelled"


# ---------------------------------------------------------------------------------------------------------- data sheet


def test_the_data_sheet_tells_what_the_archive_tells(archive: Path) -> None:
    opened = Archive.open(archive)
    text = datasheet(opened, KNOWN, describe(opened).table)
    assert "| all | 6 | 2 | 2 | 10 |" in text
    assert re.search(r"\*\*green\*\*: pixels: 320 x 240; pixel size 1\.256 µm, known of 5 of 5 \(ImageJ unit\)", text)
    assert "seed 10" in text
    assert "signal %, green" in text
    assert "To count." in text
    assert "- Licence: CC-BY-SA-4.0" in text
    assert "about.toml" in text  # for the questions that nobody has answered
    bare = datasheet(opened)
    for key, question in QUESTIONS.items():
        assert question in bare
        if key != "missing":
            assert f"`answers.{key}`" in bare
    assert "nobody may use it" in bare
    assert datasheet(opened) == bare


def test_the_data_sheet_counts_defects_and_says_no_micrometres_that_are_not_known(tmp_path: Path) -> None:
    root = tmp_path / "fnc"
    grey = Picture("1.png", np.zeros((8, 9), np.uint8))
    write_png(root / "green" / "trainval" / "images" / "1.png", grey)
    write_png(root / "green" / "trainval" / "ground_truths" / "masks" / "128.png", grey)
    text = datasheet(Archive.open(root))
    assert "1 labelled pictures have no mask." in text
    assert "1 masks belong to no picture." in text
    assert "pixel size not known" in text
    assert "µm" not in text
    assert "how they were drawn is not recorded" in text
    assert text.count("Not recorded.") > 10


# ---------------------------------------------------------------------------------------------------------------- pack


@pytest.fixture(scope="module")
def packed(lab: Path, built: Path) -> Path:
    out = lab.parent / "packed"
    (lab.parent / "about.toml").write_text(ABOUT)
    (lab.parent / "protocol.md").write_text("Outline what you see.")
    settings = PackSettings(lab, (lab / "annotations",), lab.parent / "protocol.md", lab.parent / "about.toml")
    pack(built, out, settings)
    return out


@pytest.fixture
def address(packed: Path) -> Iterator[str]:
    """Address of a plain server of the packed files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(packed)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_published_is_all_there_and_checked_by_sha256sum(packed: Path, lab: Path, built: Path) -> None:
    names = ["green.zip", "yellow.zip", "raw_data.zip", "annotations.zip", "data_stats.zip", "metadata_v2.xlsx"]
    names += ["metadata_v2.csv", "datasheet.md", "README.md", "croissant.json", "fncells-run.json", "checksums.sha256"]
    assert {path.name for path in packed.iterdir() if not path.name.startswith(".")} == set(names)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "checksums.sha256"], cwd=packed, check=True)
    assert len((packed / "checksums.sha256").read_text().splitlines()) == len(names) - 1
    for name in ("green.zip", "raw_data.zip", "annotations.zip", "data_stats.zip"):
        with zipfile.ZipFile(packed / name) as one:
            assert one.testzip() is None
            assert {entry.filename.partition("/")[0] for entry in one.infolist()} == {
                {"green.zip": "green", "raw_data.zip": "raw", "annotations.zip": "annotations"}.get(name, "data_stats")
            }
            assert {entry.date_time for entry in one.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with zipfile.ZipFile(packed / "annotations.zip") as one:
        assert one.read("annotations/protocol.md") == b"Outline what you see."
        assert one.read("annotations/green.csv") == (lab / "annotations" / "green.csv").read_bytes()
    with zipfile.ZipFile(packed / "data_stats.zip") as one:
        assert {"data_stats/table1.csv", "data_stats/report.html", "data_stats/composition.svg"} <= set(one.namelist())
    assert (packed / INDEX_NAME).read_bytes() == (built / INDEX_NAME).read_bytes()
    assert "Cells of the raphe" in (packed / "README.md").read_text()
    assert "signal %" in (packed / "datasheet.md").read_text()


def test_the_way_round_over_http(packed: Path, built: Path, address: str, tmp_path: Path) -> None:
    summary = fetch([], tmp_path / "to", address)
    assert summary.failures == {}
    assert summary.licences == {
        "datasheet.md": ("CC BY-SA 4.0",),
        "README.md": ("CC BY-SA 4.0",),
    }
    before, after = Archive.open(built), Archive.open(tmp_path / "to")
    pd.testing.assert_frame_equal(before.index, after.index)
    for one, other in zip(before.samples(), after.samples(), strict=True):
        assert (one.collection, one.partition, one.name, one.pixel_size, one.original_name) == (
            other.collection, other.partition, other.name, other.pixel_size, other.original_name
        )  # fmt: skip
        np.testing.assert_array_equal(one.read_picture().pixels, other.read_picture().pixels)
        if one.mask_path is not None:
            np.testing.assert_array_equal(one.read_cells().labels, other.read_cells().labels)
    assert [finding for finding in audit_archive(tmp_path / "to") if finding.severity != "note"] == []
    told = set((built / "checksums.sha256").read_text().splitlines())
    of_collections = {line for line in told if line.split("  ")[1].startswith(("green/", "yellow/"))}
    assert of_collections < set((tmp_path / "to" / "checksums.sha256").read_text().splitlines())


def test_the_way_round_from_the_raw_pictures(packed: Path, built: Path, tmp_path: Path) -> None:
    """What was fetched can be built anew, and packed anew from there."""
    to = tmp_path / "to"
    fetch(["green", "yellow", "raw", "annotations", "statistics"], to, packed.as_uri())
    assert Archive.open(to).collections == ("green", "yellow")
    build(to, tmp_path / "again", BuildSettings(metadata=to / INDEX_NAME))
    again, first = bytes_of(tmp_path / "again"), bytes_of(built)
    pictures = {name for name in first if name.startswith(("green/", "yellow/"))}
    assert {name: again[name] for name in pictures} == {name: first[name] for name in pictures}
    pack(to, tmp_path / "packed")
    for name in ("green.zip", "yellow.zip", "data_stats.zip"):
        assert (tmp_path / "packed" / name).read_bytes() == (packed / name).read_bytes()


def test_the_reference_reader_reads_the_packed_files(
    packed: Path, built: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from etils import epath

    for name in ("DOWNLOAD_PATH", "EXTRACT_PATH"):
        monkeypatch.setattr(mlcroissant._src.core.constants, name, epath.Path(tmp_path))
    monkeypatch.setattr("mlcroissant._src.operation_graph.operations.extract.EXTRACT_PATH", epath.Path(tmp_path / "x"))
    dataset, complaints = validated(packed / "croissant.json")
    assert complaints == []
    found = records(dataset, "green")
    samples = {sample.name: sample for sample in Archive.open(built).samples("green")}
    assert {record["name"].decode() for record in found} == samples.keys()
    for record in found:
        sample = samples[record["name"].decode()]
        assert record["partition"].decode() == sample.partition
        np.testing.assert_array_equal(np.asarray(record["image"]), sample.read_picture().pixels)
    index = records(dataset, "index")
    assert [record["image_name"].decode() for record in index] == list(Archive.open(built).index["image_name"])
    told = {one["@id"]: one for one in json.loads((packed / "croissant.json").read_text())["distribution"]}
    assert told["green.zip"]["sha256"] == files.sha256(packed / "green.zip")
    assert told["green-masks"]["containedIn"] == {"@id": "green.zip"}
    assert Distributed.of(packed / "green.zip").size == int(told["green.zip"]["contentSize"].split()[0])


def test_the_same_archive_gives_the_same_bytes_anywhere_and_at_any_time(packed: Path, lab: Path, archive: Path) -> None:
    for path in archive.rglob("*"):
        os.utime(path, (1e9, 1e9))
    shutil.copytree(lab / "raw", archive.parent / "other" / "raw")
    settings = PackSettings(
        archive.parent / "other" / "raw",
        tuple(sorted((lab / "annotations").iterdir(), reverse=True)),
        lab.parent / "protocol.md",
        lab.parent / "about.toml",
        workers=2,
    )
    pack(archive, archive.parent / "elsewhere", settings)
    assert bytes_of(archive.parent / "elsewhere") == bytes_of(packed)


@pytest.mark.usefixtures("quick_figures")
def test_only_what_changed_is_packed_again(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (archive / "about.toml").write_text(ABOUT)
    first = pack(archive, out)
    assert {one.status for one in first.packed} == {"written"}
    before = bytes_of(out)
    again = pack(archive, out)
    assert {one.status for one in again.packed} == {"unchanged"}
    assert bytes_of(out) == before
    (out / "green.zip").write_bytes(b"spoilt")
    mended = {one.file: one.status for one in pack(archive, out).packed}
    assert [name for name, status in mended.items() if status == "written"] == ["green.zip"]
    assert bytes_of(out) == before
    (tmp_path / "notes.csv").write_text("x")
    pack(archive, out, PackSettings(annotations=(tmp_path / "notes.csv",)))
    assert (out / "annotations.zip").exists()
    pack(archive, out)
    assert bytes_of(out) == before  # what is no longer published is gone


@pytest.mark.usefixtures("quick_figures")
def test_a_pack_that_was_interrupted_is_not_fetched_from_and_goes_on(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(archive, tmp_path / "whole")
    plain, left = Path.replace, [0]

    def dies(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return plain(self, target)

    for step in range(1, 9):
        out = tmp_path / str(step)
        with monkeypatch.context() as killed:
            killed.setattr(Path, "replace", dies)
            left[0] = step
            with pytest.raises(KeyboardInterrupt):
                pack(archive, out)
        with pytest.raises(InputError, match="made, with checksums"):
            fetch([], tmp_path / "to", str(out))
        if step in (1, 4, 8):
            pack(archive, out)
            assert bytes_of(out) == bytes_of(tmp_path / "whole")


@pytest.mark.usefixtures("quick_figures")
def test_a_damaged_archive_is_not_published(archive: Path, tmp_path: Path) -> None:
    mask = next((archive / "green" / "trainval" / "ground_truths" / "masks").iterdir())
    whole = mask.read_bytes()
    mask.write_bytes(whole + b"x")
    with pytest.raises(InputError, match=rf"masks/{mask.name} missing, changed or not listed; `fncells check`"):
        pack(archive, tmp_path / "out")
    mask.unlink()
    files.write_text(archive / "green" / "notes.txt", "new")
    with pytest.raises(InputError, match=rf"masks/{mask.name} and 1 more missing"):
        pack(archive, tmp_path / "out")
    (archive / "green" / "notes.txt").unlink()
    mask.write_bytes(whole)
    files.write_text(archive / "green" / ".hidden", "litter")
    pack(archive, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "green.zip") as one:
        assert "green/.hidden" not in one.namelist()


@pytest.mark.usefixtures("quick_figures")
def test_an_archive_of_another_hand_is_packed_as_it_is(tmp_path: Path) -> None:
    """The published layout with its defects: no index, no checksums, an orphan mask, a picture without mask."""
    root, grey = tmp_path / "fnc", np.zeros((48, 64), np.uint8)
    grey[5:20, 5:20] = 255
    for name in ("1", "2"):
        write_png(root / "green" / "trainval" / "images" / f"{name}.png", Picture(name, grey))
    for name in ("1", "128"):
        write_png(root / "green" / "trainval" / "ground_truths" / "masks" / f"{name}.png", Picture(name, grey))
    write_png(root / "blue" / "unlabelled" / "images" / "1.png", Picture("1", grey))
    summary = pack(root, tmp_path / "out")
    assert len([note for note in summary.notes if "mask" in note]) == 2
    fetch([], tmp_path / "to", str(tmp_path / "out"))
    assert Archive.open(tmp_path / "to").collections == ("blue", "green")
    assert [path.name for path in Archive.open(tmp_path / "to").unpaired_masks()] == ["128.png"]
    shutil.rmtree(root / "green")
    alone = pack(root, tmp_path / "out")
    assert "data_stats.zip" not in {one.file for one in alone.packed}
    assert not (tmp_path / "out" / "green.zip").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere", "out"], "nothing of that name"),
        (["archive", "archive/out"], "a folder outside the archive"),
        (["archive", "file.txt"], "found a file"),
        (["archive", "out", "--raw", "gone"], "a folder of raw pictures"),
        (["archive", "out", "--raw", "empty"], "raw_data.zip: expected files to pack, found none"),
        (["archive", "out", "--annotations", "gone"], "expected annotations"),
        (["archive", "out", "--annotations", "file.txt", "sub/file.txt"], "one file of each name"),
        (["archive", "out", "--protocol", "gone"], "the rules for them"),
        (["archive", "out", "--about", "gone.toml"], "a TOML file"),
        (["archive", "out", "--workers", "0"], "workers"),
        (["odd", "out"], "a collection of another name"),
    ],
)
def test_what_cannot_be_packed_is_one_line(
    words: list[str], says: str, archive: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(archive.parent)
    files.write_text(Path("file.txt"), "x")
    files.write_text(Path("sub/file.txt"), "y")
    Path("empty").mkdir()
    shutil.copytree("archive/green", "odd/raw_data")
    assert run(["pack", *words, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.usefixtures("quick_figures")
def test_pack_tells_what_it_made(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pack", str(archive), str(tmp_path / "out"), "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert {one["file"] for one in told["files"]} >= {"green.zip", "croissant.json"}
    for one in told["files"]:
        data = (tmp_path / "out" / one["file"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["size"], one["sha256"])
    assert "no licence is given" in captured.err
    assert str(tmp_path) not in (tmp_path / "out" / "fncells-run.json").read_text()


def test_a_zip_of_large_files_needs_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large.tif").open("wb") as file:
        file.truncate(2**26)
    files.write_bytes(tmp_path / "a.png", b"\x89PNG" * 1000)
    tracemalloc.start()
    try:
        files.write_zip(tmp_path / "a.zip", [("large.tif", tmp_path / "large.tif"), ("a.png", tmp_path / "a.png")])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**23
    with zipfile.ZipFile(tmp_path / "a.zip") as one:
        assert one.getinfo("large.tif").file_size == 2**26
        assert one.getinfo("large.tif").compress_type == zipfile.ZIP_DEFLATED
        assert one.getinfo("a.png").compress_type == zipfile.ZIP_STORED
        assert one.testzip() is None
