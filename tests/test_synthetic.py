"""The made-up collections: sizes as printed, pictures as a camera gives them, a lab folder that builds."""

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import read_annotations
from fncells.images import read_picture
from fncells.names import parse_name, slice_key
from fncells.outlines import crossings
from fncells.published import COLLECTIONS, LEVELS, TABLE_1
from fncells.synthetic import draw_scene, picture, synthesise
from fncells.synthetic.annotators import _traced, clicked_outline
from fncells.synthetic.lab import plan
from fncells.synthetic.shapes import draw_form
from fncells.synthetic.sizes import cell_count, draw_sizes
from fncells.synthetic.tissue import Anatomy, soften, tissue_edge

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
