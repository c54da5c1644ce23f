"""Triangle meshes built from a few solid primitives, with the paint that the renderer shades.

A shape is built in its own frame: x to its right, y out of its front, z up, the origin on the floor under
its middle. Metres throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


class Material(IntEnum):
    """How a surface varies over its own coordinates; `shading` gives each its look."""

    PLAIN = 0
    WOOD = 1
    FABRIC = 2
    STRIPES = 3
    CARPET = 4
    PLANKS = 5
    FLOOR_TILES = 6
    WALL_TILES = 7
    METAL = 8
    GLOSSY = 9
    SCREEN = 10
    PICTURE = 11
    VIEW = 12
    GLOWING = 13
    LEAF = 14
    WICKER = 15
    MIRROR = 16
    CARDBOARD = 17
    TEXT = 18
    DIAL = 19


class Paint(NamedTuple):
    """Base colour (sRGB, 0-255) and material of a part."""

    colour: tuple[int, int, int]
    material: Material = Material.PLAIN


@dataclass(frozen=True)
class Mesh:
    """Triangles with one colour and material each, grouped into convex-ish parts.

    `vertices` (V, 3) float64 metres; `triangles` (T, 3) int32, counter-clockwise seen from outside;
    `colours` (T, 3) uint8 sRGB; `materials` (T,) uint8; `corner_normals` (T, 3, 3) float32 for smooth
    shading; `texture` (V, 3) float32, the coordinates that materials vary over, which do not move with
    the mesh; `parts` (P,) int64, the first vertex of each part.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int32]
    colours: NDArray[np.uint8]
    materials: NDArray[np.uint8]
    corner_normals: NDArray[np.float32]
    texture: NDArray[np.float32]
    parts: NDArray[np.int64]

    def moved(self, yaw: float, offset: ArrayLike) -> Mesh:
        """Turn by `yaw` radians about z, then shift by `offset` (3,)."""
        rotation = yaw_matrix(yaw)
        return replace(
            self,
            vertices=self.vertices @ rotation.T + np.asarray(offset, dtype=np.float64),
            corner_normals=(self.corner_normals @ rotation.T).astype(np.float32),
        )

    def part_boxes(self) -> NDArray[np.float64]:
        """Axis-aligned box of each part, (P, 2, 3): lower and upper corner."""
        low = np.minimum.reduceat(self.vertices, self.parts, axis=0)
        high = np.maximum.reduceat(self.vertices, self.parts, axis=0)
        return np.stack([low, high], axis=1)


