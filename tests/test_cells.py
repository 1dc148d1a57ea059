"""Tests of the one value: outlines, tracing and drawing."""

import pickle
import time

import cv2
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fncells.cells import AnnotatedImage, Cell, draw, trace
from fncells.errors import InputError
from fncells.images import read_picture

SQUARE = np.array([[2, 1], [2, 4], [6, 4], [6, 1]], dtype=float)
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)

label_maps = SHAPES.flatmap(
    lambda shape: st.one_of(
        arrays.arrays(np.uint8, shape, elements=st.integers(0, 3)),  # noise: many parts, holes, contact everywhere
        arrays.arrays(np.int32, shape, elements=st.sampled_from([0, 0, 0, 5, 70_000, 2**31 - 1])),
        arrays.arrays(np.uint16, (-(-shape[0] // 4), -(-shape[1] // 4)), elements=st.integers(0, 4)).map(
            lambda coarse: np.kron(coarse, np.ones((4, 4), dtype=np.uint16))[: shape[0], : shape[1]]
        ),
    )
)
masks = SHAPES.flatmap(lambda shape: arrays.arrays(np.bool_, shape))


def crowded(cells: int, seed: int = 0) -> np.ndarray:
    """Draw a 1600x1200 label picture with touching and overlapping ellipses."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((1200, 1600), dtype=np.int32)
    for number in range(1, cells + 1):
        centre = (int(rng.integers(1600)), int(rng.integers(1200)))
        axes = (int(rng.integers(8, 25)), int(rng.integers(8, 25)))
        cv2.ellipse(labels, centre, axes, float(rng.integers(180)), 0, 360, number, -1)
    return labels


@settings(max_examples=1500)
@given(labels=label_maps)
def test_drawing_what_was_traced_gives_the_label_map_back(labels: np.ndarray) -> None:
    cells = trace(labels)
    assert [cell.number for cell in cells] == sorted(set(labels[labels > 0].tolist()))
    np.testing.assert_array_equal(draw(cells, labels.shape), labels)


@settings(max_examples=800)
@given(mask=masks)
def test_a_mask_comes_back_and_its_cells_are_the_components(mask: np.ndarray) -> None:
    image = AnnotatedImage.from_mask("a.png", mask)
    np.testing.assert_array_equal(image.mask, mask)
    assert len(image.cells) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
    first_pixels = [indices[0] for indices in image.pixels]
    assert first_pixels == sorted(first_pixels)


@settings(max_examples=200)
@given(labels=label_maps)
def test_tracing_what_was_drawn_gives_the_cells_back(labels: np.ndarray) -> None:
    cells = trace(labels)
    again = trace(draw(cells, labels.shape))
    assert all(mine.same_as(theirs) for mine, theirs in zip(cells, again, strict=True))


@settings(max_examples=200)
@given(labels=label_maps)
def test_derived_values_are_those_of_the_label_map(labels: np.ndarray) -> None:
    image = AnnotatedImage.from_labels("a.png", labels)
    for row, number in enumerate(image.numbers):
        y, x = np.nonzero(labels == number)
        assert image.areas[row] == len(y)
        np.testing.assert_allclose(image.centres[row], (x.mean(), y.mean()))
        assert image.boxes[row].tolist() == [x.min(), y.min(), x.max(), y.max()]


def test_the_published_picture_size_takes_well_under_a_second() -> None:
    labels = crowded(300)
    start = time.perf_counter()
    cells = trace(labels)
    drawn = draw(cells, labels.shape)
    assert time.perf_counter() - start < 1
    np.testing.assert_array_equal(drawn, labels)


def test_every_real_mask_and_label_picture_comes_back(data) -> None:
    folders = ("fnc/yellow/masks", "fnc/red/masks", "cfos/lab-mue/labels/est_GT", "cfos/lab-inns1/labels/expert_1")
    files = [path for folder in folders for path in sorted((data / folder).iterdir())]
    for path in files:
        mask = np.atleast_3d(read_picture(path).pixels).max(axis=2) > 0
        np.testing.assert_array_equal(AnnotatedImage.from_mask(path.name, mask).mask, mask)
    for path in sorted((data / "dsb2018" / "labels").iterdir())[::4]:
        labels = read_picture(path).pixels
        np.testing.assert_array_equal(draw(trace(labels), labels.shape), labels)


@pytest.mark.slow
def test_all_real_masks_and_label_pictures_come_back(data) -> None:
    for path in sorted((data / "cfos").rglob("labels/*/*.png")):
        mask = np.atleast_3d(read_picture(path).pixels).max(axis=2) > 0
        np.testing.assert_array_equal(AnnotatedImage.from_mask(path.name, mask).mask, mask)
    for path in sorted((data / "dsb2018" / "labels").iterdir()):
        labels = read_picture(path).pixels
        np.testing.assert_array_equal(draw(trace(labels), labels.shape), labels)


@pytest.mark.parametrize(
    ("file", "cells"),
    [
        ("yellow/masks/Mar19bS1C4R2_LHr_200x.png", 13),
        ("yellow/masks/Mar24bS1C2R3_LHl_200x.png", 6),
        ("red/masks/MAR31S1C1R2_DMHr_200x_r.png", 5),
        ("red/masks/RT353S2C1R5_r1.png", 57),
    ],
)
def test_cells_of_the_published_pictures_are_counted(data, file: str, cells: int) -> None:
    mask = read_picture(data / "fnc" / file).pixels > 0
    assert len(trace(mask)) == cells


def test_a_hole_and_a_second_part_survive() -> None:
    labels = np.zeros((12, 20), dtype=np.uint8)
    labels[1:9, 1:9] = 4
    labels[3:6, 3:6] = 0
    labels[4, 4] = 9
    labels[2:5, 14:17] = 4
    four, nine = trace(labels)
    assert (four.number, len(four.rings), nine.number, len(nine.rings)) == (4, 3, 9, 1)
    np.testing.assert_array_equal(draw((four, nine), labels.shape), labels)


def test_the_later_cell_is_drawn_over_but_both_keep_their_own_pixels() -> None:
    image = AnnotatedImage("a.png", (10, 12), (Cell((SQUARE,)), Cell((SQUARE + (2, 1),))))
    assert image.areas.tolist() == [20, 20]
    assert np.bincount(image.labels.ravel()).tolist() == [120 - 31, 11, 20]
    np.testing.assert_allclose(image.centres, [[4, 2.5], [6, 3.5]])


def test_a_dot_is_counted_and_never_drawn() -> None:
    dot = Cell((np.array([[3.0, 4.0]]),), source_shape="point")
    image = AnnotatedImage("a.png", (10, 10), (dot,))
    assert image.areas.tolist() == [0]
    assert not image.mask.any()
    assert image.centres.tolist() == [[3.0, 4.0]]
    assert image.boxes.tolist() == [[3, 4, 3, 4]]
    one_pixel = Cell(dot.rings)
    assert draw([one_pixel], (10, 10)).nonzero() == (4, 3)


def test_cells_reaching_beyond_the_picture_are_cut_and_those_outside_have_no_pixels() -> None:
    across, outside = Cell((SQUARE - (4, 3),)), Cell((SQUARE + 1000,))
    image = AnnotatedImage("a.png", (10, 10), (across, outside))
    assert image.areas.tolist() == [6, 0]
    assert image.boxes.tolist() == [[0, 0, 2, 1], [1002, 1001, 1006, 1004]]
    np.testing.assert_allclose(image.centres[1], (1004, 1002.5))


def test_fractions_are_rounded_in_drawing_alone() -> None:
    cell = Cell((SQUARE + (0.5, -0.4),))
    assert cell.rings[0][0].tolist() == [2.5, 0.6]
    y, x = draw([cell], (10, 10)).nonzero()
    assert (x.min(), x.max(), y.min(), y.max()) == (3, 7, 1, 4)


def test_cells_without_a_number_take_the_lowest_free_ones() -> None:
    cells = (Cell((SQUARE,)), Cell((SQUARE,), number=1), Cell((SQUARE,)), Cell((SQUARE,), number=3))
    assert AnnotatedImage("a.png", (9, 9), cells).numbers.tolist() == [2, 1, 4, 3]


def test_a_number_given_twice_is_refused() -> None:
    twice = AnnotatedImage("a.png", (9, 9), (Cell((SQUARE,), number=3), Cell((SQUARE,), number=3)))
    with pytest.raises(InputError, match="number 3 more than once"):
        _ = twice.numbers


def test_a_picture_of_unknown_size_cannot_be_drawn_until_it_is_given() -> None:
    unknown = AnnotatedImage("a.png", None, (Cell((SQUARE,)),))
    with pytest.raises(InputError, match="--images"):
        _ = unknown.labels
    assert unknown.with_shape((9, 9)).areas.tolist() == [20]


def test_the_size_is_not_needed_for_the_places_of_dots() -> None:
    dot = Cell((np.array([[3.0, 4.0]]),), source_shape="point")
    assert AnnotatedImage("a.png", None, (dot,)).centres.tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), np.full((2, 2), -1), np.full((2, 2), 2**31)],
    ids=["three axes", "floats", "negative", "too large"],
)
def test_what_is_no_label_picture_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="label picture: expected"):
        trace(array)


def test_an_empty_picture_has_no_cells() -> None:
    assert trace(np.zeros((0, 5), dtype=np.uint8)) == ()
    assert trace(np.zeros((4, 5), dtype=bool)) == ()


@pytest.mark.parametrize("ring", [np.array([[np.nan, 1]]), np.array([[1e9, 1]]), np.zeros((0, 2)), np.zeros(4)])
def test_impossible_outlines_are_refused(ring: np.ndarray) -> None:
    with pytest.raises(InputError):
        Cell((ring,))


@pytest.mark.parametrize("field", [{"number": 0}, {"number": 2**31}, {"source_shape": "blob"}])
def test_impossible_fields_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Cell((SQUARE,), **field)  # type: ignore[arg-type]


def test_a_cell_cannot_be_changed_by_its_arrays_and_crosses_to_another_process() -> None:
    own = SQUARE.copy()
    cell = Cell((own,), number=4, marker="CTb", attributes={"certain": "yes"})
    own[0] = 99
    assert cell.rings[0][0].tolist() == [2, 1]
    with pytest.raises(ValueError, match="read-only"):
        cell.rings[0][0] = 5
    assert pickle.loads(pickle.dumps(cell)).same_as(cell)


def test_an_image_crosses_to_another_process_without_what_it_has_drawn() -> None:
    cells = (
        Cell((SQUARE, SQUARE + 0.25), number=4, marker="CTb", score=0.5, attributes={"certain": "yes"}),
        Cell((SQUARE[:1] + 7,), source_shape="point"),
        Cell(()),
        Cell((SQUARE + 20, SQUARE + 40, SQUARE[:3] + 9)),
    )
    for one in (AnnotatedImage("a.png", (400, 300), cells, {"size": 3}), AnnotatedImage("b.png", None, ())):
        before = len(pickle.dumps(one))
        if one.shape is not None:
            assert one.labels.any()
        crossed = pickle.loads(pickle.dumps(one))
        assert crossed.same_as(one)
        assert len(pickle.dumps(one)) == before
        assert not any(ring.flags.writeable for cell in crossed.cells for ring in cell.rings)


def test_same_as_sees_every_difference() -> None:
    cell = Cell((SQUARE,), number=2)
    others = [
        Cell((SQUARE + 1,), number=2),
        Cell((SQUARE, SQUARE), number=2),
        Cell((SQUARE,)),
        Cell((SQUARE,), number=2, marker="c-FOS"),
        Cell((SQUARE,), number=2, score=0.5),
        Cell((SQUARE,), number=2, attributes={"a": 1}),
        Cell((SQUARE,), number=2, source_shape="rect"),
    ]
    assert cell.same_as(Cell((SQUARE.copy(),), number=2))
    assert not any(cell.same_as(other) for other in others)
    image = AnnotatedImage("sub/a.png", (9, 9), (cell,))
    assert image.stem == "sub/a"
    assert image.same_as(AnnotatedImage("sub/a.png", (9, 9), (Cell((SQUARE,), number=2),)))
    assert not any(image.same_as(AnnotatedImage("sub/a.png", (9, 9), (other,))) for other in others)
    assert not image.same_as(AnnotatedImage("sub/a.png", (9, 8), (cell,)))
