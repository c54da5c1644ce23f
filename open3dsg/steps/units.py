"""The training units of one scan: its subgraphs, the samples of its instances, the geometry of its pairs.

What is there already, made with the same options, is kept: only what is missing is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from open3dsg.datasets.scan import Problem
from open3dsg.db.queries import execute, execute_many, fetch_value
from open3dsg.geometry.neighbours import find_neighbours
from open3dsg.geometry.windows import group_instances, random_of
from open3dsg.steps.summary import Summary
from open3dsg.store.cloud import read_cloud
from open3dsg.store.graphs import (
    InstanceSample,
    stored_pairs,
    write_full,
    write_pairs,
    write_samples,
    write_windows,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.datasets.scan import Cloud
    from open3dsg.geometry.neighbours import Method
    from open3dsg.geometry.pairs import PairBoxes, PairBuilder
    from open3dsg.geometry.windows import WindowRule
    from open3dsg.store.scans import StoredScan

Boxes = Literal["oriented", "axis-aligned"]


class SharedOptions(NamedTuple):
    """What samples and pairs are made with, whichever subgraphs they belong to."""

    method: Method  # of finding neighbours
    receptive_field_m: float
    instance_points: int  # in a sample
    pair_points: int
    boxes: Boxes  # whose points are those of a pair


class WindowOptions(NamedTuple):
    """How subgraphs are made that are not given."""

    rule: WindowRule
    seed: int


class FullOptions(NamedTuple):
    """How the graph of the whole scan is made."""

    max_distance_m: float | None  # of its pairs; None: all pairs


class _Instance(NamedTuple):
    """A row of `instance` that has points."""

    number: int
    label_id: int
    aabb_min_m: Sequence[float]
    aabb_max_m: Sequence[float]
    obb_centre_m: Sequence[float]
    obb_axes: Sequence[float]
    obb_lengths_m: Sequence[float]


def build_units(
    connection: Connection[Any], scan: StoredScan, shared: SharedOptions, own: WindowOptions | FullOptions
) -> Summary:
    """Write the subgraphs of a scan, and what is missing of samples and pairs, in a transaction.

    `own` says of which subgraphs: the graph of the whole scan, or windows, where none are given. Those that
    were built before must be gone. UserError for a scan without points.
    """
    cloud = read_cloud(connection, scan.scan_id, scan.name)
    rows = execute(connection, "graph_instances", {"scan_id": scan.scan_id})
    build = _Build(connection, scan, shared, own, cloud, [_Instance(*row) for row in rows])
    if build.instances:
        return build.run()
    hint = "; the test split of ScanNet is published without" if scan.layout == "scannet" else ""
    nothing = Problem("scan_without_instances", f"{scan.name} has no instances with points{hint}")
    return Summary({"subgraphs": 0, "members": 0, "pairs": 0, "instances": 0}, [nothing])


@dataclass(frozen=True)
class _Build:
    """One scan being built."""

    connection: Connection[Any]
    scan: StoredScan
    shared: SharedOptions
    own: WindowOptions | FullOptions
    cloud: Cloud
    instances: Sequence[_Instance]  # ascending

    def run(self) -> Summary:
        """Write everything; return counts of all that is there, and what a trainer cannot use."""
        counts, problems = self._write_subgraphs()
        execute(self.connection, "pairs_drop_orphans", self._key)
        self._write_samples()
        counts |= self._write_pairs()
        return Summary(counts, [*problems, *self._unusable()])

    @property
    def _key(self) -> dict[str, int]:
        return {"scan_id": self.scan.scan_id}

    @property
    def _full(self) -> bool:
        return isinstance(self.own, FullOptions)

    @cached_property
    def _numbers(self) -> NDArray[np.int32]:
        return np.array([instance.number for instance in self.instances], np.int32)

    @cached_property
    def _aabb(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high corners, (M, 3) each."""
        low, high = zip(*((i.aabb_min_m, i.aabb_max_m) for i in self.instances), strict=True)
        return np.array(low), np.array(high)

    @cached_property
    def _builder(self) -> PairBuilder:
        from open3dsg.geometry.pairs import PairBuilder  # compiled loops: a second, where they are run

        return PairBuilder(self.cloud.xyz_m, self.cloud.instance, self._boxes())

    def _boxes(self) -> PairBoxes:
        from open3dsg.geometry.pairs import PairBoxes

        count = len(self.instances)
        if self.shared.boxes == "oriented":
            centre = np.array([instance.obb_centre_m for instance in self.instances])
            axes = np.array([instance.obb_axes for instance in self.instances]).reshape(count, 3, 3)
            lengths = np.array([instance.obb_lengths_m for instance in self.instances])
            return PairBoxes(self._numbers, centre, axes, lengths)
        low, high = self._aabb
        axes = np.tile(np.eye(3), (count, 1, 1))
        return PairBoxes(self._numbers, (low + high) / 2, axes, high - low)

    def _write_subgraphs(self) -> tuple[dict[str, int], list[Problem]]:
        """Write the subgraphs that are not given; count all of the variant, and say what is left out."""
        labels = {instance.number: instance.label_id for instance in self.instances}
        counts: dict[str, int] = {}
        problems: list[Problem] = []
        if isinstance(self.own, FullOptions):
            write_full(self.connection, self.scan.scan_id, labels, self.own.max_distance_m)
        elif not fetch_value(self.connection, "has_given_subgraphs", self._key):
            counts, problems = self._write_windows(self.own, labels)
        members = self._members(full=self._full)
        named = {number for _subgraph, number in members}
        counts |= {
            "subgraphs": len({subgraph for subgraph, _number in members}),
            "members": len(members),
            "instances": len(labels),
            "instances_in_no_group": len(labels.keys() - named),
        }
        return counts, [*problems, *self._left_out(named)]

    def _write_windows(
        self, own: WindowOptions, labels: Mapping[int, int]
    ) -> tuple[dict[str, int], list[Problem]]:
        random = random_of(own.seed, self.scan.name)
        windows = group_instances(self.cloud.xyz_m, self.cloud.instance, own.rule, random)
        write_windows(self.connection, self.scan.scan_id, windows.groups, labels)
        counts = {
            "windows": windows.windows,
            "windows_of_too_few": windows.too_few,
            "groups_kept_once": windows.kept_once,
        }
        detail = (
            f"{self.scan.name}: {windows.too_few} of {windows.windows} windows hold fewer than"
            f" {own.rule.min_instances} instances and make no group"
        )
        return counts, [Problem("window_of_too_few_instances", detail)] if windows.too_few else []

    def _left_out(self, named: set[int]) -> Iterator[Problem]:
        """Name the members that have no points, and the instances with points that are members of nothing."""
        numbers = set(self._numbers.tolist())
        for number in sorted(named - numbers):
            yield Problem("instance_without_points", f"{self.scan.name} instance {number} is in a subgraph")
        alone = sorted(numbers - named)
        if alone:
            share = f"{len(alone)} of {len(numbers)} instances ({len(alone) / len(numbers):.0%})"
            which = ", ".join(map(str, alone))
            yield Problem("instance_in_no_group", f"{self.scan.name}: {share} are in no group: {which}")

    def _members(self, *, full: bool) -> list[tuple[int, int]]:
        """Return (subgraph, instance) of the graph of the whole scan, or of all others; ascending."""
        return execute(self.connection, "graph_members", {**self._key, "full": full}).fetchall()

    def _write_samples(self) -> None:
        """Write the samples that are missing; those that are there may have other neighbours now."""
        reach_m, method = self.shared.receptive_field_m, self.shared.method
        found = find_neighbours(self._builder, self._numbers, self._aabb, reach_m, method)
        neighbours = dict(zip(self._numbers.tolist(), found, strict=True))
        there = [number for (number,) in execute(self.connection, "sampled_instances", self._key)]
        known = [{**self._key, "number": n, "neighbours": neighbours.pop(n).tolist()} for n in there]
        if known:
            execute_many(self.connection, "sample_set_neighbours", known)
        write_samples(self.connection, self.scan.scan_id, self._samples(neighbours))

    def _samples(self, neighbours: Mapping[int, NDArray[np.int32]]) -> Iterator[InstanceSample]:
        """Sample the points of the instances that are keys of `neighbours`."""
        from open3dsg.geometry.sampling import farthest_points  # compiled loops, as above

        by_instance = np.argsort(self.cloud.instance, kind="stable")
        instance = self.cloud.instance[by_instance]
        for number, around in neighbours.items():
            first, last = np.searchsorted(instance, (number, number + 1))
            own = by_instance[first:last]
            taken = own[farthest_points(self.cloud.xyz_m[own], self.shared.instance_points)]
            points = self.cloud.xyz_m[taken].astype(np.float64)
            centre = points.mean(axis=0)
            scale = float(np.linalg.norm(points - centre, axis=1).max())
            yield InstanceSample(number, taken.astype(np.int32), centre, scale, around)

    def _write_pairs(self) -> dict[str, int]:
        """Write the pairs that are missing; count all of the variant, and those of several subgraphs."""
        wanted, times = _pairs_inside(self._members(full=False), self._numbers)
        shared = int((times > 1).sum())
        if isinstance(self.own, FullOptions):
            inside = _as_one(wanted)
            wanted = self._builder.close_pairs(self._numbers, self.own.max_distance_m)
            shared = int(np.isin(_as_one(wanted), inside).sum())
        there = _as_one(stored_pairs(self.connection, self.scan.scan_id))
        missing = wanted[~np.isin(_as_one(wanted), there)]
        pairs = self._builder.build(missing, self.shared.pair_points)
        write_pairs(self.connection, self.scan.scan_id, pairs)
        return {"pairs": len(wanted), "pairs_shared": shared}

    def _unusable(self) -> Iterator[Problem]:
        """Name the subgraphs that a trainer passes over."""
        rows = execute(self.connection, "subgraphs_unusable", {**self._key, "full": self._full})
        for subgraph, reason, objects, with_points, visible in rows:
            seen = "" if visible is None else f", {visible} visible"
            detail = (
                f"{self.scan.name} subgraph {subgraph}: {objects} objects, {with_points} with points{seen}"
            )
            yield Problem(f"subgraph_{reason.replace(' ', '_')}", detail)


def _pairs_inside(
    members: Sequence[tuple[int, int]], with_points: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return all pairs inside the subgraphs, (P, 2), each once, and how many subgraphs have each, (P,)."""
    known = set(with_points.tolist())
    parts = [np.empty((0, 2), np.int32)]
    for _subgraph, of_subgraph in groupby(members, key=itemgetter(0)):
        numbers = np.array([number for _, number in of_subgraph if number in known], np.int32)
        parts.append(np.column_stack([numbers[end] for end in np.triu_indices(len(numbers), 1)]))
    return np.unique(np.concatenate(parts), axis=0, return_counts=True)


def _as_one(pairs: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return one number a pair: (P, 2) -> (P,)."""
    return pairs[:, 0].astype(np.int64) << 32 | pairs[:, 1]
