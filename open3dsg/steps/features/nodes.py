"""Dump features of instances: one embedding an instance and encoder, from the frames that show it best.

The views of an instance are its frames with the largest visible share among those that show it well enough;
each is cut out at several scales around its pixel box, or looked up at its pixels, as the encoder asks
(Open3DSG, Koch et al., CVPR 2024). The embedding is the mean of the looks, made unit length. The looks stay
beside it as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pgvector import HalfVector

from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute
from open3dsg.geometry.crops import crop_scales
from open3dsg.steps.features.options import FeatureOptions
from open3dsg.steps.features.step import DumpStep, node_encoder
from open3dsg.steps.features.target import Target, unit
from open3dsg.steps.features.views import read_sightings, views_of_instances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.encoders.contract import Encoder, Precision
    from open3dsg.steps.features.pipeline import Mean
    from open3dsg.steps.features.views import Sightings, Views
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.scans import StoredScan

STEP = "features.nodes"
VERSION = 2
COLUMNS = {
    "scan_id": "int8",
    "encoder_id": "int4",
    "instance_no": "int4",
    "embedding": "halfvec",
    "frame_nos": "int4[]",
    "boxes": "int2[]",
    "weights": "float4[]",
}
# Instances a commit. Not an option, since it changes no result.
CHUNK = 64

_NodeRow = tuple[int, int, int, HalfVector, "Sequence[int]", "Sequence[int]", "Sequence[float]"]


@dataclass(frozen=True)
class DumpNodes(DumpStep[FeatureOptions, "Encoder"]):
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    step: ClassVar[str] = STEP
    version: ClassVar[int] = VERSION

    @staticmethod
    def _load(name: str, device: str | None, precision: Precision) -> Encoder:
        return node_encoder(name, device, precision)

    @property
    def chunk_items(self) -> int:
        """Instances a commit."""
        return CHUNK

    def _target(
        self, connection: Connection[Any], scan: StoredScan, encoder: Encoder, row: StoredEncoder
    ) -> _Instances:
        return _Instances(connection, scan, encoder, row, self.options)


class _Instances(Target[_NodeRow]):
    """The instances of a scan that have points."""

    kept = "nodes"
    absent = "instances"

    def __init__(
        self,
        connection: Connection[Any],
        scan: StoredScan,
        encoder: Encoder,
        row: StoredEncoder,
        options: FeatureOptions,
    ) -> None:
        super().__init__(connection, scan, encoder, row)
        rows = execute(connection, "dump_instances", {"scan_id": scan.scan_id}).fetchall()
        self.items = np.array([number for (number,) in rows], np.int32)
        self.scales = crop_scales(options.scales)
        self._thresholds = options.thresholds(scan.layout, encoder.views)
        self._top_k = options.top_k_frames

    @cached_property
    def _seen(self) -> Sightings:
        return read_sightings(self.connection, self.scan.scan_id)

    @property
    def stored_bytes(self) -> int:
        """Of a halfvec."""
        return 2 * self.encoder.dimension + 8

    def name(self, place: int) -> str:
        """Return what an instance is called."""
        return f"instance {self.items[place]}"

    def views(self, places: range) -> Views:
        """Choose where some instances are looked at."""
        numbers = self.items[places.start : places.stop]
        return views_of_instances(self._seen, numbers, self._thresholds, self._top_k)

    def looks(self, places: range) -> Mapping[int, int]:
        """Return which of some instances have an embedding, and how many looks are behind each."""
        of_number = {int(self.items[place]): place for place in places}
        rows = execute(self.connection, "feature_looks", {**self.key, "numbers": list(of_number)})
        return {of_number[number]: looks for number, looks in rows}

    def clear(self, places: Sequence[int] | None) -> None:
        """Drop the features of some instances, or all."""
        numbers = None if places is None else [int(self.items[place]) for place in places]
        execute(self.connection, "feature_clear", {**self.key, "numbers": numbers})

    def result(self, place: int, mean: Mean) -> _NodeRow:
        """Make the row of `node_feature`."""
        count = len(mean.frame_nos)
        embedding = HalfVector(unit(mean.mean))
        number = int(self.items[place])
        boxes = mean.boxes.ravel().tolist()
        return (*self.key.values(), number, embedding, mean.frame_nos, boxes, [1 / count] * count)

    def write(self, results: Sequence[_NodeRow]) -> int:
        """Write rows of `node_feature`."""
        return copy_in(self.connection, "node_feature", COLUMNS, results)
