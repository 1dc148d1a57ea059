"""How right the cells are on real pictures: the packaged model, a baseline without learning, and people.

::

    FNCELLS_DATA=../shared/data python -m benchmarks accuracy --out docs/accuracy.md

The test pictures are those that ``benchmarks/split.json`` sets aside, by the order of their names; nothing was trained on
them or chosen by them. The four pictures of the Fluorescent Neuronal Cells archive are for validation alone and in no training.
"""

import argparse
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.evaluation import EvaluateSettings, Evaluation, evaluate
from fncells.formats import CODECS
from fncells.images import read_picture
from fncells.inference import Model
from fncells.separation import separate

SPLIT = Path(__file__).with_name("split.json")
METHODS = ("model", "otsu", "experts")

Pixels = NDArray[np.uint8 | np.uint16]
Method = Callable[[Pixels], NDArray[np.int32]]

# The baseline's numbers were chosen on pictures that are not for testing. No smoothing suits both kinds: 1 px is best for the
# clear nuclei of dsb2018, 3 px for the noisy ones of cfos.
_SMOOTHINGS_PX = (1.0, 3.0)
_SMALLEST_CELL_PX2 = 30
_PEAKS_APART = 0.5  # of the typical radius in the picture


@dataclass(frozen=True)
class PictureSet:
    """Pictures with true cells.

    Attributes
    ----------
    name
        As the table is to call it.
    pictures, truths
        Files in the same order.
    codec
        How the truths are read: ``masks`` or ``labels``.
    distance
        Largest distance of centres in detection, in pixels.
    diameter
        Typical diameter of the cells in pixels, as a user would tell it after a look at one picture; None where the pictures
        are too unlike each other.
    experts
        By name, the files of single annotators, in the same order.
    """

    name: str
    pictures: tuple[Path, ...]
    truths: tuple[Path, ...]
    codec: str
    distance: float
    diameter: float | None
    experts: dict[str, tuple[Path, ...]]


def picture_sets(data: Path) -> Iterator[PictureSet]:
    """Give the test pictures in the folder of real data, and the pictures of the archive."""
    test: dict[str, list[str]] = json.loads(SPLIT.read_text(encoding="utf-8"))["test"]
    names = [Path(name).name for name in test["cfos/lab-wue1"]]
    lab = data / "cfos" / "lab-wue1"
    experts = sorted((lab / "labels").glob("expert_*"))
    yield PictureSet(
        "cfos/lab-wue1",
        tuple(lab / "images" / name for name in names),
        tuple(lab / "labels" / "est_GT" / name for name in names),
        "masks",
        10.0,
        15.0,
        {folder.name.replace("_", " "): tuple(folder / name for name in names) for folder in experts},
    )
    names = [Path(name).name for name in test["dsb2018"]]
    images, labels = (tuple(data / "dsb2018" / kind / name for name in names) for kind in ("images", "labels"))
    yield PictureSet("dsb2018", images, labels, "labels", 10.0, None, {})
    masks = [mask for colour in ("yellow", "red") for mask in sorted((data / "fnc" / colour / "masks").glob("*.png"))]
    pictures = tuple(mask.parent.with_name("images") / mask.name for mask in masks)
    yield PictureSet("fnc (validation)", pictures, tuple(masks), "masks", 40.0, 50.0, {})


