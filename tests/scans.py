"""What tests of readers share: looking into a Scan, and spoiling files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from open3dsg.datasets.scan import Cloud, Scan
from tests import miniature as mini


def cloud_of(scan: Scan) -> Cloud:
    assert scan.cloud is not None
    return scan.cloud


def kinds(scan: Scan) -> list[str]:
    return [problem.kind for problem in scan.problems]


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def check_clean(scan: Scan) -> None:
    """Assert that `scan` holds exactly what the miniature was written with."""
    xyz, numbers, colours = mini.points()
    cloud = cloud_of(scan)
    assert scan.problems == ()
    assert scan.labels == mini.LABELS
    np.testing.assert_allclose(cloud.xyz_m, xyz, atol=1e-6)
    np.testing.assert_array_equal(cloud.instance, np.where(numbers == 0, -1, numbers))
    np.testing.assert_array_equal(cloud.rgb, colours)
    across = np.repeat([thing.across for thing in mini.ROOM], mini.GRID**2)
    np.testing.assert_array_equal(cloud.normals, np.eye(3, dtype=np.float32)[across])
    assert [array.dtype.name for array in (cloud.xyz_m, cloud.rgb, cloud.instance)] == [
        "float32",
        "uint8",
        "int32",
    ]
    assert [frame.number for frame in scan.frames] == list(range(mini.FRAMES))
    for frame in scan.frames:
        np.testing.assert_allclose(frame.T_world_camera, mini.pose(frame.number), atol=1e-8)
        assert (frame.image.width, frame.image.height, frame.image.fx) == (*mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        assert frame.depth is not None
        assert (frame.depth.cx, frame.depth.cy) == (
            (mini.DEPTH_SIZE[0] - 1) / 2,
            (mini.DEPTH_SIZE[1] - 1) / 2,
        )
        assert frame.depth_unit_m == 0.001
