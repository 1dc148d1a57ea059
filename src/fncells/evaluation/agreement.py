"""How well people agree: each with each other, and each with what all of them, or the others, agree upon.

Whoever is part of a consensus agrees with it the better for it. What a person reaches against the consensus of the *others* is
the fairer measure of how good a prediction can be hoped to be.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation.annotations import Annotation, as_annotations, keyed
from fncells.evaluation.comparing import averaged
from fncells.evaluation.consensus import MOST_ANNOTATORS
from fncells.evaluation.contests import MAJORITY, STAPLE, TRUTH, Contest, Plan, Side, hold
from fncells.evaluation.scores import SCORES, Evaluation
from fncells.evaluation.settings import EvaluateSettings

__all__ = ["Agreement", "agree"]


@dataclass(frozen=True, eq=False)
class Agreement:
    """The agreement of several annotators.

    Attributes
    ----------
    annotators
        Their names.
    settings
        How it was measured.
    pairs
        By two names, how the second agrees with the first; F1 is the same either way round.
    consensus
        How each annotator agrees with the consensus: by its kind, then by name. Kinds are ``majority`` and ``staple``, of all
        annotators; ``others``, the majority of the other ones, from three annotators on; ``given``, one that was given.
    performance
        Sensitivity and specificity of each annotator by STAPLE, pixel by pixel, mean over the pictures; None where none tells.
    counts
        Number of cells by picture, then by annotator or kind of consensus.
    absent
        Pictures that an annotator has not annotated, by name; they are left out where that one is compared.
    failed
        Why pictures of an annotator could not be used.
    """

    annotators: tuple[str, ...]
    settings: EvaluateSettings
    pairs: Mapping[tuple[str, str], Evaluation]
    consensus: Mapping[str, Mapping[str, Evaluation]]
    performance: Mapping[str, tuple[float | None, float | None]]
    counts: Mapping[str, Mapping[str, int]]
    absent: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, Mapping[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Give all figures by name, ready for JSON; scores without a value are None."""
        settings = self.settings
        return {
            "rule": settings.rule,
            "pictures": len(self.counts),
            "annotators": list(self.annotators),
            "iou_threshold": settings.iou,
            "distance_px": settings.distance if settings.distance_um is None else None,
            "distance_um": settings.distance_um,
            "pairs": [{"annotators": list(names), **_scores(one)} for names, one in self.pairs.items()],
            "pairs_mean": averaged(list(self.pairs.values())),
            "consensus": {
                kind: {
                    "mean": averaged(list(of_kind.values())),
                    "annotators": {name: self._against(kind, name, one) for name, one in of_kind.items()},
                }
                for kind, of_kind in self.consensus.items()
            },
            "bootstrap": {
                "resamples": settings.bootstrap,
                "seed": settings.seed,
                "confidence": settings.confidence,
                "by": next(iter(self.pairs.values())).drawn_by,
            },
            "absent": {name: list(pictures) for name, pictures in self.absent.items()},
            "failed": {name: dict(reasons) for name, reasons in self.failed.items()},
            "per_picture": [{"picture": picture, "cells": dict(cells)} for picture, cells in self.counts.items()],
        }

    def _against(self, kind: str, name: str, evaluation: Evaluation) -> dict[str, Any]:
        rates = dict(zip(("sensitivity", "specificity"), self.performance.get(name, ()), strict=False))
        return {**_scores(evaluation), **(rates if kind == STAPLE.name else {})}


def agree(
    annotators: Mapping[str, Iterable[AnnotatedImage | Annotation]],
    settings: EvaluateSettings | None = None,
    *,
    consensus: Iterable[AnnotatedImage | Annotation] | None = None,
    groups: Mapping[str, str] | None = None,
    pixel_sizes: Mapping[str, float] | None = None,
) -> Agreement:
    """Compare every annotator with every other, and with what they agree upon.

    Parameters
    ----------
    annotators
        The annotated pictures of each, by the annotator's name. A picture without cells counts; one that is not among an
        annotator's pictures is left out where that one is compared.
    settings
        None takes the defaults. The rule is always one-to-one.
    consensus
        One that was reached otherwise, to compare with as well.
    groups, pixel_sizes
        As :func:`fncells.evaluation.evaluate` takes them.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError
        If there are fewer than two annotators or too many, or no two of them share a picture.
    """
    settings = settings or EvaluateSettings()
    if not 2 <= len(annotators) <= MOST_ANNOTATORS:
        raise InputError(
            "annotators", expected=f"at least two and at most {MOST_ANNOTATORS}", found=str(len(annotators))
        )
    people = {Side("person", name): keyed(as_annotations(one), "annotated") for name, one in annotators.items()}
    given = {} if consensus is None else {TRUTH: keyed(as_annotations(consensus), "consensus")}
    names = {key: one.name for side in reversed(people.values()) for key, one in side.items()}
    pairs = [Contest(*pair) for pair in combinations(people, 2)]
    kinds = {"majority": MAJORITY, "staple": STAPLE, **({"given": TRUTH} if given else {})}
    against = {kind: [Contest(side, person) for person in people] for kind, side in kinds.items()}
    if len(people) > 2:
        against["others"] = [Contest(Side("others", person.name), person) for person in people]
    plan = Plan(
        settings, [*pairs, *(one for contests in against.values() for one in contests)], groups or {}, pixel_sizes or {}
    )
    found = hold(plan, {**people, **given}, names)
    compared = {(one.first.name, one.second.name): found.evaluations[one] for one in pairs if one in found.evaluations}
    if not compared:
        firsts = [next(iter(side.values())).name if side else "nothing" for side in people.values()]
        raise InputError("annotators", expected="pictures of the same names", found=" and ".join(firsts[:2]))
    return Agreement(
        tuple(annotators),
        settings,
        compared,
        {kind: known for kind, contests in against.items() if (known := _of(found.evaluations, contests))},
        found.performance,
        {
            picture: {_called(side): n for side, n in cells.items() if side.kind != "others"}
            for picture, cells in found.counts.items()
        },
        {
            side.name: tuple(sorted(name for key, name in names.items() if key not in one))
            for side, one in people.items()
            if not names.keys() <= one.keys()
        },
        {
            _called(side): {picture: str(error) for picture, error in errors.items()}
            for side, errors in found.failed.items()
        },
    )


def _of(evaluations: Mapping[Contest, Evaluation], contests: Iterable[Contest]) -> dict[str, Evaluation]:
    return {one.second.name: evaluations[one] for one in contests if one in evaluations}


def _called(side: Side) -> str:
    return side.name or "given"


def _scores(evaluation: Evaluation) -> dict[str, Any]:
    told = evaluation.as_dict()
    kept = {task: told[task] for task in SCORES}
    kept["segmentation"].pop("curve")
    return {"pictures": told["pictures"], **kept}
