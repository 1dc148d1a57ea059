"""How sure a score is: the bootstrap over pictures, or over groups of pictures such as those of one animal.

Pictures of one animal are no independent witnesses. Resampling whole animals (the cluster bootstrap) keeps them together, so
that the interval speaks of other animals and not only of other pictures of the same ones.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fncells.evaluation.settings import EvaluateSettings

__all__ = ["Interval", "interval", "resamples"]

Floats = NDArray[np.float64]
Interval = tuple[float, float] | None


def resamples(groups: Sequence[str], settings: EvaluateSettings) -> Floats:
    """Draw groups with replacement, as many as there are, over and over.

    Parameters
    ----------
    groups
        The group of each picture; what is equal is drawn together.
    settings
        How often, and the seed.

    Returns
    -------
    numpy.ndarray
        Shape (resamples, pictures): how often each picture was drawn. No rows where there is a single group.
    """
    names, membership = np.unique(np.array(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return np.zeros((0, len(groups)))
    drawn = np.random.default_rng(settings.seed).integers(0, len(names), (settings.bootstrap, len(names)))
    offset = np.arange(settings.bootstrap)[:, np.newaxis] * len(names)
    times = np.bincount((drawn + offset).ravel(), minlength=settings.bootstrap * len(names))
    return np.asarray(times.reshape(settings.bootstrap, len(names))[:, membership], dtype=np.float64)


def interval(observed: float | None, values: Floats, confidence: float) -> Interval:
    """Give the percentiles that hold the middle share of a score's resampled values.

    Parameters
    ----------
    observed
        The score itself; where it has no value, neither has its interval.
    values
        NaN where a resample has no value; these are passed over.
    confidence
        The share, between 0 and 1.
    """
    known = values[~np.isnan(values)]
    if observed is None or not len(known):
        return None
    tail = 50 * (1 - confidence)
    low, high = np.percentile(known, (tail, 100 - tail))
    return float(low), float(high)
