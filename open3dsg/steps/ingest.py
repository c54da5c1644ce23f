"""Ingest: a scan into `scan`, `point_block`, `frame` and `instance`; its annotations into `subgraph`.

Geometry and annotations are two entries of the ledger: 3DSSG's annotations cover scans whose geometry is not
at hand, and either may come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.db import ledger
from open3dsg.db.copying import copy_in
from open3dsg.db.queries import execute, fetch_value
from open3dsg.db.terms import term_ids
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.boxes import instance_boxes
from open3dsg.steps.summary import Summary
from open3dsg.store.cloud import write_cloud
from open3dsg.store.scans import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Protocol

    from psycopg import Connection

    from open3dsg.datasets.scan import Cloud, Frame, Problem, Scan

    class Source(Protocol):
        """What the step needs of a reader, of whole scans or of annotations alone."""

        @property
        def ledger_options(self) -> Mapping[str, Any]:
            """The arguments of the reader that change what is read of a scan."""

        def read(self, name: str) -> Scan:
            """Read one scan."""

        def annotation_hash(self, name: str) -> str | None:
            """Return a hash of the scan's subgraphs, or None where there are none."""


VERSION = 1
DOWNSTREAM = ("observe", "features.nodes")

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
        check_name(scan, "the name of a scan")
        self.check_dataset(connection)
        row = execute(connection, "scan_find", {"dataset": self.dataset, "name": scan}).fetchone()
        if row is not None and not self.force:
            entries = self.entries(scan)
            if all(ledger.chunks_done(connection, row[0], entry) for entry in entries):
                return Summary(skipped=True)
            if not self.replace:
                for entry in entries:
                    if entry.step == "ingest":
                        ledger.check_same_options(connection, row[0], entry)
        return write_scan(connection, self.reader.read(scan), self)

    def check_dataset(self, connection: Connection[Any]) -> int | None:
        """Return the id of the dataset, or None where it is new.

        Raises UserError where its name cannot be one, or is that of another folder: a scan of the same name
        there would pass for one that is done.
        """
        check_name(self.dataset, "--dataset")
        row = execute(connection, "dataset_find", {"name": self.dataset}).fetchone()
        if row is None:
            return None
        dataset_id, root = row
        if None not in (root, self.root) and root != self.root:
            raise UserError(
                f"dataset {self.dataset} is rooted at {root}, not at {self.root}:"
                " give this folder a name of its own with --dataset"
            )
        return int(dataset_id)

    def dataset_id(self, connection: Connection[Any]) -> int:
        """Return the id of the dataset, added where it is new, with its root where that was not known."""
        parameters = {"name": self.dataset, "layout": self.layout, "root": self.root}
        if self.check_dataset(connection) is None:
            execute(connection, "dataset_add", parameters)
        dataset_id = self.check_dataset(connection)
        if dataset_id is None:
            raise RuntimeError("a dataset is there once it was added")
        if self.root is not None:
            execute(connection, "dataset_set_root", {"dataset_id": dataset_id, "root": self.root})
        return dataset_id

    def entries(self, scan: str) -> Sequence[ledger.Entry]:
        """Return what the ledger must hold when the scan is done."""
        geometry = [] if self.root is None else [ledger.Entry("ingest", VERSION, self.reader.ledger_options)]
        content = self.reader.annotation_hash(scan)
        return geometry + (
            [] if content is None else [ledger.Entry("annotate", VERSION, {"content": content})]
        )


def write_scan(connection: Connection[Any], scan: Scan, step: Ingest) -> Summary:
    """Write all that is not there yet of a scan, in one transaction."""
    _check_numbers(scan)
    # Small shared rows first, each in a moment of its own: no scan waits for another's transaction.
    ids = term_ids(connection, _texts(scan))
    dataset_id = step.dataset_id(connection)
    counts: dict[str, int] = {}
    with ledger.scan_lock(connection, step.dataset, scan.name), connection.transaction():
        scan_id = _scan_row(connection, scan, dataset_id)
        told: Sequence[Problem] = scan.problems
        for entry in step.entries(scan.name):
            if not step.force and ledger.chunks_done(connection, scan_id, entry):
                continue
            write = _write_geometry if entry.step == "ingest" else _write_annotations
            written = write(connection, scan_id, scan, ids)
            ledger.record(connection, scan_id, entry, written, told)
            counts.update(written)
            told = ()  # once is enough
        named = {"scan_id": scan_id, "named": list(scan.labels), "whole": scan.cloud is not None}
        execute(connection, "instance_drop_unnamed", named)
    return Summary(counts, scan.problems if counts else (), skipped=not counts)


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


