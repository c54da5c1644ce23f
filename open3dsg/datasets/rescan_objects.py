"""What `3RScan.json` says of objects of a rescan: moved, deformed or removed since the reference scan.

    {"rigid": [{"instance_reference": 35, "instance_rescan": 35, "symmetry": 0, "transform": [16 numbers]},
               ...],
     "nonrigid": [12, ...], "removed": [7, ...]}

`transform` of a rigid object maps its points as they lie in the reference scan to where they lie in the
rescan, in the coordinates of the rescan itself: it holds the change of coordinates between the two scans and
the object's own motion together, and is the inverse of what 3RScan's toolkit hands out. Its numbers run down
the columns, in metres, as those of the scan's transform do. So it is in the published file: with T the
transform of the rescan to its reference and G that of an object, T G brings the centres of the boxes of 370
objects of the validation split to within 0.07 m (median) of where the rescan has them; no other reading comes
closer than 1.9 m, and to move nothing leaves 0.17 m. All 2,933 are rigid; 22 entries repeat an object, one of
them with other numbers.

`symmetry` counts the turns about the upright axis that leave the object as it is: 0 none, 1 half a turn, 2
quarter turns, 3 any. The hidden test split lists only the numbers of its moved objects. An object may stand
in several of the lists: 37 are both moved and deformed, 13 both moved and removed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.jsonfile import member, typed
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError
from open3dsg.geometry.rigid import is_rigid, without_dust

Change = Literal["moved", "changed", "removed"]

FARTHEST_M = 100.0  # nothing in one room is moved this far: such a number is in millimetres
_LISTS: tuple[tuple[str, Change], ...] = (("rigid", "moved"), ("nonrigid", "changed"), ("removed", "removed"))
_SYMMETRIES = range(4)
_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class ObjectChange:
    """What is said of one object of the reference scan."""

    reference: int  # its number there
    change: Change
    rescan: int | None = None  # its number in the rescan; None: not told, or removed
    T_rescan_reference: NDArray[np.float64] | None = None  # (4, 4), see the module; None: not told
    symmetry: int | None = None


@dataclass(frozen=True)
class RescanChanges:
    """What is said of the objects of a rescan; `hash` is that of the lists as the file has them."""

    objects: Sequence[ObjectChange]
    problems: Sequence[Problem]
    hash: str


def read_changes(rescan: dict[str, Any], name: str, where: str) -> RescanChanges:
    """Return the changes in `rescan`, the file's entry of the scan `name`; `where` names file and place.

    An entry that says nothing usable is left out (`rescan_object_unreadable`), as is one that names an object
    again in the same list (`rescan_object_twice`); a transform that cannot be one is left out, and its object
    kept (`move_not_rigid`, `move_too_far`); so is a symmetry (`symmetry_unknown`). Raises BadFileError where
    a list is none.
    """
    found: dict[tuple[int, Change], ObjectChange] = {}
    problems: list[Problem] = []
    for place, change, entry in _entries(rescan, where):
        try:
            said = _read(entry, change, place)
        except BadFileError as error:
            problems.append(Problem("rescan_object_unreadable", f"{name}: {error}: left out"))
            continue
        if (said.reference, change) in found:
            detail = f"{name}: {place}: object {said.reference} is listed as {change} before: left out"
            problems.append(Problem("rescan_object_twice", detail))
            continue
        said, flaws = _checked(said, name)
        found[said.reference, change] = said
        problems += flaws
    return RescanChanges(tuple(found.values()), tuple(problems), _hash(rescan))


def read_transform(record: dict[str, Any], where: str) -> NDArray[np.float64]:
    """Return the `transform` of `record`, (4, 4) float64, whose numbers run down its columns.

    Raises BadFileError for what is not 16 numbers.
    """
    try:
        numbers = np.array(member(record, "transform", list, where), np.float64).reshape(4, 4)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadFileError(f"{where}: 'transform' must be 16 numbers") from error
    return without_dust(numbers.T)


def _entries(rescan: dict[str, Any], where: str) -> Iterator[tuple[str, Change, Any]]:
    for key, change in _LISTS:
        entries = member(rescan, key, list, where) if key in rescan else []
        for index, entry in enumerate(entries):
            yield f"{where}.{key}[{index}]", change, entry


def _read(entry: Any, change: Change, where: str) -> ObjectChange:
    if change != "moved" or not isinstance(entry, dict):
        return ObjectChange(_number(entry, where), change)
    return ObjectChange(
        reference=_number(member(entry, "instance_reference", int, where), where),
        change=change,
        rescan=_number(member(entry, "instance_rescan", int, where), where),
        T_rescan_reference=read_transform(entry, where),
        symmetry=typed(entry["symmetry"], int, f"{where}: 'symmetry'") if "symmetry" in entry else None,
    )


def _number(value: Any, where: str) -> int:
    number = typed(value, int, where)
    if not 0 <= number <= _LARGEST_NUMBER:
        raise BadFileError(f"{where}: {number} is no number of an object")
    return number


def _checked(said: ObjectChange, name: str) -> tuple[ObjectChange, list[Problem]]:
    """Leave out what cannot be of the transform and the symmetry."""
    about = f"{name}: object {said.reference}"
    problems = []
    transform, symmetry = said.T_rescan_reference, said.symmetry
    if transform is not None and not is_rigid(transform):
        detail = f"{about}: its transform is no rotation and translation, left out"
        problems.append(Problem("move_not_rigid", detail))
        transform = None
    elif transform is not None and (distance_m := math.hypot(*transform[:3, 3])) > FARTHEST_M:
        detail = f"{about}: its transform moves it by {distance_m:.0f} m, left out; is it in millimetres?"
        problems.append(Problem("move_too_far", detail))
        transform = None
    if symmetry is not None and symmetry not in _SYMMETRIES:
        problems.append(Problem("symmetry_unknown", f"{about}: its symmetry is {symmetry}, not 0 to 3"))
        symmetry = None
    return ObjectChange(said.reference, said.change, said.rescan, transform, symmetry), problems


def _hash(rescan: dict[str, Any]) -> str:
    lists = {key: rescan.get(key) for key, _change in _LISTS}
    return hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()[:16]
