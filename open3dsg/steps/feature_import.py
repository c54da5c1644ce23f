"""Import the feature files of Open3DSG: an embedding an instance, one with its tokens an unordered pair.

The files do not say which frames are behind a feature: it has no evidence. Embeddings are made unit length,
which cosines do not see.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from open3dsg.datasets.featurefolder import OBJECTS, RELATIONS, VALIDS, find_features, names_in
from open3dsg.datasets.graphfolder import graphs_of
from open3dsg.db import ledger
from open3dsg.db.queries import execute, fetch_value
from open3dsg.encoders.registry import load_node_encoder, load_pair_encoder
from open3dsg.encoders.tokens import TokenFormat
from open3dsg.errors import BadFileError, UserError
from open3dsg.steps.feature_rows import Tally
from open3dsg.steps.feature_sources import Objects, Relations, revision_of_files
from open3dsg.steps.summary import Summary
from open3dsg.store.encoders import StoredEncoder
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from psycopg import Connection

    from open3dsg.datasets.featurefolder import FeatureFolder
    from open3dsg.datasets.graphfolder import GraphFile
    from open3dsg.steps.feature_rows import SubgraphFeatures
    from open3dsg.steps.feature_sources import Source
    from open3dsg.store.scans import StoredScan

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ImportOptions:
    """Where the files are, whose features they hold, and how much of the tokens is kept.

    `encoder` is the name that object features are stored under, `pair_encoder` that of relation features;
    None leaves them alone. Without `revision` it is made of the model, the frames and the scales that the
    names of the folders tell.
    """

    folder: Path
    graphs: Path
    encoder: str | None = None
    pair_encoder: str | None = None
    revision: str | None = None
    form: TokenFormat = field(default_factory=TokenFormat)

    def __post_init__(self) -> None:
        """Refuse what names nothing."""
        if self.encoder is None and self.pair_encoder is None:
            raise UserError(
                "nothing to import: say --encoder for the features of objects, --pair-encoder for those of"
                " relations"
            )
        if self.revision is not None and not _REVISION.fullmatch(self.revision):
            raise UserError(f"--revision is {self.revision!r}: letters, digits, '.', '_' and '-' make one")


@dataclass(frozen=True)
class ImportFeatures:
    """The step bound to its options; call it with a connection and a scan as `dataset/name`."""

    options: ImportOptions
    force: bool = False
    replace: bool = False

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Import the features of one scan, each kind in a transaction; what is done is not done again."""
        stored = find_scan(connection, scan)
        with ledger.scan_lock(connection, stored.dataset, stored.name):
            stored = find_scan(connection, stored.key)  # it may have been deleted while we waited
            graphs = graphs_of(self.options.graphs, stored.name)
            parts = [self._import(connection, stored, source, graphs) for source in self.sources()]
        counts: Counter[str] = Counter()
        for part in parts:
            counts.update(part.counts)
        problems = [problem for part in parts for problem in part.problems]
        return Summary(counts, problems, skipped=all(part.skipped for part in parts))

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:  # noqa: ARG002
        """Return what is left to do of a scan: all of it at once, of which it does what is not done."""
        return [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Embed the class lists of the store where that can be done here, and say what the names mean."""
        told: list[str] = []
        for source in self.sources():
            row = execute(connection, "encoder_find", {"text": source.full_name}).fetchone()
            if row is not None:
                told += source.close(connection, StoredEncoder(*row))
        return told

    def scans(self) -> set[str]:
        """Return the names of the scans that there are files of."""
        return {name.rpartition("-")[0] for source in self.sources() for name in names_in(source.folder)}

    def sources(self) -> Sequence[Source]:
        """Return the kinds of features to import; UserError for a folder or an encoder that is none."""
        found = find_features(self.options.folder)
        sources: list[Source] = []
        if self.options.encoder is not None:
            sources.append(self._objects(found, self.options.encoder))
        if self.options.pair_encoder is not None:
            sources.append(self._relations(found, self.options.pair_encoder))
        return sources

    def _objects(self, found: FeatureFolder, name: str) -> Objects:
        if found.objects is None or found.valids is None:
            raise UserError(f"{found.path}: lacks {OBJECTS}... or {VALIDS}: leave --encoder out")
        settings = found.settings(OBJECTS)
        revision = self.options.revision or revision_of_files(settings)
        views = load_node_encoder(name).views
        return Objects(name, revision, views, found.objects, settings, found.valids)

    def _relations(self, found: FeatureFolder, name: str) -> Relations:
        if found.relations is None:
            raise UserError(f"{found.path}: lacks {RELATIONS}...: leave --pair-encoder out")
        settings = found.settings(RELATIONS)
        revision = self.options.revision or revision_of_files(settings)
        views = load_pair_encoder(name).views
        return Relations(name, revision, views, found.relations, settings, self.options.form)

    def _import(
        self, connection: Connection[Any], scan: StoredScan, source: Source, graphs: Sequence[GraphFile]
    ) -> Summary:
        tally = Tally(scan.name)
        there = source.files(scan.name, graphs, tally)
        if not there:
            return Summary({}, tally.problems)
        entry = source.entry([graph.digit for graph in there])
        if self._is_done(connection, scan.scan_id, entry):
            return Summary(skipped=True)
        subgraphs = source.read(there)
        first = next(subgraphs)
        row = source.register(connection, first)
        instances = {n for n, _label in execute(connection, "instance_labels", {"scan_id": scan.scan_id})}
        with connection.transaction():
            ledger.forget(connection, scan.scan_id, [source.step], entry.variant)
            same = _of_one_shape(chain([first], subgraphs), first)
            source.write(connection, scan.scan_id, row, same, instances, tally)
            ledger.record(connection, scan.scan_id, entry, tally.counts, tally.problems)
        return Summary(tally.counts, tally.problems)

    def _is_done(self, connection: Connection[Any], scan_id: int, entry: ledger.Entry) -> bool:
        """Tell whether nothing is to be done; UserError where it was done with other options.

        More subgraphs than there were then are no other options: their files came later.
        """
        if self.force:
            return False
        if ledger.chunks_done(connection, scan_id, entry):
            return True
        earlier = fetch_value(connection, "ledger_other_options", {"scan_id": scan_id, **entry.key()})
        if not self.replace and not _only_grew(earlier, entry.options):
            ledger.check_same_options(connection, scan_id, entry)
        return False


def _only_grew(earlier: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    """Tell whether an import of fewer subgraphs went before, alike but for that."""
    if earlier is None or not set(earlier.get("subgraphs", ["?"])) <= set(now["subgraphs"]):
        return False
    return {**earlier, "subgraphs": now["subgraphs"]} == now


def _of_one_shape(
    subgraphs: Iterable[SubgraphFeatures], first: SubgraphFeatures
) -> Iterator[SubgraphFeatures]:
    for subgraph in subgraphs:
        if subgraph.shape != first.shape:
            raise BadFileError(
                f"{subgraph.path}: its rows are {subgraph.shape}, those of {first.path.name} {first.shape}:"
                " these are of two encoders"
            )
        yield subgraph
