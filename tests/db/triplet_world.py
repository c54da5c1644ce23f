"""A small made store to ask for triplets, and the same in numpy, stated once more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector

from open3dsg.db.copying import copy_in
from open3dsg.db.terms import term_ids
from open3dsg.store.captions import COLUMNS as CAPTION_COLUMNS
from tests.db.nodes import write_features
from tests.db.predicted import write_encoder

SCANS, NODES = 12, 7
NODE_DIMENSION, PAIR_DIMENSION, WORD_DIMENSION = 12, 10, 6
LABELS = ("chair", "table", 'it\'s 100% "lamp"')
PHRASES = ("standing on", "close by", "left of", "hanging from")
PREDICATES = ("standing on", "next to")

Edge = tuple[int, int, int]  # scan, subject, object


def unit(random: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """Random unit rows as half precision holds them."""
    rows = random.normal(size=shape)
    halves: NDArray[np.float16] = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float16)
    return halves.astype(np.float64)


def cosine(a: NDArray[np.float64] | None, b: NDArray[np.float64]) -> float:
    assert a is not None
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@dataclass
class World:
    """What is in the store; scans are numbered from 1, nodes from 0; scans of even numbers are of `even`."""

    nodes: Mapping[tuple[int, int], NDArray[np.float64]]
    place: Mapping[tuple[int, int], NDArray[np.float64]]
    pairs: Mapping[Edge, NDArray[np.float64]]  # a < b
    distance: Mapping[Edge, float]  # a < b
    said: Mapping[Edge, str]
    phrases: Mapping[str, NDArray[np.float64]]
    annotated: Mapping[Edge, set[str]] = field(default_factory=dict)

    def label(self, node: tuple[int, int]) -> str:
        return LABELS[sum(node) % len(LABELS)]

    def apart(self, edge: Edge) -> float:
        """Return the distance of a pair that was measured, whatever the direction."""
        scan, s, o = edge
        return self.distance[scan, min(s, o), max(s, o)]

    def edges(self, source: str, predicate_label: str | None) -> Iterator[Edge]:
        if predicate_label is not None:
            yield from (edge for edge, told in self.annotated.items() if predicate_label in told)
            return
        if source == "captions":
            yield from self.said
            return
        for scan, a, b in self.pairs if source == "features" else self.distance:
            yield scan, a, b
            yield scan, b, a

    def passes(self, edge: Edge, filters: Mapping[str, Any]) -> bool:
        """State the filters again."""
        scan, s, o = edge
        keys = [(scan, s), (scan, o)]
        far = self.distance.get((scan, min(s, o), max(s, o)), np.inf)
        inside = [
            np.all(self.place[key] >= np.minimum(filters["within"][:3], filters["within"][3:]))
            and np.all(self.place[key] <= np.maximum(filters["within"][:3], filters["within"][3:]))
            for key in (keys if "within" in filters else [])
        ]
        return (
            all(inside)
            and filters.get("scan", f"scan-{scan}") == f"scan-{scan}"
            and filters.get("dataset", ("even", "odd")[scan % 2]) == ("even", "odd")[scan % 2]
            and far <= filters.get("max_distance", np.inf)
            and all(
                filters.get(f"{place}_label", self.label(key)).lower() == self.label(key).lower()
                and filters.get(f"{place}_instance", {"scan_id": key[0], "instance": key[1]})
                == {"scan_id": key[0], "instance": key[1]}
                for place, key in zip(("subject", "object"), keys, strict=True)
            )
        )

    def score(
        self,
        edge: Edge,
        source: str,
        subject: NDArray[np.float64] | None,
        predicate: NDArray[np.float64] | None,
        object_: NDArray[np.float64] | None,
    ) -> tuple[float | None, float | None, float | None]:
        scan, s, o = edge
        what = None
        if predicate is not None:
            said = (
                self.phrases[self.said[edge]]
                if source == "captions"
                else self.pairs[scan, min(s, o), max(s, o)]
            )
            what = cosine(said, predicate)
        return (
            None if subject is None else cosine(self.nodes[scan, s], subject),
            what,
            None if object_ is None else cosine(self.nodes[scan, o], object_),
        )


def write_world(database: psycopg.Connection[Any], seed: int = 3) -> World:
    """Fill an empty store. Encoders: 1 `toy`, 2 `pairs`, 3 `speaker`, which 4 `words` embeds."""
    random = np.random.default_rng(seed)
    keys = [(scan, number) for scan in range(1, SCANS + 1) for number in range(NODES)]
    some = [(scan, a, b) for scan, a in keys for b in range(a + 1, NODES) if random.random() < 0.6]
    middles = unit(random, 4, NODE_DIMENSION)
    drawn = middles[random.integers(4, size=len(keys))] + 0.3 * unit(random, len(keys), NODE_DIMENSION)
    embedded = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16).astype(float)
    seen = [edge for edge in some if random.random() < 0.9]
    directed = [(scan, s, o) for scan, a, b in some for s, o in permutations((a, b)) if random.random() < 0.7]
    world = World(
        dict(zip(keys, embedded, strict=True)),
        {key: random.uniform(0, 4, 3) for key in keys},
        dict(zip(seen, unit(random, len(seen), PAIR_DIMENSION), strict=True)),
        {edge: float(random.uniform(0, 3)) for edge in some},
        {edge: PHRASES[random.integers(len(PHRASES))] for edge in directed},
        dict(zip(PHRASES, unit(random, len(PHRASES), WORD_DIMENSION), strict=True)),
        {edge: {PREDICATES[random.integers(2)]} for edge in directed if random.random() < 0.3},
    )
    _write(database, world)
    return world


def _write(database: psycopg.Connection[Any], world: World) -> None:
    ids = term_ids(database, {*LABELS, *PHRASES, *PREDICATES})
    database.execute("INSERT INTO dataset (name, layout) VALUES ('even', '3rscan'), ('odd', '3rscan')")
    database.execute(
        "INSERT INTO scan (dataset_id, name)"
        " SELECT 1 + mod(n, 2), 'scan-' || n FROM generate_series(1, %s) n",
        [SCANS],
    )
    for name, dimension, views in (
        ("toy", NODE_DIMENSION, "crops"),
        ("pairs", PAIR_DIMENSION, "crops"),
        ("speaker", 1, "boxes"),
        ("words", WORD_DIMENSION, "text"),
    ):
        write_encoder(database, name, dimension, views)
    instance = {"scan_id": "int8", "instance_no": "int4"}
    copy_in(
        database,
        "instance",
        {**instance, "label_id": "int4", "point_count": "int4", "centroid_m": "float8[]"},
        [(*key, ids[world.label(key)], 1, at.tolist()) for key, at in world.place.items()],
    )
    write_features(database, world.nodes, np.stack(list(world.nodes.values())))
    ends = {"scan_id": "int8", "instance_a": "int4", "instance_b": "int4"}
    no_views = {"frame_nos": "int4[]", "boxes": "int2[]", "weights": "float4[]"}
    copy_in(
        database,
        "pair_feature",
        {**ends, "encoder_id": "int4", "embedding": "halfvec", **no_views},
        [(*edge, 2, HalfVector(row), [], [], []) for edge, row in world.pairs.items()],
    )
    copy_in(
        database,
        "pair",
        {
            **ends,
            "point_ids": "bytea",
            "union_points": "int4",
            "offset_m": "float8[]",
            "min_distance_m": "float8",
            "closest_a": "int4",
            "closest_b": "int4",
        },
        [(*edge, bytes(4), 1, [0.0, 0.0, 0.0], far, 0, 0) for edge, far in world.distance.items()],
    )
    rows = [(scan, 3, s, o, f"the {phrase}", ids[phrase]) for (scan, s, o), phrase in world.said.items()]
    copy_in(database, "relation_caption", CAPTION_COLUMNS, rows)
    for phrase, row in world.phrases.items():
        database.execute("INSERT INTO term_embedding VALUES (4, %s, %s)", (ids[phrase], HalfVector(row)))
    _annotate(database, world, ids)
    database.execute("ANALYZE")


def _annotate(database: psycopg.Connection[Any], world: World, ids: Mapping[str, int]) -> None:
    """Write each annotation in two subgraphs: it is one relation all the same."""
    for number in (1, 2):
        database.execute(
            "INSERT INTO subgraph (scan_id, subgraph_no, method) SELECT scan_id, %s, '3dssg' FROM scan",
            [number],
        )
        database.execute(
            "INSERT INTO subgraph_member (scan_id, subgraph_no, instance_no, label_id)"
            " SELECT scan_id, %s, instance_no, label_id FROM instance",
            [number],
        )
        for (scan, s, o), told in world.annotated.items():
            for predicate in told:
                database.execute(
                    "INSERT INTO relationship VALUES (%s, %s, %s, %s, %s)",
                    (scan, number, s, o, ids[predicate]),
                )
