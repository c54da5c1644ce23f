"""What a protocol is given of a scan, and what it says of it: arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Protocol = Literal["published", "strict"]
Kind = Literal["object", "predicate", "relationship", "attribute"]

# At how many places each kind is looked at, as published.
PLACES: dict[Kind, tuple[int, ...]] = {
    "object": (1, 5, 10),
    "predicate": (1, 3, 5),
    "relationship": (1, 50, 100),
    "attribute": (1, 3, 5),
}
TRIPLETS = 100  # places that are looked at of relationships
NOBODY = 0  # the id of no term


@dataclass(frozen=True, eq=False)
class Words:
    """A vocabulary for one encoder: C classes by the alphabet, and W wordings, each of one of them.

    A word that stands for another is a wording of that one; any other is the wording of itself.
    """

    name: str
    digest: str  # of classes and wordings
    term_ids: NDArray[np.int32]  # (C,)
    texts: Sequence[str]  # C
    wordings: Sequence[str]  # W
    owner: NDArray[np.intp]  # (W,) ascending places of classes, each at least once
    embeddings: NDArray[np.float32]  # (W, d) unit rows; (W, 0) where classes are scored by their names

    def __len__(self) -> int:
        """Return C."""
        return len(self.term_ids)

    def places(self, term_ids: NDArray[np.int32]) -> NDArray[np.intp]:
        """Return the places of terms among the classes, -1 where a term is none of them: (N,)."""
        order = np.argsort(self.term_ids)
        at = np.searchsorted(self.term_ids[order], term_ids).clip(max=max(len(self) - 1, 0))
        if not len(self):
            return np.full(len(term_ids), -1)
        places: NDArray[np.intp] = np.where(self.term_ids[order[at]] == term_ids, order[at], -1)
        return places

    def similarities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine of n unit rows with the nearest wording of each class: (n, C)."""
        # In float32 the last bits depend on where a row stands, and would break ties.
        cosines = (embeddings.astype(np.float64) @ self.embeddings.T).astype(np.float32)
        if not len(self):
            return cosines
        starts = np.searchsorted(self.owner, np.arange(len(self)))
        nearest: NDArray[np.float32] = np.maximum.reduceat(cosines, starts, axis=1)
        return nearest

    def without(self, term_id: int) -> tuple[Words, NDArray[np.intp]]:
        """Return the vocabulary without one class, and the (C',) places of those that stay."""
        kept = np.flatnonzero(self.term_ids != term_id)
        stay = np.flatnonzero(np.isin(self.owner, kept))
        less = Words(
            self.name,
            self.digest,
            self.term_ids[kept],
            [self.texts[place] for place in kept.tolist()],
            [self.wordings[wording] for wording in stay.tolist()],
            np.searchsorted(kept, self.owner[stay]),
            self.embeddings[stay],
        )
        return less, kept


@dataclass(frozen=True, eq=False)
class Scene:
    """What is predicted of a scan: n instances and m directed pairs, scored by C classes and P predicates.

    A pair of which nothing was said is none of the m.
    """

    numbers: NDArray[np.int64]  # (n,) ascending
    objects: NDArray[np.float32]  # (n, C) cosines
    pairs: NDArray[np.int64]  # (m, 2) numbers of subject and object, by both
    predicates: NDArray[np.float32]  # (m, P) cosines, or scores of classes

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the rows of instances, -1 where there is none: (N,)."""
        return find_rows(self.numbers, numbers)

    def pair_rows(self, pairs: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the rows of (N, 2) pairs, -1 where there is none: (N,)."""
        return find_rows(_key(self.pairs), _key(pairs))

    def ends(self, annotated: AnnotatedPairs) -> NDArray[np.intp]:
        """Return the rows of the subjects and objects of annotated pairs, -1 where there is none: (N, 2)."""
        return self.rows(annotated.pairs.ravel()).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Annotated:
    """N annotations of objects of a scan: labels, or what else is said of them."""

    subgraph_no: NDArray[np.int32] | None  # (N,); None: judged once for the whole scan
    subject_no: NDArray[np.int64]  # (N,) numbers of the objects, of pairs those of the subjects
    subject_label_id: NDArray[np.int32]  # (N,) their labels
    term_id: NDArray[np.int32]  # (N,) what is true: the label, the predicate or the attribute

    def __len__(self) -> int:
        """Return N."""
        return len(self.term_id)

    def only(self, kept: NDArray[np.bool_]) -> Annotated:
        """Return some of them."""
        numbers = None if self.subgraph_no is None else self.subgraph_no[kept]
        return Annotated(numbers, self.subject_no[kept], self.subject_label_id[kept], self.term_id[kept])


