"""Pictures of findings: what is wrong, cut out of the picture that shows it."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.audit.finding import Finding, Point
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.images import display_rgb, read_picture
from fncells.overlay import overlay, shrunk

__all__ = ["finding_pictures"]

_MOST_POINTS = 3
_HALF_PX = 56
_SIDE = 336
_MARK = (255, 255, 255)


def finding_pictures(
    finding: Finding, root: Path, images: Path | None = None
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Cut out what a finding is about.

    Parameters
    ----------
    finding
        Its points are shown in the first of its pictures, up to three; without points the pictures are shown whole.
    root
        The folder that the finding's file is relative to.
    images
        The folder that its pictures are relative to; None if it is the same.

    Yields
    ------
    tuple of str and numpy.ndarray
        Where it is, and uint8 RGB. The outlines are those of the finding's file where that is a mask or a label picture.
        Pictures that cannot be read are left out.
    """
    folder = images or root
    if not finding.points:
        for name in finding.pictures[:2]:
            pixels = _shown(folder / name)
            if pixels is not None:
                yield name, shrunk(pixels, 2 * _SIDE)
        return
    pixels = _shown(folder / finding.pictures[0]) if finding.pictures else None
    if pixels is None:
        return
    labels = _labels(root / finding.file)
    if labels is not None and labels.shape != pixels.shape[:2]:
        labels = None
    for x, y in finding.points[:_MOST_POINTS]:
        yield f"x {x:.0f}, y {y:.0f}", _cut(pixels, labels, (x, y))


@lru_cache(maxsize=2)
def _shown(path: Path) -> NDArray[np.uint8] | None:
    try:
        return display_rgb(read_picture(path).pixels)
    except InputError:
        return None


@lru_cache(maxsize=2)
def _labels(path: Path) -> NDArray[np.int32] | None:
    """Cells of a mask or label picture; None of any other file."""
    try:
        pixels = read_picture(path).pixels
    except InputError:
        return None
    flat = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    if len(np.unique(flat)) > 2:
        return flat.astype(np.int32)
    return np.asarray(cv2.connectedComponents((flat > 0).astype(np.uint8), connectivity=8)[1], dtype=np.int32)


def _cut(pixels: NDArray[np.uint8], labels: NDArray[np.int32] | None, point: Point) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    # Near the border, and beyond it, as much of the picture is shown as elsewhere.
    x = int(np.clip(round(point[0]), min(_HALF_PX, width // 2), max(width - _HALF_PX, width // 2)))
    y = int(np.clip(round(point[1]), min(_HALF_PX, height // 2), max(height - _HALF_PX, height // 2)))
    top, left = max(y - _HALF_PX, 0), max(x - _HALF_PX, 0)
    window = slice(top, y + _HALF_PX), slice(left, x + _HALF_PX)
    part = pixels[window]
    cells = (
        AnnotatedImage.from_labels("", labels[window]) if labels is not None else AnnotatedImage("", part.shape[:2], ())
    )
    drawn = overlay(part, cells, side=_SIDE, numbers=False)
    scale = drawn.shape[1] / part.shape[1]
    place = ((point[0] - left + 0.5) * scale, (point[1] - top + 0.5) * scale)
    return _marked(drawn, place)


def _marked(canvas: NDArray[np.uint8], place: Point) -> NDArray[np.uint8]:
    """Point at a place from four sides, without covering it."""
    x = int(np.clip(place[0], 0, canvas.shape[1] - 1))
    y = int(np.clip(place[1], 0, canvas.shape[0] - 1))
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        start, end = (x + 18 * dx, y + 18 * dy), (x + 34 * dx, y + 34 * dy)
        cv2.line(canvas, start, end, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.line(canvas, start, end, _MARK, 1, cv2.LINE_AA)
    return canvas
