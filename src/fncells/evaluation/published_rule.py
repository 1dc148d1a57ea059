"""The procedure behind Table 2 of Clissa et al., FNC v2, as the published code carries it out, faults and all.

It works on label pictures (later cells drawn over earlier ones, no dots).

- Segmentation: a true cell whose best partner has an IoU *above* the threshold is a TP, else a FN; a predicted cell whose best
  partner has not is a FP; so one cell may serve as partner for several. Of a picture without any background it forgets the
  lowest label.
- Detection does the same with the nearest centre, up to the distance.
- Precision and recall have 0.01 added to their denominators; F1 is made of the two, and without a pair it is not a number.
- Counting compares TP(detection) + FN(detection), called predicted, with TP(segmentation) + FN(detection), called true; so its
  error is TP(detection) − TP(segmentation), whatever was predicted.

The published code labels masks itself, by 8-connected components; here cells are taken as they are read, which for masks is
the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fncells.cells import AnnotatedImage
from fncells.evaluation.matching import Overlap
from fncells.evaluation.tally import Tally

__all__ = ["DIFFERENCES", "EPSILON", "published_centres", "published_counts", "published_iou"]

Floats = NDArray[np.float64]

EPSILON = 0.01
"""What the published code adds to the denominators of precision and recall."""

DIFFERENCES = {
    "segmentation": (
        "The published rule takes each cell's best partner, so one cell can serve several and pairs are not one-to-one; an IoU "
        "of exactly the threshold does not count; and 0.01 in the denominators keeps even a perfect score below 1."
    ),
    "detection": (
        "The published rule asks of each cell whether any centre is near, so one prediction between two true cells finds both."
    ),
    "counting": (
        "The published rule calls TP + FN of the detection predicted, which is the number of true cells, so that its count "
        "error is TP(detection) − TP(segmentation) and cells predicted in excess never show."
    ),
}
"""Why the published figures differ from those of the one-to-one rule, a sentence each."""


def published_iou(truth: AnnotatedImage, prediction: AnnotatedImage, thresholds: Sequence[float]) -> tuple[Tally, ...]:
    """Count by the best IoU of each cell, as published.

    Parameters
    ----------
    truth, prediction
        Cells of one picture of one known size.
    thresholds
        An IoU above a threshold counts.

    Returns
    -------
    tuple of Tally
        One a threshold.
    """
    overlap = Overlap.of_labels(truth.labels, prediction.labels)
    # The lowest value of a picture is taken for the background, even where there is none.
    first_row, first_column = int(bool(truth.labels.all())), int(bool(prediction.labels.all()))
    rows, columns = overlap.rows, overlap.columns
    kept = (rows >= first_row) & (columns >= first_column)
    best_of_true, best_of_predicted = np.zeros(len(overlap.true_areas)), np.zeros(len(overlap.predicted_areas))
    np.maximum.at(best_of_true, rows[kept], overlap.ious[kept])
    np.maximum.at(best_of_predicted, columns[kept], overlap.ious[kept])
    true, predicted = best_of_true[first_row:], best_of_predicted[first_column:]
    return tuple(
        Tally(int((true > at).sum()), int((predicted <= at).sum()), int((true <= at).sum()), EPSILON)
        for at in thresholds
    )


def published_centres(truth: AnnotatedImage, prediction: AnnotatedImage, distance: float) -> Tally:
    """Count by the nearest centre of each cell, as published.

    Parameters
    ----------
    truth, prediction
        Cells of one picture of one known size.
    distance
        In pixels; one of exactly it counts.
    """
    true, predicted = _label_centres(truth.labels), _label_centres(prediction.labels)
    found = _nearest(true, predicted) <= distance
    extra = _nearest(predicted, true) > distance
    return Tally(int(found.sum()), int(extra.sum()), int((~found).sum()), EPSILON)


def published_counts(segmentation: Tally, detection: Tally) -> tuple[int, int]:
    """Give what the published code calls the true and the predicted number of cells of a picture."""
    return segmentation.tp + detection.fn, detection.tp + detection.fn


def _label_centres(labels: NDArray[np.int32]) -> Floats:
    y, x = np.nonzero(labels)
    _, ranks, areas = np.unique(labels[y, x], return_inverse=True, return_counts=True)
    return np.stack([np.bincount(ranks, weights=x), np.bincount(ranks, weights=y)], axis=1) / areas[:, np.newaxis]


def _nearest(points: Floats, others: Floats) -> Floats:
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    distances, _ = cKDTree(others).query(points)
    return np.asarray(distances, dtype=np.float64)
