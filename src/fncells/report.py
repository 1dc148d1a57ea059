"""Figures and pages to look at: what was counted, what a collection holds, what an audit found, and the tour.

How good a prediction is, and how well people agree, is shown by :mod:`fncells.evaluation_report`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

import fncells
from fncells import files
from fncells.audit.crops import finding_pictures
from fncells.audit.finding import Finding
from fncells.challenges import CHALLENGES, as_rows
from fncells.errors import InputError
from fncells.figures import COLOURS, FAINT, INK, Drawing, drawn, figure_of
from fncells.measure import MEASURE_TITLES, Table1, paper_frame, paper_rows, table1_frame, table1_markdown
from fncells.overlay import shrunk
from fncells.pages import MOST_THUMBNAILS, Shown, environment, jpeg_address, number_text
from fncells.published import TABLE_1
from fncells.statistics import Description

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = [
    "Drawing",
    "audit_report",
    "composition_figure",
    "count_report",
    "distribution_figures",
    "expectation_figures",
    "preview_figure",
    "stats_report",
    "tour_page",
    "write_audit",
]

# The collections are named after hues; these differ in lightness too, so that no kind of colour vision confuses them.
_COLLECTION_COLOURS = {"green": "#009e73", "red": "#b2332a", "yellow": "#dba800"}
_PARTITION_SHADES = {"trainval": 1.0, "test": 0.6, "unlabelled": 0.25}

_MOST_BINS = 60
_MOST_OF_A_KIND = 6  # findings on the page of an audit that are shown; more of the same teach little


# -------------------------------------------------------------------------------------------------------------- figures


def composition_figure(composition: Mapping[str, Mapping[str, int]]) -> Drawing:
    """Draw how many pictures each collection has in each partition (figure 4c of Clissa et al., FNC v2).

    Parameters
    ----------
    composition
        Number of pictures by collection and partition.
    """
    with figure_of(6.4, 0.9 + 0.52 * len(composition)) as figure:
        axes = figure.add_subplot()
        most = max((sum(parts.values()) for parts in composition.values()), default=0) or 1
        for row, (collection, parts) in enumerate(composition.items()):
            _stacked_bar(axes, row, parts, _colour(collection, row), most)
            axes.text(sum(parts.values()) + most * 0.01, row, str(sum(parts.values())), va="center", fontweight="bold")
        axes.set_yticks(range(len(composition)), list(composition))
        axes.invert_yaxis()
        axes.set_xlim(0, most * 1.08)
        axes.set_xlabel("pictures")
        axes.tick_params(axis="y", length=0)
        return drawn(figure, "composition", "Pictures in each collection, by partition.")


def distribution_figures(values: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Drawing]:
    """Draw how measures are distributed, one figure a measure with one panel a group.

    Parameters
    ----------
    values
        By measure (a key such as ``area_um2``, or words with the unit in brackets), then by group, such as a collection.
        Values that are not finite are left out; groups without values stay as empty panels.

    Returns
    -------
    list of Drawing
        Panels of a figure share their axis, and a line marks the median.
    """
    return [_distribution(measure, groups) for measure, groups in values.items()]


def expectation_figures(table: Table1) -> list[Drawing]:
    """Draw the sizes of cells against those that the paper prints (Clissa et al., FNC v2, Table 1), one figure a measure.

    Parameters
    ----------
    table
        Table 1 as :func:`fncells.measure.table1` gives it; collections that are not the paper's, or have no µm, are left out.

    Returns
    -------
    list of Drawing
        Ours above, the printed ones below: from the 10 % to the 90 % percentile, thick from 25 % to 75 %, with the median.
    """
    known = [name for name, measures in table.items() if name in TABLE_1 and _has(measures.get("area_um2"))]
    measures = ("area_um2", "feret_um", "equivalent_diameter_um") if known else ()
    return [_expectation(measure, known, table) for measure in measures]


def _has(described: object) -> bool:
    return isinstance(described, dict) and bool(described["count"])


def _expectation(measure: str, collections: Sequence[str], table: Table1) -> Drawing:
    with figure_of(6.4, 0.9 + 0.75 * len(collections)) as figure:
        axes = figure.add_subplot()
        for row, name in enumerate(collections):
            described: Any = table[name][measure]
            ours = [described[key] for key in ("10%", "25%", "50%", "75%", "90%")]
            printed = list(getattr(TABLE_1[name], measure).quantiles[1:-1])
            for height, values, colour in ((row - 0.17, ours, _colour(name, row)), (row + 0.17, printed, FAINT)):
                axes.plot([values[0], values[4]], [height] * 2, color=colour, linewidth=1.5, solid_capstyle="butt")
                axes.plot([values[1], values[3]], [height] * 2, color=colour, linewidth=9, solid_capstyle="butt")
                axes.plot([values[2]] * 2, [height - 0.13, height + 0.13], color=INK, linewidth=1.5)
            axes.text(ours[4], row - 0.17, f"  here, n = {described['count']}", va="center", fontsize=8)
            axes.text(
                printed[4], row + 0.17, f"  paper, n = {TABLE_1[name].cells}", va="center", fontsize=8, color=FAINT
            )
        axes.set_yticks(range(len(collections)), collections)
        axes.set_ylim(len(collections) - 0.45, -0.55)
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(MEASURE_TITLES[measure])
        caption = (
            f"{MEASURE_TITLES[measure].capitalize()} against the paper's Table 1: from the 10 % to the 90 % percentile, "
            "thick from 25 % to 75 %, with the median."
        )
        return drawn(figure, f"expectation_{measure}", caption)


def preview_figure(pictures: Mapping[str, Sequence[tuple[str, NDArray[np.uint8]]]]) -> Drawing:
    """Show pictures side by side, one row a group (figure 2 of Clissa et al., FNC v2).

    Parameters
    ----------
    pictures
        By group, captions and uint8 pictures, shape (h, w) or (h, w, 3).
    """
    columns = max((len(row) for row in pictures.values()), default=1) or 1
    with figure_of(2.5 * columns, 2.15 * max(1, len(pictures))) as figure:
        grid = figure.subplots(max(1, len(pictures)), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for line, (group, row) in zip(grid, pictures.items(), strict=False):
            for axes, (caption, pixels) in zip(line, row, strict=False):
                axes.imshow(shrunk(pixels, 640), cmap="gray" if pixels.ndim == 2 else None, interpolation="nearest")
                axes.set_title(f"{group}: {caption}", fontsize=8, loc="left")
        return drawn(figure, "preview", f"Pictures of {_listed(pictures)}.")


def _stacked_bar(axes: "Axes", row: int, parts: Mapping[str, int], colour: str, most: int) -> None:
    left = 0
    for part, number in parts.items():
        shade = _PARTITION_SHADES.get(part, 0.45)
        axes.barh(row, number, left=left, height=0.62, color=_blend(colour, shade), edgecolor="white", linewidth=1)
        told = f"{part} {number}" if number > most * 0.095 else str(number) if number > most * 0.03 else ""
        ink = _legible_on(_blend(colour, shade))
        axes.text(left + number / 2, row, told, ha="center", va="center", fontsize=8, color=ink)
        left += number


def _distribution(measure: str, groups: Mapping[str, Sequence[float]]) -> Drawing:
    label = MEASURE_TITLES.get(measure, measure)
    known = {name: _finite(values) for name, values in groups.items()}
    edges = list(_edges(known.values()))
    with figure_of(6.4, 0.7 + 1.25 * max(1, len(known))) as figure:
        panels = figure.subplots(max(1, len(known)), 1, sharex=True, squeeze=False)[:, 0]
        for row, (axes, (name, values)) in enumerate(zip(panels, known.items(), strict=False)):
            axes.hist(values, bins=edges, color=_colour(name, row), edgecolor="white", linewidth=0.4)
            axes.set_title(_told(name, values), loc="right", fontsize=8, pad=3)
            if len(values):
                axes.axvline(float(np.median(values)), color=INK, linewidth=1, linestyle="--")
                axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
            else:
                axes.set_yticks([])
        panels[-1].set_xlabel(label)
        figure.supylabel("number", fontsize=9)
        plain = "".join(character if character.isalnum() else "_" for character in measure).strip("_")
        return drawn(figure, f"distribution_{plain}", f"Distribution of {label}; dashed: the median.")


def _told(name: str, values: NDArray[np.float64]) -> str:
    told = f"n = {len(values)}"
    if len(values):
        told += f", median {np.median(values):.3g}"
    return f"{name}: {told}" if name else told


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _edges(groups: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Bin edges: whole numbers for counts, else as Freedman and Diaconis have it for the narrowest group, within reason."""
    filled = [values for values in groups if len(values)]
    if not filled:
        return np.array([0.0, 1.0])
    together = np.concatenate(filled)
    low, high = float(together.min()), float(together.max())
    if bool((together == np.round(together)).all()):
        step = max(1, math.ceil((high - low + 1) / _MOST_BINS))
        return np.arange(low, high + step + 1, step) - 0.5
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    widths = [2 * float(np.subtract(*np.percentile(values, (75, 25)))) / len(values) ** (1 / 3) for values in filled]
    width = min((width for width in widths if width > 0), default=(high - low) / 10)
    return np.linspace(low, high, int(np.clip(math.ceil((high - low) / width), 5, _MOST_BINS)) + 1)


