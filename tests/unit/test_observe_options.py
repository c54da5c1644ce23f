"""How many frames are looked at, by the layout of the dataset."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from open3dsg.db.ledger import Entry
from open3dsg.steps.observe import ObserveOptions


@pytest.mark.parametrize(("layout", "every"), [("3rscan", 10), ("scannet", 1)])
def test_what_is_not_said_is_as_published(layout: str, every: int) -> None:
    assert ObserveOptions().for_layout(layout).every == every
    assert ObserveOptions(7).for_layout(layout).every == 7


def test_the_ledger_of_3rscan_is_that_of_the_first_release() -> None:
    """Its options in full: work that was done with them stays done."""
    first = {
        "every": 10,
        "thresholds": {
            "min_points": 12,
            "min_ratio": 0.3,
            "enough_points": 80,
            "depth_tolerance": 0.2,
            "border": 0,
        },
        "surfaces": ("floor", "wall"),
    }
    now = asdict(ObserveOptions().for_layout("3rscan"))
    assert Entry("observe", 1, now).options_hash == Entry("observe", 1, first).options_hash


def test_surfaces_are_the_same_in_any_order_and_named_twice() -> None:
    assert ObserveOptions(surfaces=("wall", "floor", "wall")) == ObserveOptions(surfaces=("floor", "wall"))
