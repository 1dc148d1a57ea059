"""The work on many pictures, in parallel: each picture's annotations are read once and compared in all ways asked for.

A *side* is whoever says where the cells of a picture are: the truth, a prediction, a person, or what several people agree upon.
A *contest* holds one side against another.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation.annotations import Annotation, picture_key
from fncells.evaluation.consensus import consensus_cells, majority, staple, touching
from fncells.evaluation.matching import Matching, Overlap, dots_alone, match_centres, one_size
from fncells.evaluation.mistakes import mistakes
from fncells.evaluation.published_rule import published_centres, published_iou
from fncells.evaluation.scores import Evaluation, PictureScore
from fncells.evaluation.settings import THRESHOLDS, EvaluateSettings, Rule
from fncells.names import parse_name
from fncells.workers import in_parallel

__all__ = ["MAJORITY", "STAPLE", "TRUTH", "Contest", "Found", "Plan", "Side", "hold"]

Floats = NDArray[np.float64]

_ENOUGH_PAIRS = 20  # below this a shift says little
_LEAST_SHIFT_PX = 0.4  # half a pixel is what two conventions differ by
_LARGE_CELL = 0.5  # of the picture


class Side(NamedTuple):
    """Who says where the cells are: a kind, and a name where there are several of it."""

    kind: Literal["truth", "prediction", "person", "consensus", "others"]
    name: str = ""


TRUTH, MAJORITY, STAPLE = Side("truth"), Side("consensus", "majority"), Side("consensus", "staple")


class Contest(NamedTuple):
    """The second side held against the first.

    Attributes
    ----------
    first, second
        What counts as true, and what is predicted.
    rule
        How cells are paired.
    absent_is_empty
        Whether a picture that the second side lacks is scored as if nothing had been found; else it is left out.
    """

    first: Side
    second: Side
    rule: Rule = "one-to-one"
    absent_is_empty: bool = False


@dataclass(frozen=True)
class Plan:
    """What is common to all contests.

    Attributes
    ----------
    settings
        How cells are compared.
    contests
        Who is held against whom.
    groups, pixel_sizes
        By the pictures' names without suffix.
    """

    settings: EvaluateSettings
    contests: Sequence[Contest]
    groups: Mapping[str, str] = field(default_factory=dict)
    pixel_sizes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Found:
    """What came of all contests.

    Attributes
    ----------
    evaluations
        By contest; those without any picture are left out.
    counts
        Number of cells by picture and side.
    performance
        Sensitivity and specificity that STAPLE gives each person, mean over the pictures; None where no picture tells.
    failed
        What could not be read, by side, then by picture.
    """

    evaluations: Mapping[Contest, Evaluation]
    counts: Mapping[str, Mapping[Side, int]]
    performance: Mapping[str, tuple[float | None, float | None]]
    failed: Mapping[Side, Mapping[str, InputError]]


class _Job(NamedTuple):
    """One picture: its key and name, what it is resampled with, how far centres may lie apart, and who has annotated it."""

    key: str
    name: str
    group: str
    distance_px: float
    sides: Mapping[Side, Annotation]


class _Look(NamedTuple):
    """What came of one picture."""

    scores: dict[Contest, PictureScore]
    counts: dict[Side, int]
    performance: dict[str, tuple[float, float]]
    failed: dict[Side, InputError]


def hold(plan: Plan, sides: Mapping[Side, Mapping[str, Annotation]], names: Mapping[str, str]) -> Found:
    """Carry out all contests on all pictures.

    Parameters
    ----------
    plan
        What to do.
    sides
        The annotations of every side, by the pictures' keys.
    names
        The pictures to work on: by key, what to call them.

    Returns
    -------
    Found

    Raises
    ------
    InputError
        If a distance in micrometres is asked for and a picture's pixel size is not known, no picture's animal is, or nothing
        could be read on a side.
    """
    jobs = [
        _Job(
            key,
            name,
            _group(name, plan),
            _distance(name, plan),
            {side: one[key] for side, one in sides.items() if key in one},
        )
        for key, name in sorted(names.items(), key=lambda item: item[1])
    ]
    _check_groups(jobs, plan)
    looks = list(files.progress(_looks(jobs, plan), len(jobs), "evaluate"))
    failed = _failures(jobs, looks)
    return Found(
        {contest: one for contest in plan.contests if (one := _evaluation(contest, plan, jobs, looks, sides, failed))},
        {job.name: look.counts for job, look in zip(jobs, looks, strict=True)},
        _performance(looks),
        failed,
    )


def _failures(jobs: Sequence[_Job], looks: Sequence[_Look]) -> dict[Side, dict[str, InputError]]:
    failed: dict[Side, dict[str, InputError]] = {}
    for job, look in zip(jobs, looks, strict=True):
        for side, error in look.failed.items():
            failed.setdefault(side, {})[job.name] = error
    for side, errors in failed.items():
        if len(errors) == sum(side in job.sides for job in jobs):
            raise next(iter(errors.values()))
    return failed


def _performance(looks: Sequence[_Look]) -> dict[str, tuple[float | None, float | None]]:
    """Means over the pictures that tell anything: of one in which nobody sees a cell there is no sensitivity."""
    rates: dict[str, list[tuple[float, float]]] = {}
    for look in looks:
        for name, rate in look.performance.items():
            rates.setdefault(name, []).append(rate)
    means = {}
    for name, known in rates.items():
        columns = (column[~np.isnan(column)] for column in np.array(known).T)
        sensitivity, specificity = (float(column.mean()) if len(column) else None for column in columns)
        means[name] = (sensitivity, specificity)
    return means


# --- pictures and what is known of them


def _group(name: str, plan: Plan) -> str:
    key = picture_key(name)
    if plan.groups:
        return plan.groups.get(key, plan.groups.get(key.rsplit("/", 1)[-1], name))
    return (parse_name(name).animal_key or name) if plan.settings.group == "animal" else name


def _check_groups(jobs: Sequence[_Job], plan: Plan) -> None:
    if plan.groups and all(job.group == job.name for job in jobs):
        raise InputError("groups", expected="a group for the pictures", found=f"none for {jobs[0].name}")
    if plan.settings.group == "animal" and all(job.group == job.name for job in jobs):
        raise InputError(
            "--group animal",
            expected="pictures whose names tell the animal, like Mar22b_S1C2R1_VLPAGl_200x_y",
            found=jobs[0].name,
            advice="give a table of the columns picture and group with --groups",
        )


def _distance(name: str, plan: Plan) -> float:
    settings = plan.settings
    if settings.distance_um is None:
        return settings.distance
    key = picture_key(name)
    size = settings.pixel_size or plan.pixel_sizes.get(key)
    if size is None:
        raise InputError(
            name,
            expected="a known pixel size, as the distance is in micrometres",
            found="none",
            advice="give --pixel-size, or the pictures with --images where they tell it",
        )
    return settings.distance_um / size


# --- one picture


def _looks(jobs: Sequence[_Job], plan: Plan) -> Iterable[_Look]:
    lean = replace(plan, groups={}, pixel_sizes={})  # what goes to every picture
    return in_parallel(partial(_look, plan=lean), jobs, plan.settings.workers)


def _look(job: _Job, plan: Plan) -> _Look:
    images: dict[Side, AnnotatedImage] = {}
    failed: dict[Side, InputError] = {}
    for side, annotation in job.sides.items():
        try:
            images[side] = annotation.read()
        except InputError as error:
            failed[side] = error
    performance = _add_consensus(job.name, images, failed, plan.contests)
    scores = {}
    for contest in plan.contests:
        first, second = images.get(contest.first), images.get(contest.second)
        if first is not None and second is not None:
            try:
                scores[contest] = _score(job, first, second, contest, plan.settings)
                continue
            except InputError as error:
                failed[contest.second] = error
        if first is not None and contest.absent_is_empty:
            nothing = AnnotatedImage(first.name, first.shape, ())
            scores[contest] = _score(job, first, nothing, contest, plan.settings)
    return _Look(scores, {side: len(image.cells) for side, image in images.items()}, performance, failed)


def _add_consensus(
    name: str, images: dict[Side, AnnotatedImage], failed: dict[Side, InputError], contests: Sequence[Contest]
) -> dict[str, tuple[float, float]]:
    """Add what people agree upon to the sides, where a contest asks for it; give what STAPLE says of each."""
    wanted = {side for contest in contests for side in contest[:2] if side.kind in ("consensus", "others")}
    people = {side: image for side, image in images.items() if side.kind == "person"}
    if not wanted or len(people) < 2:
        return {}
    for side, error in _unlike(people).items():
        failed[side] = error
        del people[side], images[side]
    shape = _common_shape(people.values())
    people = {side: image.with_shape(shape) for side, image in people.items() if not dots_alone(image)}
    if len(people) < 2:
        return {}
    masks = {side: image.mask for side, image in people.items()}
    # Looked at once: where nobody's cells touch, every consensus has the components of its mask.
    parting = people if any(touching(image.labels) for image in people.values()) else {}
    annotated = list(parting.values())
    performance = {}
    if MAJORITY in wanted:
        images[MAJORITY] = consensus_cells(name, majority(list(masks.values())), annotated)
    if STAPLE in wanted:
        estimate = staple(list(masks.values()))
        images[STAPLE] = consensus_cells(name, estimate.mask, annotated)
        rates = zip(estimate.sensitivity, estimate.specificity, strict=True)
        performance = {side.name: (float(p), float(q)) for side, (p, q) in zip(people, rates, strict=True)}
    for side in wanted:
        without = [one for one in people if one.name != side.name]
        if side.kind == "others" and len(without) >= 2 and len(without) < len(people):
            mask = majority([masks[one] for one in without])
            images[side] = consensus_cells(name, mask, [parting[one] for one in without if one in parting])
    return performance


def _unlike(people: Mapping[Side, AnnotatedImage]) -> dict[Side, InputError]:
    """Find those whose picture has another size than most have."""
    known = Counter(image.shape for image in people.values() if image.shape is not None)
    if len(known) < 2:
        return {}
    usual = known.most_common(1)[0][0]
    example = next(image for image in people.values() if image.shape == usual)
    errors = {}
    for side, image in people.items():
        if image.shape not in (None, usual):
            try:
                one_size(example, image)
            except InputError as error:
                errors[side] = error
    return errors


def _common_shape(images: Iterable[AnnotatedImage]) -> tuple[int, int]:
    sized = list(images)
    for image in sized[1:]:
        sized[0], _ = one_size(sized[0], image)
    shapes = [image.shape for image in sized if image.shape]
    height, width = np.max(shapes, axis=0)
    return int(height), int(width)


def _score(
    job: _Job, truth: AnnotatedImage, prediction: AnnotatedImage, contest: Contest, settings: EvaluateSettings
) -> PictureScore:
    truth, prediction = one_size(truth, prediction)
    overlap = Overlap.between(truth, prediction)
    if contest.rule == "published":
        curve = published_iou(truth, prediction, (settings.iou, *THRESHOLDS))
        segmentation, curve = curve[0], curve[1:]
        detection = published_centres(truth, prediction, job.distance_px)
        total_iou, shifts = None, np.empty((0, 2))
    else:
        near = match_centres(truth, prediction, job.distance_px)
        curve = tuple(overlap.match(threshold).tally for threshold in THRESHOLDS)
        detection, shifts = near.tally, _shifts(truth, prediction, near)
    matching = overlap.match(settings.iou)
    if contest.rule == "one-to-one":
        segmentation, total_iou = matching.tally, float(matching.values.sum())
    shared, true, predicted = (0, 0, 0) if _not_outlined(truth, prediction) else _pixels(truth, prediction)
    return PictureScore(
        picture=job.name,
        n_true=len(truth.cells),
        n_predicted=len(prediction.cells),
        segmentation=segmentation,
        detection=detection,
        curve=curve,
        total_iou=total_iou,
        shared_px=shared,
        true_px=true,
        predicted_px=predicted,
        mistakes=mistakes(overlap, matching),
        distance_px=job.distance_px,
        group=job.group,
        largest=(_largest(truth), _largest(prediction)),
        shifts=shifts,
    )


def _not_outlined(truth: AnnotatedImage, prediction: AnnotatedImage) -> bool:
    return dots_alone(truth) or dots_alone(prediction)


def _pixels(truth: AnnotatedImage, prediction: AnnotatedImage) -> tuple[int, int, int]:
    """Pixels of both sides, of the true, of the predicted; those where cells overlap count once."""
    true, predicted = truth.mask, prediction.mask
    return int((true & predicted).sum()), int(true.sum()), int(predicted.sum())


def _shifts(truth: AnnotatedImage, prediction: AnnotatedImage, near: Matching) -> Floats:
    rows, columns = near.pairs.T
    return np.asarray(prediction.centres[columns] - truth.centres[rows])


def _largest(image: AnnotatedImage) -> float:
    """Share of the picture that its largest cell covers."""
    height, width = image.shape or (0, 0)
    return float(image.areas.max(initial=0) / max(1, height * width))


# --- all pictures of a contest


def _evaluation(
    contest: Contest,
    plan: Plan,
    jobs: Sequence[_Job],
    looks: Sequence[_Look],
    sides: Mapping[Side, Mapping[str, Annotation]],
    failed: Mapping[Side, Mapping[str, InputError]],
) -> Evaluation | None:
    scores = tuple(look.scores[contest] for look in looks if contest in look.scores)
    if not scores:
        return None
    settings = replace(plan.settings, rule=contest.rule)
    known = {side: sides.get(side) for side in (contest.first, contest.second)}
    first, second = known[contest.first], known[contest.second]
    here = [job for job in jobs if first is None or job.key in first]
    missing = [job.name for job in here if second is not None and job.key not in second]
    unscored = [] if first is None or second is None else [one.name for key, one in second.items() if key not in first]
    reasons = {
        name: str(error) for side in (contest.first, contest.second) for name, error in failed.get(side, {}).items()
    }
    return Evaluation(
        settings, scores, tuple(sorted(missing)), tuple(sorted(unscored)), reasons, tuple(_notes(scores, missing, here))
    )


def _pictures(number: int) -> str:
    return "1 picture" if number == 1 else f"{number} pictures"


def _notes(scores: Sequence[PictureScore], missing: Sequence[str], here: Sequence[_Job]) -> Iterable[str]:
    alone = [score.picture for score in scores if score.group == score.picture]
    if 0 < len(alone) < len(scores):
        yield f"{_pictures(len(alone))} of no known group, such as {alone[0]}, drawn by themselves in the resampling"
    if len(missing) == len(here):
        yield f"no prediction is named like a true picture, such as {here[0].name}"
    for place, side in enumerate(("true", "predicted")):
        large = [score for score in scores if score.largest[place] > _LARGE_CELL]
        if large:
            share = f"{large[0].largest[place]:.0%}".replace("%", " %")
            yield (
                f"{_pictures(len(large))} with a {side} cell over half of the picture, such as {large[0].picture} ({share}): "
                "is that value the background?"
            )
    shifts = np.concatenate([score.shifts for score in scores])
    if len(shifts) >= _ENOUGH_PAIRS:
        x, y = np.median(shifts, axis=0)
        spread = np.percentile(np.abs(shifts - (x, y)), 68) / np.sqrt(len(shifts))
        if max(abs(x), abs(y)) > max(_LEAST_SHIFT_PX, 4 * spread):
            yield (
                f"predicted cells lie {x:+.1f} px to the right and {y:+.1f} px below the true ones, on the median: is there "
                "another origin, or a cut or scaled picture?"
            )
