"""From a raw folder to an archive."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fncells import ingest
from fncells.archive import Archive, read_index
from fncells.building import converting, making
from fncells.building import lab as reading_lab
from fncells.building.keys import Key
from fncells.building.splitting import split
from fncells.cells import AnnotatedImage
from fncells.errors import InputError, MissingExtraError, OutputError
from fncells.formats import CODECS, read_annotations, write_annotations
from fncells.images import Plane, read_picture
from fncells.ingest import BuildSettings, build
from fncells.names import slice_key
from fncells.truths import PARTITION_TRUTHS, PICTURE_TRUTHS, truth_path
from labs import (
    HEIGHT,
    OVERLAPPING,
    SQUARE,
    WIDTH,
    content,
    names_of,
    placed,
    put_lab,
    put_metadata,
    put_outlines,
    put_picture,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A lab's folder and its archive, made once; not to be changed."""
    root = tmp_path_factory.mktemp("built")
    put_lab(root / "lab")
    summary = build(root / "lab", root / "archive")
    return root / "lab", root / "archive", summary


@pytest.fixture
def lab(built, tmp_path):
    """A copy of the lab's folder and of its archive, free to be changed."""
    raw, archive, _ = built
    shutil.copytree(raw, tmp_path / "lab")
    shutil.copytree(archive, tmp_path / "archive")
    return tmp_path / "lab", tmp_path / "archive"


def test_the_archive_has_the_published_layout(built):
    _, archive, summary = built
    assert (summary.converted, summary.unchanged, summary.failed, summary.exit_code) == (26, 0, (), 0)
    assert summary.pictures == {
        "green": {"trainval": 9, "test": 3, "unlabelled": 1},
        "yellow": {"trainval": 9, "test": 3, "unlabelled": 1},
    }
    assert summary.test_shares == {"green": 0.25, "yellow": 0.25}
    expected = {"metadata_v2.xlsx", "checksums.sha256", "croissant.json", "datasheet.md", "fncells-run.json"}
    for (collection, _), (name, partition) in placed(archive).items():
        stem = name.removesuffix(".png")
        place = f"{collection}/{partition}"
        expected |= {f"{place}/images/{stem}.png", f"{place}/metadata/{stem}.txt", f"{place}/metadata/{stem}.json"}
        if partition != "unlabelled":
            truths = f"{place}/ground_truths"
            expected |= {f"{truths}/masks/{stem}.png", f"{truths}/labels/{stem}.png", f"{truths}/rle/{stem}.json"}
            expected |= {
                f"{truths}/rle/{stem}.pickle",
                f"{truths}/Pascal_VOC/{stem}.xml",
                f"{truths}/imagej/{stem}.zip",
            }
            expected |= {f"{truths}/geojson/{stem}.geojson", f"{truths}/yolo/{stem}.txt", f"{truths}/yolo/data.yaml"}
            named = f"annotations_{collection}_{partition}"
            expected |= {f"{truths}/{folder}/{named}.json" for folder in ("COCO", "VIA")} | {
                f"{truths}/via-csv/{named}.csv"
            }
    assert set(content(archive)) == expected


def test_numbers_follow_the_original_names(built):
    _, archive, _ = built
    greens = {name: image for (dataset, name), (image, _) in placed(archive).items() if dataset == "green"}
    assert [greens[name] for name in sorted(greens)] == [f"{number}.png" for number in range(1, 14)]


def test_double_marked_pictures_stay_together(built):
    _, archive, _ = built
    places = placed(archive)
    for (collection, name), (_, partition) in places.items():
        if collection == "green" and partition != "unlabelled":
            assert places["yellow", name.replace("_g.", "_y.")][1] == partition
    assert read_index(archive / "metadata_v2.xlsx")["double_marked"].all()


def test_pictures_and_ground_truths_are_those_of_the_lab(built):
    raw, archive, _ = built
    counted = 0
    for sample in Archive.open(archive).samples():
        picture = sample.read_picture()
        source = raw / "raw" / sample.collection / sample.original_name
        assert np.array_equal(picture.pixels, read_picture(source).pixels)
        if sample.partition == "unlabelled":
            assert (sample.mask_path, sample.labels_path) == (None, None)
            continue
        cells = sample.read_cells()
        counted += len(cells.cells)
        labels = np.zeros((HEIGHT, WIDTH), int)
        if len(cells.cells) > 0:
            labels[5:16, 4:15] = 1
        if len(cells.cells) > 1:
            labels[10:21, 10:23] = 2
        assert np.array_equal(cells.labels, labels)
        assert np.array_equal(read_picture(sample.mask_path).pixels, 255 * (labels > 0))
    assert counted == 2 * 12


def test_outlines_reach_the_via_file_as_they_were_drawn(built):
    _, archive, _ = built
    places = placed(archive)
    for partition in ("trainval", "test"):
        folder = archive / "green" / partition
        path = folder / "ground_truths" / "VIA" / f"annotations_green_{partition}.json"
        images = {image.name: image for image in read_annotations(path, "via", None)}
        assert set(images) == {path.name for path in (folder / "images").iterdir()}
        for entry in json.loads(path.read_text()).values():
            # The tool looks pictures up by name and size of the file.
            assert entry["size"] == (folder / "images" / entry["filename"]).stat().st_size
        for number, name in enumerate(names_of("green")):
            image, where = places["green", name]
            if where == partition:
                polygons = [cell.rings[0].tolist() for cell in images[image].cells]
                assert polygons == [np.array(polygon).tolist() for polygon in (SQUARE, OVERLAPPING)[: number % 3]]


