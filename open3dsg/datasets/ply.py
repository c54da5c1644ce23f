"""Vertices of PLY files: ASCII, binary little-endian and binary big-endian, properties in any order.

The format is Greg Turk's (Stanford, 1994). Faces are read where triangles are asked for; else that their
rows are there is checked where this costs nothing: in ASCII by their number, in binary by the smallest size
they can have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.files import read_bytes
from open3dsg.errors import BadFileError

_HEAD_BYTES, _TAIL_BYTES = 65_536, 4_096
_ENCODINGS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip


@dataclass
class _Element:
    name: str
    count: int
    scalars: list[tuple[str, str]]  # (property, numpy type)
    lists: list[tuple[str, str, str]]  # (property, numpy type of its length, of its items)

    def smallest_bytes(self, items: int = 0) -> int:
        """Return the bytes of all rows, did every list have `items` items."""
        scalars = sum(np.dtype(kind).itemsize for _, kind in self.scalars)
        lists = sum(
            np.dtype(length).itemsize + items * np.dtype(item).itemsize for _, length, item in self.lists
        )
        return self.count * (scalars + lists)


@dataclass(frozen=True)
class PlySummary:
    """What the header of a PLY file declares of its vertices."""

    vertices: int
    properties: tuple[str, ...]


@dataclass
class _Header:
    encoding: str
    elements: list[_Element]
    lines: int


def read_ply_vertices(path: Path) -> dict[str, NDArray[Any]]:
    """Return the vertex properties of the PLY file `path`: name -> (N,) array of the type it declares.

    Raises BadFileError for a file that is missing, no PLY, truncated or in contradiction with its header.
    """
    return _read_vertices(*_read_file(path), path)


def read_ply_mesh(path: Path) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64] | None]:
    """Return the vertices of the PLY file `path`, as `read_ply_vertices`, and its triangles, (F, 3) int64.

    The triangles are None where the file has no faces, or others than triangles. Raises BadFileError as
    `read_ply_vertices`, and for a triangle of vertices that are not there.
    """
    header, body = _read_file(path)
    vertices = _read_vertices(header, body, path)
    triangles = _read_triangles(header, body, path)
    count = header.elements[_vertex_position(header, path)].count
    if triangles is not None and triangles.size and not 0 <= triangles.min() <= triangles.max() < count:
        raise BadFileError(f"{path}: a face names a vertex that is not there: the file is damaged")
    return vertices, triangles


def check_ply(path: Path) -> PlySummary:
    """Hold the size and the last row of the PLY file `path` against its header.

    This finds a file that was cut off without reading what lies between: take `read_ply_vertices` for that.
    Raises BadFileError as that does.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error
    header, body = _parse_header(head, path)
    vertex = header.elements[_vertex_position(header, path)]
    found = size - (len(head) - len(body))
    if header.encoding == "ascii":
        _check_ascii_end(header, tail, found, path)
        if not tail.endswith(b"\n"):  # its last number may have been cut: count the rows
            read_ply_vertices(path)
    else:
        # A face has three corners at least, though a list need not have any items.
        expected = sum(element.smallest_bytes(3 * (element.name == "face")) for element in header.elements)
        if found < expected:
            raise BadFileError(
                f"{path}: truncated: at least {expected} bytes declared, {found} found; fetch it again"
            )
    return PlySummary(vertex.count, tuple(name for name, _ in vertex.scalars))


def _check_ascii_end(header: _Header, tail: bytes, found: int, path: Path) -> None:
    """Refuse an ASCII body of `found` bytes that is too short, or whose last row is no row of its element."""
    elements = [element for element in header.elements if element.count]
    # A number and the space or newline behind it are two bytes.
    expected = sum(2 * element.count * (len(element.scalars) + len(element.lists)) for element in elements)
    if found + 1 < expected:
        raise BadFileError(
            f"{path}: truncated: at least {expected} bytes declared, {found} found; fetch it again"
        )
    last_row = next((row.split() for row in reversed(tail.splitlines()) if row.strip()), [])
    if elements and not _is_row(last_row, elements[-1]):
        raise BadFileError(
            f"{path}: truncated: it does not end with a row of its last element; fetch it again"
        )


