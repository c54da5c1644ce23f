"""The prompt of a caption model, and the phrase between the two names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.encoders.phrases import full_caption, phrase_between, relation_prompt


def published(caption: str, subject_label: str, object_label: str) -> str:
    """How Open3DSG reads a caption (sgpn.py), in our words; its 'none' is a word."""
    found = re.search(subject_label + "(.*)" + object_label, caption)
    return "none" if found is None else found.group(1).replace("the ", "").strip()


def test_the_prompt_is_the_published_one() -> None:
    assert relation_prompt("chair", "table") == (
        "Describe the relationship between the chair and the table. Start the response with: the chair"
    )
    assert relation_prompt("chair", "chair") == (
        "Describe the relationship between the chair and the other chair. Start the response with: the chair"
    )


@pytest.mark.parametrize(
    ("generated", "caption"),
    [
        ("is next to the table. It is red.", "the chair is next to the table"),
        (" is next to the table\nand so on", "the chair is next to the table"),
        ("\n\nis next to the table\n", "the chair is next to the table"),
        ("is\t next \x00to the table\x1b", "the chair is next to the table"),
        ("", "the chair"),
        (". Nothing", "the chair"),
    ],
)
def test_a_caption_ends_with_the_first_sentence(generated: str, caption: str) -> None:
    assert full_caption("chair", generated) == caption


WORDS = st.sampled_from(["is", "on", "top", "of", "next", "to", "side", "hanging", "left", "under"])
NAMES = st.sampled_from(["chair", "coffee table", "tv stand", "tv", "arm-chair", "lamp", "box"])


@given(NAMES, NAMES, st.lists(WORDS, min_size=1, max_size=6))
def test_equals_the_published_where_each_name_is_said_once(first: str, second: str, words: list[str]) -> None:
    caption = f"the {first} {' '.join(words)} the {second}"
    if caption.count(first) == 1 == caption.count(second):
        assert phrase_between(caption, first, second) == published(caption, first, second) == " ".join(words)


@pytest.mark.parametrize(
    ("caption", "first", "second", "phrase"),
    [
        ("the lamp is on the side of the bed", "lamp", "bed", "is on side of"),
        ("the tv is on the tv stand", "tv", "tv stand", "is on"),
        ("the tv stand is under the tv", "tv stand", "tv", "is under"),
        ("the chairs are next to the tables", "chair", "table", "are next to"),
        ("the boxes are on the shelf", "box", "shelf", "are on"),
    ],
)
def test_as_published(caption: str, first: str, second: str, phrase: str) -> None:
    assert phrase_between(caption, first, second) == phrase


@pytest.mark.parametrize(
    ("caption", "first", "second", "phrase"),
    [
        ("the chair is next to the table and the lamp is on the table", "chair", "table", "is next to"),
        ("the chair the chair is next to the table", "chair", "table", "is next to"),
        ("the chair is next to the other chair", "chair", "chair", "is next to"),
        ("the chair the chair is next to another chair", "chair", "chair", "is next to"),
        ("the chair is next to a table", "chair", "table", "is next to"),
        ("the chair is next to the TV", "chair", "tv", "is next to"),
        ("The TV hangs over the chair", "tv", "chair", "hangs over"),
        ("the table lamp is on the lamp", "table", "lamp", "lamp is on"),
        ("the boy can bathe in the tub", "boy", "tub", "can bathe in"),
        ("the shelf (low) is by the c++ book", "shelf (low)", "c++ book", "is by"),
        ("the a.b is on the d", "a.b", "d", "is on"),
        ("the lamp is on a stable table", "lamp", "table", "is on a stable"),
    ],
)
def test_better_than_published(caption: str, first: str, second: str, phrase: str) -> None:
    assert phrase_between(caption, first, second) == phrase


@pytest.mark.parametrize(
    ("caption", "first", "second"),
    [
        ("the chair is alone", "chair", "table"),
        ("it is on the table", "chair", "table"),
        ("the table is under the chair", "chair", "table"),  # the wrong way round
        ("the chair is red", "chair", "chair"),
        ("the chair the other chair", "chair", "chair"),
        ("the chair, the table", "chair", "table"),
        ("the chair the chair the table", "chair", "table"),
        ("the chair " * 2000, "chair", "table"),  # and in no time
        ("the armchair is in the other armchair", "armchair", "chair"),
        ("the axb is on the d", "a.b", "d"),
        ("", "chair", "table"),
    ],
)
def test_nothing_between(caption: str, first: str, second: str) -> None:
    assert phrase_between(caption, first, second) is None
