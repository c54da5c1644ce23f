"""ScanNet's `.sens` files: an RGB-D sequence in one file, of which single pictures are read in place.

As ScanNet's SensReader writes version 4 (Dai et al., CVPR 2017): little-endian, nothing between the fields.

    uint32 version, uint64 length of the sensor's name, the name
    float32[16] colour intrinsics, colour extrinsics, depth intrinsics, depth extrinsics (4x4, row by row)
    int32 colour compression (0 raw, 1 PNG, 2 JPEG), int32 depth compression (0 raw, 1 zlib, 2 Occipital's)
    uint32 colour width and height, depth width and height; float32 depth pixels a metre; uint64 frames
    a frame: float32[16] camera to world (-inf where tracking was lost), uint64 colour time, depth time,
             bytes of the photograph, bytes of the depth picture; the photograph; the depth picture (uint16)
    uint64 samples of the motion sensor, and the samples: not read

PNG and JPEG photographs are read, and raw and zlib depth, which is what ScanNet delivers.

The URI of a picture is ``path/to/file.sens!NUMBER.color@OFFSET+LENGTH`` or ``...!NUMBER.depth@...``: OFFSET
is where the frame begins, LENGTH the bytes of the picture. One seek finds it in a file of 5 GB, and what
stands there is checked against it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import BadFileError

SENS_SUFFIX = ".sens"

Picture = Literal["color", "depth"]

_VERSION = 4
_START = struct.Struct("<IQ")
_HEADER = struct.Struct("<64f2i4IfQ")
_FRAME = struct.Struct("<16f4Q")
_COLOUR_COMPRESSIONS = {1: "PNG", 2: "JPEG"}
_RAW_DEPTH, _ZLIB_DEPTH = 0, 1
_LONGEST_NAME = 1000
_MOST_FRAMES = 1_000_000  # nine hours at 30 a second: a larger number is damage
_MEMBER = re.compile(r"([0-9]{1,10})\.(color|depth)@([0-9]{1,18})\+([0-9]{1,18})")


@dataclass(frozen=True)
class SensHeader:
    """What the file says of its cameras: matrices (4, 4) float64, sizes as width and height in pixels."""

    colour_intrinsics: NDArray[np.float64]
    colour_extrinsics: NDArray[np.float64]
    depth_intrinsics: NDArray[np.float64]
    depth_extrinsics: NDArray[np.float64]
    depth_compression: int
    colour_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_unit_m: float  # metres a depth pixel counts
    frames: int
    first_frame: int  # byte at which the frames begin


@dataclass(frozen=True)
class SensFrame:
    """Where a frame is. Either picture may have no bytes: it is not there."""

    number: int
    offset: int
    T_world_camera: NDArray[np.float64]  # (4, 4), as the file has it
    color_bytes: int
    depth_bytes: int

    def member(self, picture: Picture) -> str | None:
        """Return what follows ``.sens!`` in the URI of a picture, or None where it is not there."""
        length = self.color_bytes if picture == "color" else self.depth_bytes
        return f"{self.number}.{picture}@{self.offset}+{length}" if length else None


class SensFile:
    """An open `.sens` file; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open `path` and read its header; BadFileError where it is missing, cut off or no such file."""
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise BadFileError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            self._size = self._file.seek(0, 2)
            self.header = self._read_header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the open file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def frames(self, every: int = 1) -> Iterator[SensFrame]:
        """Yield the frames whose number is a multiple of `every`; only their heads are read.

        Raises BadFileError at a frame that reaches beyond the end of the file.
        """
        offset = self.header.first_frame
        for number in range(self.header.frames):
            frame = self._frame(number, offset)
            if frame is None:
                raise BadFileError(
                    f"{self.path}: ends within frame {number} of {self.header.frames}: it is cut off or"
                    " damaged, fetch it again"
                )
            if number % every == 0:
                yield frame
            offset += _FRAME.size + frame.color_bytes + frame.depth_bytes

    def read(self, member: str) -> bytes:
        """Return the bytes of a picture as they stand in the file; `member` is what follows ``.sens!``.

        Raises BadFileError where the file does not hold that picture at that place.
        """
        place = self._place(member)
        if place is None:
            raise BadFileError(
                f"{self.path}: {member[:100]!r} is not at its place: the file is not the one that was"
                " ingested: ingest its scan again"
            )
        return self._bytes(*place)

    def holds(self, member: str) -> bool:
        """Tell whether the file holds a picture at its place; the picture itself is not read."""
        return self._place(member) is not None

    def read_depth(self, member: str) -> NDArray[np.uint16]:
        """Return a depth picture, (height, width) uint16, in units of the header's `depth_unit_m`.

        Raises BadFileError as `read`, and for bytes that do not unpack to a picture of the header's size.
        """
        data = self.read(member)
        width, height = self.header.depth_size
        wanted = width * height * 2
        if self.header.depth_compression == _ZLIB_DEPTH:
            try:
                data = zlib.decompressobj().decompress(data, wanted + 1)
            except zlib.error as error:
                raise BadFileError(f"{self.path}: {member!r} is damaged: {error}") from error
        if len(data) != wanted:
            raise BadFileError(
                f"{self.path}: {member!r} is no depth picture of {width}x{height} pixels:"
                f" it has {'over ' if len(data) > wanted else ''}{min(len(data), wanted)} bytes for {wanted}"
            )
        return np.frombuffer(data, "<u2").astype(np.uint16, copy=False).reshape(height, width)

    def _place(self, member: str) -> tuple[int, int] | None:
        """Return the offset and length of a picture, or None where it is not at its place."""
        parts = _MEMBER.fullmatch(member)
        if parts is None:
            return None
        number, offset, length = int(parts[1]), int(parts[3]), int(parts[4])
        picture: Picture = "color" if parts[2] == "color" else "depth"
        frame = self._frame(number, offset)
        if frame is None or f"{number}.{picture}@{offset}+{length}" != frame.member(picture):
            return None
        before = frame.color_bytes if picture == "depth" else 0
        return offset + _FRAME.size + before, length

    def _bytes(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset` on, fewer at the end of the file."""
        length = min(length, self._size - offset)
        if length <= 0:
            return b""
        try:
            self._file.seek(offset)
            return self._file.read(length)
        except OSError as error:
            raise BadFileError(f"{self.path}: cannot be read: {error.strerror}") from error

    def _frame(self, number: int, offset: int) -> SensFrame | None:
        """Return the frame that begins at `offset`, or None where it does not end within the file."""
        head = self._bytes(offset, _FRAME.size)
        if len(head) < _FRAME.size:
            return None
        *pose, _colour_time, _depth_time, color_bytes, depth_bytes = _FRAME.unpack(head)
        if offset + _FRAME.size + color_bytes + depth_bytes > self._size:
            return None
        T_world_camera = np.array(pose, np.float64).reshape(4, 4)
        return SensFrame(number, offset, T_world_camera, color_bytes, depth_bytes)

    def _read_header(self) -> SensHeader:
        start = self._bytes(0, _START.size)
        version, name_bytes = _START.unpack(start) if len(start) == _START.size else (0, 0)
        if version != _VERSION or name_bytes > _LONGEST_NAME:
            raise BadFileError(f"{self.path}: no .sens file of version {_VERSION}: another kind, or damaged")
        offset = _START.size + name_bytes
        data = self._bytes(offset, _HEADER.size)
        if len(data) < _HEADER.size:
            raise BadFileError(f"{self.path}: ends within its header: fetch it again")
        fields = _HEADER.unpack(data)
        matrices = np.array(fields[:64], np.float64).reshape(4, 4, 4)
        colour, depth, *sizes, shift, frames = fields[64:]
        self._check(colour, depth, sizes, shift, frames)
        return SensHeader(
            colour_intrinsics=matrices[0],
            colour_extrinsics=matrices[1],
            depth_intrinsics=matrices[2],
            depth_extrinsics=matrices[3],
            depth_compression=depth,
            colour_size=(sizes[0], sizes[1]),
            depth_size=(sizes[2], sizes[3]),
            depth_unit_m=1 / shift,
            frames=frames,
            first_frame=offset + _HEADER.size,
        )

    def _check(self, colour: int, depth: int, sizes: list[int], shift: float, frames: int) -> None:
        if colour not in _COLOUR_COMPRESSIONS or depth not in (_RAW_DEPTH, _ZLIB_DEPTH):
            raise BadFileError(
                f"{self.path}: colour compression {colour} and depth compression {depth}: those read are"
                f" {' and '.join(_COLOUR_COMPRESSIONS.values())}, and raw and zlib"
            )
        if not (min(sizes) > 0 and max(sizes) < 1 << 15 and 1e-3 < shift < 1e9):
            raise BadFileError(
                f"{self.path}: pictures of {sizes[0]}x{sizes[1]} and {sizes[2]}x{sizes[3]} pixels with"
                f" {shift:g} depth units a metre cannot be: the file is damaged"
            )
        if frames > _MOST_FRAMES or frames * _FRAME.size > self._size:
            raise BadFileError(
                f"{self.path}: {frames} frames declared in {self._size} bytes: it is cut off or damaged,"
                " fetch it again"
            )
