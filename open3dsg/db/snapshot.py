"""Several queries that see the database at one moment, whatever others commit meanwhile."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psycopg.pq import TransactionStatus

from open3dsg.db.queries import execute, fetch_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection


@contextmanager
def snapshot(connection: Connection[Any]) -> Iterator[None]:
    """Let what is read below see one moment, and change nothing.

    In a transaction that is open already it is the moment of that one. Raises ValueError where that has none,
    being READ COMMITTED, as a connection without autocommit begins it at its first query.
    """
    if connection.info.transaction_status == TransactionStatus.IDLE:
        with connection.transaction():
            execute(connection, "begin_snapshot")
            yield
        return
    if fetch_value(connection, "transaction_isolation") == "read committed":
        raise ValueError("reading needs a connection with autocommit, or a REPEATABLE READ transaction")
    yield
