"""Training units of scans that nobody would film: points on one spot, things of one point, 500 things."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.datasets.layouts import WordList
from open3dsg.datasets.scan import Cloud, Scan
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from tests.db.pipeline import Database, rows

KEY = "made/odd"


class Odd:
    """A reader of one scan of these things: points (N, 3) each, numbered from 0."""

    arguments: Mapping[str, Any] = {}
    ledger_options: Mapping[str, Any] = {}

    def __init__(self, things: Sequence[NDArray[np.float64]]) -> None:
        self.things = things

    def read(self, name: str) -> Scan:
        xyz = np.concatenate(self.things).astype(np.float32)
        instance = np.repeat(np.arange(len(self.things), dtype=np.int32), [len(t) for t in self.things])
        cloud = Cloud(xyz, np.zeros(xyz.shape, np.uint8), instance)
        return Scan("made", name, Path("/"), cloud, dict.fromkeys(range(len(self.things)), "thing"))

    def annotation_hash(self, name: str) -> str | None:
        return None

    def attributes_of(self, name: str) -> None:
        return None

    def word_lists(self) -> Sequence[WordList]:
        return ()


def plane(side: int) -> NDArray[np.float64]:
    """A flat square of 1 m, its points in rows."""
    steps = np.linspace(0, 1, side)
    return np.stack([*np.meshgrid(steps, steps), np.ones((side, side))], axis=2).reshape(-1, 3)


def row_of(count: int) -> list[NDArray[np.float64]]:
    """Things of four points, one every 40 cm."""
    corner = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    return [corner + np.array([0.4 * at, 0, 0]) for at in range(count)]


SPOT = np.ones((50, 3))
ODD = {
    "all on one spot": [SPOT, SPOT, SPOT],
    "of one point each": [np.full((1, 3), at / 10) for at in range(3)],
    "flat, and one in it": [plane(20), plane(5), SPOT],
    "touching nothing": [plane(10), plane(10) + np.array([0, 0, 0.5]), SPOT + 90_000],
    "all alone": [plane(10)],
    "five hundred": row_of(500),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_scans_have_units(database: Database, name: str) -> None:
    things = ODD[name]
    reader = Odd(things)
    Ingest(reader, "made", "made", "/nowhere")(database, "odd")
    shared: dict[str, Any] = {"instance_points": 30, "pair_points": 40, "max_distance_m": 0.6}
    built = Graph(GraphOptions(**shared, min_instances=2, max_instances=9))(database, KEY)
    whole = Graph(GraphOptions(**shared, full=True))(database, KEY)

    samples = dict(rows(database, "SELECT instance_no, point_ids FROM instance_sample"))
    first = np.cumsum([0, *map(len, things)])
    for number, thing in enumerate(things):
        ids = np.frombuffer(samples[number], "<i4").tolist()
        assert len(ids) == len(set(ids)) == min(30, len(thing))
        assert all(first[number] <= at < first[number + 1] for at in ids)
    near = {
        (a, b)
        for a, b in itertools.combinations(range(len(things)), 2)
        if abs(a - b) <= 2 and np.linalg.norm(things[a][:, None] - things[b], axis=2).min() <= 0.6
    }
    assert whole.counts["pairs"] == len(near)
    groups = {
        tuple(numbers)
        for (numbers,) in rows(
            database,
            "SELECT array_agg(instance_no ORDER BY instance_no) FROM subgraph_member"
            " WHERE subgraph_no >= 0 GROUP BY subgraph_no",
        )
    }
    together = {pair for numbers in groups for pair in itertools.combinations(numbers, 2)}
    stored = rows(database, "SELECT instance_a, instance_b, min_distance_m, union_points FROM pair")
    assert {(a, b) for a, b, _distance, _points in stored} == near | together
    assert built.counts["instances_in_no_group"] == len(
        set(range(len(things))) - {n for g in groups for n in g}
    )
    for a, b, distance, points in stored:
        plain = np.linalg.norm(things[a][:, None] - things[b], axis=2).min()
        np.testing.assert_allclose(distance, plain, rtol=1e-4, atol=1e-6)  # float32, far from the origin
        assert points >= len(things[a]) + len(things[b])
    if name == "touching nothing":
        assert groups == {(0, 1)}
        assert rows(database, "SELECT neighbours FROM instance_sample WHERE instance_no = 2") == [([],)]
