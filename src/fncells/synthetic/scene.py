"""One made-up picture with its cells: where they lie, how they are stained, and how the camera sees them."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import Cell
from fncells.errors import InputError
from fncells.published import COLLECTIONS, PIXEL_SIZE_UM
from fncells.synthetic.shapes import Form, annotate, draw_form
from fncells.synthetic.sizes import cell_count, draw_sizes
from fncells.synthetic.tissue import Anatomy, Gray, Strokes, clouds, holes, soften, tissue_edge, wander

__all__ = ["MOST_PIXELS", "SMALLEST_SIDE", "Scene", "draw_scene", "picture"]

MOST_PIXELS = 2**27
SMALLEST_SIDE = 32

_E4500_PIXEL_SIZE_UM = (
    0.32  # with it the red cells of Table 1 give the printed signal, a third of the pictures being its
)
_E4500_SHARE = 1 / 3
_PUBLISHED_WIDTH = 1600
_SMALLEST_SCALE = 0.25  # the smallest cells still have a few pixels
_PUBLISHED_FIELD_UM2 = 1600 * 1200 * PIXEL_SIZE_UM**2
# Pixels of the camera chip that always glow, as shares of width and height, and how much.
_HOT = ((0.9894, 0.4333, 190.0), (0.1744, 0.8075, 120.0), (0.2431, 0.8069, 60.0), (0.6031, 0.1406, 45.0))


@dataclass(frozen=True, eq=False)
class Scene:
    """A made-up picture and all that is known of it.

    Attributes
    ----------
    pixels
        uint8 RGB, shape (height, width, 3).
    truth
        int32 labels, shape (height, width): the exact bodies of the cells an annotator would mark, in raster order of
        first pixels; dim out-of-focus cells, which annotators leave out, are background.
    annotations
        The same cells, in the same order, as a person outlines them: slightly generous polygons of whole pixels.
    pixel_size_um
        Side of a pixel in µm.
    """

    pixels: NDArray[np.uint8]
    truth: NDArray[np.int32]
    annotations: tuple[Cell, ...]
    pixel_size_um: float


@dataclass(frozen=True)
class _Look:
    """How a collection looks, before chance; levels are grey levels of its main channel in a picture of 8 bits."""

    background: float
    spread: float  # of the background between pictures, as a standard deviation of its logarithm
    texture: float  # of the tissue, as a share of the background
    uneven: float
    cell: float
    cell_spread: float
    faintest: float
    dim: tuple[float, float]  # weakest and strongest of the cells that annotators leave out
    dim_share: float  # of those, for each marked cell
    dim_always: float
    edge: tuple[float, float]  # softness of outlines in focus, px
    coarse: float
    grains: tuple[float, float]
    nucleus: float  # share of cells whose nucleus shows dark
    glow: float
    shot: float  # variance a grey level
    read: float  # variance
    colour: tuple[float, ...]
    nested: float  # share of cells that lie in nests
    ceiling: float  # level where the film bends


@dataclass(frozen=True)
class _Fibres:
    """Fibres and specks on a published field of view; strengths are shares of twice a typical cell's level."""

    number: float
    specks: float
    speck: float
    strength: float = 0.0
    spread: float = 0.5
    nested: float = 0.0
    wave: float = 0.2
    longest: float = 220.0
    beaded: bool = False


