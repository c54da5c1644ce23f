"""The scene graph of one scan: objects and relations, annotated or predicted, as corrected since."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError
from open3dsg.query.nodes import MOST_HITS, refusals_told
from open3dsg.store.predictions import find_prediction
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.store.scans import StoredScan

Point = tuple[float, float, float]  # metres, world, z up
EdgeSource = Literal["annotated", "captioned", "predicted", "corrected"]


@dataclass(frozen=True)
class GraphNode:
    """An instance of the scan. What has no geometry has neither centroid nor boxes."""

    instance: int
    label: str  # as corrected, else as predicted where a prediction was asked for, else as annotated
    annotated_label: str
    predicted_label: str | None  # the nearest of the classes; None: none was asked for, or nothing predicted
    similarity: float | None  # of predicted_label, a cosine
    is_corrected: bool
    centroid_m: Point | None
    aabb_min_m: Point | None
    aabb_max_m: Point | None
    obb_centre_m: Point | None
    obb_axes: tuple[float, ...] | None  # 3x3 row-major, a unit axis a row
    obb_lengths_m: Point | None
    point_count: int
    attributes: Mapping[str, tuple[str, ...]]  # kind -> words


@dataclass(frozen=True)
class GraphEdge:
    """A relation: `subject` `predicate` `object`."""

    subject: int
    predicate: str
    object: int
    source: EdgeSource
    similarity: float | None  # a cosine, or where classes were learnt their score; None: not predicted
    caption: str | None  # the whole of what was said
    distance_m: float | None  # least, between points of the two; None: `graph build` has not measured it


@dataclass(frozen=True)
class StoredGraph:
    """The scene graph of a scan, nodes by number, edges by subject, object and rank."""

    dataset: str
    scan: str
    prediction: str | None  # RUN:LABEL; None: annotated
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


def read_graph(
    connection: Connection[Any],
    scan: str,
    *,
    run: str | None = None,
    classes: str | None = None,
    predicates: str | None = None,
    k: int = 1,
) -> StoredGraph:
    """Return the scene graph of a scan, by name or `dataset/name`, with what people corrected of it.

    Without `run` the graph is the annotated one; where annotations relate no instances that have a place,
    edges are what encoders say of pairs. With `run`, RUN or RUN:LABEL, nodes are called by the nearest of
    `classes`, and each pair has its `k` nearest `predicates`: vocabularies, `DATASET-classes` and
    `DATASET-predicates` unless named. Corrected labels take the place of others; a corrected relation is
    added, or where it does not hold left out.

    Raises UserError for names that the store does not know, vocabularies without a run or that cannot be
    compared with it, and a run that says nothing of the scan.
    """
    if not 1 <= k <= MOST_HITS:
        raise UserError(f"-k is {k}: give 1 to {MOST_HITS}")
    prediction = None if run is None else find_prediction(connection, run).full_name
    asked = {
        "scan": find_scan(connection, scan).key,
        "prediction": prediction,
        "classes": classes,
        "predicates": predicates,
        "k": k,
    }
    with refusals_told():
        graph: dict[str, Any] = fetch_value(connection, "scene_graph", asked)
    return StoredGraph(
        graph["dataset"],
        graph["scan"],
        graph["prediction"],
        tuple(_node(node) for node in graph["nodes"]),
        tuple(GraphEdge(**_floats(edge, ("similarity", "distance_m"))) for edge in graph["edges"]),
    )


def read_edges(
    connection: Connection[Any], scan: StoredScan, *, run: str | None = None, predicates: str | None = None
) -> tuple[GraphEdge, ...]:
    """Return the relations of `read_graph` alone: of a run, without a vocabulary for its nodes.

    Raises UserError as `read_graph` does.
    """
    asked = {
        "scan_id": scan.scan_id,
        "prediction": None if run is None else find_prediction(connection, run).full_name,
        "dataset": scan.dataset,
        "predicates": predicates,
    }
    with refusals_told():
        return tuple(GraphEdge(*row) for row in execute(connection, "scene_edges", asked))


_OF_NODES = ("similarity", *(f.name for f in fields(GraphNode) if f.name.endswith("_m")), "obb_axes")


def _node(told: dict[str, Any]) -> GraphNode:
    """Return a node out of JSON, whose lists become tuples."""
    attributes = {kind: tuple(words) for kind, words in told["attributes"].items()}
    return GraphNode(**{**_floats(told, _OF_NODES), "attributes": attributes})


def _floats(told: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return what JSON tells with floats at `names`: 2.0 comes out of jsonb as 2."""
    numbers = {
        name: tuple(map(float, value)) if isinstance(value, list) else float(value)
        for name in names
        if (value := told[name]) is not None
    }
    return told | numbers
