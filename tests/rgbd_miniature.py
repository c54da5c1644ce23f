"""Miniature RGB-D recordings of our own invention: the room of `tests.miniature` as people export theirs.

Depth and photographs come from casting a ray a pixel (tests.miniature), the files are written line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests import miniature as mini

NAME = "kitchen"
NUMBERS = (3, 6, 9, 12)
SIZE, FOCAL = (96, 72), 80.0  # of both pictures
START_S, STEP_S = 1305031102.175304, 0.5

Poses = Literal["matrices", "kitti", "trajectory", "folder"]


def pose(place: int) -> NDArray[np.float64]:
    """Return the camera of the `place`-th picture, (4, 4) camera to world."""
    return mini.pose(place)


def timestamp(place: int) -> str:
    return f"{START_S + STEP_S * place:.6f}"


def numbered(place: int) -> str:
    return f"frame-{NUMBERS[place]:06d}"


def write_recording(
    root: Path,
    name: str = NAME,
    *,
    colour: str = "rgb/{}.png",
    depth: str = "depth/{}.png",
    stem: Callable[[int], str] = numbered,
    poses: Poses = "matrices",
    turn: NDArray[np.float64] | None = None,
    intrinsics: bool = True,
    units: float = 1000,
    depth_size: tuple[int, int] = SIZE,
) -> Path:
    """Write one recording under `root` and return its folder; `turn` (4, 4) is applied to its world."""
    folder = root / name
    for place in range(len(NUMBERS)):
        write_picture(folder / colour.format(stem(place)), place)
        write_depth(folder / depth.format(stem(place)), place, units, depth_size)
    turned = [(np.eye(4) if turn is None else turn) @ pose(place) for place in range(len(NUMBERS))]
    write_poses(folder, turned, poses, stem)
    if intrinsics:
        (folder / "K.txt").write_text("\n".join(" ".join(map(str, row)) for row in matrix()) + "\n")
    return folder


def flatten(folder: Path) -> None:
    """Put the pictures and the folder of poses of a recording into its own folder, as 7-Scenes has them."""
    for part, ending in (("rgb", "color"), ("depth", "depth"), ("pose", "pose")):
        for path in (folder / part).iterdir():
            path.rename(folder / f"{path.stem}.{ending}{path.suffix}")
        (folder / part).rmdir()


def matrix(size: tuple[int, int] = SIZE) -> NDArray[np.float64]:
    """Return the camera of pictures of a size: the same view in each."""
    focal = FOCAL * size[0] / SIZE[0]
    return np.array([[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1]])


def write_picture(path: Path, place: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, things = mini.cast(place, SIZE, FOCAL)
    palette = np.array([*(thing.rgb for thing in mini.ROOM), (0, 0, 0)], np.uint8)
    Image.fromarray(palette[things]).save(path)


def depth_m(place: int, size: tuple[int, int] = SIZE) -> NDArray[np.float64]:
    return mini.cast(place, size, FOCAL * size[0] / SIZE[0])[0]


def write_depth(path: Path, place: int, units: float = 1000, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = np.rint(depth_m(place, size) * units)
    if path.suffix == ".pgm":
        mini.write_pgm(path, raw.astype(int).tolist())
    else:
        Image.fromarray(raw.astype(np.uint16)).save(path)


def write_poses(
    folder: Path, poses: Sequence[NDArray[np.float64]], kind: Poses, stem: Callable[[int], str] = numbered
) -> None:
    if kind == "folder":
        (folder / "pose").mkdir()
        for place, one in enumerate(poses):
            text = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in one)
            (folder / "pose" / f"{stem(place)}.txt").write_text(text)
    elif kind == "trajectory":
        lines = [" ".join([timestamp(place), *map(str, _tum(one))]) for place, one in enumerate(poses)]
        (folder / "groundtruth.txt").write_text("# timestamp tx ty tz qx qy qz qw\n" + "\n".join(lines))
    else:
        rows = [one.ravel()[: 12 if kind == "kitti" else 16] for one in poses]
        lines = [" ".join(f"{value:.9g}" for value in row) for row in rows]
        (folder / "poses.txt").write_text("\n".join(lines) + "\n")


def _tum(one: NDArray[np.float64]) -> list[float]:
    """Return x y z qx qy qz qw: the quaternion by Bar-Itzhack's eigenvector (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = one[:3, :3]
    symmetric = np.array(
        [
            [a - e - i, d + b, g + c, h - f],
            [d + b, e - a - i, h + f, c - g],
            [g + c, h + f, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    quaternion = np.linalg.eigh(symmetric / 3)[1][:, -1]
    return [float(value) for value in (*one[:3, 3], *quaternion)]


def distance_to_room(xyz_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each point (N, 3) is from the nearest rectangle of the room, metres."""
    each = []
    for thing in mini.ROOM:
        nearest = np.clip(xyz_m, thing.low, thing.high)
        each.append(np.linalg.norm(xyz_m - nearest, axis=1))
    return np.asarray(np.min(each, axis=0))