_LOOKS = {
    "green": _Look(
        background=50,
        spread=0.22,
        texture=0.04,
        uneven=0.06,
        cell=24,
        cell_spread=0.55,
        faintest=9,
        dim=(3, 8),
        dim_share=0.5,
        dim_always=4,
        edge=(1.3, 2.8),
        coarse=0.14,
        grains=(0.0, 0.12),
        nucleus=0.1,
        glow=0.05,
        shot=0.10,
        read=1.0,
        colour=(0.03, 1.0, 0.145),
        nested=0.5,
        ceiling=255,
    ),
    "yellow": _Look(
        background=4.5,
        spread=0.45,
        texture=0.09,
        uneven=0.22,
        cell=95,
        cell_spread=0.45,
        faintest=26,
        dim=(3, 22),
        dim_share=0.5,
        dim_always=6,
        edge=(2.0, 4.4),
        coarse=0.20,
        grains=(0.05, 0.8),
        nucleus=0.35,
        glow=0.16,
        shot=0.14,
        read=0.6,
        colour=(1.0, 0.76, 0.06),
        nested=0.4,
        ceiling=255,
    ),
    "red": _Look(
        background=15,
        spread=0.3,
        texture=0.11,
        uneven=0.16,
        cell=66,
        cell_spread=0.33,
        faintest=30,
        dim=(6, 24),
        dim_share=0.6,
        dim_always=8,
        edge=(1.6, 3.2),
        coarse=0.16,
        grains=(0.0, 0.25),
        nucleus=0.4,
        glow=0.06,
        shot=0.03,
        read=0.3,
        colour=(1.0, 0.0, 0.0),
        nested=0.6,
        ceiling=230,
    ),
}
_FIBRES = {
    "green": _Fibres(number=0, specks=150, speck=0.35),
    "yellow": _Fibres(number=8, specks=14, speck=0.15, strength=0.03, nested=0.2, wave=0.12, beaded=True),
    "red": _Fibres(number=700, specks=70, speck=0.28, strength=0.045, spread=0.6, nested=0.3, wave=0.3),
    "E4500": _Fibres(number=260, specks=12, speck=0.2, strength=0.07, spread=0.8, nested=0.75, wave=0.25, longest=320),
}
_E4500 = replace(
    _LOOKS["red"],
    background=4, spread=0.4, texture=0.12, uneven=0.3,
    cell=190, cell_spread=0.3, faintest=80, dim=(15, 70), dim_share=0.6, dim_always=6,
    edge=(2.8, 5.0), coarse=0.16, grains=(0.0, 0.05), nucleus=0.45, glow=0.22,
    shot=0.025, read=0.2, nested=0.8, ceiling=185,
)  # fmt: skip


@dataclass(eq=False)
class _Canvas:
    """What is painted in the course of one picture."""

    look: _Look
    collection: str
    scale: float
    rng: np.random.Generator
    signal: Gray
    truth: NDArray[np.int32]
    taken: NDArray[np.uint8]
    strokes: Strokes
    far: Strokes
    fibres: _Fibres
    grain: Gray
    cloud: Gray


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
    anatomy = anatomy or Anatomy.draw(rng, height / width)
    level = float(rng.random()) if level is None else level
    pixel_size = (_E4500_PIXEL_SIZE_UM if old else PIXEL_SIZE_UM) / scale
    look = _varied(_E4500 if old else _LOOKS[collection], rng)

    canvas = _Canvas(
        look=look,
        collection=collection,
        scale=scale,
        rng=rng,
        signal=np.zeros((height, width), dtype=np.float32),
        truth=np.zeros((height, width), dtype=np.int32),
        taken=np.zeros((height, width), dtype=np.uint8),
        strokes=Strokes((height, width), top=2 * look.cell),
        far=Strokes((height, width), top=2 * look.cell),
        fibres=_FIBRES["E4500" if old else collection],
        grain=_grain(rng, 1.3 * max(scale, 0.5)),
        cloud=_cloud(rng, 2.2 * scale + 0.5),
    )
    background = _background(canvas, anatomy)
    outlines = _paint_cells(canvas, anatomy, _number(collection, level, size, pixel_size, rng), pixel_size)
    _paint_dim_cells(canvas, anatomy, len(outlines))
    _paint_fibres(canvas, anatomy)
    _paint_artefacts(canvas)
    near = (2.0 if old else 1.1) * scale + 0.3
    signal = background + canvas.signal + canvas.strokes.blurred(near) + canvas.far.blurred(3.2 * near)
    if old:
        signal += _haze(canvas, anatomy)
    signal += np.float32(look.glow) * soften(canvas.signal, 16 * scale)
    pixels = _photograph(signal, look, rng)
    truth, order = _in_raster_order(canvas.truth, len(outlines))
    return Scene(pixels, truth, tuple(Cell((outlines[index],)) for index in order), pixel_size)


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


def _varied(look: _Look, rng: np.random.Generator) -> _Look:
    """Give one picture its own look: no two exposures are alike."""
    exposure = np.exp(rng.normal(0, look.spread))
    # Where the background is brighter the cells are too, yet not by as much.
    return replace(
        look,
        background=look.background * exposure,
        cell=look.cell * exposure**0.5 * np.exp(rng.normal(0, 0.12)),
        colour=tuple(share * np.exp(rng.normal(0, 0.04)) if 0 < share < 1 else share for share in look.colour),
        shot=look.shot * np.exp(rng.normal(0, 0.15)),
    )


