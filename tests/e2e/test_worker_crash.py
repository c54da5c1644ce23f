"""Workers that are killed, stopped or cut off: others take over, and the rows are as if nothing had been."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from tests import miniature as mini
from tests.command import DUMP, PROGRAM, call, environment
from tests.conftest import as_url
from tests.content import content
from tests.crash import (
    PATIENCE_S,
    Stage,
    check_gone,
    crowd,
    family,
    kill_those_at_work,
    run_undisturbed,
    wait_for,
)

NAMES = [f"mini-{number:02}" for number in range(12)]
CROWD = "mini-00"  # has so many instances that its features are two items

# As `open3dsg worker --until-empty`, but soon sure that another is dead.
HURRIED = """
import sys
from open3dsg.jobs.worker import Pace, Worker
def tell(line):
    print(line, flush=True)
pace = Pace(beat_s=0.3, silent_s=2.0, poll_s=0.1, backoff_s=0.1)
Worker(sys.argv[1], tell=tell, concurrency=int(sys.argv[2]), until_empty=True, pace=pace).run()
"""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("command"), "")


@pytest.fixture(scope="module")
def stages(
    variables: dict[str, str],
    template: str,
    new_database: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Stage]:
    root = tmp_path_factory.mktemp("crash") / "3RScan"
    root.mkdir()
    mini.write_metadata(root)
    return run_undisturbed(variables, new_database, template, root, NAMES, CROWD)


@dataclass
class Scene:
    """A database in which a step is queued, and the workers on it."""

    stage: Stage
    database: psycopg.Connection[Any]
    url: str
    variables: dict[str, str]
    stack: ExitStack

    def worker(self, concurrency: int = 1) -> subprocess.Popen[str]:
        """Start a worker that is soon sure that another is dead."""
        return self._start([sys.executable, "-c", HURRIED, self.url, str(concurrency)])

    def command(self, *arguments: object) -> subprocess.Popen[str]:
        """Start `open3dsg` with arguments."""
        return self._start([str(PROGRAM), *map(str, arguments)])

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.variables,
            start_new_session=True,
        )
        self.stack.callback(_end, process)
        return process

    def value(self, query: str) -> Any:
        row = self.database.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def wait_until_blocked(self, items: int = 1) -> None:
        """Wait until so many items wait for the lock of a scan."""
        query = (
            "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
        )
        wait_for(lambda: self.value(query) >= items)

    def finish(self) -> None:
        """Let another worker do what is left, and see that all is as if nothing had been."""
        finish(self.worker())
        assert content(self.database) == self.stage.clean

    def outcomes(self) -> Counter[str | None]:
        return Counter(
            outcome for (outcome,) in self.database.execute("SELECT outcome FROM open3dsg_queue.attempt")
        )


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    if process.stdout is not None and not process.stdout.closed:
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a worker, if it has not ended by itself, and see that what it started ends with it."""
    children = family(process)
    process.kill()
    process.communicate()
    check_gone(children)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, out
    assert "Traceback" not in out, out
    return out


@contextmanager
def scene(
    stage: Stage, new_database: Callable[..., str], variables: dict[str, str], *options: object
) -> Iterator[Scene]:
    url = as_url(new_database("worker_crash", template=stage.template))
    here = variables | {"OPEN3DSG_DATABASE_URL": url}
    with ExitStack() as stack, connect(url) as database:
        database.autocommit = True
        what = stage.command
        if stage.step == "features":
            crowd(database, CROWD, 100)
            what = ("features", *DUMP[2:])
        done = call(here, "jobs", "submit", *what, *options)
        assert done.code == 0, done.err
        yield Scene(stage, database, url, here, stack)


@pytest.fixture
def observing(
    stages: dict[str, Stage], new_database: Callable[..., str], variables: dict[str, str]
) -> Iterator[Scene]:
    """`observe` is queued for all scans."""
    with scene(stages["observe"], new_database, variables) as here:
        yield here


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("ingest", marks=pytest.mark.slow),
        "observe",
        pytest.param("features", marks=pytest.mark.slow),
    ],
)
def test_an_item_of_a_killed_worker_is_done_by_another(
    stages: dict[str, Stage], new_database: Callable[..., str], variables: dict[str, str], step: str
) -> None:
    with scene(stages[step], new_database, variables) as here:
        with ledger.scan_lock(here.database, "3rscan", NAMES[3]):
            first = here.worker()
            here.wait_until_blocked()
            kill(first)
            second = here.worker()
            wait_for(lambda: here.outcomes()["lost"] == 1)
        assert "its worker fell silent" in finish(second)
        items = len(NAMES) + (step == "features")  # the crowd is two
        assert here.outcomes() == {"done": items, "lost": 1}
        assert content(here.database) == stages[step].clean


