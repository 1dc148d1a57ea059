"""What can be wrong with the cells of one picture."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.audit.finding import Finding, Point, Severity, places
from fncells.cells import AnnotatedImage, Cell
from fncells.evaluation import match_iou
from fncells.outlines import crossings
from fncells.spans import parts_and_holes, spans_of_cells

__all__ = ["cell_findings", "hole_findings", "part_findings", "truth_findings"]

_ON_THE_EDGE = 2.0  # px; clicks on the very border often land this far outside
_TANGLED = 0.10  # share of the area that a crossing takes from a cell or adds to it
_SAME_CELL = 0.8  # IoU of two outlines that are one cell annotated twice
_OVERLAP = 0.25  # share of the smaller of two cells; neighbours drawn by hand often share a little
_THERE = 0.5  # share of its pixels that a cell must have in common with the other side to be there at all
_ALIKE = 0.8  # IoU of a cell with what the other side has in its place; rasterisers differ by less
_LOOK_AROUND_PX = 3


def cell_findings(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    """Judge the outlines of one picture: beyond it, crossing themselves, without area, drawn twice or over each other.

    Parameters
    ----------
    file
        Named in the findings, with the picture as the place.
    image
        The cells; what needs the picture's shape is left out where that is unknown.
    """
    yield from _outside(file, image)
    yield from _crossing(file, image)
    thin = [_first(cell) for cell in image.cells if not cell.is_dot and _is_thin(cell)]
    if thin:
        why = f"{_counted(len(thin), 'outline encloses', 'outlines enclose')} nothing: a slip of the mouse counts as a cell"
        yield _at(thin, "minor", "no-area", file, image.name, why, "delete it, or draw the cell")
    if image.shape is not None:
        yield from _shared(file, image)
        yield from _dotted(file, image)


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
    absent = _without_counterpart(truth, image)
    if absent:
        why = (
            f"{_counted(len(absent), 'cell of the mask has', 'cells of the mask have')} no annotation: counts by the "
            "annotations are too low, or the mask shows what is no cell"
        )
        yield _at(absent, "serious", "cell-not-annotated", file, image.name, why, "annotate it, or make the mask anew")
    strange = _without_counterpart(image, truth)
    if strange:
        why = (
            f"{_counted(len(strange), 'annotated cell is', 'annotated cells are')} not in the mask: what learns from the mask "
            "learns that there is none"
        )
        yield _at(
            strange, "serious", "cell-not-in-mask", file, image.name, why, "make the mask anew with `fncells build`"
        )
    if absent or strange:
        return
    yield from _other_pixels(file, image, truth)
    if apart:
        yield from _other_cells(file, image, truth)
        return
    annotated, _ = cv2.connectedComponents(image.mask.view(np.uint8), connectivity=8)
    drawn = int(np.count_nonzero(image.areas))
    if annotated - 1 < drawn:
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
        why = f"{_counted(len(holes), 'spot within a cell is', 'spots within cells are')} background: cell bodies have no holes"
        points = [(float(x), float(y)) for x, y in sorted(holes, key=lambda hole: (hole[1], hole[0]))]
        yield _at(
            points, "minor", "hole", file, None, why, "fill it (`fncells clean` does), unless the cells form a ring"
        )


def part_findings(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    """Find cells of a label picture that lie in several places."""
    spans = spans_of_cells(image)
    parts, _ = parts_and_holes(spans)
    several = np.flatnonzero(parts > 1)
    if len(several):
        why = (
            f"{_counted(len(several), 'cell is', 'cells are')} in several pieces with the same number: two cells that count as "
            "one, or crumbs beside a cell"
        )
        advice = "give each cell a number of its own, and remove crumbs"
        yield _at(_points(spans.centres[several]), "minor", "cell-in-parts", file, None, why, advice)


def _at(
    points: Sequence[Point], severity: Severity, kind: str, file: str, picture: str | None, why: str, advice: str
) -> Finding:
    place = places(points) if picture is None else f"{picture}, {places(points)}"
    return Finding(severity, kind, file, place, why, advice, points=tuple(points))


def _points(array: NDArray[np.float64]) -> list[Point]:
    return [(float(x), float(y)) for x, y in array]


def _without_counterpart(image: AnnotatedImage, other: AnnotatedImage) -> list[Point]:
    """Centres of the cells of which the other side has not even half."""
    there = other.mask.ravel()
    lost = [bool(len(own)) and float(there[own].mean()) < _THERE for own in image.pixels]
    return _points(image.centres[np.array(lost, dtype=bool)])


def _other_pixels(file: str, image: AnnotatedImage, truth: AnnotatedImage) -> Iterator[Finding]:
    both, either = np.count_nonzero(image.mask & truth.mask), np.count_nonzero(image.mask | truth.mask)
    iou = both / either if either else 1.0
    beside = [place for place, alike in _likeness(image, truth) if alike < _ALIKE]
    if iou < 0.99 or beside:
        severity: Severity = "serious" if iou < 0.9 else "minor"
        y, x = np.nonzero(image.mask != truth.mask)
        points = beside or [(float(x[0]), float(y[0]))]
        why = f"annotations and mask share {100 * iou:.1f} % of their pixels"
        if beside:
            why += f", and {_counted(len(beside), 'cell', 'cells')} less than {100 * _ALIKE:.0f} %"
        why += ": the one was changed without the other"
        advice = "make the mask anew from the annotations with `fncells build` or `fncells convert`"
        yield _at(points, severity, "mask-disagreement", file, image.name, why, advice)


def _likeness(image: AnnotatedImage, truth: AnnotatedImage) -> Iterator[tuple[Point, float]]:
    """IoU of each true cell with what is annotated in its place, other true cells left aside."""
    height, width = truth.mask.shape
    margin = _LOOK_AROUND_PX
    for number, area, box, centre in zip(truth.numbers, truth.areas, truth.boxes, truth.centres, strict=True):
        if area:
            left, top, right, bottom = box
            window = (
                slice(max(top - margin, 0), min(bottom + margin + 1, height)),
                slice(max(left - margin, 0), min(right + margin + 1, width)),
            )
            labels, annotated = truth.labels[window], image.mask[window]
            own = labels == number
            union = np.count_nonzero(own | (annotated & (labels == 0)))
            if own.any():
                yield (float(centre[0]), float(centre[1])), np.count_nonzero(own & annotated) / union


def _other_cells(file: str, image: AnnotatedImage, truth: AnnotatedImage) -> Iterator[Finding]:
    """Find where the same pixels are parted into other cells."""
    pairs = match_iou(truth, image).pairs
    true = np.flatnonzero(truth.areas)
    lost = np.setdiff1d(true, [one for one, _ in pairs])
    rest = np.setdiff1d(np.flatnonzero(image.areas), [two for _, two in pairs])
    # An outline that encloses nothing, and the second one of a cell, are told for what they are.
    added = [one for one in rest if not _is_thin(image.cells[one]) and not _has_twin(image, one)]
    if len(lost) or added:
        points = _points(truth.centres[lost]) or _points(image.centres[added])
        why = (
            f"{len(pairs) + len(added)} cells by the annotations and {len(true)} by the label picture fill the same pixels: "
            "neighbours were joined or parted in one of them"
        )
        advice = "make the label pictures anew from the annotations with `fncells build`"
        yield _at(points, "minor", "other-cells", file, image.name, why, advice)


def _has_twin(image: AnnotatedImage, one: int) -> bool:
    return any(_iou(image, one, other) > _SAME_CELL for other in range(len(image.cells)) if other != one)


def _iou(image: AnnotatedImage, one: int, other: int) -> float:
    shared = len(np.intersect1d(image.pixels[one], image.pixels[other], assume_unique=True))
    return shared / max(len(image.pixels[one]) + len(image.pixels[other]) - shared, 1)


def _outside(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    if image.shape is None:
        return
    height, width = image.shape
    beyond: dict[Severity, list[Point]] = {"serious": [], "minor": []}
    for cell in image.cells:
        points = np.concatenate(cell.rings) if cell.rings else np.empty((0, 2))
        excess = np.maximum(np.maximum(-points, points - (width - 1, height - 1)).max(axis=1, initial=0), 0)
        farthest = float(excess.max(initial=0))
        if farthest > 0:
            x, y = points[int(np.argmax(excess))]
            beyond["serious" if farthest > _ON_THE_EDGE else "minor"].append((float(x), float(y)))
    for severity, found in beyond.items():
        if found:
            why = (
                f"{_counted(len(found), 'outline runs', 'outlines run')} beyond the picture of {width} x {height} pixels: "
                "the picture was cropped or scaled since, or the annotations belong to another one"
            )
            advice = "find the picture that was annotated, or cut the outlines at the border"
            yield _at(found, severity, "outside", file, image.name, why, advice)


def _crossing(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    found: dict[Severity, list[Point]] = {"serious": [], "minor": []}
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
            why = (
                f"{_counted(len(spots), 'outline crosses', 'outlines cross')} itself: tools fill it differently, so areas "
                "and counts differ from tool to tool"
            )
            advice = "draw the outline anew without the loop"
            yield _at(spots, severity, "crossing-edges", file, image.name, why, advice)


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


def _first(cell: Cell) -> Point:
    x, y = cell.rings[0][0]
    return float(x), float(y)


def _shared(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    """Find cells that are drawn twice, and those that cover a good part of each other."""
    boxes, sizes = image.boxes, image.areas
    twice: list[Point] = []
    over: list[Point] = []
    thin = np.array([_is_thin(cell) for cell in image.cells], dtype=bool)
    for one in range(len(boxes)):
        if not sizes[one] or thin[one]:
            continue
        rest = boxes[one + 1 :]
        apart = (rest[:, :2] > boxes[one, 2:]).any(axis=1) | (rest[:, 2:] < boxes[one, :2]).any(axis=1)
        for other in one + 1 + np.flatnonzero(~apart & ~thin[one + 1 :]):
            shared = len(np.intersect1d(image.pixels[one], image.pixels[other], assume_unique=True))
            x, y = image.centres[other]
            if shared > _SAME_CELL * (sizes[one] + sizes[other] - shared):
                twice.append((float(x), float(y)))
            elif sizes[other] and shared > _OVERLAP * min(sizes[one], sizes[other]):
                over.append((float(x), float(y)))
    if twice:
        why = f"{_counted(len(twice), 'cell is', 'cells are')} outlined twice, and counted twice"
        yield _at(twice, "serious", "drawn-twice", file, image.name, why, "delete one of the two outlines")
    if over:
        why = (
            f"{_counted(len(over), 'cell covers', 'cells cover')} over {100 * _OVERLAP:.0f} % of another: one loses these "
            "pixels in a label picture, and in a mask they become one"
        )
        yield _at(over, "minor", "overlapping-cells", file, image.name, why, "draw the border between them once")


def _dotted(file: str, image: AnnotatedImage) -> Iterator[Finding]:
    """Find dots set upon cells that are outlined as well."""
    height, width = image.mask.shape
    found = []
    for cell in image.cells:
        if cell.is_dot:
            x, y = _first(cell)
            column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
            if 0 <= column < width and 0 <= row < height and image.mask[row, column]:
                found.append((x, y))
    if found:
        why = f"{_counted(len(found), 'cell has', 'cells have')} a dot and an outline, and each counts"
        yield _at(found, "serious", "dot-on-cell", file, image.name, why, "delete the dot")


def _counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
