"""Normals of a triangle mesh at its vertices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array

_AT_ONCE = 250_000  # triangles: a building has millions, and a pass holds about 400 bytes of each


def vertex_normals(xyz_m: NDArray[np.float32], triangles: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return unit normals (N, 3) float32: the mean of a vertex's triangles, weighted by their angle there.

    `xyz_m`: (N, 3) float32; `triangles`: (F, 3) int64, counter-clockwise seen from outside. The angle makes
    the normal independent of how a flat part is cut into triangles (Thürmer and Wüthrich 1998). 0 0 0 where
    a vertex has no triangle of any area, or one whose corners are not finite. Raises ValueError for a wrong
    shape or dtype.
    """
    check_array("xyz_m", xyz_m, (None, 3), np.float32)
    check_array("triangles", triangles, (None, 3), np.int64)
    weighted = np.empty((len(triangles), 3, 3))
    for start in range(0, len(triangles), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        weighted[part] = _weighted(xyz_m[triangles[part]].astype(np.float64))
    vertex = triangles.ravel()
    total = np.stack(
        [np.bincount(vertex, weighted[:, :, axis].ravel(), len(xyz_m)) for axis in range(3)], axis=1
    )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    normals = np.divide(total, length, out=np.zeros(total.shape), where=length > 0)
    return np.where(np.isfinite(normals).all(axis=1, keepdims=True), normals, 0).astype(np.float32)


def _weighted(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each triangle's normal times its angle at each corner, (F, 3, 3); `corners`: (F, 3, 3)."""
    ahead = np.roll(corners, -1, axis=1) - corners  # from each corner to the next
    back = -np.roll(ahead, 1, axis=1)
    with np.errstate(invalid="ignore"):
        cross = np.cross(ahead[:, 0], ahead[:, 1])
        twice_area = np.linalg.norm(cross, axis=1, keepdims=True)
        unit = np.divide(cross, twice_area, out=np.zeros_like(cross), where=twice_area > 0)
        angle = np.arctan2(twice_area, np.einsum("fci,fci->fc", ahead, back))
        weighted: NDArray[np.float64] = angle[:, :, None] * unit[:, None, :]
    return weighted
