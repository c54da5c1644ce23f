"""Posed depth pictures fused into one coloured cloud.

Each picture votes, for the cells of a grid near what it measured, how far in front of or behind the surface
they lie; the votes are averaged and the surface is where the average is zero (Curless and Levoy, SIGGRAPH
1996). The grid is Open3D's (Zhou, Park and Koltun 2018; Dong et al. 2021): only blocks that hold a surface
take memory, so that it grows with what is seen, not with the number of pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.checks import check_array
from open3dsg.geometry.pixels import PixelGrid

# A measurement speaks for cells up to this many cells in front of and behind it: more than the noise of depth
# cameras (1 to 3 cm in a room, at 2 cm a cell), less than most things are thick.
TRUNCATION_CELLS = 4.0

_BLOCK_CELLS = 8  # a side
_CELL_BYTES = 5 * 4  # distance, weight and three colours, float32
_BLOCK_BYTES = _BLOCK_CELLS**3 * _CELL_BYTES
_FIRST_BLOCKS = 4096  # the grid doubles when it is full
_MOST_BLOCKS = 400_000  # 4 GB, twice that while it grows: a floor of a building at 2 cm
_STRIDE = 4  # pixels, of Open3D's search for blocks
_SEEN_ONCE = 0.5  # a weight: each picture adds 1
# Cells stand this much beside the multiples of their size: a wall of whole millimetres before a camera at
# 0 0 0 would otherwise lie on cells, where the average is zero and does not cross it.
_OFF_GRID_M = 0.000137


@dataclass(frozen=True)
class FusedCloud:
    """Points where the surface crosses the grid, sorted by x, y, z: the same pictures, the same rows."""

    xyz_m: NDArray[np.float32]  # (N, 3), in the world of the poses
    rgb: NDArray[np.uint8]  # (N, 3), the mean over the pictures
    normals: NDArray[np.float32]  # (N, 3), unit length, to the side that the cameras were on


class Fusion:
    """A grid that pictures are added to, one after the other."""

    def __init__(self, voxel_m: float, max_depth_m: float) -> None:
        """Start empty: cells of `voxel_m`, depth beyond `max_depth_m` ignored.

        Raises UserError where Open3D is not installed.
        """
        try:
            import open3d as o3d
        except (ImportError, OSError) as error:  # OSError: a library of the system that it needs is missing
            raise UserError(
                "fusing pictures needs Open3D (and, on Debian, the package libusb-1.0-0):"
                f" pip install 'open3dsg[rgbd]' ({error})"
            ) from error
        core: Any = o3d.core  # its stubs do not know its arguments
        shapes: Any = o3d.t.geometry
        self._tensor = core.Tensor
        self._image = shapes.Image
        self._points = shapes.PointCloud
        self._grid = shapes.VoxelBlockGrid(
            attr_names=("tsdf", "weight", "color"),
            attr_dtypes=(core.float32, core.float32, core.float32),
            attr_channels=((1), (1), (3)),
            voxel_size=voxel_m,
            block_resolution=_BLOCK_CELLS,
            block_count=_FIRST_BLOCKS,
            device=core.Device("CPU:0"),
        )
        self._voxel_m = float(voxel_m)
        self._max_depth_m = float(max_depth_m)

    def add(
        self,
        image: NDArray[np.uint8],
        image_grid: PixelGrid,
        depth_m: NDArray[np.float32],
        depth_grid: PixelGrid,
        T_world_camera: NDArray[np.float64],
    ) -> int:
        """Add one frame and return how many of its depth pixels were used.

        `image`: (h, w, 3) uint8; `depth_m`: (h, w) float32 z-depth, 0 is no measurement; `T_world_camera`:
        (4, 4) float64, rigid, OpenCV axes; both pictures share it and may differ in size and camera. Depth
        that the photograph does not show is left out: it would have no colour. Raises ValueError where a
        picture does not have the size of its grid, UserError where the grid outgrows the memory set for it.
        """
        check_array("image", image, (image_grid.height, image_grid.width, 3), np.uint8)
        check_array("depth_m", depth_m, (depth_grid.height, depth_grid.width), np.float32)
        check_array("T_world_camera", T_world_camera, (4, 4), np.float64)
        usable = (depth_m > 0) & (depth_m <= self._max_depth_m) & shown_in(image_grid, depth_grid)
        used = int(usable.sum())
        if used:
            usable_m = np.where(usable, depth_m, np.float32(0))
            self._integrate(image, image_grid, usable_m, depth_grid, T_world_camera)
        return used

    def cloud(self) -> FusedCloud:
        """Return the surface so far; no points where nothing was added."""
        found = self._grid.extract_point_cloud(_SEEN_ONCE) if self._blocks() else None
        if found is None or found.is_empty():
            nothing = np.empty((0, 3), np.float32)
            return FusedCloud(nothing, nothing.astype(np.uint8), nothing)
        xyz_m, colours, normals = (
            getattr(found.point, name).numpy() for name in ("positions", "colors", "normals")
        )
        xyz_m = (xyz_m.astype(np.float64) - _OFF_GRID_M).astype(np.float32)
        order = np.lexsort((*colours.T, *xyz_m.T[::-1]))  # threads leave the points in any order
        rgb = np.rint(np.clip(colours[order], 0, 1) * 255).astype(np.uint8)
        return FusedCloud(xyz_m[order], rgb, _unit(normals[order]))

    def _integrate(
        self,
        image: NDArray[np.uint8],
        image_grid: PixelGrid,
        depth_m: NDArray[np.float32],
        depth_grid: PixelGrid,
        T_world_camera: NDArray[np.float64],
    ) -> None:
        depth, colour = self._image(depth_m), self._image(image.astype(np.float32) / 255)
        depth_camera, image_camera = self._tensor(_matrix(depth_grid)), self._tensor(_matrix(image_grid))
        T_grid_camera = T_world_camera.copy()
        T_grid_camera[:3, 3] += _OFF_GRID_M
        T_camera_grid = self._tensor(np.linalg.inv(T_grid_camera))
        bounds = (1.0, self._max_depth_m, TRUNCATION_CELLS)  # pixels a metre, furthest, truncation
        if _looked_at(depth_m).any():
            near = self._grid.compute_unique_block_coordinates(depth, depth_camera, T_camera_grid, *bounds)
        else:
            points = self._points(self._tensor(_measured(depth_m, depth_grid, T_grid_camera)))
            near = self._grid.compute_unique_block_coordinates(points, TRUNCATION_CELLS)
        if self._blocks() + len(near) > _MOST_BLOCKS:
            self._refuse()
        self._grid.integrate(near, depth, colour, depth_camera, image_camera, T_camera_grid, *bounds)

    def _blocks(self) -> int:
        return int(self._grid.hashmap().size())

    def _refuse(self) -> None:
        raise UserError(
            f"at --voxel {self._voxel_m:g} this recording needs more than"
            f" {_MOST_BLOCKS * _BLOCK_BYTES / 1e9:.0f} GB of memory: give a larger --voxel"
        )


def shown_in(image_grid: PixelGrid, depth_grid: PixelGrid) -> NDArray[np.bool_]:
    """Tell which pixels of the depth picture, (h, w), the photograph shows; both look along one axis."""
    row, column = np.ogrid[: depth_grid.height, : depth_grid.width]
    x = image_grid.fx * (column - depth_grid.cx) / depth_grid.fx + image_grid.cx
    y = image_grid.fy * (row - depth_grid.cy) / depth_grid.fy + image_grid.cy
    across = (x >= -0.5) & (x <= image_grid.width - 0.5)
    down = (y >= -0.5) & (y <= image_grid.height - 0.5)
    shown: NDArray[np.bool_] = across & down
    return shown


def _looked_at(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the pixels in which Open3D looks for blocks: where none measured anything, it raises."""
    height, width = (side // _STRIDE * _STRIDE for side in depth_m.shape)
    return depth_m[:height:_STRIDE, :width:_STRIDE]


def _measured(
    depth_m: NDArray[np.float32], grid: PixelGrid, T_world_camera: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the points that were measured, (P, 3) float32 in the world."""
    row, column = np.nonzero(depth_m)
    z = depth_m[row, column]
    rays = np.stack([(column - grid.cx) / grid.fx, (row - grid.cy) / grid.fy, np.ones(len(z))], axis=1)
    points: NDArray[np.float64] = (rays * z[:, None]) @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
    return points.astype(np.float32)


def _matrix(grid: PixelGrid) -> NDArray[np.float64]:
    return np.array([[grid.fx, 0, grid.cx], [0, grid.fy, grid.cy], [0, 0, 1]])


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return np.where(np.isfinite(unit).all(axis=1, keepdims=True), unit, 0).astype(np.float32)
