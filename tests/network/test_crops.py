import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fncells.errors import InputError
from fncells.inference import normalise
from fncells.network.crops import Augmentation, Crops, CropSettings, Draws, TrainingPicture, target_and_weight

EVERYTHING = Augmentation(
    quarter_turns=True,
    zoom=(0.3, 3.0),
    diameter_px=(5, 30),
    lighting=0.2,
    gamma=0.5,
    blur=0.5,
    noise=0.5,
    gradient=0.5,
    distractors=0.8,
)


def picture(seed=0, shape=(48, 64), cells=4, normalisation="rgb", dtype=np.uint8, name="a.png"):
    random = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    rows, columns = np.indices(shape)
    for number in range(1, cells + 1):
        y, x = random.uniform(0, shape)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < random.uniform(3, 7) ** 2] = number
    full = np.iinfo(dtype).max
    pixels = (random.uniform(0, 0.3, (*shape, 3)) * full + (labels > 0)[..., np.newaxis] * 0.5 * full).astype(dtype)
    return TrainingPicture(name, pixels, labels, normalisation)


def as_bytes(item):
    return b"".join(item[key].numpy().tobytes() for key in sorted(item))


@pytest.mark.parametrize("augmentation", [None, Augmentation(), EVERYTHING])
def test_a_crop_depends_on_seed_and_number_alone(augmentation):
    settings = CropSettings(size_px=32, on_cells=0.5, gap_px=2, between_weight=3, augmentation=augmentation)
    pictures = [picture(0), picture(1), picture(2, cells=0)]
    forwards = [as_bytes(Crops(pictures, settings, 7)[number]) for number in range(12)]
    again = Crops(pictures, settings, 7)
    assert [as_bytes(again[number]) for number in reversed(range(12))] == forwards[::-1]
    assert len(set(forwards)) == 12
    other = Crops(pictures, settings, 8)
    assert all(as_bytes(other[number]) != crop for number, crop in enumerate(forwards))


@pytest.mark.parametrize("normalisation", ["rgb", "brightness"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("augmentation", [None, EVERYTHING])
def test_crops_are_what_the_network_takes(normalisation, dtype, augmentation):
    crops = Crops(
        [picture(normalisation=normalisation, dtype=dtype)],
        CropSettings(32, normalisation, on_cells=0.5, augmentation=augmentation),
        1,
    )
    for number in range(8):
        item = crops[number]
        assert item["picture"].shape == (3, 32, 32)
        assert item["target"].shape == item["weight"].shape == (1, 32, 32)
        assert all(value.dtype == torch.float32 and value.is_contiguous() for value in item.values())
        assert item["picture"].min() >= 0
        assert item["picture"].max() <= 1
        assert set(item["target"].unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("normalisation", ["rgb", "brightness"])
def test_without_augmentation_crops_are_windows_of_the_normalised_picture(normalisation):
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (40, 56, 3), np.uint8)
    labels = random.integers(0, 3, (40, 56))
    whole = normalise(pixels, normalisation).transpose(2, 0, 1)
    crops = Crops(
        [TrainingPicture("a.png", pixels, labels, normalisation)],
        CropSettings(24, normalisation, augmentation=None),
        2,
    )
    for number in range(6):
        item = crops[number]
        windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 24, 24))[0]
        differences = np.abs(windows - item["picture"].numpy()).max(axis=(2, 3, 4))
        row, column = np.unravel_index(differences.argmin(), differences.shape)
        assert differences[row, column] < 1e-5
        assert np.array_equal(item["target"][0].numpy(), labels[row : row + 24, column : column + 24] > 0)


def test_picture_and_target_are_moved_together():
    """The picture is its own mask here, so that any shift between the two would show."""
    labels = picture(3, (96, 96), cells=8).labels
    crops = Crops(
        [TrainingPicture("a.png", ((labels > 0) * 255).astype(np.uint8), labels)],
        CropSettings(64, augmentation=Augmentation(quarter_turns=True, zoom=(0.5, 2.0), lighting=0.0)),
        3,
    )
    for number in range(12):
        item = crops[number]
        inside = item["picture"][0] > 0.5
        assert (inside != (item["target"][0] > 0.5)).float().mean() < 0.04


def test_flips_turns_and_zooms_reach_every_orientation():
    pixels = np.zeros((32, 32), np.uint8)
    pixels[4:8, 4:14] = 255  # an L, unlike all its mirror images and turns
    pixels[4:24, 4:8] = 255
    one = TrainingPicture("a.png", pixels, (pixels > 0).astype(int))
    upright = Augmentation(quarter_turns=True, rotation_deg=0, zoom=(1, 1), lighting=0)
    crops = Crops([one], CropSettings(32, augmentation=upright), 0)
    seen = {crops[number]["picture"][0].numpy().tobytes() for number in range(100)}
    expected = {
        np.ascontiguousarray(np.rot90(side, turns)).astype(np.float32).tobytes()
        for side in (pixels / 255, pixels[:, ::-1] / 255)
        for turns in range(4)
    }
    assert seen == expected


def test_cells_come_in_the_diameters_asked_for():
    labels = np.zeros((128, 128), np.int32)
    rows, columns = np.indices(labels.shape)
    labels[(rows - 64) ** 2 + (columns - 64) ** 2 < 10**2] = 1
    one = TrainingPicture("a.png", (labels * 200).astype(np.uint8), labels)
    assert one.diameter_px == pytest.approx(20, abs=0.3)
    augmentation = Augmentation(zoom=(0.25, 2.5), diameter_px=(8, 40))
    crops = Crops([one], CropSettings(128, augmentation=augmentation), 4)
    areas = np.array([crops[number]["target"].sum().item() for number in range(40)])
    diameters = np.sqrt(areas * 4 / np.pi)
    assert 6 < diameters.min() < 12
    assert 30 < diameters.max() < 42
    limited = Augmentation(zoom=(0.9, 1.1), diameter_px=(100, 200))
    assert Crops([one], CropSettings(128, augmentation=limited), 4)[0]["target"].sum() < 1.3 * (labels > 0).sum()


