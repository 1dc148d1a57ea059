"""How like the real pictures the made-up ones are, measured: levels, contrast, noise, texture and hue.

::

    FNCELLS_DATA=../shared/data python -m benchmarks likeness

The real pictures are the five of the Fluorescent Neuronal Cells archive: two yellow, one green (without a mask), one red, and
one red of the old camera. Every quantity is given for each of them beside the range over made-up pictures of its kind. With
``--table1`` the sizes, counts and signal of 300 pictures a collection are held against the paper's Table 1 instead, for three
seeds: 2,700 pictures, some ten minutes on two cores.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import fnc
from fncells import files
from fncells.cells import AnnotatedImage
from fncells.images import PixelSize
from fncells.measure import MEASURE_TITLES, PictureSummary, paper_frame, summarise, table1
from fncells.published import COLLECTIONS
from fncells.synthetic import draw_scene
from fncells.synthetic.lab import SPREAD, Slide, draw_slide, plan

Pixels = NDArray[np.uint8]

SEEDS = (1, 2, 3)
_AROUND_CELLS_PX = 25  # not background: light spreads around cells
_TEXTURE_PX = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Kind:
    """Pictures of one collection and camera."""

    title: str
    collection: str
    e4500: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return (2272, 1704) if self.e4500 else (1600, 1200)


KINDS = (
    Kind("green", "green"),
    Kind("yellow", "yellow"),
    Kind("red, 1600x1200", "red"),
    Kind("red, E4500", "red", e4500=True),
)


def quantities(pixels: Pixels, labels: NDArray[np.int32]) -> dict[str, float]:
    """Measure one picture.

    Parameters
    ----------
    pixels
        uint8 RGB, shape (h, w, 3).
    labels
        Marked cells, shape (h, w); all 0 where they are not known.

    Returns
    -------
    dict
        Grey levels of the channel with most light; ``texture N px`` is the standard deviation of what a Gaussian blur of N px
        takes away beyond one of N / 2 px, in the background.
    """
    main = int(pixels.reshape(-1, 3).mean(axis=0).argmax())
    grey = pixels[..., main].astype(np.float32)
    cells = labels > 0
    around = cv2.dilate(cells.astype(np.uint8), np.ones((_AROUND_CELLS_PX, _AROUND_CELLS_PX), np.uint8)) > 0
    away = ~around
    smooth = cv2.GaussianBlur(grey, (0, 0), _TEXTURE_PX[0] / 2)
    rest = (grey - smooth)[away]
    found = {
        "background": float(np.median(grey[away])),
        "background, 95 %": float(np.percentile(grey[away], 95)),
        "noise": 1.4826 * float(np.median(np.abs(rest - np.median(rest)))),
    }
    for sigma in _TEXTURE_PX:
        smoother = cv2.GaussianBlur(grey, (0, 0), sigma)
        found[f"texture {sigma} px"] = float((smooth - smoother)[away].std())
        smooth = smoother
    if cells.any():
        levels = [float(np.median(grey[labels == number])) for number in range(1, int(labels.max()) + 1)]
        spread = [float(grey[labels == number].std()) for number in range(1, int(labels.max()) + 1)]
        colour = pixels[cells].astype(np.float64).mean(axis=0)
        found |= {
            "cells": float(np.median(levels)),
            "cells over background": float(np.median(levels)) / max(found["background"], 1.0),
            "spread within a cell": float(np.median(spread)),
        }
        others = [f"hue, {name} / main" for channel, name in enumerate(("red", "green", "blue")) if channel != main]
        shares = [colour[channel] / colour[main] for channel in range(3) if channel != main]
        found |= {name: float(share) for name, share in zip(others, shares, strict=True)}
    return found


def of_synthetic(kind: Kind, number: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng([seed, number])
    level, stature = 0.2 + 0.8 * (number * SPREAD[0] % 1), number * SPREAD[1] % 1
    scene = draw_scene(kind.collection, rng, kind.size, e4500=kind.e4500, level=level, stature=stature)
    return quantities(scene.pixels, AnnotatedImage("", scene.truth.shape, scene.annotations).labels)


def of_real(real: Sequence[fnc.Real], kind: Kind) -> dict[str, dict[str, float]]:
    found = {}
    for one in real:
        height, width = one.pixels.shape[:2]
        if (one.collection, (width, height)) == (kind.collection, kind.size):
            labels = np.zeros((height, width), np.int32) if one.labels is None else one.labels
            found[one.stem] = quantities(one.pixels, labels)
    return found


def compare(data: Path, pictures: int, seed: int, workers: int) -> None:
    pictures_of_the_archive = list(fnc.pictures(data))
    for kind in KINDS:
        made = joblib.Parallel(n_jobs=workers)(
            joblib.delayed(of_synthetic)(kind, number, seed) for number in range(pictures)
        )
        real = of_real(pictures_of_the_archive, kind)
        print(f"\n### {kind.title}\n\n| | {' | '.join(real)} | made up: least, median, greatest | within |")
        print("|" + " --- |" * (len(real) + 3))
        for name in made[0]:
            shown = [one[name] for one in real.values() if name in one]
            if shown:
                print(row(name, shown, [one[name] for one in made if name in one]))


def row(name: str, real: Sequence[float], made: Sequence[float]) -> str:
    least, greatest = min(made), max(made)
    within = sum(round(least, 2) <= round(value, 2) <= round(greatest, 2) for value in real)
    values = " | ".join(f"{value:.2f}" for value in real)
    return f"| {name} | {values} | {least:.2f}, {np.median(made):.2f}, {greatest:.2f} | {within} of {len(real)} |"


def sizes(pictures: int, workers: int) -> None:
    found = pd.concat([_beside_paper(pictures, seed, workers) for seed in SEEDS], keys=SEEDS, names=["seed"])
    found = found[found["statistic"] != "std"]
    statistics = list(dict.fromkeys(found["statistic"]))
    print(f"\nPrinted: made up with the seeds {', '.join(map(str, SEEDS))}\n")
    print(f"| | {' | '.join(statistics)} |\n|" + " --- |" * (len(statistics) + 1))
    for (collection, measure), rows in found.groupby(["collection", "measure"], sort=False):
        cells = [
            f"{one['printed'].iloc[0]:g}: " + ", ".join(f"{value:.3g}" for value in one["found"])
            for _, one in rows.groupby("statistic", sort=False)
        ]
        print(f"| {MEASURE_TITLES[measure]}, {collection} | {' | '.join(cells)} |")


def _beside_paper(pictures: int, seed: int, workers: int) -> pd.DataFrame:
    slides = [slide for collection in COLLECTIONS for slide in plan(collection, pictures, seed)]
    work = joblib.Parallel(n_jobs=workers, return_as="generator")(joblib.delayed(_summary)(one, seed) for one in slides)
    return paper_frame(table1(files.progress(work, len(slides), f"seed {seed}"), "published"))


def _summary(slide: Slide, seed: int) -> PictureSummary:
    scene = draw_slide(slide, seed)
    marked = AnnotatedImage(slide.name, scene.truth.shape, scene.annotations)
    return summarise(marked, slide.collection, PixelSize(scene.pixel_size_um, "made up"))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks likeness", description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=None, help="made-up pictures of a kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table1", action="store_true", help="sizes and counts against the paper's Table 1")
    chosen = parser.parse_args(arguments)
    if chosen.table1:
        files.show_progress(True)
        sizes(chosen.pictures or 300, chosen.workers)
    else:
        compare(Path(os.environ["FNCELLS_DATA"]), chosen.pictures or 30, chosen.seed, chosen.workers)
