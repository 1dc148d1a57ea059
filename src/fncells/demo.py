"""The whole tour on a small synthetic collection, each step through the library as anyone would call it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fncells.archive import Archive, Sample
from fncells.audit import audit_archive
from fncells.cells import AnnotatedImage
from fncells.counting import CountSettings, count
from fncells.evaluation import EvaluateSettings, compare, score_table
from fncells.evaluation_report import draw_worst, evaluation_report
from fncells.inference import Model
from fncells.ingest import BuildSettings, build
from fncells.report import audit_report, count_report, stats_report, tour_page
from fncells.separation import separate
from fncells.statistics import describe
from fncells.synthetic import synthesise

__all__ = ["tour"]

_SIZE = (640, 480)
_TRAINED = "red"
_EPOCHS = 24
_CROP_PX = 128
_CROPS_AN_EPOCH = 64


def tour(folder: Path, pictures: int, seed: int, workers: int, say: Callable[[str], object]) -> Path:
    """Make a lab folder, build an archive, check and describe it, train, evaluate, count, and write the reports.

    Parameters
    ----------
    folder
        Where everything goes.
    pictures
        Pictures of each collection, 640x480 pixels.
    seed
        Seed of everything random.
    workers
        Processes to work with.
    say
        Takes a line for people before each step.

    Returns
    -------
    pathlib.Path
        A page that leads to all the others.
    """
    lab, root = folder / "lab", folder / "archive"
    say(f"1. a synthetic lab folder: {pictures} pictures each of green, red and yellow cells ({lab})")
    synthesise(lab, pictures=pictures, seed=seed, size=_SIZE, workers=workers)
    say(f"2. an archive of it: PNG, metadata, masks, labels, VIA, index ({root})")
    built = build(lab, root, BuildSettings(seed=seed, workers=workers))
    say("3. what is wrong with the archive")
    findings = audit_archive(root, workers)
    checked = audit_report(folder / "check.html", findings, "the archive", root)
    say("4. Table 1 and its figures")
    description = describe(Archive.open(root), workers=workers, challenges=True)
    described = stats_report(folder / "statistics", description)
    say(f"5. a small c-ResUnet trained on the {_TRAINED} collection (a minute or two)")
    trained = _train(root, folder / "run", seed)
    say("6. both networks on the test pictures")
    samples = Archive.open(root).samples(_TRAINED, "test")
    truth = [sample.read_cells() for sample in samples]
    found = {"trained here": _predicted(samples, trained), "packaged model": _predicted(samples, None)}
    # The paper's 40 px on pictures of 1600x1200, carried over to smaller ones.
    settings = EvaluateSettings(distance=40 * _SIZE[0] / 1600)
    compared = compare(truth, found, settings, both_rules=True)
    overlays = draw_worst(compared, truth, found, {sample.name: sample.picture_path for sample in samples})
    evaluated = evaluation_report(folder / "evaluation", compared, overlays)
    say("7. cells counted in the raw pictures, as a lab would")
    counted = count([lab / "raw"], folder / "counts", CountSettings(workers=workers))
    pages = {
        f"The count: {counted.n_cells} cells in {len(counted.pictures)} pictures": count_report(folder / "counts"),
        "The cells of the archive: Table 1 and figures": described,
        f"The network trained here beside the packaged model, on the {_TRAINED} test pictures": evaluated,
        f"The audit of {sum(map(_total, built.pictures.values()))} pictures: findings {len(findings)}": checked,
    }
    say(score_table(compared.evaluations))
    told = {name: evaluation.as_dict() for name, evaluation in compared.evaluations.items()}
    subject = f"Scores on the {_TRAINED} test pictures"
    return tour_page(folder / "index.html", pages, subject, told, description.previews)


def _total(partitions: Mapping[str, int]) -> int:
    return sum(partitions.values())


def _train(root: Path, run: Path, seed: int) -> Path:
    from fncells.network import RECIPES, export_run, train_archive

    recipe = RECIPES["best"]
    settings = replace(
        recipe,
        epochs=_EPOCHS,
        batch=4,
        crops_per_epoch=_CROPS_AN_EPOCH,
        validation_crops=16,  # a single small crop may hold no cell, and then tells nothing
        seed=seed,
        crops=replace(recipe.crops, size_px=_CROP_PX, normalisation="brightness"),
    )
    train_archive(root, _TRAINED, run, settings)
    export_run(run, run / "model.onnx")
    return run / "model.onnx"


def _predicted(samples: Sequence[Sample], source: Path | None) -> list[AnnotatedImage]:
    model = Model.load(source)
    return [
        AnnotatedImage.from_labels(
            sample.name, separate(model.heat_map(sample.read_picture().pixels), model.separation)
        )
        for sample in samples
    ]
