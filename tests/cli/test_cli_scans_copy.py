"""`scans copy` as people type it."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from open3dsg.db.connect import connect
from tests import miniature as mini
from tests.command import Done
from tests.conftest import as_url
from tests.content import content, row_counts


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def test_all_scans_of_a_dataset_and_questions_there(
    run: Callable[..., Done], database_url: str, new_database: Callable[..., str], template: str
) -> None:
    to = as_url(new_database("copied_to", template=template))
    done = run("scans", "copy", "--dataset", "3rscan", "--to", to)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "3 scans copied, 0 there already, 0 failed"
    assert run("scans", "copy", mini.NAME, "--to", to, "--json").json == {
        "copied": 0,
        "there": [f"3rscan/{mini.NAME}"],
        "rows": {},
        "failures": {},
    }
    with connect(database_url) as here, connect(to) as there:
        assert content(there)["node_feature"] == content(here)["node_feature"]
    question = ("query", "nodes", "red", "-k", 4, "--exact", "--json")
    answer = run(*question).json
    copied = run(*question, OPEN3DSG_DATABASE_URL=to).json
    assert [hit | {"similarity": None} for hit in copied] == [hit | {"similarity": None} for hit in answer]


def test_mistakes(
    refused: Callable[..., str],
    database_url: str,
    database: psycopg.Connection[object],
    new_database: Callable[..., str],
    template: str,
) -> None:
    assert "name the scans to copy" in refused("scans", "copy", "--to", database_url)
    assert "--to is the database that is copied from" in refused(
        "scans", "copy", mini.NAME, "--to", database_url
    )
    assert "no scan 'nowhere'" in refused(
        "scans", "copy", "nowhere", "--to", as_url(new_database("filled", template=template))
    )
    bare = as_url(new_database("bare"))
    assert "--to: the database has no open3dsg tables: run `open3dsg db migrate`" in refused(
        "scans", "copy", mini.NAME, "--to", bare
    )
    reading = as_url(
        new_database("read_only", template=template), options="-c%20default_transaction_read_only%3Don"
    )
    assert "--to: cannot execute" in refused("scans", "copy", mini.NAME, "--to", reading)
    assert "expected a database URL" in refused("scans", "copy", mini.NAME, "--to", "elsewhere")
    assert row_counts(database)["scan"] == 3
