"""Instances drawn over a photograph: their pixels as a tint, their box as a frame with a caption.

Photographs are drawn on as they are stored, not turned upright.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.geometry.crops import expand_box, scale_box
from open3dsg.geometry.grids import resized_grid, spread_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from open3dsg.geometry.pixels import PixelGrid

RGB = tuple[int, int, int]

_LINES = 200  # lines of a frame are as wide as this part of the picture's smaller side,
_LETTERS = 28  # and letters as high as this one, but can be read in small pictures
_SMALLEST_LETTERS = 11


def photo_box(
    box: NDArray[np.int32], depth: PixelGrid, image: PixelGrid, photo: NDArray[np.uint8]
) -> tuple[int, int, int, int] | None:
    """Return the edge box (left, top, right, bottom) on `photo` of a pixel box on the depth grid.

    `box`: (4,) int32, inclusive; `image` is the camera of the photograph, whose picture may have been scaled
    since. None where the box lies wholly beyond the edge of the photograph.
    """
    height, width = photo.shape[:2]
    edges = scale_box(box[None], depth, resized_grid(image, width, height))
    left, top, right, bottom = expand_box(edges, 1.0, (height, width))[0].tolist()
    return (left, top, right, bottom) if left < right and top < bottom else None


def tint_pixels(
    photo: NDArray[np.uint8], pixel_ids: NDArray[np.int32], depth: PixelGrid, image: PixelGrid, colour: RGB
) -> NDArray[np.uint8]:
    """Return a copy of `photo`, (height, width, 3), three quarters `colour` where it shows a set of pixels.

    `pixel_ids`: (P,) int32 on the depth grid. A pixel of the photograph belongs to the nearest of the depth
    grid; cameras as in `photo_box`.
    """
    height, width = photo.shape[:2]
    shown = spread_pixels(pixel_ids, depth, resized_grid(image, width, height))
    tinted = photo.copy()
    # Points of a cloud are thin on a photograph: a fainter tint is lost between them.
    tinted[shown] = (tinted[shown].astype(np.uint16) + 3 * np.array(colour, np.uint16)) // 4
    return tinted


def frame_box(
    photo: NDArray[np.uint8], box: tuple[int, int, int, int], caption: str, colour: RGB
) -> NDArray[np.uint8]:
    """Return a copy of `photo` with an edge box outlined on its inside, and a caption above it or in it."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(photo)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    side = min(picture.size)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=max(1, side // _LINES))
    font = ImageFont.load_default(max(_SMALLEST_LETTERS, side // _LETTERS))
    text = " ".join(caption.split())  # a line, whatever the label holds
    margin = max(1, side // _LINES)
    _, _, text_right, text_bottom = draw.textbbox((0, 0), text, font)
    text_width, text_height = int(text_right) + 2 * margin, int(text_bottom) + 2 * margin
    x = max(0, min(left, picture.width - text_width))
    y = top - text_height if top >= text_height else top
    draw.rectangle((x, y, x + text_width - 1, y + text_height - 1), fill=colour)
    draw.text((x + margin, y + margin), text, fill=_readable_on(colour), font=font)
    return np.asarray(picture)


def _readable_on(colour: RGB) -> RGB:
    """Return black or white, whichever stands out (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)
