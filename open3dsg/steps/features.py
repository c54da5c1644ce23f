"""Dump features: one embedding an instance and encoder, from the frames that show it best.

The views of an instance are its frames with the largest visible share; each is cut out at several scales
around its pixel box, or looked up at its pixels, as the encoder asks (Open3DSG, Koch et al., CVPR 2024). The
embedding is the mean of the views, made unit length. The views stay beside it as evidence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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
from open3dsg.encoders.registry import load_node_encoder
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.crops import crop_scales, upright_quarter_turns
from open3dsg.geometry.pixels import PixelGrid
from open3dsg.steps.summary import Summary
from open3dsg.steps.views import Camera, Look, View, look
from open3dsg.store.encoders import (
    StoredEncoder,
    activate_encoder,
    embed_vocabularies,
    register_encoder,
)
from open3dsg.store.scans import StoredScan, find_scan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

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
    chunk: int | None = None  # only this one, while others work on the other chunks; None: all

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Embed the instances of one scan, chunk by chunk; chunks that are done are not done again.

        A `chunk` that the scan has no longer, since fewer instances are seen, has nothing left to do.
        """
        stored, row, entry = self._bind(connection, scan)
        stored.check_root()
        with self._lock(connection, stored, entry):
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            done = self._done(connection, stored, entry)
            begun = not self.force and ledger.is_begun(connection, stored.scan_id, entry)
            encoder = _encoder(self.options.encoder)
            dump = _Dump(connection, stored, encoder, row, entry, self.options, begun)
            return dump.run(done) if self.chunk is None else dump.run_one(self.chunk, done)

    def prepare(self) -> str:
        """Return the encoder's revision; UserError says what is wrong with it before any scan is begun."""
        return _encoder(self.options.encoder).revision

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[int | None]:
        """Return the chunks that are left to do, each work for itself; None is a scan of a single chunk."""
        stored, _row, entry = self._bind(connection, scan)
        done = self._done(connection, stored, entry)
        seen = fetch_value(connection, "instances_observed", {"scan_id": stored.scan_id})
        chunks = max(1, -(-seen // CHUNK))
        left = [chunk for chunk in range(chunks) if chunk not in done]
        return [None] if left and chunks == 1 else left

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Embed the class lists of the store, and let the encoder's name mean this revision."""
        row = register_encoder(connection, _encoder(self.options.encoder))
        terms = embed_vocabularies(connection, row)
        told = [f"embedded {terms} terms of class lists"] if terms else []
        if not activate_encoder(connection, row):
            told.append(
                f"{row.name} still means an earlier revision, which has more nodes; these are"
                f" {row.name}@{row.revision}, until they are as many"
            )
        return told

    def _bind(self, connection: Connection[Any], scan: str) -> tuple[StoredScan, StoredEncoder, ledger.Entry]:
        stored = find_scan(connection, scan)
        row = register_encoder(connection, _encoder(self.options.encoder))
        variant = f"{row.name}@{row.revision}"
        return stored, row, ledger.Entry("features.nodes", VERSION, asdict(self.options), variant)

    def _lock(
        self, connection: Connection[Any], stored: StoredScan, entry: ledger.Entry
    ) -> AbstractContextManager[None]:
        if self.chunk is None:
            return ledger.scan_lock(connection, stored.dataset, stored.name)
        return ledger.chunk_lock(connection, stored.dataset, stored.name, entry, self.chunk)

    def _done(self, connection: Connection[Any], stored: StoredScan, entry: ledger.Entry) -> frozenset[int]:
        """Return the chunks that need not be done; UserError where the scan is not ready for the step."""
        done = frozenset() if self.force else ledger.chunks_done(connection, stored.scan_id, entry)
        if not (done or self.force or self.replace):
            ledger.check_same_options(connection, stored.scan_id, entry)
        observed = fetch_value(connection, "is_observed", {"scan_id": stored.scan_id})
        if observed is not True:
            lacks = "has no observations" if observed is None else "lacks observations of changed instances"
            raise UserError(f"scan {stored.key} {lacks}: run `open3dsg observe --scan {stored.key}` first")
        return done


@cache
def _encoder(name: str) -> Encoder:
    """One encoder a process: its weights stay loaded from scan to scan."""
    return load_node_encoder(name)


@dataclass(frozen=True)
class _Dump:
    """One scan under one encoder."""

    connection: Connection[Any]
    scan: StoredScan
    encoder: Encoder
    row: StoredEncoder
    entry: ledger.Entry
    options: FeatureOptions
    begun: bool  # rows with these options are there and stay; else all rows give way to new ones

    def run(self, done: frozenset[int]) -> Summary:
        """Write the chunks that are not `done`."""
        views, chunks = self._chunks()
        if len(done) == len(chunks):
            return Summary(skipped=True)
        counts = Counter({"nodes": 0, "views": 0, "instances_unseen": self._unseen(views)})
        problems: list[Problem] = []
        begun = self.begun
        for chunk in range(len(chunks)):
            if chunk not in done:
                part = self._fill(chunk, chunks, views, begun=begun)
                begun = True
                counts.update(part.counts)
                problems += part.problems
        return Summary(counts, problems)

    def run_one(self, chunk: int, done: frozenset[int]) -> Summary:
        """Write one chunk while others write others: the first of them clears what all of them replace."""
        views, chunks = self._chunks()
        if chunk in done or chunk >= len(chunks):
            return Summary(skipped=True)
        part = self._fill(chunk, chunks, views, begun=self.begun, beside_others=True)
        unseen = {"instances_unseen": self._unseen(views)} if chunk == 0 else {}
        return Summary({**part.counts, **unseen}, part.problems)

    def _fill(
        self,
        chunk: int,
        chunks: Sequence[Sequence[int]],
        views: Mapping[int, Sequence[View]],
        *,
        begun: bool,
        beside_others: bool = False,
    ) -> Summary:
        """Look at what a chunk lacks and write it; unless `begun`, all rows of the encoder go first."""
        kept = self._kept(chunks[chunk], views) if begun else {}
        lacking = [number for number in chunks[chunk] if number not in kept]
        seen = self._look(lacking, views, kept)
        with self.connection.transaction():
            if beside_others:  # who may have begun meanwhile
                key = {"scan_id": self.scan.scan_id, "encoder_id": self.row.encoder_id}
                execute(self.connection, "lock_features", key)
                begun = ledger.is_begun(self.connection, self.scan.scan_id, self.entry)
            self._clear(lacking if begun else None)
            counts = self._write(seen, kept, chunk, len(chunks))
        return Summary(counts, seen.problems)

    def _chunks(self) -> tuple[Mapping[int, Sequence[View]], Sequence[Sequence[int]]]:
        """Return the views of each instance, and the instances of each chunk."""
        views = _views(self.connection, self.scan, self.options.top_k_frames)
        numbers = sorted(views)
        # A scan that no frame shows has one empty chunk, so that the ledger can say it is done.
        return views, [numbers[at : at + CHUNK] for at in range(0, len(numbers), CHUNK)] or [[]]

    def _kept(self, members: Sequence[int], views: Mapping[int, Sequence[View]]) -> Mapping[int, int]:
        """Return those of `members` that need no look, with the number of looks behind their embedding.

        They have been looked at in every view: one that a view was missing for is looked at again, so that
        what is told of a chunk is the same as if all of it were done now.
        """
        key = {"scan_id": self.scan.scan_id, "encoder_id": self.row.encoder_id, "numbers": list(members)}
        a_view = len(crop_scales(self.options.scales)) if self.encoder.views == "crops" else 1
        looks = execute(self.connection, "feature_looks", key).fetchall()
        return {number: count for number, count in looks if count == a_view * len(views[number])}

    def _unseen(self, views: Mapping[int, Sequence[View]]) -> int:
        with_points = fetch_value(self.connection, "instances_with_points", {"scan_id": self.scan.scan_id})
        return int(with_points) - len(views)

    def _look(
        self, members: Sequence[int], views: Mapping[int, Sequence[View]], kept: Mapping[int, int]
    ) -> _Features:
        """Look at all views of some instances; UserError where no photo can be used and none are `kept`."""
        wanted = {number: views[number] for number in members}
        features = _Features(self.encoder.dimension)
        cameras = _cameras(self.connection, self.scan, wanted)
        scales = crop_scales(self.options.scales)
        together = [view for of_instance in wanted.values() for view in of_instance]
        _look_at_all(self.scan, self.encoder, together, cameras, scales, features)
        if together and not features.views and not kept:
            raise UserError(
                f"none of the photographs of scan {self.scan.key} can be used: {features.problems[0].detail}"
            )
        return features

    def _clear(self, numbers: Sequence[int] | None = None) -> None:
        """Drop the features of `numbers`, or all with what the ledger says of them."""
        key = {"scan_id": self.scan.scan_id, "encoder_id": self.row.encoder_id}
        if numbers is None:
            ledger.forget(self.connection, self.scan.scan_id, [self.entry.step], self.entry.variant)
        execute(self.connection, "feature_clear", {**key, "numbers": numbers})

    def _write(
        self, features: _Features, kept: Mapping[int, int], chunk: int, chunks: int
    ) -> Mapping[str, int]:
        """Write the rows of a chunk beside the `kept` ones, and its line in the ledger, in a transaction.

        Returns what was written now; the ledger counts all of the chunk.
        """
        nodes = copy_in(
            self.connection, "node_feature", COLUMNS, list(features.rows(self.scan, self.row.encoder_id))
        )
        written = {"nodes": nodes, "views": features.views}
        counts = {"nodes": nodes + len(kept), "views": features.views + sum(kept.values())}
        told = features.problems
        ledger.record(
            self.connection, self.scan.scan_id, self.entry, counts, told, chunk=chunk, chunks=chunks
        )
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
                features.problems.append(Problem("image_unreadable", str(error)))
                continue
            seen = look(encoder, photo, camera, of_frame, scales)
            features.add(seen)
            if seen.outside:
                detail = f"{scan.name} frame {frame_no}: {seen.outside} views beyond the edge of the photo"
                features.problems.append(Problem("view_outside_photo", detail))


class _Features:
    """Running sums of the embeddings of each instance, their evidence, and the problems met on the way."""

    def __init__(self, dimension: int) -> None:
        self.views = 0
        self.problems: list[Problem] = []
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

    def rows(self, scan: StoredScan, encoder_id: int) -> Iterator[tuple[object, ...]]:
        """Give the rows of `node_feature`; an embedding that is not finite is refused and reported."""
        for instance, total in sorted(self._sums.items()):
            length = np.linalg.norm(total)
            if not np.isfinite(length) or length == 0:
                detail = f"{scan.name} instance {instance}: the embedding is zero or not finite"
                self.problems.append(Problem("embedding_unusable", detail))
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
