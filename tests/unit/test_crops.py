"""Boxes from grid to grid by hand-worked numbers, and quarter turns against numpy.rot90 itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.geometry.crops import (
    crop_scales,
    expand_box,
    scale_box,
    turn_box,
    turn_pixels,
    upright_quarter_turns,
)
from open3dsg.geometry.pixels import PixelGrid

DEPTH = PixelGrid(width=224, height=172, fx=177.0, fy=241.0, cx=114.0, cy=84.0)
PHOTO = PixelGrid(width=960, height=540, fx=759.0, fy=758.0, cx=490.0, cy=264.0)


def pose(right: list[float], down: list[float]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = right, down, np.cross(right, down)
    return matrix


def test_scales_are_the_published_ones_in_their_order() -> None:
    assert crop_scales(3) == (1.0, 1.5, 1.2)
    assert len(crop_scales(8)) == len(set(crop_scales(8))) == 8
    for count in (0, 9):
        with pytest.raises(UserError, match=f"--scales is {count}: give 1 to 8"):
            crop_scales(count)


def test_a_box_on_its_own_grid_covers_its_pixels() -> None:
    box = np.array([[0, 0, 223, 171], [3, 5, 3, 9]], np.int32)
    edges = scale_box(box, DEPTH, DEPTH)
    np.testing.assert_allclose(edges, [[0, 0, 224, 172], [3, 5, 4, 10]], atol=1e-9)
    assert expand_box(edges, 1.0, (172, 224)).tolist() == [[0, 0, 224, 172], [3, 5, 4, 10]]


def test_a_box_goes_through_both_intrinsics() -> None:
    """Column 114 is the centre of the depth grid: its left edge is half a depth pixel left of 490."""
    box = np.array([[114, 84, 290, 324]], np.int32)
    left, top = 490 - 0.5 * 759 / 177 + 0.5, 264 - 0.5 * 758 / 241 + 0.5
    edges = scale_box(box, DEPTH, PHOTO)
    np.testing.assert_allclose(edges, [[left, top, left + 759, top + 758]])


def test_boxes_grow_about_their_centres_and_stop_at_the_picture() -> None:
    box = np.array([[10, 20, 30, 40], [0, 0, 100, 100], [90, 90, 100, 100]], np.float64)
    assert expand_box(box, 1.5, (100, 100)).tolist() == [
        [5, 15, 35, 45],
        [0, 0, 100, 100],
        [87, 87, 100, 100],
    ]


def test_a_box_outside_the_picture_comes_back_empty() -> None:
    box = np.array([[-30, 5, -10, 10], [5, 120, 10, 140]], np.float64)
    left, top, right, bottom = expand_box(box, 1.0, (100, 100)).T
    assert ((left == right) | (top == bottom)).all()


def test_a_crop_touches_at_least_one_pixel() -> None:
    assert expand_box(np.array([[4.2, 4.2, 4.4, 4.4]]), 1.0, (10, 10)).tolist() == [[4, 4, 5, 5]]


@pytest.mark.parametrize(
    ("right", "down", "turns"),
    [
        ([1, 0, 0], [0, 0, -1], 0),  # up is up
        ([0, 0, 1], [1, 0, 0], 1),  # up is at the right: numpy.rot90 brings the right side to the top
        ([1, 0, 0], [0, 0, 1], 2),  # upside down
        ([0, 0, -1], [-1, 0, 0], 3),  # up is at the left, as in most of 3RScan
        ([1, 0, 0], [0, 1, 0], 0),  # straight up or down: nothing left to decide
    ],
)
def test_quarter_turns_of_a_camera(right: list[float], down: list[float], turns: int) -> None:
    assert upright_quarter_turns(pose(right, down)) == turns


@given(st.floats(-180, 180), st.floats(-89, 89))
def test_a_turned_picture_has_its_world_up_within_45_degrees_of_up(roll: float, pitch: float) -> None:
    """Follow the foot and the head of an upright pole through projection and turn."""
    roll, pitch = np.radians([roll, pitch])
    ahead = np.array([np.cos(pitch), 0, np.sin(pitch)])
    level = np.array([0.0, -1.0, 0.0])
    below = np.cross(ahead, level)
    right = np.cos(roll) * level + np.sin(roll) * below
    down = np.cos(roll) * below - np.sin(roll) * level
    direction = 1e6 * np.array([right[2], down[2]])  # of world +z: column, row
    columns, rows = np.rint(np.array([[0, 0], direction])).astype(np.int64).T
    k = upright_quarter_turns(pose(right.tolist(), down.tolist()))
    turned_rows, turned_columns = turn_pixels(rows, columns, (100, 100), k)
    rise, aside = turned_rows[0] - turned_rows[1], abs(turned_columns[0] - turned_columns[1])
    assert rise > 0
    assert rise >= aside - 1  # whole numbers


@pytest.mark.parametrize("k", range(-1, 5))
def test_pixels_and_boxes_turn_as_the_picture_does(k: int) -> None:
    picture = np.arange(5 * 7).reshape(5, 7)
    turned = np.rot90(picture, k)
    rows, columns = np.divmod(np.arange(35), 7)
    new_rows, new_columns = turn_pixels(rows, columns, (5, 7), k)
    assert (turned[new_rows, new_columns] == picture[rows, columns]).all()
    box = np.array([[1, 2, 6, 4], [0, 0, 7, 5], [3, 1, 4, 2]], np.int32)
    for before, after in zip(box, turn_box(box, (5, 7), k), strict=True):
        cut = picture[before[1] : before[3], before[0] : before[2]]
        assert (turned[after[1] : after[3], after[0] : after[2]] == np.rot90(cut, k)).all()


def test_bad_boxes_are_named() -> None:
    with pytest.raises(ValueError, match="box: expected"):
        scale_box(np.zeros((4,), np.int32), DEPTH, PHOTO)
    with pytest.raises(ValueError, match="box: expected"):
        turn_box(np.zeros((2, 3), np.int32), (5, 7), 1)
