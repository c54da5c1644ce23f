"""`open3dsg db` through the installed program, on servers of its own."""

import fcntl
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.command import PROGRAM
from tests.embedded import server_in, short_folder, variables


@pytest.fixture
def home() -> Iterator[Path]:
    """A short empty data folder, whose server is stopped at the end."""
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def given_url() -> Iterator[str]:
    """A running server that the commands are told of by its URL, with an empty database."""
    with short_folder() as path:
        yield server_in(path).ensure_running()


def _environment(home: Path, url: str | None = None) -> dict[str, str]:
    return variables(home) | ({"OPEN3DSG_DATABASE_URL": url} if url is not None else {})


def _run(home: Path, *arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=_environment(home, url),
        timeout=300,
    )


def _out(home: Path, *arguments: str, url: str | None = None) -> str:
    done = _run(home, *arguments, url=url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _refused(home: Path, *arguments: str, url: str | None = None) -> str:
    """Run a command that must fail with one line; return the line."""
    done = _run(home, *arguments, url=url)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_life_of_the_embedded_server(home: Path) -> None:
    assert json.loads(_out(home, "db", "status", "--json"))["running"] is False
    assert _out(home, "db", "stop") == "was not running\n"
    assert list(home.iterdir()) == []

    assert _out(home, "db", "start").startswith("PostgreSQL 18.")
    status = json.loads(_out(home, "db", "status", "--json"))
    assert status["running"] is True
    assert status["server"] == "embedded"
    assert status["data_folder"] == str(home / "postgres-18")
    assert _out(home, "db", "url") == status["url"] + "\n"
    assert f"pid          {status['pid']}\n" in _out(home, "db", "status")
    _out(home, "db", "start")
    assert json.loads(_out(home, "db", "status", "--json"))["pid"] == status["pid"]

    assert _out(home, "db", "stop") == "stopped\n"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(status["url"])


def test_a_newcomer_needs_no_other_command_first(home: Path) -> None:
    stats = json.loads(_out(home, "db", "stats", "--json"))
    assert stats["tables"]["scan"]["rows"] == 0
    migrated = json.loads(_out(home, "db", "migrate", "--json"))
    assert migrated["applied"] == []
    assert _out(home, "db", "migrate") == f"tables are at {migrated['revision']}\n"
    table = _out(home, "db", "stats").splitlines()
    assert table[0].split() == ["table", "rows", "bytes", "index", "bytes"]
    assert "whole database" in table[-1]


def test_psql_gets_its_arguments_and_its_exit_status_is_kept(home: Path) -> None:
    assert _out(home, "db", "psql", "--", "-At", "-c", "SELECT 6 * 7") == "42\n"
    assert _out(home, "db", "psql", "-At", "-c", "SELECT current_database()") == "open3dsg\n"
    assert _run(home, "db", "psql", "--", "-v", "ON_ERROR_STOP=1", "-c", "SELECT nothing").returncode == 1


def test_a_given_server_is_used_and_never_migrated_silently(home: Path, given_url: str) -> None:
    line = _refused(home, "db", "stats", url=given_url)
    assert line == "error: the database has no open3dsg tables: run `open3dsg db migrate`"
    assert _out(home, "db", "migrate", url=given_url).startswith("migrated to ")
    assert "scan" in json.loads(_out(home, "db", "stats", "--json", url=given_url))["tables"]
    status = json.loads(_out(home, "db", "status", "--json", url=given_url))
    assert (status["server"], status["url"]) == ("given", given_url)
    assert _out(home, "db", "psql", "--", "-At", "-c", "SELECT 1", url=given_url) == "1\n"
    assert list(home.iterdir()) == []


def test_a_database_of_a_newer_open3dsg_is_left_alone(home: Path, given_url: str) -> None:
    _out(home, "db", "migrate", url=given_url)
    with psycopg.connect(given_url) as connection:
        connection.execute(
            "CREATE TABLE kept AS SELECT version_num, value AS hash"
            " FROM alembic_version, store_meta WHERE key = 'schema_hash'"
        )
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE store_meta SET value = 'another' WHERE key = 'schema_hash'")
    try:
        assert "revision 9999, newer than this package's" in _refused(home, "db", "stats", url=given_url)
        assert "9999" in _refused(home, "db", "migrate", url=given_url)
    finally:
        with psycopg.connect(given_url) as connection:
            connection.execute("UPDATE alembic_version SET version_num = kept.version_num FROM kept")
            connection.execute("UPDATE store_meta SET value = hash FROM kept WHERE key = 'schema_hash'")
            connection.execute("DROP TABLE kept")


def test_a_sqlalchemy_url_will_do(home: Path, given_url: str) -> None:
    url = given_url.replace("postgresql://", "postgresql+psycopg://")
    assert _out(home, "db", "url", url=url) == given_url + "\n"
    assert json.loads(_out(home, "db", "status", "--json", url=url))["running"] is True


@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_given_server_is_not_ours_to_start_or_stop(home: Path, action: str) -> None:
    line = _refused(home, "db", action, url="postgresql://me:secret@db.example/rooms")
    assert f"cannot {action} postgresql://me:***@db.example/rooms: that server is not ours" in line
    assert "environment OPEN3DSG_DATABASE_URL" in line


@pytest.mark.parametrize("command", [("status",), ("migrate",), ("stats",)])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:secret@127.0.0.1:1/rooms", "Connection refused"),
        ("postgresql:///rooms?host=/nowhere&password=secret", "No such file or directory"),
        ("mysql://me:secret@127.0.0.1/rooms", "expected a database URL like postgresql://"),
        ("host=127.0.0.1 password=secret", "expected a database URL like postgresql://"),
        ("postgresql://me:secret%zz@127.0.0.1/rooms", "must be percent-encoded"),
    ],
)
def test_a_wrong_url_is_one_line_without_the_password(
    home: Path, command: tuple[str, ...], url: str, reason: str
) -> None:
    line = _refused(home, "db", *command, url=url)
    assert reason in line
    assert "secret" not in line


def test_a_missing_database_comes_with_the_way_to_make_it(home: Path, given_url: str) -> None:
    host = conninfo_to_dict(given_url)["host"]
    line = _refused(home, "db", "migrate", url=f"postgresql://open3dsg@/rooms?host={host}")
    assert "the server has no database 'rooms': make it with `createdb rooms`" in line


def test_the_password_is_printed_only_when_asked_for(home: Path) -> None:
    url = "postgresql://me:secret@127.0.0.1:1/rooms"
    assert _out(home, "db", "url", url=url) == "postgresql://me:***@127.0.0.1:1/rooms\n"
    assert _out(home, "db", "url", "--with-password", url=url) == url + "\n"


def test_a_home_that_cannot_be_written_is_one_line(home: Path) -> None:
    (home / "file").write_text("", encoding="utf-8")
    line = _refused(home / "file" / "below", "db", "start")
    assert "OPEN3DSG_HOME names another" in line


def test_ctrl_c_is_130_and_says_how_to_go_on(home: Path) -> None:
    # Another process holds the lock: the command waits for it.
    with (home / "postgres-18.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            [PROGRAM, "db", "start"], stderr=subprocess.PIPE, text=True, env=_environment(home)
        )
        lock_file = str(home / "postgres-18.lock")
        while lock_file not in [file.path for file in psutil.Process(waiting.pid).open_files()]:
            assert waiting.poll() is None
            time.sleep(0.05)
        waiting.send_signal(signal.SIGINT)
        _stdout, stderr = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert stderr.strip() == "interrupted; run the same command again to continue"
