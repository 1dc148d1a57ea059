"""The commands: each turns its words into one library call, prints what came of it and gives the exit code.

What a command is asked for goes to standard output; everything said in passing goes to standard error. With ``--json``
standard output holds one JSON object and nothing else.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from fncells import files
from fncells.counting import CountSettings, CountSummary
from fncells.errors import InputError
from fncells.evaluation import EvaluateSettings
from fncells.images import Plane
from fncells.ingest import BuildSettings

__all__ = [
    "Common",
    "build",
    "check",
    "convert",
    "count",
    "demo",
    "evaluate",
    "export",
    "predict",
    "stats",
    "synth",
    "train",
]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """What every command knows.

    Parameters
    ----------
    json
        Print a summary as JSON on standard output, and nothing else there.
    quiet
        Say nothing but errors.
    """

    json: Annotated[bool, Parameter(negative="")] = False
    quiet: Annotated[bool, Parameter(negative="")] = False

    def say(self, line: str) -> None:
        """Tell people something in passing."""
        if not self.quiet:
            sys.stderr.write(f"{line}\n")

    def result(self, summary: object, text: str) -> None:
        """Print what came of the command: the summary as JSON where that was asked for, else the text."""
        if self.json:
            print(json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False))
        elif not self.quiet:
            print(text)


_AS_USUAL = Common()
_FLAT = Parameter(name="*")
_FLAT(Plane)  # within the settings of build and count: --channel rather than --plane.channel


def demo(
    folder: Path = Path("demo"), /, *, pictures: int = 12, seed: int = 1, workers: int = 2, common: Common = _AS_USUAL
) -> int:
    """The whole tour on a small synthetic collection, with pictures to look at.

    Makes a lab folder, builds an archive of it, checks and describes it, trains a small network, evaluates it beside the
    packaged model, counts cells and writes the reports. Open index.html in the folder afterwards.

    Example: fncells demo

    Parameters
    ----------
    folder
        Where everything goes.
    pictures
        Pictures of each collection.
    seed
        Seed of everything random.
    workers
        Processes to work with.
    """
    from fncells.demo import tour

    page = tour(folder, pictures=pictures, seed=seed, workers=workers, say=common.say)
    common.result({"report": page.as_posix()}, f"Open {page} in a browser.")
    return 0


def synth(
    folder: Path,
    /,
    *,
    pictures: int,
    seed: int,
    collections: str = "green,red,yellow",
    size: str = "1600x1200",
    workers: int = 1,
    common: Common = _AS_USUAL,
) -> int:
    """Make a synthetic lab folder: raw pictures, annotations, metadata and truth.

    Example: fncells synth lab --pictures 20 --seed 1

    Parameters
    ----------
    folder
        Where it goes.
    pictures
        Pictures of each collection.
    seed
        The same seed gives the same bytes.
    collections
        Out of green, red and yellow, with commas between.
    size
        Width and height of the pictures in pixels.
    workers
        Processes to work with.
    """
    from fncells.synthetic import synthesise

    chosen = tuple(name.strip() for name in collections.split(","))
    synthesise(folder, pictures=pictures, seed=seed, collections=chosen, size=_size(size), workers=workers)
    made = {"folder": folder.as_posix(), "collections": list(chosen), "pictures": pictures * len(chosen), "seed": seed}
    common.result(made, f"{made['pictures']} pictures are in {folder}.")
    return 0


def build(
    raw: Path,
    archive: Path,
    /,
    *,
    settings: Annotated[BuildSettings, _FLAT] = BuildSettings(),  # noqa: B008 - frozen
    common: Common = _AS_USUAL,
) -> int:
    """Make an archive from a lab's raw pictures, annotations and metadata.

    Example: fncells build lab archive --group animal

    Parameters
    ----------
    raw
        Folder with raw/COLLECTION/, annotations/ and metadata.xlsx.
    archive
        The archive to make. Numbers and partitions once given never change.
    settings
        How to build.
    """
    from fncells.ingest import build as build_archive

    summary = build_archive(raw, archive, settings)
    _warn(summary.warnings)
    _name_failures(dict(summary.failed))
    text = "\n".join(
        f"{collection}: " + ", ".join(f"{number} {partition}" for partition, number in partitions.items())
        for collection, partitions in summary.pictures.items()
    )
    told = f"{summary.converted} converted, {summary.unchanged} unchanged, {len(summary.failed)} failed"
    common.result(summary.as_dict(), f"{text}\n{told}")
    return summary.exit_code


def check(
    target: Path,
    /,
    *,
    images: Path | None = None,
    out: Path | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Find what is wrong in an archive or in annotations.

    The exit code is 1 where something serious was found.

    Example: fncells check archive

    Parameters
    ----------
    target
        An archive, or an annotation file or folder.
    images
        Folder of the annotated pictures, for annotation files that do not hold their sizes.
    out
        Folder for a page with the findings.
    """
    from fncells.audit import audit_annotations, audit_archive

    findings = audit_archive(target) if _is_archive(target) else audit_annotations(target, images)
    if out is not None:
        from fncells.report import audit_report

        audit_report(out / "report.html", [dataclasses.asdict(one) for one in findings], target.name)
    lines = [f"{one.severity}: {one.file}{_place(one.place)}: {one.why}; {one.advice}" for one in findings]
    serious = sum(one.severity == "serious" for one in findings)
    summary = {"serious": serious, "findings": [dataclasses.asdict(one) for one in findings]}
    common.result(summary, "\n".join([*lines, f"{len(findings)} findings, {serious} of them serious"]))
    return 1 if serious else 0


