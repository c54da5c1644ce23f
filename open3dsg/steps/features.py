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


# Instances a commit: a scan that is cut off goes on from here. Not an option, since it changes no result.
CHUNK = 64


@dataclass(frozen=True)
class FeatureOptions:
    """Which encoder, how many frames an instance, how many crop scales a frame."""

    encoder: str
    top_k_frames: int = 5
    scales: int = 3

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense, naming the option."""
        crop_scales(self.scales)
        if self.top_k_frames < 1:
            raise UserError(f"--top-k-frames is {self.top_k_frames}: give 1 or more")


@dataclass(frozen=True)
class DumpNodes:
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: FeatureOptions
    force: bool = False
    replace: bool = False

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Embed the instances of one scan, chunk by chunk; chunks that are done are not done again."""
        stored = find_scan(connection, scan)
        stored.check_root()
        encoder = _encoder(self.options.encoder)
        row = register_encoder(connection, encoder)
        entry = ledger.Entry("features.nodes", VERSION, asdict(self.options), f"{row.name}@{row.revision}")
        with ledger.scan_lock(connection, stored.dataset, stored.name):
            done = frozenset() if self.force else ledger.chunks_done(connection, stored.scan_id, entry)
            if not (done or self.force or self.replace):
                ledger.check_same_options(connection, stored.scan_id, entry)
            if not fetch_value(connection, "is_observed", {"scan_id": stored.scan_id}):
                raise UserError(
                    f"scan {stored.key} has no observations: run `open3dsg observe --scan {stored.key}` first"
                )
            return _Dump(connection, stored, encoder, row, entry, self.options).run(done)


@cache
def _encoder(name: str) -> Encoder:
    """One encoder a process: its weights stay loaded from scan to scan."""
    return load_encoder(name)


@dataclass(frozen=True)
class _Dump:
    """One scan under one encoder."""

    connection: Connection[Any]
    scan: StoredScan
    encoder: Encoder
    row: StoredEncoder
    entry: ledger.Entry
    options: FeatureOptions

    def run(self, done: frozenset[int]) -> Summary:
        """Write the chunks that are not `done`; none done means that old rows give way to new ones."""
        views = _views(self.connection, self.scan, self.options.top_k_frames)
        numbers = sorted(views)
        # A scan that no frame shows has one empty chunk, so that the ledger can say it is done.
        chunks = [numbers[at : at + CHUNK] for at in range(0, len(numbers), CHUNK)] or [[]]
        if len(done) == len(chunks):
            return Summary(skipped=True)
        cameras = _cameras(self.connection, self.scan, views)
        with_points = fetch_value(self.connection, "instances_with_points", {"scan_id": self.scan.scan_id})
        counts = {"nodes": 0, "views": 0, "instances_unseen": with_points - len(numbers)}
        problems: list[Problem] = []
        for chunk, members in enumerate(chunks):
            if chunk not in done:
                wanted = [view for number in members for view in views[number]]
                written = self._write(wanted, cameras, problems, chunk, len(chunks), anew=not done)
                done = done | {chunk}
                for name, count in written.items():
                    counts[name] += count
        return Summary(counts, problems)

    def _write(
        self,
        views: Sequence[View],
        cameras: Mapping[int, Camera],
        problems: list[Problem],
        chunk: int,
        chunks: int,
        *,
        anew: bool,
    ) -> dict[str, int]:
        """Look at all views of a chunk, then write its rows and its line in the ledger together."""
        features = _Features(self.encoder.dimension)
        told: list[Problem] = []
        scales = crop_scales(self.options.scales)
        _look_at_all(self.scan, self.encoder, views, cameras, scales, features, told)
        if views and not features.views:
            raise UserError(f"none of the photographs of scan {self.scan.key} can be used: {told[0].detail}")
        with self.connection.transaction():
            if anew:
                key = {"scan_id": self.scan.scan_id, "encoder_id": self.row.encoder_id}
                ledger.forget(self.connection, self.scan.scan_id, [self.entry.step], self.entry.variant)
                execute(self.connection, "feature_clear", key)
            rows = list(features.rows(self.scan, self.row.encoder_id, told))
            nodes = copy_in(self.connection, "node_feature", COLUMNS, rows)
            written = {"nodes": nodes, "views": features.views}
            ledger.record(
                self.connection, self.scan.scan_id, self.entry, written, told, chunk=chunk, chunks=chunks
            )
        problems += told
        return written


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
