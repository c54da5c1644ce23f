"""Tokens of a pair as few bytes: coarser grids, smaller numbers, and a lossless packing of what is left.

A grid of tokens is one token for the whole picture, then a square of them row by row, as vision transformers
give it (Dosovitskiy et al., ICLR 2021). `TokenFormat` says how much of it is kept:

- layout ``full``: all tokens; ``grid17``: the first one and the square averaged to 4 x 4; ``pooled``: none,
  since their mean is the pair's embedding already;
- dtype ``fp16``: halves; ``int8`` and ``fp8``: a byte a number and a float32 scale a token, symmetric
  int8 or e4m3fn (Micikevicius et al., "FP8 formats for deep learning", 2022).

How far what is read, x', may be from what was written, x, where s is the scale of the token, float32's own
rounding of s aside:

- fp16: |x - x'| <= 2^-11 |x|, or 2^-25 where that is more;
- int8: |x - x'| <= s / 2, where s is the largest |x| of the token / 127;
- fp8: |x - x'| <= 2^-4 |x|, or 2^-10 s where that is more; s is the largest |x| of the token / 448.

Packing loses nothing. The numbers are split by byte: all first bytes, then all second ones. A plane is
compressed by Zstandard (RFC 8878) where that is shorter: the high bytes of halves, sign and exponent, take
few values; the low ones are noise, unless the numbers had fewer digits than a half. It is entropy coding
alone that pays, since activations have no repeats, and Zstandard undoes that 8 times as fast as zlib, which
made the packing ``planes`` before: that is read, too.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Layout: TypeAlias = Literal["full", "grid17", "pooled"]
TokenDtype: TypeAlias = Literal["fp16", "int8", "fp8"]
Packing: TypeAlias = Literal["raw", "zstd"]  # and planes, as it was written before

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
TOKEN_DTYPES: tuple[TokenDtype, ...] = get_args(TokenDtype)

_LARGEST = 65_504.0  # of halves, in which the mean of the tokens is kept whatever their own format
_LARGEST_CODE = {"int8": 127.0, "fp8": 448.0}
_SMALLEST_SCALE = np.finfo(np.float32).tiny  # below it a float32 has fewer digits
_COARSE = 4  # a side of grid17's square
COARSE_TOKENS = 1 + _COARSE**2  # of grid17
_COUNT = struct.Struct("<I")
_STORED: dict[str, np.dtype[Any]] = {"fp16": np.dtype("<f2"), "int8": np.dtype("i1"), "fp8": np.dtype("u1")}


@dataclass(frozen=True)
class TokenFormat:
    """How much of the tokens is kept, and in which numbers."""

    layout: Layout = "full"
    dtype: TokenDtype = "fp16"


@dataclass(frozen=True)
class PackedTokens:
    """The tokens of a pair as a row of `pair_tokens` has them; docs/data-model.md describes the bytes."""

    layout: str
    dtype: str
    packing: str  # raw, or zstd where that is shorter; of old planes
    tokens: bytes
    scales: bytes | None  # float32 little-endian a token


def pack_tokens(tokens: NDArray[np.float32], form: TokenFormat) -> PackedTokens | None:
    """Pack (T, d) float32 tokens; None where `form` keeps none.

    Raises ValueError, naming its place, for a token that is not finite or beyond 65,504, which no half can
    hold, and for a grid that cannot be averaged (see `coarse_grid`).
    """
    _check(tokens)
    if form.layout == "pooled":
        return None
    kept = coarse_grid(tokens) if form.layout == "grid17" else tokens
    if form.dtype == "fp16":
        codes: NDArray[np.generic] = kept.astype("<f2")
        return PackedTokens(form.layout, form.dtype, *_pack(codes), None)
    scales = _scales(kept, _LARGEST_CODE[form.dtype])
    scaled = kept / scales[:, None]
    codes = np.rint(scaled).astype(np.int8) if form.dtype == "int8" else encode_fp8(scaled)
    return PackedTokens(form.layout, form.dtype, *_pack(codes), scales.astype("<f4").tobytes())


def unpack_tokens(packed: PackedTokens, dimension: int) -> NDArray[np.float32]:
    """Return the tokens, (T', `dimension`) float32; T' is 17 for grid17.

    Raises ValueError for bytes that are not what `pack_tokens` makes.
    """
    stored = _STORED.get(packed.dtype)
    if stored is None:
        raise ValueError(f"tokens of an unknown type {packed.dtype!r}")
    data = _unpack(packed, stored.itemsize)
    if not data.size or data.size % (dimension * stored.itemsize):
        raise ValueError(f"{data.size} bytes are no tokens of {dimension} {packed.dtype} numbers")
    codes = data.view(stored).reshape(-1, dimension)
    if packed.layout == "grid17" and len(codes) != COARSE_TOKENS:
        raise ValueError(f"{len(codes)} tokens in the layout grid17")
    numbers = decode_fp8(codes) if packed.dtype == "fp8" else codes.astype(np.float32)
    if packed.dtype != "fp16":
        numbers *= _read_scales(packed.scales, len(codes))[:, None]
    return numbers


def unpack_halves(packed: PackedTokens, out: NDArray[np.float16]) -> None:
    """Lay the tokens out in `out`, (T, d) float16, contiguous: what `spread_tokens` gives, in halves.

    Without a float32 in between, which takes longer than all else once the numbers are halves. Raises
    ValueError for bytes that are not what `pack_tokens` makes, and for tokens that cannot be laid out so.
    """
    if (packed.layout, packed.dtype) != ("full", "fp16"):
        out[:] = spread_tokens(unpack_tokens(packed, out.shape[1]), len(out))
    elif packed.packing in _PLANES:
        low, high = _read_planes(packed, 2)
        _check_bytes(2 * len(low), out)
        words = out.reshape(-1).view(np.uint16)
        np.left_shift(high, 8, out=words, dtype=np.uint16)
        np.bitwise_or(words, low, out=words)
    else:
        data = _unpack(packed, 2)
        _check_bytes(len(data), out)
        out.reshape(-1)[:] = data.view("<f2")


def coarse_grid(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the first of (T, d) tokens and average the square of the others to 4 x 4: (17, d) float32.

    Cell i of 4 along a side of n covers places floor(i n / 4) to ceil((i + 1) n / 4), the last left out:
    equal shares where 4 divides n; else neighbouring cells share a place. Raises ValueError where the others
    are no square of at least 4 x 4.
    """
    side = _square_side(len(tokens))
    share = _cells(side)
    averaged: NDArray[np.float32] = np.kron(share, share).astype(np.float32) @ tokens[1:]
    return np.concatenate([tokens[:1], averaged])


def spread_tokens(tokens: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Put tokens as they are read back in all `count` places of the full grid: (`count`, d) float32.

    A single one, the pooled one, stands in every place; of 17 the first stays, and each other one is repeated
    over the places nearest to it. Raises ValueError for another number of tokens, unless it is `count`.
    """
    if len(tokens) == count:
        return tokens
    if len(tokens) == 1:
        return np.repeat(tokens, count, axis=0)
    if len(tokens) != COARSE_TOKENS:
        raise ValueError(f"{len(tokens)} tokens cannot be spread over {count}")
    side = _square_side(count)
    cell = (2 * np.arange(side) + 1) * _COARSE // (2 * side)
    places = np.concatenate([[0], (1 + cell[:, None] * _COARSE + cell).ravel()])
    spread: NDArray[np.float32] = tokens[places]
    return spread


def token_bytes(form: TokenFormat, tokens: int, dimension: int) -> int:
    """Return the bytes of a pair's `tokens`, scales included, before packing: no more than that are stored.

    Raises ValueError where `form` does not fit a grid of so many tokens.
    """
    if form.layout == "pooled":
        return 0
    if form.layout == "grid17":
        _square_side(tokens)
        tokens = COARSE_TOKENS
    scale = 0 if form.dtype == "fp16" else 4
    return tokens * (dimension * _STORED[form.dtype].itemsize + scale)


def encode_fp8(numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round float32 numbers to e4m3fn, ties to even; beyond 448 to the largest, 448. Any shape, uint8."""
    codes = np.searchsorted(_fp8_borders(), np.abs(numbers)).astype(np.uint8)
    codes |= np.signbit(numbers).astype(np.uint8) << 7
    return codes


def decode_fp8(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the float32 numbers of e4m3fn codes, uint8 of any shape; two of them are NaN."""
    numbers: NDArray[np.float32] = _fp8_values()[codes]
    return numbers


@cache
def _fp8_values() -> NDArray[np.float32]:
    """(256,) float32: a sign, four bits of exponent (bias 7), three of mantissa; all ones is NaN."""
    code = np.arange(128)
    exponent, mantissa = code >> 3, code & 7
    positive = np.ldexp(mantissa + np.where(exponent > 0, 8.0, 0.0), np.maximum(exponent, 1) - 10)
    positive[127] = np.nan
    return np.concatenate([positive, -positive]).astype(np.float32)


@cache
def _fp8_borders() -> NDArray[np.float32]:
    """(126,) float32: up to border n, itself included, a number is rounded to code n or less."""
    values = _fp8_values()[:127]
    middles = (values[:-1] + values[1:]) / 2
    odd = np.arange(126) % 2 == 1  # a tie goes to the even code: there, to the one above
    return np.where(odd, np.nextafter(middles, np.float32(0)), middles)


def _check(tokens: NDArray[np.float32]) -> None:
    if tokens.ndim != 2 or not tokens.size:
        raise ValueError(f"expected (tokens, dimension), got an array of shape {tokens.shape}")
    held = (np.abs(tokens) <= _LARGEST).all(axis=1)
    if not held.all():
        place = int(np.argmin(held))
        finite = np.isfinite(tokens[place]).all()
        raise ValueError(f"token {place} has {'a number beyond 65,504' if finite else 'NaN or infinity'}")


def _scales(tokens: NDArray[np.float32], largest_code: float) -> NDArray[np.float32]:
    scales: NDArray[np.float32] = np.abs(tokens).max(axis=1) / np.float32(largest_code)
    return np.maximum(scales, _SMALLEST_SCALE)


def _read_scales(scales: bytes | None, count: int) -> NDArray[np.float32]:
    if scales is None or len(scales) != 4 * count:
        raise ValueError(f"{0 if scales is None else len(scales)} bytes of scales for {count} tokens")
    return np.frombuffer(scales, "<f4")


def _square_side(count: int) -> int:
    """Return the side of the square behind the first of `count` tokens."""
    side = math.isqrt(max(count - 1, 0))
    if side < _COARSE or side * side != count - 1:
        raise ValueError(f"{count} tokens are not one and a square grid of at least {_COARSE} x {_COARSE}")
    return side


def _cells(side: int) -> NDArray[np.float64]:
    """(4, side): what each place has of each cell's mean."""
    cell, place = np.arange(_COARSE)[:, None], np.arange(side)
    inside = (place >= cell * side // _COARSE) & (place < -(-(cell + 1) * side // _COARSE))
    share: NDArray[np.float64] = inside / inside.sum(axis=1, keepdims=True)
    return share


def _pack(codes: NDArray[np.generic]) -> tuple[Packing, bytes]:
    """Return the shorter of both packings.

    Planes begin with the number of numbers. Each plane follows behind its length; one that is as long as
    that number is not compressed. All are uint32 little-endian.
    """
    raw = codes.tobytes()
    parts = [_COUNT.pack(codes.size)]
    for plane in np.frombuffer(raw, np.uint8).reshape(codes.size, -1).T:
        whole = plane.tobytes()
        compressed = zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compress(whole)
        stored = compressed if len(compressed) < len(whole) else whole
        parts += [_COUNT.pack(len(stored)), stored]
    planes = b"".join(parts)
    return ("zstd", planes) if len(planes) < len(raw) else ("raw", raw)


def _check_bytes(count: int, out: NDArray[np.float16]) -> None:
    if count != out.nbytes:
        raise ValueError(f"{count} bytes are no {len(out)} tokens of {out.shape[1]} halves")


def _unpack(packed: PackedTokens, size: int) -> NDArray[np.uint8]:
    """Return the bytes of the numbers, `size` each, in one row."""
    if packed.packing == "raw":
        return np.frombuffer(packed.tokens, np.uint8)
    if packed.packing not in _PLANES:
        raise ValueError(f"tokens in an unknown packing {packed.packing!r}")
    return np.column_stack(_read_planes(packed, size)).reshape(-1)


def _read_planes(packed: PackedTokens, size: int) -> list[NDArray[np.uint8]]:
    try:
        return _planes(packed.tokens, size, _PLANES[packed.packing])
    except (struct.error, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(f"damaged planes of tokens: {error}") from error


def _planes(data: bytes, size: int, undo: Callable[[memoryview, int], bytes]) -> list[NDArray[np.uint8]]:
    (count,) = _COUNT.unpack_from(data)
    at = _COUNT.size
    planes, whole = [], memoryview(data)
    for _ in range(size):
        (length,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        stored = whole[at : at + length]
        at += length
        planes.append(np.frombuffer(stored if length == count else undo(stored, count), np.uint8))
    if at != len(data) or any(len(plane) != count for plane in planes):
        raise ValueError(f"damaged planes of tokens: {len(data)} bytes are not {size} planes of {count}")
    return planes


def _decompress(data: memoryview, length: int) -> bytes:
    if zstandard.frame_content_size(data) != length:  # told before anything is made, however much it would be
        raise zstandard.ZstdError(f"a compressed plane is not of {length} bytes")
    return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)


def _inflate(data: memoryview, length: int) -> bytes:
    """Return `length` bytes, or a few that are too many, whatever `data` would grow to."""
    work = zlib.decompressobj()
    plain = work.decompress(data, length + 1)
    if not work.eof or work.unused_data:
        raise zlib.error("a deflated plane does not end where it should")
    return plain


_LEVEL = 1  # higher ones look for repeats
_PLANES = {"zstd": _decompress, "planes": _inflate}
