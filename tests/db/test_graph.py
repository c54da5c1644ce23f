"""Training units of a miniature: rows against its points, resuming, replacing, what later changes drop."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.scannet import ScanNet
from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.errors import UserError
from open3dsg.geometry.pairs import PairBuilder, PairGeometry
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.relabel import Correct, Relabel
from open3dsg.steps.status import scan_statuses
from open3dsg.store.graphs import stored_subgraphs
from open3dsg.store.removal import delete_scan
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.content import content
from tests.db.corrections import CHANGES, rename
from tests.db.pipeline import KEY, Database, ingest, observe, rows

NUMBERS = [1, 2, 4, 7]
POINTS: dict[str, Any] = {"instance_points": 20, "pair_points": 50}
WINDOWS: dict[str, Any] = {"seed_distance_m": 0.4, "min_instances": 2, "max_instances": 3}
FULL: dict[str, Any] = {"full": True, "max_distance_m": 0.5}


def graph(*, force: bool = False, replace: bool = False, **options: Any) -> Graph:
    return Graph(GraphOptions(**{**POINTS, **options}), force, replace)


def annotate(root: Path, **changes: Any) -> None:
    mini.write_annotations(root, mini.subgraph(**changes))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A root with a scan that nobody annotated."""
    folder = tmp_path / "bare"
    mini.write_scan(folder)
    return folder


def pairs(database: Database) -> list[tuple[int, int]]:
    return [(a, b) for a, b in rows(database, "SELECT instance_a, instance_b FROM pair ORDER BY 1, 2")]


def members(database: Database, method: str) -> dict[int, list[int]]:
    query = (
        "SELECT subgraph_no, instance_no FROM subgraph_member JOIN subgraph USING (scan_id, subgraph_no)"
        f" WHERE method = '{method}' ORDER BY 1, 2"
    )
    found = rows(database, query)
    return {
        subgraph: [number for _, number in of_one]
        for subgraph, of_one in itertools.groupby(found, key=lambda row: row[0])
    }


def distances() -> dict[tuple[int, int], float]:
    """Between the nearest points of each two instances, one point after the other."""
    xyz, numbers, _ = mini.points()
    return {
        (a, b): float(np.linalg.norm(xyz[numbers == a][:, None] - xyz[numbers == b], axis=2).min())
        for a, b in itertools.combinations(NUMBERS, 2)
    }


def states(database: Database) -> dict[str, str]:
    (status,) = scan_statuses(database)
    return {step: done.state for step, done in status.steps.items() if step.startswith("graph")}


