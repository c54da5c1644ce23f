"""Attributes and wordings through the installed command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests.command import Done

Run = Callable[..., Done]
Refused = Callable[..., str]
Database = psycopg.Connection[Any]


@pytest.fixture
def own_root(root: Path, tmp_path: Path) -> Path:
    """The three scans, to be spoiled."""
    return shutil.copytree(root, tmp_path / "own")


def write_objects(folder: Path, text: str | None = None) -> None:
    folder.mkdir(exist_ok=True)
    objects = [{"id": "4", "attributes": {"color": ["green"]}}, {"id": "99", "affordances": ["sitting"]}]
    whole = json.dumps({"scans": [{"scan": mini.NAME, "objects": objects}]})
    (folder / "objects.json").write_text(whole if text is None else text)


def test_the_same_command_adds_attributes(run: Run, own_root: Path, database: Database) -> None:
    assert run("ingest", "3rscan", own_root).code == 0
    write_objects(own_root / "3DSSG")
    told = run("ingest", "3rscan", own_root, "--json").json
    assert told["scans"] == {"done": 1, "skipped": 2, "failed": 0}
    assert told["counts"] == {"attributes": 1}
    assert told["problems"] == {"attributes_without_instance": 1}
    found = database.execute("SELECT scan, instance, kind, attribute FROM v_instance_attribute").fetchall()
    assert found == [(mini.NAME, 4, "color", "green")]
    again = run("ingest", "3rscan", own_root, "--json").json
    assert again["scans"] == {"done": 0, "skipped": 3, "failed": 0}


def test_a_file_that_cannot_be_read_is_told_once(run: Run, refused: Refused, own_root: Path) -> None:
    write_objects(own_root, '{"scans": [')
    told = f"{own_root}/objects.json: not valid JSON at line 1, column 12"
    assert told in refused("ingest", "3rscan", own_root)
    assert told in refused("ingest", "3rscan", own_root, "--jobs", "2")
    checked = run("data", "check", "3rscan", own_root, "--json")
    assert checked.code == 2
    findings = json.loads(checked.out)["findings"]
    assert [one["file"] for one in findings if one["severity"] == "error"] == ["objects.json"]


def test_built_in_lists(run: Run, refused: Refused, tmp_path: Path) -> None:
    added = run("vocab", "add", "--builtin", "3dssg-wordings").out.splitlines()
    assert added[0] == "3dssg-wordings: added, 40 words, 13 of them wordings of others"
    assert run("vocab", "add", "--builtin", "colours", "--json").json["terms"] == 17
    assert run("vocab", "add", "--builtin", "materials", "--name", "of what").out.startswith(
        "of what: added, 10"
    )
    assert run("vocab", "list").out.splitlines()[1].split() == ["3dssg-wordings", "predicate", "40", "13"]
    listed = {row["name"]: row for row in run("vocab", "list", "--json").json}
    assert {name: (row["kind"], row["wordings"]) for name, row in listed.items()} == {
        "3dssg-wordings": ("predicate", 13),
        "colours": ("class", 0),
        "of what": ("class", 0),
    }
    assert run("vocab", "add", "--builtin", "colours", "--json").json["outcome"] == "unchanged"
    file = tmp_path / "words.txt"
    file.write_text("red\n")
    wants = "give a FILE, or instead of it one of --builtin materials, colours, 3dssg-wordings"
    assert wants in refused("vocab", "add")
    assert wants in refused("vocab", "add", file, "--builtin", "colours")
    assert "of a FILE" in refused("vocab", "add", "--builtin", "colours", "--kind", "predicate")
    assert "--stands-for names a column" in refused("vocab", "add", file, "--stands-for", "meant")


def test_wordings_are_added_shown_and_refused(run: Run, refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "near.txt"
    file.write_text("to the left of = left\nleft\non\n")
    added = run("vocab", "add", file, "--kind", "predicate")
    assert added.out.startswith("near: added, 3 words, 1 of them wordings of others\n")
    shown = run("vocab", "show", "near").out.splitlines()
    assert shown[-4].split() == ["position", "word", "stands", "for", "embedded"]
    assert shown[-3].split() == ["0", "to", "the", "left", "of", "left"]
    assert [row["stands_for"] for row in run("vocab", "show", "near", "--json").json["words"]] == [
        "left",
        None,
        None,
    ]
    table = tmp_path / "near.csv"
    table.write_text("says,means\nto the left of,left\nleft,\non,\n")
    columns = ("--column", "says", "--stands-for", "means", "--kind", "predicate", "--json")
    assert run("vocab", "add", table, *columns).json["outcome"] == "unchanged"
    file.write_text("to the left of\nleft\non\n")
    assert "others" in refused("vocab", "add", file, "--kind", "predicate")
    file.write_text("left\nto the right of = right\n")
    told = refused("vocab", "add", file, "--replace")
    assert "near.txt: line 2: 'to the right of' stands for 'right', which is not in the list" in told
