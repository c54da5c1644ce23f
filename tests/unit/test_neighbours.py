"""Neighbours of instances against a plain statement: each box with each box, each point with each point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.geometry.neighbours import Method, find_neighbours, near_boxes, neighbour_lists
from open3dsg.geometry.pairs import PairBoxes, PairBuilder

# Quarters of a metre, so that boxes touch and points are at the very distance often.
POINT = st.tuples(*[st.integers(0, 16).map(lambda steps: steps / 4)] * 3)
THINGS = st.lists(st.lists(POINT, min_size=1, max_size=4), min_size=1, max_size=8)
REACH = st.integers(1, 8).map(lambda steps: steps / 4)

Things = Sequence[Sequence[tuple[float, float, float]]]


def corners(things: Things) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([np.min(thing, axis=0) for thing in things]), np.array(
        [np.max(thing, axis=0) for thing in things]
    )


def found(things: Things, reach_m: float, method: Method) -> list[list[int]]:
    """The places of each thing's neighbours; things are numbered 0, 10, 20, ..."""
    numbers = np.arange(len(things), dtype=np.int32) * 10
    low, high = corners(things)
    boxes = PairBoxes(numbers, (low + high) / 2, np.tile(np.eye(3), (len(things), 1, 1)), high - low)
    points = np.array([point for thing in things for point in thing], np.float32)
    builder = PairBuilder(points, np.repeat(numbers, [len(thing) for thing in things]), boxes)
    lists = find_neighbours(builder, numbers, (low, high), reach_m, method)
    return [(of_one // 10).tolist() for of_one in lists]


@given(things=THINGS, reach_m=REACH)
def test_by_boxes(things: Things, reach_m: float) -> None:
    low, high = corners(things)

    def touch(a: int, b: int) -> bool:
        return all(
            low[a, axis] - reach_m <= high[b, axis] + reach_m
            and low[b, axis] - reach_m <= high[a, axis] + reach_m
            for axis in range(3)
        )

    places = range(len(things))
    assert found(things, reach_m, "bbox") == [[b for b in places if b != a and touch(a, b)] for a in places]


@given(things=THINGS, reach_m=REACH)
def test_by_points(things: Things, reach_m: float) -> None:
    def near(a: int, b: int) -> bool:
        return any(math.dist(p, q) <= reach_m for p in things[a] for q in things[b])

    places = range(len(things))
    assert found(things, reach_m, "radius") == [[b for b in places if b != a and near(a, b)] for a in places]


def test_five_hundred_instances_apart() -> None:
    things = [[(3.0 * at, 0.0, 0.0)] for at in range(500)]
    assert found(things, 0.8, "bbox") == found(things, 0.8, "radius") == [[]] * 500


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"high: expected \(2, 3\) float64"):
        near_boxes(np.arange(2, dtype=np.int32), np.zeros((2, 3)), np.zeros((1, 3)), 1)
    assert neighbour_lists(np.zeros(0, np.int32), np.zeros((0, 2), np.int32)) == []
