"""Wavefront OBJ meshes as far as colours need them: vertices, their colours, texture coordinates, normals.

Texture coordinates and normals belong to the corners of faces; here each vertex takes those of one corner it
is part of. Faces themselves are not kept.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.files import read_bytes
from open3dsg.errors import BadFileError

_MATERIAL_FILE = re.compile(rb"^mtllib[ \t]+(.+?)\s*$", re.MULTILINE)
_TEXTURE = re.compile(rb"^\s*map_Kd[ \t]+(.+?)\s*$", re.MULTILINE)
_HEAD_BYTES = 65_536  # materials are named before the vertices
_LARGEST = 1e30  # a float32 may hold no more: damage, as good as no number


@dataclass(frozen=True)
class ObjVertices:
    """The N vertices of an OBJ file, in its order."""

    xyz_m: NDArray[np.float32]  # (N, 3)
    rgb: NDArray[np.uint8] | None  # (N, 3), where vertices carry colours
    uv: NDArray[np.float64] | None  # (N, 2 or 3), u to the right and v upwards, 0 to 1; NaN without a face
    normals: NDArray[np.float32] | None  # (N, 3), NaN without a face
    textures: tuple[Path, ...]  # the pictures its materials name, present or not


def read_obj_vertices(path: Path) -> ObjVertices:
    """Read the vertices of the OBJ file `path`.

    Raises BadFileError for a file that is missing, without vertices, with a broken line or with a face that
    names a vertex the file does not hold.
    """
    data = read_bytes(path)
    vertices = _table(data, b"v", (3, 4, 6, 7), path)  # x y z, then a weight or a colour or both
    if vertices is None:
        raise BadFileError(f"{path}: holds no vertices: no OBJ file, or cut off")
    corners = _corners(data, path)
    return ObjVertices(
        xyz_m=vertices[:, :3].astype(np.float32),
        rgb=_colours(vertices[:, 3:6], path) if vertices.shape[1] >= 6 else None,
        uv=_by_vertex(len(vertices), corners[:, [0, 1]], _table(data, b"vt", (2, 3), path), path),
        normals=_float32(
            _by_vertex(len(vertices), corners[:, [0, 2]], _table(data, b"vn", (3,), path), path)
        ),
        textures=_textures(data, path),
    )


def peek_textures(path: Path) -> tuple[Path, ...]:
    """Return the pictures, present or not, that the materials named at the beginning of an OBJ file name."""
    with path.open("rb") as file:
        return _textures(file.read(_HEAD_BYTES), path)


def sample_texture(picture: NDArray[np.uint8], uv: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the (N, 3) uint8 colours of `picture` (height, width, 3) at `uv` (N, 2) finite, nearest pixel.

    v grows upwards from the lower edge, as OBJ has it; coordinates outside [0, 1] take the edge.
    """
    height, width = picture.shape[:2]
    column = np.clip(np.floor(uv[:, 0] * width), 0, width - 1).astype(np.int64)
    row = np.clip(np.floor((1.0 - uv[:, 1]) * height), 0, height - 1).astype(np.int64)
    colours: NDArray[np.uint8] = picture[row, column]
    return colours


def _table(data: bytes, keyword: bytes, widths: tuple[int, ...], path: Path) -> NDArray[np.float64] | None:
    """Return the numbers of all lines that begin with `keyword`, a row a line, or None without such lines.

    All lines must have the same count of numbers, one of `widths`.
    """
    rows = re.findall(rb"^" + keyword + rb"[ \t]+([^\r\n#]*)", data, re.MULTILINE)
    if not rows:
        return None
    try:
        table = np.loadtxt(rows, np.float64, comments=None, ndmin=2)
    except ValueError as error:
        reason = str(error).partition(";")[0]
        raise BadFileError(f"{path}: a line of kind {keyword.decode()!r} cannot be read: {reason}") from error
    if len(table) != len(rows):
        raise BadFileError(f"{path}: {len(rows) - len(table)} lines of kind {keyword.decode()!r} are empty")
    if table.shape[1] not in widths:
        allowed = " or ".join(map(str, widths))
        raise BadFileError(
            f"{path}: a line of kind {keyword.decode()!r} has {table.shape[1]} numbers, not {allowed}"
        )
    table[np.abs(table) > _LARGEST] = np.nan
    return table


def _corners(data: bytes, path: Path) -> NDArray[np.int64]:
    """Return (M, 3) int64: vertex, texture coordinate and normal of every face corner, from 0; -1 is none."""
    text = b"\n".join(re.findall(rb"^f[ \t]+([^\r\n#]*)", data, re.MULTILINE))
    words = text.split()
    slashes, doubled = text.count(b"/"), text.count(b"//")
    form = {
        (0, 0): [0],
        (len(words), 0): [0, 1],
        (2 * len(words), 0): [0, 1, 2],
        (2 * len(words), len(words)): [0, 2],
    }.get((slashes, doubled))
    if form is None:
        raise BadFileError(f"{path}: its faces mix the forms a, a/b, a//c and a/b/c, which is not read")
    try:
        numbers = np.array(text.replace(b"/", b" ").split(), np.int64).reshape(len(words), len(form))
    except (ValueError, OverflowError) as error:
        raise BadFileError(f"{path}: a face holds something that is no whole number") from error
    if numbers.size and numbers.min() < 1:
        raise BadFileError(f"{path}: its faces count vertices backwards (numbers below 1), which is not read")
    corners = np.full((len(words), 3), -1, np.int64)
    corners[:, form] = numbers - 1
    return corners


def _by_vertex(
    vertices: int, corners: NDArray[np.int64], values: NDArray[np.float64] | None, path: Path
) -> NDArray[np.float64] | None:
    """Return (vertices, width): for each vertex the row of `values` at one of its corners, else NaN.

    `corners` (M, 2): vertex and row of `values`. None where the faces name no rows.
    """
    if values is None or not len(corners) or corners[0, 1] < 0:
        return None
    if corners[:, 0].max() >= vertices or corners[:, 1].max() >= len(values):
        raise BadFileError(f"{path}: a face names a row beyond the last one: the file is cut off or damaged")
    result = np.full((vertices, values.shape[1]), np.nan)
    result[corners[:, 0]] = values[corners[:, 1]]
    return result


def _colours(values: NDArray[np.float64], path: Path) -> NDArray[np.uint8]:
    """Return uint8 colours of `values`, which programs write from 0 to 1 or, as some do, from 0 to 255."""
    scale = 255.0 if values.max() <= 1.0 else 1.0
    scaled = np.rint(values * scale)
    if not ((scaled >= 0) & (scaled <= 255)).all():
        raise BadFileError(f"{path}: vertex colours go from 0 to 1 or from 0 to 255; these do not")
    return scaled.astype(np.uint8)


def _float32(values: NDArray[np.float64] | None) -> NDArray[np.float32] | None:
    return None if values is None else values.astype(np.float32)


def _textures(data: bytes, path: Path) -> tuple[Path, ...]:
    """Return the pictures that the materials name, taken to lie beside the OBJ file."""
    textures: dict[Path, None] = {}
    for name in _MATERIAL_FILE.findall(data):
        material = _beside(path, name)
        if os.path.isfile(material):  # a name out of a damaged file may be longer than names can be
            textures.update(
                (_beside(path, picture), None) for picture in _TEXTURE.findall(material.read_bytes())
            )
    return tuple(textures)


def _beside(path: Path, name: bytes) -> Path:
    return path.parent / PurePosixPath(name.decode("utf-8", "replace").replace("\\", "/")).name
