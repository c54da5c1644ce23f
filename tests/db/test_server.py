"""The embedded server for real: each test has its own short folder and stops what it started."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from open3dsg.db.server import EmbeddedServer
from open3dsg.db.server_programs import binaries
from open3dsg.errors import UserError
from tests.embedded import server_in, short_folder

VERSIONS = (16, 18)

Maker = Callable[..., EmbeddedServer]

both_versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short empty folder; servers below it are stopped at the end."""
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def templates() -> Iterator[dict[int, Path]]:
    """Data folders made once: initdb takes most of the time of a first start."""
    with short_folder() as path:
        servers = {version: server_in(path, version) for version in VERSIONS}
        for server in servers.values():
            server.ensure_running()
            server.stop()
        yield {version: server.data_folder for version, server in servers.items()}


@pytest.fixture
def made(templates: dict[int, Path]) -> Maker:
    """Give a function that makes a stopped server with an empty database in a folder."""

    def make(home: Path, version: int = 18) -> EmbeddedServer:
        home.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", templates[version], home], check=True)
        return server_in(home, version)

    return make


def _pid(server: EmbeddedServer) -> int:
    pid = server.status().pid
    assert pid is not None
    return pid


def _value(url: str, expression: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT {expression}".encode()).fetchone()
    assert row is not None
    return row[0]


@both_versions
def test_start_status_and_stop(folder: Path, version: int) -> None:
    server = server_in(folder / "home", version)
    assert server.stop() is False
    before = server.status()
    assert (before.running, before.pid, before.url, before.size_bytes) == (False, None, None, 0)
    assert not (folder / "home").exists()

    url = server.ensure_running()
    running = server.status()
    assert running.running
    assert running.url == url
    assert running.version.split(".")[0] == str(version)
    assert running.size_bytes > 10_000_000
    assert _value(url, "current_setting('server_version_num')::int / 10000") == version
    assert running.log_file.read_text(encoding="utf-8")

    family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    assert len(family) > 3
    assert server.stop() is True
    psutil.wait_procs(family, timeout=10)
    assert [process for process in family if process.is_running()] == []
    assert server.stop() is False
    assert server.status().running is False


def test_it_is_set_up_as_told(folder: Path) -> None:
    url = server_in(folder, settings={"shared_buffers": "32MB"}).ensure_running()
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'jit',"
            " 'listen_addresses', 'server_encoding', 'shared_buffers', 'synchronous_commit', 'TimeZone')"
        ).fetchall()
        assert dict(rows) == {
            "fsync": "on",
            "full_page_writes": "on",
            "jit": "off",
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "shared_buffers": "4096",
            "synchronous_commit": "on",
            "TimeZone": "UTC",
        }
        assert connection.execute("SELECT lower('ÄÖÜ'), current_user").fetchone() == ("äöü", "open3dsg")
        connection.execute("CREATE EXTENSION vector")


def test_a_second_start_changes_nothing(folder: Path, made: Maker) -> None:
    server = made(folder)
    url = server.ensure_running()
    pid = _pid(server)
    assert server_in(folder).ensure_running() == url
    assert _pid(server) == pid


def test_data_survive_a_restart_and_versions_live_side_by_side(folder: Path, made: Maker) -> None:
    for version in VERSIONS:
        with psycopg.connect(made(folder, version).ensure_running()) as connection:
            connection.execute(f"CREATE TABLE kept AS SELECT {version} AS number".encode())
    for version in VERSIONS:
        server = server_in(folder, version)
        assert server.stop()
        assert _value(server.ensure_running(), "number FROM kept") == version


