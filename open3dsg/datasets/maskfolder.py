"""A folder of instance masks: one PNG a frame, whose pixels are ids; 0 is no mask.

    DIR/frame-000042.color.png    the stem of the frame's photograph, or
    DIR/frame-000042.png          that up to its first dot, or
    DIR/42.png                    the number of the frame, the last digits before the first dot

A mask has the size of the photograph or of the depth picture, and lies as that does in its file: it is scaled
to the depth picture, nearest pixel, and never turned. Ids name things within their own picture only.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from open3dsg.datasets.files import read_bytes, readable
from open3dsg.datasets.images import DAMAGED_PICTURE
from open3dsg.datasets.scan import Problem
from open3dsg.errors import BadFileError
from open3dsg.geometry.grids import resampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from open3dsg.datasets.scan import Frame

_SUFFIX = ".png"
_NUMBER = re.compile(r"(\d+)\D*$")
_MODES = ("L", "P", "I;16", "I;16B")  # P: the ids are the places in the palette


@dataclass(frozen=True)
class MatchedMasks:
    """The mask of each frame that has one, by the frame's number, and what matched nothing."""

    of_frame: Mapping[int, Path]
    problems: Sequence[Problem]


@readable()
def mask_files(folder: Path) -> list[Path]:
    """Return the PNG files of `folder`, ascending. Raises BadFileError where it has none or is none."""
    if not folder.is_dir():
        raise BadFileError(f"{folder}: no folder of masks")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == _SUFFIX)
    if not files:
        inside = sorted(path.name for path in folder.iterdir())
        holds = (
            f"it holds {', '.join(inside[:3])}{', ...' if inside[3:] else ''}" if inside else "it is empty"
        )
        raise BadFileError(
            f"{folder}: no masks here, which are PNG files, one a frame ({holds});"
            " of several scans, each has a folder of its name"
        )
    return files


def content_hash(files: Iterable[Path]) -> str:
    """Return a hash of the names and bytes of files: 16 hex digits. Raises BadFileError where one is away."""
    whole = hashlib.sha256()
    for path in files:
        data = read_bytes(path)
        whole.update(f"{path.name}\0{len(data)}\0".encode())
        whole.update(data)
    return whole.hexdigest()[:16]


def match_masks(files: Sequence[Path], frames: Sequence[Frame]) -> MatchedMasks:
    """Find the frame that each file shows, by name: see the module.

    Raises BadFileError where two files are of one frame.
    """
    by_stem = _by_unique_stem(frames)
    numbers = {frame.number for frame in frames}
    of_frame: dict[int, Path] = {}
    problems = []
    for path in files:
        number = _frame_of(path.stem, by_stem, numbers)
        if number is None:
            problems.append(Problem("mask_without_frame", f"{path}: the scan has no such frame"))
        elif number in of_frame:
            raise BadFileError(
                f"{path}: frame {number} has a mask already, {of_frame[number].name}: leave one of the two"
            )
        else:
            of_frame[number] = path
    return MatchedMasks(of_frame, problems)


def read_mask(path: Path, frame: Frame) -> NDArray[np.uint16] | Problem:
    """Return the mask of `frame`, which has depth, on its depth grid, (height, width) uint16, 0 is none.

    Where the file is damaged or of another size, return why. Raises BadFileError for a picture whose pixels
    are not ids of 16 bits: all others of the folder will be like it.
    """
    if frame.depth is None:
        raise ValueError(f"frame {frame.number} has no depth picture")
    try:
        mask = _read_ids(path)
    except (UnidentifiedImageError, *DAMAGED_PICTURE) as error:
        return Problem("mask_unreadable", f"{path}: no picture, or damaged: {error}")
    size = (mask.shape[1], mask.shape[0])
    # Where both have this size the mask was made from the photograph.
    for grid in (frame.image, frame.depth):
        if size == (grid.width, grid.height):
            return resampled(mask, grid, frame.depth)
    expected = " nor ".join(f"{grid.width}x{grid.height}" for grid in (frame.image, frame.depth))
    return Problem(
        "mask_of_another_size",
        f"{path}: is {size[0]}x{size[1]}, neither {expected} of photo and depth picture",
    )


def _read_ids(path: Path) -> NDArray[np.uint16]:
    data = read_bytes(path)
    with Image.open(io.BytesIO(data)) as picture:
        if picture.format != "PNG" or picture.mode not in _MODES:
            raise BadFileError(
                f"{path}: a mask is a grey PNG of 8 or 16 bits whose pixels are ids up to 65535, this is"
                f" {picture.format} of mode {picture.mode}: number the ids or colours of each picture from 1"
                " and save them so (docs/masks.md)"
            )
        return np.asarray(picture).astype(np.uint16)


def _by_unique_stem(frames: Sequence[Frame]) -> dict[str, int]:
    """Return the stem of a photograph, and what of it is before the first dot, -> frame, where one has it."""
    found: dict[str, set[int]] = {}
    for frame in frames:
        name = PurePosixPath(re.split(r"[/!]", frame.image_uri)[-1].partition("@")[0])
        stem = name.stem if name.suffix else name.name
        for key in {stem, name.name, stem.partition(".")[0]}:
            found.setdefault(key, set()).add(frame.number)
    return {stem: numbers.pop() for stem, numbers in found.items() if len(numbers) == 1}


def _frame_of(stem: str, by_stem: Mapping[str, int], numbers: set[int]) -> int | None:
    first = stem.partition(".")[0]
    for name in (stem, first):
        if name in by_stem:
            return by_stem[name]
    digits = _NUMBER.search(first)
    number = int(digits[1]) if digits else None
    return number if number in numbers else None
