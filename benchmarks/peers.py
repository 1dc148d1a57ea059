"""Other tools' evaluations, run by the Python of an environment of their own, as they do not install beside ours.

::

    python3 -m venv peers
    peers/bin/pip install panoptica stardist fill-voids fastremap tqdm torch    # any build of torch will do
    peers/bin/pip install --no-deps cellpose                                    # its models would need torchvision
    FNCELLS_PEERS=peers/bin/python python -m benchmarks matching

This file is both ends: imported, it starts that Python on itself and hands it label pictures and the names of tasks; run, it
does them, one a line on standard input, and answers with one line each. A task is timed from here, its way there and back
included, which takes well under a millisecond.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Peers:
    """The other Python, with one pair of label pictures."""

    def __init__(self, truth: NDArray[np.int32], prediction: NDArray[np.int32]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        for name, labels in (("truth", truth), ("prediction", prediction)):
            np.save(Path(self._folder.name) / f"{name}.npy", labels)
        words = [os.environ["FNCELLS_PEERS"], "-W", "ignore", __file__, self._folder.name]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> "Peers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin and self._process.stdout:
            self._process.stdin.close()
            self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, task: str) -> Any:
        """Give what a task finds, or None where its tool is not installed."""
        if not (self._process.stdin and self._process.stdout):
            return None
        self._process.stdin.write(f"{task}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def task(self, name: str) -> Callable[[], object] | None:
        """Give a task to time; None where its tool is not installed."""
        return None if self.ask(name) is None else lambda: self.ask(name)


def there() -> bool:
    """Tell whether FNCELLS_PEERS names a Python."""
    return bool(os.environ.get("FNCELLS_PEERS")) and Path(os.environ["FNCELLS_PEERS"]).exists()


# --- the other end


def _cellpose(truth: NDArray[np.int32], prediction: NDArray[np.int32]) -> list[int]:
    from cellpose.metrics import average_precision

    _, tp, fp, fn = average_precision([truth], [prediction], threshold=[0.5])
    return [int(tp[0, 0]), int(fp[0, 0]), int(fn[0, 0])]


def _stardist(truth: NDArray[np.int32], prediction: NDArray[np.int32]) -> list[int]:
    from stardist.matching import matching

    found = matching(truth, prediction, thresh=0.5)
    return [found.tp, found.fp, found.fn]


def _panoptica(truth: NDArray[np.int32], prediction: NDArray[np.int32]) -> list[float]:
    from panoptica import InputType, Panoptica_Evaluator
    from panoptica.instance_matcher import NaiveThresholdMatching

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.UNMATCHED_INSTANCE, instance_matcher=NaiveThresholdMatching(matching_threshold=0.5)
    )
    found = evaluator.evaluate(prediction.astype(np.uint16), truth.astype(np.uint16), verbose=False)["ungrouped"]
    return [found.tp, found.fp, found.fn, found.pq, found.sq, found.rq]


def _answer(folder: str) -> None:
    truth, prediction = (np.load(Path(folder) / f"{name}.npy") for name in ("truth", "prediction"))
    answers, sys.stdout = sys.stdout, sys.stderr  # what the tools print is no answer
    tasks = {"cellpose": _cellpose, "stardist": _stardist, "panoptica": _panoptica}
    for line in sys.stdin:
        task = tasks.get(line.strip())
        try:
            found = None if task is None else [float(one) for one in task(truth, prediction)]
        except ImportError:
            found = None
        answers.write(f"{json.dumps(found)}\n")
        answers.flush()


if __name__ == "__main__":
    _answer(sys.argv[1])
