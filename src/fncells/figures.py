"""Figures in one style, as SVG and PNG whose bytes depend on what they show alone."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fncells import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "FAINT", "INK", "LINE", "Drawing", "drawn", "figure_of"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Those of Okabe and Ito, which no kind of colour vision confuses."""
INK, FAINT, LINE = "#1f2328", "#59636e", "#d0d7de"


@dataclass(frozen=True)
class Drawing:
    """A figure in both of its forms.

    Attributes
    ----------
    name
        File name without suffix.
    caption
        What it shows, in a sentence; it also stands for the figure where that cannot be seen.
    svg, png
        The files' content.
    """

    name: str
    caption: str
    svg: bytes
    png: bytes

    @property
    def address(self) -> str:
        """The SVG as an address that holds it whole, so that nothing in it can touch the page around it."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"

    def write(self, folder: Path) -> None:
        """Write ``name.svg`` and ``name.png`` into a folder."""
        files.write_bytes(folder / f"{self.name}.svg", self.svg)
        files.write_bytes(folder / f"{self.name}.png", self.png)


@contextmanager
def figure_of(width: float, height: float) -> Iterator["Figure"]:
    """Give a figure in inches, in a style of our own whatever the user's configuration says."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        **mpl.rcParamsDefault,
        "font.family": ["DejaVu Sans"],
        "font.size": 9,
        "svg.hashsalt": "fncells",
        "svg.fonttype": "path",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "figure.dpi": 100,
    }
    style.pop("backend", None)  # looking at it would choose one, and none is needed
    with mpl.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained")


def drawn(figure: "Figure", name: str, caption: str) -> Drawing:
    """Give a figure in both of its forms, with its name and caption."""
    svg, png = io.BytesIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return Drawing(name, caption, svg.getvalue(), png.getvalue())
