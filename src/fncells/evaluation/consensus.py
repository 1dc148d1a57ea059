"""What several annotators agree upon: by majority, or by STAPLE, which weighs each by how reliable it turns out to be.

Both decide pixel by pixel. The consensus's cells are the 8-connected components of its mask, as for any mask; only where an
annotator has drawn cells that touch, which a mask cannot tell apart, a component is parted among the cells that more than half
of the annotators share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit, logit

from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.evaluation.matching import Overlap

__all__ = ["MOST_ANNOTATORS", "Staple", "consensus_cells", "majority", "staple", "touching"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST_ANNOTATORS = 30

_CONVERGED = 1e-16  # summed square of the changes of all sensitivities and specificities
_MOST_ROUNDS = 2000
_NEVER_SURE = 1e-12
# Two annotators' cells are taken for the same one here from this IoU on: half of each within the other. It parts components
# only; which cells agree is then measured as always.
_SAME_CELL = 1 / 3


@dataclass(frozen=True, eq=False)
class Staple:
    """What STAPLE makes of several masks of one picture.

    Attributes
    ----------
    probability
        Shape (height, width): belief that a pixel is truly part of a cell, 0 to 1.
    sensitivity, specificity
        Shape (annotators,): share of the true cell pixels that each has marked, and of the background that each has left out;
        NaN where nobody has marked anything.
    """

    probability: Floats
    sensitivity: Floats
    specificity: Floats

    @property
    def mask(self) -> Mask:
        """Pixels that are at least as likely part of a cell as not."""
        return np.asarray(self.probability >= 0.5)


def majority(masks: Sequence[Mask]) -> Mask:
    """Take the pixels that more than half of the annotators have marked.

    Parameters
    ----------
    masks
        One a annotator, all of one shape.
    """
    return np.asarray(2 * np.sum(masks, axis=0, dtype=np.int32) > len(masks))


def staple(masks: Sequence[Mask]) -> Staple:
    """Estimate the truth behind several masks, and each annotator's performance, by expectation maximisation.

    STAPLE of Warfield, Zou and Wells (IEEE Transactions on Medical Imaging 23, 2004), for two classes, with the prior
    probability of a cell pixel set to its mean share over the masks, as ITK's filter has it. What a pixel is believed to be
    depends on who has marked it alone, so the work goes with the different patterns of marks and not with the pixels.

    Parameters
    ----------
    masks
        One an annotator, two to thirty, all of one shape.

    Returns
    -------
    Staple

    Raises
    ------
    InputError
        If there are too few or too many.
    """
    if not 2 <= len(masks) <= MOST_ANNOTATORS:
        raise InputError("annotators", expected=f"2 to {MOST_ANNOTATORS}", found=str(len(masks)))
    codes = np.zeros(masks[0].shape, dtype=np.int32)
    for bit, mask in enumerate(masks):
        codes |= mask.astype(np.int32) << bit
    seen, pixels, inverse = _patterns(codes, 2 ** len(masks))
    marked = (seen[:, np.newaxis] >> np.arange(len(masks)) & 1).astype(np.float64)
    belief, sensitivity, specificity = _estimated(marked, pixels.astype(np.float64))
    return Staple(belief[inverse], sensitivity, specificity)


def consensus_cells(name: str, mask: Mask, annotated: Sequence[AnnotatedImage]) -> AnnotatedImage:
    """Give the cells of a consensus mask.

    Parameters
    ----------
    name
        The picture's name.
    mask
        The consensus, shape (height, width).
    annotated
        The annotators' cells on that picture; none are needed where nobody's cells touch.
    """
    if not any(touching(image.labels) for image in annotated):
        return AnnotatedImage.from_mask(name, mask)
    shared = _shared_cells(annotated)
    votes = np.stack([owner[image.labels] for owner, image in zip(shared, annotated, strict=True)])
    components = AnnotatedImage.from_mask(name, mask).labels
    owner = np.where(mask, _plurality(votes), 0)
    cells = np.zeros(mask.shape, dtype=np.int64)
    taken = 0
    for number, box in enumerate(ndimage.find_objects(components), 1):
        inside = components[box] == number
        found, parts = np.unique(np.where(inside, owner[box], 0), return_inverse=True)
        parts = parts.reshape(inside.shape) + int(found[0] != 0)
        if parts.max() < 2:
            parts = inside.astype(np.int64)
        elif bool((inside & (parts == 0)).any()):
            # Pixels that belong to no shared cell go to the nearest one.
            nearest = ndimage.distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
            parts = parts[tuple(nearest)]
        cells[box][inside] = parts[inside] + taken
        taken += int(parts.max())
    return AnnotatedImage.from_labels(name, _in_raster_order(cells))


def _patterns(
    codes: NDArray[np.int32], possible: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give the codes that occur, how many pixels have each, and for every pixel the place of its code."""
    if possible > codes.size:
        values, inverse, pixels = np.unique(codes, return_inverse=True, return_counts=True)
        return values.astype(np.int64), pixels.astype(np.int64), inverse.reshape(codes.shape)
    counts = np.bincount(codes.ravel(), minlength=possible).astype(np.int64)
    seen = np.flatnonzero(counts).astype(np.int64)
    places = np.zeros(possible, dtype=np.int64)
    places[seen] = np.arange(len(seen))
    return seen, counts[seen], places[codes]


