"""Scene graphs as files that other programs open: which formats there are, and a file a scan.

OUT/
  SCAN.json            nodes and edges with the fields of `scene_graph_v1`
  SCAN.networkx.json   node-link JSON of NetworkX
  SCAN.graphml         GraphML
  SCAN.dsg.json        a DynamicSceneGraph of Spark-DSG
  SCAN.pt              a dictionary for PyTorch Geometric
  SCAN.dot             Graphviz
  SCAN.svg             a picture
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

from open3dsg.errors import UserError
from open3dsg.export.dot import dot_bytes
from open3dsg.export.dsg import dsg_bytes
from open3dsg.export.files import check_folder, whole_file
from open3dsg.export.network import graphml_bytes, node_link_bytes
from open3dsg.export.pyg import Embeddings, pyg_bytes
from open3dsg.export.svg import svg_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from open3dsg.query.graph import StoredGraph

GraphFormat: TypeAlias = Literal["json", "networkx", "graphml", "dsg", "pyg", "dot", "svg"]
GRAPH_FORMATS: tuple[GraphFormat, ...] = get_args(GraphFormat)


class _Format(NamedTuple):
    ending: str
    encode: Callable[[StoredGraph], bytes]


def graph_document(graph: StoredGraph) -> dict[str, Any]:
    """Return what a file of the format json holds: the graph with the fields of its dataclasses."""
    return asdict(graph)


def _json_bytes(graph: StoredGraph) -> bytes:
    text = json.dumps(graph_document(graph), ensure_ascii=False, allow_nan=False, indent=1)
    return f"{text}\n".encode()


_FORMATS: Mapping[GraphFormat, _Format] = {
    "json": _Format(".json", _json_bytes),
    "networkx": _Format(".networkx.json", node_link_bytes),
    "graphml": _Format(".graphml", graphml_bytes),
    "dsg": _Format(".dsg.json", dsg_bytes),
    "pyg": _Format(".pt", pyg_bytes),
    "dot": _Format(".dot", dot_bytes),
    "svg": _Format(".svg", svg_bytes),
}


def graph_bytes(graph: StoredGraph, graph_format: GraphFormat, embeddings: Embeddings | None = None) -> bytes:
    """Return a file of a graph; `embeddings` go into those of the format pyg.

    Raises UserError where the package that a format needs is missing, and for a picture of too much.
    """
    if graph_format == "pyg":
        return pyg_bytes(graph, embeddings)
    return _FORMATS[graph_format].encode(graph)


def graph_files(
    folder: Path, scans: Sequence[str], graph_format: GraphFormat, *, overwrite: bool
) -> dict[str, Path]:
    """Return the file of each scan, given as `dataset/name`, in `folder`, which is made if need be.

    Raises UserError, before anything is written, where a name cannot be that of a file, two scans have one
    name, or a file is there already and may not be overwritten.
    """
    ending = _FORMATS[graph_format].ending
    files: dict[str, Path] = {}
    scan_of: dict[str, str] = {}
    for scan in scans:
        name = _file_stem(scan) + ending
        if name in scan_of:
            raise UserError(f"{scan_of[name]} and {scan} would both be {name}: choose with --dataset")
        scan_of[name] = scan
        files[scan] = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
    for path in files.values():
        check_folder(path)
        if path.exists() and not overwrite:
            raise UserError(f"{path}: is there already: give another --out, or --overwrite")
    return files


def write_graph(
    path: Path, graph: StoredGraph, graph_format: GraphFormat, embeddings: Embeddings | None = None
) -> None:
    """Write a graph to `path`, whole or not at all; UserError as `graph_bytes`, and where it cannot be."""
    content = graph_bytes(graph, graph_format, embeddings)
    with whole_file(path) as file:
        file.write(content)


def _file_stem(scan: str) -> str:
    """Return the name of a scan as part of a file's; UserError where it could lead elsewhere."""
    name = scan.partition("/")[2]
    if (
        not name.strip()
        or name.startswith(".")
        or not name.isprintable()
        or any(letter in name for letter in '/\\:*?"<>|')
    ):
        raise UserError(f"the scan {scan!r} has a name that cannot be that of a file: export it from Python")
    return name
