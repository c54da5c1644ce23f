"""Relations between the things of a room, computed from their boxes and contacts, in 3DSSG's words.

The rules follow what the published relationship files do (Wald et al., CVPR 2020):

- Support: each thing names what carries it, once, from the carried to the carrier. The carrier is found by
  contact: a horizontal plane right under the thing's lower side, else the thing whose box its upper side or
  its back touches. The verb depends on what is carried and how (`verb_of`): a wall is attached to the floor,
  the ceiling to every wall, a chair stands on the floor, a pillow lies on the sofa, a curtain hangs on the
  wall, a radiator is connected to it, a sink is built in.
- left / right and front / behind hold between things that share a carrier and are near each other, both
  ways round: ``(a, b, left)`` goes with ``(b, a, right)``, ``(a, b, front)`` with ``(b, a, behind)``. The
  directions are those of the world as the first camera sees it: +x is right and +y is away, so "front" is
  the smaller y. Only a clear offset counts, and only the larger of the two, or both where they are alike.
- close by: such neighbours whose boxes are less than 0.5 m apart, both ways.
- higher than / lower than and bigger than / smaller than compare things of one label, both ways round.
- same as: furniture of one label and one size, both ways.

Walls, floor and ceiling take part in support alone.
"""

from __future__ import annotations

from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np

from open3dsg.datasets.synth.mesh import yaw_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from open3dsg.datasets.synth.room import Box, Instance, Plane, Room

PREDICATES = (
    "none",
    "supported by",
    "left",
    "right",
    "front",
    "behind",
    "close by",
    "inside",
    "bigger than",
    "smaller than",
    "higher than",
    "lower than",
    "same symmetry as",
    "same as",
    "attached to",
    "standing on",
    "lying on",
    "hanging on",
    "connected to",
    "leaning against",
    "part of",
    "belonging to",
    "build in",
    "standing in",
    "cover",
    "lying in",
    "hanging in",
)
SHELL = frozenset({"wall", "floor", "ceiling"})

CONTACT_M = 0.012
NEIGHBOUR_M = 1.0
CLOSE_M = 0.5
OFFSET_M = 0.15

_LYING = frozenset({"pillow", "blanket", "book", "carpet", "plate"})
_HANGING = ("picture", "mirror", "clock", "curtain", "light", "towel", "toilet paper", "shower curtain")
_SIDE_VERBS = {"radiator": "connected to"} | dict.fromkeys(_HANGING, "hanging on")
_BUILT_IN = frozenset({"sink", "stove", "oven"})
_FURNITURE = frozenset(
    {
        "chair",
        "stool",
        "armchair",
        "nightstand",
        "desk",
        "kitchen cabinet",
        "curtain",
        "monitor",
        "window",
        "lamp",
    }
)

Relation = tuple[int, int, str]


def relations_of(room: Room) -> list[Relation]:
    """All relations of `room` as (subject, object, predicate), support first, in a fixed order."""
    things = [instance for instance in room.instances if instance.label not in SHELL]
    carriers = {instance.number: carrier_of(instance, room.instances) for instance in room.instances}
    return [
        *_support(room.instances, carriers),
        *_neighbours(things, carriers),
        *_comparisons(things),
    ]


def verb_of(subject: str, carrier: str, *, from_above: bool) -> str:
    """Predicate of a `subject` carried by `carrier`; `from_above`: it rests on top of it."""
    if subject in _BUILT_IN:
        return "build in"
    if subject == "kitchen counter":
        return "part of"
    if not from_above:
        return _SIDE_VERBS.get(subject, "attached to")
    if carrier == "bookshelf":
        return "standing in"
    return "lying on" if subject in _LYING else "standing on"


def rests_on(box: Box, plane: Plane) -> bool:
    """Whether the lower side of an upright `box` touches `plane` with its middle within the plane's edges."""
    lower = box.centre[2] - box.size[2] / 2
    if abs(lower - plane.centre[2]) > CONTACT_M:
        return False
    local = yaw_matrix(-plane.yaw) @ (box.centre - plane.centre)
    return bool((np.abs(local[:2]) <= plane.size / 2 + 1e-6).all())


def gap_between(a: Box, b: Box) -> float:
    """Distance between two upright boxes in metres; negative, by how deep at least, where they overlap."""
    upright = abs(a.centre[2] - b.centre[2]) - (a.size[2] + b.size[2]) / 2
    level = _gap_from_above(a, b)
    return float(np.hypot(level, upright) if min(level, upright) > 0 else max(level, upright))


def _gap_from_above(a: Box, b: Box) -> float:
    """Distance of the two boxes' rectangles as seen from above, negative where they overlap."""
    corners_a, corners_b = _footprint(a), _footprint(b)
    axes = np.concatenate([yaw_matrix(a.yaw)[:2, :2].T, yaw_matrix(b.yaw)[:2, :2].T])
    on_a, on_b = corners_a @ axes.T, corners_b @ axes.T
    separation = np.maximum(on_a.min(0) - on_b.max(0), on_b.min(0) - on_a.max(0)).max()
    if separation <= 0:
        return float(separation)
    # Disjoint convex polygons are nearest at a corner of one of them.
    return min(_nearest(corners_a, b), _nearest(corners_b, a))


def _footprint(box: Box) -> NDArray[np.float64]:
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * box.size[:2]
    return np.asarray(box.centre[:2] + corners @ yaw_matrix(box.yaw)[:2, :2].T)


