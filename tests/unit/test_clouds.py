"""Files of points: what is written is what other programs read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from open3dsg.datasets.ply import check_ply, read_ply_vertices
from open3dsg.datasets.scan import Cloud
from open3dsg.errors import UserError
from open3dsg.export.clouds import LabelledCloud, check_cloud_file, write_cloud_file, write_ply

LABELS = {3: 'a "quoted"\nlabel', 8: "snow \N{SNOWMAN}" + "\N{COUCH AND LAMP}" * 490}


def cloud(*, normals: bool = True) -> Cloud:
    random = np.random.default_rng(0)
    return Cloud(
        xyz_m=random.normal(size=(60, 3)).astype(np.float32),
        rgb=random.integers(256, size=(60, 3), dtype=np.uint8),
        instance=np.repeat(np.array([-1, 3, 70_000], np.int32), 20),
        normals=random.normal(size=(60, 3)).astype(np.float32) if normals else None,
    )


def test_a_ply_holds_each_point_where_its_header_says(tmp_path: Path) -> None:
    scene = cloud(normals=False)
    write_ply(tmp_path / "hits.ply", scene)
    header, data = (tmp_path / "hits.ply").read_bytes().split(b"end_header\n", 1)
    assert b"element vertex 60" in header
    rows = [data[at : at + 19] for at in range(0, len(data), 19)]
    assert len(rows) == 60
    assert np.frombuffer(rows[25][:12], "<f4").tolist() == scene.xyz_m[25].tolist()
    assert list(rows[25][12:15]) == scene.rgb[25].tolist()
    assert int.from_bytes(rows[25][15:], "little", signed=True) == 3
    assert int.from_bytes(rows[0][15:], "little", signed=True) == -1
    assert int.from_bytes(rows[59][15:], "little", signed=True) == 70_000


@pytest.mark.parametrize("normals", [True, False])
def test_our_own_reader_reads_a_ply_with_any_labels(tmp_path: Path, normals: bool) -> None:
    scene = cloud(normals=normals)
    path = tmp_path / "room.PLY"
    write_cloud_file(path, LabelledCloud(scene, LABELS))
    vertices = read_ply_vertices(path)
    order = [*"xyz", *(["nx", "ny", "nz"] if normals else []), "red", "green", "blue", "instance"]
    assert list(vertices) == order
    assert check_ply(path).vertices == 60
    np.testing.assert_array_equal(np.stack([vertices[a] for a in "xyz"], axis=1), scene.xyz_m)
    np.testing.assert_array_equal(np.stack([vertices[c] for c in order[-4:-1]], axis=1), scene.rgb)
    np.testing.assert_array_equal(vertices["instance"], scene.instance)
    if scene.normals is not None:
        np.testing.assert_array_equal(vertices["ny"], scene.normals[:, 1])
    lines = path.read_bytes().split(b"end_header\n")[0].decode("ascii").splitlines()
    assert r'comment instance 3 "a \"quoted\"\nlabel"' in lines
    assert max(map(len, lines)) < 1000, "longer lines are refused by the readers of others"


@pytest.mark.parametrize("normals", [True, False])
def test_an_npz_is_read_without_pickles(tmp_path: Path, normals: bool) -> None:
    scene = cloud(normals=normals)
    write_cloud_file(tmp_path / "room.npz", LabelledCloud(scene, LABELS))
    with np.load(tmp_path / "room.npz", allow_pickle=False) as arrays:
        assert ("normals" in arrays) == normals
        np.testing.assert_array_equal(arrays["points"], scene.xyz_m)
        np.testing.assert_array_equal(arrays["colors"], scene.rgb)
        np.testing.assert_array_equal(arrays["instance"], scene.instance)
        labels = zip(arrays["label_instances"].tolist(), arrays["labels"].tolist(), strict=True)
        assert dict(labels) == LABELS
        assert (arrays["points"].dtype, arrays["instance"].dtype) == (np.float32, np.int32)
        assert set(arrays) - {"normals"} == {"points", "colors", "instance", "label_instances", "labels"}
    assert [path.name for path in tmp_path.iterdir()] == ["room.npz"]


def test_a_cloud_without_points_or_labels_is_a_file_too(tmp_path: Path) -> None:
    scene = cloud()
    empty = replace(
        scene, xyz_m=scene.xyz_m[:0], rgb=scene.rgb[:0], instance=scene.instance[:0], normals=None
    )
    for name in ("none.ply", "none.npz"):
        write_cloud_file(tmp_path / name, LabelledCloud(empty, {}))
    assert check_ply(tmp_path / "none.ply").vertices == 0
    with np.load(tmp_path / "none.npz", allow_pickle=False) as arrays:
        assert (arrays["points"].shape, arrays["labels"].shape) == ((0, 3), (0,))


@pytest.mark.parametrize("name", ["room", "room.obj", "room.ply.gz", ".ply"])
def test_another_ending_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"name the file \.ply, \.npz or \.glb"):
        check_cloud_file(Path(name))


def test_a_folder_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        check_cloud_file(tmp_path / "no" / "room.ply")
