"""Building a vector index: its memory, its processes, and what a short /dev/shm does to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest

from open3dsg.db.terms import term_ids
from tests.db.nodes import write_encoder, write_features

DIMENSION, ROWS = 16, 4_000


@pytest.fixture
def nodes(database: psycopg.Connection[Any]) -> None:
    """Embeddings enough for PostgreSQL to think of a parallel build."""
    vectors = np.random.default_rng(3).normal(size=(ROWS, DIMENSION)).astype(np.float16)
    database.execute("INSERT INTO dataset (name, layout) VALUES ('d', '3rscan')")
    database.execute("INSERT INTO scan (dataset_id, name) VALUES (1, 's')")
    write_encoder(database, DIMENSION)
    database.execute(
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count, centroid_m)"
        f" SELECT 1, n, %s, 1, '{{0,0,0}}' FROM generate_series(0, {ROWS - 1}) n",
        [term_ids(database, ["thing"])["thing"]],
    )
    write_features(database, [(1, number) for number in range(ROWS)], vectors)
    database.execute("ANALYZE node_feature")
    database.execute("SET min_parallel_table_scan_size = 0")
    database.execute("SET max_parallel_maintenance_workers = 2")
    database.execute("SET maintenance_work_mem = '64MB'")
    database.execute("SET open3dsg.index_memory = ''")  # as on a server that is not ours


@contextmanager
def notices(database: psycopg.Connection[Any], level: str = "notice") -> Iterator[list[str]]:
    """Collect what the server says while the block runs."""
    told: list[str] = []

    def hear(notice: psycopg.errors.Diagnostic) -> None:
        if "does not exist, skipping" not in (notice.message_primary or ""):
            told.append(notice.message_primary or "")

    database.execute(f"SET client_min_messages = {level}".encode())
    database.add_notice_handler(hear)
    yield told
    database.remove_notice_handler(hear)


def build(database: psycopg.Connection[Any]) -> None:
    database.execute("DROP INDEX IF EXISTS node_feature_1_hnsw")
    database.execute("SELECT create_node_index_v1('toy')")
    row = database.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'node_feature_1_hnsw'::regclass"
    ).fetchone()
    assert row == (True,)


def workers_asked_for(told: list[str]) -> bool:
    return any("with request for" in line and "parallel worker" in line for line in told)


@pytest.mark.usefixtures("nodes")
def test_an_index_build_gets_the_memory_it_needs(database: psycopg.Connection[Any]) -> None:
    database.execute("SET max_parallel_maintenance_workers = 0")
    database.execute("SET maintenance_work_mem = '2MB'")
    with notices(database) as told:
        build(database)
    assert any("no longer fits into maintenance_work_mem" in line for line in told)  # nothing allows more
    with notices(database) as told:
        database.execute("SET open3dsg.index_memory = '1GB'")
        build(database)
    assert told == []
    assert database.execute("SHOW maintenance_work_mem").fetchone() == ("2MB",)


@pytest.mark.usefixtures("nodes")
def test_the_memory_allowed_is_not_exceeded(database: psycopg.Connection[Any]) -> None:
    database.execute("SET max_parallel_maintenance_workers = 0")
    database.execute("SET maintenance_work_mem = '2MB'")
    database.execute("SET open3dsg.index_memory = '2500kB'")
    with notices(database) as told:
        build(database)
    (after,) = (int(line.split()[-2]) for line in told if "no longer fits" in line)
    assert 0.75 < after * (714 + 2 * DIMENSION) / (2500 * 2**10) < 1.1


@pytest.mark.usefixtures("nodes")
def test_the_memory_foreseen_is_what_a_build_takes_and_little_more(database: psycopg.Connection[Any]) -> None:
    row = database.execute("SELECT node_index_memory_v1(1)").fetchone()
    assert row is not None
    without_margin = ROWS * (714 + 2 * DIMENSION)
    assert without_margin * 1.05 < row[0] < without_margin * 1.2 + 16 * 2**20


@pytest.mark.usefixtures("nodes")
def test_workers_build_it_together_unless_pgvector_is_too_old_for_that(
    database: psycopg.Connection[Any],
) -> None:
    with notices(database, "debug1") as told:
        build(database)
    assert workers_asked_for(told)
    for version, expected in (("0.8.1", False), ("0.10.0", True)):
        database.execute("UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", [version])
        with notices(database, "debug1") as told:
            build(database)
        assert workers_asked_for(told) is expected, version
    assert database.execute("SHOW max_parallel_maintenance_workers").fetchone() == ("2",)


@pytest.mark.usefixtures("nodes")
def test_short_shared_memory_is_told_and_the_build_goes_on_in_one_process(
    database: psycopg.Connection[Any],
) -> None:
    # More than any machine's /dev/shm: the system refuses it as it does in a container of 64 MB.
    database.execute("SET maintenance_work_mem = '1500GB'")
    with notices(database) as told:
        build(database)
    (line,) = told
    assert line.startswith("building the index in one process: could not resize shared memory segment")


@pytest.mark.usefixtures("nodes")
def test_a_build_that_fails_for_another_reason_fails(database: psycopg.Connection[Any]) -> None:
    database.execute("SET statement_timeout = '50ms'")
    with pytest.raises(psycopg.errors.QueryCanceled):
        database.execute("SELECT create_node_index_v1('toy')")
    database.execute("RESET statement_timeout")
    assert database.execute("SHOW max_parallel_maintenance_workers").fetchone() == ("2",)
    assert database.execute("SELECT to_regclass('node_feature_1_hnsw')").fetchone() == (None,)
