import math
import time
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fncells.errors import InputError
from fncells.separation import SeparationSettings, separate

SIZE = 200
Mask = NDArray[np.bool_]


def outline(rng: np.random.Generator, radius: float, aspect: float = 1, rough: float = 0.02) -> NDArray[np.float64]:
    """Give an ellipse around 0, turned at random, its outline waved."""
    turn = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    waves = sum(rng.normal(0, rough / k**0.5) * np.cos(k * turn + rng.uniform(0, 7)) for k in range(2, 8))
    x, y = np.cos(turn) * radius * aspect**0.5, np.sin(turn) * radius / aspect**0.5
    angle = rng.uniform(0, math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1) * (1 + waves)[:, np.newaxis]


def fill(polygon: NDArray[np.float64], centre: tuple[float, float] = (SIZE / 2, SIZE / 2), size: int = SIZE) -> Mask:
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round((polygon + centre) * 16).astype(np.int32)], 1, shift=4)
    return mask.astype(bool)


def touching_pair(rng: np.random.Generator) -> tuple[Mask, Mask]:
    """Give two cells, some elliptic, that touch or overlap by up to 35 % of the smaller one's radius."""
    large = rng.uniform(6, 30)
    small = min(30.0, max(6.0, large * rng.uniform(0.5, 2)))
    shapes = [outline(rng, radius, rng.uniform(1, 1.6) if rng.random() < 0.4 else 1) for radius in (large, small)]
    angle = rng.uniform(0, 2 * math.pi)
    way = np.array([math.cos(angle), math.sin(angle)])
    one = fill(shapes[0])
    contact, apart = 0.0, 100.0
    for _ in range(12):
        middle = (contact + apart) / 2
        other = fill(shapes[1] + way * middle)
        meets = bool((one & (cv2.dilate(other.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)).any())
        contact, apart = (middle, apart) if meets else (contact, middle)
    distance = contact - rng.uniform(0, 0.35) * min(large, small)
    return fill(shapes[0] - way * distance / 2), fill(shapes[1] + way * distance / 2)


def iou(one: Mask, other: Mask) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def kept_apart(labels: NDArray[np.int32], cells: tuple[Mask, ...]) -> bool:
    return labels.max() == len(cells) and all(
        max(iou(labels == k, cell) for k in range(1, len(cells) + 1)) > 0.7 for cell in cells
    )


def single_cell(rng: np.random.Generator) -> Mask:
    """Give one ellipse of aspect 1 to 3 with a rough outline, some with torn pixels along it."""
    mask = fill(outline(rng, rng.uniform(6, 30), rng.uniform(1, 3), rng.choice([0.01, 0.05])))
    if rng.random() < 0.4:
        edge = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        mask ^= edge & (rng.random(mask.shape) < 0.3)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        mask = parts == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    return mask


def with_processes(rng: np.random.Generator) -> Mask:
    """Give a cell body with one to three tapering processes, as orexin neurons have."""
    radius = rng.uniform(10, 25)
    mask = fill(outline(rng, radius, rng.uniform(1, 1.8), 0.04), (125, 125), 250).astype(np.uint8)
    for _ in range(rng.integers(1, 4)):
        angle, here = rng.uniform(0, 2 * math.pi), np.array([125.0, 125.0])
        width, step = rng.uniform(0.3, 0.7) * radius, rng.uniform(1.3, 2.8) * radius / 12
        for taken in range(12):
            there = here + step * np.array([math.cos(angle), math.sin(angle)])
            ends = [tuple(np.round(point).astype(int).tolist()) for point in (here, there)]
            cv2.line(mask, ends[0], ends[1], 1, max(2, round(width * (1 - taken / 20))))
            here, angle = there, angle + rng.normal(0, 0.12)
    return mask.astype(bool)


def ring(rng: np.random.Generator) -> Mask:
    radius = rng.uniform(8, 28)
    inner = outline(rng, radius * rng.uniform(0.4, 0.7), 1.2) + rng.uniform(-0.1, 0.1, 2) * radius
    return fill(outline(rng, radius, rng.uniform(1, 1.8))) & ~fill(inner)


def kidney(rng: np.random.Generator) -> Mask:
    radius = rng.uniform(8, 28)
    bite = fill(outline(rng, radius * rng.uniform(0.3, 0.6)), (SIZE / 2, SIZE / 2 - radius * rng.uniform(0.8, 1)))
    return fill(outline(rng, radius, rng.uniform(1.2, 2))) & ~bite


# --- splitting


def test_touching_cells_stay_apart() -> None:
    rng = np.random.default_rng(1)
    apart = 0
    for _ in range(300):
        cells = touching_pair(rng)
        apart += kept_apart(separate(cells[0] | cells[1]), cells)
    assert apart >= 0.98 * 300


@pytest.mark.parametrize(("shape", "least"), [(single_cell, 0.98), (with_processes, 0.93), (ring, 0.9), (kidney, 0.95)])
def test_single_cells_stay_whole(shape: Any, least: float) -> None:
    rng = np.random.default_rng(2)
    whole = sum(separate(shape(rng)).max() == 1 for _ in range(300 if shape is single_cell else 100))
    assert whole >= least * (300 if shape is single_cell else 100)


def test_a_row_of_cells_comes_apart() -> None:
    mask = np.zeros((60, 200), np.uint8)
    for x in range(30, 180, 28):
        cv2.circle(mask, (x, 30), 16, 1, -1)
    labels = separate(mask.astype(bool))
    assert labels.max() == 6
    assert [int(labels[30, x]) for x in range(30, 180, 28)] == sorted(set(labels[30, 30:180:28].tolist()))


def test_cells_around_a_gap_come_apart() -> None:
    mask = np.zeros((80, 80), np.uint8)
    for x, y in ((26, 26), (54, 26), (26, 54), (54, 54)):
        cv2.circle(mask, (x, y), 15, 1, -1)
    gap = cv2.connectedComponents(1 - mask, connectivity=4)[0] - 2
    assert gap == 1
    for max_hole in (0, 1000):  # whether the gap is filled or not
        assert separate(mask.astype(bool), SeparationSettings(max_hole=max_hole)).max() == 4


def test_the_valley_of_a_heat_map_parts_what_the_outline_does_not() -> None:
    row, column = np.mgrid[:64, :96]
    inside = ((column - 48) / 34) ** 2 + ((row - 32) / 16) ** 2 < 1
    valley = 0.97 - 0.42 * np.exp(-(((column - 48) / 3.0) ** 2))
    heat = np.where(inside, valley, 0).astype(np.float32)
    assert heat[inside].min() > 0.5
    assert separate(inside).max() == 1
    labels = separate(heat)
    assert labels.max() == 2
    assert labels[32, 30] != labels[32, 66]
    assert np.array_equal(labels > 0, inside)


def test_noise_in_the_heat_map_splits_nothing() -> None:
    rng = np.random.default_rng(3)
    whole = 0
    for _ in range(50):
        cell = fill(outline(rng, rng.uniform(8, 25), rng.uniform(1, 2)))
        heat = np.where(cell, rng.uniform(0.6, 1, cell.shape), rng.uniform(0, 0.3, cell.shape))
        whole += separate(cv2.GaussianBlur(heat, (0, 0), 1).clip(0, 1)).max() == 1
    assert whole >= 48


def test_neck_0_never_splits() -> None:
    mask = np.zeros((40, 80), np.uint8)
    for x in (25, 55):
        cv2.circle(mask, (x, 20), 15, 1, -1)
    assert separate(mask.astype(bool)).max() == 2
    assert separate(mask.astype(bool), SeparationSettings(neck=0)).max() == 1


@pytest.mark.parametrize("settings", [{"min_radius": 8}, {"min_share": 0.6}, {"min_area": 140}])
def test_small_parts_stay_with_their_neighbour(settings: dict[str, Any]) -> None:
    mask = np.zeros((50, 70), np.uint8)
    cv2.circle(mask, (22, 25), 14, 1, -1)
    cv2.circle(mask, (41, 25), 6, 1, -1)
    assert separate(mask.astype(bool)).max() == 2
    labels = separate(mask.astype(bool), SeparationSettings(**settings))
    assert np.array_equal(labels, mask)


def test_a_dividing_line_parts_the_mask() -> None:
    mask = np.zeros((60, 120), np.uint8)
    for x in (25, 55, 85):
        cv2.circle(mask, (x, 30), 16, 1, -1)
    full = separate(mask.astype(bool))
    lined = separate(mask.astype(bool), SeparationSettings(dividing_line=True))
    assert np.array_equal(full > 0, mask > 0)
    assert cv2.connectedComponents((lined > 0).astype(np.uint8), connectivity=8)[0] - 1 == lined.max() == 3
    assert np.array_equal(full[lined > 0], lined[lined > 0])
    assert 0 < np.count_nonzero(full) - np.count_nonzero(lined) < 100


# --- threshold, holes, specks


def test_the_threshold_is_strict() -> None:
    heat = np.full((10, 10), 0.5, np.float32)
    assert separate(heat).max() == 0
    assert separate(heat, SeparationSettings(threshold=0.49)).max() == 1


def test_holes_are_filled_up_to_their_limit() -> None:
    mask = np.ones((40, 40), bool)
    mask[5:10, 5:10] = mask[20:25, 20:26] = mask[0:2, 30:33] = False  # 25 pixels, 30 pixels, open to the border
    labels = separate(mask, SeparationSettings(max_hole=25))
    assert labels[5:10, 5:10].all()
    assert not labels[20:25, 20:26].any()
    assert not labels[0:2, 30:33].any()
    assert np.array_equal(separate(mask, SeparationSettings(max_hole=0)) > 0, mask)


def test_background_is_4_connected() -> None:
    mask = np.ones((20, 20), bool)
    mask[5, 5] = mask[6, 6] = False  # two holes of one pixel, not one of two
    assert separate(mask, SeparationSettings(max_hole=1)).all()


def test_objects_under_the_least_area_are_removed() -> None:
    mask = np.zeros((40, 40), bool)
    mask[2:7, 2:8] = True  # 30 pixels
    mask[20:25, 20:26] = True
    mask[20, 20] = False  # 29 pixels
    labels = separate(mask, SeparationSettings(min_area=30))
    assert labels[2:7, 2:8].all()
    assert np.count_nonzero(labels) == 30


def test_cells_are_8_connected() -> None:
    mask = np.zeros((12, 12), bool)
    mask[:6, :6] = mask[6:, 6:] = True
    assert separate(mask, SeparationSettings(neck=0)).max() == 1


def test_empty_pictures_have_no_cells() -> None:
    assert separate(np.zeros((5, 7), bool)).shape == (5, 7)
    assert separate(np.zeros((0, 7), bool)).shape == (0, 7)
    assert not separate(np.zeros((5, 7), np.float32)).any()


@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24)),
    st.integers(1, 3),
    st.floats(0, 1),
    st.booleans(),
)
def test_any_mask(mask: Mask, enlarged: int, neck: float, line: bool) -> None:
    mask = np.kron(mask, np.ones((enlarged, enlarged), bool))
    settings = SeparationSettings(neck=neck, min_area=0, max_hole=0, dividing_line=line)
    labels = separate(mask, settings)
    assert labels.dtype == np.int32
    values, first = np.unique(labels[labels > 0], return_index=True)
    assert values.tolist() == list(range(1, len(values) + 1))
    assert np.array_equal(first, np.sort(first))
    assert not labels[~mask].any()
    if not line:
        assert labels[mask].all()
    assert np.array_equal(separate(mask.astype(np.float64), settings), labels)


