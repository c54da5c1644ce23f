"""What changed between two visits: objects that came, went or moved, and relations that began or ended.

Objects are compared by one SQL function, `rescan_diff_v1`, which also says which object of one scan is which
of the other; relations are those of the scene graphs of the two scans, compared here.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from open3dsg.datasets.files import read_bytes
from open3dsg.db.queries import execute
from open3dsg.errors import BadFileError, UserError
from open3dsg.geometry.checks import check_array
from open3dsg.geometry.rigid import is_rigid, without_dust
from open3dsg.query.graph import read_edges
from open3dsg.query.nodes import refusals_told
from open3dsg.store.encoders import find_encoder
from open3dsg.store.predictions import find_prediction
from open3dsg.store.scans import find_scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from psycopg import Connection

    from open3dsg.query.graph import GraphEdge, Point
    from open3dsg.store.scans import StoredScan

Fate = Literal["appeared", "vanished", "moved", "stayed"]

MOVED_M = 0.1
REACH_M = 2.0
_HOW_TO_GIVE = "--transform FILE: 4x4 numbers row by row, metres, that map the first scan into the second"


@dataclass(frozen=True)
class Sighting:
    """An object in one of the scans: `label` as corrected, `centroid_m` in the scan's own coordinates."""

    instance: int
    label: str
    centroid_m: Point


@dataclass(frozen=True)
class ObjectChange:
    """What became of an object between scan a and scan b."""

    change: Fate
    a: Sighting | None  # None: it appeared
    b: Sighting | None  # None: it vanished
    expected_m: Point | None  # where its centroid would be in scan b, had it stayed
    shift_m: float | None  # by how much its box moved; None: one has no box, and distance_m counts
    distance_m: float | None  # from there to where its centroid is: another part of it may have been seen
    similarity: float | None  # of its two features, where an encoder was asked for
    annotated: str | None  # what the dataset says: moved, changed, appeared, vanished, or several of them
    annotated_m: float | None  # how far its centroid was moved, as annotated
    annotated_degrees: float | None  # how far it was turned, 0 to 180, its symmetry considered


@dataclass(frozen=True)
class RelationChange:
    """A relation between two objects that are in both scans, and is told of in one of them."""

    change: Literal["began", "ended"]
    subject_a: int
    subject_b: int
    subject_label: str  # labels are those in scan b
    predicate: str
    object_a: int
    object_b: int
    object_label: str
    other_tells: bool  # False: the other scan tells nothing of the two, and it may hold there as well


@dataclass(frozen=True)
class Changes:
    """Two visits compared, scan b being the later; scans are called `dataset/name`."""

    scan_a: str
    scan_b: str
    T_b_a: tuple[float, ...]  # 4x4 row-major, maps scan a into scan b
    matched_by: Literal["number", "label"]  # how it is known which object is which
    moved_m: float  # an object moved where its box, or else its centroid, did so by more
    objects: tuple[ObjectChange, ...]  # every object of either scan
    relations: tuple[RelationChange, ...]
    relations_of: str | None  # annotated, captioned or RUN:LABEL; None: one has none, or of another kind

    @property
    def appeared(self) -> tuple[ObjectChange, ...]:
        """Objects that scan b alone has."""
        return self._of("appeared")

    @property
    def vanished(self) -> tuple[ObjectChange, ...]:
        """Objects that scan a alone has."""
        return self._of("vanished")

    @property
    def moved(self) -> tuple[ObjectChange, ...]:
        """Objects that both have, in another place, the farthest first."""
        return tuple(sorted(self._of("moved"), key=lambda one: -(one.distance_m or 0.0)))

    @property
    def stayed(self) -> tuple[ObjectChange, ...]:
        """Objects that both have, in the same place."""
        return self._of("stayed")

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return asdict(self)

    def _of(self, fate: Fate) -> tuple[ObjectChange, ...]:
        return tuple(one for one in self.objects if one.change == fate)


def scan_changes(
    connection: Connection[Any],
    scan_a: str,
    scan_b: str,
    *,
    transform: NDArray[np.float64] | None = None,
    run: str | None = None,
    predicates: str | None = None,
    moved_m: float = MOVED_M,
    reach_m: float = REACH_M,
    encoder: str | None = None,
) -> Changes:
    """Compare two scans, by name or `dataset/name`; `scan_b` is the later visit.

    `transform` (4, 4) float64, metres, maps scan a into scan b; without it the scans must be visits to one
    room of which that is known. Objects keep their numbers over the visits to a room of 3RScan; elsewhere
    those of the same label are matched, nearest first, up to `reach_m` metres apart, where with an `encoder`
    a cosine distance of 1 weighs as much as a metre. One has moved where both ends of its box went more than
    `moved_m` the same way: one end alone does so where a visit sees more of it. Relations are the annotated
    ones, or what encoders say where there are none; with `run`, RUN or RUN:LABEL, the nearest of
    `predicates`, a vocabulary (DATASET-predicates unless named), for each pair.

    Raises UserError for names that the store does not know, scans without geometry or whose position to each
    other is not known, a transform that is none, and a run that says nothing of one of the scans.
    """
    for option, value in (("--moved", moved_m), ("--reach", reach_m)):
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{option} is {value}: give metres, 0 or more")
    if predicates is not None and run is None:
        raise UserError("--predicates is what a run is compared with: give --run too")
    a, b = find_scan(connection, scan_a), find_scan(connection, scan_b)
    by_number, T_b_a = _visits(connection, a, b, transform)
    asked = {
        "a": a.key,
        "b": b.key,
        "t_b_a": T_b_a,
        "moved_m": moved_m,
        "reach_m": reach_m,
        "encoder": None if encoder is None else find_encoder(connection, encoder).full_name,
    }
    with refusals_told():
        objects = tuple(_object(row) for row in execute(connection, "rescan_diff", asked))
    before, after = (read_edges(connection, each, run=run, predicates=predicates) for each in (a, b))
    source = _source(before, after) if run is None else find_prediction(connection, run).full_name
    members = [_members(connection, each) if source == "annotated" else {} for each in (a, b)]
    return Changes(
        scan_a=a.key,
        scan_b=b.key,
        T_b_a=tuple(T_b_a),
        matched_by="number" if by_number else "label",
        moved_m=moved_m,
        objects=objects,
        relations=() if source is None else _relations((before, after), members, objects),
        relations_of=source,
    )


