"""Ask for relations: subject, predicate and object, each in words, by label, by example, or left open."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pgvector import Vector
from psycopg.types.json import Jsonb

from open3dsg.db.queries import execute
from open3dsg.errors import UserError
from open3dsg.query.nodes import NodeFilters, check_question, refusals_told
from open3dsg.query.slot_values import slot_filter, slot_vector
from open3dsg.query.spaces import find_spaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from open3dsg.query.graph import Point
    from open3dsg.query.slots import Slot


@dataclass(frozen=True)
class TripletFilters:
    """What hits must be: of a scan, of a dataset, near, with both centroids within a box.

    `within`: x0, y0, z0, x1, y1, z1, metres, world z-up. `max_distance_m` is between the closest points of
    the two. `exact` compares with every pair that passes. Without evidence hits have no frames, which many
    hits take long to look up.
    """

    scan: str | None = None
    dataset: str | None = None
    within: tuple[float, float, float, float, float, float] | None = None
    max_distance_m: float | None = None
    exact: bool = False
    with_evidence: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the filters as search_triplets_v1 takes them: only those that are set."""
        asked = {
            "scan": self.scan,
            "dataset": self.dataset,
            "within": self.within,
            "max_distance": self.max_distance_m,
            "exact": self.exact or None,
            "evidence": None if self.with_evidence else False,
        }
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True)
class TripletHit:
    """A pair that was found, best first by `score`, the mean of the similarities of its scored slots.

    A slot that is not scored (any, label, instance) has no similarity; where none is, the score is 0 and
    nearer pairs come first.
    """

    dataset: str
    scan: str
    subject: int
    subject_label: str
    predicate: str | None  # what is said or annotated of the pair; None: nothing is
    object: int
    object_label: str
    score: float
    subject_similarity: float | None
    predicate_similarity: float | None
    object_similarity: float | None
    distance_m: float | None  # between closest points; None: `graph build` has not measured it
    subject_position: Point | None  # of the centroid, metres, world; None: it has no geometry
    object_position: Point | None
    frames: tuple[int, ...]  # evidence: frames in which both are seen, most visible first, at most 5

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return dict(vars(self))


def search_triplets(
    connection: Connection[Any],
    subject: Slot,
    predicate: Slot,
    object: Slot,  # noqa: A002 - the third place of a triplet
    *,
    k: int = 5,
    encoder: str | None = None,
    pair_encoder: str | None = None,
    run: str | None = None,
    filters: TripletFilters | None = None,
) -> list[TripletHit]:
    """Return the `k` relations that fit best, best first; fewer only where fewer match.

    Edges are those that `run`, RUN or RUN:LABEL, predicted; else those that `pair_encoder` embedded or
    captioned; else, where the predicate is open, the pairs that `graph build` measured (annotated relations
    if it measured none) or, where it is a label, the relations annotated so, as corrected. What has no
    direction counts in both. Nodes are what `run` predicted, else the features of `encoder`.

    Raises UserError for names that the store does not know, a picture that cannot be read or compared,
    several encoders of which none is named, numbers out of range, and a predicate by example.
    """
    chosen = _checked(connection, filters or TripletFilters(), k)
    slots = (subject, predicate, object)
    spaces = find_spaces(connection, slots, encoder=encoder, pair_encoder=pair_encoder, run=run)
    asked = chosen.as_json()
    vectors: dict[str, Vector | None] = {}
    for place, slot in zip(("subject", "predicate", "object"), slots, strict=True):
        asked |= slot_filter(connection, place, slot)
        vector = slot_vector(connection, place, slot, spaces)
        vectors[place] = None if vector is None else Vector(vector)
    with refusals_told():
        rows = execute(
            connection,
            "search_triplets",
            {**vectors, **spaces.names(), "k": k, "filters": Jsonb(asked)},
        ).fetchall()
    return [_hit(row) for row in rows]


def _checked(connection: Connection[Any], filters: TripletFilters, k: int) -> TripletFilters:
    """Refuse what cannot be asked; return the filters with the scan as the store calls it."""
    far = filters.max_distance_m
    if far is not None and not (math.isfinite(far) and far >= 0):
        raise UserError(f"--max-distance is {far}: give metres, 0 or more")
    of_nodes = NodeFilters(filters.scan, filters.dataset, None, filters.within, filters.exact)
    found = check_question(connection, (), k, of_nodes)
    return replace(filters, scan=found.scan, dataset=found.dataset)


def _hit(row: Sequence[Any]) -> TripletHit:
    *told, subject_m, object_m, frames = row
    subject_at, object_at = (None if place is None else tuple(place) for place in (subject_m, object_m))
    return TripletHit(*(*told, subject_at, object_at, tuple(frames)))
