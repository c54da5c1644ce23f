"""The tables of the work queue: procrastinate's, as the installed package ships them, and ours beside them.

They live in a PostgreSQL schema of their own. What they are is kept in `store_meta`: the newest of
procrastinate's migrations that they have, so that hosts whose procrastinate differs without a migration share
a queue, and the hash of our own file. Everything here happens in the transaction of `open3dsg.db.migrate`.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.resources import sql_folder
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg import Connection

SCHEMA = "open3dsg_queue"
_KEY = "queue_schema"


class Revision(NamedTuple):
    """What the tables of a queue are: the newest of procrastinate's migrations, and the hash of our file."""

    migration: str
    ours: str


def known_migrations() -> Sequence[str]:
    """Return the names of the migrations of the installed procrastinate, oldest first."""
    return sorted(path.stem for path in (_shipped() / "migrations").glob("*.sql"))


def present_revision() -> Revision:
    """Return what the tables of this package are."""
    ours = hashlib.sha256(_ours().encode()).hexdigest()[:16]
    return Revision(known_migrations()[-1], ours)


def revision_of(connection: Connection[Any]) -> Revision | None:
    """Return what the tables of the database are; None where one of them is missing."""
    if fetch_value(connection, "queue_is_whole") is not True:
        return None
    migration, _, ours = str(fetch_value(connection, "store_meta_value", {"key": _KEY})).partition(" ")
    return Revision(migration, ours)


def is_behind(connection: Connection[Any]) -> bool:
    """Tell whether the queue's tables are missing or older than those of this package."""
    found = revision_of(connection)
    return found != present_revision() and (found is None or found.migration in known_migrations())


def check_queue(connection: Connection[Any]) -> None:
    """Raise UserError where the queue cannot be used: its tables are missing, older or newer."""
    found = revision_of(connection)
    if found == present_revision():
        return
    if found is None:
        raise UserError("the tables of the work queue are missing: run `open3dsg db migrate`")
    if found.migration not in known_migrations():
        raise UserError(_newer(found))
    raise UserError("the tables of the work queue are of another version: run `open3dsg db migrate`")


def install_queue(connection: Connection[Any]) -> None:
    """Bring the queue's tables to those of this package, in the present transaction.

    Raises UserError where they are newer, or the role may not make their schema. Where one of them was
    dropped all are made anew: what was queued is lost, what was done is not.
    """
    found = revision_of(connection)
    if found == present_revision():
        return
    if found is None:
        _make_schema(connection)
        texts = [(_shipped() / "schema.sql").read_text(encoding="utf-8")]
    elif found.migration not in known_migrations():
        raise UserError(_newer(found))
    else:
        newer = [name for name in known_migrations() if name > found.migration]
        texts = [(_shipped() / "migrations" / f"{name}.sql").read_text(encoding="utf-8") for name in newer]
    with _inside_schema(connection):
        for text in (*texts, _ours()):
            connection.execute(text)  # of the two packages, never of a user
    value = " ".join(present_revision())
    execute(connection, "store_meta_set", {"key": _KEY, "value": value})


def drop_queue(connection: Connection[Any]) -> None:
    """Drop the queue with all that waits in it."""
    execute(connection, "queue_drop_schema")


def _shipped() -> Path:
    """Return procrastinate's folder of SQL; the package itself is not imported, which takes a while."""
    found = find_spec("procrastinate")
    if found is None or found.origin is None:
        raise UserError("the package procrastinate is missing: install open3dsg again")
    return Path(found.origin).parent / "sql"


def _ours() -> str:
    return (sql_folder() / "queue.sql").read_text(encoding="utf-8")


def _newer(found: Revision) -> str:
    return (
        f"the work queue's tables are at procrastinate's {found.migration},"
        f" the newest that is installed here is {known_migrations()[-1]}: upgrade the package procrastinate"
    )


def _make_schema(connection: Connection[Any]) -> None:
    if fetch_value(connection, "queue_schema_is_empty") is True:
        return  # an administrator may have made it for a role that may not
    try:
        execute(connection, "queue_drop_schema")
        execute(connection, "queue_create_schema")
    except psycopg.errors.InsufficientPrivilege as error:
        raise UserError(
            f"this role may not make the schema {SCHEMA} of the work queue: let an administrator run"
            f' `DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA} AUTHORIZATION "ROLE";` once'
        ) from error


@contextmanager
def _inside_schema(connection: Connection[Any]) -> Iterator[None]:
    """Let names without a schema mean those of the queue."""
    before = fetch_value(connection, "search_path")
    execute(connection, "search_path_set", {"path": SCHEMA})
    yield
    execute(connection, "search_path_set", {"path": before})
