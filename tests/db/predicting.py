"""Predictions asked for, read and stated again in plain words, for the tests of `predict`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import torch
from numpy.typing import NDArray

from open3dsg.steps.predict import Predict
from open3dsg.steps.predict_options import PredictOptions
from open3dsg.store.checkpoints import find_checkpoint
from open3dsg.store.encoders import find_encoder, query_vector
from open3dsg.store.pair_features import read_pair_tokens
from open3dsg.store.predictions import EdgePrediction, NodePrediction, find_prediction, read_edges, read_nodes
from open3dsg.store.runs import StoredRun
from open3dsg.store.scans import find_scan
from open3dsg.training.batch import join
from open3dsg.training.options import run_options
from open3dsg.training.restore import load_network, relation_of
from open3dsg.training.stream import read_graphs
from tests import miniature as mini
from tests.db import trained
from tests.toy_encoder import ToyCaptions

Database = psycopg.Connection[Any]
Pair = tuple[int, int]
SCAN, OTHER = trained.key(1), trained.key(2)
PAIRS = sorted((a, b) for a in mini.LABELS for b in mini.LABELS if a != b)
HALF = 2e-3  # what half precision leaves of unit rows


def predict(store: Database, run: str = "otter", scan: str = SCAN, **options: Any) -> dict[str, int]:
    counts = Predict(PredictOptions(run, **options))(store, scan).counts
    return dict(counts)


def nodes(store: Database, text: str, scan: str = SCAN) -> dict[int, NodePrediction]:
    found = find_prediction(store, text)
    return {
        node.instance: node for node in read_nodes(store, find_scan(store, scan).scan_id, found.prediction_id)
    }


def edges(store: Database, text: str, scan: str = SCAN) -> dict[Pair, EdgePrediction]:
    found = find_prediction(store, text)
    rows = read_edges(store, find_scan(store, scan).scan_id, found.prediction_id)
    return {(edge.subject, edge.object): edge for edge in rows}


def unit(row: NDArray[Any]) -> NDArray[np.float64]:
    wide: NDArray[np.float64] = np.asarray(row, np.float64)
    return wide / np.linalg.norm(wide)


def close(found: NDArray[Any] | None, expected: NDArray[Any], atol: float) -> None:
    assert found is not None
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), atol=atol)


def student(
    store: Database, run: StoredRun, scan: str = SCAN, step: str = "best", **options: Any
) -> tuple[dict[int, NDArray[Any]], dict[Pair, NDArray[Any]]]:
    """State again what a network says: unit after unit, row after row; the numbers as they come."""
    network = load_network(store, run, find_checkpoint(store, run, step))
    stream = replace(run_options(run.options).stream, graphs=options.pop("graphs", "subgraph"))
    of_nodes: dict[int, list[NDArray[Any]]] = {}
    of_edges: dict[Pair, list[NDArray[Any]]] = {}
    found = read_graphs(
        store, scan, run.node_encoder, relation_of(run), stream, with_targets=False, **options
    )
    for _key, one, graph in found:
        with torch.no_grad():
            told = network(join([graph]))
        for number, row in zip(one.numbers.tolist(), told.nodes.numpy(), strict=True):
            of_nodes.setdefault(number, []).append(unit(row))
        said = told.classes.sigmoid() if told.relations is None else told.relations
        for (a, b), row in zip(one.pairs.tolist(), said.numpy(), strict=True):
            of_edges.setdefault((a, b), []).append(
                row if row.ndim == 2 or told.relations is None else unit(row)
            )
    return (
        {number: np.mean(rows, axis=0) for number, rows in of_nodes.items()},
        {pair: np.mean(rows, axis=0) for pair, rows in of_edges.items()},
    )


def teacher_nodes(store: Database, scan: str = SCAN) -> dict[int, NDArray[Any]]:
    rows = store.execute(
        "SELECT instance_no, embedding::real[] FROM node_feature WHERE scan_id = %s AND encoder_id = %s",
        [find_scan(store, scan).scan_id, find_encoder(store, "toy").encoder_id],
    )
    return {number: np.array(embedding) for number, embedding in rows}


def captions(store: Database, scan: str = SCAN) -> dict[Pair, tuple[str, NDArray[Any]]]:
    """Phrases with their embeddings."""
    rows = store.execute(
        "SELECT subject, object, phrase FROM v_relation_caption"
        " WHERE encoder LIKE 'geometry@%%' AND scan_id = %s",
        [find_scan(store, scan).scan_id],
    ).fetchall()
    words = find_encoder(store, "toywords")
    return {(a, b): (phrase, query_vector(store, words, phrase)) for a, b, phrase in rows}


def tokens(store: Database) -> dict[Pair, NDArray[Any]]:
    encoder = find_encoder(store, "toycaptions")
    found = read_pair_tokens(store, find_scan(store, SCAN).scan_id, encoder)
    return {ends: grid for a, b, grid in found for ends in ((a, b), (b, a))}


def check_speech(
    store: Database, text: str, grids: dict[Pair, NDArray[Any]], names: dict[int, str]
) -> dict[Pair, EdgePrediction]:
    found = edges(store, text)
    assert found.keys() == grids.keys()
    for (a, b), edge in found.items():
        phrase = ToyCaptions.phrases[int(grids[a, b][0, :3].argmax())]
        if names[a] == "picture":
            assert (edge.caption, edge.phrase, edge.embedding) == ("the picture", None, None)
            continue
        assert edge.caption == f"the {names[a]} {phrase} the {names[b]}"
        assert edge.phrase == " ".join(phrase.lower().split())
        expected = query_vector(store, find_encoder(store, "toy"), edge.phrase)
        close(edge.embedding, expected, atol=HALF)
    return found
