"""The frames of a scan: their numbers against each other, and a few of their pictures.

Opening every picture of a dataset takes minutes. Looked at are the frame in the middle and those with the
smallest photograph and the smallest depth picture, which are the likeliest to be cut off.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from open3dsg.datasets.check.files import damage_of_bytes, told_by_reader
from open3dsg.datasets.check.look import ScanLook
from open3dsg.datasets.images import DAMAGED_PICTURE, ImageReader
from open3dsg.datasets.scan import Frame
from open3dsg.errors import BadFileError
from open3dsg.geometry.pixels import PixelGrid

_LESS = "`observe` and `features dump` have fewer views"
# What Pillow raises for a header that is none, or that declares more pixels than can be.
UNREADABLE = (*DAMAGED_PICTURE, Image.DecompressionBombWarning)
_PARTS = {"color": "frame_without_image", "depth": "frame_without_depth", "pose": "frame_without_pose"}
_NEAREST_M, _FARTHEST_M = 0.1, 20.0  # between which the median depth of a room lies
_OBSERVE_EVERY = 10  # the default of `open3dsg observe --every` for 3RScan
_CENTRE_SHARE = 0.2  # how far the optical axis may be from the middle, of the width or height
_FOCAL_SHARE = (0.25, 5.0)  # of the width


class FrameFile(NamedTuple):
    """One file of a frame."""

    uri: str
    size: int


FrameTable = Mapping[int, Mapping[str, FrameFile]]  # number -> color, depth, pose -> file


def check_table(look: ScanLook, where: str, table: FrameTable, declared: int | None) -> None:
    """Check the numbers of frames: every file with its fellows, no holes, as many as `declared`."""
    for part, kind in _PARTS.items():
        lacking = sorted(number for number, files in table.items() if part not in files)
        if lacking:
            look.tell(kind, where, f"{_some(lacking, 'frame')} of {len(table)}")
        empty = [files[part] for _, files in sorted(table.items()) if part in files and not files[part].size]
        if empty:
            look.tell("empty", empty[0].uri, f"0 bytes, as {len(empty)} {part} files of the scan", cost=_LESS)
    holes = _holes(sorted(table))
    if holes:
        what = f"{_some(holes, 'number')} lacking between frames {min(table)} and {max(table)}"
        look.tell("frame_numbers_with_holes", where, what)
    images = sum("color" in files for files in table.values())
    if declared is not None and declared != images:
        look.tell("frame_count_differs", where, f"{declared} frames are declared, {images} photographs there")
    if not any(len(files) == len(_PARTS) for files in table.values()):
        look.tell("no_usable_frame", where, "no frame has photograph, depth and pose")


def tell_no_files(look: ScanLook, where: str, names: Sequence[str]) -> None:
    """Tell of folders, and of links that lead nowhere, which are named as files of frames."""
    if names:
        what = f"a folder, or a link that leads nowhere, as {len(names)} files of frames are"
        cost, remedy = "a step refuses the scan, or leaves these frames out", "put the files in their places"
        look.tell("not_a_file", f"{where}/{names[0]}", what, cost=cost, remedy=remedy)


def choose(table: FrameTable) -> list[int]:
    """Return the numbers of the frames to look at."""
    whole = sorted(number for number, files in table.items() if _is_whole(files))
    if not whole:
        return []
    chosen = {whole[len(whole) // 2]}
    for part in ("color", "depth"):
        chosen.add(min(whole, key=lambda number: table[number][part].size))
    return sorted(chosen)


def observed(table: FrameTable) -> int:
    """Return how many frames of 3RScan `observe` looks at unless told otherwise."""
    return sum(number % _OBSERVE_EVERY == 0 for number in table)


def check_pictures(look: ScanLook, reader: ImageReader, frames: Sequence[Frame]) -> None:
    """Check the pictures of `frames`: their kind, their end, their size, and the unit of depth."""
    told: set[str] = set()
    for frame in frames:
        told |= _check_photograph(look, reader, frame, told)
        told |= _check_depth(look, reader, frame, told)


def check_camera(look: ScanLook, where: str, picture: str, camera: PixelGrid) -> None:
    """Check that intrinsics can be those of a picture of this size."""
    off_x, off_y = camera.cx / camera.width - 0.5, camera.cy / camera.height - 0.5
    low, high = _FOCAL_SHARE
    if max(abs(off_x), abs(off_y)) > _CENTRE_SHARE or not low < camera.fx / camera.width < high:
        what = (
            f"intrinsics of another size: focal length {camera.fx:g}, centre {camera.cx:g}, {camera.cy:g} of"
            f" a {picture} picture of {camera.width} x {camera.height}"
        )
        look.tell("intrinsics_unlikely", where, what)


def _check_photograph(look: ScanLook, reader: ImageReader, frame: Frame, told: set[str]) -> set[str]:
    """Check a photograph without decoding it; return the kinds of findings, which are told once a scan."""
    try:
        data = reader.read_bytes(frame.image_uri)
    except BadFileError as error:
        look.tell_damage(
            frame.image_uri, told_by_reader(error, look.root / frame.image_uri, frame.image_uri), cost=_LESS
        )
        return set()
    kind = "png" if data.startswith(b"\x89PNG") else "jpg"
    if damage := damage_of_bytes(data[:4096], data[-1024:], kind):
        if damage.kind != "empty":  # told with the numbers of frames
            look.tell_damage(frame.image_uri, damage, cost=_LESS)
        return set()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            size = picture.size
    except UNREADABLE as error:
        look.tell("damaged", frame.image_uri, f"no picture: {error}", cost=_LESS)
        return set()
    return _check_size(look, frame.image_uri, size, frame.image, told)


def _check_depth(look: ScanLook, reader: ImageReader, frame: Frame, told: set[str]) -> set[str]:
    if frame.depth_uri is None or frame.depth is None:
        return set()
    try:
        depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
    except BadFileError as error:
        damage = told_by_reader(error, look.root / frame.depth_uri, frame.depth_uri)
        look.tell_damage(frame.depth_uri, damage, cost=_LESS)
        return set()
    height, width = depth_m.shape
    kinds = _check_size(look, frame.depth_uri, (width, height), frame.depth, told)
    measured = depth_m[depth_m > 0]
    median_m = float(np.median(measured)) if measured.size else 1.0
    if not _NEAREST_M <= median_m <= _FARTHEST_M and "depth_unit_unlikely" not in told:
        what = (
            f"half of its measurements are beyond {median_m:.4g} m, if its unit is {frame.depth_unit_m:g} m"
        )
        look.tell("depth_unit_unlikely", frame.depth_uri, what)
        kinds.add("depth_unit_unlikely")
    return kinds


def _check_size(
    look: ScanLook, uri: str, found: tuple[int, int], camera: PixelGrid, told: set[str]
) -> set[str]:
    key = f"picture_size_differs {camera.width}x{camera.height}"
    if found == (camera.width, camera.height) or key in told:
        return set()
    what = f"{found[0]} x {found[1]} pixels, its camera is of {camera.width} x {camera.height}"
    look.tell("picture_size_differs", uri, what)
    return {key}


def _is_whole(files: Mapping[str, FrameFile]) -> bool:
    return all(part in files and files[part].size for part in _PARTS)


def usual_step(numbers: Sequence[int]) -> int:
    """Return what most of two or more ascending numbers are apart; the least of several such."""
    steps: Counter[int] = Counter(np.diff(numbers).tolist())
    return min(steps, key=lambda step: (-steps[step], step))


def _holes(numbers: Sequence[int]) -> list[int]:
    """Return the numbers that a list which goes up by the same step leaves out."""
    if len(numbers) < 3:
        return []
    step = usual_step(numbers)
    return sorted(set(range(numbers[0], numbers[-1] + 1, step)) - set(numbers))


def _some(numbers: Sequence[int], noun: str) -> str:
    return f"{len(numbers)} {noun}{'s' * (len(numbers) > 1)}, such as {numbers[0]},"
