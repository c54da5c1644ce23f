"""Embedded servers of a test's own, in short folders: the path of a socket has a limit."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from open3dsg.db.server import EmbeddedServer

FAST = {"fsync": "off", "shared_buffers": "32MB"}


def variables(home: Path) -> dict[str, str]:
    """Return the variables of a command whose embedded server is in `home`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPEN3DSG_", "XDG_", "PG"))}
    return kept | {"HOME": str(home), "OPEN3DSG_HOME": str(home)}


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give an empty folder; the servers below it are stopped, and all of it is removed, at the end."""
    path = Path(tempfile.mkdtemp(prefix="o3-", dir="/tmp"))
    try:
        yield path
    finally:
        for data_folder in path.rglob("postgres-[0-9][0-9]"):
            EmbeddedServer(data_folder.parent, int(data_folder.name[-2:])).stop()
        shutil.rmtree(path)


def server_in(
    home: Path,
    version: int = 18,
    settings: Mapping[str, str] = FAST,
    say: Callable[[str], None] = lambda _text: None,
) -> EmbeddedServer:
    """Return the server of a folder, stopped or not; it says nothing and syncs nothing."""
    return EmbeddedServer(home, version, settings, say=say)
