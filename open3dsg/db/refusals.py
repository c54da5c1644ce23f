"""What a PostgreSQL server, or what stands in its place, refuses: in one line, with the way out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import fetch_value
from open3dsg.errors import UserError
from open3dsg.settings import mask_password

if TYPE_CHECKING:
    from psycopg import Connection

OLDEST_VECTOR = (0, 8)

# What libpq or the server says -> what it means and what to do. The first that fits is told.
_MEANINGS = (
    (
        "no password supplied",
        "the server asks for a password: write it into the URL (postgresql://NAME:PASSWORD@...) or ~/.pgpass",
    ),
    (
        "password authentication failed",
        "the server refused the user name or password: check both; special characters in a URL are"
        " percent-encoded (@ is %40)",
    ),
    (
        r'role "([^"]*)" does not exist',
        r"the server has no login '\1': make it with `open3dsg db user add \1` or `createuser \1`, or name"
        " another in the URL",
    ),
    (
        r'role "([^"]*)" is not permitted to log in',
        r"'\1' is a group of rights and no login: make one with `open3dsg db user add`",
    ),
    (r'database "([^"]*)" does not exist', r"the server has no database '\1': make it with `createdb \1`"),
    (
        r"pg_hba\.conf rejects connection|no pg_hba\.conf entry",
        "the server does not let this user in from here: use a login made by `open3dsg db user add`, or let"
        " its administrator add a line to pg_hba.conf",
    ),
    (
        r"too many (?:clients|connections)|remaining connection slots",
        "the server has no connection left: let some end, use fewer --jobs or workers, or let its"
        " administrator raise max_connections",
    ),
    (
        "timeout expired",
        "no answer: is the server up, is that its port, and does a firewall let you through? connect_timeout"
        " in the URL says for how many seconds to wait",
    ),
    (
        "could not translate host name|failed to resolve host|Name or service not known",
        "no machine of that name is known here: check the host in the URL",
    ),
    (
        "Connection refused",
        "nobody listens there: check host and port, and that the server is up; an embedded one listens after"
        " `open3dsg db start --listen` only",
    ),
    (
        "server does not support SSL",
        "the server has no certificate: take sslmode out of the URL, or go through an SSH tunnel",
    ),
    (
        r"certificate verify failed|root certificate file .* does not exist|server certificate for",
        "the server's certificate is not trusted: name the one that signed it by sslrootcert=FILE in the URL",
    ),
    (
        "received invalid response|expected authentication request|invalid response to SSL",
        "what answers there is no PostgreSQL server: check host and port",
    ),
    (
        "the database system is (?:starting|shutting|not yet|not accepting|in recovery)",
        "the server takes no connections just now: try again in a moment",
    ),
)


def explain_refusal(message: str, url: str) -> str:
    """Put libpq's reason for a failed connection to `url` in one line with the way out, without passwords."""
    reason = mask_password(" ".join(message.split()))
    for pattern, meaning in _MEANINGS:
        found = re.search(pattern, reason)
        if found is not None:
            return f"{mask_password(url)}: {found.expand(meaning)} ({reason})"
    return f"{mask_password(url)}: cannot connect: {reason}; OPEN3DSG_DATABASE_URL names the server"


def check_vector(connection: Connection[Any]) -> None:
    """Raise UserError where the database's pgvector is too old; nothing happens where there is none."""
    version = fetch_value(connection, "vector_version")
    if version is not None and tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_VECTOR:
        raise UserError(
            f"the database has pgvector {version}, and open3dsg needs {'.'.join(map(str, OLDEST_VECTOR))} or"
            " newer: let an administrator install that and run `ALTER EXTENSION vector UPDATE;` here"
        )
