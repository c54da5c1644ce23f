"""Ingest: a scan into `scan`, `point_block`, `frame` and `instance`; its annotations into `subgraph`.

Geometry and annotations are two entries of the ledger: 3DSSG's annotations cover scans whose geometry is not
at hand, and either may come first. What is said of single instances is a third, see `attributes`, and what
is said of the objects of a rescan a fourth, see `rescans`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.errors import BadFileError, UserError
from open3dsg.steps.attributes import STEP as ATTRIBUTES
from open3dsg.steps.attributes import check_attributes, lacks_attributes, write_attributes
from open3dsg.steps.graph import STEP as GRAPH
from open3dsg.steps.graph import SUBGRAPHS
from open3dsg.steps.rescans import changes_of, lacks_changes, write_changes
from open3dsg.steps.summary import Summary
from open3dsg.store.corrections import corrections_left, count_corrections, drop_corrections
from open3dsg.store.geometry import Written, write_boxes, write_geometry
from open3dsg.store.predictions import PREDICT
from open3dsg.store.scans import check_name
from open3dsg.store.vocabularies import add_word_lists

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from psycopg import Connection

    from open3dsg.datasets.attributes import ScanAttributes
    from open3dsg.datasets.layouts import WordList
    from open3dsg.datasets.scan import Problem, Scan

    class Source(Protocol):
        """What the step needs of a reader, of whole scans or of annotations alone."""

        @property
        def arguments(self) -> Mapping[str, Any]:
            """What opens the reader again, beside the root."""

        @property
        def ledger_options(self) -> Mapping[str, Any]:
            """The arguments of the reader that change what is read of a scan."""

        def read(self, name: str) -> Scan:
            """Read one scan."""

        def annotation_hash(self, name: str) -> str | None:
            """Return a hash of the scan's subgraphs, or None where there are none."""

        def attributes_of(self, name: str) -> ScanAttributes | None:
            """Return what is said of the scan's instances beside their labels, or None where nothing is."""

        def word_lists(self) -> Sequence[WordList]:
            """Return the lists of classes and predicates that come with the dataset."""


VERSION = 1
DOWNSTREAM = ("observe", "features.nodes", "features.pairs", "features.captions", GRAPH, PREDICT)

