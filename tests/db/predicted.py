"""A run with predictions of given embeddings, for tests of what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import torch
from numpy.typing import NDArray

from open3dsg.db.terms import add_vocabulary, term_ids, terms_in_use
from open3dsg.store.checkpoints import StoredCheckpoint, save_checkpoint
from open3dsg.store.encoders import StoredEncoder, find_encoder, keep_words
from open3dsg.store.predictions import NewPrediction, StoredPrediction, register_prediction
from open3dsg.store.runs import NewRun, StoredRun, create_run
from open3dsg.training.options import RunOptions, Targets, preset
from open3dsg.training.restore import make_network, plan_of
from open3dsg.training.state import FORMAT, shape_as_json
from open3dsg.training.targets import find_targets
from tests.db.trained import DATASET, NODES

NODE_DIMENSION, RELATION_DIMENSION = 12, 7


def unit_rows(seed: int, *shape: int) -> NDArray[np.float32]:
    """Random unit rows as half precision holds them."""
    rows = np.random.default_rng(seed).normal(size=shape)
    halves: NDArray[np.float16] = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float16)
    return halves.astype(np.float32)


def write_encoder(
    database: psycopg.Connection[Any], name: str, dimension: int, views: str = "crops"
) -> StoredEncoder:
    database.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active) VALUES (%s, 'r', %s, %s, true)",
        [name, dimension, views],
    )
    return find_encoder(database, name)


def write_run(
    database: psycopg.Connection[Any],
    name: str,
    nodes: StoredEncoder,
    relations: StoredEncoder | None,
    words: StoredEncoder | None,
    *,
    targets: Any = "pooled",
    predicates: Sequence[str] | None = None,
    units: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> StoredRun:
    new = NewRun(
        name,
        preset("small").as_json() if options is None else options,
        nodes.encoder_id,
        None if relations is None else relations.encoder_id,
        None if words is None else words.encoder_id,
        targets,
        predicates,
        units or {"train": {}, "validation": {}},
        "0" * 16,
    )
    return create_run(database, new)


def write_prediction(
    database: psycopg.Connection[Any],
    run: StoredRun,
    label: str = "teacher",
    words: StoredEncoder | None = None,
    **options: Any,
) -> StoredPrediction:
    made: dict[str, Any] = {
        "run_id": run.run_id,
        "run": run.name,
        "label": label,
        "source": "teacher",
        "weight_2d": 1.0,
        "node_words": run.node_encoder,
        "relation_words": words,
        "checkpoint_step": None,
        "checkpoint_digest": None,
    }
    return register_prediction(database, NewPrediction(**(made | options)))


def write_vocabulary(
    database: psycopg.Connection[Any],
    name: str,
    words: Mapping[str, str],
    encoder: StoredEncoder | None,
    embeddings: NDArray[np.float32] | None = None,
) -> None:
    """Add a list of wordings -> what each stands for, itself if the same, with their embeddings."""
    with terms_in_use(database), database.transaction():
        add_vocabulary(database, name, "predicate", list(words))
        ids = term_ids(database, {*words, *words.values()})
        for word, meant in words.items():
            if word != meant:
                database.execute(
                    "UPDATE vocabulary_term SET stands_for = %s WHERE term_id = %s"
                    " AND vocabulary_id = (SELECT vocabulary_id FROM vocabulary WHERE name = %s)",
                    [ids[meant], ids[word], name],
                )
        if encoder is not None and embeddings is not None:
            keep_words(database, encoder, list(words), embeddings)


def small_options(**stream: Any) -> RunOptions:
    """Options of a network that is made and run in a moment."""
    small = preset("small")
    network = replace(
        small.network,
        point_widths=(8, 8, 16),
        gnn_layers=1,
        gconv_dim=16,
        hidden_dim=16,
        heads=2,
        attention_dim=16,
        projector_dim=16,
        adapter_dim=8,
    )
    sizes: dict[str, Any] = {"instance_points": 16, "pair_points": 32, "workers": 0} | stream
    return replace(small, network=network, stream=replace(small.stream, **sizes))


def write_trained(
    database: psycopg.Connection[Any],
    folder: Path,
    name: str,
    pair_encoder: str | None,
    targets: Targets | None = None,
    *,
    units: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
) -> StoredRun:
    """Add a run on what the store holds, with a checkpoint of step 1, best and last: as it was drawn."""
    nodes, relation = find_targets(database, DATASET, NODES, pair_encoder, targets)
    kept = {
        **small_options().as_json(),
        "tokens": relation.tokens,
        "has_places": False,
        "start": {"checkpoint": None, "point_weights": None},
    }
    run = write_run(
        database,
        name,
        nodes,
        relation.encoder,
        relation.words,
        targets=relation.kind,
        predicates=relation.predicates or None,
        units=units,
        options=kept,
    )
    write_checkpoint(database, folder, run, 1)
    return run


def write_checkpoint(
    database: psycopg.Connection[Any], folder: Path, run: StoredRun, step: int, *, broken: bool = False
) -> StoredCheckpoint:
    """Add a checkpoint that is better than those of lower steps; `broken`: one of its weights is NaN."""
    torch.manual_seed(step)
    plan = plan_of(run)
    network = make_network(plan)
    if broken:
        with torch.no_grad():
            next(network.parameters()).fill_(torch.nan)
    file = folder / f"{run.name}-{step}.ckpt"
    state = {
        "format": FORMAT,
        "options": asdict(plan.options),
        "shape": shape_as_json(plan.shape),
        "network": network.state_dict(),
    }
    torch.save(state, file)
    return save_checkpoint(
        database,
        run.run_id,
        file,
        step=step,
        epoch=step,
        position=0,
        val_loss=1 / step,
        keep=5,
        folder=None,
    )
