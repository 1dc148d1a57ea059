"""The audit finds each planted fault, exactly it, and nothing on the clean twin."""

import dataclasses
import hashlib
import shutil
import tracemalloc
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from fncells.archive import INDEX_NAME, index_frame, path_of, write_index
from fncells.audit import audit_annotations, audit_archive
from fncells.audit.likeness import Portrait, duplicate_findings
from fncells.audit.sizes import Measured, size_findings
from fncells.cells import AnnotatedImage, Cell, trace
from fncells.errors import InputError
from fncells.formats import read_annotations, write_annotations
from fncells.images import Picture, read_picture, tags_text, write_png
from fncells.ingest import BuildSettings, build
from fncells.synthetic import synthesise

SHAPE = (96, 128)
SHEET = {"trainval": ("1", "2", "3"), "test": ("4", "5"), "unlabelled": ("6",)}


def put_png(path, pixels):
    write_png(path, Picture(path.name, pixels))


def put_picture(path, pixels, make="NIKON", description=None):
    exif = Image.Exif()
    exif.update({271: make, 272: "E4500"} | ({} if description is None else {270: description}))
    write_png(path, Picture(path.name, pixels, exif=exif.tobytes().removeprefix(b"Exif\0\0")))


def scenery(seed, shape=SHAPE):
    noise = np.random.default_rng(seed).normal(0, 25, (24, 32, 3))
    return np.clip(cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC) + 90, 0, 255).astype(np.uint8)


def box(x, y, side=9, **more):
    """A cell of (side + 1)² pixels."""
    return Cell((np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], dtype=float),), **more)


def cells_of(stem):
    return tuple(box(10 + 20 * column, 12 + 30 * (int(stem) % 2)) for column in range(5))


def annotated(stem, cells):
    return AnnotatedImage(f"{stem}.png", SHAPE, cells)


def put_truth(root, partition, stem, cells):
    image = annotated(stem, cells)
    put_png(root / path_of("masks", "green", partition, stem), image.mask.astype(np.uint8) * np.uint8(255))
    put_png(root / path_of("labels", "green", partition, stem), image.labels.astype(np.uint16))


def via_path(root, partition="trainval"):
    return root / "green" / partition / "ground_truths" / "VIA" / f"annotations_green_{partition}.json"


def put_via(root, partition="trainval", changed=None):
    """Annotations of a partition; `changed` gives other cells to some pictures, None leaves a picture out."""
    changed = changed or {}
    told = {
        stem: changed.get(stem, cells_of(stem))
        for stem in [*SHEET[partition], *(changed.keys() - set(SHEET[partition]))]
    }
    images = [annotated(stem, cells) for stem, cells in told.items() if cells is not None]
    write_annotations(via_path(root, partition), images, "via")


def rows():
    found = []
    for partition, stems in SHEET.items():
        for stem in stems:
            row = {
                "image_name": f"{stem}.png",
                "original_name": f"Mar{stem}bS1C1R1_LHl_200x_g.TIF",
                "dataset": "green",
                "partition": partition,
                "species": "mouse",
                "animal": f"MAR{stem}b",
                "area": "LH",
                "side": "l",
                "width": SHAPE[1],
                "height": SHAPE[0],
                "pixel_size_um": 1.0,
                "n_cells": None if partition == "unlabelled" else 5,
            }
            found.append(row)
    return found


def put_index(root, found):
    write_index(root / INDEX_NAME, index_frame(found))


def put_checksums(root):
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in names if "sha256" not in name
    ]
    (root / "checksums.sha256").write_text("".join(lines))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    root = tmp_path_factory.mktemp("clean")
    for partition, stems in SHEET.items():
        for stem in stems:
            put_picture(image(root, stem, partition), scenery(int(stem)))
            notes = root / path_of("metadata", "green", partition, stem)
            notes.parent.mkdir(parents=True, exist_ok=True)
            notes.write_text(tags_text(read_picture(image(root, stem, partition))))
            if partition != "unlabelled":
                put_truth(root, partition, stem, cells_of(stem))
    put_via(root, "trainval")
    put_via(root, "test")
    put_index(root, rows())
    put_checksums(root)
    return root


def image(root, stem, partition="trainval"):
    return root / path_of("images", "green", partition, stem)


def mask(root, stem, partition="trainval"):
    return root / path_of("masks", "green", partition, stem)


def labels(root, stem, partition="trainval"):
    return root / path_of("labels", "green", partition, stem)


def with_row(**changes):
    return [{**row, **changes} if row["image_name"] == "2.png" else row for row in rows()]


# The faults


def orphan_mask(root):
    put_png(mask(root, "128"), np.zeros(SHAPE, np.uint8))


def no_mask(root):
    mask(root, "2").unlink()
    labels(root, "2").unlink()


def broken_picture(root):
    image(root, "2").write_bytes(image(root, "2").read_bytes()[:200])


def broken_mask(root):
    mask(root, "2").write_bytes(b"no picture")


def broken_mask_without_labels(root):
    labels(root, "2").unlink()
    broken_mask(root)


def smaller_picture(root):
    """The mask, the label picture and the annotations were made of the larger one."""
    put_picture(image(root, "2"), scenery(2, (48, 64)))


