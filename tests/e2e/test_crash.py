"""Steps that are killed, interrupted or cut off, and run again: all rows of an item or none, and no other."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pytest

from open3dsg.db.connect import connect
from tests import miniature as mini
from tests.command import PROGRAM, call, environment
from tests.conftest import as_url
from tests.content import Rows, content
from tests.crash import (
    PATIENCE_S,
    Stage,
    check_gone,
    family,
    kill_those_at_work,
    run_stage,
    run_undisturbed,
    wait_for,
)
from tests.masks import write_mask

NAMES = [f"mini-{number:02}" for number in range(20)]

# Step -> what the ledger calls it, and the tables that it writes.
STEPS = {
    "masks": ("masks", ("scan", "point_block", "frame", "instance")),
    "ingest": ("ingest", ("scan", "point_block", "frame", "instance", "subgraph", "subgraph_member")),
    "observe": ("observe", ("observation",)),
    "graph": ("graph", ("instance_sample", "pair")),
    "features": ("features.nodes", ("node_feature",)),
}


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
    return run_undisturbed(variables, new_database, template, root, NAMES)


@pytest.fixture(scope="module")
def merging(
    stages: dict[str, Stage],
    variables: dict[str, str],
    new_database: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Stage:
    """The merging of masks, after which other instances stand where those of the dataset stood."""
    folder = tmp_path_factory.mktemp("masks")
    for frame in range(mini.FRAMES):
        things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)[1]
        for name in NAMES:
            write_mask(folder / name / f"{frame}.png", (things + 1).astype(np.uint8))
    limits = ("--min-mask-points", 3, "--min-points", 5)
    command = ("masks", "merge", "--masks", folder, *limits, "--replace")
    template = stages["observe"].template
    url = as_url(new_database("after_masks", template=template))
    return run_stage(variables, url, "masks", command, template)


@dataclass
class Running:
    """A command under way on a database of its own, in a process group of its own."""

    process: subprocess.Popen[str]
    database: psycopg.Connection[Any]
    ledger_step: str

    def wait_until_done(self, entries: int) -> None:
        """Wait until the ledger has so many entries of the step more than at the start."""
        goal = self._entries() + entries
        wait_for(lambda: self._entries() >= goal or self.process.poll() is not None)

    def _entries(self) -> int:
        query = "SELECT count(*) FROM ledger WHERE step = %s"
        return int(self.database.execute(query, [self.ledger_step]).fetchall()[0][0])

    def backends(self) -> list[int]:
        """Return the server's processes that serve the command."""
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in self.database.execute(query)]

    def end(self) -> tuple[int, str]:
        """Wait until the process, its connections and its children are gone; return its code and stderr."""
        _out, err = self.process.communicate(timeout=PATIENCE_S)
        wait_for(lambda: not self.backends())
        return self.process.returncode, err


