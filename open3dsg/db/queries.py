"""Named queries: SQL lives in ``sql/queries/*.sql``, Python asks for it by name.

A file holds queries under lines ``-- name: some_name``; parameters are psycopg's ``%(key)s``. The comment
lines right below the name say what the query is for and stay with it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, LiteralString, cast

from open3dsg.db.resources import sql_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg import Connection, Cursor

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def named_queries() -> Mapping[str, LiteralString]:
    """Read every named query once; a name used twice is a programming error."""
    found: dict[str, LiteralString] = {}
    for path in sorted((sql_folder() / "queries").glob("*.sql")):
        parts = _NAME.split(path.read_text(encoding="utf-8"))
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise RuntimeError(f"{path}: the query {name} is defined twice")
            found[name] = cast("LiteralString", body.strip())  # ours: shipped beside this file
    return found


def execute(
    connection: Connection[Any],
    name: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    binary: bool = False,
) -> Cursor[Any]:
    """Run the named query and return its cursor; `binary` asks for results in binary, for large bytea."""
    return connection.execute(named_queries()[name], parameters, binary=binary)


def stream(
    connection: Connection[Any],
    name: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    binary: bool = False,
) -> Iterator[tuple[Any, ...]]:
    """Run the named query and yield its rows as they arrive: for large ones, of which one is held at a time.

    The connection is taken until the last row was asked for; leaving before cancels the query.
    """
    with connection.cursor() as cursor:
        yield from cursor.stream(named_queries()[name], parameters, binary=binary)


def execute_many(connection: Connection[Any], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run the named query once for each of `rows`, sent together."""
    with connection.cursor() as cursor:
        cursor.executemany(named_queries()[name], rows)


def fetch_value(connection: Connection[Any], name: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """Run a query of one row and one column; return that value, or None where there is no row."""
    row = execute(connection, name, parameters).fetchone()
    return None if row is None else row[0]
