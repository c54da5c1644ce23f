"""The points of a ScanNet scan with their instances, colours and normals.

    SCAN_vh_clean_2.ply                     points, colours and triangles, z-up, axes as the device had them
    SCAN_vh_clean_2.0.010000.segs.json      the segment of each point
    SCAN.aggregation.json                   instances as segments, with labels
      or SCAN_vh_clean.aggregation.json
    SCAN_vh_clean_2.labels.ply              the same points with their class of NYU40, to check labels with

`SCAN.aggregation.json` is the file of the decimated mesh; `SCAN_vh_clean.aggregation.json` is, by ScanNet's
word, of the mesh of full resolution, though copies of it are about that name the segments of the decimated
one. The file says itself which segmentation it is of (`segmentsFile`), and its segments are looked for in the
segmentation at hand: the first file that is whole in it is used.

An instance's number is its `objectId`, from 0 on. A point whose segment belongs to none is background, -1.
Normals are computed from the triangles, as the published code has them.

Reported: `labels_missing` (no annotations, as in the test split: all points are background),
`aggregation_of_other_mesh` (passed over for the other file), `segments_not_in_mesh` (instances name segments
that no point has),
`labels_differ` (from `labels.ply`; the annotations count), `normals_missing` (faces absent or no
triangles), `colours_missing` (grey), `point_not_finite`, `point_too_far` (over 100 km: damage; left out), and
those of segments.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.jsonfile import read_json
from open3dsg.datasets.ply import read_ply_mesh, read_ply_vertices
from open3dsg.datasets.scan import BACKGROUND, Cloud, Problem
from open3dsg.datasets.scannet_files import AGGREGATIONS, LABELS, MESH, SEGMENTS
from open3dsg.datasets.scannet_labels import LabelTable
from open3dsg.datasets.segments import Groups, instances_of_vertices, parse_groups, read_vertex_segments
from open3dsg.errors import BadFileError
from open3dsg.geometry.checks import FURTHEST_M
from open3dsg.geometry.colour import GREY
from open3dsg.geometry.normals import vertex_normals


class _Candidate(NamedTuple):
    path: Path
    groups: Groups
    segments_of: str | None  # the other segmentation that it is of, by its own word
    absent: int  # segments of its instances that no point has

    @property
    def whole(self) -> bool:
        # Numbers of another segmentation may well occur in this one, and mean something else.
        return self.segments_of is None and not self.absent and bool(self.groups.labels)

    @property
    def flaw(self) -> str:
        if self.segments_of is not None:
            return f"is of the segments in {self.segments_of!r}"
        if not self.groups.labels:
            return "names no instance"
        return f"names {self.absent} of {len(self.groups.segments)} segments that no point has"


class SurfaceReader:
    """Reads the surface of one scan, collecting problems on the way."""

    def __init__(self, folder: Path, annotated: bool) -> None:
        """Read the scan in `folder`; where it is `annotated`, annotations must be there."""
        self.problems: list[Problem] = []
        self._folder = folder
        self._name = folder.name
        self._annotated = annotated

    def read(
        self, T_world_scan: NDArray[np.float64], table: LabelTable | None
    ) -> tuple[Cloud, Mapping[int, str]]:
        """Return the cloud, aligned by `T_world_scan` (4, 4), and the raw category of each instance.

        Raises BadFileError for damaged files, files of different meshes, and where the mesh is missing.
        """
        path = self._path(MESH)
        vertices, triangles = read_ply_mesh(path)
        missing = [axis for axis in "xyz" if axis not in vertices]
        if missing:
            raise BadFileError(f"{path}: its vertices lack {', '.join(missing)}")
        if not len(vertices["x"]):
            raise BadFileError(f"{path}: has no points: fetch it again")
        with np.errstate(invalid="ignore"):  # damage may be NaN of the kind that processors tell of
            xyz_m = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
        groups = self._groups(len(xyz_m))
        instance = np.full(len(xyz_m), BACKGROUND, np.int32) if groups is None else groups[1]
        labels: Mapping[int, str] = {} if groups is None else groups[0].labels
        self._check_labels(instance, labels, table)
        kept = self._near(xyz_m)
        with np.errstate(over="ignore", invalid="ignore"):
            aligned = (xyz_m @ T_world_scan[:3, :3].T + T_world_scan[:3, 3]).astype(np.float32)
        if triangles is None:
            self._report("normals_missing", f"the faces of {MESH[1:]} are absent or no triangles")
        normals = None if triangles is None else vertex_normals(aligned, triangles)[kept]
        rgb, source = self._colours(vertices)
        return Cloud(aligned[kept], rgb[kept], instance[kept], normals, source), labels

    def _report(self, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind, f"{self._name}: {detail}"))

    def _path(self, ending: str) -> Path:
        return self._folder / f"{self._name}{ending}"

    def _near(self, xyz_m: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which points are in the room, (N,)."""
        finite = np.isfinite(xyz_m).all(axis=1)
        near = np.abs(xyz_m).max(axis=1) <= FURTHEST_M
        if not finite.all():
            detail = f"{np.count_nonzero(~finite)} points hold NaN or infinity, left out"
            self._report("point_not_finite", detail)
        if far := np.count_nonzero(finite & ~near):
            self._report("point_too_far", f"{far} points lie further than {FURTHEST_M:g} m, left out")
        kept: NDArray[np.bool_] = finite & near
        return kept

    def _colours(self, vertices: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.uint8], str]:
        names = ("red", "green", "blue")
        if any(name not in vertices or vertices[name].dtype != np.uint8 for name in names):
            self._report("colours_missing", f"{MESH[1:]} has no colours of 8 bits: all points are grey")
            return np.full((len(vertices["x"]), 3), GREY, np.uint8), "none"
        return np.stack([vertices[name] for name in names], axis=1), "vertex"

    def _groups(self, points: int) -> tuple[Groups, NDArray[np.int32]] | None:
        """Return the instances and that of each point, (N,); None where the scan has no annotations."""
        paths = [self._path(ending) for ending in AGGREGATIONS if self._path(ending).is_file()]
        if not paths:
            if self._annotated:
                raise BadFileError(
                    f"{self._path(AGGREGATIONS[0])}: missing, though its split has annotations: fetch it"
                )
            self._report("labels_missing", "no annotations: all points are background")
            return None
        segments = read_vertex_segments(self._path(SEGMENTS))
        if len(segments) != points:
            raise BadFileError(
                f"{self._path(SEGMENTS)}: has {len(segments)} entries for the {points} points of"
                f" {MESH[1:]}: one of the two is of another mesh"
            )
        chosen = self._choose(paths, np.unique(segments))
        self.problems += chosen.groups.problems
        return chosen.groups, instances_of_vertices(chosen.groups, segments)

    def _choose(self, paths: list[Path], known: NDArray[np.int64]) -> _Candidate:
        """Return the first annotations that are whole in the segmentation, else the first that are in it."""
        passed: list[_Candidate] = []
        for path in paths:
            candidate = self._candidate(path, known)
            if candidate.whole:
                for other in passed:
                    detail = f"{other.path.name} {other.flaw}: {candidate.path.name} is used"
                    self._report("aggregation_of_other_mesh", detail)
                return candidate
            passed.append(candidate)
        for candidate in passed:
            if candidate.segments_of is None and candidate.absent < len(candidate.groups.segments):
                self._report("segments_not_in_mesh", f"{candidate.path.name} {candidate.flaw}")
                return candidate
        raise BadFileError(
            f"{passed[0].path}: {passed[0].flaw}: fetch it again, and {self._name}{SEGMENTS} with it"
        )

    def _candidate(self, path: Path, known: NDArray[np.int64]) -> _Candidate:
        record = read_json(path, dict)
        groups = parse_groups(record, path, self._name)
        named = record.get("segmentsFile")
        segments_of = named[:100] if isinstance(named, str) and not named.endswith(SEGMENTS) else None
        return _Candidate(path, groups, segments_of, int(np.count_nonzero(~np.isin(groups.segments, known))))

    def _check_labels(
        self, instance: NDArray[np.int32], labels: Mapping[int, str], table: LabelTable | None
    ) -> None:
        """Hold the class of each point, as `labels.ply` has it, against that of its instance."""
        path = self._path(LABELS)
        if table is None or not labels or not path.is_file():
            return
        vertices = read_ply_vertices(path)
        if "label" not in vertices or not np.issubdtype(vertices["label"].dtype, np.integer):
            raise BadFileError(f"{path}: its vertices have no whole number label: fetch it again")
        if len(vertices["label"]) != len(instance):
            detail = f"{LABELS[1:]} has {len(vertices['label'])} points, the mesh {len(instance)}"
            self._report("labels_differ", detail)
            return
        numbers = sorted(labels)
        classes = np.array([0, *(table.nyu40_id(labels[number]) for number in numbers)])
        place = np.searchsorted(numbers, instance) + 1
        expected = classes[np.where(instance == BACKGROUND, 0, place)]
        if differ := np.count_nonzero(vertices["label"] != expected):
            detail = f"{differ} of {len(instance)} points have another class in {LABELS[1:]}"
            self._report("labels_differ", detail)
