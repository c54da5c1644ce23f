"""Fixtures of the tests of steps: a miniature root, and toy encoders found by a real entry point."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import miniature as mini
from tests import toy_encoder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one annotated scan."""
    folder = tmp_path / "root"
    mini.write_scan(folder)
    mini.write_annotations(folder, mini.subgraph())
    return folder


@pytest.fixture
def encoders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("encoders")
    toy_encoder.install(folder)
    monkeypatch.syspath_prepend(folder)
