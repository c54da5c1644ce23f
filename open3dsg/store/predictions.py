"""Predictions as rows: what a run says of scans, made in one way, called RUN:LABEL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import term_ids
from open3dsg.errors import UserError
from open3dsg.store.encoders import StoredEncoder
from open3dsg.store.revision import code_revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

PREDICT = "predict"  # the step, as the ledger calls it; its variant is RUN:LABEL

Source: TypeAlias = Literal["student", "teacher", "fused"]

NODE_COLUMNS = {
    "scan_id": "int8",
    "prediction_id": "int4",
    "instance_no": "int4",
    "embedding": "halfvec",
    "origin": "text",
}
EDGE_COLUMNS = {
    "scan_id": "int8",
    "prediction_id": "int4",
    "subject_no": "int4",
    "object_no": "int4",
    "embedding": "halfvec",
    "scores": "float4[]",
    "caption": "text",
    "phrase_id": "int4",
    "origin": "text",
}


@dataclass(frozen=True)
class NewPrediction:
    """What a row of `prediction` is made of."""

    run_id: int
    run: str  # its name
    label: str
    source: Source
    weight_2d: float
    node_words: StoredEncoder  # whose words the nodes are compared with
    relation_words: StoredEncoder | None  # whose words the edges are; None: they have scores, or nothing
    checkpoint_step: int | None  # None with its digest: the teacher needs none
    checkpoint_digest: str | None
    options: Mapping[str, Any] = field(default_factory=dict)  # what else changes the rows

    @property
    def full_name(self) -> str:
        """`RUN:LABEL`, which is also the variant of its lines in the ledger."""
        return f"{self.run}:{self.label}"


@dataclass(frozen=True)
class StoredPrediction(NewPrediction):
    """A prediction in the store."""

    prediction_id: int = field(kw_only=True)


class NodePrediction(NamedTuple):
    """The embedding of an instance."""

    instance: int
    embedding: NDArray[np.float32]  # (d,) unit length
    origin: Source  # of a fused prediction student where there was no 2D feature


class EdgePrediction(NamedTuple):
    """What is said of a pair in one direction."""

    subject: int
    object: int
    embedding: NDArray[np.float32] | None  # (d,) unit length; None: nothing was said, or classes were learnt
    scores: NDArray[np.float32] | None  # (K,) of the run's predicates, 0 to 1, where classes were learnt
    caption: str | None  # the whole of what was said, where an encoder speaks
    phrase: str | None  # the words between the two names
    origin: Source


class PredictionContent(NamedTuple):
    """How many rows go with a prediction."""

    nodes: int
    edges: int
    evaluations: int


def register_prediction(
    connection: Connection[Any], new: NewPrediction, *, replace: bool = False
) -> StoredPrediction:
    """Return the prediction of that run and label, added if there is none.

    One of another checkpoint or with other options is dropped with its rows, what the ledger says of it and
    the evaluations of it, and made anew; but UserError where any scan was predicted so, unless `replace`.
    """
    with connection.transaction():
        execute(connection, "prediction_hold_run", {"run_id": new.run_id})
        known = _look_up(connection, new.full_name)
        if known is not None:
            differences = _differences(known, new)
            if not differences:
                return known
            if not replace and _is_used(connection, known):
                raise UserError(
                    f"{new.full_name} was predicted otherwise ({'; '.join(differences)}): --replace drops it,"
                    " with what was evaluated of it, and predicts anew; --label NAME keeps both"
                )
            _delete(connection, known)
        execute(connection, "prediction_add", _row(new))
        added = _look_up(connection, new.full_name)
    if added is None:
        raise UserError(f"the run {new.run!r} was deleted meanwhile: see `open3dsg runs list`")
    return added


def find_prediction(connection: Connection[Any], text: str) -> StoredPrediction:
    """Find a prediction by `RUN:LABEL`, or `RUN` where it has one alone; UserError names those there are."""
    found = list_predictions(connection, text)
    if len(found) > 1:
        names = " or ".join(prediction.full_name for prediction in found)
        raise UserError(f"the run {text!r} has several predictions: say {names}")
    if not found:
        known = ", ".join(prediction.full_name for prediction in list_predictions(connection))
        raise UserError(
            f"no prediction {text!r} in the store; it has {known or 'none'}:"
            " `open3dsg predict --run RUN` makes them"
        )
    return found[0]


def list_predictions(connection: Connection[Any], text: str | None = None) -> list[StoredPrediction]:
    """Return all predictions, those of the run `text`, or the one called so; by run and label."""
    return [_stored(row) for row in execute(connection, "predictions", {"text": text})]


def prediction_content(connection: Connection[Any], prediction: StoredPrediction) -> PredictionContent:
    """Count what would go with a prediction."""
    rows = execute(connection, "prediction_counts", {"prediction_id": prediction.prediction_id})
    return PredictionContent(*rows.fetchall()[0])


def delete_prediction(connection: Connection[Any], prediction: StoredPrediction) -> PredictionContent:
    """Delete a prediction with its rows, lines in the ledger and evaluations; return how many of each."""
    with connection.transaction():
        counts = prediction_content(connection, prediction)
        _delete(connection, prediction)
    return counts


def write_predictions(
    connection: Connection[Any],
    scan_id: int,
    prediction_id: int,
    nodes: Iterable[NodePrediction],
    edges: Sequence[EdgePrediction],
) -> None:
    """Write rows of a scan that has none yet, in the caller's transaction, within `terms_in_use`.

    Raises UserError for numbers that are not finite, which have no place in any order.
    """
    key = (scan_id, prediction_id)
    rows = ((*key, number, HalfVector(embedding), origin) for number, embedding, origin in nodes)
    copy_in(connection, "node_prediction", NODE_COLUMNS, rows)
    phrases = term_ids(connection, {edge.phrase for edge in edges if edge.phrase is not None}, "a phrase")
    copy_in(connection, "edge_prediction", EDGE_COLUMNS, (_edge_row(key, edge, phrases) for edge in edges))


def clear_predictions(connection: Connection[Any], scan_id: int, prediction_id: int) -> None:
    """Drop the rows of a prediction of one scan."""
    key = {"scan_id": scan_id, "prediction_id": prediction_id}
    execute(connection, "nodes_predicted_clear", key)
    execute(connection, "edges_predicted_clear", key)


def hold_prediction(connection: Connection[Any], prediction: StoredPrediction) -> None:
    """Keep a prediction from being deleted until the transaction ends; UserError where it was already."""
    key = {"prediction_id": prediction.prediction_id}
    if execute(connection, "prediction_hold", key).fetchone() is None:
        raise UserError(
            f"{prediction.full_name} was deleted or replaced meanwhile: run the same command again"
        )


def read_nodes(connection: Connection[Any], scan_id: int, prediction_id: int) -> list[NodePrediction]:
    """Return the nodes of a prediction of one scan, ascending by instance."""
    key = {"scan_id": scan_id, "prediction_id": prediction_id}
    rows = execute(connection, "nodes_predicted", key, binary=True)
    return [NodePrediction(number, as_floats(embedding), origin) for number, embedding, origin in rows]


def read_edges(connection: Connection[Any], scan_id: int, prediction_id: int) -> list[EdgePrediction]:
    """Return the edges of a prediction of one scan, ascending by subject and object."""
    key = {"scan_id": scan_id, "prediction_id": prediction_id}
    return [
        EdgePrediction(
            subject,
            object_,
            None if embedding is None else as_floats(embedding),
            None if scores is None else np.array(scores, np.float32),
            *said,
        )
        for subject, object_, embedding, scores, *said in execute(
            connection, "edges_predicted", key, binary=True
        )
    ]


def as_floats(embedding: HalfVector) -> NDArray[np.float32]:
    """Return an embedding as the store gives it, (d,) float32."""
    numbers: NDArray[np.float32] = embedding.to_numpy().astype(np.float32)
    return numbers


def _look_up(connection: Connection[Any], full_name: str) -> StoredPrediction | None:
    found = list_predictions(connection, full_name)
    return found[0] if found else None


def _stored(row: Sequence[Any]) -> StoredPrediction:
    run_id, run, label, source, weight_2d = row[:5]
    words = None if row[10] is None else StoredEncoder(*row[10:15])
    step, digest, options, prediction_id = row[15:]
    return StoredPrediction(
        run_id,
        run,
        label,
        source,
        weight_2d,
        StoredEncoder(*row[5:10]),
        words,
        step,
        digest,
        options,
        prediction_id=prediction_id,
    )


def _row(new: NewPrediction) -> dict[str, Any]:
    return {
        "run_id": new.run_id,
        "label": new.label,
        "source": new.source,
        "weight_2d": new.weight_2d,
        "node_words_id": new.node_words.encoder_id,
        "relation_words_id": None if new.relation_words is None else new.relation_words.encoder_id,
        "checkpoint_step": new.checkpoint_step,
        "checkpoint_digest": new.checkpoint_digest,
        "options": Jsonb(dict(new.options)),
        "code_revision": code_revision(),
    }


def _differences(known: NewPrediction, new: NewPrediction) -> list[str]:
    """Say in what a prediction that is there differs from one that is to be made."""
    told = []
    if known.checkpoint_digest != new.checkpoint_digest:
        again = ", made anew since" if known.checkpoint_step == new.checkpoint_step else ""
        told.append(f"with the checkpoint of step {known.checkpoint_step}, now {new.checkpoint_step}{again}")
    before, after = _choices(known), _choices(new)
    told += [
        f"{name} {before.get(name)}, now {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    return told


def _choices(of: NewPrediction) -> dict[str, Any]:
    return {
        "source": of.source,
        "weight of 2D": f"{of.weight_2d:.6g}",  # the store has it in single precision
        "words of nodes": of.node_words.full_name,
        "words of relations": None if of.relation_words is None else of.relation_words.full_name,
        **of.options,
    }


def _is_used(connection: Connection[Any], prediction: StoredPrediction) -> bool:
    """Tell whether a scan was predicted so, or it was evaluated; it is kept from both in this transaction."""
    key = {"prediction_id": prediction.prediction_id}
    execute(connection, "prediction_hold_alone", key)
    asked = {**key, "step": PREDICT, "variant": prediction.full_name}
    return bool(fetch_value(connection, "is_prediction_used", asked))


def _delete(connection: Connection[Any], prediction: StoredPrediction) -> None:
    # In this order: the first waits for those who are writing, the second then sees what they recorded.
    execute(connection, "prediction_delete", {"prediction_id": prediction.prediction_id})
    execute(connection, "prediction_forget", {"step": PREDICT, "variant": prediction.full_name})


def _edge_row(key: tuple[int, int], edge: EdgePrediction, phrases: Mapping[str, int]) -> tuple[object, ...]:
    if edge.scores is not None and not np.isfinite(edge.scores).all():
        raise UserError(f"edge_prediction, scores of the pair {edge.subject}, {edge.object}: not finite")
    return (
        *key,
        edge.subject,
        edge.object,
        None if edge.embedding is None else HalfVector(edge.embedding),
        None if edge.scores is None else edge.scores.tolist(),
        edge.caption,
        None if edge.phrase is None else phrases[edge.phrase],
        edge.origin,
    )
