"""Matching, scores and agreement."""

import json
import math
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops

from evaluation.made import box, dot, labelled, many_pictures, picture, random_cells, random_labels, row_of
from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.evaluation import (
    EvaluateSettings,
    Tally,
    agree,
    evaluate,
    match_centres,
    match_iou,
    match_labels,
    matching,
    overlaps,
    score_table,
)
from fncells.evaluation.scores import SCORES

PUBLISHED = EvaluateSettings(rule="published", bootstrap=0)
PLAIN = EvaluateSettings(bootstrap=0)


def own_pixels(image: AnnotatedImage) -> list[set[int]]:
    return [set(indices.tolist()) for indices in image.pixels]


def iou_table(truth: AnnotatedImage, prediction: AnnotatedImage) -> np.ndarray:
    table = np.zeros((len(truth.cells), len(prediction.cells)))
    for i, mine in enumerate(own_pixels(truth)):
        for j, theirs in enumerate(own_pixels(prediction)):
            table[i, j] = len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0
    return table


def best_of_all(gain: np.ndarray, allowed: np.ndarray) -> tuple[int, float]:
    """Try every one-to-one pairing: the most pairs, then the greatest gain."""

    def search(row: int, free: frozenset[int]) -> tuple[int, float]:
        if row == len(gain):
            return (0, 0.0)
        results = [search(row + 1, free)]
        for column in free:
            if allowed[row, column]:
                pairs, total = search(row + 1, free - {column})
                results.append((pairs + 1, total + gain[row, column]))
        return max(results)

    return search(0, frozenset(range(gain.shape[1])))


# --- overlaps


@pytest.mark.parametrize("canvas", [matching._LARGEST_CANVAS, 10], ids=["looked up", "sorted"])
def test_overlaps_are_those_of_the_cells_own_pixels(canvas, monkeypatch):
    monkeypatch.setattr(matching, "_LARGEST_CANVAS", canvas)
    rng = np.random.default_rng(1)
    kinds = set()
    for _ in range(150):
        truth, prediction = (picture(*random_cells(rng, 5, dots=True), shape=(12, 12)) for _ in range(2))
        expected = [[len(mine & theirs) for theirs in own_pixels(prediction)] for mine in own_pixels(truth)]
        found = overlaps(truth, prediction)
        assert found.shape == (len(truth.cells), len(prediction.cells))
        assert np.array_equal(found.toarray(), np.array(expected).reshape(found.shape))
        assert (found.data > 0).all()
        kinds.add(tuple(int(side.areas.sum()) == int(side.mask.sum()) for side in (truth, prediction)))
    assert len(kinds) == 4  # each side with and without overlaps of its own


def test_more_pairs_of_cells_than_pixels_need_no_table_of_all_pairs():
    labels = np.arange(1, 65).reshape(8, 8)
    assert np.array_equal(overlaps(labelled(labels), labelled(labels)).toarray(), np.eye(64))
    assert match_labels(labels, labels).tally == Tally(64, 0, 0)


def test_overlaps_of_pictures_of_different_sizes_are_refused_in_one_line_naming_both():
    truth, prediction = picture(name="a.png", shape=(4, 6)), picture(name="b.tif", shape=(4, 5))
    with pytest.raises(
        InputError, match=r"^a\.png: expected the size of its prediction b\.tif, 5 x 4 pixels, found 6 x 4"
    ):
        overlaps(truth, prediction)
    assert overlaps(truth, prediction.with_shape((4, 6))).shape == (0, 0)


# --- IoU


@pytest.mark.parametrize(
    ("shared", "union", "threshold"), [(5, 10, 0.5), (7, 10, 0.7), (3, 10, 0.3), (1, 3, 1 / 3), (10, 10, 1.0)]
)
def test_an_iou_exactly_at_the_threshold_counts(shared, union, threshold):
    truth, prediction = labelled(row_of(union, -2)), labelled(row_of(shared, shared - union - 2))
    assert match_iou(truth, prediction, threshold).tally == Tally(1, 0, 0)
    assert match_iou(truth, prediction, min(1, np.nextafter(threshold, 2))).tally.tp == (threshold == 1)


