"""Scans read again after corrections: what is valid stays, and the store equals one made from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.scannet import ScanNet
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import UserError
from open3dsg.steps.features import DumpNodes, FeatureOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.steps.relabel import Correct, Relabel
from open3dsg.steps.status import scan_statuses
from open3dsg.store.removal import clear_away
from open3dsg.store.roots import dataset_roots, find_move, relocate
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.content import content, row_counts
from tests.db.corrections import (
    CHANGES,
    DUMP,
    DUMP_PIXELS,
    PLY,
    SEMSEG,
    both,
    give_to_the_table,
    label_the_new,
    rename,
    renumber,
    run_all,
    split_the_floor,
)
from tests.db.pipeline import KEY, THRESHOLDS, Database, ingest, observe, rows
from tests.scans import edit_json


@pytest.fixture(autouse=True)
def _small_chunks(encoders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open3dsg.steps.features.nodes.CHUNK", 2)


def rows_by_instance(database: Database) -> dict[tuple[str, int], list[Any]]:
    """Return where each observation and feature lies on disk: a row that is written again lies elsewhere."""
    found: dict[tuple[str, int], list[Any]] = {}
    for table in ("observation", "node_feature"):
        for number, place in rows(
            database, f"SELECT instance_no, (ctid, xmin)::text FROM {table} ORDER BY 2"
        ):
            found.setdefault((table, number), []).append(place)
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_reading_again_does_over_only_what_changed(
    database: Database, fresh: Database, root: Path, name: str
) -> None:
    change, changed = CHANGES[name]
    run_all(database, root)
    before = rows_by_instance(database)
    change(root / mini.NAME)

    # Every other time by the command for it, which does the same.
    by_force = list(CHANGES).index(name) % 2 == 0
    step, what = (ingest(root, force=True), mini.NAME) if by_force else (Relabel(), KEY)
    counts = step(database, what).counts
    left = rows_by_instance(database)
    assert left == {key: places for key, places in before.items() if key[1] not in changed}
    total = {table: sum(len(p) for (t, _), p in before.items() if t == table) for table, _ in before}
    assert counts["observations_kept"] + counts["observations_dropped"] == total["observation"]
    assert counts["features_kept"] == sum(len(left[key]) for key in left if key[0] == "node_feature")

    observed = observe()(database, KEY)
    dumped = [dump(database, KEY) for dump in (DUMP, DUMP_PIXELS)]
    assert [observed.skipped, *(summary.skipped for summary in dumped)] == [not changed] * 3
    after = rows_by_instance(database)
    assert {key: after[key] for key in left} == left, "rows of other instances are as they were"
    for number in changed - {7}:
        assert ("observation", number) in after
        assert len(after["node_feature", number]) == 2

    run_all(fresh, root)
    clear_away(database, ())
    assert content(database) == content(fresh)
    assert observe()(database, KEY).skipped
    assert DUMP(database, KEY).skipped


def test_what_changed_is_counted(database: Database, root: Path) -> None:
    run_all(database, root)
    CHANGES["all at once"][0](root / mini.NAME)
    counts = dict(Relabel()(database, KEY).counts)
    held = row_counts(database)
    assert counts == {
        "points": 320,
        "frames": 4,
        "instances": 5,
        "subgraphs": 1,
        "objects": 4,
        "triples": 4,
        "labels_changed": 1,
        "instances_kept": 2,
        "instances_changed": 1,
        "instances_new": 1,
        "instances_gone": 1,
        "observations_kept": held["observation"],
        "observations_dropped": 16 - held["observation"],
        "features_kept": 2,
        "features_dropped": 6,
        "pairs_kept": 0,
        "pairs_dropped": 0,
        "pair_features_kept": 0,
        "pair_features_dropped": 0,
        "captions_kept": 0,
        "captions_dropped": 0,
    }
    (status,) = scan_statuses(database)
    assert [status.state(step) for step in ("ingest", "annotate", "observe")] == ["done", "done", "stale"]
    assert {done.state for done in status.features().values()} == {"stale"}
    assert status.missing == "stale observations: open3dsg observe"
    with pytest.raises(UserError, match="lacks observations of changed instances: run `open3dsg observe"):
        DUMP(database, KEY)
    observe()(database, KEY)
    (status,) = scan_statuses(database)
    assert status.missing == "stale features: open3dsg features dump --nodes --encoder toy"


@pytest.mark.parametrize("what", ["points", "frames", "pose"])
def test_other_points_or_frames_leave_nothing_of_what_was_made(
    database: Database, fresh: Database, root: Path, what: str
) -> None:
    run_all(database, root)
    folder = root / mini.NAME
    if what == "points":
        lines = (folder / PLY).read_text().splitlines()
        at = lines.index("end_header") + 1
        lines[at] = " ".join(["0.25", *lines[at].split()[1:]])
        (folder / PLY).write_text("\n".join(lines) + "\n")
    elif what == "frames":
        (folder / "sequence/frame-000003.pose.txt").unlink()
    else:
        matrix = mini.pose(2)
        matrix[0, 3] += 0.001
        (folder / "sequence/frame-000002.pose.txt").write_text(
            "\n".join(" ".join(f"{v:.9g}" for v in row) for row in matrix) + "\n"
        )
    counts = Relabel()(database, KEY).counts
    held = row_counts(database)
    assert (held["observation"], held["node_feature"]) == (0, 0)
    assert (counts["observations_kept"], counts["observations_dropped"], counts["features_dropped"]) == (
        0,
        16,
        8,
    )
    (status,) = scan_statuses(database)
    assert status.state("observe") == "never"
    for step in (observe(), DUMP, DUMP_PIXELS):
        step(database, KEY)
    run_all(fresh, root)
    clear_away(database, ())
    assert content(database) == content(fresh)


def test_a_scan_that_did_not_change_keeps_everything(database: Database, root: Path) -> None:
    run_all(database, root)
    before, lies = content(database), rows_by_instance(database)
    counts = Relabel()(database, KEY).counts
    assert (counts["labels_changed"], counts["instances_kept"], counts["observations_dropped"]) == (0, 4, 0)
    assert content(database) == before
    assert rows_by_instance(database) == lies


def test_new_colours_are_written_and_cost_nothing_else(
    database: Database, fresh: Database, root: Path
) -> None:
    run_all(database, root)
    (root / mini.NAME / "mesh.refined_0.png").unlink()
    Relabel()(database, KEY)
    assert observe()(database, KEY).skipped
    run_all(fresh, root)
    assert content(database) == content(fresh)


def test_instances_with_a_missing_picture_are_looked_at_again(
    database: Database, fresh: Database, root: Path
) -> None:
    """What is told of a chunk that is filled in is what a fresh store would tell."""
    run_all(database, root)
    DUMP(database, KEY)
    photo = root / mini.NAME / "sequence/frame-000001.color.jpg"
    whole = photo.read_bytes()
    photo.write_bytes(whole[:200])
    database.execute("DELETE FROM node_feature")
    database.execute("DELETE FROM ledger WHERE step = 'features.nodes'")
    DUMP(database, KEY)
    assert len(rows(database, "SELECT FROM ledger, jsonb_array_elements(problems) WHERE step LIKE 'f%'")) == 2
    rename(4, "floor")(root / mini.NAME)
    Relabel()(database, KEY)
    observe()(database, KEY)
    DUMP(database, KEY)
    ingest(root)(fresh, mini.NAME)
    observe()(fresh, KEY)
    DUMP(fresh, KEY)
    ignored = ("encoder", "term")
    for table, held in content(database).items():
        if table not in ignored:
            assert held == content(fresh)[table], table


def test_one_changed_instance_without_a_picture_does_not_fail_the_scan(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open3dsg.steps.features.nodes.CHUNK", 64)
    dump = DumpNodes(FeatureOptions("toy", top_k_frames=1))
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    dump(database, KEY)
    for photo in (root / mini.NAME / "sequence").glob("*.color.jpg"):
        photo.write_bytes(photo.read_bytes()[:200])
    rename(4, "wall")(root / mini.NAME)
    Relabel()(database, KEY)
    observe()(database, KEY)
    summary = dump(database, KEY)
    assert [problem.kind for problem in summary.problems] == ["image_unreadable"]
    assert rows(database, "SELECT instance_no FROM node_feature ORDER BY 1") == [(1,), (2,), (7,)]
    assert dump(database, KEY).skipped


def test_filling_in_goes_on_where_it_was_cut_off(
    database: Database, fresh: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import toy_encoder

    run_all(database, root)
    both(renumber(split_the_floor), label_the_new)(root / mini.NAME)
    Relabel()(database, KEY)
    observe()(database, KEY)
    calls = 0
    see = toy_encoder.Toy.encode_crops

    def fail_later(self: toy_encoder.Toy, crops: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyboardInterrupt
        return see(self, crops)

    monkeypatch.setattr(toy_encoder.Toy, "encode_crops", fail_later)
    with pytest.raises(KeyboardInterrupt):
        DUMP(database, KEY)
    monkeypatch.setattr(toy_encoder.Toy, "encode_crops", see)
    for step in (DUMP, DUMP_PIXELS):
        step(database, KEY)
    run_all(fresh, root)
    clear_away(database, ())
    assert content(database) == content(fresh)


def test_chunks_that_are_filled_in_one_by_one(database: Database, fresh: Database, root: Path) -> None:
    run_all(database, root)
    both(renumber(split_the_floor), label_the_new, renumber(give_to_the_table))(root / mini.NAME)
    Relabel()(database, KEY)
    observe()(database, KEY)
    for dump in (DUMP, DUMP_PIXELS):
        assert dump.parts(database, KEY) == [0, 1, 2]
        for chunk in (2, 0, 1):
            DumpNodes(dump.options, chunk=chunk)(database, KEY)
    run_all(fresh, root)
    clear_away(database, ())
    assert content(database) == content(fresh)


def test_fewer_chunks_leave_no_line_behind(database: Database, fresh: Database, root: Path) -> None:
    both(renumber(split_the_floor), label_the_new)(root / mini.NAME)
    run_all(database, root)
    assert len(rows(database, "SELECT FROM ledger WHERE step = 'features.nodes'")) == 6
    renumber(lambda numbers: [1 if number == 3 else number for number in numbers])(root / mini.NAME)
    Relabel()(database, KEY)
    for step in (observe(), DUMP, DUMP_PIXELS):
        step(database, KEY)
    assert len(rows(database, "SELECT FROM ledger WHERE step = 'features.nodes'")) == 4
    run_all(fresh, root)
    clear_away(database, ())
    assert content(database) == content(fresh)


def test_labels_of_ones_own(database: Database, root: Path) -> None:
    run_all(database, root)
    (root / mini.NAME / SEMSEG).unlink()  # no file is read
    correct = Correct({KEY: {4: "writing desk", 7: "wall", 1: "floor"}})
    assert correct(database, KEY).counts == {
        "labels_changed": 2,
        "observations_kept": 12,
        "observations_dropped": 4,
        "features_kept": 6,
        "features_dropped": 2,
        "pairs_kept": 0,
        "pairs_dropped": 0,
        "pair_features_kept": 0,
        "pair_features_dropped": 0,
        "captions_kept": 0,
        "captions_dropped": 0,
    }
    labels = dict(rows(database, "SELECT instance, label FROM v_node"))
    assert labels == {1: "floor", 2: "wall", 4: "writing desk", 7: "wall"}
    observe()(database, KEY)
    before = content(database)
    with pytest.raises(UserError, match=f"scan {KEY} has no instance 5: it has 4, from 1 to 7"):
        Correct({KEY: {4: "desk", 5: "?"}})(database, KEY)
    assert {**content(database), "term": []} == {**before, "term": []}


def test_relabel_reads_as_the_scan_was_read(database: Database, tmp_path: Path) -> None:
    root, annotations = tmp_path / "root", tmp_path / "elsewhere"
    mini.write_scan(root, y_up=True)
    mini.write_scan(root, "b")
    mini.write_annotations(annotations, mini.subgraph())
    for name, axes in ((mini.NAME, "y-up"), ("b", "y-down")):
        reader = ThreeRScan(root, annotations, axes)  # type: ignore[arg-type]
        Ingest(reader, "3rscan", "3rscan", str(root))(database, name)
    before = content(database)
    relabel = Relabel()
    for name in (mini.NAME, "b"):
        assert relabel(database, f"3rscan/{name}").counts["labels_changed"] == 0
    after = content(database)
    assert {**after, "dataset": []} == {**before, "dataset": []}
    (known,) = dataset_roots(database)
    assert known.arguments is not None
    assert known.arguments["annotations"] == str(annotations)


def test_moved_instances_are_those_that_gained_or_lost_a_point() -> None:
    from open3dsg.store.geometry import moved_instances

    before = np.array([-1, 1, 1, 2, 3, 5], np.int32)
    after = np.array([-1, 1, 2, 2, -1, 5], np.int32)
    assert moved_instances(before, after) == {1, 2, 3}
    assert moved_instances(before, before) == set()


def test_scannet_is_relabelled_and_moved_too(database: Database, fresh: Database, tmp_path: Path) -> None:
    root = tmp_path / "ScanNet"
    scannet.write_metadata(root)
    place = scannet.write_scan(root, scannet.NAME)
    key = f"scannet/{scannet.NAME}"
    look = Observe(ObserveOptions(1, THRESHOLDS))
    reader = ScanNet(root, frames=place.frames.parent, labels="nyu40")
    Ingest(reader, "scannet", "scannet", str(root))(database, scannet.NAME)
    for step in (look, DUMP, DUMP_PIXELS):
        step(database, key)
    # The dataset was last opened otherwise; the scan is read as it was read.
    Ingest(ScanNet(root), "scannet", "scannet", str(root)).dataset_id(database)

    new = root.rename(tmp_path / "moved")
    (new / "nyu40").mkdir()  # is not the label set of this name
    relocate(database, find_move(database, "scannet", new, "all"))

    def rename(groups: Any) -> None:
        groups["segGroups"][3]["label"] = "wall"

    edit_json(new / place.folder.relative_to(root) / f"{scannet.NAME}.aggregation.json", rename)
    counts = Relabel()(database, key).counts
    assert counts.items() >= {"labels_changed": 1, "instances_kept": 4, "observations_dropped": 4}.items()
    for step in (look, DUMP, DUMP_PIXELS):
        assert not step(database, key).skipped

    again = ScanNet(new, frames=new / place.frames.parent.relative_to(root), labels="nyu40")
    Ingest(again, "scannet", "scannet", str(new))(fresh, scannet.NAME)
    for step in (look, DUMP, DUMP_PIXELS):
        step(fresh, key)
    clear_away(database, ())
    assert content(database) == content(fresh)


def test_a_dataset_of_sens_files_moves_too(database: Database, tmp_path: Path) -> None:
    root = tmp_path / "ScanNet"
    scannet.write_metadata(root)
    place = scannet.write_scan(root, scannet.NAME, frames=None, sens=True)
    Ingest(ScanNet(root), "scannet", "scannet", str(root))(database, scannet.NAME)
    new = root.rename(tmp_path / "moved")
    move = find_move(database, "scannet", new, "all")
    assert (move.pictures, list(move.pictures_missing)) == (2 * scannet.FRAMES, [])

    sens = new / place.folder.relative_to(root) / f"{scannet.NAME}.sens"
    sens.write_bytes(sens.read_bytes()[:-5000])  # the last frame, and the one before it, are cut off
    cut = find_move(database, "scannet", new, "all")
    assert 0 < len(cut.pictures_missing) < cut.pictures
    sens.unlink()
    with pytest.raises(UserError, match=f"none of the {2 * scannet.FRAMES} pictures looked for"):
        find_move(database, "scannet", new, "all")
