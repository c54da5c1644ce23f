"""Disks under the embedded server: read-only, full, filled while it works."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.machines import NOBODY, as_root, mounted, owned, refused, run, started, user


@as_root
@pytest.mark.slow
def test_a_read_only_home(folder: Path) -> None:
    home = owned(folder / "home", NOBODY, 0o555)
    assert f"{home}" in refused(run(home, "db", "start", before=user(NOBODY)))
    started(run(folder / "full", "db", "start"))
    run(folder / "full", "db", "stop")
    with mounted(folder / "read only", "--bind", "-o", "ro", str(folder / "full")) as read_only:
        line = refused(run(read_only, "db", "start"))
    assert "Read-only file system: the data folder" in line
    assert "OPEN3DSG_HOME names another" in line


@as_root
@pytest.mark.slow
def test_a_full_disk_when_the_database_is_made(folder: Path) -> None:
    with mounted(folder / "small", "-t", "tmpfs", "-o", "size=24m", "tmpfs") as home:
        line = refused(run(home, "db", "start"))
        assert "No space left on device" in line
        assert "set OPEN3DSG_HOME to a folder on another disk" in line
        assert [path.name for path in home.iterdir()] == ["postgres-18.lock"]


@as_root
@pytest.mark.slow
def test_a_disk_that_fills_up_later(folder: Path) -> None:
    with mounted(folder / "small", "-t", "tmpfs", "-o", "size=250m", "tmpfs") as home:
        started(run(home, "db", "start"))
        run(home, "db", "psql", "--", "-qc", "CREATE TABLE kept AS SELECT 7 AS x")
        # A query meets the full disk: the server lives.
        fill = "CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"
        assert "No space left" in run(home, "db", "psql", "--", "-c", fill).err
        run(home, "db", "stop")
        before = {path: path.read_bytes() for path in (home / "postgres-18").glob("open3dsg*")}
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={home / 'filler'}"], stderr=subprocess.DEVNULL, check=False
        )
        assert shutil.disk_usage(home).free == 0
        line = refused(run(home, "db", "start"))
        assert "No space left on device" in line
        assert {path: path.read_bytes() for path in before} == before
        (home / "filler").unlink()
        started(run(home, "db", "start"))
        assert run(home, "db", "psql", "--", "-Atc", "SELECT x FROM kept").out == "7\n"
        run(home, "db", "stop")
