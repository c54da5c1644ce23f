"""The .sens file of a ScanNet scan: all its frames in one stream.

Little-endian: version 4, the sensor's name (its length as uint64 before it), intrinsics and extrinsics of
colour and depth (4x4 float32, row by row), the two compressions, widths and heights, the depth units a metre,
the number of frames (uint64); each frame with its pose, time stamps in microseconds, sizes in bytes and the
two pictures; at the end the number of measurements of the inertial unit, and these
(github.com/ScanNet/ScanNet, SensReader).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.formats_scannet import intrinsic_matrix

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.geometry.pixels import PixelGrid

_VERSION = 4
_SENSOR = b"StructureSensor"
_JPEG, _ZLIB_USHORT = 2, 1
_UNITS_A_METRE = 1000.0
_FRAMES_A_SECOND = 30


class SensFile:
    """Writes a .sens file frame by frame; their number is said beforehand, since the header holds it."""

    def __init__(self, path: Path, colour: PixelGrid, depth: PixelGrid, frames: int) -> None:
        """Open `path` and write the header."""
        self._file = path.open("wb")
        self._file.write(struct.pack("<IQ", _VERSION, len(_SENSOR)) + _SENSOR)
        for matrix in (intrinsic_matrix(colour), np.eye(4), intrinsic_matrix(depth), np.eye(4)):
            self._file.write(matrix.astype("<f4").tobytes())
        self._file.write(struct.pack("<ii", _JPEG, _ZLIB_USHORT))
        self._file.write(struct.pack("<IIII", colour.width, colour.height, depth.width, depth.height))
        self._file.write(struct.pack("<fQ", _UNITS_A_METRE, frames))

    def add(
        self, number: int, T_scan_camera: NDArray[np.float64], jpeg: bytes, depth_mm: NDArray[np.uint16]
    ) -> None:
        """Append frame `number` of the stream: its pose (4, 4), photograph and depth picture (H, W)."""
        depth = zlib.compress(depth_mm.astype("<u2").tobytes())
        microseconds = number * 1_000_000 // _FRAMES_A_SECOND
        self._file.write(T_scan_camera.astype("<f4").tobytes())
        self._file.write(struct.pack("<QQQQ", microseconds, microseconds, len(jpeg), len(depth)))
        self._file.write(jpeg + depth)

    def close(self) -> None:
        """End the stream with no measurements of the inertial unit."""
        self._file.write(struct.pack("<Q", 0))
        self._file.close()