def test_a_cell_is_the_partner_of_one_only():
    halves = match_iou(labelled(row_of(4)), labelled(row_of(2, 2)), 0.5)
    assert halves.tally == Tally(1, 1, 0)
    assert halves.values.tolist() == [0.5]


def test_more_pairs_go_before_a_greater_total():
    # True A overlaps both predictions, true B only the better of them: A must step back to the worse.
    truth = picture(box(0, 0, 19, 0), box(0, 1, 9, 1))
    prediction = picture(box(1, 0, 18, 0), box(0, 0, 9, 1))
    found = match_iou(truth, prediction, 0.3)
    assert found.tally == Tally(2, 0, 0)
    assert found.pairs.tolist() == [[0, 0], [1, 1]]
    rivals = picture(box(0, 0, 9, 1), box(0, 0, 5, 0)), picture(box(0, 0, 9, 0), box(0, 0, 9, 1))
    table = iou_table(*rivals)
    assert table[0, 1] == 1
    assert table[1, 1] == 0.3
    found = match_iou(*rivals, 0.3)
    assert found.values.sum() == pytest.approx(max(table[0, 0] + table[1, 1], table[0, 1] + table[1, 0]))


def test_iou_matching_is_the_optimum_over_all_pairings():
    cases = 1000
    rng = np.random.default_rng(2)
    contested = 0
    for _ in range(cases):
        truth, prediction = (picture(*random_cells(rng, 6), shape=(12, 12)) for _ in range(2))
        threshold = float(rng.choice([0.05, 0.2, 1 / 3, 0.5]))
        table = iou_table(truth, prediction)
        pairs, total = best_of_all(table, table >= threshold)
        found = match_iou(truth, prediction, threshold)
        rows, columns = found.pairs.T
        assert found.tally == Tally(pairs, len(prediction.cells) - pairs, len(truth.cells) - pairs)
        assert len(set(rows)) == len(set(columns)) == pairs
        assert found.values.tolist() == table[rows, columns].tolist()
        assert found.values.sum() == pytest.approx(total, abs=1e-9)
        contested += bool(((table >= threshold).sum(axis=0) > 1).any())
    assert contested > cases / 5


def test_equal_boxes_each_find_a_partner():
    same = picture(*[box(3, 3, 9, 9)] * 5)
    assert match_iou(same, same).tally == Tally(5, 0, 0)
    assert match_centres(same, same, 0).tally == Tally(5, 0, 0)


def test_iou_matching_equals_that_of_stardist():
    cases = 1000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matching = pytest.importorskip("stardist.matching").matching
        rng = np.random.default_rng(3)
        pairs = 0
        for _ in range(cases):
            truth, prediction = random_labels(rng)
            threshold = float(rng.choice([0.1, 0.3, 0.5, 0.7, 0.9]))
            theirs = matching(truth, prediction, thresh=threshold, report_matches=True)
            for ours in (
                match_labels(truth, prediction, threshold),
                match_iou(labelled(truth), labelled(prediction), threshold),
            ):
                assert (ours.tally.tp, ours.tally.fp, ours.tally.fn) == (theirs.tp, theirs.fp, theirs.fn)
                total = sum(score for score in theirs.matched_scores if score >= threshold)
                assert ours.values.sum() >= total - 1e-6
                if threshold >= 0.5:
                    assert ours.values.sum() == pytest.approx(total, abs=1e-5)
            pairs += theirs.tp
        assert pairs > cases


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.2, 0.5, 0.8]))
def test_matching_turned_round_gives_the_same_pairs(seed, threshold):
    truth, prediction = (labelled(side) for side in random_labels(np.random.default_rng(seed), 32))
    there, back = match_iou(truth, prediction, threshold), match_iou(prediction, truth, threshold)
    assert there.values.sum() == pytest.approx(back.values.sum())
    assert there.tally == Tally(back.tally.tp, back.tally.fn, back.tally.fp)
    there, back = match_centres(truth, prediction, 8), match_centres(prediction, truth, 8)
    assert there.values.sum() == pytest.approx(back.values.sum())
    assert there.tally == Tally(back.tally.tp, back.tally.fn, back.tally.fp)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, math.nan])
