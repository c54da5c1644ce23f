"""A folder of pictures as seen by an encoder: the vectors of all pixels, and a picture of their groups.

    OUT/
      path/of/NAME.jpg.npz   the vectors of DIR/path/of/NAME.jpg: see dense.py
      path/of/NAME.jpg.png   its groups in colours, of the picture's size: an indexed PNG, the largest group 0

Both keep the whole name of the picture, so that NAME.jpg and NAME.png have files of their own. The .npz is
written last, and says what both were made of.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.scan import Problem
from open3dsg.errors import UserError
from open3dsg.export.dense import fits_float16, read_made_of, write_dense
from open3dsg.export.files import whole_file
from open3dsg.export.hits import hit_colours
from open3dsg.geometry.clusters import cluster_directions, nearest_directions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from open3dsg.encoders.contract import DenseEncoder

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png")
FORMATS = ("BMP", "JPEG", "PNG")
VERSION = 1  # of what is written: raised by hand when it changes meaning
SAMPLE = 5_000  # cells that groups are made from; all cells are then put into them


@dataclass(frozen=True)
class ImageTree:
    """The pictures below `folder`, relative to it and sorted, and the folders that could not be read."""

    folder: Path
    pictures: Sequence[Path]
    problems: Mapping[str, Problem]


@dataclass
class ImagesReport:
    """What became of the pictures; `failures`: name -> why nothing was written of it."""

    done: int = 0
    skipped: int = 0
    bytes: int = 0
    failures: dict[str, Problem] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        pictures = {"done": self.done, "skipped": self.skipped, "failed": len(self.failures)}
        failures = {name: asdict(problem) for name, problem in sorted(self.failures.items())}
        return {
            "pictures": pictures,
            "bytes": self.bytes,
            "failures": failures,
            "seconds": round(self.seconds, 3),
        }


def find_pictures(folder: Path, out: Path) -> ImageTree:
    """List the pictures below `folder`, by suffix in any case; what lies below `out` is none of them.

    Links to folders are followed, to each folder once. Raises UserError where there is no picture, or where
    `out` is `folder` or holds it: what is written would be read as pictures the next time.
    """
    written = os.path.realpath(out)
    if os.path.realpath(folder).startswith(os.path.join(written, "")) or written == os.path.realpath(folder):
        raise UserError(f"{out}: holds the pictures themselves: choose a folder beside or below {folder}")
    problems: dict[str, Problem] = {}

    def refused(error: OSError) -> None:
        name = _name(os.path.relpath(error.filename, folder))
        problems[name] = Problem("folder_unreadable", f"cannot be read: {error.strerror}")

    pictures: list[Path] = []
    seen = {written}
    for at, folders, names in os.walk(folder, onerror=refused, followlinks=True):
        here = os.path.realpath(at)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        relative = Path(os.path.relpath(at, folder))
        pictures += [relative / name for name in names if name.lower().endswith(SUFFIXES)]
    if not pictures and not problems:
        raise UserError(f"{folder}: holds no picture ({', '.join(SUFFIXES)})")
    return ImageTree(folder, sorted(pictures), problems)


def write_images(
    tree: ImageTree,
    out: Path,
    encoder: DenseEncoder,
    *,
    clusters: int,
    force: bool,
    advance: Callable[[str], None],
) -> ImagesReport:
    """Write the vectors and groups of each picture below `out`, and call `advance` with each.

    A picture whose files are there, made of the same picture by the same encoder with the same options, is
    skipped unless `force`. One that cannot be used is a failure, and the others go on. One picture is in
    memory at a time, with the encoder's grid of it. Raises UserError where the encoder's weights are not in
    order, or a file cannot be written.
    """
    begun = time.monotonic()
    seer = f"{encoder.name}@{encoder.image_revision}"
    made_by = {"version": VERSION, "encoder": seer, "clusters": clusters}
    report = ImagesReport(failures=dict(tree.problems))
    for relative in tree.pictures:
        try:
            written = _write_one(tree.folder / relative, out / relative, encoder, made_by, force=force)
        except _UnusableError as error:
            report.failures[_name(relative)] = error.problem
        else:
            report.done += written > 0
            report.skipped += written == 0
            report.bytes += written
        advance(_name(relative))
    report.seconds = time.monotonic() - begun
    return report


class _UnusableError(Exception):
    """A picture cannot be used; its `problem` says why."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(kind, detail)


