"""Pixels for the eye."""

import numpy as np
from numpy.typing import NDArray

from fncells.images.picture import Pixels

__all__ = ["display_rgb"]


def display_rgb(pixels: Pixels) -> NDArray[np.uint8]:
    """Make pixels visible: RGB of 8 bit for overlays and reports, never for measuring.

    RGB of 8 bit stays as it is. Pictures of 16 bit, and grey ones whose brightest thousandth is below half of the range, are
    stretched linearly from their darkest to their brightest thousandth, all channels alike, so that the hue stays.

    Parameters
    ----------
    pixels
        uint8 or uint16, shape (height, width) or (height, width, 3).

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3).
    """
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return pixels.astype(np.uint8, copy=False)
    levels = np.iinfo(pixels.dtype).max + 1
    ranks = np.cumsum(np.bincount(pixels.ravel(), minlength=levels)) / max(pixels.size, 1)
    low, high = (int(np.searchsorted(ranks, share)) for share in (0.001, 0.999))
    if pixels.dtype == np.uint8 and high >= levels // 2:
        low, high = 0, 255
    elif high <= low:
        low, high = 0, levels - 1
    steps = (np.arange(levels) - low) * (255 / (high - low))
    shown = np.clip(np.rint(steps), 0, 255).astype(np.uint8)[pixels]
    return shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)
