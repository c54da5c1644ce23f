"""`open3dsg correct`: said, listed, reverted and refused from the shell."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests.command import Done, call
from tests.conftest import as_url
from tests.content import content

Run = Callable[..., Done]
Database = psycopg.Connection[Any]


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def test_corrections_are_made_listed_and_taken_back(run: Run) -> None:
    done = run("correct", "label", mini.NAME, 4, "desk", "--author", "Ana Ös")
    assert done.out == "correction 1; `open3dsg correct revert 1` takes it back\n"
    assert run("correct", "label", f"3rscan/{mini.NAME}", 4, "bench", "--json").json == {"correction_id": 2}
    relation = ("correct", "relation", mini.RESCAN, 4, "standing on", 1, "--author", "bo")
    assert run(*relation, "--json").json == {"correction_id": 3}
    assert run(*relation, "--not").code == 0

    table = run("correct", "list")
    assert table.err == "4 corrections\n"
    lines = [line.split("  ") for line in table.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert [line[:-1] for line in cells] == [
        ["id", "scan", "correction", "state", "author"],
        ["1", mini.NAME, "4 table is: desk", "superseded", "Ana Ös"],
        ["2", mini.NAME, "4 table is: bench", "in force", getpass.getuser()],
        ["3", mini.RESCAN, "4 table standing on 1 floor", "superseded", "bo"],
        ["4", mini.RESCAN, "4 table not standing on 1 floor", "in force", "bo"],
    ]
    done = run("correct", "revert", 2, "--author", "cy")
    assert done.out == "reverted correction 2: 4 table is: bench\n"
    first, second = run("correct", "list", mini.NAME, "--json").json
    assert (first["in_force"], second["in_force"], second["reverted_by"]) == (True, False, "cy")
    assert datetime.fromisoformat(second["reverted_at"]) >= datetime.fromisoformat(first["made_at"])
    assert run("correct", "revert", 1, "--json").json["text"] == "desk"
    assert run("correct", "list", "mini-0003").out == ""


def test_what_was_corrected_is_found_under_its_new_name(run: Run) -> None:
    run("correct", "label", mini.NAME, 7, "poster")
    asked = ("query", "nodes", "red", "-k", 9, "--encoder", "toy", "--json", "--label")
    assert [(hit["scan"], hit["label"]) for hit in run(*asked, "poster").json] == [(mini.NAME, "poster")]
    assert {hit["scan"] for hit in run(*asked, "picture").json} == {mini.RESCAN, "mini-0003"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("label", "hall", 4, "desk"), "no scan 'hall' in the store"),
        (("label", mini.NAME, 5, "desk"), f"scan 3rscan/{mini.NAME} has no instance 5; it has 1, 2, 4, 7"),
        (("label", mini.NAME, "four", "desk"), "'four' is not a valid integer"),
        (("label", mini.NAME, 4, ""), "the label is empty"),
        (("label", mini.NAME, 4, "desk", "--author", ""), "the author is empty"),
        (("relation", mini.NAME, 4, "near", 4), "instance 4 cannot be subject and object of one relation"),
        (("relation", mini.NAME, 4, "near", 99), "has no instance 99"),
        (("revert", 12), "no correction 12 in the store: `open3dsg correct list` shows them"),
        (("list", "hall"), "no scan 'hall' in the store"),
    ],
)
def test_mistakes_are_told_in_one_line(refused: Callable[..., str], arguments: Any, told: str) -> None:
    assert told in refused("correct", *arguments)


def test_a_reader_lists_and_corrects_nothing(
    run: Run, database: Database, database_url: str, variables: dict[str, str], root: Path
) -> None:
    run("correct", "label", mini.NAME, 4, "desk")
    database.execute(
        "DO $$ BEGIN IF to_regrole('cli_reader') IS NULL THEN"
        " CREATE ROLE cli_reader LOGIN; GRANT open3dsg_reader TO cli_reader; END IF; END $$"
    )
    reader = variables | {"OPEN3DSG_DATABASE_URL": as_url(database_url, user="cli_reader")}
    before = content(database)
    assert len(call(reader, "correct", "list", "--json").json) == 1
    for command in (
        ("label", mini.NAME, 4, "a word that is new"),
        ("label", mini.NAME, 4, "table"),
        ("relation", mini.NAME, 4, "near", 1),
        ("revert", 1),
    ):
        done = call(reader, "correct", *command)
        (line,) = done.errors
        assert (done.code, line.startswith("error: this login may not correct anything (")) == (2, True)
    assert content(database) == before
