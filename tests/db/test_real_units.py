"""The real scan and, from 3DSSG's annotations, its two subgraphs: from the files to units and files again.

docs/real-data.md has the figures.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.datasets.annotations import AnnotationReader
from open3dsg.datasets.scan import Cloud
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.export.graphs import read_graph_files, write_graph_files
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import Observe, ObserveOptions
from open3dsg.store.units import UnitReader, unit_keys
from tests.db.made_room import boxes
from tests.db.pipeline import Database, rows
from tests.db.published import check_published, in_box
from tests.scans import cloud_of

NAME = "7272e16c-a01b-20f6-8961-a0927b4a7629"
KEY = f"3rscan/{NAME}"
MEMBERS = {1: [1, 2, 5, 7, 8, 9, 14, 15, 17], 2: [3, 4, 5, 6, 19, 23, 30, 31, 33]}
TRIPLES = {1: 11, 2: 8}


@pytest.fixture
def subset() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data" / "3dssg_subset"
    if not folder.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: the published 3DSSG subset is not in {folder}")
    return folder


def own_boxes(root: Path) -> dict[int, tuple[NDArray[np.float64], ...]]:
    """The boxes that 3RScan itself delivers."""
    found = {}
    for group in json.loads((root / NAME / "semseg.v2.json").read_bytes())["segGroups"]:
        box = group["obb"]
        parts = (np.zeros(3), np.zeros(3), box["centroid"], box["normalizedAxes"], box["axesLengths"])
        found[group["objectId"]] = tuple(np.array(part, np.float64) for part in parts)
    return found


def union(cloud: Cloud, of: dict[int, tuple[NDArray[np.float64], ...]], pair: list[int]) -> NDArray[np.bool_]:
    points = cloud.xyz_m.astype(np.float64)
    first, second = (in_box(points, of[number], "oriented") for number in pair)
    return first | second


def test_two_subgraphs_go_all_the_way(
    database: Database, real_data: Path, subset: Path, tmp_path: Path, fresh: Database
) -> None:
    root = real_data / "3RScan"
    reader = ThreeRScan(root, subset)
    step = Ingest(reader, "3rscan", "3rscan", str(root))
    step(database, NAME)
    step.close(database)
    Observe(ObserveOptions())(database, KEY)
    Graph(GraphOptions())(database, KEY)
    assert unit_keys(database) == [(KEY, 1), (KEY, 2)]

    cloud = cloud_of(reader.read(NAME))
    seen = {number for (number,) in rows(database, "SELECT instance_no FROM observation")}
    ours, theirs = boxes(database), own_boxes(root)
    counts = rows(database, "SELECT instance_a, instance_b, union_points FROM pair")
    stored = {(a, b): count for a, b, count in counts}
    whole = UnitReader(database, NAME, unseen=True)
    for number, members in MEMBERS.items():
        unit = whole.read(number)
        assert unit.numbers.tolist() == members
        assert (unit.holds[:, 1:].sum(), unit.relations_left_out) == (TRIPLES[number], 0)
        assert [len(sample) for sample in unit.samples] == [
            min(2_000, (cloud.instance == member).sum()) for member in members
        ]
        overlaps = []
        for pair, points in zip(unit.pairs.tolist(), unit.unions, strict=True):
            assert len(points) == min(5_000, stored[min(pair), max(pair)])
            a, b = union(cloud, ours, pair), union(cloud, theirs, pair)
            overlaps.append((a & b).sum() / (a | b).sum())
        assert np.mean(overlaps) > 0.93, "our boxes hold what the dataset's own hold"
        visible = UnitReader(database, NAME, instance_points=50, pair_points=80).read(number)
        assert visible.numbers.tolist() == [member for member in members if member in seen]
        check_published(visible, cloud, ours, "oriented", (50, 80))

    write_graph_files(tmp_path, read_graph_files(database, [KEY], full=False), overwrite=False)
    Ingest(AnnotationReader(tmp_path, "3rscan"), "3rscan", "3rscan", None)(fresh, NAME)
    told = (
        "SELECT scan, subgraph, subject, subject_label, predicate, object, object_label FROM v_relationship"
    )
    assert sorted(rows(fresh, told)) == sorted(rows(database, told))
    assert len(rows(fresh, told)) == sum(TRIPLES.values())
