"""Which instances of a scan are neighbours: 3DSSG's two ways (Wald et al., CVPR 2020), as Open3DSG has them.

By `bbox`, two are neighbours whose axis-aligned boxes overlap or touch once each is grown by the receptive
field on all sides, which is what Open3DSG (Koch et al., CVPR 2024) uses. By `radius`, two of which a point of
one is within the receptive field of a point of the other; that search stops with an error in its code, which
forks mended. Here both ways are symmetric, and no list is cut short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from open3dsg.geometry.checks import check_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from open3dsg.geometry.pairs import PairBuilder

Method = Literal["bbox", "radius"]


def near_boxes(
    numbers: NDArray[np.int32], low: NDArray[np.float64], high: NDArray[np.float64], reach_m: float
) -> NDArray[np.int32]:
    """Pair the instances whose boxes, grown by `reach_m` on all sides, overlap or touch.

    `numbers`: (M,) int32, ascending; `low`, `high`: (M, 3) float64, corners of their boxes, metres.
    Returns (P, 2) int32: a < b, by a, then b. Raises ValueError for a wrong shape or dtype.
    """
    check_array("numbers", numbers, (None,), np.int32)
    check_array("low", low, (len(numbers), 3), np.float64)
    check_array("high", high, (len(numbers), 3), np.float64)
    first, second = np.triu_indices(len(numbers), 1)
    gap = np.maximum(low[first] - high[second], low[second] - high[first])
    near = (gap <= 2 * reach_m).all(axis=1)
    return np.column_stack([numbers[first[near]], numbers[second[near]]])


def neighbour_lists(numbers: NDArray[np.int32], pairs: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    """Return the neighbours of each of `numbers`, (M,) ascending, as `pairs`, (P, 2), have them: M arrays."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return np.split(both[:, 1], np.searchsorted(both[:, 0], numbers))[1:]


def find_neighbours(
    builder: PairBuilder,
    numbers: NDArray[np.int32],
    corners_m: tuple[NDArray[np.float64], NDArray[np.float64]],
    reach_m: float,
    method: Method,
) -> list[NDArray[np.int32]]:
    """Return the neighbours of each instance of a scan: M arrays, (K,) int32, ascending.

    `numbers`: (M,) int32, ascending; `corners_m`: low and high corners of their axis-aligned boxes, (M, 3)
    float64 each, metres; `reach_m`: the receptive field.
    """
    if method == "bbox":
        return neighbour_lists(numbers, near_boxes(numbers, *corners_m, reach_m))
    return neighbour_lists(numbers, builder.close_pairs(numbers, reach_m))
