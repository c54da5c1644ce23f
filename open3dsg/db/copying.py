"""Bulk rows in by COPY BINARY: floats and vectors never travel as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg import Connection


def copy_in(
    connection: Connection[Any],
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[object]],
) -> int:
    """Write `rows` into `table`; `columns` maps column name to PostgreSQL type, in the rows' order.

    Returns the number of rows. Nothing is committed here: the caller's transaction decides. A pgvector type
    needs its adapters registered on the connection, as `open3dsg.db.connect.connect` does.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(list(columns.values()))
        for row in rows:
            copy.write_row(row)
            count += 1
    return count
