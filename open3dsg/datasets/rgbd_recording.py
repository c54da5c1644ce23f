"""One recording, read frame by frame and fused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.images import ImageReader, picture_size
from open3dsg.datasets.poses import Flaw
from open3dsg.datasets.rgbd_cameras import Cameras, Size, find_cameras
from open3dsg.datasets.rgbd_check import SCALES, Reading, check_depth_scale, check_upright, check_views
from open3dsg.datasets.rgbd_files import POSE_PLACES, Listing, Picture, find_part, list_pictures
from open3dsg.datasets.rgbd_options import PosesMap, RgbdOptions
from open3dsg.datasets.rgbd_poses import Poses, other_rows, read_poses
from open3dsg.datasets.scan import BACKGROUND, Cloud, Frame, Problem
from open3dsg.datasets.sequence import CameraAxes
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.fusion import Fusion
from open3dsg.geometry.pixels import PixelGrid

_USUAL = (None, "camera-to-world", "y-down")


class RecordingReader:
    """Reads one recording, collecting problems on the way."""

    def __init__(self, root: Path, folder: Path, options: RgbdOptions) -> None:
        """Prepare to read `folder`, directly below `root`."""
        self.problems: list[Problem] = []
        self._root = root
        self._folder = folder
        self._options = options

    def read(self) -> tuple[Cloud, tuple[Frame, ...]]:
        """Return the fused cloud, and the frames ascending by number; see `Rgbd.read`."""
        options = self._options
        listing = list_pictures(self._folder, options.places)
        self.problems += listing.problems
        poses_at = find_part(self._folder, options.poses, POSE_PLACES, "poses", "--poses")
        poses = read_poses(poses_at, listing, options.pose_rows)
        frames = self._frames(listing.pictures[:: options.every], poses)
        with ImageReader(self._root) as images:
            self._check(images, frames, poses_at, listing)
            return self._fused(images, frames)

    def _frames(self, pictures: Sequence[Picture], poses: Poses) -> list[Frame]:
        """Return the frames that have a photograph and a pose. Raises BadFileError where there is none."""
        sizes = self._sizes([picture.colour for picture in pictures], ("JPEG", "PNG"), "picture_unreadable")
        of_depth = [picture.depth for picture in pictures if picture.depth is not None]
        depth_sizes = self._sizes(of_depth, ("PNG", "PPM"), "frame_without_depth")
        cameras = self._cameras(sizes.values(), depth_sizes.values())
        usual = cameras.image.width, cameras.image.height
        frames: list[Frame] = []
        for picture in pictures:
            T_world_camera = self._pose(picture, poses)
            size = sizes.get(picture.colour)
            if T_world_camera is None or size is None:
                continue
            if size != usual:
                self._report_size("picture_size_differs", picture.colour, size, usual)
                continue
            frame = Frame(picture.number, self._uri(picture.colour), cameras.image, T_world_camera)
            frames.append(self._with_depth(frame, picture, depth_sizes, cameras.depth))
        if not any(frame.depth_uri for frame in frames):
            self._refuse("frame")
        return frames

    def _cameras(self, sizes: Iterable[Size], depth_sizes: Iterable[Size]) -> Cameras:
        """Return the cameras of the sizes that most pictures have."""
        usual = [Counter(of_kind).most_common(1) for of_kind in (sizes, depth_sizes)]
        if not all(usual):
            self._refuse("depth picture" if usual[0] else "photograph")
        [[(size, _)], [(depth_size, _)]] = usual
        given = self._options.intrinsics
        cameras = find_cameras((self._folder, self._root), given, size, depth_size)
        if cameras.note is not None:
            self._report("camera_scaled", cameras.note)
        return cameras

    def _sizes(self, paths: Sequence[Path], formats: tuple[str, ...], kind: str) -> dict[Path, Size]:
        """Return width and height as the heads of pictures have them; those that have none are reported."""
        sizes: dict[Path, Size] = {}
        for path in paths:
            size = picture_size(path, formats)
            if isinstance(size, str):
                self._report(kind, f"{self._uri(path)} {size}")
            else:
                sizes[path] = size
        return sizes

    def _pose(self, picture: Picture, poses: Poses) -> NDArray[np.float64] | None:
        pose = poses.get(picture.number)
        if pose is None:
            self._report("frame_without_pose", f"{self._uri(picture.colour)}: no pose, left out")
            return None
        if isinstance(pose, Flaw):
            self._report(pose.kind, f"{self._uri(picture.colour)}: {pose.why}")
            return None
        return self._options.pose(pose)

    def _with_depth(
        self, frame: Frame, picture: Picture, sizes: Mapping[Path, Size], grid: PixelGrid
    ) -> Frame:
        """Return the frame with its depth picture, or as it is, reported, where that cannot be used."""
        path = picture.depth
        if path is None:
            self._report("frame_without_depth", f"{frame.image_uri} has no depth picture")
        elif path in sizes and sizes[path] != (grid.width, grid.height):
            self._report_size("frame_without_depth", path, sizes[path], (grid.width, grid.height))
        elif path in sizes:
            unit_m = 1 / self._options.units_per_metre
            return replace(frame, depth_uri=self._uri(path), depth=grid, depth_unit_m=unit_m)
        return frame

    def _check(self, images: ImageReader, frames: Sequence[Frame], poses_at: Path, listing: Listing) -> None:
        """Hold depth, poses and axes against each other before anything is fused."""
        options = self._options
        with_depth = [frame for frame in frames if frame.depth_uri is not None]
        check_depth_scale(images, with_depth, options.units_per_metre)
        given = Reading("", _by_number(frames), options.units_per_metre)
        told = (
            check_views(images, with_depth, given, lambda: self._others(given, poses_at, listing)),
            check_upright(self._folder.name, frames) if options.world_up is None else None,
        )
        self.problems += [problem for problem in told if problem is not None]

    def _others(self, given: Reading, poses_at: Path, listing: Listing) -> Iterator[Reading]:
        """Give the other readings of the recording: those of options that the user left open."""
        options = self._options
        scales = SCALES if options.depth_scale is None else ()
        for scale in scales:
            yield Reading(f"--depth-scale {scale:g}", given.poses, scale)
        maps = get_args(PosesMap) if options.poses_map is None else (options.poses_map,)
        axes = get_args(CameraAxes) if options.camera_axes is None else (options.camera_axes,)
        rows = (None, *other_rows(poses_at, listing)) if options.pose_rows is None else (options.pose_rows,)
        for row, one_map, one_axes in product(rows, maps, axes):
            other = replace(options, pose_rows=row, poses_map=one_map, camera_axes=one_axes)
            named = (("--pose-rows", row), ("--poses-map", one_map), ("--camera-axes", one_axes))
            changed = [f"{name} {value}" for name, value in named if value not in _USUAL]
            poses = {
                number: other.pose(pose)
                for number, pose in read_poses(poses_at, listing, row).items()
                if not isinstance(pose, Flaw)
            }
            yield Reading(" ".join(changed), poses, given.units_per_metre)

    def _fused(self, images: ImageReader, frames: Sequence[Frame]) -> tuple[Cloud, tuple[Frame, ...]]:
        """Return the cloud and the frames whose pictures could be decoded."""
        fusion = Fusion(self._options.voxel_m, self._options.max_depth_m)
        added = [self._added(fusion, images, frame) for frame in frames]
        left = tuple(frame for frame in added if frame is not None)
        fused = fusion.cloud()
        if not any(frame.depth_uri for frame in left):
            self._refuse("frame")
        if not len(fused.xyz_m):
            raise UserError(
                f"{self._folder}: none of its depth pictures measured anything within"
                f" --max-depth {self._options.max_depth_m:g} (metres) that its photographs show"
            )
        background = np.full(len(fused.xyz_m), BACKGROUND, np.int32)
        return Cloud(fused.xyz_m, fused.rgb, background, fused.normals, "frames"), left

    def _added(self, fusion: Fusion, images: ImageReader, frame: Frame) -> Frame | None:
        """Add one frame; return it, without depth or not at all where its pictures are damaged."""
        try:
            image = images.read_image(frame.image_uri)
        except BadFileError as error:
            self._report("picture_unreadable", str(error))
            return None
        if frame.depth_uri is None or frame.depth is None:
            return frame
        try:
            depth_m = images.read_depth_m(frame.depth_uri, frame.depth_unit_m)
        except BadFileError as error:
            self._report("frame_without_depth", str(error))
            return replace(frame, depth_uri=None, depth=None)
        fusion.add(image, frame.image, depth_m, frame.depth, frame.T_world_camera)
        return frame

    def _refuse(self, what: str) -> NoReturn:
        """Raise BadFileError with the reason that most often left something out."""
        kinds = Counter(problem.kind for problem in self.problems)
        reason = f"{self._folder.name}: there is none"
        if kinds:
            most, _count = kinds.most_common(1)[0]
            reason = next(problem.detail for problem in self.problems if problem.kind == most)
        raise BadFileError(f"{reason}; no {what} of the recording can be used")

    def _report(self, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind, detail))

    def _report_size(self, kind: str, path: Path, size: Size, usual: Size) -> None:
        detail = f"{self._uri(path)} is {size[0]}x{size[1]} pixels, most are {usual[0]}x{usual[1]}"
        self._report(kind, detail)

    def _uri(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def _by_number(frames: Sequence[Frame]) -> dict[int, NDArray[np.float64]]:
    return {frame.number: frame.T_world_camera for frame in frames}
