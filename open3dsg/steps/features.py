"""Dump features: one embedding an instance and encoder, from the frames that show it best.

The views of an instance are its frames with the largest visible share; each is cut out at several scales
around its pixel box, or looked up at its pixels, as the encoder asks (Open3DSG, Koch et al., CVPR 2024). The
embedding is the mean of the views, made unit length. The views stay beside it as evidence.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pgvector import HalfVector

from open3dsg.datasets.images import ImageReader
from open3dsg.datasets.scan import Problem
from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.encoders.registry import load_encoder
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.crops import crop_scales, upright_quarter_turns
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.steps.summary import Summary
from open3dsg.steps.views import Camera, Look, View, look
from open3dsg.store.encoders import StoredEncoder, register_encoder
from open3dsg.store.scans import StoredScan, find_scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.encoders.contract import Encoder

VERSION = 1
COLUMNS = {
    "scan_id": "int8",
    "encoder_id": "int4",
    "instance_no": "int4",
    "embedding": "halfvec",
    "frame_nos": "int4[]",
    "boxes": "int2[]",
    "weights": "float4[]",
}


@dataclass(frozen=True)
class FeatureOptions:
    """Which encoder, how many frames an instance, how many crop scales a frame, instances a commit."""

    encoder: str
    top_k_frames: int = 5
    scales: int = 3
    chunk: int = 64

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, naming the option."""
        crop_scales(self.scales)
        for option, value in (("--top-k-frames", self.top_k_frames), ("--chunk", self.chunk)):
            if value < 1:
                raise UserError(f"{option} is {value}: give 1 or more")


