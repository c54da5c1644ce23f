"""Arrays of numbers on their way into COPY BINARY: the bytes that psycopg would send."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from open3dsg.db.copying import _array_encoder

INTEGERS = {"int2": 16, "int4": 32, "int8": 64}
NUMBERS = {
    **{name: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in INTEGERS.items()},
    "float4": st.floats(width=32),
    "float8": st.floats(),
}


def psycopg_bytes(element: str, numbers: Sequence[Any]) -> bytes:
    transformer = Transformer()
    transformer.set_dumper_types([psycopg.adapters.types[element].array_oid], Format.BINARY)
    (encoded,) = transformer.dump_sequence([numbers], [PyFormat.BINARY])
    assert encoded is not None
    return bytes(encoded)


@pytest.mark.parametrize("element", NUMBERS)
@settings(max_examples=40)
@given(data=st.data())
def test_arrays_are_encoded_as_by_psycopg(element: str, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(NUMBERS[element], max_size=70))
    assert _array_encoder(element)(numbers) == psycopg_bytes(element, numbers)


@pytest.mark.parametrize("element", INTEGERS)
@settings(max_examples=40)
@given(data=st.data())
def test_an_integer_beyond_its_width_is_refused(element: str, data: st.DataObject) -> None:
    smallest = 2 ** (INTEGERS[element] - 1)
    beyond = data.draw(st.one_of(st.integers(min_value=smallest), st.integers(max_value=-smallest - 1)))
    numbers = data.draw(
        st.lists(NUMBERS[element], max_size=5).flatmap(lambda some: st.permutations([*some, beyond]))
    )
    with pytest.raises(struct.error):
        _array_encoder(element)(numbers)
