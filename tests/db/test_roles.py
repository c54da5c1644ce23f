"""Roles on real servers: who may do what, on a server that has the roles and on one that has not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from pgvector import HalfVector
from psycopg import sql
from psycopg.conninfo import make_conninfo

from open3dsg.db.connect import connect
from open3dsg.db.migrate import migrate
from open3dsg.db.roles import (
    ROLES,
    Login,
    add_login,
    drop_login,
    logins,
    new_password,
    role_states,
    roles_sql,
)
from open3dsg.db.schema import metadata
from open3dsg.db.server import EmbeddedServer
from tests.conftest import as_url
from tests.embedded import server_in, short_folder

both_versions = pytest.mark.parametrize("version", [16, 18])
Denied = psycopg.errors.InsufficientPrivilege
Database = psycopg.Connection[Any]
Open = Callable[..., Database]

OBJECTS = """
    SELECT c.oid::regclass::text, pg_get_userbyid(c.relowner), c.relacl::text
    FROM pg_class c
    WHERE c.relnamespace IN ('public'::regnamespace, to_regnamespace('open3dsg_queue'))
      AND c.relkind IN ('r', 'v', 'S')
    UNION ALL
    SELECT p.oid::regprocedure::text, pg_get_userbyid(p.proowner), p.proacl::text
    FROM pg_proc p
    WHERE p.pronamespace IN ('public'::regnamespace, to_regnamespace('open3dsg_queue'))
      AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
    ORDER BY 1
"""


@pytest.fixture
def opened(request: pytest.FixtureRequest, new_database: Callable[..., str]) -> Iterator[Open]:
    """Open a migrated database of the test's own as a superuser, or as a new login with one of our roles."""
    opened: list[Database] = []
    urls: dict[int, str] = {}

    def open_as(role: str | None = None, *, version: int = 18) -> Database:
        if version not in urls:
            urls[version] = as_url(new_database("roles_are_tested", version))
            migrate(urls[version])
        url = urls[version]
        if role is not None:
            with psycopg.connect(url, autocommit=True) as administrator:
                make_login(administrator, f"test_{role}", f"open3dsg_{role}")
            url = as_url(url, user=f"test_{role}")
        connection = connect(url)
        connection.autocommit = True
        opened.append(connection)
        return connection

    yield open_as
    for connection in opened:
        connection.close()


@pytest.fixture(params=[16, 18])
def bare(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """A running server of its own, which has no roles of ours yet."""
    with short_folder() as home:
        server = server_in(home, request.param)
        server.ensure_running()
        yield server


def make_login(administrator: Database, name: str, *roles: str) -> None:
    login = sql.Identifier(name)
    if administrator.execute("SELECT to_regrole(quote_ident(%s))", [name]).fetchone() == (None,):
        administrator.execute(sql.SQL("CREATE ROLE {} LOGIN").format(login))
    for role in roles:
        administrator.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), login))


def make_database(server: EmbeddedServer, name: str, owner: str | None = None, options: str = "") -> str:
    """Make a database with pgvector, owned by a new plain login where `owner` is given; return its URL."""
    url = server.ensure_running()
    with psycopg.connect(url, autocommit=True) as administrator:
        if owner is not None:
            administrator.execute(f"CREATE ROLE {owner} LOGIN {options}".encode())
        administrator.execute(f"CREATE DATABASE {name} OWNER {owner or 'open3dsg'}".encode())
    url = as_url(make_conninfo(url, dbname=name))
    with psycopg.connect(url) as administrator:
        administrator.execute("CREATE EXTENSION vector")
    return url


def states(url: str) -> dict[str, tuple[bool, bool]]:
    with psycopg.connect(url) as connection:
        return {state.role: (state.exists, state.ready) for state in role_states(connection)}


def all_roles(exists: bool, ready: bool) -> dict[str, tuple[bool, bool]]:
    return {f"open3dsg_{role}": (exists, ready) for role in ROLES}