def _number(collection: str, level: float, size: tuple[int, int], pixel_size: float, rng: np.random.Generator) -> int:
    """Cells of this picture: as many as Table 1 has on a published one, fewer where the field of view is smaller."""
    share = min(1.0, size[0] * size[1] * pixel_size**2 / _PUBLISHED_FIELD_UM2)
    # A field that differs by the margins of another camera is taken as whole.
    return int(cell_count(collection, level) * (1.0 if share > 0.9 else share) + rng.random() * (share <= 0.9))


def _grain(rng: np.random.Generator, sigma: float) -> Gray:
    """Make a tile of granules: 0 between them, about 1 on average, several on the brightest."""
    noise = _without_seam(sigma, rng)
    grain = np.maximum(noise / noise.std() + 1.0, 0) ** 1.4
    return np.asarray(grain / grain.mean(), dtype=np.float32)


def _cloud(rng: np.random.Generator, sigma: float) -> Gray:
    """Make a tile of smooth unevenness, mean 0 and standard deviation 1."""
    cloud = _without_seam(sigma, rng)
    return np.asarray((cloud - cloud.mean()) / cloud.std(), dtype=np.float32)


def _without_seam(sigma: float, rng: np.random.Generator) -> Gray:
    """Blurred noise that goes on where it ends, so that pieces may be cut anywhere."""
    sheet = rng.standard_normal((320, 320), dtype=np.float32)
    return np.asarray(cv2.GaussianBlur(np.pad(sheet, 32, mode="wrap"), (0, 0), sigma)[32:-32, 32:-32], dtype=np.float32)


# Tissue


def _background(canvas: _Canvas, anatomy: Anatomy) -> Gray:
    look, scale, shape = canvas.look, canvas.scale, canvas.signal.shape
    shared = np.random.default_rng(anatomy.grain)
    light = clouds(shape, shared, (shape[1] / 2.5, shape[1] / 6))
    shade = holes(shape, shared, 15 * scale + 2)
    texture = clouds(shape, canvas.rng, tuple(size * scale + 1 for size in (4, 8, 16, 32, 64)))
    field = 1 + np.float32(look.uneven) * light + np.float32(look.texture) * texture
    field -= np.float32({"green": 0.20, "yellow": 0.22, "red": 0.18}[canvas.collection]) * shade
    np.maximum(field, 0.15, out=field)
    edge = tissue_edge(shape, anatomy, blur=9 * scale + 1)
    if edge is not None:
        inside, near = edge
        canvas.taken[inside < 0.6] = 1
        field *= 1 + np.float32(0.35 * canvas.rng.random()) * near
        field = 0.03 + field * inside
    return np.asarray(field * np.float32(look.background), dtype=np.float32)


