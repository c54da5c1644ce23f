"""What is judged of a made room against plain loops over all candidates."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from open3dsg.evaluation.evaluate import EvaluationOptions, evaluate
from tests.db import made_room as made
from tests.db.judged_room import (
    RUN,
    SILENT,
    THING_ROWS,
    THINGS,
    WAY_ROWS,
    WAYS,
    fill,
    guesses,
    ranks,
    unit,
)
from tests.db.pipeline import Database

OPTIONS = EvaluationOptions(classes="things", predicates="ways")


@pytest.fixture
def room(database: Database) -> Database:
    fill(database)
    return database


def plain_scores() -> tuple[dict[int, Any], dict[tuple[int, int], Any]]:
    """Thing -> cosine of each instance, predicate -> best cosine of each pair; what is silent says 'none'."""
    node, edge = guesses(3)
    things = {
        number: {text: float(word @ row) for text, word in zip(THINGS, unit(THING_ROWS), strict=True)}
        for number, row in zip(node, unit(np.array(list(node.values()))), strict=True)
    }
    ways = {}
    for pair, embedding in edge.items():
        said = WAY_ROWS[list(WAYS).index("none")] if pair in SILENT else embedding
        cosines = zip(WAYS.values(), unit(WAY_ROWS) @ unit(said[None])[0], strict=True)
        ways[pair] = best_of(cosines)
    return things, ways


def best_of(cosines: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for text, cosine in cosines:
        found[text] = max(float(cosine), found.get(text, -9.0))
    return found


def shares(cosines: dict[str, float]) -> dict[str, float]:
    powers = {text: np.exp(100 * (cosine - max(cosines.values()))) for text, cosine in cosines.items()}
    return {text: power / sum(powers.values()) for text, power in powers.items()}


def place(own: float, every: Any, most: int) -> int | None:
    before = sum(other > own + 1e-5 * abs(own) for other in every)
    return before + 1 if before < most else None


def published_annotations() -> list[tuple[int, int, int, str]]:
    """(subgraph, subject, object, predicate) of every pair of objects that a frame shows."""
    found = []
    for subgraph in made.SUBGRAPHS:
        members = sorted(set(subgraph.members) - {made.UNSEEN, made.EMPTY})
        for pair in permutations(members, 2):
            said = sorted({predicate for *ends, predicate in subgraph.relationships if tuple(ends) == pair})
            found += [(subgraph.number, *pair, predicate) for predicate in said or ["none"]]
    return sorted(found)


def test_published_rows_are_those_of_plain_loops(room: Database) -> None:
    (found,) = evaluate(room, RUN, ["published"], OPTIONS).evaluations
    things, ways = plain_scores()
    objects, predicates, relationships = [], [], []
    for subgraph in made.SUBGRAPHS:
        for number in sorted(set(subgraph.members) - {made.UNSEEN, made.EMPTY}):
            label, cosines = made.LABELS[number], things.get(number, {})
            rank = place(cosines[label], cosines.values(), 20) if label in cosines else None
            objects.append((subgraph.number, number, None, label, rank))
    for subgraph_no, subject, target, truth in published_annotations():
        key = (subgraph_no, subject, target, truth)
        said = {text: max(cosine, 0.0) for text, cosine in ways.get((subject, target), ways[1, 3]).items()}
        is_far = {subject, target} in ({2, 12}, {1, 20})
        own = said.get(truth)
        rank = None if own is None else place(own, said.values(), 5)
        predicates.append((*key, 1 if truth == "none" and is_far else rank))
        relationships.append((*key, plain_triplet(things, said, subject, target, truth)))
    assert ranks(room, found, "object") == objects
    assert ranks(room, found, "predicate") == predicates
    assert ranks(room, found, "relationship") == relationships


def plain_triplet(
    things: dict[int, Any], said: dict[str, float], subject: int, target: int, truth: str
) -> int | None:
    """The place of a triplet among all of its pair, made one by one."""
    beyond = 101 if truth == "none" else None
    if subject not in things or target not in things or truth not in said:
        return beyond
    of_subject, of_object = shares(things[subject]), shares(things[target])
    every = {
        (a, way, b): np.float32(of_subject[a]) * np.float32(of_object[b]) * np.float32(said[way])
        for a in of_subject
        for b in of_object
        for way in said
    }
    labels = made.LABELS[subject], made.LABELS[target]
    if truth == "none":
        own = max(value for (_, way, _), value in every.items() if way == "none")
    elif (labels[0], truth, labels[1]) in every:
        own = every[labels[0], truth, labels[1]]
    else:
        return None
    return place(float(own), map(float, every.values()), 100) or beyond


def test_strict_rows_are_those_of_plain_loops_over_the_scan(room: Database) -> None:
    (found,) = evaluate(room, RUN, ["strict"], OPTIONS).evaluations
    things, ways = plain_scores()
    ways = {
        pair: {way: c for way, c in said.items() if way != "none"}
        for pair, said in ways.items()
        if pair not in SILENT
    }
    every = [
        shares(things[s])[a] * shares(things[o])[b] * max(said[way], 0.0)
        for (s, o), said in ways.items()
        for a in THINGS
        for b in THINGS
        for way in said
    ]
    predicates, relationships = [], []
    relations = sorted({triple for subgraph in made.SUBGRAPHS for triple in subgraph.relationships})
    for subject, target, truth in relations:
        said, labels = ways.get((subject, target), {}), (made.LABELS[subject], made.LABELS[target])
        known = truth in said
        predicates.append(
            (None, subject, target, truth, place(said[truth], said.values(), 5) if known else None)
        )
        rank = None
        if known and set(labels) <= set(THINGS):
            own = (
                shares(things[subject])[labels[0]] * shares(things[target])[labels[1]] * max(said[truth], 0.0)
            )
            among = sum(other >= own * (1 - 1e-5) for other in every)
            rank = among if among <= 100 and own > 0 else None
        relationships.append((None, subject, target, truth, rank))
    assert ranks(room, found, "predicate") == predicates
    assert ranks(room, found, "relationship") == relationships
    # Each object once, also that which no frame shows; not that without points.
    assert [row[1] for row in ranks(room, found, "object")] == sorted(set(made.LABELS) - {made.EMPTY})