def test_crops_on_cells_hold_cells():
    labels = np.zeros((400, 400), np.int32)
    labels[300:306, 20:26] = 1
    one = TrainingPicture("a.png", labels.astype(np.uint8), labels)
    with_cells = [
        sum(bool(Crops([one], CropSettings(32, on_cells=share), 5)[n]["target"].any()) for n in range(30))
        for share in (0.0, 1.0)
    ]
    assert with_cells[0] < 5
    assert with_cells[1] == 30


def test_weights_say_how_often_a_picture_is_taken():
    bright = TrainingPicture("a.png", np.full((16, 16), 255, np.uint8), np.zeros((16, 16), int))
    dark = TrainingPicture("b.png", np.zeros((16, 16), np.uint8), np.zeros((16, 16), int))
    crops = Crops([bright, dark], CropSettings(8, augmentation=None), 6, weights=[3, 1])
    share = np.mean([crops[number]["picture"].max().item() for number in range(200)])
    assert 0.65 < share < 0.85
    in_turn = Crops([bright, dark], CropSettings(8, augmentation=None), 6)
    assert [in_turn[number]["picture"].max().item() for number in range(4)] == [1, 0, 1, 0]


labels_maps = arrays(np.int32, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 4))


@given(labels_maps, st.integers(1, 4))
def test_cells_never_touch_across_the_gap(labels, gap):
    target, _ = target_and_weight(labels, gap, 1.0)
    inside = target > 0
    assert not inside[labels == 0].any()
    apart = (gap + 1) // 2
    for y, x in zip(*np.nonzero(inside), strict=True):
        near = labels[max(0, y - apart) : y + apart + 1, max(0, x - apart) : x + apart + 1]
        assert set(np.unique(near)) <= {0, labels[y, x]}


@given(labels_maps)
def test_without_a_gap_the_target_is_the_mask(labels):
    target, weight = target_and_weight(labels, 0, 1.0)
    assert np.array_equal(target, labels > 0)
    assert (weight == 1).all()


def test_pixels_between_close_cells_weigh_more():
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 3:10] = 1
    labels[5:15, 12:20] = 2
    target, weight = target_and_weight(labels, 2, 4.0)
    assert (weight[7:13, 10:12] == 4).all()
    assert (weight[target > 0] == 1).all()
    assert weight[:, 25:].max() == 1
    assert (target[5:15, 3:10] == 1).all()  # they do not touch: nothing is cut


def test_sparse_and_large_label_values_are_taken():
    labels = np.zeros((300, 300), np.int64)
    labels[10:20, 10:20] = 4_000_000_000
    labels[10:20, 20:30] = 70_000
    one = TrainingPicture("a.png", np.zeros((300, 300), np.uint8), labels)
    crops = Crops([one], CropSettings(296, gap_px=2, augmentation=None), 0)
    assert crops[0]["target"].sum() > 100
    many = np.arange(300 * 300).reshape(300, 300)
    one = TrainingPicture("a.png", np.zeros((300, 300), np.uint8), many)
    assert np.unique(one.labels).size == many.size


@pytest.mark.parametrize("first", [0, 1])
def test_centres_and_diameter_are_those_of_the_cells(first):
    labels = np.full((20, 30), first, np.int32)  # with first = 1 there is no background
    labels[4:8, 6:10] = 5
    one = TrainingPicture("a.png", np.zeros((20, 30), np.uint8), labels)
    assert [7.5, 5.5] in one.centres.tolist()
    assert len(one.centres) == 1 + first
    if not first:
        assert one.diameter_px == pytest.approx(np.sqrt(16 * 4 / np.pi))


def test_a_picture_without_cells_gives_empty_targets():
    crops = Crops([picture(cells=0)], CropSettings(32, on_cells=1.0, gap_px=2, augmentation=EVERYTHING), 0)
    assert not any(crops[number]["target"].any() for number in range(5))


def test_pictures_smaller_than_the_crop_are_mirrored():
    one = TrainingPicture("a.png", np.full((10, 12), 200, np.uint8), np.ones((10, 12), int))
    item = Crops([one], CropSettings(32, augmentation=None), 0)[0]
    assert item["target"].all()
    assert item["picture"].min() > 0.7


def test_draws_go_on_from_epoch_to_epoch_and_mix():
    draws = Draws(10, 3)
    first = list(draws)
    draws.set_epoch(1)
    second = list(draws)
    assert sorted(first) == list(range(10))
    assert sorted(second) == list(range(10, 20))
    assert first != sorted(first)
    fixed = Draws(4, 3, fixed=True)
    fixed.set_epoch(5)
    assert list(fixed) == [0, 1, 2, 3]
    assert len(fixed) == 4


def test_labels_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"a.png: expected labels of 12x10, found 10x12"):
        TrainingPicture("a.png", np.zeros((10, 12), np.uint8), np.zeros((12, 10), int))
    assert TrainingPicture("a.png", np.zeros((10, 12), np.uint8), np.zeros((10, 12), int)).centres.shape == (0, 2)


def test_nothing_to_cut_from_is_refused():
    with pytest.raises(InputError, match="found none"):
        Crops([], CropSettings(), 0)
