"""Cells that are unlike their collection: in size, in shape, in how rough their outlines are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fncells.audit.finding import Finding, Severity, places
from fncells.cells import AnnotatedImage
from fncells.published import TABLE_1, PublishedCollection
from fncells.separation import SeparationSettings, separate
from fncells.spans import Spans, ferets, parts_and_holes, perimeters, spans_of_cells

__all__ = ["Measured", "size_findings"]

_SPECK = 0.05  # of the typical cell; the smallest of Table 1 are 0.11 to 0.17 of the median of their collection
_FAR = 6.0  # robust standard deviations
_ENOUGH = 20  # cells, to tell what is usual
_LEEWAY = 1.25  # sizes beyond the printed extremes by less are no news
_LEEWAY_PX = 3.0
_NARROW = 0.1  # least spread of logarithms: cells all but equal would make every other one an outlier
_NARROW_ROUGHNESS = 0.03
_ROUGHER = 1.25  # than usual, at least
_TOO_SMALL_PX2 = 50  # to tell a rough outline from pixels
_DENTED = 0.9  # solidity of one convex cell; what is more solid is not looked into
_MERGED = 1.3  # times the usual area
_A_CELL = 0.25  # least share of the whole that each of its cells has


@dataclass(frozen=True, eq=False)
class Measured:
    """Sizes of the cells of one picture, for comparison with all others.

    Attributes
    ----------
    file
        The picture's ground truth.
    areas, ferets
        Pixels and largest extent in pixels of each cell that has an area, shape (n,).
    roughness
        Length of each outline over that of its convex hull, shape (n,); NaN for cells with holes.
    parted
        Which cells look like several that touch, shape (n,).
    centres
        x, y in pixels, shape (n, 2).
    pixel_size_um
        None where unknown.
    pictures
        The picture itself.
    """

    file: str
    areas: NDArray[np.int64]
    ferets: NDArray[np.float64]
    roughness: NDArray[np.float64]
    parted: NDArray[np.bool_]
    centres: NDArray[np.float64]
    pixel_size_um: float | None
    pictures: tuple[str, ...] = ()

    @property
    def side(self) -> float:
        """Side of a pixel in µm, or 1 where sizes are in pixels."""
        return self.pixel_size_um or 1.0

    @property
    def scaled_areas(self) -> NDArray[np.float64]:
        """In µm² or pixels, shape (n,)."""
        return np.asarray(self.areas * self.side**2, dtype=np.float64)

    @property
    def scaled_ferets(self) -> NDArray[np.float64]:
        """In µm or pixels, shape (n,)."""
        return np.asarray(self.ferets * self.side, dtype=np.float64)

    @classmethod
    def of(
        cls, file: str, image: AnnotatedImage, pixel_size_um: float | None, pictures: tuple[str, ...] = ()
    ) -> "Measured":
        """Measure the cells that have an area; the picture's shape must be known."""
        spans = spans_of_cells(image)
        hulls = ferets(spans)
        _, holes = parts_and_holes(spans)
        return cls(
            file=file,
            areas=spans.areas,
            ferets=hulls.largest,
            # The border of a hole belongs to the perimeter and says nothing of the outline.
            roughness=np.where(holes > 0, np.nan, perimeters(spans) / hulls.convex_perimeter),
            parted=_parted(spans, spans.areas / np.maximum(hulls.convex_area, 1)),
            centres=spans.centres,
            pixel_size_um=pixel_size_um,
            pictures=pictures,
        )


