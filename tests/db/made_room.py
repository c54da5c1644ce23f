"""A scan of random points in overlapping boxes, with two subgraphs, ingested through a reader of its own.

Which frame shows which instance is made up, too: frames and observations are written as rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.datasets.layouts import WordList
from open3dsg.datasets.scan import Cloud, Scan, Subgraph
from open3dsg.db import ledger
from open3dsg.steps.ingest import Ingest
from open3dsg.store.scans import find_scan
from tests.db.pipeline import Database, rows

KEY = "made/room"
PREDICATES = ("none", "close by", "standing on", "left")
LABELS = {
    1: "floor",
    2: "wall",
    3: "table",
    5: "chair",
    8: "lamp",
    11: "book",
    12: "dot",
    20: "shelf",
    21: "ghost",
}
DOT = 12  # an instance of one point
EMPTY = 21  # an instance without points
UNSEEN = 8  # an instance that no frame shows
SUBGRAPHS = (
    Subgraph(
        1,
        {number: LABELS[number] for number in (1, 2, 3, 5, 8, 12, 21)},
        [
            (3, 1, "standing on"),
            (3, 1, "close by"),
            (1, 3, "left"),
            (8, 3, "close by"),
            (5, 2, "beyond the list"),
        ],
    ),
    Subgraph(
        4,
        {number: LABELS[number] for number in (1, 3, 11, 20)},
        [(3, 1, "standing on"), (11, 20, "close by")],
    ),
)
FRAMES = 8
_CORNER_M = np.array([40.0, -20.0, 3.0])


class Room:
    """Reads the one scan there is; `lists` False: the dataset comes without lists of words."""

    arguments: Mapping[str, Any] = {}
    ledger_options: Mapping[str, Any] = {}

    def __init__(self, *, lists: bool = True, split: str | None = "train") -> None:
        self._lists = lists
        self._split = split

    def word_lists(self) -> Sequence[WordList]:
        return [WordList("predicates", "predicate", PREDICATES)] if self._lists else []

    def annotation_hash(self, name: str) -> str | None:
        return "made"

    def attributes_of(self, name: str) -> None:
        return None

    def read(self, name: str) -> Scan:
        return Scan(
            dataset="made",
            name=name,
            root=Path(),
            cloud=cloud(),
            labels=LABELS,
            split=self._split,
            subgraphs=SUBGRAPHS,
        )


def cloud() -> Cloud:
    """2,600 points: 300 of each instance but the small ones, 500 of none, all mixed."""
    rng = np.random.default_rng(3)
    xyz, instance = [], []
    for number in sorted(LABELS):
        count = {DOT: 1, EMPTY: 0}.get(number, 300)
        turn = rng.uniform(0, np.pi)
        axes = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        local = rng.uniform(-0.5, 0.5, (count, 3)) * rng.uniform(0.4, 1.6, 3)
        xyz.append(local @ axes + rng.uniform(0, 1.5, 3) + _CORNER_M)
        instance.append(np.full(count, number))
    xyz.append(rng.uniform(-0.5, 2, (500, 3)) + _CORNER_M)
    instance.append(np.full(500, -1))
    order = rng.permutation(sum(map(len, instance)))
    return Cloud(
        xyz_m=np.concatenate(xyz).astype(np.float32)[order],
        rgb=rng.integers(0, 256, (len(order), 3), np.uint8),
        instance=np.concatenate(instance).astype(np.int32)[order],
        normals=rng.standard_normal((len(order), 3), np.float32),
        colour_source="vertex",
    )


def ingest(
    database: Database, *, layout: str = "3rscan", lists: bool = True, split: str | None = "train"
) -> None:
    step = Ingest(Room(lists=lists, split=split), "made", layout, "/nowhere")
    step(database, "room")
    step.close(database)


def seen() -> dict[int, NDArray[np.int64]]:
    """Instance -> the frames that show it, ascending; nothing shows the lamp and the ghost."""
    rng = np.random.default_rng(5)
    shown = sorted(set(LABELS) - {UNSEEN, EMPTY})
    return {number: np.sort(rng.choice(FRAMES, rng.integers(1, 6), replace=False)) for number in shown}


def observe(database: Database) -> dict[tuple[int, int], tuple[int, float, list[int]]]:
    """Write frames and observations; return (instance, frame) -> points, ratio, box."""
    scan_id = find_scan(database, KEY).scan_id
    rng = np.random.default_rng(9)
    made = {}
    for frame in range(FRAMES):
        database.execute(
            "INSERT INTO frame (scan_id, frame_no, image_uri, image_size, image_intrinsics, t_world_camera)"
            " VALUES (%s, %s, 'x.jpg', '{4,3}', '{1,1,1,1}', array_fill(0.0, ARRAY[16]))",
            (scan_id, frame),
        )
    for number, frames in seen().items():
        for frame in frames.tolist():
            box = np.sort(rng.integers(0, 200, (2, 2)), axis=0).ravel().tolist()
            points, ratio = int(rng.integers(20, 300)), int(rng.integers(8, 65)) / 64
            made[number, frame] = points, ratio, box
            database.execute(
                "INSERT INTO observation (scan_id, instance_no, frame_no, visible_points, unique_pixels,"
                " visibility_ratio, pixel_box, pixels) VALUES (%s, %s, %s, %s, 1, %s, %s, '\\x05')",
                (scan_id, number, frame, points, ratio, box),
            )
    ledger.record(database, scan_id, ledger.Entry("observe", 1, {}), {})
    return made


def boxes(database: Database) -> dict[int, tuple[NDArray[np.float64], ...]]:
    """Instance -> low and high corner, and centre, axes and lengths of the oriented box, as stored."""
    found = rows(
        database,
        "SELECT instance_no, aabb_min_m, aabb_max_m, obb_centre_m, obb_axes, obb_lengths_m FROM instance"
        " WHERE point_count > 0",
    )
    return {row[0]: tuple(np.array(part, np.float64) for part in row[1:]) for row in found}
