"""Cells painted into a picture: where each lies, its body, its light and its processes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.synthetic.annotators import Body, clicked_outline, within
from fncells.synthetic.fibres import Strokes, strands
from fncells.synthetic.looks import Challenges, Look
from fncells.synthetic.shapes import Form, draw_form
from fncells.synthetic.sizes import draw_sizes
from fncells.synthetic.stain import Grains, body_light, place_patch
from fncells.synthetic.surroundings import PUBLISHED_FIELD_PX, anywhere
from fncells.synthetic.tissue import Anatomy, Gray

__all__ = ["Canvas", "paint_faint_cells", "paint_marked_cells"]

_FAINT = (0.18, 0.95)  # visibility of the cells that nobody marks, against the least that is marked


@dataclass(eq=False)
class Canvas:
    """What is painted in the course of one picture.

    Attributes
    ----------
    look, collection, scale
        What it is to look like, and the size of its cells against those of the published pictures.
    rng
        Source of chance.
    signal
        Light of the cell bodies, shape (height, width).
    truth
        Labels of the marked cells, in the order of `bodies`.
    taken
        1 where no further cell may be marked: outside the tissue, or in another outline.
    near, far
        Processes in focus and out of it.
    grains
        Texture of the stain.
    bodies
        The cells so far, the marked ones first.
    """

    look: Look
    collection: str
    scale: float
    rng: np.random.Generator
    signal: Gray
    truth: NDArray[np.int32]
    taken: NDArray[np.uint8]
    near: Strokes
    far: Strokes
    grains: Grains
    bodies: list[Body] = field(default_factory=list)

    @classmethod
    def blank(cls, collection: str, look: Look, scale: float, inside: Gray, rng: np.random.Generator) -> "Canvas":
        """Give an empty canvas; `inside` is 1 in the tissue and 0 where there is none, shape (height, width)."""
        shape = inside.shape[0], inside.shape[1]
        return cls(
            look=look,
            collection=collection,
            scale=scale,
            rng=rng,
            signal=np.zeros(shape, dtype=np.float32),
            truth=np.zeros(shape, dtype=np.int32),
            taken=(inside < 0.6).astype(np.uint8),
            near=Strokes(shape, top=2 * look.stain.level),
            far=Strokes(shape, top=2 * look.stain.level),
            grains=Grains.draw(scale, rng),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.truth.shape[0], self.truth.shape[1]

    def holds(self, place: NDArray[np.int64]) -> bool:
        """Whether a place, x and y, lies in the picture."""
        return bool(0 <= place[0] < self.shape[1] and 0 <= place[1] < self.shape[0])


def paint_marked_cells(
    canvas: Canvas, anatomy: Anatomy, number: int, stature: float, pixel_size: float, challenges: Challenges
) -> None:
    """Paint the cells that get marked, the largest first."""
    rng, stain = canvas.rng, canvas.look.stain
    for size in sorted(draw_sizes(canvas.collection, number, rng, stature), reverse=True):
        area, feret = size.area_um2 / pixel_size**2, size.feret_um / pixel_size
        form = draw_form(canvas.collection, area, max(feret - 0.7, 1.5), rng)
        ring = clicked_outline(form, area, rng)
        window = _window(ring)
        middle = _free_place(canvas, anatomy, window, challenges.crowding)
        if middle is None:
            continue
        outline = within(ring + middle, canvas.shape)
        if outline is None or not _fill_body(canvas.truth, form, middle, window, area, len(canvas.bodies) + 1, rng):
            continue
        place = place_patch(canvas.shape, middle, window.shape[0] // 2)
        if place is not None:
            canvas.taken[place[0]] |= window[place[1]]
        strength = max(stain.faintest, stain.level * rng.lognormal(0, stain.spread))
        canvas.bodies.append(Body(form, middle, area, strength / stain.faintest, outline))
        softness = rng.uniform(*stain.softness) * max(canvas.scale, 0.35)
        _stain(canvas, form, middle, strength, softness)
        _paint_processes(canvas, form, middle, strength)


def _window(ring: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Fill an outline in a square with the cell's middle in its centre."""
    reach = int(np.abs(ring).max()) + 2
    window = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    cv2.fillPoly(window, [(ring + reach).astype(np.int32)], color=1)
    return window


