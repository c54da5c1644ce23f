"""What tests of the preflight share: a healthy 3RScan root, and the findings of a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open3dsg.datasets.check.findings import Finding
from open3dsg.datasets.check.run import Checked, check_scans, survey
from tests import miniature as mini

LABELS_PLY = f"{mini.NAME}/labels.instances.annotated.v2.ply"
SEMSEG = f"{mini.NAME}/semseg.v2.json"
MESH = f"{mini.NAME}/mesh.refined.v2.obj"
SEGMENTS = f"{mini.NAME}/mesh.refined.0.010000.segs.v2.json"
SEQUENCE = f"{mini.NAME}/sequence"


def write_healthy(root: Path) -> None:
    """Write one scan, a 3RScan.json that lists it alone, and its annotations."""
    mini.write_scan(root)
    write_rooms(root, train=[mini.NAME])
    mini.write_annotations(root / "3DSSG_subset", mini.subgraph())


def write_rooms(root: Path, **splits: Sequence[str]) -> None:
    """Write a 3RScan.json of rooms that were scanned once: split -> their names."""
    rooms = [
        {"reference": name, "type": split, "scans": []} for split, names in splits.items() for name in names
    ]
    (root / "3RScan.json").write_text(json.dumps(rooms))


def check(
    root: Path,
    layout: str = "3rscan",
    *,
    deep: bool = False,
    jobs: int = 1,
    split: str | None = None,
    scans: Sequence[str] = (),
    **arguments: Any,
) -> Checked:
    """Check a folder; by default all of it, and not wholly."""
    found = survey(layout, root, arguments, split=split, scans=scans)
    return check_scans(found, deep=deep, jobs=jobs, advance=lambda _name: None)


def findings(root: Path, layout: str = "3rscan", **options: Any) -> list[Finding]:
    return check(root, layout, **options).findings


def only(root: Path, layout: str = "3rscan", **options: Any) -> Finding:
    """Return the one finding of a folder."""
    told = findings(root, layout, **options)
    assert len(told) == 1, [(one.kind, str(one)) for one in told]
    return told[0]


def kinds(root: Path, layout: str = "3rscan", **options: Any) -> list[tuple[str, str]]:
    """Return kind and file of each finding."""
    return [(one.kind, one.file) for one in findings(root, layout, **options)]


def tree_hash(folder: Path) -> str:
    """Return a hash of all names, contents and times of change below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        digest.update(f"{path.relative_to(folder)} {status.st_mtime_ns} {status.st_mode}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
