"""A fused recording as rows: what the reader gave, read again without change, and by another process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from open3dsg.datasets.layouts import open_reader
from open3dsg.errors import UserError
from open3dsg.geometry.mask_thresholds import MergeThresholds
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.steps import catalogue
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.masks import MaskOptions, MergeMasks
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.steps.relabel import Relabel
from open3dsg.store.cloud import read_cloud
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests import rgbd_miniature as rgbd
from tests.masks import write_mask
from tests.rgbd_miniature import NAME, NUMBERS
from tests.scans import cloud_of

Database = psycopg.Connection[Any]
OPTIONS = {"voxel_m": 0.05, "every": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rgbd.write_recording(tmp_path)
    return tmp_path


def ingest(root: Path, *, force: bool = False, **options: object) -> Ingest:
    return Ingest(open_reader("rgbd", root, OPTIONS | options), "mine", "rgbd", str(root), force)


def test_points_and_frames_are_what_was_read(database: Database, root: Path) -> None:
    counts = ingest(root)(database, NAME).counts
    stored = find_scan(database, f"mine/{NAME}")
    cloud, scan = read_cloud(database, stored.scan_id, NAME), open_reader("rgbd", root, OPTIONS).read(NAME)
    assert counts == {"points": len(cloud.xyz_m), "frames": 2, "instances": 0}
    for part in ("xyz_m", "rgb", "normals", "instance"):
        np.testing.assert_array_equal(getattr(cloud, part), getattr(cloud_of(scan), part))
    assert cloud.colour_source == "frames"
    frames = database.execute("SELECT frame_no, image_uri, depth_unit_m FROM frame ORDER BY 1").fetchall()
    stem = f"{NAME}/rgb/frame-00000"
    assert frames == [(NUMBERS[0], f"{stem}3.png", 0.001), (NUMBERS[2], f"{stem}9.png", 0.001)]


def test_reading_again_changes_nothing_and_other_options_are_refused(database: Database, root: Path) -> None:
    ingest(root)(database, NAME)
    assert ingest(root)(database, NAME).skipped
    xmin = "SELECT array_agg(xmin::text ORDER BY block_no) FROM point_block"
    before = database.execute(xmin.encode()).fetchall()
    assert not ingest(root, force=True)(database, NAME).skipped
    assert database.execute(xmin.encode()).fetchall() == before, "the same points are not written again"
    with pytest.raises(UserError, match=r"ingest was done with other options \(every 2, now 1\)"):
        ingest(root, every=1)(database, NAME)


def test_merged_instances_are_dropped_only_when_that_is_said(
    database: Database, root: Path, tmp_path: Path
) -> None:
    """The recording has none of its own, which reading it again could bring back."""
    for place, number in enumerate(NUMBERS[::2]):
        _, things = mini.cast(2 * place, rgbd.SIZE, rgbd.FOCAL)
        write_mask(tmp_path / "masks" / f"{number}.png", (1 + place + things).astype(np.uint16))
    ingest(root)(database, NAME)
    limits = MergeThresholds(min_mask_points=3, min_points=5, min_masks=1)
    merged = MergeMasks(tmp_path / "masks", False, MaskOptions(1, limits))(database, f"mine/{NAME}")
    assert merged.counts["frames"] == 2
    assert merged.counts["instances"] >= 3
    count = "SELECT count(*) FROM instance WHERE point_count > 0"
    with pytest.raises(UserError, match="--force and --replace does that, and `open3dsg masks merge`"):
        ingest(root, force=True)(database, NAME)
    with pytest.raises(UserError, match="merged from masks"):
        Relabel()(database, NAME)
    assert ingest(root)(database, NAME).skipped
    assert database.execute(count).fetchone() == (merged.counts["instances"],)
    replaced = dataclasses.replace(ingest(root, force=True), replace=True)
    assert replaced(database, NAME).counts["instances_gone"] == merged.counts["instances"]
    assert database.execute(count).fetchone() == (0,)
    assert not ingest(root, force=True)(database, NAME).skipped, "nothing is left to be lost"


def test_the_usual_value_by_name_is_no_other_option(database: Database, root: Path) -> None:
    ingest(root)(database, NAME)
    again = ingest(root, depth_scale=1000.0, world_up="z", camera_axes="y-down", poses_map="camera-to-world")
    assert again(database, NAME).skipped
    with pytest.raises(UserError, match=r"other options \(world_up z, now y\)"):
        ingest(root, world_up="y")(database, NAME)


def test_the_step_travels_to_another_process(database: Database, root: Path) -> None:
    work = ingest(root)
    again = catalogue.build("ingest", catalogue.describe("ingest", work))
    assert again(database, NAME).counts["frames"] == 2
    assert work(database, NAME).skipped


def test_observing_a_scan_without_instances_says_the_way_out(database: Database, root: Path) -> None:
    ingest(root)(database, NAME)
    summary = Observe(ObserveOptions(1, VisibilityThresholds()))(database, f"mine/{NAME}")
    assert summary.counts == {"frames": 2, "observations": 0}
    (problem,) = summary.problems
    assert problem.kind == "scan_without_instances"
    assert f"`open3dsg masks merge --scan mine/{NAME}`" in problem.detail
