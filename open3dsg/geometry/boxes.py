"""Centroid, axis-aligned box and upright oriented box of every instance of a cloud.

An oriented box stands upright: one axis is world +z, the other two are the sides of the smallest rectangle
around the points in the floor plane. That rectangle has a side along an edge of the points' convex hull
(Freeman and Shapira, 1975), so the edges are tried one by one. The hull is Andrew's monotone chain (1979).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array, check_finite, check_same_length
from open3dsg.geometry.compiled import array_type, compiled

# A direction with a smaller x than this counts as the y direction, so that rounding does not choose its sign.
_TINY = 1e-9


@dataclass(frozen=True)
class InstanceBoxes:
    """Boxes of M instances, by ascending instance number; metres, in the frame of the points."""

    numbers: NDArray[np.int32]  # (M,)
    point_count: NDArray[np.int64]  # (M,)
    centroid: NDArray[np.float64]  # (M, 3) mean of the points
    aabb_min: NDArray[np.float64]  # (M, 3)
    aabb_max: NDArray[np.float64]  # (M, 3)
    obb_centre: NDArray[np.float64]  # (M, 3)
    obb_axes: NDArray[np.float64]  # (M, 3, 3) rows are unit vectors: long side, short side, +z; right-handed
    obb_lengths: NDArray[np.float64]  # (M, 3) whole extents along the axes


def instance_boxes(points_world: NDArray[np.float32], instance: NDArray[np.int32]) -> InstanceBoxes:
    """Measure every instance of a cloud whose z points up.

    `points_world`: (N, 3) float32, metres; `instance`: (N,) int32, -1 is background, which is left out.
    The long side points to +x, or to +y where it has no x. One point, or many at one place, get a box of
    lengths 0 along the axes of the world; points in one line a box of width 0 along the line.
    Raises ValueError for a wrong shape or dtype, UserError for a point that is not finite.
    """
    check_array("points_world", points_world, (None, 3), np.float32)
    check_array("instance", instance, (None,), np.int32)
    check_same_length("points_world", points_world, "instance", instance)
    check_finite("the cloud", points_world)
    foreground = np.flatnonzero(instance >= 0)
    x, y, _ = points_world[foreground].T
    order = foreground[np.lexsort((y, x, instance[foreground]))]
    points = points_world[order].astype(np.float64)
    numbers, starts = np.unique(instance[order], return_index=True)
    point_count = np.diff(np.append(starts, len(order)))
    low = np.minimum.reduceat(points, starts, axis=0)
    high = np.maximum.reduceat(points, starts, axis=0)
    rectangles = np.empty((len(numbers), 6), np.float64)
    _rectangles(np.ascontiguousarray(points[:, :2]), np.append(starts, len(order)), rectangles)
    axes = np.zeros((len(numbers), 3, 3))
    axes[:, 0, :2] = rectangles[:, 4:]
    axes[:, 1, 0], axes[:, 1, 1] = -rectangles[:, 5], rectangles[:, 4]
    axes[:, 2, 2] = 1.0
    return InstanceBoxes(
        numbers=numbers,
        point_count=point_count,
        centroid=np.add.reduceat(points, starts, axis=0) / point_count[:, None],
        aabb_min=low,
        aabb_max=high,
        obb_centre=np.column_stack([rectangles[:, :2], (low[:, 2] + high[:, 2]) / 2]),
        obb_axes=axes,
        obb_lengths=np.column_stack([rectangles[:, 2:4], high[:, 2] - low[:, 2]]),
    )


_POINTS = array_type(nb.float64, 2)
_WRITTEN = array_type(nb.float64, 2, written=True)


@compiled(nb.int64(_POINTS, nb.int64, nb.int64, _WRITTEN))
def _hull(xy: NDArray[np.float64], start: int, stop: int, hull: NDArray[np.float64]) -> int:
    """Write the convex hull of points start..stop, sorted by x, then y, into `hull`; return its corners.

    Corners run counter-clockwise, relative to the first point, and the first is repeated after the last;
    points on an edge are no corners. `hull` needs room for 2 (stop - start) rows.
    """
    corners = 0
    chain_start = 0
    count = stop - start
    for step in range(2 * count - 1):  # to the right along the lower side, and back along the upper side
        i = start + (step if step < count else 2 * count - 2 - step)
        if step == count:
            chain_start = corners - 1
        x, y = xy[i, 0] - xy[start, 0], xy[i, 1] - xy[start, 1]
        while corners - chain_start >= 2:
            ax, ay = hull[corners - 2]
            bx, by = hull[corners - 1]
            if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                break
            corners -= 1
        hull[corners, 0], hull[corners, 1] = x, y
        corners += 1
    return max(corners - 1, 1)


@compiled(nb.void(_POINTS, array_type(nb.int64, 1), _WRITTEN))
def _rectangles(xy: NDArray[np.float64], starts: NDArray[np.int64], rectangles: NDArray[np.float64]) -> None:
    """Fill `rectangles` with centre x, y, long side, short side, and x, y of the long side's direction."""
    hull = np.empty((2 * len(xy) + 1, 2), np.float64)
    for group in range(len(starts) - 1):
        corners = _hull(xy, starts[group], starts[group + 1], hull)
        smallest = np.inf
        for edge in range(corners):
            edge_x, edge_y = hull[edge + 1, 0] - hull[edge, 0], hull[edge + 1, 1] - hull[edge, 1]
            length = np.hypot(edge_x, edge_y)
            ux, uy = (edge_x / length, edge_y / length) if corners > 1 and length > 0 else (1.0, 0.0)
            s_min, s_max, t_min, t_max = np.inf, -np.inf, np.inf, -np.inf
            for corner in range(corners):
                s = hull[corner, 0] * ux + hull[corner, 1] * uy
                t = hull[corner, 1] * ux - hull[corner, 0] * uy
                s_min, s_max, t_min, t_max = min(s_min, s), max(s_max, s), min(t_min, t), max(t_max, t)
            along, across = s_max - s_min, t_max - t_min
            if along * across >= smallest:
                continue
            smallest = along * across
            s, t = (s_min + s_max) / 2, (t_min + t_max) / 2
            x, y = xy[starts[group], 0] + s * ux - t * uy, xy[starts[group], 1] + s * uy + t * ux
            if across > along:
                along, across, ux, uy = across, along, -uy, ux
            if ux < -_TINY or (ux <= _TINY and uy < 0):
                ux, uy = -ux, -uy
            rectangles[group] = (x, y, along, across, ux, uy)
