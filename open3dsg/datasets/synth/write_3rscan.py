"""Rooms as 3RScan with 3DSSG.

    OUT/
      3RScan.json, classes.txt, relationships.txt
      relationships_train.json, relationships_validation.json
      objects.json                             colours and materials, see attributes.py
      NAME/                                    a UUID made from the seed
        labels.instances.annotated.v2.ply, semseg.v2.json, mesh.refined.0.010000.segs.v2.json
        mesh.refined.v2.obj, mesh.refined.mtl, mesh.refined_0.png
        sequence/ or sequence.zip              _info.txt, frame-000000.color.jpg, .depth.pgm, .pose.txt
      masks/NAME/frame-000000.color.png        with `masks`: see masks.py

With `rescans` each room is visited again so many times: see revisit.py. 3RScan.json is the very last file to
be written. Of every five rooms one is of the validation split.
"""

from __future__ import annotations

import uuid
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from open3dsg.datasets.synth import formats_3rscan
from open3dsg.datasets.synth.classes import CLASSES
from open3dsg.datasets.synth.formats import colour_jpeg, write_json
from open3dsg.datasets.synth.masks import MASKS, MaskFolder
from open3dsg.datasets.synth.path import KEY_EVERY, camera_path
from open3dsg.datasets.synth.relations import PREDICATES, relations_of
from open3dsg.datasets.synth.render import Renderer
from open3dsg.datasets.synth.revisit import revisit
from open3dsg.datasets.synth.scanned import scan_mesh
from open3dsg.datasets.synth.subgraphs import subgraphs_of
from open3dsg.datasets.synth.write import Order, Sightings, Written, is_held_out
from open3dsg.geometry.pixels import PixelGrid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from open3dsg.datasets.synth.room import Room

# The real sensor: its photograph at half the size, its depth picture as it is.
COLOUR = PixelGrid(480, 270, 379.689, 379.0575, 244.752, 131.667)
DEPTH = PixelGrid(224, 172, 177.188, 241.474, 113.945, 83.6994)

_NAMES = uuid.UUID("5c6f4f0e-3f0b-5f0e-9d5b-0d3b5f3e8a11")
_CLASS_NUMBERS = {label: line for line, label in enumerate(CLASSES, start=1)}


