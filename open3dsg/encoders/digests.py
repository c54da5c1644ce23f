"""Hashes of weight files, remembered on disk: reading 30 GB again at each start would take minutes.

What is remembered is a file's hash with its size and time of change; a file that changed is read again. The
memory is ``digests.json`` in the data folder. It may be deleted, damaged or impossible to write at any time:
then hashes are reckoned anew, which costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from open3dsg.errors import BadFileError
from open3dsg.settings import load_settings

NAME = "digests.json"
WORTH_BYTES = 1 << 20  # what is smaller is read faster than looked up
# File systems tell changes apart by ticks of up to two seconds; a file written since then may change unseen.
SETTLED_NS = 3_000_000_000


@cache
def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex, asked once a process: weights do not change under a running program.

    Raises BadFileError where it cannot be read.
    """
    try:
        real = path.resolve()
        state = real.stat()
        if state.st_size < WORTH_BYTES:
            return _hash(real)
        memory = load_settings().home / NAME
        known = _read(memory).get(str(real))
        if known is not None and known[:2] == [state.st_size, state.st_mtime_ns]:
            return str(known[2])
        digest = _hash(real)
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if abs(time.time_ns() - state.st_mtime_ns) > SETTLED_NS:
        _remember(memory, str(real), [state.st_size, state.st_mtime_ns, digest])
    return digest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(memory: Path) -> dict[str, list[int | str]]:
    """Return [size, time of change in ns, hash] by path; of what is damaged, what is still sound."""
    try:
        told = json.loads(memory.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return (
        {path: entry for path, entry in told.items() if _is_sound(entry)} if isinstance(told, Mapping) else {}
    )


def _is_sound(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and [type(value) for value in entry] == [int, int, str]
        and len(entry[2]) == hashlib.sha256().digest_size * 2
    )


def _remember(memory: Path, path: str, entry: list[int | str]) -> None:
    """Add an entry, and drop those of files that are gone.

    Of two processes that write at once one's entry may be lost, and is reckoned again; the file is whole.
    """
    with suppress(OSError):  # a full disk or a folder that is not ours: the memory is a convenience
        memory.parent.mkdir(parents=True, exist_ok=True)
        kept = {known: value for known, value in _read(memory).items() if os.path.exists(known)}
        handle, part = tempfile.mkstemp(prefix=f".{NAME}-", dir=memory.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({**kept, path: entry}, file, indent=1)
            os.replace(part, memory)
        except BaseException:
            os.unlink(part)
            raise
