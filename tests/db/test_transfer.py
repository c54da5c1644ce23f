"""Scans in another database: the same rows by name, whatever ids that one gives."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from open3dsg.db.terms import term_ids
from open3dsg.errors import UserError
from open3dsg.store.corrections import correct_label, list_corrections, revert_correction
from open3dsg.store.scans import find_scan
from open3dsg.store.transfer import check_target, copy_scan
from tests.content import content, row_counts
from tests.db import trained
from tests.db.pipeline import Database


@pytest.fixture
def store(
    database: Database,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Database:
    """Two scans with all that the steps make of them."""
    trained.with_toys(tmp_path_factory.mktemp("encoders"), monkeypatch)
    trained.trainable(database, tmp_path)
    return database


def test_the_same_by_name(store: Database, fresh: Database) -> None:
    term_ids(fresh, ["of another store", "red", "zebra"])  # so that ids differ
    fresh.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active)"
        " VALUES ('x', 'r', 3, 'crops', true)"
    )
    for number in (1, 2):
        copied = copy_scan(store, fresh, find_scan(store, trained.key(number)))
        assert copied.rows is not None
        assert copied.rows["point_block"] == 1
    here, there = content(store), content(fresh)
    for table in here:
        if table == "encoder":
            assert {*here[table]} <= {*there[table]}
        elif table not in ("term", "term_embedding"):
            assert there[table] == here[table], table
    words = (
        "SELECT t.text, e.name, te.embedding::text"
        " FROM term_embedding te JOIN term t USING (term_id) JOIN encoder e USING (encoder_id) ORDER BY 1, 2"
    )
    assert fresh.execute(words).fetchall() == store.execute(words).fetchall()


def test_the_newest_correction_stays_the_newest(store: Database, fresh: Database) -> None:
    """However the rows lie: one that was taken back is a new row behind the others, for PostgreSQL."""
    scan = find_scan(store, trained.key(1))
    said = [correct_label(store, scan.key, 7, label, "ana") for label in ("poster", "mirror", "screen")]
    revert_correction(store, said[0], "bo")
    store.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
    copy_scan(store, fresh, scan)
    told = [(made.text, made.in_force, made.reverted_by) for made in list_corrections(fresh, scan.key)]
    assert told == [("poster", False, "bo"), ("mirror", False, None), ("screen", True, None)]


def test_what_is_there_stays_or_is_replaced(store: Database, fresh: Database) -> None:
    scan = find_scan(store, trained.key(1))
    copy_scan(store, fresh, scan)
    before = content(fresh)
    store.execute("DELETE FROM relation_caption")
    assert copy_scan(store, fresh, scan).rows is None
    assert content(fresh) == before
    copied = copy_scan(store, fresh, scan, replace=True)
    assert copied.rows is not None
    assert "relation_caption" not in copied.rows
    assert row_counts(fresh)["relation_caption"] == 0
    assert row_counts(fresh)["scan"] == 1


def test_nothing_is_half_written(store: Database, fresh: Database) -> None:
    before = row_counts(fresh)
    fresh.execute("ALTER TABLE relation_caption ADD CHECK (caption = 'nothing else')")
    with pytest.raises(psycopg.errors.CheckViolation):
        copy_scan(store, fresh, find_scan(store, trained.key(1)))
    assert row_counts(fresh) == before


def test_refusals(store: Database, fresh: Database) -> None:
    with pytest.raises(UserError, match="--to is the database that is copied from"):
        check_target(store, store)
    check_target(store, fresh)
    fresh.execute("INSERT INTO dataset (name, layout) VALUES ('3rscan', 'scannet')")
    with pytest.raises(UserError, match="has the layout scannet, here 3rscan"):
        copy_scan(store, fresh, find_scan(store, trained.key(1)))
    fresh.execute("DELETE FROM dataset")
    fresh.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active)"
        " SELECT 'toy', %s, 9, 'crops', true",
        store.execute("SELECT revision FROM encoder WHERE name = 'toy'").fetchone(),
    )
    with pytest.raises(UserError, match="with 9 numbers an embedding, this one with 4"):
        copy_scan(store, fresh, find_scan(store, trained.key(1)))
    assert row_counts(fresh)["scan"] == 0
