"""What to look for in every frame of a scan: an instance of the store, or the points of a PLY file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.ply import read_ply_vertices
from open3dsg.db.queries import fetch_value
from open3dsg.errors import BadFileError, UserError
from open3dsg.export.hits import hit_colours
from open3dsg.geometry.checks import check_finite
from open3dsg.steps.observe import ObserveOptions
from open3dsg.store.cloud import read_cloud
from open3dsg.store.frames import read_frames
from open3dsg.store.instances import check_instances, read_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.datasets.scan import Frame
    from open3dsg.geometry.thresholds import VisibilityThresholds
    from open3dsg.store.scans import StoredScan

_NEAR_M = 1.0  # around the box of a room, for what stands out of it


@dataclass(frozen=True)
class Subject:
    """What is looked for: points (N, 3) float32 in the world, and how it is called and drawn."""

    caption: str
    points_world: NDArray[np.float32]
    colour: tuple[int, int, int]
    is_surface: bool = False  # a wall or floor: kept in a frame by the number of its visible points alone


@dataclass(frozen=True)
class Search:
    """A subject, the frames of its scan, and when `observe` keeps an instance in a frame."""

    scan: StoredScan
    subject: Subject
    frames: Sequence[Frame]
    thresholds: VisibilityThresholds


def search_instance(connection: Connection[Any], scan: StoredScan, number: int) -> Search:
    """Look for an instance of the store; UserError where the scan lacks it, or it has no points."""
    labels = read_labels(connection, scan)
    cloud = read_cloud(connection, scan.scan_id, scan.name)
    check_instances(scan, labels, [number], cloud)
    points = cloud.xyz_m[cloud.instance == number]
    label, colour = labels[number], hit_colours(list(labels))[number]
    options = _observe_options(connection, scan)
    is_surface = label.lower() in {surface.lower() for surface in options.surfaces}
    return _search(connection, scan, Subject(f"{number} {label}", points, colour, is_surface), options)


def search_ply(connection: Connection[Any], scan: StoredScan, path: Path) -> Search:
    """Look for the vertices of a PLY file, in metres in the world of the scan.

    Raises BadFileError for a file that is no PLY or holds no points, UserError where they are not finite or
    all far from the points of the scan.
    """
    vertices = read_ply_vertices(path)
    if not {"x", "y", "z"} <= vertices.keys():
        raise BadFileError(f"{path}: its vertices have no x, y and z")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
        points = np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32)
    if not len(points):
        raise BadFileError(f"{path}: holds no points")
    check_finite(str(path), points)
    _check_within(read_cloud(connection, scan.scan_id, scan.name).xyz_m, points, scan, path)
    subject = Subject(path.stem, points, hit_colours([0])[0])
    return _search(connection, scan, subject, _observe_options(connection, scan))


def _search(
    connection: Connection[Any], scan: StoredScan, subject: Subject, options: ObserveOptions
) -> Search:
    frames = read_frames(connection, scan.scan_id)
    if not frames:
        raise UserError(f"scan {scan.key} has no frames: there are no photographs to look for it in")
    return Search(scan, subject, frames, options.thresholds)


def _observe_options(connection: Connection[Any], scan: StoredScan) -> ObserveOptions:
    """Return the options that the scan was observed with, or the defaults where it was not."""
    kept = fetch_value(connection, "observe_options", {"scan_id": scan.scan_id})
    return ObserveOptions() if kept is None else ObserveOptions.from_json(kept)


def _check_within(
    room: NDArray[np.float32], points: NDArray[np.float32], scan: StoredScan, path: Path
) -> None:
    """Refuse points in millimetres or other axes, which no frame would show."""
    low, high = room.min(axis=0), room.max(axis=0)
    if not ((points >= low - _NEAR_M) & (points <= high + _NEAR_M)).all(axis=1).any():
        raise UserError(
            f"{path}: none of its points is near the room of scan {scan.key}, from {_metres(low)} to"
            f" {_metres(high)} m: write them in metres, in the axes of `open3dsg export cloud`"
        )


def _metres(point: NDArray[np.float32]) -> str:
    return " ".join(f"{value:.2f}" for value in point)
