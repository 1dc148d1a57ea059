"""Pairing of true and predicted cells."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks import scenes
from benchmarks.timing import compare, report
from fncells.evaluation import match_labels


def run() -> None:
    stardist = scenes.imported("stardist.matching")
    rows = []
    for count in (60, 300):
        truth = scenes.labels(count)
        prediction = scenes.found(truth)
        peer: Callable[[], object] | None = None
        if stardist is not None:
            theirs = stardist.matching(truth, prediction, thresh=0.5)
            tally = match_labels(truth, prediction).tally
            if (theirs.tp, theirs.fp, theirs.fn) != (tally.tp, tally.fp, tally.fn):
                raise SystemExit(f"the two disagree, ours {tally}, theirs {theirs}: nothing to time")

            def peer(truth: NDArray[np.int32] = truth, prediction: NDArray[np.int32] = prediction) -> object:
                return stardist.matching(truth, prediction, thresh=0.5)

        rows.append(
            compare(
                f"{count} cells a side",
                lambda truth=truth, prediction=prediction: match_labels(truth, prediction),
                {"StarDist": peer},
                lambda truth=truth, prediction=prediction: _one_pass(truth, prediction),
            )
        )
    report("Matching at IoU 0.5, 1600x1200", "one pass over both pictures that counts the pixels of every pair", rows)


def _one_pass(truth: NDArray[np.int32], prediction: NDArray[np.int32]) -> NDArray[np.intp]:
    return np.bincount((truth * np.int32(prediction.max() + 1) + prediction).ravel())
