"""Labels of triangles turned into labels of vertices, and points spread over a mesh."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.geometry.faces import labels_of_vertices, sample_triangles


def by_hand(triangles: list[tuple[int, int, int]], labels: list[int], vertices: int) -> list[int]:
    votes: list[Counter[int]] = [Counter() for _ in range(vertices)]
    for corners, label in zip(triangles, labels, strict=True):
        for corner in corners:
            votes[corner][label] += 1
    # Most votes first, then background last, then the lower number.
    best = [sorted(vote, key=lambda label: (-vote[label], label == -1, label)) for vote in votes]
    return [found[0] if found else -1 for found in best]


@given(
    st.lists(
        st.tuples(st.tuples(*[st.integers(0, 6)] * 3), st.sampled_from([-1, 0, 3, 9])),
        min_size=0,
        max_size=20,
    )
)
def test_a_vertex_has_the_label_of_most_of_its_triangles(
    faces: list[tuple[tuple[int, int, int], int]],
) -> None:
    triangles = np.array([corners for corners, _ in faces], np.int64).reshape(-1, 3)
    labels = np.array([label for _, label in faces], np.int32)
    found = labels_of_vertices(triangles, labels, 8, -1)
    assert found.dtype == np.int32
    assert found.tolist() == by_hand([corners for corners, _ in faces], labels.tolist(), 8)


def test_points_are_spread_by_area() -> None:
    xyz = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1], [5, 5, 5]], np.float64)
    triangles = np.array([[0, 1, 2], [4, 4, 4], [0, 3, 2]], np.int64)  # 3, 0 and 1 square metres
    points, triangle = sample_triangles(xyz, triangles, 2_000)
    assert len(points) == len(triangle) == 8_000
    assert set(triangle.tolist()) == {0, 2}
    assert abs(np.mean(triangle == 0) - 0.75) < 0.02
    flat = points[triangle == 0]
    assert (flat[:, 2] == 0).all()
    assert (flat[:, :2] >= 0).all()
    assert (flat[:, 0] / 3 + flat[:, 1] / 2 <= 1 + 1e-12).all()
    # Evenly: the mean is the centroid, and a quarter of the triangle has a quarter of the points.
    np.testing.assert_allclose(flat.mean(axis=0), [1, 2 / 3, 0], atol=0.03)
    assert abs(np.mean(flat[:, 0] / 3 + flat[:, 1] / 2 <= 0.5) - 0.25) < 0.02
    np.testing.assert_array_equal(points, sample_triangles(xyz, triangles, 2_000)[0])
    assert not np.array_equal(points, sample_triangles(xyz, triangles, 2_000, seed=1)[0])


def test_no_area_gives_no_points() -> None:
    none = np.zeros((0, 3), np.int64)
    points, triangle = sample_triangles(np.zeros((3, 3)), none, 100)
    assert (points.shape, triangle.shape) == ((0, 3), (0,))
    points, _ = sample_triangles(np.zeros((3, 3)), np.array([[0, 1, 2]], np.int64), 100)
    assert points.shape == (0, 3)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="triangles has 1 rows, labels has 2"):
        labels_of_vertices(np.zeros((1, 3), np.int64), np.zeros(2, np.int32), 3, -1)
    with pytest.raises(ValueError, match="triangles: expected"):
        sample_triangles(np.zeros((3, 3)), np.zeros((1, 4), np.int64), 1)
