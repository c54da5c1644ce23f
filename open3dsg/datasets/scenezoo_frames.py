"""The frames of a scan that scenezoo reads: its cameras and poses, and where the pictures are.

scenezoo gives the pose and the colour camera of each frame (OpenCV's, pixel centres at whole numbers); the
pictures are listed by their heads, and both cameras are the colour camera at the picture's own size: depth is
registered to colour in all of these datasets. Poses come as world to camera and are inverted here.

Matterport3D counts the rows of its undistorted pictures from the lower edge (its data_organization.md), and
scenezoo 0.3.1 gives the principal point as it stands in the file. It is turned here: for a picture of 1,024
rows the published 509.202 is 513.798.

Left out and reported: `frames_without_pose`, `frames_not_extracted` (their pictures are in a video or stream
only; both counted in one line), `pose_not_finite`, `pose_not_rigid`, `pose_too_far`, `picture_unreadable`,
`intrinsics_unlikely`. Kept and reported: `frame_without_depth`. Reported of the scan: `sequence_missing`.
Where pictures are to blame that none is left, the scan fails.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from open3dsg.datasets.cameras import camera, fits, unlikely
from open3dsg.datasets.images import picture_size
from open3dsg.datasets.poses import Flaw, check_pose
from open3dsg.datasets.scan import Frame, Problem
from open3dsg.datasets.scenezoo_package import told_in_one_line
from open3dsg.errors import BadFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.datasets.scenezoo_sources import Pictures, Place
    from open3dsg.geometry.pixels import PixelGrid

_POSE = ("world_to_camera",)
_CAMERA = ("rgb_intrinsics", "world_to_camera")
_TWIN = re.compile(r"_i(?=\d+_\d+$)")  # Matterport's colour picture PANO_i0_3 has the depth picture PANO_d0_3


class FrameReader:
    """Lists the frames of one scan, collecting problems on the way."""

    def __init__(self, root: Path, place: Place, pictures: Pictures) -> None:
        """Prepare for one scan under `root`."""
        self.problems: list[Problem] = []
        self._root = root
        self._place = place
        self._pictures = pictures
        self._unusable: dict[str, str] = {}  # image or depth -> what is wrong with the first such picture

    def read(self, dataset: Any) -> tuple[Frame, ...]:
        """Return the frames, ascending, with the cameras of scenezoo's adapter `dataset`.

        Raises BadFileError where cameras or poses are missing or damaged, and where no picture can be used.
        """
        needs = self._filled(self._pictures.needs)
        if not (self._place.path / needs).exists():
            self._report("sequence_missing", f"no {needs}")
            return ()
        batch = self._batch(dataset, _POSE if self._pictures.sized_by_picture else _CAMERA)
        self._check_poses(batch)
        images = self._images(batch)
        with warnings.catch_warnings():  # of very many pixels: sizes are read, and no pixel
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if self._pictures.sized_by_picture:
                images = self._readable(batch.indices, images)
                there = np.array([path is not None for path in images], np.bool_)
                batch = self._batch(dataset, _CAMERA, indices=batch.indices[there])
                images = [path for path in images if path is not None]
            frames = [self._frame(batch, at, path) for at, path in enumerate(images) if path is not None]
        return self._left(frames)

    def _batch(self, dataset: Any, items: Sequence[str], **chosen: Any) -> Any:
        """Return what scenezoo knows of the frames, without their pictures."""
        room = {} if self._place.room is None else {"room_id": self._place.room}
        # Turned upright, a camera would not be that of the picture, which lies there as it was taken.
        options = {**self._pictures.options, **room, **chosen, "rotate_to_up": False}
        with told_in_one_line(f"{self._place.path}: frames"):
            return dataset.get_frames(self._place.scene, items=items, **options)

    def _check_poses(self, batch: Any) -> None:
        if absent := batch.source_frame_count - len(batch):
            detail = f"{absent} of {batch.source_frame_count} frames have no pose or camera, left out"
            self._report("frames_without_pose", detail)

    def _images(self, batch: Any) -> list[Path | None]:
        """Return the photograph of each frame, None where it is not there."""
        keys = self._keys(batch)
        images = [self._find(self._pictures.image, key) for key in keys]
        if lacking := images.count(None):
            where = self._filled(self._pictures.packed_in)
            hint = f"; they are only in {where}" if where else ""
            detail = f"{lacking} frames have no picture, first {keys[images.index(None)]}{hint}"
            self._report("frames_not_extracted", detail)
        return images

    def _readable(self, numbers: NDArray[np.int64], images: Sequence[Path | None]) -> list[Path | None]:
        """Return the photographs, None, reported, where one is damaged: scenezoo would stop at it."""
        pairs = zip(numbers.tolist(), images, strict=True)
        return [path if path and self._size(number, "image", path) else None for number, path in pairs]

    def _left(self, frames: Sequence[Frame | None]) -> tuple[Frame, ...]:
        """Return the frames that can be used; BadFileError where pictures are to blame that there are none.

        A scan that nothing is seen of would pass for one that is done.
        """
        left = sorted((frame for frame in frames if frame is not None), key=lambda frame: frame.number)
        with_depth = [frame for frame in left if frame.depth is not None]
        for part, what, usable in (("image", "frame", left), ("depth", "depth picture", with_depth)):
            if part in self._unusable and not usable:
                raise BadFileError(f"{self._unusable[part]}; no {what} of the scan can be used")
        return tuple(left)

    def _frame(self, batch: Any, at: int, image: Path) -> Frame | None:
        number = int(batch.indices[at])
        pose = check_pose(np.linalg.inv(batch.world_to_camera[at].astype(np.float64)))
        if isinstance(pose, Flaw):
            self._report_frame(pose.kind, number, pose.why)
            return None
        size = self._size(number, "image", image)
        if size is None:
            return None
        sizes = batch.image_sizes
        calibrated = size if sizes is None else (int(sizes[at, 0]), int(sizes[at, 1]))
        matrix = batch.rgb_intrinsics[at].astype(np.float64)
        if self._pictures.rows_go_up:
            matrix[1, 2] = calibrated[1] - 1 - matrix[1, 2]
        grid = self._grid(number, "image", image, _resized(matrix, calibrated, size), size)
        if grid is None:
            return None
        depth = self._find(self._pictures.depth, self._keys(batch)[at])
        depth_size = None if depth is None else self._size(number, "depth", depth)
        if depth is not None and depth_size is not None:
            resized = _resized(matrix, calibrated, depth_size)
            depth_grid = self._grid(number, "depth", depth, resized, depth_size)
            if depth_grid is not None:
                unit_m = self._pictures.depth_unit_m
                return Frame(number, self._uri(image), grid, pose, self._uri(depth), depth_grid, unit_m)
        self._report_frame("frame_without_depth", number, "no depth picture that can be used")
        return Frame(number, self._uri(image), grid, pose)

    def _keys(self, batch: Any) -> Sequence[str]:
        keys: Sequence[str] = batch.frame_keys or [str(number) for number in batch.indices]
        return keys

    def _find(self, patterns: Sequence[str], key: str) -> Path | None:
        """Return the first of the files that are there."""
        paths = (self._place.path / self._filled(pattern, key) for pattern in patterns)
        return next((path for path in paths if path.is_file()), None)

    def _filled(self, pattern: str, key: str = "") -> str:
        stem = PurePosixPath(key).stem
        last = key.rpartition("/")[2]
        twin = _TWIN.sub("_d", stem)
        return pattern.format(scan=self._place.path.name, key=key, stem=stem, last=last, twin=twin)

    def _size(self, number: int, part: str, path: Path) -> tuple[int, int] | None:
        """Return width and height as the head of a picture has them; None, reported, where it is damaged."""
        what = self._uri(path)
        size = picture_size(path)
        if isinstance(size, str):
            self._report_picture("picture_unreadable", number, part, f"{what} {size}")
            return None
        return size

    def _grid(
        self, number: int, part: str, path: Path, matrix: NDArray[np.float64], size: tuple[int, int]
    ) -> PixelGrid | None:
        if not fits(matrix, *size):
            told = unlikely(matrix, *size, self._uri(path))
            self._report_picture("intrinsics_unlikely", number, part, told)
            return None
        return camera(matrix, *size, f"{self._place.name}, frame {number}: its camera")

    def _uri(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _report(self, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind, f"{self._place.name}: {detail}"))

    def _report_frame(self, kind: str, number: int, detail: str) -> None:
        self.problems.append(Problem(kind, f"{self._place.name}, frame {number}: {detail}"))

    def _report_picture(self, kind: str, number: int, part: str, detail: str) -> None:
        self._report_frame(kind, number, detail)
        self._unusable.setdefault(part, self.problems[-1].detail)


def _resized(matrix: NDArray[np.float64], of: tuple[int, int], to: tuple[int, int]) -> NDArray[np.float64]:
    """Return the camera of pictures of the size `of` for the same pictures at the size `to`.

    Edges of pictures fall on each other; pixel centres at whole numbers shift by half a pixel in each.
    """
    scale = np.array(to) / np.array(of)
    resized = matrix.copy()
    resized[:2] *= scale[:, None]
    resized[:2, 2] += (scale - 1) / 2
    return resized
