"""Train the packaged model ``neurons`` on made-up pictures alone; write ``src/fncells/models/neurons.onnx`` and its card.

::

    OMP_WAIT_POLICY=passive python scripts/train_neurons_model.py

(`OMP_WAIT_POLICY` keeps torch from burning processor time while it waits; the result does not depend on it.)

The pictures are whole ones of `fncells.synthetic`; others of them choose the epoch and the threshold. No real picture has any
part in it: ``python -m benchmarks transfer`` shows what the model makes of some. Some 20 minutes on two cores; the same
command goes on from where it was interrupted.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.evaluation import EvaluateSettings, Evaluation, evaluate
from fncells.inference import Model
from fncells.network.crops import Augmentation, CropSettings, TrainingPicture
from fncells.network.export import export_onnx
from fncells.network.training import TrainSettings, train
from fncells.separation import SeparationSettings, separate
from fncells.synthetic import draw_scene
from fncells.synthetic.lab import SPREAD

Labelled = tuple[str, NDArray[np.uint8], NDArray[np.int32]]

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "src" / "fncells" / "models" / "neurons.onnx"
CARD = MODEL.with_suffix(".md")
FIGURES = "## Figures"

SEED = 1
LEARN, VALIDATE = 132, 24
# Green nuclei, barely brighter than what is around them, need as many examples as bright cells among fibres.
SHARES = {"yellow": 0.3, "red": 0.35, "green": 0.35}
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DISTANCE_PX = 40.0  # as the paper has it
# The network sees the pictures at half their size: four times as fast, and a cell with all that surrounds it in one glance.
SHRINK = 0.5
DIAMETER_PX = 25.0

SETTINGS = TrainSettings(
    loss="dice+bce",
    optimiser="adamw",
    learning_rate=3e-3,
    test_learning_rate=False,
    epochs=15,
    batch=8,
    crops_per_epoch=560,
    validation_crops=3,
    precision="bf16-mixed",
    crops=CropSettings(
        size_px=256,
        normalisation="rgb",
        on_cells=0.6,
        gap_px=2,
        between_weight=2.0,
        augmentation=Augmentation(
            quarter_turns=True,
            zoom=(0.8 * SHRINK, 1.35 * SHRINK),
            lighting=0.2,
            gamma=0.3,
            blur=0.1,
            noise=0.05,
        ),
    ),
)


def made_up(number: int) -> Labelled:
    """Give name, pixels and labels of one made-up picture."""
    rng = np.random.default_rng([SEED, number])
    collection = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    # Pictures with many cells teach more than empty ones, and both are needed.
    level, stature = 0.15 + 0.85 * (number * SPREAD[0] % 1), number * SPREAD[1] % 1
    e4500 = collection == "red" and bool(rng.random() < 0.5)
    size = (2272, 1704) if e4500 else (1600, 1200)
    scene = draw_scene(collection, rng, size, e4500=e4500, level=level, stature=stature)
    # People's outlines, not exact bodies: that is what real truth is made of.
    labels = AnnotatedImage("", scene.truth.shape, scene.annotations).labels
    return f"{collection}/{number:03}", scene.pixels, labels


def scores(pictures: Sequence[Labelled], found: Sequence[NDArray[np.int32]]) -> Evaluation:
    truth = [AnnotatedImage.from_labels(name, labels) for name, _, labels in pictures]
    cells = [AnnotatedImage.from_labels(name, labels) for (name, _, _), labels in zip(pictures, found, strict=True)]
    return evaluate(truth, cells, EvaluateSettings(distance=DISTANCE_PX, bootstrap=0))


def choose_threshold(model: Model, pictures: Sequence[Labelled]) -> tuple[float, Evaluation]:
    """Take the threshold with the best F1 of detection on pictures that the network has not learned from."""
    heats = [model.heat_map(pixels) for _, pixels, _ in pictures]
    tried = {
        threshold: scores(pictures, [separate(heat, replace(model.separation, threshold=threshold)) for heat in heats])
        for threshold in THRESHOLDS
    }
    for threshold, one in tried.items():
        print(threshold, one.detection.f1, one.segmentation.f1)
    best = max(tried, key=lambda threshold: tried[threshold].detection.f1 or 0)
    return best, tried[best]


def write_card(card: dict[str, object], dice: float, held_out: Evaluation) -> None:
    head = CARD.read_text(encoding="utf-8").split(FIGURES)[0]
    part, near = held_out.segmentation, held_out.detection
    lines = [
        f"{FIGURES} (written by `scripts/train_neurons_model.py`)",
        "",
        f"Threshold {card['threshold']}, validation Dice {dice:.3f}. On {VALIDATE} synthetic pictures it has not learned from:",
        f"F1 {near.f1:.2f} with centres within {DISTANCE_PX:g} px (precision {near.precision:.2f}, recall {near.recall:.2f}),",
        f"{part.f1:.2f} at IoU 0.5. What it makes of real pictures: `python -m benchmarks transfer`, and docs/synthetic.md.",
    ]
    files.write_text(CARD, head + "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "build" / "neurons-model", help="folder of the run")
    arguments = parser.parse_args()
    files.show_progress(True)
    numbers = range(LEARN + VALIDATE)
    made = [made_up(number) for number in files.progress(numbers, len(numbers), "making pictures")]
    pictures = [TrainingPicture(*one, SETTINGS.crops.normalisation) for one in made]
    result = train(pictures[:LEARN], pictures[LEARN:], SETTINGS, arguments.run)
    files.show_progress(False)
    card: dict[str, object] = {
        "name": "neurons",
        "version": "1",
        "licence": "Apache-2.0",
        "normalisation": SETTINGS.crops.normalisation,
        "diameter_px": DIAMETER_PX,
        "usual_diameter_px": DIAMETER_PX / SHRINK,
        "threshold": 0.5,
        "separation": {"min_area": SeparationSettings().for_diameter(DIAMETER_PX / SHRINK).min_area},
        "training": {
            "command": "python scripts/train_neurons_model.py",
            "pictures": {"synthetic": LEARN},
            "epochs": SETTINGS.epochs,
            "crops": SETTINGS.epochs * (SETTINGS.crops_per_epoch or 0),
            "best_epoch": result.best_epoch,
            "validation_dice": round(result.best_dice, 4),
        },
    }
    export_onnx(arguments.run, MODEL, card)
    card["threshold"], held_out = choose_threshold(Model.load(MODEL), made[LEARN:])
    export_onnx(arguments.run, MODEL, card)
    write_card(card, result.best_dice, held_out)


if __name__ == "__main__":
    main()
