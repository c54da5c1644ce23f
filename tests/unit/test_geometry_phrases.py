"""Phrases from boxes: made scenes in metres, and what turning, moving and swapping must not change."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open3dsg.encoders.contract import Choices, PairGeometry
from open3dsg.encoders.geometry import CLOSE, Geometry
from open3dsg.encoders.geometry_rules import RELATIONS, Rules
from open3dsg.encoders.registry import load_encoder
from open3dsg.errors import UserError

SAY = Geometry()
SAY_ALL = Geometry(say="all")
FORMS = {(CLOSE, CLOSE), ("", ""), *((relation.phrase, relation.other) for relation in RELATIONS)}

Box = tuple[tuple[float, float, float], tuple[float, float, float]]

FLOOR: Box = ((0, 0, -0.2), (5, 4, 0.2))
WALL: Box = ((0, 3.9, 0), (5, 4, 2.5))
CEILING: Box = ((0, 0, 2.4), (5, 4, 2.6))
TABLE: Box = ((1, 1, 0), (2.2, 1.8, 0.75))
CHAIR: Box = ((1, 0.4, 0), (1.5, 0.9, 0.9))
SOFA: Box = ((2.6, 1, 0), (4.6, 1.9, 0.85))
PILLOW: Box = ((2.8, 1.2, 0.4), (3.3, 1.6, 0.7))  # deep in the box of the sofa, which has a back
CURTAIN: Box = ((1, 3.75, 0.05), (1.6, 3.95, 2.3))
WINDOW: Box = ((1.65, 3.85, 1), (2.9, 3.95, 2.1))


def camera(x: float = 2.0, y: float = -2.0, ahead: tuple[float, float, float] = (0, 1, 0)) -> NDArray[Any]:
    """A camera held sideways: the right of the picture is up."""
    forward = np.array(ahead, float)
    right = np.array([0.0, 0.0, 1.0])
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(forward, right), forward, np.array([x, y, 1.5])], axis=1)
    return matrix


def pairs(
    subject: Box, other: Box, distance_m: float, T_world_camera: NDArray[Any] | None = None
) -> PairGeometry:
    low, high, to_low, to_high = (np.array([corner], float) for corner in (*subject, *other))
    seen = np.full((1, 4, 4), np.nan) if T_world_camera is None else T_world_camera[None]
    return PairGeometry(low, high, to_low, to_high, np.array([distance_m], float), seen)


def turned(told: PairGeometry) -> PairGeometry:
    return PairGeometry(
        told.object_min_m,
        told.object_max_m,
        told.subject_min_m,
        told.subject_max_m,
        told.distance_m,
        told.T_world_camera,
    )


@pytest.mark.parametrize(
    ("subject", "other", "distance_m", "phrase", "back"),
    [
        (CHAIR, FLOOR, 0.02, "standing on", "supporting"),
        (WALL, FLOOR, 0.02, "attached to", "holding"),
        (((1, 3.5, 0), (2.8, 3.9, 2)), FLOOR, 0.02, "standing on", "supporting"),  # a bookshelf
        (((0, 2, 0), (4, 3.3, 2.5)), FLOOR, 0.02, "attached to", "holding"),  # a wall askew
        (CHAIR, ((0, 0, 0), (5, 4, 0)), 0.02, "standing on", "supporting"),
        (((1.2, 1.2, 0.7), (1.5, 1.4, 0.78)), TABLE, 0.01, "lying on", "supporting"),
        (((1.2, 1.2, 0.7), (1.4, 1.4, 1.1)), TABLE, 0.01, "standing on", "supporting"),
        (PILLOW, SOFA, 0.03, "lying on", "supporting"),
        (PILLOW, SOFA, 0.3, CLOSE, CLOSE),
        (((1, 3.85, 1.2), (1.8, 3.92, 1.8)), WALL, 0.05, "attached to", "holding"),
        (((2, 2, 1.9), (2.3, 2.3, 2.45)), CEILING, 0.02, "hanging on", "holding"),
        # Deep in a cupboard that is no taller than a person's hip.
        (((1.2, 1.2, 0.1), (1.5, 1.5, 0.3)), TABLE, 0.05, "inside", "containing"),
        (((1.2, 1.2, 1.6), (1.5, 1.5, 1.9)), TABLE, 0.85, "above", "under"),
        # Narrow, and wide but high: neither lies.
        (((1.2, 1.2, 0.7), (1.3, 1.3, 1.0)), TABLE, 0.01, "standing on", "supporting"),
        (((1.2, 1.1, 0.7), (1.9, 1.7, 1.15)), TABLE, 0.01, "standing on", "supporting"),
        # On a board below the middle, and half out of it.
        (((1.2, 1.2, 0.2), (1.5, 1.5, 0.3)), TABLE, 0.05, "inside", "containing"),
        (((1.2, 1.2, 0.1), (1.5, 2.2, 0.3)), TABLE, 0.05, CLOSE, CLOSE),
        # Beside a cupboard of hip height rather than on it; before the upper edge of a tall one.
        (((1.1, 1.1, 0.3), (1.3, 1.3, 1.35)), ((1, 1, 0), (1.5, 1.5, 1.2)), 0.02, CLOSE, CLOSE),
        (((0.2, 0.1, 1.5), (0.6, 0.5, 2.3)), ((0, 0, 0), (1, 0.6, 2)), 0.02, CLOSE, CLOSE),
        # A post that goes through a board does not stand on it, nor has it the board along it.
        (((1.2, 1.2, 0), (1.3, 1.3, 2)), ((1, 1, 0.35), (2, 2, 0.5)), 0.02, CLOSE, CLOSE),
        # Walls do not hang on the ceiling, which lies on their upper edges.
        (WALL, ((0, 0, 2.4), (5, 4, 2.7)), 0.01, "holding", "attached to"),
        # Curtains hang on walls and from ceilings, near the floor as they may end; shelves are too deep.
        (CURTAIN, WALL, 0.02, "hanging on", "holding"),
        (((1, 2, 0.1), (1.9, 2.2, 2.5)), CEILING, 0.02, "hanging on", "holding"),
        (((1, 3.5, 0), (2, 3.9, 2)), WALL, 0.02, CLOSE, CLOSE),
        # A window is on the wall, and beside the curtain that it touches.
        (WINDOW, WALL, 0.02, "attached to", "holding"),
        (WINDOW, CURTAIN, 0.05, CLOSE, CLOSE),
        # The box of a wall askew holds half the room.
        (((1.2, 1.2, 0.1), (1.5, 1.5, 0.3)), ((0, 0, 0), (5, 4, 2.5)), 0.05, CLOSE, CLOSE),
        # No points were scanned of the table under the vase.
        (((1.4, 1.2, 0.7), (1.6, 1.4, 1.1)), TABLE, 0.3, "standing on", "supporting"),
        (CHAIR, TABLE, 0.15, CLOSE, CLOSE),
        (CHAIR, TABLE, 0.6, "", ""),
        # The foot of a chair stands against a wall, which is no support of it.
        (((1, 3.4, 0), (1.5, 3.88, 0.9)), WALL, 0.02, CLOSE, CLOSE),
    ],
)
def test_made_scenes(subject: Box, other: Box, distance_m: float, phrase: str, back: str) -> None:
    told = pairs(subject, other, distance_m)
    assert (SAY.relate(told), SAY.relate(turned(told))) == ([phrase], [back])


@pytest.mark.parametrize(
    ("T_world_camera", "phrase"),
    [
        (camera(), "to the left of"),
        (camera(y=9, ahead=(0, -1, 0)), "to the right of"),
        (camera(x=-3, ahead=(1, 0, 0)), "in front of"),
        (camera(x=9, ahead=(-1, 0, 0)), "behind"),
        (camera(ahead=(0.0, 0.05, -0.99875)), CLOSE),  # it looks at the floor
        (None, CLOSE),
    ],
)
def test_sides_are_those_of_the_viewer(T_world_camera: NDArray[Any] | None, phrase: str) -> None:
    near = pairs(TABLE, SOFA, 0.4, T_world_camera)
    assert SAY.relate(near) == [phrase]
    far = replace(near, distance_m=np.array([1.2]))
    assert SAY.relate(far) == [""]


def test_the_view_of_the_scan_is_along_y_whatever_frames_show() -> None:
    scan = Geometry(view="scan")
    there = ((1, 0.4, 0), (1.5, 0.9, 0.9))
    for seen in (None, camera(), camera(ahead=(0, -1, 0)), camera(ahead=(1, 0, 0))):
        right_of = pairs(there, ((2, 0.4, 0), (2.4, 0.9, 0.9)), 0.5, seen)
        assert scan.relate(right_of) == ["to the left of"]
        further = pairs(there, ((1, 1.5, 0), (1.5, 2, 0.9)), 0.6, seen)
        assert scan.relate(further) == ["in front of"]
        assert scan.relate(turned(further)) == ["behind"]


ASIDE: Box = ((1.8, 0.4, 0), (2.2, 0.9, 0.9))
ACROSS: Box = ((1.8, 0.9, 0), (2.2, 1.4, 0.9))  # 0.75 m aside of the chair, and 0.5 m behind it


@pytest.mark.parametrize(
    ("subject", "other", "distance_m", "phrase", "back"),
    [
        (CHAIR, ASIDE, 0.3, "close by and left of", "close by and right of"),
        (CHAIR, ASIDE, 0.7, "to the left of", "to the right of"),
        (CHAIR, ACROSS, 0.3, "close by, left of and in front of", "close by, right of and behind"),
        (CHAIR, ACROSS, 0.7, "left of and in front of", "right of and behind"),
        (CHAIR, ((1.8, 0.7, 0), (2.2, 1.2, 0.9)), 0.7, "to the left of", "to the right of"),
        (CHAIR, ACROSS, 1.2, "", ""),
        (((1.2, 1.2, 1.6), (1.5, 1.5, 1.9)), TABLE, 0.85, "above", "under"),
        (((1.2, 1.2, 1.1), (1.5, 1.5, 1.4)), TABLE, 0.35, "close by and above", "close by and under"),
        (CHAIR, FLOOR, 0.0, "standing on", "supporting"),
        (PILLOW, SOFA, 0.03, "standing or lying on", "supporting"),
        (((1.2, 1.2, 0.7), (1.5, 1.4, 0.78)), TABLE, 0.01, "lying on", "supporting"),
        (CURTAIN, WALL, 0.02, "hanging on", "holding"),
        (CHAIR, ((0.9, 0.3, 0), (1.6, 1.0, 0.95)), 0.2, CLOSE, CLOSE),
    ],
)
def test_all_that_holds_is_said(subject: Box, other: Box, distance_m: float, phrase: str, back: str) -> None:
    both = Geometry(view="scan", say="all")
    told = pairs(subject, other, distance_m)
    assert (both.relate(told), both.relate(turned(told))) == ([phrase], [back])


def test_the_longer_way_decides_between_side_and_depth() -> None:
    box: Box = ((1.7, 2.0, 0), (2.1, 2.6, 0.5))
    assert SAY.relate(pairs(TABLE, box, 0.25, camera())) == ["in front of"]
    assert SAY.relate(pairs(box, TABLE, 0.25, camera(x=-3, ahead=(1, 0, 0)))) == ["to the left of"]


def test_what_is_pushed_under_a_table_has_no_side() -> None:
    chair: Box = ((1.2, 0.8, 0), (1.6, 1.5, 0.9))
    assert SAY.relate(pairs(chair, TABLE, 0.15, camera())) == [CLOSE]


def test_no_pair_is_no_phrase() -> None:
    none = np.empty((0, 3))
    assert SAY.relate(PairGeometry(none, none, none, none, np.empty(0), np.empty((0, 4, 4)))) == []


# Sixty-fourths of a metre: sums and quarter turns of these are exact, so that no rounding moves a threshold.
GRID = st.integers(-128, 128).map(lambda n: n / 64)
SIZE = st.integers(0, 160).map(lambda n: n / 64)
POINT = st.tuples(GRID, GRID, GRID)


@st.composite
def made_pairs(draw: st.DrawFn) -> PairGeometry:
    count = draw(st.integers(1, 4))
    low, size, to_low, to_size = (
        np.array(draw(st.lists(st.tuples(kind, kind, kind), min_size=count, max_size=count)))
        for kind in (GRID, SIZE, GRID, SIZE)
    )
    near = st.sampled_from([0.0, 1 / 64, 0.25, 0.75, 1.5])
    distance_m = np.array(draw(st.lists(near, min_size=count, max_size=count)))
    ahead = st.sampled_from([(0, 1, 0), (1, 0, 0), (0.6, -0.8, 0), (0.6, 0, -0.8), (0, 0, -1), None])
    cameras = [
        np.full((4, 4), np.nan) if way is None else camera(ahead=way)
        for way in draw(st.lists(ahead, min_size=count, max_size=count))
    ]
    return PairGeometry(low, low + size, to_low, to_low + to_size, distance_m, np.array(cameras))


@settings(max_examples=40, deadline=None)
@given(made_pairs())
def test_the_other_direction_says_the_other_form(told: PairGeometry) -> None:
    for there, back in zip(SAY.relate(told), SAY.relate(turned(told)), strict=True):
        assert (there, back) in FORMS or (back, there) in FORMS


OTHER_SIDES = [("left of", "right of"), ("in front of", "behind"), ("above", "under")]


@settings(max_examples=40, deadline=None)
@given(made_pairs())
def test_all_that_is_said_of_sides_is_turned_word_by_word(told: PairGeometry) -> None:
    first, carried = SAY.relate(told), {relation.phrase for relation in RELATIONS[:-3]}
    carried |= {relation.other for relation in RELATIONS[:-3]}
    for at, (there, back) in enumerate(zip(SAY_ALL.relate(told), SAY_ALL.relate(turned(told)), strict=True)):
        if first[at] in carried:
            assert there.replace("standing or ", "") == first[at]
            continue
        for one, other in OTHER_SIDES:
            assert (one in there, other in there) == (other in back, one in back)
        assert (CLOSE in there) == (CLOSE in back) == (told.distance_m[at] <= Rules().close_m)
        assert all(word in there for word in first[at].removeprefix("to the ").split()), "nothing is lost"


@settings(max_examples=40, deadline=None)
@given(told=made_pairs(), offset=POINT)
def test_moving_changes_nothing(told: PairGeometry, offset: tuple[float, float, float]) -> None:
    moved = np.array(offset)
    cameras = told.T_world_camera.copy()
    cameras[:, :3, 3] += moved
    corners = {name: getattr(told, name) + moved for name in _CORNERS}
    assert SAY_ALL.relate(replace(told, **corners, T_world_camera=cameras)) == SAY_ALL.relate(told)


@settings(max_examples=40, deadline=None)
@given(told=made_pairs(), turns=st.integers(1, 3))
def test_a_quarter_turn_of_the_room_changes_nothing(told: PairGeometry, turns: int) -> None:
    turn = np.rint(np.linalg.matrix_power(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), turns))
    corners: dict[str, NDArray[Any]] = {}
    for low, high in (_CORNERS[:2], _CORNERS[2:]):
        ends = np.stack([getattr(told, low) @ turn.T, getattr(told, high) @ turn.T])
        corners |= {low: ends.min(axis=0), high: ends.max(axis=0)}
    cameras = told.T_world_camera.copy()
    cameras[:, :3] = turn @ cameras[:, :3]
    assert SAY_ALL.relate(replace(told, **corners, T_world_camera=cameras)) == SAY_ALL.relate(told)


@settings(max_examples=40, deadline=None)
@given(told=made_pairs())
def test_a_pair_is_told_for_itself(told: PairGeometry) -> None:
    alone = [
        SAY_ALL.relate(PairGeometry(*(getattr(told, entry.name)[at : at + 1] for entry in fields(told))))[0]
        for at in range(len(told.distance_m))
    ]
    assert SAY_ALL.relate(told) == alone


_CORNERS = ("subject_min_m", "subject_max_m", "object_min_m", "object_max_m")


def test_the_revision_is_that_of_view_and_say_too() -> None:
    assert Geometry(view="frame", say="first").revision == Geometry().revision
    made = [Geometry(), Geometry(view="scan"), Geometry(say="all"), Geometry(view="scan", say="all")]
    assert len({one.revision for one in made}) == 4


def test_another_view_or_say_is_refused() -> None:
    for option, value in (("view", "up"), ("say", "most")):
        choices = Choices("geometry", Path("none"), options={option: value})
        with pytest.raises(UserError, match=f"encoders.geometry. in the settings: {option} is '{value}': "):
            Geometry.from_choices(choices)


def test_the_revision_is_that_of_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN3DSG_ENCODERS", "[geometry]\nclose_m = 0.7\n[strict]\nencoder = 'geometry'")
    changed, named = load_encoder("geometry"), load_encoder("strict")
    assert (changed.name, named.name) == ("geometry", "strict")
    assert changed.revision == Geometry(rules=Rules(close_m=0.7)).revision != SAY.revision
    assert named.revision == SAY.revision
    whole = Geometry.from_choices(Choices("geometry", Path(), options={"near_m": 1}))
    assert whole.revision == SAY.revision, "1 is 1.0"
    near = pairs(CHAIR, TABLE, 0.6)
    assert changed.views == "boxes"
    assert (changed.relate(near), SAY.relate(near)) == ([CLOSE], [""])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"near": 1.0}, "unknown key 'near'"),
        ({"near_m": -1.0}, "near_m is -1: give metres, 0 or more"),
        ({"near_m": float("nan")}, "near_m is nan: give metres"),
        ({"near_m": 10**400}, "int too large"),
        ({"over_share": 1.5}, "over_share is 1.5: give a share of 0 to 1"),
        ({"near_m": "far"}, "near_m"),
    ],
)
def test_other_numbers_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=rf"\[encoders.geometry\] in the settings: {told}"):
        Geometry.from_choices(Choices("geometry", Path(), options=options))