def test_iou_thresholds_without_sense_are_refused(threshold):
    with pytest.raises(InputError, match="IoU threshold: expected a number above 0 and up to 1"):
        match_iou(picture(), picture(), threshold)
    assert match_iou(picture(), picture(), 1).tally == Tally(0, 0, 0)


# --- label pictures


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_label_pictures_match_as_the_cells_traced_from_them(dtype):
    rng = np.random.default_rng(4)
    for _ in range(10):
        truth, prediction = random_labels(rng)
        straight = match_labels(truth.astype(dtype), prediction.astype(np.uint16), 0.4)
        traced = match_iou(labelled(truth), labelled(prediction), 0.4)
        assert straight.pairs.tolist() == traced.pairs.tolist()
        assert straight.values.tolist() == traced.values.tolist()
        assert straight.tally == traced.tally


def test_the_values_of_labels_do_not_matter():
    truth, prediction = random_labels(np.random.default_rng(5))
    expected = match_labels(truth, prediction)
    assert expected.tally.tp > 2
    far = np.where(truth > 0, truth.astype(np.int64) * 10**12, 0)
    below = np.where(prediction > 0, prediction.astype(np.int64) - 10**9, 0)
    found = match_labels(far, below)
    assert found.pairs.tolist() == expected.pairs.tolist()
    assert found.tally == expected.tally
    mixed = np.where(truth > 1, truth.astype(np.int64), -truth.astype(np.int64))
    assert match_labels(mixed, prediction).tally == expected.tally


def test_label_pictures_may_be_empty_or_full():
    nothing, one = np.zeros((4, 4), dtype=np.uint8), np.ones((4, 4), dtype=np.uint8)
    assert match_labels(nothing, nothing).tally == Tally(0, 0, 0)
    assert match_labels(nothing, one).tally == Tally(0, 1, 0)
    assert match_labels(one, nothing).tally == Tally(0, 0, 1)
    assert match_labels(one, one).tally == Tally(1, 0, 0)
    assert match_labels(nothing[:0], nothing[:0]).tally == Tally(0, 0, 0)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((4, 4), dtype=bool)])
def test_arrays_that_are_no_label_pictures_are_refused(wrong):
    with pytest.raises(InputError, match="label picture: expected whole numbers, height x width"):
        match_labels(np.zeros((4, 4), dtype=np.uint8), wrong)


def test_label_pictures_of_two_sizes_are_refused():
    with pytest.raises(InputError, match="two of one size, 5 x 4 pixels, found 4 x 5 pixels"):
        match_labels(np.zeros((4, 5), dtype=np.uint8), np.zeros((5, 4), dtype=np.uint8))


# --- centres


def test_a_distance_exactly_at_the_limit_counts():
    truth, prediction = picture(dot(1, 1)), picture(dot(25, 33))
    assert match_centres(truth, prediction, 40).tally == Tally(1, 0, 0)
    assert match_centres(truth, prediction, 39.999).tally == Tally(0, 1, 1)
    assert match_centres(truth, prediction, 40).values.tolist() == [40]


def test_rounded_means_do_not_decide_a_distance_at_the_limit(monkeypatch):
    # Centres of three pixels in an L lie at thirds, which floats cannot hold.
    corner = np.zeros((64, 64), dtype=np.uint8)
    corner[0, 0:2] = corner[1, 0] = 1
    found = {True: 0, False: 0}
    for place in range(8):
        for right, down in ((3, 4), (6, 8), (20, 21), (24, 32), (40, 9)):
            truth = labelled(np.roll(corner, (place, place), axis=(0, 1)))
            moved = labelled(np.roll(corner, (place + down, place + right), axis=(0, 1)))
            distance = math.hypot(right, down)
            assert match_centres(truth, moved, distance).tally == Tally(1, 0, 0)
            assert match_centres(truth, moved, distance - 1e-6).tally == Tally(0, 1, 1)
            with monkeypatch.context() as patch:
                patch.setattr(matching, "_ROUNDING", 0.0)
                found[match_centres(truth, moved, distance).tally.tp == 1] += 1
    assert found[False] > 0  # there are such cases


