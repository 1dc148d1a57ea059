"""Figures and pages to look at: what was counted, what a collection holds, how good a prediction is, what an audit found.

Every page is one HTML file without any address outside itself: it opens without a network, on a telephone and on paper. Figures
come as SVG and PNG whose bytes depend on the values alone.
"""

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

import fncells
from fncells import files
from fncells.cells import AnnotatedImage
from fncells.cleaning import MASKS_FOLDER, CleanSummary, mask_levels
from fncells.errors import InputError
from fncells.evaluation import match_iou
from fncells.formats.pictures import PictureFolder
from fncells.formats.rasters import as_mask, read_raster
from fncells.images import display_rgb, read_picture
from fncells.measure import MEASURE_TITLES, table1_frame, table1_markdown
from fncells.overlay import FOUND, MISSED, WRONG, comparison, overlay, shrunk
from fncells.statistics import Description

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Drawing",
    "agreement_figure",
    "audit_report",
    "clean_report",
    "cleaning_figure",
    "compare",
    "composition_figure",
    "count_report",
    "distribution_figures",
    "evaluation_report",
    "preview_figure",
    "stats_report",
    "tour_page",
]

# The collections are named after hues; these differ in lightness too, so that no kind of colour vision confuses them.
_COLLECTION_COLOURS = {"green": "#009e73", "red": "#b2332a", "yellow": "#dba800"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito
_INK, _FAINT, _LINE = "#1f2328", "#59636e", "#d0d7de"
_PARTITION_SHADES = {"trainval": 1.0, "test": 0.6, "unlabelled": 0.25}

_THUMBNAIL_WIDTH = 900
_MOST_THUMBNAILS = 60  # some 6 MB of page; the other overlays lie beside it
_MOST_BINS = 60
_MOST_COMPARED = 4  # masks in the figure of the paper


# -------------------------------------------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Drawing:
    """A figure in both of its forms.

    Attributes
    ----------
    name
        File name without suffix.
    caption
        What it shows, in a sentence; it also stands for the figure where that cannot be seen.
    svg, png
        The files' content.
    """

    name: str
    caption: str
    svg: bytes
    png: bytes

    @property
    def address(self) -> str:
        """The SVG as an address that holds it whole, so that nothing in it can touch the page around it."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"

    def write(self, folder: Path) -> None:
        """Write ``name.svg`` and ``name.png`` into a folder."""
        files.write_bytes(folder / f"{self.name}.svg", self.svg)
        files.write_bytes(folder / f"{self.name}.png", self.png)


def composition_figure(composition: Mapping[str, Mapping[str, int]]) -> Drawing:
    """Draw how many pictures each collection has in each partition (figure 4c of Clissa et al., FNC v2).

    Parameters
    ----------
    composition
        Number of pictures by collection and partition.
    """
    with _figure(6.4, 0.9 + 0.52 * len(composition)) as figure:
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
        return _drawn(figure, "composition", "Pictures in each collection, by partition.")


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


def preview_figure(pictures: Mapping[str, Sequence[tuple[str, NDArray[np.uint8]]]]) -> Drawing:
    """Show pictures side by side, one row a group (figure 2 of Clissa et al., FNC v2).

    Parameters
    ----------
    pictures
        By group, captions and uint8 pictures, shape (h, w) or (h, w, 3).
    """
    columns = max((len(row) for row in pictures.values()), default=1) or 1
    with _figure(2.5 * columns, 2.15 * max(1, len(pictures))) as figure:
        grid = figure.subplots(max(1, len(pictures)), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for line, (group, row) in zip(grid, pictures.items(), strict=False):
            for axes, (caption, pixels) in zip(line, row, strict=False):
                axes.imshow(shrunk(pixels, 640), cmap="gray" if pixels.ndim == 2 else None, interpolation="nearest")
                axes.set_title(f"{group}: {caption}", fontsize=8, loc="left")
        return _drawn(figure, "preview", f"Pictures of {_listed(pictures)}.")


def agreement_figure(counts: Sequence[tuple[int, int]]) -> Drawing:
    """Draw predicted against true numbers of cells, and their difference against their mean (Bland and Altman).

    Parameters
    ----------
    counts
        True and predicted number of cells of each picture.
    """
    true, predicted = (np.array(side, dtype=np.float64) for side in zip(*counts, strict=True))
    with _figure(7.2, 3.2) as figure:
        left, right = figure.subplots(1, 2)
        most = max(true.max(), predicted.max(), 1) * 1.05
        left.plot([0, most], [0, most], color=_LINE, linewidth=1, zorder=0)
        _dots(left, true, predicted)
        left.set(xlim=(0, most), ylim=(0, most), xlabel="true cells", ylabel="predicted cells")
        left.set_aspect("equal", adjustable="box")
        difference = predicted - true
        _dots(right, (true + predicted) / 2, difference)
        bias, spread = difference.mean(), 1.96 * difference.std(ddof=1) if len(difference) > 1 else 0.0
        for height, style in ((bias, "-"), (bias - spread, ":"), (bias + spread, ":")):
            right.axhline(height, color=_FAINT, linewidth=0.9, linestyle=style)
        right.axhline(0, color=_LINE, linewidth=1, zorder=0)
        right.set(xlabel="mean of true and predicted", ylabel="predicted − true")
        caption = (
            "Predicted against true numbers of cells, a dot a picture; right: their difference, with its mean (line) and 95 % "
            "limits of agreement (dotted)."
        )
        return _drawn(figure, "agreement", caption)


def cleaning_figure(
    masks: Sequence[tuple[str, NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]],
) -> Drawing:
    """Show masks before and after cleaning, and what was added and removed (figure 3 of Clissa et al., FNC v2).

    Parameters
    ----------
    masks
        For each: a caption, what to show of it before and after (uint8, shape (h, w) or (h, w, 3)), and both masks.
    """
    with _figure(7.2, 0.55 + 2.0 * max(1, len(masks))) as figure:
        grid = figure.subplots(max(1, len(masks)), 3, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for title, axes in zip(("before", "after", "what changed"), grid[0], strict=True):
            axes.text(0.5, 1.16, title, transform=axes.transAxes, ha="center", va="bottom", fontweight="bold")
        for line, (caption, shown_before, shown_after, before, after) in zip(grid, masks, strict=False):
            for axes, pixels in zip(line, (shown_before, shown_after, _changed(before, after)), strict=True):
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            line[0].set_title(caption, fontsize=8, loc="left")
        _legend(figure, [("kept", _KEPT), ("added", FOUND), ("removed", WRONG)])
        caption = (
            "Masks before and after cleaning, where each changed most; right: pixels kept are grey, added ones sky blue, "
            "removed ones vermilion."
        )
        return _drawn(figure, "figure3", caption)


_KEPT = (118, 118, 118)


def _changed(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> NDArray[np.uint8]:
    pixels = np.zeros((*before.shape, 3), np.uint8)
    for part, colour in ((before & after, _KEPT), (after & ~before, FOUND), (before & ~after, WRONG)):
        pixels[part] = colour
    return pixels


def _legend(figure: "Figure", colours: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=_css(colour), label=name) for name, colour in colours]
    figure.legend(handles=patches, loc="outside lower right", ncols=len(patches), frameon=False, fontsize=8)


def _dots(axes: "Axes", x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    axes.scatter(x, y, s=16, color=_COLOURS[0], alpha=0.6, linewidths=0)


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
    with _figure(6.4, 0.7 + 1.25 * max(1, len(known))) as figure:
        panels = figure.subplots(max(1, len(known)), 1, sharex=True, squeeze=False)[:, 0]
        for row, (axes, (name, values)) in enumerate(zip(panels, known.items(), strict=False)):
            axes.hist(values, bins=edges, color=_colour(name, row), edgecolor="white", linewidth=0.4)
            axes.set_title(_told(name, values), loc="right", fontsize=8, pad=3)
            if len(values):
                axes.axvline(float(np.median(values)), color=_INK, linewidth=1, linestyle="--")
                axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
            else:
                axes.set_yticks([])
        panels[-1].set_xlabel(label)
        figure.supylabel("number", fontsize=9)
        plain = "".join(character if character.isalnum() else "_" for character in measure).strip("_")
        return _drawn(figure, f"distribution_{plain}", f"Distribution of {label}; dashed: the median.")


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
    return _COLLECTION_COLOURS.get(name, _COLOURS[position % len(_COLOURS)])


def _blend(colour: str, share: float) -> str:
    """Mix a colour with white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in parts)


