"""What tests share that kill steps and workers: runs that nothing disturbed, waiting, and killing."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests import miniature as mini
from tests.command import DUMP, GRAPH, OBSERVE, call
from tests.conftest import as_url
from tests.content import Rows, content

PATIENCE_S = 60


@dataclass(frozen=True)
class Stage:
    """A step, the database it starts from, and all that is there before and after an undisturbed run."""

    step: str
    command: tuple[object, ...]
    template: str
    start: Mapping[str, Rows]
    clean: Mapping[str, Rows]


def run_undisturbed(
    variables: Mapping[str, str],
    new_database: Callable[..., str],
    template: str,
    root: Path,
    names: Sequence[str],
    crowded: str | None = None,
) -> dict[str, Stage]:
    """Write scans below `root` and run the steps, each on a copy of what is there by then.

    The features are those of a `crowd` where a scan is to be `crowded`.
    """
    for name in names:
        mini.write_scan(root, name)
    mini.write_annotations(root, *(mini.subgraph(scan=name) for name in names))
    found: dict[str, Stage] = {}
    steps = {"ingest": ("ingest", "3rscan", root), "observe": OBSERVE, "graph": GRAPH, "features": DUMP}
    for step, command in steps.items():
        database = f"after_{step}_of_{len(names)}"
        url = as_url(new_database(database, template=template))
        if step == "features" and crowded is not None:
            with psycopg.connect(url) as connection:
                crowd(connection, crowded, 100)
        found[step] = run_stage(variables, url, step, command, template)
        template = database
    return found


def run_stage(
    variables: Mapping[str, str], url: str, step: str, command: tuple[object, ...], template: str
) -> Stage:
    """Run a step on the database at `url`, a copy of `template`."""
    with psycopg.connect(url) as connection:
        start = content(connection)
    done = call({**variables, "OPEN3DSG_DATABASE_URL": url}, *command)
    assert done.code == 0, done.err
    with psycopg.connect(url) as connection:
        return Stage(step, command, template, start, content(connection))


def crowd(database: psycopg.Connection[Any], scan: str, copies: int) -> None:
    """Give a scan so many more instances, each seen as its table is: more than a chunk of features holds."""
    for table in ("instance", "observation"):
        database.execute(
            f"INSERT INTO {table}"
            " SELECT (jsonb_populate_record(t, jsonb_build_object('instance_no', 100 + n))).*"
            f" FROM {table} t JOIN scan USING (scan_id), generate_series(1, %s) AS n"
            " WHERE name = %s AND instance_no = 4".encode(),
            [copies, scan],
        )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that a process started and that live; none where it has ended."""
    if process.poll() is not None:
        return []
    children: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return children


def kill_those_at_work(process: subprocess.Popen[str]) -> None:
    """Kill the processes in which a command or a worker has its items done."""
    for child in family(process):
        with suppress(psutil.NoSuchProcess):  # once one is killed, its parent ends the others
            if any("spawn_main" in word for word in child.cmdline()):
                child.kill()


def check_gone(processes: Sequence[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, timeout=PATIENCE_S)[1] == [], "orphans"
