"""What changed between two visits, against a plain formulation in numpy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pgvector import HalfVector

from open3dsg.datasets.synth.write import write_rooms
from open3dsg.datasets.synth.write_3rscan import ThreeRScanLayout
from open3dsg.db import ledger
from open3dsg.db.terms import terms_in_use
from open3dsg.errors import UserError
from open3dsg.query.changes import ObjectChange, RelationChange, scan_changes
from open3dsg.store.corrections import correct_label, correct_relation
from open3dsg.store.predictions import EdgePrediction, write_predictions
from tests.db.pipeline import Database, ingest
from tests.db.predicted import write_encoder, write_prediction, write_run, write_vocabulary
from tests.db.visits import Thing, add_scan, annotate, at, inverse, relate, rigid, turn

ROOM = {
    1: Thing("floor", (0.0, 0.0, 0.0)),
    2: Thing("chair", (1.0, 0.5, 0.4)),
    3: Thing("chair", (2.0, 0.5, 0.4)),
    4: Thing("table", (1.5, 1.5, 0.7)),
    7: Thing("cup", (1.5, 1.4, 1.0)),
}
T_REF_B = turn(0.7, 1.0, -2.0, 0.25)  # T_reference_scan of the rescan b
T_REF_C = turn(-2.1, 0.5, 0.5, -0.1)


def moved(things: dict[int, Thing], transform: NDArray[np.float64]) -> dict[int, Thing]:
    """Return the things in coordinates that `transform` maps into theirs."""
    return {number: Thing(label, at(inverse(transform), place)) for number, (label, place) in things.items()}


@pytest.fixture
def visits(database: Database) -> tuple[int, int]:
    """A reference scan and a rescan: chair 2 half a metre on, the cup gone, a lamp new."""
    later = {**ROOM, 2: Thing("chair", (1.3, 0.9, 0.4)), 9: Thing("lamp", (0.2, 0.2, 1.5))}
    del later[7]
    return (
        add_scan(database, "a", ROOM),
        add_scan(database, "b", moved(later, T_REF_B), reference="a", T_reference_scan=T_REF_B),
    )


def fates(objects: Sequence[ObjectChange]) -> dict[tuple[int | None, int | None], str]:
    return {numbers(each): each.change for each in objects}


def numbers(one: ObjectChange) -> tuple[int | None, int | None]:
    return (one.a.instance if one.a else None, one.b.instance if one.b else None)


def one(objects: Sequence[ObjectChange], number: int) -> ObjectChange:
    (found,) = [each for each in objects if number in numbers(each)]
    return found


def test_what_appeared_vanished_and_moved(database: Database, visits: tuple[int, int]) -> None:
    found = scan_changes(database, "a", "b")
    assert (found.scan_a, found.scan_b, found.matched_by) == ("3rscan/a", "3rscan/b", "number")
    np.testing.assert_allclose(np.reshape(found.T_b_a, (4, 4)), inverse(T_REF_B), atol=1e-12)
    assert fates(found.objects) == {
        (1, 1): "stayed",
        (2, 2): "moved",
        (3, 3): "stayed",
        (4, 4): "stayed",
        (7, None): "vanished",
        (None, 9): "appeared",
    }
    (chair,) = found.moved
    assert chair.distance_m == pytest.approx(0.5)
    assert chair.annotated is None
    assert chair.expected_m == pytest.approx(at(inverse(T_REF_B), ROOM[2].centroid_m))
    (cup,) = found.vanished
    assert (cup.b, cup.distance_m) == (None, None)
    assert cup.expected_m == pytest.approx(at(inverse(T_REF_B), ROOM[7].centroid_m))
    (lamp,) = found.appeared
    assert (lamp.a, lamp.expected_m) == (None, None)
    assert lamp.b is not None
    assert lamp.b.centroid_m == pytest.approx(at(inverse(T_REF_B), (0.2, 0.2, 1.5)))
    assert not scan_changes(database, "a", "b", moved_m=0.51).moved


def test_backwards_what_vanished_appears(database: Database, visits: tuple[int, int]) -> None:
    found = scan_changes(database, "b", "a")
    assert [each.b and each.b.label for each in found.appeared] == ["cup"]
    assert [each.a and each.a.label for each in found.vanished] == ["lamp"]
    assert [each.distance_m for each in found.moved] == [pytest.approx(0.5)]


def test_two_rescans_are_compared_by_way_of_their_reference(
    database: Database, visits: tuple[int, int]
) -> None:
    add_scan(database, "c", moved(dict(ROOM), T_REF_C), reference="a", T_reference_scan=T_REF_C)
    found = scan_changes(database, "b", "c")
    expected = inverse(T_REF_C) @ T_REF_B
    np.testing.assert_allclose(np.reshape(found.T_b_a, (4, 4)), expected, atol=1e-12)
    assert [each.distance_m for each in found.moved] == [pytest.approx(0.5)]
    assert [each.b and each.b.instance for each in found.appeared] == [7]


def test_annotated_moves_are_told_beside_the_measured(database: Database, visits: tuple[int, int]) -> None:
    _a, b = visits
    T_b_ref = inverse(T_REF_B)
    push = turn(math.radians(30), 0.0, 0.0, 0.0)
    push[:3, 3] = np.subtract((1.3, 0.9, 0.4), at(push, ROOM[2].centroid_m))
    annotate(database, b, 2, "moved", T_b_ref @ push, 0)
    annotate(database, b, 4, "changed")
    annotate(database, b, 7, "removed")
    annotate(database, b, 3, "moved")  # as the hidden test split: no transform
    objects = scan_changes(database, "a", "b").objects
    chair = one(objects, 2)
    assert chair.annotated == "moved"
    assert chair.annotated_m == pytest.approx(0.5)
    assert chair.annotated_degrees == pytest.approx(30)
    assert [(one(objects, n).annotated, one(objects, n).annotated_m) for n in (3, 4, 7, 9)] == [
        ("moved", None),
        ("changed", None),
        ("vanished", None),
        (None, None),
    ]
    back = scan_changes(database, "b", "a").objects
    assert one(back, 2).annotated_m == pytest.approx(0.5)
    assert one(back, 2).annotated_degrees == pytest.approx(30)
    assert one(back, 7).annotated == "appeared"


def test_annotations_of_two_rescans_are_put_together(database: Database, visits: tuple[int, int]) -> None:
    """Chair 2 is said to have moved by 0.5 m in b, and by 0.3 m in c, both along x."""
    _a, b = visits
    c = add_scan(database, "c", moved(dict(ROOM), T_REF_C), reference="a", T_reference_scan=T_REF_C)
    annotate(database, b, 2, "moved", inverse(T_REF_B) @ turn(0.0, 0.5, 0, 0), 0)
    annotate(database, c, 2, "moved", inverse(T_REF_C) @ turn(0.0, 0.3, 0, 0), 0)
    annotate(database, b, 7, "removed")
    annotate(database, c, 7, "removed")
    annotate(database, c, 3, "moved", inverse(T_REF_C) @ turn(0.0, 0, 0.7, 0), 0)
    objects = scan_changes(database, "b", "c").objects
    assert one(objects, 2).annotated_m == pytest.approx(0.2)
    assert one(objects, 3).annotated_m == pytest.approx(0.7)
    assert one(objects, 7).annotated is None  # gone before either


@pytest.mark.parametrize(("symmetry", "degrees"), [(None, 100), (0, 100), (1, 80), (2, 10), (3, 0)])
def test_turns_of_symmetric_objects(
    symmetry: int | None, degrees: float, database: Database, visits: tuple[int, int]
) -> None:
    _a, b = visits
    annotate(database, b, 2, "moved", inverse(T_REF_B) @ turn(math.radians(100), 0, 0, 0), symmetry)
    told = one(scan_changes(database, "a", "b").objects, 2).annotated_degrees
    assert told == pytest.approx(degrees, abs=1e-5)


def test_an_object_of_which_more_was_seen_did_not_move(database: Database) -> None:
    """Its centroid is 0.4 m on, since one end of its box is 0.8 m further; another was pushed by 0.3 m."""
    things = {1: Thing("sofa", (1, 1, 0.5)), 2: Thing("chair", (3, 1, 0.5))}
    boxes = {"a": {1: (1.0, 2.0), 2: (3.0, 0.5)}, "b": {1: (1.4, 2.8), 2: (3.3, 0.5)}}
    add_scan(database, "a", things)
    add_scan(
        database,
        "b",
        {1: Thing("sofa", (1.4, 1, 0.5)), 2: Thing("chair", (3.3, 1, 0.5))},
        reference="a",
        T_reference_scan=np.eye(4),
    )
    for scan, of in boxes.items():
        for number, (middle, length) in of.items():
            database.execute(
                "UPDATE instance"
                " SET obb_centre_m = %s, obb_axes = '{1,0,0, 0,1,0, 0,0,1}', obb_lengths_m = %s"
                " WHERE instance_no = %s AND scan_id = (SELECT scan_id FROM scan WHERE name = %s)",
                ([middle, 1.0, 0.5], [length, 1.0, 1.0], number, scan),
            )
    sofa, chair = scan_changes(database, "a", "b").objects
    assert (sofa.change, sofa.shift_m) == ("stayed", 0)
    assert sofa.distance_m == pytest.approx(0.4)
    assert chair.change == "moved"
    assert chair.shift_m == pytest.approx(0.3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=10)
@given(st.data())
def test_matching_by_label_takes_the_nearest_first(database: Database, data: st.DataObject) -> None:
    """Against a plain loop over all pairs; positions on a grid turned by the transform."""
    places = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 1))
    things = st.lists(st.tuples(st.sampled_from(["chair", "Chair", "box"]), places), min_size=1, max_size=7)
    left, right = data.draw(things), data.draw(things)
    T_b_a = data.draw(rigid)
    # Beside what distances on the grid are: a turn there and back leaves no number exactly as it was.
    reach_m = data.draw(st.sampled_from([1e-6, 1.00001, 2.50001, 9.0]))
    database.execute("DELETE FROM scan")
    # Offsets tell equal distances apart, so that the order is that of the plain loop whatever the rounding.
    a = {
        n: Thing(label, np.array(p) + n * 1e-3 * np.array([1, 0.3, 0.1])) for n, (label, p) in enumerate(left)
    }
    b = {
        n: Thing(label, np.array(p) - n * 7e-3 * np.array([0.2, 1, 0.6]))
        for n, (label, p) in enumerate(right)
    }
    add_scan(database, "left", a, dataset="other", layout="scannet")
    mapped = {n: Thing(thing.label, at(T_b_a, thing.centroid_m)) for n, thing in b.items()}
    add_scan(database, "right", mapped, dataset="other", layout="scannet")
    distance = {
        (n, m): float(np.linalg.norm(np.subtract(x.centroid_m, y.centroid_m)))
        for n, x in a.items()
        for m, y in b.items()
        if x.label.lower() == y.label.lower()
    }
    expected: dict[int, int] = {}
    for (n, m), metres in sorted(distance.items(), key=lambda item: item[1]):
        if metres <= reach_m and n not in expected and m not in expected.values():
            expected[n] = m
    found = scan_changes(database, "left", "right", transform=T_b_a, reach_m=reach_m)
    assert found.matched_by == "label"
    pairs = {each.a.instance: each.b.instance for each in found.objects if each.a and each.b}
    assert pairs == expected
    for each in found.objects:
        if each.a and each.b:
            assert each.distance_m == pytest.approx(distance[each.a.instance, each.b.instance], abs=1e-6)
            assert (each.change == "moved") == ((each.distance_m or 0) > 0.1)
    assert len(found.objects) == len(a) + len(b) - len(expected)


def test_features_tell_alike_objects_apart(database: Database) -> None:
    """Two boxes changed places: by distance alone neither moved."""
    add_scan(database, "a", {1: Thing("box", (0, 0, 0)), 2: Thing("box", (0.5, 0, 0))}, layout="scannet")
    add_scan(database, "b", {1: Thing("box", (0.5, 0, 0)), 2: Thing("box", (0, 0, 0))}, layout="scannet")
    database.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active)"
        " VALUES ('toy', 'r', 2, 'crops', true)"
    )
    for number, vector in ((1, [1.0, 0.0]), (2, [0.0, 1.0])):
        database.execute(
            "INSERT INTO node_feature"
            " (scan_id, encoder_id, instance_no, embedding, frame_nos, boxes, weights)"
            " SELECT scan_id, encoder_id, %s, %s, '{}', '{}', '{}' FROM scan, encoder",
            (number, HalfVector(vector)),
        )
    same_place = scan_changes(database, "a", "b", transform=np.eye(4))
    assert fates(same_place.objects) == {(1, 2): "stayed", (2, 1): "stayed"}
    same_look = scan_changes(database, "a", "b", transform=np.eye(4), encoder="toy")
    assert fates(same_look.objects) == {(1, 1): "moved", (2, 2): "moved"}
    assert [each.similarity for each in same_look.objects] == [pytest.approx(1.0)] * 2


def test_relations_that_began_and_ended(database: Database, visits: tuple[int, int]) -> None:
    a, b = visits
    relate(database, a, (7, "standing on", 4), (2, "close by", 4), (3, "standing on", 1))
    relate(database, b, (3, "standing on", 1), (3, "close by", 4), (9, "close by", 4))
    found = scan_changes(database, "a", "b")
    assert found.relations_of == "annotated"
    assert found.relations == (
        RelationChange("ended", 2, 2, "chair", "close by", 4, 4, "table", other_tells=True),
        RelationChange("began", 3, 3, "chair", "close by", 4, 4, "table", other_tells=True),
    )


def test_a_visit_in_which_two_were_not_annotated_together_tells_nothing_of_them(
    database: Database, visits: tuple[int, int]
) -> None:
    a, b = visits
    relate(database, a, (2, "close by", 4), (3, "standing on", 1), (3, "close by", 4))
    relate(database, b, (3, "standing on", 1), (4, "standing on", 1))
    database.execute("DELETE FROM subgraph_member WHERE scan_id = %s AND instance_no = 2", [b])
    # That a graph was built over all of the scan says nothing of what was annotated.
    database.execute("INSERT INTO subgraph (scan_id, subgraph_no, method) VALUES (%s, -1, 'full')", [b])
    database.execute(
        "INSERT INTO subgraph_member (scan_id, subgraph_no, instance_no, label_id)"
        " SELECT scan_id, -1, instance_no, label_id FROM instance WHERE scan_id = %s",
        [b],
    )
    told = {
        (r.change, r.subject_b, r.predicate, r.object_b): r.other_tells
        for r in scan_changes(database, "a", "b").relations
    }
    assert told == {
        ("ended", 2, "close by", 4): False,
        ("ended", 3, "close by", 4): True,
        ("began", 4, "standing on", 1): True,
    }


def test_relations_that_a_run_predicts(database: Database, visits: tuple[int, int]) -> None:
    """Without words for its nodes: relations need none."""
    words = write_encoder(database, "words", 3, "text")
    nodes = write_encoder(database, "nodes", 4)
    ways = {"on": "on", "near": "near", "left": "left"}
    write_vocabulary(database, "3rscan-predicates", ways, words, np.eye(3, dtype=np.float32))
    run = write_run(database, "oak", nodes, words, words, targets="captions")
    kept = write_prediction(database, run, "first", words)
    on, near, left = np.eye(3, dtype=np.float32)
    said = (
        {(2, 4): near, (3, 4): near, (4, 1): on, (3, 1): on, (7, 4): on},
        {(2, 4): left, (3, 4): near, (4, 1): on, (1, 2): left, (9, 4): on},
    )
    for scan_id, edges in zip(visits, said, strict=True):
        predicted = [EdgePrediction(*pair, of, None, None, None, "teacher") for pair, of in edges.items()]
        with terms_in_use(database), database.transaction():
            write_predictions(database, scan_id, kept.prediction_id, [], predicted)
    found = scan_changes(database, "a", "b", run="oak")
    assert found.relations_of == "oak:first"
    assert [(r.change, r.subject_b, r.predicate, r.object_b, r.other_tells) for r in found.relations] == [
        ("began", 1, "left", 2, False),
        ("began", 2, "left", 4, True),
        ("ended", 2, "near", 4, True),
        ("ended", 3, "on", 1, False),
    ]
    correct_relation(database, "b", 2, "near", 4, True, "me")
    told = [(r.change, r.predicate) for r in scan_changes(database, "a", "b", run="oak:first").relations]
    assert told == [("began", "left"), ("began", "left"), ("ended", "on")]
    write_vocabulary(database, "two", {"on": "on", "near": "near"}, None)
    others = scan_changes(database, "a", "b", run="oak", predicates="two").relations
    assert {r.predicate for r in others} <= {"on", "near"}
    add_scan(database, "c", ROOM)
    with pytest.raises(UserError, match="oak:first says nothing of scan 3rscan/c; `open3dsg predict`"):
        scan_changes(database, "a", "c", transform=np.eye(4), run="oak")


def test_relations_of_matched_objects_have_both_numbers(database: Database) -> None:
    things = {number: thing for number, thing in ROOM.items() if number < 5}
    a = add_scan(database, "a", things, layout="scannet")
    b = add_scan(database, "b", {n + 10: thing for n, thing in things.items()}, layout="scannet")
    relate(database, a, (2, "left", 3), (3, "close by", 4))
    relate(database, b, (12, "left", 13), (13, "on", 14))
    found = scan_changes(database, "a", "b", transform=np.eye(4))
    assert [
        (r.change, r.subject_a, r.subject_b, r.predicate, r.object_a, r.object_b) for r in found.relations
    ] == [
        ("ended", 3, 13, "close by", 4, 14),
        ("began", 3, 13, "on", 4, 14),
    ]


def test_a_corrected_label_is_the_label(database: Database) -> None:
    add_scan(database, "a", {1: Thing("sofa", (0, 0, 0))}, layout="scannet")
    add_scan(database, "b", {5: Thing("couch", (0, 0, 0))}, layout="scannet")
    apart = scan_changes(database, "a", "b", transform=np.eye(4))
    assert fates(apart.objects) == {(1, None): "vanished", (None, 5): "appeared"}
    correct_label(database, "b", 5, "sofa", "me")
    assert fates(scan_changes(database, "a", "b", transform=np.eye(4)).objects) == {(1, 5): "stayed"}


def test_instances_of_masks_have_numbers_of_their_own(database: Database, visits: tuple[int, int]) -> None:
    ledger.record(database, visits[1], ledger.Entry("masks", 1, {}), {})
    found = scan_changes(database, "a", "b")
    assert found.matched_by == "label"
    assert one(found.objects, 2).change == "moved"


@pytest.mark.slow
def test_a_synthetic_room_visited_again(database: Database, tmp_path: Path) -> None:
    """What the generator says it did is found, by what is measured and by what is annotated."""
    write_rooms(tmp_path, ThreeRScanLayout(rescans=1), scans=1, seed=3, frames=4, report=lambda _: None)
    (room,) = json.loads((tmp_path / "3RScan.json").read_text())
    (told,) = room["scans"]
    step = ingest(tmp_path)
    for name in (room["reference"], told["reference"]):
        step(database, name)
    found = scan_changes(database, room["reference"], told["reference"])
    assert {numbers(each) for each in found.moved} == {(n, n) for n in map(_reference, told["rigid"])}
    assert {numbers(each)[0] for each in found.vanished} == {*told["removed"]}
    assert len(found.appeared) == 1
    for each in found.moved:
        assert each.annotated == "moved"
        # Points are where the sensor saw the surface, from other sides each time.
        assert each.distance_m == pytest.approx(each.annotated_m, abs=0.05)
    assert found.relations_of == "annotated"


def _reference(rigid: dict[str, int]) -> int:
    return rigid["instance_reference"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("a", "a"), {}, r"3rscan/a was named twice: name two visits"),
        (("a", "nowhere"), {}, r"no scan 'nowhere'"),
        (
            ("a", "other"),
            {},
            r"other .* not known; they are not known as visits to one room: .*--transform FILE",
        ),
        (
            ("a", "lost"),
            {},
            r"lost .* not known; they are of one room, but 3RScan.json has no transform .*--transf",
        ),
        (("a", "bare"), {"transform": np.eye(4)}, r"no object of bare has a place; `open3dsg ingest`"),
        (("a", "b"), {"transform": 2 * np.eye(4)}, r"the transform: no rotation and translation"),
        (("a", "b"), {"moved_m": -1.0}, r"--moved is -1.0: give metres, 0 or more"),
        (("a", "b"), {"reach_m": math.nan}, r"--reach is nan"),
        (("a", "b"), {"predicates": "words"}, r"give --run too"),
        (("a", "b"), {"run": "none"}, r"no prediction 'none'"),
        (("a", "b"), {"encoder": "none"}, r"none"),
    ],
)
def test_what_cannot_be_compared(
    arguments: tuple[str, str],
    options: dict[str, Any],
    message: str,
    database: Database,
    visits: tuple[int, int],
) -> None:
    add_scan(database, "other", ROOM)
    add_scan(database, "lost", ROOM, reference="a")
    add_scan(database, "bare", {})
    with pytest.raises(UserError, match=message) as error:
        scan_changes(database, *arguments, **options)
    assert "\n" not in str(error.value)


def test_sql_alone_refuses_the_same(database: Database, visits: tuple[int, int]) -> None:
    for call in (
        "rescan_diff_v1('a', 'a')",
        "rescan_diff_v1('a', 'nowhere')",
        "rescan_diff_v1('a', 'b', '{1,2,3}')",
        "rescan_diff_v1('a', 'b', NULL, -1)",
    ):
        with pytest.raises((psycopg.errors.InvalidParameterValue, psycopg.errors.NoDataFound)):
            database.execute(f"SELECT * FROM {call}".encode())
