"""`open3dsg scans` through the installed command: status, relabel, relocate, delete."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from tests import miniature as mini
from tests.command import DUMP, OBSERVE, PROGRAM, Done
from tests.content import content, row_counts
from tests.db.corrections import rename

Run = Callable[..., Done]
Refused = Callable[..., str]
Database = psycopg.Connection[Any]
KEY = f"3rscan/{mini.NAME}"


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


@pytest.fixture
def moved(root: Path, tmp_path: Path, run: Run) -> Path:
    """A copy of the root that tests may change, and the dataset is there."""
    new = tmp_path / "moved"
    shutil.copytree(root, new)
    assert run("scans", "relocate", "3rscan", new).code == 0
    return new


def test_list_says_how_far_each_step_is(run: Run, database: Database) -> None:
    for change, step, name in (
        ("chunks = 3", "features.nodes", mini.NAME),
        ("stale = true", "observe", mini.RESCAN),
        ("step_version = 0", "ingest", "mini-0003"),
    ):
        database.execute(
            f"UPDATE ledger SET {change} WHERE step = '{step}'"
            f" AND scan_id = (SELECT scan_id FROM scan WHERE name = '{name}')".encode()
        )
    header, *lines = run("scans", "list").out.splitlines()
    columns = "dataset scan split points frames instances observations ingest annotate observe graph features"
    assert header.split() == [*columns.split(), "problems", "missing"]
    assert lines[1].split()[7:11] == ["done", "never", "stale", "never"]
    listed = run("scans", "list", "--json").json
    states = [
        [row["steps"].get(step, {}).get("state") for step in ("ingest", "annotate", "observe")]
        for row in listed
    ]
    assert states == [["done", "done", "done"], ["done", None, "stale"], ["stale", None, "done"]]
    assert "toy partly 1/3" in lines[0]
    assert lines[1].endswith("stale observations: open3dsg observe")
    assert lines[2].endswith("stale geometry: open3dsg ingest 3rscan ROOT")

    def names(*options: str) -> list[str]:
        return [row["scan"] for row in run("scans", "list", "--json", *options).json]

    assert names("--missing", "ingest") == ["mini-0003"]
    assert names("--missing", "annotate") == [mini.RESCAN, "mini-0003"]
    assert names("--missing", "observe") == [mini.RESCAN]
    assert len(names("--missing", "graph")) == 3
    assert names("--missing", "features") == [mini.NAME]
    assert names("--missing", "features", "--encoder", "toy") == [mini.NAME]
    assert len(names("--missing", "features", "--encoder", "another")) == 3
    assert names("--split", "train", "--missing", "observe") == [mini.RESCAN]
    assert names("--split", "nothing") == []
    assert names("--split", "all") == names()


def test_filters_that_make_no_sense_are_refused(refused: Refused) -> None:
    assert "--encoder goes with --missing features" in refused("scans", "list", "--encoder", "toy")
    assert "no dataset 'x' in the store; it has 3rscan" in refused("scans", "list", "--dataset", "x")
    assert "--missing" in refused("scans", "list", "--missing", "everything")


def test_relabel_drops_what_changed_and_the_steps_make_it_again(
    run: Run, moved: Path, database: Database
) -> None:
    rename(4, "wall")(moved / mini.NAME)
    rename(7, "poster")(moved / mini.RESCAN)
    report = run("scans", "relabel", "--dataset", "3rscan", "--json").json
    assert report["scans"] == {"done": 3, "skipped": 0, "failed": 0}
    counts = report["counts"]
    assert (counts["labels_changed"], counts["instances_kept"], counts["instances_changed"]) == (2, 12, 0)
    assert (counts["observations_kept"], counts["observations_dropped"]) == (44, 4)
    assert (counts["features_kept"], counts["features_dropped"]) == (11, 1)
    assert run(*OBSERVE, "--json").json["scans"] == {"done": 1, "skipped": 2, "failed": 0}
    dumped = run(*DUMP, "--json").json
    assert dumped["scans"] == {"done": 1, "skipped": 2, "failed": 0}
    assert dumped["counts"]["nodes"] == 1
    assert run("scans", "list", "--missing", "features", "--json").json == []
    assert database.execute("SELECT count(*) FROM node_feature").fetchone() == (12,)


def test_labels_of_ones_own(run: Run, database: Database, tmp_path: Path, refused: Refused) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"dataset,scan,instance,label\n3rscan,{mini.NAME},4,desk\n,mini-0003,7,painting\n")
    done = run("scans", "relabel", "--labels", table)
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].strip() == (
        "captions_dropped 0, captions_kept 0, features_dropped 0, features_kept 8, labels_changed 2,"
        " observations_dropped 0, observations_kept 32, pair_features_dropped 0, pair_features_kept 0,"
        " pairs_dropped 0, pairs_kept 0"
    )
    named = database.execute("SELECT scan, label FROM v_node WHERE label IN ('desk', 'painting')").fetchall()
    assert sorted(named) == [(mini.NAME, "desk"), ("mini-0003", "painting")]
    assert run("query", "nodes", "red", "--label", "painting", "--json").json[0]["scan"] == "mini-0003"

    table.write_text(f"scan,instance,label\n{mini.NAME},5,x\n")
    assert f"scan {KEY} has no instance 5" in refused("scans", "relabel", "--labels", table)
    table.write_text(f"scan,instance,label\n{mini.NAME},4,x\n{KEY},7,x\n")
    assert f"names scan {KEY} in two ways" in refused("scans", "relabel", "--labels", table)
    table.write_text("scan,instance,label\nnobody,4,x\n")
    assert "no scan 'nobody' in the store" in refused("scans", "relabel", "--labels", table)
    assert "leave SCAN" in refused("scans", "relabel", mini.NAME, "--labels", table)
    assert "which scans?" in refused("scans", "relabel")


def test_roots_and_relocate(run: Run, root: Path, tmp_path: Path, refused: Refused) -> None:
    assert run("scans", "roots", "--json").json == [
        {
            "dataset": "3rscan",
            "layout": "3rscan",
            "root": str(root),
            "arguments": {"annotations": None, "camera_axes": "y-down"},
            "scans": 3,
            "is_there": True,
        }
    ]
    elsewhere = tmp_path / "elsewhere"
    assert "no such folder" in refused("scans", "relocate", "3rscan", elsewhere)
    elsewhere.mkdir()
    told = refused("scans", "relocate", "3rscan", elsewhere)
    assert f"none of the 3 scans of dataset 3rscan is here, such as {mini.NAME}" in told
    for name in (mini.NAME, mini.RESCAN):
        shutil.copytree(root / name, elsewhere / name)
    (elsewhere / mini.RESCAN / "sequence/frame-000000.depth.pgm").unlink()
    done = run("scans", "relocate", "3rscan", elsewhere)
    assert done.out.splitlines() == [
        f"3rscan: {root} -> {elsewhere}",
        "  2 of 3 scans are there",
        "  7 of 8 pictures that were looked for are there",
        "  missing: mini-0003",
        f"  missing: {mini.RESCAN}/sequence/frame-000000.depth.pgm",
    ]
    gone = tmp_path / "not on this machine"
    assert run("scans", "relocate", "3rscan", gone, "--check", "none").code == 0
    assert run("scans", "roots").out.splitlines()[1].split()[:4] == ["3rscan", "3rscan", "3", "no"]
    told = refused(*OBSERVE, "--force", "--scan", mini.NAME)
    assert "is not there: mount it, or say where it is now with `open3dsg scans relocate 3rscan" in told


def test_delete_is_counted_and_complete(run: Run, database: Database) -> None:
    before = row_counts(database)
    done = run("scans", "delete", mini.NAME, "--yes", "--json").json
    after = row_counts(database)
    assert done["scans"] == 1
    assert done["rows"] == {t: n - after[t] for t, n in before.items() if n != after[t]}
    assert {"observation": 16, "node_feature": 4, "relationship": 4, "subgraph": 1}.items() <= done[
        "rows"
    ].items()
    assert [row["scan"] for row in run("scans", "list", "--json").json] == [mini.RESCAN, "mini-0003"]

    again = run("scans", "delete", mini.NAME, mini.RESCAN, "--yes")
    assert again.code == 2
    assert again.errors == [
        f"error: {mini.NAME}: no scan '{mini.NAME}' in the store; `open3dsg scans list` shows what is there"
    ]
    assert "deleted 1 scans" in again.out

    done = run("scans", "delete", "--dataset", "3rscan", "--yes", "--json").json
    assert (done["rows"]["dataset"], done["rows"]["vocabulary"]) == (1, 2)
    left = {table: count for table, count in row_counts(database).items() if count}
    assert set(left) <= {"alembic_version", "store_meta", "encoder"}
    assert run("scans", "list", "--json").json == []


def test_delete_asks_first_and_refuses_without_a_terminal(
    run: Run, refused: Refused, variables: dict[str, str], database: Database
) -> None:
    told = refused("scans", "delete", mini.NAME)
    assert told == (
        f"error: this would delete {KEY} with all that was made of it:"
        " say --yes, there is no terminal to ask on"
    )
    assert "delete 3 scans, 3rscan/mini-0001 to 3rscan/mini-0003," in refused(
        "scans", "delete", "--dataset", "3rscan"
    )
    assert "nothing to delete" in refused("scans", "delete")
    assert "no scan 'nobody'" in refused("scans", "delete", "nobody", "--yes")
    assert "give one of the two" in refused("scans", "delete", mini.NAME, "--split", "train", "--yes")
    before = row_counts(database)
    for answer, code, left in (("n", 1, before["scan"]), ("y", 0, before["scan"] - 1)):
        assert answer_on_a_terminal(variables, answer, "scans", "delete", mini.NAME) == code
        assert row_counts(database)["scan"] == left


def answer_on_a_terminal(variables: dict[str, str], answer: str, *arguments: str) -> int:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=variables,
        ) as process:
            os.write(ours, f"{answer}\n".encode())
            return process.wait(60)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_scan_that_is_worked_on_is_left_out(run: Run, database: Database, database_url: str) -> None:
    with connect(database_url) as other:
        other.autocommit = True
        with ledger.scan_lock(other, "3rscan", mini.RESCAN):
            done = run("scans", "delete", "--dataset", "3rscan", "--yes")
    assert done.code == 2
    assert done.errors == [
        f"error: 3rscan/{mini.RESCAN}: someone is at work on scan 3rscan/{mini.RESCAN}:"
        " run the same command again later"
    ]
    assert "deleted 2 scans" in done.out
    left = content(database)
    assert [row[2] for row in left["scan"]] == [mini.RESCAN]
    assert len(left["dataset"]) == 1