def _write_geometry(
    connection: Connection[Any], scan_id: int, scan: Scan, ids: Mapping[str, int]
) -> dict[str, int]:
    if scan.cloud is None:
        raise RuntimeError(f"the reader gave no points for scan {scan.name}")
    ledger.forget(connection, scan_id, DOWNSTREAM)
    execute(connection, "geometry_clear", {"scan_id": scan_id})
    execute(
        connection,
        "scan_set_geometry",
        {
            "scan_id": scan_id,
            "point_count": len(scan.cloud.xyz_m),
            "colour_source": scan.cloud.colour_source,
        },
    )
    write_cloud(connection, scan_id, scan.cloud)
    return {
        "points": len(scan.cloud.xyz_m),
        "frames": _write_frames(connection, scan_id, scan),
        "instances": _write_instances(
            connection, scan_id, scan.cloud, {number: ids[label] for number, label in scan.labels.items()}
        ),
    }


def _write_frames(connection: Connection[Any], scan_id: int, scan: Scan) -> int:
    columns = {
        "scan_id": "int8",
        "frame_no": "int4",
        "image_uri": "text",
        "image_size": "int4[]",
        "image_intrinsics": "float8[]",
        "depth_uri": "text",
        "depth_size": "int4[]",
        "depth_intrinsics": "float8[]",
        "depth_unit_m": "float8",
        "t_world_camera": "float8[]",
    }
    return copy_in(connection, "frame", columns, (_frame_row(scan_id, frame) for frame in scan.frames))


def _frame_row(scan_id: int, frame: Frame) -> tuple[object, ...]:
    image, depth = frame.image, frame.depth
    return (
        scan_id,
        frame.number,
        frame.image_uri,
        [image.width, image.height],
        [image.fx, image.fy, image.cx, image.cy],
        frame.depth_uri,
        None if depth is None else [depth.width, depth.height],
        None if depth is None else [depth.fx, depth.fy, depth.cx, depth.cy],
        None if depth is None else frame.depth_unit_m,
        frame.T_world_camera.ravel().tolist(),
    )


def _write_instances(
    connection: Connection[Any], scan_id: int, cloud: Cloud, label_ids: Mapping[int, int]
) -> int:
    columns = {
        "scan_id": "int8",
        "instance_no": "int4",
        "label_id": "int4",
        "point_count": "int4",
        "centroid_m": "float8[]",
        "aabb_min_m": "float8[]",
        "aabb_max_m": "float8[]",
        "obb_centre_m": "float8[]",
        "obb_axes": "float8[]",
        "obb_lengths_m": "float8[]",
    }
    execute(connection, "instance_staging")
    count = copy_in(connection, "instance_staging", columns, _instance_rows(scan_id, cloud, label_ids))
    execute(connection, "instance_retire", {"scan_id": scan_id})
    execute(connection, "instance_merge")
    execute(connection, "instance_staging_drop")
    return count


def _instance_rows(scan_id: int, cloud: Cloud, label_ids: Mapping[int, int]) -> Iterator[tuple[object, ...]]:
    boxes = instance_boxes(cloud.xyz_m, cloud.instance)
    place = {int(number): index for index, number in enumerate(boxes.numbers)}
    without_label = sorted(place.keys() - label_ids.keys())
    if without_label:
        raise RuntimeError(f"the reader left instances without a label: {without_label}")
    for number, label_id in sorted(label_ids.items()):
        at = place.get(number)
        if at is None:
            yield (scan_id, number, label_id, 0, *[None] * 6)
            continue
        shape = (
            boxes.centroid[at],
            boxes.aabb_min[at],
            boxes.aabb_max[at],
            boxes.obb_centre[at],
            boxes.obb_axes[at],
            boxes.obb_lengths[at],
        )
        yield (
            scan_id,
            number,
            label_id,
            int(boxes.point_count[at]),
            *(np.asarray(part, np.float64).ravel().tolist() for part in shape),
        )


def _write_annotations(
    connection: Connection[Any], scan_id: int, scan: Scan, ids: Mapping[str, int]
) -> dict[str, int]:
    execute(connection, "annotation_clear", {"scan_id": scan_id})
    members = [
        (graph.number, number, label) for graph in scan.subgraphs for number, label in graph.members.items()
    ]
    triples = [(graph.number, *triple) for graph in scan.subgraphs for triple in graph.relationships]
    objects = {number: ids[label] for _graph, number, label in members}
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
    return {"subgraphs": len(rows), "objects": len(members), "triples": len(triples)}
