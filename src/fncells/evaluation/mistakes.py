"""What went wrong with cells that found no partner: missed, extra, split, merged, or outlined otherwise.

A cell *lies in* one of the other side if that one covers at least half of its pixels.
"""

from dataclasses import dataclass, fields

import numpy as np

from fncells.evaluation.matching import Matching, Overlap

__all__ = ["Mistakes", "mistakes"]


@dataclass(frozen=True)
class Mistakes:
    """Errors of a picture's outlines by their kind.

    Attributes
    ----------
    missed
        True cells without partner that nothing predicted lies in or covers half of.
    extra
        Predicted cells without partner that no true cell lies in or covers half of.
    split
        True cells in which two or more predicted cells lie.
    merged
        Predicted cells in which two or more true cells lie.
    inexact
        Other true cells without partner: something was found there, but its outline agrees too little.
    """

    missed: int = 0
    extra: int = 0
    split: int = 0
    merged: int = 0
    inexact: int = 0

    def as_dict(self) -> dict[str, int]:
        """Give the numbers by kind."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def mistakes(overlap: Overlap, matching: Matching) -> Mistakes:
    """Tell the kinds of error of a picture.

    Parameters
    ----------
    overlap
        The pixels that its cells share.
    matching
        Which of them are pairs.
    """
    n, m = len(overlap.true_areas), len(overlap.predicted_areas)
    rows, columns = overlap.rows, overlap.columns
    true_inside = 2 * overlap.pixels >= overlap.true_areas[rows]
    predicted_inside = 2 * overlap.pixels >= overlap.predicted_areas[columns]
    split = np.bincount(rows[predicted_inside], minlength=n) >= 2
    merged = np.bincount(columns[true_inside], minlength=m) >= 2
    met = true_inside | predicted_inside
    met_true = np.bincount(rows[met], minlength=n) > 0
    met_predicted = np.bincount(columns[met], minlength=m) > 0
    lost, needless = overlap.true_areas > 0, overlap.predicted_areas > 0
    lost[matching.pairs[:, 0]] = False
    needless[matching.pairs[:, 1]] = False
    in_merge = np.bincount(rows[true_inside & merged[columns]], minlength=n) > 0
    return Mistakes(
        missed=int((lost & ~met_true).sum()),
        extra=int((needless & ~met_predicted).sum()),
        split=int(split.sum()),
        merged=int(merged.sum()),
        inexact=int((lost & met_true & ~split & ~in_merge).sum()),
    )
