"""Spherical k-means: groups that are plainly there are found; fewer directions than groups are no trouble."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.geometry.clusters import cluster_directions, nearest_directions


@pytest.mark.parametrize("seed", range(5))
def test_bundles_of_directions_are_told_apart_whatever_their_lengths(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 6, 400)
    axes = np.eye(20, dtype=np.float32)[:6]
    vectors = axes[truth] + random.normal(0, 0.02, (400, 20)).astype(np.float32)
    vectors *= random.uniform(0.1, 50, (400, 1)).astype(np.float32)
    centres = cluster_directions(vectors, 6, seed)
    assert centres.shape == (6, 20)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    found = nearest_directions(vectors, centres)
    assert len({*zip(truth.tolist(), found.tolist(), strict=True)}) == 6


def test_a_centre_is_the_mean_direction_of_its_members() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 5)).astype(np.float32)
    centres = cluster_directions(vectors, 4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = (unit @ centres.T).argmax(axis=1)
    for number, centre in enumerate(centres):
        mean = unit[nearest == number].mean(axis=0)
        np.testing.assert_allclose(centre, mean / np.linalg.norm(mean), atol=1e-4)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 40))
def test_there_are_no_more_groups_than_directions(kinds: int, clusters: int, count: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(7, 50)).astype(np.float32)[np.arange(count) % kinds]
    vectors *= random.uniform(0.1, 50, (count, 1)).astype(np.float32)  # made unit, equal ones differ by 1e-7
    centres = cluster_directions(vectors, clusters)
    assert len(centres) == min(kinds, clusters, count)
    assert np.isfinite(centres).all()


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_zeros_are_no_centres_and_join_a_group(seed: int) -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.float32)
    centres = cluster_directions(vectors, 3, seed)
    assert sorted(centres.tolist()) == [[0, 1], [1, 0]]
    assert nearest_directions(vectors, centres).shape == (4,)
    nothing = cluster_directions(np.zeros((3, 2), np.float32), 2, seed)
    np.testing.assert_array_equal(np.linalg.norm(nothing, axis=1), [1])


def test_the_same_seed_gives_the_same_groups() -> None:
    vectors = np.random.default_rng(1).normal(size=(200, 9)).astype(np.float32)
    np.testing.assert_array_equal(cluster_directions(vectors, 5, 3), cluster_directions(vectors, 5, 3))
