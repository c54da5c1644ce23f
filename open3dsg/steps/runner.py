"""One step over many scans: in this process, or shared out over several.

A step is a function of (connection, item) that returns a Summary and minds its own transactions; the
connection commits by itself, so that work opens a transaction exactly where rows must stand or fall together.
"""

from __future__ import annotations

import signal
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Protocol

from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.steps.summary import Report, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection


class Work(Protocol):
    """A step with its options bound: picklable, so that another process can run it."""

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Do the step for one scan."""


def run_step(
    step: str,
    work: Work,
    scans: Sequence[str],
    *,
    url: str,
    jobs: int,
    advance: Callable[[str], None],
) -> Report:
    """Run `work` for each scan on `jobs` processes; `advance` is told each scan as it ends.

    A UserError of one scan is noted as its failure and the others go on; any other exception is a bug and
    stops the run. On Ctrl-C the scans under way end, nothing new starts, and the ledger knows what is done.
    """
    report = Report(step)
    started = time.monotonic()
    if jobs == 1 or len(scans) <= 1:
        with _open(url) as connection:
            for scan in scans:
                _note(report, scan, _attempt(connection, work, scan))
                advance(scan)
    else:
        _run_processes(report, work, scans, url, min(jobs, len(scans)), advance)
    report.seconds = time.monotonic() - started
    return report


def _run_processes(
    report: Report, work: Work, scans: Sequence[str], url: str, jobs: int, advance: Callable[[str], None]
) -> None:
    # spawn, not fork: threads of numba, torch and libpq do not survive a fork.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (url, work)) as pool:
        pending = {pool.submit(_run_in_worker, scan): scan for scan in scans}
        try:
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    scan = pending.pop(future)
                    _note(report, scan, future.result())
                    advance(scan)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _open(url: str) -> Connection[Any]:
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
    """What a worker process keeps between scans: its connection and its work."""

    connection: Connection[Any]
    work: Work


def _start_worker(url: str, work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: the scan under way ends cleanly
    _Worker.connection = _open(url)
    _Worker.work = work


def _run_in_worker(scan: str) -> Summary | str:
    return _attempt(_Worker.connection, _Worker.work, scan)