def test_two_processes_starting_at_once_share_one_server(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from open3dsg.db.server import EmbeddedServer;"
        "server = EmbeddedServer(Path(sys.argv[1]), 18, {'fsync': 'off'});"
        "print(server.ensure_running(), server.status().pid)"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(folder)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    told = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert told[0][0] == told[1][0]
    assert sum("creating a PostgreSQL 18 database" in stderr for _stdout, stderr in told) == 1
    # The one that started it has ended; the server has not.
    assert _value(server_in(folder).ensure_running(), "1") == 1


def test_threads_may_start_it_at_once(folder: Path) -> None:
    urls: list[str] = []
    threads = [
        threading.Thread(target=lambda: urls.append(server_in(folder).ensure_running())) for _ in "abc"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 3
    assert len(set(urls)) == 1


@both_versions
def test_a_killed_server_recovers_what_was_committed(folder: Path, made: Maker, version: int) -> None:
    server = made(folder, version)
    url = server.ensure_running()
    pid = _pid(server)
    client = psycopg.connect(url)
    client.execute("CREATE TABLE kept AS SELECT 7 AS number")
    client.commit()
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait()  # the client's backend may still be there, holding the shared memory
    url = server.ensure_running()
    assert _pid(server) != pid
    assert _value(url, "number FROM kept") == 7
    client.close()


def _leave_pid_file(server: EmbeddedServer, pid: int) -> None:
    """Stop the server and put its postmaster.pid back, as a crash leaves it, with another process number."""
    path = server.data_folder / "postmaster.pid"
    owner = path.stat()
    lines = path.read_bytes().split(b"\n")
    server.stop()
    path.write_bytes(b"\n".join([b"%d" % pid, *lines[1:]]))
    os.chown(path, owner.st_uid, owner.st_gid)


def test_a_stale_pid_file_of_a_dead_process_is_no_obstacle(folder: Path, made: Maker) -> None:
    server = made(folder)
    server.ensure_running()
    dead = subprocess.Popen(["true"])
    dead.wait()
    _leave_pid_file(server, dead.pid)
    assert server.status().running is False
    assert server.stop() is False
    assert _value(server.ensure_running(), "1") == 1


def test_a_stale_pid_file_whose_number_another_program_has(folder: Path, made: Maker) -> None:
    server = made(folder)
    server.ensure_running()
    uid = server.data_folder.stat().st_uid
    # Of the server's own user: PostgreSQL itself would refuse to start beside it.
    with subprocess.Popen(["sleep", "600"], user=uid if os.geteuid() == 0 else None) as stranger:
        try:
            _leave_pid_file(server, stranger.pid)
            assert server.status().running is False
            assert server.stop() is False
            assert _value(server.ensure_running(), "1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_pid_file_that_names_the_server_of_another_folder(folder: Path, made: Maker) -> None:
    one, other = made(folder / "one"), made(folder / "other")
    one.ensure_running()
    other.ensure_running()
    _leave_pid_file(one, _pid(other))
    assert one.stop() is False
    one.ensure_running()
    assert _pid(one) != _pid(other)
    assert other.status().running


def test_a_long_path_has_its_socket_elsewhere(folder: Path, made: Maker) -> None:
    server = made(folder / ("x" * 150))
    url = server.ensure_running()
    assert _value(url, "1") == 1
    socket_folder = Path(str(_value(url, "current_setting('unix_socket_directories')")))
    assert socket_folder.parent == Path("/tmp")
    assert socket_folder.stat().st_mode & 0o777 == 0o700
    assert socket_folder.stat().st_uid == server.data_folder.stat().st_uid
    assert server.stop()
    assert not socket_folder.exists()


def test_a_socket_folder_open_to_others_is_refused(folder: Path, made: Maker) -> None:
    server = made(folder / ("x" * 150))
    url = server.ensure_running()
    socket_folder = Path(str(_value(url, "current_setting('unix_socket_directories')")))
    server.stop()
    socket_folder.mkdir()
    socket_folder.chmod(0o777)
    try:
        with pytest.raises(UserError, match="must be a private folder"):
            server.ensure_running()
    finally:
        socket_folder.rmdir()


@pytest.mark.parametrize("name", ["with space", "ünïcode 部屋", 'it\'s, "quoted" `$HOME` \\ %41 #?&=+'])
def test_any_folder_name_will_do(folder: Path, made: Maker, name: str) -> None:
    server = made(folder / name)
    assert _value(server.ensure_running(), "1") == 1
    assert _value(server.ensure_running(), "current_setting('data_directory')") == str(server.data_folder)
    assert server.stop()


def test_an_initialisation_cut_short_is_done_anew(folder: Path) -> None:
    (folder / "postgres-18.new").mkdir()
    (folder / "postgres-18.new" / "PG_VERSION").write_text("18\n", encoding="utf-8")
    (folder / "postgres-18").mkdir()
    assert _value(server_in(folder).ensure_running(), "1") == 1
    assert not (folder / "postgres-18.new").exists()


def test_a_folder_with_other_files_is_left_alone(folder: Path) -> None:
    (folder / "postgres-18").mkdir()
    (folder / "postgres-18" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="holds files but no database"):
        server_in(folder).ensure_running()
    assert (folder / "postgres-18" / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    server = server_in(folder, settings={"shared_buffers": "plenty"})
    with pytest.raises(UserError, match=r"did not start: FATAL: .*open3dsg\.conf.*postgres-18\.log"):
        server.ensure_running()
    assert _value(server_in(folder).ensure_running(), "1") == 1


@pytest.mark.parametrize("home", ["file/home", "/proc/open3dsg"])
def test_a_home_that_cannot_be_written_is_named(folder: Path, home: str) -> None:
    (folder / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="OPEN3DSG_HOME names another"):
        server_in(folder / home).ensure_running()


def test_variables_of_other_servers_do_not_leak_in(
    folder: Path, made: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("LC_ALL", "xx_XX")
    assert _value(made(folder).ensure_running(), "current_setting('port')") == "5432"


def test_a_large_log_is_put_aside(folder: Path, made: Maker) -> None:
    (folder / "postgres-18.log").write_bytes(b"x" * (11 * 2**20))
    server = made(folder)
    server.ensure_running()
    assert (folder / "postgres-18.log.1").stat().st_size == 11 * 2**20
    assert server.log_file.stat().st_size < 2**20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_as_root_closed_parents_open_for_passing_only_and_it_is_told(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    told: list[str] = []
    server = server_in(closed / "home", say=told.append)
    server.ensure_running()
    assert closed.stat().st_mode & 0o777 == 0o701
    assert any(str(closed) in line and "0700 -> 0701" in line for line in told)
    assert psutil.Process(_pid(server)).uids().effective == server.data_folder.stat().st_uid != 0
    assert server.data_folder.stat().st_mode & 0o077 == 0


def test_a_zombie_with_the_number_of_the_pid_file(folder: Path, made: Maker) -> None:
    server = made(folder)
    server.ensure_running()
    uid = server.data_folder.stat().st_uid
    zombie = subprocess.Popen(["true"], user=uid if os.geteuid() == 0 else None)
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    _leave_pid_file(server, zombie.pid)
    assert server.status().running is False
    assert _value(server.ensure_running(), "1") == 1
    zombie.wait()


@pytest.mark.parametrize("content", [b"", b"12", b"garbage\n\xff\xfe\n" * 9, b"99999999999999999999\n/x\n"])
def test_a_damaged_pid_file_is_no_obstacle(folder: Path, made: Maker, content: bytes) -> None:
    server = made(folder)
    (server.data_folder / "postmaster.pid").write_bytes(content)
    assert server.status().running is False
    assert server.stop() is False
    assert _value(server.ensure_running(), "1") == 1


def test_a_pid_file_damaged_under_a_living_server_starts_no_second_one(folder: Path, made: Maker) -> None:
    server = made(folder)
    url = server.ensure_running()
    pid_file = server.data_folder / "postmaster.pid"
    whole = pid_file.read_bytes()
    pid_file.write_bytes(b"")
    assert server.ensure_running() == url
    with pytest.raises(UserError, match=r"its postmaster\.pid is damaged"):
        server.stop()
    assert server.log_file.read_text(encoding="utf-8").count("starting PostgreSQL") == 1
    pid_file.write_bytes(whole)
    assert server.stop()


def test_a_very_long_path(folder: Path, made: Maker) -> None:
    home = folder / ("räum " * 40).strip() / ("x" * 200)
    home.mkdir(parents=True)
    server = made(home)
    assert len(os.fsencode(server.data_folder)) > 400
    assert _value(server.ensure_running(), "current_setting('data_directory')") == str(server.data_folder)


def test_the_database_of_another_major_version_is_named(folder: Path, made: Maker) -> None:
    made(folder, 16).data_folder.rename(folder / "postgres-18")
    with pytest.raises(UserError, match=r"holds a database of PostgreSQL 16.*OPEN3DSG_POSTGRES_VERSION=16"):
        server_in(folder).ensure_running()


def test_a_damaged_database_is_named(folder: Path, made: Maker) -> None:
    server = made(folder)
    (server.data_folder / "PG_VERSION").write_bytes(b"")
    with pytest.raises(UserError, match="the database is damaged, restore the folder from a backup"):
        server.ensure_running()
    (server.data_folder / "PG_VERSION").write_bytes(b"18\n")
    (server.data_folder / "global" / "pg_control").unlink()
    with pytest.raises(UserError, match=r"did not start: .*pg_control.*\.log"):
        server.ensure_running()


def test_a_data_folder_open_to_others_is_told(folder: Path, made: Maker) -> None:
    server = made(folder)
    server.data_folder.chmod(0o755)
    with pytest.raises(UserError, match=r"has invalid permissions: .* `chmod -R go= /"):
        server.ensure_running()


def test_a_query_that_outlives_its_killed_server_is_ended(folder: Path, made: Maker) -> None:
    told: list[str] = []
    server = server_in(made(folder).home, say=told.append)
    url = server.ensure_running()
    busy = subprocess.Popen(
        ["psql", url, "-c", "SELECT count(*) FROM generate_series(1, 1000000000000)"],
        executable=binaries(18) / "psql",
        stderr=subprocess.DEVNULL,
    )
    with psycopg.connect(url, autocommit=True) as connection:
        active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%series%'"
        while connection.execute(active).fetchone() != (2,):  # it and we
            time.sleep(0.02)
    postmaster = psutil.Process(_pid(server))
    postmaster.kill()
    postmaster.wait()
    assert _value(server.ensure_running(), "1") == 1
    assert any("ending what a killed server of" in line for line in told)
    assert busy.wait(60) == 2
