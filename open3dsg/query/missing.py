"""Which instances no frame of their scan shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection


@dataclass(frozen=True)
class MissingInstance:
    """An instance with points that no frame shows well enough to have been kept by `observe`."""

    instance: int
    label: str
    points: int


@dataclass(frozen=True)
class MissingFrames:
    """What no frame shows, by scan (`dataset/name`), of the scans that are observed."""

    scans: int  # observed
    instances: int  # of these, with points
    missing: Mapping[str, Sequence[MissingInstance]]  # scans that miss none are left out
    not_observed: Sequence[str]  # scans never observed, or not since instances of them changed

    @property
    def count(self) -> int:
        """Return the number of instances that no frame shows."""
        return sum(map(len, self.missing.values()))

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        missing = {scan: [asdict(one) for one in many] for scan, many in self.missing.items()}
        return {**vars(self), "missing": missing}


def find_missing(connection: Connection[Any], scans: Sequence[str]) -> MissingFrames:
    """Look through `scans`, as `dataset/name`; UserError where none of them is observed."""
    rows = execute(connection, "scans_observed", {"keys": list(scans)}).fetchall()
    observed = [(scan_id, count) for scan_id, _key, is_observed, count in rows if is_observed]
    not_observed = [key for _id, key, is_observed, _count in rows if not is_observed]
    if not observed:
        which = f"scan {scans[0]} is not" if len(scans) == 1 else f"none of {len(scans)} scans is"
        raise UserError(f"{which} observed: run `open3dsg observe` first")
    found: dict[str, list[MissingInstance]] = {}
    scan_ids = [scan_id for scan_id, _count in observed]
    for key, instance, label, points in execute(connection, "instances_missing", {"scan_ids": scan_ids}):
        found.setdefault(key, []).append(MissingInstance(instance, label, points))
    return MissingFrames(len(observed), sum(count for _id, count in observed), found, not_observed)