def fill(connection: Database) -> None:
    """Write a node by hand: what the smallest step would write."""
    for statement in (
        "INSERT INTO dataset (name, layout) VALUES ('d', '3rscan')",
        "INSERT INTO scan (dataset_id, name) SELECT dataset_id, 's' FROM dataset",
        "INSERT INTO term (text) VALUES ('chair')",
        "INSERT INTO encoder (name, revision, dimension, views, is_active)"
        " VALUES ('e', '1', 2, 'crops', true)",
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count)"
        " SELECT scan_id, 7, term_id, 0 FROM scan, term",
    ):
        connection.execute(statement.encode())
    connection.execute(
        "INSERT INTO node_feature SELECT scan_id, encoder_id, 7, %s, '{}', '{}', '{}' FROM scan, encoder",
        [HalfVector([1.0, 0.0])],
    )


def tables(connection: Database, schema: str = "public") -> list[sql.Identifier]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]).fetchall()
    assert len(rows) >= 5
    return [sql.Identifier(schema, name) for (name,) in rows]


def last_column(connection: Database, table: sql.Identifier) -> sql.Identifier:
    row = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped ORDER BY attnum DESC LIMIT 1",
        [table.as_string(connection)],
    ).fetchone()
    assert row is not None
    return sql.Identifier(row[0])


def refused(connection: Database, statement: str, *parts: sql.Composable) -> None:
    with pytest.raises(Denied):
        connection.execute(sql.SQL(statement).format(*parts))


@both_versions
def test_every_migrated_database_is_ready_for_all_roles(opened: Open, version: int) -> None:
    superuser = opened(version=version)
    found = {state.role: (state.exists, state.ready) for state in role_states(superuser)}
    assert found == all_roles(exists=True, ready=True)
    (owners,) = superuser.execute(
        f"SELECT array_agg(DISTINCT pg_get_userbyid) FROM ({OBJECTS}) AS o".encode()
    )
    assert owners == (["open3dsg_owner"],)


@both_versions
def test_a_reader_reads_everything_and_changes_nothing(opened: Open, version: int) -> None:
    superuser, reader = opened(version=version), opened("reader", version=version)
    fill(superuser)
    for schema in ("public", "open3dsg_queue"):
        for table in tables(superuser, schema):
            reader.execute(sql.SQL("SELECT count(*) FROM {}").format(table))
            refused(reader, "INSERT INTO {} DEFAULT VALUES", table)
            column = last_column(superuser, table)
            refused(reader, "UPDATE {} SET {} = {}", table, column, column)
            refused(reader, "DELETE FROM {}", table)
            refused(reader, "TRUNCATE {} CASCADE", table)
            refused(reader, "ALTER TABLE {} ADD COLUMN mine int", table)
            refused(reader, "DROP TABLE {} CASCADE", table)
        refused(reader, "CREATE TABLE {} (x int)", sql.Identifier(schema, "mine"))
    refused(reader, "SELECT create_node_index_v1('e')")
    refused(reader, "CREATE SCHEMA mine")


@both_versions
def test_a_reader_may_ask_all_that_can_be_asked(opened: Open, version: int) -> None:
    superuser, reader = opened(version=version), opened("reader", version=version)
    fill(superuser)
    found = reader.execute("SELECT scan, instance FROM search_nodes_v1('[1,0]', 'e', 3)").fetchall()
    assert found == [("s", 7)]
    for query in (
        "storage_report_v1()",
        "missing_frames_v1()",
        "v_node",
        "v_scan",
        "v_relationship",
        "v_evidence",
    ):
        reader.execute(f"SELECT * FROM {query}".encode())
    refused_to_reader = superuser.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND NOT has_function_privilege('open3dsg_reader', oid, 'EXECUTE') ORDER BY proname"
    ).fetchall()
    assert [name for (name,) in refused_to_reader] == [
        "build_index_v1",
        "create_index_beside_v1",
        "create_node_index_v1",
        "create_pair_index_v1",
        "drop_unused_indexes_v1",
        "replace_index_v1",
    ]


