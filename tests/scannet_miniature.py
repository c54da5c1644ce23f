"""A miniature ScanNet tree of our own invention: the room of `tests.miniature` in the formats of ScanNet.

The device's axes are those of the room turned by 90 degrees and moved, so that only a reader that aligns
points and poses alike gets the room back. Files are packed field by field, independently of the package.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests import miniature as mini

NAME, VALIDATION, TEST = "scene0000_00", "scene0001_00", "scene0707_00"
FRAMES = 4
STEP = 20
IMAGE_SIZE, DEPTH_SIZE = mini.IMAGE_SIZE, mini.DEPTH_SIZE  # of .sens files; folders have DEPTH_SIZE for both
IMAGE_FOCAL, DEPTH_FOCAL = mini.IMAGE_FOCAL, mini.DEPTH_FOCAL
SENS_FRAMES = (FRAMES - 1) * STEP + 1

# objectId -> place in mini.ROOM: from 0 on, in another order than there.
OBJECTS = {0: 3, 1: 0, 2: 1, 3: 2}
LABELS = {0: "pictures", 1: "floor", 2: "wall", 3: "coffee table"}
NYU40 = {"pictures": 11, "picture": 11, "floor": 2, "wall": 1, "coffee table": 7, "table": 7, "dog bed": 40}

# T_room_device: x of the room is y of the device.
ALIGNMENT = np.array([[0, 1, 0, 1.5], [-1, 0, 0, 0.25], [0, 0, 1, -0.125], [0, 0, 0, 1]], float)

_TABLE = (
    (1, "wall", "wall", 1, "wall"),
    (3, "floor", "floor", 2, "floor"),
    (11, "pictures", "picture", 11, "picture"),
    (11, "picture", "picture", 11, "picture"),
    (356, "coffee table", "coffee table", 7, "table"),
    (4, "table", "table", 7, "table"),
    (999, "dog bed", "dog bed", 40, "otherprop"),
    (998, "dog bed", "cat bed", 40, "otherprop"),
)


@dataclass(frozen=True)
class Place:
    """Where a scan was written."""

    root: Path
    folder: Path
    frames: Path

    def file(self, ending: str) -> Path:
        return self.folder / f"{self.folder.name}{ending}"


def instances() -> NDArray[np.int64]:
    """Return the instance of each point of the room, -1 for background."""
    of_place = {place: number for number, place in OBJECTS.items()}
    numbers = [of_place.get(place, -1) for place in range(len(mini.ROOM))]
    return np.repeat(numbers, mini.GRID * mini.GRID)


def to_device(points: NDArray[np.float64]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = (points - ALIGNMENT[:3, 3]) @ ALIGNMENT[:3, :3]
    return moved


def pose(frame: int) -> NDArray[np.float64]:
    """Return the camera of the `frame`-th picture in the device's axes."""
    return np.asarray(np.linalg.inv(ALIGNMENT) @ mini.pose(frame))


def write_scan(
    root: Path,
    name: str = NAME,
    *,
    parent: str = "scans",
    frames: str | None = "scannet_2d",
    sens: bool = False,
    annotated: bool = True,
    step: int = STEP,
) -> Place:
    """Write one scan under `root`: its frames into the folder `frames`, or a `.sens` file, or both."""
    place = Place(root, root / parent / name, root / (frames or "none") / name)
    place.folder.mkdir(parents=True)
    write_ply(place.file("_vh_clean_2.ply"), None)
    write_info(place, (FRAMES - 1) * step + 1)
    if annotated:
        classes = [0, *(NYU40[LABELS[number]] for number in sorted(LABELS))]
        write_ply(place.file("_vh_clean_2.labels.ply"), [classes[number + 1] for number in instances()])
        write_segments(place)
    if frames:
        write_frames(place, step)
    if sens:
        write_sens(place.file(".sens"), step)
    return place


def write_metadata(root: Path) -> None:
    root.mkdir(exist_ok=True, parents=True)
    for split, names in (("train", (NAME,)), ("val", (VALIDATION, "scene0002_00")), ("test", (TEST,))):
        (root / f"scannetv2_{split}.txt").write_text("".join(f"{name}\n" for name in names))
    lines = ["\t".join(("id", "raw_category", "category", "count", "nyu40id", "eigen13id", "nyu40class"))]
    lines += [
        "\t".join(map(str, (i, raw, category, 1, nyu, 1, word))) for i, raw, category, nyu, word in _TABLE
    ]
    # As the published table ends its lines.
    (root / "scannetv2-labels.combined.tsv").write_bytes("".join(f"{line}\r\r\n" for line in lines).encode())
    (root / "scannet200_classes.txt").write_text("coffee table\nfloor\npicture\ntable\nwall\n")


def triangles() -> list[tuple[int, int, int]]:
    """Return two triangles between each four neighbours of a rectangle's grid."""
    side = mini.GRID
    corners = []
    for start in range(0, len(mini.ROOM) * side * side, side * side):
        for row in range(side - 1):
            for column in range(side - 1):
                a = start + row * side + column
                corners += [(a, a + side, a + 1), (a + side, a + side + 1, a + 1)]
    return corners


def normals() -> NDArray[np.float64]:
    """Return the normal of each point in the room, by the way that `triangles` go around."""
    signs = {0: 1.0, 1: -1.0, 2: 1.0}  # axis across: the other two, ascending, have this handedness
    each = [np.eye(3)[thing.across] * signs[thing.across] for thing in mini.ROOM]
    return np.repeat(each, mini.GRID * mini.GRID, axis=0)


