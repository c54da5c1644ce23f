"""Rows of predictions: written, read, replaced and deleted."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import psycopg
import pytest

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from open3dsg.db.terms import terms_in_use
from open3dsg.errors import UserError
from open3dsg.store.predictions import (
    PREDICT,
    EdgePrediction,
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
from tests.db.drawn_predictions import PAIRS, PER_SCAN, SCANS, Database, edge_rows, fill, node_rows
from tests.db.predicted import write_prediction, write_run


@pytest.fixture
def made(database: Database) -> StoredPrediction:
    return fill(database)


def note(database: Database, variant: str) -> None:
    """Have the ledger say that a scan was predicted so."""
    [(scan_id,)] = database.execute("SELECT min(scan_id) FROM scan").fetchall()
    ledger.record(database, scan_id, ledger.Entry(PREDICT, 1, {}, variant), {}, [])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_not_written(
    database: Database, made: StoredPrediction, wrong: float
) -> None:
    def write(*edges: EdgePrediction) -> None:
        with terms_in_use(database), database.transaction():
            clear_predictions(database, 1, made.prediction_id)
            write_predictions(database, 1, made.prediction_id, [], edges)

    before = len(read_edges(database, 1, made.prediction_id))
    numbers = np.array([0.5, wrong], np.float32)
    with pytest.raises(UserError, match="scores of the pair 1, 2: not finite"):
        write(EdgePrediction(1, 2, None, numbers, None, None, "student"))
    with pytest.raises(UserError, match=r"column embedding: .* not allowed in halfvec"):
        write(EdgePrediction(1, 2, numbers, None, None, None, "student"))
    assert len(read_edges(database, 1, made.prediction_id)) == before


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