def _write_one(
    path: Path, beside: Path, encoder: DenseEncoder, made_by: Mapping[str, Any], *, force: bool
) -> int:
    """Return the bytes written of one picture, 0 where it is done already."""
    dense, groups = (beside.with_name(beside.name + suffix) for suffix in (".npz", ".png"))
    data = _read(path)
    made_of = {**made_by, "picture": hashlib.sha256(data).hexdigest()}
    if not force and groups.is_file() and read_made_of(dense) == made_of:
        return 0
    picture = _decode(data)
    try:
        grid = encoder.encode_image(picture)
    except ValueError as error:  # the contract's word for a picture that it cannot take
        raise _UnusableError("image_unusable", str(error)) from error
    if not fits_float16(grid):
        raise _UnusableError("features_unusable", f"{encoder.name} made numbers that float16 cannot hold")
    row_cells, column_cells = map(encoder.cells_of, picture.shape[:2], grid.shape[:2])
    _make_room(dense)
    _write_groups(groups, _groups(grid, made_by["clusters"])[np.ix_(row_cells, column_cells)])
    write_dense(dense, grid, row_cells, column_cells, made_of)
    return dense.stat().st_size + groups.stat().st_size


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():  # a pipe would be read for ever
            raise _UnusableError("image_unreadable", "is no file")
        return path.read_bytes()
    except OSError as error:
        raise _UnusableError("image_unreadable", f"cannot be read: {error.strerror}") from error


def _decode(data: bytes) -> NDArray[np.uint8]:
    """Return a picture as people see it, (height, width, 3) uint8: turned as its EXIF says."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"):  # many pixels, odd EXIF: what counts is an error
            picture: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            upright = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError as error:
        raise _UnusableError("image_unreadable", f"is no {', '.join(FORMATS)}") from error
    except Exception as error:  # damaged EXIF raises whatever its bytes lead to: TypeError, struct.error, ...
        raise _UnusableError("image_unreadable", f"is damaged: {error}") from error
    if upright.mode.startswith(("I", "F")):  # Pillow would make all of it white
        raise _UnusableError("image_unusable", "is grey of 16 bits: a depth picture, no photograph")
    return np.asarray(upright.convert("RGB"))


def _groups(grid: NDArray[np.float32], clusters: int) -> NDArray[np.uint8]:
    """Return, (rows, columns), the group by direction of each cell of `grid`; 0 is the largest."""
    rows, columns = grid.shape[:2]
    at = np.sort(np.random.default_rng(0).permutation(rows * columns)[:SAMPLE])
    centres = cluster_directions(grid[at // columns, at % columns], clusters)
    band = max(1, SAMPLE // columns)
    group = np.concatenate(
        [
            nearest_directions(grid[start : start + band].reshape(-1, grid.shape[2]), centres)
            for start in range(0, rows, band)
        ]
    )
    by_size = np.argsort(-np.bincount(group, minlength=len(centres)), kind="stable")
    sorted_groups: NDArray[np.uint8] = np.argsort(by_size).astype(np.uint8)[group].reshape(rows, columns)
    return sorted_groups


def _write_groups(path: Path, groups: NDArray[np.uint8]) -> None:
    """Write `groups` (height, width) as an indexed PNG, each group in a colour of its own."""
    from PIL import Image

    picture = Image.fromarray(groups, "P")
    colours = hit_colours(range(int(groups.max()) + 1))
    picture.putpalette([part for colour in colours.values() for part in colour])
    with whole_file(path) as file:
        picture.save(file, "PNG")


def _make_room(dense: Path) -> None:
    """Make the folder of the file `dense`, and take away one that is there.

    Were the work stopped between the two, it would vouch for groups that are not its own.
    """
    try:
        dense.parent.mkdir(parents=True, exist_ok=True)
        dense.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{dense}: cannot be written: {error.strerror}") from error


def _name(relative: Path | str) -> str:
    """Return a path as text that can be printed, whatever bytes are in it."""
    return os.fsencode(relative).decode("utf-8", "replace")
