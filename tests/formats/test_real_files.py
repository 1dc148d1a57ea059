"""Real masks, label pictures and VIA files; they are not part of the project, see the README on FNCELLS_DATA."""

import csv
import io
import json
import shutil

import cv2
import numpy as np
import pytest

from fncells.formats import CODECS, convert, read_annotations, recognise

VIA_FILES = {  # file: format, pictures, regions, of which dots
    "via_upstream/via1_unit_test_annotation1.csv": ("via-csv", 3, 12, 5),
    "via_upstream/via1_unit_test_annotation2.json": ("via", 3, 12, 5),
    "via_upstream/via2_sherlock_rect.csv": ("via-csv", 266, 427, 0),
    "via_upstream/via2_sherlock_rect.json": ("via", 266, 427, 0),
    "via_csv_polygons_gbmseg/via_export_csv.csv": ("via-csv", 101, 13, 0),
    "via_kudzu/train/via_region_data.json": ("via", 24, 520, 0),
    "via_kudzu/val/via_region_data.json": ("via", 16, 349, 0),
}


@pytest.mark.parametrize("file", VIA_FILES)
def test_via_files_are_read_whole(data, file):
    path = data / "formats" / file
    images = list(read_annotations(path))
    cells = [cell for image in images for cell in image.cells]
    found = recognise(path), len(images), len(cells), sum(cell.is_dot for cell in cells)
    assert found == VIA_FILES[file]


@pytest.mark.parametrize("file", [file for file in VIA_FILES if file.endswith(".json")])
def test_via_to_via_keeps_every_region(data, tmp_path, file):
    convert(data / "formats" / file, tmp_path / "a.json", "via")
    before, after = (json.loads(path.read_text()) for path in (data / "formats" / file, tmp_path / "a.json"))
    assert list(before) == list(after)
    for key, entry in before.items():
        if isinstance(entry["regions"], dict):
            entry["regions"] = list(entry["regions"].values())
        for name in ("filename", "size", "regions", "file_attributes"):
            assert json.dumps(entry[name]) == json.dumps(after[key][name])


@pytest.mark.parametrize("file", [file for file in VIA_FILES if file.endswith(".csv")])
def test_via_csv_to_via_csv_keeps_every_row(data, tmp_path, file):
    convert(data / "formats" / file, tmp_path / "a.csv", "via-csv")
    texts = ((data / "formats" / file).read_text().removeprefix("#"), (tmp_path / "a.csv").read_text())
    # One of the files scatters the rows of a picture and miscounts them; their order within a picture is what matters.
    before, after = (sorted(csv.DictReader(io.StringIO(text)), key=lambda row: row["filename"]) for text in texts)
    for row in before + after:
        row["region_count"], row["region_id"] = "", ""
    assert before == after


def test_the_two_exports_of_one_project_say_the_same(data):
    for names in (
        ("via1_unit_test_annotation1.csv", "via1_unit_test_annotation2.json"),
        ("via2_sherlock_rect.csv", "via2_sherlock_rect.json"),
    ):
        one, other = (
            {image.name: image for image in read_annotations(data / "formats" / "via_upstream" / name)}
            for name in names
        )
        assert one.keys() == other.keys()
        for name, image in one.items():
            assert all(a.same_as(b) for a, b in zip(image.cells, other[name].cells, strict=True))


def test_pictures_beside_a_via_file_give_their_sizes(data):
    folder = data / "formats" / "via_kudzu" / "val"
    images = list(read_annotations(folder / "via_region_data.json", images=folder))
    assert all(image.shape is not None for image in images)
    assert sum(int((image.areas > 0).sum()) for image in images) == 349
    assert all(image.attributes["fncells.file_size"] == (folder / image.name).stat().st_size for image in images)


FNC_CELLS = {
    "Mar19bS1C4R2_LHr_200x.png": 13,
    "Mar24bS1C2R3_LHl_200x.png": 6,
    "MAR31S1C1R2_DMHr_200x_r.png": 5,
    "RT353S2C1R5_r1.png": 57,
}


