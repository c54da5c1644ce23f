"""Points of a scan as files that other programs read: PLY and GLB for viewers, NPZ for numpy."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from open3dsg.datasets.scan import BACKGROUND
from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.export.files import check_folder, whole_file
from open3dsg.export.glb import write_glb_points
from open3dsg.export.hits import hit_colours, paint_hits
from open3dsg.store.cloud import read_cloud
from open3dsg.store.instances import check_instances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.datasets.scan import Cloud
    from open3dsg.store.scans import StoredScan

Colours = Literal["photo", "instance", "label"]

# Readers of PLY refuse header lines of more than a kilobyte; a letter can take twelve bytes in one.
_COMMENT_LETTERS = 60


@dataclass(frozen=True)
class LabelledCloud:
    """Points, and the label of each instance that has some of them, by ascending number."""

    cloud: Cloud
    labels: Mapping[int, str]


def check_cloud_file(path: Path) -> None:
    """Raise UserError where `write_cloud_file` could not write `path`: for its ending, or its folder."""
    if path.suffix.lower() not in (".ply", ".npz", ".glb"):
        raise UserError(f"{path}: the ending says the format: name the file .ply, .npz or .glb")
    check_folder(path)


def read_labelled_cloud(
    connection: Connection[Any],
    scan: StoredScan,
    *,
    instances: Sequence[int] = (),
    instances_only: bool = False,
    colours: Colours = "photo",
) -> LabelledCloud:
    """Read the points of a scan: all, without the background, or those of some `instances`.

    Labels are as people corrected them. `colours` are those of the scan, or one an instance or label, the
    same whichever points are asked for. Raises UserError for a scan without points and for an instance that
    it lacks or that has none.
    """
    cloud = read_cloud(connection, scan.scan_id, scan.name)
    labels = dict(execute(connection, "export_labels", {"scan_id": scan.scan_id}).fetchall())
    check_instances(scan, labels, instances, cloud)
    if colours != "photo":
        cloud = replace(cloud, rgb=paint_hits(cloud, instance_colours(labels, colours)))
    if instances or instances_only:
        kept = np.isin(cloud.instance, instances) if instances else cloud.instance != BACKGROUND
        if not kept.any():
            raise UserError(f"scan {scan.key} has no instance with points")
        cloud = _selected(cloud, kept)
    present = np.unique(cloud.instance).tolist()
    return LabelledCloud(cloud, {number: labels[number] for number in present if number != BACKGROUND})


def instance_colours(labels: Mapping[int, str], of: Colours) -> Mapping[int, tuple[int, int, int]]:
    """Return the colour of each instance, given its label: that of its label, else one of its own."""
    if of != "label":
        return hit_colours(list(labels))
    kinds = {label: place for place, label in enumerate(sorted(set(labels.values())))}
    colours = hit_colours(list(kinds.values()))
    return {number: colours[kinds[label]] for number, label in labels.items()}


def write_cloud_file(path: Path, points: LabelledCloud) -> None:
    """Write points in the format that the ending of `path` names.

    Raises UserError for another ending, and where the file cannot be written; nothing half-written stays.
    """
    check_cloud_file(path)
    match path.suffix.lower():
        case ".ply":
            write_ply(path, points.cloud, points.labels)
        case ".glb":
            write_glb_points(path, points.cloud, points.labels)
        case _:
            write_npz(path, points)


def write_ply(path: Path, cloud: Cloud, labels: Mapping[int, str] | None = None) -> None:
    """Write x y z, the normal where the cloud has some, red green blue and the instance number a point.

    Binary little-endian; -1 is background. A label is a comment line: `comment instance 4 "table"`, as a
    JSON string of at most 60 letters. UserError where the file cannot be written.
    """
    fields: list[tuple[str, str]] = [(axis, "<f4") for axis in ("x", "y", "z")]
    columns: list[NDArray[Any]] = [*cloud.xyz_m.T]
    if cloud.normals is not None:
        fields += [(axis, "<f4") for axis in ("nx", "ny", "nz")]
        columns += [*cloud.normals.T]
    fields += [(colour, "u1") for colour in ("red", "green", "blue")] + [("instance", "<i4")]
    columns += [*cloud.rgb.T, cloud.instance]
    vertices = np.empty(len(cloud.xyz_m), fields)
    for (name, _kind), column in zip(fields, columns, strict=True):
        vertices[name] = column
    kinds = {"<f4": "float", "u1": "uchar", "<i4": "int"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment open3dsg: metres, z up",
        *(
            f"comment instance {n} {json.dumps(text[:_COMMENT_LETTERS])}"
            for n, text in (labels or {}).items()
        ),
        f"element vertex {len(vertices)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        "end_header",
    ]
    with whole_file(path) as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.data)


def write_npz(path: Path, points: LabelledCloud) -> None:
    """Write arrays, compressed, that `numpy.load` reads without pickles.

    `points` (N, 3) float32 in metres, `colors` (N, 3) uint8, `normals` (N, 3) float32 where the cloud has
    some, `instance` (N,) int32 with -1 for background; `label_instances` (K,) int32 and `labels` (K,) text:
    the label of each instance. UserError where the file cannot be written.
    """
    cloud = points.cloud
    arrays: dict[str, Any] = {
        "points": cloud.xyz_m,
        "colors": cloud.rgb,
        "instance": cloud.instance,
        "label_instances": np.array(list(points.labels), np.int32),
        "labels": np.array(list(points.labels.values()), np.str_),
    }
    if cloud.normals is not None:
        arrays["normals"] = cloud.normals
    with whole_file(path) as file:
        np.savez_compressed(file, **arrays)


def _selected(cloud: Cloud, kept: NDArray[np.bool_]) -> Cloud:
    """Return the points of `cloud` that are `kept`, (N,) bool, in their order."""
    return replace(
        cloud,
        xyz_m=cloud.xyz_m[kept],
        rgb=cloud.rgb[kept],
        instance=cloud.instance[kept],
        normals=None if cloud.normals is None else cloud.normals[kept],
    )
