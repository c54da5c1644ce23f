"""Masks: instances of a scan merged from masks of its frames, in the place of those of its dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.depth import read_frame_depth
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.maskfolder import content_hash, mask_files, match_masks, read_mask
from open3dsg.datasets.scan import BACKGROUND, Problem, Scan
from open3dsg.db import ledger
from open3dsg.db.queries import fetch_value
from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.geometry.mask_thresholds import MergeThresholds
from open3dsg.steps.attributes import drop_attributes
from open3dsg.steps.ingest import DOWNSTREAM
from open3dsg.steps.summary import Summary
from open3dsg.store.cloud import read_cloud
from open3dsg.store.corrections import corrections_left, count_corrections, drop_corrections
from open3dsg.store.frames import read_frames
from open3dsg.store.geometry import MASKS, write_geometry
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.scan import Cloud, Frame
    from open3dsg.geometry.mask_lifting import LiftedMasks, MaskLifter
    from open3dsg.store.scans import StoredScan

VERSION = 1
LABEL = "object"  # masks say that something is one thing, not what
_DISAGREE = 0.5  # share of masks that others divide, above which they hardly are those of these frames


@dataclass(frozen=True)
class MaskOptions:
    """Every how many frames are used, and the thresholds."""

    every: int = 1
    thresholds: MergeThresholds = field(default_factory=MergeThresholds)

    def __post_init__(self) -> None:
        """Refuse a stride that is none."""
        if self.every < 1:
            raise UserError(f"--every is {self.every}: give 1 or more")


@dataclass(frozen=True)
class MergeMasks:
    """The step bound to a folder of masks and its options; call it with a connection and `dataset/name`.

    `folder` holds the masks of the scan, or with `by_scan` a folder of each scan's name that does.
    """

    folder: Path
    by_scan: bool
    options: MaskOptions
    force: bool = False
    replace: bool = False

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Merge the masks of one scan, unless the ledger says that these are merged with these options."""
        stored = find_scan(connection, scan)
        stored.check_root()
        files = mask_files(self._folder_of(stored))
        entry = self._entry(files)
        with ledger.scan_lock(connection, stored.dataset, stored.name):
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            if self._is_done(connection, stored, entry):
                return Summary(skipped=True)
            return _write(connection, stored, _merge(connection, stored, files, self.options), entry)

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:
        """Return what is left to do of a scan, each work for itself: all of it at once, or nothing."""
        stored = find_scan(connection, scan)
        entry = self._entry(mask_files(self._folder_of(stored)))
        return [] if self._is_done(connection, stored, entry) else [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:  # noqa: ARG002
        """Do what comes after the scans, which is nothing here."""
        return ()

    def _folder_of(self, scan: StoredScan) -> Path:
        return self.folder / scan.name if self.by_scan else self.folder

    def _entry(self, files: Sequence[Path]) -> ledger.Entry:
        return ledger.Entry(MASKS, VERSION, {**asdict(self.options), "content": content_hash(files)})

    def _is_done(self, connection: Connection[Any], scan: StoredScan, entry: ledger.Entry) -> bool:
        """Tell whether nothing is to be done; UserError where other instances would be lost."""
        if not self.force and ledger.chunks_done(connection, scan.scan_id, entry):
            return True
        if not self.replace:
            _check_no_others(connection, scan)
            if not self.force:
                ledger.check_same_options(connection, scan.scan_id, entry)
        return False


def _check_no_others(connection: Connection[Any], scan: StoredScan) -> None:
    of_scan = {"scan_id": scan.scan_id}
    if fetch_value(connection, "has_instances_of_masks", of_scan):
        return
    if fetch_value(connection, "has_instances_with_points", of_scan):
        raise UserError(
            f"scan {scan.name} has the instances of its dataset: --replace drops them, with all that was made"
            " of them, for those of the masks (`open3dsg ingest` with --force brings them back)"
        )


@dataclass(frozen=True)
class _Merged:
    """A scan with other instances, what was counted on the way, and what was left out."""

    cloud: Cloud
    frames: Sequence[Frame]
    counts: Mapping[str, int]
    problems: Sequence[Problem]


def _merge(
    connection: Connection[Any], scan: StoredScan, files: Sequence[Path], options: MaskOptions
) -> _Merged:
    """Work out the instances; nothing is written yet."""
    from open3dsg.geometry.mask_merging import merge_masks

    cloud = read_cloud(connection, scan.scan_id, scan.name)
    frames = read_frames(connection, scan.scan_id)
    lifted, counts, problems = _lift(scan, cloud, frames, files, options)
    merged = merge_masks(cloud.xyz_m, cloud.normals, lifted, options.thresholds)
    instances = int(merged.instance.max(initial=BACKGROUND)) + 1
    if instances == 0:
        raise UserError(
            f"scan {scan.name}: {counts['masks_kept']} masks of {counts['frames']} frames give no instance:"
            " they must be of this scan, and frames overlap; --min-masks 1 takes what one frame alone shows"
        )
    if merged.undersegmented > _DISAGREE * counts["masks_kept"]:
        detail = (
            f"{scan.name}: {merged.undersegmented} of {counts['masks_kept']} masks cover several things by"
            " what other frames show: are they masks of this scan, and its poses good?"
        )
        problems.append(Problem("masks_disagree", detail))
    counts |= {
        "masks_undersegmented": merged.undersegmented,
        "instances": instances,
        "points": len(merged.instance),
        "points_assigned": int((merged.instance != BACKGROUND).sum()),
        "points_filled": merged.filled,
    }
    return _Merged(replace(cloud, instance=merged.instance), frames, counts, problems)


def _write(connection: Connection[Any], scan: StoredScan, merged: _Merged, entry: ledger.Entry) -> Summary:
    """Write the instances over those that are there, under numbers that annotations do not speak of."""
    first = fetch_value(connection, "first_free_instance_no", {"scan_id": scan.scan_id})
    own = merged.cloud.instance
    numbers = np.where(own == BACKGROUND, BACKGROUND, own + first).astype(np.int32)
    labels = dict.fromkeys(range(first, first + merged.counts["instances"]), LABEL)
    cloud = replace(merged.cloud, instance=numbers)
    whole = Scan(scan.dataset, scan.name, scan.root, cloud, labels, frames=merged.frames)
    with terms_in_use(connection):
        ids = term_ids(connection, [LABEL])
        with connection.transaction():
            drop_attributes(connection, scan.scan_id)
            corrections = count_corrections(connection, scan.scan_id)
            drop_corrections(connection, scan.scan_id)
            written = write_geometry(connection, scan.scan_id, whole, ids, DOWNSTREAM)
            ledger.record(connection, scan.scan_id, entry, merged.counts, merged.problems)
            left = corrections_left(connection, scan.scan_id, corrections)
    changes = {name: count for name, count in {**written.changes, **left}.items() if count}
    return Summary({**merged.counts, **changes}, merged.problems)


def _lift(
    scan: StoredScan, cloud: Cloud, frames: Sequence[Frame], files: Sequence[Path], options: MaskOptions
) -> tuple[LiftedMasks, dict[str, int], list[Problem]]:
    """Lift the masks of frame after frame; what cannot be used is a problem. UserError where nothing can."""
    from open3dsg.geometry.mask_lifting import MaskLifter

    matched = match_masks(files, frames)
    problems = list(matched.problems)
    limits = options.thresholds
    lifter = MaskLifter(cloud.xyz_m, limits.depth_tolerance_m, limits.min_mask_points)
    counts = {"frames": 0, "masks": 0, "masks_kept": 0}
    with ImageReader(scan.root) as images:
        for frame in frames:
            if frame.number % options.every:
                continue
            found = _lift_frame(lifter, images, frame, matched.of_frame.get(frame.number), scan.name)
            if isinstance(found, Problem):
                problems.append(found)
                continue
            for name, count in zip(counts, (1, *found), strict=True):
                counts[name] += count
    if not counts["masks_kept"]:
        why = f", such as: {problems[0].detail}" if problems else ""
        raise UserError(f"scan {scan.name}: no mask of {len(files)} files can be used{why}")
    return lifter.lifted(), counts, problems


def _lift_frame(
    lifter: MaskLifter, images: ImageReader, frame: Frame, path: Path | None, scan: str
) -> tuple[int, int] | Problem:
    """Return how many masks a frame has and how many of them were lifted, or why it cannot be used."""
    if path is None:
        return Problem("frame_without_mask", f"{scan} frame {frame.number}")
    if frame.depth is None or frame.depth_uri is None:
        return Problem("frame_without_depth", f"{scan} frame {frame.number}")
    mask = read_mask(path, frame)
    if isinstance(mask, Problem):
        return mask
    depth_m = read_frame_depth(images, frame.depth_uri, frame.depth, frame.depth_unit_m, scan)
    if isinstance(depth_m, Problem):
        return depth_m
    return lifter.add(mask, depth_m, frame.depth, frame.T_world_camera)
