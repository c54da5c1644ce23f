"""Training units into the store: built subgraphs, samples of instances, geometry of pairs.

Rows are written as they are made, so that the graph of a whole scan is never held at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute
from open3dsg.store.scans import check_dataset, find_scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.geometry.pairs import PairGeometry
    from open3dsg.geometry.windows import Group

GIVEN, WINDOW, FULL = "3dssg", "window", "full"  # subgraph.method
FULL_NUMBER = -1

_KEY = {"scan_id": "int8", "subgraph_no": "int4"}
SUBGRAPH_COLUMNS = {**_KEY, "method": "text", "centre_m": "float8[]", "max_distance_m": "float8"}
MEMBER_COLUMNS = {**_KEY, "instance_no": "int4", "label_id": "int4"}
SAMPLE_COLUMNS = {
    "scan_id": "int8",
    "instance_no": "int4",
    "point_ids": "bytea",
    "centre_m": "float8[]",
    "scale_m": "float8",
    "neighbours": "int4[]",
}
PAIR_COLUMNS = {
    "scan_id": "int8",
    "instance_a": "int4",
    "instance_b": "int4",
    "point_ids": "bytea",
    "union_points": "int4",
    "offset_m": "float8[]",
    "min_distance_m": "float8",
    "closest_a": "int4",
    "closest_b": "int4",
}


class InstanceSample(NamedTuple):
    """The points of an instance that a model is shown."""

    number: int
    point_ids: NDArray[np.int32]  # (K,) places in the scan, in farthest-point order
    centre_m: NDArray[np.float64]  # (3,) mean of those points
    scale_m: float  # distance of the furthest of them from the centre
    neighbours: NDArray[np.int32]  # instance numbers, ascending


@dataclass(frozen=True)
class SubgraphStatus:
    """How much a subgraph holds, and the reason, if any, for which a trainer passes over it."""

    dataset: str
    scan: str
    split: str | None
    subgraph: int
    method: str
    objects: int
    objects_with_points: int
    visible_objects: int | None  # None where the scan was not observed
    pairs: int
    relations: int
    reason: str | None


def stored_subgraphs(
    connection: Connection[Any], *, dataset: str | None, split: str | None, scan: str | None
) -> list[SubgraphStatus]:
    """Return the subgraphs of the store, or of a part; UserError for a dataset or scan that is absent."""
    if dataset is not None:
        check_dataset(connection, dataset)
    scan_id = None if scan is None else find_scan(connection, scan).scan_id
    chosen = {"dataset": dataset, "split": split, "scan_id": scan_id}
    return [SubgraphStatus(*row) for row in execute(connection, "subgraph_rows", chosen)]


def write_windows(
    connection: Connection[Any], scan_id: int, groups: Sequence[Group], labels: Mapping[int, int]
) -> None:
    """Write groups as subgraphs numbered from 0; `labels` holds the term of each instance's label."""
    subgraphs = ((scan_id, at, WINDOW, group.centre_m.tolist(), None) for at, group in enumerate(groups))
    copy_in(connection, "subgraph", SUBGRAPH_COLUMNS, subgraphs)
    members = (
        (scan_id, at, number, labels[number])
        for at, group in enumerate(groups)
        for number in group.numbers.tolist()
    )
    copy_in(connection, "subgraph_member", MEMBER_COLUMNS, members)


def write_full(
    connection: Connection[Any], scan_id: int, labels: Mapping[int, int], max_distance_m: float | None
) -> None:
    """Write the graph of the whole scan, of the instances in `labels`; None: of all its pairs."""
    row = (scan_id, FULL_NUMBER, FULL, None, max_distance_m)
    copy_in(connection, "subgraph", SUBGRAPH_COLUMNS, [row])
    members = ((scan_id, FULL_NUMBER, number, label) for number, label in sorted(labels.items()))
    copy_in(connection, "subgraph_member", MEMBER_COLUMNS, members)


def write_samples(connection: Connection[Any], scan_id: int, samples: Iterable[InstanceSample]) -> int:
    """Write samples of instances; return their number."""
    rows = (
        (
            scan_id,
            sample.number,
            sample.point_ids.astype("<i4").tobytes(),
            sample.centre_m.tolist(),
            sample.scale_m,
            sample.neighbours.tolist(),
        )
        for sample in samples
    )
    return copy_in(connection, "instance_sample", SAMPLE_COLUMNS, rows)


def write_pairs(connection: Connection[Any], scan_id: int, pairs: Iterable[PairGeometry]) -> int:
    """Write pairs; return their number."""
    rows = (
        (
            scan_id,
            pair.a,
            pair.b,
            pair.point_ids.astype("<i4").tobytes(),
            pair.union_points,
            pair.offset_m.tolist(),
            pair.min_distance_m,
            pair.closest_a,
            pair.closest_b,
        )
        for pair in pairs
    )
    return copy_in(connection, "pair", PAIR_COLUMNS, rows)


def stored_pairs(connection: Connection[Any], scan_id: int) -> NDArray[np.int32]:
    """Return the pairs of a scan that are there: (P, 2) int32, ascending."""
    rows = execute(connection, "pair_keys", {"scan_id": scan_id}).fetchall()
    return np.array(rows, np.int32).reshape(-1, 2)
