"""Splitting into groups: seeds over the floor plan, windows around them, groups within bounds."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.windows import (
    Group,
    WindowRule,
    Windows,
    group_instances,
    place_seeds,
    random_of,
    split_group,
)

PUBLISHED = WindowRule(0.8, 1.3, 6, 9)
RULES = st.tuples(st.floats(0.2, 2), st.floats(0.3, 2), st.integers(2, 6), st.integers(0, 4)).map(
    lambda v: WindowRule(v[0], v[1], v[2], v[2] + v[3])
)


def room(
    number: int, points: int = 600, instances: int = 25
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Points of things as wide as 60 cm in a room of 4 x 3 m; every thing has one, some are background."""
    random = np.random.default_rng(number)
    instance = np.append(np.arange(instances), random.integers(-1, instances, points - instances))
    middle = random.uniform((0, 0, 0), (4, 3, 2), (instances + 1, 3))
    xyz = middle[instance] + random.uniform(-0.3, 0.3, (points, 3))
    return xyz.astype(np.float32), instance.astype(np.int32)


def split(number: int, rule: WindowRule, seed: int = 0) -> Windows:
    return group_instances(*room(number), rule, random_of(seed, "scan"))


def told(windows: Windows) -> list[tuple[list[float], list[int]]]:
    return [(group.centre_m.tolist(), group.numbers.tolist()) for group in windows.groups]


def seen_plainly(group: Group, number: int, reach_m: float) -> set[int]:
    """The instances with a point in the cube, point by point."""
    return {
        which
        for point, which in zip(*(part.tolist() for part in room(number)), strict=True)
        if which >= 0
        and all(abs(p - c) < reach_m for p, c in zip(point, group.centre_m.tolist(), strict=True))
    }


@settings(max_examples=30, deadline=None)
@given(number=st.integers(0, 50), rule=RULES, seed=st.integers(0, 10))
def test_groups_are_within_bounds_and_within_one_window(number: int, rule: WindowRule, seed: int) -> None:
    windows = split(number, rule, seed)
    for group in windows.groups:
        numbers = group.numbers.tolist()
        assert rule.min_instances <= len(numbers) <= rule.max_instances
        assert numbers == sorted(set(numbers))
        assert set(numbers) <= seen_plainly(group, number, rule.receptive_field_m)
    every = [group.numbers.tobytes() for group in windows.groups]
    assert len(set(every)) == len(every)
    assert told(split(number, rule, seed)) == told(windows)


@given(number=st.integers(0, 50), distance_m=st.floats(0.1, 6), seed=st.integers(0, 10))
def test_seeds_keep_their_distance_and_cover_the_floor(number: int, distance_m: float, seed: int) -> None:
    points = room(number)[0].astype(np.float64)
    seeds = place_seeds(points, distance_m, random_of(seed, "scan"))
    apart = np.hypot(*(points[:, None, :2] - points[seeds, :2]).transpose(2, 0, 1))
    assert apart.min(axis=1).max() <= distance_m * (1 + 1e-12)
    between = apart[seeds][np.triu_indices(len(seeds), 1)]
    assert between.min(initial=np.inf) > distance_m * (1 - 1e-12)


@given(count=st.integers(0, 80), smallest=st.integers(1, 10), more=st.integers(0, 10), seed=st.integers(0, 9))
def test_a_window_loses_no_more_than_the_bounds_ask_for(
    count: int, smallest: int, more: int, seed: int
) -> None:
    largest = smallest + more
    numbers = np.arange(3, 3 + 2 * count, 2, dtype=np.int32)
    groups = [part.tolist() for part in split_group(numbers, smallest, largest, random_of(seed, ""))]
    together = [number for part in groups for number in part]
    assert together == sorted(set(together))
    assert set(together) <= set(numbers.tolist())
    assert all(smallest <= len(part) <= largest for part in groups)
    assert max(map(len, groups), default=0) - min(map(len, groups), default=0) <= 1
    # So many of the instances fit into any groups of these bounds at all.
    ways = [min(count, parts * largest) for parts in range(1, count + 1) if parts * smallest <= count]
    assert len(together) == max(ways, default=0)


def test_one_window_where_no_seed_is_far_enough() -> None:
    points = room(1)[0].astype(np.float64)
    assert len(place_seeds(points, 1e300, random_of(0, "scan"))) == 1


