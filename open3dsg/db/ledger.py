"""What is done: one row a (scan, step, variant, chunk), written in the transaction of its rows.

A row counts as done when the step's integer version and the hash of its options are the present ones. The
version is raised by hand when a step's output changes meaning; an ordinary commit re-does nothing. A row that
is stale is not done either: what a step wrote is valid but for instances whose rows were dropped since.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Protocol

    from psycopg import Connection

    class Problem(Protocol):
        """Something that was left out; see `open3dsg.datasets.scan.Problem`."""

        @property
        def kind(self) -> str:
            """What is counted."""

        @property
        def detail(self) -> str:
            """What is read."""


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


def is_begun(connection: Connection[Any], scan_id: int, entry: Entry) -> bool:
    """Tell whether rows of `entry`, with these options and this version, are there, even if not all."""
    return bool(fetch_value(connection, "ledger_is_begun", {"scan_id": scan_id, **entry.key()}))


def mark_stale(connection: Connection[Any], scan_id: int, steps: Iterable[str]) -> None:
    """Note in the present transaction that `steps` of a scan have to fill in rows that it dropped."""
    execute(connection, "ledger_mark_stale", {"scan_id": scan_id, "steps": list(steps)})


def record(
    connection: Connection[Any],
    scan_id: int,
    entry: Entry,
    counts: Mapping[str, int],
    problems: Sequence[Problem] = (),
    *,
    chunk: int = 0,
    chunks: int = 1,
) -> None:
    """Note in the present transaction that a chunk, of `chunks` in all, is done, and what was left out."""
    parameters = {
        "scan_id": scan_id,
        "chunk": chunk,
        "chunks": chunks,
        "options": Jsonb(dict(entry.options)),
        "counts": Jsonb(dict(counts)),
        "problems": Jsonb(
            [{"kind": problem.kind, "detail": _storable(problem.detail)} for problem in problems]
        ),
        **entry.key(),
    }
    execute(connection, "ledger_record", parameters)


def _storable(text: str) -> str:
    """Spell out what no database text can hold, which damaged files bring: NUL and lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def check_same_options(connection: Connection[Any], scan_id: int, entry: Entry) -> None:
    """Raise UserError where the work was done with other options: to do it over drops what was made of it.

    Another version of the step may have had other ones. It is done over in any case, so only the options that
    both know count.
    """
    row = execute(connection, "ledger_other_options", {"scan_id": scan_id, **entry.key()}).fetchone()
    if row is None:
        return
    earlier, now = row[0], dict(entry.options)
    if row[1] != entry.version:
        both = earlier.keys() & now.keys()
        earlier, now = ({name: options[name] for name in both} for options in (earlier, now))
    changed = ", ".join(_differences(earlier, now))
    if not changed:
        return
    raise UserError(
        f"{entry.step} was done with other options ({changed}): give those again,"
        " or --replace to drop its rows, and all that was made of them, and do it with these"
    )


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(earlier.keys() | now.keys()):
        before, after = earlier.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after)
        elif json.dumps(before) != json.dumps(after):
            yield f"{name} {before}, now {after}"


def forget(
    connection: Connection[Any], scan_id: int, steps: Iterable[str], variant: str | None = None
) -> None:
    """Drop what the ledger says of `steps` of a scan (one variant, or all): their rows are being replaced."""
    execute(connection, "ledger_forget", {"scan_id": scan_id, "steps": list(steps), "variant": variant})


@contextmanager
def scan_lock(connection: Connection[Any], dataset: str, scan: str) -> Iterator[None]:
    """Wait until nobody else works on the scan, and keep others out meanwhile.

    The lock belongs to the session: the server lets go of it when a process dies. Work below it opens its
    own transactions, so the connection must commit by itself: ValueError where it does not.
    """
    with _lock(connection, f"{dataset}/{scan}", shared=False):
        yield


@contextmanager
def scan_lock_at_once(connection: Connection[Any], dataset: str, scan: str) -> Iterator[None]:
    """Keep others away from the scan; UserError where somebody works on it now. Else as `scan_lock`."""
    if fetch_value(connection, "try_lock_scan", {"name": f"{dataset}/{scan}"}) is not True:
        raise UserError(f"someone is at work on scan {dataset}/{scan}: run the same command again later")
    try:
        with scan_lock(connection, dataset, scan):  # a session may hold a lock twice
            yield
    finally:
        if not connection.closed:
            execute(connection, "unlock_scan", {"name": f"{dataset}/{scan}", "shared": False})


@contextmanager
def chunk_lock(
    connection: Connection[Any], dataset: str, scan: str, entry: Entry, chunk: int
) -> Iterator[None]:
    """Wait for one chunk of `entry`, and keep others out of it; other chunks of the scan go on beside it.

    Whoever works on the whole scan waits for its chunks, and they for him. Else as `scan_lock`.
    """
    name = f"{dataset}/{scan}"
    with (
        _lock(connection, name, shared=True),
        _lock(connection, f"{name}/{entry.step} {entry.variant} {chunk}", shared=False),
    ):
        yield


def work_lock(
    connection: Connection[Any], dataset: str, scan: str, entry: Entry, chunk: int | None
) -> AbstractContextManager[None]:
    """Lock one chunk of `entry`, or with None the whole scan; as `chunk_lock` and `scan_lock`."""
    if chunk is None:
        return scan_lock(connection, dataset, scan)
    return chunk_lock(connection, dataset, scan, entry, chunk)


@contextmanager
def _lock(connection: Connection[Any], name: str, *, shared: bool) -> Iterator[None]:
    if not connection.autocommit:
        raise ValueError("steps need a connection with autocommit, such as open_store gives")
    parameters = {"name": name, "shared": shared}
    execute(connection, "lock_scan", parameters)
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "unlock_scan", parameters)
