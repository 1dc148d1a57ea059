"""Small label pictures for the tests of all formats: noise, blobs, rings, islands in holes, several parts."""

import cv2
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def drawn_map(seed, size=24):
    """Rings, discs and rectangles over each other, with specks: cells with holes, islands and several parts."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size + 3), dtype=np.int32)
    for number in rng.permutation(rng.integers(1, 40, size=rng.integers(1, 9))).tolist():
        x, y, radius = (int(value) for value in rng.integers(0, size, size=3))
        thickness = int(rng.choice([-1, 1, 2]))
        if rng.random() < 0.3:
            cv2.rectangle(labels, (x, y), (x + radius // 2, y + radius // 3), number, thickness)
        else:
            cv2.circle(labels, (x, y), radius // 3, number, thickness)
    specks = rng.random(labels.shape) < rng.choice([0, 0.05])
    labels[specks] = rng.integers(0, 5, size=int(specks.sum()))
    return labels


def label_maps(largest=2**31 - 1):
    """Label pictures of up to 24 x 27 pixels; a part of them has large, gapped numbers."""
    noise = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))
    drawn = st.integers(0, 2**32 - 1).map(drawn_map)
    factor = st.sampled_from([1, 1, 1, 7, 1500, largest // 40])
    return st.builds(lambda labels, by: labels * np.int32(by), st.one_of(noise, drawn), factor)
