from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import BadFileError
from tests import miniature as mini
from tests.miniature import NAME
from tests.scans import check_clean, cloud_of, edit_json, kinds, replace

PLY = "labels.instances.annotated.v2.ply"
OBJ = "mesh.refined.v2.obj"
SEGMENTS = "mesh.refined.0.010000.segs.v2.json"
TEXTURE = "mesh.refined_0.png"


def test_colours_of_vertices(tmp_path: Path) -> None:
    mini.write_scan(tmp_path, colours="vertex")
    scan = ThreeRScan(tmp_path).read(NAME)
    assert cloud_of(scan).colour_source == "vertex"
    check_clean(scan)


def test_colours_from_frames(folder: Path, root: Path) -> None:
    (folder / TEXTURE).unlink()
    scan = ThreeRScan(root).read(NAME)
    cloud = cloud_of(scan)
    assert cloud.colour_source == "frames"
    assert kinds(scan) == ["texture_missing", "points_without_colour"]
    grey = (cloud.rgb == 128).all(axis=1)
    assert f"{np.count_nonzero(grey)} of 320 points" in scan.problems[1].detail
    assert np.count_nonzero(grey) < 50
    difference = np.abs(cloud.rgb.astype(int) - mini.points()[2]).max(axis=1)
    assert np.mean(difference[~grey] < 25) > 0.9


def test_grey_without_mesh_and_frames(folder: Path, root: Path) -> None:
    (folder / OBJ).unlink()
    shutil.rmtree(folder / "sequence")
    scan = ThreeRScan(root).read(NAME)
    cloud = cloud_of(scan)
    assert kinds(scan) == ["sequence_missing", "mesh_missing"]
    assert (cloud.colour_source, cloud.normals, scan.frames) == ("none", None, ())
    assert (cloud.rgb == 128).all()


def test_several_textures_are_not_guessed_at(folder: Path, root: Path) -> None:
    with (folder / "mesh.refined.mtl").open("a") as file:
        file.write("map_Kd mesh.refined_1.png\n")
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan)[0] == "texture_not_single"
    assert cloud_of(scan).colour_source == "frames"


def test_mesh_in_another_order_is_matched_by_position(folder: Path, root: Path) -> None:
    lines = (folder / OBJ).read_text().splitlines()
    blocks = [lines[i : i + 3] for i in range(2, 2 + 3 * 320, 3)]
    faces = [f"f {i}/{i}/{i} {i}/{i}/{i} {i}/{i}/{i}" for i in range(1, 320)]
    reordered = [line for block in [*blocks[::-1][:-1]] for line in block]  # the first point is dropped
    (folder / OBJ).write_text("\n".join([*lines[:2], *reordered, *faces]) + "\n")
    scan = ThreeRScan(root).read(NAME)
    cloud = cloud_of(scan)
    assert kinds(scan) == ["points_without_colour"]
    np.testing.assert_array_equal(cloud.rgb[1:], mini.points()[2][1:])
    assert cloud.normals is not None
    np.testing.assert_array_equal(cloud.rgb[0], [128] * 3)
    np.testing.assert_array_equal(cloud.normals[0], [0, 0, 0])


def test_a_damaged_normal_is_made_unit_length_as_all_are(folder: Path, root: Path) -> None:
    text = (folder / OBJ).read_text()
    (folder / OBJ).write_text(text.replace("vn 0 0 2", "vn 0 0 2e25", 1))
    cloud = cloud_of(ThreeRScan(root).read(NAME))
    assert cloud.normals is not None
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, rtol=1e-6)


def test_unreadable_pictures_give_no_colour(folder: Path, root: Path) -> None:
    (folder / TEXTURE).unlink()
    (folder / "sequence/frame-000000.color.jpg").write_bytes(b"\xff\xd8 cut off")
    mini.write_pgm(folder / "sequence/frame-000001.depth.pgm", [[1000] * 3] * 2)
    (folder / "sequence/frame-000002.depth.pgm").unlink()
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan)[:4] == [
        "frame_without_depth",
        "texture_missing",
        "picture_unreadable",
        "picture_size_differs",
    ]
    assert cloud_of(scan).colour_source == "frames"
    assert len(scan.frames) == mini.FRAMES


