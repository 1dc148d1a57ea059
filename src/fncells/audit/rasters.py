"""Values of mask pictures."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fncells.audit.finding import Finding, places

__all__ = ["mask_findings"]


def mask_findings(file: str, pixels: NDArray[np.generic]) -> Iterator[Finding]:
    """Judge whether a mask is binary, 0 and 255.

    Parameters
    ----------
    file
        Named in the finding.
    pixels
        The mask as it is in the file, shape (height, width) or (height, width, channels).
    """
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.ndim == 3:
        yield _finding(file, None, "the mask has colours: which of them are cells is anyone's guess")
        return
    values = np.unique(pixels)
    between = values[(values > 0) & (values < values[-1])]
    if len(between):
        y, x = np.nonzero(np.isin(pixels, between))
        yield _finding(
            file,
            places(list(zip(x[:4].tolist(), y[:4].tolist(), strict=True))) if len(x) < 5 else places([(x[0], y[0])]),
            f"{len(x)} pixels are neither cell nor background, such as {between[0]}: the cells depend on the threshold",
        )
    elif values[-1] not in (0, 255):
        yield Finding(
            "minor",
            "mask-values",
            file,
            None,
            f"cells have the value {values[-1]} instead of 255: tools that expect 255 see none, or see black",
            "write it anew with `fncells convert --to masks`",
        )


def _finding(file: str, place: str | None, why: str) -> Finding:
    advice = "write the mask with 0 and 255 alone, as PNG and never as JPEG"
    return Finding("serious", "non-binary-mask", file, place, why, advice)
