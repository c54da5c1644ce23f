"""How a recording is to be read, where its files alone do not say."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.rgbd_cameras import parse_intrinsics
from open3dsg.datasets.rgbd_files import Places
from open3dsg.datasets.rgbd_poses import check_rows
from open3dsg.datasets.sequence import FLIP_Y_AND_Z, CameraAxes
from open3dsg.errors import UserError

PosesMap = Literal["camera-to-world", "world-to-camera"]
WorldUp = Literal["x", "y", "z", "-x", "-y", "-z"]

MILLIMETRES = 1000.0

_Rows = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
_ROTATIONS: dict[str, _Rows] = {  # that bring each axis to z; one of the others stays
    "x": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "-x": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "-y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
}


@dataclass(frozen=True)
class RgbdOptions:
    """The options of `ingest rgbd`; None is what is usual, and may be questioned where it does not fit.

    `colour`, `depth` and `poses` name parts of a recording; `depth_scale` is in units a metre.
    """

    colour: str | None = None
    depth: str | None = None
    poses: str | None = None
    intrinsics: str | None = None
    pose_rows: str | None = None
    poses_map: PosesMap | None = None
    camera_axes: CameraAxes | None = None
    world_up: WorldUp | None = None
    depth_scale: float | None = None
    max_depth_m: float = 5.0
    voxel_m: float = 0.02
    every: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be, naming the option as the command line spells it."""
        for option, name in (("--colour", self.colour), ("--depth", self.depth), ("--poses", self.poses)):
            if name is not None and (PurePath(name).is_absolute() or ".." in PurePath(name).parts):
                raise UserError(f"{option} is {name!r}: give its path within the recording, such as cam0/rgb")
        for option, value, values in (
            ("--poses-map", self.poses_map, get_args(PosesMap)),
            ("--camera-axes", self.camera_axes, get_args(CameraAxes)),
            ("--world-up", self.world_up, get_args(WorldUp)),
        ):
            if value not in (None, *values):
                raise UserError(f"{option} is {value!r}: give {', '.join(values)}")
        for option, number, least, most in (
            ("--depth-scale", self.units_per_metre, 1e-3, 1e6),
            ("--max-depth", self.max_depth_m, 1e-3, 1e3),
            ("--voxel", self.voxel_m, 1e-3, 1.0),
        ):
            if not least <= number <= most:
                raise UserError(f"{option} is {number:g}: give a number from {least:g} to {most:g}")
        if self.every < 1:
            raise UserError(f"--every is {self.every}: give 1 or more")
        if self.intrinsics is not None:
            parse_intrinsics(self.intrinsics)
        check_rows(self.pose_rows)

    @property
    def usual_spelt_out(self) -> dict[str, Any]:
        """Return the options, None as the value it stands for: to give the usual value changes nothing."""
        usual: dict[str, str | float] = {
            "poses_map": "camera-to-world",
            "camera_axes": "y-down",
            "world_up": "z",
            "depth_scale": MILLIMETRES,
        }
        return {name: usual.get(name) if value is None else value for name, value in asdict(self).items()}

    @property
    def places(self) -> Places:
        """Return the names of the recording's parts."""
        return Places(self.colour, self.depth, self.poses)

    @property
    def units_per_metre(self) -> float:
        """Return the unit of depth."""
        return MILLIMETRES if self.depth_scale is None else self.depth_scale

    def pose(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return T_world_camera (4, 4), z up and the camera OpenCV's, of a pose as the files have it."""
        T_files_camera = np.asarray(np.linalg.inv(pose) if self.poses_map == "world-to-camera" else pose)
        T_world_files = np.eye(4)
        T_world_files[:3, :3] = _ROTATIONS[self.world_up or "z"]
        turned: NDArray[np.float64] = T_world_files @ T_files_camera
        return turned @ FLIP_Y_AND_Z if self.camera_axes == "y-up" else turned
