"""Search for triplets in SQL against plain numpy: sources, filters, both paths, plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from pgvector import Vector
from psycopg.types.json import Jsonb

from tests.db.triplet_world import (
    NODE_DIMENSION,
    PAIR_DIMENSION,
    WORD_DIMENSION,
    Edge,
    World,
    unit,
    write_world,
)

DIMENSIONS = {"features": PAIR_DIMENSION, "captions": WORD_DIMENSION, "pairs": 1}
PAIR_ENCODERS = {"features": "pairs", "captions": "speaker", "pairs": None}


@pytest.fixture
def world(database: psycopg.Connection[Any]) -> World:
    return write_world(database)


def by_index(database: psycopg.Connection[Any], depth: int) -> None:
    """Take the way of large stores."""
    database.execute("SELECT create_node_index_v1('toy')")
    database.execute("SELECT create_pair_index_v1('pairs')")
    database.execute("SET open3dsg.exact_rows = 0")
    database.execute(f"SET open3dsg.triplet_depth = {depth}".encode())


Query = NDArray[np.float64] | None


def ask(
    database: psycopg.Connection[Any],
    source: str,
    queries: tuple[Query, Query, Query],
    k: int,
    filters: Mapping[str, Any],
) -> list[tuple[Edge, tuple[float | None, ...], float]]:
    vectors = [None if query is None else Vector(query) for query in queries]
    rows = database.execute(
        "SELECT scan_id, subject, object, subject_similarity, predicate_similarity, object_similarity, score"
        " FROM search_triplets_v1(%s::vector, %s::vector, %s::vector, %s, %s, 'toy', %s)",
        (*vectors, k, Jsonb(filters), PAIR_ENCODERS[source]),
    ).fetchall()
    return [((scan, s, o), similarities, score) for scan, s, o, *similarities, score in rows]


def check(
    database: psycopg.Connection[Any],
    world: World,
    source: str,
    queries: tuple[Query, Query, Query],
    k: int,
    filters: Mapping[str, Any],
) -> float:
    """Compare with all edges, one after the other; return the share of the best that were found."""
    expected = {
        edge: world.score(edge, source, *queries)
        for edge in world.edges(source, filters.get("predicate_label"))
        if world.passes(edge, filters)
    }
    mean = {
        edge: float(np.mean([value for value in values if value is not None] or [0]))
        for edge, values in expected.items()
    }
    hits = ask(database, source, queries, k, filters)
    assert len({edge for edge, _, _ in hits}) == len(hits) == min(k, len(expected))
    best = sorted(mean.values(), reverse=True)[:k]
    for edge, similarities, score in hits:
        assert abs(mean[edge] - score) < 1e-3
        assert [value is None for value in similarities] == [value is None for value in expected[edge]]
        for found, true in zip(similarities, expected[edge], strict=True):
            assert found is None or true is None or abs(found - true) < 1e-3
    scores = [score for _, _, score in hits]
    assert scores == sorted(scores, reverse=True)
    return float(np.mean([score > best[-1] - 1e-3 for score in scores])) if scores else 1.0


SCORED = ("spo", "so", "sp", "po", "s", "p", "o", "")
FILTERS: list[dict[str, Any]] = [
    {},
    {"exact": True},
    {"scan": "scan-7"},
    {"dataset": "odd", "max_distance": 1.0},
    {"dataset": "odd", "scan": "scan-8"},
    {"within": [3.0, 3.5, -1.0, 0.5, 0.2, 4.0]},
    {"subject_label": "CHAIR"},
    {"object_label": 'it\'s 100% "lamp"', "dataset": "even"},
    {"subject_instance": {"scan_id": 4, "instance": 2}},
    {"object_instance": {"scan_id": 4, "instance": 2}, "subject_label": "table"},
    {"subject_label": "no such label"},
]


@pytest.mark.parametrize("depth", [None, 5, 60], ids=["exact", "shallow", "deep"])
@pytest.mark.parametrize("source", ["features", "captions", "pairs"])
def test_search_equals_numpy(
    database: psycopg.Connection[Any], world: World, source: str, depth: int | None
) -> None:
    if depth is not None:
        by_index(database, depth)
    random = np.random.default_rng(8)
    bounded: list[float] = []
    for scored in SCORED:
        if source == "pairs" and "p" in scored:
            continue
        subject, object_ = unit(random, 2, NODE_DIMENSION)
        queries = (
            subject if "s" in scored else None,
            unit(random, DIMENSIONS[source]) if "p" in scored else None,
            object_ if "o" in scored else None,
        )
        for filters in FILTERS:
            found = check(database, world, source, queries, 6, filters)
            # The best predicate is taken from the edges looked at: of few vectors, all unlike, it is off.
            if depth is not None and source == "features" and scored in {"spo", "sp", "po"}:
                bounded.append(found)
            else:
                assert found == 1
    assert np.mean(bounded or 1) >= 0.9


@pytest.mark.parametrize("scored", ["so", "s", "o", ""])
def test_annotated_relations_have_one_direction(
    database: psycopg.Connection[Any], world: World, scored: str
) -> None:
    random = np.random.default_rng(1)
    subject, object_ = unit(random, 2, NODE_DIMENSION)
    queries = (subject if "s" in scored else None, None, object_ if "o" in scored else None)
    for predicate in ("Standing ON", "next to", "none"):
        for filters in ({}, {"dataset": "even"}, {"subject_label": "chair", "max_distance": 2.0}):
            asked = {**filters, "predicate_label": predicate.lower()}
            assert check(database, world, "pairs", queries, 9, asked) == 1


@pytest.mark.parametrize("k", [1, 17, 5000])
def test_never_fewer_than_k_where_k_match(database: psycopg.Connection[Any], world: World, k: int) -> None:
    by_index(database, 4)
    random = np.random.default_rng(2)
    for source in ("features", "captions"):
        queries = (*unit(random, 1, NODE_DIMENSION), unit(random, DIMENSIONS[source]), None)
        assert check(database, world, source, queries, k, {}) == 1
        assert check(database, world, source, queries, k, {"scan": "scan-3"}) == 1


@pytest.mark.parametrize("few", [30, 60])
def test_an_edge_found_by_both_ends_is_one_hit(
    database: psycopg.Connection[Any], world: World, few: int
) -> None:
    """Chairs are so few that they are listed without the index, other ends by the index."""
    by_index(database, 100)
    database.execute(f"SET open3dsg.exact_rows = {few}".encode())
    subject, object_ = unit(np.random.default_rng(5), 2, NODE_DIMENSION)
    for filters in ({"subject_label": "chair"}, {"object_label": "chair"}):
        for source in ("features", "captions", "pairs"):
            assert check(database, world, source, (subject, None, object_), 20, filters) == 1


def test_equal_scores_come_in_one_order(database: psycopg.Connection[Any], world: World) -> None:
    database.execute("UPDATE pair_feature SET embedding = (SELECT embedding FROM pair_feature LIMIT 1)")
    query = (None, np.ones(PAIR_DIMENSION), None)
    hits = [edge for edge, _, _ in ask(database, "features", query, 40, {})]
    assert hits == sorted(hits)
    assert hits[:10] == [edge for edge, _, _ in ask(database, "features", query, 10, {})]


def test_nothing_scored_means_the_nearest_first(database: psycopg.Connection[Any], world: World) -> None:
    hits = ask(database, "pairs", (None, None, None), 20, {"subject_label": "chair"})
    far = [world.apart(edge) for edge, _, _ in hits]
    nearest = sorted(
        world.apart(edge) for edge in world.edges("pairs", None) if world.label(edge[:2]) == "chair"
    )
    assert far == nearest[:20]


def test_a_hit_tells_names_places_and_evidence(database: psycopg.Connection[Any], world: World) -> None:
    edge = next(edge for edge in world.annotated if edge in world.said)
    scan, s, o = edge
    database.execute(
        "INSERT INTO frame (scan_id, frame_no, image_uri, image_size, image_intrinsics, t_world_camera)"
        " SELECT %s, n, 'x', '{1,1}', '{1,1,0,0}', array_fill(0::float8, ARRAY[16])"
        " FROM generate_series(0, 8) n",
        [scan],
    )
    # Frame 8 shows the subject alone; the lesser seen of both decides among the others.
    for frame, ratio_s, ratio_o in [(n, 0.9, n / 10) for n in range(1, 8)] + [(0, 0.05, 0.99), (8, 1, None)]:
        for instance, ratio in ((s, ratio_s), (o, ratio_o)):
            if ratio is not None:
                database.execute(
                    "INSERT INTO observation VALUES (%s, %s, %s, 5, 5, %s, '{0,0,0,0}', '')",
                    (scan, instance, frame, ratio),
                )
    ends = {
        "subject_instance": {"scan_id": scan, "instance": s},
        "object_instance": {"scan_id": scan, "instance": o},
    }
    question = (
        "SELECT dataset, scan, subject_label, predicate, object_label, distance_m, subject_centroid_m,"
        " object_centroid_m, frames FROM search_triplets_v1(NULL, NULL, NULL, 5, %s, pair_encoder => %s)"
    )
    [hit] = database.execute(question, (Jsonb(ends), "speaker")).fetchall()
    (annotated,) = world.annotated[edge]
    assert hit == (
        ("even", "odd")[scan % 2],
        f"scan-{scan}",
        world.label((scan, s)),
        world.said[edge],
        world.label((scan, o)),
        world.apart(edge),
        world.place[scan, s].tolist(),
        world.place[scan, o].tolist(),
        [7, 6, 5, 4, 3],
    )
    [hit] = database.execute(question, (Jsonb({**ends, "evidence": False}), None)).fetchall()
    assert (hit[3], hit[-1]) == (annotated, [])


def test_corrections_count(database: psycopg.Connection[Any], world: World) -> None:
    edge = next(edge for edge, told in world.annotated.items() if told == {"next to"})
    scan, s, o = edge
    asked = {"predicate_label": "next to", "subject_instance": {"scan_id": scan, "instance": s}}
    assert edge in [hit[0] for hit in ask(database, "pairs", (None, None, None), 99, asked)]
    correct = (
        "INSERT INTO correction (scan_id, kind, instance_no, object_no, term_id, holds, author)"
        " SELECT %s, %s, %s, %s, term_id, %s, 'me' FROM term WHERE text = %s"
    )
    database.execute(correct, (scan, "relation", s, o, False, "next to"))
    assert edge not in [hit[0] for hit in ask(database, "pairs", (None, None, None), 99, asked)]
    database.execute(correct, (scan, "relation", s, o, True, "next to"))
    assert edge in [hit[0] for hit in ask(database, "pairs", (None, None, None), 99, asked)]
    database.execute(correct, (scan, "label", s, None, True, "hanging from"))
    renamed = {**asked, "subject_label": "hanging from"}
    assert edge in [hit[0] for hit in ask(database, "pairs", (None, None, None), 99, renamed)]


def test_plans_use_the_indexes(database: psycopg.Connection[Any], world: World) -> None:
    by_index(database, 5)

    def plan(statement: str, *values: object) -> str:
        (text,) = database.execute(f"SELECT {statement}".encode(), values).fetchone() or ("",)
        lists = {5: "'{1,2}'::int8[]", 6: "'{1,2}'::int4[]", 7: "'{0.5,0.4}'::float8[]", 10: "0.7"}
        lists |= {1: f"'{[1.0] * NODE_DIMENSION}'::halfvec", 3: f"'{[1.0] * NODE_DIMENSION}'::halfvec"}
        lists |= {2: f"'{[1.0] * PAIR_DIMENSION}'::halfvec", 4: "5", 8: "'{1}'", 9: "'{0.5}'"}
        for number in sorted(lists, reverse=True):
            text = text.replace(f"${number}", lists[number])
        return "\n".join(line for (line,) in database.execute(f"EXPLAIN {text}".encode()))

    edges, nodes = "triplet_edges_v1('features', '{2}')", "'node_feature n WHERE n.encoder_id = 1'"
    # Of so few rows reading and sorting all would cost less.
    database.execute("SET enable_sort = off")
    database.execute("SET enable_seqscan = off")
    assert "pair_feature_2_hnsw" in plan("nearest_pairs_statement_v1(2, %s, '')", PAIR_DIMENSION)
    assert "relation_caption_phrase_id_idx" in plan("nearest_phrases_statement_v1(3, '')")
    for place in ("subject", "object"):
        found = plan(f"listed_triplets_statement_v1({edges}, '', {nodes}, %s, 'embedding')", place)
        assert "Seq Scan" not in found
        assert "pair_feature" in found
        assert "node_feature_pkey" in found
        found = plan(f"listed_triplets_statement_v1({edges}, '', NULL, %s, 'embedding')", place)
        assert "Seq Scan" not in found
        assert "node_feature" not in found
    one = 'triplet_conditions_v1(\'{"subject_instance": {"scan_id": 1, "instance": 2}}\')'
    found = plan(f"exact_triplets_statement_v1({edges}, {one}, {nodes}, true, 'embedding', true)")
    assert "Seq Scan on pair_feature" not in found


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("'[1]', NULL, NULL, 5, '{}', 'toy'", "the subject has 1 dimensions, toy has 12"),
        ("NULL, '[1]', NULL, 5, '{}', 'toy', 'pairs'", "the predicate has 1 dimensions, pairs has 10"),
        ("NULL, NULL, array_fill(0, ARRAY[12])::vector, 5, '{}', 'toy'", "the object is a zero vector"),
        ("'[1]', NULL, NULL, 5", "no encoder NULL"),
        ("NULL, '[1]', NULL, 5", "needs a pair_encoder or a prediction"),
        ("NULL, '[1]', NULL, 5, '{\"predicate_label\": \"on\"}'", "both compared and named"),
        ("NULL, '[1]', NULL, 5, pair_encoder => 'words'", "nothing of pairs by words"),
        ("NULL, NULL, NULL, 0", "k must be at least 1"),
        ("NULL, NULL, NULL, NULL", "k must be at least 1"),
        ("NULL, NULL, NULL, 5, '{\"lable\": 1}'", "unknown filter: lable"),
        ("NULL, NULL, NULL, 5, '{\"within\": [1]}'", "takes six numbers"),
        ('NULL, NULL, NULL, 5, \'{"subject_instance": {"scan_id": 1}}\'', "subject_instance takes"),
        ("NULL, NULL, NULL, 5, '{\"object_instance\": 4}'", "object_instance takes"),
        ("NULL, NULL, NULL, 5, prediction => 'none'", "no prediction 'none'"),
    ],
)
def test_wrong_arguments_are_told(
    database: psycopg.Connection[Any], world: World, arguments: str, told: str
) -> None:
    with pytest.raises(psycopg.Error, match=told):
        database.execute(f"SELECT * FROM search_triplets_v1({arguments})".encode())


def test_phrases_that_nobody_embedded_are_told(database: psycopg.Connection[Any], world: World) -> None:
    database.execute(
        "DELETE FROM term_embedding WHERE term_id = (SELECT max(phrase_id) FROM relation_caption)"
    )
    query = Vector(np.ones(WORD_DIMENSION))
    with pytest.raises(psycopg.Error, match="1 phrases that were said of pairs are not embedded"):
        database.execute(
            "SELECT FROM search_triplets_v1(NULL, %s, NULL, 5, pair_encoder => 'speaker', words => 'words')",
            [query],
        )


def test_a_reader_can_search_and_change_nothing(database: psycopg.Connection[Any], world: World) -> None:
    by_index(database, 5)
    query = unit(np.random.default_rng(4), NODE_DIMENSION)
    database.execute("SET ROLE open3dsg_reader")
    assert len(ask(database, "features", (query, None, query), 5, {})) == 5
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.execute("DELETE FROM pair_feature")
