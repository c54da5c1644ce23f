"""Predictions of a made room are judged: rows against plain loops, figures against SQL over the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from open3dsg.datasets.scan import Problem
from open3dsg.db.connect import connect
from open3dsg.db.terms import add_vocabulary, term_ids, terms_in_use
from open3dsg.errors import UserError
from open3dsg.evaluation.evaluate import EvaluationOptions, EvaluationReport, evaluate
from open3dsg.evaluation.judged import PLACES, Protocol
from open3dsg.evaluation.results import find_evaluation, list_evaluations, read_ranks
from open3dsg.store.encoders import find_encoder, keep_words
from open3dsg.store.predictions import (
    EdgePrediction,
    NodePrediction,
    find_prediction,
    write_predictions,
)
from open3dsg.store.scans import find_scan
from tests.db import made_room as made
from tests.db.judged_room import (
    PREDICTED,
    RUN,
    THING_ROWS,
    THINGS,
    fill,
    guesses,
    predict,
    ranks,
    unit,
)
from tests.db.pipeline import Database, rows
from tests.db.predicted import (
    NODE_DIMENSION,
    unit_rows,
    write_encoder,
    write_prediction,
    write_run,
)

BOTH: tuple[Protocol, ...] = ("published", "strict")
OPTIONS = EvaluationOptions(classes="things", predicates="ways")


@pytest.fixture
def room(database: Database) -> Database:
    fill(database)
    return database


def judge(database: Database, text: str = RUN, protocols: Any = BOTH, **changes: Any) -> EvaluationReport:
    return evaluate(database, text, protocols, EvaluationOptions(**(vars(OPTIONS) | changes)))


def test_strict_places_are_those_of_the_sql_functions(room: Database) -> None:
    (found,) = judge(room, protocols=["strict"]).evaluations
    placed = {
        (instance, term): rank
        for instance, term, rank in rows(
            room, f"SELECT instance, term, rank FROM classify_predictions_v1('{RUN}', 'things', 99)"
        )
    }
    for _, subject, _, truth, rank in ranks(room, found, "object"):
        assert rank == placed.get((subject, truth))
    of_pairs: dict[tuple[int, int], list[str]] = {}
    for subject, target, predicate in rows(
        room,
        f"SELECT subject, object, predicate FROM map_predicates_v1('{RUN}', 'ways', 99)"
        " WHERE predicate <> 'none' ORDER BY scan_id, subject, object, rank",
    ):
        of_pairs.setdefault((subject, target), []).append(predicate)
    for _, subject, target, truth, rank in ranks(room, found, "predicate"):
        order = of_pairs.get((subject, target), [])
        assert rank == (1 + order.index(truth) if truth in order else None)


@pytest.mark.parametrize("protocol", BOTH)
def test_sql_over_the_rows_gives_the_figures(room: Database, protocol: Protocol) -> None:
    (found,) = judge(room, protocols=[protocol]).evaluations
    for kind in ("object", "predicate", "relationship"):
        for at in PLACES[kind]:
            call = f"({found.evaluation_id}, '{kind}', {at})"
            ((recall,),) = rows(room, f"SELECT evaluation_recall_v1{call}")
            assert recall == pytest.approx(found.metrics[kind]["recall"][str(at)], abs=1e-12)
            by_class = rows(
                room, f"SELECT class, annotations, hits, recall FROM evaluation_recall_by_class_v1{call}"
            )
            assert np.mean([row[3] for row in by_class]) == pytest.approx(
                found.metrics[kind]["mean_recall"][str(at)], abs=1e-12
            )
            counts = Counter(row[3] for row in ranks(room, found, kind))
            assert {name: count for name, count, _, _ in by_class} == counts


def test_what_the_vocabulary_lacks_and_what_was_not_predicted_is_counted_and_named(room: Database) -> None:
    report = judge(room)
    published, strict = report.evaluations
    assert published.metrics["object"]["outside"] == {"book": 1}
    assert strict.metrics["predicate"]["outside"] == {"beyond the list": 1}
    assert strict.metrics["predicate"]["outside_vocabulary"] == 1
    assert strict.metrics["object"]["not_predicted"] == 1
    told = {(problem.kind, problem.detail) for problem in report.problems}
    assert ("object_outside_vocabulary", "'book' is no word of things: 1 of it missed") in told
    assert ("predicate_outside_vocabulary", "'beyond the list' is no word of ways: 1 of it missed") in told
    # The shelf is not predicted; it and the book are the ends of one relation.
    assert strict.metrics["predicate"]["not_predicted"] == 3
    assert published.vocabularies.keys() == {"classes", "predicates"}
    assert published.vocabularies["classes"]["name"] == "things"


def test_judging_again_with_the_same_options_replaces_what_was_found(room: Database) -> None:
    first = judge(room).evaluations
    again = judge(room).evaluations
    assert [one.evaluation_id for one in again] == [one.evaluation_id for one in first]
    assert [one.metrics for one in again] == [one.metrics for one in first]
    assert len(list_evaluations(room)) == 2
    other = judge(room, gt_objects=True).evaluations
    assert len(list_evaluations(room)) == 4
    room.execute("DELETE FROM evaluation WHERE evaluation_id = %s", [other[0].evaluation_id])
    left = rows(room, "SELECT DISTINCT evaluation_id FROM evaluation_rank ORDER BY 1")
    assert left == [(one.evaluation_id,) for one in (*first, other[1])]


def test_given_objects_are_not_judged_and_make_relationships_those_of_the_pair(room: Database) -> None:
    published, strict = judge(room, gt_objects=True).evaluations
    for found in (published, strict):
        assert "object" not in found.metrics
    by_predicate = {row[:4]: row[4] for row in ranks(room, published, "predicate")}
    for *key, rank in ranks(room, published, "relationship"):
        of_pair = by_predicate[tuple(key)]
        if key[-1] != "none" and rank is not None and of_pair is not None:
            assert rank == of_pair
    before = judge(room, protocols=["strict"]).evaluations[0].metrics["relationship"]["recall"]
    assert strict.metrics["relationship"]["recall"]["100"] >= before["100"]


def test_a_bare_run_is_all_its_predictions_side_by_side(room: Database) -> None:
    run = rows(room, "SELECT run_id FROM run")[0][0]
    first = rows(room, "SELECT node_words_id, relation_words_id FROM prediction")[0]
    room.execute(
        "INSERT INTO prediction (run_id, label, source, weight_2d, node_words_id, relation_words_id, options,"
        " code_revision) VALUES (%s, 'second', 'teacher', 1, %s, %s, '{}', 'c')",
        [run, *first],
    )
    with pytest.raises(
        UserError, match=f"{RUN}:second says nothing of any scan: run `open3dsg predict --run {RUN}"
    ):
        judge(room, f"{RUN}:second")
    alone = judge(room)
    assert {one.prediction for one in alone.evaluations} == {f"{RUN}:first"}
    assert "prediction_not_judged" in {problem.kind for problem in alone.problems}
    predict(room, find_prediction(room, f"{RUN}:second"), 9)
    found = judge(room).evaluations
    assert [(one.prediction, one.protocol) for one in found] == [
        (f"{RUN}:{label}", protocol) for label in ("first", "second") for protocol in BOTH
    ]


def test_scores_of_classes_are_candidates_as_far_as_they_were_learnt(room: Database) -> None:
    nodes = write_encoder(room, "others", NODE_DIMENSION)
    with terms_in_use(room), room.transaction():
        keep_words(room, nodes, THINGS, THING_ROWS)
    learnt = ["none", "left", "close by", "behind"]
    run = write_run(room, "taught-1", nodes, None, None, targets="classes", predicates=learnt)
    prediction = write_prediction(room, run, "student")
    scan_id = find_scan(room, made.KEY).scan_id
    scores = np.array([0.9, 0.3, 0.6, 0.8], np.float32)
    with terms_in_use(room), room.transaction():
        node, _ = guesses(3)
        write_predictions(
            room,
            scan_id,
            prediction.prediction_id,
            [NodePrediction(number, embedding, "teacher") for number, embedding in node.items()],
            [
                EdgePrediction(*pair, None, scores, None, None, "teacher")
                for pair in permutations(PREDICTED, 2)
            ],
        )
    (found,) = judge(room, "taught-1", ["strict"]).evaluations
    assert {row[1:] for row in ranks(room, found, "predicate")} == {
        (1, 3, "left", 2),
        (3, 1, "close by", 1),
        (3, 1, "standing on", None),
        (8, 3, "close by", 1),
        (5, 2, "beyond the list", None),
        (11, 20, "close by", None),
    }
    assert found.metrics["predicate"]["outside"] == {"beyond the list": 1, "standing on": 1}
    room.execute("UPDATE edge_prediction SET scores[2] = 'NaN' WHERE (subject_no, object_no) = (3, 1)")
    with pytest.raises(UserError, match="taught-1:student has scores of pairs that are not finite"):
        judge(room, "taught-1")


def test_relations_in_no_space_of_words_are_not_judged(room: Database) -> None:
    run = write_run(room, "dumb-1", find(room, "nodes"), find(room, "ways"), None)
    prediction = write_prediction(room, run, "teacher")
    predict(room, prediction, 3)
    report = judge(room, "dumb-1")
    assert [set(one.metrics) for one in report.evaluations] == [{"object"}, {"object"}]
    assert [problem.kind for problem in report.problems if "relation" in problem.kind] == [
        "relations_not_judged"
    ]


def find(database: Database, name: str) -> Any:
    return find_encoder(database, name)


def test_thirds_go_by_what_the_run_was_trained_on_and_that_is_told(room: Database) -> None:
    assert "head" not in judge(room).evaluations[0].metrics["object"]
    units = f'{{"train": {{"{made.KEY}": [1, 4]}}, "validation": {{}}}}'
    room.execute("UPDATE run SET units = %s::jsonb", [units])
    report = judge(room)
    assert [problem.detail for problem in report.problems if problem.kind == "scan_trained_on"] == [
        f"{made.KEY}: the run was trained on it"
    ]
    # By the alphabet where they are as frequent: chair dot floor, lamp shelf table, wall sofa.
    metrics = report.evaluations[1].metrics["object"]
    assert [metrics[name]["classes"] for name in ("head", "body", "tail")] == [3, 3, 1]
    placed = {row[3]: row[4] for row in ranks(room, report.evaluations[1], "object")}
    hit = [placed[label] is not None and placed[label] <= 5 for label in ("chair", "dot", "floor")]
    assert metrics["head"]["mean_recall"]["5"] == pytest.approx(np.mean(hit))


def test_attributes_are_judged_once_a_scan(room: Database) -> None:
    nodes = find(room, "nodes")
    colours = ("black", "blue", "red")
    with terms_in_use(room), room.transaction():
        add_vocabulary(room, "colours", "class", colours)
        keep_words(room, nodes, colours, unit_rows(5, 3, NODE_DIMENSION))
        ids = term_ids(room, [*colours, "dark"])
    scan_id = find_scan(room, made.KEY).scan_id
    for number, kind, text in (
        (1, "color", "red"),
        (1, "color", "blue"),
        (3, "color", "dark"),
        (2, "material", "red"),
    ):
        room.execute(
            "INSERT INTO instance_attribute VALUES (%s, %s, %s, %s)", (scan_id, number, kind, ids[text])
        )
    report = judge(room, protocols=["strict"], attributes="colours")
    (found,) = report.evaluations
    node, _ = guesses(3)
    cosines = dict(zip(colours, unit(unit_rows(5, 3, NODE_DIMENSION)) @ node[1], strict=True))
    order = sorted(colours, key=lambda text: -cosines[text])
    assert ranks(room, found, "attribute") == [
        (None, 1, None, text, 1 + order.index(text)) for text in ("blue", "red")
    ]
    assert found.metrics["attribute"]["annotations"] == 2
    (told,) = [
        problem.detail for problem in report.problems if problem.kind == "attribute_outside_vocabulary"
    ]
    assert told == f"{made.KEY}: 1 that are none of colours"


def test_what_is_behind_a_figure(room: Database) -> None:
    judge(room)
    found = find_evaluation(room, RUN, "strict")
    every = read_ranks(room, found, "predicate")
    assert len(every) == 6
    tables = read_ranks(room, found, "predicate", word="table")
    assert {(row.subject, row.object, row.truth) for row in tables} == {
        (1, 3, "left"), (3, 1, "close by"), (3, 1, "standing on"), (8, 3, "close by"),
    }  # fmt: skip
    hit, missed = (read_ranks(room, found, "predicate", hit=hit, places=1) for hit in (True, False))
    assert sorted(map(str, hit + missed)) == sorted(map(str, every))
    assert all(row.rank == 1 for row in hit)
    assert len(hit) / 6 == pytest.approx(found.metrics["predicate"]["recall"]["1"])
    with pytest.raises(
        UserError, match="no predicate with 'sofa' was judged; there are beyond the list, book,"
    ):
        read_ranks(room, found, "predicate", word="sofa")
    with pytest.raises(UserError, match=r"no predicate with 'tabel' was judged; did you mean table\?"):
        read_ranks(room, found, "predicate", word="tabel")
    with pytest.raises(UserError, match=r"no attribute of .* was judged"):
        read_ranks(room, found, "attribute")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"text": "nobody"}, "no prediction 'nobody' in the store; it has plain-oak-1:first"),
        ({"split": "validation"}, "no scan of split 'validation' has subgraphs with annotated objects"),
        ({"dataset": "x"}, "no dataset 'x' in the store"),
        ({"classes": None}, "the scans are of made, which has no 'made-classes': say with --classes"),
        ({"classes": "ways"}, "--classes is 'ways', which is a list of kind predicate: give one of class"),
        ({"predicates": "nowhere"}, "no vocabulary 'nowhere' in the store"),
    ],
)
def test_bad_input_is_told_in_a_line_and_leaves_nothing(
    room: Database, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as told:
        judge(room, **changes)
    assert str(told.value).startswith(line)
    assert rows(room, "SELECT count(*) FROM evaluation") == [(0,)]


def test_predicted_scans_without_annotations_are_named(room: Database) -> None:
    room.execute(
        "INSERT INTO scan (dataset_id, name, split) SELECT dataset_id, 'bare', split FROM scan;"
        " INSERT INTO instance SELECT s.scan_id, i.instance_no, i.label_id, 0 FROM scan s, instance i"
        " WHERE s.name = 'bare' AND i.instance_no = 1;"
        " INSERT INTO node_prediction SELECT s.scan_id, n.prediction_id, 1, n.embedding, n.origin"
        " FROM scan s, node_prediction n WHERE s.name = 'bare' AND n.instance_no = 1"
    )
    report = judge(room)
    assert [one.scans for one in report.evaluations] == [1, 1]
    assert [problem.detail for problem in report.problems if problem.kind == "scan_not_annotated"] == [
        "made/bare: it has no subgraphs with annotated objects"
    ]


def test_of_a_split_those_that_were_not_predicted_are_named_and_all_is_every_scan(room: Database) -> None:
    room.execute(
        "INSERT INTO scan (dataset_id, name, split) SELECT dataset_id, 'later', 'train' FROM scan;"
        " INSERT INTO subgraph (scan_id, subgraph_no, method)"
        " SELECT scan_id, 1, '3dssg' FROM scan WHERE name = 'later'"
    )
    told = Problem("scan_not_predicted", f"made/later: {RUN}:first says nothing of it")
    every, chosen = judge(room, split="all"), judge(room)
    assert [one.metrics for one in every.evaluations] == [one.metrics for one in chosen.evaluations]
    assert set(every.problems) - set(chosen.problems) == {told}


def test_one_who_may_only_read_is_refused_before_anything_is_judged(
    room: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(*_: Any) -> Any:
        raise AssertionError("it was judged")

    monkeypatch.setattr("open3dsg.evaluation.evaluate.judge_scan", judged)
    for told in ("SET ROLE open3dsg_reader", "SET default_transaction_read_only = on"):
        room.execute(told.encode())
        with pytest.raises(UserError, match=r"figures are kept in the database.*may only read"):
            judge(room)
        room.execute("RESET ALL; RESET ROLE")


def test_scans_without_relations_have_their_objects_judged(room: Database) -> None:
    room.execute("DELETE FROM relationship")
    report = judge(room)
    assert [set(one.metrics) for one in report.evaluations] == [{"object"}, {"object"}]
    assert "the scans have no annotated relations: objects alone are judged" in {
        problem.detail for problem in report.problems
    }


def test_a_prediction_that_is_deleted_meanwhile_leaves_nothing(room: Database, database_url: str) -> None:
    @contextmanager
    def deleting(_title: str, _total: int) -> Iterator[Callable[[str], None]]:
        """Another process deletes it while it is judged."""
        with connect(database_url) as other:
            other.execute("DELETE FROM prediction")
        yield lambda _: None

    with pytest.raises(UserError, match="was deleted while it was judged: evaluate again"):
        evaluate(room, RUN, BOTH, OPTIONS, deleting)
    assert rows(room, "SELECT count(*) FROM evaluation_rank") == [(0,)]


def test_unbuilt_subgraphs_leave_nothing_to_the_published_protocol(room: Database) -> None:
    room.execute("UPDATE ledger SET stale = true WHERE step = 'graph'")
    report = judge(room)
    assert [one.protocol for one in report.evaluations] == ["strict"]
    assert "nothing_judged" in {problem.kind for problem in report.problems}
    with pytest.raises(
        UserError, match="nothing of plain-oak-1:first to judge as published: it takes observed"
    ):
        judge(room, protocols=["published"])
