"""What is drawn in one browser: points, nodes with labels, arrows with predicates, boxes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.view.browser.colours import SELECTED
from open3dsg.view.browser.lines import cone
from open3dsg.view.browser.room import is_part, overview, stand_for
from open3dsg.view.browser.text import short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import viser
    from numpy.typing import NDArray

    from open3dsg.query.graph import GraphNode
    from open3dsg.view.browser.room import ColourBy, Pair, Room

FEW_EDGES = 80  # up to so many arrows can be told apart,
_FEW_PREDICATES = 20  # and so many predicates be read at once
_NODE_M, _HEAD_M = 0.05, 0.1
_EDGE_RGB, _PALE_RGB = (62, 84, 130), (196, 203, 216)
_NODE_LETTERS, _EDGE_LETTERS = 0.9, 0.75
_FLIGHT_S, _FLIGHT_STEPS = 0.6, 15
_WIDEST_M = 2.0  # of what the camera keeps away from to see all of it: a floor is seen in part


@dataclass(frozen=True)
class Look:
    """How a room is to be drawn."""

    colour: ColourBy = "photo"
    relations: str = "all"  # all, chosen or none
    labels: bool = True
    boxes: bool = False
    ceiling: bool = False
    cut_m: float = np.inf
    point_scale: float = 1.0
    similarity: Mapping[int, float] = field(default_factory=dict)


class Scene:
    """The 3D part of one page. Its functions are called from that page's thread alone."""

    def __init__(
        self,
        client: viser.ClientHandle,
        on_node: Callable[[int], None],
        on_edge: Callable[[Pair], None],
    ) -> None:
        """Draw into the browser of `client`; call back with what is clicked."""
        self._client = client
        self._on_node, self._on_edge = on_node, on_edge
        self._graph_names: list[str] = []
        self._point_names: dict[str, list[str]] = {}
        self.drawn_points = 0

    def draw(self, room: Room, look: Look, chosen: Collection[int], pair: Pair | None) -> None:
        """Draw everything anew."""
        with self._client.atomic():
            self.draw_points(room, look)
            self.draw_graph(room, look, chosen, pair)

    def draw_points(self, room: Room, look: Look) -> None:
        """Draw the points that are drawn wherever the camera is, and those near it."""
        self.drawn_points = self._put_points("/points/far", room, look, room.far_points())
        self.draw_near(room, look)

    def draw_near(self, room: Room, look: Look) -> None:
        """Draw more points around what the camera looks at, where the scan has more than are drawn."""
        if not room.is_thinned:
            self._put_points("/points/near", room, look, np.empty(0, np.intp))
            return
        camera = self._client.camera
        focus = np.asarray(camera.look_at, np.float64)
        # The radius of what a camera of 75 degrees sees at this distance.
        radius_m = max(1.0, 0.77 * float(np.linalg.norm(focus - camera.position)))
        self._put_points("/points/near", room, look, room.near_points(focus, radius_m))

    def draw_graph(self, room: Room, look: Look, chosen: Collection[int], pair: Pair | None) -> None:
        """Draw nodes, arrows and boxes."""
        with self._client.atomic():
            for name in self._graph_names:
                self._remove(name)
            self._graph_names = []
            if look.labels:
                self._draw_nodes(room, look, chosen)
            self._draw_edges(room, look, chosen, pair)
            self._draw_boxes(room, look, chosen)

    def fly_to(self, room: Room, chosen: Sequence[int]) -> None:
        """Move the camera in front of an object, or of two that relate; what has no place is nowhere."""
        places = [room.place_m(node.instance) for node in room.placed if node.instance in chosen]
        if len(places) == 1:
            self._fly(*stand_for(room, places[0], min(room.size_of(chosen[0]), _WIDEST_M)))
        elif places:
            head = room.arrows_of([(chosen[0], chosen[1])]).heads[0].astype(np.float64)
            apart_m = float(np.linalg.norm(places[0] - places[1]))
            self._fly(*stand_for(room, head, min(apart_m, _WIDEST_M)))

    def show_all(self, room: Room) -> None:
        """Put the camera where the whole room is seen."""
        position, look_at = overview(room)
        with self._client.atomic():
            self._client.camera.up_direction = (0.0, 0.0, 1.0)
            self._client.camera.position = position
            self._client.camera.look_at = look_at

    def _fly(self, position: NDArray[np.float64], look_at: NDArray[np.float64]) -> None:
        camera = self._client.camera
        starts = np.array(camera.position), np.array(camera.look_at)
        for step in range(1, _FLIGHT_STEPS + 1):
            share = step / _FLIGHT_STEPS
            eased = share * share * (3 - 2 * share)
            with self._client.atomic():
                camera.position = starts[0] + eased * (position - starts[0])
                camera.look_at = starts[1] + eased * (look_at - starts[1])
            time.sleep(_FLIGHT_S / _FLIGHT_STEPS)

    def _put_points(self, name: str, room: Room, look: Look, indices: NDArray[np.intp]) -> int:
        """Draw points in place of those of this name, and return how many; a cloud has one size of points."""
        shown = room.shown(indices, look.cut_m, look.ceiling)
        clouds = {f"{name}/{1000 * size_m:.0f}mm": (size_m, part) for size_m, part in room.by_size(shown)}
        for old in self._point_names.get(name, []):
            if old not in clouds:
                self._remove(old)
        self._point_names[name] = list(clouds)
        for cloud, (size_m, part) in clouds.items():
            self._client.scene.add_point_cloud(
                cloud,
                room.cloud.xyz_m[part],
                room.point_colours(look.colour, look.similarity, part),
                point_size=size_m * look.point_scale,
                point_shape="rounded",
                point_shading="flat",
                precision="float32",
            )
        return len(shown)

    def _draw_nodes(self, room: Room, look: Look, chosen: Collection[int]) -> None:
        nodes = [node for node in room.placed if _is_shown(node, look)]
        if not nodes:
            return
        numbers, table = room.node_colours(
            "instance" if look.colour == "photo" else look.colour, look.similarity
        )
        rgb = table[np.searchsorted(numbers, [node.instance for node in nodes])].copy()
        rgb[[node.instance in chosen for node in nodes]] = SELECTED
        positions = np.array([room.place_m(node.instance) for node in nodes], np.float32)
        self._add_clickable(
            "/graph/nodes",
            _ball(_NODE_M),
            positions,
            np.tile(np.array([1, 0, 0, 0], np.float32), (len(nodes), 1)),
            rgb,
            lambda index: self._on_node(nodes[index].instance),
        )
        above = positions + np.array([0, 0, 1.4 * _NODE_M], np.float32)
        for node, place in zip(nodes, above.tolist(), strict=True):
            self._label(f"/graph/label/{node.instance}", node.label, place, _NODE_LETTERS)

    def _draw_edges(self, room: Room, look: Look, chosen: Collection[int], pair: Pair | None) -> None:
        pairs = _pairs_to_draw(room, look, chosen, pair)
        if not pairs:
            return
        drawn = room.arrows_of(pairs)
        is_meant = [one == pair if pair is not None else bool({*one} & {*chosen}) for one in pairs]
        rgb = np.full((len(pairs), 3), _PALE_RGB if chosen else _EDGE_RGB, np.uint8)
        rgb[is_meant] = _EDGE_RGB
        rgb[[one == pair for one in pairs]] = SELECTED
        self._client.scene.add_line_segments(
            "/graph/lines", drawn.lines, np.repeat(rgb[:, None], 2, axis=1), thickness=0.008
        )
        self._graph_names.append("/graph/lines")
        mesh = cone(_HEAD_M / 4, _HEAD_M)
        self._add_clickable(
            "/graph/heads", mesh, drawn.heads, drawn.wxyz, rgb, lambda index: self._on_edge(pairs[index])
        )
        few = len(pairs) <= _FEW_PREDICATES and not chosen
        for place, (one, at) in enumerate(zip(pairs, drawn.heads.tolist(), strict=True)):
            if few or is_meant[place]:
                text = ", ".join(dict.fromkeys(edge.predicate for edge in room.edges[one]))
                self._label(f"/graph/predicate/{place}", text, at, _EDGE_LETTERS)

    def _draw_boxes(self, room: Room, look: Look, chosen: Collection[int]) -> None:
        every = [node.instance for node in room.placed if _is_shown(node, look)]
        for name, instances, rgb in (
            ("/graph/boxes", every if look.boxes else [], (120, 120, 120)),
            ("/graph/chosen", list(chosen), SELECTED),
        ):
            lines = room.boxes_of(instances)
            if len(lines):
                thickness = 0.006 if name == "/graph/boxes" else 0.015
                self._client.scene.add_line_segments(name, lines, rgb, thickness=thickness)
                self._graph_names.append(name)

    def _add_clickable(
        self,
        name: str,
        mesh: tuple[NDArray[np.float32], NDArray[np.uint32]],
        positions: NDArray[np.float32],
        wxyz: NDArray[np.float32],
        rgb: NDArray[np.uint8],
        on_click: Callable[[int], None],
    ) -> None:
        handle = self._client.scene.add_batched_meshes_simple(
            name,
            *mesh,
            batched_wxyzs=wxyz,
            batched_positions=positions,
            batched_colors=rgb,
            lod="off",
            cast_shadow=False,
            receive_shadow=False,
        )
        self._graph_names.append(name)

        @handle.on_click
        def _(event: viser.SceneNodePointerEvent[viser.BatchedMeshHandle]) -> None:
            if event.instance_index is not None:
                on_click(event.instance_index)

    def _label(self, name: str, text: str, place: Sequence[float], letters: float) -> None:
        x, y, z = place
        self._client.scene.add_label(
            name, short(text, 40), position=(x, y, z), anchor="bottom-center", font_screen_scale=letters
        )
        self._graph_names.append(name)

    def _remove(self, name: str) -> None:
        handle = self._client.scene.get_handle_by_name(name)
        if handle is not None:
            handle.remove()


def _pairs_to_draw(room: Room, look: Look, chosen: Collection[int], pair: Pair | None) -> Sequence[Pair]:
    """Return the pairs whose arrows are wanted; one that was chosen is always there."""
    if look.relations == "all":
        return [one for one in room.edges if all(_is_shown(room.nodes[end], look) for end in one)]
    if look.relations == "chosen" and pair is None:
        return [one for one in room.edges if {*one} & {*chosen}]
    return [one for one in room.edges if one == pair]


def _is_shown(node: GraphNode, look: Look) -> bool:
    """Tell whether an object is drawn: those whose points are left out are not."""
    is_low = node.centroid_m is not None and node.centroid_m[2] <= look.cut_m
    return is_low and (look.ceiling or not is_part(node, "ceiling"))


def _ball(radius_m: float) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Return the vertices (6, 3) and triangles (8, 3) of an octahedron."""
    vertices = np.vstack([np.eye(3), -np.eye(3)]) * radius_m
    faces = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    return vertices.astype(np.float32), np.array(faces, np.uint32)