def test_a_table_of_the_users_is_neither_opened_nor_in_the_way(opened: Open) -> None:
    superuser, reader = opened(), opened("reader")
    superuser.execute("CREATE TABLE private_notes (x int)")
    before = superuser.execute(OBJECTS.encode()).fetchall()
    superuser.execute(roles_sql().encode())
    assert superuser.execute(OBJECTS.encode()).fetchall() == before
    refused(reader, "SELECT * FROM private_notes")
    names = [name for (name,) in reader.execute("SELECT name FROM storage_report_v1()")]
    assert "scan" in names
    assert "private_notes" not in names


@both_versions
def test_what_others_made_in_the_schema_is_not_taken_for_ours_by_its_name(opened: Open, version: int) -> None:
    superuser, reader = opened(version=version), opened("reader", version=version)
    superuser.execute("GRANT CREATE ON SCHEMA public TO test_reader")
    reader.execute("CREATE VIEW v_meta AS SELECT * FROM store_meta")
    reader.execute("GRANT ALL ON v_meta TO test_reader")
    reader.execute(
        "CREATE FUNCTION meta_v1() RETURNS void LANGUAGE sql SECURITY DEFINER"
        " AS $$ DELETE FROM public.store_meta $$"
    )
    superuser.execute("CREATE VIEW v_new AS SELECT 1 AS one")
    superuser.execute(roles_sql().encode())
    refused(reader, "UPDATE v_meta SET value = 'x'")
    refused(reader, "SELECT meta_v1()")
    granted = superuser.execute(
        "SELECT has_table_privilege('open3dsg_reader', 'v_meta', 'SELECT')"
    ).fetchone()
    assert granted == (False,)
    assert reader.execute("SELECT one FROM v_new").fetchone() == (1,)
    owners = "SELECT relname, pg_get_userbyid(relowner) FROM pg_class WHERE relname IN ('v_meta', 'v_new')"
    assert dict(superuser.execute(owners.encode()).fetchall()) == {
        "v_meta": "test_reader",
        "v_new": "open3dsg_owner",
    }


@both_versions
def test_building_the_index_calls_no_function_of_somebody_else(opened: Open, version: int) -> None:
    superuser, writer = opened(version=version), opened("writer", version=version)
    fill(writer)
    superuser.execute("GRANT CREATE ON SCHEMA public TO test_writer")
    for name, takes, returns, value in (
        ("format", "text, text, integer, integer", "text", "'SELECT 1'"),
        ("concatenated", "bigint, text", "text", "'16MB'"),
        ("not_less", "integer[], integer[]", "boolean", "true"),
    ):
        writer.execute(
            f"CREATE FUNCTION public.{name}({takes}) RETURNS {returns} LANGUAGE plpgsql"
            f" AS $$ BEGIN DELETE FROM store_meta; RETURN {value}; END $$".encode()
        )
    for operator, function, left, right in (
        ("||", "concatenated", "bigint", "text"),
        (">=", "not_less", "integer[]", "integer[]"),
    ):
        writer.execute(
            f"CREATE OPERATOR public.{operator}"
            f" (FUNCTION = public.{function}, LEFTARG = {left}, RIGHTARG = {right})".encode()
        )
    writer.execute("SET maintenance_work_mem = '1MB'")
    writer.execute("SET open3dsg.index_memory = '1GB'")
    for call in (
        "create_node_index_v1('e')",
        "create_pair_index_v1('e')",
        "create_index_beside_v1('e')",
        "replace_index_v1('e')",
        "create_index_beside_v1('e', true)",
        "replace_index_v1('e', true)",
    ):
        writer.execute(f"SELECT {call}".encode())
        assert superuser.execute("SELECT count(*) > 0 FROM store_meta").fetchone() == (True,), call
    for name in ("node_feature_1_hnsw", "pair_feature_1_hnsw"):
        assert superuser.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() == (True,)
    refused(writer, "SELECT build_index_v1('e', false, true)")


