"""Places of true classes among scored ones: arrays in, arrays out.

A place counts from 1; 0 says that there is none: it lies beyond the places looked at, the true class is not
among the candidates, or nothing was predicted. Rows and classes are given as numbers, -1 where there is none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSED = 0
SHARPNESS = 100.0  # of the softmax over cosines, which is the temperature that CLIP learnt

_CELLS = 2**22  # numbers that are made at a time


def probabilities(similarity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the softmax of 100 times the cosines of n things with C classes, (n, C) float32."""
    scaled = np.float32(SHARPNESS) * similarity
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def ordered_places(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    classes: NDArray[np.intp],
    most: int | None = None,
) -> NDArray[np.intp]:
    """Return the place of `classes[i]` in the order of `scores[rows[i]]`, (N,).

    `scores` is (n, C); of equal ones the earlier class comes first. Places beyond `most` are missed.
    """
    if not scores.size:
        return np.full(len(rows), MISSED)
    own, ranked = scores[rows, classes][:, None], scores[rows]
    before = (ranked > own).sum(axis=1)
    ties = (ranked == own) & (np.arange(scores.shape[1]) < classes[:, None])
    return _within(1 + before + ties.sum(axis=1), rows, classes, most)


def value_places(
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    classes: NDArray[np.intp],
    most: int | None = None,
) -> NDArray[np.intp]:
    """Return the first place at which the score of `classes[i]` stands in `scores[rows[i]]`, (N,).

    As `ordered_places`, but all classes with the same score share the first place of them.
    """
    if not scores.size:
        return np.full(len(rows), MISSED)
    own = scores[rows, classes][:, None]
    return _within(1 + (scores[rows] > own).sum(axis=1), rows, classes, most)


def top_products(
    objects: NDArray[np.float32],
    edges: NDArray[np.intp],
    predicates: NDArray[np.float32],
    most: int,
) -> NDArray[np.float32]:
    """Return the `most` highest products of a subject's, an object's and a predicate's score of E edges.

    objects: (n, C), none below 0. edges: (E, 2) rows of it. predicates: (E, P), none below 0. Returns
    (E, most) float32, falling; -1 where there are fewer than `most`.

    The product of the i-th, j-th and l-th highest is at most as high as the i * j * l - 1 others that take no
    lower one of each, so that among the `most` highest only those with i * j * l <= most need to be made:
    1,471 of 160 * 160 * 27 for 100 places. Rounding keeps the order of products of numbers that are not
    negative, so this holds for float32 as it does for real numbers.
    """
    best_objects, best_predicates = _falling(objects, most), _falling(predicates, most)
    first, second, third = _steps(best_objects.shape[1], best_predicates.shape[1], most)
    top = np.full((len(edges), most), -1, np.float32)
    together = max(1, _CELLS // max(1, len(first)))
    for start in range(0, len(edges), together):
        part = slice(start, start + together)
        subject, target = best_objects[edges[part, 0]], best_objects[edges[part, 1]]
        made = subject[:, first] * target[:, second] * best_predicates[part][:, third]
        kept = min(most, made.shape[1])
        top[part, :kept] = _falling(made, kept)
    return top


def product_of(
    objects: NDArray[np.float32],
    edges: NDArray[np.intp],
    predicates: NDArray[np.float32],
    triplets: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
) -> NDArray[np.float32]:
    """Return the products that `top_products` compares, of N (edge, subject's class, predicate, object's).

    NaN where one of the four is -1.
    """
    edge, subject, predicate, target = triplets
    if not len(edges):
        return np.full(len(edge), np.nan, np.float32)
    ends = objects[edges[edge, 0], subject] * objects[edges[edge, 1], target]
    made: NDArray[np.float32] = ends * predicates[edge, predicate]
    made[np.min(triplets, axis=0) < 0] = np.nan
    return made


def first_places(top: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the first place of each of N values in its row of `top` (N, k), which fall; missed: in none."""
    places: NDArray[np.intp] = 1 + (top > values[:, None]).sum(axis=1)
    places[(places > top.shape[1]) | np.isnan(values)] = MISSED
    return places


def last_places(top: NDArray[np.float32], values: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """Return the place of N values behind all that are as high; `top` holds the `most` + 1 highest or more.

    A value of 0 is missed: nothing tells it from all that nothing speaks for.
    """
    places: NDArray[np.intp] = (top >= values[:, None]).sum(axis=1)
    places[(places > most) | ~(values > 0)] = MISSED
    return places


def highest(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Return the `most` highest of all values, falling, or all there are."""
    falling: NDArray[np.float32] = _falling(values.reshape(1, -1), most)[0]
    return falling


def _within(
    places: NDArray[np.intp], rows: NDArray[np.intp], classes: NDArray[np.intp], most: int | None
) -> NDArray[np.intp]:
    """Miss places beyond `most`, and those of rows or classes that are none."""
    beyond = False if most is None else places > most
    return np.where(beyond | (rows < 0) | (classes < 0), MISSED, places)


def _falling(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Return the `most` highest of each row, falling, or all there are."""
    width = values.shape[1]
    if width > most:
        values = np.partition(values, width - most, axis=1)[:, width - most :]
    falling: NDArray[np.float32] = np.sort(values, axis=1)[:, ::-1]
    return falling


@lru_cache(16)
def _steps(classes: int, predicates: int, most: int) -> NDArray[np.intp]:
    """Return which places of the three factors can make one of the `most` highest products: (3, L)."""
    one, two = np.arange(1, classes + 1), np.arange(1, predicates + 1)
    pairs = np.outer(one, one)
    subject, target = np.nonzero(pairs <= most)
    edge, predicate = np.nonzero(np.outer(pairs[subject, target], two) <= most)
    return np.stack([subject[edge], target[edge], predicate])
