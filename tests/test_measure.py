"""Cells measured, and collections summed up."""

import csv
import json
import math
import warnings

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image

from fncells.archive import index_frame
from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.images import PixelSize, read_picture
from fncells.measure import (
    PictureSummary,
    measure_cells,
    measure_labels,
    paper_frame,
    paper_markdown,
    summarise,
    table1,
    table1_frame,
    table1_markdown,
)
from fncells.published import TABLE_1
from fncells.synthetic.sizes import cell_count

# Our column, the reference's property, and what to make of the latter.
REFERENCE = {
    "area_px2": "area",
    "perimeter_px": "perimeter",
    "feret_max_px": "feret_diameter_max",
    "equivalent_diameter_px": "equivalent_diameter_area",
    "major_axis_px": "axis_major_length",
    "minor_axis_px": "axis_minor_length",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
}


def reference(labels, name, intensity=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-image warns of hulls of a single pixel
        return np.array([region[name] for region in regionprops(labels, intensity_image=intensity)])


def apart(degrees, other):
    """Difference of two undirected directions."""
    return np.abs((degrees - other + 90) % 180 - 90)


def picture_of(*cells, shape=(64, 64)):
    return AnnotatedImage("a.png", shape, cells)


def polygon(*points, **options):
    return Cell((np.array(points, dtype=float),), **options)


def random_labels(seed, number=9):
    random = np.random.default_rng(seed)
    labels = np.zeros((64, 64), dtype=np.uint8)
    for value in range(1, number + 1):
        axes = tuple(int(axis) for axis in random.integers(1, 12, 2))
        centre = tuple(int(place) for place in random.integers(0, 64, 2))
        cv2.ellipse(labels, centre, axes, float(random.uniform(0, 180)), 0, 360, value, -1)
    return labels


# --------------------------------------------------------------------------------------------------------- one cell


def check_against_reference(labels):
    image = AnnotatedImage.from_labels("a.png", labels)
    table = measure_cells(image)
    for ours, theirs in REFERENCE.items():
        np.testing.assert_allclose(table[ours], reference(labels, theirs), rtol=1e-9, atol=1e-6, err_msg=ours)
    centres = reference(labels, "centroid").reshape(-1, 2)
    np.testing.assert_allclose(np.stack([table["y_px"], table["x_px"]], axis=1), centres)
    numbers = reference(labels, "label")
    assert table["cell"].tolist() == numbers.tolist()
    boxes = reference(labels, "bbox").reshape(-1, 4)
    np.testing.assert_array_equal(table["box_top_px"], boxes[:, 0])
    np.testing.assert_array_equal(table["box_left_px"], boxes[:, 1])
    np.testing.assert_array_equal(table["box_top_px"] + table["box_height_px"], boxes[:, 2])
    np.testing.assert_array_equal(table["box_left_px"] + table["box_width_px"], boxes[:, 3])
    inertia = reference(labels, "inertia_tensor_eigvals").reshape(-1, 2)
    lengthy = inertia[:, 0] > inertia[:, 1] * 1.001 + 1e-6
    directions = np.degrees(reference(labels, "orientation").reshape(-1)) + 90
    assert apart(table["orientation_deg"], directions)[lengthy].max(initial=0) < 1e-4
    for row, number in enumerate(numbers):
        background = np.pad(labels != number, 1, constant_values=True).astype(np.uint8)
        assert table["n_holes"][row] == cv2.connectedComponents(background, connectivity=4)[0] - 2
        assert table["n_parts"][row] == cv2.connectedComponents(1 - background, connectivity=8)[0] - 1
    straight = measure_labels(labels)
    assert list(straight) == list(table)
    for name, values in table.items():
        np.testing.assert_array_equal(straight[name], values, err_msg=name)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_ellipses_measure_as_in_scikit_image(seed):
    check_against_reference(random_labels(seed))


@settings(max_examples=60)
@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
def test_noise_with_holes_and_parts_measures_as_in_scikit_image(labels):
    check_against_reference(labels)


@settings(max_examples=60)
@given(npst.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_components_of_a_mask_measure_as_traced_cells(mask):
    traced, straight = measure_cells(AnnotatedImage.from_mask("a", mask)), measure_labels(mask)
    for name, values in traced.items():
        np.testing.assert_array_equal(straight[name], values, err_msg=name)


def every_width(pixels):
    """Feret diameters by brute force: in 3600 directions, widths of the convex hull as scikit-image draws it."""
    y, x = np.nonzero(convex_hull_image(pixels))
    corners = np.concatenate([np.stack([x, y], 1) + shift for shift in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))])
    angles = np.linspace(0, np.pi, 3600, endpoint=False)
    along = corners @ np.stack([np.cos(angles), np.sin(angles)])
    return along.max(axis=0) - along.min(axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_feret_diameters_are_the_extremes_of_all_directions(seed):
    random = np.random.default_rng(seed)
    axes, angle = random.integers(4, 60, 2), float(random.uniform(0, 180))
    mask = cv2.ellipse(np.zeros((160, 160), np.uint8), (80, 80), tuple(map(int, axes)), angle, 0, 360, 1, -1) > 0
    table, widths = measure_labels(mask), every_width(mask)
    assert table["feret_max_px"][0] == pytest.approx(widths.max(), abs=1e-4)
    assert table["feret_min_px"][0] == pytest.approx(widths.min(), abs=5e-2)
    assert table["feret_min_px"][0] <= widths.min() + 1e-9


@pytest.mark.parametrize(("major", "minor"), [(40, 40), (50, 20), (60, 6)])
@pytest.mark.parametrize("angle", [0, 25, 90, 140])
def test_ellipses_have_the_axes_they_were_drawn_with(major, minor, angle):
    y, x = np.mgrid[-90:91, -90:91] + 0.25
    turn = math.radians(angle)
    along, across = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    table = measure_labels((along / major) ** 2 + (across / minor) ** 2 <= 1)
    assert table["area_px2"][0] == pytest.approx(math.pi * major * minor, rel=0.01)
    assert table["major_axis_px"][0] == pytest.approx(2 * major, rel=0.01)
    assert table["minor_axis_px"][0] == pytest.approx(2 * minor, rel=0.02)
    assert table["eccentricity"][0] == pytest.approx(math.sqrt(1 - (minor / major) ** 2), abs=0.04)
    assert 0.9 < table["solidity"][0] <= 1  # pixels whose centres lie on the hull count in full
    if major > minor:
        assert apart(table["orientation_deg"][0], angle) < 1


def test_parts_far_apart_cost_no_more_than_their_pixels():
    labels = np.zeros((2000, 2000), np.int32)
    labels[0, :1500] = labels[-1, :1500] = np.arange(1, 1501)  # boxes of 3,000,000 pixels in all
    table = measure_labels(labels)
    assert set(table["n_parts"]) == {2}
    assert set(table["feret_max_px"]) == {2000}
    assert set(table["perimeter_px"]) == {0}


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.zeros((4, 4)), "values of type float64"),
        (np.zeros(4, int), "an array of shape"),
        (np.full((4, 4), -1), "values from -1"),
        (np.full((4, 4), 2**31), "2147483648"),
    ],
)
def test_what_is_no_label_picture_is_refused(labels, found):
    with pytest.raises(InputError, match=found):
        measure_labels(labels)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (3, 3)])
