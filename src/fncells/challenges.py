"""How hard a picture is, by the challenges that the paper names (Clissa et al., FNC v2, "Challenges" and figure 5).

Few pixels of cells, cells close to each other, faint cells, light that varies from cell to cell, a background of the cells'
hue, and bright things that are no cells: each is measured, with the formulas in ``docs/measures.md``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage
from fncells.measure import measure_cells, measure_labels

__all__ = [
    "CHALLENGES",
    "Challenge",
    "PictureChallenges",
    "as_rows",
    "difficulties",
    "hue_shifts",
    "picture_challenges",
]

Numbers = NDArray[np.float64]

_CLOSE_PX = 3
_FAINT = 3.0  # noises above the background; weaker ones the eye finds only where it looks for them
_BRIGHT = 0.5  # of the typical cell's height above its background, for what may be taken for one
_STANDS_OUT = 6.0  # noises above the background, at least
_AROUND_PX = 5  # light spreads a little beyond the cells
_POINT = 0.1  # of the typical cell's area, at most
_SMALLEST_PX2 = 4
_THREAD = 4.0  # times as long as wide
_STRIPE = 0.25  # of the picture's side
_SIGMA_OF_MAD = 1.4826
_DULL = 0.05  # saturation below which a hue means nothing


@dataclass(frozen=True)
class PictureChallenges:
    """The challenges of one picture; None where there is nothing to measure, as hues in a grey picture.

    Attributes
    ----------
    collection, picture
        Which picture.
    n_cells
        Number of cells.
    background_per_signal
        Class imbalance: pixels of background for each pixel of a cell.
    neighbour_distance_px, neighbour_diameters
        Crowding: median distance of the cells' centres to the nearest other one, in pixels, and in diameters of the median
        cell.
    close_percent
        Crowding: share of the cells that have another within 3 px.
    contrast_to_noise
        Median over the cells of how far they are above the background around them, in standard deviations of its noise.
    contrast_spread
        Interquartile range of the cells' contrasts over their median.
    faint_percent
        Share of the cells that are less than 3 standard deviations above their background.
    saturation_spread
        Standard deviation of the cells' mean colour saturation (HSV), 0 to 1.
    background_hue_deg
        Mean hue of the background.
    hue_difference_deg
        Between the cells' mean hue and that of the background, 0 to 180: the smaller, the less the hue tells them apart.
    artefact_points, artefact_filaments, artefact_stripes
        Candidates of artefacts: spots, threads and large structures that are at least half as bright as the median cell and no
        annotated cells.
    ambiguous_objects
        Such things of the size of a cell.
    cell_brightness, cell_diameter_px
        Of the median cell: above its background, in grey levels of the brightest channel, and in pixels.
    """

    collection: str
    picture: str
    n_cells: int
    background_per_signal: float | None
    neighbour_distance_px: float | None
    neighbour_diameters: float | None
    close_percent: float | None
    contrast_to_noise: float | None
    contrast_spread: float | None
    faint_percent: float | None
    saturation_spread: float | None
    background_hue_deg: float | None
    hue_difference_deg: float | None
    artefact_points: int | None
    artefact_filaments: int | None
    artefact_stripes: int | None
    ambiguous_objects: int | None
    cell_brightness: float | None
    cell_diameter_px: float | None

    @property
    def artefacts(self) -> int | None:
        """All candidates of artefacts and doubtful objects."""
        found = (self.artefact_points, self.artefact_filaments, self.artefact_stripes, self.ambiguous_objects)
        known = [number for number in found if number is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class Challenge:
    """One way in which a picture can be hard.

    Attributes
    ----------
    title
        As people are told.
    measure
        Attribute of `PictureChallenges`.
    hard
        Which values are hard.
    unit
        What follows the value.
    """

    title: str
    measure: str
    hard: Literal["high", "low"]
    unit: str

    def hardness(self, picture: PictureChallenges) -> float | None:
        """Give a value that grows with how hard the picture is; None where it cannot be told."""
        value = getattr(picture, self.measure)
        return None if value is None else float(value) if self.hard == "high" else -float(value)

    def told(self, picture: PictureChallenges) -> str:
        """Tell the value in words."""
        value = getattr(picture, self.measure)
        return f"{self.title}: " + ("unknown" if value is None else f"{_figure(value)}{self.unit}")


CHALLENGES = (
    Challenge("class imbalance", "background_per_signal", "high", " background pixels for each of a cell"),
    Challenge("crowding", "close_percent", "high", " % of the cells have another within 3 px"),
    Challenge("close neighbours", "neighbour_diameters", "low", " cell diameters to the nearest neighbour"),
    Challenge("low contrast", "contrast_to_noise", "low", " noises above the background"),
    Challenge("uneven contrast", "contrast_spread", "high", " interquartile range over median of the contrast"),
    Challenge("uneven saturation", "saturation_spread", "high", " standard deviation of the cells' saturation"),
    Challenge("background of the cells' hue", "hue_difference_deg", "low", "° between both hues"),
    Challenge("artefacts", "artefacts", "high", " bright objects that are no annotated cells"),
)
"""What is ranked, in the order of the paper."""


def picture_challenges(
    image: AnnotatedImage,
    pixels: NDArray[Any],
    collection: str = "",
    yardstick: tuple[float, float] | None = None,
) -> PictureChallenges:
    """Measure how hard a picture is.

    Parameters
    ----------
    image
        Its annotated cells.
    pixels
        The picture, shape (h, w) or (h, w, 3), uint8 or uint16.
    collection
        Where it belongs.
    yardstick
        Brightness and diameter in pixels of a typical cell, to tell artefacts in a picture that has no cells; without it their
        numbers are None there.

    Returns
    -------
    PictureChallenges

    Raises
    ------
    InputError
        If picture and annotations differ in shape.
    """
    brightness = _brightness(pixels)
    table = measure_cells(image, None, brightness)
    outside = _far_from_cells(image.mask)
    noise = _noise(brightness, outside)
    heights = _finite(table["intensity_mean_corrected"])
    contrast = heights / noise if noise else np.empty(0)
    signal = int(np.count_nonzero(image.mask))
    diameter, height = _median(_finite(table["equivalent_diameter_px"])), _median(heights)
    if diameter is not None and height is not None:
        yardstick = height, diameter
    distance = _nearest(np.stack([table["x_px"], table["y_px"]], axis=1))
    return PictureChallenges(
        collection=collection,
        picture=image.name,
        n_cells=len(image.cells),
        background_per_signal=(image.mask.size - signal) / signal if signal else None,
        neighbour_distance_px=distance,
        neighbour_diameters=distance / diameter if distance is not None and diameter else None,
        close_percent=_close_percent(image),
        contrast_to_noise=_median(contrast),
        contrast_spread=_spread(contrast),
        faint_percent=100 * float(np.mean(contrast < _FAINT)) if len(contrast) else None,
        **_colours(image, pixels, outside),
        **_bright_objects(brightness, outside, noise, yardstick),
        cell_brightness=height,
        cell_diameter_px=diameter,
    )


def difficulties(pictures: Sequence[PictureChallenges]) -> list[float]:
    """Rank pictures among those of their collection: 0 for the easiest, 1 for the hardest.

    Parameters
    ----------
    pictures
        All that are compared.

    Returns
    -------
    list of float
        For each picture the mean of its ranks in all challenges, from 0 to 1; ties share their mean rank, and what cannot be
        measured in a picture ranks in the middle, as does all where there is nothing to compare with.
    """
    total, count = np.zeros(len(pictures)), np.zeros(len(pictures))
    for collection in sorted({one.collection for one in pictures}):
        members = [place for place, one in enumerate(pictures) if one.collection == collection]
        for challenge in CHALLENGES:
            known = [(place, challenge.hardness(pictures[place])) for place in members]
            values = np.sort([value for _, value in known if value is not None])
            if len(values) < 2:
                continue
            for place, value in known:
                # Unknown is neither easy nor hard.
                rank = 0.5
                if value is not None:
                    below, up_to = np.searchsorted(values, value), np.searchsorted(values, value, side="right")
                    rank = (below + up_to - 1) / 2 / (len(values) - 1)
                total[place] += rank
                count[place] += 1
    return [float(one) for one in np.where(count > 0, total / np.maximum(count, 1), 0.5)]


def hue_shifts(pictures: Sequence[PictureChallenges]) -> list[float | None]:
    """Tell how far the background's hue is from the mean one of its collection, in degrees, 0 to 180; None in grey pictures."""
    angles: dict[str, list[float]] = {}
    for one in pictures:
        if one.background_hue_deg is not None:
            angles.setdefault(one.collection, []).append(math.radians(one.background_hue_deg))
    means = {
        name: math.degrees(math.atan2(sum(map(math.sin, hues)), sum(map(math.cos, hues))))
        for name, hues in angles.items()
    }
    return [
        None
        if one.background_hue_deg is None
        else abs((one.background_hue_deg - means[one.collection] + 180) % 360 - 180)
        for one in pictures
    ]


