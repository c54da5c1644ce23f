"""Steps as JSON and back, items, and what becomes of an item after an attempt."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from open3dsg.cli.submission import queue_names
from open3dsg.datasets.layouts import open_reader
from open3dsg.errors import UserError
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.jobs.connector import watchful_url
from open3dsg.jobs.items import Item, item_of, shown_item
from open3dsg.jobs.policy import COUNTED, Decision, History, Kind, decide
from open3dsg.jobs.worker import Pace
from open3dsg.steps.catalogue import build, default_queue, describe, step_names
from open3dsg.steps.features import DumpNodes, FeatureOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.steps.runner import Step


def through_json(step: str, work: Step, chunk: int | None = None) -> Any:
    return build(step, json.loads(json.dumps(describe(step, work))), chunk)


@given(
    every=st.none() | st.integers(1, 1000),
    surfaces=st.lists(st.text(), max_size=3).map(tuple),
    numbers=st.tuples(st.integers(0, 99), st.floats(0, 1), st.integers(0, 99), st.floats(0, 1)),
    force=st.booleans(),
    replace=st.booleans(),
)
def test_observe_is_the_same_on_another_machine(
    every: int | None,
    surfaces: tuple[str, ...],
    numbers: tuple[int, float, int, float],
    force: bool,
    replace: bool,
) -> None:
    work = Observe(ObserveOptions(every, VisibilityThresholds(*numbers), surfaces), force, replace)
    assert through_json("observe", work) == work


def test_features_are_the_same_on_another_machine_and_so_are_their_chunks() -> None:
    work = DumpNodes(FeatureOptions("rooms", 3, 2), force=True)
    assert through_json("features", work) == work
    assert through_json("features", work, 2) == DumpNodes(FeatureOptions("rooms", 3, 2), force=True, chunk=2)
    with pytest.raises(UserError, match="observe has no chunks"):
        through_json("observe", Observe(ObserveOptions()), 2)


def test_ingest_opens_its_reader_again(root: Path) -> None:
    arguments = {"annotations": str(root), "camera_axes": "y-up"}
    reader = open_reader("3rscan", root, arguments)
    work = Ingest(reader, "mine", "3rscan", str(root), replace=True)
    again = through_json("ingest", work)
    assert (again.dataset, again.layout, again.root, again.force, again.replace) == (
        "mine",
        "3rscan",
        str(root),
        False,
        True,
    )
    assert type(again.reader) is type(reader)
    assert again.reader.arguments == arguments
    assert again.reader.scan_names(None) == reader.scan_names(None)


def test_an_unknown_step_is_told_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"no step 'train'.*ingest, masks, observe, graph, features"):
        build("train", {})
    assert [default_queue(step) for step in step_names()] == ["cpu"] * 4 + ["gpu"] * 4


ITEM = Item("features", {"force": False, "options": {"encoder": "toy"}}, "a/b", 1, "first", 3)


def test_an_item_is_kept_as_json_and_travels_to_a_process() -> None:
    assert item_of(json.loads(json.dumps(ITEM.as_json()))) == ITEM
    assert pickle.loads(pickle.dumps(ITEM)) == ITEM
    assert ITEM.label == "features a/b chunk 1"
    with pytest.raises(UserError, match="queued by another version"):
        item_of({"step": "features", "colour": "red"})


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"submission": "second", "max_attempts": 9}, True),
        ({"arguments": {"options": {"encoder": "toy"}, "force": False}}, True),
        ({"arguments": {"options": {"encoder": "toy"}, "force": True}}, False),
        ({"scan": "a/c"}, False),
        ({"chunk": 2}, False),
        ({"chunk": None}, False),
        ({"step": "observe"}, False),
    ],
)
def test_the_same_work_has_the_same_lock(change: dict[str, Any], same: bool) -> None:
    other = item_of(ITEM.as_json() | change)
    assert (other.lock == ITEM.lock) is same


def test_an_item_that_broke_off_waits_longer_each_time_and_then_fails() -> None:
    decisions = [decide("broken", History(counted), 4, 5.0) for counted in (1, 2, 3, 4)]
    assert decisions == [
        Decision("waiting", 5.0),
        Decision("waiting", 10.0),
        Decision("waiting", 20.0),
        Decision("failed"),
    ]
    assert decide("killed", History(19), 20, 5.0) == Decision("waiting", 600.0)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("done", "done"),
        ("refused", "failed"),
        ("broken", "failed"),
        ("killed", "failed"),
        ("lost", "failed"),
        ("away", "waiting"),
        ("stopped", "waiting"),
        ("disconnected", "waiting"),
    ],
)
def test_only_what_may_be_the_items_fault_uses_up_its_attempts(kind: Kind, status: str) -> None:
    assert decide(kind, History(counted=1), 1, 5.0).status == status
    assert (kind in COUNTED) is (kind in ("broken", "killed", "lost"))


def test_a_folder_that_no_worker_has_for_a_day_is_a_failure() -> None:
    assert decide("away", History(0, away_for_s=23 * 3600), 1, 5.0) == Decision("waiting", 5.0)
    assert decide("away", History(0, away_for_s=25 * 3600), 1, 5.0) == Decision("failed")


def test_the_default_pace_takes_over_within_thirty_seconds() -> None:
    pace = Pace()
    assert pace.silent_s + pace.beat_s + pace.poll_s <= 30
    assert pace.silent_s >= 4 * pace.beat_s, "a beat or two may be late"


def test_names_of_queues() -> None:
    assert queue_names(["cpu,gpu", " cpu", "a-b.c_1"]) == ["cpu", "gpu", "a-b.c_1"]
    for bad in ("", "a,", "-a", "a b", "x" * 64, "a\0"):
        with pytest.raises(UserError, match="is no name of a queue"):
            queue_names([bad])


@pytest.mark.parametrize(
    ("step", "arguments"),
    [
        ("observe", {"options": {"bogus": 1}, "force": False, "replace": False}),
        ("observe", {}),
        ("features", {"options": {"encoder": "toy", "bogus": 1}, "force": False, "replace": False}),
        ("ingest", {"layout": "3rscan"}),
    ],
)
def test_arguments_of_another_version_are_refused(step: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{step} was queued by another version of open3dsg"):
        build(step, arguments)


def test_an_item_of_another_version_can_be_shown() -> None:
    kept = {"step": "observe", "scan": "3rscan/a", "pace": "quick", "arguments": [1]}
    assert shown_item(kept).label == "observe 3rscan/a"
    assert shown_item({}).label == "? ?"


@pytest.mark.parametrize("url", ["postgresql://host/name", "postgresql://host/name?sslmode=require"])
def test_a_process_at_work_notices_that_the_server_has_gone(url: str) -> None:
    found = conninfo_to_dict(watchful_url(url))
    assert conninfo_to_dict(url).items() <= found.items()
    assert (found["keepalives_idle"], found["keepalives_interval"]) == ("10", "5")
    assert found["tcp_user_timeout"] == "20000"
    assert conninfo_to_dict(watchful_url("postgresql://h/n?keepalives_idle=3"))["keepalives_idle"] == "3"
