"""The made-up collections: sizes as printed, pictures as a camera gives them, a lab folder that builds."""

import csv
import hashlib
import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import read_annotations
from fncells.images import read_picture
from fncells.names import parse_name, slice_key
from fncells.outlines import crossings
from fncells.published import COLLECTIONS, LEVELS, TABLE_1
from fncells.synthetic import Challenges, Scene, draw_scene, picture, synthesise
from fncells.synthetic.annotators import _traced, clicked_outline, draw_annotators, within
from fncells.synthetic.lab import plan
from fncells.synthetic.shapes import draw_form
from fncells.synthetic.sizes import cell_count, draw_sizes, level_of
from fncells.synthetic.tissue import Anatomy, soften, tissue_edge, track_points

SMALL = (160, 120)
INNER = slice(1, -1)  # the percentiles between the extremes


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    synthesise(folder, pictures=7, seed=3, size=SMALL)
    return folder


# Numbers


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_areas_and_extensions_follow_the_printed_percentiles(collection):
    rng = np.random.default_rng(0)
    ranks = (np.arange(150) + 0.5) / 150
    areas, ferets = np.array([size for rank in ranks for size in draw_sizes(collection, 17, rng, rank)]).T
    table = TABLE_1[collection]
    for values, printed in ((areas, table.area_um2), (ferets, table.feret_um)):
        assert np.quantile(values, LEVELS[INNER]) == pytest.approx(printed.quantiles[INNER], rel=0.04)
        assert values.mean() == pytest.approx(printed.mean, rel=0.04)
        assert values.std() == pytest.approx(printed.std, rel=0.10)
        assert values.max() <= printed.quantiles[-1] * 1.3
    diameters = np.sqrt(4 * areas / np.pi)
    assert np.quantile(diameters, LEVELS[INNER]) == pytest.approx(
        table.equivalent_diameter_um.quantiles[INNER], rel=0.04
    )
    assert (ferets > diameters).all()


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_counts_follow_table_1_by_picture_and_by_cell(collection):
    table = TABLE_1[collection]
    counts = np.array([cell_count(collection, (rank + 0.5) / 2000) for rank in range(2000)])
    assert counts.mean() == pytest.approx(table.cells / table.pictures, rel=0.02)
    assert np.mean(counts == 0) == pytest.approx(table.empty / table.pictures, abs=0.002)
    by_cell = np.repeat(counts, np.maximum(counts, 1))
    printed = np.array(table.cell_count.quantiles[INNER])
    assert (np.abs(np.quantile(by_cell, LEVELS[INNER]) - printed) <= np.maximum(1, 0.05 * printed)).all()
    assert by_cell.mean() == pytest.approx(table.cell_count.mean, rel=0.04)
    assert cell_count(collection, 0.0) == 0
    assert cell_count(collection, 1.0) == table.cell_count.quantiles[-1]


def test_no_cells_have_no_sizes():
    assert draw_sizes("green", 0, np.random.default_rng(0), 0.5) == []


# Forms


@given(
    collection=st.sampled_from(COLLECTIONS),
    seed=st.integers(0, 2**32),
    diameter=st.floats(3, 80),
    elongation=st.floats(1.08, 2.6),
)
def test_forms_have_the_area_and_extension_asked_for_and_clean_outlines(collection, seed, diameter, elongation):
    rng = np.random.default_rng(seed)
    area, feret = np.pi * diameter**2 / 4, diameter * elongation
    form = draw_form(collection, area, feret, rng)
    assert form.area == pytest.approx(area, rel=0.01)
    assert form.feret == pytest.approx(feret, rel=0.01)
    ring = clicked_outline(form, area, rng)
    assert not len(crossings(ring.astype(float)))
    filled = AnnotatedImage("", (300, 300), (Cell((ring + 150.0,)),)).areas[0]
    assert filled == pytest.approx(area, rel=0.12, abs=6)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_levels_of_a_form_agree_with_its_outline(collection):
    form = draw_form(collection, 900.0, 50.0, np.random.default_rng(4))
    inside = np.count_nonzero(form.levels(60) <= 1)
    assert inside == pytest.approx(900, rel=0.02)
    assert form.levels(60)[60, 60] == 0


