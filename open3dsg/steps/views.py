"""One photograph, the instances seen in it, and what an encoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.geometry.crops import expand_box, scale_box, turn_box, turn_pixels
from open3dsg.geometry.pixels import unpack_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from open3dsg.encoders.contract import CropEncoder, Encoder, PixelEncoder
    from open3dsg.geometry.pixels import PixelGrid


@dataclass(frozen=True)
class View:
    """An instance in a frame: its inclusive pixel box and packed pixels, both on the depth grid."""

    instance: int
    frame_no: int
    box: NDArray[np.int32]  # (4,) x_min, y_min, x_max, y_max
    pixels: bytes


@dataclass(frozen=True)
class Camera:
    """The photograph of a frame, its two pixel grids, and the quarter turns that set it upright."""

    image_uri: str
    image: PixelGrid
    depth: PixelGrid
    quarter_turns: int


@dataclass(frozen=True)
class Look:
    """What was seen in one frame: n looks, several of one instance where there are several crops."""

    frame_no: int
    instances: Sequence[int]  # n
    embeddings: NDArray[np.float32]  # (n, dimension)
    boxes: NDArray[np.int32]  # (n, 4) left, top, right, bottom on the photograph as it is stored
    outside: int  # looks that fell beyond the edge of the photograph


def look(
    encoder: Encoder,
    photo: NDArray[np.uint8],
    camera: Camera,
    views: Sequence[View],
    scales: Sequence[float],
) -> Look:
    """Show the views of one frame to the encoder. `photo`: (height, width, 3) uint8, as it is stored."""
    grid = np.stack([view.box for view in views])
    # The size in the file decides: a photograph scaled since its camera was written keeps its geometry.
    height, width = photo.shape[:2]
    ratio = np.array([width / camera.image.width, height / camera.image.height] * 2)
    boxes = scale_box(grid, camera.depth, camera.image) * ratio
    if encoder.views == "crops":
        return _look_at_crops(encoder, photo, camera, views, boxes, scales)
    return _look_at_pixels(encoder, photo, camera, views, boxes)


def _look_at_crops(
    encoder: CropEncoder,
    photo: NDArray[np.uint8],
    camera: Camera,
    views: Sequence[View],
    boxes: NDArray[np.float64],
    scales: Sequence[float],
) -> Look:
    shape = photo.shape[0], photo.shape[1]
    cuts = np.concatenate([expand_box(boxes, scale, shape) for scale in scales])
    instances = np.tile([view.instance for view in views], len(scales))
    inside = (cuts[:, 2] > cuts[:, 0]) & (cuts[:, 3] > cuts[:, 1])
    upright = np.rot90(photo, camera.quarter_turns)
    turned = turn_box(cuts[inside], shape, camera.quarter_turns)
    crops = [
        np.ascontiguousarray(upright[top:bottom, left:right]) for left, top, right, bottom in turned.tolist()
    ]
    return Look(
        views[0].frame_no,
        instances[inside].tolist(),
        encoder.encode_crops(crops),
        cuts[inside],
        int((~inside).sum()),
    )


def _look_at_pixels(
    encoder: PixelEncoder,
    photo: NDArray[np.uint8],
    camera: Camera,
    views: Sequence[View],
    boxes: NDArray[np.float64],
) -> Look:
    shape = photo.shape[0], photo.shape[1]
    cuts = expand_box(boxes, 1.0, shape)
    sets = [_photo_pixels(view, camera, shape) for view in views]
    inside = [at for at, pixels in enumerate(sets) if len(pixels)]
    upright = np.ascontiguousarray(np.rot90(photo, camera.quarter_turns))
    return Look(
        views[0].frame_no,
        [views[at].instance for at in inside],
        encoder.encode_pixels(upright, [sets[at] for at in inside]),
        cuts[inside],
        len(views) - len(inside),
    )


def _photo_pixels(view: View, camera: Camera, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return (m, 2) row, column on the upright photograph of the pixels that fall on it."""
    rows, columns = np.divmod(unpack_pixels(view.pixels).astype(np.int64), camera.depth.width)
    ratio_x, ratio_y = shape[1] / camera.image.width, shape[0] / camera.image.height
    depth, image = camera.depth, camera.image
    x = np.rint(((columns - depth.cx) / depth.fx * image.fx + image.cx) * ratio_x).astype(np.int64)
    y = np.rint(((rows - depth.cy) / depth.fy * image.fy + image.cy) * ratio_y).astype(np.int64)
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    turned = turn_pixels(y[inside], x[inside], shape, camera.quarter_turns)
    return np.stack(turned, axis=1)