@pytest.mark.parametrize("dtype", [bool, np.uint16])
def test_label_pictures_without_cells_give_empty_columns(shape, dtype):
    table = measure_labels(np.zeros(shape, dtype), PixelSize(0.5, "user"), np.zeros(shape, np.uint8))
    assert {len(values) for values in table.values()} == {0}
    assert {"area_um2", "intensity_mean_corrected", "n_parts"} <= set(table)


@pytest.mark.parametrize("side", [2, 3, 10, 25])
def test_squares(side):
    table = measure_cells(picture_of(polygon((5, 5), (5, 4 + side), (4 + side, 4 + side), (4 + side, 5))))
    assert table["area_px2"] == side**2
    assert table["perimeter_px"] == pytest.approx(4 * (side - 1))
    # The line midway between inside and outside cuts the corners.
    assert table["feret_max_px"] == pytest.approx(math.hypot(side, side - 1))
    assert table["feret_min_px"] == pytest.approx(min(side, (2 * side - 1) / math.sqrt(2)))
    assert table["solidity"] == 1
    assert table["equivalent_diameter_px"] == pytest.approx(2 * side / math.sqrt(math.pi))
    assert table["eccentricity"] == pytest.approx(0, abs=1e-6)
    assert not table["touches_border"][0]


@pytest.mark.parametrize("radius", [10, 20, 28])
def test_discs(radius):
    y, x = np.mgrid[:64, :64]
    table = measure_cells(AnnotatedImage.from_mask("a", (x - 31.5) ** 2 + (y - 31.5) ** 2 <= radius**2))
    assert table["equivalent_diameter_px"] == pytest.approx(2 * radius, rel=0.02)
    # Pixels whose centres lie on the hull count in full, so the definition itself adds up to 1.7 px to a smooth outline.
    assert table["feret_max_px"] == pytest.approx(2 * radius, abs=1.75)
    assert table["feret_min_px"] == pytest.approx(2 * radius, abs=1.75)
    assert table["feret_min_px"] <= table["feret_max_px"]
    assert table["major_axis_px"] == pytest.approx(2 * radius, rel=0.02)
    assert table["perimeter_px"] == pytest.approx(2 * math.pi * radius, rel=0.06)
    assert table["circularity"] == pytest.approx(1, abs=0.15)
    assert (table["x_px"], table["y_px"]) == (pytest.approx(31.5), pytest.approx(31.5))


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 120, 170])
def test_directions_are_counted_counter_clockwise_as_seen(angle):
    labels = np.zeros((128, 128), np.uint8)
    cv2.ellipse(labels, (64, 64), (50, 12), -angle, 0, 360, 1, -1)  # OpenCV counts clockwise as seen
    table = measure_cells(AnnotatedImage.from_labels("a", labels))
    assert apart(table["orientation_deg"][0], angle) < 1
    assert apart(table["feret_angle_deg"][0], angle) < 3
    assert table["major_axis_px"][0] == pytest.approx(100, rel=0.02)
    assert table["feret_min_px"][0] == pytest.approx(25, abs=1.75)
    for column in ("orientation_deg", "feret_angle_deg"):
        assert 0 <= table[column][0] < 180


