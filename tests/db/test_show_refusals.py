"""What `open3dsg show` and `open3dsg export cloud` refuse, in one line that names the way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from open3dsg.datasets.scannet import ScanNet
from open3dsg.errors import UserError
from open3dsg.export.clouds import read_labelled_cloud
from open3dsg.query.missing import find_missing
from open3dsg.query.sightings import best_sightings
from open3dsg.steps.ingest import Ingest
from open3dsg.store.scans import find_scan
from open3dsg.view.masks import draw_masks
from open3dsg.view.projections import draw_projections
from open3dsg.view.search import search_instance, search_ply
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.db.pipeline import KEY, Database, ingest, observe

HEADER = (
    "ply\nformat ascii 1.0\nelement vertex {}\n"
    "property double x\nproperty double y\nproperty double z\nend_header\n"
)


def test_an_instance_that_is_not_there_or_has_no_points(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    database.execute(
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count)"
        " SELECT scan_id, 99, (SELECT min(term_id) FROM term), 0 FROM scan"
    )
    scan = find_scan(database, KEY)

    def refused(number: int) -> list[str]:
        told = []
        for ask in (
            lambda: best_sightings(database, scan, top_k=3, instances=[number]),
            lambda: search_instance(database, scan, number),
            lambda: read_labelled_cloud(database, scan, instances=[4, number]),
        ):
            with pytest.raises(UserError) as refusal:
                ask()
            told.append(str(refusal.value))
        return told

    assert set(refused(3)) == {f"scan {KEY} has no instance 3; it has 1, 2, 4, 7, 99"}
    without = f"instance 99 of scan {KEY} has no points: only annotations name it"
    assert refused(99)[1:] == [without, without]
    assert refused(99)[0].startswith(f"no frame shows instance 99 of scan {KEY} well enough")


def test_a_ply_that_holds_no_points_of_the_room(database: Database, root: Path, tmp_path: Path) -> None:
    ingest(root)(database, mini.NAME)
    scan, path = find_scan(database, KEY), tmp_path / "points.ply"
    for text, told in (
        ("", "no PLY file"),
        (HEADER.format(0), "holds no points"),
        (HEADER.format(2) + "1 1 1\nnan 1 1\n", "point 1 of .* is not finite"),
        (HEADER.format(2) + "1 1 1\n1 1e300 1\n", "point 1 of .* is not finite"),
        (HEADER.format(2) + "1 1 1\n", "truncated"),
        (HEADER.format(1).replace(" z", " depth") + "1 1 1\n", "its vertices have no x, y and z"),
        (
            HEADER.format(1) + "1500 1200 700\n",
            "none of its points is near the room .*: write them in metres",
        ),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=told) as refusal:
            search_ply(database, scan, path)
        assert str(path) in str(refusal.value)


def test_a_scan_without_instances(database: Database, tmp_path: Path) -> None:
    scannet.write_metadata(tmp_path)
    scannet.write_scan(tmp_path, scannet.TEST, parent="scans_test", annotated=False)
    Ingest(ScanNet(tmp_path), "scannet", "scannet", str(tmp_path))(database, scannet.TEST)
    scan = find_scan(database, scannet.TEST)
    with pytest.raises(UserError, match=f"scan {scan.key} has no instances: `open3dsg masks merge"):
        best_sightings(database, scan, top_k=3)
    with pytest.raises(UserError, match=f"scan {scan.key} has no instance 1; it has none"):
        search_instance(database, scan, 1)
    with pytest.raises(UserError, match=f"scan {scan.key} has no instance with points"):
        read_labelled_cloud(database, scan, instances_only=True)
    whole = read_labelled_cloud(database, scan)
    assert (len(whole.cloud.xyz_m), whole.labels) == (320, {})
    observe()(database, scan.key)
    assert find_missing(database, [scan.key]).instances == 0


def test_a_scan_that_is_not_ready(database: Database, root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / mini.NAME / "sequence")
    ingest(root)(database, mini.NAME)
    scan = find_scan(database, KEY)
    with pytest.raises(UserError, match=f"{KEY} has no observations: run `open3dsg observe --scan {KEY}`"):
        best_sightings(database, scan, top_k=3)
    with pytest.raises(UserError, match=f"scan {KEY} is not observed: run `open3dsg observe` first"):
        find_missing(database, [KEY])
    with pytest.raises(UserError, match=f"scan {KEY} has no frames"):
        search_instance(database, scan, 4)
    observe()(database, KEY)
    with pytest.raises(UserError, match=f"no frame shows any instance of scan {KEY} well enough"):
        best_sightings(database, scan, top_k=3)
    assert [len(instances) for instances in find_missing(database, [KEY]).missing.values()] == [4]
    database.execute("UPDATE scan SET point_count = NULL")
    database.execute("DELETE FROM point_block")
    with pytest.raises(UserError, match="has no points in the database"):
        read_labelled_cloud(database, scan)


def test_a_folder_of_scans_that_is_away(database: Database, root: Path, tmp_path: Path) -> None:
    ingest(root)(database, mini.NAME)
    observe()(database, KEY)
    root.rename(tmp_path / "elsewhere")
    scan, out = find_scan(database, KEY), tmp_path / "out"
    best, search = best_sightings(database, scan, top_k=1), search_instance(database, scan, 4)
    for draw in (
        lambda: draw_masks(best, out, lambda _frame: None),
        lambda: draw_projections(search, out, lambda _frame: None),
    ):
        with pytest.raises(UserError, match="scans relocate 3rscan"):
            draw()
    assert not out.exists()