@given(collection=st.sampled_from(COLLECTIONS), seed=st.integers(0, 2**32), area=st.floats(7.5, 20))
def test_the_smallest_cells_still_have_an_outline(collection, seed, area):
    rng = np.random.default_rng(seed)
    form = draw_form(collection, area, 1.2 * np.sqrt(4 * area / np.pi), rng)
    ring = clicked_outline(form, area, rng)
    assert len(np.unique(ring, axis=0)) >= 3
    assert not len(crossings(ring.astype(float)))


def test_an_outline_that_rounding_has_tangled_is_traced_from_its_pixels():
    ring = _traced(np.array([[0, 0], [3, 3], [3, 0], [0, 3]]))
    assert not len(crossings(ring.astype(float)))
    assert np.ptp(ring, axis=0).tolist() == [3, 3]


def test_a_form_as_round_as_cannot_be_is_a_disc_of_the_right_area():
    form = draw_form("yellow", 900.0, 10.0, np.random.default_rng(0))
    assert form.area == pytest.approx(900, rel=0.01)
    assert form.feret == pytest.approx(np.sqrt(4 * 900 / np.pi), rel=0.05)


# Crossing edges


def test_a_bow_tie_crosses_itself_once_and_a_square_never():
    assert crossings(np.array([[0.0, 0], [4, 4], [4, 0], [0, 4]])).tolist() == [[2, 2]]
    assert not len(crossings(np.array([[0.0, 0], [4, 0], [4, 4], [0, 4], [0, 0]])))


def test_outlines_that_touch_or_run_back_over_themselves_do_not_cross():
    assert not len(crossings(np.array([[0.0, 0], [4, 0], [2, 0], [2, 3]])))
    assert not len(crossings(np.array([[0.0, 0], [2, 2], [4, 0], [4, 4], [2, 2], [0, 4]])))


@pytest.mark.parametrize("points", [0, 1, 2, 3])
def test_rings_too_short_to_cross_do_not(points):
    assert crossings(np.arange(2.0 * points).reshape(points, 2)).shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=14))
def test_crossings_are_those_of_every_pair_of_edges_in_exact_numbers(corners):
    def side(a, b, c):
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    edges = [(corners[i], corners[(i + 1) % len(corners)]) for i in range(len(corners))]
    expected = sum(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for index, (a, b) in enumerate(edges)
        for c, d in edges[index + 1 :]
    )
    assert len(crossings(np.array(corners, dtype=float))) == expected


def test_long_rings_are_searched_in_blocks(monkeypatch):
    ring = np.random.default_rng(2).uniform(0, 100, (60, 2))
    at_once = crossings(ring)
    monkeypatch.setattr("fncells.outlines.intersections._MOST_PAIRS", 200)
    assert len(at_once) > 20
    assert np.array_equal(crossings(ring), at_once)


