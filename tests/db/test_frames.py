"""Frames come back from the database as their reader gave them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.store.frames import read_frames
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests.db.pipeline import KEY, ingest


def test_frames_are_as_they_were_read(database: psycopg.Connection[Any], root: Path) -> None:
    (root / mini.NAME / "sequence" / "frame-000002.depth.pgm").unlink()
    ingest(root)(database, mini.NAME)
    given = ThreeRScan(root).read(mini.NAME).frames
    stored = read_frames(database, find_scan(database, KEY).scan_id)
    assert [frame.depth is None for frame in stored] == [False, False, True, False]
    assert len(stored) == len(given) == mini.FRAMES
    for one, read in zip(stored, given, strict=True):
        np.testing.assert_array_equal(one.T_world_camera, read.T_world_camera)
        has_depth = read.depth_uri is not None
        assert one == replace(
            read, T_world_camera=one.T_world_camera, depth=read.depth if has_depth else None
        )
