"""Checkpoints of runs: in the database in parts, or as files that the database knows by hash."""

from __future__ import annotations

import hashlib
import math
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError
from open3dsg.store.checkpoint_files import locate, place, rows_and_files, run_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from psycopg import Connection

    from open3dsg.store.runs import StoredRun

PART_BYTES = 8 << 20


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint of a run: among its best, the last, or both.

    `epoch` whole epochs and `position` units of the next one were trained on; `digest` is the SHA-256 of its
    `size` bytes; `uri` the file, None where the bytes are in the database.
    """

    checkpoint_id: int
    run_id: int
    step: int
    epoch: int
    position: int
    val_loss: float | None
    is_last: bool
    size: int
    digest: str
    uri: str | None


def save_checkpoint(
    connection: Connection[Any],
    run_id: int,
    file: Path,
    *,
    step: int,
    epoch: int,
    position: int,
    val_loss: float | None,
    keep: int,
    folder: Path | None,
) -> StoredCheckpoint:
    """Keep `file` as the last checkpoint; drop the former last one, and all beyond the `keep` best.

    The best have the smallest `val_loss`; one without, or with none that is finite, is no best. An earlier
    one of the same step is replaced; where the new one has no `val_loss`, that of the earlier stays. With
    `folder` the file is moved into a folder of the run there; without it is left for the caller to remove.
    It is all one transaction: cut off, everything is as before, and `file` is still there to be saved once
    more; do not write to it, for it may be kept by then. Call it within `run_lock`.

    Raises UserError where the folder cannot be written, and where the run was deleted meanwhile.
    """
    name, started_at = _named(connection, run_id)
    home = None if folder is None else run_folder(folder, name, started_at)
    with rows_and_files(connection, run_id, home):
        earlier = execute(connection, "checkpoint_drop_same", {"run_id": run_id, "step": step}).fetchall()
        if val_loss is None or not math.isfinite(val_loss):
            val_loss = next((loss for (loss,) in earlier if loss is not None), None)
        execute(connection, "checkpoint_unset_last", {"run_id": run_id})
        digest = _digest(file)
        target = None if home is None else home / f"step-{step}-{digest[:8]}.ckpt"
        uri, size = None if target is None else target.as_uri(), file.stat().st_size
        new = StoredCheckpoint(0, run_id, step, epoch, position, val_loss, True, size, digest, uri)
        new = replace(new, checkpoint_id=fetch_value(connection, "checkpoint_add", asdict(new)))
        if target is None:
            _copy_in(connection, new, file)
        else:
            place(file, target)
        execute(connection, "checkpoint_drop_worse", {"run_id": run_id, "keep": keep})
    if target is not None:
        file.unlink()
    return new


def list_checkpoints(connection: Connection[Any], run: StoredRun) -> list[StoredCheckpoint]:
    """Return the checkpoints of a run by step."""
    return [StoredCheckpoint(*row) for row in execute(connection, "checkpoint_list", {"run_id": run.run_id})]


def lost_files(connection: Connection[Any], run: StoredRun) -> list[str]:
    """Return the URIs of a run's checkpoints whose files are gone, or lie on another machine."""
    uris = (kept.uri for kept in list_checkpoints(connection, run))
    return [uri for uri in uris if uri is not None and locate(uri) is None]


def best_checkpoint(checkpoints: Iterable[StoredCheckpoint]) -> StoredCheckpoint | None:
    """Return the one with the smallest validation loss, of equal ones the first; None where none has one."""
    judged = ((kept.val_loss, kept.step, kept) for kept in checkpoints if kept.val_loss is not None)
    return min(judged, key=lambda each: each[:2], default=(None, None, None))[2]


def find_checkpoint(connection: Connection[Any], run: StoredRun, text: str) -> StoredCheckpoint:
    """Return the checkpoint that `text` means: ``best``, ``last``, or its step.

    Raises UserError, naming those there are, where there is none.
    """
    there = list_checkpoints(connection, run)
    named = {"last" if text == "last" and kept.is_last else str(kept.step): kept for kept in there}
    found = best_checkpoint(there) if text == "best" else named.get(text)
    if found is not None:
        return found
    steps = ", ".join(f"{kept.step} (last)" if kept.is_last else str(kept.step) for kept in there)
    held = f"it has those of the steps {steps}" if there else "it has none yet"
    why = ", for it was not validated yet" if there and text == "best" else ""
    raise UserError(f"the run {run.name!r} has no checkpoint {text!r}{why}; {held}")


@contextmanager
def checkpoint_file(connection: Connection[Any], checkpoint: StoredCheckpoint) -> Iterator[Path]:
    """Give a file with the bytes of a checkpoint, there only meanwhile, not to be written to.

    Raises UserError, which names run and step, where they are gone or are not those that were saved.
    """
    if checkpoint.uri is not None:
        path = locate(checkpoint.uri)
        if path is None:
            raise _useless(connection, checkpoint, f"its file {checkpoint.uri} is not there")
        if _digest(path) != checkpoint.digest:
            raise _useless(connection, checkpoint, f"{path} is damaged: its SHA-256 is another")
        yield path
        return
    with TemporaryDirectory(prefix="open3dsg-") as folder:
        path = Path(folder) / f"step-{checkpoint.step}.ckpt"
        if _copy_out(connection, checkpoint, path) != checkpoint.digest:
            raise _useless(connection, checkpoint, "its bytes in the database are gone or damaged")
        yield path


def _useless(connection: Connection[Any], checkpoint: StoredCheckpoint, why: str) -> UserError:
    name, _ = _named(connection, checkpoint.run_id)
    return UserError(
        f"the checkpoint of step {checkpoint.step} of the run {name!r} cannot be used: {why};"
        f" `open3dsg runs show {name}` lists the others"
    )


def _named(connection: Connection[Any], run_id: int) -> tuple[str, datetime]:
    """Return the name of a run and when it began; UserError where it was deleted."""
    row = execute(connection, "run_named", {"run_id": run_id}).fetchone()
    if row is None:
        raise UserError("the run was deleted meanwhile: its checkpoints are gone")
    return row[0], row[1]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _copy_in(connection: Connection[Any], checkpoint: StoredCheckpoint, file: Path) -> None:
    """Write the bytes of `file`, of which one part at a time is in memory."""
    columns = {"checkpoint_id": "int8", "part_no": "int4", "data": "bytea"}
    with file.open("rb") as opened:
        parts = enumerate(iter(partial(opened.read, PART_BYTES), b""))
        copy_in(
            connection,
            "checkpoint_part",
            columns,
            ((checkpoint.checkpoint_id, number, data) for number, data in parts),
        )


def _copy_out(connection: Connection[Any], checkpoint: StoredCheckpoint, path: Path) -> str:
    """Write the parts in the database to `path`, and return the SHA-256 of what was there."""
    digest = hashlib.sha256()
    key = {"checkpoint_id": checkpoint.checkpoint_id}
    with path.open("wb") as file:
        for number in range(math.ceil(checkpoint.size / PART_BYTES)):
            row = execute(connection, "checkpoint_part", {**key, "part_no": number}, binary=True).fetchone()
            if row is None:
                break
            digest.update(row[0])
            file.write(row[0])
    return digest.hexdigest()
