"""The file formats of a ScanNet scan's mesh, annotations and facts, and of the whole dataset's lists.

After ScanNet's documentation, its AnnotationTools (github.com/ScanNet/ScanNet), and files of three real
scans, which say more than the documentation:

- `_vh_clean.aggregation.json` is, by the documentation, of the full mesh. The two that could be looked at
  name the segments of `.aggregation.json` in another order, and with it the segmentation of the decimated
  mesh, which is also the one that AnnotationTools name unless told otherwise. So do these.
- A scan of the test split has a mesh, and facts without `axisAlignment` and `sceneType`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.synth.scannet_labels import EIGEN13, LABEL_IDS, NYU40, UNLABELLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.datasets.synth.scanned import ScannedMesh
    from open3dsg.geometry.pixels import PixelGrid

LABEL_TABLE = "scannetv2-labels.combined.tsv"
_COLUMNS = (
    *("id", "raw_category", "category", "count", "nyu40id", "eigen13id", "nyuClass", "nyu40class"),
    *("eigen13class", "ModelNet40", "ModelNet10", "ShapeNetCore55", "synsetoffset", "wnsynsetid"),
    *("wnsynsetkey", "mpcat40", "mpcat40index"),
)
_SCENE_TYPES: Mapping[str, str] = {
    "living room": "Living room / Lounge",
    "bedroom": "Bedroom / Hotel",
    "office": "Office",
    "kitchen": "Kitchen",
    "bathroom": "Bathroom",
}


def write_mesh(
    path: Path,
    vertices: NDArray[np.float64],
    rgb: NDArray[np.uint8],
    triangles: NDArray[np.int64],
    labels: NDArray[np.uint16] | None = None,
) -> None:
    """Write a binary PLY of `vertices` (V, 3), opaque `rgb` (V, 3), `labels` (V,) and `triangles` (T, 3)."""
    row: list[tuple[Any, ...]] = [("xyz", "<f4", 3), ("rgb", "u1", 3), ("alpha", "u1")]
    properties = [f"property float {name}" for name in "xyz"]
    properties += [f"property uchar {name}" for name in ("red", "green", "blue", "alpha")]
    if labels is not None:
        row.append(("label", "<u2"))
        properties.append("property ushort label")
    table = np.empty(len(vertices), dtype=row)
    table["xyz"], table["rgb"], table["alpha"] = vertices, rgb, 255
    if labels is not None:
        table["label"] = labels
    faces = np.empty(len(triangles), dtype=[("corners", "u1"), ("vertices", "<i4", 3)])
    faces["corners"], faces["vertices"] = 3, triangles
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(table)}",
        *properties,
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    with path.open("wb") as file:
        file.write("\n".join(header).encode())
        file.write(table.tobytes())
        file.write(faces.tobytes())


def vertex_colours(mesh: ScannedMesh) -> NDArray[np.uint8]:
    """Colour (V, 3) of each vertex: the mean of the faces it is a corner of."""
    corners = mesh.triangles.reshape(-1)
    faces = np.bincount(corners, minlength=len(mesh.vertices))
    sums = [np.bincount(corners, channel.repeat(3), len(mesh.vertices)) for channel in mesh.face_rgb.T]
    return np.rint(np.stack(sums, axis=1) / faces[:, None]).astype(np.uint8)


def nyu40_of(mesh: ScannedMesh, words: Mapping[int, str]) -> NDArray[np.uint16]:
    """NYU40 id (V,) of each vertex; 0 where its instance is not in `words`, ScanNet's word by instance."""
    table = np.full(int(mesh.instance.max()) + 1, UNLABELLED, dtype=np.uint16)
    for instance, word in words.items():
        table[instance] = LABEL_IDS[word][1]
    return table[mesh.instance]