# Pictures


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_picture_is_what_its_seed_makes_it(collection):
    first = picture(collection, np.random.default_rng(5), SMALL)
    again = picture(collection, np.random.default_rng(5), SMALL)
    other = picture(collection, np.random.default_rng(6), SMALL)
    assert first[0].dtype == np.uint8
    assert first[0].shape == (120, 160, 3)
    assert first[1].dtype == np.int32
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(("collection", "channel"), [("green", 1), ("red", 0), ("yellow", 0)])
def test_cells_shine_in_the_colour_of_their_collection(collection, channel):
    scene = draw_scene(collection, np.random.default_rng(1), (640, 480), level=0.8, e4500=False)
    means = scene.pixels.reshape(-1, 3).mean(axis=0)
    cells, rest = scene.truth > 0, scene.truth == 0
    signal = scene.pixels[..., channel].astype(float)
    assert np.argmax(means) == channel
    assert np.median(signal[cells]) > np.median(signal[rest]) + 8
    if collection == "yellow":
        assert np.median(scene.pixels[cells][:, 1]) == pytest.approx(0.75 * np.median(signal[cells]), rel=0.2)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_truth_lies_within_annotations_that_are_slightly_generous(collection):
    scene = draw_scene(collection, np.random.default_rng(2), (800, 600), level=0.8, e4500=False)
    marked = AnnotatedImage("", scene.truth.shape, scene.annotations)
    assert len(scene.annotations) == scene.truth.max() > 5
    assert np.array_equal(marked.labels[scene.truth > 0], scene.truth[scene.truth > 0])
    bodies = np.bincount(scene.truth.ravel())[1:]
    assert 1.02 < np.median(marked.areas / bodies) < 1.35
    firsts = [np.flatnonzero(scene.truth == number)[0] for number in range(1, scene.truth.max() + 1)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_annotated_cells_never_merge(collection):
    scene = draw_scene(collection, np.random.default_rng(3), (800, 600), level=0.97)
    mask = AnnotatedImage("", scene.truth.shape, scene.annotations).mask
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert count - 1 == len(scene.annotations)


def test_a_small_picture_is_a_shrunken_one_or_at_full_scale_a_part():
    small = draw_scene("green", np.random.default_rng(0), (800, 600), level=0.9)
    part = draw_scene("green", np.random.default_rng(0), (800, 600), level=0.9, scale=1.0)
    assert small.pixel_size_um == pytest.approx(2 * part.pixel_size_um)
    assert len(small.annotations) == pytest.approx(4 * len(part.annotations), abs=4)
    assert np.median(np.bincount(part.truth.ravel())[1:]) > 2.5 * np.median(np.bincount(small.truth.ravel())[1:])


def test_only_red_pictures_come_from_the_old_camera():
    rng = np.random.default_rng(0)
    sizes = {round(draw_scene("red", rng, (64, 64)).pixel_size_um, 4) for _ in range(12)}
    assert sizes == {0.27 / 0.25, 0.314 / 0.25}
    assert draw_scene("green", rng, (64, 64), e4500=True).pixel_size_um == 0.314 / 0.25


def test_a_ventricle_is_dark_and_holds_no_cells():
    anatomy = Anatomy(ventricle=(0.0, 0.4, 0.45, 0.45, 0.0), nests=np.array([[0.2, 0.4, 0.2]]), grain=7)
    scene = draw_scene("green", np.random.default_rng(1), (640, 480), anatomy=anatomy, level=0.9)
    inside, _ = tissue_edge((480, 640), anatomy, blur=5.0)
    hollow = inside < 0.02
    assert hollow.mean() > 0.1
    assert scene.pixels[..., 1][hollow].mean() < 0.3 * scene.pixels[..., 1][inside > 0.98].mean()
    middles = [cell.rings[0].mean(axis=0).astype(int) for cell in scene.annotations]
    assert middles
    assert all(inside[y, x] > 0.5 for x, y in middles)


def test_a_picture_too_small_for_its_cells_has_those_that_fit():
    numbers = [picture("red", np.random.default_rng(seed), (80, 80), scale=1.0)[1].max() for seed in range(60)]
    assert 0 in numbers
    assert max(numbers) >= 1


def test_where_there_is_no_tissue_there_are_no_cells():
    anatomy = Anatomy(ventricle=(0.5, 0.4, 3.0, 3.0, 0.0), nests=np.array([[0.2, 0.4, 0.2]]), grain=7)
    scene = draw_scene("yellow", np.random.default_rng(1), (320, 240), anatomy=anatomy, level=0.9)
    assert not scene.annotations
    assert not scene.truth.any()


def test_blurring_keeps_the_light():
    spot = np.zeros((90, 120), dtype=np.float32)
    spot[40:50, 50:60] = 100
    for sigma in (0.1, 1.0, 4.0, 9.0):
        assert soften(spot, sigma).sum() == pytest.approx(spot.sum(), rel=0.03)
    assert soften(spot, 9.0).max() < soften(spot, 4.0).max() < spot.max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blue", SMALL, None), "expected one of green, red, yellow"),
        (("green", (16, 400), None), "found 16x400"),
        (("green", (60_000, 60_000), None), "pixels at most"),
        (("green", SMALL, 0.0), "scale: expected a number"),
    ],
)
def test_pictures_that_cannot_be_are_refused(arguments, message):
    collection, size, scale = arguments
    with pytest.raises(InputError, match=message):
        picture(collection, np.random.default_rng(0), size, scale)


