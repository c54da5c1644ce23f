"""What is asked of predictions in SQL, against numpy; and the rows of predictions themselves."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from pgvector import Vector
from psycopg.types.json import Jsonb

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.query.predictions import predicted_triplets
from open3dsg.store.predictions import (
    PREDICT,
    EdgePrediction,
    NodePrediction,
    StoredPrediction,
    clear_predictions,
    delete_prediction,
    find_prediction,
    hold_prediction,
    list_predictions,
    read_edges,
    read_nodes,
    register_prediction,
    write_predictions,
)
from open3dsg.store.runs import delete_run, find_run
from tests.db.predicted import (
    NODE_DIMENSION,
    RELATION_DIMENSION,
    unit_rows,
    write_encoder,
    write_prediction,
    write_run,
    write_vocabulary,
)

SCANS, PER_SCAN = 3, 8
LABELS = ("chair", "table")
CLASSES = [f"class {number}" for number in range(9)]
# Wordings and what they stand for; "behind" is meant only by others, and "none" is a term like others.
WORDINGS = {
    "none": "none",
    "left": "left",
    "to the left of": "left",
    "on the left side": "left",
    "standing on": "standing on",
    "at the back of": "behind",
    "behind": "behind",
}
PAIRS = [(a, b) for a in range(1, PER_SCAN + 1) for b in range(1, PER_SCAN + 1) if a != b]

Database = psycopg.Connection[Any]
NODES = unit_rows(1, SCANS, PER_SCAN, NODE_DIMENSION)
EDGES = unit_rows(2, SCANS, len(PAIRS), RELATION_DIMENSION)
CLASS_WORDS = unit_rows(3, len(CLASSES), NODE_DIMENSION)
WORDS = unit_rows(4, len(WORDINGS), RELATION_DIMENSION)
SILENT = {(0, 3), (1, 5)}  # scan, place of a pair: of these nothing was said


@pytest.fixture
def made(database: Database) -> StoredPrediction:
    """Three scans of two datasets with predictions, beside which other predictions stand."""
    labels = term_ids(database, LABELS)
    database.execute("INSERT INTO dataset (name, layout) VALUES ('even', '3rscan'), ('odd', '3rscan')")
    nodes = write_encoder(database, "toy", NODE_DIMENSION)
    words = write_encoder(database, "sentences", RELATION_DIMENSION, "text")
    run = write_run(database, "otter", nodes, words, words, targets="captions")
    prediction = write_prediction(database, run, words=words)
    other = write_prediction(database, run, "other", words=words)
    for scan in range(SCANS):
        [(scan_id,)] = database.execute(
            "INSERT INTO scan (dataset_id, name) VALUES (%s, %s) RETURNING scan_id",
            [1 + scan % 2, f"scan{scan}"],
        ).fetchall()
        database.execute(
            "INSERT INTO instance (scan_id, instance_no, label_id, point_count, centroid_m)"
            " SELECT %s, n, CASE n %% 2 WHEN 0 THEN %s ELSE %s END, 1, ARRAY[n, %s, 0]"
            " FROM generate_series(1, %s) n",
            [scan_id, labels["chair"], labels["table"], scan, PER_SCAN],
        )
        with terms_in_use(database), database.transaction():
            write_predictions(database, scan_id, prediction.prediction_id, node_rows(scan), edge_rows(scan))
            noise = [row._replace(embedding=-row.embedding) for row in node_rows(scan)]
            write_predictions(database, scan_id, other.prediction_id, noise, [])
    write_vocabulary(database, "classes", {word: word for word in CLASSES}, nodes, CLASS_WORDS)
    write_vocabulary(database, "wordings", WORDINGS, words, WORDS)
    return prediction


def node_rows(scan: int) -> list[NodePrediction]:
    origins: list[Any] = ["student", "teacher"]
    return [NodePrediction(at + 1, NODES[scan, at], origins[at % 2]) for at in range(PER_SCAN)]


def edge_rows(scan: int) -> list[EdgePrediction]:
    return [
        EdgePrediction(
            *pair,
            None if (scan, at) in SILENT else EDGES[scan, at],
            None,
            "the whole" if at % 2 else None,
            "part of it" if at % 4 == 1 else None,
            "fused",
        )
        for at, pair in enumerate(PAIRS)
    ]


def note(database: Database, variant: str) -> None:
    """Have the ledger say that a scan was predicted so."""
    [(scan_id,)] = database.execute("SELECT min(scan_id) FROM scan").fetchall()
    ledger.record(database, scan_id, ledger.Entry(PREDICT, 1, {}, variant), {}, [])


def cosines(rows: NDArray[np.float32], words: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = rows.astype(np.float64), words.astype(np.float64)
    norms = np.linalg.norm(a, axis=-1)[..., None] * np.linalg.norm(b, axis=-1)
    result: NDArray[np.float64] = a @ b.T / norms
    return result


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda scan, number: True),
    ({"scan": "scan1"}, lambda scan, number: scan == 1),
    ({"dataset": "even"}, lambda scan, number: scan % 2 == 0),
    ({"label": "CHAIR"}, lambda scan, number: number % 2 == 0),
    ({"within": [2.5, -1, -1, 6.5, 1.5, 1]}, lambda scan, number: 3 <= number <= 6 and scan <= 1),
]


@pytest.mark.parametrize(("filters", "keeps"), FILTERS, ids=str)
def test_search_equals_numpy(
    database: Database, made: StoredPrediction, filters: dict[str, Any], keeps: Any
) -> None:
    query = np.random.default_rng(6).normal(size=NODE_DIMENSION)
    expected = sorted(
        (
            (-cosines(NODES[scan, number - 1], query[None].astype(np.float32))[0], f"scan{scan}", number)
            for scan in range(SCANS)
            for number in range(1, PER_SCAN + 1)
            if keeps(scan, number)
        ),
    )[:5]
    hits = database.execute(
        "SELECT scan, instance, similarity, label, origin, dataset FROM search_predictions_v1(%s, %s, 5, %s)",
        [Vector(query), made.full_name, Jsonb(filters)],
    ).fetchall()
    assert [hit[:2] for hit in hits] == [row[1:] for row in expected]
    np.testing.assert_allclose([hit[2] for hit in hits], [-row[0] for row in expected], atol=1e-6)
    for scan, number, _similarity, label, origin, dataset in hits:
        assert label == LABELS[number % 2]
        assert origin == ("student", "teacher")[(number - 1) % 2]
        assert dataset == ("even", "odd")[int(scan[-1]) % 2]


def test_a_search_reads_the_rows_of_its_prediction_alone(database: Database, made: StoredPrediction) -> None:
    database.execute(
        "INSERT INTO scan (dataset_id, name) SELECT 1, 'more' || n FROM generate_series(1, 400) n"
    )
    database.execute(
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count, centroid_m)"
        " SELECT scan_id, 1, 1, 1, '{0,0,0}' FROM scan WHERE name LIKE 'more%'"
    )
    database.execute(
        "INSERT INTO node_prediction (scan_id, prediction_id, instance_no, embedding, origin)"
        " SELECT s.scan_id, 2, 1, %s, 'student' FROM scan s WHERE name LIKE 'more%%'",
        [str(NODES[0, 0].tolist())],
    )
    database.execute("ANALYZE node_prediction")
    [(statement,)] = database.execute(
        "SELECT search_predictions_statement_v1(%s, %s, '')", [made.prediction_id, NODE_DIMENSION]
    ).fetchall()
    statement = statement.replace("$1", f"'{[1.0] * NODE_DIMENSION}'").replace("$2", "5")
    plan = "\n".join(line for (line,) in database.execute(f"EXPLAIN {statement}".encode()))
    assert "node_prediction_prediction_id_idx" in plan
    assert f"prediction_id = {made.prediction_id}" in plan


@pytest.mark.parametrize("k", [1, 4, 100])
def test_classes_equal_numpy(database: Database, made: StoredPrediction, k: int) -> None:
    found = database.execute(
        "SELECT scan, instance, rank, term, similarity, wording"
        " FROM classify_predictions_v1(%s, 'classes', %s)",
        ["otter:teacher", k],
    ).fetchall()
    similarity = cosines(NODES, CLASS_WORDS)
    order = np.argsort(-similarity, axis=-1)[..., :k]
    expected = [
        (f"scan{scan}", number + 1, place + 1, CLASSES[at], similarity[scan, number, at])
        for scan in range(SCANS)
        for number in range(PER_SCAN)
        for place, at in enumerate(order[scan, number])
    ]
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    np.testing.assert_allclose([row[4] for row in found], [row[4] for row in expected], atol=1e-6)
    assert all(row[5] == row[3] for row in found)
    one = database.execute(
        "SELECT DISTINCT scan FROM classify_predictions_v1('otter:teacher', 'classes', 1, 'odd/scan1')"
    ).fetchall()
    assert one == [("scan1",)]


def test_predicates_equal_numpy_and_a_wording_counts_for_what_it_stands_for(
    database: Database, made: StoredPrediction
) -> None:
    found = database.execute(
        "SELECT scan, subject, object, rank, predicate, similarity, wording"
        " FROM map_predicates_v1('otter:teacher', 'wordings', 3)"
    ).fetchall()
    similarity = cosines(EDGES, WORDS)
    expected = []
    for scan in range(SCANS):
        for at, pair in enumerate(PAIRS):
            if (scan, at) in SILENT:
                continue
            best: dict[str, tuple[float, str]] = {}
            for place, (wording, meant) in enumerate(WORDINGS.items()):
                best[meant] = max(best.get(meant, (-2.0, "")), (similarity[scan, at, place], wording))
            ranked = sorted(best, key=lambda meant: -best[meant][0])[:3]
            expected += [
                (f"scan{scan}", *pair, rank, meant, best[meant][0], best[meant][1])
                for rank, meant in enumerate(ranked, 1)
            ]
    assert [(*row[:5], row[6]) for row in found] == [(*row[:5], row[6]) for row in expected]
    np.testing.assert_allclose([row[5] for row in found], [row[5] for row in expected], atol=1e-6)
    assert {"none", "left", "behind", "standing on"} == {row[4] for row in found}


def test_classes_change_with_the_vocabulary_without_predicting_again(
    database: Database, made: StoredPrediction
) -> None:
    first = (
        "SELECT term FROM classify_predictions_v1('otter:teacher', 'classes', 1, 'scan0') WHERE instance = 1"
    )
    best = CLASSES[int(cosines(NODES[0, 0], CLASS_WORDS).argmax())]
    assert database.execute(first.encode()).fetchall() == [(best,)]
    database.execute(
        "DELETE FROM vocabulary_term WHERE term_id = (SELECT term_id FROM term WHERE text = %s)", [best]
    )
    second = CLASSES[int(np.argsort(-cosines(NODES[0, 0], CLASS_WORDS))[1])]
    assert database.execute(first.encode()).fetchall() == [(second,)]


def test_ties_are_broken_by_text(database: Database, made: StoredPrediction) -> None:
    words = ["b", "a", "c", "A"]
    same = np.repeat(CLASS_WORDS[:1], 4, axis=0)
    write_vocabulary(database, "ties", {word: word for word in words}, made.node_words, same)
    found = database.execute(
        "SELECT rank, term FROM classify_predictions_v1('otter:teacher', 'ties', 3, 'scan0')"
        " WHERE instance = 1"
    ).fetchall()
    assert found == [(1, "A"), (2, "a"), (3, "b")]


def test_scores_of_classes_are_ranked(database: Database, made: StoredPrediction) -> None:
    predicates = ["none", "left", "behind"]
    run = write_run(database, "badger", made.node_words, None, None, targets="classes", predicates=predicates)
    prediction = write_prediction(database, run)
    scores = np.random.default_rng(8).uniform(size=(len(PAIRS), 3)).astype(np.float32)
    [(scan_id,)] = database.execute("SELECT scan_id FROM scan WHERE name = 'scan0'").fetchall()
    edges = [EdgePrediction(*pair, None, scores[at], None, None, "student") for at, pair in enumerate(PAIRS)]
    with terms_in_use(database), database.transaction():
        write_predictions(database, scan_id, prediction.prediction_id, [], edges)
    # Of the vocabulary only those that are classes count, and each once, however it is worded.
    found = database.execute(
        "SELECT subject, object, rank, predicate, similarity FROM map_predicates_v1('badger', 'wordings', 2)"
    ).fetchall()
    order = np.argsort(-scores, axis=1)[:, :2]
    assert [row[:4] for row in found] == [
        (*pair, place + 1, predicates[at])
        for pair, row in zip(PAIRS, order, strict=True)
        for place, at in enumerate(row)
    ]
    np.testing.assert_allclose(
        [row[4] for row in found], np.take_along_axis(scores, order, axis=1).ravel(), atol=1e-6
    )
    with pytest.raises(
        psycopg.errors.DataException, match="no term of vocabulary classes is a class of the run"
    ):
        database.execute("SELECT * FROM map_predicates_v1('badger', 'classes', 2)")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            "classify_predictions_v1('otter:none', 'classes', 1)",
            "no prediction 'otter:none'.*known: otter:other, otter:teacher",
        ),
        (
            "classify_predictions_v1('otter', 'classes', 1)",
            "'otter' has several predictions.*say otter:other or otter:teacher",
        ),
        (
            "classify_predictions_v1('otter:teacher', 'none such', 1)",
            "no vocabulary 'none such'.*known: classes, wordings",
        ),
        (
            "classify_predictions_v1('otter:teacher', 'wordings', 1)",
            "7 terms of vocabulary wordings have no embedding by toy@r, of dimension 12, which this is"
            " compared with; they have by sentences@r of dimension 7.*open3dsg predict",
        ),
        ("classify_predictions_v1('otter:teacher', 'classes', 0)", "k must be at least 1"),
        ("classify_predictions_v1('otter:teacher', 'classes', 1, 'nowhere')", "no scan 'nowhere'"),
        (
            "map_predicates_v1('otter:teacher', 'classes', 1)",
            "9 terms of vocabulary classes have no embedding by sentences@r",
        ),
        ("map_predicates_v1('otter:teacher', 'wordings', NULL)", "k must be at least 1"),
        (
            "search_predictions_v1('[1,0]', 'otter:teacher', 3)",
            "the query has 2 dimensions, the nodes of otter:teacher have 12",
        ),
        ("search_predictions_v1(NULL, 'otter:teacher', 3)", "the query is NULL.*term_vector_v1"),
        ("search_predictions_v1('[0,0,0,0,0,0,0,0,0,0,0,0]', 'otter:teacher', 3)", "zero vector"),
    ],
)
def test_what_cannot_be_asked_is_told_with_a_hint(
    database: Database, made: StoredPrediction, asked: str, told: str
) -> None:
    with pytest.raises(psycopg.errors.DatabaseError, match=f"(?s){told}"):
        database.execute(f"SELECT * FROM {asked}".encode())


def test_relations_in_no_space_of_words_are_refused(database: Database, made: StoredPrediction) -> None:
    run = write_run(database, "heron", made.node_words, made.relation_words, None, targets="tokens")
    write_prediction(database, run)
    with pytest.raises(psycopg.errors.DataException, match="'heron' are in no space of words"):
        database.execute("SELECT * FROM map_predicates_v1('heron', 'wordings', 1)")


def test_rows_are_read_as_they_were_written(database: Database, made: StoredPrediction) -> None:
    [(scan_id,)] = database.execute("SELECT scan_id FROM scan WHERE name = 'scan1'").fetchall()
    nodes = read_nodes(database, scan_id, made.prediction_id)
    for got, wrote in zip(nodes, node_rows(1), strict=True):
        assert (got.instance, got.origin) == (wrote.instance, wrote.origin)
        np.testing.assert_array_equal(got.embedding, wrote.embedding)
    for edge, given in zip(read_edges(database, scan_id, made.prediction_id), edge_rows(1), strict=True):
        assert edge._replace(embedding=None) == given._replace(embedding=None)
        np.testing.assert_array_equal(edge.embedding, given.embedding)
    view = database.execute(
        "SELECT count(*), count(phrase), count(caption) FROM v_edge_prediction"
        " WHERE prediction = 'otter:teacher' AND scan = 'scan1'"
    ).fetchall()
    assert view == [(len(PAIRS), len(PAIRS) // 4, len(PAIRS) // 2)]
    assert database.execute("SELECT count(*) FROM v_node_prediction").fetchall() == [(2 * SCANS * PER_SCAN,)]
    clear_predictions(database, scan_id, made.prediction_id)
    assert read_nodes(database, scan_id, made.prediction_id) == []
    assert read_edges(database, scan_id, made.prediction_id) == []


def test_triplets_name_both_ends(database: Database, made: StoredPrediction) -> None:
    found = predicted_triplets(
        database, "otter:teacher", "even/scan0", classes="classes", predicates="wordings"
    )
    nearest = cosines(NODES[0], CLASS_WORDS).argmax(axis=1)
    assert len(found) == len(PAIRS) - 1
    for one in found:
        assert one.subject_class == CLASSES[nearest[one.subject - 1]]
        assert one.object_class == CLASSES[nearest[one.object - 1]]
        assert one.subject_label == LABELS[one.subject % 2]
        assert (one.rank, one.dataset, one.scan) == (1, "even", "scan0")
    with pytest.raises(
        UserError, match="no vocabulary 'none such' in this database; known: classes, wordings"
    ):
        predicted_triplets(database, "otter:teacher", "scan0", classes="none such", predicates="wordings")


def test_a_prediction_made_otherwise_is_refused_or_replaced(
    database: Database, made: StoredPrediction
) -> None:
    assert register_prediction(database, made) == made
    newer = {"source": "fused", "weight_2d": 0.7, "checkpoint_step": 40, "checkpoint_digest": "a"}
    run = write_run(database, "stoat", made.node_words, made.relation_words, made.relation_words)
    first = write_prediction(database, run, "f", made.relation_words, **newer)
    assert register_prediction(database, first) == first
    note(database, "stoat:f")
    later: Any = newer | {"checkpoint_step": 80, "checkpoint_digest": "b"}
    told = "stoat:f was predicted otherwise .with the checkpoint of step 40, now 80.: --replace drops it"
    with pytest.raises(UserError, match=told):
        write_prediction(database, run, "f", made.relation_words, **later)
    with pytest.raises(UserError, match=r"otherwise \(weight of 2D 0.7, now 0.5\)"):
        write_prediction(database, run, "f", made.relation_words, **newer | {"weight_2d": 0.5})
    write_prediction(database, run, "g", made.relation_words, options={"graphs": "subgraph"})
    note(database, "stoat:g")
    with pytest.raises(UserError, match=r"graphs subgraph, now full.*--label NAME keeps both"):
        write_prediction(database, run, "g", made.relation_words, options={"graphs": "full"})
    assert [one.full_name for one in list_predictions(database, "stoat")] == ["stoat:f", "stoat:g"]
    assert [one.full_name for one in list_predictions(database)][:2] == ["otter:other", "otter:teacher"]
    with pytest.raises(UserError, match="say otter:other or otter:teacher"):
        find_prediction(database, "otter")
    with pytest.raises(UserError, match="no prediction 'weasel' in the store; it has otter:other"):
        find_prediction(database, "weasel")
    assert delete_prediction(database, made) == (SCANS * PER_SCAN, SCANS * len(PAIRS), 0)
    assert find_prediction(database, "otter").label == "other"


def test_one_of_which_no_scan_was_predicted_gives_way(database: Database, made: StoredPrediction) -> None:
    """As of a command that failed for a checkpoint of no use: the next is not refused for it."""
    run = write_run(database, "stoat", made.node_words, made.relation_words, made.relation_words)
    first = write_prediction(database, run, options={"graphs": "subgraph"})
    second = write_prediction(database, run, options={"graphs": "full"})
    assert list_predictions(database, "stoat") == [second]
    assert second.prediction_id != first.prediction_id


@pytest.mark.parametrize("whole_run", [False, True])
def test_what_is_being_written_goes_with_what_is_deleted(
    database: Database, database_url: str, made: StoredPrediction, whole_run: bool
) -> None:
    """Who deletes waits for who writes, and drops what that one noted in the ledger, too."""
    with psycopg.connect(database_url) as writer, connect(database_url) as other:
        other.autocommit = True
        hold_prediction(writer, made)
        note(writer, made.full_name)

        def delete() -> None:
            if whole_run:
                delete_run(other, find_run(other, "otter"))
            else:
                delete_prediction(other, made)

        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        writer.commit()
        thread.join()
        assert database.execute("SELECT variant FROM ledger WHERE step = 'predict'").fetchall() == []
        assert made.full_name not in [one.full_name for one in list_predictions(database)]
        with pytest.raises(UserError, match="otter:teacher was deleted or replaced meanwhile"):
            hold_prediction(writer, made)
