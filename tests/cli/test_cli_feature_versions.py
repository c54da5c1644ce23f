"""`open3dsg features diff`, `drop`, `activate`, `export` and `import` through the installed command."""

from __future__ import annotations

import os
import pickle
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector

from open3dsg.db import ledger
from open3dsg.db.connect import connect
from tests import miniature as mini
from tests import open3dsg_files as published
from tests import toy_encoder
from tests.command import PROGRAM, Done
from tests.content import row_counts

Run = Callable[..., Done]
Refused = Callable[..., str]
Database = psycopg.Connection[Any]
KEY = f"3rscan/{mini.NAME}"
TOY = f"toy@{toy_encoder.Toy.revision}"
SCANS = (mini.NAME, mini.RESCAN, "mini-0003")


@pytest.fixture
def ingested(run: Run, root: Path, database: Database) -> Database:
    """Three scans, whose instances have the colours that they were made with as features."""
    assert run("ingest", "3rscan", root).code == 0
    encoder = add_encoder(database, toy_encoder.Toy.revision, active=True)
    colours = {thing.number: thing.rgb for thing in mini.ROOM if thing.number > 0}
    for scan_id, number in database.execute("SELECT scan_id, instance_no FROM instance").fetchall():
        if number in colours:
            vector = toy_encoder.embed_colours(np.array([colours[number]]) / 255)[0]
            add_node(database, encoder, scan_id, number, vector)
    return database


def add_encoder(database: Database, revision: str, *, active: bool = False) -> int:
    row = database.execute(
        "INSERT INTO encoder (name, revision, dimension, views, is_active) VALUES ('toy', %s, 4, 'crops', %s)"
        " RETURNING encoder_id",
        [revision, active],
    ).fetchone()
    assert row is not None
    return int(row[0])


def add_node(database: Database, encoder: int, scan_id: int, number: int, vector: Any) -> None:
    database.execute(
        "INSERT INTO node_feature VALUES (%s, %s, %s, %s, '{}', '{}', '{}')",
        [scan_id, encoder, number, HalfVector(vector)],
    )


def count(database: Database, table: str) -> int:
    return row_counts(database)[table]


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    folder = tmp_path / "preprocessed"
    for scan in SCANS[:2]:
        published.write_graph(folder, f"{scan}-1", [1, 2, 4, 7])
    published.write_graph(folder, f"{SCANS[2]}-1", [1, 2, 4])
    published.write_graph(folder, "elsewhere-0", [1, 2])
    return folder


def test_features_go_out_come_back_are_compared_activated_and_dropped(
    run: Run, ingested: Database, graphs: Path, tmp_path: Path
) -> None:
    nodes = count(ingested, "node_feature")
    assert nodes >= 12
    out = tmp_path / "out"
    exported = run("features", "export", out, "--graphs", graphs, "--encoder", "toy")
    assert (exported.code, exported.errors) == (0, [])
    assert exported.out.startswith(f"{out}: objects 11, objects_absent 0, scans 3, subgraphs 3")
    assert "1 scan (elsewhere): not in the store" in exported.err
    again = run(
        "features", "export", out, "--graphs", graphs, "--encoder", "toy", "--scan", mini.NAME, "--json"
    )
    assert again.json["counts"] == {"scans": 1, "subgraphs": 0, "subgraphs_there": 1}
    back = ("features", "import", out, "--graphs", graphs, "--encoder", "toy", "--revision", "back")
    imported = run(*back)
    assert (imported.code, imported.out.splitlines()[0][:14]) == (0, "import: 3 done")
    assert (
        "toy means another revision; for these say toy@back, or `open3dsg features activate" in imported.err
    )
    assert "1 scan (elsewhere): not in the store: ingest them and run this again" in imported.err
    assert run(*back, "--json").json["scans"] == {"done": 0, "skipped": 3, "failed": 0}
    assert count(ingested, "node_feature") == nodes + 11
    told = run("features", "diff", "toy", "toy@back", "--json").json
    assert (told["both"], told["only_b"], told["largest"] < 1e-3) == (11, 0, True)
    lines = run("features", "diff", "toy", "toy@back", "--most", 2).out.splitlines()
    assert lines[2].split() == ["nodes", "of", "both", "11"]
    assert lines[-2].split()[1].startswith("3rscan/mini-")
    activated = run("features", "activate", "toy@back")
    assert activated.out == f"toy means toy@back now; before, {TOY}\n"
    assert activated.err == (
        f"warning: toy@back has 11 nodes and 0 pairs, {TOY} {nodes} and 0: queries find nothing of the"
        " others\n"
    )
    assert run("features", "activate", "toy").out == "toy means toy@back already, and goes on doing so\n"
    (hit,) = run("query", "nodes", "red", "--scan", mini.NAME, "-k", 1, "--json").json
    assert hit["label"] == "picture"
    dropped = run("features", "drop", "toy", "--yes")
    assert dropped.out.splitlines()[0] == "dropped 11 nodes, 0 pairs, 0 captions of toy@back"
    assert f"toy means nothing now: open3dsg features activate {TOY}" in dropped.err
    assert count(ingested, "node_feature") == nodes
    assert run("features", "activate", TOY, "--json").json == {
        "now": {"encoder": TOY, "nodes": nodes, "pairs": 0},
        "before": None,
    }


