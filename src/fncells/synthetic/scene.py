"""One made-up picture with its cells: where they lie, how they are stained, and how the camera sees them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import Cell
from fncells.errors import InputError
from fncells.published import COLLECTIONS, PIXEL_SIZE_UM
from fncells.synthetic.annotators import Annotator, Body, clicked_outline, mark, within
from fncells.synthetic.camera import photograph
from fncells.synthetic.fibres import Strokes, strands
from fncells.synthetic.looks import Challenges, Look, look_of
from fncells.synthetic.shapes import Form, draw_form
from fncells.synthetic.sizes import cell_count, draw_sizes, level_of
from fncells.synthetic.stain import Grains, body_light, place_patch
from fncells.synthetic.surroundings import anywhere, artefacts, fibres, haze, neuropil, tissue
from fncells.synthetic.tissue import Anatomy, Gray, soften

__all__ = ["E4500_PIXEL_SIZE_UM", "MOST_PIXELS", "SMALLEST_SIDE", "Scene", "draw_scene", "picture"]

MOST_PIXELS = 2**27
SMALLEST_SIDE = 32

# With it the red cells of Table 1 give the printed signal, a third of the pictures being of the old camera.
E4500_PIXEL_SIZE_UM = 0.27
_E4500_SHARE = 1 / 3
_E4500_TRACK = 0.6  # share of its pictures that show the midline of the hindbrain
_PUBLISHED_WIDTH = 1600
_SMALLEST_SCALE = 0.25  # the smallest cells still have a few pixels
_PUBLISHED_FIELD_UM2 = 1600 * 1200 * PIXEL_SIZE_UM**2
_AS_PUBLISHED = Challenges()
_FAINT = (0.18, 0.95)  # visibility of the cells that nobody marks, against the least that is marked


@dataclass(frozen=True, eq=False)
class Scene:
    """A made-up picture and all that is known of it.

    Attributes
    ----------
    pixels
        uint8 RGB, shape (height, width, 3).
    truth
        int32 labels, shape (height, width): the exact bodies of the cells an annotator would mark, in raster order of
        first pixels; the others are background.
    everything
        The same with the cells that annotators leave out, too dim or out of focus, numbered after the marked ones.
    annotations
        The cells of `truth`, in the same order, as a careful person outlines them: slightly generous polygons of whole
        pixels, with thin gaps between neighbours.
    opinions
        What each of the other people marked.
    pixel_size_um
        Side of a pixel in µm.
    """

    pixels: NDArray[np.uint8]
    truth: NDArray[np.int32]
    everything: NDArray[np.int32]
    annotations: tuple[Cell, ...]
    opinions: tuple[tuple[Cell, ...], ...]
    pixel_size_um: float


@dataclass(eq=False)
class _Canvas:
    """What is painted in the course of one picture."""

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

    @property
    def shape(self) -> tuple[int, int]:
        return self.truth.shape[0], self.truth.shape[1]

    def holds(self, place: NDArray[np.int64]) -> bool:
        """Whether a place, x and y, lies in the picture."""
        return bool(0 <= place[0] < self.shape[1] and 0 <= place[1] < self.shape[0])


def picture(
    collection: str,
    rng: np.random.Generator,
    size: tuple[int, int] = (1600, 1200),
    scale: float | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Make up one picture of a collection, with the exact truth.

    Parameters
    ----------
    collection
        ``green``, ``red`` or ``yellow``.
    rng
        Source of chance; the same state gives the same picture.
    size
        Width and height in pixels.
    scale
        Size of the cells against those of the published pictures; None takes width / 1600, at least 0.25, so that a small
        picture looks like a shrunken real one. With 1, a small picture looks like a part of a real one.

    Returns
    -------
    pixels
        uint8 RGB, shape (height, width, 3).
    labels
        int32, shape (height, width): 0 for background, else the number of the cell, in raster order of first pixels.

    Raises
    ------
    InputError
        If the collection is unknown, or size or scale cannot be.
    """
    scene = draw_scene(collection, rng, size, scale)
    return scene.pixels, scene.truth


