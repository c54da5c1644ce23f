"""One step over many scans: in this process, or shared out over several.

A step is a function of (connection, item) that returns a Summary and minds its own transactions; the
connection commits by itself, so that work opens a transaction exactly where rows must stand or fall together.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, Protocol

from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.steps.summary import Report, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.queues import SimpleQueue

    from psycopg import Connection


class Work(Protocol):
    """A step with its options bound: picklable, so that another process can run it."""

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Do the step for one scan."""


class Step(Work, Protocol):
    """Work that can be shared out by the queue, too."""

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[int | None]:
        """Return the chunks of the scan that are left to do, None for all of it at once; empty: it is done.

        Raises UserError where the step cannot be done, as the step itself would.
        """

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Do what is to be done once scans are done, and return what there is to tell; again does no harm."""


def run_step(
    step: str,
    work: Work,
    scans: Sequence[str],
    *,
    url: str,
    jobs: int,
    advance: Callable[[str], None],
    devices: Sequence[str] = (),
) -> Report:
    """Run `work` for each scan on `jobs` processes; `advance` is told each scan as it ends.

    With several `devices` each has that many processes; see `process_device`.
    A UserError of one scan is noted as its failure and the others go on; any other exception is a bug and
    stops the run. On Ctrl-C nothing new starts: other processes end the scans under way, this one gives its
    own up, and the ledger knows what is done.
    """
    report = Report(step)
    started = time.monotonic()
    processes = min(jobs * max(len(devices), 1), len(scans))
    if processes <= 1:
        with open_connection(url) as connection, _on_device(devices[0] if devices else None):
            for scan in scans:
                _note(report, scan, _attempt(connection, work, scan))
                advance(scan)
    else:
        shared: list[str | None] = [*devices] or [None]
        _run_processes(report, work, scans, url, shared * jobs, processes, advance)
    report.seconds = time.monotonic() - started
    return report


def _run_processes(
    report: Report,
    work: Work,
    scans: Sequence[str],
    url: str,
    devices: Sequence[str | None],
    processes: int,
    advance: Callable[[str], None],
) -> None:
    # spawn, not fork: threads of numba, torch and libpq do not survive a fork.
    context = get_context("spawn")
    free = context.SimpleQueue()  # of devices, of which each process takes one
    for device in devices[:processes]:
        free.put(device)
    with ProcessPoolExecutor(processes, context, _start_worker, (url, work, processes, free)) as pool:
        with ctrl_c_held_back():
            pending = {pool.submit(_run_in_worker, scan): scan for scan in scans}
        try:
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    scan = pending.pop(future)
                    _note(report, scan, future.result())
                    advance(scan)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for want of memory:"
                " run the same command again to continue, with fewer --jobs"
            ) from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Hold Ctrl-C back for a moment; processes started meanwhile never get it, not even while they import.

    The mask is for those processes, which inherit it. Another thread of this one may still take the signal,
    for which Python would raise in the main thread, with a process half started: so it is noted until then.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _ctrl_c_noted():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _ctrl_c_noted() -> Iterator[None]:
    """Keep Python from raising for Ctrl-C in the block: it does so after it."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield  # nothing is raised in other threads, nor where Ctrl-C is ignored
        return
    pressed = threading.Event()
    signal.signal(signal.SIGINT, lambda _signal, _frame: pressed.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if pressed.is_set():
            signal.raise_signal(signal.SIGINT)


def open_connection(url: str) -> Connection[Any]:
    """Open a connection as steps need it: one that commits by itself."""
    connection = connect(url)
    connection.autocommit = True
    return connection


def _attempt(connection: Connection[Any], work: Work, scan: str) -> Summary | str:
    """Return the summary, or the message of the scan's own failure."""
    try:
        return work(connection, scan)
    except UserError as error:
        return str(error)


def _note(report: Report, scan: str, outcome: Summary | str) -> None:
    if isinstance(outcome, Summary):
        report.add(scan, outcome)
    else:
        report.failures[scan] = outcome


class _Worker:
    """What a worker process keeps between scans: its connection, opened for the first one, and its work."""

    url: str
    work: Work
    connection: Connection[Any] | None = None


class _Process:
    """What this process was told when it was started."""

    device: str | None = None


def process_device() -> str | None:
    """Return the device that this process has to itself, as torch names it; None: none was shared out."""
    return _Process.device


@contextmanager
def _on_device(device: str | None) -> Iterator[None]:
    before, _Process.device = _Process.device, device
    try:
        yield
    finally:
        _Process.device = before


def _start_worker(url: str, work: Work, processes: int, free: SimpleQueue[str | None]) -> None:
    set_up_process(processes, free.get())
    _Worker.url, _Worker.work = url, work


def set_up_process(processes: int, device: str | None = None) -> None:
    """Make this new process one of several that share the cores, leave Ctrl-C to its parent, end with it.

    `device` is its own; None: encoders choose.
    """
    _Process.device = device
    threads = max(1, (os.cpu_count() or 1) // processes)
    # Read when torch and numba load, which they have not yet: workers share the cores out among them.
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: the scan under way ends cleanly
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed: it would wait for the next scan for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(scan: str) -> Summary | str:
    if _Worker.connection is None:
        _Worker.connection = open_connection(_Worker.url)
    return _attempt(_Worker.connection, _Worker.work, scan)