def write_ply(path: Path, labels: list[int] | None) -> None:
    """Write the mesh, or with `labels` the mesh that shows them: its colours are not the room's."""
    xyz, _, rgb = mini.points()
    faces = triangles()
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment invented\nelement vertex {len(xyz)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nproperty uchar alpha\n"
        f"{'' if labels is None else 'property ushort label' + chr(10)}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    parts = [header.encode()]
    for index, (point, colour) in enumerate(zip(to_device(xyz).tolist(), rgb.tolist(), strict=True)):
        if labels is None:
            parts.append(struct.pack("<3f4B", *point, *colour, 255))
        else:
            parts.append(struct.pack("<3f4BH", *point, 255, 0, 255, 255, labels[index]))
    parts += [struct.pack("<B3i", 3, *corners) for corners in faces]
    path.write_bytes(b"".join(parts))


def write_segments(place: Place) -> None:
    """Write two segments a rectangle, 10 * place and 10 * place + 1, and the instances made of them."""
    half = mini.GRID * mini.GRID // 2
    indices = [10 * at + part for at in range(len(mini.ROOM)) for part in (0, 1) for _ in range(half)]
    name = place.folder.name
    document = {"params": {"kThresh": "0.0001"}, "sceneId": name, "segIndices": indices}
    place.file("_vh_clean_2.0.010000.segs.json").write_text(json.dumps(document))
    write_aggregation(place)


def write_aggregation(place: Place, ending: str = ".aggregation.json", **changes: Any) -> None:
    groups = [
        {"id": number, "objectId": number, "segments": [10 * at + 1, 10 * at], "label": LABELS[number]}
        for number, at in OBJECTS.items()
    ]
    name = f"scannet.{place.folder.name}"
    document = {
        "sceneId": name,
        "appId": "Aggregator.v2",
        "segGroups": groups,
        "segmentsFile": f"{name}_vh_clean_2.0.010000.segs.json",
    }
    place.file(ending).write_text(json.dumps(document | changes))


def write_info(place: Place, frames: int) -> None:
    numbers = " ".join(f"{value:.6f}" for value in ALIGNMENT.ravel())
    place.file(".txt").write_text(
        f"axisAlignment = {numbers} \ncolorHeight = {IMAGE_SIZE[1]}\ncolorWidth = {IMAGE_SIZE[0]}\n"
        f"numColorFrames = {frames}\nnumDepthFrames = {frames}\nsceneType = Misc.\n"
    )


def write_frames(place: Place, step: int = STEP) -> None:
    """Write the frames as the preprocessed ones are: both pictures of one size, one camera for all scans."""
    for part in ("color", "depth", "pose"):
        (place.frames / part).mkdir(parents=True)
    matrix = intrinsics(DEPTH_SIZE, DEPTH_FOCAL)
    np.savetxt(place.frames.parent / "intrinsics.txt", matrix)
    for frame in range(FRAMES):
        number = frame * step
        photo, depth = pictures(frame, DEPTH_SIZE, DEPTH_FOCAL)
        Image.fromarray(photo).save(place.frames / "color" / f"{number}.jpg", quality=95)
        Image.fromarray(depth).save(place.frames / "depth" / f"{number}.png")
        np.savetxt(place.frames / "pose" / f"{number}.txt", pose(frame), fmt="%.6f")


def pictures(frame: int, size: tuple[int, int], focal: float) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Return the photograph and the depth in millimetres."""
    depth, thing = mini.cast(frame, size, focal)
    colours = np.array([*(thing.rgb for thing in mini.ROOM), (0, 0, 0)], np.uint8)
    return colours[thing], np.round(depth * 1000).astype(np.uint16)


def intrinsics(size: tuple[int, int], focal: float) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[[0, 1], [0, 1]] = focal
    matrix[:2, 2] = (size[0] - 1) / 2, (size[1] - 1) / 2
    return matrix


def write_sens(
    path: Path, step: int = STEP, *, depth_compression: int = 1, depth_shift: float = 1000.0
) -> None:
    """Write a `.sens` file: each `step`-th frame sees the room, tracking is lost in those between."""
    name = b"invented device"
    head = struct.pack("<IQ", 4, len(name)) + name
    for size, focal in ((IMAGE_SIZE, IMAGE_FOCAL), (DEPTH_SIZE, DEPTH_FOCAL)):
        head += struct.pack("<16f", *intrinsics(size, focal).ravel())
        head += struct.pack("<16f", *np.eye(4).ravel())
    head += struct.pack("<ii", 2, depth_compression)
    frames = (FRAMES - 1) * step + 1
    head += struct.pack("<4IfQ", *IMAGE_SIZE, *DEPTH_SIZE, depth_shift, frames)
    parts = [head]
    for number in range(frames):
        if number % step:
            parts.append(struct.pack("<16f4Q", *[-np.inf] * 16, number, number, 3, 2) + b"jpgzl")
            continue
        frame = number // step
        photo, _ = pictures(frame, IMAGE_SIZE, IMAGE_FOCAL)
        _, depth = pictures(frame, DEPTH_SIZE, DEPTH_FOCAL)
        encoded = io.BytesIO()
        Image.fromarray(photo).save(encoded, "JPEG", quality=95)
        packed = struct.pack(f"<{depth.size}H", *depth.ravel().tolist())
        packed = zlib.compress(packed) if depth_compression == 1 else packed
        color = encoded.getvalue()
        parts.append(struct.pack("<16f4Q", *pose(frame).ravel(), number, number, len(color), len(packed)))
        parts += [color, packed]
    path.write_bytes(b"".join(parts) + struct.pack("<Q", 0))
