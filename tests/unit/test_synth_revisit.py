"""A later visit to a synthetic room: what is said of it is true of its meshes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from open3dsg.datasets.synth.relations import relations_of
from open3dsg.datasets.synth.revisit import Revisit, revisit
from open3dsg.datasets.synth.room import Instance, Room, build_room


@pytest.fixture(scope="module", params=[1, 3])
def visited(request: pytest.FixtureRequest) -> tuple[Room, Revisit]:
    """A bedroom and a kitchen, and the first later visit to it."""
    room = build_room(request.param)
    return room, revisit(room, 1)


def things(room: Room) -> dict[int, Instance]:
    return {each.number: each for each in room.instances}


def mapped(transform: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((np.c_[points, np.ones(len(points))] @ transform.T)[:, :3])


def test_each_thing_is_where_its_transform_says(visited: tuple[Room, Revisit]) -> None:
    room, seen = visited
    before, after = things(room), things(seen.room)
    assert seen.moved
    for number in before.keys() & after.keys():
        T_later_room = seen.moved.get(number, np.asarray(np.linalg.inv(seen.T_reference_scan)))
        was, now = before[number], after[number]
        np.testing.assert_allclose(now.mesh.vertices, mapped(T_later_room, was.mesh.vertices), atol=1e-9)
        np.testing.assert_allclose(
            now.box.centre[None], mapped(T_later_room, was.box.centre[None]), atol=1e-9
        )
    for number, T_later_room in seen.moved.items():
        centre = before[number].box.centre[None]
        shift = mapped(seen.T_reference_scan @ T_later_room, centre) - centre
        assert np.linalg.norm(shift) >= 0.25
        assert shift[0, 2] == pytest.approx(0, abs=1e-9)


def test_things_go_and_one_comes(visited: tuple[Room, Revisit]) -> None:
    room, seen = visited
    before, after = things(room), things(seen.room)
    assert before.keys() - after.keys() == set(seen.removed)
    assert len(seen.removed) == 2
    assert after.keys() - before.keys() <= {max(before) + 1}
    assert all(each.support is None or each.support in after for each in after.values())


def test_nothing_overlaps_that_did_not_before(visited: tuple[Room, Revisit]) -> None:
    room, seen = visited
    after = things(seen.aligned)
    for number in {*seen.moved, *(after.keys() - things(room).keys())}:
        for other in after.keys() - {number}:
            for low, high in after[number].mesh.part_boxes():
                for low_there, high_there in after[other].mesh.part_boxes():
                    depth = np.minimum(high, high_there) - np.maximum(low, low_there)
                    assert depth.min() <= 0.005, (number, other)


def test_relations_of_what_was_not_touched_stay(visited: tuple[Room, Revisit]) -> None:
    room, seen = visited
    kept = things(room).keys() & things(seen.aligned).keys() - seen.moved.keys()

    def between(of: Room) -> set[tuple[int, int, str]]:
        return {each for each in relations_of(of) if each[0] in kept and each[1] in kept}

    assert between(room) == between(seen.aligned)


def test_a_visit_is_decided_by_room_and_number() -> None:
    room = build_room(3)
    first, again, second = revisit(room, 1), revisit(room, 1), revisit(room, 2)
    np.testing.assert_array_equal(first.T_reference_scan, again.T_reference_scan)
    assert first.removed == again.removed
    assert first.moved.keys() == again.moved.keys()
    assert not np.allclose(first.T_reference_scan, second.T_reference_scan)
    assert len({room.seed, first.room.seed, second.room.seed}) == 3
