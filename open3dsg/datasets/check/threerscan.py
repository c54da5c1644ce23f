"""3RScan: what the folder of a scan must and may hold (see `open3dsg.datasets.threerscan`)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open3dsg.datasets.check.files import damage_of, list_folder, told_by_reader
from open3dsg.datasets.check.findings import Finding
from open3dsg.datasets.check.frames import (
    FrameFile,
    FrameTable,
    check_camera,
    check_pictures,
    check_table,
    choose,
    observed,
    tell_no_files,
)
from open3dsg.datasets.check.lists import read_lists
from open3dsg.datasets.check.look import Facts, Role, ScanLook
from open3dsg.datasets.check.roots import IS_SCAN, find_scans, no_scans
from open3dsg.datasets.check.survey import Survey
from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.obj import peek_textures
from open3dsg.datasets.ply import check_ply
from open3dsg.datasets.segments import read_groups
from open3dsg.datasets.sequence import FRAME_FILE, INFO, list_files, read_frames, read_info
from open3dsg.datasets.surface import LABELS_PLY, MESH_OBJ, SEGMENTS
from open3dsg.datasets.threerscan import SEMSEG, ThreeRScan
from open3dsg.errors import BadFileError

_LONGEST_NAME = 255  # of a file: a damaged one may name a longer one
_NO_LABELS = "all points are background: `observe` finds nothing, and `features dump` has nothing to embed"
_NO_COLOURS = "colours come from the photographs, or are grey"
_PLY = Role(LABELS_PLY, "ply", older="labels.instances.annotated.ply")
_PLY_BY_SEGMENTS = Role(LABELS_PLY, "ply", "instances come from the segments")
_SEMSEG = Role(SEMSEG, "json", older="semseg.json")
_MESH = Role(MESH_OBJ, "obj", f"no normals; {_NO_COLOURS}", older="mesh.refined.obj")
_SEGMENTS = Role(
    SEGMENTS, "json", "the instances cannot be held against it", "mesh.refined.0.010000.segs.json"
)


def survey(root: Path, arguments: Mapping[str, Any]) -> Survey:
    """Find the scans of a root, and check what speaks of all of them."""
    reader = ThreeRScan(root, **arguments)
    given = arguments.get("annotations")
    known = {"3DSSG_subset", "3DSSG", *([] if given is None else [os.path.relpath(given, root)])}
    found = find_scans(root, "3rscan", [""], IS_SCAN["3rscan"], known)
    result = Survey("3rscan", root, arguments, found.scans, found.listings, findings=list(found.findings))
    if not found.scans:
        result.findings = no_scans(root, "3rscan", found.findings)
        return result
    result.splits, findings = read_lists(root, reader)
    result.findings += findings
    return result


def look(found: Survey, name: str) -> tuple[list[Finding], Facts]:
    """Look at one scan; return what was found, and what the estimate counts."""
    scan = ScanLook(found.root, name, found.listings[name])
    split = found.split_of(name)
    points = _check_surface(scan, split)
    instances = _check_groups(scan)
    frames = _check_sequence(scan)
    scan.check_unfinished()
    return scan.findings, Facts(points, len(frames), observed(frames), instances)


def _check_surface(look: ScanLook, split: str | None) -> int:
    """Check points, mesh and segments; return the number of points."""
    mesh = look.check(_MESH)
    if mesh:
        _check_textures(look)
    segments = look.check(_SEGMENTS) if look.has(SEMSEG) or look.has(SEGMENTS) else False
    if not look.has(LABELS_PLY) and not look.has(SEMSEG):
        hidden = split == "test"
        what = f"missing, as {SEMSEG}{': the rescans of the hidden test have none' if hidden else ''}"
        severity = "warning" if hidden else "error"
        look.tell("missing", f"{look.name}/{LABELS_PLY}", what, severity=severity, cost=_NO_LABELS)
        return 0
    if not look.check(_PLY_BY_SEGMENTS if mesh and segments else _PLY):
        return 0
    header = check_ply(look.root / look.name / LABELS_PLY)
    if "objectId" not in header.properties:
        what = "its vertices have no property objectId"
        less = {"severity": "warning", "cost": _PLY_BY_SEGMENTS.cost} if segments else {}
        look.tell("older_version", f"{look.name}/{LABELS_PLY}", what, **less)
    return header.vertices


def _check_textures(look: ScanLook) -> None:
    pictures = peek_textures(look.root / look.name / MESH_OBJ)
    for picture in pictures:
        kind = "jpg" if picture.suffix in (".jpg", ".jpeg") else "png"
        look.check(Role(picture.name[:_LONGEST_NAME], kind, _NO_COLOURS))
    if not pictures:
        _tell_no_texture(look)


def _tell_no_texture(look: ScanLook) -> None:
    less = {"severity": "warning", "cost": f"the texture is not found: {_NO_COLOURS}"}
    material = next((file for file in sorted(look.listing.files) if file.endswith(".mtl")), None)
    if material is None:
        look.tell("missing", f"{look.name}/mesh.refined.mtl", "missing", **less)
    elif damage := damage_of(look.root / look.name / material, "text"):
        look.tell_damage(f"{look.name}/{material}", damage, **less)
    else:
        what = f"names no texture, or {MESH_OBJ} names another file of materials"
        look.tell("damaged", f"{look.name}/{material}", what, **less)


def _check_groups(look: ScanLook) -> int:
    """Check the labels of the instances; return their number."""
    if not look.has(SEMSEG) and not look.has(LABELS_PLY):
        return 0  # told with the points
    if not look.check(_SEMSEG):
        return 0
    path = look.root / look.name / SEMSEG
    try:
        return len(read_groups(path, look.name).labels)
    except BadFileError as error:
        look.tell_damage(f"{look.name}/{SEMSEG}", told_by_reader(error, path))
        return 0


def _check_sequence(look: ScanLook) -> FrameTable:
    """Check the frames; return their files."""
    where = f"{look.name}/{'sequence.zip' if look.has('sequence.zip') else 'sequence'}"
    try:
        is_unpacked = _is_unpacked(look)
        has_zip = look.has("sequence.zip") and _check_zip(look, is_unpacked)
        if look.has("sequence.zip") and not (has_zip or is_unpacked):
            return {}
        with ImageReader(look.root) as reader:
            files = _files(look, reader, has_zip)
            return {} if files is None else _check_frames(look, reader, files)
    except BadFileError as error:
        look.tell_damage(where, told_by_reader(error, look.root / where))
    except OSError as error:
        look.tell("no_permission", f"{look.name}/sequence", f"cannot be listed: {error.strerror}")
    return {}


def _is_unpacked(look: ScanLook) -> bool:
    """Tell whether the folder `sequence` holds frames: then it counts, and not the zip file."""
    if "sequence" not in look.listing.folders:
        return False
    return any(FRAME_FILE.fullmatch(file) for file in list_folder(look.root / look.name / "sequence").files)


def _check_zip(look: ScanLook, is_unpacked: bool) -> bool:
    """Check sequence.zip, which matters less where it `is_unpacked`; return whether it is well."""
    damage = damage_of(look.root / look.name / "sequence.zip", "zip")
    if damage is not None:
        less = {"severity": "warning", "cost": "the unpacked frames are used"} if is_unpacked else {}
        look.tell_damage(f"{look.name}/sequence.zip", damage, **less)
    return damage is None


def _files(look: ScanLook, reader: ImageReader, has_zip: bool) -> Mapping[str, FrameFile] | None:
    """Return the files of the sequence by name; None where there are none, which is told."""
    uris = list_files(reader, look.root, look.name)
    if any(FRAME_FILE.fullmatch(file) for file in uris):
        return _with_sizes(look, reader, uris, has_zip)
    folder = look.root / look.name / "sequence"
    deeper = folder / "sequence"
    if deeper.is_dir():
        look.tell("sequence_too_deep", f"{look.name}/sequence/sequence", "the frames lie in this folder")
    else:
        look.tell("sequence_missing", f"{look.name}/sequence", "neither this nor sequence.zip holds frames")
    return None


def _with_sizes(
    look: ScanLook, reader: ImageReader, uris: Mapping[str, str], has_zip: bool
) -> dict[str, FrameFile]:
    uri = f"{look.name}/sequence.zip"
    in_zip = reader.zip_member_sizes(uri) if has_zip else {}
    if next(iter(uris.values())).startswith(f"{uri}!"):
        members = {file: of.partition("!")[2] for file, of in uris.items()}
        return {file: FrameFile(uris[file], in_zip[at]) for file, at in members.items() if at in in_zip}
    listing = list_folder(look.root / look.name / "sequence")
    sizes = listing.files
    no_files = [file for file in listing.others if FRAME_FILE.fullmatch(file)]
    tell_no_files(look, f"{look.name}/sequence", no_files)
    zipped = {member.rpartition("/")[2] for member in in_zip}
    lacking = {file for file in zipped if FRAME_FILE.fullmatch(file)} - sizes.keys()
    if lacking:
        what = f"{len(lacking)} files of sequence.zip are not in the folder, such as {min(lacking)}"
        look.tell("sequence_partly_unpacked", f"{look.name}/sequence", what)
    return {file: FrameFile(of, sizes[file]) for file, of in uris.items() if file in sizes}


def _check_frames(look: ScanLook, reader: ImageReader, files: Mapping[str, FrameFile]) -> FrameTable:
    table: dict[int, dict[str, FrameFile]] = defaultdict(dict)
    for file, at in files.items():
        if matched := FRAME_FILE.fullmatch(file):
            table[int(matched[1])][matched[2]] = at
    where = _folder_of(next(iter(files.values())).uri)
    uris = {file: at.uri for file, at in files.items()}
    if INFO not in uris:
        look.tell("missing", f"{where}/{INFO}", "missing: the cameras are not known")
        check_table(look, where, table, None)
        return table
    try:
        info, problems = read_info(reader, look.name, uris)
    except BadFileError as error:
        look.tell_damage(uris[INFO], told_by_reader(error, uris[INFO]))
        check_table(look, where, table, None)
        return table
    check_table(look, where, table, info.frames)
    for problem in problems:
        look.tell("reader_problem", uris[INFO], problem.detail)
    check_camera(look, uris[INFO], "colour", info.image)
    check_camera(look, uris[INFO], "depth", info.depth)
    _check_samples(look, reader, table, uris[INFO])
    return table


def _check_samples(look: ScanLook, reader: ImageReader, table: FrameTable, info_uri: str) -> None:
    sample = {INFO: info_uri}
    for number in choose(table):
        sample |= {
            file.uri.rpartition("/")[2].rpartition("!")[2]: file.uri for file in table[number].values()
        }
    frames, problems = read_frames(reader, look.name, sample, "y-down")
    for problem in problems:
        if problem.kind.startswith("pose_"):
            look.tell("pose_unusable", _folder_of(info_uri), f"{problem.kind}: {problem.detail}")
    check_pictures(look, reader, frames)


def _folder_of(uri: str) -> str:
    """Return the folder or zip file that a frame's file lies in."""
    return uri.partition("!")[0] if "!" in uri else uri.rpartition("/")[0]
