"""The published protocol against the published functions, where a checkout of them is at hand.

Set OPEN3DSG_PUBLISHED to a checkout of boschresearch/Open3DSG; nothing of it is part of this project.
"""

from __future__ import annotations

import os
import textwrap
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.evaluation import published
from open3dsg.evaluation.judged import PLACES, Annotated, AnnotatedPairs, Judged, Scene, given_classes
from open3dsg.evaluation.ranks import probabilities
from open3dsg.evaluation.recall import figures, tally
from tests.unit.test_ranks import words

CHECKOUT = os.environ.get("OPEN3DSG_PUBLISHED")
C, P = 24, 27
CLASSES, PREDICATES = words(list(range(1000, 1000 + C))), words(list(range(P)))  # 'none' is 0
NAMES = {"object": "o", "predicate": "p", "relationship": "rel"}
pytestmark = pytest.mark.skipif(CHECKOUT is None, reason="OPEN3DSG_PUBLISHED does not point to a checkout")


class Drawn(NamedTuple):
    """A subgraph with random scores, many of them equal, and random annotations."""

    classes: NDArray[np.int64]  # (n,) of the objects
    pairs: NDArray[np.int64]  # (E, 2)
    cosines: NDArray[np.float32]  # (n, C)
    scores: NDArray[np.float32]  # (E, P)
    offsets_m: NDArray[np.float32]  # (E, 3)
    truths: list[list[int]]  # E


def published_functions() -> dict[str, Any]:
    """Run the functions without the head of their file, which opens files of a dataset."""
    import torch

    scripts = Path(str(CHECKOUT)) / "open3dsg" / "scripts"
    found: dict[str, Any] = {"np": np, "torch": torch}
    text = (scripts / "eval.py").read_text(encoding="utf-8")
    exec(text[text.index("def get_eval(") :], found)
    text = (scripts / "trainer.py").read_text(encoding="utf-8")
    part = text[text.index("    def mRecall_objects(") : text.index("    def mRecall_relationships_by_pred(")]
    exec(textwrap.dedent(part), found)
    return found


def draw(rng: np.random.Generator) -> Drawn:
    count = int(rng.integers(4, 7))
    pairs = np.array(list(permutations(range(count), 2)))
    truths = [
        np.sort(rng.choice(np.arange(1, P), several, replace=False)).tolist() or [0]
        for several in rng.choice(4, len(pairs), p=[0.6, 0.2, 0.1, 0.1])
    ]
    return Drawn(
        rng.integers(0, C, count),
        pairs,
        (rng.standard_normal((count, C)) * rng.choice([0.02, 0.1])).astype(np.float32),
        np.round(rng.standard_normal((len(pairs), P)) * 0.3, int(rng.integers(1, 6)))
        .clip(min=0)
        .astype(np.float32),
        rng.uniform(0, 0.6, (len(pairs), 3)).astype(np.float32),
        truths,
    )


def theirs(functions: dict[str, Any], drawn: Drawn, shares: NDArray[np.float32]) -> dict[str, Any]:
    from torch import from_numpy, tensor

    count, edges = len(drawn.classes), len(drawn.pairs)
    triples = [
        (s + 1, o + 1, c) for (s, o), said in zip(drawn.pairs, drawn.truths, strict=True) for c in said
    ]
    order = np.argsort(-probabilities(drawn.cosines), axis=1, kind="stable")[:, :20]
    found: dict[str, Any] = functions["get_eval"](
        {
            "objects_id": tensor([list(range(count))]),
            "objects_count": tensor([count]),
            "predicate_count": tensor([edges]),
            "objects_predict": [from_numpy(order.copy())],
            "objects_probs": [from_numpy(shares)],
            "objects_cat": from_numpy(drawn.classes)[None],
            "predicates_mapped": [np.zeros((edges, P))],
            "predicates_mapped_probs": [from_numpy(drawn.scores)],
            "predicate_min_dist": [drawn.offsets_m],
            "pairs": from_numpy(drawn.pairs)[None],
            "edges": from_numpy(drawn.pairs)[None],
            "triples": [tensor(triples)],
            "predicate_edges": [drawn.truths],
        }
    )
    return found


def ours(drawn: Drawn, *, is_given: bool) -> list[Judged]:
    each = [len(said) for said in drawn.truths]
    subject, target = np.repeat(drawn.pairs, each, axis=0).T
    labels = (drawn.classes + 1000).astype(np.int32)
    numbers = np.zeros(len(subject), np.int32)
    term = np.concatenate(drawn.truths).astype(np.int32)
    pairs = AnnotatedPairs(numbers, subject, labels[subject], term, target, labels[target])
    distance_m = np.repeat(np.linalg.norm(drawn.offsets_m, axis=1), each).astype(np.float64)
    scene = Scene(np.arange(len(labels)), drawn.cosines, drawn.pairs, drawn.scores)
    objects = Annotated(numbers[: len(labels)], scene.numbers, labels, labels)
    given = given_classes(scene, objects, CLASSES) if is_given else None
    return [
        published.judge_objects(scene, objects, CLASSES),
        published.judge_predicates(scene, pairs, PREDICATES, 0, distance_m, None),
        published.judge_relationships(scene, pairs, CLASSES, PREDICATES, 0, None, given),
    ]


@pytest.mark.parametrize("is_given", [False, True])
def test_figures_are_those_of_the_published_functions(is_given: bool) -> None:
    functions = published_functions()
    rng = np.random.default_rng(7)
    subgraphs = [draw(rng) for _ in range(20)]
    told = []
    for drawn in subgraphs:
        shares = np.eye(C, dtype=np.float32)[drawn.classes] if is_given else probabilities(drawn.cosines)
        told.append(theirs(functions, drawn, shares))
    for parts in zip(*(ours(drawn, is_given=is_given) for drawn in subgraphs), strict=True):
        found = figures(tally(parts), {})
        kind = parts[0].kind
        for at in PLACES[kind]:
            shares_of = [one[f"top{at}_recall_{NAMES[kind]}"][0] for one in told]
            assert found["recall"][str(at)] == pytest.approx(np.mean(shares_of), abs=1e-12)
            if kind != "relationship":
                means = mean_recall(functions, told, kind, at)
                assert found["mean_recall"][str(at)] == pytest.approx(means, abs=1e-12)


def mean_recall(functions: dict[str, Any], told: list[dict[str, Any]], kind: str, at: int) -> float:
    classes = SimpleNamespace(obj_class_dict=range(C), pred_class_dict_orig=range(P))
    hit, missed = (
        [part for one in told for part in one[f"top_{at}_{side}_{kind}s"]] for side in ("hit", "missed")
    )
    return float(np.nanmean(list(functions[f"mRecall_{kind}s"](classes, hit, missed).values())))
