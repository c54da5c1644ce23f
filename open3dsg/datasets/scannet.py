"""ScanNet v2 (Dai et al., CVPR 2017), with the classes of NYU40 and ScanNet200.

    ROOT/
      scannetv2_train.txt, ..._val.txt, ..._test.txt   splits, a scan a line; also read from METADATA
      scannetv2-labels.combined.tsv                    what labels map to                 (scannet_labels.py)
      scannet200_classes.txt
      SCAN/ or scans/SCAN/ or scans_test/SCAN/         one folder a scan                  (scannet_files.py)
        SCAN_vh_clean_2.ply, ...                       points and instances               (scannet_surface.py)
        SCAN.txt                                       alignment of the axes              (scannet_info.py)
        SCAN.sens                                      frames                             (sens.py)
      scannet_2d/                                      frames, where they were taken out  (scannet_frames.py)

Only the mesh is needed, and for scans of the train and validation splits their annotations; the rest is read
where it is there. Points and poses are turned by `axisAlignment` alike: the world is z-up, in metres, its
axes along the room's. Frames come from folders where there are any, else from the `.sens` file.

The label of an instance is its raw category, as annotators wrote it. With `labels="nyu40"` or
`"scannet200"` it is the class that this maps to, and 'unknown' where there is none (`label_without_class`).
A raw category that the table lacks is reported whatever the labels are (`label_not_in_table`). An instance
without points is kept (`instance_without_points`). The other problems are listed in the modules named above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from open3dsg.datasets.files import readable, unchanged
from open3dsg.datasets.layouts import WordList, open_reader
from open3dsg.datasets.paths import check_scan_name
from open3dsg.datasets.scan import BACKGROUND, Cloud, Frame, Problem, Scan
from open3dsg.datasets.scannet_files import (
    INFO,
    SENS,
    below,
    find_scan_folder,
    frames_folder,
    scan_names,
)
from open3dsg.datasets.scannet_frames import FrameReader
from open3dsg.datasets.scannet_info import read_info
from open3dsg.datasets.scannet_labels import (
    LABEL_SETS,
    SCANNET200,
    TABLE,
    LabelSet,
    LabelTable,
    read_label_table,
)
from open3dsg.datasets.scannet_surface import SurfaceReader
from open3dsg.datasets.textfile import read_text
from open3dsg.errors import UserError

DATASET = "scannet"
UNKNOWN_LABEL = "unknown"
SENS_EVERY = 20  # as the preprocessed frames have been taken out of the .sens files

SPLIT_FILES = {
    "scannetv2_train.txt": "train",
    "scannetv2_val.txt": "validation",
    "scannetv2_test.txt": "test",
}
_ANNOTATED = ("train", "validation")


class ScanNet:
    """A ScanNet root. What belongs to all scans is read when first needed and kept; pickling drops it."""

    def __init__(
        self,
        root: Path,
        metadata: Path | str | None = None,
        frames: Path | str | None = None,
        labels: LabelSet = "raw",
        sens_every: int = SENS_EVERY,
    ) -> None:
        """Open `root`.

        `metadata` is the folder of splits and label table where it is not the root; `frames`, absolute or
        relative to the root and below it, the folder of frames where they are not found by themselves; of a
        `.sens` file each `sens_every`-th frame is read. Raises UserError for a folder that does not exist,
        and for labels or a number that cannot be.
        """
        self._root = root
        self._metadata = None if metadata is None else Path(metadata)
        given_frames = None if frames is None else root / frames
        for folder in (root, self._metadata, given_frames):
            if folder is not None and not folder.is_dir():
                raise UserError(f"{folder}: no such folder")
        self._frames = None if given_frames is None else below(root, given_frames, "--frames")
        if labels not in LABEL_SETS:
            raise UserError(f"--labels is {labels!r}: give {', '.join(LABEL_SETS)}")
        if sens_every < 1:
            raise UserError(f"--sens-every is {sens_every}: give 1 or more")
        self._labels: LabelSet = labels
        self._sens_every = sens_every

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the arguments alone: workers read for themselves what they need."""
        return open_reader, (DATASET, self._root, self.arguments)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return what `open_reader` needs beside the root."""
        return {
            "metadata": None if self._metadata is None else str(self._metadata),
            **self.ledger_options,
        }

    @property
    def ledger_options(self) -> Mapping[str, Any]:
        """Return the arguments that change what is read of a scan."""
        frames = None if self._frames is None else self._frames.relative_to(self._root).as_posix()
        return {"frames": frames, "labels": self._labels, "sens_every": self._sens_every}

    @cached_property
    def table(self) -> LabelTable | None:
        """The label table, or None where there is none.

        Raises UserError where it is missing and labels are to be mapped, else as `read_label_table`.
        """
        path, classes = self._metadata_file(TABLE), self._metadata_file(SCANNET200)
        needed = {"raw": [], "nyu40": [(TABLE, path)], "scannet200": [(TABLE, path), (SCANNET200, classes)]}
        for name, found in needed[self._labels]:
            if found is None:
                raise UserError(
                    f"{self._root}: --labels {self._labels} needs {name}: put it there, or name its folder"
                    " with --metadata"
                )
        return None if path is None else read_label_table(path, classes)

    @cached_property
    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Split -> names of its scans, present or not, ascending."""
        found = {split: self._metadata_file(file) for file, split in SPLIT_FILES.items()}
        return {split: _split_list(path) for split, path in found.items() if path is not None}

    @readable()
    def scan_names(self, split: str | None) -> list[str]:
        """Return the scans that have a folder, ascending: of `split`, or of the whole root.

        Raises UserError for a split that does not exist.
        """
        there = scan_names(self._root)
        if split is None:
            return there
        listed = set(self._listed(split))
        return [name for name in there if name in listed]

    @readable()
    def missing(self, split: str | None) -> list[str]:
        """Return the scans that the splits list, `split` or all, and that have no folder."""
        there = set(scan_names(self._root))
        return [name for name in self._listed(split) if name not in there]

    def annotation_hash(self, name: str) -> str | None:  # noqa: ARG002
        """Return None: ScanNet comes without scene graphs."""
        return None

    def attributes_of(self, name: str) -> None:
        """Return None: ScanNet says nothing of objects but their labels."""

    def word_lists(self) -> Sequence[WordList]:
        """Return the classes `nyu40`, `scannet200` and `raw`, where their files are there."""
        return self.table.word_lists() if self.table else ()

    @readable()
    def read(self, name: str) -> Scan:
        """Read the scan `name`.

        Raises UserError where it has no folder or two, or changes meanwhile; BadFileError where a file it
        cannot do without is missing or a file is damaged. What can be left out is left out and told in
        `Scan.problems`.
        """
        folder = self._folder(name)
        frames = frames_folder(self._root, self._frames, folder)
        parts = () if frames is None else (frames / "color", frames / "depth", frames / "pose")
        with unchanged(name, folder, *parts):
            return self._read(name, folder, frames)

    def _read(self, name: str, folder: Path, frames_at: Path | None) -> Scan:
        info = read_info(folder / f"{name}{INFO}", name)
        split = next((split for split, names in self.splits.items() if name in names), None)
        surface = SurfaceReader(folder, annotated=split in _ANNOTATED)
        cloud, raw = surface.read(info.T_world_scan, self.table)
        reader = FrameReader(self._root, name, info.T_world_scan, info.frames)
        frames = self._read_frames(reader, folder, frames_at)
        reader.check_depth_unit(frames, cloud.xyz_m)
        labels, label_problems = self._mapped(name, raw, cloud)
        return Scan(
            dataset=DATASET,
            name=name,
            root=self._root,
            cloud=cloud,
            labels=labels,
            split=split,
            frames=frames,
            problems=(*info.problems, *surface.problems, *reader.problems, *label_problems),
        )

    def _read_frames(self, reader: FrameReader, folder: Path, frames_at: Path | None) -> Sequence[Frame]:
        sens = folder / f"{folder.name}{SENS}"
        if frames_at is not None:
            return reader.read_folder(frames_at)
        if self._frames is None and sens.is_file():
            return reader.read_sens(sens, self._sens_every)
        reader.report_missing(self._frames)
        return ()

    def _mapped(
        self, name: str, raw: Mapping[int, str], cloud: Cloud
    ) -> tuple[dict[int, str], list[Problem]]:
        """Return the label of each instance in the label set asked for, and what was wrong."""
        labels: dict[int, str] = {}
        problems: list[Problem] = []
        for number, category in sorted(raw.items()):
            label = category if self.table is None else self.table.class_of(category, self._labels)
            if self.table is not None and category not in self.table.categories:
                problems.append(
                    _of_instance("label_not_in_table", name, number, f"{category!r} is not in {TABLE}")
                )
            elif label is None:
                detail = f"{category!r} has no class in {self._labels}: labelled {UNKNOWN_LABEL!r}"
                problems.append(_of_instance("label_without_class", name, number, detail))
            labels[number] = label or (category if self._labels == "raw" else UNKNOWN_LABEL)
        with_points = set(np.unique(cloud.instance).tolist()) - {BACKGROUND}
        problems += [
            _of_instance("instance_without_points", name, number, f"{labels[number]!r} has no points")
            for number in sorted(labels.keys() - with_points)
        ]
        return labels, problems

    def _metadata_file(self, name: str) -> Path | None:
        folders = [*([] if self._metadata is None else [self._metadata]), self._root]
        return next((folder / name for folder in folders if (folder / name).is_file()), None)

    def _listed(self, split: str | None) -> list[str]:
        if split is None:
            return sorted({name for names in self.splits.values() for name in names})
        if split not in self.splits:
            known = ", ".join(self.splits) or f"no split is known: {', '.join(SPLIT_FILES)} are missing"
            raise UserError(f"{self._root}: no split {split!r}; there are: {known}")
        return list(self.splits[split])

    def _folder(self, name: str) -> Path:
        check_scan_name(name, str(self._root))
        folder = find_scan_folder(self._root, name)
        if folder is not None:
            return folder
        there = scan_names(self._root)
        examples = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
        raise UserError(f"{self._root}: no folder for scan {name!r}; there are {len(there)}: {examples}")


def _split_list(path: Path) -> tuple[str, ...]:
    lines = read_text(path).split("\n")
    return tuple(sorted({check_scan_name(line.strip(), str(path)) for line in lines if line.strip()}))


def _of_instance(kind: str, name: str, number: int, detail: str) -> Problem:
    return Problem(kind, f"{name}: instance {number}: {detail}")
