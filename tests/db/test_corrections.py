"""Corrections: what is in force of many, who takes them, and who never does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from open3dsg.db.connect import connect
from open3dsg.db.terms import term_ids
from open3dsg.errors import UserError
from open3dsg.evaluation.evaluate import EvaluationOptions, evaluate
from open3dsg.evaluation.results import read_ranks
from open3dsg.query.graph import read_graph
from open3dsg.query.nodes import NodeFilters, search_nodes
from open3dsg.query.predictions import predicted_triplets
from open3dsg.store.corrections import (
    correct_label,
    correct_relation,
    list_corrections,
    revert_correction,
)
from open3dsg.store.removal import clear_away, delete_scan
from open3dsg.store.scans import find_scan
from open3dsg.store.unit import UnitKey
from open3dsg.store.units import read_unit
from tests.db import made_room as made
from tests.db.judged_room import RUN, fill
from tests.db.pipeline import Database, rows
from tests.db.test_search import nodes

__all__ = ["nodes"]  # a fixture

DIMENSION = 24  # of the nodes of test_search


@pytest.fixture
def room(database: Database) -> Database:
    fill(database)
    return database


# ---- what is in force


@dataclass
class Word:
    """A correction, stated plainly."""

    about: tuple[Any, ...]  # (instance,) or (subject, predicate, object)
    says: Any  # the label, or whether it holds
    reverted: bool = False


@dataclass
class Plain:
    """The same in a list: the last word that stands counts."""

    words: list[Word] = field(default_factory=list)

    def in_force(self) -> dict[tuple[Any, ...], Any]:
        return {word.about: word.says for word in self.words if not word.reverted}

    def newest(self) -> list[bool]:
        last = {word.about: at for at, word in enumerate(self.words) if not word.reverted}
        return [last.get(word.about) == at for at, word in enumerate(self.words)]


NUMBERS = st.sampled_from([3, 5, 21])
PAIR = st.sampled_from([(3, 1), (5, 2), (1, 3)])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("label"), NUMBERS, st.sampled_from(["desk", "Stuhl", "table"])),
        st.tuples(
            st.just("relation"), PAIR, st.sampled_from(["standing on", "close by", "above"]), st.booleans()
        ),
        st.tuples(st.just("revert"), st.integers(0, 8)),
    ),
    max_size=9,
)


def act(database: Database, plain: Plain, ids: list[int], action: Any) -> None:
    kind, *rest = action
    if kind == "label":
        ids.append(correct_label(database, made.KEY, rest[0], rest[1], "ana"))
        plain.words.append(Word((rest[0],), rest[1]))
    elif kind == "relation":
        (subject, target), predicate, holds = rest
        ids.append(correct_relation(database, made.KEY, subject, predicate, target, holds, "bo"))
        plain.words.append(Word((subject, predicate, target), holds))
    elif rest[0] < len(ids):
        word = plain.words[rest[0]]
        if word.reverted:
            with pytest.raises(UserError, match="was reverted already, by "):
                revert_correction(database, ids[rest[0]], "cy")
        else:
            assert revert_correction(database, ids[rest[0]], "cy").reverted_by == "cy"
        word.reverted = True


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_the_newest_word_that_stands_is_in_force(room: Database, actions: list[Any]) -> None:
    room.execute("DELETE FROM correction")
    plain, ids = Plain(), list[int]()
    for action in actions:
        act(room, plain, ids, action)
    told = list_corrections(room, made.KEY)
    assert [one.correction_id for one in told] == ids
    assert [one.in_force for one in told] == plain.newest()
    assert [one.reverted_at is not None for one in told] == [word.reverted for word in plain.words]

    counts = plain.in_force()
    labels = made.LABELS | {about[0]: says for about, says in counts.items() if len(about) == 1}
    holds = {about: says for about, says in counts.items() if len(about) == 3}
    annotated = {(a, predicate, b) for graph in made.SUBGRAPHS for a, b, predicate in graph.relationships}
    graph = read_graph(room, made.KEY)
    assert {node.instance: node.label for node in graph.nodes} == labels
    assert {(edge.subject, edge.predicate, edge.object) for edge in graph.edges} == (
        annotated | {about for about, says in holds.items() if says}
    ) - {about for about, says in holds.items() if not says}
    names = "SELECT instance, label, is_corrected FROM v_instance_label"
    assert {(number, label): told for number, label, told in rows(room, names)} == {
        (number, label): (number,) in counts for number, label in labels.items()
    }


def test_what_was_said_is_listed_with_who_said_it_and_when(room: Database) -> None:
    first = correct_label(room, "room", 5, "  stool ", " Ana Ös ")
    second = correct_relation(room, "room", 5, "near", 2, False, "bo")
    reverted = revert_correction(room, first, "cy")
    assert list_corrections(room, "made/room") == list_corrections(room)
    label, relation = list_corrections(room)
    assert label == reverted
    assert (label.correction_id, label.dataset, label.scan, label.kind) == (first, "made", "room", "label")
    assert (label.instance, label.instance_label, label.object, label.object_label) == (
        5,
        "chair",
        None,
        None,
    )
    assert (label.text, label.author, label.reverted_by, label.in_force) == ("stool", "Ana Ös", "cy", False)
    assert label.reverted_at is not None
    assert label.reverted_at >= label.made_at
    assert (relation.correction_id, relation.kind, relation.text) == (second, "relation", "near")
    assert (relation.instance_label, relation.object, relation.object_label) == ("chair", 2, "wall")
    assert (relation.holds, relation.author, relation.reverted_at, relation.in_force) == (
        False, "bo", None, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda d: correct_label(d, "hall", 5, "stool", "ana"), "no scan 'hall' in the store"),
        (
            lambda d: correct_label(d, "room", 4, "stool", "ana"),
            "scan made/room has no instance 4; it has 1, 2, 3, 5, 8, 11, 12, 20, 21",
        ),
        (lambda d: correct_label(d, "room", 2**40, "stool", "ana"), "has no instance 1099511627776"),
        (lambda d: correct_label(d, "room", 5, "  ", "ana"), "the label is empty"),
        (lambda d: correct_label(d, "room", 5, "a\0b", "ana"), "the label contains a NUL"),
        (lambda d: correct_label(d, "room", 5, "x" * 501, "ana"), "the label has 501 characters"),
        (lambda d: correct_label(d, "room", 5, "stool", " "), "the author is empty"),
        (
            lambda d: correct_label(d, "room", 5, "stool", "x" * 201),
            "the author has 201 characters; at most 200",
        ),
        (lambda d: correct_relation(d, "room", 5, "near", 4, True, "ana"), "has no instance 4"),
        (lambda d: correct_relation(d, "room", 5, "", 2, True, "ana"), "the predicate is empty"),
        (lambda d: correct_relation(d, "room", 5, "near", 5, True, "ana"), "5 cannot be subject and object"),
        (lambda d: revert_correction(d, 99, "ana"), "no correction 99 in the store: `open3dsg correct list`"),
        (lambda d: revert_correction(d, 2**70, "ana"), "no correction 1180591620717411303424 in the store"),
        (lambda d: list_corrections(d, "hall"), "no scan 'hall' in the store"),
    ],
)
def test_what_cannot_be_said_is_told_and_leaves_nothing(
    room: Database, call: Callable[[Database], object], told: str
) -> None:
    terms = rows(room, "SELECT text FROM term ORDER BY 1")
    with pytest.raises(UserError) as refused:
        call(room)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert rows(room, "SELECT text FROM term ORDER BY 1") == terms
    assert rows(room, "SELECT FROM correction") == []


def test_a_writer_corrects_and_a_reader_is_refused_in_one_line(room: Database, database_url: str) -> None:
    made_by_writer: list[Any] = []
    for role in ("writer", "reader"):
        with connect(database_url) as connection:
            connection.autocommit = True
            connection.execute(f"SET ROLE open3dsg_{role}".encode())
            calls: list[Callable[[Database], Any]] = [
                lambda d: correct_label(d, "room", 5, "a new word", "ana"),
                lambda d: correct_label(d, "room", 5, "chair", "ana"),
                lambda d: correct_relation(d, "room", 5, "left", 2, True, "ana"),
                lambda d: revert_correction(d, made_by_writer[0], "ana"),
            ]
            for call in calls:
                if role == "writer":
                    made_by_writer.append(call(connection))
                    continue
                with pytest.raises(UserError, match="this login may not correct anything") as refused:
                    call(connection)
                assert "\n" not in str(refused.value)
            assert len(list_corrections(connection)) == 3


def test_terms_of_corrections_are_kept_and_go_with_their_scan(room: Database) -> None:
    number = correct_label(room, "room", 5, "a word of nobody else", "ana")
    revert_correction(room, number, "ana")
    clear_away(room, ())
    assert list_corrections(room)[0].text == "a word of nobody else"
    assert delete_scan(room, find_scan(room, made.KEY))["correction"] == 1
    clear_away(room, ())
    assert rows(room, "SELECT FROM term WHERE text = 'a word of nobody else'") == []


# ---- who takes them


@pytest.mark.parametrize("with_index", [False, True], ids=["exact", "index"])
def test_searches_take_corrected_labels(database: Database, nodes: Any, with_index: bool) -> None:
    """2,000 nodes in 40 scans, every fourth a chair; instance n of scan s stands in row 50 s + n."""
    if with_index:
        database.execute("SELECT create_node_index_v1('toy')")
        database.execute("SET open3dsg.exact_rows = 10")
    at = np.arange(len(nodes))
    chairs = {(int(row // 50), int(row % 50)) for row in at if row % 50 % 4 == 0}
    for scan, number, label in (
        (3, 0, "table"),
        (3, 1, "CHAIR"),
        (9, 7, "mug"),
        (9, 8, "mug"),
        (9, 9, "mug"),
    ):
        correct_label(database, f"scan{scan}", number, label, "ana")
    revert_correction(database, list_corrections(database)[-1].correction_id, "ana")
    chairs ^= {(3, 0), (3, 1), (9, 8)}
    query = np.random.default_rng(2).normal(size=DIMENSION)
    for wanted, of in (("chair", chairs), ("Mug", {(9, 7), (9, 8)})):
        found = database.execute(
            "SELECT scan, instance, label FROM search_nodes_v1(%s::vector, 'toy', 2000, %s)",
            [str(query.tolist()), Jsonb({"label": wanted})],
        ).fetchall()
        assert {(int(scan[4:]), number) for scan, number, _ in found} == of
        assert {label.lower() for *_, label in found} == {wanted.lower()}
    both_ways = {"label": "chair", "scan": "scan3"}
    found = database.execute(
        "SELECT instance FROM search_nodes_v1(%s::vector, 'toy', 2000, %s)",
        [str(query.tolist()), Jsonb(both_ways)],
    ).fetchall()
    assert {number for (number,) in found} == {number for scan, number in chairs if scan == 3}


@pytest.mark.parametrize("exact_rows", [10, 20000])
def test_many_corrections_to_one_label_are_all_found(database: Database, nodes: Any, exact_rows: int) -> None:
    """The condition is put otherwise where more instances are annotated so than `exact_rows`."""
    database.execute(f"SET open3dsg.exact_rows = {exact_rows}".encode())
    (mug,) = term_ids(database, ["mug"]).values()
    database.execute(
        "INSERT INTO correction (scan_id, kind, instance_no, term_id, author)"
        " SELECT scan_id, 'label', instance_no, %s, 'ana' FROM instance WHERE instance_no < 5",
        [mug],
    )
    query = "SELECT scan, instance FROM search_nodes_v1(%s::vector, 'toy', 2000, %s)"
    (chair,) = term_ids(database, ["chair"]).values()
    again = (
        "INSERT INTO correction (scan_id, kind, instance_no, term_id, author)"
        " SELECT scan_id, 'label', instance_no, %s, 'bo' FROM instance WHERE instance_no IN (2, 9, 12)"
    )
    database.execute(again, [chair])
    mugs, chairs = (0, 1, 3, 4), (2, 9, *range(8, 50, 4))
    for label, numbers in (("mug", mugs), ("chair", chairs), ("table", (5, *range(13, 50, 4)))):
        found = database.execute(query, [str([1.0] * DIMENSION), Jsonb({"label": label})]).fetchall()
        assert len(found) == len(set(found))
        assert set(found) == {(f"scan{scan}", number) for scan in range(40) for number in numbers}


def test_conditions_on_labels_go_by_the_index_of_labels(database: Database, nodes: Any) -> None:
    database.execute("INSERT INTO term (text) SELECT 'word ' || n FROM generate_series(1, 500) n")
    database.execute(
        "UPDATE instance i SET label_id = t.term_id FROM term t"
        " WHERE t.text = 'word ' || (i.scan_id * 10 + i.instance_no % 10)"
    )
    database.execute("ANALYZE instance")
    correct_label(database, "scan3", 0, "word 77", "ana")
    correct_label(database, "scan6", 7, "word 78", "ana")
    [(condition,)] = rows(database, "SELECT label_condition_v1('word 77')")
    database.execute("SET enable_seqscan = off")
    plan = "\n".join(line for (line,) in rows(database, f"EXPLAIN SELECT FROM instance i WHERE {condition}"))
    assert "instance_label_id_idx" in plan
    assert "instance_pkey" in plan
    assert "Seq Scan on instance" not in plan


def test_a_label_that_only_a_correction_has_can_be_asked_for(
    store: Database,
) -> None:
    with pytest.raises(UserError, match="no instance is labelled 'tabletop'; did you mean table"):
        search_nodes(store, ["table"], encoder="toy", filters=NodeFilters(label="tabletop"))
    correct_label(store, "mini-0002", 4, "Tabletop", "ana")
    ((hit,),) = search_nodes(store, ["table"], encoder="toy", filters=NodeFilters(label="tabletop"))
    assert (hit.scan, hit.instance, hit.label) == ("mini-0002", 4, "Tabletop")
    with pytest.raises(UserError, match="did you mean Tabletop, table"):
        search_nodes(store, ["table"], encoder="toy", filters=NodeFilters(label="tabletops"))
    hits = search_nodes(store, ["table"], k=99, encoder="toy", filters=NodeFilters(label="table"))[0]
    assert {(hit.scan, hit.instance) for hit in hits} == {("mini-0001", 4), ("mini-0003", 4)}


# ---- who never does


def correct_a_lot(room: Database) -> None:
    for number in made.LABELS:
        correct_label(room, made.KEY, number, "lamp", "ana")
    for subject, target, predicate in {row for graph in made.SUBGRAPHS for row in graph.relationships}:
        correct_relation(room, made.KEY, subject, predicate, target, False, "ana")
    correct_relation(room, made.KEY, 2, "close by", 12, True, "ana")


def test_what_learns_predicts_or_judges_takes_none(room: Database) -> None:
    def judged() -> Any:
        options = EvaluationOptions(classes="things", predicates="ways")
        found = evaluate(room, RUN, ("published", "strict"), options).evaluations
        return [
            (one.protocol, one.metrics, [read_ranks(room, one, kind) for kind in ("object", "predicate")])
            for one in found
        ]

    def taken() -> Any:
        return (
            [repr(asdict(read_unit(room, UnitKey(made.KEY, graph)))) for graph in (1, 4)],
            predicted_triplets(room, RUN, made.KEY, classes="things", predicates="ways", k=3),
            rows(room, "SELECT * FROM v_node ORDER BY instance"),
            rows(room, "SELECT * FROM v_relationship ORDER BY 3, 4, 7, 6"),
            rows(room, "SELECT * FROM v_node_prediction ORDER BY instance"),
            rows(room, f"SELECT * FROM classify_predictions_v1('{RUN}', 'things', 2)"),
            rows(room, f"SELECT * FROM map_predicates_v1('{RUN}', 'ways', 2)"),
        )

    before, figures = taken(), judged()
    tables = ("instance", "relationship", "subgraph_member", "node_prediction", "edge_prediction")
    held = [rows(room, f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in tables]
    correct_a_lot(room)
    assert [rows(room, f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in tables] == held
    assert str(taken()) == str(before)
    room.execute("DELETE FROM evaluation")
    assert str(judged()) == str(figures)


def test_no_view_that_learns_or_judges_looks_at_corrections(room: Database) -> None:
    looks = rows(
        room,
        """
        WITH RECURSIVE looks (relation) AS (
            SELECT 'correction'::regclass::oid
            UNION
            SELECT r.ev_class
            FROM looks
            JOIN pg_depend d ON d.refobjid = looks.relation AND d.classid = 'pg_rewrite'::regclass
            JOIN pg_rewrite r ON r.oid = d.objid
        )
        SELECT relation::regclass::text FROM looks
        """,
    )
    learning = {
        *("v_unit_pair", "v_unit_member", "v_judged_member", "v_evaluation_rank"),
        *("v_subgraph", "v_subgraph_relation", "v_relationship", "v_node"),
        *("v_node_prediction", "v_edge_prediction"),
    }
    assert {"correction", "v_corrected_label", "v_scene_graph"} <= {name for (name,) in looks}
    assert not learning & {name for (name,) in looks}
