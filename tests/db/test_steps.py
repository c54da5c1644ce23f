"""Ingest and observe on a miniature: rows against what it was made of, resuming, replacing, failing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from open3dsg.datasets.annotations import AnnotationReader
from open3dsg.datasets.scan import Problem
from open3dsg.datasets.scannet import ScanNet
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.db import ledger
from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import unpack_pixels
from open3dsg.steps.features import DumpNodes, FeatureOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.steps.runner import run_step
from open3dsg.steps.status import scan_statuses
from open3dsg.steps.summary import Report
from open3dsg.store.cloud import read_cloud
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests.db.pipeline import KEY, Database, content, expected_visible, ingest, observe, rows
from tests.scans import replace


def test_ingest_writes_what_the_files_hold(database: Database, root: Path) -> None:
    summary = ingest(root)(database, mini.NAME)
    assert summary.counts == {
        "points": 320,
        "frames": 4,
        "instances": 4,
        "subgraphs": 1,
        "objects": 4,
        "triples": 4,
    }
    scan = find_scan(database, mini.NAME)
    cloud = read_cloud(database, scan.scan_id, scan.name)
    xyz, numbers, colours = mini.points()
    np.testing.assert_allclose(cloud.xyz_m, xyz, atol=1e-6)
    np.testing.assert_array_equal(cloud.instance, np.where(numbers == 0, -1, numbers))
    np.testing.assert_array_equal(cloud.rgb, colours)
    assert cloud.normals is not None
    for number, label, centroid, low, high, lengths in rows(
        database,
        "SELECT instance_no, text, centroid_m, aabb_min_m, aabb_max_m, obb_lengths_m FROM instance"
        " JOIN term ON label_id = term_id",
    ):
        own = xyz[numbers == number]
        assert label == mini.LABELS[number]
        np.testing.assert_allclose(centroid, own.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose([low, high], [own.min(axis=0), own.max(axis=0)], atol=1e-5)
        np.testing.assert_allclose(np.sort(lengths), np.sort(np.ptp(own, axis=0)), atol=1e-4)
    assert content(database)["triples"] == [
        (mini.NAME, 1, 4, "close by", 1),
        (mini.NAME, 1, 4, "close by", 2),
        (mini.NAME, 1, 4, "standing on", 1),
        (mini.NAME, 1, 7, "hanging on", 2),
    ]
    (matrix,) = rows(database, "SELECT t_world_camera FROM frame WHERE frame_no = 2")[0]
    np.testing.assert_allclose(np.reshape(matrix, (4, 4)), mini.pose(2), atol=1e-8)


def test_a_large_cloud_takes_several_blocks(
    database: Database, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open3dsg.store.cloud.BLOCK_POINTS", 100)
    ingest(root)(database, mini.NAME)
    assert rows(database, "SELECT block_no, point_count FROM point_block ORDER BY 1") == [
        (0, 100),
        (1, 100),
        (2, 100),
        (3, 20),
    ]
    scan = find_scan(database, mini.NAME)
    np.testing.assert_allclose(
        read_cloud(database, scan.scan_id, scan.name).xyz_m, mini.points()[0], atol=1e-6
    )


def test_ingest_again_does_nothing_and_force_does_it_over(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    before = content(database)
    assert ingest(root)(database, mini.NAME).skipped
    replace(root / mini.NAME / "semseg.v2.json", '"table"', '"desk"')
    assert ingest(root)(database, mini.NAME).skipped
    assert content(database) == before
    ingest(root, force=True)(database, mini.NAME)
    assert (4, "desk") in [row[2:4] for row in content(database)["nodes"]]
    assert content(database)["triples"] == before["triples"]


def test_annotations_and_geometry_come_in_any_order(database: Database, root: Path) -> None:
    reader = AnnotationReader(root, "3rscan")
    only = Ingest(reader, "3rscan", "3rscan", None)
    assert only(database, mini.NAME).counts == {"subgraphs": 1, "objects": 4, "triples": 4}
    assert [row[4:] for row in content(database)["nodes"]] == [(None, 0)] * 4
    assert only(database, mini.NAME).skipped
    (status,) = scan_statuses(database)
    assert status.missing == "geometry: open3dsg ingest 3rscan ROOT"
    first = content(database)["triples"]
    summary = ingest(root)(database, mini.NAME)
    assert summary.counts == {"points": 320, "frames": 4, "instances": 4}
    after = content(database)
    assert after["triples"] == first
    assert [row[5] for row in after["nodes"]] == [64] * 4
    assert only(database, mini.NAME).skipped


def test_annotations_that_arrive_later_are_added(database: Database, root: Path) -> None:
    (root / "relationships_train.json").rename(root / "later.json")
    assert "triples" not in ingest(root)(database, mini.NAME).counts
    (root / "later.json").rename(root / "relationships_train.json")
    assert ingest(root)(database, mini.NAME).counts == {"subgraphs": 1, "objects": 4, "triples": 4}


def test_an_instance_that_the_new_geometry_lacks(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    semseg = root / mini.NAME / "semseg.v2.json"
    groups = json.loads(semseg.read_text())
    groups["segGroups"] = [group for group in groups["segGroups"] if group["objectId"] != 7]
    semseg.write_text(json.dumps(groups))
    ply = root / mini.NAME / "labels.instances.annotated.v2.ply"
    lines = ply.read_text().splitlines()
    ply.write_text("\n".join(line[:-2] + "0 " if line.endswith(" 7 ") else line for line in lines) + "\n")
    ingest(root, force=True)(database, mini.NAME)
    left = {row[2]: row[3:] for row in content(database)["nodes"]}
    assert left[7] == ("picture", None, 0), "kept without geometry: an annotation names it"
    (root / "relationships_train.json").write_text('{"scans": []}')
    ingest(root, force=True)(database, mini.NAME)
    assert 7 in {row[2] for row in content(database)["nodes"]}, "annotations in the store stay"
    mini.write_annotations(root, mini.subgraph(objects={"1": "floor"}, relationships=[]))
    ingest(root)(database, mini.NAME)
    assert 7 not in {row[2] for row in content(database)["nodes"]}, "nothing names it any more"


def test_a_dataset_keeps_its_layout(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    with pytest.raises(UserError, match=r"3rscan has the layout 3rscan, not scannet: .*--dataset"):
        Ingest(ScanNet(root), "3rscan", "scannet", str(root)).check_dataset(database)


def test_a_dataset_has_one_root(database: Database, root: Path, tmp_path: Path) -> None:
    ingest(root)(database, mini.NAME)
    other = tmp_path / "other"
    mini.write_scan(other)
    before = content(database)
    with pytest.raises(UserError, match=r"3rscan is rooted at .*root, not at .*other: .*--dataset"):
        ingest(other, force=True)(database, mini.NAME)
    assert content(database) == before


def test_one_bad_scan_does_not_stop_the_others(database: Database, database_url: str, root: Path) -> None:
    for name in ("a", "b", "c"):
        mini.write_scan(root, name)
    ply = root / "b" / "labels.instances.annotated.v2.ply"
    ply.write_bytes(ply.read_bytes()[:3000])
    told: list[str] = []
    report = run_step("ingest", ingest(root), ["a", "b", "c"], url=database_url, jobs=1, advance=told.append)
    assert (report.done, list(report.failures), told) == (2, ["b"], ["a", "b", "c"])
    assert "b/labels.instances.annotated.v2.ply" in report.failures["b"]
    assert rows(database, "SELECT name FROM scan ORDER BY 1") == [("a",), ("c",)]


def test_observations_equal_a_point_by_point_look(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    summary = observe()(database, KEY)
    found = rows(
        database,
        "SELECT instance_no, frame_no, visible_points, unique_pixels, visibility_ratio, pixel_box, pixels"
        " FROM observation",
    )
    assert summary.counts == {"frames": 4, "observations": len(found)}
    seen = {(number, frame): expected_visible(number, frame) for number in mini.LABELS for frame in range(4)}
    surfaces = (1, 2)
    kept = {
        key
        for key, (count, _pixels) in seen.items()
        if count > 5 or (count > 3 and count / 64 > 0.1 and key[0] not in surfaces)
    }
    assert {(row[0], row[1]) for row in found} == kept
    assert len(kept) > 8
    for number, frame, visible, unique, ratio, box, packed in found:
        count, pixels = seen[number, frame]
        ids = unpack_pixels(packed)
        assert (visible, unique, len(ids)) == (count, len(pixels), len(pixels))
        assert abs(ratio - count / 64) < 1e-6
        assert {divmod(pixel, mini.DEPTH_SIZE[0]) for pixel in ids.tolist()} == pixels
        ys, xs = zip(*pixels, strict=True)
        assert box == [min(xs), min(ys), max(xs), max(ys)]


def test_frames_without_usable_depth_are_counted(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    sequence = root / mini.NAME / "sequence"
    whole = (sequence / "frame-000001.depth.pgm").read_bytes()
    (sequence / "frame-000001.depth.pgm").write_bytes(whole[:100])
    mini.write_pgm(sequence / "frame-000002.depth.pgm", [[1000] * 10] * 5)
    (sequence / "frame-000003.depth.pgm").unlink()
    summary = observe()(database, KEY)
    assert [problem.kind for problem in summary.problems] == [
        "depth_unreadable",
        "depth_of_another_size",
        "depth_unreadable",
    ]
    assert (
        f"{mini.NAME}/sequence/frame-000002.depth.pgm is 10x5, its camera is 48x36"
        in summary.problems[1].detail
    )
    assert {row[2] for row in content(database)["observations"]} == {0}


def test_observing_with_other_options_needs_a_word(database: Database, root: Path, encoders: None) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    DumpNodes(FeatureOptions("toy"))(database, KEY)
    before = content(database)
    with pytest.raises(UserError, match=r"observe was done with other options \(every 1, now 2\).*--replace"):
        observe(every=2)(database, KEY)
    assert content(database) == before


def test_steps_refuse_a_connection_that_does_not_commit_by_itself(database_url: str, root: Path) -> None:
    with connect(database_url) as connection, pytest.raises(ValueError, match="autocommit"):
        ingest(root)(connection, mini.NAME)


def test_fuller_annotations_replace_earlier_ones(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    mini.write_annotations(
        root, mini.subgraph(objects={"1": "floor", "4": "table"}, relationships=[[4, 1, 2, "standing on"]])
    )
    assert ingest(root)(database, mini.NAME).counts == {"subgraphs": 1, "objects": 2, "triples": 1}
    assert ingest(root)(database, mini.NAME).skipped
    assert {row[2] for row in content(database)["nodes"]} == set(mini.LABELS)


def test_two_processes_write_what_one_does(database: Database, database_url: str, root: Path) -> None:
    for name in ("a", "b", "c"):
        mini.write_scan(root, name)
    names = ["a", "b", "c", mini.NAME]

    def run(jobs: int) -> list[Report]:
        keys = [f"3rscan/{name}" for name in names]
        return [
            run_step("ingest", ingest(root), names, url=database_url, jobs=jobs, advance=lambda _name: None),
            run_step("observe", observe(), keys, url=database_url, jobs=jobs, advance=lambda _name: None),
        ]

    assert [report.done for report in run(2)] == [4, 4]
    by_two = content(database)
    assert [report.skipped for report in run(1)] == [4, 4]
    database.execute("DELETE FROM scan")
    assert [report.done for report in run(1)] == [4, 4]
    assert content(database) == by_two


def test_two_operators_on_one_scan_take_turns(database: Database, database_url: str, root: Path) -> None:
    import threading

    outcomes: list[bool] = []

    def work() -> None:
        with connect(database_url) as connection:
            connection.autocommit = True
            outcomes.append(ingest(root)(connection, mini.NAME).skipped)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False, True, True, True]


def test_the_real_scan(database: Database, real_data: Path) -> None:
    """Counts of the scan in the data README; see docs/real-data.md for all figures."""
    name = "7272e16c-a01b-20f6-8961-a0927b4a7629"
    reader = ThreeRScan(real_data / "3RScan")
    step = Ingest(reader, "3rscan", "3rscan", str(real_data / "3RScan"))
    assert step(database, name).counts.items() >= {"points": 18_496, "frames": 117, "instances": 20}.items()
    assert Observe(ObserveOptions())(database, f"3rscan/{name}").counts == {"frames": 12, "observations": 44}


def test_problems_of_geometry_and_annotations_stay_together(database: Database, root: Path) -> None:
    bad = mini.subgraph(relationships=[[4, 4, 1, "close by"]])
    mini.write_annotations(root, bad)
    (root / mini.NAME / "sequence" / "frame-000003.pose.txt").write_text("nan " * 16)
    step = ingest(root)
    step(database, mini.NAME)
    reader = AnnotationReader(root, "3rscan")
    Ingest(reader, "3rscan", "3rscan", None, force=False)(database, mini.NAME)
    (status,) = scan_statuses(database)
    told = sorted(problem["kind"] for problem in status.row["problems"])
    assert told == ["pose_not_finite", "relationship_self"]
    database.execute("DELETE FROM ledger WHERE step = 'annotate'")
    Ingest(reader, "3rscan", "3rscan", None)(database, mini.NAME)
    (status,) = scan_statuses(database)
    assert sorted(problem["kind"] for problem in status.row["problems"]) == told


def test_a_problem_may_quote_what_the_database_cannot_hold(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    scan_id = find_scan(database, KEY).scan_id
    problems = [Problem("damaged", "a NUL \0 and half a letter \ud800")]
    ledger.record(database, scan_id, ledger.Entry("observe", 1, {}), {}, problems)
    ((told,),) = rows(database, "SELECT problems #>> '{0,detail}' FROM ledger WHERE step = 'observe'")
    assert told == r"a NUL \0 and half a letter \ud800"
