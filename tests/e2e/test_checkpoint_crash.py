"""A process that is killed while it saves checkpoints leaves whole ones, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.store.checkpoints import checkpoint_file, list_checkpoints, save_checkpoint
from open3dsg.store.runs import delete_run, find_run, run_lock
from tests.command import CHECKOUT
from tests.crash import wait_for
from tests.db.made_runs import make_run

# Saves one after the other, each a little better than the one before, as far as it gets.
TRAINER = """
import itertools, sys
from pathlib import Path
from open3dsg.db.connect import connect
from open3dsg.store.checkpoints import list_checkpoints, save_checkpoint
from open3dsg.store.runs import find_run, run_lock

url, folder, scratch = sys.argv[1:]
with connect(url) as connection:
    connection.autocommit = True
    with run_lock(connection, "killed"):
        run = find_run(connection, "killed")
        start = max((kept.step for kept in list_checkpoints(connection, run)), default=0)
        for step in itertools.count(start + 1):
            file = Path(scratch)
            file.unlink(missing_ok=True)
            file.write_bytes(step.to_bytes(4, "big") * 5_000_000)
            save_checkpoint(
                connection, run.run_id, file, step=step, epoch=0, position=step, val_loss=1 / step,
                keep=2, folder=Path(folder) if folder else None,
            )
"""
KILLS = 4


@pytest.mark.parametrize("in_files", [False, True])
def test_killed_again_and_again(
    database: psycopg.Connection[Any], database_url: str, tmp_path: Path, in_files: bool
) -> None:
    run = make_run(database, "killed")
    folder = tmp_path / "kept" if in_files else None
    arguments = (database_url, str(folder or ""), str(tmp_path / "scratch"))
    delays = random.Random(7)
    for _ in range(KILLS):
        wanted = newest(database) + 2
        trainer = subprocess.Popen([sys.executable, "-c", TRAINER, *arguments], cwd=CHECKOUT)
        wait_for(partial(is_at, database, wanted))
        time.sleep(delays.uniform(0, 0.3))
        trainer.kill()
        trainer.wait()
        wait_for(lambda: find_run(database, "killed").status == "interrupted")
        kept = list_checkpoints(database, run)
        assert [checkpoint.is_last for checkpoint in kept] == [False, True]
        for checkpoint in kept:
            with checkpoint_file(database, checkpoint) as path:
                assert path.read_bytes()[:4] == checkpoint.step.to_bytes(4, "big")
    _check_no_leftovers(database, folder)
    with run_lock(database, "killed"):
        (tmp_path / "scratch").unlink(missing_ok=True)
        (tmp_path / "scratch").write_bytes(b"x")
        chosen: dict[str, Any] = {"val_loss": None, "keep": 2, "folder": folder}
        save_checkpoint(database, run.run_id, tmp_path / "scratch", step=10**6, epoch=0, position=0, **chosen)
    assert len(files(folder)) == (3 if in_files else 0), "what was pending is cleared up"
    delete_run(database, run)
    assert files(folder) == []


def is_at(database: psycopg.Connection[Any], step: int) -> bool:
    return newest(database) >= step


def newest(database: psycopg.Connection[Any]) -> int:
    (step,) = database.execute("SELECT coalesce(max(step), 0) FROM checkpoint").fetchone() or (0,)
    return int(step)


def _check_no_leftovers(database: psycopg.Connection[Any], folder: Path | None) -> None:
    (strays,) = database.execute(
        "SELECT count(*) FROM checkpoint_part p WHERE NOT EXISTS"
        " (SELECT FROM checkpoint c WHERE c.checkpoint_id = p.checkpoint_id AND c.uri IS NULL)"
    ).fetchone() or (None,)
    assert strays == 0
    assert all(path.suffix in (".ckpt", ".pending") for path in files(folder))


def files(folder: Path | None) -> list[Path]:
    return [] if folder is None else [path for path in folder.rglob("*") if path.is_file()]
