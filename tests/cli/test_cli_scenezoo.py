"""Datasets through scenezoo and the installed command: ingested, observed, and one line for what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import miniature as mini
from tests import scenezoo_miniature as zoo
from tests.command import OBSERVE, Done

Run = Callable[..., Done]
Database = psycopg.Connection[Any]

INGEST = ("ingest", "scenezoo")


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ScanNet++ with a second scene whose mesh is missing, Matterport3D with its lists beside it."""
    folder = tmp_path_factory.mktemp("a räum 雪")
    zoo.write_scannetpp(folder / "scannetpp")
    zoo.write_scannetpp_lists(folder / "scannetpp")
    broken = zoo.write_scannetpp(folder / "scannetpp", zoo.OTHER_SCENE)
    (broken / "scans" / "mesh_aligned_0.05.ply").unlink()
    zoo.write_matterport(folder / "matterport")
    zoo.write_matterport_lists(folder / "lists")
    return folder


def seen(database: Database, dataset: str) -> list[tuple[Any, ...]]:
    """Return what was seen of what in which frame, by label."""
    query = (
        "SELECT t.text, o.frame_no, o.visible_points, o.unique_pixels, o.pixel_box FROM observation o"
        " JOIN scan s USING (scan_id) JOIN dataset d USING (dataset_id)"
        " JOIN instance i ON i.scan_id = o.scan_id AND i.instance_no = o.instance_no"
        " JOIN term t ON t.term_id = i.label_id WHERE d.name = %s ORDER BY 1, 2"
    )
    return database.execute(query, (dataset,)).fetchall()


def test_one_scan_fails_and_the_others_go_on(run: Run, roots: Path, database: Database) -> None:
    done = run(*INGEST, "scannet++", roots / "scannetpp", "--jobs", 2)
    assert done.code == 2
    assert "ingest: 1 done, 0 already done, 1 failed" in done.out
    assert "frames_without_pose: 1, such as: 0a5c013435: 1 of 5 frames" in done.out
    (line,) = done.errors
    assert line.startswith(f"error: {zoo.OTHER_SCENE}: ")
    assert "Mesh file does not exist" in line
    assert "1 scans of the metadata have no folder here, such as ca0e09014e" in done.err
    assert database.execute("SELECT name, layout FROM dataset").fetchall() == [("scannetppv2", "scenezoo")]
    assert database.execute("SELECT name, split FROM scan").fetchall() == [(zoo.SCENE, "train")]
    assert ("scannetppv2-semantic_classes",) in database.execute("SELECT name FROM vocabulary").fetchall()


def test_scannetpp_is_seen_as_the_same_room_in_3rscan(run: Run, roots: Path, database: Database) -> None:
    mini.write_scan(roots / "3RScan")
    assert run("ingest", "3rscan", roots / "3RScan").code == 0
    assert run(*INGEST, "scannetppv2", roots / "scannetpp", "--scan", zoo.SCENE).code == 0
    assert run(*OBSERVE).code == 0
    expected = seen(database, "3rscan")
    assert len(expected) == 16
    assert seen(database, "scannetppv2") == expected


def test_matterport_is_seen(run: Run, roots: Path, database: Database) -> None:
    ingest = (*INGEST, "matterport3d", roots / "matterport", "--metadata", roots / "lists", "--dataset", "mp")
    ingested = run(*ingest, "--json").json
    assert ingested["counts"] == {"frames": 4, "instances": 4, "points": 320}
    assert ingested["problems"] == {}
    assert run(*ingest, "--json").json["scans"]["skipped"] == 1
    assert run(*OBSERVE).code == 0
    found = seen(database, "mp")
    for label in ("floor", "picture", "table", "wall"):
        frames = [row for row in found if row[0] == label]
        assert len(frames) == mini.FRAMES, label
        assert max(row[2] for row in frames) > mini.GRID**2 / 2, label


def test_the_queue_reads_them_too(run: Run, roots: Path, database: Database) -> None:
    submit = ("jobs", "submit", *INGEST, "scannetppv2", roots / "scannetpp", "--scan", zoo.SCENE)
    assert run(*submit).code == 0
    assert run("worker", "--until-empty").code == 0
    assert database.execute("SELECT count(*) FROM frame").fetchall() == [(mini.FRAMES,)]


def test_what_cannot_be_is_one_line(refused: Callable[..., str], roots: Path, tmp_path: Path) -> None:
    assert "no dataset 'scanet': give scannetppv2, arkitscenes" in refused(*INGEST, "scanet", tmp_path)
    assert "a reader of its own: open3dsg ingest scannet" in refused(*INGEST, "scannet", tmp_path)
    assert "no folder of a scan is here" in refused(*INGEST, "scannetppv2", tmp_path)
    assert "no folder of a scan is here" in refused(*INGEST, "arkitscenes", roots / "scannetpp")
    assert "no split 'val'; there are: train, validation, test" in refused(
        *INGEST, "scannetppv2", roots / "scannetpp", "--split", "val"
    )
    assert "category_mapping.tsv is needed: fetch https://" in refused(
        *INGEST, "matterport3d", roots / "matterport"
    )
