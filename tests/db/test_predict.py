"""Predictions of a small store by networks as they are drawn, against plain formulations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import torch

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from open3dsg.errors import UserError
from open3dsg.steps.catalogue import build, describe, lacking_here
from open3dsg.steps.features import DumpNodes, DumpPairs, FeatureOptions, PairOptions
from open3dsg.steps.ingest import DOWNSTREAM
from open3dsg.steps.predict import Predict
from open3dsg.steps.predict_options import PredictOptions
from open3dsg.steps.relabel import Correct
from open3dsg.store.encoders import find_encoder
from open3dsg.store.geometry import drop_instances
from open3dsg.store.pair_features import clear_pair_features
from open3dsg.store.predictions import find_prediction
from open3dsg.store.runs import StoredRun
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests.conftest import as_url
from tests.db import trained
from tests.db.predicted import write_checkpoint, write_trained
from tests.db.predicting import (
    HALF,
    OTHER,
    PAIRS,
    SCAN,
    captions,
    check_speech,
    close,
    edges,
    nodes,
    predict,
    student,
    teacher_nodes,
    tokens,
    unit,
)

Database = psycopg.Connection[Any]
Pair = tuple[int, int]


@pytest.fixture(scope="module", autouse=True)
def _with_toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        trained.with_toys(tmp_path_factory.mktemp("encoders"), patch)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prepared(
    template: str,
    new_database: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
    _with_toys: None,
) -> str:
    """Name a database with two scans to train on, that tests clone."""
    with connect(as_url(new_database("predictable", template=template))) as connection:
        connection.autocommit = True
        trained.trainable(connection, tmp_path_factory.mktemp("data"))
        dump = DumpPairs(PairOptions("toycaptions", top_k_frames=4, scales=1))
        dump(connection, SCAN)
        dump.close(connection)
    return "predictable"


@pytest.fixture
def store(prepared: str, new_database: Callable[..., str]) -> Iterator[Database]:
    with connect(as_url(new_database("predicted", template=prepared))) as connection:
        connection.autocommit = True
        yield connection


@pytest.fixture
def run(store: Database, tmp_path: Path) -> StoredRun:
    """A run that learnt embedded captions, which are directed; of a pair nothing is said in one direction."""
    store.execute("DELETE FROM relation_caption WHERE (subject_no, object_no) = (%s, %s)", PAIRS[3])
    return write_trained(store, tmp_path, "otter", "geometry")


def test_the_teacher_says_what_pictures_and_captions_say(store: Database, run: StoredRun) -> None:
    said, pictures = captions(store), teacher_nodes(store)
    counts = predict(store, from_2d=True)
    assert counts == {
        "nodes": len(pictures),
        "edges": len(said),
        "nodes_left_out": len(mini.LABELS) - len(pictures),
        "edges_left_out": len(PAIRS) - len(said),
    }
    assert 0 < len(said) < len(PAIRS)
    found = nodes(store, "otter:teacher")
    assert found.keys() == pictures.keys()
    for number, node in found.items():
        assert node.origin == "teacher"
        close(node.embedding, pictures[number], atol=HALF)
    for pair, edge in edges(store, "otter").items():
        assert (edge.caption, edge.phrase, edge.origin) == (said[pair][0], said[pair][0], "teacher")
        close(edge.embedding, said[pair][1], atol=HALF)
    work = Predict(PredictOptions("otter", from_2d=True))
    assert work(store, SCAN).skipped
    assert (work.parts(store, SCAN), work.parts(store, OTHER)) == ([], [None])
    assert work.close(store) == ()
    # The teacher's captions are nearest to themselves, whatever the list that holds them is called.
    assert find_prediction(store, "otter").relation_words == find_encoder(store, "toywords")


@pytest.mark.parametrize("graphs", ["subgraph", "full"])
def test_the_student_gives_the_mean_over_units(store: Database, run: StoredRun, graphs: Any) -> None:
    expected_nodes, expected_edges = student(store, run, graphs=graphs)
    counts = predict(store, weight_2d=0, graphs=graphs)
    assert counts == {
        "nodes": len(expected_nodes), "edges": len(expected_edges), "nodes_left_out": 0, "edges_left_out": 0
    }  # fmt: skip
    found = nodes(store, "otter:student")
    assert found.keys() == expected_nodes.keys() == mini.LABELS.keys()
    for number, node in found.items():
        assert node.origin == "student"
        close(node.embedding, unit(expected_nodes[number]), atol=HALF)
    edged = edges(store, "otter:student")
    assert sorted(edged) == sorted(expected_edges) == PAIRS
    for pair, edge in edged.items():
        assert (edge.caption, edge.phrase, edge.scores, edge.origin) == (None, None, None, "student")
        close(edge.embedding, unit(expected_edges[pair]), atol=HALF)


@pytest.mark.parametrize(("weight", "published"), [(0.3, False), (0.3, True), (1.0, False), (0.0, True)])
def test_both_are_weighed_and_what_has_no_picture_falls_back(
    store: Database, run: StoredRun, weight: float, published: bool
) -> None:
    gone = min(mini.LABELS)
    store.execute(
        "DELETE FROM node_feature WHERE instance_no = %s AND scan_id = %s",
        [gone, find_scan(store, SCAN).scan_id],
    )
    counts = predict(store, weight_2d=weight, published=published)
    label = f"fused-{weight:g}" + ("-published" if published else "")
    said, pictures = captions(store), teacher_nodes(store)
    of_points, relations = student(store, run)
    assert counts["nodes_without_2d"] == len(of_points) - len(pictures)
    assert counts["edges_without_2d"] == len(PAIRS) - len(said)
    found = nodes(store, f"otter:{label}")
    assert found[gone].origin == "student"
    for number, node in found.items():
        expected = unit(of_points[number])
        if number in pictures:
            expected = unit(weight * unit(pictures[number]) + (1 - weight) * expected)
            assert node.origin == "fused"
        close(node.embedding, expected, atol=HALF)
    other = 1 - weight if published else weight
    for pair, edge in edges(store, f"otter:{label}").items():
        expected = unit(relations[pair])
        if pair in said:
            expected = unit(other * unit(said[pair][1]) + (1 - other) * expected)
        assert edge.origin == ("fused" if pair in said else "student")
        close(edge.embedding, expected, atol=HALF)


def test_pooled_pairs_of_an_encoder_of_crops_are_compared_as_they_are(
    store: Database, tmp_path: Path
) -> None:
    run = write_trained(store, tmp_path, "stoat", "toy")
    assert run.targets == "pooled"
    predict(store, "stoat", from_2d=True)
    predict(store, "stoat", weight_2d=0.5)
    rows = store.execute(
        "SELECT instance_a, instance_b, embedding::real[] FROM pair_feature"
        " WHERE scan_id = %s AND encoder_id = %s",
        [find_scan(store, SCAN).scan_id, find_encoder(store, "toy").encoder_id],
    )
    features = {(a, b): np.array(embedding) for a, b, embedding in rows}
    of_points = student(store, run)[1]
    alone, both = edges(store, "stoat:teacher"), edges(store, "stoat:fused-0.5")
    assert features
    assert alone.keys() == features.keys() | {pair[::-1] for pair in features}
    for pair, edge in alone.items():
        feature = features[min(pair), max(pair)]
        close(edge.embedding, feature, atol=HALF)
        close(both[pair].embedding, unit(unit(feature) + unit(of_points[pair])), atol=2 * HALF)
    assert find_prediction(store, "stoat:teacher").relation_words == find_encoder(store, "toy")


def test_learnt_classes_keep_their_scores(store: Database, tmp_path: Path) -> None:
    run = write_trained(store, tmp_path, "badger", None, "classes")
    predict(store, "badger")
    of_points = student(store, run)[1]
    found = edges(store, "badger:fused-0.5")
    assert sorted(found) == PAIRS
    for pair, edge in found.items():
        assert edge.embedding is None
        assert edge.origin == "student"
        close(edge.scores, of_points[pair], atol=1e-5)
    counts = predict(store, "badger", from_2d=True)
    assert (counts["edges"], counts["edges_left_out"]) == (0, len(PAIRS))
    mapped = store.execute(
        "SELECT predicate, similarity FROM map_predicates_v1('badger:fused-0.5', '3rscan-predicates', 1, %s)"
        " WHERE (subject, object) = (%s, %s)",
        [SCAN, *PAIRS[0]],
    ).fetchall()
    best = int(of_points[PAIRS[0]].argmax())
    assert run.predicates is not None
    assert mapped == [(run.predicates[best], pytest.approx(of_points[PAIRS[0]][best], abs=1e-5))]


@pytest.fixture
def speaking(store: Database, tmp_path: Path) -> StoredRun:
    """A run that learnt the tokens of an encoder that speaks."""
    encoder = find_encoder(store, "toycaptions")
    with store.transaction():  # of one pair there is no picture
        clear_pair_features(store, find_scan(store, SCAN).scan_id, encoder.encoder_id, [PAIRS[0]])
    return write_trained(store, tmp_path, "parrot", "toycaptions", "tokens")


def test_an_encoder_speaks_of_what_the_student_and_the_pictures_say(
    store: Database, speaking: StoredRun
) -> None:
    labels, pictures, learnt = dict(mini.LABELS), tokens(store), student(store, speaking)[1]
    assert len(pictures) == len(PAIRS) - 2
    predict(store, "parrot", from_2d=True, gt_objects=True)
    check_speech(store, "parrot:teacher", pictures, labels)
    predict(store, "parrot", weight_2d=0, gt_objects=True)
    check_speech(store, "parrot:student", learnt, labels)
    predict(store, "parrot", weight_2d=0.6, gt_objects=True)
    fused = {
        pair: grid
        if pair not in pictures
        else 0.6 * pictures[pair] + 0.4 * grid * np.linalg.norm(pictures[pair]) / np.linalg.norm(grid)
        for pair, grid in learnt.items()
    }
    told = check_speech(store, "parrot:fused-0.6", fused, labels)
    assert {pair for pair, edge in told.items() if edge.origin == "fused"} == pictures.keys()
    assert find_prediction(store, "parrot:student").relation_words == find_encoder(store, "toy")


def test_what_was_said_by_labels_goes_with_them(store: Database, speaking: StoredRun) -> None:
    by_labels = Predict(PredictOptions("parrot", from_2d=True, gt_objects=True, label="by-labels"))
    by_classes = Predict(PredictOptions("parrot", from_2d=True))
    for step in (by_labels, by_classes):
        step(store, SCAN)
    before, renamed = edges(store, "parrot:teacher").keys(), 4
    scan = find_scan(store, SCAN)
    Correct({scan.key: {renamed: "a lamp"}})(store, scan.key)
    assert edges(store, "parrot:teacher").keys() == before
    assert edges(store, "parrot:by-labels").keys() == {pair for pair in before if renamed not in pair}
    assert (list(by_labels.parts(store, SCAN)), list(by_classes.parts(store, SCAN))) == ([None], [])
    by_labels(store, SCAN)
    check_speech(store, "parrot:by-labels", tokens(store), {**mini.LABELS, renamed: "a lamp"})


def test_it_calls_things_by_their_nearest_class(store: Database, speaking: StoredRun) -> None:
    words = Predict(PredictOptions("parrot", from_2d=True))
    words(store, SCAN)
    words.close(store)
    nearest = store.execute(
        "SELECT instance, term FROM classify_predictions_v1('parrot:teacher', '3rscan-classes', 1, %s)",
        [SCAN],
    ).fetchall()
    check_speech(store, "parrot:teacher", tokens(store), dict.fromkeys(mini.LABELS, "object") | dict(nearest))
    options = find_prediction(store, "parrot").options
    assert options["beams"] == 5
    with pytest.raises(UserError, match="no vocabulary 'none such' in the store"):
        predict(store, "parrot", from_2d=True, vocabulary="none such", label="other")
    assert find_prediction(store, "parrot").label == "teacher", "nothing was left of that"
    with pytest.raises(UserError, match=r"beams 5, now 2.*--replace drops it"):
        predict(store, "parrot", from_2d=True, beams=2)


def test_nobody_speaks_of_tokens_that_nobody_reads(store: Database, tmp_path: Path) -> None:
    write_trained(store, tmp_path, "fish", "toytokens", "tokens")
    told = Predict(PredictOptions("fish"))(store, SCAN)
    assert [problem.kind for problem in told.problems] == ["relations_without_words"]
    assert (told.counts["edges"], told.counts["nodes"]) == (0, len(mini.LABELS))


def test_a_newer_checkpoint_is_refused_or_replaces_or_stands_beside(
    store: Database, run: StoredRun, tmp_path: Path
) -> None:
    predict(store, weight_2d=0)
    before = nodes(store, "otter:student")
    settled = Predict(PredictOptions("otter", weight_2d=0)).settle(store)
    write_checkpoint(store, tmp_path, run, 2)
    with pytest.raises(UserError, match=r"otter:student was predicted otherwise .*step 1, now 2.: --replace"):
        predict(store, weight_2d=0)
    assert settled(store, SCAN).skipped, "it is bound to the checkpoint that was the best when it began"
    predict(store, weight_2d=0, label="later")
    later = nodes(store, "otter:later")
    assert not np.allclose(later[1].embedding, before[1].embedding, atol=HALF)
    np.testing.assert_array_equal(nodes(store, "otter:student")[1].embedding, before[1].embedding)
    anew = Predict(PredictOptions("otter", weight_2d=0), replace=True)
    assert not anew(store, SCAN).skipped
    assert anew(store, SCAN).skipped
    np.testing.assert_array_equal(nodes(store, "otter:student")[1].embedding, later[1].embedding)
    assert find_prediction(store, "otter:student").checkpoint_step == 2


def test_it_is_done_again_where_what_it_is_made_of_is(store: Database, run: StoredRun) -> None:
    both, points = (Predict(PredictOptions("otter", weight_2d=weight)) for weight in (0.5, 0))
    for work in (both, points):
        assert not work(store, SCAN).skipped
        assert work(store, SCAN).skipped
    DumpNodes(FeatureOptions("toy"), force=True)(store, SCAN)
    assert both.parts(store, SCAN) == [None]
    assert points.parts(store, SCAN) == [], "the student looks at no features"
    assert not both(store, SCAN).skipped
    assert both(store, SCAN).skipped
    assert not replace(both, force=True)(store, SCAN).skipped


def test_what_was_predicted_of_instances_that_changed_goes_with_them(store: Database, run: StoredRun) -> None:
    work = Predict(PredictOptions("otter"))
    for scan in (SCAN, OTHER):
        work(store, scan)
    changed = min(mini.LABELS)
    with store.transaction():  # as when the scan is ingested again, with a point more of it
        drop_instances(store, find_scan(store, SCAN).scan_id, [changed], DOWNSTREAM)
    assert nodes(store, "otter").keys() == mini.LABELS.keys() - {changed}
    assert edges(store, "otter")
    assert not any(changed in pair for pair in edges(store, "otter"))
    assert (work.parts(store, SCAN), work.parts(store, OTHER)) == ([None], [])


def test_words_may_be_those_of_another_encoder_of_the_space(store: Database, run: StoredRun) -> None:
    predict(store, from_2d=True, node_model="toypixels")
    assert find_prediction(store, "otter").node_words == find_encoder(store, "toypixels")
    with pytest.raises(psycopg.errors.NoDataFound, match="have no embedding by toypixels@"):
        store.execute("SELECT * FROM classify_predictions_v1('otter', '3rscan-classes', 1)")
    assert Predict(PredictOptions("otter", from_2d=True, node_model="toypixels")).close(store) == ()
    assert store.execute("SELECT * FROM classify_predictions_v1('otter', '3rscan-classes', 1)").fetchall()
    with pytest.raises(UserError, match="toywords embeds words as 8 numbers, the nodes of otter have 4"):
        predict(store, node_model="toywords")


def test_instances_that_no_frame_shows_are_predicted_where_asked(store: Database, run: StoredRun) -> None:
    hidden = max(mini.LABELS)
    store.execute(
        "DELETE FROM observation WHERE instance_no = %s AND scan_id = %s",
        [hidden, find_scan(store, SCAN).scan_id],
    )
    told = Predict(PredictOptions("otter", weight_2d=0))(store, SCAN)
    assert told.counts["nodes_left_out"] == len(mini.LABELS), "too few instances are seen for a unit"
    assert [problem.kind for problem in told.problems] == ["scan_without_nodes"]
    counts = predict(store, weight_2d=0, label="all", unseen=True)
    assert (counts["nodes"], counts["nodes_left_out"]) == (len(mini.LABELS), 0)
    expected = student(store, run, unseen=True)[0]
    close(nodes(store, "otter:all")[hidden].embedding, unit(expected[hidden]), atol=HALF)


def test_numbers_that_are_not_finite_are_told(store: Database, run: StoredRun, tmp_path: Path) -> None:
    write_checkpoint(store, tmp_path, run, 3, broken=True)
    with pytest.raises(
        UserError, match=f"step 3 of otter gives numbers that are not finite for {SCAN}, unit"
    ):
        predict(store, weight_2d=0)
    assert nodes(store, "otter:student") == {}
    predict(store, weight_2d=0, checkpoint="1")  # as it was told to; nothing has to be replaced for it
    assert nodes(store, "otter:student")


def test_a_device_that_is_not_there_is_told(store: Database, run: StoredRun) -> None:
    with pytest.raises(UserError, match=r"--device cuda:99: torch .* has no such device here, but cpu"):
        Predict(PredictOptions("otter", weight_2d=0), device="cuda:99")(store, SCAN)


def test_nothing_is_written_of_a_prediction_that_is_gone(
    store: Database, run: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ledger.record

    def too_late(*arguments: Any, **more: Any) -> None:
        write(*arguments, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "record", too_late)
    with pytest.raises(KeyboardInterrupt):
        predict(store, from_2d=True)
    monkeypatch.undo()
    assert nodes(store, "otter") == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weight_2d": 1.5}, "--weight-2d is 1.5: give 0"),
        ({"weight_2d": 0.5, "from_2d": True}, "leave out --weight-2d"),
        ({"checkpoint": "last", "from_2d": True}, "leave out --checkpoint"),
        ({"published": True, "from_2d": True}, "leave out --protocol"),
        ({"gt_objects": True, "vocabulary": "words"}, "leave out --vocabulary"),
        ({"label": "a:b"}, "--label is 'a:b': it must not be empty, nor hold : or /"),
        ({"beams": 3}, "no encoder speaks of the relations that otter learnt: leave out --n-beams"),
        ({"gt_objects": True}, "leave out --gt-objects"),
        ({"vocabulary": "3rscan-classes"}, "leave out --vocabulary"),
        ({"checkpoint": "17"}, "17"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(
    store: Database, run: StoredRun, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        predict(store, **options)
    assert store.execute("SELECT count(*) FROM prediction").fetchall() == [(0,)]


def test_a_scan_without_units_and_a_run_that_is_none_are_told(store: Database, run: StoredRun) -> None:
    with pytest.raises(UserError, match="no run 'oter' in the store; did you mean otter"):
        predict(store, "oter")
    store.execute("DELETE FROM subgraph WHERE scan_id = %s", [find_scan(store, SCAN).scan_id])
    with pytest.raises(UserError, match=f"{SCAN} has no training units: run `open3dsg graph build"):
        predict(store)


def test_another_machine_does_the_same(store: Database, run: StoredRun) -> None:
    work = Predict(PredictOptions("otter", weight_2d=0.25), replace=True).settle(store)
    assert build("predict", describe("predict", work)) == work
    assert lacking_here(store, "predict", describe("predict", work), SCAN) is None
    gone = replace(work, options=replace(work.options, run="nobody"))
    assert "no run 'nobody'" in str(lacking_here(store, "predict", describe("predict", gone), SCAN))
