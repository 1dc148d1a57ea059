"""Scores beyond precision and recall, their intervals, and comparisons of predictions, beside other implementations."""

import json
import math
import os
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.made import box, dot, labelled, many_pictures, picture, random_labels, row_of
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation import EvaluateSettings, Mistakes, compare, evaluate
from fncells.evaluation.resampling import resamples
from fncells.evaluation.scores import SCORES, resampled
from fncells.evaluation.settings import THRESHOLDS

PLAIN = EvaluateSettings(bootstrap=0)


def dots(number: int, name: str) -> AnnotatedImage:
    return picture(*[dot(5 * (place % 12), 5 * (place // 12)) for place in range(number)], name=name)


def counted(true: list[int], predicted: list[int], **settings: object) -> object:
    names = [f"{place:03}.png" for place in range(len(true))]
    return evaluate(
        [dots(number, name) for number, name in zip(true, names, strict=True)],
        [dots(number, name) for number, name in zip(predicted, names, strict=True)],
        replace(PLAIN, **settings),
    )


# --- segmentation


def test_thresholds_of_the_curve_are_the_decimals_that_people_write():
    assert [str(threshold) for threshold in THRESHOLDS] == [
        *("0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95")
    ]
    for place, threshold in enumerate(THRESHOLDS):
        shared = round(20 * threshold)
        found = evaluate([labelled(row_of(20, -2))], [labelled(row_of(shared, shared - 22))], PLAIN)
        assert [tally.tp for _, tally in found.curve] == [1] * (place + 1) + [0] * (9 - place)


def test_the_curve_and_average_precision_are_those_of_stardist():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matching_dataset = pytest.importorskip("stardist.matching").matching_dataset
        rng = np.random.default_rng(11)
        pairs = [random_labels(rng) for _ in range(40)]
        truth, prediction = zip(*pairs, strict=True)
        theirs = matching_dataset(
            truth, prediction, thresh=THRESHOLDS, by_image=False, show_progress=False, parallel=False
        )
    names = [f"{place:02}.png" for place in range(len(pairs))]
    found = evaluate(map(labelled, truth, names), map(labelled, prediction, names), PLAIN)
    assert found.segmentation.tp > 50
    for (_, tally), other in zip(found.curve, theirs, strict=True):
        assert (tally.tp, tally.fp, tally.fn) == (other.tp, other.fp, other.fn)
        assert tally.jaccard == pytest.approx(other.accuracy)
    assert found.scores["segmentation"]["average_precision"] == pytest.approx(np.mean([one.accuracy for one in theirs]))
    first = theirs[0]
    assert found.scores["segmentation"]["panoptic_quality"] == pytest.approx(first.panoptic_quality, abs=1e-6)
    assert found.scores["segmentation"]["segmentation_quality"] == pytest.approx(first.mean_matched_score, abs=1e-6)


def odd_labels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two label pictures without an IoU of exactly one half, the one place where the definitions part."""
    while True:
        truth, prediction = random_labels(rng)
        halves = [
            2 * ((truth == one) & (prediction == other)).sum() == ((truth == one) | (prediction == other)).sum()
            for one in np.unique(truth)[1:]
            for other in np.unique(prediction)[1:]
        ]
        if truth.any() and prediction.any() and not any(halves):
            return truth, prediction


def test_panoptic_quality_is_that_of_torchmetrics():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        quality = pytest.importorskip("torchmetrics.functional.detection").panoptic_quality
        rng = np.random.default_rng(12)
        for _ in range(60):
            truth, prediction = odd_labels(rng)
            # Categories: 0 is background, 1 are cells, told apart by their numbers.
            sides = [
                torch.from_numpy(np.stack([side > 0, side], axis=-1).astype(np.int64))[None]
                for side in (prediction, truth)
            ]
            theirs = quality(*sides, things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
            scores = evaluate([labelled(truth)], [labelled(prediction)], PLAIN).scores["segmentation"]
            pq, sq, rq = (float(one) for one in theirs[0])  # things come first
            assert scores["panoptic_quality"] == pytest.approx(pq, abs=1e-6)
            assert scores["f1"] == pytest.approx(rq, abs=1e-6)
            assert (scores["segmentation_quality"] or 0) == pytest.approx(sq, abs=1e-6)


PEERS = os.environ.get("FNCELLS_PEERS", "")


@pytest.mark.skipif(
    not PEERS, reason="FNCELLS_PEERS names no Python with panoptica and Cellpose; see benchmarks/peers.py"
)
def test_panoptic_quality_is_that_of_panoptica_and_pairs_are_those_of_cellpose(tmp_path):
    rng = np.random.default_rng(13)
    truth, prediction = (
        np.hstack([label + 100 * place * (label > 0) for place, label in enumerate(side)])
        for side in zip(*(odd_labels(rng) for _ in range(12)), strict=True)
    )
    np.save(tmp_path / "truth.npy", truth.astype(np.int32))
    np.save(tmp_path / "prediction.npy", prediction.astype(np.int32))
    words = [PEERS, "-W", "ignore", str(Path(__file__).parents[2] / "benchmarks" / "peers.py"), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, input="panoptica\ncellpose\n", capture_output=True, text=True, check=True, env=environment
    )
    found = evaluate([labelled(truth)], [labelled(prediction)], PLAIN)
    (tp, fp, fn, pq, sq, rq), cellpose = (json.loads(line) for line in done.stdout.splitlines())
    assert cellpose == [tp, fp, fn]
    assert (found.segmentation.tp, found.segmentation.fp, found.segmentation.fn) == (tp, fp, fn)
    assert min(tp, fp, fn) > 5
    assert found.scores["segmentation"]["panoptic_quality"] == pytest.approx(pq)
    assert found.scores["segmentation"]["segmentation_quality"] == pytest.approx(sq)
    assert found.segmentation.f1 == pytest.approx(rq)


def coco_counts(
    truth: np.ndarray, prediction: np.ndarray, scores: list[float], threshold: float
) -> tuple[int, int, int]:
    """TP, FP and FN that pycocotools' COCOeval finds at one threshold."""
    import contextlib
    import io

    coco, cocoeval, mask = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval", "mask"))
    height, width = truth.shape

    def annotations(labels: np.ndarray) -> list[dict[str, object]]:
        found = []
        for number in np.unique(labels)[1:].tolist():
            cell = np.asfortranarray(labels == number).astype(np.uint8)
            entry = {"id": len(found) + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": int(cell.sum())}
            found.append({**entry, "bbox": [0, 0, width, height], "segmentation": mask.encode(cell)})
        return found

    with contextlib.redirect_stdout(io.StringIO()):
        true = coco.COCO()
        true.dataset = {
            "images": [{"id": 1, "height": height, "width": width}],
            "categories": [{"id": 1}],
            "annotations": annotations(truth),
        }
        true.createIndex()
        predicted = true.loadRes(
            [{**one, "score": score} for one, score in zip(annotations(prediction), scores, strict=True)]
        )
        judged = cocoeval.COCOeval(true, predicted, "segm")
        judged.params.iouThrs, judged.params.maxDets = np.array([threshold]), [10_000]
        judged.params.areaRng, judged.params.areaRngLbl = [[0, 1e10]], ["all"]
        judged.evaluate()
    matches = judged.evalImgs[0]["dtMatches"][0]
    tp = int((matches > 0).sum())
    return tp, len(matches) - tp, len(np.unique(truth)) - 1 - tp


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_coco_counts_the_same_pairs_where_each_cell_has_one_partner_only(threshold):
    """Cells of a side that do not overlap have one partner at an IoU above one half, so COCO's greed finds the optimum."""
    rng = np.random.default_rng(14)
    pairs = 0
    for _ in range(40):
        truth, prediction = odd_labels(rng)
        scores = rng.random(len(np.unique(prediction)) - 1).tolist()
        tally = evaluate([labelled(truth)], [labelled(prediction)], replace(PLAIN, iou=threshold)).segmentation
        assert coco_counts(truth, prediction, scores, threshold) == (tally.tp, tally.fp, tally.fn)
        pairs += tally.tp
    assert pairs > 15


def test_coco_takes_the_surest_first_and_loses_a_pair_where_cells_have_several_partners():
    """Below one half a cell can have two partners; COCO's first choice by score then leaves another cell alone."""
    truth, prediction = row_of(2, 4, -1), row_of(-1, 3, 2, -1)
    assert evaluate([labelled(truth)], [labelled(prediction)], replace(PLAIN, iou=0.25)).segmentation.tp == 2
    assert coco_counts(truth, prediction, [0.9, 0.8], 0.25) == (1, 1, 1)


def test_dice_counts_each_pixel_once():
    truth = picture(box(0, 0, 9, 9), box(0, 0, 9, 4))  # the second lies within the first
    prediction = picture(box(0, 5, 9, 14))
    found = evaluate([truth], [prediction], PLAIN)
    assert (found.per_picture[0].true_px, found.per_picture[0].predicted_px, found.per_picture[0].shared_px) == (
        100,
        100,
        50,
    )
    assert found.scores["segmentation"]["dice"] == 2 * 50 / 200


def test_panoptic_quality_of_a_known_case():
    truth, prediction = labelled(row_of(10, -2, 10, -8)), labelled(row_of(8, -22))
    scores = evaluate([truth], [prediction], PLAIN).scores["segmentation"]
    assert scores["segmentation_quality"] == 0.8
    assert scores["panoptic_quality"] == pytest.approx(0.8 / (1 + 0.5 * 1))
    assert scores["jaccard"] == 1 / 2


# --- kinds of error


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        (row_of(6, -3), row_of(-9), Mistakes(missed=1)),
        (row_of(-9), row_of(6, -3), Mistakes(extra=1)),
        (row_of(8), row_of(3, -2, 3), Mistakes(split=1)),
        (row_of(3, -2, 3), row_of(8), Mistakes(merged=1)),
        (row_of(8, -2), row_of(-6, 4), Mistakes(inexact=1)),
        (row_of(9, -1, 9), row_of(9, -1, 9), Mistakes()),
        (row_of(-8, 8), row_of(8, -8), Mistakes(missed=1, extra=1)),
        # A cell that is found in spite of a fragment beside it is split all the same.
        (row_of(10), row_of(8, 2), Mistakes(split=1)),
    ],
    ids=["missed", "extra", "split", "merged", "inexact", "none", "elsewhere", "found and split"],
)
def test_every_kind_of_error_is_told(truth, prediction, expected):
    assert evaluate([labelled(truth)], [labelled(prediction)], PLAIN).mistakes == expected


@given(st.integers(0, 2**32 - 1))
def test_turned_round_splits_are_merges_and_missed_cells_extra_ones(seed):
    truth, prediction = (labelled(side) for side in random_labels(np.random.default_rng(seed), 40))
    there = evaluate([truth], [prediction], PLAIN).mistakes
    back = evaluate([prediction], [truth], PLAIN).mistakes
    assert (there.missed, there.extra, there.split, there.merged) == (back.extra, back.missed, back.merged, back.split)


# --- counting


def test_counting_scores_are_those_of_the_textbook():
    rng = np.random.default_rng(15)
    true = rng.integers(0, 30, 25)
    predicted = np.maximum(true + rng.integers(-6, 9, 25), 0)
    found = counted(true.tolist(), predicted.tolist())
    error = predicted - true
    assert found.counting.rmse == pytest.approx(math.sqrt((error**2).mean()))
    assert found.counting.pearson == pytest.approx(stats.pearsonr(true, predicted).statistic)
    spread, means = np.cov(true, predicted, ddof=0), (true.mean(), predicted.mean())
    lin = 2 * spread[0, 1] / (spread[0, 0] + spread[1, 1] + (means[0] - means[1]) ** 2)
    assert found.counting.concordance == pytest.approx(lin)
    assert found.counting.limits == pytest.approx(
        (error.mean() - 1.96 * error.std(ddof=1), error.mean() + 1.96 * error.std(ddof=1))
    )


def test_counts_twice_too_high_correlate_and_do_not_concord():
    found = counted([2, 5, 9, 12], [4, 10, 18, 24]).counting
    assert found.pearson == pytest.approx(1)
    assert found.concordance < 0.6


def test_counts_that_do_not_vary_have_no_correlation():
    assert counted([3, 3, 3], [3, 4, 5]).counting.pearson is None
    assert counted([3, 3], [3, 3]).counting.concordance is None
    assert counted([3], [4]).counting.limits is None


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 99))
def test_weighted_medians_are_those_of_the_drawn_pictures(errors, seed):
    settings = EvaluateSettings(bootstrap=20, seed=seed)
    found = counted([0] * len(errors), errors, bootstrap=20, seed=seed)
    weights = resamples([score.picture for score in found.per_picture], settings)
    expected = [np.median(np.repeat(errors, row.astype(int))) for row in weights]
    assert resampled(found)["counting"]["medae"].tolist() == expected
    assert found.counting.medae == np.median(errors)


# --- intervals


def test_every_score_of_a_resample_is_that_of_the_pictures_drawn():
    truth, prediction = many_pictures(16, 6)
    settings = EvaluateSettings(distance=6, bootstrap=12)
    found = evaluate(truth, prediction, settings)
    weights = resamples([score.picture for score in found.per_picture], settings)
    drawn = resampled(found)
    for row, times in enumerate(weights.astype(int)):
        again = [(place, copy) for place, number in enumerate(times) for copy in range(number)]
        sides = [
            [replace(side[place], name=f"{place}-{copy}.png") for place, copy in again] for side in (truth, prediction)
        ]
        once = evaluate(*sides, replace(settings, bootstrap=0))
        for task, names in SCORES.items():
            for name in names:
                expected = once.scores[task][name]
                value = drawn[task][name][row]
                assert math.isnan(value) if expected is None else value == pytest.approx(expected)


def test_pictures_of_one_animal_are_drawn_together():
    groups = ["a", "b", "a", "c", "b"]
    weights = resamples(groups, EvaluateSettings(bootstrap=200))
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert resamples(["a", "a"], EvaluateSettings()).shape == (0, 2)


def test_intervals_over_animals_are_wider_where_animals_differ():
    rng = np.random.default_rng(17)
    names = [f"Mar{animal}S1C1R{row}_LHl_200x_y.png" for animal in range(8) for row in range(8)]
    errors = np.repeat(rng.integers(-9, 10, 8), 8)
    truth = [dots(20, name) for name in names]
    prediction = [dots(20 + int(error), name) for error, name in zip(errors, names, strict=True)]
    widths = {}
    for group in ("picture", "animal"):
        low, high = evaluate(truth, prediction, EvaluateSettings(group=group)).intervals["counting"]["bias"]
        widths[group] = high - low
    assert widths["animal"] > 2 * widths["picture"]
    result = evaluate(truth, prediction, EvaluateSettings(group="animal")).as_dict()
    assert (result["bootstrap"]["by"], result["bootstrap"]["groups"]) == ("animal", 8)
    assert result["per_picture"][0]["group"] == "mar0"


def test_given_groups_go_before_names_and_names_without_an_animal_are_refused():
    truth, prediction = many_pictures(18, 4)
    groups = {"000": "x", "001": "x", "002": "y", "003": "y"}
    found = evaluate(truth, prediction, EvaluateSettings(), groups=groups)
    assert [score.group for score in found.per_picture] == ["x", "x", "y", "y"]
    assert (found.as_dict()["bootstrap"]["by"], found.notes) == ("group", ())
    less = evaluate(truth, prediction, EvaluateSettings(), groups={"000": "x", "001": "x"})
    assert less.notes == ("2 pictures of no known group, such as 002.png, drawn by themselves in the resampling",)
    with pytest.raises(InputError, match=r"groups: expected a group for the pictures, found none for 000\.png"):
        evaluate(truth, prediction, EvaluateSettings(), groups={"other": "x"})
    with pytest.raises(InputError, match=r"--group animal: expected pictures whose names tell the animal.*--groups"):
        evaluate(truth, prediction, EvaluateSettings(group="animal"))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"group": "cage"}, "group: expected picture or animal"),
        ({"pixel_size": 0}, "pixel size: expected micrometres above 0"),
        ({"distance_um": -1}, "distance: expected 0 or more µm"),
    ],
)
def test_more_settings_without_sense_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        EvaluateSettings(**wrong)


