"""`predict`, `query nodes --run` and `show predictions` as people type them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from open3dsg.db.connect import connect
from tests import miniature as mini
from tests.command import Done, call, environment
from tests.conftest import as_url
from tests.content import row_counts
from tests.db import trained
from tests.db.predicted import write_checkpoint, write_trained

PREDICT = ("predict", "--run", "otter")
FIRST, SECOND = trained.name(1), trained.name(2)
Predicted = tuple[dict[str, str], dict[str, Done]]


@pytest.fixture(scope="module")
def prepared(
    template: str, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Name a database with two scans and a run, validated on the second."""
    folder = tmp_path_factory.mktemp("prepared")
    torch.set_num_threads(1)
    with (
        pytest.MonkeyPatch.context() as patch,
        connect(as_url(new_database("run_prepared", template=template))) as connection,
    ):
        trained.with_toys(tmp_path_factory.mktemp("encoders"), patch)
        connection.autocommit = True
        trained.trainable(connection, folder)
        units = {"train": {trained.key(1): [1, 2]}, "validation": {trained.key(2): [1, 2]}}
        run = write_trained(connection, folder, "otter", "geometry", units=units)
        write_checkpoint(connection, folder, run, 2)
    return "run_prepared"


@pytest.fixture(scope="module")
def predicted(
    prepared: str, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Predicted:
    """The variables of a database with predictions, and what each command printed."""
    url = as_url(new_database("predicted_by_cli", template=prepared))
    variables = environment(tmp_path_factory.mktemp("predict"), url)
    variables |= {"OPEN3DSG_ENCODERS": trained.SETTINGS, "OMP_NUM_THREADS": "1"}
    done = {
        "first": call(variables, *PREDICT, "--weight-2d", 0),
        "again": call(variables, *PREDICT, "--weight-2d", 0, "--json"),
        "teacher": call(variables, *PREDICT, "--from-2d", "--split", "all", "--json"),
        "submit": call(variables, "jobs", "submit", *PREDICT, "--checkpoint", "last"),
        "worker": call(variables, "worker", "--until-empty"),
    }
    return variables, done


def test_it_predicts_the_scans_that_the_run_is_validated_on_once(predicted: Predicted) -> None:
    _variables, done = predicted
    first, counts = done["first"].out.splitlines()
    assert first.startswith("predict: 1 done, 0 already done, 0 failed in ")
    assert counts == "  edges 12, edges_left_out 0, nodes 4, nodes_left_out 0"
    assert done["first"].err.splitlines()[0] == "the prediction is called otter:student"
    assert done["again"].json["scans"] == {"done": 0, "skipped": 1, "failed": 0}
    assert done["teacher"].json["scans"] == {"done": 2, "skipped": 0, "failed": 0}


def test_a_worker_predicts_by_the_checkpoint_that_was_asked_for(predicted: Predicted) -> None:
    variables, done = predicted
    assert done["submit"].out == "predict: 1 queued in gpu, 0 already queued, 0 already done, 0 failed\n"
    assert done["worker"].code == 0, done["worker"].err
    again = call(variables, *PREDICT, "--checkpoint", 2, "--json").json
    assert again["scans"] == {"done": 0, "skipped": 1, "failed": 0}


def test_what_was_predicted_is_asked_in_words(predicted: Predicted) -> None:
    variables, _done = predicted
    hits = call(variables, "query", "nodes", "red", "-k", 9, "--run", "otter:student", "--json").json
    assert {hit["scan"] for hit in hits} == {SECOND}
    assert sorted(hit["instance"] for hit in hits) == sorted(mini.LABELS)
    assert [hit["similarity"] for hit in hits] == sorted((hit["similarity"] for hit in hits), reverse=True)
    of_one = call(
        variables,
        "query",
        "nodes",
        "red",
        "--run",
        "otter:teacher",
        "--scan",
        FIRST,
        "--label",
        "wall",
        "--json",
    ).json
    assert [(hit["scan"], hit["label"]) for hit in of_one] == [(FIRST, "wall")]


def test_a_scene_graph_is_shown_by_the_nearest_words(predicted: Predicted) -> None:
    variables, _done = predicted
    told = call(variables, "show", "predictions", SECOND, "--run", "otter:teacher")
    header, *lines = told.out.splitlines()
    assert header.split() == ["subject", "class", "predicate", "object", "class", "similarity", "from"]
    assert told.err == f"{len(lines)} relations; `open3dsg predict` makes them\n"
    two = call(variables, "show", "predictions", SECOND, "--run", "otter:teacher", "-k", 2, "--json").json
    assert len(two) == 2 * len(lines)
    assert {"subject", "subject_class", "predicate", "object", "rank", "similarity"} <= two[0].keys()


def test_documented_sql_runs(predicted: Predicted) -> None:
    variables, _done = predicted
    call(variables, "query", "nodes", "chair", "--run", "otter:student")  # so that the word has an embedding
    page = (Path(__file__).parents[2] / "docs" / "predictions.md").read_text(encoding="utf-8")
    for documented, here in (("brave-otter-7", "otter"), ("rooms-", "3rscan-"), ("'rooms'", "'toy'")):
        page = page.replace(documented, here)
    blocks = [block.split("```")[0] for block in page.split("```sql\n")[1:]]
    statements = [statement for block in blocks for statement in block.split(";\n") if statement.strip()]
    assert len(statements) >= 3
    with connect(variables["OPEN3DSG_DATABASE_URL"]) as connection:
        for statement in statements:
            assert connection.execute(statement.encode()).fetchall(), statement


def test_one_prediction_is_deleted_and_its_run_stays(predicted: Predicted) -> None:
    variables, _done = predicted
    assert call(variables, *PREDICT, "--from-2d", "--label", "aside").code == 0
    what = "the prediction otter:aside with 4 nodes, 12 edges, 0 evaluations"
    assert call(variables, "runs", "delete", "otter:aside").errors == [
        f"error: this would delete {what}: say --yes, there is no terminal to ask on"
    ]
    assert call(variables, "runs", "delete", "otter:aside", "--yes").out == f"deleted {what}\n"
    assert (
        "no prediction 'otter:aside' in the store"
        in call(variables, "runs", "delete", "otter:aside", "--yes").err
    )
    assert call(variables, "query", "nodes", "red", "--run", "otter:student").code == 0


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("predict", "--run", "oter"), "no run 'oter' in the store; did you mean otter?"),
        ((*PREDICT, "--checkpoint", 77), "77"),
        (
            (*PREDICT, "--weight-2d", 0, "--checkpoint", 1),
            "with the checkpoint of step 2, now 1): --replace drops",
        ),
        ((*PREDICT, "--weight-2d", 2), "2"),
        (
            (*PREDICT, "--from-2d", "--weight-2d", 0.5),
            "--from-2d asks the pictures alone: leave out --weight-2d",
        ),
        (
            (*PREDICT, "--n-beams", 2),
            "no encoder speaks of the relations that otter learnt: leave out --n-beams",
        ),
        ((*PREDICT, "--node-model", "toywords", "--label", "x"), "--node-model toywords embeds words as 8"),
        ((*PREDICT, "--force"), "--force does one scan again: name it with --scan"),
        (("query", "nodes", "red", "--run", "otter"), "say otter:"),
        (
            ("query", "nodes", "red", "--run", "otter:x"),
            "no prediction 'otter:x' in the store; it has otter:",
        ),
        (
            ("query", "nodes", "red", "--run", "otter:teacher", "--encoder", "toy"),
            "--run asks by the words of its own encoder: leave out --encoder",
        ),
        (
            ("show", "predictions", SECOND, "--run", "otter:teacher", "--classes", "none such"),
            "no vocabulary 'none such' in this database; known: ",
        ),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(
    predicted: Predicted, command: tuple[Any, ...], told: str
) -> None:
    variables, _done = predicted
    with connect(variables["OPEN3DSG_DATABASE_URL"]) as connection:
        before = row_counts(connection)
        done = call(variables, *command)
        assert done.code == 2, done
        (line,) = done.errors
        assert told in line
        assert row_counts(connection) == before
