"""The lists of words that come with the package: all there, and of the published lengths."""

from __future__ import annotations

from pathlib import Path

import pytest

from open3dsg.datasets import builtin_words as module
from open3dsg.datasets.builtin_words import BUILTIN, builtin_words
from open3dsg.datasets.synth.relations import PREDICATES


def test_every_file_is_a_list_and_every_list_a_file() -> None:
    files = Path(module.__file__).with_name("words").glob("*.txt")
    assert {file.stem for file in files} == set(BUILTIN)


@pytest.mark.parametrize(("name", "words", "wordings"), [
    ("materials", 10, 0), ("colours", 17, 0), ("3dssg-wordings", 40, 13),
])  # fmt: skip
def test_lists_have_the_published_lengths(name: str, words: int, wordings: int) -> None:
    found = builtin_words(name)
    assert (len(found.words), len(found.stands_for)) == (words, wordings)
    assert not found.duplicates


def test_wordings_stand_for_predicates_of_3dssg() -> None:
    found = builtin_words("3dssg-wordings")
    assert list(found.words[:27]) == list(PREDICATES)
    assert set(found.stands_for) == set(found.words[27:])
    assert set(found.stands_for.values()) <= set(PREDICATES)
    assert found.stands_for["to the left of"] == "left"
    assert found.stands_for["placed on top"] == "standing on"
