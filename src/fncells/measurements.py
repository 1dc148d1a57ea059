"""Cells of annotations or of an archive measured into tables: a row a cell, a row a picture."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fncells import files
from fncells.archive import Archive, Sample
from fncells.cells import AnnotatedImage
from fncells.errors import FncellsError, InputError
from fncells.formats import read_annotations, recognise
from fncells.formats.pictures import PictureFolder
from fncells.images import PixelSize, read_picture
from fncells.measure import measure_cells, summarise
from fncells.workers import in_parallel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MeasureSummary", "PictureRow", "measure_source"]

_RASTERS = ("masks", "labels")


@dataclass(frozen=True)
class PictureRow:
    """One picture's row in ``pictures.csv``.

    Attributes
    ----------
    picture
        Name relative to what was measured.
    status, reason
        ``measured``, or ``failed`` and why.
    n_cells, signal_percent, density_per_mm2
        Number of cells, share of their pixels, and cells on a square millimetre; None where unknown.
    width, height
        In pixels.
    pixel_size_um, pixel_size_source
        Side of a pixel and who says so; None where unknown.
    """

    picture: str
    status: Literal["measured", "failed"]
    reason: str | None = None
    n_cells: int | None = None
    signal_percent: float | None = None
    density_per_mm2: float | None = None
    width: int | None = None
    height: int | None = None
    pixel_size_um: float | None = None
    pixel_size_source: str | None = None


@dataclass(frozen=True)
class MeasureSummary:
    """What was measured.

    Attributes
    ----------
    pictures
        One row each.
    n_cells
        In all.
    """

    pictures: tuple[PictureRow, ...]
    n_cells: int

    @property
    def failures(self) -> dict[str, str]:
        """Reasons by the names of the pictures that could not be measured."""
        return {row.picture: row.reason or "" for row in self.pictures if row.status == "failed"}

    def as_dict(self) -> dict[str, object]:
        """Give the summary as JSON can hold it."""
        return {"n_cells": self.n_cells, "pictures": [asdict(row) for row in self.pictures]}


@dataclass(frozen=True, eq=False)
class _Job:
    """Cells to measure, and where their picture is; it crosses to the worker process."""

    name: str
    cells: AnnotatedImage | Sample
    picture: Path | None
    pixel_size: PixelSize | None


def measure_source(
    source: Path, out: Path, images: Path | None = None, pixel_size: float | None = None, workers: int = 1
) -> MeasureSummary:
    """Measure all cells of annotations or of an archive, and write ``cells.csv`` and ``pictures.csv``.

    Parameters
    ----------
    source
        Annotations in any format, or an archive's folder.
    out
        Folder for the tables.
    images
        Folder of the annotated pictures: adds intensities, sizes in µm where the pictures tell their pixel size, and shapes for
        formats that do not hold them. An archive has its own.
    pixel_size
        Side of a pixel in µm, for all pictures, whatever they tell.
    workers
        Processes to work with; the result does not depend on it.

    Returns
    -------
    MeasureSummary
        A picture that cannot be measured is a row with its reason, and the others go on.

    Raises
    ------
    InputError
        If there is nothing of that name, or no format fits.
    """
    known = None if pixel_size is None else PixelSize(pixel_size, "user")
    jobs = list(_jobs(source, images, known))
    work = in_parallel(_measured, jobs, workers)
    rows, tables = [], []
    for row, table in files.progress(work, len(jobs), "measuring"):
        rows.append(row)
        if table is not None:
            tables.append(table)
    files.write_csv(out / "cells.csv", _together(tables))
    files.write_csv(out / "pictures.csv", _picture_table(rows))
    return MeasureSummary(tuple(rows), sum(row.n_cells or 0 for row in rows))


def _jobs(source: Path, images: Path | None, pixel_size: PixelSize | None) -> Iterator[_Job]:
    if source.is_dir():
        try:
            archive = Archive.open(source)
        except InputError:
            pass
        else:
            for sample in archive.samples():
                if sample.mask_path is not None or sample.labels_path is not None:
                    name = sample.picture_path.relative_to(archive.root).as_posix()
                    yield _Job(name, sample, sample.picture_path, pixel_size)
            return
    pictures = None if images is None else PictureFolder(images)
    format_name = recognise(source)
    # Label pictures and masks know their size; one that differs from its picture's fails alone.
    shapes = None if format_name in _RASTERS else images
    for image in read_annotations(source, format_name, shapes):
        found = None if pictures is None else pictures.find(image.name)
        yield _Job(image.name, image, None if found is None else found.path, pixel_size)


def _measured(job: _Job) -> tuple[PictureRow, "pd.DataFrame | None"]:
    import pandas as pd

    try:
        image = job.cells.read_cells() if isinstance(job.cells, Sample) else job.cells
        picture = None if job.picture is None else read_picture(job.picture, job.name)
        size = job.pixel_size or (None if picture is None else picture.pixel_size)
        if size is None and isinstance(job.cells, Sample):
            size = job.cells.pixel_size
        if picture is not None and image.shape is None:
            image = image.with_shape((picture.pixels.shape[0], picture.pixels.shape[1]))
        columns = measure_cells(image, size, None if picture is None else picture.pixels)
        summary = summarise(image, "", size)
    except FncellsError as error:
        return PictureRow(job.name, "failed", str(error)), None
    height, width = image.shape or (0, 0)
    row = PictureRow(
        picture=job.name,
        status="measured",
        n_cells=summary.n_cells,
        signal_percent=summary.signal_percent,
        density_per_mm2=summary.density_per_mm2,
        width=width,
        height=height,
        pixel_size_um=None if size is None else size.um,
        pixel_size_source=None if size is None else size.source,
    )
    return row, pd.DataFrame({"picture": [job.name] * len(image.cells), **columns})


def _together(tables: Sequence["pd.DataFrame"]) -> "pd.DataFrame":
    """All cells; a column that only some pictures have is empty for the others."""
    import pandas as pd

    # The picture with the most columns gives their order; grey and coloured ones differ in those of the intensities.
    columns = list(dict.fromkeys(name for table in sorted(tables, key=lambda one: -one.shape[1]) for name in table))
    filled = [table for table in tables if len(table)]
    if filled:
        return pd.concat(filled, ignore_index=True).reindex(columns=columns)
    return pd.DataFrame(columns=columns or ["picture", *measure_cells(AnnotatedImage("", (1, 1), ()))])


def _picture_table(rows: Sequence[PictureRow]) -> "pd.DataFrame":
    import pandas as pd

    columns: Any = PictureRow.__annotations__
    table = pd.DataFrame([asdict(row) for row in rows], columns=list(columns))
    return table.astype(dict.fromkeys(("n_cells", "width", "height"), "Int64"))