def _free_place(
    canvas: Canvas, anatomy: Anatomy, window: NDArray[np.uint8], crowding: float
) -> NDArray[np.int64] | None:
    """Find a place in the tissue where the outlined cell touches no other; a thin gap is left, as annotators do."""
    reach = window.shape[0] // 2
    with_gap = cv2.dilate(window, np.ones((3, 3), dtype=np.uint8)).astype(bool)

    def free(middle: NDArray[np.int64]) -> bool:
        place = place_patch(canvas.shape, middle, reach)
        return place is not None and not canvas.taken[place[0]][with_gap[place[1]]].any()

    for place in _places(canvas, anatomy, reach, crowding):
        middle = np.asarray(np.rint(place), dtype=np.int64)
        # What is mostly cut off by the edge gets no mark.
        if canvas.holds(middle) and free(middle):
            return middle
    return None


def _places(canvas: Canvas, anatomy: Anatomy, reach: int, crowding: float) -> Iterator[NDArray[np.float64]]:
    """Places to try: some cells lie beside another one, as near as may be, the others by themselves, first in the nests."""
    rng = canvas.rng
    if canvas.bodies and rng.random() < canvas.look.beside * crowding:
        for _ in range(4):
            other = canvas.bodies[int(rng.integers(len(canvas.bodies)))]
            angle = rng.uniform(0, 2 * np.pi)
            way = np.array([np.cos(angle), np.sin(angle)])
            for distance in np.linspace(0.3, 1.2, 24) * (reach + other.form.feret / 2):
                yield other.middle + distance * way
    for nested in (canvas.look.nested, canvas.look.nested / 2, 0.0):
        yield from anywhere(canvas.shape, anatomy, nested, 30, rng)


def _fill_body(
    labels: NDArray[np.int32],
    form: Form,
    middle: NDArray[np.int64],
    window: NDArray[np.uint8],
    area: float,
    number: int,
    rng: np.random.Generator,
) -> bool:
    """Enter a cell's body: the innermost pixels, somewhat fewer than were outlined; False where the picture shows none."""
    reach = window.shape[0] // 2
    levels = form.levels(reach)
    pixels = max(1, round(area / rng.uniform(1.04, 1.2)))
    body = (levels <= np.partition(levels.ravel(), pixels - 1)[pixels - 1]) & (window > 0)
    place = place_patch((labels.shape[0], labels.shape[1]), middle, reach)
    if place is None or not body[place[1]].any():
        return False
    labels[place[0]][body[place[1]]] = number
    return True


