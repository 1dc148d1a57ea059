"""The page and the figure of what cleaning changed in masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

import fncells
from fncells import files
from fncells.cells import AnnotatedImage
from fncells.cleaning import MASKS_FOLDER, CleanSummary, mask_levels
from fncells.figures import Drawing, drawn, figure_of
from fncells.formats.pictures import PictureFolder
from fncells.formats.rasters import as_mask, read_raster
from fncells.images import display_rgb, read_picture
from fncells.overlay import FOUND, WRONG, overlay
from fncells.pages import css, environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["clean_report", "cleaning_figure"]

_MOST_COMPARED = 4  # masks in the figure of the paper
_KEPT = (118, 118, 118)


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
    page = environment().get_template("clean.html.j2")
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


def cleaning_figure(
    masks: Sequence[tuple[str, NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]],
) -> Drawing:
    """Show masks before and after cleaning, and what was added and removed (figure 3 of Clissa et al., FNC v2).

    Parameters
    ----------
    masks
        For each: a caption, what to show of it before and after (uint8, shape (h, w) or (h, w, 3)), and both masks.
    """
    with figure_of(7.2, 0.55 + 2.0 * max(1, len(masks))) as figure:
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
        return drawn(figure, "figure3", caption)


def _changed(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> NDArray[np.uint8]:
    pixels = np.zeros((*before.shape, 3), np.uint8)
    for part, colour in ((before & after, _KEPT), (after & ~before, FOUND), (before & ~after, WRONG)):
        pixels[part] = colour
    return pixels


def _legend(figure: "Figure", colours: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=css(colour), label=name) for name, colour in colours]
    figure.legend(handles=patches, loc="outside lower right", ncols=len(patches), frameon=False, fontsize=8)


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
