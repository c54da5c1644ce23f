"""The closest two points of two groups of points, for many pairs of groups."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.compiled import array_type, compiled

_BLOCK = 32  # points that are compared with others, or passed over, together


class ClosestPoints:
    """Groups of points, in blocks of neighbours whose boxes say which blocks need not be compared."""

    def __init__(self, points: NDArray[np.float64], group_start: NDArray[np.int64]) -> None:
        """Cut groups into blocks.

        `points`: (N, 3) float64, metres; group i is rows group_start[i] to group_start[i + 1], none empty, in
        an order in which neighbours are near one another; `group_start`: (K + 1,) int64, from 0 to N.
        """
        self._points = np.ascontiguousarray(points)
        blocks = -(-np.diff(group_start) // _BLOCK)
        self._first = np.append(0, np.cumsum(blocks))  # block of each group
        within = np.arange(self._first[-1]) - np.repeat(self._first[:-1], blocks)
        start = np.repeat(group_start[:-1], blocks) + within * _BLOCK
        self._start = np.append(start, len(points))
        self._boxes = _bounds(self._points, start)
        self._group_boxes = _bounds(self._points, group_start[:-1])

    def between(self, a: int, b: int) -> tuple[float, int, int]:
        """Find the closest points of groups `a` and `b`: distance in metres, row of one and of the other.

        Where several pairs of points are equally close it is always the same one.
        """
        rows = np.zeros(2, np.int64)
        square = self._search(a, b, np.inf, rows)
        return float(np.sqrt(square)), int(rows[0]), int(rows[1])

    def within(self, a: NDArray[np.int64], b: NDArray[np.int64], distance_m: float) -> NDArray[np.bool_]:
        """Say which pairs of groups come as close as `distance_m` metres; `a`, `b`: (P,) int64; (P,) bool."""
        low, high = self._group_boxes[:, :3], self._group_boxes[:, 3:]
        gaps = np.maximum(np.maximum(low[a] - high[b], low[b] - high[a]), 0)
        # Searched a little further than is meant: what is found is rounded, and then compared exactly.
        reach_m = distance_m * (1 + 1e-9) + 1e-12
        limit = reach_m * reach_m  # infinite where it is too much for a float, which ** 2 refuses
        near: NDArray[np.bool_] = (gaps**2).sum(axis=1) <= limit
        rows = np.zeros(2, np.int64)
        for pair in np.flatnonzero(near):
            near[pair] = np.sqrt(self._search(a[pair], b[pair], limit, rows)) <= distance_m
        return near

    def _search(self, a: int, b: int, limit: float, rows: NDArray[np.int64]) -> float:
        """Find the smallest squared distance below `limit` and fill in its rows; `limit` if there is none."""
        blocks_a, blocks_b = self._first[a : a + 2], self._first[b : b + 2]
        box_b = self._group_boxes[b]
        return float(_closest(self._points, self._start, self._boxes, blocks_a, blocks_b, box_b, limit, rows))


def _bounds(points: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bound the runs of points that begin at `starts`: (M, 6), lower corner and upper corner."""
    if len(starts) == 0:
        return np.zeros((0, 6))
    return np.hstack([np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)])


_FLOATS_2D = array_type(nb.float64, 2)
_FLOATS = array_type(nb.float64, 1)
_INTS = array_type(nb.int64, 1)
_ROWS = array_type(nb.int64, 1, written=True)


@compiled(nb.float64(_FLOATS, _FLOATS))
def _gap(box_a: NDArray[np.float64], box_b: NDArray[np.float64]) -> float:
    """Squared distance of two boxes; rounding makes it no more than between any two points inside."""
    x = max(box_a[0] - box_b[3], box_b[0] - box_a[3], 0.0)
    y = max(box_a[1] - box_b[4], box_b[1] - box_a[4], 0.0)
    z = max(box_a[2] - box_b[5], box_b[2] - box_a[5], 0.0)
    return float(x * x + y * y + z * z)


@compiled(nb.float64(_FLOATS_2D, nb.int64, nb.int64, nb.int64, nb.int64, nb.float64, _ROWS))
def _compare(
    points: NDArray[np.float64],
    a_start: int,
    a_stop: int,
    b_start: int,
    b_stop: int,
    smallest: float,
    rows: NDArray[np.int64],
) -> float:
    """Compare all points of two blocks: the smallest squared distance, or `smallest` if none is less."""
    for i in range(a_start, a_stop):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for j in range(b_start, b_stop):
            square = (points[j, 0] - x) ** 2 + (points[j, 1] - y) ** 2 + (points[j, 2] - z) ** 2
            if square < smallest:
                smallest = square
                rows[0], rows[1] = i, j
    return float(smallest)


@compiled(nb.float64(_FLOATS_2D, _INTS, _FLOATS_2D, _INTS, _INTS, _FLOATS, nb.float64, _ROWS))
def _closest(
    points: NDArray[np.float64],
    start: NDArray[np.int64],
    boxes: NDArray[np.float64],
    blocks_a: NDArray[np.int64],
    blocks_b: NDArray[np.int64],
    box_b: NDArray[np.float64],
    smallest: float,
    rows: NDArray[np.int64],
) -> float:
    """Go through the blocks of a, those nearest to the box of b first, and compare each with blocks of b.

    The nearest block of b is compared first: the distance found rules out most of the others.
    """
    gaps_a = np.array([_gap(boxes[i], box_b) for i in range(blocks_a[0], blocks_a[1])])
    gaps_b = np.empty(blocks_b[1] - blocks_b[0])
    for a in np.argsort(gaps_a):
        if gaps_a[a] >= smallest:
            break
        i = blocks_a[0] + a
        for b in range(len(gaps_b)):
            gaps_b[b] = _gap(boxes[i], boxes[blocks_b[0] + b])
        nearest = int(np.argmin(gaps_b))
        for turn in range(-1, len(gaps_b)):
            b = nearest if turn < 0 else turn
            if gaps_b[b] < smallest:
                j = blocks_b[0] + b
                smallest = _compare(points, start[i], start[i + 1], start[j], start[j + 1], smallest, rows)
    return smallest
