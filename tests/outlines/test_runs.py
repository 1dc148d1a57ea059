import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from fncells.cells import AnnotatedImage, Region
from fncells.outlines import compressed_runs, encoded_regions, region_of_runs, runs_in, runs_of_regions
from formats.label_maps import label_maps

masks = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30))


def same_as_pycocotools(mask):
    [runs] = runs_of_regions([Region(mask, 0, 0)], mask.shape)
    [text] = encoded_regions([Region(mask, 0, 0)], mask.shape)
    assert compressed_runs(runs) == text
    assert text.encode() == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    for form in (text, text.encode()):
        np.testing.assert_array_equal(runs_in(form), runs)
    found = region_of_runs(runs, mask.shape)
    back = np.zeros_like(mask)
    if found is not None:
        assert found.mask.any(axis=0)[[0, -1]].all()
        assert found.mask.any(axis=1)[[0, -1]].all()
        height, width = found.mask.shape
        back[found.top : found.top + height, found.left : found.left + width] = found.mask
    np.testing.assert_array_equal(back, mask)


@given(masks)
@settings(max_examples=300)
def test_runs_and_their_text_are_pycocotools_own(mask):
    same_as_pycocotools(mask)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.9999, 1.0])
def test_large_pictures_have_long_numbers(share):
    mask = np.random.default_rng(1).random((1704, 2272)) < share
    same_as_pycocotools(mask)


def test_a_cell_in_a_box_is_encoded_where_it_lies():
    mask = np.zeros((9, 12), dtype=bool)
    mask[3:7, 4:9] = True
    mask[4, 5] = False
    boxed, whole = runs_of_regions([Region(mask[3:7, 4:9], left=4, top=3), Region(mask, 0, 0)], (9, 12))
    np.testing.assert_array_equal(boxed, whole)


@given(label_maps())
@settings(max_examples=200)
def test_cells_encoded_together_are_those_encoded_one_by_one(labels):
    regions = AnnotatedImage.from_labels("a", labels).regions
    together = encoded_regions(regions, labels.shape)
    for number, text in zip(np.unique(labels[labels > 0]), together, strict=True):
        mask = np.asfortranarray((labels == number).astype(np.uint8))
        assert text.encode() == coco_mask.encode(mask)["counts"]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20))
def test_any_runs_survive_their_text(runs):
    np.testing.assert_array_equal(runs_in(compressed_runs(np.array(runs, dtype=np.int64))), runs)


def test_runs_of_no_length_between_others_are_read():
    found = region_of_runs(np.array([2, 0, 1, 3, 0, 2, 1]), (3, 3))
    assert (found.left, found.top) == (1, 0)
    assert found.mask.T.ravel().tolist() == [True, True, True, True, True, False]
    assert region_of_runs(np.array([5, 0, 4]), (3, 3)) is None


@pytest.mark.parametrize("text", ["", "ä", "~~", "/1", "1P", b"\xff", "P" * 11 + "0", "\x00"])
def test_what_is_no_text_of_runs_is_none(text):
    assert runs_in(text) is None


def test_negative_and_giant_runs_are_none():
    assert runs_in("N") is None  # -2
    assert runs_in("02N0N") is None  # 0, 2, -2, then 2 + -2 twice
    assert runs_in("ooooooo7") is None


@given(st.binary(max_size=40))
@settings(max_examples=500)
def test_any_bytes_are_runs_or_none(data):
    runs = runs_in(data)
    assert runs is None or (runs.min() >= 0 and runs.max() < 2**31)


def test_a_region_larger_than_any_is_refused():
    with pytest.raises(OverflowError):
        region_of_runs(np.array([0, 2**31 - 1, 1]), (2**15, 2**16))
