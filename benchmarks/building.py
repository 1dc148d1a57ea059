"""From a lab's folder to an archive: how time and memory grow with the number of pictures, and what a second worker brings.

    python -m benchmarks building [--pictures 250 500 1000 2000]

It takes minutes, and so it runs only where it is named. Pictures are synthetic and small (480x360, an eleventh of a published
one): what a build costs beside the pixels shows all the better.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from fncells.published import COLLECTIONS
from fncells.synthetic import synthesise

PICTURES = (250, 500, 1000, 2000)
SIZE = "480x360"
SEED = 10
COMMAND = "from fncells.cli import main; main()"
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in


class Run(NamedTuple):
    """What a build took: seconds of the whole command, and the peak memory of its largest process in MB."""

    seconds: float
    peak: float


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks building", description=__doc__.split("\n\n")[0])
    parser.add_argument("--pictures", nargs="+", type=int, default=PICTURES, help="about how many, in each lab")
    parser.add_argument("--size", default=SIZE, help="width and height of the pictures")
    chosen = parser.parse_args(arguments)
    run(chosen.pictures, chosen.size)


def run(pictures: Sequence[int], size: str) -> None:
    width, height = map(int, size.split("x"))
    print(f"\n## Building an archive of pictures of {size}, ground truths in ten formats, 1 worker\n")
    print("| pictures | seconds | seconds per 1000 | peak memory, MB | second build, share of the first |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for wished in pictures:
            lab = folder / f"lab {wished}"
            each = -(-wished // len(COLLECTIONS))
            synthesise(lab, pictures=each, seed=SEED, size=(width, height), workers=os.cpu_count() or 1)
            raw = [path for path in sorted((lab / "raw").rglob("*")) if path.is_file()]
            # Each has its own archive: file systems are slow to make files where as many have just been deleted.
            archive = folder / f"archive {wished}"
            first, second = _build(lab, archive), _build(lab, archive)
            share, rate = second.seconds / first.seconds, first.seconds / len(raw) * 1000
            print(f"| {len(raw)} | {first.seconds:.1f} | {rate:.1f} | {first.peak:.0f} | {share:.0%} |", flush=True)
        parallel = _build(lab, folder / "archive of two", workers=2)
        limit = _limit(raw)
    print(f"\nThe last with 2 workers: {parallel.seconds:.1f} s, {first.seconds / parallel.seconds:.2f}× as fast.")
    print(
        f"Limit, the same pictures decoded and encoded as PNG in one process: {limit / first.seconds:.0%} of 1 worker."
    )


def _build(lab: Path, archive: Path, workers: int = 1) -> Run:
    words = [sys.executable, "-c", COMMAND, "build", str(lab), str(archive), "--workers", str(workers), "--quiet"]
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    _, status, usage = os.wait4(os.posix_spawn(words[0], words, os.environ, file_actions=quiet), 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the build failed: nothing to time")
    return Run(time.perf_counter() - start, usage.ru_maxrss * PEAK_UNIT / 1e6)


def _limit(raw: Sequence[Path]) -> float:
    start = time.perf_counter()
    for path in raw:
        cv2.imencode(".png", cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return time.perf_counter() - start
