"""Instance boxes against numpy one instance at a time, and all pairs of points as sides of the rectangle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.boxes import InstanceBoxes, instance_boxes


def one(points: list[list[float]] | NDArray[np.float32]) -> InstanceBoxes:
    cloud = np.array(points, np.float32)
    return instance_boxes(cloud, np.full(len(cloud), 5, np.int32))


def plain_smallest_area(xy: NDArray[np.float64]) -> float:
    """The smallest rectangle has a side along two of the points: try all pairs."""
    first, second = np.triu_indices(len(xy), 1)
    sides = xy[second] - xy[first]
    sides = sides[np.linalg.norm(sides, axis=1) > 0]
    sides /= np.linalg.norm(sides, axis=1)[:, None]
    along, across = sides @ xy.T, np.column_stack([-sides[:, 1], sides[:, 0]]) @ xy.T
    return float((np.ptp(along, axis=1) * np.ptp(across, axis=1)).min(initial=np.inf))


def check_box_holds(boxes: InstanceBoxes, i: int, points: NDArray[np.float32]) -> None:
    axes, lengths = boxes.obb_axes[i], boxes.obb_lengths[i]
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes[2].tolist() == [0, 0, 1]
    assert lengths[0] >= lengths[1]
    local = (points.astype(np.float64) - boxes.obb_centre[i]) @ axes.T
    np.testing.assert_allclose(local.max(axis=0), lengths / 2, atol=1e-9)
    np.testing.assert_allclose(local.min(axis=0), -lengths / 2, atol=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), on_lattice=st.booleans(), count=st.integers(1, 150))
def test_equals_numpy_and_the_best_of_all_pairs(seed: int, on_lattice: bool, count: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(loc=100, size=(count, 3)).astype(np.float32)
    if on_lattice:  # many equal, collinear and coincident points
        points = rng.integers(0, 4, (count, 3)).astype(np.float32)
    instance = rng.choice(np.array([-1, 0, 3, 4, 90], np.int32), count)
    boxes = instance_boxes(points, instance)
    assert boxes.numbers.tolist() == sorted(set(instance[instance >= 0].tolist()))
    for i, number in enumerate(boxes.numbers):
        own = points[instance == number]
        assert boxes.point_count[i] == len(own)
        assert boxes.aabb_min[i].tolist() == own.min(axis=0).tolist()
        assert boxes.aabb_max[i].tolist() == own.max(axis=0).tolist()
        np.testing.assert_allclose(boxes.centroid[i], own.astype(np.float64).mean(axis=0), rtol=1e-12)
        check_box_holds(boxes, i, own)
        if len(np.unique(own[:, :2], axis=0)) > 1:
            area = boxes.obb_lengths[i, 0] * boxes.obb_lengths[i, 1]
            assert area == pytest.approx(plain_smallest_area(own[:, :2].astype(np.float64)), abs=1e-9)


@pytest.mark.parametrize("degrees", [-80, -30, 0, 10, 45, 89, 90, 150, 200])
def test_a_turned_table_is_found(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    local = np.random.default_rng(0).uniform([-1, -0.4, 0], [1, 0.4, 0.7], (400, 3))
    local[:8] = [[x, y, z] for x in (-1, 1) for y in (-0.4, 0.4) for z in (0, 0.7)]
    boxes = one((local @ turn.T + [3, -2, 1]).astype(np.float32))
    np.testing.assert_allclose(boxes.obb_lengths[0], [2, 0.8, 0.7], atol=1e-5)
    np.testing.assert_allclose(boxes.obb_centre[0], [3, -2, 1.35], atol=1e-5)
    assert abs(boxes.obb_axes[0, 0] @ turn[:, 0]) == pytest.approx(1, abs=1e-6)
    assert boxes.obb_axes[0, 0, 0] > -1e-6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_coincident_points_have_a_box_of_size_nothing(count: int) -> None:
    boxes = one([[1, 2, 3]] * count)
    assert boxes.obb_lengths.tolist() == [[0, 0, 0]]
    assert boxes.obb_centre.tolist() == boxes.centroid.tolist() == [[1, 2, 3]]
    assert boxes.obb_axes[0].tolist() == np.eye(3).tolist()


def test_an_upright_line_is_coincident_in_the_floor_plane() -> None:
    boxes = one([[1, 2, 0], [1, 2, 3], [1, 2, 1]])
    assert boxes.obb_lengths.tolist() == [[0, 0, 3]]
    assert boxes.obb_axes[0].tolist() == np.eye(3).tolist()


def test_points_in_one_line_give_a_box_along_it() -> None:
    boxes = one([[3, 4, 1], [0, 0, 1], [6, 8, 1], [1.5, 2, 1]])
    np.testing.assert_allclose(boxes.obb_lengths[0], [10, 0, 0], atol=1e-12)
    np.testing.assert_allclose(boxes.obb_axes[0, 0], [0.6, 0.8, 0])
    np.testing.assert_allclose(boxes.obb_centre[0], [3, 4, 1])


def test_an_upright_picture_on_the_y_axis_points_to_y() -> None:
    boxes = one([[2, -1, 0], [2, 1, 0], [2, 1, 1], [2, -1, 1]])
    np.testing.assert_allclose(boxes.obb_axes[0], [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(boxes.obb_lengths[0], [2, 0, 1], atol=1e-12)


@pytest.mark.parametrize("count", [0, 3])
def test_a_cloud_without_instances_has_no_boxes(count: int) -> None:
    boxes = instance_boxes(np.zeros((count, 3), np.float32), np.full(count, -1, np.int32))
    assert (len(boxes.numbers), boxes.centroid.shape, boxes.obb_axes.shape) == (0, (0, 3), (0, 3, 3))


def test_bad_points_are_named() -> None:
    with pytest.raises(UserError, match="point 1 of the cloud is not finite"):
        one([[0, 0, 0], [0, np.inf, 0]])
    with pytest.raises(ValueError, match="points_world: expected"):
        instance_boxes(np.zeros((2, 2), np.float32), np.zeros(2, np.int32))
