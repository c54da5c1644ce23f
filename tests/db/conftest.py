"""Fixtures of the tests of steps: a miniature root, and toy encoders found by a real entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.db.connect import connect
from tests import miniature as mini
from tests import open3dsg_files as published
from tests import toy_encoder
from tests.conftest import as_url
from tests.db.pipeline import GRAPH, KEY, Database, ingest, observe


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


@pytest.fixture
def fresh(new_database: Callable[..., str], template: str) -> Iterator[psycopg.Connection[Any]]:
    """Another empty database."""
    with connect(as_url(new_database("fresh", template=template))) as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture
def graph(database: Database, root: Path, encoders: None) -> None:
    """A scan with the six pairs of its four instances."""
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    GRAPH(database, KEY)


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """Two subgraphs of the miniature, with instances 2 and 4 in both; (2, 7) comes in one direction only."""
    folder = tmp_path / "preprocessed"
    published.write_graph(folder, f"{mini.NAME}-0", [4, 1, 2])
    published.write_graph(folder, f"{mini.NAME}-1", [7, 4, 2], [(7, 4), (4, 7), (2, 7), (2, 4), (4, 2)])
    return folder


@pytest.fixture
def scanned(database: Database, root: Path, encoders: None) -> Database:
    ingest(root)(database, mini.NAME)
    return database
