"""One made-up picture with its cells: where they lie, how they are stained, and how the camera sees them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fncells.cells import Cell
from fncells.errors import InputError
from fncells.published import COLLECTIONS, PIXEL_SIZE_UM
from fncells.synthetic.annotators import Annotator, mark
from fncells.synthetic.camera import photograph
from fncells.synthetic.looks import Challenges, look_of
from fncells.synthetic.painting import Canvas, paint_faint_cells, paint_marked_cells
from fncells.synthetic.sizes import cell_count, level_of
from fncells.synthetic.surroundings import artefacts, fibres, haze, neuropil, tissue
from fncells.synthetic.tissue import Anatomy, soften

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
    canvas = Canvas.blank(collection, look, scale, inside, rng)
    number = _number(collection, level, size, pixel_size, rng)
    paint_marked_cells(canvas, anatomy, number, stature, pixel_size, challenges)
    marked = len(canvas.bodies)
    everything = paint_faint_cells(canvas, anatomy, stature, pixel_size, challenges)

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


def _in_raster_order(labels: NDArray[np.int32], number: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels renumbered by first pixels, and for each new number the place of its cell among the old ones."""
    values, first = np.unique(labels, return_index=True)
    order = values[np.argsort(first)]
    order = order[order > 0]
    renumbered = np.zeros(number + 1, dtype=np.int32)
    renumbered[order] = np.arange(1, len(order) + 1)
    return renumbered[labels], order.astype(np.int64) - 1