def test_one_prediction_between_two_true_cells_finds_one():
    assert match_centres(picture(dot(10, 10), dot(20, 10)), picture(dot(14, 10))).pairs.tolist() == [[0, 0]]
    assert match_centres(picture(dot(10, 10), dot(20, 10)), picture(dot(14, 10))).tally == Tally(1, 0, 1)


def test_more_pairs_go_before_a_lesser_distance():
    found = match_centres(picture(dot(0, 0), dot(10, 0)), picture(dot(9, 0), dot(21, 0)), 11)
    assert found.pairs.tolist() == [[0, 0], [1, 1]]
    assert found.values.tolist() == [9, 11]


def test_centre_matching_is_the_optimum_over_all_pairings():
    cases = 1000
    rng = np.random.default_rng(6)
    contested = 0
    for _ in range(cases):
        truth, prediction = (picture(*random_cells(rng, 6, dots=True), shape=(16, 16)) for _ in range(2))
        distance = float(rng.choice([0, 1, 2.5, 5]))
        apart = truth.centres[:, np.newaxis] - prediction.centres[np.newaxis]
        table = np.hypot(apart[..., 0], apart[..., 1])
        pairs, total = best_of_all(-table, table <= distance + 1e-9)
        found = match_centres(truth, prediction, distance)
        rows, columns = found.pairs.T
        assert found.tally == Tally(pairs, len(prediction.cells) - pairs, len(truth.cells) - pairs)
        assert len(set(rows)) == len(set(columns)) == pairs
        assert np.allclose(found.values, table[rows, columns])
        assert found.values.sum() == pytest.approx(-total, abs=1e-9)
        contested += bool(((table <= distance).sum(axis=0) > 1).any())
    assert contested > cases / 5


def test_a_cell_without_any_outline_has_no_centre_and_stays_unfound():
    nowhere = Cell(())
    assert match_centres(picture(nowhere, dot(3, 3)), picture(dot(3, 3))).pairs.tolist() == [[1, 0]]
    assert match_centres(picture(nowhere), picture(dot(3, 3))).tally == Tally(0, 1, 1)


@pytest.mark.parametrize("distance", [-1, math.inf, math.nan])
def test_distances_without_sense_are_refused(distance):
    with pytest.raises(InputError, match="distance: expected 0 or more pixels"):
        match_centres(picture(), picture(), distance)
    assert match_centres(picture(), picture(), 0).tally == Tally(0, 0, 0)


# --- dots


def test_dots_count_in_detection_alone():
    truth, prediction = picture(box(2, 2, 8, 8), dot(30, 30)), picture(box(2, 2, 8, 8), dot(31, 30), dot(60, 60))
    assert match_iou(truth, prediction).tally == Tally(1, 0, 0)
    assert match_centres(truth, prediction, 5).tally == Tally(2, 1, 0)


def test_a_picture_with_dots_alone_on_a_side_is_left_out_of_segmentation():
    outlined, dotted, empty = picture(box(2, 2, 8, 8)), picture(dot(5, 5)), picture()
    for sides in ((outlined, dotted), (dotted, outlined), (dotted, empty)):
        assert match_iou(*sides).tally == Tally(0, 0, 0)
    assert match_iou(outlined, empty).tally == Tally(0, 0, 1)
    assert match_centres(outlined, dotted).tally == Tally(1, 0, 0)


# --- scores


def test_scores_without_anything_to_divide_by_are_none():
    assert (Tally(0, 0, 0).precision, Tally(0, 0, 0).recall, Tally(0, 0, 0).f1) == (None, None, None)
    assert (Tally(0, 0, 2).precision, Tally(0, 0, 2).recall, Tally(0, 0, 2).f1) == (None, 0, 0)
    assert (Tally(0, 2, 0).precision, Tally(0, 2, 0).recall, Tally(0, 2, 0).f1) == (0, None, 0)
    assert (Tally(3, 1, 2).precision, Tally(3, 1, 2).recall, Tally(3, 1, 2).f1) == (3 / 4, 3 / 5, 6 / 9)