# The lab folder


def test_the_lab_folder_is_complete_and_reads_back(lab):
    table = pd.read_excel(lab / "metadata.xlsx", sheet_name="metadata")
    assert len(table) == 21
    for collection in COLLECTIONS:
        rows = table[table["dataset"] == collection]
        assert sorted(rows["original_name"]) == sorted(path.name for path in (lab / "raw" / collection).iterdir())
        annotated = {image.name: image for image in read_annotations(lab / "annotations" / f"{collection}.csv")}
        labelled = rows[rows["partition"].isna()]
        assert set(annotated) == set(labelled["original_name"])
        assert set(rows["partition"].dropna()) == {"unlabelled"}
        for row in rows.itertuples():
            shown = read_picture(lab / "raw" / collection / row.original_name)
            truth = cv2.imread(str(lab / "truth" / collection / f"{Path(row.original_name).stem}.png"), -1)
            assert truth.dtype == np.uint16
            assert truth.shape == shown.pixels.shape[:2]
            if row.original_name in annotated:
                assert len(annotated[row.original_name].cells) == truth.max()
            if row.original_name.endswith(".JPG"):
                assert shown.pixel_size is None
                assert shown.pixels.shape == (170, 227, 3)
            else:
                assert shown.pixel_size.um == pytest.approx(row.pixel_size_um, rel=1e-4)
                assert shown.pixel_size.source == "ImageJ unit"


def test_a_labelled_empty_picture_has_one_empty_row_and_an_unlabelled_one_none(tmp_path):
    synthesise(tmp_path, pictures=12, seed=0, collections=("yellow",), size=(64, 48))
    with (tmp_path / "annotations" / "yellow.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    slides = plan("yellow", 12, 0)
    assert {row["filename"] for row in rows} == {slide.name for slide in slides if slide.labelled}
    empty = [row for row in rows if row["region_shape_attributes"] == "{}"]
    assert empty
    for row in empty:
        assert [row["region_count"], row["region_id"], row["region_attributes"]] == ["0", "0", "{}"]
        assert [other["filename"] for other in rows].count(row["filename"]) == 1


def test_the_old_camera_tells_a_resolution_that_means_nothing(lab):
    path = next((lab / "raw" / "red").glob("*.JPG"))
    tags = read_picture(path).tags
    assert tags["Exif.Image.Make"] == "NIKON"
    assert tags["Exif.Image.Model"] == "E4500"
    assert tags["Exif.Image.DateTime"] == "0000:00:00 00:00:00"
    assert float(tags["Exif.Image.XResolution"].split("/")[0]) >= 300
    assert parse_name(path.name).species == "rat"


def test_pairs_share_slice_and_anatomy_and_others_do_not(lab):
    names = {collection: [slide.name for slide in plan(collection, 7, 3)] for collection in COLLECTIONS}
    keys = {collection: {slice_key(name): name for name in names[collection]} for collection in COLLECTIONS}
    assert all(len(keys[collection]) == 7 for collection in COLLECTIONS)
    shared = set(keys["green"]) & set(keys["yellow"])
    assert len(shared) == 2
    assert not set(keys["red"]) & (set(keys["green"]) | set(keys["yellow"]))
    table = pd.read_excel(lab / "metadata.xlsx").set_index("original_name")
    for key in shared:
        green, yellow = keys["green"][key], keys["yellow"][key]
        assert green[:-5] == yellow[:-5]
        assert table.loc[green, "double_marked"]
        assert table.loc[yellow, "double_marked"]
    assert table["double_marked"].sum() == 4


def test_a_pair_is_not_called_double_marked_when_its_other_half_is_not_there(tmp_path):
    synthesise(tmp_path, pictures=3, seed=0, collections=("green",), size=(64, 48))
    assert not pd.read_excel(tmp_path / "metadata.xlsx")["double_marked"].any()


def test_most_names_follow_the_rule_and_some_stray_as_real_ones_do():
    names = [slide.name for slide in plan("yellow", 300, 1)]
    assert len({slice_key(name) for name in names}) == 300
    assert all(parse_name(name).animal and parse_name(name).side for name in names)
    odd = [name for name in names if not name.endswith("_200x_y.TIF")]
    assert any(name.endswith("_20_o.TIF") for name in odd)
    assert any(name.endswith("_200x.TIF") for name in odd)
    assert 0.01 < len(odd) / 300 < 0.12


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path):
    for folder, workers in (("one", 1), ("two", 2)):
        synthesise(tmp_path / folder, pictures=2, seed=9, collections=("green", "red"), size=(64, 48), workers=workers)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 4 + 4 + 2 + 4 + 2


