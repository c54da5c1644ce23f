"""Rigid transforms: 4x4 matrices that rotate and move, and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array


def is_rigid(transform: NDArray[np.float64], tolerance: float = 1e-3) -> bool:
    """Tell whether `transform`, (4, 4) float64, is finite, a proper rotation and a translation.

    `tolerance` bounds each entry of ``R^T R - 1`` and of the last row's difference from 0 0 0 1; the
    matrices of files carry about six digits.
    """
    check_array("transform", transform, (4, 4), np.float64)
    if not np.isfinite(transform).all():
        return False
    rotation = transform[:3, :3]
    if np.abs(rotation).max() > 2:  # the square of a number from a damaged file may overflow
        return False
    deviation = max(
        np.abs(rotation.T @ rotation - np.eye(3)).max(), np.abs(transform[3] - [0.0, 0.0, 0.0, 1.0]).max()
    )
    return bool(deviation <= tolerance and np.linalg.det(rotation) > 0)
