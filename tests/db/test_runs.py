"""Runs as rows: what is kept of them, who holds them, and what goes with them."""

from __future__ import annotations

import math

import pytest

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.store.revision import code_revision
from open3dsg.store.run_reports import MetricLine, conditions, evaluations_side_by_side, run_report
from open3dsg.store.runs import (
    Metric,
    add_metrics,
    create_run,
    delete_run,
    find_run,
    list_runs,
    read_metrics,
    run_lock,
    run_units,
    runs_of_encoder,
    set_run,
)
from open3dsg.training.options import preset, run_options
from tests.crash import wait_for
from tests.db.made_runs import UNITS, Database, add_evaluation, add_prediction, make_run, new_run

WORK = [
    ("observe", "quiet-lamp-1:student"),
    ("predict", "other:student"),
    ("predict", "quiet-lamp-1:student"),
]


def test_a_run_is_kept_as_it_was_given(database: Database) -> None:
    run = make_run(database)
    assert find_run(database, "quiet-lamp-1") == run
    assert run_options(run.options) == preset("small")
    assert run_units(database, run) == UNITS
    assert run.relation_encoder is not None
    assert run.words_encoder is not None
    names = (run.node_encoder.full_name, run.relation_encoder.full_name, run.words_encoder.full_name)
    assert names == ("seer@r1", "teller@r1", "words@r1")
    assert (run.targets, run.predicates, run.manifest) == ("captions", None, "0123456789abcdef")
    assert (run.step, run.epoch, run.message) == (0, 0, None)
    assert run.code_revision == code_revision()


def test_of_classes_it_keeps_the_predicates_in_their_order(database: Database) -> None:
    changes = {"relation_encoder_id": None, "words_encoder_id": None, "predicates": ["on", "left", "above"]}
    run = make_run(database, "a-run", targets="classes", **changes)
    assert run.predicates == ("on", "left", "above")
    assert run.relation_encoder is run.words_encoder is None


def test_a_name_is_given_once(database: Database) -> None:
    make_run(database)
    with pytest.raises(
        UserError, match=r"there is a run 'quiet-lamp-1' already: .*`open3dsg runs resume quiet"
    ):
        make_run(database)
    with pytest.raises(UserError, match="cannot be called 'a:b'"):
        make_run(database, "a:b")
    assert [line.name for line in list_runs(database)] == ["quiet-lamp-1"]


def test_a_slip_in_the_name_is_told_what_there_is(database: Database) -> None:
    with pytest.raises(UserError, match=r"no run 'quiet-lamb-1' in the store; `open3dsg runs list` shows"):
        find_run(database, "quiet-lamb-1")
    make_run(database)
    with pytest.raises(UserError, match=r"no run 'quiet-lamb-1' in the store; did you mean quiet-lamp-1\?"):
        find_run(database, "quiet-lamb-1")


def test_how_far_it_is_and_why_it_stopped(database: Database) -> None:
    run = make_run(database)
    set_run(database, run.run_id, status="stopped", message="Ctrl-C", step=12, epoch=2)
    found = find_run(database, run.name)
    assert (found.status, found.message, found.step, found.epoch) == ("stopped", "Ctrl-C", 12, 2)
    assert found.updated_at > run.updated_at == run.started_at
    delete_run(database, found)
    with pytest.raises(UserError, match="was deleted while it was being trained"):
        set_run(database, run.run_id, status="running", step=13, epoch=2)


def test_who_is_killed_leaves_it_interrupted(database: Database, database_url: str) -> None:
    trainer = connect(database_url)
    trainer.autocommit = True
    with run_lock(trainer, "quiet-lamp-1"):
        run = create_run(trainer, new_run(trainer, "quiet-lamp-1"))
        assert run.status == "running"
        assert [line.status for line in list_runs(database)] == ["running"]
        trainer.close()  # as the server does when the process dies
    wait_for(lambda: find_run(database, run.name).status == "interrupted")
    with run_lock(database, run.name):
        assert [line.status for line in list_runs(database)] == ["running"]
    set_run(database, run.run_id, status="finished", step=1, epoch=1)
    assert find_run(database, run.name).status == "finished"


def test_one_at_a_time_trains_a_run(database: Database, database_url: str) -> None:
    run = make_run(database)
    with connect(database_url) as other:
        other.autocommit = True
        with run_lock(other, run.name), run_lock(other, "another"):
            with (
                pytest.raises(UserError, match="the run 'quiet-lamp-1' is being trained by another process"),
                run_lock(database, run.name),
            ):
                pass
            with pytest.raises(UserError, match="is being trained"):
                delete_run(database, run)
        with run_lock(database, run.name):
            assert find_run(other, run.name).status == "running"
    with connect(database_url) as busy, pytest.raises(ValueError, match="autocommit"), run_lock(busy, "x"):
        pass


def test_figures_of_a_step_are_replaced_when_it_is_done_again(database: Database) -> None:
    run, other = make_run(database), make_run(database, "other")
    add_metrics(
        database, run.run_id, [("train/loss", 2, 0, 0.5), ("train/loss", 1, 0, 0.75), ("lr", 1, 0, 1e-3)]
    )
    add_metrics(database, other.run_id, [("train/loss", 1, 0, 9.0)])
    add_metrics(database, run.run_id, [("train/loss", 2, 1, 0.25), ("val/loss", 2, 1, float("nan"))])
    add_metrics(database, run.run_id, [])
    losses = [Metric("train/loss", 1, 0, 0.75), Metric("train/loss", 2, 1, 0.25)]
    assert read_metrics(database, run.run_id, ["train/loss"]) == losses
    assert [metric.name for metric in read_metrics(database, run.run_id)] == [
        "lr",
        "train/loss",
        "train/loss",
        "val/loss",
    ]


