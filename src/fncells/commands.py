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
from fncells.cleaning import CleanSettings
from fncells.counting import CountSettings, CountSummary
from fncells.errors import InputError, one_line
from fncells.evaluation import EvaluateSettings
from fncells.images import Plane
from fncells.ingest import BuildSettings, Share

__all__ = [
    "Common",
    "agree",
    "build",
    "check",
    "clean",
    "convert",
    "count",
    "demo",
    "evaluate",
    "export",
    "fetch",
    "measure",
    "pack",
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
    crowding: float = 1.0,
    artefacts: float = 1.0,
    contrast: float = 1.0,
    hue: float = 1.0,
    ambiguity: float = 1.0,
    subjectivity: float = 1.0,
    annotators: int = 1,
    workers: int = 1,
    common: Common = _AS_USUAL,
) -> int:
    """Make a synthetic lab folder: raw pictures, annotations, metadata and truth.

    The dials from crowding to subjectivity make the pictures easier or harder: 1 is as in the published collections, 0 is
    none of it, 2 twice as much.

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
    crowding
        How many cells lie side by side.
    artefacts
        How many spots, filaments, stripes, bright edges and rods there are.
    contrast
        How far pictures differ in the brightness of background and cells.
    hue
        How far they differ in hue.
    ambiguity
        How many cells are left unmarked, and how bright those are.
    subjectivity
        How far annotators differ in what they mark and how.
    annotators
        How many people mark every picture, each in an own way (annotators/2, annotators/3...).
    workers
        Processes to work with.
    """
    from fncells.synthetic import Challenges, synthesise

    chosen = tuple(name.strip() for name in collections.split(","))
    dials = Challenges(crowding, artefacts, contrast, hue, ambiguity, subjectivity)
    synthesise(folder, pictures, seed, chosen, _size(size), workers, dials, annotators)
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

    Example: fncells build lab archive --group animal --balance species

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
        f"{collection}: {', '.join(f'{number} {partition}' for partition, number in partitions.items())}"
        f"; {', '.join(_share(share) for share in summary.shares if share.collection == collection)}"
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
    workers: int = 1,
    common: Common = _AS_USUAL,
) -> int:
    """Find what is wrong in an archive or in annotations.

    Each finding says how serious it is, where it is, why it matters and what to do. The exit code is 1 where something serious
    was found.

    Example: fncells check archive --out audit

    Parameters
    ----------
    target
        An archive, or an annotation file or folder.
    images
        Folder of the annotated pictures, for annotation files that do not hold their sizes.
    out
        Folder for the findings as findings.csv, findings.json and a page that shows them.
    workers
        Processes to work with.
    """
    from fncells.audit import audit_annotations, audit_archive

    archive = _is_archive(target)
    findings = audit_archive(target, workers) if archive else audit_annotations(target, images)
    lines = [f"{one.severity}: {one.file}{_place(one.place)}: {one.why}; {one.advice}" for one in findings]
    serious = sum(one.severity == "serious" for one in findings)
    summary = {"serious": serious, "findings": [dataclasses.asdict(one) for one in findings]}
    lines.append(f"{len(findings)} {'finding' if len(findings) == 1 else 'findings'}, {serious} of them serious")
    if out is not None:
        from fncells.archive import Archive
        from fncells.report import write_audit

        root = Archive.open(target).root if archive else target if target.is_dir() else target.parent
        lines.append(f"open {write_audit(out, findings, target.name, root, images)}")
    common.result(summary, "\n".join(lines))
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

    Collections of the paper's names are also held against what it prints.

    Example: fncells stats archive --out statistics

    Parameters
    ----------
    archive
        The archive.
    counts
        Cell counts per picture, or weighted by objects as the paper's Table 1 prints them.
    out
        Folder for Table 1 (table1.csv, .md, .json; beside_paper.csv for the paper's collections), how hard each picture is
        (challenges.csv), figures and a page.
    workers
        Processes to work with.
    """
    from fncells.archive import Archive
    from fncells.measure import paper_markdown, table1_markdown
    from fncells.statistics import describe

    description = describe(Archive.open(archive), counts, workers, challenges=out is not None)
    if out is not None:
        from fncells.report import stats_report

        stats_report(out, description)
    _name_failures(description.failed)
    beside = paper_markdown(description.table)
    common.result(description.table, table1_markdown(description.table) + (f"\n{beside}" if beside else ""))
    return 1 if description.failed else 0


def measure(
    source: Path,
    /,
    *,
    out: Path,
    images: Path | None = None,
    pixel_size: float | None = None,
    workers: int = 1,
    common: Common = _AS_USUAL,
) -> int:
    """Measure every cell of annotations or of an archive.

    Areas, perimeters, Feret diameters, axes and more in pixels, in µm where the pixel size is known, and intensities with their
    background where the pictures are given; docs/measures.md defines each. A picture that cannot be measured is a row "failed"
    with its reason.

    Example: fncells measure masks --images pictures --out measures

    Parameters
    ----------
    source
        Annotations, a file or a folder of any format, or an archive.
    out
        Folder for cells.csv, a row a cell, and pictures.csv, a row a picture.
    images
        Folder of the annotated pictures.
    pixel_size
        Side of a pixel in µm, for all pictures, whatever their files say.
    workers
        Processes to work with.
    """
    from fncells.measurements import measure_source

    summary = measure_source(source, out, images, pixel_size, workers)
    _name_failures(summary.failures)
    done = len(summary.pictures) - len(summary.failures)
    text = f"{summary.n_cells} cells in {done} pictures, {len(summary.failures)} failed; {out / 'cells.csv'}"
    common.result(summary.as_dict(), text)
    return 1 if summary.failures else 0


def convert(
    source: Path,
    target: Path,
    /,
    *,
    to: str,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    images: Path | None = None,
    dialect: Literal["published"] | None = None,
    compress: Annotated[bool, Parameter(negative="")] = False,
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
    compress
        Write geojson as .geojson.gz, which QuPath opens as it is. Such files are read without a word.
    """
    from fncells.formats import convert as convert_annotations

    report = convert_annotations(source, target, to, from_, images, dialect, compress=compress)
    _name_failures(dict(report.failed))
    table = report.as_table().to_string(index=False, na_rep="")
    common.result(report.as_dict(), f"{table}\n{report.source_format} to {report.target_format}: {target}")
    return 1 if report.failed else 0


def clean(
    masks: Path,
    out: Path,
    /,
    *,
    settings: Annotated[CleanSettings, _FLAT] = CleanSettings(),  # noqa: B008 - frozen
    images: Path | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Clean masks made by thresholding, as the published yellow ones were.

    Outlines are smoothed (except of masks drawn by hand), small holes filled, small objects removed. Writes masks/, changes.csv
    with a row for every mask, figure3 with before and after side by side, and report.html. A mask that cannot be read is named
    with the reason, and the others are cleaned. The same command again goes on where an interrupted one stopped.

    Example: fncells clean masks cleaned --images pictures

    Parameters
    ----------
    masks
        Folder of masks.
    out
        Folder for what is made.
    settings
        How to clean.
    images
        Folder of the pictures, to show the outlines upon them.
    """
    from fncells.cleaning import clean as clean_masks
    from fncells.cleaning_report import clean_report

    summary = clean_masks(masks, out, settings)
    page = clean_report(summary, images)
    _name_failures(summary.failures)
    told = summary.as_dict()
    text = (
        f"{told['cleaned']} masks cleaned, {told['failed']} failed: {told['objects_before']} objects before, "
        f"{told['objects_after']} after; {told['added_px']} pixels added, {told['removed_px']} removed; open {page}"
    )
    common.result(told, text)
    return 1 if summary.failures else 0


def pack(
    archive: Path,
    out: Path,
    /,
    *,
    raw: Path | None = None,
    annotations: Annotated[list[Path] | None, Parameter(negative="", consume_multiple=True)] = None,
    protocol: Path | None = None,
    about: Path | None = None,
    workers: int = 1,
    common: Common = _AS_USUAL,
) -> int:
    """Make what is published of an archive: a zip a collection, index, data sheet, statistics.

    Every file is held against the archive's checksums first. With the files come README.md, croissant.json and checksums, so
    that `fncells fetch --source OUT` takes them back. The same archive gives the same bytes; what has not changed is not made
    again.

    Example: fncells pack archive published --raw lab --annotations lab/annotations --about about.toml

    Parameters
    ----------
    archive
        The archive.
    out
        Folder for the files.
    raw
        Folder of the raw pictures, or the lab folder with raw/ in it, to publish them too.
    annotations
        Annotation files or folders, to publish them too.
    protocol
        The rules that were annotated by; it goes into annotations.zip.
    about
        What pictures cannot tell: title, licence, people, answers for the data sheet (TOML). Without it, about.toml in the
        archive's folder, if there.
    workers
        Files and pictures worked on at the same time.
    """
    from fncells.packing import PackSettings
    from fncells.packing import pack as pack_archive

    settings = PackSettings(raw, tuple(annotations or ()), protocol, about, workers)
    summary = pack_archive(archive, out, settings)
    _warn(summary.notes)
    lines = [f"{one.file}: {one.status}, {one.size} bytes" for one in summary.packed]
    common.result(summary.as_dict(), "\n".join([*lines, f"in {out}"]))
    return 0


def fetch(
    what: Annotated[list[str] | None, Parameter(negative="")] = None,
    /,
    *,
    to: Path,
    source: str | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Get the published archive, or one that pack made, by collection.

    The index, the data sheet and the other small files come along. Checksums are verified where they are known and recorded
    where they are not; what is there already is not fetched again. The same command again goes on where a download broke off.

    Example: fncells fetch green yellow --to archive

    Parameters
    ----------
    what
        Out of green, red, yellow, raw, annotations and statistics; without any, all collections.
    to
        Folder for the archive.
    source
        Folder or address (http, https, file) of an archive that `fncells pack` made, instead of the published one.
    """
    from fncells.fetching import fetch as fetch_archive

    summary = fetch_archive(what or [], to, source)
    _name_failures(summary.failures)
    lines = [
        f"{one.file}: {one.status}, SHA-256 {one.checksum}: {one.sha256}" for one in summary.fetched if not one.reason
    ]
    lines += [f"licence, as {name} says: {', '.join(found)}" for name, found in summary.licences.items()]
    common.result(summary.as_dict(), "\n".join([*lines, f"in {to}"]))
    if not summary.failures:
        return 0
    return 1 if len(summary.failures) < len(summary.fetched) else 2


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
    predictions: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    settings: Annotated[EvaluateSettings, _FLAT] = EvaluateSettings(),  # noqa: B008 - frozen
    annotators: Annotated[list[Path] | None, Parameter(negative="", consume_multiple=True)] = None,
    groups: Path | None = None,
    images: Path | None = None,
    out: Path | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Compare predicted cells with true ones: segmentation, detection and counting.

    Both sides may be in any format. Several predictions are compared with each other as well, picture by picture.

    Example: fncells evaluate masks predicted --distance 40 --out scores

    Parameters
    ----------
    truth
        True cells.
    predictions
        Predicted cells, of one or several methods; pictures are paired by their names without suffix.
    settings
        How to compare.
    annotators
        What several people annotated in the same pictures, one after the other: their agreement becomes a row of the table.
    groups
        A CSV file with the columns picture and group: what is drawn as a whole in the resampling, such as animals.
    images
        Folder of the pictures, for formats that do not hold their sizes; with --out they are shown in the report.
    out
        Folder for a page, Table 2, figures and pictures of the errors.
    """
    from fncells.evaluation import compare
    from fncells.evaluation.sources import evaluation_sources
    from fncells.evaluation.tables import comparison_table

    sources = evaluation_sources(truth, predictions, annotators or [], settings, images=images, groups=groups)
    compared = compare(
        sources.truth,
        sources.predictions,
        settings,
        annotators=sources.annotators,
        groups=sources.groups or _animals(truth, settings),
        pixel_sizes=sources.pixel_sizes,
        both_rules=out is not None,
    )
    if out is not None:
        from fncells.evaluation_report import draw_worst, evaluation_report

        overlays = draw_worst(compared, sources.truth, sources.predictions, sources.pictures)
        evaluation_report(out, compared, overlays)
        files.write_record(out, "evaluate", sources.settings, sources.inputs)
    several = len(compared.evaluations) > 1
    for name, one in compared.evaluations.items():
        _remark_on(f"{name}: " if several else "", one.missing, one.failed, one.unscored, one.notes)
    for name, one in compared.people.against_truth.items():
        _name_failures({f"{name}: {picture}": reason for picture, reason in one.failed.items()})
        _name_absent(name, one.missing)
    common.result(compared.as_dict(), comparison_table(compared))
    failed = [one.failed for one in (*compared.evaluations.values(), *compared.people.against_truth.values())]
    return int(any(failed) or any(one.missing for one in compared.evaluations.values()))


def agree(
    annotators: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    settings: Annotated[EvaluateSettings, _FLAT] = EvaluateSettings(),  # noqa: B008 - frozen
    consensus: Path | None = None,
    groups: Path | None = None,
    images: Path | None = None,
    out: Path | None = None,
    common: Common = _AS_USUAL,
) -> int:
    """Compare what several people annotated: with each other, and with what they agree upon.

    The consensus is made by majority and by STAPLE. A picture that somebody has not annotated is left out where that one is
    compared.

    Example: fncells agree expert_1 expert_2 expert_3 --out agreement

    Parameters
    ----------
    annotators
        The annotations of each, in any format; two or more.
    settings
        How to compare.
    consensus
        A consensus that was reached otherwise, to compare with as well.
    groups
        A CSV file with the columns picture and group: what is drawn as a whole in the resampling, such as animals.
    images
        Folder of the pictures, for formats that do not hold their sizes.
    out
        Folder for a page, tables and figures.
    """
    from fncells.evaluation import agree as agree_people
    from fncells.evaluation.sources import agreement_sources
    from fncells.evaluation.tables import agreement_table

    sources = agreement_sources(annotators, consensus, settings, images=images, groups=groups)
    agreement = agree_people(
        sources.annotators,
        settings,
        consensus=sources.truth or None,
        groups=sources.groups,
        pixel_sizes=sources.pixel_sizes,
    )
    if out is not None:
        from fncells.evaluation_report import agreement_report

        agreement_report(out, agreement)
        files.write_record(out, "agree", sources.settings, sources.inputs)
    for name, pictures in agreement.absent.items():
        _name_absent(name, pictures)
    for name, reasons in agreement.failed.items():
        _name_failures({f"{name}: {picture}": reason for picture, reason in reasons.items()})
    common.result(agreement.as_dict(), agreement_table(agreement))
    return int(bool(agreement.absent or agreement.failed))


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


def _share(share: Share) -> str:
    whose = "test" if share.species is None else share.species
    reached = "nothing labelled" if share.reached is None else f"{100 * share.reached:.1f} %"
    return f"{whose} {reached} of {100 * share.wished:g} % wished"


def _remark_on(
    whose: str, missing: Iterable[str], failed: Mapping[str, str], unscored: Iterable[str], notes: Iterable[str]
) -> None:
    """Tell what could not be compared as it should be."""
    _name_failures({f"{whose}{name}": reason for name, reason in failed.items()})
    for name in missing:
        sys.stderr.write(f"{whose}{name}: no prediction; scored as if nothing had been found\n")
    for name in unscored:
        sys.stderr.write(f"{whose}{name}: no truth; left out\n")
    _warn(f"{whose}{note}" for note in notes)


def _name_absent(whose: str, pictures: Iterable[str]) -> None:
    for picture in pictures:
        sys.stderr.write(f"{whose}: {picture}: not annotated; left out\n")


def _name_failures(failures: Mapping[str, str]) -> None:
    for name, reason in failures.items():
        sys.stderr.write(f"failed: {one_line(f'{name}: {reason}')}\n")


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(f"note: {one_line(line)}\n")


def _is_archive(path: Path) -> bool:
    from fncells.archive import Archive

    try:
        Archive.open(path)
    except InputError:
        return False
    return True


def _animals(truth: Path, settings: EvaluateSettings) -> dict[str, str]:
    """Which animal each picture shows, where the truth lies in an archive, whose index knows what its numbers stand for."""
    from fncells.archive import Archive

    place = truth.resolve()
    around = next((parent for parent in place.parents if _is_archive(parent)), None)
    if around is None or settings.group != "animal":
        return {}
    archive = Archive.open(around)
    here = [one for one in archive.samples() if place.is_relative_to(archive.root / one.collection / one.partition)]
    return {Path(one.name).stem: one.animal for one in here if one.animal}


def _place(place: str | None) -> str:
    return f", {place}" if place else ""


def _size(text: str) -> tuple[int, int]:
    width, by, height = text.lower().partition("x")
    if not (by and width.isdecimal() and height.isdecimal() and int(width) >= 32 and int(height) >= 32):
        argument = "--size"
        raise InputError(argument, expected="width x height in pixels, each at least 32, like 1600x1200", found=text)
    return int(width), int(height)
