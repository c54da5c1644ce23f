"""Masks of frames clustered by view consensus: which masks show the same thing.

The method is MaskClustering (Yan et al., CVPR 2024). Two masks of different frames belong together where the
frames that see both agree: some mask of theirs holds the two. All of it follows from one sparse matrix, the
number of points that each two masks share: no picture and no point is looked at again. Masks of one frame do
not overlap here, so that no point has to be left out as lying on two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.geometry.checks import check_array
from open3dsg.geometry.mask_instances import incidence, instances_of_points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from open3dsg.geometry.mask_lifting import LiftedMasks
    from open3dsg.geometry.mask_thresholds import MergeThresholds

# What masks of a frame hold of another mask makes that visible there, whatever its share: 500 points where
# published, which in ScanNet's clouds lie 2 cm apart.
_LARGE_M2 = 0.2
_NEIGHBOURS = 8
_AREA_M2 = (1e-6, 0.02)  # least and most that a point may stand for: coincident points, stray points
_PERCENTILES = np.arange(95, -5, -5)  # of the numbers of observers, from strict to lax; as published
_BLOCK = 2048  # rows of the matrix of observers that are held at once


@dataclass(frozen=True)
class MergedMasks:
    """Instances of a scan's points: `instance` (N,) int32, from 0 by falling number of points, -1 is none."""

    instance: NDArray[np.int32]
    undersegmented: int  # masks left out since they cover several things
    clusters: int  # of masks, before those of too few masks or points went
    filled: int  # points that no frame sees


def merge_masks(
    points_world: NDArray[np.float32],
    normals: NDArray[np.float32] | None,
    lifted: LiftedMasks,
    thresholds: MergeThresholds,
) -> MergedMasks:
    """Merge lifted masks into instances of the points.

    `points_world`: (N, 3) float32, metres, those that the masks were lifted onto; `normals`: (N, 3) float32
    of unit length, or None where there are none. The instances do not depend on the ids that masks had.
    Raises ValueError where there are no masks, or for a wrong shape or dtype.
    """
    check_array("points_world", points_world, (None, 3), np.float32)
    if len(lifted.frame) == 0:
        raise ValueError("there are no masks to merge")
    on_mask = incidence(lifted.point, lifted.mask, (len(points_world), len(lifted.frame)))
    views = _views(on_mask, _areas(points_world), lifted.frame, thresholds)
    cluster = _clusters(views, thresholds.consensus)
    instance, filled = instances_of_points(
        points_world, normals, lifted, on_mask, cluster, views.seen, thresholds
    )
    return MergedMasks(instance, int((~views.whole).sum()), cluster.max(initial=-1) + 1, filled)


@dataclass(frozen=True)
class _Views:
    """What frames say of the M masks: `seen` (M, F), frames that see each as one thing; `holders` (M, M), the
    masks that hold it there; `whole` (M,) bool, false for masks that cover several things.
    """

    seen: csr_array
    holders: csr_array
    whole: NDArray[np.bool_]


