"""What to do with annotations: measure, convert and clean them."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fncells.cleaning import CleanSettings
from fncells.cleaning import clean as clean_masks
from fncells.commands.common import AS_USUAL, FLAT, Common, name_failures

__all__ = ["clean", "convert", "measure"]


def measure(
    source: Path,
    /,
    *,
    out: Path,
    images: Path | None = None,
    pixel_size: float | None = None,
    workers: int = 1,
    common: Common = AS_USUAL,
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
    name_failures(summary.failures)
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
    common: Common = AS_USUAL,
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
    name_failures(dict(report.failed))
    table = report.as_table().to_string(index=False, na_rep="")
    common.result(report.as_dict(), f"{table}\n{report.source_format} to {report.target_format}: {target}")
    return 1 if report.failed else 0


def clean(
    masks: Path,
    out: Path,
    /,
    *,
    settings: Annotated[CleanSettings, FLAT] = CleanSettings(),  # noqa: B008 - frozen
    images: Path | None = None,
    common: Common = AS_USUAL,
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
    from fncells.cleaning_report import clean_report

    summary = clean_masks(masks, out, settings)
    page = clean_report(summary, images)
    name_failures(summary.failures)
    told = summary.as_dict()
    text = (
        f"{told['cleaned']} masks cleaned, {told['failed']} failed: {told['objects_before']} objects before, "
        f"{told['objects_after']} after; {told['added_px']} pixels added, {told['removed_px']} removed; open {page}"
    )
    common.result(told, text)
    return 1 if summary.failures else 0
