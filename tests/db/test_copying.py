"""Bulk rows: what comes back is what went in, or one line says which value cannot be held."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector, Vector

from open3dsg.db.copying import copy_in
from open3dsg.errors import UserError

COLUMNS = {
    "a": "int2",
    "b": "int4",
    "c": "int8",
    "d": "float4",
    "e": "float8",
    "aa": "int2[]",
    "bb": "int4[]",
    "cc": "int8[]",
    "dd": "float4[]",
    "ee": "float8[]",
    "text": "text",
    "bytes": "bytea",
}
PLAIN: tuple[object, ...] = (1, 2, 3, 0.5, 0.1, [1], [2, 3], [], [0.5], [0.1], "ä", b"\0")


@pytest.fixture
def table(database: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    database.execute(f"CREATE TABLE numbers_2 ({columns})".encode())
    database.execute("CREATE TABLE vectors (n int4, half halfvec, whole vector)")
    return database


def with_one(column: str, value: object) -> tuple[object, ...]:
    return tuple(value if name == column else old for name, old in zip(COLUMNS, PLAIN, strict=True))


def read(connection: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT * FROM numbers_2", binary=True).fetchall()


def refusal(connection: psycopg.Connection[Any], rows: list[tuple[object, ...]]) -> str:
    with pytest.raises(UserError) as caught:
        copy_in(connection, "numbers_2", COLUMNS, rows)
    assert read(connection) == []
    return str(caught.value)


def test_rows_come_back_as_they_went_in(table: psycopg.Connection[Any]) -> None:
    least = (-(2**15), -(2**31), -(2**63), -math.inf, -1.5e300)
    rows = [
        PLAIN,
        (*least, *([number] * 3 for number in least), "", b""),
        (2**15 - 1, 2**31 - 1, 2**63 - 1, 3.4028234663852886e38, math.inf, *[[]] * 5, "x", b"y" * 3_000_000),
        (None,) * len(COLUMNS),
    ]
    assert copy_in(table, "numbers_2", COLUMNS, rows) == len(rows)
    assert read(table) == rows


def test_numbers_of_numpy_are_numbers(table: psycopg.Connection[Any]) -> None:
    row = with_one("b", np.int64(-7))
    copy_in(table, "numbers_2", COLUMNS, [(*row[:6], np.arange(3), (4, 5), *row[8:])])
    assert read(table) == [(*with_one("b", -7)[:6], [0, 1, 2], [4, 5], *row[8:])]


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("a", 2**15, "32768 is beyond int2"),
        ("a", -(2**15) - 1, "-32769 is beyond int2"),
        ("b", 2**31, "2147483648 is beyond int4"),
        ("b", np.int64(2**33), "8589934592 is beyond int4"),
        ("c", 2**63, "9223372036854775808 is beyond int8"),
        ("d", 1e39, "1e+39 is beyond float4"),
        ("aa", [1, -40000], "-40000 is beyond int2"),
        ("bb", [1, 2**31], "2147483648 is beyond int4"),
        ("bb", np.array([1, 2**40]), "1099511627776 is beyond int4"),
        ("cc", [2**64], "18446744073709551616 is beyond int8"),
        ("dd", [0.0, -1e300], "-1e+300 is beyond float4"),
    ],
)
def test_a_number_that_does_not_fit_is_named(
    table: psycopg.Connection[Any], column: str, value: object, told: str
) -> None:
    # A null makes a row be looked at value by value: the row before the wrong one, and the wrong one itself.
    nulls = (None,) * len(COLUMNS)
    assert (
        refusal(table, [PLAIN, nulls, with_one(column, value)])
        == f"numbers_2, row 3, column {column}: {told}"
    )
    sparse = tuple(value if name == column else None for name in COLUMNS)
    assert refusal(table, [sparse]) == f"numbers_2, row 1, column {column}: {told}"


@pytest.mark.parametrize(("column", "value"), [("b", "7"), ("b", 1.0), ("bb", [1, None]), ("bb", [[1], [2]])])
def test_what_is_no_number_is_a_bug_and_not_written(
    table: psycopg.Connection[Any], column: str, value: object
) -> None:
    with pytest.raises((TypeError, psycopg.Error, struct.error)):
        copy_in(table, "numbers_2", COLUMNS, [with_one(column, value)])
    assert read(table) == []


@pytest.mark.parametrize(
    ("half", "whole", "told"),
    [
        (HalfVector([1.0, math.nan]), Vector([1.0]), "column half: NaN not allowed in halfvec"),
        (HalfVector([math.inf]), Vector([1.0]), "column half: infinite value not allowed in halfvec"),
        (HalfVector([1.0]), Vector([math.nan, 1.0]), "column whole: NaN not allowed in vector"),
        (HalfVector([1.0]), Vector([-math.inf]), "column whole: infinite value not allowed in vector"),
    ],
)
def test_a_vector_that_cannot_be_held_is_named(
    table: psycopg.Connection[Any], half: HalfVector, whole: Vector, told: str
) -> None:
    good = (1, HalfVector([65504.0]), Vector([1e38]))
    with pytest.raises(UserError, match=f"^vectors, row 2, {told}$"):
        copy_in(
            table, "vectors", {"n": "int4", "half": "halfvec", "whole": "vector"}, [good, (2, half, whole)]
        )
    assert table.execute("SELECT count(*) FROM vectors").fetchone() == (0,)


def test_a_number_beyond_a_half_becomes_infinite_and_is_refused(table: psycopg.Connection[Any]) -> None:
    with np.errstate(over="ignore"):
        row = (HalfVector(np.array([1.0, 65_520.0], np.float32)),)
    with pytest.raises(UserError, match=r"^vectors, row 1, column half: infinite value"):
        copy_in(table, "vectors", {"half": "halfvec"}, [row])
    assert copy_in(table, "vectors", {"half": "halfvec"}, [(HalfVector(np.array([65_504.0])),)]) == 1


def test_no_rows_are_no_trouble(table: psycopg.Connection[Any]) -> None:
    assert copy_in(table, "numbers_2", COLUMNS, iter(())) == 0
