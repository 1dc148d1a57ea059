"""How well cells agree with other cells."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fncells import files
from fncells.commands.common import AS_USUAL, FLAT, Common, is_archive, name_absent, name_failures, warn
from fncells.evaluation import EvaluateSettings, compare
from fncells.evaluation import agree as agree_people
from fncells.evaluation.sources import agreement_sources, evaluation_sources
from fncells.evaluation.tables import agreement_table, comparison_table

__all__ = ["agree", "evaluate"]


def evaluate(
    truth: Path,
    predictions: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    settings: Annotated[EvaluateSettings, FLAT] = EvaluateSettings(),  # noqa: B008 - frozen
    annotators: Annotated[list[Path] | None, Parameter(negative="", consume_multiple=True)] = None,
    groups: Path | None = None,
    images: Path | None = None,
    out: Path | None = None,
    common: Common = AS_USUAL,
) -> int:
    """Compare predicted cells with true ones: segmentation, detection and counting.

    Both sides may be in any format. Several predictions are compared with each other as well, picture by picture.

    Example: fncells evaluate masks predicted --distance 40 --out scores

    Parameters
    ----------
    truth
        True cells.
    predictions
        Predicted cells, of one or several methods; pictures are paired by their names without suffix.
    settings
        How to compare.
    annotators
        What several people annotated in the same pictures, one after the other: their agreement becomes a row of the table.
    groups
        A CSV file with the columns picture and group: what is drawn as a whole in the resampling, such as animals.
    images
        Folder of the pictures, for formats that do not hold their sizes; with --out they are shown in the report.
    out
        Folder for a page, Table 2, figures and pictures of the errors.
    """
    sources = evaluation_sources(truth, predictions, annotators or [], settings, images=images, groups=groups)
    compared = compare(
        sources.truth,
        sources.predictions,
        settings,
        annotators=sources.annotators,
        groups=sources.groups or _animals(truth, settings),
        pixel_sizes=sources.pixel_sizes,
        both_rules=out is not None,
    )
    if out is not None:
        from fncells.evaluation_report import draw_worst, evaluation_report

        overlays = draw_worst(compared, sources.truth, sources.predictions, sources.pictures)
        evaluation_report(out, compared, overlays)
        files.write_record(out, "evaluate", sources.settings, sources.inputs)
    several = len(compared.evaluations) > 1
    for name, one in compared.evaluations.items():
        _remark_on(f"{name}: " if several else "", one.missing, one.failed, one.unscored, one.notes)
    for name, one in compared.people.against_truth.items():
        name_failures({f"{name}: {picture}": reason for picture, reason in one.failed.items()})
        name_absent(name, one.missing)
    common.result(compared.as_dict(), comparison_table(compared))
    failed = [one.failed for one in (*compared.evaluations.values(), *compared.people.against_truth.values())]
    return int(any(failed) or any(one.missing for one in compared.evaluations.values()))


def agree(
    annotators: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    settings: Annotated[EvaluateSettings, FLAT] = EvaluateSettings(),  # noqa: B008 - frozen
    consensus: Path | None = None,
    groups: Path | None = None,
    images: Path | None = None,
    out: Path | None = None,
    common: Common = AS_USUAL,
) -> int:
    """Compare what several people annotated: with each other, and with what they agree upon.

    The consensus is made by majority and by STAPLE. A picture that somebody has not annotated is left out where that one is
    compared.

    Example: fncells agree expert_1 expert_2 expert_3 --out agreement

    Parameters
    ----------
    annotators
        The annotations of each, in any format; two or more.
    settings
        How to compare.
    consensus
        A consensus that was reached otherwise, to compare with as well.
    groups
        A CSV file with the columns picture and group: what is drawn as a whole in the resampling, such as animals.
    images
        Folder of the pictures, for formats that do not hold their sizes.
    out
        Folder for a page, tables and figures.
    """
    sources = agreement_sources(annotators, consensus, settings, images=images, groups=groups)
    agreement = agree_people(
        sources.annotators,
        settings,
        consensus=sources.truth or None,
        groups=sources.groups,
        pixel_sizes=sources.pixel_sizes,
    )
    if out is not None:
        from fncells.evaluation_report import agreement_report

        agreement_report(out, agreement)
        files.write_record(out, "agree", sources.settings, sources.inputs)
    for name, pictures in agreement.absent.items():
        name_absent(name, pictures)
    for name, reasons in agreement.failed.items():
        name_failures({f"{name}: {picture}": reason for picture, reason in reasons.items()})
    common.result(agreement.as_dict(), agreement_table(agreement))
    return int(bool(agreement.absent or agreement.failed))


def _remark_on(
    whose: str, missing: Iterable[str], failed: Mapping[str, str], unscored: Iterable[str], notes: Iterable[str]
) -> None:
    """Tell what could not be compared as it should be."""
    name_failures({f"{whose}{name}": reason for name, reason in failed.items()})
    for name in missing:
        sys.stderr.write(f"{whose}{name}: no prediction; scored as if nothing had been found\n")
    for name in unscored:
        sys.stderr.write(f"{whose}{name}: no truth; left out\n")
    warn(f"{whose}{note}" for note in notes)


def _animals(truth: Path, settings: EvaluateSettings) -> dict[str, str]:
    """Which animal each picture shows, where the truth lies in an archive, whose index knows what its numbers stand for."""
    from fncells.archive import Archive

    place = truth.resolve()
    around = next((parent for parent in place.parents if is_archive(parent)), None)
    if around is None or settings.group != "animal":
        return {}
    archive = Archive.open(around)
    here = [one for one in archive.samples() if place.is_relative_to(archive.root / one.collection / one.partition)]
    return {Path(one.name).stem: one.animal for one in here if one.animal}
