"""Nodes with given embeddings, for tests of what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector

from open3dsg.db.copying import copy_in
from open3dsg.steps.features.nodes import COLUMNS


def write_encoder(database: psycopg.Connection[Any], dimension: int) -> None:
    """Register the active encoder `toy`, the first of an empty database: its number is 1."""
    database.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active)"
        " VALUES ('toy', 'r', %s, 'crops', true)",
        [dimension],
    )


def write_features(
    database: psycopg.Connection[Any], nodes: Iterable[tuple[int, int]], embeddings: NDArray[Any]
) -> None:
    """Write the embeddings of encoder 1, one row a node, of nodes (scan_id, instance_no)."""
    rows: Iterable[tuple[object, ...]] = (
        (scan, 1, number, HalfVector(embedding), [], [], [])
        for (scan, number), embedding in zip(nodes, embeddings, strict=True)
    )
    copy_in(database, "node_feature", COLUMNS, rows)
