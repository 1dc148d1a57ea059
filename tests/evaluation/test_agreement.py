"""What several annotators agree upon, and how well."""

import json
import warnings
from dataclasses import replace
from itertools import combinations, product

import cv2
import numpy as np
import pytest

from evaluation.made import box, dot, labelled, many_pictures, picture
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation import EvaluateSettings, agree, evaluate, majority, staple
from fncells.evaluation.consensus import Staple, consensus_cells
from fncells.evaluation.sources import agreement_sources

PLAIN = EvaluateSettings(bootstrap=0)


def noisy_masks(rng: np.random.Generator, people: int, size: int = 40) -> list[np.ndarray]:
    """A disc or two, and what people of different care make of them."""
    y, x = np.mgrid[:size, :size]
    true = np.zeros((size, size), dtype=bool)
    for _ in range(rng.integers(1, 4)):
        centre, radius = rng.uniform(5, size - 5, 2), rng.uniform(3, 8)
        true |= (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    return [np.where(rng.random(true.shape) < rng.uniform(0.01, 0.2), ~true, true) for _ in range(people)]


# --- STAPLE and the majority


@pytest.mark.parametrize("people", [2, 3, 5, 8])
def test_staple_is_that_of_simpleitk(people):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        itk = pytest.importorskip("SimpleITK")
        rng = np.random.default_rng(people)
        for _ in range(6):
            masks = noisy_masks(rng, people)
            reference = itk.STAPLEImageFilter()
            theirs = itk.GetArrayFromImage(
                reference.Execute([itk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks])
            )
            ours = staple(masks)
            assert np.abs(ours.probability - theirs).max() < 1e-4
            assert ours.sensitivity == pytest.approx(reference.GetSensitivity(), abs=1e-4)
            assert ours.specificity == pytest.approx(reference.GetSpecificity(), abs=1e-4)
            assert ((ours.probability >= 0.5) == (theirs >= 0.5)).all()


def test_many_annotators_have_more_patterns_than_there_are_pixels():
    masks = noisy_masks(np.random.default_rng(30), 14, size=16)
    assert 2 ** len(masks) > masks[0].size
    assert np.abs(staple(masks).probability - slow_staple(masks, 60)).max() < 1e-6


def slow_staple(masks: list[np.ndarray], rounds: int) -> np.ndarray:
    """The two steps of Warfield, Zou and Wells (2004), equations 14, 15, 18 and 19, pixel by pixel."""
    decisions = [[bool(one) for one in pixel] for pixel in zip(*(mask.ravel() for mask in masks), strict=True)]
    belief = [sum(pixel) / len(masks) for pixel in decisions]
    prior = sum(belief) / len(belief)
    for _ in range(rounds):
        p = [sum(w for w, d in zip(belief, decisions, strict=True) if d[j]) / sum(belief) for j in range(len(masks))]
        q = [
            sum(1 - w for w, d in zip(belief, decisions, strict=True) if not d[j]) / sum(1 - w for w in belief)
            for j in range(len(masks))
        ]
        for place, pixel in enumerate(decisions):
            a, b = prior, 1 - prior
            for j, d in enumerate(pixel):
                a *= p[j] if d else 1 - p[j]
                b *= 1 - q[j] if d else q[j]
            belief[place] = a / (a + b)
    return np.array(belief).reshape(masks[0].shape)


def test_staple_follows_its_equations():
    rng = np.random.default_rng(31)
    for _ in range(5):
        masks = noisy_masks(rng, 4, size=16)
        assert np.abs(staple(masks).probability - slow_staple(masks, 200)).max() < 1e-6


def test_staple_trusts_the_careful_more_than_the_many():
    """Two careful people outweigh three careless ones, whom a majority would follow."""
    y, x = np.mgrid[:40, :40]
    true = (y - 20) ** 2 + (x - 20) ** 2 <= 100
    rng = np.random.default_rng(32)
    careless = [true ^ (rng.random(true.shape) < 0.35) for _ in range(3)]
    careful = [true ^ (rng.random(true.shape) < 0.01) for _ in range(2)]
    wrong_by = {
        "staple": (staple([*careless, *careful]).mask != true).sum(),
        "majority": (majority([*careless, *careful]) != true).sum(),
    }
    assert wrong_by["staple"] < wrong_by["majority"] / 3
    found = staple([*careless, *careful])
    assert found.sensitivity[3:].min() > found.sensitivity[:3].max() + 0.2


def test_staple_of_nothing_and_of_everything():
    nothing, everything = np.zeros((4, 5), dtype=bool), np.ones((4, 5), dtype=bool)
    assert not staple([nothing, nothing]).mask.any()
    assert np.isnan(staple([nothing, nothing]).sensitivity).all()
    assert staple([everything] * 3).mask.all()
    assert staple([nothing, everything]).probability.shape == (4, 5)
    even = Staple(np.array([[0.5, 0.499]]), np.empty(0), np.empty(0))
    assert even.mask.tolist() == [[True, False]]
    for masks in ([nothing], [nothing] * 31):
        with pytest.raises(InputError, match="annotators: expected 2 to 30"):
            staple(masks)


@pytest.mark.parametrize("people", [2, 3, 4, 5])
def test_a_majority_is_more_than_half(people):
    votes = np.array(list(product([False, True], repeat=people))).T
    found = majority([vote[np.newaxis] for vote in votes])[0]
    assert found.tolist() == [2 * sum(column) > people for column in votes.T.tolist()]


# --- the cells of a consensus


def test_a_consensus_of_masks_has_the_components_of_its_mask():
    rng = np.random.default_rng(33)
    masks = noisy_masks(rng, 3)
    annotated = [AnnotatedImage.from_mask("a.png", mask) for mask in masks]
    mask = majority(masks)
    assert consensus_cells("a.png", mask, annotated).same_as(AnnotatedImage.from_mask("a.png", mask))


def touching(cut: int, name: str = "a.png") -> AnnotatedImage:
    labels = np.zeros((20, 40), dtype=np.int32)
    labels[5:15, 5:cut], labels[5:15, cut:35] = 1, 2
    return labelled(labels, name)


def test_cells_that_most_have_drawn_touching_stay_apart_in_the_consensus():
    people = [touching(19), touching(20), touching(21)]
    found = consensus_cells("a.png", majority([one.mask for one in people]), people)
    assert (found.labels == touching(20).labels).all()
    whole = labelled((touching(20).labels > 0).astype(np.int32))
    for parted, together, cells in ((1, 2, 1), (2, 2, 1), (3, 2, 2), (2, 1, 2)):
        others = [touching(20)] * parted + [whole] * together
        assert len(consensus_cells("a.png", whole.mask, others).cells) == cells


def test_pixels_of_no_shared_cell_go_to_the_nearest():
    people = [touching(20), touching(20), touching(20)]
    mask = people[0].mask.copy()
    mask[3:5, 8:12] = True  # what STAPLE may add
    found = consensus_cells("a.png", mask, people)
    assert (found.labels > 0).tolist() == mask.tolist()
    assert set(found.labels[3:5, 8:12].ravel()) == {found.labels[6, 8]}
    assert len(found.cells) == 2


def test_the_consensus_of_label_pictures_does_not_depend_on_their_values():
    people = [touching(19), touching(20), touching(22)]
    other = [labelled(np.where(one.labels > 0, 900 - 7 * one.labels, 0)) for one in people]
    mask = majority([one.mask for one in people])
    assert (consensus_cells("a", mask, people).labels == consensus_cells("a", mask, other).labels).all()


# --- agreement


def people_of(seed: int, pictures: int, people: int = 3) -> dict[str, list[AnnotatedImage]]:
    truth, prediction = many_pictures(seed, pictures)
    rng = np.random.default_rng(seed)
    third = [replace(one, cells=tuple(cell for cell in one.cells if rng.random() > 0.2)) for one in truth]
    return dict(zip("abc"[:people], (truth, prediction, third), strict=False))


def test_agreement_holds_every_pair_and_every_consensus_as_evaluations_of_their_own():
    people = people_of(34, 6)
    settings = EvaluateSettings(distance=6, bootstrap=20)
    found = agree(people, settings, consensus=people["c"])
    assert list(found.pairs) == list(combinations("abc", 2))
    assert list(found.consensus) == ["majority", "staple", "given", "others"]
    for (first, second), one in found.pairs.items():
        assert (
            one.as_dict()["segmentation"] == evaluate(people[first], people[second], settings).as_dict()["segmentation"]
        )
    masks = {name: [image.mask for image in images] for name, images in people.items()}
    agreed = [
        AnnotatedImage.from_mask(one.name, majority(list(three)))
        for one, three in zip(people["a"], zip(*masks.values(), strict=True), strict=True)
    ]
    together = [len(image.cells) for image in agreed]
    assert [cells["majority"] for cells in found.counts.values()] >= together  # touching cells are parted, never joined
    assert found.consensus["given"]["c"].segmentation.f1 == 1
    result = found.as_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(result["consensus"]["staple"]["annotators"]["a"]) >= {"sensitivity", "specificity", "segmentation"}
    mean = np.mean([one.segmentation.f1 for one in found.pairs.values()])
    assert result["pairs_mean"]["segmentation"]["f1"] == pytest.approx(mean)


def test_the_majority_of_the_others_leaves_a_person_out():
    cell, own = box(5, 5, 15, 15), box(40, 40, 50, 50)
    people = {"a": [picture(cell, own)], "b": [picture(cell)], "c": [picture(cell)]}
    found = agree(people, PLAIN)
    assert found.consensus["others"]["a"].segmentation.as_dict() == {"tp": 1, "fp": 1, "fn": 0}
    assert found.consensus["others"]["b"].segmentation.f1 == 1
    assert "others" not in agree({"a": people["a"], "b": people["b"]}, PLAIN).consensus


def test_a_picture_that_somebody_has_not_annotated_is_left_out_for_that_one():
    people = people_of(35, 3)
    people["b"] = people["b"][1:]
    found = agree(people, PLAIN)
    assert found.absent == {"b": ("000.png",)}
    assert [len(one.per_picture) for one in found.pairs.values()] == [2, 3, 2]
    assert len(found.consensus["staple"]["a"].per_picture) == 3
    assert list(found.counts["000.png"]) == ["a", "c", "majority", "staple"]


def test_an_annotator_whose_picture_has_another_size_is_named_and_the_others_go_on():
    people = people_of(36, 2)
    people["c"][0] = people["c"][0].with_shape((64, 63))
    found = agree(people, PLAIN)
    assert list(found.failed) == ["c"]
    assert "expected the size of its prediction" in found.failed["c"]["000.png"]
    assert [len(one.per_picture) for one in found.pairs.values()] == [2, 1, 1]


def test_dots_agree_by_their_places_and_make_no_consensus():
    found = agree({"a": [picture(dot(5, 5))], "b": [picture(dot(6, 5))], "c": [picture(dot(60, 5))]}, PLAIN)
    assert found.pairs["a", "b"].detection.f1 == 1
    assert found.consensus == {}
    assert found.as_dict()["consensus"] == {}


def test_pictures_in_which_nobody_sees_a_cell_agree_in_nothing_and_in_the_count():
    found = agree({name: [picture()] for name in "abc"}, PLAIN)
    result = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert result["consensus"]["staple"]["annotators"]["a"]["sensitivity"] is None
    assert result["consensus"]["staple"]["annotators"]["a"]["specificity"] == 1
    assert result["pairs_mean"]["segmentation"]["f1"] is None
    assert result["pairs_mean"]["counting"]["mae"] == 0


def test_people_without_a_picture_in_common_are_refused():
    with pytest.raises(InputError, match=r"annotators: expected pictures of the same names, found a\.png and b\.png"):
        agree({"a": [picture(name="a.png")], "b": [picture(name="b.png")]}, PLAIN)


def test_agreement_is_the_same_with_any_number_of_workers():
    people = people_of(37, 6)
    settings = EvaluateSettings(bootstrap=20)
    assert agree(people, replace(settings, workers=2)).as_dict() == agree(people, settings).as_dict()


# --- real pictures


def test_the_published_consensus_of_the_experts_is_our_staple_pixel_for_pixel(data):
    compared = 0
    for labels in sorted((data / "cfos").glob("lab-*/labels")):
        for path in sorted((labels / "est_GT").glob("*.png")):
            masks = [cv2.imread(str(folder / path.name), 0) > 127 for folder in sorted(labels.glob("expert_*"))]
            assert (staple(masks).mask == (cv2.imread(str(path), 0) > 127)).all(), path
            compared += 1
    assert compared == 37


@pytest.mark.parametrize(
    ("lab", "against_consensus", "among_each_other"),
    [
        ("lab-wue1", [0.51, 0.78, 0.73, 0.77, 0.78], 0.57),
        ("lab-inns1", [0.76, 0.86, 0.92, 0.90], 0.70),
        ("lab-mue", [0.52, 0.82, 0.85, 0.84], 0.59),
    ],
)
def test_experts_agree_as_well_as_is_known(data, lab, against_consensus, among_each_other):
    labels = data / "cfos" / lab / "labels"
    experts = sorted(labels.glob("expert_*"))
    sources = agreement_sources(experts, labels / "est_GT", replace(PLAIN, workers=2))
    found = agree(sources.annotators, replace(PLAIN, workers=2), consensus=sources.truth)
    f1 = [found.consensus["given"][expert.name].segmentation.f1 for expert in experts]
    assert [round(value or 0, 2) for value in f1] == against_consensus
    assert set(found.pairs) == set(combinations([expert.name for expert in experts], 2))
    assert round(found.as_dict()["pairs_mean"]["segmentation"]["f1"], 2) == among_each_other
    # The consensus that came with the pictures is a STAPLE of the same experts, and ours is the same.
    ours = [found.consensus["staple"][expert.name].segmentation.f1 for expert in experts]
    assert ours == pytest.approx(f1, abs=0.005)
