"""Instances of a scan by their numbers and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.scan import Cloud
    from open3dsg.store.scans import StoredScan

_NAMED = 12  # instances in a message that lists some


def read_labels(connection: Connection[Any], scan: StoredScan) -> dict[int, str]:
    """Return instance number -> label of a scan, by ascending number."""
    rows = execute(connection, "instance_labels", {"scan_id": scan.scan_id}).fetchall()
    return dict(sorted(rows))


def list_some(numbers: Sequence[int]) -> str:
    """Return the first dozen of `numbers`, and how many more there are, for a message."""
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return (", ".join(map(str, numbers[:_NAMED])) or "none") + more


def check_instances(
    scan: StoredScan, labels: Mapping[int, str], numbers: Sequence[int], cloud: Cloud | None = None
) -> None:
    """Raise UserError for the first of `numbers` that is none of the scan's, naming those there are.

    Given the `cloud` of the scan, also for the first that has none of its points.
    """
    absent = [number for number in numbers if number not in labels]
    if absent:
        raise UserError(f"scan {scan.key} has no instance {absent[0]}; it has {list_some(list(labels))}")
    for number in numbers:
        if cloud is not None and not (cloud.instance == number).any():
            raise UserError(f"instance {number} of scan {scan.key} has no points: only annotations name it")
