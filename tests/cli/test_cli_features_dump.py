"""`open3dsg features dump` of instances and pairs, planned and done, here and through the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests.command import DUMP, GRAPH, Done
from tests.content import row_counts

Run = Callable[..., Done]
Refused = Callable[..., str]

PAIRS = ("features", "dump", "--pairs", "--pair-encoder", "toytokens")


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """All but pairs is done in the database of these tests."""
    return full_database_url


@pytest.fixture
def graph(run: Run) -> None:
    assert run(*GRAPH, "--scan", mini.NAME).code == 0


def test_nodes_and_pairs_are_one_after_the_other(run: Run, graph: None) -> None:
    both = run(
        "features", "dump", "--nodes", "--pairs", "--encoder", "toy", "--scan", mini.NAME, "--json"
    ).json
    assert [report["step"] for report in both] == ["features", "pairs"]
    assert [report["scans"]["skipped"] for report in both] == [1, 0]
    counts = both[1]["counts"]
    assert counts["pairs"] + counts["pairs_unseen"] + counts["pairs_unqualified"] == 6
    assert counts["crops"] + counts["crops_shared"] == counts["views"]
    assert 0 <= both[1]["encoder_seconds"] <= both[1]["seconds"]
    tokens = run(*PAIRS, "--scan", mini.NAME, "--tokens", "grid17", "--token-dtype", "int8")
    assert tokens.out.startswith("pairs: 1 done, 0 already done, 0 failed in ")
    assert run(*PAIRS, "--scan", mini.NAME).code == 2


def test_a_dry_run_tells_and_writes_nothing(run: Run, graph: None, database: psycopg.Connection[Any]) -> None:
    before = row_counts(database)
    told = run(*PAIRS, "--nodes", "--encoder", "toy", "--scan", mini.NAME, "--dry-run", "--json").json
    assert [entry["step"] for entry in told] == ["features.nodes", "features.pairs"]
    assert (told[0]["scans_done"], told[0]["items"], told[0]["seconds"]) == (1, 0, None)
    assert [type(entry["scans_done"]) for entry in told] == [int, int]
    assert told[1]["items"] + told[1]["unseen"] + told[1]["unqualified"] == 6
    assert told[1]["passes"] > 0 < told[1]["bytes"]
    table = run(*PAIRS, "--scan", mini.NAME, "--dry-run")
    header, line = table.out.splitlines()
    assert header.split() == ["step", "encoder", "items", "passes", "shared", "photos", "MB", "time"]
    assert line.split()[:3] == ["features.pairs", "toytokens@00112233aabbccdd", str(told[1]["items"])]
    assert "the time is reckoned from 8 of these passes" in table.err
    assert "0 of 1 scan done already" in table.err
    assert "--max-memory" not in table.err
    assert row_counts(database) == before
    done = run(*PAIRS, "--scan", mini.NAME, "--json").json["counts"]
    assert [done[name] for name in ("pairs", "crops", "crops_shared", "photos")] == [
        told[1][name] for name in ("items", "passes", "shared", "photos")
    ]


def test_scans_without_a_graph_fail_and_the_others_are_done(run: Run, graph: None) -> None:
    done = run(*PAIRS)
    assert done.code == 2
    assert "pairs: 1 done, 0 already done, 2 failed" in done.out
    assert all("run `open3dsg graph build --scan 3rscan/" in line for line in done.errors)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to dump: say --nodes, --pairs or both"),
        (("--pairs", "--encoder", "toypixels"), "toypixels does not embed pairs"),
        (("--nodes", "--encoder", "toytokens"), "toytokens does not embed instances"),
        (("--nodes", "--min-visibility", 2), "--min-visibility is 2: give 0 to 1"),
        (("--nodes", "--max-memory", "much"), "--max-memory is 'much': give a size such as 4GB"),
        (("--nodes", "--max-memory", "1MB"), "--max-memory is 1,048,576 bytes: give 64MB or more"),
        (("--nodes", "--device", "cuda:0,cuda:0"), "give each device once, such as cuda:0,cuda:1"),
    ],
)
def test_what_makes_no_sense_is_refused(refused: Refused, arguments: tuple[object, ...], told: str) -> None:
    assert told in refused("features", "dump", *arguments)


def test_pairs_go_through_the_queue(run: Run, graph: None, database: psycopg.Connection[Any]) -> None:
    options = ("--pair-chunk", 2, "--tokens", "grid17", "--scan", mini.NAME)
    found = run("jobs", "submit", *PAIRS[0:1], *PAIRS[2:], *options, "--json").json
    assert (found["step"], found["queued"], found["queue"]) == ("pairs", 3, "gpu")
    tally = run("worker", "--until-empty", "--concurrency", 2, "--device", "cpu", "--json").json
    assert (tally["items"]["done"], tally["items"]["failed"]) == (3, 0)
    assert tally["counts"]["pairs"] == row_counts(database)["pair_tokens"] > 0
    assert run("features", *PAIRS[1:], *options, "--json").json["scans"]["skipped"] == 1


def test_a_worker_with_a_device_captions_by_rules_which_need_none(run: Run, graph: None) -> None:
    text = {"OPEN3DSG_ENCODERS": "[geometry]\ntext = 'toy'"}
    submit = ("jobs", "submit", "captions", "--encoder", "geometry", "--scan", mini.NAME, "--json")
    assert run(*submit, **text).json["queued"] == 1
    done = run("worker", "--until-empty", "--device", "cpu", "--json", **text).json
    assert (done["items"]["done"], done["counts"]["captions"] > 0) == (1, True)


def test_devices_are_shared_out_over_processes(run: Run) -> None:
    """The toy encoders take any; what is tested is that each process starts and does its share."""
    done = run(*DUMP, "--scales", 1, "--replace", "--device", "cpu,cpu:0", "--json").json
    assert done["scans"] == {"done": 3, "skipped": 0, "failed": 0}
    assert done["counts"]["nodes"] == 12


def test_the_device_of_what_is_queued_is_the_workers(refused: Refused) -> None:
    told = refused("jobs", "submit", "features", "--nodes", "--device", "cpu")
    assert "--device is the worker's choice" in told