def _haze(canvas: _Canvas, anatomy: Anatomy) -> Gray:
    """Light from cells and fibres above and below the focus, where cells gather."""
    height, width = canvas.signal.shape
    y, x = np.mgrid[0:height:16, 0:width:16].astype(np.float32) / width
    glow = np.zeros_like(x)
    for x_middle, y_middle, spread in anatomy.nests:
        distance = (np.square(x - x_middle) + np.square(y - y_middle)) / np.float32(spread) ** 2
        glow += np.exp(-distance / 2) * np.float32(canvas.rng.uniform(0.05, 0.3) * canvas.look.cell / 2)
    glow *= np.exp(0.5 * clouds(x.shape, canvas.rng, (4.0 * canvas.scale + 1, 9.0 * canvas.scale + 1)))
    return np.asarray(cv2.resize(glow, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _paint_fibres(canvas: _Canvas, anatomy: Anatomy) -> None:
    """Fibres that belong to no cell of the picture: dense in red, a few beaded ones in yellow; and specks everywhere."""
    rng, scale, kind = canvas.rng, canvas.scale, canvas.fibres
    height, width = canvas.signal.shape
    field = height * width / (1600 * 1200 * scale**2)
    main = rng.uniform(0, np.pi)
    for _ in range(rng.poisson(kind.number * field)):
        start = _anywhere(canvas, anatomy, kind.nested)
        points = wander(start, main + rng.normal(0, 0.8), rng.uniform(30, kind.longest) * scale, 14, kind.wave, rng)
        sharp = rng.random() < 0.4
        strength = kind.strength * rng.lognormal(0, kind.spread)
        # A fibre comes into focus and leaves it again.
        level = strength * np.sin(np.linspace(0.15, np.pi - 0.15, 14)) ** rng.uniform(0.6, 2)
        thick = np.full(14, (rng.uniform(0.8, 2.2) if sharp else rng.uniform(2, 3.5)) * scale)
        (canvas.strokes if sharp else canvas.far).line(points, level, thick)
        if kind.beaded:
            beads = points[rng.random(15) < 0.6]
            canvas.strokes.dots(beads, np.full(len(beads), strength * 3), np.full(len(beads), 1.3 * scale))
    _paint_specks(canvas, int(rng.poisson(kind.specks * field)), kind.speck)


def _paint_specks(canvas: _Canvas, number: int, strength: float) -> None:
    """Small groups of bright points."""
    rng, scale = canvas.rng, canvas.scale
    height, width = canvas.signal.shape
    middles = rng.uniform((0, 0), (width, height), (number, 2))
    for middle in middles:
        points = middle + rng.normal(0, 5 * scale, (rng.integers(1, 6), 2))
        count = len(points)
        canvas.strokes.dots(points, strength * rng.lognormal(-0.3, 0.5, count), rng.uniform(0.5, 1.4, count) * scale)


def _paint_artefacts(canvas: _Canvas) -> None:
    """Spots, filaments, a lateral stripe: what glows and is no cell."""
    rng, scale = canvas.rng, canvas.scale
    height, width = canvas.signal.shape
    spots = rng.poisson(1.5)
    middles = rng.uniform((0, 0), (width, height), (spots, 2))
    canvas.strokes.dots(middles, rng.uniform(0.3, 1.0, spots), rng.uniform(1.0, 4.5, spots) * scale)
    if rng.random() < 0.12:
        start = rng.uniform((0, 0), (width, height))
        points = wander(start, rng.uniform(0, 6.28), rng.uniform(150, 600) * scale, 30, 0.15, rng)
        canvas.strokes.line(points, np.full(30, rng.uniform(0.15, 0.6)), np.full(30, rng.uniform(1.5, 5) * scale))
    if rng.random() < 0.08:
        across = np.linspace(0, 1, width, dtype=np.float32)
        band = np.exp(-np.square((across - np.float32(rng.choice([0.0, 1.0]))) / np.float32(rng.uniform(0.02, 0.08))))
        canvas.signal += band * np.float32(canvas.look.background * rng.uniform(0.5, 1.5))


# Cells


def _paint_cells(canvas: _Canvas, anatomy: Anatomy, number: int, pixel_size: float) -> list[NDArray[np.float64]]:
    """Paint the cells that get marked, the largest first; their outlines in order of their numbers."""
    rng, look = canvas.rng, canvas.look
    outlines: list[NDArray[np.float64]] = []
    for size in sorted(draw_sizes(canvas.collection, number, rng), reverse=True):
        area, feret = size.area_um2 / pixel_size**2, size.feret_um / pixel_size
        form = draw_form(canvas.collection, area, max(feret - 0.7, 1.5), rng)
        ring = annotate(form, area, rng)
        reach = int(np.abs(ring).max()) + 2
        outline = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
        cv2.fillPoly(outline, [(ring + reach).astype(np.int32)], color=1)
        middle = _free_place(canvas, anatomy, outline)
        if middle is None:
            continue
        outlines.append((ring + middle).astype(np.float64))
        _mark(canvas, form, middle, outline, area, number=len(outlines))
        strength = max(look.faintest, look.cell * rng.lognormal(0, look.cell_spread))
        softness = rng.uniform(*look.edge) * max(canvas.scale, 0.35)
        _stain(canvas, form, middle, strength, softness)
        _paint_processes(canvas, form, middle, strength)
    return outlines


def _free_place(canvas: _Canvas, anatomy: Anatomy, outline: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Find a place in the tissue where the outlined cell touches no other; a thin gap is left, as annotators do."""
    height, width = canvas.signal.shape
    reach = outline.shape[0] // 2
    if 2 * reach + 1 > min(height, width):
        return None
    with_gap = cv2.dilate(outline, np.ones((3, 3), dtype=np.uint8)).astype(bool)
    for attempt in range(80):
        place = _anywhere(canvas, anatomy, canvas.look.nested if attempt < 40 else 0.0)
        x, y = np.clip(np.rint(place).astype(np.int64), reach, (width - 1 - reach, height - 1 - reach))
        window = canvas.taken[y - reach : y + reach + 1, x - reach : x + reach + 1]
        if not window[with_gap].any():
            window |= outline
            return np.array([x, y])
    return None


def _anywhere(canvas: _Canvas, anatomy: Anatomy, nested: float) -> NDArray[np.float64]:
    rng = canvas.rng
    height, width = canvas.signal.shape
    if rng.random() < nested:
        x, y, spread = anatomy.nests[rng.integers(len(anatomy.nests))]
        return np.asarray((np.array([x, y]) + rng.normal(0, spread, 2)) * width)
    return rng.uniform((0, 0), (width, height))


def _mark(
    canvas: _Canvas, form: Form, middle: NDArray[np.int64], outline: NDArray[np.uint8], area: float, number: int
) -> None:
    """Enter the cell's exact body into the truth: the innermost pixels, somewhat fewer than were outlined."""
    reach = outline.shape[0] // 2
    levels = form.levels(reach)
    pixels = max(1, round(area / canvas.rng.uniform(1.04, 1.2)))
    body = (levels <= np.partition(levels.ravel(), pixels - 1)[pixels - 1]) & (outline > 0)
    x, y = middle
    canvas.truth[y - reach : y + reach + 1, x - reach : x + reach + 1][body] = number


def _stain(canvas: _Canvas, form: Form, middle: NDArray[np.int64], strength: float, softness: float) -> None:
    """Add the light of one cell to the signal."""
    look, rng = canvas.look, canvas.rng
    radius = max(float(np.sqrt(form.area / np.pi)), 1.0)
    reach = int(form.feret * 0.75 + 5 * softness) + 2
    levels = form.levels(reach)
    body = 1 / (1 + np.exp(np.clip((levels - np.float32(0.95)) * np.float32(radius / softness), -20, 20)))
    body *= np.maximum(1 + np.float32(look.coarse) * _tile(canvas.cloud, levels.shape, rng), 0.3)
    # Granules are sharp only where the cell is in focus.
    grains = rng.uniform(*look.grains) * float(np.clip(2 - softness / (look.edge[1] * max(canvas.scale, 0.35)), 0.1, 1))
    body *= (1 - np.float32(0.75 * grains)) + np.float32(0.75 * grains) * _tile(canvas.grain, levels.shape, rng)
    if rng.random() < look.nucleus:
        body *= 1 - np.float32(rng.uniform(0.25, 0.65)) * np.exp(-np.square(levels / np.float32(0.42)))
    if canvas.collection == "green":
        body *= 1 + np.float32(rng.uniform(0, 0.35)) * np.exp(-np.square((levels - np.float32(0.8)) / np.float32(0.25)))
    else:
        # A soma is thickest in its middle.
        body *= np.float32(1.12) - np.float32(0.3) * np.minimum(levels, 1.2)
    _add(canvas.signal, body * np.float32(strength), middle)


def _add(signal: Gray, patch: Gray, middle: NDArray[np.int64]) -> None:
    """Add a square patch around a place, as far as it lies in the picture."""
    reach = patch.shape[0] // 2
    x, y = (int(value) for value in middle)
    top, left = max(y - reach, 0), max(x - reach, 0)
    bottom, right = min(y + reach + 1, signal.shape[0]), min(x + reach + 1, signal.shape[1])
    if bottom > top and right > left:
        rows, columns = slice(top - y + reach, bottom - y + reach), slice(left - x + reach, right - x + reach)
        signal[top:bottom, left:right] += patch[rows, columns]


def _tile(tile: Gray, shape: tuple[int, ...], rng: np.random.Generator) -> Gray:
    y, x = rng.integers(tile.shape[0]), rng.integers(tile.shape[1])
    rows, columns = (np.arange(shape[0]) + y) % tile.shape[0], (np.arange(shape[1]) + x) % tile.shape[1]
    return np.asarray(tile[rows[:, None], columns])


def _paint_dim_cells(canvas: _Canvas, anatomy: Anatomy, marked: int) -> None:
    """Paint cells out of focus, which annotators leave out on purpose."""
    rng, look = canvas.rng, canvas.look
    height, width = canvas.signal.shape
    field = height * width / (1600 * 1200 * canvas.scale**2)
    number = rng.poisson(look.dim_share * marked + look.dim_always * min(field, 4.0))
    pixel_size = PIXEL_SIZE_UM / canvas.scale
    for size in draw_sizes(canvas.collection, number, rng):
        form = draw_form(canvas.collection, size.area_um2 / pixel_size**2, max(size.feret_um / pixel_size, 1.5), rng)
        x, y = np.rint(_anywhere(canvas, anatomy, look.nested)).astype(np.int64)
        # Out of focus, or only grazed by the slice: soft, and never brighter than what gets marked.
        softness = rng.uniform(1.0, 3.0) * look.edge[1] * max(canvas.scale, 0.35)
        if 0 <= x < width and 0 <= y < height and not canvas.taken[y, x]:
            _stain(canvas, form, np.array([x, y]), rng.uniform(*look.dim), softness)


def _paint_processes(canvas: _Canvas, form: Form, middle: NDArray[np.int64], strength: float) -> None:
    """Paint processes that leave the corners of a cell and fade."""
    rng, scale = canvas.rng, canvas.scale
    red = canvas.collection == "red"
    for corner in form.corners:
        start, within = form.points(np.array([corner]), 0.85)[0], form.points(np.array([corner]), 0.5)[0]
        heading = float(np.arctan2(*(start - within)[::-1]))
        length = rng.lognormal(np.log(90 if red else 60), 0.5) * scale
        pieces = 16
        points = wander(start + middle, heading, length, pieces, 0.16 if red else 0.12, rng)
        fade = np.linspace(1, 0.06, pieces) ** rng.uniform(1.2, 3)
        beads = rng.lognormal(0, 0.1 if red else 0.3, pieces)
        thick = rng.uniform(0.10, 0.22) * form.stretch[1] * 2 * np.linspace(1, 0.3, pieces)
        level = strength / (2 * canvas.look.cell) * rng.uniform(0.25, 0.7) * fade * beads
        # From the far end inward, so that the brighter piece lies on top.
        sheet = canvas.far if rng.random() < 0.4 else canvas.strokes
        sheet.line(points[::-1], level[::-1], thick[::-1])


def _in_raster_order(truth: NDArray[np.int32], number: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels renumbered by first pixels, and for each new number the place of its cell among the old ones."""
    values, first = np.unique(truth, return_index=True)
    order = values[np.argsort(first)]
    order = order[order > 0]
    renumbered = np.zeros(number + 1, dtype=np.int32)
    renumbered[order] = np.arange(1, len(order) + 1)
    return renumbered[truth], order.astype(np.int64) - 1


# Camera


def _photograph(signal: Gray, look: _Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the picture as a camera does: bent brights, darker corners, noise, hot pixels, 8 bits."""
    height, width = signal.shape
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    fall = np.float32(rng.uniform(0.05, 0.18) / 2)
    signal *= 1 - fall * (np.square(x)[None] + np.square(y)[:, None])
    if look.ceiling < 255:
        signal = np.float32(look.ceiling) * (1 - np.exp(-signal / np.float32(look.ceiling)))
    noise = np.sqrt(np.float32(look.read) + np.float32(look.shot) * signal)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for channel, share in enumerate(look.colour):
        # The chip's colour filter makes two of three values guesses from their neighbours: their noise is smooth.
        grain = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (3, 3), 0.65) * np.float32(
            1.75
        )
        offset = -1.6 if 0.5 < share < 1 else 0.0
        level = signal * np.float32(share) + np.float32(offset) + grain * (noise if share > 0.5 else noise * 0.45)
        if not share:
            level = grain * np.float32(0.6) - np.float32(0.3)
        np.clip(np.rint(level, out=level), 0, 255, out=level)
        pixels[..., channel] = level
    for x_share, y_share, strength in _HOT:
        spot = pixels[int(y_share * height), int(x_share * width)]
        spot[:] = np.minimum(spot + np.float32(strength), 255)
    return pixels