def test_a_bar_has_its_length_and_its_width():
    table = measure_cells(picture_of(polygon((10, 5), (10, 7), (39, 7), (39, 5))))
    assert table["feret_max_px"] == pytest.approx(math.hypot(30, 2))
    assert table["feret_min_px"] == pytest.approx(3)
    assert table["orientation_deg"] == pytest.approx(0)


def test_a_single_pixel():
    table = measure_cells(picture_of(polygon((5, 6))))
    expected = {
        "area_px2": 1,
        "x_px": 5,
        "y_px": 6,
        "feret_max_px": 1,
        "major_axis_px": 0,
        "eccentricity": 0,
        "solidity": 1,
    }
    for name, value in expected.items():
        assert table[name][0] == value, name
    assert table["perimeter_px"][0] == 0
    assert math.isnan(table["circularity"][0])


def test_holes_are_counted_and_left_out_of_the_area():
    outer, inner = [(5, 5), (5, 25), (25, 25), (25, 5)], [(10, 10), (10, 15), (15, 15), (15, 10)]
    ring = Cell((np.array(outer, float), np.array(inner, float)))
    table = measure_cells(picture_of(ring, polygon(*outer)))
    assert table["n_holes"].tolist() == [1, 0]
    assert table["area_px2"][0] < table["area_px2"][1]
    assert table["feret_max_px"][0] == table["feret_max_px"][1]