def test_instances_from_segments_where_the_ply_has_none(folder: Path, root: Path) -> None:
    replace(folder / PLY, "objectId", "globalId")
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == ["labels_from_segments"]
    np.testing.assert_array_equal(cloud_of(scan).instance[::64], [1, 2, 4, 7, -1])
    (folder / PLY).unlink()
    assert kinds(ThreeRScan(root).read(NAME)) == ["labels_from_segments"]
    (folder / SEGMENTS).unlink()
    with pytest.raises(BadFileError, match="missing, though semseg"):
        ThreeRScan(root).read(NAME)


def test_no_object_id_is_told(folder: Path, root: Path) -> None:
    replace(folder / PLY, "objectId", "globalId")
    (folder / SEGMENTS).unlink()
    with pytest.raises(BadFileError, match="no property objectId"):
        ThreeRScan(root).read(NAME)


def test_negative_object_id_is_told(folder: Path, root: Path) -> None:
    replace(folder / PLY, "property ushort objectId", "property int objectId")
    replace(folder / PLY, " 7 \n", " -7 \n")
    with pytest.raises(BadFileError, match="objectId goes from -7 to 4"):
        ThreeRScan(root).read(NAME)


def test_segments_that_contradict_the_ply(folder: Path, root: Path) -> None:
    edit_json(folder / SEGMENTS, lambda content: content["segIndices"].__setitem__(slice(0, 3), [30, 40, 99]))
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == ["segments_differ"]
    assert scan.problems[0].detail.startswith(f"{NAME}: 3 points")
    edit_json(folder / SEGMENTS, lambda content: content["segIndices"].pop())
    assert "319 entries for 320 points" in ThreeRScan(root).read(NAME).problems[0].detail


@pytest.mark.parametrize(("word", "kind"), [("nan", "point_not_finite"), ("-1e30", "point_too_far")])
def test_points_that_are_nowhere(folder: Path, root: Path, word: str, kind: str) -> None:
    lines = (folder / PLY).read_text().splitlines()
    first = lines.index("end_header") + 1
    lines[first] = word + lines[first][lines[first].index(" ") :]
    (folder / PLY).write_text("\n".join(lines) + "\n")
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == [kind]
    np.testing.assert_array_equal(cloud_of(scan).rgb, mini.points()[2][1:])


def test_hidden_test_scan_has_no_labels(folder: Path, root: Path) -> None:
    for file in (PLY, SEGMENTS, "semseg.v2.json"):
        (folder / file).unlink()
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == ["labels_missing"]
    assert (cloud_of(scan).instance == -1).all()
    assert scan.labels == {}


def test_labels_that_do_not_fit_the_points(folder: Path, root: Path) -> None:
    def change(content: Any) -> None:
        groups = content["segGroups"]
        assert groups.pop(0)["objectId"] == 7
        groups.append({"objectId": 30, "label": "lamp", "segments": []})
        groups.append({"objectId": 4, "label": "desk", "segments": [20]})

    edit_json(folder / "semseg.v2.json", change)
    scan = ThreeRScan(root).read(NAME)
    assert kinds(scan) == [
        "label_twice",
        "segment_shared",
        "segments_differ",
        "label_missing",
        "instance_without_points",
    ]
    assert scan.labels == {1: "floor", 2: "wall", 4: "table", 7: "unknown", 30: "lamp"}


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"objectId": "4", "label": "x", "segments": []}, "'objectId': a whole number"),
        ({"objectId": -4, "label": "x", "segments": []}, "'objectId' is -4"),
        ({"objectId": 4, "segments": []}, "'label' is missing"),
        ({"objectId": 4, "label": "x", "segments": [1, "2"]}, "'segments' must be a list of whole numbers"),
        ({"objectId": 4, "label": "x", "segments": [1.5]}, "'segments' must be a list of whole numbers"),
    ],
)
def test_damaged_semseg_is_told(group: dict[str, Any], message: str, folder: Path, root: Path) -> None:
    edit_json(folder / "semseg.v2.json", lambda content: content["segGroups"].append(group))
    with pytest.raises(BadFileError, match=message) as error:
        ThreeRScan(root).read(NAME)
    assert "semseg.v2.json: segGroups[4]" in str(error.value)


@pytest.mark.parametrize("file", [PLY, "semseg.v2.json", SEGMENTS, TEXTURE])
def test_a_file_cut_in_half_is_told_in_one_line(file: str, folder: Path, root: Path) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadFileError) as error:
        ThreeRScan(root).read(NAME)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_semseg_missing_is_told(folder: Path, root: Path) -> None:
    (folder / "semseg.v2.json").unlink()
    with pytest.raises(BadFileError, match=r"semseg\.v2\.json: missing"):
        ThreeRScan(root).read(NAME)
