"""Farthest-point samples: each next point is the one furthest from all that were taken before it.

Gonzalez (1985) shows that the first n points, for any n, cover the cloud within twice the best radius; Eldar
et al. (1997) brought the order to images and PointNet++ (Qi et al., 2017) to point clouds. Taking a point
changes only the distances around it, and fewer with every point taken. So the points are kept in blocks of
neighbours, and a block is passed over where its box lies too far away for a distance in it to change (an idea
of QuickFPS, Han et al., 2023). What comes out is the plain algorithm's sample, not an approximation of it.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array, check_finite
from open3dsg.geometry.compiled import array_type, compiled

# The package fpsample takes 2 to 5 times as long for the parts of a cloud that is in order already, 3,000 of
# 5,000 to 150,000 points, and takes one of several coincident points again and again.
_BLOCK = 256  # points of a block: faster than 64, 128 and 512 for samples of 3,000 and 5,000
_BITS_OF_AXIS = 21  # three of them fit into 64
_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def farthest_points(points: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Choose `count` of the points, each as far as possible from those chosen before it.

    `points`: (N, 3) float32. Returns (min(N, count),) int64, rows of `points`, each at most once; the first n
    are the sample of n. The first is the point furthest from the mean, so that the same points always give
    the same sample. Points that coincide with earlier ones come last.
    Raises ValueError for a wrong shape, dtype or count, UserError for a point that is not finite.
    """
    check_array("points", points, (None, 3), np.float32)
    check_count(count)
    check_finite("the cloud", points)
    if len(points) == 0:
        return np.zeros(0, np.int64)
    order = near_order(points)
    return order[farthest_of_ordered(np.ascontiguousarray(centred(points)[order].T), count)]


def check_count(count: int) -> None:
    """Raise ValueError unless a sample may have this many points."""
    if count < 1:
        raise ValueError(f"a sample of {count} points: expected at least 1")