def test_overlapping_cells_are_each_measured_whole():
    one, two = polygon((5, 5), (5, 25), (25, 25), (25, 5)), polygon((15, 15), (15, 35), (35, 35), (35, 15))
    both, alone = measure_cells(picture_of(one, two)), measure_cells(picture_of(one))
    for name, values in alone.items():
        assert both[name][0] == values[0], name
    assert both["area_px2"].tolist() == [441, 441]


def test_dots_and_cells_outside_have_a_place_and_no_extent():
    dot = polygon((7.25, 8.5), source_shape="point")
    outside = polygon((100, 100), (100, 110), (110, 110))
    square = polygon((5, 5), (5, 9), (9, 9), (9, 5))
    table = measure_cells(picture_of(dot, square, outside), PixelSize(0.5, "user"), np.ones((64, 64, 3), np.uint8))
    assert table["cell"].tolist() == [1, 2, 3]
    assert (table["x_px"][0], table["y_px"][0]) == (7.25, 8.5)
    assert (table["x_um"][0], table["y_um"][0]) == (3.625, 4.25)
    assert table["area_px2"][1] == 25
    known = {"cell", "x_px", "y_px", "x_um", "y_um", "touches_border", "pixel_size_um", "pixel_size_source"}
    known |= {"n_holes", "n_parts"}
    for name in set(table) - known:
        assert np.isnan(table[name][[0, 2]]).all(), name
        assert np.isfinite(table[name][1]), name


def test_a_picture_without_cells_gives_the_same_columns():
    grey = np.zeros((64, 64))
    size = PixelSize(1, "user")
    empty, full = (
        measure_cells(picture_of(), size, grey),
        measure_cells(picture_of(polygon((1, 1), (9, 9), (1, 9))), size, grey),
    )
    assert list(empty) == list(full)
    assert {len(values) for values in empty.values()} == {0}


@pytest.mark.parametrize(("x", "y", "touches"), [(0, 9, 1), (9, 0, 1), (59, 9, 1), (9, 59, 1), (1, 1, 0), (58, 58, 0)])
def test_cells_at_the_border_are_marked(x, y, touches):
    table = measure_cells(picture_of(polygon((x, y), (x + 4, y), (x + 4, y + 4), (x, y + 4))))
    assert table["touches_border"].tolist() == [touches]


def test_an_unknown_shape_is_refused():
    with pytest.raises(InputError, match="height and width"):
        measure_cells(AnnotatedImage("a.png", None, (polygon((1, 1), (5, 5), (1, 5)),)))


# --------------------------------------------------------------------------------------------------------- units, light


def test_micrometres_stand_beside_pixels_where_the_size_is_known():
    image = AnnotatedImage.from_labels("a.png", random_labels(3))
    bare, table = measure_cells(image), measure_cells(image, PixelSize(0.25, "OME"))
    lengths = [name for name in bare if name.endswith("_px")]
    areas = [name for name in bare if name.endswith("_px2")]
    assert len(lengths) == 12
    assert areas == ["area_px2"]
    for names, factor in ((lengths, 0.25), (areas, 0.0625)):
        for name in names:
            np.testing.assert_allclose(table[name.replace("_px", "_um")], bare[name] * factor)
    assert set(table["pixel_size_um"]) == {0.25}
    assert set(table["pixel_size_source"]) == {"OME"}
    assert not [name for name in bare if "_um" in name or "pixel_size" in name]


