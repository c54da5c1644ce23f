"""Colours of points from posed photographs, for scans whose own colours are not at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array
from open3dsg.geometry.pixels import PixelGrid

GREY = 128


class ColourAverage:
    """The mean colour of each point over the photographs that see it.

    A point is seen where its projection, rounded to the nearest pixel, lies inside both pictures and the
    depth measured there differs from the point's own by less than `depth_tolerance`, relative. A photograph
    counts with the weight (1 - difference / tolerance)^2, so that the colour is taken from where the depths
    agree best, and a point that is never measured well still gets one. Memory is that of the points and one
    photograph, however many are added.
    """

    def __init__(self, points_world: NDArray[np.float32], depth_tolerance: float = 0.2) -> None:
        """Start without colours. `points_world`: (N, 3) float32, metres."""
        check_array("points_world", points_world, (None, 3), np.float32)
        self._points = points_world
        self._depth_tolerance = depth_tolerance
        self._sums = np.zeros((len(points_world), 3), np.float64)
        self._weights = np.zeros(len(points_world), np.float64)

    def add(
        self,
        image: NDArray[np.uint8],
        image_grid: PixelGrid,
        depth_m: NDArray[np.float32],
        depth_grid: PixelGrid,
        T_world_camera: NDArray[np.float64],
    ) -> None:
        """Take the colours of one photograph: `image` (h, w, 3) uint8, `depth_m` (h, w) float32 z-depth.

        `T_world_camera`: (4, 4) float64, rigid, OpenCV axes; both pictures share it. A depth of 0 is no
        measurement. Raises ValueError where a picture does not have the size of its grid.
        """
        check_array("image", image, (image_grid.height, image_grid.width, 3), np.uint8)
        check_array("depth_m", depth_m, (depth_grid.height, depth_grid.width), np.float32)
        check_array("T_world_camera", T_world_camera, (4, 4), np.float64)
        points_camera = (self._points - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
        ahead = np.flatnonzero(points_camera[:, 2] > 0)
        points_camera = points_camera[ahead]
        row, column, in_depth = _project(points_camera, depth_grid)
        image_row, image_column, in_image = _project(points_camera, image_grid)
        inside = np.flatnonzero(in_depth & in_image)
        measured = depth_m[row[inside], column[inside]]
        z = points_camera[inside, 2]
        # Closeness is 1 where the depths are equal and 0 or less where they do not agree.
        closeness = 1 - np.abs(measured - z) / (self._depth_tolerance * z)
        agrees = (measured > 0) & (closeness > 0)
        seen, weights = inside[agrees], closeness[agrees] ** 2
        self._sums[ahead[seen]] += weights[:, None] * image[image_row[seen], image_column[seen]]
        self._weights[ahead[seen]] += weights

    def mean(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the colours (N, 3) uint8, grey where no photograph sees the point, and (N,) bool: seen."""
        seen = self._weights > 0
        colours = np.full((len(self._points), 3), GREY, np.uint8)
        colours[seen] = np.rint(self._sums[seen] / self._weights[seen, None]).astype(np.uint8)
        return colours, seen


def _project(
    points_camera: NDArray[np.float64], grid: PixelGrid
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return row, column (0 where outside) and whether inside, of points in front of the camera."""
    x, y, z = points_camera.T
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        column = np.rint(grid.fx * x / z + grid.cx)
        row = np.rint(grid.fy * y / z + grid.cy)
    inside = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    return np.where(inside, row, 0).astype(np.int64), np.where(inside, column, 0).astype(np.int64), inside
