"""Instance masks of frames lifted onto the points of a scan, through depth and poses.

A point lies on the mask of the pixel that its projection rounds to, where the depth measured there is its
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.errors import UserError
from open3dsg.geometry.checks import check_array, check_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from open3dsg.geometry.pixels import PixelGrid


@dataclass(frozen=True)
class LiftedMasks:
    """The M masks of all frames as sets of points of a scan, frame after frame.

    Entry i says that point `point[i]` lies on mask `mask[i]`; a point lies on one mask of a frame at most.
    """

    point: NDArray[np.int32]  # (E,)
    mask: NDArray[np.int32]  # (E,) ascending
    frame: NDArray[np.int32]  # (M,) the frame of each mask, numbered from 0, ascending
    seen: NDArray[np.bool_]  # (N,) some frame sees the point, on a mask or beside all


class MaskLifter:
    """The points of a scan, onto which masks are lifted frame by frame."""

    def __init__(self, points_world: NDArray[np.float32], depth_tolerance_m: float, min_points: int) -> None:
        """Take the points, (N, 3) float32, metres; masks with fewer than `min_points` of them are left out.

        Raises ValueError for a wrong shape or dtype, UserError for a point that is not finite.
        """
        check_array("points_world", points_world, (None, 3), np.float32)
        check_finite("the cloud", points_world)
        self._xyz = np.ascontiguousarray(points_world.T)
        self._tolerance_m = depth_tolerance_m
        self._min_points = min_points
        self._seen = np.zeros(len(points_world), np.bool_)
        self._points: list[NDArray[np.int32]] = []
        self._masks: list[NDArray[np.int32]] = []
        self._frames: list[NDArray[np.int32]] = []
        self._mask_count = 0

    def add(
        self,
        mask: NDArray[np.uint16],
        depth_m: NDArray[np.float32],
        grid: PixelGrid,
        T_world_camera: NDArray[np.float64],
    ) -> tuple[int, int]:
        """Lift the masks of one more frame; return how many there are, and how many are kept.

        `mask`: (height, width) uint16 on `grid`, 0 is no mask; `depth_m` and `T_world_camera` are those of
        `visible_pixels`.
        """
        check_array("mask", mask, (grid.height, grid.width), np.uint16)
        points, pixels = visible_pixels(self._xyz, depth_m, grid, T_world_camera, self._tolerance_m)
        self._seen[points] = True
        ids = mask.ravel()[pixels]
        points, ids = points[ids > 0], ids[ids > 0]
        _, first, place, count = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
        # Numbered by their first points: ids mean nothing, and of two that are equal the first wins.
        by_first = np.argsort(first)
        place, count = np.argsort(by_first)[place], count[by_first]
        enough = count >= self._min_points
        kept = int(enough.sum())
        new = self._mask_count + np.cumsum(enough, dtype=np.int32) - 1
        points, place = points[enough[place]], place[enough[place]]
        order = np.argsort(place, kind="stable")
        self._points.append(points[order])
        self._masks.append(new[place[order]].astype(np.int32))
        self._frames.append(np.full(kept, len(self._frames), np.int32))
        self._mask_count += kept
        return len(np.unique(mask[mask > 0])), kept

    def lifted(self) -> LiftedMasks:
        """Return the masks of all frames so far."""
        none = [np.zeros(0, np.int32)]
        return LiftedMasks(
            point=np.concatenate(self._points or none),
            mask=np.concatenate(self._masks or none),
            frame=np.concatenate(self._frames or none),
            seen=self._seen.copy(),
        )


def visible_pixels(
    xyz: NDArray[np.float32],
    depth_m: NDArray[np.float32],
    grid: PixelGrid,
    T_world_camera: NDArray[np.float64],
    tolerance_m: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the points that a frame sees, (V,) int32 ascending, and the pixel of each, row * width + column.

    `xyz`: (3, N) float32, metres; `depth_m`: (height, width) float32, z-depth on `grid`; what is not above 0
    and finite is no measurement. `T_world_camera`: (4, 4) float64, OpenCV axes. A point is seen where the
    depth measured at its pixel differs from its own by `tolerance_m` at most.
    Raises ValueError for a wrong shape or dtype, UserError for a pose that has no inverse.
    """
    check_array("depth_m", depth_m, (grid.height, grid.width), np.float32)
    check_array("T_world_camera", T_world_camera, (4, 4), np.float64)
    try:
        T_camera_world = np.linalg.inv(T_world_camera)
    except np.linalg.LinAlgError as error:
        raise UserError(
            f"camera pose {T_world_camera.tolist()} has no inverse: leave the frame out"
        ) from error
    x, y, z = (T_camera_world[:3, :3] @ xyz) + T_camera_world[:3, 3:]
    ahead = np.flatnonzero(z > 0)
    with np.errstate(over="ignore", divide="ignore"):
        column = np.rint(grid.fx * x[ahead] / z[ahead] + grid.cx)
        row = np.rint(grid.fy * y[ahead] / z[ahead] + grid.cy)
    inside = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    points = ahead[inside]
    pixels = (row[inside] * grid.width + column[inside]).astype(np.int64)
    measured = depth_m.ravel()[pixels]
    agrees = (measured > 0) & (np.abs(measured - z[points]) <= tolerance_m)
    return points[agrees].astype(np.int32), pixels[agrees].astype(np.int32)
