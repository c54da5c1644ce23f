"""The worker: takes items up, has them done in processes of their own, and says what became of each.

One process keeps the worker's heartbeat and talks to the queue; it never does an item itself. Every living
worker looks after the items of those that fell silent, at its start and then at every beat.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any

from open3dsg.errors import UserError
from open3dsg.jobs.child import Child
from open3dsg.jobs.connector import quiet_libraries, watchful_url
from open3dsg.jobs.items import Item, item_of
from open3dsg.jobs.link import Leave, Taken, open_link
from open3dsg.jobs.policy import Decision, Outcome, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

_LOST = Outcome("lost", "its worker fell silent: it was killed, or its machine is away")


@dataclass(frozen=True)
class Pace:
    """How often a worker does what it does, and how long it waits, in seconds.

    A worker that dies has been heard of at most one beat before. So its items are taken over at the latest
    `silent_s` + `beat_s` after its death: within 30 s, with a few to spare.
    """

    beat_s: float = 4.0
    silent_s: float = 20.0
    poll_s: float = 2.0
    backoff_s: float = 5.0
    longest_rest_s: float = 300.0  # until items for which this machine lacks something are tried again


@dataclass
class Tally:
    """What a worker did: items by what became of them, and what the steps counted."""

    ended: Counter[str] = field(default_factory=Counter)  # done, skipped, failed, waiting
    counts: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    failures: dict[int, str] = field(default_factory=dict)
    handed_back: set[int] = field(default_factory=set)  # items for which this machine lacks something
    seconds: float = 0.0
    signal: signal.Signals | None = None  # what stopped it

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "items": {name: self.ended[name] for name in ("done", "skipped", "failed", "waiting")},
            "counts": dict(sorted(self.counts.items())),
            "problems": self.problems,
            "handed_back": sorted(self.handed_back),
            "failures": {str(job_id): reason for job_id, reason in sorted(self.failures.items())},
            "seconds": round(self.seconds, 3),
        }


class Worker:
    """A worker on some queues (None: all), with `concurrency` processes side by side."""

    def __init__(
        self,
        url: str,
        *,
        tell: Callable[[str], None],
        queues: Sequence[str] | None = None,
        concurrency: int = 1,
        until_empty: bool = False,
        pace: Pace | None = None,
        devices: Sequence[str] = (),
    ) -> None:
        """Take the database's URL and a function that is told a line at a time what happens.

        `devices` are shared out over the processes, one after the other; none: encoders choose.
        """
        own = cycle(devices or [None])
        self._children = [Child(watchful_url(url), concurrency, next(own)) for _ in range(concurrency)]
        self._threads = ThreadPoolExecutor(concurrency, "item")
        self._url, self._queues, self._tell = url, queues, tell
        self._until_empty = until_empty
        self._pace = pace or Pace()
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._tally = Tally()
        self._busy_with: set[int] = set()
        self._lacking: dict[int, str | None] = {}  # items handed back since the last rest, and why
        self._rest_s, self._rests_until = 0.0, 0.0
        self._is_stopping = self._is_giving_up = False
        self._woken = asyncio.Event()
        self._news = 0  # counts what there was to wake up for

    def run(self) -> Tally:
        """Work until stopped or, with `until_empty`, until nothing is left to do; return what was done."""
        started = time.monotonic()
        quiet_libraries()
        try:
            asyncio.run(self._run())
        finally:
            self._threads.shutdown()
            for child in self._children:
                child.close()
        self._tally.seconds = time.monotonic() - started
        return self._tally

    async def _run(self) -> None:
        async with open_link(self._url, self._queues, self._name, self._tell) as link:
            self._link = link
            if sys.platform != "win32":
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
            with contextlib.suppress(Leave):  # the database is away: others will see that we are gone
                await link.register()
                await self._rescue()
                await self._work_off()
                await link.unregister()

    async def _work_off(self) -> None:
        """Serve until there is no more to do; whatever ends it, nothing of it goes on afterwards."""
        beside = [
            asyncio.create_task(coroutine) for coroutine in (self._beat(), self._link.listen(self._wake))
        ]
        serving = [asyncio.create_task(self._serve(child)) for child in self._children]
        try:
            await self._until_all(serving, beside)
        except BaseException:
            self._kill()
            raise
        finally:
            self._link.patience_ended.set()
            await _end({*beside, *serving})

    @staticmethod
    async def _until_all(serving: Sequence[asyncio.Task[None]], beside: Sequence[asyncio.Task[None]]) -> None:
        """Wait until nobody serves any more; an error of anybody, also of those beside, ends it all."""
        pending = {*serving, *beside}
        while not all(task.done() for task in serving):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    def _stop(self, number: signal.Signals) -> None:
        """Take up nothing more; the second time, give up what is under way."""
        if not self._is_stopping:
            self._is_stopping = True
            self._tally.signal = signal.Signals(number)
            under_way = len(self._busy_with)
            if under_way:
                self._tell(f"stopping once {under_way} items under way have ended; again gives them up")
        else:
            self._is_giving_up = True
            self._kill()
        if not self._busy_with or self._is_giving_up:
            self._link.patience_ended.set()
        self._wake()

    def _kill(self) -> None:
        for child in self._children:
            child.kill()

    def _wake(self) -> None:
        self._news += 1
        self._woken.set()

    async def _beat(self) -> None:
        while not self._link.patience_ended.is_set():
            await asyncio.sleep(self._pace.beat_s)
            await self._link.beat()
            await self._rescue()

    async def _rescue(self) -> None:
        """Decide what becomes of the items of dead workers."""
        for taken in await self._link.adopt(self._pace.silent_s, self._busy_with):
            item = _item(taken)
            await self._settle(taken, item, _LOST)
            self._wake()

    async def _serve(self, child: Child) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, child.start)
        while not self._is_stopping:
            news = self._news
            taken = await self._link.fetch(self._passed_over())
            if taken is not None:
                self._busy_with.add(taken.job_id)
                try:
                    await self._do(taken, child)
                finally:
                    self._busy_with.discard(taken.job_id)
            elif self._until_empty and not await self._link.left(self._tally.handed_back):
                self._is_stopping = True
                self._wake()
            else:
                await self._sleep(news)

    async def _sleep(self, news: int) -> None:
        """Sleep for a while, or until there is more news than `news`, as there may be already."""
        if self._news == news:
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._pace.poll_s)

    async def _do(self, taken: Taken, child: Child) -> None:
        started = time.monotonic()
        item = _item(taken)
        if isinstance(item, str):
            outcome = Outcome("refused", item)
        elif self._is_stopping:  # it came while we were told
            outcome = Outcome("stopped", "its worker was stopped")
        else:
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self._threads, child.run, item)
        if outcome.kind == "killed" and self._is_giving_up:
            outcome = Outcome("stopped", "its worker was stopped")
        await self._settle(taken, item, outcome, time.monotonic() - started)

    async def _settle(self, taken: Taken, item: Item | str, outcome: Outcome, seconds: float = 0.0) -> None:
        """Keep how an attempt ended, put the item where it belongs, and tell."""
        if outcome.kind != "done" and not await self._link.is_mine(taken):
            self._tell(f"item {taken.job_id} was taken over by another worker: {outcome.reason}")
            return
        await self._link.end_attempt(taken, outcome)
        decision = await self._decide(taken, item, outcome)
        await self._link.settle(taken, decision)
        self._note(taken, item, outcome, decision, seconds)
        if self._until_empty:
            self._wake()  # those who wait may find that this was the last

    async def _decide(self, taken: Taken, item: Item | str, outcome: Outcome) -> Decision:
        if outcome.kind == "done" or isinstance(item, str):
            return Decision("done" if outcome.kind == "done" else "failed")
        if outcome.kind == "away":
            self._pass_over(taken, outcome)
        history = await self._link.history(taken.job_id)
        return decide(outcome.kind, history, item.max_attempts, self._pace.backoff_s)

    def _pass_over(self, taken: Taken, outcome: Outcome) -> None:
        """Leave the item to others for a while, so that this worker comes to those that it can do."""
        self._tally.handed_back.add(taken.job_id)
        if not self._lacking:
            self._rest_s = min(2 * self._rest_s or self._pace.backoff_s, self._pace.longest_rest_s)
            self._rests_until = time.monotonic() + self._rest_s
        self._lacking[taken.job_id] = outcome.reason

    def _passed_over(self) -> Collection[int]:
        """Return the items to leave to others, none once they have been left for long enough."""
        if not self._until_empty and time.monotonic() > self._rests_until:
            self._lacking.clear()
        return list(self._lacking)

    def _note(
        self, taken: Taken, item: Item | str, outcome: Outcome, decision: Decision, seconds: float
    ) -> None:
        label = f"item {taken.job_id}" if isinstance(item, str) else item.label
        if outcome.kind == "done":
            if taken.job_id in self._tally.handed_back:
                self._rest_s = 0.0  # what was lacking is there now
            self._tally.handed_back.discard(taken.job_id)
            self._tally.ended["skipped" if outcome.skipped else "done"] += 1
            self._tally.counts.update(outcome.counts)
            self._tally.problems += outcome.problems
            self._tell(f"{label}: {_told(outcome)} in {seconds:.1f} s")
            for remark in outcome.remarks:
                self._tell(remark)
            return
        self._tally.ended[decision.status] += 1
        if decision.status == "failed":
            self._tally.failures[taken.job_id] = outcome.reason or outcome.kind
        if outcome.kind == "away" and [*self._lacking.values()].count(outcome.reason) > 1:
            return  # told once a round, and counted
        pause = f", for {decision.delay_s:.0f} s" if decision.delay_s else ""
        then = "failed" if decision.status == "failed" else f"waits again{pause}"
        self._tell(f"{label}: {then}: {outcome.reason}")


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks, again and again: one whose query is cancelled may take that for the query's answer."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _done, pending = await asyncio.wait(pending, timeout=1)
    await asyncio.gather(*tasks, return_exceptions=True)


def _item(taken: Taken) -> Item | str:
    """Return the item, or why there is none."""
    try:
        return item_of(taken.job.task_kwargs)
    except UserError as error:
        return str(error)


def _told(outcome: Outcome) -> str:
    if outcome.skipped:
        return "was done already"
    counts = [f"{name} {count:,}" for name, count in sorted(outcome.counts.items())]
    problems = [f"problems {outcome.problems}"] if outcome.problems else []
    return f"done ({', '.join(counts + problems)})"
