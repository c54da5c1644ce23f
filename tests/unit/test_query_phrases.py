"""Phrases as they are read: which things, which relations, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.errors import UserError
from open3dsg.query.phrases import read_phrase

READINGS = [
    ("the mug on the desk near the window", "mug -on-> desk; desk -near-> window"),
    ("The mug on the desk, near the window.", "mug -on-> desk; mug -near-> window"),
    ("books lying on the shelf and next to a lamp", "books -lying on-> shelf; books -next to-> lamp"),
    (
        "a cup standing on a table that is next to a window",
        "cup -standing on-> table; table -next to-> window",
    ),
    ("where is the chair to the left of the desk?", "chair -to the left of-> desk"),
    ("show me something bigger than the sofa", "* -bigger than-> sofa"),
    ("What's on the table?", "* -on-> table"),
    ("what is the red thing in the box", "red thing -in-> box"),
    ("something to sit on", "something to sit on"),
    ("a place to sit on near the window", "place to sit on -near-> window"),
    ("a mug that\u2019s standing right next to the KETTLE", "mug -standing next to-> KETTLE"),
    ("the night stands near the bed which stands on a rug", "night stands -near-> bed; bed -stands on-> rug"),
    ("chairs with wheels directly behind the desks", "chairs with wheels -behind-> desks"),
    (
        "mug on the desk (near the window); under a lamp",
        "mug -on-> desk; mug -near-> window; mug -under-> lamp",
    ),
    (
        "the chair to the right of the desk, and it is on the rug",
        "chair -to the right of-> desk; chair -on-> rug",
    ),
    ("a 'hot' mug \u2013 on all of the desks", "'hot' mug -on-> desks"),
    ("any of the chairs facing away from the door", "chairs -facing away from-> door"),
    ("I'm looking for my 1,5 l bottle in\xa0the bag", "1,5 l bottle -in-> bag"),
    ("das Sofa", "das Sofa"),
    ("salt and pepper shaker in the kitchen cabinet", "salt and pepper shaker -in-> kitchen cabinet"),
    ("bottle of water placed on the stand-by table", "bottle of water -on-> stand-by table"),
    ("monitor on top of my desk", "monitor -on top of-> desk"),
    ("left shoe under the bed", "left shoe -under-> bed"),
    ("an   office chair", "office chair"),
]


@pytest.mark.parametrize(("phrase", "told"), READINGS)
def test_readings(phrase: str, told: str) -> None:
    assert read_phrase(phrase).told() == told


def test_what_could_be_read_otherwise_is_told() -> None:
    reading = read_phrase("find the mug on the desk near the window")
    assert reading.remarks == (
        "'find' is left out",
        "'near window' is read as of 'desk': put a comma before it if it is of 'mug'",
    )
    assert read_phrase("the mug on the desk, near the window").remarks == ()
    assert read_phrase("a mug on the desk and the lamp").remarks == (
        "'desk and the lamp' is read as one thing",
    )


REFUSED = [
    ("", "the phrase is empty"),
    ("  ?", "the phrase is empty"),
    ("on the desk", "there is no thing before 'on'"),
    ("the mug on", "there is no thing behind 'on'"),
    ("the mug on the", "there is no thing behind 'on'"),
    ("the mug on under the desk", "there is no thing behind 'on'"),
    ("the", "names no thing"),
    ("and on the desk", "there is no thing before 'on'"),
    ("a lamp not on the desk", "'not' says what is not so"),
    ("a lamp that isn't on the desk", '"isn\'t" says what is not so'),
    ("on " * 200, "the phrase has 600 characters"),
    ("a\0b", "NUL"),
    ("the chair between bed and desk", "'between' says what is between two things"),
    ("a cup or a mug on the desk", "'or' says one of several"),
    ("a on b on c on d on e on f", "has 5 relations; at most 4"),
]


@pytest.mark.parametrize(("phrase", "told"), REFUSED)
def test_what_cannot_be_read_is_refused(phrase: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        read_phrase(phrase)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.lists(st.sampled_from(["red mug", "desk", "oak shelf", "lamp"]), min_size=2, max_size=5),
    st.data(),
)
def test_what_was_put_together_is_taken_apart(things: list[str], data: st.DataObject) -> None:
    """Each relation is found with its own joint: of the thing before, or behind a comma of the first."""
    phrase, expected = f"the {things[0]}", []
    for place, thing in enumerate(things[1:]):
        words = data.draw(st.sampled_from(["on", "next to", "standing on", "in front of", "bigger than"]))
        joint = data.draw(st.sampled_from([" ", ", ", " and ", ", and "]))
        phrase += f"{joint}{words} a {thing}"
        expected.append((place if joint == " " else 0, words, place + 1))
    reading = read_phrase(phrase)
    assert (reading.things, list(reading.triplets)) == (tuple(things), expected)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(phrase: str) -> None:
    try:
        reading = read_phrase(phrase)
    except UserError:
        return
    assert all(reading.things)
    assert len(reading.triplets) == len(reading.things) - 1
