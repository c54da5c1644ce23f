"""Nodes with given embeddings, for tests of what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector

from open3dsg.db.copying import copy_in
from open3dsg.db.terms import term_ids
from open3dsg.steps.features.nodes import COLUMNS

DIMENSION = 24
SCANS, PER_SCAN = 40, 50
LABELS = ("chair", "table", 'it\'s a 100% "lamp"; DROP TABLE scan; --', "Stuhl \N{CHAIR}")


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


def fill(database: psycopg.Connection[Any], dimension: int = DIMENSION) -> NDArray[np.float32]:
    """Fill the store with clustered embeddings of 2,000 nodes in 40 scans of two datasets; return them."""
    random = np.random.default_rng(5)
    centres = random.normal(size=(20, dimension))
    embeddings = centres[random.integers(20, size=SCANS * PER_SCAN)] + random.normal(
        0, 0.4, (SCANS * PER_SCAN, dimension)
    )
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = term_ids(database, LABELS)
    database.execute("INSERT INTO dataset (name, layout) VALUES ('even', '3rscan'), ('odd', '3rscan')")
    database.execute(
        "INSERT INTO scan (dataset_id, name) SELECT 1 + n % 2, 'scan' || n FROM generate_series(0, 39) n"
    )
    write_encoder(database, dimension)
    rows = [(1 + at // PER_SCAN, at % PER_SCAN) for at in range(len(embeddings))]
    copy_in(
        database,
        "instance",
        {
            "scan_id": "int8",
            "instance_no": "int4",
            "label_id": "int4",
            "point_count": "int4",
            "centroid_m": "float8[]",
        },
        [(*key, labels[LABELS[key[1] % 4]], 1, [float(key[1]), key[0] / 10, 0.0]) for key in rows],
    )
    write_features(database, rows, embeddings)
    database.execute("ANALYZE")
    return embeddings.astype(np.float32)
