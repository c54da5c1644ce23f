"""Geometry of pairs of instances: the points in the box of either, the way between them, how close they come.

What a pair shows of the scan is Open3DSG's rule (Koch et al., CVPR 2024): all points in the box of one or of
the other, background included, thinned to a farthest-point sample. The scan is put in a spatial order once;
the union of any two boxes is a part of that order, so that sampling it takes no search structure of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array, check_finite, check_same_length
from open3dsg.geometry.closest import ClosestPoints
from open3dsg.geometry.compiled import array_type, compiled
from open3dsg.geometry.sampling import centred, check_count, farthest_of_ordered, near_order

# The faces of a box that was put around points run through some of them: rounding must not leave these out.
_ROUNDING_M = 1e-9


@dataclass(frozen=True)
class PairBoxes:
    """Boxes of M instances, by ascending instance number; metres, in the frame of the points."""

    numbers: NDArray[np.int32]  # (M,)
    centre: NDArray[np.float64]  # (M, 3)
    axes: NDArray[np.float64]  # (M, 3, 3) rows are unit vectors
    lengths: NDArray[np.float64]  # (M, 3) whole extents along the axes

    def __post_init__(self) -> None:
        """Raise ValueError for a wrong shape or dtype, or for numbers that do not ascend."""
        check_array("numbers", self.numbers, (None,), np.int32)
        check_array("centre", self.centre, (len(self.numbers), 3), np.float64)
        check_array("axes", self.axes, (len(self.numbers), 3, 3), np.float64)
        check_array("lengths", self.lengths, (len(self.numbers), 3), np.float64)
        if not (self.numbers[1:] > self.numbers[:-1]).all():
            raise ValueError("numbers: expected ascending instance numbers")


class PairGeometry(NamedTuple):
    """An unordered pair of instances, a < b. A place is a row of the scan's points."""

    a: int
    b: int
    point_ids: NDArray[np.int32]  # (K,) places of points in the box of either, in farthest-point order
    union_points: int  # how many lie in the box of either
    offset_m: NDArray[np.float64]  # (3,) centroid of b - centroid of a
    min_distance_m: float  # between the places closest_a of a and closest_b of b
    closest_a: int
    closest_b: int


