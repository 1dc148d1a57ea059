"""What glows or darkens around the cells: the tissue itself, its fibres, and what is there by mishap."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.synthetic.fibres import Strokes, strands
from fncells.synthetic.looks import Look
from fncells.synthetic.tissue import Anatomy, Gray, clouds, hollows, soften, tissue_edge, track_points

__all__ = ["PUBLISHED_FIELD_PX", "anywhere", "artefacts", "fibres", "haze", "neuropil", "tissue"]

PUBLISHED_FIELD_PX = 1600 * 1200

_PIECES = 12
_LEAST_LIGHT = 0.15


def anywhere(
    shape: tuple[int, int], anatomy: Anatomy, nested: float, number: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Places in a picture, a share of them in the nests of its anatomy: (number, 2) x, y in pixels."""
    height, width = shape
    places = rng.uniform((0, 0), (width, height), (number, 2))
    gathered = np.flatnonzero(rng.random(number) < nested)
    nests = anatomy.nests[rng.integers(len(anatomy.nests), size=len(gathered))]
    places[gathered] = (nests[:, :2] + rng.normal(0, 1, (len(gathered), 2)) * nests[:, 2:]) * width
    if len(anatomy.track):
        along, _ = track_points(anatomy, len(gathered), 0.045, rng)
        on_track = rng.random(len(gathered)) < 0.8
        places[gathered[on_track]] = along[on_track] * width
    return places


def tissue(
    shape: tuple[int, int], anatomy: Anatomy, look: Look, scale: float, rng: np.random.Generator
) -> tuple[Gray, Gray]:
    """Light of the tissue without any cell, and where it is: 1, and 0 in the ventricle.

    Parameters
    ----------
    shape
        Height and width.
    anatomy
        What the pictures of one field of view share.
    look
        Levels.
    scale
        Size of things against those in the published pictures.
    rng
        Source of chance.
    """
    width = shape[1]
    shared = np.random.default_rng(anatomy.grain)
    field = 1 + clouds(shape, shared, {width / 2.5: 0.7 * look.light, width / 7: 0.5 * look.light})
    field += clouds(shape, rng, {size * scale + 0.5: share for size, share in look.texture.items()})
    number, radius, depth = look.hollows
    field *= 1 - np.float32(depth) * hollows(shape, shared, _number(number, shape, scale), radius * scale)
    np.maximum(field, _LEAST_LIGHT, out=field)
    edge = tissue_edge(shape, anatomy, blur=9 * scale + 1)
    if edge is None:
        return np.asarray(field * np.float32(look.background), dtype=np.float32), np.ones(shape, dtype=np.float32)
    inside, near = edge
    field *= 1 + np.float32(rng.uniform(0, 0.9)) * near
    field = np.float32(0.04) + field * inside
    return np.asarray(field * np.float32(look.background), dtype=np.float32), inside


def neuropil(shape: tuple[int, int], anatomy: Anatomy, look: Look, scale: float, rng: np.random.Generator) -> Gray:
    """Light of the felt of fibres between the cells, denser where cells gather and along a track."""
    kind = look.neuropil
    number = _number(kind.number, shape, scale)
    top = 8 * kind.level * look.background
    near, far = Strokes(shape, top), Strokes(shape, top)
    starts = anywhere(shape, anatomy, 0.3 * look.nested, number, rng)
    main = rng.uniform(0, np.pi)
    headings = main + rng.normal(0, 0.35 + 1.6 * (1 - kind.order), number) + np.pi * rng.integers(0, 2, number)
    lengths = rng.uniform(*kind.length, number) * scale
    lines = strands(starts, headings, lengths, _PIECES, kind.wave, rng)
    levels = rng.lognormal(0, kind.spread, number) / 8
    sharp = rng.random(number) < kind.sharp
    near.strands(lines[sharp], levels[sharp], rng.uniform(0.6, 1.8, sharp.sum()) * scale)
    far.strands(lines[~sharp], levels[~sharp], rng.uniform(1.5, 4.0, (~sharp).sum()) * scale)
    beaded = np.flatnonzero(sharp & (rng.random(number) < kind.beads))
    for index in beaded:
        beads = lines[index][rng.random(_PIECES + 1) < 0.5]
        level = np.full(len(beads), 2.2 * levels[index])
        near.dots(beads, level, rng.uniform(0.8, 1.9, len(beads)) * scale)
    light = near.blurred(0.9 * scale + 0.3) + far.blurred(3.0 * scale + 0.5)
    # Felt comes in drifts.
    drift = 1 + clouds(shape, rng, {shape[1] / 5: 0.35, shape[1] / 14: 0.25})
    return np.asarray(light * np.maximum(drift, 0.15), dtype=np.float32)


