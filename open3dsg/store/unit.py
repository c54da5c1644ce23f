"""A training unit: the instances of a subgraph and its directed pairs, as a model is shown them.

Nothing is padded, and nothing is held twice. A sample is places in the cloud of its scan, which all units of
one reader share; its points are gathered when they are asked for. Both directions of a pair share a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from open3dsg.datasets.scan import Cloud


class UnitKey(NamedTuple):
    """What names a training unit in any store that holds it."""

    scan: str  # dataset/name
    subgraph_no: int


@dataclass(frozen=True, eq=False)
class PointSample:
    """N points of a scan in farthest-point order: the first n are a sample of n. Arrays are made anew."""

    cloud: Cloud
    point_ids: NDArray[np.int32]  # (N,) places in the cloud

    def __len__(self) -> int:
        """Return N."""
        return len(self.point_ids)

    @property
    def xyz_m(self) -> NDArray[np.float32]:
        """(N, 3) metres, world."""
        return self.cloud.xyz_m[self.point_ids]

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """(N, 3)."""
        return self.cloud.rgb[self.point_ids]

    @property
    def normals(self) -> NDArray[np.float32] | None:
        """(N, 3), or None where the scan has none."""
        return None if self.cloud.normals is None else self.cloud.normals[self.point_ids]

    def extent(self) -> tuple[NDArray[np.float64], float]:
        """Return the mean of the points, (3,) metres, and how far the furthest is from it."""
        wide = self.xyz_m.astype(np.float64)
        centre = wide.mean(axis=0)
        return centre, float(np.linalg.norm(wide - centre, axis=1).max())

    def normalised(self) -> NDArray[np.float32]:
        """Return the points about their mean, the furthest at distance 1: (N, 3) float32.

        Coincident points, which have no extent, all come to the origin.
        """
        centre, scale = self.extent()
        moved: NDArray[np.float32] = ((self.xyz_m - centre) / (scale or 1.0)).astype(np.float32)
        return moved


@dataclass(frozen=True, eq=False)
class Sightings:
    """F frames that show an instance, ascending; docs/data-model.md says what is counted in them."""

    frame_no: NDArray[np.int32]  # (F,)
    visible_points: NDArray[np.int32]  # (F,)
    visibility_ratio: NDArray[np.float32]  # (F,)
    pixel_box: NDArray[np.int16]  # (F, 4) x0, y0, x1, y1 inclusive, on the depth grid

    def __len__(self) -> int:
        """Return F."""
        return len(self.frame_no)

    def rows(self, which: NDArray[np.intp] | slice) -> Sightings:
        """Return some of the frames."""
        return Sightings(
            self.frame_no[which],
            self.visible_points[which],
            self.visibility_ratio[which],
            self.pixel_box[which],
        )


@dataclass(frozen=True, eq=False)
class Unit:
    """A subgraph: M instances, ascending by number, and P directed pairs, by subject, then object.

    Metres, world. Of a full graph the relations are the distinct ones of the scan's given subgraphs.
    """

    key: UnitKey
    method: str  # 3dssg, window or full
    predicates: Sequence[str]  # K names, see `read_predicates`

    numbers: NDArray[np.int32]  # (M,) the dataset's own
    label_ids: NDArray[np.int32]  # (M,) terms
    labels: Sequence[str]  # M
    samples: Sequence[PointSample]  # M
    centre_m: NDArray[np.float64]  # (M, 3) mean of the sample
    scale_m: NDArray[np.float64]  # (M,) distance of its furthest point from there
    aabb_min_m: NDArray[np.float64]  # (M, 3)
    aabb_max_m: NDArray[np.float64]  # (M, 3)
    obb_centre_m: NDArray[np.float64]  # (M, 3)
    obb_axes: NDArray[np.float64]  # (M, 3, 3) a unit axis a row
    obb_lengths_m: NDArray[np.float64]  # (M, 3) whole extents
    sightings: Sequence[Sightings]  # M

    edges: NDArray[np.int32]  # (P, 2) places of subject and object among the instances
    unions: Sequence[PointSample]  # P, of the points in the box of either end
    offset_m: NDArray[np.float64]  # (P, 3) centroid of the subject - centroid of the object
    closest_m: NDArray[np.float64]  # (P, 2, 3) the subject's point and the object's that are nearest
    min_distance_m: NDArray[np.float64]  # (P,) between them
    holds: NDArray[np.bool_]  # (P, K) which predicates hold; 'none', where it is one of them, holds alone

    left_out: Mapping[int, str]  # members that are not among the instances, and why
    relations_left_out: int  # annotated relations whose pair is not among the pairs

    @property
    def pairs(self) -> NDArray[np.int32]:
        """(P, 2) numbers of subject and object."""
        return self.numbers[self.edges]

    def flags(self, edge: int) -> NDArray[np.uint8]:
        """Say whose each point of `unions[edge]` is: (N,), 1 the subject's, 2 the object's, 0 neither's."""
        subject, target = self.numbers[self.edges[edge]]
        union = self.unions[edge]
        owner = union.cloud.instance[union.point_ids]
        whose: NDArray[np.uint8] = (owner == subject) + np.uint8(2) * (owner == target)
        return whose

    def shared_frames(self, edge: int) -> tuple[Sightings, Sightings]:
        """Return how the frames that show both ends of a pair show the subject, and how the object."""
        subject, target = (self.sightings[end] for end in self.edges[edge])
        _, of_subject, of_target = np.intersect1d(
            subject.frame_no, target.frame_no, assume_unique=True, return_indices=True
        )
        return subject.rows(of_subject), target.rows(of_target)
