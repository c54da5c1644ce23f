"""How procrastinate reaches its tables, and what its errors mean."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg
from procrastinate import PsycopgConnector, SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from open3dsg.db.queue_schema import SCHEMA
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECTIONS = 3  # of a worker: one that listens has its own
_PATIENCE_S = 5.0  # for a connection; then the worker says that the database is away, and goes on asking
# A network that swallows packets must not hold a call for the two hours that is TCP's own patience.
_KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,  # ms; keepalives say nothing of what was sent and never confirmed
    "connect_timeout": 10,
}


def sync_connector(url: str) -> SyncPsycopgConnector:
    """Return a connector for commands, not open yet."""
    return SyncPsycopgConnector(conninfo=_conninfo(url, ""), min_size=1, max_size=1, timeout=_PATIENCE_S)


def async_connector(url: str) -> PsycopgConnector:
    """Return a connector for a worker, not open yet.

    Its commits are not waited for: the ledger says what is done, and a server that crashes forgets at worst
    that an item was taken up or ended, which is done again in no time.
    """
    return PsycopgConnector(
        conninfo=_conninfo(url, " -c synchronous_commit=off"),
        min_size=1,
        max_size=_CONNECTIONS,
        timeout=_PATIENCE_S,
        reconnect_timeout=_PATIENCE_S,
        configure=_commit_by_itself,
    )


async def _commit_by_itself(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)


def watchful_url(url: str) -> str:
    """Return `url` with a connection that notices within seconds that the server's machine has gone."""
    own = conninfo_to_dict(url)
    settings = urlencode({name: value for name, value in _KEEPALIVE.items() if name not in own})
    return f"{url}{'&' if '?' in url else '?'}{settings}"


def quiet_libraries() -> None:
    """Keep the libraries' logs, with their tracebacks, off the terminal: we tell what there is to tell."""
    for name in ("procrastinate", "psycopg"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Turn procrastinate's errors into those that the command line knows how to tell."""
    try:
        yield
    except ConnectorException as error:
        cause = error.__cause__
        if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedFunction):
            raise UserError("the tables of the work queue are missing: run `open3dsg db migrate`") from error
        if isinstance(cause, psycopg.Error):
            raise cause from error
        raise


def _conninfo(url: str, settings: str) -> str:
    options: dict[str, Any] = {**_KEEPALIVE, "application_name": "open3dsg", **conninfo_to_dict(url)}
    options["options"] = f"{options.get('options') or ''} -c search_path={SCHEMA}{settings}".strip()
    return make_conninfo("", **options)
