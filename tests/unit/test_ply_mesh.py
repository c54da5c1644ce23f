"""Triangles of PLY files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from open3dsg.datasets.ply import read_ply_mesh
from open3dsg.errors import BadFileError

POINTS = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACES = [(0, 1, 2), (1, 2, 3)]


def write(path: Path, encoding: str, faces: list[tuple[int, ...]], declaration: str = "uchar int") -> Path:
    header = (
        f"ply\nformat {encoding} 1.0\nelement vertex 4\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list {declaration} vertex_indices\nend_header\n"
    )
    order = ">" if encoding == "binary_big_endian" else "<"
    code = {"uchar": "B", "int": "i", "uint": "I", "ushort": "H"}
    length, item = (code[word] for word in declaration.split())
    with path.open("wb") as file:
        file.write(header.encode())
        for point in POINTS:
            file.write(
                "{} {} {}\n".format(*point).encode()
                if encoding == "ascii"
                else struct.pack(f"{order}3f", *point)
            )
        for face in faces:
            if encoding == "ascii":
                file.write(f"{len(face)} {' '.join(map(str, face))}\n".encode())
            else:
                file.write(struct.pack(f"{order}{length}{len(face)}{item}", len(face), *face))
    return path


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("declaration", ["uchar int", "uchar uint", "int ushort"])
def test_triangles_are_read(encoding: str, declaration: str, tmp_path: Path) -> None:
    vertices, triangles = read_ply_mesh(write(tmp_path / "a.ply", encoding, list(FACES), declaration))
    assert vertices["y"].tolist() == [0, 0, 1, 0]
    assert triangles is not None
    assert triangles.dtype == np.int64
    assert triangles.tolist() == [list(face) for face in FACES]


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_other_faces_are_not_read(encoding: str, tmp_path: Path) -> None:
    assert read_ply_mesh(write(tmp_path / "a.ply", encoding, [(0, 1, 2, 3), (0, 1, 2)]))[1] is None
    nothing = read_ply_mesh(write(tmp_path / "a.ply", encoding, []))[1]
    assert nothing is not None
    assert nothing.shape == (0, 3)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
@pytest.mark.parametrize("corner", [4, -1])
def test_vertices_that_are_not_there(encoding: str, corner: int, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="names a vertex that is not there"):
        read_ply_mesh(write(tmp_path / "a.ply", encoding, [(0, 1, corner)]))


def test_damaged_faces(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ply", "binary_little_endian", list(FACES))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadFileError, match="ends within its faces"):
        read_ply_mesh(path)
    for row in ("3 0 1 x", f"3 0 1 {'9' * 30}", "3 0 1 1.5"):
        write(path, "ascii", list(FACES))
        path.write_text(path.read_text().replace("3 1 2 3", row))
        with pytest.raises(BadFileError, match="no whole number"):
            read_ply_mesh(path)
