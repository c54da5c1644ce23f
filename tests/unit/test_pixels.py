"""Packed pixel sets against a decoder and an encoder written byte by byte from the documented format."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid, pack_pixel_sets, unpack_pixel_sets, unpack_pixels

LAST = 2**31 - 1
pixel_sets = st.one_of(st.sets(st.integers(0, LAST), max_size=30), st.sets(st.integers(0, 400), max_size=60))


def pack_pixels(pixel_ids: NDArray[np.int32]) -> bytes:
    return pack_pixel_sets(pixel_ids, np.array([0, len(pixel_ids)], np.int64))[0]


def ids_of(pixels: set[int]) -> NDArray[np.int32]:
    return np.array(sorted(pixels), np.int32)


def plain_pack(ids: list[int]) -> bytes:
    data, before = bytearray(), 0
    for pixel in ids:
        number, before = pixel - before, pixel
        while number > 127:
            data.append(number % 128 + 128)
            number //= 128
        data.append(number)
    return bytes(data)


def test_the_documented_example() -> None:
    assert unpack_pixels(bytes.fromhex("05018102")).tolist() == [5, 6, 263]
    assert pack_pixels(np.array([5, 6, 263], np.int32)).hex() == "05018102"


@given(pixel_sets)
def test_packs_as_documented_and_comes_back(pixels: set[int]) -> None:
    ids = ids_of(pixels)
    packed = pack_pixels(ids)
    assert packed == plain_pack(ids.tolist())
    back = unpack_pixels(packed)
    assert back.dtype == np.int32
    assert back.tolist() == ids.tolist()


@given(st.lists(pixel_sets, max_size=6))
def test_many_sets_are_packed_as_each_alone(sets: list[set[int]]) -> None:
    arrays = [ids_of(pixels) for pixels in sets]
    ids = np.concatenate([np.empty(0, np.int32), *arrays])
    offsets = np.cumsum([0, *map(len, arrays)]).astype(np.int64)
    packed = pack_pixel_sets(ids, offsets)
    assert packed == [plain_pack(array.tolist()) for array in arrays]
    back, back_offsets = unpack_pixel_sets(packed)
    assert back.tolist() == ids.tolist()
    assert back_offsets.tolist() == offsets.tolist()


@given(st.binary(max_size=12))
def test_any_bytes_are_one_set_or_refused(data: bytes) -> None:
    try:
        ids = unpack_pixels(data)
    except UserError:
        return
    assert pack_pixels(ids) == data


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("0580", "byte 1 ends within a number"),
        ("0500", "byte 1 holds a pixel twice"),
        ("058100", "byte 1 holds a number with leading zeros"),
        ("01808080808001", "byte 1 holds a number of more than 31 bits"),
        ("01ffffffff07", "byte 1 holds an id of more than 31 bits"),
        ("ffffffff08", "byte 0 holds an id of more than 31 bits"),
    ],
)
def test_damage_is_told_with_its_place(data: str, complaint: str) -> None:
    with pytest.raises(UserError, match=f"packed pixels of set 2: {complaint}"):
        unpack_pixel_sets([b"\x01", b"", bytes.fromhex(data), b"\x03"])


@pytest.mark.parametrize("ids", [[3, 3], [4, 3], [-1, 3]])
def test_ids_out_of_order_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        pack_pixels(np.array(ids, np.int32))


@pytest.mark.parametrize("offsets", [[], [0, 1], [1, 2], [0, 2, 1, 2]])
def test_offsets_must_cover_the_ids(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets must ascend from 0 to 2"):
        pack_pixel_sets(np.array([1, 2], np.int32), np.array(offsets, np.int64))


@pytest.mark.parametrize(
    ("width", "fx", "cx"), [(0, 1.0, 0.0), (4, 0.0, 0.0), (4, 1.0, float("nan")), (2**31, 1.0, 0.0)]
)
def test_an_impossible_camera_is_refused(width: int, fx: float, cx: float) -> None:
    with pytest.raises(UserError, match="PixelGrid"):
        PixelGrid(width, 1, fx, 1.0, cx, 0.0)
