"""Where things stand: a rectangular room that is filled piece by piece without anything overlapping.

The plan's frame has the floor at z = 0 and the room in x 0..width, y 0..depth. Walls are numbered
0 (y = 0), 1 (x = width), 2 (y = depth), 3 (x = 0).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import Mesh, Paint, quad, yaw_matrix
from open3dsg.datasets.synth.shapes.base import Shape, Surface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

TOUCH_M = 0.004  # parts of one another this close count as touching, not as overlapping
WALL_GAP_M = 0.006
_TRIES = 40


@dataclass(frozen=True)
class Placed:
    """A shape at its place: turned by `yaw`, then shifted by `at`; it rests on or hangs from `support`."""

    index: int
    shape: Shape
    at: tuple[float, float, float]
    yaw: float
    mesh: Mesh
    support: int | None

    def to_room(self, point: tuple[float, float, float]) -> NDArray[np.float64]:
        """Bring a point of the shape's own frame into the room's."""
        return np.asarray(yaw_matrix(self.yaw) @ np.asarray(point) + np.asarray(self.at))


@dataclass
class Plan:
    """The room while it is being furnished."""

    rng: Generator
    width: float
    depth: float
    height: float
    placed: list[Placed] = field(default_factory=list)
    _boxes: list[NDArray[np.float64]] = field(default_factory=list)
    _kept_free: list[NDArray[np.float64]] = field(default_factory=list)

    def shell(self, floor: Paint, ceiling: Paint, walls: Sequence[Paint]) -> None:
        """Put in the floor (index 0), the four walls (1-4) and the ceiling (5), seen from inside."""
        w, d, h = self.width, self.depth, self.height
        self._add_shell("floor", quad((0, 0, 0), (w, 0, 0), (0, d, 0), floor), 0.0, (0, 0, 0), None)
        for wall, paint in enumerate(walls):
            length = self.wall_length(wall)
            mesh = quad((length, 0, 0), (-length, 0, 0), (0, 0, h), paint)
            self._add_shell("wall", mesh, wall * np.pi / 2, self._corner(wall), 0)
        self._add_shell("ceiling", quad((0, d, 0), (w, 0, 0), (0, -d, 0), ceiling), 0.0, (0, 0, h), 1)

    def _add_shell(
        self, label: str, mesh: Mesh, yaw: float, at: tuple[float, float, float], support: int | None
    ) -> None:
        surface = (Surface((0, self.width), (0, self.depth), 0.0),) if label == "floor" else ()
        shape = Shape(label, mesh, surface)
        self.placed.append(Placed(len(self.placed), shape, at, yaw, mesh.moved(yaw, at), support))

    def wall_length(self, wall: int) -> float:
        """Length of wall 0-3 in metres."""
        return self.width if wall % 2 == 0 else self.depth

    def _corner(self, wall: int) -> tuple[float, float, float]:
        corners = [(0, 0, 0), (self.width, 0, 0), (self.width, self.depth, 0), (0, self.depth, 0)]
        return corners[wall]

    def on_wall_line(self, wall: int, along: float, out: float, z: float = 0.0) -> tuple[float, float, float]:
        """Point `along` metres down wall 0-3, `out` metres into the room."""
        x, y, height = yaw_matrix(wall * np.pi / 2) @ (along, out, z) + np.asarray(self._corner(wall))
        return float(x), float(y), float(height)

    def put(
        self,
        shape: Shape,
        at: tuple[float, float, float],
        yaw: float,
        support: int,
        *,
        front: float = 0.0,
        may_block: bool = False,
    ) -> Placed | None:
        """Place `shape` if it is inside the room and overlaps nothing; `front` metres before it stay free.

        `may_block` lets it stand in what is kept free before others, as a coffee table does before a sofa.
        """
        mesh = shape.mesh.moved(yaw, at)
        boxes = mesh.part_boxes()
        obstacles = self._boxes if may_block else self._boxes + self._blocking(boxes)
        if not self._inside(boxes) or overlap(boxes, obstacles):
            return None
        if front:
            zone = self._front_zone(shape, at, yaw, front)
            if overlap(zone, self._boxes):
                return None
            self._kept_free.append(zone)
        placed = Placed(len(self.placed), shape, at, yaw, mesh, support)
        self.placed.append(placed)
        self._boxes.append(boxes)
        return placed

    def _inside(self, boxes: NDArray[np.float64]) -> bool:
        low, high = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
        limit = np.array([self.width, self.depth, self.height])
        return bool((low >= -1e-9).all() and (high <= limit + 1e-9).all())

    def _blocking(self, boxes: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Zones kept free bind what stands up from the floor, not a carpet that can be walked on."""
        return self._kept_free if boxes[:, 1, 2].max() > 0.05 and boxes[:, 0, 2].min() < 0.05 else []

    def _front_zone(
        self, shape: Shape, at: tuple[float, float, float], yaw: float, front: float
    ) -> NDArray[np.float64]:
        low, high = shape.mesh.vertices.min(axis=0), shape.mesh.vertices.max(axis=0)
        corners = np.array([[low[0], high[1] + 0.01, 0.05], [high[0], high[1] + front, 1.8]])
        turned = corners @ yaw_matrix(yaw).T + np.asarray(at)
        return np.stack([turned.min(axis=0), turned.max(axis=0)])[None]

    def against_wall(
        self, shape: Shape, *, walls: Sequence[int] = (0, 1, 2, 3), front: float = 0.0, out: float = 0.0
    ) -> Placed | None:
        """Stand `shape` on the floor with its back to one of `walls`, at a free place along it."""
        for _ in range(_TRIES):
            wall = int(self.rng.choice(walls))
            half = shape.size[0] / 2 + 0.02
            if self.wall_length(wall) < 2 * half:
                continue
            along = float(self.rng.uniform(half, self.wall_length(wall) - half))
            placed = self._at_wall(shape, wall, along, out, front)
            if placed is not None:
                return placed
        return None

    def _at_wall(self, shape: Shape, wall: int, along: float, out: float, front: float) -> Placed | None:
        back = -float(shape.mesh.vertices[:, 1].min()) + WALL_GAP_M + out
        return self.put(shape, self.on_wall_line(wall, along, back), wall * np.pi / 2, 0, front=front)

    def in_corner(self, shape: Shape, walls: Sequence[int] = (0, 1, 2, 3)) -> Placed | None:
        """Stand `shape` in or near a corner of the room."""
        for _ in range(_TRIES):
            wall = int(self.rng.choice(walls))
            away = shape.size[0] / 2 + float(self.rng.uniform(0.02, 0.45))
            along = away if self.rng.random() < 0.5 else self.wall_length(wall) - away
            placed = self._at_wall(shape, wall, along, float(self.rng.uniform(0, 0.15)), 0.0)
            if placed is not None:
                return placed
        return None

    def near(
        self,
        shape: Shape,
        other: Placed,
        offsets: Sequence[tuple[float, float]],
        turn: float,
        *,
        slack: float = 0.0,
    ) -> Placed | None:
        """Stand `shape` on the floor at the first free of `offsets` (x, y) in the frame of `other`.

        It is turned by `turn` against `other`, give or take `slack` radians.
        """
        for x, y in offsets:
            point = other.to_room((x, y, 0.0))
            yaw = other.yaw + turn + float(self.rng.uniform(-slack, slack))
            placed = self.put(shape, (float(point[0]), float(point[1]), 0.0), yaw, 0)
            if placed is not None:
                return placed
        return None

    def beside(self, shape: Shape, other: Placed, side: int, gap: float = 0.05) -> Placed | None:
        """Stand `shape` right (+1) or left (-1) of `other`, backs in line."""
        mine, theirs = shape.mesh.vertices, other.shape.mesh.vertices
        edge = float(theirs[:, 0].max() if side > 0 else theirs[:, 0].min())
        x = edge + side * (shape.size[0] / 2 + gap)
        return self.near(shape, other, [(x, float(theirs[:, 1].min() - mine[:, 1].min()))], 0.0)

    def free_floor(self, shape: Shape, *, margin: float = 0.1) -> Placed | None:
        """Stand `shape` somewhere on the floor, turned along a wall."""
        for _ in range(_TRIES):
            turn = float(self.rng.integers(4)) * np.pi / 2
            half = max(shape.size[:2]) / 2 + margin
            if min(self.width, self.depth) < 2 * half:
                return None
            x = float(self.rng.uniform(half, self.width - half))
            y = float(self.rng.uniform(half, self.depth - half))
            placed = self.put(shape, (x, y, 0.0), turn, 0)
            if placed is not None:
                return placed
        return None

    def on_top(
        self, shape: Shape, other: Placed, *, surface: int = 0, spin: float = 0.25, at_back: bool = False
    ) -> Placed | None:
        """Put `shape` on a surface of `other`, turned within `spin` radians of it."""
        plane = other.shape.surfaces[surface]
        width, depth, height = shape.size
        if height > plane.clearance_m:
            return None
        for _ in range(_TRIES):
            turn = float(self.rng.uniform(-spin, spin))
            reach_x = (abs(np.cos(turn)) * width + abs(np.sin(turn)) * depth) / 2
            reach_y = (abs(np.cos(turn)) * depth + abs(np.sin(turn)) * width) / 2
            x_free = plane.x[0] + reach_x, plane.x[1] - reach_x
            y_free = plane.y[0] + reach_y, plane.y[1] - reach_y
            if x_free[0] > x_free[1] or y_free[0] > y_free[1]:
                return None
            y = y_free[0] if at_back else float(self.rng.uniform(*y_free))
            middle = shape.mesh.vertices[:, :2].min(axis=0) + shape.mesh.vertices[:, :2].max(axis=0)
            shift = yaw_matrix(turn)[:2, :2] @ (middle / 2)
            spot = (float(self.rng.uniform(*x_free)) - shift[0], y - shift[1], plane.z)
            x, y, z = other.to_room(spot).tolist()
            placed = self.put(shape, (x, y, z + 0.001), other.yaw + turn, other.index)
            if placed is not None:
                return placed
        return None

    def hang(
        self,
        shape: Shape,
        heights: tuple[float, float],
        *,
        walls: Sequence[int] = (0, 1, 2, 3),
        above: Placed | None = None,
        out: float = 0.0,
    ) -> Placed | None:
        """Hang `shape` on a wall, its lower edge within `heights`; with `above`, over that piece."""
        for _ in range(_TRIES):
            wall = int(self.rng.choice(walls))
            half = shape.size[0] / 2 + 0.02
            along = float(self.rng.uniform(half, max(self.wall_length(wall) - half, half + 1e-6)))
            if above is not None:
                wall, along = self._spot_above(above, half)
            z = float(self.rng.uniform(*heights))
            placed = self.put(
                shape, self.on_wall_line(wall, along, 0.001 + out, z), wall * np.pi / 2, 1 + wall
            )
            if placed is not None:
                return placed
        return None

    def _spot_above(self, below: Placed, half: float) -> tuple[int, float]:
        wall = int(np.round(below.yaw / (np.pi / 2))) % 4
        local = yaw_matrix(-wall * np.pi / 2) @ (np.asarray(below.at) - np.asarray(self._corner(wall)))
        slack = max(below.shape.size[0] / 2 - half, 0.02)
        along = float(local[0] + self.rng.uniform(-slack, slack))
        return wall, float(np.clip(along, half, self.wall_length(wall) - half))

    def under_ceiling(self, shape: Shape) -> Placed | None:
        """Hang `shape` from the ceiling near the middle of the room."""
        x = self.width * float(self.rng.uniform(0.42, 0.58))
        y = self.depth * float(self.rng.uniform(0.42, 0.58))
        return self.put(shape, (x, y, self.height - 0.001), 0.0, 5)


def overlap(boxes: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> bool:
    """Whether any of `boxes` (P, 2, 3) overlaps any of `others`, each (Q, 2, 3), by more than a touch."""
    if not others:
        return False
    taken = np.concatenate(others)
    apart = (boxes[:, None, 1] <= taken[None, :, 0] + TOUCH_M) | (
        boxes[:, None, 0] >= taken[None, :, 1] - TOUCH_M
    )
    return not bool(apart.any(axis=2).all())
