"""The depth picture of a frame, held against its camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from open3dsg.datasets.images import ImageReader
    from open3dsg.geometry.pixels import PixelGrid


def read_frame_depth(
    images: ImageReader, uri: str, grid: PixelGrid, unit_m: float, scan: str
) -> NDArray[np.float32] | Problem:
    """Return the depth picture `uri` as (height, width) float32 metres on `grid`, or why it cannot be used.

    `scan` is the name of its scan, for the problem.
    """
    try:
        depth_m = images.read_depth_m(uri, unit_m)
    except BadFileError as error:
        return Problem("depth_unreadable", str(error))
    if depth_m.shape != (grid.height, grid.width):
        found = f"{depth_m.shape[1]}x{depth_m.shape[0]}"
        detail = f"{scan}/{uri} is {found}, its camera is {grid.width}x{grid.height}"
        return Problem("depth_of_another_size", detail)
    return depth_m
