"""Fixtures of the tests that need no database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import miniature as mini


@pytest.fixture(scope="session")
def miniature_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    mini.write_scan(root)
    return root


@pytest.fixture
def root(miniature_template: Path, tmp_path: Path) -> Path:
    """A root with one clean scan, to be spoiled, in a folder with a name that needs care."""
    to = tmp_path / "räume 1 'a'"
    return Path(shutil.copytree(miniature_template, to, copy_function=shutil.copyfile))


@pytest.fixture
def folder(root: Path) -> Path:
    """The folder of that scan."""
    return root / mini.NAME
