"""3DSSG's training units: a room's things in groups of at most nine, each with what carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from open3dsg.datasets.synth.relations import PREDICATES, SHELL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open3dsg.datasets.synth.relations import Relation
    from open3dsg.datasets.synth.room import Instance, Room

MEMBERS = 9


def subgraphs_of(room: Room, relations: Sequence[Relation]) -> list[dict[str, Any]]:
    """Cut the scene graph of `room` into subgraphs in the form of relationships_*.json, less the scan's name.

    Every instance is in at least one; a thing comes with the chain of what carries it down to the floor, as
    far as nine members allow; every relation between two members is given, with its number and name.
    """
    by_number = {instance.number: instance for instance in room.instances}
    groups: list[list[int]] = [[]]
    for instance in _round_the_room(room):
        chain = _chain(instance, by_number)
        fresh = [number for number in chain if number not in groups[-1]]
        if len(groups[-1]) + len(fresh) > MEMBERS:
            groups.append([])
            fresh = chain
        groups[-1] += fresh
    return [_subgraph(split, members, room, relations) for split, members in enumerate(groups, start=1)]


def _round_the_room(room: Room) -> list[Instance]:
    """Instances in the order in which one meets them turning round in the middle; the shell goes along."""

    def bearing(instance: Instance) -> tuple[float, int]:
        x, y = instance.box.centre[:2].tolist()
        return float(np.arctan2(y, x)), instance.number

    things = [instance for instance in room.instances if instance.label not in SHELL]
    shell = [instance for instance in room.instances if instance.label in SHELL]
    return [*sorted(things, key=bearing), *shell]


def _chain(instance: Instance, by_number: dict[int, Instance]) -> list[int]:
    chain = [instance.number]
    while (support := by_number[chain[-1]].support) is not None:
        chain.append(support)
    return chain[::-1]


def _subgraph(split: int, members: list[int], room: Room, relations: Sequence[Relation]) -> dict[str, Any]:
    inside = set(members)
    return {
        "objects": {str(number): room.labels[number] for number in members},
        "relationships": [
            [subject, other, PREDICATES.index(predicate), predicate]
            for subject, other, predicate in relations
            if subject in inside and other in inside
        ],
        "split": split,
    }
