"""Random crops of annotated pictures, turned, zoomed and lit anew, and what the network is to answer for each.

Every crop has a number, and its content depends on the seed and that number alone: not on the order, the workers or what
was drawn before. Turning, flipping and zooming are one warp of picture and labels, so that nothing is interpolated twice and
the gap between touching cells, drawn last, is as wide in every crop.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
)
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from fncells.errors import InputError
from fncells.inference import normalise

__all__ = ["Augmentation", "CropSettings", "Crops", "Draws", "TrainingPicture", "target_and_weight"]

Array = NDArray[np.float32]
Stored = NDArray[np.integer | np.floating]

# Within this many pixels of two cells a background pixel is "between" them.
_BETWEEN_PX = 7


@dataclass(frozen=True)
class Augmentation:
    """How far crops may depart from the pictures; the defaults are the published ones (Clissa et al., FNC v2).

    Parameters
    ----------
    flips
        Mirror left and right, up and down, each half the time.
    quarter_turns
        Turn by 0, 90, 180 or 270 degrees.
    rotation_deg
        Turn further by up to this much, either way.
    zoom
        Least and greatest enlargement.
    diameter_px
        Where given, enlarge such that the typical cell of the picture gets a diameter drawn from this range,
        log-uniformly, within the limits of ``zoom``.
    lighting
        Greatest change of brightness and of contrast, as a share, each applied half the time.
    gamma, blur, noise, gradient, distractors
        Share of the crops with: another tone curve, a soft focus, grain, an uneven background, bright things that are no
        cells (fibres, spots, tissue edges).
    """

    flips: bool = True
    quarter_turns: bool = False
    rotation_deg: float = 15.0
    zoom: tuple[float, float] = (0.9, 1.1)
    diameter_px: tuple[float, float] | None = None
    lighting: float = 0.1
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    gradient: float = 0.0
    distractors: float = 0.0


@dataclass(frozen=True)
class CropSettings:
    """What crops are cut, and what the network is to answer.

    Parameters
    ----------
    size_px
        Height and width of a crop, a multiple of 8.
    normalisation
        As `fncells.inference.normalise` takes it, applied to the whole picture.
    on_cells
        Share of the crops that are laid around a cell, drawn by chance; the rest lie anywhere.
    gap_px
        Width of the background line that is cut between touching cells in the answer, at least; 0 cuts none.
    between_weight
        How much more than other pixels those between close cells count in the loss; 1 is the same.
    augmentation
        Changes to each crop; None leaves the pictures as they are.
    """

    size_px: int = 512
    normalisation: str = "rgb"
    on_cells: float = 0.0
    gap_px: int = 0
    between_weight: float = 1.0
    augmentation: Augmentation | None = field(default_factory=Augmentation)


class TrainingPicture:
    """A picture and its cells, held in memory as the network sees them.

    Parameters
    ----------
    name
        The picture's file name.
    pixels
        Shape (h, w) or (h, w, 3), uint8 or uint16.
    labels
        Shape (h, w), integer, 0 is background, every cell a value of its own.
    normalisation
        As `fncells.inference.normalise` takes it.

    Attributes
    ----------
    seen : NDArray
        Shape (h, w, 1) or (h, w, 3), unsigned; over its full scale it is the normalised picture.
    centres : NDArray[np.float32]
        Shape (n, 2), x and y of the centres of the cells.
    full_scale : int
        The greatest value that ``seen`` can have.
    diameter_px : float
        Median equivalent diameter of the cells in pixels; not a number where there is none.

    Raises
    ------
    InputError
        Where picture and labels differ in size, or the picture cannot be used.
    """

    def __init__(self, name: str, pixels: Stored, labels: NDArray[np.integer], normalisation: str = "rgb") -> None:
        if labels.shape != pixels.shape[:2]:
            expected = f"labels of {pixels.shape[1]}x{pixels.shape[0]}"
            raise InputError(name, expected=expected, found="x".join(str(side) for side in labels.shape[::-1]))
        self.name = name
        self.normalisation = normalisation
        self.seen = _held(normalise(pixels, normalisation), pixels.dtype == np.uint8 and normalisation == "rgb")
        self.full_scale = 255 if self.seen.dtype == np.uint8 else 65_535
        values, compact = np.unique(labels, return_inverse=True)
        first = 0 if values.size and values[0] == 0 else 1
        self.labels = (compact.reshape(labels.shape) + first).astype(np.uint16 if values.size < 65_535 else np.float32)
        counts = np.bincount(compact.ravel())[1 - first :]
        rows, columns = np.indices(labels.shape, dtype=np.float32)
        sums = [np.bincount(compact.ravel(), plane.ravel())[1 - first :] for plane in (columns, rows)]
        self.centres = np.stack([total / counts for total in sums], axis=1).astype(np.float32)
        self.diameter_px = float(np.median(np.sqrt(counts * (4 / np.pi)))) if counts.size else float("nan")


def _held(seen: Array, exact_in_8_bits: bool) -> Stored:
    grey = bool((seen[..., :1] == seen).all())
    kept = seen[..., :1] if grey else seen
    scale, kind = (255, np.uint8) if exact_in_8_bits else (65_535, np.uint16)
    return np.asarray(np.rint(kept * np.float32(scale)), kind)


class Crops(Dataset[dict[str, torch.Tensor]]):
    """Crops by number.

    Parameters
    ----------
    pictures
        What to cut from.
    settings
        How to cut.
    seed
        Another seed gives other crops.
    weights
        How often each picture is taken, in relation to the others; None takes one after the other.

    Notes
    -----
    An item is a dict of float32 tensors: ``picture`` (3, size, size), values 0 to 1; ``target`` (1, size, size), 1 in
    cells; ``weight`` (1, size, size), what each pixel counts in the loss.
    """

    def __init__(
        self,
        pictures: Sequence[TrainingPicture],
        settings: CropSettings,
        seed: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not pictures:
            raise InputError(None, expected="annotated pictures to train on", found="none")
        self.pictures = pictures
        self.settings = settings
        self.seed = seed
        self._share = None if weights is None else np.cumsum(weights) / np.sum(weights)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        """Cut the crop of this number; there is no end to them."""
        random = np.random.default_rng([self.seed, number])
        chosen = number % len(self.pictures)
        if self._share is not None:
            chosen = int(np.searchsorted(self._share, random.random(), side="right"))
        picture = self.pictures[chosen]
        seen, labels = _cut(picture, self.settings, random)
        target, weight = target_and_weight(labels, self.settings.gap_px, self.settings.between_weight)
        if self.settings.augmentation is not None:
            seen = _relight(seen, self.settings.augmentation, random)
        channels = np.broadcast_to(seen.transpose(2, 0, 1), (3, *seen.shape[:2]))
        return {
            "picture": torch.from_numpy(np.array(channels, order="C")),
            "target": torch.from_numpy(target[np.newaxis]),
            "weight": torch.from_numpy(weight[np.newaxis]),
        }


class Draws(Sampler[int]):
    """The numbers of the crops of one epoch.

    Parameters
    ----------
    count
        How many an epoch takes.
    seed
        Another seed gives another order.
    fixed
        Every epoch takes the same, in order; else each goes on where the one before ended, and mixes its own.
    """

    def __init__(self, count: int, seed: int, *, fixed: bool = False) -> None:
        self.count = count
        self.seed = seed
        self.fixed = fixed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch is next, from 0 (Lightning calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        if self.fixed:
            return iter(range(self.count))
        first = self.epoch * self.count
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        return iter((first + order).tolist())


# --- where a crop lies


def _cut(picture: TrainingPicture, settings: CropSettings, random: np.random.Generator) -> tuple[Array, Stored]:
    """Picture (size, size, channels) in 0..1 and labels (size, size) of one crop."""
    size = settings.size_px
    linear = np.eye(2) if settings.augmentation is None else _turn_and_zoom(picture, settings.augmentation, random)
    height, width = picture.labels.shape
    corners = np.abs(linear) @ np.array([size, size]) / 2
    centre = [_place(side, reach, random) for side, reach in zip((width, height), corners, strict=True)]
    if picture.centres.size and random.random() < settings.on_cells:
        centre = list(random.choice(picture.centres) + linear @ random.uniform(-size / 3, size / 3, 2))
    # Whole steps from pixel to pixel where nothing is turned or zoomed: the crop is then the picture itself.
    offset = np.rint(np.asarray(centre) - linear @ np.full(2, (size - 1) / 2))
    return _warp(picture, np.column_stack([linear, offset]), size)


def _place(side: int, reach: float, random: np.random.Generator) -> float:
    """Centre of a crop that stays inside the picture, or lies in its middle where it is larger."""
    edge = float(random.uniform(reach, side - reach)) if side > 2 * reach else side / 2
    return edge - 0.5  # counted from the centre of the first pixel, not from its edge


def _turn_and_zoom(
    picture: TrainingPicture, augmentation: Augmentation, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the 2x2 matrix from crop steps to picture steps."""
    zoom_log = np.log(augmentation.zoom)
    zoom = np.exp(random.uniform(*zoom_log))
    if augmentation.diameter_px is not None and np.isfinite(picture.diameter_px):
        wanted = np.exp(random.uniform(*np.log(augmentation.diameter_px)))
        zoom = np.clip(wanted / picture.diameter_px, *augmentation.zoom)
    angle = np.deg2rad(random.uniform(-augmentation.rotation_deg, augmentation.rotation_deg))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    if augmentation.quarter_turns:
        turn = turn @ np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), int(random.integers(4)))
    if augmentation.flips:
        turn = turn @ np.diag(random.choice([-1, 1], 2))
    return np.asarray(turn, np.float64)


