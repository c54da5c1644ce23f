"""What is drawn over a photograph: exactly the pixels meant, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.geometry.pixels import PixelGrid
from open3dsg.view.overlays import frame_box, photo_box, tint_pixels

DEPTH = PixelGrid(4, 3, 8.0, 8.0, 1.5, 1.0)
IMAGE = PixelGrid(400, 300, 800.0, 800.0, 199.5, 149.5)  # the same view in a hundred times the pixels
COLOUR = (200, 0, 100)


def photo(width: int = 400, height: int = 300) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(256, size=(height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("width", "height"), [(400, 300), (200, 150), (400, 150)])
def test_a_tint_lies_on_the_squares_of_its_pixels(width: int, height: int) -> None:
    """Of the size that the camera was written for, or scaled since."""
    before = photo(width, height)
    kept = before.copy()
    after = tint_pixels(before, np.array([1, 6], np.int32), DEPTH, IMAGE, COLOUR)
    np.testing.assert_array_equal(before, kept)
    across, down = width // 4, height // 3
    tinted = np.zeros((height, width), np.bool_)
    tinted[:down, across : 2 * across] = True
    tinted[down : 2 * down, 2 * across : 3 * across] = True
    mixed = np.floor(0.25 * before + 0.75 * np.array(COLOUR))
    np.testing.assert_array_equal(after, np.where(tinted[:, :, None], mixed, before))


def test_the_box_of_pixels_reaches_from_edge_to_edge() -> None:
    box = np.array([1, 0, 2, 1], np.int32)
    assert photo_box(box, DEPTH, IMAGE, photo()) == (100, 0, 300, 200)
    assert photo_box(box, DEPTH, IMAGE, photo(200, 150)) == (50, 0, 150, 100)


def test_a_box_beyond_the_edge_is_none_and_one_over_it_is_cut() -> None:
    narrow = PixelGrid(100, 300, 800.0, 800.0, 49.5, 149.5)  # the photograph shows less than the depth
    picture = photo(100, 300)
    assert photo_box(np.array([0, 0, 0, 2], np.int32), DEPTH, narrow, picture) is None
    assert photo_box(np.array([0, 0, 1, 2], np.int32), DEPTH, narrow, picture) == (0, 0, 50, 300)


@pytest.mark.parametrize("colour", [(255, 255, 0), (0, 0, 120)])
def test_a_frame_lies_on_the_inside_of_its_box_below_its_caption(colour: tuple[int, int, int]) -> None:
    before = photo()
    after = frame_box(before, (100, 60, 300, 200), "42 table\n51%", colour)
    changed = (after != before).any(axis=2)
    inside = changed[60:200, 100:300]
    assert (after[60, 100:300] == colour).all()
    assert (after[199, 100:300] == colour).all()
    assert (after[60:200, 100] == colour).all()
    assert (after[60:200, 299] == colour).all()
    assert not inside[1:-1, 1:-1].any()
    assert not changed[200:].any()
    assert not changed[:, :100].any()
    assert not changed[:, 300:].any()
    ground = (after[:60] == colour).all(axis=2)
    rows, columns = np.nonzero(ground)
    caption = after[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(int)
    letters = (0, 0, 0) if sum(colour) > 300 else (255, 255, 255)
    assert (np.abs(caption - letters).max(axis=2) < 100).sum() > 30, "letters stand out from the ground"


@pytest.mark.parametrize("box", [(0, 0, 400, 300), (390, 290, 400, 300), (399, 0, 400, 1), (0, 299, 1, 300)])
def test_a_caption_stays_within_the_picture(box: tuple[int, int, int, int]) -> None:
    black = np.zeros((300, 400, 3), np.uint8)
    after, elsewhere = (
        frame_box(black, where, "7 picture 100%", COLOUR) for where in (box, (50, 90, 60, 99))
    )
    assert after.shape == black.shape
    assert elsewhere[:, :, 1].sum() > 5_000, "only letters have any green"
    assert after[:, :, 1].sum() == elsewhere[:, :, 1].sum(), "no letter is cut off"


def test_a_picture_smaller_than_a_letter_is_drawn_on() -> None:
    assert frame_box(photo(3, 2), (0, 0, 3, 2), "picture", COLOUR).shape == (2, 3, 3)
