"""How hard pictures are: each challenge where it was put, and nothing where there is none."""

import dataclasses

import cv2
import numpy as np
import pytest

from fncells.cells import AnnotatedImage
from fncells.challenges import CHALLENGES, as_rows, difficulties, hue_shifts, picture_challenges
from fncells.images import read_picture

SHAPE = (240, 320)


def discs(*places, radius=10, shape=SHAPE):
    labels = np.zeros(shape, np.int32)
    for number, place in enumerate(places, 1):
        cv2.circle(labels, place, radius, number, -1)
    return labels


SPREAD = ((40, 40), (140, 40), (240, 40), (40, 160), (140, 160))


def glowing(labels, height=40.0, background=20.0, noise=2.0, seed=0):
    """Cells of some height above a noisy background; one height, or one for each cell."""
    light = background + np.append(0, np.broadcast_to(height, labels.max()))[labels]
    return np.clip(light + np.random.default_rng(seed).normal(0, noise, labels.shape), 0, 255).astype(np.uint8)


def look(labels, pixels=None, **more):
    image = AnnotatedImage.from_labels("a.png", labels)
    return picture_challenges(image, glowing(labels) if pixels is None else pixels, "green", **more)


def test_class_imbalance_is_background_for_each_pixel_of_a_cell():
    labels = np.zeros((10, 10), np.int32)
    labels[2:4, 2:7] = 1
    assert look(labels).background_per_signal == 9
    assert look(np.zeros((10, 10), np.int32)).background_per_signal is None


def test_crowding_is_told_by_distances_and_by_gaps():
    apart = look(discs(*SPREAD))
    assert apart.neighbour_distance_px == 100
    assert apart.neighbour_diameters == pytest.approx(100 / 20.1, rel=0.02)
    assert apart.close_percent == 0
    for gap, close in ((0, 100 * 2 / 3), (2, 100 * 2 / 3), (3, 0)):
        assert look(discs((40, 40), (61 + gap, 40), (200, 150))).close_percent == pytest.approx(close), gap
    assert look(discs((40, 40))).neighbour_distance_px is None
    assert look(discs((40, 40))).close_percent == 0
    assert look(discs()).close_percent is None


@pytest.mark.parametrize("slope", [0, 60])
@pytest.mark.parametrize(("height", "noise"), [(40, 2), (40, 6), (10, 4)])
def test_contrast_is_counted_in_noises_also_on_uneven_light(height, noise, slope):
    labels = discs(*SPREAD)
    light = np.linspace(0, slope, SHAPE[1]) + glowing(labels, height, noise=noise).astype(float)
    found = look(labels, np.clip(light, 0, 255).astype(np.uint8))
    assert found.contrast_to_noise == pytest.approx(height / noise, rel=0.15)
    assert found.faint_percent == (100 if height < 3 * noise else 0)


def test_light_that_varies_from_cell_to_cell_is_uneven():
    labels = discs(*SPREAD)
    assert look(labels, glowing(labels, [40] * 5)).contrast_spread < 0.05
    assert look(labels, glowing(labels, [20, 30, 40, 60, 80])).contrast_spread == pytest.approx(30 / 40, rel=0.1)
    assert look(discs((40, 40))).contrast_spread is None
    assert look(labels, glowing(labels, -15)).contrast_spread is None


def coloured(labels, cells, background, noise=0.0):
    colours = np.array([background, *cells], dtype=float)[labels]
    return np.clip(colours + np.random.default_rng(0).normal(0, noise, colours.shape), 0, 255).astype(np.uint8)


def test_hues_tell_cells_from_background_or_do_not():
    labels = discs((40, 40), (200, 150))
    red, green, dim = (200, 0, 0), (0, 60, 0), (40, 0, 0)
    other = look(labels, coloured(labels, [red, red], green))
    assert other.background_hue_deg == pytest.approx(120, abs=1)
    assert other.hue_difference_deg == pytest.approx(120, abs=1)
    assert look(labels, coloured(labels, [red, red], dim)).hue_difference_deg == pytest.approx(0, abs=1)
    # Around 0 the hues 350 and 10 degrees are 20 apart.
    near = look(labels, coloured(labels, [(200, 0, 33)] * 2, (60, 10, 0)))
    assert near.hue_difference_deg == pytest.approx(20, abs=1.5)
    assert look(labels).background_hue_deg is None
    assert look(labels, coloured(labels, [(90, 90, 90)] * 2, (30, 30, 30))).hue_difference_deg is None


def test_saturation_varies_or_does_not():
    labels = discs((40, 40), (200, 150))
    assert look(labels, coloured(labels, [(200, 0, 0)] * 2, (9, 0, 0))).saturation_spread == pytest.approx(0, abs=1e-6)
    uneven = look(labels, coloured(labels, [(200, 0, 0), (200, 100, 100)], (9, 0, 0)))
    assert uneven.saturation_spread == pytest.approx(0.25, abs=0.01)