def test_the_index_tells_what_names_metadata_and_pictures_tell(built):
    raw, archive, _ = built
    index = read_index(archive / "metadata_v2.xlsx")
    row = index[index["original_name"] == "Mar2bS1C3R1_LHl_200x_g.TIF"].iloc[0]
    told = row.drop(["image_name", "partition"]).to_dict()
    assert told.pop("sha256") == hashlib.sha256((raw / "raw/green/Mar2bS1C3R1_LHl_200x_g.TIF").read_bytes()).hexdigest()
    missing = {name for name, value in told.items() if value is None or value != value or str(value) == "<NA>"}
    assert missing == {"marker", "structure", "region", "camera", "taken"}
    assert {name: value for name, value in told.items() if name not in missing} == {
        "original_name": "Mar2bS1C3R1_LHl_200x_g.TIF",
        "dataset": "green",
        "double_marked": True,
        "species": "mouse",
        "animal": "Mar2b",
        "sample": 1,
        "column": 3,
        "row": 1,
        "area": "LH",
        "side": "l",
        "zoom": "200x",
        "width": WIDTH,
        "height": HEIGHT,
        "pixel_size_um": 0.5,
        "pixel_size_source": "metadata",
        "n_cells": 2,
        "remark": "slice 8",
    }
    assert Archive.open(archive).samples("green")[0].pixel_size.um == 0.5


def test_checksums_are_of_every_file(built):
    _, archive, _ = built
    lines = dict(reversed(line.split("  ", 1)) for line in (archive / "checksums.sha256").read_text().splitlines())
    files = {name: data for name, data in content(archive).items() if name != "checksums.sha256"}
    assert lines == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert list(lines) == sorted(lines)


def test_nothing_of_the_machine_is_in_the_archive(built, tmp_path):
    raw, archive, _ = built
    shutil.copytree(raw, tmp_path / "elsewhere")
    build(tmp_path / "elsewhere", tmp_path / "other", BuildSettings(workers=2))
    assert content(tmp_path / "other") == content(archive)
    record = json.loads((archive / "fncells-run.json").read_text())
    assert record["settings"] == {"test_share": 0.25, "seed": 10, "group": "slice"}
    assert {"metadata.xlsx", "annotations/green.csv"} < set(record["inputs"])
    assert len(record["inputs"]) == 1 + 2 + 26


def test_a_second_build_converts_nothing(lab, monkeypatch):
    raw, archive = lab
    before = content(archive)
    monkeypatch.setattr(converting, "read_picture", lambda *_: pytest.fail("a picture was read again"))
    summary = build(raw, archive)
    assert (summary.converted, summary.unchanged) == (0, 26)
    assert content(archive) == before


@pytest.mark.parametrize(("damage", "again"), [("missing", 1), ("changed", 1), ("no ledger", 26)])
def test_what_was_made_is_checked_and_made_good(lab, damage, again):
    raw, archive = lab
    before = content(archive)
    victim = next((archive / "green" / "test" / "ground_truths" / "masks").iterdir())
    if damage == "no ledger":
        (archive / ".fncells-ledger.sqlite").unlink()
    elif damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    summary = build(raw, archive)
    assert (summary.converted, summary.unchanged) == (again, 26 - again)
    assert content(archive) == before


def test_new_pictures_take_the_next_numbers_and_follow_their_slice(lab):
    raw, archive = lab
    before = placed(archive)
    put_picture(raw / "raw" / "green" / "AA.TIF", 50)
    tested = next(name for (dataset, name), (_, part) in before.items() if (dataset, part) == ("green", "test"))
    red = tested.replace("_g.", "_r.")
    put_picture(raw / "raw" / "red" / red, 51)
    put_outlines(raw / "annotations" / "red.csv", {red: [SQUARE]})
    summary = build(raw, archive, BuildSettings(seed=99, test_share=0.9))
    after = placed(archive)
    assert (summary.converted, summary.unchanged) == (2, 26)
    assert {key: after[key] for key in before} == before
    assert after["green", "AA.TIF"] == ("14.png", "unlabelled")
    assert after["red", red] == ("1.png", "test")
    assert sum("no row in metadata.xlsx" in line for line in summary.warnings) == 2


def test_a_slice_whose_raw_files_are_gone_still_holds_together(lab):
    raw, archive = lab
    [tested, *_] = [
        name for (dataset, name), (_, part) in placed(archive).items() if (dataset, part) == ("green", "test")
    ]
    (raw / "raw" / "green" / tested).unlink()
    (raw / "raw" / "yellow" / tested.replace("_g.", "_y.")).unlink()
    red = tested.replace("_g.", "_r.")
    put_picture(raw / "raw" / "red" / red, 51)
    put_outlines(raw / "annotations" / "red.csv", {red: [SQUARE]})
    # Alone in its collection it would go to trainval.
    assert split({Key("red", red): "any"}, {}) == {Key("red", red): "trainval"}
    build(raw, archive)
    assert placed(archive)["red", red] == ("1.png", "test")