def draw_scene(
    collection: str,
    rng: np.random.Generator,
    size: tuple[int, int] = (1600, 1200),
    scale: float | None = None,
    *,
    e4500: bool | None = None,
    anatomy: Anatomy | None = None,
    level: float | None = None,
    stature: float | None = None,
    challenges: Challenges = _AS_PUBLISHED,
    people: Sequence[Annotator] = (),
) -> Scene:
    """Make up one picture of a collection, with truth and annotations.

    Parameters
    ----------
    collection, rng, size, scale
        See `picture`.
    e4500
        Whether the old camera (Nikon E4500) took a red picture, with its smoother and brighter look; None leaves it to
        chance (one in three red ones).
    anatomy
        What a double-marked pair shares; None draws one.
    level
        Rank of the picture by its number of cells, from 0 to 1; None leaves it to chance.
    stature
        Rank of the picture by the size of its cells, from 0 to 1; None leaves it to chance.
    challenges
        What makes it hard.
    people
        Who else marks its cells.

    Returns
    -------
    Scene
        Picture, truth, annotations and pixel size.

    Raises
    ------
    InputError
        If the collection is unknown, or size or scale cannot be.
    """
    scale = _checked(collection, size, scale)
    old = bool(rng.random() < _E4500_SHARE) if e4500 is None else e4500
    old = old and collection == "red"
    width, height = size
    shape = height, width
    anatomy = anatomy or Anatomy.draw(rng, height / width)
    if old and rng.random() < _E4500_TRACK:
        anatomy = anatomy.with_track(rng, height / width)
    if level is None:
        level = level_of(rng.random(), old) if collection == "red" else float(rng.random())
    stature = float(rng.random()) if stature is None else stature
    pixel_size = (E4500_PIXEL_SIZE_UM if old else PIXEL_SIZE_UM) / scale
    look = look_of(collection, old, challenges, rng)

    light, inside = tissue(shape, anatomy, look, scale, rng)
    canvas = _Canvas(
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
    number = _number(collection, level, size, pixel_size, rng)
    _paint_marked_cells(canvas, anatomy, number, stature, pixel_size, challenges)
    marked = len(canvas.bodies)
    everything = _paint_faint_cells(canvas, anatomy, stature, pixel_size, challenges)

    light += neuropil(shape, anatomy, look, scale, rng) * inside
    light += fibres(shape, anatomy, look, scale, rng) * inside
    if old:
        light += haze(shape, anatomy, look, scale, rng) * inside
    light += artefacts(shape, inside, look, scale, challenges.artefacts, rng)
    blur = (1.8 if old else 1.0) * scale + 0.3
    cells = canvas.signal + canvas.near.blurred(blur) + canvas.far.blurred(3 * blur)
    glow = np.float32(look.stain.glow)
    light += cells + glow * (np.float32(0.6) * soften(cells, 7 * scale) + np.float32(0.6) * soften(cells, 24 * scale))
    pixels = photograph(light, look, rng)

    opinions = tuple(mark(canvas.bodies, person, shape, rng) for person in people)
    truth, order = _in_raster_order(canvas.truth, marked)
    hidden = np.where((everything > 0) & (truth == 0), everything, 0)
    hidden, _ = _in_raster_order(hidden, len(canvas.bodies))
    everything = np.where(hidden > 0, hidden + np.int32(truth.max()), truth).astype(np.int32)
    outlines = [canvas.bodies[index].outline for index in order]
    annotations = tuple(Cell((ring.astype(np.float64),)) for ring in outlines if ring is not None)
    return Scene(pixels, truth, everything, annotations, opinions, pixel_size)


def _checked(collection: str, size: tuple[int, int], scale: float | None) -> float:
    if collection not in COLLECTIONS:
        raise InputError("collection", expected=f"one of {', '.join(COLLECTIONS)}", found=repr(collection))
    if min(size) < SMALLEST_SIDE or size[0] * size[1] > MOST_PIXELS:
        expected = f"sides of {SMALLEST_SIDE} px or more, and {MOST_PIXELS} pixels at most"
        raise InputError("size", expected=expected, found=f"{size[0]}x{size[1]}")
    chosen = max(_SMALLEST_SCALE, size[0] / _PUBLISHED_WIDTH) if scale is None else scale
    if not _SMALLEST_SCALE <= chosen <= 10:
        raise InputError("scale", expected=f"a number from {_SMALLEST_SCALE} to 10", found=f"{chosen:g}")
    return chosen


def _number(collection: str, level: float, size: tuple[int, int], pixel_size: float, rng: np.random.Generator) -> int:
    """Cells of this picture: as many as Table 1 has on a published one, fewer where the field of view is smaller."""
    share = min(1.0, size[0] * size[1] * pixel_size**2 / _PUBLISHED_FIELD_UM2)
    # A field that differs by the margins of another camera is taken as whole.
    return int(cell_count(collection, level) * (1.0 if share > 0.9 else share) + rng.random() * (share <= 0.9))


# Cells


def _paint_marked_cells(
    canvas: _Canvas, anatomy: Anatomy, number: int, stature: float, pixel_size: float, challenges: Challenges
) -> None:
    """Paint the cells that get marked, the largest first."""
    rng, stain = canvas.rng, canvas.look.stain
    for size in sorted(draw_sizes(canvas.collection, number, rng, stature), reverse=True):
        area, feret = size.area_um2 / pixel_size**2, size.feret_um / pixel_size
        form = draw_form(canvas.collection, area, max(feret - 0.7, 1.5), rng)
        ring = clicked_outline(form, area, rng)
        reach = int(np.abs(ring).max()) + 2
        window = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
        cv2.fillPoly(window, [(ring + reach).astype(np.int32)], color=1)
        middle = _free_place(canvas, anatomy, window, challenges.crowding)
        if middle is None:
            continue
        outline = within(ring + middle, canvas.shape)
        if outline is None or not _fill_body(canvas.truth, form, middle, window, area, len(canvas.bodies) + 1, rng):
            continue
        place = place_patch(canvas.shape, middle, reach)
        if place is not None:
            canvas.taken[place[0]] |= window[place[1]]
        strength = max(stain.faintest, stain.level * rng.lognormal(0, stain.spread))
        canvas.bodies.append(Body(form, middle, area, strength / stain.faintest, outline))
        softness = rng.uniform(*stain.softness) * max(canvas.scale, 0.35)
        _stain(canvas, form, middle, strength, softness)
        _paint_processes(canvas, form, middle, strength)


def _free_place(
    canvas: _Canvas, anatomy: Anatomy, window: NDArray[np.uint8], crowding: float
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


def _places(canvas: _Canvas, anatomy: Anatomy, reach: int, crowding: float) -> Iterator[NDArray[np.float64]]:
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


def _paint_faint_cells(
    canvas: _Canvas, anatomy: Anatomy, stature: float, pixel_size: float, challenges: Challenges
) -> NDArray[np.int32]:
    """Paint the cells that annotators leave out: too faint, out of focus or only grazed by the slice; their labels."""
    rng, look = canvas.rng, canvas.look
    height, width = canvas.shape
    field_share = min(height * width / (1600 * 1200 * canvas.scale**2), 4.0)
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
        reach = int(np.abs(ring).max()) + 2
        window = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
        cv2.fillPoly(window, [(ring + reach).astype(np.int32)], color=1)
        if _fill_body(labels, form, middle, window, area, len(canvas.bodies) + 1, rng):
            canvas.bodies.append(Body(form, middle, area, visibility, None))
            _stain(canvas, form, middle, visibility * look.stain.faintest, softness)
            if not blurred and rng.random() < 0.4:
                _paint_processes(canvas, form, middle, visibility * look.stain.faintest)
    return labels


def _stain(canvas: _Canvas, form: Form, middle: NDArray[np.int64], strength: float, softness: float) -> None:
    """Add the light of one cell to the signal."""
    rng, stain = canvas.rng, canvas.look.stain
    drawn = rng.random()
    kind = 1.0 if drawn < stain.filled else 0.0 if drawn > 1 - stain.granular else rng.uniform(0.15, 0.85)
    # Those filled to the brim shine the more, for all their light.
    light = body_light(form, stain, canvas.grains, softness, kind, rng) * np.float32(strength * (0.8 + 1.2 * kind**3))
    place = place_patch(canvas.shape, middle, light.shape[0] // 2)
    if place is not None:
        canvas.signal[place[0]] += light[place[1]]


def _paint_processes(canvas: _Canvas, form: Form, middle: NDArray[np.int64], strength: float) -> None:
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
    canvas: _Canvas, start: NDArray[np.float64], heading: float, length: float, level: float, thick: float
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


def _in_raster_order(labels: NDArray[np.int32], number: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels renumbered by first pixels, and for each new number the place of its cell among the old ones."""
    values, first = np.unique(labels, return_index=True)
    order = values[np.argsort(first)]
    order = order[order > 0]
    renumbered = np.zeros(number + 1, dtype=np.int32)
    renumbered[order] = np.arange(1, len(order) + 1)
    return renumbered[labels], order.astype(np.int64) - 1
