"""Graph: a scan into training units; rows of `subgraph`, `instance_sample` and `pair`.

Two variants of the step, each an entry of the ledger: the subgraphs, which are those that the annotations
give or else groups of instances that lie together, and the graph of the whole scan. Both share samples and
pairs, so what those are made with is the same for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.db import ledger
from open3dsg.db.queries import execute, fetch_value
from open3dsg.errors import UserError
from open3dsg.geometry.windows import WindowRule
from open3dsg.steps.summary import Summary
from open3dsg.steps.units import FullOptions, SharedOptions, WindowOptions, build_units
from open3dsg.store.graphs import FULL, WINDOW, stored_pairs
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from open3dsg.geometry.neighbours import Method
    from open3dsg.steps.units import Boxes
    from open3dsg.store.scans import StoredScan

VERSION = 1
STEP = "graph"
OF_PAIRS = ("features.pairs", "features.captions")  # made of which pairs there are, not of their numbers
SUBGRAPHS = "subgraphs"  # the variants of the step: this and FULL

_POINTS = {"scannet": (1_000, 3_000)}  # layout -> points an instance and a pair, as published; else:
_POINTS_ELSE = (2_000, 5_000)
_CLOSEST_SEEDS_M = 0.1  # closer ones make a window of nearly every point, and take hours
_MOST = 2**31 - 1  # of what is counted, and of a seed


@dataclass(frozen=True)
class GraphOptions:
    """What units are made of: neighbours, windows, samples, boxes of pairs, and whether of the whole scan.

    None is what is published for the layout of the scan's dataset, but `max_distance_m` None means all pairs
    of the graph of the whole scan, whose pairs else are not further apart. Metres.
    """

    method: Method = "bbox"
    receptive_field_m: float = 0.8
    seed_distance_m: float = 1.3
    min_instances: int = 6
    max_instances: int = 9
    seed: int = 0
    instance_points: int | None = None
    pair_points: int | None = None
    boxes: Boxes | None = None
    full: bool = False
    max_distance_m: float | None = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, naming the option."""
        _check("--receptive-field", self.receptive_field_m, above=0)
        _check("--seed-distance", self.seed_distance_m, least=_CLOSEST_SEEDS_M)
        _check_count("--min-instances", self.min_instances, least=2)
        _check_count("--max-instances", self.max_instances, least=self.min_instances)
        _check_count("--seed", self.seed, least=0)
        _check_count("--instance-points", self.instance_points, least=1)
        _check_count("--pair-points", self.pair_points, least=1)
        _check("--max-distance", self.max_distance_m, above=0)

    def shared(self, layout: str) -> SharedOptions:
        """Return what both variants have in common, for a dataset of `layout`."""
        instance_points, pair_points = _POINTS.get(layout, _POINTS_ELSE)
        return SharedOptions(
            self.method,
            self.receptive_field_m,
            self.instance_points or instance_points,
            self.pair_points or pair_points,
            self.boxes or ("oriented" if layout == "3rscan" else "axis-aligned"),
        )

    def own(self) -> WindowOptions | FullOptions:
        """Return what only the variant asked for has."""
        if self.full:
            return FullOptions(self.max_distance_m)
        rule = WindowRule(
            self.receptive_field_m, self.seed_distance_m, self.min_instances, self.max_instances
        )
        return WindowOptions(rule, self.seed)

    def entry(self, layout: str, *, given: bool) -> ledger.Entry:
        """Return what the ledger must hold for a scan: no options that have no effect on it.

        `given`: its subgraphs are. What both variants have in common is under ``shared``.
        """
        options: dict[str, Any] = {"shared": self.shared(layout)._asdict()}
        if self.full:
            return ledger.Entry(STEP, VERSION, {**options, "max_distance_m": self.max_distance_m}, FULL)
        if not given:
            windows = ("seed_distance_m", "min_instances", "max_instances", "seed")
            options["windows"] = {name: getattr(self, name) for name in windows}
        return ledger.Entry(STEP, VERSION, options, SUBGRAPHS)


