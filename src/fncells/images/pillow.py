"""Pixels by way of Pillow."""

import threading
from typing import BinaryIO

import numpy as np
from PIL import Image

from fncells.images.picture import DamagedError, Pixels

__all__ = ["from_pillow"]

_lock = threading.Lock()


def from_pillow(file: BinaryIO, kind: str, notes: list[str], frame: int = 0) -> Pixels:
    """Decode with Pillow; sizes have been checked, so its own limit, a global one, is lifted and put back."""
    file.seek(0)
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image: Image.Image = Image.open(file, formats=(kind,))
            image.seek(frame)
            image.load()
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    mode = image.mode
    if mode in ("LA", "RGBA"):
        notes.append("the alpha channel was dropped")
        image = image.convert("L" if mode == "LA" else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("P", "PA", "CMYK", "YCbCr", "RGBX"):
        notes.append(f"the colours were converted from {'a palette' if mode[0] == 'P' else mode} to RGB")
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype.newbyteorder("=") == np.uint16:
        return pixels.astype(np.uint16)
    if pixels.dtype != np.uint8 or mode in ("LAB", "HSV"):
        message = f"a picture of {mode} values, where grey or RGB of 8 or 16 bit can be read"
        raise DamagedError(message)
    return pixels.astype(np.uint8)
