"""The store from Python: the examples of docs/python.md as they stand, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import open3dsg
from open3dsg.api import Store
from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.query.nodes import NodeFilters, search_nodes
from tests.command import CHECKOUT
from tests.conftest import as_url
from tests.db import trained

BLOCKS = re.findall(
    r"```python\n(.*?)```", (CHECKOUT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture(scope="module")
def url(
    template: str, new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A store with two scans, features, captions and words."""
    url = as_url(new_database("asked_in_python", template=template))
    with pytest.MonkeyPatch.context() as patch, connect(url) as connection:
        trained.with_toys(tmp_path_factory.mktemp("encoders"), patch)
        connection.autocommit = True
        trained.trainable(connection, tmp_path_factory.mktemp("scans"))
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open3dsg.connect(url) as store:
        yield store


def test_the_examples_of_the_documentation(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPEN3DSG_DATABASE_URL", url)
    names: dict[str, Any] = {}
    printed = []
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
        printed.append(capsys.readouterr().out)
    assert len(printed) == 8
    assert printed[0] == f"{[trained.key(1), trained.key(2)]}\n"
    assert all(printed[1:])
    assert "red -next to-> green" in printed[5]


def test_answers_are_those_of_the_commands(store: Store) -> None:
    hits = store.search("red", k=3, scan=trained.name(1))
    filters = NodeFilters(scan=trained.name(1))
    assert list(hits) == search_nodes(store.connection, ["red"], k=3, filters=filters)[0]
    assert list(hits.frame()["instance"]) == [hit.instance for hit in hits]
    chairs = store.search("red", k=9, label=hits[0].label)
    assert [(hit.label, hit.scan) for hit in chairs] == [
        (hits[0].label, trained.name(1)),
        (hits[0].label, trained.name(2)),
    ]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda store: store.scan("nowhere"), "no scan 'nowhere'"),
        (lambda store: store.search("red", k=0), "-k is 0"),
        (lambda store: store.search("red", run="otter"), "no prediction 'otter'"),
        (lambda store: store.search("red", run="otter", encoder="toy"), "leave out --encoder"),
        (lambda store: store.similar("mini-0001/1", run="otter", encoder="toy"), "leave out --encoder"),
        (lambda store: store.ask("red", run="otter", encoder="toy"), "leave out --encoder"),
        (lambda store: store.ask("a red chair", max_distance_m=1), "'red chair' says no relation"),
        (lambda store: store.ask("something"), "asks for anything"),
        (lambda store: store.similar("12"), "'12' names no instance"),
        (lambda store: store.paths(["cup", "on"]), "2 slots are no path"),
    ],
)
def test_mistakes_are_told_in_one_line(store: Store, ask: Callable[[Store], object], told: str) -> None:
    with pytest.raises(UserError) as error:
        ask(store)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_phrase_without_a_relation_finds_objects(store: Store) -> None:
    answer = store.ask("the red", k=3, scan=trained.name(1), encoder="toy")
    found = [(*hit.things, hit.score, hit.triplets) for hit in answer.paths.hits]
    expected = store.search("red", k=3, scan=trained.name(1), encoder="toy")
    assert found == [((hit.instance, hit.label), hit.similarity, ()) for hit in expected]
    assert len(found) == 3
    assert answer.paths.is_complete


def test_sql_reads_and_changes_nothing(store: Store) -> None:
    table = store.sql("SELECT name, %(two)s AS two FROM scan ORDER BY name", {"two": 2})
    assert table.to_dict("list") == {"name": [trained.name(1), trained.name(2)], "two": [2, 2]}
    assert list(store.sql("SELECT name FROM scan WHERE false").columns) == ["name"]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        store.sql("DELETE FROM scan")
    assert len(store.scans()) == 2


def test_a_store_that_is_closed_leaves_the_server_alone(url: str) -> None:
    with open3dsg.connect(url) as store:
        assert len(store.scans()) == 2
    assert store.connection.closed
    with open3dsg.connect(url) as store:
        assert store.scan(trained.key(2)).cloud().xyz_m.shape[1] == 3


def test_no_such_database(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        open3dsg.connect(f"postgresql:///nothing?host={tmp_path}")