def read_transform(path: Path) -> NDArray[np.float64]:
    """Return the transform of a text file: 16 numbers row by row, as (4, 4) float64.

    Raises BadFileError where it is missing, holds something else, or no rotation and translation.
    """
    try:
        transform = np.array([float(word) for word in read_bytes(path).split()]).reshape(4, 4)
    except ValueError as error:
        raise BadFileError(f"{path}: a transform is 16 numbers, row by row") from error
    return _check_rigid(transform, str(path))


def _visits(
    connection: Connection[Any], a: StoredScan, b: StoredScan, transform: NDArray[np.float64] | None
) -> tuple[bool, list[float]]:
    """Return whether objects keep their numbers, and the transform of `a` into `b`, row by row."""
    if a.scan_id == b.scan_id:
        raise UserError(f"{a.key} was named twice: name two visits")
    if transform is not None:
        _check_rigid(transform, "the transform")
    given = None if transform is None else without_dust(transform).ravel().tolist()
    asked = {"a": a.scan_id, "b": b.scan_id, "t_b_a": given}
    try:
        with refusals_told():
            by_number, T_b_a = execute(connection, "visits", asked).fetchall()[0]
    except UserError as error:
        raise UserError(f"{error}: {_HOW_TO_GIVE}") from error
    return by_number, T_b_a


def _check_rigid(transform: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    check_array("transform", transform, (4, 4), np.float64)
    if not is_rigid(transform):
        raise BadFileError(
            f"{what}: no rotation and translation; give 4x4 numbers row by row, in metres,"
            " the last row 0 0 0 1"
        )
    return transform


def _object(row: Sequence[Any]) -> ObjectChange:
    change, *seen = row[:7]
    expected_m, *measured = row[7:]
    return ObjectChange(
        change,
        _sighting(*seen[:3]),
        _sighting(*seen[3:]),
        None if expected_m is None else tuple(expected_m),
        *measured,
    )


def _sighting(instance: int | None, label: str, centroid_m: Sequence[float]) -> Sighting | None:
    if instance is None:
        return None
    x, y, z = centroid_m
    return Sighting(instance, label, (x, y, z))


def _source(a: Iterable[GraphEdge], b: Iterable[GraphEdge]) -> str | None:
    """Return what the relations of both are of; None where one has none, or they are of different kinds.

    What people annotate and what an encoder says are different lists of predicates: to compare the two would
    find all relations changed, and a scan that nobody annotated would seem to have lost them.
    """
    kinds, others = ({edge.source for edge in edges} - {"corrected"} for edges in (a, b))
    return kinds.pop() if len(kinds) == 1 and kinds == others else None


def _members(connection: Connection[Any], scan: StoredScan) -> dict[int, frozenset[int]]:
    """Return instance -> the subgraphs in which it was annotated."""
    found = execute(connection, "annotated_members", {"scan_id": scan.scan_id})
    return {number: frozenset(subgraphs) for number, subgraphs in found}


def _relations(
    edges: Sequence[Iterable[GraphEdge]],
    members: Sequence[Mapping[int, frozenset[int]]],
    objects: Sequence[ObjectChange],
) -> tuple[RelationChange, ...]:
    """Return the relations that one of two scans has, between objects that both have; by number in scan b.

    `edges` and `members`, the subgraphs in which instances were annotated, are those of scan a and of scan b.
    """
    both = [(one.a.instance, one.b) for one in objects if one.a is not None and one.b is not None]
    labels = {there.instance: there.label for _number, there in both}
    number_a = {there.instance: number for number, there in both}
    number_b = {number: there.instance for number, there in both}
    a = _Told(edges[0], members[0], number_b)
    b = _Told(edges[1], members[1], {number: number for number in number_a})
    sides: tuple[tuple[Literal["began", "ended"], _Told, _Told], ...] = (("ended", a, b), ("began", b, a))
    changed = [
        RelationChange(
            change,
            number_a[one],
            one,
            labels[one],
            predicate,
            number_a[other],
            other,
            labels[other],
            there.tells_of(one, other),
        )
        for change, here, there in sides
        for one, predicate, other in here.triples - there.triples
    ]
    return tuple(sorted(changed, key=lambda told: (told.subject_b, told.object_b, told.predicate)))


class _Told:
    """What one scan tells of the objects that both have, by their numbers in scan b."""

    def __init__(
        self,
        edges: Iterable[GraphEdge],
        members: Mapping[int, frozenset[int]],
        number_b: Mapping[int, int],
    ) -> None:
        self.triples = {
            (number_b[edge.subject], edge.predicate, number_b[edge.object])
            for edge in edges
            if edge.subject in number_b and edge.object in number_b
        }
        self._pairs = {(one, other) for one, _predicate, other in self.triples}
        self._subgraphs = {number_b[number]: of for number, of in members.items() if number in number_b}

    def tells_of(self, one: int, other: int) -> bool:
        """Tell whether it relates one to the other, or both were annotated together and it could have."""
        none: frozenset[int] = frozenset()
        together = self._subgraphs.get(one, none) & self._subgraphs.get(other, none)
        return (one, other) in self._pairs or bool(together)
