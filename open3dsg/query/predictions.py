"""Ask what was predicted: nodes in words, and the nearest classes and predicates of vocabularies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute
from open3dsg.query.nodes import ask, check_question, refusals_told
from open3dsg.store.predictions import find_prediction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgvector import Vector
    from psycopg import Connection, Cursor

    from open3dsg.query.nodes import NodeFilters, NodeHit


@dataclass(frozen=True)
class Triplet:
    """A predicted relation, its ends called by their nearest classes; the labels are the annotated ones."""

    dataset: str
    scan: str
    subject: int
    subject_class: str | None  # None: of this end nothing was predicted
    subject_label: str
    predicate: str
    object: int
    object_class: str | None
    object_label: str
    rank: int  # of the predicate, from 1
    similarity: float  # of it: a cosine, or where classes were learnt their score
    origin: str


def search_predictions(
    connection: Connection[Any],
    texts: Sequence[str],
    prediction: str,
    *,
    k: int = 5,
    filters: NodeFilters | None = None,
) -> list[list[NodeHit]]:
    """Return for each text the `k` nodes of a prediction, RUN or RUN:LABEL, most similar to it, best first.

    Raises UserError as `search_nodes` does, and for a prediction that is not there.
    """
    filters = check_question(connection, texts, k, filters)
    stored = find_prediction(connection, prediction)
    asked = {"prediction": stored.full_name, "k": k, "filters": Jsonb(filters.as_json())}

    def search(query: Vector) -> Cursor[Any]:
        return execute(connection, "search_predictions", {**asked, "query": query})

    return ask(connection, texts, stored.node_words, search)


def predicted_triplets(
    connection: Connection[Any], prediction: str, scan: str, *, classes: str, predicates: str, k: int = 1
) -> list[Triplet]:
    """Return the relations of a scan, by name or `dataset/name`, each with its `k` nearest `predicates`.

    Its ends are called by the nearest of `classes`; both are vocabularies. Raises UserError for names that
    the store does not know, and for vocabularies that cannot be compared with the prediction.
    """
    stored = find_prediction(connection, prediction)
    asked = {
        "prediction": stored.full_name,
        "scan": scan,
        "classes": classes,
        "predicates": predicates,
        "k": k,
    }
    with refusals_told():
        return [Triplet(*row) for row in execute(connection, "predicted_triplets", asked)]
