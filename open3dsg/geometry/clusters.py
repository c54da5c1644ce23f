"""Groups of vectors by direction: spherical k-means (Dhillon and Modha, Machine Learning 2001)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 30  # more move few members from group to group
# Unit vectors of a smaller 1 - cosine count as one direction: float32 leaves about 1e-7 of equal ones.
_SAME = 1e-5


def cluster_directions(vectors: NDArray[np.float32], clusters: int, seed: int = 0) -> NDArray[np.float32]:
    """Return unit centres, (k, d) float32, of the directions of `vectors` (n, d), n at least 1.

    k is `clusters`, or less where there are fewer directions. The first centres are drawn as k-means++ does
    (Arthur and Vassilvitskii, SODA 2007), by `seed`. Rows of zeros have no direction and move no centre.
    """
    unit = _directions(vectors)
    centres = _first_centres(unit, clusters, np.random.default_rng(seed))
    nearest = np.full(len(unit), -1)
    for _ in range(ROUNDS):
        found = nearest_directions(unit, centres)
        if np.array_equal(found, nearest):
            break
        nearest = found
        sums = (nearest == np.arange(len(centres))[:, None]).astype(np.float32) @ unit
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # A group that lost all its members keeps its centre.
        centres = np.divide(sums, lengths, out=centres, where=lengths > 0)
    return centres


def nearest_directions(vectors: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return, (n,), which of the unit `centres` (k, d) is nearest in direction to each row of (n, d)."""
    nearest: NDArray[np.int64] = (vectors @ centres.T).argmax(axis=1)
    return nearest


def _first_centres(
    unit: NDArray[np.float32], clusters: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Draw one vector after another, the likelier the further it is from those drawn."""
    centres = [unit[random.integers(len(unit))]]
    distance = np.full(len(unit), np.inf)
    while len(centres) < clusters:
        distance = np.minimum(distance, 1 - unit @ centres[-1])
        weights = np.where(distance > _SAME, distance, 0).astype(np.float64)
        if not weights.any():
            break
        centres.append(unit[random.choice(len(unit), p=weights / weights.sum())])
    return np.stack(centres)


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows of `vectors` that have a direction, at length 1; any one where none has."""
    lengths = np.linalg.norm(vectors, axis=1)
    if not lengths.any():
        return np.eye(1, vectors.shape[1], dtype=np.float32)
    unit: NDArray[np.float32] = vectors[lengths > 0] / lengths[lengths > 0, None]
    return unit
