"""Token formats: error bounds, e4m3 against torch's, grids against plain loops, packing back and forth."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from open3dsg.encoders.tokens import (
    TOKEN_DTYPES,
    PackedTokens,
    TokenFormat,
    coarse_grid,
    decode_fp8,
    encode_fp8,
    pack_tokens,
    spread_tokens,
    token_bytes,
    unpack_halves,
    unpack_tokens,
)

ROUNDING = 1 + 2.0**-15  # of float32, around a scale

some_tokens = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.floats(-65_504, 65_504, width=32),
)


def there_and_back(
    tokens: NDArray[np.float32], form: TokenFormat
) -> tuple[PackedTokens, NDArray[np.float32]]:
    packed = pack_tokens(tokens, form)
    assert packed is not None
    return packed, unpack_tokens(packed, tokens.shape[1])


def activations(tokens: int = 257, dimension: int = 96) -> NDArray[np.float32]:
    """Like a vision transformer's: a spread and an offset a channel, and one channel far larger."""
    random = np.random.default_rng(5)
    spread = np.exp(random.normal(0, 0.6, dimension))
    spread[-1] *= 40
    values = spread * (random.normal(0, 0.5, dimension) + random.standard_t(5, size=(tokens, dimension)))
    return values.astype(np.float32)


@given(some_tokens)
def test_halves_are_within_their_rounding(tokens: NDArray[np.float32]) -> None:
    packed, read = there_and_back(tokens, TokenFormat(dtype="fp16"))
    assert packed.scales is None
    np.testing.assert_array_equal(read, tokens.astype(np.float16).astype(np.float32))
    assert (np.abs(read - tokens.astype(float)) <= np.maximum(np.abs(tokens) * 2.0**-11, 2.0**-25)).all()


@given(some_tokens)
def test_int8_is_within_half_a_step(tokens: NDArray[np.float32]) -> None:
    packed, read = there_and_back(tokens, TokenFormat(dtype="int8"))
    for token, back, (scale,) in zip(
        tokens, read, struct.iter_unpack("<f", packed.scales or b""), strict=True
    ):
        assert scale == pytest.approx(max(abs(token).max() / 127, 2.0**-126), rel=1e-6)
        assert (np.abs(token.astype(float) - back) <= scale / 2 * ROUNDING).all()


@given(some_tokens)
def test_fp8_is_within_a_sixteenth(tokens: NDArray[np.float32]) -> None:
    packed, read = there_and_back(tokens, TokenFormat(dtype="fp8"))
    for token, back, (scale,) in zip(
        tokens, read, struct.iter_unpack("<f", packed.scales or b""), strict=True
    ):
        assert scale == pytest.approx(max(abs(token).max() / 448, 2.0**-126), rel=1e-6)
        bound = np.maximum(np.abs(token.astype(float)) * 2.0**-4, scale * 2.0**-10)
        assert (np.abs(token.astype(float) - back) <= bound * ROUNDING).all()


def plain_e4m3(code: int) -> float:
    exponent, mantissa = code >> 3, code & 7
    return mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)


def around_every_fp8_tie() -> NDArray[np.float32]:
    values = np.array([plain_e4m3(code) for code in range(127)], np.float32)
    ties = (values[:-1] + values[1:]) / 2
    below, above = (np.nextafter(ties, np.float32(towards)) for towards in (0, 999))
    positive: NDArray[np.float32] = np.concatenate([values, ties, below, above])
    return np.concatenate([positive, -positive])


def test_fp8_takes_the_nearest_code_and_of_two_the_even_one() -> None:
    for number, code in zip(around_every_fp8_tie(), encode_fp8(around_every_fp8_tie()), strict=True):
        nearest = min(range(127), key=lambda c: (abs(plain_e4m3(c) - abs(float(number))), c % 2))
        assert code == nearest + 128 * np.signbit(number)
        assert decode_fp8(code[None]) == math.copysign(plain_e4m3(nearest), number)
    too_large = encode_fp8(np.array([449, 1e30, -1e30], np.float32))
    np.testing.assert_array_equal(decode_fp8(too_large), [448, 448, -448])


@pytest.mark.slow  # torch takes seconds to load
def test_fp8_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    codes = np.arange(256, dtype=np.uint8)
    theirs = torch.from_numpy(codes).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(decode_fp8(codes), theirs)
    random = np.random.default_rng(2).uniform(-448, 448, 100_000).astype(np.float32)
    small = [random / np.float32(divisor) for divisor in (1_000, 100_000)]
    for numbers in (around_every_fp8_tie(), random, *small):
        theirs = torch.from_numpy(numbers).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        np.testing.assert_array_equal(encode_fp8(numbers), theirs)


