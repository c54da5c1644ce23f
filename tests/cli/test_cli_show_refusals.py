"""What `open3dsg show` and `open3dsg export cloud` refuse: one line, exit 2, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import miniature as mini

Refused = Callable[..., str]

KEY = f"3rscan/{mini.NAME}"


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def test_a_scan_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    for command in (
        ("show", "masks", "--out", tmp_path / "out"),
        ("show", "projections", "--instance", 4, "--out", tmp_path / "out"),
        ("show", "missing", "--out", tmp_path / "out.json"),
        ("export", "cloud", tmp_path / "out.ply"),
    ):
        told = refused(*command, "--scan", "mini-9999")
        assert told == "error: no scan 'mini-9999' in the store; `open3dsg scans list` shows what is there"
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_go_together(refused: Refused, tmp_path: Path) -> None:
    show = ("show", "projections", "--scan", KEY, "--out", tmp_path / "out")
    told = "error: what to look for? give one of --instance NUMBER and --ply FILE"
    assert refused(*show) == refused(*show, "--instance", 4, "--ply", tmp_path / "points.ply") == told


def test_files_and_folders_that_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.ply").mkdir()
    for out, told in (("file/cloud.ply", "there is no folder"), ("folder.ply", "is a directory")):
        assert told in refused("export", "cloud", "--scan", KEY, tmp_path / out)
    projections = ("show", "projections", "--instance", 4, "--scan", KEY, "--out")
    assert "cannot be written: Not a directory" in refused(*projections, tmp_path / "file" / "pictures")
    assert "is a file" in refused("show", "masks", "--scan", KEY, "--out", tmp_path / "file")
    assert "there is no folder" in refused("show", "missing", "--out", tmp_path / "no" / "results.json")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.ply"]
