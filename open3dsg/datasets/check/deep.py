"""Reading a scan wholly: by its reader, every picture decoded, and depth held against the mesh.

Depth pictures, poses, intrinsics and mesh agree where the nearest point that falls on a pixel is as far away
as the pixel's depth says. A wrong unit shows as the same ratio everywhere, a camera whose y goes up as
agreement once it is flipped, files of another scan as neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.check.files import told_by_reader
from open3dsg.datasets.check.findings import Finding, finding
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.layouts import Reader
from open3dsg.datasets.scan import Frame, Problem, Scan
from open3dsg.datasets.sequence import FLIP_Y_AND_Z
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.pixels import PixelGrid

_LESS = "`observe` and `features dump` have fewer views"
_SAMPLE = 8  # frames whose depth is held against the mesh
_TOLERANCE = 0.2  # relative, as `observe` has it
_AGREES, _AGREES_BETTER = 0.3, 0.5  # shares of pixels
_FEWEST_PIXELS = 20
# Dataset -> what the quick look tells of every frame and file, or this module does. Not of the pictures of
# ScanNet: its reader leaves out frames whose pictures it refuses, and `_pictures` never sees them.
_TOLD: Mapping[str, frozenset[str]] = {
    "3rscan": frozenset((
        "mesh_missing", "texture_missing", "labels_missing", "labels_from_segments", "sequence_missing",
        "frame_count_differs", "frame_without_image", "frame_without_depth", "frame_without_pose",
        "picture_unreadable", "picture_size_differs", "extrinsic_not_identity", "relationship_object_missing",
        "relationship_self", "relationship_duplicate", "predicate_mismatch", "label_not_in_classes",
        "label_changes", "subgraph_duplicate", "scan_in_two_splits",
    )),
    "scannet": frozenset((
        "labels_missing", "sequence_missing", "axis_alignment_missing", "frames_with_holes",
        "frame_count_differs", "frame_without_pose", "depth_unit_unlikely",
    )),
}  # fmt: skip


def check_wholly(reader: Reader, root: Path, name: str) -> list[Finding]:
    """Read all of one scan and return what was found."""
    try:
        scan = reader.read(name)
    except UserError as error:
        return [finding("scan_unreadable", name, str(error), scan=name)]
    return [
        *_problems(name, [one for one in scan.problems if one.kind not in _TOLD[scan.dataset]]),
        *_pictures(root, scan),
        *_agreement(root, scan),
    ]


def _problems(name: str, problems: Sequence[Problem]) -> Iterator[Finding]:
    """Give a finding a kind of problem, with their number and the first."""
    for kind, count in sorted(Counter(problem.kind for problem in problems).items()):
        first = next(problem.detail for problem in problems if problem.kind == kind)
        yield finding("reader_problem", name, f"{count} {kind}, such as {first}", scan=name)


def _pictures(root: Path, scan: Scan) -> Iterator[Finding]:
    """Decode every picture; give a finding for each that is damaged or of another size than its camera."""
    with ImageReader(root) as reader:
        for frame in scan.frames:
            told = [_decode(reader, root, frame.image_uri, frame.image, None)]
            if frame.depth_uri is not None and frame.depth is not None:
                told.append(_decode(reader, root, frame.depth_uri, frame.depth, frame.depth_unit_m))
            yield from (replace(one, scan=scan.name) for one in told if one)


def _decode(
    reader: ImageReader, root: Path, uri: str, camera: PixelGrid, unit_m: float | None
) -> Finding | None:
    """Decode a photograph, or a depth picture where `unit_m` is given."""
    try:
        pixels = reader.read_image(uri) if unit_m is None else reader.read_depth_m(uri, unit_m)
    except BadFileError as error:
        kind, what = told_by_reader(error, root / uri, uri)
        return finding(kind, uri, what, cost=_LESS)
    height, width = pixels.shape[:2]
    if (width, height) != (camera.width, camera.height):
        what = f"{width} x {height} pixels, its camera is of {camera.width} x {camera.height}"
        return finding("picture_size_differs", uri, what)
    return None


def _agreement(root: Path, scan: Scan) -> Iterator[Finding]:
    """Hold the depth of some frames against the mesh."""
    frames = [frame for frame in scan.frames if frame.depth_uri is not None]
    if not frames or scan.cloud is None or not len(scan.cloud.xyz_m):
        return
    places = np.unique(np.linspace(0, len(frames) - 1, _SAMPLE).round().astype(int))
    chosen = [frames[place] for place in places]
    ratios = _ratios(root, scan.cloud.xyz_m, chosen, np.eye(4))
    where = f"{scan.name}: depth of {len(chosen)} frames"
    if len(ratios) >= _FEWEST_PIXELS and _agree(ratios) >= _AGREES:
        return
    flipped = _ratios(root, scan.cloud.xyz_m, chosen, FLIP_Y_AND_Z)
    if len(flipped) >= _FEWEST_PIXELS and _agree(flipped) >= _AGREES_BETTER:
        share = f"{_agree(flipped):.0%}"
        what = f"agrees with the mesh for {share} of the pixels once y and z of the camera are flipped"
        yield finding("camera_axes_differ", where, what, scan=scan.name)
        return
    median = float(np.median(ratios)) if len(ratios) >= _FEWEST_PIXELS else 1.0
    if len(ratios) >= _FEWEST_PIXELS and _agree(ratios / median) >= _AGREES_BETTER:
        what = f"is {median:.4g} times the distance of the mesh everywhere: it is in another unit"
        yield finding("depth_unit_unlikely", where, what, scan=scan.name)
        return
    if len(ratios) < _FEWEST_PIXELS:
        what = "cannot be held against the mesh: hardly any point of it is in view"
    else:
        what = f"agrees with the mesh for {_agree(ratios):.0%} of the pixels"
    yield finding("depth_disagrees", where, what, scan=scan.name)


def _agree(ratios: NDArray[np.float64]) -> float:
    return float(np.mean(np.abs(ratios - 1) <= _TOLERANCE))


def _ratios(
    root: Path, xyz_m: NDArray[np.float32], frames: Sequence[Frame], flip: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return measured depth over distance of the nearest point, (P,), for all pixels that have both."""
    parts = [np.empty(0)]
    with ImageReader(root) as reader:
        for frame in frames:
            if frame.depth_uri is None or frame.depth is None:
                continue
            try:
                depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
            except BadFileError:
                continue  # told when all pictures were decoded
            if depth_m.shape != (frame.depth.height, frame.depth.width):
                continue
            nearest_m = _nearest(xyz_m, frame.depth, frame.T_world_camera @ flip)
            both = (depth_m > 0) & np.isfinite(nearest_m)
            parts.append(depth_m[both] / nearest_m[both])
    return np.concatenate(parts)


def _nearest(
    xyz_m: NDArray[np.float32], grid: PixelGrid, T_world_camera: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the depth of the nearest point on each pixel, (height, width); infinity where there is none."""
    T_camera_world = np.linalg.inv(T_world_camera)
    x, y, z = T_camera_world[:3, :3] @ xyz_m.T.astype(np.float64) + T_camera_world[:3, 3:]
    front = z > 0.05
    x, y, z = x[front], y[front], z[front]
    column, row = np.rint(grid.fx * x / z + grid.cx), np.rint(grid.fy * y / z + grid.cy)
    inside = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    nearest = np.full((grid.height, grid.width), np.inf)
    pixels = row[inside].astype(np.int64) * grid.width + column[inside].astype(np.int64)
    np.minimum.at(nearest.reshape(-1), pixels, z[inside])
    return nearest