def test_an_annotation_that_comes_later_moves_its_picture(lab):
    raw, archive = lab
    name = "Mar9bS1C1R1_DMr_200x_g.TIF"
    number, partition = placed(archive)["green", name]
    assert partition == "unlabelled"
    outlines = {name: [SQUARE, SQUARE]} | {name: [] for name in names_of("green")}
    put_outlines(raw / "annotations" / "green.csv", outlines)
    summary = build(raw, archive)
    moved, partition = placed(archive)["green", name]
    assert moved == number
    assert partition in ("trainval", "test")
    assert not (archive / "green" / "unlabelled" / "images" / number).exists()
    assert (archive / "green" / partition / "images" / number).exists()
    assert any("1 of 2 outlines lie outside the picture or wholly under others" in line for line in summary.warnings)
    # And back, when the annotations are withdrawn.
    (raw / "annotations" / "green.csv").unlink()
    summary = build(raw, archive)
    assert summary.pictures["green"] == {"trainval": 0, "test": 0, "unlabelled": 13}
    assert not list((archive / "green").rglob("ground_truths/*/*"))
    assert any(f"{name}: meant for {partition}, but without annotations" in line for line in summary.warnings)


def test_a_picture_whose_raw_file_is_gone_stays(lab):
    raw, archive = lab
    before, places = content(archive), placed(archive)
    gone = "Mar1bS1C3R1_LHl_200x_g.TIF"
    (raw / "raw" / "green" / gone).unlink()
    summary = build(raw, archive)
    assert placed(archive) == places
    after = content(archive)
    assert {name for name in before if before[name] != after[name]} == {"checksums.sha256", "fncells-run.json"}
    lines = [line for line in summary.warnings if gone in line]
    assert lines == [
        f"metadata.xlsx: no picture for the row green/{gone}",
        f"green.csv: no picture for the annotations of '{gone}'",
        f"green/{gone}: in the archive but no longer among the raw pictures; kept",
    ]
    # The outlines come from the label picture now, and its pixels are the same.
    number, partition = places["green", gone]
    via = archive / "green" / partition / "ground_truths" / "VIA" / f"annotations_green_{partition}.json"
    [image] = [image for image in read_annotations(via, "via", None) if image.name == number]
    sample = next(sample for sample in Archive.open(archive).samples("green") if sample.original_name == gone)
    assert np.array_equal(image.with_shape((HEIGHT, WIDTH)).labels, sample.read_cells().labels)


def test_a_broken_picture_fails_alone_and_is_mended_later(built, tmp_path):
    raw, archive, _ = built
    shutil.copytree(raw, tmp_path / "lab")
    victim = tmp_path / "lab" / "raw" / "green" / "Mar1bS1C2R1_LHl_200x_g.TIF"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    summary = build(tmp_path / "lab", tmp_path / "new")
    assert (summary.converted, summary.exit_code) == (25, 1)
    [(name, reason)] = summary.failed
    assert name == "green/Mar1bS1C2R1_LHl_200x_g.TIF"
    assert "expected" in reason
    assert ("green", victim.name) not in placed(tmp_path / "new")
    assert summary.as_dict()["failed"] == [{"picture": name, "reason": reason}]
    victim.write_bytes(whole)
    assert build(tmp_path / "lab", tmp_path / "new").converted == 1
    assert content(tmp_path / "new") == content(archive)


def test_a_picture_that_breaks_later_stays_as_it_was(lab):
    raw, archive = lab
    before = content(archive)
    (raw / "raw" / "green" / "Mar1bS1C2R1_LHl_200x_g.TIF").write_bytes(b"")
    summary = build(raw, archive)
    assert [name for name, _ in summary.failed] == ["green/Mar1bS1C2R1_LHl_200x_g.TIF"]
    after = content(archive)
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in before if "/images/" in name or name.endswith(".xlsx"))


def test_a_picture_that_cannot_be_opened_or_changes_in_the_work_fails(built, tmp_path, monkeypatch):
    raw, _, _ = built
    shutil.copytree(raw, tmp_path / "lab")
    vanishing = tmp_path / "lab" / "raw" / "green" / "Mar1bS1C2R1_LHl_200x_g.TIF"
    changing = vanishing.with_name("Mar2bS1C2R1_LHl_200x_g.TIF")
    barred = vanishing.with_name("Mar3bS1C2R1_LHl_200x_g.TIF")
    hash_of, read = ingest.files.sha256, converting.read_picture

    def sha256(path):
        if path == barred:
            raise PermissionError(13, "Permission denied")
        return hash_of(path)

    def reading(path, name, plane):
        picture = read(path, name, plane)
        if path == vanishing:
            path.unlink()
        if path == changing:
            put_picture(path, 77)
        return picture

    monkeypatch.setattr(ingest.files, "sha256", sha256)
    monkeypatch.setattr(converting, "read_picture", reading)
    summary = build(tmp_path / "lab", tmp_path / "new")
    reasons = dict(summary.failed)
    assert reasons[f"green/{vanishing.name}"] == "cannot be read: No such file or directory"
    assert "expected the same content throughout, found a file that changed" in reasons[f"green/{changing.name}"]
    assert reasons[f"green/{barred.name}"] == "cannot be read: Permission denied"
    assert summary.converted == 23


