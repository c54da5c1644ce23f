"""Attributes: what annotations say of instances beside their labels, into `instance_attribute`.

They have an entry of their own in the ledger, so that a scan whose points are in the store gets them, or
others from a changed file, without being read again. `open3dsg ingest` takes this step after its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open3dsg.datasets.scan import Problem
from open3dsg.db import ledger
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import check_term, term_ids, terms_in_use
from open3dsg.steps.summary import Summary
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.attributes import ScanAttributes

STEP = "attributes"
VERSION = 1


def lacks_attributes(connection: Connection[Any], scan_id: int, found: ScanAttributes | None) -> bool:
    """Tell whether the scan is to get the attributes `found`; None: the files say nothing of it.

    Instances merged from masks are not those that annotations speak of, and get none.
    """
    if found is None or ledger.chunks_done(connection, scan_id, _entry(found)):
        return False
    return not fetch_value(connection, "has_instances_of_masks", {"scan_id": scan_id})


def write_attributes(
    connection: Connection[Any], dataset: str, scan: str, found: ScanAttributes, *, force: bool
) -> Summary:
    """Put the attributes `found` in place of those the scan has, unless the ledger says they are there.

    What is said of an instance that the scan lacks is left out and reported. Raises UserError where the scan
    is not in the store, or not any more.
    """
    with terms_in_use(connection):
        ids = term_ids(connection, {word for _number, _kind, word in found.rows}, "an attribute")
        with ledger.scan_lock(connection, dataset, scan), connection.transaction():
            scan_id = find_scan(connection, f"{dataset}/{scan}").scan_id
            if not force and not lacks_attributes(connection, scan_id, found):
                return Summary(skipped=True)
            there = {number for number, _ in execute(connection, "instance_labels", {"scan_id": scan_id})}
            counts = {"attributes": _replace_rows(connection, scan_id, found, there, ids)}
            problems = [*found.problems, *_without_instance(scan, found, there)]
            ledger.record(connection, scan_id, _entry(found), counts, problems)
    return Summary(counts, problems)


def check_attributes(found: ScanAttributes | None) -> None:
    """Raise UserError for a word that the store cannot hold."""
    for _number, _kind, word in () if found is None else found.rows:
        check_term(word, "an attribute")


def drop_attributes(connection: Connection[Any], scan_id: int) -> None:
    """Drop, in the present transaction, what is said of instances that give way to quite other ones."""
    ledger.forget(connection, scan_id, [STEP])
    execute(connection, "attributes_clear", {"scan_id": scan_id})


def _replace_rows(
    connection: Connection[Any],
    scan_id: int,
    found: ScanAttributes,
    there: Collection[int],
    ids: Mapping[str, int],
) -> int:
    """Write the attributes of the instances `there`, and no others; return their number."""
    kept = [row for row in found.rows if row[0] in there]
    execute(connection, "attributes_clear", {"scan_id": scan_id})
    added = {
        "numbers": [number for number, _kind, _word in kept],
        "kinds": [kind for _number, kind, _word in kept],
        "term_ids": [ids[word] for _number, _kind, word in kept],
    }
    execute(connection, "attributes_add", {"scan_id": scan_id, **added})
    return len(kept)


def _entry(found: ScanAttributes) -> ledger.Entry:
    return ledger.Entry(STEP, VERSION, {"content": found.hash})


def _without_instance(scan: str, found: ScanAttributes, there: Collection[int]) -> Sequence[Problem]:
    """Return a problem for each instance that is spoken of and not there."""
    absent = {number for number, _kind, _word in found.rows if number not in there}
    return [
        Problem("attributes_without_instance", f"{scan}: instance {number} is not there: left out")
        for number in sorted(absent)
    ]
