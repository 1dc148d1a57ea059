"""Forms of single cells: outlines that have exactly the area and the greatest extension asked for."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Form", "draw_form"]

_ANGLES = np.linspace(0, 2 * np.pi, 96, endpoint=False)
_CLOSED = np.append(_ANGLES, 2 * np.pi)
_HALF_TURN = np.linspace(0, np.pi, 48, endpoint=False)
_DIRECTIONS = np.stack([np.cos(_HALF_TURN), np.sin(_HALF_TURN)])


@dataclass(frozen=True, eq=False)
class Form:
    """A cell's body: a circle with lobes and corners, stretched, bent and turned.

    In the unit plane the outline is a function of the angle, so it never crosses itself; what follows keeps that.

    Attributes
    ----------
    radii
        Radius at each of 96 even angles in the unit plane.
    corners
        Angles in the unit plane where processes leave.
    stretch
        Scale along and across the long axis, pixels.
    bend
        Curvature of the long axis, 1 / pixels.
    turn
        Direction of the long axis, radians.
    """

    radii: NDArray[np.float64]
    corners: NDArray[np.float64]
    stretch: tuple[float, float]
    bend: float
    turn: float

    def points(self, angles: NDArray[np.float64], level: float | NDArray[np.float64] = 1.0) -> NDArray[np.float64]:
        """Points of the outline (level 1) or of a line inside or outside it, (n, 2) x, y from the middle in pixels."""
        # Interpolation is dear, and the table's own angles are asked for most.
        radius = self.radii if angles is _ANGLES else np.interp(angles % (2 * np.pi), _CLOSED, self._closed)
        radius = radius * level
        u, v = radius * np.cos(angles) * self.stretch[0], radius * np.sin(angles) * self.stretch[1]
        v = v + self.bend * u**2
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.stack([u * cos - v * sin, u * sin + v * cos], axis=-1)

    def levels(self, half: int) -> NDArray[np.float32]:
        """Level of every pixel of a window of 2 half + 1 pixels around the middle: 0 there, 1 on the outline."""
        line = np.arange(-half, half + 1, dtype=np.float32)
        x, y = np.meshgrid(line, line)
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        u, v = x * cos + y * sin, y * cos - x * sin
        v -= np.float32(self.bend) * u**2
        u /= np.float32(self.stretch[0])
        v /= np.float32(self.stretch[1])
        angle = np.arctan2(v, u)
        table = self._closed.astype(np.float32)
        place = (angle % np.float32(2 * np.pi)) * np.float32(len(_ANGLES) / (2 * np.pi))
        below = np.minimum(place.astype(np.int32), len(_ANGLES) - 1)
        radius = table[below] + (place - below) * (table[below + 1] - table[below])
        return np.asarray(np.hypot(u, v) / radius, dtype=np.float32)

    @property
    def _closed(self) -> NDArray[np.float64]:
        return np.append(self.radii, self.radii[0])

    @property
    def feret(self) -> float:
        """Greatest extension of the outline, pixels."""
        return float(np.ptp(self.points(_ANGLES) @ _DIRECTIONS, axis=0).max())

    @property
    def area(self) -> float:
        """Area within the outline, square pixels."""
        x, y = self.points(_ANGLES).T
        return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)


def draw_form(collection: str, area: float, feret: float, rng: np.random.Generator) -> Form:
    """Draw a form of a collection's kind.

    Parameters
    ----------
    collection
        ``green``: round or oval; ``yellow``: corners where processes leave; ``red``: drawn-out and bent.
    area, feret
        Area and greatest extension that it shall have, in pixels.
    rng
        Source of chance.

    Returns
    -------
    Form
        Area exact; extension exact unless the form is rounder than a circle would have to be.
    """
    radii, corners = _unit_outline(collection, rng)
    bend = rng.normal(0, {"green": 0.0, "red": 0.12, "yellow": 0.08}[collection]) / max(feret / 2, 1.0)
    axis = _longest_axis(Form(radii, corners, (1.0, 1.0), 0.0, 0.0))
    # The long axis becomes the one that is stretched.
    form = Form(np.roll(radii, -axis), corners - _ANGLES[axis], (1.0, 1.0), bend, 0.0)
    for _ in range(8):
        stretched = _stretched(form, area, feret)
        if stretched is not None:
            form = stretched
            break
        # Too ragged to be as short as it must: round it off.
        form = replace(form, radii=1 + (form.radii / form.radii.mean() - 1) * 0.5, bend=form.bend * 0.5)
    else:
        form = replace(form, stretch=(np.sqrt(area / form.area),) * 2)
    return replace(form, turn=float(rng.uniform(0, 2 * np.pi)))


def _unit_outline(collection: str, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    waves = np.arange(2, 7)
    strength = {"green": 0.05, "red": 0.07, "yellow": 0.07}[collection]
    size = rng.normal(0, strength, len(waves)) * 2 / waves
    radii = 1 + (size * np.cos(_ANGLES[:, None] * waves + rng.uniform(0, 2 * np.pi, len(waves)))).sum(axis=1)
    if collection == "green":
        corners = np.empty(0)
    elif collection == "red":
        first = rng.uniform(0, 2 * np.pi)
        number = rng.choice([1, 2, 3], p=[0.4, 0.42, 0.18])
        corners = first + np.array([0, np.pi, 1.7])[:number] + rng.normal(0, 0.35, number)
    else:
        corners = np.cumsum(rng.uniform(1.4, 2.6, rng.choice([0, 1, 2, 3], p=[0.3, 0.35, 0.25, 0.1]))) + rng.uniform(
            0, 2 * np.pi
        )
    height, sharpness = {"green": (0.0, 1.0), "red": (0.28, 5.0), "yellow": (0.4, 6.0)}[collection]
    for corner in corners:
        radii += height * rng.uniform(0.3, 1.3) * np.exp(sharpness * (np.cos(_ANGLES - corner) - 1))
    return np.maximum(radii, 0.3), np.asarray(corners, dtype=np.float64)


def _longest_axis(form: Form) -> int:
    """Index of the angle of the longest axis."""
    return int(np.argmax(np.ptp(form.points(_ANGLES) @ _DIRECTIONS, axis=0)))


def _stretched(form: Form, area: float, feret: float) -> Form | None:
    """Stretch a form to the area and the extension asked for; None where no stretching makes it that short."""
    unit = replace(form, stretch=(1.0, 1.0), bend=0.0).area
    even = np.sqrt(area / unit)

    def at(along: float) -> Form:
        return replace(form, stretch=(along, area / (along * unit)))

    tried = even * np.geomspace(0.75, 4.0, 12)
    extensions = np.array([at(along).feret for along in tried])
    # The extension falls and then rises with the stretch; what is wanted lies on the rising side.
    lowest = int(np.argmin(extensions))
    if not extensions[lowest] <= feret <= extensions[-1]:
        return None
    longer = lowest + int(np.argmax(extensions[lowest:] >= feret))
    low, high = tried[max(longer - 1, lowest)], tried[longer]
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).feret < feret else (low, middle)
    return at(float(high))
