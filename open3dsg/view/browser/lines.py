"""Relations as arrows between centroids, both directions of a pair side by side; boxes by their edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

APART_M = 0.03  # of a line from the straight connection, to the right of its direction, seen from above
_HEAD_AT = 0.6  # where along the line its head is: heads of both directions are then apart, too

# The corners of a box, as signs of its half axes, and its edges: the pairs that differ in one sign.
_SIGNS = np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], indexing="ij"), axis=-1).reshape(8, 3)
_EDGES = np.argwhere(np.triu((_SIGNS[:, None] != _SIGNS).sum(axis=2) == 1))


@dataclass(frozen=True)
class Arrows:
    """E arrows: lines from subject to object, and the heads that say which is which; metres, world."""

    lines: NDArray[np.float32]  # (E, 2, 3)
    heads: NDArray[np.float32]  # (E, 3)
    wxyz: NDArray[np.float32]  # (E, 4) turn +z into the direction of the line


def arrows(subjects_m: NDArray[np.float64], objects_m: NDArray[np.float64]) -> Arrows:
    """Return arrows from the points `subjects_m` (E, 3) to `objects_m` (E, 3)."""
    along = objects_m - subjects_m
    lengths = np.linalg.norm(along, axis=1, keepdims=True)
    direction = np.divide(along, lengths, out=np.tile([0.0, 0.0, 1.0], (len(along), 1)), where=lengths > 0)
    aside = np.stack([direction[:, 1], -direction[:, 0], np.zeros(len(direction))], axis=1)
    flat = np.linalg.norm(aside, axis=1, keepdims=True)
    aside = np.divide(aside, flat, out=np.zeros_like(aside), where=flat > 1e-9)
    # What stands upright has no right side: up goes to one, down to the other side.
    upright = flat[:, 0] <= 1e-9
    aside[upright, 0] = np.sign(direction[upright, 2])
    ends = np.stack([subjects_m, objects_m], axis=1) + APART_M * aside[:, None]
    heads = ends[:, 0] + _HEAD_AT * (ends[:, 1] - ends[:, 0])
    return Arrows(ends.astype(np.float32), heads.astype(np.float32), _turns_from_up(direction))


def cone(radius_m: float, height_m: float, sides: int = 8) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Return the vertices (V, 3) and triangles (F, 3) of a cone around +z, its middle at the origin."""
    angles = np.arange(sides) * (2 * np.pi / sides)
    ring = np.stack([np.cos(angles) * radius_m, np.sin(angles) * radius_m, np.full(sides, -0.5)], axis=1)
    ring[:, 2] *= height_m
    vertices = np.vstack([ring, [0, 0, height_m / 2], [0, 0, -height_m / 2]])
    here, after = np.arange(sides), (np.arange(sides) + 1) % sides
    mantle = np.stack([here, after, np.full(sides, sides)], axis=1)
    bottom = np.stack([after, here, np.full(sides, sides + 1)], axis=1)
    return vertices.astype(np.float32), np.vstack([mantle, bottom]).astype(np.uint32)


def box_lines(centre_m: NDArray[np.float64], half_axes_m: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the edges (B, 12, 2, 3) of boxes of centres (B, 3), half sides as vectors (B, 3, 3)."""
    corners = centre_m[:, None] + _SIGNS @ half_axes_m
    return corners[:, _EDGES].astype(np.float32)


def _turns_from_up(direction: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return unit quaternions (E, 4), w first: the shortest turns of +z into unit vectors (E, 3)."""
    x, y, z = direction.T
    turns = np.stack([1 + z, -y, x, np.zeros(len(z))], axis=1)  # 1 + a.b, a x b
    turns[z < -1 + 1e-9] = (0, 1, 0, 0)  # straight down: half a turn about x
    unit: NDArray[np.float32] = (turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(np.float32)
    return unit
