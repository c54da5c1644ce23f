"""Make the database of an embedded server: aside, then moved into place whole."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from open3dsg.db import server_files as files
from open3dsg.db.server_account import Account
from open3dsg.db.server_programs import run_program
from open3dsg.errors import UserError


def create_database(data_folder: Path, version: int, account: Account, lock: int, *, sync: bool) -> None:
    """Make `data_folder` with an empty database; a kill half-way leaves nothing in the way.

    The programs keep `lock`, a file descriptor, open: where we are killed, the next one to take the lock
    waits for them instead of working in the same folder. Without `sync` a crash of the machine may undo it.
    """
    new = data_folder.with_name(f"{data_folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(mode=0o700)
        os.chown(new, account.uid, account.gid)
        initdb: list[str | Path] = [
            "-D",
            new,
            "-U",
            files.ROLE,
            *_options(version),
            *([] if sync else ["--no-sync"]),
        ]
        run_program(account, version, "initdb", *initdb, keep=[lock])
        with (new / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"\ninclude_if_exists = '{files.CONFIGURATION_FILE}'\n")
        # Single-user mode: the database exists before anybody can connect.
        options = ["-c", "exit_on_error=on", "-c", f"fsync={'on' if sync else 'off'}", "-D", str(new)]
        statement = f"CREATE DATABASE {files.DATABASE};\n"
        run_program(
            account, version, "postgres", "--single", *options, "postgres", text=statement, keep=[lock]
        )
        new.rename(data_folder)
    except UserError as error:
        raise UserError(f"{data_folder}: cannot create the database: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_database(data_folder: Path, version: int) -> bool:
    """Tell whether `data_folder` holds a database of this major version; False where it is free to make one.

    Raises UserError where it holds other files, or the database of another major version.
    """
    try:
        found = (data_folder / "PG_VERSION").read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        if data_folder.exists() and any(data_folder.iterdir()):
            raise UserError(
                f"{data_folder}: holds files but no database (no PG_VERSION): move it away, or set"
                " OPEN3DSG_HOME to another folder"
            ) from None
        return False
    if found == str(version):
        return True
    if not found.isdecimal():
        raise UserError(
            f"{data_folder / 'PG_VERSION'}: expected {version}, got {found!r}: the database is damaged,"
            " restore the folder from a backup or move it away"
        )
    raise UserError(
        f"{data_folder}: holds a database of PostgreSQL {found}, which {version} cannot read: rename it to"
        f" postgres-{found} and set OPEN3DSG_POSTGRES_VERSION={found}"
    )


def _options(version: int) -> list[str]:
    # The same text order and case rules everywhere, and UTF-8 whatever the user's locale.
    if version >= 17:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    else:
        locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
    return [*locale, "--encoding=UTF8", "--auth-local=trust", "--auth-host=scram-sha-256"]