@dataclass(frozen=True)
class ThreeRScanLayout:
    """3RScan's files; sequences as loose files, or each as one archive; masks and later visits too."""

    zip_sequences: bool = False
    masks: bool = False
    rescans: int = 0  # later visits to each room

    @property
    def request(self) -> Mapping[str, Any]:
        """As `Layout` says."""
        return {
            "layout": "3rscan",
            "zip_sequences": self.zip_sequences,
            "masks": self.masks,
            "rescans": self.rescans,
        }

    def scan_name(self, seed: int, index: int, /) -> str:
        """UUID of scan number `index` of a dataset with `seed`."""
        return str(uuid.uuid5(_NAMES, f"{seed}/{index}"))

    def write_scan(self, root: Path, room: Room, order: Order) -> Written:
        """Write one room into the folders of its visits below `root`; that of the first comes last."""
        first = self._write_visit(root, room, order, aligned=room)
        later = []
        for visit in range(1, self.rescans + 1):
            seen = revisit(room, visit)
            name = str(uuid.uuid5(_NAMES, f"{order.name}/{visit}"))
            written = self._write_visit(root, seen.room, replace(order, name=name), aligned=seen.aligned)
            entry = formats_3rscan.rescan_of(name, seen)
            later.append((written, {"entry": entry, "objects": written.objects}))
        return replace(
            first,
            folders=[folder for written, _ in later for folder in written.folders] + first.folders,
            labels=first.labels + [label for written, _ in later for label in written.labels],
            seen=first.seen + sum(written.seen for written, _ in later),
            points=first.points + sum(written.points for written, _ in later),
            subgraphs=first.subgraphs + [graph for written, _ in later for graph in written.subgraphs],
            rescans=[rescan for _, rescan in later],
        )

    def _write_visit(self, root: Path, room: Room, order: Order, *, aligned: Room) -> Written:
        """Write one scan into its folder below `root`; `aligned` is the room in the first visit's axes."""
        folder = root / order.name
        masks = MaskFolder(root / MASKS / order.name, room.seed) if self.masks else None
        folders = [*([masks.folder] if masks else []), folder]
        for each in folders:
            each.mkdir(parents=True)
        renderer = Renderer(room)
        points = _write_annotations(folder, order.name, room, renderer)
        poses = camera_path(room, order.frames, room.seed)
        sink = _Zip(folder) if self.zip_sequences else _Folder(folder)
        try:
            sightings = _write_sequence(sink, masks, renderer, poses)
        finally:
            sink.close()
        subgraphs = subgraphs_of(aligned, relations_of(aligned))
        return Written(
            name=order.name,
            split="validation" if is_held_out(order.index) else "train",
            folders=[each.relative_to(root).as_posix() for each in folders],
            labels=list(room.labels.values()),
            seen=sightings.well_seen(room.labels),
            points=points,
            subgraphs=[{"scan": order.name, **graph} for graph in subgraphs],
            objects=[formats_3rscan.object_of(instance, _CLASS_NUMBERS) for instance in room.instances],
        )

    def write_metadata(self, out: Path, written: Sequence[Written]) -> None:
        """Write the lists of words, of relations by split, of objects, and of scans."""
        (out / "classes.txt").write_bytes("\n".join(CLASSES).encode())
        (out / "relationships.txt").write_bytes("\n".join(PREDICATES).encode())
        for split in ("train", "validation"):
            graphs = [graph for scan in written if scan.split == split for graph in scan.subgraphs]
            write_json(out / f"relationships_{split}.json", {"scans": graphs})
        objects = []
        for scan in written:
            objects.append({"scan": scan.name, "objects": scan.objects})
            objects += [
                {"scan": rescan["entry"]["reference"], "objects": rescan["objects"]}
                for rescan in scan.rescans
            ]
        write_json(out / "objects.json", {"scans": objects})
        rooms = [
            {
                "ambiguity": [],
                "reference": scan.name,
                "scans": [rescan["entry"] for rescan in scan.rescans],
                "type": scan.split,
            }
            for scan in written
        ]
        write_json(out / "3RScan.json", rooms)


def _write_annotations(folder: Path, name: str, room: Room, renderer: Renderer) -> int:
    """Everything about the scan but its frames; the number of points."""
    mesh = scan_mesh(room, renderer)
    formats_3rscan.write_labels_ply(folder / formats_3rscan.LABELS_PLY, mesh, room.labels, _CLASS_NUMBERS)
    formats_3rscan.write_textured_obj(folder, mesh)
    write_json(folder / formats_3rscan.SEGMENTS, formats_3rscan.segments_of(mesh))
    write_json(folder / formats_3rscan.SEMSEG, formats_3rscan.semseg_of(name, room.instances, mesh))
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


def _write_sequence(
    sink: _Sink, masks: MaskFolder | None, renderer: Renderer, poses: NDArray[np.float64]
) -> Sightings:
    """Write all frames; what is seen counts in every tenth, which the steps look at."""
    sink.add("_info.txt", formats_3rscan.sequence_info(COLOUR, DEPTH, len(poses)))
    sightings = Sightings()
    for number, pose in enumerate(poses):
        depth_m, instance = renderer.depth(pose, DEPTH)
        stem = f"frame-{number:06d}"
        photo = renderer.frame(pose, COLOUR)
        if masks:
            masks.add(f"{stem}.color", photo.instance)
        sink.add(f"{stem}.color.jpg", colour_jpeg(photo.rgb))
        sink.add(f"{stem}.depth.pgm", formats_3rscan.depth_pgm(depth_m))
        sink.add(f"{stem}.pose.txt", formats_3rscan.pose_text(pose))
        if number % KEY_EVERY == 0:
            sightings.add(instance)
    return sightings
