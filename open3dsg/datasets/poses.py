"""Poses out of files: sixteen numbers that must be a rotation and a translation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open3dsg.geometry.checks import FURTHEST_M
from open3dsg.geometry.rigid import is_rigid


class Flaw(NamedTuple):
    """Why a pose cannot be used: the kind of the problem, and the rest of its detail."""

    kind: str
    why: str


def parse_pose(text: bytes) -> NDArray[np.float64] | Flaw:
    """Return the (4, 4) pose of a text file, row by row; a Flaw of `check_pose`, or `pose_unreadable`."""
    try:
        pose = np.array([float(word) for word in text.split()]).reshape(4, 4)
    except ValueError:
        return Flaw("pose_unreadable", "the pose is not 16 numbers, left out")
    return check_pose(pose)


def check_pose(pose: NDArray[np.float64]) -> NDArray[np.float64] | Flaw:
    """Return `pose` (4, 4), or why it is none: `pose_not_finite`, `pose_not_rigid`, `pose_too_far`."""
    if not np.isfinite(pose).all():
        return Flaw("pose_not_finite", "the pose holds NaN or infinity, left out")
    if not is_rigid(pose):
        return Flaw("pose_not_rigid", "the pose is no rotation and translation, left out")
    if np.abs(pose[:3, 3]).max() > FURTHEST_M:
        return Flaw("pose_too_far", f"the camera is further than {FURTHEST_M:g} m away, left out")
    return pose
