"""Which frames show an instance, or a pair of them, well enough to be looked at, and which show it best.

The rules are those of Open3DSG (Koch et al., CVPR 2024). A frame qualifies by the share of the instance's
points that it shows together with the area of the instance's pixel box, or by a large area alone; an item
that too few frames qualify for is left out. Of the others those with the largest share are taken.

Rows are observations: an instance in a frame. Areas are in pixels of one grid, on which the thresholds stand;
those of a frame with another grid are scaled, so that a threshold is the same share of every picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.checks import check_array

# Width x height of the depth pictures that the published thresholds were chosen on.
SCANNET_GRID_PX = 320 * 240
THREERSCAN_GRID_PX = 224 * 172


@dataclass(frozen=True)
class LookThresholds:
    """When a frame qualifies; every bound is exclusive.

    It does where more than `min_visibility` of the points are visible and the box covers more than
    `min_area_px` (None: whatever it covers), or where the box covers more than `large_area_px`. Areas are
    pixels of a picture of `grid_px` pixels. Items with fewer than `min_frames` such frames are left out.
    """

    min_visibility: float
    min_area_px: float | None
    large_area_px: float
    min_frames: int = 2
    grid_px: int = SCANNET_GRID_PX

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, naming the option."""
        _check("--min-visibility", self.min_visibility, most=1.0)
        _check("--min-area", self.min_area_px)
        _check("--large-area", self.large_area_px)
        if self.min_frames < 1:
            raise UserError(f"--min-frames is {self.min_frames}: give 1 or more")


def box_areas(box: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the areas of inclusive pixel boxes as published, (x_max - x_min) * (y_max - y_min).

    `box`: (N, 4) int32; returns (N,). That is a row and a column less than the box covers: the thresholds
    were chosen with it.
    """
    check_array("box", box, (None, 4), np.int32)
    sides = (box[:, 2:] - box[:, :2]).astype(np.int64)
    areas: NDArray[np.int64] = sides[:, 0] * sides[:, 1]
    return areas


def qualify(
    visibility: NDArray[np.float32],
    areas: NDArray[np.int64],
    grid_px: NDArray[np.int64],
    thresholds: LookThresholds,
) -> NDArray[np.bool_]:
    """Tell which observations show their instance well enough; all arrays (N,).

    `visibility`: visible share of the points, as the store keeps it, in single precision; the threshold is
    rounded alike, so that a share equal to it does not pass. `grid_px`: pixels of the frame's own grid.
    """
    scaled = areas * float(thresholds.grid_px)
    seen = visibility > np.float32(thresholds.min_visibility)
    if thresholds.min_area_px is not None:
        seen &= scaled > thresholds.min_area_px * grid_px
    return seen | (scaled > thresholds.large_area_px * grid_px)


def best_rows(
    item: NDArray[np.int64],
    rank: NDArray[np.float64],
    frame: NDArray[np.int32],
    top_k: int,
    min_frames: int,
) -> NDArray[np.int64]:
    """Choose the rows of each item with the highest `rank`, `top_k` at most; ties go to the earlier frame.

    `item`, `rank`, `frame`: (N,), of qualifying rows only, a frame once an item. Returns the places of the
    chosen rows, ordered by item and frame. Items of fewer than `min_frames` rows have none.
    """
    if not len(item):
        return np.empty(0, np.int64)
    order = np.lexsort((frame, -rank, item))
    _items, first, count = np.unique(item[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(first, count)
    kept = order[(place < top_k) & (np.repeat(count, count) >= min_frames)]
    chosen: NDArray[np.int64] = kept[np.lexsort((frame[kept], item[kept]))]
    return chosen


def rows_together(
    pairs: NDArray[np.int32], instance: NDArray[np.int32], frame: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the frames that show both ends of pairs.

    `pairs`: (P, 2) instance numbers; `instance`, `frame`: (N,) of the observations, ordered by instance, then
    frame. Returns, one entry a pair and shared frame, ordered by pair and frame: the place of the pair, of
    the observation of its first end, and of that of its second, all (M,).
    """
    check_array("pairs", pairs, (None, 2), np.int32)
    begin = np.searchsorted(instance, pairs[:, 0])
    count = np.searchsorted(instance, pairs[:, 0], side="right") - begin
    pair = np.repeat(np.arange(len(pairs)), count)
    first = np.arange(count.sum()) + np.repeat(begin - (np.cumsum(count) - count), count)
    keys = _keys(instance, frame)
    wanted = _keys(pairs[pair, 1], frame[first])
    second = np.searchsorted(keys, wanted)
    shared = second < len(keys)
    shared[shared] = keys[second[shared]] == wanted[shared]
    return pair[shared], first[shared], second[shared]


def enclosing_boxes(one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the smallest boxes that hold both of (N, 4) boxes."""
    return np.hstack([np.minimum(one[:, :2], other[:, :2]), np.maximum(one[:, 2:], other[:, 2:])])


def _keys(instance: NDArray[np.int32], frame: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return one number an observation, in the order of instance and frame."""
    return instance.astype(np.int64) << 32 | frame


def _check(option: str, value: float | None, most: float = math.inf) -> None:
    if value is None or (math.isfinite(value) and 0 <= value <= most):
        return
    bound = "0 or more" if most == math.inf else f"0 to {most:g}"
    raise UserError(f"{option} is {value:g}: give {bound}")
