"""`open3dsg db tune` and `open3dsg db start --listen` through the installed program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.command import Done, call, environment
from tests.embedded import server_in, short_folder
from tests.servers import free_port

Run = Callable[..., Done]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A short data folder, whose server is stopped at the end."""
    with short_folder() as path:
        yield path


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Run:
    """Call a command on the embedded server by `run("db", "tune")`, or on another by `url=...`."""
    variables = environment(tmp_path, "") | {"OPEN3DSG_HOME": str(home)}

    def run(*arguments: str, url: str = "") -> Done:
        return call(variables | {"OPEN3DSG_DATABASE_URL": url}, *arguments)

    return run


def refused(done: Done) -> str:
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    return line.removeprefix("error: ")


def effects(done: Done) -> dict[str, str]:
    return {row["name"]: row["effect"] for row in done.json["settings"]}


def test_memory_is_fitted_shown_applied_and_remembered(home: Path, run: Run) -> None:
    assert set(effects(run("db", "tune", "--json")).values()) == {"as fitted"}

    smaller = run("db", "tune", "--memory", "512MB", "--json")
    assert smaller.json["machine"]["memory_bytes"] == 2**29
    assert effects(smaller)["shared_buffers"] == "at the next start"
    assert effects(smaller)["work_mem"] == "at once"
    assert set(effects(run("db", "tune", "--json")).values()) == {"as fitted"}  # looking changes nothing

    applied = run("db", "tune", "--memory", "512MB", "--apply", "--json")
    assert effects(applied)["shared_buffers"] == "at the next start"
    assert effects(applied)["work_mem"] == "as fitted"
    assert "a server reads some settings only when it starts" in run("db", "tune").err
    run("db", "stop")
    table = run("db", "tune")
    assert table.out.splitlines()[1].split() == ["shared_buffers", "64MB", "64MB", "as", "fitted"]

    run("db", "tune", "--memory", "all", "--apply")
    whole = server_in(home).machine().memory_bytes
    assert run("db", "tune", "--json").json["machine"]["memory_bytes"] == whole


def test_what_somebody_set_by_hand_wins_and_is_told(run: Run) -> None:
    run("db", "psql", "--", "-c", "ALTER DATABASE open3dsg SET work_mem = '5MB'")
    done = run("db", "tune", "--apply")
    (line,) = (line for line in done.out.splitlines() if line.startswith("work_mem"))
    assert line.endswith("set elsewhere")
    assert "whose RESET gives it free" in done.err
    run("db", "psql", "--", "-c", "ALTER DATABASE open3dsg RESET work_mem")


@pytest.mark.parametrize(
    ("memory", "told"),
    [("lots", "cannot read the size"), ("1MB", "too little memory"), ("900TB", "give less")],
)
def test_a_size_that_cannot_be(run: Run, memory: str, told: str) -> None:
    assert told in refused(run("db", "tune", "--memory", memory))


def test_a_server_of_yours_gets_lines_to_run(run: Run) -> None:
    url = run("db", "url").out.strip()
    assert "say it, as in --memory 64GB" in refused(run("db", "tune", url=url))
    assert "leave --apply out" in refused(run("db", "tune", "--memory", "2GB", "--apply", url=url))
    lines = [line for line in run("db", "tune", "--memory", "2GB", url=url).out.splitlines() if ";" in line]
    assert "ALTER SYSTEM SET shared_buffers = '256MB';" in lines
    assert lines == run("db", "tune", "--memory", "2GB", "--json", url=url).json["sql"]
    with psycopg.connect(url, autocommit=True) as connection:
        for line in lines:
            connection.execute(line.encode())
    done = run("db", "tune", "--memory", "2GB", "--json", url=url)
    assert {name for name, effect in effects(done).items() if effect != "as fitted"} == {"shared_buffers"}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("ALTER DATABASE open3dsg RESET ALL")


def test_another_machine_joins_by_url(home: Path, run: Run) -> None:
    run("db", "stats")
    port = free_port()
    done = run("db", "start", "--listen", f"127.0.0.1:{port}")
    assert done.code == 0, done.err
    listening = f"listening on 127.0.0.1:{port} for this machine only: passwords asked for, connections not"
    assert done.out.splitlines()[1].startswith(listening)
    (form,) = (line.partition("=")[2] for line in done.err.splitlines() if "OPEN3DSG_DATABASE_URL=" in line)
    assert form == f"postgresql://NAME:PASSWORD@127.0.0.1:{port}/open3dsg"
    assert "next: open3dsg db user add NAME --role worker" in done.err
    assert run("db", "status", "--json").json["listen"] == f"127.0.0.1:{port}"

    run("db", "psql", "--", "-c", "CREATE ROLE guest LOGIN PASSWORD 'secret' IN ROLE open3dsg_reader")
    url = form.replace("NAME:PASSWORD", "guest:secret")
    assert run("db", "stats", "--json", url=url).json["tables"]["scan"]["rows"] == 0
    assert "nobody listens there" in refused(run("db", "stats", url=url.replace(str(port), str(free_port()))))

    with psycopg.connect(url):
        line = refused(run("db", "start", "--no-listen"))
    assert "1 connections are open: let them end, or end them with `open3dsg db stop`" in line
    assert run("db", "start", "--no-listen").code == 0
    assert run("db", "status", "--json").json["listen"] is None
    assert "nobody listens there" in refused(run("db", "stats", url=url))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--listen", "5432"), "expected HOST:PORT"),
        (("--listen", "0.0.0.0:5432", "--no-listen"), "exclude each other"),
    ],
)
def test_an_address_that_is_none(run: Run, arguments: tuple[str, ...], told: str) -> None:
    assert told in refused(run("db", "start", *arguments))