def _nearest(points: NDArray[np.float64], box: Box) -> float:
    """Smallest distance of `points` (N, 2) to the rectangle of `box`."""
    local = (points - box.centre[:2]) @ yaw_matrix(box.yaw)[:2, :2]
    beyond = np.maximum(np.abs(local) - box.size[:2] / 2, 0)
    return float(np.linalg.norm(beyond, axis=1).min())


def carrier_of(instance: Instance, others: Sequence[Instance]) -> tuple[Instance, bool] | None:
    """What carries `instance`, and whether from below; None for the floor. The nearest contact wins."""
    candidates = [other for other in others if other.number != instance.number]
    if instance.label == "floor":
        return None
    if instance.label in _BUILT_IN:
        return _holder(instance, candidates)
    if instance.label not in SHELL:
        below = [other for other in candidates if any(rests_on(instance.box, p) for p in other.planes)]
        if below:
            return max(below, key=lambda other: other.label != "floor"), True
    wanted = {"wall": ("floor",), "ceiling": ("wall",)}.get(instance.label, ("ceiling", "wall"))
    sides = [other for other in candidates if other.label in wanted]
    side = min(
        sides, key=lambda other: (round(gap_between(instance.box, other.box), 4), other.number), default=None
    )
    return None if side is None else (side, False)


def _holder(instance: Instance, others: Sequence[Instance]) -> tuple[Instance, bool] | None:
    """The counter or cabinet that a built-in thing is let into: the one with the nearest middle around it."""
    hosts = [
        other for other in others if other.label in ("kitchen counter", "bath cabinet", "kitchen cabinet")
    ]
    if instance.label == "oven":
        hosts = [other for other in hosts if other.label == "kitchen cabinet"]
    around = [other for other in hosts if gap_between(instance.box, other.box) < CONTACT_M]
    holder = min(around, key=lambda other: (other.label == "kitchen cabinet", other.number), default=None)
    return None if holder is None else (holder, False)


def _support(
    instances: Sequence[Instance], carriers: dict[int, tuple[Instance, bool] | None]
) -> list[Relation]:
    relations = []
    for instance in instances:
        found = carriers[instance.number]
        if instance.label == "ceiling":
            walls = [other for other in instances if other.label == "wall"]
            relations += [(instance.number, wall.number, "attached to") for wall in walls]
        elif found is not None:
            carrier, from_above = found
            verb = verb_of(instance.label, carrier.label, from_above=from_above)
            relations.append((instance.number, carrier.number, verb))
    return relations


def _neighbours(
    things: Sequence[Instance], carriers: dict[int, tuple[Instance, bool] | None]
) -> list[Relation]:
    relations: list[Relation] = []
    for a, b in combinations(things, 2):
        gap = gap_between(a.box, b.box)
        carrier_a, carrier_b = carriers[a.number], carriers[b.number]
        shared = carrier_a is not None and carrier_b is not None and carrier_a[0] is carrier_b[0]
        if not shared or gap > NEIGHBOUR_M:
            continue
        relations += directions(a, b)
        if gap < CLOSE_M:
            relations += [(a.number, b.number, "close by"), (b.number, a.number, "close by")]
    return relations


def directions(a: Instance, b: Instance) -> list[Relation]:
    """left/right and front/behind of two neighbours, both ways round, from the offset of their middles."""
    dx, dy = (b.box.centre - a.box.centre)[:2]
    relations: list[Relation] = []
    if abs(dx) >= max(OFFSET_M, 0.5 * abs(dy)):
        left, right = (a, b) if dx > 0 else (b, a)
        relations += [(left.number, right.number, "left"), (right.number, left.number, "right")]
    if abs(dy) >= max(OFFSET_M, 0.5 * abs(dx)):
        front, behind = (a, b) if dy > 0 else (b, a)
        relations += [(front.number, behind.number, "front"), (behind.number, front.number, "behind")]
    return relations


def _comparisons(things: Sequence[Instance]) -> list[Relation]:
    relations: list[Relation] = []
    for a, b in permutations(things, 2):
        if a.label != b.label:
            continue
        if is_higher(a.box, b.box):
            relations += [(a.number, b.number, "higher than"), (b.number, a.number, "lower than")]
        if is_bigger(a.box, b.box):
            relations += [(a.number, b.number, "bigger than"), (b.number, a.number, "smaller than")]
        if a.label in _FURNITURE and is_same(a.box, b.box):
            relations.append((a.number, b.number, "same as"))
    return relations


def is_higher(a: Box, b: Box) -> bool:
    """Whether both the top and the bottom of `a` are at least 10 cm above those of `b`."""
    top = (a.centre[2] + a.size[2] / 2) - (b.centre[2] + b.size[2] / 2)
    bottom = (a.centre[2] - a.size[2] / 2) - (b.centre[2] - b.size[2] / 2)
    return bool(min(top, bottom) >= 0.1)


def is_bigger(a: Box, b: Box) -> bool:
    """Whether the box of `a` has at least one and a half times the volume of that of `b`."""
    return bool(np.prod(a.size) >= 1.5 * np.prod(b.size))


def is_same(a: Box, b: Box) -> bool:
    """Whether two boxes have the same sides to the millimetre, either way round."""
    return bool(np.allclose(np.sort(a.size), np.sort(b.size), atol=1e-3))
