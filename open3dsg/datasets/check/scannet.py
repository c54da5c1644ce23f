"""ScanNet: what a root and the folder of a scan must and may hold (see `open3dsg.datasets.scannet`)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from open3dsg.datasets.cameras import camera
from open3dsg.datasets.check.files import Damage, damage_of, list_folder, told_by_reader
from open3dsg.datasets.check.findings import Finding, finding
from open3dsg.datasets.check.frames import (
    UNREADABLE,
    FrameFile,
    FrameTable,
    check_camera,
    check_pictures,
    check_table,
    choose,
    tell_no_files,
    usual_step,
)
from open3dsg.datasets.check.look import Facts, Role, ScanLook
from open3dsg.datasets.check.roots import IS_SCAN, find_scans, no_scans
from open3dsg.datasets.check.survey import Survey
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.jsonfile import read_json
from open3dsg.datasets.ply import check_ply
from open3dsg.datasets.poses import Flaw, parse_pose
from open3dsg.datasets.scan import Frame
from open3dsg.datasets.scannet import SENS_EVERY, SPLIT_FILES, ScanNet
from open3dsg.datasets.scannet_files import (
    AGGREGATIONS,
    FRAME_FOLDERS,
    INFO,
    LABELS,
    MESH,
    PARENTS,
    SEGMENTS,
    SENS,
    TEST_FOLDER,
    below,
    frames_folder,
)
from open3dsg.datasets.scannet_frames import FRAME_FILES, folder_intrinsics
from open3dsg.datasets.scannet_info import read_info
from open3dsg.datasets.scannet_labels import SCANNET200, TABLE
from open3dsg.datasets.segments import parse_groups
from open3dsg.datasets.sens import SensFile
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.pixels import PixelGrid

_TABLE_V1 = "scannet-labels.combined.tsv"
_SCANNET200_CLASSES = 200
_DOWNLOAD = "run scripts/download_scannet_meta"
_NO_MAPPING = "labels cannot be mapped to NYU40 or ScanNet200"
_NO_LABELS = "all points are background: `observe` finds nothing, and `features dump` has nothing to embed"
_NO_AXES = "the axes of the room are not known: they are left as they are"
_LESS = "`observe` and `features dump` have fewer views"


def survey(root: Path, arguments: Mapping[str, Any]) -> Survey:
    """Find the scans of a root, and check what speaks of all of them."""
    reader = ScanNet(root, **arguments)
    parents = [parent.rstrip("/") for parent in PARENTS if (root / parent).is_dir()]
    distinct = {(root / parent).resolve(): parent for parent in reversed(parents)}
    known = {*FRAME_FOLDERS, "scannet_3d", "scannet_3d/data", *parents}
    for given in (arguments.get("frames"), arguments.get("metadata")):
        if given is not None:
            folder = Path(os.path.relpath(root / given, root))
            known |= {folder.as_posix(), *(parent.as_posix() for parent in folder.parents)}
    found = find_scans(root, "scannet", [*reversed(distinct.values())], IS_SCAN["scannet"], known)
    result = Survey("scannet", root, arguments, found.scans, found.listings, findings=list(found.findings))
    if found.scans:
        result.findings += [*_root_too_low(root.absolute()), *_check_metadata(root, reader, result)]
    else:
        preprocessed = _preprocessed(root)
        result.findings = [preprocessed] if preprocessed else no_scans(root, "scannet", found.findings)
    return result


def _root_too_low(root: Path) -> Iterator[Finding]:
    """Give a finding where the folder of scans was given in place of the one above, which has the rest."""
    if root.name not in PARENTS:
        return
    beside = (*FRAME_FOLDERS, *SPLIT_FILES, TABLE)
    file = next(
        (file for file in beside if (root.parent / file).exists() and not (root / file).exists()), None
    )
    if file is not None:
        what = f"{file} lies beside this folder: {root.parent} was probably meant"
        changes: dict[str, Any] = {"severity": "warning", "cost": "frames or lists are not found"}
        yield finding("root_inside_scan", ".", what, **changes)


def look(found: Survey, name: str) -> tuple[list[Finding], Facts]:
    """Look at one scan; return what was found, and what the estimate counts."""
    scan = ScanLook(found.root, name, found.listings[name], found.folders[name])
    is_test = found.split_of(name) == "test" or TEST_FOLDER in Path(scan.folder).parts
    points = _check_mesh(scan)
    instances = _check_annotations(scan, is_test, found.split_of(name))
    declared = _check_info(scan, is_test)
    frames = _check_frames(scan, found.arguments, declared)
    scan.check_unfinished()
    return scan.findings, Facts(points, frames, frames, instances)


def _preprocessed(root: Path) -> Finding | None:
    """Return a finding where the points that others made of the meshes are in place of the meshes."""
    for parent in ("", "train", "val", "scannet_3d", "scannet_3d/train", "scannet_3d/val", "scannet_3d/data"):
        files = sorted((root / parent).glob("scene*.pth"))
        if files:
            what = f"{len(files)} files of preprocessed points, such as {files[0].name}, in place of meshes"
            remedy = f"fetch {MESH[1:]}, segments and annotations of each scan from ScanNet"
            return finding("wrong_kind", parent or ".", what, cost="no step finds a scan", remedy=remedy)
    return None


def _check_metadata(root: Path, reader: ScanNet, result: Survey) -> list[Finding]:
    folder = reader.arguments["metadata"] or str(root)
    findings: list[Finding] = []
    try:
        result.splits = reader.splits
        has_table = reader.table is not None
    except UserError as error:
        file = next((name for name in (*SPLIT_FILES, TABLE, SCANNET200) if name in str(error)), ".")
        path = Path(folder, file)
        kind, what = (damage_of(path, "text") if path.is_file() else None) or told_by_reader(error, path)
        return [finding(kind, file, what, cost="`ingest` refuses every scan")]
    for file, split in SPLIT_FILES.items():
        if split not in result.splits:
            what, cost = f"missing: the split {split} is not known", "--split cannot choose it"
            findings.append(finding("metadata_missing", file, what, cost=cost, remedy=_DOWNLOAD))
    if not has_table:
        older = (Path(folder) / _TABLE_V1).is_file()
        what = f"missing: {_TABLE_V1}, the table of ScanNet v1, is another" if older else "missing"
        kind = "older_version" if older else "metadata_missing"
        changes: dict[str, Any] = {"severity": "warning", "cost": _NO_MAPPING, "remedy": _DOWNLOAD}
        findings.append(finding(kind, TABLE, what, **changes))
    for words in reader.word_lists():
        if words.name == "scannet200" and len(words.words) != _SCANNET200_CLASSES:
            what = f"has {len(words.words)} classes, ScanNet200 has {_SCANNET200_CLASSES}"
            findings.append(finding("class_list_wrong", SCANNET200, what, remedy=_DOWNLOAD))
    return findings


def _check_mesh(look: ScanLook) -> int:
    """Check the mesh and the classes of its points; return the number of points."""
    file = f"{look.name}{MESH}"
    if look.has(f"{look.name}{LABELS}"):
        look.check(Role(f"{look.name}{LABELS}", "ply"))
    if not look.check(Role(file, "ply")):
        return 0
    return check_ply(look.root / look.folder / file).vertices


def _check_annotations(look: ScanLook, is_test: bool, split: str | None) -> int:
    """Check segments and instances; return the number of instances."""
    there = [f"{look.name}{ending}" for ending in AGGREGATIONS if look.has(f"{look.name}{ending}")]
    if not there:
        if not is_test:
            cost = None if split is not None else _NO_LABELS
            look.check(Role(f"{look.name}{AGGREGATIONS[0]}", "json", cost))
        return 0
    look.check(Role(f"{look.name}{SEGMENTS}", "json"))
    used, *others = there
    for other in others:
        look.check(Role(other, "json", f"{used} is used", may_be_damaged=True))
    return _instances(look, used) if look.check(Role(used, "json")) else 0


def _instances(look: ScanLook, file: str) -> int:
    path = look.root / look.folder / file
    try:
        return len(parse_groups(read_json(path, dict), path, look.name).labels)
    except BadFileError as error:
        look.tell_damage(f"{look.folder}/{file}", told_by_reader(error, path))
        return 0


def _check_info(look: ScanLook, is_test: bool) -> int | None:
    """Check the scan's text; return the length of the film, where it tells."""
    role = Role(f"{look.name}{INFO}", "text", _NO_AXES, may_be_damaged=True)
    is_well = look.check(role)
    file = f"{look.folder}/{role.name}"
    try:
        info = read_info(look.root / file, look.name)
    except BadFileError as error:
        look.tell_damage(file, told_by_reader(error, look.root / file))
        return None
    # The test split has none.
    if is_well and not is_test and any(one.kind == "axis_alignment_missing" for one in info.problems):
        look.tell("missing", file, "has no axisAlignment", **role.if_absent)
    return info.frames