@dataclass(frozen=True)
class Graph:
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: GraphOptions
    force: bool = False
    replace: bool = False

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Build the units of one scan, unless the ledger says that it is done with these options."""
        stored = find_scan(connection, scan)
        with ledger.scan_lock(connection, stored.dataset, stored.name), connection.transaction():
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            entry = self._entry(connection, stored)
            if self._is_done(connection, stored.scan_id, entry):
                return Summary(skipped=True)
            before = stored_pairs(connection, stored.scan_id).tolist()
            _make_room(connection, stored.scan_id, entry, anew=self.force)
            summary = build_units(connection, stored, self.options.shared(stored.layout), self.options.own())
            if stored_pairs(connection, stored.scan_id).tolist() != before:
                ledger.mark_stale(connection, stored.scan_id, OF_PAIRS)
                execute(connection, "pair_features_drop_orphans", {"scan_id": stored.scan_id})
            ledger.record(connection, stored.scan_id, entry, summary.counts, summary.problems)
        return summary

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:
        """Return what is left to do of a scan, each work for itself: all of it at once, or nothing."""
        stored = find_scan(connection, scan)
        entry = self._entry(connection, stored)
        return [] if self._is_done(connection, stored.scan_id, entry) else [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:  # noqa: ARG002
        """Do what comes after the scans, which is nothing here."""
        return ()

    def _entry(self, connection: Connection[Any], scan: StoredScan) -> ledger.Entry:
        given = fetch_value(connection, "has_given_subgraphs", {"scan_id": scan.scan_id})
        return self.options.entry(scan.layout, given=given)

    def _is_done(self, connection: Connection[Any], scan_id: int, entry: ledger.Entry) -> bool:
        """Tell whether nothing is to be done; UserError where either variant was done with other options."""
        if self.force:
            return False
        if ledger.chunks_done(connection, scan_id, entry):
            return True
        if not self.replace:
            ledger.check_same_options(connection, scan_id, entry)
            for recorded in _with_shared(connection, scan_id, entry):
                ledger.check_same_options(connection, scan_id, recorded)
        return False


def _with_shared(connection: Connection[Any], scan_id: int, entry: ledger.Entry) -> Sequence[ledger.Entry]:
    """Return what the ledger would hold of both variants, with what `entry` shares."""
    rows = execute(connection, "graph_options", {"scan_id": scan_id}).fetchall()
    shared = {"shared": entry.options["shared"]}
    return [ledger.Entry(STEP, VERSION, {**options, **shared}, variant) for variant, options in rows]


def _make_room(connection: Connection[Any], scan_id: int, entry: ledger.Entry, *, anew: bool) -> None:
    """Drop what gives way to the work of `entry`; what is left was made with the same shared options.

    `anew`: samples and pairs go in any case, and the other variant has to fill in its own again.
    """
    keep = False
    for recorded in _with_shared(connection, scan_id, entry):
        if ledger.is_begun(connection, scan_id, recorded):
            keep = True
        else:
            _drop_variant(connection, scan_id, recorded.variant)
    _drop_rows(connection, scan_id, entry.variant)
    if anew:
        ledger.mark_stale(connection, scan_id, [STEP])
    if anew or not keep:
        execute(connection, "unit_rows_clear", {"scan_id": scan_id})


def _drop_variant(connection: Connection[Any], scan_id: int, variant: str) -> None:
    ledger.forget(connection, scan_id, [STEP], variant)
    _drop_rows(connection, scan_id, variant)


def _drop_rows(connection: Connection[Any], scan_id: int, variant: str) -> None:
    method = FULL if variant == FULL else WINDOW
    execute(connection, "graph_clear", {"scan_id": scan_id, "method": method})


def _check(
    option: str, value: float | None, *, least: float | None = None, above: float | None = None
) -> None:
    """Raise UserError unless `value` is None, or finite and within its bound."""
    if value is None or (
        math.isfinite(value) and (least is None or value >= least) and (above is None or value > above)
    ):
        return
    bound = f"{least:g} or more" if least is not None else f"more than {above:g}"
    raise UserError(f"{option} is {value:g}: give {bound}")


def _check_count(option: str, value: int | None, *, least: int) -> None:
    """Raise UserError unless `value` is None, or from `least` to the largest number there is room for."""
    if value is None or least <= value <= _MOST:
        return
    bound = f"{least} or more" if value < least else f"{_MOST} or less"
    raise UserError(f"{option} is {value}: give {bound}")
