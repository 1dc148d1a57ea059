"""The cells of an archive in numbers: Table 1, and the values behind its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fncells import files
from fncells.archive import Archive, Sample
from fncells.cells import AnnotatedImage
from fncells.challenges import CHALLENGES, PictureChallenges, difficulties, picture_challenges
from fncells.errors import InputError
from fncells.images import display_rgb
from fncells.measure import Counts, PictureSummary, Table1, summarise, table1
from fncells.overlay import overlay
from fncells.workers import in_parallel

__all__ = ["Description", "describe"]

_PREVIEWS = 2
_HARD_SIDE = 800  # px of a picture in the gallery of the hardest

Caption = tuple[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Description:
    """What an archive holds.

    Attributes
    ----------
    table
        Table 1 of Clissa et al., FNC v2, by collection; see :func:`fncells.measure.table1`.
    composition
        Number of pictures by collection and partition (figure 4c).
    distributions
        Values of each measure by collection.
    previews
        By collection, captions and pictures, uint8 RGB (figure 2).
    challenges
        How hard each labelled picture is, where that was asked for.
    difficulty
        Its rank among the pictures of its collection, 0 to 1, in the same order.
    hardest
        By collection, the hardest picture of each challenge with its cells outlined, uint8 RGB (figure 5).
    failed
        Reasons by the files that could not be read; they are left out of all the rest.
    """

    table: Table1
    composition: Mapping[str, Mapping[str, int]]
    distributions: Mapping[str, Mapping[str, Sequence[float]]]
    previews: Mapping[str, Sequence[Caption]]
    challenges: Sequence[PictureChallenges] = ()
    difficulty: Sequence[float] = ()
    hardest: Mapping[str, Sequence[Caption]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def describe(
    archive: Archive, counts: Counts = "per-picture", workers: int = 1, *, challenges: bool = False
) -> Description:
    """Measure the labelled cells of an archive.

    Parameters
    ----------
    archive
        The archive.
    counts
        Whether cell counts are told per picture, or weighted by objects as the paper prints them.
    workers
        Processes that measure; the result does not depend on it.
    challenges
        Whether to look at the pictures too, and measure how hard each is.

    Returns
    -------
    Description
    """
    samples = archive.samples()
    labelled = [sample for sample in samples if sample.mask_path is not None]
    work = in_parallel(partial(_summary, with_picture=challenges), labelled, workers)
    found = list(zip(labelled, files.progress(work, len(labelled), "measuring"), strict=True))
    failed = {_name(archive, sample): why for sample, why in found if isinstance(why, str)}
    summaries = [one for _, one in found if not isinstance(one, str)]
    labelled = [sample for sample, one in found if not isinstance(one, str)]
    table = table1(summaries, counts)
    hard = _challenges(labelled, workers) if challenges else []
    difficulty = difficulties(hard)
    return Description(
        table=table,
        composition=_composition(samples),
        distributions=_distributions(summaries, table),
        previews=_previews(labelled),
        challenges=hard,
        difficulty=difficulty,
        hardest=_hardest(labelled, hard, difficulty) if hard else {},
        failed=failed,
    )


def _name(archive: Archive, sample: Sample) -> str:
    return sample.picture_path.relative_to(archive.root).as_posix()


def _summary(sample: Sample, with_picture: bool) -> PictureSummary | str:
    """Measure what Table 1 needs, or give the reason why that cannot be done."""
    try:
        cells = sample.read_cells()
        if with_picture:
            _check_fit(sample, cells)
        return summarise(cells, sample.collection, sample.pixel_size)
    except InputError as error:
        return str(error)


def _check_fit(sample: Sample, cells: AnnotatedImage) -> None:
    shape = sample.read_picture().pixels.shape[:2]
    if cells.shape != shape:
        raise InputError(
            sample.picture_path,
            expected=f"a picture of {cells.shape} pixels, as its ground truth has",
            found=f"one of {shape}",
            advice="run `fncells check` on the archive",
        )


def _challenges(labelled: Sequence[Sample], workers: int) -> list[PictureChallenges]:
    """Measure all pictures; those without cells by the yardstick of their collection's median cell."""
    found = _looked_at([(sample, None) for sample in labelled], workers)
    yardsticks: dict[str, tuple[float, float] | None] = {}
    for collection in {sample.collection for sample in labelled}:
        known = [
            (one.cell_brightness, one.cell_diameter_px)
            for one in found
            if one.collection == collection and one.cell_brightness is not None and one.cell_diameter_px is not None
        ]
        heights, diameters = zip(*known, strict=True) if known else ((), ())
        yardsticks[collection] = (float(np.median(heights)), float(np.median(diameters))) if known else None
    again = [place for place, one in enumerate(found) if one.artefacts is None and yardsticks[one.collection]]
    rest = [(labelled[place], yardsticks[labelled[place].collection]) for place in again]
    for place, one in zip(again, _looked_at(rest, workers), strict=True):
        found[place] = one
    return found


