"""A PLY file of points, as open3d reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from open3dsg.datasets.scan import Cloud
from open3dsg.export.clouds import write_ply
from tests import miniature as mini


def test_open3d_reads_what_was_written(tmp_path: Path) -> None:
    open3d = pytest.importorskip("open3d")
    xyz, numbers, rgb = mini.points()
    normals = np.random.default_rng(2).normal(size=xyz.shape).astype(np.float32)
    write_ply(
        tmp_path / "room.ply",
        Cloud(xyz.astype(np.float32), rgb, numbers.astype(np.int32), normals),
        {1: "floor " * 200, 2: "\N{COUCH AND LAMP}" * 200},
    )
    read = open3d.t.io.read_point_cloud(str(tmp_path / "room.ply")).point
    np.testing.assert_array_equal(read.positions.numpy(), xyz.astype(np.float32))
    np.testing.assert_array_equal(read.normals.numpy(), normals)
    np.testing.assert_array_equal(read.colors.numpy(), rgb)
    np.testing.assert_array_equal(read["instance"].numpy()[:, 0], numbers)
