"""One scan's folder under inspection: the files it should have, and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open3dsg.datasets.check.files import Damage, Listing, damage_of
from open3dsg.datasets.check.findings import Finding, finding

_TAKEN_FOR = (".pth", ".pt", ".npy", ".npz", ".pkl", ".zip", ".obj", ".glb")


@dataclass(frozen=True)
class Role:
    """A file that a scan is made of, and what it costs to lack it."""

    name: str
    kind: str  # as `damage_of` knows it
    cost: str | None = None  # where the file is absent; None: it is needed, and the finding's kind tells
    older: str | None = None  # its name in an earlier release of the dataset
    may_be_damaged: bool = False  # its reader then goes on as without it; else it refuses the scan

    @property
    def if_absent(self) -> dict[str, Any]:
        """What a finding changes where the reader goes on without the file."""
        return {} if self.cost is None else {"severity": "warning", "cost": self.cost}


@dataclass(frozen=True)
class Facts:
    """What the estimate counts of a scan."""

    points: int = 0
    frames: int = 0
    observed: int = 0  # frames that `observe` looks at unless told otherwise
    instances: int = 0


@dataclass
class ScanLook:
    """Collects what is found in the folder of one scan."""

    root: Path
    name: str
    listing: Listing
    folder: str = ""  # relative to the root; the scan's name where nothing is given
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take the folder that is named as the scan is."""
        self.folder = self.folder or self.name

    def tell(self, kind: str, file: str, what: str, **changes: Any) -> None:
        """Note a finding on a file, whose name is relative to the root."""
        self.findings.append(finding(kind, file, what, scan=self.name, **changes))

    def tell_damage(self, file: str, damage: Damage, **changes: Any) -> None:
        """Note what is wrong with a file."""
        self.tell(damage.kind, file, damage.what, **changes)

    def has(self, file: str) -> bool:
        """Tell whether the folder holds a file of this very name."""
        return file in self.listing.files

    def check(self, role: Role) -> bool:
        """Check one file; return whether it is there and looks well."""
        file = f"{self.folder}/{role.name}"
        if role.name in self.listing.broken:
            self.tell("not_a_file", file, "a link that leads nowhere", **role.if_absent)
        elif role.name in self.listing.folders:
            self.tell("not_a_file", file, "a folder has this name", **role.if_absent)
        elif not self.has(role.name):
            self._tell_absent(file, role)
        elif damage := damage_of(self.root / file, role.kind):
            self.tell_damage(file, damage, **(role.if_absent if role.may_be_damaged else {}))
        else:
            return True
        return False

    def check_unfinished(self) -> None:
        """Tell of what a download left behind."""
        for name in self.listing.unfinished:
            self.tell("unfinished_download", f"{self.folder}/{name}", "a download that was not finished")

    def _tell_absent(self, file: str, role: Role) -> None:
        changes = role.if_absent
        other = next((name for name in self.listing.files if name.casefold() == role.name.casefold()), None)
        if other is not None:
            self.tell("file_name_case", f"{self.folder}/{other}", f"must be called {role.name}", **changes)
        elif role.older is not None and self.has(role.older):
            what = f"{role.name} is due: this is the file of an earlier release"
            self.tell("older_version", f"{self.folder}/{role.older}", what, **changes)
        elif stranger := self._stranger(role.name):
            what = f"{role.name} is due, and this is another kind of file"
            self.tell("wrong_kind", f"{self.folder}/{stranger}", what, **changes)
        else:
            self.tell("missing", file, "missing", **changes)

    def _stranger(self, name: str) -> str | None:
        """Return a file that somebody may take for `name`: of the same stem, of another kind."""
        stem = name.rpartition(".")[0]
        strangers = (*(f"{stem}{ending}" for ending in _TAKEN_FOR), f"{name}.gz")
        return next((other for other in strangers if self.has(other)), None)
