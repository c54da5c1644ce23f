from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open3dsg.datasets.ply import read_ply_vertices
from open3dsg.errors import BadFileError

# struct code, range, numpy type of each PLY type
TYPES = {
    "char": ("b", -(2**7), 2**7 - 1, np.int8),
    "uint8": ("B", 0, 2**8 - 1, np.uint8),
    "short": ("h", -(2**15), 2**15 - 1, np.int16),
    "ushort": ("H", 0, 2**16 - 1, np.uint16),
    "int": ("i", -(2**31), 2**31 - 1, np.int32),
    "uint32": ("I", 0, 2**32 - 1, np.uint32),
    "float": ("f", None, None, np.float32),
    "double": ("d", None, None, np.float64),
}
FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[tuple[str, str]], list[list[float]]]:
    kinds = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=5))
    cells = []
    for kind in kinds:
        _, low, high, _ = TYPES[kind]
        is_whole = low is not None
        cells.append(st.integers(low, high) if is_whole else st.floats(width=32 if kind == "float" else 64))
    rows = draw(st.lists(st.tuples(*cells).map(list), max_size=6))
    return [(kind, f"p{i}") for i, kind in enumerate(kinds)], rows


def write(
    path: Path, ply_format: str, properties: list[tuple[str, str]], rows: list[list[float]], faces: int = 2
) -> None:
    declared = "".join(f"property {kind} {name}\n" for kind, name in properties)
    header = (
        f"ply\nformat {ply_format} 1.0\ncomment by a test\nelement camera 1\nproperty short a\n"
        f"element vertex {len(rows)}\n{declared}element face {faces}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    if ply_format == "ascii":
        lines = ["-5", *(" ".join(repr(value) for value in row) for row in rows), *["3 0 1 2"] * faces]
        path.write_text(header + "\n".join(lines) + "\n")
        return
    order = "<" if "little" in ply_format else ">"
    row_code = order + "".join(TYPES[kind][0] for kind, _ in properties)
    packed = [struct.pack(row_code, *row) for row in rows] + [struct.pack(order + "B3i", 3, 0, 1, 2)] * faces
    path.write_bytes(header.encode() + struct.pack(order + "h", -5) + b"".join(packed))


@pytest.mark.parametrize("ply_format", FORMATS)
@settings(max_examples=40, deadline=None)
@given(table=tables())
def test_round_trip(
    ply_format: str,
    table: tuple[list[tuple[str, str]], list[list[float]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    properties, rows = table
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    write(path, ply_format, properties, rows)
    vertices = read_ply_vertices(path)
    assert list(vertices) == [name for _, name in properties]
    for i, (kind, name) in enumerate(properties):
        expected = np.array([row[i] for row in rows], TYPES[kind][3])
        assert vertices[name].dtype == expected.dtype
        np.testing.assert_array_equal(vertices[name], expected)


@pytest.mark.parametrize("ply_format", FORMATS)
def test_a_cut_anywhere_is_told(ply_format: str, tmp_path: Path) -> None:
    path = tmp_path / "scan é 1.ply"
    write(path, ply_format, [("float", "x"), ("ushort", "objectId")], [[1.5, 1], [2.5, 2]], faces=0)
    whole = path.read_bytes()
    longest = len(whole) - (3 if ply_format == "ascii" else 1)  # in ASCII the last line end may be missing
    for length in range(longest, 0, -5):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFileError, match=r"scan é 1\.ply") as error:
            read_ply_vertices(path)
        assert "\n" not in str(error.value)


def test_missing_faces_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write(path, "ascii", [("float", "x")], [[1.5], [2.5]], faces=3)
    path.write_bytes(path.read_bytes().rpartition(b"3 0 1 2")[0])
    with pytest.raises(BadFileError, match="6 rows declared, 5 found"):
        read_ply_vertices(path)


def header(*lines: str) -> str:
    return "\n".join(["ply", *lines, "end_header", ""])


ASCII = "format ascii 1.0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solid", "no PLY file"),
        (header("element vertex 0", "property float x"), "names no format"),
        (header(ASCII), "declares no vertices"),
        (header("format ascii 2.0"), "line 2 of the PLY header"),
        (header(ASCII, "element vertex many"), "line 3 of the PLY header"),
        (header(ASCII, "element vertex -1"), "line 3 of the PLY header"),
        (header(ASCII, "property float x"), "line 3 of the PLY header"),
        (header(ASCII, "element vertex 1", "property half x") + "1\n", "line 4 of the PLY header"),
        (header(ASCII, "element vertex 1", "property list uchar int x") + "1 2\n", "is a list"),
        (header(ASCII, "element vertex 1", "property int x", "property int x") + "1 2\n", "repeat a name"),
        (header(ASCII, "element vertex 1") + "\n", "are empty"),
        (header(ASCII, "element vertex 2", "property float x") + "1\ntwo\n", "line 7 is no vertex .*'two'"),
        (header(ASCII, "element vertex 2", "property float x") + "1\n2 3\n", "line 7 is no vertex"),
        (header(ASCII, "element vertex 2", "property float x") + "1\n\n", "line 7 is no vertex"),
        (header(ASCII, "element vertex 1", "property uchar x") + "256\n", "is 256, declared as uint8"),
        (header(ASCII, "element vertex 1", "property uchar x") + "1.5\n", "is 1.5, declared as uint8"),
        (header(ASCII, "element vertex 1", "property uchar x") + "nan\n", "is nan, declared as uint8"),
        (
            header("format binary_little_endian 1.0", "element face 1", "property list uchar int v",
                   "element vertex 1", "property uchar x") + "\0\0",
            "lists come before the vertices",
        ),
        (header("format binary_big_endian 1.0", "element vertex 1", "property uchar x") + "ab", "1 bytes"),
    ],
)  # fmt: skip
def test_contradictions_are_told(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_text(text)
    with pytest.raises(BadFileError, match=message):
        read_ply_vertices(path)


def test_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(
        header(ASCII, "element vertex 2", "property float x").replace("\n", "\r\n").encode() + b"1\r\n2\r\n"
    )
    np.testing.assert_array_equal(read_ply_vertices(path)["x"], [1, 2])


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="No such file"):
        read_ply_vertices(tmp_path / "a.ply")
