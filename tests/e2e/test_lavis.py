"""The encoder `lavis` in its own environment, against LAVIS itself on checkpoints in its formats."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray

from open3dsg.store.encoders import find_encoder
from open3dsg.store.pair_features import read_pair_tokens
from open3dsg.store.scans import find_scan
from tests import lavis_miniature as mini
from tests import miniature
from tests.command import CHECKOUT, GRAPH, OBSERVE, call, environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of LAVIS's environment, which is made where it is not there; or skip loudly."""
    done = subprocess.run(
        [CHECKOUT / "scripts/lavis_environment"], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"LAVIS NOT TESTED: scripts/lavis_environment failed: {done.stderr.strip()[-500:]}")
    return CHECKOUT / ".venv-lavis/bin/python"


def pictures() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    shapes = [(60, 90, 3), (42, 42, 3), (7, 200, 3), (1, 1, 3)]
    return [random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


@pytest.mark.parametrize("both_in_one", [False, True])
def test_tokens_are_those_of_lavis(python: Path, tmp_path: Path, both_in_one: bool) -> None:
    written = mini.write_finetuned(tmp_path / "b.pth") if both_in_one else mini.write_pair(tmp_path / "b")
    np.savez(tmp_path / "pictures.npz", *pictures())
    subprocess.run(
        [python, "-m", "tests.lavis_reference", written, tmp_path / "pictures.npz", tmp_path / "tokens.npz"],
        cwd=CHECKOUT,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OPEN3DSG_HOME": str(tmp_path)},
    )
    with np.load(tmp_path / "tokens.npz") as file:
        expected, found, none = file["expected"], file["found"], file["none"]
    assert found.shape == (4, mini.TOKENS, mini.WIDTH)
    assert found.dtype == np.float32
    assert expected.std() > 0.5
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "pictures that differ give tokens that differ"
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert none.shape == (0, mini.TOKENS, mini.WIDTH)


def test_a_worker_there_dumps_pairs_and_one_here_leaves_them_to_it(
    python: Path, database: psycopg.Connection[Any], database_url: str, tmp_path: Path
) -> None:
    checkpoint = mini.write_pair(tmp_path / "both")
    variables = environment(tmp_path, database_url) | {
        "HF_HUB_OFFLINE": "1",
        "OPEN3DSG_ENCODERS": f'[lavis]\npath = "{checkpoint}"',
    }
    root = tmp_path / "3RScan"
    miniature.write_scan(root, miniature.NAME)
    miniature.write_annotations(root, miniature.subgraph())
    miniature.write_metadata(root)
    submit = (
        "jobs",
        "submit",
        "features",
        "--pairs",
        "--pair-encoder",
        "lavis",
        "--pair-min-visibility",
        0.01,
    )
    for command in (("ingest", "3rscan", root), OBSERVE, GRAPH):
        done = call(variables, *command)
        assert done.code == 0, done.err
    assert "run scripts/lavis_environment" in call(variables, *submit).errors[0]
    there = python.with_name("open3dsg")
    subprocess.run([there, *map(str, submit)], check=True, env=variables)
    here = call(variables, "worker", "--until-empty")
    assert here.code == 2
    assert "run scripts/lavis_environment" in here.err
    subprocess.run([there, "worker", "--until-empty"], check=True, env=variables)
    encoder = find_encoder(database, "lavis")
    assert encoder.dimension == mini.WIDTH
    scan = find_scan(database, f"3rscan/{miniature.NAME}")
    found = list(read_pair_tokens(database, scan.scan_id, encoder))
    assert found
    for first, second, tokens in found:
        assert first < second
        assert tokens.shape == (mini.TOKENS, mini.WIDTH)
        assert tokens.std() > 0.1
