"""The points of a 3RScan scan with their instances, colours and normals, put together from its files.

Points and instances are the vertices of `labels.instances.annotated.v2.ply` and their `objectId`. The red,
green and blue of that file are colours of labels, not of the room, and are not used. `objectId` 0 marks the
vertices whose segment belongs to no instance (in the published scan at hand exactly those, 385 of 18,496,
and `semseg.v2.json` numbers its instances from 1): they are background, -1.

Colours and normals are those of `mesh.refined.v2.obj`, which lists the same vertices in the same order in
version 2 of the dataset. Where it does not, a point takes them from the mesh vertex at the same position,
to 0.1 mm.

Colours come from the first of these that is at hand, and `Cloud.colour_source` says which: the mesh's
texture picture (`texture`), colours of its vertices (`vertex`), the photographs of the sequence (`frames`:
the mean over those that see the point by their depth), or none: grey.

Reported: `labels_missing` (the hidden test scans: all points are background), `labels_from_segments` (the
PLY is absent or carries no `objectId`: instances come from the segments), `segments_differ` (segments
and PLY contradict each other; the PLY counts), `point_not_finite` and `point_too_far` (over
100 km from the origin: damage; left out), `mesh_missing`,
`texture_missing`, `texture_not_single` (several pictures: not read), `points_without_colour` (grey),
`picture_unreadable` and `picture_size_differs` (a frame's, not used for colours).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.images import ImageReader, read_image
from open3dsg.datasets.obj import ObjVertices, read_obj_vertices, sample_texture
from open3dsg.datasets.ply import read_ply_vertices
from open3dsg.datasets.scan import BACKGROUND, Cloud, Frame, Problem
from open3dsg.datasets.segments import Groups, instances_of_vertices, read_vertex_segments
from open3dsg.errors import BadFileError
from open3dsg.geometry.checks import FURTHEST_M
from open3dsg.geometry.colour import GREY, ColourAverage
from open3dsg.geometry.pixels import PixelGrid

LABELS_PLY = "labels.instances.annotated.v2.ply"
MESH_OBJ = "mesh.refined.v2.obj"
SEGMENTS = "mesh.refined.0.010000.segs.v2.json"
UNLABELLED = 0  # objectId of vertices outside all instances

_MATCH_PER_M = 10_000  # positions are equal to 0.1 mm
_MATCH_REACH_M = 100.0  # as far from the origin as 21 bits an axis reach at that

_Colours = tuple[NDArray[np.uint8], NDArray[np.bool_], str]  # (N, 3), (N,) known, source


class SurfaceReader:
    """Reads the surface of one scan, collecting problems on the way."""

    def __init__(self, root: Path, name: str) -> None:
        """Read scan `name`, the folder of this name under `root`."""
        self.problems: list[Problem] = []
        self._root = root
        self._name = name
        self._folder = root / name

    def read(self, groups: Groups | None, frames: Sequence[Frame]) -> Cloud:
        """Return the cloud. `groups` is None where the scan has no `semseg.v2.json`.

        Raises BadFileError for damaged files, and where neither mesh nor labels are there.
        """
        mesh_path = self._folder / MESH_OBJ
        mesh = read_obj_vertices(mesh_path) if mesh_path.is_file() else None
        if mesh is None:
            self._report("mesh_missing", f"{MESH_OBJ} is absent: no normals, no colours of the mesh")
        ply_path = self._folder / LABELS_PLY
        ply = read_ply_vertices(ply_path) if ply_path.is_file() else None
        xyz_m = self._points(ply, mesh)
        instance = self._instances(ply, groups, len(xyz_m))
        finite = np.isfinite(xyz_m).all(axis=1)
        near = np.abs(xyz_m).max(axis=1, initial=0) <= FURTHEST_M
        if not finite.all():
            detail = f"{np.count_nonzero(~finite)} points hold NaN or infinity, left out"
            self._report("point_not_finite", detail)
        if far := np.count_nonzero(finite & ~near):
            self._report("point_too_far", f"{far} points lie further than {FURTHEST_M:g} m, left out")
        xyz_m, instance = xyz_m[finite & near], instance[finite & near]
        vertex = None if mesh is None else match_points(xyz_m, mesh.xyz_m)
        colours, known, source = self._colours(mesh, vertex, xyz_m, frames)
        if source != "none" and not known.all():
            unknown = f"{np.count_nonzero(~known)} of {len(known)} points have no colour, left grey"
            self._report("points_without_colour", unknown)
        normals = None if mesh is None or vertex is None else _normals(mesh, vertex)
        return Cloud(xyz_m=xyz_m, rgb=colours, instance=instance, normals=normals, colour_source=source)

    def _report(self, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind, f"{self._name}: {detail}"))

    def _points(self, ply: dict[str, NDArray[Any]] | None, mesh: ObjVertices | None) -> NDArray[np.float32]:
        """Return positions (N, 3): those of the PLY, or where there is none of the mesh."""
        if ply is not None:
            missing = [axis for axis in "xyz" if axis not in ply]
            if missing:
                raise BadFileError(f"{self._folder / LABELS_PLY}: its vertices lack {', '.join(missing)}")
            return np.stack([ply[axis].astype(np.float32) for axis in "xyz"], axis=1)
        if mesh is not None:
            return mesh.xyz_m
        raise BadFileError(f"{self._folder}: holds neither {LABELS_PLY} nor {MESH_OBJ}: fetch the scan again")

    def _instances(
        self, ply: dict[str, NDArray[Any]] | None, groups: Groups | None, points: int
    ) -> NDArray[np.int32]:
        """Return the instance of each point, (N,): by the PLY, else by the segments."""
        path = self._folder / LABELS_PLY
        from_segments = self._instances_of_segments(groups, points)
        if ply is not None and "objectId" in ply:
            instance = _instances_of_object_ids(ply["objectId"], path)
            if from_segments is not None and (differ := np.count_nonzero(instance != from_segments)):
                self._report("segments_differ", f"{differ} points have another instance by their segment")
            return instance
        if from_segments is not None:
            detail = f"no objectId in {LABELS_PLY}: instances come from {SEGMENTS}"
            self._report("labels_from_segments", detail)
            return from_segments
        if ply is not None:
            raise BadFileError(f"{path}: its vertices have no property objectId; is it the version 2 file?")
        if groups is not None:
            raise BadFileError(f"{path}: missing, though semseg.v2.json names instances: fetch it again")
        self._report("labels_missing", "no labels: all points are background")
        return np.full(points, BACKGROUND, np.int32)

    def _instances_of_segments(self, groups: Groups | None, points: int) -> NDArray[np.int32] | None:
        path = self._folder / SEGMENTS
        if groups is None or not path.is_file():
            return None
        segments = read_vertex_segments(path)
        if len(segments) != points:
            detail = f"{SEGMENTS} has {len(segments)} entries for {points} points: unused"
            self._report("segments_differ", detail)
            return None
        return instances_of_vertices(groups, segments)

    def _colours(
        self,
        mesh: ObjVertices | None,
        vertex: NDArray[np.int64] | None,
        xyz_m: NDArray[np.float32],
        frames: Sequence[Frame],
    ) -> _Colours:
        of_mesh = None if mesh is None else self._mesh_colours(mesh)
        if of_mesh is None or vertex is None:
            return self._frame_colours(xyz_m, frames)
        colours, known, source = of_mesh
        known = (vertex >= 0) & known[vertex]
        return np.where(known[:, None], colours[vertex], np.uint8(GREY)), known, source

    def _mesh_colours(self, mesh: ObjVertices) -> _Colours | None:
        """Return colours of the mesh's own vertices, or None where it has none."""
        absent = [path.name for path in mesh.textures if not os.path.isfile(path)]
        if len(mesh.textures) > 1:
            self._report(
                "texture_not_single", f"{len(mesh.textures)} texture pictures, of which none is read"
            )
        elif absent:
            self._report("texture_missing", f"{absent[0]} is absent: colours come from elsewhere")
        elif mesh.textures and mesh.uv is not None:
            picture = read_image(self._root, f"{self._name}/{mesh.textures[0].name}")
            known: NDArray[np.bool_] = np.all(np.isfinite(mesh.uv), axis=1)
            return sample_texture(picture, np.where(known[:, None], mesh.uv, 0.0)), known, "texture"
        if mesh.rgb is None:
            return None
        return mesh.rgb, np.ones(len(mesh.rgb), np.bool_), "vertex"

    def _frame_colours(self, xyz_m: NDArray[np.float32], frames: Sequence[Frame]) -> _Colours:
        average = ColourAverage(xyz_m)
        used = 0
        with ImageReader(self._root) as reader:
            for frame in frames:
                used += self._add_frame(average, reader, frame)
        colours, known = average.mean()
        return colours, known, "frames" if used else "none"

    def _add_frame(self, average: ColourAverage, reader: ImageReader, frame: Frame) -> bool:
        """Add the colours of `frame`; a frame without depth cannot tell what it sees and is passed over."""
        if frame.depth_uri is None or frame.depth is None:
            return False
        try:
            image = reader.read_image(frame.image_uri)
            depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
        except BadFileError as error:
            self._report("picture_unreadable", f"frame {frame.number:06d}: {error}")
            return False
        grids = PixelGrid(**asdict(frame.image)), PixelGrid(**asdict(frame.depth))
        for (height, width), grid in zip((image.shape[:2], depth_m.shape), grids, strict=True):
            if (width, height) != (grid.width, grid.height):
                detail = f"{width} x {height} pixels, _info.txt says {grid.width} x {grid.height}: not used"
                self._report("picture_size_differs", f"frame {frame.number:06d}: {detail}")
                return False
        average.add(image, grids[0], depth_m, grids[1], frame.T_world_camera)
        return True


