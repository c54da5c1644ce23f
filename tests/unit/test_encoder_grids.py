"""Means over pixel sets on a coarser grid, against loops over single pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.encoders import grids as module
from open3dsg.encoders.grids import aligned_cells, even_cells, pixel_means

SIDE = st.integers(1, 40)


@given(st.integers(1, 300), st.integers(1, 300))
def test_even_cells_are_the_parts_that_pixels_lie_in(pixels: int, cells: int) -> None:
    expected = [int(np.floor(place / pixels * cells + 1e-9)) for place in range(pixels)]
    assert even_cells(pixels, cells).tolist() == expected


def test_aligned_cells_put_ends_on_ends_and_round_halves_up() -> None:
    assert aligned_cells(5, 3).tolist() == [0, 1, 1, 2, 2]
    assert aligned_cells(3, 5).tolist() == [0, 2, 4]
    assert aligned_cells(1, 9).tolist() == [0]
    assert aligned_cells(4, 1).tolist() == [0, 0, 0, 0]


@given(st.data())
def test_means_equal_a_loop_over_pixels(data: st.DataObject) -> None:
    height, width, rows, columns = (data.draw(SIDE) for _ in range(4))
    cells_of = data.draw(st.sampled_from([even_cells, aligned_cells]))
    grid = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(rows, columns, 3))
    pixel = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    sets = data.draw(st.lists(st.lists(pixel, min_size=1, max_size=30), max_size=4))
    row_cells, column_cells = cells_of(height, rows), cells_of(width, columns)
    found = pixel_means(
        grid.astype(np.float32), row_cells, column_cells, [np.array(each, np.int64) for each in sets]
    )
    assert found.shape == (len(sets), 3)
    assert found.dtype == np.float32
    for row, each in zip(found, sets, strict=True):
        vectors = [grid[row_cells[r], column_cells[c]] for r, c in each]
        np.testing.assert_allclose(row, sum(vectors) / len(vectors), atol=1e-5)


def test_a_grid_of_many_bands_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.random.default_rng(0).normal(size=(50, 7, 4)).astype(np.float32)
    everything = np.argwhere(np.ones((100, 14)))
    cells = even_cells(100, 50), even_cells(14, 7)
    monkeypatch.setattr(module, "BAND_CELLS", 3 * 7)
    found = pixel_means(grid, *cells, [everything, everything[:28]])
    np.testing.assert_allclose(found[0], grid.mean(axis=(0, 1), dtype=float), atol=1e-6)
    np.testing.assert_allclose(found[1], grid[0].mean(axis=0, dtype=float), atol=1e-6)


def test_what_is_not_finite_stays_where_it_is() -> None:
    grid = np.ones((2, 2, 3), np.float32)
    grid[1, 1] = np.nan
    cells = even_cells(2, 2), even_cells(2, 2)
    found = pixel_means(grid, *cells, [np.array([[0, 0]]), np.array([[0, 1], [1, 1]])])
    assert np.isfinite(found).all(axis=1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (np.zeros((0, 2), np.int64), r"set 1 is \(0, 2\), expected"),
        (np.zeros((2, 3), np.int64), r"set 1 is \(2, 3\), expected"),
        (np.array([[0, 20]]), "set 1 leaves the picture of 10 x 20 pixels"),
        (np.array([[10, 0]]), "set 1 leaves the picture"),
        (np.array([[-1, 0]]), "set 1 leaves the picture"),
    ],
)
def test_pixel_sets_that_are_none_are_refused(pixels: NDArray[np.int64], told: str) -> None:
    grid = np.zeros((5, 5, 3), np.float32)
    with pytest.raises(ValueError, match=told):
        pixel_means(grid, even_cells(10, 5), even_cells(20, 5), [np.array([[9, 19]]), pixels])