def _estimated(marked: Floats, pixels: Floats) -> tuple[Floats, Floats, Floats]:
    """Belief in each pattern, then sensitivity and specificity of each annotator."""
    belief = marked.mean(axis=1)
    prior = float(pixels @ belief / pixels.sum())
    if prior in (0.0, 1.0):
        perfect, unknown = np.ones(marked.shape[1]), np.full(marked.shape[1], np.nan)
        return belief, *((unknown, perfect) if prior == 0 else (perfect, unknown))
    last = np.zeros((2, marked.shape[1]))
    for _ in range(_MOST_ROUNDS):
        cell, background = pixels * belief, pixels * (1 - belief)
        rates = np.stack([cell @ marked / cell.sum(), background @ (1 - marked) / background.sum()])
        belief = _expected(marked, rates, prior)
        if float(((rates - last) ** 2).sum()) < _CONVERGED:
            break
        last = rates
    return belief, rates[0], rates[1]


def _expected(marked: Floats, rates: Floats, prior: float) -> Floats:
    """Bayes' rule over all annotators, as sums of logarithms, which many annotators do not underflow."""
    sensitivity, specificity = np.clip(rates, _NEVER_SURE, 1 - _NEVER_SURE)
    says_yes, says_no = np.log(sensitivity / (1 - specificity)), np.log((1 - sensitivity) / specificity)
    return np.asarray(expit(logit(prior) + marked @ says_yes + (1 - marked) @ says_no))


def touching(labels: NDArray[np.int32]) -> bool:
    """Tell whether two cells of a label picture, shape (height, width), have neighbouring pixels, diagonal ones included."""
    height, width = labels.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = labels[: height - down, max(0, -right) : width - max(0, right)]
        there = labels[down:, max(0, right) : width + min(0, right)]
        if bool(((here != there) & (here > 0) & (there > 0)).any()):
            return True
    return False


def _shared_cells(annotated: Sequence[AnnotatedImage]) -> list[NDArray[np.int64]]:
    """Give for each annotator's label values the numbers of the cells that more than half of the annotators share, else 0.

    Cells are joined from the best agreement downward, and no annotator twice.
    """
    edges = []
    for one, other in combinations(range(len(annotated)), 2):
        matching = Overlap.between(annotated[one], annotated[other]).match(_SAME_CELL)
        edges += [
            (-iou, (one, int(mine)), (other, int(theirs)))
            for (mine, theirs), iou in zip(matching.pairs, matching.values, strict=True)
        ]
    cluster = {(who, cell): {who: cell} for who, image in enumerate(annotated) for cell in range(len(image.cells))}
    for _, mine, theirs in sorted(edges):
        here, there = cluster[mine], cluster[theirs]
        if here is not there and not here.keys() & there.keys():
            here |= there
            for node in there.items():
                cluster[node] = here
    owners = [np.zeros(int(image.numbers.max(initial=0)) + 1, dtype=np.int64) for image in annotated]
    agreed = {id(one): one for one in cluster.values() if 2 * len(one) > len(annotated)}
    for number, members in enumerate(agreed.values(), 1):
        for who, cell in members.items():
            owners[who][annotated[who].numbers[cell]] = number
    return owners


def _plurality(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of numbers given by several voters, shape (voters, …), the one named most often; 0 is no vote, ties go to the first."""
    support = np.stack([((votes == one) & (one > 0)).sum(axis=0) for one in votes])
    return np.asarray(np.take_along_axis(votes, support.argmax(axis=0)[np.newaxis], axis=0)[0])


def _in_raster_order(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber cells by their first pixels."""
    values, first = np.unique(cells, return_index=True)
    ranks = np.zeros(int(cells.max(initial=0)) + 1, dtype=np.int64)
    present = values > 0
    ranks[values[present][np.argsort(first[present])]] = np.arange(1, int(present.sum()) + 1)
    return ranks[cells]
