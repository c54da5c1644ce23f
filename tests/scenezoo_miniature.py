"""Miniatures of our own invention in the formats of ScanNet++, Matterport3D, ARKitScenes and others.

All but 3D-FRONT are the room of `tests.miniature`. Files are written as the datasets document them,
independently of the package and of scenezoo; only the pictures are smaller than theirs. Tests spoil single
files afterwards.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests import miniature as mini
from tests.scannet_miniature import triangles

SCENE, OTHER_SCENE = "0a5c013435", "fb564c935d"  # ScanNet++
HOUSE = "1LXtFkjw3qL"  # Matterport3D
PANORAMA = "0b22fa63d0f54a529c525afbf2e8bb25"
VIDEO = "41048190"  # ARKitScenes
LOST = mini.FRAMES  # a frame that was filmed and has no pose

IPHONE_SIZE, IPHONE_FOCAL = (1920, 1440), 1600.0  # the pictures that are written are 1/20 of it
CUT_ROWS = 8  # at the top of Matterport's pictures: their optical axis is above the middle

# place in mini.ROOM -> instance number; the last thing of the room belongs to none
OBJECTS = {0: 5, 1: 2, 2: 9, 3: 1}
LABELS = {number: mini.ROOM[place].label for place, number in OBJECTS.items()}
_GL = np.diag([1.0, -1.0, -1.0, 1.0])


def instances() -> NDArray[np.int64]:
    """Return the instance of each point of the room, -1 for background."""
    numbers = [OBJECTS.get(place, -1) for place in range(len(mini.ROOM))]
    return np.repeat(numbers, mini.GRID * mini.GRID)


def write_scannetpp(root: Path, scene: str = SCENE, *, extracted: bool = True) -> Path:
    """Write one scene of ScanNet++ and return its folder; `extracted`: with frames out of the video."""
    folder = root / "data" / scene
    (folder / "scans").mkdir(parents=True)
    write_ply(folder / "scans" / "mesh_aligned_0.05.ply")
    half = mini.GRID * mini.GRID // 2
    indices = [10 * place + part for place in range(len(mini.ROOM)) for part in (0, 1) for _ in range(half)]
    groups = [
        {"id": n, "objectId": n, "label": LABELS[n], "segments": [10 * place, 10 * place + 1]}
        for place, n in OBJECTS.items()
    ]
    groups.append({"id": 77, "objectId": 77, "label": "REMOVE", "segments": [10 * (len(mini.ROOM) - 1)]})
    (folder / "scans" / "segments.json").write_text(json.dumps({"sceneId": scene, "segIndices": indices}))
    (folder / "scans" / "segments_anno.json").write_text(json.dumps({"sceneId": scene, "segGroups": groups}))
    _write_iphone(folder / "iphone", extracted=extracted)
    return folder


def write_scannetpp_lists(root: Path) -> None:
    (root / "splits").mkdir(parents=True)
    for split, scene in (("nvs_sem_train", SCENE), ("nvs_sem_val", OTHER_SCENE), ("sem_test", "ca0e09014e")):
        (root / "splits" / f"{split}.txt").write_text(f"{scene}\n")
    (root / "metadata").mkdir()
    (root / "metadata" / "semantic_classes.txt").write_text("wall\nfloor\ntable\n")


def _write_iphone(folder: Path, *, extracted: bool) -> None:
    for part in ("rgb", "depth"):
        (folder / part).mkdir(parents=True)
    records = {}
    centre = ((IPHONE_SIZE[0] - 1) / 2, (IPHONE_SIZE[1] - 1) / 2)
    intrinsic = [[IPHONE_FOCAL, 0, centre[0]], [0, IPHONE_FOCAL, centre[1]], [0, 0, 1]]
    for frame in range(mini.FRAMES + 1):
        pose = np.full((4, 4), np.nan) if frame == LOST else mini.pose(frame)
        records[f"frame_{frame:06d}"] = {
            "timestamp": frame / 60,
            "pose": np.eye(4).tolist(),
            "aligned_pose": pose.tolist(),
            "intrinsic": intrinsic,
        }
        if extracted and frame != LOST:
            _, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
            photo(things).save(folder / "rgb" / f"frame_{frame:06d}.jpg", quality=98, subsampling=0)
            depth_m, _ = mini.cast(frame, mini.DEPTH_SIZE, mini.DEPTH_FOCAL)
            write_depth(folder / "depth" / f"frame_{frame:06d}.png", depth_m, 1000)
    (folder / "pose_intrinsic_imu.json").write_text(json.dumps(records))
    write_video(folder / "rgb.mkv", mini.FRAMES + 1)


def write_video(path: Path, frames: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def write_matterport(root: Path, house: str = HOUSE) -> Path:
    """Write one house of Matterport3D, its bundles unpacked, and return its folder."""
    folder = root / "v1" / "scans" / house
    for bundle in ("house_segmentations", *(f"undistorted_{part}" for part in _BUNDLES)):
        (folder / bundle).mkdir(parents=True)
    of_face = np.repeat([OBJECTS.get(place, -1) for place in range(len(mini.ROOM))], 2 * (mini.GRID - 1) ** 2)
    categories = [_CATEGORIES.get(LABELS.get(number, ""), -1) for number in of_face.tolist()]
    faces = list(zip(of_face.tolist(), categories, strict=True))
    write_ply(folder / "house_segmentations" / f"{house}.ply", faces)
    _write_undistorted(folder, house)
    return folder


_BUNDLES = ("camera_parameters", "color_images", "depth_images")
_CATEGORIES = {"floor": 2, "wall": 1, "table": 5, "picture": 6}  # index of the label table


def write_matterport_lists(folder: Path) -> None:
    """Write the label table and the split lists, as the benchmark's repository has them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = "index raw_category category count nyuId nyu40id eigen13id nyuClass nyu40class eigen13class"
    lines = ["\t".join([*names.split(), "mpcat40index", "mpcat40"])]
    for label, index in _CATEGORIES.items():
        numbers = [1, index, index, index]
        words = [label, label, label]
        row = [index, label, label, *numbers, *words, index, label]
        lines.append("\t".join(map(str, row)))
    (folder / "category_mapping.tsv").write_text("\n".join(lines) + "\n")
    for split, house in (("train", HOUSE), ("val", "x8F5xyUWy9e"), ("test", "2t7WUuJeko7")):
        (folder / f"scenes_{split}.txt").write_text(f"{house}\n")


