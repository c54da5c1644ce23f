"""`open3dsg export graph`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import miniature as mini
from tests.command import Done


@pytest.fixture
def annotated(run: Callable[..., Done], tmp_path: Path) -> Callable[..., Done]:
    """A database that knows the annotations of two scans, one a split."""
    folder = tmp_path / "3DSSG"
    mini.write_annotations(folder, mini.subgraph())
    mini.write_annotations(folder, mini.subgraph(scan=mini.RESCAN), split="validation")
    assert run("ingest", "3dssg", folder).code == 0
    return run


def test_files_a_split_are_written(annotated: Callable[..., Done], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = annotated("export", "graph", "--out", out)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{out}: 2 scans, 2 subgraphs, 0 graphs of whole scans, 8 relations in ")
    assert sorted(path.name for path in out.iterdir()) == [
        "relationships.txt",
        "relationships_train.json",
        "relationships_validation.json",
        "train_scans.txt",
        "validation_scans.txt",
    ]
    told = json.loads((out / "relationships_validation.json").read_bytes())
    assert [graph["scan"] for graph in told["scans"]] == [mini.RESCAN]


def test_one_split_as_json(annotated: Callable[..., Done], tmp_path: Path) -> None:
    told = annotated("export", "graph", "--split", "train", "--out", tmp_path / "out", "--json").json
    assert told["files"] == ["relationships_train.json", "train_scans.txt", "relationships.txt"]
    assert (told["scans"], told["subgraphs"], told["relationships"]) == (1, 1, 4)


def test_mistakes_are_told_in_a_line(
    annotated: Callable[..., Done], refused: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    annotated("export", "graph", "--out", out)
    again = refused("export", "graph", "--out", out)
    assert "relationships_train.json: is there already" in again
    assert annotated("export", "graph", "--out", out, "--overwrite").code == 0
    assert "no dataset 'other'" in refused("export", "graph", "--dataset", "other", "--out", out)
    assert "'--out'" in refused("export", "graph")
