"""Dump features of pairs: what an encoder sees where two instances are seen together.

The views of a pair are the frames that show both ends well enough, those with the largest sum of visible
shares first; each is cut out at several scales around the box that holds both (Open3DSG, Koch et al., CVPR
2024). An encoder of crops gives the pair one vector, as an instance has it; an encoder of tokens a grid of
them, the mean of the looks, kept as the options say, whose own mean is the vector. A pair is looked at once,
whatever the direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from open3dsg.db.queries import fetch_value
from open3dsg.encoders.tokens import pack_tokens, token_bytes
from open3dsg.errors import UserError
from open3dsg.geometry.crops import pair_crop_scales
from open3dsg.steps.features.options import PairOptions
from open3dsg.steps.features.step import DumpStep, pair_encoder
from open3dsg.steps.features.target import Target, unit
from open3dsg.steps.features.views import read_sightings, views_of_pairs
from open3dsg.store.graphs import stored_pairs
from open3dsg.store.pair_features import PairFeature, clear_pair_features, pair_looks, write_pair_features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg import Connection

    from open3dsg.encoders.contract import PairEncoder, Precision
    from open3dsg.steps.features.pipeline import Mean
    from open3dsg.steps.features.views import Sightings, Views
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.scans import StoredScan

STEP = "features.pairs"
VERSION = 1


@dataclass(frozen=True)
class DumpPairs(DumpStep[PairOptions, "PairEncoder"]):
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    step: ClassVar[str] = STEP
    version: ClassVar[int] = VERSION

    @staticmethod
    def _load(name: str, device: str | None, precision: Precision) -> PairEncoder:
        return pair_encoder(name, device, precision)

    @property
    def chunk_items(self) -> int:
        """Pairs a commit."""
        return self.running.pair_chunk

    def _target(
        self, connection: Connection[Any], scan: StoredScan, encoder: PairEncoder, row: StoredEncoder
    ) -> _Pairs:
        return _Pairs(connection, scan, encoder, row, self.options)

    def _check_ready(self, connection: Connection[Any], scan: StoredScan) -> None:
        super()._check_ready(connection, scan)
        paired = fetch_value(connection, "is_paired", {"scan_id": scan.scan_id})
        if paired is not True:
            lacks = "has no pairs" if paired is None else "lacks pairs of changed instances"
            raise UserError(f"scan {scan.key} {lacks}: run `open3dsg graph build --scan {scan.key}` first")


class _Pairs(Target[PairFeature]):
    """The pairs of a scan's graphs."""

    kept = "pairs"
    absent = "pairs"

    def __init__(
        self,
        connection: Connection[Any],
        scan: StoredScan,
        encoder: PairEncoder,
        row: StoredEncoder,
        options: PairOptions,
    ) -> None:
        super().__init__(connection, scan, encoder, row)
        self.items = stored_pairs(connection, scan.scan_id)
        self.scales = pair_crop_scales(options.scales)
        self._thresholds = options.thresholds(scan.layout, encoder.views)
        self._top_k = options.top_k_frames
        self._form = options.form

    @cached_property
    def _seen(self) -> Sightings:
        return read_sightings(self.connection, self.scan.scan_id)

    @cached_property
    def _looks(self) -> Mapping[tuple[int, int], int]:
        return pair_looks(self.connection, self.scan.scan_id, self.row.encoder_id)

    @property
    def stored_bytes(self) -> int:
        """Of a halfvec, and of tokens where they are kept."""
        tokens = 0
        if self.encoder.views == "tokens":
            tokens = token_bytes(self._form, self.encoder.tokens, self.encoder.dimension)
        return 2 * self.encoder.dimension + 8 + tokens

    def name(self, place: int) -> str:
        """Return what a pair is called."""
        a, b = self.items[place]
        return f"pair {a}-{b}"

    def views(self, places: range) -> Views:
        """Choose where some pairs are looked at."""
        pairs = self.items[places.start : places.stop]
        return views_of_pairs(self._seen, pairs, self._thresholds, self._top_k)

    def looks(self, places: range) -> Mapping[int, int]:
        """Return which of some pairs have a feature, and how many looks are behind each."""
        of_pair = {key: place for place, key in zip(places, self._keys(places), strict=True)}
        return {of_pair[key]: looks for key, looks in self._looks.items() if key in of_pair}

    def clear(self, places: Sequence[int] | None) -> None:
        """Drop the features of some pairs, or all, and what the encoder said on seeing them."""
        pairs = None if places is None else self._keys(places)
        clear_pair_features(self.connection, self.scan.scan_id, self.row.encoder_id, pairs)

    def result(self, place: int, mean: Mean) -> PairFeature:
        """Make what is stored of a pair, its tokens packed."""
        (pair,) = self._keys([place])
        count = len(mean.frame_nos)
        tokens = None
        pooled = mean.mean
        if self.encoder.views == "tokens":
            tokens = pack_tokens(np.asarray(mean.mean, np.float32), self._form)
            pooled = mean.mean.mean(axis=0)
        return PairFeature(*pair, unit(pooled), mean.frame_nos, mean.boxes, [1 / count] * count, tokens)

    def write(self, results: Sequence[PairFeature]) -> int:
        """Write rows of `pair_feature`, and of `pair_tokens`."""
        return write_pair_features(self.connection, self.scan.scan_id, self.row.encoder_id, results)

    def _keys(self, places: range | Sequence[int]) -> list[tuple[int, int]]:
        return [(int(a), int(b)) for a, b in self.items[np.asarray(places, np.int64)]]
