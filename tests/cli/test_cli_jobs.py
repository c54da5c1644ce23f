"""The queue through the installed command: submit, list, show, retry, cancel, worker, and their refusals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests.command import DUMP, OBSERVE, Done
from tests.content import content

Run = Callable[..., Done]
Database = psycopg.Connection[Any]

FEATURES = ("features", *DUMP[2:])
STEPS = (OBSERVE, FEATURES)


@pytest.fixture
def ours(root: Path, tmp_path: Path) -> Path:
    """A root of the test's own, with one scan."""
    folder = tmp_path / "3RScan"
    shutil.copytree(root / mini.NAME, folder / mini.NAME)
    return folder


def test_every_step_goes_through_the_queue_once(
    run: Run, root: Path, database: Database, steps: dict[str, Done], full_database_url: str
) -> None:
    for submit in (("ingest", "3rscan", root), *STEPS):
        first = run("jobs", "submit", *submit, "--json").json
        queue = "gpu" if submit[0] == "features" else "cpu"
        assert (first["step"], first["queue"], first["queued"], first["failures"]) == (
            submit[0],
            queue,
            3,
            {},
        )
        again = run("jobs", "submit", *submit)
        assert again.out == f"{submit[0]}: 0 queued in {queue}, 3 already queued, 0 already done, 0 failed\n"
        worked = run("worker", "--until-empty", "--queues", queue, "--concurrency", 2)
        assert worked.code == 0, worked.err
        assert "worker: 3 done, 0 skipped, 0 failed, 0 waiting" in worked.out
        assert worked.err.count(": done (") == 3
        done = run("jobs", "submit", *submit, "--json").json
        assert (done["queued"], done["already_queued"], done["already_done"]) == (0, 0, 3)
    with psycopg.connect(full_database_url) as direct:
        assert content(database) == content(direct)
    listed = run("jobs", "list", "--status", "done", "--json").json
    assert [entry["item"]["scan"] for entry in listed if entry["item"]["step"] == "ingest"] == [
        "mini-0001",
        "mini-0002",
        "mini-0003",
    ]
    table = run("jobs", "list")
    assert (table.out, table.err) == ("", "0 waiting, 0 running, 9 done, 0 failed, 0 cancelled\n")


def test_a_bad_file_is_listed_shown_and_retried(run: Run, ours: Path) -> None:
    ply = ours / mini.NAME / "labels.instances.annotated.v2.ply"
    whole = ply.read_bytes()
    ply.write_bytes(whole[:3000])
    run("jobs", "submit", "ingest", "3rscan", ours, "--queue", "mine")
    worked = run("worker", "--until-empty")
    assert worked.code == 2
    assert f"ingest {mini.NAME}: failed: " in worked.err
    _header, line = run("jobs", "list", "--status", "failed").out.splitlines()
    assert line.split()[:6] == ["1", "failed", "mine", "ingest", mini.NAME, "1"]
    assert "labels.instances.annotated.v2.ply" in line
    shown = run("jobs", "show", 1).out.splitlines()
    assert "labels.instances.annotated.v2.ply" in shown[-1]
    assert shown[-1].startswith("attempt 1 ")
    assert [attempt["outcome"] for attempt in run("jobs", "show", 1, "--json").json["attempts"]] == [
        "refused"
    ]
    ply.write_bytes(whole)
    assert run("jobs", "retry", 1).out == "1 of 1 wait again\n"
    assert run("worker", "--until-empty", "--json").json["items"]["done"] == 1


def test_items_that_wait_are_cancelled(run: Run, root: Path) -> None:
    run("jobs", "submit", "ingest", "3rscan", root)
    assert run("jobs", "cancel", 2).out == "1 cancelled\n"
    assert run("jobs", "cancel", "--step", "ingest").out == "2 cancelled\n"
    assert run("jobs", "list").err == "0 waiting, 0 running, 0 done, 0 failed, 3 cancelled\n"
    assert "worker: 0 done" in run("worker", "--until-empty").out


