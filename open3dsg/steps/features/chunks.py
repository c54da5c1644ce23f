"""Which chunks of a dump are done, also where their size was changed between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute

if TYPE_CHECKING:
    from psycopg import Connection

    from open3dsg.db.ledger import Entry

SIZE = "chunk_items"  # among the counts of the ledger: how many items the chunk was cut for


def count_chunks(items: int, size: int) -> int:
    """Return how many chunks of `size` there are; one, empty, of no items, so that the ledger can say so."""
    return max(1, -(-items // size))


def chunks_left(connection: Connection[Any], scan_id: int, entry: Entry, items: int, size: int) -> list[int]:
    """Return the chunks of `size` items that are not done.

    None are where all were done, whatever their size was. Chunks of another size do not count one by one,
    but their rows stay, and nothing of them is done again.
    """
    rows = execute(connection, "dump_chunks", {"scan_id": scan_id, **entry.key()}).fetchall()
    for earlier in {earlier for _chunk, _chunks, earlier in rows}:
        chunks = count_chunks(items, earlier)
        if [row[1:] for row in rows] == [(chunks, earlier)] * chunks:
            return []
    done = {chunk for chunk, _chunks, earlier in rows if earlier == size}
    return [chunk for chunk in range(count_chunks(items, size)) if chunk not in done]


def forget_other_sizes(connection: Connection[Any], scan_id: int, entry: Entry, size: int) -> None:
    """Drop what the ledger says of chunks of another size, in the transaction that records one of `size`."""
    key = {"scan_id": scan_id, "step": entry.step, "variant": entry.variant, "chunk_items": size}
    execute(connection, "dump_chunks_forget_other", key)
