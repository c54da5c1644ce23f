"""`export graph` of scene graphs, `ingest dsg` and boxes in GLB files, as people type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import trimesh

from tests import miniature as mini
from tests.command import Done

Run = Callable[..., Done]
Refused = Callable[..., str]


@pytest.fixture
def database_url(full_database_url: str) -> str:
    """Every step is done in the database of these tests."""
    return full_database_url


def test_a_file_a_scan_in_a_folder_that_is_made(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "räum" / "out"
    done = run("export", "graph", "--format", "json", "--scan", mini.NAME, "--out", out)
    assert done.code == 0, done.err
    name = f"{mini.NAME}.json"
    assert done.out == f"{out}: 1 scene graph with 4 nodes and 4 relations, such as {name}\n"
    assert [path.name for path in out.iterdir()] == [name]
    told = json.loads((out / name).read_bytes())
    assert [node["label"] for node in told["nodes"]] == [*mini.LABELS.values()]


def test_all_scans_of_a_dataset_and_features_of_an_encoder(run: Run, tmp_path: Path) -> None:
    told = run(
        "export", "graph", "--format", "pyg", "--dataset", "3rscan", "--encoder", "toy", "--out", tmp_path,
        "--json",
    ).json  # fmt: skip
    assert [each["scan"] for each in told["written"]] == [f"3rscan/mini-000{n}" for n in (1, 2, 3)]
    assert [each["edges"] for each in told["written"]] == [4, 0, 0]
    assert told["failures"] == {}
    content = torch.load(tmp_path / f"{mini.NAME}.pt", weights_only=True)
    assert content["x"].shape == (4, 4)
    assert content["has_x"].any()
    assert "edge_attr" not in content


def test_names_that_the_store_lacks_are_refused(refused: Refused, tmp_path: Path) -> None:
    command = ("export", "graph", "--format", "svg", "--out", tmp_path / "out")
    assert "no prediction 'none' in the store" in refused(*command, "--run", "none")
    assert "no scan 'none' in the store" in refused(*command, "--scan", "none")
    assert not (tmp_path / "out").exists()


def test_files_that_are_there_stay(run: Run, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / f"{mini.NAME}.dot"
    path.write_bytes(b"mine")
    command = ("export", "graph", "--format", "dot", "--scan", mini.NAME, "--out", tmp_path)
    assert "is there already: give another --out, or --overwrite" in refused(*command)
    assert path.read_bytes() == b"mine"
    assert run(*command, "--overwrite").code == 0
    assert path.read_bytes().startswith(b"digraph")


def test_a_graph_goes_out_and_comes_in(run: Run, refused: Refused, tmp_path: Path) -> None:
    assert run("export", "graph", "--format", "dsg", "--scan", mini.NAME, "--out", tmp_path).code == 0
    path = tmp_path / f"{mini.NAME}.dsg.json"
    first = run("ingest", "dsg", path)
    assert first.code == 0, first.err
    assert first.out.splitlines()[1] == "  attributes 8, boxes 4, objects 4, subgraphs 1, triples 4"
    listed = run("scans", "list", "--dataset", "dsg", "--json").json
    assert [(row["scan"], row["instances"], row["missing"]) for row in listed] == [(mini.NAME, 4, None)]
    again = ("export", "cloud", "--scan", f"dsg/{mini.NAME}")
    assert run(*again, "--boxes", tmp_path / "again.glb").code == 0
    names = {str(name) for name in trimesh.load_scene(tmp_path / "again.glb").graph.nodes_geometry}
    assert names == {f"{label} {number}" for number, label in mini.LABELS.items()}
    assert "has no points in the database" in refused(*again, tmp_path / "a.ply")
    path.write_bytes(path.read_bytes()[:-100])
    assert "no scene graph of Spark-DSG" in refused("ingest", "dsg", path)


def test_clouds_as_glb(run: Run, refused: Refused, tmp_path: Path) -> None:
    command = ("export", "cloud", "--scan", mini.NAME)
    done = run(*command, "--colours", "label", tmp_path / "room.glb")
    assert done.code == 0, done.err
    scene = trimesh.load_scene(tmp_path / "room.glb")
    sizes = {
        str(name): len(scene.geometry[scene.graph[name][1]].vertices) for name in scene.graph.nodes_geometry
    }
    assert sizes == {f"{label} {number}": 64 for number, label in mini.LABELS.items()} | {"background": 64}
    one = run(*command, "--boxes", "--instance", 4, tmp_path / "one.glb", "--json").json
    assert (one["boxes"], one["without_box"]) == (1, 0)
    only = ("--boxes", "--instances-only", tmp_path / "only.glb")
    assert "leave out --instances-only" in refused(*command, *only)
    assert "boxes are written to .glb files alone" in refused(*command, "--boxes", tmp_path / "boxes.ply")
    no_such = ("--boxes", "--instance", 99, tmp_path / "none.glb")
    assert "has no instance 99" in refused(*command, *no_such)
