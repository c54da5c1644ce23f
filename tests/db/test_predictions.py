"""What is asked of predictions in SQL, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from pgvector import Vector
from psycopg.types.json import Jsonb

from open3dsg.db.terms import terms_in_use
from open3dsg.errors import UserError
from open3dsg.query.predictions import predicted_triplets
from open3dsg.store.predictions import (
    EdgePrediction,
    StoredPrediction,
    write_predictions,
)
from tests.db.drawn_predictions import (
    CLASS_WORDS,
    CLASSES,
    EDGES,
    LABELS,
    NODES,
    PAIRS,
    PER_SCAN,
    SCANS,
    SILENT,
    WORDINGS,
    WORDS,
    Database,
    fill,
)
from tests.db.predicted import (
    NODE_DIMENSION,
    write_prediction,
    write_run,
    write_vocabulary,
)


@pytest.fixture
def made(database: Database) -> StoredPrediction:
    return fill(database)


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
