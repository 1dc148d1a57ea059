"""Train the model that comes with the package and write ``src/fncells/models/cells.onnx`` with its card.

::

    OMP_WAIT_POLICY=passive FNCELLS_DATA=../shared/data python scripts/train_packaged_model.py

(`OMP_WAIT_POLICY` keeps torch from burning processor time while it waits; the result does not depend on it.)

The pictures come from the folder that ``FNCELLS_DATA`` names: ``dsb2018``, ``cfos`` and ``parv``, but for those that
``benchmarks/split.json`` sets aside as test pictures. Every twelfth of the others, by name, chooses the best epoch and
the threshold. ``--only-split`` writes the split file anew and stops.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells import files, synthetic
from fncells.cells import AnnotatedImage
from fncells.evaluation import EvaluateSettings, Evaluation, evaluate
from fncells.inference import Model
from fncells.network.crops import Augmentation, CropSettings, TrainingPicture
from fncells.network.export import export_onnx
from fncells.network.settings import TrainSettings
from fncells.network.training import train
from fncells.separation import SeparationSettings, separate

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int32]

ROOT = Path(__file__).parents[1]
SPLIT = ROOT / "benchmarks" / "split.json"
MODEL = ROOT / "src" / "fncells" / "models" / "cells.onnx"
CARD = MODEL.with_suffix(".md")
FIGURES = "## Figures"
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
NORMALISATION = "brightness"

# What share of the crops comes from each source.
SHARES = {"dsb2018": 0.30, "cfos": 0.26, "parv": 0.08, "synthetic": 0.36}
COLLECTIONS = ("yellow", "red", "green")
SYNTHETIC = 150

CROPS = CropSettings(
    size_px=224,
    normalisation=NORMALISATION,
    on_cells=0.75,
    gap_px=2,
    between_weight=3.0,
    augmentation=Augmentation(
        quarter_turns=True,
        rotation_deg=15,
        zoom=(0.4, 3.5),
        diameter_px=(9, 85),
        lighting=0.25,
        gamma=0.5,
        blur=0.25,
        noise=0.35,
        gradient=0.3,
        distractors=0.3,
    ),
)
SETTINGS = TrainSettings(
    loss="dice+bce",
    optimiser="adamw",
    learning_rate=3e-3,
    test_learning_rate=False,
    epochs=16,
    batch=8,
    crops_per_epoch=720,
    validation_crops=1,
    precision="bf16-mixed",
    crops=CROPS,
)


def pictures_and_truths(data: Path) -> dict[str, tuple[Path, Path]]:
    """Every picture that may be trained on or tested with, by name."""
    found = {}
    for path in sorted((data / "dsb2018" / "images").iterdir()):
        found[f"dsb2018/{path.name}"] = (path, data / "dsb2018" / "labels" / path.name)
    for lab in sorted((data / "cfos").iterdir()):
        for path in sorted((lab / "images").iterdir()):
            found[f"cfos/{lab.name}/{path.name}"] = (path, lab / "labels" / "est_GT" / path.name)
    for path in sorted((data / "parv").glob("*_Parv.tif")):
        found[f"parv/{path.name}"] = (path, path.with_name(path.name.replace("Parv", "expert")))
    return found


def write_split(names: list[str]) -> None:
    """Set test pictures aside by the order of their names: every 4th of cfos/lab-wue1, every 10th of dsb2018."""
    every = {"cfos/lab-wue1": 4, "dsb2018": 10}
    test = {
        folder: [name for name in names if name.startswith(f"{folder}/")][step - 1 :: step]
        for folder, step in every.items()
    }
    rule = "by name order: every 4th picture of cfos/lab-wue1 and every 10th of dsb2018 is test; all others may be trained on"
    files.write_json(SPLIT, {"rule": rule, "test": test})


def read_pixels(name: str, picture: Path, truth: Path) -> tuple[Pixels, Labels]:
    pixels = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
    truth_pixels = cv2.imread(str(truth), cv2.IMREAD_UNCHANGED)
    labels: Labels = truth_pixels.astype(np.int32)
    if not name.startswith("dsb2018"):  # masks; the others are labels already
        labels = cv2.connectedComponents((truth_pixels > 0).astype(np.uint8), connectivity=8)[1]
    return pixels, labels


def read_picture(name: str, picture: Path, truth: Path) -> TrainingPicture:
    return TrainingPicture(name, *read_pixels(name, picture, truth), NORMALISATION)


def made_up(number: int) -> tuple[Pixels, Labels]:
    """Give pixels and labels of a synthetic picture: large neurons as traced ones look, of which no real source has any."""
    random = np.random.default_rng([SETTINGS.seed, number])
    return synthetic.picture(COLLECTIONS[number % len(COLLECTIONS)], random, (800, 640), scale=1.0)


def weights_of(pictures: list[TrainingPicture]) -> list[float]:
    """Each source has its share; within it, larger pictures are taken more often."""
    sources = [picture.name.split("/")[0] for picture in pictures]
    sizes = [picture.labels.size**0.5 for picture in pictures]
    totals = {source: sum(s for s, of in zip(sizes, sources, strict=True) if of == source) for source in SHARES}
    return [SHARES[of] * size / totals[of] for size, of in zip(sizes, sources, strict=True)]


def read_all(data: Path) -> tuple[list[TrainingPicture], list[TrainingPicture]]:
    """Give the pictures to learn from and those to choose by; test pictures are not even read."""
    found = pictures_and_truths(data)
    test = {name for names in json.loads(SPLIT.read_text(encoding="utf-8"))["test"].values() for name in names}
    rest = [name for name in found if name not in test]
    sources = [[name for name in rest if name.startswith(source)] for source in SHARES]
    held_out = {name for names in sources for name in names[11::12]}
    pictures = [read_picture(name, *found[name]) for name in files.progress(rest, len(rest), "reading")]
    learn = [picture for picture in pictures if picture.name not in held_out]
    validate = [picture for picture in pictures if picture.name in held_out]
    learn += [TrainingPicture(f"synthetic/{number:03}", *made_up(number), NORMALISATION) for number in range(SYNTHETIC)]
    return learn, validate


def chosen_by(data: Path, names: list[str]) -> dict[str, list[tuple[str, Pixels, Labels]]]:
    """Give name, pixels and labels of the validation pictures by source, with synthetic ones that were not learned from."""
    found = pictures_and_truths(data)
    real = [(name, *read_pixels(name, *found[name])) for name in names]
    fresh = [(f"synthetic/{number:03}", *made_up(number)) for number in range(SYNTHETIC, SYNTHETIC + 15)]
    return {
        source: [one for one in real + fresh if one[0].startswith(source)]
        for source in ("dsb2018", "cfos", "synthetic")
    }


def of_fnc(data: Path) -> list[tuple[str, Pixels, Labels]]:
    """Give the FNC pictures, which nothing was learned from or chosen by."""
    result = []
    for path in sorted((data / "fnc").glob("*/masks/*.png")):
        picture = path.parents[1] / "images" / path.name
        pixels = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        labels = cv2.connectedComponents((mask > 0).astype(np.uint8), connectivity=8)[1]
        result.append((picture.stem, pixels, labels))
    return result


def scores(
    pictures: list[tuple[str, Pixels, Labels]], heats: list[NDArray[np.float32]], settings: SeparationSettings
) -> Evaluation:
    truth = [AnnotatedImage.from_labels(name, labels) for name, _pixels, labels in pictures]
    cells = [
        AnnotatedImage.from_labels(name, separate(heat, settings))
        for (name, _pixels, _labels), heat in zip(pictures, heats, strict=True)
    ]
    return evaluate(truth, cells, EvaluateSettings(bootstrap=0))


def choose_threshold(model: Model, data: Path, names: list[str]) -> tuple[float, dict[str, Evaluation]]:
    """Take the threshold with the best mean, over the sources, of the F1 at IoU 0.5 on the validation pictures."""
    by_source = chosen_by(data, names)
    heats = {source: [model.heat_map(pixels) for _, pixels, _ in ones] for source, ones in by_source.items()}
    tried = {}
    for threshold in THRESHOLDS:
        settings = dataclasses.replace(model.separation, threshold=threshold)
        tried[threshold] = {source: scores(ones, heats[source], settings) for source, ones in by_source.items()}
        print(threshold, {source: f1_of(one) for source, one in tried[threshold].items()})
    best = max(tried, key=lambda threshold: np.mean([f1_of(one) for one in tried[threshold].values()]))
    return best, tried[best]


def f1_of(evaluation: Evaluation) -> float:
    return round(evaluation.segmentation.f1 or 0.0, 3)


def learned_diameter(learn: list[TrainingPicture]) -> float:
    """Median diameter, in pixels, that cells had in the crops, after zooming."""
    random = np.random.default_rng(SETTINGS.seed)
    shares = np.array(weights_of(learn))
    chosen = random.choice(len(learn), 4000, p=shares / shares.sum())
    known = np.array([learn[number].diameter_px for number in chosen])
    known = known[np.isfinite(known)]
    augmentation = CROPS.augmentation
    assert augmentation is not None and augmentation.diameter_px is not None  # noqa: PT018, S101
    wanted = np.exp(random.uniform(*np.log(augmentation.diameter_px), known.size))
    return round(float(np.median(known * np.clip(wanted / known, *augmentation.zoom))), 1)


def write_card(validation: dict[str, Evaluation], fnc: Evaluation, card: dict[str, object], best_dice: float) -> None:
    head = CARD.read_text(encoding="utf-8").split(FIGURES)[0]
    lines = [f"{FIGURES} (written by `scripts/train_packaged_model.py`)", ""]
    lines += [f"Threshold {card['threshold']}, validation Dice {best_dice:.3f} over all pixels.", ""]
    lines += ["| pictures | n | cells | predicted | F1 at IoU 0.5 | precision | recall | F1, centres within 40 px |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    rows = {f"{source}, validation": one for source, one in validation.items()} | {"FNC, never used": fnc}
    lines += [table_row(name, one) for name, one in rows.items()]
    lines += ["", "The four FNC pictures one by one:", ""]
    lines += ["| picture | cells | predicted | F1 at IoU 0.5 |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one.picture} | {one.n_true} | {one.n_predicted} | {one.segmentation.f1 or 0:.2f} |"
        for one in fnc.per_picture
    ]
    files.write_text(CARD, head + "\n".join(lines) + "\n")


def table_row(name: str, one: Evaluation) -> str:
    true = sum(picture.n_true for picture in one.per_picture)
    found = sum(picture.n_predicted for picture in one.per_picture)
    part = one.segmentation
    figures = " | ".join(f"{value or 0:.2f}" for value in (part.f1, part.precision, part.recall, one.detection.f1))
    return f"| {name} | {len(one.per_picture)} | {true} | {found} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-split", action="store_true", help="write benchmarks/split.json and stop")
    parser.add_argument("--run", type=Path, default=ROOT / "build" / "packaged-model", help="folder of the run")
    arguments = parser.parse_args()
    data = Path(os.environ["FNCELLS_DATA"])
    if arguments.only_split:
        write_split(list(pictures_and_truths(data)))
        return
    files.show_progress(True)
    learn, validate = read_all(data)
    result = train(learn, validate, SETTINGS, arguments.run, weights=weights_of(learn))
    files.show_progress(False)
    card = {
        "name": "cells",
        "version": "1",
        "licence": "Apache-2.0",
        "normalisation": NORMALISATION,
        "diameter_px": learned_diameter(learn),
        "threshold": 0.5,
        "training": {
            "command": "python scripts/train_packaged_model.py",
            "pictures": {source: sum(one.name.startswith(source) for one in learn) for source in SHARES},
            "epochs": SETTINGS.epochs,
            "crops": SETTINGS.epochs * (SETTINGS.crops_per_epoch or 0),
            "best_epoch": result.best_epoch,
            "validation_dice": round(result.best_dice, 4),
        },
    }
    export_onnx(arguments.run, MODEL, card)
    threshold, validation = choose_threshold(Model.load(MODEL), data, [picture.name for picture in validate])
    card["threshold"] = threshold
    export_onnx(arguments.run, MODEL, card)
    model, fnc = Model.load(MODEL), of_fnc(data)
    on_fnc = scores(fnc, [model.heat_map(pixels) for _, pixels, _ in fnc], model.separation)
    write_card(validation, on_fnc, card, result.best_dice)


if __name__ == "__main__":
    main()