def nyu40_colours(nyu40: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Colour (V, 3) by NYU40 id (V,)."""
    palette = np.zeros((max(NYU40) + 1, 3), dtype=np.uint8)
    for number, each in NYU40.items():
        palette[number] = each.rgb
    return palette[nyu40]


def segments_of(name: str, mesh: ScannedMesh) -> dict[str, Any]:
    """Content of the segmentation file: the segment of each vertex, named after one of its vertices."""
    return {
        "params": {
            "kThresh": "0.0001",
            "segMinVerts": "20",
            "minPoints": "750",
            "maxPoints": "30000",
            "thinThresh": "0.05",
            "flatThresh": "0.001",
            "minLength": "0.02",
            "maxLength": "1",
        },
        "sceneId": name,
        "segIndices": mesh.segment.tolist(),
    }


def aggregation_of(
    name: str, mesh: ScannedMesh, words: Mapping[int, str], *, full_mesh: bool
) -> dict[str, Any]:
    """Content of an aggregation: the instances of `words`, from number 0 on, with their segments."""
    groups = []
    for number, (instance, word) in enumerate(words.items()):
        segments = np.unique(mesh.segment[mesh.instance == instance]).tolist()
        groups.append(
            {
                "id": number,
                "objectId": number,
                "segments": segments[::-1] if full_mesh else segments,
                "label": word,
            }
        )
    return {
        "sceneId": f"scannet.{name}",
        "appId": "Aggregator.v2",
        "segGroups": groups,
        "segmentsFile": f"scannet.{name}_vh_clean_2.0.010000.segs.json",
    }


def facts_of(
    colour: PixelGrid,
    depth: PixelGrid,
    frames: int,
    kind: str,
    T_aligned_scan: NDArray[np.float64] | None,
) -> bytes:
    """Content of SCAN.txt: the sensor's two cameras, the number of frames, and, unless `T_aligned_scan` is
    None as in the test split, the alignment (4, 4) and what `kind` of room it is.
    """
    cameras = (("color", colour), ("depth", depth))
    lines: dict[str, object] = {}
    for camera, grid in cameras:
        lines |= {f"{camera}Height": grid.height, f"{camera}Width": grid.width}
        lines |= {f"fx_{camera}": f"{grid.fx:.6f}", f"fy_{camera}": f"{grid.fy:.6f}"}
        lines |= {f"mx_{camera}": f"{grid.cx:.6f}", f"my_{camera}": f"{grid.cy:.6f}"}
    lines |= {"numColorFrames": frames, "numDepthFrames": frames, "numIMUmeasurements": 0}
    if T_aligned_scan is not None:
        lines["axisAlignment"] = "".join(f"{value:.6f} " for value in (T_aligned_scan + 0.0).reshape(-1))
        lines["sceneType"] = _SCENE_TYPES[kind]
    return "".join(f"{key} = {lines[key]}\n" for key in sorted(lines)).encode()


def pose_text(T_scan_camera: NDArray[np.float64]) -> bytes:
    """Content of a pose file: 4 rows of 4 numbers; a lost pose is all -inf."""
    return "".join(" ".join(f"{value:.6f}" for value in row) + "\n" for row in T_scan_camera + 0.0).encode()


def intrinsics_text(grid: PixelGrid) -> bytes:
    """Content of intrinsics.txt: a 4x4 matrix."""
    rows = intrinsic_matrix(grid).tolist()
    return "".join(" ".join(f"{value:.18e}" for value in row) + "\n" for row in rows).encode()


def intrinsic_matrix(grid: PixelGrid) -> NDArray[np.float64]:
    """Intrinsics as a 4x4 matrix."""
    matrix = np.eye(4)
    matrix[0, 0], matrix[1, 1] = grid.fx, grid.fy
    matrix[:2, 2] = grid.cx, grid.cy
    return matrix


def label_table(words: Iterable[str]) -> bytes:
    """Content of the label table: a row for each of our categories, with how often it is among `words`.

    Columns that nothing here could fill in truth are empty, as some are in ScanNet's own.
    """
    counts = Counter(words)
    lines = ["\t".join(_COLUMNS)]
    for word, (number, nyu40) in sorted(LABEL_IDS.items(), key=lambda entry: (-counts[entry[0]], entry[0])):
        each = NYU40[nyu40]
        cells = {
            "id": number,
            "raw_category": word,
            "category": word,
            "count": counts[word],
            "nyu40id": nyu40,
            "eigen13id": each.eigen13,
            "nyu40class": each.name,
            "eigen13class": EIGEN13[each.eigen13],
        }
        lines.append("\t".join(str(cells.get(column, "")) for column in _COLUMNS))
    return "".join(f"{line}\n" for line in lines).encode()
