"""How predictions are compared with the truth, in one value."""

import math
from dataclasses import dataclass
from typing import Literal

from fncells.errors import InputError

__all__ = ["RULES", "THRESHOLDS", "EvaluateSettings", "Rule", "check_distance", "check_threshold"]

Rule = Literal["one-to-one", "published"]

RULES: tuple[Rule, ...] = ("one-to-one", "published")

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU thresholds of the curve and of the average precision: 0.5 to 0.95 in steps of 0.05."""


@dataclass(frozen=True)
class EvaluateSettings:
    """How predictions are compared with the truth.

    Attributes
    ----------
    iou
        Least IoU of a pair in segmentation, above 0 and up to 1.
    distance
        Largest distance of a pair's centres in detection, in pixels.
    distance_um
        The same in micrometres, where each picture's pixel size is known; it goes before the one in pixels.
    pixel_size
        Micrometres a pixel, for all pictures; it goes before what the pictures' files tell.
    rule
        ``one-to-one``: every cell in one pair at most, and of all ways to pair them off the best; or ``published``: the
        procedure behind Table 2 of Clissa et al., FNC v2, with its faults. Both are laid out in docs/evaluation.md.
    group
        What is drawn as a whole in the resampling behind the intervals: the picture, or all pictures of an animal, as their
        names tell it.
    bootstrap
        Resamples behind the intervals; 0 gives none. A single picture or group gives none either.
    seed
        Seed of the resampling.
    confidence
        Share of the resamples that the intervals hold, between 0 and 1.
    ending
        What the predictions' names have more than the true ones, like ``_cp_masks``; the endings that well-known tools write
        are understood without.
    workers
        Processes that match pictures; the result does not depend on it.
    """

    iou: float = 0.5
    distance: float = 40.0
    distance_um: float | None = None
    pixel_size: float | None = None
    rule: Rule = "one-to-one"
    group: Literal["picture", "animal"] = "picture"
    bootstrap: int = 1000
    seed: int = 0
    confidence: float = 0.95
    ending: str = ""
    workers: int = 1

    def __post_init__(self) -> None:
        check_threshold(self.iou)
        check_distance(self.distance)
        if self.distance_um is not None:
            check_distance(self.distance_um, "µm")
        if self.pixel_size is not None and not 0 < self.pixel_size < math.inf:
            raise InputError("pixel size", expected="micrometres above 0", found=str(self.pixel_size))
        if self.rule not in RULES:
            raise InputError("rule", expected=" or ".join(RULES), found=repr(self.rule))
        if self.group not in ("picture", "animal"):
            raise InputError("group", expected="picture or animal", found=repr(self.group))
        if not 0 < self.confidence < 1:
            raise InputError("confidence", expected="a number between 0 and 1", found=str(self.confidence))
        for name, least in (("bootstrap", 0), ("seed", 0), ("workers", 1)):
            if getattr(self, name) < least:
                raise InputError(name, expected=f"{least} or more", found=str(getattr(self, name)))


def check_threshold(threshold: float) -> None:
    """Refuse an IoU threshold that means nothing."""
    # At 0 every pair would do, cells at opposite ends of the picture included.
    if not 0 < threshold <= 1:
        raise InputError("IoU threshold", expected="a number above 0 and up to 1", found=str(threshold))


def check_distance(distance: float, unit: str = "pixels") -> None:
    """Refuse a distance that means nothing."""
    if not 0 <= distance < math.inf:
        raise InputError("distance", expected=f"0 or more {unit}", found=str(distance))
