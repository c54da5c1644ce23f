"""What is typed into the page: words for objects, or `subject | predicate | object` for relations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.errors import UserError
from open3dsg.query.nodes import NodeFilters, search_nodes
from open3dsg.query.predictions import search_predictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.query.nodes import NodeHit
    from open3dsg.query.triplets import TripletHit

HITS = 8  # that the page lists


@dataclass(frozen=True)
class Source:
    """Who is asked: the features of an encoder, or what a run predicted. None: the only encoder there is."""

    encoder: str | None = None
    run: str | None = None


@dataclass(frozen=True)
class Hit:
    """A thing, or a relation of two, that answers a question."""

    scan: str  # dataset/name
    text: str
    score: float
    instance: int  # of a relation the subject
    object: int | None  # of a relation


@dataclass(frozen=True)
class Answer:
    """The hits of a question, best first."""

    question: str
    hits: Sequence[Hit]
    seconds: float


def is_relation(text: str) -> bool:
    """Tell whether a question is of the form `subject | predicate | object`."""
    return "|" in text


def ask(connection: Connection[Any], text: str, source: Source, scan: str | None, k: int = HITS) -> Answer:
    """Answer what was typed, over one scan or all; raises UserError as the searches of `query` do."""
    began = time.perf_counter()
    if is_relation(text):
        hits = _relations(connection, text, source, scan, k)
    else:
        hits = [_node_hit(hit) for hit in _nodes(connection, text, source, NodeFilters(scan), k)]
    return Answer(text, hits, time.perf_counter() - began)


def similarities(
    connection: Connection[Any], text: str, source: Source, scan: str, k: int
) -> Mapping[int, float]:
    """Return how similar each of the `k` objects of a scan is to a question about objects."""
    filters = NodeFilters(scan, exact=True)
    return {hit.instance: hit.similarity for hit in _nodes(connection, text, source, filters, max(k, 1))}


def _nodes(
    connection: Connection[Any], text: str, source: Source, filters: NodeFilters, k: int
) -> Sequence[NodeHit]:
    if source.run is not None:
        return search_predictions(connection, [text], source.run, k=k, filters=filters)[0]
    return search_nodes(connection, [text], k=k, encoder=source.encoder, filters=filters)[0]


def _relations(connection: Connection[Any], text: str, source: Source, scan: str | None, k: int) -> list[Hit]:
    from open3dsg.query.slots import parse_slot
    from open3dsg.query.triplets import TripletFilters, search_triplets

    parts = text.split("|")
    if len(parts) != 3:
        raise UserError("a relation has three parts, such as: chair | next to | table; * stands for anything")
    hits = search_triplets(
        connection,
        parse_slot(parts[0], "subject"),
        parse_slot(parts[1], "predicate"),
        parse_slot(parts[2], "object"),
        k=k,
        encoder=source.encoder if source.run is None else None,
        run=source.run,
        filters=TripletFilters(scan=scan, with_evidence=False),
    )
    return [_relation_hit(hit) for hit in hits]


def _node_hit(hit: NodeHit) -> Hit:
    text = f"{hit.label} {hit.instance}"
    return Hit(f"{hit.dataset}/{hit.scan}", text, hit.similarity, hit.instance, None)


def _relation_hit(hit: TripletHit) -> Hit:
    ends = f"{hit.subject_label} {hit.subject}", f"{hit.object_label} {hit.object}"
    text = f"{ends[0]} — {hit.predicate or 'with'} → {ends[1]}"
    return Hit(f"{hit.dataset}/{hit.scan}", text, hit.score, hit.subject, hit.object)
