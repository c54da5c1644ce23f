"""Vertices of PLY files: ASCII, binary little-endian and binary big-endian, properties in any order.

The format is Greg Turk's (Stanford, 1994). Faces are not read; that their rows are there is checked where
this costs nothing: in ASCII by their number, in binary by the smallest size they can have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import BadFileError

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
    lists: list[tuple[str, str]]  # (property, numpy type of its length)

    def smallest_bytes(self) -> int:
        """Return the bytes of all rows, were every list empty."""
        return self.count * sum(np.dtype(kind).itemsize for _, kind in self.scalars + self.lists)


@dataclass
class _Header:
    encoding: str
    elements: list[_Element]
    lines: int


def read_ply_vertices(path: Path) -> dict[str, NDArray[Any]]:
    """Return the vertex properties of the PLY file `path`: name -> (N,) array of the type it declares.

    Raises BadFileError for a file that is missing, no PLY, truncated or in contradiction with its header.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error
    header, body = _parse_header(data, path)
    position = next((i for i, element in enumerate(header.elements) if element.name == "vertex"), None)
    if position is None:
        raise BadFileError(f"{path}: the header declares no vertices")
    vertex = header.elements[position]
    if vertex.lists:
        raise BadFileError(f"{path}: vertex property {vertex.lists[0][0]!r} is a list, which is not read")
    if len({name for name, _ in vertex.scalars}) != len(vertex.scalars) or not vertex.scalars:
        raise BadFileError(f"{path}: the vertex properties of the header are empty or repeat a name")
    if header.encoding == "ascii":
        return _read_ascii(body, header, position, path)
    return _read_binary(body, header, position, path)


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
            _ = _TYPES[item]
            header.elements[-1].lists.append((name, _TYPES[length]))
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
