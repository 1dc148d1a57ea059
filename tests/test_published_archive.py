"""An archive as the published one is, opened: all its annotation types, its defects, and the commands on it."""

import gc
import hashlib
import json
import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from fncells import archive as archive_module
from fncells.archive import Archive, path_of
from fncells.cli import run
from fncells.errors import InputError
from fncells.files import sha256
from fncells.formats import CODECS, coco
from fncells.formats.pictures import FILE_SIZE
from published_archive import EMPTY, LARGE, NUMBERS, ORPHAN, USUAL, put_published_archive

TYPES = ("masks", "rle", "voc", "coco", "via")  # all that the published archive holds


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    return root, put_published_archive(root)


@pytest.fixture
def opened(made):
    return Archive.open(made[0])


def labelled(opened):
    return [one for one in opened.samples() if one.partition != "unlabelled"]


def mask_of(made, sample):
    return made[1].masks[sample.collection, sample.partition, int(sample.picture_path.stem)]


def regions(mask):
    """Boxes with both ends, and centres, of the 8-connected regions, from left to right."""
    _, _, found, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    boxes = [(x, y, x + width - 1, y + height - 1) for x, y, width, height, _ in found[1:].tolist()]
    return sorted(boxes), sorted(centres[1:].tolist())


def test_the_generator_gives_the_same_bytes_again(made, tmp_path):
    put_published_archive(tmp_path)

    def digests(root):
        return {path.relative_to(root): sha256(path) for path in root.rglob("*") if path.is_file()}

    assert digests(tmp_path) == digests(made[0])
    assert len(digests(tmp_path)) > 150


def test_a_selection_is_a_plain_sequence(opened):
    samples = opened.samples("green", "trainval")
    assert isinstance(samples, Sequence)
    assert len(samples) == len(NUMBERS["green"]["trainval"])
    assert [sample.name for sample in samples[1:3]] == ["7.png", "9.png"]
    assert samples[-1].name == "131.png"
    assert samples.index(samples[2]) == 2
    assert list(samples) == [samples[place] for place in range(len(samples))]
    assert pickle.loads(pickle.dumps(samples)) == samples


def test_pictures_of_both_sizes_are_read_with_their_tags(opened, made):
    shapes = {sample: sample.read_picture().pixels.shape[:2] for sample in opened.samples()}
    for sample, shape in shapes.items():
        assert shape == made[1].shapes[sample.collection, sample.partition, int(sample.picture_path.stem)]
    assert {shape for sample, shape in shapes.items() if sample.collection == "red"} == {USUAL, LARGE}
    rat = opened.samples("red", "test")[1]
    assert rat.read_picture().tags["Exif.Image.Model"] == "E4500"
    assert rat.original_name == "RT213S2C1R5_r1.JPG"


@pytest.mark.parametrize("format_name", [None, *TYPES])
def test_every_annotation_type_gives_the_cells(opened, made, format_name):
    shares = []
    for sample in labelled(opened):
        assert sample.formats == ("masks", "rle", "voc", "coco", "via")
        mask, cells = mask_of(made, sample), sample.read_cells(format_name)
        boxes, centres = regions(mask)
        assert (cells.name, cells.shape) == (sample.name, mask.shape)
        assert len(cells.cells) == len(boxes)
        if format_name == "coco":  # outlines are cut to 50 points
            both, either = (cells.mask & (mask > 0)).sum(), (cells.mask | (mask > 0)).sum()
            shares.append(both / either if either else 1)
            distances = np.linalg.norm(cells.centres[:, np.newaxis] - np.reshape(centres, (-1, 2)), axis=2)
            assert distances.min(axis=0, initial=np.inf).max(initial=0) < 1
        else:
            assert np.array_equal(cells.mask, mask > 0)
            assert sorted(map(tuple, cells.boxes.tolist())) == boxes
            np.testing.assert_allclose(sorted(cells.centres.tolist()), centres)
            assert np.array_equal(cells.labels > 0, mask > 0)
    if format_name == "coco":
        assert 0.95 < min(shares) < 1


