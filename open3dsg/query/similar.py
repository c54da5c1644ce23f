"""Ask by example: where something like this object is found elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute
from open3dsg.query.nodes import NodeHit, check_asked_by, check_question, refusals_told
from open3dsg.store.encoders import find_encoder
from open3dsg.store.predictions import find_prediction
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from psycopg import Connection

    from open3dsg.query.nodes import NodeFilters


def similar_instances(
    connection: Connection[Any],
    scan: str,
    instance: int,
    *,
    k: int = 5,
    encoder: str | None = None,
    run: str | None = None,
    filters: NodeFilters | None = None,
    same_scan: bool = False,
) -> list[NodeHit]:
    """Return the `k` nodes most similar to an instance, best first.

    They are of other scans, or with `same_scan` of all. Compared are the features of `encoder`, or what
    `run`, RUN or RUN:LABEL, predicted. Raises UserError as `search_nodes` does, and for an instance that has
    no feature or prediction.
    """
    check_asked_by(encoder, run)
    filters = check_question(connection, (), k, filters)
    found = find_scan(connection, scan)
    asked = {
        "scan": found.key,
        "instance": instance,
        "k": k,
        "encoder": None if run is not None else find_encoder(connection, encoder).full_name,
        "prediction": None if run is None else find_prediction(connection, run).full_name,
        "filters": Jsonb(filters.as_json()),
        "same_scan": same_scan,
    }
    with refusals_told():
        rows = execute(connection, "similar_instances", asked).fetchall()
    question = f"{found.key}/{instance}"
    return [NodeHit(s, i, t, sim, tuple(at), d, question) for s, i, t, sim, at, d in rows]
