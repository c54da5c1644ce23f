"""`open3dsg query changes` through the installed command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests.command import Done
from tests.db.visits import relate

Run = Callable[..., Done]
Refused = Callable[..., str]
OTHER = "mini-0003"  # of no room with the others


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


@pytest.fixture(autouse=True)
def _visits(database: psycopg.Connection[Any]) -> None:
    """In the rescan, which lies as its reference does, the table was pushed and the picture is gone."""
    database.execute(
        "UPDATE scan SET t_reference_scan = '{1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}' WHERE name = %s",
        (mini.RESCAN,),
    )
    for statement in (
        "UPDATE instance SET centroid_m[1] = centroid_m[1] + 0.5, obb_centre_m[1] = obb_centre_m[1] + 0.5"
        " WHERE instance_no = 4",
        "DELETE FROM instance WHERE instance_no = 7",
    ):
        database.execute(
            f"{statement} AND scan_id = (SELECT scan_id FROM scan WHERE name = %s)".encode(), (mini.RESCAN,)
        )


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "T.txt"
    path.write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    return path


def test_changes_are_listed(run: Run) -> None:
    done = run("query", "changes", mini.NAME, mini.RESCAN)
    assert done.code == 0, done
    header, *lines = done.out.splitlines()
    assert " ".join(header.split()) == "change label in a in b by m annotated by m by degrees"
    assert [line.split() for line in lines] == [
        ["vanished", "picture", "7"],
        ["moved", "table", "4", "4", "0.50"],
    ]
    assert done.err.splitlines() == [
        "2 objects of 4 stayed within 0.1 m; objects are the same by number",
        "relations are not compared: a scan has none, or only one of the two is annotated",
    ]


def test_json_holds_all(run: Run) -> None:
    told = run("query", "changes", mini.NAME, mini.RESCAN, "--moved", "0.6", "--json").json
    assert (told["scan_a"], told["scan_b"]) == (f"3rscan/{mini.NAME}", f"3rscan/{mini.RESCAN}")
    assert (told["matched_by"], told["moved_m"]) == ("number", 0.6)
    assert told["T_b_a"] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    fates = {(each["a"] or each["b"])["instance"]: each["change"] for each in told["objects"]}
    assert fates == {1: "stayed", 2: "stayed", 4: "stayed", 7: "vanished"}


def test_relations_that_changed_are_listed(run: Run, database: psycopg.Connection[Any]) -> None:
    visits = dict(database.execute("SELECT name, scan_id FROM scan").fetchall())
    relate(database, visits[mini.RESCAN], (2, "close by", 1))
    database.execute(
        "DELETE FROM subgraph_member WHERE scan_id = %s AND instance_no = 4", [visits[mini.RESCAN]]
    )
    done = run("query", "changes", mini.NAME, mini.RESCAN)
    table = [" ".join(line.split()) for line in done.out.splitlines()[done.out.splitlines().index("") + 1 :]]
    assert table == [
        "relation subject in b predicate object in b the other visit",
        "began wall 2 close by floor 1",
        "ended table 4 close by floor 1 tells nothing of the two",
        "ended table 4 standing on floor 1 tells nothing of the two",
        "ended table 4 close by wall 2 tells nothing of the two",
    ]
    assert done.err.splitlines()[-1] == "4 relations changed, of those annotated"


def test_scans_of_different_rooms_need_a_transform(run: Run, refused: Refused, identity: Path) -> None:
    line = refused("query", "changes", mini.NAME, OTHER)
    assert "--transform FILE: 4x4 numbers row by row" in line
    told = run("query", "changes", mini.NAME, OTHER, "--transform", identity, "--json").json
    assert told["matched_by"] == "label"
    assert {each["change"] for each in told["objects"]} == {"stayed"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2 3", "T.txt: a transform is 16 numbers, row by row"),
        ("one " * 16, "T.txt: a transform is 16 numbers, row by row"),
        ("nan " * 16, "T.txt: no rotation and translation"),
        ("1 0 0 0 0 1 0 0 0 0 1 0 5 5 5 1", "the last row 0 0 0 1"),
        (None, "T.txt"),
    ],
)
def test_files_that_hold_no_transform(
    content: str | None, message: str, refused: Refused, identity: Path
) -> None:
    identity.unlink()
    if content is not None:
        identity.write_text(content)
    assert message in refused("query", "changes", mini.NAME, OTHER, "--transform", identity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((mini.NAME, mini.NAME), "named twice"),
        ((mini.NAME, "nowhere"), "no scan 'nowhere'"),
        ((mini.NAME, mini.RESCAN, "--moved", "-1"), "--moved is -1.0"),
        ((mini.NAME, mini.RESCAN, "--run", "none"), "no prediction 'none'"),
        ((mini.NAME, mini.RESCAN, "--encoder", "none"), "none"),
    ],
)
def test_what_cannot_be_asked(arguments: tuple[str, ...], message: str, refused: Refused) -> None:
    assert message in refused("query", "changes", *arguments)
