"""Which instance of a cloud is seen in which frame, and at which pixels of the depth grid.

The rule is Open3DSG's (Koch et al., CVPR 2024): a point is visible where its projection, rounded to the
nearest pixel, falls on a depth measurement that agrees with the point's own depth to a relative tolerance.
An instance is kept in a frame by the number and the share of its visible points. The cloud is grouped by
instance once; a frame then costs one pass over the points of the instances whose boxes reach into the view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.checks import check_array, check_finite, check_same_length
from open3dsg.geometry.compiled import array_type, compiled
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.geometry.thresholds import VisibilityThresholds

# Points are looked at in blocks of neighbours within an instance: small enough that their work arrays stay in
# the first-level cache and that those out of view are passed over together, large enough to pay for a test.
_BLOCK = 256
_CELL_M = 0.2  # points of one cell are neighbours

# Boxes are tested against a view that is this much wider, so that rounding in the test of a box can never
# hide a block with a point that its own test would find inside.
_MARGIN_PX = 1.0
_MARGIN_PX_M = 1e-6


@dataclass(frozen=True)
class FrameObservations:
    """The M instances kept in one frame, by ascending instance number.

    `pixel_ids[pixel_offsets[i]:pixel_offsets[i + 1]]` are the pixels on which instance i has a visible
    point, each once, ascending; a pixel's id is ``row * width + column`` on the depth grid.
    """

    numbers: NDArray[np.int32]  # (M,)
    visible_points: NDArray[np.int32]  # (M,)
    unique_pixels: NDArray[np.int32]  # (M,)
    visibility_ratio: NDArray[np.float32]  # (M,) visible points / all points of the instance
    box: NDArray[np.int32]  # (M, 4) x_min, y_min, x_max, y_max, inclusive
    pixel_offsets: NDArray[np.int64]  # (M + 1,)
    pixel_ids: NDArray[np.int32]  # (P,)


class Observer:
    """A cloud, ready to be looked at from many frames.

    It keeps its own copy of the points and the work arrays that every frame reuses, so that its memory does
    not grow with the frames; one Observer must therefore not serve two threads at once.
    """

    numbers: NDArray[np.int32]  # (K,) every instance number of the cloud, ascending
    point_count: NDArray[np.int64]  # (K,)

    def __init__(self, points_world: NDArray[np.float32], instance: NDArray[np.int32]) -> None:
        """Group the points by instance, and those of an instance into blocks of neighbours.

        `points_world`: (N, 3) float32, metres; `instance`: (N,) int32, -1 is background, which is left
        out. Raises ValueError for a wrong shape or dtype, UserError for a point that is not finite.
        """
        check_array("points_world", points_world, (None, 3), np.float32)
        check_array("instance", instance, (None,), np.int32)
        check_same_length("points_world", points_world, "instance", instance)
        check_finite("the cloud", points_world)
        foreground = np.flatnonzero(instance >= 0)
        order = foreground[np.lexsort((_places(points_world[foreground]), instance[foreground]))]
        self._xyz = np.ascontiguousarray(points_world[order].T)
        self.numbers, starts = np.unique(instance[order], return_index=True)
        self.point_count = np.diff(np.append(starts, len(order))).astype(np.int64)
        blocks = -(-self.point_count // _BLOCK)
        self._block_instance = np.repeat(np.arange(len(blocks)), blocks)
        within = np.arange(len(self._block_instance)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        self._block_start = starts[self._block_instance] + within * _BLOCK
        self._block_size = np.diff(np.append(self._block_start, len(order)))
        self._low = np.minimum.reduceat(self._xyz, self._block_start, axis=1).T.astype(np.float64)
        self._high = np.maximum.reduceat(self._xyz, self._block_start, axis=1).T.astype(np.float64)
        self._pixel_ids = np.empty(len(order), np.int32)
        self._last_seen = np.empty((0, 0), np.int32)

    def observe(
        self,
        depth_m: NDArray[np.float32],
        grid: PixelGrid,
        T_world_camera: NDArray[np.float64],
        thresholds: VisibilityThresholds,
        by_points_alone: NDArray[np.bool_] | None = None,
    ) -> FrameObservations:
        """Find the instances seen in one frame.

        `depth_m`: (height, width) float32, z-depth in metres on `grid`; a pixel that is 0, negative, NaN
        or infinite holds no measurement. `T_world_camera`: (4, 4) float64, camera to world, OpenCV axes.
        `by_points_alone`: (K,) bool along `self.numbers`; those marked, such as walls and floors, of
        which one picture shows a small part, are kept by `enough_points` alone.
        Raises ValueError for a wrong shape or dtype, UserError for a pose that has no inverse.
        """
        check_array("depth_m", depth_m, (grid.height, grid.width), np.float32)
        check_array("T_world_camera", T_world_camera, (4, 4), np.float64)
        if by_points_alone is None:
            by_points_alone = np.zeros(len(self.numbers), np.bool_)
        check_array("by_points_alone", by_points_alone, (len(self.numbers),), np.bool_)
        T_camera_world = _inverse(T_world_camera)
        blocks = self._in_view(T_camera_world, grid, thresholds.border)
        candidates, first_blocks = np.unique(self._block_instance[blocks], return_index=True)
        needed_ratio = np.where(by_points_alone[candidates], np.inf, thresholds.min_ratio)
        visible, boxes, ends = self._look(
            candidates,
            blocks=blocks,
            candidate_blocks=np.append(first_blocks, len(blocks)),
            needed_ratio=needed_ratio,
            depth_m=np.ascontiguousarray(depth_m),
            grid=grid,
            T_camera_world=T_camera_world,
            thresholds=thresholds,
        )
        kept = np.flatnonzero(visible)
        offsets = np.append(np.zeros(1, np.int64), ends[kept])
        return FrameObservations(
            numbers=self.numbers[candidates[kept]],
            visible_points=visible[kept],
            unique_pixels=np.diff(offsets).astype(np.int32),
            visibility_ratio=(visible[kept] / self.point_count[candidates[kept]]).astype(np.float32),
            box=boxes[kept],
            pixel_offsets=offsets,
            pixel_ids=self._pixel_ids[: offsets[-1]].copy(),
        )

    def _look(
        self,
        candidates: NDArray[np.int64],
        *,
        blocks: NDArray[np.int64],
        candidate_blocks: NDArray[np.int64],
        needed_ratio: NDArray[np.float64],
        depth_m: NDArray[np.float32],
        grid: PixelGrid,
        T_camera_world: NDArray[np.float64],
        thresholds: VisibilityThresholds,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Run the compiled pass: for each candidate its visible points, box, and end in `_pixel_ids`."""
        if self._last_seen.shape != depth_m.shape:
            self._last_seen = np.empty(depth_m.shape, np.int32)
        visible = np.zeros(len(candidates), np.int32)
        boxes = np.empty((len(candidates), 4), np.int32)
        ends = np.zeros(len(candidates), np.int64)
        _observe(
            self._xyz,
            self._block_start[blocks],
            self._block_size[blocks],
            candidate_blocks,
            self.point_count[candidates],
            needed_ratio,
            T_camera_world,
            np.array([grid.fx, grid.fy, grid.cx, grid.cy], np.float64),
            depth_m,
            thresholds.border,
            thresholds.depth_tolerance,
            thresholds.min_points,
            thresholds.enough_points,
            self._last_seen,
            visible,
            boxes,
            ends,
            self._pixel_ids,
        )
        return visible, boxes, ends

    def _in_view(
        self, T_camera_world: NDArray[np.float64], grid: PixelGrid, border: int
    ) -> NDArray[np.int64]:
        """Give the indices of the blocks whose boxes are not wholly outside one plane of the view."""
        right, down, ahead = T_camera_world[:3]
        reach = 0.5 - border + _MARGIN_PX
        planes = np.stack(
            [
                ahead,
                grid.fx * right + (grid.cx + reach) * ahead,
                (grid.width - 1 + reach - grid.cx) * ahead - grid.fx * right,
                grid.fy * down + (grid.cy + reach) * ahead,
                (grid.height - 1 + reach - grid.cy) * ahead - grid.fy * down,
            ]
        )
        normals = planes[:, None, :3]
        # Of a box, the corner that lies furthest to the inner side of each plane.
        furthest = np.maximum(normals * self._low, normals * self._high).sum(axis=2) + planes[:, 3:]
        return np.flatnonzero((furthest >= -_MARGIN_PX_M).all(axis=0))