@pytest.mark.parametrize("channels", [None, 3, 2])
def test_intensities_are_those_of_the_cells_own_pixels(channels):
    labels = random_labels(4)
    shape = labels.shape if channels is None else (*labels.shape, channels)
    light = np.random.default_rng(1).integers(0, 65536, shape, dtype=np.uint16)
    table = measure_cells(AnnotatedImage.from_labels("a.png", labels), None, light)
    endings = {None: [""], 3: ["_red", "_green", "_blue"], 2: ["_1", "_2"]}[channels]
    for what in ("mean", "min", "max"):
        expected = reference(labels, f"intensity_{what}", light).reshape(len(table["cell"]), -1)
        for channel, ending in enumerate(endings):
            np.testing.assert_allclose(table[f"intensity_{what}{ending}"], expected[:, channel])
    total = table[f"intensity_mean{endings[0]}"] * table["area_px2"]
    np.testing.assert_allclose(table[f"intensity_integrated{endings[0]}"], total)


def light_of(level, glow, noise=0.0):
    """A cell of some brightness on a slope of light."""
    labels = np.zeros((80, 90), np.uint8)
    labels[30:45, 40:60] = 1
    slope = np.tile(np.linspace(0, glow, 90), (80, 1))
    return labels, slope + 200 + level * labels + np.random.default_rng(0).normal(0, noise, labels.shape)


@pytest.mark.parametrize(("level", "glow", "noise"), [(50, 0, 0), (50, 100, 0), (0, 100, 0), (20, 30, 2)])
def test_the_background_is_taken_off_even_on_a_slope(level, glow, noise):
    labels, picture = light_of(level, glow, noise)
    table = measure_labels(labels, None, picture)
    assert table["intensity_mean_corrected"][0] == pytest.approx(level, abs=0.5)
    assert table["intensity_integrated_corrected"][0] == pytest.approx(300 * level, abs=150)
    background = table["intensity_mean"] - table["intensity_mean_corrected"]
    np.testing.assert_allclose(table["intensity_background"], background)


def test_neighbours_and_the_rim_of_cells_are_no_background():
    labels, picture = light_of(50, 0)
    labels[30:45, 62:75] = 2
    picture[28:47, 38:77] += 1000  # light that spreads two pixels beyond both
    table = measure_labels(labels, None, picture.astype(np.uint16))
    assert table["intensity_background"] == pytest.approx([200, 200])
    full = measure_labels(np.ones((8, 8), np.uint8), None, np.ones((8, 8), np.uint8))
    assert math.isnan(full["intensity_background"][0])
    assert math.isnan(full["intensity_mean_corrected"][0])
    assert full["intensity_mean"][0] == 1


def test_each_of_many_channels_has_its_own_background():
    labels, _ = light_of(0, 0)
    levels = np.arange(6, dtype=np.uint16) * 100
    table = measure_labels(labels, None, np.tile(levels, (*labels.shape, 1)))
    assert [float(table[f"intensity_background_{channel}"][0]) for channel in range(1, 7)] == levels.tolist()


def test_intensities_need_the_same_picture():
    with pytest.raises(InputError, match=r"a\.png.*\(64, 64\).*\(64, 63\)"):
        measure_cells(picture_of(), None, np.zeros((64, 63)))


# --------------------------------------------------------------------------------------------------------- Table 1


def made_up(collection="green", picture="a", number=3, size=None, seed=0):
    areas = np.random.default_rng(seed).integers(50, 500, number).astype(float)
    return PictureSummary(collection, picture, number, 0.5 * number, areas, areas**0.5 * 2, areas**0.5, size)


def test_density_is_cells_on_a_square_millimetre():
    square = polygon((5, 5), (5, 9), (9, 9), (9, 5))
    summary = summarise(picture_of(square, square, shape=(1000, 500)), "red", PixelSize(0.5, "user"))
    assert summary.density_per_mm2 == pytest.approx(2 / (0.5 * 0.25))
    assert summarise(picture_of(square), "red").density_per_mm2 is None