def test_a_turned_picture_gives_the_same_cells() -> None:
    rng = np.random.default_rng(4)
    same = 0
    for _ in range(40):
        mask = np.logical_or(*touching_pair(rng))
        same += separate(mask).max() == separate(np.ascontiguousarray(mask[::-1].T)).max()
    assert same >= 39


def test_a_full_picture_is_quick() -> None:
    rng = np.random.default_rng(5)
    mask = np.zeros((1200, 1600), np.uint8)
    for _ in range(300):
        centre = (int(rng.integers(1600)), int(rng.integers(1200)))
        cv2.ellipse(mask, centre, (int(rng.integers(8, 17)), 10), float(rng.uniform(0, 180)), 0, 360, 1, -1)
    start = time.perf_counter()
    assert separate(mask.astype(bool)).max() > 200
    assert time.perf_counter() - start < 3  # some 0.2 s where nothing else runs


# --- what is refused


@pytest.mark.parametrize(
    "heat",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.full((4, 4), 1.5), np.full((4, 4), np.nan)],
)
def test_what_is_no_heat_map_is_refused(heat: NDArray[Any]) -> None:
    with pytest.raises(InputError, match=r"^heat map: expected"):
        separate(heat)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("threshold", 1.1, 1),
        ("threshold", float("nan"), 0.0),
        ("max_hole", -1, 0),
        ("min_area", "many", 10),
        ("neck", True, 1),
        ("min_radius", None, 3),
        ("min_share", -0.1, 0.1),
        ("dividing_line", 1, True),
    ],
)
def test_settings_that_mean_nothing_are_refused(name: str, wrong: Any, right: Any) -> None:
    with pytest.raises(InputError, match=f"^{name.replace('_', ' ')}: expected"):
        SeparationSettings(**{name: wrong})
    assert getattr(SeparationSettings(**{name: right}), name) == right


def test_a_typical_diameter_sets_what_is_too_small_to_be_a_cell() -> None:
    settings = SeparationSettings(threshold=0.4).for_diameter(40)
    assert (settings.threshold, settings.min_area) == (0.4, round(0.1 * np.pi * 20**2))
    assert SeparationSettings(min_area=30).for_diameter(8).min_area == 30
    heat = np.zeros((90, 90), dtype=np.float32)
    cv2.circle(heat, (30, 30), 20, 1.0, -1)
    heat[70:80, 70:80] = 1
    assert separate(heat).max() == 2
    assert separate(heat, settings).max() == 1
