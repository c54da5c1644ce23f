"""The RGB-D sequence of a 3RScan scan: its frames, listed without decoding a picture.

    NAME/sequence/ or NAME/sequence.zip
      _info.txt                  `key = value` lines: picture sizes, 4x4 intrinsics row by row, m_depthShift
      frame-000000.color.jpg     photograph
      frame-000000.depth.pgm     depth, 16 bits; divided by m_depthShift (1000) it is metres
      frame-000000.pose.txt      4x4, camera to world, metres, row by row

Both pictures of a frame share the pose: the dataset delivers depth aligned with colour. The intrinsics put
the centre of pixel 0, 0 at 0.0, 0.0; the published numbers show it, those of the depth picture being those
of the photograph times (width - 1) / (width - 1).

Left out and reported: `frame_without_image`, `frame_without_pose`, `pose_unreadable` (not 16 numbers),
`pose_not_finite` (NaN and -inf do occur: tracking was lost), `pose_not_rigid`, `pose_too_far` (over 100 km).
Kept and reported:
`frame_without_depth`. Reported of the sequence: `sequence_missing`, `frame_count_differs` (m_frames.size
against the photographs), `extrinsic_not_identity` (a camera that is not where the pose says).
"""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.cameras import camera
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.poses import Flaw, parse_pose
from open3dsg.datasets.scan import Frame, Problem
from open3dsg.errors import BadFileError
from open3dsg.geometry.pixels import PixelGrid

CameraAxes = Literal["y-down", "y-up"]

INFO = "_info.txt"
FRAME_FILE = re.compile(r"frame-(\d+)\.(color(?=\.jpg|\.png)|depth(?=\.pgm|\.png)|pose(?=\.txt))\.\w+")
FLIP_Y_AND_Z = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SequenceInfo:
    """What `_info.txt` says: the cameras, the unit of depth, and how many frames there should be."""

    image: PixelGrid
    depth: PixelGrid
    depth_unit_m: float
    frames: int | None


def read_sequence(
    root: Path, name: str, camera_axes: CameraAxes
) -> tuple[tuple[Frame, ...], tuple[Problem, ...]]:
    """Return the frames of scan `name` under `root`, ascending by number, and what was wrong with them.

    Raises BadFileError for a damaged zip file, and for an `_info.txt` that is missing or lacks a key.
    """
    with ImageReader(root) as reader:
        files = list_files(reader, root, name)
        if not files:
            detail = f"{name}: neither sequence/ nor sequence.zip holds a file"
            return (), (Problem("sequence_missing", detail),)
        return read_frames(reader, name, files, camera_axes)


def read_frames(
    reader: ImageReader, name: str, files: Mapping[str, str], camera_axes: CameraAxes
) -> tuple[tuple[Frame, ...], tuple[Problem, ...]]:
    """Return the frames that `files` (file name -> URI) of scan `name` make up; see `read_sequence`."""
    return _FrameReader(reader, name, files, camera_axes).read()


def list_files(reader: ImageReader, root: Path, name: str) -> dict[str, str]:
    """Return file name -> URI, of the unpacked sequence where it has frames, else of the zip file."""
    folder = root / name / "sequence"
    unpacked: dict[str, str] = {}
    if folder.is_dir():
        unpacked = {path.name: f"{name}/sequence/{path.name}" for path in folder.iterdir()}
    if any(FRAME_FILE.fullmatch(file) for file in unpacked) or not folder.with_suffix(".zip").is_file():
        return unpacked
    uri = f"{name}/sequence.zip"
    return {path.rpartition("/")[2]: f"{uri}!{path}" for path in reader.zip_members(uri)}


