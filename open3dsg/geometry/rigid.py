"""Rigid transforms: 4x4 matrices that rotate and move, and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import check_array

_DUST = 1e-12  # far below what a file or a measurement carries, in metres as in cosines


def without_dust(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `transform` with 0 for numbers below 1e-12.

    Products of far smaller ones underflow, which PostgreSQL takes for an error.
    """
    return np.where(np.abs(transform) < _DUST, 0.0, transform)


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
