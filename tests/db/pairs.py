"""Pairs with given features, for tests of how they are kept and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from open3dsg.db.terms import term_ids
from open3dsg.encoders.tokens import TokenFormat, pack_tokens
from open3dsg.store.encoders import StoredEncoder, find_encoder
from open3dsg.store.pair_features import PairFeature

TOKENS, DIMENSION = 17, 6


def write_scan(database: psycopg.Connection[Any], name: str, instances: int, dataset: str = "d") -> int:
    """Add a scan with instances 1, 2, ... that have points; return its id."""
    database.execute(
        "INSERT INTO dataset (name, layout) VALUES (%s, '3rscan') ON CONFLICT DO NOTHING", [dataset]
    )
    [(scan_id,)] = rows(
        database,
        "INSERT INTO scan (dataset_id, name) SELECT dataset_id, %s FROM dataset WHERE name = %s"
        " RETURNING scan_id",
        [name, dataset],
    )
    database.execute(
        "INSERT INTO instance (scan_id, instance_no, label_id, point_count, centroid_m)"
        " SELECT %s, n, %s, 1, '{0,0,0}' FROM generate_series(1, %s) n",
        [scan_id, term_ids(database, ["thing"])["thing"], instances],
    )
    return int(scan_id)


def write_token_encoder(database: psycopg.Connection[Any], revision: str = "r") -> StoredEncoder:
    """Register a revision of the encoder `toytokens`: 17 tokens of 6 numbers; the first is active."""
    database.execute(
        "INSERT INTO encoder (name, revision, dimension, views, tokens, is_active)"
        " VALUES ('toytokens', %s, %s, 'tokens', %s,"
        " NOT EXISTS (SELECT FROM encoder WHERE name = 'toytokens'))",
        [revision, DIMENSION, TOKENS],
    )
    return find_encoder(database, f"toytokens@{revision}")


def all_pairs(instances: int) -> list[tuple[int, int]]:
    return list(combinations(range(1, instances + 1), 2))


def made_tokens(a: int, b: int) -> NDArray[np.float32]:
    """Tokens that tell which pair they are of."""
    return np.random.default_rng([a, b]).normal(size=(TOKENS, DIMENSION)).astype(np.float32)


def made_features(pairs: Iterable[tuple[int, int]], form: TokenFormat) -> Iterator[PairFeature]:
    """Features from as many views as b - a."""
    for a, b in pairs:
        tokens = made_tokens(a, b)
        pooled = tokens.mean(axis=0)
        views = b - a
        yield PairFeature(
            a,
            b,
            pooled / np.linalg.norm(pooled),
            list(range(views)),
            np.tile([0, 1, 2, 3], (views, 1)),
            [1 / views] * views,
            pack_tokens(tokens, form),
        )


def rows(database: psycopg.Connection[Any], statement: str, values: Sequence[object] = ()) -> list[Any]:
    return database.execute(statement.encode(), values).fetchall()
