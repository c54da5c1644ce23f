"""`open3dsg runs` through the installed command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from PIL import Image

from open3dsg.store.checkpoints import save_checkpoint
from open3dsg.store.runs import StoredRun, add_metrics, find_run, run_lock, set_run
from open3dsg.training.options import preset
from tests.command import Done
from tests.db.made_runs import add_evaluation, add_prediction, make_run

Run = Callable[..., Done]
Database = psycopg.Connection[Any]
METRICS = '{"object": {"recall": {"1": %s, "5": 0.9}, "chance": {"1": 0.1}, "head": {"recall": {"1": 0}}}}'


@pytest.fixture
def trained(database: Database, tmp_path: Path) -> StoredRun:
    """A run with checkpoints, one a file, losses, predictions and evaluations."""
    run = make_run(database, "warm-lamp-1")
    file = tmp_path / "new.ckpt"
    for step, loss, folder in ((10, 0.5, tmp_path / "kept"), (20, 0.25, None), (30, None, None)):
        file.write_bytes(bytes(1_500_000))
        save_checkpoint(
            database,
            run.run_id,
            file,
            step=step,
            epoch=step // 10,
            position=0,
            val_loss=loss,
            keep=5,
            folder=folder,
        )
        add_metrics(
            database, run.run_id, [("val/loss", step, 0, loss or float("nan")), ("lr", step, 0, 1e-3)]
        )
        add_metrics(database, run.run_id, [("train/loss", step, 0, 10 / step)])
    number = add_prediction(database, run, "student")
    add_evaluation(database, number, "strict", METRICS % 0.5)
    set_run(database, run.run_id, status="failed", message="loss is NaN", step=30, epoch=3)
    return find_run(database, run.name)


@pytest.fixture
def other(database: Database) -> StoredRun:
    options = preset("small").as_json()
    options["learning"]["lr"] = 0.5
    run = make_run(database, "cold-vase-2", options=options, manifest="fedcba9876543210")
    add_metrics(database, run.run_id, [("val/loss", 10, 0, 0.75)])
    number = add_prediction(database, run, "student")
    add_evaluation(database, number, "strict", METRICS % 0.25)
    return run


def lines(done: Done) -> list[list[str]]:
    assert done.code == 0, done.err
    return [line.split() for line in done.out.splitlines()]


def test_runs_are_listed(run: Run, trained: StoredRun, other: StoredRun) -> None:
    header, first, second = lines(run("runs", "list"))
    assert header[:4] == ["run", "status", "dataset", "encoder"]
    assert first[:9] == [
        "warm-lamp-1",
        "failed",
        "3rscan",
        "rooms",
        "seer@r1",
        "teller@r1",
        "30",
        "3",
        "0.25",
    ]
    assert second[:2] == ["cold-vase-2", "interrupted"]
    told = run("runs", "list", "--json").json
    assert [(line["name"], line["best_val_loss"]) for line in told] == [
        ("warm-lamp-1", 0.25),
        ("cold-vase-2", None),
    ]
    assert told[0]["checkpoints"] == 3


def test_one_is_shown_with_all_that_came_of_it(run: Run, trained: StoredRun) -> None:
    told = lines(run("runs", "show", "warm-lamp-1"))
    for line in (
        ["status", "failed:", "loss", "is", "NaN"],
        ["relation", "encoder", "teller@r1"],
        ["train", "3", "units", "of", "2", "scans"],
        ["validation", "1", "unit", "of", "1", "scan"],
        ["learning.lr", "0.001"],
        ["train/loss", "3", "0.3333", "0.3333", "30", "█▃▁"],
        ["20", "2", "0.25", "best", "1.5", "database"],
        ["30", "3", "last", "1.5", "database"],
        ["warm-lamp-1:student", "student", "0", "10", "1"],
        ["student", "strict", "object.recall.1", "0.5"],
    ):
        assert line in told
    assert not any("object.head" in word for line in told for word in line)
    assert any(line[-1].startswith("file:///") for line in told if line[:1] == ["10"])


def test_json_of_one_has_all(run: Run, trained: StoredRun) -> None:
    told = run("runs", "show", "warm-lamp-1", "--json").json
    assert told["encoder"] == "seer@r1"
    assert told["options"] == preset("small").as_json() | {
        "network": preset("small").as_json()["network"] | {"point_widths": [32, 64, 256]}
    }
    assert [kept["step"] for kept in told["checkpoints"]] == [10, 20, 30]
    (loss,) = (line for line in told["metrics"] if line["name"] == "val/loss")
    assert (loss["last"], loss["least"], loss["least_step"]) == (None, 0.25, 20)
    assert told["evaluations"][0]["metrics"]["object"]["head"] == {"recall": {"1": 0}}
    assert told["units"] == {"train": 3, "validation": 1}


def test_losses_are_drawn(run: Run, trained: StoredRun, other: StoredRun, tmp_path: Path) -> None:
    for name, command in (
        ("one.png", ("show", "warm-lamp-1")),
        ("two.png", ("compare", "warm-lamp-1", "cold-vase-2")),
    ):
        assert run("runs", *command, "--plot", tmp_path / name).code == 0
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 500


def test_two_are_compared(run: Run, trained: StoredRun, other: StoredRun) -> None:
    names = ("warm-lamp-1", "cold-vase-2")
    told = lines(run("runs", "compare", *names))
    assert told[0] == ["warm-lamp-1", "cold-vase-2"]
    for line in (
        ["status", "failed", "interrupted"],
        ["best", "val", "loss", "0.25"],
        ["learning.lr", "0.001", "0.5"],
        ["student", "strict", "object.recall.1", "0.5", "0.25"],
    ):
        assert line in told
    assert not any(line[0] == "learning.epochs" for line in told), "they are the same"
    found = run("runs", "compare", *names, "--json").json
    assert found["options"] == {"learning.lr": [0.001, 0.5]}
    figures = {each["figure"]: each["values"] for each in found["evaluations"]}
    assert figures["object.recall.1"] == [0.5, 0.25]
    assert figures["object.chance.1"] == [0.1, 0.1]
    assert [each["best_step"] for each in found["runs"]] == [20, None]


def test_a_run_is_deleted_with_its_files(
    run: Run, refused: Callable[..., str], trained: StoredRun, tmp_path: Path
) -> None:
    (file,) = (tmp_path / "kept").rglob("*.ckpt")
    what = "delete the run warm-lamp-1 with 3 checkpoints, 1 prediction, 1 evaluation"
    assert refused("runs", "delete", "warm-lamp-1") == (
        f"error: this would {what}: say --yes, there is no terminal to ask on"
    )
    assert file.exists()
    done = run("runs", "delete", "warm-lamp-1", "--yes", "--json").json
    assert done == {
        "run": "warm-lamp-1",
        "deleted": {"checkpoints": 3, "predictions": 1, "evaluations": 1},
    }
    assert not file.exists()
    assert run("runs", "list", "--json").json == []


def test_files_on_another_machine_are_named(run: Run, trained: StoredRun, tmp_path: Path) -> None:
    (file,) = (tmp_path / "kept").rglob("*.ckpt")
    file.unlink()
    done = run("runs", "delete", "warm-lamp-1", "--yes")
    assert done.code == 0
    assert done.err.strip() == f"warning: not on this machine, so not deleted: {file.as_uri()}"


def test_one_that_is_trained_now_is_not_deleted(
    refused: Callable[..., str], database: Database, trained: StoredRun
) -> None:
    with run_lock(database, "warm-lamp-1"):
        line = refused("runs", "delete", "warm-lamp-1", "--yes")
    assert line == "error: the run 'warm-lamp-1' is being trained by another process: stop that first"


def test_features_that_runs_were_trained_with_are_dropped_with_a_warning(
    run: Run, trained: StoredRun
) -> None:
    done = run("features", "drop", "seer", "--yes", "--json")
    assert done.json["encoder_gone"] is False
    assert done.err.splitlines()[0] == (
        "warning: of seer@r1 there are runs: warm-lamp-1; without the features that go none that learns from"
        " them can be resumed, and the encoder itself stays as long as the runs do"
    )
    assert run("runs", "delete", "warm-lamp-1", "--yes").code == 0
    done = run("features", "drop", "seer", "--yes", "--json")
    assert done.json["encoder_gone"] is True
    assert "warning" not in done.err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("show", "warm-lamb-1"), "no run 'warm-lamb-1' in the store; did you mean warm-lamp-1?"),
        (("delete", "x", "--yes"), "no run 'x' in the store; `open3dsg runs list` shows what is there"),
        (("resume", "x"), "no run 'x' in the store; `open3dsg runs list` shows what is there"),
        (("compare", "warm-lamp-1", "warm-lamp-1"), "runs compare: name two runs or more"),
        (("show", "warm-lamp-1", "--plot", "losses.txt"), "losses.txt: a plot is one of .png, .svg, .pdf"),
    ],
)
def test_a_slip_is_one_line(
    refused: Callable[..., str], trained: StoredRun, command: tuple[str, ...], told: str
) -> None:
    assert refused("runs", *command).startswith(f"error: {told}")