def yaw_matrix(yaw: float) -> NDArray[np.float64]:
    """Rotation about z by `yaw` radians, (3, 3); exact for multiples of a quarter turn."""
    cosine, sine = np.round([np.cos(yaw), np.sin(yaw)], 15)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Put meshes together, parts kept apart."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        triangles=np.concatenate(
            [mesh.triangles + np.int32(start) for mesh, start in zip(meshes, starts, strict=True)]
        ),
        colours=np.concatenate([mesh.colours for mesh in meshes]),
        materials=np.concatenate([mesh.materials for mesh in meshes]),
        corner_normals=np.concatenate([mesh.corner_normals for mesh in meshes]),
        texture=np.concatenate([mesh.texture for mesh in meshes]),
        parts=np.concatenate([mesh.parts + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def part(
    vertices: NDArray[np.float64], triangles: NDArray[np.int32], paint: Paint, *, smooth: bool = False
) -> Mesh:
    """One part of a single paint; `smooth` averages the normals of faces that meet at under 50 degrees."""
    normals = face_normals(vertices, triangles)
    corners = np.repeat(normals[:, None], 3, axis=1)
    if smooth:
        corners = _smoothed(triangles, normals)
    return Mesh(
        vertices=vertices,
        triangles=triangles.astype(np.int32),
        colours=np.tile(np.asarray(paint.colour, dtype=np.uint8), (len(triangles), 1)),
        materials=np.full(len(triangles), int(paint.material), dtype=np.uint8),
        corner_normals=corners.astype(np.float32),
        texture=_texture(vertices, paint.material),
        parts=np.zeros(1, dtype=np.int64),
    )


def upright(mesh: Mesh) -> Mesh:
    """Tip a mesh over backwards: what pointed up (+z) points to the front (+y)."""
    turn = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    return replace(
        mesh,
        vertices=mesh.vertices @ turn.T,
        corner_normals=(mesh.corner_normals @ turn.T).astype(np.float32),
        texture=(mesh.texture @ turn.T).astype(np.float32),
    )


def face_normals(vertices: NDArray[np.float64], triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    """Unit normals of triangles, (T, 3); a triangle without area gets zeros."""
    a, b, c = vertices[triangles].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit: NDArray[np.float64] = normals / np.maximum(length, 1e-12)
    return unit


def _smoothed(triangles: NDArray[np.int32], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    corner_vertex = triangles.reshape(-1)
    shares = (corner_vertex[:, None, None] == triangles[None]).any(axis=2)
    near = np.repeat(normals, 3, axis=0) @ normals.T > np.cos(np.radians(50))
    summed = (shares & near) @ normals
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    corners: NDArray[np.float64] = (summed / np.maximum(length, 1e-12)).reshape(-1, 3, 3)
    return corners


def _texture(vertices: NDArray[np.float64], material: Material) -> NDArray[np.float32]:
    """Coordinates of the part's own frame; wood has its grain along the part's longest side."""
    if material != Material.WOOD:
        return vertices.astype(np.float32)
    order = np.argsort(-np.ptp(vertices, axis=0), kind="stable")
    texture: NDArray[np.float32] = (vertices[:, order] + vertices[0].sum() * 7.3).astype(np.float32)
    return texture


_BOX_CORNERS = np.array([[x, y, z] for z in (-0.5, 0.5) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
_BOX_TRIANGLES = np.array(
    [
        [0, 2, 3], [0, 3, 1], [4, 5, 7], [4, 7, 6], [0, 1, 5], [0, 5, 4],
        [2, 6, 7], [2, 7, 3], [0, 4, 6], [0, 6, 2], [1, 3, 7], [1, 7, 5],
    ],
    dtype=np.int32,
)  # fmt: skip


def box(centre: ArrayLike, size: ArrayLike, paint: Paint) -> Mesh:
    """Cuboid with sides along the axes."""
    return part(np.asarray(centre, float) + _BOX_CORNERS * np.asarray(size, float), _BOX_TRIANGLES, paint)


def slanted(centre: ArrayLike, size: ArrayLike, pitch: float, paint: Paint) -> Mesh:
    """Cuboid turned by `pitch` radians about its own x axis (its top leans towards -y)."""
    cosine, sine = np.cos(pitch), np.sin(pitch)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    corners = (_BOX_CORNERS * np.asarray(size, float)) @ turn.T
    return part(np.asarray(centre, float) + corners, _BOX_TRIANGLES, paint)


def turned(base: ArrayLike, profile: Sequence[tuple[float, float]], paint: Paint, *, sides: int = 16) -> Mesh:
    """Solid of revolution about z over `base`: `profile` is (radius, height) from the bottom up.

    A radius of 0 closes the surface; going up outside and down inside makes a hollow vessel.
    """
    angles = np.arange(sides) * (2 * np.pi / sides)
    rings = np.asarray(profile, float)
    vertices = np.empty((len(rings), sides, 3))
    vertices[..., 0] = rings[:, :1] * np.cos(angles)
    vertices[..., 1] = rings[:, :1] * np.sin(angles)
    vertices[..., 2] = rings[:, 1:]
    return part(np.asarray(base, float) + vertices.reshape(-1, 3), _ring_triangles(len(rings), sides), paint,
                smooth=True)  # fmt: skip


def _ring_triangles(rings: int, sides: int) -> NDArray[np.int32]:
    ring, side = np.mgrid[: rings - 1, :sides]
    here = ring * sides + side
    after = ring * sides + (side + 1) % sides
    quads = np.stack([here, after, after + sides, here, after + sides, here + sides], axis=-1)
    return quads.reshape(-1, 3).astype(np.int32)


def cylinder(
    base: ArrayLike, radius: float, height: float, paint: Paint, *, top: float | None = None, sides: int = 16
) -> Mesh:
    """Closed cylinder or, with another `top` radius, truncated cone."""
    upper = radius if top is None else top
    return turned(base, [(0, 0), (radius, 0), (upper, height), (0, height)], paint, sides=sides)


def cushion(
    centre: ArrayLike, size: ArrayLike, paint: Paint, *, squareness: float = 0.35, rows: int = 8
) -> Mesh:
    """Superellipsoid: 1 is an ellipsoid, towards 0 a box with round edges (Barr, 1981)."""
    sides = rows * 2
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows + 1)[:, None]
    longitude = (np.arange(sides) * (2 * np.pi / sides))[None]
    bulge = (
        _power(np.cos(latitude), squareness) * _power(np.cos(longitude), squareness),
        _power(np.cos(latitude), squareness) * _power(np.sin(longitude), squareness),
        _power(np.sin(latitude), squareness) * np.ones_like(longitude),
    )
    vertices = np.stack(bulge, axis=-1).reshape(-1, 3) * np.asarray(size, float) / 2
    return part(np.asarray(centre, float) + vertices, _ring_triangles(rows + 1, sides), paint, smooth=True)


def _power(value: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    rounded = np.where(np.abs(value) < 1e-9, 0.0, value)
    return np.sign(rounded) * np.abs(rounded) ** exponent


def folded_cloth(
    width: float, height: float, depth: float, folds: int, paint: Paint, *, bottom: float = 0.0
) -> Mesh:
    """Hanging cloth in the plane y = 0 .. depth with `folds` waves, closed like a thin corrugated slab."""
    columns = folds * 8 + 1
    x = np.linspace(-width / 2, width / 2, columns)
    wave = (1 - np.cos(np.linspace(0, folds * 2 * np.pi, columns))) / 2
    front = 0.25 * depth + 0.75 * depth * wave
    outline = np.concatenate([np.stack([x, front], 1), np.stack([x[::-1], front[::-1] - 0.2 * depth], 1)])
    count = len(outline)
    vertices = np.concatenate(
        [np.c_[outline, np.full(count, bottom)], np.c_[outline, np.full(count, bottom + height)]]
    )
    return part(vertices[:, [0, 1, 2]], _wall_triangles(count)[:, [0, 2, 1]], paint, smooth=False)


def _wall_triangles(count: int) -> NDArray[np.int32]:
    here = np.arange(count)
    after = (here + 1) % count
    quads = np.stack([here, after, after + count, here, after + count, here + count], axis=-1)
    return quads.reshape(-1, 3).astype(np.int32)


def quad(origin: ArrayLike, along: ArrayLike, across: ArrayLike, paint: Paint) -> Mesh:
    """Rectangle seen from the side that along x across points to."""
    start, u, v = (np.asarray(value, float) for value in (origin, along, across))
    vertices = np.array([start, start + u, start + u + v, start + v])
    return part(vertices, np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32), paint)


def leaves(tips: NDArray[np.float64], roots: NDArray[np.float64], width: float, paint: Paint) -> Mesh:
    """Flat pointed leaves from `roots` to `tips`, each (L, 3), seen from both sides."""
    direction = tips - roots
    side = np.cross(direction, np.array([0.0, 0.0, 1.0]))
    length = np.linalg.norm(side, axis=1, keepdims=True)
    side = np.where(length > 1e-6, side / np.maximum(length, 1e-6), np.array([1.0, 0.0, 0.0])) * width / 2
    middle = roots + 0.5 * direction + np.array([0, 0, 0.12]) * np.linalg.norm(direction, axis=1)[:, None]
    vertices = np.stack([roots, middle + side, tips, middle - side], axis=1).reshape(-1, 3)
    base = np.arange(len(tips))[:, None, None] * 4
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 2, 1], [0, 3, 2]])
    return part(vertices, (base + faces).reshape(-1, 3).astype(np.int32), paint)
