"""A split of made scans at ScanNet's sizes: in a store, and as the files that Open3DSG's loader reads.

A scan is a furnished room of `data synth`, 150,000 points over its surfaces, with two training units of nine
instances each that share none, so that no unit finds in memory what another one has fetched. All pairs of a
unit have tokens, 257 x 1,408, with the statistics of _patches.py: 16 different ones, in turn, since neither
side notices that two pairs have the same.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import _patches
import numpy as np
import torch
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import Connection

from open3dsg.datasets.layouts import WordList
from open3dsg.datasets.scan import BACKGROUND, Cloud, Frame, Scan, Subgraph
from open3dsg.datasets.synth.room import Room, build_room
from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.encoders.tokens import TokenFormat, pack_tokens
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.steps.graph import Graph, GraphOptions
from open3dsg.steps.ingest import Ingest
from open3dsg.steps.observe import COLUMNS as OBSERVATION_COLUMNS
from open3dsg.store.encoders import StoredEncoder, add_revision
from open3dsg.store.pair_features import PairFeature, write_pair_features
from open3dsg.store.scans import find_scan
from open3dsg.store.unit import Unit, UnitKey
from open3dsg.store.units import UnitReader, unit_keys

DATASET = "made"
POINTS = 150_000
MEMBERS, UNITS_A_SCAN = 9, 2
FRAMES, FRAMES_OF_ONE = 20, 8
NODES, PAIRS, POOLED = "bench_nodes", _patches.Patches.name, "bench_pooled"
NODE_DIMENSION, POOLED_DIMENSION = 768, 512
PREDICATES = ("none", "left", "right", "behind", "in front of", "close by", "standing on")

NODE_COLUMNS = {
    "scan_id": "int8",
    "encoder_id": "int4",
    "instance_no": "int4",
    "embedding": "halfvec",
    "frame_nos": "int4[]",
    "boxes": "int2[]",
    "weights": "float4[]",
}

Array = NDArray[Any]


class MadeRooms:
    """The reader of the made scans, as `Ingest` takes it."""

    arguments: Mapping[str, Any] = {}
    ledger_options: Mapping[str, Any] = {}

    def __init__(self, root: Path) -> None:
        self._root = root

    def annotation_hash(self, name: str) -> str:
        return name

    def word_lists(self) -> Sequence[WordList]:
        return [WordList("predicates", "predicate", PREDICATES)]

    def attributes_of(self, _name: str) -> None:
        return None

    def read(self, name: str) -> Scan:
        seed = int(name)
        room = _furnished(seed)
        labels = {thing.number: thing.label for thing in room.instances[: MEMBERS * UNITS_A_SCAN]}
        numbers = list(labels)
        graphs = [
            _subgraph(number, {n: labels[n] for n in numbers[number::UNITS_A_SCAN]})
            for number in range(UNITS_A_SCAN)
        ]
        frames = [_frame(number) for number in range(FRAMES)]
        return Scan(DATASET, name, self._root, _cloud(room, numbers, seed), labels, "train", frames, graphs)


def _furnished(seed: int) -> Room:
    """A room of enough things."""
    rooms = map(build_room, count(1000 * seed))
    return next(room for room in rooms if len(room.instances) >= MEMBERS * UNITS_A_SCAN)


def _cloud(room: Room, numbers: Sequence[int], seed: int) -> Cloud:
    """Points over all surfaces by area, after as many for every thing, that small ones have enough."""
    rng = np.random.default_rng(seed)
    corners = [thing.mesh.vertices[thing.mesh.triangles] for thing in room.instances]
    owner = np.repeat([thing.number for thing in room.instances], [len(each) for each in corners])
    triangles = np.concatenate(corners)
    sides = triangles[:, 1:] - triangles[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    of_owner = np.bincount(owner, area)
    share = area / area.sum() + area / of_owner[owner] / len(corners)
    chosen = rng.choice(len(area), POINTS, p=share / share.sum())
    along = rng.random((POINTS, 2, 1))
    along = np.where(along.sum(axis=1, keepdims=True) > 1, 1 - along, along)
    xyz = triangles[chosen, 0] + (along * sides[chosen]).sum(axis=1)
    instance = np.where(np.isin(owner[chosen], numbers), owner[chosen], BACKGROUND)
    rgb = rng.integers(0, 256, (POINTS, 3)).astype(np.uint8)
    return Cloud(xyz.astype(np.float32), rgb, instance.astype(np.int32))


def _subgraph(number: int, members: Mapping[int, str]) -> Subgraph:
    ends = list(members)
    told = zip(ends, ends[1:], cycle(PREDICATES[1:]), strict=False)
    return Subgraph(number, members, [(a, b, predicate) for a, b, predicate in told])


def _frame(number: int) -> Frame:
    grid = PixelGrid(320, 240, 280.0, 280.0, 160.0, 120.0)
    return Frame(number, f"{number:06}.jpg", grid, np.eye(4))


def make_split(connection: Connection[Any], root: Path, units: int, seed: int = 0) -> list[UnitKey]:
    """Write scans of so many units, all features included; return what names the units."""
    ingest = Ingest(MadeRooms(root), DATASET, "scannet", str(root))
    nodes = _encoder(connection, NODES, NODE_DIMENSION, "pixels", None)
    tokens = _encoder(connection, PAIRS, _patches.Patches.dimension, "tokens", _patches.Patches.tokens)
    pooled = _encoder(connection, POOLED, POOLED_DIMENSION, "crops", None)
    bank = cycle(token_bank())
    rng = np.random.default_rng(seed)
    for number in range(-(-units // UNITS_A_SCAN)):
        name = f"{seed + number:04}"
        ingest(connection, name)
        scan_id = find_scan(connection, f"{DATASET}/{name}").scan_id
        with connection.transaction():
            _observe(connection, scan_id, rng)
        Graph(GraphOptions())(connection, f"{DATASET}/{name}")
        with connection.transaction():
            _node_features(connection, scan_id, nodes, rng)
            pairs = _pairs(connection, scan_id)
            _pair_features(connection, scan_id, tokens, (next(bank).of(a, b) for a, b in pairs))
            _pair_features(connection, scan_id, pooled, (_pooled(a, b, rng) for a, b in pairs))
    ingest.close(connection)
    connection.execute("VACUUM ANALYZE")
    return unit_keys(connection, dataset=DATASET)[:units]


def _encoder(
    connection: Connection[Any], name: str, dimension: int, views: str, tokens: int | None
) -> StoredEncoder:
    return add_revision(
        connection, name, "0" * 16, dimension=dimension, views=views, tokens=tokens, options={}
    )


def _observe(connection: Connection[Any], scan_id: int, rng: np.random.Generator) -> None:
    """Let some of the frames show each instance; of its pixels, which no loader reads, none are kept."""
    found = connection.execute("SELECT instance_no FROM instance WHERE scan_id = %s", (scan_id,))
    rows = [
        (scan_id, number, frame, 500, 400, float(rng.uniform(0.3, 1.0)), [10, 20, 200, 180], b"")
        for (number,) in found.fetchall()
        for frame in sorted(rng.choice(FRAMES, FRAMES_OF_ONE, replace=False).tolist())
    ]
    copy_in(connection, "observation", OBSERVATION_COLUMNS, rows)
    ledger.record(connection, scan_id, ledger.Entry("observe", 1, {}), {"observations": len(rows)})


def _node_features(
    connection: Connection[Any], scan_id: int, encoder: StoredEncoder, rng: np.random.Generator
) -> None:
    found = connection.execute("SELECT instance_no FROM instance WHERE scan_id = %s", (scan_id,))
    rows = [
        (scan_id, encoder.encoder_id, number, HalfVector(_unit_row(NODE_DIMENSION, rng)), [0], [], [1.0])
        for (number,) in found.fetchall()
    ]
    copy_in(connection, "node_feature", NODE_COLUMNS, rows)
    entry = ledger.Entry("features.nodes", 1, {}, encoder.full_name)
    ledger.record(connection, scan_id, entry, {"nodes": len(rows)})


def _pairs(connection: Connection[Any], scan_id: int) -> list[tuple[int, int]]:
    found = "SELECT instance_a, instance_b FROM pair WHERE scan_id = %s ORDER BY 1, 2"
    return connection.execute(found, (scan_id,)).fetchall()


def _pair_features(
    connection: Connection[Any], scan_id: int, encoder: StoredEncoder, features: Iterator[PairFeature]
) -> None:
    written = write_pair_features(connection, scan_id, encoder.encoder_id, features)
    entry = ledger.Entry("features.pairs", 1, {}, encoder.full_name)
    ledger.record(connection, scan_id, entry, {"pairs": written})


def _pooled(a: int, b: int, rng: np.random.Generator) -> PairFeature:
    return PairFeature(a, b, _unit_row(POOLED_DIMENSION, rng), [0], np.zeros((1, 4), np.int16), [1.0], None)


def _unit_row(dimension: int, rng: np.random.Generator) -> NDArray[np.float32]:
    row: NDArray[np.float32] = rng.normal(size=dimension).astype(np.float32)
    return row / np.linalg.norm(row)


class Grid:
    """The tokens of a pair, (257, 1408) float32, packed once."""

    def __init__(self, tokens: NDArray[np.float32]) -> None:
        self.tokens = tokens
        self._packed = pack_tokens(tokens, TokenFormat("full", "fp16"))

    def of(self, a: int, b: int) -> PairFeature:
        mean = self.tokens.mean(axis=0)
        pooled = mean / np.linalg.norm(mean)
        return PairFeature(a, b, pooled, [0], np.zeros((1, 4), np.int16), [1.0], self._packed)


@cache
def token_bank(size: int = 16, looks: int = 3) -> Sequence[Grid]:
    """Tokens of made pictures, each the mean of a few looks, as a dump keeps them."""
    rng, encoder = np.random.default_rng(0), _patches.Patches()
    shown = (
        [rng.integers(0, 256, (12, 12, 3)).astype(np.uint8) for _look in range(looks)] for _ in range(size)
    )
    return [Grid(encoder.encode_tokens(pictures).mean(axis=0)) for pictures in shown]


def write_published(connection: Connection[Any], keys: Sequence[UnitKey], folder: Path) -> list[Path]:
    """Write the units as Open3DSG's preprocessing of ScanNet and its dump do; return the pickles.

    FOLDER/preprocessed/SCAN/data_dict_N.pkl, and under FOLDER/features a `.pt` file a unit in each of three
    folders: of object features float32, of which are valid, and of relation tokens bfloat16 by directed pair.
    """
    folders = [folder / "features" / f"export_{kind}" for kind in ("obj_clip_emb", "obj_clip_valids", "rel")]
    for each in folders:
        each.mkdir(parents=True)
    bank = [torch.from_numpy(grid.tokens).to(torch.bfloat16) for grid in token_bank()]
    rng = np.random.default_rng(0)
    paths = []
    for number, key in enumerate(keys):
        unit = UnitReader(connection, key.scan).read(key.subgraph_no)
        record = published_record(unit)
        path = folder / "preprocessed" / record["scan_id"].rpartition("-")[0]
        path.mkdir(parents=True, exist_ok=True)
        paths.append(path / f"data_dict_{key.subgraph_no}.pkl")
        paths[-1].write_bytes(pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL))
        of_pairs = islice(cycle(bank), number % len(bank), None)
        tensors = (
            torch.from_numpy(rng.normal(size=(len(unit.numbers), NODE_DIMENSION)).astype(np.float32)),
            torch.ones(len(unit.numbers), dtype=torch.bool),
            torch.stack(list(islice(of_pairs, len(unit.edges)))),
        )
        for tensor, where in zip(tensors, folders, strict=True):
            torch.save(tensor, where / f"{record['scan_id']}.pt")
    return paths


def published_record(unit: Unit) -> dict[str, Any]:
    """The content of a pickle of ScanNet: arrays of float64, points with colours and normals, lists else.

    Of `object2frame` the pixels of each sight are left out, whose number differs with the pictures.
    """
    sights = [
        [
            (f"{frame}.jpg", int(points), float(ratio), tuple(box.tolist()))
            for frame, points, ratio, box in zip(
                seen.frame_no, seen.visible_points, seen.visibility_ratio, seen.pixel_box, strict=True
            )
        ]
        for seen in unit.sightings
    ]
    numbers, pairs = unit.numbers.tolist(), unit.pairs.tolist()
    clouds = np.stack([_with_normals(sample.normalised(), sample.rgb) for sample in unit.samples])
    unions = [_with_normals(union.normalised(), union.rgb) for union in unit.unions]
    flagged = [np.column_stack([union, unit.flags(edge)]) for edge, union in enumerate(unions)]
    return {
        "scan_id": f"scene{unit.key.scan.rpartition('/')[2]}_00-{unit.key.subgraph_no}",
        "objects_id": numbers,
        "objects_cat": (unit.label_ids % 200).tolist(),
        "objects_num": [len(sample) for sample in unit.samples],
        "objects_pcl": clouds,
        "objects_pcl_glob": clouds,
        "objects_center": list(unit.centre_m),
        "predicate_cat": list(unit.holds.astype(float)),
        "predicate_num": [len(union) for union in unions],
        "predicate_pcl_flag": np.stack(flagged),
        "predicate_dist": list(unit.offset_m),
        "pairs": pairs,
        "edges": unit.edges,
        "triples": [[subject, target, 0] for subject, target in pairs],
        "objects_count": len(numbers),
        "predicate_count": len(pairs),
        "tight_bbox": [np.append(box, 0) for box in np.hstack([unit.obb_lengths_m, unit.obb_centre_m])],
        "scannet": True,
        "object2frame": dict(zip(numbers, sights, strict=True)),
        "rel2frame": {(a, b): sights[numbers.index(a)][:3] for a, b in pairs},
        "id2name": {str(number): label for number, label in zip(numbers, unit.labels, strict=True)},
    }


def _with_normals(xyz: Array, rgb: Array) -> Array:
    """(N, 9) float64: normals are made, the store has none of ScanNet."""
    return np.hstack([xyz.astype(np.float64), rgb.astype(np.float64), np.zeros_like(xyz, np.float64)])
