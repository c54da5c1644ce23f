"""A store as large as one likes, of made vectors: for benchmarks of queries and for tests of their recall.

Classes follow Zipf's law. A node is the middle of its class and noise, a pair the middle of its relation and
noise, mostly the relation that its two classes usually have. Both lie in a subspace of `Size.latent`
dimensions, turned at random into `Size.dimension`: what encoders give is of far fewer dimensions than it has
numbers, too. Words are the middles with less noise. Everything is drawn anew from the seed, some scans at a
time, so that whoever compares with exact answers need not hold it all.

It needs psycopg and numpy alone; rows go in by COPY, laid out as PostgreSQL reads them by numpy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

NODE_ENCODER, PAIR_ENCODER = "bignodes", "bigpairs"  # each has one revision, `made`
DATASETS = ("big-0", "big-1", "big-2", "big-3")  # of 90, 8.9, 1 and 0.1 % of the scans
_SHARES = (0.9, 0.989, 0.999)
_CHUNK = 100  # scans drawn at a time
_INT4, _FLOAT4, _FLOAT8, _INT2 = 23, 700, 701, 21  # types by their numbers in every PostgreSQL


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    scans: int = 20_000
    nodes: int = 50  # a scan
    pairs: int = 250  # a scan
    dimension: int = 384
    latent: int = 64
    classes: int = 500
    relations: int = 100
    noise: float = 0.8  # length of a node's or pair's noise; the middle of its class has length 1
    word_noise: float = 0.4
    usual: float = 0.7  # share of the pairs that have the usual relation of their classes
    seed: int = 7


class Chunk(NamedTuple):
    """Some scans, one after the other; vectors are of unit length, as half precision has them."""

    scan: NDArray[np.int64]  # (n,) of nodes, from 1
    number: NDArray[np.int32]  # (n,) of nodes, from 1 in each scan
    node_class: NDArray[np.int64]  # (n,)
    centroid_m: NDArray[np.float64]  # (n, 3)
    node: NDArray[np.float16]  # (n, dimension)
    pair_scan: NDArray[np.int64]  # (m,)
    a: NDArray[np.int32]  # (m,) numbers, a < b
    b: NDArray[np.int32]  # (m,)
    relation: NDArray[np.int64]  # (m,)
    distance_m: NDArray[np.float64]  # (m,)
    pair: NDArray[np.float16]  # (m, dimension)


class Question(NamedTuple):
    """Words for a pair that there is: its subject, its relation, its object."""

    subject_class: int
    relation: int
    object_class: int
    subject: NDArray[np.float32]  # (dimension,) unit
    predicate: NDArray[np.float32]
    object: NDArray[np.float32]


class BigStore:
    """The content of a store of one size."""

    def __init__(self, size: Size) -> None:
        """Draw the middles of classes and relations."""
        self.size = size
        random = np.random.default_rng([size.seed, 0])
        self._turn = np.linalg.qr(random.normal(size=(size.dimension, size.latent)))[0].T.astype(np.float32)
        self._classes = _unit(random.normal(size=(size.classes, size.latent)))
        self._relations = _unit(random.normal(size=(size.relations, size.latent)))

    @cached_property
    def _share(self) -> NDArray[np.float64]:
        """Return the share of the nodes that are of each class."""
        weight = 1 / (np.arange(self.size.classes) + 10)
        share: NDArray[np.float64] = weight / weight.sum()
        return share

    def chunks(self) -> Iterator[Chunk]:
        """Draw all scans, some at a time."""
        for first in range(0, self.size.scans, _CHUNK):
            yield self._chunk(first, min(_CHUNK, self.size.scans - first))

    def questions(self, count: int, seed: int = 0) -> list[Question]:
        """Draw pairs at random, either end the subject, and words for them."""
        random = np.random.default_rng([self.size.seed, 2, seed])
        asked = []
        for first in random.integers(0, self.size.scans, count) // _CHUNK * _CHUNK:
            chunk = self._chunk(int(first), min(_CHUNK, self.size.scans - int(first)))
            at = int(random.integers(len(chunk.pair)))
            start = int(chunk.pair_scan[at] - chunk.scan[0]) * self.size.nodes - 1
            ends = [int(chunk.node_class[start + end]) for end in (chunk.a[at], chunk.b[at])]
            subject, object_ = random.permutation(ends).tolist()
            relation = int(chunk.relation[at])
            middles = np.stack([self._classes[subject], self._relations[relation], self._classes[object_]])
            words = self._vectors(random, middles, self.size.word_noise).astype(np.float32)
            asked.append(Question(subject, relation, object_, *words))
        return asked

    def fill(self, connection: psycopg.Connection[Any]) -> None:
        """Write everything into an empty, migrated store, in one transaction, as a superuser.

        Keys to other tables are not checked. Vector indexes are left to whoever calls.
        """
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("SET LOCAL synchronous_commit = off")
            self._write_names(cursor)
            for chunk in self.chunks():
                for table, rows in _rows(chunk).items():
                    _copy(cursor, table, rows)
        with connection.transaction():
            connection.execute("ANALYZE")

    def _write_names(self, cursor: psycopg.Cursor[Any]) -> None:
        size = self.size
        cursor.execute(
            "INSERT INTO dataset (name, layout) SELECT name, 'made' FROM unnest(%s::text[]) AS name",
            [list(DATASETS)],
        )
        cursor.execute(
            "INSERT INTO scan (dataset_id, name, point_count)"
            " SELECT 1 + (SELECT count(*) FROM unnest(%s::float8[]) AS share WHERE n > share * %s),"
            " 'scan-' || n, 1 FROM generate_series(1, %s) AS n",
            [list(_SHARES), size.scans, size.scans],
        )
        cursor.execute(
            "INSERT INTO term (text) SELECT 'class ' || n FROM generate_series(0, %s) AS n",
            [size.classes - 1],
        )
        cursor.execute(
            "INSERT INTO encoder (name, revision, dimension, views, is_active)"
            " SELECT name, 'made', %s, 'crops', true FROM unnest(%s::text[]) AS name",
            [size.dimension, [NODE_ENCODER, PAIR_ENCODER]],
        )

    def _chunk(self, first: int, scans: int) -> Chunk:
        size = self.size
        random = np.random.default_rng([size.seed, 1, first])
        node_class = random.choice(size.classes, size=(scans, size.nodes), p=self._share)
        centroid_m = random.uniform(0, 1, (scans, size.nodes, 3)) * np.array([8.0, 6.0, 2.5])
        a, b = np.triu_indices(size.nodes, 1)
        chosen = np.sort(random.random((scans, len(a))).argsort(axis=1)[:, : size.pairs], axis=1)
        a, b = a[chosen], b[chosen]
        rows = np.arange(scans)[:, None]
        low, high = np.sort(np.stack([node_class[rows, a], node_class[rows, b]]), axis=0)
        relation = np.where(
            random.random(a.shape) < size.usual,
            (31 * low + 17 * high) % size.relations,
            random.integers(0, size.relations, a.shape),
        )
        apart = np.linalg.norm(centroid_m[rows, a] - centroid_m[rows, b], axis=2)
        scan = np.arange(first + 1, first + scans + 1)
        return Chunk(
            np.repeat(scan, size.nodes),
            np.tile(np.arange(1, size.nodes + 1, dtype=np.int32), scans),
            node_class.ravel(),
            centroid_m.reshape(-1, 3),
            self._vectors(random, self._classes[node_class.ravel()], size.noise),
            np.repeat(scan, chosen.shape[1]),
            (a + 1).astype(np.int32).ravel(),
            (b + 1).astype(np.int32).ravel(),
            relation.ravel(),
            np.maximum(apart - 0.5, 0).ravel(),
            self._vectors(random, self._relations[relation.ravel()], size.noise),
        )

    def _vectors(
        self, random: np.random.Generator, middles: NDArray[np.float32], noise: float
    ) -> NDArray[np.float16]:
        drawn = random.normal(size=middles.shape).astype(np.float32) * np.float32(
            noise / np.sqrt(self.size.latent)
        )
        return _unit((middles + drawn) @ self._turn).astype(np.float16)


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _rows(chunk: Chunk) -> Mapping[str, Mapping[str, NDArray[Any]]]:
    """Return table -> column -> values, of each row one."""
    nodes, pairs = len(chunk.scan), len(chunk.pair_scan)
    ends: dict[str, NDArray[Any]] = {"scan_id": chunk.pair_scan, "instance_a": chunk.a, "instance_b": chunk.b}
    number: dict[str, NDArray[Any]] = {"scan_id": chunk.scan, "instance_no": chunk.number}
    place = _floats(chunk.centroid_m)
    return {
        "instance": {
            **number,
            "label_id": (chunk.node_class + 1).astype(np.int32),
            "point_count": np.ones(nodes, np.int32),
            "centroid_m": place,
        },
        "node_feature": {
            **number,
            "encoder_id": np.ones(nodes, np.int32),
            "embedding": _halves(chunk.node),
            **_no_views(nodes),
        },
        "pair": {
            **ends,
            "point_ids": np.zeros(pairs, np.dtype("S4")),
            "union_points": np.ones(pairs, np.int32),
            "offset_m": _floats(np.zeros((pairs, 3))),
            "min_distance_m": chunk.distance_m,
            "closest_a": np.zeros(pairs, np.int32),
            "closest_b": np.zeros(pairs, np.int32),
        },
        "pair_feature": {
            **ends,
            "encoder_id": np.full(pairs, 2, np.int32),
            "embedding": _halves(chunk.pair),
            **_no_views(pairs),
        },
    }


def _no_views(count: int) -> dict[str, NDArray[Any]]:
    """Return empty arrays: of frames, boxes and weights."""
    element = {"frame_nos": _INT4, "boxes": _INT2, "weights": _FLOAT4}
    return {name: np.broadcast_to(np.array([0, 0, oid], ">i4"), (count, 3)) for name, oid in element.items()}


def _floats(values: NDArray[np.float64]) -> NDArray[Any]:
    """Lay (n, d) numbers out as arrays of float8."""
    count, width = values.shape
    laid = np.zeros(
        count, np.dtype([("head", ">i4", 5), ("item", [("bytes", ">i4"), ("value", ">f8")], width)])
    )
    laid["head"] = [1, 0, _FLOAT8, width, 1]
    laid["item"]["bytes"] = 8
    laid["item"]["value"] = values
    return laid


def _halves(values: NDArray[np.float16]) -> NDArray[Any]:
    """Lay (n, d) numbers out as halfvec."""
    count, width = values.shape
    laid = np.zeros(count, np.dtype([("width", ">i2"), ("unused", ">i2"), ("value", ">f2", width)]))
    laid["width"] = width
    laid["value"] = values
    return laid


def _copy(cursor: psycopg.Cursor[Any], table: str, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write rows of values that have no null; each value is preceded by its length in bytes."""
    fields: list[Any] = [("fields", ">i2")]
    for name, values in columns.items():
        kind = values.dtype.newbyteorder(">") if values.ndim == 1 else (">i4", values.shape[1:])
        fields += [(f"{name} bytes", ">i4"), (name, kind)]
    rows = np.zeros(len(next(iter(columns.values()))), np.dtype(fields))
    rows["fields"] = len(columns)
    for name, values in columns.items():
        rows[f"{name} bytes"] = rows.dtype[name].itemsize
        rows[name] = values
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        copy.write(rows.tobytes())
        copy.write(b"\xff\xff")
