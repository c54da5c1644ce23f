"""ScanNet through the installed command: from its folders to an answer, and one line for what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from tests import miniature as mini
from tests import scannet_miniature as scannet
from tests.command import DUMP, OBSERVE, Done
from tests.scannet_miniature import NAME

Run = Callable[..., Done]
Database = psycopg.Connection[Any]

STEP = 3  # so that of its numbers 0, 3, 6 and 9 only one is a multiple of ten
LOOK = ("observe", *OBSERVE[3:])  # without --every


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans with frames in folders and in a `.sens` file, and one of the test split."""
    folder = tmp_path_factory.mktemp("a räum 雪") / "ScanNet"
    scannet.write_metadata(folder)
    scannet.write_scan(folder, NAME, step=STEP)
    scannet.write_scan(folder, scannet.VALIDATION, frames=None, sens=True, step=STEP)
    scannet.write_scan(folder, scannet.TEST, parent="scans_test", annotated=False, step=STEP)
    return folder


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    return database.execute(query.encode()).fetchall()


def test_from_folders_to_an_answer(run: Run, root: Path, database: Database) -> None:
    ingested = run("ingest", "scannet", root, "--sens-every", STEP, "--jobs", 2, "--json").json
    assert ingested["scans"] == {"done": 3, "skipped": 0, "failed": 0}
    assert ingested["counts"] == {"frames": 12, "instances": 8, "points": 960}
    assert ingested["problems"] == {"labels_missing": 1}
    observed = run(*LOOK, "--json").json
    assert observed["counts"]["frames"] == 12, "every frame that is given, other than 3RScan's every tenth"
    assert run(*LOOK, "--json").json["scans"]["skipped"] == 3
    assert run(*DUMP).code == 0
    (best, *_) = run("query", "nodes", "red", "-k", 2, "--json").json
    assert (best["label"], best["instance"]) == ("pictures", 0)
    xyz, _, _ = mini.points()
    np.testing.assert_allclose(best["position"], xyz[scannet.instances() == 0].mean(axis=0), atol=1e-5)
    splits = rows(database, "SELECT name, split FROM scan ORDER BY name")
    assert splits == [(NAME, "train"), (scannet.VALIDATION, "validation"), (scannet.TEST, "test")]
    assert rows(database, "SELECT layout FROM dataset") == [("scannet",)]
    names = {name for (name,) in rows(database, "SELECT name FROM vocabulary")}
    assert names >= {"scannet-nyu40", "scannet-scannet200", "scannet-raw"}


def test_both_kinds_of_frames_give_the_same_observations(run: Run, root: Path, database: Database) -> None:
    for scan in (NAME, scannet.VALIDATION):
        assert run("ingest", "scannet", root, "--sens-every", STEP, "--scan", scan).code == 0
    assert run(*LOOK).code == 0
    seen = rows(
        database,
        "SELECT s.name, o.instance_no, o.frame_no, o.visible_points, o.unique_pixels, o.pixel_box, o.pixels"
        " FROM observation o JOIN scan s USING (scan_id) ORDER BY 2, 3",
    )
    folders, sens = ([row[1:] for row in seen if row[0] == scan] for scan in (NAME, scannet.VALIDATION))
    assert len(folders) == 16
    assert folders == sens


def test_labels_are_an_option_that_is_not_changed_by_a_slip(run: Run, root: Path, database: Database) -> None:
    ingest = ("ingest", "scannet", root, "--scan", NAME, "--labels")
    labels = "SELECT t.text FROM instance i JOIN term t ON t.term_id = i.label_id ORDER BY i.instance_no"
    assert run(*ingest, "nyu40").code == 0
    assert rows(database, labels) == [("picture",), ("floor",), ("wall",), ("table",)]
    refused = run(*ingest, "raw")
    assert refused.code == 2
    assert "ingest was done with other options (labels nyu40, now raw)" in refused.err
    assert run(*ingest, "scannet200", "--replace").code == 0
    assert rows(database, labels) == [("picture",), ("floor",), ("wall",), ("coffee table",)]


def test_every_is_what_was_said(run: Run, root: Path) -> None:
    assert run("ingest", "scannet", root, "--scan", NAME).code == 0
    assert run(*LOOK, "--every", 10, "--json").json["counts"]["frames"] == 1
    assert "observe was done with other options (every 10, now 1)" in run(*LOOK).err


def test_what_cannot_be_is_one_line(
    refused: Callable[..., str], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    ingest = ("ingest", "scannet")
    assert "no folder of a scan is here" in refused(*ingest, outside)
    assert "is not under the root" in refused(*ingest, root, "--frames", outside)
    assert "--sens-every is 0: give 1 or more" in refused(*ingest, root, "--sens-every", 0)
    assert "no split 'val'; there are: train, validation, test" in refused(*ingest, root, "--split", "val")
    copy = tmp_path / "copy"
    shutil.copytree(root / "scans", copy / "scans")
    assert "--labels nyu40 needs scannetv2-labels.combined.tsv" in refused(
        *ingest, copy, "--labels", "nyu40", "--scan", NAME
    )
    shutil.copytree(root / "scans" / NAME, copy / NAME)
    assert "two scans of one name cannot be told apart" in refused(*ingest, copy, "--scan", NAME)
