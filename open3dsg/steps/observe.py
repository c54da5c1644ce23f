"""Observe: which instance is seen in which frame, at which pixels; rows of `observation`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.depth import read_frame_depth
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import BACKGROUND, Problem
from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid, pack_pixel_sets
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.steps.summary import Summary
from open3dsg.store.cloud import read_cloud
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.geometry.visibility import FrameObservations, Observer
    from open3dsg.store.scans import StoredScan

VERSION = 1
DOWNSTREAM = ("features.nodes", "features.pairs", "features.captions")
_EVERY = {"3rscan": 10}  # layout -> every how many frames, as published; else all
COLUMNS = {
    "scan_id": "int8",
    "instance_no": "int4",
    "frame_no": "int4",
    "visible_points": "int4",
    "unique_pixels": "int4",
    "visibility_ratio": "float4",
    "pixel_box": "int2[]",
    "pixels": "bytea",
}


@dataclass(frozen=True)
class ObserveOptions:
    """Every how many frames, the thresholds, and the labels of large surfaces.

    `every` None is what is published for the layout of the scan's dataset: each tenth frame of 3RScan, which
    delivers its whole sequence, and every frame of ScanNet, of which a sample is delivered or taken.
    Instances labelled as surfaces are kept by the number of their visible points alone: one picture shows
    a small share of a wall.
    """

    every: int | None = None
    thresholds: VisibilityThresholds = field(default_factory=VisibilityThresholds)
    surfaces: tuple[str, ...] = ("floor", "wall")

    def __post_init__(self) -> None:
        """Refuse a stride that is none; the ledger takes surfaces in any order for the same options."""
        if self.every is not None and self.every < 1:
            raise UserError(f"--every is {self.every}: give 1 or more")
        object.__setattr__(self, "surfaces", tuple(sorted(set(self.surfaces))))

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> ObserveOptions:
        """Return the options that `asdict` gave and JSON carried; TypeError or KeyError for any others."""
        thresholds = VisibilityThresholds(**told["thresholds"])
        return cls(**{**told, "thresholds": thresholds, "surfaces": tuple(told["surfaces"])})

    def for_layout(self, layout: str) -> ObserveOptions:
        """Return the options with `every` as it is for a dataset of `layout`."""
        return replace(self, every=self.every or _EVERY.get(layout, 1))


@dataclass(frozen=True)
class Observe:
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: ObserveOptions
    force: bool = False
    replace: bool = False

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Observe one scan, unless the ledger says that it is done with these options."""
        stored = find_scan(connection, scan)
        stored.check_root()
        options = self.options.for_layout(stored.layout)
        entry = ledger.Entry("observe", VERSION, asdict(options))
        with ledger.scan_lock(connection, stored.dataset, stored.name), connection.transaction():
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            if self._is_done(connection, stored.scan_id, entry):
                return Summary(skipped=True)
            # Begun but not done: instances have changed since, and only those without rows are looked for.
            begun = not self.force and ledger.is_begun(connection, stored.scan_id, entry)
            if not begun:
                ledger.forget(connection, stored.scan_id, DOWNSTREAM)
                execute(connection, "observation_clear", {"scan_id": stored.scan_id})
            kept = execute(connection, "instances_seen", {"scan_id": stored.scan_id}).fetchall()
            summary = _observe(connection, stored, options, [number for number, _rows in kept])
            every = summary.counts["observations"] + sum(rows for _number, rows in kept)
            counts = {**summary.counts, "observations": every}
            ledger.record(connection, stored.scan_id, entry, counts, summary.problems)
        return summary

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:
        """Return what is left to do of a scan, each work for itself: all of it at once, or nothing."""
        stored = find_scan(connection, scan)
        entry = ledger.Entry("observe", VERSION, asdict(self.options.for_layout(stored.layout)))
        return [] if self._is_done(connection, stored.scan_id, entry) else [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:  # noqa: ARG002
        """Do what comes after the scans, which is nothing here."""
        return ()

    def _is_done(self, connection: Connection[Any], scan_id: int, entry: ledger.Entry) -> bool:
        """Tell whether nothing is to be done; UserError where it was done with other options."""
        if self.force:
            return False
        if ledger.chunks_done(connection, scan_id, entry):
            return True
        if not self.replace:
            ledger.check_same_options(connection, scan_id, entry)
        return False


def _observe(
    connection: Connection[Any], scan: StoredScan, options: ObserveOptions, kept: Sequence[int]
) -> Summary:
    """Look for the instances that are not `kept`."""
    from open3dsg.geometry.visibility import Observer  # compiled loops: a second, where they are run

    cloud = read_cloud(connection, scan.scan_id, scan.name)
    wanted = ~np.isin(cloud.instance, kept)
    observer = Observer(cloud.xyz_m[wanted], cloud.instance[wanted])
    surfaces = execute(
        connection,
        "instances_labelled",
        {"scan_id": scan.scan_id, "labels": [label.lower() for label in options.surfaces]},
    ).fetchall()
    by_points_alone = np.isin(observer.numbers, [number for (number,) in surfaces])
    frames = execute(
        connection, "frames_to_observe", {"scan_id": scan.scan_id, "every": options.every}
    ).fetchall()
    problems: list[Problem] = []
    rows = _rows(scan, observer, by_points_alone, frames, options.thresholds, problems)
    observations = copy_in(connection, "observation", COLUMNS, rows)
    used = len(frames) - len(problems)
    unreadable = [problem for problem in problems if problem.kind == "depth_unreadable"]
    if unreadable and not used:
        # Nothing of this scan can be read: its disk is away, and to call that done would hide it for good.
        raise UserError(f"none of {len(unreadable)} depth pictures can be read: {unreadable[0].detail}")
    if not (cloud.instance != BACKGROUND).any():
        detail = f"{scan.name}: nothing to look for; `open3dsg masks merge --scan {scan.key}` makes instances"
        problems.append(Problem("scan_without_instances", detail))
    return Summary({"frames": used, "observations": observations}, problems)


def _rows(
    scan: StoredScan,
    observer: Observer,
    by_points_alone: NDArray[np.bool_],
    frames: list[tuple[Any, ...]],
    thresholds: VisibilityThresholds,
    problems: list[Problem],
) -> Iterator[tuple[object, ...]]:
    """Look from one frame after the other; a frame that cannot be used is a problem, the others go on."""
    with ImageReader(scan.root) as images:
        for frame_no, uri, size, intrinsics, unit_m, pose in frames:
            if uri is None:
                problems.append(Problem("frame_without_depth", f"{scan.name} frame {frame_no}"))
                continue
            grid = PixelGrid(*size, *intrinsics)
            depth_m = read_frame_depth(images, uri, grid, unit_m, scan.name)
            if isinstance(depth_m, Problem):
                problems.append(depth_m)
                continue
            T_world_camera = np.asarray(pose, np.float64).reshape(4, 4)
            seen = observer.observe(depth_m, grid, T_world_camera, thresholds, by_points_alone)
            yield from _observation_rows(scan.scan_id, frame_no, seen)


def _observation_rows(scan_id: int, frame_no: int, seen: FrameObservations) -> Iterator[tuple[object, ...]]:
    packed = pack_pixel_sets(seen.pixel_ids, seen.pixel_offsets)
    for at, number in enumerate(seen.numbers.tolist()):
        yield (
            scan_id,
            number,
            frame_no,
            int(seen.visible_points[at]),
            int(seen.unique_pixels[at]),
            float(seen.visibility_ratio[at]),
            seen.box[at].tolist(),
            packed[at],
        )
