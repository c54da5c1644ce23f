"""Connections: the given server or the embedded one, and whether its tables are those of this package."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from open3dsg.db.refusals import check_vector, explain_refusal
from open3dsg.errors import UserError
from open3dsg.settings import mask_password

if TYPE_CHECKING:
    from open3dsg.db.server import EmbeddedServer
    from open3dsg.settings import Settings

OLDEST_SERVER = 16
_CONNECT_TIMEOUT_S = 10
_MIGRATE = "run `open3dsg db migrate`"


def embedded_server(settings: Settings) -> EmbeddedServer:
    """Return the embedded server of these settings, started or not."""
    from open3dsg.db.server import EmbeddedServer

    return EmbeddedServer(settings.home, settings.postgres_version)


def database_url(settings: Settings) -> str:
    """Return the URL of the database, starting the embedded server where no other is set."""
    if settings.database_url is not None:
        return normalise_url(settings.database_url)
    return embedded_server(settings).ensure_running()


def normalise_url(url: str) -> str:
    """Return `url` as libpq reads it: SQLAlchemy's ``postgresql+psycopg://`` loses its driver.

    Raises UserError for anything that is not a PostgreSQL URL.
    """
    found = re.fullmatch(r"postgres(?:ql)?(?:\+\w+)?://(.*)", url.strip(), flags=re.DOTALL)
    if found is None:
        got = f", got {mask_password(url)!r}" if "://" in url else ""
        raise UserError(f"expected a database URL like postgresql://user@host:5432/database{got}")
    normal = f"postgresql://{found[1]}"
    try:
        conninfo_to_dict(normal)
    except psycopg.ProgrammingError:
        # libpq's message quotes the piece it stumbled on, which may be the password.
        raise UserError(
            f"cannot read the database URL {mask_password(url)!r}:"
            " special characters in a user name or password must be percent-encoded (@ is %40, / is %2F)"
        ) from None
    return normal


def connect(url: str) -> psycopg.Connection[Any]:
    """Open a connection (no autocommit) that reads and writes pgvector's types where they are installed.

    Raises UserError where the server cannot be reached, refuses us, lacks the database or is too old.
    """
    url = normalise_url(url)
    options = conninfo_to_dict(url)
    options.setdefault("application_name", "open3dsg")
    options.setdefault("connect_timeout", _CONNECT_TIMEOUT_S)
    try:
        connection = psycopg.connect(make_conninfo("", **options))
    except psycopg.OperationalError as error:
        raise UserError(explain_refusal(str(error), url)) from error
    except psycopg.ProgrammingError as error:
        raise UserError(f"cannot read the database URL {mask_password(url)!r}: {error}") from error
    try:
        _check_version(connection, url)
        _register_vector(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def check_schema(connection: psycopg.Connection[Any]) -> None:
    """Raise UserError where the database has no tables of ours, or those of another version."""
    from open3dsg.db.migrate import (
        current_revision,
        head_revision,
        is_current,
        known_revisions,
        refuse_foreign,
    )

    check_vector(connection)
    if is_current(connection):
        return
    current = current_revision(connection)
    if current is None:
        raise UserError(f"the database has no open3dsg tables: {_MIGRATE}")
    if current not in known_revisions():
        refuse_foreign(connection, current)
        raise UserError(
            f"the database is at schema revision {current}, newer than this package's {head_revision()}:"
            " install a newer open3dsg"
        )
    if current != head_revision():
        raise UserError(
            f"the database is at schema revision {current}, older than this package's {head_revision()}:"
            f" {_MIGRATE}"
        )
    raise UserError(f"the database has the SQL functions of another open3dsg: {_MIGRATE}")


def open_store(settings: Settings) -> psycopg.Connection[Any]:
    """Open the database, ready for work.

    The embedded one is started and migrated as needed; a given server is never changed silently. The
    connection commits by itself, as steps need it: they open transactions where rows belong together.
    """
    url = database_url(settings)
    connection = connect(url)
    try:
        if settings.database_url is None and _is_behind(connection):
            connection = _migrated(connection, url)
        check_schema(connection)
        connection.rollback()
        connection.autocommit = True
    except BaseException:
        connection.close()
        raise
    return connection


def _is_behind(connection: psycopg.Connection[Any]) -> bool:
    from open3dsg.db.migrate import current_revision, is_current, known_revisions
    from open3dsg.db.queue_schema import is_behind

    if is_current(connection):
        return is_behind(connection)
    current = current_revision(connection)
    return current is None or current in known_revisions()


def _migrated(connection: psycopg.Connection[Any], url: str) -> psycopg.Connection[Any]:
    from open3dsg.db.migrate import migrate

    connection.close()
    migrate(url)
    return connect(url)  # anew: the vector types may not have been there before


def _check_version(connection: psycopg.Connection[Any], url: str) -> None:
    version = connection.info.server_version // 10_000
    if version < OLDEST_SERVER:
        raise UserError(
            f"{mask_password(url)}: PostgreSQL {version} is too old: open3dsg needs {OLDEST_SERVER} or newer"
        )


def _register_vector(connection: psycopg.Connection[Any]) -> None:
    from psycopg.types import TypeInfo

    if TypeInfo.fetch(connection, "vector") is not None:
        from pgvector.psycopg import register_vector

        register_vector(connection)
    connection.rollback()  # the look-ups began a transaction
