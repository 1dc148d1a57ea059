"""Cells measured, and pictures known again."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import scenes
from benchmarks.timing import Row, compare, medians, report
from fncells.audit.likeness import Portrait, duplicate_findings
from fncells.cells import AnnotatedImage
from fncells.images import read_picture
from fncells.measure import measure_cells, measure_labels

# What both measure; ours adds the smallest Feret diameter, its direction, circularity, parts and whether the border is touched.
PROPERTIES = (
    "label",
    "area",
    "perimeter",
    "centroid",
    "bbox",
    "feret_diameter_max",
    "equivalent_diameter_area",
    "axis_major_length",
    "axis_minor_length",
    "orientation",
    "eccentricity",
    "solidity",
    "euler_number",
)
LIGHT = (*PROPERTIES, "intensity_mean", "intensity_min", "intensity_max")
_TWINS_AMONG = 2000
_REPEATS = 31  # tasks of a millisecond are disturbed easily


def run() -> None:
    skimage = scenes.imported("skimage.measure")
    rows = []
    for count in (60, 300):
        labels = scenes.labels(count)
        rows.append(_label_picture(f"{count} cells, label picture to table", labels, skimage))
        rows.append(_outlined(f"{count} cells, outlines to table", labels, skimage))
        rows.append(_with_light(f"{count} cells, label picture and RGB picture to table", labels, skimage))
    for name, mask in _real_masks():
        labels = np.asarray(cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[1], dtype=np.int32)
        rows.append(_label_picture(f"{name}, {labels.max()} cells, label picture to table", labels, skimage))
        rows.append(_mask(f"{name}, the same, mask to table", mask, labels, skimage))
    report(
        "All measures of all cells, 1600x1200",
        "one pass over the label picture that finds where its values change",
        rows,
    )
    _near_duplicates()


def _label_picture(what: str, labels: NDArray[np.int32], skimage: object) -> Row:
    _check(labels, skimage)
    return compare(
        what,
        lambda: measure_labels(labels),
        {"scikit-image": _peer(skimage, labels, PROPERTIES)},
        lambda: _one_pass(labels),
        _REPEATS,
    )


def _mask(what: str, mask: NDArray[np.bool_], labels: NDArray[np.int32], skimage: Any) -> Row:
    def theirs() -> object:
        return skimage.regionprops_table(skimage.label(mask, connectivity=2), properties=PROPERTIES)

    peers = {"scikit-image": theirs if skimage is not None else None}
    return compare(what, lambda: measure_labels(mask), peers, lambda: _one_pass(labels), _REPEATS)


def _outlined(what: str, labels: NDArray[np.int32], skimage: object) -> Row:
    image = AnnotatedImage.from_labels("picture", labels)
    return compare(
        what,
        # A new value each time: pixels once worked out are kept.
        lambda: measure_cells(AnnotatedImage(image.name, image.shape, image.cells)),
        {"scikit-image": _peer(skimage, labels, PROPERTIES)},
        lambda: _one_pass(labels),
        _REPEATS,
    )


def _with_light(what: str, labels: NDArray[np.int32], skimage: object) -> Row:
    picture = scenes.picture(labels)
    return compare(
        what,
        lambda: measure_labels(labels, None, picture),
        {"scikit-image": _peer(skimage, labels, LIGHT, picture)},
        lambda: _one_pass(labels),
        _REPEATS,
    )


def _peer(
    skimage: object, labels: NDArray[np.int32], properties: tuple[str, ...], picture: NDArray[np.uint8] | None = None
) -> Callable[[], object] | None:
    table: Callable[..., object] | None = getattr(skimage, "regionprops_table", None)
    return None if table is None else lambda: table(labels, picture, properties=properties)


def _one_pass(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    flat = labels.ravel()
    return np.flatnonzero(flat[1:] != flat[:-1])


def _check(labels: NDArray[np.int32], skimage: object) -> None:
    peer = _peer(skimage, labels, PROPERTIES)
    if peer is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hulls of a single pixel
        theirs: Any = peer()
    ours = measure_labels(labels)
    for mine, other in (("area_px2", "area"), ("feret_max_px", "feret_diameter_max"), ("perimeter_px", "perimeter")):
        if not np.allclose(ours[mine], theirs[other], rtol=1e-9, atol=1e-9):
            raise SystemExit(f"the two disagree about the {other}: nothing to time")


def _real_masks() -> list[tuple[str, NDArray[np.bool_]]]:
    """Give the real masks, where the folder of real pictures is at hand."""
    place = os.environ.get("FNCELLS_DATA")
    masks = sorted(Path(place).glob("fnc/*/masks/*.png")) if place else []
    found = []
    for path in masks:
        found.append((f"FNC {path.stem}", np.atleast_3d(read_picture(path).pixels)[..., 0] > 0))
    return found


def _near_duplicates() -> None:
    rng = np.random.default_rng(0)
    shape = scenes.SHAPE
    picture = scenes.picture(scenes.labels(60))
    portraits = []
    for number in range(_TWINS_AMONG):
        small = rng.normal(60, 25, (30, 40)).clip(0, 255).astype(np.uint8)
        features = Portrait.features_of(np.rot90(small) if number % 2 else small)
        portraits.append(Portrait(f"{number}.png", "green", "trainval", str(number), features))
    portraits.append(Portrait("twin.png", "green", "test", "twin", portraits[7].features))
    found = [one.file for one in duplicate_findings(portraits)]
    if found != ["twin.png"]:
        raise SystemExit(f"one picture is there twice, found were {found}: nothing to time")
    times = medians(
        {
            "search": lambda: list(duplicate_findings(portraits)),
            "portrait": lambda: Portrait.features_of(picture),
        },
        3,
    )
    search, portrait = times["search"] or 0.0, times["portrait"] or 0.0
    print("\n## Near-duplicates\n")
    print("| | s |\n| --- | --- |")
    print(f"| compare {_TWINS_AMONG:,} pictures with each other, 8 ways to lie | {search:.2f} |")
    print(f"| reduce {_TWINS_AMONG:,} pictures of {shape[1]}x{shape[0]}, one process | {_TWINS_AMONG * portrait:.1f} |")
