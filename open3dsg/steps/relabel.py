"""Labels and instances of scans read again, or corrected by hand, without losing what is still valid.

What later steps made of instances that did not change stays; see `open3dsg.store.geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from open3dsg.db import ledger
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.steps.ingest import DOWNSTREAM, Ingest
from open3dsg.steps.summary import Summary
from open3dsg.store.geometry import relabel_instances
from open3dsg.store.removal import clear_away
from open3dsg.store.roots import open_as_read
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.layouts import Reader
    from open3dsg.store.scans import StoredScan


@dataclass(frozen=True)
class Relabel:
    """Read scans again as they were read before; call it with a connection and a scan as `dataset/name`."""

    _readers: dict[str, Reader] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Read one scan again, whatever the ledger says, and write what is different."""
        stored = find_scan(connection, scan)
        stored.check_root()
        with ledger.scan_lock(connection, stored.dataset, stored.name):
            stored = find_scan(connection, stored.key)  # not to bring back what was deleted while we waited
            _check_own_instances(connection, stored)
            reader = self._reader(connection, stored)
            step = Ingest(reader, stored.dataset, stored.layout, str(stored.root), force=True)
            return step(connection, stored.name)

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:  # noqa: ARG002
        """Return the whole scan: nothing says beforehand whether its files have changed."""
        return [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Clear away the labels that nothing is called any more."""
        clear_away(connection, ())
        return ()

    def _reader(self, connection: Connection[Any], stored: StoredScan) -> Reader:
        """Return one reader for all scans that are read alike: it keeps what it read of the whole dataset."""
        reader = open_as_read(connection, stored)
        key = repr((stored.layout, stored.root, sorted(reader.arguments.items())))
        return self._readers.setdefault(key, reader)


def _check_own_instances(connection: Connection[Any], scan: StoredScan) -> None:
    """Raise UserError where instances are merged from masks: to read the scan again would drop them."""
    if fetch_value(connection, "has_instances_of_masks", {"scan_id": scan.scan_id}):
        raise UserError(
            f"the instances of scan {scan.name} are merged from masks, not read from its files:"
            " `open3dsg scans relabel --labels FILE` labels them, and `open3dsg ingest` with --force"
            " drops them for those of the files"
        )


@dataclass(frozen=True)
class Correct:
    """Give instances the labels of somebody's own; call it with a connection and a scan as `dataset/name`.

    They hold until the scan is read again. The labels that annotations give in their subgraphs stay.
    """

    labels: Mapping[str, Mapping[int, str]]  # dataset/name -> instance number -> label

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Correct the labels of one scan; UserError, and none is, where it has no such instance."""
        stored = find_scan(connection, scan)
        wanted = self.labels[scan]
        with (
            terms_in_use(connection),
            ledger.scan_lock(connection, stored.dataset, stored.name),
            connection.transaction(),
        ):
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            rows = execute(connection, "instance_labels", {"scan_id": stored.scan_id}).fetchall()
            there = [number for number, _label in rows]
            absent = sorted(wanted.keys() - set(there))
            if absent:
                raise UserError(
                    f"scan {stored.key} has no instance {absent[0]}: it has {len(there)},"
                    f" from {min(there, default='-')} to {max(there, default='-')}"
                )
            ids = term_ids(connection, wanted.values())
            return Summary(relabel_instances(connection, stored.scan_id, wanted, ids, DOWNSTREAM))

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:  # noqa: ARG002
        """Return the whole scan."""
        return [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Clear away the labels that nothing is called any more."""
        clear_away(connection, ())
        return ()
