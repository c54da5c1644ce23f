"""Where instances are seen: the frames that show each best, with the pixels they are seen at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.store.instances import check_instances, list_some, read_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.store.scans import StoredScan


@dataclass(frozen=True)
class Photo:
    """The photograph of a frame and its two cameras: of the photograph, and of the depth picture."""

    frame_no: int
    uri: str
    image: PixelGrid
    depth: PixelGrid


@dataclass(frozen=True)
class Sighting:
    """An instance in a frame; `place` 1 is the frame that shows it best."""

    instance: int
    place: int
    photo: Photo
    visible_points: int
    unique_pixels: int
    visibility_ratio: float
    box: NDArray[np.int32]  # (4,) x_min, y_min, x_max, y_max on the depth grid, inclusive
    pixels: bytes  # packed, on the depth grid


@dataclass(frozen=True)
class BestSightings:
    """The frames that show each instance of a scan best, ordered by frame."""

    scan: StoredScan
    labels: Mapping[int, str]  # of all instances of the scan
    sightings: Sequence[Sighting]
    unseen: Sequence[int]  # instances asked for, or of those with points, that no frame shows well enough
    is_stale: bool  # instances changed since the scan was observed

    @property
    def frame_nos(self) -> Sequence[int]:
        """Return the frames, ascending."""
        return sorted({sighting.photo.frame_no for sighting in self.sightings})


def best_sightings(
    connection: Connection[Any], scan: StoredScan, *, top_k: int, instances: Sequence[int] = ()
) -> BestSightings:
    """Find the `top_k` frames with the largest visible share of each instance, or of some `instances`.

    Raises UserError for an instance that the scan lacks, for a scan that has no instances or is not observed,
    and where no frame shows any of the instances.
    """
    labels = read_labels(connection, scan)
    check_instances(scan, labels, instances)
    if not labels:
        raise UserError(
            f"scan {scan.key} has no instances: `open3dsg masks merge --scan {scan.key}` makes them of masks"
        )
    observed = fetch_value(connection, "is_observed", {"scan_id": scan.scan_id})
    wanted = {"scan_id": scan.scan_id, "top_k": top_k, "numbers": list(instances) or None}
    rows = execute(connection, "best_sightings", wanted, binary=True).fetchall()
    if not rows and not observed:
        raise UserError(
            f"scan {scan.key} has no observations: run `open3dsg observe --scan {scan.key}` first"
        )
    if not rows:
        what = f"instance {list_some(instances)}" if instances else "any instance"
        raise UserError(
            f"no frame shows {what} of scan {scan.key} well enough for `open3dsg observe`:"
            " `open3dsg show projections` looks through all frames"
        )
    found = [_sighting(row) for row in rows]
    seen = {sighting.instance for sighting in found}
    unseen = [number for number in dict.fromkeys(instances) if number not in seen]
    if not instances:
        missing = execute(connection, "instances_missing", {"scan_ids": [scan.scan_id]})
        unseen = [number for _scan, number, _label, _points in missing]
    return BestSightings(scan, labels, found, unseen, is_stale=not observed)


def _sighting(row: tuple[Any, ...]) -> Sighting:
    instance, place, frame_no, points, unique, ratio, box, pixels, uri, *cameras = row
    image_size, image_intrinsics, depth_size, depth_intrinsics = cameras
    photo = Photo(
        frame_no, uri, PixelGrid(*image_size, *image_intrinsics), PixelGrid(*depth_size, *depth_intrinsics)
    )
    return Sighting(instance, place, photo, points, unique, ratio, np.asarray(box, np.int32), bytes(pixels))
