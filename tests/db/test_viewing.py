"""What the viewer asks of the store, the connections it asks by, and what it tells of a choice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psycopg
import pytest

from open3dsg.errors import UserError
from open3dsg.query.graph import read_graph
from open3dsg.query.viewing import (
    count_instances,
    encoders_with_features,
    frames_of_both,
    has_points,
    may_correct,
    nearest_terms,
    scans_to_view,
)
from open3dsg.store.corrections import correct_label
from open3dsg.store.scans import StoredScan, find_scan
from open3dsg.view.browser import connections as lending
from open3dsg.view.browser.connections import Connections, DatabaseAwayError
from open3dsg.view.browser.details import read_edge, read_node, tell_edge, tell_node
from open3dsg.view.browser.question import Source, ask, similarities
from open3dsg.view.browser.room import Room, overview, read_room, stand_for
from tests.db import trained
from tests.db.pipeline import Database

EVIL = '<img src=x onerror="a()">'
NEAR = Source(encoder=trained.NODES)


@pytest.fixture
def scan(store: Database) -> StoredScan:
    return find_scan(store, trained.key(1))


@pytest.fixture
def connections(store_url: str) -> Iterator[Connections]:
    lent = Connections(store_url, most=2)
    yield lent
    lent.close()


def room_of(store: Database, scan: StoredScan, max_points: int = 10**6) -> Room:
    return read_room(store, scan, read_graph(store, scan.key), max_points)


def test_what_there_is_to_view(store: Database, scan: StoredScan) -> None:
    assert scans_to_view(store) == [trained.key(number) for number in (1, 2, 3)]
    assert count_instances(store) == store.execute("SELECT count(*) FROM v_node").fetchall()[0][0]
    assert encoders_with_features(store) == [trained.NODES]
    assert has_points(store, scan)


def test_who_may_correct(store: Database) -> None:
    assert may_correct(store)
    store.execute("SET ROLE open3dsg_reader")
    assert not may_correct(store)
    store.execute("SET ROLE open3dsg_writer")
    assert may_correct(store)
    store.execute("SET default_transaction_read_only = on")
    assert not may_correct(store)


def test_nearest_terms_are_those_of_the_largest_cosine(store: Database, scan: StoredScan) -> None:
    feature = store.execute(
        "SELECT f.embedding FROM node_feature f WHERE f.scan_id = %s AND f.instance_no = 2", [scan.scan_id]
    ).fetchall()[0][0]
    words = store.execute(
        "SELECT t.text, te.embedding FROM term t JOIN term_embedding te USING (term_id)"
        " JOIN encoder e USING (encoder_id) JOIN vocabulary_term vt USING (term_id)"
        " JOIN vocabulary v USING (vocabulary_id) WHERE v.name = '3rscan-classes' AND e.name = %s",
        [trained.NODES],
    ).fetchall()
    cosines = {text: float(np.dot(feature.to_list(), vector.to_list())) for text, vector in words}
    found = nearest_terms(store, scan, 2, trained.NODES, "3rscan-classes", 3)
    assert [term.similarity for term in found] == pytest.approx(sorted(cosines.values())[:-4:-1], abs=2e-3)
    assert [cosines[term.text] for term in found] == pytest.approx(
        [term.similarity for term in found], abs=2e-3
    )
    assert nearest_terms(store, scan, 999, trained.NODES, "3rscan-classes", 3) == []
    with pytest.raises(UserError, match="no vocabulary 'nothing'"):
        nearest_terms(store, scan, 2, trained.NODES, "nothing", 3)


def test_frames_of_both_show_both(store: Database, scan: StoredScan) -> None:
    rows = store.execute(
        "SELECT instance_no, frame_no, visibility_ratio FROM observation WHERE scan_id = %s", [scan.scan_id]
    ).fetchall()
    seen = {(instance, frame): ratio for instance, frame, ratio in rows}
    least = {
        frame: min(seen[2, frame], seen[4, frame])
        for instance, frame in seen
        if instance == 2 and (4, frame) in seen
    }
    found = frames_of_both(store, scan, 2, 4, 10)
    assert {one.frame_no for one in found} == set(least)
    assert [least[one.frame_no] for one in found] == sorted(least.values(), reverse=True)
    assert all(one.box_a.shape == one.box_b.shape == (4,) for one in found)
    assert len(frames_of_both(store, scan, 2, 4, 1)) == 1


def test_what_is_lent_for_reading_changes_nothing_and_is_kept(connections: Connections) -> None:
    with connections.reading() as first:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            first.execute("DELETE FROM scan")
        with connections.reading() as second:
            assert first is not second
    with connections.reading() as again:
        assert again in (first, second)
    with connections.writing() as writer:
        assert writer.execute("DELETE FROM term_embedding").rowcount > 0


def test_a_database_that_goes_away_is_told_and_comes_back(connections: Connections, store: Database) -> None:
    gone = pytest.raises(DatabaseAwayError, match="terminating connection")
    with gone, connections.reading() as lent:
        store.execute("SELECT pg_terminate_backend(%s)", [lent.info.backend_pid])
        lent.execute("SELECT 1")
    with connections.reading() as lent:
        assert lent.execute("SELECT 1").fetchone() == (1,)
    nowhere = Connections("postgresql:///nothing?host=/nowhere")
    with pytest.raises(DatabaseAwayError, match="cannot connect"), nowhere.reading():
        pass


def test_what_takes_too_long_is_given_up(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "_PATIENCE_S", 0.1)
    with pytest.raises(UserError, match="took over"), connections.reading() as lent:
        lent.execute("SELECT pg_sleep(30)")
    busy = pytest.raises(UserError, match="busy with other questions")
    with connections.reading(), connections.reading(), busy, connections.reading():
        pass


def test_a_room_is_drawn_from_what_is_stored(store: Database, scan: StoredScan) -> None:
    room = room_of(store, scan, 40)
    assert room.is_thinned
    far, near = room.far_points(), room.near_points(np.zeros(3), 100.0)
    assert (len(far), len(near)) == (20, 20)
    assert not {*far.tolist()} & {*near.tolist()}
    lines = room.boxes_of([2, 4, 12345])
    assert lines.shape == (24, 2, 3)
    for number, ours in ((2, lines[:12]), (4, lines[12:])):
        points = room.cloud.xyz_m[room.cloud.instance == number]
        assert ours[..., 2].min() == pytest.approx(points[:, 2].min(), abs=1e-4)
        assert ours[..., 2].max() == pytest.approx(points[:, 2].max(), abs=1e-4)
    pairs = list(room.edges)
    drawn = room.arrows_of(pairs)
    for (subject, object_), line in zip(pairs, drawn.lines, strict=True):
        for end, instance in zip(line, (subject, object_), strict=True):
            node = room.nodes[instance]
            assert node.centroid_m is not None
            assert node.aabb_max_m is not None
            np.testing.assert_allclose(end[:2], node.centroid_m[:2], atol=0.05)
            assert node.aabb_max_m[2] < end[2] < node.aabb_max_m[2] + 0.1  # where it can be clicked
    drawn_in = room.by_size(far)
    assert sorted(np.concatenate([part for _, part in drawn_in]).tolist()) == sorted(far.tolist())
    assert replace(room, order=room.order[:0]).by_size(room.order[:0]) == []
    for position, look_at in (overview(room), stand_for(room, np.array(room.nodes[2].centroid_m), 0.5)):
        assert position[2] > look_at[2]


def test_questions_are_those_of_the_query_commands(store: Database, scan: StoredScan) -> None:
    answer = ask(store, "red", NEAR, scan.key)
    assert answer.hits
    assert {hit.scan for hit in answer.hits} == {scan.key}
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    of_all = similarities(store, "red", NEAR, scan.key, 100)
    assert {hit.instance: hit.score for hit in answer.hits}.items() <= of_all.items()
    for text in ("a | b", "a|b|c|d"):
        with pytest.raises(UserError, match="three parts"):
            ask(store, text, NEAR, None)


def test_what_is_told_of_an_object_is_escaped_and_says_what_is_missing(
    store: Database, scan: StoredScan, tmp_path: Path
) -> None:
    number = correct_label(store, scan.key, 2, EVIL, EVIL)
    room = room_of(store, scan)
    details = tell_node(room, 2, read_node(store, room, 2, NEAR))
    assert details.told.markup.count("&lt;img") == 1
    assert "<img" not in details.told.markup
    assert "Nearest words" in details.told.markup
    assert [one.correction_id for one in details.corrections] == [number]
    assert details.pictures.frames
    assert details.pictures.crops is not None
    elsewhere = replace(room, scan=replace(scan, root=tmp_path / "gone"))
    away = tell_node(elsewhere, 2, read_node(store, elsewhere, 2, NEAR))
    assert not away.pictures.frames
    assert re.search("Not shown: .*: the folder of dataset", away.told.markup)


def test_what_is_told_of_a_relation(store: Database, scan: StoredScan) -> None:
    room = room_of(store, scan)
    pair = next(pair for pair in room.edges if frames_of_both(store, scan, *pair, 1))
    details = tell_edge(room, pair, read_edge(store, room, pair, NEAR))
    for edge in room.edges[pair]:
        assert edge.predicate in details.told.markup
    assert details.pictures.frames
    other = next((b, a) for a, b in room.edges if (b, a) not in room.edges)
    assert "nothing is said" in tell_edge(room, other, read_edge(store, room, other, NEAR)).told.markup
