"""The published sample of a subgraph, stated plainly, and a unit compared with it."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.scan import Cloud
from open3dsg.store.unit import Unit

ROUNDING_M = 1e-9  # the points that make a box lie on its sides

Boxes = dict[int, tuple[NDArray[np.float64], ...]]


def in_box(points: NDArray[np.float64], box: tuple[NDArray[np.float64], ...], kind: str) -> NDArray[np.bool_]:
    """The points within a box, by the projection on each of its axes."""
    low, high, centre, axes, lengths = box
    if kind == "axis-aligned":
        inside: NDArray[np.bool_] = np.all(
            (points >= low - ROUNDING_M) & (points <= high + ROUNDING_M), axis=1
        )
        return inside
    inside = np.ones(len(points), bool)
    for axis, length in zip(axes.reshape(3, 3), lengths, strict=True):
        inside &= np.abs((points - centre) @ axis) <= length / 2 + ROUNDING_M
    return inside


def radius(points: NDArray[np.float64], sample: NDArray[np.float64]) -> float:
    """How far the furthest of the points is from the nearest of a sample of them."""
    distance = np.full(len(points), np.inf)
    for chosen in sample:
        distance = np.minimum(distance, np.linalg.norm(points - chosen, axis=1))
    return float(distance.max())


def plain_sample(points: NDArray[np.float64], first: int, count: int) -> NDArray[np.float64]:
    """A farthest-point sample of `count` of the points, taken one by one."""
    distance = np.full(len(points), np.inf)
    sample = [points[first]]
    while len(sample) < min(count, len(points)):
        distance = np.minimum(distance, np.linalg.norm(points - sample[-1], axis=1))
        sample.append(points[np.argmax(distance)])
    return np.array(sample)


def check_sample(
    points: NDArray[np.float64], point_ids: NDArray[np.int32], of: NDArray[np.intp], count: int
) -> None:
    """A true farthest-point sample: of the right points, each once, covering them as the plain one does."""
    assert len(point_ids) == min(count, len(of))
    assert len(set(point_ids.tolist())) == len(point_ids)
    assert set(point_ids.tolist()) <= set(of.tolist())
    first = int(np.flatnonzero(of == point_ids[0])[0])
    plain = radius(points[of], plain_sample(points[of], first, count))
    assert radius(points[of], points[point_ids]) <= 1.05 * plain + 1e-9


def check_published(unit: Unit, cloud: Cloud, boxes: Boxes, kind: str, sizes: tuple[int, int]) -> None:
    """Compare a unit with the published sample of the same objects, but for the listed deviations."""
    points = cloud.xyz_m.astype(np.float64)
    own = {number: np.flatnonzero(cloud.instance == number) for number in unit.numbers.tolist()}
    for at, number in enumerate(unit.numbers.tolist()):
        sample = unit.samples[at]
        check_sample(points, sample.point_ids, own[number], sizes[0])
        xyz = points[sample.point_ids]
        np.testing.assert_allclose(unit.centre_m[at], xyz.mean(axis=0), atol=1e-6)
        scale = np.sqrt(((xyz - xyz.mean(axis=0)) ** 2).sum(axis=1)).max()
        np.testing.assert_allclose(unit.scale_m[at], scale, atol=1e-6)
        np.testing.assert_allclose(sample.normalised(), (xyz - xyz.mean(axis=0)) / (scale or 1), atol=1e-4)
        np.testing.assert_array_equal(sample.rgb, cloud.rgb[sample.point_ids])
        assert cloud.normals is not None
        assert sample.normals is not None
        np.testing.assert_array_equal(sample.normals, cloud.normals[sample.point_ids])
    assert unit.pairs.tolist() == [list(pair) for pair in itertools.permutations(unit.numbers.tolist(), 2)]
    for edge, (subject, target) in enumerate(unit.pairs.tolist()):
        inside = in_box(points, boxes[subject], kind) | in_box(points, boxes[target], kind)
        inside[own[subject]] = inside[own[target]] = True
        union = unit.unions[edge]
        check_sample(points, union.point_ids, np.flatnonzero(inside), sizes[1])
        owner = cloud.instance[union.point_ids]
        assert unit.flags(edge).tolist() == [
            {subject: 1, target: 2}.get(number, 0) for number in owner.tolist()
        ]
        s, o = points[own[subject]], points[own[target]]
        np.testing.assert_allclose(unit.offset_m[edge], s.mean(axis=0) - o.mean(axis=0), atol=1e-5)
        shortest = min(np.linalg.norm(o - point, axis=1).min() for point in s)
        np.testing.assert_allclose(unit.min_distance_m[edge], shortest, atol=1e-5)
        ends = unit.closest_m[edge]
        np.testing.assert_allclose(np.linalg.norm(ends[1] - ends[0]), shortest, atol=1e-5)
        assert any(np.array_equal(ends[0], point) for point in s)
        assert any(np.array_equal(ends[1], point) for point in o)