def three_pictures() -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    truth = [
        picture(box(2, 2, 11, 11), box(20, 20, 29, 29), name="sub/b.png"),
        picture(name="a.tif"),
        picture(box(2, 2, 11, 11), name="c.png"),
    ]
    prediction = [
        picture(box(2, 2, 11, 11), box(3, 30, 9, 39), box(50, 3, 59, 9), name="sub/b.json"),
        picture(box(2, 2, 11, 11), name="a.png"),
        picture(box(5, 5, 14, 14), name="c.png"),
    ]
    return truth, prediction


def part(value: dict[str, object], *names: str) -> dict[str, object]:
    return {name: value[name] for name in names}


def test_scores_are_pooled_over_pictures_and_named_as_agreed():
    result = evaluate(*three_pictures(), EvaluateSettings(iou=0.5, distance=10, bootstrap=50)).as_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for task, names in SCORES.items():
        assert set(result[task]["interval"]) == set(names)
    assert part(result["segmentation"], "iou_threshold", "tp", "fp", "fn", "precision", "recall", "f1") == {
        "iou_threshold": 0.5,
        "tp": 1,
        "fp": 4,
        "fn": 2,
        "precision": 1 / 5,
        "recall": 1 / 3,
        "f1": 2 / 8,
    }
    assert part(result["detection"], "distance_px", "tp", "fp", "fn", "precision", "recall", "f1") == {
        "distance_px": 10,
        "tp": 2,
        "fp": 3,
        "fn": 1,
        "precision": 2 / 5,
        "recall": 2 / 3,
        "f1": 4 / 8,
    }
    expected = {"mae": 2 / 3, "medae": 1.0, "mpe": (1 / 2 + 1 / 1 + 0) / 3, "bias": 2 / 3}
    assert part(result["counting"], *expected) == expected
    assert (result["rule"], result["pictures"]) == ("one-to-one", 3)
    brief = [
        {
            **part(one, "picture", "n_true", "n_predicted"),
            **{task: part(one[task], "tp", "fp", "fn") for task in ("segmentation", "detection")},
        }
        for one in result["per_picture"]
    ]
    assert brief == [
        {
            "picture": "a.tif",
            "n_true": 0,
            "n_predicted": 1,
            "segmentation": {"tp": 0, "fp": 1, "fn": 0},
            "detection": {"tp": 0, "fp": 1, "fn": 0},
        },
        {
            "picture": "c.png",
            "n_true": 1,
            "n_predicted": 1,
            "segmentation": {"tp": 0, "fp": 1, "fn": 1},
            "detection": {"tp": 1, "fp": 0, "fn": 0},
        },
        {
            "picture": "sub/b.png",
            "n_true": 2,
            "n_predicted": 3,
            "segmentation": {"tp": 1, "fp": 2, "fn": 1},
            "detection": {"tp": 1, "fp": 2, "fn": 1},
        },
    ]
    assert result["unpaired"] == {"truth": [], "prediction": []}


def test_percentage_errors_keep_their_sign_and_bear_empty_pictures():
    truth = [picture(name="a.png"), picture(*[dot(9, 9)] * 4, name="b.png")]
    prediction = [picture(dot(9, 9), dot(9, 9), name="a.png"), picture(dot(9, 9), name="b.png")]
    counting = evaluate(truth, prediction, PLAIN).counting
    assert (counting.mae, counting.medae, counting.mpe, counting.bias) == (2.5, 2.5, (2 / 1 - 3 / 4) / 2, -0.5)


def test_pictures_empty_on_both_sides_score_nothing():
    result = evaluate([picture()], [picture()]).as_dict()
    for task in ("segmentation", "detection"):
        assert (result[task]["precision"], result[task]["recall"], result[task]["f1"]) == (None, None, None)
        assert set(result[task]["interval"].values()) == {None}
    assert result["counting"]["mae"] == 0


def test_a_truth_without_prediction_is_named_and_scored_as_empty():
    truth, prediction = three_pictures()
    whole, less = evaluate(truth, prediction, PLAIN), evaluate(truth, prediction[1:], PLAIN)
    assert less.missing == ("sub/b.png",)
    assert less.as_dict()["unpaired"] == {"truth": ["sub/b.png"], "prediction": []}
    assert less.per_picture[-1].detection == Tally(0, 0, 2)
    assert less.counting.mae == 1
    assert (whole.missing, whole.unscored) == ((), ())