@dataclass(frozen=True, eq=False)
class AnnotatedPairs(Annotated):
    """N annotations of directed pairs: a predicate each."""

    object_no: NDArray[np.int64]  # (N,)
    object_label_id: NDArray[np.int32]  # (N,)

    @property
    def pairs(self) -> NDArray[np.int64]:
        """(N, 2) numbers of subject and object."""
        return np.stack([self.subject_no, self.object_no], axis=1)

    def end_places(self, classes: Words) -> NDArray[np.intp]:
        """Return the places of both labels of each pair among the classes, -1 where there is none: (N, 2)."""
        labels = np.stack([self.subject_label_id, self.object_label_id], axis=1)
        return classes.places(labels.ravel()).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class Judged:
    """N annotations of one kind, at which place each was predicted, and what chance would make of it."""

    kind: Kind
    annotated: Annotated
    rank: NDArray[np.intp]  # (N,) from 1; 0: missed
    predicted_id: NDArray[np.int32]  # (N,) the first prediction, 0: none
    chance: NDArray[np.float64]  # (N, K) to be hit at each of PLACES where the order is drawn by lot
    outside: NDArray[np.bool_]  # (N,) no candidate, or end, is what is true
    unpredicted: NDArray[np.bool_]  # (N,) nothing was said

    def hits(self) -> NDArray[np.float64]:
        """Return whether each was hit at each of PLACES: (N, K), 0 or 1."""
        ranks = np.where(self.rank > 0, self.rank, np.iinfo(np.intp).max)[:, None]
        return (ranks <= np.array(PLACES[self.kind])).astype(np.float64)


def first_terms(words: Words, scores: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return the id of the best class in each of the rows, 0 where the row is -1: (N,)."""
    if not scores.size:
        return np.zeros(len(rows), np.int32)
    return np.where(rows < 0, np.int32(NOBODY), words.term_ids[scores.argmax(axis=1)][rows])


def by_lot(kind: Kind, candidates: NDArray[np.float64], most: int | None = None) -> NDArray[np.float64]:
    """Return the chance to stand at each of PLACES among N numbers of candidates; 0 of none: (N, K).

    No place beyond `most` is looked at.
    """
    places = np.minimum(PLACES[kind], most or np.inf)
    shares = places / np.where(candidates > 0, candidates, np.inf)[:, None]
    return np.minimum(shares, 1.0)


def given_classes(scene: Scene, objects: Annotated, classes: Words) -> NDArray[np.float32]:
    """Return what is annotated in place of what was predicted: (n, C), 1 at the class of each instance.

    Rows of instances without a label among the classes are 0.
    """
    given = np.zeros(scene.objects.shape, np.float32)
    rows, labels = scene.rows(objects.subject_no), classes.places(objects.term_id)
    known = (rows >= 0) & (labels >= 0)
    given[rows[known], labels[known]] = 1
    return given


def has_class(given: NDArray[np.float32], ends: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Tell of N pairs, (N, 2) rows of `given`, whether both ends are there and have a class: (N,)."""
    if not len(given):
        return np.zeros(len(ends), np.bool_)
    is_classed = np.any(given, axis=1)
    of_both: NDArray[np.bool_] = np.all(is_classed[ends] & (ends >= 0), axis=1)
    return of_both


def find_rows(sorted_keys: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return where N keys stand among ascending ones, -1 where they do not: (N,)."""
    if not len(sorted_keys):
        return np.full(len(keys), -1)
    at = np.searchsorted(sorted_keys, keys).clip(max=len(sorted_keys) - 1)
    return np.where(sorted_keys[at] == keys, at, -1)


def _key(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return (pairs[:, 0] << 32) + pairs[:, 1]