def _write_undistorted(folder: Path, house: str) -> None:
    """Write pictures whose rows are counted from below in the camera file, as Matterport3D says it does."""
    width, height = mini.IMAGE_SIZE
    whole = (width, height + CUT_ROWS)
    centre = ((width - 1) / 2, (whole[1] - 1) / 2 - CUT_ROWS)
    focal = mini.IMAGE_FOCAL
    lines = ["dataset matterport", f"n_images {mini.FRAMES}", "depth_directory undistorted_depth_images"]
    lines += ["color_directory undistorted_color_images", ""]
    lines += [f"intrinsics_matrix {focal} 0 {centre[0]}  0 {focal} {height - 1 - centre[1]} 0 0 1"]
    for frame in range(mini.FRAMES):
        color, depth = f"{PANORAMA}_i0_{frame}.jpg", f"{PANORAMA}_d0_{frame}.png"
        depth_m, things = mini.cast(frame, whole, focal)
        picture = photo(things[CUT_ROWS:])
        picture.save(folder / "undistorted_color_images" / color, quality=98, subsampling=0)
        write_depth(folder / "undistorted_depth_images" / depth, depth_m[CUT_ROWS:], 4000)
        numbers = " ".join(f"{value:.9g}" for value in (mini.pose(frame) @ _GL).ravel())
        lines.append(f"scan {depth} {color} {numbers}")
    conf = folder / "undistorted_camera_parameters" / f"{house}.conf"
    conf.write_text("\n".join(lines) + "\n")


def write_arkitscenes(root: Path, video: str = VIDEO, fold: str = "Training") -> Path:
    """Write one video of ARKitScenes and return its folder; its boxes hold the table and the picture."""
    folder = root / "raw" / fold / video
    for part in ("lowres_wide", "lowres_depth", "lowres_wide_intrinsics"):
        (folder / part).mkdir(parents=True)
    write_ply(folder / f"{video}_3dod_mesh.ply")
    objects = []
    for place in (2, 3):
        low, high = np.array(mini.ROOM[place].low), np.array(mini.ROOM[place].high)
        box = {"centroid": ((low + high) / 2).tolist(), "axesLengths": (high - low + 0.02).tolist()}
        box["normalizedAxes"] = np.eye(3).ravel().tolist()
        objects.append({"label": mini.ROOM[place].label, "segments": {"obbAligned": box}})
    (folder / f"{video}_3dod_annotation.json").write_text(json.dumps({"data": objects}))
    rows = []
    for frame in range(mini.FRAMES):
        stem = f"{video}_{3414 + frame / 10:.3f}"
        _, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        photo(things).save(folder / "lowres_wide" / f"{stem}.png")
        depth_m, _ = mini.cast(frame, mini.DEPTH_SIZE, mini.DEPTH_FOCAL)
        write_depth(folder / "lowres_depth" / f"{stem}.png", depth_m, 1000)
        width, height = mini.IMAGE_SIZE
        camera = (width, height, mini.IMAGE_FOCAL, mini.IMAGE_FOCAL, (width - 1) / 2, (height - 1) / 2)
        (folder / "lowres_wide_intrinsics" / f"{stem}.pincam").write_text(" ".join(map(str, camera)))
        rows.append((3414 + frame / 10, *_axis_angle(mini.pose(frame))))
    (folder / "lowres_wide.traj").write_text(
        "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows)
    )
    return folder


