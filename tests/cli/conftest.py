"""The installed command on the test's own database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests.command import DUMP, OBSERVE, Done, call, environment
from tests.conftest import as_url
from tests.content import row_counts


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans, the first with a scene graph, the second its rescan. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("a räum 雪") / "3RScan"
    for name in (mini.NAME, mini.RESCAN, "mini-0003"):
        mini.write_scan(folder, name)
    mini.write_annotations(folder, mini.subgraph())
    mini.write_metadata(folder)
    return folder


@pytest.fixture(scope="session")
def steps(
    root: Path,
    template: str,
    new_database: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Done]:
    """Every step run once, and again, on the database `full`: what each printed."""
    url = as_url(new_database("full", template=template))
    variables = environment(tmp_path_factory.mktemp("command"), url)
    done = {}
    for name, command in (("ingest", ("ingest", "3rscan", root)), ("observe", OBSERVE), ("dump", DUMP)):
        done[name] = call(variables, *command)
        done[f"{name} again"] = call(variables, *command, "--json")
    return done


@pytest.fixture
def full_database_url(steps: dict[str, Done], new_database: Callable[..., str]) -> str:
    """The URL of a database of the test's own, in which every step is done for the three scans."""
    return as_url(new_database("full_clone", template="full"))


@pytest.fixture
def variables(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a command on the test's own database."""
    return environment(tmp_path_factory.mktemp("command"), database_url)


@pytest.fixture
def run(variables: dict[str, str]) -> Callable[..., Done]:
    """Call `open3dsg` by `run("query", "nodes", "red", VARIABLE="value")`."""

    def run(*arguments: object, **changes: str) -> Done:
        return call(variables | changes, *arguments)

    return run


@pytest.fixture
def refused(run: Callable[..., Done], database: psycopg.Connection[Any]) -> Callable[..., str]:
    """Call a command that must fail with one line, exit 2 and no row more or less; return the line."""

    def refused(*arguments: object, **changes: str) -> str:
        before = row_counts(database)
        done = run(*arguments, **changes)
        assert done.code == 2, done
        (line,) = done.errors
        assert row_counts(database) == before
        return line

    return refused
