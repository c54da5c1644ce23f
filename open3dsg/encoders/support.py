"""What the encoders have in common: loading their packages, checking pictures, unit rows, revisions."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray


def load_package(name: str, encoder: str, install: str) -> ModuleType:
    """Import the module `name`; where it, or a package it needs, is missing, say what to type.

    Raises UserError with `encoder`, the missing package and the `install` line.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise UserError(f"the {encoder} encoder needs the package {missing}: {install}") from error


def check_picture(picture: NDArray[np.uint8], called: str) -> None:
    """Raise ValueError naming `called` unless it is (height, width, 3) uint8, not empty."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != "uint8" or picture.size == 0:
        shape = f"{picture.shape} {picture.dtype}"
        raise ValueError(f"{called} is {shape}, expected (height, width, 3) uint8 with at least one pixel")


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale the rows of (n, d) to length 1. A row of zeros has no direction: it raises ValueError."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        raise ValueError(f"row {int(np.argmin(lengths > 0))} of the embeddings is zero or not a number")
    unit: NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit


@cache
def file_digest(path: Path) -> str:
    """SHA-256 of a file, hex, read once a process: weights do not change under a running program."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def revision_of(options: Mapping[str, Any], files: Sequence[Path]) -> str:
    """Return 16 hex digits that change with any byte of `files` and with any of `options` (JSON values)."""
    parts = [json.dumps(options, sort_keys=True), *(file_digest(path) for path in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