def test_colliding_names_are_refused(tmp_path):
    put_lab(tmp_path, {"green": ["a.tif", "b.tif"]})
    Image.new("RGB", (8, 8)).save(tmp_path / "raw" / "green" / "a.png")
    with pytest.raises(InputError, match=r"one picture of each name.*a\.(png|tif)"):
        build(tmp_path, tmp_path / "archive")
    assert not (tmp_path / "archive").exists()
    (tmp_path / "raw" / "green" / "a.png").unlink()
    assert build(tmp_path, tmp_path / "archive").converted == 2


def test_what_does_not_fit_together_is_said_once(tmp_path):
    put_lab(tmp_path, {"green": ["a.tif", "b.tif"], "red": ["a.tif", "c.tif", "d.tif"]}, metadata=False)
    rows = [
        ("A.TIFF", "Green", "x1", None, "test", None),
        ("b", "green", None, None, "unlabelled", None),
        ("a.tif", None, None, None, None, None),
        ("c.png", None, None, None, None, None),
        ("nowhere.tif", "green", None, None, None, None),
        (None, "green", None, None, None, None),
        ("d.tif", "red", None, None, "test", None),
    ]
    put_metadata(tmp_path / "metadata.xlsx", rows)
    put_outlines(tmp_path / "annotations" / "green.csv", {"a.tif": [SQUARE], "b.tif": [], "ghost.tif": []})
    put_outlines(tmp_path / "annotations" / "red.csv", {"a.tif": []})
    put_outlines(tmp_path / "annotations" / "someone.csv", {"c.tif": []})
    (tmp_path / "annotations" / ".hidden.csv").write_text("nothing of VIA")
    summary = build(tmp_path, tmp_path / "archive")
    assert sorted(summary.warnings) == [
        "green.csv: no picture for the annotations of 'ghost.tif'",
        "green/b.tif: annotated, but unlabelled in the metadata; its annotations are not used",
        "metadata.xlsx: 2 pictures fit for the row a.tif",
        "metadata.xlsx: no picture for the row green",
        "metadata.xlsx: no picture for the row green/nowhere.tif",
        "red/a.tif: no row in metadata.xlsx",
        "red/d.tif: meant for test, but without annotations; unlabelled",
    ]
    places = placed(tmp_path / "archive")
    assert places["green", "a.tif"] == ("1.png", "test")
    assert places["green", "b.tif"] == ("2.png", "unlabelled")
    assert places["red", "d.tif"] == ("3.png", "unlabelled")


def test_ambiguous_annotations_are_left_out(tmp_path):
    put_lab(tmp_path, {"green": ["a.tif"], "red": ["a.tif"]}, metadata=False)
    shutil.rmtree(tmp_path / "annotations")
    put_outlines(tmp_path / "annotations" / "all.csv", {"a.tif": [SQUARE]})
    summary = build(tmp_path, tmp_path / "archive")
    assert summary.warnings == ("all.csv: 2 pictures fit for the annotations of 'a.tif'",)
    assert summary.pictures["red"]["unlabelled"] == 1
    assert summary.test_shares == {"green": None, "red": None}


def test_two_rows_or_two_annotations_of_a_picture_are_refused(tmp_path):
    put_lab(tmp_path, {"green": ["a.tif"]})
    put_outlines(tmp_path / "annotations" / "green_again.csv", {"a.tif": []})
    with pytest.raises(
        InputError, match=r"green_again\.csv, picture 'a\.tif': expected one annotation of each picture"
    ):
        build(tmp_path, tmp_path / "archive")
    chosen = BuildSettings(annotations=(tmp_path / "annotations" / "green_again.csv",))
    assert build(tmp_path, tmp_path / "archive", chosen).exit_code == 0
    assert read_index(tmp_path / "archive" / "metadata_v2.xlsx")["n_cells"].tolist() == [0]
    put_metadata(tmp_path / "twice.xlsx", [("a.tif", "green"), ("a", "green")])
    with pytest.raises(InputError, match=r"expected one row a picture, found two rows for green/a\.tif"):
        build(tmp_path, tmp_path / "archive", BuildSettings(metadata=tmp_path / "twice.xlsx"))


def test_partitions_once_given_stay_against_the_metadata(lab):
    raw, archive = lab
    before = placed(archive)
    put_metadata(raw / "metadata.xlsx", [(name, "green", None, None, "test") for name in names_of("green")])
    summary = build(raw, archive)
    assert placed(archive) == before
    assert sum("test in the metadata, but already in trainval; kept there" in line for line in summary.warnings) == 9
    new = build(raw, archive.with_name("new"))
    # In a new archive the metadata decide, and the yellow twins follow.
    assert new.pictures["green"] == {"trainval": 0, "test": 12, "unlabelled": 1}
    assert new.pictures["yellow"] == {"trainval": 0, "test": 12, "unlabelled": 1}


def test_a_slice_torn_by_the_metadata_is_told(tmp_path):
    put_lab(tmp_path, {"green": ["Mar1S1C1R1_LHl_g.tif"], "yellow": ["Mar1S1C1R1_LHl_y.tif"]}, metadata=False)
    rows = [("Mar1S1C1R1_LHl_g", "green", None, None, "test"), ("Mar1S1C1R1_LHl_y", "yellow", None, None, "trainval")]
    put_metadata(tmp_path / "metadata.xlsx", rows)
    summary = build(tmp_path, tmp_path / "archive")
    assert summary.warnings == ("mar1_s1c1r1_lhl: in trainval and in test, as given",)


