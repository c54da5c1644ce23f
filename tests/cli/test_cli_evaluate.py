"""`open3dsg evaluate` through the installed command."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from open3dsg.store.predictions import find_prediction
from open3dsg.store.runs import find_run
from tests.command import Done
from tests.db.judged_room import RUN, fill, predict
from tests.db.predicted import write_prediction

WORDS = ("--classes", "things", "--predicates", "ways")


@pytest.fixture
def room(database: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    fill(database)
    return database


def test_figures_of_both_protocols_stand_side_by_side(
    room: psycopg.Connection[Any], run: Callable[..., Done]
) -> None:
    done = run("evaluate", "--run", RUN, *WORDS)
    assert done.code == 0, done
    header, *lines = done.out.splitlines()
    assert header.split("  ")[0] == "kind"
    assert [word for word in header.split() if word not in ("kind", "figure", "at", "first")] == [
        "published", "chance", "strict", "chance",
    ]  # fmt: skip
    told = {tuple(line.split()[:2]) for line in lines}
    for kind in ("object", "predicate", "relationship"):
        assert {(kind, "annotations"), (kind, "recall"), (kind, "mean")} <= told
    ((stored,),) = room.execute(
        "SELECT metrics #>> '{object,recall,5}' FROM evaluation WHERE protocol = 'strict'"
    ).fetchall()
    (line,) = (line for line in lines if line.split()[:3] == ["object", "recall", "5"])
    assert line.split()[5] == f"{float(stored):.3f}"
    assert any("object_outside_vocabulary" in line for line in lines)

    listed = run("evaluate", "list", "--json").json
    assert [(one["prediction"], one["protocol"]) for one in listed] == [
        (f"{RUN}:first", "published"), (f"{RUN}:first", "strict"),
    ]  # fmt: skip
    table = run("evaluate", "list", "--run", RUN).out.splitlines()
    assert len(table) == 3
    assert "classes=things" in table[1]

    shown = run("evaluate", "show", "--run", RUN, "--class", "table", "--kind", "predicate", "--json").json
    assert len(shown) == 4
    lines = run(
        "evaluate", "show", "--run", RUN, "--kind", "predicate", "--missed", "-k", "1"
    ).out.splitlines()
    hits = run("evaluate", "show", "--run", RUN, "--kind", "predicate", "--hit", "-k", "1").out.splitlines()
    assert len(lines) + len(hits) == 2 + 6


def test_predictions_stand_together_by_protocol_and_chance_once_where_it_is_the_same(
    room: psycopg.Connection[Any], run: Callable[..., Done]
) -> None:
    first = find_prediction(room, f"{RUN}:first")
    predict(room, write_prediction(room, find_run(room, RUN), "second", first.relation_words), 9)
    header, *lines = run("evaluate", "--run", RUN, *WORDS).out.splitlines()
    assert re.split("  +", header)[3:] == [
        "published first", "published second", "chance", "strict first", "strict second", "chance",
    ]  # fmt: skip
    (line,) = (line.split() for line in lines if line.split()[:3] == ["object", "recall", "5"])
    metrics = {
        (label, protocol): figures["object"]
        for label, protocol, figures in room.execute(
            "SELECT label, protocol, metrics FROM evaluation JOIN prediction USING (prediction_id)"
        )
    }
    told = [
        share["5"]
        for protocol in ("published", "strict")
        for share in (
            metrics["first", protocol]["recall"],
            metrics["second", protocol]["recall"],
            metrics["second", protocol]["chance"],
        )
    ]
    assert line[3:] == [f"{share:.3f}" for share in told]
    # An object less is predicted by the first.
    room.execute(
        "DELETE FROM node_prediction WHERE instance_no = 1 AND prediction_id = %s", [first.prediction_id]
    )
    header, *_ = run("evaluate", "--run", RUN, "--protocol", "strict", *WORDS).out.splitlines()
    assert re.split("  +", header)[3:] == ["strict first", "chance", "strict second", "chance"]


def test_json_has_figures_words_and_the_code(room: psycopg.Connection[Any], run: Callable[..., Done]) -> None:
    del room
    done = run("evaluate", "--run", f"{RUN}:first", "--protocol", "strict", "--gt-objects", *WORDS, "--json")
    (found,) = done.json["evaluations"]
    assert found["options"] == {
        "dataset": None, "split": None, "classes": "things", "predicates": "ways", "attributes": None,
        "gt_objects": True,
    }  # fmt: skip
    assert set(found["metrics"]) == {"predicate", "relationship"}
    assert set(found["vocabularies"]["classes"]) == {"name", "hash"}
    assert found["code_revision"]


def test_mistakes_are_told_in_one_line(room: psycopg.Connection[Any], refused: Callable[..., str]) -> None:
    del room
    assert "say what to judge" in refused("evaluate")
    assert "--run goes behind list" in refused("evaluate", "--run", RUN, "list")
    assert "no prediction 'x'" in refused("evaluate", "--run", "x")
    assert "say with --classes" in refused("evaluate", "--run", RUN)
    assert "was not evaluated under the strict protocol: run" in refused("evaluate", "show", "--run", RUN)
    assert "vocab add --builtin colours" in refused(
        "evaluate", "--run", RUN, *WORDS, "--attributes", "colours"
    )
