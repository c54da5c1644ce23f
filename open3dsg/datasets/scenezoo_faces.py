"""Faces of meshes looked at before Open3D reads them: it follows any index, and may end the whole process."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.scenezoo_package import told_in_one_line
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    from pathlib import Path


def check_ply_faces(path: Path) -> None:
    """Raise BadFileError for faces of a PLY file that name vertices which are not there."""
    from scenezoo.ops.annotation import read_ply

    with told_in_one_line(str(path)):
        ply = read_ply(path)
        faces = ply["face"].data
        (name,) = {"vertex_indices", "vertex_index"} & set(faces.dtype.names)
        corners = faces[name] if faces[name].dtype != object else np.concatenate([*faces[name], []])
        vertices = ply["vertex"].count
    _check(corners, vertices, path)


def check_house(path: Path, models: Path) -> None:
    """Raise BadFileError for such faces in a house of 3D-FRONT, or in a model that is placed in it."""
    with told_in_one_line(str(path)):
        house = json.loads(path.read_bytes())
        layout = [(np.array(mesh["faces"], np.int64), len(mesh["xyz"]) // 3) for mesh in house["mesh"]]
        placed = {str(item["jid"]) for item in house["furniture"] if item.get("valid")}
    for faces, vertices in layout:
        _check(faces, vertices, path)
    for model in sorted(models / name / "raw_model.obj" for name in placed):
        if model.is_file():  # where it is needed, scenezoo says what is missing
            _check_obj(model)


def _check_obj(path: Path) -> None:
    """Hold the corners of a Wavefront file, `v/vt/vn` from 1 or back from the end, against its rows."""
    with told_in_one_line(str(path)):
        data = path.read_bytes()
        faces = re.findall(rb"^f[ \t]+([^\r\n#]*)", data, re.MULTILINE)
        if not faces:
            return  # scenezoo says so
        words = np.array(b" ".join(faces).split(), np.bytes_)
        tables = []
        for keyword in (b"v", b"vt", b"vn"):
            number, _, words = np.char.partition(words, b"/").T
            rows = len(re.findall(rb"^" + keyword + rb"[ \t]", data, re.MULTILINE))
            tables.append((number[number != b""].astype(np.int64), rows))
    for numbers, rows in tables:
        _check(np.where(numbers > 0, numbers - 1, np.where(numbers < 0, numbers + rows, -1)), rows, path)


def _check(corners: NDArray[Any], rows: int, path: Path) -> None:
    if corners.size and not 0 <= corners.min() <= corners.max() < rows:
        raise BadFileError(f"{path}: a face names a vertex that is not there: the file is damaged")
