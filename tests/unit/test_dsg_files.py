"""Graphs of Spark-DSG: written for the package and read by it, made by it and read by us."""

from __future__ import annotations

import json
import os
import resource
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spark_dsg

from open3dsg.datasets.dsg import LARGEST_NUMBER, DsgReader, read_class_names
from open3dsg.datasets.scan import Box, Scan
from open3dsg.errors import BadFileError, UserError
from open3dsg.export.scene_graphs import graph_bytes
from open3dsg.query.graph import StoredGraph
from tests import scene_graphs as made

Graph = Any  # a spark_dsg.DynamicSceneGraph


def saved(graph: StoredGraph, folder: Path) -> Path:
    path = folder / "graph.dsg.json"
    path.write_bytes(graph_bytes(graph, "dsg"))
    return path


def read(path: Path, **options: Any) -> Scan:
    return DsgReader(path, "room", "made", **options).read("room")


def attributes(path: Path) -> dict[int, dict[str, set[str]]]:
    found: dict[int, dict[str, set[str]]] = {}
    told = DsgReader(path, "room", "made").attributes_of("room")
    for number, kind, word in () if told is None else told.rows:
        found.setdefault(number, {}).setdefault(kind, set()).add(word)
    return found


def test_spark_dsg_opens_what_we_write(tmp_path: Path) -> None:
    graph = spark_dsg.DynamicSceneGraph.load(str(saved(made.room(), tmp_path)))
    assert (graph.num_nodes(), graph.num_edges()) == (4, 3)  # one edge a pair
    table = graph.get_node(spark_dsg.NodeSymbol("O", 4).value)
    assert graph.get_layer_key("OBJECTS").layer == table.layer.layer
    assert table.attributes.name == "table"
    names = graph.get_labelspace(table.layer.layer, table.layer.partition)
    assert names.get_node_category(table) == "table"
    np.testing.assert_allclose(table.attributes.position, [1.0, 0.5, 0.4])
    box = table.attributes.bounding_box
    assert box.type == spark_dsg.BoundingBoxType.AABB
    np.testing.assert_allclose(box.min, [0.9, 0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(box.max, [1.1, 0.7, 0.7], atol=1e-6)
    assert graph.metadata.get()["open3dsg"] == {
        "dataset": "made", "scan": "room-1", "prediction": "run:first",
    }  # fmt: skip


def test_an_oriented_box_holds_what_it_held(tmp_path: Path) -> None:
    graph = spark_dsg.DynamicSceneGraph.load(str(saved(made.room(), tmp_path)))
    box = graph.get_node(spark_dsg.NodeSymbol("O", 7).value).attributes.bounding_box
    assert box.type == spark_dsg.BoundingBoxType.OBB
    # 0.4 m long along y, 0.2 along -x, 0.6 along z, around (1.1, 0.5, 0.9).
    for point, inside in (((1.1, 0.69, 0.9), True), ((1.19, 0.5, 0.9), True), ((1.25, 0.5, 0.9), False)):
        assert box.contains(np.array(point, np.float32)) == inside


def test_all_relations_of_a_pair_are_on_its_edge(tmp_path: Path) -> None:
    graph = spark_dsg.DynamicSceneGraph.load(str(saved(made.room(), tmp_path)))
    cup, table = (spark_dsg.NodeSymbol("O", number).value for number in (7, 4))
    told = graph.get_edge(cup, table).info.metadata.get()["open3dsg"]["relations"]
    assert [(each["subject"], each["predicate"], each["object"]) for each in told] == [
        (cup, "standing on", table),
        (cup, "smaller than", table),
        (table, "bigger than", cup),
    ]


def test_what_we_write_we_read_back(tmp_path: Path) -> None:
    path = saved(made.room(), tmp_path)
    scan = read(path)
    assert scan.labels == {1: "floor", 4: "table", 7: "cup", 30: "lamp"}
    (subgraph,) = scan.subgraphs
    assert set(subgraph.relationships) == {(e.subject, e.object, e.predicate) for e in made.room().edges}
    assert scan.boxes.keys() == {1, 4, 7}  # nothing says where the lamp is
    for node in made.room().nodes[:3]:
        box = scan.boxes[node.instance]
        np.testing.assert_allclose(box.centroid_m, node.centroid_m or ())
        np.testing.assert_allclose(box.aabb_min_m or (), node.aabb_min_m or (), atol=1e-6)
        np.testing.assert_allclose(box.aabb_max_m or (), node.aabb_max_m or (), atol=1e-6)
    turned = scan.boxes[7]
    np.testing.assert_allclose(turned.obb_axes or (), made.AXES, atol=1e-6)
    np.testing.assert_allclose(turned.obb_lengths_m or (), (0.4, 0.2, 0.6), atol=1e-6)
    assert attributes(path)[4] == {"layer": {"objects"}, "node": {"O(4)"}, "color": {"brown", "dark"}}
    assert not scan.problems


def test_layers_come_back_as_they_were(tmp_path: Path) -> None:
    nodes = tuple(
        made.node(number, label, (1.0, 2.0, number), attributes={"layer": (layer,)})
        for number, label, layer in (
            (1, "cup", "objects"),
            (2, "place", "places"),
            (3, "kitchen", "rooms"),
            (4, "house", "buildings"),
        )
    )
    edges = (made.edge(1, "at", 2), made.edge(2, "in", 3), made.edge(3, "in", 4))
    path = saved(replace(made.room(), nodes=nodes, edges=edges), tmp_path)
    graph = spark_dsg.DynamicSceneGraph.load(str(path))
    for layer in ("OBJECTS", "PLACES", "ROOMS", "BUILDINGS"):
        assert graph.get_layer(layer).num_nodes() == 1
    kitchen = graph.get_node(spark_dsg.NodeSymbol("R", 3).value)
    assert kitchen.get_parent() == spark_dsg.NodeSymbol("B", 4).value
    assert read(path).labels == {1: "cup", 2: "place", 3: "kitchen", 4: "house"}
    assert {number: told["layer"] for number, told in attributes(path).items()} == {
        1: {"objects"}, 2: {"places"}, 3: {"rooms"}, 4: {"buildings"},
    }  # fmt: skip


def test_flat_boxes_are_boxes(tmp_path: Path) -> None:
    rug = replace(
        made.node(1, "rug", (1.0, 2.0, 0.0)), aabb_min_m=(0.0, 1.0, 0.0), aabb_max_m=(2.0, 3.0, 0.0)
    )
    slate = made.node(2, "slate", (1.0, 2.0, 1.0), turned=True)
    slate = replace(slate, obb_lengths_m=(0.4, 0.0, 0.6))
    scan = read(saved(replace(made.room(), nodes=(rug, slate), edges=()), tmp_path))
    assert scan.boxes[1] == Box([1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [2.0, 3.0, 0.0])
    np.testing.assert_allclose(scan.boxes[2].obb_lengths_m or (), (0.4, 0.0, 0.6), atol=1e-6)


def test_odd_names_are_kept(tmp_path: Path) -> None:
    scan = read(saved(made.odd(made.STORABLE), tmp_path))
    assert scan.labels == {2: made.STORABLE, 3: made.STORABLE}
    assert scan.subgraphs[0].relationships == [(2, 3, made.STORABLE)]


def hydra() -> Graph:
    """A graph such as Hydra makes: two objects at a place, a room, a building, and where the robot was."""
    graph = spark_dsg.DynamicSceneGraph()
    add(graph, "OBJECTS", ("O", 0), spark_dsg.ObjectNodeAttributes(), (1, 2, 3), 5)
    add(graph, "OBJECTS", ("O", 9), spark_dsg.ObjectNodeAttributes(), (1, 2, 4), 7)
    add(graph, "PLACES", ("p", 0), spark_dsg.PlaceNodeAttributes(), (1, 2, 2))
    add(graph, "PLACES", ("p", 4), spark_dsg.PlaceNodeAttributes(), (1, 3, 2))
    add(graph, "ROOMS", ("R", 0), spark_dsg.RoomNodeAttributes(), (1, 2, 2))
    add(graph, "BUILDINGS", ("B", 0), spark_dsg.SemanticNodeAttributes(), (1, 2, 2))
    for one, other in (
        (("p", 0), ("O", 0)),
        (("p", 0), ("O", 9)),
        (("p", 0), ("p", 4)),
        (("R", 0), ("p", 0)),
        (("B", 0), ("R", 0)),
    ):
        graph.insert_edge(spark_dsg.NodeSymbol(*one).value, spark_dsg.NodeSymbol(*other).value)
    return graph


def add(
    graph: Graph,
    layer: str,
    symbol: tuple[str, int],
    told: Any,
    at: tuple[float, ...],
    of_class: int | None = None,
) -> None:
    told.name, told.position = f"{symbol[0]}({symbol[1]})", np.array(at, float)
    if of_class is not None:
        told.semantic_label = of_class
        told.bounding_box = spark_dsg.BoundingBox(np.array([1, 1, 1], np.float32), np.array(at, np.float32))
    graph.add_node(layer, spark_dsg.NodeSymbol(*symbol), told)


def keep(graph: Graph, folder: Path, name: str = "hydra.json") -> Path:
    graph.save(str(folder / name))
    return folder / name


def test_a_graph_of_hydra_becomes_a_scan(tmp_path: Path) -> None:
    graph = hydra()
    graph.set_labelspace(spark_dsg.Labelspace({5: "chair"}), 2)
    path = keep(graph, tmp_path)
    scan = read(path)
    assert scan.cloud is None
    # Objects have their own numbers, so has a place; what would be a second 0 comes after all.
    assert scan.labels == {
        0: "chair", 9: "class 7", 10: "place", 4: "place", 11: "room", 12: "building",
    }  # fmt: skip
    assert set(scan.subgraphs[0].relationships) == {
        (0, 10, "at"),
        (9, 10, "at"),
        (10, 4, "connected to"),
        (4, 10, "connected to"),
        (10, 11, "in"),
        (11, 12, "in"),
    }
    assert scan.boxes[0] == Box([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], [1.5, 2.5, 3.5])
    assert scan.boxes[11] == Box([1.0, 2.0, 2.0])
    assert attributes(path)[11] == {"layer": {"rooms"}, "node": {"R(0)"}}
    assert [(each.kind, each.detail) for each in scan.problems] == [
        ("class_without_name", "room: object 9 is of class 7, which has no name")
    ]
    assert read(path, classes={5: "stool", 7: "lamp"}).labels[9] == "lamp"
    assert read(path, classes={5: "stool", 7: "lamp"}).labels[0] == "chair"  # the file's own names count


def test_binary_files_are_read_too(tmp_path: Path) -> None:
    of_json = DsgReader(keep(hydra(), tmp_path), "room", "made")
    of_binary = DsgReader(keep(hydra(), tmp_path, "hydra.sparkdsg"), "room", "made")
    assert of_binary.annotation_hash("room") == of_json.annotation_hash("room") is not None


def test_numbers_too_large_for_the_store_are_replaced(tmp_path: Path) -> None:
    graph = spark_dsg.DynamicSceneGraph()
    for layer, letter, number in (
        ("OBJECTS", "O", LARGEST_NUMBER),
        ("PLACES", "p", 2**40),
        ("ROOMS", "R", 3),
    ):
        add(graph, layer, (letter, number), spark_dsg.SemanticNodeAttributes(), (1, 2, 3))
    assert sorted(read(keep(graph, tmp_path)).labels) == [3, 4, 5]


def test_names_that_say_something_are_labels(tmp_path: Path) -> None:
    graph = hydra()
    graph.get_node(spark_dsg.NodeSymbol("R", 0).value).attributes.name = "kitchen"
    graph.get_node(spark_dsg.NodeSymbol("O", 9).value).attributes.name = "a mug"
    assert {"kitchen", "a mug"} <= set(read(keep(graph, tmp_path)).labels.values())


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    graph = hydra()
    graph.get_node(spark_dsg.NodeSymbol("O", 0).value).attributes.position = np.array([np.nan, 0, 0])
    robot = spark_dsg.AgentNodeAttributes()
    graph.add_layer(2, ord("a"), "robot")
    graph.add_node(spark_dsg.LayerKey(2, ord("a")), spark_dsg.NodeSymbol("a", 0), robot)
    graph.insert_edge(spark_dsg.NodeSymbol("p", 0).value, spark_dsg.NodeSymbol("a", 0).value)
    graph.mesh = spark_dsg.Mesh()
    graph.mesh.resize_vertices(3)
    scan = read(keep(graph, tmp_path, "hydra.sparkdsg"))
    told = {each.kind: each.detail for each in scan.problems}
    assert told["robot_left_out"] == "room: 1 poses of the robot with 1 edges: left out"
    assert told["mesh_left_out"] == "room: 3 vertices of the mesh: left out"
    assert told["place_not_finite"] == "room: the place of O(0): left out"
    assert 0 not in scan.boxes
    assert len(scan.labels) == 6


def test_places_whose_distances_would_overflow_are_none(tmp_path: Path) -> None:
    graph = hydra()
    graph.get_node(spark_dsg.NodeSymbol("O", 0).value).attributes.position = np.array([1e200, 0, 0])
    scan = read(keep(graph, tmp_path))
    assert [each.kind for each in scan.problems if "place" in each.kind] == ["place_not_finite"]
    assert 0 not in scan.boxes


def test_metadata_that_is_nothing_of_ours_says_nothing(tmp_path: Path) -> None:
    path = saved(made.room(), tmp_path)
    content = json.loads(path.read_text())
    for edge, spoilt in zip(content["edges"], (3, [1], {"open3dsg": "x"}), strict=True):
        edge["info"]["metadata"] = spoilt
    path.write_text(json.dumps(content))
    predicates = {predicate for _a, _b, predicate in read(path).subgraphs[0].relationships}
    assert predicates == {"connected to"}


def test_kinds_of_attributes_that_no_store_holds_are_passed_over(tmp_path: Path) -> None:
    kinds: dict[str, tuple[str, ...]] = {"": ("a",), " ": ("b",), "x" * 101: ("c",), "y" * 100: ("d",)}
    node = made.node(1, "cup", (1.0, 2.0, 3.0), attributes=kinds)
    told = attributes(saved(replace(made.room(), nodes=(node,), edges=()), tmp_path))
    assert told[1].keys() == {"layer", "node", "y" * 100}


@pytest.mark.parametrize("spoilt", [{"_l2p0": 3}, {"_l2p0": [[1]]}, {"_l2p0": [["x", "chair"]]}], ids=str)
def test_names_of_classes_that_are_damaged_are_told(tmp_path: Path, spoilt: dict[str, Any]) -> None:
    path = saved(made.room(), tmp_path)
    content = json.loads(path.read_text())
    content["metadata"]["labelspaces"] = spoilt
    path.write_text(json.dumps(content))
    with pytest.raises(BadFileError, match="its names of classes are damaged") as told:
        read(path)
    assert "\n" not in str(told.value)


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(UserError, match="there is no room in the folder for temporary files for room-1"):
            graph_bytes(made.room(), "dsg")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(UserError, match="there is no room in the folder for temporary files for room-1"):
        graph_bytes(made.room(), "dsg")


def test_relations_of_ours_that_were_spoilt_are_told(tmp_path: Path) -> None:
    path = saved(made.room(), tmp_path)
    content = json.loads(path.read_text())
    relations = [each["info"]["metadata"]["open3dsg"]["relations"] for each in content["edges"]]
    relations[0][0]["subject"] = 17
    relations[1][0] = "on"
    path.write_text(json.dumps(content))
    scan = read(path)
    assert Counter(each.kind for each in scan.problems) == {"relation_unclear": 2}
    assert len(scan.subgraphs[0].relationships) == len(made.room().edges) - 2


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"[1]", b"\x00\xff", b'{"nodes": [{"id": 1}], "edges": []}', b"null"]
)
@pytest.mark.parametrize("ending", [".json", ".sparkdsg"])
def test_files_that_are_none_are_told_in_one_line(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"spoilt{ending}"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match="no scene graph of Spark-DSG") as told:
        DsgReader(path, "room", "made")
    assert "\n" not in str(told.value)


def test_a_graph_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    for ending in (".json", ".sparkdsg"):
        whole = keep(hydra(), tmp_path, f"hydra{ending}").read_bytes()
        path = tmp_path / f"cut{ending}"
        for end in range(1, len(whole) - 1, len(whole) // 40):
            path.write_bytes(whole[:end])
            with pytest.raises(BadFileError):
                DsgReader(path, "room", "made")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b"])
def test_names_of_scans_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no scan name"):
        DsgReader(keep(hydra(), tmp_path), name, "made")


def test_names_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text('{"5": "chair", "11": "lamp"}')
    assert read_class_names(path) == {5: "chair", 11: "lamp"}
    for wrong in ('{"five": "chair"}', '{"5": 3}', "[]"):
        path.write_text(wrong)
        with pytest.raises(BadFileError):
            read_class_names(path)


def test_the_package_says_nothing_on_standard_output(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old = {"directed": False, "multigraph": False, "nodes": [], "edges": [], "mesh_edges": []}
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**old, "layer_ids": [2, 3, 4, 5], "mesh_layer_id": 1}))
    spark_dsg.DynamicSceneGraph.load(str(path))
    assert "outdated" in capfd.readouterr().out
    DsgReader(path, "room", "made")
    assert capfd.readouterr().out == ""


def test_the_real_apartment() -> None:
    given = os.environ.get("OPEN3DSG_REAL_DSG")
    if given is None:
        pytest.skip("OPEN3DSG_REAL_DSG does not name Hydra's apartment_dsg.json: not tested on a real graph")
    content = json.loads(Path(given).read_text())
    types = Counter(node["attributes"]["type"] for node in content["nodes"])
    robot = types.pop("AgentNodeAttributes")
    scan = read(Path(given))
    assert len(scan.labels) == len(scan.boxes) == types.total()
    assert Counter(scan.labels.values())["place"] == types["PlaceNodeAttributes"]
    assert f"{robot} poses of the robot" in "".join(each.detail for each in scan.problems)
    layers = {node["id"]: (node["attributes"]["type"], node["layer"]) for node in content["nodes"]}
    ends = [(layers[edge["source"]], layers[edge["target"]]) for edge in content["edges"]]
    kept = [pair for pair in ends if "AgentNodeAttributes" not in (pair[0][0], pair[1][0])]
    within = sum(one[1] == other[1] for one, other in kept)
    assert len(scan.subgraphs[0].relationships) == len(kept) + within
