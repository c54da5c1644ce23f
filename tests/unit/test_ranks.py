"""Places of true classes, against plain formulations on random scores; triplets against all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import hypergeom

from open3dsg.evaluation import published, strict
from open3dsg.evaluation.judged import Annotated, AnnotatedPairs, Scene, Words, given_classes
from open3dsg.evaluation.ranks import (
    first_places,
    highest,
    last_places,
    ordered_places,
    probabilities,
    product_of,
    top_products,
    value_places,
)

NONE = 900  # the term 'none'
SEEDS = st.integers(0, 2**32 - 1)


def words(term_ids: list[int]) -> Words:
    names = [str(term_id) for term_id in term_ids]
    count = len(term_ids)
    return Words(
        "w",
        "h",
        np.array(term_ids, np.int32),
        names,
        names,
        np.arange(count),
        np.zeros((count, 0), np.float32),
    )


def scores(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Scores with ties; some of them of a single value."""
    return (rng.integers(-3, rng.integers(1, 60), shape) / 50).astype(np.float32)


@given(SEEDS)
def test_places_are_those_of_a_sorted_list(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = scores(rng, int(rng.integers(1, 6)), int(rng.integers(1, 9)))
    rows, classes = rng.integers(-1, table.shape[0], 12), rng.integers(-1, table.shape[1], 12)
    ordered, shared = [], []
    for row, own in zip(rows, classes, strict=True):
        falling = sorted(range(table.shape[1]), key=lambda at: (-table[row, at], at))
        is_none = row < 0 or own < 0
        place = 0 if is_none else 1 + falling.index(own)
        first = 0 if is_none else 1 + [table[row, at] for at in falling].index(table[row, own])
        ordered.append(place if place <= 5 else 0)
        shared.append(first if first <= 5 else 0)
    assert ordered_places(table, rows, classes, 5).tolist() == ordered
    assert value_places(table, rows, classes, 5).tolist() == shared


def test_nothing_has_a_place_among_nothing() -> None:
    nothing, one = np.zeros((0, 3), np.float32), np.array([-1])
    assert ordered_places(nothing, one, one + 2).tolist() == [0]
    assert value_places(nothing, one, one + 2).tolist() == [0]


def test_probabilities_are_sharpened_a_hundredfold_and_do_not_overflow() -> None:
    found = probabilities(np.array([[1.0, 0.99, -1.0]], np.float32))
    assert found[0] == pytest.approx(np.array([1, np.exp(-1), 0]) / (1 + np.exp(-1)), abs=1e-6)


@given(SEEDS, st.sampled_from([1, 2, 7, 100]))
def test_the_highest_products_are_those_of_all(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    objects = scores(rng, 4, int(rng.integers(1, 7))).clip(min=0)
    edges = np.array([(0, 1), (2, 1), (3, 0)])
    predicates = scores(rng, 3, int(rng.integers(1, 6))).clip(min=0)
    top = top_products(objects, edges, predicates, most)
    for found, (subject, target), of_edge in zip(top, edges, predicates, strict=True):
        every = (objects[subject][:, None, None] * objects[target][None, :, None] * of_edge).ravel()
        best = np.sort(every)[::-1][:most]
        assert found[: len(best)].tolist() == best.tolist()
        assert (found[len(best) :] == -1).all()


@given(SEEDS)
def test_places_of_triplets_are_those_among_all_triplets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    objects, predicates = scores(rng, 3, 5).clip(min=0), scores(rng, 2, 4).clip(min=0)
    edges = np.array([(0, 1), (1, 2)])
    edge, subject, predicate, target = (rng.integers(0, most, 8) for most in (2, 5, 4, 5))
    triplet = edge, subject, predicate, target
    values = product_of(objects, edges, predicates, triplet)
    every = [
        objects[first][:, None, None] * objects[second][None, :, None] * of_edge
        for (first, second), of_edge in zip(edges, predicates, strict=True)
    ]
    top = top_products(objects, edges, predicates, 20)
    own = np.array([every[e][s, o, p] for e, s, p, o in zip(*triplet, strict=True)])
    before = [int((every[e] > value).sum()) for e, value in zip(triplet[0], own, strict=True)]
    assert first_places(top[triplet[0]], values).tolist() == [n + 1 if n < 20 else 0 for n in before]
    among = [int((np.array(every) >= value).sum()) for value in own]
    best = highest(top_products(objects, edges, predicates, 21), 21)
    wanted = [n if n <= 20 and value > 0 else 0 for n, value in zip(among, own, strict=True)]
    assert last_places(best, values, 20).tolist() == wanted


def pairs(**columns: Any) -> AnnotatedPairs:
    subject, target, term = (np.array(columns[name]) for name in ("subject", "target", "term"))
    labels = np.array(columns["labels"], np.int32)  # by number of the object, from 1
    return AnnotatedPairs(
        np.zeros(len(term), np.int32),
        subject,
        labels[subject - 1],
        term.astype(np.int32),
        target,
        labels[target - 1],
    )


CLASSES, PREDICATES = words([10, 11, 12]), words([NONE, 20, 21, 22])
# Instance 1 is rather a 10, 2 rather an 11, 3 cannot be told.
SCENE = Scene(
    np.array([1, 2, 3]),
    np.array([[0.9, 0.8, 0.1], [0.1, 0.9, 0.88], [0.5, 0.5, 0.5]], np.float32),
    np.array([[1, 2], [2, 1]]),
    np.array([[0.1, 0.7, 0.7, -0.4], [0.6, 0.2, 0.5, 0.55]], np.float32),
)


def test_published_objects_by_hand() -> None:
    labels = np.array([11, 11, 12, 99], np.int32)
    judged = published.judge_objects(
        SCENE, Annotated(np.array([1, 1, 1, 1], np.int32), np.array([1, 2, 3, 2]), labels, labels), CLASSES
    )
    assert judged.rank.tolist() == [2, 1, 3, 0]
    assert judged.predicted_id.tolist() == [10, 11, 10, 11]
    assert judged.outside.tolist() == [False, False, False, True]
    assert judged.chance.tolist() == [[1 / 3, 1, 1]] * 3 + [[0, 0, 0]]


def test_published_predicates_by_hand() -> None:
    annotated = pairs(
        subject=[1, 1, 1, 2, 2, 1, 3], target=[2, 2, 2, 1, 1, 3, 1], labels=[10, 11, 12],
        term=[20, 21, 22, NONE, NONE, NONE, NONE],
    )  # fmt: skip
    distance_m = np.array([0.1, 0.1, 0.1, 0.5, 0.51, 0.2, 0.9])
    judged = published.judge_predicates(SCENE, annotated, PREDICATES, NONE, distance_m, None)
    # Two that are as high share place 1; a cosine below 0 counts as 0; of a pair that is far, 'none' is
    # right, also where nothing was said of it.
    assert judged.rank.tolist() == [1, 1, 4, 1, 1, 0, 1]
    assert judged.unpredicted.tolist() == [False] * 5 + [True] * 2
    assert judged.chance[:, 0].tolist() == [0.25] * 4 + [1, 0, 1]
    silence = np.array([1, 0.3, 0.2, 0.1], np.float32)
    said = published.judge_predicates(SCENE, annotated, PREDICATES, NONE, distance_m, silence)
    assert said.rank.tolist() == [1, 1, 4, 1, 1, 1, 1]
    assert not said.unpredicted.any()


def test_published_relationships_by_hand() -> None:
    annotated = pairs(
        subject=[1, 1, 2, 1], target=[2, 2, 1, 3], labels=[10, 11, 12], term=[20, 22, NONE, NONE]
    )  # fmt: skip
    judged = published.judge_relationships(SCENE, annotated, CLASSES, PREDICATES, NONE, None)
    # (10, 20, 11) is the best of its pair; with 22, whose score is 0, it comes behind 8 * 3 others: the
    # ninth pair of labels, (12, 10), is too unlikely for float32. 'none' of the second pair is its best;
    # nothing was said of the third, whose 'none' is beyond all places.
    assert judged.rank.tolist() == [1, 25, 1, 101]
    assert judged.unpredicted.tolist() == [False, False, False, True]


def test_published_relationships_with_given_objects_by_hand() -> None:
    annotated = pairs(
        subject=[1, 2, 2, 2], target=[2, 1, 1, 1], labels=[12, 10, 11], term=[20, 20, 22, NONE]
    )  # fmt: skip
    objects = Annotated(None, np.array([1, 2]), np.array([12, 10], np.int32), np.array([12, 10], np.int32))
    given = given_classes(SCENE, objects, CLASSES)
    judged = published.judge_relationships(SCENE, annotated, CLASSES, PREDICATES, NONE, None, given)
    assert judged.rank.tolist() == [1, 4, 2, 1]
    assert judged.chance[:, 0].tolist() == [0.25] * 4


def test_strict_by_hand() -> None:
    less, kept = PREDICATES.without(NONE)
    assert (less.texts, kept.tolist()) == (["20", "21", "22"], [1, 2, 3])
    scene = Scene(SCENE.numbers, SCENE.objects, SCENE.pairs, SCENE.predicates[:, kept])
    annotated = pairs(
        subject=[1, 1, 1, 2, 2], target=[2, 2, 2, 1, 3], labels=[10, 11, 12], term=[20, 21, 22, 22, 20]
    )  # fmt: skip
    predicates = strict.judge_predicates(scene, annotated, less)
    assert predicates.rank.tolist() == [1, 2, 3, 1, 0]
    assert predicates.chance.tolist() == [[1 / 3, 1, 1]] * 4 + [[0, 0, 0]]
    triplets = strict.judge_relationships(scene, annotated, CLASSES, less)
    # Both best predicates of the first pair are as high: each takes the later place. The second pair comes
    # next, whose objects are as sure; what has no share is missed.
    assert triplets.rank.tolist() == [2, 2, 0, 3, 0]
    assert triplets.unpredicted.tolist() == [False] * 4 + [True]
    assert triplets.chance[:, 0] == pytest.approx([1 / 54] * 4 + [0])


@given(SEEDS)
def test_strict_triplets_are_ranked_over_the_scan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = Scene(
        np.arange(1, 4),
        (rng.integers(0, 5, (3, 3)) / 100).astype(np.float32),
        np.array([[1, 2], [2, 3], [3, 1]]),
        scores(rng, 3, 4),
    )
    labels, terms = rng.integers(10, 13, 3), rng.integers(20, 24, 4)
    annotated = pairs(subject=[1, 2, 3, 2], target=[2, 3, 1, 3], labels=labels, term=terms)
    predicates = words([20, 21, 22, 23])
    judged = strict.judge_relationships(scene, annotated, CLASSES, predicates)
    shares = probabilities(scene.objects)
    every = np.array(
        [
            shares[s][:, None, None] * shares[o][None, :, None] * scene.predicates[edge].clip(min=0)
            for edge, (s, o) in enumerate(scene.pairs - 1)
        ]
    )
    for rank, subject, label, term, target_label in zip(
        judged.rank,
        annotated.subject_no,
        annotated.subject_label_id,
        annotated.term_id,
        annotated.object_label_id,
        strict=True,
    ):
        own = every[subject - 1, label - 10, target_label - 10, term - 20]
        among = int((every >= own).sum())
        assert rank == (among if among <= 100 and own > 0 else 0)


def test_chance_of_none_is_that_of_drawing_any_of_its_triplets() -> None:
    classes, predicates = words(list(range(10, 18))), words([NONE, 20, 21, 22])
    scene = Scene(
        np.array([1, 2]), np.zeros((2, 8), np.float32), np.array([[1, 2]]), np.zeros((1, 4), np.float32)
    )
    annotated = pairs(subject=[1, 1], target=[2, 2], labels=[10, 11], term=[NONE, 20])
    judged = published.judge_relationships(scene, annotated, classes, predicates, NONE, None)
    drawn = [hypergeom(256, 64, places).sf(0) for places in (1, 50, 100)]
    assert judged.chance[0] == pytest.approx(drawn)
    assert judged.chance[1] == pytest.approx([1 / 256, 50 / 256, 100 / 256])


def test_wordings_count_for_what_they_stand_for_by_the_best_of_them() -> None:
    said = np.eye(3, dtype=np.float32)
    terms, owner = np.array([7, 5], np.int32), np.array([0, 0, 1])
    vocabulary = Words("w", "h", terms, ["left", "on"], ["left", "to the left", "on"], owner, said)
    asked = np.array([[0.1, 0.9, 0.3], [0.8, -0.5, 0.2]], np.float32)
    assert vocabulary.similarities(asked).tolist() == np.array([[0.9, 0.3], [0.8, 0.2]], np.float32).tolist()
    assert vocabulary.places(np.array([5, 6, 7], np.int32)).tolist() == [1, -1, 0]
    less, kept = vocabulary.without(7)
    assert (less.texts, less.wordings, less.owner.tolist(), kept.tolist()) == (["on"], ["on"], [0], [1])
    assert less.similarities(asked)[:, 0].tolist() == asked[:, 2].tolist()


def test_equal_embeddings_and_equal_words_are_equally_near_wherever_they_stand() -> None:
    rng = np.random.default_rng(0)
    row, said = rng.normal(size=384), rng.normal(size=(27, 384))
    said[[13, 26]] = said[0]
    embeddings = (said / np.linalg.norm(said, axis=1, keepdims=True)).astype(np.float32)
    names = [f"{number:02}" for number in range(27)]
    vocabulary = Words("w", "h", np.arange(1, 28, dtype=np.int32), names, names, np.arange(27), embeddings)
    asked = np.tile((row / np.linalg.norm(row)).astype(np.float32), (343, 1))
    cosines = vocabulary.similarities(asked)
    assert len(np.unique(cosines, axis=0)) == 1
    assert len(np.unique(cosines[:, [0, 13, 26]])) == 1
