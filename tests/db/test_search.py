"""Search in SQL against numpy: filters, exactness, both paths, plans."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from pgvector import HalfVector, Vector
from psycopg.types.json import Jsonb

from open3dsg.db.terms import term_ids
from tests.db.nodes import DIMENSION, LABELS, PER_SCAN, fill


@pytest.fixture
def nodes(database: psycopg.Connection[Any]) -> NDArray[np.float32]:
    return fill(database)


def search(
    database: psycopg.Connection[Any], query: NDArray[Any], k: int, **filters: object
) -> list[tuple[str, int, str, float]]:
    return database.execute(
        "SELECT scan, instance, label, similarity FROM search_nodes_v1(%s, 'toy', %s, %s)",
        (Vector(query), k, Jsonb(filters)),
    ).fetchall()


def keep(nodes: NDArray[np.float32], **filters: Any) -> NDArray[np.int64]:
    """State the filters again over the row number of a node."""
    at = np.arange(len(nodes))
    scan, number = at // PER_SCAN, at % PER_SCAN
    filters = {name: value for name, value in filters.items() if value is not None}
    passes = np.ones(len(nodes), bool)
    if "scan" in filters:
        passes &= scan == int(filters["scan"].removeprefix("scan"))
    if "dataset" in filters:
        passes &= scan % 2 == ("even", "odd").index(filters["dataset"])
    if "label" in filters:
        passes &= number % 4 == [label.lower() for label in LABELS].index(filters["label"].lower())
    if "within" in filters:
        x0, y0, _, x1, y1, _ = filters["within"]
        passes &= (number >= x0) & (number <= x1) & ((scan + 1) / 10 >= y0) & ((scan + 1) / 10 <= y1)
    return np.flatnonzero(passes)


FILTERS: list[dict[str, Any]] = [
    {},
    {"exact": True},
    {"scan": "scan7"},
    {"dataset": "odd"},
    {"label": "CHAIR"},
    {"label": LABELS[2]},
    {"label": LABELS[3], "dataset": "even"},
    {"within": [3.0, 0.35, -1.0, 9.0, 0.85, 1.0]},
    {"scan": "scan7", "label": "table", "within": [0, 0, 0, 20, 5, 0]},
    {"scan": "scan7", "dataset": "even"},
    {"scan": None, "within": None, "label": None, "dataset": "odd"},
]


@pytest.mark.parametrize("with_index", [False, True], ids=["exact", "index"])
@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_search_equals_numpy(
    database: psycopg.Connection[Any], nodes: NDArray[np.float32], filters: dict[str, Any], with_index: bool
) -> None:
    if with_index:
        database.execute("SELECT create_node_index_v1('toy')")
        database.execute("SET open3dsg.exact_rows = 10")
    random = np.random.default_rng(len(str(filters)))
    for _ in range(5):
        query = random.normal(size=DIMENSION)
        passing = keep(nodes, **filters)
        similarity = nodes[passing] @ (query / np.linalg.norm(query))
        k = 7
        hits = search(database, query, k, **filters)
        assert len(hits) == min(k, len(passing))
        best = np.sort(similarity)[::-1][:k]
        np.testing.assert_allclose([hit[3] for hit in hits], best, atol=1e-3 if not with_index else 2e-2)
        own = {
            (f"scan{at // PER_SCAN}", int(at % PER_SCAN)): s
            for at, s in zip(passing, similarity, strict=True)
        }
        for scan, instance, label, found in hits:
            assert abs(own[scan, instance] - found) < 1e-3
            assert label == LABELS[instance % 4]


@pytest.mark.parametrize("k", [1, 49, 50, 51, 2000, 3000])
def test_never_fewer_than_k_where_k_match(
    database: psycopg.Connection[Any], nodes: NDArray[np.float32], k: int
) -> None:
    database.execute("SELECT create_node_index_v1('toy')")
    database.execute("SET open3dsg.exact_rows = 0")
    query = np.random.default_rng(1).normal(size=DIMENSION)
    for filters, count in (
        ({}, 2000),
        ({"scan": "scan3"}, 50),
        ({"dataset": "odd"}, 1000),
        ({"scan": "no"}, 0),
    ):
        hits = search(database, query, k, **filters)
        assert len({hit[:2] for hit in hits}) == len(hits) == min(k, count)
        assert [hit[3] for hit in hits] == sorted((hit[3] for hit in hits), reverse=True)


def plan(database: psycopg.Connection[Any], use_index: bool, conditions: str = "") -> str:
    row = database.execute(
        "SELECT search_nodes_statement_v1(1, %s, %s, %s)", (DIMENSION, conditions, use_index)
    ).fetchone()
    assert row is not None
    statement = row[0].replace("$1", f"'{[1.0] * DIMENSION}'").replace("$2", "5")
    return "\n".join(line for (line,) in database.execute(f"EXPLAIN {statement}".encode()))


def test_plans_use_the_index_exactly_where_they_should(
    database: psycopg.Connection[Any], nodes: NDArray[np.float32]
) -> None:
    database.execute("SELECT create_node_index_v1('toy')")
    assert "node_feature_1_hnsw" in plan(database, use_index=True)
    assert "node_feature_1_hnsw" not in plan(database, use_index=False)


def uses_index(database: psycopg.Connection[Any], exact: bool, **filters: object) -> bool:
    row = database.execute(
        "SELECT uses_node_index_v1(1, node_conditions_v1(%s), %s)", (Jsonb(filters), exact)
    ).fetchone()
    assert row is not None
    return bool(row[0])


def test_few_rows_take_the_exact_path(database: psycopg.Connection[Any], nodes: NDArray[np.float32]) -> None:
    assert not uses_index(database, exact=False), "there is no index yet"
    database.execute("SELECT create_node_index_v1('toy')")
    assert not uses_index(database, exact=False), "2,000 rows are few"
    database.execute("SET open3dsg.exact_rows = 100")
    assert uses_index(database, exact=False)
    assert uses_index(database, exact=False, dataset="odd")
    assert not uses_index(database, exact=False, scan="scan3")
    assert not uses_index(database, exact=True)


@pytest.mark.parametrize(
    ("query", "encoder", "k", "filters", "told"),
    [
        ([1.0] * 3, "toy", 5, {}, "the query has 3 dimensions, encoder toy has 24"),
        ([0.0] * 24, "toy", 5, {}, "zero vector"),
        (None, "toy", 5, {}, "the query is NULL"),
        ([1.0] * 24, "nobody", 5, {}, "no encoder 'nobody'"),
        ([1.0] * 24, "toy@other", 5, {}, "no encoder 'toy@other'"),
        ([1.0] * 24, "toy", 0, {}, "k must be at least 1"),
        ([1.0] * 24, "toy", None, {}, "k must be at least 1"),
        ([1.0] * 24, "toy", 5, {"lable": "chair"}, "unknown filter: lable"),
        ([1.0] * 24, "toy", 5, {"within": [1, 2, 3]}, "takes six numbers"),
    ],
)
def test_wrong_arguments_are_told(
    database: psycopg.Connection[Any],
    nodes: NDArray[np.float32],
    query: list[float] | None,
    encoder: str,
    k: int | None,
    filters: dict[str, Any],
    told: str,
) -> None:
    with pytest.raises(psycopg.Error, match=told):
        database.execute(
            "SELECT * FROM search_nodes_v1(%s::vector, %s, %s, %s)",
            (query and Vector(query), encoder, k, Jsonb(filters)),
        )


def test_a_reader_can_search_and_change_nothing(
    database: psycopg.Connection[Any], nodes: NDArray[np.float32]
) -> None:
    database.execute("DROP ROLE IF EXISTS only_reads")
    database.execute("CREATE ROLE only_reads")
    database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO only_reads")
    database.execute("SET ROLE only_reads")
    assert len(search(database, nodes[0], 5)) == 5
    assert len(database.execute("SELECT * FROM storage_report_v1()").fetchall()) == 35
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.execute("DELETE FROM node_feature")
    database.execute("RESET ROLE")
    database.execute("DROP OWNED BY only_reads")
    database.execute("DROP ROLE only_reads")


def test_classify_equals_numpy(database: psycopg.Connection[Any], nodes: NDArray[np.float32]) -> None:
    random = np.random.default_rng(9)
    words = [f"word {n}" for n in range(30)]
    ids = term_ids(database, words)
    embeddings = random.normal(size=(30, DIMENSION))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    database.execute("INSERT INTO vocabulary (name, kind) VALUES ('words', 'class')")
    for word, embedding in zip(words, embeddings, strict=True):
        database.execute("INSERT INTO vocabulary_term VALUES (1, %s)", (ids[word],))
        database.execute("INSERT INTO term_embedding VALUES (1, %s, %s)", (ids[word], HalfVector(embedding)))
    rows = database.execute(
        "SELECT instance, rank, term, similarity FROM classify_nodes_v1('toy', 'words', 3, 'scan7')"
    ).fetchall()
    assert len(rows) == 3 * PER_SCAN
    similarity = nodes[7 * PER_SCAN : 8 * PER_SCAN] @ embeddings.T
    for instance, rank, term, found in rows:
        expected = np.sort(similarity[instance])[-rank]
        assert abs(found - expected) < 1e-3
        assert abs(similarity[instance, words.index(term)] - expected) < 1e-3


def test_classify_tells_of_missing_embeddings(
    database: psycopg.Connection[Any], nodes: NDArray[np.float32]
) -> None:
    database.execute("INSERT INTO vocabulary (name, kind) VALUES ('words', 'class')")
    database.execute("INSERT INTO vocabulary_term SELECT 1, term_id FROM term")
    with pytest.raises(psycopg.Error, match="4 terms of vocabulary words have no embedding by encoder toy"):
        database.execute("SELECT * FROM classify_nodes_v1('toy', 'words', 3)")


def test_a_word_has_its_vector_or_says_how_to_get_one(
    database: psycopg.Connection[Any], nodes: NDArray[np.float32]
) -> None:
    (chair,) = term_ids(database, ["chair"]).values()
    database.execute("INSERT INTO term_embedding VALUES (1, %s, %s)", (chair, HalfVector(nodes[3])))
    rows = database.execute(
        "SELECT instance FROM search_nodes_v1(term_vector_v1('toy', 'chair'), 'toy', 1)"
    ).fetchall()
    assert rows == [(3,)]
    with pytest.raises(psycopg.Error, match="encoder toy has not embedded 'mug' yet"):
        database.execute("SELECT term_vector_v1('toy', 'mug')")
