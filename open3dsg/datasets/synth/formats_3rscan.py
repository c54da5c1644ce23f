"""The file formats of 3RScan, as its published scans have them."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.synth.attributes import attributes_of
from open3dsg.datasets.synth.formats import millimetres
from open3dsg.datasets.synth.mesh import yaw_matrix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.datasets.synth.revisit import Revisit
    from open3dsg.datasets.synth.room import Box, Instance
    from open3dsg.datasets.synth.scanned import ScannedMesh
    from open3dsg.geometry.pixels import PixelGrid

LABELS_PLY = "labels.instances.annotated.v2.ply"
MESH_OBJ = "mesh.refined.v2.obj"
SEGMENTS = "mesh.refined.0.010000.segs.v2.json"
SEMSEG = "semseg.v2.json"
_TEXTURE = "mesh.refined_0.png"
_MATERIAL = "mesh.refined.mtl"

# Ids of NYU40 and Eigen13 (Couprie et al., 2013) and RIO27 by label; others: "other prop", "objects", none.
_OTHER = (40, 7, 0)
_CLASS_IDS: Mapping[str, tuple[int, int, int]] = {
    "wall": (1, 12, 1),
    "floor": (2, 5, 2),
    "ceiling": (22, 3, 15),
    "door": (8, 12, 8),
    "window": (9, 13, 9),
    "cabinet": (3, 6, 3),
    "kitchen cabinet": (3, 6, 3),
    "bath cabinet": (3, 6, 3),
    "wardrobe": (3, 6, 3),
    "bed": (4, 1, 4),
    "chair": (5, 4, 5),
    "armchair": (5, 4, 5),
    "stool": (5, 4, 5),
    "bench": (5, 4, 5),
    "sofa": (6, 9, 6),
    "table": (7, 10, 7),
    "coffee table": (7, 10, 7),
    "desk": (14, 10, 7),
    "bookshelf": (10, 6, 11),
    "shelf": (15, 6, 11),
    "picture": (11, 8, 0),
    "kitchen counter": (12, 6, 10),
    "curtain": (16, 7, 12),
    "shower curtain": (28, 7, 12),
    "commode": (17, 6, 3),
    "pillow": (18, 7, 13),
    "mirror": (19, 7, 0),
    "carpet": (20, 5, 0),
    "book": (23, 2, 0),
    "refrigerator": (24, 6, 16),
    "tv": (25, 11, 17),
    "monitor": (25, 11, 17),
    "towel": (27, 7, 18),
    "plant": (40, 7, 19),
    "box": (29, 7, 20),
    "board": (30, 7, 0),
    "nightstand": (32, 6, 21),
    "toilet": (33, 6, 22),
    "sink": (34, 6, 23),
    "lamp": (35, 7, 24),
    "light": (35, 7, 24),
    "bathtub": (36, 6, 25),
    "blanket": (40, 7, 27),
    "tv stand": (39, 6, 3),
    "ottoman": (39, 6, 5),
}


def write_labels_ply(
    path: Path, mesh: ScannedMesh, labels: Mapping[int, str], class_numbers: Mapping[str, int]
) -> None:
    """ASCII PLY of the points with their instance, in the palette colour of the instance.

    `globalId` is the label's line in classes.txt: the ids of the published files are of a list that is not
    part of them.
    """
    number = max(labels) + 1
    table = np.zeros((number, 7), dtype=np.int64)
    for instance, label in labels.items():
        table[instance, :3] = _palette(instance)
        table[instance, 3:] = (class_numbers[label], *_CLASS_IDS.get(label, _OTHER))
    rows = table[mesh.instance]
    columns = np.c_[mesh.vertices, rows[:, :3], mesh.instance, rows[:, 3:]]
    properties = (
        [f"property float {name}" for name in "xyz"]
        + [f"property uchar {name}" for name in ("red", "green", "blue")]
        + ["property ushort objectId", "property ushort globalId"]
        + [f"property uchar {name}" for name in ("NYU40", "Eigen13", "RIO27")]
    )
    header = [
        "ply",
        "format ascii 1.0",
        f"element vertex {len(columns)}",
        *properties,
        f"element face {len(mesh.triangles)}",
        "property list uchar uint vertex_indices",
        "end_header",
    ]
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write("\n".join(header) + "\n")
        np.savetxt(file, columns, fmt="%g %g %g" + " %d" * 8 + " ")
        np.savetxt(file, mesh.triangles, fmt="3 %d %d %d ")


def _palette(instance: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((instance * 0.618034) % 1.0, 0.35 + 0.4 * (instance % 2), 0.86)
    return int(red * 255), int(green * 255), int(blue * 255)


def write_textured_obj(folder: Path, mesh: ScannedMesh) -> None:
    """OBJ with its material and texture picture: each face takes one cell of a palette of its colours."""
    from PIL import Image

    coarse = (mesh.face_rgb >> 2).astype(np.int64) @ [4096, 64, 1]
    codes, cell = np.unique(coarse, return_inverse=True)
    side = int(np.ceil(np.sqrt(len(codes))))
    palette = np.zeros((side * side, 3), dtype=np.uint8)
    palette[: len(codes)] = np.stack([codes // 4096, codes // 64 % 64, codes % 64], axis=1) * 4 + 2
    picture = palette.reshape(side, side, 3).repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(picture).save(folder / _TEXTURE)
    row, column = np.divmod(np.arange(len(codes)), side)
    uv = np.c_[(column + 0.5) / side, 1 - (row + 0.5) / side]
    corners = mesh.triangles + 1
    faces = np.stack([corners, np.repeat(cell[:, None] + 1, 3, axis=1), corners], axis=2).reshape(-1, 9)
    with (folder / MESH_OBJ).open("w", encoding="ascii", newline="\n") as file:
        file.write(f"mtllib {_MATERIAL}\n")
        np.savetxt(file, np.c_[mesh.vertices, mesh.normals], fmt="v %g %g %g\nvn %g %g %g")
        np.savetxt(file, uv, fmt="vt %g %g")
        file.write("usemtl mesh.refined_0\n")
        np.savetxt(file, faces, fmt="f %d/%d/%d %d/%d/%d %d/%d/%d")
    shade = "Ka 1.00 1.00 1.00\nKd 1.00 1.00 1.00\nKs 0.00 0.00 0.00\nNs 20.00\nillum 2\n"
    maps = f"map_Ka {_TEXTURE}\nmap_Kd {_TEXTURE}\n"
    text = f"newmtl default\n{shade}\nnewmtl mesh.refined_0\n{shade}{maps}\n"
    (folder / _MATERIAL).write_bytes(text.encode())


def rescan_of(name: str, seen: Revisit) -> dict[str, Any]:
    """Entry of 3RScan.json for a later visit; matrices run down their columns."""
    return {
        "reference": name,
        "transform": seen.T_reference_scan.T.ravel().tolist(),
        "rigid": [
            {
                "instance_reference": number,
                "instance_rescan": number,
                "symmetry": 0,
                "transform": T_rescan_reference.T.ravel().tolist(),
            }
            for number, T_rescan_reference in seen.moved.items()
        ],
        "nonrigid": [],
        "removed": list(seen.removed),
    }


def segments_of(mesh: ScannedMesh) -> dict[str, Any]:
    """Content of the segmentation file: the segment of each vertex."""
    return {
        "params": {"kThresh": 0.01, "segMinVerts": 20},
        "sceneId": "/mesh.refined",
        "segIndices": mesh.segment.tolist(),
    }


def semseg_of(name: str, instances: Sequence[Instance], mesh: ScannedMesh) -> dict[str, Any]:
    """Content of semseg.v2.json: each instance with its label, upright box and segments."""
    groups = []
    for index, instance in enumerate(instances):
        segments = np.unique(mesh.segment[mesh.instance == instance.number])
        flat = instance.box.size[2] < 0.1 * min(instance.box.size[:2])
        normal = [0.0, 0.0, 1.0] if flat else yaw_matrix(instance.box.yaw)[:, 1].tolist()
        groups.append(
            {
                "objectId": instance.number,
                "id": instance.number,
                "partId": instance.number,
                "index": index,
                "dominantNormal": normal,
                "obb": _obb(instance.box),
                "segments": segments.tolist(),
                "label": instance.label,
            }
        )
    return {"segGroups": groups, "scan_id": name, "annId": "0", "appId": "open3dsg.synth"}


def object_of(instance: Instance, class_numbers: Mapping[str, int]) -> dict[str, Any]:
    """One object of 3DSSG's objects.json; nobody has said what it affords."""
    red, green, blue = _palette(instance.number)
    return {
        "global_id": str(class_numbers[instance.label]),
        "id": str(instance.number),
        "label": instance.label,
        "ply_color": f"#{red:02x}{green:02x}{blue:02x}",
        "affordances": [],
        "attributes": attributes_of(instance),
    }


