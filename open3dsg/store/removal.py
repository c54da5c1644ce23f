"""Scans out of the store: whole, counted table by table, one transaction a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open3dsg.db import ledger
from open3dsg.db.queries import execute
from open3dsg.db.terms import prune_terms, terms_alone

if TYPE_CHECKING:
    from collections.abc import Collection

    from psycopg import Connection

    from open3dsg.store.scans import StoredScan


def delete_scan(connection: Connection[Any], scan: StoredScan) -> dict[str, int]:
    """Delete a scan and all that belongs to it; return table -> rows, of the tables that had some.

    UserError, and nothing is deleted, where a step works on the scan at this moment.
    """
    with ledger.scan_lock_at_once(connection, scan.dataset, scan.name), connection.transaction():
        rows = execute(connection, "delete_scan", {"scan_id": scan.scan_id}).fetchall()
    return {table: count for table, count in rows if count}


def clear_away(connection: Connection[Any], datasets: Collection[str]) -> dict[str, int] | None:
    """Drop those of `datasets` that have no scan left, with their word lists, and terms that nothing names.

    Returns table -> rows. None, and all of it stays, where someone is about to write rows that may name one
    of them: the next deletion clears it away.
    """
    with connection.transaction():
        if not terms_alone(connection):
            return None
        cursor = execute(connection, "datasets_drop_empty", {"names": sorted(datasets)})
        tables = [column.name for column in cursor.description or ()]
        rows = dict(zip(tables, cursor.fetchone() or (), strict=True))
        rows["term"] = prune_terms(connection)
    return {table: count for table, count in rows.items() if count}
