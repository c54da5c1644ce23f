"""From clusters of masks to one instance a point: detection, overlaps, disconnected parts, unseen points.

As MaskClustering (Yan et al., CVPR 2024) ends: a point is of a cluster that holds it in most of the frames
that see both, of two clusters that overlap much the smaller goes, and what hangs apart in space is divided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from open3dsg.geometry.mask_lifting import LiftedMasks
    from open3dsg.geometry.mask_thresholds import MergeThresholds

_NONE = -1
# Points closer than this many times the usual distance between neighbours of their instance hang together,
# however coarse the cloud: meshes of walls are often wider than the distance that divides things.
_SPACINGS = 3.0
_CELLS = 4  # along the distance that divides: the points of one cell hang together
_NEIGHBOURS = 32  # of an unseen point are looked at
_SAME_NORMAL = 0.7  # least cosine between normals: they are turned by 45 degrees at most
_OFF_SURFACE = 0.5  # most sine of the way to a point and the surface: it leaves it by 30 degrees at most
_TINY_M = 1e-6


def incidence(rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]) -> csr_array:
    """Return the sparse matrix, int32, that counts how often each row and column meet."""
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape)


def instances_of_points(
    points_world: NDArray[np.float32],
    normals: NDArray[np.float32] | None,
    lifted: LiftedMasks,
    on_mask: csr_array,
    cluster: NDArray[np.int32],
    seen: csr_array,
    thresholds: MergeThresholds,
) -> tuple[NDArray[np.int32], int]:
    """Return the instance of each point, (N,) int32 as `MergedMasks` has it, and how many points were filled.

    `on_mask` (N, M): the points of each mask; `cluster` (M,): the cluster of each mask, -1 for none; `seen`
    (M, F): the frames that see each mask as one thing.
    """
    votes, numbers = _votes(lifted, on_mask, cluster, seen, thresholds)
    whole = _most_voted(votes, numbers)
    parts = whole
    if thresholds.split_distance_m > 0:
        parts = connected_parts(points_world, whole, thresholds.split_distance_m)
    instance = _supported(parts, whole, on_mask, cluster, thresholds)
    filled = 0
    if thresholds.fill_distance_m > 0:
        unseen = ~lifted.seen & (instance == _NONE)
        nearest = _of_same_surface(points_world, normals, instance, unseen, thresholds.fill_distance_m)
        filled = int((nearest != _NONE).sum())
        instance[unseen] = nearest
    return _numbered(instance), filled


def _votes(
    lifted: LiftedMasks,
    on_mask: csr_array,
    cluster: NDArray[np.int32],
    seen: csr_array,
    thresholds: MergeThresholds,
) -> tuple[csr_array, NDArray[np.int64]]:
    """Count the frames in which each cluster holds each point, (N, K); 0 where those are too few.

    The clusters are those of enough masks that no larger one covers; return their numbers, (K,), as well.
    """
    members = np.flatnonzero(cluster >= 0)
    clusters = int(cluster.max(initial=-1)) + 1
    of_cluster = incidence(members, cluster[members], (len(cluster), clusters))
    enough = np.asarray(of_cluster.sum(axis=0)) >= thresholds.min_masks
    of_cluster = of_cluster[:, enough]
    held = on_mask @ of_cluster
    at_frame = incidence(np.arange(len(cluster)), lifted.frame, (len(cluster), seen.shape[1]))
    looked = (on_mask @ at_frame) @ (seen.T @ of_cluster).sign()
    # A cluster that holds a point in a frame is seen there: both have the same entries.
    looked = looked.multiply(held.sign()).tocsr()
    for counts in (held, looked):
        counts.sort_indices()
    held.data[held.data <= thresholds.detected * looked.data] = 0
    held.eliminate_zeros()
    kept = ~_covered(held, thresholds.overlap)
    return held[:, kept], np.flatnonzero(enough)[kept]


def _covered(votes: csr_array, overlap: float) -> NDArray[np.bool_]:
    """Tell which clusters, (K,), share more than `overlap` of their points with a larger one."""
    of_cluster = votes.sign()
    shared = (of_cluster.T @ of_cluster).tocoo()
    size = np.asarray(of_cluster.sum(axis=0))
    a, b = shared.row, shared.col
    smaller = (size[a] < size[b]) | ((size[a] == size[b]) & (a > b))
    covered = np.zeros(len(size), np.bool_)
    covered[a[smaller & (shared.data > overlap * size[a])]] = True
    return covered


def _most_voted(votes: csr_array, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the cluster with the most votes for each point, (N,) int32; the first of equals, -1 for none."""
    cluster = np.full(votes.shape[0], _NONE, np.int32)
    point = np.repeat(np.arange(votes.shape[0]), np.diff(votes.indptr))
    order = np.lexsort((-votes.indices, votes.data, point))
    cluster[point[order]] = numbers[votes.indices[order]]  # the last one written has the most
    return cluster


