"""The geometry that changes are measured by, in SQL, against numpy and scipy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.db.visits import at, inverse, lengths, rigid, turn


@pytest.fixture(scope="module")
def plain(new_database: Any, template: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection for functions that read no table."""
    with psycopg.connect(new_database("rigid", template=template), autocommit=True) as connection:
        yield connection


@settings(deadline=None, max_examples=40)
@given(rigid, rigid, st.tuples(lengths, lengths, lengths), st.sampled_from([0, 1, 2, 3]))
def test_rigid_transforms_in_sql(
    plain: psycopg.Connection[Any],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    point: tuple[float, float, float],
    symmetry: int,
) -> None:
    row = plain.execute(
        "SELECT rigid_product_v1(%(a)s, %(b)s), rigid_inverse_v1(%(a)s), rigid_point_v1(%(a)s, %(p)s),"
        " is_rigid_v1(%(a)s), turn_degrees_v1(%(a)s, %(symmetry)s)",
        {"a": a.ravel().tolist(), "b": b.ravel().tolist(), "p": list(point), "symmetry": symmetry},
    ).fetchone()
    assert row is not None
    np.testing.assert_allclose(np.reshape(row[0], (4, 4)), a @ b, atol=1e-9)
    np.testing.assert_allclose(np.reshape(row[1], (4, 4)), inverse(a), atol=1e-9)
    np.testing.assert_allclose(row[2], at(a, point), atol=1e-9)
    assert row[3]
    before = np.arange(0, 360, {0: 360, 1: 180, 2: 90, 3: 0.5}[symmetry])
    turns = Rotation.from_matrix(a[:3, :3]) * Rotation.from_euler("z", before[:, None], degrees=True)
    # A turn in steps of half a degree is never nearer than the nearest, and at most a quarter of one off.
    assert row[4] == pytest.approx(np.degrees(turns.magnitude()).min(), abs=0.3 if symmetry == 3 else 1e-4)


sizes = st.tuples(*[st.floats(0, 3).map(lambda metres: round(metres, 6))] * 3)


@settings(deadline=None, max_examples=40)
@given(rigid, rigid, sizes)
def test_bounds_of_a_box_that_is_brought_elsewhere(
    plain: psycopg.Connection[Any],
    T_world_box: NDArray[np.float64],
    t: NDArray[np.float64],
    lengths_m: tuple[float, float, float],
) -> None:
    corners = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * lengths_m
    world = np.array([at(t, at(T_world_box, corner)) for corner in corners])
    row = plain.execute(
        "SELECT box_bounds_v1(%s, %s, %s, %s)",
        (
            t.ravel().tolist(),
            T_world_box[:3, 3].tolist(),
            T_world_box[:3, :3].T.ravel().tolist(),
            list(lengths_m),
        ),
    ).fetchone()
    assert row is not None
    np.testing.assert_allclose(row[0], [*world.min(axis=0), *world.max(axis=0)], atol=1e-9)


ends = st.tuples(st.integers(-5, 5), st.integers(0, 5)).map(lambda low: (low[0], low[0] + low[1]))


@settings(deadline=None, max_examples=40)
@given(st.tuples(ends, ends, ends), st.tuples(ends, ends, ends))
def test_the_least_shift_after_which_one_box_holds_the_other(
    plain: psycopg.Connection[Any], a: tuple[tuple[int, int], ...], b: tuple[tuple[int, int], ...]
) -> None:
    def shift(first: tuple[int, int], second: tuple[int, int]) -> int:
        tried = [
            abs(by)
            for by in range(-20, 21)
            if (first[0] + by <= second[0] and first[1] + by >= second[1])
            or (first[0] + by >= second[0] and first[1] + by <= second[1])
        ]
        return min(tried)

    expected = math.hypot(*map(shift, a, b))
    given_ = [[float(end[0]) for end in box] + [float(end[1]) for end in box] for box in (a, b)]
    assert plain.execute("SELECT bounds_shift_v1(%s, %s)", given_).fetchone() == (pytest.approx(expected),)


@pytest.mark.parametrize(
    "numbers",
    [
        np.ones(16),
        np.diag([2, 2, 2, 1]),
        np.diag([1, 1, -1, 1]),  # mirrors
        turn(0.3, 3, 0, 0).T,  # column by column
        np.full(16, np.nan),
        np.full(16, 1e300),
        np.ones(12),
    ],
)
def test_what_is_no_rigid_transform(plain: psycopg.Connection[Any], numbers: NDArray[Any]) -> None:
    given = numbers.astype(float).ravel().tolist()
    row = plain.execute("SELECT is_rigid_v1(%s::double precision[])", (given,)).fetchone()
    assert row == (False,)
