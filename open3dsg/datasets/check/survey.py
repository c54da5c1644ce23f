"""What is known of a root before its scans are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open3dsg.datasets.check.files import Listing
from open3dsg.datasets.check.findings import Finding


@dataclass
class Survey:
    """The scans of a root that are to be looked at, and what was found on the way to them."""

    layout: str
    root: Path
    arguments: Mapping[str, Any]  # of the layout's reader
    folders: Mapping[str, str] = field(default_factory=dict)  # scan -> its folder relative to the root
    listings: Mapping[str, Listing] = field(default_factory=dict)
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)  # split -> scans, there or not
    findings: list[Finding] = field(default_factory=list)

    def split_of(self, scan: str) -> str | None:
        """Return the split of a scan, None where it has none."""
        return next((split for split, names in self.splits.items() if scan in names), None)
