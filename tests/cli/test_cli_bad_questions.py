"""Questions that cannot be answered, and files that cannot be written, through the installed command.

Each is one line and exit 2, and nothing is half-written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from open3dsg.errors import UserError
from open3dsg.query.nodes import search_nodes
from tests import miniature as mini
from tests.command import DUMP, Done
from tests.content import content

Run = Callable[..., Done]
Refused = Callable[..., str]
Database = psycopg.Connection[Any]

HOSTILE = "'; DROP TABLE scan; -- %s $1 \\ \" 雪"


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("",), "a query is empty"),
        (("red", " \t"), "a query is empty"),
        (("green", "q" * 10_000), "a query has 10000 characters; at most 500 are allowed"),
        (("green", "-k", 0), "-k is 0: give 1 to 2147483647"),
        (("green", "-k", 99_999_999_999), "-k is 99999999999: give 1 to 2147483647"),
        (("green", "--within", "nan", 0, 0, 1, 1, 1), "--within is nan 0.0 0.0 1.0 1.0 1.0: give six finite"),
        (("green", "--within", 0, 0, 0, 1, 1, "inf"), "give six finite numbers, in metres"),
        (
            ("green", "--scan", "mini-00"),
            "did you mean 3rscan/mini-0001, 3rscan/mini-0002, 3rscan/mini-0003?",
        ),
        (("green", "--dataset", "scannet"), "no dataset 'scannet' in the store; it has 3rscan"),
        (("green", "--label", "tabel"), "no instance is labelled 'tabel'"),
        (("green", "--label", "tables"), "no instance is labelled 'tables'; did you mean table?"),
        (("green", "--label", HOSTILE), "no instance is labelled"),
        (("green", "--scan", HOSTILE), "no scan"),
        (("green", "--dataset", HOSTILE), "no dataset"),
        (("green", "--encoder", HOSTILE), "the store has no features of an encoder"),
        (("green", "--encoder", "clip"), "it knows toy@0123456789abcdef"),
        (("green", "--encoder", "toy@0000"), "it knows toy@0123456789abcdef"),
        (("green\udcff",), r"the argument 'green\udcff' is not UTF-8 text"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(
    refused: Refused, arguments: tuple[object, ...], told: str
) -> None:
    assert told in refused("query", "nodes", *arguments)


def test_a_nul_in_a_question_is_refused(database: Database) -> None:
    # No command line can hold it, a notebook can.
    with pytest.raises(UserError, match="a query contains a NUL character"):
        search_nodes(database, ["re\0d"])


def test_words_are_never_read_as_sql(run: Run, database: Database) -> None:
    before = content(database)
    hits = run("query", "nodes", HOSTILE, "x' OR 'x'='x", "-k", 1, "--json").json
    assert [hit["query"] for hit in hits] == [HOSTILE, "x' OR 'x'='x"]
    after = content(database)
    kept = {"term", "term_embedding", "vocabulary", "vocabulary_term"}
    assert {name: rows for name, rows in after.items() if name not in kept} == {
        name: rows for name, rows in before.items() if name not in kept
    }
    assert len(after["term"]) == len(before["term"]) + 2


def test_the_longest_question_is_answered(run: Run) -> None:
    assert len(run("query", "nodes", "雪" * 500, "-k", 2, "--json").json) == 2


@pytest.mark.parametrize("option", ["--ply", "--log", "--picture"])
def test_a_file_that_cannot_be_written_is_one_line(refused: Refused, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").touch()
    question = ("query", "nodes", "new words", "--scan", mini.NAME, option)
    nowhere = tmp_path / "no where" / "out"
    assert f"{nowhere}: cannot be written: there is no folder" in refused(*question, nowhere)
    below = tmp_path / "file" / "out"
    assert f"{below}: cannot be written: there is no folder" in refused(*question, below)
    assert "the name of a file to write is empty" in refused(*question, "")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_too_long_for_the_file_system_leaves_nothing(run: Run, tmp_path: Path) -> None:
    done = run("query", "nodes", "red", "--log", tmp_path / ("n" * 256))
    assert done.code == 2
    (line,) = done.errors
    assert line.endswith("cannot be written: File name too long")
    assert list(tmp_path.iterdir()) == []


def test_hits_of_several_scans_are_no_scene(run: Run, tmp_path: Path) -> None:
    done = run("query", "nodes", "red", "--ply", tmp_path / "out.ply")
    assert (done.code, done.out) == (2, "")
    assert done.errors == ["error: --ply writes one scene, the hits are of 3: choose one with --scan"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("observe", "--scan", "nope"), "no scan 'nope' in the store"),
        (("observe", "--dataset", "nope"), "no dataset 'nope' in the store; it has 3rscan"),
        (("observe", "--dataset", "nope", "--scan", mini.NAME), "no dataset 'nope' in the store"),
        (("observe", "--split", "nope"), "no scan with geometry in the store for split 'nope'"),
        (("observe", "--split", "train", "--scan", mini.NAME), "give one of the two"),
        (("observe", "--every", 0), "--every is 0"),
        (("observe", "--min-ratio", "nan"), "--min-ratio is nan"),
        (("observe", "--border", -1), "--border is -1"),
        (("features", "dump"), "say --nodes"),
        (("features", "dump", "--nodes", "--encoder", "nope"), "no encoder is called 'nope'; known: "),
        ((*DUMP, "--scan", "nope"), "no scan 'nope' in the store"),
        ((*DUMP, "--scales", 0), "--scales is 0"),
        ((*DUMP, "--top-k-frames", 0), "--top-k-frames is 0"),
        (("features", "index", "nope"), "the store has no features of an encoder 'nope'"),
        (("scans", "show", "nope"), "no scan 'nope' in the store"),
        (("scans", "list", "--dataset", "nope"), "no dataset 'nope' in the store; it has 3rscan"),
    ],
)
def test_what_the_store_does_not_know_is_one_line(
    refused: Refused, command: tuple[object, ...], told: str
) -> None:
    assert told in refused(*command)


def test_an_encoder_that_is_gone_is_named(run: Run, refused: Refused) -> None:
    assert run("query", "nodes", "red", "--json").code == 0
    assert "no encoder is called 'toy'; known: " in refused("query", "nodes", "new words", PYTHONPATH="")
    asked_before = run("query", "nodes", "red", "--json", PYTHONPATH="")
    assert asked_before.json, "words that were asked before need no model"
