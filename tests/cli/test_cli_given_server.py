"""`open3dsg` on a server that is not ours, and all that such a server may refuse: one line, exit 2."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from open3dsg.db.migrate import migrate
from open3dsg.db.server_choices import Listen
from tests.command import Done, call, environment
from tests.embedded import FAST, server_in, short_folder
from tests.servers import answering, be_postgres, free_port, say_nothing, speak_http

FEW = FAST | {"max_connections": "12"}
PASSWORD = "p@ss/w:rd"
WRITTEN = "p%40ss%2Fw%3Ard"  # the same in a URL

Refused = Callable[..., str]


class Given:
    """A running server that listens on TCP, with a migrated database `rooms` and an empty one `empty`.

    The logins: `reader` may read, `writer` may work, `stranger` may nothing; all have PASSWORD.
    """

    def __init__(self, folder: Path) -> None:
        self.server = server_in(folder, settings=FEW)
        self.port = free_port()
        self.socket_url = self.server.listen_on(Listen("127.0.0.1", self.port))
        with psycopg.connect(self.socket_url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE rooms")
            connection.execute("CREATE DATABASE empty")
            migrate(self.url("open3dsg", "rooms", tcp=False))
            for login, group in (("reader", "reader"), ("writer", "writer"), ("stranger", None)):
                make = "CREATE ROLE {} LOGIN PASSWORD {}"
                connection.execute(sql.SQL(make).format(sql.Identifier(login), PASSWORD))
                if group is not None:
                    connection.execute(f"GRANT open3dsg_{group} TO {login}".encode())

    def url(self, login: str, database: str = "rooms", *, tcp: bool = True, word: str = WRITTEN) -> str:
        """Return the URL of a login, with its password over TCP and without one over the socket."""
        if tcp:
            return f"postgresql://{login}:{word}@127.0.0.1:{self.port}/{database}"
        return self.socket_url.replace("//open3dsg@/open3dsg", f"//{login}@/{database}")

    def connect(self, database: str = "rooms") -> psycopg.Connection[Any]:
        """Connect as the superuser."""
        return psycopg.connect(self.url("open3dsg", database, tcp=False), autocommit=True)


@pytest.fixture(scope="module")
def given() -> Iterator[Given]:
    with short_folder() as folder:
        yield Given(folder)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("command"), "")


@pytest.fixture
def run(variables: dict[str, str]) -> Callable[..., Done]:
    """Call a command by `run(url, "db", "stats")`."""

    def run(url: str, *arguments: object) -> Done:
        return call(variables | {"OPEN3DSG_DATABASE_URL": url}, *arguments)

    return run


@pytest.fixture
def refused(run: Callable[..., Done]) -> Refused:
    """Call a command that must fail with one line, without a password in it; return the line."""

    def refused(url: str, *arguments: object) -> str:
        done = run(url, *arguments)
        assert (done.code, done.out) == (2, ""), done
        (line,) = done.err.splitlines()
        assert line.startswith("error: ")
        assert WRITTEN not in line
        assert PASSWORD not in line
        return line

    return refused


def test_a_login_joins_over_tcp(given: Given, run: Callable[..., Done]) -> None:
    url = given.url("reader")
    assert run(url, "db", "stats", "--json").json["tables"]["scan"]["rows"] == 0
    status = run(url, "db", "status", "--json").json
    assert status["server"] == "given"
    assert PASSWORD not in str(status)
    assert WRITTEN not in str(status)


@pytest.mark.parametrize(
    ("login", "word", "told"),
    [
        ("reader", "wrong", "the server refused the user name or password"),
        ("nobody", "wrong", "the server refused the user name or password"),
        ("open3dsg_reader", "wrong", "the server refused the user name or password"),
        ("reader", "", "the server asks for a password"),
        ("open3dsg", "", "use a login made by `open3dsg db user add`"),
    ],
)
def test_who_may_not_join_is_told(given: Given, refused: Refused, login: str, word: str, told: str) -> None:
    assert told in refused(given.url(login, word=word), "db", "stats")


def test_the_superuser_may_not_even_replicate_over_tcp(given: Given) -> None:
    with pytest.raises(psycopg.OperationalError, match="rejects replication connection"):
        psycopg.connect(given.url("open3dsg", word=""), replication="true")


@pytest.mark.parametrize(
    ("login", "database", "told"),
    [
        ("nobody", "rooms", "make it with `open3dsg db user add nobody` or `createuser nobody`"),
        ("open3dsg_reader", "rooms", "'open3dsg_reader' is a group of rights and no login"),
        ("reader", "attic", "make it with `createdb attic`"),
        ("reader", "empty", "the database has no open3dsg tables: run `open3dsg db migrate`"),
        ("stranger", "rooms", "permission denied"),
    ],
)
def test_what_is_not_there_or_not_allowed_comes_with_the_way_out(
    given: Given, refused: Refused, login: str, database: str, told: str
) -> None:
    assert told in refused(given.url(login, database, tcp=False), "db", "stats")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me@nohost.invalid/rooms", "no machine of that name is known here"),
        ("postgresql://me@127.0.0.1:1/rooms", "nobody listens there"),
        ("postgresql://me@127.0.0.1:99999/rooms", "invalid port number"),
        ("postgresql://me@127.0.0.1:port/rooms", "port"),
        ("postgresql://me@127.0.0.1:1/rooms?connect_timeout=soon", "connect_timeout"),
        ("postgresql://me@127.0.0.1:1/rooms?sslmode=maybe", "sslmode"),
        ("postgresql://me@127.0.0.1:1/rooms?color=blue", "cannot read the database URL"),
    ],
)
def test_an_address_that_leads_nowhere(refused: Refused, url: str, told: str) -> None:
    assert told in refused(url, "db", "stats")


def test_encryption_is_not_to_be_had(given: Given, refused: Refused) -> None:
    assert "the server has no certificate" in refused(given.url("reader") + "?sslmode=require", "db", "stats")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (say_nothing, "no answer: is the server up"),
        (speak_http, "what answers there is no PostgreSQL server"),
        (be_postgres("14.9"), "PostgreSQL 14 is too old: open3dsg needs 16 or newer"),
    ],
)
def test_what_answers_is_not_what_is_needed(refused: Refused, answer: Callable[..., None], told: str) -> None:
    with answering(answer) as port:
        line = refused(f"postgresql://me:{WRITTEN}@127.0.0.1:{port}/rooms?connect_timeout=2", "db", "stats")
    assert told in line


def test_a_full_server_says_so(given: Given, refused: Refused) -> None:
    with ExitStack() as stack:
        with suppress(psycopg.OperationalError):
            while True:
                stack.enter_context(psycopg.connect(given.url("reader")))
        assert "the server has no connection left" in refused(given.url("reader"), "db", "stats")


def test_a_login_that_may_connect_once(given: Given, refused: Refused) -> None:
    with given.connect() as connection:
        connection.execute("ALTER ROLE reader CONNECTION LIMIT 1")
        with psycopg.connect(given.url("reader")):
            assert "the server has no connection left" in refused(given.url("reader"), "db", "stats")
        connection.execute("ALTER ROLE reader CONNECTION LIMIT -1")


def test_no_rights_to_make_the_extension(given: Given, refused: Refused) -> None:
    line = refused(given.url("writer", "empty"), "db", "migrate")
    assert "let an administrator run `CREATE EXTENSION vector;`" in line


def test_no_rights_to_make_tables(given: Given, refused: Refused) -> None:
    with given.connect("empty") as connection:
        connection.execute("CREATE EXTENSION vector")
        try:
            line = refused(given.url("writer", "empty"), "db", "migrate")
        finally:
            connection.execute("DROP EXTENSION vector")
    assert "permission denied for schema public; OPEN3DSG_DATABASE_URL names the role" in line


def test_an_extension_out_of_sight(given: Given, refused: Refused) -> None:
    with given.connect("empty") as connection:
        connection.execute("CREATE SCHEMA apart")
        connection.execute("CREATE EXTENSION vector SCHEMA apart")
        try:
            line = refused(given.url("open3dsg", "empty", tcp=False), "db", "migrate")
        finally:
            connection.execute("DROP SCHEMA apart CASCADE")
    assert "ALTER EXTENSION vector SET SCHEMA public;" in line


@pytest.mark.parametrize("command", ["stats", "migrate"])
def test_an_old_pgvector(given: Given, refused: Refused, command: str) -> None:
    with given.connect() as connection:
        row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        assert row is not None
        change = "UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'"
        connection.execute(change, ["0.7.4"])
        try:
            line = refused(given.url("open3dsg", tcp=False), "db", command)
        finally:
            connection.execute(change, row)
    assert "pgvector 0.7.4, and open3dsg needs 0.8 or newer" in line
    assert "ALTER EXTENSION vector UPDATE;" in line


@pytest.mark.parametrize("command", ["stats", "migrate"])
def test_tables_of_a_newer_open3dsg(given: Given, refused: Refused, command: str) -> None:
    with given.connect() as connection:
        (before,) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE store_meta SET value = value || '+' WHERE key = 'schema_hash'")
        try:
            line = refused(
                given.url("writer" if command == "stats" else "open3dsg", tcp=False), "db", command
            )
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", before)
            connection.execute("UPDATE store_meta SET value = rtrim(value, '+') WHERE key = 'schema_hash'")
    assert "9999" in line
    assert line.endswith("install a newer open3dsg")


def test_tables_of_an_older_open3dsg(given: Given, refused: Refused) -> None:
    with given.connect() as connection:
        connection.execute("CREATE DATABASE older")
    url = given.url("open3dsg", "older", tcp=False)
    migrate(url, "0001")
    line = refused(url, "db", "stats")
    assert "schema revision 0001, older than this package's" in line
    assert line.endswith("run `open3dsg db migrate`")


def test_functions_of_another_open3dsg(given: Given, refused: Refused) -> None:
    with given.connect() as connection:
        connection.execute("UPDATE store_meta SET value = value || '+' WHERE key = 'schema_hash'")
        try:
            line = refused(given.url("reader"), "db", "stats")
        finally:
            connection.execute("UPDATE store_meta SET value = rtrim(value, '+') WHERE key = 'schema_hash'")
    assert line.endswith("the SQL functions of another open3dsg: run `open3dsg db migrate`")


@pytest.mark.parametrize("command", ["stats", "migrate"])
def test_tables_of_another_program(given: Given, refused: Refused, command: str) -> None:
    with given.connect("empty") as connection:
        connection.execute("CREATE TABLE alembic_version AS SELECT 'a1b2c3' AS version_num")
        try:
            line = refused(given.url("open3dsg", "empty", tcp=False), "db", command)
        finally:
            connection.execute("DROP TABLE alembic_version")
    assert "the tables of another program (alembic_version a1b2c3)" in line
    assert "createdb" in line


def test_a_login_that_may_only_read(given: Given, run: Callable[..., Done], refused: Refused) -> None:
    url = given.url("writer") + "?options=-cdefault_transaction_read_only%3Don"
    assert run(url, "db", "stats", "--json").json["tables"]["scan"]["rows"] == 0
    assert run(url, "scans", "list", "--json").code == 0
    line = refused(
        given.url("writer", "empty") + "?options=-cdefault_transaction_read_only%3Don", "db", "migrate"
    )
    assert "read-only transaction" in line


@pytest.mark.slow
def test_a_standby_is_read_and_not_written(given: Given, run: Callable[..., Done], refused: Refused) -> None:
    given.server.stop()
    with short_folder() as folder:
        subprocess.run(["cp", "-a", given.server.data_folder, folder], check=True)
        given.server.ensure_running()
        standby = server_in(folder, settings=FEW | {"listen_addresses": ""})
        (standby.data_folder / "standby.signal").touch()
        url = standby.ensure_running().replace("@/open3dsg", "@/rooms")
        assert run(url, "db", "stats", "--json").json["tables"]["scan"]["rows"] == 0
        assert run(url, "db", "migrate").out.startswith("tables are at ")
        line = refused(url.replace("@/rooms", "@/empty"), "db", "migrate")
        assert "read-only transaction; OPEN3DSG_DATABASE_URL names" in line