def test_an_animal_is_never_torn_where_asked(tmp_path):
    names = [*names_of("green", range(8), range(1, 3)), "Marvin3bS2C1R1_LHl_200x_g.TIF", "plain.tif"]
    put_lab(tmp_path, {"green": names, "yellow": names_of("yellow", range(8), range(1, 3))}, metadata=False)
    put_metadata(tmp_path / "metadata.xlsx", [("plain.tif", "green", "MARVIN5b", None, None)])
    summary = build(tmp_path, tmp_path / "archive", BuildSettings(group="animal"))
    partitions = {}
    for (_, name), (_, partition) in placed(tmp_path / "archive").items():
        animal = "Mar5b" if name == "plain.tif" else name.partition("S")[0].replace("Marvin", "Mar")
        partitions.setdefault(animal, set()).add(partition)
    assert all(len(found) == 1 for found in partitions.values())
    assert summary.test_shares["yellow"] == 0.25


def test_pixel_sizes_of_tags_go_before_the_metadata(tmp_path):
    put_lab(tmp_path, {"green": ["a.tif", "b.tif", "c.tif"]}, metadata=False)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint16)
    tifffile.imwrite(
        tmp_path / "raw" / "green" / "a.tif", pixels, imagej=True, resolution=(4, 4), metadata={"unit": "um"}
    )
    put_metadata(tmp_path / "metadata.xlsx", [(name, "green", None, 0.5) for name in ("a.tif", "b.tif")])
    summary = build(tmp_path, tmp_path / "archive")
    index = read_index(tmp_path / "archive" / "metadata_v2.xlsx").astype(object)
    told = index[["pixel_size_um", "pixel_size_source"]]
    assert told.where(told.notna(), None).values.tolist() == [[0.25, "ImageJ unit"], [0.5, "metadata"], [None, None]]
    assert any(
        "0.25 µm a pixel by the picture's tags (ImageJ unit), 0.5 by the metadata" in w for w in summary.warnings
    )


def test_annotations_of_any_format_can_be_named(tmp_path):
    put_lab(tmp_path, {"green": ["a.tif", "b.tif", "c.tif"]}, metadata=False)
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[3:6, 3:6], labels[8:12, 8:12] = 2, 900
    images = [
        AnnotatedImage.from_labels("a.tif", labels),
        AnnotatedImage.from_labels("b.tif", labels[:-1]),
        AnnotatedImage.from_labels("c.tif", labels * 100),
    ]
    for number, image in enumerate(images):
        write_annotations(tmp_path / f"labels {number}", [image], "labels")
    chosen = BuildSettings(annotations=tuple(tmp_path / f"labels {number}" for number in (0, 2)))
    summary = build(tmp_path, tmp_path / "archive", chosen)
    assert [name for name, _ in summary.failed] == ["green/c.tif"]
    assert "expected cell numbers up to 65535, found 90000" in summary.failed[0][1]
    [sample] = Archive.open(tmp_path / "archive").samples("green", "trainval")
    assert np.array_equal(sample.read_cells().labels, labels)
    summary = build(tmp_path, tmp_path / "other", BuildSettings(annotations=(tmp_path / "labels 1",)))
    assert [name for name, reason in summary.failed if "64 x 48" in reason] == ["green/b.tif"]


def test_annotations_of_another_size_fail_their_picture(built):
    picture = read_picture(built[0] / "raw" / "green" / names_of("green")[0])
    with pytest.raises(
        InputError, match="expected annotations of a picture of 64 x 48 pixels, found annotations of 5 x 4"
    ):
        converting._placed(AnnotatedImage("a.tif", (4, 5), ()), picture)


def test_a_broken_annotation_fails_its_picture_and_no_other_and_is_mended_later(lab):
    raw, archive = lab
    before, places = content(archive), placed(archive)
    path = raw / "annotations" / "green.csv"
    text = path.read_bytes()
    line = next(line for line in text.splitlines() if line.startswith(b"Mar1bS1C3R1") and b"polygon" in line)
    path.write_bytes(text.replace(line, line.replace(b"all_points_x", b"all_points_z")))
    summary = build(raw, archive)
    [(name, reason)] = summary.failed
    assert name == "green/Mar1bS1C3R1_LHl_200x_g.TIF"
    assert "green.csv, picture 'Mar1bS1C3R1_LHl_200x_g.TIF', region 0: expected all_points_x" in reason
    # It stays as it was, in the partition where it was.
    assert placed(archive) == places
    after = content(archive)
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed == {"checksums.sha256", "fncells-run.json"}
    path.write_bytes(text)
    assert build(raw, archive).failed == ()
    assert content(archive) == before


def test_ground_truths_of_every_format_say_the_same(built):
    _, archive, _ = built
    for collection in ("green", "yellow"):
        for partition in ("trainval", "test"):
            truths = archive / collection / partition / "ground_truths"
            samples = {sample.name: sample for sample in Archive.open(archive).samples(collection, partition)}
            found = {
                truth.format: list(read_annotations(truth_path_of(archive, truth, collection, partition), truth.format))
                for truth in (*PICTURE_TRUTHS.values(), *PARTITION_TRUTHS.values())
                if truth.dialect is None
            }
            assert len(found) == 10
            for name, images in found.items():
                assert sorted(image.name for image in images) == sorted(samples), name
                for image in images:
                    expected = samples[image.name].read_cells()
                    if name == "masks":
                        assert np.array_equal(image.mask, expected.mask)
                    else:
                        assert np.array_equal(image.labels, expected.labels), (name, image.name)
            pickles = [CODECS["rle"].read(path) for path in sorted((truths / "rle").glob("*.pickle"))]
            assert len(pickles) == len(samples)
            for [image] in pickles:
                assert np.array_equal(image.mask, samples[image.name].read_cells().mask)