def _parted(spans: Spans, solidity: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cells fall apart where touching cells are told from each other."""
    parted = np.zeros(len(spans), dtype=bool)
    parts, _ = parts_and_holes(spans)  # those in pieces are told elsewhere
    for cell in np.flatnonzero((solidity < _DENTED) & (spans.areas > _TOO_SMALL_PX2) & (parts == 1)):
        left, top, right, bottom = spans.boxes[cell]
        shape = np.zeros((bottom - top + 3, right - left + 3), dtype=bool)
        for span in range(spans.start[cell], spans.start[cell + 1]):
            shape[spans.y[span] - top + 1, spans.left[span] - left + 1 : spans.right[span] - left + 2] = True
        areas = np.bincount(separate(shape, SeparationSettings(max_hole=0, min_area=0)).ravel())[1:]
        parted[cell] = np.count_nonzero(areas >= _A_CELL * spans.areas[cell]) > 1
    return parted


@dataclass(frozen=True)
class _Usual:
    """Middle and robust spread of logarithms."""

    middle: float
    spread: float

    @classmethod
    def of(cls, pictures: Sequence[NDArray[np.float64]], narrow: float = _NARROW) -> "_Usual | None":
        """None where there are too few cells to tell."""
        values = np.concatenate(pictures)
        values = values[np.isfinite(values) & (values > 0)]
        if len(values) < _ENOUGH:
            return None
        logs = np.log(values)
        middle = float(np.median(logs))
        return cls(middle, max(1.4826 * float(np.median(np.abs(logs - middle))), narrow))

    @property
    def typical(self) -> float:
        return float(np.exp(self.middle))

    def distance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many spreads each value is above the middle."""
        return np.asarray((np.log(np.maximum(values, 1e-9)) - self.middle) / self.spread)


def size_findings(collection: str | None, pictures: Sequence[Measured]) -> Iterator[Finding]:
    """Find cells that are unlike the others of their collection.

    Specks are far smaller than the typical cell. For the rest, the extremes of Table 1 are the measure of sizes where the pixel
    size is known and the collection is one of the paper's; else what is far from all other cells. Outlines much rougher than
    usual, and large cells that look like several, are told as well.

    Parameters
    ----------
    collection
        Name of the collection; None for annotations of unknown origin.
    pictures
        All pictures that belong together.
    """
    for known in (True, False):
        group = [one for one in pictures if (one.pixel_size_um is not None) == known and len(one.areas)]
        if group:
            yield from _group_findings(collection, group, TABLE_1.get(collection or "") if known else None)


def _group_findings(
    collection: str | None, group: Sequence[Measured], table: PublishedCollection | None
) -> Iterator[Finding]:
    area = _Usual.of([one.scaled_areas for one in group])
    feret = _Usual.of([one.scaled_ferets for one in group])
    rough = _Usual.of([one.roughness[one.areas >= _TOO_SMALL_PX2] for one in group], _NARROW_ROUGHNESS)
    for one in group:
        areas, extents = one.scaled_areas, one.scaled_ferets
        speck = areas < _SPECK * area.typical if area else np.zeros(len(areas), dtype=bool)
        yield from _told(
            one,
            speck,
            "minor",
            "speck",
            ("region is", "regions are"),
            "far smaller than a cell, and each counts as one",
            "remove them (`fncells clean` does), or set a smallest area",
        )
        odd = np.zeros(len(areas), dtype=bool)
        expectation = ""
        if table is not None:
            odd = _beyond(areas, table.area_um2.quantiles, _LEEWAY_PX * one.side**2)
            odd |= _beyond(extents, table.feret_um.quantiles, _LEEWAY_PX * one.side)
            areas_told, extents_told = (
                f"{each.quantiles[0]:g} to {each.quantiles[-1]:g}" for each in (table.area_um2, table.feret_um)
            )
            expectation = (
                f"the {areas_told} µm² or the {extents_told} µm of Feret diameter that {collection} cells of the paper have "
                "(Table 1)"
            )
        elif area and feret:
            odd = (np.abs(area.distance(areas)) > _FAR) | (np.abs(feret.distance(extents)) > _FAR)
            square, length = ("µm²", "µm") if one.pixel_size_um else ("pixels", "pixels")
            expectation = f"the usual {area.typical:.0f} {square} and {feret.typical:.0f} {length} of extent"
        yield from _told(
            one,
            odd & ~speck,
            "minor" if table is not None else "note",
            "odd-size",
            ("cell is", "cells are"),
            f"far off {expectation}",
            "look whether several cells were outlined as one, or the pixel size is wrong",
        )
        yield from _shape_findings(one, areas, ~(odd | speck), area, rough)


def _shape_findings(
    one: Measured, areas: NDArray[np.float64], sound: NDArray[np.bool_], area: _Usual | None, rough: _Usual | None
) -> Iterator[Finding]:
    merged = one.parted & sound & (areas > _MERGED * area.typical if area else True)
    yield from _told(
        one,
        merged,
        "note",
        "perhaps-merged",
        ("large cell has", "large cells have"),
        "a waist as two cells that touch have: they would count as one",
        "look whether it is one cell; draw the two apart if not",
    )
    if rough:
        far = (rough.distance(one.roughness) > _FAR) & (one.roughness > _ROUGHER * rough.typical)
        yield from _told(
            one,
            far & sound & ~merged & (one.areas >= _TOO_SMALL_PX2),
            "note",
            "rough-outline",
            ("outline is", "outlines are"),
            f"much rougher than usual here (length over that of the convex hull usually {rough.typical:.2f}): left by a "
            "threshold, or drawn in haste",
            "smooth it (`fncells clean` does) or draw it anew; cells with processes may be as they are",
        )


def _told(
    one: Measured,
    which: NDArray[np.bool_],
    severity: Severity,
    kind: str,
    subject: tuple[str, str],
    why: str,
    advice: str,
) -> Iterator[Finding]:
    number = int(np.count_nonzero(which))
    if number:
        points = tuple((float(x), float(y)) for x, y in one.centres[which])
        text = f"{number} {subject[0] if number == 1 else subject[1]} {why}"
        yield Finding(severity, kind, one.file, places(points), text, advice, one.pictures, points)


def _beyond(values: NDArray[np.float64], quantiles: Sequence[float], rim: float) -> NDArray[np.bool_]:
    lowest, highest = quantiles[0], quantiles[-1]
    return np.asarray((values < lowest / _LEEWAY - rim) | (values > highest * _LEEWAY + rim))
