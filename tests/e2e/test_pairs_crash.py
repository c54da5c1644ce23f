"""Dumps of pairs that are killed, and run again: whole chunks or none, and in the end the same rows."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.db.connect import connect
from tests.command import PROGRAM, call, environment
from tests.conftest import as_url
from tests.content import content
from tests.crash import PATIENCE_S, Stage, check_gone, family, run_stage, run_undisturbed, wait_for

NAMES = [f"mini-{number:02}" for number in range(10)]
ENTRIES = 3 * len(NAMES)
DUMP = ("features", "dump", "--pairs", "--pair-encoder", "toytokens", "--pair-chunk", 2)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(tmp_path_factory.mktemp("command"), "")


@pytest.fixture(scope="module")
def stage(
    variables: dict[str, str],
    template: str,
    new_database: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Stage:
    """Ten scans of six pairs, three chunks each."""
    root: Path = tmp_path_factory.mktemp("crash") / "3RScan"
    run_undisturbed(variables, new_database, template, root, NAMES)
    earlier = f"after_graph_of_{len(NAMES)}"
    url = as_url(new_database("after_pairs", template=earlier))
    found = run_stage(variables, url, "pairs", DUMP, earlier)
    assert len([row for row in found.clean["ledger"] if row[1] == "features.pairs"]) == ENTRIES
    assert len(found.clean["pair_tokens"]) > len(NAMES)
    return found


@pytest.fixture
def started(stage: Stage, new_database: Callable[..., str]) -> Iterator[tuple[str, Any]]:
    url = as_url(new_database("pairs_crash", template=stage.template))
    with connect(url) as connection:
        connection.autocommit = True
        yield url, connection


def entries(database: psycopg.Connection[Any]) -> int:
    query = "SELECT count(*) FROM ledger WHERE step = 'features.pairs'"
    return int(database.execute(query).fetchall()[0][0])


def check_whole_chunks(database: psycopg.Connection[Any], stage: Stage) -> None:
    """Assert that there are as many rows as the ledger promises, each as an undisturbed run writes it."""
    promised = "SELECT coalesce(sum((counts ->> 'pairs')::int), 0) FROM ledger WHERE step = 'features.pairs'"
    ((rows,),) = database.execute(promised)
    found = content(database)
    for table in ("pair_feature", "pair_tokens"):
        assert len(found[table]) == rows
        assert set(found[table]) <= set(stage.clean[table])


def kill_at_random_moments(
    kills: int, jobs: int, stage: Stage, variables: dict[str, str], started: tuple[str, Any]
) -> None:
    """Kill the command soon after it wrote, run it again, and let the last run end."""
    url, database = started
    moments = random.Random(f"{kills} {jobs}")
    variables = variables | {"OPEN3DSG_DATABASE_URL": url}
    in_the_middle = 0
    for _ in range(kills):
        goal = min(entries(database) + 1, ENTRIES)
        process = subprocess.Popen(
            [PROGRAM, *map(str, DUMP), "--jobs", str(jobs)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
            start_new_session=True,
        )
        wait_for(lambda: entries(database) >= goal or process.poll() is not None)  # noqa: B023
        time.sleep(moments.uniform(0, 0.02))
        children = family(process)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        check_gone(children)
        wait_for(lambda: not _others(database))
        check_whole_chunks(database, stage)
        in_the_middle += 0 < entries(database) < ENTRIES
    assert in_the_middle, "no kill fell into the middle"
    done = call(variables, *DUMP, "--jobs", jobs)
    assert (done.code, done.errors) == (0, [])
    assert content(database) == stage.clean


def _others(database: psycopg.Connection[Any]) -> int:
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    return int(database.execute(query).fetchall()[0][0])


def test_a_dump_that_is_killed_goes_on(
    stage: Stage, variables: dict[str, str], started: tuple[str, Any]
) -> None:
    kill_at_random_moments(2, 1, stage, variables, started)


def test_two_processes_write_the_rows_of_one(
    stage: Stage, variables: dict[str, str], started: tuple[str, Any]
) -> None:
    url, database = started
    done = call(variables | {"OPEN3DSG_DATABASE_URL": url}, *DUMP, "--jobs", 2)
    assert (done.code, done.errors) == (0, [])
    assert content(database) == stage.clean


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dump_that_is_killed_twenty_times_ends_as_one_that_was_not(
    stage: Stage, variables: dict[str, str], started: tuple[str, Any], jobs: int
) -> None:
    kill_at_random_moments(20, jobs, stage, variables, started)