def test_a_prediction_without_truth_is_named_and_not_scored():
    truth, prediction = three_pictures()
    more = evaluate(truth, [*prediction, picture(dot(1, 1), name="d.png")], PLAIN)
    assert more.unscored == ("d.png",)
    assert more.per_picture == evaluate(truth, prediction, PLAIN).per_picture


def test_nothing_to_compare_with_is_refused():
    with pytest.raises(InputError, match="truth: expected at least one annotated picture, found none"):
        evaluate([], [picture()])


@pytest.mark.parametrize("side", [0, 1])
def test_two_pictures_of_one_name_on_a_side_are_refused(side):
    sides = [[picture(name="a.png")], [picture(name="a.png")]]
    sides[side].append(picture(name="a.tif"))
    with pytest.raises(InputError, match=r"a\.tif: expected one (true|predicted) picture of each name.*a\.png"):
        evaluate(*sides)


def test_the_size_one_side_does_not_know_is_taken_from_the_other():
    cell = box(50, 50, 80, 80)  # partly outside the picture
    known, unknown = picture(cell), picture(cell, shape=None)
    for sides in ((known, unknown), (unknown, known)):
        assert evaluate([sides[0]], [sides[1]], PLAIN).segmentation == Tally(1, 0, 0)
        assert match_iou(*sides).values.tolist() == [1]


def test_sizes_unknown_to_both_sides_are_made_to_fit():
    truth, prediction = picture(box(0, 0, 9, 9), shape=None), picture(box(0, 5, 9, 14), shape=None)
    assert match_iou(truth, prediction, 1 / 3).values.tolist() == [1 / 3]
    assert match_iou(picture(shape=None), picture(shape=None)).tally == Tally(0, 0, 0)
    far = picture(box(9e6, 9e6, 9e6 + 3, 9e6 + 3), shape=None)
    assert match_iou(far, far).tally == Tally(1, 0, 0)


def test_a_wrong_size_stops_the_evaluation_naming_both_pictures():
    with pytest.raises(InputError, match=r"a\.png.*a\.tif"):
        evaluate([picture(name="a.png")], [picture(name="a.tif", shape=(64, 63))])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"iou": 0}, {"iou": 1}),
        ({"distance": -1}, {"distance": 0}),
        ({"rule": "best"}, {"rule": "published"}),
        ({"bootstrap": -1}, {"bootstrap": 0}),
        ({"seed": -1}, {"seed": 0}),
        ({"workers": 0}, {"workers": 1}),
        ({"confidence": 1}, {"confidence": 0.5}),
    ],
)
def test_settings_without_sense_are_refused(wrong, right):
    with pytest.raises(InputError):
        EvaluateSettings(**wrong)
    assert EvaluateSettings(**right) == replace(EvaluateSettings(), **right)


def test_the_same_seed_gives_the_same_intervals_in_any_order_with_any_number_of_workers():
    truth, prediction = many_pictures(7, 12)
    settings = EvaluateSettings(distance=6, bootstrap=100, seed=3)
    once = evaluate(truth, prediction, settings)
    assert evaluate(truth[::-1], prediction, replace(settings, workers=2)).as_dict() == once.as_dict()
    assert evaluate(truth, prediction, replace(settings, seed=4)).intervals != once.intervals


def test_intervals_hold_the_score_and_narrow_with_more_pictures():
    widths = []
    for pictures in (6, 96):
        result = evaluate(*many_pictures(8, pictures), EvaluateSettings(distance=6, bootstrap=300)).as_dict()
        for task in ("segmentation", "detection", "counting"):
            for name, (low, high) in result[task]["interval"].items():
                assert low <= result[task][name] <= high
        low, high = result["segmentation"]["interval"]["f1"]
        widths.append(high - low)
    assert 0 < widths[1] < widths[0] / 2