def _warp(picture: TrainingPicture, matrix: NDArray[np.float64], size: int) -> tuple[Array, Stored]:
    """Sample picture and labels where the 2x3 matrix sends the pixels of the crop; beyond the border it mirrors."""
    steps = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    seen = picture.seen
    if steps > 1.2:  # several pixels become one: without a soft focus first, grain would turn into pattern
        matrix, seen, labels = _around(picture, matrix, size)
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), 0.45 * steps))
    else:
        labels = picture.labels
    border = cv2.BORDER_REFLECT_101
    flags = cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(seen, matrix, (size, size), flags=flags | cv2.INTER_LINEAR, borderMode=border)
    numbers = cv2.warpAffine(labels, matrix, (size, size), flags=flags | cv2.INTER_NEAREST, borderMode=border)
    return warped.reshape(size, size, -1).astype(np.float32) / np.float32(picture.full_scale), numbers


def _around(
    picture: TrainingPicture, matrix: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], Stored, Stored]:
    """Cut out what a crop sees of the picture, and count the matrix from its corner."""
    corners = matrix[:, :2] @ np.array([[0, size, 0, size], [0, 0, size, size]]) + matrix[:, 2:]
    height, width = picture.labels.shape
    low = np.floor(corners.min(axis=1)).astype(int) - 8
    high = np.ceil(corners.max(axis=1)).astype(int) + 9
    if low.min() < 0 or high[0] > width or high[1] > height:  # mirrored parts need the whole
        return matrix, picture.seen, picture.labels
    part = (slice(low[1], high[1]), slice(low[0], high[0]))
    return matrix - np.column_stack([np.zeros((2, 2)), low]), picture.seen[part], picture.labels[part]


