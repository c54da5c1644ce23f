"""Rooms on disk as 3RScan with 3DSSG: the reader for the real dataset sees no difference.

    OUT/
      3RScan.json, classes.txt, relationships.txt
      relationships_train.json, relationships_validation.json
      NAME/                                    a UUID made from the seed
        labels.instances.annotated.v2.ply, semseg.v2.json, mesh.refined.0.010000.segs.v2.json
        mesh.refined.v2.obj, mesh.refined.mtl, mesh.refined_0.png
        sequence/ or sequence.zip              _info.txt, frame-000000.color.jpg, .depth.pgm, .pose.txt

A scan is written below OUT/.unfinished, where no reader looks, and moved when it is whole; the JSON files
come last, 3RScan.json the very last, so a run that was cut off is seen by its absence. The same call then
goes on with the scans that are missing: OUT/.unfinished says what was asked for and what is done.
"""

from __future__ import annotations

import json
import shutil
import uuid
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from open3dsg.datasets.synth import formats
from open3dsg.datasets.synth.classes import CLASSES
from open3dsg.datasets.synth.path import KEY_EVERY, camera_path
from open3dsg.datasets.synth.relations import PREDICATES, relations_of
from open3dsg.datasets.synth.render import Renderer
from open3dsg.datasets.synth.room import Room, build_room
from open3dsg.datasets.synth.scanned import scan_mesh
from open3dsg.datasets.synth.subgraphs import subgraphs_of
from open3dsg.errors import UserError
from open3dsg.geometry.pixels import PixelGrid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

# The real sensor: its photograph at half the size, its depth picture as it is.
COLOUR = PixelGrid(480, 270, 379.689, 379.0575, 244.752, 131.667)
DEPTH = PixelGrid(224, 172, 177.188, 241.474, 113.945, 83.6994)

_NAMES = uuid.UUID("5c6f4f0e-3f0b-5f0e-9d5b-0d3b5f3e8a11")
_UNFINISHED = ".unfinished"
_VALIDATION_EVERY = 5
_SEEN_PIXELS = 80
_SEEN_FRAMES = 2


@dataclass(frozen=True)
class SynthSummary:
    """What was written; `seen` counts the instances that cover more than 80 depth pixels in at least two of
    every tenth frame.
    """

    scans: int
    frames: int
    instances: int
    seen: int
    points: int
    relationships: int
    labels: tuple[str, ...]  # every category that occurs, sorted


@dataclass(frozen=True)
class _Written:
    """One scan as far as the files of the whole dataset need it."""

    name: str
    split: str
    instances: int
    labels: list[str]
    seen: int
    points: int
    subgraphs: list[dict[str, Any]]


def room_seed(seed: int, index: int) -> int:
    """Seed of the room that scan number `index` of a dataset with `seed` shows."""
    return seed * 100_000 + index


def scan_name(seed: int, index: int) -> str:
    """Folder name of scan number `index` of a dataset with `seed`: a UUID."""
    return str(uuid.uuid5(_NAMES, f"{seed}/{index}"))


def write_rooms(
    out: Path,
    *,
    scans: int,
    seed: int,
    frames: int = 100,
    zip_sequences: bool = False,
    report: Callable[[str], None],
) -> SynthSummary:
    """Write `scans` rooms with `frames` RGB-D frames each into the new or empty folder `out`.

    The same arguments give the same bytes, also where a call that was cut off is taken up again by the same
    call. Every fifth scan is of the validation split. `report` is told the name of each scan that is whole.
    Raises UserError where `out` holds anything else, or a number is below 1.
    """
    for option, value in (("scans", scans), ("frames", frames)):
        if value < 1:
            raise UserError(f"--{option} {value}: at least 1 is needed")
    if seed < 0:
        raise UserError(f"--seed {seed}: a seed is 0 or above")
    _claim(out, {"scans": scans, "seed": seed, "frames": frames, "zip_sequences": zip_sequences})
    written = []
    for index in range(scans):
        done = _read_record(out, scan_name(seed, index))
        written.append(done or _write_scan(out, seed, index, frames, zip_sequences))
        report(written[-1].name)
    _write_metadata(out, written)
    shutil.rmtree(out / _UNFINISHED)
    return SynthSummary(
        scans=scans,
        frames=scans * frames,
        instances=sum(scan.instances for scan in written),
        seen=sum(scan.seen for scan in written),
        points=sum(scan.points for scan in written),
        relationships=sum(len(graph["relationships"]) for scan in written for graph in scan.subgraphs),
        labels=tuple(sorted({label for scan in written for label in scan.labels})),
    )


def _claim(out: Path, request: dict[str, int]) -> None:
    """Make `out` ours: new, empty, or left unfinished by a call that asked for the same."""
    note = out / _UNFINISHED / "request.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        occupied = next((path for path in out.iterdir() if path != note.parent), None)
        if note.is_file():
            if json.loads(note.read_bytes()) != request:
                raise UserError(
                    f"{out}: holds rooms of another call that was cut off:"
                    " repeat that call, or name a new folder"
                )
            return
        if occupied is not None:
            raise UserError(
                f"{out}: is not empty (it holds {occupied.name!r}); name a new folder, or empty it"
            )
        note.parent.mkdir(exist_ok=True)
        formats.write_json(note.with_suffix(".part"), request)
        note.with_suffix(".part").rename(note)
    except OSError as error:
        raise UserError(f"{out}: cannot be made or read as a folder: {error.strerror}") from error


