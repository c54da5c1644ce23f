"""From places to figures: recall, recall by class, and by how often a class is annotated. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.evaluation.judged import PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from open3dsg.evaluation.judged import Judged, Kind, Words

THIRDS = ("head", "body", "tail")


@dataclass(frozen=True, eq=False)
class Tally:
    """N annotations of one kind over all scans, and whether each was hit at each of K places."""

    kind: Kind
    unit: NDArray[np.intp]  # (N,) annotations with one number are averaged first
    term_id: NDArray[np.int32]  # (N,)
    hits: NDArray[np.float64]  # (N, K)
    chance: NDArray[np.float64]  # (N, K)
    outside: int  # of them with a label or predicate that the vocabulary lacks
    unpredicted: int  # of them of which nothing was said


def tally(judged: Sequence[Judged]) -> Tally:
    """Put what was judged of each scan together; a subgraph is a unit of its own, else each annotation is.

    All of one kind, at least one.
    """
    units = []
    begun = 0
    for part in judged:
        numbers = part.annotated.subgraph_no
        own = np.arange(len(part.rank)) if numbers is None else np.unique(numbers, return_inverse=True)[1]
        units.append(begun + own)
        begun += int(own.max(initial=-1)) + 1
    return Tally(
        judged[0].kind,
        unit=np.concatenate(units),
        term_id=np.concatenate([part.annotated.term_id for part in judged]),
        hits=np.concatenate([part.hits() for part in judged]),
        chance=np.concatenate([part.chance for part in judged]),
        outside=sum(int(part.outside.sum()) for part in judged),
        unpredicted=sum(int(part.unpredicted.sum()) for part in judged),
    )


def means(values: NDArray[np.float64], groups: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean of the (N, K) values of each of G groups, numbered from 0 without a gap: (G, K)."""
    counts = np.bincount(groups)
    sums = np.stack([np.bincount(groups, column) for column in values.T], axis=1)
    averages: NDArray[np.float64] = sums / counts[:, None]
    return averages


def thirds(words: Words, counts: Mapping[int, int], none_id: int) -> dict[str, NDArray[np.int32]]:
    """Cut the classes into thirds by falling count, ties by the alphabet; the first are larger, if any is.

    `none_id` is no class. Returns the ids of their terms; nothing where none of the classes was counted.
    """
    classes = words.term_ids[words.term_ids != none_id]
    numbers = np.array([counts.get(term_id, 0) for term_id in classes.tolist()])
    if not numbers.any():
        return {}
    order = np.argsort(-numbers, kind="stable")
    return dict(zip(THIRDS, np.array_split(classes[order], len(THIRDS)), strict=True))


def figures(tally: Tally, thirds_of_classes: Mapping[str, NDArray[np.int32]]) -> dict[str, Any]:
    """Return what is stored of one kind: recall, mean recall by class, that of thirds; chance beside each.

    A mean recall is the mean over the classes that were annotated, whatever unit they are in.
    """
    terms, of_class = np.unique(tally.term_id, return_inverse=True)
    by_class, chance_by_class = means(tally.hits, of_class), means(tally.chance, of_class)
    found: dict[str, Any] = {
        "annotations": len(tally.term_id),
        "classes": len(terms),
        "outside_vocabulary": tally.outside,
        "not_predicted": tally.unpredicted,
        "recall": _named(tally.kind, means(tally.hits, tally.unit)),
        "chance": _named(tally.kind, means(tally.chance, tally.unit)),
        "mean_recall": _named(tally.kind, by_class),
        "mean_chance": _named(tally.kind, chance_by_class),
    }
    for name, term_ids in thirds_of_classes.items():
        member = np.isin(terms, term_ids)
        found[name] = {
            "classes": int(member.sum()),
            "mean_recall": _named(tally.kind, by_class[member]),
            "mean_chance": _named(tally.kind, chance_by_class[member]),
        }
    return found


def _named(kind: Kind, values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return place -> mean of the (G, K) values; None of none."""
    averages = values.mean(axis=0).tolist() if len(values) else [None] * len(PLACES[kind])
    return {str(place): value for place, value in zip(PLACES[kind], averages, strict=True)}
