"""Files of hits: colours and log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from open3dsg.datasets.scan import Cloud
from open3dsg.export.hits import hit_colours, paint_hits, write_log
from open3dsg.query.nodes import NodeHit


def cloud() -> Cloud:
    random = np.random.default_rng(0)
    return Cloud(
        xyz_m=random.normal(size=(60, 3)).astype(np.float32),
        rgb=random.integers(256, size=(60, 3), dtype=np.uint8),
        instance=np.repeat(np.array([-1, 3, 8], np.int32), 20),
    )


def test_colours_are_unique_over_several_rounds() -> None:
    colours = hit_colours([5, 5, *range(500)])
    assert len(colours) == 500
    assert len(set(colours.values())) == 500
    assert next(iter(colours)) == 5


def test_more_instances_than_there_are_colours_have_one_each() -> None:
    colours = hit_colours(range(20_000))
    assert len(colours) == 20_000
    assert len(set(list(colours.values())[:8000])) == 8000


def test_only_hits_are_coloured() -> None:
    painted = paint_hits(cloud(), {8: (10, 200, 30)})
    assert (painted[40:] == (10, 200, 30)).all()
    assert (np.ptp(painted[:40].astype(int), axis=1) == 0).all()
    assert painted[:40].min() >= 160


def test_the_log_ranks_each_query(tmp_path: Path) -> None:
    hits = [
        NodeHit("s", number, "chair", 0.5, (1.0, 2.0, 3.0), "d", query)
        for query, number in (("a", 1), ("a", 2), ("b \N{SNOWMAN}", 2))
    ]
    write_log(tmp_path / "log", [hits[:2], hits[2:]], {1: (1, 2, 3)})
    rows = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert [(row["query"], row["rank"], row["colour"]) for row in rows] == [
        ("a", 1, [1, 2, 3]),
        ("a", 2, None),
        ("b \N{SNOWMAN}", 1, None),
    ]
