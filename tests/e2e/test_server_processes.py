"""The embedded server while processes around it are killed, race, or run in another container."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from open3dsg.db import server as server_module
from open3dsg.db.server_programs import binaries
from tests.command import PROGRAM
from tests.e2e.machines import PATIENCE_S, as_root, refused, run, server_of, started
from tests.embedded import server_in, variables


@pytest.mark.slow
def test_a_long_recovery_is_waited_for_and_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_REPORT_EVERY_S", 0.2)
    told: list[str] = []
    lots = {"max_wal_size": "20GB", "checkpoint_timeout": "1d", "shared_buffers": "512MB"}
    server = server_in(folder, settings={"fsync": "off"} | lots, say=told.append)
    with psycopg.connect(server.ensure_running(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (x bigint, y text)")
        for _ in range(3):
            connection.execute(
                "INSERT INTO kept SELECT n, repeat(md5(n::text), 4) FROM generate_series(1, 1000000) n"
            )
    postmaster = server_of(folder)
    load = "INSERT INTO kept SELECT n, 'lost' FROM generate_series(1, 100000000000) n"
    client = subprocess.Popen(
        [binaries(18) / "psql", server.ensure_running(), "-c", load], stderr=subprocess.DEVNULL
    )
    with psycopg.connect(server.ensure_running(), autocommit=True) as connection:
        loading = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%''lost''%'"
        while connection.execute(loading).fetchone() != (2,):  # it and we
            time.sleep(0.05)
    time.sleep(1)
    postmaster.send_signal(signal.SIGKILL)
    postmaster.wait(PATIENCE_S)
    told.clear()

    other = subprocess.Popen(
        [PROGRAM, "db", "start"], env=variables(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    url = server.ensure_running()
    client.wait(PATIENCE_S)
    _out, err = other.communicate(timeout=PATIENCE_S)
    # One of the two starts it, and the other waits for that.
    recovering = "waiting for PostgreSQL to start, recovery may take a while"
    assert any(recovering in line or "waiting for another process" in line for line in told), told
    assert other.returncode == 0, err
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*), min(length(y)) FROM kept").fetchone() == (3_000_000, 128)
    assert "redo done" in server.log_file.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_start_it_at_once_share_one_server(folder: Path, count: int) -> None:
    commands = [
        subprocess.Popen(
            [PROGRAM, "db", "start"],
            env=variables(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    told = [command.communicate(timeout=PATIENCE_S) for command in commands]
    assert [command.returncode for command in commands] == [0] * count, told
    assert len({out for out, _err in told}) == 1
    assert sum("creating a PostgreSQL 18 database" in err for _out, err in told) == 1
    assert server_in(folder).stop()


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3, 0.5, 0.8, 1.2])
def test_a_starter_that_is_killed_leaves_the_way_free(folder: Path, delay_s: float) -> None:
    starter = subprocess.Popen([PROGRAM, "db", "start"], env=variables(folder), stderr=subprocess.DEVNULL)
    new, made = folder / "postgres-18.new", folder / "postgres-18"
    while not new.exists() and not made.exists():
        assert starter.poll() is None
        time.sleep(0.01)
    time.sleep(delay_s)
    starter.kill()
    starter.wait()
    # What it started goes on for a while: the next one waits for that.
    started(run(folder, "db", "start"))
    assert not new.exists()
    with psycopg.connect(server_in(folder).ensure_running()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    programs = [process for process in psutil.process_iter(["cmdline"]) if str(new) in str(process.info)]
    assert programs == []


def test_a_killed_client_does_not_keep_the_server(folder: Path) -> None:
    server = server_in(folder)
    url = server.ensure_running()
    client = subprocess.Popen([binaries(18) / "psql", url, "-c", "SELECT pg_sleep(600)"])
    with psycopg.connect(url, autocommit=True) as connection:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        while connection.execute(sleeping).fetchone() != (1,):
            time.sleep(0.05)
        client.kill()
        client.wait()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    family = [server_of(folder), *server_of(folder).children(recursive=True)]
    assert run(folder, "db", "stop").out == "stopped\n"
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []


@as_root
@pytest.mark.slow
def test_a_server_in_another_container_is_used_and_never_doubled(folder: Path) -> None:
    home = folder / "shared"
    starting = f"{PROGRAM} db start && exec sleep 600"
    container = subprocess.Popen(
        ["unshare", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc", "sh", "-c", starting],
        env=variables(home),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert container.stdout is not None
        assert container.stdout.readline().startswith("PostgreSQL 18.")
        # Its number means nothing here; its socket does.
        assert '"running": false' in run(home, "db", "status", "--json").out
        with psycopg.connect(run(home, "db", "url").out.strip()) as connection:
            connection.execute("CREATE TABLE shared (x int)")
        assert "another server uses this folder, in another container" in refused(run(home, "db", "stop"))
        assert "another server uses" in refused(run(home, "db", "start", "--listen", "127.0.0.1:5999"))
        assert (home / "postgres-18.log").read_text().count("starting PostgreSQL") == 1
    finally:
        container.kill()
        container.communicate()
    # The container is gone with all its processes.
    started(run(home, "db", "start"))
    assert run(home, "db", "psql", "--", "-Atc", "SELECT count(*) FROM shared").out == "0\n"
