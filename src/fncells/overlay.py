"""Cells drawn upon their picture, for people to look at.

Outlines keep apart from the hues of the stains (green, red, yellow) and from each other for every kind of colour vision; the
colours are those of Okabe and Ito.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.cells import AnnotatedImage, Cell
from fncells.images import display_rgb

__all__ = ["FOUND", "MISSED", "WRONG", "Colour", "comparison", "overlay", "shrunk"]

Colour = tuple[int, int, int]

FOUND: Colour = (86, 180, 233)
"""Sky blue: a cell that was found, and every cell where there is nothing to compare with."""
WRONG: Colour = (240, 110, 20)
"""Vermilion, lightened to be seen on black: a found cell that is none."""
MISSED: Colour = (255, 255, 255)
"""White: a cell that was not found."""

_SUBPIXEL_BITS = 4
_LARGEST_ENLARGEMENT = 4


class _Layer(NamedTuple):
    """Cells to draw in one go, with a colour each."""

    image: AnnotatedImage
    colours: Sequence[Colour]


def overlay(
    pixels: NDArray[Any],
    image: AnnotatedImage,
    *,
    side: int = 1600,
    numbers: bool = True,
    colours: Sequence[Colour] | None = None,
) -> NDArray[np.uint8]:
    """Draw the outlines of cells and their numbers upon a picture.

    Parameters
    ----------
    pixels
        The picture, shape (h, w) or (h, w, 3), uint8 or uint16; it is brightened for the eye where that is needed.
    image
        The cells, in pixels of that picture. Dots are drawn as small rings.
    side
        Longest side of the result in pixels. Larger pictures are shrunk; of small ones each pixel is enlarged up to four
        times, so that lines and numbers do not cover the cells.
    numbers
        Whether the cells' numbers are written beside them.
    colours
        One for each cell; all are sky blue otherwise.

    Returns
    -------
    numpy.ndarray
        uint8 RGB, shape (height, width, 3).
    """
    return _drawn(pixels, [_Layer(image, colours or [FOUND] * len(image.cells))], side, numbers)


def comparison(
    pixels: NDArray[Any],
    truth: AnnotatedImage,
    prediction: AnnotatedImage,
    pairs: Sequence[tuple[int, int]],
    *,
    side: int = 1600,
) -> NDArray[np.uint8]:
    """Draw which cells were found, which were missed and which are none.

    Parameters
    ----------
    pixels
        The picture, as in :func:`overlay`.
    truth, prediction
        Both sides' cells, in pixels of that picture.
    pairs
        Matched cells as positions in ``truth`` and in ``prediction``.
    side
        Longest side of the result in pixels.

    Returns
    -------
    numpy.ndarray
        uint8 RGB: found cells sky blue and wrong ones vermilion, as predicted; missed ones white, as in the truth.
    """
    found_true = {true for true, _ in pairs}
    found_predicted = {predicted for _, predicted in pairs}
    missed = tuple(cell for position, cell in enumerate(truth.cells) if position not in found_true)
    colours = [FOUND if position in found_predicted else WRONG for position in range(len(prediction.cells))]
    layers = [
        _Layer(prediction, colours),
        _Layer(AnnotatedImage(truth.name, truth.shape, missed), [MISSED] * len(missed)),
    ]
    return _drawn(pixels, layers, side, numbers=False)


def shrunk(pixels: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Shrink a picture to a width in pixels, keeping its proportions; smaller pictures stay as they are."""
    if pixels.shape[1] <= width:
        return pixels
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _drawn(pixels: NDArray[Any], layers: Sequence[_Layer], side: int, numbers: bool) -> NDArray[np.uint8]:
    canvas, scale = _canvas(display_rgb(pixels), side)
    for layer in layers:
        for cell, colour in zip(layer.image.cells, layer.colours, strict=True):
            _outline(canvas, cell, colour, scale)
    # All lines first: a number stays legible on top of its neighbours' outlines.
    if numbers:
        for layer in layers:
            for number, box in zip(layer.image.numbers, layer.image.boxes, strict=True):
                _number(canvas, str(number), (box[2], box[1]), scale)
    return canvas


def _canvas(rgb: NDArray[np.uint8], side: int) -> tuple[NDArray[np.uint8], float]:
    longest = max(rgb.shape[:2])
    if longest > side:
        scale = side / longest
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), scale
    times = max(1, min(_LARGEST_ENLARGEMENT, side // longest))
    return np.ascontiguousarray(rgb.repeat(times, axis=0).repeat(times, axis=1)), float(times)


def _scaled(points: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Pixel centres are whole numbers, so the picture's corner, (-0.5, -0.5), is the point that stays."""
    return (points + 0.5) * scale - 0.5


def _outline(canvas: NDArray[np.uint8], cell: Cell, colour: Colour, scale: float) -> None:
    rings = [np.round(_scaled(ring, scale) * 2**_SUBPIXEL_BITS).astype(np.int32) for ring in cell.rings]
    thickness = 1 if scale < 2 else 2
    if cell.is_dot:
        for ring in rings:
            x, y = (int(value) for value in ring[0])
            cv2.circle(canvas, (x, y), 5 << _SUBPIXEL_BITS, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    else:
        cv2.polylines(canvas, rings, True, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _number(canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], scale: float) -> None:
    """Write beside the upper right corner of a cell's box, or further left where the picture ends."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    x, y = _scaled(np.array(corner, dtype=np.float64), scale)
    left = int(np.clip(round(x) + 3, 1, max(1, canvas.shape[1] - width - 2)))
    base = int(np.clip(round(y) + height // 2, height + 1, max(height + 1, canvas.shape[0] - 3)))
    # A dark rim keeps the white digits legible on bright cells, whatever the font's weight.
    for across, down in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        cv2.putText(canvas, text, (left + across, base + down), font, size, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, text, (left, base), font, size, (255, 255, 255), 1, cv2.LINE_AA)
