"""Photographs that show an instance, or two that relate: frames with boxes, and crops, set upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.images import ImageReader
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.crops import expand_box, upright_quarter_turns
from open3dsg.query.sightings import best_sightings
from open3dsg.query.viewing import frames_of_both
from open3dsg.store.frames import read_frames
from open3dsg.view.overlays import photo_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.datasets.scan import Frame
    from open3dsg.store.scans import StoredScan
    from open3dsg.view.overlays import RGB

FRAMES = 3  # that are shown of anything
_FRAME_PX = 420  # the longer side of a frame in the page
_CROP_PX = 120  # the height of a crop
_CONTEXT = 1.3  # crops are larger than the thing by this
_COLOURS: Sequence[RGB] = ((238, 102, 119), (68, 119, 170))  # the first two of hit_colours


@dataclass(frozen=True)
class Mark:
    """An instance in a frame: its pixel box (4,) int32 on the depth grid, inclusive, and its name."""

    box: NDArray[np.int32]
    caption: str


@dataclass(frozen=True)
class Look:
    """A frame, and what of it to look at."""

    frame: Frame
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Pictures:
    """Pictures (h, w, 3) uint8 RGB with their captions; `missing` says why there are not more."""

    frames: Sequence[tuple[str, NDArray[np.uint8]]]
    crops: NDArray[np.uint8] | None  # side by side
    missing: Sequence[str]


def looks_at_node(connection: Connection[Any], scan: StoredScan, instance: int) -> list[Look]:
    """Return the frames that show an instance best; UserError where none does, or nobody looked yet."""
    best = best_sightings(connection, scan, top_k=FRAMES, instances=[instance])
    frames = {frame.number: frame for frame in read_frames(connection, scan.scan_id)}
    caption = f"{instance} {best.labels[instance]}"
    ordered = sorted(best.sightings, key=lambda sighting: sighting.place)
    return [Look(frames[one.photo.frame_no], [Mark(one.box, caption)]) for one in ordered]


def looks_at_pair(
    connection: Connection[Any], scan: StoredScan, subject: tuple[int, str], object_: tuple[int, str]
) -> list[Look]:
    """Return the frames that show two instances best, each given by number and name; none: no frame does."""
    shared = frames_of_both(connection, scan, subject[0], object_[0], FRAMES)
    frames = {frame.number: frame for frame in read_frames(connection, scan.scan_id)} if shared else {}
    captions = [f"{number} {label}" for number, label in (subject, object_)]
    return [
        Look(frames[one.frame_no], [Mark(one.box_a, captions[0]), Mark(one.box_b, captions[1])])
        for one in shared
    ]


def draw_looks(scan: StoredScan, looks: Sequence[Look]) -> Pictures:
    """Read and mark the photographs; those that cannot be read are told, and the others shown."""
    try:
        scan.check_root()
    except UserError as error:
        return Pictures((), None, [str(error)])
    frames, crops, missing = [], [], []
    with ImageReader(scan.root) as images:
        for look in looks:
            try:
                photo = images.read_image(look.frame.image_uri)
            except BadFileError as error:
                missing.append(str(error))
                continue
            turns = upright_quarter_turns(look.frame.T_world_camera)
            frames.append((f"frame {look.frame.number}", _shrunk(np.rot90(_marked(photo, look), turns))))
            crops += [_crop_height(np.rot90(crop, turns)) for crop in _crops(photo, look)]
    return Pictures(frames, np.hstack(crops) if crops else None, missing)


def _boxes(photo: NDArray[np.uint8], look: Look) -> list[tuple[int, int, int, int] | None]:
    image, depth = look.frame.image, look.frame.depth or look.frame.image
    return [photo_box(mark.box, depth, image, photo) for mark in look.marks]


def _marked(photo: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """Draw the boxes. Captions stay out of it: they would lie on their side once the photograph stands."""
    for box, colour in zip(_boxes(photo, look), _COLOURS, strict=False):
        if box is not None:
            photo = outline(photo, box, colour)
    return photo


def outline(photo: NDArray[np.uint8], box: tuple[int, int, int, int], colour: RGB) -> NDArray[np.uint8]:
    """Return a copy of `photo` with the border of an edge box painted, inwards."""
    left, top, right, bottom = box
    wide = max(2, min(photo.shape[:2]) // 150)
    border = np.zeros(photo.shape[:2], np.bool_)
    border[top:bottom, left:right] = True
    border[top + wide : bottom - wide, left + wide : right - wide] = False
    return np.where(border[..., None], np.array(colour, np.uint8), photo)


def _crops(photo: NDArray[np.uint8], look: Look) -> list[NDArray[np.uint8]]:
    found = [box for box in _boxes(photo, look) if box is not None]
    if not found:
        return []
    edges = np.array(found, np.float64)
    whole = np.concatenate([edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)])
    left, top, right, bottom = expand_box(whole[None], _CONTEXT, photo.shape[:2])[0].tolist()
    return [photo[top:bottom, left:right]]


def _shrunk(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = min(1.0, _FRAME_PX / max(photo.shape[:2]))
    return _sized(photo, round(photo.shape[1] * scale), round(photo.shape[0] * scale))


def _crop_height(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _sized(crop, round(crop.shape[1] * _CROP_PX / crop.shape[0]), _CROP_PX)


def _sized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    from PIL import Image

    resized = Image.fromarray(np.ascontiguousarray(picture)).resize((max(1, width), max(1, height)))
    return np.asarray(resized)
