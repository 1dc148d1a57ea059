"""What can be wrong with the cells of one picture, and with sizes over many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.audit.finding import Finding, Severity, places
from fncells.cells import AnnotatedImage, Cell
from fncells.outlines import crossings
from fncells.published import TABLE_1

__all__ = ["Measured", "cell_findings", "hole_findings", "size_findings", "truth_findings"]

_ON_THE_EDGE = 2.0  # px; clicks on the very border often land this far outside
_TANGLED = 0.10  # share of the area that a crossing takes from a cell or adds to it
_SAME_CELL = 0.8  # IoU of two outlines that are one cell annotated twice
_SPECK = 0.05  # of the typical cell; the smallest of Table 1 are 0.11 to 0.17 of the median of their collection
_FAR = 6.0  # robust standard deviations of the logarithm of the area
_ENOUGH = 20  # cells, to tell what is usual
_LEEWAY = 1.25  # areas beyond the printed extremes by less are no news
_LEEWAY_PX = 3.0


@dataclass(frozen=True, eq=False)
class Measured:
    """Sizes of the cells of one picture, for comparison with all others.

    Attributes
    ----------
    file
        The picture's ground truth.
    areas
        Pixels of each cell, shape (n,).
    centres
        x, y in pixels, shape (n, 2).
    pixel_size_um
        None where unknown.
    """

    file: str
    areas: NDArray[np.int64]
    centres: NDArray[np.float64]
    pixel_size_um: float | None

    @classmethod
    def of(cls, file: str, image: AnnotatedImage, pixel_size_um: float | None) -> "Measured":
        """Measure the cells that have an area; the picture's shape must be known."""
        flat = np.array([not cell.is_dot for cell in image.cells], dtype=bool)
        return cls(file, image.areas[flat], image.centres[flat], pixel_size_um)