# --- what the network is to answer


def target_and_weight(labels: Stored, gap_px: int, between_weight: float) -> tuple[Array, Array]:
    """Tell what the network is to answer, and what each pixel counts.

    Parameters
    ----------
    labels
        Shape (h, w), 0 is background, every cell a value of its own.
    gap_px
        Least width of the background line cut between touching cells: half of it, rounded up, from either side.
    between_weight
        Weight of background pixels that have two cells within 3 pixels; all others have 1.

    Returns
    -------
    tuple of NDArray[np.float32]
        Target, 1 in cells and 0 elsewhere, and weight, both (h, w).
    """
    numbers = labels.astype(np.float32)
    target = (numbers > 0).astype(np.float32)
    if gap_px > 0:
        target[_sees_two(numbers, 2 * ((gap_px + 1) // 2) + 1)] = 0
    weight = np.ones_like(target)
    if between_weight != 1:
        weight[_sees_two(numbers, _BETWEEN_PX) & (target == 0)] = between_weight
    return target, weight


def _sees_two(numbers: Array, window: int) -> NDArray[np.bool_]:
    """Where a square window around a pixel holds two different cells."""
    square = np.ones((window, window), np.uint8)
    highest = cv2.dilate(numbers, square)
    lowest = cv2.erode(np.where(numbers > 0, numbers, np.float32(np.inf)).astype(np.float32), square)
    return np.asarray((highest > 0) & (highest != lowest))


# --- light


def _relight(seen: Array, augmentation: Augmentation, random: np.random.Generator) -> Array:
    if random.random() < augmentation.gradient:
        seen = seen + _uneven_background(seen.shape[:2], random)
    if random.random() < augmentation.distractors:
        seen = seen + _distractors(seen.shape[:2], random)
    lighting = _lighting(augmentation)
    lighting.set_random_state(int(random.integers(2**31)))
    channels_first = torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1)))
    lit = np.asarray(lighting(channels_first)).transpose(1, 2, 0)
    return np.asarray(np.clip(lit, 0, 1), np.float32)


