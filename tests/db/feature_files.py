"""What the tests of Open3DSG's feature files share: rows of the miniature, and files of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pgvector import HalfVector

from open3dsg.datasets.graphfolder import graphs_of
from open3dsg.encoders.tokens import TokenFormat, pack_tokens
from open3dsg.export.features import Exported, FeatureExport
from open3dsg.steps.feature_import import ImportFeatures, ImportOptions
from open3dsg.steps.summary import Summary
from open3dsg.store.encoders import StoredEncoder, add_revision
from open3dsg.store.pair_features import PairFeature, read_pair_tokens, write_pair_features
from open3dsg.store.scans import find_scan
from tests import miniature as mini
from tests import open3dsg_files as published
from tests.db.pipeline import KEY, Database, rows

Array = NDArray[np.float32]
HALF, BFLOAT = 2.0**-11, 2.0**-8

OBJECTS = {"0": [4, 1, 2], "1": [7, 4, 2]}
PAIRS = {
    "0": list(itertools.permutations([4, 1, 2], 2)),
    "1": [(7, 4), (4, 7), (2, 7), (2, 4), (4, 2)],
}


def random_rows(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) + np.float32(0.3)


def unit(vector: Array) -> Array:
    scaled: Array = vector / np.linalg.norm(vector)
    return scaled


def stored_nodes(database: Database, encoder: StoredEncoder) -> dict[int, Array]:
    found = rows(
        database, f"SELECT instance_no, embedding FROM node_feature WHERE encoder_id = {encoder.encoder_id}"
    )
    return {number: embedding.to_numpy().astype(np.float32) for number, embedding in found}


def stored_pairs(database: Database, encoder: StoredEncoder) -> dict[tuple[int, int], Array]:
    scan_id = find_scan(database, KEY).scan_id
    return {(a, b): tokens for a, b, tokens in read_pair_tokens(database, scan_id, encoder)}


def pooled(database: Database, encoder: StoredEncoder) -> dict[tuple[int, int], Array]:
    found = rows(
        database,
        f"SELECT instance_a, instance_b, embedding FROM pair_feature WHERE encoder_id = {encoder.encoder_id}",
    )
    return {(a, b): embedding.to_numpy().astype(np.float32) for a, b, embedding in found}


def write_store(database: Database, form: TokenFormat) -> tuple[StoredEncoder, StoredEncoder]:
    """Features of instances 1, 2 and 4, and of the pairs of 2 with 1 and with 4."""
    scan_id = find_scan(database, KEY).scan_id
    seen = add_revision(database, "toy", "r", dimension=4, views="crops", tokens=None, options={})
    spoken = add_revision(database, "toytokens", "r", dimension=6, views="tokens", tokens=17, options={})
    for number, vector in zip((1, 2, 4), random_rows(1, 3, 4), strict=True):
        database.execute(
            "INSERT INTO node_feature VALUES (%s, %s, %s, %s, '{0}', '{0,0,1,1}', '{1}')",
            [scan_id, seen.encoder_id, number, HalfVector(unit(vector))],
        )
    features = [
        PairFeature(
            a, b, unit(tokens.mean(axis=0)), [0], np.array([[0, 0, 1, 1]]), [1.0], pack_tokens(tokens, form)
        )
        for (a, b), tokens in zip(((1, 2), (2, 4)), random_rows(2, 2, 17, 6), strict=True)
    ]
    write_pair_features(database, scan_id, spoken.encoder_id, features)
    return seen, spoken


def export(
    database: Database, out: Path, graphs: Path, *encoders: StoredEncoder | None, force: bool = False
) -> Exported:
    done = Exported()
    exporting = FeatureExport(database, out, *encoders, force=force)
    exporting.write_scan(find_scan(database, KEY), graphs_of(graphs, mini.NAME), done)
    return done


def bring(folder: Path, graphs: Path, **options: Any) -> ImportFeatures:
    told = {"encoder": "toy", "pair_encoder": "toytokens"} | options
    flags = {flag: told.pop(flag) for flag in ("force", "replace") if flag in told}
    return ImportFeatures(ImportOptions(folder, graphs, **told), **flags)


def kinds(summary: Summary) -> list[str]:
    return sorted(problem.kind for problem in summary.problems)


def write_published(folder: Path) -> tuple[dict[int, Array], dict[tuple[int, int], Array]]:
    """Files as --dump_features writes them: rows of any length; instance 7 and the pair (2, 7) are absent."""
    nodes = dict(zip((1, 2, 4), 5 * random_rows(3, 3, 4), strict=True))
    tokens = dict(zip(((1, 2), (1, 4), (2, 4), (4, 7)), 3 * random_rows(4, 4, 17, 6), strict=True))
    for digit in "01":
        name = f"{mini.NAME}-{digit}"
        of_objects = [nodes.get(number, np.full(4, np.nan, np.float32)) for number in OBJECTS[digit]]
        published.write_objects(folder, name, torch.from_numpy(np.stack(of_objects)))
        absent = np.full((17, 6), np.nan, np.float32)
        of_pairs = [tokens.get((min(pair), max(pair)), absent) for pair in PAIRS[digit]]
        published.write_relations(folder, name, torch.from_numpy(np.stack(of_pairs)).bfloat16())
    return nodes, tokens
