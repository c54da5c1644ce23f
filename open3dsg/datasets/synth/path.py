"""A person's walk through a room with a hand-held sensor.

The sensor is held upright as in 3RScan: its picture is landscape, and the world's up points to the left of
the picture, so the third row of the rotation is about (-0.8, 0, -0.6) when it looks down a little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import join
from open3dsg.datasets.synth.rays import RayScene

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from open3dsg.datasets.synth.room import Room

KEY_EVERY = 10  # the published pipeline looks at every tenth frame: these are planned, the others lie between
_POSITIONS = 36
_HEADINGS = 14
_GRID = (56, 43)  # one ray for 4 x 4 pixels of the 224 x 172 depth picture
_NEAREST_M = 0.35  # what is nearer fills the picture without showing what it is
_ENOUGH_RAYS = 6  # about 96 pixels there


def camera_path(room: Room, frames: int, seed: int) -> NDArray[np.float64]:
    """Poses T_world_camera (frames, 4, 4) of a walk that sees every object, most from two sides.

    Every tenth pose is chosen from many candidates by what it adds to what the earlier ones see; the
    rest move smoothly from one to the next at 1.4 to 1.7 m above the floor, with a small shake.
    """
    rng = np.random.default_rng([0x9A7, room.seed, seed])
    count = max((frames - 1) // KEY_EVERY + 1, 2)
    candidates = _candidates(room, rng)
    chosen = _ordered(candidates[_best(room, candidates, count)])
    return _walk(chosen, frames, rng, room)


def _candidates(room: Room, rng: Generator) -> NDArray[np.float64]:
    """Viewpoints (C, 5): x, y, z in the room's frame, heading and pitch (negative looks down), radians."""
    low, high = room.walkable
    spots = rng.uniform(low, high, (_POSITIONS * 4, 2))
    spots = spots[_standable(room, spots)][:_POSITIONS]
    if len(spots) < 6:
        spots = rng.uniform(low, high, (_POSITIONS, 2))
    headings = np.arange(_HEADINGS) * 2 * np.pi / _HEADINGS
    grid = np.repeat(spots, _HEADINGS, axis=0)
    heading = np.tile(headings, len(spots)) + rng.uniform(-0.2, 0.2, len(grid))
    height = rng.uniform(1.42, 1.68, len(grid))
    pitch = rng.uniform(-0.62, -0.12, len(grid))
    return np.column_stack([grid, height, heading, pitch])


