"""The datasets of scenezoo that come without frames as files, or as point clouds, rooms and CAD models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open3dsg.datasets.scenezoo import SceneZoo
from open3dsg.errors import BadFileError
from tests import miniature as mini
from tests import scenezoo_miniature as zoo
from tests.scans import cloud_of, kinds
from tests.scenezoo_checks import agreeing


def test_points_of_s3dis(tmp_path: Path) -> None:
    zoo.write_s3dis(tmp_path / "Stanford3dDataset_v1.2_Aligned_Version")
    reader = SceneZoo(tmp_path, "s3dis")
    assert reader.scan_names("area_1") == ["Area_1.office_1"]
    scan = reader.read("Area_1.office_1")
    assert (scan.split, scan.labels) == ("area_1", {0: "floor", 1: "table", 2: "wall"})
    assert kinds(scan) == ["sequence_missing"]
    cloud = cloud_of(scan)
    xyz, _, rgb = mini.points()
    for number, place in ((0, 0), (1, 2), (2, 1)):
        rows = slice(place * mini.GRID**2, (place + 1) * mini.GRID**2)
        np.testing.assert_allclose(cloud.xyz_m[cloud.instance == number], xyz[rows], atol=1e-5)
        np.testing.assert_array_equal(cloud.rgb[cloud.instance == number], rgb[rows])
    assert cloud.normals is None


def test_a_mesh_of_scenenn_stands_upright(tmp_path: Path) -> None:
    zoo.write_scenenn(tmp_path)
    scan = SceneZoo(tmp_path, "scenenn").read("016")
    assert (scan.split, scan.labels) == (None, zoo.LABELS)
    cloud = cloud_of(scan)
    xyz, _, rgb = mini.points()
    np.testing.assert_allclose(cloud.xyz_m, xyz, atol=1e-6)
    np.testing.assert_array_equal(cloud.rgb, rgb)
    np.testing.assert_array_equal(cloud.instance, zoo.instances())


def test_objects_of_multiscan(tmp_path: Path) -> None:
    zoo.write_multiscan(tmp_path)
    scan = SceneZoo(tmp_path, "multiscan").read("scene_00000_00")
    assert scan.labels == zoo.LABELS
    np.testing.assert_array_equal(cloud_of(scan).instance, zoo.instances())
    assert kinds(scan) == ["frames_not_extracted"]
    assert "2 frames have no picture" in scan.problems[0].detail
    assert "the video scene_00000_00.mp4" in scan.problems[0].detail


def test_views_of_structured3d_make_the_points_of_a_room(tmp_path: Path) -> None:
    zoo.write_structured3d(tmp_path)
    scan = SceneZoo(tmp_path, "structured3d").read("scene_00000.485142")
    assert scan.split == "train"
    assert scan.labels == dict.fromkeys(zoo.LABELS, "unknown"), "labels come with the panorama"
    cloud = cloud_of(scan)
    assert cloud.colour_source == "frames"
    for place, number in zoo.OBJECTS.items():
        thing = mini.ROOM[place]
        found = cloud.xyz_m[cloud.instance == number]
        assert len(found) > 100
        np.testing.assert_allclose(found[:, thing.across], thing.low[thing.across], atol=0.01)
    xyz, _, _ = mini.points()
    for frame in scan.frames:
        np.testing.assert_allclose(frame.T_world_camera, mini.pose(frame.number), atol=1e-5)
        assert agreeing(tmp_path, frame, xyz).mean() > 0.5
    assert len(scan.frames) == mini.FRAMES


def test_a_room_has_no_things_of_the_other_rooms(tmp_path: Path) -> None:
    zoo.write_structured3d(tmp_path)
    other = tmp_path / "data" / "scene_00000" / "2D_rendering" / "999" / "panorama" / "full"
    other.mkdir(parents=True)
    numbers = np.repeat([[77, 5]], 4, axis=0)  # 5 is seen from here, too: the floor
    Image.fromarray(numbers.astype(np.uint16)).save(other / "instance.png")
    Image.fromarray(np.where(numbers == 5, 2, 1).astype(np.uint8)).save(other / "semantic.png")
    scan = SceneZoo(tmp_path, "structured3d").read("scene_00000.485142")
    assert scan.labels == dict.fromkeys(zoo.LABELS, "unknown") | {5: "floor"}
    assert "instance_without_points" not in kinds(scan)


def test_the_surface_of_a_house_is_sampled(tmp_path: Path) -> None:
    zoo.write_3dfront(tmp_path)
    scan = SceneZoo(tmp_path, "3dfront").read("house-1")
    assert scan.labels == {0: "Nightstand"}
    assert kinds(scan) == ["colours_missing", "sequence_missing"]
    cloud = cloud_of(scan)
    assert (cloud.instance == 0).sum() == pytest.approx(4_000, rel=0.05)  # 2 faces of 1 m2, 4 of 0.5 m2
    assert (cloud.instance == -1).sum() == pytest.approx(6_000, rel=0.05)
    cube = cloud.xyz_m[cloud.instance == 0]
    # It stands at x 1, y -2 of the floor plan: z of the file points to us.
    np.testing.assert_allclose(cube.min(axis=0), [1, -3, 0], atol=0.01)
    np.testing.assert_allclose(cube.max(axis=0), [2, -2, 0.5], atol=0.01)
    assert cloud.normals is not None
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("file", "good", "bad"),
    [
        ("3D-FRONT/house-1.json", "0, 2, 3]", "0, 2, 4]"),
        ("3D-FRONT/house-1.json", "0, 2, 3]", "0, 2, -1]"),
        ("3D-FUTURE-model/m1/raw_model.obj", "f 1 2 4", "f 1 2 9"),
        ("3D-FUTURE-model/m1/raw_model.obj", "f 1 2 4", "f 1 2 -9"),
        ("3D-FUTURE-model/m1/raw_model.obj", "f 1 2 4", "f 1 2 0"),
        ("3D-FUTURE-model/m1/raw_model.obj", "f 1 2 4", "f 1/1 2/1 4/1"),
        ("3D-FUTURE-model/m1/raw_model.obj", "f 1 2 4", "vn 0 0 1\nf 1//1 2//2 4//1"),
    ],
)
def test_faces_of_a_house_name_points_that_are_there(tmp_path: Path, file: str, good: str, bad: str) -> None:
    zoo.write_3dfront(tmp_path)
    content = (tmp_path / file).read_text()
    assert good in content
    (tmp_path / file).write_text(content.replace(good, bad))
    with pytest.raises(BadFileError, match=r"(json|obj): a face names a vertex that is not there"):
        SceneZoo(tmp_path, "3dfront").read("house-1")


def test_a_model_without_faces_is_told(tmp_path: Path) -> None:
    zoo.write_3dfront(tmp_path)
    (tmp_path / "3D-FUTURE-model" / "m1" / "raw_model.obj").write_text("v 0 0 0\n")
    with pytest.raises(BadFileError, match=r"does not contain a non-empty triangle mesh: .*raw_model\.obj"):
        SceneZoo(tmp_path, "3dfront").read("house-1")


@pytest.mark.parametrize("corner", ["1e6", "NaN"])
def test_a_house_of_no_sensible_size_is_refused(tmp_path: Path, corner: str) -> None:
    zoo.write_3dfront(tmp_path)
    path = tmp_path / "3D-FRONT" / "house-1.json"
    path.write_text(path.read_text().replace('"xyz": [0,', f'"xyz": [{corner},'))
    with pytest.raises(BadFileError, match=r"house-1\.json: a surface of \S+ square metres is no house"):
        SceneZoo(tmp_path, "3dfront").read("house-1")