def _areas(points_world: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the area that each point stands for, (N,) float32, m2: its share of a disc of its neighbours."""
    from scipy.spatial import cKDTree

    count = min(_NEIGHBOURS, len(points_world) - 1)
    if count < 1:
        return np.full(len(points_world), _AREA_M2[0], np.float32)
    distance, _near = cKDTree(points_world).query(points_world, k=[count + 1], workers=-1)
    area_m2: NDArray[np.float64] = np.pi * distance[:, 0] ** 2 / count
    return area_m2.clip(*_AREA_M2).astype(np.float32)


def _views(
    on_mask: csr_array, area_m2: NDArray[np.float32], frame: NDArray[np.int32], thresholds: MergeThresholds
) -> _Views:
    """Look at every mask from every frame that holds points of it."""
    weighted = on_mask.astype(np.float32)
    weighted.data *= np.repeat(area_m2, np.diff(weighted.indptr))
    shared = (on_mask.T @ weighted).tocsr()
    shared.sort_indices()
    masks = len(frame)
    size = shared.diagonal()
    of, other, area = np.repeat(np.arange(masks), np.diff(shared.indptr)), shared.indices, shared.data
    # Entries of a row ascend by mask, and so by frame: those of one mask and one frame lie side by side.
    at = frame[other]
    is_first = np.ones(len(of), np.bool_)
    is_first[1:] = (of[1:] != of[:-1]) | (at[1:] != at[:-1])
    first = np.flatnonzero(is_first)
    total, most = np.add.reduceat(area, first), np.maximum.reduceat(area, first)
    view = np.cumsum(is_first) - 1
    largest = np.flatnonzero(area == most[view])
    holder = other[largest[np.unique(view[largest], return_index=True)[1]]]
    of, at = of[first], at[first]
    visible = (total >= thresholds.visible * size[of]) | (total >= _LARGE_M2)
    split = visible & (most <= thresholds.contained * total)
    whole = np.bincount(of[split], minlength=masks) <= thresholds.undersegmented * np.bincount(
        of[visible], minlength=masks
    )
    # A mask that covers several things holds any of them: what it says of others is worth nothing.
    says = visible & ~split & whole[holder]
    seen = incidence(of[says], at[says], (masks, int(frame.max(initial=-1)) + 1))
    return _Views(seen, incidence(of[says], holder[says], (masks, masks)), whole)


def _clusters(views: _Views, consensus: float) -> NDArray[np.int32]:
    """Return the cluster of each mask, (M,) int32 from 0; -1 for one that covers several things.

    Clusters are joined round by round, first those that many frames see together, then those that fewer do.
    """
    from scipy.sparse.csgraph import connected_components

    cluster = np.full(len(views.whole), -1, np.int32)
    whole = np.flatnonzero(views.whole)
    if len(whole) == 0:
        return cluster
    seen, holders = views.seen[whole], views.holders[whole]
    label = np.arange(len(whole))
    for observers in _rounds(seen):
        a, b = _links(seen, holders, observers, consensus)
        if len(a) == 0:
            continue
        count = seen.shape[0]
        joined, group = connected_components(incidence(a, b, (count, count)), directed=False)
        gather = incidence(group, np.arange(count), (joined, count))
        seen, holders = (gather @ seen).sign(), (gather @ holders).sign()
        label = group[label]
    cluster[whole] = label
    return cluster


def _rounds(seen: csr_array) -> Iterator[int]:
    """Give the least number of observers of each round: percentiles of those that pairs of masks have."""
    frames_of_pairs = np.zeros(seen.shape[1] + 1, np.int64)
    for _start, observers in _observer_blocks(seen):
        frames_of_pairs += np.bincount(observers.ravel().astype(np.int64), minlength=len(frames_of_pairs))
    frames_of_pairs[0] = 0
    pairs_up_to = np.cumsum(frames_of_pairs)
    for percentile in _PERCENTILES:
        least = int(np.searchsorted(pairs_up_to, percentile / 100 * pairs_up_to[-1], side="right"))
        if least > 1 or percentile >= 50:
            yield max(least, 1)


def _links(
    seen: csr_array, holders: csr_array, least_observers: int, consensus: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of clusters, a below b, that the frames which see both agree on."""
    from scipy.sparse import triu

    supporters = triu(holders @ holders.T, k=1).tocsr()
    pairs_a, pairs_b = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start, observers in _observer_blocks(seen):
        rows = supporters[start : start + _BLOCK].tocoo()
        both = observers[rows.row, rows.col]
        agreed = (both >= least_observers) & (rows.data >= consensus * both)
        pairs_a.append(rows.row[agreed].astype(np.int64) + start)
        pairs_b.append(rows.col[agreed].astype(np.int64))
    return np.concatenate(pairs_a), np.concatenate(pairs_b)


def _observer_blocks(seen: csr_array) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give the frames that see both of each two clusters, a block of rows after the other, with its first."""
    dense = seen.toarray().astype(np.float32)
    for start in range(0, len(dense), _BLOCK):
        yield start, dense[start : start + _BLOCK] @ dense.T
