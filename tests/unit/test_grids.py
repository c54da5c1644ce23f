"""Pixels carried over to the picture of another camera, against the same pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.geometry.crops import scale_box
from open3dsg.geometry.grids import resized_grid, spread_pixels
from open3dsg.geometry.pixels import PixelGrid

grids = st.builds(
    PixelGrid,
    st.integers(1, 24),
    st.integers(1, 24),
    st.floats(3, 60),
    st.floats(3, 60),
    st.floats(-3, 27),
    st.floats(-3, 27),
)


def shows(x: int, y: int, ids: set[int], depth: PixelGrid, image: PixelGrid) -> bool | None:
    """Follow the ray through a pixel to the depth grid; None where it falls between two of its pixels."""
    column = depth.fx * (x - image.cx) / image.fx + depth.cx
    row = depth.fy * (y - image.cy) / image.fy + depth.cy
    if any(abs(place % 1 - 0.5) < 1e-9 for place in (column, row)):
        return None
    if not (-0.5 < column < depth.width - 0.5 and -0.5 < row < depth.height - 0.5):
        return False
    return int(row + 0.5) * depth.width + int(column + 0.5) in ids


@given(grids, grids, st.data())
def test_each_pixel_asks_the_one_behind_it(depth: PixelGrid, image: PixelGrid, data: st.DataObject) -> None:
    ids = data.draw(st.sets(st.integers(0, depth.width * depth.height - 1), max_size=60))
    spread = spread_pixels(np.array(sorted(ids), np.int32), depth, image)
    assert spread.shape == (image.height, image.width)
    for y in range(image.height):
        for x in range(image.width):
            expected = shows(x, y, ids, depth, image)
            assert expected is None or spread[y, x] == expected, (x, y)


def test_a_picture_of_twice_the_size_shows_each_pixel_as_four() -> None:
    depth = PixelGrid(4, 3, 5.0, 6.0, 1.5, 1.0)
    photo = resized_grid(depth, 8, 6)
    spread = spread_pixels(np.array([0, 6], np.int32), depth, photo)
    expected = np.zeros((6, 8), np.bool_)
    expected[0:2, 0:2] = expected[2:4, 4:6] = True
    np.testing.assert_array_equal(spread, expected)


@given(grids, grids, st.integers(1, 40), st.integers(1, 40))
def test_pixels_stay_within_their_box_however_the_photo_was_scaled(
    depth: PixelGrid, image: PixelGrid, width: int, height: int
) -> None:
    photo = resized_grid(image, width, height)
    box = np.array([[0, 0, depth.width - 1, depth.height - 1]], np.int32)
    left, top, right, bottom = scale_box(box, depth, photo)[0]
    stretched = scale_box(box, depth, image)[0] * np.array([width / image.width, height / image.height] * 2)
    np.testing.assert_allclose([left, top, right, bottom], stretched, rtol=1e-9, atol=1e-6)
    rows, columns = np.nonzero(
        spread_pixels(np.arange(depth.width * depth.height, dtype=np.int32), depth, photo)
    )
    assert ((columns + 0.5 >= left - 1e-6) & (columns + 0.5 <= right + 1e-6)).all()
    assert ((rows + 0.5 >= top - 1e-6) & (rows + 0.5 <= bottom + 1e-6)).all()


@pytest.mark.parametrize("ids", [[-1], [12]])
def test_ids_beyond_the_grid_are_refused(ids: list[int]) -> None:
    grid = PixelGrid(4, 3, 5.0, 6.0, 1.5, 1.0)
    with pytest.raises(ValueError, match="must lie on"):
        spread_pixels(np.array(ids, np.int32), grid, grid)
    assert not spread_pixels(np.zeros(0, np.int32), grid, grid).any()
