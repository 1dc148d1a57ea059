"""The tables of a count: a row for every picture, a row for every cell, and sums of pictures that belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.measure import measure_cells
from fncells.names import Specimen

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PictureCount", "write_tables"]

_SPECIMEN_COLUMNS = ("species", "animal", "sample", "column", "row", "area", "side", "region", "collection")
_COUNTS = ("n_cells", "width_px", "height_px", "sample", "column", "row")


@dataclass(frozen=True)
class PictureCount:
    """One row of ``counts.csv``; None is unknown.

    Attributes
    ----------
    picture
        Name relative to the input, suffix included.
    status
        ``counted`` or ``failed``.
    n_cells
        Number of cells; None where counting failed, which is not the same as 0.
    reason
        Why it failed, else empty.
    notes
        What a careful reader should know before trusting the count, else empty.
    width_px, height_px
        Size of the picture.
    signal_percent
        Share of the pixels that belong to cells.
    saturated_percent
        Share of the pixels at the camera's upper limit.
    median_diameter_px, median_diameter_um
        Median of the cells' equivalent diameters.
    density_per_mm2
        Cells a square millimetre of the picture.
    pixel_size_um, pixel_size_source
        Micrometres a pixel, and who says so.
    specimen
        What the name tells.
    """

    picture: str
    status: str
    n_cells: int | None = None
    reason: str = ""
    notes: str = ""
    width_px: int | None = None
    height_px: int | None = None
    signal_percent: float | None = None
    saturated_percent: float | None = None
    median_diameter_px: float | None = None
    median_diameter_um: float | None = None
    density_per_mm2: float | None = None
    pixel_size_um: float | None = None
    pixel_size_source: str | None = None
    specimen: Specimen = field(default_factory=Specimen)


def write_tables(
    out: Path,
    pictures: Sequence[PictureCount],
    measures: Mapping[str, Mapping[str, Sequence[Any]]],
    model_sha256: str | None,
) -> None:
    """Write ``counts.csv``, ``cells.csv`` and ``counts.xlsx``.

    Parameters
    ----------
    out
        The folder for them.
    pictures
        One entry for every picture, in the order of the rows.
    measures
        By the name of each counted picture, in the order of the rows, columns with one value a cell: ``cell`` (the cell's
        number), what :func:`fncells.measure.measure_cells` gives, and ``score``; None is unknown.
    model_sha256
        Checksum of the model; None where there was none.
    """
    counts = _counts_table(pictures, model_sha256)
    files.write_csv(out / "counts.csv", counts)
    files.write_csv(out / "cells.csv", _cells_table(measures))
    counted = [one for one in pictures if one.status == "counted"]
    sheets = {
        "counts": counts,
        "by_animal": _groups(counted, ("animal", "species", "collection")),
        "by_area": _groups(counted, ("area", "collection")),
        "by_side": _groups(counted, ("side", "collection")),
    }
    files.write_workbook(out / "counts.xlsx", sheets)


def _counts_table(pictures: Sequence[PictureCount], model_sha256: str | None) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for one in pictures:
        row = {name: value for name, value in asdict(one).items() if name != "specimen"}
        row |= {name: getattr(one.specimen, name) for name in _SPECIMEN_COLUMNS}
        row["model_sha256"] = model_sha256 if one.status == "counted" else None
        rows.append(row)
    # Whole numbers stay whole beside unknown ones.
    return pd.DataFrame(rows).astype(dict.fromkeys(_COUNTS, "Int64"))


def _cells_table(measures: Mapping[str, Mapping[str, Sequence[Any]]]) -> "pd.DataFrame":
    """All cells; columns in µm only where any picture's pixel size is known, empty for those where it is not."""
    import pandas as pd

    nothing = measure_cells(AnnotatedImage("", (1, 1), ()))
    # The picture with the most columns gives their order; grey and coloured ones differ in those of the intensities.
    known = sorted(measures.values(), key=len, reverse=True)
    columns = list(dict.fromkeys(column for table in [*known, nothing] for column in table if column != "score"))
    columns = ["picture", *columns, "score"]
    tables = []
    for name, found in measures.items():
        if found["cell"]:
            unknown = [column for column, values in found.items() if None in values]
            table = pd.DataFrame({"picture": [name] * len(found["cell"]), **found})
            tables.append(table.astype(dict.fromkeys(unknown, "float64")))
    together = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    return together.reindex(columns=columns)


def _groups(counted: Sequence[PictureCount], keys: Sequence[str]) -> "pd.DataFrame":
    """Sum up pictures that share what their names say of them; different stains are never added up."""
    import pandas as pd

    groups: dict[tuple[str, ...], list[PictureCount]] = {}
    for one in counted:
        groups.setdefault(tuple(_group_value(one.specimen, key) for key in keys), []).append(one)
    rows = [
        {**dict(zip(keys, _shown(keys, members), strict=True)), **_group_figures(members)}
        for _, members in sorted(groups.items(), key=lambda group: [(not value, value) for value in group[0]])
    ]
    figures = ["pictures", "total_cells", "mean_cells", "sd_cells", "mean_density_per_mm2"]
    return pd.DataFrame(rows, columns=[*keys, *figures])


def _group_value(specimen: Specimen, key: str) -> str:
    value = specimen.animal_key if key == "animal" else getattr(specimen, key)
    return "" if value is None else str(value)


def _shown(keys: Sequence[str], members: Sequence[PictureCount]) -> list[str]:
    """Spell a group's keys as its first picture does."""
    return [getattr(members[0].specimen, key) or "(unknown)" for key in keys]


def _group_figures(members: Sequence[PictureCount]) -> dict[str, float | int | None]:
    cells = [one.n_cells or 0 for one in members]
    densities = [one.density_per_mm2 for one in members if one.density_per_mm2 is not None]
    return {
        "pictures": len(cells),
        "total_cells": sum(cells),
        "mean_cells": round(fmean(cells), 4),
        "sd_cells": round(stdev(cells), 4) if len(cells) > 1 else None,
        "mean_density_per_mm2": round(fmean(densities), 4) if densities else None,
    }
