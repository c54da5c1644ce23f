"""Bulk rows in by COPY BINARY: floats and vectors never travel as text.

psycopg cuts an integer to the width of its column, and makes a float beyond float4 infinite, without a word;
so numbers are tried with `struct`, which refuses exactly those that do not fit. Arrays of numbers are encoded
here as well: psycopg does so element by element in Python, which takes longer than all else of a row.
"""

from __future__ import annotations

import re
import struct
from array import array
from functools import cache, lru_cache
from numbers import Integral, Real
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from psycopg import Connection

_LETTERS = {"int2": "h", "int4": "i", "int8": "q", "float4": "f", "float8": "d"}
_ARRAYS = {f"{name}[]": name for name in _LETTERS}
_ARRAY_HEADER = struct.Struct(">iiIii")  # dimensions, has nulls, type of the elements, length, first index
_EMPTY_ARRAY = struct.Struct(">iiI")


def copy_in(
    connection: Connection[Any],
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[object]],
) -> int:
    """Write `rows` into `table`; `columns` maps column name to PostgreSQL type, in the rows' order.

    Returns the number of rows. Nothing is committed here: the caller's transaction decides. A pgvector type
    needs its adapters registered on the connection, as `open3dsg.db.connect.connect` does. An array of
    numbers is any flat sequence of numbers. Raises UserError with table, row (from 1) and column for a number
    beyond its column's type, and for a value that the server refuses, such as NaN in a vector or, made
    infinite by its width, more than 65,504 in a halfvec.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    encode = _RowEncoder(table, columns)
    count = 0
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(encode.types)
            for count, row in enumerate(rows, 1):
                copy.write_row(encode(row, count))
    except psycopg.errors.DataException as error:
        raise UserError(_refusal(table, error)) from error
    return count


class _RowEncoder:
    """Makes of a row what psycopg is to write: numbers tried, arrays of numbers encoded."""

    def __init__(self, table: str, columns: Mapping[str, str]) -> None:
        self._table = table
        self._columns = columns
        # To psycopg an encoded array is bytes, which go as they are: a binary COPY carries no types.
        self.types = ["bytea" if name in _ARRAYS else name for name in columns.values()]
        names = list(enumerate(columns.values()))
        plain = [place for place, name in names if name in _LETTERS]
        self._arrays = [(place, _array_encoder(_ARRAYS[name])) for place, name in names if name in _ARRAYS]
        self._pick = _picker(plain)
        self._try = struct.Struct(">" + "".join(_LETTERS[self.types[place]] for place in plain)).pack

    def __call__(self, row: Sequence[Any], number: int) -> Sequence[object]:
        try:
            self._try(*self._pick(row))
            return self._with_arrays(row)
        except (struct.error, OverflowError):
            # A null is no number either: look at each value by itself.
            for (column, name), value in zip(self._columns.items(), row, strict=True):
                _check_numbers(f"{self._table}, row {number}, column {column}", name, value)
            return self._with_arrays(row)

    def _with_arrays(self, row: Sequence[Any]) -> Sequence[object]:
        if not self._arrays:
            return row
        values = list(row)
        for place, encode in self._arrays:
            if values[place] is not None:
                values[place] = encode(values[place])
        return values


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that picks the values at `places` out of a row; fast where there are several."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: [row[place] for place in places]


@cache
def _array_encoder(element: str) -> Callable[[Sequence[Any]], bytes]:
    """Return a function that encodes a flat sequence of numbers as PostgreSQL's array_recv reads it.

    After the header each element is its width as int4, then its bytes. The widths come with a template; the
    elements are laid between them at once, as words of 2 or 4 bytes that are never looked at as numbers.
    """
    letter, oid = _LETTERS[element], psycopg.adapters.types[element].oid
    width = struct.calcsize(f">{letter}")
    word, word_bytes = ("h", 2) if width == 2 else ("i", 4)
    first, step = (_ARRAY_HEADER.size + 4) // word_bytes, (4 + width) // word_bytes

    @lru_cache(256)
    def template(length: int) -> tuple[array[int], Callable[..., bytes]]:
        header = _ARRAY_HEADER.pack(1, 0, oid, length, 1) if length else _EMPTY_ARRAY.pack(0, 0, oid)
        elements = (struct.pack(">i", width) + bytes(width)) * length
        return array(word, header + elements), struct.Struct(f">{length}{letter}").pack

    def encode(numbers: Sequence[Any]) -> bytes:
        empty, pack = template(len(numbers))
        words = array(word, pack(*numbers))
        encoded = empty[:]
        if width == 8:
            encoded[first::step] = words[::2]
            encoded[first + 1 :: step] = words[1::2]
        else:
            encoded[first::step] = words
        return encoded.tobytes()

    return encode


def _check_numbers(where: str, type_name: str, value: Any) -> None:
    """Raise UserError, which begins with `where`, for the first number that its type cannot hold."""
    element = _ARRAYS.get(type_name, type_name)
    if element not in _LETTERS or value is None:
        return
    number = Real if element.startswith("float") else Integral
    for item in value if type_name in _ARRAYS else [value]:
        if isinstance(item, number):
            try:
                struct.pack(f">{_LETTERS[element]}", item)
            except (struct.error, OverflowError):
                raise UserError(f"{where}: {item} is beyond {element}") from None


def _refusal(table: str, error: psycopg.Error) -> str:
    """Say which value the server refused; it counts rows of a binary COPY as lines."""
    reason = error.diag.message_primary or str(error)
    place = re.search(r"(\d+)\D+?(\w+)$", (error.diag.context or "").partition(table)[2])
    return f"{table}, row {place[1]}, column {place[2]}: {reason}" if place else f"{table}: {reason}"
