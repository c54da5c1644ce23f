"""The tables of the work queue: installed, missing, older, newer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import pytest

from open3dsg.db import migrate as schema
from open3dsg.db import queue_schema
from open3dsg.db.resources import sql_folder
from open3dsg.errors import UserError
from tests.conftest import as_url

MIGRATIONS = Path(procrastinate.__file__).parent / "sql" / "migrations"
CATALOG = """
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'open3dsg_queue'::regnamespace AND c.relkind = 'r'
    UNION ALL
    SELECT 'function', proname, pg_get_function_identity_arguments(oid), prosrc, ''
    FROM pg_proc WHERE pronamespace = 'open3dsg_queue'::regnamespace
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '' FROM pg_indexes WHERE schemaname = 'open3dsg_queue'
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text, tgname, '', ''
    FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'open3dsg_queue.%'
    UNION ALL
    SELECT 'value', enumtypid::regtype::text, enumlabel, '', '' FROM pg_enum
    ORDER BY 1, 2, 3, 4
"""


def catalog(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regnamespace('open3dsg_queue')").fetchone() == (None,):
            return []
        return connection.execute(CATALOG).fetchall()


def as_if_at(url: str, migration: str) -> None:
    """Let the queue be what procrastinate's migrations up to one make of it."""
    with psycopg.connect(url, autocommit=True, options="-c search_path=open3dsg_queue") as connection:
        connection.execute("DROP SCHEMA open3dsg_queue CASCADE")
        connection.execute("CREATE SCHEMA open3dsg_queue")
        for path in sorted(MIGRATIONS.glob("*.sql")):
            if path.stem <= migration:
                connection.execute(path.read_bytes())
        connection.execute((sql_folder() / "queue.sql").read_bytes())
        connection.execute(
            "UPDATE public.store_meta SET value = %s WHERE key = 'queue_schema'", [f"{migration} other"]
        )


@pytest.mark.parametrize("version", [16, 18])
def test_down_drops_the_queue_and_up_brings_it_back(new_database: Callable[..., str], version: int) -> None:
    url = as_url(new_database("queue_down_up", version))
    schema.migrate(url)
    before = catalog(url)
    assert {row[1] for row in before if row[0] == "column"} == {
        "procrastinate_jobs",
        "procrastinate_events",
        "procrastinate_workers",
        "procrastinate_periodic_defers",
        "attempt",
    }
    schema.migrate(url, "base")
    assert catalog(url) == []
    schema.migrate(url)
    assert catalog(url) == before


def test_an_older_queue_is_upgraded_with_what_waits_in_it(
    database: psycopg.Connection[Any], database_url: str
) -> None:
    whole = catalog(database_url)
    as_if_at(database_url, "03.03.00_01_pre_priority_lock_fetch_job")
    with psycopg.connect(database_url, options="-c search_path=open3dsg_queue") as connection:
        connection.execute("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('cpu', 'mine')")
    assert catalog(database_url) != whole
    with pytest.raises(UserError, match="of another version: run `open3dsg db migrate`"):
        queue_schema.check_queue(database)
    assert schema.migrate(database_url) == []
    queue_schema.check_queue(database)
    assert catalog(database_url) == whole
    kept = database.execute("SELECT task_name FROM open3dsg_queue.procrastinate_jobs").fetchall()
    assert kept == [("mine",)]


def test_a_newer_queue_is_left_alone(database: psycopg.Connection[Any], database_url: str) -> None:
    database.execute("UPDATE store_meta SET value = '99.00.00_01_new x' WHERE key = 'queue_schema'")
    with pytest.raises(UserError, match=r"at procrastinate's 99.00.00_01_new, .*: upgrade the package"):
        queue_schema.check_queue(database)
    assert not queue_schema.is_behind(database)
    assert schema.migrate(database_url) == [], "all else is as it should be"
    database.execute("UPDATE store_meta SET value = 'of another version' WHERE key = 'schema_hash'")
    with pytest.raises(UserError, match="upgrade the package procrastinate"):
        schema.migrate(database_url)


@pytest.mark.parametrize(
    "dropped",
    [
        "SCHEMA open3dsg_queue",
        "TABLE open3dsg_queue.attempt",
        "TABLE open3dsg_queue.procrastinate_events",
        "TABLE open3dsg_queue.procrastinate_jobs",
    ],
)
def test_dropped_tables_are_told_and_brought_back(
    database: psycopg.Connection[Any], database_url: str, dropped: str
) -> None:
    whole = catalog(database_url)
    database.execute(f"DROP {dropped} CASCADE".encode())
    with pytest.raises(UserError, match="queue are missing: run `open3dsg db migrate`"):
        queue_schema.check_queue(database)
    schema.migrate(database_url)
    assert catalog(database_url) == whole
    queue_schema.check_queue(database)


def test_a_role_that_may_not_make_the_schema_is_told_the_lines_to_run(
    new_database: Callable[..., str],
) -> None:
    url = as_url(new_database("queue_no_rights"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS plain_owner")
        connection.execute("CREATE ROLE plain_owner LOGIN")
        connection.execute("CREATE EXTENSION vector")
        connection.execute("GRANT ALL ON SCHEMA public TO plain_owner")
        theirs = as_url(url, user="plain_owner")
        with pytest.raises(UserError, match="CREATE SCHEMA open3dsg_queue AUTHORIZATION"):
            schema.migrate(theirs)
        connection.execute("CREATE SCHEMA open3dsg_queue AUTHORIZATION plain_owner")
        assert schema.migrate(theirs)
        connection.execute("DROP OWNED BY plain_owner CASCADE")
        connection.execute("DROP ROLE plain_owner")