def test_more_pictures_and_fewer_collections_leave_the_others_as_they_are(tmp_path, lab):
    synthesise(tmp_path, pictures=3, seed=3, collections=("yellow",), size=SMALL)
    fewer, more = digests(tmp_path), digests(lab)
    kept = [name for name in fewer if name.startswith(("raw/", "truth/"))]
    assert len(kept) == 6
    assert all(fewer[name] == more[name] for name in kept)


def test_a_second_run_may_enlarge_the_folder_but_strange_pictures_are_refused(tmp_path):
    settings = {"seed": 1, "collections": ("green",), "size": (64, 48)}
    synthesise(tmp_path, pictures=1, **settings)
    synthesise(tmp_path, pictures=2, **settings)
    assert len(list((tmp_path / "raw" / "green").iterdir())) == 2
    with pytest.raises(InputError, match="other raw pictures"):
        synthesise(tmp_path, pictures=1, **settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pictures": 0}, "pictures: expected a number from 1"),
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"workers": 0}, "workers: expected 1 or more"),
        ({"collections": ("green", "blue")}, "found blue"),
        ({"collections": ()}, "found none"),
        ({"collections": ("green", "green")}, "each once"),
        ({"size": (20, 64)}, "found 20x64"),
        ({"size": (20_000, 20_000)}, "no more than"),
    ],
)
def test_arguments_that_cannot_be_are_refused_and_nothing_is_written(tmp_path, wrong, message):
    settings = {"pictures": 1, "seed": 0, "collections": ("green",), "size": (64, 48), "workers": 1}
    with pytest.raises(InputError, match=message):
        synthesise(tmp_path / "lab", **(settings | wrong))
    assert not (tmp_path / "lab").exists()


def test_the_old_cameras_files_hold_a_maker_note_and_a_small_picture(lab):
    exiftool = shutil.which("exiftool")
    path = next((lab / "raw" / "red").glob("*.JPG"))
    with Image.open(path) as shown:
        exif = shown.getexif()
        note = exif.get_ifd(ExifTags.IFD.Exif)[37500]
        thumbnail = exif.get_ifd(ExifTags.IFD.IFD1)
        assert note.startswith(b"Nikon\0\x02\x10\0\0")
        start, length = thumbnail[513], thumbnail[514]
        small = Image.open(io.BytesIO(shown.info["exif"][6:][start : start + length]))
        assert small.size == (160, 120)
    if exiftool is not None:
        told = subprocess.run([exiftool, "-s", path], capture_output=True, text=True, check=True).stdout
        assert all(f"{name} " in told for name in ("FocusMode", "WhiteBalance", "ThumbnailImage", "ThumbnailOffset"))