def truth_path_of(archive, truth, collection, partition):
    path = archive / truth_path(truth, collection, partition)
    return path.parent if truth in PICTURE_TRUTHS.values() else path


def test_the_marker_of_the_metadata_is_the_category(built, tmp_path):
    raw = tmp_path / "lab"
    shutil.copytree(built[0], raw)
    book = openpyxl.load_workbook(raw / "metadata.xlsx")
    sheet = book.active
    column = sheet.max_column + 1
    sheet.cell(1, column, "marker")
    for row in range(2, sheet.max_row + 1):
        sheet.cell(row, column, "c-FOS")
    book.save(raw / "metadata.xlsx")
    build(raw, tmp_path / "archive")
    path = tmp_path / "archive/green/trainval/ground_truths/COCO/annotations_green_trainval.json"
    assert json.loads(path.read_text())["categories"] == [{"id": 1, "name": "c-FOS", "supercategory": "nucleus"}]


def test_a_build_at_work_keeps_others_out(lab):
    raw, archive = lab
    with (
        ingest._opened(archive),
        pytest.raises(InputError, match="expected one build at a time, found another at work"),
    ):
        build(raw, archive)
    assert build(raw, archive).converted == 0


def test_what_has_not_changed_is_told_without_reading_it_again(lab, monkeypatch):
    raw, archive = lab
    first = build(raw, archive)
    monkeypatch.setattr(reading_lab, "gather", lambda *_: pytest.fail("read again"))
    assert build(raw, archive) == first
    assert build(raw, archive, BuildSettings(workers=2)) == first


@pytest.mark.parametrize(
    "change", ["raw", "metadata", "annotations", "archive", "checksums", "seed", "plane", "pattern"]
)
def test_any_change_is_seen(lab, change, monkeypatch):
    raw, archive = lab
    build(raw, archive)
    places = {
        "raw": raw / "raw" / "green" / names_of("green")[0],
        "metadata": raw / "metadata.xlsx",
        "annotations": raw / "annotations" / "green.csv",
        "archive": archive / "green" / "trainval" / "ground_truths" / "COCO" / "annotations_green_trainval.json",
        "checksums": archive / "checksums.sha256",
    }
    if change in places:
        places[change].write_bytes(places[change].read_bytes() + b"\n")
    gathered = []
    gather = reading_lab.gather
    monkeypatch.setattr(reading_lab, "gather", lambda *arguments: gathered.append(1) or gather(*arguments))
    changed = {"seed": {"seed": 11}, "plane": {"plane": Plane(page=1)}, "pattern": {"name_pattern": "(?P<animal>.*)"}}
    build(raw, archive, BuildSettings(**changed.get(change, {})))
    assert gathered


# ---------------------------------------------------------------------------------------------------------- on a cluster


