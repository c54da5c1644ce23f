from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import UserError
from tests import miniature as mini
from tests.miniature import NAME, RESCAN
from tests.scans import check_clean, cloud_of, edit_json, kinds


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("ply_format", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_clean_scan(ply_format: mini.PlyFormat, zipped: bool, tmp_path: Path) -> None:
    mini.write_scan(tmp_path, ply_format=ply_format, zipped=zipped)
    scan = ThreeRScan(tmp_path).read(NAME)
    check_clean(scan)
    assert cloud_of(scan).colour_source == "texture"
    frame = scan.frames[2]
    middle = "sequence.zip!" if zipped else "sequence/"
    assert frame.image_uri == f"{NAME}/{middle}frame-000002.color.jpg"
    assert frame.depth_uri == f"{NAME}/{middle}frame-000002.depth.pgm"
    with ImageReader(scan.root) as reader:
        depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
        image = reader.read_image(frame.image_uri)
    np.testing.assert_allclose(depth_m, mini.cast(2, mini.DEPTH_SIZE, mini.DEPTH_FOCAL)[0], atol=0.00051)
    assert image.shape == (*mini.IMAGE_SIZE[::-1], 3)


def test_zip_counts_where_the_folder_holds_only_the_info(folder: Path, root: Path) -> None:
    info = (folder / "sequence/_info.txt").read_text()
    mini.zip_sequence(folder)
    (folder / "sequence").mkdir()
    (folder / "sequence/_info.txt").write_text(info)
    check_clean(ThreeRScan(root).read(NAME))


def test_camera_axes(tmp_path: Path) -> None:
    mini.write_scan(tmp_path, y_up=True)
    check_clean(ThreeRScan(tmp_path, camera_axes="y-up").read(NAME))
    as_y_down = ThreeRScan(tmp_path).read(NAME).frames[0].T_world_camera
    np.testing.assert_allclose(as_y_down[:, 1:3], -mini.pose(0)[:, 1:3], atol=1e-8)


def test_reader_is_pickled_by_its_arguments(root: Path) -> None:
    mini.write_metadata(root)
    reader = ThreeRScan(root, camera_axes="y-up")
    assert reader.missing(None)
    copy = pickle.loads(pickle.dumps(reader))
    assert "splits" in vars(reader)
    assert "splits" not in vars(copy)
    np.testing.assert_array_equal(
        copy.read(NAME).frames[0].T_world_camera, reader.read(NAME).frames[0].T_world_camera
    )


@pytest.mark.parametrize("place", ["3DSSG_subset", ".", None])
def test_annotations_are_found(place: str | None, root: Path, tmp_path: Path) -> None:
    given = tmp_path / "elsewhere" if place is None else None
    mini.write_annotations(given or root / str(place), mini.subgraph())
    scan = ThreeRScan(root, given).read(NAME)
    assert scan.problems == ()
    assert scan.split == "train"
    assert len(scan.subgraphs[0].relationships) == 4


def test_annotations_that_differ_from_the_scan(root: Path, folder: Path) -> None:
    objects = {"1": "rug", "2": "wall", "7": "picture", "50": "ceiling"}
    mini.write_annotations(root, mini.subgraph(objects=objects, relationships=[]))
    edit_json(folder / "semseg.v2.json", lambda content: content["segGroups"].pop(0))
    scan = ThreeRScan(root).read(NAME)
    assert [kind for kind in kinds(scan) if kind != "segments_differ"] == [
        "label_not_in_classes",
        "label_not_in_classes",
        "label_missing",
        "label_differs",
        "subgraph_member_not_in_scan",
        "subgraph_member_not_in_scan",
        "instance_without_points",
    ]
    assert scan.labels == {1: "floor", 2: "wall", 4: "table", 7: "picture", 50: "ceiling"}
    assert scan.subgraphs[0].members[1] == "rug"


def test_splits_and_rescans(root: Path) -> None:
    mini.write_metadata(root)
    reader = ThreeRScan(root)
    assert reader.scan_names(None) == reader.scan_names("train") == [NAME]
    assert reader.scan_names("test") == []
    assert reader.missing("train") == [RESCAN]
    assert reader.missing(None) == [RESCAN, "mini-0009", "mini-0010"]
    scan = reader.read(NAME)
    assert (scan.split, scan.reference, scan.T_reference_scan) == ("train", None, None)
    (root / NAME).rename(root / RESCAN)
    scan = ThreeRScan(root).read(RESCAN)
    assert (scan.split, scan.reference) == ("train", NAME)
    expected = [[0, -1, 0, 0.5], [1, 0, 0, -0.25], [0, 0, 1, 0.125], [0, 0, 0, 1]]
    np.testing.assert_array_equal(scan.T_reference_scan, expected)


def test_lists_of_a_split_replace_the_metadata(root: Path) -> None:
    mini.write_metadata(root)
    (root / "val_scans.txt").write_text(f"{NAME},\n\nmini-0009\n")
    reader = ThreeRScan(root)
    assert reader.scan_names("validation") == [NAME]
    assert reader.missing("validation") == ["mini-0009"]
    (root / "train_scans.txt").write_text(f"{RESCAN}\n")
    assert ThreeRScan(root).scan_names("train") == []
    assert ThreeRScan(root).read(NAME).split == "validation"


@pytest.mark.parametrize(
    ("transform", "kind"),
    [
        ([0, -1, 0, 0.5, 1, 0, 0, -0.25, 0, 0, 1, 0.125, 0, 0, 0, 1], "transform_not_rigid"),  # row by row
        ([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 299.1, -365.4, 48.1, 1], "transform_too_far"),  # millimetres
    ],
)
def test_transforms_that_cannot_be(transform: list[float], kind: str, root: Path) -> None:
    mini.write_metadata(root)
    edit_json(
        root / "3RScan.json", lambda rooms: rooms[0]["scans"][0].update(reference=NAME, transform=transform)
    )
    edit_json(root / "3RScan.json", lambda rooms: rooms[0].update(reference=RESCAN))
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == [kind]
    assert (scan.reference, scan.T_reference_scan) == (RESCAN, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "../x"}, r"3RScan\.json: \[0\]: '\.\./x' is no scan name"),
        ({"reference": "mini-0010"}, "scan 'mini-0010' is listed twice"),
        ({"type": None}, "'type': a text was expected"),
        ({"scans": {}}, "'scans': a list was expected"),
        ({"scans": [{"reference": "a\\b"}]}, "no scan name"),
        ({"scans": [{"reference": "b", "transform": [1, 2]}]}, "'transform' must be 16 numbers"),
        ({"scans": [{"reference": "b", "transform": [None, {}] * 8}]}, "'transform' must be 16 numbers"),
        ({"scans": [{"reference": "b", "transform": [10**400] * 16}]}, "'transform' must be 16 numbers"),
    ],
)
def test_damaged_metadata_is_told(change: dict[str, Any], message: str, root: Path) -> None:
    mini.write_metadata(root)
    edit_json(root / "3RScan.json", lambda rooms: rooms[0].update(change))
    with pytest.raises(UserError, match=message):
        ThreeRScan(root).scan_names("train")


