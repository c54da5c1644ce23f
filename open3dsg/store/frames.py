"""Frames of a scan, to and from rows: read back as the readers of datasets gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.scan import Frame
from open3dsg.db.queries import execute
from open3dsg.geometry.pixels import PixelGrid

if TYPE_CHECKING:
    from psycopg import Connection

FRAME_COLUMNS = {
    "scan_id": "int8",
    "frame_no": "int4",
    "image_uri": "text",
    "image_size": "int4[]",
    "image_intrinsics": "float8[]",
    "depth_uri": "text",
    "depth_size": "int4[]",
    "depth_intrinsics": "float8[]",
    "depth_unit_m": "float8",
    "t_world_camera": "float8[]",
}


def frame_row(scan_id: int, frame: Frame) -> tuple[object, ...]:
    """Return the row of a frame, in the order of `FRAME_COLUMNS`."""
    image, depth = frame.image, frame.depth
    return (
        scan_id,
        frame.number,
        frame.image_uri,
        [image.width, image.height],
        [image.fx, image.fy, image.cx, image.cy],
        frame.depth_uri,
        None if depth is None else [depth.width, depth.height],
        None if depth is None else [depth.fx, depth.fy, depth.cx, depth.cy],
        None if depth is None else frame.depth_unit_m,
        frame.T_world_camera.ravel().tolist(),
    )


def read_frames(connection: Connection[Any], scan_id: int) -> list[Frame]:
    """Return the frames of a scan, by ascending number."""
    return [_frame(row) for row in execute(connection, "frame_rows", {"scan_id": scan_id})]


def _frame(row: tuple[Any, ...]) -> Frame:
    _scan_id, number, image_uri, image_size, image_lens, depth_uri, *depth, pose = row
    image = PixelGrid(*image_size, *image_lens)
    T_world_camera = np.asarray(pose, np.float64).reshape(4, 4)
    if depth_uri is None:
        return Frame(number, image_uri, image, T_world_camera)
    depth_size, depth_lens, unit_m = depth
    return Frame(
        number, image_uri, image, T_world_camera, depth_uri, PixelGrid(*depth_size, *depth_lens), unit_m
    )
