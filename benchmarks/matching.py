"""Pairing of true and predicted cells: speed beside peers and the published procedure, memory, and many pictures at once."""

import time
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import peers, scenes
from benchmarks.timing import Row, compare, report
from fncells.evaluation import EvaluateSettings, match_labels, read_side
from fncells.evaluation import compare as compare_predictions

Labels = NDArray[np.int32]

_PICTURES = 500
_SIDE, _STEP = 10_000, 70  # 20,164 cells


def run() -> None:
    _pairing()
    _published()
    _large()
    _many()


def _pairing() -> None:
    stardist = scenes.imported("stardist.matching")
    rows = []
    for count in (60, 300):
        truth = scenes.labels(count)
        prediction = scenes.found(truth)
        ours = match_labels(truth, prediction).tally
        with peers.Peers(truth, prediction) if peers.there() else nullcontext() as others:
            tasks: dict[str, Callable[[], object] | None] = {"StarDist": None}
            if stardist is not None:
                theirs = stardist.matching(truth, prediction, thresh=0.5)
                _same("StarDist", (theirs.tp, theirs.fp, theirs.fn), ours)
                tasks["StarDist"] = lambda t=truth, p=prediction: stardist.matching(t, p, thresh=0.5)
            for name, task in (("Cellpose", "cellpose"), ("panoptica", "panoptica")):
                found: Any = others.ask(task) if others else None
                if found:
                    _same(name, tuple(found[:3]), ours)
                tasks[name] = others.task(task) if others else None
            rows.append(
                compare(
                    f"{count} cells a side",
                    lambda t=truth, p=prediction: match_labels(t, p),
                    tasks,
                    lambda t=truth, p=prediction: _one_pass(t, p),
                )
            )
    report("Matching at IoU 0.5, 1600x1200", "one pass over both pictures that counts the pixels of every pair", rows)
    if not peers.there():
        print(
            "\nCellpose and panoptica: skipped, FNCELLS_PEERS names no Python that has them (see benchmarks/peers.py)."
        )


def _published() -> None:
    truth = scenes.labels(60)
    prediction = scenes.found(truth)
    start = time.perf_counter()
    found = literal_published(truth, prediction, 0.5)
    taken = time.perf_counter() - start
    ours = compare(
        "60 cells a side",
        lambda: match_labels(truth, prediction),
        {},
        lambda: _one_pass(truth, prediction),
    )
    row = Row(ours.what, ours.ours, {"published procedure": taken}, ours.limit)
    report(f"The published IoU matching, 1600x1200 (once; TP {found})", "as above", [row])


def _large() -> None:
    truth, prediction = np.zeros((_SIDE, _SIDE), np.int32), np.zeros((_SIDE, _SIDE), np.int32)
    places = [(x, y) for y, x in product(range(10, _SIDE - 60, _STEP), repeat=2)]
    for number, (x, y) in enumerate(places, 1):
        cv2.circle(truth, (x + 20, y + 20), 15, number, -1)
        cv2.circle(prediction, (x + 22, y + 21), 16, number, -1)
    tracemalloc.start()
    start = time.perf_counter()
    tally = match_labels(truth, prediction).tally
    taken = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"\n{len(places)} cells a side in one picture of {_SIDE}x{_SIDE}: {taken:.1f} s, at most {peak / 2**20:.0f} MiB beside "
        f"the two pictures of {truth.nbytes / 2**20:.0f} MiB each ({tally.tp} pairs); a table of all pairs would take "
        f"{8 * len(places) ** 2 / 2**20:.0f} MiB."
    )


def _spin(turns: int) -> int:
    return sum(number * number % 7 for number in range(turns))


def _gain_of_machine() -> float:
    """Measure how much faster two processes do plain arithmetic just now than one: other work on the machine costs a share."""
    import joblib

    with joblib.Parallel(n_jobs=2) as parallel:
        parallel(joblib.delayed(_spin)(1) for _ in range(2))
        start = time.perf_counter()
        parallel([joblib.delayed(_spin)(20_000_000)])
        alone = time.perf_counter() - start
        start = time.perf_counter()
        parallel(joblib.delayed(_spin)(20_000_000) for _ in range(2))
        return 2 * alone / (time.perf_counter() - start)


def _many() -> None:
    """Evaluate many pairs of label pictures from files, with one and with two processes."""
    with TemporaryDirectory() as folder:
        for number in range(_PICTURES):
            labels = scenes.labels(100, seed=number)
            for side, array in (("truth", labels), ("found", scenes.found(labels))):
                (Path(folder) / side).mkdir(exist_ok=True)
                cv2.imwrite(f"{folder}/{side}/{number:03}.png", array.astype(np.uint16))
        taken, own = {}, {}
        for workers in (1, 2):
            start, before = time.perf_counter(), time.process_time()
            sides = [read_side(Path(folder) / side, workers=workers) for side in ("truth", "found")]
            settings = EvaluateSettings(workers=workers)
            compared = compare_predictions(sides[0], {"found": sides[1]}, settings)
            taken[workers], own[workers] = time.perf_counter() - start, time.process_time() - before
        tally = compared.evaluations["found"].segmentation
    print(
        f"\n{_PICTURES} pairs of 1600x1200 label pictures with 100 cells, from files to all scores and intervals: "
        f"{taken[1]:.0f} s with one process, {taken[2]:.0f} s with two, {taken[1] / taken[2]:.2f} times as fast "
        f"({tally.tp} pairs). Of all the work, {own[1]:.1f} s of processor time, {own[2]:.1f} s stay with the process that "
        f"hands it out. Plain arithmetic gained {_gain_of_machine():.2f} times in the same minute."
    )


def literal_published(truth: Labels, prediction: Labels, threshold: float) -> int:
    """Do as the published procedure does: for every true cell a pass over the whole picture for every predicted one."""
    found = 0
    for true in np.unique(truth)[1:]:
        best = 0.0
        for predicted in np.unique(prediction)[1:]:
            mine, theirs = truth == true, prediction == predicted
            best = max(best, np.logical_and(mine, theirs).sum() / np.logical_or(mine, theirs).sum())
        found += best > threshold
    return found


def _same(name: str, theirs: tuple[float, ...], ours: Any) -> None:
    if tuple(theirs) != (ours.tp, ours.fp, ours.fn):
        raise SystemExit(f"the two disagree, ours {ours}, {name} {theirs}: nothing to time")


def _one_pass(truth: Labels, prediction: Labels) -> NDArray[np.intp]:
    return np.bincount((truth * np.int32(prediction.max() + 1) + prediction).ravel())
