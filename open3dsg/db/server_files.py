"""The files of an embedded server: postmaster.pid, the socket's folder, the configuration, the log.

Nothing here starts or stops a process.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

DATABASE = "open3dsg"
ROLE = "open3dsg"
PORT = 5432  # names the socket file only; the server opens no TCP port
CONFIGURATION_FILE = "open3dsg.conf"
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included.
LONGEST_SOCKET_PATH = 103
# Above pid_max (2^22) everywhere: PostgreSQL finds no such process and takes the file for stale.
NO_PROCESS = 2**31 - 1

_MIB = 2**20


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says; the last two come some time after the start."""

    pid: int
    socket_folder: Path | None
    state: str | None  # starting, ready, stopping


def read_pid_file(data_folder: Path) -> PidFile | None:
    """Read ``postmaster.pid``; None where there is none or its first line is not a process number."""
    try:
        lines = os.fsdecode((data_folder / "postmaster.pid").read_bytes()).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    lines += [""] * (8 - len(lines))
    if not lines[0].strip().isdecimal():
        return None
    socket_folder = lines[4].strip()
    return PidFile(
        pid=int(lines[0]),
        socket_folder=Path(socket_folder) if socket_folder else None,
        state=lines[7].strip() or None,
    )


def disown_pid_file(data_folder: Path) -> None:
    """Replace the process number of a stale ``postmaster.pid`` by one that no process has.

    PostgreSQL refuses to start while the number belongs to any living process of its user. The file is not
    removed: its shared-memory line keeps a second server out while children of a killed one still live.
    """
    path = data_folder / "postmaster.pid"
    first, rest = (path.read_bytes() + b"\n").split(b"\n", 1)
    if first.strip().isdigit():
        path.write_bytes(b"%d\n%s" % (NO_PROCESS, rest.removesuffix(b"\n")))
    else:
        path.unlink()  # PostgreSQL does not start beside an empty or garbled one


def socket_folder(data_folder: Path, uid: int) -> Path:
    """Choose the folder of the server's socket: the data folder, or a short one where that will not do.

    It will not do where the path is longer than the system's limit for sockets, or holds a comma or a quote,
    which libpq and the server read as separators in lists of hosts. The short one is the same for every call.
    """
    path = os.fsencode(data_folder)
    if len(path) + len(f"/.s.PGSQL.{PORT}") <= LONGEST_SOCKET_PATH and not re.search(rb"[,\"'\\\n]", path):
        return data_folder
    digest = hashlib.sha256(path).hexdigest()[:16]
    # Not TMPDIR: it may differ between shells, and be long itself.
    return Path(f"/tmp/open3dsg-{uid}-{digest}")  # noqa: S108 - checked for owner and mode before use


def server_url(folder: Path) -> str:
    """Return the URL of the embedded database behind the socket in `folder`.

    The port is spelled out: PGPORT in somebody's environment would change it otherwise.
    """
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(os.fsencode(folder), safe='/')}&port={PORT}"


def tuning(memory_bytes: int, shared_memory_bytes: int) -> dict[str, str]:
    """Return server parameters for a machine of this memory, modest because others work on it too.

    `shared_memory_bytes` is what /dev/shm can take: a parallel index build of pgvector puts
    maintenance_work_mem there, and fails in a container with the usual 64 MB, so it goes serial there.
    """
    maintenance = min(max(memory_bytes // 16, 64 * _MIB), 1024 * _MIB)
    parameters = {
        "shared_buffers": f"{min(max(memory_bytes // 16, 32 * _MIB), 512 * _MIB) // _MIB}MB",
        "effective_cache_size": f"{max(memory_bytes // 2, 64 * _MIB) // _MIB}MB",
        "maintenance_work_mem": f"{maintenance // _MIB}MB",
        "max_wal_size": "4GB",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if shared_memory_bytes < 2 * maintenance:
        parameters["max_parallel_maintenance_workers"] = "0"
    return parameters


def configuration_text(parameters: Mapping[str, str]) -> str:
    """Write `parameters` as a PostgreSQL configuration file; values may hold any text of one line."""
    lines = ["# Written by open3dsg at every start of the server: changes here are lost."]
    for name, value in parameters.items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    return "\n".join(lines) + "\n"


def main_reason(text: str) -> str:
    """Return the line of a server log or of initdb's output that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it said nothing"
    # What follows the first is its consequence; clients that came too early are not the server's trouble.
    grave = (line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line))
    first = next((line for line in grave if "the database system is" not in line), lines[-1])
    return re.sub(r"^.*?\b(?=(?:FATAL|PANIC|ERROR):)", "", first)


def folder_size(folder: Path) -> int:
    """Return the bytes of all files below `folder`; files that vanish meanwhile count as nothing."""
    total = 0
    for parent, _folders, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total
