"""Which folders of a root are scans; and where no scan is found, which folder was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from open3dsg.datasets.check.files import Listing, is_litter, list_folder
from open3dsg.datasets.check.findings import Finding, finding
from open3dsg.datasets.surface import LABELS_PLY, MESH_OBJ
from open3dsg.datasets.threerscan import SEMSEG

# Names of scans: a UUID in 3RScan, a scene and a visit in ScanNet.
SCAN_NAMES: Mapping[str, re.Pattern[str]] = {
    "3rscan": re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE),
    "scannet": re.compile(r"scene[0-9]{4}_[0-9]{2}", re.IGNORECASE),
}
_DEPTH = 3  # folders below the root in which scans are looked for
_MOST_FOLDERS = 2_000  # looked into on the way
_PREVIEW = 5  # folders of a folder that are enough to say whether scans lie in it

IsScan = Callable[[str, Listing], bool]


def _is_3rscan(_name: str, listing: Listing) -> bool:
    names = {name.casefold() for name in (*listing.files, *listing.folders, *listing.broken)}
    return not names.isdisjoint(_MARKERS)


def _is_scannet(name: str, listing: Listing) -> bool:
    own = name.casefold()
    alone = {f"{own}{ending}" for ending in (".txt", ".sens", ".aggregation.json")}
    files = [file.casefold() for file in listing.files]
    return any(file in alone or file.startswith(f"{own}_vh_clean") for file in files)


_MARKERS = frozenset(name.casefold() for name in (LABELS_PLY, MESH_OBJ, SEMSEG, "sequence", "sequence.zip"))
IS_SCAN: Mapping[str, IsScan] = {"3rscan": _is_3rscan, "scannet": _is_scannet}


class Found(NamedTuple):
    """The scans of a root: name -> its folder relative to the root, and what was found on the way."""

    scans: Mapping[str, str]
    listings: Mapping[str, Listing]
    findings: Sequence[Finding]


def find_scans(
    root: Path, layout: str, parents: Sequence[str], is_scan: IsScan, known: Container[str]
) -> Found:
    """List the folders directly under `root / parent` for each of `parents`.

    `is_scan` judges a folder by its name and what it holds; `known` are folders, relative to the root, that
    belong there and are no scans.
    """
    scans: dict[str, str] = {}
    by_case: dict[str, str] = {}
    listings: dict[str, Listing] = {}
    findings: list[Finding] = []
    for parent in parents:
        for name, folder in _folders(root, parent, findings):
            listing = _list(root, folder, findings)
            if listing is None or folder in known:
                continue
            if not is_scan(name, listing):
                named = SCAN_NAMES[layout].fullmatch(name)
                kind = "scan_without_files" if named else "folder_is_no_scan"
                findings.append(
                    finding(kind, folder, "holds no file of a scan", scan=name if named else None)
                )
                continue
            twin = by_case.setdefault(name.casefold(), folder)
            if twin != folder:
                what = f"{twin} is a scan of this name too"
                findings.append(finding("scan_twice", folder, what, scan=name))
            scans.setdefault(name, folder)
            listings.setdefault(name, listing)
    return Found(scans, listings, findings)


def no_scans(root: Path, layout: str, findings: Sequence[Finding]) -> list[Finding]:
    """Return what is left to say where no scan was found: what may not be read, or which folder was meant."""
    unreadable = [one for one in findings if one.kind == "no_permission"]
    return unreadable or [_guess_root(root, layout)]


def _guess_root(root: Path, layout: str) -> Finding:
    """Say why no scan of `layout` lies under `root`, naming the folder that was probably meant."""
    is_scan = IS_SCAN[layout]
    for folder in (root.absolute(), root.absolute().parent):
        if _judge(folder, is_scan):
            what = f"{folder.name} is a scan itself: {folder.parent} was probably meant"
            return finding("root_inside_scan", ".", what)
    above = _first_above(root, is_scan)
    if above is not None:
        return finding("root_above_scans", ".", f"the scans lie deeper: {above} was probably meant")
    for other in IS_SCAN.keys() - {layout}:
        place = root if _holds_scans(root, IS_SCAN[other]) else _first_above(root, IS_SCAN[other])
        if place is not None:
            return finding("other_layout", ".", f"{place} holds scans of the layout {other}")
    return finding("root_without_scans", ".", "no folder of a scan is here, nor in the folders below")


def _folders(root: Path, parent: str, findings: list[Finding]) -> Iterator[tuple[str, str]]:
    """Give name and path relative to the root of each folder in `parent`, ascending."""
    listing = _list(root, parent, findings)
    for name in sorted(listing.folders) if listing else ():
        yield name, f"{parent}/{name}" if parent else name


def _list(root: Path, folder: str, findings: list[Finding]) -> Listing | None:
    try:
        return list_folder(root / folder)
    except OSError as error:
        what = f"the folder cannot be listed: {error.strerror}"
        findings.append(finding("no_permission", folder or ".", what))
        return None


def _first_above(root: Path, is_scan: IsScan) -> Path | None:
    """Return the nearest folder below `root` that holds scans."""
    level = [root]
    looked = 0
    for _ in range(_DEPTH):
        level = [path for folder in level for path in _below(folder)]
        for folder in level:
            looked += 1
            if looked > _MOST_FOLDERS:
                return None
            if _holds_scans(folder, is_scan):
                return folder
    return None


def _holds_scans(folder: Path, is_scan: IsScan) -> bool:
    return any(_judge(path, is_scan) for path in _below(folder)[:_PREVIEW])


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not is_litter(path.name) and path.is_dir())
    except OSError:
        return []


def _judge(folder: Path, is_scan: IsScan) -> bool:
    try:
        return is_scan(folder.name, list_folder(folder))
    except OSError:
        return False
