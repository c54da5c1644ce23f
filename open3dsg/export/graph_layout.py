"""Places for the boxes of a drawn graph, so that none lies on another: arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.export.network import networkx_package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FILLED = 0.22  # share of the picture that boxes take, before they are pushed apart
_PUSHES = 100  # before the picture grows
_GROWTH = 1.1
_ENOUGH = 0.1  # pixels that may lack of the gap


def place_boxes(
    sizes: NDArray[np.float64], links: Sequence[tuple[int, int]], hints: NDArray[np.float64], gap: float
) -> NDArray[np.float64]:
    """Return the centres (N, 2) of boxes with `sizes` (N, 2), which are drawn near what they are linked to.

    Springs pull along `links`, starting from `hints` (N, 2), of any scale (Fruchterman and Reingold 1991);
    then boxes that are less than `gap` apart push each other away. The same input gives the same picture.
    """
    if len(sizes) < 2:
        return np.zeros((len(sizes), 2))
    side = float(np.sqrt(np.prod(sizes + gap, axis=1).sum() / _FILLED))
    centres = _sprung(links, hints) * side
    while not _pushed_apart(centres, sizes, gap):
        centres *= _GROWTH
    return centres


def _sprung(links: Sequence[tuple[int, int]], hints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places (N, 2) within a square of side 1 around 0."""
    package = networkx_package()
    network = package.Graph()
    network.add_nodes_from(range(len(hints)))
    network.add_edges_from(links)
    start = dict(enumerate(_within_one(hints)))
    found = package.spring_layout(network, pos=start, seed=0, iterations=60, method="force")
    return _within_one(np.array([found[place] for place in range(len(hints))], np.float64))


def _within_one(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places (N, 2) moved to -0.5 ... 0.5; a little noise parts those that coincide."""
    middle = (places.max(axis=0) + places.min(axis=0)) / 2
    extent = np.ptp(places, axis=0).max() or 1.0
    noise = np.random.default_rng(0).uniform(-1e-3, 1e-3, places.shape)
    return np.asarray((places - middle) / extent + noise)


def _pushed_apart(centres: NDArray[np.float64], sizes: NDArray[np.float64], gap: float) -> bool:
    """Move the boxes in place, each pair that is too near along the axis that costs less; tell if none is."""
    from scipy.spatial import cKDTree

    reach = sizes.max(axis=0) + gap  # no two boxes further apart than this along either axis can meet
    for _ in range(_PUSHES):
        pairs = cKDTree(centres / reach).query_pairs(1.0, p=np.inf, output_type="ndarray")
        first, second = pairs.T
        apart = centres[first] - centres[second]
        lacking = (sizes[first] + sizes[second]) / 2 + gap - np.abs(apart)
        near = (lacking > _ENOUGH).all(axis=1)
        if not near.any():
            return True
        first, second, apart, lacking = first[near], second[near], apart[near], lacking[near]
        cheap = lacking[:, 0] < lacking[:, 1]
        push = np.where(np.stack([cheap, ~cheap], axis=1), lacking * np.where(apart < 0, -0.5, 0.5), 0.0)
        np.add.at(centres, first, push)
        np.subtract.at(centres, second, push)
    return False