def _is_row(words: list[bytes], element: _Element) -> bool:
    """Tell whether `words` are as many as a row of `element` has, where that can be told."""
    if not element.lists:
        return len(words) == len(element.scalars)
    if element.scalars or len(element.lists) > 1:
        return True
    return bool(words) and words[0].isdigit() and len(words) == 1 + int(words[0])


def _read_file(path: Path) -> tuple[_Header, bytes]:
    return _parse_header(read_bytes(path), path)


def _read_vertices(header: _Header, body: bytes, path: Path) -> dict[str, NDArray[Any]]:
    position = _vertex_position(header, path)
    if header.encoding == "ascii":
        return _read_ascii(body, header, position, path)
    return _read_binary(body, header, position, path)


def _vertex_position(header: _Header, path: Path) -> int:
    """Return the place of the vertices among the elements, which must be of single numbers."""
    position = next((i for i, element in enumerate(header.elements) if element.name == "vertex"), None)
    if position is None:
        raise BadFileError(f"{path}: the header declares no vertices")
    vertex = header.elements[position]
    if vertex.lists:
        raise BadFileError(f"{path}: vertex property {vertex.lists[0][0]!r} is a list, which is not read")
    if len({name for name, _ in vertex.scalars}) != len(vertex.scalars) or not vertex.scalars:
        raise BadFileError(f"{path}: the vertex properties of the header are empty or repeat a name")
    return position


def _parse_header(data: bytes, path: Path) -> tuple[_Header, bytes]:
    """Return the header and the bytes behind it."""
    if data[:3] not in (b"ply", b"PLY"):
        raise BadFileError(f"{path}: no PLY file: it does not begin with 'ply'")
    end = data.find(b"end_header")
    newline = data.find(b"\n", end)
    if end < 0 or newline < 0:
        raise BadFileError(f"{path}: the PLY header has no end: the file is cut off")
    lines = data[:end].decode("latin-1").splitlines()
    header = _Header(encoding="", elements=[], lines=len(lines) + 1)
    for number, line in enumerate(lines[1:], start=2):
        try:
            _parse_header_line(line.split(), header)
        except (ValueError, KeyError, IndexError) as error:
            raise BadFileError(f"{path}: line {number} of the PLY header cannot be read: {line!r}") from error
    if not header.encoding:
        raise BadFileError(f"{path}: the PLY header names no format")
    return header, data[newline + 1 :]


def _parse_header_line(words: list[str], header: _Header) -> None:
    match words:
        case [] | ["comment" | "obj_info", *_]:
            pass
        case ["format", encoding, "1.0"] if encoding in _ENCODINGS:
            header.encoding = encoding
        case ["element", name, count] if int(count) >= 0:
            header.elements.append(_Element(name, int(count), [], []))
        case ["property", "list", length, item, name]:
            header.elements[-1].lists.append((name, _TYPES[length], _TYPES[item]))
        case ["property", kind, name]:
            header.elements[-1].scalars.append((name, _TYPES[kind]))
        case _:
            raise ValueError


def _read_ascii(body: bytes, header: _Header, position: int, path: Path) -> dict[str, NDArray[Any]]:
    vertex = header.elements[position]
    rows = body.splitlines()
    expected = sum(element.count for element in header.elements)
    if len(rows) < expected:
        raise BadFileError(f"{path}: truncated: {expected} rows declared, {len(rows)} found; fetch it again")
    start = sum(element.count for element in header.elements[:position])
    rows = rows[start : start + vertex.count]
    columns = len(vertex.scalars)
    try:
        table = np.loadtxt(rows, np.float64, comments=None, ndmin=2) if rows else np.empty((0, columns))
    except ValueError:
        table = np.empty((0, 0))
    # loadtxt passes over empty rows, and says of a bad row where it is only roughly.
    if table.shape != (vertex.count, columns):
        number, row = _first_bad_row(rows, columns)
        raise BadFileError(
            f"{path}: line {header.lines + start + number} is no vertex of {columns} numbers: {row[:60]!r}"
        )
    return {
        name: _as_declared(table[:, i], kind, f"{path}: vertex property {name!r}")
        for i, (name, kind) in enumerate(vertex.scalars)
    }


