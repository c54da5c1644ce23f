"""Rooms as ScanNet.

    OUT/
      scannetv2_train.txt, scannetv2_val.txt, scannetv2_test.txt, scannetv2-labels.combined.tsv
      scans/sceneNNNN_00/
        sceneNNNN_00.txt                             axis alignment, cameras, number of frames
        sceneNNNN_00_vh_clean_2.ply, ..._vh_clean_2.labels.ply
        sceneNNNN_00_vh_clean_2.0.010000.segs.json
        sceneNNNN_00.aggregation.json, sceneNNNN_00_vh_clean.aggregation.json
        sceneNNNN_00.sens                            with `sens`
      scans_test/sceneNNNN_00/                       .txt, _vh_clean_2.ply and .sens alone
      scannet_2d/                                    without `sens`
        intrinsics.txt                               of all frames of all scans
        sceneNNNN_00/color/0.jpg, depth/0.png, pose/0.txt    numbers 0, 20, 40, ...

With `masks` there is masks/sceneNNNN_00/0.png, 20.png, ... as well: see masks.py.

The split files come last, that of the training split the very last. Of two or more scans the last is the
test split's; of every five others one is of the validation split. As a scanner leaves them, meshes and poses
stand turned about z and shifted in the world: axisAlignment brings the floor to z = 0 and the walls along the
axes. The sensor is held level, one frame of a scan has lost its pose, and nobody annotated the ceiling.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from open3dsg.datasets.synth import formats_scannet
from open3dsg.datasets.synth.formats import colour_jpeg, grey_png, millimetres, write_json
from open3dsg.datasets.synth.formats_sens import SensFile
from open3dsg.datasets.synth.masks import MASKS, MaskFolder
from open3dsg.datasets.synth.mesh import yaw_matrix
from open3dsg.datasets.synth.path import camera_path
from open3dsg.datasets.synth.render import Renderer
from open3dsg.datasets.synth.scanned import scan_mesh
from open3dsg.datasets.synth.scannet_labels import scannet_word
from open3dsg.datasets.synth.write import Order, Sightings, Written, is_held_out
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from open3dsg.datasets.synth.room import Room
    from open3dsg.datasets.synth.scanned import ScannedMesh

_FRAME_STEP = 20  # the published preprocessing keeps every 20th frame, under its number in the stream


class _Camera(NamedTuple):
    """How frames are written: the grids of photograph and depth picture, and the step between numbers."""

    colour: PixelGrid
    depth: PixelGrid
    step: int


# The real sensor; from its frames those of scannet_2d are shrunk.
_SENSOR = _Camera(
    PixelGrid(1296, 968, 1170.187988, 1170.187988, 647.75, 483.75),
    PixelGrid(640, 480, 577.870605, 577.870605, 319.5, 239.5),
    step=1,
)
_FRAME = PixelGrid(320, 240, 288.9353025, 288.9353025, 159.5, 119.5)
_PICTURES = _Camera(_FRAME, _FRAME, _FRAME_STEP)
# In .sens files the pictures have half the real size.
_STREAM = _Camera(PixelGrid(648, 484, 585.093994, 585.093994, 323.625, 241.625), _FRAME, step=1)

_MOST_SCANS = 10_000
_UNANNOTATED = frozenset({"ceiling"})
# The path holds the sensor as in 3RScan, the world's up at the picture's left: this turns it level.
_T_UPRIGHT_LEVEL = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@dataclass(frozen=True)
class ScanNetLayout:
    """ScanNet's files; frames as the pictures of scannet_2d, or each scan's as one .sens file; masks too."""

    sens: bool = False
    masks: bool = False

    @property
    def request(self) -> Mapping[str, Any]:
        """As `Layout` says."""
        return {"layout": "scannet", "sens": self.sens, "masks": self.masks}

    def scan_name(self, _seed: int, index: int, /) -> str:
        """Name of scan number `index`, whatever the seed; four digits make 10,000 scans the most."""
        if index >= _MOST_SCANS:
            raise UserError(f"--scans: ScanNet's names have four digits, so {_MOST_SCANS} are the most")
        return f"scene{index:04d}_00"

    def write_scan(self, root: Path, room: Room, order: Order) -> Written:
        """Write one scan below `root`: its folder in scans or scans_test, and one in scannet_2d."""
        split = _split(order)
        scan = root / ("scans_test" if split == "test" else "scans") / order.name
        pictures = root / "scannet_2d" / order.name
        masks = MaskFolder(root / MASKS / order.name, room.seed) if self.masks else None
        folders = [*([masks.folder] if masks else []), *([] if self.sens else [pictures]), scan]
        for folder in folders:
            folder.mkdir(parents=True)
        renderer = Renderer(room)
        mesh = scan_mesh(room, renderer)
        words = None if split == "test" else _annotated(room)
        T_aligned_scan, T_scan_world = _frames_of(room)
        _write_mesh(scan, mesh, T_scan_world, words)
        _write_facts(scan, room, order.frames, None if words is None else T_aligned_scan, self.sens)
        poses = camera_path(room, order.frames, room.seed) @ _T_UPRIGHT_LEVEL
        with closing(_stream(scan, order.frames) if self.sens else _Pictures(pictures)) as sink:
            camera = _STREAM if self.sens else _PICTURES
            seen = _write_frames(sink, masks, renderer, poses, T_scan_world, camera)
        return Written(
            name=order.name,
            split=split,
            folders=[folder.relative_to(root).as_posix() for folder in folders],
            labels=list((words or {}).values()),
            seen=seen.well_seen(words or {}),
            points=len(mesh.vertices),
        )

    def write_metadata(self, out: Path, written: Sequence[Written]) -> None:
        """Write the label table, the cameras of scannet_2d and the lists of scans by split."""
        words = [word for scan in written for word in scan.labels]
        (out / formats_scannet.LABEL_TABLE).write_bytes(formats_scannet.label_table(words))
        if not self.sens:
            (out / "scannet_2d" / "intrinsics.txt").write_bytes(formats_scannet.intrinsics_text(_FRAME))
        for split in ("test", "val", "train"):
            names = "".join(f"{scan.name}\n" for scan in written if scan.split == split)
            (out / f"scannetv2_{split}.txt").write_bytes(names.encode())


def _split(order: Order) -> str:
    if order.scans > 1 and order.index == order.scans - 1:
        return "test"
    return "val" if is_held_out(order.index) else "train"


def _annotated(room: Room) -> dict[int, str]:
    """ScanNet's word of each annotated instance, by its number in the room."""
    return {number: scannet_word(label) for number, label in room.labels.items() if label not in _UNANNOTATED}


