"""Student and teacher into one, and the means over units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.errors import UserError
from open3dsg.steps import predict_fusion
from open3dsg.steps.predict_fusion import Fusion, Means
from open3dsg.steps.predict_options import PredictOptions


def rows(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(weight=st.floats(0, 1), seed=st.integers(0, 99), lengths=st.tuples(*[st.floats(0.01, 100)] * 2))
def test_vectors_are_weighed_as_directions(weight: float, seed: int, lengths: tuple[float, float]) -> None:
    student, teacher = rows(seed, 2, 5)
    fused = Fusion(weight).vectors(student * np.float32(lengths[0]), teacher * np.float32(lengths[1]))
    assert fused is not None
    plain = weight * teacher / np.linalg.norm(teacher) + (1 - weight) * student / np.linalg.norm(student)
    np.testing.assert_allclose(fused[0], plain / np.linalg.norm(plain), atol=1e-4)
    assert fused[1] == "fused"


def test_what_is_alone_counts_alone() -> None:
    student, teacher = rows(1, 4), rows(2, 4)
    fusion = Fusion(0.25)
    for alone, origin in (
        (fusion.vectors(student, None), "student"),
        (fusion.vectors(None, teacher), "teacher"),
    ):
        assert alone is not None
        expected = student if origin == "student" else teacher
        np.testing.assert_allclose(alone[0], expected / np.linalg.norm(expected), rtol=1e-6)
        assert alone[1] == origin
    assert fusion.vectors(None, None) is None
    assert fusion.tokens(None, None) is None
    grid = rows(3, 3, 4)
    kept = fusion.tokens(grid, None)
    assert kept is not None
    np.testing.assert_array_equal(kept[0], grid)


def test_opposite_directions_leave_the_students() -> None:
    row = np.array([0.6, -0.8], np.float32)
    fused = Fusion(0.5).vectors(row, -row)
    assert fused is not None
    np.testing.assert_allclose(fused[0], row)
    assert fused[1] == "student"


@given(weight=st.floats(0, 1), length=st.floats(0.01, 100))
def test_grids_are_weighed_at_the_length_of_the_teachers(weight: float, length: float) -> None:
    student, teacher = rows(4, 6, 3), rows(5, 6, 3)
    fused = Fusion(weight).tokens(student * np.float32(length), teacher)
    assert fused is not None
    scaled = student * np.linalg.norm(teacher) / np.linalg.norm(student)
    np.testing.assert_allclose(fused[0], weight * teacher + (1 - weight) * scaled, atol=1e-4)
    raw = Fusion(weight, as_learnt=True).tokens(student * np.float32(length), teacher)
    assert raw is not None
    np.testing.assert_allclose(raw[0], weight * teacher + (1 - weight) * length * student, atol=1e-3)


@pytest.mark.parametrize("in_memory", [True, False])
def test_means_are_those_of_what_was_added(in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_memory:
        monkeypatch.setattr(predict_fusion, "_IN_MEMORY", 0)
    means = Means(["a", "b", "c"])
    assert means.get("a") is None
    first, second = rows(6, 2, 3, 4), rows(7, 2, 3, 4)
    means.add(["c", "a"], first)
    means.add(["a", "c"], second)
    for key, given_rows in (("a", [first[1], second[0]]), ("c", [first[0], second[1]])):
        found = means.get(key)
        assert found is not None
        np.testing.assert_allclose(found, np.mean(given_rows, axis=0), rtol=1e-6)
    assert means.get("b") is None
    assert means.get("nobody") is None


@pytest.mark.parametrize(
    ("options", "called", "source"),
    [
        ({}, "fused-0.5", "fused"),
        ({"weight_2d": 0.0}, "student", "student"),
        ({"weight_2d": 1.0}, "fused-1", "fused"),
        ({"weight_2d": 0.7, "published": True}, "fused-0.7-published", "fused"),
        ({"weight_2d": 0.0, "published": True}, "fused-0-published", "fused"),
        ({"from_2d": True}, "teacher", "teacher"),
        ({"from_2d": True, "label": "mine"}, "mine", "teacher"),
    ],
)
def test_a_prediction_is_called_by_how_it_is_made(options: dict[str, Any], called: str, source: str) -> None:
    found = PredictOptions("run", **options)
    assert (found.called, found.source) == (called, source)


def test_a_weight_beyond_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"--weight-2d is 1.5: give 0"):
        PredictOptions("run", weight_2d=1.5)
