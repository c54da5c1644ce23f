"""Scene graphs of whole scans, annotated, captioned and predicted, against what was put into the store."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.query.graph import GraphEdge, GraphNode, StoredGraph, read_graph
from open3dsg.query.predictions import predicted_triplets
from open3dsg.store.corrections import correct_label, correct_relation
from open3dsg.store.scans import find_scan
from tests.db import made_room as made
from tests.db.judged_room import PREDICTED, RUN, SILENT, THING_ROWS, THINGS, WAY_ROWS, WAYS, fill, guesses
from tests.db.pipeline import Database, rows

TRIPLES = {triple for graph in made.SUBGRAPHS for triple in graph.relationships}


@pytest.fixture
def room(database: Database) -> Database:
    fill(database)
    return database


def predicted(room: Database, k: int = 1, **words: Any) -> StoredGraph:
    asked: dict[str, Any] = {"classes": "things", "predicates": "ways", "k": k}
    return read_graph(room, made.KEY, run=RUN, **(asked | words))


def triples(graph: StoredGraph) -> list[tuple[int, int, str]]:
    return [(edge.subject, edge.object, edge.predicate) for edge in graph.edges]


def node(graph: StoredGraph, number: int) -> GraphNode:
    (found,) = (node for node in graph.nodes if node.instance == number)
    return found


def caption(database: Database, encoder: str, said: dict[tuple[int, int], tuple[str, str | None]]) -> None:
    """Have an encoder say of pairs, in one direction, a caption with a phrase in it."""
    scan_id = find_scan(database, made.KEY).scan_id
    with terms_in_use(database):
        ids = term_ids(database, {phrase for _, phrase in said.values() if phrase is not None})
        for (subject, target), (whole, phrase) in said.items():
            database.execute(
                "INSERT INTO relation_caption"
                " (scan_id, encoder_id, subject_no, object_no, caption, phrase_id)"
                " SELECT %s, encoder_id, %s, %s, %s, %s FROM encoder WHERE name || '@' || revision = %s",
                [scan_id, subject, target, whole, ids.get(phrase or ""), encoder],
            )


def test_nodes_are_the_instances_with_their_geometry(room: Database) -> None:
    graph = read_graph(room, "room")
    assert (graph.dataset, graph.scan, graph.prediction) == ("made", "room", None)
    assert [(n.instance, n.label, n.annotated_label) for n in graph.nodes] == [
        (number, label, label) for number, label in sorted(made.LABELS.items())
    ]
    cloud = made.cloud()
    for each in graph.nodes:
        points = cloud.xyz_m[cloud.instance == each.instance].astype(np.float64)
        assert each.point_count == len(points)
        assert (each.predicted_label, each.similarity, each.is_corrected) == (None, None, False)
        if not len(points):
            shape = (each.centroid_m, each.aabb_min_m, each.aabb_max_m, each.obb_centre_m, each.obb_axes)
            assert {*shape, each.obb_lengths_m} == {None}
            continue
        assert each.centroid_m == pytest.approx(points.mean(axis=0), abs=1e-5)
        np.testing.assert_array_equal(each.aabb_min_m, points.min(axis=0))
        np.testing.assert_array_equal(each.aabb_max_m, points.max(axis=0))
        axes = np.array(each.obb_axes).reshape(3, 3)
        inside = np.abs((points - each.obb_centre_m) @ axes.T) <= np.array(each.obb_lengths_m) / 2 + 1e-5
        assert inside.all()


def test_whole_metres_are_floats_too(room: Database) -> None:
    room.execute("UPDATE instance SET centroid_m = ARRAY[1, 2, 3], aabb_min_m = ARRAY[0, 0, 0]")
    found = read_graph(room, "room").nodes[0]
    for place in (found.centroid_m, found.aabb_min_m):
        assert place is not None
        assert {type(number) for number in place} == {float}


def test_attributes_come_by_kind(room: Database) -> None:
    ids = term_ids(room, ["wooden", "red", "brown"])
    scan_id = find_scan(room, made.KEY).scan_id
    for kind, word in (("color", "red"), ("color", "brown"), ("material", "wooden")):
        room.execute(
            "INSERT INTO instance_attribute (scan_id, instance_no, kind, term_id) VALUES (%s, 3, %s, %s)",
            [scan_id, kind, ids[word]],
        )
    graph = read_graph(room, made.KEY)
    assert node(graph, 3).attributes == {"color": ("brown", "red"), "material": ("wooden",)}
    assert node(graph, 5).attributes == {}


def test_annotated_relations_come_once_with_distances(room: Database) -> None:
    caption(room, "nodes@r", {(1, 2): ("the floor is under the wall", "under")})
    graph = read_graph(room, made.KEY)
    assert triples(graph) == sorted(TRIPLES)
    assert {(edge.source, edge.similarity, edge.caption) for edge in graph.edges} == {
        ("annotated", None, None)
    }
    near = {pair: 0.6 if pair in {(2, 12), (1, 20)} else 0.2 for pair in combinations(sorted(made.LABELS), 2)}
    built = {(a, b) for a, b in rows(room, "SELECT instance_a, instance_b FROM pair")}
    assert built
    for edge in graph.edges:
        pair = (min(edge.subject, edge.object), max(edge.subject, edge.object))
        assert edge.distance_m == (near[pair] if pair in built else None)


def test_the_view_has_the_same_by_name_over_all_scans(room: Database) -> None:
    named = [(made.LABELS[a], predicate, made.LABELS[b], "annotated") for a, b, predicate in sorted(TRIPLES)]
    query = "SELECT subject_label, predicate, object_label, source FROM v_scene_graph"
    order = " ORDER BY subject, object, predicate"
    assert rows(room, query + order) == named
    assert rows(room, f"{query} WHERE dataset = 'made' AND scan = 'room'{order}") == named
    assert rows(room, f"{query} WHERE scan = 'another'{order}") == []


def test_captions_stand_in_where_no_annotation_relates_what_has_a_place(room: Database) -> None:
    room.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active)"
        " VALUES ('ways', 'old', 7, 'text', false)"
    )
    caption(room, "nodes@r", {(3, 1): ("Table on floor.", "on"), (2, 5): ("nothing of use", None)})
    caption(room, "ways@r", {(3, 1): ("the table is on the floor", "on"), (1, 3): ("below it", "below")})
    caption(room, "ways@old", {(1, 3): ("as was said before", "said before")})
    room.execute("UPDATE relationship SET predicate_id = predicate_id")
    assert {edge.source for edge in read_graph(room, made.KEY).edges} == {"annotated"}

    # As after instances were merged from masks: annotations are left of what has no points any more.
    ghosts = "(SELECT instance_no FROM instance WHERE instance_no IN (2, 5))"
    room.execute(f"DELETE FROM relationship WHERE subject_no NOT IN {ghosts}".encode())
    room.execute(
        f"UPDATE instance SET point_count = 0, centroid_m = NULL WHERE instance_no IN {ghosts}".encode()
    )
    graph = read_graph(room, made.KEY)
    assert graph.edges == (
        GraphEdge(1, "below", 3, "captioned", None, "below it", 0.2),
        GraphEdge(3, "on", 1, "captioned", None, "Table on floor.", 0.2),
        GraphEdge(5, "beyond the list", 2, "annotated", None, None, 0.2),
    )


@pytest.mark.parametrize("k", [1, 3, 50])
def test_predictions_equal_numpy_and_what_is_shown_of_them(room: Database, k: int) -> None:
    graph = predicted(room, k)
    assert graph.prediction == f"{RUN}:first"
    nodes, edges = guesses(3)
    for each in graph.nodes:
        if each.instance not in PREDICTED:
            assert (each.label, each.predicted_label) == (each.annotated_label, None)
            continue
        cosine = THING_ROWS @ nodes[each.instance]
        assert each.label == each.predicted_label == THINGS[int(cosine.argmax())]
        assert each.similarity == pytest.approx(cosine.max(), abs=1e-3)
        assert each.annotated_label == made.LABELS[each.instance]
    expected = []
    for pair, embedding in sorted(edges.items()):
        if pair not in SILENT:
            cosine = WAY_ROWS @ embedding
            best = {meant: max(c for c, m in zip(cosine, WAYS.values(), strict=True) if m == meant)
                    for meant in WAYS.values()}  # fmt: skip
            expected += [(*pair, way, best[way]) for way in sorted(best, key=lambda way: -best[way])[:k]]
    assert triples(graph) == [row[:3] for row in expected]
    assert [e.similarity for e in graph.edges] == pytest.approx([row[3] for row in expected], abs=1e-3)
    shown = predicted_triplets(room, RUN, made.KEY, classes="things", predicates="ways", k=k)
    assert triples(graph) == [(one.subject, one.object, one.predicate) for one in shown]
    assert [e.similarity for e in graph.edges] == pytest.approx([one.similarity for one in shown])
    assert {edge.source for edge in graph.edges} == {"predicted"}


def test_a_graph_is_the_same_however_often_it_is_read(room: Database) -> None:
    """After five calls PostgreSQL plans the statements of a function anew, for any arguments."""
    graphs = {(read_graph(room, made.KEY).prediction, predicted(room).prediction) for _ in range(8)}
    assert graphs == {(None, f"{RUN}:first")}


def test_captions_of_a_prediction_come_whole(room: Database) -> None:
    room.execute("UPDATE edge_prediction SET caption = 'all of it' WHERE (subject_no, object_no) = (3, 1)")
    said = {(edge.subject, edge.object): edge.caption for edge in predicted(room).edges}
    assert said.pop((3, 1)) == "all of it"
    assert set(said.values()) == {None}


def test_vocabularies_are_those_of_the_dataset_unless_named(room: Database) -> None:
    with pytest.raises(UserError, match="no vocabulary 'made-classes' in this database; known: "):
        read_graph(room, made.KEY, run=RUN)
    room.execute("UPDATE vocabulary SET name = 'made-classes' WHERE name = 'things'")
    room.execute("UPDATE vocabulary SET name = 'made-words' WHERE name = 'made-predicates'")
    room.execute("UPDATE vocabulary SET name = 'made-predicates' WHERE name = 'ways'")
    assert read_graph(room, made.KEY, run=RUN) == predicted(
        room, classes="made-classes", predicates="made-predicates"
    )


def test_corrections_take_the_place_of_what_was_annotated(room: Database) -> None:
    correct_label(room, made.KEY, 3, "desk", "ana")
    correct_relation(room, made.KEY, 3, "standing on", 1, False, "ana")
    correct_relation(room, made.KEY, 3, "close by", 1, True, "ana")
    correct_relation(room, made.KEY, 5, "leaning on", 2, True, "ana")
    graph = read_graph(room, made.KEY)
    desk = node(graph, 3)
    assert (desk.label, desk.annotated_label, desk.is_corrected) == ("desk", "table", True)
    assert sum(each.is_corrected for each in graph.nodes) == 1
    kept = (TRIPLES - {(3, 1, "standing on")}) | {(5, 2, "leaning on")}
    assert triples(graph) == sorted(kept)
    assert [edge for edge in graph.edges if edge.source == "corrected"] == [
        GraphEdge(3, "close by", 1, "corrected", None, None, 0.2),
        GraphEdge(5, "leaning on", 2, "corrected", None, None, 0.2),
    ]
    subjects = "SELECT DISTINCT subject_label FROM v_scene_graph WHERE subject = 3"
    assert rows(room, subjects) == [("desk",)]


def test_corrections_take_the_place_of_what_was_predicted(room: Database) -> None:
    before = predicted(room)
    first, second = before.edges[:2]
    correct_relation(room, made.KEY, first.subject, first.predicate, first.object, False, "ana")
    correct_relation(room, made.KEY, second.subject, second.predicate, second.object, True, "ana")
    correct_relation(room, made.KEY, 11, "in front of", 20, True, "ana")
    correct_label(room, made.KEY, 5, "stool", "ana")
    after = predicted(room)
    stool = node(before, 5)
    assert node(after, 5) == GraphNode(**{**vars(stool), "label": "stool", "is_corrected": True})
    expected = [GraphEdge(**{**vars(second), "source": "corrected"}), *before.edges[2:]]
    added = GraphEdge(11, "in front of", 20, "corrected", None, None, 0.2)
    assert sorted(after.edges, key=str) == sorted([*expected, added], key=str)
    assert triples(after) == sorted(triples(after), key=lambda triple: triple[:2])


@pytest.mark.parametrize(
    ("scan", "words", "told"),
    [
        ("hall", {}, "no scan 'hall' in the store"),
        ("room", {"run": "nobody"}, "no prediction 'nobody' in the store"),
        ("room", {"run": RUN, "classes": "nothing"}, "no vocabulary 'nothing'"),
        ("room", {"run": RUN, "classes": "ways", "predicates": "ways"}, "have no embedding by nodes@r"),
        ("room", {"classes": "things"}, "name a prediction too"),
        ("room", {"predicates": "ways"}, "name a prediction too"),
        ("room", {"k": 0}, "-k is 0: give 1 to 2147483647"),
        ("room", {"run": RUN, "k": 2**31}, "-k is 2147483648"),
        (
            "empty",
            {"run": RUN},
            f"{RUN}:first says nothing of scan made/empty; `open3dsg predict` with --scan",
        ),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    room: Database, scan: str, words: dict[str, Any], told: str
) -> None:
    room.execute("INSERT INTO scan (dataset_id, name) SELECT dataset_id, 'empty' FROM dataset")
    with pytest.raises(UserError) as refused:
        read_graph(room, scan, **words)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sql_takes_names_and_refuses_what_is_not_one_scan(room: Database) -> None:
    room.execute("INSERT INTO dataset (name, layout) VALUES ('other', '3rscan')")
    room.execute(
        "INSERT INTO scan (dataset_id, name) SELECT dataset_id, 'room' FROM dataset WHERE name = 'other'"
    )
    room.execute("SET ROLE open3dsg_reader")
    [(graph,)] = rows(room, "SELECT scene_graph_v1('made/room')")
    assert (len(graph["nodes"]), len(graph["edges"])) == (len(made.LABELS), len(TRIPLES))
    [(empty,)] = rows(room, "SELECT scene_graph_v1('other/room')")
    assert (empty["nodes"], empty["edges"]) == ([], [])
    for call, told in (
        ("'room'", "several scans are called 'room'"),
        ("NULL", "the scan is NULL"),
        ("'hall'", "no scan 'hall' in this database"),
        (f"'made/room', '{RUN}', 'things', 'ways', 0", "k must be at least 1"),
    ):
        with pytest.raises(Exception, match=told):
            rows(room, f"SELECT scene_graph_v1({call})")