class PairBuilder:
    """A scan's points and the boxes of its instances, ready to measure pairs.

    It holds about 75 bytes a point and, while pairs are built, a bit for each point and instance.
    """

    def __init__(
        self, points_world: NDArray[np.float32], instance: NDArray[np.int32], boxes: PairBoxes
    ) -> None:
        """Put the points in spatial order and group them by instance.

        `points_world`: (N, 3) float32, metres; `instance`: (N,) int32, -1 is background.
        Raises ValueError for a wrong shape or dtype, UserError for a point that is not finite.
        """
        check_array("points_world", points_world, (None, 3), np.float32)
        check_array("instance", instance, (None,), np.int32)
        check_same_length("points_world", points_world, "instance", instance)
        check_finite("the cloud", points_world)
        self._boxes = boxes
        order = near_order(points_world)
        self._place = order.astype(np.int32)
        self._world = points_world[order].astype(np.float64)
        self._centred = np.ascontiguousarray(centred(points_world)[order].T)
        instance = instance[order]
        foreground = np.flatnonzero(instance >= 0)
        self._own = foreground[np.argsort(instance[foreground], kind="stable")]
        self._numbers, start = np.unique(instance[self._own], return_index=True)
        self._start = np.append(start, len(self._own))
        self._closest = ClosestPoints(self._world[self._own], self._start)

    def close_pairs(self, numbers: NDArray[np.int32], max_distance_m: float | None) -> NDArray[np.int32]:
        """Pair those instances whose closest points are at most `max_distance_m` metres apart; None: all.

        `numbers`: (M,) int32, in any order, each once or more. Returns (P, 2) int32, a < b, by a, then b.
        Raises ValueError for an instance without points and a distance that is not 0 or more.
        """
        check_array("numbers", numbers, (None,), np.int32)
        if max_distance_m is not None and not max_distance_m >= 0:
            raise ValueError(f"a distance of {max_distance_m} m: expected 0 or more")
        numbers = np.unique(numbers)
        groups = self._groups(numbers)
        a, b = np.triu_indices(len(numbers), 1)
        if max_distance_m is not None:
            near = self._closest.within(groups[a], groups[b], max_distance_m)
            a, b = a[near], b[near]
        return np.column_stack([numbers[a], numbers[b]])

    def build(self, pairs: NDArray[np.int32], samples: int) -> Iterator[PairGeometry]:
        """Measure pairs one after the other, in their order; nothing of a pair is kept.

        `pairs`: (P, 2) int32, a < b; `samples`: how many points of a union are taken, all where it has fewer.
        Raises ValueError, before the first pair, for a wrong shape, dtype or count, a pair that is not a < b,
        and an instance without points or without a box.
        """
        check_array("pairs", pairs, (None, 2), np.int32)
        check_count(samples)
        if not (pairs[:, 0] < pairs[:, 1]).all():
            raise ValueError("pairs: expected the smaller instance number first")
        numbers = np.unique(pairs)
        boxless = np.setdiff1d(numbers, self._boxes.numbers)
        if len(boxless):
            raise ValueError(f"instance {boxless[0]} has no box")
        return self._build(
            pairs, dict(zip(numbers.tolist(), self._groups(numbers).tolist(), strict=True)), samples
        )

    def _groups(self, numbers: NDArray[np.int32]) -> NDArray[np.int64]:
        """Find instances, ascending, among those with points."""
        missing = np.setdiff1d(numbers, self._numbers)
        if len(missing):
            raise ValueError(f"instance {missing[0]} has no points")
        return np.searchsorted(self._numbers, numbers)

    def _build(
        self, pairs: NDArray[np.int32], groups: dict[int, int], samples: int
    ) -> Iterator[PairGeometry]:
        inside = {number: self._inside(number, group) for number, group in groups.items()}
        centroid = {
            number: self._world[self._members(group)].mean(axis=0) for number, group in groups.items()
        }
        for a, b in pairs.tolist():
            union = np.flatnonzero(
                np.unpackbits(inside[a] | inside[b], count=len(self._world)).view(np.bool_)
            )
            sample = farthest_of_ordered(np.take(self._centred, union, axis=1), samples)
            distance_m, row_a, row_b = self._closest.between(groups[a], groups[b])
            yield PairGeometry(
                a=a,
                b=b,
                point_ids=self._place[union[sample]],
                union_points=len(union),
                offset_m=centroid[b] - centroid[a],
                min_distance_m=distance_m,
                closest_a=int(self._place[self._own[row_a]]),
                closest_b=int(self._place[self._own[row_b]]),
            )

    def _members(self, group: int) -> NDArray[np.int64]:
        """Give the points of an instance, as rows of the spatial order, ascending."""
        return self._own[self._start[group] : self._start[group + 1]]

    def _inside(self, number: int, group: int) -> NDArray[np.uint8]:
        """Mark the points in an instance's box and its own: a bit each, in the spatial order."""
        i = np.searchsorted(self._boxes.numbers, number)
        half = self._boxes.lengths[i] / 2 + _ROUNDING_M
        box = np.vstack([self._boxes.centre[i], half, self._boxes.axes[i]])
        inside = _in_box(self._world, box)
        inside[self._members(group)] = True
        return np.packbits(inside)


@compiled(nb.bool_[::1](array_type(nb.float64, 2), array_type(nb.float64, 2)))
def _in_box(points: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the points in a closed box; `box`: (5, 3), the centre, half the lengths, and the three axes."""
    inside = np.ones(len(points), np.bool_)
    for i in range(len(points)):
        x, y, z = points[i, 0] - box[0, 0], points[i, 1] - box[0, 1], points[i, 2] - box[0, 2]
        for axis in range(3):
            along = x * box[2 + axis, 0] + y * box[2 + axis, 1] + z * box[2 + axis, 2]
            inside[i] &= abs(along) <= box[1, axis]
    return inside