def test_bright_things_that_are_no_cells_are_counted_by_their_shape():
    labels = discs(*SPREAD)
    pixels = glowing(labels)
    assert look(labels, pixels).artefacts == 0
    cv2.circle(pixels, (240, 160), 2, 70, -1)
    cv2.circle(pixels, (270, 200), 2, 70, -1)
    cv2.line(pixels, (90, 90), (130, 110), 70, 4)
    cv2.line(pixels, (10, 215), (310, 225), 70, 5)
    cv2.circle(pixels, (290, 90), 9, 60, -1)
    found = look(labels, pixels)
    assert found.artefact_points == 2
    assert found.artefact_filaments == 1
    assert found.artefact_stripes == 1
    assert found.ambiguous_objects == 1
    assert found.artefacts == 5
    # What is much fainter than cells, or slow light beneath them, is none of these.
    faint = glowing(labels)
    cv2.circle(faint, (290, 90), 9, 32, -1)
    faint += (20 * np.sin(np.linspace(0, np.pi, SHAPE[1]))).astype(np.uint8)
    assert look(labels, faint).artefacts == 0


def test_a_picture_without_cells_needs_a_yardstick():
    empty = discs()
    pixels = glowing(empty)
    cv2.circle(pixels, (290, 90), 9, 60, -1)
    alone = look(empty, pixels)
    assert alone.artefacts is None
    assert alone.contrast_to_noise is None
    assert look(empty, pixels, yardstick=(40.0, 20.0)).ambiguous_objects == 1


@pytest.mark.parametrize("pixels", [np.zeros(SHAPE, np.uint8), np.full((*SHAPE, 3), 7, np.uint16)])
def test_pictures_without_structure_are_no_error(pixels):
    found = look(discs(*SPREAD), pixels)
    assert found.contrast_to_noise == 0
    assert found.faint_percent == 100


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 9)])
def test_the_smallest_pictures_are_no_error(shape):
    assert look(np.zeros(shape, np.int32), np.zeros((*shape, 3), np.uint8)).n_cells == 0


def test_the_same_picture_in_16_bit_is_as_hard():
    labels = discs(*SPREAD)
    pixels = np.stack([glowing(labels, seed=seed) for seed in range(3)], axis=2)
    eight, sixteen = look(labels, pixels), look(labels, pixels.astype(np.uint16) * 257)
    for field in dataclasses.fields(eight):
        if field.name != "cell_brightness":
            one, other = getattr(eight, field.name), getattr(sixteen, field.name)
            assert one == (pytest.approx(other) if isinstance(other, float) else other), field.name


def test_pictures_are_ranked_within_their_collection():
    easy, hard = look(discs(*SPREAD)), look(discs((40, 40), (62, 40), (84, 40)), None)
    twin = dataclasses.replace(easy, picture="twin.png")
    assert difficulties([easy]) == [0.5]
    assert difficulties([]) == []
    assert difficulties([easy, twin]) == [0.5, 0.5]
    alone, other = difficulties([easy, dataclasses.replace(hard, collection="red")])
    assert alone == other == 0.5
    three = difficulties([easy, hard, twin])
    assert three[1] > three[0] == three[2]
    assert all(0 <= one <= 1 for one in three)
    unknown = dataclasses.replace(easy, **{one.measure: None for one in CHALLENGES if one.measure != "artefacts"})
    assert difficulties([easy, hard, unknown])[1] > 0.5


def test_rows_hold_all_that_was_measured():
    one, other = look(discs(*SPREAD)), look(discs((40, 40)))
    rows = as_rows([one, other], [0.1, 0.9])
    assert [row["difficulty"] for row in rows] == [0.1, 0.9]
    assert {challenge.measure for challenge in CHALLENGES} <= set(rows[0])
    assert {"hue_shift_deg", "picture", "collection", "faint_percent"} <= set(rows[0])


def test_hue_shifts_are_from_the_mean_of_the_collection_around_the_circle():
    base = look(discs(*SPREAD))
    hues = [350.0, 10.0, None, 90.0]
    made = [dataclasses.replace(base, background_hue_deg=hue) for hue in hues]
    made[3] = dataclasses.replace(made[3], collection="red")
    assert hue_shifts(made) == [pytest.approx(10), pytest.approx(10), None, pytest.approx(0)]


def test_challenges_are_told_in_words():
    picture = dataclasses.replace(look(discs(*SPREAD)), background_per_signal=2150.7, contrast_to_noise=0.0001)
    told = {challenge.measure: challenge.told(picture) for challenge in CHALLENGES}
    assert told["background_per_signal"] == "class imbalance: 2151 background pixels for each of a cell"
    assert told["contrast_to_noise"].startswith("low contrast: 0 noises")
    assert told["saturation_spread"] == "uneven saturation: unknown"


def test_real_pictures_are_hard_in_the_ways_the_paper_says(data):
    """The red picture of a rat is crowded with fibres; in the yellow ones cells are far apart."""
    found = {}
    for name in ("yellow/Mar24bS1C2R3_LHl_200x", "red/RT353S2C1R5_r1"):
        collection, stem = name.split("/")
        pixels = read_picture(data / "fnc" / collection / "images" / f"{stem}.png").pixels
        mask = read_picture(data / "fnc" / collection / "masks" / f"{stem}.png").pixels
        image = AnnotatedImage.from_mask(stem, np.atleast_3d(mask)[..., 0] > 0)
        found[collection] = picture_challenges(image, pixels, collection)
    assert found["red"].neighbour_diameters < found["yellow"].neighbour_diameters
    assert found["red"].artefact_filaments > found["yellow"].artefact_filaments
    assert found["red"].hue_difference_deg < 5 < found["yellow"].hue_difference_deg
    assert found["yellow"].background_per_signal > found["red"].background_per_signal
