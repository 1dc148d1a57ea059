"""Pages to look at: one HTML file each, without any address outside itself and its folder.

They open without a network, on a telephone and on paper.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.measure import MEASURE_TITLES
from fncells.overlay import shrunk

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["MOST_THUMBNAILS", "THUMBNAIL_WIDTH", "Shown", "css", "environment", "jpeg_address", "number_text"]

MOST_THUMBNAILS = 60
"""Pictures on a page, some 6 MB; the others lie beside it."""

THUMBNAIL_WIDTH = 900


@dataclass(frozen=True)
class Shown:
    """A picture in a gallery; ``file`` is its full-size file beside the page, where there is one."""

    name: str
    anchor: str
    caption: str
    address: str
    file: str | None = None


@lru_cache(maxsize=1)
def environment() -> "Environment":
    """Give the templates of all pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fncells", "templates"),
        autoescape=True,  # file names come from anywhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number_text,
        "ratio": _ratio,
        "decimals": _decimals,
        "signed": _signed,
        "percent": _percent,
        "interval": _interval,
        "measure": _measure_name,
        "statistic": _statistic,
    }
    return environment


def number_text(value: object, digits: int = 3) -> str:
    """Write a number for people; unknown is a dash."""
    if value is None or value == "":
        return "–"
    figure = float(str(value))
    if not math.isfinite(figure):
        return "–"
    if figure == round(figure) and abs(figure) < 1e15:
        return f"{round(figure):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{figure:.{digits}g}" if abs(figure) < 1000 else number_text(round(figure))


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _decimals(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %".replace("-", "−")


def _interval(limits: Sequence[float] | None, digits: int = 2) -> str:
    return "" if limits is None else f"{limits[0]:.{digits}f} to {limits[1]:.{digits}f}"


def _measure_name(measure: str) -> str:
    return MEASURE_TITLES.get(measure, measure)


def css(colour: Iterable[int]) -> str:
    """Write a colour for a style sheet."""
    return "#" + "".join(f"{part:02x}" for part in colour)


def jpeg_address(rgb: NDArray[np.uint8]) -> str:
    """Give a picture, shrunk to a thumbnail, as an address that holds it whole."""
    small = np.ascontiguousarray(shrunk(rgb, THUMBNAIL_WIDTH)[..., ::-1])
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _statistic(value: float | None, name: str) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return str(round(value)) if name == "count" else f"{value:.2f}"
