"""What a run trains and validates on, pinned: its units, and a hash of the work they came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from open3dsg.db.queries import execute
from open3dsg.db.snapshot import snapshot
from open3dsg.errors import UserError
from open3dsg.store.scans import check_dataset
from open3dsg.store.unit import UnitKey

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import Connection

    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.training.options import Graphs
    from open3dsg.training.targets import RelationTarget

TRAIN, VALIDATION = "train", "validation"
MINI = 10  # units of --mini


@dataclass(frozen=True)
class Manifest:
    """The units of each part, in an order that is the same in every store, and the hash."""

    units: Mapping[str, tuple[UnitKey, ...]]  # "train", "validation"
    digest: str  # of the units and of the work their samples and features came from
    left_out: int = 0  # units of scans without a feature of the node encoder, which are in no part

    def as_json(self) -> dict[str, dict[str, list[int]]]:
        """Return what `run.units` keeps: {part: {dataset/scan: [subgraph, ...]}}."""
        return {part: _by_scan(keys) for part, keys in self.units.items()}


def manifest_from(units: Mapping[str, Mapping[str, Sequence[int]]], digest: str) -> Manifest:
    """Return the manifest that `as_json` wrote, with its hash; JSON of the database keeps no order."""
    return Manifest(
        {
            part: tuple(UnitKey(scan, number) for scan in sorted(scans) for number in sorted(scans[scan]))
            for part, scans in units.items()
        },
        digest,
    )


def make_manifest(
    connection: Connection[Any],
    *,
    dataset: str,
    train_split: str | None,
    validation_split: str | None,
    graphs: Graphs,
    node_encoder: StoredEncoder,
    relation: RelationTarget,
    mini: bool = False,
) -> Manifest:
    """Pin the units of two splits of a dataset, None: of all its scans.

    `mini` takes ten units to train on, and validates on the same. Units of scans without a feature of
    `node_encoder` are left out and counted. Raises UserError, with the command that fills it, for a part that
    would be empty, and where the store lacks the dataset.
    """
    check_dataset(connection, dataset)
    splits = {TRAIN: train_split} if mini else {TRAIN: train_split, VALIDATION: validation_split}
    with snapshot(connection):
        units, left_out = {}, 0
        for part, split in splits.items():
            chosen = _Part(dataset, split, graphs == "full", node_encoder)
            units[part], without = chosen.read(connection)
            left_out += without
        if mini:
            units = dict.fromkeys((TRAIN, VALIDATION), units[TRAIN][:MINI])
        work = _read_work(connection, units, node_encoder, relation)
    return Manifest(units, _digest(units, node_encoder, relation, work), left_out)


def check_manifest(
    connection: Connection[Any],
    manifest: Manifest,
    *,
    node_encoder: StoredEncoder,
    relation: RelationTarget,
    since: datetime,
) -> None:
    """Raise UserError, naming a scan, where what the manifest pins was dropped or made anew.

    `since`: when it was pinned, or a little later. Rows that were added for other scans, for other encoders
    or for units of the other kind change nothing.
    """
    keys = [key for part in sorted(manifest.units) for key in manifest.units[part]]
    asked = {"scans": [key.scan for key in keys], "numbers": [key.subgraph_no for key in keys]}
    with snapshot(connection):
        gone = execute(connection, "training_missing_unit", asked).fetchone()
        if gone is not None:
            raise UserError(f"subgraph {gone[1]} of scan {gone[0]}, {_PINNED}, is gone: {_ANEW}")
        work = _read_work(connection, manifest.units, node_encoder, relation)
    if _digest(manifest.units, node_encoder, relation, work) == manifest.digest:
        return
    raise UserError(f"{_what_changed(manifest, relation, work, since)}: {_ANEW}")


def _what_changed(
    manifest: Manifest, relation: RelationTarget, work: Sequence[_Work], since: datetime
) -> str:
    """Name a scan of which the lines of the ledger are not as they were; `work` has them in order."""
    done = {(line.scan, line.step) for line in work}
    scans = sorted({key.scan for keys in manifest.units.values() for key in keys})
    for scan in scans:
        for step in _OF_EACH:
            if (scan, step) not in done:
                return f"scan {scan}, {_PINNED}, lost its {step} since"
    if anew := next((line for line in work if line.finished_us > since.timestamp() * 1_000_000), None):
        return f"{anew.step} of scan {anew.scan}, {_PINNED}, was done anew since"
    if stale := next((line for line in work if line.stale), None):
        return f"scan {stale.scan}, {_PINNED}, changed since: its {stale.step} is no longer complete"
    # Not every scan need have had any: of which they were dropped is not known, but it is one without.
    step, _variant = _step_of_pairs(relation)
    without = next((scan for scan in scans if (scan, step) not in done), None)
    told = f"{step} of scans {_PINNED} were dropped since"
    return told if without is None else f"{told}, scan {without} has none"


_OF_EACH = ("observe", "graph", "features.nodes")  # steps that each scan in a manifest has behind it
_PINNED = "which this run is pinned to"
_ANEW = "begin a new run with `open3dsg train`"


@dataclass(frozen=True)
class _Part:
    """Where the units of a part are looked for."""

    dataset: str
    split: str | None
    full: bool
    node_encoder: StoredEncoder

    def read(self, connection: Connection[Any]) -> tuple[tuple[UnitKey, ...], int]:
        """Return the units with features, and count those without; UserError where there are none."""
        asked = {
            "dataset": self.dataset,
            "split": self.split,
            "full": self.full,
            "encoder_id": self.node_encoder.encoder_id,
        }
        rows = execute(connection, "training_units", asked).fetchall()
        keys = tuple(UnitKey(scan, number) for scan, number, has_features in rows if has_features)
        if not keys:
            raise UserError(self._why_empty(connection, len(rows)))
        return keys, len(rows) - len(keys)

    def _why_empty(self, connection: Connection[Any], units: int) -> str:
        """Say what to run; `units` lack nothing but features."""
        of_split = "" if self.split is None else f"split {self.split!r} of "
        which = f"{of_split}dataset {self.dataset}"
        chosen = f"--dataset {self.dataset}" + ("" if self.split is None else f" --split {self.split}")
        full = " --full" if self.full else ""
        if units:
            dump = f"open3dsg features dump --nodes --encoder {self.node_encoder.name}"
            return f"{which} has no features by {self.node_encoder.full_name}: run `{dump} {chosen}` first"
        asked = {"dataset": self.dataset, "split": self.split, "full": self.full}
        scans, cut, built, observed = execute(connection, "training_stage", asked).fetchone() or (0, 0, 0, 0)
        if not scans:
            known = [split for (split,) in execute(connection, "training_splits", {"dataset": self.dataset})]
            return f"{which} has no scan; it has the splits {', '.join(known) or 'none'}"
        if not observed:
            return f"{which} is not observed: run `open3dsg observe {chosen}` first"
        if not (cut and built):
            return f"{which} has no training units: run `open3dsg graph build{full} {chosen}` first"
        return (
            f"{which} has no unit to train on: all have too few objects that a frame shows;"
            f" `open3dsg graph list {chosen}` tells"
        )


class _Work(NamedTuple):
    """A line of the ledger, what the query `training_work` gives."""

    scan: str
    step: str
    variant: str
    chunk: int
    step_version: int
    options_hash: str
    stale: bool
    finished_us: int


def _read_work(
    connection: Connection[Any],
    units: Mapping[str, Sequence[UnitKey]],
    node_encoder: StoredEncoder,
    relation: RelationTarget,
) -> list[_Work]:
    """Return the lines behind units and targets: of samples, of observations, and of what is learnt."""
    is_full = any(key.subgraph_no < 0 for keys in units.values() for key in keys)
    steps = {
        "observe": "",
        "graph": "full" if is_full else "subgraphs",
        "features.nodes": node_encoder.full_name,
    }
    of_pairs, variant = _step_of_pairs(relation)
    steps[of_pairs] = variant
    asked = {
        "scans": sorted({key.scan for keys in units.values() for key in keys}),
        "steps": list(steps),
        "variants": list(steps.values()),
    }
    return [_Work(*row) for row in execute(connection, "training_work", asked)]


def _step_of_pairs(relation: RelationTarget) -> tuple[str, str]:
    """Return the step, and its variant, that made what is learnt of pairs."""
    if relation.encoder is None:
        return "annotate", ""
    return (
        "features.captions" if relation.kind == "captions" else "features.pairs",
        relation.encoder.full_name,
    )


def _digest(
    units: Mapping[str, Sequence[UnitKey]],
    node_encoder: StoredEncoder,
    relation: RelationTarget,
    work: Sequence[_Work],
) -> str:
    """Return the hash, 16 hex digits."""
    spaces = [node_encoder, relation.encoder, relation.words if relation.kind == "captions" else None]
    pinned = {
        "units": {part: _by_scan(keys) for part, keys in units.items()},
        "encoders": [space and space.full_name for space in spaces],
        "kind": relation.kind,
        "predicates": relation.predicates,
        "work": work,
    }
    text = json.dumps(pinned, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _by_scan(keys: Sequence[UnitKey]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key in keys:
        found.setdefault(key.scan, []).append(key.subgraph_no)
    return found
