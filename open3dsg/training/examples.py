"""Units of the store as what a network is shown, with what it learns of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.snapshot import snapshot
from open3dsg.errors import UserError
from open3dsg.store.pair_features import read_pair_halves
from open3dsg.store.unit import UnitKey
from open3dsg.store.units import UnitReader, read_predicates
from open3dsg.training.batch import SceneGraph, join
from open3dsg.training.clouds import gather
from open3dsg.training.spaces import empty_halves

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.unit import Unit
    from open3dsg.training.options import StreamOptions
    from open3dsg.training.targets import RelationTarget

_SCANS_AT_HAND = 8  # whose points are kept, a few MB each


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a unit's relation targets, and where its edges find theirs."""

    row: NDArray[np.int64]  # (E,) 0 where there is none
    valid: NDArray[np.bool_]  # (E,)
    count: int  # R
    vectors: NDArray[np.float32]  # (R, d); of tokens (0, d), which are read later
    pairs: Sequence[tuple[int, int]] = ()  # R, of tokens


class ExampleReader:
    """Reads units with their targets. Points of a scan are fetched once while it is among the last few."""

    def __init__(
        self,
        connection: Connection[Any],
        node_encoder: StoredEncoder,
        relation: RelationTarget,
        options: StreamOptions,
        scans: Collection[str],
        *,
        with_targets: bool = True,
        unseen: bool = False,
    ) -> None:
        """Take a connection that commits by itself.

        `scans`: all that are read, dataset/name. Where `options` do not say how large samples are, all are as
        large as the largest of these, whatever other scans of their dataset have. `unseen` keeps instances
        that no frame shows.
        """
        self._connection = connection
        self._node_encoder = node_encoder
        self._relation = relation
        self._options = options
        self._with_targets = with_targets
        self._unseen = unseen
        self._readers: OrderedDict[str, UnitReader] = OrderedDict()
        self._scans = scans
        self._predicates: dict[str, Sequence[str]] = {}  # of each dataset

    def read(
        self,
        keys: Sequence[UnitKey],
        change: Callable[[int, SceneGraph], None] | None = None,
        empty: Callable[..., torch.Tensor] = empty_halves,
    ) -> tuple[Sequence[Unit], SceneGraph]:
        """Read units, one or more, as of one moment, and join their graphs.

        `change` is called with the place of each and its graph, before they are joined. `empty` makes, of a
        shape, the float16 tensor that tokens are read into. Raises UserError, naming the unit, where its rows
        are gone.
        """
        with snapshot(self._connection):
            units, graphs, rows = [], [], []
            for place, key in enumerate(keys):
                unit, graph, of_edges = self._read_one(key)
                if change is not None:
                    change(place, graph)
                units.append(unit)
                graphs.append(graph)
                rows.append(of_edges)
            joined = join(graphs)
            if self._with_targets and self._relation.kind == "tokens":
                found = [of_edges for of_edges in rows if of_edges]
                shape = (
                    sum(of_unit.count for of_unit in found),
                    self._relation.tokens,
                    self._encoder.dimension,
                )
                joined.relation_target = empty(*shape)
                self._read_tokens(units, found, joined.relation_target.numpy())
        return units, joined

    def _read_one(self, key: UnitKey) -> tuple[Unit, SceneGraph, _Rows | None]:
        try:
            unit = self._reader(key.scan).read(key.subgraph_no)
            graph = scene_graph(unit, self._sizes, use_rgb=self._options.use_rgb)
            return unit, graph, self._add_targets(unit, graph) if self._with_targets else None
        except UserError as error:
            self._readers.pop(key.scan, None)
            raise UserError(
                f"subgraph {key.subgraph_no} of scan {key.scan} cannot be read: {error}"
            ) from error

    def _reader(self, scan: str) -> UnitReader:
        if scan not in self._readers:
            self._readers[scan] = UnitReader(
                self._connection,
                scan,
                instance_points=self._options.instance_points,
                pair_points=self._options.pair_points,
                unseen=self._unseen,
                predicates=self._predicates_of(scan.partition("/")[0]),
            )
            if len(self._readers) > _SCANS_AT_HAND:
                self._readers.popitem(last=False)
        self._readers.move_to_end(scan)
        return self._readers[scan]

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """How many points the network is shown of an instance and of a pair."""
        stored = execute(self._connection, "training_sizes", {"scans": list(self._scans)}).fetchone()
        chosen = (self._options.instance_points, self._options.pair_points)
        instance, pair = (a or b or 1 for a, b in zip(chosen, stored or (None, None), strict=True))
        return instance, pair

    def _predicates_of(self, dataset: str) -> Sequence[str]:
        if dataset not in self._predicates:
            learnt = self._relation.predicates
            self._predicates[dataset] = learnt or read_predicates(self._connection, dataset)
        return self._predicates[dataset]

    def _add_targets(self, unit: Unit, graph: SceneGraph) -> _Rows | None:
        """Add what is learnt of the unit, but for tokens, which are read when their number is known."""
        scan_id = self._readers[unit.key.scan].scan.scan_id
        target, valid = self._nodes(unit, scan_id)
        graph.node_target, graph.node_valid = torch.from_numpy(target), torch.from_numpy(valid)
        if self._relation.kind == "classes":
            graph.relation_classes = torch.from_numpy(unit.holds.astype(np.float32))
            return None
        said = self._relation.kind == "captions"
        rows = self._captions(unit, scan_id) if said else self._pairs(unit, scan_id)
        graph.rows = rows.count
        graph.relation_row, graph.relation_valid = torch.from_numpy(rows.row), torch.from_numpy(rows.valid)
        if self._relation.kind != "tokens":
            graph.relation_target = torch.from_numpy(rows.vectors)
        return rows

    def _nodes(self, unit: Unit, scan_id: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (M, d) and (M,). UserError where the whole scan has none any more."""
        encoder = self._node_encoder
        key = {"scan_id": scan_id, "encoder_id": encoder.encoder_id}
        asked = {**key, "numbers": unit.numbers.tolist()}
        rows = execute(self._connection, "unit_node_features", asked, binary=True).fetchall()
        if not rows and not fetch_value(self._connection, "scan_has_node_features", key):
            raise UserError(
                f"its scan has no features by {encoder.full_name}: run `open3dsg features dump --nodes"
                f" --encoder {encoder.name} --scan {unit.key.scan}`"
            )
        target = np.zeros((len(unit.numbers), encoder.dimension), np.float32)
        places = np.searchsorted(unit.numbers, [number for number, _ in rows])
        for place, (_, embedding) in zip(places, rows, strict=True):
            target[place] = embedding.to_numpy()
        valid = np.zeros(len(target), np.bool_)
        valid[places] = True
        return target, valid

    def _pairs(self, unit: Unit, scan_id: int) -> _Rows:
        """Return the rows of the pairs that have a feature; both directions share one."""
        encoder = self._encoder
        forward, pair_of = _unordered(unit)
        ends = unit.numbers[unit.edges[forward]]
        is_pooled = self._relation.kind == "pooled"
        asked = {
            "scan_id": scan_id,
            "encoder_id": encoder.encoder_id,
            "a": ends[:, 0].tolist(),
            "b": ends[:, 1].tolist(),
            "with_embedding": is_pooled,
        }
        found = execute(self._connection, "unit_pair_features", asked, binary=True).fetchall()
        places = np.array([place for place, _ in found], np.int64)
        row_of_pair = np.full(len(ends), -1, np.int64)
        row_of_pair[places] = np.arange(len(places))
        vectors = np.zeros((len(found) if is_pooled else 0, encoder.dimension), np.float32)
        for at, (_, embedding) in enumerate(found if is_pooled else ()):
            vectors[at] = embedding.to_numpy()
        row = row_of_pair[pair_of]
        pairs = [(a, b) for a, b in ends[places].tolist()]
        return _Rows(np.maximum(row, 0), row >= 0, len(found), vectors, pairs)

    def _captions(self, unit: Unit, scan_id: int) -> _Rows:
        """Return a row a phrase, of the directed pairs of which something is said."""
        words = cast("StoredEncoder", self._relation.words)  # captions have some
        asked = {
            "scan_id": scan_id,
            "encoder_id": self._encoder.encoder_id,
            "words_id": words.encoder_id,
            "numbers": unit.numbers.tolist(),
        }
        said = execute(self._connection, "unit_captions", asked, binary=True).fetchall()
        phrases = {phrase: embedding for _, _, phrase, embedding in said}
        rows = {phrase: at for at, phrase in enumerate(phrases)}
        vectors = np.zeros((len(phrases), words.dimension), np.float32)
        for at, embedding in enumerate(phrases.values()):
            vectors[at] = embedding.to_numpy()
        row_of = {(subject, object_): rows[phrase] for subject, object_, phrase, _ in said}
        row = np.array([row_of.get((s, o), -1) for s, o in unit.pairs.tolist()], np.int64)
        return _Rows(np.maximum(row, 0), row >= 0, len(phrases), vectors)

    def _read_tokens(self, units: Sequence[Unit], rows: Sequence[_Rows], out: NDArray[np.float16]) -> None:
        """Fill `out`, (R, T, d), with the tokens of all units."""
        at = 0
        for unit, of_unit in zip(units, rows, strict=True):
            scan_id = self._readers[unit.key.scan].scan.scan_id
            part = out[at : at + of_unit.count]
            read_pair_halves(self._connection, scan_id, self._encoder, of_unit.pairs, part)
            at += of_unit.count

    @property
    def _encoder(self) -> StoredEncoder:
        return cast("StoredEncoder", self._relation.encoder)  # where no classes are learnt there is one


def scene_graph(unit: Unit, sizes: tuple[int, int], *, use_rgb: bool) -> SceneGraph:
    """Return a unit as a network is shown it, without targets; samples have `sizes` points.

    `sizes`: of an instance, of a pair. Smaller samples repeat their points.
    """
    instance_points, pair_points = sizes
    forward, pair_of = _unordered(unit)
    clouds, _ = gather(unit.samples, instance_points, use_rgb=use_rgb)
    pair_clouds, owner = gather([unit.unions[edge] for edge in forward], pair_points, use_rgb=use_rgb)
    ends = unit.numbers[unit.edges[forward]]
    whose = (owner == ends[:, :1]).astype(np.uint8) + np.uint8(2) * (owner == ends[:, 1:])
    boxes = np.zeros((len(unit.numbers), 7), np.float32)
    boxes[:, :3] = (unit.aabb_min_m + unit.aabb_max_m) / 2
    boxes[:, 3:6] = unit.aabb_max_m - unit.aabb_min_m
    return SceneGraph(
        num_nodes=len(unit.numbers),
        instance_points=torch.from_numpy(clouds),
        instance_box=torch.from_numpy(boxes),
        instance_centre=_tensor(unit.centre_m, np.float32),
        pair_points=torch.from_numpy(pair_clouds),
        pair_owner=torch.from_numpy(whose),
        edge_index=_tensor(unit.edges.T, np.int64),
        edge_pair=torch.from_numpy(pair_of),
        edge_turned=torch.from_numpy(unit.edges[:, 0] > unit.edges[:, 1]),
        edge_offset=_tensor(unit.offset_m, np.float32),
        edge_graph=torch.zeros(len(unit.edges), dtype=torch.int64),
        graphs=1,
        instances=len(unit.numbers),
        pairs=len(forward),
        rows=0,
    )


def _unordered(unit: Unit) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the edges from a to b, a < b, one a pair: (P,), and which pair each edge is of: (E,)."""
    low, high = np.sort(unit.edges, axis=1).T.astype(np.int64)
    name = low * len(unit.numbers) + high
    forward = np.flatnonzero(unit.edges[:, 0] < unit.edges[:, 1])
    return forward, np.searchsorted(name[forward], name)  # edges are in order, and so are these


def _tensor(values: NDArray[Any], dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype))