def _colour(name: str, position: int) -> str:
    return _COLLECTION_COLOURS.get(name, COLOURS[position % len(COLOURS)])


def _blend(colour: str, share: float) -> str:
    """Mix a colour with white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


def _legible_on(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else INK


# ---------------------------------------------------------------------------------------------------------------- pages


def count_report(out: Path, command: str | None = None) -> Path:
    """Make ``report.html`` of what :func:`fncells.counting.count` wrote into a folder.

    Parameters
    ----------
    out
        The folder.
    command
        The command that made it, to be shown; it is told from the record otherwise.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    InputError
        If the folder holds no ``counts.csv``.
    """
    counts, cells = _read_table(out / "counts.csv"), _read_table(out / "cells.csv")
    record = files.read_record(out) or {}
    rows = [dict(zip(counts.columns, values, strict=True)) for values in counts.itertuples(index=False)]
    rows.sort(key=lambda row: (row["status"] != "failed", not row["notes"]))
    counted = [row for row in rows if row["status"] != "failed"]
    gallery, left_out = _gallery(out, counted)
    anchors = {shown.name: shown.anchor for shown in gallery}
    page = environment().get_template("count.html.j2")
    text = page.render(
        title="Cell counts",
        version=fncells.__version__,
        headline=_headline(rows, counted),
        failed=[row for row in rows if row["status"] == "failed"],
        rows=rows,
        anchors=anchors,
        diameter=_diameter_column(cells),
        groups=_group_tables(counted),
        figures=_count_figures(counted, cells),
        gallery=gallery,
        left_out=left_out,
        command=command or _command(record),
        record=record,
    )
    files.write_text(out / "report.html", text)
    return out / "report.html"


def stats_report(out: Path, description: Description) -> Path:
    """Write Table 1 (CSV, Markdown, JSON), the challenges (CSV), the figures (SVG, PNG) and a page that shows them all.

    Parameters
    ----------
    out
        The folder.
    description
        What :func:`fncells.statistics.describe` gives.

    Returns
    -------
    pathlib.Path
        The page, ``report.html``.
    """
    drawings = [composition_figure(description.composition), preview_figure(description.previews)]
    drawings += distribution_figures(description.distributions)
    drawings += expectation_figures(description.table)
    for drawing in drawings:
        drawing.write(out)
    table = table1_frame(description.table)
    files.write_csv(out / "table1.csv", table)
    files.write_text(out / "table1.md", table1_markdown(description.table))
    files.write_json(out / "table1.json", description.table)
    beside = paper_frame(description.table)
    if len(beside):
        files.write_csv(out / "beside_paper.csv", beside)
    hard = _challenge_table(description)
    if len(hard):
        files.write_csv(out / "challenges.csv", hard)
    page = environment().get_template("stats.html.j2")
    text = page.render(
        title="Collection statistics",
        version=fncells.__version__,
        statistics=[name for name in table.columns if name not in ("collection", "measure", "counts")],
        rows=table.sort_values("measure", kind="stable", key=_in_order_of_titles).to_dict("records"),
        published=any(table["counts"] == "published"),
        beside=paper_rows(beside),
        figures=drawings,
        challenges=hard.astype(object).where(hard.notna(), None).to_dict("records"),
        columns=[(challenge.title, challenge.measure) for challenge in CHALLENGES],
        hardest={
            collection: [
                Shown(
                    caption.partition(": ")[0],
                    f"{collection}-{number}",
                    caption.partition(": ")[2],
                    jpeg_address(pixels),
                )
                for number, (caption, pixels) in enumerate(pictures)
            ]
            for collection, pictures in description.hardest.items()
        },
    )
    files.write_text(out / "report.html", text)
    return out / "report.html"


def _challenge_table(description: Description) -> "pd.DataFrame":
    """All pictures, the hardest first."""
    import pandas as pd

    rows = as_rows(description.challenges, description.difficulty)
    table = pd.DataFrame(rows)
    return table.sort_values("difficulty", ascending=False, kind="stable") if rows else table


def tour_page(
    path: Path,
    pages: Mapping[str, Path],
    subject: str,
    scores: Mapping[str, Mapping[str, Any]],
    previews: Mapping[str, Sequence[tuple[str, NDArray[np.uint8]]]],
) -> Path:
    """Make a page that leads to the pages of the tour.

    Parameters
    ----------
    path
        The page to write.
    pages
        Pages by what they show, all in the folder of this one or below it.
    subject
        What the scores are of.
    scores
        By method, what ``fncells evaluate --json`` prints.
    previews
        What :func:`preview_figure` takes.

    Returns
    -------
    pathlib.Path
        The page.
    """
    text = (
        environment()
        .get_template("tour.html.j2")
        .render(
            title="The tour",
            version=fncells.__version__,
            links=[(name, page.relative_to(path.parent).as_posix()) for name, page in pages.items()],
            subject=subject,
            scores=scores,
            figures=[preview_figure(previews)],
        )
    )
    files.write_text(path, text)
    return path


def audit_report(
    path: Path, findings: Sequence[Finding], subject: str = "", root: Path | None = None, images: Path | None = None
) -> Path:
    """Make a page of what an audit found, with the places cut out of their pictures.

    Parameters
    ----------
    path
        The page to write.
    findings
        As the audit gives them, the most serious first.
    subject
        What was audited.
    root, images
        The folders that the findings' files and pictures are relative to; without `root` no pictures are shown, and `images`
        is the same folder where it is None.

    Returns
    -------
    pathlib.Path
        The page.
    """
    shown, anchors, left_out = _seen(findings, root, images)
    page = environment().get_template("audit.html.j2")
    text = page.render(
        title="Audit",
        version=fncells.__version__,
        subject=subject,
        findings=findings,
        severities=[(name, sum(one.severity == name for one in findings)) for name in ("serious", "minor", "note")],
        gallery=shown,
        anchors=anchors,
        left_out=left_out,
    )
    files.write_text(path, text)
    return path


def write_audit(out: Path, findings: Sequence[Finding], subject: str, root: Path, images: Path | None = None) -> Path:
    """Write the findings of an audit as ``findings.csv``, ``findings.json`` and ``report.html``.

    Parameters
    ----------
    out
        The folder.
    findings, subject, root, images
        As in :func:`audit_report`.

    Returns
    -------
    pathlib.Path
        The page.
    """
    import pandas as pd

    told = [asdict(one) for one in findings]
    columns = [name for name in Finding.__annotations__ if name not in ("pictures", "points")]
    files.write_csv(out / "findings.csv", pd.DataFrame(told, columns=columns))
    files.write_json(out / "findings.json", told)
    return audit_report(out / "report.html", findings, subject, root, images)


def _seen(
    findings: Sequence[Finding], root: Path | None, images: Path | None
) -> tuple[list[Shown], dict[int, str], int]:
    """Pictures of the findings, the anchors of those that have one, and how many are left out."""
    shown: list[Shown] = []
    anchors: dict[int, str] = {}
    kinds: Counter[str] = Counter()
    left_out = 0
    for position, finding in enumerate(findings if root is not None else ()):
        if not finding.pictures or root is None:
            continue
        if kinds[finding.kind] >= _MOST_OF_A_KIND or len(anchors) >= MOST_THUMBNAILS:
            left_out += 1
            continue
        for number, (caption, pixels) in enumerate(finding_pictures(finding, root, images)):
            anchor = f"f{position}" if not number else f"f{position}-{number}"
            anchors.setdefault(position, anchor)
            kind = finding.kind.replace("-", " ")
            words = f"{kind} · {caption}" if finding.points else kind
            name = finding.pictures[0] if finding.points else caption
            shown.append(Shown(name, anchor, words, jpeg_address(pixels)))
        kinds[finding.kind] += position in anchors
    return shown, anchors, left_out


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


# ------------------------------------------------------------------------------------------------- what the pages show


def _read_table(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(path, expected="a table that fncells count wrote", found=str(error)) from error


def _headline(rows: Sequence[Mapping[str, str]], counted: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    cells = [int(row["n_cells"]) for row in counted]
    densities = [float(row["density_per_mm2"]) for row in counted if row["density_per_mm2"]]
    headline = [
        ("cells", number_text(sum(cells))),
        ("pictures counted", f"{len(counted)} of {len(rows)}"),
        ("failed", str(len(rows) - len(counted))),
        ("median a picture", number_text(float(np.median(cells)) if cells else None)),
    ]
    if densities:
        headline.append(("cells / mm², mean", number_text(float(np.mean(densities)))))
    return headline


def _diameter_column(cells: "pd.DataFrame") -> str:
    """Diameters are shown in µm where every counted cell has one."""
    column = "equivalent_diameter_um"
    return "um" if column in cells and len(cells) and bool((cells[column] != "").all()) else "px"


def _group_tables(counted: Sequence[Mapping[str, str]]) -> list[tuple[str, list[dict[str, object]]]]:
    tables = []
    for key in ("animal", "area", "side"):
        groups: dict[tuple[str, str], list[int]] = {}
        for row in counted:
            groups.setdefault((row[key], row["collection"]), []).append(int(row["n_cells"]))
        if any(name for name, _ in groups):
            ordered = sorted(groups.items(), key=lambda group: (not group[0][0], group[0]))
            lines: list[dict[str, object]] = [
                {key: name or "unknown", "collection": collection or "unknown", "pictures": len(numbers),
                 "cells": sum(numbers), "mean": sum(numbers) / len(numbers)}
                for (name, collection), numbers in ordered
            ]  # fmt: skip
            tables.append((key, lines))
    return tables


def _count_figures(counted: Sequence[Mapping[str, str]], cells: "pd.DataFrame") -> list[Drawing]:
    unnamed = "unknown" if any(row["collection"] for row in counted) else ""
    collection = {row["picture"]: row["collection"] or unnamed for row in counted}
    groups = sorted(set(collection.values()))
    per_picture: dict[str, list[float]] = {group: [] for group in groups}
    for row in counted:
        per_picture[collection[row["picture"]]].append(float(row["n_cells"]))
    drawings = distribution_figures({"cells a picture": per_picture}) if counted else []
    measure = f"equivalent_diameter_{_diameter_column(cells)}"
    if not len(cells) or measure not in cells:
        return drawings
    sizes: dict[str, list[float]] = {group: [] for group in groups}
    for picture, size in zip(cells["picture"], cells[measure], strict=True):
        if picture in collection and size:
            sizes[collection[picture]].append(float(size))
    return drawings + distribution_figures({measure: sizes})


def _gallery(out: Path, counted: Sequence[Mapping[str, str]]) -> tuple[list[Shown], int]:
    """Overlays on the page, those with notes first, and how many more there are beside it."""
    there = [(row, _overlay_file(row["picture"])) for row in counted]
    there = [(row, file) for row, file in there if (out / file).is_file()]
    shown = []
    for position, (row, file) in enumerate(there[:MOST_THUMBNAILS], 1):
        pixels = cv2.imdecode(np.fromfile(out / file, dtype=np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            number = number_text(row["n_cells"])
            caption = f"{number} {'cell' if number == '1' else 'cells'}" + (
                f" · {row['notes']}" if row["notes"] else ""
            )
            rgb = np.asarray(pixels[..., ::-1], dtype=np.uint8)
            shown.append(Shown(row["picture"], f"p{position}", caption, jpeg_address(rgb), file))
    return shown, max(0, len(there) - MOST_THUMBNAILS)


def _overlay_file(picture: str) -> str:
    return f"overlays/{PurePosixPath(picture).with_suffix('')}.png"


def _command(record: Mapping[str, object]) -> str:
    """Tell the command from the record; places are not recorded, for they differ from machine to machine."""
    settings = record.get("settings")
    known = settings if isinstance(settings, dict) else {}
    words = ["fncells count PICTURES --out FOLDER"]
    for key, option in (("pixel_size", "--pixel-size"), ("diameter", "--diameter")):
        if known.get(key) is not None:
            words.append(f"{option} {known[key]:g}")
    if "predictions" in known:
        words.append("--predictions FOLDER")
    if known.get("overlays") is False:
        words.append("--no-overlays")
    return " ".join(words)


def _in_order_of_titles(measures: "pd.Series[str]") -> "pd.Series[int]":
    order = {measure: place for place, measure in enumerate(MEASURE_TITLES)}
    return measures.map(order)
