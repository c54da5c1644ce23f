"""The mesh a scanner would deliver: the room's visible surfaces in small triangles, each of one instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import face_normals
from open3dsg.datasets.synth.relations import SHELL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from open3dsg.datasets.synth.mesh import Mesh
    from open3dsg.datasets.synth.render import Renderer
    from open3dsg.datasets.synth.room import Instance, Room

_POINTS = 120  # about this many a side of an instance, within the spacings below
_SPACING_M = (0.01, 0.08)
_SHELL_SPACING_M = 0.13


@dataclass(frozen=True)
class ScannedMesh:
    """Welded triangles: `vertices` (V, 3) float64, `normals` (V, 3) float64, `triangles` (T, 3) int64,
    `face_rgb` (T, 3) uint8, `instance` (V,) int32 and `segment` (V,) int64 (a flat patch each).
    """

    vertices: NDArray[np.float64]
    normals: NDArray[np.float64]
    triangles: NDArray[np.int64]
    face_rgb: NDArray[np.uint8]
    instance: NDArray[np.int32]
    segment: NDArray[np.int64]


@dataclass(frozen=True)
class _Pieces:
    """Small triangles: corners (N, 3, 3) in the world, weights (N, 3, 3), triangle of origin (N,)."""

    corners: NDArray[np.float64]
    weights: NDArray[np.float64]
    origin: NDArray[np.int64]


def scan_mesh(room: Room, renderer: Renderer) -> ScannedMesh:
    """Cut the surfaces of `room` into small triangles and leave out what something else covers."""
    meshes, base, offset = [], 0, 0
    for instance in room.instances:
        limit = _SHELL_SPACING_M if instance.label in SHELL else _SPACING_M[1]
        limit = _edge_limit(instance.mesh, limit)
        pieces = _cut(instance.mesh, limit)
        normals = face_normals(pieces.corners.reshape(-1, 3), _threes(len(pieces.corners)))
        shown = ~renderer.covered(pieces.corners.mean(axis=1), normals)
        if not shown.any():
            shown[:] = True
        pieces = _Pieces(pieces.corners[shown], pieces.weights[shown], pieces.origin[shown])
        uv = pieces.weights.mean(axis=1)[:, 1:].astype(np.float32)
        rgb = renderer.colours_at(pieces.origin + base, uv)
        meshes.append(_welded(pieces, instance, rgb, cell=limit / 2, first_vertex=offset))
        base += len(instance.mesh.triangles)
        offset += len(meshes[-1].vertices)
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return ScannedMesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        triangles=np.concatenate(
            [mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]
        ),
        face_rgb=np.concatenate([mesh.face_rgb for mesh in meshes]),
        instance=np.concatenate([mesh.instance for mesh in meshes]),
        segment=np.concatenate([mesh.segment for mesh in meshes]),
    )


def _threes(count: int) -> NDArray[np.int32]:
    return np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def _edge_limit(mesh: Mesh, widest_m: float) -> float:
    """Longest edge in metres that leaves about `_POINTS` points a side of the thing."""
    a, b, c = mesh.vertices[mesh.triangles].transpose(1, 0, 2)
    twice_area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    return 1.4 * float(np.clip(np.sqrt(twice_area / 4 / _POINTS), _SPACING_M[0], widest_m))


def _cut(mesh: Mesh, limit: float) -> _Pieces:
    """Halve triangles at their longest edge until every edge is short: neighbours stay in step."""
    corners = mesh.vertices[mesh.triangles]
    pieces = _Pieces(corners, np.tile(np.eye(3), (len(corners), 1, 1)), np.arange(len(corners)))
    done: list[_Pieces] = []
    while len(pieces.corners):
        edges = np.linalg.norm(np.roll(pieces.corners, -1, axis=1) - pieces.corners, axis=2)
        small = edges.max(axis=1) <= limit
        done.append(_Pieces(pieces.corners[small], pieces.weights[small], pieces.origin[small]))
        pieces = _halved(pieces, edges, ~small)
    return _Pieces(
        np.concatenate([part.corners for part in done]),
        np.concatenate([part.weights for part in done]),
        np.concatenate([part.origin for part in done]),
    )


def _halved(pieces: _Pieces, edges: NDArray[np.float64], large: NDArray[np.bool_]) -> _Pieces:
    """Split the `large` pieces at the middle of their longest edge."""
    first = edges[large].argmax(axis=1)[:, None]
    order = (first + np.arange(3)) % 3
    halves = []
    for values in (pieces.corners[large], pieces.weights[large]):
        a, b, c = np.take_along_axis(values, order[:, :, None], axis=1).transpose(1, 0, 2)
        middle = (a + b) / 2
        halves.append(np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)]))
    return _Pieces(halves[0], halves[1], np.tile(pieces.origin[large], 2))


def _welded(
    pieces: _Pieces, instance: Instance, rgb: NDArray[np.uint8], *, cell: float, first_vertex: int
) -> ScannedMesh:
    """Join corners in one cell of a grid that belong to one flat or softly bent patch of one part."""
    mesh = instance.mesh
    patch = _patches(mesh)[pieces.origin]
    keys = np.c_[np.round(pieces.corners.reshape(-1, 3) / cell), np.repeat(patch, 3)].astype(np.int64)
    _, index, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    triangles = inverse.reshape(-1, 3)
    whole = (triangles != np.roll(triangles, 1, axis=1)).all(axis=1)
    used, triangles = np.unique(triangles[whole], return_inverse=True)
    index = index[used]
    corner_normals = np.einsum("nij,njk->nik", pieces.weights, mesh.corner_normals[pieces.origin])
    normals = corner_normals.reshape(-1, 3)[index]
    return ScannedMesh(
        vertices=pieces.corners.reshape(-1, 3)[index],
        normals=normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9),
        triangles=triangles.reshape(-1, 3),
        face_rgb=rgb[whole],
        instance=np.full(len(index), instance.number, dtype=np.int32),
        # As in 3RScan, a segment is named after one of its vertices.
        segment=first_vertex + _first_of(keys[index, 3]),
    )


def _patches(mesh: Mesh) -> NDArray[np.int64]:
    """Patch of each triangle (T,): its part, divided further by the main direction it faces."""
    part = np.searchsorted(mesh.parts, mesh.triangles[:, 0], side="right")
    normals = mesh.corner_normals.mean(axis=1)
    axis = np.abs(normals).argmax(axis=1)
    facing = axis * 2 + (np.take_along_axis(normals, axis[:, None], axis=1)[:, 0] > 0)
    patches: NDArray[np.int64] = part * 6 + facing
    return patches


def _first_of(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of the first member of each one's group, (V,)."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    members: NDArray[np.int64] = first[inverse]
    return members
