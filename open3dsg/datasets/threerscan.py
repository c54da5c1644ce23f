"""3RScan (Wald et al., ICCV 2019) with the scene graphs of 3DSSG (Wald et al., CVPR 2020).

    ROOT/
      3RScan.json                              splits, rescans and their transforms,    (rescans.py,
                                                 what changed between visits             rescan_objects.py)
      train_scans.txt, validation_scans.txt    scan names, one a line: where such a file is there, it and not
        or val_scans.txt, test_scans.txt         3RScan.json says which scans its split has; also read from
                                                 ANNOTATIONS
      NAME/                                    one folder a scan
        labels.instances.annotated.v2.ply      points and their instances               (surface.py)
        semseg.v2.json                         labels of the instances                  (segments.py)
        mesh.refined.0.010000.segs.v2.json     segments, to check the instances with    (segments.py)
        mesh.refined.v2.obj, .mtl, _0.png      mesh, for colours and normals            (obj.py, surface.py)
        sequence/ or sequence.zip              frames                                   (sequence.py)
    ANNOTATIONS/                               as given, or ROOT/3DSSG_subset, or ROOT itself
      relationships_train.json, ...            subgraphs                                (annotations.py)
      classes.txt, relationships.txt
    objects.json                               attributes of instances, the first of  (attributes.py)
                                                 ANNOTATIONS, ROOT/3DSSG, ROOT/3DSSG_subset, ROOT

Only the scan's folder is needed; the rest is read where it is there. The world is z-up, in metres, as the
files have it. Poses are camera to world. The camera of the published files is OpenCV's (``y-down``: x right,
y down, z forward). ``camera_axes="y-up"`` is for sequences whose poses are of a camera with y up and z
backward (OpenGL): each pose is multiplied on the right by diag(1, -1, -1, 1), here and nowhere else;
pictures and intrinsics are the same for both.

Labels of a scan are those of `semseg.v2.json`. They hold every instance that the points or a subgraph name:
one that `semseg.v2.json` lacks takes its label from the annotations (`subgraph_member_not_in_scan` where a
subgraph names it, `label_missing` where points do), or else is 'unknown'. An instance without points is kept
(`instance_without_points`). A subgraph keeps the label its own file gives, and a difference is reported
(`label_differs`). The other problems are listed in the modules named above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from open3dsg.datasets.annotations import Annotations, ScanAnnotation, has_annotations, read_annotations
from open3dsg.datasets.attributes import ScanAttributes, find_objects, read_attributes
from open3dsg.datasets.files import readable, unchanged
from open3dsg.datasets.layouts import WordList, open_reader
from open3dsg.datasets.paths import check_scan_name
from open3dsg.datasets.rescan_objects import RescanChanges
from open3dsg.datasets.rescans import Visit, read_visits
from open3dsg.datasets.scan import BACKGROUND, Cloud, Problem, Scan
from open3dsg.datasets.segments import read_groups
from open3dsg.datasets.sequence import CameraAxes, read_sequence
from open3dsg.datasets.surface import LABELS_PLY, MESH_OBJ, SurfaceReader
from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError, UserError

DATASET = "3rscan"
UNKNOWN_LABEL = "unknown"

SEMSEG = "semseg.v2.json"
_SPLIT_FILES = {
    "train_scans.txt": "train",
    "validation_scans.txt": "validation",
    "val_scans.txt": "validation",
    "test_scans.txt": "test",
}


class ThreeRScan:
    """A 3RScan root. What belongs to all scans is read when first needed and kept; pickling drops it."""

    def __init__(
        self, root: Path, annotations: Path | str | None = None, camera_axes: CameraAxes = "y-down"
    ) -> None:
        """Open `root`; `annotations` is the folder of the 3DSSG files where it is not found by itself.

        Raises UserError where one of the folders does not exist.
        """
        self._root = root
        self._given_annotations = None if annotations is None else Path(annotations)
        for folder in (root, self._given_annotations):
            if folder is not None and not folder.is_dir():
                raise UserError(f"{folder}: no such folder")
        self._camera_axes = camera_axes

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the arguments alone: workers read for themselves what they need."""
        return open_reader, (DATASET, self._root, self.arguments)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return what `open_reader` needs beside the root."""
        given = self._given_annotations
        return {"annotations": None if given is None else str(given), "camera_axes": self._camera_axes}

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Return the arguments that change what is read of a scan; annotations have a hash of their own."""
        return {"camera_axes": self._camera_axes}

    @cached_property
    def annotations(self) -> Annotations | None:
        """The scene graphs, or None where there are none. Raises as `read_annotations` does."""
        if self._given_annotations is not None:
            return read_annotations(self._given_annotations)
        folders = (self._root / "3DSSG_subset", self._root)
        return next((read_annotations(folder) for folder in folders if has_annotations(folder)), None)

    @cached_property
    def attributes(self) -> Mapping[str, ScanAttributes]:
        """Scan -> attributes of its instances; empty without a file. Raises as `read_attributes` does."""
        given = () if self._given_annotations is None else (self._given_annotations,)
        objects = find_objects((*given, self._root / "3DSSG", self._root / "3DSSG_subset", self._root))
        return {} if objects is None else read_attributes(objects)

    @cached_property
    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Split -> names of its scans, present or not, ascending: by lists, 3RScan.json, annotations."""
        by_split: dict[str, set[str]] = {}
        annotated: Mapping[str, ScanAnnotation] = self.annotations.scans if self.annotations else {}
        for name, entry in (self._visits or annotated).items():
            by_split.setdefault(entry.split, set()).add(name)
        by_split |= self._split_lists()
        return {split: tuple(sorted(names)) for split, names in by_split.items()}

    @readable()
    def scan_names(self, split: str | None) -> list[str]:
        """Return the scans that have a folder, ascending: of `split`, or of the whole root.

        Raises UserError for a split that does not exist.
        """
        if split is not None:
            return [name for name in self._listed(split) if self._has_folder(name)]
        return sorted(path.name for path in self._root.iterdir() if self._has_folder(path.name))

    @readable()
    def missing(self, split: str | None) -> list[str]:
        """Return the scans that the metadata lists, in `split` or at all, and that have no folder."""
        return [name for name in self._listed(split) if not self._has_folder(name)]

    def annotation_hash(self, name: str) -> str | None:
        """Return the hash of the scan's subgraphs, or None where the annotations lack it."""
        return self.annotations.hash_of(name) if self.annotations else None

    def attributes_of(self, name: str) -> ScanAttributes | None:
        """Return the attributes of the scan's instances, or None where `objects.json` lacks it.

        Raises BadFileError where that file cannot be read.
        """
        return self.attributes.get(name)

    def changes_of(self, name: str) -> RescanChanges | None:
        """Return what is said of objects of the rescan `name`, or None where it is not known as a rescan.

        Raises BadFileError where `3RScan.json` cannot be read.
        """
        visit = self._visits.get(name)
        return visit.changes if visit else None

    def word_lists(self) -> Sequence[WordList]:
        """Return the classes and predicates of the annotations."""
        return self.annotations.word_lists() if self.annotations else ()

    @readable()
    def read(self, name: str) -> Scan:
        """Read the scan `name`.

        Raises UserError where it has no folder or changes meanwhile, BadFileError where a file it cannot do
        without is missing or a file is damaged; what can be left out is left out and told in `Scan.problems`.
        """
        self._check_exists(name)
        with unchanged(name, self._root / name):
            return self._read(name)

    def _read(self, name: str) -> Scan:
        visit = self._visits.get(name)
        annotation = self.annotations.scans.get(name) if self.annotations else None
        semseg = self._root / name / SEMSEG
        groups = read_groups(semseg, name) if semseg.is_file() else None
        if groups is None and (self._root / name / LABELS_PLY).is_file():
            raise BadFileError(f"{semseg}: missing, though {LABELS_PLY} is there: fetch it again")
        frames, problems_of_frames = read_sequence(self._root, name, self._camera_axes)
        surface = SurfaceReader(self._root, name)
        cloud = surface.read(groups, frames)
        labels, problems_of_labels = _labels(name, groups.labels if groups else {}, cloud, annotation)
        return Scan(
            dataset=DATASET,
            name=name,
            root=self._root,
            cloud=cloud,
            labels=labels,
            split=self._split_of(name),
            frames=frames,
            subgraphs=tuple(annotation.subgraphs) if annotation else (),
            reference=visit.reference if visit else None,
            T_reference_scan=visit.T_reference_scan if visit else None,
            problems=(
                *(visit.problems if visit else ()),
                *(annotation.problems if annotation else ()),
                *(groups.problems if groups else ()),
                *problems_of_frames,
                *surface.problems,
                *problems_of_labels,
            ),
        )

    @cached_property
    def _visits(self) -> Mapping[str, Visit]:
        path = self._root / "3RScan.json"
        return read_visits(path) if path.is_file() else {}

    def _split_lists(self) -> dict[str, set[str]]:
        folders = [self._root, *([self.annotations.folder] if self.annotations else [])]
        lists: dict[str, set[str]] = {}
        for path, split in (
            (folder / file, split) for folder in folders for file, split in _SPLIT_FILES.items()
        ):
            if path.is_file() and split not in lists:
                lines = read_text(path).splitlines()
                names = (line.strip().rstrip(",") for line in lines)
                lists[split] = {check_scan_name(name, str(path)) for name in names if name}
        return lists

    def _split_of(self, name: str) -> str | None:
        return next((split for split, names in self.splits.items() if name in names), None)

    def _listed(self, split: str | None) -> list[str]:
        if split is None:
            return sorted({name for names in self.splits.values() for name in names})
        if split not in self.splits:
            known = ", ".join(self.splits) or "no split is known: 3RScan.json is missing"
            raise UserError(f"{self._root}: no split {split!r}; there are: {known}")
        return list(self.splits[split])

    def _has_folder(self, name: str) -> bool:
        folder = self._root / name
        try:
            return any((folder / file).is_file() for file in (LABELS_PLY, MESH_OBJ, SEMSEG))
        except PermissionError:  # whether it is one cannot be told: reading it says why
            return True

    def _check_exists(self, name: str) -> None:
        check_scan_name(name, str(self._root))
        if (self._root / name).is_dir():
            return
        there = self.scan_names(None)
        examples = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
        listed = " (3RScan.json lists it: fetch it)" if name in self._visits else ""
        raise UserError(
            f"{self._root}: no folder for scan {name!r}{listed}; there are {len(there)}: {examples}"
        )


def _labels(
    name: str, own: Mapping[int, str], cloud: Cloud, annotation: ScanAnnotation | None
) -> tuple[dict[int, str], list[Problem]]:
    """Return a label for every instance that anything names, and what was wrong; see the module."""
    annotated = annotation.labels if annotation else {}
    with_points = set(np.unique(cloud.instance).tolist()) - {BACKGROUND}
    labels = dict(own)
    problems: list[Problem] = []

    def report(kind: str, number: int, detail: str) -> None:
        problems.append(Problem(kind, f"{name}: instance {number}: {detail}"))

    for number in sorted(with_points - own.keys()):
        labels[number] = annotated.get(number, UNKNOWN_LABEL)
        report("label_missing", number, f"has points, but {SEMSEG} lacks it: labelled {labels[number]!r}")
    for number, label in sorted(annotated.items()):
        if number not in own:
            labels[number] = label
            report("subgraph_member_not_in_scan", number, f"{label!r} in the annotations, {SEMSEG} lacks it")
        elif own[number] != label:
            report("label_differs", number, f"{own[number]!r}, and {label!r} in the annotations")
    for number in sorted(labels.keys() - with_points):
        report("instance_without_points", number, f"{labels[number]!r} has no points")
    return labels, problems
