import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from fncells.cells import AnnotatedImage, Region
from fncells.outlines import edge_polygons, filled, joined
from formats.label_maps import label_maps


def on_picture(region, shape):
    picture = np.zeros(shape, dtype=bool)
    if region is not None:
        height, width = region.mask.shape
        picture[region.top : region.top + height, region.left : region.left + width] = region.mask
    return picture


def geometry(polygons):
    return shapely.MultiPolygon([shapely.Polygon(polygon[0], polygon[1:]) for polygon in polygons])


def region(*rows, left=0, top=0):
    return Region(np.array([[mark == "#" for mark in row] for row in rows]), left, top)


def fill(rings, *arguments, **options):
    [found] = filled([rings], *arguments, **options)
    return found


def only(one):
    [polygons] = edge_polygons([one])
    return polygons


def rings(*rows):
    return [[ring.tolist() for ring in polygon] for polygon in only(region(*rows))]


# ------------------------------------------------------------------------------------------------------- pixels to rings


def test_one_pixel_is_a_square_and_runs_clockwise_on_the_screen():
    assert rings("#") == [[[[0, 0], [1, 0], [1, 1], [0, 1]]]]


def test_a_hole_runs_the_other_way():
    [[outer, hole]] = rings("###", "#.#", "###")
    assert outer == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert hole == [[2, 1], [1, 1], [1, 2], [2, 2]]


def test_pixels_that_touch_in_a_corner_are_two_polygons_whichever_way_they_lie():
    assert rings("#.", ".#") == [[[[0, 0], [1, 0], [1, 1], [0, 1]]], [[[1, 1], [2, 1], [2, 2], [1, 2]]]]
    assert rings(".#", "#.") == [[[[1, 0], [2, 0], [2, 1], [1, 1]]], [[[0, 1], [1, 1], [1, 2], [0, 2]]]]


def test_a_ring_that_closes_in_a_corner_alone_has_a_hole_that_touches_it():
    [[outer, hole]] = rings("###", "#.#", "##.")
    assert [2, 2] in outer
    assert [2, 2] in hole
    assert geometry(only(region("###", "#.#", "##."))).is_valid


def test_an_island_in_a_hole_is_a_polygon_of_its_own():
    polygons = rings("#####", "#...#", "#.#.#", "#...#", "#####")
    assert [len(polygon) for polygon in polygons] == [2, 1]


@given(label_maps())
@settings(max_examples=400)
def test_polygons_are_valid_have_the_pixels_area_and_give_the_pixels_back(labels):
    image = AnnotatedImage.from_labels("a", labels)
    for cell_region, polygons in zip(image.regions, edge_polygons(image.regions), strict=True):
        shape = geometry(polygons)
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == cell_region.mask.sum()
        assert all(len(np.unique(ring, axis=0)) == len(ring) for polygon in polygons for ring in polygon)
        for steps in (None, 5):
            found = joined([*filled(polygons, labels.shape, steps=steps)])
            np.testing.assert_array_equal(on_picture(found, labels.shape), on_picture(cell_region, labels.shape))


# ------------------------------------------------------------------------------------------------------- rings to pixels


def test_a_centre_on_an_upper_or_left_edge_is_inside_and_one_on_a_lower_or_right_edge_is_not():
    found = fill([np.array([(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)])])
    assert np.argwhere(on_picture(found, (5, 5))).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_what_lies_outside_the_picture_is_cut_off():
    square = np.array([(-3.0, -3.0), (2.0, -3.0), (2.0, 2.0), (-3.0, 2.0)])
    assert fill([square]).mask.sum() == 4
    assert fill([square + 4], (5, 4)).mask.sum() == 12
    assert fill([square + 40], (5, 4)) is None
    assert fill([square - 40]) is None


def test_no_ring_a_line_and_what_holds_no_centre_enclose_nothing():
    assert fill([]) is None
    assert fill([np.array([(1.0, 1.0)])]) is None
    assert fill([np.array([(1.0, 1.0), (9.0, 4.0)])], steps=5) is None
    assert fill([np.array([(1.6, 1.6), (1.9, 1.6), (1.9, 1.9)])]) is None


def test_rings_of_one_polygon_are_even_and_odd():
    square = np.array([(0.0, 0.0), (6.0, 0.0), (6.0, 6.0), (0.0, 6.0)])
    found = fill([square, square / 3 + 2])
    assert found.mask.sum() == 32
    assert not found.mask[2:4, 2:4].any()
    assert (found.left, found.top) == (0, 0)


