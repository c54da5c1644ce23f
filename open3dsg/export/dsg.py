"""Scene graphs for Spark-DSG (MIT-SPARK): `spark_dsg.DynamicSceneGraph.load(file)` opens them.

An instance is a node of the layer that its attribute `layer` names, else an object. Its symbol is the letter
of the layer and its number, such as ``O(4)``; name and semantic label are its label, which the label space of
the layer numbers; its box is the oriented one where it has one. Two nodes have one edge at most there, which
holds all relations between them, in its metadata: ``{"open3dsg": {"relations": [{"subject": SYMBOL'S VALUE,
"predicate": ..., "object": SYMBOL'S VALUE, ...}]}}``. What else is known of a node is in its metadata under
``open3dsg``, too; `has_place` is false where its position, 0 0 0, is none. `open3dsg ingest dsg` reads
labels, places, boxes, attributes and relations back.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.dsg import BUILDINGS, LAYER, OBJECTS, OURS, PLACES, ROOMS, spark_dsg
from open3dsg.errors import UserError
from open3dsg.export.hits import hit_colours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from open3dsg.query.graph import GraphEdge, GraphNode, StoredGraph

# Layer -> its name in Spark-DSG, the letter of its symbols, the class of what its nodes know.
_LAYERS = {
    OBJECTS: ("OBJECTS", "O", "ObjectNodeAttributes"),
    PLACES: ("PLACES", "p", "PlaceNodeAttributes"),
    ROOMS: ("ROOMS", "R", "RoomNodeAttributes"),
    BUILDINGS: ("BUILDINGS", "B", "SemanticNodeAttributes"),
}


def dsg_bytes(graph: StoredGraph) -> bytes:
    """Return the JSON that Spark-DSG reads; UserError where the package, or room to write it, is missing."""
    made = as_dsg(graph)
    try:
        with tempfile.TemporaryDirectory(prefix="open3dsg-") as folder:
            path = Path(folder) / "graph.json"
            made.save(str(path))
            content = path.read_bytes()
        json.loads(content)  # a full disk cuts it off, of which the package says nothing
    except (OSError, ValueError) as error:
        raise UserError(
            f"there is no room in the folder for temporary files for {graph.scan}: free some, or set TMPDIR"
        ) from error
    return content


def as_dsg(graph: StoredGraph) -> Any:
    """Return a `spark_dsg.DynamicSceneGraph`; UserError where that package is missing."""
    package = spark_dsg()
    made = package.DynamicSceneGraph()
    made.metadata.set({OURS: {"dataset": graph.dataset, "scan": graph.scan, "prediction": graph.prediction}})
    classes = {label: at for at, label in enumerate(sorted({node.label for node in graph.nodes}))}
    colours = hit_colours(list(classes.values()))
    symbols: dict[int, int] = {}
    for node in graph.nodes:
        layer, letter, kind = _LAYERS[_layer(node)]
        attributes = getattr(package, kind)()
        _fill(package, attributes, node)
        attributes.semantic_label = classes[node.label]
        attributes.color = np.array(colours[classes[node.label]], np.uint8)
        symbol = package.NodeSymbol(letter, node.instance)
        symbols[node.instance] = symbol.value
        made.add_node(layer, symbol, attributes)
    names = package.Labelspace({at: label for label, at in classes.items()})
    for layer, _letter, _kind in _LAYERS.values():
        key = made.get_layer_key(layer)
        made.set_labelspace(names, key.layer, key.partition)
    for (one, other), relations in _by_pair(graph).items():
        told = package.EdgeAttributes()
        told.metadata.set({OURS: {"relations": [_told(edge, symbols) for edge in relations]}})
        made.insert_edge(symbols[one], symbols[other], told)
    return made


def _layer(node: GraphNode) -> str:
    named = [layer for layer in node.attributes.get(LAYER, ()) if layer in _LAYERS]
    return named[0] if named else OBJECTS


def _fill(package: Any, attributes: Any, node: GraphNode) -> None:
    """Give attributes the name, place, box and metadata of a node."""
    attributes.name = node.label
    if node.centroid_m is not None:
        attributes.position = np.array(node.centroid_m, float)
    if (box := _box(package, node)) is not None:
        attributes.bounding_box = box
    told: dict[str, Any] = {
        "has_place": node.centroid_m is not None,
        "attributes": {kind: list(words) for kind, words in node.attributes.items()},
    }
    for name in ("annotated_label", "predicted_label", "similarity", "is_corrected", "point_count"):
        told[name] = getattr(node, name)
    attributes.metadata.set({OURS: told})


def _box(package: Any, node: GraphNode) -> Any | None:
    if node.obb_centre_m is not None and node.obb_axes is not None and node.obb_lengths_m is not None:
        return package.BoundingBox(
            package.BoundingBoxType.OBB,
            np.array(node.obb_lengths_m, np.float32),
            np.array(node.obb_centre_m, np.float32),
            _right_handed(np.array(node.obb_axes, float).reshape(3, 3)).T.astype(np.float32),
        )
    if node.aabb_min_m is not None and node.aabb_max_m is not None:
        low, high = np.array(node.aabb_min_m, float), np.array(node.aabb_max_m, float)
        return package.BoundingBox((high - low).astype(np.float32), ((low + high) / 2).astype(np.float32))
    return None


def _right_handed(axes: Any) -> Any:
    """Return the axes (3, 3), a row each, of the same box, as a rotation."""
    return axes if np.linalg.det(axes) > 0 else axes * np.array([[1.0], [1.0], [-1.0]])


def _by_pair(graph: StoredGraph) -> Mapping[tuple[int, int], list[GraphEdge]]:
    found: dict[tuple[int, int], list[GraphEdge]] = {}
    for edge in graph.edges:
        found.setdefault((min(edge.subject, edge.object), max(edge.subject, edge.object)), []).append(edge)
    return found


def _told(edge: GraphEdge, symbols: Mapping[int, int]) -> dict[str, Any]:
    return {**vars(edge), "subject": symbols[edge.subject], "object": symbols[edge.object]}
