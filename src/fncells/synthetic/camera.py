"""What a camera makes of the light: bent brights, dark corners, noise, the chip's bad pixels, 8 bits."""

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.synthetic.looks import Look
from fncells.synthetic.tissue import Gray

__all__ = ["photograph"]

# Pixels of the chip that always glow: shares of width and height, how much, and in which channels.
_HOT = (
    (0.9894, 0.4333, 190.0, (1, 1, 1)),
    (0.1744, 0.8075, 120.0, (1, 1, 1)),
    (0.2431, 0.8069, 90.0, (0.2, 0.3, 1)),
    (0.6031, 0.1406, 120.0, (0, 0.1, 1)),
    (0.2370, 0.2740, 150.0, (0, 0.1, 1)),
    (0.3390, 0.5740, 60.0, (0, 0.1, 1)),
)


def photograph(signal: Gray, look: Look, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take a picture of the light.

    Parameters
    ----------
    signal
        Light in grey levels of the main channel, shape (height, width).
    look
        Colour, noise and ceiling.
    rng
        Source of chance.

    Returns
    -------
    numpy.ndarray
        uint8 RGB, shape (height, width, 3).
    """
    height, width = signal.shape
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    fall = np.float32(rng.uniform(0.05, 0.18) / 2)
    signal = signal * (1 - fall * (np.square(x)[None] + np.square(y)[:, None])) - np.float32(look.black)
    if look.ceiling < 255:
        # Straight at first, then bent, never above.
        np.maximum(signal, 0, out=signal)
        signal = signal / np.power(1 + np.power(signal / np.float32(look.ceiling), np.float32(4)), np.float32(0.25))
    noise = np.sqrt(np.float32(look.read) + np.float32(look.shot) * np.maximum(signal, 0))
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for channel, share in enumerate(look.colour):
        # The chip's colour filter makes two of three values guesses from their neighbours: their noise is smooth.
        grain = rng.standard_normal((height, width), dtype=np.float32)
        grain = cv2.GaussianBlur(grain, (3, 3), 0.65) * np.float32(1.75)
        if share:
            offset = -1.6 if 0.5 < share < 1 else 0.0
            level = signal * np.float32(share) + np.float32(offset) + grain * (noise if share > 0.5 else noise * 0.45)
        else:
            level = grain * np.float32(0.6) - np.float32(0.3)
        np.clip(np.rint(level, out=level), 0, 255, out=level)
        pixels[..., channel] = level
    for x_share, y_share, strength, channels in _HOT:
        spot = pixels[int(y_share * height), int(x_share * width)]
        spot[:] = np.minimum(spot + np.float32(strength) * np.array(channels, dtype=np.float32), 255)
    return pixels