def stats(
    archive: Path,
    /,
    *,
    counts: Literal["per-picture", "published"] = "per-picture",
    out: Path | None = None,
    workers: int = 1,
    common: Common = _AS_USUAL,
) -> int:
    """Describe an archive's cells: the paper's Table 1 and figures.

    Example: fncells stats archive --out statistics

    Parameters
    ----------
    archive
        The archive.
    counts
        Cell counts per picture, or weighted by objects as the paper's Table 1 prints them.
    out
        Folder for the tables, figures and a page.
    workers
        Processes to work with.
    """
    from fncells.archive import Archive
    from fncells.measure import table1_markdown
    from fncells.statistics import describe

    description = describe(Archive.open(archive), counts, workers)
    if out is not None:
        from fncells.report import stats_report

        stats_report(out, description)
    common.result(description.table, table1_markdown(description.table))
    return 0


def convert(
    source: Path,
    target: Path,
    /,
    *,
    to: str,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    images: Path | None = None,
    dialect: Literal["published"] | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Convert annotations from any format to any other.

    Says per picture and in sum what the new format could not carry. A picture that cannot be converted is named with the
    reason, and the others are.

    Example: fncells convert masks annotations.json --to via

    Parameters
    ----------
    source
        Annotations: a file or a folder.
    target
        The file or folder to write.
    to
        Format of the target: masks, labels, rle, coco, voc, via, via-csv, yolo, geojson or imagej.
    from_
        Format of the source; recognised where it is not given.
    images
        Folder of the annotated pictures, for formats that do not hold their sizes.
    dialect
        Write rle, coco, voc or via as the published archive has them. Such files are read without a word.
    """
    from fncells.formats import convert as convert_annotations

    report = convert_annotations(source, target, to, from_, images, dialect)
    _name_failures(dict(report.failed))
    table = report.as_table().to_string(index=False, na_rep="")
    common.result(report.as_dict(), f"{table}\n{report.source_format} to {report.target_format}: {target}")
    return 1 if report.failed else 0


def predict(
    pictures: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path,
    to: str = "labels",
    settings: Annotated[CountSettings, _FLAT] = CountSettings(),  # noqa: B008 - frozen
    common: Common = _AS_USUAL,
) -> int:
    """Find the cells of pictures and write them in any format.

    Example: fncells predict pictures --out cells.json --to via

    Parameters
    ----------
    pictures
        Pictures and folders of pictures.
    out
        The file or folder to write.
    to
        Format of what is written.
    settings
        How to find the cells.
    """
    from fncells.counting import predict as predict_cells

    return _counted(predict_cells(pictures, out, to, settings), common, f"written to {out}")


def count(
    pictures: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path,
    settings: Annotated[CountSettings, _FLAT] = CountSettings(),  # noqa: B008 - frozen
    common: Common = _AS_USUAL,
) -> int:
    """Count the cells of pictures, with tables, overlays and a report.

    Every input gets a row in counts.csv; one that cannot be read is a row "failed" with its reason. The same command again goes
    on where an interrupted one stopped.

    Example: fncells count pictures --out counts

    Parameters
    ----------
    pictures
        Pictures and folders of pictures.
    out
        Folder for counts.csv, cells.csv, counts.xlsx, cells.via.json, labels, overlays and report.html.
    settings
        How to count.
    """
    from fncells.counting import count as count_cells
    from fncells.report import count_report

    summary = count_cells(pictures, out, settings)
    page = count_report(out)
    return _counted(summary, common, f"open {page}")


def evaluate(
    truth: Path,
    prediction: Path,
    /,
    *,
    settings: Annotated[EvaluateSettings, _FLAT] = EvaluateSettings(),  # noqa: B008 - frozen
    images: Path | None = None,
    out: Path | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Compare predicted cells with true ones: segmentation, detection and counting.

    Both sides may be in any format.

    Example: fncells evaluate masks predicted --distance 40

    Parameters
    ----------
    truth
        True cells.
    prediction
        Predicted cells; pictures are paired by their names without suffix.
    settings
        How to compare.
    images
        Folder of the pictures, for formats that do not hold their sizes; with --out they are shown in the report.
    out
        Folder for a page with the scores.
    """
    from fncells.evaluation import evaluate as evaluate_cells
    from fncells.evaluation import score_table
    from fncells.formats import read_annotations

    true = list(read_annotations(truth, images=images))
    predicted = list(read_annotations(prediction, images=images))
    evaluation = evaluate_cells(true, predicted, settings)
    if out is not None:
        from fncells.report import compare, evaluation_report

        pictures = {source.name: source.path for source in files.find_pictures([images])} if images else {}
        overlays = compare(true, predicted, pictures, settings.iou)
        evaluation_report(out / "report.html", evaluation.as_dict(), overlays)
    for name in evaluation.missing:
        sys.stderr.write(f"{name}: no prediction; scored as if nothing had been found\n")
    for name in evaluation.unscored:
        sys.stderr.write(f"{name}: no truth; left out\n")
    common.result(evaluation.as_dict(), score_table(evaluation))
    return 1 if evaluation.missing else 0


def train(
    archive: Path,
    /,
    *,
    collection: str,
    out: Path,
    recipe: Literal["paper", "published", "best"] = "paper",
    init: Path | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    crop: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Train a c-ResUnet on a collection of an archive.

    The same command again goes on where an interrupted one stopped.

    Example: fncells train archive --collection yellow --out run

    Parameters
    ----------
    archive
        The archive.
    collection
        Its collection to train on; a share of trainval is set aside for validation.
    out
        Folder of the run.
    recipe
        The paper's, the published code's (with its faults), or ours.
    init
        A run or weight file to start from.
    epochs
        Length of the training, instead of the recipe's.
    batch
        Crops a step, instead of the recipe's.
    crop
        Side of the crops in pixels, instead of the recipe's.
    learning_rate
        Instead of the one that the learning-rate test suggests.
    seed
        Seed of everything random, instead of the recipe's.
    """
    from fncells.network import RECIPES, train_archive

    settings = RECIPES[recipe]
    wanted: dict[str, Any] = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate, "seed": seed}
    settings = dataclasses.replace(settings, **{name: value for name, value in wanted.items() if value is not None})
    if crop is not None:
        settings = dataclasses.replace(settings, crops=dataclasses.replace(settings.crops, size_px=crop))
    result = train_archive(archive, collection, out, settings, init=init)
    summary = {"run": out.as_posix(), "best_epoch": result.best_epoch, "best_dice": result.best_dice}
    common.result(summary, f"best validation Dice {result.best_dice:.4f} in epoch {result.best_epoch}; run in {out}")
    return 0


def export(run: Path, out: Path, /, *, to: Literal["onnx"] = "onnx", common: Common = _AS_USUAL) -> int:
    """Export a trained network for other tools.

    Example: fncells export run model.onnx

    Parameters
    ----------
    run
        Folder of a training run.
    out
        The file to write.
    to
        Format of the file.
    """
    from fncells.network import export_run

    export_run(run, out)
    common.result({"model": out.as_posix(), "sha256": files.sha256(out)}, f"exported as {to} to {out}")
    return 0


def _counted(summary: CountSummary, common: Common, where: str) -> int:
    _name_failures(summary.failures)
    done = len(summary.pictures) - len(summary.failures)
    text = f"{summary.n_cells} cells in {done} pictures, {len(summary.failures)} failed; {where}"
    common.result(summary.as_dict(), text)
    return 1 if summary.failures else 0


def _name_failures(failures: Mapping[str, str]) -> None:
    for name, reason in failures.items():
        sys.stderr.write(f"failed: {name}: {reason}\n")


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(f"note: {line}\n")


def _is_archive(path: Path) -> bool:
    from fncells.archive import Archive

    try:
        Archive.open(path)
    except InputError:
        return False
    return True


def _place(place: str | None) -> str:
    return f", {place}" if place else ""


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.lower().partition("x")
    if not (by and width.isdecimal() and height.isdecimal() and int(width) >= 32 and int(height) >= 32):
        argument = "--size"
        raise InputError(argument, expected="width x height in pixels, each at least 32, like 1600x1200", found=text)
    return int(width), int(height)
