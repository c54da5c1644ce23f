"""Rescans: what annotations say of objects that moved, changed or went since the reference scan.

Into `rescan_object`. They have an entry of their own in the ledger, so that a rescan whose points are in the
store gets them, or others from a changed file, without being read again. `open3dsg ingest` takes this step
after its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute
from open3dsg.steps.summary import Summary
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from psycopg import Connection

    from open3dsg.datasets.rescan_objects import ObjectChange, RescanChanges

STEP = "rescans"
VERSION = 1

_COLUMNS = {
    "scan_id": "int8",
    "reference_no": "int4",
    "change": "text",
    "instance_no": "int4",
    "t_rescan_reference": "float8[]",
    "symmetry": "int2",
}


@runtime_checkable
class KnowsRescans(Protocol):
    """A reader of a dataset that tells what changed in a room between visits: not all do."""

    def changes_of(self, name: str) -> RescanChanges | None:
        """Return what is said of objects of the rescan `name`, or None where it is no rescan."""


def changes_of(reader: object, scan: str) -> RescanChanges | None:
    """Return what the reader says of objects of a rescan; None where it says nothing of visits."""
    return reader.changes_of(scan) if isinstance(reader, KnowsRescans) else None


def lacks_changes(connection: Connection[Any], scan_id: int, found: RescanChanges | None) -> bool:
    """Tell whether the scan is to get the changes `found`; None: the files say nothing of it."""
    return found is not None and not ledger.chunks_done(connection, scan_id, _entry(found))


def write_changes(
    connection: Connection[Any], dataset: str, scan: str, found: RescanChanges, *, force: bool
) -> Summary:
    """Put the changes `found` in place of those the scan has, unless the ledger says they are there.

    Raises UserError where the scan is not in the store, or not any more.
    """
    with ledger.scan_lock(connection, dataset, scan), connection.transaction():
        scan_id = find_scan(connection, f"{dataset}/{scan}").scan_id
        if not force and not lacks_changes(connection, scan_id, found):
            return Summary(skipped=True)
        execute(connection, "rescan_objects_clear", {"scan_id": scan_id})
        copy_in(connection, "rescan_object", _COLUMNS, (_row(scan_id, said) for said in found.objects))
        counts = {"rescan_objects": len(found.objects)}
        ledger.record(connection, scan_id, _entry(found), counts, found.problems)
    return Summary(counts, found.problems)


def _entry(found: RescanChanges) -> ledger.Entry:
    return ledger.Entry(STEP, VERSION, {"content": found.hash})


def _row(scan_id: int, said: ObjectChange) -> tuple[object, ...]:
    transform = said.T_rescan_reference
    numbers = None if transform is None else transform.ravel().tolist()
    return scan_id, said.reference, said.change, said.rescan, numbers, said.symmetry
