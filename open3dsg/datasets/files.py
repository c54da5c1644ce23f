"""Files and folders that change while they are read, since they are copied and fetched, or cannot be read."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from open3dsg.errors import BadFileError, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def readable() -> Iterator[None]:
    """Raise BadFileError where the system refuses a look at a file or folder within the block."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise BadFileError(f"{error.filename}: cannot be read: {error.strerror}") from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; BadFileError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def unchanged(scan: str, *places: Path) -> Iterator[None]:
    """Raise UserError where a file that `places` are or hold comes, goes or changes within the block.

    What was read of it would be half of two states. A BadFileError out of the block is told as such a change
    where there was one: a file that is still being copied looks damaged.
    """
    before = _states(places)
    try:
        with readable():
            yield
    except BadFileError:
        _check(scan, before, _states(places))
        raise
    _check(scan, before, _states(places))


def _check(scan: str, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> None:
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    if changed:
        others = f", as did {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{changed[0]}: changed while {scan} was read{others}:"
            " wait until all of its files are there, then run the same command again"
        )


def _states(places: tuple[Path, ...]) -> dict[str, tuple[int, int]]:
    """Return path -> (bytes, time of the last change in ns) of each file, at any depth."""
    states: dict[str, tuple[int, int]] = {}
    for path in _files(places):
        try:
            status = os.stat(path)
        except FileNotFoundError:  # gone since it was listed, or a link to nowhere
            continue
        states[path] = (status.st_size, status.st_mtime_ns)
    return states


def _files(places: tuple[Path, ...]) -> Iterator[str]:
    for place in places:
        if not place.is_dir():
            yield str(place)
        for folder, _folders, names in os.walk(place):
            yield from (os.path.join(folder, name) for name in names)
