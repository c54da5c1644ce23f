"""A miniature 3RScan tree of our own invention: five flat things, 320 points, four frames of 96x72 pixels.

What it writes is worked out independently of the package: depth and photographs by casting a ray a pixel at
the rectangles, the files line by line. Tests spoil single files afterwards.
"""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NAME = "mini-0001"
RESCAN = "mini-0002"
GRID = 8  # points along each side of a rectangle
FRAMES = 4
IMAGE_SIZE, DEPTH_SIZE = (96, 72), (48, 36)  # width, height
IMAGE_FOCAL, DEPTH_FOCAL = 80.0, 40.0

PlyFormat = Literal["ascii", "binary_little_endian", "binary_big_endian"]


@dataclass(frozen=True)
class Rectangle:
    """An axis-parallel rectangle: `low` and `high` are equal along the axis it stands across."""

    number: int  # objectId; 0 is background
    label: str
    rgb: tuple[int, int, int]
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    @property
    def across(self) -> int:
        return [a == b for a, b in zip(self.low, self.high, strict=True)].index(True)


ROOM = (
    Rectangle(1, "floor", (120, 90, 60), (0, 0, 0), (3, 2.4, 0)),
    Rectangle(2, "wall", (200, 200, 210), (0, 2.4, 0), (3, 2.4, 2)),
    Rectangle(4, "table", (60, 120, 60), (0.8, 1.2, 0.7), (1.8, 2.0, 0.7)),
    Rectangle(7, "picture", (180, 40, 40), (1.9, 2.38, 0.9), (2.6, 2.38, 1.6)),
    Rectangle(0, "", (30, 30, 150), (3, 0.6, 0), (3, 2.4, 1.2)),
)
LABELS = {thing.number: thing.label for thing in ROOM if thing.number}


def points() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.uint8]]:
    """Return positions (N, 3), object numbers (N,) and true colours (N, 3), rectangle after rectangle."""
    steps = (np.arange(GRID) + 0.5) / GRID
    xyz = []
    for thing in ROOM:
        low, high = np.array(thing.low, float), np.array(thing.high, float)
        first, second = (axis for axis in range(3) if axis != thing.across)
        grid = np.tile(low, (GRID, GRID, 1))
        grid[:, :, first] += (steps * (high - low)[first])[:, None]
        grid[:, :, second] += (steps * (high - low)[second])[None, :]
        xyz.append(grid.reshape(-1, 3))
    numbers = np.repeat([thing.number for thing in ROOM], GRID * GRID)
    colours = np.repeat(np.array([thing.rgb for thing in ROOM], np.uint8), GRID * GRID, axis=0)
    return np.round(np.concatenate(xyz), 5), numbers, colours


def pose(frame: int) -> NDArray[np.float64]:
    """Return the (4, 4) camera-to-world matrix of a frame: it looks into the room, and slightly down."""
    eye = np.array([0.9 + 0.4 * frame, -1.2, 1.9])
    forward = np.array([1.5, 2.4, 0.9]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(forward, right), forward, eye], axis=1)
    return matrix


