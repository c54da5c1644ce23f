"""Scene graphs for PyTorch Geometric (Fey and Lenssen 2019).

    data = Data.from_dict(torch.load("room.pt", weights_only=True))

The file is a plain dictionary, so that it loads without running anything and without open3dsg. Of N nodes and
E relations it holds

==================  ===================================================================================
`edge_index`        (2, E) int64, places of subject and object among the nodes
`instance`          (N,) int64, instance numbers
`label`             (N,) int64, places in `labels`
`predicate`         (E,) int64, places in `predicates`; `origin` (E,) int64 in `origins`
`pos`               (N, 3) float32 centroids in metres, world; 0 where `has_pos` (N,) bool says there is none
`extent`            (N, 3) float32 of the axis-aligned box, metres; 0 where there is none
`x`                 (N, d) float32 embeddings of unit length; 0 where `has_x` (N,) bool says there is none
`edge_attr`         (E, d') float32, likewise with `has_edge_attr`; scores where the run learnt classes
==================  ===================================================================================

and the texts `dataset`, `scan` and, where it is one, `prediction`, and the lists of texts `labels`,
`predicates` and `origins`. `x` and `edge_attr` are there where a run or an encoder was named.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.store.encoders import find_encoder
from open3dsg.store.predictions import as_floats, find_prediction, read_edges, read_nodes
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.query.graph import Point, StoredGraph


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of a scan, (d,) float32 each; None: none were asked for."""

    nodes: Mapping[int, NDArray[np.float32]] | None = None  # by instance number
    edges: Mapping[tuple[int, int], NDArray[np.float32]] | None = None  # by subject and object


def read_embeddings(
    connection: Connection[Any],
    scan: str,
    *,
    run: str | None = None,
    encoder: str | None = None,
    pair_encoder: str | None = None,
) -> Embeddings:
    """Read what a run predicts of the nodes and edges of a scan, or in its place features of encoders.

    Those of a pair stand for both directions. Raises UserError for names that the store does not know.
    """
    scan_id = find_scan(connection, scan).scan_id
    nodes: dict[int, NDArray[np.float32]] | None = None
    edges: dict[tuple[int, int], NDArray[np.float32]] | None = None
    if run is not None:
        prediction = find_prediction(connection, run).prediction_id
        nodes = {number: vector for number, vector, _ in read_nodes(connection, scan_id, prediction)}
        edges = {
            (edge.subject, edge.object): vector
            for edge in read_edges(connection, scan_id, prediction)
            for vector in (edge.embedding if edge.scores is None else edge.scores,)
            if vector is not None
        }
    if encoder is not None:
        asked = {"scan_id": scan_id, "encoder_id": find_encoder(connection, encoder).encoder_id}
        rows = execute(connection, "export_node_vectors", asked, binary=True)
        nodes = {number: as_floats(vector) for number, vector in rows}
    if pair_encoder is not None:
        asked = {"scan_id": scan_id, "encoder_id": find_encoder(connection, pair_encoder).encoder_id}
        found = {
            (a, b): as_floats(vector)
            for a, b, vector in execute(connection, "export_pair_vectors", asked, binary=True)
        }
        edges = found | {(b, a): vector for (a, b), vector in found.items()}
    return Embeddings(nodes, edges)


def pyg_bytes(graph: StoredGraph, embeddings: Embeddings | None = None) -> bytes:
    """Return the file; UserError where torch is missing."""
    try:
        import torch
    except ImportError as error:
        raise UserError("files of PyTorch Geometric need torch: pip install 'open3dsg[train]'") from error
    content = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in (_content(graph) | _vectors(graph, embeddings or Embeddings())).items()
    }
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _content(graph: StoredGraph) -> dict[str, Any]:
    """Return all but the embeddings, as arrays and texts."""
    place = {node.instance: at for at, node in enumerate(graph.nodes)}
    ends = [(place[edge.subject], place[edge.object]) for edge in graph.edges]
    labels, label = _numbered([node.label for node in graph.nodes])
    predicates, predicate = _numbered([edge.predicate for edge in graph.edges])
    origins, origin = _numbered([edge.source for edge in graph.edges])
    pos, has_pos = _points([node.centroid_m for node in graph.nodes])
    low, _ = _points([node.aabb_min_m for node in graph.nodes])
    high, _ = _points([node.aabb_max_m for node in graph.nodes])
    named = {"dataset": graph.dataset, "scan": graph.scan, "prediction": graph.prediction}
    return {
        "num_nodes": len(graph.nodes),
        "edge_index": np.array(ends, np.int64).reshape(-1, 2).T.copy(),
        "instance": np.array(list(place), np.int64),
        "label": label,
        "predicate": predicate,
        "origin": origin,
        "pos": pos,
        "has_pos": has_pos,
        "extent": high - low,
        "labels": labels,
        "predicates": predicates,
        "origins": origins,
        **{name: text for name, text in named.items() if text is not None},
    }


def _vectors(graph: StoredGraph, embeddings: Embeddings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if embeddings.nodes is not None:
        numbers = [node.instance for node in graph.nodes]
        found["x"], found["has_x"] = _gathered(embeddings.nodes, numbers)
    if embeddings.edges is not None:
        ends = [(edge.subject, edge.object) for edge in graph.edges]
        found["edge_attr"], found["has_edge_attr"] = _gathered(embeddings.edges, ends)
    return found


def _gathered(
    vectors: Mapping[Any, NDArray[np.float32]], keys: Sequence[Hashable]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors of `keys` (K, d), 0 where there is none, and where there is one (K,)."""
    there = np.array([key in vectors for key in keys], bool)
    width = len(next(iter(vectors.values()), ()))
    gathered = np.zeros((len(keys), width), np.float32)
    if there.any():
        gathered[there] = np.stack([vectors[key] for key in keys if key in vectors])
    return gathered, there


def _numbered(words: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the words, each once and sorted, and the place of each of `words` among them."""
    known = sorted(set(words))
    place = {word: at for at, word in enumerate(known)}
    return known, np.array([place[word] for word in words], np.int64)


def _points(points: Sequence[Point | None]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return points (N, 3), 0 where there is none, and where there is one (N,)."""
    there = np.array([point is not None for point in points], bool)
    return np.array([point or (0, 0, 0) for point in points], np.float32).reshape(-1, 3), there