def as_rows(pictures: Sequence[PictureChallenges], hardness: Sequence[float]) -> list[Mapping[str, object]]:
    """Give the measures of pictures as rows of a table, with the shift of their hue and their difficulty.

    Parameters
    ----------
    pictures
        All that are compared.
    hardness
        What :func:`difficulties` gives for them.
    """
    return [
        {field.name: getattr(one, field.name) for field in fields(one)}
        | {"artefacts": one.artefacts, "hue_shift_deg": shift, "difficulty": value}
        for one, shift, value in zip(pictures, hue_shifts(pictures), hardness, strict=True)
    ]


def _figure(value: float) -> str:
    """Write a number for people, without powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 0.01 else "0"


# ------------------------------------------------------------------------------------------------------------------ light


def _brightness(pixels: NDArray[Any]) -> NDArray[np.uint16]:
    grey = (
        pixels if pixels.ndim == 2 else np.maximum.reduce([pixels[..., channel] for channel in range(pixels.shape[2])])
    )
    return np.asarray(grey, dtype=np.uint16)


def _far_from_cells(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not mask.size:
        return ~mask
    spread = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _AROUND_PX + 1, 2 * _AROUND_PX + 1))
    return np.asarray(cv2.dilate(mask.view(np.uint8), spread) == 0)


def _noise(brightness: NDArray[np.uint16], outside: NDArray[np.bool_]) -> float:
    """Estimate the standard deviation of the background from pixel to pixel, whatever slow light lies under it."""
    if min(brightness.shape) < 2:
        return 0.0
    # Neighbours have the same slow light, and their difference twice the variance.
    step = np.abs(np.diff(brightness.astype(np.int32), axis=1))[outside[:, 1:] & outside[:, :-1]]
    if not len(step):
        return 0.0
    # Dim pictures have few grey levels: half a level is the least that quantising leaves.
    return max(_SIGMA_OF_MAD * float(np.median(step)) / math.sqrt(2), 0.5)


def _spread(contrast: Numbers) -> float | None:
    if len(contrast) < 2 or np.median(contrast) <= 0:
        return None
    low, middle, high = (float(np.percentile(contrast, share)) for share in (25, 50, 75))
    return (high - low) / middle


def _finite(values: Numbers) -> Numbers:
    return values[np.isfinite(values)]


def _median(values: Numbers) -> float | None:
    return float(np.median(values)) if len(values) else None


def _colours(image: AnnotatedImage, pixels: NDArray[Any], outside: NDArray[np.bool_]) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(("saturation_spread", "background_hue_deg", "hue_difference_deg"))
    if pixels.ndim == 2 or not pixels.size:
        return nothing
    scaled = pixels.astype(np.float32) / float(np.iinfo(pixels.dtype).max)
    hue, saturation, value = cv2.split(cv2.cvtColor(scaled, cv2.COLOR_RGB2HSV))
    own = [float(saturation.ravel()[cell].mean()) for cell in image.pixels if len(cell)]
    weight = np.where(saturation > _DULL, saturation * value, 0)
    cells, background = (_mean_hue(hue, weight, where) for where in (image.mask, outside))
    apart = None
    if cells is not None and background is not None:
        apart = abs((cells - background + 180) % 360 - 180)
    spread = float(np.std(own)) if len(own) > 1 else None
    return {"saturation_spread": spread, "background_hue_deg": background, "hue_difference_deg": apart}


def _mean_hue(hue: NDArray[Any], weight: NDArray[Any], where: NDArray[np.bool_]) -> float | None:
    """Direction of the mean colour, as hues run in a circle; None where all is grey."""
    angle, own = np.radians(hue[where], dtype=np.float64), weight[where].astype(np.float64)
    if not own.any():
        return None
    # Sums, and no products of vectors, whose last digit depends on the number of threads.
    y, x = float(np.sum(own * np.sin(angle))), float(np.sum(own * np.cos(angle)))
    return math.degrees(math.atan2(y, x)) % 360


# ------------------------------------------------------------------------------------------------------------------ places


def _nearest(centres: Numbers) -> float | None:
    from scipy.spatial import cKDTree

    known = centres[np.isfinite(centres).all(axis=1)]
    if len(known) < 2:
        return None
    distances = np.asarray(cKDTree(known).query(known, k=2)[0])
    return float(np.median(distances[:, 1]))


def _close_percent(image: AnnotatedImage) -> float | None:
    """Share of the cells with pixels of another within a few pixels."""
    number = int(np.count_nonzero(image.areas))
    if not number:
        return None
    labels = image.labels
    compact = np.zeros(int(labels.max()) + 1, dtype=np.float32)
    visible = np.unique(labels[labels > 0])
    compact[visible] = np.arange(1, len(visible) + 1)
    ranks = compact[labels]
    around = np.ones((2 * _CLOSE_PX + 1, 2 * _CLOSE_PX + 1), dtype=np.uint8)
    highest = cv2.dilate(ranks, around)
    lowest = len(visible) + 1 - cv2.dilate(np.where(ranks > 0, len(visible) + 1 - ranks, 0), around)
    own = labels > 0
    close = np.unique(labels[own & ((highest != ranks) | (lowest != ranks))])
    return 100 * len(close) / number


def _bright_objects(
    brightness: NDArray[np.uint16], outside: NDArray[np.bool_], noise: float, yardstick: tuple[float, float] | None
) -> dict[str, Any]:
    """Count what is as bright as cells and no annotated cell, by its shape."""
    found: dict[str, Any] = dict.fromkeys(
        ("artefact_points", "artefact_filaments", "artefact_stripes", "ambiguous_objects")
    )
    if yardstick is None or not noise or not outside.any():
        return found
    height, typical = yardstick
    area = math.pi / 4 * typical**2
    smooth = cv2.GaussianBlur(brightness.astype(np.float32), (0, 0), 1.0)
    # The slow light beneath is taken where cells and what is as small as they do not matter: by a wide opening of a small copy.
    slow = _slow_light(smooth, typical)
    bright = (smooth - slow > max(_BRIGHT * height, _STANDS_OUT * noise)) & outside
    table = measure_labels(bright)
    areas, major, minor = table["area_px2"], table["major_axis_px"], table["minor_axis_px"]
    seen = areas >= _SMALLEST_PX2
    stripe = seen & (table["feret_max_px"] >= _STRIPE * min(brightness.shape))
    thread = seen & ~stripe & (major >= typical) & (major >= _THREAD * np.maximum(minor, 1))
    point = seen & ~stripe & ~thread & (areas <= _POINT * area)
    alike = seen & ~stripe & ~thread & (areas >= area / 3)
    for name, which in zip(found, (point, thread, stripe, alike), strict=True):
        found[name] = int(np.count_nonzero(which))
    return found


def _slow_light(smooth: NDArray[Any], typical: float) -> NDArray[Any]:
    height, width = smooth.shape
    step = max(1, int(typical // 4))
    small = cv2.resize(smooth, (max(1, width // step), max(1, height // step)), interpolation=cv2.INTER_AREA)
    size = 2 * max(2, round(2 * typical / step)) + 1
    opened = cv2.morphologyEx(small, cv2.MORPH_OPEN, np.ones((size, size), np.uint8))
    return np.asarray(
        cv2.resize(cv2.GaussianBlur(opened, (0, 0), size / 4), (width, height), interpolation=cv2.INTER_LINEAR)
    )
