"""A later visit to a room: some things were pushed about, some taken away, and one is new.

Only what stands free is touched: nothing rests on it, it is lower than where a camera is held, and it goes to
another free place on what carries it, floor or table. The later scan has its own coordinates, as a tracker
that starts elsewhere gives them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.layout import overlap
from open3dsg.datasets.synth.mesh import yaw_matrix
from open3dsg.datasets.synth.relations import SHELL, rests_on
from open3dsg.datasets.synth.room import Box, Instance, Plane, Room

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

_MOVED, _REMOVED = 3, 2
_TRIES = 60
_LOWER_THAN_M = 1.2
_LEAST_M = 0.25  # what is pushed less far could pass for not having been touched
_SEEDS_APART = 10**9


@dataclass(frozen=True)
class Revisit:
    """The room as the later visit finds it, in that visit's world, and what is true of the two.

    `aligned` is the same in the coordinates of the first visit: there its relations are told, as 3DSSG does,
    since which of two things is left of the other depends on the axes.
    `T_reference_scan` (4, 4) maps the later world into the room's own. `moved` has for the number of each
    thing that was pushed T_rescan_reference (4, 4): where its points lie now, in the later world.
    """

    room: Room
    aligned: Room
    T_reference_scan: NDArray[np.float64]
    moved: Mapping[int, NDArray[np.float64]]
    removed: tuple[int, ...]


def revisit(room: Room, visit: int) -> Revisit:
    """Return the `visit`-th later visit, from 1, to `room`; visits do not build on each other."""
    rng = np.random.default_rng([0x0EE7, room.seed, visit])
    loose = _loose(room)
    order = rng.permutation(len(loose)).tolist()
    removed = [loose[at].number for at in order[:_REMOVED]]
    things = {each.number: each for each in room.instances if each.number not in removed}
    pushes: dict[int, NDArray[np.float64]] = {}
    for at in order[_REMOVED:]:
        push = _push(rng, loose[at], list(things.values())) if len(pushes) < _MOVED else None
        if push is not None:
            number = loose[at].number
            pushes[number] = push
            things[number] = _carried(things[number], push)
    _add_one(rng, room, things, loose)
    T_later_room = _later_world(rng)
    aligned = replace(room, seed=room.seed + visit * _SEEDS_APART, instances=tuple(things.values()))
    lamps = room.lamps.copy()
    lamps[:, :3] = lamps[:, :3] @ T_later_room[:3, :3].T + T_later_room[:3, 3]
    return Revisit(
        replace(
            aligned,
            instances=tuple(_carried(each, T_later_room) for each in aligned.instances),
            lamps=lamps,
            T_world_room=T_later_room @ room.T_world_room,
        ),
        aligned,
        np.asarray(np.linalg.inv(T_later_room), np.float64),
        {number: T_later_room @ push for number, push in pushes.items()},
        tuple(removed),
    )


def _loose(room: Room) -> list[Instance]:
    """Return what stands free and low, by number."""
    by_number = {each.number: each for each in room.instances}
    carriers = {each.support for each in room.instances}
    top = room.T_world_room[2, 3] + _LOWER_THAN_M
    return [
        each
        for each in room.instances
        if each.label not in SHELL
        and each.support is not None
        and each.number not in carriers
        and each.box.centre[2] + each.box.size[2] / 2 < top
        and _plane_below(each, by_number[each.support]) is not None
    ]


def _plane_below(thing: Instance, carrier: Instance) -> Plane | None:
    return next((plane for plane in carrier.planes if rests_on(thing.box, plane)), None)


def _push(rng: Generator, thing: Instance, others: Sequence[Instance]) -> NDArray[np.float64] | None:
    """Return a turn and shift (4, 4) to a free place on what carries `thing`; None where none was found."""
    by_number = {each.number: each for each in others}
    carrier = None if thing.support is None else by_number.get(thing.support)
    plane = None if carrier is None else _plane_below(thing, carrier)
    if plane is None:
        return None
    taken = [each.mesh.part_boxes() for each in others if each.number != thing.number]
    half = max(thing.box.size[:2]) / 2
    for _ in range(_TRIES):
        reach = np.maximum(plane.size / 2 - half, 0.0)
        spot = plane.centre[:2] + yaw_matrix(plane.yaw)[:2, :2] @ rng.uniform(-reach, reach)
        push = np.eye(4)
        push[:3, :3] = yaw_matrix(float(rng.uniform(-np.pi, np.pi)))
        push[:2, 3] = spot - push[:2, :2] @ thing.box.centre[:2]
        far = float(np.hypot(*(spot - thing.box.centre[:2]))) >= _LEAST_M
        if far and not overlap(_carried(thing, push).mesh.part_boxes(), taken):
            return push
    return None


def _add_one(rng: Generator, room: Room, things: dict[int, Instance], loose: Sequence[Instance]) -> None:
    """Add a second one of something that stands free, where a place for it is found."""
    number = max(each.number for each in room.instances) + 1
    for at in rng.permutation(len(loose)).tolist():
        push = _push(rng, replace(loose[at], number=number), list(things.values()))
        if push is not None:
            things[number] = replace(_carried(loose[at], push), number=number)
            return


def _later_world(rng: Generator) -> NDArray[np.float64]:
    T_later_room = np.eye(4)
    T_later_room[:3, :3] = yaw_matrix(float(rng.uniform(-np.pi, np.pi)))
    T_later_room[:3, 3] = rng.uniform([-1.0, -1.0, -0.15], [1.0, 1.0, 0.15])
    return T_later_room


def _carried(thing: Instance, transform: NDArray[np.float64]) -> Instance:
    """Return `thing` turned about z and shifted by `transform` (4, 4)."""
    yaw = float(np.arctan2(transform[1, 0], transform[0, 0]))
    planes = tuple(
        Plane(transform[:3, :3] @ plane.centre + transform[:3, 3], plane.size, plane.yaw + yaw)
        for plane in thing.planes
    )
    centre = transform[:3, :3] @ thing.box.centre + transform[:3, 3]
    return replace(
        thing,
        mesh=thing.mesh.moved(yaw, transform[:3, 3]),
        box=Box(centre, thing.box.size, thing.box.yaw + yaw),
        planes=planes,
    )
