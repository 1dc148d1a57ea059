"""True positives, false positives and false negatives, and the scores that they make."""

from dataclasses import dataclass

__all__ = ["Tally"]


@dataclass(frozen=True)
class Tally:
    """True positives, false positives and false negatives, and the scores they make.

    Attributes
    ----------
    tp, fp, fn
        Pairs, predicted cells without a partner, true cells without one.
    epsilon
        Added to the denominators of precision and recall; 0 but for the published rule.
    """

    tp: int
    fp: int
    fn: int
    epsilon: float = 0.0

    @property
    def precision(self) -> float | None:
        """Share of the predicted cells that are true; None without predicted cells."""
        return _ratio(self.tp, self.tp + self.fp + self.epsilon)

    @property
    def recall(self) -> float | None:
        """Share of the true cells that were found; None without true cells."""
        return _ratio(self.tp, self.tp + self.fn + self.epsilon)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without any cells.

        With an epsilon it is made from the two, as published: a perfect one falls short of 1, and without a single pair it
        is None.
        """
        if self.epsilon:
            precision, recall = self.precision or 0.0, self.recall or 0.0
            return _ratio(2 * precision * recall, precision + recall)
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def jaccard(self) -> float | None:
        """Pairs among all cells of both sides, a pair once: TP / (TP + FP + FN); None without any cells.

        StarDist and Cellpose call it the average precision at a threshold.
        """
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    def as_dict(self) -> dict[str, int]:
        """Give the three counts by name."""
        return {"tp": self.tp, "fp": self.fp, "fn": self.fn}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
