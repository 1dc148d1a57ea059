"""What `build` made, opened and checked: ten formats that say the same, and labs that name their pictures by their own rule."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tifffile

from fncells.archive import INDEX_NAME, Archive, read_index, write_index
from fncells.audit import audit_archive
from fncells.formats import CODECS, codec_named
from fncells.ingest import BuildSettings, build
from fncells.network import CellsDataModule, TrainSettings
from fncells.synthetic import synthesise
from fncells.truths import PARTITION_TRUTHS, PICTURE_TRUTHS, truth_path

TRUTHS = {**PICTURE_TRUTHS, **PARTITION_TRUTHS}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("built")
    synthesise(root / "lab", pictures=5, seed=4, collections=("green",), size=(200, 150))
    build(root / "lab", root / "archive", BuildSettings(test_share=0.4, group="animal"))
    return root / "archive"


def first_with_cells(archive):
    return next(one for one in Archive.open(archive).samples("green", "trainval") if one.read_cells().cells)


def test_a_built_archive_holds_ten_formats_and_nothing_is_wrong(built):
    for sample in Archive.open(built).samples():
        if sample.partition == "unlabelled":
            continue
        assert set(sample.formats) == set(CODECS)
        assert sample.formats[0] == "labels"
        truth = sample.read_cells()
        for name in sample.formats:
            cells = sample.read_cells(name)
            assert (cells.name, cells.shape) == (sample.name, truth.shape)
            assert np.array_equal(cells.mask, truth.mask), name
            if name != "masks":
                assert np.array_equal(cells.labels > 0, truth.labels > 0)
                assert len(cells.cells) == len(truth.cells)
    assert audit_archive(built) == []


@pytest.mark.parametrize("kind", TRUTHS)
def test_a_cell_lost_in_any_format_is_found_there(built, tmp_path, kind):
    """The check reads every format that `build` writes: nothing is good for want of looking."""
    archive, truth = tmp_path / "archive", TRUTHS[kind]
    shutil.copytree(built, archive)
    (archive / "checksums.sha256").unlink()
    damaged = first_with_cells(archive)
    images = [
        dataclasses.replace(image, cells=image.cells[1:]) if image.name == damaged.name else image
        for image in (sample.read_cells(truth.format) for sample in Archive.open(archive).samples("green", "trainval"))
    ]
    path = archive / truth_path(truth, "green", "trainval", damaged.picture_path.stem)
    codec_named(truth.format, truth.dialect).write(path if kind in PARTITION_TRUTHS else path.parent, images)
    files = {one.file for one in audit_archive(archive) if one.severity == "serious"}
    # Mask and label picture are held against each other.
    place = "/ground_truths/labels/" if kind == "masks" else f"/ground_truths/{truth.path.split('/')[0]}"
    assert any(place in file for file in files)


# Labs with names of their own

OWN_NAMES = (
    r"(?P<animal>[^_]+)_slide(?P<sample>[0-9]+)_sec(?P<column>[0-9]+)_(?P<area>CA1)(?P<side>L|R)_(?P<zoom>20x)_.*"
)


def put_own_lab(root, torn=()):
    """Pictures in two channels of the same fields; of the torn ones the metadata put the second channel into test."""
    fields = [
        f"WT-{animal}_slide{slide}_sec{section}" for animal in (11, 12, 13) for slide in (1, 2) for section in (1, 2)
    ]
    for channel, collection in (("488", "green"), ("561", "red")):
        names = [f"{field}_CA1L_20x_{channel}.tif" for field in fields]
        (root / "raw" / collection).mkdir(parents=True)
        for number, name in enumerate(names):
            pixels = np.random.default_rng([number, int(channel)]).integers(0, 200, (30, 40, 3), dtype=np.uint8)
            tifffile.imwrite(root / "raw" / collection / name, pixels, photometric="rgb", metadata=None)
        (root / "annotations").mkdir(exist_ok=True)
        entries = {name: {"filename": name, "size": -1, "regions": [], "file_attributes": {}} for name in names}
        (root / "annotations" / f"{collection}.json").write_text(json.dumps(entries))
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("original_name", "dataset", "partition"))
        for field in fields:
            writer.writerow((f"{field}_CA1L_20x_488.tif", "green", "trainval" if field in torn else ""))
            writer.writerow((f"{field}_CA1L_20x_561.tif", "red", "test" if field in torn else ""))
    return root


def serious(archive):
    return [(one.kind, one.file) for one in audit_archive(archive) if one.severity == "serious"]


def test_an_archive_of_a_lab_with_its_own_names_has_nothing_wrong(tmp_path):
    settings = BuildSettings(name_pattern=OWN_NAMES, group="animal", test_share=0.34)
    build(put_own_lab(tmp_path / "lab"), tmp_path / "archive", settings)
    assert {one.kind for one in audit_archive(tmp_path / "archive")} <= {"blank-picture"}
    samples = Archive.open(tmp_path / "archive").samples()
    assert {sample.animal for sample in samples} == {"wt-11", "wt-12", "wt-13"}
    assert len({sample.slice for sample in samples}) == 12


@pytest.mark.parametrize("known_by", ["recorded pattern", "index", None])
def test_a_slice_of_such_a_lab_in_both_partitions_is_found(tmp_path, known_by):
    archive = tmp_path / "archive"
    lab = put_own_lab(tmp_path / "lab", torn=["WT-12_slide1_sec2"])
    summary = build(lab, archive, BuildSettings(name_pattern=OWN_NAMES))
    assert [line for line in summary.warnings if "in trainval and in test" in line]
    (archive / "checksums.sha256").unlink()
    if known_by != "recorded pattern":  # as where an archive was packed and fetched
        (archive / "fncells-run.json").unlink()
    if known_by != "index":
        index = read_index(archive / INDEX_NAME)
        write_index(archive / INDEX_NAME, index.assign(sample=None, column=None, row=None, animal=None))
    [torn] = [one for one in Archive.open(archive).samples("red") if one.original_name.startswith("WT-12_slide1_sec2")]
    found = [("slice-across-partitions", f"red/test/images/{torn.name}")]
    assert serious(archive) == (found if known_by else [])
    notes = {one.kind: one.place for one in audit_archive(archive) if one.severity == "note"}
    assert ("wt-12" in notes.get("animal-across-partitions", "")) == bool(known_by)


def test_animals_that_only_the_metadata_tell_are_known(tmp_path):
    lab = put_own_lab(tmp_path / "lab")
    lines = (lab / "metadata.csv").read_text().splitlines()
    told = [
        f"{line},{'animal' if not place else 'Rat A' if place % 2 else 'Rat B'}" for place, line in enumerate(lines)
    ]
    (lab / "metadata.csv").write_text("\n".join(told))
    build(lab, tmp_path / "archive", BuildSettings(name_pattern=OWN_NAMES))
    animals = {one.collection: {one.animal} for one in Archive.open(tmp_path / "archive").samples()}
    assert animals == {"green": {"rat a"}, "red": {"rat b"}}


@pytest.mark.parametrize("group", ["slice", "animal"])
def test_training_keeps_the_groups_of_such_a_lab_together(tmp_path, group):
    """Two channels in one collection: what the names' own rule alone knows to be one field."""
    lab = put_own_lab(tmp_path / "lab")
    for path in (lab / "raw" / "red").iterdir():
        path.rename(lab / "raw" / "green" / path.name)
    (lab / "raw" / "red").rmdir()
    (lab / "metadata.csv").unlink()
    entries = {}
    for name in ("green", "red"):
        entries |= json.loads((lab / "annotations" / f"{name}.json").read_text())
        (lab / "annotations" / f"{name}.json").unlink()
    (lab / "annotations" / "all.json").write_text(json.dumps(entries))
    build(lab, tmp_path / "archive", BuildSettings(name_pattern=OWN_NAMES, test_share=0))
    for seed in range(4):
        module = CellsDataModule(tmp_path / "archive", "green", TrainSettings(seed=seed, validation_group=group))
        sides = {}
        for sample, apart in zip(module.labelled, module.validation, strict=True):
            sides.setdefault(getattr(sample, group), []).append(apart)
        assert len(sides) == {"slice": 12, "animal": 3}[group]
        assert all(len(set(side)) == 1 and len(side) >= 2 for side in sides.values())
