"""What every dataset reader returns: one `Scan`, in the project's conventions.

Metres, radians, world z-up. `T_world_camera` maps camera to world; the camera is OpenCV's (x right,
y down, z forward); pixel rows grow downward. Whatever the files use is turned into this once, by the
reader, and never guessed later. Instance numbers are the dataset's own; background has none (-1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from open3dsg.geometry.pixels import PixelGrid

BACKGROUND = -1


@dataclass(frozen=True)
class Frame:
    """One posed photograph, and its depth picture where there is one.

    URIs are relative to the dataset's root, with forward slashes; a member of a zip file is
    ``path/to/file.zip!member``, a picture of a `.sens` file is ``path/to/file.sens!member`` (sens.py). Depth
    pixels times `depth_unit_m` are metres along the optical axis; 0 is no measurement.
    """

    number: int
    image_uri: str
    image: PixelGrid
    T_world_camera: NDArray[np.float64]  # (4, 4)
    depth_uri: str | None = None
    depth: PixelGrid | None = None
    depth_unit_m: float = 0.001


@dataclass(frozen=True)
class Cloud:
    """The points of a scan: `xyz_m` (N, 3) float32, `rgb` (N, 3) uint8, `instance` (N,) int32."""

    xyz_m: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    instance: NDArray[np.int32]
    normals: NDArray[np.float32] | None = None
    colour_source: str = "mesh"  # texture, vertex, frames or none: where `rgb` comes from


@dataclass(frozen=True)
class Box:
    """Where an instance is, as a source tells that has no points of it: metres, world."""

    centroid_m: Sequence[float]  # 3
    aabb_min_m: Sequence[float] | None = None  # 3
    aabb_max_m: Sequence[float] | None = None
    obb_centre_m: Sequence[float] | None = None
    obb_axes: Sequence[float] | None = None  # 3x3 row-major, a unit axis a row
    obb_lengths_m: Sequence[float] | None = None


@dataclass(frozen=True)
class Subgraph:
    """One training unit of 3DSSG: object numbers with their labels, and directed labelled relations."""

    number: int
    members: Mapping[int, str]
    relationships: Sequence[tuple[int, int, str]]  # (subject number, object number, predicate)


@dataclass(frozen=True)
class Problem:
    """Something in the input that was left out and is reported: `kind` is counted, `detail` is read."""

    kind: str  # snake_case, stable: frame_without_depth, pose_not_finite, relationship_object_missing, ...
    detail: str


@dataclass(frozen=True)
class Scan:
    """One visit to one room, as its dataset tells it. `cloud` is None where only annotations are at hand."""

    dataset: str
    name: str
    root: Path
    cloud: Cloud | None
    labels: Mapping[int, str]  # instance number -> label, as in the dataset
    split: str | None = None
    frames: Sequence[Frame] = ()
    subgraphs: Sequence[Subgraph] = ()
    reference: str | None = None  # name of the reference scan, where this one is a rescan
    T_reference_scan: NDArray[np.float64] | None = None  # (4, 4), maps this scan into its reference
    problems: Sequence[Problem] = field(default_factory=tuple)
    boxes: Mapping[int, Box] = field(default_factory=dict)  # by instance number, where there is no cloud
