"""From the pixels of one camera to those of another at the same place, looking the same way."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array
from open3dsg.geometry.pixels import PixelGrid

_Pixel = TypeVar("_Pixel", np.bool_, np.uint16)


def resized_grid(grid: PixelGrid, width: int, height: int) -> PixelGrid:
    """Return the camera of a picture that was scaled to `width` x `height` pixels."""
    zoom_x, zoom_y = width / grid.width, height / grid.height
    # Centres of pixels lie on whole numbers, so that what scales with the picture begins at -0.5.
    return PixelGrid(
        width,
        height,
        grid.fx * zoom_x,
        grid.fy * zoom_y,
        (grid.cx + 0.5) * zoom_x - 0.5,
        (grid.cy + 0.5) * zoom_y - 0.5,
    )


def spread_pixels(
    pixel_ids: NDArray[np.int32], from_grid: PixelGrid, to_grid: PixelGrid
) -> NDArray[np.bool_]:
    """Tell which pixels of `to_grid` have one of a set of pixels of `from_grid` as their nearest.

    `pixel_ids`: (P,) int32, row * width + column on `from_grid`. The two cameras share the optical axis, not
    the intrinsics. Returns (height, width) bool on `to_grid`; what looks past `from_grid` is False. Raises
    ValueError for an id beyond `from_grid`.
    """
    check_array("pixel_ids", pixel_ids, (None,), np.int32)
    held = np.zeros((from_grid.height, from_grid.width), np.bool_)
    if pixel_ids.size and not 0 <= pixel_ids.min() <= pixel_ids.max() < held.size:
        raise ValueError(f"pixel_ids must lie on {from_grid}")
    held.ravel()[pixel_ids] = True
    return resampled(held, from_grid, to_grid)


def resampled(picture: NDArray[_Pixel], from_grid: PixelGrid, to_grid: PixelGrid) -> NDArray[_Pixel]:
    """Return a picture as another camera at the same place, looking the same way, has it: nearest pixels.

    `picture`: (height, width) on `from_grid`; returns the same on `to_grid`, 0 where that looks past
    `from_grid`. Raises ValueError for another shape.
    """
    if picture.shape != (from_grid.height, from_grid.width):
        raise ValueError(f"picture of shape {picture.shape} must lie on {from_grid}")
    columns = _nearest(to_grid.width, to_grid.fx, to_grid.cx, from_grid.width, from_grid.fx, from_grid.cx)
    rows = _nearest(to_grid.height, to_grid.fy, to_grid.cy, from_grid.height, from_grid.fy, from_grid.cy)
    # A border that holds nothing stands for all that lies outside.
    bordered: NDArray[_Pixel] = np.pad(picture, 1)[np.ix_(rows + 1, columns + 1)]
    return bordered


def _nearest(
    to_size: int, to_f: float, to_c: float, from_size: int, from_f: float, from_c: float
) -> NDArray[np.int64]:
    """Return for each of `to_size` pixels the nearest of `from_size`; -1 or `from_size` where outside."""
    place: NDArray[np.float64] = np.rint((np.arange(to_size) - to_c) / to_f * from_f + from_c)
    return place.clip(-1, from_size).astype(np.int64)