@both_versions
def test_a_writer_writes_and_deletes_but_leaves_the_schema_alone(opened: Open, version: int) -> None:
    writer = opened("writer", version=version)
    fill(writer)
    writer.execute("CREATE TEMPORARY TABLE instance_staging (LIKE instance)")
    writer.execute("UPDATE encoder SET is_active = false")
    writer.execute("DELETE FROM scan")
    assert writer.execute("SELECT count(*) FROM node_feature").fetchone() == (0,)
    for table in tables(writer):
        refused(writer, "TRUNCATE {} CASCADE", table)
        refused(writer, "ALTER TABLE {} ADD COLUMN mine int", table)
        refused(writer, "DROP TABLE {} CASCADE", table)
    for name in ("alembic_version", "store_meta"):
        refused(writer, "DELETE FROM {}", sql.Identifier(name))
    refused(writer, "CREATE TABLE public.mine (x int)")
    refused(writer, "DELETE FROM open3dsg_queue.procrastinate_jobs")


def test_a_writer_builds_the_index_of_our_table_whatever_else_has_its_name(opened: Open) -> None:
    superuser, writer = opened(), opened("writer")
    fill(writer)
    writer.execute("CREATE TEMPORARY TABLE node_feature (LIKE public.node_feature)")
    writer.execute("CREATE TEMPORARY TABLE encoder (LIKE public.encoder)")
    writer.execute("SET search_path = pg_temp, public")
    row = writer.execute("SELECT public.create_node_index_v1('e')").fetchone()
    assert row is not None
    assert superuser.execute(
        "SELECT schemaname, tablename FROM pg_indexes WHERE indexname = %s", row
    ).fetchall() == [("public", "node_feature")]
    with pytest.raises(psycopg.errors.NoDataFound):
        writer.execute("SELECT public.create_node_index_v1($$e' OR true; DROP TABLE scan; --$$)")


@both_versions
def test_a_worker_writes_and_works_off_the_queue(opened: Open, version: int) -> None:
    worker = opened("worker", version=version)
    fill(worker)
    for table in tables(worker, "open3dsg_queue"):
        worker.execute(sql.SQL("DELETE FROM {}").format(table))
    worker.execute("SET search_path = open3dsg_queue, public")
    worker.execute("INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('cpu', 't', '{}')")
    (job,) = worker.execute("SELECT id FROM procrastinate_jobs").fetchall()
    worker.execute("UPDATE procrastinate_jobs SET status = 'doing'")
    worker.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", job)
    events = worker.execute("SELECT count(*) FROM procrastinate_events").fetchone()
    assert events is not None
    assert events[0] >= 3
    refused(worker, "DROP TABLE procrastinate_jobs CASCADE")


@both_versions
def test_an_owner_migrates_down_and_up_again(opened: Open, version: int) -> None:
    superuser, owner = opened(version=version), opened("owner", version=version)
    reader = opened("reader", version=version)
    before = superuser.execute(OBJECTS.encode()).fetchall()
    url = as_url(owner.info.dsn)
    migrate(url, "base")
    left = superuser.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert left == [("alembic_version",)]
    migrate(url)
    assert superuser.execute(OBJECTS.encode()).fetchall() == before
    fill(owner)
    assert reader.execute("SELECT name FROM scan").fetchall() == [("s",)]


def test_who_has_no_role_sees_nothing(opened: Open) -> None:
    superuser = opened()
    make_login(superuser, "test_stranger")
    with psycopg.connect(as_url(superuser.info.dsn, user="test_stranger"), autocommit=True) as stranger:
        for table in tables(superuser):
            refused(stranger, "SELECT FROM {}", table)


def test_a_database_that_is_dropped_leaves_the_roles(new_database: Callable[..., str]) -> None:
    url = as_url(new_database("soon_dropped"))
    migrate(url)
    new_database("soon_dropped")
    assert states_without_tables(url) == set(all_roles(exists=True, ready=True))


def states_without_tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'open3dsg\\_%'").fetchall()
    return {name for (name,) in rows}