# --- micrometres


def test_a_distance_in_micrometres_is_each_pictures_own_in_pixels():
    truth = [picture(dot(10, 10), name=name) for name in ("a.png", "b.png")]
    prediction = [picture(dot(18, 10), name=name) for name in ("a.png", "b.png")]
    settings = replace(PLAIN, distance_um=4)
    found = evaluate(truth, prediction, settings, pixel_sizes={"a": 0.5, "b": 0.6})
    assert [score.detection.tp for score in found.per_picture] == [1, 0]
    assert found.as_dict()["detection"]["distance_um"] == 4
    assert found.as_dict()["detection"]["distance_px"] is None
    everywhere = evaluate(truth, prediction, replace(settings, pixel_size=0.5))
    assert everywhere.detection.tp == 2
    assert everywhere.as_dict()["detection"]["distance_px"] == 8
    with pytest.raises(InputError, match=r"a\.png: expected a known pixel size.*found none; give --pixel-size"):
        evaluate(truth, prediction, settings)


# --- several predictions


def worse(images: list[AnnotatedImage], seed: int, share: float) -> list[AnnotatedImage]:
    rng = np.random.default_rng(seed)
    return [replace(one, cells=tuple(cell for cell in one.cells if rng.random() > share)) for one in images]


def test_a_worse_prediction_is_told_from_a_better_one_and_not_from_itself():
    truth, prediction = many_pictures(19, 40)
    settings = EvaluateSettings(distance=6, bootstrap=300)
    found = compare(truth, {"whole": prediction, "half": worse(prediction, 1, 0.5), "again": prediction}, settings)
    told = {(one.first, one.second, one.score, one.task): one for one in found.differences}
    half = told["whole", "half", "f1", "segmentation"]
    assert half.better == "whole"
    assert half.interval[1] < 0
    assert half.difference == pytest.approx(
        found.evaluations["half"].segmentation.f1 - found.evaluations["whole"].segmentation.f1
    )
    assert told["whole", "half", "mae", "counting"].better == "whole"  # though its number is the smaller one
    same = told["whole", "again", "f1", "segmentation"]
    assert (same.difference, same.interval, same.better) == (0, (0, 0), None)


