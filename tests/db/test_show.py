"""Pictures and lists of `open3dsg show`, wherever the files of a scan lie and whatever they lack."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from open3dsg.datasets.scannet import ScanNet
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import UserError
from open3dsg.export.clouds import read_labelled_cloud
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.query.missing import find_missing
from open3dsg.query.sightings import best_sightings
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.steps.summary import count_problems
from open3dsg.store.scans import find_scan
from open3dsg.view.masks import DrawnMasks, draw_masks
from open3dsg.view.projections import Projections, draw_projections
from open3dsg.view.search import search_instance, search_ply
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.db.pipeline import KEY, Database, expected_visible, ingest, observe
from tests.pictures import index, read


def masks(database: Database, key: str, out: Path, *, top_k: int = 3) -> DrawnMasks:
    best = best_sightings(database, find_scan(database, key), top_k=top_k)
    return draw_masks(best, out, lambda _frame: None)


def projections(database: Database, key: str, number: int, out: Path) -> Projections:
    search = search_instance(database, find_scan(database, key), number)
    return draw_projections(search, out, lambda _frame: None)


@pytest.fixture
def observed(database: Database, root: Path) -> Database:
    """The miniature, observed."""
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    return database


def test_frames_in_a_zip_give_the_same_pictures(observed: Database, root: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "zipped"
    shutil.copytree(root / mini.NAME, zipped / mini.NAME)
    mini.zip_sequence(zipped / mini.NAME)
    Ingest(ThreeRScan(zipped), "zipped", "3rscan", str(zipped))(observed, mini.NAME)
    observe()(observed, f"zipped/{mini.NAME}")
    for key in (KEY, f"zipped/{mini.NAME}"):
        out = tmp_path / key.partition("/")[0]
        assert len(masks(observed, key, out).records) == 12
        assert projections(observed, key, 4, out).pictures == 4
    here, there = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")}
        for name in ("3rscan", "zipped")
    )
    assert len(here) == 16
    assert here == there


def test_scannet_folders_and_sens_files(database: Database, tmp_path: Path) -> None:
    root = tmp_path / "ScanNet"
    scannet.write_metadata(root)
    scannet.write_scan(root, scannet.NAME, step=3)
    scannet.write_scan(root, scannet.VALIDATION, frames=None, sens=True, step=3)
    read_in = Ingest(ScanNet(root, sens_every=3), "scannet", "scannet", str(root))
    for scan, size in ((scannet.NAME, mini.DEPTH_SIZE), (scannet.VALIDATION, mini.IMAGE_SIZE)):
        out, key = tmp_path / scan, f"scannet/{scan}"
        read_in(database, scan)
        observe()(database, key)
        drawn = masks(database, key, out)
        assert (len(drawn.records), drawn.problems) == (12, [])
        assert {record["instance"] for record in drawn.records} == set(scannet.OBJECTS)
        for record in index(out, "masks.json"):
            place = scannet.OBJECTS[record["instance"]]
            points, _ = expected_visible(mini.ROOM[place].number, record["frame"] // 3)
            assert (record["visible_points"], record["label"]) == (points, scannet.LABELS[record["instance"]])
            assert read(out / record["file"]).shape == (size[1], size[0], 3)
        done = projections(database, key, 0, out)
        assert (done.seen, len(done.records)) == (4, 4)


@pytest.mark.parametrize(
    ("thresholds", "frames_of_floor"),
    [
        (VisibilityThresholds(3, 0.1, enough_points=26, border=3), {0, 3}),
        (VisibilityThresholds(3, 0.1, enough_points=17, depth_tolerance=0.01), {1, 2}),
    ],
)
def test_projections_pass_by_the_options_of_the_scan(
    observed: Database, tmp_path: Path, thresholds: VisibilityThresholds, frames_of_floor: set[int]
) -> None:
    """A floor is kept by the number of its points alone: of its 64 every frame shows more than a tenth."""
    Observe(ObserveOptions(1, thresholds), replace=True)(observed, KEY)
    rows = observed.execute("SELECT instance_no, frame_no, visible_points FROM observation").fetchall()
    for number in (1, 7):
        done = projections(observed, KEY, number, tmp_path)
        kept = {frame: points for instance, frame, points in rows if instance == number}
        passing = {r["frame"]: r["visible_points"] for r in done.records if r["passes"]}
        assert passing == kept
        assert passing.keys() == (frames_of_floor if number == 1 else {0, 1, 2, 3})
        assert (done.passing, done.seen) == (len(kept), 4)


def test_photos_and_depth_that_cannot_be_read_are_counted(
    observed: Database, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    photos = sorted((root / mini.NAME / "sequence").glob("*.color.jpg"))
    photos[1].write_bytes(photos[1].read_bytes()[:300])
    drawn = masks(observed, KEY, out, top_k=4)
    assert [record["frame"] for record in drawn.records if record["instance"] == 4].count(1) == 0
    assert len(drawn.records) == 12
    (problem,) = drawn.problems
    assert problem.kind == "image_unreadable"
    assert problem.detail.startswith(f"{mini.NAME}/sequence/frame-000001")
    (root / mini.NAME / "sequence" / "frame-000002.depth.pgm").unlink()
    done = projections(observed, KEY, 4, out)
    assert (len(done.records), done.pictures) == (3, 2)
    assert count_problems(done.problems) == {"depth_unreadable": 1, "image_unreadable": 1}
    (unread,) = (record for record in index(out, "frames.json") if record["frame"] == 1)
    assert (unread["file"], unread["visible_points"]) == (None, expected_visible(4, 1)[0])
    for photo in photos:
        photo.write_bytes(b"no")
    shutil.rmtree(out)
    with pytest.raises(UserError, match=f"none of the photographs of scan {KEY} can be used"):
        masks(observed, KEY, out)
    with pytest.raises(UserError, match=f"none of the photographs of scan {KEY} that show it can be used"):
        projections(observed, KEY, 4, out)
    for depth in (root / mini.NAME / "sequence").glob("*.depth.pgm"):
        depth.unlink()
    with pytest.raises(UserError, match=f"none of the depth pictures of scan {KEY} can be used"):
        projections(observed, KEY, 4, out)
    assert not out.exists()


def test_frames_without_depth_and_views_beyond_the_photo_are_counted(
    observed: Database, tmp_path: Path
) -> None:
    observed.execute("UPDATE frame SET image_intrinsics[3] = -1000 WHERE frame_no = 3")
    drawn = masks(observed, KEY, tmp_path, top_k=4)
    assert (len(drawn.records), drawn.instances) == (12, 4)
    assert not [record for record in drawn.records if record["frame"] == 3]
    assert count_problems(drawn.problems) == {"view_outside_photo": 4}
    observed.execute(
        "UPDATE frame SET depth_uri = NULL, depth_size = NULL, depth_intrinsics = NULL, depth_unit_m = NULL"
        " WHERE frame_no = 2"
    )
    done = projections(observed, KEY, 4, tmp_path)
    assert (len(done.records), done.pictures) == (3, 2)
    assert count_problems(done.problems) == {"frame_without_depth": 1, "view_outside_photo": 1}
    (beyond,) = (record for record in done.records if record["frame"] == 3)
    assert (beyond["file"], beyond["box"], beyond["visible_points"]) == (
        None,
        None,
        expected_visible(4, 3)[0],
    )


def test_an_instance_has_one_colour_in_all_files(observed: Database, tmp_path: Path) -> None:
    scan = find_scan(observed, KEY)
    whole = read_labelled_cloud(observed, scan, colours="instance").cloud
    colours = set()
    for number in (4, 7):
        alone = read_labelled_cloud(observed, scan, instances=[number], colours="instance").cloud
        (colour,) = set(map(tuple, alone.rgb.tolist()))
        assert (whole.rgb[whole.instance == number] == colour).all()
        best = best_sightings(observed, scan, top_k=1, instances=[number])
        done = projections(observed, KEY, number, tmp_path)
        for record in (*draw_masks(best, tmp_path, lambda _frame: None).records, *done.records):
            left, _top, _right, bottom = record["box"]
            assert tuple(read(tmp_path / record["file"])[bottom - 1, left]) == colour
        colours.add(colour)
    assert len(colours) == 2


def test_instances_that_no_frame_shows_are_told(observed: Database) -> None:
    scan = find_scan(observed, KEY)
    assert best_sightings(observed, scan, top_k=3).unseen == []
    observed.execute("DELETE FROM observation WHERE instance_no IN (4, 7)")
    observed.execute(
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count)"
        " SELECT scan_id, 99, (SELECT min(term_id) FROM term), 0 FROM scan"
    )
    assert best_sightings(observed, scan, top_k=3).unseen == [4, 7], "99 is in the annotations alone"
    some = best_sightings(observed, scan, top_k=3, instances=(7, 2, 99))
    assert (some.unseen, {sighting.instance for sighting in some.sightings}) == ([7, 99], {2})


def test_scans_that_are_not_observed_are_told_apart(observed: Database, root: Path) -> None:
    mini.write_scan(root, "mini-0002")
    ingest(root)(observed, "mini-0002")
    keys = [KEY, "3rscan/mini-0002"]
    found = find_missing(observed, keys)
    assert (found.scans, found.instances, found.missing, found.not_observed) == (1, 4, {}, keys[1:])
    observe()(observed, keys[1])
    observed.execute("DELETE FROM observation WHERE instance_no = 4")
    assert find_missing(observed, keys).missing.keys() == set(keys)
    observed.execute(
        "UPDATE ledger SET stale = true WHERE step = 'observe'"
        " AND scan_id = (SELECT scan_id FROM scan WHERE name = 'mini-0002')"
    )
    found = find_missing(observed, keys)
    assert (set(found.missing), found.not_observed, found.count) == ({KEY}, keys[1:], 1)
    stale = find_scan(observed, keys[1])
    assert best_sightings(observed, stale, top_k=1).is_stale
    observed.execute("DELETE FROM observation WHERE scan_id = %s", [stale.scan_id])
    with pytest.raises(UserError, match="has no observations: run `open3dsg observe"):
        best_sightings(observed, stale, top_k=1)


def test_points_that_no_frame_shows_are_an_answer(observed: Database, tmp_path: Path) -> None:
    ply = tmp_path / "hidden.ply"
    header = "ply\nformat ascii 1.0\nelement vertex 2\n"
    axes = "".join(f"property double {axis}\n" for axis in "xyz")
    ply.write_text(f"{header}{axes}end_header\n1.5 1.2 1.9\n1.51 1.2 1.9\n")  # in the air
    search = search_ply(observed, find_scan(observed, KEY), ply)
    done = draw_projections(search, tmp_path / "out", lambda _frame: None)
    assert (len(done.records), done.seen, done.passing, done.pictures) == (4, 0, 0, 0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frames.json"]
    for record in index(tmp_path / "out", "frames.json"):
        assert (record["file"], record["box"], record["visible_points"]) == (None, None, 0)


def test_the_real_scan(database: Database, real_data: Path, tmp_path: Path) -> None:
    """Frames that pass are those that `observe` keeps; see docs/tools.md for what it prints."""
    name = "7272e16c-a01b-20f6-8961-a0927b4a7629"
    key = f"3rscan/{name}"
    ingest(real_data / "3RScan")(database, name)
    Observe(ObserveOptions())(database, key)
    scan = find_scan(database, key)
    best = best_sightings(database, scan, top_k=3)
    drawn = draw_masks(best, tmp_path, lambda _frame: None)
    assert (len(drawn.records), drawn.problems) == (32, [])
    assert read(tmp_path / "9.png").shape == (540, 960, 3)
    missing = find_missing(database, [key]).missing[key]
    assert [one.instance for one in missing] == best.unseen == [15, 23, 25, 30, 31, 32, 33]
    every = Observe(ObserveOptions(every=1), replace=True)(database, key)
    assert every.counts == {"frames": 117, "observations": 437}
    of_sink = database.execute("SELECT frame_no FROM observation WHERE instance_no = 9").fetchall()
    done = projections(database, key, 9, tmp_path)
    assert (len(done.records), done.seen, done.passing) == (117, 36, 22)
    assert {record["frame"] for record in done.records if record["passes"]} == {frame for (frame,) in of_sink}
    points = read_labelled_cloud(database, scan)
    assert points.cloud.normals is not None
    assert (points.cloud.xyz_m.shape, len(points.labels)) == ((18_496, 3), 20)