def test_a_process_that_is_killed_costs_its_item_an_attempt_and_the_worker_nothing(
    stages: dict[str, Stage], new_database: Callable[..., str], variables: dict[str, str]
) -> None:
    with scene(stages["observe"], new_database, variables, "--max-attempts", 2) as here:
        with ledger.scan_lock(here.database, "3rscan", NAMES[0]):
            worker = here.worker()
            for kills in (1, 2):
                # The session of a dead process waits on, until it gets the lock.
                here.wait_until_blocked(kills)
                kill_those_at_work(worker)
                wait_for(lambda kills=kills: here.outcomes()["killed"] == kills)  # type: ignore[misc]
            told = finish(worker)
        assert f"observe 3rscan/{NAMES[0]}: failed: its process died: SIGKILL" in told
        assert here.outcomes() == {"killed": 2, "done": len(NAMES) - 1}
        retried = call(here.variables, "jobs", "retry", "--failed")
        assert retried.out == "1 of 1 wait again\n"
        here.finish()


def test_ctrl_c_lets_the_item_under_way_end(observing: Scene) -> None:
    with held_up(observing) as worker:
        for process in (worker, *family(worker)):
            process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    told = finish(worker, 130)
    assert "stopping once 1 items under way have ended" in told
    assert "worker: 2 done, 0 skipped, 0 failed, 0 waiting" in told
    assert observing.outcomes() == {"done": 2}
    observing.finish()


@pytest.mark.slow
def test_a_second_ctrl_c_gives_the_item_up_and_it_waits_again(observing: Scene) -> None:
    with held_up(observing) as worker:
        for _ in range(2):
            worker.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        told = finish(worker)
    assert "1 done, 0 skipped, 0 failed, 1 waiting" in told
    assert observing.outcomes() == {"done": 1, "stopped": 1}
    observing.finish()


@contextmanager
def held_up(here: Scene) -> Iterator[subprocess.Popen[str]]:
    """Start a worker, and keep it waiting for the second scan until the block ends."""
    with ledger.scan_lock(here.database, "3rscan", NAMES[1]):
        worker = here.command("worker")
        here.wait_until_blocked()
        yield worker


@pytest.mark.slow
def test_a_lost_connection_is_told_and_waited_for(
    stages: dict[str, Stage], new_database: Callable[..., str], variables: dict[str, str]
) -> None:
    with scene(stages["ingest"], new_database, variables) as here:
        with ledger.scan_lock(here.database, "3rscan", NAMES[1]):
            worker = here.worker()
            here.wait_until_blocked()
            here.database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        finish(worker)
        assert here.outcomes()["done"] == len(NAMES)
        assert set(here.outcomes()) <= {"done", "disconnected"}
        assert content(here.database) == stages["ingest"].clean


@contextmanager
def database_away(here: Scene) -> Iterator[None]:
    """Let the database take no connections, and drop those there are, but for the test's own."""
    name, own = here.database.info.dbname, here.database.info.backend_pid
    with psycopg.connect(here.url, dbname="postgres", autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
            [name, own],
        )
        try:
            yield
        finally:
            other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_ends_while_the_database_is_away(observing: Scene, busy: bool) -> None:
    """At once where it has nothing under way; else what it has can be neither done nor handed back."""
    with ExitStack() as stack:
        if busy:
            worker = stack.enter_context(held_up(observing))
        else:
            worker = observing.command("worker")
            wait_for(lambda: observing.outcomes()["done"] == len(NAMES))
        stack.enter_context(database_away(observing))
        for _ in range(1 + busy):
            time.sleep(1)
            worker.send_signal(signal.SIGTERM)
        assert ("again gives them up" in finish(worker)) is busy


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("step", ["ingest", "observe", "features"])
def test_workers_killed_again_and_again_write_what_one_run_does(
    stages: dict[str, Stage],
    new_database: Callable[..., str],
    variables: dict[str, str],
    step: str,
    workers: int,
) -> None:
    moments = random.Random(f"{step} {workers}")
    stage = stages[step]
    with scene(stage, new_database, variables, "--max-attempts", 20) as here:
        for _ in range(3):
            goal = here.outcomes()["done"] + 1
            running = [here.worker(2) for _ in range(workers)]
            wait_for(
                lambda goal=goal, running=running: (
                    here.outcomes()["done"] >= goal  # type: ignore[misc]
                    or all(process.poll() is not None for process in running)
                )
            )
            time.sleep(moments.uniform(0, 0.03))
            kill(running[0])
            for process in running[1:]:
                finish(process)
        finish(here.worker(workers))
        left = here.value(
            "SELECT count(*) FROM open3dsg_queue.procrastinate_jobs WHERE status <> 'succeeded'"
        )
        assert left == 0
        assert content(here.database) == stage.clean
