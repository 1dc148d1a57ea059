"""What a network that has learned from made-up pictures alone makes of real ones.

::

    FNCELLS_DATA=../shared/data python -m benchmarks transfer

The packaged model ``neurons`` has seen nothing but pictures of `fncells.synthetic` (``scripts/train_neurons_model.py``); here
it looks at the real pictures of the Fluorescent Neuronal Cells archive, as ``fncells count --model neurons`` does. The
packaged model ``cells`` is beside it, told that the cells are 50 px across.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import fnc
from fncells.cells import AnnotatedImage
from fncells.evaluation import EvaluateSettings, Evaluation, evaluate, match_centres
from fncells.inference import Model
from fncells.separation import separate

Labelled = tuple[str, NDArray[np.uint8], NDArray[np.int32]]

DISTANCE_PX = 40.0  # as the paper has it
DIAMETER_PX = 50.0
ERRORS = (
    "missed",
    "of them touching another cell",
    "extra",
    "brightness of the extra, share of the marked",
    "of them brighter than the faintest marked",
)


def real(data: Path) -> list[Labelled]:
    """Give the real pictures that have masks."""
    return [
        (f"{one.collection}/{one.stem}", one.pixels, one.labels) for one in fnc.pictures(data) if one.labels is not None
    ]


def found_by(name: str, pictures: Sequence[Labelled], diameter: float | None) -> list[NDArray[np.int32]]:
    """Find the cells of every picture, as counting does."""
    model = Model.load(name)
    separation = model.separation if diameter is None else model.separation.for_diameter(diameter)
    return [separate(model.heat_map(pixels, diameter), separation) for _, pixels, _ in pictures]


def scores(pictures: Sequence[Labelled], found: Sequence[NDArray[np.int32]]) -> Evaluation:
    truth = [AnnotatedImage.from_labels(name, labels) for name, _, labels in pictures]
    cells = [AnnotatedImage.from_labels(name, labels) for (name, _, _), labels in zip(pictures, found, strict=True)]
    return evaluate(truth, cells, EvaluateSettings(distance=DISTANCE_PX, bootstrap=0))


def errors(picture: Labelled, found: NDArray[np.int32]) -> list[str]:
    """Tell what the missed and the extra cells of one picture are like."""
    name, pixels, truth = picture
    grey = pixels[..., int(pixels.reshape(-1, 3).mean(axis=0).argmax())]
    sides = [AnnotatedImage.from_labels(name, labels) for labels in (truth, found)]
    pairs = match_centres(*sides, DISTANCE_PX).pairs
    lost, extra = (
        sorted(set(range(len(side.cells))) - set(pairs[:, place].tolist())) for place, side in enumerate(sides)
    )
    marked, needless = (
        np.array([np.median(grey.ravel()[side.pixels[place]]) for place in places])
        for side, places in ((sides[0], range(len(sides[0].cells))), (sides[1], extra))
    )
    beside = sum(_touches(truth, sides[0].numbers[place]) for place in lost)
    bright = f"{np.median(needless) / np.median(marked):.2f}" if extra else "–"
    return [str(len(lost)), str(beside), str(len(extra)), bright, str(int((needless > marked.min()).sum()))]


def _touches(labels: NDArray[np.int32], number: int) -> bool:
    """Whether another cell lies within 4 px."""
    grown = cv2.dilate((labels == number).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    return bool((grown & (labels > 0) & (labels != number)).any())


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks transfer", description=__doc__.partition("\n")[0])
    parser.parse_args(arguments)
    pictures = real(Path(os.environ["FNCELLS_DATA"]))
    found = {"neurons": found_by("neurons", pictures, None), "cells": found_by("cells", pictures, DIAMETER_PX)}
    print("\n| model | pictures | cells | found | F1 det | P | R | F1 seg |\n|" + " --- |" * 8)
    for model, predicted in found.items():
        for colour in ("yellow", "red"):
            of_colour = [place for place, one in enumerate(pictures) if one[0].startswith(colour)]
            for places in [[place] for place in of_colour] + [of_colour]:
                title = pictures[places[0]][0] if len(places) == 1 else f"**{colour}, both**"
                one = scores([pictures[place] for place in places], [predicted[place] for place in places])
                print_row(model, title, one)
    print(f"\n| neurons, centres within {DISTANCE_PX:g} px | {' | '.join(ERRORS)} |\n|" + " --- |" * (len(ERRORS) + 1))
    for one, labels in zip(pictures, found["neurons"], strict=True):
        print(f"| {one[0]} | {' | '.join(errors(one, labels))} |")


def print_row(model: str, title: str, one: Evaluation) -> None:
    true = sum(picture.n_true for picture in one.per_picture)
    predicted = sum(picture.n_predicted for picture in one.per_picture)
    figures = (one.detection.f1, one.detection.precision, one.detection.recall, one.segmentation.f1)
    print(
        f"| {model} | {title} | {true} | {predicted} | " + " | ".join(f"{value or 0:.2f}" for value in figures) + " |",
        flush=True,
    )
