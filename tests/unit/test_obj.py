from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from open3dsg.datasets.obj import read_obj_vertices, sample_texture
from open3dsg.errors import BadFileError

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0.5\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mesh.obj"
    path.write_text(text)
    return path


def test_corners_carry_their_own_indices(tmp_path: Path) -> None:
    text = (
        TRIANGLE
        + "v 9 9 9\nvt 0.1 0.2\nvt 0.3 0.4\nvt 0.5 0.6\nvn 0 0 1\nvn 0 1 0\nf 1/3/1 2/2/1 3/1/2  # a face\n"
    )
    mesh = read_obj_vertices(write(tmp_path, text))
    np.testing.assert_array_equal(
        mesh.xyz_m, np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.5], [9, 9, 9]], np.float32)
    )
    assert mesh.uv is not None
    assert mesh.normals is not None
    np.testing.assert_array_equal(mesh.uv, [[0.5, 0.6], [0.3, 0.4], [0.1, 0.2], [np.nan, np.nan]])
    np.testing.assert_array_equal(mesh.normals[:3], [[0, 0, 1], [0, 0, 1], [0, 1, 0]])
    assert np.isnan(mesh.normals[3]).all()


@pytest.mark.parametrize(
    ("face", "has_uv", "has_normals"),
    [
        ("f 1 2 3 1", False, False),
        ("f 1/1 2/1 3/1", True, False),
        ("f 1//1 2//1 3//1", False, True),
        ("", False, False),
    ],
)
def test_forms_of_faces(face: str, has_uv: bool, has_normals: bool, tmp_path: Path) -> None:
    mesh = read_obj_vertices(write(tmp_path, TRIANGLE + "vt 0 0\nvn 0 0 1\n" + face + "\n"))
    assert (mesh.uv is not None, mesh.normals is not None) == (has_uv, has_normals)


@pytest.mark.parametrize(("white", "grey"), [("1 1 1", "0.5 0.5 0.5"), ("255 255 255", "128 128 128")])
def test_vertex_colours_of_either_scale(white: str, grey: str, tmp_path: Path) -> None:
    mesh = read_obj_vertices(write(tmp_path, f"v 0 0 0 {white}\r\nv 0 0 1 {grey}\r\n"))
    assert mesh.rgb is not None
    assert mesh.rgb.dtype == np.uint8
    np.testing.assert_array_equal(mesh.rgb, [[255] * 3, [128] * 3])


def test_materials_name_textures_beside_the_mesh(tmp_path: Path) -> None:
    (tmp_path / "two words.mtl").write_text("newmtl a\nmap_Kd ../../elsewhere/à b.png\nmap_Ka other.png\n")
    path = write(tmp_path, "mtllib two words.mtl\nmtllib absent.mtl\n" + TRIANGLE)
    assert read_obj_vertices(path).textures == (tmp_path / "à b.png",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# empty\n", "holds no vertices"),
        ("v 1 2\n", "has 2 numbers, not 3 or 4 or 6 or 7"),
        ("v 1 2 three\n", "kind 'v' cannot be read"),
        ("v 1 2 3\nv 1 2\n", "kind 'v' cannot be read"),
        (TRIANGLE + "v \n", "1 lines of kind 'v' are empty"),
        (TRIANGLE + "vt 0 0\nf 1/1 2/1 4/1\n", "beyond the last one"),
        (TRIANGLE + "vt 0 0\nf 1/1 2/1 3/2\n", "beyond the last one"),
        (TRIANGLE + "vt 0 0\nf 1/1 2 3/1\n", "mix the forms"),
        (TRIANGLE + "f 1 2 -1\n", "backwards"),
        (TRIANGLE + "f 1 2 x\n", "no whole number"),
        ("v 0 0 0 300 0 0\n", "vertex colours"),
        ("v 0 0 0 nan 0 0\n", "vertex colours"),
    ],
)
def test_damage_is_told(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=message):
        read_obj_vertices(write(tmp_path, text))


def test_texture_grows_upwards() -> None:
    picture = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    uv = np.array([[0.1, 0.9], [0.9, 0.1], [1.0, 0.0], [-1.0, 2.0], [0.3, 0.4]])
    expected = [picture[0, 0], picture[1, 3], picture[1, 3], picture[0, 0], picture[1, 1]]
    np.testing.assert_array_equal(sample_texture(picture, uv), expected)


def test_a_material_names_a_picture_longer_than_names_can_be(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text(f"mtllib {'m' * 400}.mtl\nmtllib b.mtl\nv 0 0 0\n")
    (tmp_path / "b.mtl").write_text(f"map_Kd {'p' * 400}.png\n")
    (texture,) = read_obj_vertices(tmp_path / "a.obj").textures
    assert texture.name == f"{'p' * 400}.png"
