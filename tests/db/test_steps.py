"""The steps on a miniature: rows against what the miniature was made of, resuming, replacing, failing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from open3dsg.datasets.annotations import AnnotationReader
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.db.connect import connect
from open3dsg.encoders.registry import load_encoder
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import unpack_pixels
from open3dsg.geometry.visibility import VisibilityThresholds
from open3dsg.query.nodes import search_nodes
from open3dsg.steps.features import DumpNodes, FeatureOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.steps.runner import run_step
from open3dsg.steps.summary import Report
from open3dsg.store.cloud import read_cloud
from open3dsg.store.encoders import activate_encoder, find_encoder
from open3dsg.store.scans import find_scan, scan_statuses
from tests import miniature as mini
from tests import toy_encoder
from tests.scans import replace

Database = psycopg.Connection[Any]
THRESHOLDS = VisibilityThresholds(min_points=3, min_ratio=0.1, enough_points=5)
KEY = f"3rscan/{mini.NAME}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one annotated scan."""
    folder = tmp_path / "root"
    mini.write_scan(folder)
    mini.write_annotations(folder, mini.subgraph())
    return folder


@pytest.fixture
def encoders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("encoders")
    toy_encoder.install(folder)
    monkeypatch.syspath_prepend(folder)


def ingest(root: Path, *, force: bool = False) -> Ingest:
    return Ingest(ThreeRScan(root), "3rscan", "3rscan", str(root), {"camera_axes": "y-down"}, force)


def observe(*, force: bool = False, every: int = 1, replace: bool = False) -> Observe:
    return Observe(ObserveOptions(every, THRESHOLDS), force, replace)


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    return database.execute(query.encode()).fetchall()


