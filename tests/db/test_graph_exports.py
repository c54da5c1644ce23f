"""Scene graphs out of the store and into it: what files are made of, and graphs of Spark-DSG as scans."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import torch

from open3dsg.datasets.dsg import DsgReader
from open3dsg.errors import UserError
from open3dsg.export.clouds import read_labelled_cloud
from open3dsg.export.pyg import read_embeddings
from open3dsg.export.scene_graphs import graph_bytes
from open3dsg.query.graph import StoredGraph, read_graph
from open3dsg.steps.ingest_dsg import GRAPHS, IngestGraph
from open3dsg.steps.status import scan_statuses
from open3dsg.steps.summary import Summary
from open3dsg.store.corrections import correct_label
from open3dsg.store.scans import find_scan
from tests import scene_graphs
from tests.db import made_room as made
from tests.db.judged_room import PREDICTED, RUN, fill
from tests.db.pipeline import Database, rows
from tests.db.predicted import unit_rows, write_encoder

DATASET = "graphs"


def ingest(database: Database, path: Path, scan: str = "room", **options: Any) -> Summary:
    """Read a file as `ingest dsg` does."""
    return IngestGraph(DsgReader(path, scan, DATASET), DATASET, GRAPHS, None, **options)(database, scan)


def saved(graph: StoredGraph, path: Path) -> Path:
    path.write_bytes(graph_bytes(graph, "dsg"))
    return path


def triples(graph: StoredGraph) -> set[tuple[int, str, int]]:
    return {(edge.subject, edge.predicate, edge.object) for edge in graph.edges}


def test_a_graph_becomes_a_scan_without_points(database: Database, tmp_path: Path) -> None:
    path = saved(scene_graphs.room(), tmp_path / "room.json")
    done = ingest(database, path)
    assert done.counts == {"subgraphs": 1, "objects": 4, "triples": 6, "boxes": 3, "attributes": 10}
    found = read_graph(database, f"{DATASET}/room")
    assert triples(found) == triples(scene_graphs.room())
    for was, now in zip(scene_graphs.room().nodes, found.nodes, strict=True):
        assert (now.instance, now.label, now.point_count) == (was.instance, was.label, 0)
        for name in ("centroid_m", "aabb_min_m", "aabb_max_m", "obb_centre_m", "obb_axes", "obb_lengths_m"):
            expected = getattr(was, name)
            assert (getattr(now, name) is None) == (expected is None), name
            if expected is not None:
                np.testing.assert_allclose(getattr(now, name), expected, atol=1e-6)
    assert found.nodes[1].attributes["color"] == ("brown", "dark")
    assert ingest(database, path).skipped


def test_what_a_scan_of_a_room_says_comes_back_through_a_file(database: Database, tmp_path: Path) -> None:
    fill(database)
    before = read_graph(database, made.KEY)
    ingest(database, saved(before, tmp_path / "room.json"), "again")
    after = read_graph(database, f"{DATASET}/again")
    assert [(n.instance, n.label) for n in after.nodes] == [(n.instance, n.label) for n in before.nodes]
    assert triples(after) == triples(before)
    placed = [(a.centroid_m, b.centroid_m) for a, b in zip(after.nodes, before.nodes, strict=True)]
    assert [a is None for a, _ in placed] == [b is None for _, b in placed]
    np.testing.assert_allclose(
        [a for a, _ in placed if a is not None], [b for _, b in placed if b is not None], atol=1e-6
    )


def test_another_graph_takes_its_place_only_where_that_is_asked_for(
    database: Database, tmp_path: Path
) -> None:
    room = scene_graphs.room()
    ingest(database, saved(room, tmp_path / "room.json"))
    renamed = (replace(room.nodes[0], label="carpet"), *room.nodes[1:3])
    changed = replace(room, nodes=renamed, edges=room.edges[:3])
    path = saved(changed, tmp_path / "changed.json")
    with pytest.raises(UserError, match="graphs/room holds another graph: --name gives this one a name"):
        ingest(database, path)
    assert len(read_graph(database, "room").nodes) == 4
    correct_label(database, "room", 4, "desk", "me")
    assert not ingest(database, path, replace=True).skipped
    found = read_graph(database, "room")
    assert [(node.instance, node.label) for node in found.nodes] == [(1, "carpet"), (4, "desk"), (7, "cup")]
    assert triples(found) == triples(changed)


@pytest.mark.parametrize("word", ["a\0b", "x" * 501])
def test_a_graph_with_a_word_that_no_store_holds_leaves_nothing(
    database: Database, tmp_path: Path, word: str
) -> None:
    room = scene_graphs.room()
    lamp = replace(room.nodes[3], attributes={"color": (word,)})
    path = saved(replace(room, nodes=(*room.nodes[:3], lamp)), tmp_path / "room.json")
    with pytest.raises(UserError, match="an attribute"):
        ingest(database, path)
    assert not rows(database, "SELECT FROM scan")


def test_nothing_more_is_to_be_done_with_it(database: Database, tmp_path: Path) -> None:
    ingest(database, saved(scene_graphs.room(), tmp_path / "room.json"))
    (status,) = scan_statuses(database, dataset=None, split=None, scan=None)
    assert status.missing is None
    assert status.row["instances"] == 4


def test_an_instance_with_points_has_a_place(database: Database, tmp_path: Path) -> None:
    ingest(database, saved(scene_graphs.room(), tmp_path / "room.json"))
    with pytest.raises(psycopg.errors.CheckViolation, match="instance_centroid_m_check"):
        database.execute("UPDATE instance SET point_count = 1 WHERE centroid_m IS NULL")
    with pytest.raises(psycopg.errors.CheckViolation):
        database.execute("UPDATE instance SET point_count = 1, centroid_m = NULL")


def test_instances_of_one_label_have_one_colour(database: Database) -> None:
    fill(database)
    database.execute(
        "UPDATE instance SET label_id = (SELECT label_id FROM instance WHERE instance_no = 3)"
        " WHERE instance_no = 5"
    )
    found = read_labelled_cloud(database, find_scan(database, made.KEY), colours="label")
    painted: dict[str, set[tuple[int, ...]]] = {}
    for number, label in found.labels.items():
        colours = np.unique(found.cloud.rgb[found.cloud.instance == number], axis=0)
        painted.setdefault(label, set()).update(map(tuple, colours.tolist()))
    assert {len(colours) for colours in painted.values()} == {1}
    assert len(set.union(*painted.values())) == len(painted) < len(found.labels)


def test_labels_of_clouds_are_as_corrected(database: Database) -> None:
    fill(database)
    first = next(iter(made.LABELS))
    correct_label(database, made.KEY, first, "divan", "me")
    found = read_labelled_cloud(database, find_scan(database, made.KEY)).labels
    assert found == {number: made.LABELS[number] for number in found} | {first: "divan"}
    assert len(found) > 1


def test_embeddings_are_those_of_the_run_or_the_encoder(database: Database) -> None:
    fill(database)
    of_run = read_embeddings(database, made.KEY, run=RUN)
    assert of_run.nodes is not None
    assert of_run.edges is not None
    told = dict(
        rows(database, "SELECT instance_no, embedding::text FROM node_prediction JOIN scan USING (scan_id)")
    )
    assert of_run.nodes.keys() == told.keys() != set()
    for number, vector in of_run.nodes.items():
        np.testing.assert_allclose(vector, json.loads(told[number]), atol=1e-3)
    predicted = rows(
        database, "SELECT subject_no, object_no FROM edge_prediction WHERE embedding IS NOT NULL"
    )
    assert set(of_run.edges) == set(predicted) != set()
    encoder = write_encoder(database, "seen", 4)
    features = unit_rows(3, 2, 4)
    numbers = sorted(made.LABELS)[:2]
    for table, columns, keys in (
        ("node_feature", "instance_no", [(numbers[0],)]),
        ("pair_feature", "instance_a, instance_b", [(numbers[0], numbers[1])]),
    ):
        for key in keys:
            database.execute(
                f"INSERT INTO {table} (scan_id, encoder_id, {columns}, embedding, frame_nos, boxes, weights)"
                f" SELECT scan_id, %s, {', '.join(map(str, key))}, %s::halfvec, '{{}}', '{{}}', '{{}}'"
                " FROM scan".encode(),
                [encoder.encoder_id, str(features[len(key) - 1].tolist())],
            )
    seen = read_embeddings(database, made.KEY, run=RUN, encoder="seen", pair_encoder="seen")
    assert seen.nodes is not None
    assert seen.edges is not None
    np.testing.assert_allclose(seen.nodes[numbers[0]], features[0], atol=1e-3)
    assert set(seen.edges) == {(numbers[0], numbers[1]), (numbers[1], numbers[0])}
    np.testing.assert_allclose(seen.edges[numbers[1], numbers[0]], features[1], atol=1e-3)
    with pytest.raises(UserError, match="no features of an encoder 'none'"):
        read_embeddings(database, made.KEY, encoder="none")
    assert read_embeddings(database, made.KEY).nodes is None


def test_what_a_run_predicts_goes_out_with_its_embeddings(database: Database) -> None:
    fill(database)
    graph = read_graph(database, made.KEY, run=RUN, classes="things", predicates="ways", k=2)
    vectors = read_embeddings(database, made.KEY, run=RUN)
    content = torch.load(io.BytesIO(graph_bytes(graph, "pyg", vectors)), weights_only=True)
    assert content["instance"][content["has_x"]].tolist() == list(PREDICTED)
    assert content["has_edge_attr"].all()
    assert content["edge_index"].shape == (2, len(graph.edges))
    assert [content["labels"][at] for at in content["label"]] == [node.label for node in graph.nodes]
    assert b"predicted" in graph_bytes(graph, "graphml")


def test_the_real_apartment(database: Database, tmp_path: Path) -> None:
    given = os.environ.get("OPEN3DSG_REAL_DSG")
    if given is None:
        pytest.skip("OPEN3DSG_REAL_DSG does not name Hydra's apartment_dsg.json: not tested on a real graph")
    ingest(database, Path(given))
    before = read_graph(database, "room")
    layers = Counter(node.attributes["layer"] for node in before.nodes)
    assert layers == {("objects",): 7, ("places",): 185, ("rooms",): 1, ("buildings",): 1}
    assert len(before.edges) == 935
    ingest(database, saved(before, tmp_path / "again.json"), "again")
    after = read_graph(database, "again")
    assert after.edges == before.edges
    for was, now in zip(before.nodes, after.nodes, strict=True):
        assert replace(now, aabb_min_m=was.aabb_min_m, aabb_max_m=was.aabb_max_m) == was
        if was.aabb_min_m is not None:
            # A box is kept there by its middle and lengths, in single precision.
            np.testing.assert_allclose(now.aabb_min_m or (), was.aabb_min_m, atol=1e-6)
            np.testing.assert_allclose(now.aabb_max_m or (), was.aabb_max_m or (), atol=1e-6)
