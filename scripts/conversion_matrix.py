"""Convert from every format to every other and write what was measured into ``docs/formats.md``.

::

    python scripts/conversion_matrix.py            # prints the tables
    python scripts/conversion_matrix.py --write    # and puts them into docs/formats.md

Made of seeded, made-up cells: outlines with fractions of a pixel, some with a hole, some of two parts, some over others, and
dots. Each row begins with what a file of its format holds of them; each column says what is found after the conversion by a
reader of that format that does not know fncells, and by fncells.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fncells import files
from fncells.cells import AnnotatedImage, Cell
from fncells.formats import CODECS, convert
from fncells.formats.conversion import tally

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
BEGIN, END = "<!-- conversion matrix: begin -->", "<!-- conversion matrix: end -->"
FILES = {"coco": "a.json", "via": "a.json", "via-csv": "a.csv"}
PICTURES, CELLS, SHAPE = 6, 30, (300, 400)


def made_up(seed: int = 1) -> list[AnnotatedImage]:
    """Give pictures with cells of all kinds."""
    rng = np.random.default_rng(seed)
    return [AnnotatedImage(f"{number}.png", SHAPE, tuple(_cells(rng))) for number in range(PICTURES)]


def _cells(rng: np.random.Generator) -> Iterator[Cell]:
    for index in range(CELLS):
        centre = rng.uniform((25, 25), (SHAPE[1] - 25, SHAPE[0] - 25))
        radius = float(rng.uniform(6, 14))
        rings = [_ring(rng, centre, radius)]
        if index % 10 == 0:
            rings.append(_ring(rng, centre, radius / 3))
        if index % 10 == 5:
            rings.append(_ring(rng, centre + np.array((2.5 * radius, 0)), radius / 2))
        yield Cell(tuple(rings), marker="CTb", attributes={"quality": "good"} if index % 3 == 0 else {})
    yield Cell((rng.uniform(20, 200, (1, 2)),), source_shape="point")


def _ring(rng: np.random.Generator, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    length = radius * (1 + 0.15 * np.sin(2 * angles + rng.uniform(0, 6)) + rng.uniform(-0.05, 0.05, 24))
    return np.round(centre + length[:, np.newaxis] * np.column_stack((np.cos(angles), np.sin(angles))), 2)


@dataclass(frozen=True)
class Found:
    """What was found after one conversion, against what the source held."""

    iou: float
    area_percent: float
    cells: int
    holes: int
    overlaps: int


def measured(before: Sequence[AnnotatedImage], after: Sequence[AnnotatedImage]) -> Found:
    """Compare pictures with those they were: mean IoU of cells with their likest, areas, numbers."""
    again = {image.stem: replace(image, shape=SHAPE) for image in after}
    ious: list[float] = []
    old = new = cells = holes = overlaps = 0
    for image in before:
        image, other = replace(image, shape=SHAPE), again.get(image.stem, AnnotatedImage("", SHAPE, ()))
        ious += [_likest(pixels, other.pixels) for pixels in image.pixels if len(pixels)]
        old, new = old + int(image.areas.sum()), new + int(other.areas.sum())
        counted = tally(other, SHAPE)
        cells, holes, overlaps = cells + counted.n_cells, holes + counted.holes, overlaps + (counted.overlaps or 0)
    return Found(float(np.mean(ious)), 100 * (new - old) / old, cells, holes, overlaps)


def _likest(pixels: NDArray[np.int64], others: Sequence[NDArray[np.int64]]) -> float:
    shared = [len(np.intersect1d(pixels, other, assume_unique=True)) for other in others]
    return max((n / (len(pixels) + len(other) - n) for n, other in zip(shared, others, strict=True) if n), default=0.0)


def tables() -> str:
    """Convert and measure everything; give the tables in Markdown."""
    images = made_up()
    held: dict[str, Found] = {}
    foreign: dict[tuple[str, str], Found] = {}
    own: dict[tuple[str, str], Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        for image in images:
            files.write_bytes(pictures / image.name, _blank(image))
        for source in CODECS:
            origin = Path(folder) / source / FILES.get(source, "folder")
            CODECS[source].write(origin, images)
            before = list(CODECS[source].read(origin, pictures))
            held[source] = measured(before, before)
            for target in CODECS:
                place = Path(folder) / f"{source}-{target}" / FILES.get(target, "folder")
                convert(origin, place, target, source, pictures)
                foreign[source, target] = measured(before, list(CODECS[target].read_foreign(place, pictures)))
                own[source, target] = measured(before, list(CODECS[target].read(place, pictures)))
    said: list[tuple[str, Callable[[Found], str], bool]] = [
        (
            "Mean IoU of cells: another reader's, then fncells's where it differs",
            lambda found: f"{found.iou:.3f}",
            True,
        ),
        (
            "Change of summed area, percent",
            _signed,
            False,
        ),
        ("Cells found by another reader", lambda found: str(found.cells), False),
        ("Holes found by another reader", lambda found: str(found.holes), False),
        ("Cells that overlap, found by another reader", lambda found: str(found.overlaps), False),
    ]
    text = []
    for title, shown, both in said:
        head = ["from \\ to", *(["held"] if not both and "Change" not in title else []), *CODECS]
        text += ["", f"**{title}**", "", f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
        for source in CODECS:
            row = [source, *([shown(held[source])] if len(head) > len(CODECS) + 1 else [])]
            for target in CODECS:
                theirs, ours = shown(foreign[source, target]), shown(own[source, target])
                row.append(f"{theirs}, {ours}" if both and ours != theirs else theirs)
            text.append(f"| {' | '.join(row)} |")
    return "\n".join([*text[1:], ""])


def _signed(found: Found) -> str:
    return f"{found.area_percent:+.1f}" if abs(found.area_percent) >= 0.05 else "0"


def _blank(image: AnnotatedImage) -> bytes:
    import cv2

    height, width = SHAPE if image.shape is None else image.shape
    return bytes(cv2.imencode(".png", np.zeros((height, width), dtype=np.uint8))[1].tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    text = tables()
    if parser.parse_args().write:
        document = DOCUMENT.read_text(encoding="utf-8")
        new = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}{END}", document, flags=re.S)
        files.write_text(DOCUMENT, new)
    print(text)


if __name__ == "__main__":
    main()