def fibres(shape: tuple[int, int], anatomy: Anatomy, look: Look, scale: float, rng: np.random.Generator) -> Gray:
    """Light of long single fibres, of a track's bundle and of specks."""
    cell = look.stain.level
    near, far = Strokes(shape, 2 * cell), Strokes(shape, 2 * cell)
    long, strength = look.fibres
    number = _number(rng.poisson(long), shape, scale)
    starts = anywhere(shape, anatomy, look.nested / 2, number, rng)
    lengths = rng.uniform(120, 450, number) * scale
    for line in strands(starts, rng.uniform(0, 2 * np.pi, number), lengths, 24, 0.12, rng):
        level = 0.5 * strength * rng.lognormal(0, 0.5)
        # A fibre comes into focus and leaves it again.
        along = level * np.sin(np.linspace(0.15, np.pi - 0.15, 24)) ** rng.uniform(0.5, 2)
        sheet = near if rng.random() < look.neuropil.sharp else far
        sheet.line(line, along, np.full(24, rng.uniform(1.0, 3.0) * scale))
        beads = line[rng.random(25) < 0.35]
        near.dots(beads, np.full(len(beads), 1.5 * level), rng.uniform(0.8, 1.6, len(beads)) * scale)
    if len(anatomy.track):
        _bundle(shape, anatomy, scale, near, far, rng)
    _specks(shape, look, scale, near, rng)
    return near.blurred(1.0 * scale + 0.3) + far.blurred(3.5 * scale + 0.5)


def _bundle(
    shape: tuple[int, int], anatomy: Anatomy, scale: float, near: Strokes, far: Strokes, rng: np.random.Generator
) -> None:
    """Draw the bundle of dendrites along a track, and the ones that leave it."""
    number = int(rng.integers(120, 520))
    places, directions = track_points(anatomy, number, 0.032, rng)
    leaving = rng.random(number) < 0.15
    headings = directions + np.where(leaving, rng.normal(0, 1.2, number), rng.normal(0, 0.35, number))
    headings += np.pi * rng.integers(0, 2, number)
    lengths = np.where(leaving, rng.uniform(150, 600, number), rng.uniform(40, 240, number)) * scale
    levels = 0.5 * np.clip(rng.lognormal(np.log(0.32), 0.5, number), 0, 1.1)
    lines = strands(places * shape[1], headings, lengths, 20, 0.13, rng)
    sharp = rng.random(number) < 0.3
    near.strands(lines[sharp], levels[sharp], np.exp(rng.uniform(0.3, 2.2, sharp.sum())) * scale)
    far.strands(lines[~sharp], levels[~sharp], rng.uniform(3, 16.0, (~sharp).sum()) * scale)


def _specks(shape: tuple[int, int], look: Look, scale: float, near: Strokes, rng: np.random.Generator) -> None:
    """Draw small groups of bright points, from single grains to clumps the size of a small cell."""
    height, width = shape
    number, strength = look.specks
    for middle in rng.uniform((0, 0), (width, height), (_number(rng.poisson(number), shape, scale), 2)):
        clump = rng.random() < 0.08
        count = int(rng.integers(8, 40)) if clump else int(rng.integers(1, 6))
        angle, spread = rng.uniform(0, np.pi), (rng.uniform(5, 11) if clump else 5.0) * scale
        along, across = rng.normal(0, spread, count), rng.normal(0, 0.5 * spread, count)
        points = middle + np.stack(
            [along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)], axis=1
        )
        level = 0.5 * strength * rng.lognormal(-0.3, 0.5) * rng.lognormal(0, 0.4, count)
        near.dots(points, level, rng.uniform(0.6, 2.2 if clump else 1.5, count) * scale)