def write_arkitscenes_list(root: Path, *videos: str, validation: str = "") -> None:
    columns = "video_id,visit_id,fold,sky_direction,is_in_upsampling,is_in_threedod"
    folds = dict.fromkeys(videos, "Training") | ({validation: "Validation"} if validation else {})
    rows = [f"{video},NA,{fold},Left,False,True" for video, fold in folds.items()]
    (root / "raw" / "metadata.csv").write_text("\n".join((columns, *rows)) + "\n")


def _axis_angle(T_world_camera: NDArray[np.float64]) -> tuple[float, ...]:
    """Return world to camera as ARKitScenes has it: a rotation about an axis, radians, and a translation."""
    matrix = np.linalg.inv(T_world_camera)
    angle = np.arccos((np.trace(matrix[:3, :3]) - 1) / 2)
    turned = matrix[:3, :3] - matrix[:3, :3].T
    axis = np.array([turned[2, 1], turned[0, 2], turned[1, 0]]) / (2 * np.sin(angle))
    return (*(axis * angle).tolist(), *matrix[:3, 3].tolist())


def photo(things: NDArray[np.int64]) -> Image.Image:
    """Return the picture of what each pixel hits."""
    palette = np.array([*(thing.rgb for thing in mini.ROOM), (0, 0, 0)], np.uint8)
    return Image.fromarray(palette[things])


def write_depth(path: Path, depth_m: NDArray[np.float64], per_m: int) -> None:
    Image.fromarray(np.rint(depth_m * per_m).astype(np.uint16)).save(path)


def write_ply(
    path: Path,
    faces: list[tuple[int, int]] | None = None,
    names: tuple[str, str] = ("face_segment", "face_category"),
) -> None:
    """Write the room's mesh in true colours; with `faces`, two numbers of each triangle, called `names`."""
    xyz, _, rgb = mini.points()
    _write_mesh(path, xyz, rgb, faces, names)


def _write_mesh(
    path: Path,
    xyz: NDArray[np.float64],
    rgb: NDArray[Any],
    faces: list[tuple[int, int]] | None = None,
    names: tuple[str, str] = ("", ""),
) -> None:
    corners = triangles()
    extra = "".join(f"property int {name}\n" for name in names) if faces else ""
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment invented\nelement vertex {len(xyz)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(corners)}\nproperty list uchar int vertex_indices\n{extra}end_header\n"
    )
    parts = [header.encode()]
    for point, colour in zip(xyz.tolist(), rgb.tolist(), strict=True):
        parts.append(struct.pack("<3f3B", *point, *colour))
    for at, three in enumerate(corners):
        parts.append(struct.pack("<B3i", 3, *three) + (struct.pack("<2i", *faces[at]) if faces else b""))
    path.write_bytes(b"".join(parts))


def write_s3dis(root: Path) -> None:
    """Write one room of S3DIS: a text file an object, x y z r g b a line."""
    folder = root / "Area_1" / "office_1" / "Annotations"
    folder.mkdir(parents=True)
    xyz, _, rgb = mini.points()
    for place, name in ((0, "floor_1"), (1, "wall_1"), (2, "table_1")):
        rows = np.hstack([xyz, rgb])[place * mini.GRID**2 : (place + 1) * mini.GRID**2]
        np.savetxt(folder / f"{name}.txt", rows, fmt=["%.6f"] * 3 + ["%d"] * 3)


def write_scenenn(root: Path, scene: str = "016") -> None:
    """Write one scene of SceneNN: y is up, and an object is known by the colour of its vertices."""
    folder = root / scene
    folder.mkdir(parents=True)
    xyz, _, rgb = mini.points()
    y_up = np.stack([xyz[:, 0], xyz[:, 2], -xyz[:, 1]], axis=1)
    paint = np.repeat([[10 * place, 0, 255 - place] for place in range(len(mini.ROOM))], mini.GRID**2, axis=0)
    for name, colours in ((f"{scene}.ply", paint), (f"{scene}_color.ply", rgb)):
        _write_mesh(folder / name, y_up, colours)
    labels = "".join(
        f'<label id="{number}" color="{10 * place} 0 {255 - place}" text="{LABELS[number]}"/>'
        for place, number in OBJECTS.items()
    )
    (folder / f"{scene}.xml").write_text(f'<?xml version="1.0"?><annotation>{labels}</annotation>')


