"""What annotations say of objects of a rescan, as rows of `rescan_object`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from open3dsg.errors import UserError
from open3dsg.query.changes import scan_changes
from tests import miniature as mini
from tests.db.pipeline import Database, ingest, rows
from tests.scans import edit_json


def rescan_objects(database: Database) -> list[tuple[Any, ...]]:
    return rows(
        database,
        "SELECT name, reference_no, change, instance_no, t_rescan_reference, symmetry"
        " FROM rescan_object JOIN scan USING (scan_id) ORDER BY 1, 2, 3",
    )


@pytest.fixture
def rescanned(root: Path) -> Path:
    """The miniature with its rescan, in which table 4 was pushed, and a picture went."""
    mini.write_scan(root, mini.RESCAN)
    mini.write_metadata(root)
    push = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0.5, 0, 0, 1]
    told = {"instance_reference": 4, "instance_rescan": 4, "symmetry": 1, "transform": push}
    edit_json(
        root / "3RScan.json",
        lambda rooms: rooms[0]["scans"][0].update(rigid=[told, told], nonrigid=[2], removed=[7]),
    )
    return root


PUSHED = [1.0, 0.0, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_ingest_keeps_what_is_said_of_a_rescan(database: Database, rescanned: Path) -> None:
    step = ingest(rescanned)
    assert "rescan_objects" not in step(database, mini.NAME).counts
    done = step(database, mini.RESCAN)
    assert done.counts["rescan_objects"] == 3
    assert [problem.kind for problem in done.problems] == ["rescan_object_twice"]
    expected = [
        (mini.RESCAN, 2, "changed", None, None, None),
        (mini.RESCAN, 4, "moved", 4, PUSHED, 1),
        (mini.RESCAN, 7, "removed", None, None, None),
    ]
    assert rescan_objects(database) == expected
    assert step(database, mini.RESCAN).skipped
    assert ingest(rescanned, force=True)(database, mini.RESCAN).counts["rescan_objects"] == 3
    assert rescan_objects(database) == expected


def test_a_scan_of_an_earlier_version_gets_them_without_being_read_again(
    database: Database, rescanned: Path
) -> None:
    step = ingest(rescanned)
    step(database, mini.RESCAN)
    before = rescan_objects(database)
    database.execute("DELETE FROM rescan_object")
    database.execute("DELETE FROM ledger WHERE step = 'rescans'")
    assert step(database, mini.RESCAN).counts == {"rescan_objects": 3}
    assert rescan_objects(database) == before


def test_a_changed_file_replaces_them(database: Database, rescanned: Path) -> None:
    ingest(rescanned)(database, mini.RESCAN)
    edit_json(rescanned / "3RScan.json", lambda rooms: rooms[0]["scans"][0].update(rigid=[], removed=[]))
    assert ingest(rescanned)(database, mini.RESCAN).counts == {"rescan_objects": 1}
    assert [row[:3] for row in rescan_objects(database)] == [(mini.RESCAN, 2, "changed")]


def test_the_real_scan(database: Database, real_data: Path) -> None:
    """The scan of the data README is a rescan, whose reference is not at hand."""
    name = "7272e16c-a01b-20f6-8961-a0927b4a7629"
    ingest(real_data / "3RScan")(database, name)
    found = rescan_objects(database)
    listed = json.loads((real_data / "3RScan" / "3RScan.json").read_text())
    (entry,) = [scan for room in listed for scan in room["scans"] if scan["reference"] == name]
    assert len(found) == len(entry["rigid"]) + len(entry["nonrigid"]) + len(entry["removed"])
    with pytest.raises(UserError, match=r"no scan '5341b79f"):
        scan_changes(database, "5341b79f-8a66-2cdd-84d5-6dba6525dd75", name)
