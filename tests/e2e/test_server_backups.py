"""The ways of docs/database.md to keep the database safe."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from open3dsg.db.roles import ROLES
from open3dsg.db.server_programs import binaries
from tests.e2e.machines import run, started


@pytest.mark.slow
def test_a_base_backup_moved_into_place_is_a_database(folder: Path) -> None:
    started(run(folder, "db", "start"))
    run(folder, "db", "psql", "--", "-qc", "CREATE TABLE kept AS SELECT 7 AS x")
    home = folder / "restored"
    home.mkdir()
    _tool("pg_basebackup", "--pgdata", home / "postgres-18", "--dbname", _url(folder))
    assert run(home, "db", "psql", "--", "-Atc", "SELECT x FROM kept").out == "7\n"
    assert run(folder, "db", "psql", "--", "-Atc", "SELECT x FROM kept").out == "7\n"


@pytest.mark.slow
def test_a_dump_is_restored_on_another_server(folder: Path) -> None:
    one, other, dump = folder / "one", folder / "other", folder / "store.dump"
    run(one, "db", "stats")
    run(one, "db", "psql", "--", "-qc", "INSERT INTO dataset (name, layout) VALUES ('kept', '3rscan')")
    _tool("pg_dump", "--format=custom", "--file", dump, "--dbname", _url(one))
    started(run(other, "db", "start"))
    make = "; ".join(f"CREATE ROLE open3dsg_{role}" for role in ROLES)
    _tool("psql", _url(other), "-c", make)
    _tool("pg_restore", "--exit-on-error", "--dbname", _url(other), dump)
    settings = ("--set", "ON_ERROR_STOP=1", "--single-transaction", _url(other))
    _tool("psql", *settings, text=run(other, "db", "roles", "--sql").out)

    assert run(other, "db", "migrate", "--json").json["applied"] == []
    assert run(other, "db", "stats", "--json").json["tables"]["dataset"]["rows"] == 1
    assert run(other, "db", "roles").out == run(one, "db", "roles").out
    assert run(other, "db", "roles").err == ""  # all are ready


def _url(home: Path) -> str:
    return run(home, "db", "url").out.strip()


def _tool(name: str, *arguments: str | Path, text: str | None = None) -> None:
    subprocess.run(
        [binaries(18) / name, *arguments], check=True, capture_output=True, input=text, encoding="utf-8"
    )
