"""A dump as a step: bound to its options, called with a scan, shared out by chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from open3dsg.db import ledger
from open3dsg.db.queries import fetch_value
from open3dsg.encoders.registry import load_node_encoder, load_pair_encoder
from open3dsg.errors import UserError
from open3dsg.steps.features.dump import Dump
from open3dsg.steps.features.options import LookOptions, Running
from open3dsg.steps.runner import process_device
from open3dsg.store.encoders import activate_encoder, embed_vocabularies, register_encoder
from open3dsg.store.scans import StoredScan, find_scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from open3dsg.encoders.contract import Encoder, PairEncoder, Precision
    from open3dsg.steps.features.target import Target
    from open3dsg.steps.summary import Summary
    from open3dsg.store.encoders import StoredEncoder

_Options = TypeVar("_Options", bound=LookOptions)
_AnyEncoder = TypeVar("_AnyEncoder", "Encoder", "PairEncoder")


@dataclass(frozen=True)
class DumpStep(ABC, Generic[_Options, _AnyEncoder]):
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: _Options
    force: bool = False
    replace: bool = False
    chunk: int | None = None  # only this one, while others work on the other chunks; None: all
    running: Running = field(default_factory=Running)

    step: ClassVar[str]  # as the ledger calls it
    version: ClassVar[int]

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Embed the items of one scan, chunk by chunk; chunks that are done are not done again.

        A `chunk` that the scan has no longer, since it has fewer items, has nothing left to do.
        """
        stored = find_scan(connection, scan)
        stored.check_root()
        row, entry = self._bind(connection, stored)
        with ledger.work_lock(connection, stored.dataset, stored.name, entry, self.chunk):
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            dump = self._dump(connection, stored, row, entry)
            return dump.run() if self.chunk is None else dump.run_one(self.chunk)

    def prepare(self) -> str:
        """Return the encoder's revision; UserError says what is wrong with it before any scan is begun."""
        return self.encoder().revision

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[int | None]:
        """Return the chunks that are left to do, each work for itself; None is a scan of a single chunk."""
        dump = self.plan(connection, scan)
        left = dump.left()
        return [None] if left and dump.chunks == 1 else left

    def plan(self, connection: Connection[Any], scan: str) -> Dump[Any]:
        """Return the work on a scan, of which nothing is done yet; UserError where it cannot be done."""
        stored = find_scan(connection, scan)
        return self._dump(connection, stored, *self._bind(connection, stored))

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Embed the class lists of the store, and let the encoder's name mean this revision."""
        encoder = self.encoder()
        row = register_encoder(connection, encoder)
        # Words are not in the space of an encoder of tokens.
        terms = 0 if encoder.views == "tokens" else embed_vocabularies(connection, row)
        told: list[str] = [f"embedded {terms} terms of class lists"] if terms else []
        remark = activate_encoder(connection, row)
        return told if remark is None else [*told, remark]

    def encoder(self) -> _AnyEncoder:
        """Return the encoder, made once a process and device: its weights stay loaded from scan to scan."""
        device = process_device() or self.running.device
        return self._load(self.options.encoder, device, self.options.precision)

    @staticmethod
    @abstractmethod
    def _load(name: str, device: str | None, precision: Precision) -> _AnyEncoder:
        """Make the encoder, or return the one that was made before."""

    @abstractmethod
    def _target(
        self, connection: Connection[Any], scan: StoredScan, encoder: _AnyEncoder, row: StoredEncoder
    ) -> Target[Any]:
        """Return what is dumped of a scan."""

    @property
    @abstractmethod
    def chunk_items(self) -> int:
        """Items a commit: a scan that is cut off goes on from here."""

    def _bind(self, connection: Connection[Any], scan: StoredScan) -> tuple[StoredEncoder, ledger.Entry]:
        encoder = self.encoder()
        row = register_encoder(connection, encoder)
        options = self.options.for_ledger(scan.layout, encoder.views)
        return row, ledger.Entry(self.step, self.version, options, row.full_name)

    def _dump(
        self, connection: Connection[Any], scan: StoredScan, row: StoredEncoder, entry: ledger.Entry
    ) -> Dump[Any]:
        """Return the work on a scan; UserError where it is not ready for it, or was done in another way."""
        if not (self.force or self.replace):
            ledger.check_same_options(connection, scan.scan_id, entry)
        self._check_ready(connection, scan)
        target = self._target(connection, scan, self.encoder(), row)
        return Dump(target, entry, self.running, self.chunk_items, force=self.force)

    def _check_ready(self, connection: Connection[Any], scan: StoredScan) -> None:
        observed = fetch_value(connection, "is_observed", {"scan_id": scan.scan_id})
        if observed is not True:
            lacks = "has no observations" if observed is None else "lacks observations of changed instances"
            raise UserError(f"scan {scan.key} {lacks}: run `open3dsg observe --scan {scan.key}` first")


@cache
def node_encoder(name: str, device: str | None, precision: Precision) -> Encoder:
    """Return the encoder of instances of this process."""
    return load_node_encoder(name, device, precision)


@cache
def pair_encoder(name: str, device: str | None, precision: Precision) -> PairEncoder:
    """Return the encoder of pairs of this process; where it sees instances too, the one that does."""
    encoder = load_pair_encoder(name, device, precision)
    if encoder.views == "crops":
        seeing = node_encoder(name, device, precision)
        return seeing if seeing.views == "crops" else encoder
    return encoder
