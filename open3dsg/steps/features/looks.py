"""From a photograph to what an encoder is shown of it: cut-out pictures, or the pixels of each item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from open3dsg.geometry.crops import expand_box, scale_box, turn_box, turn_pixels
from open3dsg.geometry.pixels import unpack_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from open3dsg.geometry.pixels import PixelGrid


@dataclass(frozen=True)
class Camera:
    """The photograph of a frame, its two pixel grids, and the quarter turns that set it upright."""

    image_uri: str
    image: PixelGrid
    depth: PixelGrid
    quarter_turns: int


@dataclass(frozen=True)
class FrameViews:
    """The items that are looked at in one frame."""

    frame_no: int
    camera: Camera
    items: NDArray[np.int64]  # (n,)
    box: NDArray[np.int32]  # (n, 4) inclusive, on the depth grid
    pixels: Sequence[bytes] = ()  # packed, on the depth grid; of encoders that see pixels


class Seen(NamedTuple):
    """A photograph was read: the looks at it, which follow as `Crop` or `Pixels`."""

    frame_no: int
    items: Sequence[int]  # a look
    boxes: NDArray[np.int32]  # (looks, 4) left, top, right, bottom on the photograph as it is stored
    outside: Sequence[int]  # the items of looks that fell beyond the edge of the photograph

    @property
    def nbytes(self) -> int:
        """Bytes that it holds of pictures."""
        return 0


class Crop(NamedTuple):
    """A picture to encode, of one or several items."""

    frame_no: int
    picture: NDArray[np.uint8]
    items: Sequence[int]

    @property
    def nbytes(self) -> int:
        """Bytes that it holds of pictures."""
        return self.picture.nbytes


class Pixels(NamedTuple):
    """A whole photograph to encode, and the pixels of each item."""

    frame_no: int
    picture: NDArray[np.uint8]
    sets: Sequence[NDArray[np.int64]]  # (m, 2) row, column each
    items: Sequence[int]

    @property
    def nbytes(self) -> int:
        """Bytes that it holds of pictures."""
        return self.picture.nbytes + sum(pixels.nbytes for pixels in self.sets)


class Unread(NamedTuple):
    """A photograph that cannot be used, and whose looks it takes away."""

    frame_no: int
    items: Sequence[int]  # a look
    reason: str

    @property
    def nbytes(self) -> int:
        """Bytes that it holds of pictures."""
        return 0


Event: TypeAlias = Seen | Crop | Pixels | Unread


class Cuts(NamedTuple):
    """Where the crops of a frame lie; the looks are those of all items at one scale after the other."""

    items: NDArray[np.int64]  # (looks,)
    box: NDArray[np.int32]  # (looks, 4) on the photograph as it is stored
    crop: NDArray[np.int64]  # (looks,) which crop it is: looks with the same box share it
    first: NDArray[np.int64]  # (crops,) the first look of each
    outside: NDArray[np.int64]  # the items of looks beyond the edge of the photograph


def cut(views: FrameViews, shape: tuple[int, int], scales: Sequence[float]) -> Cuts:
    """Lay the crops of a frame on its photograph of `shape` (height, width)."""
    boxes = _on_photo(views, shape)
    cuts = np.concatenate([expand_box(boxes, scale, shape) for scale in scales])
    items = np.tile(views.items, len(scales))
    inside = _has_area(cuts)
    kept = cuts[inside]
    _, first, crop = np.unique(kept, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # crops by their first look
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Cuts(items[inside], kept, place[crop.reshape(-1)], first[order], items[~inside])


def look_at_crops(
    views: FrameViews, photo: NDArray[np.uint8], scales: Sequence[float]
) -> Iterator[Seen | Crop]:
    """Cut out of a photograph, (height, width, 3) as it is stored, what its items are seen in, upright."""
    shape = photo.shape[0], photo.shape[1]
    cuts = cut(views, shape, scales)
    yield Seen(views.frame_no, cuts.items.tolist(), cuts.box, cuts.outside.tolist())
    upright = np.rot90(photo, views.camera.quarter_turns)
    turned = turn_box(cuts.box[cuts.first], shape, views.camera.quarter_turns)
    looks = np.split(cuts.items[np.argsort(cuts.crop, kind="stable")], np.cumsum(np.bincount(cuts.crop))[:-1])
    for (left, top, right, bottom), items in zip(turned.tolist(), looks, strict=False):
        picture = np.ascontiguousarray(upright[top:bottom, left:right])
        yield Crop(views.frame_no, picture, items.tolist())


def look_at_pixels(views: FrameViews, photo: NDArray[np.uint8]) -> Iterator[Seen | Pixels]:
    """Find the pixels of each item on the upright photograph; none are shown of items beyond its edge."""
    shape = photo.shape[0], photo.shape[1]
    boxes = expand_box(_on_photo(views, shape), 1.0, shape)
    sets = [_photo_pixels(packed, views.camera, shape) for packed in views.pixels]
    inside = np.array([len(pixels) > 0 for pixels in sets])
    shown = views.items[inside].tolist()
    yield Seen(views.frame_no, shown, boxes[inside], views.items[~inside].tolist())
    if shown:
        upright = np.ascontiguousarray(np.rot90(photo, views.camera.quarter_turns))
        yield Pixels(views.frame_no, upright, [pixels for pixels in sets if len(pixels)], shown)


def _on_photo(views: FrameViews, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the items' edge boxes on a photograph of `shape`, (n, 4), not clipped to it.

    The size in the file decides: a photograph scaled since its camera was written keeps its geometry.
    """
    camera = views.camera
    ratio = np.array([shape[1] / camera.image.width, shape[0] / camera.image.height] * 2)
    boxes: NDArray[np.float64] = scale_box(views.box, camera.depth, camera.image) * ratio
    return boxes


def _has_area(box: NDArray[np.int32]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
    return found


def _photo_pixels(packed: bytes, camera: Camera, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return (m, 2) row, column on the upright photograph of the pixels that fall on it."""
    rows, columns = np.divmod(unpack_pixels(packed).astype(np.int64), camera.depth.width)
    ratio_x, ratio_y = shape[1] / camera.image.width, shape[0] / camera.image.height
    depth, image = camera.depth, camera.image
    x = np.rint(((columns - depth.cx) / depth.fx * image.fx + image.cx) * ratio_x).astype(np.int64)
    y = np.rint(((rows - depth.cy) / depth.fy * image.fy + image.cy) * ratio_y).astype(np.int64)
    inside = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
    turned = turn_pixels(y[inside], x[inside], shape, camera.quarter_turns)
    return np.stack(turned, axis=1)
