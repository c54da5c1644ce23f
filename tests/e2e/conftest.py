"""Rooms through the whole pipeline, by the installed command, once for all tests that look at the outcome."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from open3dsg.db.migrate import migrate
from tests import checks
from tests.conftest import as_url
from tests.embedded import short_folder

COMMAND = str(Path(sys.executable).with_name("open3dsg"))


@dataclass(frozen=True)
class Store:
    """A database filled by the command line, and the folder its rooms are in."""

    url: str
    rooms: Path

    def run(self, *arguments: str) -> str:
        """Run `open3dsg` on the store and return what it prints."""
        return run(self.url, *arguments)


def run(url: str, *arguments: str) -> str:
    environment = {**os.environ, "OPEN3DSG_DATABASE_URL": url}
    done = subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fill(url: str, folder: Path, *, scans: int, seed: int) -> Store:
    store = Store(url, folder / "rooms")
    store.run("data", "synth", str(store.rooms), "--scans", str(scans), "--seed", str(seed))
    store.run("ingest", "3rscan", str(store.rooms), "--dataset", "rooms")
    store.run("observe")
    store.run("graph", "build")
    # Ten frames of a room are observed: what one of them shows is embedded as well.
    store.run("features", "dump", "--nodes", "--encoder", "rooms", "--min-frames", "1")
    return store


@pytest.fixture(scope="session")
def rooms_store(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three rooms of seeds that the encoder never saw."""
    url = as_url(new_database("rooms_store"))
    migrate(url)
    return fill(url, tmp_path_factory.mktemp("rooms"), scans=3, seed=7)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short empty folder open to all; embedded servers below it are stopped at the end."""
    with short_folder() as path:
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def healthy_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("healthy")
    checks.write_healthy(root)
    return root


@pytest.fixture
def healthy(healthy_template: Path, tmp_path: Path) -> Path:
    """A 3RScan root in which a preflight finds nothing, to be spoiled."""
    to = tmp_path / "räume 2 'b'"
    return Path(shutil.copytree(healthy_template, to, copy_function=shutil.copyfile))
