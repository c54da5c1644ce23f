"""The poses of a recording's pictures, out of one file or a file a frame.

    pose/12.txt                  16 numbers, row by row; of the picture of the same number or name
    frame-000012.pose.txt        so, beside the pictures
    poses.txt, 16 numbers a line the matrix, row by row     a line a picture
               12 numbers        its first three rows, as KITTI writes them
               8 numbers         time x y z qx qy qz qw, as TUM's trajectories; by the nearest time

'#' begins a comment; numbers are parted by spaces or commas. Lines of matrices are those of the pictures in
order where there are as many; where there are more, line n (from 0) is that of the picture numbered n, unless
`rows` says otherwise: `order`, `number`, or a whole number N, where picture k in order has line N k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.files import read_bytes
from open3dsg.datasets.poses import Flaw, check_pose, parse_pose
from open3dsg.datasets.rgbd_files import FLAT_POSE, NEAREST_S, Listing, Picture, nearest, number_of
from open3dsg.datasets.textfile import read_text
from open3dsg.errors import BadFileError, UserError

Pose = NDArray[np.float64]
Poses = Mapping[int, Pose | Flaw]  # picture number -> its pose, or why it has none; absent: not in the files

_TRAJECTORY, _KITTI, _MATRIX = 8, 12, 16
_UNIT_TOLERANCE = 0.01  # of a quaternion's length: files carry four digits and more


def check_rows(rows: str | None) -> None:
    """Raise UserError where `--pose-rows` is nothing that can be."""
    if rows not in (None, "order", "number") and not (rows.isdigit() and int(rows) >= 1):
        raise UserError(f"--pose-rows is {rows!r}: give order, number, or N for each N-th row")


def read_poses(place: Path, listing: Listing, rows: str | None) -> Poses:
    """Return the poses of the pictures, as the files have them.

    Raises BadFileError for a file that is damaged, UserError where rows and pictures cannot be matched.
    """
    if place.is_dir():
        return _of_folder(place, listing)
    table = read_table(place)
    if table.shape[1] == _TRAJECTORY:
        return _of_trajectory(place, table, listing.pictures)
    matrices = np.zeros((len(table), 4, 4))
    matrices[:, 3, 3] = 1
    matrices.reshape(-1, 16)[:, : table.shape[1]] = table
    return _of_rows(place, matrices, listing, rows)


def other_rows(place: Path, listing: Listing) -> list[str]:
    """Return the values of `rows` that a file of matrices allows, beside the one it has by itself."""
    if place.is_dir():
        return []
    table = read_table(place)
    pictures, count = listing.pictures, len(table)
    if table.shape[1] == _TRAJECTORY or len(pictures) < 2:
        return []
    each = (count - 1) // (len(pictures) - 1)
    possible = {
        "order": each >= 1,
        "number": listing.numbered and pictures[-1].number < count,
        str(each): each >= 2,
    }
    return [
        rows for rows, is_possible in possible.items() if is_possible and rows != _usual_rows(count, listing)
    ]


def _usual_rows(count: int, listing: Listing) -> str:
    return "order" if count == len(listing.pictures) else "number"


def read_table(path: Path) -> NDArray[np.float64]:
    """Return the numbers of a file of poses, (R, 8), (R, 12) or (R, 16); BadFileError for anything else."""
    rows: list[list[float]] = []
    for place, line in enumerate(read_text(path).split("\n"), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            raise BadFileError(f"{path}: line {place} is not numbers: {line[:80]!r}") from None
        if len(words) not in (_TRAJECTORY, _KITTI, _MATRIX) or len(words) != len(rows[0]):
            raise BadFileError(
                f"{path}: line {place} has {len(words)} numbers; a pose is a line of 16 or 12 (a matrix) or"
                " of 8 (time, position, quaternion), the same in the whole file"
            )
    if not rows:
        raise BadFileError(f"{path}: holds no pose")
    return np.array(rows)


def _of_folder(folder: Path, listing: Listing) -> Poses:
    files = [path for path in sorted(folder.iterdir()) if path.suffix == ".txt" and path.name[0] != "."]
    if folder == listing.pictures[0].colour.parent:
        files = [path for path in files if path.stem.endswith(FLAT_POSE)]
    by_stem = {path.stem: path for path in files}
    by_number: dict[int | None, Path] = {}
    for file in files:
        number = number_of(file.stem)
        if listing.numbered and number is not None and by_number.setdefault(number, file) != file:
            raise UserError(f"{file}: is of picture {number}, and so is {by_number[number].name}: keep one")
    poses: dict[int, Pose | Flaw] = {}
    for picture in listing.pictures:
        path = by_number.get(picture.number) if listing.numbered else by_stem.get(picture.colour.stem)
        if path is not None:
            poses[picture.number] = parse_pose(read_bytes(path))
    return poses


def _of_rows(place: Path, matrices: Pose, listing: Listing, rows: str | None) -> Poses:
    pictures, count = listing.pictures, len(matrices)
    rows = rows or _usual_rows(count, listing)
    if rows == "number" and not listing.numbered:
        raise UserError(
            f"{place}: has {count} rows for {len(pictures)} pictures, whose names have no numbers:"
            " say with --pose-rows which row is whose"
        )
    if rows == "number":
        at = [picture.number for picture in pictures]
    else:
        at = [order * (1 if rows == "order" else int(rows)) for order in range(len(pictures))]
    if max(at) >= count:
        last = pictures[at.index(max(at))].colour.name
        raise UserError(
            f"{place}: has {count} rows for {len(pictures)} pictures, and {last} would have row {max(at)},"
            " counted from 0: say with --pose-rows which row is whose"
        )
    found = zip(pictures, at, strict=True)
    return {picture.number: check_pose(matrices[row]) for picture, row in found}


def _of_trajectory(place: Path, table: NDArray[np.float64], pictures: Sequence[Picture]) -> Poses:
    timed = [(picture.number, picture.time_s) for picture in pictures if picture.time_s is not None]
    if not timed:
        raise UserError(
            f"{place}: has poses by time, and the pictures have none: name them by their seconds,"
            " or list them in rgb.txt and depth.txt (TIME FILE a line)"
        )
    rows = nearest([time for _number, time in timed], table[:, 0].tolist())
    if not any(row is not None for row in rows):
        raise UserError(
            f"{place}: has poses from {table[0, 0]:.15g} to {table[-1, 0]:.15g} s, and pictures are from"
            f" {timed[0][1]:.15g} to {timed[-1][1]:.15g} s: no two within {NEAREST_S * 1000:g} ms; list the"
            " pictures by the clock of the poses in rgb.txt and depth.txt (TIME FILE a line)"
        )
    found = zip(timed, rows, strict=True)
    return {number: _of_quaternion(table[row]) for (number, _time), row in found if row is not None}


def _of_quaternion(row: NDArray[np.float64]) -> Pose | Flaw:
    """Return the pose of time x y z qx qy qz qw."""
    length = float(np.linalg.norm(row[4:]))
    if np.isfinite(row).all() and abs(length - 1) > _UNIT_TOLERANCE:
        return Flaw("pose_not_rigid", f"its quaternion has length {length:.3g}, left out")
    x, y, z, w = row[4:] / length if length > 0 else row[4:]
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = row[1:4]
    return check_pose(pose)
