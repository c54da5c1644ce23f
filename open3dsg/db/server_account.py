"""Which system user runs the embedded server, and what that user must be able to reach.

PostgreSQL refuses to run as root. Where root calls us, as in most containers, it runs as another user of
the machine, who may have to pass through folders closed to others. Only passing through is granted, never
reading, and every changed folder is told.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from open3dsg.errors import UserError

_NEW_USER = "pgserver"
_NOBODY = 65534


@dataclass(frozen=True)
class Account:
    """A system user; `switch` says whether this process has to become it to act for the server."""

    name: str
    uid: int
    gid: int
    switch: bool


def server_account(data_folder: Path) -> Account:
    """Choose who runs the server: ourselves or, where root asks, the data folder's owner or a system user.

    Raises UserError where somebody else's server lives in `data_folder`.
    """
    me = os.geteuid()
    owner = data_folder.stat().st_uid if data_folder.exists() else me
    if me != 0:
        if owner != me:
            raise UserError(
                f"{data_folder}: belongs to the system user {_name(owner)}: run as that user, or set"
                " OPEN3DSG_HOME to a folder of your own"
            )
        return Account(_name(me), me, os.getegid(), switch=False)
    if owner != 0:
        return Account(_name(owner), owner, data_folder.stat().st_gid, switch=True)
    return _owner_of(data_folder.parent) or _system_user()


def _owner_of(folder: Path) -> Account | None:
    """Return the owner of a folder: where a container mounts a user's folder, the database is the user's."""
    status = folder.stat()
    try:
        name = pwd.getpwuid(status.st_uid).pw_name  # PostgreSQL runs under no number without a name
    except KeyError:
        return None
    return None if status.st_uid == 0 else Account(name, status.st_uid, status.st_gid, switch=True)


def _system_user() -> Account:
    for name in ("postgres", _NEW_USER):
        found = _find(name)
        if found is not None:
            return found
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is not None:
        command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _NEW_USER]
        # Its failure (a read-only /etc) leaves the way below.
        subprocess.run(command, check=False, capture_output=True)
    return _find(_NEW_USER) or Account("nobody", _NOBODY, _NOBODY, switch=True)


def _find(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry.pw_uid, entry.pw_gid, switch=True)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def grant_passage(path: Path, account: Account, say: Callable[[str], None]) -> None:
    """Let `account` traverse the parents of `path`."""
    for folder in reversed(path.parents):
        _grant(folder, account, stat.S_IXOTH, say)


def grant_reading(install: Path, account: Account, say: Callable[[str], None]) -> None:
    """Let `account` run the programs in `install`, a public package that pip may have made private."""
    grant_passage(install, account, say)
    if not _missing(install.stat(), account, stat.S_IROTH | stat.S_IXOTH):
        return
    say(f"note: letting the system user {account.name} read the PostgreSQL programs in {install}")
    for parent, _folders, names in os.walk(install):
        _grant(Path(parent), account, stat.S_IROTH | stat.S_IXOTH)
        for name in names:
            file = Path(parent, name)
            executable = stat.S_IXOTH if file.stat().st_mode & stat.S_IXUSR else 0
            _grant(file, account, stat.S_IROTH | executable)


def take_over(data_folder: Path, account: Account, say: Callable[[str], None]) -> None:
    """Give `account` a data folder that root put there, as when a backup is moved into place."""
    if not data_folder.exists() or data_folder.stat().st_uid != 0:
        return
    say(f"note: giving {data_folder} to the system user {account.name}: PostgreSQL does not run as root")
    for parent, _folders, names in os.walk(data_folder):
        for path in (parent, *(os.path.join(parent, name) for name in names)):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def own_private_folder(folder: Path, account: Account) -> None:
    """Make a folder that only `account` may enter, or take one that is just so: /tmp is open to all."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    safe = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not safe or status.st_uid not in (os.geteuid(), account.uid):
        raise UserError(f"{folder}: must be a private folder of the system user {account.name}: remove it")
    os.chown(folder, account.uid, account.gid)


def _grant(path: Path, account: Account, wanted: int, say: Callable[[str], None] | None = None) -> None:
    status = path.stat()
    missing = _missing(status, account, wanted)
    if not missing:
        return
    before, after = stat.S_IMODE(status.st_mode), stat.S_IMODE(status.st_mode) | missing
    path.chmod(after)
    if say is not None:
        say(
            f"note: {path}: mode {before:04o} -> {after:04o}, so that the system user {account.name}"
            " can pass through: PostgreSQL does not run as root"
        )


def _missing(status: os.stat_result, account: Account, wanted: int) -> int:
    """Return the mode bits to add so that `account` has `wanted` (bits of the class "others")."""
    if status.st_uid == account.uid:
        wanted <<= 6
    elif status.st_gid == account.gid:
        wanted <<= 3
    return wanted & ~status.st_mode
