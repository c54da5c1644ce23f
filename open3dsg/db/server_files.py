"""The files of an embedded server: postmaster.pid, the socket's folder, configuration, access rules, the log.

Nothing here starts or stops a process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from open3dsg.errors import UserError

DATABASE = "open3dsg"
ROLE = "open3dsg"
PORT = 5432  # names the socket file only, where no TCP port is listened on
CONFIGURATION_FILE = "open3dsg.conf"
ACCESS_FILE = "open3dsg_hba.conf"
# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included.
LONGEST_SOCKET_PATH = 103
# Above pid_max (2^22) everywhere: PostgreSQL finds no such process and takes the file for stale.
NO_PROCESS = 2**31 - 1

_LARGEST_LOG_BYTES = 10 * 2**20
_LONGEST_SOCKET_NAME = "/.s.PGSQL.65535"
_CANNOT_LISTEN = re.compile(
    r"could not (?:bind|create|listen on) IPv[46] \w+(?: for address)? .*?: (.*)"
    r"|could not translate host name .*? to address: (.*)"
)
_MEANINGS = {
    "already in use": "another program has the port",
    "assign requested address": "it is not one of this machine's",
    "Permission denied": "ports below 1024 are the system's",
}

# The socket lies in a folder closed to others, so whoever reaches it is trusted. The superuser has no
# password and stays away from TCP; everybody else shows one, streaming replicas and base backups too.
ACCESS_RULES = f"""\
# Written by open3dsg at every start of the server: changes here are lost.
local all,replication all                trust
host  all,replication {ROLE} all       reject
host  all,replication all      all       scram-sha-256
"""

# Whatever the machine. Huge pages that a container's limits forbid end a server in the middle of its work.
FIXED_PARAMETERS = {
    "huge_pages": "off",
    "jit": "off",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class PidFile:
    """What postmaster.pid says; all but the number come some time after the start."""

    pid: int
    port: int
    socket_folder: Path | None
    listen_host: str | None
    state: str | None  # starting, ready, stopping

    @property
    def url(self) -> str | None:
        """The URL of the server's database, as soon as its socket is known."""
        return None if self.socket_folder is None else server_url(self.socket_folder, self.port)


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
        port=int(lines[3]) if lines[3].strip().isdecimal() else PORT,
        socket_folder=Path(socket_folder) if socket_folder else None,
        listen_host=lines[5].strip() or None,
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
        owner = data_folder.stat()
        content = b"%d\n%s" % (NO_PROCESS, rest.removesuffix(b"\n"))
        write_whole(path, content, owner.st_uid, owner.st_gid)
    else:
        path.unlink()  # PostgreSQL does not start beside an empty or garbled one


def socket_folder(data_folder: Path, uid: int) -> Path:
    """Choose the folder of the server's socket: the data folder, or a short one where that will not do.

    It will not do where the path is longer than the system's limit for sockets, or holds a comma or a quote,
    which libpq and the server read as separators in lists of hosts. The short one is the same for every call.
    """
    path = os.fsencode(data_folder)
    if len(path) + len(_LONGEST_SOCKET_NAME) <= LONGEST_SOCKET_PATH and not re.search(rb"[,\"'\\\n]", path):
        return data_folder
    digest = hashlib.sha256(path).hexdigest()[:16]
    # Not TMPDIR: it may differ between shells, and be long itself.
    return Path(f"/tmp/open3dsg-{uid}-{digest}")  # noqa: S108 - checked for owner and mode before use


def server_url(folder: Path, port: int = PORT) -> str:
    """Return the URL of the embedded database behind the socket in `folder`.

    The port is spelled out: PGPORT in somebody's environment would change it otherwise.
    """
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(os.fsencode(folder), safe='/')}&port={port}"


def write_whole(path: Path, content: bytes, uid: int, gid: int) -> None:
    """Put a private file of an owner in place at once: a kill or a full disk leaves the old one whole."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(content)
        new.chmod(0o600)
        os.chown(new, uid, gid)
        new.replace(path)
    except OSError:
        with suppress(OSError):  # the first error is the one to tell
            new.unlink()
        raise


def configuration_text(parameters: Mapping[str, str]) -> str:
    """Write `parameters` as a PostgreSQL configuration file; values may hold any text of one line."""
    lines = ["# Written by open3dsg at every start of the server: changes here are lost."]
    for name, value in parameters.items():
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    return "\n".join(lines) + "\n"


def prepare_log(log_file: Path) -> int:
    """Put a large log aside; return where the log of the next start begins."""
    size = log_file.stat().st_size if log_file.exists() else 0
    if size <= _LARGEST_LOG_BYTES:
        return size
    log_file.replace(log_file.with_suffix(".log.1"))
    return 0


def log_since(log_file: Path, start: int) -> str:
    """Read a log from the byte `start` on."""
    with log_file.open("rb") as log:
        log.seek(start)
        return log.read().decode("utf-8", "replace")


def main_reason(text: str) -> str:
    """Return the line of a server log or of initdb's output that says what went wrong, with its detail."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it said nothing"
    # What follows the first is its consequence; clients that came too early are not the server's trouble.
    grave = (at for at, line in enumerate(lines) if re.search(r"\b(FATAL|PANIC|ERROR|error):", line))
    first = next((at for at in grave if "the database system is" not in lines[at]), len(lines) - 1)
    reason = re.sub(r"^.*?\b(?=(?:FATAL|PANIC|ERROR):)", "", lines[first])
    detail = re.search(r"\bDETAIL:\s+(.*)", lines[first + 1]) if first + 1 < len(lines) else None
    return reason if detail is None else f"{reason}: {detail[1]}"


def listen_trouble(text: str) -> str | None:
    """Return why a server whose log is `text` could not listen on a TCP address; None where it could."""
    found = _CANNOT_LISTEN.search(text)
    if found is None:
        return None
    reason = found[1] or found[2]
    meaning = next((f" ({meaning})" for words, meaning in _MEANINGS.items() if words in reason), "")
    return reason + meaning


@contextmanager
def plain_errors(home: Path) -> Iterator[None]:
    """Tell what the system refuses below the data folder `home` as a UserError with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{error.filename or home}: {error.strerror}: free some space, or set OPEN3DSG_HOME"
                " to a folder on another disk"
            ) from error
        raise UserError(
            f"{error.filename or home}: {error.strerror or error}: the data folder {home} must"
            " be one that you can write to; OPEN3DSG_HOME names another"
        ) from error


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