def _first_bad_row(rows: list[bytes], columns: int) -> tuple[int, str]:
    """Return the number, from 1, and the text of the first row that is not `columns` numbers."""
    for number, row in enumerate(rows, start=1):
        try:
            if len([float(word) for word in row.split()]) == columns:
                continue
        except ValueError:
            pass
        return number, row.decode("latin-1")
    return len(rows), rows[-1].decode("latin-1")


def _as_declared(column: NDArray[np.float64], kind: str, where: str) -> NDArray[Any]:
    """Return `column` in the type its header declares; whole numbers must fit into theirs."""
    if kind.startswith("f"):
        with np.errstate(over="ignore"):
            return column.astype(kind)
    limits = np.iinfo(kind)
    fits = (column >= limits.min) & (column <= limits.max) & (column == np.floor(column))
    if not fits.all():
        row = int(np.argmin(fits))
        raise BadFileError(f"{where} of vertex {row} is {column[row]:g}, declared as {np.dtype(kind).name}")
    return column.astype(kind)


def _read_binary(body: bytes, header: _Header, position: int, path: Path) -> dict[str, NDArray[Any]]:
    vertex = header.elements[position]
    before, after = header.elements[:position], header.elements[position + 1 :]
    if any(element.lists for element in before):
        raise BadFileError(f"{path}: lists come before the vertices, where their size is unknown")
    expected = sum(element.smallest_bytes() for element in header.elements)
    if len(body) < expected:
        raise BadFileError(
            f"{path}: truncated: at least {expected} bytes declared, {len(body)} found; fetch it again"
        )
    if not any(element.lists for element in after) and len(body) > expected:
        raise BadFileError(f"{path}: {len(body) - expected} bytes more than the header declares")
    order = _ENCODINGS[header.encoding]
    row = np.dtype([(name, order + kind) for name, kind in vertex.scalars])
    offset = sum(element.smallest_bytes() for element in before)
    table = np.frombuffer(body, row, vertex.count, offset)
    return {name: table[name].astype(kind) for name, kind in vertex.scalars}


def _read_triangles(header: _Header, body: bytes, path: Path) -> NDArray[np.int64] | None:
    """Return the faces where they are a list of three whole numbers each, and behind rows without lists."""
    position = next((i for i, element in enumerate(header.elements) if element.name == "face"), None)
    if position is None:
        return None
    before, face = header.elements[:position], header.elements[position]
    if face.scalars or len(face.lists) != 1 or any(element.lists for element in before):
        return None
    _, length, item = face.lists[0]
    if "f" in length + item:
        raise BadFileError(f"{path}: its faces are declared as numbers with a fraction: the file is damaged")
    if header.encoding == "ascii":
        start = sum(element.count for element in before)
        rows = [row.split() for row in body.splitlines()[start : start + face.count]]
        if any(len(row) != 4 or row[0] != b"3" for row in rows):
            return None
        return _whole_numbers(rows, path)[:, 1:]
    order = _ENCODINGS[header.encoding]
    row = np.dtype([("length", order + length), ("corners", order + item, (3,))])
    offset = sum(element.smallest_bytes() for element in before)
    if len(body) < offset + face.count * row.itemsize:  # no face has less than three corners
        raise BadFileError(f"{path}: ends within its faces: fetch it again")
    table = np.frombuffer(body, row, face.count, offset)
    return table["corners"].astype(np.int64) if (table["length"] == 3).all() else None


def _whole_numbers(rows: list[list[bytes]], path: Path) -> NDArray[np.int64]:
    try:
        return np.array(rows, np.bytes_).reshape(-1, 4).astype(np.int64)
    except (ValueError, OverflowError) as error:
        raise BadFileError(f"{path}: a face holds something that is no whole number") from error
