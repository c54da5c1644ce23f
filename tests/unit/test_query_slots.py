"""What may stand at a place of a triplet, and chains of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.errors import UserError
from open3dsg.query.paths import Chain, path
from open3dsg.query.slots import ANY, Place, Slot, SlotKind, parse_slot

READ = [
    ("*", ANY),
    (" a red chair ", Slot("text", "a red chair")),
    ("label:chair", Slot("label", "chair")),
    ("text:label:chair", Slot("text", "label:chair")),
    ("instance:3rscan/abc/12", Slot("instance", "3rscan/abc/12")),
    ("like: scene0000_00/3", Slot("like", "scene0000_00/3")),
    ("image:crops/a b.jpg", Slot("image", "crops/a b.jpg")),
    ("ratio 4:3", Slot("text", "ratio 4:3")),
]


@pytest.mark.parametrize(("text", "slot"), READ)
def test_slots(text: str, slot: Slot) -> None:
    assert parse_slot(text, "subject") == slot


@given(
    st.sampled_from(["text", "label", "image"]),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).filter(str.strip),
)
def test_a_slot_is_read_as_it_is_written(kind: SlotKind, value: str) -> None:
    slot = Slot(kind, value.strip())
    assert parse_slot(str(slot), "object") == slot


REFUSED: list[tuple[str, Place, str]] = [
    ("", "subject", "the subject is empty"),
    ("label: ", "object", "the object label: is empty"),
    ("instance:12", "subject", "'12' names no instance: give SCAN/NUMBER"),
    ("like:scan/x", "object", "'scan/x' names no instance"),
    ("image:a.jpg", "predicate", "the predicate is 'image:a.jpg': give words"),
    ("x" * 501, "predicate", "the predicate has 501 characters"),
]


@pytest.mark.parametrize(("text", "place", "told"), REFUSED)
def test_slots_that_are_refused(text: str, place: Place, told: str) -> None:
    with pytest.raises(UserError) as error:
        parse_slot(text, place)
    assert told in str(error.value)


def test_a_path_is_a_chain() -> None:
    cup, on, table, by, window = (Slot("text", word) for word in ("cup", "on", "table", "by", "window"))
    assert path([cup, on, table, by, window]) == Chain((cup, table, window), ((0, on, 1), (1, by, 2)))
    for slots in ([cup], [cup, on], [cup, on, table, by], []):
        with pytest.raises(UserError, match="slots are no path"):
            path(slots)


@pytest.mark.parametrize(
    "triplets", [((0, ANY, 0),), ((0, ANY, 1), (0, ANY, 1)), ((0, ANY, 1), (2, ANY, 3)), ((0, ANY, 2),)]
)
def test_chains_that_do_not_hang_together(triplets: tuple[tuple[int, Slot, int], ...]) -> None:
    with pytest.raises(UserError, match="must"):
        Chain((ANY, ANY, ANY), triplets)