def test_markers_and_file_sizes_are_kept(opened):
    sample = opened.samples("yellow", "trainval")[0]
    assert {cell.marker for name in ("voc", "coco") for cell in sample.read_cells(name).cells} == {"CTb"}
    assert sample.read_cells("via").attributes[FILE_SIZE] == sample.picture_path.stat().st_size


def test_pictures_without_cells_have_none_in_any_type(opened):
    empty = [one for one in labelled(opened) if (one.collection, int(one.picture_path.stem)) in EMPTY]
    assert len(empty) == len(EMPTY)
    assert {len(sample.read_cells(name).cells) for sample in empty for name in (None, *TYPES)} == {0}


def test_the_orphan_mask_is_listed_and_no_picture(opened):
    assert [path.name for path in opened.unpaired_masks()] == [f"{ORPHAN}.png"]
    assert f"{ORPHAN}.png" not in [sample.name for sample in opened.samples("green", "trainval")]


def test_unlabelled_pictures_are_read_and_have_no_cells(opened):
    unlabelled = opened.samples(partition="unlabelled")
    assert len(unlabelled) == 5
    for sample in unlabelled:
        assert sample.read_picture().pixels.shape[2] == 3
        assert sample.formats == ()
        expected = (
            rf"{sample.name}: expected a picture with ground truth, found none in {sample.collection}/unlabelled;"
        )
        with pytest.raises(InputError, match=expected):
            sample.read_cells()


def test_a_type_that_is_not_there_is_named_with_those_that_are(opened):
    sample = opened.samples("green", "trainval")[0]
    with pytest.raises(InputError, match=r"ground truth as labels, found masks, rle, voc, coco, via in green/trainval"):
        sample.read_cells("labels")
    with pytest.raises(InputError, match="format: expected one out of masks, labels"):
        sample.read_cells("dots")


def test_files_of_a_partition_are_read_once_and_not_kept_for_ever(opened, monkeypatch):
    reads, read_json = [], coco.read_json
    monkeypatch.setattr(coco, "read_json", lambda path: reads.append(path) or read_json(path))
    archive_module._partition_cells.cache_clear()
    for _ in range(2):
        for sample in opened.samples("green", "trainval"):
            sample.read_cells("coco")
    assert len(reads) == 1
    # What a user makes of the cells is the user's: the label pictures of a partition do not pile up.
    sample = opened.samples("green", "trainval")[0]
    assert sample.read_cells("coco").labels.any()
    assert "labels" not in vars(sample.read_cells("coco"))
    assert archive_module._partition_cells.cache_info().maxsize < 20
    archive_module._partition_cells.cache_clear()
    gc.collect()


def test_a_changed_file_of_a_partition_is_read_again_and_what_is_wrong_in_it_told(tmp_path):
    put_published_archive(tmp_path)
    first, second, *_ = Archive.open(tmp_path).samples("red", "test")
    path = tmp_path / "red" / "test" / "ground_truths" / "VIA" / "annotations_red_test.json"
    assert len(first.read_cells("via").cells) > 0
    entries = json.loads(path.read_text())
    [key] = [key for key in entries if entries[key]["filename"] == first.name]
    entries[key]["regions"][0]["shape_attributes"]["name"] = "blob"
    path.write_text(json.dumps(entries))
    for _ in range(2):
        with pytest.raises(InputError, match=r"annotations_red_test\.json, picture '2\.png', region 0"):
            first.read_cells("via")
    assert len(second.read_cells("via").cells) > 0
    del entries[key]
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"annotations_red_test\.json: expected annotations of 2\.png, found none"):
        first.read_cells("via")


