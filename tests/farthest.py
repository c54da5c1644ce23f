"""What a farthest-point sample is, said plainly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def distances_to_earlier(points: NDArray[np.float32], sample: NDArray[np.int64]) -> tuple[float, float]:
    """How far a sample is from the rule, and how far from its last point the cloud still reaches, in metres.

    The first number is the most by which, at any step, some point lay further from those already taken than
    the point then taken did. The second is the coverage radius.
    """
    wide = points.astype(np.float64)
    nearest = np.full(len(points), np.inf)
    missed = 0.0
    for step, row in enumerate(sample):
        if step > 0:
            missed = max(missed, nearest.max() - nearest[row])
        nearest = np.minimum(nearest, np.linalg.norm(wide - wide[row], axis=1))
    return missed, float(nearest.max(initial=0))


def plain_sample(points: NDArray[np.float32], count: int, first: int) -> NDArray[np.int64]:
    """Take the furthest point again and again, in float64."""
    wide = points.astype(np.float64)
    nearest = np.full(len(points), np.inf)
    sample = [first]
    while len(sample) < min(count, len(points)):
        nearest = np.minimum(nearest, np.linalg.norm(wide - wide[sample[-1]], axis=1))
        sample.append(int(nearest.argmax()))
    return np.array(sample)