_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Ingest:
    """The step bound to its reader and options; call it with a connection and a scan's name."""

    reader: Source
    dataset: str
    layout: str
    root: str | None  # None: annotations only
    force: bool = False
    replace: bool = False

    def __call__(self, connection: Connection[Any], scan: str) -> Summary:
        """Read and write one scan, unless the ledger says that all of it is there."""
        if not self.parts(connection, scan):
            return Summary(skipped=True)
        found = self.reader.attributes_of(scan)  # first: where it cannot be read, nothing is written
        check_attributes(found)
        changes = changes_of(self.reader, scan)
        summary = Summary(skipped=True)
        if self.force or not self._is_read(connection, scan):
            summary = write_scan(connection, self.reader.read(scan), self)
        if changes is not None:
            written = write_changes(connection, self.dataset, scan, changes, force=self.force)
            summary = summary.and_then(written)
        if found is None:
            return summary
        return summary.and_then(write_attributes(connection, self.dataset, scan, found, force=self.force))

    def parts(self, connection: Connection[Any], scan: str) -> Sequence[None]:
        """Return what is left to do of a scan, each work for itself: all of it at once, or nothing.

        Raises UserError where its geometry was read with other options, or its only instances would be lost.
        """
        check_name(scan, "the name of a scan")
        self.check_dataset(connection)
        scan_id = self._scan_id(connection, scan)
        if scan_id is None:
            return [None]
        if not self.force:
            if self._is_read(connection, scan):
                lacking = lacks_attributes(
                    connection, scan_id, self.reader.attributes_of(scan)
                ) or lacks_changes(connection, scan_id, changes_of(self.reader, scan))
                return [None] if lacking else []
            if not self.replace:
                for entry in self.entries(scan):
                    if entry.step == "ingest":
                        ledger.check_same_options(connection, scan_id, entry)
        if not self.replace:
            _check_instances_come_back(connection, scan_id, scan)
        return [None]

    def close(self, connection: Connection[Any]) -> Sequence[str]:
        """Keep the lists of words that come with the dataset, and how it was read."""
        if self.root is not None:
            self.dataset_id(connection)
        add_word_lists(connection, self.dataset, self.reader.word_lists())
        return ()

    def check_dataset(self, connection: Connection[Any]) -> int | None:
        """Return the id of the dataset, or None where it is new.

        Raises UserError where its name cannot be one, or is that of another folder or layout: a scan of the
        same name there would pass for one that is done.
        """
        check_name(self.dataset, "--dataset")
        row = execute(connection, "dataset_find", {"name": self.dataset}).fetchone()
        if row is None:
            return None
        dataset_id, root, layout = row
        if layout != self.layout:
            raise UserError(
                f"dataset {self.dataset} has the layout {layout}, not {self.layout}:"
                " give this folder a name of its own with --dataset"
            )
        if None not in (root, self.root) and root != self.root:
            raise UserError(
                f"dataset {self.dataset} is rooted at {root}, not at {self.root}:"
                " give this folder a name of its own with --dataset,"
                f" or, if the dataset was moved, run `open3dsg scans relocate {self.dataset} {self.root}`"
            )
        return int(dataset_id)

    def dataset_id(self, connection: Connection[Any]) -> int:
        """Return the id of the dataset, added where it is new, with how its folder is read."""
        parameters = {"name": self.dataset, "layout": self.layout, "root": self.root}
        if self.check_dataset(connection) is None:
            execute(connection, "dataset_add", parameters)
        dataset_id = self.check_dataset(connection)
        if dataset_id is None:
            raise RuntimeError("a dataset is there once it was added")
        if self.root is not None:
            arguments = Jsonb(dict(self.reader.arguments))
            known = {"dataset_id": dataset_id, "root": self.root, "arguments": arguments}
            execute(connection, "dataset_remember", known)
        return dataset_id

    def _scan_id(self, connection: Connection[Any], scan: str) -> int | None:
        row = execute(connection, "scan_find", {"dataset": self.dataset, "name": scan}).fetchone()
        return None if row is None else int(row[0])

    def _is_read(self, connection: Connection[Any], scan: str) -> bool:
        """Tell whether the ledger says that geometry and annotations are there as the files have them."""
        scan_id = self._scan_id(connection, scan)
        return scan_id is not None and all(
            ledger.chunks_done(connection, scan_id, entry) for entry in self.entries(scan)
        )

    def entries(self, scan: str) -> Sequence[ledger.Entry]:
        """Return what the ledger must hold when the scan is read; attributes are written after that."""
        geometry = [] if self.root is None else [ledger.Entry("ingest", VERSION, self.reader.ledger_options)]
        content = self.reader.annotation_hash(scan)
        return geometry + (
            [] if content is None else [ledger.Entry("annotate", VERSION, {"content": content})]
        )


def write_scan(connection: Connection[Any], scan: Scan, step: Ingest) -> Summary:
    """Write all that is not there yet of a scan, in one transaction."""
    _check_numbers(scan)
    with terms_in_use(connection):
        # Small shared rows first, each in a moment of its own: no scan waits for another's transaction.
        ids = term_ids(connection, _texts(scan))
        dataset_id = step.dataset_id(connection)
        return _write(connection, scan, step, dataset_id, ids)


def _write(
    connection: Connection[Any], scan: Scan, step: Ingest, dataset_id: int, ids: Mapping[str, int]
) -> Summary:
    counts: dict[str, int] = {}
    with ledger.scan_lock(connection, step.dataset, scan.name), connection.transaction():
        scan_id = _scan_row(connection, scan, dataset_id)
        corrections = count_corrections(connection, scan_id)
        told: Sequence[Problem] = scan.problems
        for entry in step.entries(scan.name):
            if not step.force and ledger.chunks_done(connection, scan_id, entry):
                continue
            if entry.step == "ingest":
                _drop_corrections_of_masks(connection, scan_id)
                written = write_geometry(connection, scan_id, scan, ids, DOWNSTREAM)
            else:
                _check_own_instances(connection, scan_id, scan.name)
                if not ledger.chunks_done(connection, scan_id, entry):
                    _drop_units(connection, scan_id)
                written = Written(_write_annotations(connection, scan_id, scan, ids), {})
            ledger.record(connection, scan_id, entry, written.counts, told)
            counts.update(written.counts)
            counts.update(written.changes)
            told = ()  # once is enough
            # Instances that went took theirs along, and new ones have none.
            ledger.mark_stale(connection, scan_id, [ATTRIBUTES])
        named = {"scan_id": scan_id, "named": list(scan.labels), "whole": scan.cloud is not None}
        execute(connection, "instance_drop_unnamed", named)
        if counts:
            counts.update(corrections_left(connection, scan_id, corrections))
    return Summary(counts, scan.problems if counts else (), skipped=not counts)