def paint_faint_cells(
    canvas: Canvas, anatomy: Anatomy, stature: float, pixel_size: float, challenges: Challenges
) -> NDArray[np.int32]:
    """Paint the cells that annotators leave out: too faint, out of focus or only grazed by the slice; their labels."""
    rng, look = canvas.rng, canvas.look
    height, width = canvas.shape
    field_share = min(height * width / (PUBLISHED_FIELD_PX * canvas.scale**2), 4.0)
    number = rng.poisson(challenges.ambiguity * (look.dim * len(canvas.bodies) + look.dim_always * field_share))
    labels = np.zeros(canvas.shape, dtype=np.int32)
    least, most = _FAINT[0], _FAINT[1] * (0.6 + 0.4 * challenges.ambiguity)
    places = anywhere(canvas.shape, anatomy, look.nested, number, rng)
    for size, place in zip(draw_sizes(canvas.collection, number, rng, stature), places, strict=True):
        grazed = rng.uniform(0.45, 1.0) ** 2
        area = size.area_um2 / pixel_size**2 * grazed
        feret = max(size.feret_um / pixel_size * np.sqrt(grazed), 1.5)
        form = draw_form(canvas.collection, area, feret, rng)
        middle = np.rint(place).astype(np.int64)
        if not canvas.holds(middle) or canvas.taken[middle[1], middle[0]]:
            continue
        blurred = rng.random() < 0.6
        softness = (
            rng.uniform(*((1.0, 2.5) if blurred else (0.4, 0.9))) * look.stain.softness[1] * max(canvas.scale, 0.35)
        )
        visibility = float(np.exp(rng.uniform(np.log(least), np.log(most))))
        ring = clicked_outline(form, max(area, 6.0), rng)
        window = _window(ring)
        if _fill_body(labels, form, middle, window, area, len(canvas.bodies) + 1, rng):
            canvas.bodies.append(Body(form, middle, area, visibility, None))
            _stain(canvas, form, middle, visibility * look.stain.faintest, softness)
            if not blurred and rng.random() < 0.4:
                _paint_processes(canvas, form, middle, visibility * look.stain.faintest)
    return labels


def _stain(canvas: Canvas, form: Form, middle: NDArray[np.int64], strength: float, softness: float) -> None:
    """Add the light of one cell to the signal."""
    rng, stain = canvas.rng, canvas.look.stain
    drawn = rng.random()
    kind = 1.0 if drawn < stain.filled else 0.0 if drawn > 1 - stain.granular else rng.uniform(0.15, 0.85)
    # Those filled to the brim shine the more, for all their light.
    light = body_light(form, stain, canvas.grains, softness, kind, rng) * np.float32(strength * (0.8 + 1.2 * kind**3))
    place = place_patch(canvas.shape, middle, light.shape[0] // 2)
    if place is not None:
        canvas.signal[place[0]] += light[place[1]]


def _paint_processes(canvas: Canvas, form: Form, middle: NDArray[np.int64], strength: float) -> None:
    """Paint processes that leave the corners of a cell, branch and fade."""
    rng, scale = canvas.rng, canvas.scale
    usual, thickness, bright = canvas.look.processes
    for corner in form.corners:
        start, within_it = form.points(np.array([corner]), 0.85)[0], form.points(np.array([corner]), 0.5)[0]
        heading = float(np.arctan2(*(start - within_it)[::-1]))
        level = strength / (2 * canvas.look.stain.level) * bright * rng.lognormal(0, 0.35)
        thick = thickness * rng.lognormal(0, 0.3) * 2 * form.stretch[1]
        _paint_process(canvas, start + middle, heading, rng.lognormal(np.log(usual), 0.5) * scale, level, thick)


def _paint_process(
    canvas: Canvas, start: NDArray[np.float64], heading: float, length: float, level: float, thick: float
) -> None:
    rng, pieces = canvas.rng, 18
    points = strands(start[None], np.array([heading]), np.array([length]), pieces, 0.14, rng)[0]
    fade = np.linspace(1, 0.12, pieces) ** rng.uniform(0.6, 1.8) * rng.lognormal(0, 0.15, pieces)
    widths = thick * np.linspace(1, 0.3, pieces)
    # From the far end inward, so that the brighter piece lies on top.
    sheet = canvas.far if rng.random() < 0.3 else canvas.near
    sheet.line(points[::-1], (level * fade)[::-1], widths[::-1])
    grains = points[1:][rng.random(pieces) < 0.5 * canvas.look.stain.grain]
    shifted = grains + rng.normal(0, 0.3 * thick + 0.5, grains.shape)
    canvas.near.dots(shifted, 1.5 * level * rng.lognormal(0, 0.4, len(grains)), np.full(len(grains), canvas.scale))
    if thick > 2 and rng.random() < 0.45:
        at = int(rng.integers(3, 12))
        turned = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
        _paint_process(canvas, points[at], turned, 0.6 * length, level * fade[at], 0.6 * widths[at])
