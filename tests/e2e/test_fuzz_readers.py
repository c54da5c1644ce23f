"""Every file a reader reads, spoiled in every way: one plain line or a scan, never a crash, never a hang.

Each example spoils one file of a miniature, runs ingest and observe on a real database, and puts it back.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open3dsg.datasets.layouts import open_reader
from open3dsg.errors import UserError
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.content import row_counts
from tests.mutations import Mutation, mutations

pytestmark = pytest.mark.slow

EXAMPLES = 600
LONGEST_S = 10
MORE_MEMORY_BYTES = 1_500_000_000
THRESHOLDS = VisibilityThresholds(min_points=3, min_ratio=0.1, enough_points=5)

FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


def threerscan(root: Path, *, zipped: bool = False) -> None:
    mini.write_scan(root, mini.NAME, zipped=zipped)
    mini.write_annotations(root, mini.subgraph())
    mini.write_metadata(root)


@contextmanager
def bounded() -> Iterator[None]:
    """Fail on what takes ten seconds, or asks for more than 1.5 GB."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_AS, (held + MORE_MEMORY_BYTES, hard))
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def _too_long(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise AssertionError(f"took longer than {LONGEST_S} s")


def run(database: psycopg.Connection[Any], layout: str, root: Path, scan: str) -> None:
    """Ingest and observe one scan; what fails fails with one line and leaves no row."""
    before = row_counts(database)
    step = Ingest(open_reader(layout, root, {}), layout, layout, str(root))
    with bounded():
        try:
            step(database, scan)
        except UserError as error:
            _check_line(error)
            left = {table: count for table, count in row_counts(database).items() if count != before[table]}
            # Small shared rows may stay: words, and the dataset itself.
            assert left.keys() <= {"term", "dataset"}
            return
        try:
            Observe(ObserveOptions(1, THRESHOLDS))(database, f"{layout}/{scan}")
        except UserError as error:
            _check_line(error)
            assert row_counts(database)["observation"] == 0
    database.execute("DELETE FROM scan")


def _check_line(error: UserError) -> None:
    assert str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


def spoil(path: Path, changes: list[Mutation]) -> bytes:
    """Change a file and return what it held."""
    whole = data = path.read_bytes()
    for change in changes:
        data = change(data)
    path.write_bytes(data)
    return whole


def files_of(root: Path) -> list[str]:
    """One file of each kind that the layout has, smallest name first."""
    kinds: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name = path.relative_to(root).as_posix()
            kinds.setdefault("".join(letter for letter in name if not letter.isdigit()), name)
    return sorted(kinds.values())


def fuzz(database: psycopg.Connection[Any], layout: str, root: Path, scan: str) -> None:
    files = files_of(root)
    run(database, layout, root, scan)  # whole, it works: the examples below fail by what was spoiled

    @FUZZ
    @given(st.sampled_from(files), mutations())
    def check(file: str, changes: list[Mutation]) -> None:
        whole = spoil(root / file, changes)
        try:
            run(database, layout, root, scan)
        finally:
            (root / file).write_bytes(whole)

    check()


@pytest.mark.parametrize("zipped", [False, True])
def test_3rscan(database: psycopg.Connection[Any], tmp_path: Path, zipped: bool) -> None:
    threerscan(tmp_path, zipped=zipped)
    fuzz(database, "3rscan", tmp_path, mini.NAME)


@pytest.mark.parametrize("sens", [False, True])
def test_scannet(database: psycopg.Connection[Any], tmp_path: Path, sens: bool) -> None:
    scannet.write_metadata(tmp_path)
    scannet.write_scan(tmp_path, frames=None if sens else "scannet_2d", sens=sens)
    fuzz(database, "scannet", tmp_path, scannet.NAME)