def cell_findings(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    """Judge the outlines of one picture: beyond the picture, crossing themselves, without area, drawn twice.

    Parameters
    ----------
    file
        Named in the findings, with the picture as the place.
    image
        The cells; what needs the picture's shape is left out where that is unknown.
    """
    yield from _outside(file, image)
    yield from _crossing(file, image)
    flat = [cell for cell in image.cells if not cell.is_dot]
    thin = [_first(cell) for cell in flat if _is_thin(cell)]
    if thin:
        yield Finding(
            "minor",
            "no-area",
            file,
            f"{image.name}, {places(thin)}",
            f"{_counted(len(thin), 'outline encloses', 'outlines enclose')} nothing: a slip of the mouse counts as a cell",
            "delete it, or draw the cell",
        )
    if image.shape is not None:
        yield from _twice(file, image)


def truth_findings(file: str, image: AnnotatedImage, truth: AnnotatedImage, *, apart: bool) -> Iterator[Finding]:
    """Hold the annotations of a picture against its mask.

    Parameters
    ----------
    file
        The annotation file.
    image, truth
        Cells by the annotations, with their picture's shape, and by the mask or label picture.
    apart
        Whether the archive keeps touching cells apart elsewhere, in label pictures.
    """
    both, either = np.count_nonzero(image.mask & truth.mask), np.count_nonzero(image.mask | truth.mask)
    iou = both / either if either else 1.0
    if iou < 0.99:
        serious = iou < 0.9
        y, x = np.nonzero(image.mask != truth.mask)
        severity: Severity = "serious" if serious else "minor"
        yield Finding(
            severity,
            "mask-disagreement",
            file,
            f"{image.name}, {places([(float(x[0]), float(y[0]))])}",
            f"annotations and mask share {100 * iou:.1f} % of their pixels: the one was changed without the other",
            "make the mask anew from the annotations with `fncells build` or `fncells convert`",
        )
    annotated, _ = cv2.connectedComponents(image.mask.view(np.uint8), connectivity=8)
    drawn = sum(not cell.is_dot and bool(len(pixels)) for cell, pixels in zip(image.cells, image.pixels, strict=True))
    if annotated - 1 < drawn and not apart:
        yield Finding(
            "minor",
            "merged-cells",
            file,
            image.name,
            f"{drawn} cells were annotated, and the mask shows {annotated - 1}: neighbours that touch count as one",
            "keep label pictures beside the masks (`fncells build` makes them), or leave a gap between touching cells",
        )


def hole_findings(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    """Find holes in cells as `fncells.cells.trace` outlines them; background among several cells is none."""
    holes = [ring.mean(axis=0) for cell in image.cells for ring in cell.rings if _runs_around_a_hole(ring)]
    if holes:
        yield Finding(
            "minor",
            "hole",
            file,
            places([(float(x), float(y)) for x, y in sorted(holes, key=lambda hole: (hole[1], hole[0]))]),
            f"{_counted(len(holes), 'spot within a cell is', 'spots within cells are')} background: cell bodies have no holes",
            "fill it (`fncells clean` does), unless the cells form a ring",
        )


def size_findings(collection: str | None, pictures: Sequence[Measured]) -> Iterator[Finding]:
    """Find cells of a size that their collection does not have.

    Specks are far smaller than the typical cell. For the rest, the extremes of Table 1 are the measure where the pixel size
    is known and the collection is one of the paper's; else what is far from all other cells.

    Parameters
    ----------
    collection
        Name of the collection; None for annotations of unknown origin.
    pictures
        All pictures that belong together.
    """
    table = TABLE_1.get(collection or "")
    usual = {
        known: _usual([one for one in pictures if (one.pixel_size_um is not None) == known]) for known in (True, False)
    }
    for one in pictures:
        typical = usual[one.pixel_size_um is not None]
        side = one.pixel_size_um or 1.0
        areas = one.areas * side**2
        speck = areas < _SPECK * typical[0] if typical else np.zeros(len(areas), dtype=bool)
        if speck.any():
            yield Finding(
                "minor",
                "speck",
                one.file,
                places(one.centres[speck].tolist()),
                f"{_counted(int(speck.sum()), 'region is', 'regions are')} far smaller than a cell, and each counts as one",
                "remove them (`fncells clean` does), or set a smallest area",
            )
        if table is not None and one.pixel_size_um is not None:
            lowest, highest = table.area_um2.quantiles[0], table.area_um2.quantiles[-1]
            rim = _LEEWAY_PX * side**2
            odd = (areas < lowest / _LEEWAY - rim) | (areas > highest * _LEEWAY + rim)
            expectation = f"the {lowest:g} to {highest:g} µm² that {collection} cells of the paper have (Table 1)"
        elif typical:
            odd = np.abs(np.log(np.maximum(areas, 1e-9) / typical[0])) > _FAR * typical[1]
            expectation = f"the usual {typical[0]:.0f} {'µm²' if one.pixel_size_um else 'pixels'}"
        else:
            continue
        odd &= ~speck
        if odd.any():
            yield Finding(
                "minor" if table is not None and one.pixel_size_um is not None else "note",
                "odd-size",
                one.file,
                places(one.centres[odd].tolist()),
                f"{_counted(int(odd.sum()), 'cell is', 'cells are')} far off {expectation}",
                "look whether several cells were outlined as one, or the pixel size is wrong",
            )


def _usual(pictures: Sequence[Measured]) -> tuple[float, float] | None:
    """Median area and robust deviation of its logarithm, where there are enough cells to tell."""
    sizes = [one.areas * (one.pixel_size_um or 1.0) ** 2 for one in pictures]
    areas = np.concatenate(sizes) if sizes else np.empty(0)
    areas = areas[areas > 0]
    if len(areas) < _ENOUGH:
        return None
    logs = np.log(areas)
    middle = float(np.median(logs))
    # Never less than a tenth: cells all but equal would make every other one an outlier.
    return float(np.exp(middle)), max(1.4826 * float(np.median(np.abs(logs - middle))), 0.1)


def _outside(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    if image.shape is None:
        return
    height, width = image.shape
    beyond: dict[Severity, list[tuple[float, float]]] = {"serious": [], "minor": []}
    for cell in image.cells:
        points = np.concatenate(cell.rings) if cell.rings else np.empty((0, 2))
        excess = np.maximum(np.maximum(-points, points - (width - 1, height - 1)).max(axis=1, initial=0), 0)
        farthest = float(excess.max(initial=0))
        if farthest > 0:
            x, y = points[int(np.argmax(excess))]
            beyond["serious" if farthest > _ON_THE_EDGE else "minor"].append((float(x), float(y)))
    for severity, found in beyond.items():
        if found:
            yield Finding(
                severity,
                "outside",
                file,
                f"{image.name}, {places(found)}",
                f"{_counted(len(found), 'outline runs', 'outlines run')} beyond the picture of {width} x {height} pixels: "
                "the picture was cropped or scaled since, or the annotations belong to another one",
                "find the picture that was annotated, or cut the outlines at the border",
            )


def _crossing(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    found: dict[Severity, list[tuple[float, float]]] = {"serious": [], "minor": []}
    for cell in image.cells:
        if cell.source_shape in ("point", "polyline"):
            continue
        for ring in cell.rings:
            points = crossings(ring)
            if len(points):
                x, y = points[0]
                found["serious" if _is_tangled(ring) else "minor"].append((float(x), float(y)))
    for severity, spots in found.items():
        if spots:
            yield Finding(
                severity,
                "crossing-edges",
                file,
                f"{image.name}, {places(spots)}",
                f"{_counted(len(spots), 'outline crosses', 'outlines cross')} itself: tools fill it differently, so areas "
                "and counts differ from tool to tool",
                "draw the outline anew without the loop",
            )


def _is_tangled(ring: NDArray[np.float64]) -> bool:
    """Whether the loops matter: the area by signed triangles and the one by filling are then not the same."""
    x, y = (ring - ring.min(axis=0)).T
    signed = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
    corners = np.floor(np.stack([x, y], axis=1) + 0.5).astype(np.int32)
    right, bottom = corners.max(axis=0)
    if int(right) * int(bottom) > 2**26:
        return True
    canvas = np.zeros((int(bottom) + 1, int(right) + 1), dtype=np.uint8)
    cv2.drawContours(canvas, [corners], -1, color=1, thickness=cv2.FILLED)
    boundary = float(np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1).sum())
    # Filling takes in the border, half of which lies outside the polygon.
    filled = np.count_nonzero(canvas) - boundary / 2
    return bool(abs(filled - signed) > _TANGLED * max(filled, signed, 1.0))


def _runs_around_a_hole(ring: NDArray[np.float64]) -> bool:
    """Whether a traced ring runs the other way round than outer outlines do."""
    x, y = ring.T
    return bool(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) > 0)


def _is_thin(cell: Cell) -> bool:
    rings = cell.rings if cell.source_shape == "polygon" else ()
    return bool(rings) and all(len(np.unique(ring, axis=0)) < 3 for ring in rings)


def _first(cell: Cell) -> tuple[float, float]:
    x, y = cell.rings[0][0]
    return float(x), float(y)


def _twice(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    boxes, sizes = image.boxes, image.areas
    found = []
    for one in range(len(boxes)):
        if not sizes[one]:
            continue
        apart = (boxes[one + 1 :, :2] > boxes[one, 2:]).any(axis=1) | (boxes[one + 1 :, 2:] < boxes[one, :2]).any(
            axis=1
        )
        for other in one + 1 + np.flatnonzero(~apart):
            shared = len(np.intersect1d(image.pixels[one], image.pixels[other], assume_unique=True))
            if shared > _SAME_CELL * (sizes[one] + sizes[other] - shared):
                x, y = image.centres[other]
                found.append((float(x), float(y)))
    if found:
        yield Finding(
            "serious",
            "drawn-twice",
            file,
            f"{image.name}, {places(found)}",
            f"{_counted(len(found), 'cell is', 'cells are')} outlined twice, and counted twice",
            "delete one of the two outlines",
        )


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
