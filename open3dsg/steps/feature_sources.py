"""The kinds of features in the files of Open3DSG, and the rows that are made of them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pgvector import HalfVector

from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute
from open3dsg.encoders.tokens import TokenFormat
from open3dsg.errors import UserError
from open3dsg.steps.feature_rows import read_nodes, read_pairs, read_subgraphs
from open3dsg.steps.features import nodes, pairs
from open3dsg.store.encoders import (
    StoredEncoder,
    add_revision,
    embed_vocabularies,
    query_vector,
)
from open3dsg.store.pair_features import clear_pair_features, write_pair_features

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
    from pathlib import Path

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.datasets.featurefolder import Settings
    from open3dsg.datasets.graphfolder import GraphFile
    from open3dsg.steps.feature_rows import SubgraphFeatures, Tally

NONE = "none"  # the word whose embedding stands for a relation that no picture shows


@dataclass(frozen=True)
class Source(ABC):
    """One kind of features, and the revision of an encoder that they are stored under."""

    name: str  # of the encoder
    revision: str
    views: str  # how it sees things
    folder: Path
    settings: Settings

    step: ClassVar[str]
    version: ClassVar[int]

    @property
    def full_name(self) -> str:
        """The revision as `name@revision`."""
        return f"{self.name}@{self.revision}"

    @property
    def axes(self) -> int:
        """Of a row: 1 a vector, 2 tokens."""
        return 2 if self.views == "tokens" else 1

    def files(self, scan: str, graphs: Sequence[GraphFile], tally: Tally) -> Sequence[GraphFile]:
        """Return the subgraphs of a scan that have a file; note those without, and files of no subgraph."""
        known = {graph.name for graph in graphs}
        for name in (f"{scan}-{digit:x}" for digit in range(16)):
            if name not in known and (self.folder / f"{name}.pt").exists():
                tally.problem("features_without_graph", f"{name}.pt has no data_dict in --graphs")
        there = [graph for graph in graphs if (self.folder / f"{graph.name}.pt").exists()]
        for graph in graphs:
            if graph not in there:
                tally.problem("graph_without_features", f"there is no {graph.name}.pt in {self.folder}")
        return there

    def entry(self, digits: Sequence[str]) -> ledger.Entry:
        """Return how the ledger calls the import of some subgraphs."""
        options = {"imported": self.settings.as_json(), "subgraphs": list(digits), **self._kept()}
        return ledger.Entry(self.step, self.version, options, self.full_name)

    @abstractmethod
    def read(self, graphs: Sequence[GraphFile]) -> Iterator[SubgraphFeatures]:
        """Read subgraphs one at a time."""

    def register(self, connection: Connection[Any], first: SubgraphFeatures) -> StoredEncoder:
        """Return the row of the encoder; UserError where the store has it with vectors of other length."""
        row = add_revision(
            connection,
            self.name,
            self.revision,
            dimension=first.shape[-1],
            views=self.views,
            tokens=first.shape[0] if self.axes == 2 else None,
            options={"imported": self.settings.as_json()},
        )
        if row.dimension != first.shape[-1]:
            raise UserError(
                f"{first.path}: has {first.shape[-1]} numbers an embedding, {self.full_name} in the store"
                f" has {row.dimension}: give another --revision"
            )
        return row

    @abstractmethod
    def write(
        self,
        connection: Connection[Any],
        scan_id: int,
        row: StoredEncoder,
        subgraphs: Iterable[SubgraphFeatures],
        instances: Set[int],
        tally: Tally,
    ) -> None:
        """Write the features of a scan, of which `instances` are there, in the place of those it has."""

    def close(self, connection: Connection[Any], row: StoredEncoder) -> Sequence[str]:
        """Embed the class lists, and say what the name means, which an import changes for no one."""
        told = [] if self.axes == 2 else _embed_words(connection, row)
        if not row.is_active:
            told.append(
                f"{self.name} means another revision; for these say {self.full_name}, or"
                f" `open3dsg features activate {self.full_name}`"
            )
        return told

    def _kept(self) -> Mapping[str, Any]:
        """Return the options that say what is kept."""
        return {}


@dataclass(frozen=True)
class Objects(Source):
    """Features of instances; `valids` is the folder that says of which there are any."""

    valids: Path

    step = nodes.STEP
    version = nodes.VERSION

    def read(self, graphs: Sequence[GraphFile]) -> Iterator[SubgraphFeatures]:
        """Read subgraphs one at a time."""
        return read_subgraphs(graphs, self.folder, self.valids, self.axes)

    def write(
        self,
        connection: Connection[Any],
        scan_id: int,
        row: StoredEncoder,
        subgraphs: Iterable[SubgraphFeatures],
        instances: Set[int],
        tally: Tally,
    ) -> None:
        """Write rows of `node_feature`."""
        key = {"scan_id": scan_id, "encoder_id": row.encoder_id}
        execute(connection, "feature_clear", {**key, "numbers": None})
        found = read_nodes(subgraphs, instances, tally)
        rows = ((*key.values(), number, HalfVector(found[number]), [], [], []) for number in sorted(found))
        copy_in(connection, "node_feature", nodes.COLUMNS, rows)


@dataclass(frozen=True)
class Relations(Source):
    """Features of pairs; of those that are tokens, `form` says how much is kept."""

    form: TokenFormat

    step = pairs.STEP
    version = pairs.VERSION

    def read(self, graphs: Sequence[GraphFile]) -> Iterator[SubgraphFeatures]:
        """Read subgraphs one at a time."""
        return read_subgraphs(graphs, self.folder, None, self.axes)

    def write(
        self,
        connection: Connection[Any],
        scan_id: int,
        row: StoredEncoder,
        subgraphs: Iterable[SubgraphFeatures],
        instances: Set[int],
        tally: Tally,
    ) -> None:
        """Write rows of `pair_feature` and `pair_tokens`."""
        none = self._none(connection, row)
        clear_pair_features(connection, scan_id, row.encoder_id, None)
        found = read_pairs(subgraphs, instances, self.form, none, tally)
        write_pair_features(connection, scan_id, row.encoder_id, found)

    def _none(self, connection: Connection[Any], row: StoredEncoder) -> NDArray[np.float32] | None:
        """Return the embedding that stands where there is no feature; for tokens NaN does."""
        if self.axes == 2:
            return None
        try:
            return query_vector(connection, row, NONE)
        except UserError as error:
            raise UserError(
                f"in {self.folder.name} the word '{NONE}' stands for no feature: {error}"
            ) from error

    def _kept(self) -> Mapping[str, Any]:
        if self.axes == 1:
            return {}
        dtype = {} if self.form.layout == "pooled" else {"token_dtype": self.form.dtype}
        return {"tokens": self.form.layout, **dtype}


def revision_of_files(settings: Settings) -> str:
    """Return what features of a model, shown things in one way, are called where nobody says.

    What shares are seen of an instance is left out: it differs by dataset, and belongs to one revision.
    """
    told = {"model": settings.model, "top_k_frames": settings.top_k_frames, "scales": settings.scales}
    return f"imported-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]}"


def _embed_words(connection: Connection[Any], row: StoredEncoder) -> list[str]:
    try:
        terms = embed_vocabularies(connection, row)
    except UserError as error:
        # Features are of use without words, to train on: that those cannot be embedded here is no failure.
        return [f"the class lists are not embedded, and no word can be asked: {error}"]
    return [f"embedded {terms} terms of class lists"] if terms else []
