"""GLB files as trimesh reads them, and as bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from open3dsg.datasets.scan import Cloud
from open3dsg.errors import UserError
from open3dsg.export.clouds import LabelledCloud, write_cloud_file
from open3dsg.export.glb import write_glb_boxes
from tests import scene_graphs as made

COLOURS = {1: (1, 2, 3), 4: (4, 5, 6), 7: (7, 8, 9), 30: (0, 0, 0)}


def document(path: Path) -> dict[str, Any]:
    """The JSON of a GLB file, by its specification: a header of 12 bytes, then that of the first chunk."""
    content = path.read_bytes()
    magic, version, length, size, kind = struct.unpack("<4sIII4s", content[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    found: dict[str, Any] = json.loads(content[20 : 20 + size])
    return found


def cloud() -> Cloud:
    random = np.random.default_rng(0)
    return Cloud(
        xyz_m=random.normal(size=(60, 3)).astype(np.float32),
        rgb=random.integers(256, size=(60, 3), dtype=np.uint8),
        instance=np.tile(np.array([-1, 3, 8], np.int32), 20),
    )


def test_each_instance_is_an_object_by_its_name(tmp_path: Path) -> None:
    points = cloud()
    odd = made.STORABLE
    write_cloud_file(tmp_path / "room.GLB", LabelledCloud(points, {3: "chair", 8: odd}))
    names = [node.get("name") for node in document(tmp_path / "room.GLB")["nodes"]]
    assert {"background", "chair 3", f"{odd} 8"} <= set(names)
    scene = trimesh.load_scene(tmp_path / "room.GLB", file_type="glb")
    for number, name in ((-1, "background"), (3, "chair 3"), (8, f"{odd} 8")):
        to_world, geometry = scene.graph[name]
        read = scene.geometry[geometry]
        mine = points.instance == number
        # glTF's y points up, and its z towards the viewer.
        x, y, z = trimesh.transform_points(read.vertices, to_world).T
        np.testing.assert_allclose(np.stack([x, -z, y], axis=1), points.xyz_m[mine], atol=1e-6)
        np.testing.assert_array_equal(read.colors[:, :3], points.rgb[mine])


def test_boxes_stand_where_they_stood(tmp_path: Path) -> None:
    path = tmp_path / "boxes.glb"
    assert write_glb_boxes(path, made.room().nodes, COLOURS) == 1  # nothing says where the lamp is
    scene = trimesh.load_scene(path)
    for name, low, high in (
        ("table 4", (0.9, 0.3, 0.1), (1.1, 0.7, 0.7)),
        ("cup 7", (1.0, 0.3, 0.6), (1.2, 0.7, 1.2)),  # turned: 0.4 m along y
    ):
        to_world, geometry = scene.graph[name]
        x, y, z = trimesh.transform_points(scene.geometry[geometry].vertices, to_world).T
        (painted,) = np.unique(scene.geometry[geometry].visual.vertex_colors, axis=0)
        assert tuple(painted) == (*COLOURS[int(name[-1])], 255)
        corners = np.stack([x, -z, y], axis=1)
        np.testing.assert_allclose(corners.min(axis=0), low, atol=1e-6)
        np.testing.assert_allclose(corners.max(axis=0), high, atol=1e-6)


def test_nothing_to_write_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no instance has points or a box to write"):
        write_glb_boxes(tmp_path / "none.glb", made.room().nodes[3:], COLOURS)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trimesh", None)
    with pytest.raises(UserError, match=r"pip install 'open3dsg\[glb\]'"):
        write_cloud_file(tmp_path / "room.glb", LabelledCloud(cloud(), {3: "chair", 8: "table"}))
    assert not list(tmp_path.iterdir())