class _FrameReader:
    def __init__(self, reader: ImageReader, name: str, files: Mapping[str, str], axes: CameraAxes) -> None:
        self._reader = reader
        self._name = name
        self._files = files
        self._flip = axes == "y-up"
        self._problems: list[Problem] = []

    def read(self) -> tuple[tuple[Frame, ...], tuple[Problem, ...]]:
        info, problems = read_info(self._reader, self._name, self._files)
        self._problems.extend(problems)
        by_number: dict[int, dict[str, str]] = defaultdict(dict)
        for file, uri in self._files.items():
            if matched := FRAME_FILE.fullmatch(file):
                by_number[int(matched[1])][matched[2]] = uri
        images = sum("color" in uris for uris in by_number.values())
        if info.frames is not None and info.frames != images:
            detail = f"{self._name}: m_frames.size is {info.frames}, there are {images} photographs"
            self._problems.append(Problem("frame_count_differs", detail))
        frames = [self._frame(number, uris, info) for number, uris in sorted(by_number.items())]
        return tuple(frame for frame in frames if frame is not None), tuple(self._problems)

    def _report(self, kind: str, number: int, detail: str) -> None:
        self._problems.append(Problem(kind, f"{self._name}, frame {number:06d}: {detail}"))

    def _frame(self, number: int, uris: dict[str, str], info: SequenceInfo) -> Frame | None:
        if "color" not in uris:
            self._report("frame_without_image", number, "no photograph, left out")
            return None
        if "pose" not in uris:
            self._report("frame_without_pose", number, "no pose, left out")
            return None
        T_world_camera = self._pose(number, uris["pose"])
        if T_world_camera is None:
            return None
        if "depth" not in uris:
            self._report("frame_without_depth", number, "no depth picture")
        return Frame(
            number=number,
            image_uri=uris["color"],
            image=info.image,
            T_world_camera=T_world_camera,
            depth_uri=uris.get("depth"),
            depth=info.depth if "depth" in uris else None,
            depth_unit_m=info.depth_unit_m,
        )

    def _pose(self, number: int, uri: str) -> NDArray[np.float64] | None:
        pose = parse_pose(self._reader.read_bytes(uri))
        if isinstance(pose, Flaw):
            self._report(pose.kind, number, pose.why)
            return None
        return pose @ FLIP_Y_AND_Z if self._flip else pose


def read_info(
    reader: ImageReader, name: str, files: Mapping[str, str]
) -> tuple[SequenceInfo, tuple[Problem, ...]]:
    """Return what the `_info.txt` among `files` (file name -> URI) says, and what is odd about it.

    Raises BadFileError where it is missing, lacks a key or says what cannot be.
    """
    if INFO not in files:
        raise BadFileError(f"{name}: the sequence holds no {INFO}: fetch it again")
    uri = files[INFO]
    text = reader.read_bytes(uri).decode("utf-8", "replace")
    entries = {
        key.strip(): value.split()
        for key, mark, value in (line.partition("=") for line in text.splitlines())
        if mark
    }
    problems: list[Problem] = []
    for picture in ("Color", "Depth"):
        key = f"m_calibration{picture}Extrinsic"
        if key in entries and not np.allclose(_numbers(entries, key, 16, uri), np.eye(4).ravel(), atol=1e-6):
            detail = f"{name}: {key} is not the identity, and is not applied"
            problems.append(Problem("extrinsic_not_identity", detail))
    shift = _numbers(entries, "m_depthShift", 1, uri)[0]
    if shift <= 0:
        raise BadFileError(f"{uri}: 'm_depthShift' is {shift:g}, it must be above 0")
    frames = int(_numbers(entries, "m_frames.size", 1, uri)[0]) if "m_frames.size" in entries else None
    cameras = _intrinsics(entries, "Color", uri), _intrinsics(entries, "Depth", uri)
    return SequenceInfo(*cameras, 1 / shift, frames), tuple(problems)


def _intrinsics(entries: dict[str, list[str]], picture: str, uri: str) -> PixelGrid:
    [width] = _numbers(entries, f"m_{picture.lower()}Width", 1, uri)
    [height] = _numbers(entries, f"m_{picture.lower()}Height", 1, uri)
    matrix = _numbers(entries, f"m_calibration{picture}Intrinsic", 16, uri)
    if not (width >= 1 and height >= 1 and matrix[0] > 0 and matrix[5] > 0):
        raise BadFileError(f"{uri}: size and focal lengths of the {picture.lower()} picture must be above 0")
    return camera(np.reshape(matrix, (4, 4)), int(width), int(height), uri)


def _numbers(entries: dict[str, list[str]], key: str, count: int, uri: str) -> list[float]:
    """Return the `count` finite numbers of `key`."""
    if key not in entries:
        raise BadFileError(f"{uri}: {key!r} is missing")
    try:
        values = [float(word) for word in entries[key]]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        found = textwrap.shorten(" ".join(entries[key]), 100, placeholder=" ...")
        raise BadFileError(f"{uri}: {key!r} must be {count} finite numbers, is {found!r}")
    return values