def connected_parts(
    points_world: NDArray[np.float32], instance: NDArray[np.int32], distance_m: float
) -> NDArray[np.int32]:
    """Divide instances into parts that lie further apart than `distance_m`; return the part of each point.

    `points_world`: (N, 3) float32, metres; `instance`: (N,) int32, -1 is none, and so are the parts, numbered
    anew from 0. Coarse clouds are not torn: the distance is at least three times the usual one between
    neighbours of the instance. Points are thinned to cells of a fourth of it first, so that dense clouds cost
    no more; where they are closer the distance holds to a cell or two.
    """
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    inside = np.flatnonzero(instance >= 0)
    if len(inside) == 0:
        return instance.copy()
    place = np.unique(instance[inside], return_inverse=True)[1]
    scaled = points_world[inside] / _reach(points_world[inside], place, distance_m)[place, None]
    cells = np.column_stack([np.floor(scaled * _CELLS).astype(np.int64), place])
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    # The instance is a fourth direction in which those of two instances are always too far apart.
    places = np.column_stack([scaled[first], 2.0 * place[first]])
    pairs = cKDTree(places).query_pairs(1.0, output_type="ndarray")
    links = incidence(pairs[:, 0], pairs[:, 1], (len(first), len(first)))
    part = connected_components(links, directed=False)[1]
    parts = np.full(len(instance), _NONE, np.int32)
    parts[inside] = part[cell.ravel()]
    return parts


def _reach(points: NDArray[np.float32], place: NDArray[np.int64], distance_m: float) -> NDArray[np.float64]:
    """Return the distance that divides each instance, (K,) metres; `place` (P,): the instance of a point."""
    from scipy.spatial import cKDTree

    apart_m = 1000.0 * max(1.0, distance_m)
    places = np.column_stack([points, apart_m * place])
    spacing = np.asarray(cKDTree(places).query(places, k=2, workers=-1)[0])[:, 1]
    order = np.lexsort((spacing, place))
    count = np.bincount(place)
    middle = spacing[order][np.cumsum(count) - count + count // 2]
    # An instance of one point has its neighbour in another one.
    return np.maximum(np.where(middle < apart_m / 2, _SPACINGS * middle, 0), distance_m)


def _supported(
    part: NDArray[np.int32],
    whole: NDArray[np.int32],
    on_mask: csr_array,
    cluster: NDArray[np.int32],
    thresholds: MergeThresholds,
) -> NDArray[np.int32]:
    """Drop the parts of too few points, or of too few masks of their cluster, which `whole` (N,) tells.

    A mask counts where it holds enough points of the part to be one.
    """
    parts = int(part.max(initial=_NONE)) + 1
    inside = np.flatnonzero(part >= 0)
    of_part = incidence(part[inside], np.arange(len(inside)), (parts, len(inside)))
    cluster_of_part = np.full(parts, _NONE, np.int32)
    cluster_of_part[part[inside]] = whole[inside]
    shares = (of_part @ on_mask[inside]).tocoo()
    own = cluster[shares.col] == cluster_of_part[shares.row]
    masks = np.bincount(shares.row[own & (shares.data >= thresholds.min_mask_points)], minlength=parts)
    points = np.bincount(part[inside], minlength=parts)
    kept = (masks >= thresholds.min_masks) & (points >= thresholds.min_points)
    return np.where((part >= 0) & np.append(kept, False)[part], part, _NONE).astype(np.int32)


def _of_same_surface(
    points_world: NDArray[np.float32],
    normals: NDArray[np.float32] | None,
    instance: NDArray[np.int32],
    asked: NDArray[np.bool_],
    distance_m: float,
) -> NDArray[np.int32]:
    """Return, for the points that are `asked` (N,), the instance of the nearest point on the same surface.

    That is the nearest of 32 within `distance_m` whose normal is turned by less than 45 degrees and to which
    the way leaves the surface by less than 30; without normals the nearest of all. -1 where there is none.
    """
    from scipy.spatial import cKDTree

    inside = np.flatnonzero(instance >= 0)
    if len(inside) == 0 or not asked.any():
        return np.full(int(asked.sum()), _NONE, np.int32)
    points = points_world[asked]
    count = min(_NEIGHBOURS, len(inside))
    distance, near = cKDTree(points_world[inside]).query(
        points, k=list(range(1, count + 1)), distance_upper_bound=distance_m, workers=-1
    )
    close = np.isfinite(distance)
    near = inside[np.where(close, near, 0)]
    if normals is not None:
        close &= np.einsum("nd,nkd->nk", normals[asked], normals[near]) > _SAME_NORMAL
        off_m = np.abs(np.einsum("nd,nkd->nk", normals[asked], points_world[near] - points[:, None]))
        close &= off_m <= _OFF_SURFACE * distance + _TINY_M
    chosen = near[np.arange(len(near)), close.argmax(axis=1)]
    return np.where(close.any(axis=1), instance[chosen], _NONE).astype(np.int32)


def _numbered(instance: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number instances from 0 by falling number of points; of equals the first in the cloud comes first."""
    numbers, first, place, count = np.unique(
        instance, return_index=True, return_inverse=True, return_counts=True
    )
    foreground = np.flatnonzero(numbers >= 0)
    order = foreground[np.lexsort((first[foreground], -count[foreground]))]
    new = np.full(len(numbers), _NONE, np.int32)
    new[order] = np.arange(len(order))
    return new[place]
