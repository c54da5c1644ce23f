"""Runs in this process: what they leave, how they end, and that a broken one goes on as if it were not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from open3dsg.errors import UserError
from open3dsg.store.checkpoints import find_checkpoint, list_checkpoints
from open3dsg.store.runs import delete_run, find_run, read_metrics, run_units
from open3dsg.training.fit import Moment
from open3dsg.training.loop import resume, train
from open3dsg.training.manifest import manifest_from
from open3dsg.training.order import epoch_order
from open3dsg.training.request import Conduct
from open3dsg.training.restore import load_network
from tests.conftest import as_url
from tests.content import row_counts
from tests.db import trained
from tests.db.pipeline import Database
from tests.db.training_runs import fill, finish, request

STEPS_AN_EPOCH = 4  # two scans of two units to train on, one a batch

Figures = dict[tuple[str, int], float]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str], template: str) -> Path:
    """The folder of the toy encoders; the database `trainable` is filled by them."""
    return fill(as_url(new_database("trainable", template=template)), tmp_path_factory.mktemp("store"))


@pytest.fixture
def template_with_units(toys: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(toys)
    monkeypatch.setenv("OPEN3DSG_ENCODERS", trained.SETTINGS)
    return "trainable"


@pytest.fixture
def database_url(new_database: Callable[..., str], template_with_units: str) -> str:
    """The URL of a filled database of the test's own."""
    return as_url(new_database("trainable_clone", template=template_with_units))


def figures(database: Database, name: str) -> Figures:
    """Return all figures of a run by name and step."""
    rows = read_metrics(database, find_run(database, name).run_id)
    return {(row.name, row.step): row.value for row in rows}


def interrupting(step: int, part: str = "train") -> Callable[[Moment], None]:
    """Press Ctrl-C once `step` is done, or while it is validated after it."""

    def watch(moment: Moment) -> None:
        if moment.step == step and moment.part == part:
            os.kill(os.getpid(), signal.SIGINT)

    return watch


def test_a_run_learns_and_leaves_its_figures(database: Database, database_url: str) -> None:
    summary = finish(database_url, name="first", epochs=8, lr=1e-2)
    run = find_run(database, "first")
    losses = [metric.value for metric in read_metrics(database, run.run_id, ["train/loss"])]
    assert (run.status, run.step, run.epoch) == ("finished", summary.step, 8)
    assert len(losses) == summary.step == 8 * 2
    assert losses[-1] < 0.7 * losses[0]
    told = figures(database, "first")
    assert {name for name, _step in told} == {
        *(f"{part}/{loss}" for part in ("train", "val") for loss in ("loss", "node_loss", "relation_loss")),
        "lr",
    }
    validations = {step: value for (name, step), value in told.items() if name == "val/loss"}
    assert len(validations) == 8
    assert summary.best_val_loss == min(validations.values()) == validations[summary.best_step or 0]
    assert dict(summary.units) == {"train": 4, "validation": 2}


def test_the_same_seed_trains_the_same_and_another_does_not(database: Database, database_url: str) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        finish(database_url, name=name, seed=seed, augment=True, workers=1 if name == "two" else 0)
    assert figures(database, "one") == figures(database, "two")
    assert figures(database, "one") != figures(database, "three")


@pytest.mark.parametrize("step", [STEPS_AN_EPOCH, STEPS_AN_EPOCH + 2])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    step: int, database: Database, database_url: str
) -> None:
    same = {"batch_size": 1, "augment": True, "lr_scheduler": "reduce"}
    finish(database_url, name="unbroken", **same)
    stopped = train(database_url, request(name="broken", **same), watch=interrupting(step))
    assert stopped is not None
    assert (stopped.status, stopped.step) == ("stopped", step)
    assert find_run(database, "broken").status == "stopped"
    resume(database_url, "broken", workers=1)
    assert find_run(database, "broken").status == "finished"
    assert figures(database, "broken") == figures(database, "unbroken")


def test_a_run_that_was_stopped_while_it_validated_validates_again(
    database: Database, database_url: str
) -> None:
    finish(database_url, name="unbroken")
    watch = interrupting(2, "validation")
    stopped = train(database_url, request(name="broken"), watch=watch)
    assert stopped is not None
    assert (stopped.status, stopped.epoch) == ("stopped", 0)
    resume(database_url, "broken")
    assert figures(database, "broken") == figures(database, "unbroken")


def test_accumulated_batches_make_one_step(database: Database, database_url: str) -> None:
    """With whole batches the gradient is the same as of one large batch."""
    finish(database_url, name="large", batch_size=2)
    finish(database_url, name="parts", batch_size=1, accumulate=2)
    large, parts = figures(database, "large"), figures(database, "parts")
    assert parts.keys() == large.keys()
    assert parts == pytest.approx(large, rel=1e-4)