@dataclass(frozen=True)
class DumpNodes:
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: FeatureOptions
    force: bool = False

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Embed the instances of one scan, chunk by chunk; chunks that are done are not done again."""
        stored = find_scan(connection, scan)
        encoder = _encoder(self.options.encoder)
        row = register_encoder(connection, encoder)
        variant = f"{row.name}@{row.revision}"
        entry = ledger.Entry("features.nodes", VERSION, asdict(self.options), variant)
        with ledger.scan_lock(connection, stored.dataset, stored.name):
            done = frozenset() if self.force else ledger.chunks_done(connection, stored.scan_id, entry)
            if not done:
                _start_anew(connection, stored, row, variant)
            return _dump(connection, stored, encoder, row, entry, self.options, done)


@cache
def _encoder(name: str) -> Encoder:
    """One encoder a process: its weights stay loaded from scan to scan."""
    return load_encoder(name)


def _start_anew(connection: Connection[Any], scan: StoredScan, encoder: StoredEncoder, variant: str) -> None:
    if not fetch_value(connection, "is_observed", {"scan_id": scan.scan_id}):
        raise UserError(
            f"scan {scan.key} has no observations: run `open3dsg observe --scan {scan.key}` first"
        )
    with connection.transaction():
        ledger.forget(connection, scan.scan_id, ["features.nodes"], variant)
        execute(connection, "feature_clear", {"scan_id": scan.scan_id, "encoder_id": encoder.encoder_id})


def _dump(
    connection: Connection[Any],
    scan: StoredScan,
    encoder: Encoder,
    row: StoredEncoder,
    entry: ledger.Entry,
    options: FeatureOptions,
    done: frozenset[int],
) -> Summary:
    views = _views(connection, scan, options.top_k_frames)
    instances = sorted(views)
    with_points = fetch_value(connection, "instances_with_points", {"scan_id": scan.scan_id})
    counts = {"nodes": 0, "views": 0, "instances_unseen": with_points - len(instances)}
    problems: list[Problem] = []
    # A scan that no frame shows has one empty chunk, so that the ledger can say it is done.
    chunks = [instances[at : at + options.chunk] for at in range(0, len(instances), options.chunk)] or [[]]
    if len(done) == len(chunks):
        return Summary(skipped=True)
    cameras = _cameras(connection, scan, views)
    for chunk, numbers in enumerate(chunks):
        if chunk in done:
            continue
        wanted = [view for number in numbers for view in views[number]]
        features = _Features(encoder.dimension)
        _look_at_all(scan, encoder, wanted, cameras, crop_scales(options.scales), features, problems)
        with connection.transaction():
            rows = list(features.rows(scan, row.encoder_id, problems))
            written = {"nodes": copy_in(connection, "node_feature", COLUMNS, rows), "views": features.views}
            ledger.record(connection, scan.scan_id, entry, written, chunk=chunk)
        for name, count in written.items():
            counts[name] += count
    return Summary(counts, problems)


def _views(connection: Connection[Any], scan: StoredScan, top_k: int) -> Mapping[int, Sequence[View]]:
    rows = execute(connection, "best_observations", {"scan_id": scan.scan_id, "top_k": top_k}, binary=True)
    views = defaultdict(list)
    for instance, frame, box, pixels in rows:
        views[instance].append(View(instance, frame, np.asarray(box, np.int32), bytes(pixels)))
    return views


def _cameras(
    connection: Connection[Any], scan: StoredScan, views: Mapping[int, Sequence[View]]
) -> Mapping[int, Camera]:
    frame_nos = sorted({view.frame_no for of_instance in views.values() for view in of_instance})
    rows = execute(connection, "frames_with_cameras", {"scan_id": scan.scan_id, "frame_nos": frame_nos})
    return {
        frame_no: Camera(
            uri,
            PixelGrid(*image_size, *image_intrinsics),
            PixelGrid(*depth_size, *depth_intrinsics),
            upright_quarter_turns(np.asarray(pose, np.float64).reshape(4, 4)),
        )
        for frame_no, uri, image_size, image_intrinsics, depth_size, depth_intrinsics, pose in rows
    }


def _look_at_all(
    scan: StoredScan,
    encoder: Encoder,
    views: Sequence[View],
    cameras: Mapping[int, Camera],
    scales: Sequence[float],
    features: _Features,
    problems: list[Problem],
) -> None:
    """Decode each photograph once, and let the encoder see all its instances."""
    by_frame = defaultdict(list)
    for view in views:
        by_frame[view.frame_no].append(view)
    with ImageReader(scan.root) as images:
        for frame_no, of_frame in sorted(by_frame.items()):
            camera = cameras[frame_no]
            try:
                photo = images.read_image(camera.image_uri)
            except BadFileError as error:
                problems.append(Problem("image_unreadable", str(error)))
                continue
            seen = look(encoder, photo, camera, of_frame, scales)
            features.add(seen)
            if seen.outside:
                detail = f"{scan.name} frame {frame_no}: {seen.outside} views beyond the edge of the photo"
                problems.append(Problem("view_outside_photo", detail))


class _Features:
    """Running sums of the embeddings of each instance, and their evidence."""

    def __init__(self, dimension: int) -> None:
        self.views = 0
        self._sums: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(dimension))
        self._frames: dict[int, list[int]] = defaultdict(list)
        self._boxes: dict[int, list[int]] = defaultdict(list)

    def add(self, seen: Look) -> None:
        """Take in what the encoder saw in one frame."""
        self.views += len(seen.instances)
        for instance, embedding, box in zip(seen.instances, seen.embeddings, seen.boxes, strict=True):
            self._sums[instance] += embedding
            self._frames[instance].append(seen.frame_no)
            self._boxes[instance].extend(box.tolist())

    def rows(
        self, scan: StoredScan, encoder_id: int, problems: list[Problem]
    ) -> Iterator[tuple[object, ...]]:
        """Give the rows of `node_feature`; an embedding that is not finite is refused and reported."""
        for instance, total in sorted(self._sums.items()):
            length = np.linalg.norm(total)
            if not np.isfinite(length) or length == 0:
                detail = f"{scan.name} instance {instance}: the embedding is zero or not finite"
                problems.append(Problem("embedding_unusable", detail))
                continue
            frames = self._frames[instance]
            yield (
                scan.scan_id,
                encoder_id,
                instance,
                HalfVector((total / length).astype(np.float32)),
                frames,
                self._boxes[instance],
                [1 / len(frames)] * len(frames),
            )
