"""The points of a scan that scenezoo reads, with their instances, colours and normals.

Points are the vertices of the mesh, whose instances scenezoo gives for vertices or for triangles; a vertex
between triangles of several has that of most of them. A CAD mesh has vertices at its corners only: its
surface is sampled instead. Of point clouds the points are taken as they are; rooms that are rendered views
are fused by scenezoo, to one point in 2 cm. Normals are computed from the triangles, weighted by their angle.

An instance has scenezoo's number, which is the dataset's own where it has one. ARKitScenes annotates boxes: a
vertex has the smallest box that it is in.

Reported: `labels_missing` (no annotations, in the test split or where no split is known), `label_missing`
(points of an instance that has no label: 'unknown'), `instance_without_points`, `colours_missing` (grey),
`point_not_finite` and `point_too_far` (over 100 km: damage; left out).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.ply import check_ply
from open3dsg.datasets.scan import BACKGROUND, Cloud, Problem
from open3dsg.datasets.scenezoo_faces import check_house, check_ply_faces
from open3dsg.datasets.scenezoo_package import not_fetched, told_in_one_line
from open3dsg.errors import BadFileError
from open3dsg.geometry.checks import FURTHEST_M
from open3dsg.geometry.colour import GREY
from open3dsg.geometry.faces import labels_of_vertices, sample_triangles, triangle_areas
from open3dsg.geometry.normals import vertex_normals

if TYPE_CHECKING:
    from open3dsg.datasets.scenezoo_sources import Place, Source

UNKNOWN_LABEL = "unknown"
_POINTS_PER_M2 = 1_000  # of a CAD mesh: 3 cm apart
_LARGEST_M2 = 20_000.0  # of a house with all sides of its furniture
_VOXEL_M = 0.02


class _Points(NamedTuple):
    xyz_m: NDArray[np.float64]
    rgb: NDArray[np.uint8] | None
    normals: NDArray[np.float32] | None
    instance: NDArray[np.int32]
    labels: Mapping[int, str]
    colour_source: str


class _Mesh(NamedTuple):
    xyz_m: NDArray[np.float64]
    triangles: NDArray[np.int64]
    rgb: NDArray[np.uint8] | None


class SurfaceReader:
    """Reads the points of one scan, collecting problems on the way."""

    def __init__(self, dataset: Any, source: Source, place: Place, annotated: bool) -> None:
        """Read from scenezoo's adapter `dataset`; where the scan is `annotated`, labels must be there."""
        self.problems: list[Problem] = []
        self._dataset = dataset
        self._source = source
        self._place = place
        self._annotated = annotated

    def read(self) -> tuple[Cloud, Mapping[int, str]]:
        """Return the cloud and the label of each instance.

        Raises BadFileError for files that are missing or damaged, and for labels of another mesh.
        """
        if self._source.points in ("cloud", "room"):
            points = self._batch()
        elif self._source.points == "surface":
            points = self._sampled()
        else:
            points = self._vertices()
        kept = self._near(points.xyz_m)
        instance = points.instance[kept]
        labels = self._labels(points.labels, instance)
        rgb, colour_source = points.rgb, points.colour_source
        if rgb is None:
            self._report("colours_missing", "no colours of points: all are grey")
            rgb, colour_source = np.full((len(kept), 3), GREY, np.uint8), "none"
        xyz_m = points.xyz_m[kept].astype(np.float32)
        normals = None if points.normals is None else points.normals[kept]
        return Cloud(xyz_m, rgb[kept], instance, normals, colour_source), labels

    def _vertices(self) -> _Points:
        mesh = self._mesh()
        found = self._segmentation()
        labels: Mapping[int, str] = {}
        instance = np.full(len(mesh.xyz_m), BACKGROUND, np.int32)
        if found is not None:
            instance, labels = _instances(found), found.id_to_name
            if found.domain == "face":
                self._check_count(instance, mesh.triangles, "triangles")
                instance = labels_of_vertices(mesh.triangles, instance, len(mesh.xyz_m), BACKGROUND)
            self._check_count(instance, mesh.xyz_m, "points")
        normals = vertex_normals(mesh.xyz_m.astype(np.float32), mesh.triangles)
        return _Points(mesh.xyz_m, mesh.rgb, normals, instance, labels, "vertex")

    def _sampled(self) -> _Points:
        check_house(self._place.path, self._dataset.model_dir)
        mesh = self._mesh()
        found = self._segmentation()
        self._check_area(mesh)
        xyz_m, triangle = sample_triangles(mesh.xyz_m, mesh.triangles, _POINTS_PER_M2)
        corners = mesh.xyz_m[mesh.triangles[triangle]]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(across, axis=1, keepdims=True)
        normals = np.divide(across, length, out=np.zeros_like(across), where=length > 0).astype(np.float32)
        if found is None:
            return _Points(xyz_m, None, normals, np.full(len(xyz_m), BACKGROUND, np.int32), {}, "none")
        instance = _instances(found)
        self._check_count(instance, mesh.triangles, "triangles")
        return _Points(xyz_m, None, normals, instance[triangle], found.id_to_name, "none")

    def _check_area(self, mesh: _Mesh) -> None:
        whole_m2 = triangle_areas(mesh.xyz_m, mesh.triangles).sum()
        if not whole_m2 <= _LARGEST_M2:  # nor is NaN
            raise BadFileError(
                f"{self._place.path}: a surface of {whole_m2:.3g} square metres is no house:"
                " it is damaged, or a model is in other units"
            )

    def _batch(self) -> _Points:
        with told_in_one_line(f"{self._place.path}"):
            if self._source.points == "cloud":
                batch, colour_source = self._dataset.get_points(self._place.scene), "vertex"
            else:
                scene, room = self._place.scene, self._place.room
                views = self._dataset.get_frame_sources(scene, room)
                batch = self._dataset.get_points(scene, room, sources=views, voxel_size=_VOXEL_M)
                colour_source = "frames"
        instance = _background(batch.instance_labels, batch.invalid_id)
        xyz_m = batch.xyz.astype(np.float64)
        labels = batch.instance_id_to_name
        if self._source.points == "room":  # it names the things of all rooms of the scene
            labels = {number: labels[number] for number in np.unique(instance).tolist() if number in labels}
        return _Points(xyz_m, batch.rgb, batch.normals, instance, labels, colour_source)

    def _mesh(self) -> _Mesh:
        folder = self._place.path
        for path in (folder / mesh.format(scan=folder.name) for mesh in self._source.meshes):
            if path.is_file():
                check_ply(path)
                check_ply_faces(path)
        with told_in_one_line(f"{self._place.path}"):
            mesh = self._dataset.get_mesh(self._place.scene)
            xyz_m = np.array(mesh.vertices, np.float64)
            triangles = np.array(mesh.triangles, np.int64)
            rgb = np.array(mesh.vertex_colors) if mesh.has_vertex_colors() else None
        if triangles.min() < 0 or triangles.max() >= len(xyz_m):
            raise BadFileError(f"{self._place.path}: triangles of its mesh name points that are not there")
        return _Mesh(xyz_m, triangles, None if rgb is None else np.rint(rgb * 255).astype(np.uint8))

    def _segmentation(self) -> Any:
        """Return scenezoo's segmentation, or None, reported, where the scan need not have one."""
        from scenezoo import UnsupportedOperationError

        with told_in_one_line(f"{self._place.path}"):
            try:
                return self._dataset.get_segmentation(self._place.scene)
            except (FileNotFoundError, UnsupportedOperationError) as error:
                if self._annotated or not_fetched(error):
                    raise
        self._report("labels_missing", "no annotations: all points are background")
        return None

    def _check_count(self, labels: NDArray[Any], things: NDArray[Any], what: str) -> None:
        if len(labels) != len(things):
            raise BadFileError(
                f"{self._place.path}: its annotations are of {len(labels)} {what}, its mesh has"
                f" {len(things)}: one of the two is of another mesh"
            )

    def _labels(self, given: Mapping[int, str], instance: NDArray[np.int32]) -> dict[int, str]:
        """Return a label for every instance that has points or a label; an empty one is none."""
        with_points = set(np.unique(instance).tolist()) - {BACKGROUND}
        labels = {int(number): text for number, label in given.items() if (text := str(label).strip())}
        for number in sorted(with_points - labels.keys()):
            labels[number] = UNKNOWN_LABEL
            self._report("label_missing", f"instance {number} has points and no label: {UNKNOWN_LABEL!r}")
        for number in sorted(labels.keys() - with_points):
            self._report("instance_without_points", f"instance {number}: {labels[number]!r} has no points")
        return labels

    def _near(self, xyz_m: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points are in the room, (N,)."""
        finite = np.isfinite(xyz_m).all(axis=1)
        near = np.abs(xyz_m).max(axis=1, initial=0) <= FURTHEST_M
        if lost := np.count_nonzero(~finite):
            self._report("point_not_finite", f"{lost} points hold NaN or infinity, left out")
        if far := np.count_nonzero(finite & ~near):
            self._report("point_too_far", f"{far} points lie further than {FURTHEST_M:g} m, left out")
        kept: NDArray[np.bool_] = finite & near
        return kept

    def _report(self, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind, f"{self._place.name}: {detail}"))


def _instances(segmentation: Any) -> NDArray[np.int32]:
    return _background(segmentation.labels, segmentation.invalid_id)


def _background(labels: NDArray[Any], none: int) -> NDArray[np.int32]:
    """Return the instance of each label; what is none of any, or negative, is background."""
    return np.where((labels == none) | (labels < 0), BACKGROUND, labels).astype(np.int32)
