"""Grids of pixels, and sets of pixels packed into bytes.

Packed pixels
-------------
A set of pixels of one grid is its ids, ``row * width + column``, ascending, each once. Packed, it is the
first id followed by the difference of each id from the one before it (1 or more), each number as an
unsigned LEB128: seven bits a byte, the lowest first, the highest bit of a byte set where the number goes on
in the next byte. Neighbours in a row are a difference of 1, so most pixels take one byte. The empty set is
no bytes. There is no header: the number of pixels is the number of bytes below 128. No number has leading
zeros (a last byte of 0 after others), so that a set has one packed form only.

    bytes  05  01  81 02        numbers 5, 1, 257 (1 + 2 * 128)        ids 5, 6, 263

To decode: ``value = shift = id = 0``; for each byte b: ``value += (b mod 128) * 2^shift``; if b is 128 or
more, ``shift += 7``; else ``id += value``, give out id, ``value = shift = 0``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.checks import check_array

_MAX_ID = np.iinfo(np.int32).max
_MAX_BYTES = 5  # a 31-bit number in groups of seven bits


@dataclass(frozen=True)
class PixelGrid:
    """A pinhole picture: size and intrinsics in pixels; the centre of pixel 0, 0 is at 0.0, 0.0."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        """Refuse a camera that cannot be: its numbers come out of files."""
        numbers_fit = all(map(math.isfinite, (self.fx, self.fy, self.cx, self.cy)))
        if not (self.width > 0 and self.height > 0 and numbers_fit and self.fx > 0 and self.fy > 0):
            raise UserError(f"{self}: size and focal lengths must be above 0, and all numbers finite")
        if self.width * self.height > _MAX_ID:
            raise UserError(f"{self}: a picture may have at most {_MAX_ID} pixels")


def pack_pixel_sets(pixel_ids: NDArray[np.int32], offsets: NDArray[np.int64]) -> list[bytes]:
    """Pack M sets of pixels at once; set i is ``pixel_ids[offsets[i]:offsets[i + 1]]``.

    `pixel_ids`: (P,) int32, ascending and each once within its set; `offsets`: (M + 1,) int64 from 0 to P.
    Raises ValueError if they are not so.
    """
    check_array("pixel_ids", pixel_ids, (None,), np.int32)
    check_array("offsets", offsets, (None,), np.int64)
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(pixel_ids) or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets must ascend from 0 to {len(pixel_ids)}")
    is_first = np.zeros(len(pixel_ids), np.bool_)
    is_first[offsets[:-1][np.diff(offsets) > 0]] = True
    numbers = pixel_ids.astype(np.int64)
    numbers[1:] -= np.where(is_first[1:], 0, pixel_ids[:-1])
    if (numbers < np.where(is_first, 0, 1)).any():
        raise ValueError("pixel_ids must be 0 or more, ascending, each once within its set")
    lengths = 1 + np.searchsorted(1 << 7 * np.arange(1, _MAX_BYTES), numbers, side="right")
    ends = np.cumsum(lengths)
    data = np.zeros(ends[-1] if len(ends) else 0, np.uint8)
    for place in range(_MAX_BYTES):
        reaches = lengths > place
        goes_on = (lengths[reaches] > place + 1).astype(np.int64) << 7
        data[(ends - lengths + place)[reaches]] = (numbers[reaches] >> 7 * place) & 127 | goes_on
    byte_offsets = np.append(np.zeros(1, np.int64), ends)[offsets]
    packed = data.tobytes()
    return [
        packed[first:last]
        for first, last in zip(byte_offsets[:-1].tolist(), byte_offsets[1:].tolist(), strict=True)
    ]


def unpack_pixels(packed: bytes) -> NDArray[np.int32]:
    """Unpack one set of pixels to its ids, (P,) int32 ascending. Raises UserError if it is corrupt."""
    return unpack_pixel_sets([packed])[0]


def unpack_pixel_sets(packed: Sequence[bytes]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Unpack M sets of pixels at once: `pixel_ids` (P,) int32 and `offsets` (M + 1,) int64.

    The inverse of `pack_pixel_sets`. Raises UserError, naming the first set that is corrupt, by its place.
    """
    data = np.frombuffer(b"".join(packed), np.uint8)
    byte_offsets = np.cumsum([0, *map(len, packed)], dtype=np.int64)
    ends_number = data < 128
    last_bytes = byte_offsets[1:][np.diff(byte_offsets) > 0] - 1
    _refuse(~ends_number[last_bytes], last_bytes, byte_offsets, "ends within a number")
    stops = np.flatnonzero(ends_number) + 1
    starts = np.append(np.zeros(1, np.int64), stops)[: len(stops)]
    lengths = stops - starts
    _refuse(lengths > _MAX_BYTES, starts, byte_offsets, "holds a number of more than 31 bits")
    _refuse((lengths > 1) & (data[stops - 1] == 0), starts, byte_offsets, "holds a number with leading zeros")
    places = np.arange(len(data)) - np.repeat(starts, lengths)
    parts = (data & 127).astype(np.int64) << 7 * places
    numbers = np.add.reduceat(parts, starts) if len(starts) else np.zeros(0, np.int64)
    offsets = np.searchsorted(stops, byte_offsets, side="right")
    set_starts = offsets[:-1][np.diff(offsets) > 0]
    is_first = np.zeros(len(numbers), np.bool_)
    is_first[set_starts] = True
    _refuse((numbers == 0) & ~is_first, starts, byte_offsets, "holds a pixel twice")
    running = np.cumsum(numbers)
    before = (running - numbers)[set_starts]
    ids = running - np.repeat(before, np.diff(np.append(set_starts, len(numbers))))
    _refuse(ids > _MAX_ID, starts, byte_offsets, "holds an id of more than 31 bits")
    return ids.astype(np.int32), offsets


def _refuse(
    is_wrong: NDArray[np.bool_], at_byte: NDArray[np.int64], byte_offsets: NDArray[np.int64], what: str
) -> None:
    """Raise UserError for the first place that `is_wrong`; `at_byte` are their bytes in all the data."""
    if is_wrong.any():
        byte = at_byte[np.argmax(is_wrong)]
        number = int(np.searchsorted(byte_offsets, byte, side="right")) - 1
        raise UserError(
            f"packed pixels of set {number}: byte {byte - byte_offsets[number]} {what}; they are damaged, "
            "observe their scan again (open3dsg observe --scan SCAN --force)"
        )
