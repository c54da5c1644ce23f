"""Building a vector index again: readers search meanwhile, and what was written meanwhile is in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector

from open3dsg.db.connect import connect
from open3dsg.encoders.tokens import TokenFormat
from open3dsg.errors import UserError
from open3dsg.store import indexes
from open3dsg.store.encoders import StoredEncoder, find_encoder
from open3dsg.store.indexes import build_index, rebuild_index
from open3dsg.store.pair_features import write_pair_features
from tests.db.nodes import write_encoder, write_features
from tests.db.pairs import all_pairs, made_features, rows, write_scan, write_token_encoder

Database = psycopg.Connection[Any]

DIMENSION, NODES = 16, 3_000


def unit(place: int, length: int = DIMENSION) -> HalfVector:
    return HalfVector(np.eye(length)[place])


@pytest.fixture
def toy(database: Database) -> StoredEncoder:
    """The encoder `toy`, with 3,000 nodes of scan 1 and the index over them; node 3,001 has no feature."""
    database.execute("SET open3dsg.exact_rows = 0")
    assert write_scan(database, "s", NODES + 1) == 1
    write_encoder(database, DIMENSION)
    vectors = np.random.default_rng(3).normal(size=(NODES, DIMENSION)).astype(np.float16)
    write_features(database, [(1, number) for number in range(1, NODES + 1)], vectors)
    encoder = find_encoder(database, "toy")
    assert build_index(database, encoder, pairs=False) == "node_feature_1_hnsw"
    return encoder


def oids(database: Database, table: str = "node_feature") -> dict[str, int]:
    return dict(
        rows(
            database,
            "SELECT indexrelid::regclass::text, indexrelid::int8 FROM pg_index"
            " WHERE indrelid = %s::regclass AND indpred IS NOT NULL AND indisvalid",
            [table],
        )
    )


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what other threads bring about, for a minute at most."""
    for _ in range(6_000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("what was waited for did not happen")


def waiting_for_lock(database: Database, mode: str) -> bool:
    return bool(rows(database, "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = %s", [mode]))


class Rebuild(threading.Thread):
    """A rebuild on a connection of its own; `outcome` is the index's name, or what was raised."""

    def __init__(self, url: str, encoder: StoredEncoder, **options: Any) -> None:
        super().__init__()
        self._url, self._encoder, self._options = url, encoder, options
        self.outcome: object = None

    def run(self) -> None:
        with connect(self._url) as connection:
            connection.autocommit = True
            try:
                self.outcome = rebuild_index(connection, self._encoder, pairs=False, **self._options)
            except UserError as error:
                self.outcome = error


def search(database: Database, place: int = 0) -> int:
    query = str(np.eye(DIMENSION)[place].tolist())
    [(found,)] = rows(database, "SELECT instance FROM search_nodes_v1(%s::vector, 'toy', 1)", [query])
    return int(found)


def test_readers_search_while_a_rebuild_waits_builds_and_what_was_written_is_in_it(
    database: Database, database_url: str, toy: StoredEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "_PAUSE_S", 0.01)
    before = oids(database)
    with connect(database_url) as writer, connect(database_url) as reader, connect(database_url) as stays:
        search(stays)  # its transaction stays open: the rebuild cannot end before our searches
        reader.autocommit = True
        reader.execute("SET open3dsg.exact_rows = 0")
        reader.execute("SET lock_timeout = '50ms'")  # a search that has to wait longer fails
        writer.execute(
            "INSERT INTO node_feature VALUES (1, 1, %s, %s, '{}', '{}', '{}')", [NODES + 1, unit(0)]
        )
        rebuild = Rebuild(database_url, toy)
        rebuild.start()
        wait_until(lambda: waiting_for_lock(database, "ShareLock"))
        assert search(reader) != NODES + 1  # the writer has not committed
        writer.commit()
        while "node_feature_1_hnsw_new" not in oids(database):
            try:
                assert search(reader) == NODES + 1  # while it builds
            except psycopg.errors.LockNotAvailable:  # it has just begun to change the two
                assert "node_feature_1_hnsw_new" in oids(database)
        stays.rollback()
        rebuild.join()
        assert rebuild.outcome == "node_feature_1_hnsw"
        assert search(reader) == NODES + 1
    after = oids(database)
    assert after.keys() == before.keys() == {"node_feature_1_hnsw"}
    assert after != before
    database.execute("SET enable_seqscan = off")
    statement = (
        "SELECT instance_no FROM node_feature WHERE encoder_id = 1"
        f" ORDER BY embedding::halfvec({DIMENSION}) <=> %s LIMIT 1"
    )
    assert "node_feature_1_hnsw" in str(rows(database, f"EXPLAIN {statement}", [unit(0)]))
    assert rows(database, statement, [unit(0)]) == [(NODES + 1,)]


def test_a_reader_that_stays_is_waited_for_and_keeps_no_other_from_searching(
    database: Database, database_url: str, toy: StoredEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "_PAUSE_S", 0.01)
    database.execute("SET lock_timeout = '30s'")
    before = oids(database)
    with connect(database_url) as stays:
        search(stays)  # and its transaction stays open
        rebuild = Rebuild(database_url, toy)
        rebuild.start()
        for _ in range(3):  # each time the rebuild is at it again, others get through behind it
            wait_until(lambda: waiting_for_lock(database, "AccessExclusiveLock"))
            search(database)
            assert oids(database).items() > before.items()
        stays.rollback()
        rebuild.join()
    assert rebuild.outcome == "node_feature_1_hnsw"
    after = oids(database)
    assert after.keys() == before.keys()
    assert after != before


def test_a_rebuild_that_gives_up_keeps_both_and_the_next_one_goes_on(
    database: Database, database_url: str, toy: StoredEncoder
) -> None:
    old = oids(database)["node_feature_1_hnsw"]
    with connect(database_url) as stays:
        search(stays)
        with pytest.raises(UserError, match=r"^the new index of toy@r is built, but for 0 s a query"):
            rebuild_index(database, toy, pairs=False, patience_s=0)
    both = oids(database)
    assert both["node_feature_1_hnsw"] == old
    assert rebuild_index(database, toy, pairs=False) == "node_feature_1_hnsw"
    assert oids(database) == {"node_feature_1_hnsw": both["node_feature_1_hnsw_new"]}


def test_of_two_rebuilds_at_once_the_second_is_told(
    database: Database, database_url: str, toy: StoredEncoder
) -> None:
    database.execute("SET lock_timeout = '10s'")  # if it is not told, it fails
    with connect(database_url) as writer:
        writer.execute("DELETE FROM node_feature WHERE instance_no = 1")  # a build waits for its end
        rebuild = Rebuild(database_url, toy)
        rebuild.start()
        wait_until(lambda: waiting_for_lock(database, "ShareLock"))
        with pytest.raises(UserError, match=r"^someone builds this index of toy@r now"):
            rebuild_index(database, toy, pairs=False)
        writer.commit()
        rebuild.join()
    assert rebuild.outcome == "node_feature_1_hnsw"
    assert rebuild_index(database, toy, pairs=False) == "node_feature_1_hnsw"  # the lock is gone
    assert oids(database).keys() == {"node_feature_1_hnsw"}


def test_of_two_builds_at_once_the_second_finds_the_index_of_the_first(
    database: Database, database_url: str, toy: StoredEncoder
) -> None:
    database.execute("DROP INDEX node_feature_1_hnsw")
    with (
        ThreadPoolExecutor(1) as others,  # ends last: it waits for the second, and that for the first
        connect(database_url) as watcher,
        connect(database_url) as first,
    ):
        watcher.autocommit = True
        assert build_index(first, toy, pairs=False) == "node_feature_1_hnsw"
        second = others.submit(build_index, database, toy, pairs=False)
        wait_until(lambda: waiting_for_lock(watcher, "ExclusiveLock"))
        first.commit()
        assert second.result() == "node_feature_1_hnsw"
    assert oids(database).keys() == {"node_feature_1_hnsw"}


def test_features_that_are_dropped_during_a_rebuild_are_told(
    database: Database, database_url: str, toy: StoredEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "_PAUSE_S", 0.01)
    with connect(database_url) as stays:
        search(stays)
        rebuild = Rebuild(database_url, toy)
        rebuild.start()
        wait_until(lambda: "node_feature_1_hnsw_new" in oids(database))
        stays.execute("DELETE FROM node_feature")
        stays.execute("SELECT drop_unused_indexes_v1('toy')")
        stays.commit()
        rebuild.join()
    assert (
        str(rebuild.outcome) == "features of toy@r were dropped while the index was built, and it with them"
    )
    assert oids(database) == {}


def test_a_rebuild_needs_a_connection_that_commits(database_url: str, toy: StoredEncoder) -> None:
    with connect(database_url) as connection, pytest.raises(ValueError, match="must commit by itself"):
        rebuild_index(connection, toy, pairs=False)


def test_a_rebuild_of_none_builds_one(database: Database, toy: StoredEncoder) -> None:
    database.execute("DROP INDEX node_feature_1_hnsw")
    assert rebuild_index(database, toy, pairs=False) == "node_feature_1_hnsw"
    assert oids(database).keys() == {"node_feature_1_hnsw"}


def test_pairs_have_an_index_of_their_own(database: Database) -> None:
    scan, encoder = write_scan(database, "s", 12), write_token_encoder(database)
    with pytest.raises(UserError, match=r"no features of pairs by toytokens@r: for those of instances leave"):
        build_index(database, encoder, pairs=True)
    write_pair_features(
        database, scan, encoder.encoder_id, made_features(all_pairs(12), TokenFormat("pooled"))
    )
    with pytest.raises(UserError, match=r"no features of instances by toytokens@r: for those of pairs say"):
        rebuild_index(database, encoder, pairs=False)
    assert build_index(database, encoder, pairs=True) == "pair_feature_1_hnsw"
    before = oids(database, "pair_feature")
    assert build_index(database, encoder, pairs=True) == "pair_feature_1_hnsw"
    assert oids(database, "pair_feature") == before
    assert rebuild_index(database, encoder, pairs=True) == "pair_feature_1_hnsw"
    assert oids(database, "pair_feature").keys() == before.keys() == {"pair_feature_1_hnsw"}
    assert oids(database, "pair_feature") != before
    database.execute("SET enable_seqscan = off")
    [(wanted,)] = rows(database, "SELECT embedding FROM pair_feature WHERE (instance_a, instance_b) = (4, 9)")
    statement = (
        "SELECT instance_a, instance_b FROM pair_feature WHERE encoder_id = 1"
        " ORDER BY embedding::halfvec(6) <=> %s LIMIT 1"
    )
    assert "pair_feature_1_hnsw" in str(rows(database, f"EXPLAIN {statement}", [wanted]))
    assert rows(database, statement, [wanted]) == [(4, 9)]
