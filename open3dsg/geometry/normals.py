"""Normals of a triangle mesh at its vertices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array


def vertex_normals(xyz_m: NDArray[np.float32], triangles: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return unit normals (N, 3) float32: the mean of a vertex's triangles, weighted by their angle there.

    `xyz_m`: (N, 3) float32; `triangles`: (F, 3) int64, counter-clockwise seen from outside. The angle makes
    the normal independent of how a flat part is cut into triangles (Thürmer and Wüthrich 1998). 0 0 0 where
    a vertex has no triangle of any area, or one whose corners are not finite. Raises ValueError for a wrong
    shape or dtype.
    """
    check_array("xyz_m", xyz_m, (None, 3), np.float32)
    check_array("triangles", triangles, (None, 3), np.int64)
    corners = xyz_m.astype(np.float64)[triangles]
    ahead = np.roll(corners, -1, axis=1) - corners  # from each corner to the next
    back = -np.roll(ahead, 1, axis=1)
    with np.errstate(invalid="ignore"):
        cross = np.cross(ahead[:, 0], ahead[:, 1])
        twice_area = np.linalg.norm(cross, axis=1, keepdims=True)
        unit = np.divide(cross, twice_area, out=np.zeros_like(cross), where=twice_area > 0)
        angle = np.arctan2(twice_area, np.einsum("fci,fci->fc", ahead, back))
        weighted = angle[:, :, None] * unit[:, None, :]
    vertex = triangles.ravel()
    total = np.stack(
        [np.bincount(vertex, weighted[:, :, axis].ravel(), len(xyz_m)) for axis in range(3)], axis=1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    normals = np.divide(total, length, out=np.zeros(total.shape), where=length > 0)
    return np.where(np.isfinite(normals).all(axis=1, keepdims=True), normals, 0).astype(np.float32)
