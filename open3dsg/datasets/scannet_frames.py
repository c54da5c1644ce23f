"""The frames of a ScanNet scan, listed by the heads of their pictures, from folders or its `.sens` file.

    FRAMES/intrinsics.txt                        3x3 or 4x4, of all pictures (the preprocessed frames of ETH
    FRAMES/SCAN/color/20.jpg                       Zürich, as Open3DSG and OpenScene take them: 320x240,
    FRAMES/SCAN/depth/20.png                       every 20th frame)
    FRAMES/SCAN/pose/20.txt
    FRAMES/SCAN/intrinsic/intrinsic_color.txt    instead of intrinsics.txt, as ScanNet's SensReader and its
      or intrinsics_color.txt, and ..._depth.txt   25k frames have them: the two pictures differ in size
    SCAN.sens                                    (sens.py) of its frames, each `sens_every`-th is taken

Depth is 16 bits, in millimetres (a `.sens` file says how many units a metre has). A pose is 4x4, camera to
world, before the axes are aligned; it is turned with the points. The camera is OpenCV's, and the centre of
pixel 0, 0 is at 0.0, 0.0: the published intrinsics of 320x240 have their centre at 159.5, 119.5. Both
pictures share the pose, as in the published code: the few centimetres between the two cameras of the device
(`colorToDepthExtrinsics`) are not applied.

Left out and reported: `frame_without_image`, `frame_without_pose`, `pose_unreadable`, `pose_not_finite`
(-inf is ScanNet's mark of lost tracking), `pose_not_rigid`, `pose_too_far`, `picture_unreadable`,
`picture_size_differs` (a photograph is not of the size that its `.sens` file says),
`intrinsics_unlikely` (the intrinsics are of pictures of another size), `frame_twice` (two files of one
number; the first by name counts). Kept and reported: `frame_without_depth` (also where its picture is of
another size than its intrinsics, or unreadable). Where no photograph or no depth picture is left for such a
reason, the scan fails. Reported of the sequence: `sequence_missing` (also where folders of frames hold none),
`frames_with_holes` (numbers missing between the others),
`frame_count_differs` (numColorFrames in SCAN.txt against the frames), `extrinsic_not_identity`,
`depth_unit_unlikely` (in the middle, depth is larger than the room, or a hundred times smaller).
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.cameras import camera, fits, read_intrinsics, unlikely
from open3dsg.datasets.files import read_bytes
from open3dsg.datasets.images import ImageReader, picture_size
from open3dsg.datasets.poses import Flaw, check_pose, parse_pose
from open3dsg.datasets.scan import Frame, Problem
from open3dsg.datasets.sens import SensFile, SensFrame
from open3dsg.errors import BadFileError
from open3dsg.geometry.pixels import PixelGrid

FRAME_FILES = {
    "color": re.compile(r"([0-9]{1,12})\.(?:jpg|jpeg|png)"),
    "depth": re.compile(r"([0-9]{1,12})\.png"),
    "pose": re.compile(r"([0-9]{1,12})\.txt"),
}
_MILLIMETRE = 0.001
_LOOKED_AT = 5  # depth pictures, to tell their unit
_LARGEST_DEPTH, _SMALLEST_DEPTH = 1.0, 0.01  # in the middle, of the room's diagonal

Pose = NDArray[np.float64]


class FrameReader:
    """Lists the frames of one scan, collecting problems on the way."""

    def __init__(
        self, root: Path, name: str, T_world_scan: NDArray[np.float64], declared: int | None
    ) -> None:
        """Prepare for scan `name`: `T_world_scan` aligns its axes, `declared` frames are in its text."""
        self.problems: list[Problem] = []
        self._root = root
        self._name = name
        self._T_world_scan = T_world_scan
        self._declared = declared
        self._unusable: dict[str, str] = {}  # color or depth -> what is wrong with the first such picture

    def read_folder(self, folder: Path) -> tuple[Frame, ...]:
        """Return the frames of FRAMES/SCAN, ascending by number.

        Raises BadFileError where intrinsics are missing, damaged, or of other pictures than all there are,
        and where no picture can be read.
        """
        files = {part: self._list(folder / part, pattern) for part, pattern in FRAME_FILES.items()}
        numbers = sorted(set().union(*files.values()))
        intrinsics = {part: folder_intrinsics(folder, part) for part in ("color", "depth") if files[part]}
        frames = [
            self._folder_frame(number, {part: files[part].get(number) for part in files}, intrinsics)
            for number in numbers
        ]
        if not numbers:
            self._report("sequence_missing", f"{folder} holds no files such as color/0.jpg and pose/0.txt")
        self._check_numbers(numbers)
        return self._left(frames)

    def read_sens(self, path: Path, every: int) -> tuple[Frame, ...]:
        """Return each `every`-th frame of a `.sens` file. Raises BadFileError where the file is damaged."""
        with SensFile(path) as file:
            header = file.header
            image = _sens_camera(header.colour_intrinsics, header.colour_size, f"{path}: its photograph")
            depth = _sens_camera(header.depth_intrinsics, header.depth_size, f"{path}: its depth")
            for what, extrinsics in (
                ("colour", header.colour_extrinsics),
                ("depth", header.depth_extrinsics),
            ):
                if not np.allclose(extrinsics, np.eye(4), atol=1e-6):
                    self._report("extrinsic_not_identity", f"that of {what} in {path.name} is not applied")
            if self._declared not in (None, header.frames):
                detail = f"{path.name} has {header.frames} frames, the scan's text names {self._declared}"
                self._report("frame_count_differs", detail)
            uri = path.relative_to(self._root).as_posix()
            frames = [self._sens_frame(file, frame, uri, image, depth) for frame in file.frames(every)]
        return self._left(frames)

    def report_missing(self, given: Path | None) -> None:
        """Report a scan without frames: `given` is the only folder that was looked into, if any."""
        beside = self._root.parent / "scannet_2d"
        hint = (
            f"; {beside} is beside the root: give {self._root.parent} as the root" if beside.is_dir() else ""
        )
        where = f"a .sens file nor frames under {self._root}{hint}" if given is None else f"frames in {given}"
        self._report("sequence_missing", f"there are {'neither' if given is None else 'no'} {where}")

    def check_depth_unit(self, frames: Sequence[Frame], xyz_m: NDArray[np.float32]) -> None:
        """Hold the depth of a few frames against the size of the room, whose points `xyz_m` (N, 3) are."""
        with_depth = [frame for frame in frames if frame.depth_uri is not None]
        if not with_depth or not len(xyz_m):
            return
        places = np.linspace(0, len(with_depth) - 1, _LOOKED_AT).round().astype(int)
        few = [with_depth[at] for at in np.unique(places)]
        with ImageReader(self._root) as reader:
            parts = [self._measured(reader, frame) for frame in few]
        measured = np.concatenate(parts)
        if not len(measured):
            return
        middle = float(np.median(measured))
        room = float(np.linalg.norm(np.ptp(xyz_m.astype(np.float64), axis=0)))
        if not _SMALLEST_DEPTH * room <= middle <= _LARGEST_DEPTH * room:
            detail = (
                f"depth is {middle:.3g} m in the middle, and the room is {room:.3g} m across:"
                f" a pixel of 1 is taken as {few[0].depth_unit_m:g} m"
            )
            self._report("depth_unit_unlikely", detail)

    def _report(self, kind: str, detail: str) -> None:
        self.problems.append(Problem(kind, f"{self._name}: {detail}"))

    def _report_frame(self, kind: str, number: int, detail: str) -> None:
        self.problems.append(Problem(kind, f"{self._name}, frame {number}: {detail}"))

    def _report_picture(self, kind: str, number: int, part: str, detail: str) -> None:
        self._report_frame(kind, number, detail)
        self._unusable.setdefault(part, self.problems[-1].detail)

    def _list(self, folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
        """Return number -> file of one of the folders."""
        files: dict[int, Path] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if matched := pattern.fullmatch(path.name):
                number = int(matched[1])
                if files.setdefault(number, path) != path:
                    detail = f"{path.name} and {files[number].name} in {folder.name}/; the latter counts"
                    self._report_frame("frame_twice", number, detail)
        return files

    def _folder_frame(
        self, number: int, files: Mapping[str, Path | None], intrinsics: Mapping[str, NDArray[np.float64]]
    ) -> Frame | None:
        color, depth_file, pose_file = files["color"], files["depth"], files["pose"]
        if color is None:
            self._report_frame("frame_without_image", number, "no photograph, left out")
            return None
        if pose_file is None:
            self._report_frame("frame_without_pose", number, "no pose, left out")
            return None
        pose = self._aligned(number, parse_pose(read_bytes(pose_file)))
        if pose is None:
            return None
        image = self._grid(number, color, intrinsics["color"])
        if image is None:
            return None
        depth = None if depth_file is None else self._grid(number, depth_file, intrinsics["depth"])
        if depth is None or depth_file is None:
            self._report_frame("frame_without_depth", number, "no depth picture that can be used")
            return Frame(number, self._uri(color), image, pose)
        return Frame(number, self._uri(color), image, pose, self._uri(depth_file), depth, _MILLIMETRE)

    def _sens_frame(
        self, file: SensFile, frame: SensFrame, uri: str, image: PixelGrid, depth: PixelGrid
    ) -> Frame | None:
        color_member, depth_member = frame.member("color"), frame.member("depth")
        if color_member is None:
            self._report_frame("frame_without_image", frame.number, "no photograph, left out")
            return None
        pose = self._aligned(frame.number, check_pose(frame.T_world_camera))
        if pose is None or not self._has_size(frame.number, file.read(color_member), image):
            return None
        if depth_member is None:
            self._report_frame("frame_without_depth", frame.number, "no depth picture that can be used")
            return Frame(frame.number, f"{uri}!{color_member}", image, pose)
        return Frame(
            frame.number,
            f"{uri}!{color_member}",
            image,
            pose,
            f"{uri}!{depth_member}",
            depth,
            file.header.depth_unit_m,
        )

    def _has_size(self, number: int, photo: bytes, grid: PixelGrid) -> bool:
        """Tell whether a photograph of a `.sens` file is of the size that the file's header says."""
        size = self._size(number, "color", io.BytesIO(photo), "its photograph")
        if size is not None and size != (grid.width, grid.height):
            detail = (
                f"its photograph is {size[0]}x{size[1]} pixels, the header says {grid.width}x{grid.height}"
            )
            self._report_picture("picture_size_differs", number, "color", detail)
            return False
        return size is not None

    def _size(self, number: int, part: str, file: Path | io.BytesIO, what: str) -> tuple[int, int] | None:
        """Return width and height as the head of a picture has them; None, reported, where it is damaged."""
        size = picture_size(file)
        if isinstance(size, str):
            self._report_picture("picture_unreadable", number, part, f"{what} {size}")
            return None
        return size

    def _aligned(self, number: int, pose: Pose | Flaw) -> Pose | None:
        if isinstance(pose, Flaw):
            self._report_frame(pose.kind, number, pose.why)
            return None
        return self._T_world_scan @ pose

    def _grid(self, number: int, path: Path, matrix: NDArray[np.float64]) -> PixelGrid | None:
        """Return the camera of a picture by its own size, or None where it cannot be used."""
        part = path.parent.name
        what = f"{part}/{path.name}"
        size = self._size(number, part, path, what)
        if size is None:
            return None
        if not fits(matrix, *size):
            self._report_picture("intrinsics_unlikely", number, part, unlikely(matrix, *size, what))
            return None
        return camera(matrix, *size, f"{self._name}: intrinsics of {part}")

    def _left(self, frames: Sequence[Frame | None]) -> tuple[Frame, ...]:
        """Return the frames that can be used; BadFileError where pictures are to blame that there are none.

        A scan that nothing is seen of would pass for one that is done.
        """
        left = tuple(frame for frame in frames if frame is not None)
        with_depth = [frame for frame in left if frame.depth is not None]
        for part, what, usable in (("color", "frame", left), ("depth", "depth picture", with_depth)):
            if part in self._unusable and not usable:
                raise BadFileError(f"{self._unusable[part]}; no {what} of the scan can be used")
        return left

    def _check_numbers(self, numbers: Sequence[int]) -> None:
        """Report numbers that are missing among the others, and too few or too many for the scan."""
        if len(numbers) < 2:
            return
        steps = np.diff(numbers)
        step, _ = Counter(steps.tolist()).most_common(1)[0]
        wide = np.flatnonzero(steps > step)
        if len(wide):
            lacking = int(np.sum(steps[wide] // step - 1))
            detail = f"{lacking} of the frames {numbers[0]} to {numbers[-1]}, each {step} apart, are missing"
            self._report("frames_with_holes", f"{detail}, the first after {numbers[wide[0]]}")
        if self._declared is not None and not numbers[-1] < self._declared <= numbers[-1] + step:
            detail = f"frames {numbers[0]} to {numbers[-1]}, each {step} apart"
            self._report("frame_count_differs", f"{detail}; the scan's text names {self._declared} in all")

    def _measured(self, reader: ImageReader, frame: Frame) -> NDArray[np.float32]:
        """Return what was measured in a frame, metres; nothing where its picture is damaged."""
        if frame.depth_uri is None:
            return np.empty(0, np.float32)
        try:
            depth_m = reader.read_depth_m(frame.depth_uri, frame.depth_unit_m)
        except BadFileError as error:
            self._report_frame("picture_unreadable", frame.number, str(error))
            return np.empty(0, np.float32)
        return depth_m[depth_m > 0]

    def _uri(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


def folder_intrinsics(folder: Path, part: str) -> NDArray[np.float64]:
    """Return the matrix of the pictures in `color` or `depth`."""
    places = list(_intrinsic_files(folder, part))
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise BadFileError(f"{places[-1]}: missing: the frames of {folder.name} need their intrinsics")
    return read_intrinsics(found)


def _intrinsic_files(folder: Path, part: str) -> Iterator[Path]:
    yield folder / "intrinsic" / f"intrinsic_{part}.txt"
    yield folder / f"intrinsics_{part}.txt"
    yield folder.parent / "intrinsics.txt"


def _sens_camera(matrix: NDArray[np.float64], size: tuple[int, int], what: str) -> PixelGrid:
    grid = camera(matrix, *size, what)
    if not fits(matrix, *size):
        raise BadFileError(unlikely(matrix, *size, what))
    return grid
