"""Normals of meshes against a plain loop over triangles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.geometry import normals
from open3dsg.geometry.normals import vertex_normals


def plain(xyz: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros((len(xyz), 3))
    for triangle in triangles.tolist():
        for at in range(3):
            here, after, before = (xyz[triangle[(at + step) % 3]] for step in (0, 1, 2))
            u, v = after - here, before - here
            angle = math.acos(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
            normal = np.cross(u, v)
            total[triangle[at]] += angle * normal / np.linalg.norm(normal)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 0, total / np.where(length > 0, length, 1), 0)


def test_normals_are_the_mean_by_angle() -> None:
    random = np.random.default_rng(5)
    xyz = random.normal(size=(40, 3)).astype(np.float32)
    triangles = np.array([random.choice(38, 3, replace=False) for _ in range(120)], np.int64)
    normals = vertex_normals(xyz, triangles)
    assert normals.dtype == np.float32
    np.testing.assert_allclose(normals, plain(xyz.astype(np.float64), triangles), atol=1e-5)
    assert not normals[38:].any()


def test_many_triangles_are_worked_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(6)
    xyz = random.normal(size=(9, 3)).astype(np.float32)
    triangles = np.array([random.choice(9, 3, replace=False) for _ in range(20)], np.int64)
    monkeypatch.setattr(normals, "_AT_ONCE", 7)
    np.testing.assert_allclose(
        vertex_normals(xyz, triangles), plain(xyz.astype(np.float64), triangles), atol=1e-6
    )


def test_a_cube_does_not_depend_on_its_diagonals() -> None:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    for turn in (0, 1):
        faces = [
            tuple(quad[(k + turn) % 4] for k in order) for quad in quads for order in ((0, 1, 2), (0, 2, 3))
        ]
        normals = vertex_normals(corners, np.array(faces, np.int64))
        np.testing.assert_allclose(normals, (corners - 0.5) * 2 / math.sqrt(3), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_triangles_without_area_or_numbers_count_for_nothing(bad: float) -> None:
    xyz = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [bad, 1, 1]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 1, 3], [0, 0, 0]], np.int64)
    normals = vertex_normals(xyz, triangles)
    np.testing.assert_allclose(normals, [[0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]], atol=1e-7)
    assert np.isfinite(vertex_normals(xyz, np.array([[0, 1, 4]], np.int64))).all()
    assert vertex_normals(np.empty((0, 3), np.float32), np.empty((0, 3), np.int64)).shape == (0, 3)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="triangles: expected"):
        vertex_normals(np.zeros((3, 3), np.float32), np.zeros((1, 4), np.int64))
