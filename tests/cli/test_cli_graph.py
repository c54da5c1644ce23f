"""`open3dsg graph`: what it prints, and options that are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.command import GRAPH, Done

Run = Callable[..., Done]
Refused = Callable[..., str]
WINDOWS = ("--seed-distance", 0.4, "--min-instances", 2, "--max-instances", 3)


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every other step is done in the database of these tests."""
    return full_database_url


def test_build_then_list(run: Run) -> None:
    first = run(*GRAPH, *WINDOWS, "--jobs", 2)
    assert first.code == 0, first.err
    assert first.out.startswith("graph: 3 done, 0 already done, 0 failed in ")
    again = run(*GRAPH, *WINDOWS, "--json").json
    assert again["scans"] == {"done": 0, "skipped": 3, "failed": 0}
    listed = run("graph", "list", "--scan", mini.NAME)
    assert listed.out.splitlines() == [
        "dataset  scan       subgraph  method  objects  visible  pairs  relations  reason",
        "3rscan   mini-0001         1  3dssg         4        4      6          4",
    ]
    assert listed.err == "1 subgraphs, 0 of them unusable\n"
    windows = run("graph", "list", "--dataset", "3rscan", "--json").json
    assert {row["method"] for row in windows if row["scan"] != mini.NAME} == {"window"}
    # Groups of two or three objects are too few for a trainer, and said to be.
    unusable = run("graph", "list", "--unusable", "--json").json
    assert unusable == [row for row in windows if row["method"] == "window"]
    assert {row["reason"] for row in unusable} == {"too few visible"}
    found = run("scans", "list", "--missing", "graph", "--json").json
    assert found == []


def test_a_full_graph(run: Run) -> None:
    done = run(*GRAPH, "--full", "--all-pairs", "--scan", mini.RESCAN, "--json").json
    assert done["counts"]["pairs"] == 6
    (row,) = run("graph", "list", "--scan", mini.RESCAN, "--json").json
    assert (row["subgraph"], row["method"], row["pairs"], row["reason"]) == (-1, "full", 6, None)
    shown = run("scans", "show", mini.RESCAN).out
    assert "step graph full" in shown
    assert "step graph  " in shown  # the subgraphs: never
    near = run(*GRAPH, "--full", "--max-distance", 0.5, "--scan", mini.RESCAN, "--replace", "--json").json
    assert 0 < near["counts"]["pairs"] < 6
    assert run(*GRAPH, "--force", "--scan", mini.RESCAN).code == 0
    status = run("scans", "show", mini.RESCAN, "--json").json
    assert status["steps"]["graph full"]["state"] == "stale"
    assert status["missing"] == "stale graph: open3dsg graph build --full"


def test_build_goes_through_the_queue(run: Run) -> None:
    assert run("jobs", "submit", *GRAPH, "--json").json["queued"] == 3
    worked = run("worker", "--until-empty", "--queues", "cpu")
    assert "worker: 3 done, 0 skipped, 0 failed, 0 waiting" in worked.out
    assert run("jobs", "submit", *GRAPH, "--json").json["already_done"] == 3
    assert run(*GRAPH, "--json").json["scans"] == {"done": 0, "skipped": 3, "failed": 0}


def test_the_test_split_of_scannet(run: Run, tmp_path: Path) -> None:
    scannet.write_scan(tmp_path, scannet.TEST, annotated=False)
    scannet.write_metadata(tmp_path)
    assert run("ingest", "scannet", tmp_path).code == 0
    done = run("graph", "build", "--dataset", "scannet")
    assert done.code == 0, done.err
    assert "scan_without_instances: 1, such as: scene0707_00 has no instances with points" in done.out
    assert "the test split of ScanNet is published without" in done.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--receptive-field", "0"), "--receptive-field is 0: give more than 0"),
        (("--min-instances", "10"), "--max-instances is 9: give 10 or more"),
        (("--boxes", "round"), "'round' is not one of 'oriented', 'axis-aligned'"),
        (("--max-distance", "1"), "--max-distance goes with --full"),
        (("--full", "--all-pairs", "--max-distance", "1"), "--all-pairs has no --max-distance"),
        (("--full", "--seed-distance", "1"), "--seed-distance is of subgraphs: leave it out, or --full"),
    ],
    ids=str,
)
def test_options_that_are_refused(refused: Refused, options: tuple[str, ...], told: str) -> None:
    assert told in refused("graph", "build", *options)


def test_what_is_not_in_the_store(refused: Refused) -> None:
    assert "no dataset 'none'" in refused("graph", "list", "--dataset", "none")
    assert "no scan 'none'" in refused("graph", "list", "--scan", "none")
    assert "no scan 'none'" in refused("graph", "build", "--scan", "none")


def test_annotations_without_points_are_no_units(
    run: Run, refused: Refused, tmp_path: Path, database: psycopg.Connection[Any]
) -> None:
    mini.write_annotations(tmp_path, mini.subgraph(scan="mini-0042"))
    assert run("ingest", "3dssg", tmp_path).code == 0
    assert "scan mini-0042 has no points in the database" in refused("graph", "build", "--scan", "mini-0042")
    (row,) = run("graph", "list", "--scan", "mini-0042", "--json").json
    assert (row["objects"], row["objects_with_points"], row["reason"]) == (4, 0, "too few objects")
