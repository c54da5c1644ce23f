"""Samples of points as the arrays a network is shown: all of one size, about their mean, of extent 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from open3dsg.store.unit import PointSample


def gather(
    samples: Sequence[PointSample], size: int, *, use_rgb: bool
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the first `size` points of n samples of one cloud, and the instance of each point.

    (n, size, 3 or with colours 6) float32, and (n, size) int32. Positions are about the mean of a sample, the
    furthest at distance 1, coincident points at the origin; colours are 0 to 1. A smaller sample repeats its
    points, which changes neither.
    """
    clouds = np.empty((len(samples), size, 6 if use_rgb else 3), np.float32)
    if not samples:
        return clouds, np.empty((0, size), np.int32)
    cloud = samples[0].cloud
    places = np.stack([np.resize(sample.point_ids, size) for sample in samples])
    xyz = np.take(cloud.xyz_m, places, axis=0)
    centre = xyz.mean(axis=1, dtype=np.float64)
    for row in [row for row, sample in enumerate(samples) if len(sample) < size]:
        centre[row] = xyz[row, : len(samples[row])].mean(axis=0, dtype=np.float64)
    xyz -= centre[:, None].astype(np.float32)
    furthest = np.sqrt(np.einsum("nkc,nkc->nk", xyz, xyz).max(axis=1))
    furthest[furthest == 0] = 1
    np.divide(xyz, furthest[:, None, None], out=clouds[..., :3])
    if use_rgb:
        np.divide(np.take(cloud.rgb, places, axis=0), np.float32(255), out=clouds[..., 3:])
    return clouds, np.take(cloud.instance, places)
