"""Ask for relations: subject, predicate and object, each in words, by label, by example, or left open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TripletFilters:
    """What hits must be: of a scan, of a dataset, near, with both centroids within a box.

    `within`: x0, y0, z0, x1, y1, z1, metres, world z-up. `max_distance_m` is between the closest points of
    the two. `exact` compares with every pair that passes.
    """

    scan: str | None = None
    dataset: str | None = None
    within: tuple[float, float, float, float, float, float] | None = None
    max_distance_m: float | None = None
    exact: bool = False


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
    subject_position: tuple[float, float, float]  # of the centroid, metres, world
    object_position: tuple[float, float, float]
    frames: tuple[int, ...]  # evidence: frames in which both are seen, most visible first, at most 5

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return dict(vars(self))
