"""Figures against tables that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from open3dsg.evaluation.judged import Annotated, Judged
from open3dsg.evaluation.recall import figures, tally, thirds
from tests.unit.test_ranks import words


def judged(ranks: list[int], terms: list[int], subgraphs: list[int] | None) -> Judged:
    """Objects of a scan; 99 is no class of the vocabulary."""
    term_id = np.array(terms, np.int32)
    numbers = None if subgraphs is None else np.array(subgraphs, np.int32)
    chance = np.tile([0.1, 0.5, 1.0], (len(ranks), 1)) * (term_id != 99)[:, None]
    rows = np.arange(len(ranks))
    return Judged(
        "object",
        Annotated(numbers, rows, term_id, term_id),
        rank=np.array(ranks),
        predicted_id=term_id,
        chance=chance,
        outside=term_id == 99,
        unpredicted=np.array(ranks) == 0,
    )


def test_subgraphs_are_averaged_first() -> None:
    # Subgraph 1 of the first scan: 2 of 4 at place 1; 2: 1 of 1; of the second scan: 0 of 1, 1 of 1 at 5.
    first = judged([1, 1, 6, 0, 1], [10, 10, 11, 99, 11], [1, 1, 1, 1, 2])
    second = judged([4], [12], [1])
    found = figures(tally([first, second]), {})
    assert found["recall"] == pytest.approx(
        {"1": (2 / 4 + 1 + 0) / 3, "5": (2 / 4 + 1 + 1) / 3, "10": (3 / 4 + 2) / 3}
    )
    assert found["chance"] == pytest.approx(
        {"1": (0.075 + 0.1 + 0.1) / 3, "5": (0.375 + 1) / 3, "10": 2.75 / 3}
    )
    assert (found["annotations"], found["classes"]) == (6, 4)
    assert (found["outside_vocabulary"], found["not_predicted"]) == (1, 1)


def test_without_subgraphs_each_annotation_counts_the_same() -> None:
    first, second = judged([1, 1, 6, 0, 1], [10, 10, 11, 99, 11], None), judged([4], [12], None)
    found = figures(tally([first, second]), {})
    assert found["recall"] == pytest.approx({"1": 3 / 6, "5": 4 / 6, "10": 5 / 6})


def test_mean_recall_is_that_of_classes_whatever_subgraph_they_are_in() -> None:
    first = judged([1, 1, 6, 0, 1], [10, 10, 11, 99, 11], [1, 1, 1, 1, 2])
    second = judged([4], [12], [1])
    found = figures(tally([first, second]), {"head": np.array([10, 12]), "tail": np.array([13])})
    # 10: 2 of 2; 11: 1 of 2; 12: 0 of 1, then 1; 99: 0 of 1.
    assert found["mean_recall"] == pytest.approx({"1": 1.5 / 4, "5": 2.5 / 4, "10": 3 / 4})
    assert found["mean_chance"] == pytest.approx({"1": 0.3 / 4, "5": 1.5 / 4, "10": 3 / 4})
    assert found["head"]["classes"] == 2
    assert found["head"]["mean_recall"] == pytest.approx({"1": 0.5, "5": 1, "10": 1})
    assert found["tail"] == {
        "classes": 0,
        "mean_recall": {"1": None, "5": None, "10": None},
        "mean_chance": {"1": None, "5": None, "10": None},
    }


def test_thirds_go_by_frequency_in_the_training_scans() -> None:
    vocabulary = words([10, 11, 12, 13, 14, 15, 16, 900])
    counts = {12: 7, 15: 9, 16: 1, 900: 50, 77: 3}
    cut = thirds(vocabulary, counts, 900)
    assert {name: part.tolist() for name, part in cut.items()} == {
        "head": [15, 12, 16],
        "body": [10, 11],
        "tail": [13, 14],
    }
    assert thirds(vocabulary, {}, 900) == {}
