"""Vector indexes: built after features are loaded, and built again while readers search."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder

_PATIENCE_S = 300.0  # for queries that were there before; those behind the lock wait a fifth of a second
_PAUSE_S = 1.0  # in which those get on


def build_index(connection: Connection[Any], encoder: StoredEncoder, *, pairs: bool) -> str:
    """Build the vector index over an encoder's nodes, or its `pairs`, if there is none; return its name.

    Waits for another who builds it. UserError where the encoder has none of them.
    """
    _check_features(connection, encoder, pairs=pairs)
    key = {"encoder": encoder.full_name}
    if pairs:
        return str(fetch_value(connection, "create_pair_index", key))
    return str(fetch_value(connection, "create_node_index", key))


def rebuild_index(
    connection: Connection[Any],
    encoder: StoredEncoder,
    *,
    pairs: bool,
    patience_s: float = _PATIENCE_S,
) -> str:
    """Build the index anew beside the one there is, then put it in its place; return its name.

    Searches go on meanwhile, by the old one; who writes features waits until the new one is built. The
    connection must commit by itself. Raises UserError as `build_index` does, where another builds this
    index now, where all features are dropped meanwhile, and where a query has not let go of the table after
    `patience_s`: then the new index stays beside the old one, and each write pays for both, until the next
    call.
    """
    if not connection.autocommit:
        raise ValueError("an index is rebuilt in two transactions: the connection must commit by itself")
    _check_features(connection, encoder, pairs=pairs)
    key = {"encoder": encoder.full_name, "pairs": pairs}
    with _alone(connection, encoder, pairs=pairs):
        try:
            fetch_value(connection, "create_index_beside", key)
            return _replace_index(connection, encoder, pairs=pairs, patience_s=patience_s)
        except (psycopg.errors.NoDataFound, psycopg.errors.ObjectNotInPrerequisiteState) as error:
            raise UserError(
                f"features of {encoder.full_name} were dropped while the index was built, and it with them"
            ) from error


def _replace_index(
    connection: Connection[Any], encoder: StoredEncoder, *, pairs: bool, patience_s: float
) -> str:
    """Try until nobody holds the table at that moment, with pauses in which others search."""
    give_up = time.monotonic() + patience_s
    while True:
        try:
            key = {"encoder": encoder.full_name, "pairs": pairs}
            return str(fetch_value(connection, "replace_index", key))
        except psycopg.errors.LockNotAvailable as error:
            if time.monotonic() >= give_up:
                raise UserError(
                    f"the new index of {encoder.full_name} is built, but for {patience_s:.0f} s a query,"
                    " transaction or vacuum held the old one: end it, or do this again later"
                ) from error
        time.sleep(_PAUSE_S)


@contextmanager
def _alone(connection: Connection[Any], encoder: StoredEncoder, *, pairs: bool) -> Iterator[None]:
    """Keep others from building this index; the server lets go of the lock when a process dies."""
    key = {"encoder_id": encoder.encoder_id, "pairs": pairs}
    if not fetch_value(connection, "try_lock_index", key):
        raise UserError(f"someone builds this index of {encoder.full_name} now: let that end")
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "unlock_index", key)


def _check_features(connection: Connection[Any], encoder: StoredEncoder, *, pairs: bool) -> None:
    if not fetch_value(connection, "has_features", {"encoder_id": encoder.encoder_id, "pairs": pairs}):
        what, otherwise = (
            ("pairs", "instances leave out --pairs") if pairs else ("instances", "pairs say --pairs")
        )
        raise UserError(
            f"the store has no features of {what} by {encoder.full_name}: for those of {otherwise}"
        )
