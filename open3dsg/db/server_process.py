"""The processes of an embedded server: found by its pid file, started as a daemon, known alive by a lock.

The pid file tells nothing where the server runs in another container over the same folder: its number means
another process here, or none, and PostgreSQL itself would start a second server that destroys the data. So
every server holds a lock on a file of its data folder from its first moment, and so do its children. The
system lets go of it when the last of them has ended.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from open3dsg.db import server_files as files
from open3dsg.db.server_account import Account
from open3dsg.db.server_programs import as_account

if TYPE_CHECKING:
    import psutil

LIFE_LOCK = "open3dsg.lock"


def find(data_folder: Path) -> tuple[psutil.Process, files.PidFile] | None:
    """Return the living server process of `data_folder`, if there is one that we can see."""
    pid_file = files.read_pid_file(data_folder)
    process = None if pid_file is None else _server(pid_file.pid, data_folder)
    return None if pid_file is None or process is None else (process, pid_file)


def _server(pid: int, data_folder: Path) -> psutil.Process | None:
    import psutil

    try:
        process = psutil.Process(pid)
        command = process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError, OverflowError):
        return None
    # The number may have gone to another program, or to the server of another folder. The working folder
    # would tell too, but root in a container may not read it.
    ours = bool(command) and "postgres" in Path(command[0]).name and str(data_folder) in command
    return process if ours else None


def clear_socket_locks(data_folder: Path) -> None:
    """Remove lock files of sockets in `data_folder` that name no living server of it.

    The copy of a running server's folder has one that names the original, and would wait for its end.
    """
    for path in data_folder.glob(".s.PGSQL.*.lock"):
        number = path.read_bytes().split(b"\n", 1)[0].strip()
        if not number.isdigit() or _server(int(number), data_folder) is None:
            path.unlink()


def lives(process: psutil.Process) -> bool:
    """Tell whether a process runs; a dead one that nobody has waited for does not."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def life_lock(data_folder: Path, account: Account | None = None) -> Iterator[int | None]:
    """Hold the lock of a living server; give its file descriptor, or None where a server holds it.

    A process that inherits the descriptor keeps the lock after the block. With `account` the file is made
    where there is none, and belongs to it.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if account is not None else 0)
    descriptor = os.open(data_folder / LIFE_LOCK, flags, 0o600)
    try:
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def is_locked(data_folder: Path) -> bool:
    """Tell whether a server, or what is left of one, holds the lock of `data_folder`."""
    try:
        with life_lock(data_folder) as lock:
            return lock is None
    except (FileNotFoundError, NotADirectoryError):
        return False


def leftovers(data_folder: Path) -> list[psutil.Process]:
    """Return processes of a killed server of `data_folder` that work on without it.

    A query does so until its end, for hours perhaps, and keeps every new server out. Those are found that
    hold the lock, are no server themselves and have none above them.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.name() != "postgres" or not process.cmdline()[0].startswith("postgres: "):
                continue
            parent = process.parent()
            orphan = parent is None or parent.name() != "postgres"
            if orphan and str(data_folder / LIFE_LOCK) in (file.path for file in process.open_files()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, IndexError):
            continue
    return found


def end_leftovers(data_folder: Path, say: Callable[[str], None]) -> None:
    """End the processes of `leftovers`, and say so."""
    import psutil

    left = leftovers(data_folder)
    if left:
        say(f"ending what a killed server of {data_folder} left: {len(left)} processes")
    for process in left:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.terminate()


def launch(
    program: Path, data_folder: Path, log_file: Path, account: Account, lock: int
) -> psutil.Process | None:
    """Start the server as a daemon of its own session that keeps `lock`; None where it died at once."""
    import psutil

    # The shell leaves at once, so the server is nobody's child, and Ctrl-C in a terminal passes it by.
    detach = ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh"]
    with log_file.open("ab") as log:
        os.fchown(log.fileno(), account.uid, account.gid)
        done = subprocess.run(
            [*detach, program, "-D", data_folder],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
            **as_account(account),
        )
    try:
        return psutil.Process(int(done.stdout))
    except psutil.NoSuchProcess:
        return None