def test_steps_of_accumulated_batches_are_not_broken(database: Database, database_url: str) -> None:
    same = {"batch_size": 1, "accumulate": 3}  # of four batches: the last step of an epoch has one
    finish(database_url, name="unbroken", **same)
    train(database_url, request(name="broken", **same), watch=interrupting(1))
    resume(database_url, "broken")
    assert figures(database, "broken") == figures(database, "unbroken")
    assert find_run(database, "broken").step == 3 * 2


def test_it_stops_where_nothing_gets_better(database: Database, database_url: str) -> None:
    summary = finish(database_url, name="idle", lr=0.0, weight_decay=0.0, patience=2, epochs=9)
    assert (summary.epoch, summary.message) == (3, "no better validation loss for 2 epochs")
    assert find_run(database, "idle").message == summary.message


def test_the_best_checkpoints_and_the_last_are_kept(database: Database, database_url: str) -> None:
    finish(database_url, name="kept", epochs=4, keep=2, lr=1e-2)
    run = find_run(database, "kept")
    validations = {
        step: value for (name, step), value in figures(database, "kept").items() if name == "val/loss"
    }
    best = sorted(validations, key=lambda step: validations[step])[:2]
    assert {kept.step for kept in list_checkpoints(database, run)} == {*best, max(validations)}
    network = load_network(database, run, find_checkpoint(database, run, "best"))
    assert not network.training


def test_checkpoints_may_lie_in_a_folder(database: Database, database_url: str, tmp_path: Path) -> None:
    conduct = Conduct(checkpoints_in=tmp_path / "there", every_steps=1)
    train(database_url, request(name="filed", conduct=conduct), watch=interrupting(3))
    kept = list_checkpoints(database, find_run(database, "filed"))
    assert all(checkpoint.uri is not None for checkpoint in kept)
    (home,) = (tmp_path / "there").iterdir()
    (home / "unfinished").write_bytes(b"of a process that was killed while it wrote")
    resume(database_url, "filed")
    files = [path for path in (tmp_path / "there").rglob("*") if path.is_file()]
    assert len(files) == len(list_checkpoints(database, find_run(database, "filed")))


def test_what_a_run_that_was_killed_in_its_first_save_left_goes_with_it(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    conduct = Conduct(checkpoints_in=tmp_path)
    finish(database_url, name="filed", epochs=1, conduct=conduct)
    run = find_run(database, "filed")
    (home,) = tmp_path.iterdir()
    database.execute("DELETE FROM checkpoint")
    for file in home.iterdir():
        file.rename(home / "unfinished")
    delete_run(database, run)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("every_steps", [1, None])
def test_a_loss_that_is_not_finite_stops_it(
    database: Database, database_url: str, every_steps: int | None
) -> None:
    conduct = Conduct(every_steps=every_steps)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) after step \d+, of the batch 3rscan/mini-"):
        train(database_url, request(name="wild", lr=1e30, epochs=9, norm="frozen", conduct=conduct))
    run = find_run(database, "wild")
    assert run.status == "failed"
    assert list_checkpoints(database, run) == [], "weights that give such a loss are not kept"
    assert run.message is not None
    assert run.message.startswith("the loss is")


