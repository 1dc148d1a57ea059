"""Pictures to heat maps with onnxruntime: how bright every pixel glows with the model's belief in a cell.

A picture goes in as the microscope made it; `normalise` brings it to what the network saw in training and
`Model.heat_map` runs the network over it in tiles whose result is that of the whole picture at once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fncells.errors import InputError

__all__ = ["normalise"]

NORMALISATIONS = ("rgb", "brightness")
_DARKEST, _BRIGHTEST = 1.0, 99.8
# Below this share of the full scale a spread of brightness is noise: an empty picture must not be stretched into cells.
_LEAST_SPREAD = 5 / 255


def normalise(pixels: NDArray[Any], mode: str) -> NDArray[np.float32]:
    """Bring a picture to the values the network takes.

    Parameters
    ----------
    pixels
        Shape (h, w) or (h, w, 3), uint8 or uint16.
    mode
        ``"rgb"``: the values over the full scale of their type, as the published weights take them (Clissa et al.,
        FNC v2). ``"brightness"``: the brightest channel of every pixel, stretched so that the picture's 1st percentile
        is 0 and its 99.8th is 1, whatever the hue of the marker; a spread under 5/255 of the full scale is not
        stretched further.

    Returns
    -------
    NDArray[np.float32]
        Shape (h, w, 3), values 0 to 1; a picture of one channel is repeated in all three.

    Raises
    ------
    InputError
        Where the picture's shape or type, or the mode, is another.

    Examples
    --------
    >>> normalise(np.array([[0, 51, 255]], np.uint8), "rgb")[0, :, 0].tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    _refuse_odd(pixels)
    full_scale = float(np.iinfo(pixels.dtype).max)
    if mode == "rgb":
        scaled = pixels.astype(np.float32) / np.float32(full_scale)
        return scaled if scaled.ndim == 3 else _three_channels(scaled)
    if mode == "brightness":
        value = (pixels if pixels.ndim == 2 else pixels.max(axis=2)).astype(np.float32)
        low, high = np.percentile(value, (_DARKEST, _BRIGHTEST))
        spread = max(float(high - low), _LEAST_SPREAD * full_scale)
        return _three_channels(np.clip((value - np.float32(low)) / np.float32(spread), 0, 1, dtype=np.float32))
    raise InputError("normalisation", expected=" or ".join(NORMALISATIONS), found=repr(mode))


def _three_channels(value: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(value[:, :, np.newaxis], 3, axis=2)


def _refuse_odd(pixels: NDArray[Any]) -> None:
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not fits or pixels.size == 0 or pixels.dtype not in (np.uint8, np.uint16):
        shape = "x".join(map(str, pixels.shape))
        raise InputError(
            "picture",
            expected="a grey or RGB picture of 8 or 16 bits",
            found=f"an array {shape} of {pixels.dtype}",
        )