def _places(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number the cells of points, (N, 3), along a Z-order curve (Morton 1966): near numbers, near cells."""
    if len(points) == 0:
        return np.zeros(0, np.int64)
    cells = ((points - points.min(axis=0)) / np.float32(_CELL_M)).astype(np.int64).clip(0, 1023)
    places = np.zeros(len(points), np.int64)
    for bit in range(10):
        for axis in range(3):
            places |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return places


def _inverse(T_world_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert a camera's pose. It is not taken for rigid: poses in files carry six digits."""
    try:
        T_camera_world = np.linalg.inv(T_world_camera).astype(np.float64)
    except np.linalg.LinAlgError:
        T_camera_world = np.full((4, 4), np.nan)
    if not np.isfinite(T_camera_world).all():
        raise UserError(f"camera pose {T_world_camera.tolist()} has no inverse: leave the frame out")
    return T_camera_world


_FLOAT = nb.float64
_INT = nb.int64


@compiled(
    nb.void(
        array_type(nb.float32, 2),
        _INT,
        _INT,
        array_type(_FLOAT, 2),
        array_type(_FLOAT, 1),
        _INT,
        _INT,
        _INT,
        array_type(nb.int32, 1, written=True),
        array_type(_FLOAT, 1, written=True),
    )
)
def _project(
    xyz: NDArray[np.float32],
    first: int,
    count: int,
    T_camera_world: NDArray[np.float64],
    lens: NDArray[np.float64],
    width: int,
    height: int,
    border: int,
    pixel: NDArray[np.int32],
    z_camera: NDArray[np.float64],
) -> None:
    """Project `count` points from `first` on: their pixel ids, -1 outside the picture, and their depths.

    Without branches, so that the compiler turns it into vector instructions. Every sum and product is in
    the order of the plain formula, for results equal to the last bit.
    """
    right, down, ahead = T_camera_world[0], T_camera_world[1], T_camera_world[2]
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    low, last_column, last_row = float(border), float(width - 1 - border), float(height - 1 - border)
    for i in range(count):
        x, y, z = float(xyz[0, first + i]), float(xyz[1, first + i]), float(xyz[2, first + i])
        depth = ahead[0] * x + ahead[1] * y + ahead[2] * z + ahead[3]
        u = (right[0] * x + right[1] * y + right[2] * z + right[3]) * fx / depth + cx
        v = (down[0] * x + down[1] * y + down[2] * z + down[3]) * fy / depth + cy
        column, row = np.rint(u), np.rint(v)
        inside = (depth > 0) & (column >= low) & (column <= last_column) & (row >= low) & (row <= last_row)
        pixel[i] = np.int32(row * width + column) if inside else np.int32(-1)
        z_camera[i] = depth


@compiled(
    _INT(
        array_type(nb.int32, 2),
        _INT,
        array_type(nb.int32, 1),
        array_type(nb.int32, 1, written=True),
        _INT,
    )
)
def _read_off(
    last_seen: NDArray[np.int32],
    candidate: int,
    box: NDArray[np.int32],
    pixel_ids: NDArray[np.int32],
    end: int,
) -> int:
    """Write the ids of the candidate's pixels within `box`, ascending, from `end` on; return the new end."""
    for y in range(box[1], box[3] + 1):
        for x in range(box[0], box[2] + 1):
            if last_seen[y, x] == candidate:
                pixel_ids[end] = y * last_seen.shape[1] + x
                end += 1
    return end


@compiled(
    nb.void(
        array_type(nb.float32, 2),
        array_type(_INT, 1),
        array_type(_INT, 1),
        array_type(_INT, 1),
        array_type(_INT, 1),
        array_type(_FLOAT, 1),
        array_type(_FLOAT, 2),
        array_type(_FLOAT, 1),
        array_type(nb.float32, 2),
        _INT,
        _FLOAT,
        _INT,
        _INT,
        array_type(nb.int32, 2, written=True),
        array_type(nb.int32, 1, written=True),
        array_type(nb.int32, 2, written=True),
        array_type(_INT, 1, written=True),
        array_type(nb.int32, 1, written=True),
    )
)
def _observe(
    xyz: NDArray[np.float32],
    block_start: NDArray[np.int64],
    block_size: NDArray[np.int64],
    candidate_blocks: NDArray[np.int64],
    point_count: NDArray[np.int64],
    needed_ratio: NDArray[np.float64],
    T_camera_world: NDArray[np.float64],
    lens: NDArray[np.float64],
    depth_m: NDArray[np.float32],
    border: int,
    depth_tolerance: float,
    min_points: int,
    enough_points: int,
    last_seen: NDArray[np.int32],
    visible: NDArray[np.int32],
    boxes: NDArray[np.int32],
    ends: NDArray[np.int64],
    pixel_ids: NDArray[np.int32],
) -> None:
    """Fill `visible` (0 where an instance is not kept), `boxes`, `ends` and `pixel_ids` for the candidates.

    Candidate c has the blocks from `candidate_blocks[c]` to the next, and `point_count[c]` points in all.
    `last_seen` holds, for each pixel, the candidate that was last seen there: as points come grouped by
    instance, this one picture finds an instance's unique pixels, and walking the rows of the instance's
    box reads them off in ascending order.
    """
    height, width = depth_m.shape
    pixel, z_camera = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.float64)
    last_seen[:] = -1
    end = 0
    for c in range(len(point_count)):
        x_min, y_min, x_max, y_max, points = width, height, -1, -1, 0
        for block in range(candidate_blocks[c], candidate_blocks[c + 1]):
            count = block_size[block]
            _project(
                xyz, block_start[block], count, T_camera_world, lens, width, height, border, pixel, z_camera
            )
            for i in range(count):
                if pixel[i] < 0:
                    continue
                y, x = pixel[i] // width, pixel[i] % width
                depth = float(depth_m[y, x])
                if not (0 < depth < np.inf and abs(depth - z_camera[i]) <= depth_tolerance * depth):
                    continue
                points += 1
                last_seen[y, x] = c
                x_min, x_max = min(x_min, x), max(x_max, x)
                y_min, y_max = min(y_min, y), max(y_max, y)
        if points > min_points and (points > enough_points or points / point_count[c] > needed_ratio[c]):
            visible[c] = points
            boxes[c] = (x_min, y_min, x_max, y_max)
            end = _read_off(last_seen, c, boxes[c], pixel_ids, end)
        ends[c] = end