def _standable(room: Room, spots: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which (S, 2) spots of the room's frame have bare floor or carpet under a person's feet."""
    free = np.ones(len(spots), dtype=bool)
    R, t = room.T_world_room[:3, :3], room.T_world_room[:3, 3]
    for instance in room.instances:
        local = (instance.mesh.vertices - t) @ R
        if local[:, 2].max() < 0.1 or local[:, 2].min() > 1.0 or instance.label == "wall":
            continue
        low, high = local.min(axis=0)[:2] - 0.12, local.max(axis=0)[:2] + 0.12
        free &= ((spots < low) | (spots > high)).any(axis=1)
    return free


def _best(room: Room, candidates: NDArray[np.float64], count: int) -> list[int]:
    """Greedy choice of `count` candidates: an instance counts fully the first two times it is seen."""
    seen, bearing = _visibility(room, candidates)
    times = np.zeros(seen.shape[1])
    nearest_side = np.zeros(seen.shape[1])
    chosen: list[int] = []
    for _ in range(count):
        fresh = np.where(times < 2, 1.0 - 0.15 * times, 0.35 / np.maximum(times, 1) ** 2)
        turned = 1 - np.abs(np.exp(1j * bearing) + np.where(times > 0, np.exp(1j * nearest_side), 0)) / 2
        gain = (seen * fresh * (0.75 + 0.5 * turned * (times == 1))).sum(axis=1)
        gain[chosen] = -1
        best = int(np.argmax(gain))
        chosen.append(best)
        nearest_side = np.where(seen[best] & (times == 0), bearing[best], nearest_side)
        times += seen[best]
    return chosen


def _visibility(room: Room, candidates: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which instance is well seen from which candidate, (C, I), and the direction it is looked at from."""
    scene = RayScene(join([instance.mesh for instance in room.instances]))
    owner = np.repeat(np.arange(len(room.instances)), [len(i.mesh.triangles) for i in room.instances])
    poses = poses_of(room, candidates)
    tangent = np.stack(
        np.meshgrid(
            (np.arange(_GRID[0]) + 0.5) / _GRID[0] * 1.264 - 0.643,
            (np.arange(_GRID[1]) + 0.5) / _GRID[1] * 0.712 - 0.347,
        ),
        axis=-1,
    ).reshape(-1, 2)
    camera = np.c_[tangent, np.ones(len(tangent))]
    centres = np.array([instance.box.centre[:2] for instance in room.instances])
    seen = np.empty((len(poses), len(room.instances)), dtype=bool)
    for row, pose in enumerate(poses):
        hits = scene.cast(pose[:3, 3], camera @ pose[:3, :3].T)
        good = np.isfinite(hits.distance) & (hits.distance > _NEAREST_M)
        counts = np.bincount(owner[hits.triangle[good]], minlength=len(room.instances))
        seen[row] = counts >= _ENOUGH_RAYS
    offset = centres[None] - poses[:, None, :2, 3]
    return seen, np.arctan2(offset[..., 1], offset[..., 0])


def poses_of(room: Room, viewpoints: NDArray[np.float64], roll: float = 0.0) -> NDArray[np.float64]:
    """T_world_camera (C, 4, 4) of viewpoints (C, 5) as in `_candidates`; `roll` radians about the axis."""
    x, y, z, heading, pitch = viewpoints.T
    forward = np.stack([np.cos(pitch) * np.cos(heading), np.cos(pitch) * np.sin(heading), np.sin(pitch)], -1)
    up = np.stack([-np.sin(pitch) * np.cos(heading), -np.sin(pitch) * np.sin(heading), np.cos(pitch)], -1)
    right = np.cross(forward, up)
    up, right = np.cos(roll) * up + np.sin(roll) * right, np.cos(roll) * right - np.sin(roll) * up
    poses = np.tile(np.eye(4), (len(viewpoints), 1, 1))
    poses[:, :3, 0] = -up  # the picture's left is the world's up
    poses[:, :3, 1] = -right
    poses[:, :3, 2] = forward
    poses[:, :3, 3] = np.stack([x, y, z], axis=-1)
    return np.asarray(room.T_world_room @ poses)


def _ordered(chosen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Order viewpoints into a short tour, turning counted like walking."""
    rest, tour = list(range(1, len(chosen))), [0]
    while rest:
        here = chosen[tour[-1]]
        step = chosen[rest]
        turn = np.abs(np.angle(np.exp(1j * (step[:, 3] - here[3]))))
        cost = np.linalg.norm(step[:, :2] - here[:2], axis=1) + 0.8 * turn
        tour.append(rest.pop(int(np.argmin(cost))))
    return chosen[tour]


def _walk(keys: NDArray[np.float64], frames: int, rng: Generator, room: Room) -> NDArray[np.float64]:
    """Move from key to key with an easy start and stop, the hand shaking a little."""
    headings = np.unwrap(keys[:, 3])
    keys = np.c_[keys[:, :3], headings, keys[:, 4]]
    step = np.minimum(np.arange(frames) // KEY_EVERY, len(keys) - 1)
    after = np.minimum(step + 1, len(keys) - 1)
    share = (np.arange(frames) % KEY_EVERY) / KEY_EVERY
    ease = (share * share * (3 - 2 * share))[:, None]
    path = keys[step] * (1 - ease) + keys[after] * ease
    path[:, 2] += 0.012 * np.sin(np.arange(frames) * 1.9)
    path[:, 3:] += rng.normal(0, 0.008, (frames, 2))
    roll = rng.normal(0, 0.02, frames)
    return np.concatenate([poses_of(room, path[i : i + 1], float(roll[i])) for i in range(frames)])
