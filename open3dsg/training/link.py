"""The database for as long as a run takes: a connection that is opened again where it was lost."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from open3dsg.db.connect import connect
from open3dsg.store.runs import run_lock
from open3dsg.training.stream import reconnect

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

_Result = TypeVar("_Result")


class Link:
    """A connection that holds the lock of a run."""

    def __init__(self, url: str, run: str) -> None:
        """Open it; UserError where somebody else trains the run."""
        self._url, self._run = url, run
        self._hold(connect(url))

    def __enter__(self) -> Link:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Let go of the lock, and close the connection."""
        self._held.close()

    def do(self, work: Callable[[Connection[Any]], _Result]) -> _Result:
        """Call `work` with the connection; once more where the server went away meanwhile.

        `work` must be one transaction that does no harm when it is done twice: its commit may have been
        lost on the way back. Waits up to a minute for the server; UserError where it stays away, or where
        another process took the run.
        """
        try:
            return work(self._connection)
        except psycopg.OperationalError as error:
            if not self._connection.closed:
                raise
            self._held.close()
            self._hold(reconnect(self._url, error))
        return work(self._connection)

    def _hold(self, connection: Connection[Any]) -> None:
        connection.autocommit = True
        with ExitStack() as stack:
            stack.callback(connection.close)
            stack.enter_context(run_lock(connection, self._run))
            self._held, self._connection = stack.pop_all(), connection
