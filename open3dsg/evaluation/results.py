"""Evaluations as rows: kept with what each figure comes from, listed, and looked into."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from open3dsg.db.copying import copy_in
from open3dsg.db.ledger import Entry
from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError
from open3dsg.evaluation.judged import NOBODY, PLACES, AnnotatedPairs
from open3dsg.store.predictions import find_prediction, list_predictions
from open3dsg.store.revision import code_revision

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from psycopg import Connection

    from open3dsg.evaluation.judged import Judged, Kind, Protocol
    from open3dsg.store.predictions import StoredPrediction

_COLUMNS = {
    "scan_id": "int8",
    "evaluation_id": "int4",
    "item_no": "int4",
    "kind": "text",
    "subgraph_no": "int4",
    "subject_no": "int4",
    "object_no": "int4",
    "subject_label_id": "int4",
    "term_id": "int4",
    "object_label_id": "int4",
    "rank": "int4",
    "predicted_id": "int4",
}


@dataclass(frozen=True)
class Evaluation:
    """The figures of a prediction under a protocol; docs/evaluation.md says what `metrics` holds."""

    evaluation_id: int
    prediction: str  # RUN:LABEL
    protocol: Protocol
    options: Mapping[str, Any]
    vocabularies: Mapping[str, Mapping[str, str]]  # what for -> its name and hash
    metrics: Mapping[str, Any]
    scans: int
    code_revision: str
    made_at: datetime


class RankRow(NamedTuple):
    """An annotation that was judged."""

    scan: str  # dataset/name
    subgraph: int | None
    subject: int
    subject_label: str
    truth: str
    object: int | None
    object_label: str | None
    rank: int | None  # None: beyond the places looked at
    predicted: str | None  # what came first


def check_may_keep(connection: Connection[Any]) -> None:
    """Raise UserError where the role of the connection may not write evaluations: before hours of judging."""
    may_keep, role = execute(connection, "evaluation_may_keep").fetchall()[0]
    if not may_keep:
        raise UserError(
            f"the figures are kept in the database, which the role {role!r} may only read:"
            " OPEN3DSG_DATABASE_URL names the role, take one that may write"
        )


def keep_evaluation(
    connection: Connection[Any],
    prediction: StoredPrediction,
    protocol: Protocol,
    *,
    options: Mapping[str, Any],
    vocabularies: Mapping[str, Mapping[str, str]],
    metrics: Mapping[str, Any],
    judged: Mapping[int, Sequence[Judged]],
) -> Evaluation:
    """Write figures and the rows behind them, by scan, in one transaction, within `terms_in_use`.

    What an evaluation with the same options left is replaced. Raises UserError where the prediction or a scan
    was deleted meanwhile.
    """
    new = {
        "prediction_id": prediction.prediction_id,
        "protocol": protocol,
        "options": Jsonb(dict(options)),
        "options_hash": Entry("evaluate", 1, options).options_hash,
        "vocabularies": Jsonb(dict(vocabularies)),
        "metrics": Jsonb(dict(metrics)),
        "scans": sum(map(bool, judged.values())),  # others have nothing to judge
        "code_revision": code_revision(),
    }
    try:
        with connection.transaction():
            evaluation_id = int(fetch_value(connection, "evaluation_put", new))
            execute(connection, "evaluation_clear", {"evaluation_id": evaluation_id})
            copy_in(connection, "evaluation_rank", _COLUMNS, _rows(evaluation_id, judged))
    except psycopg.errors.ForeignKeyViolation as error:
        raise UserError(
            f"{prediction.full_name}, or a scan of it, was deleted while it was judged: evaluate again"
        ) from error
    return next(
        found
        for found in list_evaluations(connection, prediction, protocol)
        if found.evaluation_id == evaluation_id
    )


def list_evaluations(
    connection: Connection[Any],
    prediction: StoredPrediction | None = None,
    protocol: Protocol | None = None,
) -> list[Evaluation]:
    """Return the evaluations of the store, or of one prediction, by prediction and time."""
    chosen = {"prediction_id": prediction and prediction.prediction_id, "protocol": protocol}
    return [Evaluation(*row) for row in execute(connection, "evaluations", chosen)]


def named_predictions(connection: Connection[Any], text: str) -> list[StoredPrediction]:
    """Return the prediction `RUN:LABEL`, or all of `RUN`; UserError, naming those there are, for none."""
    return list_predictions(connection, text) or [find_prediction(connection, text)]


def find_evaluation(connection: Connection[Any], text: str, protocol: Protocol) -> Evaluation:
    """Return the latest evaluation of a prediction under a protocol; UserError where there is none."""
    prediction = find_prediction(connection, text)
    found = list_evaluations(connection, prediction, protocol)
    if not found:
        raise UserError(
            f"{prediction.full_name} was not evaluated under the {protocol} protocol:"
            f" run `open3dsg evaluate --run {prediction.full_name} --protocol {protocol}`"
        )
    return found[-1]


def read_ranks(
    connection: Connection[Any],
    evaluation: Evaluation,
    kind: Kind,
    *,
    word: str | None = None,
    hit: bool | None = None,
    places: int | None = None,
) -> list[RankRow]:
    """Return the annotations that were judged, those with the class `word`, hit or missed within `places`.

    places: None is the middle one of `PLACES`; hit: None is both. Raises UserError where nothing of that kind
    was judged, and, naming those that are close or all there are, where no class is `word`.
    """
    key = {"evaluation_id": evaluation.evaluation_id, "kind": kind}
    if kind not in evaluation.metrics:
        raise UserError(
            f"no {kind} of {evaluation.prediction} was judged under the {evaluation.protocol} protocol;"
            f" judged were {', '.join(kind for kind in PLACES if kind in evaluation.metrics)}"
        )
    if word is not None:
        there = {text for (text,) in execute(connection, "evaluation_classes", key) if text is not None}
        if word not in there:
            close = difflib.get_close_matches(word, sorted(there))
            told = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(sorted(there))}"
            raise UserError(f"no {kind} with {word!r} was judged; {told}")
    chosen = {**key, "class": word, "hit": hit, "k": places or PLACES[kind][1]}
    return [RankRow(*row) for row in execute(connection, "evaluation_rows", chosen)]


def count_classes(connection: Connection[Any], scans: Sequence[str]) -> dict[str, dict[int, int]]:
    """Return how often scans (dataset/name) name each class of object and predicate: {kind: {term_id: n}}."""
    counts: dict[str, dict[int, int]] = {"object": {}, "predicate": {}}
    for kind, term_id, count in execute(connection, "evaluation_class_counts", {"scans": list(scans)}):
        counts[kind][term_id] = count
    return counts


def outside_words(connection: Connection[Any], judged: Sequence[Judged]) -> dict[str, int]:
    """Return the true classes that no candidate is, with the number of annotations of each."""
    counts = Counter(np.concatenate([part.annotated.term_id[part.outside] for part in judged]).tolist())
    rows = execute(connection, "evaluation_term_texts", {"term_ids": list(counts)})
    return {text: counts[term_id] for term_id, text in sorted(rows, key=lambda row: str(row[1]))}


def _rows(evaluation_id: int, judged: Mapping[int, Sequence[Judged]]) -> Iterator[tuple[Any, ...]]:
    for scan_id, parts in judged.items():
        item_no = 0
        for part in parts:
            for row in zip(*_columns(part), strict=True):
                yield scan_id, evaluation_id, item_no, part.kind, *row
                item_no += 1


def _columns(part: Judged) -> list[list[Any]]:
    """Return the columns from `subgraph_no` on."""
    annotated, nothing = part.annotated, [None] * len(part.annotated)
    subgraph, target, target_label = nothing, nothing, nothing
    if annotated.subgraph_no is not None:
        subgraph = annotated.subgraph_no.tolist()
    if isinstance(annotated, AnnotatedPairs):
        target, target_label = annotated.object_no.tolist(), annotated.object_label_id.tolist()
    return [
        subgraph,
        annotated.subject_no.tolist(),
        target,
        annotated.subject_label_id.tolist(),
        annotated.term_id.tolist(),
        target_label,
        [rank or None for rank in part.rank.tolist()],
        [None if term_id == NOBODY else term_id for term_id in part.predicted_id.tolist()],
    ]