def _drop_corrections_of_masks(connection: Connection[Any], scan_id: int) -> None:
    """Drop what people said of instances merged from masks, before those of the dataset get their numbers."""
    if fetch_value(connection, "has_instances_of_masks", {"scan_id": scan_id}):
        drop_corrections(connection, scan_id)


def _texts(scan: Scan) -> set[str]:
    """Return every label and predicate of a scan."""
    labels = {label for graph in scan.subgraphs for label in graph.members.values()}
    predicates = {name for graph in scan.subgraphs for _a, _b, name in graph.relationships}
    return labels | predicates | set(scan.labels.values())


def _check_numbers(scan: Scan) -> None:
    """Refuse a number from a file that its column cannot hold: COPY would wrap it around without a word."""
    for what, numbers in (
        ("frame", (frame.number for frame in scan.frames)),
        ("instance", iter(scan.labels)),
        ("subgraph", (graph.number for graph in scan.subgraphs)),
    ):
        for number in numbers:
            if not 0 <= number <= _LARGEST_NUMBER:
                raise BadFileError(
                    f"{what} number {number} of scan {scan.name} is not from 0 to {_LARGEST_NUMBER}"
                )


def _scan_row(connection: Connection[Any], scan: Scan, dataset_id: int) -> int:
    transform = scan.T_reference_scan
    parameters = {
        "dataset_id": dataset_id,
        "name": scan.name,
        "split": scan.split,
        "reference_name": scan.reference,
        "t_reference_scan": None if transform is None else transform.ravel().tolist(),
    }
    return int(fetch_value(connection, "scan_upsert", parameters))


def _check_instances_come_back(connection: Connection[Any], scan_id: int, name: str) -> None:
    """Raise UserError where instances are merged from masks, and the scan's files have none of their own."""
    if fetch_value(connection, "has_only_instances_of_masks", {"scan_id": scan_id}):
        raise UserError(
            f"scan {name} has instances merged from masks, and its files have none: to read them again drops"
            " these, with all that was made of them; `open3dsg ingest` with --force and --replace does that,"
            " and `open3dsg masks merge` makes them anew"
        )


def _check_own_instances(connection: Connection[Any], scan_id: int, name: str) -> None:
    """Raise UserError where instances are merged from masks: annotations speak of those of the dataset."""
    if fetch_value(connection, "has_instances_of_masks", {"scan_id": scan_id}):
        raise UserError(
            f"the instances of scan {name} are merged from masks, of which its annotations do not speak:"
            " `open3dsg ingest` of its dataset's folder with --force reads its own back in"
        )


def _drop_units(connection: Connection[Any], scan_id: int) -> None:
    """Drop what was made of subgraphs that give way to others; the graph of the whole scan stays."""
    ledger.forget(connection, scan_id, [GRAPH], SUBGRAPHS)
    execute(connection, "units_of_subgraphs_clear", {"scan_id": scan_id})


def _write_annotations(
    connection: Connection[Any], scan_id: int, scan: Scan, ids: Mapping[str, int]
) -> dict[str, int]:
    execute(connection, "annotation_clear", {"scan_id": scan_id})
    members = [
        (graph.number, number, label) for graph in scan.subgraphs for number, label in graph.members.items()
    ]
    triples = [(graph.number, *triple) for graph in scan.subgraphs for triple in graph.relationships]
    objects = {number: ids[label] for _graph, number, label in members}
    counts = {}
    if scan.boxes:
        counts["boxes"] = write_boxes(connection, scan_id, scan.boxes, objects)
    execute(
        connection,
        "instance_add_without_geometry",
        {"scan_id": scan_id, "numbers": list(objects), "label_ids": list(objects.values())},
    )
    rows: list[tuple[object, ...]] = [(scan_id, graph.number, "3dssg") for graph in scan.subgraphs]
    copy_in(connection, "subgraph", {"scan_id": "int8", "subgraph_no": "int4", "method": "text"}, rows)
    key = {"scan_id": "int8", "subgraph_no": "int4"}
    copy_in(
        connection,
        "subgraph_member",
        {**key, "instance_no": "int4", "label_id": "int4"},
        [(scan_id, graph, number, ids[label]) for graph, number, label in members],
    )
    copy_in(
        connection,
        "relationship",
        {**key, "subject_no": "int4", "object_no": "int4", "predicate_id": "int4"},
        [(scan_id, graph, a, b, ids[name]) for graph, a, b, name in triples],
    )
    return counts | {"subgraphs": len(rows), "objects": len(members), "triples": len(triples)}