def _legible_on(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else _INK


@contextmanager
def _figure(width: float, height: float) -> Iterator["Figure"]:
    """Give a figure in inches, in a style of our own whatever the user's configuration says."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        **mpl.rcParamsDefault,
        "font.family": ["DejaVu Sans"],
        "font.size": 9,
        "svg.hashsalt": "fncells",
        "svg.fonttype": "path",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "text.color": _INK,
        "xtick.color": _FAINT,
        "ytick.color": _FAINT,
        "figure.dpi": 100,
    }
    style.pop("backend", None)  # looking at it would choose one, and none is needed
    with mpl.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained")


def _drawn(figure: "Figure", name: str, caption: str) -> Drawing:
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return Drawing(name, caption, svg.getvalue(), png.getvalue())


# ---------------------------------------------------------------------------------------------------------------- pages


@dataclass(frozen=True)
class _Shown:
    """A picture in a gallery; ``file`` is its full-size file beside the page, where there is one."""

    name: str
    anchor: str
    caption: str
    address: str
    file: str | None = None


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
    page = _environment().get_template("count.html.j2")
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


def clean_report(summary: CleanSummary, images: Path | None = None) -> Path:
    """Write the figure of what cleaning changed (SVG, PNG), and a page that shows it with a row for every mask.

    Parameters
    ----------
    summary
        What :func:`fncells.cleaning.clean` gives.
    images
        Folder of the pictures that the masks belong to; the figure then shows the outlines upon them.

    Returns
    -------
    pathlib.Path
        The page, ``report.html`` in the summary's folder.
    """
    changed = sorted(summary.cleaned, key=lambda row: (-row["added_px"] - row["removed_px"], row["picture"]))
    shown = [row for row in changed if row["added_px"] + row["removed_px"]][:_MOST_COMPARED]
    pictures = PictureFolder(images)
    drawing = cleaning_figure([_before_and_after(row, summary, pictures) for row in shown]) if shown else None
    if drawing is not None:
        drawing.write(summary.out)
    page = _environment().get_template("clean.html.j2")
    text = page.render(
        title="Cleaned masks",
        version=fncells.__version__,
        summary=summary.as_dict(),
        failed=summary.failures,
        rows=changed,
        noted=any(row["reason"] for row in changed),
        figures=[] if drawing is None else [drawing],
    )
    files.write_text(summary.out / "report.html", text)
    return summary.out / "report.html"


def stats_report(out: Path, description: Description) -> Path:
    """Write Table 1 (CSV, Markdown), the figures (SVG, PNG) and a page that shows them all.

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
    for drawing in drawings:
        drawing.write(out)
    table = table1_frame(description.table)
    files.write_csv(out / "table1.csv", table)
    files.write_text(out / "table1.md", table1_markdown(description.table))
    page = _environment().get_template("stats.html.j2")
    text = page.render(
        title="Collection statistics",
        version=fncells.__version__,
        statistics=[name for name in table.columns if name not in ("collection", "measure", "counts")],
        rows=table.sort_values("measure", kind="stable", key=_in_order_of_titles).to_dict("records"),
        published=any(table["counts"] == "published"),
        figures=drawings,
    )
    files.write_text(out / "report.html", text)
    return out / "report.html"


def compare(
    truth: Iterable[AnnotatedImage], prediction: Iterable[AnnotatedImage], pictures: Mapping[str, Path], iou: float
) -> dict[str, NDArray[np.uint8]]:
    """Draw the found, missed and wrong cells of every picture that is at hand.

    Parameters
    ----------
    truth, prediction
        Cells, paired by the names of their pictures without suffix; a true picture without prediction is left out.
    pictures
        The pictures by name; only the name without suffix counts.
    iou
        Least IoU of a pair.

    Returns
    -------
    dict
        What :func:`evaluation_report` takes, by the names of the true pictures.
    """
    by_stem = {PurePosixPath(name).with_suffix("").as_posix(): path for name, path in pictures.items()}
    predicted = {image.stem: image for image in prediction}
    overlays = {}
    for true in truth:
        if true.stem not in by_stem or true.stem not in predicted:
            continue
        picture = read_picture(by_stem[true.stem])
        height, width = picture.pixels.shape[:2]
        sides = (true.with_shape((height, width)), predicted[true.stem].with_shape((height, width)))
        pairs = [(int(one), int(other)) for one, other in match_iou(*sides, iou).pairs]
        overlays[true.name] = comparison(picture.pixels, *sides, pairs)
    return overlays


def evaluation_report(
    path: Path, evaluation: Mapping[str, Any], overlays: Mapping[str, NDArray[np.uint8]] | None = None
) -> Path:
    """Make a page of how good predictions are: Table 2, every picture with the worst first, and pictures of the errors.

    Parameters
    ----------
    path
        The page to write.
    evaluation
        What ``fncells evaluate --json`` prints.
    overlays
        By picture, what :func:`fncells.overlay.comparison` draws.

    Returns
    -------
    pathlib.Path
        The page.
    """
    rows = sorted(evaluation["per_picture"], key=lambda row: (-_errors(row), row["picture"]))
    drawn = [(row, (overlays or {})[row["picture"]]) for row in rows if row["picture"] in (overlays or {})]
    shown = [_compared(number, row, pixels) for number, (row, pixels) in enumerate(drawn[:_MOST_THUMBNAILS], 1)]
    counts = [(row["n_true"], row["n_predicted"]) for row in rows]
    page = _environment().get_template("evaluation.html.j2")
    text = page.render(
        title="Evaluation",
        version=fncells.__version__,
        evaluation=evaluation,
        rows=rows,
        figures=[agreement_figure(counts)] if counts else [],
        gallery=shown,
        left_out=len(drawn) - len(shown),
        anchors={one.name: one.anchor for one in shown},
        legend=[("found", _css(FOUND)), ("none there", _css(WRONG)), ("missed", _css(MISSED))],
    )
    files.write_text(path, text)
    return path


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
        _environment()
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


def audit_report(path: Path, findings: Sequence[Mapping[str, object]], subject: str = "") -> Path:
    """Make a page of what an audit found.

    Parameters
    ----------
    path
        The page to write.
    findings
        One mapping each; their keys, in the order of their first appearance, are the columns. A key ``severity`` with the value
        ``serious`` sets a line off.
    subject
        What was audited.

    Returns
    -------
    pathlib.Path
        The page.
    """
    columns = list(dict.fromkeys(key for finding in findings for key in finding))
    page = _environment().get_template("audit.html.j2")
    text = page.render(
        title="Audit", version=fncells.__version__, subject=subject, columns=columns, findings=list(findings)
    )
    files.write_text(path, text)
    return path


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fncells", "templates"),
        autoescape=True,  # file names come from anywhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "ratio": _ratio,
        "interval": _interval,
        "measure": _measure_name,
        "statistic": _statistic,
    }
    return environment


