"""Triangles that carry labels, turned into points that do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array, check_same_length


def labels_of_vertices(
    triangles: NDArray[np.int64], labels: NDArray[np.int32], vertices: int, background: int
) -> NDArray[np.int32]:
    """Return the label of each vertex, (`vertices`,) int32: that of most of its triangles.

    `triangles`: (F, 3) int64; `labels`: (F,) int32, one a triangle. Where as many triangles say one as
    another the lower number counts, and `background` last; it is also the label of a vertex without any.
    Raises ValueError for a wrong shape or dtype.
    """
    check_array("triangles", triangles, (None, 3), np.int64)
    check_array("labels", labels, (None,), np.int32)
    check_same_length("triangles", triangles, "labels", labels)
    numbers, places = np.unique(labels, return_inverse=True)
    votes = triangles.ravel() * len(numbers) + np.repeat(places, 3)
    ballots, counts = np.unique(votes, return_counts=True)
    vertex, place = np.divmod(ballots, max(len(numbers), 1))
    last = numbers[place] == background
    order = np.lexsort((place, last, -counts, vertex))
    winners, first = np.unique(vertex[order], return_index=True)
    found = np.full(vertices, background, np.int32)
    found[winners] = numbers[place[order][first]]
    return found


def triangle_areas(xyz_m: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the area of each triangle in square metres, (F,); `xyz_m`: (N, 3), `triangles`: (F, 3)."""
    corner, second, third = np.moveaxis(xyz_m[triangles], 1, 0)
    areas: NDArray[np.float64] = np.linalg.norm(np.cross(second - corner, third - corner), axis=1) / 2
    return areas


def sample_triangles(
    xyz_m: NDArray[np.float64], triangles: NDArray[np.int64], per_m2: float, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return points spread evenly at random over a mesh, (M, 3) float64, and the triangle of each, (M,).

    `xyz_m`: (N, 3) float64; `triangles`: (F, 3) int64. M is the whole area times `per_m2`, rounded. The same
    `seed` gives the same points. Raises ValueError for a wrong shape or dtype.
    """
    check_array("xyz_m", xyz_m, (None, 3), np.float64)
    check_array("triangles", triangles, (None, 3), np.int64)
    corner, second, third = np.moveaxis(xyz_m[triangles], 1, 0)
    upto = np.cumsum(triangle_areas(xyz_m, triangles))
    whole = float(upto[-1]) if len(upto) else 0.0
    random = np.random.default_rng(seed)
    chosen = np.searchsorted(upto, random.random(round(whole * per_m2)) * whole, side="right")
    chosen = np.minimum(chosen, max(len(upto) - 1, 0))
    along, across = random.random((2, len(chosen), 1))
    # Folded back over the diagonal: the two numbers span a parallelogram, of which the triangle is half.
    outside = along + across > 1
    along, across = np.where(outside, 1 - along, along), np.where(outside, 1 - across, across)
    first = corner[chosen]
    return first + along * (second[chosen] - first) + across * (third[chosen] - first), chosen
