"""`3RScan.json`: the splits, and which scans visit the same room again.

    [{"reference": NAME, "type": "train",
      "scans": [{"reference": NAME, "transform": [16 numbers], ...}, ...]}, ...]

`type` is the split of a room: its reference scan and its rescans; what a rescan says of single objects is in
`rescan_objects`. `transform` maps a rescan to its reference; the numbers run down the columns of the 4x4
matrix, so that read row by row the matrix is transposed and the translation comes last. That holds for all
903 transforms of the published file (every fourth number 0 0 0 1, proper rotations), and their translations
are in metres (median 1.0, at most 9.7), although the dataset's FAQ says millimetres. The rescans of the
hidden test split have none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.jsonfile import member, read_json
from open3dsg.datasets.paths import check_scan_name
from open3dsg.datasets.rescan_objects import FARTHEST_M, RescanChanges, read_changes, read_transform
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError
from open3dsg.geometry.rigid import is_rigid


@dataclass(frozen=True)
class Visit:
    """What `3RScan.json` says of one scan."""

    split: str
    reference: str | None = None  # None: this is the reference scan of its room
    T_reference_scan: NDArray[np.float64] | None = None  # (4, 4)
    problems: tuple[Problem, ...] = ()
    changes: RescanChanges | None = None  # of its objects; None: this is a reference scan


def read_visits(path: Path) -> dict[str, Visit]:
    """Return scan name -> Visit, in the file's order.

    A transform that cannot be one is left out and reported (`transform_not_rigid`, `transform_too_far`); of
    objects as `read_changes` does. Raises BadFileError for a scan listed twice and for anything not as the
    module shows.
    """
    visits: dict[str, Visit] = {}
    for name, visit in _each_visit(path):
        if name in visits:
            raise BadFileError(f"{path}: scan {name!r} is listed twice: remove one of the entries")
        visits[name] = visit
    return visits


def _each_visit(path: Path) -> Iterator[tuple[str, Visit]]:
    for index, room in enumerate(read_json(path, list)):
        where = f"{path}: [{index}]"
        reference = check_scan_name(member(room, "reference", str, where), where)
        split = member(room, "type", str, where)
        yield reference, Visit(split)
        for number, rescan in enumerate(member(room, "scans", list, where)):
            place = f"{where}.scans[{number}]"
            name = check_scan_name(member(rescan, "reference", str, place), place)
            T_reference_scan, problems = _transform(rescan, name, place)
            changes = read_changes(rescan, name, place)
            yield name, Visit(split, reference, T_reference_scan, problems, changes)


def _transform(
    rescan: dict[str, Any], name: str, where: str
) -> tuple[NDArray[np.float64] | None, tuple[Problem, ...]]:
    if "transform" not in rescan:
        return None, ()
    T_reference_scan = read_transform(rescan, where)
    if not is_rigid(T_reference_scan):
        detail = f"{name}: its transform to the reference scan is no rotation and translation, left out"
        return None, (Problem("transform_not_rigid", detail),)
    distance_m = math.hypot(*T_reference_scan[:3, 3])
    if distance_m > FARTHEST_M:
        detail = f"{name}: its transform moves it by {distance_m:.0f} m, left out; is it in millimetres?"
        return None, (Problem("transform_too_far", detail),)
    return T_reference_scan, ()
