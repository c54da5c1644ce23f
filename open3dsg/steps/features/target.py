"""What a dump is of: the instances, or the pairs, of one scan under one encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.encoders.contract import Encoder, PairEncoder
    from open3dsg.steps.features.pipeline import Mean
    from open3dsg.steps.features.views import Views
    from open3dsg.store.encoders import StoredEncoder
    from open3dsg.store.scans import StoredScan

_Row = TypeVar("_Row")


class Target(ABC, Generic[_Row]):
    """The items of one scan under one encoder: which there are, where they are seen, how they are stored.

    An item goes by its place in `items`.
    """

    kept: ClassVar[str]  # what is counted of items that have an embedding
    absent: ClassVar[str]  # and, before "_unseen" and "_unqualified", of those that have none
    items: NDArray[np.int32]  # (n,) numbers, or (n, 2)
    scales: Sequence[float]  # of the crops of a view

    def __init__(
        self,
        connection: Connection[Any],
        scan: StoredScan,
        encoder: Encoder | PairEncoder,
        row: StoredEncoder,
    ) -> None:
        """Take the scan, and the encoder with its row."""
        self.connection, self.scan, self.encoder, self.row = connection, scan, encoder, row

    @property
    def key(self) -> dict[str, Any]:
        """Return the query parameters that name scan and encoder."""
        return {"scan_id": self.scan.scan_id, "encoder_id": self.row.encoder_id}

    @property
    def looks_a_view(self) -> int:
        """How many looks are behind a view that is wholly in the photograph."""
        return 1 if self.encoder.views == "pixels" else len(self.scales)

    @property
    def sum_shape(self) -> tuple[int, ...]:
        """Shape of the sum of an item's looks: (dimension,), or (tokens, dimension)."""
        if self.encoder.views == "tokens":
            return self.encoder.tokens, self.encoder.dimension
        return (self.encoder.dimension,)

    @property
    @abstractmethod
    def stored_bytes(self) -> int:
        """How many bytes of numbers an item is stored in, at most, beside its evidence."""

    @abstractmethod
    def name(self, place: int) -> str:
        """Return what an item is called."""

    @abstractmethod
    def views(self, places: range) -> Views:
        """Choose where some items are looked at; in it they are counted from the first of them."""

    @abstractmethod
    def looks(self, places: range) -> Mapping[int, int]:
        """Return which of some items are stored, and how many looks are behind each."""

    @abstractmethod
    def clear(self, places: Sequence[int] | None) -> None:
        """Drop what is stored of some items, or of all that there ever were."""

    @abstractmethod
    def result(self, place: int, mean: Mean) -> _Row:
        """Make of a mean what is stored; ValueError says why it cannot be."""

    @abstractmethod
    def write(self, results: Sequence[_Row]) -> int:
        """Write what `result` gave, in the caller's transaction; returns its number."""


def unit(mean: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale (d,) to unit length, float32; ValueError where it has no direction."""
    length = np.linalg.norm(mean)
    if not np.isfinite(length) or length == 0:
        raise ValueError("the embedding is zero or not finite")
    scaled: NDArray[np.float32] = (mean / length).astype(np.float32)
    return scaled