def test_drop_asks_and_may_be_narrowed(
    run: Run, refused: Refused, ingested: Database, variables: dict[str, str]
) -> None:
    other = add_encoder(ingested, "other")
    assert "this would drop" in refused("features", "drop", "toy")
    assert "say --yes" in refused("features", "drop", "toy")
    assert f"{TOY} has none of that" in refused("features", "drop", "toy", "--pairs", "--yes")
    assert "no dataset 'scannet'" in refused("features", "drop", "toy", "--dataset", "scannet", "--yes")
    assert "name another revision of toy" in refused("features", "drop", TOY, "--activate", TOY, "--yes")
    assert "no features of an encoder 'no'" in refused("features", "drop", "no", "--yes")
    assert answered(variables, "n\n", "features", "drop", "toy") == 1
    before = count(ingested, "node_feature")
    told = run("features", "drop", "toy", "--scan", mini.NAME, "--nodes", "--yes", "--json").json
    assert (told["scans"], told["encoder_gone"], told["indexes"]) == (1, False, [])
    assert told["dropped"] == {"nodes": before - count(ingested, "node_feature")}
    assert answered(variables, "y\n", "features", "drop", "toy", "--activate", "toy@other") == 0
    assert count(ingested, "node_feature") == 0
    rows = ingested.execute("SELECT encoder_id, is_active FROM encoder WHERE name = 'toy'").fetchall()
    assert rows == [(other, True)]


def answered(variables: dict[str, str], answer: str, *arguments: str) -> int:
    """Run a command on a terminal, where it asks, and return its exit status."""
    own, other = pty.openpty()
    try:
        os.write(own, answer.encode())
        done = subprocess.run(
            [PROGRAM, *arguments], check=False, stdin=other, capture_output=True, env=variables, timeout=120
        )
    finally:
        os.close(own)
        os.close(other)
    return done.returncode


def test_scans_at_work_are_left_and_named(run: Run, ingested: Database, database_url: str) -> None:
    with connect(database_url) as other:
        other.autocommit = True
        with ledger.scan_lock(other, "3rscan", mini.NAME):
            done = run("features", "drop", "toy", "--yes")
    assert done.code == 2
    assert done.errors == [
        f"error: {KEY}: someone is at work on scan {KEY}: run the same command again later"
    ]
    assert count(ingested, "node_feature") > 0
    assert run("features", "drop", "toy", "--yes").code == 0
    assert count(ingested, "node_feature") == count(ingested, "encoder") == 0


class Runs:
    def __init__(self, done: Path) -> None:
        self.done = done

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.done),)


def test_what_cannot_be_is_one_line(
    refused: Refused, ingested: Database, graphs: Path, tmp_path: Path
) -> None:
    out, absent = tmp_path / "out", tmp_path / "absent"
    to = ("features", "export", out, "--graphs", graphs)
    assert "nothing to export: say --encoder" in refused(*to)
    assert "no features of an encoder 'other'" in refused(*to, "--encoder", "other")
    assert "no such folder; --graphs" in refused(
        "features", "export", out, "--graphs", absent, "--encoder", "toy"
    )
    assert f"no scan {'x'!r}" in refused(*to, "--encoder", "toy", "--scan", "x")
    back = ("features", "import", absent, "--graphs", graphs)
    assert "nothing to import: say --encoder" in refused(*back)
    assert f"{absent}: no such folder" in refused(*back, "--encoder", "toy")
    assert "no encoder is called 'other'" in refused(
        *back[:2], _dumped(tmp_path), *back[3:], "--encoder", "other"
    )
    (graphs / mini.NAME / "data_dict_1.pkl").write_bytes(pickle.dumps(Runs(tmp_path / "done")))
    line = refused(*to, "--encoder", "toy", "--scan", mini.NAME)
    assert "data_dict_1.pkl: would run posix.mkdir, which is refused" in line
    assert not (tmp_path / "done").exists()
    assert "they are not of one space" in refused("features", "diff", "toy", _other_space(ingested))
    assert "no features of an encoder 'toy@x'" in refused("features", "activate", "toy@x")


def _dumped(folder: Path) -> Path:
    import torch

    published.write_objects(folder / "dumped", f"{mini.NAME}-1", torch.ones(4, 4))
    return folder / "dumped"


def _other_space(database: Database) -> str:
    add_encoder(database, "wide")
    database.execute("UPDATE encoder SET dimension = 8 WHERE revision = 'wide'")
    return "toy@wide"
