"""The schema: alembic's migrations for tables, then the numbered files of `sql/` for functions and views.

Both happen in one transaction, so a database is either at a revision or was never touched. The functions and
views of `sql/` are dropped before a migration, which sees bare tables, and created after it. Where only
`sql/` changed they are replaced in place, so that what people granted on them stays.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import psycopg

from open3dsg.db import queue_schema
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.refusals import check_vector
from open3dsg.db.resources import migrations_folder, sql_folder
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import LiteralString

    from alembic.config import Config
    from psycopg import Connection
    from sqlalchemy import Engine

_LONGEST_WAIT_S = 60.0  # for those who use a table that is to be changed; an item of a step takes seconds


def sql_files() -> Sequence[tuple[str, LiteralString]]:
    """Return (name, text) of the numbered files of `sql/`, in load order."""
    paths = sorted(sql_folder().glob("[0-9]*.sql"))
    return [(path.name, _ours(path)) for path in paths]


def _ours(path: Path) -> LiteralString:
    """Read SQL that ships with this package: psycopg takes no text that could come from a user."""
    text: Any = path.read_text(encoding="utf-8")
    return cast("LiteralString", text)


def schema_hash() -> str:
    """Return the hash of all numbered SQL files and of the revisions' names; a database keeps the one it got.

    Every command compares it, so it is made without importing alembic, which takes longer than a query.
    """
    digest = hashlib.sha256()
    for name, text in sql_files():
        digest.update(f"{name}\0{text}\0".encode())
    for path in sorted((migrations_folder() / "versions").glob("*.py")):
        digest.update(f"{path.name}\0".encode())
    return digest.hexdigest()[:16]


def engine_for(url: str) -> Engine:
    """Return a SQLAlchemy engine on psycopg 3 for a libpq URL; alembic needs one."""
    from sqlalchemy import create_engine, pool

    return create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=pool.NullPool
    )


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


def head_revision() -> str:
    """Return the newest schema revision that this package knows."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError(f"{migrations_folder()} holds no migration")
    return head


def known_revisions() -> frozenset[str]:
    """Return all schema revisions that this package knows."""
    from alembic.script import ScriptDirectory

    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def current_revision(connection: Connection[Any]) -> str | None:
    """Return the revision of the database, or None where it has no open3dsg tables."""
    if fetch_value(connection, "has_table", {"name": "alembic_version"}) is not True:
        return None
    return cast("str | None", fetch_value(connection, "schema_revision"))


def is_current(connection: Connection[Any]) -> bool:
    """Tell whether tables and functions are those of this package."""
    return (
        current_revision(connection) is not None
        and fetch_value(connection, "has_table", {"name": "store_meta"}) is True
        and fetch_value(connection, "store_meta_value", {"key": "schema_hash"}) == schema_hash()
    )


def migrate(url: str, revision: str = "head") -> list[str]:
    """Bring the database to `revision` ('head', 'base' or an id); return the revisions passed, in order.

    Raises UserError where the database is newer than the package, or the vector extension is missing and the
    role may not create it.
    """
    from alembic import command

    with _transaction(url) as (connection, passed, config):
        _refuse_newer(connection)
        check_vector(connection)
        if revision == "head" and is_current(connection) and not queue_schema.is_behind(connection):
            return []
        _create_extension(connection)
        current = current_revision(connection)
        if revision == "head" and current == head_revision():
            _replace(connection)
            return []
        _uninstall(connection)
        if _is_downgrade(current, revision):
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
        if current_revision(connection) == head_revision():
            _install(connection)
        elif fetch_value(connection, "has_table", {"name": "store_meta"}) is True:
            execute(connection, "store_meta_delete", {"key": "schema_hash"})
        else:
            queue_schema.drop_queue(connection)
    return passed


