"""Pictures that are in a collection more than once: the same pixels, or the same picture turned, mirrored or re-encoded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.audit.finding import Finding, Severity

__all__ = ["Portrait", "duplicate_findings"]

_SIDE = 32
_ALIKE = 0.8  # correlation of two portraits: different pictures stay below 0.65, the same one saved anew is above 0.8
_FAINTEST = 0.02  # grey levels; what is flatter has nothing to compare
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Portrait:
    """What is kept of a picture to know it again.

    Attributes
    ----------
    file
        The picture.
    collection, partition
        Where it belongs.
    digest
        SHA-256 of its shape and pixels.
    features
        Its fine structure, float32, shape (1024,), of mean 0 and length 1; None where it has none.
    """

    file: str
    collection: str
    partition: str
    digest: str
    features: NDArray[np.float32] | None

    @staticmethod
    def features_of(pixels: NDArray[np.generic]) -> NDArray[np.float32] | None:
        """Reduce a picture to its fine structure.

        Broad light and shade are taken out, as every picture of a microscope darkens towards its corners; so are single
        pixels, as a camera's hot ones are at the same place in all its pictures.
        """
        grey = _brightest_channel(pixels)
        despeckled = cv2.medianBlur(np.ascontiguousarray(grey), 3)
        small = cv2.resize(despeckled.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        fine = small - cv2.GaussianBlur(small, (0, 0), _SIDE / 8)
        # The brightest cells alone would decide otherwise, and two pictures with one cell each look alike.
        fine = np.sign(fine) * np.sqrt(np.abs(fine))
        fine -= fine.mean()
        length = float(np.linalg.norm(fine))
        return None if length < _SIDE * np.sqrt(_FAINTEST) else (fine / length).astype(np.float32).ravel()


def _brightest_channel(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Brightest channel of each pixel; plane by plane, which is ten times as quick as along the last axis."""
    if pixels.ndim == 2:
        return pixels
    brightest = np.ascontiguousarray(pixels[..., 0])
    for channel in range(1, pixels.shape[2]):
        np.maximum(brightest, pixels[..., channel], out=brightest)
    return brightest


def duplicate_findings(portraits: Sequence[Portrait]) -> Iterator[Finding]:
    """Find pictures that are there more than once.

    Parameters
    ----------
    portraits
        One a picture; memory grows with their number, not with its square.
    """
    first: dict[str, Portrait] = {}
    for one in portraits:
        if one.digest in first:
            yield _finding(one, first[one.digest], "duplicate-picture", "the same pixels as")
        first.setdefault(one.digest, one)
    for collection in sorted({one.collection for one in portraits}):
        # Twins were told above, and a picture that is like one of them is like the other.
        of_it = [one for one in first.values() if one.collection == collection and one.features is not None]
        yield from _near(of_it)


def _near(portraits: Sequence[Portrait]) -> Iterator[Finding]:
    if len(portraits) < 2:
        return
    features = np.stack([one.features for one in portraits if one.features is not None])
    for start in range(0, len(features), _BLOCK):
        block = features[start : start + _BLOCK]
        best = np.max([_turned(block, turn) @ features[: start + len(block)].T for turn in range(8)], axis=0)
        for row, column in zip(*np.nonzero(best > _ALIKE), strict=True):
            if column < start + row:
                share = f"{100 * best[row, column]:.0f} %"
                how = f"alike to {share} (turned, mirrored, saved anew, or the next focal plane):"
                yield _finding(portraits[start + int(row)], portraits[int(column)], "near-duplicate", how)


def _turned(block: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    """All portraits in one of the eight ways to lay down a square."""
    squares = block.reshape(-1, _SIDE, _SIDE)
    squares = np.rot90(squares, turn % 4, axes=(1, 2))
    return np.ascontiguousarray(squares if turn < 4 else squares[:, ::-1]).reshape(len(block), -1)


def _finding(one: Portrait, other: Portrait, kind: str, how: str) -> Finding:
    leak = {one.partition, other.partition} == {"trainval", "test"}
    meaning = "it was trained on and tests itself" if leak else "its cells count twice"
    severity: Severity = "serious" if leak else "minor"
    pictures = (one.file, other.file)
    return Finding(severity, kind, one.file, None, f"{how} {other.file}: {meaning}", "remove one of the two", pictures)
