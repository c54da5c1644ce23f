"""The protocol of the published code: subgraph by subgraph, its quirks included.

Koch et al., Open3DSG, CVPR 2024; boschresearch/Open3DSG at a568358, open3dsg/scripts/eval.py and trainer.py.
docs/evaluation.md tells where it differs from the strict one. Of objects the first 20 places are looked at,
of predicates 5, of relationships 100. A pair that no annotation speaks of is judged as 'none': as predicate
at place 1 where the two are further apart than 0.5 m, as relationship at the place of the best triplet of the
pair that says 'none', whatever its objects. Equal scores share the first place of them. Triplets are ranked
among those of their own pair. Cosines of predicates below 0 count as 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from open3dsg.evaluation.judged import (
    PLACES,
    TRIPLETS,
    Annotated,
    AnnotatedPairs,
    Judged,
    Scene,
    Words,
    by_lot,
    first_terms,
    has_class,
)
from open3dsg.evaluation.ranks import (
    first_places,
    ordered_places,
    probabilities,
    product_of,
    top_products,
    value_places,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

OBJECT_PLACES = 20
PREDICATE_PLACES = 5
FAR_M = 0.5  # a pair further apart than this is right to be 'none'


def judge_objects(scene: Scene, annotated: Annotated, classes: Words) -> Judged:
    """Judge the labels of the objects of subgraphs."""
    rows, labels = scene.rows(annotated.subject_no), classes.places(annotated.term_id)
    known = (rows >= 0) & (labels >= 0)
    return Judged(
        "object",
        annotated,
        rank=ordered_places(scene.objects, rows, labels, OBJECT_PLACES),
        predicted_id=first_terms(classes, scene.objects, rows),
        chance=by_lot("object", np.where(known, float(len(classes)), 0.0)),
        outside=labels < 0,
        unpredicted=rows < 0,
    )


def judge_predicates(
    scene: Scene,
    annotated: AnnotatedPairs,
    predicates: Words,
    none_id: int,
    min_distance_m: NDArray[np.float64],
    silence: NDArray[np.float32] | None,
) -> Judged:
    """Judge the predicates of pairs of subgraphs, `none_id` that of pairs without any.

    min_distance_m: (N,) between the two. silence: (P,) the scores of a pair of which nothing was said; None:
    it counts as missed.
    """
    scores, rows = _with_silence(scene, annotated, silence)
    wanted = predicates.places(annotated.term_id)
    far = (annotated.term_id == none_id) & (min_distance_m > FAR_M)
    known = (rows >= 0) & (wanted >= 0)
    chance = by_lot("predicate", np.where(known, float(len(predicates)), 0.0), PREDICATE_PLACES)
    chance[far] = 1.0
    return Judged(
        "predicate",
        annotated,
        rank=np.where(far, 1, value_places(scores, rows, wanted, PREDICATE_PLACES)),
        predicted_id=first_terms(predicates, scores, rows),
        chance=chance,
        outside=wanted < 0,
        unpredicted=rows < 0,
    )


def judge_relationships(
    scene: Scene,
    annotated: AnnotatedPairs,
    classes: Words,
    predicates: Words,
    none_id: int,
    silence: NDArray[np.float32] | None,
    given: NDArray[np.float32] | None = None,
) -> Judged:
    """Judge triplets among those of their pair; `given` is (n, C), 1 at the true class of each object."""
    scores, rows = _with_silence(scene, annotated, silence)
    shares = probabilities(scene.objects) if given is None else given
    ends = scene.ends(annotated)
    labels = annotated.end_places(classes)
    wanted = predicates.places(annotated.term_id)
    is_none = annotated.term_id == none_id
    outside = (wanted < 0) | (~is_none & (labels < 0).any(axis=1))
    known = (rows >= 0) & (ends >= 0).all(axis=1)
    if given is not None:
        known &= has_class(given, ends)
    rank = np.zeros(len(annotated), np.intp)
    judged = np.flatnonzero(known & ~outside)
    if len(judged):
        # Of a pair without relations any objects will do: the best ones make the best triplet.
        best = shares.argmax(axis=1)[ends]
        triplets = np.where(is_none[:, None], best, labels)[judged], wanted[judged]
        rank[judged] = _places(annotated.pairs[judged], shares, ends[judged], scores[rows[judged]], *triplets)
    return Judged(
        "relationship",
        annotated,
        rank=np.where(is_none & (rank == 0), TRIPLETS + 1, rank),
        predicted_id=first_terms(predicates, scores, rows),
        chance=_by_lot(known & ~outside, is_none, len(classes), len(predicates), given is not None),
        outside=outside,
        unpredicted=~known,
    )


def _places(
    pairs: NDArray[np.int64],
    shares: NDArray[np.float32],
    ends: NDArray[np.intp],
    scores: NDArray[np.float32],
    classes: NDArray[np.intp],
    predicates: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Return the places of N triplets among those of their pairs, whose best products are made once."""
    _, first, back = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    top = top_products(shares, ends[first], scores[first], TRIPLETS)
    triplets = np.arange(len(ends)), classes[:, 0], predicates, classes[:, 1]
    return first_places(top[back.ravel()], product_of(shares, ends, scores, triplets))


def _with_silence(
    scene: Scene, annotated: AnnotatedPairs, silence: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return scores of pairs, none below 0, and the row of each annotation's pair, -1 where it has none."""
    rows = scene.pair_rows(annotated.pairs)
    if silence is None:
        return scene.predicates.clip(min=0), rows
    scores = np.concatenate([scene.predicates, silence[None]]).clip(min=0)
    return scores, np.where(rows < 0, len(scene.predicates), rows)


def _by_lot(
    known: NDArray[np.bool_], is_none: NDArray[np.bool_], classes: int, predicates: int, is_given: bool
) -> NDArray[np.float64]:
    """Return the chance of triplets to be hit where those of a pair are in an order drawn by lot.

    Of given objects only the triplets with those are in it. That of 'none' is hit where any of the
    classes * classes triplets that say so is.
    """
    right = 1 if is_given else classes**2
    every = right * predicates
    chance = by_lot("relationship", np.where(known, float(every), 0.0))
    drawn = np.arange(min(TRIPLETS, every))
    # Of the triplets that are left after each draw, those that do not say 'none'.
    wrong = np.cumprod(np.maximum(every - right - drawn, 0) / (every - drawn))
    some = [1 - wrong[min(places, every) - 1] for places in PLACES["relationship"]] if every else 0.0
    chance[known & is_none] = some
    return chance
