"""What the database holds and costs, for `open3dsg db stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute, fetch_value

if TYPE_CHECKING:
    from psycopg import Connection


def database_stats(connection: Connection[Any]) -> dict[str, Any]:
    """Return the size of the database, and rows and bytes of each table, largest first."""
    tables = {
        name: {"rows": rows, "bytes": size, "index_bytes": index_size}
        for name, rows, size, index_size in execute(connection, "storage_report")
    }
    return {"database_bytes": fetch_value(connection, "database_bytes"), "tables": tables}
