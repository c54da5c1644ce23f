"""A small store to train on: miniatures of 3RScan with units, features of instances and pairs, captions.

It needs the toy encoders (the fixture `encoders` of tests/db, or `toy_encoder.install`) and, for captions,
``OPEN3DSG_ENCODERS`` set to `SETTINGS`: `with_toys` does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from open3dsg.datasets.threerscan import ThreeRScan
from open3dsg.steps.captions import CaptionOptions, DumpCaptions
from open3dsg.steps.features import DumpNodes, DumpPairs, FeatureOptions, PairOptions
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.store.encoders import embed_vocabularies, find_encoder
from tests import miniature as mini
from tests import toy_encoder
from tests.db.pipeline import Database, observe

DATASET = "3rscan"
NODES, POOLED, TOKENS, CAPTIONS, WORDS = "toy", "toy", "toytokens", "geometry", "toywords"
SETTINGS = f"[geometry]\ntext = '{WORDS}'"
INSTANCE_POINTS, PAIR_POINTS = 20, 50
UNITS = 2  # subgraphs a scan


def with_toys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find the toy encoders; `folder` is there, and none lies in it yet."""
    toy_encoder.install(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("OPEN3DSG_ENCODERS", SETTINGS)


def name(scan: int) -> str:
    return f"mini-{scan:04d}"


def key(scan: int) -> str:
    return f"{DATASET}/{name(scan)}"


def trainable(connection: Database, folder: Path, scans: int = 2) -> list[str]:
    """Fill an empty store with scans to train on; the last of them is of the split validation.

    Each has two subgraphs of its four instances and a full graph. Features of instances and pairs are by
    `toy` (4 numbers) and `toytokens` (17 tokens of 6), captions by `geometry`, in the space of `toywords`
    (8); words of all lists are embedded by `toy` and `toywords`. Returns the scans as dataset/name.
    """
    root = folder / "trainable"
    given = [_subgraph(scan, number) for scan in range(1, scans + 1) for number in range(1, UNITS + 1)]
    for scan in range(1, scans + 1):
        mini.write_scan(root, name(scan))
    mini.write_annotations(root, *given[:-UNITS])
    mini.write_annotations(root, *given[-UNITS:], split="validation")
    keys = [key(scan) for scan in range(1, scans + 1)]
    for step in _steps(root):
        for each in keys:
            step(connection, each.partition("/")[2] if isinstance(step, Ingest) else each)
        if not isinstance(step, Graph):
            step.close(connection)
    for encoder in (NODES, WORDS):
        for vocabulary in ("classes", "predicates"):
            embed_vocabularies(connection, find_encoder(connection, encoder), f"{DATASET}-{vocabulary}")
    return keys


def _steps(root: Path) -> Sequence[Any]:
    sizes = GraphOptions(instance_points=INSTANCE_POINTS, pair_points=PAIR_POINTS)
    return (
        Ingest(ThreeRScan(root), DATASET, "3rscan", str(root)),
        observe(),
        Graph(sizes),
        Graph(replace(sizes, full=True, max_distance_m=None)),
        DumpNodes(FeatureOptions(NODES)),
        DumpPairs(PairOptions(POOLED, top_k_frames=2, scales=1)),
        DumpPairs(PairOptions(TOKENS, top_k_frames=4, scales=1)),
        DumpCaptions(CaptionOptions(CAPTIONS)),
    )


def _subgraph(scan: int, number: int) -> dict[str, object]:
    return mini.subgraph(scan=name(scan), split=number)