def test_the_full_truth_holds_the_marked_cells_and_those_left_out(lab):
    hidden = 0
    for path in sorted((lab / "truth").rglob("*.png")):
        marked = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        everything = cv2.imread(str(lab / "truth_all" / path.relative_to(lab / "truth")), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(everything[marked > 0], marked[marked > 0])
        assert (everything[(everything > 0) & (marked == 0)] > marked.max()).all()
        assert set(np.unique(everything)) == set(range(everything.max() + 1))
        hidden += int(everything.max()) - int(marked.max())
    assert hidden > 20


def test_annotation_files_have_the_oddities_of_real_ones_and_read_as_if_they_had_not(tmp_path):
    synthesise(tmp_path, pictures=10, seed=2, collections=("red",), size=(320, 240))
    path = tmp_path / "annotations" / "red.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_picture: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_picture.setdefault(row["filename"], []).append(row)
    shapes = [json.loads(row["region_shape_attributes"]) for row in rows if row["region_shape_attributes"] != "{}"]
    closed = [shape for shape in shapes if shape["all_points_x"][0] == shape["all_points_x"][-1]]
    assert 0 < len(closed) < len(shapes)
    assert "-1" in {row["file_size"] for row in rows}
    assert any("½" in row["region_attributes"] for row in rows)
    assert any(int(some[0]["region_count"]) > len(some) for some in by_picture.values())
    for image in read_annotations(path):
        truth = cv2.imread(str(tmp_path / "truth" / "red" / f"{Path(image.name).stem}.png"), cv2.IMREAD_UNCHANGED)
        drawn = replace(image, shape=truth.shape)
        assert len(image.cells) == truth.max()
        assert drawn.mask[truth > 0].all()


def test_every_annotator_has_own_habits_the_same_in_every_picture(tmp_path):
    settings = {"pictures": 6, "seed": 4, "collections": ("yellow",), "size": (640, 480)}
    synthesise(tmp_path / "three", annotators=3, **settings)
    synthesise(tmp_path / "alone", **settings)
    careful = [
        {image.name: len(image.cells) for image in read_annotations(folder / "annotations" / "yellow.csv")}
        for folder in (tmp_path / "three", tmp_path / "alone")
    ]
    assert careful[0] == careful[1]
    assert not (tmp_path / "alone" / "annotators").exists()
    others = [
        sum(len(image.cells) for image in read_annotations(tmp_path / "three" / "annotators" / name / "yellow.csv"))
        for name in ("2", "3")
    ]
    assert len({sum(careful[0].values()), *others}) == 3


def people_of(subjectivity: float) -> list[tuple[float, float, float]]:
    people = draw_annotators(40, subjectivity, np.random.default_rng(0))
    return [(person.least_visible, person.generosity, person.doubt) for person in people]


def test_without_subjectivity_all_annotators_mark_what_the_careful_one_does():
    assert set(people_of(0)) == {(1.0, 1.0, 0.0)}
    assert np.std(np.log(people_of(2)), axis=0)[0] == pytest.approx(2 * np.std(np.log(people_of(1)), axis=0)[0])
    people = draw_annotators(1, 0, np.random.default_rng(0))
    scene = draw_scene("green", np.random.default_rng(3), (800, 600), level=0.9, people=people)
    one, two = (AnnotatedImage("", scene.truth.shape, cells) for cells in (scene.annotations, scene.opinions[0]))
    assert len(one.cells) == len(two.cells)
    assert np.count_nonzero(one.mask & two.mask) > 0.8 * np.count_nonzero(one.mask | two.mask)


def scenes(collection: str, **dials: float) -> list[Scene]:
    return [
        draw_scene(
            collection,
            np.random.default_rng(seed),
            (640, 480),
            level=0.85,
            stature=0.5,
            e4500=False,
            challenges=Challenges(**dials),
        )
        for seed in range(6)
    ]


def close_pairs(scene: Scene) -> int:
    """Count the cells that have another one within two pixels."""
    grown = cv2.dilate(scene.truth.astype(np.float32), np.ones((9, 9), np.uint8))
    lowest = np.where(scene.truth > 0, scene.truth, 10_000).astype(np.float32)
    lowest = cv2.erode(lowest, np.ones((9, 9), np.uint8))
    return len(np.unique(scene.truth[(scene.truth > 0) & ((grown != scene.truth) | (lowest != scene.truth))]))


def test_crowding_brings_cells_together():
    apart, near = (sum(map(close_pairs, scenes("red", crowding=dial))) for dial in (0, 5))
    assert near > 2 * apart


def test_ambiguity_adds_cells_that_are_left_out():
    def left_out(dial: float) -> int:
        return sum(int(scene.everything.max() - scene.truth.max()) for scene in scenes("yellow", ambiguity=dial))

    assert left_out(0) == 0
    assert left_out(2) > 1.5 * left_out(1) > 0


def test_artefacts_glow_where_there_is_no_cell():
    def bright(scene: Scene) -> int:
        far = cv2.dilate((scene.everything > 0).astype(np.uint8), np.ones((61, 61), np.uint8)) == 0
        return int(np.count_nonzero(far & (scene.pixels[..., 0] > 30)))

    few, many = (sum(map(bright, scenes("yellow", artefacts=dial))) for dial in (0, 5))
    assert many > 2 * few + 300


@pytest.mark.parametrize(("dial", "collection"), [("contrast", "green"), ("hue", "yellow")])
def test_pictures_differ_as_much_as_the_dial_says(dial, collection):
    def spread(value: float) -> float:
        shown = [scene.pixels.reshape(-1, 3).astype(float) for scene in scenes(collection, **{dial: value})]
        if dial == "hue":
            bright = [pixels[pixels[:, 0] > 60] for pixels in shown]
            return float(np.std([np.log(pixels[:, 1].mean() / pixels[:, 0].mean()) for pixels in bright]))
        return float(np.std([np.log(np.median(pixels[:, 1])) for pixels in shown]))

    assert spread(0) < 0.5 * spread(1) < 0.8 * spread(3)


@pytest.mark.parametrize(("dial", "value"), [("crowding", -1), ("hue", 5.1), ("ambiguity", float("nan"))])
def test_dials_have_their_range(dial, value):
    with pytest.raises(InputError, match=f"{dial}: expected a number from 0 to 5"):
        Challenges(**{dial: value})


def test_cells_at_the_edge_are_cut_and_marked_within_the_picture():
    cut = 0
    for seed in range(8):
        scene = draw_scene("red", np.random.default_rng(seed), (320, 240), 0.6, level=0.97, e4500=False)
        for cell in scene.annotations:
            ring = cell.rings[0]
            assert ring.min() >= 0
            assert (ring.max(axis=0) < (320, 240)).all()
            cut += bool((ring == 0).any() or (ring == (319, 239)).any())
    assert cut >= 3


def test_what_the_edge_leaves_too_little_of_is_not_marked():
    square = np.array([[-20, 10], [4, 10], [4, 30], [-20, 30]])
    assert within(square, (60, 60)) is None
    kept = within(square + (15, 0), (60, 60))
    assert kept is not None
    assert kept.min(axis=0).tolist() == [0, 10]
    assert kept.max(axis=0).tolist() == [19, 30]
    assert within(square + (30, 0), (60, 60)).tolist() == (square + (30, 0)).tolist()


def test_a_midline_track_gathers_cells_and_fibres():
    anatomy = Anatomy.draw(np.random.default_rng(1), 0.75).with_track(np.random.default_rng(2), 0.75)
    scene = draw_scene("red", np.random.default_rng(3), (1136, 852), anatomy=anatomy, e4500=True, level=0.95)
    places, _ = track_points(anatomy, 500, 0.0, np.random.default_rng(4))
    near = np.zeros(scene.truth.shape, np.uint8)
    inside = places[(places >= 0).all(axis=1) & (places[:, 0] < 1) & (places[:, 1] < 0.75)] * 1136
    for x, y in inside.astype(int):
        cv2.circle(near, (int(x), int(y)), 50, 1, -1)
    light = scene.pixels[..., 0].astype(float)
    assert light[near > 0].mean() > 2 * light[near == 0].mean()


def test_ranks_by_camera_make_even_ranks_in_all():
    even = (np.arange(3000) + 0.5) / 3000
    levels = [level_of(rank, False) for rank in even[::3]] * 2 + [level_of(rank, True) for rank in even[::3]]
    assert np.quantile(levels, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.01)
    assert np.median([level_of(rank, True) for rank in even]) > 0.75