@pytest.mark.parametrize("side", [4, 5, 7, 8, 16])
def test_the_coarse_grid_is_the_mean_of_each_cell(side: int) -> None:
    tokens = activations(1 + side * side, 3)
    expected = [tokens[0]]
    for row in range(4):
        for column in range(4):
            rows = range(math.floor(row * side / 4), math.ceil((row + 1) * side / 4))
            columns = range(math.floor(column * side / 4), math.ceil((column + 1) * side / 4))
            cell = [tokens[1 + y * side + x].astype(float) for y in rows for x in columns]
            expected.append(np.mean(cell, axis=0))
    np.testing.assert_allclose(coarse_grid(tokens), expected, rtol=1e-5, atol=1e-5)
    if side == 4:
        np.testing.assert_array_equal(coarse_grid(tokens), tokens)


def test_a_coarse_grid_is_spread_over_the_places_it_was_made_of() -> None:
    coarse = activations(17, 5)
    spread = spread_tokens(coarse, 257)
    assert spread.shape == (257, 5)
    np.testing.assert_array_equal(spread[0], coarse[0])
    for row in range(16):
        for column in range(16):
            cell = coarse[1 + row // 4 * 4 + column // 4]
            np.testing.assert_array_equal(spread[1 + row * 16 + column], cell)
    np.testing.assert_allclose(coarse_grid(spread), coarse, rtol=1e-5)
    assert spread_tokens(activations(577, 2)[:17], 1 + 5 * 5).shape == (26, 2)


def test_a_pooled_token_stands_everywhere_and_a_full_grid_stays() -> None:
    one = activations(1, 4)
    np.testing.assert_array_equal(spread_tokens(one, 257), np.tile(one, (257, 1)))
    full = activations(50, 4)
    assert spread_tokens(full, 50) is full
    with pytest.raises(ValueError, match="50 tokens cannot be spread over 257"):
        spread_tokens(full, 257)


@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
def test_a_pooled_format_keeps_no_tokens(dtype: Any) -> None:
    form = TokenFormat("pooled", dtype)
    assert pack_tokens(activations(), form) is None
    assert token_bytes(form, 257, 1408) == 0


@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
@pytest.mark.parametrize("layout", ["full", "grid17"])
def test_no_more_bytes_are_stored_than_foreseen(layout: Any, dtype: Any) -> None:
    form = TokenFormat(layout, dtype)
    noise = np.random.default_rng(1).integers(0x0400, 0x7BFF, (257, 8)).astype(np.uint16).view(np.float16)
    for tokens in (activations(dimension=8), noise.astype(np.float32), np.zeros((257, 8), np.float32)):
        packed, read = there_and_back(tokens, form)
        assert len(packed.tokens) + len(packed.scales or b"") <= token_bytes(form, 257, 8)
        assert read.shape == (17 if layout == "grid17" else 257, 8)
        assert read.dtype == np.float32


def test_sizes_of_the_real_model() -> None:
    assert token_bytes(TokenFormat("full", "fp16"), 257, 1408) == 723_712
    assert token_bytes(TokenFormat("full", "int8"), 257, 1408) == 257 * (1408 + 4)
    assert token_bytes(TokenFormat("grid17", "fp8"), 257, 1408) == 17 * (1408 + 4)


def test_planes_hold_what_raw_numbers_hold() -> None:
    tokens = activations()
    packed, read = there_and_back(tokens, TokenFormat("full", "fp16"))
    assert packed.packing == "zstd"
    assert len(packed.tokens) < 0.95 * 2 * tokens.size
    raw = replace(packed, packing="raw", tokens=tokens.astype("<f2").tobytes())
    np.testing.assert_array_equal(unpack_tokens(raw, tokens.shape[1]), read)
    # docs/data-model.md in a few plain lines, so that others can read it
    (count,) = struct.unpack_from("<I", packed.tokens)
    (first,) = struct.unpack_from("<I", packed.tokens, 4)
    low, high = packed.tokens[8 : 8 + first], packed.tokens[12 + first :]
    assert count == first == tokens.size  # mantissas are noise, and as long as they were
    assert bytes(b for pair in zip(low, zstandard.decompress(high), strict=True) for b in pair) == raw.tokens


@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
@pytest.mark.parametrize("layout", ["full", "grid17"])
def test_halves_are_laid_out_as_floats_are(layout: Any, dtype: Any) -> None:
    packed = pack_tokens(activations(26, 96), TokenFormat(layout, dtype))
    assert packed is not None
    out = np.full((26, 96), np.nan, np.float16)
    unpack_halves(packed, out)
    np.testing.assert_array_equal(out, spread_tokens(unpack_tokens(packed, 96), 26).astype(np.float16))


def deflated(halves: NDArray[np.float16]) -> bytes:
    """The packing that stores written before hold: the same planes, by zlib."""
    low, high = (halves.view(np.uint8).reshape(-1, 2)[:, place].tobytes() for place in (0, 1))
    short = zlib.compress(high)
    count = struct.pack("<I", halves.size)
    return count + count + low + struct.pack("<I", len(short)) + short


@pytest.mark.parametrize("packing", ["raw", "planes", "zstd"])
def test_halves_come_out_of_each_packing(packing: str) -> None:
    halves = activations(26, 96).astype("<f2")
    packed = pack_tokens(halves.astype(np.float32), TokenFormat())
    assert packed is not None
    if packing != "zstd":
        tokens = halves.tobytes() if packing == "raw" else deflated(halves)
        packed = replace(packed, packing=packing, tokens=tokens)
    np.testing.assert_array_equal(unpack_tokens(packed, 96), halves)
    out = np.full(halves.shape, np.nan, np.float16)
    unpack_halves(packed, out)
    np.testing.assert_array_equal(out, halves)


@pytest.mark.parametrize("packing", ["raw", "zstd"])
def test_halves_of_another_grid_are_refused(packing: str) -> None:
    tokens = activations(26, 96) if packing == "zstd" else np.full((26, 1), np.pi, np.float32)
    packed = pack_tokens(tokens, TokenFormat())
    assert packed is not None
    assert packed.packing == packing
    with pytest.raises(ValueError, match="tokens"):
        unpack_halves(packed, np.empty((37, tokens.shape[1]), np.float16))


def test_values_that_were_bf16_pack_better() -> None:
    tokens = activations()
    rounded = (tokens.view(np.uint32) & 0xFFFF0000).view(np.float32)
    form = TokenFormat("full", "fp16")
    assert len(there_and_back(rounded, form)[0].tokens) < 0.85 * len(there_and_back(tokens, form)[0].tokens)


@pytest.mark.parametrize("dtype", TOKEN_DTYPES)
@pytest.mark.parametrize("layout", ["full", "grid17", "pooled"])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.nan, "token 3 has NaN or infinity"),
        (-np.inf, "token 3 has NaN or infinity"),
        (65_505.0, "token 3 has a number beyond 65,504"),
    ],
)
def test_tokens_that_no_half_can_hold_are_refused(layout: Any, dtype: Any, value: float, told: str) -> None:
    tokens = activations(17, 4)
    tokens[3, 2] = value
    with pytest.raises(ValueError, match=told):
        pack_tokens(tokens, TokenFormat(layout, dtype))


