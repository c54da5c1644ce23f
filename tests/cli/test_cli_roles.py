"""`open3dsg db roles`, `open3dsg db user`, and what the commands do for logins that may not do everything."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.command import DUMP, OBSERVE, PROGRAM, Done, call, environment
from tests.conftest import as_url
from tests.content import content, row_counts
from tests.embedded import short_folder
from tests.servers import free_port

Run = Callable[..., Done]
Database = psycopg.Connection[Any]
As = Callable[[str, str], dict[str, str]]


@pytest.fixture
def as_role(database: Database, variables: dict[str, str]) -> As:
    """Give the variables of a command, on a database, whose login has a role of ours."""

    def variables_of(role: str, url: str) -> dict[str, str]:
        login = f"cli_{role}"
        if database.execute("SELECT to_regrole(%s)", [login]).fetchone() == (None,):
            database.execute(f"CREATE ROLE {login} LOGIN; GRANT open3dsg_{role} TO {login}".encode())
        return variables | {"OPEN3DSG_DATABASE_URL": as_url(url, user=login)}

    return variables_of


def test_a_reader_is_answered_and_writes_nothing(
    full_database_url: str, as_role: As, root: Path, tmp_path: Path
) -> None:
    reader = as_role("reader", full_database_url)
    with psycopg.connect(full_database_url, autocommit=True) as database:
        before = content(database)
        scene = ("--scan", "mini-0003", "--ply", tmp_path / "hits.ply")
        for word in ("table", "a word that nobody asked"):
            assert len(call(reader, "query", "nodes", word, "-k", 2, "--json", *scene).json) == 2
        assert len(call(reader, "scans", "list", "--json").json) == 3
        assert call(reader, "db", "stats", "--json").json["tables"]["scan"]["rows"] == 3
        assert call(reader, "db", "roles", "--json").json[0]["ready"] is True
        for command in (
            ("ingest", "3rscan", root, "--dataset", "again"),
            (*OBSERVE, "--scan", "mini-0003", "--force"),
            (*DUMP, "--scan", "mini-0003", "--force"),
            ("features", "index", "toy"),
            ("db", "user", "add", "nobody_new", "--role", "reader"),
        ):
            done = call(reader, *command)
            assert done.code == 2, (command, done)
            assert done.errors
        assert content(database) == before


def test_an_owner_migrates_and_a_writer_does_not(database: Database, database_url: str, as_role: As) -> None:
    database.execute("UPDATE store_meta SET value = 'of another version' WHERE key = 'schema_hash'")
    writer = as_role("writer", database_url)
    refused = call(writer, "db", "migrate")
    assert refused.code == 2
    assert len(refused.errors) == 1
    assert call(as_role("owner", database_url), "db", "migrate").code == 0
    assert call(writer, "db", "stats").code == 0


def test_a_writer_runs_every_step(
    database: Database, database_url: str, as_role: As, root: Path, full_database_url: str
) -> None:
    writer = as_role("writer", database_url)
    for command in (("ingest", "3rscan", root), OBSERVE, DUMP, ("features", "index", "toy")):
        done = call(writer, *command)
        assert done.code == 0, done.err
    with psycopg.connect(full_database_url) as full:
        assert row_counts(database) == row_counts(full)
    assert call(writer, "query", "nodes", "a word that nobody asked").code == 0
    assert database.execute("SELECT count(*) FROM term WHERE text LIKE 'a word that%'").fetchone() == (1,)


def test_roles_are_shown_and_their_sql_can_be_run(run: Run, database: Database, database_url: str) -> None:
    states = run("db", "roles", "--json").json
    assert [(state["role"], state["exists"], state["ready"]) for state in states] == [
        (f"open3dsg_{role}", True, True) for role in ("reader", "writer", "worker", "owner")
    ]
    database.execute("REVOKE SELECT ON scan FROM open3dsg_reader")
    done = run("db", "roles")
    assert done.out.splitlines()[0].split() == ["role", "ready", "members"]
    assert done.out.splitlines()[1].split()[:2] == ["open3dsg_reader", "no"]
    assert "for an administrator, in this database: open3dsg db roles --sql | psql" in done.err
    psql = [str(PROGRAM), "db", "psql", "--", "--quiet", "--set", "ON_ERROR_STOP=1", "--single-transaction"]
    text = run("db", "roles", "--sql").out
    variables = {"OPEN3DSG_DATABASE_URL": database_url, "PATH": "/usr/bin:/bin", "HOME": "/nowhere"}
    subprocess.run(psql, input=text, env=variables, encoding="utf-8", check=True)
    assert run("db", "roles").err == ""


def test_mistakes_are_told_in_one_line(run: Run, refused: Callable[..., str]) -> None:
    for name in ("pg_ana", "public", "é" * 40):
        line = refused("db", "user", "add", name, "--role", "reader")
        assert line.startswith(f"error: {name!r} cannot be the name of a login: ")
    assert "has a role 'open3dsg' already" in refused("db", "user", "add", "open3dsg", "--role", "reader")
    assert "shorter than 8" in refused("db", "user", "add", "ana", "--role", "reader", "--password-stdin")
    assert "no login 'nobody' of open3dsg" in refused("db", "user", "drop", "nobody")
    assert "'--role'" in refused("db", "user", "add", "ana", "--role", "king")
    assert "ana" not in run("db", "user", "list").out


@pytest.fixture
def home() -> Iterator[Path]:
    """A short empty data folder, whose server is stopped at the end."""
    with short_folder() as path:
        yield path


def test_another_machine_joins_by_the_url_that_was_printed(home: Path, tmp_path: Path) -> None:
    variables = environment(tmp_path, "") | {"OPEN3DSG_HOME": str(home / "store")}
    here = {name: value for name, value in variables.items() if name != "OPEN3DSG_DATABASE_URL"}
    first = call(here, "db", "user", "add", "early", "--role", "worker", "--json")
    assert first.json["url"] is None
    assert (
        "`open3dsg db start --listen HOST:PORT` lets others in"
        in call(here, "db", "user", "add", "later", "--role", "worker").err
    )
    port = free_port()
    assert call(here, "db", "start", "--listen", f"127.0.0.1:{port}").code == 0

    made = call(here, "db", "user", "add", "ana", "--role", "reader", "--json").json
    assert made["url"] == f"postgresql://ana:{made['password']}@127.0.0.1:{port}/open3dsg"
    there = here | {"OPEN3DSG_DATABASE_URL": made["url"], "OPEN3DSG_HOME": str(tmp_path / "away")}
    assert call(there, "db", "stats").code == 0
    assert made["password"] not in call(there, "config").out
    wrong = call(there | {"OPEN3DSG_DATABASE_URL": made["url"].replace("@", "x@")}, "db", "stats")
    assert wrong.code == 2
    assert made["password"] not in wrong.err

    given = subprocess.run(
        [PROGRAM, "db", "user", "add", "bo", "--role", "owner", "--password-stdin"],
        input="a pass:word@/\nnot this\n",
        env=here,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "a pass" not in given.stdout + given.stderr
    assert f"OPEN3DSG_DATABASE_URL='postgresql://bo:***@127.0.0.1:{port}/open3dsg'" in given.stdout
    url = f"postgresql://bo:a%20pass%3Aword%40%2F@127.0.0.1:{port}/open3dsg"
    assert call(there | {"OPEN3DSG_DATABASE_URL": url}, "db", "migrate").code == 0

    listed = call(here, "db", "user", "list", "--json").json
    assert {(login["name"], login["role"]) for login in listed} == {
        ("ana", "reader"),
        ("bo", "owner"),
        ("early", "worker"),
        ("later", "worker"),
    }
    assert json.dumps(listed).count("***") == 0
    assert call(here, "db", "user", "drop", "ana").out == "dropped the login ana\n"
    assert call(there, "db", "stats").code == 2
