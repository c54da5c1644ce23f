"""The queue as commands see it: put items in, list them, give them new attempts, take them out."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from procrastinate.exceptions import AlreadyEnqueued, UniqueViolation
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.utils import utcnow

from open3dsg.db.queries import execute
from open3dsg.db.queue_schema import check_queue
from open3dsg.errors import UserError
from open3dsg.jobs.connector import in_plain_words, quiet_libraries, sync_connector
from open3dsg.jobs.items import STATUSES, TASK, Item, shown_item
from open3dsg.steps.catalogue import default_queue, step_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from psycopg import Connection

_OURS = {theirs: ours for ours, theirs in STATUSES.items()}


@dataclass(frozen=True)
class QueuedItem:
    """An item in the queue, and its latest attempt."""

    job_id: int
    status: str
    queue: str
    item: Item
    not_before: datetime | None
    submitted_at: datetime
    attempts: int
    worker: str | None
    took: timedelta | None
    reason: str | None


@dataclass(frozen=True)
class Attempt:
    """One time that a worker took an item up; `outcome` is None while it runs."""

    attempt: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    reason: str | None
    trace: str | None


class Queue:
    """The open queue."""

    def __init__(self, connection: Connection[Any], manager: JobManager) -> None:
        """Take a connection that commits by itself, and procrastinate's manager; see `open_queue`."""
        self._connection = connection
        self._manager = manager

    def submit(self, items: Sequence[Item], queue: str) -> int:
        """Put items in; return how many were new. Work that waits or runs already is not put in twice."""
        locks = [item.lock for item in items]
        queued = {lock for (lock,) in execute(self._connection, "jobs_queued", {"locks": locks})}
        return sum(self._submit_one(item, queue) for item in items if item.lock not in queued)

    def _submit_one(self, item: Item, queue: str) -> bool:
        job = Job(queue=queue, lock=None, queueing_lock=item.lock, task_name=TASK, task_kwargs=item.as_json())
        try:
            self._manager.defer_job(job)
        except AlreadyEnqueued:
            return False  # by somebody else, in this moment
        return True

    def find(
        self, *, ids: Sequence[int] | None = None, status: str | None = None, step: str | None = None
    ) -> list[QueuedItem]:
        """Return the items that match, first in first; UserError for ids and steps that there are not."""
        if step is not None and step not in step_names():
            raise UserError(f"no step {step!r}: items are of {', '.join(step_names())}")
        statuses = None if status is None else [STATUSES[status]]
        parameters = {"ids": None if ids is None else list(ids), "statuses": statuses, "step": step}
        rows = execute(self._connection, "jobs_matching", parameters)
        found = [_queued_item(row) for row in rows]
        missing = set(ids or ()) - {entry.job_id for entry in found}
        if missing:
            raise UserError(f"no item {min(missing)} in the queue; `open3dsg jobs list` shows what there is")
        return found

    def attempts(self, job_id: int) -> list[Attempt]:
        """Return the attempts at an item, the first first."""
        return [Attempt(*row) for row in execute(self._connection, "job_attempts", {"job_id": job_id})]

    def counts(self) -> dict[str, int]:
        """Return the number of items by status."""
        found = {_OURS.get(name, name): count for name, count in execute(self._connection, "jobs_by_status")}
        return {status: found.get(status, 0) for status in STATUSES}

    def retry(self, entries: Sequence[QueuedItem]) -> int:
        """Let failed items wait again, with new attempts; return how many: others wait already, put in anew.

        Raises UserError, and changes nothing, where one of them did not fail.
        """
        _refuse_others(entries, "failed", "has not failed")
        done = 0
        for entry in entries:
            try:
                self._manager.retry_job_by_id(entry.job_id, utcnow())
            except UniqueViolation:
                continue  # the same work waits already, as an item of its own
            execute(self._connection, "attempts_forgive", {"job_id": entry.job_id})
            done += 1
        return done

    def cancel(self, entries: Sequence[QueuedItem]) -> int:
        """Take waiting items out; return how many were still waiting.

        Raises UserError, and changes nothing, where one of them does not wait.
        """
        _refuse_others(entries, "waiting", "does not wait")
        return sum(self._manager.cancel_job_by_id(entry.job_id) for entry in entries)


def known_queues(connection: Connection[Any]) -> list[str]:
    """Return the queues that steps go to where no other is asked for, and those that ever had an item."""
    used = {name for (name,) in execute(connection, "queues_known")}
    return sorted(used | {default_queue(step) for step in step_names()})


@contextmanager
def open_queue(connection: Connection[Any], url: str) -> Iterator[Queue]:
    """Open the queue of a database; UserError where its tables are missing or of another version."""
    check_queue(connection)
    quiet_libraries()
    connector = sync_connector(url)
    with in_plain_words():
        connector.open()
        try:
            yield Queue(connection, JobManager(connector))
        finally:
            connector.close()


def _queued_item(row: tuple[Any, ...]) -> QueuedItem:
    job_id, status, queue, kept, *rest = row
    return QueuedItem(job_id, _OURS.get(status, "cancelled"), queue, shown_item(kept), *rest)


def _refuse_others(entries: Sequence[QueuedItem], status: str, trouble: str) -> None:
    for entry in entries:
        if entry.status != status:
            raise UserError(f"item {entry.job_id} ({entry.item.label}) {trouble}: it is {entry.status}")