def test_grids_that_are_none_are_refused() -> None:
    for count in (1, 10, 32, 256):
        for call in (
            lambda count=count: pack_tokens(activations(count, 4), TokenFormat("grid17")),
            lambda count=count: token_bytes(TokenFormat("grid17"), count, 4),
        ):
            with pytest.raises(ValueError, match=f"{count} tokens are not one and a square grid"):
                call()
    with pytest.raises(ValueError, match="expected"):
        pack_tokens(np.zeros(4, np.float32), TokenFormat())


@given(st.data())
def test_damaged_bytes_are_refused_or_read_as_tokens_of_that_width(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(TOKEN_DTYPES))
    packed, _ = there_and_back(activations(26, 16), TokenFormat("full", dtype))
    damaged = bytearray(packed.tokens)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    outcome = shape_or_refusal(replace(packed, tokens=cut), 16)
    assert "token" in outcome if isinstance(outcome, str) else outcome[1] == 16


def shape_or_refusal(packed: PackedTokens, dimension: int) -> tuple[int, ...] | str:
    try:
        return unpack_tokens(packed, dimension).shape
    except ValueError as error:
        return str(error)


def test_planes_that_do_not_end_where_they_should_are_refused() -> None:
    packed, _ = there_and_back(activations(), TokenFormat("full", "fp16"))
    (low,) = struct.unpack_from("<I", packed.tokens, 4)
    at = 8 + low
    (high,) = struct.unpack_from("<I", packed.tokens, at)
    without_checksum = packed.tokens[:at] + struct.pack("<I", high - 4) + packed.tokens[at + 4 : -4]
    more_behind = packed.tokens[:at] + struct.pack("<I", high + 1) + packed.tokens[at + 4 :] + b"x"
    for damaged in (packed.tokens + b"x", packed.tokens[:-1], without_checksum, more_behind):
        with pytest.raises(ValueError, match="damaged planes of tokens"):
            unpack_tokens(replace(packed, tokens=damaged), 96)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"packing": "zip"}, "unknown packing 'zip'"),
        ({"dtype": "fp4"}, "unknown type 'fp4'"),
        ({"scales": b"1234"}, "4 bytes of scales for 26 tokens"),
        ({"scales": None}, "0 bytes of scales for 26 tokens"),
        ({"layout": "grid17"}, "26 tokens in the layout grid17"),
        ({"tokens": b"", "packing": "zstd"}, "damaged planes"),
        ({"tokens": b"", "packing": "raw"}, "0 bytes are no tokens of 16"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(change: dict[str, Any], told: str) -> None:
    packed, _ = there_and_back(activations(26, 16), TokenFormat("full", "int8"))
    with pytest.raises(ValueError, match=told):
        unpack_tokens(replace(packed, **change), 16)
    with pytest.raises(ValueError, match="are no tokens of 15 int8 numbers"):
        unpack_tokens(packed, 15)