def test_of_long_curves_means_are_read(database: Database) -> None:
    run = make_run(database)
    values = [8.0, 6.0, 1.0, float("nan"), float("inf"), float("nan"), 5.0]
    add_metrics(database, run.run_id, [("val/loss", 10 * n, n, value) for n, value in enumerate(values)])
    add_metrics(database, run.run_id, [("lr", 1, 0, 0.5)])
    first, second, third = read_metrics(database, run.run_id, ["val/loss"], points=3)
    assert first == Metric("val/loss", 10, 2, 5.0)
    assert (second.step, third) == (35, Metric("val/loss", 55, 6, 5.0))
    assert math.isnan(second.value)
    assert read_metrics(database, run.run_id, ["lr"], points=3) == [Metric("lr", 1, 0, 0.5)]
    few = [metric.value for metric in read_metrics(database, run.run_id, ["val/loss"], points=7)]
    assert few[:3] == values[:3]
    assert list(map(math.isnan, few)) == [False, False, False, True, True, True, False]


def test_the_last_and_the_least_of_a_figure(database: Database) -> None:
    run = make_run(database)
    values = [0.5, 0.25, float("nan"), 0.25, 0.75]
    add_metrics(database, run.run_id, [("val/loss", step, 0, value) for step, value in enumerate(values)])
    add_metrics(database, run.run_id, [("train/loss", 7, 0, float("nan"))])
    assert run_report(database, run.name).metrics == [
        MetricLine("train/loss", 1, None, None, 7),
        MetricLine("val/loss", 5, 0.75, 0.25, 1),
    ]


def test_evaluations_under_other_conditions_stay_apart(database: Database) -> None:
    run, other = make_run(database), make_run(database, "other")
    of_run, of_other = (add_prediction(database, each, "student") for each in (run, other))
    given = {"gt_objects": True, "classes": "rooms"}
    told = '{"object": {"recall": {"1": %s}}}'
    add_evaluation(database, of_run, "strict", told % 0.5, {**given, "gt_objects": False})
    add_evaluation(database, of_run, "strict", told % 0.75, given)
    add_evaluation(database, of_other, "strict", told % 0.25, given)
    found = evaluations_side_by_side([run_report(database, each.name) for each in (other, run)])
    assert found == {
        ("student", "strict gt-objects", "object.recall.1"): [0.25, 0.75],
        ("student", "strict", "object.recall.1"): [None, 0.5],
    }
    add_evaluation(database, of_other, "strict", told % 0.125, {"gt_objects": True, "classes": "few"})
    lines = run_report(database, other.name).evaluations
    assert sorted(conditions(lines)) == ["strict classes=few", "strict classes=rooms"]
    assert conditions(lines[:1]) == ["strict"]


def test_all_of_a_run_goes_with_it_and_nothing_else(database: Database) -> None:
    run, other = make_run(database), make_run(database, "other")
    for owner in (run, other):
        add_metrics(database, owner.run_id, [("lr", 1, 0, 1.0)])
        number = add_prediction(database, owner, "student")
        add_evaluation(database, number, "strict", "{}")
        add_evaluation(database, number, "published", "{}")
    database.execute("INSERT INTO dataset (name, layout) VALUES ('d', 'rooms')")
    scan = database.execute(
        "INSERT INTO scan (dataset_id, name) SELECT dataset_id, 's' FROM dataset RETURNING scan_id"
    ).fetchone()
    assert scan is not None
    for step, variant in WORK:
        ledger.record(database, scan[0], ledger.Entry(step, 1, {}, variant), {})
    assert delete_run(database, run) == (0, 1, 2)
    assert [line.name for line in list_runs(database)] == ["other"]
    left = {
        table: database.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        for table in ("run_metric", "prediction", "evaluation")
    }
    assert left == {"run_metric": (1,), "prediction": (1,), "evaluation": (2,)}
    assert database.execute("SELECT step, variant FROM ledger ORDER BY 1, 2").fetchall() == WORK[:2]


def test_the_view_names_datasets_encoders_and_the_best_loss(database: Database) -> None:
    run = make_run(database)
    for step, loss in ((1, 0.5), (2, 0.25), (3, None)):
        database.execute(
            "INSERT INTO checkpoint (run_id, step, epoch, position, val_loss, is_last, size, digest)"
            " VALUES (%s, %s, 0, 0, %s, %s, 0, '')",
            (run.run_id, step, loss, step == 3),
        )
    add_prediction(database, run, "student")
    (line,) = list_runs(database)
    assert (line.dataset, line.encoder, line.relation_encoder) == ("3rscan rooms", "seer@r1", "teller@r1")
    assert (line.best_val_loss, line.checkpoints, line.predictions) == (0.25, 3, 1)
    marks = database.execute("SELECT step, is_best, is_last FROM v_checkpoint ORDER BY step").fetchall()
    assert marks == [(1, False, False), (2, True, False), (3, False, True)]


def test_which_runs_an_encoder_is_kept_for(database: Database) -> None:
    run = make_run(database)
    assert run.words_encoder is not None
    assert runs_of_encoder(database, run.node_encoder) == ["quiet-lamp-1"]
    assert runs_of_encoder(database, run.words_encoder) == ["quiet-lamp-1"]
    delete_run(database, run)
    assert runs_of_encoder(database, run.node_encoder) == []
