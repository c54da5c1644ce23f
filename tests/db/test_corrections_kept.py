"""Corrections of scans that are read again, or get other instances: kept by number, counted where dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from open3dsg.query.graph import read_graph
from open3dsg.steps.relabel import Correct, Relabel
from open3dsg.store.corrections import correct_label, correct_relation, list_corrections
from tests import miniature as mini
from tests.db.corrections import (
    SEMSEG,
    Change,
    both,
    give_to_the_table,
    label_the_new,
    lose_the_picture,
    rename,
    renumber,
    split_the_floor,
)
from tests.db.pipeline import KEY, Database, ingest, rows
from tests.db.test_masks import masks, merge
from tests.scans import edit_json

__all__ = ["masks"]  # a fixture


def unname(number: int) -> Change:
    def change(folder: Path) -> None:
        def edit(groups: Any) -> None:
            groups["segGroups"] = [group for group in groups["segGroups"] if group["objectId"] != number]

        edit_json(folder / SEMSEG, edit)

    return change


def say_something(database: Database) -> None:
    correct_label(database, KEY, 4, "desk", "ana")
    correct_label(database, KEY, 7, "poster", "ana")
    correct_relation(database, KEY, 7, "above", 4, True, "ana")
    correct_relation(database, KEY, 4, "standing on", 1, False, "ana")


@pytest.mark.parametrize("by_force", [False, True])
def test_corrections_survive_where_the_number_does(database: Database, root: Path, by_force: bool) -> None:
    ingest(root)(database, mini.NAME)
    say_something(database)
    told = list_corrections(database)
    both(renumber(give_to_the_table), rename(4, "bench"))(root / mini.NAME)
    step, what = (ingest(root, force=True), mini.NAME) if by_force else (Relabel(), KEY)
    counts = step(database, what).counts
    assert (counts["corrections_kept"], counts["corrections_dropped"]) == (4, 0)
    assert [one.correction_id for one in list_corrections(database)] == [one.correction_id for one in told]
    labels = {node.instance: (node.label, node.annotated_label) for node in read_graph(database, KEY).nodes}
    assert (labels[4], labels[7]) == (("desk", "bench"), ("poster", "picture"))
    assert Correct({KEY: {4: "stool"}})(database, KEY).counts["labels_changed"] == 1
    labels = {node.instance: (node.label, node.annotated_label) for node in read_graph(database, KEY).nodes}
    assert labels[4] == ("desk", "stool")


def test_corrections_of_what_is_gone_are_counted(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    database.execute("DELETE FROM subgraph")  # whose annotations would still name it
    (root / "relationships_train.json").unlink()
    say_something(database)
    both(renumber(split_the_floor), label_the_new, renumber(lose_the_picture), unname(7))(root / mini.NAME)
    counts = Relabel()(database, KEY).counts
    assert (counts["corrections_kept"], counts["corrections_dropped"]) == (2, 2)
    assert {one.instance for one in list_corrections(database)} == {4}


def test_no_corrections_are_not_spoken_of(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    assert "corrections_kept" not in Relabel()(database, KEY).counts


def test_other_instances_of_the_same_numbers_get_nobody_elses_corrections(
    database: Database, root: Path, masks: Path
) -> None:
    (root / "relationships_train.json").unlink()
    ingest(root)(database, mini.NAME)
    say_something(database)
    counts = merge(masks, replace=True)(database, KEY).counts
    assert counts["corrections_dropped"] == 4
    assert {number for (number,) in rows(database, "SELECT instance_no FROM instance")} >= {1, 2, 4}
    assert list_corrections(database) == []

    correct_label(database, KEY, 1, "rug", "ana")
    counts = ingest(root, force=True)(database, mini.NAME).counts
    assert (counts["corrections_kept"], counts["corrections_dropped"]) == (0, 1)


def test_masks_leave_corrections_of_annotated_instances(database: Database, root: Path, masks: Path) -> None:
    ingest(root)(database, mini.NAME)
    say_something(database)
    merge(masks, replace=True)(database, KEY)
    correct_label(database, KEY, 8, "rug", "ana")
    assert len(list_corrections(database)) == 5
    counts = ingest(root, force=True)(database, mini.NAME).counts
    assert (counts["corrections_kept"], counts["corrections_dropped"]) == (4, 1)