def grey_mask(root):
    pixels = read_picture(mask(root, "2")).pixels.copy()
    pixels[20, 15] = 128
    put_png(mask(root, "2"), pixels)


def coloured_mask(root):
    pixels = np.stack([read_picture(mask(root, "2")).pixels, np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)], 2)
    put_png(mask(root, "2"), pixels)


def mask_of_ones(root):
    put_png(mask(root, "2"), read_picture(mask(root, "2")).pixels // np.uint8(255))


def labels_of_another_picture(root):
    shutil.copy(labels(root, "1"), labels(root, "2"))


def hollow_cell(root):
    ring = box(10, 12).rings + (np.array([[13, 15], [16, 15], [16, 18], [13, 18]], dtype=float),)
    cells = (Cell(ring), *cells_of("2")[1:])
    put_truth(root, "trainval", "2", cells)


def speck(root):
    cells = (*cells_of("2"), box(100, 80, side=1))
    put_truth(root, "trainval", "2", cells)
    put_via(root, changed={"2": cells})
    put_index(root, with_row(n_cells=6))


def giant(root):
    cells = (*cells_of("2"), box(40, 50, side=35))
    put_truth(root, "trainval", "2", cells)
    put_via(root, changed={"2": cells})
    put_index(root, with_row(n_cells=6))


def annotation_outside(root):
    put_via(root, changed={"2": (*cells_of("2"), box(140, 40))})


def annotation_on_the_edge(root):
    cells = (*cells_of("2"), box(119, 60))
    put_truth(root, "trainval", "2", cells)
    put_via(root, changed={"2": cells})
    put_index(root, with_row(n_cells=6))


def bow_tie(root):
    """Its pixels are in the mask as well, so that the crossing is all that is wrong."""
    cells = (*cells_of("2"), Cell((np.array([[20.0, 60], [32, 72], [32, 60], [20, 72]]),)))
    put_truth(root, "trainval", "2", cells)
    put_via(root, changed={"2": cells})
    put_index(root, with_row(n_cells=6))


def slip_at_a_corner(root):
    """A small loop, as a hurried click leaves."""
    ring = np.array([[20.0, 60], [31, 60], [31, 72], [20, 72], [22, 74], [22, 70]])
    cells = (*cells_of("2"), Cell((ring,)))
    put_truth(root, "trainval", "2", cells)
    put_via(root, changed={"2": cells})
    put_index(root, with_row(n_cells=6))


def outline_of_two_points(root):
    """A click and a double click; it has drawn two pixels of a cell that is there."""
    put_via(root, changed={"2": (*cells_of("2"), Cell((np.array([[12.0, 14], [13, 14]]),)))})


def cell_drawn_twice(root):
    put_via(root, changed={"2": (*cells_of("2"), box(10, 12))})


def mask_of_an_older_version(root):
    put_via(root, changed={"2": cells_of("2")[:3]})


def mask_slightly_off(root):
    """One pixel column more, 10 of 510."""
    wider = Cell((np.array([[10.0, 12], [20, 12], [20, 21], [10, 21]]),))
    put_via(root, changed={"2": (wider, *cells_of("2")[1:])})


def neighbours_merged(root):
    cells = (box(10, 12), box(20, 12), *cells_of("2")[2:])
    put_truth(root, "trainval", "2", cells)
    labels(root, "2").unlink()
    put_via(root, changed={"2": cells})
    put_index(root, with_row(n_cells=4))


def picture_not_annotated(root):
    put_via(root, changed={"2": None})


def annotations_of_a_stranger(root):
    put_via(root, changed={"77": cells_of("1")})


def annotations_for_another_size(root):
    images = [annotated(stem, cells_of(stem)) for stem in ("1", "3")]
    images.append(AnnotatedImage("2.png", (200, 200), cells_of("2")))
    write_annotations(via_path(root), images, "via")


def broken_annotations(root):
    text = via_path(root).read_text()
    via_path(root).write_text(text.replace('"all_points_y"', '"all_points_z"', 1))


def twin(root):
    shutil.copy(image(root, "1"), image(root, "2"))


def twin_across_partitions(root):
    shutil.copy(image(root, "1"), image(root, "4", "test"))


def twin_turned(root):
    put_picture(image(root, "2"), np.ascontiguousarray(read_picture(image(root, "1")).pixels[::-1, ::-1]))


def twin_saved_anew_across_partitions(root):
    data = cv2.imencode(".jpg", read_picture(image(root, "1")).pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    put_picture(image(root, "4", "test"), np.ascontiguousarray(cv2.imdecode(data, 1)[:, ::-1]))


def slice_in_both_partitions(root):
    put_index(root, with_row(original_name="Mar4b_S1C1R1_LHl_20_g.TIF", animal="Mar4b"))


def animal_in_both_partitions(root):
    put_index(root, with_row(original_name="Mar4bS2C1R1_LHl_200x_g.TIF", animal="Mar4b"))


def row_without_picture(root):
    put_index(root, [*rows(), {"image_name": "99.png", "dataset": "green", "partition": "test"}])


def picture_without_row(root):
    put_index(root, [row for row in rows() if row["image_name"] != "2.png"])


def row_of_nothing(root):
    """A note below the table is no picture."""
    put_index(root, [*rows(), {"original_name": "checked in May"}, rows()[1]])


def row_twice(root):
    put_index(root, [*rows(), rows()[1]])


def row_of_another_partition(root):
    put_index(root, with_row(partition="test"))


def row_with_another_count(root):
    put_index(root, with_row(n_cells=7))


def broken_index(root):
    (root / INDEX_NAME).write_bytes(b"no workbook")


def lost_metadata(root):
    (root / path_of("metadata", "green", "trainval", "2")).unlink()


def stray_picture(root):
    """Whoever follows the layout looks for PNG files alone."""
    (image(root, "7").with_suffix(".tif")).write_bytes(b"II*")


def labels_without_picture(root):
    put_png(labels(root, "128"), np.zeros(SHAPE, np.uint16))


def metadata_without_picture(root):
    (root / path_of("metadata", "green", "test", "77")).write_text("KEY\tVALUE\n")


def metadata_of_another_picture(root):
    path = root / path_of("metadata", "green", "trainval", "2")
    path.write_text(path.read_text().replace("NIKON", "OLYMPUS"))


def metadata_that_cannot_be_read(root):
    (root / path_of("metadata", "green", "trainval", "2")).write_bytes(b"\xff\xfe\x00")


def index_of_another_size(root):
    put_index(root, with_row(width=1600, height=1200))


def name_of_another_collection(root):
    put_index(root, with_row(original_name="Mar2bS1C1R1_LHl_200x_r.TIF"))


def row_of_another_animal(root):
    put_index(root, with_row(animal="Mar31b"))


def row_of_another_side(root):
    put_index(root, with_row(side="r"))


def calibration_against_the_index(root):
    """The picture's own says half a micrometre."""
    description = "ImageJ=1.53t\nunit=um\n"
    exif = Image.Exif()
    exif.update({271: "NIKON", 272: "E4500", 270: description, 282: 2.0, 283: 2.0, 296: 1})
    picture = Picture("2.png", scenery(2), exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    write_png(image(root, "2"), picture)
    notes = root / path_of("metadata", "green", "trainval", "2")
    notes.write_text(tags_text(read_picture(image(root, "2"))))
    assert read_picture(image(root, "2")).pixel_size.um == 0.5


def print_setting_for_a_pixel_size(root):
    put_index(root, with_row(pixel_size_um=25400 / 300))


def pixel_of_a_centimetre(root):
    put_index(root, with_row(pixel_size_um=10000.0))


def pixel_size_forgotten(root):
    put_index(root, with_row(pixel_size_um=None))


def blank_picture(root):
    put_picture(image(root, "2"), np.zeros((*SHAPE, 3), np.uint8))


def blank_unlabelled_picture(root):
    put_picture(image(root, "6", "unlabelled"), np.full((*SHAPE, 3), 7, np.uint8))


def put_cells(root, cells):
    """Cells of picture 2, everywhere."""
    put_truth(root, "trainval", "2", cells)
    put_via(root, changed={"2": cells})
    put_index(root, with_row(n_cells=len(cells)))


def jagged_outline(root):
    below = [(20 + x, 84 if x % 4 < 2 else 77) for x in range(14)]
    above = [(x, 150 - y) for x, y in below[::-1]]
    put_cells(root, (*cells_of("2"), Cell((np.array(below + above, dtype=float) - (0, 6),))))


def neighbours_drawn_as_one(root):
    """Two round cells with a thin bridge between them, as one outline."""
    pixels = np.zeros(SHAPE, np.uint8)
    for centre in ((40, 70), (52, 70)):
        cv2.circle(pixels, centre, 6, 1, -1)
    [pair] = trace(pixels > 0)
    put_cells(root, (*cells_of("2"), dataclasses.replace(pair, number=None)))


def cell_in_two_places(root):
    far = Cell((*box(10, 60).rings, *box(24, 60).rings))
    put_cells(root, (*cells_of("2"), far))


def cells_that_overlap(root):
    put_cells(root, (*cells_of("2"), box(15, 16)))


def cell_not_annotated(root):
    """A small one beside cells that are large enough to hide it in the sum."""
    cells = (*cells_of("2"), box(40, 60, side=3))
    put_cells(root, cells)
    put_via(root, changed={"2": cells[:-1]})


def cell_not_in_the_mask(root):
    put_via(root, changed={"2": (*cells_of("2"), box(40, 60, side=3))})


def outline_beside_its_cell(root):
    moved = (box(12, 13), *cells_of("2")[1:])
    put_via(root, changed={"2": moved})


def two_cells_annotated_as_one(root):
    """The label picture keeps them apart."""
    cells = (box(10, 12), box(20, 12), *cells_of("2")[2:])
    put_truth(root, "trainval", "2", cells)
    joined = Cell((np.array([[10.0, 12], [29, 12], [29, 21], [10, 21]]),))
    put_via(root, changed={"2": (joined, *cells_of("2")[2:])})


def another_format_with_other_cells(root):
    """In sum the pixels are the same, and so is the mask; one format has a cell where the other has two."""
    neighbours_merged(root)
    put_via(root, changed={"2": (box(10, 12), box(20, 12), *cells_of("2")[2:])})
    joined = Cell((np.array([[10.0, 12], [29, 12], [29, 21], [10, 21]]),))
    told = {stem: cells_of(stem) for stem in SHEET["trainval"]} | {"2": (joined, *cells_of("2")[2:])}
    path = root / "green/trainval/ground_truths/CSV/cells.csv"
    write_annotations(path, [annotated(stem, cells) for stem, cells in told.items()], "via-csv")


def dot_on_a_cell(root):
    put_via(root, changed={"2": (*cells_of("2"), Cell((np.array([[14.0, 16]]),), source_shape="point"))})


def same_number_in_both_partitions(root):
    """Whoever looks the number up in the index finds one of two pictures."""
    put_picture(image(root, "2", "test"), scenery(77))
    shutil.copy(root / path_of("metadata", "green", "trainval", "2"), root / path_of("metadata", "green", "test", "2"))
    put_truth(root, "test", "2", cells_of("2"))
    images = [annotated(stem, cells_of(stem)) for stem in ("2", *SHEET["test"])]
    write_annotations(via_path(root, "test"), images, "via")


VIA = "green/trainval/ground_truths/VIA/annotations_green_trainval.json"
FAULTS = [
    (orphan_mask, "serious", "mask-without-picture", "green/trainval/ground_truths/masks/128.png"),
    (broken_picture, "serious", "unreadable", "green/trainval/images/2.png"),
    (broken_mask, "serious", "unreadable", "green/trainval/ground_truths/masks/2.png"),
    (broken_mask_without_labels, "serious", "unreadable", "green/trainval/ground_truths/masks/2.png"),
    (grey_mask, "serious", "non-binary-mask", "green/trainval/ground_truths/masks/2.png"),
    (coloured_mask, "serious", "non-binary-mask", "green/trainval/ground_truths/masks/2.png"),
    (mask_of_ones, "minor", "mask-values", "green/trainval/ground_truths/masks/2.png"),
    (hollow_cell, "minor", "hole", "green/trainval/ground_truths/masks/2.png"),
    (speck, "minor", "speck", "green/trainval/ground_truths/masks/2.png"),
    (giant, "minor", "odd-size", "green/trainval/ground_truths/masks/2.png"),
    (annotation_outside, "serious", "outside", VIA),
    (annotation_on_the_edge, "minor", "outside", VIA),
    (bow_tie, "serious", "crossing-edges", VIA),
    (slip_at_a_corner, "minor", "crossing-edges", VIA),
    (outline_of_two_points, "minor", "no-area", VIA),
    (cell_drawn_twice, "serious", "drawn-twice", VIA),
    (mask_of_an_older_version, "serious", "cell-not-annotated", VIA),
    (mask_slightly_off, "minor", "mask-disagreement", VIA),
    (neighbours_merged, "minor", "merged-cells", VIA),
    (picture_not_annotated, "serious", "picture-without-annotations", VIA),
    (annotations_of_a_stranger, "serious", "annotations-without-picture", VIA),
    (annotations_for_another_size, "serious", "size-mismatch", VIA),
    (broken_annotations, "serious", "unreadable", VIA),
    (twin, "minor", "duplicate-picture", "green/trainval/images/2.png"),
    (twin_across_partitions, "serious", "duplicate-picture", "green/test/images/4.png"),
    (twin_turned, "minor", "near-duplicate", "green/trainval/images/2.png"),
    (twin_saved_anew_across_partitions, "serious", "near-duplicate", "green/test/images/4.png"),
    (animal_in_both_partitions, "note", "animal-across-partitions", INDEX_NAME),
    (row_without_picture, "serious", "row-without-picture", INDEX_NAME),
    (picture_without_row, "serious", "picture-without-row", "green/trainval/images/2.png"),
    (row_of_nothing, "serious", "index-row-twice", INDEX_NAME),
    (row_twice, "serious", "index-row-twice", INDEX_NAME),
    (row_of_another_partition, "serious", "index-partition", INDEX_NAME),
    (row_with_another_count, "minor", "index-count", INDEX_NAME),
    (broken_index, "serious", "unreadable", INDEX_NAME),
    (lost_metadata, "minor", "metadata-missing", "green/trainval/images/2.png"),
    (stray_picture, "minor", "picture-passed-over", "green/trainval/images/7.tif"),
    (labels_without_picture, "minor", "labels-without-picture", "green/trainval/ground_truths/labels/128.png"),
    (metadata_without_picture, "minor", "metadata-without-picture", "green/test/metadata/77.txt"),
    (metadata_of_another_picture, "minor", "metadata-mismatch", "green/trainval/metadata/2.txt"),
    (metadata_that_cannot_be_read, "minor", "metadata-mismatch", "green/trainval/metadata/2.txt"),
    (index_of_another_size, "serious", "index-size", INDEX_NAME),
    (name_of_another_collection, "minor", "index-name", INDEX_NAME),
    (row_of_another_animal, "minor", "index-name", INDEX_NAME),
    (row_of_another_side, "minor", "index-name", INDEX_NAME),
    (calibration_against_the_index, "serious", "pixel-size-disagreement", INDEX_NAME),
    (print_setting_for_a_pixel_size, "serious", "pixel-size-implausible", "green/trainval/images/2.png"),
    (pixel_of_a_centimetre, "serious", "pixel-size-implausible", "green/trainval/images/2.png"),
    (pixel_size_forgotten, "note", "pixel-size-missing", "green/trainval/images/2.png"),
    (blank_picture, "serious", "blank-picture", "green/trainval/images/2.png"),
    (blank_unlabelled_picture, "minor", "blank-picture", "green/unlabelled/images/6.png"),
    (jagged_outline, "note", "rough-outline", "green/trainval/ground_truths/masks/2.png"),
    (neighbours_drawn_as_one, "note", "perhaps-merged", "green/trainval/ground_truths/masks/2.png"),
    (cell_in_two_places, "minor", "cell-in-parts", "green/trainval/ground_truths/labels/2.png"),
    (cells_that_overlap, "minor", "overlapping-cells", VIA),
    (cell_not_annotated, "serious", "cell-not-annotated", VIA),
    (cell_not_in_the_mask, "serious", "cell-not-in-mask", VIA),
    (outline_beside_its_cell, "serious", "mask-disagreement", VIA),
    (two_cells_annotated_as_one, "minor", "other-cells", VIA),
    (dot_on_a_cell, "serious", "dot-on-cell", VIA),
    (same_number_in_both_partitions, "serious", "number-twice", "green/test/images/2.png"),
]  # fmt: skip


@pytest.fixture
def archive(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "archive")


def found(findings):
    return [(one.severity, one.kind, one.file) for one in findings]


def test_the_clean_twin_has_nothing_wrong(clean):
    assert audit_archive(clean) == []


@pytest.mark.parametrize(
    ("plant", "severity", "kind", "file"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_planted_fault_is_found_and_nothing_else(archive, plant, severity, kind, file):
    plant(archive)
    put_checksums(archive)
    findings = audit_archive(archive)
    assert found(findings) == [(severity, kind, file)]
    assert findings[0].why
    assert findings[0].advice


def test_at_least_25_kinds_of_faults_are_planted():
    assert len({kind for _, _, kind, _ in FAULTS}) >= 25


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        # A fault that shows in several files is told for each of them.
        (
            another_format_with_other_cells,
            [
                ("minor", "formats-disagree", "green/trainval/ground_truths/CSV/cells.csv"),
                ("minor", "merged-cells", VIA),
            ],
        ),
        (no_mask, [("serious", "picture-without-mask", "green/trainval/images/2.png")]),
        (
            smaller_picture,
            [
                ("serious", "index-size", INDEX_NAME),
                ("serious", "size-mismatch", VIA),
                ("serious", "size-mismatch", "green/trainval/ground_truths/labels/2.png"),
                ("serious", "size-mismatch", "green/trainval/ground_truths/masks/2.png"),
            ],
        ),
        (
            labels_of_another_picture,
            [
                ("serious", "cell-not-annotated", VIA),
                ("serious", "cell-not-in-mask", VIA),
                ("serious", "labels-disagreement", "green/trainval/ground_truths/labels/2.png"),
            ],
        ),
        (
            slice_in_both_partitions,
            [
                ("serious", "slice-across-partitions", "green/test/images/4.png"),
                ("note", "animal-across-partitions", INDEX_NAME),
            ],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_with_consequences_is_found_with_them(archive, plant, expected):
    plant(archive)
    put_checksums(archive)
    assert sorted(found(audit_archive(archive))) == sorted(expected)


def test_workers_do_not_change_what_is_found(archive):
    for plant in (bow_tie, twin_turned, blank_unlabelled_picture, broken_mask, orphan_mask, animal_in_both_partitions):
        plant(archive)
    alone = audit_archive(archive)
    assert len(alone) > 6
    assert audit_archive(archive, workers=2) == alone


def test_findings_know_the_picture_that_shows_them(archive):
    annotation_outside(archive)
    put_checksums(archive)
    [finding] = audit_archive(archive)
    assert finding.pictures == ("green/trainval/images/2.png",)
    assert len(finding.points) == 1
    hollow_cell(archive)
    twin_turned(archive)
    found = {one.kind: one for one in audit_archive(archive)}
    assert found["hole"].pictures == ("green/trainval/images/2.png",)
    assert found["hole"].points == ((14.5, 16.5),)
    assert found["near-duplicate"].pictures == ("green/trainval/images/2.png", "green/trainval/images/1.png")


def test_checksums_tell_what_was_changed_lost_or_added(archive):
    with (archive / "green" / "trainval" / "metadata" / "1.txt").open("a") as file:
        file.write("Exif.Image.Artist\tme\n")
    (archive / "green" / "unlabelled" / "metadata" / "6.txt").unlink()
    (archive / "green" / "unlabelled" / "metadata").rmdir()
    (archive / "notes.txt").write_text("mine")
    (archive / ".hidden").write_text("")
    with (archive / "checksums.sha256").open("a") as file:
        file.write(f"what is this\n{'0' * 64}  ../outside\n")
    assert found(audit_archive(archive)) == [
        ("serious", "checksum-without-file", "../outside"),
        ("serious", "checksum-mismatch", "green/trainval/metadata/1.txt"),
        ("serious", "checksum-without-file", "green/unlabelled/metadata/6.txt"),
        ("minor", "checksum-line", "checksums.sha256"),
        ("note", "file-without-checksum", "notes.txt"),
    ]


def test_places_are_told(archive):
    bow_tie(archive)
    put_checksums(archive)
    [finding] = audit_archive(archive)
    assert finding.place == "2.png, x 26, y 66"


def test_many_places_are_cut_short(archive):
    put_truth(archive, "trainval", "2", tuple(box(5 + 20 * column, 60, side=1) for column in range(5)))
    findings = [one for one in audit_archive(archive) if one.kind == "speck"]
    assert findings[0].place.endswith("; and 2 more")
    assert findings[0].why.startswith("5 regions are")


def test_an_archive_as_published_without_labels_index_and_checksums_is_fine(archive):
    shutil.rmtree(archive / "green" / "trainval" / "ground_truths" / "labels")
    (archive / INDEX_NAME).unlink()
    (archive / "checksums.sha256").unlink()
    assert audit_archive(archive) == []


def test_one_collection_can_be_audited_alone(archive):
    twin(archive)
    (archive / "checksums.sha256").unlink()
    assert found(audit_archive(archive / "green")) == [("minor", "duplicate-picture", "green/trainval/images/2.png")]


def test_label_folders_of_other_tools_are_held_against_the_masks(archive):
    folder = archive / "green" / "test" / "ground_truths" / "stardist"
    write_annotations(folder, [annotated(stem, cells_of(stem)) for stem in SHEET["test"]], "labels")
    put_checksums(archive)
    assert audit_archive(archive) == []
    write_annotations(folder, [annotated(stem, cells_of(stem)[:4]) for stem in SHEET["test"]], "labels")
    put_checksums(archive)
    expected = ("serious", "cell-not-annotated", "green/test/ground_truths/stardist")
    assert found(audit_archive(archive)) == [expected, expected]


def test_no_archive_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing of that name"):
        audit_archive(tmp_path / "none")


def test_findings_are_plain_values(archive):
    lost_metadata(archive)
    put_checksums(archive)
    [finding] = audit_archive(archive)
    fields = {"severity", "kind", "file", "place", "why", "advice", "pictures", "points"}
    assert set(dataclasses.asdict(finding)) == fields
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.kind = "other"


def test_a_built_synthetic_archive_has_nothing_wrong_but_shared_animals(tmp_path):
    synthesise(tmp_path / "lab", pictures=5, seed=4, size=(200, 150))
    build(tmp_path / "lab", tmp_path / "archive", BuildSettings(test_share=0.4))
    assert {one.kind for one in audit_archive(tmp_path / "archive")} <= {"animal-across-partitions"}


# Annotations on their own


@pytest.fixture
def pictures(tmp_path):
    for stem in ("1", "2", "3"):
        put_png(tmp_path / "pictures" / f"{stem}.png", scenery(int(stem)))
    return tmp_path / "pictures"


@pytest.mark.parametrize("format_name", ["via", "via-csv", "masks", "labels"])
def test_good_annotations_have_nothing_wrong(pictures, tmp_path, format_name):
    place = tmp_path / {"via": "a.json", "via-csv": "a.csv"}.get(format_name, "truth")
    write_annotations(place, [annotated(stem, cells_of(stem)) for stem in ("1", "2", "3")], format_name)
    assert audit_annotations(place, pictures) == []
    assert audit_annotations(place) == []


def test_wrong_annotations_are_told_with_their_picture(pictures, tmp_path):
    told = [
        annotated("1", (Cell((np.array([[20.0, 60], [36, 76], [36, 60], [20, 76]]),)), box(300, 20))),
        annotated("7", cells_of("1")),
        annotated("2", (Cell((np.array([[5.0, 5]]),), source_shape="point"), box(5, 5), box(5, 5))),
    ]
    write_annotations(tmp_path / "a.csv", told, "via-csv")
    findings = audit_annotations(tmp_path / "a.csv", pictures)
    assert found(findings) == [
        ("serious", "annotations-without-picture", "a.csv"),
        ("serious", "crossing-edges", "a.csv"),
        ("serious", "dot-on-cell", "a.csv"),
        ("serious", "drawn-twice", "a.csv"),
        ("serious", "outside", "a.csv"),
        ("note", "perhaps-merged", "a.csv"),
        ("note", "picture-without-annotations", "a.csv"),
    ]
    assert findings[0].place == "7.png"
    assert "3.png" in findings[-1].why


def test_annotations_whose_picture_differs_or_is_broken(pictures, tmp_path):
    write_annotations(tmp_path / "truth", [annotated(stem, cells_of(stem)) for stem in ("1", "2", "3")], "labels")
    put_png(pictures / "1.png", scenery(1, (64, 64)))
    (pictures / "2.png").write_bytes(b"broken")
    assert found(audit_annotations(tmp_path / "truth", pictures)) == [
        ("serious", "size-mismatch", "1.png"),
        ("serious", "unreadable", "2.png"),
    ]


def test_masks_are_judged_by_their_values_and_holes(tmp_path):
    flat = annotated("1", cells_of("1")).mask.astype(np.uint8)
    hollow = flat * np.uint8(255)
    hollow[45:48, 15:18] = 0
    put_png(tmp_path / "1.png", flat)
    put_png(tmp_path / "2.png", hollow)
    put_png(tmp_path / "3.png", np.stack([flat * np.uint8(255)] * 3, axis=2))
    findings = audit_annotations(tmp_path)
    assert found(findings) == [("minor", "mask-values", "1.png"), ("minor", "hole", "2.png")]
    assert findings[1].place == "x 16, y 46"


def test_annotations_that_end_in_nonsense_are_told(tmp_path):
    write_annotations(tmp_path / "a.csv", [annotated("1", cells_of("1")), annotated("2", cells_of("2"))], "via-csv")
    with (tmp_path / "a.csv").open("a") as file:
        file.write("3.png,-1,{},1\n")
    assert [one.kind for one in audit_annotations(tmp_path / "a.csv")] == ["unreadable"]
    with pytest.raises(InputError, match="nothing of that name"):
        audit_annotations(tmp_path / "b.csv")


def test_pictures_that_are_annotated_twice_are_told(pictures, tmp_path):
    shutil.copy(pictures / "1.png", pictures / "2.png")
    write_annotations(tmp_path / "a.json", [annotated(stem, cells_of(stem)) for stem in ("1", "2", "3")], "via")
    [finding] = audit_annotations(tmp_path / "a.json", pictures)
    assert (finding.kind, finding.file, finding.pictures) == ("duplicate-picture", "2.png", ("2.png", "1.png"))


def test_label_pictures_are_judged_by_their_parts(pictures, tmp_path):
    far = Cell((*box(10, 60).rings, *box(40, 60).rings))
    write_annotations(
        tmp_path / "truth", [annotated(stem, (far, *cells_of(stem))) for stem in ("1", "2", "3")], "labels"
    )
    findings = audit_annotations(tmp_path / "truth", pictures)
    assert found(findings) == [("minor", "cell-in-parts", f"{stem}.png") for stem in ("1", "2", "3")]
    assert findings[0].pictures == ("1.png",)


def test_crossings_in_outlines_far_beyond_any_picture_are_serious(tmp_path):
    wide = Cell((np.array([[0.0, 0], [9e5, 9e5], [9e5, 0], [0, 9e5]]),))
    write_annotations(tmp_path / "a.json", [AnnotatedImage("1.png", None, (wide,))], "via")
    [finding] = audit_annotations(tmp_path / "a.json")
    assert (finding.severity, finding.kind) == ("serious", "crossing-edges")


# Sizes and likeness


def measured(areas, um, roughness=1.0, parted=False, elongation=1.0):
    areas = np.array(areas)
    ferets = np.sqrt(areas * 4 / np.pi) * elongation
    rough, pairs = np.full(len(areas), 1.0), np.zeros(len(areas), bool)
    rough[-1:], pairs[-1:] = roughness, parted
    return Measured("mask.png", areas, ferets, rough, pairs, np.zeros((len(areas), 2)), um, ("picture.png",))


def test_sizes_are_held_against_table_1_where_pixels_are_calibrated():
    assert not list(size_findings("green", [measured([72] * 30 + [20, 220], 1.0)]))
    [finding] = size_findings("green", [measured([72] * 30 + [400], 1.0)])
    assert (finding.severity, finding.kind) == ("minor", "odd-size")
    assert "12.41 to 227.04 µm²" in finding.why
    # The same areas in pixels of half a micrometre are small for red cells, and usual for yellow ones.
    assert [one.kind for one in size_findings("red", [measured([40] * 30, 0.5)])] == ["odd-size"]
    assert not list(size_findings("yellow", [measured([400] * 30, 0.5)]))


def test_long_thin_cells_are_odd_however_small_their_area():
    [finding] = size_findings("green", [measured([72] * 30, 1.0), measured([72], 1.0, elongation=5)])
    assert (finding.severity, finding.kind) == ("minor", "odd-size")
    assert "5.48 to 21.21 µm of Feret diameter" in finding.why
    [finding] = size_findings(None, [measured([72] * 30, None), measured([72], None, elongation=5)])
    assert (finding.severity, finding.kind) == ("note", "odd-size")


def test_outlines_are_rough_by_the_measure_of_their_collection():
    smooth = measured([400] * 30, None)
    [finding] = size_findings(None, [smooth, measured([400], None, roughness=1.5)])
    assert (finding.severity, finding.kind, finding.pictures) == ("note", "rough-outline", ("picture.png",))
    assert not list(size_findings(None, [smooth, measured([400], None, roughness=1.2)]))
    small = measured([70] * 30, None), measured([45], None, roughness=1.5)
    assert not list(size_findings(None, small))
    # Where processes are usual, they are no news.
    assert not list(size_findings(None, [measured([400], None, roughness=rough) for rough in np.linspace(1, 2, 60)]))


def test_large_cells_that_look_like_two_are_told_and_small_ones_are_not():
    usual = measured([400] * 30, None)
    [finding] = size_findings(None, [usual, measured([700], None, parted=True)])
    assert (finding.severity, finding.kind) == ("note", "perhaps-merged")
    assert not list(size_findings(None, [usual, measured([400], None, parted=True)]))


def test_sizes_are_held_against_each_other_where_nothing_is_known():
    usual = np.random.default_rng(0).lognormal(5, 0.2, 200).astype(int).tolist()
    assert not list(size_findings(None, [measured(usual, None)]))
    [finding] = size_findings("mine", [measured([*usual, 5000], None)])
    assert (finding.severity, finding.kind) == ("note", "odd-size")
    assert not list(size_findings(None, [measured([100, 5000], None)]))
    assert not list(size_findings(None, []))


def portrait(name, pixels, collection="green", partition="trainval"):
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Portrait(name, collection, partition, digest, Portrait.features_of(pixels))


@pytest.mark.parametrize("turn", range(8))
def test_a_picture_is_known_again_however_it_lies(turn):
    one = scenery(1)
    other = np.rot90(one, turn % 4)
    other = np.ascontiguousarray(other if turn < 4 else other[:, ::-1])
    kinds = [finding.kind for finding in duplicate_findings([portrait("a", one), portrait("b", other)])]
    assert kinds == (["duplicate-picture"] if turn == 0 else ["near-duplicate"])


def test_a_brighter_smaller_noisier_copy_is_known_again_and_another_picture_is_not():
    one = scenery(1)
    noise = np.random.default_rng(0).normal(0, 3, (48, 64, 3))
    copy = np.clip(cv2.resize(one, (64, 48), interpolation=cv2.INTER_AREA) * 1.3 + noise, 0, 255).astype(np.uint8)
    assert [found.file for found in duplicate_findings([portrait("a", one), portrait("b", copy)])] == ["b"]
    strangers = [portrait(str(seed), scenery(seed)) for seed in range(300)]
    assert not list(duplicate_findings(strangers))


def test_memory_grows_with_the_number_of_pictures_and_not_with_its_square():
    peaks = []
    for number in (500, 2000):
        random = np.random.default_rng(0).normal(0, 1, (number, 1024)).astype(np.float32)
        random /= np.linalg.norm(random, axis=1, keepdims=True)
        portraits = [Portrait(f"{one}", "green", "test", f"{one}", random[one]) for one in range(number)]
        tracemalloc.start()
        assert not list(duplicate_findings(portraits))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]
    assert peaks[1] < 100e6


def test_pictures_without_structure_and_of_other_collections_are_not_compared():
    black = np.zeros(SHAPE, np.uint8)
    dark = np.ones(SHAPE, np.uint8)
    assert Portrait.features_of(black) is None
    assert not list(duplicate_findings([portrait("a", black), portrait("b", dark)]))
    turned = np.ascontiguousarray(scenery(1)[::-1])
    assert not list(duplicate_findings([portrait("a", scenery(1)), portrait("b", turned, collection="red")]))


def test_hot_pixels_do_not_make_pictures_alike():
    rng = np.random.default_rng(0)
    pictures = []
    for name in "ab":
        pixels = rng.integers(3, 6, (192, 256), dtype=np.uint8)
        pixels[50, 60] = pixels[150, 200] = 255
        pictures.append(portrait(name, pixels))
    assert not list(duplicate_findings(pictures))


# Real pictures


def test_real_masks_have_no_serious_findings_that_are_not_there(data):
    for collection in ("yellow", "red"):
        folder = data / "fnc" / collection
        assert [one for one in audit_annotations(folder / "masks", folder / "images") if one.severity != "note"] == []
    old = audit_annotations(data / "fnc" / "yellow_masks_v0_uint16", data / "fnc" / "yellow" / "images")
    assert [one.kind for one in old if one.severity == "serious"] == ["annotations-without-picture"]
    assert {one.kind for one in old if one.severity == "minor"} == {"mask-values"}


def test_real_outlines_read_back_from_via_are_whole(data, tmp_path):
    folder = data / "fnc" / "yellow"
    images = read_annotations(folder / "masks", "masks", folder / "images")
    write_annotations(tmp_path / "yellow.json", images, "via")
    [finding] = audit_annotations(tmp_path / "yellow.json", folder / "images")
    # Two neurons side by side in one outline, as the picture shows.
    assert (finding.severity, finding.kind, finding.place) == ("note", "perhaps-merged", "x 224, y 411")


@pytest.mark.slow
def test_what_is_found_in_real_nuclei_is_there(data):
    """Nothing serious; holes, a nucleus in pieces, and two focal planes of one embryo are there to be seen."""
    findings = audit_annotations(data / "dsb2018" / "labels", data / "dsb2018" / "images")
    kinds = Counter((one.severity, one.kind) for one in findings)
    assert not [kind for kind in kinds if kind[0] == "serious"]
    assert kinds["minor", "hole"] == 8
    assert kinds["minor", "cell-in-parts"] == 1
    [planes] = [one for one in findings if one.kind == "near-duplicate"]
    assert planes.pictures == ("cb4df20a83b2.png", "20b20ab04937.png")
    assert {kind for kind in kinds if kind[0] == "note"} == {("note", "perhaps-merged"), ("note", "rough-outline")}
    # Pictures with two nuclei in one outline, as a look at them shows; most of what is told are such.
    merged = {one.file for one in findings if one.kind == "perhaps-merged"}
    assert {"02903040e19d.png", "0d2bf916cc8d.png"} <= merged
