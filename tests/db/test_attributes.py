"""Attributes of instances: beside what a scan has, without reading it again, and following their file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.annotations import AnnotationReader
from open3dsg.datasets.scan import Scan
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.db.terms import prune_terms
from open3dsg.errors import UserError
from open3dsg.geometry.mask_thresholds import MergeThresholds
from open3dsg.steps.attributes import write_attributes
from open3dsg.steps.catalogue import build, describe
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.masks import MaskOptions, MergeMasks
from open3dsg.steps.status import scan_statuses
from open3dsg.store.removal import clear_away, delete_scan
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests.db.pipeline import KEY, Database, content, ingest, observe, rows
from tests.masks import write_mask

LIMITS = MergeThresholds(min_mask_points=3, min_points=5)  # the miniature has few points
Objects = Mapping[int, Mapping[str, Sequence[str]]]
SAID: Objects = {
    4: {"color": ["green", "brown"], "material": ["wooden"]},
    7: {"color": ["red"], "shape": ["square"]},
    99: {"color": ["blue"]},
}
ROWS = [
    ("3rscan", mini.NAME, 4, "table", "color", "brown"),
    ("3rscan", mini.NAME, 4, "table", "color", "green"),
    ("3rscan", mini.NAME, 4, "table", "material", "wooden"),
    ("3rscan", mini.NAME, 7, "picture", "color", "red"),
    ("3rscan", mini.NAME, 7, "picture", "shape", "square"),
]


def say(folder: Path, said: Objects, name: str = mini.NAME) -> None:
    folder.mkdir(exist_ok=True)
    objects = [{"id": str(number), "label": "x", "attributes": kinds} for number, kinds in said.items()]
    scans = {"scans": [{"scan": name, "objects": objects}]}
    (folder / "objects.json").write_text(json.dumps(scans))


def attributes(database: Database) -> list[tuple[Any, ...]]:
    return rows(
        database,
        "SELECT dataset, scan, instance, label, kind, attribute FROM v_instance_attribute ORDER BY 3, 5, 6",
    )


class Unread(ThreeRScan):
    """A root whose scans must not be read."""

    def read(self, name: str) -> Scan:
        raise AssertionError(f"{name} was read")


def unread(root: Path) -> Ingest:
    return Ingest(Unread(root), "3rscan", "3rscan", str(root))


def test_attributes_come_with_the_scan(database: Database, root: Path) -> None:
    say(root / "3DSSG", SAID)
    summary = ingest(root)(database, mini.NAME)
    assert summary.counts["attributes"] == 5
    assert summary.counts["points"] == 320
    assert [(one.kind, one.detail) for one in summary.problems] == [
        ("attributes_without_instance", f"{mini.NAME}: instance 99 is not there: left out")
    ]
    assert attributes(database) == ROWS
    assert ingest(root)(database, mini.NAME).skipped
    assert unread(root).parts(database, mini.NAME) == []
    (status,) = scan_statuses(database)
    assert status.steps["attributes"].state == "done"
    assert [told["kind"] for told in status.row["problems"]] == ["attributes_without_instance"]


def test_a_scan_that_is_there_gets_them_without_being_read(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    before = content(database)
    say(root, SAID)
    step = unread(root)
    assert step.parts(database, mini.NAME) == [None]
    summary = step(database, mini.NAME)
    assert (summary.counts, summary.skipped) == ({"attributes": 5}, False)
    assert attributes(database) == ROWS
    after = content(database)
    added = [row for row in after.pop("ledger") if row not in before["ledger"]]
    assert added == [(mini.NAME, "attributes", "", 0, {"attributes": 5})]
    assert after == {name: held for name, held in before.items() if name != "ledger"}
    assert unread(root)(database, mini.NAME).skipped


def test_a_changed_file_replaces_them(database: Database, root: Path) -> None:
    say(root, SAID)
    ingest(root)(database, mini.NAME)
    say(root, {7: {"color": ["gray"]}})
    assert unread(root)(database, mini.NAME).counts == {"attributes": 1}
    assert attributes(database) == [("3rscan", mini.NAME, 7, "picture", "color", "gray")]
    # The same words in another order are the same file.
    say(root, {7: {"color": ["gray", "gray"]}})
    assert unread(root)(database, mini.NAME).skipped


def test_a_file_that_says_nothing_of_the_scan_changes_nothing(database: Database, root: Path) -> None:
    say(root, SAID)
    ingest(root)(database, mini.NAME)
    say(root, SAID, name="another")
    assert unread(root)(database, mini.NAME).skipped
    (root / "objects.json").unlink()
    assert unread(root)(database, mini.NAME).skipped
    assert attributes(database) == ROWS


def test_reading_a_scan_again_brings_them_again(database: Database, root: Path) -> None:
    say(root, SAID)
    ingest(root)(database, mini.NAME)
    database.execute("DELETE FROM instance_attribute")
    assert ingest(root, force=True)(database, mini.NAME).counts["attributes"] == 5
    assert attributes(database) == ROWS


def test_a_run_that_ends_before_them_is_taken_up(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(root, SAID)
    ingest(root)(database, mini.NAME)

    def killed(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("open3dsg.steps.ingest.write_attributes", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(root, force=True)(database, mini.NAME)
    (status,) = scan_statuses(database)
    assert status.steps["attributes"].state == "stale"
    assert unread(root)(database, mini.NAME).counts == {"attributes": 5}
    assert attributes(database) == ROWS


def test_annotations_alone_have_attributes_too(database: Database, root: Path) -> None:
    say(root, SAID)
    alone = Ingest(AnnotationReader(root, "3rscan"), "3rscan", "3rscan", None)
    assert alone(database, mini.NAME).counts["attributes"] == 5
    assert attributes(database) == ROWS
    assert alone(database, mini.NAME).skipped
    ingest(root)(database, mini.NAME)
    assert attributes(database) == ROWS


def test_instances_of_masks_have_none(database: Database, root: Path, tmp_path: Path) -> None:
    say(root, SAID)
    ingest(root)(database, mini.NAME)
    # An instance that no subgraph names, and of a number that masks will have.
    for table, columns, values in (
        ("instance", "label_id, point_count", "label_id, 0"),
        ("instance_attribute", "kind, term_id", "kind, term_id"),
    ):
        insert = f"INSERT INTO {table} (scan_id, instance_no, {columns})"
        database.execute(f"{insert} SELECT scan_id, 8, {values} FROM {table} WHERE instance_no = 7".encode())
    for frame in range(mini.FRAMES):
        _, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        path = tmp_path / "masks" / f"frame-{frame:06d}.png"
        write_mask(path, np.where(things < 0, 0, things + 1).astype(np.uint16))
    merge = MergeMasks(tmp_path / "masks", by_scan=False, options=MaskOptions(1, LIMITS), replace=True)
    merge(database, KEY)
    assert (8,) in rows(database, "SELECT instance_no FROM instance")
    assert attributes(database) == []
    (status,) = scan_statuses(database)
    assert "attributes" not in status.steps
    assert unread(root)(database, mini.NAME).skipped
    ingest(root, force=True)(database, mini.NAME)
    assert attributes(database) == ROWS


def test_another_process_has_the_same_to_do(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    say(root, SAID)
    again = build("ingest", describe("ingest", ingest(root)))
    assert again.parts(database, mini.NAME) == [None]
    assert again(database, mini.NAME).counts == {"attributes": 5}


def test_a_scan_deleted_meanwhile_is_told(database: Database, root: Path) -> None:
    say(root, SAID)
    ingest(root)(database, mini.NAME)
    found = ThreeRScan(root).attributes_of(mini.NAME)
    assert found is not None
    delete_scan(database, find_scan(database, mini.NAME))
    with pytest.raises(UserError, match=f"no scan '3rscan/{mini.NAME}' in the store"):
        write_attributes(database, "3rscan", mini.NAME, found, force=False)


def test_words_go_with_the_scan(database: Database, root: Path) -> None:
    say(root, SAID)
    ingest(root)(database, mini.NAME)
    assert rows(database, "SELECT count(*) FROM term WHERE text = 'wooden'") == [(1,)]
    with database.transaction():
        prune_terms(database)
    assert attributes(database) == ROWS, "a word of an attribute is in use"
    delete_scan(database, find_scan(database, mini.NAME))
    clear_away(database, ["3rscan"])
    assert rows(database, "SELECT * FROM instance_attribute") == []
    assert rows(database, "SELECT text FROM term WHERE text IN ('wooden', 'blue')") == []
