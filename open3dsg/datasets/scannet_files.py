"""Where the files of a ScanNet scan are, in the folder trees that people have.

A scan's folder is found directly under ROOT, and in `scans` and `scans_test` there; the same in `scannet_3d`
and `scannet_3d/data`, as Open3DSG's own tree has it. Frames that were taken out of the `.sens` files are in
`scannet_2d`, `scannet_frames_25k` or `frames` under ROOT, or beside the scan's mesh.
"""

from __future__ import annotations

import os
from pathlib import Path

from open3dsg.errors import UserError

MESH = "_vh_clean_2.ply"
LABELS = "_vh_clean_2.labels.ply"
SEGMENTS = "_vh_clean_2.0.010000.segs.json"
AGGREGATIONS = (".aggregation.json", "_vh_clean.aggregation.json")
INFO = ".txt"
SENS = ".sens"
TEST_FOLDER = "scans_test"

PARENTS = tuple(
    f"{base}{part}" for base in ("", "scannet_3d/", "scannet_3d/data/") for part in ("", "scans", TEST_FOLDER)
)
FRAME_FOLDERS = ("scannet_2d", "scannet_frames_25k", "frames")
_PICTURES = ("color", "depth", "pose")


def scan_names(root: Path) -> list[str]:
    """Return the names of all scans that have a folder with a mesh, segments or annotations, ascending."""
    parents = {(root / parent).resolve() for parent in PARENTS if (root / parent).is_dir()}
    return sorted({path.name for parent in parents for path in parent.iterdir() if _is_scan(path)})


def find_scan_folder(root: Path, name: str) -> Path | None:
    """Return the folder of a scan, or None where it has none; UserError where it has several."""
    places = [root / parent / name for parent in PARENTS]
    found = [place for place in places if _is_scan(place)]
    if any(not place.samefile(found[0]) for place in found[1:]):
        raise UserError(
            f"{name} is in {' and in '.join(str(place) for place in found)}: two scans of one name cannot be"
            " told apart, move one of the folders out of the root"
        )
    return found[0] if found else None


def frames_folder(root: Path, given: Path | None, scan_folder: Path) -> Path | None:
    """Return the folder with `color`, `depth` and `pose` of a scan, or None where there is none.

    `given` is the folder to look in, and the only one then; the result is below `root`.
    """
    parents = [given] if given is not None else [*(root / name for name in FRAME_FOLDERS), scan_folder.parent]
    places = (parent / scan_folder.name for parent in parents)
    return next((place for place in places if any((place / part).is_dir() for part in _PICTURES)), None)


def below(root: Path, folder: Path, option: str) -> Path:
    """Return `folder` as a path below `root`; UserError where it lies elsewhere.

    URIs are relative to the root of a dataset, which can be moved as one.
    """
    for a, b in ((os.path.abspath(root), os.path.abspath(folder)), (root.resolve(), folder.resolve())):
        if Path(b).is_relative_to(a):
            return root / Path(b).relative_to(a)
    raise UserError(
        f"{option} {folder} is not under the root {root}: give the folder that holds both as the root,"
        f" or put a link to it there (ln -s {folder.resolve()} {root / FRAME_FOLDERS[0]})"
    )


def _is_scan(folder: Path) -> bool:
    endings = (MESH, LABELS, SEGMENTS, AGGREGATIONS[0])
    try:
        return any((folder / f"{folder.name}{ending}").is_file() for ending in endings)
    except PermissionError:  # whether it is one cannot be told: reading it says why
        return True
