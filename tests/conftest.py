"""Servers and databases for tests: one embedded server a PostgreSQL version, one cloned database a test."""

from __future__ import annotations

import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from open3dsg.db.connect import connect
from open3dsg.db.migrate import migrate
from open3dsg.db.server import EmbeddedServer

# Of each property: in the quick tier; the slow one tries hypothesis's hundred.
QUICK_EXAMPLES = 25

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples of properties where slow tests are left out, as `scripts/test` does."""
    settings.register_profile("quick", max_examples=QUICK_EXAMPLES)
    if "not slow" in config.getoption("markexpr"):
        settings.load_profile("quick")


@pytest.fixture(scope="session")
def server_url() -> Iterator[Callable[[int], str]]:
    """Give the URL of a running server of a version; it starts when first asked for and stops at the end."""
    home = Path(tempfile.mkdtemp(prefix="o3-", dir="/tmp"))  # short: a socket's path has a limit
    servers: dict[int, tuple[EmbeddedServer, str]] = {}

    def url(version: int) -> str:
        if version not in servers:
            server = EmbeddedServer(home, version, FAST, say=lambda _text: None)
            servers[version] = server, server.ensure_running()
        return servers[version][1]

    yield url
    for server, _url in servers.values():
        server.stop()
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def new_database(server_url: Callable[[int], str]) -> Callable[..., str]:
    """Make a database by `new_database(name, version, template=...)` and return its URL."""

    def create(name: str, version: int = 18, template: str = "template1") -> str:
        url = server_url(version)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return make_conninfo(url, dbname=name)

    return create


@pytest.fixture(scope="session")
def template(new_database: Callable[..., str]) -> str:
    """Name a migrated database that tests clone."""
    migrate(as_url(new_database("migrated")))
    return "migrated"


@pytest.fixture
def database_url(new_database: Callable[..., str], template: str, request: pytest.FixtureRequest) -> str:
    """Give the URL of a migrated, empty database of the test's own."""
    name = f"test_{zlib.crc32(request.node.nodeid.encode()):08x}"
    return as_url(new_database(name, template=template))


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a connection to the test's own database, which commits by itself as those of steps do."""
    with connect(database_url) as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Give the folder of real data, or skip loudly."""
    folder = os.environ.get("OPEN3DSG_REAL_DATA")
    if not folder:
        pytest.skip("REAL DATA NOT TESTED: OPEN3DSG_REAL_DATA is unset (a folder that holds 3RScan/)")
    return Path(folder)


def as_url(conninfo: str, **changes: str) -> str:
    """Write a connection string as the URL that users give."""
    options = conninfo_to_dict(conninfo) | changes
    database = options.pop("dbname")
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgresql:///{database}?{query}"
