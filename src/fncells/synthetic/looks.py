"""How the pictures of a collection look, before chance: numbers read off real pictures, and dials to make them harder.

Levels are grey levels of a collection's main channel in a picture of 8 bits; lengths are pixels of a picture 1600 px wide
(2272 px for the old camera); numbers are for a field of 1600x1200.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from fncells.errors import InputError

__all__ = ["E4500", "LOOKS", "Challenges", "Look", "Neuropil", "Stain", "look_of"]

_MOST = 5


@dataclass(frozen=True)
class Challenges:
    """Dials of what makes pictures hard; 1 is as in the published collections, 0 is none of it, 2 twice as much.

    Parameters
    ----------
    crowding
        Share of the cells that lie side by side with another one.
    artefacts
        Spots, filaments, stripes along the sides, bright edges of the tissue, a glowing rod.
    contrast
        How far pictures differ from each other in brightness of background and cells.
    hue
        How far they differ in hue.
    ambiguity
        How many cells are left unmarked, and how near they come to the marked ones.
    subjectivity
        How far annotators differ in what is bright enough for them and in where a cell ends.
    """

    crowding: float = 1.0
    artefacts: float = 1.0
    contrast: float = 1.0
    hue: float = 1.0
    ambiguity: float = 1.0
    subjectivity: float = 1.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 <= value <= _MOST:
                raise InputError(one.name, expected=f"a number from 0 to {_MOST}", found=f"{value:g}")


@dataclass(frozen=True)
class Stain:
    """What a stain makes of a cell body.

    Attributes
    ----------
    level, spread
        Median of the cells' brightness, and the standard deviation of its logarithm.
    faintest
        Brightness below which annotators leave a cell out.
    filled, granular
        Share of cells that are filled to the brim, and of those made of granules; the others are in between.
    grain
        Strength of the granules of a granular cell.
    coarse
        Unevenness of the plain stain, as a standard deviation.
    nucleus
        Share of cells whose nucleus shows dark.
    softness
        Least and greatest blur of outlines in focus, px.
    glow
        Share of a cell's light that spreads around it.
    """

    level: float
    spread: float
    faintest: float
    filled: float
    granular: float
    grain: float
    coarse: float
    nucleus: float
    softness: tuple[float, float]
    glow: float


@dataclass(frozen=True)
class Neuropil:
    """The felt of fibres between the cells.

    Attributes
    ----------
    number
        Fibres.
    level
        Brightness of a typical one as a share of the background's.
    spread
        Standard deviation of the logarithm of the brightness.
    length
        Least and greatest length.
    beads
        Share of the fibres that carry beads.
    wave
        How much they wander, radians a piece.
    order
        0: in all directions; 1: all in one.
    sharp
        Share of the fibres that are in focus.
    """

    number: float
    level: float
    spread: float
    length: tuple[float, float]
    beads: float
    wave: float
    order: float
    sharp: float


@dataclass(frozen=True)
class Look:
    """How a collection looks; see the module for units.

    Attributes
    ----------
    background, spread
        Level of the tissue, and how far pictures differ, as a standard deviation of its logarithm.
    light
        Unevenness of the light over the picture, as a share.
    texture
        Standard deviation of the tissue's texture as a share of the background, by the size of its grains.
    hollows
        Unstained cell bodies that show dark: number, typical radius and depth as a share of the background.
    neuropil
        The fibres between the cells.
    fibres
        Number of long single fibres, and their brightness as a share of a typical cell's.
    specks
        Number of small groups of bright points, and their brightness as a share of a typical cell's.
    stain
        What the cell bodies look like.
    dim, dim_always
        Unmarked cells for each marked one, and those that are always there.
    processes
        Length of the processes that leave a cell, their width as a share of the cell's, and their brightness as a share of its.
    beside
        Share of the cells that lie beside another one.
    nested
        Share of the cells that lie in nests.
    shot, read
        Variance of the noise a grey level, and of the noise without light.
    ceiling
        Level where the film bends; 255 for none.
    black
        Greatest level that the camera calls black, in grey levels.
    colour
        Red, green and blue as shares of the main channel.
    """

    background: float
    spread: float
    light: float
    texture: Mapping[float, float]
    hollows: tuple[float, float, float]
    neuropil: Neuropil
    fibres: tuple[float, float]
    specks: tuple[float, float]
    stain: Stain
    dim: float
    dim_always: float
    processes: tuple[float, float, float]
    beside: float
    nested: float
    shot: float
    read: float
    ceiling: float
    black: float
    colour: tuple[float, ...]


LOOKS: Mapping[str, Look] = {
    "green": Look(
        background=55,
        spread=0.20,
        light=0.10,
        texture={2: 0.020, 4: 0.022, 8: 0.032, 16: 0.038, 40: 0.035},
        hollows=(1500, 7.0, 0.42),
        neuropil=Neuropil(500, 0.05, 0.6, (5, 25), 0.1, 0.3, 0.2, 0.5),
        fibres=(0, 0.0),
        specks=(150, 0.4),
        stain=Stain(28, 0.6, 9, 0.3, 0.03, 0.2, 0.13, 0.15, (1.8, 3.6), 0.08),
        dim=0.5,
        dim_always=4,
        processes=(0, 0.0, 0.0),
        beside=0.05,
        nested=0.5,
        shot=0.10,
        read=1.0,
        ceiling=255,
        black=0,
        colour=(0.03, 1.0, 0.145),
    ),
    "yellow": Look(
        background=5,
        spread=0.45,
        light=0.25,
        texture={4: 0.06, 8: 0.08, 16: 0.12, 40: 0.18},
        hollows=(120, 9.0, 0.5),
        neuropil=Neuropil(420, 0.45, 0.7, (8, 60), 0.5, 0.25, 0.2, 0.5),
        fibres=(14, 0.07),
        specks=(45, 0.40),
        stain=Stain(78, 0.5, 45, 0.35, 0.2, 0.7, 0.22, 0.4, (1.8, 4.2), 0.28),
        dim=0.6,
        dim_always=15,
        processes=(55, 0.20, 0.26),
        beside=0.10,
        nested=0.4,
        shot=0.14,
        read=0.35,
        ceiling=255,
        black=3.5,
        colour=(1.0, 0.78, 0.07),
    ),
    "red": Look(
        background=14,
        spread=0.35,
        light=0.25,
        texture={3: 0.025, 6: 0.04, 12: 0.05, 24: 0.06, 60: 0.08},
        hollows=(90, 14.0, 0.35),
        neuropil=Neuropil(8000, 0.32, 0.75, (15, 75), 0.25, 0.22, 0.35, 0.5),
        fibres=(40, 0.20),
        specks=(110, 0.65),
        stain=Stain(64, 0.38, 35, 0.25, 0.03, 0.25, 0.2, 0.5, (1.4, 3.0), 0.09),
        dim=0.9,
        dim_always=14,
        processes=(70, 0.22, 0.45),
        beside=0.15,
        nested=0.6,
        shot=0.02,
        read=0.15,
        ceiling=195,
        black=1,
        colour=(1.0, 0.035, 0.03),
    ),
}
"""By collection, for the camera of the 1600x1200 pictures."""

E4500 = replace(
    LOOKS["red"],
    background=6,
    spread=0.45,
    light=0.3,
    texture={4: 0.03, 8: 0.05, 16: 0.08, 40: 0.12},
    hollows=(15, 18.0, 0.4),
    neuropil=Neuropil(700, 1.1, 0.9, (40, 260), 0.2, 0.14, 0.3, 0.25),
    fibres=(60, 0.25),
    specks=(14, 0.4),
    stain=Stain(112, 0.36, 65, 0.35, 0.0, 0.1, 0.22, 0.7, (2.4, 5.0), 0.18),
    dim=0.7,
    dim_always=6,
    processes=(150, 0.26, 0.6),
    beside=0.35,
    nested=0.7,
    shot=0.02,
    read=0.18,
    ceiling=192,
    colour=(1.0, 0.0, 0.0),
)
"""For the red pictures of the Nikon E4500: 2272x1704, bright and smooth."""


def look_of(collection: str, e4500: bool, challenges: Challenges, rng: np.random.Generator) -> Look:
    """Give one picture its own look: no two exposures are alike.

    Parameters
    ----------
    collection
        ``green``, ``red`` or ``yellow``.
    e4500
        Whether the old camera took the picture.
    challenges
        How far pictures differ.
    rng
        Source of chance.
    """
    look = E4500 if e4500 else LOOKS[collection]
    exposure = np.exp(rng.normal(0, look.spread) * challenges.contrast)
    # Where the background is brighter the cells are too, yet not by as much.
    stained = exposure**0.4 * np.exp(rng.normal(0, 0.15) * challenges.contrast)
    hue = np.exp(rng.normal(0, 0.05, 3) * challenges.hue)
    neuropil = replace(look.neuropil, number=look.neuropil.number * np.exp(rng.normal(0, 0.4)))
    return replace(
        look,
        background=look.background * exposure,
        stain=replace(look.stain, level=look.stain.level * stained, faintest=look.stain.faintest * stained),
        neuropil=neuropil,
        colour=tuple(share * drift if share < 1 else share for share, drift in zip(look.colour, hue, strict=True)),
        shot=look.shot * np.exp(rng.normal(0, 0.15)),
        black=rng.uniform(0, look.black),
    )
