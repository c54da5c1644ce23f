"""A furnished room: which things are in it, where, and what each is called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.furnish import ROOM_KINDS, furnish
from open3dsg.datasets.synth.layout import Placed, Plan
from open3dsg.datasets.synth.mesh import Mesh, yaw_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Box:
    """Upright box: `centre` (3,) and `size` (3,) in metres, turned by `yaw` radians about z."""

    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: float


@dataclass(frozen=True)
class Plane:
    """A horizontal rectangle in the world that carries things: `size` (2,), turned by `yaw`."""

    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: float


@dataclass(frozen=True)
class Instance:
    """One thing: its number in the dataset, label, mesh and box in the world, and what it rests on."""

    number: int
    label: str
    mesh: Mesh
    box: Box
    planes: tuple[Plane, ...]
    support: int | None  # number of the instance it stands, lies or hangs on


@dataclass(frozen=True)
class Room:
    """A room in world coordinates: metres, z up; the floor lies below z = 0 as in 3RScan.

    `lamps` (L, 4) float64: position and power of the light sources. `walkable` is the box in which a
    person can hold a camera without meeting anything tall: lower and upper (x, y), in the room's own
    frame, which `T_world_room` (4, 4) brings into the world.
    """

    seed: int
    kind: str
    instances: tuple[Instance, ...]
    lamps: NDArray[np.float64]
    walkable: NDArray[np.float64]
    T_world_room: NDArray[np.float64]

    @cached_property
    def labels(self) -> Mapping[int, str]:
        """Label of each instance by its number."""
        return {instance.number: instance.label for instance in self.instances}


def build_room(seed: int) -> Room:
    """Furnish the room of `seed`: its kind goes round with the seed, the rest is drawn from it."""
    rng = np.random.default_rng([0x0DD5, seed])
    kind = list(ROOM_KINDS)[seed % len(ROOM_KINDS)]
    plan = furnish(kind, rng)
    yaw = float(rng.uniform(-0.35, 0.35))
    T_world_room = np.eye(4)
    T_world_room[:3, :3] = yaw_matrix(yaw)
    middle = np.array([plan.width / 2, plan.depth / 2, rng.uniform(1.35, 1.6)])
    T_world_room[:3, 3] = -(T_world_room[:3, :3] @ middle)
    numbers = _numbers(rng, len(plan.placed))
    instances = tuple(_instance(placed, numbers, yaw, T_world_room) for placed in plan.placed)
    return Room(seed, kind, instances, _lamps(plan, rng, T_world_room), _walkable(plan), T_world_room)


def _numbers(rng: Generator, count: int) -> list[int]:
    """Instance numbers from 1 with gaps, as annotators leave them."""
    steps = rng.choice([1, 1, 1, 1, 2, 3], size=count)
    steps[0] = 1
    return [int(number) for number in np.cumsum(steps)]


def _instance(placed: Placed, numbers: list[int], yaw: float, T_world_room: NDArray[np.float64]) -> Instance:
    local = placed.shape.mesh.vertices
    low, high = local.min(axis=0), local.max(axis=0)
    planes = []
    for surface in placed.shape.surfaces:
        (x0, x1), (y0, y1) = surface.x, surface.y
        centre = placed.to_room(((x0 + x1) / 2, (y0 + y1) / 2, surface.z))
        planes.append(Plane(_to_world(T_world_room, centre), np.array([x1 - x0, y1 - y0]), placed.yaw + yaw))
    middle = (low + high) / 2
    centre = placed.to_room((float(middle[0]), float(middle[1]), float(middle[2])))
    return Instance(
        number=numbers[placed.index],
        label=placed.shape.label,
        mesh=placed.mesh.moved(yaw, T_world_room[:3, 3]),
        box=Box(_to_world(T_world_room, centre), high - low, placed.yaw + yaw),
        planes=tuple(planes),
        support=None if placed.support is None else numbers[placed.support],
    )


def _to_world(T_world_room: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(T_world_room[:3, :3] @ point + T_world_room[:3, 3])


def _lamps(plan: Plan, rng: Generator, T_world_room: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two light sources under the ceiling, away from its middle so that they cast different shadows."""
    spots = []
    for share, power in ((0.3, rng.uniform(0.75, 1.1)), (0.72, rng.uniform(0.45, 0.8))):
        x = plan.width * (share + rng.uniform(-0.08, 0.08))
        y = plan.depth * rng.uniform(0.3, 0.7)
        point = _to_world(T_world_room, np.array([x, y, plan.height - 0.25]))
        spots.append([*point, power])
    return np.array(spots)


def _walkable(plan: Plan) -> NDArray[np.float64]:
    """Shrink the floor by what reaches camera height along each wall, (2, 2): lower and upper (x, y)."""
    low, high = np.array([0.3, 0.3]), np.array([plan.width - 0.3, plan.depth - 0.3])
    for placed in plan.placed[6:]:
        first, last = placed.mesh.vertices.min(axis=0), placed.mesh.vertices.max(axis=0)
        if last[2] < 1.25 or first[2] > 1.95:
            continue
        inward = np.array([last[0], plan.width - first[0], last[1], plan.depth - first[1]]) + 0.25
        side = int(np.argmin(inward))
        axis = side // 2
        if side % 2 == 0:
            low[axis] = max(low[axis], inward[side])
        else:
            high[axis] = min(high[axis], (plan.width, plan.depth)[axis] - inward[side])
    return np.stack([low, high])
