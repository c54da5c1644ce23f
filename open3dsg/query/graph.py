"""The scene graph of one scan: objects and relations, annotated or predicted, as corrected since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

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