@lru_cache
def _lighting(augmentation: Augmentation) -> Compose:
    brightness = RandScaleIntensity(factors=augmentation.lighting, prob=0.5)
    contrast = RandScaleIntensityFixedMean(factors=augmentation.lighting, prob=0.5)
    gamma = RandAdjustContrast(prob=augmentation.gamma, gamma=(0.5, 1.8))
    blur = RandGaussianSmooth(sigma_x=(0.4, 1.6), sigma_y=(0.4, 1.6), prob=augmentation.blur)
    noise = RandGaussianNoise(prob=augmentation.noise, std=0.08)
    return Compose([gamma, brightness, contrast, blur, noise])


def _uneven_background(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """Light that rises and falls over the crop, up to 0.35 of the scale."""
    coarse = random.random((3, 3), np.float32) * np.float32(random.uniform(0.05, 0.35))
    smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth[..., np.newaxis], np.float32)


def _distractors(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """Bright things that are no cells."""
    draw = (_fibres, _spots, _tissue_edge)[int(random.integers(3))]
    return draw(shape, random)[..., np.newaxis]


def _fibres(shape: tuple[int, int], random: np.random.Generator) -> Array:
    drawn = np.zeros(shape, np.float32)
    for _ in range(int(random.integers(1, 6))):
        start = random.uniform(0, shape[::-1])
        path = start + np.cumsum(np.cumsum(random.normal(0, 4, (40, 2)), axis=0) * 0.3, axis=0)
        points = [np.rint(path).astype(np.int32)]
        brightness, thickness = float(random.uniform(0.3, 1)), int(random.integers(1, 4))
        cv2.polylines(drawn, points, isClosed=False, color=brightness, thickness=thickness)
    return _soft(drawn, float(random.uniform(0.6, 2)))


def _spots(shape: tuple[int, int], random: np.random.Generator) -> Array:
    drawn = np.zeros(shape, np.float32)
    for _ in range(int(random.integers(3, 25))):
        x, y = (int(random.integers(side)) for side in shape[::-1])
        cv2.circle(drawn, (x, y), int(random.integers(3)), float(random.uniform(0.4, 1)), thickness=-1)
    return _soft(drawn, 0.7)


def _tissue_edge(shape: tuple[int, int], random: np.random.Generator) -> Array:
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.indices(shape)
    x, y = random.uniform(0, shape[::-1])
    beyond = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    steps = np.clip(beyond / random.uniform(4, 40), -30, 30)
    return np.asarray(random.uniform(0.2, 0.6) / (1 + np.exp(steps)), np.float32)


def _soft(drawn: Array, sigma: float) -> Array:
    return np.asarray(cv2.GaussianBlur(drawn, (0, 0), sigma), np.float32)
