"""Pairs of instances against one pair at a time, all points against all points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.boxes import instance_boxes
from open3dsg.geometry.pairs import PairBoxes, PairBuilder, PairGeometry
from tests.farthest import distances_to_earlier


@dataclass(frozen=True)
class Scene:
    """Points, their instances, and a box for each of `boxes.numbers`."""

    points: NDArray[np.float32]
    instance: NDArray[np.int32]
    boxes: PairBoxes

    def builder(self) -> PairBuilder:
        return PairBuilder(self.points, self.instance, self.boxes)

    def own(self, number: int) -> NDArray[np.float64]:
        own: NDArray[np.float64] = self.points[self.instance == number].astype(np.float64)
        return own

    def inside(self, number: int) -> NDArray[np.bool_]:
        """Project each point on each axis of the box, one by one."""
        i = self.boxes.numbers.tolist().index(number)
        half = self.boxes.lengths[i] / 2
        found = []
        for point, instance in zip(self.points.astype(np.float64), self.instance, strict=True):
            away = point - self.boxes.centre[i]
            along = [sum(axis * away) for axis in self.boxes.axes[i]]
            found.append(instance == number or bool((np.abs(along) <= half).all()))
        return np.array(found)

    def distances(self, a: int, b: int) -> NDArray[np.float64]:
        """All points of a, by all points of b."""
        return np.asarray(np.linalg.norm(self.own(a)[:, None] - self.own(b)[None], axis=2))


def make_boxes(numbers: list[int], centre: Any, lengths: Any, axes: Any = None) -> PairBoxes:
    count = len(numbers)
    return PairBoxes(
        np.array(numbers, np.int32),
        np.broadcast_to(np.array(centre, np.float64), (count, 3)).copy(),
        np.tile(np.eye(3), (count, 1, 1)) if axes is None else axes,
        np.broadcast_to(np.array(lengths, np.float64), (count, 3)).copy(),
    )


def random_scene(rng: np.random.Generator, count: int, on_lattice: bool, scatter: bool) -> Scene:
    """Instances 0, 2, 3 and 9 and background, mixed up or each in its place; boxes turned at random."""
    numbers = [0, 2, 3, 9]
    instance = rng.choice(np.array([-1, *numbers], np.int32), count)
    instance[: len(numbers)] = numbers
    points = rng.normal(size=(count, 3)) + (0 if scatter else 3 * instance[:, None])
    if on_lattice:  # many equal distances, 0 among them; the boxes are turned, so no point lies on a border
        points = np.round(points)
    axes = np.linalg.qr(rng.normal(size=(len(numbers), 3, 3)))[0]
    centre = rng.normal(size=(len(numbers), 3)) * 3
    lengths = rng.uniform(0, 4, (len(numbers), 3))
    return Scene(points.astype(np.float32), instance, make_boxes(numbers, centre, lengths, axes))


def all_pairs(builder: PairBuilder, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    return builder.close_pairs(numbers, None)


def measured(scene: Scene, samples: int = 10_000) -> dict[tuple[int, int], PairGeometry]:
    builder = scene.builder()
    pairs = all_pairs(builder, scene.boxes.numbers)
    return {(pair.a, pair.b): pair for pair in builder.build(pairs, samples)}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(4, 250),
    samples=st.integers(1, 120),
    on_lattice=st.booleans(),
    scatter=st.booleans(),
)
def test_equals_the_plain_statement(
    seed: int, count: int, samples: int, on_lattice: bool, scatter: bool
) -> None:
    scene = random_scene(np.random.default_rng(seed), count, on_lattice, scatter)
    pairs = measured(scene, samples)
    assert list(pairs) == [(0, 2), (0, 3), (0, 9), (2, 3), (2, 9), (3, 9)]
    for (a, b), pair in pairs.items():
        union = np.flatnonzero(scene.inside(a) | scene.inside(b))
        assert pair.union_points == len(union)
        assert pair.point_ids.dtype == np.int32
        assert len(pair.point_ids) == min(samples, len(union))
        assert len(np.intersect1d(pair.point_ids, union)) == len(pair.point_ids)
        missed, _ = distances_to_earlier(scene.points[union], np.searchsorted(union, pair.point_ids))
        assert missed < 1e-4
        distances = scene.distances(a, b)
        assert pair.min_distance_m == pytest.approx(distances.min(), abs=1e-12)
        assert [scene.instance[pair.closest_a], scene.instance[pair.closest_b]] == [a, b]
        apart = scene.points[[pair.closest_a, pair.closest_b]].astype(np.float64)
        assert np.linalg.norm(apart[0] - apart[1]) == pytest.approx(pair.min_distance_m, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(
            pair.offset_m, scene.own(b).mean(axis=0) - scene.own(a).mean(axis=0), atol=1e-12
        )


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), limit=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0, 100.0, 1e200, np.inf]))
def test_close_pairs_are_those_within_the_distance(seed: int, limit: float) -> None:
    scene = random_scene(np.random.default_rng(seed), 60, on_lattice=True, scatter=False)
    wanted = [
        [a, b] for a in (0, 2, 3, 9) for b in (0, 2, 3, 9) if a < b and scene.distances(a, b).min() <= limit
    ]
    found = scene.builder().close_pairs(np.array([9, 0, 3, 2, 3], np.int32), limit)
    assert found.dtype == np.int32
    assert found.tolist() == wanted


def test_large_groups_come_closest_where_all_distances_say() -> None:
    rng = np.random.default_rng(5)
    points = rng.uniform(size=(4000, 3)) * [4, 4, 0.02]
    instance = rng.integers(0, 4, 4000).astype(np.int32)
    points[:, 2] += instance * 0.3
    scene = Scene(points.astype(np.float32), instance, make_boxes([0, 1, 2, 3], 0, 1))
    for (a, b), pair in measured(scene, 1).items():
        assert pair.min_distance_m == pytest.approx(scene.distances(a, b).min(), abs=1e-12)


def test_points_on_the_faces_of_a_box_are_inside() -> None:
    steps = np.arange(-3, 4, dtype=np.float32)
    points = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    instance = np.full(len(points), -1, np.int32)
    instance[[0, len(points) - 1]] = [4, 7]
    scene = Scene(points, instance, make_boxes([4, 7], [[0, 0, 0], [1, 0, 0]], [[2, 2, 2], [2, 0, 0]]))
    union = measured(scene)[4, 7]
    in_first = (np.abs(points) <= 1).all(axis=1)
    in_second = (np.abs(points - [1, 0, 0]) <= [1, 0, 0]).all(axis=1)
    expected = np.flatnonzero(in_first | in_second | (instance >= 0))
    assert sorted(union.point_ids.tolist()) == expected.tolist()
    assert union.union_points == 27 + 1 + 2


def test_points_at_the_corners_of_a_turned_box_are_inside_whoever_owns_them() -> None:
    rng = np.random.default_rng(13)
    corners = (rng.normal(size=(8, 12, 3)) * [3, 1, 0.5] + rng.uniform(-50, 50, (8, 1, 3))).astype(np.float32)
    points = np.repeat(corners.reshape(-1, 3), 2, axis=0)
    instance = np.repeat(np.arange(8, dtype=np.int32), 24)
    boxes = instance_boxes(points, instance)
    instance[::2] = -1  # background at the same places, as where meshes of instances meet
    turned = PairBoxes(boxes.numbers, boxes.obb_centre, boxes.obb_axes, boxes.obb_lengths)
    for pair in measured(Scene(points, instance, turned)).values():
        assert pair.union_points == 48


def test_a_box_that_holds_nothing_leaves_an_instance_its_own_points() -> None:
    scene = random_scene(np.random.default_rng(6), 80, on_lattice=False, scatter=True)
    scene = replace(scene, boxes=make_boxes([0, 2, 3, 9], [500, 0, 0], 1))
    pair = measured(scene)[2, 9]
    own = np.flatnonzero((scene.instance == 2) | (scene.instance == 9))
    assert sorted(pair.point_ids.tolist()) == own.tolist()


def test_coincident_flat_and_single_points() -> None:
    flat = np.random.default_rng(7).uniform(size=(300, 3)) * [2, 1, 0]
    points = np.concatenate([np.full((100, 3), 1), flat, [[0, 0, 5]], np.full((70, 3), 1)])
    instance = np.repeat(np.array([1, 2, 3, 4], np.int32), [100, 300, 1, 70])
    scene = Scene(points.astype(np.float32), instance, make_boxes([1, 2, 3, 4], 0, 0))
    pairs = measured(scene, 150)
    assert pairs[1, 4].min_distance_m == 0
    assert pairs[1, 4].offset_m.tolist() == [0, 0, 0]
    assert len(set(pairs[1, 4].point_ids.tolist())) == 150
    assert pairs[1, 3].union_points == 101
    assert pairs[1, 3].min_distance_m == pytest.approx(np.sqrt(18))
    assert pairs[2, 3].closest_b == 400
    assert pairs[1, 2].min_distance_m == pytest.approx(scene.distances(1, 2).min(), abs=1e-12)


def test_far_from_the_origin_nothing_changes() -> None:
    rng = np.random.default_rng(8)
    near = rng.integers(0, 64 * 4, (900, 3)) / 64  # exact in float32 at 100 km, too
    instance = rng.integers(-1, 5, 900).astype(np.int32)
    centre, far = rng.integers(0, 4, (5, 3)), np.array([100_000, -65_536, 99_999])
    here = Scene(near.astype(np.float32), instance, make_boxes([0, 1, 2, 3, 4], centre, 1))
    there = Scene((near + far).astype(np.float32), instance, make_boxes([0, 1, 2, 3, 4], centre + far, 1))
    for one, other in zip(measured(here, 50).values(), measured(there, 50).values(), strict=True):
        assert one.point_ids.tolist() == other.point_ids.tolist()
        assert one.union_points == other.union_points
        assert [one.min_distance_m, one.closest_a, one.closest_b] == [*other[5:]]
        np.testing.assert_allclose(one.offset_m, other.offset_m, atol=1e-9)


def test_the_other_direction_is_the_same_pair() -> None:
    scene = random_scene(np.random.default_rng(9), 200, on_lattice=False, scatter=True)
    mirror = np.array([9, 3, 2, 0, -1])[np.searchsorted([0, 2, 3, 9], scene.instance)]
    mirror[scene.instance < 0] = -1
    boxes = scene.boxes
    turned = PairBoxes(boxes.numbers, boxes.centre[::-1].copy(), boxes.axes[::-1].copy(), boxes.lengths[::-1])
    back = measured(Scene(scene.points, mirror.astype(np.int32), turned), 40)
    for (a, b), pair in measured(scene, 40).items():
        partner = {0: 9, 2: 3, 3: 2, 9: 0}
        other = back[partner[b], partner[a]]
        assert pair.point_ids.tolist() == other.point_ids.tolist()
        assert pair.min_distance_m == other.min_distance_m
        assert [pair.closest_a, pair.closest_b] == [other.closest_b, other.closest_a]
        assert pair.offset_m.tolist() == (-other.offset_m).tolist()


def test_a_pair_is_the_same_alone_and_again() -> None:
    scene = random_scene(np.random.default_rng(10), 400, on_lattice=False, scatter=True)
    together = measured(scene, 60)
    for order in (np.array([[3, 9], [0, 2]], np.int32), np.array([[0, 2]], np.int32)):
        for pair in scene.builder().build(order, 30):
            assert pair.point_ids.tolist() == together[pair.a, pair.b].point_ids[:30].tolist()
            assert pair[5:] == together[pair.a, pair.b][5:]


def test_five_hundred_instances() -> None:
    rng = np.random.default_rng(11)
    row, column = np.divmod(np.arange(500), 25)
    corner = np.repeat(np.stack([row, column, 0 * row], axis=1), 20, axis=0)
    points = corner + rng.uniform(0, 0.4, (10_000, 3))
    instance = np.repeat(np.arange(500, dtype=np.int32), 20)
    order = rng.permutation(10_000)
    boxes = make_boxes(list(range(500)), corner[::20] + 0.2, 0.4)
    builder = PairBuilder(points[order].astype(np.float32), instance[order], boxes)
    near = builder.close_pairs(boxes.numbers, 0.999)
    assert len(all_pairs(builder, boxes.numbers)) == 500 * 499 // 2
    assert {(abs(row[a] - row[b]), abs(column[a] - column[b])) for a, b in near} == {(0, 1), (1, 0), (1, 1)}
    assert {pair.union_points for pair in builder.build(near[::50], 5)} == {40}


def test_nothing_gives_nothing() -> None:
    none = np.zeros(0, np.int32)
    builder = PairBuilder(np.zeros((0, 3), np.float32), none, make_boxes([], 0, 0))
    for limit in (None, 1.0):
        assert builder.close_pairs(none, limit).shape == (0, 2)
    assert list(builder.build(np.zeros((0, 2), np.int32), 5)) == []
    background = PairBuilder(np.zeros((9, 3), np.float32), np.full(9, -1, np.int32), make_boxes([3], 0, 1))
    with pytest.raises(ValueError, match="instance 3 has no points"):
        background.close_pairs(np.array([3], np.int32), None)


def test_what_cannot_be_measured_is_named_before_the_first_pair() -> None:
    scene = random_scene(np.random.default_rng(12), 30, on_lattice=False, scatter=True)
    builder = scene.builder()
    with pytest.raises(ValueError, match="smaller instance number first"):
        builder.build(np.array([[3, 2]], np.int32), 5)
    with pytest.raises(ValueError, match="smaller instance number first"):
        builder.build(np.array([[0, 2], [3, 3]], np.int32), 5)
    with pytest.raises(ValueError, match=r"pairs: expected \(any, 2\) int32, got \(1, 3\) int32"):
        builder.build(np.zeros((1, 3), np.int32), 5)
    with pytest.raises(ValueError, match="a sample of 0 points"):
        builder.build(np.array([[2, 3]], np.int32), 0)
    with pytest.raises(ValueError, match="instance 5 has no box"):
        builder.build(np.array([[2, 5]], np.int32), 5)
    with pytest.raises(ValueError, match="instance 5 has no points"):
        builder.close_pairs(np.array([2, 5], np.int32), None)
    for distance in (-0.1, np.nan):
        with pytest.raises(ValueError, match="expected 0 or more"):
            builder.close_pairs(np.array([2, 3], np.int32), distance)
    spoilt = scene.points.copy()
    spoilt[17, 0] = np.inf
    with pytest.raises(UserError, match="point 17 of the cloud is not finite"):
        PairBuilder(spoilt, scene.instance, scene.boxes)
    with pytest.raises(ValueError, match="points_world has 29 rows, instance has 30"):
        PairBuilder(scene.points[1:], scene.instance, scene.boxes)


def test_boxes_are_checked() -> None:
    boxes = make_boxes([1, 4], 0, 1)
    with pytest.raises(ValueError, match="numbers: expected ascending"):
        replace(boxes, numbers=boxes.numbers[::-1])
    with pytest.raises(ValueError, match="numbers: expected ascending"):
        replace(boxes, numbers=np.array([4, 4], np.int32))
    with pytest.raises(ValueError, match=r"lengths: expected \(2, 3\) float64, got \(1, 3\) float64"):
        replace(boxes, lengths=boxes.lengths[:1])
    with pytest.raises(ValueError, match=r"axes: expected \(2, 3, 3\) float64"):
        replace(boxes, axes=boxes.axes.astype(np.float32))