def _frames_of(room: Room) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """T_aligned_scan (4, 4), to the middle of the floor with the walls along the axes, and T_scan_world."""
    T_aligned_world = np.eye(4)
    T_aligned_world[:3, :3] = room.T_world_room[:3, :3].T
    T_aligned_world[2, 3] = -room.T_world_room[2, 3]
    rng = np.random.default_rng([0x5CA7, room.seed])
    T_aligned_scan = np.eye(4)
    T_aligned_scan[:3, :3] = yaw_matrix(float(rng.uniform(-np.pi, np.pi)))
    T_aligned_scan[:3, 3] = -T_aligned_scan[:3, :3] @ rng.uniform([2.0, 2.0, 0.05], [5.0, 5.0, 0.8])
    return T_aligned_scan, np.linalg.inv(T_aligned_scan) @ T_aligned_world


def _write_mesh(
    scan: Path, mesh: ScannedMesh, T_scan_world: NDArray[np.float64], words: Mapping[int, str] | None
) -> None:
    """Write the mesh and, unless `words` is None, its annotations."""
    stem = f"{scan.name}_vh_clean_2"
    vertices = mesh.vertices @ T_scan_world[:3, :3].T + T_scan_world[:3, 3]
    rgb = formats_scannet.vertex_colours(mesh)
    formats_scannet.write_mesh(scan / f"{stem}.ply", vertices, rgb, mesh.triangles)
    if words is None:
        return
    nyu40 = formats_scannet.nyu40_of(mesh, words)
    rgb = formats_scannet.nyu40_colours(nyu40)
    formats_scannet.write_mesh(scan / f"{stem}.labels.ply", vertices, rgb, mesh.triangles, nyu40)
    write_json(scan / f"{stem}.0.010000.segs.json", formats_scannet.segments_of(scan.name, mesh))
    for ending, full_mesh in (("", False), ("_vh_clean", True)):
        content = formats_scannet.aggregation_of(scan.name, mesh, words, full_mesh=full_mesh)
        write_json(scan / f"{scan.name}{ending}.aggregation.json", content)


def _write_facts(
    scan: Path, room: Room, frames: int, T_aligned_scan: NDArray[np.float64] | None, sens: bool
) -> None:
    camera, count = (_STREAM, frames) if sens else (_SENSOR, frames * _FRAME_STEP)
    facts = formats_scannet.facts_of(camera.colour, camera.depth, count, room.kind, T_aligned_scan)
    (scan / f"{scan.name}.txt").write_bytes(facts)


class _Sink(Protocol):
    def add(
        self, number: int, T_scan_camera: NDArray[np.float64], jpeg: bytes, depth_mm: NDArray[np.uint16]
    ) -> None: ...
    def close(self) -> None: ...


def _stream(scan: Path, frames: int) -> _Sink:
    return SensFile(scan / f"{scan.name}.sens", _STREAM.colour, _STREAM.depth, frames)


class _Pictures:
    """Frames as loose files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in ("color", "depth", "pose"):
            (folder / kind).mkdir()

    def add(
        self, number: int, T_scan_camera: NDArray[np.float64], jpeg: bytes, depth_mm: NDArray[np.uint16]
    ) -> None:
        (self._folder / "color" / f"{number}.jpg").write_bytes(jpeg)
        (self._folder / "depth" / f"{number}.png").write_bytes(grey_png(depth_mm))
        (self._folder / "pose" / f"{number}.txt").write_bytes(formats_scannet.pose_text(T_scan_camera))

    def close(self) -> None:
        """Nothing is held open."""


def _write_frames(
    sink: _Sink,
    masks: MaskFolder | None,
    renderer: Renderer,
    poses: NDArray[np.float64],
    T_scan_world: NDArray[np.float64],
    camera: _Camera,
) -> Sightings:
    """Write all frames at T_world_camera `poses` (F, 4, 4); the one in the middle has lost its pose, and what
    it shows is not counted as seen.
    """
    lost = len(poses) // 2 if len(poses) > 1 else None
    sightings = Sightings()
    for index, pose in enumerate(poses):
        photo = renderer.frame(pose, camera.colour)
        if masks:
            masks.add(str(index * camera.step), photo.instance)
        depth_m, instance = renderer.depth(pose, camera.depth)
        T_scan_camera = np.full((4, 4), -np.inf) if index == lost else T_scan_world @ pose
        sink.add(index * camera.step, T_scan_camera, colour_jpeg(photo.rgb), millimetres(depth_m))
        if index != lost:
            sightings.add(instance)
    return sightings