def test_a_missing_folder_is_told_and_the_item_kept_for_others(run: Run, ours: Path) -> None:
    run("jobs", "submit", "ingest", "3rscan", ours)
    away = ours.rename(ours.with_name("away"))
    worked = run("worker", "--until-empty")
    assert worked.code == 2
    assert f"{ours} is not on this machine" in worked.err
    assert run("jobs", "list").err.startswith("1 waiting, 0 running, 0 done, 0 failed")
    away.rename(ours)


def test_scans_that_cannot_be_queued_are_told_and_the_others_queued(
    run: Run, root: Path, database: Database
) -> None:
    assert run("ingest", "3rscan", root).code == 0
    assert run(*OBSERVE, "--scan", mini.NAME).code == 0
    done = run("jobs", "submit", *FEATURES)
    assert done.code == 2
    assert done.out == "features: 1 queued in gpu, 0 already queued, 0 already done, 2 failed\n"
    assert len(done.errors) == 2
    assert "has no observations: run `open3dsg observe --scan 3rscan/mini-0002`" in done.errors[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("jobs", "show", 7), "no item 7 in the queue; `open3dsg jobs list`"),
        (("jobs", "retry", 7), "no item 7 in the queue"),
        (("jobs", "retry"), "say which items: give an ID or --failed"),
        (("jobs", "retry", 1, "--failed"), "say which items"),
        (("jobs", "retry", "--failed"), "no item has failed"),
        (("jobs", "cancel", "--all"), "no item waits"),
        (("jobs", "cancel", "--step", "observe"), "no item of observe waits"),
        (
            ("jobs", "cancel", "--step", "train"),
            "no step 'train': items are of ingest, masks, observe, graph, features",
        ),
        (("jobs", "list", "--step", "train"), "no step 'train'"),
        (("jobs", "list", "--status", "lost"), "'lost' is not one of"),
        (("jobs", "show", "x"), "'x' is not a valid integer"),
        (("jobs", "show", 2**70), "is not in the range"),
        (("jobs", "submit", "train"), "No such command 'train'"),
        (("jobs", "submit", "ingest", "3dssg", "."), "No such command '3dssg'"),
        (("jobs", "submit", *OBSERVE, "--queue", "a b"), "'a b' is no name of a queue"),
        (("jobs", "submit", *OBSERVE, "--max-attempts", 0), "0 is not in the range"),
        (("jobs", "submit", *OBSERVE, "--jobs", 2), "No such option"),
        (("jobs", "submit", *OBSERVE), "no scan with geometry in the store"),
        (("jobs", "submit", "features", "--nodes", "--encoder", "none"), "'none'"),
        (("worker", "--queues", "cpu,,gpu"), "'' is no name of a queue"),
        (("worker", "--concurrency", 0), "0 is not in the range"),
    ],
)
def test_mistakes_are_one_line(refused: Callable[..., str], arguments: tuple[object, ...], told: str) -> None:
    assert told in refused(*arguments)


@pytest.mark.parametrize("command", [("jobs", "list"), ("worker", "--until-empty"), ("jobs", "retry", 1)])
def test_a_queue_whose_tables_are_gone_is_one_line_with_the_way_out(
    run: Run, refused: Callable[..., str], database: Database, command: tuple[object, ...]
) -> None:
    database.execute("DROP SCHEMA open3dsg_queue CASCADE")
    assert refused(*command).endswith("the tables of the work queue are missing: run `open3dsg db migrate`")
    assert run("scans", "list").code == 0, "who does not use the queue does not need it"
    assert run("db", "migrate").code == 0
    assert run("jobs", "list").code == 0


def test_an_unknown_queue_is_told(run: Run) -> None:
    done = run("worker", "--until-empty", "--queues", "cpuu")
    assert done.code == 0
    assert done.err.startswith("no item was ever put into queue 'cpuu'; there are cpu, gpu\n")
