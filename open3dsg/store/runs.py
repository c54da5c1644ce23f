"""Training runs as rows: what each learns, how far it is, and its losses."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError
from open3dsg.store.checkpoint_files import rows_and_files, run_folder
from open3dsg.store.encoders import StoredEncoder
from open3dsg.store.revision import code_revision
from open3dsg.store.run_names import check_run_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from psycopg import Connection


@dataclass(frozen=True)
class NewRun:
    """What is known of a run when it begins.

    `options` are those of `RunOptions.as_json`, and whatever else is to be kept; `targets` one of
    `open3dsg.training.options.TARGETS`; `units` is {part: {dataset/scan: [subgraph, ...]}}.
    """

    name: str
    options: Mapping[str, Any]
    node_encoder_id: int
    relation_encoder_id: int | None
    words_encoder_id: int | None
    targets: str
    predicates: Sequence[str] | None
    units: Mapping[str, Mapping[str, Sequence[int]]]
    manifest: str


@dataclass(frozen=True)
class StoredRun:
    """A run of the store.

    `status` is running, stopped, finished, failed, or interrupted: its row says running, but nobody holds its
    `run_lock`, since its process was killed.
    """

    run_id: int
    name: str
    status: str
    message: str | None
    options: Mapping[str, Any]
    node_encoder: StoredEncoder
    relation_encoder: StoredEncoder | None
    words_encoder: StoredEncoder | None
    targets: str
    predicates: tuple[str, ...] | None
    manifest: str
    code_revision: str
    step: int
    epoch: int
    started_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class RunLine:
    """A run in a list; `dataset` names several with spaces between, encoders are `name@revision`."""

    name: str
    status: str
    dataset: str | None
    encoder: str
    relation_encoder: str | None
    targets: str
    step: int
    epoch: int
    best_val_loss: float | None
    checkpoints: int
    predictions: int
    started_at: datetime
    updated_at: datetime


class Metric(NamedTuple):
    """A figure of a run after an optimizer step."""

    name: str
    step: int
    epoch: int
    value: float


class RunContent(NamedTuple):
    """How many rows go with a run."""

    checkpoints: int
    predictions: int
    evaluations: int


def create_run(connection: Connection[Any], new: NewRun) -> StoredRun:
    """Add a run, running, of the present code revision; UserError for a name that is taken or can be none."""
    row = {
        "name": check_run_name(new.name),
        "options": Jsonb(dict(new.options)),
        "node_encoder_id": new.node_encoder_id,
        "relation_encoder_id": new.relation_encoder_id,
        "words_encoder_id": new.words_encoder_id,
        "targets": new.targets,
        "predicates": None if new.predicates is None else list(new.predicates),
        "units": Jsonb({part: dict(scans) for part, scans in new.units.items()}),
        "manifest": new.manifest,
        "code_revision": code_revision(),
    }
    if execute(connection, "run_add", row).rowcount == 0:
        raise UserError(
            f"there is a run {new.name!r} already: give another --name, or go on with it by"
            f" `open3dsg runs resume {new.name}`"
        )
    return find_run(connection, new.name)


def find_run(connection: Connection[Any], name: str) -> StoredRun:
    """Return the run; UserError, naming those called alike, where there is none."""
    row = execute(connection, "run_find", {"name": name}).fetchone()
    if row is None:
        close = difflib.get_close_matches(name, run_names(connection))
        hint = f"did you mean {', '.join(close)}?" if close else "`open3dsg runs list` shows what is there"
        raise UserError(f"no run {name!r} in the store; {hint}")
    run_id, name, status, message, options, targets, predicates, manifest, revision, *rest = row
    step, epoch, started_at, updated_at, *encoders = rest
    nodes, relations, words = (_encoder(connection, encoder_id) for encoder_id in encoders)
    if nodes is None:
        raise UserError(f"the run {name!r} was deleted meanwhile")
    return StoredRun(
        run_id=run_id,
        name=name,
        status=status,
        message=message,
        options=options,
        node_encoder=nodes,
        relation_encoder=relations,
        words_encoder=words,
        targets=targets,
        predicates=None if predicates is None else tuple(predicates),
        manifest=manifest,
        code_revision=revision,
        step=step,
        epoch=epoch,
        started_at=started_at,
        updated_at=updated_at,
    )


def _encoder(connection: Connection[Any], encoder_id: int | None) -> StoredEncoder | None:
    row = execute(connection, "run_encoder", {"encoder_id": encoder_id}).fetchone()
    return None if row is None else StoredEncoder(*row)


def run_names(connection: Connection[Any]) -> list[str]:
    """Return the names of all runs, the newest last."""
    return [name for (name,) in execute(connection, "run_names")]


def list_runs(connection: Connection[Any]) -> list[RunLine]:
    """Return all runs, the newest last."""
    return [RunLine(*row) for row in execute(connection, "run_lines")]


def run_units(connection: Connection[Any], run: StoredRun) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """Return what a run trains and validates on: {part: {dataset/scan: [subgraph, ...]}}."""
    units: Mapping[str, Mapping[str, Sequence[int]]] = fetch_value(
        connection, "run_units", {"run_id": run.run_id}
    )
    return units


def set_run(
    connection: Connection[Any],
    run_id: int,
    *,
    status: str,
    message: str | None = None,
    step: int,
    epoch: int,
) -> None:
    """Note how far a run is, and why it stopped or failed; UserError where the run was deleted meanwhile."""
    row = {"run_id": run_id, "status": status, "message": message, "step": step, "epoch": epoch}
    if execute(connection, "run_set", row).rowcount == 0:
        raise UserError("the run was deleted while it was being trained: nothing of it is kept")


def add_metrics(
    connection: Connection[Any], run_id: int, rows: Sequence[tuple[str, int, int, float]]
) -> None:
    """Keep figures (name, step, epoch, value); those of the same name and step are replaced."""
    names, steps, epochs, values = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
    told = {"run_id": run_id, "names": names, "steps": steps, "epochs": epochs, "values": values}
    execute(connection, "run_metrics_add", told)


def read_metrics(
    connection: Connection[Any],
    run_id: int,
    names: Collection[str] | None = None,
    points: int | None = None,
) -> list[Metric]:
    """Return the figures of a run, by name and step; only those of `names`, if given.

    With `points` at most so many of each: where there are more, means of neighbours, of which those that are
    not finite are left out. What is not finite is NaN.
    """
    asked = {"run_id": run_id, "names": None if names is None else list(names), "points": points}
    return [Metric(*row) for row in execute(connection, "run_metrics", asked)]


def run_content(connection: Connection[Any], run: StoredRun) -> RunContent:
    """Return how much would go with a run."""
    counts = execute(connection, "run_counts", {"run_id": run.run_id}).fetchone()
    return RunContent(*(counts or (0, 0, 0)))


def delete_run(connection: Connection[Any], run: StoredRun) -> RunContent:
    """Delete a run with its checkpoints, their files, its predictions and evaluations; return how many each.

    UserError, and nothing is deleted, where it is being trained at this moment.
    """
    key = {"run_id": run.run_id}
    folder = run.options.get("conduct", {}).get("checkpoints_in")  # which may hold one that was cut off
    home = None if folder is None else run_folder(Path(folder), run.name, run.started_at)
    with run_lock(connection, run.name), rows_and_files(connection, run.run_id, home):
        counts = run_content(connection, run)
        execute(connection, "run_hold_predictions", key)
        execute(connection, "run_delete", key)
    return counts


def runs_of_encoder(connection: Connection[Any], encoder: StoredEncoder) -> list[str]:
    """Return the names of the runs that learn from an encoder, or are compared with its words."""
    return [name for (name,) in execute(connection, "runs_of_encoder", {"encoder_id": encoder.encoder_id})]


@contextmanager
def run_lock(connection: Connection[Any], name: str) -> Iterator[None]:
    """Keep others from training, or deleting, the run `name` meanwhile; UserError where somebody does so.

    The lock belongs to the session of `connection`: the server lets go of it when its process dies. The run
    need not exist yet. The connection must commit by itself: ValueError where it does not.
    """
    if not connection.autocommit:
        raise ValueError("a run is locked on a connection with autocommit, such as open_store gives")
    if fetch_value(connection, "run_lock", {"name": name}) is not True:
        raise UserError(f"the run {name!r} is being trained by another process: stop that first")
    try:
        yield
    finally:
        if not connection.closed:
            execute(connection, "run_unlock", {"name": name})