@pytest.mark.parametrize("levels", ["0/1", "0/65535", "colours", "grey"])
def test_masks_are_read_by_the_rule_of_their_format(tmp_path, levels):
    """There is one rule of what is a cell in a mask, whether it is opened in an archive or converted."""
    put_published_archive(tmp_path)
    sample = Archive.open(tmp_path).samples("green", "trainval")[0]
    path = tmp_path / path_of("masks", "green", "trainval", "2")
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    soft = np.clip(mask.astype(float), 0, 200) - 20 * (np.arange(mask.shape[1]) % 5)
    made = {
        "0/1": mask // 255,
        "0/65535": mask.astype(np.uint16) * 257,
        "colours": np.dstack((mask, mask // 2, mask * 0)),
        "grey": np.clip(soft, 0, 255).astype(np.uint8),
    }[levels]
    cv2.imwrite(str(path), made)
    [expected] = CODECS["masks"].read(path)
    assert sample.read_cells().same_as(expected)
    if levels == "grey":
        assert np.array_equal(expected.mask, made >= 128)
    else:
        assert np.array_equal(expected.mask, mask > 0)


def test_check_tells_the_published_defects(made, capsys):
    assert run(["check", str(made[0]), "--json", "--quiet"]) == 1
    told = json.loads(capsys.readouterr().out)
    serious = {(one["kind"], one["file"]) for one in told["findings"] if one["severity"] == "serious"}
    assert serious == {("mask-without-picture", f"green/trainval/ground_truths/masks/{ORPHAN}.png")}
    others = {one["file"] for one in told["findings"] if one["severity"] != "serious"}
    assert others
    assert all("/COCO/" in file for file in others)  # what the cut outlines lack


def test_stats_counts_the_cells_of_the_labelled_pictures(made, capsys):
    assert run(["stats", str(made[0]), "--json", "--quiet"]) == 0
    table = json.loads(capsys.readouterr().out)
    for collection, row in table.items():
        masks = [mask for (name, *_), mask in made[1].masks.items() if name == collection]
        assert row["cell_count"]["count"] == len(masks)
        assert row["cell_count"]["mean"] == pytest.approx(np.mean([len(regions(mask)[0]) for mask in masks]))


@pytest.mark.parametrize("truth", ["rle", "Pascal_VOC", "COCO/annotations_red_trainval.json"])
def test_convert_reads_the_published_truths(made, tmp_path, truth, capsys):
    folder = made[0] / "red" / "trainval"
    assert (
        run(["convert", str(folder / "ground_truths" / truth), str(tmp_path / "made"), "--to", "labels", "--quiet"])
        == 0
    )
    for number in NUMBERS["red"]["trainval"]:
        labels = cv2.imread(str(tmp_path / "made" / f"{number}.png"), cv2.IMREAD_UNCHANGED)
        mask = made[1].masks["red", "trainval", number]
        assert len(np.unique(labels)) - 1 == len(regions(mask)[0])
        assert (labels > 0).sum() == pytest.approx((mask > 0).sum(), rel=0 if "COCO" not in truth else 0.03)
    capsys.readouterr()


def test_train_takes_the_collection_of_two_sizes(made, tmp_path, capsys):
    few = ("--epochs", "1", "--batch", "2", "--crop", "32", "--recipe", "best", "--json", "--quiet")
    before = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(made[0].rglob("*.png")))).hexdigest()
    assert run(["train", str(made[0]), "--collection", "red", "--out", str(tmp_path / "run"), *few]) == 0
    assert json.loads(capsys.readouterr().out)["best_epoch"] == 1
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    names = {f"{number}.png" for number in NUMBERS["red"]["trainval"]}
    assert {*settings["training"], *settings["validation"]} == names
    assert hashlib.sha256(b"".join(path.read_bytes() for path in sorted(made[0].rglob("*.png")))).hexdigest() == before


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*logging interval")
def test_the_examples_of_the_docs_run(tmp_path, monkeypatch, capsys):
    made = put_published_archive(tmp_path / "fnc")
    page = Path(__file__).parents[1] / "docs" / "archives.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(blocks), str(page), "exec"), {})
    n = len(regions(made.masks["green", "trainval", 2])[0])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"2.png {len(NUMBERS['green']['trainval'])} {TYPES}"
    assert told[1] == f"{n} ({n}, 4) ({n}, 2) (120, 160) {n}"
    assert told[2] == str(dict.fromkeys(TYPES, n))
    numbers = NUMBERS["red"]["trainval"][:4]
    counts = [len(regions(made.masks["red", "trainval", number])[0]) for number in numbers]
    shapes = [list(made.shapes["red", "trainval", number]) for number in numbers]
    assert told[3] == f"torch.Size([4, 3, 176, 232]) {shapes} {counts}"
    assert told[-1] == "2 1 of 6 for validation"
