"""Checkpoints outside the database: files that come and go with their rows, whenever a process is killed.

A file whose fate hangs on a transaction is called `...pending`: a new one before the commit, one to be
deleted as well. Afterwards, or when the run is next saved, the rows say which of them stay. A file that is
still being written is called `unfinished`: the run's next save writes over it.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from open3dsg.db.queries import execute
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from psycopg import Connection

_PENDING = ".pending"
_UNFINISHED = "unfinished"


@contextmanager
def rows_and_files(connection: Connection[Any], run_id: int, folder: Path | None = None) -> Iterator[None]:
    """Open a transaction; files whose rows it deletes go with it, those that `place` put into `folder` stay.

    Raises UserError where they cannot be moved; then the rows stay too.
    """
    before = _files(connection, run_id)
    try:
        with connection.transaction():
            yield
            for path in before - _files(connection, run_id):
                _set_aside(path)
    finally:
        folders = {path.parent for path in before} | ({folder} if folder else set())
        if folders and not connection.closed:
            _settle(folders, _files(connection, run_id))


def run_folder(folder: Path, name: str, started_at: datetime) -> Path:
    """Return where the files of a run lie in `folder`: another store's run of that name has another."""
    return folder.absolute() / f"{name}-{started_at.astimezone(UTC):%Y%m%dT%H%M%S%f}"


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Give a file in the folder of a run to write a checkpoint to; it is gone afterwards.

    On the disk where the checkpoint is to lie, it is moved, not copied. Call it within `run_lock`: what a
    killed process left is written over. Raises UserError where the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
    file = folder / _UNFINISHED
    try:
        yield file
    finally:
        _leave(folder)


def place(file: Path, target: Path) -> None:
    """Make `file` be `target` too, once its row is committed; UserError where that cannot be written.

    `file` stays, for the save may have to be done again. On one disk both are one file, nothing is copied.
    """
    pending = _pending(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pending.unlink(missing_ok=True)  # of a save whose connection broke
        try:
            os.link(file, pending)
        except OSError:  # another disk, or one without links
            shutil.copyfile(file, pending)
        _to_disk(pending)
        _to_disk(target.parent)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error


def locate(uri: str) -> Path | None:
    """Return the file of a URI, which may be about to get its name; None where it is gone."""
    path = _path(uri)
    return next((found for found in (path, _pending(path), path) if found.is_file()), None)


def _files(connection: Connection[Any], run_id: int) -> set[Path]:
    return {_path(uri) for (uri,) in execute(connection, "checkpoint_uris", {"run_id": run_id})}


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))


def _pending(path: Path) -> Path:
    return path.with_name(path.name + _PENDING)


def _set_aside(path: Path) -> None:
    try:
        os.replace(path, _pending(path))
    except FileNotFoundError:
        pass  # someone was faster, or it lies on another machine
    except OSError as error:
        raise UserError(f"{path}: cannot be deleted: {error.strerror}") from error


def _settle(folders: Collection[Path], kept: Collection[Path]) -> None:
    """Give the files that have a row their names, and delete the others that were pending."""
    for folder in folders:
        try:
            for pending in folder.glob(f"*{_PENDING}"):
                path = pending.with_name(pending.name.removesuffix(_PENDING))
                if path in kept:
                    os.replace(pending, path)
                else:
                    pending.unlink(missing_ok=True)
            if not any(path.parent == folder for path in kept):
                _leave(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be cleared up: {error.strerror}") from error


def _leave(folder: Path) -> None:
    """Delete what is unfinished, and the folder where it holds nothing else."""
    if folder.is_dir():
        (folder / _UNFINISHED).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _to_disk(path: Path) -> None:
    """Wait until the file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
