"""Instances of synthetic rooms recovered from their true masks: ids shuffled, a tenth dropped or cut in two.

An instance counts where two frames at least show as many points of it as make a mask: what no two frames see
cannot be told from a stray mask. It is recovered where an instance of its own overlaps it by half (IoU 0.5).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from PIL import Image

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.layouts import open_reader
from open3dsg.datasets.scan import Frame
from open3dsg.datasets.synth.path import camera_path
from open3dsg.datasets.synth.render import Renderer
from open3dsg.datasets.synth.room import build_room
from open3dsg.datasets.synth.scanned import scan_mesh
from open3dsg.datasets.synth.write import Layout, write_rooms
from open3dsg.datasets.synth.write_3rscan import DEPTH, ThreeRScanLayout
from open3dsg.datasets.synth.write_scannet import ScanNetLayout
from open3dsg.geometry.mask_lifting import MaskLifter, visible_pixels
from open3dsg.geometry.mask_merging import merge_masks
from open3dsg.geometry.mask_thresholds import MergeThresholds
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.masks import MaskOptions, MergeMasks
from open3dsg.store.cloud import read_cloud
from open3dsg.store.frames import read_frames
from open3dsg.store.scans import find_scan
from tests.masks import best_overlaps, spoiled, write_mask

LIMITS = MergeThresholds()
FRAMES = 100


class Sightings:
    """In how many frames each instance shows enough points to make a mask."""

    def __init__(self, instance: NDArray[np.int32]) -> None:
        self._instance = instance
        self._frames = np.zeros(int(instance.max()) + 1, int)

    def add(self, points: NDArray[np.int32]) -> None:
        numbers = self._instance[points]
        self._frames += (
            np.bincount(numbers[numbers >= 0], minlength=len(self._frames)) >= LIMITS.min_mask_points
        )

    def seen(self) -> set[int]:
        return set(np.flatnonzero(self._frames >= LIMITS.min_masks).tolist())


def check_recovered(name: str, seen: set[int], true: NDArray[np.int32], found: NDArray[np.int32]) -> None:
    overlaps = best_overlaps(true, found)
    recovered = sum(overlaps[number] >= 0.5 for number in seen)
    print(  # noqa: T201  docs/masks.md quotes what `pytest -s` shows
        f"{name}: {recovered} of {len(seen)} recovered, {len(overlaps) - len(seen)} not seen twice;"
        f" {found.max() + 1} found; mean IoU {np.mean([overlaps[number] for number in seen]):.3f};"
        f" {(found >= 0).mean():.3f} of points"
    )
    assert recovered >= 0.9 * len(seen)
    assert len(seen) >= 0.9 * len(overlaps)
    assert found.max() + 1 <= 1.25 * len(overlaps)  # nor is the room in pieces


def test_a_room_is_recovered() -> None:
    room = build_room(400_000)
    renderer = Renderer(room)
    mesh = scan_mesh(room, renderer)
    xyz = mesh.vertices.astype(np.float32)
    rng = np.random.default_rng(4)
    lifter = MaskLifter(xyz, LIMITS.depth_tolerance_m, LIMITS.min_mask_points)
    sightings = Sightings(mesh.instance)
    for pose in camera_path(room, FRAMES, room.seed)[::2]:
        depth_m, instance = renderer.depth(pose, DEPTH)
        lifter.add(spoiled(instance + 1, rng), depth_m, DEPTH, pose)
        seen = visible_pixels(np.ascontiguousarray(xyz.T), depth_m, DEPTH, pose, LIMITS.depth_tolerance_m)
        sightings.add(seen[0])
    merged = merge_masks(xyz, mesh.normals.astype(np.float32), lifter.lifted(), LIMITS)
    check_recovered("a room", sightings.seen(), mesh.instance, merged.instance)


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "files"), [("3rscan", ThreeRScanLayout()), ("scannet", ScanNetLayout())])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_rooms_of_every_layout_are_recovered_from_files(
    database: psycopg.Connection[Any], tmp_path: Path, layout: str, files: Layout, seed: int
) -> None:
    masked = type(files)(masks=True)  # type: ignore[call-arg]
    write_rooms(tmp_path, masked, scans=1, seed=seed, frames=FRAMES, report=lambda _: None)
    reader = open_reader(layout, tmp_path, {})
    (name,) = reader.scan_names(None)
    Ingest(reader, layout, layout, str(tmp_path))(database, name)
    scan = find_scan(database, name)
    before = read_cloud(database, scan.scan_id, name)
    frames = read_frames(database, scan.scan_id)
    seen = _sightings(tmp_path, frames, before.xyz_m, before.instance)
    rng = np.random.default_rng(seed)
    for path in sorted((tmp_path / "masks" / name).iterdir()):
        write_mask(path, spoiled(np.asarray(Image.open(path)), rng))
    summary = MergeMasks(tmp_path / "masks", True, MaskOptions(), replace=True)(database, scan.key)
    lost = 1 if layout == "scannet" else 0  # its pose, and so the frame of one mask
    assert [problem.kind for problem in summary.problems] == ["mask_without_frame"] * lost
    after = read_cloud(database, scan.scan_id, name).instance
    numbers = np.where(after >= 0, after - after[after >= 0].min(), -1).astype(np.int32)
    check_recovered(f"{layout} {seed}", seen, before.instance, numbers)


def _sightings(
    root: Path, frames: list[Frame], xyz: NDArray[np.float32], instance: NDArray[np.int32]
) -> set[int]:
    sightings = Sightings(instance)
    with ImageReader(root) as images:
        for frame in frames:
            assert frame.depth_uri is not None
            assert frame.depth is not None
            depth_m = images.read_depth_m(frame.depth_uri, frame.depth_unit_m)
            columns = np.ascontiguousarray(xyz.T)
            pose, tolerance_m = frame.T_world_camera, LIMITS.depth_tolerance_m
            sightings.add(visible_pixels(columns, depth_m, frame.depth, pose, tolerance_m)[0])
    return sightings.seen()
