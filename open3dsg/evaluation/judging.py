"""One scan under the protocols: read what is predicted and annotated, and judge it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from open3dsg.errors import UserError
from open3dsg.evaluation import published, strict
from open3dsg.evaluation.judged import given_classes
from open3dsg.evaluation.scenes import (
    read_attributes,
    read_objects,
    read_relations,
    read_scene,
    read_subgraph_objects,
    read_subgraph_pairs,
    silent_scores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.evaluation.judged import Annotated, Judged, Kind, Protocol, Scene, Words
    from open3dsg.store.predictions import StoredPrediction

# Vocabularies of attributes, and what the annotations call those.
ATTRIBUTES = {"materials": ("material",), "colours": ("color",)}

_OPTION_OF: dict[Kind, str] = {
    "object": "classes",
    "predicate": "predicates",
    "relationship": "predicates",
    "attribute": "attributes",
}


@dataclass(frozen=True, eq=False)
class Task:
    """What all scans of a prediction are judged with."""

    prediction: StoredPrediction
    learnt: Sequence[str] | None  # the predicates that pairs have scores of, where classes were learnt
    gt_objects: bool
    classes: Words
    predicates: Words | None  # None: relations are not judged
    attributes: Words | None
    none_id: int  # the term 'none'

    def vocabularies(self) -> dict[str, dict[str, str]]:
        """Return what the row keeps of the words."""
        return {name: {"name": words.name, "hash": words.digest} for name, words in self._used().items()}

    def names(self) -> dict[str, str]:
        """Return the names of the vocabularies, by the option that chooses each."""
        return {name: words.name for name, words in self._used().items()}

    def classes_of(self, kind: Kind) -> Words:
        """Return the words that what is true of a kind is one of."""
        return self._used()[_OPTION_OF[kind]]

    def _used(self) -> dict[str, Words]:
        used = {"classes": self.classes, "predicates": self.predicates, "attributes": self.attributes}
        return {name: words for name, words in used.items() if words is not None}


class Found(NamedTuple):
    """What was judged of a scan, and what was not: the kind of problem, and what is to be told of it."""

    judged: dict[Protocol, list[Judged]]
    left_out: list[tuple[str, str]]


class _Context(NamedTuple):
    """What the protocols share of a scan."""

    scene: Scene
    objects: Annotated
    given: NDArray[np.float32] | None  # the true classes, where they are given


def judge_scan(connection: Connection[Any], scan_id: int, task: Task, protocols: Sequence[Protocol]) -> Found:
    """Judge one scan under each protocol. What nothing is annotated of has no parts.

    Raises UserError for scores that are not finite; the store takes no such embedding.
    """
    scene = read_scene(
        connection, scan_id, task.prediction.prediction_id, task.classes, task.predicates, task.learnt
    )
    if not np.isfinite(scene.predicates).all():  # it would come first, or push others out of the first
        name = task.prediction.full_name
        raise UserError(f"{name} has scores of pairs that are not finite: predict again with --replace")
    objects = read_objects(connection, scan_id)
    given = given_classes(scene, objects, task.classes) if task.gt_objects else None
    context = _Context(scene, objects, given)
    attributes, left_out = _judge_attributes(connection, scan_id, task, objects)
    judged: dict[Protocol, list[Judged]] = {}
    for protocol in protocols:
        if protocol == "published":
            parts = _judge_published(connection, scan_id, task, context)
        else:
            parts, relations_left_out = _judge_strict(connection, scan_id, task, context)
            left_out = [*left_out, *relations_left_out]
        judged[protocol] = [part for part in (*parts, *attributes) if len(part.rank)]
    return Found(judged, left_out)


def _judge_published(
    connection: Connection[Any], scan_id: int, task: Task, context: _Context
) -> list[Judged]:
    scene, parts = context.scene, []
    if context.given is None:
        objects = read_subgraph_objects(connection, scan_id)
        parts.append(published.judge_objects(scene, objects, task.classes))
    if task.predicates is not None:
        pairs, min_distance_m = read_subgraph_pairs(connection, scan_id, task.none_id)
        words, silence = task.predicates, silent_scores(task.predicates)
        parts += [
            published.judge_predicates(scene, pairs, words, task.none_id, min_distance_m, silence),
            published.judge_relationships(
                scene, pairs, task.classes, words, task.none_id, silence, context.given
            ),
        ]
    return parts


def _judge_strict(
    connection: Connection[Any], scan_id: int, task: Task, context: _Context
) -> tuple[list[Judged], list[tuple[str, str]]]:
    scene, parts, left_out = context.scene, [], []
    if context.given is None:
        parts.append(strict.judge_objects(scene, context.objects, task.classes))
    if task.predicates is not None:
        words, kept = task.predicates.without(task.none_id)
        scene = replace(scene, predicates=scene.predicates[:, kept])
        relations, count = read_relations(connection, scan_id, context.objects)
        if count:
            left_out.append(("relation_without_points", f"{count} relations of objects without points"))
        parts += [
            strict.judge_predicates(scene, relations, words),
            strict.judge_relationships(scene, relations, task.classes, words, context.given),
        ]
    return parts, left_out


def _judge_attributes(
    connection: Connection[Any], scan_id: int, task: Task, objects: Annotated
) -> tuple[list[Judged], list[tuple[str, str]]]:
    """Judge materials or colours: those that are words of the vocabulary, which is a choice of them."""
    if task.attributes is None:
        return [], []
    words = task.attributes
    annotated = read_attributes(connection, scan_id, ATTRIBUTES[words.name], objects)
    known = words.places(annotated.term_id) >= 0
    scene = read_scene(connection, scan_id, task.prediction.prediction_id, words, None, None)
    count = int((~known).sum())
    left_out = [("attribute_outside_vocabulary", f"{count} that are none of {words.name}")] if count else []
    return [strict.judge_objects(scene, annotated.only(known), words, "attribute")], left_out
