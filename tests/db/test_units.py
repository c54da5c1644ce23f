"""Training units read back, against the published sample of the same scan, stated plainly."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.pq import TransactionStatus

from open3dsg.datasets.scan import Cloud, Scan
from open3dsg.db.connect import connect
from open3dsg.db.queries import named_queries
from open3dsg.errors import UserError
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.store.removal import delete_scan
from open3dsg.store.scans import find_scan
from open3dsg.store.unit import UnitKey
from open3dsg.store.units import UnitReader, read_predicates, read_unit, unit_keys
from tests.db import made_room as made
from tests.db.pipeline import Database, rows
from tests.db.published import check_published

INSTANCE_POINTS, PAIR_POINTS = 120, 400
BOX_FIELDS = ("aabb_min_m", "aabb_max_m", "obb_centre_m", "obb_axes", "obb_lengths_m")


@pytest.fixture
def room(database: Database) -> Database:
    """A database that holds the made room, observed, with its subgraphs built."""
    made.ingest(database)
    made.observe(database)
    build(database)
    return database


def build(database: Database, **options: object) -> None:
    sizes = {"instance_points": INSTANCE_POINTS, "pair_points": PAIR_POINTS}
    Graph(GraphOptions(**{**sizes, **options}))(database, made.KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(("layout", "kind"), [("3rscan", "oriented"), ("scannet", "axis-aligned")])
def test_a_unit_is_the_published_sample(database: Database, layout: str, kind: str) -> None:
    made.ingest(database, layout=layout)
    made.observe(database)
    build(database)
    reader = UnitReader(database, made.KEY)
    boxes = made.boxes(database)
    for subgraph in made.SUBGRAPHS:
        unit = reader.read(subgraph.number)
        expected = sorted(set(subgraph.members) & set(made.seen()))
        assert (unit.key, unit.method) == ((made.KEY, subgraph.number), "3dssg")
        assert unit.numbers.tolist() == expected
        assert list(unit.labels) == [made.LABELS[number] for number in expected]
        texts = dict(rows(database, "SELECT term_id, text FROM term"))
        assert [texts[term] for term in unit.label_ids.tolist()] == list(unit.labels)
        check_published(unit, made.cloud(), boxes, kind, (INSTANCE_POINTS, PAIR_POINTS))
        for field, name in enumerate(BOX_FIELDS):
            stored = np.array([boxes[number][field] for number in expected])
            np.testing.assert_array_equal(getattr(unit, name).reshape(stored.shape), stored)


def test_relations_are_rows_of_every_predicate(room: Database) -> None:
    unit = read_unit(room, UnitKey(made.KEY, 1))
    # The list of the dataset, in its order, and what a relation names beside it.
    assert unit.predicates == (*made.PREDICATES, "beyond the list")
    held = {
        (*pair, unit.predicates[column])
        for pair, row in zip(unit.pairs.tolist(), unit.holds, strict=True)
        for column in np.flatnonzero(row)
    }
    given = {triple for triple in made.SUBGRAPHS[0].relationships if made.UNSEEN not in triple[:2]}
    none = {
        (*pair, "none")
        for pair in itertools.permutations(unit.numbers.tolist(), 2)
        if pair not in {triple[:2] for triple in given}
    }
    assert held == given | none
    assert unit.relations_left_out == 1


def test_a_dataset_without_a_list_has_none_first(database: Database) -> None:
    made.ingest(database, lists=False)
    assert read_predicates(database, "made") == ("none", "beyond the list", "close by", "left", "standing on")


def test_both_directions_share_what_is_the_same(room: Database) -> None:
    unit = read_unit(room, UnitKey(made.KEY, 1))
    place = {tuple(pair): edge for edge, pair in enumerate(unit.pairs.tolist())}
    for (subject, target), edge in place.items():
        back = place[target, subject]
        assert unit.unions[edge] is unit.unions[back]
        assert np.array([0, 2, 1])[unit.flags(edge)].tolist() == unit.flags(back).tolist()
        assert (-unit.offset_m[edge]).tolist() == unit.offset_m[back].tolist()
        assert unit.closest_m[edge, ::-1].tolist() == unit.closest_m[back].tolist()
        assert unit.min_distance_m[edge] == unit.min_distance_m[back]
    assert all(sample.cloud is unit.samples[0].cloud for sample in (*unit.samples, *unit.unions))


def test_one_point_has_no_scale(room: Database) -> None:
    unit = read_unit(room, UnitKey(made.KEY, 1))
    at = unit.numbers.tolist().index(made.DOT)
    assert unit.scale_m[at] == 0
    assert unit.samples[at].normalised().tolist() == [[0, 0, 0]]


def test_members_that_are_not_seen_are_named(room: Database) -> None:
    unit = read_unit(room, UnitKey(made.KEY, 1))
    assert unit.left_out == {made.UNSEEN: "no frame shows it", made.EMPTY: "it has no points"}
    whole = read_unit(room, UnitKey(made.KEY, 1), unseen=True)
    assert whole.left_out == {made.EMPTY: "it has no points"}
    assert whole.numbers.tolist() == sorted({*unit.numbers.tolist(), made.UNSEEN})
    assert len(whole.sightings[whole.numbers.tolist().index(made.UNSEEN)]) == 0
    assert whole.relations_left_out == 0


def test_smaller_samples_are_the_first_points_of_larger_ones(room: Database) -> None:
    whole = read_unit(room, UnitKey(made.KEY, 1))
    small = read_unit(room, UnitKey(made.KEY, 1), instance_points=30, pair_points=50)
    for larger, smaller in zip((*whole.samples, *whole.unions), (*small.samples, *small.unions), strict=True):
        assert smaller.point_ids.tolist() == larger.point_ids[: len(smaller)].tolist()
    assert {len(sample) for sample in small.samples} == {1, 30}
    assert {len(union) for union in small.unions} == {50}
    check_published(small, made.cloud(), made.boxes(room), "oriented", (30, 50))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"instance_points": 121},
            r"121 points an instance are asked for, those of made/room have 120: .*--replace",
        ),
        ({"pair_points": 401}, r"401 points a pair are asked for, those of made/room have 400: .*--replace"),
        ({"pair_points": 0}, "pair_points is 0: give a number from 1"),
    ],
)
def test_larger_samples_than_are_stored(room: Database, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_unit(room, UnitKey(made.KEY, 1), **options)


def test_shared_frames_are_those_that_show_both(database: Database) -> None:
    made.ingest(database)
    observed = made.observe(database)
    build(database)
    view = rows(
        database,
        "SELECT instance_a, instance_b, frame, visible_points_a, visible_points_b, visibility_ratio_a,"
        " visibility_ratio_b, pixel_box_a, pixel_box_b FROM v_pair_frame"
        " WHERE dataset || '/' || scan = 'made/room'",
    )
    shared = set()
    for subgraph in made.SUBGRAPHS:
        unit = read_unit(database, UnitKey(made.KEY, subgraph.number))
        for edge, (subject, target) in enumerate(unit.pairs.tolist()):
            frames = sorted(set(made.seen()[subject]) & set(made.seen()[target]))
            for number, part in zip((subject, target), unit.shared_frames(edge), strict=True):
                assert part.frame_no.tolist() == frames
                columns = (part.visible_points, part.visibility_ratio, part.pixel_box)
                found = list(zip(*(column.tolist() for column in columns), strict=True))
                assert found == [observed[number, frame] for frame in frames]
            if subject < target:
                shared |= {(subject, target, frame) for frame in frames}
    assert shared
    assert len(view) == len(shared)
    assert {row[:3] for row in view} == shared
    for a, b, frame, *parts in view:
        assert (tuple(parts[::2]), tuple(parts[1::2])) == (observed[a, frame], observed[b, frame])


def test_the_full_graph_has_the_relations_of_all_subgraphs(room: Database) -> None:
    build(room, full=True, max_distance_m=None)
    unit = read_unit(room, UnitKey(made.KEY, -1), unseen=True)
    assert unit.method == "full"
    assert unit.numbers.tolist() == sorted(set(made.LABELS) - {made.EMPTY})
    check_published(unit, made.cloud(), made.boxes(room), "oriented", (INSTANCE_POINTS, PAIR_POINTS))
    triples = {triple for subgraph in made.SUBGRAPHS for triple in subgraph.relationships}
    assert unit.holds[:, 1:].sum() == len(triples)


def test_a_full_graph_of_near_pairs_says_which_relations_it_lacks(room: Database) -> None:
    everything = UnitKey(made.KEY, 1)
    distances = read_unit(room, everything).min_distance_m
    bound = float(np.median(distances))
    build(room, full=True, max_distance_m=bound)
    unit = read_unit(room, UnitKey(made.KEY, -1), unseen=True)
    assert 0 < len(unit.edges) < len(unit.numbers) * (len(unit.numbers) - 1)
    assert unit.min_distance_m.max() <= bound
    triples = {triple for subgraph in made.SUBGRAPHS for triple in subgraph.relationships}
    near = {tuple(pair) for pair in unit.pairs.tolist()}
    assert unit.relations_left_out == sum(triple[:2] not in near for triple in triples)
    assert unit.holds[:, 1:].sum() + unit.relations_left_out == len(triples)
    assert rows(room, "SELECT relations FROM v_subgraph WHERE method = 'full'") == [(len(triples),)]


def test_units_to_train_on(room: Database) -> None:
    build(room, full=True)
    assert unit_keys(room) == [(made.KEY, 1), (made.KEY, 4)]
    assert unit_keys(room, full=True) == [(made.KEY, -1)]
    assert unit_keys(room, dataset="made", split="train") == unit_keys(room)
    assert unit_keys(room, split="validation") == []
    with pytest.raises(UserError, match="no dataset 'other'"):
        unit_keys(room, dataset="other")
    # Three visible instances are too few.
    room.execute("DELETE FROM observation WHERE instance_no = 20")
    assert unit_keys(room) == [(made.KEY, 1)]


def test_what_is_not_there_is_told_with_the_way_out(database: Database) -> None:
    made.ingest(database)
    reader = UnitReader(database, made.KEY)
    with pytest.raises(
        UserError, match=r"no subgraph 7; it has 1, 4: `open3dsg graph build --scan made/room`"
    ):
        reader.read(7)
    with pytest.raises(
        UserError, match=r"no frame shows an instance .*: run `open3dsg observe --scan made/room`"
    ):
        reader.read(1)
    with pytest.raises(
        UserError, match=r"samples of scan made/room are not all there: run `open3dsg graph build"
    ):
        UnitReader(database, made.KEY, unseen=True).read(1)
    build(database)
    assert unit_keys(database) == [], "what was not observed cannot be trained on"
    database.execute("DELETE FROM pair WHERE instance_a = 1 AND instance_b = 3")
    with pytest.raises(UserError, match=r"samples of scan made/room are not all there"):
        UnitReader(database, made.KEY, unseen=True).read(4)


class Halved(made.Room):
    """The room with every other point."""

    def read(self, name: str) -> Scan:
        whole = made.cloud()
        every = slice(None, None, 2)
        assert whole.normals is not None
        cloud = Cloud(whole.xyz_m[every], whole.rgb[every], whole.instance[every], whole.normals[every])
        return replace(super().read(name), cloud=cloud)


def test_points_that_were_ingested_anew_are_read_anew(room: Database, database_url: str) -> None:
    with connect(database_url) as other:
        other.autocommit = True
        reader = UnitReader(other, made.KEY, unseen=True)
        before = reader.read(1)
        Ingest(Halved(), "made", "3rscan", "/nowhere", force=True)(room, "room")
        with pytest.raises(UserError, match="samples of scan made/room are not all there"):
            reader.read(1)
        build(room)
        after = reader.read(1)
        assert len(after.samples[0].cloud.xyz_m) == len(made.cloud().xyz_m[::2])
        check_published(after, after.samples[0].cloud, made.boxes(room), "oriented", (120, 400))
        assert len(before.samples[0].cloud.xyz_m) == len(made.cloud().xyz_m), "a unit keeps its own points"
        delete_scan(room, find_scan(room, made.KEY))
        with pytest.raises(UserError, match="no scan 'made/room' in the store"):
            reader.read(1)
        made.ingest(room)
        build(room)
        assert len(reader.read(1).samples[0].cloud.xyz_m) == len(made.cloud().xyz_m)


def test_a_unit_is_of_one_moment(room: Database, database_url: str) -> None:
    """Others build the scan anew between the queries for instances and for pairs."""

    class Slow(psycopg.Connection[Any]):
        def execute(self, query: Any, *arguments: Any, **options: Any) -> psycopg.Cursor[Any]:
            if query == named_queries()["unit_pairs"] and not built:
                built.append(True)
                Graph(GraphOptions(instance_points=10, pair_points=20), replace=True)(room, made.KEY)
            return super().execute(query, *arguments, **options)

    built: list[bool] = []
    with Slow.connect(database_url, autocommit=True) as other:
        reader = UnitReader(other, made.KEY)
        for largest in ((INSTANCE_POINTS, PAIR_POINTS), (10, 20)):
            unit = reader.read(1)
            assert tuple(max(map(len, of)) for of in (unit.samples, unit.unions)) == largest
        assert other.info.transaction_status == TransactionStatus.IDLE
    assert built


def test_a_transaction_of_the_callers_must_see_one_moment(room: Database) -> None:
    with room.transaction(), pytest.raises(ValueError, match="REPEATABLE READ"):
        UnitReader(room, made.KEY).read(1)
    room.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with room.transaction():
        assert UnitReader(room, made.KEY).read(1).key == (made.KEY, 1)


def test_a_graph_that_waits_to_be_filled_in_is_not_read(room: Database) -> None:
    build(room, full=True, max_distance_m=0.3)
    pairs = len(read_unit(room, UnitKey(made.KEY, -1), unseen=True).edges)
    # The others are built again from nothing: of its own pairs only those are there that it shares with them.
    options = GraphOptions(instance_points=INSTANCE_POINTS, pair_points=PAIR_POINTS)
    Graph(options, force=True)(room, made.KEY)
    with pytest.raises(UserError, match=r"not all there: run `open3dsg graph build --scan made/room --full`"):
        read_unit(room, UnitKey(made.KEY, -1), unseen=True)
    build(room, full=True, max_distance_m=0.3)
    assert len(read_unit(room, UnitKey(made.KEY, -1), unseen=True).edges) == pairs


def test_a_relation_beyond_the_given_predicates(room: Database) -> None:
    with pytest.raises(UserError, match="has the relation 'beyond the list', which is none of the 4 pred"):
        read_unit(room, UnitKey(made.KEY, 1), predicates=made.PREDICATES)