def test_an_interval_covers_the_share_of_resamples_it_claims():
    truth, prediction = many_pictures(9, 40)
    wide = evaluate(truth, prediction, EvaluateSettings(confidence=0.99)).intervals["counting"]["bias"]
    narrow = evaluate(truth, prediction, EvaluateSettings(confidence=0.5)).intervals["counting"]["bias"]
    assert wide is not None
    assert narrow is not None
    errors = [len(b.cells) - len(a.cells) for a, b in zip(truth, prediction, strict=True)]
    deviation = np.std(errors) / math.sqrt(len(errors))
    assert narrow[1] - narrow[0] == pytest.approx(2 * 0.674 * deviation, rel=0.15)
    assert wide[1] - wide[0] == pytest.approx(2 * 2.576 * deviation, rel=0.15)


def test_one_picture_or_no_resamples_give_no_intervals():
    truth, prediction = three_pictures()
    for result in (evaluate(truth[:1], prediction[:1]), evaluate(truth, prediction, PLAIN)):
        assert {interval for task in result.intervals.values() for interval in task.values()} == {None}


# --- the published rule


def literal_published(truth: np.ndarray, prediction: np.ndarray, iou: float, distance: float) -> list[int]:
    """The published procedure as it is described, pair by pair."""
    best: tuple[dict[int, float], dict[int, float]] = ({}, {})
    true, predicted = (np.unique(side)[1:].tolist() for side in (truth, prediction))
    for i in true:
        for j in predicted:
            mine, theirs = truth == i, prediction == j
            value = (mine & theirs).sum() / (mine | theirs).sum()
            best[0][i] = max(best[0].get(i, 0), value)
            best[1][j] = max(best[1].get(j, 0), value)
    tp = sum(best[0].get(i, 0) > iou for i in true)
    fp = sum(best[1].get(j, 0) <= iou for j in predicted)
    centres = [[np.array(region.centroid) for region in regionprops(side)] for side in (truth, prediction)]
    nearest = [
        [min((float(np.linalg.norm(one - other)) for other in others), default=np.inf) for one in side]
        for side, others in (centres, centres[::-1])
    ]
    near = sum(value <= distance for value in nearest[0])
    return [tp, fp, len(true) - tp, near, sum(value > distance for value in nearest[1]), len(nearest[0]) - near]


def test_the_published_rule_equals_its_literal_description():
    cases = 500
    rng = np.random.default_rng(10)
    unlike = 0
    for case in range(cases):
        truth, prediction = random_labels(rng, 32, 8)
        if case % 7 == 0:  # no background: the lowest label is lost
            truth = truth + 1
        iou, distance = float(rng.choice([0.3, 0.5])), float(rng.choice([3, 8]))
        settings = replace(PUBLISHED, iou=iou, distance=distance)
        found = evaluate([labelled(truth)], [labelled(prediction)], settings)
        [score] = found.per_picture
        counts = [*score.segmentation.as_dict().values(), *score.detection.as_dict().values()]
        expected = literal_published(truth, prediction, iou, distance)
        assert counts == expected
        tp, _, _, near, _, far = expected
        assert found.counting.bias == (near + far) - (tp + far)
        assert found.counting.mpe == (near - tp) / max(tp + far, 1)
        ours = evaluate([labelled(truth)], [labelled(prediction)], replace(settings, rule="one-to-one"))
        unlike += ours.per_picture != found.per_picture
    assert unlike > 0


def test_published_fault_one_prediction_serves_two_true_cells():
    truth, prediction = picture(box(10, 10, 20, 20), box(25, 10, 35, 20)), picture(box(17, 10, 28, 20))
    assert evaluate([truth], [prediction], PUBLISHED).detection == Tally(2, 0, 0, 0.01)
    assert evaluate([truth], [prediction], PLAIN).detection == Tally(1, 0, 1)


def test_published_fault_counting_forgets_what_was_predicted():
    truth = picture(*(box(20 * x, 0, 20 * x + 10, 10) for x in range(3)))
    prediction = picture(*truth.cells, *(box(10 * x, 40, 10 * x + 5, 45) for x in range(5)))
    assert evaluate([truth], [prediction], PUBLISHED).counting.mae == 0
    assert evaluate([truth], [prediction], PLAIN).counting.mae == 5