def test_names_that_do_not_exist(root: Path) -> None:
    with pytest.raises(UserError, match=r"no split 'train'; there are: no split is known"):
        ThreeRScan(root).scan_names("train")
    mini.write_metadata(root)
    with pytest.raises(UserError, match="no split 'val'; there are: train, test"):
        ThreeRScan(root).scan_names("val")
    with pytest.raises(UserError, match=f"no folder for scan 'x'; there are 1: {NAME}"):
        ThreeRScan(root).read("x")
    with pytest.raises(UserError, match="lists it: fetch it"):
        ThreeRScan(root).read(RESCAN)
    with pytest.raises(UserError, match="no scan name"):
        ThreeRScan(root).read("../" + root.name)
    with pytest.raises(UserError, match="no such folder"):
        ThreeRScan(root / "x")


def test_real_scan(real_data: Path) -> None:
    scan = ThreeRScan(real_data / "3RScan").read("7272e16c-a01b-20f6-8961-a0927b4a7629")
    cloud = cloud_of(scan)
    assert (len(cloud.xyz_m), len(scan.labels), len(scan.frames), scan.split) == (
        18496,
        20,
        117,
        "validation",
    )
    assert np.count_nonzero(cloud.instance == -1) == 385
    assert set(np.unique(cloud.instance)) == {-1, *scan.labels}
    assert kinds(scan) == ["texture_missing", "points_without_colour"]
    assert np.count_nonzero((cloud.rgb == 128).all(axis=1)) < 0.12 * len(cloud.rgb)
    assert scan.reference == "5341b79f-8a66-2cdd-84d5-6dba6525dd75"
    assert scan.T_reference_scan is not None
    np.testing.assert_allclose(scan.T_reference_scan[:3, 3], [0.299, -0.365, 0.048], atol=1e-3)