def _obb(box: Box) -> dict[str, list[float]]:
    """Sides and axes in the order of the dataset: along, up, across."""
    axes = yaw_matrix(box.yaw)
    order = [0, 2, 1]
    return {
        "axesLengths": box.size[order].tolist(),
        "centroid": box.centre.tolist(),
        "normalizedAxes": axes[:, order].T.reshape(-1).tolist(),
    }


def sequence_info(image: PixelGrid, depth: PixelGrid, frames: int) -> bytes:
    """Content of _info.txt."""
    identity = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1 "
    lines = {
        "m_versionNumber": "4",
        "m_sensorName": "open3dsg synthetic",
        "m_colorWidth": image.width,
        "m_colorHeight": image.height,
        "m_depthWidth": depth.width,
        "m_depthHeight": depth.height,
        "m_depthShift": 1000,
        "m_calibrationColorIntrinsic": _calibration(image),
        "m_calibrationColorExtrinsic": identity,
        "m_calibrationDepthIntrinsic": _calibration(depth),
        "m_calibrationDepthExtrinsic": identity,
        "m_frames.size": frames,
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()


def _calibration(camera: PixelGrid) -> str:
    return f"{camera.fx:g} 0 {camera.cx:g} 0 0 {camera.fy:g} {camera.cy:g} 0 0 0 1 0 0 0 0 1 "


def pose_text(T_world_camera: NDArray[np.float64]) -> bytes:
    """Content of a pose file: 4 rows of 4 numbers."""
    return "".join(" ".join(f"{value:g}" for value in row) + "\n" for row in T_world_camera + 0.0).encode()


def depth_pgm(depth_m: NDArray[np.float32]) -> bytes:
    """Binary 16-bit PGM of depth (H, W) in millimetres, 0 where nothing was met."""
    picture = millimetres(depth_m)
    height, width = picture.shape
    return (
        f"P5\n# Generated by open3dsg\n{width} {height}\n65535\n".encode() + picture.astype(">u2").tobytes()
    )
