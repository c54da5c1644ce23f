"""Connections of the viewer: few, lent for a moment each, which can change nothing unless asked to."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import TransactionStatus

from open3dsg.db.connect import connect
from open3dsg.db.queries import execute
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

MOST = 16  # connections at once, whatever the number of pages
_PATIENCE_S = 30.0  # a question takes no longer, nor waits longer for a connection


class DatabaseAwayError(UserError):
    """The database went away, or cannot be reached; it may come back."""


class Connections:
    """Connections to one database, kept open between uses; safe to use from many threads."""

    def __init__(self, url: str, most: int = MOST) -> None:
        """Lend at most this many at once; none is opened yet."""
        self._url = url
        self._free = threading.BoundedSemaphore(most)
        self._idle: list[Connection[Any]] = []
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Connection[Any]]:
        """Lend a connection that commits by itself and can change nothing.

        Raises DatabaseAwayError where the database cannot be reached or goes away meanwhile, UserError where
        a question takes too long or all connections are taken.
        """
        if not self._free.acquire(timeout=_PATIENCE_S):
            raise UserError("the database is busy with other questions: ask again in a moment")
        try:
            connection = self._taken() or self._opened()
            try:
                with _trouble_told():
                    yield connection
            finally:
                self._put_back(connection)
        finally:
            self._free.release()

    @contextmanager
    def writing(self) -> Iterator[Connection[Any]]:
        """Open a connection that may change what its role may; errors are those of `reading`."""
        with self._connected() as connection, _trouble_told():
            connection.autocommit = True
            yield connection

    def close(self) -> None:
        """Close those that nobody has."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connected(self) -> Connection[Any]:
        try:
            return connect(self._url)
        except UserError as error:
            self.close()  # those that were open before are as dead
            raise DatabaseAwayError(str(error)) from error

    def _opened(self) -> Connection[Any]:
        connection = self._connected()
        with _trouble_told():
            connection.autocommit = True
            execute(connection, "begin_viewing", {"patience_ms": int(_PATIENCE_S * 1000)})
        return connection

    def _taken(self) -> Connection[Any] | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _put_back(self, connection: Connection[Any]) -> None:
        if connection.info.transaction_status != TransactionStatus.IDLE:
            connection.close()
            self.close()
            return
        with self._lock:
            self._idle.append(connection)


@contextmanager
def _trouble_told() -> Iterator[None]:
    """Turn what a server says when it goes away, or has had enough, into one line."""
    try:
        yield
    except psycopg.errors.QueryCanceled as error:
        raise UserError(f"the database took over {_PATIENCE_S:.0f} s for this: ask for less") from error
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DatabaseAwayError(told) from error
