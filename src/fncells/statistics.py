"""The cells of an archive in numbers: Table 1, and the values behind its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import joblib
import numpy as np
from numpy.typing import NDArray

from fncells import files
from fncells.archive import Archive, Sample
from fncells.images import display_rgb
from fncells.measure import Counts, PictureSummary, Table1, summarise, table1
from fncells.overlay import overlay

__all__ = ["Description", "describe"]

_PREVIEWS = 2


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
    """

    table: Table1
    composition: Mapping[str, Mapping[str, int]]
    distributions: Mapping[str, Mapping[str, Sequence[float]]]
    previews: Mapping[str, Sequence[tuple[str, NDArray[np.uint8]]]]


def describe(archive: Archive, counts: Counts = "per-picture", workers: int = 1) -> Description:
    """Measure the labelled cells of an archive.

    Parameters
    ----------
    archive
        The archive.
    counts
        Whether cell counts are told per picture, or weighted by objects as the paper prints them.
    workers
        Processes that measure; the result does not depend on it.

    Returns
    -------
    Description
    """
    samples = archive.samples()
    labelled = [sample for sample in samples if sample.mask_path is not None]
    work = joblib.Parallel(n_jobs=workers, return_as="generator")(joblib.delayed(_summary)(one) for one in labelled)
    summaries = list(files.progress(work, len(labelled), "measuring"))
    table = table1(summaries, counts)
    return Description(
        table=table,
        composition=_composition(samples),
        distributions=_distributions(summaries, table),
        previews=_previews(labelled),
    )


def _summary(sample: Sample) -> PictureSummary:
    return summarise(sample.read_cells(), sample.collection, sample.pixel_size)


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


def _previews(labelled: Sequence[Sample]) -> dict[str, list[tuple[str, NDArray[np.uint8]]]]:
    """Show the first pictures of each collection, bare and with the cells outlined."""
    previews: dict[str, list[tuple[str, NDArray[np.uint8]]]] = {}
    for sample in labelled:
        row = previews.setdefault(sample.collection, [])
        if len(row) < 2 * _PREVIEWS:
            pixels, cells = sample.read_picture().pixels, sample.read_cells()
            row.append((sample.name, display_rgb(pixels)))
            row.append((f"{len(cells.cells)} cells", overlay(pixels, cells, numbers=False)))
    return previews
