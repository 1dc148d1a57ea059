"""Cells drawn upon their picture."""

import numpy as np
import pytest

from fncells.cells import AnnotatedImage, Cell
from fncells.overlay import FOUND, MISSED, WRONG, comparison, overlay, shrunk


def square(left, top, size=8, **more):
    corners = [(left, top), (left + size, top), (left + size, top + size), (left, top + size)]
    return Cell((np.array(corners, dtype=float),), **more)


def image(*cells, shape=(64, 64)):
    return AnnotatedImage("a.png", shape, cells)


def grey(value=60, shape=(64, 64)):
    return np.full(shape, value, dtype=np.uint8)


def has(drawn, colour, tolerance=25):
    return bool((np.abs(drawn.astype(int) - colour).max(axis=2) <= tolerance).any())


def test_outlines_lie_on_the_cell_and_leave_its_inside_alone():
    plain, drawn = (overlay(grey(), one, side=64, numbers=False) for one in (image(), image(square(20, 30))))
    changed = np.argwhere((plain != drawn).any(axis=2))
    assert changed.min(axis=0) == pytest.approx([30, 20], abs=1)
    assert changed.max(axis=0) == pytest.approx([38, 28], abs=1)
    assert (plain[33:36, 23:26] == drawn[33:36, 23:26]).all()
    assert has(drawn, FOUND)


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [((64, 64), 300, (256, 256)), ((30, 100), 50, (15, 50)), ((1200, 2), 600, (600, 1)), ((64, 48), 100, (64, 48))],
)
def test_size_is_bounded_and_small_pictures_are_enlarged(shape, side, expected):
    assert overlay(grey(shape=shape), image(shape=shape), side=side).shape == (*expected, 3)


def test_enlarged_outlines_stay_on_the_same_place():
    drawn = overlay(grey(), image(square(20, 30)), side=256, numbers=False)
    changed = np.argwhere((drawn != overlay(grey(), image(), side=256)).any(axis=2)) / 4
    assert changed.min(axis=0) == pytest.approx([30, 20], abs=0.8)
    assert changed.max(axis=0) == pytest.approx([38.9, 28.9], abs=0.8)


def test_numbers_are_written_beside_the_cell_and_stay_inside_the_picture():
    for corner in ((0, 0), (55, 0), (0, 55), (55, 55)):
        cells = image(square(*corner, number=1234567))
        with_numbers, without = (overlay(grey(), cells, side=64, numbers=told) for told in (True, False))
        assert (with_numbers != without).any()


def test_dots_are_small_rings():
    drawn = overlay(grey(), image(Cell((np.array([[32.0, 32.0]]),), source_shape="point")), side=64, numbers=False)
    changed = np.argwhere((drawn != overlay(grey(), image(), side=64)).any(axis=2))
    assert len(changed)
    assert np.abs(changed - 32).max() <= 7
    assert [32, 32] not in changed.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_picture_can_be_drawn_upon(dtype):
    rng = np.random.default_rng(0)
    for shape in ((40, 50), (40, 50, 3)):
        pixels = rng.integers(0, 200, shape).astype(dtype)
        before = pixels.copy()
        drawn = overlay(pixels, image(square(5, 5), shape=(40, 50)), side=50)
        assert drawn.dtype == np.uint8
        assert drawn.shape == (40, 50, 3)
        assert (pixels == before).all()


def test_comparison_tells_found_wrong_and_missed_apart():
    truth, prediction = image(square(5, 5), square(40, 5)), image(square(6, 6), square(30, 40))
    assert has(comparison(grey(), truth, prediction, [(0, 0)], side=64), FOUND)
    drawn = comparison(grey(), truth, prediction, [(0, 0)], side=64)
    assert has(drawn[35:], WRONG)
    assert has(drawn[:20, 36:], MISSED)
    assert not has(drawn[:20, :20], MISSED)
    perfect = comparison(grey(), truth, truth, [(0, 0), (1, 1)], side=64)
    assert not has(perfect, WRONG)
    assert not has(perfect, MISSED)


def test_shrinking_keeps_proportions_and_never_enlarges():
    wide = np.zeros((300, 600, 3), dtype=np.uint8)
    assert shrunk(wide, 100).shape == (50, 100, 3)
    assert shrunk(wide, 1000) is wide