def test_a_summary_agrees_with_the_measures():
    image = AnnotatedImage.from_labels("sub/a.png", random_labels(5))
    summary, table = summarise(image, "red", PixelSize(0.5, "user")), measure_cells(image)
    assert (summary.collection, summary.picture, summary.n_cells) == ("red", "sub/a.png", len(table["cell"]))
    assert summary.signal_percent == pytest.approx(100 * image.mask.mean())
    np.testing.assert_array_equal(summary.areas, table["area_px2"])
    np.testing.assert_array_equal(summary.ferets, table["feret_max_px"])
    np.testing.assert_array_equal(summary.equivalent_diameters, table["equivalent_diameter_px"])


def test_dots_are_counted_and_have_no_part_in_the_distributions():
    summary = summarise(
        picture_of(polygon((5, 5), source_shape="point"), polygon((5, 5), (9, 5), (9, 9), (5, 9))), "green"
    )
    assert summary.n_cells == 2
    assert summary.areas.tolist() == [25]


def as_pandas(values):
    described = pd.Series(values, dtype=float).describe(percentiles=[0.1, 0.25, 0.5, 0.75, 0.9])
    return {name: described[name] for name in ("count", "mean", "std", "min", "10%", "25%", "50%", "75%", "90%", "max")}


@settings(max_examples=30)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=12), st.sampled_from(["per-picture", "published"]))
def test_table_1_is_what_pandas_describes(numbers, counts):
    size = PixelSize(0.5, "user")
    pictures = [made_up(picture=str(seed), number=number, size=size, seed=seed) for seed, number in enumerate(numbers)]
    found = table1(pictures, counts)["green"]
    assert found["counts"] == counts
    weighted = [number for number in numbers for _ in range(max(number, 1) if counts == "published" else 1)]
    areas = np.concatenate([picture.areas for picture in pictures])
    expected = {
        "signal_percent": [number * 0.5 for number in numbers],
        "cell_count": weighted,
        "area_um2": areas * 0.25,
        "feret_um": areas**0.5,
        "equivalent_diameter_um": areas**0.5 * 0.5,
    }
    assert list(found) == ["counts", *expected]
    for name, values in expected.items():
        reckoned = {key: None if math.isnan(value) else value for key, value in as_pandas(values).items()}
        assert list(found[name]) == list(reckoned)
        assert found[name] == {key: value if value is None else pytest.approx(value) for key, value in reckoned.items()}
    json.dumps(found, allow_nan=False)


def test_published_counts_weigh_each_picture_by_its_cells():
    pictures = [made_up(picture=str(number), number=number) for number in (0, 0, 2, 5)]
    published = table1(pictures, "published")["green"]["cell_count"]
    assert published["count"] == 7 + 2
    assert published["mean"] == pytest.approx((2 * 2 + 5 * 5) / 9)
    plain = table1(pictures)["green"]["cell_count"]
    assert plain["count"] == 4
    assert plain["mean"] == pytest.approx(7 / 4)
    assert table1(pictures, "published")["green"]["signal_percent"] == table1(pictures)["green"]["signal_percent"]


def summaries_of(index):
    """Summaries of pictures of which an index tells the number of cells."""
    told = index[["dataset", "image_name", "n_cells"]].itertuples(index=False)
    return [made_up(collection, name, int(count)) for collection, name, count in told]


@pytest.mark.parametrize("collection", ["green", "red", "yellow"])
def test_an_index_with_the_papers_counts_gives_the_papers_kind_of_numbers(collection):
    """Pictures whose counts are spread as in the paper: what it prints comes out, and what that means per picture."""
    paper = TABLE_1[collection]
    counts = [cell_count(collection, (rank + 0.5) / paper.pictures) for rank in range(paper.pictures)]
    rows = [{"dataset": collection, "image_name": f"{n}.png", "n_cells": count} for n, count in enumerate(counts, 1)]
    pictures = summaries_of(index_frame(rows))
    assert counts.count(0) == paper.empty
    assert sum(counts) == pytest.approx(paper.cells, rel=0.02)
    published = table1(pictures, "published")[collection]["cell_count"]
    assert published["count"] == sum(counts) + paper.empty  # green's printed 4606 are 4600 cells and 6 empty pictures
    assert published["mean"] == pytest.approx(paper.cell_count.mean, rel=0.03)
    assert published["std"] == pytest.approx(paper.cell_count.std, rel=0.08)
    for name, printed in zip(
        ("min", "10%", "25%", "50%", "75%", "90%", "max"), paper.cell_count.quantiles, strict=True
    ):
        assert published[name] == pytest.approx(printed, abs=3), name
    plain = table1(pictures)[collection]["cell_count"]
    assert plain["count"] == paper.pictures
    assert plain["mean"] == pytest.approx(paper.cells / paper.pictures, rel=0.02)


