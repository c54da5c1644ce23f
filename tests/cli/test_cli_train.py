"""`open3dsg train` as a user types it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.store.runs import find_run
from tests.command import Done
from tests.conftest import as_url
from tests.db import trained
from tests.db.training_runs import fill

TRAIN = (
    "train",
    "--dataset",
    trained.DATASET,
    "--encoder",
    trained.NODES,
    "--pair-encoder",
    trained.CAPTIONS,
)
SMALL = (
    *(
        "--preset",
        "small",
        "--gconv-dim",
        16,
        "--hidden-dim",
        16,
        "--instance-points",
        16,
        "--pair-points",
        32,
    ),
    *("--epochs", 2, "--workers", 0, "--gpus", 0),
)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str], template: str) -> Path:
    """The folder of the toy encoders; the database `cli_trainable` is filled by them."""
    return fill(as_url(new_database("cli_trainable", template=template)), tmp_path_factory.mktemp("store"))


@pytest.fixture
def database_url(toys: Path, new_database: Callable[..., str]) -> str:
    """The URL of a filled database of the test's own."""
    return as_url(new_database("cli_trainable_clone", template="cli_trainable"))


@pytest.fixture
def variables(variables: dict[str, str], toys: Path) -> dict[str, str]:
    path = f"{toys}{os.pathsep}{variables['PYTHONPATH']}"
    return variables | {"PYTHONPATH": path, "OPEN3DSG_ENCODERS": trained.SETTINGS, "OMP_NUM_THREADS": "1"}


def test_a_run_is_trained_and_told_of(
    run: Callable[..., Done], database: psycopg.Connection[Any], tmp_path: Path
) -> None:
    done = run(*TRAIN, *SMALL, "--name", "told", "--checkpoints-in", tmp_path / "kept")
    assert done.code == 0, done.err
    lines = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert lines["run"] == "told"
    assert lines["status"] == "finished"
    assert lines["steps"].endswith("in 2 epochs")
    assert "epoch 2/2 validation: 2/2, loss " in done.err
    assert find_run(database, "told").status == "finished"
    assert list((tmp_path / "kept").rglob("*.ckpt"))


def test_a_run_has_a_name_and_json(run: Callable[..., Done], database: psycopg.Connection[Any]) -> None:
    told = run(*TRAIN, *SMALL, "--mini", "--json", "--logger", "tensorboard").json
    kept = find_run(database, told["run"])
    assert told["units"] == {"train": 4, "validation": 4}
    assert kept.options["mini"]
    assert kept.options["network"]["gconv_dim"] == 16
    logs = Path(kept.options["conduct"]["logs_in"])
    assert list((logs / told["run"]).glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--split", "test"), "test"),
        (("--lr", "nan"), "nan is not a finite number"),
        (("--lr", "1e38"), "1e38 is more than single precision reckons with"),
    ],
)
def test_what_cannot_be_is_refused(given: tuple[str, ...], told: str, refused: Callable[..., str]) -> None:
    assert told in refused(*TRAIN, *SMALL, *given)


def test_a_run_that_goes_on_says_so(run: Callable[..., Done]) -> None:
    assert "no run 'nobody'" in run("runs", "resume", "nobody").err
    run(*TRAIN, *SMALL, "--name", "done")
    assert "is finished" in run("runs", "resume", "done").err
