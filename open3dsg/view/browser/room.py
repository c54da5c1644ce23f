"""A scan as it is drawn: which points, in which colours, and its graph; no browser here."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from open3dsg.datasets.scan import Cloud
from open3dsg.query.viewing import has_points
from open3dsg.store.cloud import read_cloud
from open3dsg.view.browser import colours
from open3dsg.view.browser.lines import arrows, box_lines
from open3dsg.view.browser.thinning import near_points, progressive_order, spacing_m

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.query.graph import GraphEdge, GraphNode, StoredGraph
    from open3dsg.store.scans import StoredScan
    from open3dsg.view.browser.lines import Arrows

ColourBy = Literal["photo", "instance", "label", "similarity"]
_ABOVE_M = 0.08  # of a node's ball over its thing, where it can be seen and clicked
_SIZES_M = 0.005 * np.sqrt(2.0) ** np.arange(10)  # 5 to 113 mm: of points that are drawn
_PER_SPACING, _PER_SPACING_OF_WALLS = 1.05, 0.2  # surfaces close, but one can look into the room
_SAMPLE = 20_000  # points that tell how large a room is
_NO_POINTS = Cloud(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint8), np.empty(0, np.int32))
_SHARE_NEAR = 0.5  # of the points that may be drawn: those near the camera, where the scan has more

Pair = tuple[int, int]  # subject, object


@dataclass(frozen=True)
class Room:
    """A scan with one of its graphs; all arrays are in metres, world, z up."""

    scan: StoredScan
    cloud: Cloud  # without points where only boxes are known, as of an imported graph
    graph: StoredGraph
    max_points: int
    order: NDArray[np.intp] = field(repr=False)  # progressive, of the points of `cloud`

    @cached_property
    def nodes(self) -> Mapping[int, GraphNode]:
        """The instances by number."""
        return {node.instance: node for node in self.graph.nodes}

    @cached_property
    def placed(self) -> Sequence[GraphNode]:
        """The instances that have a place in the room."""
        return [node for node in self.graph.nodes if node.centroid_m is not None]

    @cached_property
    def edges(self) -> Mapping[Pair, Sequence[GraphEdge]]:
        """The relations of each pair and direction, of those that can be drawn."""
        placed = {node.instance for node in self.placed}
        found: dict[Pair, list[GraphEdge]] = {}
        for edge in self.graph.edges:
            if edge.subject in placed and edge.object in placed:
                found.setdefault((edge.subject, edge.object), []).append(edge)
        return found

    @cached_property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lowest and highest corner of what there is, but for strays."""
        points = self.cloud.xyz_m[self.order[:_SAMPLE]]
        if not len(points):
            points = np.array([node.centroid_m for node in self.placed] or [(0, 0, 0)], np.float32)
        low, high = np.percentile(points, (0.5, 99.5), axis=0)
        return low, high

    @property
    def is_thinned(self) -> bool:
        """Whether there are more points than may be drawn."""
        return len(self.order) > self.max_points

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
        """The instances ascending (M,), and at which of `_SIZES_M` the points of each are drawn (M,)."""
        drawn = self.order[: self.max_points]
        numbers, spacing = spacing_m(self.cloud.xyz_m[drawn], self.cloud.instance[drawn])
        walls = [node.instance for node in self.graph.nodes if is_part(node, "wall")]
        size = spacing * np.where(np.isin(numbers, walls), _PER_SPACING_OF_WALLS, _PER_SPACING)
        return numbers, np.abs(np.log(_SIZES_M) - np.log(np.maximum(size, 1e-6))[:, None]).argmin(axis=1)

    def by_size(self, indices: NDArray[np.intp]) -> list[tuple[float, NDArray[np.intp]]]:
        """Return in what sizes, in metres, to draw which of some points so that surfaces close."""
        numbers, steps = self._sizes
        if not len(numbers):
            return []
        place = np.searchsorted(numbers, self.cloud.instance[indices]).clip(max=len(numbers) - 1)
        step = steps[place]
        return [(float(_SIZES_M[one]), indices[step == one]) for one in np.unique(step)]

    def place_m(self, instance: int) -> NDArray[np.float64]:
        """Return where the ball of an instance that has a place floats (3,): just above it, in the middle."""
        node = self.nodes[instance]
        place = np.array(node.centroid_m, np.float64)
        if node.aabb_max_m is not None:
            place[2] = node.aabb_max_m[2]
        place[2] += _ABOVE_M
        return place

    def far_points(self) -> NDArray[np.intp]:
        """Return the points that are always drawn: all, or as many as are not kept for those near by."""
        return self.order[: int(self.max_points * (1 - _SHARE_NEAR))] if self.is_thinned else self.order

    def near_points(self, focus_m: NDArray[np.float64], radius_m: float) -> NDArray[np.intp]:
        """Return further points to draw around what the camera looks at."""
        drawn = len(self.far_points())
        return near_points(self.cloud.xyz_m, self.order[drawn:], focus_m, radius_m, self.max_points - drawn)

    def shown(self, indices: NDArray[np.intp], cut_m: float, with_ceiling: bool) -> NDArray[np.intp]:
        """Leave out points above `cut_m`, and those of the ceiling where that is not wanted."""
        kept: NDArray[np.intp] = indices[self.cloud.xyz_m[indices, 2] <= cut_m]
        ceiling = [node.instance for node in self.graph.nodes if is_part(node, "ceiling")]
        if not with_ceiling:
            kept = kept[~np.isin(self.cloud.instance[kept], ceiling)]
        return kept

    def point_colours(
        self, by: ColourBy, similarity: Mapping[int, float], indices: NDArray[np.intp]
    ) -> NDArray[np.uint8]:
        """Return the colours (n, 3) of some points."""
        rgb = self.cloud.rgb[indices]
        if by == "photo":
            return rgb
        numbers, table = self.node_colours(by, similarity)
        return colours.paint(rgb, self.cloud.instance[indices], numbers, table)

    def node_colours(
        self, by: ColourBy, similarity: Mapping[int, float]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Return the instances (M,) ascending and their colours (M, 3); by photo each has its own."""
        numbers = sorted(self.nodes)
        if by == "label":
            table = colours.label_colours([self.nodes[number].label for number in numbers])
        elif by == "similarity":
            table = colours.similarity_colours(
                np.array([similarity.get(number, np.nan) for number in numbers], np.float64)
            )
        else:
            table = colours.instance_colours(numbers)
        return np.array(numbers, np.int32), table.reshape(-1, 3)

    def arrows_of(self, pairs: Collection[Pair]) -> Arrows:
        """Return the arrows of some pairs, in their order."""
        subjects = [self.place_m(subject) for subject, _ in pairs]
        objects = [self.place_m(object_) for _, object_ in pairs]
        return arrows(_points(subjects), _points(objects))

    def boxes_of(self, instances: Collection[int]) -> NDArray[np.float32]:
        """Return the edges (n, 2, 3) of the boxes of some instances: oriented ones where there are any."""
        found = [_half_axes(self.nodes[number]) for number in instances if number in self.nodes]
        boxes = [box for box in found if box is not None]
        if not boxes:
            return np.empty((0, 2, 3), np.float32)
        centres, axes = (np.array(part, np.float64) for part in zip(*boxes, strict=True))
        return box_lines(centres, axes).reshape(-1, 2, 3)

    def size_of(self, instance: int) -> float:
        """Return the diagonal of an instance's box, in metres."""
        node = self.nodes[instance]
        if node.aabb_min_m is None or node.aabb_max_m is None:
            return 0.5
        return float(np.linalg.norm(np.subtract(node.aabb_max_m, node.aabb_min_m)))


def read_room(connection: Connection[Any], scan: StoredScan, graph: StoredGraph, max_points: int) -> Room:
    """Read the points of a scan whose graph was read."""
    cloud = read_cloud(connection, scan.scan_id, scan.name) if has_points(connection, scan) else _NO_POINTS
    return Room(scan, cloud, graph, max_points, progressive_order(cloud.xyz_m))


def is_part(node: GraphNode, part: str) -> bool:
    """Tell whether something is a part of the building that hides the room: its ceiling, or a wall."""
    return node.annotated_label.casefold() == part


def stand_for(
    room: Room, target_m: NDArray[np.float64], size_m: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where to stand, and what to look at, to see something of `size_m` at `target_m`.

    From above, at 45 degrees, from the side of the middle of the room: things stand along walls.
    """
    low, high = room.bounds
    inwards = ((low + high) / 2 - target_m) * (1, 1, 0)
    length = float(np.linalg.norm(inwards))
    inwards = inwards / length if length > 0.2 else np.array([0.6, -0.8, 0.0])
    away = max(2.0, 2.0 * size_m)
    return target_m + away * (0.75 * inwards + np.array([0, 0, 0.75])), target_m


def overview(room: Room) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where to stand, and what to look at, to see the whole room from above at an angle."""
    low, high = room.bounds
    middle = (low + high) / 2
    extent = max(float(np.linalg.norm(high - low)), 1.0)
    return middle + extent * np.array([0.26, -0.42, 0.7]), middle - np.array([0, 0, 0.08 * extent])


def _points(points: Sequence[Any]) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(-1, 3)


def _half_axes(node: GraphNode) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return centre (3,) and half sides (3, 3) of a node's box."""
    if node.obb_centre_m is not None and node.obb_axes is not None and node.obb_lengths_m is not None:
        axes = np.array(node.obb_axes).reshape(3, 3) * (np.array(node.obb_lengths_m)[:, None] / 2)
        return np.array(node.obb_centre_m), axes
    if node.aabb_min_m is not None and node.aabb_max_m is not None:
        low, high = np.array(node.aabb_min_m), np.array(node.aabb_max_m)
        return (low + high) / 2, np.diag((high - low) / 2)
    return None
