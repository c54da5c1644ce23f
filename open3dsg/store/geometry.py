"""Points, frames and instances of a scan, written so that what is still valid of later work stays.

What was observed of an instance depends on its points and on the frames, and on its label only where that
says whether it is a large surface. A scan that is read again with the same points and frames therefore loses
only the rows of the instances that changed, and the work on it is marked as stale: the steps fill it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.scan import BACKGROUND
from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.store.captions import CAPTIONS
from open3dsg.store.cloud import read_cloud, write_cloud
from open3dsg.store.frames import FRAME_COLUMNS, frame_row
from open3dsg.store.predictions import PREDICT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from psycopg import Connection

    from open3dsg.datasets.scan import Box, Cloud, Scan

MASKS = "masks"  # the step whose instances, merged from masks of frames, stand for those of the dataset

INSTANCE_COLUMNS = {
    "scan_id": "int8",
    "instance_no": "int4",
    "label_id": "int4",
    "point_count": "int4",
    "centroid_m": "float8[]",
    "aabb_min_m": "float8[]",
    "aabb_max_m": "float8[]",
    "obb_centre_m": "float8[]",
    "obb_axes": "float8[]",
    "obb_lengths_m": "float8[]",
}


@dataclass(frozen=True)
class Written:
    """What a scan now holds, as the ledger has it, and how that differs from before; empty for a new one."""

    counts: Mapping[str, int]
    changes: Mapping[str, int]


@dataclass(frozen=True)
class _Before:
    """The geometry of a scan as it is stored, with the labels of its instances."""

    cloud: Cloud
    frames: Sequence[tuple[object, ...]]
    labels: Mapping[int, str]


def write_geometry(
    connection: Connection[Any], scan_id: int, scan: Scan, ids: Mapping[str, int], downstream: Sequence[str]
) -> Written:
    """Write the points, frames and instances of a scan over those that are there, in a transaction.

    `ids` holds the term of each label; `downstream` names the steps that work on geometry. Raises
    RuntimeError where the reader gave no points.
    """
    if scan.cloud is None:
        raise RuntimeError(f"the reader gave no points for scan {scan.name}")
    frames = [frame_row(scan_id, frame) for frame in scan.frames]
    ledger.forget(connection, scan_id, [MASKS])  # which writes its own when it comes from there
    before = _read(connection, scan_id, scan.name)
    held = _held(connection, scan_id)
    if before is not None and _same_view(before, scan.cloud, frames):
        changed = moved_instances(before.cloud.instance, scan.cloud.instance)
        changed |= _turned_surfaces(connection, scan_id, before.labels, scan.labels)
        drop_instances(connection, scan_id, changed, downstream)
        _drop_said(connection, scan_id, _renamed(before.labels, scan.labels))
        if not _same_points(before.cloud, scan.cloud):
            execute(connection, "points_clear", {"scan_id": scan_id})
            write_cloud(connection, scan_id, scan.cloud)
    else:
        ledger.forget(connection, scan_id, downstream)
        execute(connection, "geometry_clear", {"scan_id": scan_id})
        write_cloud(connection, scan_id, scan.cloud)
        copy_in(connection, "frame", FRAME_COLUMNS, frames)
    count = len(scan.cloud.xyz_m)
    shape = {"scan_id": scan_id, "point_count": count, "colour_source": scan.cloud.colour_source}
    execute(connection, "scan_set_geometry", shape)
    label_ids = {number: ids[label] for number, label in scan.labels.items()}
    instances = _write_instances(connection, scan_id, scan.cloud, label_ids)
    execute(connection, "built_members_follow", {"scan_id": scan_id})
    counts = {"points": count, "frames": len(frames), "instances": instances}
    if before is None:
        return Written(counts, {})
    changes = _changes(before, scan.cloud, scan.labels)
    return Written(counts, changes | _kept_and_dropped(held, _held(connection, scan_id)))


def relabel_instances(
    connection: Connection[Any],
    scan_id: int,
    labels: Mapping[int, str],
    ids: Mapping[str, int],
    downstream: Sequence[str],
) -> dict[str, int]:
    """Give instances other labels, in a transaction; return what that changed.

    `labels` holds the new ones, of instances that are there; `ids` the term of each.
    """
    before = _labels(connection, scan_id)
    held = _held(connection, scan_id)
    turned = _turned_surfaces(connection, scan_id, before, before | dict(labels))
    drop_instances(connection, scan_id, turned, downstream)
    numbers = _renamed(before, labels)
    _drop_said(connection, scan_id, numbers)
    named = {"scan_id": scan_id, "numbers": numbers, "label_ids": [ids[labels[number]] for number in numbers]}
    execute(connection, "instance_set_labels", named)
    execute(connection, "built_members_follow", {"scan_id": scan_id})
    return {"labels_changed": len(numbers), **_kept_and_dropped(held, _held(connection, scan_id))}


def moved_instances(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> set[int]:
    """Return the instances that gained or lost a point; both (N,) int32, of the same points."""
    moved = before != after
    return set(np.union1d(before[moved], after[moved]).tolist()) - {BACKGROUND}


def drop_instances(
    connection: Connection[Any], scan_id: int, numbers: Collection[int], downstream: Sequence[str]
) -> None:
    """Drop what was made of some instances, and mark the work of the scan as stale."""
    if numbers:
        execute(connection, "instance_drop_work", {"scan_id": scan_id, "numbers": sorted(numbers)})
        ledger.mark_stale(connection, scan_id, downstream)


def _renamed(before: Mapping[int, str], after: Mapping[int, str]) -> list[int]:
    """Return the instances of both that are called otherwise now."""
    return [number for number, label in after.items() if before.get(number, label) != label]


def _drop_said(connection: Connection[Any], scan_id: int, numbers: Collection[int]) -> None:
    """Drop what was said of some instances under the names they had, and mark that work as stale.

    What rules say knows no names, and stays.
    """
    if numbers:
        renamed = {"scan_id": scan_id, "numbers": sorted(numbers)}
        execute(connection, "captions_drop_renamed", {**renamed, "step": CAPTIONS})
        execute(connection, "predictions_drop_renamed", {**renamed, "step": PREDICT})


def _read(connection: Connection[Any], scan_id: int, name: str) -> _Before | None:
    if fetch_value(connection, "has_points", {"scan_id": scan_id}) is not True:
        return None
    frames = execute(connection, "frame_rows", {"scan_id": scan_id}).fetchall()
    return _Before(read_cloud(connection, scan_id, name), frames, _labels(connection, scan_id))


def _labels(connection: Connection[Any], scan_id: int) -> dict[int, str]:
    return dict(execute(connection, "instance_labels", {"scan_id": scan_id}).fetchall())


def _same_view(before: _Before, cloud: Cloud, frames: Sequence[tuple[object, ...]]) -> bool:
    """Tell whether points and frames are the same to the bit."""
    by_number = sorted(frames, key=lambda row: row[1])  # type: ignore[arg-type, return-value]
    return np.array_equal(before.cloud.xyz_m, cloud.xyz_m) and list(before.frames) == by_number


def _same_points(before: Cloud, after: Cloud) -> bool:
    """Tell whether colours, instances and normals of the same positions are the same."""
    if (before.normals is None) != (after.normals is None):
        return False
    same_normals = (
        before.normals is None or after.normals is None or np.array_equal(before.normals, after.normals)
    )
    return (
        same_normals
        and np.array_equal(before.rgb, after.rgb)
        and np.array_equal(before.instance, after.instance)
    )


def _turned_surfaces(
    connection: Connection[Any], scan_id: int, before: Mapping[int, str], after: Mapping[int, str]
) -> set[int]:
    """Return the instances whose label changed to or from one that was observed as a large surface."""
    named = fetch_value(connection, "observed_surfaces", {"scan_id": scan_id})
    surfaces = {label.lower() for label in named or ()}
    return {
        number
        for number in before.keys() & after.keys()
        if (before[number].lower() in surfaces) != (after[number].lower() in surfaces)
    }


def _held(connection: Connection[Any], scan_id: int) -> dict[str, int]:
    """Count what was made of the scan's instances."""
    cursor = execute(connection, "work_counts", {"scan_id": scan_id})
    names = [column.name for column in cursor.description or ()]
    return dict(zip(names, cursor.fetchone() or (), strict=True))


