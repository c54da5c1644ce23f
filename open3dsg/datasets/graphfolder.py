"""The preprocessed subgraphs of Open3DSG (Koch et al., CVPR 2024), as far as its feature files rest on them.

    GRAPHS/
      SCAN/data_dict_H.pkl      a subgraph; H is the last hexadecimal digit of its number

Row i of a subgraph's object features is its i-th object, row i of its relation features its i-th pair; both
orders stand only here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.datasets.pickles import read_pickle
from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from pathlib import Path

_FILE = re.compile(r"data_dict_([0-9a-f])\.pkl")


@dataclass(frozen=True)
class GraphFile:
    """One `data_dict_H.pkl`."""

    path: Path
    scan: str
    digit: str

    @property
    def name(self) -> str:
        """What the feature files of the subgraph are called, without `.pt`."""
        return f"{self.scan}-{self.digit}"


@dataclass(frozen=True)
class GraphRows:
    """The rows of a subgraph: instance numbers, and directed pairs of them, subject first."""

    objects: Sequence[int]
    pairs: Sequence[tuple[int, int]]


def find_graphs(folder: Path) -> Mapping[str, Sequence[GraphFile]]:
    """Return scan -> its subgraphs, both ascending; UserError for a folder without any."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --graphs names that of SCAN/data_dict_H.pkl")
    found = _graphs(folder.glob("*/data_dict_*.pkl"))
    if not found:
        raise UserError(
            f"{folder}: holds no SCAN/data_dict_H.pkl: --graphs names the folder `preprocessed` of Open3DSG"
        )
    by_scan: dict[str, list[GraphFile]] = {}
    for graph in found:
        by_scan.setdefault(graph.scan, []).append(graph)
    return by_scan


def graphs_of(folder: Path, scan: str) -> Sequence[GraphFile]:
    """Return the subgraphs of one scan, ascending: none where there are none."""
    return _graphs((folder / scan).glob("data_dict_*.pkl"))


def _graphs(paths: Iterable[Path]) -> Sequence[GraphFile]:
    named = ((path, _FILE.fullmatch(path.name)) for path in paths)
    found = [GraphFile(path, path.parent.name, name[1]) for path, name in named if name is not None]
    return sorted(found, key=lambda graph: (graph.scan, graph.digit))


def read_rows(graph: GraphFile) -> GraphRows:
    """Return the order of a subgraph's rows.

    Raises BadFileError for a file that is none, is damaged, asks to run code, is of another subgraph than its
    name says, or whose pairs are not of its objects.
    """
    content = read_pickle(graph.path)
    if not isinstance(content, dict) or not {"scan_id", "objects_id", "pairs"} <= content.keys():
        raise BadFileError(
            f"{graph.path}: is no data_dict of Open3DSG: scan_id, objects_id or pairs are missing"
        )
    if content["scan_id"] != graph.name:
        raise BadFileError(f"{graph.path}: is of the subgraph {content['scan_id']!r:.80}, not {graph.name!r}")
    objects = [_number(value, graph) for value in _sequence(content["objects_id"], graph)]
    pairs = [_pair(value, graph) for value in _sequence(content["pairs"], graph)]
    if len(set(objects)) < len(objects):
        raise BadFileError(f"{graph.path}: objects_id names an object twice")
    unknown = {number for pair in pairs for number in pair} - set(objects)
    if unknown:
        raise BadFileError(f"{graph.path}: pairs name the object {min(unknown)}, which objects_id does not")
    return GraphRows(objects, pairs)


def _sequence(value: Any, graph: GraphFile) -> Any:
    """Return what can be gone through: a list, a tuple or an array."""
    if isinstance(value, list | tuple) or hasattr(value, "__array__"):
        return value
    raise BadFileError(f"{graph.path}: objects_id and pairs are lists, here one is {value!r:.40}")


def _pair(value: Any, graph: GraphFile) -> tuple[int, int]:
    ends = [_number(end, graph) for end in _sequence(value, graph)]
    if len(ends) != 2 or ends[0] == ends[1]:
        raise BadFileError(f"{graph.path}: {ends} is no pair of objects")
    return ends[0], ends[1]


def _number(value: Any, graph: GraphFile) -> int:
    try:
        return int(value.__index__())
    except (AttributeError, TypeError) as error:
        raise BadFileError(f"{graph.path}: {value!r:.40} is no object number") from error
