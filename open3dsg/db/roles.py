"""Roles and logins: who may read, write, work off the queue and migrate.

The roles are made, and given their rights, by `sql/900_roles.sql`; here are their state and the logins that
have them. A password leaves this process only as its SCRAM verifier, so no log of the server can hold it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from open3dsg.db.connect import normalise_url
from open3dsg.db.queries import execute, fetch_value, named_queries
from open3dsg.db.resources import sql_folder
from open3dsg.db.server_choices import host_for_others
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

RoleName = Literal["reader", "writer", "worker", "owner"]
ROLES: Sequence[RoleName] = ("reader", "writer", "worker", "owner")

SHORTEST_PASSWORD = 8
_LONGEST_NAME_BYTES = 63  # PostgreSQL cuts longer names off without an error
_WRITTEN_BY_MIGRATIONS = ("store_meta",)


@dataclass(frozen=True)
class RoleState:
    """A role of ours on this server; `ready` where it may do its work in this database."""

    role: str
    exists: bool
    ready: bool
    members: Sequence[str]


@dataclass(frozen=True)
class Login:
    """A login that has a role of ours: `role` is the one that may most."""

    name: str
    role: RoleName


def roles_sql() -> str:
    """Return the SQL that makes the roles and gives them their rights in the database it is run in."""
    return (sql_folder() / "900_roles.sql").read_text(encoding="utf-8")


def role_states(connection: Connection[Any]) -> list[RoleState]:
    """Report the four roles, from the one that may least to the one that may most."""
    from open3dsg.db.schema import metadata

    tables = sorted(set(metadata.tables) - set(_WRITTEN_BY_MIGRATIONS))
    return [RoleState(*row) for row in execute(connection, "role_states", {"tables": tables})]


def logins(connection: Connection[Any]) -> list[Login]:
    """List the logins that have a role of ours, directly or by another role; superusers are none of them."""
    return [Login(*row) for row in execute(connection, "logins")]


def add_login(connection: Connection[Any], name: str, role: RoleName, password: str) -> None:
    """Make a login that has `role`.

    Raises UserError for a name that cannot be one or is taken, a password that is too short, a role that the
    server lacks, and where the present role may not make logins.
    """
    _check_login_name(name)
    check_password(password)
    group = f"open3dsg_{role}"
    if not fetch_value(connection, "role_exists", {"role": group}):
        raise UserError(f"this server has no role {group} yet: `open3dsg db roles` says how to make it")
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
    try:
        with connection.transaction():
            login = sql.Identifier(name)
            _execute(connection, "login_create", login=login, verifier=sql.Literal(verifier.decode()))
            _execute(connection, "login_grant", login=login, role=sql.Identifier(group))
    except psycopg.errors.DuplicateObject as error:
        raise UserError(
            f"the server has a role {name!r} already: take another name, or let it in with"
            f" `open3dsg db psql -- -c 'GRANT {group} TO {_quoted(connection, name)}'`"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise UserError(
            f"{connection.info.user} may not make logins that have {group} ({_told(error)}):"
            " let an administrator run this command, or make the login and grant it that role"
        ) from error


def drop_login(connection: Connection[Any], name: str) -> None:
    """Drop a login that has a role of ours; UserError for any other, and for one that others depend on."""
    if name not in {login.name for login in logins(connection)}:
        raise UserError(f"no login {name!r} of open3dsg on this server: `open3dsg db user list` shows them")
    try:
        _execute(connection, "login_drop", login=sql.Identifier(name))
    except psycopg.errors.DependentObjectsStillExist as error:
        quoted = _quoted(connection, name)
        raise UserError(
            f"{name!r} owns something, or was granted something of its own, on this server: in each database"
            f" that has it, run `REASSIGN OWNED BY {quoted} TO open3dsg_owner; DROP OWNED BY {quoted};` first"
        ) from error
    except psycopg.errors.ObjectInUse as error:
        raise UserError(f"{name!r} cannot be dropped: {_told(error)}") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise UserError(
            f"{connection.info.user} may not drop {name!r} ({_told(error)}): let an administrator do so"
        ) from error


def new_password() -> str:
    """Make a password of 192 random bits that needs no escaping in a URL."""
    return secrets.token_urlsafe(24)


def check_password(password: str) -> None:
    """Raise UserError for a password that is too short or holds what no password can; it is never shown."""
    if len(password) < SHORTEST_PASSWORD:
        raise UserError(f"the password is shorter than {SHORTEST_PASSWORD} characters")
    if not password.isprintable():
        raise UserError("the password holds characters that cannot be typed: use letters, digits and signs")


def login_url(connection: Connection[Any], given_url: str | None, name: str, password: str) -> str | None:
    """Return the URL by which `name` reaches this database from another machine, or None where none can.

    `given_url` is the URL of the settings, whose host is one that works; without it the server is the
    embedded one on this machine, which says itself where it listens.
    """
    listening = _host_and_port(connection, given_url)
    if listening is None:
        return None
    host, port = listening
    login, secret, database = (quote(part, safe="") for part in (name, password, connection.info.dbname))
    return f"postgresql://{login}:{secret}@{host_for_others(host)}:{port}/{database}"


def _host_and_port(connection: Connection[Any], given_url: str | None) -> tuple[str, str] | None:
    if given_url is not None:
        host = str(conninfo_to_dict(normalise_url(given_url)).get("host") or "")
        return None if not host or host.startswith(("/", "@")) else (host, str(connection.info.port))
    row = execute(connection, "server_address").fetchone()
    addresses, port = row if row is not None else ("", "")
    address = str(addresses).split(",")[0].strip()
    return (address, str(port)) if address else None


def _execute(connection: Connection[Any], name: str, **parts: sql.Composable) -> None:
    """Run a named query of those that take names and no parameters; psycopg quotes the names."""
    connection.execute(sql.SQL(named_queries()[name]).format(**parts))


def _quoted(connection: Connection[Any], name: str) -> str:
    return sql.Identifier(name).as_string(connection)


def _told(error: psycopg.Error) -> str:
    return error.diag.message_primary or type(error).__name__


def _check_login_name(name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise UserError(f"{name!r} cannot be the name of a login: use letters, digits and _")
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        raise UserError(f"{name!r} cannot be the name of a login: it is over {_LONGEST_NAME_BYTES} bytes")
    if name.startswith("pg_") or name in ("public", "none"):
        raise UserError(f"{name!r} cannot be the name of a login: PostgreSQL keeps it for itself")
