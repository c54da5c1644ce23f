"""The work of one page: job after job, in a thread of its own, so that no page waits for another."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Worker:
    """Runs jobs by name. One that waits gives way to a newer one: the last letter typed counts."""

    def __init__(self, name: str) -> None:
        """Start the thread, which ends with the process, or after `close`."""
        self._jobs: dict[str, tuple[float, Callable[[], None]]] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, name: str, job: Callable[[], None], after_s: float = 0.0) -> None:
        """Let `job` run, at least `after_s` seconds from now, in place of one of this name that waits."""
        with self._changed:
            self._jobs[name] = (time.monotonic() + after_s, job)
            self._changed.notify()

    def close(self) -> None:
        """Forget the jobs that wait, and end after the one that runs."""
        with self._changed:
            self._is_closed = True
            self._jobs.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job()

    def _next(self) -> Callable[[], None] | None:
        """Wait for the job that is due first; None: closed."""
        with self._changed:
            while not self._is_closed:
                due, name = min(((due, name) for name, (due, _job) in self._jobs.items()), default=(None, ""))
                wait_s = None if due is None else due - time.monotonic()
                if wait_s is not None and wait_s <= 0:
                    return self._jobs.pop(name)[1]
                self._changed.wait(wait_s)
        return None