@contextmanager
def running(
    stage: Stage, database: psycopg.Connection[Any], url: str, variables: dict[str, str], jobs: int
) -> Iterator[Running]:
    process = subprocess.Popen(
        [PROGRAM, *map(str, stage.command), "--jobs", str(jobs)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=variables | {"OPEN3DSG_DATABASE_URL": url},
        start_new_session=True,
    )
    try:
        yield Running(process, database, STEPS[stage.step][0])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@contextmanager
def started_database(stage: Stage, new_database: Callable[..., str]) -> Iterator[tuple[str, Any]]:
    url = as_url(new_database("crash_test", template=stage.template))
    with connect(url) as connection:
        connection.autocommit = True
        yield url, connection


def check_ledger(found: Mapping[str, Rows], stage: Stage) -> None:
    """Assert that a scan has just the rows that the ledger promises, as an undisturbed run writes them."""
    ledger_step, tables = STEPS[stage.step]
    chunks = Counter(scan for scan, step, *_rest in found["ledger"] if step == ledger_step)
    for table in tables:
        for name in NAMES:
            key = f"3rscan/{name}"
            rows, clean = ([row for row in part[table] if row[0] == key] for part in (found, stage.clean))
            assert len(clean) >= 1
            start = [row for row in stage.start[table] if row[0] == key]
            assert rows == (clean if chunks[key] else start), (table, key)


def check_a_second_run_ends_it(
    stage: Stage, database: psycopg.Connection[Any], url: str, variables: dict[str, str], jobs: int
) -> None:
    done = call(variables | {"OPEN3DSG_DATABASE_URL": url}, *stage.command, "--jobs", jobs)
    assert (done.code, done.errors) == (0, [])
    assert content(database) == stage.clean


def kill_again_and_again(
    stage: Stage,
    kills: int,
    jobs: int,
    variables: dict[str, str],
    new_database: Callable[..., str],
) -> None:
    """Kill the command, start it again and kill it again; the last run is left to end."""
    moments = random.Random(f"{stage.step} {jobs} {kills}")
    with started_database(stage, new_database) as (url, database):
        states = [content(database), stage.clean]
        for _ in range(kills):
            with running(stage, database, url, variables, jobs) as run:
                run.wait_until_done(1)
                time.sleep(moments.uniform(0, 0.03))
                children = family(run.process)
                run.process.kill()
                run.end()
            states.append(content(database))
            check_ledger(states[-1], stage)
            check_gone(children)
        assert any(state not in (states[0], stage.clean) for state in states), "no kill fell into the middle"
        check_a_second_run_ends_it(stage, database, url, variables, jobs)


@pytest.mark.parametrize(("step", "jobs"), [("ingest", 1), ("features", 2)])
def test_a_killed_step_leaves_whole_scans_and_can_go_on(
    stages: dict[str, Stage],
    variables: dict[str, str],
    new_database: Callable[..., str],
    step: str,
    jobs: int,
) -> None:
    kill_again_and_again(stages[step], 1, jobs, variables, new_database)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("step", [step for step in STEPS if step != "masks"])
def test_a_step_killed_four_times_ends_as_one_that_was_not(
    stages: dict[str, Stage],
    variables: dict[str, str],
    new_database: Callable[..., str],
    step: str,
    jobs: int,
) -> None:
    kill_again_and_again(stages[step], 4, jobs, variables, new_database)


@pytest.mark.parametrize(
    ("step", "jobs"),
    [
        ("ingest", 1),
        pytest.param("features", 1, marks=pytest.mark.slow),
        pytest.param("observe", 2, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_is_130_with_the_way_to_go_on(
    stages: dict[str, Stage],
    variables: dict[str, str],
    new_database: Callable[..., str],
    step: str,
    jobs: int,
) -> None:
    interrupt(stages[step], jobs, variables, new_database)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_merge_of_masks_that_is_killed_or_interrupted_leaves_scans_as_they_were(
    merging: Stage, variables: dict[str, str], new_database: Callable[..., str], jobs: int
) -> None:
    kill_again_and_again(merging, 4, jobs, variables, new_database)
    interrupt(merging, jobs, variables, new_database)


def interrupt(stage: Stage, jobs: int, variables: dict[str, str], new_database: Callable[..., str]) -> None:
    """Interrupt the command in the middle; another run does the rest."""
    with started_database(stage, new_database) as (url, database):
        with running(stage, database, url, variables, jobs) as run:
            run.wait_until_done(2)
            check_interrupted(run)
        check_ledger(content(database), stage)
        check_a_second_run_ends_it(stage, database, url, variables, jobs)


@pytest.mark.slow
def test_ctrl_c_while_the_workers_start_is_as_quiet(
    stages: dict[str, Stage], variables: dict[str, str], new_database: Callable[..., str]
) -> None:
    stage = stages["ingest"]
    with started_database(stage, new_database) as (url, database):
        with running(stage, database, url, variables, 2) as run:
            wait_for(lambda: len(family(run.process)) >= 2)
            check_interrupted(run)
        check_ledger(content(database), stage)


def check_interrupted(run: Running) -> None:
    """Press Ctrl-C, which reaches the whole process group, and see the command end well."""
    children = family(run.process)
    for process in (run.process, *children):
        process.send_signal(signal.SIGINT)
    code, err = run.end()
    assert (code, err.splitlines()[-1]) == (130, "interrupted; run the same command again to continue")
    assert "Traceback" not in err, err
    check_gone(children)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_server_that_goes_away_is_one_line(
    stages: dict[str, Stage], variables: dict[str, str], new_database: Callable[..., str], jobs: int
) -> None:
    stage = stages["ingest"]
    with started_database(stage, new_database) as (url, database):
        with running(stage, database, url, variables, jobs) as run:
            run.wait_until_done(2)
            for pid in run.backends():
                database.execute("SELECT pg_terminate_backend(%s)", [pid])
            code, err = run.end()
        check_one_error(code, err, "error: the database: ", "run the same command again to continue")
        check_ledger(content(database), stage)
        check_a_second_run_ends_it(stage, database, url, variables, jobs)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line(
    stages: dict[str, Stage], variables: dict[str, str], new_database: Callable[..., str]
) -> None:
    stage = stages["ingest"]
    with started_database(stage, new_database) as (url, database):
        with running(stage, database, url, variables, 2) as run:
            run.wait_until_done(2)
            kill_those_at_work(run.process)
            code, err = run.end()
        check_one_error(code, err, "a worker process was killed", "with fewer --jobs")
        check_ledger(content(database), stage)


def check_one_error(code: int, err: str, *told: str) -> None:
    assert "Traceback" not in err, err
    (line,) = (line for line in err.splitlines() if not line.startswith("ingest: "))
    assert code == 2
    assert line.startswith("error: ")
    assert all(words in line for words in told), line
