"""A made room with a run whose predictions are random, for tests of judging them."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open3dsg.db.terms import add_vocabulary, terms_in_use
from open3dsg.evaluation.results import Evaluation
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.store.encoders import keep_words
from open3dsg.store.predictions import EdgePrediction, NodePrediction, StoredPrediction, write_predictions
from open3dsg.store.scans import find_scan
from tests.db import made_room as made
from tests.db.pipeline import Database, rows
from tests.db.predicted import (
    NODE_DIMENSION,
    RELATION_DIMENSION,
    unit_rows,
    write_encoder,
    write_prediction,
    write_run,
    write_vocabulary,
)

# 'book' and 'beyond the list' are annotated, and not here.
THINGS = ("chair", "dot", "floor", "lamp", "shelf", "sofa", "table", "wall")
WAYS = {
    "close by": "close by",
    "left": "left",
    "next to": "close by",
    "none": "none",
    "standing on": "standing on",
}
PREDICTED = (1, 2, 3, 5, 8, 11, 12)  # not 20
SILENT = {(1, 3), (5, 2)}  # the first with a row, the second without
RUN = "plain-oak-1"
THING_ROWS = unit_rows(1, len(THINGS), NODE_DIMENSION)
WAY_ROWS = unit_rows(2, len(WAYS), RELATION_DIMENSION)


def fill(database: Database) -> None:
    """Make a room with its graph, in which two pairs are far, and a run with the prediction `first`."""
    made.ingest(database)
    made.observe(database)
    Graph(GraphOptions(instance_points=20, pair_points=30))(database, made.KEY)
    database.execute("UPDATE pair SET min_distance_m = 0.2")
    database.execute(
        "UPDATE pair SET min_distance_m = 0.6 WHERE (instance_a, instance_b) IN ((2, 12), (1, 20))"
    )
    nodes = write_encoder(database, "nodes", NODE_DIMENSION)
    words = write_encoder(database, "ways", RELATION_DIMENSION, "text")
    with terms_in_use(database), database.transaction():
        add_vocabulary(database, "things", "class", THINGS)
        keep_words(database, nodes, THINGS, THING_ROWS)
    write_vocabulary(database, "ways", WAYS, words, WAY_ROWS)
    run = write_run(database, RUN, nodes, words, words, targets="captions")
    predict(database, write_prediction(database, run, "first", words), 3)


def predict(database: Database, prediction: StoredPrediction, seed: int) -> None:
    """Write random predictions, rather near to the truth."""
    node, edge = guesses(seed)
    nodes = [NodePrediction(number, embedding, "teacher") for number, embedding in node.items()]
    edges = [
        EdgePrediction(*pair, None if pair in SILENT else embedding, None, None, None, "teacher")
        for pair, embedding in edge.items()
        if pair != (5, 2)
    ]
    scan_id = find_scan(database, made.KEY).scan_id
    with terms_in_use(database), database.transaction():
        write_predictions(database, scan_id, prediction.prediction_id, nodes, edges)


def guesses(seed: int) -> tuple[dict[int, NDArray[np.float32]], dict[tuple[int, int], NDArray[np.float32]]]:
    pairs = list(permutations(PREDICTED, 2))
    node = dict(zip(PREDICTED, unit_rows(seed, len(PREDICTED), NODE_DIMENSION), strict=True))
    edge = dict(zip(pairs, unit_rows(seed + 1, len(pairs), RELATION_DIMENSION), strict=True))
    return node, edge


def ranks(database: Database, evaluation: Evaluation, kind: str) -> list[tuple[Any, ...]]:
    """(subgraph, subject, object, what is true, its place) of all that was judged of a kind."""
    return rows(
        database,
        "SELECT subgraph, subject, object, truth, rank FROM v_evaluation_rank"
        f" WHERE evaluation_id = {evaluation.evaluation_id} AND kind = '{kind}' ORDER BY 1, 2, 3, 4",
    )


def unit(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows of unit length."""
    rows: NDArray[np.float32] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return rows
