"""Subgraphs as 3DSSG's files: what they hold, read again, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from open3dsg.datasets.annotations import AnnotationReader
from open3dsg.errors import UserError
from open3dsg.export.graphs import GraphFiles, read_graph_files, write_graph_files
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from tests import miniature as mini
from tests.content import content
from tests.db import made_room as made
from tests.db.pipeline import KEY, Database, ingest, rows

# What a reader of annotations writes.
TABLES = ("dataset", "scan", "subgraph", "subgraph_member", "relationship", "vocabulary", "vocabulary_term")


def annotate(database: Database, folder: Path, dataset: str = "3rscan") -> Counter[str]:
    """Read a folder of annotations as `ingest 3dssg` does; count its problems by kind."""
    reader = AnnotationReader(folder, dataset)
    step = Ingest(reader, dataset, "3rscan", None)
    kinds: Counter[str] = Counter()
    for name in reader.annotations.scans:
        kinds.update(problem.kind for problem in step(database, name).problems)
    step.close(database)
    return kinds


def told(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())


def build(database: Database, key: str, **options: Any) -> None:
    Graph(GraphOptions(instance_points=20, pair_points=20, **options))(database, key)


def test_the_files_hold_what_the_store_holds(database: Database, root: Path, tmp_path: Path) -> None:
    step = ingest(root)
    step(database, mini.NAME)
    step.close(database)
    build(database, KEY)
    found = read_graph_files(database, [KEY], full=False)
    out = tmp_path / "new" / "out"
    write_graph_files(out, found, overwrite=False)
    assert sorted(path.name for path in out.iterdir()) == sorted(found.names)
    assert found.as_json() == {
        "files": ["relationships_train.json", "train_scans.txt", "relationships.txt"],
        "scans": 1,
        "subgraphs": 1,
        "full_graphs": 0,
        "relationships": 4,
        "without": [],
    }
    neighbours = dict(rows(database, "SELECT instance_no::text, neighbours FROM instance_sample"))
    assert len(neighbours) == 4
    assert told(out, "relationships_train.json") == {
        "scans": [
            {
                "scan": mini.NAME,
                "split": 1,
                "objects": {str(number): label for number, label in mini.LABELS.items()},
                "relationships": [
                    [4, 1, 1, "close by"],
                    [4, 1, 2, "standing on"],
                    [4, 2, 1, "close by"],
                    [7, 2, 3, "hanging on"],
                ],
            }
        ],
        "neighbors": {mini.NAME: neighbours},
    }
    assert (out / "train_scans.txt").read_text() == f"{mini.NAME}\n"
    assert (out / "relationships.txt").read_text() == "none\nclose by\nstanding on\nhanging on\n"


def test_what_was_read_of_3dssg_is_read_again(database: Database, fresh: Database, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    second = mini.subgraph(
        split=3, objects={"7": "picture", "2": "wall"}, relationships=[[7, 2, 3, "hanging on"]]
    )
    flawed = mini.subgraph(scan=mini.RESCAN, relationships=[[4, 4, 1, "close by"], [9, 1, 1, "close by"]])
    mini.write_annotations(source, mini.subgraph(), second)
    mini.write_annotations(source, flawed, split="validation")
    assert annotate(database, source) == {"relationship_self": 1, "relationship_object_missing": 1}
    keys = [f"3rscan/{name}" for name in (mini.NAME, mini.RESCAN)]
    write_graph_files(out, read_graph_files(database, keys, full=False), overwrite=False)
    (out / "classes.txt").write_bytes((source / "classes.txt").read_bytes())
    assert annotate(fresh, out) == {}
    assert {t: content(fresh)[t] for t in TABLES} == {t: content(database)[t] for t in TABLES}
    assert {split for (split,) in rows(fresh, "SELECT split FROM scan")} == {"train", "validation"}


def test_a_predicate_beyond_the_list_keeps_an_id_of_its_own(database: Database, tmp_path: Path) -> None:
    made.ingest(database)
    write_graph_files(tmp_path, read_graph_files(database, [made.KEY], full=False), overwrite=False)
    first, second = told(tmp_path, "relationships_train.json")["scans"]
    assert [5, 2, 4, "beyond the list"] in first["relationships"]
    assert (second["split"], second["objects"]) == (
        4,
        {"1": "floor", "3": "table", "11": "book", "20": "shelf"},
    )
    assert (tmp_path / "relationships.txt").read_text().splitlines() == [*made.PREDICATES, "beyond the list"]


def test_graphs_of_whole_scans_are_a_file_of_their_own(database: Database, tmp_path: Path) -> None:
    made.ingest(database, split=None)
    build(database, made.KEY)
    build(database, made.KEY, full=True)
    found = read_graph_files(database, [made.KEY], full=True)
    assert (found.subgraphs, found.full_graphs) == (2, 1)
    write_graph_files(tmp_path, found, overwrite=False)
    (graph,) = told(tmp_path, "relationships_unsplit_full.json")["scans"]
    assert graph["split"] == 0
    assert set(graph["objects"]) == {str(number) for number in made.LABELS if number != made.EMPTY}
    given = {triple for subgraph in made.SUBGRAPHS for triple in subgraph.relationships}
    assert sorted((s, o, name) for s, o, _id, name in graph["relationships"]) == sorted(given)
    assert len(told(tmp_path, "relationships_unsplit.json")["scans"]) == 2
    assert (tmp_path / "unsplit_scans.txt").read_text() == "room\n"


def test_scans_without_subgraphs_are_named(database: Database, root: Path) -> None:
    mini.write_scan(root, "mini-0003")
    for name in (mini.NAME, "mini-0003"):
        ingest(root)(database, name)
    assert read_graph_files(database, [KEY, "3rscan/mini-0003"], full=False).without == ["3rscan/mini-0003"]
    with pytest.raises(UserError, match=r"none of the scans has a subgraph: run `open3dsg graph build`"):
        read_graph_files(database, ["3rscan/mini-0003"], full=False)


def test_predicates_of_two_datasets_do_not_mix(database: Database, root: Path) -> None:
    ingest(root)(database, mini.NAME)
    made.ingest(database)
    with pytest.raises(UserError, match=r"the datasets 3rscan, made: choose one with --dataset"):
        read_graph_files(database, [KEY, made.KEY], full=False)


def files(**documents: Any) -> GraphFiles:
    return GraphFiles(documents, {"a.txt": ["x"]}, 1, 1, 0, 0, [])


def test_a_file_that_is_there_is_not_overwritten_by_a_slip(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(UserError, match=r"a\.txt: is there already: give another --out, or --overwrite"):
        write_graph_files(tmp_path, files(b={}), overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    write_graph_files(tmp_path, files(b={}), overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "x\n"


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/out: cannot be made: "):
        write_graph_files(tmp_path / "file" / "out", files(), overwrite=False)


# The latter would share a file with the graphs of whole scans of `train`.
@pytest.mark.parametrize("split", ["../train", "train_full"])
def test_a_split_that_is_no_part_of_a_file_name(database: Database, split: str) -> None:
    made.ingest(database, split=split)
    with pytest.raises(UserError, match=f"scan room is of the split '{split}', which cannot be part"):
        read_graph_files(database, [made.KEY], full=False)


@pytest.mark.slow
def test_the_published_subset_is_read_again(database: Database, fresh: Database, tmp_path: Path) -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "3dssg_subset"
    if not folder.is_dir():
        pytest.skip(f"REAL DATA NOT TESTED: the published 3DSSG subset is not in {folder}")
    assert annotate(database, folder) == {"relationship_object_missing": 16, "relationship_self": 11}
    keys = [f"3rscan/{name}" for (name,) in rows(database, "SELECT name FROM scan")]
    found = read_graph_files(database, keys, full=False)
    assert (found.scans, found.subgraphs, found.relationships) == (1_335, 4_400, 92_417)
    write_graph_files(tmp_path, found, overwrite=False)
    (tmp_path / "classes.txt").write_bytes((folder / "classes.txt").read_bytes())
    assert annotate(fresh, tmp_path) == {}
    assert {t: content(fresh)[t] for t in TABLES} == {t: content(database)[t] for t in TABLES}
