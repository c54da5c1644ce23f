"""Instances as segments: `semseg.v2.json` names them, `mesh.refined.0.010000.segs.v2.json` places them.

semseg.v2.json   {"segGroups": [{"objectId": 14, "label": "shower curtain", "segments": [14266, ...]}, ...]}
...segs.v2.json  {"segIndices": [4510, 4510, 4, ...]}       the segment of each vertex of the mesh
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.jsonfile import member, read_json
from open3dsg.datasets.scan import BACKGROUND, Problem
from open3dsg.errors import BadFileError


@dataclass(frozen=True)
class Groups:
    """The instances of a scan: their labels, and which segments they are made of, ascending by segment."""

    labels: Mapping[int, str]
    segments: NDArray[np.int64]  # (S,) ascending, each once
    instances: NDArray[np.int32]  # (S,) the instance each belongs to
    problems: tuple[Problem, ...]


def read_groups(path: Path, name: str) -> Groups:
    """Read `semseg.v2.json` of scan `name`.

    An instance named twice with two labels (`label_twice`) keeps the first, a segment claimed by several
    instances (`segment_shared`) goes to the first. Raises BadFileError for anything not as the module shows.
    """
    return parse_groups(read_json(path, dict), path, name)


def parse_groups(record: dict[str, Any], path: Path, name: str) -> Groups:
    """Return the groups of a document that was read from `path`; see `read_groups`."""
    labels: dict[int, str] = {}
    problems: list[Problem] = []
    segments: list[NDArray[np.int64]] = []
    owners: list[int] = []
    for index, group in enumerate(member(record, "segGroups", list, str(path))):
        where = f"{path}: segGroups[{index}]"
        number, label = member(group, "objectId", int, where), member(group, "label", str, where)
        if not 0 <= number < 2**31:
            raise BadFileError(f"{where}: 'objectId' is {number}, not a whole number from 0 on")
        if labels.setdefault(number, label) != label:
            detail = f"{name}: instance {number} is {label!r} and {labels[number]!r}; the latter counts"
            problems.append(Problem("label_twice", detail))
        segments.append(_whole_numbers(group, "segments", where))
        owners.append(number)
    lengths = [len(part) for part in segments]
    every = np.concatenate([np.empty(0, np.int64), *segments])
    unique, first = np.unique(every, return_index=True)
    if len(unique) < len(every):
        detail = f"{name}: {len(every) - len(unique)} segments are named again; their first instance counts"
        problems.append(Problem("segment_shared", detail))
    instances = np.repeat(np.array(owners, np.int32), lengths)[first]
    return Groups(labels=labels, segments=unique, instances=instances, problems=tuple(problems))


def read_vertex_segments(path: Path) -> NDArray[np.int64]:
    """Return the segment of each vertex, (N,) int64, from a `.segs.v2.json` file."""
    return _whole_numbers(read_json(path, dict), "segIndices", str(path))


def instances_of_vertices(groups: Groups, vertex_segments: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the instance of each vertex, (N,) int32; -1 where its segment belongs to none."""
    if not len(groups.segments):
        return np.full(len(vertex_segments), BACKGROUND, np.int32)
    place = np.searchsorted(groups.segments, vertex_segments).clip(max=len(groups.segments) - 1)
    found = groups.segments[place] == vertex_segments
    return np.where(found, groups.instances[place], np.int32(BACKGROUND)).astype(np.int32)


def _whole_numbers(record: object, key: str, where: str) -> NDArray[np.int64]:
    values = member(record, key, list, where)
    try:
        # Types first: numpy would make room for the longest text of the list in every place of an array.
        if set(map(type, values)) <= {int}:
            return np.array(values, np.int64)
    except OverflowError:
        pass
    raise BadFileError(f"{where}: {key!r} must be a list of whole numbers")
