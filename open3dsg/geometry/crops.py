"""From an instance's pixels on the depth grid to upright crops of the photograph.

Two kinds of box occur. A *pixel box* (x_min, y_min, x_max, y_max) names its first and last pixels, both
inclusive, as `visibility` gives it. An *edge box* (left, top, right, bottom) lies on the borders between
pixels: pixel column x reaches from x to x + 1, the picture from 0 to its width, and with whole numbers
``picture[top:bottom, left:right]`` cuts it out. Shapes are (height, width), as of arrays.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.checks import check_array
from open3dsg.geometry.pixels import PixelGrid

# Open3DSG's crop scales (Koch et al., CVPR 2024), in the order in which they are taken: each adds a context
# that differs much from those before it.
_CROP_SCALES = (1.0, 1.5, 1.2, 2.0, 2.5, 1.8, 2.2, 2.8)

# An edge this close to the border between two pixels lies on it: far above rounding, far below a pixel.
_ON_BORDER = 1e-6

_Number = TypeVar("_Number", np.int32, np.int64, np.float64)


def crop_scales(count: int) -> tuple[float, ...]:
    """Give the first `count` of the eight published crop scales, in their order: 1.0, 1.5, 1.2, 2.0, ..."""
    if not 1 <= count <= len(_CROP_SCALES):
        raise UserError(f"--scales is {count}: give 1 to {len(_CROP_SCALES)}")
    return _CROP_SCALES[:count]


def pair_crop_scales(count: int) -> tuple[float, ...]:
    """Give the scales of a pair's crops, 1 + (s - 1) / 2 for each published scale s: 1.0, 1.25, 1.1, ...

    The box around both ends shows context by itself.
    """
    return tuple(1 + (scale - 1) / 2 for scale in crop_scales(count))


def scale_box(box: NDArray[np.int32], from_grid: PixelGrid, to_grid: PixelGrid) -> NDArray[np.float64]:
    """Map pixel boxes of one grid to edge boxes of another camera at the same place, looking the same way.

    `box`: (M, 4) int32, inclusive; returns (M, 4) float64, from the outer edge of the first pixel to the
    outer edge of the last, not clipped to the other picture. The two cameras share the optical axis, not
    the intrinsics: 3RScan's depth pixels are not even square (fx 177, fy 241 on 224 x 172).
    """
    check_array("box", box, (None, 4), np.int32)
    edges = box + np.array([-0.5, -0.5, 0.5, 0.5])  # pixel centres lie on whole numbers in the intrinsics
    from_centre = np.tile([from_grid.cx, from_grid.cy], 2)
    to_centre = np.tile([to_grid.cx, to_grid.cy], 2)
    zoom = np.tile([to_grid.fx / from_grid.fx, to_grid.fy / from_grid.fy], 2)
    mapped: NDArray[np.float64] = (edges - from_centre) * zoom + to_centre + 0.5
    return mapped


def expand_box(box: NDArray[np.float64], scale: float, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Scale edge boxes about their centres and clip them to a picture of `shape` (height, width).

    `box`: (M, 4) float64; returns (M, 4) int32 edge boxes that cover every pixel touched. A box wholly
    outside the picture comes back empty (left == right or top == bottom): there is nothing to cut out.
    """
    check_array("box", box, (None, 4), np.float64)
    centre = (box[:, :2] + box[:, 2:]) / 2
    half = (box[:, 2:] - box[:, :2]) / 2 * scale
    low = np.floor(centre - half + _ON_BORDER)
    high = np.ceil(centre + half - _ON_BORDER)
    limit = np.array([shape[1], shape[0]])
    return np.hstack([np.clip(low, 0, limit), np.clip(high, 0, limit)]).astype(np.int32)


def upright_quarter_turns(T_world_camera: NDArray[np.float64]) -> int:
    """Count the counter-clockwise quarter turns (`k` of numpy.rot90) that set a picture upright.

    Upright is where the direction of world +z in the picture is closest to up: its larger component decides,
    the vertical one where both are equal. A picture taken straight up or down has no upright; what little
    is left of that direction decides all the same, and where nothing is left the picture stays as it is.
    `T_world_camera`: (4, 4) float64, camera to world, OpenCV axes.
    """
    check_array("T_world_camera", T_world_camera, (4, 4), np.float64)
    right, down = T_world_camera[2, :2]  # how much world z grows along the picture's x and y
    if abs(right) > abs(down):
        return 1 if right > 0 else 3
    return 2 if down > 0 else 0


def turn_pixels(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int], quarter_turns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Follow pixels through ``numpy.rot90(picture, quarter_turns)`` of a picture of `shape` (height, width).

    `rows`, `columns`: int64 of one shape; returns those of the same pixels in the turned picture.
    """
    height, width = shape
    turned = (
        (rows, columns),
        (width - 1 - columns, rows),
        (height - 1 - rows, width - 1 - columns),
        (columns, height - 1 - rows),
    )
    return turned[quarter_turns % 4]


def turn_box(box: NDArray[_Number], shape: tuple[int, int], quarter_turns: int) -> NDArray[_Number]:
    """Follow edge boxes, (M, 4), through ``numpy.rot90(picture, quarter_turns)`` of a picture of `shape`."""
    _check_boxes(box)
    height, width = shape
    left, top, right, bottom = box.T
    turned = (
        (left, top, right, bottom),
        (top, width - right, bottom, width - left),
        (width - right, height - bottom, width - left, height - top),
        (height - bottom, left, height - top, right),
    )
    return np.stack(turned[quarter_turns % 4], axis=1)


def _check_boxes(box: NDArray[Any]) -> None:
    if box.ndim != 2 or box.shape[1] != 4:
        raise ValueError(f"box: expected (any, 4), got {box.shape}")
