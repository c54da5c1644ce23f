"""`open3dsg vocab` through the installed command."""

from __future__ import annotations

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
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def test_lists_of_a_dataset_are_listed(run: Run) -> None:
    header, *lines = run("vocab", "list").out.splitlines()
    assert header.split() == ["name", "kind", "words", "wordings", "embedded", "dataset"]
    assert [line.split() for line in lines] == [
        ["3rscan-classes", "class", "4", "0", "toy", "4", "3rscan"],
        ["3rscan-predicates", "predicate", "4", "0", "3rscan"],
    ]


def test_a_list_is_added_embedded_used_and_dropped(run: Run, database: Database, tmp_path: Path) -> None:
    file = tmp_path / "colours.txt"
    file.write_bytes("\ufeffred\r\n\r\n# a comment\r\ngreen\r\nblue\r\nred\r\ntable\r\n".encode())
    added = run("vocab", "add", file)
    assert added.out.splitlines() == [
        "colours: added, 4 words (passed over: 1 duplicates, 1 empty, 1 comments)",
        "  embedded: toy 1",
    ]
    assert added.err.startswith("say --encoder NAME to embed the words")
    again = run("vocab", "add", file, "--encoder", "toy", "--encoder", "toypixels", "--json").json
    assert again == {
        "name": "colours",
        "kind": "class",
        "dataset": None,
        "terms": 4,
        "wordings": 0,
        "embedded": {"toy@0123456789abcdef": 4, "toypixels@fedcba9876543210": 4},
        "outcome": "unchanged",
        "newly_embedded": {"toy@0123456789abcdef": 3, "toypixels@fedcba9876543210": 4},
        "duplicates": 1,
        "empty": 1,
        "comments": 1,
    }
    shown = run("vocab", "show", "colours", "--json").json
    assert [(row["position"], row["word"]) for row in shown["words"]] == [
        (0, "red"),
        (1, "green"),
        (2, "blue"),
        (3, "table"),
    ]
    assert "0  red    toy, toypixels" in run("vocab", "show", "colours").out
    found = database.execute(
        "SELECT label, term FROM classify_nodes_v1('toy', 'colours', 4) WHERE scan = %s", (mini.NAME,)
    ).fetchall()
    # To this encoder `table` is grey, which most things are nearest to.
    assert next(term for label, term in found if label == "picture" and term != "table") == "red"
    assert (
        run("vocab", "drop", "colours").out == "colours: dropped, 4 words, 1 of which stay for other uses\n"
    )
    assert [row["name"] for row in run("vocab", "list", "--json").json] == [
        "3rscan-classes",
        "3rscan-predicates",
    ]


def test_a_column_of_a_table_and_a_list_of_the_wrong_length(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "labels.tsv"
    file.write_text("id\tnyu40class\n1\twall\n2\twall\n3\tchair\n")
    added = run("vocab", "add", file, "--column", "nyu40class", "--name", "nyu40")
    assert added.out.startswith("nyu40: added, 2 words (passed over: 1 duplicates)\n")
    assert added.err.splitlines()[-1] == "note: 'nyu40' has 2 words; the published list of nyu40 has 40"


def test_wordings_do_not_count_to_the_length_of_a_list(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "scannet20.txt"
    file.write_text("\n".join(["stool = class 1", *(f"class {number}" for number in range(20))]))
    assert "note:" not in run("vocab", "add", file).err


def test_what_cannot_be_added_is_refused(refused: Refused, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "rooms.txt"
    file.write_text("bed\nsofa\n")
    assert "no encoder is called 'nobody'" in refused("vocab", "add", file, "--encoder", "nobody")
    assert "'3rscan-classes' came with dataset '3rscan'" in refused(
        "vocab", "add", file, "--name", "3rscan-classes"
    )
    assert "name of a vocabulary is empty" in refused("vocab", "add", file, "--name", " ")
    assert run("vocab", "add", file).code == 0
    file.write_text("sofa\nbed\n")
    assert "there is a vocabulary 'rooms' already, of 2 words (class)" in refused("vocab", "add", file)
    assert (
        run("vocab", "add", file, "--replace", "--kind", "predicate", "--json").json["outcome"] == "replaced"
    )
    file.write_text("bed\n" + "x" * 501 + "\n")
    assert "rooms.txt: line 2 has 501 characters" in refused("vocab", "add", file, "--replace")
    assert "no vocabulary 'nobody' in the store; it has" in refused("vocab", "show", "nobody")
    assert "no vocabulary 'nobody' in the store; it has" in refused("vocab", "drop", "nobody")
    assert "does not exist" in refused("vocab", "add", tmp_path / "absent")