def artefacts(
    shape: tuple[int, int], inside: Gray, look: Look, scale: float, amount: float, rng: np.random.Generator
) -> Gray:
    """Light of what is no part of the tissue: spots, filaments, stripes along the sides, bright edges, a glowing rod.

    Parameters
    ----------
    shape
        Height and width.
    inside
        Where the tissue is, as `tissue` gives it.
    look
        Levels.
    scale
        Size of things against those in the published pictures.
    amount
        1 is as in the published pictures, 0 none.
    rng
        Source of chance.
    """
    height, width = shape
    sharp, soft = Strokes(shape, 2 * look.stain.level), Strokes(shape, 2 * look.stain.level)
    spots = rng.poisson(1.5 * amount)
    middles = rng.uniform((0, 0), (width, height), (spots, 2))
    sharp.dots(middles, rng.uniform(0.3, 1.0, spots), rng.uniform(1.0, 4.5, spots) * scale)
    for _ in range(rng.poisson(0.12 * amount)):  # a filament, dust or a hair
        start = rng.uniform((0, 0), (width, height), (1, 2))
        line = strands(start, rng.uniform(0, 6.28, 1), rng.uniform(150, 700, 1) * scale, 30, 0.15, rng)[0]
        sharp.line(line, np.full(30, rng.uniform(0.1, 0.5)), np.full(30, rng.uniform(1.5, 5) * scale))
    for _ in range(rng.poisson(0.03 * amount)):  # a rod that glows
        start, angle = rng.uniform((0, 0), (width, height)), rng.uniform(0, np.pi)
        length = rng.uniform(60, 260) * scale
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        soft.line(np.stack([start, end]), np.array([rng.uniform(0.5, 1.0)]), np.array([rng.uniform(10, 26) * scale]))
    for _ in range(rng.poisson(0.06 * amount)):  # the rim of a bubble
        middle = rng.uniform((0, 0), (width, height))
        radius, first = rng.uniform(60, 300) * scale, rng.uniform(0, 2 * np.pi)
        turn = first + np.linspace(0, rng.uniform(1.0, 4.5), 40)
        arc = middle + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        fade = np.sin(np.linspace(0.1, np.pi - 0.1, 39)) * rng.uniform(0.05, 0.25)
        soft.line(arc, fade, np.full(39, rng.uniform(3, 9) * scale))
    light = sharp.blurred(0.8 * scale + 0.3) + soft.blurred(2.5 * scale + 0.3)
    for _ in range(rng.poisson(0.08 * amount)):  # a stripe along a side
        across = np.linspace(0, 1, width, dtype=np.float32)
        band = np.exp(-np.square((across - np.float32(rng.choice([0.0, 1.0]))) / np.float32(rng.uniform(0.02, 0.08))))
        light += band * np.float32(look.background * rng.uniform(0.5, 1.5))
    if inside.min() < 0.5 and rng.random() < 0.5 * amount:  # the edge of the tissue shines
        rim = inside * (1 - inside) * 4
        light += soften(rim, 5 * scale) * np.float32(look.background * rng.uniform(0.3, 1.6))
        _rim_specks(rim, look, scale, light, rng)
    return light


def _rim_specks(rim: Gray, look: Look, scale: float, light: Gray, rng: np.random.Generator) -> None:
    """Add bright points where the tissue ends."""
    height, width = rim.shape
    tried = rng.uniform((0, 0), (width, height), (4000, 2))
    kept = tried[rim[tried[:, 1].astype(int), tried[:, 0].astype(int)] > 0.15]
    points = kept + rng.normal(0, 12 * scale, kept.shape)
    sheet = Strokes(rim.shape, 2 * look.stain.level)
    count = len(points)
    sheet.dots(points, rng.lognormal(np.log(0.2), 0.5, count), rng.uniform(0.8, 4.0, count) * scale)
    light += sheet.blurred(1.0 * scale + 0.3)


def haze(shape: tuple[int, int], anatomy: Anatomy, look: Look, scale: float, rng: np.random.Generator) -> Gray:
    """Light from cells and fibres above and below the focus, where cells gather."""
    height, width = shape
    y, x = np.mgrid[0:height:16, 0:width:16].astype(np.float32) / width
    glow = np.zeros_like(x)
    nests = anatomy.nests
    if len(anatomy.track):
        nests = np.concatenate([nests, np.column_stack([anatomy.track[::4], np.full(len(anatomy.track[::4]), 0.05)])])
    for x_middle, y_middle, spread in nests:
        distance = (np.square(x - x_middle) + np.square(y - y_middle)) / np.float32(spread) ** 2
        glow += np.exp(-distance / 2) * np.float32(rng.uniform(0.02, 0.12) * look.stain.level)
    glow *= np.exp(clouds(x.shape, rng, {4.0 * scale + 1: 0.35, 9.0 * scale + 1: 0.35}))
    return np.asarray(cv2.resize(glow, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _number(number: float, shape: tuple[int, int], scale: float) -> int:
    """How many of things there are in a picture, from their number on a published field of view."""
    return round(number * shape[0] * shape[1] / (PUBLISHED_FIELD_PX * scale**2))
