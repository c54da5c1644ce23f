"""What `3RScan.json` says of objects between visits: its forms, and its flaws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.rescan_objects import RescanChanges
from open3dsg.datasets.rescans import read_visits
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import BadFileError
from tests import miniature as mini
from tests.scans import edit_json

# Down the columns: a quarter turn about z, then half a metre along x.
MOVE = [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 0.5, 0, 0, 1]


def rigid(**changes: Any) -> dict[str, Any]:
    return {"instance_reference": 4, "instance_rescan": 4, "symmetry": 1, "transform": MOVE} | changes


def read(root: Path, **lists: Any) -> RescanChanges:
    """Read the one rescan of the miniature with these lists."""
    mini.write_metadata(root)
    edit_json(root / "3RScan.json", lambda rooms: rooms[0]["scans"][0].update(lists))
    found = ThreeRScan(root).changes_of(mini.RESCAN)
    assert found is not None
    return found


def test_objects_that_moved_changed_or_went(tmp_path: Path) -> None:
    found = read(
        tmp_path, rigid=[rigid(), rigid(instance_reference=2, instance_rescan=9)], nonrigid=[4], removed=[7]
    )
    assert found.problems == ()
    assert [(each.reference, each.change, each.rescan, each.symmetry) for each in found.objects] == [
        (4, "moved", 4, 1),
        (2, "moved", 9, 1),
        (4, "changed", None, None),
        (7, "removed", None, None),
    ]
    expected = [[0, -1, 0, 0.5], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(found.objects[0].T_rescan_reference, expected)
    assert found.objects[2].T_rescan_reference is None


def test_the_hidden_test_split_lists_numbers(tmp_path: Path) -> None:
    mini.write_metadata(tmp_path)
    found = read_visits(tmp_path / "3RScan.json")["mini-0010"].changes
    assert found is not None
    assert [(each.reference, each.change, each.T_rescan_reference) for each in found.objects] == [
        (1, "moved", None)
    ]


def test_a_reference_scan_says_nothing(tmp_path: Path) -> None:
    mini.write_metadata(tmp_path)
    reader = ThreeRScan(tmp_path)
    assert reader.changes_of(mini.NAME) is None
    assert reader.changes_of("of no room") is None
    rescan = reader.changes_of(mini.RESCAN)
    assert rescan is not None
    assert rescan.objects == ()


def test_the_hash_is_that_of_the_lists(tmp_path: Path) -> None:
    hashes = {
        read(tmp_path, **lists).hash
        for lists in (
            {},
            {"transform": MOVE},
            {"removed": [1]},
            {"nonrigid": [1]},
            {"rigid": [rigid()]},
            {"rigid": [rigid(symmetry=0)]},
        )
    }
    assert len(hashes) == 5


@pytest.mark.parametrize(
    ("lists", "kind", "kept"),
    [
        (
            {"rigid": [rigid(transform=np.transpose(np.reshape(MOVE, (4, 4))).ravel().tolist())]},
            "move_not_rigid",
            1,
        ),
        ({"rigid": [rigid(transform=[*MOVE[:12], 500, 0, 0, 1])]}, "move_too_far", 1),
        ({"rigid": [rigid(transform=[float("nan")] * 16)]}, "move_not_rigid", 1),
        ({"rigid": [rigid(symmetry=4)]}, "symmetry_unknown", 1),
        ({"rigid": [rigid(), rigid(symmetry=0)]}, "rescan_object_twice", 1),
        ({"removed": [3, 3]}, "rescan_object_twice", 1),
        ({"rigid": [rigid(transform=[1, 2])]}, "rescan_object_unreadable", 0),
        ({"rigid": [rigid(transform="far")]}, "rescan_object_unreadable", 0),
        ({"rigid": [rigid(symmetry="none")]}, "rescan_object_unreadable", 0),
        ({"rigid": [{"instance_reference": 4}]}, "rescan_object_unreadable", 0),
        ({"rigid": [True]}, "rescan_object_unreadable", 0),
        ({"nonrigid": [rigid()]}, "rescan_object_unreadable", 0),
        ({"removed": [-1]}, "rescan_object_unreadable", 0),
        ({"removed": [2**31]}, "rescan_object_unreadable", 0),
        ({"removed": [1.5]}, "rescan_object_unreadable", 0),
    ],
)
def test_flaws_are_told_and_left_out(lists: dict[str, Any], kind: str, kept: int, tmp_path: Path) -> None:
    found = read(tmp_path, **lists)
    (problem,) = found.problems
    assert problem.kind == kind
    assert mini.RESCAN in problem.detail
    assert "\n" not in problem.detail
    assert len(found.objects) == kept
    if kind.startswith("move_"):
        assert found.objects[0].T_rescan_reference is None
    if kind == "symmetry_unknown":
        assert found.objects[0].symmetry is None
    if kind == "rescan_object_twice" and "rigid" in lists:
        assert found.objects[0].symmetry == 1  # the first counts


def test_what_is_no_list_is_another_file(tmp_path: Path) -> None:
    with pytest.raises(
        BadFileError, match=r"3RScan\.json: \[0\]\.scans\[0\]: 'removed': a list was expected"
    ):
        read(tmp_path, removed=7)


def test_the_published_file(real_data: Path) -> None:
    """All 2,933 rigid moves are read; 22 are listed again, and 390 of the test split have no transform."""
    visits = read_visits(real_data / "3RScan" / "3RScan.json")
    changes = [visit.changes for visit in visits.values() if visit.changes is not None]
    assert len(changes) == 1004
    said = [each for found in changes for each in found.objects]
    moved = [each for each in said if each.change == "moved"]
    assert sum(each.T_rescan_reference is not None for each in moved) == 2933 - 22
    assert sum(each.change == "removed" for each in said) == 542
    assert sum(each.change == "changed" for each in said) == 557
    kinds = [problem.kind for found in changes for problem in found.problems]
    assert set(kinds) == {"rescan_object_twice"}