def write_multiscan(root: Path, scan: str = "scene_00000_00") -> None:
    """Write one scan of MultiScan: objects of triangles; its frames are in a video that is not written."""
    folder = root / scan
    folder.mkdir(parents=True)
    of_face = np.repeat([OBJECTS.get(place, 99) for place in range(len(mini.ROOM))], 2 * (mini.GRID - 1) ** 2)
    faces = [(number, 1) for number in of_face.tolist()]
    write_ply(folder / f"{scan}.ply", faces, ("objectId", "partId"))
    objects = [{"objectId": n, "label": f"{label}.{n}", "partIds": []} for n, label in LABELS.items()]
    objects.append({"objectId": 99, "label": "remove.1", "partIds": []})
    (folder / f"{scan}.annotations.json").write_text(json.dumps({"objects": objects, "parts": []}))
    stream = {"type": "color_camera", "number_of_frames": 2, "resolution": [1440, 1920]}
    (folder / f"{scan}.json").write_text(json.dumps({"streams": [stream]}))
    identity = np.eye(4).ravel().tolist()
    (folder / f"{scan}.align.json").write_text(json.dumps({"coordinate_transform": identity}))
    record = {"intrinsics": np.eye(3).ravel().tolist(), "transform": identity, "timestamp": 0}
    record |= {"exposure_duration": 1, "quaternion": [1, 0, 0, 0], "euler_angles": [0, 0, 0]}
    (folder / f"{scan}.jsonl").write_text(2 * (json.dumps(record) + "\n"))


def write_structured3d(root: Path) -> None:
    """Write one room of Structured3D, millimetres, without its panorama."""
    views = root / "data" / "scene_00000" / "2D_rendering" / "485142" / "perspective" / "full"
    width, height = mini.IMAGE_SIZE
    for frame in range(mini.FRAMES):
        folder = views / str(frame)
        folder.mkdir(parents=True)
        depth_m, things = mini.cast(frame, mini.IMAGE_SIZE, mini.IMAGE_FOCAL)
        photo(things).save(folder / "rgb_rawlight.png")
        write_depth(folder / "depth.png", depth_m, 1000)
        numbers = np.array([*(OBJECTS.get(place, 65535) for place in range(len(mini.ROOM))), 65535])
        Image.fromarray(numbers[things].astype(np.uint16)).save(folder / "instance.png")
        Image.fromarray(np.zeros_like(things, np.uint8)).save(folder / "semantic.png")
        pose = mini.pose(frame)
        half = np.arctan([width / 2 / mini.IMAGE_FOCAL, height / 2 / mini.IMAGE_FOCAL])
        numbers = np.concatenate([pose[:3, 3] * 1000, pose[:3, 2], -pose[:3, 1], half, [0]])
        (folder / "camera_pose.txt").write_text(" ".join(f"{value:.9g}" for value in numbers))
    (root / "room_types.txt").write_text("bathroom\n")
    (root / "labelids.txt").write_text("1 wall\n2 floor\n")
    (root / "errata.txt").write_text("# invalid scene\nscene_00007\n")


def write_3dfront(root: Path) -> None:
    """Write a house of 3D-FRONT with one wall, 2 x 3 m, and one cube of 1 m that is scaled in height."""
    model = root / "3D-FUTURE-model" / "m1"
    model.mkdir(parents=True)
    (root / "3D-FRONT").mkdir()
    corners = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    quads = ("1 2 4 3", "5 7 8 6", "1 5 6 2", "3 4 8 7", "1 3 7 5", "2 6 8 4")
    lines = [f"v {x} {y} {z}" for x, y, z in corners]
    for quad in quads:
        a, b, c, d = quad.split()
        lines += [f"f {a} {b} {c}", f"f {a} {c} {d}"]
    (model / "raw_model.obj").write_text("\n".join(lines) + "\n")
    info = [{"model_id": "m1", "category": "Nightstand", "super-category": "Cabinet"}]
    (root / "3D-FUTURE-model" / "model_info.json").write_text(json.dumps(info))
    children = [{"ref": "f1", "pos": [1, 0, 2], "rot": [0, 0, 0, 1], "scale": [1, 0.5, 1]}, {"ref": "w1"}]
    wall = {"uid": "w1", "type": "WallInner", "xyz": [0, 0, 0, 3, 0, 0, 3, 2, 0, 0, 2, 0]}
    house = {
        "furniture": [{"uid": "f1", "jid": "m1", "valid": True}],
        "mesh": [wall | {"faces": [0, 1, 2, 0, 2, 3]}],
        "material": [],
        "scene": {"room": [{"instanceid": "Bedroom-1", "type": "Bedroom", "children": children}]},
    }
    (root / "3D-FRONT" / "house-1.json").write_text(json.dumps(house))