def cast(frame: int, size: tuple[int, int], focal: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return z-depth in metres (0: nothing hit) and the place in ROOM (-1), both (height, width)."""
    width, height = size
    matrix = pose(frame)
    row, column = np.mgrid[:height, :width]
    rays = np.stack(
        [(column - (width - 1) / 2) / focal, (row - (height - 1) / 2) / focal, np.ones_like(row)], axis=2
    )
    rays = rays @ matrix[:3, :3].T
    depth, thing_hit = np.full((height, width), np.inf), np.full((height, width), -1)
    for place, thing in enumerate(ROOM):
        low, high = np.array(thing.low), np.array(thing.high)
        distance = (low[thing.across] - matrix[thing.across, 3]) / rays[:, :, thing.across]
        hit = matrix[:3, 3] + distance[:, :, None] * rays
        sides = [axis for axis in range(3) if axis != thing.across]
        inside = ((hit >= low) & (hit <= high))[:, :, sides].all(axis=2)
        nearer = inside & (distance > 0) & (distance < depth)
        depth[nearer], thing_hit[nearer] = distance[nearer], place
    return np.where(np.isfinite(depth), depth, 0.0), thing_hit


def write_scan(
    root: Path,
    name: str = NAME,
    *,
    colours: Literal["texture", "vertex", "none"] = "texture",
    ply_format: PlyFormat = "ascii",
    zipped: bool = False,
    y_up: bool = False,
) -> Path:
    """Write one scan under `root` and return its folder."""
    folder = root / name
    folder.mkdir(parents=True)
    write_ply(folder / "labels.instances.annotated.v2.ply", ply_format)
    write_mesh(folder, colours)
    write_segments(folder)
    write_sequence(folder, y_up=y_up)
    if zipped:
        zip_sequence(folder)
    return folder


def write_ply(path: Path, ply_format: PlyFormat) -> None:
    xyz, numbers, _ = points()
    header = (
        f"ply\nformat {ply_format} 1.0\ncomment invented\nelement vertex {len(xyz)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        "property ushort objectId\nelement face 1\nproperty list uchar uint vertex_indices\nend_header\n"
    )
    order = ">" if ply_format == "binary_big_endian" else "<"
    with path.open("wb") as file:
        file.write(header.encode())
        for (x, y, z), number in zip(xyz.tolist(), numbers.tolist(), strict=True):
            if ply_format == "ascii":
                file.write(f"{x:g} {y:g} {z:g} 255 0 255 {number} \n".encode())
            else:
                file.write(struct.pack(f"{order}3f3BH", x, y, z, 255, 0, 255, number))
        file.write(b"3 0 1 2\n" if ply_format == "ascii" else struct.pack(f"{order}B3I", 3, 0, 1, 2))


def write_mesh(folder: Path, colours: Literal["texture", "vertex", "none"]) -> None:
    """Write the OBJ, and for `texture` its picture: true colours below, a warning pink above."""
    xyz, _, rgb = points()
    lines = ["mtllib mesh.refined.mtl", "usemtl only"]
    for index, ((x, y, z), colour) in enumerate(zip(xyz.tolist(), rgb.tolist(), strict=True)):
        place = index // GRID**2
        tint = " ".join(f"{value / 255:.5f}" for value in colour) if colours == "vertex" else ""
        lines += [
            f"v {x:g} {y:g} {z:g} {tint}",
            f"vn {' '.join('2' if i == ROOM[place].across else '0' for i in range(3))}",
        ]
        lines += [f"vt {(place + 0.5) / len(ROOM):.5f} 0.25"]
    lines += [f"f {' '.join(f'{i}/{i}/{i}' for i in (n, n + 1, n + 2))}" for n in range(1, len(xyz) - 1, 3)]
    lines += [f"f {' '.join(f'{i}/{i}/{i}' for i in range(len(xyz) - 2, len(xyz) + 1))}"]
    (folder / "mesh.refined.v2.obj").write_text("\n".join(lines) + "\n")
    if colours == "texture":
        (folder / "mesh.refined.mtl").write_text(
            "newmtl only\nmap_Ka mesh.refined_0.png\nmap_Kd mesh.refined_0.png\n"
        )
        picture = np.full((4, len(ROOM) * 4, 3), (255, 0, 255), np.uint8)
        picture[2:] = np.repeat(np.array([thing.rgb for thing in ROOM], np.uint8), 4, axis=0)
        Image.fromarray(picture).save(folder / "mesh.refined_0.png")


def write_segments(folder: Path) -> None:
    """Write two segments a rectangle, 10 * place and 10 * place + 1, and the instances made of them."""
    groups: list[dict[str, Any]] = [
        {
            "id": thing.number,
            "objectId": thing.number,
            "label": thing.label,
            "segments": [10 * place + 1, 10 * place],
        }
        for place, thing in reversed(list(enumerate(ROOM)))
        if thing.number
    ]
    half = GRID * GRID // 2
    indices = [10 * place + part for place in range(len(ROOM)) for part in (0, 1) for _ in range(half)]
    (folder / "semseg.v2.json").write_text(json.dumps({"segGroups": groups}))
    (folder / "mesh.refined.0.010000.segs.v2.json").write_text(json.dumps({"segIndices": indices}))


def write_sequence(folder: Path, *, y_up: bool = False) -> None:
    sequence = folder / "sequence"
    sequence.mkdir()
    (sequence / "_info.txt").write_text(_info())
    for frame in range(FRAMES):
        stem = sequence / f"frame-{frame:06d}"
        _, things = cast(frame, IMAGE_SIZE, IMAGE_FOCAL)
        palette = np.array([*(thing.rgb for thing in ROOM), (0, 0, 0)], np.uint8)
        Image.fromarray(palette[things]).save(f"{stem}.color.jpg", quality=98, subsampling=0)
        depth_m, _ = cast(frame, DEPTH_SIZE, DEPTH_FOCAL)
        write_pgm(Path(f"{stem}.depth.pgm"), np.rint(depth_m * 1000).astype(int).tolist())
        matrix = pose(frame)
        if y_up:
            matrix = np.concatenate([matrix[:, :1], -matrix[:, 1:3], matrix[:, 3:]], axis=1)
        Path(f"{stem}.pose.txt").write_text(
            "\n".join(" ".join(f"{v:.9g}" for v in row) for row in matrix) + "\n"
        )


def write_pgm(path: Path, rows: list[list[int]]) -> None:
    pixels = [value for row in rows for value in row]
    header = f"P5\n# invented\n{len(rows[0])} {len(rows)}\n65535\n".encode()
    path.write_bytes(header + struct.pack(f">{len(pixels)}H", *pixels))


def _info() -> str:
    def matrix(size: tuple[int, int], focal: float) -> str:
        centre = ((size[0] - 1) / 2, (size[1] - 1) / 2)
        return f"{focal} 0 {centre[0]} 0 0 {focal} {centre[1]} 0 0 0 1 0 0 0 0 1"

    unit = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"
    return (
        "m_versionNumber = 4\nm_sensorName = invented device (calibrated)\n"
        f"m_colorWidth = {IMAGE_SIZE[0]}\nm_colorHeight = {IMAGE_SIZE[1]}\n"
        f"m_depthWidth = {DEPTH_SIZE[0]}\nm_depthHeight = {DEPTH_SIZE[1]}\nm_depthShift = 1000\n"
        f"m_calibrationColorIntrinsic = {matrix(IMAGE_SIZE, IMAGE_FOCAL)}\n"
        f"m_calibrationColorExtrinsic = {unit}\n"
        f"m_calibrationDepthIntrinsic = {matrix(DEPTH_SIZE, DEPTH_FOCAL)}\n"
        f"m_calibrationDepthExtrinsic = {unit}\nm_frames.size = {FRAMES}\n"
    )


def zip_sequence(folder: Path) -> None:
    """Replace `sequence/` by `sequence.zip`, its files at the top of the archive."""
    sequence = folder / "sequence"
    with zipfile.ZipFile(folder / "sequence.zip", "w") as archive:
        for path in sorted(sequence.iterdir()):
            archive.write(path, path.name)
            path.unlink()
    sequence.rmdir()


def write_metadata(root: Path) -> None:
    """Write a 3RScan.json of one room: NAME, and RESCAN turned by 90 degrees about z and moved."""
    transform = [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 0.5, -0.25, 0.125, 1]
    rescan = {"reference": RESCAN, "transform": transform, "rigid": [], "nonrigid": [], "removed": []}
    rooms = [
        {"reference": NAME, "type": "train", "ambiguity": [], "scans": [rescan]},
        {
            "reference": "mini-0009",
            "type": "test",
            "ambiguity": [],
            "scans": [{"reference": "mini-0010", "rigid": [1]}],
        },
    ]
    (root / "3RScan.json").write_text(json.dumps(rooms))


def subgraph(**changes: Any) -> dict[str, Any]:
    """Return a subgraph of NAME as the relationship files hold it, with `changes`."""
    record = {
        "scan": NAME,
        "split": 1,
        "objects": {str(number): label for number, label in LABELS.items()},
        "relationships": [
            [4, 1, 2, "standing on"],
            [7, 2, 3, "hanging on"],
            [4, 2, 1, "close by"],
            [4, 1, 1, "close by"],
        ],
    }
    return record | changes


def write_annotations(folder: Path, *subgraphs: dict[str, Any], split: str = "train") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"relationships_{split}.json").write_text(json.dumps({"scans": list(subgraphs)}))
    (folder / "classes.txt").write_text("\n".join(LABELS.values()) + "\n")
    (folder / "relationships.txt").write_text("none\nclose by\nstanding on\nhanging on")