@pytest.mark.parametrize(("to", "name"), [("via", "a.json"), ("via-csv", "a.csv")])
def test_published_masks_survive_via(data, tmp_path, to, name):
    counts = {}
    for collection in ("yellow", "red"):
        masks = data / "fnc" / collection / "masks"
        report = convert(masks, tmp_path / collection / name, to)
        counts |= {losses.picture: losses.before.n_cells for losses in report.pictures}
        convert(tmp_path / collection / name, tmp_path / collection / "masks", "masks")
        for path in masks.glob("*.png"):
            written = cv2.imread(str(tmp_path / collection / "masks" / path.name), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(written, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    assert counts == FNC_CELLS


def test_older_16_bit_masks_are_read(data):
    folder = data / "fnc" / "yellow_masks_v0_uint16"
    assert recognise(folder) == "masks"
    found = {image.name: (len(image.cells), int(image.mask.sum())) for image in read_annotations(folder)}
    assert found == {
        "Mar19bS1C4R2_LHr_200x.png": (13, 28430),
        "Mar23bS1C2R2_VLPAGl_200x.png": (3, 4504),
        "Mar24bS1C2R3_LHl_200x.png": (6, 27876),
    }


def test_expert_tiffs_are_masks(data, tmp_path):
    for path in (data / "parv").glob("*_expert.tif"):
        shutil.copy(path, tmp_path)
    assert recognise(tmp_path) == "masks"
    assert [int(image.mask.sum()) for image in read_annotations(tmp_path)] == [10549, 1390, 5761, 3153]


def test_coloured_masks_are_read_by_any_channel(data):
    folder = data / "bbbc039" / "masks"
    assert recognise(folder) == "masks"
    # Touching nuclei have different colours; as a mask they merge where they touch.
    assert [len(image.cells) for image in read_annotations(folder)] == [94, 86, 84, 122]


FILES = {"coco": "a.json", "via": "a.json", "via-csv": "a.csv"}


def survives(images, folder):
    """Each picture comes back from every format with its label pixels; masks, which know no labels, with its mask."""
    for image in images:
        for to, codec in CODECS.items():
            shutil.rmtree(folder / to, ignore_errors=True)
            codec.write(folder / to / FILES.get(to, ""), [image])
            [again] = codec.read(folder / to / FILES.get(to, ""))
            what = "mask" if to == "masks" else "labels"
            np.testing.assert_array_equal(getattr(again, what), getattr(image, what), err_msg=f"{image.name} as {to}")
            again_foreign = list(codec.read_foreign(folder / to / FILES.get(to, "")))
            assert len(again_foreign) == 1


def test_published_masks_survive_every_format(data, tmp_path):
    for collection in ("yellow", "red"):
        survives(read_annotations(data / "fnc" / collection / "masks"), tmp_path)


def test_published_masks_survive_the_archives_own_files(data, tmp_path):
    for collection in ("yellow", "red"):
        for image in read_annotations(data / "fnc" / collection / "masks"):
            for to in ("rle", "coco", "voc", "via"):
                shutil.rmtree(tmp_path / to, ignore_errors=True)
                CODECS[to].published.write(tmp_path / to / FILES.get(to, ""), [image])
                [again] = read_annotations(tmp_path / to / FILES.get(to, ""))
                # The archive's polygons have no holes.
                filled = cv2.fillPoly(
                    np.zeros(image.shape, np.uint8), [cell.rings[0].astype(np.int32) for cell in image.cells], 1
                )
                expected = image.mask if to == "rle" else filled > 0
                np.testing.assert_array_equal(
                    again.with_shape(image.shape).mask, expected, err_msg=f"{image.name} {to}"
                )
                assert len(again.cells) == len(image.cells)


@pytest.mark.slow
def test_all_consensus_and_expert_masks_survive(data, tmp_path):
    folders = [folder for lab in sorted((data / "cfos").iterdir()) for folder in sorted((lab / "labels").iterdir())]
    for folder in folders:
        survives(read_annotations(folder, "masks"), tmp_path)


def test_every_100th_nuclei_label_picture_survives(data, tmp_path):
    paths = sorted((data / "dsb2018" / "labels").iterdir())
    assert len(paths) == 541
    for path in paths[::100]:
        survives(read_annotations(path, "labels"), tmp_path)


@pytest.mark.slow
def test_all_nuclei_label_pictures_survive(data, tmp_path):
    folder = data / "dsb2018" / "labels"
    assert recognise(folder) == "labels"
    survives(read_annotations(folder), tmp_path)
    assert sum(len(image.cells) for image in read_annotations(folder)) == 23_096
