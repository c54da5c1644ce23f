"""Training by the installed command: killed, stopped, and by several processes, it learns the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import psutil
import pytest

from open3dsg.db.connect import connect
from open3dsg.store.checkpoints import list_checkpoints
from open3dsg.store.runs import find_run, read_metrics
from tests.command import PROGRAM, call, environment
from tests.conftest import as_url
from tests.crash import wait_for
from tests.db import trained
from tests.db.pipeline import Database
from tests.db.training_runs import fill

SMALL = (
    *("--dataset", trained.DATASET, "--encoder", trained.NODES, "--pair-encoder", trained.CAPTIONS),
    *(
        "--preset",
        "small",
        "--gconv-dim",
        32,
        "--hidden-dim",
        32,
        "--instance-points",
        16,
        "--pair-points",
        32,
    ),
)
EPOCHS = 6
KILLS = 3

Figures = dict[tuple[str, int], float]
Variables = dict[str, str]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def variables(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., str], template: str
) -> Variables:
    """The variables of a command on a filled store, whose encoders it finds; it works on one core."""
    url = as_url(new_database("train_crash", template=template))
    toys = fill(url, tmp_path_factory.mktemp("store"))
    found = environment(tmp_path_factory.mktemp("command"), url)
    found["PYTHONPATH"] = f"{toys}{os.pathsep}{found['PYTHONPATH']}"
    return found | {"OPEN3DSG_ENCODERS": trained.SETTINGS, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def store(variables: Variables) -> Iterator[Database]:
    with connect(variables["OPEN3DSG_DATABASE_URL"]) as connection:
        connection.autocommit = True
        yield connection


def figures(store: Database, name: str) -> Figures:
    rows = read_metrics(store, find_run(store, name).run_id)
    return {(row.name, row.step): row.value for row in rows}


def steps(store: Database, name: str) -> int:
    """Return how far the last checkpoint of a run is; 0 where there is no run yet."""
    row = store.execute("SELECT step FROM run WHERE name = %s", [name]).fetchone()
    return 0 if row is None else int(str(row[0]))


def is_at(store: Database, name: str, step: int, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    return steps(store, name) >= step


def start(variables: Mapping[str, str], *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        env=variables,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_run_that_is_killed_again_and_again_learns_what_an_unbroken_one_does(
    variables: Variables, store: Database, tmp_path: Path
) -> None:
    chosen = (*SMALL, "--epochs", EPOCHS, "--batch-size", 1, "--augment", "--workers", 1)
    unbroken = call(variables, "train", *chosen, "--name", "unbroken", "--json").json
    moments = random.Random(3)
    kept = ("--every-steps", 1, "--checkpoints-in", tmp_path / "kept")
    command: tuple[object, ...] = ("train", *chosen, "--name", "killed", *kept)
    for _ in range(KILLS):
        wanted = steps(store, "killed") + moments.randint(2, 6)
        process = start(variables, *command)
        wait_for(partial(is_at, store, "killed", wanted, process))
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        process.communicate()
        command = ("runs", "resume", "killed")
    assert find_run(store, "killed").status == "interrupted"
    resumed = call(variables, *command, "--json").json
    assert resumed["status"] == unbroken["status"] == "finished"
    assert figures(store, "killed") == figures(store, "unbroken")
    for same in ("step", "epoch", "train_loss", "val_loss", "best_val_loss", "best_step"):
        assert resumed[same] == unbroken[same]
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(files) == len(list_checkpoints(store, find_run(store, "killed")))


def test_two_processes_learn_what_one_does_from_batches_of_both(
    variables: Variables, store: Database, tmp_path: Path
) -> None:
    """Three units to a batch of four: one process gets two, the other one, and of the last of five none."""
    chosen = (*SMALL, "--epochs", 2, "--split", "all", "--validation-split", "all", "--workers", 0)
    one = call(variables, "train", *chosen, "--name", "one", "--batch-size", 4, "--gpus", 0, "--json").json
    two = call(
        variables, "train", *chosen, "--name", "two", "--batch-size", 2, "--devices", "cpu,cpu", "--json"
    ).json
    assert two["step"] == one["step"]
    assert figures(store, "two") == pytest.approx(figures(store, "one"), rel=1e-3, abs=1e-5)
    torchrun = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"),
            *("--master-port", "29517", str(PROGRAM), "train", *map(str, chosen)),
            *("--name", "torchrun", "--batch-size", "2", "--gpus", "0"),
        ],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert torchrun.returncode == 0, torchrun.stderr
    assert torchrun.stdout.count("torchrun\n") == 1
    assert figures(store, "torchrun") == figures(store, "two")


def test_two_processes_stop_together_and_go_on_as_one(variables: Variables, store: Database) -> None:
    chosen = (*SMALL, "--epochs", 40, "--batch-size", 1, "--workers", 0, "--patience", 0)
    process = start(variables, "train", *chosen, "--name", "both", "--devices", "cpu,cpu", "--every-steps", 1)
    wait_for(partial(is_at, store, "both", 3, process))
    peers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "open3dsg runs resume both` goes on" in told
    assert "Traceback" not in told
    assert not any(peer.is_running() for peer in peers)
    assert find_run(store, "both").status == "stopped"
    resumed = call(variables, "runs", "resume", "both", "--devices", "cpu", "--json").json
    assert (resumed["status"], resumed["epoch"]) == ("finished", 40)


def test_a_process_that_dies_takes_the_others_along_in_one_line(
    variables: Variables, store: Database
) -> None:
    chosen = (*SMALL, "--epochs", 900, "--batch-size", 1, "--workers", 0, "--patience", 0)
    process = start(variables, "train", *chosen, "--name", "half", "--devices", "cpu,cpu", "--every-steps", 1)
    wait_for(partial(is_at, store, "half", 2, process))
    (peer,) = (
        child for child in psutil.Process(process.pid).children() if "peer" in " ".join(child.cmdline())
    )
    peer.kill()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    (line,) = (line for line in told.splitlines() if line.startswith("error: "))
    assert "process 1 of 2 died: SIGKILL" in line
    assert find_run(store, "half").status == "failed"
