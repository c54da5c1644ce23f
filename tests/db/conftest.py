"""Fixtures of the tests of steps: a miniature root, and toy encoders found by a real entry point."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.db.connect import connect
from open3dsg.steps.captions import _speaker
from open3dsg.store.encoders import _installed
from tests import miniature as mini
from tests import open3dsg_files as published
from tests import toy_encoder
from tests.conftest import as_url
from tests.db import trained
from tests.db.pipeline import GRAPH, KEY, Database, ingest, observe


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one annotated scan."""
    folder = tmp_path / "root"
    mini.write_scan(folder)
    mini.write_annotations(folder, mini.subgraph())
    return folder


@pytest.fixture(autouse=True)
def _no_encoder_of_another_test() -> Iterator[None]:
    """A process keeps encoders by their names; another test may mean another by it."""
    yield
    _speaker.cache_clear()
    _installed.cache_clear()


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


@pytest.fixture(scope="session")
def trained_template(
    new_database: Callable[..., str], template: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Name a database that `trained.trainable` filled with three scans, for tests to clone."""
    _speaker.cache_clear()
    with pytest.MonkeyPatch.context() as monkeypatch:
        trained.with_toys(tmp_path_factory.mktemp("encoders"), monkeypatch)
        with connect(as_url(new_database("trained", template=template))) as connection:
            connection.autocommit = True
            trained.trainable(connection, tmp_path_factory.mktemp("trained"), 3)
    _speaker.cache_clear()
    return "trained"


@pytest.fixture
def store_url(
    trained_template: str,
    new_database: Callable[..., str],
    encoders: None,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> str:
    """Give the URL of a copy of it, and let this process find the toy encoders."""
    monkeypatch.setenv("OPEN3DSG_ENCODERS", trained.SETTINGS)
    name = f"trained_{zlib.crc32(request.node.nodeid.encode()):08x}"
    return as_url(new_database(name, template=trained_template))


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    """Give a connection to that copy."""
    with connect(store_url) as connection:
        connection.autocommit = True
        yield connection