def _kept_and_dropped(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    kept = {f"{name}_kept": count for name, count in after.items()}
    return kept | {f"{name}_dropped": before[name] - count for name, count in after.items()}


def _changes(before: _Before, cloud: Cloud, labels: Mapping[int, str]) -> dict[str, int]:
    """Count how labels and instances differ; where positions differ, so does every instance."""
    old = set(np.unique(before.cloud.instance).tolist()) - {BACKGROUND}
    new = set(np.unique(cloud.instance).tolist()) - {BACKGROUND}
    same_points = np.array_equal(before.cloud.xyz_m, cloud.xyz_m)
    moved = moved_instances(before.cloud.instance, cloud.instance) if same_points else old & new
    return {
        "labels_changed": len(_renamed(before.labels, labels)),
        "instances_kept": len((old & new) - moved),
        "instances_changed": len(old & new & moved),
        "instances_new": len(new - old),
        "instances_gone": len(old - new),
    }


def _write_instances(
    connection: Connection[Any], scan_id: int, cloud: Cloud, label_ids: Mapping[int, int]
) -> int:
    execute(connection, "instance_staging")
    rows = _instance_rows(scan_id, cloud, label_ids)
    count = copy_in(connection, "instance_staging", INSTANCE_COLUMNS, rows)
    execute(connection, "instance_retire", {"scan_id": scan_id})
    execute(connection, "instance_merge")
    execute(connection, "instance_staging_drop")
    return count


def write_boxes(
    connection: Connection[Any], scan_id: int, boxes: Mapping[int, Box], label_ids: Mapping[int, int]
) -> int:
    """Write instances of a scan without points over those that are there; return how many have a place.

    `label_ids` holds the term of the label of each instance; `boxes` those whose place is known.
    """
    execute(connection, "instance_staging")
    rows = ((scan_id, number, label, 0, *_box_row(boxes.get(number))) for number, label in label_ids.items())
    copy_in(connection, "instance_staging", INSTANCE_COLUMNS, rows)
    execute(connection, "instance_merge")
    execute(connection, "instance_staging_drop")
    return len(boxes)


def _box_row(box: Box | None) -> tuple[object, ...]:
    """Return what the columns of `instance` hold of a box, from the centroid on."""
    if box is None:
        return (None,) * 6
    parts = (
        box.centroid_m,
        box.aabb_min_m,
        box.aabb_max_m,
        box.obb_centre_m,
        box.obb_axes,
        box.obb_lengths_m,
    )
    return tuple(None if part is None else list(part) for part in parts)


def _instance_rows(scan_id: int, cloud: Cloud, label_ids: Mapping[int, int]) -> Iterator[tuple[object, ...]]:
    from open3dsg.geometry.boxes import instance_boxes  # compiled loops: a second, where they are run

    boxes = instance_boxes(cloud.xyz_m, cloud.instance)
    place = {int(number): index for index, number in enumerate(boxes.numbers)}
    without_label = sorted(place.keys() - label_ids.keys())
    if without_label:
        raise RuntimeError(f"the reader left instances without a label: {without_label}")
    for number, label_id in sorted(label_ids.items()):
        at = place.get(number)
        if at is None:
            yield (scan_id, number, label_id, 0, *[None] * 6)
            continue
        shape = (
            boxes.centroid[at],
            boxes.aabb_min[at],
            boxes.aabb_max[at],
            boxes.obb_centre[at],
            boxes.obb_axes[at],
            boxes.obb_lengths[at],
        )
        yield (
            scan_id,
            number,
            label_id,
            int(boxes.point_count[at]),
            *(np.asarray(part, np.float64).ravel().tolist() for part in shape),
        )
