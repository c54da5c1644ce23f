"""Scans as arrays: what was predicted of one, scored by vocabularies, and what its annotations say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from open3dsg.db.queries import execute
from open3dsg.evaluation.judged import Annotated, AnnotatedPairs, Scene, find_rows
from open3dsg.evaluation.words import unpack
from open3dsg.store.units import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.evaluation.judged import Words


class SubgraphPairs(NamedTuple):
    """The pairs of a scan's subgraphs with a predicate each, and the distances between the two, (N,)."""

    annotated: AnnotatedPairs
    min_distance_m: NDArray[np.float64]


class ScanRelations(NamedTuple):
    """The relations of a scan, and how many more are between objects that are not judged."""

    annotated: AnnotatedPairs
    left_out: int


def read_scene(
    connection: Connection[Any],
    scan_id: int,
    prediction_id: int,
    classes: Words,
    predicates: Words | None,
    scored: Sequence[str] | None,
) -> Scene:
    """Read what is predicted of a scan; without `predicates` no pairs.

    `scored` are the predicates that pairs have scores of, where classes were learnt.
    """
    key = {"scan_id": scan_id, "prediction_id": prediction_id}
    nodes = execute(connection, "evaluation_nodes", key, binary=True).fetchall()
    edges = [] if predicates is None else execute(connection, "evaluation_edges", key, binary=True).fetchall()
    return Scene(
        numbers=np.array([number for number, _ in nodes], np.int64),
        objects=_similarities(classes, [packed for _, packed in nodes]),
        pairs=np.array([edge[:2] for edge in edges], np.int64).reshape(-1, 2),
        predicates=np.zeros((0, 0), np.float32)
        if predicates is None
        else _edge_scores(predicates, edges, scored),
    )


def silent_scores(words: Words) -> NDArray[np.float32] | None:
    """Return the scores of a pair of which nothing was said, (P,): those of the word 'none'.

    None where that is no word of the vocabulary, or words are not embedded.
    """
    if NONE not in words.wordings or not words.embeddings.shape[1]:
        return None
    place = words.wordings.index(NONE)
    scores: NDArray[np.float32] = words.similarities(words.embeddings[place : place + 1])[0]
    return scores


def read_subgraph_objects(connection: Connection[Any], scan_id: int) -> Annotated:
    """Read the objects of a scan's subgraphs as the published protocol judges them: each in each of them."""
    rows = execute(connection, "evaluation_subgraph_objects", {"scan_id": scan_id})
    subgraph, number, label = _columns(rows, "iqi")
    return Annotated(subgraph, number, label, label)


def read_subgraph_pairs(connection: Connection[Any], scan_id: int, none_id: int) -> SubgraphPairs:
    """Read the directed pairs of a scan's subgraphs with each predicate, `none_id` where there is none."""
    rows = execute(connection, "evaluation_subgraph_pairs", {"scan_id": scan_id})
    subgraph, subject, label, target, target_label, distance_m, predicate = _columns(rows, "iqiqidi", none_id)
    return SubgraphPairs(
        AnnotatedPairs(subgraph, subject, label, predicate, target, target_label), distance_m
    )


def read_objects(connection: Connection[Any], scan_id: int) -> Annotated:
    """Read the objects of a scan that have points, each once."""
    number, label = _columns(execute(connection, "evaluation_objects", {"scan_id": scan_id}), "qi")
    return Annotated(None, number, label, label)


def read_relations(connection: Connection[Any], scan_id: int, objects: Annotated) -> ScanRelations:
    """Read the relations between `objects` of a scan, each once however many subgraphs it is in."""
    rows = execute(connection, "evaluation_relations", {"scan_id": scan_id})
    subject, target, predicate = _columns(rows, "qqi")
    ends = [find_rows(objects.subject_no, numbers) for numbers in (subject, target)]
    kept = np.min(ends, axis=0) >= 0
    labels = [objects.term_id[at[kept]] for at in ends]
    annotated = AnnotatedPairs(None, subject[kept], labels[0], predicate[kept], target[kept], labels[1])
    return ScanRelations(annotated, int((~kept).sum()))


def read_attributes(
    connection: Connection[Any], scan_id: int, kinds: Sequence[str], objects: Annotated
) -> Annotated:
    """Read what is said of `objects` of a scan beside their labels, of these kinds, such as material."""
    rows = execute(connection, "evaluation_attributes", {"scan_id": scan_id, "kinds": list(kinds)})
    number, attribute = _columns(rows, "qi")
    at = find_rows(objects.subject_no, number)
    kept = at >= 0
    return Annotated(None, number[kept], objects.term_id[at[kept]], attribute[kept])


def _edge_scores(
    predicates: Words, edges: Sequence[tuple[Any, ...]], scored: Sequence[str] | None
) -> NDArray[np.float32]:
    """Return the scores of pairs for each predicate: cosines, or those of the classes that were learnt."""
    if scored is None:
        return _similarities(predicates, [packed for *_, packed, _ in edges])
    columns = [scored.index(text) for text in predicates.texts]
    scores = np.array([learnt for *_, learnt in edges], np.float32).reshape(len(edges), len(scored))
    return scores[:, columns]


def _similarities(words: Words, packed: Sequence[bytes]) -> NDArray[np.float32]:
    if not packed:
        return np.zeros((0, len(words)), np.float32)
    return words.similarities(unpack(packed))


def _columns(rows: Iterable[tuple[Any, ...]], types: str, missing: int | None = None) -> list[NDArray[Any]]:
    """Return rows as columns: i is int32, q int64, d float64; `missing` stands for null."""
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    return [
        np.array([missing if value is None else value for value in column], letter)
        for column, letter in zip(columns, types, strict=True)
    ]