def test_without_rights_the_administrator_is_handed_the_sql(bare: EmbeddedServer) -> None:
    url = make_database(bare, "rooms", owner="plain")
    plain = as_url(url, user="plain")
    migrate(plain)
    assert states(plain) == all_roles(exists=False, ready=False)
    with psycopg.connect(url) as administrator:
        administrator.execute(roles_sql().encode())
    assert states(plain) == all_roles(exists=True, ready=True)
    # Who migrated so far still can.
    migrate(plain, "base")
    migrate(plain)
    assert states(plain) == all_roles(exists=True, ready=True)

    second = make_database(bare, "second", owner="other")
    migrate(as_url(second, user="other"))
    # Roles that are there get their rights from whoever owns the tables; to own them takes more.
    assert states(second) == all_roles(exists=True, ready=True) | {"open3dsg_owner": (True, False)}


def test_the_right_to_make_roles_is_enough(bare: EmbeddedServer) -> None:
    chief = as_url(make_database(bare, "rooms", owner="chief", options="CREATEROLE"), user="chief")
    migrate(chief)
    assert states(chief) == all_roles(exists=True, ready=True)
    migrate(chief, "base")
    migrate(chief)
    with psycopg.connect(chief, autocommit=True) as connection:
        add_login(connection, "ana", "reader", new_password())
        assert logins(connection) == [Login("ana", "reader"), Login("chief", "owner")]
        drop_login(connection, "ana")


def test_the_right_to_make_roles_does_not_reach_those_of_somebody_else(bare: EmbeddedServer) -> None:
    chief = as_url(make_database(bare, "rooms", owner="chief", options="CREATEROLE"), user="chief")
    with psycopg.connect(bare.ensure_running(), autocommit=True) as administrator:
        for role in ROLES:
            administrator.execute(f"CREATE ROLE open3dsg_{role}".encode())
        migrate(chief)
        # What a worker may write it has from the writer, whom chief cannot give away.
        lacking = {"open3dsg_worker": (True, False), "open3dsg_owner": (True, False)}
        assert states(chief) == all_roles(exists=True, ready=True) | lacking
        granted = "SELECT FROM pg_auth_members WHERE roleid::regrole::text LIKE 'open3dsg\\_%'"
        assert administrator.execute(granted.encode()).fetchall() == []


@pytest.mark.parametrize("first_one_ends", ["commit", "rollback"])
def test_two_databases_can_make_the_roles_at_once(bare: EmbeddedServer, first_one_ends: str) -> None:
    urls = [make_database(bare, name, owner=f"owner_of_{name}") for name in ("one", "two")]
    for url, name in zip(urls, ("one", "two"), strict=True):
        migrate(as_url(url, user=f"owner_of_{name}"))
    failed: list[BaseException] = []

    def make_roles(connection: Database) -> None:
        try:
            connection.execute(roles_sql().encode())
            connection.commit()
        except psycopg.Error as error:
            failed.append(error)

    with psycopg.connect(urls[0]) as first, psycopg.connect(urls[1]) as second:
        first.execute(roles_sql().encode())
        thread = threading.Thread(target=make_roles, args=[second])
        thread.start()
        wait_until_blocked(urls[0], second.info.backend_pid)
        getattr(first, first_one_ends)()
        thread.join()
    assert failed == []
    assert states(urls[1]) == all_roles(exists=True, ready=True)
    assert states(urls[0])["open3dsg_reader"] == (True, first_one_ends == "commit")


def wait_until_blocked(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute("SELECT pg_blocking_pids(%s)", [pid]).fetchone() == ([],):
            time.sleep(0.01)


def test_databases_can_be_migrated_at_once(bare: EmbeddedServer) -> None:
    urls = [make_database(bare, f"rooms_{number}") for number in range(3)]
    program = "import sys; from open3dsg.db.migrate import migrate; migrate(sys.argv[1])"
    together = [subprocess.Popen([sys.executable, "-c", program, url]) for url in urls]
    assert [process.wait(timeout=120) for process in together] == [0, 0, 0]
    for url in urls:
        assert states(url) == all_roles(exists=True, ready=True)


def test_every_table_is_one_of_somebody(opened: Open) -> None:
    """A new table must be named in 900_roles.sql, or nobody but the migrating role can use it."""
    listed = opened().execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " AND has_table_privilege('open3dsg_reader', oid, 'SELECT')"
    )
    assert {name for (name,) in listed} == {*metadata.tables, "alembic_version"}
