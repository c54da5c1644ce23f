"""Runs as rows, made without any training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg

from open3dsg.store.encoders import StoredEncoder, add_revision
from open3dsg.store.runs import NewRun, StoredRun, create_run
from open3dsg.training.options import preset

Database = psycopg.Connection[Any]
UNITS: Mapping[str, Mapping[str, list[int]]] = {
    "train": {"3rscan/a": [0, 1], "rooms/b": [2]},
    "validation": {"3rscan/c": [0]},
}


def add_encoder(database: Database, name: str, views: str = "crops", revision: str = "r1") -> StoredEncoder:
    return add_revision(database, name, revision, dimension=4, views=views, tokens=None, options={})


def new_run(database: Database, name: str, **changes: Any) -> NewRun:
    nodes, relations = add_encoder(database, "seer"), add_encoder(database, "teller", "boxes")
    new = NewRun(
        name=name,
        options=preset("small").as_json(),
        node_encoder_id=nodes.encoder_id,
        relation_encoder_id=relations.encoder_id,
        words_encoder_id=add_encoder(database, "words", "text").encoder_id,
        targets="captions",
        predicates=None,
        units=UNITS,
        manifest="0123456789abcdef",
    )
    return replace(new, **changes)


def make_run(database: Database, name: str = "quiet-lamp-1", **changes: Any) -> StoredRun:
    return create_run(database, new_run(database, name, **changes))


def add_prediction(database: Database, run: StoredRun, label: str) -> int:
    """Add a prediction of no scan; returns its number."""
    row = database.execute(
        "INSERT INTO prediction (run_id, label, source, weight_2d, node_words_id, checkpoint_step,"
        " checkpoint_digest, options, code_revision)"
        " VALUES (%s, %s, 'student', 0, %s, 10, 'd', '{}', 'c') RETURNING prediction_id",
        (run.run_id, label, run.node_encoder.encoder_id),
    ).fetchone()
    assert row is not None
    return int(row[0])


def add_evaluation(
    database: Database,
    prediction_id: int,
    protocol: str,
    metrics: str,
    options: Mapping[str, object] | None = None,
) -> None:
    told = json.dumps(options or {})
    database.execute(
        "INSERT INTO evaluation (prediction_id, protocol, options, options_hash, vocabularies, metrics,"
        " scans, code_revision) VALUES (%s, %s, %s, md5(%s), '{}', %s, 3, 'c')",
        (prediction_id, protocol, told, told, metrics),
    )