def match_points(points: NDArray[np.float32], vertices: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each point the vertex at its position, (N,) int64; -1 where there is none.

    Arrays that are equal as they stand are matched in order; else positions are compared to 0.1 mm.
    """
    if np.array_equal(points, vertices):
        return np.arange(len(points))
    keys, is_near = _position_keys(points)
    vertex_keys, vertex_is_near = _position_keys(vertices)
    candidates = np.flatnonzero(vertex_is_near)
    if not len(candidates):
        return np.full(len(points), -1, np.int64)
    unique, first = np.unique(vertex_keys[candidates], return_index=True)
    place = np.searchsorted(unique, keys).clip(max=len(unique) - 1)
    return np.where(is_near & (unique[place] == keys), candidates[first[place]], -1)


def _position_keys(points: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return a whole number for each position, (N,), and whether it is within reach, (N,) bool."""
    is_near: NDArray[np.bool_] = np.all(np.abs(points) < _MATCH_REACH_M, axis=1)
    steps = np.where(is_near[:, None], points, 0).astype(np.float64) + _MATCH_REACH_M
    x, y, z = np.rint(steps * _MATCH_PER_M).astype(np.int64).T
    return x << 42 | y << 21 | z, is_near


def _instances_of_object_ids(object_ids: NDArray[np.generic], path: Path) -> NDArray[np.int32]:
    if not np.issubdtype(object_ids.dtype, np.integer):
        raise BadFileError(
            f"{path}: objectId is declared as {object_ids.dtype.name}, it must be a whole number"
        )
    numbers = object_ids.astype(np.int64)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < 2**31):
        raise BadFileError(
            f"{path}: objectId goes from {numbers.min()} to {numbers.max()}, it must be 0 or more"
        )
    return np.where(numbers == UNLABELLED, BACKGROUND, numbers).astype(np.int32)


def _normals(mesh: ObjVertices, vertex: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return unit normals (N, 3) of the points; 0 0 0 where the mesh has none for the point."""
    if mesh.normals is None:
        return None
    normals = np.where((vertex >= 0)[:, None], mesh.normals[vertex], np.float32(0))
    normals = np.where(np.isfinite(normals).all(axis=1, keepdims=True), normals, np.float32(0))
    # In float64: the squares of damaged numbers overflow in float32.
    length = np.linalg.norm(normals.astype(np.float64), axis=1, keepdims=True)
    return (normals / np.where(length > 0, length, 1)).astype(np.float32)
