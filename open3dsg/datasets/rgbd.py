"""Anyone's posed RGB-D recording, fused into a cloud (layout `rgbd`); docs/rgbd.md has the folder trees.

    ROOT/                        the dataset; each folder in it that holds pictures is a scan
      RECORDING/                 photographs, depth pictures, poses (rgbd_files.py, rgbd_poses.py), in folders
                                 of their own or in this one
      K.txt, camera.json, ...    intrinsics, here for all recordings or in each (rgbd_cameras.py)

A scan has points and frames, and no instances: `open3dsg masks merge` makes them. The cloud is where the
depth pictures, weighed against each other, put the surface (geometry/fusion.py), in the world of the poses
turned so that z is up.

Left out and reported: `frame_without_image`, `frame_without_pose`, `pose_unreadable`, `pose_not_finite`,
`pose_not_rigid`, `pose_too_far`, `picture_unreadable` and `picture_size_differs` of a photograph,
`frame_twice`. Kept and reported: `frame_without_depth` (also where the depth picture is damaged, or not of
the size that most have). Reported of the recording: `camera_scaled`, `views_disagree`, `world_up_unlikely`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open3dsg.datasets.files import readable, unchanged
from open3dsg.datasets.layouts import WordList, open_reader
from open3dsg.datasets.paths import check_scan_name
from open3dsg.datasets.rgbd_files import is_recording, recording_names
from open3dsg.datasets.rgbd_options import RgbdOptions
from open3dsg.datasets.rgbd_recording import RecordingReader
from open3dsg.datasets.scan import Scan
from open3dsg.errors import UserError

DATASET = "rgbd"


class Rgbd:
    """A folder of recordings, all read with the same options."""

    def __init__(self, root: Path, **options: Any) -> None:
        """Open `root`; `options` are those of `RgbdOptions`.

        Raises UserError for a folder that does not exist, and for options that cannot be.
        """
        self._root = root
        if not root.is_dir():
            raise UserError(f"{root}: no such folder")
        self._options = RgbdOptions(**options)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the arguments alone."""
        return open_reader, (DATASET, self._root, self.arguments)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return what `open_reader` needs beside the root."""
        return asdict(self._options)

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Return the arguments that change what is read of a scan: all, the usual ones spelt out."""
        return self._options.usual_spelt_out

    @readable()
    def scan_names(self, split: str | None) -> list[str]:
        """Return the recordings that are there, ascending. Raises UserError for a split: there are none."""
        if split is not None:
            raise UserError(f"{self._root}: no split {split!r}: recordings have none, leave --split out")
        return recording_names(self._root, self._options.places)

    def missing(self, split: str | None) -> Sequence[str]:  # noqa: ARG002
        """Return nothing: no list says which recordings there should be."""
        return ()

    def annotation_hash(self, name: str) -> str | None:  # noqa: ARG002
        """Return None: recordings come without scene graphs."""
        return None

    def attributes_of(self, name: str) -> None:
        """Return None: recordings come without annotations."""

    def word_lists(self) -> Sequence[WordList]:
        """Return nothing: recordings come without classes."""
        return ()

    @readable()
    def read(self, name: str) -> Scan:
        """Read and fuse the recording `name`.

        Raises UserError where it has no folder, changes meanwhile, cannot be understood without an option, or
        where nothing of it can be used; BadFileError where a file it cannot do without is missing or damaged.
        What can be left out is left out and told in `Scan.problems`.
        """
        check_scan_name(name, str(self._root))
        folder = self._root / name
        if not folder.is_dir() or not is_recording(folder, self._options.places):
            raise UserError(f"{folder}: no recording: its photographs would be in color, rgb or images")
        with unchanged(name, folder):
            reader = RecordingReader(self._root, folder, self._options)
            cloud, frames = reader.read()
        return Scan(DATASET, name, self._root, cloud, {}, frames=frames, problems=tuple(reader.problems))