def test_regions_join_where_they_overlap_and_where_they_do_not():
    found = joined([region("##", left=5, top=5), region("#", "#", left=6, top=5), region("#", left=2, top=8)])
    assert (found.left, found.top, found.mask.shape) == (2, 5, (4, 5))
    assert found.mask.sum() == 4


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=300)
def test_pixels_are_those_whose_centres_lie_inside(seed):
    rng = np.random.default_rng(seed)
    ring = rng.uniform(-3, 20, (rng.integers(3, 8), 2))
    y, x = np.mgrid[:16, :17] + 0.5
    expected = np.zeros((16, 17), dtype=bool)
    for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):  # by rays along x, not along y as ours
        between = (y >= min(ay, by)) & (y < max(ay, by))
        expected ^= between & (x > ax + (y - ay) * ((bx - ax) / (by - ay)))
    np.testing.assert_array_equal(on_picture(fill([ring], (16, 17)), (16, 17)), expected)


GRIDS = {"anywhere": None, "tenths": 10, "fifths": 5, "halves": 2, "whole": 1}


@pytest.mark.parametrize("grid", GRIDS)
def test_steps_of_a_fifth_give_what_pycocotools_draws(grid):
    rng = np.random.default_rng(list(GRIDS).index(grid))
    for _ in range(1500):
        ring = rng.uniform(-8, 45, (rng.integers(3, 9), 2))
        if GRIDS[grid]:
            ring = np.round(ring * GRIDS[grid]) / GRIDS[grid]
        height, width = rng.integers(1, 40, 2).tolist()
        expected = coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], height, width))[:, :, 0]
        found = on_picture(fill([ring], (height, width), steps=5), (height, width))
        np.testing.assert_array_equal(found, expected.astype(bool), err_msg=f"{ring.tolist()} {height} {width}")


@pytest.mark.parametrize("steps", [None, 5])
def test_absurd_outlines_are_refused_before_they_take_memory(steps):
    wide = np.array([(0.0, 0.0), (1e6, 0.0), (1e6, 1e6)])
    with pytest.raises(OverflowError):
        fill([wide], steps=steps)
    tangled = np.tile([(0.0, 0.0), (8000.0, 1.0)], (20_000, 1))
    start = time.process_time()
    for rings in ([tangled], [tangled[:1000]] * 100):
        with pytest.raises(OverflowError):
            filled([[ring] for ring in rings], (8000, 8000), steps=steps)
    assert time.process_time() - start < 5


def test_together_outlines_are_no_more_than_pictures_hold(monkeypatch):
    monkeypatch.setattr("fncells.outlines.edges._MOST_PIXELS_IN_ALL", 10**6)
    monkeypatch.setattr("fncells.outlines.edges._PIXELS_TOGETHER", 10**5)
    square = [np.array([(0.0, 0.0), (200.0, 0.0), (200.0, 200.0)])]
    with pytest.raises(OverflowError) as refusal:
        filled([square] * 100)
    assert 0 < refusal.value.args[0] < 100
    assert len(filled([square] * 100, (1100, 1100))) == 100


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
@settings(max_examples=200)
def test_noise_survives(mask):
    whole = Region(mask, 3, 4)
    if mask.any():
        found = joined(filled(only(whole)))
        np.testing.assert_array_equal(on_picture(found, (20, 20)), on_picture(whole, (20, 20)))


def test_many_polygons_are_filled_in_parts(monkeypatch):
    image = AnnotatedImage.from_labels("a", np.kron(np.arange(1, 26).reshape(5, 5), np.ones((4, 3), dtype=int)))
    polygons = [polygon for polygons in edge_polygons(image.regions) for polygon in polygons]
    together = filled(polygons)
    for name, most in (("_TOGETHER", 3), ("_PIXELS_TOGETHER", 100), ("_CROSSINGS_TOGETHER", 20)):
        monkeypatch.setattr(f"fncells.outlines.edges.{name}", most)
        for mine, theirs in zip(filled(polygons), together, strict=True):
            np.testing.assert_array_equal(on_picture(mine, (25, 20)), on_picture(theirs, (25, 20)))


def test_cells_go_on_several_sheets_where_they_are_many_or_large(monkeypatch):
    image = AnnotatedImage.from_labels("a", np.kron(np.arange(1, 26).reshape(5, 5), np.ones((4, 3), dtype=int)))
    together = edge_polygons(image.regions)
    for largest in (1, 100, 200):
        monkeypatch.setattr("fncells.outlines.sheets._LARGEST", largest)
        for mine, theirs in zip(edge_polygons(image.regions), together, strict=True):
            np.testing.assert_array_equal(mine[0][0], theirs[0][0])
    assert edge_polygons([]) == []