def test_paired_intervals_are_narrower_than_those_of_each():
    truth, prediction = many_pictures(20, 40)
    found = compare(truth, {"a": prediction, "b": worse(prediction, 2, 0.1)}, EvaluateSettings(distance=6))
    [paired] = [one for one in found.differences if (one.task, one.score) == ("segmentation", "f1")]
    alone = found.evaluations["a"].intervals["segmentation"]["f1"]
    assert paired.interval[1] - paired.interval[0] < 0.7 * (alone[1] - alone[0])


def test_several_predictions_stand_under_their_names_and_one_by_itself():
    truth, prediction = many_pictures(21, 4)
    several = compare(truth, {"a": prediction, "b": truth}, PLAIN).as_dict()
    assert json.loads(json.dumps(several, allow_nan=False)) == several
    assert set(several["predictions"]) == {"a", "b"}
    assert len(several["differences"]) == 7
    assert compare(truth, {"a": prediction}, PLAIN).as_dict() == several["predictions"]["a"]


def test_people_become_a_row_beside_the_predictions():
    truth, prediction = many_pictures(22, 12)
    people = {name: worse(prediction, seed, 0.2) for seed, name in enumerate("xyz")}
    found = compare(truth, {"a": prediction}, EvaluateSettings(distance=6, bootstrap=50), annotators=people)
    told = found.as_dict()["annotators"]
    each = [evaluate(truth, one, replace(PLAIN, distance=6)).segmentation.f1 for one in people.values()]
    assert told["against_truth"]["segmentation"]["f1"] == pytest.approx(np.mean(each))
    assert [one["segmentation"]["f1"] for one in told["each"].values()] == pytest.approx(each)
    low, high = told["against_truth"]["segmentation"]["interval"]["f1"]
    assert low < told["against_truth"]["segmentation"]["f1"] < high
    assert told["among_each_other"]["n"] == 3


def test_both_rules_stand_side_by_side():
    truth, prediction = many_pictures(23, 4)
    found = compare(truth, {"a": prediction}, PLAIN, both_rules=True)
    assert list(found.by_rule) == ["one-to-one", "published"]
    assert found.by_rule["published"]["a"].as_dict() == evaluate(
        truth, prediction, replace(PLAIN, rule="published")
    ).as_dict() | {"unpaired": {"truth": [], "prediction": []}}
    assert found.by_rule["published"]["a"].scores["segmentation"]["panoptic_quality"] is None