def _check_frames(look: ScanLook, arguments: Mapping[str, Any], declared: int | None) -> int:
    """Check the frames of a film of `declared`; return how many `ingest` takes, all for `observe`."""
    given = arguments.get("frames")
    frames_at = None if given is None else below(look.root, look.root / given, "--frames")
    folder = frames_folder(look.root, frames_at, look.root / look.folder)
    if folder is None and given is None and look.has(f"{look.name}{SENS}"):
        return _check_sens(look, int(arguments.get("sens_every", SENS_EVERY)), declared)
    if folder is None:
        where = "scannet_2d" if given is None else Path(given).name
        look.tell(
            "sequence_missing",
            f"{where}/{look.name}",
            "neither color, depth and pose here nor a .sens file",
            remedy="fetch the preprocessed frames or the .sens file",
        )
        return 0
    try:
        table = _table(look, folder)
    except OSError as error:
        look.tell("no_permission", _uri(look.root, folder), f"cannot be listed: {error.strerror}")
        return 0
    where = _uri(look.root, folder)
    check_table(look, where, table, None)
    _check_count(look, where, table, declared)
    _check_samples(look, folder, table)
    return len(table)


def _check_sens(look: ScanLook, every: int, declared: int | None) -> int:
    """Check the head of a .sens file: walking through its frames is left to reading wholly."""
    if not look.check(Role(f"{look.name}{SENS}", "sens")):
        return 0
    file = f"{look.folder}/{look.name}{SENS}"
    try:
        with SensFile(look.root / file) as sens:
            header = sens.header
            next(sens.frames(), None)
    except BadFileError as error:
        look.tell_damage(file, told_by_reader(error, look.root / file))
        return 0
    if declared not in (None, header.frames):
        look.tell("frame_count_differs", file, f"{header.frames} frames, of a film of {declared}")
    return -(-header.frames // every)


def _table(look: ScanLook, folder: Path) -> FrameTable:
    table: dict[int, dict[str, FrameFile]] = defaultdict(dict)
    for part, pattern in FRAME_FILES.items():
        if not (folder / part).is_dir():
            continue
        listing, where = list_folder(folder / part), _uri(look.root, folder / part)
        for file, size in sorted(listing.files.items()):
            if matched := pattern.fullmatch(file):
                table[int(matched[1])].setdefault(part, FrameFile(f"{where}/{file}", size))
        tell_no_files(look, where, [file for file in listing.others if pattern.fullmatch(file)])
    return table


def _check_count(look: ScanLook, where: str, table: FrameTable, declared: int | None) -> None:
    """Hold the numbers of the frames against the length of the film, which the scan's text tells."""
    numbers = sorted(table)
    if declared is None or len(numbers) < 2:
        return
    step = usual_step(numbers)
    if not numbers[-1] < declared <= numbers[-1] + step:
        what = f"frames {numbers[0]} to {numbers[-1]}, each {step} apart, of a film of {declared}"
        look.tell("frame_count_differs", where, what)


def _check_samples(look: ScanLook, folder: Path, table: FrameTable) -> None:
    matrices = {}
    for part in ("color", "depth"):
        try:
            matrices[part] = folder_intrinsics(folder, part)
        except BadFileError as error:
            file, _, what = str(error).partition(": ")
            kind = "missing" if not Path(file).exists() else "damaged"
            look.tell(kind, _uri(look.root, Path(file)), what)
            return
    frames = []
    with ImageReader(look.root) as reader:
        for number in choose(table):
            frame = _frame(look, reader, number, table[number], matrices)
            if frame is not None:
                frames.append(frame)
        if frames and frames[0].depth is not None:
            check_camera(look, frames[0].image_uri, "colour", frames[0].image)
            check_camera(look, str(frames[0].depth_uri), "depth", frames[0].depth)
        check_pictures(look, reader, frames)


def _frame(
    look: ScanLook,
    reader: ImageReader,
    number: int,
    files: Mapping[str, FrameFile],
    matrices: Mapping[str, NDArray[np.float64]],
) -> Frame | None:
    """Return a frame whose cameras are of the sizes of its pictures; None, and say why, where it has none."""
    try:
        pose = parse_pose(reader.read_bytes(files["pose"].uri))
    except BadFileError as error:
        look.tell_damage(files["pose"].uri, told_by_reader(error, look.root / files["pose"].uri), cost=_LESS)
        return None
    if isinstance(pose, Flaw):
        look.tell("pose_unusable", files["pose"].uri, f"{pose.kind}: {pose.why}")
        return None
    grids = [_camera(look, files[part].uri, matrices[part]) for part in ("color", "depth")]
    if grids[0] is None or grids[1] is None:
        return None
    return Frame(number, files["color"].uri, grids[0], pose, files["depth"].uri, grids[1])


def _camera(look: ScanLook, uri: str, matrix: NDArray[np.float64]) -> PixelGrid | None:
    path = look.root / uri
    try:
        with Image.open(path) as picture:
            return camera(matrix, *picture.size, uri)
    except BadFileError as error:
        look.tell("intrinsics_unlikely", uri, str(error).removeprefix(f"{uri}: "))
    except UNREADABLE as error:
        kind = "png" if path.suffix == ".png" else "jpg"
        look.tell_damage(uri, damage_of(path, kind) or Damage("damaged", str(error)), cost=_LESS)
    return None


def _uri(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