def otsu_watershed(pixels: Pixels, smoothing_px: float) -> NDArray[np.int32]:
    """Find cells without learning: Otsu's threshold on the brightest channel, then a watershed of the distance to background.

    Parameters
    ----------
    pixels
        Shape (h, w) or (h, w, 3).
    smoothing_px
        Standard deviation of the Gaussian that goes over the picture before, in pixels.

    Returns
    -------
    numpy.ndarray
        int32 labels, shape (h, w).
    """
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), smoothing_px)
    if smooth.min() == smooth.max():
        return np.zeros(grey.shape, dtype=np.int32)
    mask = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))  # type: ignore[no-untyped-call]
    _, objects, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = areas >= _SMALLEST_CELL_PX2
    kept[0] = False
    if not kept.any():
        return np.zeros(grey.shape, dtype=np.int32)
    objects = np.where(kept[objects], objects, 0)
    radius = float(np.sqrt(np.median(areas[kept]) / np.pi))
    depth = cv2.distanceTransform((objects > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    depth = cv2.GaussianBlur(depth, (0, 0), 1.0)  # else one peak for every step of the outline
    peaks = peak_local_max(  # type: ignore[no-untyped-call]
        depth, min_distance=max(1, round(_PEAKS_APART * radius)), labels=objects, exclude_border=False
    )
    markers = np.zeros(grey.shape, dtype=np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.int32] = watershed(-depth, markers, mask=objects > 0).astype(np.int32)  # type: ignore[no-untyped-call]
    return labels


def with_model(model: Model, diameter: float | None = None) -> Method:
    """Find cells as ``fncells count`` does, told the diameter of the cells or nothing."""
    settings = model.separation if diameter is None else model.separation.for_diameter(diameter)
    return lambda pixels: separate(model.heat_map(pixels, diameter), settings)


def methods_for(tests: PictureSet, model: Model | None, otsu: bool) -> Iterator[tuple[str, Method]]:
    """Give what is to be tried on a set of pictures, by the name it has in the table."""
    if model is not None:
        yield f"fncells, model {model.sha256[:8]}", with_model(model)
        if tests.diameter is not None:
            yield f"the same, told {tests.diameter:g} px", with_model(model, tests.diameter)
    if otsu:
        for smoothing in _SMOOTHINGS_PX:
            yield f"Otsu + watershed, {smoothing:g} px", partial(otsu_watershed, smoothing_px=smoothing)


def read_cells(paths: Sequence[Path], codec: str) -> list[AnnotatedImage]:
    """Read annotation files one by one."""
    return [next(iter(CODECS[codec].read(path, None))) for path in paths]


def results(
    tests: PictureSet, methods: Iterable[tuple[str, Method]], settings: EvaluateSettings
) -> Iterator[tuple[str, Evaluation]]:
    """Evaluate each method, then each expert, on one set of pictures."""
    settings = replace(settings, distance=tests.distance)
    truth = read_cells(tests.truths, tests.codec)
    for name, method in methods:
        todo = files.progress(zip(truth, tests.pictures, strict=True), len(truth), f"{tests.name}, {name}")
        found = [AnnotatedImage.from_labels(true.name, method(read_picture(path).pixels)) for true, path in todo]
        yield name, evaluate(truth, found, settings)
    for name, paths in tests.experts.items():
        yield name, evaluate(truth, read_cells(paths, "masks"), settings)


def row(tests: PictureSet, method: str, evaluation: Evaluation) -> str:
    """Give one line of the table."""
    cells = [tests.name, str(len(tests.pictures)), str(sum(score.n_true for score in evaluation.per_picture)), method]
    for task in ("segmentation", "detection"):
        tally = getattr(evaluation, task)
        cells += [
            _figure(getattr(tally, name), evaluation.intervals[task][name]) for name in ("f1", "precision", "recall")
        ]
    for name in ("mae", "bias"):
        cells.append(_figure(getattr(evaluation.counting, name), evaluation.intervals["counting"][name], "+.1f"))
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None, interval: tuple[float, float] | None, form: str = ".2f") -> str:
    if value is None:
        return "–"
    form = form.removeprefix("+") if value >= 0 and not (interval and interval[0] < 0) else form
    limits = f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{value:{form}}{limits}"


def table(data: Path, model: Model | None, chosen: Collection[str], settings: EvaluateSettings) -> str:
    """Measure everything and lay it out in Markdown."""
    lines = [
        "| pictures | n | true cells | method | F1 seg | P | R | F1 det | P | R | MAE | bias |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    distances = []
    for tests in picture_sets(data):
        if "experts" not in chosen:
            tests = replace(tests, experts={})
        methods = methods_for(tests, model, "otsu" in chosen)
        lines += [row(tests, name, evaluation) for name, evaluation in results(tests, methods, settings)]
        distances.append(f"{tests.distance:g} px on {tests.name}")
    caption = (
        f"Segmentation: IoU of at least {settings.iou:g}.\n"
        f"Detection: centres at most so far apart: {', '.join(distances)}.\n"
        "Cells are paired one to one, scores pooled over the pictures; MAE and bias are cells a picture.\n"
        f"In brackets: {settings.confidence:.0%} intervals from {settings.bootstrap} resamples of the pictures.\n"
        "Experts are compared with the consensus that they are part of.\n"
        "After Otsu: the smoothing before the threshold, each the best on training pictures of one of the sets."
    )
    return "\n".join([*lines, "", caption, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks accuracy", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("FNCELLS_DATA"), help="default: $FNCELLS_DATA")
    parser.add_argument("--model", type=Path, help="default: the packaged one")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path, help="a Markdown file to write the table to as well")
    chosen = parser.parse_args(arguments)
    if chosen.data is None or not Path(chosen.data).is_dir():
        print("accuracy: skipped, FNCELLS_DATA names no folder of real pictures")
        return
    files.show_progress(True)
    model = Model.load(chosen.model) if "model" in chosen.methods else None
    text = table(Path(chosen.data), model, chosen.methods, EvaluateSettings())
    print(text, end="")
    if chosen.out:
        files.write_text(chosen.out, text)


if __name__ == "__main__":
    main()
