"""What is done: one row a (scan, step, variant, chunk), written in the transaction of its rows.

A row counts as done when the step's integer version and the hash of its options are the present ones. The
version is raised by hand when a step's output changes meaning; an ordinary commit re-does nothing.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from psycopg import Connection


@dataclass(frozen=True)
class Entry:
    """The identity of one piece of work on a scan."""

    step: str
    version: int
    options: Mapping[str, Any]
    variant: str = ""

    @property
    def options_hash(self) -> str:
        """Hash of the options, whatever their order: 16 hex digits."""
        text = json.dumps(dict(self.options), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def key(self) -> dict[str, Any]:
        """Return the query parameters that name this entry."""
        return {
            "step": self.step,
            "variant": self.variant,
            "step_version": self.version,
            "options_hash": self.options_hash,
        }


def chunks_done(connection: Connection[Any], scan_id: int, entry: Entry) -> frozenset[int]:
    """Return the chunks of `entry` that are done for the scan, with these options and this version."""
    rows = execute(connection, "ledger_chunks_done", {"scan_id": scan_id, **entry.key()})
    return frozenset(chunk for (chunk,) in rows)


def record(
    connection: Connection[Any],
    scan_id: int,
    entry: Entry,
    counts: Mapping[str, int],
    *,
    chunk: int = 0,
) -> None:
    """Note in the present transaction that a chunk is done, and what it counted."""
    parameters = {
        "scan_id": scan_id,
        "chunk": chunk,
        "options": Jsonb(dict(entry.options)),
        "counts": Jsonb(dict(counts)),
        **entry.key(),
    }
    execute(connection, "ledger_record", parameters)


def forget(
    connection: Connection[Any], scan_id: int, steps: Iterable[str], variant: str | None = None
) -> None:
    """Drop what the ledger says of `steps` of a scan (one variant, or all): their rows are being replaced."""
    execute(connection, "ledger_forget", {"scan_id": scan_id, "steps": list(steps), "variant": variant})


@contextmanager
def scan_lock(connection: Connection[Any], dataset: str, scan: str) -> Iterator[None]:
    """Wait until nobody else works on the scan, and keep others out meanwhile.

    The lock belongs to the session: the server lets go of it when a process dies.
    """
    name = {"name": f"{dataset}/{scan}"}
    execute(connection, "lock_scan", name)
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "unlock_scan", name)
