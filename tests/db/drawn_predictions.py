"""Three scans whose predictions are drawn numbers, beside which other predictions stand."""

from __future__ import annotations

from typing import Any

import psycopg

from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.store.predictions import (
    EdgePrediction,
    NodePrediction,
    StoredPrediction,
    write_predictions,
)
from tests.db.predicted import (
    NODE_DIMENSION,
    RELATION_DIMENSION,
    unit_rows,
    write_encoder,
    write_prediction,
    write_run,
    write_vocabulary,
)

SCANS, PER_SCAN = 3, 8
LABELS = ("chair", "table")
CLASSES = [f"class {number}" for number in range(9)]
# Wordings and what they stand for; "behind" is meant only by others, and "none" is a term like others.
WORDINGS = {
    "none": "none",
    "left": "left",
    "to the left of": "left",
    "on the left side": "left",
    "standing on": "standing on",
    "at the back of": "behind",
    "behind": "behind",
}
PAIRS = [(a, b) for a in range(1, PER_SCAN + 1) for b in range(1, PER_SCAN + 1) if a != b]

Database = psycopg.Connection[Any]
NODES = unit_rows(1, SCANS, PER_SCAN, NODE_DIMENSION)
EDGES = unit_rows(2, SCANS, len(PAIRS), RELATION_DIMENSION)
CLASS_WORDS = unit_rows(3, len(CLASSES), NODE_DIMENSION)
WORDS = unit_rows(4, len(WORDINGS), RELATION_DIMENSION)
SILENT = {(0, 3), (1, 5)}  # scan, place of a pair: of these nothing was said


def fill(database: Database) -> StoredPrediction:
    """Write three scans of two datasets, and return the prediction of them that is not the other one."""
    labels = term_ids(database, LABELS)
    database.execute("INSERT INTO dataset (name, layout) VALUES ('even', '3rscan'), ('odd', '3rscan')")
    nodes = write_encoder(database, "toy", NODE_DIMENSION)
    words = write_encoder(database, "sentences", RELATION_DIMENSION, "text")
    run = write_run(database, "otter", nodes, words, words, targets="captions")
    prediction = write_prediction(database, run, words=words)
    other = write_prediction(database, run, "other", words=words)
    for scan in range(SCANS):
        [(scan_id,)] = database.execute(
            "INSERT INTO scan (dataset_id, name) VALUES (%s, %s) RETURNING scan_id",
            [1 + scan % 2, f"scan{scan}"],
        ).fetchall()
        database.execute(
            "INSERT INTO instance (scan_id, instance_no, label_id, point_count, centroid_m)"
            " SELECT %s, n, CASE n %% 2 WHEN 0 THEN %s ELSE %s END, 1, ARRAY[n, %s, 0]"
            " FROM generate_series(1, %s) n",
            [scan_id, labels["chair"], labels["table"], scan, PER_SCAN],
        )
        with terms_in_use(database), database.transaction():
            write_predictions(database, scan_id, prediction.prediction_id, node_rows(scan), edge_rows(scan))
            noise = [row._replace(embedding=-row.embedding) for row in node_rows(scan)]
            write_predictions(database, scan_id, other.prediction_id, noise, [])
    write_vocabulary(database, "classes", {word: word for word in CLASSES}, nodes, CLASS_WORDS)
    write_vocabulary(database, "wordings", WORDINGS, words, WORDS)
    return prediction


def node_rows(scan: int) -> list[NodePrediction]:
    origins: list[Any] = ["student", "teacher"]
    return [NodePrediction(at + 1, NODES[scan, at], origins[at % 2]) for at in range(PER_SCAN)]


def edge_rows(scan: int) -> list[EdgePrediction]:
    return [
        EdgePrediction(
            *pair,
            None if (scan, at) in SILENT else EDGES[scan, at],
            None,
            "the whole" if at % 2 else None,
            "part of it" if at % 4 == 1 else None,
            "fused",
        )
        for at, pair in enumerate(PAIRS)
    ]
