"""Points of a scan, to and from the compact blocks of `point_block`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.scan import Cloud
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

# 64 Ki points make rows of about 1 MB: few round trips, and no reader holds more than a row at a time.
BLOCK_POINTS = 65_536


def write_cloud(connection: Connection[Any], scan_id: int, cloud: Cloud) -> int:
    """Write the blocks of a cloud; return their number."""
    columns = {
        "scan_id": "int8",
        "block_no": "int4",
        "point_count": "int4",
        "xyz_m": "bytea",
        "rgb": "bytea",
        "instance_no": "bytea",
        "normals": "bytea",
    }
    return copy_in(connection, "point_block", columns, _blocks(scan_id, cloud))


def _blocks(scan_id: int, cloud: Cloud) -> Iterator[tuple[object, ...]]:
    for block, start in enumerate(range(0, len(cloud.xyz_m), BLOCK_POINTS)):
        part = slice(start, start + BLOCK_POINTS)
        normals = None if cloud.normals is None else cloud.normals[part].astype("<f4").tobytes()
        yield (
            scan_id,
            block,
            len(cloud.xyz_m[part]),
            cloud.xyz_m[part].astype("<f4").tobytes(),
            cloud.rgb[part].astype("u1").tobytes(),
            cloud.instance[part].astype("<i4").tobytes(),
            normals,
        )


def read_cloud(connection: Connection[Any], scan_id: int, scan: str) -> Cloud:
    """Read all points of a scan; `scan` is its name, for the message where it has none."""
    blocks = execute(connection, "point_blocks", {"scan_id": scan_id}, binary=True).fetchall()
    if not blocks:
        raise UserError(f"scan {scan} has no points in the database: run `open3dsg ingest` for it first")
    xyz, rgb, instance, normals = zip(*blocks, strict=True)
    return Cloud(
        xyz_m=np.frombuffer(b"".join(xyz), "<f4").reshape(-1, 3),
        rgb=np.frombuffer(b"".join(rgb), "u1").reshape(-1, 3),
        instance=np.frombuffer(b"".join(instance), "<i4"),
        normals=None if None in normals else np.frombuffer(b"".join(normals), "<f4").reshape(-1, 3),
        colour_source=fetch_value(connection, "scan_colour_source", {"scan_id": scan_id}),
    )
