"""Label pictures to outlines and back."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import scenes
from benchmarks.timing import compare, report
from fncells.cells import draw, trace


def run() -> None:
    rows = []
    for count in (60, 300):
        labels = scenes.labels(count)
        cells = trace(labels)
        if not np.array_equal(draw(cells, scenes.SHAPE), labels):
            raise SystemExit("drawing does not give back what was traced: nothing to time")
        rings = [np.round(ring).astype(np.int32) for cell in cells for ring in cell.rings]
        rows.append(
            compare(
                f"trace {count} cells",
                lambda labels=labels: trace(labels),
                {
                    "a mask per label, OpenCV": lambda labels=labels: _by_label(labels),
                    "scikit-image": _contours(labels),
                },
                lambda labels=labels: _one_pass_out(labels),
            )
        )
        rows.append(
            compare(
                f"draw {count} cells",
                lambda cells=cells: draw(cells, scenes.SHAPE),
                {"a mask per label, OpenCV": lambda rings=rings: _drawn(rings), "scikit-image": _polygons(rings)},
                lambda rings=rings: cv2.fillPoly(np.zeros(scenes.SHAPE, np.int32), rings, 1),
            )
        )
    report(
        "Outlines, 1600x1200",
        "one pass of OpenCV over the mask, cells not told apart; only ours gives back every pixel",
        rows,
    )


def _one_pass_out(labels: NDArray[np.int32]) -> object:
    return cv2.findContours((labels > 0).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)


def _by_label(labels: NDArray[np.int32]) -> list[Any]:
    numbers = np.unique(labels)[1:]
    return [
        cv2.findContours((labels == number).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for number in numbers
    ]


def _drawn(rings: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    picture = np.zeros(scenes.SHAPE, np.int32)
    for number, ring in enumerate(rings, start=1):
        mask = np.zeros(scenes.SHAPE, np.uint8)
        cv2.fillPoly(mask, [ring], 1)
        picture[mask > 0] = number
    return picture


def _contours(labels: NDArray[np.int32]) -> Callable[[], object] | None:
    measure = scenes.imported("skimage.measure")
    if measure is None:
        return None
    return lambda: [
        measure.find_contours(np.pad(region.image, 1).astype(float), 0.5) for region in measure.regionprops(labels)
    ]


def _polygons(rings: list[NDArray[np.int32]]) -> Callable[[], object] | None:
    drawing = scenes.imported("skimage.draw")
    if drawing is None:
        return None

    def polygons() -> NDArray[np.int32]:
        picture = np.zeros(scenes.SHAPE, np.int32)
        for number, ring in enumerate(rings, start=1):
            picture[drawing.polygon(ring[:, 1], ring[:, 0], scenes.SHAPE)] = number
        return picture

    return polygons
