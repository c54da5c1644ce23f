"""Migrations, metadata and sql/ say the same, on both PostgreSQL versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from open3dsg.db import migrate as schema
from open3dsg.db.resources import sql_folder
from open3dsg.db.schema import metadata
from open3dsg.errors import UserError
from tests.conftest import as_url

CATALOG = """
    SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
           a.attstorage::text, a.attidentity::text, pg_get_expr(d.adbin, d.adrelid),
           col_description(c.oid, a.attnum)
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
      AND c.relname <> 'alembic_version'
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', '', '', ''
    FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
      AND contype <> 'n'
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '', '', '', '', ''
    FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    UNION ALL
    SELECT 'comment', relname, obj_description(oid), '', '', '', '', '', ''
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
      AND relname <> 'alembic_version'
    UNION ALL
    SELECT 'function', proname, pg_get_functiondef(p.oid), '', '', '', '', '', obj_description(p.oid)
    FROM pg_proc p
    WHERE pronamespace = 'public'::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
    ORDER BY 1, 2, 3, 4
"""

both_versions = pytest.mark.parametrize("version", [16, 18])


def catalog(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(CATALOG).fetchall()


@both_versions
def test_migrations_equal_metadata_plus_sql(new_database: Callable[..., str], version: int) -> None:
    migrated = as_url(new_database("parity_migrated", version))
    assert schema.migrate(migrated) == ["0001", "0002", "0003", "0004", "0005", "0006"]
    assert schema.migrate(migrated) == []
    with schema.engine_for(migrated).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []

    made = as_url(new_database("parity_made", version))
    with schema.engine_for(made).begin() as engine_connection:
        engine_connection.exec_driver_sql("CREATE EXTENSION vector")
        metadata.create_all(engine_connection)
        for _name, text in schema.sql_files():
            engine_connection.exec_driver_sql(text.replace("%", "%%"))
    assert catalog(made) == catalog(migrated)


@both_versions
def test_down_and_up_again(new_database: Callable[..., str], version: int) -> None:
    url = as_url(new_database("down_up", version))
    schema.migrate(url)
    before = catalog(url)
    assert schema.migrate(url, "base") == ["0006", "0005", "0004", "0003", "0002", "0001"]
    assert catalog(url) == []
    assert schema.migrate(url) == ["0001", "0002", "0003", "0004", "0005", "0006"]
    assert catalog(url) == before


def test_sql_files_can_be_loaded_twice(database: psycopg.Connection[Any], database_url: str) -> None:
    before = catalog(database_url)
    for _name, text in schema.sql_files():
        database.execute(text)
    assert catalog(database_url) == before


def test_uninstall_names_every_function_and_view(database: psycopg.Connection[Any]) -> None:
    database.execute((sql_folder() / "uninstall.sql").read_bytes())
    left = database.execute(
        "SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')"
        " UNION ALL SELECT viewname FROM pg_views WHERE schemaname = 'public'"
    ).fetchall()
    assert left == []


def test_every_function_is_versioned_and_described(database: psycopg.Connection[Any]) -> None:
    rows = database.execute(
        "SELECT proname, obj_description(p.oid) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')"
    ).fetchall()
    assert len(rows) >= 8
    assert [name for name, comment in rows if not name.endswith("_v1") or not comment] == []


def test_a_newer_database_is_refused(database: psycopg.Connection[Any], database_url: str) -> None:
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UserError, match="9999, which this package does not know"):
        schema.migrate(database_url)


def test_a_changed_sql_folder_is_noticed_and_installed(
    database: psycopg.Connection[Any], database_url: str
) -> None:
    database.execute("UPDATE store_meta SET value = 'of another version' WHERE key = 'schema_hash'")
    database.execute("DROP FUNCTION storage_report_v1")
    assert not schema.is_current(database)
    assert schema.migrate(database_url) == []
    assert schema.is_current(database)
    assert database.execute("SELECT count(*) FROM storage_report_v1()").fetchone() == (35,)


def test_new_functions_keep_what_was_granted_on_old_ones(
    database: psycopg.Connection[Any], database_url: str
) -> None:
    database.execute("DROP ROLE IF EXISTS granted")
    database.execute("CREATE ROLE granted")
    database.execute("GRANT SELECT ON v_node TO granted")
    database.execute("CREATE VIEW mine AS SELECT label FROM v_node")
    database.execute("UPDATE store_meta SET value = 'of another version' WHERE key = 'schema_hash'")
    schema.migrate(database_url)
    database.execute("SET ROLE granted")
    assert database.execute("SELECT * FROM v_node").fetchall() == []
    database.execute("RESET ROLE")
    database.execute("DROP OWNED BY granted")
    database.execute("DROP ROLE granted")


def test_a_view_of_the_users_that_stands_in_the_way_is_named(
    database: psycopg.Connection[Any], database_url: str
) -> None:
    database.execute("CREATE VIEW mine AS SELECT label FROM v_node")
    with pytest.raises(UserError, match="view mine depends on view v_node"):
        schema.migrate(database_url, "base")
    assert schema.is_current(database)


def test_a_view_that_cannot_be_replaced_is_made_anew(
    database: psycopg.Connection[Any], database_url: str
) -> None:
    before = catalog(database_url)
    database.execute("DROP VIEW v_node")
    database.execute("CREATE VIEW v_node AS SELECT 1 AS another")
    database.execute("UPDATE store_meta SET value = 'of another version' WHERE key = 'schema_hash'")
    schema.migrate(database_url)
    assert catalog(database_url) == before


def test_a_table_that_others_use_is_not_waited_for_without_end(
    new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_database("schema_in_use")
    schema.migrate(url, "0001")
    monkeypatch.setattr(schema, "_LONGEST_WAIT_S", 0.2)
    with psycopg.connect(url) as other:
        other.execute("SELECT count(*) FROM scan")
        with pytest.raises(UserError, match=r"others have used them for the last 0\.2 s: let their work"):
            schema.migrate(url)
    assert schema.migrate(url)


def test_a_failing_migration_changes_nothing(
    new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = as_url(new_database("failing"))
    (tmp_path / "010_broken.sql").write_text("CREATE TABLE half (x int); SELECT 1 / 0;")
    (tmp_path / "uninstall.sql").write_text("SELECT 1")
    monkeypatch.setattr(schema, "sql_folder", lambda: tmp_path)
    with pytest.raises(psycopg.errors.DivisionByZero):
        schema.migrate(url)
    assert catalog(url) == []


def test_a_role_without_rights_is_told_the_line_to_run(new_database: Callable[..., str]) -> None:
    url = as_url(new_database("no_rights"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS plain_user")
        connection.execute("CREATE ROLE plain_user LOGIN")
    with pytest.raises(UserError, match="CREATE EXTENSION vector;"):
        schema.migrate(as_url(url, user="plain_user"))
    assert catalog(url) == []
