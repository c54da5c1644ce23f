"""Level of detail: an order of points of which every beginning covers the whole cloud; how close they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.geometry.checks import check_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEIGHBOURS = 4
_ALONE_M = 0.03  # what few points are drawn as
_BITS = 16  # a grid of 65,536 cells an axis: 0.2 mm in a room of 10 m


def progressive_order(points_world: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the indices (N,) of points (N, 3) float32, metres, from the coarsest to the finest.

    The first n of them are one point of each cell of a grid as fine as n points allow, so that any beginning
    shows the whole room. Cells are those of an octree, found by one sort along a Z-order curve (Morton,
    1966): the highest bit in which a point's code differs from the one before says of which size of cell the
    point is the first.
    """
    check_array("points_world", points_world, (None, 3), np.float32)
    if not len(points_world):
        return np.empty(0, np.intp)
    low = points_world.min(axis=0)
    side = float((points_world.max(axis=0) - low).max()) or 1.0
    cells = np.minimum((points_world - low) / side * 2**_BITS, 2**_BITS - 1).astype(np.uint64)
    codes = _spread(cells[:, 0]) << np.uint64(2) | _spread(cells[:, 1]) << np.uint64(1) | _spread(cells[:, 2])
    along = np.argsort(codes, kind="stable")
    # The first of all differs from nothing: it stands for the cell that holds everything.
    differing = np.append(np.uint64(2) ** np.uint64(3 * _BITS), codes[along][1:] ^ codes[along][:-1])
    # frexp gives the number of bits; 48 of them are exact in float64.
    level = (np.frexp(differing.astype(np.float64))[1] + 2) // 3
    # Within a level in no spatial order: a beginning that ends inside it must not leave out one corner.
    shuffled = np.random.default_rng(0).permutation(len(points_world))
    order: NDArray[np.intp] = along[shuffled[np.argsort(-level[shuffled], kind="stable")]]
    return order


def near_points(
    points_world: NDArray[np.float32],
    order: NDArray[np.intp],
    focus: NDArray[np.float64],
    radius_m: float,
    limit: int,
) -> NDArray[np.intp]:
    """Return those of `order` within `radius_m` of the point `focus` (3,), in that order, at most `limit`."""
    offsets = points_world[order] - focus.astype(np.float32)
    near = np.einsum("ij,ij->i", offsets, offsets) <= radius_m**2
    found: NDArray[np.intp] = order[near][:limit]
    return found


def spacing_m(
    points_world: NDArray[np.float32], instance: NDArray[np.int32], sample: int = 60_000
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the instances (M,) ascending of points (N, 3), and how far apart the points of each lie (M,), m.

    That is the median distance to the fourth nearest point, which on a square grid is its side. Things are
    scanned from different distances: one number would not do for floor and cup. About `sample` points are
    looked at, but 16 of each instance.
    """
    from scipy.spatial import cKDTree

    numbers, place, count = np.unique(instance, return_inverse=True, return_counts=True)
    if len(points_world) <= _NEIGHBOURS:
        return numbers, np.full(len(numbers), _ALONE_M)
    every = np.maximum(1, np.minimum(len(instance) // sample, count // 16))
    by_instance = np.argsort(place, kind="stable")
    looked_at = by_instance[np.arange(len(instance)) % every[place[by_instance]] == 0]
    away = cKDTree(points_world).query(points_world[looked_at], [_NEIGHBOURS + 1])[0][:, 0]
    # The median of each instance: in the middle of its distances in ascending order.
    of = place[looked_at]
    away = away[np.lexsort((away, of))]
    counts = np.bincount(of, minlength=len(numbers))
    return numbers, away[np.cumsum(counts) - (counts + 1) // 2]


def _spread(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put two zero bits between the 16 bits of each value."""
    for shift, mask in (
        (16, 0x0000FF0000FF),
        (8, 0x00F00F00F00F),
        (4, 0x0C30C30C30C3),
        (2, 0x249249249249),
    ):
        values = (values | values << np.uint64(shift)) & np.uint64(mask)
    return values