def _read_record(out: Path, name: str) -> _Written | None:
    """Return what an earlier call noted of a scan, if that scan is whole."""
    record = out / _UNFINISHED / f"{name}.json"
    if not (record.is_file() and (out / name).is_dir()):
        return None
    return _Written(**json.loads(record.read_bytes()))


def _write_scan(out: Path, seed: int, index: int, frames: int, zip_sequences: bool) -> _Written:
    name = scan_name(seed, index)
    room = build_room(room_seed(seed, index))
    renderer = Renderer(room)
    partial = out / _UNFINISHED / name
    shutil.rmtree(partial, ignore_errors=True)  # what a call that was cut off had of this scan
    partial.mkdir()
    points = _write_annotations(partial, name, room, renderer)
    poses = camera_path(room, frames, room.seed)
    sink = _Zip(partial) if zip_sequences else _Folder(partial)
    try:
        seen = _write_sequence(sink, renderer, poses)
    finally:
        sink.close()
    subgraphs = subgraphs_of(room, relations_of(room))
    written = _Written(
        name=name,
        split="validation" if index % _VALIDATION_EVERY == _VALIDATION_EVERY - 1 else "train",
        instances=len(room.instances),
        labels=sorted(set(room.labels.values())),
        seen=sum(times >= _SEEN_FRAMES for times in seen.values()),
        points=points,
        subgraphs=[{"scan": name, **graph} for graph in subgraphs],
    )
    formats.write_json(out / _UNFINISHED / f"{name}.json", asdict(written))
    partial.rename(out / name)
    return written


def _write_annotations(folder: Path, name: str, room: Room, renderer: Renderer) -> int:
    """Everything about the scan but its frames; the number of points."""
    mesh = scan_mesh(room, renderer)
    numbers = {label: line for line, label in enumerate(CLASSES, start=1)}
    formats.write_labels_ply(folder / formats.LABELS_PLY, mesh, room.labels, numbers)
    formats.write_textured_obj(folder, mesh)
    formats.write_json(folder / formats.SEGMENTS, formats.segments_of(mesh))
    formats.write_json(folder / formats.SEMSEG, formats.semseg_of(name, room.instances, mesh))
    return len(mesh.vertices)


class _Sink(Protocol):
    def add(self, name: str, data: bytes) -> None: ...
    def close(self) -> None: ...


class _Folder:
    """A sequence as loose files."""

    def __init__(self, scan: Path) -> None:
        self._folder = scan / "sequence"
        self._folder.mkdir()

    def add(self, name: str, data: bytes) -> None:
        (self._folder / name).write_bytes(data)

    def close(self) -> None:
        """Nothing is held open."""


class _Zip:
    """A sequence as one archive; entries carry no time, so that equal content gives equal bytes."""

    def __init__(self, scan: Path) -> None:
        self._archive = zipfile.ZipFile(scan / "sequence.zip", "w", compresslevel=1)

    def add(self, name: str, data: bytes) -> None:
        entry = zipfile.ZipInfo(name)
        packed = name.endswith(".jpg")
        entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        self._archive.writestr(entry, data)

    def close(self) -> None:
        self._archive.close()


def _write_sequence(sink: _Sink, renderer: Renderer, poses: NDArray[np.float64]) -> dict[int, int]:
    """All frames; by instance, in how many of every tenth it is well seen."""
    sink.add("_info.txt", formats.sequence_info(COLOUR, DEPTH, len(poses)))
    seen: dict[int, int] = {}
    for number, pose in enumerate(poses):
        depth_m, instance = renderer.depth(pose, DEPTH)
        stem = f"frame-{number:06d}"
        sink.add(f"{stem}.color.jpg", formats.colour_jpeg(renderer.frame(pose, COLOUR).rgb))
        sink.add(f"{stem}.depth.pgm", formats.depth_pgm(depth_m))
        sink.add(f"{stem}.pose.txt", formats.pose_text(pose))
        if number % KEY_EVERY == 0:
            numbers, pixels = np.unique(instance[instance >= 0], return_counts=True)
            for visible in numbers[pixels > _SEEN_PIXELS].tolist():
                seen[visible] = seen.get(visible, 0) + 1
    return seen


def _write_metadata(out: Path, written: list[_Written]) -> None:
    (out / "classes.txt").write_bytes("\n".join(CLASSES).encode())
    (out / "relationships.txt").write_bytes("\n".join(PREDICATES).encode())
    for split in ("train", "validation"):
        graphs = [graph for scan in written if scan.split == split for graph in scan.subgraphs]
        formats.write_json(out / f"relationships_{split}.json", {"scans": graphs})
    scans = [{"ambiguity": [], "reference": scan.name, "scans": [], "type": scan.split} for scan in written]
    formats.write_json(out / "3RScan.json", scans)