def test_the_order_of_pictures_does_not_matter():
    pictures = [
        made_up(collection, str(seed), 5, None, seed) for collection in ("yellow", "green") for seed in range(9)
    ]
    assert json.dumps(table1(pictures)) == json.dumps(table1(pictures[::-1]))
    assert list(table1(pictures)) == ["green", "yellow"]


def test_each_picture_is_scaled_by_its_own_pixel_size():
    sizes = (PixelSize(0.5, "a"), PixelSize(2, "b"))
    pictures = [PictureSummary("red", str(size.um), 1, 1, *[np.array([8.0])] * 3, size) for size in sizes]
    found = table1(pictures)["red"]
    assert (found["area_um2"]["min"], found["area_um2"]["max"]) == (2, 32)
    assert (found["feret_um"]["min"], found["feret_um"]["max"]) == (4, 16)


def test_without_a_pixel_size_the_keys_say_pixels():
    known, unknown, empty = made_up(size=PixelSize(0.5, "user")), made_up(picture="b"), made_up(picture="c", number=0)
    for pictures in ([unknown], [known, unknown], [empty]):
        found = table1(pictures)["green"]
        assert {"area_px2", "feret_px", "equivalent_diameter_px"} <= set(found)
        assert not [name for name in found if "um" in name.split("_")[-1]]
    np.testing.assert_allclose(
        table1([known, unknown])["green"]["area_px2"]["max"], max(known.areas.max(), unknown.areas.max())
    )
    assert "area_um2" in table1([known, empty])["green"]


def test_nothing_to_compute_from_is_none():
    found = table1([made_up(number=0)])["green"]
    assert found["area_px2"] == {"count": 0} | dict.fromkeys(list(found["area_px2"])[1:])
    assert found["cell_count"]["std"] is None
    assert found["cell_count"]["mean"] == 0
    assert table1([]) == {}


def test_unknown_ways_of_counting_are_refused():
    with pytest.raises(InputError, match="per-picture or published"):
        table1([made_up()], "weighted")
    assert table1([made_up()], "published")


def test_the_frame_has_a_row_a_measure():
    table = table1([made_up("green"), made_up("red", size=PixelSize(0.5, "user"))])
    frame = table1_frame(table)
    assert list(frame.columns[:5]) == ["collection", "measure", "counts", "count", "mean"]
    assert len(frame) == 10
    row = frame[(frame.collection == "red") & (frame.measure == "area_um2")].iloc[0]
    assert row["90%"] == table["red"]["area_um2"]["90%"]


def test_the_markdown_is_laid_out_as_in_the_paper():
    pictures = [made_up("green"), made_up("red", size=PixelSize(0.5, "user")), made_up("red", "b", 0)]
    lines = table1_markdown(table1(pictures)).splitlines()
    assert lines[0].startswith("|  | signal %, green | signal %, red | cell count, green |")
    assert "area (px²), green" in lines[0]
    assert "area (µm²), red" in lines[0]
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(as_pandas([1]))
    assert "| 2 |" in lines[2]
    assert "–" in next(line for line in lines if line.startswith("| std"))
    assert "published" in table1_markdown(table1(pictures, "published")).splitlines()[-1]


