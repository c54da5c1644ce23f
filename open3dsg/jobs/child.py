"""The process that items run in: a crash, a full memory or a busy interpreter costs an item, not the worker.

The worker sends an `Item` down a pipe and gets an `Outcome` back; where the pipe breaks, the process died.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from functools import lru_cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import psycopg

from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.jobs.policy import Outcome
from open3dsg.steps.catalogue import build, lacking_here
from open3dsg.steps.runner import ctrl_c_held_back, open_connection, set_up_process

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Pipe
    from multiprocessing.context import SpawnProcess

    from open3dsg.jobs.items import Item
    from open3dsg.steps.runner import Step


class Child:
    """A process that does one item after the other; where it died, the next item starts it anew."""

    def __init__(self, url: str, processes: int, device: str | None = None) -> None:
        """Take the URL of the database, how many processes share the cores, and the device of this one."""
        self._arguments = (url, processes, device)
        self._process: SpawnProcess | None = None
        self._pipe: Pipe | None = None

    def start(self) -> None:
        """Start the process and wait until it is ready, so that no item waits for that."""
        self._ask(None)

    def run(self, item: Item) -> Outcome:
        """Do one item; returns when it ended, or its process did."""
        return self._ask(item) or Outcome("killed", f"its process died: {self._cause_of_death()}")

    def _ask(self, item: Item | None) -> Outcome | None:
        """Return what the process makes of an item, or None where it died; no item is done at once."""
        pipe = self._open()
        try:
            pipe.send(item)
            outcome: Outcome = pipe.recv()
        except (EOFError, OSError):
            return None
        return outcome

    def kill(self) -> None:
        """End the process and what it is at; `run` returns."""
        process = self._process  # which another thread may forget meanwhile
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Let the process end, and wait for it."""
        if self._pipe is not None and self._process is not None:
            self._pipe.close()
            self._process.join()
            self._pipe = self._process = None

    def _open(self) -> Pipe:
        if self._process is not None and not self._process.is_alive():
            self.close()  # it died between two items, which is no fault of the next
        if self._pipe is None:
            # spawn, not fork: threads of numba, torch and libpq do not survive a fork.
            context = get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, *self._arguments))
            with ctrl_c_held_back():
                process.start()
            theirs.close()
            self._process, self._pipe = process, ours
        return self._pipe

    def _cause_of_death(self) -> str:
        process = self._process
        self.close()
        code = None if process is None else process.exitcode
        if code is None or code >= 0:
            return f"exit status {code}"
        hint = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        return f"{signal.Signals(-code).name}{hint}"


class _Session:
    """The connection of this process, opened for its first item and again where it was lost."""

    url: str
    connection: psycopg.Connection[Any] | None = None


def _serve(pipe: Pipe, url: str, processes: int, device: str | None) -> None:
    set_up_process(processes, device)
    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ctrl-C: the worker sees to it that the item ends
    _Session.url = url
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(Outcome("done") if item is None else _attempt(item))


def _attempt(item: Item) -> Outcome:
    try:
        connection = _connection()
    except (UserError, psycopg.OperationalError) as error:
        return Outcome("disconnected", _in_one_line(error))
    try:
        return _do_if_possible(connection, item)
    except Exception as error:
        if connection.closed:
            return Outcome("disconnected", _in_one_line(error))
        reason = f"{type(error).__name__}: {_in_one_line(error)}"
        return Outcome("broken", reason, trace=traceback.format_exc())


def _do_if_possible(connection: psycopg.Connection[Any], item: Item) -> Outcome:
    try:
        return _away(connection, item) or _do(connection, item)
    except UserError as error:
        return _away(connection, item) or Outcome("refused", _in_one_line(error))


def _do(connection: psycopg.Connection[Any], item: Item) -> Outcome:
    work = _work(item.submission, item.step, json.dumps(item.arguments), item.chunk)
    summary = work(connection, item.scan)
    remarks = () if summary.skipped else tuple(work.close(connection))
    return Outcome(
        "done",
        skipped=summary.skipped,
        counts=dict(summary.counts),
        problems=len(summary.problems),
        remarks=remarks,
    )


def _away(connection: psycopg.Connection[Any], item: Item) -> Outcome | None:
    """Say what this machine lacks, such as the folder of the dataset; None where nothing is."""
    try:
        lacking = lacking_here(connection, item.step, item.arguments, item.scan)
    except UserError:
        return None  # the scan or the step is unknown, as the step itself says
    return None if lacking is None else Outcome("away", lacking)


@lru_cache(maxsize=2)
def _base(_submission: str, step: str, arguments: str) -> Step:
    """The step of a submission, whose reader is opened once for all its scans."""
    return build(step, json.loads(arguments))


def _work(submission: str, step: str, arguments: str, chunk: int | None) -> Step:
    if chunk is None:
        return _base(submission, step, arguments)
    return build(step, json.loads(arguments), chunk)


def _connection() -> psycopg.Connection[Any]:
    if _Session.connection is None or not _is_alive(_Session.connection):
        connection = open_connection(_Session.url)
        _Session.connection = connection
        # A machine that loses its power says no goodbye: the server is to let go of its locks within seconds.
        execute(connection, "watch_client")
    return _Session.connection


def _is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Ask: the server may have gone and come back since the last item."""
    try:
        execute(connection, "watch_client")
    except psycopg.OperationalError:
        connection.close()
        return False
    return True


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
