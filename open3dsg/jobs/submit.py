"""What a step on some scans is in items."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from open3dsg.errors import UserError
from open3dsg.jobs.items import Item
from open3dsg.steps.catalogue import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection

    from open3dsg.steps.runner import Step


@dataclass(frozen=True)
class Share:
    """The items that are left to do, the number of scans that are done, and the scans that cannot be done."""

    items: Sequence[Item]
    done: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def share_out(
    connection: Connection[Any],
    step: str,
    work: Step,
    scans: Sequence[str],
    *,
    max_attempts: int,
    advance: Callable[[str], None],
) -> Share:
    """Divide a step into items, one a scan, or one a chunk where a scan has several; queues nothing yet."""
    arguments, submission = describe(step, work), uuid.uuid4().hex
    items: list[Item] = []
    done, failures = 0, {}
    for scan in scans:
        try:
            parts = work.parts(connection, scan)
        except UserError as error:
            failures[scan] = str(error)
        else:
            done += not parts
            items += [Item(step, arguments, scan, chunk, submission, max_attempts) for chunk in parts]
        advance(scan)
    return Share(items, done, failures)
