"""Several relations at once, against a plain join of all triplets, however few are looked at first."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector

from open3dsg.db.copying import copy_in
from open3dsg.query import paths
from open3dsg.query.paths import Chain, search_paths
from open3dsg.query.slots import ANY, Slot
from open3dsg.query.triplets import TripletFilters, TripletHit, search_triplets
from tests.db.nodes import LABELS, fill
from tests.toy_encoder import Toy

SCANS, NODES = 3, 9  # of which each has pairs with all others


@pytest.fixture
def pairs(database: psycopg.Connection[Any], encoders: None) -> psycopg.Connection[Any]:
    """Fill a store whose first scans have pairs that `toy` sees, in the space of its words."""
    fill(database, dimension=4)
    database.execute("UPDATE encoder SET revision = %s", [Toy.revision])
    random = np.random.default_rng(11)
    rows: list[tuple[object, ...]] = []
    for scan in range(1, SCANS + 1):
        for a, b in itertools.combinations(range(NODES), 2):
            rows.append((scan, 1, a, b, HalfVector(random.normal(size=4)), [], [], []))
    columns = {
        "scan_id": "int8",
        "encoder_id": "int4",
        "instance_a": "int4",
        "instance_b": "int4",
        "embedding": "halfvec",
        "frame_nos": "int4[]",
        "boxes": "int2[]",
        "weights": "float4[]",
    }
    copy_in(database, "pair_feature", columns, rows)
    return database


def plain(lists: list[list[TripletHit]], chain: Chain) -> list[float]:
    """Score every choice of one hit a triplet that names each thing alike, and no two things alike."""
    scores = []
    for choice in itertools.product(*lists):
        if len({(hit.dataset, hit.scan) for hit in choice}) > 1:
            continue
        named: dict[int, set[int]] = {}
        for (subject, _, object_), hit in zip(chain.triplets, choice, strict=True):
            named.setdefault(subject, set()).add(hit.subject)
            named.setdefault(object_, set()).add(hit.object)
        numbers = [number for numbers in named.values() for number in numbers]
        if all(len(numbers) == 1 for numbers in named.values()) and len({*numbers}) == len(numbers):
            scores.append(sum(hit.score for hit in choice) / len(choice))
    return sorted(scores, reverse=True)


RED, GREEN, BLUE, ON, BY = (Slot("text", word) for word in ("red", "green", "blue", "on", "by"))
CHAIR, LIKE = Slot("label", LABELS[0]), Slot("like", "odd/scan1/5")
CHAINS = {
    "path": Chain((RED, GREEN, BLUE), ((0, ON, 1), (1, BY, 2))),
    "star": Chain((RED, GREEN, BLUE), ((0, ON, 1), (0, BY, 2))),
    "backwards": Chain((RED, GREEN, ANY), ((0, ON, 1), (2, ANY, 0))),
    "like": Chain((LIKE, ANY, GREEN, RED), ((0, ON, 1), (1, BY, 2), (3, ANY, 1))),
    "label": Chain((RED, CHAIR, BLUE), ((0, ANY, 1), (1, ON, 2))),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("first", [2, 64])
def test_against_a_plain_join(
    pairs: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, name: str, first: int
) -> None:
    chain = CHAINS[name]
    monkeypatch.setattr(paths, "_FIRST", first)
    asked = {"encoder": "toy", "pair_encoder": "toy"}
    filters = TripletFilters(exact=True, scan="scan1")
    lists = [
        search_triplets(pairs, chain.things[s], p, chain.things[o], k=100_000, filters=filters, **asked)
        for s, p, o in chain.triplets
    ]
    answer = search_paths(pairs, chain, k=7, filters=filters, **asked)
    assert answer.is_complete
    assert [hit.score for hit in answer.hits] == pytest.approx(plain(lists, chain)[:7], abs=1e-6)
    for hit in answer.hits:
        for (subject, _, object_), triplet in zip(chain.triplets, hit.triplets, strict=True):
            assert hit.things[subject] == (triplet.subject, triplet.subject_label)
            assert hit.things[object_] == (triplet.object, triplet.object_label)


def test_what_was_not_looked_at_is_told(
    pairs: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_FIRST", 2)
    monkeypatch.setattr(paths, "_MOST", 2)
    answer = search_paths(pairs, CHAINS["path"], k=2, encoder="toy", pair_encoder="toy")
    assert not answer.is_complete


def test_equal_scores_end_soon(pairs: psycopg.Connection[Any]) -> None:
    """Of a chain of five things that may be any, all 15,120 choices are as good as one another."""
    chain = Chain((ANY,) * 5, tuple((place, ANY, place + 1) for place in range(4)))
    answer = search_paths(pairs, chain, k=4, pair_encoder="toy")
    assert [hit.score for hit in answer.hits] == [0.0] * 4
    assert all(len({number for number, _ in hit.things}) == 5 for hit in answer.hits)


def test_nothing_fits(pairs: psycopg.Connection[Any]) -> None:
    chain = Chain((RED, GREEN, BLUE), ((0, ON, 1), (1, BY, 2)))
    filters = TripletFilters(scan="scan30")  # has no pairs
    answer = search_paths(pairs, chain, encoder="toy", pair_encoder="toy", filters=filters)
    assert (answer.hits, answer.is_complete) == ((), True)
