"""The strict protocol: each annotation once a scan, right only where all of it is, ranked over the scan.

Pairs without relations are not judged, and 'none' is no candidate. A triplet is the product of both objects'
probabilities and the predicate's cosine, or 0 where that is negative, and is ranked among those of all pairs
of the scan that something was said of; of equal ones it takes the last place. What was not predicted is
missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.evaluation.judged import (
    TRIPLETS,
    Annotated,
    AnnotatedPairs,
    Judged,
    Kind,
    Scene,
    Words,
    by_lot,
    first_terms,
    has_class,
)
from open3dsg.evaluation.ranks import (
    highest,
    last_places,
    ordered_places,
    probabilities,
    product_of,
    top_products,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


def judge_objects(scene: Scene, annotated: Annotated, classes: Words, kind: Kind = "object") -> Judged:
    """Judge labels of objects, or what else is said of them, by the order of all classes."""
    return _judge_rows(kind, annotated, classes, scene.objects, scene.rows(annotated.subject_no))


def judge_predicates(scene: Scene, annotated: AnnotatedPairs, predicates: Words) -> Judged:
    """Judge the predicates of pairs by the order of all predicates, of which 'none' is none."""
    rows = scene.pair_rows(annotated.pairs)
    return _judge_rows("predicate", annotated, predicates, scene.predicates, rows)


def judge_relationships(
    scene: Scene,
    annotated: AnnotatedPairs,
    classes: Words,
    predicates: Words,
    given: NDArray[np.float32] | None = None,
) -> Judged:
    """Judge triplets among those of the whole scan; `given` is (n, C), 1 at the true class of each object."""
    shares = probabilities(scene.objects) if given is None else given
    scores = scene.predicates.clip(min=0)
    ends = scene.rows(scene.pairs.ravel()).reshape(-1, 2)
    ranked = has_class(shares, ends)
    rows, labels = scene.pair_rows(annotated.pairs), annotated.end_places(classes)
    wanted = predicates.places(annotated.term_id)
    outside = (wanted < 0) | (labels < 0).any(axis=1)
    known = (rows >= 0) & ranked[rows] if len(ranked) else np.zeros(len(annotated), np.bool_)
    triplets = np.where(known & ~outside, rows, -1), labels[:, 0], wanted, labels[:, 1]
    top = highest(top_products(shares, ends[ranked], scores[ranked], TRIPLETS + 1), TRIPLETS + 1)
    values = product_of(shares, ends, scores, triplets)
    of_a_pair = len(predicates) * (1 if given is not None else len(classes) ** 2)
    return Judged(
        "relationship",
        annotated,
        rank=last_places(top, values, TRIPLETS),
        predicted_id=first_terms(predicates, scores, rows),
        chance=by_lot("relationship", np.where(known & ~outside, float(ranked.sum() * of_a_pair), 0.0)),
        outside=outside,
        unpredicted=~known,
    )


def _judge_rows(
    kind: Kind, annotated: Annotated, words: Words, scores: NDArray[np.float32], rows: NDArray[np.intp]
) -> Judged:
    wanted = words.places(annotated.term_id)
    known = (rows >= 0) & (wanted >= 0)
    return Judged(
        kind,
        annotated,
        rank=ordered_places(scores, rows, wanted),
        predicted_id=first_terms(words, scores, rows),
        chance=by_lot(kind, np.where(known, float(len(words)), 0.0)),
        outside=wanted < 0,
        unpredicted=rows < 0,
    )