def near_order(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order points, (N, 3), so that neighbours in the order are neighbours in space: (N,) int64 rows.

    That of Morton (1966): by the bits of all three coordinates in turn, 21 of each. Coincident points stay in
    their order. It suits blocks as well as the leaves of a k-d tree do, and needs none.
    """
    if len(points) == 0:
        return np.zeros(0, np.int64)
    away = points.astype(np.float64)
    away -= away.min(axis=0)
    away *= (2**_BITS_OF_AXIS - 1) / (away.max() or 1)
    code = _bits_apart(away.astype(np.uint64)) << np.arange(3, dtype=np.uint64)
    return np.argsort(np.bitwise_or.reduce(code, axis=1), kind="stable")


def _bits_apart(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put two zeros before each of the lowest 21 bits: halves move apart, then halves of these, and so on."""
    for shift, kept in _SPREAD:
        values = (values | values << np.uint64(shift)) & np.uint64(kept)
    return values


def centred(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move the median of points, (N, 3), to the origin and scale them so that no coordinate is beyond 1.

    What is computed of them in float32 is then as exact far from the origin as near it, where most points
    are even if a few are far off, and never overflows.
    """
    if len(points) == 0:
        return points
    away = points.astype(np.float64)
    away -= np.median(away, axis=0)
    away /= np.abs(away).max() or 1
    return away.astype(np.float32)


_POINTS = array_type(nb.float32, 2)
_ROW = array_type(nb.float32, 1)
_BOXES = array_type(nb.float32, 2, written=True)
_FLOATS = array_type(nb.float32, 1, written=True)
_BITS = array_type(nb.int32, 1)


@compiled(nb.int64(_POINTS))
def _furthest_from_mean(xyz: NDArray[np.float32]) -> int:
    """Find the point furthest from the mean of all, the first of those where there are several."""
    mean = [xyz[axis].astype(np.float64).mean() for axis in range(3)]
    return int(np.argmax((xyz[0] - mean[0]) ** 2 + (xyz[1] - mean[1]) ** 2 + (xyz[2] - mean[2]) ** 2))


@compiled(_BOXES(_POINTS, nb.int64))
def _boxes(xyz: NDArray[np.float32], blocks: int) -> NDArray[np.float32]:
    """Bound each block: (6, blocks), the lower corners above the upper ones."""
    boxes = np.empty((6, blocks), np.float32)
    for block in range(blocks):
        for axis in range(3):
            values = xyz[axis, block * _BLOCK : (block + 1) * _BLOCK]
            boxes[axis, block], boxes[axis + 3, block] = values.min(), values.max()
    return boxes


@compiled(nb.void(_BOXES, nb.float32, nb.float32, nb.float32, _FLOATS))
def _measure_gaps(boxes: NDArray[np.float32], x: float, y: float, z: float, gap: NDArray[np.float32]) -> None:
    """Fill in the squared distance of a point to each box; rounding makes none more than to points inside."""
    low_x, low_y, low_z = boxes[0], boxes[1], boxes[2]  # one by one: numba unpacks rows into slower arrays
    high_x, high_y, high_z = boxes[3], boxes[4], boxes[5]
    zero = np.float32(0)
    for i in range(len(gap)):
        across = max(low_x[i] - x, x - high_x[i], zero)
        along = max(low_y[i] - y, y - high_y[i], zero)
        up = max(low_z[i] - z, z - high_z[i], zero)
        gap[i] = across * across + along * along + up * up


@compiled(nb.void(_ROW, _ROW, _ROW, nb.float32, nb.float32, nb.float32, _FLOATS))
def _lower(
    xs: NDArray[np.float32],
    ys: NDArray[np.float32],
    zs: NDArray[np.float32],
    x: float,
    y: float,
    z: float,
    distance: NDArray[np.float32],
) -> None:
    """Lower squared distances to those from the point x, y, z, where these are less."""
    for i in range(len(distance)):
        across, along, up = xs[i] - x, ys[i] - y, zs[i] - z
        distance[i] = min(distance[i], across * across + along * along + up * up)


@compiled(nb.int32(_BITS))
def _largest(values: NDArray[np.int32]) -> int:
    largest = values[0]
    for i in range(1, len(values)):
        largest = max(largest, values[i])
    return int(largest)


@compiled(nb.int64(_BITS, nb.int64, nb.int32))
def _first(values: NDArray[np.int32], start: int, wanted: int) -> int:
    """Find the first place from `start` on of a value that is there."""
    while values[start] != wanted:
        start += 1
    return start


@compiled(nb.int64[::1](_POINTS, nb.int64))
def farthest_of_ordered(xyz: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Sample points that lie in an order such as `near_order`'s or a part of it; see `farthest_points`.

    `xyz`: (3, N) float32, C-contiguous, N > 0, as `centred` leaves them. Returns (min(N, count),) int64, the
    columns taken.
    """
    xs, ys, zs = xyz[0], xyz[1], xyz[2]
    points = len(xs)
    blocks = -(-points // _BLOCK)
    boxes = _boxes(xyz, blocks)
    gap = np.empty(blocks, np.float32)
    # Squared distances to the nearest chosen point, -1 for a chosen one, and the largest of each block. Read
    # as int32, floats that are not negative keep their order, and a processor compares many of them at once.
    distance, largest = np.full(points, np.inf, np.float32), np.full(blocks, np.inf, np.float32)
    distance_bits, largest_bits = distance.view(np.int32), largest.view(np.int32)
    sample = np.empty(min(points, count), np.int64)
    chosen = _furthest_from_mean(xyz)
    for step in range(len(sample)):
        if step > 0:
            furthest = _largest(largest_bits)
            if furthest <= 0:  # all the others coincide with chosen ones
                sample[step:] = np.flatnonzero(distance >= 0)[: len(sample) - step]
                break
            block = _first(largest_bits, 0, furthest)
            chosen = _first(distance_bits, block * _BLOCK, furthest)
        sample[step] = chosen
        distance[chosen] = -1
        x, y, z = xs[chosen], ys[chosen], zs[chosen]
        _measure_gaps(boxes, x, y, z, gap)
        for block in range(blocks):
            if gap[block] < largest[block]:
                i, j = block * _BLOCK, min((block + 1) * _BLOCK, points)
                _lower(xs[i:j], ys[i:j], zs[i:j], x, y, z, distance[i:j])
                largest_bits[block] = _largest(distance_bits[i:j])
    return sample
