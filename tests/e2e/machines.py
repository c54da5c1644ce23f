"""Unkind machines for the embedded server: other users, no users, mounts. Commands run as installed.

What fails must fail with one line and exit 2.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.command import PROGRAM, Done
from tests.embedded import server_in, variables

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


def run(home: Path, *arguments: str, before: tuple[str, ...] = (), **changes: str) -> Done:
    """Call `open3dsg` by `run(home, "db", "start", before=[...], PATH="...")`; `before` runs the command."""
    done = subprocess.run(
        [*before, PROGRAM, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env=variables(home) | changes,
        cwd="/",
        timeout=PATIENCE_S,
    )
    return Done(done.returncode, done.stdout, done.stderr)


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
    pid = server_in(home).status().pid
    assert pid is not None
    return psutil.Process(pid)
