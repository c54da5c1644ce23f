"""Farthest-point samples against the rule itself, step by step, and against the plain algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.sampling import farthest_points
from tests.farthest import distances_to_earlier, plain_sample


def room(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Points of a floor, two walls and a box in the air, in no order."""
    points = rng.uniform(size=(count, 3)) * [6, 5, 2.7]
    surface = rng.integers(0, 4, count)
    for axis, side in enumerate((0, 5, 0)):
        points[surface == axis, axis] = side
    points[surface == 3] = points[surface == 3] / 6 + 2
    return points.astype(np.float32)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 700),
    samples=st.integers(1, 800),
    lattice=st.sampled_from([0, 2, 9]),
    log_scale=st.integers(-30, 30),
)
def test_every_point_is_furthest_from_those_before(
    seed: int, count: int, samples: int, lattice: int, log_scale: int
) -> None:
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, lattice, (count, 3)) if lattice else rng.normal(size=(count, 3))
    points = (unit * 10.0**log_scale).astype(np.float32)
    sample = farthest_points(points, samples)
    assert sample.shape == (min(count, samples),)
    assert sample.dtype == np.int64
    assert len(set(sample.tolist())) == len(sample)
    missed, _ = distances_to_earlier(points, sample)
    assert missed <= 1e-5 * 10.0**log_scale
    from_mean = np.linalg.norm(points - points.astype(np.float64).mean(axis=0), axis=1)
    assert from_mean[sample[0]] >= from_mean.max() * (1 - 1e-5)


@pytest.mark.parametrize("count", [300, 2000, 9000])
def test_covers_as_well_as_the_plain_algorithm(count: int) -> None:
    points = room(np.random.default_rng(count), count)
    for samples in (1, 2, 30, 256, 500):
        sample = farthest_points(points, samples)
        missed, radius = distances_to_earlier(points, sample)
        _, plain_radius = distances_to_earlier(points, plain_sample(points, samples, int(sample[0])))
        assert missed < 1e-5
        assert radius <= plain_radius * 1.001


def test_a_prefix_is_the_sample_of_its_size() -> None:
    points = room(np.random.default_rng(1), 3000)
    longest = farthest_points(points, 3000)
    assert sorted(longest.tolist()) == list(range(3000))
    for samples in (1, 7, 255, 256, 1000):
        assert farthest_points(points, samples).tolist() == longest[:samples].tolist()


@pytest.mark.parametrize("count", [1, 2, 31, 500])
def test_coincident_points_are_each_taken_once(count: int) -> None:
    points = np.full((count, 3), 1.25, np.float32)
    assert sorted(farthest_points(points, count).tolist()) == list(range(count))
    assert len(set(farthest_points(points, count // 2 + 1).tolist())) == count // 2 + 1


def test_distinct_points_come_before_coincident_ones() -> None:
    points = np.repeat(room(np.random.default_rng(2), 40), 25, axis=0)
    sample = farthest_points(points, 1000)
    assert len(np.unique(points[sample[:40]], axis=0)) == 40
    assert sorted(sample.tolist()) == list(range(1000))


@pytest.mark.parametrize("far", [[100_000, -100_000, 50_000], [65_536, 0, 0]])
def test_far_from_the_origin_the_sample_is_the_same(far: list[int]) -> None:
    near = np.random.default_rng(3).integers(0, 64 * 6, (2000, 3)) / 64  # exact in float32 at 100 km, too
    moved = (near + far).astype(np.float32)
    assert (moved.astype(np.float64) - far).tolist() == near.tolist()
    same = farthest_points(near.astype(np.float32), 500).tolist()
    assert farthest_points(moved, 500).tolist() == same


def test_a_point_far_off_costs_the_others_nothing() -> None:
    points = np.append(room(np.random.default_rng(4), 1500), np.array([[90_000, 0, 0]], np.float32), axis=0)
    sample = farthest_points(points, 400)
    assert sample[0] == 1500
    missed, _ = distances_to_earlier(points[:1500], sample[1:])
    assert missed < 1e-5


def test_no_points_no_sample() -> None:
    assert farthest_points(np.zeros((0, 3), np.float32), 5).tolist() == []


def test_what_is_no_cloud_is_named() -> None:
    points = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"points: expected \(any, 3\) float32, got \(4, 3\) float64"):
        farthest_points(points.astype(np.float64), 2)
    with pytest.raises(ValueError, match=r"got \(4, 2\)"):
        farthest_points(points[:, :2], 2)
    with pytest.raises(ValueError, match="a sample of 0 points: expected at least 1"):
        farthest_points(points, 0)
    points[2, 1] = np.nan
    with pytest.raises(UserError, match="point 2 of the cloud is not finite"):
        farthest_points(points, 2)
