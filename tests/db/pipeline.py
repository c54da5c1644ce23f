"""What tests of the steps share: the steps on a miniature, and the content of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.geometry.thresholds import VisibilityThresholds
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from tests import miniature as mini

Database = psycopg.Connection[Any]
THRESHOLDS = VisibilityThresholds(min_points=3, min_ratio=0.1, enough_points=5)
KEY = f"3rscan/{mini.NAME}"
# The miniature has few points.
GRAPH = Graph(GraphOptions(instance_points=20, pair_points=50))
FULL_GRAPH = Graph(GraphOptions(instance_points=20, pair_points=50, full=True, max_distance_m=None))


def ingest(root: Path, *, force: bool = False) -> Ingest:
    return Ingest(ThreeRScan(root), "3rscan", "3rscan", str(root), force)


def observe(*, force: bool = False, every: int = 1, replace: bool = False) -> Observe:
    return Observe(ObserveOptions(every, THRESHOLDS), force, replace)


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    return database.execute(query.encode()).fetchall()


def content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All that the steps wrote, without ids and times."""
    return {
        "nodes": rows(
            database,
            "SELECT dataset, scan, instance, label, centroid_m, point_count FROM v_node ORDER BY 2, 3",
        ),
        "triples": rows(
            database,
            "SELECT scan, subgraph, subject, predicate, object FROM v_relationship ORDER BY 1, 2, 3, 4, 5",
        ),
        "frames": rows(
            database,
            "SELECT name, frame_no, image_uri, depth_uri, t_world_camera FROM frame"
            " JOIN scan USING (scan_id) ORDER BY 1, 2",
        ),
        "observations": rows(
            database,
            "SELECT name, instance_no, frame_no, visible_points, pixel_box, pixels FROM observation"
            " JOIN scan USING (scan_id) ORDER BY 1, 2, 3",
        ),
        "features": rows(
            database,
            "SELECT name, instance_no, embedding::text, frame_nos, boxes FROM node_feature"
            " JOIN scan USING (scan_id) ORDER BY 1, 2",
        ),
        "ledger": rows(
            database,
            "SELECT name, step, variant, chunk, counts FROM ledger"
            " JOIN scan USING (scan_id) ORDER BY 1, 2, 3, 4",
        ),
    }


def expected_visible(number: int, frame: int) -> tuple[int, set[tuple[int, int]]]:
    """Visible points of an instance and their pixels (row, column), point by point in plain Python."""
    depth, _ = mini.cast(frame, mini.DEPTH_SIZE, mini.DEPTH_FOCAL)
    depth = np.rint(depth * 1000) / 1000
    xyz, numbers, _ = mini.points()
    T_camera_world = np.linalg.inv(mini.pose(frame))
    count, pixels = 0, set()
    for point in xyz[numbers == number]:
        x, y, z = T_camera_world[:3, :3] @ point + T_camera_world[:3, 3]
        column = round(x / z * mini.DEPTH_FOCAL + (mini.DEPTH_SIZE[0] - 1) / 2)
        row = round(y / z * mini.DEPTH_FOCAL + (mini.DEPTH_SIZE[1] - 1) / 2)
        if 0 <= column < mini.DEPTH_SIZE[0] and 0 <= row < mini.DEPTH_SIZE[1]:
            measured = depth[row, column]
            if measured > 0 and abs(measured - z) <= 0.2 * measured:
                count += 1
                pixels.add((row, column))
    return count, pixels