def test_the_published_bounds() -> None:
    sizes = {
        count: [len(part) for part in split_group(np.arange(count, dtype=np.int32), 6, 9, random_of(0, ""))]
        for count in (5, 6, 9, 10, 11, 12, 18, 19, 28)
    }
    assert sizes == {
        5: [],
        6: [6],
        9: [9],
        10: [9],
        11: [9],
        12: [6, 6],
        18: [9, 9],
        19: [7, 6, 6],
        28: [7, 7, 7, 7],
    }


def test_windows_of_too_few_and_groups_met_again_are_counted() -> None:
    rule = WindowRule(0.5, 1.0, 3, 9)
    points, instance = room(3)
    foreground = instance >= 0
    seeds = place_seeds(points[foreground].astype(np.float64), 1.0, random_of(0, "scan"))
    sizes = [
        len(seen_plainly(Group(centre, instance), 3, 0.5))
        for centre in points[foreground][seeds].astype(np.float64)
    ]
    windows = split(3, rule)
    assert windows.windows == len(seeds)
    assert 0 < windows.too_few == sum(size < 3 for size in sizes) < len(sizes)
    # Three things, all of them in every window: the same group again and again.
    numbers = np.tile(np.arange(3, dtype=np.int32), 100)
    line = np.zeros((300, 3), np.float32)
    line[:, 0] = np.linspace(0, 1, 300)
    again = group_instances(line, numbers, WindowRule(5, 0.2, 2, 9), random_of(0, "scan"))
    assert [group.numbers.tolist() for group in again.groups] == [[0, 1, 2]]
    assert again.windows == again.kept_once + 1 > 2


def test_a_seed_and_a_scan_have_their_windows() -> None:
    points, instance = room(1)

    def groups(seed: int, scan: str) -> list[tuple[list[float], list[int]]]:
        return told(group_instances(points, instance, WindowRule(0.8, 1.3, 3, 9), random_of(seed, scan)))

    assert groups(0, "a") == groups(0, "a")
    assert groups(0, "a") != groups(1, "a")
    assert groups(0, "a") != groups(0, "b")
    # A store that is filled on another machine has the same units.
    assert random_of(7, "scene0000_00").integers(1000, size=5).tolist() == [296, 553, 272, 77, 100]


def test_background_takes_no_part() -> None:
    points, instance = room(2)
    rule = WindowRule(0.8, 1.3, 3, 9)
    far = np.full((50, 3), 30, np.float32)
    more = group_instances(
        np.concatenate([points, far]),
        np.concatenate([instance, np.full(50, -1, np.int32)]),
        rule,
        random_of(0, "scan"),
    )
    assert told(more) == told(split(2, rule))
    assert more.windows == split(2, rule).windows


@pytest.mark.parametrize("shape", ["coincident", "one point each", "flat", "nothing"])
def test_clouds_of_odd_shapes(shape: str) -> None:
    numbers = np.repeat(np.arange(8, dtype=np.int32), 20)
    points = np.random.default_rng(0).random((160, 3), np.float32)
    points *= 0.5  # all of them within one window
    if shape == "coincident":
        points[:] = 1
    elif shape == "one point each":
        points, numbers = points[:8], np.arange(8, dtype=np.int32)
    elif shape == "flat":
        points[:, 2] = 0
    else:
        numbers[:] = -1
    windows = group_instances(points, numbers, PUBLISHED, random_of(0, "scan"))
    expected = [] if shape == "nothing" else [list(range(8))]
    assert [group.numbers.tolist() for group in windows.groups] == expected


def test_what_cannot_be_split_is_refused() -> None:
    points, instance = room(0)
    wide = cast("NDArray[np.float32]", points.astype(np.float64))
    with pytest.raises(ValueError, match="distance_m is 0: it must be positive"):
        place_seeds(points.astype(np.float64), 0, random_of(0, ""))
    with pytest.raises(ValueError, match=r"points_world: expected \(any, 3\) float32"):
        group_instances(wide, instance, PUBLISHED, random_of(0, ""))
    points[17, 1] = np.nan
    with pytest.raises(UserError, match="point 17 of the cloud is not finite"):
        group_instances(points, instance, PUBLISHED, random_of(0, ""))
