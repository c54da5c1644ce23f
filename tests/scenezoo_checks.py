"""Whether a frame sees what it must: of known points, which agree with the depth that was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import Frame


def agreeing(root: Path, frame: Frame, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of each point whether the depth measured where it must land is its own, to 4 %."""
    camera = frame.depth
    assert camera is not None
    assert frame.depth_uri is not None
    with ImageReader(root) as reader:
        depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
    x, y, z = np.linalg.inv(frame.T_world_camera)[:3] @ np.append(points, np.ones((len(points), 1)), axis=1).T
    column = np.rint(camera.fx * x / z + camera.cx).astype(int)
    row = np.rint(camera.fy * y / z + camera.cy).astype(int)
    inside = (z > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    measured = np.zeros(len(points))
    measured[inside] = depth_m[row[inside], column[inside]]
    agree: NDArray[np.bool_] = np.abs(measured - z) <= 0.04 * z
    return agree
