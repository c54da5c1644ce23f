"""Captions end to end: a command killed at random moments, and a language model in the true format."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.db.connect import connect
from open3dsg.encoders.registry import load_encoder
from open3dsg.encoders.tokens import TokenFormat, pack_tokens
from open3dsg.steps.captions import CaptionOptions, DumpCaptions
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.store.captions import find_captions
from open3dsg.store.encoders import register_encoder
from open3dsg.store.pair_features import PairFeature, write_pair_features
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests import toy_encoder
from tests.blip_miniature import DIMENSION, TOKENS, write_instructblip
from tests.command import GRAPH, OBSERVE, PROGRAM, call, environment
from tests.conftest import as_url
from tests.content import content
from tests.crash import PATIENCE_S, run_stage, wait_for

NAMES = [f"mini-{number:02}" for number in range(6)]
CAPTION = ("features", "caption", "--encoder", "geometry")
DONE = "SELECT count(*) FROM ledger WHERE step = 'features.captions'"


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_writes_what_one_clean_run_writes(
    template: str, new_database: Callable[..., str], tmp_path: Path
) -> None:
    variables = environment(tmp_path, "") | {"OPEN3DSG_ENCODERS": "[geometry]\ntext = 'toy'"}
    root = tmp_path / "3RScan"
    for name in NAMES:
        mini.write_scan(root, name)
    mini.write_annotations(root, *(mini.subgraph(scan=name) for name in NAMES))
    start = as_url(new_database("before_captions", template=template))
    for command in (("ingest", "3rscan", root), OBSERVE, GRAPH):
        done = call({**variables, "OPEN3DSG_DATABASE_URL": start}, *command)
        assert done.code == 0, done.err
    clean = as_url(new_database("with_captions", template="before_captions"))
    stage = run_stage(variables, clean, "captions", CAPTION, "before_captions")
    assert stage.clean["relation_caption"]
    rng = random.Random(5)
    for _ in range(4):
        url = as_url(new_database("killed", template="before_captions"))
        mine = variables | {"OPEN3DSG_DATABASE_URL": url}
        with psycopg.connect(url, autocommit=True) as database:
            _kill(mine, database, rng.randrange(len(NAMES)))
            _check_whole_scans(database, stage.clean["relation_caption"])
            assert call(mine, *CAPTION).code == 0
            assert content(database) == stage.clean


def _kill(variables: dict[str, str], database: psycopg.Connection[Any], done: int) -> None:
    """Start the command, and kill it as soon as so many scans are done."""
    process = subprocess.Popen(
        [PROGRAM, *CAPTION],
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: database.execute(DONE.encode()).fetchall()[0][0] >= done or process.poll() is not None)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=PATIENCE_S)
    others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    wait_for(lambda: not database.execute(others.encode()).fetchall())


def _check_whole_scans(database: psycopg.Connection[Any], clean: list[tuple[Any, ...]]) -> None:
    """All captions of a scan are there if the ledger says so, and none else."""
    found = content(database)
    done = {row[0] for row in found["ledger"] if "features.captions" in row}
    assert found["relation_caption"] == [row for row in clean if row[0] in done]


@pytest.mark.slow
def test_instructblip_speaks_of_stored_tokens(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys = tmp_path / "toys"
    toys.mkdir()
    toy_encoder.install(toys)
    monkeypatch.syspath_prepend(toys)
    folder = write_instructblip(tmp_path / "instructblip")
    monkeypatch.setenv("OPEN3DSG_ENCODERS", f"[instructblip]\npath = '{folder}'\ntext = 'toy'")
    root = tmp_path / "3RScan"
    mini.write_scan(root)
    with connect(database_url) as database:
        database.autocommit = True
        Ingest(ThreeRScan(root), "3rscan", "3rscan", str(root))(database, mini.NAME)
        Graph(GraphOptions(instance_points=20, pair_points=20, full=True))(database, mini.NAME)
        scan = find_scan(database, mini.NAME)
        encoder = load_encoder("instructblip", "cpu")
        assert encoder.views == "tokens"
        assert (encoder.tokens, encoder.dimension) == (TOKENS, DIMENSION)
        row = register_encoder(database, encoder)
        tokens = np.random.default_rng(0).normal(size=(TOKENS, DIMENSION)).astype(np.float32)
        unit = tokens.mean(axis=0) / np.linalg.norm(tokens.mean(axis=0))
        box = np.array([[0, 0, 9, 9]])
        pairs = list(combinations(sorted(mini.LABELS), 2))
        packed = pack_tokens(tokens, TokenFormat("full", "fp16"))
        with database.transaction():
            features = (PairFeature(*pair, unit, [0], box, [1.0], packed) for pair in pairs)
            write_pair_features(database, scan.scan_id, row.encoder_id, features)
        work = DumpCaptions(CaptionOptions("instructblip", beams=2), batch=5, device="cpu")
        told = work(database, scan.key).counts
        assert told["captions"] == 2 * len(pairs)
        assert told["phrases"] + told["captions_without_phrase"] == 2 * len(pairs)
        stored = tokens.astype(np.float16).astype(np.float32)
        for one in find_captions(database, scan, row, 4)[:2]:
            said = encoder.caption(stored[None], [one.subject_label], [one.object_label], 2)  # type: ignore[attr-defined]
            assert one.caption == said[0]
        assert work(database, scan.key).skipped