@pytest.mark.parametrize("every_steps", [1, None])
def test_weights_that_are_not_finite_are_never_kept(
    database: Database, database_url: str, every_steps: int | None
) -> None:
    steps = count(1)

    def spoil(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if next(steps) == 3:
            optimizer.param_groups[0]["params"][0].data.view(-1)[0] = float("nan")

    handle = register_optimizer_step_post_hook(spoil)
    try:
        with pytest.raises(UserError) as told:
            train(database_url, request(name="wild", conduct=Conduct(every_steps=every_steps)))
    finally:
        handle.remove()
    run = find_run(database, "wild")
    units = manifest_from(run_units(database, run), run.manifest).units["train"]
    learnt = [units[place] for place in epoch_order(len(units), 42, 1)[:2]]  # of the second epoch
    names = ", ".join(f"{key.scan} subgraph {key.subgraph_no}" for key in learnt)
    assert str(told.value).startswith(
        f"weights are not finite after step 3, of the batch {names}; its checkpoint of step 2 is good:"
    )
    assert (run.status, run.step, run.message) == ("failed", 2, str(told.value))
    assert find_checkpoint(database, run, "last").step == 2
    finish(database_url, name="again", checkpoint="wild:last", epochs=1)


def test_a_run_starts_from_the_weights_of_another(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    first = finish(database_url, name="first", epochs=6, lr=1e-2)
    second = finish(database_url, name="second", epochs=1, lr=0.0, checkpoint="first:last")
    assert second.val_loss == pytest.approx(first.val_loss)
    with pytest.raises(
        UserError, match=r"--checkpoint first: its network has gnn layers 1, this one 2: give"
    ):
        train(database_url, request(name="third", gnn_layers=2, checkpoint="first"))
    with pytest.raises(UserError, match="take its encoders and --targets"):
        train(database_url, request(name="third", pair_encoder=trained.POOLED, checkpoint="first"))
    with pytest.raises(UserError, match="no run 'third'"):
        find_run(database, "third")


def test_units_that_go_away_meanwhile_are_named(database: Database, database_url: str) -> None:
    def watch(moment: Moment) -> None:
        if moment.step == 2:
            database.execute("DELETE FROM subgraph")

    with pytest.raises(UserError, match=r"mini-000"):
        train(database_url, request(name="gone"), watch=watch)
    assert find_run(database, "gone").status == "failed"


def test_a_run_outlives_its_connections(database: Database, database_url: str) -> None:
    def watch(moment: Moment) -> None:
        if moment.step == 1 and moment.part == "train":
            database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )

    finish(database_url, name="unbroken")
    train(database_url, request(name="cut"), watch=watch)
    assert figures(database, "cut") == figures(database, "unbroken")


@pytest.mark.parametrize(
    ("pair_encoder", "targets"),
    [(trained.POOLED, None), (trained.TOKENS, None), (trained.TOKENS, "pooled"), (None, "classes")],
)
def test_all_targets_can_be_learnt(
    pair_encoder: str | None, targets: str | None, database: Database, database_url: str
) -> None:
    finish(database_url, name="any", epochs=1, pair_encoder=pair_encoder, targets=targets)
    run = find_run(database, "any")
    network = load_network(database, run, find_checkpoint(database, run, "last"))
    assert all(torch.isfinite(weight).all() for weight in network.state_dict().values())


def test_a_run_of_half_precision_goes_on_too(database: Database, database_url: str) -> None:
    finish(database_url, name="unbroken", precision="bf16")
    train(database_url, request(name="broken", precision="bf16"), watch=interrupting(3))
    resume(database_url, "broken")
    assert figures(database, "broken") == figures(database, "unbroken")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"encoder": "nobody"}, "nobody"),
        ({"checkpoint": "nobody"}, "no run 'nobody'"),
        ({"name": "a:b"}, "a:b"),
        ({"instance_points": 4000}, "4000"),
        ({"conduct": Conduct(gpus=99)}, "--gpus 99: this machine has"),
        ({"conduct": Conduct(devices=("cpu", "cpu")), "norm": "batch"}, "--norm batch shares its statistics"),
        ({"conduct": Conduct(checkpoints_in=Path("/dev/null/in"))}, "/dev/null/in: cannot be written"),
        ({"pair_encoder": "toycaptions"}, "--pairs --pair-encoder toycaptions --dataset 3rscan` first"),
        ({"pair_encoder": "toypixels"}, "toypixels has no features of pairs: take another"),
        ({"conduct": Conduct(gpus=0), "precision": "fp16"}, "--precision fp16 is for GPUs"),
        ({"conduct": Conduct(gpus=0, logger="mlflow")}, "--logger mlflow needs a package: pip install"),
    ],
)
def test_what_cannot_be_is_told_before_there_is_a_run(
    given: dict[str, Any], told: str, database: Database, database_url: str
) -> None:
    if told.startswith("--logger") and find_spec("mlflow") is not None:
        pytest.skip("mlflow is installed")
    before = row_counts(database)
    with pytest.raises(UserError) as refused:
        train(database_url, request(**given))
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert row_counts(database) == before


def test_ten_units_are_learnt_by_heart(database: Database, database_url: str) -> None:
    summary = finish(database_url, name="mini", mini=True, epochs=12, lr=1e-2)
    assert summary.units["train"] == summary.units["validation"]
    assert summary.val_loss is not None
    losses = figures(database, "mini")
    assert summary.val_loss < 0.5 * losses["train/loss", 1]


def test_a_finished_run_and_one_at_work_are_not_gone_on_with(database: Database, database_url: str) -> None:
    told: list[str] = []

    def watch(moment: Moment) -> None:
        if not told:
            with pytest.raises(UserError) as refused:
                resume(database_url, "busy")
            told.append(str(refused.value))

    asked = request(name="busy", epochs=1)
    train(database_url, asked, watch=watch)
    assert "is being trained by another process" in told[0]
    with pytest.raises(UserError, match="is finished: `open3dsg train --checkpoint busy`"):
        resume(database_url, "busy")
    with pytest.raises(UserError, match="there is a run 'busy' already"):
        train(database_url, replace(asked, options=asked.options))
