"""The views of instances and of pairs: which frames they are looked at in, and where in the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.db.queries import execute
from open3dsg.geometry.crops import upright_quarter_turns
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.geometry.selection import best_rows, box_areas, enclosing_boxes, qualify, rows_together
from open3dsg.steps.features.looks import Camera, FrameViews

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.geometry.selection import LookThresholds
    from open3dsg.store.scans import StoredScan


@dataclass(frozen=True)
class Views:
    """The frames in which items are looked at, one row a view; ordered by item, then frame."""

    item: NDArray[np.int64]  # (V,) place among the items that were asked for
    frame_no: NDArray[np.int32]  # (V,)
    box: NDArray[np.int32]  # (V, 4) inclusive, on the depth grid
    unseen: int = 0  # items that no frame shows
    unqualified: int = 0  # items that too few frames show well enough

    def of_items(self, places: Sequence[int]) -> Views:
        """Return the views of some items, which keep their places."""
        kept = np.isin(self.item, np.asarray(places, np.int64))
        return Views(self.item[kept], self.frame_no[kept], self.box[kept])

    @cached_property
    def count(self) -> dict[int, int]:
        """Item -> its number of views, of those that have any."""
        return dict(zip(*(part.tolist() for part in np.unique(self.item, return_counts=True)), strict=True))


@dataclass(frozen=True)
class Sightings:
    """All observations of a scan, ordered by instance, then frame."""

    instance: NDArray[np.int32]  # (N,)
    frame_no: NDArray[np.int32]  # (N,)
    visibility: NDArray[np.float32]  # (N,) share of the points
    box: NDArray[np.int32]  # (N, 4) inclusive, on the depth grid
    grid_px: NDArray[np.int64]  # (N,) pixels of that grid

    def qualifying(self, thresholds: LookThresholds) -> NDArray[np.bool_]:
        """Tell which observations show their instance well enough, (N,)."""
        return qualify(self.visibility, box_areas(self.box), self.grid_px, thresholds)


def read_sightings(connection: Connection[Any], scan_id: int) -> Sightings:
    """Read the observations of a scan, without their pixels."""
    rows = execute(connection, "dump_sightings", {"scan_id": scan_id}, binary=True).fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * 8
    return Sightings(
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int32),
        np.array(columns[2], np.float32),
        np.array(columns[3:7], np.int32).T.reshape(-1, 4),
        np.array(columns[7], np.int64),
    )


def views_of_instances(
    seen: Sightings, numbers: NDArray[np.int32], thresholds: LookThresholds, top_k: int
) -> Views:
    """Return where `numbers`, (n,) ascending, are looked at."""
    place = np.searchsorted(numbers, seen.instance)
    place[place == len(numbers)] = 0
    asked = numbers[place] == seen.instance if len(numbers) else np.zeros(len(place), bool)
    good = np.flatnonzero(asked & seen.qualifying(thresholds))
    item = place.astype(np.int64)[good]
    rank = seen.visibility[good].astype(np.float64)
    chosen = best_rows(item, rank, seen.frame_no[good], top_k, thresholds.min_frames)
    rows = good[chosen]
    shown = len(np.unique(place[asked]))
    return Views(
        item[chosen],
        seen.frame_no[rows],
        seen.box[rows],
        len(numbers) - shown,
        shown - len(np.unique(item[chosen])),
    )


def views_of_pairs(
    seen: Sightings, pairs: NDArray[np.int32], thresholds: LookThresholds, top_k: int
) -> Views:
    """Return where `pairs`, (n, 2), are looked at: frames that show both ends, and the box around both."""
    pair, first, second = rows_together(pairs, seen.instance, seen.frame_no)
    shown = len(np.unique(pair))
    good = seen.qualifying(thresholds)
    both = good[first] & good[second]
    pair, first, second = pair[both], first[both], second[both]
    rank = seen.visibility[first].astype(np.float64) + seen.visibility[second]
    chosen = best_rows(pair, rank, seen.frame_no[first], top_k, thresholds.min_frames)
    return Views(
        pair[chosen],
        seen.frame_no[first[chosen]],
        enclosing_boxes(seen.box[first[chosen]], seen.box[second[chosen]]),
        len(pairs) - shown,
        shown - len(np.unique(pair[chosen])),
    )


def frames_of(
    connection: Connection[Any], scan: StoredScan, views: Views, numbers: NDArray[np.int32] | None
) -> list[FrameViews]:
    """Return the frames of `views` in their order.

    `numbers`: the instances that the items of `views` are, of an encoder that sees their pixels.
    """
    cameras = _cameras(connection, scan, np.unique(views.frame_no).tolist())
    pixels = {} if numbers is None else _pixels(connection, scan, views, numbers)
    order = np.lexsort((views.item, views.frame_no))
    _, begin = np.unique(views.frame_no[order], return_index=True)
    frames = []
    for rows in np.split(order, begin[1:]) if len(order) else ():
        frame_no, items = int(views.frame_no[rows[0]]), views.item[rows]
        packed = [] if numbers is None else [pixels[int(numbers[item]), frame_no] for item in items]
        frames.append(FrameViews(frame_no, cameras[frame_no], items, views.box[rows], packed))
    return frames


def _pixels(
    connection: Connection[Any], scan: StoredScan, views: Views, numbers: NDArray[np.int32]
) -> Mapping[tuple[int, int], bytes]:
    """Return (instance, frame) -> packed pixels on the depth grid."""
    key = {
        "scan_id": scan.scan_id,
        "instances": numbers[views.item].tolist(),
        "frames": views.frame_no.tolist(),
    }
    rows = execute(connection, "dump_pixels", key, binary=True)
    return {(number, frame_no): bytes(packed) for number, frame_no, packed in rows}


def _cameras(connection: Connection[Any], scan: StoredScan, frame_nos: Sequence[int]) -> Mapping[int, Camera]:
    rows = execute(connection, "frames_with_cameras", {"scan_id": scan.scan_id, "frame_nos": list(frame_nos)})
    return {
        frame_no: Camera(
            uri,
            PixelGrid(*image_size, *image_intrinsics),
            PixelGrid(*depth_size, *depth_intrinsics),
            upright_quarter_turns(np.asarray(pose, np.float64).reshape(4, 4)),
        )
        for frame_no, uri, image_size, image_intrinsics, depth_size, depth_intrinsics, pose in rows
    }
