"""Visits to a room as rows: objects with a label and a centroid, in scans that lie to each other as told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from open3dsg.db.terms import term_ids, terms_in_use
from open3dsg.geometry.rigid import without_dust
from tests.db.pipeline import Database


class Thing(NamedTuple):
    """An object of a made scan."""

    label: str
    centroid_m: Sequence[float] | NDArray[np.float64]


def turn(yaw: float, *offset: float) -> NDArray[np.float64]:
    """Rotate about z by `yaw` radians, then translate: (4, 4)."""
    transform = np.eye(4)
    transform[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    transform[:3, 3] = offset
    return transform


def inverse(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse (4, 4)."""
    return np.asarray(np.linalg.inv(transform), np.float64)


def at(transform: NDArray[np.float64], point: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the point (3,) as the transform brings it."""
    return np.asarray(transform[:3, :3] @ np.asarray(point) + transform[:3, 3])


def add_scan(
    database: Database,
    name: str,
    things: Mapping[int, Thing],
    *,
    dataset: str = "3rscan",
    layout: str = "3rscan",
    reference: str | None = None,
    T_reference_scan: NDArray[np.float64] | None = None,
) -> int:
    """Add a scan with instances and return its id; what is no rescan has no `reference`."""
    database.execute(
        "INSERT INTO dataset (name, layout) VALUES (%s, %s) ON CONFLICT DO NOTHING", (dataset, layout)
    )
    transform = None if T_reference_scan is None else T_reference_scan.ravel().tolist()
    row = database.execute(
        "INSERT INTO scan (dataset_id, name, reference_name, t_reference_scan, point_count)"
        " SELECT dataset_id, %s, %s, %s, 100 FROM dataset WHERE name = %s RETURNING scan_id",
        (name, reference, transform, dataset),
    ).fetchone()
    assert row is not None
    with terms_in_use(database):
        ids = term_ids(database, {thing.label for thing in things.values()})
        for number, thing in things.items():
            place = [float(value) for value in thing.centroid_m]
            database.execute(
                "INSERT INTO instance (scan_id, instance_no, label_id, point_count, centroid_m)"
                " VALUES (%s, %s, %s, 10, %s)",
                (row[0], number, ids[thing.label], place),
            )
    return int(row[0])


def annotate(
    database: Database,
    scan_id: int,
    number: int,
    change: str,
    transform: NDArray[np.float64] | None = None,
    symmetry: int | None = None,
) -> None:
    """Say of an object of a rescan what annotations would."""
    database.execute(
        "INSERT INTO rescan_object (scan_id, reference_no, change, t_rescan_reference, symmetry)"
        " VALUES (%s, %s, %s, %s, %s)",
        (scan_id, number, change, None if transform is None else transform.ravel().tolist(), symmetry),
    )


def relate(database: Database, scan_id: int, *triples: tuple[int, str, int]) -> None:
    """Annotate relations, in one subgraph of all instances of the scan."""
    database.execute(
        "INSERT INTO subgraph (scan_id, subgraph_no, method) VALUES (%s, 1, '3dssg') ON CONFLICT DO NOTHING",
        (scan_id,),
    )
    database.execute(
        "INSERT INTO subgraph_member (scan_id, subgraph_no, instance_no, label_id)"
        " SELECT scan_id, 1, instance_no, label_id FROM instance WHERE scan_id = %s ON CONFLICT DO NOTHING",
        (scan_id,),
    )
    with terms_in_use(database):
        ids = term_ids(database, {predicate for _subject, predicate, _object in triples})
        for subject, predicate, other in triples:
            database.execute(
                "INSERT INTO relationship (scan_id, subgraph_no, subject_no, object_no, predicate_id)"
                " VALUES (%s, 1, %s, %s, %s)",
                (scan_id, subject, other, ids[predicate]),
            )


angles = st.floats(-math.pi, math.pi)
lengths = st.floats(-20, 20).map(lambda metres: round(metres, 6))


def rotate(turns: tuple[float, float, float], offset: tuple[float, float, float]) -> NDArray[np.float64]:
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", turns).as_matrix()
    transform[:3, 3] = offset
    return without_dust(transform)


rigid = st.builds(rotate, st.tuples(angles, angles, angles), st.tuples(lengths, lengths, lengths))