def test_the_papers_collections_are_held_against_its_table():
    um = PixelSize(0.5, "user")
    table = table1([made_up("green", size=um), made_up("red", "b"), made_up("blue", "c", size=um)])
    rows = paper_frame(table)
    # Another lab's collection has no printed values, and areas in pixels and unweighted counts cannot be compared.
    assert set(zip(rows["collection"], rows["measure"], strict=True)) == {
        ("green", "signal_percent"),
        ("green", "area_um2"),
        ("green", "feret_um"),
        ("green", "equivalent_diameter_um"),
        ("red", "signal_percent"),
    }
    area = rows[(rows["measure"] == "area_um2")].set_index("statistic")
    assert area["printed"].tolist() == [74.78, 23.39, 12.41, 48.74, 58.58, 71.67, 87.33, 104.66, 227.04]
    assert area.index.tolist() == ["mean", "std", "min", "10%", "25%", "50%", "75%", "90%", "max"]
    assert area.loc["50%", "found"] == table["green"]["area_um2"]["50%"]
    assert area.loc["50%", "difference_percent"] == pytest.approx(100 * (area.loc["50%", "found"] / 71.67 - 1))
    assert rows[rows["printed"] == 0]["difference_percent"].isna().all()
    weighted = table1([made_up("green", size=um)], "published")
    assert "cell_count" in set(paper_frame(weighted)["measure"])
    lines = paper_markdown(weighted).splitlines()
    assert f"| signal %, green | {weighted['green']['signal_percent']['mean']:.2f} / 0.64 |" in "\n".join(lines)
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert paper_markdown(table1([made_up("blue")])) == ""


# --------------------------------------------------------------------------------------------------------- real cells


@pytest.mark.parametrize("collection", ["yellow", "red"])
def test_the_authors_own_measurements_are_reproduced(data, collection):
    with (data / "fnc" / collection / "published_measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    tables = {}
    for row in rows:
        name = row["img_name"]
        if name not in tables:
            mask = read_picture(data / "fnc" / collection / "masks" / f"{name}.png").pixels
            tables[name] = measure_cells(AnnotatedImage.from_mask(name, np.atleast_3d(mask)[..., 0] > 0))
        table = tables[name]
        assert len(table["cell"]) == int(row["n_cells"])
        distance = np.abs(table["feret_max_px"] - float(row["diameter"])) + np.abs(table["area_px2"] - int(row["area"]))
        cell = int(np.argmin(distance))
        assert table["area_px2"][cell] == int(row["area"])  # exactly; the rest is printed with four digits
        assert table["feret_max_px"][cell] == pytest.approx(float(row["diameter"]), abs=0.0001)
        assert table["major_axis_px"][cell] == pytest.approx(float(row["max_axis_length"]), abs=0.0001)
        assert table["minor_axis_px"][cell] == pytest.approx(float(row["min_axis_length"]), abs=0.0001)


def test_real_nuclei_measure_as_in_scikit_image(data):
    for path in sorted((data / "dsb2018/labels").iterdir())[:4]:
        check_against_reference(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))


@pytest.mark.slow
def test_all_real_nuclei_measure_as_in_scikit_image(data):
    """Area, diameter and axes to 1e-9, Feret diameters to 1e-6 relative, over all 541 pictures."""
    close = {"area_px2": 0, "equivalent_diameter_px": 1e-9, "major_axis_px": 1e-9, "minor_axis_px": 1e-9}
    nuclei = 0
    for path in sorted((data / "dsb2018/labels").iterdir()):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        table = measure_labels(labels)
        for name, tolerance in {**close, "perimeter_px": 1e-9, "solidity": 1e-9, "feret_max_px": 1e-6}.items():
            expected = reference(labels, REFERENCE[name])
            # A line of pixels has no width: the reference gives 1e-8 px where there are none.
            np.testing.assert_allclose(table[name], expected, rtol=tolerance, atol=1e-7 * bool(tolerance), err_msg=name)
        nuclei += len(table["cell"])
    assert nuclei == 23096
