"""`SCAN.txt` of ScanNet: `key = value` lines, of which two are used.

    axisAlignment = 16 numbers     4x4, row by row: turns the axes of the device into those of the room
    numColorFrames = 1090          frames of the `.sens` file

Scans of the test split have no `axisAlignment`, and the file itself may be absent.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.files import read_bytes
from open3dsg.datasets.poses import Flaw, check_pose
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError


class ScanInfo(NamedTuple):
    """What the file says; (4, 4) one where it does not align the axes."""

    T_world_scan: NDArray[np.float64]
    frames: int | None
    problems: tuple[Problem, ...]


def read_info(path: Path, name: str) -> ScanInfo:
    """Read the file, which may be absent.

    Reports `axis_alignment_missing` and `axis_alignment_not_rigid`. Raises BadFileError for a key whose
    value cannot be read.
    """
    entries = _entries(path) if path.is_file() else {}
    frames = _numbers(entries, "numColorFrames", 1, path)
    alignment = _numbers(entries, "axisAlignment", 16, path)
    T_world_scan = np.eye(4)
    problems: tuple[Problem, ...] = ()
    if alignment is None:
        where = f"{path.name} has none" if entries else f"{path.name} is absent"
        detail = f"{name}: no axisAlignment ({where}): axes are left as they are"
        problems = (Problem("axis_alignment_missing", detail),)
    elif isinstance(checked := check_pose(alignment.reshape(4, 4)), Flaw):
        detail = f"{name}: axisAlignment is no rotation and translation: axes are left as they are"
        problems = (Problem("axis_alignment_not_rigid", detail),)
    else:
        T_world_scan = checked
    return ScanInfo(T_world_scan, None if frames is None else int(frames[0]), problems)


def _entries(path: Path) -> dict[str, str]:
    text = read_bytes(path).decode("utf-8", "replace")
    lines = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value for key, mark, value in lines if mark}


def _numbers(entries: dict[str, str], key: str, count: int, path: Path) -> NDArray[np.float64] | None:
    if key not in entries:
        return None
    try:
        values = np.array([float(word) for word in entries[key].split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise BadFileError(f"{path}: {key!r} must be {count} finite numbers: fetch the file again")
    return values
