"""Masks lifted and merged: small made cases, and all against a plain formulation with sets and loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.mask_instances import connected_parts
from open3dsg.geometry.mask_lifting import LiftedMasks, MaskLifter, visible_pixels
from open3dsg.geometry.mask_merging import merge_masks
from open3dsg.geometry.mask_thresholds import MergeThresholds
from open3dsg.geometry.pixels import PixelGrid
from tests.masks import best_overlaps, spoiled

SMALL = MergeThresholds(min_mask_points=1, min_points=1, split_distance_m=0, fill_distance_m=0)
GRID = PixelGrid(width=20, height=12, fx=8.0, fy=8.0, cx=10.0, cy=6.0)
UP = np.array([0.0, 0, 1], np.float32)


def plate(x: float, y: float = 0.0, side: int = 5, step: float = 0.02) -> NDArray[np.float32]:
    """Points on a level square that begins at x, y."""
    steps = step * np.arange(side)
    grid = np.stack(np.meshgrid(x + steps, y + steps), axis=-1).reshape(-1, 2)
    return np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)


def lifted(frames: Sequence[Sequence[Any]], points: int) -> LiftedMasks:
    """Make masks by hand: frame after frame, the points of each of its masks."""
    masks = [np.asarray(mask, np.int32) for frame in frames for mask in frame]
    seen = np.zeros(points, np.bool_)
    seen[np.concatenate(masks)] = True
    return LiftedMasks(
        point=np.concatenate(masks),
        mask=np.repeat(np.arange(len(masks), dtype=np.int32), [len(mask) for mask in masks]),
        frame=np.repeat(np.arange(len(frames), dtype=np.int32), [len(frame) for frame in frames]),
        seen=seen,
    )


def merged(
    points: NDArray[np.float32], frames: Sequence[Sequence[Any]], thresholds: MergeThresholds = SMALL
) -> list[int]:
    instance = merge_masks(points, None, lifted(frames, len(points)), thresholds).instance
    return [int(number) for number in instance]


A, B = np.arange(25), np.arange(25, 50)
TWO = np.concatenate([plate(0), plate(1)])


def test_things_that_frames_hold_apart_are_two_instances() -> None:
    assert merged(TWO, [[A, B], [B, A], [A, B]]) == [0] * 25 + [1] * 25


def test_the_larger_instance_comes_first() -> None:
    assert merged(TWO, [[A[:20], B], [B, A[:20]]]) == [1] * 20 + [-1] * 5 + [0] * 25


def test_parts_of_a_thing_are_joined_through_a_frame_that_sees_it_whole() -> None:
    left, right = A[:12], A[12:]
    assert merged(plate(0), [[left], [A], [right], [A]]) == [0] * 25


def test_a_mask_over_two_things_joins_nothing_and_is_left_out() -> None:
    both = np.concatenate([A, B])
    apart = [[A, B]] * 5
    done = merge_masks(TWO, None, lifted([*apart, [both]], 50), SMALL)
    assert done.instance.tolist() == [0] * 25 + [1] * 25
    assert done.undersegmented == 1
    # Where most frames say so, it is one thing.
    assert merged(TWO, [[A, B], *[[both]] * 9]) == [0] * 50


@pytest.mark.parametrize(("step", "undersegmented"), [(0.1, 1), (0.02, 0)])
def test_a_large_area_counts_however_small_its_share(step: float, undersegmented: int) -> None:
    # A frame shows a quarter of a wall, as two things: 0.3 square metres of it, or 0.01.
    wall = np.arange(100)
    frames = lifted([[wall], [wall[:12], wall[12:25]]], 100)
    done = merge_masks(plate(0, side=10, step=step), None, frames, SMALL)
    assert done.undersegmented == undersegmented


def test_masks_over_several_things_alone_give_nothing() -> None:
    third = np.arange(12)
    crossing = [
        [np.concatenate([third + a, third + b]) for a, b in pair]
        for pair in ([(0, 12), (24, 36)], [(0, 24), (12, 36)], [(0, 36), (12, 24)])
    ]
    done = merge_masks(plate(0, side=7)[:48], None, lifted(crossing, 48), SMALL)
    assert (done.instance == -1).all()
    assert done.undersegmented == 6


def test_what_one_frame_alone_shows_needs_to_be_asked_for() -> None:
    assert merged(TWO, [[A, B], [A]]) == [0] * 25 + [-1] * 25
    assert merged(TWO, [[A, B], [A]], replace(SMALL, min_masks=1)) == [0] * 25 + [1] * 25


def test_an_instance_of_few_points_goes() -> None:
    assert merged(TWO, [[A, B[:9]]] * 2, replace(SMALL, min_points=10)) == [0] * 25 + [-1] * 25


def test_points_that_few_frames_put_on_a_thing_are_not_of_it() -> None:
    strays = np.append(A, B[:3])
    assert merged(TWO, [[strays, B[3:]], [A, B], [A, B]]) == [0] * 25 + [1] * 25


def test_of_two_clusters_on_the_same_points_the_smaller_goes() -> None:
    # The frames that see A whole and those that see its middle never meet in one that sees both apart.
    middle = A[:22]
    frames = [[A], [A], [A[:13], A[13:]], [middle], [middle]]
    found = merge_masks(plate(0), None, lifted(frames, 25), SMALL)
    assert found.instance.tolist() == [0] * 25


def test_what_hangs_apart_is_divided_and_what_is_coarse_is_not_torn() -> None:
    apart = np.concatenate([A, B])
    split = replace(SMALL, split_distance_m=0.1)
    assert merged(TWO, [[apart]] * 2) == [0] * 50
    assert merged(TWO, [[apart]] * 2, split) == [0] * 25 + [1] * 25
    coarse = plate(0, step=0.15)
    assert merged(coarse, [[A]] * 2, split) == [0] * 25


@given(st.integers(0, 10_000), st.floats(0.05, 0.5))
@settings(max_examples=40, deadline=None)
def test_parts_are_those_of_a_plain_search(seed: int, distance_m: float) -> None:
    rng = np.random.default_rng(seed)
    # Thinning changes nothing: points lie on a grid that is coarser than the cells, some of them doubly.
    points = (rng.integers(0, rng.integers(3, 5), (60, 3)) * np.float32(0.9 * distance_m)).astype(np.float32)
    instance = rng.integers(-1, 3, 60).astype(np.int32)
    parts = connected_parts(points, instance, distance_m)
    reach = {}
    for number in range(3):
        own = np.flatnonzero(instance == number)
        gaps = np.linalg.norm(points[own][:, None] - points[own][None], axis=2)
        np.fill_diagonal(gaps, np.inf)
        nearest = np.sort(gaps.min(axis=1)) if len(own) > 1 else np.array([0.0])
        reach[number] = max(distance_m, 3 * nearest[len(nearest) // 2])
    for a, b in combinations(range(60), 2):
        if (
            instance[a] == instance[b] >= 0
            and np.linalg.norm(points[a] - points[b]) < 0.99 * reach[instance[a]]
        ):
            assert parts[a] == parts[b]
    assert ((parts == -1) == (instance == -1)).all()
    for part in set(parts.tolist()) - {-1}:
        own = np.flatnonzero(parts == part)
        assert len(set(instance[own].tolist())) == 1
        others = np.flatnonzero((instance == instance[own[0]]) & (parts != part))
        if len(others):
            gap = np.linalg.norm(points[own][:, None] - points[others][None], axis=2).min()
            assert gap > 0.99 * reach[int(instance[own[0]])]


def test_unseen_points_follow_their_own_surface() -> None:
    level, wall, lower, far = plate(0), plate(0.0, 0.1), plate(0), plate(5)
    wall = wall[:, [0, 2, 1]]  # upright, at the edge of the level one
    lower[:, 2] -= 0.1
    points = np.concatenate([level, plate(0.1), wall, lower, far])
    normals = np.tile(UP, (len(points), 1))
    normals[50:75] = [0, 1, 0]
    fill = replace(SMALL, fill_distance_m=0.3)
    done = merge_masks(points, normals, lifted([[A]] * 2, len(points)), fill)
    assert done.instance.tolist() == [0] * 50 + [-1] * 75
    assert done.filled == 25
    # Without normals nearness alone tells.
    done = merge_masks(points, None, lifted([[A]] * 2, len(points)), fill)
    assert (done.instance[:100] == 0).all()
    assert (done.instance[100:] == -1).all()


def test_points_seen_beside_all_masks_are_not_filled() -> None:
    points = np.concatenate([plate(0), plate(0.1)])
    masks = replace(lifted([[A]] * 2, 50), seen=np.ones(50, np.bool_))
    done = merge_masks(points, None, masks, replace(SMALL, fill_distance_m=0.3))
    assert done.instance.tolist() == [0] * 25 + [-1] * 25


def test_no_masks_are_refused() -> None:
    none = np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="no masks"):
        merge_masks(plate(0), None, LiftedMasks(none, none, none, np.zeros(25, np.bool_)), SMALL)


def test_coincident_points_and_a_single_one_do_no_harm() -> None:
    assert merged(np.zeros((30, 3), np.float32), [[np.arange(30)]] * 2) == [0] * 30
    assert merged(np.zeros((1, 3), np.float32), [[[0]]] * 2) == [0]


def plain_areas(points: NDArray[np.float32]) -> NDArray[np.float64]:
    gaps = np.sort(np.linalg.norm(points[:, None].astype(float) - points[None], axis=2), axis=1)
    count = min(8, len(points) - 1)
    return np.clip(np.pi * gaps[:, count] ** 2 / count, 1e-6, 0.02)


def plain_merge(points: NDArray[np.float32], masks: LiftedMasks, limits: MergeThresholds) -> list[int]:
    """Merge masks with sets, mask by mask and frame by frame; return the cluster of each point, unordered."""
    area = plain_areas(points)
    of = [set(masks.point[masks.mask == m].tolist()) for m in range(len(masks.frame))]
    frames = range(int(masks.frame.max()) + 1)

    def size(these: set[int]) -> float:
        return float(sum(area[list(these)]))

    held: dict[int, dict[int, int]] = {}
    whole = []
    for m, mine in enumerate(of):
        visible, holders = 0, {}
        for frame in frames:
            shared = {
                k: size(mine & of[k]) for k in np.flatnonzero(masks.frame == frame).tolist() if mine & of[k]
            }
            total = sum(shared.values())
            if not shared or (total < limits.visible * size(mine) - 1e-12 and total < 0.2):
                continue
            visible += 1
            best = max(shared, key=lambda k: (round(shared[k], 12), -k))
            if shared[best] > limits.contained * total + 1e-12:
                holders[frame] = best
        held[m] = holders
        if visible - len(holders) <= limits.undersegmented * visible:
            whole.append(m)
    held = {m: {f: k for f, k in held[m].items() if k in whole} for m in whole}
    clusters = [({m}, set(held[m]), set(held[m].values())) for m in whole]
    counts = sorted(len(a[1] & b[1]) for a in clusters for b in clusters if a[1] & b[1])
    for percentile in range(95, -5, -5):
        least = counts[int(percentile / 100 * len(counts))] if counts else 1
        if least > 1 or percentile >= 50:
            clusters = joined(clusters, max(least, 1), limits.consensus)
    kept = [c for c in clusters if len(c[0]) >= limits.min_masks]
    votes: list[Mapping[int, int]] = []
    for members, seen, _holders in kept:
        own: dict[int, int] = {}
        for p in range(len(points)):
            on = sum(p in of[m] for m in members)
            looked = sum(any(p in of[m] for m in np.flatnonzero(masks.frame == f)) for f in seen)
            if on > limits.detected * looked:
                own[p] = on
        votes.append(own)
    gone = {
        a
        for a in range(len(votes))
        for b in range(len(votes))
        if (len(votes[a]), -a) < (len(votes[b]), -b)
        and len(votes[a].keys() & votes[b].keys()) > limits.overlap * len(votes[a])
    }
    left = [place for place in range(len(votes)) if place not in gone]
    result = np.full(len(points), -1)
    for p in range(len(points)):
        choice = max(left, key=lambda c: (votes[c].get(p, 0), -c), default=-1)
        result[p] = choice if choice >= 0 and p in votes[choice] else -1
    for choice in left:
        mine = set(np.flatnonzero(result == choice).tolist())
        support = sum(len(of[m] & mine) >= limits.min_mask_points for m in kept[choice][0])
        if support < limits.min_masks or len(mine) < limits.min_points:
            result[result == choice] = -1
    return [int(choice) for choice in result]


def joined(clusters: list[Any], least: int, consensus: float) -> list[Any]:
    """Join clusters that agree, all at once; a cluster stands where the first of its parts stood."""
    group = list(range(len(clusters)))
    for a, b in combinations(range(len(clusters)), 2):
        observers = len(clusters[a][1] & clusters[b][1])
        supporters = len(clusters[a][2] & clusters[b][2])
        if supporters and observers >= least and supporters >= consensus * observers:
            low, high = sorted((group[a], group[b]))
            group = [low if g == high else g for g in group]
    return [
        tuple(
            set().union(*(clusters[c][part] for c in range(len(clusters)) if group[c] == g))
            for part in range(3)
        )
        for g in sorted(set(group))
    ]


def partition(instance: Sequence[int]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(np.array(instance) == n).tolist()) for n in set(instance) - {-1}}


LIMITS = st.builds(
    MergeThresholds,
    min_mask_points=st.sampled_from([1, 4, 8]),
    visible=st.sampled_from([0.0, 0.3, 0.7]),
    contained=st.sampled_from([0.0, 0.5, 0.8, 0.95]),
    undersegmented=st.sampled_from([0.0, 0.3, 0.6]),
    consensus=st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0]),
    detected=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    overlap=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    min_masks=st.integers(1, 3),
    min_points=st.sampled_from([1, 6]),
    split_distance_m=st.just(0.0),
    fill_distance_m=st.just(0.0),
)


@given(st.integers(0, 1_000_000), st.integers(1, 7), LIMITS)
@settings(max_examples=40, deadline=None)
def test_merging_is_that_of_the_plain_formulation(seed: int, frames: int, limits: MergeThresholds) -> None:
    """Things in a row, each frame seeing some points of them, with masks dropped, cut and joined."""
    rng = np.random.default_rng(seed)
    # Denser towards a corner: points stand for areas that differ.
    points = (0.5 * rng.uniform(0, 1, (60, 3)) ** 2).astype(np.float32)
    thing = rng.integers(0, 5, 60)
    pictures = []
    for _ in range(frames):
        label = thing.copy()
        if rng.random() < 0.3:
            label[label == 1] = 0
        if rng.random() < 0.3:
            label[(label == 2) & (rng.random(60) < 0.5)] = 6
        label[rng.random(60) < rng.uniform(0, 0.6)] = -1
        label[rng.random(60) < 0.05] = rng.integers(0, 5)
        pictures.append([np.flatnonzero(label == n) for n in rng.permutation(7) if (label == n).any()])
    pictures = [picture or [np.arange(3)] for picture in pictures]
    masks = lifted(pictures, 60)
    found = merge_masks(points, None, masks, limits).instance.tolist()
    assert partition(found) == partition(plain_merge(points, masks, limits))


@given(st.integers(0, 1_000_000))
@settings(max_examples=30, deadline=None)
def test_points_are_seen_where_a_plain_projection_says_so(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform([-2, -2, -1], [2, 2, 4], (80, 3)).astype(np.float32)
    depth_m = rng.choice(np.array([0, np.nan, np.inf, 1, 2, 3], np.float32), (12, 20))
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    T_world_camera = np.eye(4)
    T_world_camera[:3, :3], T_world_camera[:3, 3] = turn * np.linalg.det(turn), rng.uniform(-0.5, 0.5, 3)
    found = visible_pixels(np.ascontiguousarray(points.T), depth_m, GRID, T_world_camera, 0.5)
    expected = []
    for place, point in enumerate(points.astype(float)):
        x, y, z = T_world_camera[:3, :3].T @ (point - T_world_camera[:3, 3])
        if z <= 0:
            continue
        column, row = round(8 * x / z + 10), round(8 * y / z + 6)
        if (
            0 <= column < 20
            and 0 <= row < 12
            and depth_m[row, column] > 0
            and abs(depth_m[row, column] - z) <= 0.5
        ):
            expected.append((place, row * 20 + column))
    assert list(zip(found[0].tolist(), found[1].tolist(), strict=True)) == expected


def test_lifted_masks_are_numbered_through_all_frames() -> None:
    points = np.array(
        [[-0.5, 0, 1], [-0.45, 0, 1], [0.5, 0, 1], [0.55, 0, 1], [0.5, 0.5, 1], [0, 0, 9]], np.float32
    )
    depth_m = np.ones((12, 20), np.float32)
    mask = np.zeros((12, 20), np.uint16)
    mask[:6], mask[6:8, :10], mask[6:8, 12:] = 7, 65535, 300
    lifter = MaskLifter(points, 0.05, min_points=2)
    assert lifter.add(mask, depth_m, GRID, np.eye(4)) == (3, 2)
    assert lifter.add(np.zeros_like(mask), depth_m, GRID, np.eye(4)) == (0, 0)
    assert lifter.add(np.where(mask == 300, 1, 0).astype(np.uint16), depth_m, GRID, np.eye(4)) == (1, 1)
    done = lifter.lifted()
    assert done.point.tolist() == [0, 1, 2, 3, 2, 3]
    assert done.mask.tolist() == [0, 0, 1, 1, 2, 2]
    assert done.frame.tolist() == [0, 0, 2]
    assert done.seen.tolist() == [True] * 5 + [False]


def test_lifted_masks_do_not_depend_on_ids() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -0.7, 1], [1, 0.7, 1], (200, 3)).astype(np.float32)
    mask = rng.integers(0, 6, (12, 20)).astype(np.uint16)
    others = np.array([0, 9, 70, 3, 65535, 4], np.uint16)[mask]
    done = []
    for ids in (mask, others):
        lifter = MaskLifter(points, 0.05, min_points=1)
        lifter.add(ids, np.ones((12, 20), np.float32), GRID, np.eye(4))
        done.append(lifter.lifted())
    assert len(done[0].frame) == 5
    assert np.array_equal(done[0].point, done[1].point)
    assert np.array_equal(done[0].mask, done[1].mask)


def test_a_pose_without_inverse_is_refused() -> None:
    lifter = MaskLifter(plate(0), 0.05, min_points=1)
    with pytest.raises(UserError, match="has no inverse"):
        lifter.add(np.zeros((12, 20), np.uint16), np.ones((12, 20), np.float32), GRID, np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"contained": 1.0}, "--contained is 1.0: no share is more than that; give less than 1"),
        ({"visible": 1.1}, "--visible is 1.1: give a number from 0 to 1"),
        ({"consensus": float("nan")}, "--consensus is nan: give a number from 0 to 1"),
        ({"min_masks": 0}, "--min-masks is 0: give 1 or more"),
        ({"depth_tolerance_m": -1.0}, "--depth-tolerance is -1.0: give metres, 0 or more"),
        ({"fill_distance_m": float("inf")}, "--fill-distance is inf: give metres, 0 or more"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(limits: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        MergeThresholds(**limits)
    assert str(refused.value) == line


def test_spoiling_drops_and_cuts_the_share_asked_for() -> None:
    mask = np.arange(1, 1001, dtype=np.uint16).repeat(64).reshape(1000, 8, 8).reshape(-1, 8)
    out = spoiled(mask, np.random.default_rng(0), 0.2)
    kinds = [len(set(np.unique(out[8 * n : 8 * n + 8]).tolist()) - {0}) for n in range(1000)]
    assert 60 <= kinds.count(0) <= 140
    assert 60 <= kinds.count(2) <= 140
    assert best_overlaps(np.array([1, 1, 2, -1], np.int32), np.array([5, 5, 5, 6], np.int32)) == {
        1: 2 / 3,
        2: 0.0,
    }
