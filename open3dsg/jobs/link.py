"""A worker's way to the queue: fetch an item, say how it ended, stay alive, take over what the dead left."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from procrastinate.utils import utcnow

from open3dsg.db.queries import named_queries
from open3dsg.jobs.connector import async_connector, in_plain_words
from open3dsg.jobs.policy import COUNTED, Decision, History, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

    from procrastinate import PsycopgConnector

_Result = TypeVar("_Result")

_LONGEST_PAUSE_S = 15.0


class Leave(Exception):  # noqa: N818 - no error: the worker was told to stop
    """The database is away and nobody waits for it any more."""


@dataclass(frozen=True)
class Taken:
    """An item that this worker took up; `attempt` counts all of them."""

    job: Job
    attempt: int

    @property
    def job_id(self) -> int:
        """Return the number of the item."""
        return _number(self.job)


class Link:
    """The queue for one worker. Every call waits, and asks again, while the database is away."""

    def __init__(
        self,
        connector: PsycopgConnector,
        queues: Sequence[str] | None,
        name: str,
        tell: Callable[[str], None],
    ) -> None:
        """Take an open connector, the queues to serve (None: all) and what the attempts call the worker."""
        self._connector, self._manager = connector, JobManager(connector)
        self._queues = None if queues is None else list(queues)
        self._name, self._tell = name, tell
        self._worker_id = 0
        self._is_away = False
        self.patience_ended = asyncio.Event()  # nobody waits for a database that is away

    async def register(self) -> None:
        """Become a worker that the others watch."""
        self._worker_id = await self._call(self._manager.register_worker)

    async def unregister(self) -> None:
        """Be no worker any more; what it still holds is free for others."""
        await self._call(lambda: self._manager.unregister_worker(self._worker_id))

    async def beat(self) -> None:
        """Say that this worker lives."""
        await self._call(lambda: self._manager.update_heartbeat(self._worker_id))

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever an item is put in, for ever."""

        async def notified(**_notification: Any) -> None:
            wake()

        await self._call(lambda: self._manager.listen_for_jobs(on_notification=notified, queues=self._queues))

    async def fetch(self, passed_over: Collection[int] = ()) -> Taken | None:
        """Take the next item up that is not `passed_over`, or None where none waits."""
        parameters = {
            "worker_id": self._worker_id,
            "queues": self._queues,
            "passed_over": list(passed_over),
        }
        try:
            rows = await _execute(self, "jobs_fetch", parameters)
        except psycopg.errors.ForeignKeyViolation:
            # We were silent for so long, with our machine asleep or cut off, that others took us for dead.
            await self.register()
            return None
        if not rows:
            return None
        job = Job.from_row(rows[0])
        return Taken(job, await self._start_attempt(_number(job), self._name))

    async def is_mine(self, taken: Taken) -> bool:
        """Tell whether the item is still with this worker, and was not taken over."""
        parameters = {"job_id": taken.job_id, "worker_id": self._worker_id}
        [row] = await _execute(self, "job_is_mine", parameters)
        return bool(row["mine"])

    async def history(self, job_id: int) -> History:
        """Return what the attempts at an item were so far."""
        parameters = {"job_id": job_id, "counted": sorted(COUNTED)}
        [row] = await _execute(self, "attempt_history", parameters)
        return History(**row)

    async def end_attempt(self, taken: Taken, outcome: Outcome) -> None:
        """Keep how an attempt ended."""
        parameters = {
            "job_id": taken.job_id,
            "attempt": taken.attempt,
            "outcome": outcome.kind,
            "reason": outcome.reason,
            "trace": outcome.trace,
        }
        await _execute(self, "attempt_end", parameters)

    async def settle(self, taken: Taken, decision: Decision) -> None:
        """Put an item where it belongs; one that somebody else has ended meanwhile stays as it is."""
        try:
            if decision.status == "waiting":
                await self._put_back(taken.job, decision.delay_s)
            else:
                status = Status.SUCCEEDED if decision.status == "done" else Status.FAILED
                await self._call(lambda: self._manager.finish_job(taken.job, status, delete_job=False))
        except psycopg.errors.RaiseException:
            self._tell(f"item {taken.job_id} was ended by another worker, too")

    async def _put_back(self, job: Job, delay_s: float) -> None:
        try:
            await self._call(
                lambda: self._manager.retry_job(job, retry_at=utcnow() + timedelta(seconds=delay_s))
            )
        except UniqueViolation:
            # The same work was put in again meanwhile, and waits as an item of its own.
            await self._call(lambda: self._manager.finish_job(job, Status.FAILED, delete_job=False))

    async def adopt(self, silent_s: float, busy_with: Collection[int]) -> list[Taken]:
        """Make the items of workers that were silent for so long this worker's, and return them.

        Those it is `busy_with` were its own all the time, but others took it for dead: they are not returned.
        """
        try:
            rows = await _execute(self, "jobs_adopt", {"worker_id": self._worker_id, "silent_s": silent_s})
        except psycopg.errors.ForeignKeyViolation:
            await self.register()
            return []
        await self._call(lambda: self._manager.prune_stalled_workers(silent_s))
        return [await self._adopted(row) for row in rows if row["id"] not in busy_with]

    async def _adopted(self, row: dict[str, Any]) -> Taken:
        [found] = await _execute(self, "attempt_open", {"job_id": row["id"]})
        attempt = found["attempt"]
        if attempt is None:  # the dead worker did not get so far as to say that it had begun
            attempt = await self._start_attempt(row["id"], "unknown")
        return Taken(Job.from_row(row), attempt)

    async def left(self, handed_back: Collection[int]) -> int:
        """Count what waits or runs in this worker's queues, without the items that it handed back."""
        parameters = {"queues": self._queues, "handed_back": list(handed_back)}
        [row] = await _execute(self, "jobs_left", parameters)
        return int(row["left"])

    async def _start_attempt(self, job_id: int, worker: str) -> int:
        [row] = await _execute(self, "attempt_start", {"job_id": job_id, "worker": worker})
        return int(row["attempt"])

    async def query(self, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a named query and return its rows."""
        text = named_queries()[name]
        return await self._call(lambda: self._connector.execute_query_all_async(text, **parameters))

    async def _call(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        pause_s = 0.5
        while True:
            try:
                with in_plain_words():
                    result = await ask()
            except psycopg.OperationalError as error:
                if not self._is_away:
                    self._is_away = True
                    reason = " ".join(str(error).split())
                    self._tell(f"the database is away ({reason}): waiting for it to come back")
            else:
                if self._is_away:
                    self._is_away = False
                    self._tell("the database is back")
                return result
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.patience_ended.wait(), seconds)
        except TimeoutError:
            return
        raise Leave


@asynccontextmanager
async def open_link(
    url: str, queues: Sequence[str] | None, name: str, tell: Callable[[str], None]
) -> AsyncIterator[Link]:
    """Open the queue for a worker."""
    connector = async_connector(url)
    with in_plain_words():
        await connector.open_async()
    try:
        yield Link(connector, queues, name, tell)
    finally:
        await connector.close_async()


async def _execute(link: Link, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """As `open3dsg.db.queries.execute`, so that a search for a query's name finds all uses alike."""
    return await link.query(name, parameters)


def _number(job: Job) -> int:
    if job.id is None:
        raise RuntimeError("a job that was fetched has a number")
    return job.id