def _looked_at(work: Sequence[tuple[Sample, tuple[float, float] | None]], workers: int) -> list[PictureChallenges]:
    done = in_parallel(_challenge, work, workers)
    return list(files.progress(done, len(work), "looking at pictures")) if work else []


def _challenge(job: tuple[Sample, tuple[float, float] | None]) -> PictureChallenges:
    sample, yardstick = job
    return picture_challenges(sample.read_cells(), sample.read_picture().pixels, sample.collection, yardstick)


def _hardest(
    labelled: Sequence[Sample], found: Sequence[PictureChallenges], difficulty: Sequence[float]
) -> dict[str, list[Caption]]:
    """Show the hardest picture of each challenge, and the hardest in all, each once with all that it is hardest in."""
    shown: dict[str, list[Caption]] = {}
    for collection in sorted({one.collection for one in found}):
        members = [place for place, one in enumerate(found) if one.collection == collection]
        reasons: dict[int, list[str]] = {}
        for challenge in CHALLENGES:
            known = {place: challenge.hardness(found[place]) for place in members}
            values = {place: value for place, value in known.items() if value is not None}
            # Where all are alike none is hard.
            if len(set(values.values())) > 1:
                place = max(values, key=lambda one: (values[one], -one))
                reasons.setdefault(place, []).append(challenge.told(found[place]))
        if len(members) > 1 and reasons:
            overall = max(members, key=lambda one: (difficulty[one], -one))
            reasons.setdefault(overall, []).append("the hardest in all")
        shown[collection] = [_hard_picture(labelled[place], "; ".join(why)) for place, why in reasons.items()]
    return shown


def _hard_picture(sample: Sample, why: str) -> Caption:
    drawn = overlay(sample.read_picture().pixels, sample.read_cells(), side=_HARD_SIDE, numbers=False)
    return f"{sample.collection} {sample.name}: {why}", drawn


def _composition(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    composition: dict[str, dict[str, int]] = {}
    for sample in samples:
        partitions = composition.setdefault(sample.collection, {})
        partitions[sample.partition] = partitions.get(sample.partition, 0) + 1
    return composition


def _distributions(summaries: Sequence[PictureSummary], table: Table1) -> dict[str, dict[str, list[float]]]:
    """Values by measure and collection, in the unit that the table gives them in."""
    distributions: dict[str, dict[str, list[float]]] = {}
    for collection, measures in table.items():
        of_collection = [summary for summary in summaries if summary.collection == collection]
        unit = "um" if "area_um2" in measures else "px"
        for measure, attribute, power in (
            (f"area_{unit}2", "areas", 2),
            (f"feret_{unit}", "ferets", 1),
            (f"equivalent_diameter_{unit}", "equivalent_diameters", 1),
        ):
            values = distributions.setdefault(measure, {}).setdefault(collection, [])
            for summary in of_collection:
                scale = summary.pixel_size.um if unit == "um" and summary.pixel_size else 1.0
                values.extend((getattr(summary, attribute) * scale**power).tolist())
        signal = distributions.setdefault("signal_percent", {})
        signal[collection] = [summary.signal_percent for summary in of_collection]
        cells = distributions.setdefault("cell_count", {})
        cells[collection] = [float(summary.n_cells) for summary in of_collection]
    return distributions


def _previews(labelled: Sequence[Sample]) -> dict[str, list[Caption]]:
    """Show the first pictures of each collection, bare and with the cells outlined."""
    previews: dict[str, list[Caption]] = {}
    for sample in labelled:
        row = previews.setdefault(sample.collection, [])
        if len(row) < 2 * _PREVIEWS:
            pixels, cells = sample.read_picture().pixels, sample.read_cells()
            row.append((sample.name, display_rgb(pixels)))
            number = len(cells.cells)
            row.append((f"{number} {'cell' if number == 1 else 'cells'}", overlay(pixels, cells, numbers=False)))
    return previews
