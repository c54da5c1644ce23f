"""Options of `graph build`: what is published for a layout, what is refused, what counts as other options."""

from __future__ import annotations

from typing import Any

import pytest

from open3dsg.errors import UserError
from open3dsg.steps.catalogue import build, describe
from open3dsg.steps.graph import Graph, GraphOptions


def test_what_is_published_for_a_layout() -> None:
    options = GraphOptions()
    assert options.shared("scannet") == ("bbox", 0.8, 1_000, 3_000, "axis-aligned")
    assert options.shared("3rscan") == ("bbox", 0.8, 2_000, 5_000, "oriented")
    assert options.shared("anything") == ("bbox", 0.8, 2_000, 5_000, "axis-aligned")
    own = GraphOptions(instance_points=7, pair_points=8, boxes="axis-aligned")
    assert own.shared("3rscan") == ("bbox", 0.8, 7, 8, "axis-aligned")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"receptive_field_m": 0.0}, "--receptive-field is 0: give more than 0"),
        ({"receptive_field_m": float("inf")}, "--receptive-field is inf: give more than 0"),
        ({"seed_distance_m": 0.09}, "--seed-distance is 0.09: give 0.1 or more"),
        ({"seed_distance_m": float("nan")}, "--seed-distance is nan: give 0.1 or more"),
        ({"min_instances": 1}, "--min-instances is 1: give 2 or more"),
        ({"min_instances": 8, "max_instances": 7}, "--max-instances is 7: give 8 or more"),
        ({"seed": -1}, "--seed is -1: give 0 or more"),
        ({"instance_points": 0}, "--instance-points is 0: give 1 or more"),
        ({"pair_points": -5}, "--pair-points is -5: give 1 or more"),
        ({"pair_points": 2**63}, "--pair-points is 9223372036854775808: give 2147483647 or less"),
        ({"seed": 10**400}, f"--seed is 1{'0' * 400}: give 2147483647 or less"),
        ({"full": True, "max_distance_m": 0.0}, "--max-distance is 0: give more than 0"),
    ],
)
def test_numbers_that_make_no_sense(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as refusal:
        GraphOptions(**changes)
    assert str(refusal.value) == told


WINDOWS = ({"seed_distance_m": 2.0}, {"min_instances": 3}, {"max_instances": 12}, {"seed": 1})
SHARED = (
    {"method": "radius"},
    {"receptive_field_m": 0.5},
    {"instance_points": 9},
    {"pair_points": 9},
    {"boxes": "axis-aligned"},
)


@pytest.mark.parametrize("changes", [*WINDOWS, *SHARED, {"max_distance_m": None}], ids=str)
def test_only_options_that_have_an_effect_make_it_other_work(changes: dict[str, Any]) -> None:
    def is_other(*, given: bool, full: bool) -> bool:
        plain, changed = GraphOptions(full=full), GraphOptions(full=full, **changes)
        return plain.entry("3rscan", given=given) != changed.entry("3rscan", given=given)

    assert is_other(given=True, full=False) == (changes in SHARED)
    assert is_other(given=False, full=False) == (changes in (*WINDOWS, *SHARED))
    assert is_other(given=True, full=True) == (changes not in WINDOWS)


def test_what_is_the_default_may_be_said() -> None:
    said = GraphOptions(instance_points=1_000, pair_points=3_000, boxes="axis-aligned")
    assert said.entry("scannet", given=False) == GraphOptions().entry("scannet", given=False)


def test_the_queue_gets_it_back_as_it_was() -> None:
    work = Graph(GraphOptions(method="radius", full=True, max_distance_m=None), replace=True)
    assert build("graph", describe("graph", work)) == work
