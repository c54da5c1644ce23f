"""Instances from masks in the store: in place of the dataset's, all or none, and back again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import UserError
from open3dsg.geometry.mask_thresholds import MergeThresholds
from open3dsg.steps.catalogue import build, describe, lacking_here
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.masks import MaskOptions, MergeMasks
from open3dsg.steps.relabel import Correct, Relabel
from open3dsg.steps.status import scan_statuses
from open3dsg.store.cloud import read_cloud
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests.content import content
from tests.db.pipeline import KEY, Database, ingest, observe, rows
from tests.masks import best_overlaps, write_mask

# The miniature has few points: 64 a thing.
LIMITS = MergeThresholds(min_mask_points=3, min_points=5)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """The true masks of the miniature, of the size of its photos; ids differ from frame to frame."""
    for frame in range(mini.FRAMES):
        _, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        ids = np.where(things < 0, 0, 1000 * (frame + 1) + 7 * things).astype(np.uint16)
        write_mask(tmp_path / "masks" / f"frame-{frame:06d}.png", ids)
    return tmp_path / "masks"


def merge(folder: Path, *, by_scan: bool = False, every: int = 1, **changes: Any) -> MergeMasks:
    return MergeMasks(folder, by_scan, MaskOptions(every, LIMITS), **changes)


def instances(database: Database) -> np.ndarray[Any, Any]:
    scan = find_scan(database, KEY)
    return read_cloud(database, scan.scan_id, scan.name).instance


def test_things_of_the_masks_stand_for_those_of_the_dataset(
    database: Database, root: Path, masks: Path
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    true = instances(database).copy()
    annotated = rows(database, "SELECT * FROM relationship ORDER BY 1, 2, 3, 4, 5")
    summary = merge(masks, replace=True)(database, KEY)
    found = instances(database)
    # Numbers go on after those that annotations speak of; rows of these stay, without points.
    assert set(found.tolist()) - {-1} == set(range(8, 8 + summary.counts["instances"]))
    assert min(best_overlaps(true, found).values()) > 0.5
    stored = rows(
        database,
        "SELECT instance_no, text, point_count FROM instance JOIN term ON term_id = label_id ORDER BY 1",
    )
    assert stored[:4] == [(number, label, 0) for number, label in sorted(mini.LABELS.items())]
    assert stored[4:] == [
        (number, "object", int((found == number).sum()))
        for number in range(8, 8 + summary.counts["instances"])
    ]
    assert rows(database, "SELECT * FROM relationship ORDER BY 1, 2, 3, 4, 5") == annotated
    assert not summary.problems
    assert summary.counts["masks"] == summary.counts["masks_kept"] > 12
    assert summary.counts["points_assigned"] == (found >= 0).sum()
    # Of what was made of the others nothing is left, and the steps make it of these.
    assert rows(database, "SELECT count(*) FROM observation") == [(0,)]
    assert observe()(database, KEY).counts["observations"] > 8


def test_the_same_again_does_nothing_and_others_need_to_be_asked_for(
    database: Database, root: Path, masks: Path
) -> None:
    ingest(root)(database, mini.NAME)
    assert merge(masks, replace=True).parts(database, KEY) == [None]
    merge(masks, replace=True)(database, KEY)
    before = content(database)
    assert merge(masks)(database, KEY).skipped
    assert merge(masks).parts(database, KEY) == []
    with pytest.raises(UserError, match=r"^masks was done with other options \(every 1, now 2\)"):
        merge(masks, every=2)(database, KEY)
    write_mask(masks / "frame-000000.png", np.ones((72, 96), np.uint8))
    with pytest.raises(UserError, match=r"masks was done with other options \(content "):
        merge(masks)(database, KEY)
    assert content(database) == before
    assert not merge(masks, replace=True)(database, KEY).skipped


def test_instances_of_a_dataset_are_not_dropped_by_a_slip(
    database: Database, root: Path, masks: Path
) -> None:
    ingest(root)(database, mini.NAME)
    before = content(database)
    with pytest.raises(UserError, match="has the instances of its dataset: --replace drops them"):
        merge(masks)(database, KEY)
    with pytest.raises(UserError, match="has the instances of its dataset: --replace drops them"):
        merge(masks, force=True)(database, KEY)
    assert content(database) == before
    merge(masks, replace=True)(database, KEY)
    assert not merge(masks, force=True)(database, KEY).skipped


def test_a_scan_without_instances_gets_them_unasked(database: Database, root: Path, masks: Path) -> None:
    folder = root / mini.NAME
    for name in ("labels.instances.annotated.v2.ply", "semseg.v2.json", "mesh.refined.0.010000.segs.v2.json"):
        (folder / name).unlink()
    (root / "relationships_train.json").unlink()
    ingest(root)(database, mini.NAME)
    assert set(instances(database).tolist()) == {-1}
    assert [status.missing for status in scan_statuses(database)] == ["instances: open3dsg masks merge"]
    summary = merge(masks)(database, KEY)
    assert [status.missing for status in scan_statuses(database)] == ["observations: open3dsg observe"]
    assert set(instances(database).tolist()) - {-1} == set(range(1, 1 + summary.counts["instances"]))


def test_reading_the_scan_again_brings_the_instances_of_its_dataset_back(
    database: Database, fresh: Database, root: Path, masks: Path
) -> None:
    ingest(root)(database, mini.NAME)
    merge(masks, replace=True)(database, KEY)
    assert ingest(root)(database, mini.NAME).skipped
    ingest(root, force=True)(database, mini.NAME)
    ingest(root)(fresh, mini.NAME)
    mine, plain = content(database), content(fresh)
    mine["term"] = [row for row in mine["term"] if "object" not in row]
    assert mine == plain
    with pytest.raises(UserError, match="has the instances of its dataset"):
        merge(masks)(database, KEY)


def test_relabelling_from_files_does_not_drop_them(database: Database, root: Path, masks: Path) -> None:
    ingest(root)(database, mini.NAME)
    merge(masks, replace=True)(database, KEY)
    before = content(database)
    with pytest.raises(UserError, match="merged from masks, not read from its files: `open3dsg") as refused:
        Relabel()(database, KEY)
    assert "\n" not in str(refused.value)
    assert content(database) == before
    counts = Correct({KEY: {8: "chair"}})(database, KEY).counts
    assert counts["labels_changed"] == 1
    assert merge(masks)(database, KEY).skipped


def test_instances_are_counted_that_have_points(database: Database, root: Path, masks: Path) -> None:
    counted = "SELECT instances FROM v_scan"
    ingest(root)(database, mini.NAME)
    summary = merge(masks, replace=True)(database, KEY)
    assert rows(database, counted) == [(summary.counts["instances"],)]
    assert len(rows(database, "SELECT FROM instance")) == summary.counts["instances"] + len(mini.LABELS)


def test_annotations_do_not_come_to_instances_of_masks(database: Database, root: Path, masks: Path) -> None:
    annotations = root / "relationships_train.json"
    kept = annotations.read_bytes()
    annotations.unlink()
    ingest(root)(database, mini.NAME)
    merge(masks, replace=True)(database, KEY)
    annotations.write_bytes(kept)
    before = content(database)
    with pytest.raises(
        UserError, match="merged from masks, of which its annotations do not speak: `open3dsg"
    ):
        ingest(root)(database, mini.NAME)
    after = content(database)
    assert {name: after[name] for name in after if name != "term"} == {
        name: before[name] for name in before if name != "term"
    }
    Ingest(ThreeRScan(root), "3rscan", "3rscan", str(root), force=True)(database, mini.NAME)
    assert rows(database, "SELECT count(*) FROM subgraph_member") == [(4,)]


def test_what_cannot_be_used_is_counted_and_the_rest_is_merged(
    database: Database, root: Path, masks: Path
) -> None:
    (root / mini.NAME / "sequence" / "frame-000003.pose.txt").write_text("-inf " * 16)
    ingest(root)(database, mini.NAME)
    write_mask(masks / "frame-000000.png", np.ones((96, 72), np.uint8))  # turned
    (masks / "frame-000001.png").write_bytes(b"no picture")
    write_mask(masks / "17.png", np.ones((72, 96), np.uint8))
    with pytest.raises(UserError, match=r"masks of 1 frames give no instance"):
        merge(masks, replace=True)(database, KEY)
    single = MergeMasks(
        masks, False, MaskOptions(1, MergeThresholds(min_mask_points=3, min_masks=1)), replace=True
    )
    summary = single(database, KEY)
    assert sorted(problem.kind for problem in summary.problems) == [
        "mask_of_another_size", "mask_unreadable", "mask_without_frame", "mask_without_frame"
    ]  # fmt: skip
    assert summary.counts["frames"] == 1
    (stored,) = rows(database, "SELECT problems FROM ledger WHERE step = 'masks'")
    assert [problem["kind"] for problem in stored[0]] == [problem.kind for problem in summary.problems]
    (masks / "frame-000002.png").unlink()
    with pytest.raises(UserError, match=r"no mask of 4 files can be used, such as: "):
        merge(masks, replace=True, every=1)(database, KEY)


def test_masks_of_another_scan_are_told(database: Database, root: Path, masks: Path) -> None:
    ingest(root)(database, mini.NAME)
    rng = np.random.default_rng(0)
    for path in masks.iterdir():
        # A few blocks anywhere, as far as this scan is concerned.
        blocks = rng.permutation(24).reshape(4, 6) // 3 + 1
        write_mask(path, blocks.repeat(18, axis=0).repeat(16, axis=1).astype(np.uint8))
    single = replace(LIMITS, min_masks=1)
    summary = MergeMasks(masks, False, MaskOptions(1, single), replace=True)(database, KEY)
    assert [problem.kind for problem in summary.problems] == ["masks_disagree"]
    assert "masks cover several things" in summary.problems[0].detail


def test_a_frame_without_mask_is_counted(database: Database, root: Path, masks: Path) -> None:
    ingest(root)(database, mini.NAME)
    (masks / "frame-000002.png").unlink()
    summary = merge(masks, replace=True)(database, KEY)
    assert [problem.kind for problem in summary.problems] == ["frame_without_mask"]
    # Frames that --every leaves out need none.
    summary = merge(masks, replace=True, every=3)(database, KEY)
    assert not summary.problems
    assert summary.counts["frames"] == 2


def test_pixels_that_are_no_ids_stop_it_and_nothing_is_written(
    database: Database, root: Path, masks: Path
) -> None:
    ingest(root)(database, mini.NAME)
    before = content(database)
    write_mask(masks / "frame-000003.png", np.zeros((72, 96, 3), np.uint8))
    with pytest.raises(UserError, match=r"frame-000003.png: a mask is a grey PNG .* PNG of mode RGB: number"):
        merge(masks, replace=True)(database, KEY)
    assert content(database) == before


def test_a_folder_a_scan_and_the_queue(database: Database, root: Path, masks: Path, tmp_path: Path) -> None:
    ingest(root)(database, mini.NAME)
    whole = tmp_path / "all"
    whole.mkdir()
    work = merge(whole, by_scan=True, replace=True)
    with pytest.raises(UserError, match=rf"all/{mini.NAME}: no folder of masks"):
        work(database, KEY)
    masks.rename(whole / mini.NAME)
    arguments = describe("masks", work)
    assert build("masks", arguments) == work
    assert lacking_here(database, "masks", arguments, KEY) is None
    assert "is not on this machine" in str(
        lacking_here(database, "masks", arguments | {"folder": "/nowhere"}, KEY)
    )
    assert not work(database, KEY).skipped


def test_a_stride_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="--every is 0: give 1 or more"):
        MaskOptions(every=0)
