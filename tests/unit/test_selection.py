"""The choice of frames against a plain loop over observations, written from the published rules."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.errors import UserError
from open3dsg.geometry.selection import (
    LookThresholds,
    best_rows,
    box_areas,
    enclosing_boxes,
    qualify,
    rows_together,
)

GRID = (320, 240)
NODES = LookThresholds(0.3, 500, 8000)
PIXELS = LookThresholds(0.2, None, 8000)
PAIRS = LookThresholds(0.3, None, 10_000)


def observations(seed: int, instances: int, frames: int) -> dict[str, np.ndarray[Any, Any]]:
    """Observations ordered by instance and frame, many of them near the thresholds."""
    random = np.random.default_rng(seed)
    kept = [key for key in product(range(instances), range(frames)) if random.random() < 0.7]
    count = len(kept)
    low = random.integers(0, 150, (count, 2))
    return {
        "instance": np.array([key[0] for key in kept], np.int32),
        "frame": np.array([key[1] for key in kept], np.int32),
        "visibility": np.round(random.random(count), 1).astype(np.float32),
        "box": np.hstack([low, low + random.integers(0, 130, (count, 2))]).astype(np.int32),
        "grid_px": np.full(count, GRID[0] * GRID[1]),
    }


def passes(seen: dict[str, Any], at: int, rule: LookThresholds) -> bool:
    """Tell by plain arithmetic whether one observation qualifies; tenths are compared as tenths."""
    x0, y0, x1, y1 = map(int, seen["box"][at])
    area = (x1 - x0) * (y1 - y0)
    visible = round(float(seen["visibility"][at]) * 10) > round(rule.min_visibility * 10)
    wide = rule.min_area_px is None or area > rule.min_area_px
    return (visible and wide) or area > rule.large_area_px


def plain_nodes(seen: dict[str, Any], rule: LookThresholds, top_k: int) -> list[tuple[int, int]]:
    found = []
    for number in sorted(set(seen["instance"].tolist())):
        good = [
            (-round(float(seen["visibility"][at]), 4), int(seen["frame"][at]))
            for at in range(len(seen["frame"]))
            if seen["instance"][at] == number and passes(seen, at, rule)
        ]
        if len(good) >= rule.min_frames:
            found += [(number, frame) for frame in sorted(frame for _, frame in sorted(good)[:top_k])]
    return found


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([NODES, PIXELS]))
def test_instances_equal_a_plain_loop(seed: int, top_k: int, rule: LookThresholds) -> None:
    seen = observations(seed, 6, 9)
    good = np.flatnonzero(qualify(seen["visibility"], box_areas(seen["box"]), seen["grid_px"], rule))
    rank = seen["visibility"][good].astype(float)
    chosen = good[
        best_rows(seen["instance"][good].astype(np.int64), rank, seen["frame"][good], top_k, rule.min_frames)
    ]
    found = list(zip(seen["instance"][chosen].tolist(), seen["frame"][chosen].tolist(), strict=True))
    assert found == plain_nodes(seen, rule, top_k)


def plain_pairs(
    seen: dict[str, Any], pairs: list[tuple[int, int]], top_k: int
) -> list[tuple[int, int, tuple[int, ...]]]:
    at_of = {
        (int(number), int(frame)): at
        for at, (number, frame) in enumerate(zip(seen["instance"], seen["frame"], strict=True))
    }
    found = []
    for place, (a, b) in enumerate(pairs):
        good = []
        for frame in range(9):
            ends = [at_of.get((number, frame)) for number in (a, b)]
            if None not in ends and all(passes(seen, at, PAIRS) for at in ends if at is not None):
                share = sum(float(seen["visibility"][at]) for at in ends if at is not None)
                boxes = [seen["box"][at].tolist() for at in ends if at is not None]
                union = (
                    *(min(box[side] for box in boxes) for side in (0, 1)),
                    *(max(box[side] for box in boxes) for side in (2, 3)),
                )
                good.append((-round(share, 4), frame, union))
        if len(good) >= PAIRS.min_frames:
            best = sorted(good)[:top_k]
            found += [(place, frame, union) for _, frame, union in sorted(best, key=lambda row: row[1])]
    return found


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_pairs_equal_a_plain_loop(seed: int, top_k: int) -> None:
    seen = observations(seed, 6, 9)
    pairs = [(a, b) for a, b in product(range(8), repeat=2) if a < b and (a + b + seed) % 5]
    good = qualify(seen["visibility"], box_areas(seen["box"]), seen["grid_px"], PAIRS)
    pair, first, second = rows_together(np.array(pairs, np.int32), seen["instance"], seen["frame"])
    both = good[first] & good[second]
    pair, first, second = pair[both], first[both], second[both]
    # Sums of tenths differ in their last bits: as the plain loop, by four digits.
    rank = np.round(seen["visibility"][first].astype(float) + seen["visibility"][second], 4)
    chosen = best_rows(pair, rank, seen["frame"][first], top_k, PAIRS.min_frames)
    union = enclosing_boxes(seen["box"][first[chosen]], seen["box"][second[chosen]])
    found = list(
        zip(
            pair[chosen].tolist(),
            seen["frame"][first[chosen]].tolist(),
            map(tuple, union.tolist()),
            strict=True,
        )
    )
    assert found == plain_pairs(seen, pairs, top_k)


def test_nothing_observed_is_nothing_chosen() -> None:
    none = np.empty(0, np.int32)
    pairs = np.array([[1, 2]], np.int32)
    assert [len(found) for found in rows_together(pairs, none, none)] == [0, 0, 0]
    assert len(best_rows(none.astype(np.int64), none.astype(float), none, 5, 2)) == 0


def test_areas_are_the_same_share_of_any_grid() -> None:
    """250 pixels of 3RScan's grid are as much of the picture as 1,000 of one twice as wide and high."""
    rule = LookThresholds(0.2, 250, 4000, grid_px=224 * 172)
    areas = np.array([250, 251, 1000, 1001, 16_000, 16_001])
    grids = np.array([224 * 172] * 2 + [448 * 344] * 4)
    visibility = np.array([0.5] * 4 + [0.0] * 2, np.float32)
    assert qualify(visibility, areas, grids, rule).tolist() == [False, True] * 3


def test_a_share_equal_to_the_threshold_does_not_pass() -> None:
    shares = np.array([3 / 10, 2 / 10, 301 / 1000], np.float32)
    assert qualify(shares, np.zeros(3, np.int64), np.ones(3, np.int64), PAIRS).tolist() == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ((1.5, 1, 1), "--min-visibility is 1.5: give 0 to 1"),
        ((0.3, -1, 1), "--min-area is -1: give 0 or more"),
        ((0.3, 1, float("nan")), "--large-area is nan: give 0 or more"),
        ((0.3, 1, 1, 0), "--min-frames is 0: give 1 or more"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(bad: tuple[Any, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        LookThresholds(*bad)