def test_given_subgraphs_get_samples_and_pairs(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    summary = graph(receptive_field_m=0.1)(database, KEY)
    assert summary.counts == {
        "subgraphs": 1,
        "members": 4,
        "instances": 4,
        "instances_in_no_group": 0,
        "pairs": 6,
        "pairs_shared": 0,
    }
    assert summary.problems == []
    assert pairs(database) == list(itertools.combinations(NUMBERS, 2))
    xyz, numbers, _ = mini.points()
    for number, ids, centre, scale, neighbours in rows(
        database, "SELECT instance_no, point_ids, centre_m, scale_m, neighbours FROM instance_sample"
    ):
        sample = np.frombuffer(ids, "<i4")
        assert len(set(sample.tolist())) == 20
        assert set(numbers[sample]) == {number}
        np.testing.assert_allclose(centre, xyz[sample].mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(
            scale, max(np.linalg.norm(p - np.array(centre)) for p in xyz[sample]), atol=1e-6
        )
        # Boxes of points, grown by 10 cm each, touch where the points leave 20 cm at most on every axis.
        own, gaps = xyz[numbers == number], {}
        for other in set(NUMBERS) - {number}:
            its = xyz[numbers == other]
            gaps[other] = np.maximum(
                own.min(axis=0) - its.max(axis=0), its.min(axis=0) - own.max(axis=0)
            ).max()
        assert neighbours == sorted(other for other, gap in gaps.items() if gap <= 0.2)
    ((least,),) = rows(database, "SELECT min(octet_length(point_ids)) FROM pair")
    assert least == 200
    (found,) = stored_subgraphs(database, dataset=None, split=None, scan=None)
    assert (found.method, found.objects, found.pairs, found.relations) == ("3dssg", 4, 6, 4)
    assert (found.visible_objects, found.reason) == (None, None)
    assert graph(receptive_field_m=0.1)(database, KEY).skipped
    assert states(database) == {"graph subgraphs": "done"}


def test_windows_where_no_subgraphs_are_given(database: Database, bare: Path) -> None:
    ingest(bare)(database, mini.NAME)
    summary = graph(**WINDOWS)(database, KEY)
    groups = members(database, "window")
    assert len(groups) > 1
    assert list(groups) == list(range(len(groups)))
    assert all(2 <= len(group) <= 3 for group in groups.values())
    inside = Counter(pair for group in groups.values() for pair in itertools.combinations(group, 2))
    assert pairs(database) == sorted(inside)
    left_out = sorted(set(NUMBERS) - {number for group in groups.values() for number in group})
    assert (
        summary.counts.items()
        >= {
            "subgraphs": len(groups),
            "members": sum(map(len, groups.values())),
            "pairs": len(inside),
            "pairs_shared": sum(times > 1 for times in inside.values()),
            "instances": 4,
            "instances_in_no_group": len(left_out),
        }.items()
    )
    xyz, numbers, _ = mini.points()
    for subgraph, centre in rows(database, "SELECT subgraph_no, centre_m FROM subgraph"):
        near = np.abs(xyz - centre).max(axis=1) < 0.8 + 1e-5
        assert set(groups[subgraph]) <= set(numbers[near].tolist())
    labels = rows(
        database, "SELECT DISTINCT instance_no, text FROM subgraph_member JOIN term ON term_id = label_id"
    )
    assert dict(labels).items() <= mini.LABELS.items()
    assert graph(**WINDOWS)(database, KEY).skipped


def test_what_is_left_out_is_told(database: Database, root: Path) -> None:
    objects = {"1": "floor", "4": "table", "50": "ghost"}
    mini.write_annotations(
        root,
        mini.subgraph(objects=objects, relationships=[]),
        mini.subgraph(split=2, objects={"4": "table", "50": "ghost"}, relationships=[]),
    )
    ingest(root)(database, mini.NAME)
    assert [s.reason for s in stored_subgraphs(database, dataset=None, split=None, scan=KEY)] == [
        "not built",
        "too few objects",
    ]
    told = {(problem.kind, problem.detail) for problem in graph()(database, KEY).problems}
    assert told == {
        ("instance_without_points", "mini-0001 instance 50 is in a subgraph"),
        ("instance_in_no_group", "mini-0001: 2 of 4 instances (50%) are in no group: 2, 7"),
        ("subgraph_too_few_objects", "mini-0001 subgraph 2: 2 objects, 1 with points"),
    }
    assert pairs(database) == [(1, 4)]
    observe()(database, KEY)
    seen = "mini-0001 subgraph 1: 3 objects, 2 with points, 2 visible"
    assert ("subgraph_too_few_visible", seen) in {
        (problem.kind, problem.detail) for problem in graph(force=True)(database, KEY).problems
    }
    found = stored_subgraphs(database, dataset="3rscan", split=None, scan=None)
    assert [(s.subgraph, s.objects, s.objects_with_points, s.visible_objects, s.reason) for s in found] == [
        (1, 3, 2, 2, "too few visible"),
        (2, 2, 1, 1, "too few objects"),
    ]


def test_windows_of_too_few_are_told(database: Database, bare: Path) -> None:
    ingest(bare)(database, mini.NAME)
    summary = graph()(database, KEY)
    windows = summary.counts["windows"]
    assert summary.counts.items() >= {"windows_of_too_few": windows, "subgraphs": 0, "pairs": 0}.items()
    assert [problem.detail for problem in summary.problems] == [
        f"mini-0001: {windows} of {windows} windows hold fewer than 6 instances and make no group",
        "mini-0001: 4 of 4 instances (100%) are in no group: 1, 2, 4, 7",
    ]


def test_a_scan_without_instances_is_done_and_told(database: Database, tmp_path: Path) -> None:
    scannet.write_scan(tmp_path, scannet.TEST, annotated=False)
    scannet.write_metadata(tmp_path)
    Ingest(ScanNet(tmp_path), "scannet", "scannet", str(tmp_path))(database, scannet.TEST)
    summary = graph()(database, scannet.TEST)
    (problem,) = summary.problems
    assert problem.kind == "scan_without_instances"
    assert problem.detail.endswith("; the test split of ScanNet is published without")
    assert summary.counts["subgraphs"] == 0
    assert graph(**FULL)(database, scannet.TEST).problems == [problem]
    assert rows(database, "SELECT FROM subgraph") == []
    assert graph()(database, scannet.TEST).skipped


def test_a_scan_of_annotations_alone_has_nothing_to_build(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    database.execute("DELETE FROM point_block")
    with pytest.raises(UserError, match="has no points in the database: run `open3dsg ingest`"):
        graph()(database, KEY)


@pytest.mark.parametrize("is_given", [True, False])
def test_a_full_graph_lies_beside_the_subgraphs(
    database: Database, root: Path, bare: Path, is_given: bool
) -> None:
    ingest(root if is_given else bare)(database, mini.NAME)
    subgraphs, full = graph(**WINDOWS), graph(**FULL)
    near = {pair for pair, distance in distances().items() if distance <= 0.5}
    assert 0 < len(near) < 6
    alone = full(database, KEY)
    assert alone.counts == {
        "subgraphs": 1,
        "members": 4,
        "instances": 4,
        "instances_in_no_group": 0,
        "pairs": len(near),
        "pairs_shared": 0 if not is_given else len(near),
    }
    assert set(pairs(database)) == near
    subgraphs(database, KEY)
    groups = members(database, "3dssg" if is_given else "window").values()
    inside = {pair for group in groups for pair in itertools.combinations(group, 2)}
    assert set(pairs(database)) == near | inside
    assert members(database, "full") == {-1: NUMBERS}
    whole, *_ = stored_subgraphs(database, dataset=None, split=None, scan=KEY)
    assert (whole.subgraph, whole.method, whole.pairs) == (-1, "full", len(near))
    assert whole.relations == (4 if is_given else 0)
    both = content(database)
    delete_scan(database, find_scan(database, KEY))
    ingest(root if is_given else bare)(database, mini.NAME)
    for step in (subgraphs, full):
        step(database, KEY)
    again = content(database)
    for table in ("subgraph", "subgraph_member", "instance_sample", "pair"):
        assert again[table] == both[table]
    assert states(database) == {"graph full": "done", "graph subgraphs": "done"}
    every = graph(full=True, max_distance_m=None, replace=True)
    assert every(database, KEY).counts["pairs"] == 6


def test_other_options_are_refused(database: Database, bare: Path) -> None:
    ingest(bare)(database, mini.NAME)
    graph(**WINDOWS)(database, KEY)
    with pytest.raises(UserError, match=r"\(seed 0, now 1\): give those again, or --replace"):
        graph(**WINDOWS, seed=1)(database, KEY)
    with pytest.raises(UserError, match=r"\(boxes oriented, now axis-aligned, method bbox, now radius\)"):
        graph(**FULL, boxes="axis-aligned", method="radius").parts(database, KEY)
    assert graph(**FULL).parts(database, KEY) == [None]
    graph(**FULL)(database, KEY)
    with pytest.raises(UserError, match=r"\(pair_points 50, now 40\)"):
        graph(**{**WINDOWS, "pair_points": 40})(database, KEY)
    assert graph(**WINDOWS).parts(database, KEY) == graph(**FULL).parts(database, KEY) == []


def test_replacing_is_as_doing_it_afresh(database: Database, fresh: Database, bare: Path) -> None:
    for store in (database, fresh):
        ingest(bare)(store, mini.NAME)
    for step in (graph(**WINDOWS), graph(**FULL)):
        step(database, KEY)
    # Another seed leaves the graph of the whole scan alone, and drops the pairs that no group has any more.
    graph(**WINDOWS, seed=3, replace=True)(database, KEY)
    assert states(database) == {"graph full": "done", "graph subgraphs": "done"}
    for step in (graph(**WINDOWS, seed=3), graph(**FULL)):
        step(fresh, KEY)
    assert content(database) == content(fresh)
    # Smaller samples are for both: the other variant goes.
    smaller: dict[str, Any] = {**WINDOWS, "instance_points": 10}
    graph(**smaller, replace=True)(database, KEY)
    assert states(database) == {"graph subgraphs": "done"}
    assert members(database, "full") == {}
    delete_scan(fresh, find_scan(fresh, KEY))
    ingest(bare)(fresh, mini.NAME)
    graph(**smaller)(fresh, KEY)
    assert content(database) == content(fresh)


def test_force_makes_all_of_it_again(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    steps = graph(), graph(**FULL)
    for step in steps:
        step(database, KEY)
    before = content(database)
    database.execute("UPDATE pair SET point_ids = '\\x00000000', min_distance_m = 9")
    graph(force=True, **FULL)(database, KEY)
    assert states(database) == {"graph full": "done", "graph subgraphs": "stale"}
    assert scan_statuses(database)[0].lacks("graph")
    found = stored_subgraphs(database, dataset=None, split=None, scan=KEY)
    assert [subgraph.reason for subgraph in found] == [None, "stale"]
    assert steps[1](database, KEY).skipped
    steps[0](database, KEY)
    assert content(database) == before


@pytest.mark.parametrize("is_given", [True, False])
def test_what_is_cut_off_leaves_nothing(
    database: Database, root: Path, bare: Path, is_given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(root if is_given else bare)(database, mini.NAME)
    before = content(database)
    build = PairBuilder.build

    def cut_off(*arguments: Any) -> Iterator[PairGeometry]:
        yield next(build(*arguments))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PairBuilder, "build", cut_off)
        with pytest.raises(KeyboardInterrupt):
            graph(**WINDOWS)(database, KEY)
    assert content(database) == before
    assert not graph(**WINDOWS)(database, KEY).skipped


@pytest.mark.parametrize("is_given", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_reading_again_does_over_only_what_changed(
    database: Database, fresh: Database, root: Path, bare: Path, name: str, is_given: bool
) -> None:
    folder = root if is_given else bare
    steps = graph(**WINDOWS), graph(**FULL)
    change, changed = CHANGES[name]
    ingest(folder)(database, mini.NAME)
    for step in (observe(), *steps):  # what is observed as a surface is told by its label
        step(database, KEY)

    def places() -> dict[tuple[int, int], str]:
        return {
            (a, b): place
            for a, b, place in rows(database, "SELECT instance_a, instance_b, (ctid, xmin)::text FROM pair")
        }

    before = places()
    change(folder / mini.NAME)
    counts = Relabel()(database, KEY).counts
    left = {pair: place for pair, place in before.items() if not changed & set(pair)}
    assert (counts["pairs_kept"], counts["pairs_dropped"]) == (len(left), len(before) - len(left))
    assert places() == left
    assert {*states(database).values()} == {"stale" if changed else "done"}
    observe()(database, KEY)
    assert [step(database, KEY).skipped for step in steps] == [not changed] * 2
    after = places()
    assert {pair: after[pair] for pair in left.keys() & after} == {
        pair: left[pair] for pair in left.keys() & after
    }

    ingest(folder)(fresh, mini.NAME)
    for step in (observe(), *steps):
        step(fresh, KEY)
    made_over, made_once = content(database), content(fresh)
    for table in ("instance", "subgraph", "subgraph_member", "instance_sample", "pair"):
        assert made_over[table] == made_once[table]
    for found in (made_over, made_once):
        found["ledger"] = [row for row in found["ledger"] if row[1] == "graph"]
    assert made_over["ledger"] == made_once["ledger"]


def test_other_points_drop_everything(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    for step in (graph(), graph(**FULL)):
        step(database, KEY)
    given = members(database, "3dssg")
    ply = root / mini.NAME / "labels.instances.annotated.v2.ply"
    lines = ply.read_text().splitlines(keepends=True)
    first = lines.index("end_header\n") + 1
    lines[first] = " ".join(["0.5", *lines[first].split()[1:]]) + "\n"
    ply.write_text("".join(lines))
    ingest(root, force=True)(database, mini.NAME)
    assert states(database) == {}
    assert members(database, "full") == {}
    assert members(database, "3dssg") == given
    for table in ("instance_sample", "pair"):
        assert rows(database, f"SELECT FROM {table}") == []


def test_annotations_that_arrive_take_the_place_of_windows(database: Database, bare: Path) -> None:
    ingest(bare)(database, mini.NAME)
    for step in (graph(**WINDOWS), graph(**FULL)):
        step(database, KEY)
    near = {pair for pair, distance in distances().items() if distance <= 0.5}
    annotate(bare)
    ingest(bare)(database, mini.NAME)
    assert members(database, "window") == {}
    assert members(database, "3dssg") == {1: NUMBERS}
    assert members(database, "full") == {-1: NUMBERS}
    assert set(pairs(database)) == near
    assert states(database) == {"graph full": "done"}
    assert [s.reason for s in stored_subgraphs(database, dataset=None, split=None, scan=KEY)] == [
        None,
        "not built",
    ]
    assert graph(**WINDOWS)(database, KEY).counts["pairs"] == 6
    # The same annotations again, as relabel reads them, are no reason to do it over.
    Relabel()(database, KEY)
    assert states(database) == {"graph full": "done", "graph subgraphs": "done"}
    # Others are.
    annotate(bare, objects={"1": "floor", "4": "table"}, relationships=[])
    ingest(bare)(database, mini.NAME)
    assert states(database) == {"graph full": "done"}
    graph(**WINDOWS)(database, KEY)
    assert set(pairs(database)) == near | {(1, 4)}


def test_annotations_that_change_leave_no_rows_without_a_ledger(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    graph()(database, KEY)
    annotate(root, relationships=[])
    ingest(root)(database, mini.NAME)
    assert states(database) == {}
    for table in ("instance_sample", "pair"):
        assert rows(database, f"SELECT FROM {table}") == []
    assert not graph(instance_points=10)(database, KEY).skipped


def test_members_of_built_subgraphs_are_called_as_the_instance_is(
    database: Database, root: Path, bare: Path
) -> None:
    ingest(root)(database, mini.NAME)
    graph(**FULL)(database, KEY)

    def labels() -> list[tuple[int, str]]:
        query = (
            "SELECT subgraph_no, text FROM subgraph_member JOIN term ON term_id = label_id"
            " WHERE instance_no = 4 ORDER BY 1"
        )
        return [(subgraph, label) for subgraph, label in rows(database, query)]

    assert labels() == [(-1, "table"), (1, "table")]
    Correct({KEY: {4: "desk"}})(database, KEY)
    assert labels() == [(-1, "desk"), (1, "table")]
    rename(4, "bench")(root / mini.NAME)
    Relabel()(database, KEY)
    assert labels() == [(-1, "bench"), (1, "table")]
    assert states(database) == {"graph full": "done"}


def test_a_scan_is_deleted_with_its_units(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    for step in (graph(), graph(**FULL)):
        step(database, KEY)
    gone = delete_scan(database, find_scan(database, KEY))
    assert gone.items() >= {"subgraph": 2, "subgraph_member": 8, "instance_sample": 4, "pair": 6}.items()
    for table in ("subgraph", "subgraph_member", "instance_sample", "pair", "ledger"):
        assert rows(database, f"SELECT FROM {table}") == []


def test_the_real_scan(database: Database, real_data: Path) -> None:
    """Its two subgraphs of nine objects, as annotated; see docs/real-data.md for all figures."""
    name = "7272e16c-a01b-20f6-8961-a0927b4a7629"
    reader = ThreeRScan(real_data / "3RScan")
    Ingest(reader, "3rscan", "3rscan", str(real_data / "3RScan"))(database, name)
    assert Graph(GraphOptions(full=True))(database, name).counts == {
        "subgraphs": 1,
        "members": 20,
        "instances": 20,
        "instances_in_no_group": 0,
        "pairs": 106,
        "pairs_shared": 0,
    }