def _number(value: object, digits: int = 3) -> str:
    """Write a number for people; unknown is a dash."""
    if value is None or value == "":
        return "–"
    figure = float(str(value))
    if not math.isfinite(figure):
        return "–"
    if figure == round(figure) and abs(figure) < 1e15:
        return f"{round(figure):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{figure:.{digits}g}" if abs(figure) < 1000 else _number(round(figure))


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(limits: Sequence[float] | None, digits: int = 2) -> str:
    return "" if limits is None else f"{limits[0]:.{digits}f} to {limits[1]:.{digits}f}"


def _measure_name(measure: str) -> str:
    return MEASURE_TITLES.get(measure, measure)


def _css(colour: Iterable[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


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
        ("cells", _number(sum(cells))),
        ("pictures counted", f"{len(counted)} of {len(rows)}"),
        ("failed", str(len(rows) - len(counted))),
        ("median a picture", _number(float(np.median(cells)) if cells else None)),
    ]
    if densities:
        headline.append(("cells / mm², mean", _number(float(np.mean(densities)))))
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


def _gallery(out: Path, counted: Sequence[Mapping[str, str]]) -> tuple[list[_Shown], int]:
    """Overlays on the page, those with notes first, and how many more there are beside it."""
    there = [(row, _overlay_file(row["picture"])) for row in counted]
    there = [(row, file) for row, file in there if (out / file).is_file()]
    shown = []
    for position, (row, file) in enumerate(there[:_MOST_THUMBNAILS], 1):
        pixels = cv2.imdecode(np.fromfile(out / file, dtype=np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            caption = f"{_number(row['n_cells'])} cells" + (f" · {row['notes']}" if row["notes"] else "")
            rgb = np.asarray(pixels[..., ::-1], dtype=np.uint8)
            shown.append(_Shown(row["picture"], f"p{position}", caption, _jpeg_address(rgb), file))
    return shown, max(0, len(there) - _MOST_THUMBNAILS)


def _before_and_after(
    row: Mapping[str, Any], summary: CleanSummary, pictures: PictureFolder
) -> tuple[str, NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
    """Give what :func:`cleaning_figure` takes, cut to where the mask changed most."""
    name, source = row["picture"], summary.sources[row["picture"]]
    levels = mask_levels(read_raster(source), source)
    made = summary.out / MASKS_FOLDER / PurePosixPath(name).with_suffix(".png")
    before, after = levels > summary.threshold if levels.dtype != np.bool_ else levels, as_mask(read_raster(made), made)
    window = _most_changed(before != after)
    shown = [(mask[window] * 255).astype(np.uint8) for mask in (before, after)]
    picture = pictures.find(name)
    if picture is not None:
        pixels = read_picture(picture.path).pixels
        if pixels.shape[:2] == before.shape:
            cut = display_rgb(pixels)[window]
            shown = [
                overlay(cut, AnnotatedImage.from_mask(name, mask[window]), numbers=False) for mask in (before, after)
            ]
    told = (
        f"{name}: {row['objects_before']} → {row['objects_after']} objects, +{row['added_px']} −{row['removed_px']} px"
    )
    return told, shown[0], shown[1], before[window], after[window]


def _most_changed(changed: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Find the window with the most changes, a sixth of the mask's sides but at least 160 x 120 px, and centre it on them."""
    height, width = (min(side, max(least, side // 6)) for side, least in zip(changed.shape, (120, 160), strict=True))
    sums = cv2.integral(changed.astype(np.uint8))
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (int(at) for at in np.unravel_index(int(inside.argmax()), inside.shape))
    rows, columns = np.nonzero(changed[top : top + height, left : left + width])
    centred = [
        int(np.clip(start + (int(places.min()) + int(places.max()) + 1 - size) // 2, 0, side - size))
        for start, places, size, side in zip((top, left), (rows, columns), (height, width), changed.shape, strict=True)
    ]
    return slice(centred[0], centred[0] + height), slice(centred[1], centred[1] + width)


def _overlay_file(picture: str) -> str:
    return f"overlays/{PurePosixPath(picture).with_suffix('')}.png"


def _compared(number: int, row: Mapping[str, Any], pixels: NDArray[np.uint8]) -> _Shown:
    caption = f"{row['n_true']} true, {row['n_predicted']} predicted cells"
    return _Shown(row["picture"], f"p{number}", caption, _jpeg_address(pixels))


def _jpeg_address(rgb: NDArray[np.uint8]) -> str:
    small = np.ascontiguousarray(shrunk(rgb, _THUMBNAIL_WIDTH)[..., ::-1])
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


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


def _errors(row: Mapping[str, Any]) -> int:
    return int(row["detection"]["fp"] + row["detection"]["fn"])


def _in_order_of_titles(measures: "pd.Series[str]") -> "pd.Series[int]":
    order = {measure: place for place, measure in enumerate(MEASURE_TITLES)}
    return measures.map(order)


def _statistic(value: float | None, name: str) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return str(round(value)) if name == "count" else f"{value:.2f}"
