"""Training units read back: which there are, and each with a handful of queries (see unit.py for what it is).

docs/from-open3dsg.md tells how units differ from the samples in Open3DSG's pickles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from open3dsg.db.queries import execute
from open3dsg.db.snapshot import snapshot
from open3dsg.errors import UserError
from open3dsg.store.cloud import read_cloud
from open3dsg.store.scans import StoredScan, check_dataset, find_scan
from open3dsg.store.unit import PointSample, Sightings, Unit, UnitKey

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg import Connection, Cursor

    from open3dsg.datasets.scan import Cloud

NONE = "none"  # the predicate of a pair without relations

_MOST_POINTS = 2**28  # of a sample: PostgreSQL counts its bytes as an integer

_Columns = Mapping[str, Sequence[Any]]  # name -> a value a row


def unit_keys(
    connection: Connection[Any],
    *,
    dataset: str | None = None,
    split: str | None = None,
    full: bool = False,
) -> list[UnitKey]:
    """Return the units to train on, in the same order in every store: the subgraphs, or the full graphs.

    Those for which `v_subgraph` has no reason to pass over them, of scans that were observed. Raises
    UserError where the store lacks `dataset`.
    """
    if dataset is not None:
        check_dataset(connection, dataset)
    chosen = {"dataset": dataset, "split": split, "full": full, "encoder_id": None}
    return [UnitKey(scan, number) for scan, number, _ in execute(connection, "training_units", chosen)]


def read_predicates(connection: Connection[Any], dataset: str) -> tuple[str, ...]:
    """Return the predicates of a dataset: its own list, then what its relations name beside that.

    The place of a predicate is its id. A dataset without a list has 'none' first.
    """
    rows = execute(connection, "dataset_predicates", {"dataset": dataset}).fetchall()
    is_listed = any(position is not None for _text, position in rows)
    words = [text for text, _position in rows]
    return tuple(words if is_listed else dict.fromkeys([NONE, *words]))


def read_unit(connection: Connection[Any], key: UnitKey, **options: Any) -> Unit:
    """Read one unit; `options` are those of `UnitReader`, which reads several of one scan faster."""
    return UnitReader(connection, key.scan, **options).read(key.subgraph_no)


class _Head(NamedTuple):
    """What the query `unit_head` gives."""

    method: str
    max_distance_m: float | None
    built: bool | None  # else samples or pairs may be missing
    points_written: str | None  # by which transaction; None where the scan has no points


class UnitReader:
    """Reads units of one scan. Its cloud and its predicates are read once, and each unit by five queries.

    Each unit is of one moment, also while the scan is built or ingested anew: its points are then read again.
    The connection must commit by itself, as `open_store` gives it, or be in a REPEATABLE READ transaction.
    """

    def __init__(
        self,
        connection: Connection[Any],
        scan: str,
        *,
        instance_points: int | None = None,
        pair_points: int | None = None,
        unseen: bool = False,
        predicates: Sequence[str] | None = None,
    ) -> None:
        """Find `scan`, by name or `dataset/name`.

        `instance_points`, `pair_points`: the size of samples, at most as stored; None: as stored. `unseen`
        keeps instances that no frame shows, which the published code drops. `predicates`: those of
        `read_predicates`, where they are read already.
        Raises UserError for a scan that is not there and a size below 1.
        """
        for name, size in (("instance_points", instance_points), ("pair_points", pair_points)):
            if size is not None and not 1 <= size <= _MOST_POINTS:
                raise UserError(f"{name} is {size}: give a number from 1 to {_MOST_POINTS}")
        self._connection = connection
        self._scan = find_scan(connection, scan)
        self._instance_points = instance_points
        self._pair_points = pair_points
        self._unseen = unseen
        self._given_predicates = predicates
        self._kept: tuple[str | None, Cloud] | None = None  # by which transaction it was written, the cloud

    @property
    def scan(self) -> StoredScan:
        """The scan as of the last unit."""
        return self._scan

    def read(self, subgraph_no: int) -> Unit:
        """Read one subgraph; -1 is the full graph.

        Raises UserError where the scan is gone or lacks it, where it is not built, or not again since
        instances changed, where samples are smaller than asked for, where no frame shows any of its
        instances, unless such instances are kept, and for a relation that is none of the predicates.
        """
        with snapshot(self._connection):
            return self._read(subgraph_no)

    def _read(self, subgraph_no: int) -> Unit:
        head = self._head(subgraph_no)
        unit = {"scan_id": self._scan.scan_id, "subgraph_no": subgraph_no}
        sized = {**unit, "points": self._instance_points}
        members = _columns(execute(self._connection, "unit_members", sized, binary=True))
        sightings = self._sightings(members["instance_no"])
        left_out = self._left_out(members, sightings)
        if not head.built:
            raise self._not_built(full=subgraph_no < 0)
        cloud = self._cloud(head.points_written)
        nodes = self._nodes(_without(members, left_out), cloud)
        numbers = nodes["numbers"]
        edges = self._edges(numbers, head.max_distance_m, cloud)
        relations = _columns(execute(self._connection, "unit_relationships", unit))
        holds, relations_left_out = self._holds(relations, numbers[edges["edges"]])
        return Unit(
            key=UnitKey(self._scan.key, subgraph_no),
            method=head.method,
            predicates=self._predicates,
            sightings=[sightings[number] for number in numbers.tolist()],
            holds=holds,
            left_out=left_out,
            relations_left_out=relations_left_out,
            **nodes,
            **edges,
        )

    def _cloud(self, written: str | None) -> Cloud:
        """Return the points, read before or, where another transaction has written them since, now."""
        if self._kept is None or self._kept[0] != written:
            self._kept = written, read_cloud(self._connection, self._scan.scan_id, self._scan.name)
        return self._kept[1]

    @cached_property
    def _predicates(self) -> Sequence[str]:
        given = self._given_predicates
        return read_predicates(self._connection, self._scan.dataset) if given is None else given

    def _head(self, subgraph_no: int) -> _Head:
        head = self._find_head(subgraph_no)
        if head is None:
            self._scan = find_scan(self._connection, self._scan.key)  # deleted since, or ingested again
            head = self._find_head(subgraph_no)
        if head is None:
            key = self._scan.key
            numbers = execute(self._connection, "unit_numbers", {"scan_id": self._scan.scan_id})
            there = ", ".join(str(number) for (number,) in numbers)
            raise UserError(
                f"scan {key} has no subgraph {subgraph_no}; it has {there or 'none'}:"
                f" `open3dsg graph build --scan {key}` makes those there can be, and with --full number -1"
            )
        return head

    def _find_head(self, subgraph_no: int) -> _Head | None:
        unit = {"scan_id": self._scan.scan_id, "subgraph_no": subgraph_no}
        row = execute(self._connection, "unit_head", unit).fetchone()
        return None if row is None else _Head(*row)

    def _sightings(self, numbers: Sequence[int]) -> dict[int, Sightings]:
        """Return the frames that show each of the instances, perhaps none."""
        of_scan = {"scan_id": self._scan.scan_id, "numbers": list(numbers)}
        rows = _columns(execute(self._connection, "unit_observations", of_scan, binary=True))
        every = Sightings(
            np.array(rows["frame_no"], np.int32),
            np.array(rows["visible_points"], np.int32),
            np.array(rows["visibility_ratio"], np.float32),
            np.array(rows["pixel_box"], np.int16).reshape(-1, 4),
        )
        of_rows = np.array(rows["instance_no"], np.int32)
        starts, stops = (np.searchsorted(of_rows, numbers, side) for side in ("left", "right"))
        return {
            number: every.rows(slice(start, stop))
            for number, start, stop in zip(numbers, starts, stops, strict=True)
        }

    def _left_out(self, members: _Columns, sightings: Mapping[int, Sightings]) -> dict[int, str]:
        """Return why members are none of the instances; UserError where nothing but `observe` is wanting."""
        counts = dict(zip(members["instance_no"], members["point_count"], strict=True))
        if not self._unseen and not any(map(len, sightings.values())):
            raise UserError(
                f"no frame shows an instance of this subgraph of {self._scan.key}:"
                f" run `open3dsg observe --scan {self._scan.key}`, or read unseen instances too"
            )
        hidden = [number for number, frames in sightings.items() if not len(frames) and not self._unseen]
        empty = [number for number, count in counts.items() if count == 0]
        return dict.fromkeys(hidden, "no frame shows it") | dict.fromkeys(empty, "it has no points")

    def _nodes(self, members: _Columns, cloud: Cloud) -> dict[str, Any]:
        """Return the fields of a Unit that are of instances."""
        self._check_samples("an instance", self._instance_points, members["stored"], members["point_count"])
        samples = _samples(members, cloud)
        centre_m, scale_m = _floats(members["centre_m"], 3), np.array(members["scale_m"], np.float64)
        for at, sample in enumerate(samples):
            if len(sample) < members["stored"][at]:  # part of what is stored, with a mean of its own
                centre_m[at], scale_m[at] = sample.extent()
        shapes: dict[str, tuple[int, ...]] = {"obb_axes": (3, 3)}
        boxes = ("aabb_min_m", "aabb_max_m", "obb_centre_m", "obb_axes", "obb_lengths_m")
        return {
            "numbers": np.array(members["instance_no"], np.int32),
            "label_ids": np.array(members["label_id"], np.int32),
            "labels": members["label"],
            "samples": samples,
            "centre_m": centre_m,
            "scale_m": scale_m,
            **{name: _floats(members[name], *shapes.get(name, (3,))) for name in boxes},
        }

    def _edges(
        self, numbers: NDArray[np.int32], max_distance_m: float | None, cloud: Cloud
    ) -> dict[str, Any]:
        """Return the fields of a Unit that are of pairs: two directed ones of each that is stored."""
        chosen = {
            "scan_id": self._scan.scan_id,
            "numbers": numbers.tolist(),
            "max_distance_m": max_distance_m,
            "points": self._pair_points,
        }
        pairs = _columns(execute(self._connection, "unit_pairs", chosen, binary=True))
        count = len(pairs["stored"])
        if max_distance_m is None and 2 * count != len(numbers) * (len(numbers) - 1):
            raise self._not_built()
        self._check_samples("a pair", self._pair_points, pairs["stored"], pairs["union_points"])
        unions = _samples(pairs, cloud)
        a_and_b = np.array([pairs["instance_a"], pairs["instance_b"]], np.int32).T
        ends = np.searchsorted(numbers, a_and_b).astype(np.int32)
        both = np.concatenate([ends, ends[:, ::-1]])
        order = np.lexsort((both[:, 1], both[:, 0]))
        pair, turned = np.tile(np.arange(count), 2)[order], order >= count
        closest = np.array([pairs["closest_a"], pairs["closest_b"]], np.int64).T
        closest_m = cloud.xyz_m[closest].astype(np.float64)[pair]
        closest_m[turned] = closest_m[turned, ::-1]
        b_minus_a = _floats(pairs["offset_m"], 3)[pair]
        return {
            "edges": both[order],
            "unions": [unions[at] for at in pair],
            "offset_m": np.where(turned[:, None], b_minus_a, -b_minus_a),
            "closest_m": closest_m,
            "min_distance_m": np.array(pairs["min_distance_m"], np.float64)[pair],
        }

    def _check_samples(
        self, of_what: str, wanted: int | None, stored: Sequence[int | None], points: Sequence[int]
    ) -> None:
        """Raise UserError unless samples of `wanted` points can be had; `points` are as many as there are."""
        for has, most in zip(stored, points, strict=True):
            if has is None:
                raise self._not_built()
            if wanted is not None and has < min(wanted, most):
                raise UserError(
                    f"samples of {wanted} points {of_what} are asked for, those of {self._scan.key} have"
                    f" {has}: ask for no more, or build larger ones with `open3dsg graph build --replace`"
                )

    def _not_built(self, *, full: bool = False) -> UserError:
        command = f"open3dsg graph build --scan {self._scan.key}{' --full' if full else ''}"
        return UserError(f"samples of scan {self._scan.key} are not all there: run `{command}`")

    def _holds(self, relations: _Columns, pairs: NDArray[np.int32]) -> tuple[NDArray[np.bool_], int]:
        """Return which predicates hold of each of the directed `pairs`, and count the relations of others.

        Raises UserError for a relation that is none of the predicates.
        """
        rows = {pair: row for row, pair in enumerate(map(tuple, pairs.tolist()))}
        columns = {name: column for column, name in enumerate(self._predicates)}
        unknown = sorted(set(relations["predicate"]) - columns.keys())
        if unknown:
            raise UserError(
                f"scan {self._scan.key} has the relation {unknown[0]!r}, which is none of the"
                f" {len(columns)} predicates it is read with: read those of the dataset again"
            )
        holds = np.zeros((len(pairs), len(columns)), np.bool_)
        left_out = 0
        ends = zip(relations["subject"], relations["object"], strict=True)
        for pair, predicate in zip(ends, relations["predicate"], strict=True):
            if pair in rows:
                holds[rows[pair], columns[predicate]] = True
            else:
                left_out += 1
        if NONE in columns:
            holds[~holds.any(axis=1), columns[NONE]] = True
        return holds, left_out


def _columns(cursor: Cursor[Any]) -> _Columns:
    names = [column.name for column in cursor.description or ()]
    rows = cursor.fetchall()
    return dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def _without(members: _Columns, left_out: Mapping[int, str]) -> _Columns:
    kept = [at for at, number in enumerate(members["instance_no"]) if number not in left_out]
    return {name: [values[at] for at in kept] for name, values in members.items()}


def _samples(rows: _Columns, cloud: Cloud) -> list[PointSample]:
    places = (np.frombuffer(packed, "<i4").astype(np.int32, copy=False) for packed in rows["point_ids"])
    return [PointSample(cloud, point_ids) for point_ids in places]


def _floats(values: Sequence[Any], *shape: int) -> NDArray[np.float64]:
    return np.array(values, np.float64).reshape(-1, *shape)