@pytest.fixture
def cluster(tmp_path):
    """Start a real Dask scheduler with two workers on loopback; give its address and the workers' processes."""
    address = tmp_path / "address.json"
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
    dask = str(Path(sys.executable).with_name("dask"))
    words = [dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    processes = [subprocess.Popen([*words, "--scheduler-file", str(address)], **quiet)]
    words = [dask, "worker", "--scheduler-file", str(address), "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    processes += [subprocess.Popen(words, **quiet) for _ in range(2)]
    for _ in range(600):
        if address.exists() and address.stat().st_size:
            break
        time.sleep(0.05)
    yield json.loads(address.read_text())["address"], processes[1:]
    for process in processes[::-1]:
        process.kill()
        process.wait()


@pytest.mark.filterwarnings("ignore")  # distributed warns of ports, clocks and closed connections as it comes
def test_a_cluster_gives_the_same_bytes_with_a_worker_killed_in_mid_work(built, tmp_path, cluster, monkeypatch):
    raw, archive, _ = built
    address, workers = cluster
    put = ingest.Ledger.put
    done = []

    def kill_one(ledger, task, digest, value):
        put(ledger, task, digest, value)
        done.append(task)
        if done.count("picture") == 3:
            workers[0].kill()

    monkeypatch.setattr(ingest.Ledger, "put", kill_one)
    summary = build(raw, tmp_path / "archive", BuildSettings(scheduler=address))
    assert (summary.converted, summary.failed) == (26, ())
    assert workers[0].wait(10) != 0
    assert workers[1].poll() is None
    assert content(tmp_path / "archive") == content(archive)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "address", [pytest.param("127.0.0.1:1", marks=pytest.mark.slow), "nonsense", "tcp://127.0.0.1:x"]
)
def test_an_address_without_a_scheduler_is_one_line(built, tmp_path, address, monkeypatch):
    with pytest.raises(InputError, match="scheduler: expected the address of a Dask scheduler"):
        build(built[0], tmp_path / "archive", BuildSettings(scheduler=address))


def test_without_dask_the_extra_is_named(built, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(MissingExtraError, match=r"fncells\[cluster\]"):
        build(built[0], tmp_path / "archive", BuildSettings(scheduler="127.0.0.1:8786"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"test_share": 1.5}, "test share: expected a number from 0 to 1, found 1.5"),
        ({"test_share": float("nan")}, "test share: expected a number from 0 to 1, found nan"),
        ({"group": "mouse"}, "group: expected slice or animal, found 'mouse'"),
        ({"workers": 0}, "workers: expected 1 or more, found 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        BuildSettings(**wrong)


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(InputError, match="found no such folder; `fncells synth`"):
        build(tmp_path / "nowhere", tmp_path / "archive")
    with pytest.raises(InputError, match="found no folder raw"):
        build(tmp_path, tmp_path / "archive")
    (tmp_path / "raw" / "green").mkdir(parents=True)
    with pytest.raises(InputError, match="one a collection, found no picture"):
        build(tmp_path, tmp_path / "archive")
    put_picture(tmp_path / "raw" / "green" / "a.tif")
    with pytest.raises(InputError, match="expected an archive outside the raw pictures"):
        build(tmp_path, tmp_path / "raw" / "archive")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file: expected a folder that can be written"):
        build(tmp_path, tmp_path / "file")
    assert build(tmp_path, tmp_path / "archive").pictures == {"green": {"trainval": 0, "test": 0, "unlabelled": 1}}
    put_picture(tmp_path / "raw" / "green" / "new\nline.tif")
    with pytest.raises(InputError, match="expected a name of printable characters"):
        build(tmp_path, tmp_path / "archive")


def test_pictures_taken_away_between_a_kill_and_the_next_run_leave_nothing(lab, tmp_path, monkeypatch):
    raw, _ = lab
    monkeypatch.setattr(making, "write_lab_index", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(raw, tmp_path / "new")
    monkeypatch.undo()
    gone = "Mar1bS1C2R1_LHl_200x_g.TIF"
    (raw / "raw" / "green" / gone).unlink()
    summary = build(raw, tmp_path / "new")
    assert (summary.converted, summary.unchanged) == (0, 25)
    assert ("green", gone) not in placed(tmp_path / "new")
    images = [path.name for path in (tmp_path / "new" / "green").rglob("images/*.png")]
    assert len(images) == 12
    # Its number stays its own.
    assert "5.png" not in images


KEYS = st.builds(
    Key,
    st.sampled_from(["green", "yellow", "red"]),
    st.builds("Mar{}S1C{}R1_LHl_{}.tif".format, st.integers(1, 9), st.integers(1, 9), st.sampled_from("gyr")),
)


@settings(max_examples=100, deadline=None)
@given(st.sets(KEYS, max_size=60), st.integers(0, 5), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_a_split_tears_no_group_and_keeps_the_share(keys, seed, share):
    groups = {key: slice_key(key.name) for key in keys}
    partitions = split(groups, {}, share, seed)
    assert set(partitions) == keys
    assert len({(groups[key], partitions[key]) for key in keys}) == len(set(groups.values()))
    sizes = Counter(groups.values())
    wished = sum(
        int(share * sum(key.collection == collection for key in keys) + 0.5)
        for collection in Counter(key.collection for key in keys)
    )
    tested = sum(partition == "test" for partition in partitions.values())
    assert abs(tested - wished) <= max(sizes.values(), default=0) * len(set(key.collection for key in keys))
    assert split(dict(reversed(groups.items())), {}, share, seed) == partitions


@settings(max_examples=50, deadline=None)
@given(st.sets(KEYS, min_size=1, max_size=40), st.sets(KEYS, max_size=40))
def test_a_split_once_drawn_stays_when_pictures_come(old, new):
    before = split({key: slice_key(key.name) for key in old}, {})
    groups = {key: slice_key(key.name) for key in old | new}
    after = split(groups, before)
    assert {key: after[key] for key in old} == before
    assert len({(groups[key], after[key]) for key in groups}) == len(set(groups.values()))


def test_single_pictures_split_exactly_and_by_seed():
    groups = {Key("green", f"{number}.tif"): str(number) for number in range(283)}
    drawn = [split(groups, {}, seed=seed) for seed in (10, 11)]
    assert [sum(partition == "test" for partition in one.values()) for one in drawn] == [71, 71]
    assert drawn[0] != drawn[1]


def test_real_pictures(tmp_path):
    folder = os.environ.get("FNCELLS_DATA")
    if not folder:
        if os.environ.get("FNCELLS_REQUIRE_DATA"):
            pytest.fail("FNCELLS_DATA is not set")
        pytest.skip("FNCELLS_DATA is not set: the real pictures are not here")
    fnc = Path(folder) / "fnc"
    counts = {}
    for collection in ("yellow", "red"):
        shutil.copytree(fnc / collection / "images", tmp_path / "raw" / collection)
        shutil.copytree(fnc / collection / "masks", tmp_path / f"{collection} masks")
    # The camera's own JPEG instead of the picture decoded from it.
    (tmp_path / "raw" / "red" / "RT353S2C1R5_r1.png").unlink()
    shutil.copy(fnc / "raw" / "RT353S2C1R5_r1.JPG", tmp_path / "raw" / "red")
    masks = (tmp_path / "yellow masks", tmp_path / "red masks")
    summary = build(tmp_path, tmp_path / "archive", BuildSettings(annotations=masks))
    assert summary.failed == ()
    for sample in Archive.open(tmp_path / "archive").samples():
        counts[sample.original_name[:5]] = len(sample.read_cells().cells)
        original = fnc / sample.collection / "masks" / f"{Path(sample.original_name).stem}.png"
        assert np.array_equal(sample.read_cells().mask, read_picture(original).pixels > 0)
    assert counts == {"Mar19": 13, "Mar24": 6, "MAR31": 5, "RT353": 57}
    index = read_index(tmp_path / "archive" / "metadata_v2.xlsx").set_index("original_name")
    assert index.loc["RT353S2C1R5_r1.JPG", "species"] == "rat"
    assert index.loc["RT353S2C1R5_r1.JPG", "width"] == 2272
    # Its 300 dpi are a print setting.
    assert index["pixel_size_um"].isna().all()


# Names, planes and metadata of other labs


def put_stacks(root, name="WT-{}_sl1_CA1_{}.tif"):
    """A lab with names of its own, whose pictures are stacks of three channels, and metadata in CSV."""
    for collection, filter_name in (("green", "gfp"), ("red", "dsred")):
        for animal in range(4):
            path = root / "raw" / collection / name.format(animal, filter_name)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(animal).integers(0, 65536, (3, HEIGHT, WIDTH), dtype=np.uint16)
            metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "Channel": {"Name": ["DAPI", "GFP", "dsRed"]}}
            camera = [(271, 2, None, "Andor", True), (306, 2, None, "2021:05:03 10:20:30", True)]
            tifffile.imwrite(path, pixels, ome=True, photometric="minisblack", metadata=metadata, extratags=camera)
    (root / "metadata.csv").write_text("original_name,dataset,treatment\n" + f"{name.format(0, 'gfp')},green,saline\n")
    outlines = {name.format(animal, "gfp"): [SQUARE] for animal in range(4)}
    put_outlines(root / "annotations" / "green.csv", outlines)
    return root


OWN_NAMES = r"(?P<animal>WT-\d+)_sl(?P<sample>\d+)_(?P<area>[^_]+)_.*"


def test_a_lab_with_its_own_names_and_stacks_builds_with_its_own_rule_and_channel(tmp_path):
    raw, archive = put_stacks(tmp_path / "lab"), tmp_path / "archive"
    settings = BuildSettings(name_pattern=OWN_NAMES, plane=Plane(channel="GFP"), test_share=0.5)
    summary = build(raw, archive, settings)
    assert (summary.converted, summary.failed) == (8, ())
    index = read_index(archive / "metadata_v2.xlsx")
    assert sorted(set(index["animal"])) == ["WT-0", "WT-1", "WT-2", "WT-3"]
    assert set(index["sample"]) == {1}
    assert set(index["area"]) == {"CA1"}
    assert index["double_marked"].all()
    assert set(index["camera"]) == {"Andor"}
    assert set(index["taken"]) == {"2021-05-03T10:20:30"}
    assert set(index["pixel_size_source"]) == {"OME"}
    assert index["treatment"].dropna().tolist() == ["saline"]
    row = index[index["original_name"] == "WT-2_sl1_CA1_gfp.tif"].iloc[0]
    place = archive / "green" / row["partition"]
    raw_pixels = tifffile.imread(raw / "raw" / "green" / "WT-2_sl1_CA1_gfp.tif")
    np.testing.assert_array_equal(read_picture(place / "images" / row["image_name"]).pixels, raw_pixels[1])
    sidecar = json.loads((place / "metadata" / row["image_name"]).with_suffix(".json").read_text())
    assert (sidecar["camera"], sidecar["pixel_size"]) == ("Andor", {"um": 0.5, "source": "OME"})
    assert sidecar["notes"][0] == "the file holds 3 channels (DAPI, GFP, dsRed); channel 2 was taken"
    record = json.loads((archive / "fncells-run.json").read_text())["settings"]
    assert (record["name_pattern"], record["plane"]) == (OWN_NAMES, {"channel": "GFP"})
    # The same again does nothing; another channel makes other pictures.
    assert build(raw, archive, settings).converted == 0
    assert build(raw, archive, BuildSettings(name_pattern=OWN_NAMES, plane=Plane(channel="3"))).converted == 8


def test_a_name_that_does_not_fit_the_rule_is_said_and_nothing_is_guessed(tmp_path):
    raw = put_stacks(tmp_path / "lab", name="Mar{}bS1C1R1_LHl_200x_{}.tif")
    summary = build(raw, tmp_path / "archive", BuildSettings(name_pattern=OWN_NAMES))
    assert sum("does not fit the name pattern" in line for line in summary.warnings) == 8
    assert read_index(tmp_path / "archive" / "metadata_v2.xlsx")["animal"].isna().all()
    with pytest.raises(InputError, match="name pattern: expected a regular expression"):
        BuildSettings(name_pattern="(")


def test_a_makers_file_without_the_extra_fails_alone(tmp_path, monkeypatch):
    raw = put_stacks(tmp_path / "lab")
    (raw / "raw" / "green" / "WT-9_sl1_CA1_gfp.nd2").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "bioio", None)
    summary = build(raw, tmp_path / "archive", BuildSettings(name_pattern=OWN_NAMES))
    assert summary.converted == 8
    [(name, reason)] = summary.failed
    assert name == "green/WT-9_sl1_CA1_gfp.nd2"
    assert reason.endswith('needs an optional part of fncells; install it with: pip install "fncells[microscopes]"')