@contextmanager
def _transaction(url: str) -> Iterator[tuple[Connection[Any], list[str], Config]]:
    """One psycopg connection in one transaction, shared with alembic, and the list of revisions passed."""
    passed: list[str] = []
    config = _config()
    engine = engine_for(url)
    with _plain_errors(), engine.begin() as alchemy:
        raw = cast("Connection[Any]", alchemy.connection.driver_connection)
        execute(raw, "lock_migration")
        execute(raw, "limit_lock_wait", {"timeout": f"{_LONGEST_WAIT_S * 1000:.0f}ms"})
        config.attributes["connection"] = alchemy
        config.attributes["passed"] = passed
        yield raw, passed, config


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise what psycopg raised where SQLAlchemy wraps it: the command line tells those in one line."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise _in_use() from error
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from error
        raise
    except psycopg.errors.LockNotAvailable as error:
        raise _in_use() from error


def _in_use() -> UserError:
    return UserError(
        "the tables cannot be brought to this version of open3dsg, since others have used them for the"
        f" last {_LONGEST_WAIT_S:g} s: let their work or their psql end, then run the same command again"
    )


def _is_downgrade(current: str | None, revision: str) -> bool:
    from alembic.script import ScriptDirectory

    if current is None or revision == "head":
        return False
    if revision == "base":
        return True
    script = ScriptDirectory.from_config(_config())
    below = {step.revision for step in script.iterate_revisions(current, "base")}
    return revision in below and revision != current


def _refuse_newer(connection: Connection[Any]) -> None:
    current = current_revision(connection)
    if current is None or current in known_revisions():
        return
    refuse_foreign(connection, current)
    raise UserError(
        f"the database is at schema revision {current}, which this package does not know"
        f" (its newest is {head_revision()}): install a newer open3dsg"
    )


def refuse_foreign(connection: Connection[Any], revision: str) -> None:
    """Raise UserError where a revision that we do not know is that of another program's tables."""
    if fetch_value(connection, "has_table", {"name": "store_meta"}) is not True:
        raise UserError(
            f"the database has the tables of another program (alembic_version {revision}): make one for"
            " open3dsg with `createdb` and name it in OPEN3DSG_DATABASE_URL"
        )


def _create_extension(connection: Connection[Any]) -> None:
    if fetch_value(connection, "has_vector_type") is True:
        return
    if fetch_value(connection, "vector_version") is not None:
        raise UserError(
            "pgvector is in a schema that this role does not search: let an administrator run `ALTER"
            " EXTENSION vector SET SCHEMA public;`, or add its schema to the role's search_path"
        )
    try:
        execute(connection, "create_vector_extension")
    except psycopg.errors.InsufficientPrivilege as error:
        raise UserError(
            "the pgvector extension is missing and this role may not create it:"
            " let an administrator run `CREATE EXTENSION vector;` in this database once"
        ) from error
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
        raise UserError(
            "this PostgreSQL server has no pgvector: install pgvector 0.8 or newer on it"
            " (Debian: postgresql-NN-pgvector)"
        ) from error
    check_vector(connection)


def _replace(connection: Connection[Any]) -> None:
    """Bring functions and views to this version in place, or anew where PostgreSQL cannot replace one."""
    try:
        with connection.transaction():
            _install(connection)
    except (psycopg.errors.InvalidTableDefinition, psycopg.errors.InvalidFunctionDefinition):
        _uninstall(connection)
        _install(connection)


def _uninstall(connection: Connection[Any]) -> None:
    try:
        connection.execute(_ours(sql_folder() / "uninstall.sql"))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise UserError(
            f"something of yours depends on a function or view of open3dsg: {error.diag.message_detail}:"
            " drop it, run `open3dsg db migrate`, and create it again"
        ) from error


def _install(connection: Connection[Any]) -> None:
    # A function may only SET hnsw parameters in a session where vector.so is loaded: use the type once.
    execute(connection, "load_vector_library")
    queue_schema.install_queue(connection)  # before the numbered files: one of them grants rights on it
    for _name, text in sql_files():
        connection.execute(text)
    execute(connection, "store_meta_set", {"key": "schema_hash", "value": schema_hash()})
