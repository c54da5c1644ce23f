"""Scene graphs for NetworkX, and as GraphML, which Gephi, yEd and Cytoscape open."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from open3dsg.errors import UserError
from open3dsg.export.xml_text import xml_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from open3dsg.query.graph import StoredGraph


def networkx_package() -> Any:
    """Return the package networkx; UserError, naming the extra, where it is missing."""
    try:
        import networkx
    except ImportError as error:
        raise UserError("this format needs networkx: pip install 'open3dsg[graph]'") from error
    return networkx


def as_networkx(graph: StoredGraph) -> Any:
    """Return a `networkx.MultiDiGraph`: instances by number, and an edge for each relation.

    Nodes and edges have the fields of `GraphNode` and `GraphEdge` as attributes, vectors as lists of metres;
    but `source` of an edge is called `origin`, since node-link files call an end so. The graph itself has
    `dataset`, `scan` and `prediction`. Raises UserError where networkx is missing.
    """
    network = networkx_package().MultiDiGraph(
        dataset=graph.dataset, scan=graph.scan, prediction=graph.prediction
    )
    for node in graph.nodes:
        fields = {name: _listed(value) for name, value in vars(node).items() if name != "instance"}
        network.add_node(node.instance, **fields)
    for edge in graph.edges:
        told = dict(vars(edge))
        subject, target, origin = told.pop("subject"), told.pop("object"), told.pop("source")
        network.add_edge(subject, target, **told, origin=origin)
    return network


def node_link_bytes(graph: StoredGraph) -> bytes:
    """Return the JSON that `networkx.node_link_graph(json.load(file), edges="edges")` reads."""
    linked = networkx_package().node_link_data(as_networkx(graph), edges="edges")
    return f"{json.dumps(linked, ensure_ascii=False, allow_nan=False, indent=1)}\n".encode()


def graphml_bytes(graph: StoredGraph) -> bytes:
    """Return GraphML: of a vector each number is an attribute of its own, of unknown values there is none.

    What XML cannot hold, control characters, is replaced by U+FFFD.
    """
    package = networkx_package()
    network = as_networkx(graph)
    flat = package.MultiDiGraph(**dict(_flat(network.graph)))
    flat.add_nodes_from((number, dict(_flat(fields))) for number, fields in network.nodes(data=True))
    flat.add_edges_from(
        (subject, target, key, dict(_flat(fields)))
        for subject, target, key, fields in network.edges(keys=True, data=True)
    )
    file = io.BytesIO()
    # JSON of the store has 2 for 2.0: without inferring, one attribute would be two, of either type.
    package.write_graphml_xml(flat, file, encoding="utf-8", prettyprint=True, infer_numeric_types=True)
    return file.getvalue()


def _listed(value: Any) -> Any:
    """Turn tuples and mappings into what JSON and other programs know."""
    if isinstance(value, tuple):
        return list(value)
    if hasattr(value, "items"):
        return {name: _listed(each) for name, each in value.items()}
    return value


def _flat(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give attributes as GraphML has them: centroid_x_m and so on, attribute_color and so on."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from ((xml_text(f"attribute_{kind}"), xml_text(", ".join(w))) for kind, w in value.items())
        elif isinstance(value, list) and len(value) == 3:
            stem = name.removesuffix("_m")
            yield from ((f"{stem}_{axis}_m", each) for axis, each in zip("xyz", value, strict=True))
        elif isinstance(value, list):
            yield name, " ".join(map(repr, value))
        elif isinstance(value, str):
            yield name, xml_text(value)
        elif value is not None:
            yield name, value