def content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that the steps wrote, without ids and times."""
    return {
        "nodes": rows(
            database,
            "SELECT dataset, scan, instance, label, centroid_m, point_count FROM v_node ORDER BY 2, 3",
        ),
        "triples": rows(
            database,
            "SELECT scan, subgraph, subject, predicate, object FROM v_relationship ORDER BY 1, 2, 3, 4, 5",
        ),
        "frames": rows(
            database,
            "SELECT name, frame_no, image_uri, depth_uri, t_world_camera FROM frame"
            " JOIN scan USING (scan_id) ORDER BY 1, 2",
        ),
        "observations": rows(
            database,
            "SELECT name, instance_no, frame_no, visible_points, pixel_box, pixels FROM observation"
            " JOIN scan USING (scan_id) ORDER BY 1, 2, 3",
        ),
        "features": rows(
            database,
            "SELECT name, instance_no, embedding::text, frame_nos, boxes FROM node_feature"
            " JOIN scan USING (scan_id) ORDER BY 1, 2",
        ),
        "ledger": rows(
            database,
            "SELECT name, step, variant, chunk, counts FROM ledger"
            " JOIN scan USING (scan_id) ORDER BY 1, 2, 3, 4",
        ),
    }


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
    only = Ingest(reader, "3rscan", "3rscan", None, {})
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


def expected_visible(number: int, frame: int) -> tuple[int, set[tuple[int, int]]]:
    """Visible points of an instance and their pixels (row, column), point by point in plain Python."""
    depth, _ = mini.cast(frame, mini.DEPTH_SIZE, mini.DEPTH_FOCAL)
    depth = np.rint(depth * 1000) / 1000
    xyz, numbers, _ = mini.points()
    T_camera_world = np.linalg.inv(mini.pose(frame))
    count, pixels = 0, set()
    for point in xyz[numbers == number]:
        x, y, z = T_camera_world[:3, :3] @ point + T_camera_world[:3, 3]
        column = round(x / z * mini.DEPTH_FOCAL + (mini.DEPTH_SIZE[0] - 1) / 2)
        row = round(y / z * mini.DEPTH_FOCAL + (mini.DEPTH_SIZE[1] - 1) / 2)
        if 0 <= column < mini.DEPTH_SIZE[0] and 0 <= row < mini.DEPTH_SIZE[1]:
            measured = depth[row, column]
            if measured > 0 and abs(measured - z) <= 0.2 * measured:
                count += 1
                pixels.add((row, column))
    return count, pixels


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


def test_observe_resumes_replaces_and_forgets_features(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    dump = DumpNodes(FeatureOptions("toy"))
    assert dump(database, KEY).counts["nodes"] == 4
    assert observe()(database, KEY).skipped
    assert len(content(database)["features"]) == 4
    assert not observe(every=2, replace=True)(database, KEY).skipped
    after = content(database)
    assert {row[2] for row in after["observations"]} == {0, 2}
    assert after["features"] == []
    assert [row[1] for row in after["ledger"]] == ["annotate", "ingest", "observe"]
    assert not dump(database, KEY).skipped
    assert not observe(every=2, force=True)(database, KEY).skipped


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


def colour_seen(number: int, frames: list[int]) -> np.ndarray[Any, Any]:
    """The toy embedding of an instance: the mean over frames of the mean colour of its box."""
    total = np.zeros(4)
    palette = np.array([*(thing.rgb for thing in mini.ROOM), (0, 0, 0)], float)
    for frame in frames:
        _, pixels = expected_visible(number, frame)
        ys, xs = zip(*pixels, strict=True)
        _, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        # The photo has twice the pixels: depth pixel x covers photo columns 2 x and 2 x + 1.
        crop = palette[things[2 * min(ys) : 2 * max(ys) + 2, 2 * min(xs) : 2 * max(xs) + 2]]
        total += toy_encoder.embed_colours(crop.reshape(-1, 3).mean(axis=0)[None] / 255)[0]
    return total / np.linalg.norm(total)


def test_embeddings_equal_the_mean_over_the_best_frames(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    summary = DumpNodes(FeatureOptions("toy", top_k_frames=2, scales=1))(database, KEY)
    assert summary.counts == {"nodes": 4, "views": 8, "instances_unseen": 0}
    for number, embedding, frames, boxes, weights in rows(
        database, "SELECT instance_no, embedding, frame_nos, boxes, weights FROM node_feature"
    ):
        best = sorted(range(4), key=lambda frame: (-expected_visible(number, frame)[0], frame))[:2]
        assert sorted(frames) == sorted(best)
        assert (len(boxes), weights) == (8, [0.5, 0.5])
        np.testing.assert_allclose(embedding.to_numpy(), colour_seen(number, best), atol=0.02)
    evidence = rows(database, "SELECT instance, frame, box, image_uri FROM v_evidence WHERE instance = 4")
    assert len(evidence) == 2
    assert all(uri.endswith(f"frame-{frame:06d}.color.jpg") for _, frame, _, uri in evidence)


def test_pixel_encoders_see_the_pixels_themselves(database: Database, root: Path, encoders: None) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    DumpNodes(FeatureOptions("toypixels"))(database, KEY)
    for number, embedding in rows(database, "SELECT instance_no, embedding FROM node_feature"):
        (rgb,) = [thing.rgb for thing in mini.ROOM if thing.number == number]
        own = toy_encoder.embed_colours(np.array([rgb]) / 255)[0]
        # Pixels at the rim may show what is beside the instance.
        assert embedding.to_numpy() @ own > 0.99


def test_features_resume_at_the_chunk_and_follow_their_options(
    database: Database, root: Path, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open3dsg.steps.features.CHUNK", 1)
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    dump = DumpNodes(FeatureOptions("toy"))
    assert dump(database, KEY).counts["nodes"] == 4
    whole = content(database)
    database.execute("DELETE FROM ledger WHERE chunk IN (1, 3)")
    database.execute("DELETE FROM node_feature WHERE instance_no IN (2, 7)")
    (status,) = scan_statuses(database)
    assert status.missing == ("2 of 4 chunks of features: open3dsg features dump --nodes --encoder toy")
    assert dump(database, KEY).counts["nodes"] == 2
    assert content(database) == whole
    assert dump(database, KEY).skipped
    other = FeatureOptions("toy", scales=1)
    with pytest.raises(
        UserError, match=r"features.nodes was done with other options \(scales 3, now 1\).*--replace"
    ):
        DumpNodes(other)(database, KEY)
    assert content(database) == whole
    assert DumpNodes(other, replace=True)(database, KEY).counts == {
        "nodes": 4,
        "views": 16,
        "instances_unseen": 0,
    }
    after = content(database)
    assert [row[3] for row in after["ledger"] if row[1] == "features.nodes"] == [0, 1, 2, 3]
    assert DumpNodes(other, force=True)(database, KEY).counts["nodes"] == 4
    assert content(database) == after


def test_a_later_revision_takes_the_name_once_it_has_as_many_nodes(
    database: Database, root: Path, encoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini.write_scan(root, "second")
    for name in (mini.NAME, "second"):
        ingest(root)(database, name)
        observe()(database, f"3rscan/{name}")
        DumpNodes(FeatureOptions("toy"))(database, f"3rscan/{name}")
    monkeypatch.setattr(toy_encoder.Toy, "revision", "a later one")
    monkeypatch.setattr("open3dsg.steps.features._encoder", load_encoder)
    for name, takes_over in ((mini.NAME, False), ("second", True)):
        DumpNodes(FeatureOptions("toy"))(database, f"3rscan/{name}")
        assert activate_encoder(database, find_encoder(database, "toy@a later one")) is takes_over
        assert (find_encoder(database, "toy").revision == "a later one") is takes_over


def test_words_are_answered_for_those_who_may_only_read(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    DumpNodes(FeatureOptions("toy"))(database, KEY)
    database.execute("SET default_transaction_read_only = on")
    for _ in range(2):
        [[hit]] = search_nodes(database, ["red"], k=1)
        assert hit.label == "picture"
    database.execute("SET default_transaction_read_only = off")
    assert rows(database, "SELECT count(*) FROM term WHERE text = 'red'") == [(0,)]


def test_a_scan_of_which_nothing_can_be_read_is_not_done(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    sequence = root / mini.NAME / "sequence"
    sequence.rename(root / "away")
    with pytest.raises(UserError, match=r"none of 4 depth pictures can be read: .*frame-000000\.depth\.pgm"):
        observe()(database, KEY)
    (root / "away").rename(sequence)
    assert observe()(database, KEY).counts["frames"] == 4
    for photo in sequence.glob("*.jpg"):
        photo.rename(photo.with_suffix(".away"))
    with pytest.raises(UserError, match=r"none of the photographs .* can be used: .*frame-00000"):
        DumpNodes(FeatureOptions("toy"))(database, KEY)
    assert scan_statuses(database)[0].missing == "features: open3dsg features dump --nodes"


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


def test_features_need_observations(database: Database, root: Path, encoders: None) -> None:
    ingest(root)(database, mini.NAME)
    with pytest.raises(
        UserError, match=f"scan {KEY} has no observations: run `open3dsg observe --scan {KEY}`"
    ):
        DumpNodes(FeatureOptions("toy"))(database, KEY)


def test_a_broken_photo_is_counted_and_the_others_are_used(
    database: Database, root: Path, encoders: None
) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    (root / mini.NAME / "sequence" / "frame-000001.color.jpg").write_bytes(b"no picture")
    summary = DumpNodes(FeatureOptions("toy", scales=1))(database, KEY)
    assert [problem.kind for problem in summary.problems] == ["image_unreadable"]
    assert "frame-000001.color.jpg" in summary.problems[0].detail
    assert {
        frame for (frames,) in rows(database, "SELECT frame_nos FROM node_feature") for frame in frames
    } == {0, 2, 3}


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
    step = Ingest(reader, "3rscan", "3rscan", str(real_data / "3RScan"), {"camera_axes": "y-down"})
    assert step(database, name).counts.items() >= {"points": 18_496, "frames": 117, "instances": 20}.items()
    assert Observe(ObserveOptions())(database, f"3rscan/{name}").counts == {"frames": 12, "observations": 44}


def test_problems_of_geometry_and_annotations_stay_together(database: Database, root: Path) -> None:
    bad = mini.subgraph(relationships=[[4, 4, 1, "close by"]])
    mini.write_annotations(root, bad)
    (root / mini.NAME / "sequence" / "frame-000003.pose.txt").write_text("nan " * 16)
    step = ingest(root)
    step(database, mini.NAME)
    reader = AnnotationReader(root, "3rscan")
    Ingest(reader, "3rscan", "3rscan", None, {}, force=False)(database, mini.NAME)
    (status,) = scan_statuses(database)
    told = sorted(problem["kind"] for problem in status.row["problems"])
    assert told == ["pose_not_finite", "relationship_self"]
    database.execute("DELETE FROM ledger WHERE step = 'annotate'")
    Ingest(reader, "3rscan", "3rscan", None, {})(database, mini.NAME)
    (status,) = scan_statuses(database)
    assert sorted(problem["kind"] for problem in status.row["problems"]) == told