def test_published_fault_a_perfect_score_falls_short_of_one():
    truth = picture(*(box(12 * x, 12 * y, 12 * x + 6, 12 * y + 6) for x in range(5) for y in range(2)))
    published = evaluate([truth], [truth], PUBLISHED)
    assert published.segmentation.f1 == 10 / 10.01
    assert round(published.segmentation.f1, 3) == 0.999
    assert evaluate([truth], [truth], PLAIN).segmentation.f1 == 1


def test_published_scores_without_a_pair_have_no_f1():
    for truth, prediction in ((picture(), picture()), (picture(box(0, 0, 5, 5)), picture())):
        result = evaluate([truth], [prediction], PUBLISHED).as_dict()
        assert result["rule"] == "published"
        assert (result["segmentation"]["precision"], result["segmentation"]["f1"]) == (0, None)


def test_published_iou_must_be_above_the_threshold():
    truth, prediction = labelled(row_of(4, -4)), labelled(row_of(2, -6))
    assert evaluate([truth], [prediction], PUBLISHED).segmentation == Tally(0, 1, 1, 0.01)
    assert evaluate([truth], [prediction], replace(PUBLISHED, iou=0.49)).segmentation == Tally(1, 0, 0, 0.01)


def test_published_works_on_label_pictures_without_dots_and_hidden_cells():
    hidden = picture(box(5, 5, 8, 8), box(0, 0, 20, 20), dot(40, 40))
    assert evaluate([hidden], [hidden], PUBLISHED).detection == Tally(1, 0, 0, 0.01)
    assert evaluate([hidden], [hidden], PLAIN).detection == Tally(3, 0, 0)


# --- table and agreement


def test_the_table_has_the_columns_of_the_paper():
    truth, prediction = three_pictures()
    settings = replace(PLAIN, distance=10)
    found = evaluate(truth, prediction, settings)
    assert score_table(found).splitlines() == [
        "| | F1 seg | P | R | F1 det | P | R | MAE | MedAE | MPE |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| all pictures | 0.25 | 0.20 | 0.33 | 0.50 | 0.40 | 0.67 | 0.67 | 1.00 | 50 % |",
    ]
    nothing = evaluate([picture()], [picture()], PUBLISHED)
    assert score_table({"ours": found, "theirs": nothing}).splitlines()[-1] == (
        "| theirs (published rule) | – | 0.00 | 0.00 | – | 0.00 | 0.00 | 0.00 | 0.00 | 0 % |"
    )


def test_every_annotator_is_compared_with_every_other():
    truth, prediction = three_pictures()
    found = agree({"a": iter(truth), "b": prediction, "c": truth}, PLAIN).pairs
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["a", "c"].segmentation.f1 == 1
    assert found["a", "b"].segmentation.f1 == found["b", "c"].segmentation.f1 == 0.25
    with pytest.raises(InputError, match="annotators: expected at least two and at most 30, found 1"):
        agree({"a": truth})


def test_memory_goes_with_the_picture_and_not_with_all_pairs_of_cells():
    y, x = np.mgrid[:2000, :2000]
    labels = np.where((y % 20 < 15) & (x % 20 < 15), 1 + y // 20 * 100 + x // 20, 0).astype(np.int32)
    assert len(np.unique(labels)) == 1 + 10_000
    tracemalloc.start()
    tally = match_labels(labels, np.roll(labels, 2, axis=1)).tally
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tally == Tally(10_000, 0, 0)
    assert peak < 8 * labels.nbytes  # a full table of pairs would take 50 times the picture


@pytest.mark.slow
def test_twenty_thousand_cells_match():
    side, step = 10_000, 70
    grid = [(x, y) for y in range(10, side - 70, step) for x in range(10, side - 70, step)]
    truth = AnnotatedImage("a.png", (side, side), tuple(box(x, y, x + 30, y + 30) for x, y in grid))
    prediction = AnnotatedImage("a.png", (side, side), tuple(box(x + 5, y, x + 35, y + 40) for x, y in grid))
    assert len(grid) > 20_000
    assert match_iou(truth, prediction).tally == Tally(len(grid), 0, 0)
    assert match_centres(truth, prediction, 80).tally == Tally(len(grid), 0, 0)
