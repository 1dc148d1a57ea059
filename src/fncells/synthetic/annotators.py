"""People who mark cells: what is bright enough for them, and how they draw outlines."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import Cell
from fncells.outlines import crossings
from fncells.synthetic.shapes import Form

__all__ = ["Annotator", "Body", "clicked_outline", "draw_annotators", "mark", "within"]

_LEAST_SEEN = 0.25  # of a cell: what the edge of the picture leaves less of is not marked


@dataclass(frozen=True, eq=False)
class Body:
    """One cell as it was painted.

    Attributes
    ----------
    form
        Its form, around its middle.
    middle
        x, y in pixels.
    area
        Pixels that a careful annotator's outline encloses, before the picture's edge cuts it.
    visibility
        Brightness against the least that gets marked.
    outline
        Vertices x, y of the careful annotator's outline, whole pixels within the picture; None where the cell is not marked.
    """

    form: Form
    middle: NDArray[np.int64]
    area: float
    visibility: float
    outline: NDArray[np.int64] | None


@dataclass(frozen=True)
class Annotator:
    """One person's habits.

    Attributes
    ----------
    least_visible
        Cells below this visibility are left out.
    generosity
        Area of the outlines against those of the careful annotator.
    doubt
        Standard deviation of the logarithm of what one cell's visibility is taken for.
    """

    least_visible: float
    generosity: float
    doubt: float


def draw_annotators(number: int, subjectivity: float, rng: np.random.Generator) -> list[Annotator]:
    """Draw people with an own idea each of what to mark; 0 makes them all careful, 1 as unlike as experts are."""
    habits = np.exp(rng.normal(0, (0.5, 0.25), (number, 2)) * subjectivity).tolist()
    return [Annotator(least, generosity, 0.3 * subjectivity) for least, generosity in habits]


def mark(
    bodies: Sequence[Body], annotator: Annotator, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[Cell, ...]:
    """Mark the cells that one person sees.

    Parameters
    ----------
    bodies
        All cells of the picture, the unmarked ones too.
    annotator
        The person.
    shape
        Height and width of the picture.
    rng
        Source of chance.

    Returns
    -------
    tuple of Cell
        Polygons of whole pixels; outlines of neighbours may overlap, as people's do.
    """
    cells = []
    for body in bodies:
        taken_for = body.visibility * rng.lognormal(0, annotator.doubt)
        outline = clicked_outline(body.form, max(body.area * annotator.generosity, 6.0), rng)
        if taken_for < annotator.least_visible:
            continue
        ring = within(outline + body.middle, shape)
        if ring is not None:
            cells.append(Cell((ring.astype(np.float64),)))
    return tuple(cells)


def clicked_outline(form: Form, area: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Outline a cell as a person does: a few dozen clicks on whole pixels, smooth, not quite following the form.

    Parameters
    ----------
    form
        The cell.
    area
        Number of pixels that the filled polygon (border included) shall have, as near as whole pixels allow.
    rng
        Source of chance.

    Returns
    -------
    numpy.ndarray
        Vertices x, y from the middle of the cell, shape (n, 2), n ≥ 3 but for the tiniest; the outline nowhere crosses
        itself.
    """
    clicks = int(np.clip(form.feret * 0.55, 10, 44))
    angles = (np.arange(clicks) + rng.uniform(-0.3, 0.3, clicks)) * (2 * np.pi / clicks)
    hand = 1 + 0.03 * np.cos(angles[:, None] * (2, 3) + rng.uniform(0, 6.28, 2)).sum(axis=1)
    level, best, nearest = 1.0, np.zeros((1, 2), dtype=np.int64), np.inf
    for _ in range(4):
        ring = _whole_pixels(form.points(angles, hand * level))
        filled = int(np.count_nonzero(_filled(ring)))
        if abs(filled - area) < nearest:
            best, nearest = ring, abs(filled - area)
        level *= np.sqrt(area / filled)
    return best if len(best) > 2 and not len(crossings(best.astype(np.float64))) else _traced(best)


def within(ring: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64] | None:
    """Cut an outline at the edge of the picture, as people do; None where too little of the cell is left.

    Parameters
    ----------
    ring
        Vertices x, y, shape (n, 2).
    shape
        Height and width of the picture.
    """
    height, width = shape
    low, high = ring.min(axis=0), ring.max(axis=0)
    if low.min() >= 0 and high[0] < width and high[1] < height:
        return ring
    filled = _filled(ring)
    left, top = np.maximum(-low, 0)
    seen = filled[top : max(height - low[1], 0), left : max(width - low[0], 0)]
    if np.count_nonzero(seen) < _LEAST_SEEN * np.count_nonzero(filled):
        return None
    contours, _ = cv2.findContours(np.ascontiguousarray(seen), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cut: NDArray[np.int64] = max(contours, key=len)[:, 0, :].astype(np.int64) + np.maximum(low, 0)
    return cut


def _whole_pixels(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole pixels, each once in a row."""
    ring = np.floor(points + 0.5).astype(np.int64)
    return ring[np.any(ring != np.roll(ring, 1, axis=0), axis=1)] if len(np.unique(ring, axis=0)) > 1 else ring[:1]


def _filled(ring: NDArray[np.int64]) -> NDArray[np.uint8]:
    corner = ring.min(axis=0)
    width, height = ring.max(axis=0) - corner + 1
    canvas = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(canvas, [(ring - corner).astype(np.int32)], color=1)
    return canvas


def _traced(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """Trace the filled pixels: for cells so small that rounding has crossed their edges."""
    contours, _ = cv2.findContours(_filled(ring), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(max(contours, key=len)[:, 0, :].astype(np.int64) + ring.min(axis=0))
