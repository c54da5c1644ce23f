"""Scans in the store: finding them by what a person types, and what is done for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open3dsg.db.queries import execute
from open3dsg.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection


@dataclass(frozen=True)
class StoredScan:
    """A scan of the store; `root` is the folder that its URIs are relative to."""

    scan_id: int
    dataset: str
    name: str
    root: Path

    @property
    def key(self) -> str:
        """Return `dataset/name`, which names one scan in the whole store."""
        return f"{self.dataset}/{self.name}"


def find_scan(connection: Connection[Any], text: str) -> StoredScan:
    """Find one scan by `name` or `dataset/name`; UserError where none or several match."""
    rows = execute(connection, "scan_by_text", {"text": text}).fetchall()
    if not rows:
        close = [name for (name,) in execute(connection, "scans_like", {"text": text})]
        hint = (
            f"; did you mean {', '.join(close)}?" if close else "; `open3dsg scans list` shows what is there"
        )
        raise UserError(f"no scan {text!r} in the store{hint}")
    if len(rows) > 1:
        raise UserError(
            f"several scans are called {text!r}: say {' or '.join(f'{r[1]}/{r[2]}' for r in rows)}"
        )
    scan_id, dataset, name, root = rows[0]
    return StoredScan(scan_id, dataset, name, Path(root or "."))


def select_scans(
    connection: Connection[Any],
    *,
    dataset: str | None,
    split: str | None,
    scans: Sequence[str],
) -> list[str]:
    """Return the keys of the scans with geometry that a command should work on.

    UserError where the store holds none, or none that matches.
    """
    if scans:
        return [find_scan(connection, text).key for text in scans]
    rows = execute(connection, "scans_matching", {"dataset": dataset, "split": split}).fetchall()
    if not rows:
        which = ", ".join(
            f"{name} {value!r}" for name, value in (("dataset", dataset), ("split", split)) if value
        )
        raise UserError(
            f"no scan with geometry in the store{f' for {which}' if which else ''}:"
            " run `open3dsg ingest 3rscan ROOT` first, or see `open3dsg scans list`"
        )
    return [f"{name}/{scan}" for name, scan in rows]


@dataclass(frozen=True)
class ScanStatus:
    """What the store holds of a scan, and the command that would add what is missing."""

    row: dict[str, Any]
    steps: dict[str, str]
    missing: str | None

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {**self.row, "steps": self.steps, "missing": self.missing}


def scan_statuses(
    connection: Connection[Any], *, dataset: str | None = None, scan: str | None = None
) -> list[ScanStatus]:
    """Say for each scan what is done and what comes next."""
    parameters = {"dataset": dataset, "scan": scan}
    cursor = execute(connection, "scan_rows", parameters)
    names = [column.name for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    statuses = []
    for row in rows:
        steps = row.pop("steps")
        statuses.append(ScanStatus(row, steps, _missing(row, steps)))
    return statuses


def _missing(row: dict[str, Any], steps: dict[str, str]) -> str | None:
    if row["points"] is None:
        return "geometry: open3dsg ingest 3rscan ROOT"
    if "observe" not in steps:
        return "observations: open3dsg observe"
    if not row["features"] and not any(step.startswith("features") for step in steps):
        return "features: open3dsg features dump --nodes"
    return None
