"""`open3dsg show`: pictures hold the instance where it is, and lists name every frame and instance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from tests import miniature as mini
from tests.command import Done
from tests.db.pipeline import expected_visible
from tests.pictures import index, read

Run = Callable[..., Done]
Database = psycopg.Connection[Any]

KEY = f"3rscan/{mini.NAME}"
CAPTION = 18  # pixels below the upper edge of a box in which a caption may lie


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def compare(drawn: NDArray[np.uint8], photo: NDArray[np.uint8], record: dict[str, Any]) -> int:
    """Hold a picture of the miniature against the pixels that plain Python finds; return how many it saw.

    Compared is what lies in the box below its caption. The photograph has twice the depth grid's size, the
    centres of both are at the same place: pixel x belongs to the depth pixel x // 2.
    """
    _, pixels = expected_visible(record["instance"], record["frame"])
    left, top, right, bottom = record["box"]
    rows, columns = zip(*pixels, strict=True)
    assert [left, top] == [2 * min(columns), 2 * min(rows)]
    assert [right, bottom] == [2 * max(columns) + 2, 2 * max(rows) + 2]
    inside = [(y, x) for y in range(top + CAPTION, bottom - 1) for x in range(left + 1, right - 1)]
    tinted = {(y, x) for y, x in inside if (drawn[y, x] != photo[y, x]).any()}
    expected = {(y, x) for y, x in inside if (y // 2, x // 2) in pixels}
    assert tinted <= expected
    # Where the photograph has nearly the colour of the tint already, rounding can leave a pixel as it is.
    assert len(expected - tinted) <= 0.02 * len(expected)
    return len(expected)


def test_masks_lie_on_their_instance_in_its_best_frames(run: Run, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "masks"
    told = run("show", "masks", "--scan", mini.NAME, "--out", out, "--json").json
    assert told == {
        "scan": KEY, "folder": str(out), "pictures": 12, "instances": 4, "unseen": [], "problems": {},
        "problem_details": [],
    }  # fmt: skip
    records = index(out, "masks.json")
    assert {path.name for path in out.iterdir()} == {record["file"] for record in records} | {"masks.json"}
    seen = 0
    for number, label in mini.LABELS.items():
        of_instance = [record for record in records if record["instance"] == number]
        assert [r["file"] for r in of_instance] == [f"{number}.png", f"{number}_2.png", f"{number}_3.png"]
        shares = {frame: expected_visible(number, frame)[0] / 64 for frame in range(mini.FRAMES)}
        best = sorted(shares, key=lambda frame: (-shares[frame], frame))[:3]
        assert [record["frame"] for record in of_instance] == best
        for record in of_instance:
            assert (record["scan"], record["label"]) == (KEY, label)
            points, pixels = expected_visible(number, record["frame"])
            assert (record["visible_points"], record["unique_pixels"]) == (points, len(pixels))
            assert record["visibility_ratio"] == pytest.approx(points / 64, abs=1e-6)
            seen += compare(read(out / record["file"]), read(root / record["image_uri"]), record)
    assert seen > 300, "most pixels lie below a caption"


def test_masks_of_some_instances_and_fewer_frames_leave_other_files_alone(
    run: Run, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    masks = ("show", "masks", "--scan", KEY, "--out", tmp_path)
    assert run(*masks, "--instance", 7, "--top-k", 4).code == 0
    assert len(list(tmp_path.glob("7*.png"))) == 4
    database.execute("DELETE FROM observation WHERE instance_no = 1")
    done = run(*masks, "--instance", 4, "--instance", 2, "--instance", 1, "--top-k", 1)
    assert done.out.splitlines() == [
        f"{tmp_path}: 2 pictures of 2 instances, listed in masks.json",
        "  no frame shows 1 instance well enough: 1",
    ]
    assert done.err.startswith("photos: ")
    assert [record["file"] for record in index(tmp_path, "masks.json")] == ["2.png", "4.png"]
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert len(list(tmp_path.glob("7*.png"))) == 4


def test_projections_list_every_frame_by_what_is_visible(run: Run, root: Path, tmp_path: Path) -> None:
    told = run("show", "projections", "--scan", KEY, "--instance", 4, "--out", tmp_path, "--json").json
    records = index(tmp_path, "frames.json")
    assert (told["frames"], told["seen"], told["pictures"]) == (4, 4, 4)
    order = [(-record["visibility_ratio"], record["frame"]) for record in records]
    assert order == sorted(order)
    assert sorted(record["frame"] for record in records) == [0, 1, 2, 3]
    for record in records:
        points, pixels = expected_visible(4, record["frame"])
        assert (record["visible_points"], record["unique_pixels"]) == (points, len(pixels))
        assert record["visibility_ratio"] == pytest.approx(points / 64, abs=1e-6)
        assert record["passes"] == (points > 3 and (points > 5 or points / 64 > 0.1))
        assert record["file"] == f"frame-{record['frame']:06d}.png"
        left, top, right, bottom = record["box"]
        rows, columns = zip(*pixels, strict=True)
        assert [left, top, right, bottom] == [
            2 * min(columns), 2 * min(rows), 2 * max(columns) + 2, 2 * max(rows) + 2,
        ]  # fmt: skip
        drawn, photo = read(tmp_path / record["file"]), read(root / record["image_uri"])
        changed = (drawn != photo).any(axis=2)
        assert changed[bottom - 1, left:right].all(), "the lower edge of the box"
        assert not changed[top + CAPTION : bottom - 1, left + 1 : right - 1].any()
        assert not changed[bottom:].any()
    assert told["passing"] == sum(record["passes"] for record in records)
    ply = tmp_path / "one table.ply"
    assert run("export", "cloud", "--scan", KEY, "--instance", 4, ply).code == 0
    done = run("show", "projections", "--scan", KEY, "--ply", ply, "--out", tmp_path / "ply")
    assert done.out == (
        f"{tmp_path / 'ply'}: one table is visible in 4 of 4 frames, in {told['passing']} well enough for"
        " `observe`; 4 pictures, listed in frames.json\n"
    )
    assert index(tmp_path / "ply", "frames.json") == records


def test_missing_lists_what_no_frame_shows_by_scan(run: Run, database: Database, tmp_path: Path) -> None:
    database.execute(
        "DELETE FROM observation o USING scan s WHERE s.scan_id = o.scan_id"
        " AND (s.name, o.instance_no) IN (('mini-0001', 7), ('mini-0001', 4), ('mini-0002', 1))"
    )
    database.execute(
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count)"
        " SELECT scan_id, 99, (SELECT min(term_id) FROM term), 0 FROM scan"
    )
    table = run("show", "missing", "--split", "train")
    assert table.err == "3 of 8 instances of 2 scans are shown by no frame\n"
    assert [line.split() for line in table.out.splitlines()] == [
        ["scan", "instance", "label", "points"],
        [KEY, "4", "table", "64"],
        [KEY, "7", "picture", "64"],
        ["3rscan/mini-0002", "1", "floor", "64"],
    ]
    expected = {
        "scans": 1,
        "instances": 4,
        "missing": {
            KEY: [
                {"instance": 4, "label": "table", "points": 64},
                {"instance": 7, "label": "picture", "points": 64},
            ]
        },
        "not_observed": [],
    }
    assert run("show", "missing", "--scan", mini.NAME, "--json").json == expected
    written = run("show", "missing", "--scan", mini.NAME, "--out", tmp_path / "results.json")
    assert (written.code, written.out) == (0, "")
    assert written.err == "2 of 4 instances of 1 scan are shown by no frame\n"
    assert json.loads((tmp_path / "results.json").read_text()) == expected
