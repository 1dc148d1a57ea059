"""Pictures of findings: what is wrong, cut out of the picture that shows it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.audit.finding import Finding, Point
from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import read_annotations
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
        Where it is, and uint8 RGB, with the cells of the finding's file outlined. Pictures that cannot be read are left out.
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
    outlined = _outlined(root / finding.file, PurePosixPath(finding.pictures[0]).stem)
    for x, y in finding.points[:_MOST_POINTS]:
        yield f"x {x:.0f}, y {y:.0f}", _cut(pixels, outlined, (x, y))


@lru_cache(maxsize=2)
def _shown(path: Path) -> NDArray[np.uint8] | None:
    try:
        return display_rgb(read_picture(path).pixels)
    except InputError:
        return None


def _outlined(path: Path, stem: str) -> tuple[Cell, ...]:
    """Cells of a picture by a mask, a label picture, or any annotations; none where they cannot be read."""
    told = _annotations(path)
    return told.get(stem) or (next(iter(told.values())) if path.is_file() and len(told) == 1 else ())


@lru_cache(maxsize=2)
def _annotations(path: Path) -> dict[str, tuple[Cell, ...]]:
    told: dict[str, tuple[Cell, ...]] = {}
    try:
        for image in read_annotations(path):
            told[PurePosixPath(image.name).stem] = image.cells
    except InputError:
        pass  # what could be read up to there is shown
    return told


def _cut(pixels: NDArray[np.uint8], cells: Sequence[Cell], point: Point) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    # Near the border, and beyond it, as much of the picture is shown as elsewhere.
    x = int(np.clip(round(point[0]), min(_HALF_PX, width // 2), max(width - _HALF_PX, width // 2)))
    y = int(np.clip(round(point[1]), min(_HALF_PX, height // 2), max(height - _HALF_PX, height // 2)))
    top, left = max(y - _HALF_PX, 0), max(x - _HALF_PX, 0)
    part = pixels[top : y + _HALF_PX, left : x + _HALF_PX]
    near = tuple(
        replace(cell, rings=tuple(ring - (left, top) for ring in cell.rings), number=None)
        for cell in cells
        if _reaches(cell, (left, top), (x + _HALF_PX, y + _HALF_PX))
    )
    drawn = overlay(part, AnnotatedImage("", (part.shape[0], part.shape[1]), near), side=_SIDE, numbers=False)
    scale = drawn.shape[1] / part.shape[1]
    return _marked(drawn, ((point[0] - left + 0.5) * scale, (point[1] - top + 0.5) * scale))


def _reaches(cell: Cell, corner: Point, opposite: Point) -> bool:
    if not cell.rings:
        return False
    points = np.concatenate(cell.rings)
    return bool((points.max(axis=0) >= corner).all() and (points.min(axis=0) <= opposite).all())


def _marked(canvas: NDArray[np.uint8], place: Point) -> NDArray[np.uint8]:
    """Point at a place from four sides, without covering it."""
    x = int(np.clip(place[0], 0, canvas.shape[1] - 1))
    y = int(np.clip(place[1], 0, canvas.shape[0] - 1))
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        start, end = (x + 18 * dx, y + 18 * dy), (x + 34 * dx, y + 34 * dy)
        cv2.line(canvas, start, end, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.line(canvas, start, end, _MARK, 1, cv2.LINE_AA)
    return canvas
